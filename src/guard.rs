//! Our meter provider: the SDK's, with a guard around everything that a program can get wrong.
//!
//! - A callback that panics loses its own series and nothing else. In the SDK alone a single panic poisons the pipeline
//!   and every later scrape is empty.
//! - A callback that hangs loses its own series too, and nobody waits for it for long: see [`round`].
//! - A callback may finish: see [`Registration`](crate::Registration).
//! - An instrument built inside a callback is refused. In the SDK alone it would deadlock.
//! - A histogram without boundaries gets buckets that fit its unit.
//! - Typed counters are drained into the SDK before a reader looks.
//! - Attributes that a view leaves out by a pattern are left out, which the SDK has no way to be told.
//! - A meter that is switched off records nothing.
//! - Every instrument is known to the [`Catalogue`], which finds names that collide while the program starts.
//! - Counters and histograms keep exemplars, which the SDK does not.
//! - A metric that comes near its limit of series is said to, with the attributes that have too many values.

mod callbacks;
mod catalogue;
mod exemplars;
mod filter;
mod governor;
mod round;

use std::any::Any;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use opentelemetry::InstrumentationScope;
use opentelemetry::metrics::{
    AsyncInstrument, AsyncInstrumentBuilder, Callback, Counter, Gauge, Histogram, HistogramBuilder, InstrumentBuilder,
    InstrumentProvider, Meter, MeterProvider, ObservableCounter, ObservableGauge, ObservableUpDownCounter,
    UpDownCounter,
};
use opentelemetry_sdk::metrics::SdkMeterProvider;

use crate::error::Problem;
use crate::exemplar::{Filter, Source};
use crate::instrument::{
    Building, Drain, InCallback, declared_attributes, drain_all, exact_cardinality, is_in_callback, take_cells,
    with_attributes,
};
use crate::self_metrics::{self, Refusal, SelfMetrics};
use crate::spec::{Kind, buckets};
use crate::view::{DRAIN_SCOPE, KeyFilter, Pattern, ReaderDefaults, Views, is_strictly_ascending, only_stream};
use callbacks::Observable;
use catalogue::Declared;
pub(crate) use catalogue::{Catalogue, Instrument, Known, Scraped};
pub(crate) use exemplars::{Exemplars, MetricExemplars, PointExemplar};
use exemplars::{Sampled, Sources};
use filter::{Filtered, FilteredObserver, Number};
use governor::Governor;
pub(crate) use governor::{MergedFamily, SeenStream, Snapshot, Watch};
pub(crate) use round::{Callbacks, PATIENCE, Round, Trouble, Watched, Work, is_in_round};

/// Hands out guarded meters. Clones share everything; an argument for everything that takes a `&dyn MeterProvider`.
#[derive(Clone, Debug)]
pub struct GuardedMeterProvider {
    sdk: SdkMeterProvider,
    shared: Arc<Shared>,
}

/// Which meters record anything: the first pattern that matches a meter's name decides.
#[derive(Clone, Debug)]
pub(crate) struct EnabledMeters {
    pub(crate) default: bool,
    pub(crate) rules: Vec<(Pattern, bool)>,
}

impl EnabledMeters {
    /// Whether every meter of the program is. The pipeline's own is not one of them: no view is about it.
    fn is_all(&self) -> bool {
        let is_own = |pattern: &Pattern| pattern.as_str() == self_metrics::SCOPE;
        self.default && self.rules.iter().all(|(pattern, enabled)| *enabled || is_own(pattern))
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.rules.iter().find(|(pattern, _)| pattern.matches(name)).map_or(self.default, |(_, enabled)| *enabled)
    }
}

#[derive(Debug)]
struct Shared {
    enabled: EnabledMeters,
    catalogue: Catalogue,
    governor: Governor,
    self_metrics: Arc<SelfMetrics>,
    /// Every observable that the SDK has not dropped, so that one that is built again gets its callbacks added.
    observables: Mutex<HashMap<Instrument, Weak<dyn Any + Send + Sync>>>,
    callbacks: Arc<Callbacks>,
    cells: Arc<Cells>,
    exemplars: Sources,
}

impl GuardedMeterProvider {
    pub(crate) fn new(
        sdk: SdkMeterProvider,
        views: Arc<Views>,
        scraped: Scraped,
        enabled: EnabledMeters,
        exemplars: Option<Filter>,
        self_metrics: Arc<SelfMetrics>,
    ) -> Self {
        let cells = Arc::new(Cells::default());
        let drained = Arc::clone(&cells);
        let callbacks = Arc::new(Callbacks::default());
        let attended = Arc::clone(&callbacks);
        // Callbacks are what every collection of every reader begins with. This one observes nothing, so its instrument
        // is never exported, and no view can select it.
        with_attributes(&[], || {
            let begin = move |_: &dyn AsyncInstrument<u64>| {
                attended.attend();
                drained.drain();
            };
            sdk.meter(DRAIN_SCOPE).u64_observable_gauge("drain").with_callback(begin).build()
        });
        let observables = Mutex::default();
        let catalogue = Catalogue::new(views, scraped, enabled.is_all());
        let governor = Governor::default();
        let exemplars = Sources::new(exemplars);
        let shared = Shared { enabled, catalogue, governor, self_metrics, observables, callbacks, cells, exemplars };
        Self { sdk, shared: Arc::new(shared) }
    }

    pub(crate) fn catalogue(&self) -> &Catalogue {
        &self.shared.catalogue
    }

    /// The eyes for the reader of this number, which are to be shown all that it collects.
    pub(crate) fn watch(
        &self,
        reader: usize,
        defaults: ReaderDefaults,
        is_cumulative: bool,
        has_details: bool,
    ) -> Watch {
        Watch { shared: Arc::clone(&self.shared), reader, defaults, is_cumulative, has_details }
    }

    /// What is run before a reader collects.
    pub(crate) fn callbacks(&self) -> &Arc<Callbacks> {
        &self.shared.callbacks
    }
}

impl MeterProvider for GuardedMeterProvider {
    fn meter_with_scope(&self, scope: InstrumentationScope) -> Meter {
        if !self.shared.enabled.contains(scope.name()) {
            return Meter::new(Arc::new(Refused));
        }
        let meter = self.sdk.meter_with_scope(scope.clone());
        Meter::new(Arc::new(GuardedMeter { scope, meter, shared: Arc::clone(&self.shared) }))
    }
}

/// Every typed counter: see `instrument::series`.
#[derive(Default)]
struct Cells {
    all: Mutex<Vec<Arc<dyn Drain>>>,
}

impl Cells {
    /// Takes the cells of the counter that this thread is building, if it is building a typed one. Then it is the handle
    /// that keeps exemplars: when the cells are drained, nobody knows any more who has counted.
    fn adopt(&self, exemplars: Option<&Arc<Source>>) -> bool {
        let Some(cells) = take_cells(exemplars.cloned()) else {
            return false;
        };
        let lock = || self.all.lock().unwrap_or_else(PoisonError::into_inner);
        // Handles come and go; a list that would grow first lets go of those that are gone.
        let is_full = {
            let all = lock();
            !all.is_empty() && all.len() == all.capacity()
        };
        if is_full {
            self.drain();
            // So that it is not full again soon.
            let mut all = lock();
            let used = all.len();
            all.reserve(used);
        }
        lock().push(cells);
        true
    }

    fn drain(&self) {
        // Who builds an instrument here, because the SDK logs, may find the list full and come back.
        let _not_now = InCallback::enter();
        drain_all(&self.all);
    }
}

impl std::fmt::Debug for Cells {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cells")
    }
}

struct GuardedMeter {
    scope: InstrumentationScope,
    meter: Meter,
    shared: Arc<Shared>,
}

impl GuardedMeter {
    /// Whether the instrument may be built. If not, it has been said why.
    fn admit(&self, instrument: &Instrument, buckets: Option<&[f64]>) -> bool {
        let name = || instrument.full_name();
        let (problem, refusal) = if !is_instrument_name(&instrument.name) {
            (Problem::InvalidName { instrument: name() }, Refusal::InvalidName)
        } else if !is_unit(&instrument.unit) {
            (Problem::InvalidUnit { instrument: name(), unit: instrument.unit.clone() }, Refusal::InvalidUnit)
        } else if is_in_callback() {
            (Problem::BuiltInCallback { instrument: name() }, Refusal::BuiltInCallback)
        } else {
            self.shared.catalogue.add(instrument, Declared { attributes: declared_attributes(), buckets });
            return true;
        };
        self.refuse(problem, refusal);
        false
    }

    /// Where exemplars of an instrument go, `None` where there are to be none.
    fn exemplars(&self, instrument: &Instrument, bounds: &[f64]) -> Option<Arc<Source>> {
        let plan = || self.shared.catalogue.plan(instrument);
        self.shared.exemplars.of(instrument, bounds, exact_cardinality(), plan)
    }

    fn refuse(&self, problem: Problem, refusal: Refusal) {
        self.shared.self_metrics.instrument_refused(refusal);
        self.shared.catalogue.report(problem);
    }

    fn instrument(
        &self,
        kind: Kind,
        number: &'static str,
        name: &str,
        unit: Option<&Cow<'static, str>>,
        description: Option<&Cow<'static, str>>,
    ) -> Instrument {
        Instrument {
            scope: self.scope.clone(),
            name: name.to_owned(),
            unit: unit.map_or_else(String::new, |unit| unit.to_string()),
            description: description.map_or_else(String::new, |description| description.to_string()),
            kind,
            number,
        }
    }

    /// Adds the callbacks to those of the instrument. Returns it when it is new: the SDK is then given one callback that
    /// observes what the whole list has observed, however often the instrument is built.
    fn add_callbacks<M: Number + 'static>(
        &self,
        instrument: Instrument,
        added: Vec<Callback<M>>,
    ) -> Option<Arc<Observable<M>>> {
        let mut observables = self.shared.observables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = observables.get(&instrument).and_then(Weak::upgrade) {
            // The number type is part of the instrument, so the observable has the type.
            if let Ok(known) = known.downcast::<Observable<M>>() {
                known.extend(added);
            }
            return None;
        }
        let metrics = self.shared.self_metrics.callback(&instrument.name);
        let observable = Arc::new(Observable::new(instrument.full_name(), metrics, added));
        let known: Arc<dyn Any + Send + Sync> = Arc::clone(&observable) as _;
        observables.insert(instrument, Arc::downgrade(&known));
        let work: Arc<dyn Work> = Arc::clone(&observable.watched) as _;
        self.shared.callbacks.add(Arc::downgrade(&work));
        Some(observable)
    }
}

/// Whether the text follows the [instrument name syntax].
///
/// [instrument name syntax]: https://opentelemetry.io/docs/specs/otel/metrics/api/#instrument-name-syntax
fn is_instrument_name(name: &str) -> bool {
    name.len() <= 255
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'/'))
}

/// The buckets that the SDK gives a histogram where nobody says any: those of the specification.
const DEFAULT_BOUNDS: &[f64] =
    &[0.0, 5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1e3, 2.5e3, 5e3, 7.5e3, 1e4];

fn is_unit(unit: &str) -> bool {
    unit.len() <= 63 && unit.is_ascii()
}

macro_rules! synchronous {
    ($method:ident, $handle:ident<$number:ty>, $kind:ident) => {
        fn $method(&self, builder: InstrumentBuilder<'_, $handle<$number>>) -> $handle<$number> {
            let _building = Building::enter();
            const IS_COUNTER: bool = matches!(Kind::$kind, Kind::Counter);
            let instrument = self.instrument(
                Kind::$kind,
                stringify!($number),
                &builder.name,
                builder.unit.as_ref(),
                builder.description.as_ref(),
            );
            if !self.admit(&instrument, None) {
                return Refused.$method(builder);
            }
            // What goes up and down is a gauge to Prometheus, which has no exemplars of gauges.
            let exemplars = if IS_COUNTER { self.exemplars(&instrument, &[]) } else { None };
            let exemplars = if self.shared.cells.adopt(exemplars.as_ref()) { None } else { exemplars };
            let build = || {
                let mut inner = self.meter.$method(builder.name.clone());
                inner.unit = builder.unit.clone();
                inner.description = builder.description.clone();
                inner.build()
            };
            let handle = match self.shared.catalogue.filters(&instrument) {
                None => build(),
                Some(filters) => $handle::new(Arc::new(Filtered::new(filters, build))),
            };
            match exemplars {
                None => handle,
                Some(source) => $handle::new(Arc::new(Sampled::new(handle, source))),
            }
        }
    };
}

macro_rules! observable {
    ($method:ident, $handle:ident<$number:ty>, $kind:ident) => {
        fn $method(&self, builder: AsyncInstrumentBuilder<'_, $handle<$number>, $number>) -> $handle<$number> {
            let _building = Building::enter();
            const IS_SUM: bool = !matches!(Kind::$kind, Kind::ObservableGauge);
            const IS_COUNTER: bool = matches!(Kind::$kind, Kind::ObservableCounter);
            let instrument = self.instrument(
                Kind::$kind,
                stringify!($number),
                &builder.name,
                builder.unit.as_ref(),
                builder.description.as_ref(),
            );
            if !self.admit(&instrument, None) {
                return $handle::new();
            }
            let filters = self.shared.catalogue.filters(&instrument);
            if let Some(observable) = self.add_callbacks(instrument, builder.callbacks) {
                let build = |filter: Option<KeyFilter>| {
                    let mut inner = self.meter.$method(builder.name.clone());
                    inner.unit = builder.unit.clone();
                    inner.description = builder.description.clone();
                    let observable = Arc::clone(&observable);
                    match filter {
                        None => inner.with_callback(move |observer| observable.observe(observer, IS_COUNTER)).build(),
                        Some(filter) => inner
                            .with_callback(move |observer| {
                                FilteredObserver::run(&filter, observer, IS_SUM, |all| {
                                    observable.observe(all, IS_COUNTER)
                                });
                            })
                            .build(),
                    };
                };
                match filters {
                    None => build(None),
                    Some(filters) => {
                        filters.into_iter().enumerate().for_each(|(place, filter)| only_stream(place, || build(filter)))
                    }
                }
            }
            $handle::new()
        }
    };
}

macro_rules! histogram {
    ($method:ident, $number:ty) => {
        fn $method(&self, builder: HistogramBuilder<'_, Histogram<$number>>) -> Histogram<$number> {
            let _building = Building::enter();
            let instrument = self.instrument(
                Kind::Histogram,
                stringify!($number),
                &builder.name,
                builder.unit.as_ref(),
                builder.description.as_ref(),
            );
            if let Some(bounds) = &builder.boundaries
                && !is_strictly_ascending(bounds)
            {
                let problem = Problem::InvalidBuckets { instrument: instrument.full_name(), bounds: bounds.clone() };
                self.refuse(problem, Refusal::InvalidBuckets);
                return Refused.$method(builder);
            }
            if !self.admit(&instrument, builder.boundaries.as_deref()) {
                return Refused.$method(builder);
            }
            // The SDK's default boundaries are for milliseconds: in seconds, nearly everything would be one bucket.
            let fitting = || buckets::for_unit(&instrument.unit).map(<[f64]>::to_vec);
            let boundaries = builder.boundaries.or_else(fitting);
            let build = || {
                let mut inner = self.meter.$method(builder.name.clone());
                inner.boundaries = boundaries.clone();
                inner.unit = builder.unit.clone();
                inner.description = builder.description.clone();
                inner.build()
            };
            let handle = match self.shared.catalogue.filters(&instrument) {
                None => build(),
                Some(filters) => Histogram::new(Arc::new(Filtered::new(filters, build))),
            };
            match self.exemplars(&instrument, boundaries.as_deref().unwrap_or(DEFAULT_BOUNDS)) {
                None => handle,
                Some(source) => Histogram::new(Arc::new(Sampled::new(handle, source))),
            }
        }
    };
}

impl InstrumentProvider for GuardedMeter {
    synchronous!(u64_counter, Counter<u64>, Counter);
    synchronous!(f64_counter, Counter<f64>, Counter);
    synchronous!(i64_up_down_counter, UpDownCounter<i64>, UpDownCounter);
    synchronous!(f64_up_down_counter, UpDownCounter<f64>, UpDownCounter);
    synchronous!(u64_gauge, Gauge<u64>, Gauge);
    synchronous!(i64_gauge, Gauge<i64>, Gauge);
    synchronous!(f64_gauge, Gauge<f64>, Gauge);
    observable!(u64_observable_counter, ObservableCounter<u64>, ObservableCounter);
    observable!(f64_observable_counter, ObservableCounter<f64>, ObservableCounter);
    observable!(i64_observable_up_down_counter, ObservableUpDownCounter<i64>, ObservableUpDownCounter);
    observable!(f64_observable_up_down_counter, ObservableUpDownCounter<f64>, ObservableUpDownCounter);
    observable!(u64_observable_gauge, ObservableGauge<u64>, ObservableGauge);
    observable!(i64_observable_gauge, ObservableGauge<i64>, ObservableGauge);
    observable!(f64_observable_gauge, ObservableGauge<f64>, ObservableGauge);
    histogram!(f64_histogram, f64);
    histogram!(u64_histogram, u64);
}

/// Builds what records nothing: every method of the trait does by default.
struct Refused;

impl InstrumentProvider for Refused {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposition::Naming;

    #[test]
    fn cells_of_handles_that_are_gone_are_forgotten() {
        use crate::instrument::MeterExt;

        const COUNTED: crate::CounterSpec = crate::CounterSpec::new("counted", "{thing}", "Things.");
        let sdk = SdkMeterProvider::builder().build();
        let views = Arc::new(Views::new(Vec::new()).unwrap());
        let self_metrics = Arc::new(SelfMetrics::new(&sdk));
        let provider = GuardedMeterProvider::new(
            sdk,
            views,
            Scraped { naming: Naming::default(), target_info: true, scope_info: true },
            EnabledMeters { default: true, rules: Vec::new() },
            None,
            self_metrics,
        );
        let kept: Vec<_> = (0..3).map(|_| provider.meter("m").counter(&COUNTED)).collect();
        for _ in 0..1_000 {
            drop(provider.meter("m").counter(&COUNTED));
        }
        let cells = provider.shared.cells.all.lock().unwrap();
        assert!(cells.len() < 20, "{} cells for {} handles", cells.len(), kept.len());
    }

    #[test]
    fn names_and_units_follow_the_specification() {
        for name in ["a", "A.b-c/d_1", &"a".repeat(255)] {
            assert!(is_instrument_name(name), "{name}");
        }
        for name in ["", "1a", "_a", "a b", "é", "a:b", &"a".repeat(256)] {
            assert!(!is_instrument_name(name), "{name}");
        }
        assert!(is_unit("") && is_unit("{request}"));
        assert!(!is_unit("µs") && !is_unit(&"s".repeat(64)));
    }
}
