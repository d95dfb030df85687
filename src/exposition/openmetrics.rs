//! OpenMetrics text, 1.0.0 and 0.0.1, which differ in nothing that is written here.
//!
//! Specification: OpenMetrics 1.0, "Text format". It forbids what the Prometheus formats allow: sums of histograms with
//! negative buckets, negative or undefined sums, and counters that are not called `_total`. The former are left out (with
//! the count, which must come and go with the sum; the infinite bucket still says it), the latter are of unknown type.

use std::time::{SystemTime, UNIX_EPOCH};

use super::escape::help;
use super::lines::{BoundStyle, Lines};
use super::{Classic, Grid};
use super::{
    Encoder, ExemplarSample, ExponentialSample, Family, FamilyEnd, FamilyKind, HistogramSample, Labels, Number, Out,
    SummarySample,
};

/// Writes OpenMetrics text.
pub(crate) struct OpenMetricsEncoder<'o, 'a> {
    lines: Lines<'o, 'a>,
    classic: Classic,
    grid: Grid,
    /// Whether `_created` series are written.
    created: bool,
    kind: FamilyKind,
}

impl<'o, 'a> OpenMetricsEncoder<'o, 'a> {
    pub(crate) fn new(out: &'o mut Out<'a>, created: bool) -> Self {
        let lines = Lines::new(out, BoundStyle::Float);
        Self { lines, classic: Classic::default(), grid: Grid::default(), created, kind: FamilyKind::Untyped }
    }

    fn created(&mut self, start: Option<SystemTime>) {
        let has_start = matches!(self.kind, FamilyKind::Counter | FamilyKind::Histogram);
        let since_1970 = start.and_then(|start| start.duration_since(UNIX_EPOCH).ok());
        if let Some(since_1970) = since_1970.filter(|_| self.created && has_start) {
            self.lines.created(since_1970.as_millis() as f64 / 1e3);
        }
    }
}

/// How OpenMetrics calls a family of this name and kind, and of which type it says that it is. What a counter's or an
/// info's series end with is not part of its name.
pub(crate) fn open_metrics_name(name: &str, kind: FamilyKind) -> (&str, FamilyKind) {
    let suffix = match kind {
        FamilyKind::Counter => "_total",
        FamilyKind::Info => "_info",
        _ => return (name, kind),
    };
    match name.strip_suffix(suffix) {
        Some(stem) if !stem.is_empty() => (stem, kind),
        _ => (name, FamilyKind::Untyped),
    }
}

/// Whether a sum may be said: it counts, so it is a number, and not below 0.
fn counts(sum: Number) -> bool {
    match sum {
        Number::Unsigned(_) => true,
        Number::Signed(sum) => sum >= 0,
        Number::Float(sum) => sum >= 0.0,
    }
}

impl Encoder for OpenMetricsEncoder<'_, '_> {
    fn family(&mut self, family: &Family<'_>) {
        let (name, kind) = open_metrics_name(family.name, family.kind);
        self.kind = kind;
        self.grid = family.grid;
        self.lines.family(family.name, name);
        self.lines.comment("# TYPE ", name);
        let kind = match kind {
            FamilyKind::Counter => "counter",
            FamilyKind::Gauge => "gauge",
            FamilyKind::Histogram => "histogram",
            FamilyKind::Info => "info",
            FamilyKind::Summary => "summary",
            FamilyKind::Untyped => "unknown",
        };
        self.lines.out.buffer.extend_from_slice(kind.as_bytes());
        self.lines.end_line();
        // A counter without its type keeps `_total` in its name, which then does not end with the unit.
        if !family.unit.is_empty() && name.ends_with(family.unit) {
            self.lines.comment("# UNIT ", name);
            self.lines.out.buffer.extend_from_slice(family.unit.as_bytes());
            self.lines.end_line();
        }
        if !family.help.is_empty() {
            self.lines.comment("# HELP ", name);
            help(family.help, true, &mut self.lines.out.buffer);
            self.lines.end_line();
        }
    }

    fn exemplars(&mut self, exemplars: &[ExemplarSample<'_>]) {
        // The format has them for the totals of counters and for buckets.
        if matches!(self.kind, FamilyKind::Counter | FamilyKind::Histogram) {
            self.lines.exemplars(exemplars);
        }
    }

    fn number(&mut self, labels: Labels<'_>, value: Number, start: Option<SystemTime>) {
        self.lines.labels(labels);
        self.lines.number(value);
        self.created(start);
    }

    fn histogram(&mut self, labels: Labels<'_>, sample: &HistogramSample<'_>, start: Option<SystemTime>) {
        self.lines.labels(labels);
        let has_negative_buckets = sample.bounds.first().is_some_and(|&bound| bound < 0.0);
        self.lines.histogram(sample, !has_negative_buckets && counts(sample.sum));
        self.created(start);
    }

    fn exponential(&mut self, labels: Labels<'_>, sample: &ExponentialSample<'_>, start: Option<SystemTime>) {
        self.lines.labels(labels);
        let sample = self.classic.convert(sample, &self.grid);
        let has_negative_buckets = sample.bounds.first().is_some_and(|&bound| bound < 0.0);
        self.lines.histogram(&sample, !has_negative_buckets && counts(sample.sum));
        self.created(start);
    }

    fn summary(&mut self, labels: Labels<'_>, sample: &SummarySample<'_>) {
        self.lines.labels(labels);
        self.lines.summary(sample, counts(Number::Float(sample.sum)));
    }

    fn end_family(&mut self) -> FamilyEnd {
        FamilyEnd::Written
    }

    fn end(&mut self) {
        self.lines.out.buffer.extend_from_slice(b"# EOF\n");
        self.lines.out.hand_on();
    }

    fn is_stopped(&self) -> bool {
        self.lines.out.is_stopped()
    }
}
