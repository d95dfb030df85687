//! Watches how many series each metric has and may have, and says so before the SDK adds up what is too much.
//!
//! Whoever collects shows it the data. Mostly that is a length for each metric; the points themselves are looked through
//! when a metric comes near its limit, or for a page that explains metrics.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, Metric, MetricData, ResourceMetrics};
use prometheus::proto::{MetricFamily, MetricType};

use crate::error::{InstrumentName, Problem, too_many_series};
use crate::exposition::{FamilyKind, NameKind};
use crate::self_metrics::{LiveSeries, SelfMetrics};
use crate::spec::Kind;
use crate::view::ReaderDefaults;

use super::Shared;
use super::catalogue::{Catalogue, Known};
use super::exemplars::Exemplars;
use super::round::Trouble;

/// Streams that are watched. Who has more builds instruments at run time.
const MAX_STREAMS: usize = 10_000;

/// Families of a merged registry that are known by name.
const MAX_MERGED: usize = 10_000;

/// Attribute keys that are known of a stream.
const MAX_KEYS: usize = 64;

/// Keys that are named where a stream has too many series.
const NAMED_KEYS: usize = 3;

/// The attribute of the series in which the SDK adds up what is beyond the limit.
const OVERFLOW: &str = "otel.metric.overflow";

/// Keeps what was seen of every stream, by all readers.
#[derive(Debug, Default)]
pub(crate) struct Governor {
    state: Mutex<State>,
    hashes: RandomState,
}

/// The eyes of one reader.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    pub(super) shared: Arc<Shared>,
    pub(super) reader: usize,
    pub(super) defaults: ReaderDefaults,
    pub(super) is_cumulative: bool,
    /// Whether somebody wants to know which attributes there are, and when values changed.
    pub(super) has_details: bool,
}

#[derive(Debug, Default)]
struct State {
    meters: HashMap<InstrumentationScope, HashMap<String, Vec<Stream>>>,
    streams: usize,
    readers: HashMap<usize, Reader>,
}

/// What one reader has collected.
#[derive(Clone, Debug, Default)]
struct Reader {
    /// Which collection it was.
    round: u64,
    at: Option<SystemTime>,
    merged: Vec<MergedFamily>,
}

/// A stream as collections show it.
#[derive(Debug)]
struct Stream {
    unit: String,
    description: String,
    number: &'static str,
    kinds: (NameKind, FamilyKind),
    /// The instrument it comes from, with the limit that a view or its type gives it.
    source: Option<(Known, Option<usize>)>,
    /// Whether it was said that it comes near its limit, and that it is beyond.
    is_near_said: bool,
    is_overflow_said: bool,
    /// The keys with the most values, when that was counted last.
    busiest: Vec<(String, usize)>,
    seen: HashMap<usize, Seen>,
}

/// A stream as one reader saw it last.
#[derive(Debug, Default)]
struct Seen {
    round: u64,
    series: usize,
    limit: usize,
    overflows: bool,
    /// Made of all points: another one means that something has changed.
    fingerprint: u64,
    changed: Option<SystemTime>,
    keys: BTreeSet<String>,
}

/// What is known of a pipeline's streams, for people.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// When this reader collected last.
    pub(crate) at: Option<SystemTime>,
    pub(crate) streams: Vec<SeenStream>,
    pub(crate) merged: Vec<MergedFamily>,
    /// Whether there are more than are watched.
    pub(crate) is_cut: bool,
}

/// One stream that had points at the last collection.
#[derive(Debug)]
pub(crate) struct SeenStream {
    pub(crate) scope: InstrumentationScope,
    pub(crate) name: String,
    pub(crate) unit: String,
    pub(crate) description: String,
    pub(crate) number: &'static str,
    pub(crate) kinds: (NameKind, FamilyKind),
    pub(crate) source: Option<Known>,
    pub(crate) series: usize,
    pub(crate) limit: usize,
    pub(crate) overflows: bool,
    pub(crate) busiest: Vec<(String, usize)>,
    pub(crate) changed: Option<SystemTime>,
    pub(crate) keys: BTreeSet<String>,
}

impl SeenStream {
    /// The order in which the exporter lets one of several metrics win.
    pub(crate) fn order(&self) -> impl Ord + '_ {
        let scope = (self.scope.name(), self.scope.version(), self.scope.schema_url());
        (&self.name, scope, self.kinds.1, self.number)
    }
}

/// A family of a merged registry.
#[derive(Clone, Debug)]
pub(crate) struct MergedFamily {
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    pub(crate) help: String,
    pub(crate) series: usize,
}

/// What is to be said once nobody holds the state.
enum Said {
    Near { instrument: InstrumentName, stream: String, series: usize, limit: usize, keys: Vec<(String, usize)> },
    Overflow(Problem),
}

impl Watch {
    /// Looks at what was collected, and at a merged registry where there is one.
    pub(crate) fn look(&self, data: &ResourceMetrics, merged: Option<&[MetricFamily]>) {
        let Shared { governor, catalogue, self_metrics, .. } = &*self.shared;
        let said = governor.look(self, data, merged, catalogue, self_metrics);
        // Whoever takes the event may build an instrument of its own, and finds everything free.
        for said in said {
            match said {
                Said::Near { instrument, stream, series, limit, keys } => tracing::warn!(
                    "{instrument} has {series} of at most {limit} series, further ones will be added up in one: {}",
                    too_many_series(&instrument, &stream, limit, &keys)
                ),
                Said::Overflow(problem) => catalogue.report(problem),
            }
        }
    }

    /// The exemplars of what was collected.
    pub(crate) fn exemplars(&self, data: &ResourceMetrics) -> Exemplars {
        self.shared.exemplars.collected(data)
    }

    /// What this reader saw last.
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.shared.governor.snapshot(self.reader)
    }

    pub(crate) fn catalogue(&self) -> &Catalogue {
        &self.shared.catalogue
    }

    /// What is wrong with the callbacks of an instrument.
    pub(crate) fn trouble(&self, instrument: &InstrumentName) -> Trouble {
        self.shared.callbacks.trouble(instrument)
    }

    /// How many points of a metric were not exposed so far, by reason.
    pub(crate) fn dropped_points(&self, metric: &str) -> Vec<(&'static str, u64)> {
        self.shared.self_metrics.dropped(metric)
    }
}

impl Governor {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(
        &self,
        watch: &Watch,
        data: &ResourceMetrics,
        merged: Option<&[MetricFamily]>,
        catalogue: &Catalogue,
        self_metrics: &SelfMetrics,
    ) -> Vec<Said> {
        let mut said = Vec::new();
        let now = SystemTime::now();
        let mut state = self.state();
        let State { meters, streams, readers } = &mut *state;
        let reader = readers.entry(watch.reader).or_default();
        reader.round += 1;
        reader.at = Some(now);
        if let Some(merged) = merged.filter(|_| watch.has_details) {
            reader.merged = merged.iter().take(MAX_MERGED).map(MergedFamily::of).collect();
        }
        let round = reader.round;
        for scope in data.scope_metrics() {
            let is_room = *streams < MAX_STREAMS;
            let named = match meters.get_mut(scope.scope()) {
                Some(named) => named,
                None if is_room => meters.entry(scope.scope().clone()).or_default(),
                None => continue,
            };
            for metric in scope.metrics() {
                let points = Points(metric.data());
                let Some(stream) = stream(named, streams, metric, points, scope.scope(), catalogue) else { continue };
                let look = Look { watch, hashes: &self.hashes, round, now, points };
                look.at(stream, scope.scope(), metric.name(), &mut said);
            }
        }
        let live = state.live();
        drop(state);
        self_metrics.live_series(live);
        said
    }

    fn snapshot(&self, reader: usize) -> Snapshot {
        let state = self.state();
        let Reader { round, at, merged } = state.readers.get(&reader).cloned().unwrap_or_default();
        let mut streams = Vec::new();
        for (scope, named) in &state.meters {
            for (name, stream) in named.iter().flat_map(|(name, all)| all.iter().map(move |stream| (name, stream))) {
                let Some(seen) = stream.seen.get(&reader).filter(|seen| seen.round == round) else { continue };
                streams.push(SeenStream {
                    scope: scope.clone(),
                    name: name.clone(),
                    unit: stream.unit.clone(),
                    description: stream.description.clone(),
                    number: stream.number,
                    kinds: stream.kinds,
                    source: stream.source.as_ref().map(|(known, _)| known.clone()),
                    series: seen.series,
                    limit: seen.limit,
                    overflows: seen.overflows,
                    busiest: stream.busiest.clone(),
                    changed: seen.changed,
                    keys: seen.keys.clone(),
                });
            }
        }
        Snapshot { at, streams, merged, is_cut: state.streams >= MAX_STREAMS }
    }
}

/// The stream that a metric belongs to; `None` where there are too many to watch.
fn stream<'s>(
    named: &'s mut HashMap<String, Vec<Stream>>,
    streams: &mut usize,
    metric: &Metric,
    points: Points<'_>,
    scope: &InstrumentationScope,
    catalogue: &Catalogue,
) -> Option<&'s mut Stream> {
    let (kinds, number) = (points.kinds(), points.number());
    let is_same = |stream: &Stream| {
        stream.kinds == kinds
            && stream.number == number
            && stream.unit == metric.unit()
            && stream.description == metric.description()
    };
    if !named.get(metric.name()).is_some_and(|all| all.iter().any(is_same)) {
        if *streams >= MAX_STREAMS {
            return None;
        }
        *streams += 1;
        let source = catalogue.source(scope, metric.name(), metric.unit(), number, kinds.1).map(|known| {
            let limit = known.limit(&catalogue.plan(&known.instrument), metric.name());
            (known, limit)
        });
        named.entry(metric.name().to_owned()).or_default().push(Stream {
            unit: metric.unit().to_owned(),
            description: metric.description().to_owned(),
            number,
            kinds,
            source,
            is_near_said: false,
            is_overflow_said: false,
            busiest: Vec::new(),
            seen: HashMap::new(),
        });
    }
    named.get_mut(metric.name())?.iter_mut().find(|stream| is_same(stream))
}

impl Stream {
    /// Whether the attributes are a closed list: to have all of their combinations is right then. Unknown instruments are
    /// the pipeline's own, which are typed.
    fn is_closed(&self) -> bool {
        self.source.as_ref().is_none_or(|(known, _)| known.attributes.is_some())
    }

    fn limit(&self, defaults: ReaderDefaults) -> usize {
        let own = self.source.as_ref().and_then(|(_, limit)| *limit);
        let kind = self.source.as_ref().map_or(
            match self.kinds {
                (_, FamilyKind::Counter) => Kind::Counter,
                (_, FamilyKind::Histogram) => Kind::Histogram,
                _ => Kind::Gauge,
            },
            |(known, _)| known.instrument.kind,
        );
        own.unwrap_or_else(|| defaults.series(kind))
    }

    fn full_name(&self, scope: &InstrumentationScope, stream: &str) -> InstrumentName {
        let own = || InstrumentName { name: stream.to_owned(), scope: scope.name().to_owned() };
        self.source.as_ref().map_or_else(own, |(known, _)| known.instrument.full_name())
    }
}

/// One look at one stream.
struct Look<'a> {
    watch: &'a Watch,
    hashes: &'a RandomState,
    round: u64,
    now: SystemTime,
    points: Points<'a>,
}

impl Look<'_> {
    fn at(&self, stream: &mut Stream, scope: &InstrumentationScope, name: &str, said: &mut Vec<Said>) {
        let limit = stream.limit(self.watch.defaults);
        let len = self.points.len();
        // The SDK's overflow point comes on top of the limit. Where it forgets series between two collections, it can be
        // there with few others.
        let overflows = (len > limit || !self.watch.is_cumulative) && self.points.has_overflow();
        let series = len - usize::from(overflows);
        let is_near = !overflows && !stream.is_closed() && self.is_near(series, limit);
        let is_news = (overflows && !stream.is_overflow_said) || (is_near && !stream.is_near_said);
        if is_news {
            stream.busiest = self.busiest();
            let (instrument, keys) = (stream.full_name(scope, name), stream.busiest.clone());
            let renamed = name.to_owned();
            stream.is_near_said = true;
            said.push(if overflows {
                stream.is_overflow_said = true;
                Said::Overflow(Problem::Overflow { instrument, stream: renamed, limit, keys })
            } else {
                Said::Near { instrument, stream: renamed, series, limit, keys }
            });
        }
        let seen = stream.seen.entry(self.watch.reader).or_default();
        (seen.round, seen.series, seen.limit) = (self.round, series, limit);
        seen.overflows = overflows;
        if self.watch.has_details {
            let fingerprint = self.details(&mut seen.keys);
            if seen.changed.is_none() || seen.fingerprint != fingerprint {
                (seen.fingerprint, seen.changed) = (fingerprint, Some(self.now));
            }
        }
    }

    /// Whether it is four fifths of what is allowed. The series without attributes has a place of its own, which is worth a
    /// look only where one series decides.
    fn is_near(&self, series: usize, limit: usize) -> bool {
        let is_near = |series: usize| series.saturating_mul(5) >= limit.saturating_mul(4);
        is_near(series.saturating_sub(1)) || (is_near(series) && is_near(self.points.with_attributes()))
    }

    /// The keys with the most values, at most three, from the one with the most.
    fn busiest(&self) -> Vec<(String, usize)> {
        let mut values: HashMap<&str, HashSet<u64>> = HashMap::new();
        self.points.each(&mut |attributes, _| {
            for pair in attributes.filter(|pair| pair.key.as_str() != OVERFLOW) {
                values.entry(pair.key.as_str()).or_default().insert(self.hashes.hash_one(pair));
            }
        });
        let mut keys: Vec<_> = values.into_iter().map(|(key, values)| (key.to_owned(), values.len())).collect();
        keys.sort_by(|(a, many), (b, more)| more.cmp(many).then_with(|| a.cmp(b)));
        keys.truncate(NAMED_KEYS);
        keys
    }

    /// Adds the keys of the points, and makes a number of everything there is. The SDK keeps neither the order of points
    /// nor that of attributes, so sums are what it is made of.
    fn details(&self, keys: &mut BTreeSet<String>) -> u64 {
        let mut fingerprint = self.hashes.hash_one(self.points.len());
        self.points.each(&mut |attributes, value| {
            let mut sum = 0_u64;
            for pair in attributes {
                sum = sum.wrapping_add(self.hashes.hash_one(pair));
                let key = pair.key.as_str();
                if key != OVERFLOW && keys.len() < MAX_KEYS && !keys.contains(key) {
                    keys.insert(key.to_owned());
                }
            }
            fingerprint = fingerprint.wrapping_add(self.hashes.hash_one((sum, value)));
        });
        fingerprint
    }
}

impl State {
    /// The streams that may become crowded, because anything can be an attribute, and those that are beyond their limit; for
    /// each what the reader saw that has it fullest. One series says nothing that the page does not.
    fn live(&self) -> Vec<LiveSeries> {
        let mut streams = Vec::new();
        for (scope, named) in &self.meters {
            for (name, stream) in named.iter().flat_map(|(name, all)| all.iter().map(move |stream| (name, stream))) {
                let live = stream
                    .seen
                    .iter()
                    .filter(|(reader, seen)| self.readers.get(reader).is_some_and(|reader| reader.round == seen.round));
                let fullest = live
                    .map(|(_, seen)| seen)
                    .filter(|seen| seen.overflows || (seen.series > 1 && !stream.is_closed()))
                    .max_by_key(|seen| (seen.overflows, seen.series.saturating_mul(1_000) / seen.limit.max(1)));
                if let Some(seen) = fullest {
                    streams.push(LiveSeries {
                        instrument: name.clone(),
                        scope: scope.name().to_owned(),
                        series: seen.series,
                        limit: seen.limit,
                        overflows: seen.overflows,
                    });
                }
            }
        }
        streams
    }
}

impl MergedFamily {
    fn of(family: &MetricFamily) -> Self {
        let kind = match family.get_field_type() {
            MetricType::COUNTER => "counter",
            MetricType::GAUGE => "gauge",
            MetricType::HISTOGRAM => "histogram",
            MetricType::SUMMARY => "summary",
            MetricType::UNTYPED => "untyped",
        };
        let series = family.get_metric().len();
        Self { name: family.name().to_owned(), kind, help: family.help().to_owned(), series }
    }
}

/// The points of one metric, whatever they are.
#[derive(Clone, Copy)]
struct Points<'a>(&'a AggregatedMetrics);

/// Takes the attributes of a point, and a number that is another one when its value is.
type Each<'f, 'a> = &'f mut dyn FnMut(&mut dyn Iterator<Item = &'a KeyValue>, (u64, u64));

impl<'a> Points<'a> {
    fn len(self) -> usize {
        fn len<T>(data: &MetricData<T>) -> usize {
            match data {
                MetricData::Gauge(gauge) => gauge.data_points().count(),
                MetricData::Sum(sum) => sum.data_points().count(),
                MetricData::Histogram(histogram) => histogram.data_points().count(),
                MetricData::ExponentialHistogram(histogram) => histogram.data_points().count(),
            }
        }
        match self.0 {
            AggregatedMetrics::F64(data) => len(data),
            AggregatedMetrics::U64(data) => len(data),
            AggregatedMetrics::I64(data) => len(data),
        }
    }

    fn number(self) -> &'static str {
        match self.0 {
            AggregatedMetrics::F64(_) => "f64",
            AggregatedMetrics::U64(_) => "u64",
            AggregatedMetrics::I64(_) => "i64",
        }
    }

    /// As what it is named and shown.
    fn kinds(self) -> (NameKind, FamilyKind) {
        fn kinds<T>(data: &MetricData<T>) -> (NameKind, FamilyKind) {
            match data {
                MetricData::Gauge(_) => (NameKind::Gauge, FamilyKind::Gauge),
                MetricData::Sum(sum) if sum.is_monotonic() => (NameKind::Counter, FamilyKind::Counter),
                MetricData::Sum(_) => (NameKind::Other, FamilyKind::Gauge),
                MetricData::Histogram(_) | MetricData::ExponentialHistogram(_) => {
                    (NameKind::Other, FamilyKind::Histogram)
                }
            }
        }
        match self.0 {
            AggregatedMetrics::F64(data) => kinds(data),
            AggregatedMetrics::U64(data) => kinds(data),
            AggregatedMetrics::I64(data) => kinds(data),
        }
    }

    fn has_overflow(self) -> bool {
        let mut found = false;
        self.each(&mut |attributes, _| {
            if !found {
                found = attributes.next().is_some_and(is_overflow) && attributes.next().is_none();
            }
        });
        found
    }

    /// How many points have attributes.
    fn with_attributes(self) -> usize {
        let mut points = 0;
        self.each(&mut |attributes, _| points += usize::from(attributes.next().is_some()));
        points
    }

    fn each(self, take: Each<'_, 'a>) {
        match self.0 {
            AggregatedMetrics::F64(data) => each(data, take),
            AggregatedMetrics::U64(data) => each(data, take),
            AggregatedMetrics::I64(data) => each(data, take),
        }
    }
}

fn is_overflow(pair: &KeyValue) -> bool {
    pair.key.as_str() == OVERFLOW && pair.value == Value::Bool(true)
}

fn each<'a, T: Bits>(data: &'a MetricData<T>, take: Each<'_, 'a>) {
    match data {
        MetricData::Gauge(gauge) => {
            gauge.data_points().for_each(|point| take(&mut point.attributes(), (point.value().bits(), 0)));
        }
        MetricData::Sum(sum) => {
            sum.data_points().for_each(|point| take(&mut point.attributes(), (point.value().bits(), 0)));
        }
        MetricData::Histogram(histogram) => {
            histogram.data_points().for_each(|point| take(&mut point.attributes(), (point.count(), point.sum().bits())))
        }
        MetricData::ExponentialHistogram(histogram) => histogram
            .data_points()
            .for_each(|point| take(&mut point.attributes(), (point.count() as u64, point.sum().bits()))),
    }
}

/// The bits of a number.
trait Bits: Copy {
    fn bits(self) -> u64;
}

impl Bits for u64 {
    fn bits(self) -> u64 {
        self
    }
}

impl Bits for i64 {
    fn bits(self) -> u64 {
        self.cast_unsigned()
    }
}

impl Bits for f64 {
    fn bits(self) -> u64 {
        self.to_bits()
    }
}
