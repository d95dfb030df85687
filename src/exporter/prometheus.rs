//! The walk from collected data to an exposition encoder.
//!
//! One pass finds the families: every metric with its scraped name, sorted. A second pass takes them one after the
//! other: labels are translated, points sorted, and what Prometheus could not read is left out and counted.
//!
//! The rules, where metrics meet under one scraped name:
//!
//! - The order is by original name, then by meter; the metrics of a merged registry come last. It never changes, so the
//!   same metric wins in every scrape.
//! - A metric of another type than the first one is dropped, and so is one whose name is a series of a histogram.
//! - Of several descriptions the first is kept; the points of all of them are.
//! - Of points with the same labels the first is kept. (Of one metric's own points whose attributes differ in nothing
//!   but the type of a value, which comes first is the SDK's map order.)
//!
//! Specification: "OTLP Metric points to Prometheus" in "Prometheus and OpenMetrics compatibility".

mod labels;
mod points;
mod sample;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use opentelemetry::InstrumentationScope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, Metric, MetricData, ResourceMetrics};
use prometheus::proto::{MetricFamily, MetricType};

use crate::exposition::{
    Encoder, Family, FamilyKind, LabelNames, NameKind, Number, TARGET_INFO, is_family_name, metric_name,
};
use crate::self_metrics::{DropReason, SelfMetrics};
use labels::{ScopeLabels, Shapes};
use points::Points;
use sample::{Samples, Value, count_points, push_metric, registry_value};

/// Label names and scraped names that one program can have before the caches begin anew. Names come from code; more of
/// them than this means that somebody makes them at run time, and they must not pile up.
const MAX_CACHED_NAMES: usize = 10_000;

/// Walks collected data into an encoder. Keeps what does not change between scrapes: translated names.
pub(crate) struct PrometheusExporter {
    self_metrics: Arc<SelfMetrics>,
    label_names: LabelNames,
    metric_names: MetricNames,
    /// The order of each family's points in the scrape before.
    orders: HashMap<Arc<str>, Vec<u32>>,
    warned: HashSet<(Box<str>, &'static str)>,
}

impl PrometheusExporter {
    pub(crate) fn new(self_metrics: Arc<SelfMetrics>) -> Self {
        Self {
            self_metrics,
            label_names: LabelNames::default(),
            metric_names: MetricNames::default(),
            orders: HashMap::new(),
            warned: HashSet::new(),
        }
    }

    /// Writes everything that was collected from the SDK and from a merged registry.
    pub(crate) fn export(&mut self, data: &ResourceMetrics, merged: &[MetricFamily], encoder: &mut impl Encoder) {
        if self.label_names.len() > MAX_CACHED_NAMES {
            self.label_names.clear();
        }
        if self.orders.len() > MAX_CACHED_NAMES {
            self.orders.clear();
        }
        let scopes: Vec<&InstrumentationScope> = data.scope_metrics().map(|scope| scope.scope()).collect();
        let scope_labels: Vec<ScopeLabels> = scopes.iter().map(|scope| ScopeLabels::new(scope)).collect();
        let entries = self.entries(data, &scopes, merged);

        // What the histograms and summaries so far call their series.
        let mut series_names: HashSet<String> = HashSet::new();
        let mut points = Points::default();
        let mut samples = Samples::default();
        for family in entries.chunk_by(|a, b| a.name == b.name) {
            let first = &family[0];
            let taken = series_names.contains(&*first.name);
            points.clear();
            for entry in family {
                if taken || entry.kind != first.kind || (first.is_target() && !entry.is_target()) {
                    self.drop_points(entry.original, entry.len(), DropReason::Conflict);
                    continue;
                }
                let scope = entry.scope.map(|scope| &scope_labels[scope]);
                let unsupported = entry.points(scope, &mut self.label_names, &mut points);
                self.drop_points(entry.original, unsupported, DropReason::Unsupported);
            }
            let order = self.orders.entry(Arc::clone(&first.name)).or_default();
            let duplicates = points.sort(&self.label_names, order);
            self.drop_points(first.original, duplicates, DropReason::Duplicate);
            if points.is_empty() {
                continue;
            }
            let mut helps = family.iter().map(|entry| entry.help).filter(|help| !help.is_empty());
            let help = helps.next().unwrap_or_default();
            if helps.any(|other| other != help) && self.is_first("description", first.original) {
                tracing::warn!(metric = first.original, kept = help, "a metric has several descriptions, one is shown");
            }
            encoder.family(&Family { name: &first.name, help, kind: first.kind });
            for (labels, value) in points.iter(&self.label_names) {
                samples.write(value, labels, encoder);
            }
            for suffix in first.kind.series_suffixes() {
                series_names.insert(format!("{}{suffix}", first.name));
            }
        }
    }

    /// Every metric under its scraped name, in the order in which they are written.
    fn entries<'a>(
        &mut self,
        data: &'a ResourceMetrics,
        scopes: &[&InstrumentationScope],
        merged: &'a [MetricFamily],
    ) -> Vec<Entry<'a>> {
        let mut entries = Vec::new();
        if !data.resource().is_empty() {
            entries.push(Entry {
                name: TARGET_INFO.into(),
                original: TARGET_INFO,
                help: "Target metadata",
                kind: FamilyKind::Gauge,
                scope: None,
                source: Source::Target(data.resource()),
            });
        }
        for (index, scope) in data.scope_metrics().enumerate() {
            for metric in scope.metrics() {
                let (name_kind, kind) = kinds(metric.data());
                match self.metric_names.get(metric.name(), metric.unit(), name_kind) {
                    Some(name) => entries.push(Entry {
                        name,
                        original: metric.name(),
                        help: metric.description(),
                        kind,
                        scope: Some(index),
                        source: Source::Sdk(metric),
                    }),
                    None => self.drop_points(metric.name(), count_points(metric.data()), DropReason::InvalidName),
                }
            }
        }
        for family in merged {
            // A collector of the caller's own may say anything.
            if !is_family_name(family.name()) {
                self.drop_points(family.name(), family.get_metric().len(), DropReason::InvalidName);
                continue;
            }
            entries.push(Entry {
                name: family.name().into(),
                original: family.name(),
                help: family.help(),
                kind: registry_kind(family.get_field_type()),
                scope: None,
                source: Source::Registry(family),
            });
        }
        entries.sort_by(|a, b| {
            let scope = |entry: &Entry<'_>| {
                entry.scope.map(|scope| (scopes[scope].name(), scopes[scope].version(), scopes[scope].schema_url()))
            };
            (&a.name, a.source.rank(), a.original, scope(a), a.kind.as_str(), a.unit(), a.help).cmp(&(
                &b.name,
                b.source.rank(),
                b.original,
                scope(b),
                b.kind.as_str(),
                b.unit(),
                b.help,
            ))
        });
        entries
    }

    fn drop_points(&mut self, metric: &str, points: usize, reason: DropReason) {
        if points == 0 {
            return;
        }
        self.self_metrics.points_dropped(points, reason);
        if self.is_first(reason.as_str(), metric) {
            tracing::warn!(metric, points, %reason, "data points are not exposed; further ones are only counted");
        }
    }

    /// Whether this is the first time that there is something to say about a metric: logs are for people.
    fn is_first(&mut self, what: &'static str, metric: &str) -> bool {
        self.warned.len() < MAX_CACHED_NAMES && self.warned.insert((metric.into(), what))
    }
}

/// One metric of one meter, or one family of a merged registry.
struct Entry<'a> {
    name: Arc<str>,
    /// The name before translation.
    original: &'a str,
    help: &'a str,
    kind: FamilyKind,
    /// The position of its meter in the collected data.
    scope: Option<usize>,
    source: Source<'a>,
}

enum Source<'a> {
    Target(&'a Resource),
    Sdk(&'a Metric),
    Registry(&'a MetricFamily),
}

impl Source<'_> {
    /// Who wins under one name: `target_info` is the exporter's own, and a registry's metrics give way to the SDK's.
    fn rank(&self) -> u8 {
        match self {
            Self::Target(_) => 0,
            Self::Sdk(_) => 1,
            Self::Registry(_) => 2,
        }
    }
}

impl<'a> Entry<'a> {
    fn len(&self) -> usize {
        match &self.source {
            Source::Target(_) => 1,
            Source::Sdk(metric) => count_points(metric.data()),
            Source::Registry(family) => family.get_metric().len(),
        }
    }

    fn is_target(&self) -> bool {
        matches!(self.source, Source::Target(_))
    }

    fn unit(&self) -> &'a str {
        match self.source {
            Source::Sdk(metric) => metric.unit(),
            Source::Target(_) | Source::Registry(_) => "",
        }
    }

    /// Appends its points with their labels. Returns how many it cannot append.
    fn points(&self, scope: Option<&'a ScopeLabels>, names: &mut LabelNames, points: &mut Points<'a>) -> usize {
        let mut shapes = Shapes::new(self.kind, scope, names);
        match self.source {
            Source::Target(resource) => {
                points.push(&mut shapes, || resource.iter(), Value::Number(Number::Unsigned(1)));
                0
            }
            Source::Sdk(metric) => push_metric(metric.data(), &mut shapes, points),
            Source::Registry(family) => {
                let mut unsupported = 0;
                for metric in family.get_metric() {
                    match registry_value(self.kind, metric) {
                        Some(value) => points.push(&mut shapes, || metric.get_label().iter(), value),
                        None => unsupported += 1,
                    }
                }
                unsupported
            }
        }
    }
}

/// Scraped names by instrument name, then by unit and kind.
#[derive(Default)]
struct MetricNames {
    names: HashMap<Box<str>, Vec<ScrapedName>>,
}

struct ScrapedName {
    unit: Box<str>,
    kind: NameKind,
    name: Option<Arc<str>>,
}

impl MetricNames {
    fn get(&mut self, name: &str, unit: &str, kind: NameKind) -> Option<Arc<str>> {
        if self.names.len() > MAX_CACHED_NAMES {
            self.names.clear();
        }
        let known = self.names.get(name).into_iter().flatten();
        if let Some(known) = known.into_iter().find(|known| *known.unit == *unit && known.kind == kind) {
            return known.name.clone();
        }
        let scraped: Option<Arc<str>> = metric_name(name, unit, kind).map(Into::into);
        let known = ScrapedName { unit: unit.into(), kind, name: scraped.clone() };
        self.names.entry(name.into()).or_default().push(known);
        scraped
    }
}

fn kinds(data: &AggregatedMetrics) -> (NameKind, FamilyKind) {
    fn kinds<T>(data: &MetricData<T>) -> (NameKind, FamilyKind) {
        match data {
            MetricData::Gauge(_) => (NameKind::Gauge, FamilyKind::Gauge),
            MetricData::Sum(sum) if sum.is_monotonic() => (NameKind::Counter, FamilyKind::Counter),
            MetricData::Sum(_) => (NameKind::Other, FamilyKind::Gauge),
            MetricData::Histogram(_) | MetricData::ExponentialHistogram(_) => (NameKind::Other, FamilyKind::Histogram),
        }
    }
    match data {
        AggregatedMetrics::F64(data) => kinds(data),
        AggregatedMetrics::U64(data) => kinds(data),
        AggregatedMetrics::I64(data) => kinds(data),
    }
}

fn registry_kind(kind: MetricType) -> FamilyKind {
    match kind {
        MetricType::COUNTER => FamilyKind::Counter,
        MetricType::GAUGE => FamilyKind::Gauge,
        MetricType::HISTOGRAM => FamilyKind::Histogram,
        MetricType::SUMMARY => FamilyKind::Summary,
        MetricType::UNTYPED => FamilyKind::Untyped,
    }
}
