//! The protobuf format of Prometheus: messages of type `io.prometheus.client.MetricFamily`, each after its length.
//!
//! It is the only format that carries native histograms. The messages are few and fixed, so they are written by hand.

use std::mem;
use std::time::{SystemTime, UNIX_EPOCH};

use super::exemplar::Rendered;
use super::exponential::{Classic, Grid, Native, Span};
use super::{
    Encoder, ExemplarSample, ExponentialSample, Family, FamilyEnd, FamilyKind, HistogramSample, Labels, Number, Out,
    SummarySample,
};

/// So much of a family is kept until its length is known; of a longer one only the length, and it is encoded twice.
const KEPT: usize = 256 * 1024;

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
    /// The exemplars of the current sample.
    exemplars: Rendered,
    /// Whether exponential histograms of the current family are native ones.
    is_native: bool,
    native: Native,
    classic: Classic,
    grid: Grid,
}

/// What becomes of the metrics of the current family.
#[derive(Clone, Copy, Debug)]
enum Pass {
    /// They are kept.
    Keeping,
    /// They are too long to be kept. So long are those that were given.
    Measuring { length: usize },
    /// They are given once more and written at once. So long are those that are still to come; if that should turn out
    /// wrong, the page fails.
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
            exemplars: Rendered::default(),
            is_native: false,
            native: Native::default(),
            classic: Classic::default(),
            grid: Grid::default(),
        }
    }

    /// Encodes the labels that the sample before did not have.
    fn labels(&mut self, labels: Labels<'_>) {
        let same = labels.same.min(self.label_ends.len());
        self.label_ends.truncate(same);
        self.labels.truncate(self.label_ends.last().copied().unwrap_or(0));
        for (name, value) in labels.iter().skip(same) {
            self.labels.message(1, &Label { name, value });
            self.label_ends.push(self.labels.len());
        }
    }

    /// Ends a metric: it has the current labels, and `value` as its `field`.
    fn metric(&mut self, field: u8, value: &impl Message) {
        let value_len = length(value);
        let metric_len = self.labels.len() + field_len(value_len);
        let whole = field_len(metric_len);
        let target = match &mut self.pass {
            Pass::Keeping if self.metrics.len() + whole <= KEPT => &mut self.metrics,
            Pass::Keeping => {
                self.pass = Pass::Measuring { length: self.metrics.len() + whole };
                self.metrics.clear();
                return;
            }
            Pass::Measuring { length } => {
                *length += whole;
                return;
            }
            Pass::Writing { left } => {
                let Some(rest) = left.checked_sub(whole) else {
                    self.out.fail();
                    return;
                };
                *left = rest;
                &mut self.out.buffer
            }
        };
        let end = target.len() + whole;
        target.prefix(4, metric_len);
        target.extend_from_slice(&self.labels);
        target.prefix(field, value_len);
        value.write(target);
        debug_assert_eq!(target.len(), end, "a message is as long as it was said to be");
        if let Pass::Writing { .. } = self.pass {
            self.out.hand_on_if_full();
        }
    }

    /// Keeps the list for the next sample, without what was in it.
    fn put_back(&mut self, mut exemplars: Rendered) {
        exemplars.clear();
        self.exemplars = exemplars;
    }

    /// Writes the current family up to its metrics, which are so long.
    fn begin_family(&mut self, metrics: usize) {
        self.out.buffer.varint((self.header.len() + metrics) as u64);
        self.out.buffer.extend_from_slice(&self.header);
    }
}

impl Encoder for ProtobufEncoder<'_, '_> {
    fn family(&mut self, family: &Family<'_>) {
        self.kind = family.kind;
        self.is_native = family.is_native;
        self.grid = family.grid;
        self.label_ends.clear();
        self.metrics.clear();
        self.pass = Pass::Keeping;
        self.header.clear();
        self.header.text(1, family.name);
        if !family.help.is_empty() {
            self.header.text(2, family.help);
        }
        let kind = match family.kind {
            FamilyKind::Counter => 0,
            FamilyKind::Gauge | FamilyKind::Info => 1,
            FamilyKind::Summary => 2,
            FamilyKind::Untyped => 3,
            FamilyKind::Histogram => 4,
        };
        self.header.unsigned(3, kind);
        // Before the metrics, although its number is higher: fields may come in any order.
        if !family.unit.is_empty() {
            self.header.text(5, family.unit);
        }
    }

    fn exemplars(&mut self, exemplars: &[ExemplarSample<'_>]) {
        self.exemplars.set(exemplars, |exemplar, bytes| Exemplar(exemplar).write(bytes));
    }

    fn number(&mut self, labels: Labels<'_>, value: Number, start: Option<SystemTime>) {
        self.labels(labels);
        let value = float(value);
        let exemplars = mem::take(&mut self.exemplars);
        match self.kind {
            FamilyKind::Counter => {
                let exemplar = exemplars.latest_between(f64::NEG_INFINITY, f64::INFINITY);
                self.metric(3, &Counter { value, exemplar, created: created(start) });
            }
            FamilyKind::Gauge | FamilyKind::Info => self.metric(2, &Value(value)),
            _ => self.metric(5, &Value(value)),
        }
        self.put_back(exemplars);
    }

    fn histogram(&mut self, labels: Labels<'_>, sample: &HistogramSample<'_>, start: Option<SystemTime>) {
        self.labels(labels);
        let exemplars = mem::take(&mut self.exemplars);
        self.metric(7, &Histogram { sample, exemplars: &exemplars, created: created(start) });
        self.put_back(exemplars);
    }

    fn exponential(&mut self, labels: Labels<'_>, sample: &ExponentialSample<'_>, start: Option<SystemTime>) {
        if !self.is_native {
            let mut classic = mem::take(&mut self.classic);
            self.histogram(labels, &classic.convert(sample, &self.grid), start);
            self.classic = classic;
            return;
        }
        self.labels(labels);
        let (mut native, exemplars) = (mem::take(&mut self.native), mem::take(&mut self.exemplars));
        // A family with a sample that is too coarse is not native.
        if native.convert(sample) {
            let native = &native;
            self.metric(7, &NativeHistogram { sample, native, exemplars: &exemplars, created: created(start) });
        }
        self.native = native;
        self.put_back(exemplars);
    }

    fn summary(&mut self, labels: Labels<'_>, sample: &SummarySample<'_>) {
        self.labels(labels);
        self.metric(4, sample);
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

/// Something that stands after its length, described once: written to a [`Length`], it says how long it is.
trait Message {
    fn write(&self, sink: &mut impl Sink);
}

struct Label<'a> {
    name: &'a str,
    value: &'a str,
}

impl Message for Label<'_> {
    fn write(&self, sink: &mut impl Sink) {
        sink.text(1, self.name);
        sink.text(2, self.value);
    }
}

/// A gauge, or what has no type.
struct Value(f64);

impl Message for Value {
    fn write(&self, sink: &mut impl Sink) {
        sink.double(1, self.0);
    }
}

struct Exemplar<'a>(&'a ExemplarSample<'a>);

impl Message for Exemplar<'_> {
    fn write(&self, sink: &mut impl Sink) {
        for (name, value) in self.0.labels() {
            sink.message(1, &Label { name, value });
        }
        sink.double(2, float(self.0.value));
        sink.message(3, &timestamp(self.0.time));
    }
}

/// A message that was written before.
struct Written<'a>(&'a [u8]);

impl Message for Written<'_> {
    fn write(&self, sink: &mut impl Sink) {
        sink.bytes(self.0);
    }
}

struct Counter<'a> {
    value: f64,
    exemplar: Option<&'a [u8]>,
    created: Option<Timestamp>,
}

impl Message for Counter<'_> {
    fn write(&self, sink: &mut impl Sink) {
        sink.double(1, self.value);
        if let Some(exemplar) = self.exemplar {
            sink.message(2, &Written(exemplar));
        }
        if let Some(created) = &self.created {
            sink.message(3, created);
        }
    }
}

struct Histogram<'a> {
    sample: &'a HistogramSample<'a>,
    exemplars: &'a Rendered,
    created: Option<Timestamp>,
}

impl Message for Histogram<'_> {
    fn write(&self, sink: &mut impl Sink) {
        sink.unsigned(1, self.sample.count);
        sink.double(2, float(self.sample.sum));
        let mut above = f64::NEG_INFINITY;
        for (&bound, &cumulative) in self.sample.bounds.iter().zip(self.sample.cumulative) {
            let exemplar = self.exemplars.latest_between(above, bound);
            sink.message(3, &Bucket { cumulative, bound, exemplar });
            above = bound;
        }
        // The infinite bucket holds as many as the histogram, and is left out unless there is more to say of it.
        if let Some(exemplar) = self.exemplars.latest_between(above, f64::INFINITY) {
            let (cumulative, bound) = (self.sample.count, f64::INFINITY);
            sink.message(3, &Bucket { cumulative, bound, exemplar: Some(exemplar) });
        }
        if let Some(created) = &self.created {
            sink.message(15, created);
        }
    }
}

struct Bucket<'a> {
    cumulative: u64,
    bound: f64,
    exemplar: Option<&'a [u8]>,
}

impl Message for Bucket<'_> {
    fn write(&self, sink: &mut impl Sink) {
        sink.unsigned(1, self.cumulative);
        sink.double(2, self.bound);
        if let Some(exemplar) = self.exemplar {
            sink.message(3, &Written(exemplar));
        }
    }
}

struct NativeHistogram<'a> {
    sample: &'a ExponentialSample<'a>,
    native: &'a Native,
    exemplars: &'a Rendered,
    created: Option<Timestamp>,
}

impl Message for NativeHistogram<'_> {
    fn write(&self, sink: &mut impl Sink) {
        sink.unsigned(1, self.sample.count);
        sink.double(2, float(self.sample.sum));
        sink.unsigned(5, zigzag(self.native.schema.into()));
        sink.double(6, self.native.zero_threshold);
        sink.unsigned(7, self.sample.zero_count);
        for (field, buckets) in [(9, &self.native.negative), (12, &self.native.positive)] {
            for span in &buckets.spans {
                sink.message(field, span);
            }
            if !buckets.deltas.is_empty() {
                sink.message(field + 1, &Deltas(&buckets.deltas));
            }
        }
        if let Some(created) = &self.created {
            sink.message(15, created);
        }
        for exemplar in self.exemplars.iter() {
            sink.bytes(&EXEMPLARS);
            sink.varint(exemplar.len() as u64);
            sink.bytes(exemplar);
        }
    }
}

impl Message for Span {
    fn write(&self, sink: &mut impl Sink) {
        sink.unsigned(1, zigzag(self.offset.into()));
        sink.unsigned(2, self.length.into());
    }
}

/// Numbers one after the other in one field: what the format calls packed.
struct Deltas<'a>(&'a [i64]);

impl Message for Deltas<'_> {
    fn write(&self, sink: &mut impl Sink) {
        for &delta in self.0 {
            sink.varint(zigzag(delta));
        }
    }
}

impl Message for SummarySample<'_> {
    fn write(&self, sink: &mut impl Sink) {
        sink.unsigned(1, self.count);
        sink.double(2, self.sum);
        for &(quantile, value) in self.quantiles {
            sink.message(3, &Quantile { quantile, value });
        }
    }
}

struct Quantile {
    quantile: f64,
    value: f64,
}

impl Message for Quantile {
    fn write(&self, sink: &mut impl Sink) {
        sink.double(1, self.quantile);
        sink.double(2, self.value);
    }
}

/// A `google.protobuf.Timestamp`.
struct Timestamp {
    seconds: u64,
    nanos: u32,
}

impl Message for Timestamp {
    fn write(&self, sink: &mut impl Sink) {
        sink.unsigned(1, self.seconds);
        sink.unsigned(2, self.nanos.into());
    }
}

fn created(start: Option<SystemTime>) -> Option<Timestamp> {
    start.map(timestamp)
}

fn timestamp(time: SystemTime) -> Timestamp {
    // A clock before 1970 was never set. 0 is what scrapers take for unknown.
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp { seconds: since.as_secs(), nanos: since.subsec_nanos() }
}

fn float(value: Number) -> f64 {
    match value {
        Number::Unsigned(value) => value as f64,
        Number::Signed(value) => value as f64,
        Number::Float(value) => value,
    }
}

// The wire types.
const VARINT: u8 = 0;
const FIXED: u8 = 1;
const BYTES: u8 = 2;

/// What stands before an exemplar of a native histogram, the one field with a number above 15, which takes two bytes.
const EXEMPLARS: [u8; 2] = [(16 << 3 | BYTES as u16) as u8 | 0x80, ((16 << 3 | BYTES as u16) >> 7) as u8];

/// Takes the fields of a message.
trait Sink: Sized {
    fn bytes(&mut self, bytes: &[u8]);

    fn varint(&mut self, value: u64);

    #[inline]
    fn unsigned(&mut self, field: u8, value: u64) {
        self.bytes(&[key(field, VARINT)]);
        self.varint(value);
    }

    #[inline]
    fn double(&mut self, field: u8, value: f64) {
        let mut bytes = [key(field, FIXED); 9];
        bytes[1..].copy_from_slice(&value.to_le_bytes());
        self.bytes(&bytes);
    }

    #[inline]
    fn text(&mut self, field: u8, text: &str) {
        self.prefix(field, text.len());
        self.bytes(text.as_bytes());
    }

    #[inline]
    fn message(&mut self, field: u8, message: &impl Message) {
        self.prefix(field, length(message));
        message.write(self);
    }

    /// What stands before a text or a message of this length.
    #[inline]
    fn prefix(&mut self, field: u8, length: usize) {
        self.bytes(&[key(field, BYTES)]);
        self.varint(length as u64);
    }
}

impl Sink for Vec<u8> {
    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    /// Seven bits a byte, the lowest first, the highest bit set in each byte but the last.
    #[inline]
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.push(value as u8);
    }
}

/// Only counts.
struct Length(usize);

impl Sink for Length {
    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }

    #[inline]
    fn varint(&mut self, value: u64) {
        self.0 += varint_len(value);
    }

    #[inline]
    fn message(&mut self, _: u8, message: &impl Message) {
        self.0 += field_len(length(message));
    }
}

#[inline]
fn length(message: &impl Message) -> usize {
    let mut length = Length(0);
    message.write(&mut length);
    length.0
}

/// How long a text or a message of this length is with what stands before it.
fn field_len(length: usize) -> usize {
    1 + varint_len(length as u64) + length
}

#[inline]
fn varint_len(value: u64) -> usize {
    // Even 0 takes a byte.
    (64 - (value | 1).leading_zeros()).div_ceil(7) as usize
}

/// What stands before a field: one byte, as no other field has a number above 15.
#[inline]
fn key(field: u8, wire_type: u8) -> u8 {
    field << 3 | wire_type
}

/// Numbers near 0 become small ones, whatever their sign.
fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposition::{CHUNK, ExponentialBuckets, Label, LabelNames};
    use std::time::Duration;

    /// The page that `write` writes, and the lengths of its chunks.
    fn page(write: impl FnOnce(&mut ProtobufEncoder<'_, '_>)) -> (Vec<u8>, Vec<usize>) {
        let (mut page, mut chunks) = (Vec::new(), Vec::new());
        let mut take = |chunk: &mut Vec<u8>| {
            chunks.push(chunk.len());
            page.append(chunk);
            true
        };
        let mut out = Out::new(&mut take);
        let mut encoder = ProtobufEncoder::new(&mut out);
        write(&mut encoder);
        encoder.end();
        assert!(!out.is_stopped());
        (page, chunks)
    }

    /// The one metric of a family without help and unit, without what stands before it.
    fn metric(kind: FamilyKind, write: impl FnOnce(&mut ProtobufEncoder<'_, '_>)) -> Vec<u8> {
        let (page, _) = page(|encoder| {
            encoder.family(&Family { name: "f", help: "", unit: "", kind, is_native: true, grid: Grid::default() });
            write(encoder);
            assert_eq!(encoder.end_family(), FamilyEnd::Written);
        });
        assert_eq!(usize::from(page[0]), page.len() - 1, "the length of the family");
        assert_eq!(page[1..5], [0x0a, 1, b'f', 0x18], "its name, then the key of its type");
        assert_eq!(page[6], 0x22, "the key of its metric");
        assert_eq!(usize::from(page[7]), page.len() - 8, "the length of its metric");
        page[8..].to_vec()
    }

    fn bare(names: &LabelNames) -> Labels<'_> {
        Labels { names, labels: &[], same: 0 }
    }

    fn at(seconds: u64, nanos: u32) -> Option<SystemTime> {
        Some(UNIX_EPOCH + Duration::new(seconds, nanos))
    }

    /// The numbers of a message, the bytes of its doubles each in one piece.
    fn bytes(parts: &[&[u8]]) -> Vec<u8> {
        parts.concat()
    }

    const ONE: [u8; 8] = [0, 0, 0, 0, 0, 0, 0xf0, 0x3f];
    const TWO: [u8; 8] = [0, 0, 0, 0, 0, 0, 0, 0x40];

    #[test]
    fn a_family_says_its_name_help_type_and_unit_and_then_its_metrics() {
        let mut names = LabelNames::default();
        let label = Label { name: names.number("k"), value: "v".into() };
        let (page, _) = page(|encoder| {
            encoder.family(&Family {
                name: "f_s",
                help: "h",
                unit: "s",
                kind: FamilyKind::Gauge,
                is_native: true,
                grid: Grid::default(),
            });
            let labels = Labels { names: &names, labels: &[label], same: 0 };
            encoder.number(labels, Number::Signed(1), at(1, 0));
            assert_eq!(encoder.end_family(), FamilyEnd::Written);
        });
        let wanted = bytes(&[
            &[34, 0x0a, 3, b'f', b'_', b's', 0x12, 1, b'h', 0x18, 1, 0x2a, 1, b's'],
            &[0x22, 19, 0x0a, 6, 0x0a, 1, b'k', 0x12, 1, b'v', 0x12, 9, 0x09],
            &ONE,
        ]);
        assert_eq!(page, wanted);
    }

    #[test]
    fn a_family_without_samples_is_not_written() {
        let (page, chunks) = page(|encoder| {
            encoder.family(&Family {
                name: "f",
                help: "h",
                unit: "",
                kind: FamilyKind::Gauge,
                is_native: true,
                grid: Grid::default(),
            });
            assert_eq!(encoder.end_family(), FamilyEnd::Written);
        });
        assert!(page.is_empty() && chunks.is_empty());
    }

    #[test]
    fn a_number_is_of_its_familys_type_and_only_a_counter_says_when_it_began() {
        let names = LabelNames::default();
        let number = |kind| metric(kind, |encoder| encoder.number(bare(&names), Number::Unsigned(2), at(300, 5)));
        let counter = bytes(&[&[0x1a, 16, 0x09], &TWO, &[0x1a, 5, 0x08, 0xac, 0x02, 0x10, 5]]);
        assert_eq!(number(FamilyKind::Counter), counter);
        assert_eq!(number(FamilyKind::Gauge), bytes(&[&[0x12, 9, 0x09], &TWO]));
        assert_eq!(number(FamilyKind::Info), bytes(&[&[0x12, 9, 0x09], &TWO]));
        assert_eq!(number(FamilyKind::Untyped), bytes(&[&[0x2a, 9, 0x09], &TWO]));
    }

    #[test]
    fn a_histogram_has_its_buckets_without_the_infinite_one() {
        let names = LabelNames::default();
        let sample =
            HistogramSample { bounds: &[1.0, 2.0], cumulative: &[0, 128], count: 300, sum: Number::Float(2.0) };
        let wanted = bytes(&[
            &[0x3a, 45, 0x08, 0xac, 0x02, 0x11],
            &TWO,
            &[0x1a, 11, 0x08, 0, 0x11],
            &ONE,
            &[0x1a, 12, 0x08, 0x80, 0x01, 0x11],
            &TWO,
            &[0x7a, 4, 0x08, 7, 0x10, 0],
        ]);
        let found = metric(FamilyKind::Histogram, |encoder| encoder.histogram(bare(&names), &sample, at(7, 0)));
        assert_eq!(found, wanted);
    }

    #[test]
    fn an_exponential_histogram_has_native_buckets() {
        let names = LabelNames::default();
        let sample = ExponentialSample {
            scale: -1,
            count: 10,
            sum: Number::Float(2.0),
            zero_count: 3,
            zero_threshold: 1.0,
            positive: ExponentialBuckets { offset: -3, counts: &[1, 0, 0, 0, 2] },
            negative: ExponentialBuckets { offset: 0, counts: &[4] },
        };
        let wanted = bytes(&[
            &[0x3a, 49, 0x08, 10, 0x11],
            &TWO,
            // Schema -1, the zero bucket.
            &[0x28, 1, 0x31],
            &ONE,
            &[0x38, 3],
            // Negative: a bucket with the index 1.
            &[0x4a, 4, 0x08, 2, 0x10, 1, 0x52, 1, 8],
            // Positive: one with the index -2, and after a gap of 3 another.
            &[0x62, 4, 0x08, 3, 0x10, 1, 0x62, 4, 0x08, 6, 0x10, 1, 0x6a, 2, 2, 2],
        ]);
        let found = metric(FamilyKind::Histogram, |encoder| encoder.exponential(bare(&names), &sample, None));
        assert_eq!(found, wanted);
    }

    #[test]
    fn a_summary_has_its_quantiles() {
        let names = LabelNames::default();
        let sample = SummarySample { quantiles: &[(1.0, 2.0)], count: 1, sum: 2.0 };
        let wanted = bytes(&[&[0x22, 31, 0x08, 1, 0x11], &TWO, &[0x1a, 18, 0x09], &ONE, &[0x11], &TWO]);
        assert_eq!(metric(FamilyKind::Summary, |encoder| encoder.summary(bare(&names), &sample)), wanted);
    }

    /// Gauges with labels `a="same"` and `i="…"`, 37 bytes each.
    fn gauges(encoder: &mut ProtobufEncoder<'_, '_>, count: u32) {
        let mut names = LabelNames::default();
        let mut labels =
            [("a", "same"), ("i", "")].map(|(name, value)| Label { name: names.number(name), value: value.into() });
        for i in 0..count {
            labels[1].value = format!("{i:06}").into();
            let same = if i == 0 { 0 } else { 1 };
            encoder.number(Labels { names: &names, labels: &labels, same }, Number::Unsigned(1), None);
        }
    }

    fn metric_of_gauges(i: usize) -> Vec<u8> {
        let value = format!("{i:06}");
        let labels = b"\x0a\x09\x0a\x01a\x12\x04same\x0a\x0b\x0a\x01i\x12\x06";
        bytes(&[&[0x22, 35], labels, value.as_bytes(), &[0x12, 9, 0x09], &ONE])
    }

    #[test]
    fn labels_that_are_the_same_as_before_are_written_with_each_metric() {
        let (page, _) = page(|encoder| {
            encoder.family(&Family {
                name: "f",
                help: "",
                unit: "",
                kind: FamilyKind::Gauge,
                is_native: true,
                grid: Grid::default(),
            });
            gauges(encoder, 3);
            assert_eq!(encoder.end_family(), FamilyEnd::Written);
        });
        let metrics = [0, 1, 2].map(metric_of_gauges).concat();
        assert_eq!(page, bytes(&[&[5 + 3 * 37, 0x0a, 1, b'f', 0x18, 1], &metrics]));
    }

    #[test]
    fn a_family_is_asked_for_twice_only_if_it_is_too_long_to_be_kept() {
        let fits = u32::try_from(KEPT / 37).unwrap();
        for (count, passes) in [(fits, 1), (fits + 1, 2), (3 * fits, 2)] {
            let (page, chunks) = page(|encoder| {
                encoder.family(&Family {
                    name: "f",
                    help: "",
                    unit: "",
                    kind: FamilyKind::Gauge,
                    is_native: true,
                    grid: Grid::default(),
                });
                for pass in 1..=passes {
                    gauges(encoder, count);
                    let end = if pass < passes { FamilyEnd::Again } else { FamilyEnd::Written };
                    assert_eq!(encoder.end_family(), end, "{count}");
                }
                encoder.family(&Family {
                    name: "next",
                    help: "",
                    unit: "",
                    kind: FamilyKind::Gauge,
                    is_native: true,
                    grid: Grid::default(),
                });
                gauges(encoder, 1);
                assert_eq!(encoder.end_family(), FamilyEnd::Written);
            });
            let mut wanted = Vec::new();
            wanted.varint(5 + 37 * u64::from(count));
            wanted.extend_from_slice(&[0x0a, 1, b'f', 0x18, 1]);
            (0..count as usize).for_each(|i| wanted.extend_from_slice(&metric_of_gauges(i)));
            wanted.extend_from_slice(&[8 + 37, 0x0a, 4, b'n', b'e', b'x', b't', 0x18, 1]);
            wanted.extend_from_slice(&metric_of_gauges(0));
            assert!(page == wanted, "{count} gauges");
            let longest = if passes == 1 { KEPT + 100 } else { CHUNK + 100 };
            assert!(chunks.iter().all(|&chunk| chunk < longest), "{chunks:?}");
        }
    }

    #[test]
    fn a_second_pass_that_differs_from_the_first_fails_the_page() {
        let count = u32::try_from(KEPT / 37).unwrap() + 1;
        for second in [count - 1, count + 1] {
            let mut written = 0;
            let mut take = |chunk: &mut Vec<u8>| {
                written += chunk.len();
                chunk.clear();
                true
            };
            let mut out = Out::new(&mut take);
            let mut encoder = ProtobufEncoder::new(&mut out);
            encoder.family(&Family {
                name: "f",
                help: "",
                unit: "",
                kind: FamilyKind::Gauge,
                is_native: true,
                grid: Grid::default(),
            });
            gauges(&mut encoder, count);
            assert_eq!(encoder.end_family(), FamilyEnd::Again);
            gauges(&mut encoder, second);
            assert_eq!(encoder.end_family(), FamilyEnd::Written);
            encoder.end();
            assert!(encoder.is_stopped());
            assert!(written < 37 * count as usize, "no whole family leaves");
        }
    }

    #[test]
    fn varints_are_as_long_as_they_are_said_to_be() {
        for value in (0..64).flat_map(|bit| [(1 << bit) - 1, 1 << bit]).chain([u64::MAX]) {
            let mut out = Vec::new();
            out.varint(value);
            assert_eq!(out.len(), varint_len(value), "{value}");
            let read = out.iter().rev().fold(0, |read, &byte| read << 7 | u64::from(byte & 0x7f));
            assert_eq!(read, value);
        }
    }

    #[test]
    fn zigzag_alternates_between_the_signs() {
        for (value, zigzagged) in [(0, 0), (-1, 1), (1, 2), (-2, 3), (i64::MAX, u64::MAX - 1), (i64::MIN, u64::MAX)] {
            assert_eq!(zigzag(value), zigzagged);
        }
    }

    #[test]
    fn a_start_before_1970_is_unknown() {
        let names = LabelNames::default();
        let start = UNIX_EPOCH.checked_sub(Duration::from_secs(1));
        let found = metric(FamilyKind::Counter, |encoder| encoder.number(bare(&names), Number::Unsigned(1), start));
        assert_eq!(found, bytes(&[&[0x1a, 15, 0x09], &ONE, &[0x1a, 4, 0x08, 0, 0x10, 0]]));
    }
}
