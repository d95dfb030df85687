//! What a pipeline has at one moment: what was collected, in OpenTelemetry's terms, and the page that a scraper gets of
//! that same collection.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData, ResourceMetrics};

use super::attributes::{Attributes, pair};
use super::parser::Exposition;
use crate::error::ScrapeError;
use crate::exporter::{Asked, PrometheusExporter};
use crate::exposition::Out;
use crate::pipeline::Telemetry;
use crate::scrape::gather::{Collected, Render};
use crate::scrape::{Compression, Request};
use crate::spec::{Descriptor, Kind};

/// How long a collection may take: longer than every callback gets.
const TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct Snapshot {
    /// In OpenTelemetry's terms.
    pub(super) collected: Vec<Metric>,
    /// In the format 0.0.4.
    pub(super) page: String,
}

/// A metric of one meter, or a family of a page.
#[derive(Debug)]
pub(super) struct Metric {
    pub(super) name: String,
    /// In words: `counter`.
    pub(super) kind: String,
    /// As the instrument has it; of a page it is nothing.
    pub(super) unit: String,
    pub(super) description: String,
    /// The meter; of a page each series has its own.
    pub(super) scope: String,
    pub(super) series: Vec<Series>,
}

impl Metric {
    fn of_page(name: String, kind: String, series: Vec<Series>) -> Self {
        Self { name, kind, unit: String::new(), description: String::new(), scope: String::new(), series }
    }

    /// The series that add something up, and have.
    pub(super) fn counted(&self) -> impl Iterator<Item = String> {
        let is_sum = self.kind != "gauge";
        let counted = self.series.iter().filter(move |_| is_sum).map(|series| match &series.value {
            Value::Number(number) => (series, *number),
            Value::Distribution { count, .. } => (series, *count as f64),
        });
        counted.filter(|(_, number)| *number != 0.0).map(|(series, number)| {
            let attributes = if series.attributes.is_empty() { String::new() } else { braced(&series.attributes) };
            format!("{}{attributes} {number}", self.name)
        })
    }

    /// What is not as its spec says.
    pub(super) fn differences(&self, spec: &Descriptor, page: &str) -> Vec<String> {
        let kind = match spec.kind {
            Kind::Counter | Kind::ObservableCounter => "counter",
            Kind::UpDownCounter | Kind::ObservableUpDownCounter => "up-down counter",
            Kind::Gauge | Kind::ObservableGauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let mut differences = Vec::new();
        if self.kind != kind {
            differences.push(format!("{}: it is a {}, not a {kind}", self.name, self.kind));
        }
        if self.unit != spec.unit {
            differences.push(format!("{}: its unit is {:?}, not {:?}", self.name, self.unit, spec.unit));
        }
        if self.description != spec.description {
            let (is, said) = (&self.description, spec.description);
            differences.push(format!("{}: its description is {is:?}, not {said:?}", self.name));
        }
        let scraped = spec.scraped_name().unwrap_or_default();
        if !page
            .lines()
            .any(|line| line.strip_prefix("# TYPE ").is_some_and(|it| it.starts_with(&format!("{scraped} "))))
        {
            differences.push(format!("{}: it is not on the page as {scraped}", self.name));
        }
        differences
    }
}

#[derive(Debug, PartialEq)]
pub(super) struct Series {
    /// The meter.
    pub(super) scope: String,
    pub(super) attributes: Attributes,
    /// What a page says about the meter, which nobody has to ask for.
    pub(super) of_scope: Attributes,
    pub(super) value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Number(f64),
    Distribution {
        count: u64,
        sum: f64,
        /// Upper bounds, and how many values are at or below each. None where they are not the metric's own, in an
        /// exponential histogram, or where there are none, in a summary.
        buckets: Vec<(f64, u64)>,
    },
}

impl Snapshot {
    pub(super) fn take(telemetry: &Telemetry) -> Result<Self, ScrapeError> {
        let collected = Arc::default();
        let wanted = Box::new(Look { collected: Arc::clone(&collected) });
        let request = Request { wanted, compression: Compression::None, timeout: TIMEOUT };
        let page = telemetry.scrape_service().gatherer().page_blocking(request)?;
        let collected = std::mem::take(&mut *collected.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(Self { collected, page: String::from_utf8_lossy(&page).into_owned() })
    }
}

/// Looks at a collection on the way, and has a page made of it.
struct Look {
    collected: Arc<Mutex<Vec<Metric>>>,
}

impl Render for Look {
    fn render(&self, collected: &Collected, exporter: &PrometheusExporter, out: &mut Out<'_>) {
        *self.collected.lock().unwrap_or_else(PoisonError::into_inner) = metrics(&collected.data);
        Asked::default().render(collected, exporter, out);
    }
}

fn metrics(data: &ResourceMetrics) -> Vec<Metric> {
    let mut metrics = Vec::new();
    for scope in data.scope_metrics() {
        for metric in scope.metrics() {
            let scope = scope.scope().name();
            let (kind, mut series) = match metric.data() {
                AggregatedMetrics::F64(data) => series(data, scope, |value| value),
                AggregatedMetrics::U64(data) => series(data, scope, |value| value as f64),
                AggregatedMetrics::I64(data) => series(data, scope, |value| value as f64),
            };
            // The SDK has them in any order.
            series.sort_by(|a, b| a.attributes.cmp(&b.attributes));
            metrics.push(Metric {
                name: metric.name().to_owned(),
                kind: kind.to_owned(),
                unit: metric.unit().to_owned(),
                description: metric.description().to_owned(),
                scope: scope.to_owned(),
                series,
            });
        }
    }
    metrics.sort_by(|a, b| (&a.scope, &a.name).cmp(&(&b.scope, &b.name)));
    metrics
}

fn series<T: Copy>(data: &MetricData<T>, scope: &str, number: impl Fn(T) -> f64) -> (&'static str, Vec<Series>) {
    let one = |attributes: &mut dyn Iterator<Item = &KeyValue>, value| {
        let mut attributes: Vec<_> = attributes.cloned().map(pair).collect();
        attributes.sort();
        Series { scope: scope.to_owned(), attributes, of_scope: Vec::new(), value }
    };
    let plain = |value| Value::Number(number(value));
    match data {
        MetricData::Gauge(gauge) => {
            let points = gauge.data_points();
            ("gauge", points.map(|point| one(&mut point.attributes(), plain(point.value()))).collect())
        }
        MetricData::Sum(sum) => {
            let kind = if sum.is_monotonic() { "counter" } else { "up-down counter" };
            let points = sum.data_points();
            (kind, points.map(|point| one(&mut point.attributes(), plain(point.value()))).collect())
        }
        MetricData::Histogram(histogram) => {
            let points = histogram.data_points().map(|point| {
                let mut below = 0;
                let bounds = point.bounds().chain([f64::INFINITY]);
                let buckets = bounds.zip(point.bucket_counts()).map(|(bound, count)| {
                    below += count;
                    (bound, below)
                });
                let buckets = buckets.collect();
                let value = Value::Distribution { count: point.count(), sum: number(point.sum()), buckets };
                one(&mut point.attributes(), value)
            });
            ("histogram", points.collect())
        }
        MetricData::ExponentialHistogram(histogram) => {
            let points = histogram.data_points().map(|point| {
                let (count, sum) = (point.count() as u64, number(point.sum()));
                one(&mut point.attributes(), Value::Distribution { count, sum, buckets: Vec::new() })
            });
            ("exponential histogram", points.collect())
        }
    }
}

/// A page's families, and the parts of its histograms and summaries, each under its own name.
pub(super) fn scraped(page: &str) -> Vec<Metric> {
    let mut metrics: Vec<Metric> = Vec::new();
    for family in Exposition::read(page).families {
        let kind = family.kind.unwrap_or_else(|| "untyped".to_owned());
        let mut whole = Vec::new();
        for sample in family.samples {
            let (attributes, of_scope) = split(sample.labels);
            let scope = of_scope.iter().find(|(key, _)| key == "otel_scope_name").map(|(_, name)| name.clone());
            let scope = scope.unwrap_or_default();
            if matches!(kind.as_str(), "histogram" | "summary") && sample.name != family.name {
                let part = sample.name.strip_prefix(family.name.as_str()).unwrap_or_default();
                add_part(&mut whole, part, &scope, &attributes, &of_scope, sample.value);
            }
            let series = Series { scope, attributes, of_scope, value: Value::Number(sample.value) };
            match metrics.iter_mut().rev().find(|metric| metric.name == sample.name) {
                Some(metric) => metric.series.push(series),
                None => metrics.push(Metric::of_page(sample.name, kind.clone(), vec![series])),
            }
        }
        if !whole.is_empty() {
            metrics.push(Metric::of_page(family.name, kind, whole));
        }
    }
    metrics
}

/// A page's labels, and those among them that say which meter it is.
fn split(mut labels: Attributes) -> (Attributes, Attributes) {
    labels.sort();
    labels.into_iter().partition(|(key, _)| !key.starts_with("otel_scope_"))
}

/// Puts the parts of a distribution together again.
fn add_part(
    whole: &mut Vec<Series>,
    part: &str,
    scope: &str,
    attributes: &[(String, String)],
    of_scope: &[(String, String)],
    value: f64,
) {
    let mut attributes = attributes.to_vec();
    let bound = attributes.iter().position(|(key, _)| part == "_bucket" && key == "le");
    let bound = bound.map(|position| attributes.remove(position).1);
    let is_same = |series: &Series| series.attributes == attributes && series.of_scope == of_scope;
    let index = whole.iter().position(is_same).unwrap_or_else(|| {
        let value = Value::Distribution { count: 0, sum: 0.0, buckets: Vec::new() };
        whole.push(Series { scope: scope.to_owned(), attributes, of_scope: of_scope.to_vec(), value });
        whole.len() - 1
    });
    let Value::Distribution { count, sum, buckets } = &mut whole[index].value else { return };
    match (part, bound) {
        ("_count", _) => *count = value as u64,
        ("_sum", _) => *sum = value,
        ("_bucket", Some(bound)) => buckets.push((bound.parse().unwrap_or(f64::NAN), value as u64)),
        _ => {}
    }
}

/// Attributes in braces, `{key=value}`, in quotes what could not be told apart without.
pub(super) fn braced(attributes: &[(String, String)]) -> String {
    let is_plain = |value: &str| !value.is_empty() && !value.contains([' ', ',', '"', '{', '}', '=', '\n']);
    let shown = |value: &str| if is_plain(value) { value.to_owned() } else { format!("{value:?}") };
    let pairs: Vec<_> = attributes.iter().map(|(key, value)| format!("{key}={}", shown(value))).collect();
    format!("{{{}}}", pairs.join(", "))
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Distribution { count, sum, buckets } => {
                write!(f, "count {count}, sum {sum}")?;
                let mut below = 0;
                for (bound, count) in buckets.iter().filter(|(bound, _)| bound.is_finite()) {
                    // Those that add nothing are of no interest.
                    if *count != below {
                        write!(f, ", ≤{bound}: {count}")?;
                    }
                    below = *count;
                }
                Ok(())
            }
        }
    }
}
