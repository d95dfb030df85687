//! What the text formats share: series with their labels, histograms, numbers.

use std::time::UNIX_EPOCH;

use super::escape::{is_label_name, label_value};
use super::exemplar::Rendered;
use super::{ExemplarSample, HistogramSample, Labels, Number, Out, SummarySample, is_family_name};

/// How a format writes the value of a `le` or `quantile` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BoundStyle {
    /// `1`, as the Prometheus text format has it.
    Short,
    /// `1.0`, as OpenMetrics wants it.
    Float,
}

/// Writes the lines of one family's samples.
#[derive(Debug)]
pub(super) struct Lines<'o, 'a> {
    pub(super) out: &'o mut Out<'a>,
    style: BoundStyle,
    /// What the lines of the current family begin with: `name{`, or `{"name",` where the name needs quotes.
    plain: Vec<u8>,
    bucket: Vec<u8>,
    sum: Vec<u8>,
    count: Vec<u8>,
    created: Vec<u8>,
    /// `k="v",…` of the current sample: rendered once, written on each of its lines.
    labels: Vec<u8>,
    /// Where each label ends.
    label_ends: Vec<usize>,
    /// The exemplars of the current sample.
    exemplars: Rendered,
    /// What the lines of the current histogram's buckets begin with.
    head: Vec<u8>,
    bounds: Vec<f64>,
    /// `le="0.1"} ` of each of the bounds. Points of one instrument share them.
    rendered_bounds: Vec<Piece>,
}

/// A few bytes that are copied whole and cut to length: cheaper than a copy of a length that is not known.
#[derive(Clone, Copy, Debug)]
struct Piece {
    bytes: [u8; PIECE],
    len: usize,
}

/// Room for `le="-1.7976931348623157e308"} `.
const PIECE: usize = 32;

impl Piece {
    fn new(parts: &[&[u8]]) -> Self {
        let mut piece = Self { bytes: [0; PIECE], len: 0 };
        for part in parts {
            // What is too long cannot be: no number has more digits.
            let end = (piece.len + part.len()).min(PIECE);
            piece.bytes[piece.len..end].copy_from_slice(&part[..end - piece.len]);
            piece.len = end;
        }
        piece
    }

    #[inline]
    fn append_to(&self, out: &mut Vec<u8>) {
        let end = out.len() + self.len;
        out.extend_from_slice(&self.bytes);
        out.truncate(end);
    }
}

impl<'o, 'a> Lines<'o, 'a> {
    pub(super) fn new(out: &'o mut Out<'a>, style: BoundStyle) -> Self {
        Self {
            out,
            style,
            plain: Vec::new(),
            bucket: Vec::new(),
            sum: Vec::new(),
            count: Vec::new(),
            created: Vec::new(),
            labels: Vec::new(),
            label_ends: Vec::new(),
            exemplars: Rendered::default(),
            head: Vec::new(),
            bounds: Vec::new(),
            rendered_bounds: Vec::new(),
        }
    }

    /// Begins a family. `name` is what a plain sample is called, `stem` what `_bucket` and its like are added to.
    pub(super) fn family(&mut self, name: &str, stem: &str) {
        self.label_ends.clear();
        open(name, "", &mut self.plain);
        open(stem, "_bucket", &mut self.bucket);
        open(stem, "_sum", &mut self.sum);
        open(stem, "_count", &mut self.count);
        open(stem, "_created", &mut self.created);
    }

    /// Writes `# KEYWORD name `, and the name in quotes where it needs them.
    pub(super) fn comment(&mut self, keyword: &str, name: &str) {
        let out = &mut self.out.buffer;
        out.extend_from_slice(keyword.as_bytes());
        if is_family_name(name) {
            out.extend_from_slice(name.as_bytes());
        } else {
            quoted(name, "", out);
        }
        out.push(b' ');
    }

    /// Renders the labels of the next sample, those that differ from the last one's.
    pub(super) fn labels(&mut self, labels: Labels<'_>) {
        let same = labels.same.min(self.label_ends.len());
        self.label_ends.truncate(same);
        self.labels.truncate(self.label_ends.last().copied().unwrap_or(0));
        for label in &labels.labels[same..] {
            if !self.labels.is_empty() {
                self.labels.push(b',');
            }
            self.labels.extend_from_slice(labels.names.text(label.name).as_bytes());
            label_value(&label.value, &mut self.labels);
            self.labels.push(b'"');
            self.label_ends.push(self.labels.len());
        }
    }

    /// Renders the exemplars of the next sample.
    pub(super) fn exemplars(&mut self, exemplars: &[ExemplarSample<'_>]) {
        self.exemplars.set(exemplars, exemplar);
    }

    pub(super) fn number(&mut self, value: Number) {
        series(&self.plain, &self.labels, &mut self.out.buffer);
        number(value, &mut self.out.buffer);
        self.exemplar(f64::NEG_INFINITY, f64::INFINITY);
        self.exemplars.clear();
        self.end_line();
    }

    /// Writes the latest exemplar above one bound and not above the next, if there is one.
    fn exemplar(&mut self, above: f64, bound: f64) {
        if let Some(text) = self.exemplars.latest_between(above, bound) {
            self.out.buffer.extend_from_slice(text);
        }
    }

    /// Writes the buckets of a histogram, its sum and its count; the latter two only where `totals` says so.
    pub(super) fn histogram(&mut self, sample: &HistogramSample<'_>, totals: bool) {
        self.render_bounds(sample.bounds);
        self.head.clear();
        head(&self.bucket, &self.labels, &mut self.head);
        if !self.exemplars.is_empty() {
            self.buckets_with_exemplars(sample);
            if totals {
                self.totals(sample.sum, sample.count);
            }
            return;
        }
        let (mut last, mut digits) = (0, Piece::new(&[b"0\n"]));
        for (&cumulative, bound) in sample.cumulative.iter().zip(&self.rendered_bounds) {
            if cumulative != last {
                (last, digits) = (cumulative, Piece::new(&[itoa::Buffer::new().format(cumulative).as_bytes(), b"\n"]));
            }
            let out = &mut self.out.buffer;
            out.extend_from_slice(&self.head);
            bound.append_to(out);
            digits.append_to(out);
            self.out.hand_on_if_full();
        }
        self.out.buffer.extend_from_slice(&self.head);
        self.out.buffer.extend_from_slice(b"le=\"+Inf\"} ");
        integer(sample.count, &mut self.out.buffer);
        self.end_line();
        if totals {
            self.totals(sample.sum, sample.count);
        }
    }

    /// The buckets of a histogram of which some have an exemplar.
    fn buckets_with_exemplars(&mut self, sample: &HistogramSample<'_>) {
        let mut above = f64::NEG_INFINITY;
        for (index, (&bound, &cumulative)) in sample.bounds.iter().zip(sample.cumulative).enumerate() {
            let out = &mut self.out.buffer;
            out.extend_from_slice(&self.head);
            self.rendered_bounds[index].append_to(out);
            integer(cumulative, out);
            self.exemplar(above, bound);
            self.end_line();
            above = bound;
        }
        self.out.buffer.extend_from_slice(&self.head);
        self.out.buffer.extend_from_slice(b"le=\"+Inf\"} ");
        integer(sample.count, &mut self.out.buffer);
        self.exemplar(above, f64::INFINITY);
        self.exemplars.clear();
        self.end_line();
    }

    /// Writes the quantiles of a summary, its sum and its count; the latter two only where `totals` says so.
    pub(super) fn summary(&mut self, sample: &SummarySample<'_>, totals: bool) {
        for &(quantile, value) in sample.quantiles {
            let out = &mut self.out.buffer;
            head(&self.plain, &self.labels, out);
            out.extend_from_slice(b"quantile=\"");
            bound(quantile, self.style, out);
            out.extend_from_slice(b"\"} ");
            float(value, out);
            self.end_line();
        }
        if totals {
            self.totals(Number::Float(sample.sum), sample.count);
        }
    }

    /// Writes when the sample began to count, in seconds since 1970.
    pub(super) fn created(&mut self, seconds: f64) {
        series(&self.created, &self.labels, &mut self.out.buffer);
        float(seconds, &mut self.out.buffer);
        self.end_line();
    }

    fn totals(&mut self, sum: Number, count: u64) {
        let out = &mut self.out.buffer;
        series(&self.sum, &self.labels, out);
        number(sum, out);
        out.push(b'\n');
        series(&self.count, &self.labels, out);
        integer(count, out);
        self.end_line();
    }

    pub(super) fn end_line(&mut self) {
        self.out.buffer.push(b'\n');
        self.out.hand_on_if_full();
    }

    fn render_bounds(&mut self, bounds: &[f64]) {
        if self.bounds == bounds {
            return;
        }
        self.bounds.clear();
        self.bounds.extend_from_slice(bounds);
        self.rendered_bounds.clear();
        let mut text = Vec::new();
        self.rendered_bounds.extend(bounds.iter().map(|&value| {
            text.clear();
            bound(value, self.style, &mut text);
            Piece::new(&[b"le=\"", &text, b"\"} "])
        }));
    }
}

/// Writes ` # {trace_id="…",span_id="…"} value time`.
fn exemplar(exemplar: &ExemplarSample<'_>, text: &mut Vec<u8>) {
    text.extend_from_slice(b" # {");
    for (index, (name, value)) in exemplar.labels().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        if is_label_name(name) {
            text.extend_from_slice(name.as_bytes());
        } else {
            quoted(name, "", text);
        }
        text.extend_from_slice(b"=\"");
        label_value(value, text);
        text.push(b'"');
    }
    text.extend_from_slice(b"} ");
    number(exemplar.value, text);
    text.push(b' ');
    // To the millisecond, as Prometheus has times.
    float(exemplar.time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as f64 / 1e3, text);
}

/// What the lines of a series begin with.
fn open(name: &str, suffix: &str, out: &mut Vec<u8>) {
    out.clear();
    if is_family_name(name) {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(suffix.as_bytes());
        out.push(b'{');
    } else {
        out.push(b'{');
        quoted(name, suffix, out);
        out.push(b',');
    }
}

fn quoted(name: &str, suffix: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    label_value(name, out);
    out.extend_from_slice(suffix.as_bytes());
    out.push(b'"');
}

/// Writes `name{labels} `, or without labels `name ` or `{"name"} `.
fn series(open: &[u8], labels: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(open);
    if labels.is_empty() {
        out.pop();
        out.extend_from_slice(if open[0] == b'{' { b"} " } else { b" " });
    } else {
        out.extend_from_slice(labels);
        out.extend_from_slice(b"} ");
    }
}

/// Writes `name{labels,` up to where the series' own label follows.
fn head(open: &[u8], labels: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(open);
    if !labels.is_empty() {
        out.extend_from_slice(labels);
        out.push(b',');
    }
}

fn integer(value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn number(value: Number, out: &mut Vec<u8>) {
    match value {
        Number::Unsigned(value) => integer(value, out),
        Number::Signed(value) => out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes()),
        Number::Float(value) => float(value, out),
    }
}

fn bound(value: f64, style: BoundStyle, out: &mut Vec<u8>) {
    let start = out.len();
    float(value, out);
    let is_whole = |text: &[u8]| text.iter().all(|byte| byte.is_ascii_digit() || *byte == b'-');
    if style == BoundStyle::Float && is_whole(&out[start..]) {
        out.extend_from_slice(b".0");
    }
}

/// Writes the shortest decimal that reads back as the same value; a whole number without a fraction.
fn float(value: f64, out: &mut Vec<u8>) {
    if value.is_nan() {
        out.extend_from_slice(b"NaN");
    } else if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"+Inf" } else { b"-Inf" });
    } else {
        let mut buffer = ryu::Buffer::new();
        let digits = buffer.format_finite(value).as_bytes();
        out.extend_from_slice(digits.strip_suffix(b".0").unwrap_or(digits));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_read_back_as_the_same_value() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (0.1, "0.1"),
            (2.5, "2.5"),
            (1e21, "1e21"),
            (1e-7, "1e-7"),
            (123_456_789.0, "123456789"),
            (f64::MAX, "1.7976931348623157e308"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            let mut out = Vec::new();
            float(value, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), text);
            if value.is_finite() {
                assert_eq!(text.parse::<f64>().unwrap().to_bits(), value.to_bits());
            }
        }
        let mut out = Vec::new();
        float(f64::NAN, &mut out);
        assert_eq!(out, b"NaN");
    }

    #[test]
    fn integers_keep_all_their_digits() {
        let mut out = Vec::new();
        number(Number::Unsigned(u64::MAX), &mut out);
        out.push(b' ');
        number(Number::Signed(i64::MIN), &mut out);
        assert_eq!(out, b"18446744073709551615 -9223372036854775808");
    }

    #[test]
    fn bounds_are_written_as_their_format_has_them() {
        for (value, short, long) in
            [(1.0, "1", "1.0"), (-2.0, "-2", "-2.0"), (0.5, "0.5", "0.5"), (1e30, "1e30", "1e30")]
        {
            for (style, text) in [(BoundStyle::Short, short), (BoundStyle::Float, long)] {
                let mut out = Vec::new();
                bound(value, style, &mut out);
                assert_eq!(String::from_utf8(out).unwrap(), text);
            }
        }
    }

    #[test]
    fn the_longest_bound_and_the_longest_count_fit_into_a_piece() {
        for value in [-f64::MIN_POSITIVE, -f64::MAX, f64::from_bits(1)] {
            let mut text = Vec::new();
            bound(value, BoundStyle::Float, &mut text);
            let piece = Piece::new(&[b"le=\"", &text, b"\"} "]);
            assert_eq!(piece.len, text.len() + 7, "{value}");
        }
        assert_eq!(Piece::new(&[u64::MAX.to_string().as_bytes(), b"\n"]).len, 21);
    }
}
