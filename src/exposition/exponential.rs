//! Exponential histograms in the two forms that Prometheus reads: native buckets, and bounds with cumulative counts.
//!
//! Both forms keep their buffers, so that converting one sample after the other allocates nothing.
//!
//! Specification: "Exponential Histograms" in the OpenTelemetry compatibility document.

use super::{ExponentialBuckets, ExponentialSample, HistogramSample};

/// The coarsest scale that native histograms have. A sample that is coarser cannot be shown in a format that has them.
pub(crate) const MIN_SCHEMA: i8 = -4;

/// The finest scale that native histograms have; a sample that is finer is made coarser.
const MAX_SCHEMA: i8 = 8;

/// The finest scale that is written as text: four buckets an octave. One more would double the lines, and 1 ms to 10 s
/// are 53 of them already; the middle of such a bucket is at most 9.5 % away from any value in it.
pub(crate) const MAX_TEXT_SCALE: i8 = 2;

/// The zero threshold of the specification where the sample has none. It also tells an empty native histogram from a
/// classic one without buckets.
const ZERO_THRESHOLD: f64 = 1e-128;

/// So many empty buckets in a row are written as such: another span would take more bytes.
const LONGEST_BRIDGE: i64 = 2;

/// A native histogram: what Prometheus' protobuf format has besides count and sum.
#[derive(Debug, Default)]
pub(crate) struct Native {
    pub(crate) schema: i8,
    pub(crate) zero_threshold: f64,
    pub(crate) positive: NativeBuckets,
    pub(crate) negative: NativeBuckets,
    merged: Vec<u64>,
}

/// Spans of buckets, and for each of their buckets by how much its count differs from that of the one before.
#[derive(Debug, Default)]
pub(crate) struct NativeBuckets {
    pub(crate) spans: Vec<Span>,
    pub(crate) deltas: Vec<i64>,
}

/// Neighbouring buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// The index of the first bucket in the first span, and how many buckets are left out before each other span.
    pub(crate) offset: i32,
    pub(crate) length: u32,
}

impl Native {
    /// Converts a sample, or says that it is too coarse, which leaves nothing of use here.
    #[must_use]
    pub(crate) fn convert(&mut self, sample: &ExponentialSample<'_>) -> bool {
        if sample.scale < MIN_SCHEMA {
            return false;
        }
        self.schema = sample.scale.min(MAX_SCHEMA);
        self.zero_threshold = if sample.zero_threshold > 0.0 { sample.zero_threshold } else { ZERO_THRESHOLD };
        let delta = scale_delta(sample.scale, MAX_SCHEMA);
        for (buckets, native) in [(sample.positive, &mut self.positive), (sample.negative, &mut self.negative)] {
            let first = downscale(buckets, delta, &mut self.merged);
            native.convert(first, &self.merged);
        }
        true
    }
}

impl NativeBuckets {
    fn convert(&mut self, first: i32, counts: &[u64]) {
        self.spans.clear();
        self.deltas.clear();
        // Native buckets are counted by their upper bounds, so their indexes are one higher.
        let mut next = 0;
        let mut previous = 0;
        for (index, &count) in (i64::from(first) + 1..).zip(counts) {
            if count > 0 {
                let gap = index - next;
                match self.spans.last_mut() {
                    Some(span) if gap <= LONGEST_BRIDGE => {
                        for _ in 0..gap {
                            span.length += 1;
                            self.deltas.push(-previous);
                            previous = 0;
                        }
                        span.length += 1;
                    }
                    // Fits: an index does, and a gap is shorter than the counts.
                    _ => self.spans.push(Span { offset: i32::try_from(gap).unwrap_or(i32::MAX), length: 1 }),
                }
                let count = i64::try_from(count).unwrap_or(i64::MAX);
                self.deltas.push(count - previous);
                previous = count;
                next = index + 1;
            }
        }
    }
}

/// A histogram with explicit bounds, made of an exponential one for formats that know no other.
#[derive(Debug, Default)]
pub(crate) struct Classic {
    bounds: Vec<f64>,
    cumulative: Vec<u64>,
    merged: Vec<u64>,
}

impl Classic {
    /// Converts a sample.
    ///
    /// There is a bound for each bucket from the first to the last that is not empty. A sample only ever becomes
    /// coarser, and the bounds of a coarser scale are bounds of every finer one too: from scrape to scrape a bucket is
    /// never cut in two.
    pub(crate) fn convert(&mut self, sample: &ExponentialSample<'_>) -> HistogramSample<'_> {
        self.bounds.clear();
        self.cumulative.clear();
        let scale = sample.scale.min(MAX_TEXT_SCALE);
        let delta = scale_delta(sample.scale, MAX_TEXT_SCALE);
        let mut cumulative: u64 = 0;

        // What is furthest below 0 comes first, so these buckets go backwards, and end where their values come nearest
        // to 0.
        let first = downscale(sample.negative, delta, &mut self.merged);
        for position in (0..self.merged.len()).rev() {
            cumulative = cumulative.saturating_add(self.merged[position]);
            self.push(-bound(first, position, scale), cumulative);
        }
        let has_negative = !self.merged.is_empty();

        let first = downscale(sample.positive, delta, &mut self.merged);
        let has_positive = !self.merged.is_empty();
        if sample.zero_count > 0 || (has_negative && has_positive) {
            cumulative = cumulative.saturating_add(sample.zero_count);
            // Neither a negative threshold nor one that is no number means anything.
            self.push(sample.zero_threshold.max(0.0), cumulative);
        }
        if has_positive {
            // Where the values begin. Without it a quantile in the first bucket would be looked for from 0 on.
            self.push(bound(first, 0, scale), cumulative);
        }
        for position in 0..self.merged.len() {
            cumulative = cumulative.saturating_add(self.merged[position]);
            self.push(bound(first, position + 1, scale), cumulative);
        }
        HistogramSample { bounds: &self.bounds, cumulative: &self.cumulative, count: sample.count, sum: sample.sum }
    }

    /// Says how many values are at or below `bound`, unless that is the infinite bucket.
    fn push(&mut self, bound: f64, cumulative: u64) {
        match (self.bounds.last(), self.cumulative.last_mut()) {
            // A zero threshold can lie above positive buckets, and bounds next to 0 can round to the same number. What
            // is at or below a lower bound is at or below the last one, too.
            (Some(&last), Some(counted)) if bound <= last => *counted = cumulative,
            _ if bound.is_finite() => {
                // Adding 0 makes a negative zero a plain one, which is written without a sign.
                self.bounds.push(bound + 0.0);
                self.cumulative.push(cumulative);
            }
            _ => {}
        }
    }
}

/// Merges buckets to a scale that is `delta` coarser, from the first to the last that is not empty, and says which index
/// the first has.
fn downscale(buckets: ExponentialBuckets<'_>, delta: i8, merged: &mut Vec<u64>) -> i32 {
    merged.clear();
    let mut first = 0;
    for (index, &count) in (i64::from(buckets.offset)..).zip(buckets.counts) {
        if count == 0 {
            continue;
        }
        // Shifting by 63 already leaves nothing but the sign. The limit leaves room for the index after it: no float is
        // large enough for such a bucket.
        let index = i32::try_from(index >> delta.min(63)).unwrap_or(i32::MAX).min(i32::MAX - 1);
        if merged.is_empty() {
            first = index;
        }
        let position = first.abs_diff(index) as usize;
        if position >= merged.len() {
            merged.resize(position + 1, 0);
        }
        merged[position] = merged[position].saturating_add(count);
    }
    first
}

/// The lower bound of the bucket that comes `position` after the one with the index `first`.
fn bound(first: i32, position: usize, scale: i8) -> f64 {
    // The product is exact, so a bound comes out the same to the last bit at every scale that has it. As for the power
    // itself, a whole one is exact, too.
    let index = f64::from(first) + position as f64;
    (index * (-f64::from(scale)).exp2()).exp2()
}

/// By how many scales a sample is too fine.
fn scale_delta(scale: i8, finest: i8) -> i8 {
    scale.saturating_sub(finest).max(0)
}
