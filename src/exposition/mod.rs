//! From families and samples to the bytes that a scraper reads. Pure: no I/O, no SDK types.
//!
//! The exporter walks the collected data once and hands borrowed families and samples to an [`Encoder`]; there is one
//! encoder for each format. Names, units and labels are translated by the same rules whatever the format.
//!
//! Specification: "OTLP Metric points to Prometheus" in the OpenTelemetry compatibility document, and the Prometheus
//! exposition formats.

mod escape;
mod label;
mod name;
mod text;
mod unit;

pub(crate) use label::{Label, LabelNames, Labels, label_name};
pub(crate) use name::{NameKind, is_family_name, metric_name, scraped_kinds};
pub(crate) use text::{CONTENT_TYPE, TextEncoder};

/// The family that says who is measured: the exporter's own, once a page.
pub(crate) const TARGET_INFO: &str = "target_info";

/// The type of a metric family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FamilyKind {
    Counter,
    Gauge,
    Histogram,
    Summary,
    Untyped,
}

impl FamilyKind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
            Self::Untyped => "untyped",
        }
    }

    /// What the names of the family's series add to its own. Another family must not be called so.
    pub(crate) const fn series_suffixes(self) -> &'static [&'static str] {
        match self {
            Self::Histogram => &["_bucket", "_sum", "_count"],
            Self::Summary => &["_sum", "_count"],
            Self::Counter | Self::Gauge | Self::Untyped => &[],
        }
    }
}

/// The metadata of a family. The name is the one that the series carry.
pub(crate) struct Family<'a> {
    pub(crate) name: &'a str,
    /// Empty where nobody described the metric.
    pub(crate) help: &'a str,
    pub(crate) kind: FamilyKind,
}

/// A value as it was recorded: integers keep all their digits.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Number {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
}

/// One histogram with explicit buckets.
pub(crate) struct HistogramSample<'a> {
    /// The upper bounds, ascending, without the infinite one.
    pub(crate) bounds: &'a [f64],
    /// How many values fell at or below each bound, cumulative; as many as there are bounds.
    pub(crate) cumulative: &'a [u64],
    pub(crate) count: u64,
    pub(crate) sum: Number,
}

/// One summary: quantiles measured by somebody else.
pub(crate) struct SummarySample<'a> {
    /// Quantile and value.
    pub(crate) quantiles: &'a [(f64, f64)],
    pub(crate) count: u64,
    pub(crate) sum: f64,
}

/// Writes one exposition format. A family comes first, then its samples, each with its labels sorted by name.
pub(crate) trait Encoder {
    fn family(&mut self, family: &Family<'_>);
    fn number(&mut self, labels: Labels<'_>, value: Number);
    fn histogram(&mut self, labels: Labels<'_>, sample: &HistogramSample<'_>);
    fn summary(&mut self, labels: Labels<'_>, sample: &SummarySample<'_>);
}
