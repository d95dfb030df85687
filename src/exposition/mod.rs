//! From families and samples to the bytes that a scraper reads. Pure: no I/O, no SDK types.
//!
//! The exporter walks the collected data once and hands borrowed families and samples to an [`Encoder`]; there is one
//! encoder for each format. Names, units and labels are translated by the same rules whatever the format: the
//! [`TranslationStrategy`] of the pipeline first, then the [`Escaping`] that the scraper asked for.
//!
//! Specification: "OTLP Metric points to Prometheus" in the OpenTelemetry compatibility document, and the Prometheus
//! exposition formats.

mod escape;
mod exemplar;
mod exponential;
mod label;
mod lines;
mod name;
mod negotiate;
mod openmetrics;
mod out;
mod protobuf;
mod text;
mod unit;

use std::time::SystemTime;

pub(crate) use escape::{Escaping, is_family_name};
pub(crate) use exemplar::ExemplarSample;
pub(crate) use exponential::{Classic, Grid};
pub(crate) use label::{Label, LabelNames, Labels, label_name};
pub use name::TranslationStrategy;
pub(crate) use name::{MetricName, NameKind, NameStory, Naming, scraped_kinds};
pub(crate) use negotiate::{Format, Syntax, negotiate};
pub(crate) use openmetrics::{OpenMetricsEncoder, open_metrics_name};
pub(crate) use out::{CHUNK, Out};
pub(crate) use protobuf::ProtobufEncoder;
pub(crate) use text::TextEncoder;

/// The family that says who is measured: the exporter's own, once a page.
pub(crate) const TARGET_INFO: &str = "target_info";

/// The type of a metric family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FamilyKind {
    Counter,
    Gauge,
    Histogram,
    /// Facts as labels of a sample that is always 1. A gauge where the format has no such type.
    Info,
    Summary,
    Untyped,
}

/// The metadata of a family.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Family<'a> {
    /// The name that the series carry, `_total` and `_info` included, as it is written: escaped already.
    pub(crate) name: &'a str,
    /// Empty where nobody described the metric.
    pub(crate) help: &'a str,
    /// The unit as a word, which the name (without `_total`) ends with after an underscore; empty where it does not.
    pub(crate) unit: &'a str,
    pub(crate) kind: FamilyKind,
    /// Whether all of its samples are exponential histograms. Prometheus takes a family's histograms to be of one sort, so
    /// those of a mixed one are native in no format, and neither are those that are coarser than any native one.
    pub(crate) is_native: bool,
    /// The bounds of exponential histograms where they are not native.
    pub(crate) grid: Grid,
}

/// A value as it was recorded: integers keep all their digits.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Number {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
}

impl Number {
    fn as_f64(self) -> f64 {
        match self {
            Self::Unsigned(value) => value as f64,
            Self::Signed(value) => value as f64,
            Self::Float(value) => value,
        }
    }
}

/// One histogram with explicit buckets.
#[derive(Debug)]
pub(crate) struct HistogramSample<'a> {
    /// The upper bounds, strictly ascending, finite, without the infinite one.
    pub(crate) bounds: &'a [f64],
    /// How many values fell at or below each bound, cumulative; as many as there are bounds.
    pub(crate) cumulative: &'a [u64],
    pub(crate) count: u64,
    pub(crate) sum: Number,
}

/// One histogram with exponential buckets, as OpenTelemetry has them.
#[derive(Debug)]
pub(crate) struct ExponentialSample<'a> {
    /// The bucket of index `i` holds what is above `base^i` and at most `base^(i+1)`, where `base = 2^(2^-scale)`.
    pub(crate) scale: i8,
    pub(crate) count: u64,
    pub(crate) sum: Number,
    pub(crate) zero_count: u64,
    /// Values that are no further from 0 are counted as 0; 0 where nobody said so.
    pub(crate) zero_threshold: f64,
    pub(crate) positive: ExponentialBuckets<'a>,
    /// The same for absolute values of what is below 0.
    pub(crate) negative: ExponentialBuckets<'a>,
}

/// The counts of neighbouring buckets, not cumulative.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExponentialBuckets<'a> {
    /// The index of the first.
    pub(crate) offset: i32,
    pub(crate) counts: &'a [u64],
}

/// One summary: quantiles measured by somebody else.
#[derive(Debug)]
pub(crate) struct SummarySample<'a> {
    /// Quantile and value.
    pub(crate) quantiles: &'a [(f64, f64)],
    pub(crate) count: u64,
    pub(crate) sum: f64,
}

/// Whether an encoder has what it needs of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum FamilyEnd {
    Written,
    /// The format says how long a family is before the family, and this one was too long to be kept: give every sample
    /// of it once more, the same ones in the same order.
    Again,
}

/// Writes one exposition format: a family, its samples, the end of the family, then the next; at last the end.
///
/// The labels of a sample are sorted by name. `start` is when a counter or histogram began to count.
pub(crate) trait Encoder {
    fn family(&mut self, family: &Family<'_>);
    /// The exemplars of the sample that is given next, where it has any: of a counter one, of a histogram any that lie in
    /// its buckets. Formats without exemplars show none.
    fn exemplars(&mut self, _exemplars: &[ExemplarSample<'_>]) {}
    fn number(&mut self, labels: Labels<'_>, value: Number, start: Option<SystemTime>);
    fn histogram(&mut self, labels: Labels<'_>, sample: &HistogramSample<'_>, start: Option<SystemTime>);
    fn exponential(&mut self, labels: Labels<'_>, sample: &ExponentialSample<'_>, start: Option<SystemTime>);
    fn summary(&mut self, labels: Labels<'_>, sample: &SummarySample<'_>);
    fn end_family(&mut self) -> FamilyEnd;
    /// Ends the page and hands on what is left of it.
    fn end(&mut self);
    /// Whether nobody takes the bytes any more: what follows is not needed.
    fn is_stopped(&self) -> bool;
}
