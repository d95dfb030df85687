//! Exponential histograms in the two forms that Prometheus reads: native buckets, and bounds with cumulative counts.
//!
//! Both forms keep their buffers, so that converting one sample after the other allocates nothing.
//!
//! Specification: "Exponential Histograms" in the OpenTelemetry compatibility document.

use super::{ExponentialBuckets, ExponentialSample, HistogramSample};

/// The coarsest scale that native histograms have. A sample that is coarser cannot be shown in a format that has them.
const MIN_SCHEMA: i8 = -4;

/// The finest scale that native histograms have; a sample that is finer is made coarser.
const MAX_SCHEMA: i8 = 8;

/// The finest scale that is written as text: four buckets an octave. 1 ms to 10 s are 55 lines then, where the scales
/// that SDKs record with make hundreds; the middle of such a bucket is within 9.5 % of every value in it.
const MAX_TEXT_SCALE: i8 = 2;

/// The most buckets of one sign that a series has as text, give or take a block: 64 octaves at the finest scale.
const MAX_TEXT_BUCKETS: u32 = 256;

/// The zero threshold of the specification where the sample has none. It also tells an empty native histogram from a
/// classic one without buckets.
const ZERO_THRESHOLD: f64 = 1e-128;

/// So many empty buckets in a row are written as such, as Prometheus' own client does: another span would take more.
const LONGEST_BRIDGE: i32 = 2;

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
    /// Converts a sample, and says whether it could: one that is too coarse leaves nothing of use here.
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
        // A native bucket has the index of its upper bound, which is one higher. The first span says its index as the
        // gap before it.
        let mut gap = first + 1;
        let mut previous = 0;
        for &count in counts {
            if count == 0 {
                gap += 1;
                continue;
            }
            match self.spans.last_mut() {
                Some(span) if gap <= LONGEST_BRIDGE => {
                    for _ in 0..gap {
                        span.length += 1;
                        self.deltas.push(-previous);
                        previous = 0;
                    }
                    span.length += 1;
                }
                _ => self.spans.push(Span { offset: gap, length: 1 }),
            }
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.deltas.push(count - previous);
            previous = count;
            gap = 0;
        }
    }
}

/// What all samples of a family have in common when they are shown with explicit bounds: series whose bounds differ could
/// not be added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grid {
    /// The scale of the coarsest sample.
    coarsest: i8,
    /// The scale of the bounds.
    scale: i8,
    /// The first and the last bucket that any sample uses, for values above 0 and below.
    positive: Option<(i32, i32)>,
    negative: Option<(i32, i32)>,
    has_zero: bool,
}

impl Default for Grid {
    fn default() -> Self {
        Self { coarsest: i8::MAX, scale: MAX_TEXT_SCALE, positive: None, negative: None, has_zero: false }
    }
}

impl Grid {
    /// Whether Prometheus has native histograms so coarse.
    pub(crate) fn can_be_native(&self) -> bool {
        self.coarsest >= MIN_SCHEMA
    }

    /// Makes room for a sample.
    pub(crate) fn include(&mut self, sample: &ExponentialSample<'_>) {
        self.coarsest = self.coarsest.min(sample.scale);
        let scale = self.scale.min(sample.scale);
        let coarser = scale_delta(self.scale, scale);
        let delta = scale_delta(sample.scale, scale);
        for (range, buckets) in [(&mut self.positive, sample.positive), (&mut self.negative, sample.negative)] {
            let used = |position: Option<usize>| Some(shifted(i64::from(buckets.offset) + position? as i64, delta));
            let first = used(buckets.counts.iter().position(|&count| count > 0));
            let last = used(buckets.counts.iter().rposition(|&count| count > 0));
            let before = range.map(|(first, last)| (shifted(first.into(), coarser), shifted(last.into(), coarser)));
            *range = match (before, first.zip(last)) {
                (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
                (a, b) => a.or(b),
            };
        }
        self.scale = scale;
        self.has_zero |= sample.zero_count > 0;
    }

    /// The grid that is shown, when every sample is included: no wider than a page can bear, however far apart the
    /// samples lie, and in whole blocks of four octaves, so that bounds rarely come anew and are mostly the same in
    /// processes that measure the same thing.
    pub(crate) fn settled(mut self) -> Self {
        let is_wide =
            |range: Option<(i32, i32)>| range.is_some_and(|(first, last)| last.abs_diff(first) >= MAX_TEXT_BUCKETS);
        while is_wide(self.positive) || is_wide(self.negative) {
            self.scale = self.scale.saturating_sub(1);
            for range in [&mut self.positive, &mut self.negative].into_iter().flatten() {
                *range = (range.0 >> 1, range.1 >> 1);
            }
        }
        let block = match self.scale {
            -1..=MAX_TEXT_SCALE => 1 << (self.scale + 2),
            _ => 1,
        };
        let whole = |(first, last): (i32, i32)| {
            let end = last.div_euclid(block).saturating_mul(block).saturating_add(block - 1);
            (first.div_euclid(block).saturating_mul(block), end)
        };
        Self { positive: self.positive.map(whole), negative: self.negative.map(whole), ..self }
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
    /// Converts a sample that its family's grid includes.
    ///
    /// There is a bound for each bucket of the grid. A sample only ever becomes coarser, and the bounds of a coarser scale
    /// are bounds of every finer one too: from scrape to scrape a bucket is never cut in two.
    pub(crate) fn convert(&mut self, sample: &ExponentialSample<'_>, grid: &Grid) -> HistogramSample<'_> {
        self.bounds.clear();
        self.cumulative.clear();
        let delta = scale_delta(sample.scale, grid.scale);
        let mut cumulative: u64 = 0;

        // What is furthest below 0 comes first, so these buckets go backwards, and end where their values come nearest
        // to 0.
        let offset = downscale(sample.negative, delta, &mut self.merged);
        if let Some((first, last)) = grid.negative {
            for index in (first..=last).rev() {
                cumulative = cumulative.saturating_add(self.count(index, offset));
                self.push(-bound(index, grid.scale), cumulative);
            }
        }
        if grid.has_zero || (grid.negative.is_some() && grid.positive.is_some()) {
            cumulative = cumulative.saturating_add(sample.zero_count);
            // Neither a negative threshold nor one that is no number means anything.
            self.push(sample.zero_threshold.max(0.0), cumulative);
        }
        let offset = downscale(sample.positive, delta, &mut self.merged);
        if let Some((first, last)) = grid.positive {
            // Where the values begin. Without it a quantile in the first bucket would be looked for from 0 on.
            self.push(bound(first, grid.scale), cumulative);
            for index in first..=last {
                cumulative = cumulative.saturating_add(self.count(index, offset));
                self.push(bound(index.saturating_add(1), grid.scale), cumulative);
            }
        }
        HistogramSample { bounds: &self.bounds, cumulative: &self.cumulative, count: sample.count, sum: sample.sum }
    }

    /// How many values the bucket with this index has, where the first that has any is at `offset`.
    fn count(&self, index: i32, offset: i32) -> u64 {
        let position = usize::try_from(i64::from(index) - i64::from(offset)).ok();
        position.and_then(|position| self.merged.get(position)).copied().unwrap_or(0)
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

/// Merges buckets to a scale that is `delta` coarser, from the first to the last that is not empty, and says which
/// index the first has.
fn downscale(buckets: ExponentialBuckets<'_>, delta: i8, merged: &mut Vec<u64>) -> i32 {
    merged.clear();
    let is_used = |count: &u64| *count > 0;
    let (Some(first), Some(last)) = (buckets.counts.iter().position(is_used), buckets.counts.iter().rposition(is_used))
    else {
        return 0;
    };
    // A wider shift leaves only the sign of an index, as this one does.
    let delta = delta.min(31);
    let index = i64::from(buckets.offset) + first as i64;
    let merged_index = index >> delta;
    // The first merged bucket can be without some of its neighbours.
    let neighbours = ((merged_index + 1) << delta) - index;
    let counts = &buckets.counts[first..=last];
    let (head, tail) = counts.split_at(counts.len().min(neighbours as usize));
    merged.push(sum(head));
    merged.extend(tail.chunks(1 << delta).map(sum));
    // There are upper bounds for all of them among the indexes. No float is so large that it mattered.
    let highest = i64::from(i32::MAX) - merged.len() as i64;
    i32::try_from(merged_index.min(highest)).unwrap_or(i32::MIN)
}

fn sum(counts: &[u64]) -> u64 {
    counts.iter().fold(0, |sum, &count| sum.saturating_add(count))
}

/// The lower bound of the bucket with this index.
fn bound(index: i32, scale: i8) -> f64 {
    // The product is exact, so a bound comes out the same to the last bit at every scale that has it. As for the power
    // itself, a whole one is exact, too.
    (f64::from(index) * (-f64::from(scale)).exp2()).exp2()
}

/// The index that a bucket has at a scale that is `delta` coarser.
fn shifted(index: i64, delta: i8) -> i32 {
    // Shifting by 63 already leaves nothing but the sign. The limit leaves room for the index after it: no float is large
    // enough for such a bucket.
    i32::try_from(index >> delta.min(63)).unwrap_or(i32::MAX).min(i32::MAX - 1)
}

/// By how many scales a sample is too fine.
fn scale_delta(scale: i8, finest: i8) -> i8 {
    scale.saturating_sub(finest).max(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposition::Number;

    fn buckets(offset: i32, counts: &[u64]) -> ExponentialBuckets<'_> {
        ExponentialBuckets { offset, counts }
    }

    fn sample<'a>(
        scale: i8,
        zero_count: u64,
        negative: ExponentialBuckets<'a>,
        positive: ExponentialBuckets<'a>,
    ) -> ExponentialSample<'a> {
        let count = zero_count + negative.counts.iter().sum::<u64>() + positive.counts.iter().sum::<u64>();
        let sum = Number::Unsigned(0);
        ExponentialSample { scale, count, sum, zero_count, zero_threshold: 0.0, positive, negative }
    }

    fn positive(scale: i8, offset: i32, counts: &[u64]) -> ExponentialSample<'_> {
        sample(scale, 0, buckets(0, &[]), buckets(offset, counts))
    }

    /// Spans and deltas as pairs and numbers.
    fn native(sample: &ExponentialSample<'_>) -> (Vec<(i32, u32)>, Vec<i64>) {
        let mut native = Native::default();
        assert!(native.convert(sample));
        let spans = native.positive.spans.iter().map(|span| (span.offset, span.length)).collect();
        (spans, native.positive.deltas)
    }

    fn grid(sample: &ExponentialSample<'_>) -> Grid {
        let mut grid = Grid::default();
        grid.include(sample);
        grid
    }

    /// Bounds with their cumulative counts.
    fn classic(sample: &ExponentialSample<'_>) -> Vec<(f64, u64)> {
        let mut classic = Classic::default();
        let sample = classic.convert(sample, &grid(sample));
        assert_eq!(sample.bounds.len(), sample.cumulative.len());
        sample.bounds.iter().copied().zip(sample.cumulative.iter().copied()).collect()
    }

    #[test]
    fn neighbours_merge_where_a_coarser_scale_has_its_bounds() {
        for (offset, counts, delta, merged_offset, merged) in [
            (0, &[1, 2, 3, 4][..], 0, 0, &[1, 2, 3, 4][..]),
            (0, &[1, 2, 3, 4], 1, 0, &[3, 7]),
            (1, &[1, 2, 3, 4], 1, 0, &[1, 5, 4]),
            (-3, &[1, 2, 3, 4], 2, -1, &[6, 4]),
            (-1, &[1, 1], 5, -1, &[1, 1]),
            (5, &[0, 0, 7, 0, 0, 8, 0, 0], 1, 3, &[7, 0, 8]),
            (5, &[0, 0], 1, 0, &[]),
            (i32::MIN, &[1, 1, 1], 1, i32::MIN / 2, &[2, 1]),
            (i32::MIN, &[1], 127, -1, &[1]),
            (i32::MAX, &[1, 1], 31, 0, &[1, 1]),
            (0, &[u64::MAX, 1], 1, 0, &[u64::MAX]),
        ] {
            let mut found = vec![9];
            let first = downscale(buckets(offset, counts), delta, &mut found);
            assert_eq!((first, found.as_slice()), (merged_offset, merged), "{counts:?} from {offset} by {delta}");
        }
    }

    #[test]
    fn native_buckets_are_counted_by_their_upper_bounds() {
        assert_eq!(native(&positive(0, 0, &[5])), (vec![(1, 1)], vec![5]));
        assert_eq!(native(&positive(0, -1, &[5, 7, 6])), (vec![(0, 3)], vec![5, 2, -1]));
    }

    #[test]
    fn small_gaps_are_bridged_and_larger_ones_begin_a_span() {
        // The worked example of the specification.
        let counts = [10, 0, 0, 20, 5, 2];
        assert_eq!(native(&positive(0, 3, &counts)), (vec![(4, 6)], vec![10, -10, 0, 20, -15, -3]));
        assert_eq!(native(&positive(0, 3, &[10, 0, 0, 0, 20])), (vec![(4, 1), (3, 1)], vec![10, 10]));
    }

    #[test]
    fn a_scale_that_is_too_fine_is_made_coarser_and_one_that_is_too_coarse_is_refused() {
        let mut native = Native::default();
        assert!(native.convert(&positive(10, 0, &[1; 8])));
        assert_eq!((native.schema, native.positive.deltas.as_slice()), (8, &[4, 0][..]));
        assert!(native.convert(&positive(MIN_SCHEMA, 0, &[1])));
        assert_eq!(native.schema, MIN_SCHEMA);
        assert!(!native.convert(&positive(MIN_SCHEMA - 1, 0, &[1])));
    }

    #[test]
    fn a_zero_threshold_that_nobody_set_is_the_specifications() {
        let mut native = Native::default();
        for (given, shown) in [(0.0, 1e-128), (f64::NAN, 1e-128), (0.5, 0.5)] {
            assert!(native.convert(&ExponentialSample { zero_threshold: given, ..positive(0, 0, &[]) }));
            assert_eq!(native.zero_threshold, shown);
        }
    }

    #[test]
    fn a_converter_keeps_nothing_of_the_sample_before() {
        let mut native = Native::default();
        let mut classic = Classic::default();
        let before = sample(0, 1, buckets(0, &[1]), buckets(0, &[1]));
        let empty = sample(0, 0, buckets(7, &[0, 0]), buckets(0, &[]));
        assert!(native.convert(&before) && native.convert(&empty));
        let Native { positive, negative, .. } = &native;
        assert!([positive, negative].iter().all(|buckets| buckets.spans.is_empty() && buckets.deltas.is_empty()));
        assert_eq!(classic.convert(&before, &grid(&before)).bounds, [-1.0, 0.0, 1.0, 2.0]);
        let empty = classic.convert(&empty, &grid(&empty));
        assert!(empty.bounds.is_empty() && empty.cumulative.is_empty());
    }

    #[test]
    fn bounds_begin_below_the_first_value_and_have_no_gap() {
        assert_eq!(classic(&positive(0, 1, &[3, 0, 4])), [(2.0, 0), (4.0, 3), (8.0, 3), (16.0, 7)]);
    }

    #[test]
    fn bounds_ascend_from_the_most_negative_over_zero_to_the_most_positive() {
        let (below, above) = (buckets(0, &[1, 2]), buckets(-1, &[4]));
        assert_eq!(classic(&sample(0, 0, below, buckets(0, &[]))), [(-2.0, 2), (-1.0, 3)]);
        let bounds = [(-2.0, 2), (-1.0, 3), (0.0, 3), (0.5, 3), (1.0, 7)];
        assert_eq!(classic(&sample(0, 0, below, above)), bounds);
        assert_eq!(classic(&sample(0, 9, buckets(0, &[]), buckets(0, &[]))), [(0.0, 9)]);
    }

    #[test]
    fn what_lies_below_the_zero_threshold_counts_towards_it() {
        let positive = sample(0, 5, buckets(0, &[]), buckets(-2, &[1, 2, 4]));
        let bounds = [(1.0, 8), (2.0, 12)];
        assert_eq!(classic(&ExponentialSample { zero_threshold: 1.0, ..positive }), bounds);
    }

    #[test]
    fn a_zero_threshold_without_a_meaning_is_zero_and_an_infinite_one_has_no_bound() {
        let zeros = sample(0, 5, buckets(0, &[]), buckets(0, &[1]));
        for (zero_threshold, bounds) in [
            (-1.0, &[(0.0, 5), (1.0, 5), (2.0, 6)][..]),
            (f64::NAN, &[(0.0, 5), (1.0, 5), (2.0, 6)]),
            (f64::INFINITY, &[(1.0, 5), (2.0, 6)]),
        ] {
            assert_eq!(classic(&ExponentialSample { zero_threshold, ..zeros }), bounds, "{zero_threshold}");
        }
    }

    #[test]
    fn bounds_of_a_coarser_scale_are_bounds_of_a_finer_one_to_the_last_bit() {
        let counts = [1; 64];
        for scale in -3..=MAX_TEXT_SCALE {
            let fine = classic(&positive(scale, -32, &counts));
            for (bound, count) in classic(&positive(scale - 1, -16, &[2; 32])) {
                assert!(fine.contains(&(bound, count)), "{bound} at scale {scale}");
            }
        }
    }

    #[test]
    fn all_samples_of_a_family_have_the_same_bounds_and_their_sums_are_right() {
        let wide = positive(4, -64, &[1; 160]);
        let narrow = sample(7, 2, buckets(0, &[]), buckets(300, &[5]));
        let below = sample(1, 0, buckets(2, &[3]), buckets(0, &[]));
        let mut grid = Grid::default();
        [&wide, &narrow, &below].into_iter().for_each(|sample| grid.include(sample));
        let grid = grid.settled();
        let mut bounds = Vec::new();
        for sample in [&wide, &narrow, &below] {
            let mut classic = Classic::default();
            let shown = classic.convert(sample, &grid);
            assert_eq!(shown.cumulative.last(), Some(&sample.count), "every value is at or below the last bound");
            assert!(shown.bounds.is_sorted_by(|a, b| a < b) && shown.cumulative.is_sorted());
            bounds.push(shown.bounds.to_vec());
        }
        assert!(bounds[0] == bounds[1] && bounds[0] == bounds[2]);
        // The coarsest has two buckets an octave; whole blocks of four octaves hold 2^-4 to 2^8 and -2^4 to -1.
        assert_eq!(
            (bounds[0].len(), bounds[0][0], bounds[0][bounds[0].len() - 1]),
            (8 + 1 + 25, -(2f64.powf(3.5)), 256.0)
        );
        assert!(grid.can_be_native());
    }

    #[test]
    fn samples_that_lie_far_apart_make_coarse_bounds_rather_than_many() {
        let mut grid = Grid::default();
        grid.include(&positive(8, -262_144, &[1]));
        grid.include(&positive(8, 262_143, &[1]));
        grid.include(&positive(0, i32::MAX - 3, &[1; 3]));
        grid.include(&positive(0, i32::MIN, &[1; 3]));
        let mut classic = Classic::default();
        let shown = classic.convert(&positive(8, 262_143, &[1]), &grid.settled());
        assert!(shown.bounds.len() < 300, "{}", shown.bounds.len());
    }

    #[test]
    fn text_has_at_most_four_buckets_an_octave() {
        let bounds = [(1.0, 0), (1.189207115002721, 4), (std::f64::consts::SQRT_2, 8)];
        assert_eq!(classic(&positive(4, 0, &[1; 8])), bounds);
        assert_eq!(classic(&positive(20, 0, &[1; 8])), [(1.0, 0), (1.189207115002721, 8)]);
        // From 1 ms to 10 s.
        assert_eq!(classic(&positive(2, -40, &[1; 54])).len(), 55);
    }

    #[test]
    fn a_bound_beyond_all_floats_is_left_to_the_infinite_bucket() {
        assert_eq!(classic(&positive(-10, -2, &[1, 2, 4])), [(0.0, 0), (2f64.powi(-512).powi(2), 1), (1.0, 3)]);
        assert_eq!(classic(&positive(0, 1023, &[1, 2])), [(2f64.powi(1023), 0)]);
        assert_eq!(classic(&sample(0, 0, buckets(i32::MAX, &[1]), buckets(i32::MAX, &[1]))), [(0.0, 1)]);
    }

    #[test]
    fn no_scale_and_no_offset_overflows() {
        let mut native = Native::default();
        for scale in i8::MIN..=i8::MAX {
            for offset in [i32::MIN, i32::MIN + 1, -1, 0, 1, i32::MAX - 1, i32::MAX] {
                let buckets = buckets(offset, &[1, 0, u64::MAX, 0, 0, 0, u64::MAX]);
                let sample =
                    ExponentialSample { count: 0, positive: buckets, negative: buckets, ..positive(scale, 0, &[]) };
                assert_eq!(native.convert(&sample), scale >= MIN_SCHEMA);
                let bounds = classic(&sample);
                assert!(bounds.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1), "{bounds:?}");
                assert!(bounds.iter().all(|(bound, _)| bound.is_finite() && bound.to_bits() != (-0.0f64).to_bits()));
            }
        }
    }
}

#[cfg(test)]
mod conformance {
    use serde_json::Value;

    use super::*;
    use crate::exposition::Number;

    fn integers<T: TryFrom<i64>>(value: &Value) -> Vec<T> {
        let integers =
            value.as_array().unwrap().iter().map(|number| T::try_from(number.as_i64().unwrap()).ok().unwrap());
        integers.collect()
    }

    fn integer<T: TryFrom<i64>>(value: &Value) -> T {
        T::try_from(value.as_i64().unwrap()).ok().unwrap()
    }

    /// Every bucket that holds something: its native index and its count.
    fn decoded(spans: &[Span], deltas: &[i64]) -> Vec<(i64, i64)> {
        let mut deltas = deltas.iter();
        let (mut index, mut count) = (0, 0);
        let mut buckets = Vec::new();
        for span in spans {
            index += i64::from(span.offset);
            for _ in 0..span.length {
                count += deltas.next().unwrap();
                buckets.push((index, count));
                index += 1;
            }
        }
        buckets.retain(|(_, count)| *count != 0);
        buckets
    }

    fn wanted(spans: &Value, deltas: &Value) -> Vec<(i64, i64)> {
        let span = |span: &Value| Span { offset: integer(&span["offset"]), length: integer(&span["length"]) };
        let spans: Vec<Span> = spans.as_array().unwrap().iter().map(span).collect();
        decoded(&spans, &integers(deltas))
    }

    /// What an SDK in this language cannot be made to hold: see `tests/CONFORMANCE.md`.
    #[test]
    #[ignore = "needs the third-party tables: BAROGRAPH_CORPORA=folder"]
    fn exponential_histograms_become_the_native_ones_of_the_table() {
        let folder = std::env::var("BAROGRAPH_CORPORA").expect("BAROGRAPH_CORPORA is the folder of the tables");
        let path = std::path::Path::new(&folder).join("exponential-histogram.json");
        let table: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let rows = |key: &str| table[key].as_array().unwrap().clone();

        // The second one is of a kind of histogram that is not offered.
        let example = &rows("spec_examples")[0];
        let counts: Vec<u64> = integers(&example["bucket"]["counts"]);
        let mut native = NativeBuckets::default();
        native.convert(integer(&example["bucket"]["offset"]), &counts);
        assert_eq!(decoded(&native.spans, &native.deltas), wanted(&example["want_spans"], &example["want_deltas"]));

        for row in rows("downscale") {
            let counts: Vec<u64> = integers(&row["bucket"]["counts"]);
            let mut merged = Vec::new();
            let buckets = ExponentialBuckets { offset: integer(&row["bucket"]["offset"]), counts: &counts };
            let first = downscale(buckets, integer(&row["scale_delta"]), &mut merged);
            let (offset, counts): (i32, Vec<u64>) = (integer(&row["want"]["offset"]), integers(&row["want"]["counts"]));
            assert_eq!((first, merged), (offset, counts), "{}", row["case"]);
        }

        for row in rows("data_points").iter().chain(&rows("invalid_scale")) {
            let point = &row["data_point"];
            let [positive, negative]: [Vec<u64>; 2] =
                ["positive", "negative"].map(|side| integers(&point[side]["counts"]));
            let offset = |side: &str| integer(&point[side]["offset"]);
            let sample = ExponentialSample {
                scale: integer(&point["scale"]),
                count: integer(&point["count"]),
                sum: Number::Float(point["sum"].as_f64().unwrap()),
                zero_count: integer(&point["zero_count"]),
                zero_threshold: point["zero_threshold"].as_f64().unwrap(),
                positive: ExponentialBuckets { offset: offset("positive"), counts: &positive },
                negative: ExponentialBuckets { offset: offset("negative"), counts: &negative },
            };
            let mut native = Native::default();
            assert_eq!(native.convert(&sample), row["want"]["exported"] == true, "{}", row["case"]);
            let derived = &row["want_derived"];
            if derived.is_object() {
                assert_eq!(native.schema, integer::<i8>(&derived["schema"]), "{}", row["case"]);
                for (side, buckets) in [("positive", &native.positive), ("negative", &native.negative)] {
                    let wanted = wanted(&derived[format!("{side}_spans")], &derived[format!("{side}_deltas")]);
                    assert_eq!(decoded(&buckets.spans, &buckets.deltas), wanted, "{side} of {}", row["case"]);
                }
            }
        }
    }
}
