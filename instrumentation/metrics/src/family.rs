//! The metrics of one kind, and a map from keys to series: the macros of `metrics` register each time they record.
//!
//! No lock is held while the provider is called. It may log, and whoever takes the log may count log lines through
//! this very recorder.

use std::cell::Cell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use barograph::opentelemetry::KeyValue;
use barograph::opentelemetry::metrics::Meter;
use metrics::{Key, KeyName, Unit};

use crate::series::Series;
use crate::unit;

/// The series of one metric that are remembered: as many as a typed instrument can have.
const MAX_SERIES: usize = 10_000;

/// The metrics of one kind. Each costs the SDK a map of its own; who has more makes names at run time.
const MAX_METRICS: usize = 2_000;

/// The attribute of the series in which the SDK adds up what is beyond its limit.
const OVERFLOW: &str = "otel.metric.overflow";

/// Locks that the keys are spread over, so that threads that register different series rarely meet.
const SHARDS: usize = 16;

pub(crate) struct Family<S: Series> {
    shards: [RwLock<Shard<S>>; SHARDS],
    metrics: RwLock<HashMap<String, Metric<S>>>,
    has_said_full: AtomicBool,
}

type Shard<S> = HashMap<Key, Arc<S>, BuildHasherDefault<KeyHash>>;

enum Metric<S: Series> {
    Described(Description),
    Built(Arc<Built<S>>),
}

struct Built<S: Series> {
    description: Description,
    instrument: S::Instrument,
    series: AtomicUsize,
    overflow: OnceLock<Arc<S>>,
}

/// What an instrument is built with besides its name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Description {
    pub(crate) unit: Option<&'static str>,
    pub(crate) text: String,
}

impl Description {
    pub(crate) fn new(unit: Option<Unit>, text: &str) -> Self {
        Self { unit: unit.map(unit::ucum), text: text.to_owned() }
    }
}

impl<S: Series> Family<S> {
    /// Keeps what the metric will be built with. The latest description before the first registration counts.
    pub(crate) fn describe(&self, name: KeyName, description: Description) {
        let name = name.as_str();
        let mut metrics = self.metrics.write().unwrap_or_else(PoisonError::into_inner);
        let is_full = metrics.len() >= MAX_METRICS;
        match metrics.get_mut(name) {
            Some(Metric::Described(known)) => *known = description,
            Some(Metric::Built(built)) if built.description == description => {}
            Some(Metric::Built(_)) => {
                drop(metrics);
                tracing::debug!("the description of `{name}` came after its registration and is ignored");
            }
            None if is_full => {}
            None => _ = metrics.insert(name.to_owned(), Metric::Described(description)),
        }
    }

    /// The series of a key, the same one each time; `None` where nothing can be recorded.
    pub(crate) fn series(&self, key: &Key, meter: &Meter) -> Option<Arc<S>> {
        // The lower bits choose the place within a shard's map.
        let shard = self.shards.get((key.get_hash() >> 32) as usize % SHARDS)?;
        if let Some(series) = shard.read().unwrap_or_else(PoisonError::into_inner).get(key) {
            return Some(Arc::clone(series));
        }
        Building::run(|| self.bind(key, meter, shard)).flatten()
    }

    #[cold]
    fn bind(&self, key: &Key, meter: &Meter, shard: &RwLock<Shard<S>>) -> Option<Arc<S>> {
        let metric = self.metric(key.name(), meter)?;
        if metric.series.load(Ordering::Relaxed) >= MAX_SERIES {
            return Some(metric.overflow());
        }
        let pair = |label: &metrics::Label| KeyValue::new(label.key().to_owned(), label.value().to_owned());
        let bound = Arc::new(S::bind(&metric.instrument, key.labels().map(pair).collect()));
        let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
        match shard.entry(key.to_retained()) {
            // Another thread was faster.
            Entry::Occupied(first) => Some(Arc::clone(first.get())),
            Entry::Vacant(place) => {
                metric.series.fetch_add(1, Ordering::Relaxed);
                Some(Arc::clone(place.insert(bound)))
            }
        }
    }

    fn metric(&self, name: &str, meter: &Meter) -> Option<Arc<Built<S>>> {
        let (description, is_full) = {
            let metrics = self.metrics.read().unwrap_or_else(PoisonError::into_inner);
            match metrics.get(name) {
                Some(Metric::Built(built)) => return Some(Arc::clone(built)),
                Some(Metric::Described(description)) => (description.clone(), false),
                None => (Description::default(), metrics.len() >= MAX_METRICS),
            }
        };
        if is_full {
            if !self.has_said_full.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    "`{name}` records nothing: there are {MAX_METRICS} metrics of its kind already, put what makes \
                     names differ into labels"
                );
            }
            return None;
        }
        // There it would be refused, for good: the next registration builds it.
        if barograph::is_in_callback() {
            return None;
        }
        let instrument = S::build(meter, name.to_owned(), &description);
        let built = Built { description, instrument, series: AtomicUsize::new(0), overflow: OnceLock::new() };
        let mut metrics = self.metrics.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(Metric::Built(first)) = metrics.get(name) {
            return Some(Arc::clone(first));
        }
        let built = Arc::new(built);
        metrics.insert(name.to_owned(), Metric::Built(Arc::clone(&built)));
        Some(built)
    }
}

impl<S: Series> Default for Family<S> {
    fn default() -> Self {
        Self { shards: Default::default(), metrics: RwLock::default(), has_said_full: AtomicBool::new(false) }
    }
}

impl<S: Series> Built<S> {
    /// The series of all keys that are too many.
    fn overflow(&self) -> Arc<S> {
        let series = self.overflow.get().map(Arc::clone);
        series.unwrap_or_else(|| {
            let bound = Arc::new(S::bind(&self.instrument, vec![KeyValue::new(OVERFLOW, true)]));
            Arc::clone(self.overflow.get_or_init(|| bound))
        })
    }
}

/// Says that this thread is in the provider. What is registered meanwhile comes from a log of the provider's, and is not
/// built: a provider that logs whenever a name is wrong, and a log line that is counted under a wrong name, would never
/// come to an end.
pub(crate) struct Building;

thread_local! {
    static IS_BUILDING: Cell<bool> = const { Cell::new(false) };
}

impl Building {
    pub(crate) fn run<T>(build: impl FnOnce() -> T) -> Option<T> {
        if IS_BUILDING.try_with(|is_building| is_building.replace(true)).unwrap_or(true) {
            return None;
        }
        let _building = Self;
        Some(build())
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        let _ = IS_BUILDING.try_with(|is_building| is_building.set(false));
    }
}

/// Keys bring their hash.
#[derive(Default)]
struct KeyHash(u64);

impl Hasher for KeyHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, bytes: &[u8]) {
        // No key of `metrics` comes here; a hash of any quality is better than none.
        self.0 = bytes.iter().fold(self.0, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    }
}
