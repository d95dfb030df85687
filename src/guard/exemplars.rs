//! From what is recorded to exemplars of the points that are collected.
//!
//! The SDK collects none and has no place where others could put them. So the guard keeps them beside it, by instrument, and
//! finds the points that they belong to whenever somebody collects: the views say which streams an instrument becomes and
//! which attributes each of them keeps. Those that a stream leaves out are said by the exemplar instead.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use opentelemetry::metrics::{BoundSyncInstrument, SyncInstrument};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData, ResourceMetrics};

use super::catalogue::Instrument;
use super::filter::Handle;
use crate::exemplar::{BoundSeries, Exemplar, Filter, Measured, Source};
use crate::view::{KeyFilter, Plan};

/// The exemplars of all instruments.
#[derive(Debug)]
pub(super) struct Sources {
    /// `None` where nobody wants any.
    filter: Option<Filter>,
    is_any: Arc<AtomicBool>,
    all: Mutex<All>,
}

#[derive(Debug, Default)]
struct All {
    by_instrument: HashMap<Instrument, Arc<Source>>,
    by_stream: HashMap<String, Vec<Stream>>,
}

/// What a source looks like under the name of a stream.
#[derive(Clone, Debug)]
struct Stream {
    scope: InstrumentationScope,
    unit: String,
    number: &'static str,
    attributes: Option<KeyFilter>,
    source: Arc<Source>,
}

impl Sources {
    pub(super) fn new(filter: Option<Filter>) -> Self {
        Self { filter, is_any: Arc::default(), all: Mutex::default() }
    }

    /// The source of an instrument, `None` where nobody wants exemplars of it. `bounds` are its buckets', `cardinality` is that
    /// of a typed one.
    pub(super) fn of(
        &self,
        instrument: &Instrument,
        bounds: &[f64],
        cardinality: Option<usize>,
        plan: impl FnOnce() -> Plan,
    ) -> Option<Arc<Source>> {
        let filter = self.filter?;
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.by_instrument.get(instrument) {
            return Some(Arc::clone(known));
        }
        let streams = plan().streams;
        let max_series = cardinality.or_else(|| streams.iter().filter_map(|stream| stream.limit).max());
        let is_merged = streams.iter().any(|stream| stream.attributes.is_some());
        let source = Arc::new(Source::new(filter, bounds, max_series, is_merged, Arc::clone(&self.is_any)));
        all.by_instrument.insert(instrument.clone(), Arc::clone(&source));
        for stream in streams {
            let Instrument { scope, unit, number, .. } = instrument;
            let (scope, unit, source) = (scope.clone(), unit.clone(), Arc::clone(&source));
            let shown = Stream { scope, unit, number, attributes: stream.attributes, source };
            all.by_stream.entry(stream.name).or_default().push(shown);
        }
        Some(source)
    }

    /// The exemplars of what was collected. Where nothing was recorded in a span it is a look at one flag.
    pub(super) fn collected(&self, data: &ResourceMetrics) -> Exemplars {
        let mut exemplars = Exemplars::default();
        if !self.is_any.load(Ordering::Acquire) {
            return exemplars;
        }
        for (scope_index, scope) in data.scope_metrics().enumerate() {
            for (index, metric) in scope.metrics().enumerate() {
                let (target, number) = match metric.data() {
                    AggregatedMetrics::F64(data) => (Target::of(data), "f64"),
                    AggregatedMetrics::U64(data) => (Target::of(data), "u64"),
                    AggregatedMetrics::I64(data) => (Target::of(data), "i64"),
                };
                let Some(target) = target else { continue };
                let streams: Vec<Stream> = {
                    let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
                    let named = all.by_stream.get(metric.name()).into_iter().flatten();
                    let is_it = |stream: &&Stream| {
                        stream.scope == *scope.scope() && stream.unit == metric.unit() && stream.number == number
                    };
                    named.filter(is_it).cloned().collect()
                };
                let found = MetricExemplars::new(&streams, &target);
                if !found.points.is_empty() {
                    exemplars.metrics.insert((scope_index, index), found);
                }
            }
        }
        exemplars
    }
}

/// What a metric's exemplars have to fit.
struct Target {
    /// The upper bounds of its buckets; `None` where it has none, or they are exponential.
    bounds: Option<Vec<f64>>,
    is_sum: bool,
    /// When what it says began and ended, if it says only what is new.
    since: Option<(SystemTime, SystemTime)>,
}

impl Target {
    /// `None` where there are no exemplars: Prometheus has them for counters and for histograms.
    fn of<T>(data: &MetricData<T>) -> Option<Self> {
        let since = |temporality, start, end| (temporality == Temporality::Delta).then_some((start, end));
        match data {
            MetricData::Sum(sum) if sum.is_monotonic() => {
                let since = since(sum.temporality(), sum.start_time(), sum.time());
                Some(Self { bounds: None, is_sum: true, since })
            }
            MetricData::Histogram(histogram) => {
                let bounds = histogram.data_points().next().map(|point| point.bounds().collect())?;
                let since = since(histogram.temporality(), histogram.start_time(), histogram.time());
                Some(Self { bounds: Some(bounds), is_sum: false, since })
            }
            MetricData::ExponentialHistogram(histogram) => {
                let since = since(histogram.temporality(), histogram.start_time(), histogram.time());
                Some(Self { bounds: None, is_sum: false, since })
            }
            MetricData::Gauge(_) | MetricData::Sum(_) => None,
        }
    }

    fn is_new(&self, exemplar: &Exemplar) -> bool {
        self.since.is_none_or(|(start, end)| exemplar.time >= start && exemplar.time < end)
    }

    /// Which of its places an exemplar has, where the instrument had it in this bucket.
    fn place(&self, bucket: usize, exemplar: &Exemplar) -> usize {
        match &self.bounds {
            Some(bounds) => bounds.partition_point(|&bound| bound < exemplar.value.as_f64()),
            None if self.is_sum => 0,
            None => bucket,
        }
    }
}

/// The exemplars of one collection.
#[derive(Debug, Default)]
pub(crate) struct Exemplars {
    /// By the positions of meter and metric in what was collected.
    metrics: HashMap<(usize, usize), MetricExemplars>,
}

impl Exemplars {
    /// Those of a metric, if it has any.
    pub(crate) fn of(&self, scope: usize, metric: usize) -> Option<&MetricExemplars> {
        self.metrics.get(&(scope, metric))
    }
}

/// The exemplars of one metric's points.
#[derive(Debug)]
pub(crate) struct MetricExemplars {
    hashes: RandomState,
    /// By a hash of the attributes in any order.
    points: HashMap<u64, Vec<Point>>,
}

#[derive(Debug)]
struct Point {
    attributes: Vec<KeyValue>,
    exemplars: Vec<PointExemplar>,
}

/// An exemplar of a point.
#[derive(Clone, Debug)]
pub(crate) struct PointExemplar {
    pub(crate) exemplar: Exemplar,
    /// With which it was recorded, and which the point does not have.
    pub(crate) filtered: Vec<KeyValue>,
    place: usize,
}

impl MetricExemplars {
    fn new(streams: &[Stream], target: &Target) -> Self {
        let mut metric = Self { hashes: RandomState::new(), points: HashMap::new() };
        for stream in streams {
            for series in stream.source.series() {
                let keeps =
                    |pair: &&KeyValue| stream.attributes.as_ref().is_none_or(|filter| filter.keeps(pair.key.as_str()));
                let (kept, filtered): (Vec<_>, Vec<_>) = distinct(series.attributes()).partition(keeps);
                for (bucket, exemplar) in series.exemplars().filter(|(_, exemplar)| target.is_new(exemplar)) {
                    let filtered = filtered.iter().copied().cloned().collect();
                    metric.add(&kept, PointExemplar { exemplar, filtered, place: target.place(bucket, &exemplar) });
                }
            }
        }
        metric
    }

    /// Adds an exemplar, unless there is a later one in its place.
    fn add(&mut self, attributes: &[&KeyValue], added: PointExemplar) {
        let points = self.points.entry(hash(&self.hashes, attributes)).or_default();
        let exemplars = match points.iter_mut().position(|point| are_same(&point.attributes, attributes)) {
            Some(index) => &mut points[index].exemplars,
            None => {
                let attributes = attributes.iter().copied().cloned().collect();
                points.push(Point { attributes, exemplars: Vec::new() });
                let last = points.len() - 1;
                &mut points[last].exemplars
            }
        };
        match exemplars.binary_search_by_key(&added.place, |other| other.place) {
            Ok(index) if exemplars[index].exemplar.time <= added.exemplar.time => exemplars[index] = added,
            Ok(_) => {}
            Err(index) => exemplars.insert(index, added),
        }
    }

    /// Those of the point with these attributes: one for a sum, one for each bucket of a histogram that has one, in order.
    pub(crate) fn of_point<'p>(&self, attributes: impl Iterator<Item = &'p KeyValue>) -> &[PointExemplar] {
        let all: Vec<&KeyValue> = attributes.collect();
        let attributes: Vec<&KeyValue> = distinct(all.iter().copied()).collect();
        let points = self.points.get(&hash(&self.hashes, &attributes)).into_iter().flatten();
        let mut same = points.filter(|point| are_same(&point.attributes, &attributes));
        same.next().map_or(&[], |point| &point.exemplars)
    }
}

/// Of a key that stands twice the first one counts, as it does for the SDK.
fn distinct<'a>(attributes: impl IntoIterator<Item = &'a KeyValue>) -> impl Iterator<Item = &'a KeyValue> {
    let mut keys: Vec<&str> = Vec::new();
    attributes.into_iter().filter(move |pair| {
        let is_first = !keys.contains(&pair.key.as_str());
        if is_first {
            keys.push(pair.key.as_str());
        }
        is_first
    })
}

/// The same in whatever order they come.
fn hash(hashes: &RandomState, attributes: &[&KeyValue]) -> u64 {
    attributes.iter().fold(0, |sum, pair| sum.wrapping_add(hashes.hash_one(pair)))
}

/// No key stands twice in either.
fn are_same(a: &[KeyValue], b: &[&KeyValue]) -> bool {
    a.len() == b.len() && a.iter().all(|pair| b.contains(&pair))
}

/// An instrument of the SDK, and the exemplars of what is recorded to it.
pub(super) struct Sampled<H> {
    handle: H,
    source: Arc<Source>,
}

impl<H> Sampled<H> {
    pub(super) fn new(handle: H, source: Arc<Source>) -> Self {
        Self { handle, source }
    }
}

impl<T, H> SyncInstrument<T> for Sampled<H>
where
    T: Copy + Into<Measured> + Send + Sync + 'static,
    H: Handle<T> + Send + Sync,
{
    fn measure(&self, value: T, attributes: &[KeyValue]) {
        self.handle.record(value, attributes);
        self.source.offer(value, attributes);
    }

    fn bind(&self, attributes: &[KeyValue]) -> Box<dyn BoundSyncInstrument<T> + Send + Sync> {
        let series = BoundSeries::new(&self.source, attributes);
        self.handle.bound(attributes, move |value| series.offer(value))
    }
}
