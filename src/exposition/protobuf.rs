//! The protobuf format of Prometheus: messages of type `io.prometheus.client.MetricFamily`, each after its length.
//!
//! It is the only format that carries native histograms, and a scraper parses it faster than text. The messages are few
//! and fixed, so they are written by hand: fields in the order of their numbers, each with its key before it.

use std::time::{SystemTime, UNIX_EPOCH};

use super::exponential::{Native, NativeBuckets};
use super::{
    Encoder, ExponentialSample, Family, FamilyEnd, FamilyKind, HistogramSample, Labels, Number, Out, SummarySample,
};

/// So much of a family is kept until its length is known; of a longer one only the length, and it is encoded twice.
const KEPT: usize = 256 * 1024;

// The wire types of fields.
const VARINT: u8 = 0;
const FIXED: u8 = 1;
const BYTES: u8 = 2;

/// The length of a double with its key.
const DOUBLE: usize = 9;

/// Writes families as delimited protobuf messages.
pub(crate) struct ProtobufEncoder<'o, 'a> {
    out: &'o mut Out<'a>,
    kind: FamilyKind,
    /// The fields of the current family but for its metrics.
    header: Vec<u8>,
    /// The metrics of the current family as far as they are kept.
    metrics: Vec<u8>,
    pass: Pass,
    /// The labels of the current sample as fields of its metric, and where each of them ends.
    labels: Vec<u8>,
    label_ends: Vec<usize>,
    /// The message within the current metric that has its value.
    value: Vec<u8>,
    native: Native,
}

/// What becomes of the metrics of the current family.
#[derive(Clone, Copy, Debug)]
enum Pass {
    /// They are kept.
    Keeping,
    /// They are too long to be kept. So long are those that were given.
    Measuring { length: usize },
    /// They are given once more and written at once. So long are those that are still to come.
    Writing { left: usize },
}

impl<'o, 'a> ProtobufEncoder<'o, 'a> {
    pub(crate) fn new(out: &'o mut Out<'a>) -> Self {
        Self {
            out,
            kind: FamilyKind::Untyped,
            header: Vec::new(),
            metrics: Vec::new(),
            pass: Pass::Keeping,
            labels: Vec::new(),
            label_ends: Vec::new(),
            value: Vec::new(),
            native: Native::default(),
        }
    }

    /// Encodes the labels that the sample before did not have, and begins a value.
    fn begin(&mut self, labels: Labels<'_>) {
        self.value.clear();
        let same = labels.same.min(self.label_ends.len());
        self.label_ends.truncate(same);
        self.labels.truncate(self.label_ends.last().copied().unwrap_or(0));
        for (name, value) in labels.iter().skip(same) {
            self.labels.push(key(1, BYTES));
            varint((text_len(name) + text_len(value)) as u64, &mut self.labels);
            text(1, name, &mut self.labels);
            text(2, value, &mut self.labels);
            self.label_ends.push(self.labels.len());
        }
    }

    /// Ends the metric that has the current labels, and the current value as its `field`.
    fn metric(&mut self, field: u8) {
        let metric = self.labels.len() + bytes_len(self.value.len());
        let length = bytes_len(metric);
        let target = match &mut self.pass {
            Pass::Keeping if self.metrics.len() + length <= KEPT => &mut self.metrics,
            Pass::Keeping => {
                self.pass = Pass::Measuring { length: self.metrics.len() + length };
                self.metrics.clear();
                return;
            }
            Pass::Measuring { length: measured } => {
                *measured += length;
                return;
            }
            Pass::Writing { left } => {
                let Some(rest) = left.checked_sub(length) else {
                    self.out.fail();
                    return;
                };
                *left = rest;
                &mut self.out.buffer
            }
        };
        target.push(key(4, BYTES));
        varint(metric as u64, target);
        target.extend_from_slice(&self.labels);
        target.push(key(field, BYTES));
        varint(self.value.len() as u64, target);
        target.extend_from_slice(&self.value);
        if let Pass::Writing { .. } = self.pass {
            self.out.hand_on_if_full();
        }
    }

    /// Writes the current family up to its metrics, which are so long.
    fn begin_family(&mut self, metrics: usize) {
        varint((self.header.len() + metrics) as u64, &mut self.out.buffer);
        self.out.buffer.extend_from_slice(&self.header);
    }
}

impl Encoder for ProtobufEncoder<'_, '_> {
    fn family(&mut self, family: &Family<'_>) {
        self.kind = family.kind;
        self.label_ends.clear();
        self.metrics.clear();
        self.pass = Pass::Keeping;
        self.header.clear();
        text(1, family.name, &mut self.header);
        if !family.help.is_empty() {
            text(2, family.help, &mut self.header);
        }
        let kind = match family.kind {
            FamilyKind::Counter => 0,
            FamilyKind::Gauge | FamilyKind::Info => 1,
            FamilyKind::Summary => 2,
            FamilyKind::Untyped => 3,
            FamilyKind::Histogram => 4,
        };
        unsigned(3, kind, &mut self.header);
        // Before the metrics, although its number is higher: fields may come in any order.
        if !family.unit.is_empty() {
            text(5, family.unit, &mut self.header);
        }
    }

    fn number(&mut self, labels: Labels<'_>, value: Number, start: Option<SystemTime>) {
        self.begin(labels);
        double(1, float(value), &mut self.value);
        match self.kind {
            FamilyKind::Counter => {
                created(3, start, &mut self.value);
                self.metric(3);
            }
            FamilyKind::Gauge | FamilyKind::Info => self.metric(2),
            _ => self.metric(5),
        }
    }

    fn histogram(&mut self, labels: Labels<'_>, sample: &HistogramSample<'_>, start: Option<SystemTime>) {
        self.begin(labels);
        unsigned(1, sample.count, &mut self.value);
        double(2, float(sample.sum), &mut self.value);
        for (&bound, &cumulative) in sample.bounds.iter().zip(sample.cumulative) {
            // At most 20 bytes.
            let length = 1 + varint_len(cumulative) + DOUBLE;
            self.value.extend_from_slice(&[key(3, BYTES), length as u8]);
            unsigned(1, cumulative, &mut self.value);
            double(2, bound, &mut self.value);
        }
        created(15, start, &mut self.value);
        self.metric(7);
    }

    fn exponential(&mut self, labels: Labels<'_>, sample: &ExponentialSample<'_>, start: Option<SystemTime>) {
        self.begin(labels);
        // The exporter gives no sample that is too coarse.
        if !self.native.convert(sample) {
            return;
        }
        unsigned(1, sample.count, &mut self.value);
        double(2, float(sample.sum), &mut self.value);
        unsigned(5, zigzag(self.native.schema.into()), &mut self.value);
        double(6, self.native.zero_threshold, &mut self.value);
        unsigned(7, sample.zero_count, &mut self.value);
        native_buckets(9, &self.native.negative, &mut self.value);
        native_buckets(12, &self.native.positive, &mut self.value);
        created(15, start, &mut self.value);
        self.metric(7);
    }

    fn summary(&mut self, labels: Labels<'_>, sample: &SummarySample<'_>) {
        self.begin(labels);
        unsigned(1, sample.count, &mut self.value);
        double(2, sample.sum, &mut self.value);
        for &(quantile, value) in sample.quantiles {
            self.value.extend_from_slice(&[key(3, BYTES), 2 * DOUBLE as u8]);
            double(1, quantile, &mut self.value);
            double(2, value, &mut self.value);
        }
        self.metric(4);
    }

    fn end_family(&mut self) -> FamilyEnd {
        // The next sample has nothing before it in its pass.
        self.label_ends.clear();
        match self.pass {
            Pass::Keeping => {
                if !self.metrics.is_empty() {
                    self.begin_family(self.metrics.len());
                    self.out.buffer.extend_from_slice(&self.metrics);
                    self.out.hand_on_if_full();
                }
            }
            Pass::Measuring { length } => {
                self.begin_family(length);
                self.pass = Pass::Writing { left: length };
                return FamilyEnd::Again;
            }
            Pass::Writing { left } => {
                debug_assert_eq!(left, 0, "the samples of both passes are the same");
                if left > 0 {
                    self.out.fail();
                }
            }
        }
        FamilyEnd::Written
    }

    fn end(&mut self) {
        self.out.hand_on();
    }

    fn is_stopped(&self) -> bool {
        self.out.is_stopped()
    }
}

/// Writes the fields of native buckets: the spans, and the deltas under the number after theirs.
fn native_buckets(field: u8, buckets: &NativeBuckets, out: &mut Vec<u8>) {
    for span in &buckets.spans {
        let (offset, length) = (zigzag(span.offset.into()), u64::from(span.length));
        // At most 12 bytes.
        let span = 2 + varint_len(offset) + varint_len(length);
        out.extend_from_slice(&[key(field, BYTES), span as u8]);
        unsigned(1, offset, out);
        unsigned(2, length, out);
    }
    if !buckets.deltas.is_empty() {
        let length: usize = buckets.deltas.iter().map(|&delta| varint_len(zigzag(delta))).sum();
        out.push(key(field + 1, BYTES));
        varint(length as u64, out);
        for &delta in &buckets.deltas {
            varint(zigzag(delta), out);
        }
    }
}

/// Writes a `google.protobuf.Timestamp`.
fn created(field: u8, start: Option<SystemTime>, out: &mut Vec<u8>) {
    let Some(start) = start else { return };
    // A clock before 1970 was never set. 0 is what scrapers take for unknown.
    let start = start.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (seconds, nanos) = (start.as_secs(), u64::from(start.subsec_nanos()));
    // At most 17 bytes.
    let length = 2 + varint_len(seconds) + varint_len(nanos);
    out.extend_from_slice(&[key(field, BYTES), length as u8]);
    unsigned(1, seconds, out);
    unsigned(2, nanos, out);
}

/// What comes before a field: a single byte, since no field of these messages has a number above 15.
const fn key(field: u8, wire: u8) -> u8 {
    field << 3 | wire
}

fn unsigned(field: u8, value: u64, out: &mut Vec<u8>) {
    out.push(key(field, VARINT));
    varint(value, out);
}

fn double(field: u8, value: f64, out: &mut Vec<u8>) {
    let mut bytes = [0; DOUBLE];
    bytes[0] = key(field, FIXED);
    bytes[1..].copy_from_slice(&value.to_le_bytes());
    out.extend_from_slice(&bytes);
}

fn text(field: u8, text: &str, out: &mut Vec<u8>) {
    out.push(key(field, BYTES));
    varint(text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

fn text_len(text: &str) -> usize {
    bytes_len(text.len())
}

/// The length of a field that holds so many bytes, with its key and its own length.
fn bytes_len(length: usize) -> usize {
    1 + varint_len(length as u64) + length
}

/// Writes seven bits a byte, the lowest first, with the highest bit set in each but the last.
fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_len(value: u64) -> usize {
    // Even 0 takes a byte.
    (64 - (value | 1).leading_zeros()).div_ceil(7) as usize
}

/// Numbers near 0 become small ones, whatever their sign.
fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

fn float(value: Number) -> f64 {
    match value {
        Number::Unsigned(value) => value as f64,
        Number::Signed(value) => value as f64,
        Number::Float(value) => value,
    }
}
