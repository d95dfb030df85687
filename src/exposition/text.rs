//! The Prometheus text format 0.0.4.

use super::escape::{help, label_value};
use super::{Encoder, Family, HistogramSample, Labels, Number, SummarySample};

/// What the endpoint says it sends. The format and its version decide how Prometheus parses.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Appends text format 0.0.4 to a buffer.
pub(crate) struct TextEncoder<'a> {
    out: &'a mut Vec<u8>,
    /// The name of the current family.
    name: String,
    /// `k="v",…` of the current sample: rendered once, written on each of its lines.
    labels: Vec<u8>,
    /// What the lines of a histogram's buckets begin with.
    bucket: Vec<u8>,
    /// `le="0.1"} ` for each bound of the last histogram, one after the other. Points of one instrument share bounds.
    bounds: Vec<f64>,
    rendered_bounds: Vec<u8>,
    bound_ends: Vec<usize>,
}

impl<'a> TextEncoder<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        Self {
            out,
            name: String::new(),
            labels: Vec::new(),
            bucket: Vec::new(),
            bounds: Vec::new(),
            rendered_bounds: Vec::new(),
            bound_ends: Vec::new(),
        }
    }

    fn render_labels(&mut self, labels: Labels<'_>) {
        self.labels.clear();
        for (name, value) in labels.iter() {
            if !self.labels.is_empty() {
                self.labels.push(b',');
            }
            self.labels.extend_from_slice(name.as_bytes());
            self.labels.extend_from_slice(b"=\"");
            label_value(value, &mut self.labels);
            self.labels.push(b'"');
        }
    }

    /// Writes `name_suffix{labels} ` of the sample whose labels are rendered.
    fn series(&mut self, suffix: &str) {
        self.out.extend_from_slice(self.name.as_bytes());
        self.out.extend_from_slice(suffix.as_bytes());
        if self.labels.is_empty() {
            self.out.push(b' ');
        } else {
            self.out.push(b'{');
            self.out.extend_from_slice(&self.labels);
            self.out.extend_from_slice(b"} ");
        }
    }

    fn count(&mut self, value: u64) {
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        self.out.push(b'\n');
    }

    fn render_bounds(&mut self, bounds: &[f64]) {
        if self.bounds == bounds {
            return;
        }
        self.bounds.clear();
        self.bounds.extend_from_slice(bounds);
        self.rendered_bounds.clear();
        self.bound_ends.clear();
        for &bound in bounds {
            self.rendered_bounds.extend_from_slice(b"le=\"");
            float(bound, &mut self.rendered_bounds);
            self.rendered_bounds.extend_from_slice(b"\"} ");
            self.bound_ends.push(self.rendered_bounds.len());
        }
    }
}

impl Encoder for TextEncoder<'_> {
    fn family(&mut self, family: &Family<'_>) {
        self.name.clear();
        self.name.push_str(family.name);
        if !family.help.is_empty() {
            self.out.extend_from_slice(b"# HELP ");
            self.out.extend_from_slice(family.name.as_bytes());
            self.out.push(b' ');
            help(family.help, self.out);
            self.out.push(b'\n');
        }
        self.out.extend_from_slice(b"# TYPE ");
        self.out.extend_from_slice(family.name.as_bytes());
        self.out.push(b' ');
        self.out.extend_from_slice(family.kind.as_str().as_bytes());
        self.out.push(b'\n');
    }

    fn number(&mut self, labels: Labels<'_>, value: Number) {
        self.render_labels(labels);
        self.series("");
        number(value, self.out);
        self.out.push(b'\n');
    }

    fn histogram(&mut self, labels: Labels<'_>, sample: &HistogramSample<'_>) {
        self.render_labels(labels);
        self.render_bounds(sample.bounds);
        self.bucket.clear();
        own_label(&self.name, "_bucket", &self.labels, &mut self.bucket);
        let mut start = 0;
        for (&cumulative, &end) in sample.cumulative.iter().zip(&self.bound_ends) {
            self.out.extend_from_slice(&self.bucket);
            self.out.extend_from_slice(&self.rendered_bounds[start..end]);
            self.out.extend_from_slice(itoa::Buffer::new().format(cumulative).as_bytes());
            self.out.push(b'\n');
            start = end;
        }
        self.out.extend_from_slice(&self.bucket);
        self.out.extend_from_slice(b"le=\"+Inf\"} ");
        self.count(sample.count);
        self.series("_sum");
        number(sample.sum, self.out);
        self.out.push(b'\n');
        self.series("_count");
        self.count(sample.count);
    }

    fn summary(&mut self, labels: Labels<'_>, sample: &SummarySample<'_>) {
        self.render_labels(labels);
        for &(quantile, value) in sample.quantiles {
            own_label(&self.name, "", &self.labels, self.out);
            self.out.extend_from_slice(b"quantile=\"");
            float(quantile, self.out);
            self.out.extend_from_slice(b"\"} ");
            float(value, self.out);
            self.out.push(b'\n');
        }
        self.series("_sum");
        float(sample.sum, self.out);
        self.out.push(b'\n');
        self.series("_count");
        self.count(sample.count);
    }
}

/// Writes `name_suffix{labels,` up to where the series' own label follows.
fn own_label(name: &str, suffix: &str, labels: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(suffix.as_bytes());
    out.push(b'{');
    if !labels.is_empty() {
        out.extend_from_slice(labels);
        out.push(b',');
    }
}

fn number(value: Number, out: &mut Vec<u8>) {
    match value {
        Number::Unsigned(value) => out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes()),
        Number::Signed(value) => out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes()),
        Number::Float(value) => float(value, out),
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
}
