//! The walk from collected data to an exposition encoder.
//!
//! One pass finds the families: every metric under its scraped name, sorted. A second pass takes them one after the
//! other, translates labels, puts the points in order, and hands one point at a time to the encoder. What Prometheus could
//! not read is left out and counted. Nothing is kept of a point once it is written, so a page of any size needs no more
//! memory than a small one.
//!
//! The rules, where metrics meet under one scraped name:
//!
//! - The order is by original name, then by meter; the metrics of a merged registry come last. It never changes, so the
//!   same metric wins in every scrape.
//! - A metric of another type than the first one is dropped, and so is one whose name is a series of a histogram.
//! - Of several descriptions and units the first is kept; the points of all of them are.
//! - Of points with the same labels the first that can be shown is kept: of one metric's own points the first by
//!   attributes.
//!
//! Specification: "OTLP Metric points to Prometheus" in "Prometheus and OpenMetrics compatibility".

mod labels;
mod order;
mod series;
mod value;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry::InstrumentationScope;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use prometheus::proto::MetricFamily;

use crate::exposition::{
    Encoder, Escaping, Family, FamilyEnd, FamilyKind, Format, Grid, LabelNames, MetricName, Naming, OpenMetricsEncoder,
    Out, ProtobufEncoder, Syntax, TARGET_INFO, TextEncoder, is_family_name, open_metrics_name,
};
use crate::guard::{Exemplars, MetricExemplars};
use crate::self_metrics::{DropReason, ScrapeMetrics, SelfMetrics};
use crate::view::Pattern;
use labels::FixedLabels;
use order::Orders;
use series::{Members, Series};
use value::Values;

/// Metrics that are warned about by name. More of them than this means that somebody makes names at run time, and they
/// must not pile up.
const MAX_WARNED: usize = 10_000;

/// Label names of one page before they begin anew. Attribute keys come from code, and there are few.
const MAX_LABEL_NAMES: usize = 10_000;

/// What a page shows and how it names it. Specification: "Configuration" of the Prometheus exporter.
#[derive(Debug)]
pub(crate) struct PrometheusOptions {
    pub(crate) naming: Naming,
    pub(crate) target_info: bool,
    pub(crate) scope_info: bool,
    /// Which attributes of the resource are labels of every point.
    pub(crate) resource_labels: ResourceLabels,
    /// Whether OpenMetrics shows when series began, in series of their own.
    pub(crate) created_series: bool,
}

/// Which attributes of the resource are labels of every point: those included and not excluded.
#[derive(Debug, Default)]
pub(crate) struct ResourceLabels {
    pub(crate) included: Vec<Pattern>,
    pub(crate) excluded: Vec<Pattern>,
}

impl ResourceLabels {
    fn contains(&self, key: &str) -> bool {
        let any = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(key));
        any(&self.included) && !any(&self.excluded)
    }
}

/// What one scraper asks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) format: Format,
    /// The families that are shown, by their name or by that of one of their series; all of them if there are none.
    pub(crate) names: Vec<String>,
}

impl Asked {
    /// Whether a family is asked for. `translated` is its name before it was escaped.
    fn includes(&self, translated: &str, name: &str, kind: FamilyKind) -> bool {
        let is_called = |asked: &str, name: &str| {
            let stem = open_metrics_name(name, kind).0;
            asked == name
                || asked == stem
                || asked.strip_prefix(stem).is_some_and(|suffix| series_suffixes(kind).contains(&suffix))
        };
        self.names.is_empty() || self.names.iter().any(|asked| is_called(asked, name) || is_called(asked, translated))
    }
}

/// What the names of a family's series add to its own.
fn series_suffixes(kind: FamilyKind) -> &'static [&'static str] {
    match kind {
        FamilyKind::Histogram => &["_bucket", "_sum", "_count", "_created"],
        FamilyKind::Summary => &["_sum", "_count", "_created"],
        FamilyKind::Counter => &["_created"],
        FamilyKind::Gauge | FamilyKind::Info | FamilyKind::Untyped => &[],
    }
}

/// What was collected at once.
#[derive(Clone, Copy)]
pub(crate) struct Shown<'a> {
    pub(crate) data: &'a ResourceMetrics,
    pub(crate) exemplars: &'a Exemplars,
    /// From a merged registry.
    pub(crate) merged: &'a [MetricFamily],
}

/// Walks collected data into an encoder.
#[derive(Debug)]
pub(crate) struct PrometheusExporter {
    options: PrometheusOptions,
    self_metrics: Arc<SelfMetrics>,
    scrape_metrics: Arc<ScrapeMetrics>,
    /// The order of each family's points in the scrape before.
    orders: Mutex<Orders>,
    warned: Mutex<HashSet<(Box<str>, &'static str)>>,
}

impl PrometheusExporter {
    pub(crate) fn new(
        options: PrometheusOptions,
        self_metrics: Arc<SelfMetrics>,
        scrape_metrics: Arc<ScrapeMetrics>,
    ) -> Self {
        Self { options, self_metrics, scrape_metrics, orders: Mutex::default(), warned: Mutex::default() }
    }

    /// Writes what was collected, as far as it is asked for.
    pub(crate) fn export(&self, collected: Shown<'_>, asked: &Asked, out: &mut Out<'_>) {
        match asked.format.syntax {
            Syntax::Text004 | Syntax::Text100 => {
                // The format has no exemplars, so none are looked for.
                let collected = Shown { exemplars: &Exemplars::default(), ..collected };
                self.walk(collected, asked, &mut TextEncoder::new(out), false, true);
            }
            Syntax::OpenMetrics001 | Syntax::OpenMetrics100 => {
                let mut encoder = OpenMetricsEncoder::new(out, self.options.created_series);
                self.walk(collected, asked, &mut encoder, true, true);
            }
            Syntax::Protobuf => {
                self.walk(collected, asked, &mut ProtobufEncoder::new(out), false, true);
            }
        }
    }

    /// Shows it to any encoder, and counts what was shown and what was not if this is a scrape.
    pub(crate) fn walk(
        &self,
        collected: Shown<'_>,
        asked: &Asked,
        encoder: &mut impl Encoder,
        open_metrics: bool,
        is_scrape: bool,
    ) {
        let data = collected.data;
        let scopes: Vec<&InstrumentationScope> = data.scope_metrics().map(|scope| scope.scope()).collect();
        let constant: Vec<_> =
            data.resource().iter().filter(|(key, _)| self.options.resource_labels.contains(key.as_str())).collect();
        let fixed = Fixed {
            of_scopes: scopes
                .iter()
                .map(|scope| FixedLabels::new(self.options.scope_info.then_some(*scope), &constant))
                .collect(),
            of_registry: FixedLabels::new(None, &constant),
            of_target: FixedLabels::default(),
        };
        let entries = self.entries(collected, &scopes, asked, is_scrape);
        let mut page = Page {
            escaping: asked.format.escaping,
            open_metrics,
            is_scrape,
            fixed: &fixed,
            names: LabelNames::default(),
            taken: HashSet::new(),
        };
        let mut points = 0;
        for family in entries.chunk_by(|a, b| a.name == b.name) {
            if encoder.is_stopped() {
                return;
            }
            points += self.family(family, &mut page, encoder);
        }
        if asked.names.is_empty() {
            self.orders.lock().unwrap_or_else(PoisonError::into_inner).keep_to(asked.format.escaping, &entries);
        }
        encoder.end();
        if is_scrape {
            self.scrape_metrics.page(points, asked.names.is_empty());
        }
    }

    /// Every metric that is asked for under its scraped name, in the order in which they are written.
    fn entries<'a>(
        &self,
        collected: Shown<'a>,
        scopes: &[&InstrumentationScope],
        asked: &Asked,
        is_scrape: bool,
    ) -> Vec<Entry<'a>> {
        let Shown { data, exemplars, merged } = collected;
        let escaping = asked.format.escaping;
        let mut entries = Vec::new();
        let mut add =
            |translated: MetricName, original, unit, help, place: Option<(usize, usize)>, series: Series<'a>| {
                let shown = translated.clone().escaped(escaping, series.name_kind());
                if asked.includes(&translated.name, &shown.name, series.kind()) {
                    let (name, unit_word) = (shown.name, shown.unit);
                    let (scope, exemplars) = match place {
                        Some((scope, metric)) => (Some(scope), exemplars.of(scope, metric)),
                        None => (None, None),
                    };
                    entries.push(Entry { name, unit_word, original, unit, help, scope, series, exemplars });
                }
            };
        let as_it_is = |name: &str| MetricName { name: name.to_owned(), unit: String::new() };
        if self.options.target_info && !data.resource().is_empty() {
            let series = Series::Target(data.resource());
            add(as_it_is(TARGET_INFO), TARGET_INFO, "", "Target metadata", None, series);
        }
        for (index, scope) in data.scope_metrics().enumerate() {
            for (metric_index, metric) in scope.metrics().enumerate() {
                let series = Series::sdk(metric.data());
                let (name, unit) = (metric.name(), metric.unit());
                match self.options.naming.metric(name, unit, series.name_kind()) {
                    Some(translated) => {
                        add(translated, name, unit, metric.description(), Some((index, metric_index)), series)
                    }
                    None => self.drop_points(is_scrape, name, series.len(), DropReason::InvalidName),
                }
            }
        }
        for family in merged {
            let series = Series::registry(family);
            // A collector of the caller's own may say anything.
            if is_family_name(family.name()) {
                add(as_it_is(family.name()), family.name(), "", family.help(), None, series);
            } else {
                self.drop_points(is_scrape, family.name(), series.len(), DropReason::InvalidName);
            }
        }
        entries.sort_by(|a, b| {
            let scope = |entry: &Entry<'_>| {
                entry.scope.map(|scope| (scopes[scope].name(), scopes[scope].version(), scopes[scope].schema_url()))
            };
            (a.name.cmp(&b.name))
                .then_with(|| a.series.rank().cmp(&b.series.rank()))
                .then_with(|| (a.original, scope(a)).cmp(&(b.original, scope(b))))
                .then_with(|| (a.series.kind(), a.unit, a.help).cmp(&(b.series.kind(), b.unit, b.help)))
                // Only without scope labels do meters that differ in nothing else meet in one series.
                .then_with(|| attributes(a, scopes).cmp(&attributes(b, scopes)))
        });
        entries
    }

    /// Writes the metrics that share a name, and returns how many points they have.
    fn family(&self, entries: &[Entry<'_>], page: &mut Page<'_>, encoder: &mut impl Encoder) -> usize {
        let first = &entries[0];
        let kind = page.take(&first.name, first.series.kind());
        if page.names.len() > MAX_LABEL_NAMES {
            page.names.clear();
        }
        let is_target = |entry: &Entry<'_>| matches!(entry.series, Series::Target(_));
        let fits = |entry: &&Entry<'_>| {
            kind.is_some() && entry.series.kind() == first.series.kind() && is_target(entry) == is_target(first)
        };
        let (shown, dropped): (Vec<&Entry<'_>>, Vec<_>) = entries.iter().partition(fits);
        for entry in dropped {
            self.drop_points(page.is_scrape, entry.original, entry.series.len(), DropReason::Conflict);
        }
        let Some(kind) = kind else { return 0 };
        let bounds: Vec<Vec<f64>> = shown.iter().map(|entry| entry.series.bounds()).collect();
        let mut members = Members::new(&self.options.naming, page.escaping, kind);
        for (entry, bounds) in shown.iter().zip(&bounds) {
            let fixed = match entry.scope {
                Some(scope) => &page.fixed.of_scopes[scope],
                None if is_target(entry) => &page.fixed.of_target,
                None => &page.fixed.of_registry,
            };
            members.push(entry.series, bounds, fixed, entry.exemplars);
        }
        let mut grid = Grid::default();
        let exponential = shown.iter().filter(|entry| entry.series.include_in(&mut grid)).count();
        let family = Family {
            name: &first.name,
            help: self.first_of(first, "description", shown.iter().map(|entry| entry.help)),
            unit: self.first_of(first, "unit", shown.iter().map(|entry| entry.unit_word.as_str())),
            kind,
            is_native: exponential == shown.len() && grid.can_be_native(),
            grid: grid.settled(),
        };

        let known =
            self.orders.lock().unwrap_or_else(PoisonError::into_inner).get(page.escaping, &first.name, members.len());
        let mut values = Values::default();
        let mut is_begun = false;
        let mut pass = |encoder: &mut _, known| {
            order::walk(&mut members, &mut page.names, known, |labels, value, start, exemplars| {
                if !std::mem::replace(&mut is_begun, true) {
                    Encoder::family(encoder, &family);
                }
                if !exemplars.is_empty() {
                    Encoder::exemplars(encoder, exemplars);
                }
                values.write(value, labels, start, encoder);
                !Encoder::is_stopped(encoder)
            })
        };
        let walked = pass(encoder, known);
        if walked.written > 0 && encoder.end_family() == FamilyEnd::Again {
            // The same samples in the same order: the one that was just found right.
            let _ = pass(encoder, walked.order.clone());
            let _ = encoder.end_family();
        }
        if let Some(order) = walked.order {
            self.orders.lock().unwrap_or_else(PoisonError::into_inner).put(page.escaping, &first.name, order);
        }
        for (entry, left_out) in shown.iter().zip(&walked.left_out) {
            self.drop_points(page.is_scrape, entry.original, left_out.duplicates, DropReason::Duplicate);
            self.drop_points(page.is_scrape, entry.original, left_out.invalid, DropReason::InvalidValue);
        }
        walked.written
    }

    /// The first that says something. Where another says something else, that is said once.
    fn first_of<'a>(&self, metric: &Entry<'_>, what: &'static str, said: impl Iterator<Item = &'a str>) -> &'a str {
        let mut said = said.filter(|text| !text.is_empty());
        let kept = said.next().unwrap_or_default();
        if said.any(|other| other != kept) && self.is_first(what, metric.original) {
            tracing::warn!(metric = metric.original, kept, "a metric has several of a {what}, one is shown");
        }
        kept
    }

    fn drop_points(&self, is_scrape: bool, metric: &str, points: usize, reason: DropReason) {
        if points == 0 || !is_scrape {
            return;
        }
        self.self_metrics.points_dropped(metric, points, reason);
        if self.is_first(reason.as_str(), metric) {
            tracing::warn!(metric, points, %reason, "data points are not exposed; further ones are only counted");
        }
    }

    /// Whether this is the first time that there is something to say about a metric: logs are for people.
    fn is_first(&self, what: &'static str, metric: &str) -> bool {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        warned.len() < MAX_WARNED && warned.insert((metric.into(), what))
    }
}

/// The attributes of a metric's meter, sorted: the SDK keeps the order in which they were given.
fn attributes(entry: &Entry<'_>, scopes: &[&InstrumentationScope]) -> Vec<(String, String)> {
    let pairs = entry.scope.into_iter().flat_map(|scope| scopes[scope].attributes());
    let mut attributes: Vec<_> = pairs.map(|pair| (pair.key.to_string(), pair.value.to_string())).collect();
    attributes.sort();
    attributes
}

/// One metric of one meter, or one family of a merged registry.
struct Entry<'a> {
    /// As they are written.
    name: String,
    unit_word: String,
    /// As they were before.
    original: &'a str,
    unit: &'a str,
    help: &'a str,
    /// The position of its meter in the collected data.
    scope: Option<usize>,
    series: Series<'a>,
    exemplars: Option<&'a MetricExemplars>,
}

/// The labels that every point carries, by where it comes from.
struct Fixed {
    of_scopes: Vec<FixedLabels>,
    of_registry: FixedLabels,
    of_target: FixedLabels,
}

/// What is known of a page while it is written.
struct Page<'f> {
    escaping: Escaping,
    open_metrics: bool,
    is_scrape: bool,
    fixed: &'f Fixed,
    names: LabelNames,
    /// What the series of the families so far are called, and in OpenMetrics the families too.
    taken: HashSet<String>,
}

impl Page<'_> {
    /// Takes the names that a family needs. Returns the type it can have, `None` where its name is taken.
    ///
    /// OpenMetrics has one name space for families and their series. A counter `a_total` beside a gauge `a` would be two
    /// families called `a` there, so it is shown as `a_total` of unknown type.
    fn take(&mut self, name: &str, kind: FamilyKind) -> Option<FamilyKind> {
        // Families come sorted. A name is wanted again by itself and by the counter that is called after it, and after both
        // have passed no more.
        self.taken.retain(|taken| {
            let stem = taken.strip_suffix("_created").unwrap_or(taken);
            taken.as_str() >= name || stem.bytes().chain(*b"_total").ge(name.bytes())
        });
        if !self.open_metrics {
            if self.taken.contains(name) {
                return None;
            }
            let suffixes = series_suffixes(kind).iter().filter(|suffix| **suffix != "_created");
            self.taken.extend(suffixes.map(|suffix| format!("{name}{suffix}")));
            return Some(kind);
        }
        let otherwise = match kind {
            FamilyKind::Counter => Some(FamilyKind::Untyped),
            FamilyKind::Info => Some(FamilyKind::Gauge),
            _ => None,
        };
        [Some(kind), otherwise].into_iter().flatten().find(|&kind| {
            let (stem, shown) = open_metrics_name(name, kind);
            let mut names: Vec<String> =
                series_suffixes(shown).iter().map(|suffix| format!("{stem}{suffix}")).collect();
            names.extend([name.to_owned(), stem.to_owned()]);
            let is_free = !names.iter().any(|name| self.taken.contains(name));
            if is_free {
                self.taken.extend(names);
            }
            is_free
        })
    }
}
