//! The Prometheus text formats, 0.0.4 and 1.0.0. They differ in names only: the latter puts those in quotes that have
//! characters besides `[a-zA-Z0-9_:]`, which the former never has.

use std::time::SystemTime;

use super::escape::help;
use super::lines::{BoundStyle, Lines};
use super::{Classic, Grid};
use super::{
    Encoder, ExponentialSample, Family, FamilyEnd, FamilyKind, HistogramSample, Labels, Number, Out, SummarySample,
};

/// Writes the Prometheus text formats.
pub(crate) struct TextEncoder<'o, 'a> {
    lines: Lines<'o, 'a>,
    classic: Classic,
    grid: Grid,
}

impl<'o, 'a> TextEncoder<'o, 'a> {
    pub(crate) fn new(out: &'o mut Out<'a>) -> Self {
        Self { lines: Lines::new(out, BoundStyle::Short), classic: Classic::default(), grid: Grid::default() }
    }
}

impl Encoder for TextEncoder<'_, '_> {
    fn family(&mut self, family: &Family<'_>) {
        self.grid = family.grid;
        self.lines.family(family.name, family.name);
        if !family.help.is_empty() {
            self.lines.comment("# HELP ", family.name);
            help(family.help, false, &mut self.lines.out.buffer);
            self.lines.end_line();
        }
        self.lines.comment("# TYPE ", family.name);
        let kind = match family.kind {
            FamilyKind::Counter => "counter",
            FamilyKind::Gauge | FamilyKind::Info => "gauge",
            FamilyKind::Histogram => "histogram",
            FamilyKind::Summary => "summary",
            FamilyKind::Untyped => "untyped",
        };
        self.lines.out.buffer.extend_from_slice(kind.as_bytes());
        self.lines.end_line();
    }

    fn number(&mut self, labels: Labels<'_>, value: Number, _: Option<SystemTime>) {
        self.lines.labels(labels);
        self.lines.number(value);
    }

    fn histogram(&mut self, labels: Labels<'_>, sample: &HistogramSample<'_>, _: Option<SystemTime>) {
        self.lines.labels(labels);
        self.lines.histogram(sample, true);
    }

    fn exponential(&mut self, labels: Labels<'_>, sample: &ExponentialSample<'_>, _: Option<SystemTime>) {
        self.lines.labels(labels);
        self.lines.histogram(&self.classic.convert(sample, &self.grid), true);
    }

    fn summary(&mut self, labels: Labels<'_>, sample: &SummarySample<'_>) {
        self.lines.labels(labels);
        self.lines.summary(sample, true);
    }

    fn end_family(&mut self) -> FamilyEnd {
        FamilyEnd::Written
    }

    fn end(&mut self) {
        self.lines.out.hand_on();
    }

    fn is_stopped(&self) -> bool {
        self.lines.out.is_stopped()
    }
}
