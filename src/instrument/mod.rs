//! Typed handles built from specs: what a component holds and records through.
//!
//! ```
//! use barograph::opentelemetry::metrics::MeterProvider;
//! use barograph::{CounterSpec, MeterExt, attribute};
//!
//! attribute! {
//!     /// How a job ended.
//!     pub enum JobStatus: "status" { Done = "done", Failed = "failed" }
//! }
//! const JOBS: CounterSpec<JobStatus> = CounterSpec::new("worker.jobs", "{job}", "Jobs that ended.");
//!
//! fn work(provider: &dyn MeterProvider) {
//!     let jobs = provider.meter("worker").counter(&JOBS);
//!     jobs.add(1, JobStatus::Done);
//! }
//! # work(&barograph::opentelemetry::metrics::NoopMeterProvider::new());
//! ```
//!
//! A handle has one cell or bound instrument for each combination of its attributes. Every thread counts in cells of its own, so
//! an add is a load and a store that no other thread waits for: it allocates nothing beyond a thread's first adds, blocks nobody
//! and never panics. Handles clone freely; handles built from the same spec on the same meter record into the same series.
//!
//! Attributes with no closed list of values go through the OpenTelemetry API itself: a spec that names them
//! [`open`](crate::CounterSpec::open) builds an OpenTelemetry instrument, whose name is then still written once.
//!
//! ```
//! use barograph::opentelemetry::KeyValue;
//! # use barograph::opentelemetry::metrics::MeterProvider;
//! # use barograph::{CounterSpec, MeterExt, attribute};
//! # attribute! {
//! #     /// How a job ended.
//! #     pub enum JobStatus: "status" { Done = "done", Failed = "failed" }
//! # }
//!
//! const JOBS: CounterSpec<JobStatus> = CounterSpec::new("pool.jobs", "{job}", "Jobs that ended.").open(&["pool"]);
//!
//! fn work(provider: &dyn MeterProvider) {
//!     let jobs = provider.meter("pool").open_counter(&JOBS);
//!     jobs.add(1, &[JobStatus::Done.into(), KeyValue::new("pool", "images")]);
//! }
//! # work(&barograph::opentelemetry::metrics::NoopMeterProvider::new());
//! ```

#[cfg_attr(not(feature = "prometheus"), allow(dead_code, reason = "without a pipeline nobody collects"))]
mod blocks;
mod cells;
mod counter;
mod gauge;
mod histogram;
mod in_flight;
mod observable;
mod operation;
#[cfg_attr(not(feature = "prometheus"), allow(dead_code, reason = "without a pipeline nobody collects"))]
mod series;
mod timer;

#[cfg(feature = "prometheus")]
pub(crate) use cells::{drain_all, take_cells};
pub use counter::{Counter, UpDownCounter};
pub use gauge::Gauge;
pub use histogram::Histogram;
pub use in_flight::InFlight;
#[cfg(all(test, feature = "prometheus"))]
pub(crate) use observable::finish_callback;
#[cfg(feature = "prometheus")]
pub(crate) use observable::take_finished;
pub use observable::{KeyedGauge, Observer, Registration};
pub use operation::{Call, CallOutcome, Operation, OperationAttributes, OperationSpec};
#[cfg(feature = "prometheus")]
pub(crate) use series::Drain;
pub use timer::{OutcomeTimer, Timer};

use std::cell::Cell;

use opentelemetry::metrics::{self, Meter};

#[cfg(feature = "prometheus")]
use crate::attribute::cardinality;
use crate::attribute::{AttributeInfo, AttributeSet};
use crate::spec::{
    CounterSpec, GaugeSpec, HistogramSpec, ObservableCounterSpec, ObservableGaugeSpec, ObservableUpDownCounterSpec,
    UpDownCounterSpec,
};

/// What `blocks` and `series` share memory by. A model of them brings its own: see `tests/model`.
mod sync {
    pub(super) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
    pub(super) use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
}

/// Builds typed handles from specs, on any OpenTelemetry [`Meter`].
pub trait MeterExt {
    /// A counter. Every combination of its attributes is exported as 0 from the first collection on.
    fn counter<A: AttributeSet>(&self, spec: &CounterSpec<A>) -> Counter<A>;

    /// An up-down counter. Every combination of its attributes is exported as 0 from the first collection on.
    fn up_down_counter<A: AttributeSet>(&self, spec: &UpDownCounterSpec<A>) -> UpDownCounter<A>;

    /// A gauge. A combination is exported once it has a value.
    fn gauge<A: AttributeSet>(&self, spec: &GaugeSpec<A>) -> Gauge<A>;

    /// A histogram. With attributes, every combination is exported with a count of 0 from the first collection on;
    /// without, the series begins with its first value.
    fn histogram<A: AttributeSet>(&self, spec: &HistogramSpec<A>) -> Histogram<A>;

    /// A counter that is read when somebody collects: `callback` observes the total so far, which never goes down.
    ///
    /// The series exist until the [`Registration`] is dropped. A callback that panics loses its own series and nothing
    /// else when the meter comes from Barograph's provider; it must not build instruments itself.
    fn observable_counter<A, F>(&self, spec: &ObservableCounterSpec<A>, callback: F) -> Registration
    where
        A: AttributeSet,
        F: Fn(&Observer<'_, A>) + Send + Sync + 'static;

    /// An up-down counter that is read when somebody collects. See [`observable_counter`](Self::observable_counter).
    fn observable_up_down_counter<A, F>(&self, spec: &ObservableUpDownCounterSpec<A>, callback: F) -> Registration
    where
        A: AttributeSet,
        F: Fn(&Observer<'_, A>) + Send + Sync + 'static;

    /// A gauge that is read when somebody collects. See [`observable_counter`](Self::observable_counter).
    fn observable_gauge<A, F>(&self, spec: &ObservableGaugeSpec<A>, callback: F) -> Registration
    where
        A: AttributeSet,
        F: Fn(&Observer<'_, A>) + Send + Sync + 'static;

    /// The OpenTelemetry counter of a spec with [open attributes](CounterSpec::open).
    ///
    /// Each add looks its attributes up. Where the same ones come again and again, `bind` them and keep what it returns:
    /// a bound series is exported from then on, as 0 at first.
    fn open_counter<A: AttributeSet>(&self, spec: &CounterSpec<A>) -> metrics::Counter<u64>;

    /// The OpenTelemetry up-down counter of a spec with open attributes. See [`open_counter`](Self::open_counter).
    fn open_up_down_counter<A: AttributeSet>(&self, spec: &UpDownCounterSpec<A>) -> metrics::UpDownCounter<i64>;

    /// The OpenTelemetry gauge of a spec with open attributes. See [`open_counter`](Self::open_counter).
    fn open_gauge<A: AttributeSet>(&self, spec: &GaugeSpec<A>) -> metrics::Gauge<f64>;

    /// The OpenTelemetry histogram of a spec with open attributes. See [`open_counter`](Self::open_counter).
    fn open_histogram<A: AttributeSet>(&self, spec: &HistogramSpec<A>) -> metrics::Histogram<f64>;

    /// The calls, durations and calls in progress of an operation, whose series are those of the three instruments that
    /// its spec declares.
    fn operation<S: OperationAttributes>(&self, spec: &OperationSpec<S>) -> Operation<S>;

    /// An observable gauge whose values are set from outside, and whose series can leave again: see [`KeyedGauge`].
    fn keyed_gauge<A: AttributeSet>(&self, spec: &ObservableGaugeSpec<A>) -> KeyedGauge<A>;
}

impl MeterExt for Meter {
    fn counter<A: AttributeSet>(&self, spec: &CounterSpec<A>) -> Counter<A> {
        Counter::build(self, &spec.descriptor())
    }

    fn up_down_counter<A: AttributeSet>(&self, spec: &UpDownCounterSpec<A>) -> UpDownCounter<A> {
        UpDownCounter::build(self, &spec.descriptor())
    }

    fn gauge<A: AttributeSet>(&self, spec: &GaugeSpec<A>) -> Gauge<A> {
        Gauge::build(self, &spec.descriptor())
    }

    fn histogram<A: AttributeSet>(&self, spec: &HistogramSpec<A>) -> Histogram<A> {
        Histogram::build(self, &spec.descriptor())
    }

    fn observable_counter<A, F>(&self, spec: &ObservableCounterSpec<A>, callback: F) -> Registration
    where
        A: AttributeSet,
        F: Fn(&Observer<'_, A>) + Send + Sync + 'static,
    {
        observable::register(&spec.descriptor(), callback, |descriptor, callback| {
            self.f64_observable_counter(descriptor.name)
                .with_unit(descriptor.unit)
                .with_description(descriptor.description)
                .with_callback(callback)
                .build();
        })
    }

    fn observable_up_down_counter<A, F>(&self, spec: &ObservableUpDownCounterSpec<A>, callback: F) -> Registration
    where
        A: AttributeSet,
        F: Fn(&Observer<'_, A>) + Send + Sync + 'static,
    {
        observable::register(&spec.descriptor(), callback, |descriptor, callback| {
            self.f64_observable_up_down_counter(descriptor.name)
                .with_unit(descriptor.unit)
                .with_description(descriptor.description)
                .with_callback(callback)
                .build();
        })
    }

    fn observable_gauge<A, F>(&self, spec: &ObservableGaugeSpec<A>, callback: F) -> Registration
    where
        A: AttributeSet,
        F: Fn(&Observer<'_, A>) + Send + Sync + 'static,
    {
        observable::register(&spec.descriptor(), callback, |descriptor, callback| {
            self.f64_observable_gauge(descriptor.name)
                .with_unit(descriptor.unit)
                .with_description(descriptor.description)
                .with_callback(callback)
                .build();
        })
    }

    fn open_counter<A: AttributeSet>(&self, spec: &CounterSpec<A>) -> metrics::Counter<u64> {
        counter::open(self, &spec.descriptor())
    }

    fn open_up_down_counter<A: AttributeSet>(&self, spec: &UpDownCounterSpec<A>) -> metrics::UpDownCounter<i64> {
        counter::open_up_down(self, &spec.descriptor())
    }

    fn open_gauge<A: AttributeSet>(&self, spec: &GaugeSpec<A>) -> metrics::Gauge<f64> {
        gauge::open(self, &spec.descriptor())
    }

    fn open_histogram<A: AttributeSet>(&self, spec: &HistogramSpec<A>) -> metrics::Histogram<f64> {
        histogram::open(self, &spec.descriptor())
    }

    fn operation<S: OperationAttributes>(&self, spec: &OperationSpec<S>) -> Operation<S> {
        Operation::build(self, spec)
    }

    fn keyed_gauge<A: AttributeSet>(&self, spec: &ObservableGaugeSpec<A>) -> KeyedGauge<A> {
        KeyedGauge::build(self, spec)
    }
}

thread_local! {
    static IN_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is inside the callback of an observable, or collects, on Barograph's provider: an instrument that is
/// built then is refused, because the SDK may hold its lock.
///
/// For who builds instruments on behalf of others, as a bridge does: it asks, and builds later.
#[must_use]
pub fn is_in_callback() -> bool {
    IN_CALLBACK.try_with(Cell::get).unwrap_or(false)
}

/// While it lives, this thread is inside a callback.
#[cfg(feature = "prometheus")]
pub(crate) struct InCallback {
    outer: bool,
}

#[cfg(feature = "prometheus")]
impl InCallback {
    pub(crate) fn enter() -> Self {
        Self { outer: IN_CALLBACK.replace(true) }
    }
}

#[cfg(feature = "prometheus")]
impl Drop for InCallback {
    fn drop(&mut self) {
        IN_CALLBACK.set(self.outer);
    }
}

thread_local! {
    static DECLARED: Cell<Option<&'static [AttributeInfo]>> = const { Cell::new(None) };
    static IS_BUILDING: Cell<bool> = const { Cell::new(false) };
}

/// Runs `build` while the provider can learn which attributes, and so how many series, the instrument has.
///
/// The OpenTelemetry API has no place for it, the SDK calls views on the thread that builds the instrument, and by
/// default it preallocates a map of 2,000 entries for each: an exact limit saves about 130 KB an instrument.
pub(crate) fn with_attributes<T>(attributes: &'static [AttributeInfo], build: impl FnOnce() -> T) -> T {
    let outer = (DECLARED.replace(Some(attributes)), IS_BUILDING.replace(false));
    let built = build();
    DECLARED.set(outer.0);
    IS_BUILDING.set(outer.1);
    built
}

/// While it lives, this thread builds one instrument. Building logs, and who takes the log may build another: what the first
/// has declared is not that one's.
#[cfg(feature = "prometheus")]
pub(crate) struct Building {
    hidden: Option<(Option<&'static [AttributeInfo]>, Option<cells::Offer>)>,
}

#[cfg(feature = "prometheus")]
impl Building {
    pub(crate) fn enter() -> Self {
        let is_another = IS_BUILDING.replace(true);
        Self { hidden: is_another.then(|| (DECLARED.take(), cells::replace_offer(cells::Offer::default()))) }
    }
}

#[cfg(feature = "prometheus")]
impl Drop for Building {
    fn drop(&mut self) {
        match self.hidden.take() {
            Some((declared, offer)) => {
                DECLARED.set(declared);
                cells::replace_offer(offer.unwrap_or_default());
            }
            None => IS_BUILDING.set(false),
        }
    }
}

/// The attributes of the typed instrument that this thread is building, if it is building one.
#[cfg(feature = "prometheus")]
pub(crate) fn declared_attributes() -> Option<&'static [AttributeInfo]> {
    DECLARED.get()
}

/// The number of series of the typed instrument that this thread is building, if it is building one.
#[cfg(feature = "prometheus")]
pub(crate) fn exact_cardinality() -> Option<usize> {
    DECLARED.get().map(cardinality)
}
