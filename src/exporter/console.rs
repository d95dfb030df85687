//! Writes metrics to standard output, for people.
//!
//! Specification: "Metrics Exporter - Standard output". The format is for reading and may change.

use std::fmt::{self, Display, Write as _};
use std::io::{self, Write as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::KeyValue;
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::{
    AggregatedMetrics, ExponentialHistogramDataPoint, HistogramDataPoint, Metric, MetricData, ResourceMetrics,
};

use super::{Again, Exported, Failure, Reason, points};

/// Writes one block for each export.
#[derive(Debug)]
pub(crate) struct ConsoleExporter;

impl ConsoleExporter {
    pub(super) fn export(&self, data: &ResourceMetrics, exported: &mut Exported) -> Result<(), Failure> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let block = Block { data, now }.to_string();
        let mut out = io::stdout().lock();
        out.write_all(block.as_bytes()).and_then(|()| out.flush()).map_err(|error| Failure {
            reason: Reason::Io,
            message: format!("cannot write: {error}"),
            again: Again::Later(None),
        })?;
        exported.add(points(data), 0, String::new());
        Ok(())
    }
}

struct Block<'a> {
    data: &'a ResourceMetrics,
    now: Duration,
}

impl Display for Block<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "metrics at {} of", self.now.as_secs())?;
        for (key, value) in self.data.resource() {
            write!(f, " {key}={value}")?;
        }
        f.write_char('\n')?;
        for scope in self.data.scope_metrics() {
            write!(f, "  {}", scope.scope().name())?;
            if let Some(version) = scope.scope().version() {
                write!(f, " {version}")?;
            }
            f.write_char('\n')?;
            for metric in scope.metrics() {
                metric_lines(f, metric)?;
            }
        }
        Ok(())
    }
}

fn metric_lines(f: &mut fmt::Formatter<'_>, metric: &Metric) -> fmt::Result {
    match metric.data() {
        AggregatedMetrics::F64(data) => lines(f, metric, data),
        AggregatedMetrics::U64(data) => lines(f, metric, data),
        AggregatedMetrics::I64(data) => lines(f, metric, data),
    }
}

fn lines<T: Display + Copy>(f: &mut fmt::Formatter<'_>, metric: &Metric, data: &MetricData<T>) -> fmt::Result {
    let unit = if metric.unit().is_empty() { String::new() } else { format!(" [{}]", metric.unit()) };
    let mut head = |kind: &str, temporality: Option<Temporality>| {
        let since = match temporality {
            Some(Temporality::Delta) => ", since the export before",
            _ => "",
        };
        writeln!(f, "    {}{unit} ({kind}{since})", metric.name())
    };
    match data {
        MetricData::Gauge(gauge) => {
            head("gauge", None)?;
            gauge.data_points().try_for_each(|point| line(f, point.attributes(), &point.value()))
        }
        MetricData::Sum(sum) => {
            head(if sum.is_monotonic() { "counter" } else { "up-down counter" }, Some(sum.temporality()))?;
            sum.data_points().try_for_each(|point| line(f, point.attributes(), &point.value()))
        }
        MetricData::Histogram(histogram) => {
            head("histogram", Some(histogram.temporality()))?;
            histogram.data_points().try_for_each(|point| line(f, point.attributes(), &Explicit(point)))
        }
        MetricData::ExponentialHistogram(histogram) => {
            head("exponential histogram", Some(histogram.temporality()))?;
            histogram.data_points().try_for_each(|point| line(f, point.attributes(), &Exponential(point)))
        }
    }
}

fn line<'a>(
    f: &mut fmt::Formatter<'_>,
    attributes: impl Iterator<Item = &'a KeyValue>,
    value: &dyn Display,
) -> fmt::Result {
    f.write_str("      ")?;
    for KeyValue { key, value, .. } in attributes {
        // A value is anything a program recorded: it stays on its line.
        write!(f, "{key}={} ", value.as_str().escape_debug())?;
    }
    writeln!(f, "{value}")
}

struct Explicit<'a, T>(&'a HistogramDataPoint<T>);

impl<T: Display + Copy> Display for Explicit<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(point) = self;
        write!(f, "count {} sum {}", point.count(), point.sum())?;
        min_max(f, point.count() as usize, point.min(), point.max())?;
        let bounds = point.bounds().map(|bound| format!("≤{bound}")).chain(["more".to_owned()]);
        for (bound, count) in bounds.zip(point.bucket_counts()).filter(|(_, count)| *count > 0) {
            write!(f, " | {bound}: {count}")?;
        }
        Ok(())
    }
}

struct Exponential<'a, T>(&'a ExponentialHistogramDataPoint<T>);

impl<T: Display + Copy> Display for Exponential<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(point) = self;
        write!(f, "count {} sum {}", point.count(), point.sum())?;
        min_max(f, point.count(), point.min(), point.max())?;
        let base = 2f64.powf(2f64.powi(-i32::from(point.scale())));
        if point.zero_count() > 0 {
            write!(f, " | 0: {}", point.zero_count())?;
        }
        let buckets = point.positive_bucket();
        for (index, count) in (buckets.offset()..).zip(buckets.counts()).filter(|(_, count)| *count > 0) {
            write!(f, " | ≤{:.4}: {count}", base.powi(index.saturating_add(1)))?;
        }
        let buckets = point.negative_bucket();
        for (index, count) in (buckets.offset()..).zip(buckets.counts()).filter(|(_, count)| *count > 0) {
            write!(f, " | ≥-{:.4}: {count}", base.powi(index.saturating_add(1)))?;
        }
        Ok(())
    }
}

/// The least and the most, if there was anything: of nothing the SDK has the ends of its numbers.
fn min_max<T: Display>(f: &mut fmt::Formatter<'_>, count: usize, min: Option<T>, max: Option<T>) -> fmt::Result {
    if let (1.., Some(min), Some(max)) = (count, min, max) {
        write!(f, " min {min} max {max}")?;
    }
    Ok(())
}
