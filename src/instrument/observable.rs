//! Observables: values that are read when somebody collects.
//!
//! The OpenTelemetry API cannot unregister a callback. Here a registration is a guard: once it is dropped its callback
//! is never called again, its series are gone from the next collection on, and Barograph's provider forgets it.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Meter};

use super::{MeterExt, with_attributes};
use crate::attribute::{AttributeSet, combinations};
use crate::spec::{Descriptor, ObservableGaugeSpec};

/// Takes what a callback observes.
pub struct Observer<'a, A = ()> {
    instrument: &'a dyn AsyncInstrument<f64>,
    series: &'a [Vec<KeyValue>],
    attributes: PhantomData<fn(A)>,
}

impl<A: AttributeSet> Observer<'_, A> {
    /// Reports the current value of the series of `attributes`. The last report of a collection counts.
    pub fn observe(&self, value: f64, attributes: A) {
        if let Some(series) = self.series.get(attributes.index()) {
            self.instrument.observe(value, series);
        }
    }

    /// Reports the current value of a series that has `open` attributes too, those that the spec
    /// [says](crate::ObservableGaugeSpec::open). Keep their values few: each is a series.
    pub fn observe_with(&self, value: f64, attributes: A, open: &[KeyValue]) {
        if let Some(series) = self.series.get(attributes.index()) {
            self.instrument.observe(value, &[series, open].concat());
        }
    }
}

impl<A> std::fmt::Debug for Observer<'_, A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observer").field("series", &self.series.len()).finish()
    }
}

/// Keeps an observable's callback registered. Drop it and the series are gone.
#[must_use = "an observable is gone when its registration is dropped"]
#[derive(Debug)]
pub struct Registration {
    _alive: Arc<()>,
}

/// What the OpenTelemetry API takes as a callback.
pub(super) type Callback = Box<dyn Fn(&dyn AsyncInstrument<f64>) + Send + Sync>;

pub(super) fn register<A, F>(
    descriptor: &Descriptor,
    callback: F,
    build: impl FnOnce(&Descriptor, Callback),
) -> Registration
where
    A: AttributeSet,
    F: Fn(&Observer<'_, A>) + Send + Sync + 'static,
{
    let alive = Arc::new(());
    let registration: Weak<()> = Arc::downgrade(&alive);
    let series: Vec<Vec<KeyValue>> = combinations::<A>().collect();
    let callback = Box::new(move |instrument: &dyn AsyncInstrument<f64>| {
        if registration.strong_count() == 0 {
            finish_callback();
            return;
        }
        callback(&Observer { instrument, series: &series, attributes: PhantomData });
    });
    if descriptor.open_attributes.is_empty() {
        with_attributes(A::ATTRIBUTES, || build(descriptor, callback));
    } else {
        build(descriptor, callback);
    }
    Registration { _alive: alive }
}

thread_local! {
    static FINISHED: Cell<bool> = const { Cell::new(false) };
}

/// Says that the callback that runs on this thread has nothing more to say, ever.
pub(crate) fn finish_callback() {
    FINISHED.set(true);
}

/// Whether a callback that ran on this thread since the last question has nothing more to say, ever.
///
/// This is how a callback tells the provider that it can be forgotten: the API gives it no other way.
#[cfg(feature = "prometheus")]
pub(crate) fn take_finished() -> bool {
    FINISHED.replace(false)
}

/// A gauge whose series come and go: each is exported from [`set`](Self::set) until [`remove`](Self::remove).
///
/// Built by [`MeterExt::keyed_gauge`]. Clones share the values; when the last one is dropped, all series are gone.
///
/// ```
/// # use barograph::opentelemetry::metrics::{MeterProvider, NoopMeterProvider};
/// use barograph::{MeterExt, ObservableGaugeSpec, attribute};
///
/// attribute! {
///     /// A replica of the store.
///     pub enum Replica: "replica" { East = "east", West = "west" }
/// }
/// const LAG: ObservableGaugeSpec<Replica> =
///     ObservableGaugeSpec::new("store.replication_lag", "s", "Age of a connected replica's newest entry.");
///
/// # let meter = NoopMeterProvider::new().meter("store");
/// let lag = meter.keyed_gauge(&LAG);
/// lag.set(0.2, Replica::East);    // connected: one series
/// lag.remove(Replica::East);      // gone: no series, rather than a last value for ever
/// ```
pub struct KeyedGauge<A: AttributeSet> {
    // Bits of an f64; NaN where there is no value, because a gauge exports no NaN.
    values: Arc<[AtomicU64]>,
    registration: Arc<Registration>,
    attributes: PhantomData<fn(A)>,
}

impl<A: AttributeSet> KeyedGauge<A> {
    pub(super) fn build(meter: &Meter, spec: &ObservableGaugeSpec<A>) -> Self {
        let values: Arc<[AtomicU64]> = (0..A::CARDINALITY).map(|_| AtomicU64::new(ABSENT)).collect();
        let observed = Arc::clone(&values);
        let registration = meter.observable_gauge(spec, move |observer| {
            for (value, series) in observed.iter().zip(observer.series) {
                let value = f64::from_bits(value.load(Ordering::Relaxed));
                if !value.is_nan() {
                    observer.instrument.observe(value, series);
                }
            }
        });
        Self { values, registration: Arc::new(registration), attributes: PhantomData }
    }

    /// Makes `value` the value of the series of `attributes`. NaN and infinities are ignored.
    pub fn set(&self, value: f64, attributes: A) {
        if value.is_finite() {
            self.store(value.to_bits(), attributes);
        }
    }

    /// Takes the series of `attributes` away.
    pub fn remove(&self, attributes: A) {
        self.store(ABSENT, attributes);
    }

    /// Takes all series away.
    pub fn clear(&self) {
        for value in self.values.iter() {
            value.store(ABSENT, Ordering::Relaxed);
        }
    }

    fn store(&self, bits: u64, attributes: A) {
        if let Some(value) = self.values.get(attributes.index()) {
            value.store(bits, Ordering::Relaxed);
        }
    }
}

const ABSENT: u64 = f64::NAN.to_bits();

impl<A: AttributeSet> Clone for KeyedGauge<A> {
    fn clone(&self) -> Self {
        Self { values: Arc::clone(&self.values), registration: Arc::clone(&self.registration), attributes: PhantomData }
    }
}

impl<A: AttributeSet> std::fmt::Debug for KeyedGauge<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyedGauge").field("series", &self.values.len()).finish()
    }
}
