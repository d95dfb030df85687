//! What a handle of `metrics` records to: one series of an OpenTelemetry instrument.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use ::metrics::{CounterFn, GaugeFn, HistogramFn};
use barograph::opentelemetry::KeyValue;
use barograph::opentelemetry::metrics::{self, BoundCounter, BoundGauge, BoundHistogram, Meter};

use crate::family::{Building, Description};
use crate::unit;

/// One series of an instrument of some kind.
pub(crate) trait Series {
    type Instrument;

    fn build(meter: &Meter, name: String, description: &Description) -> Self::Instrument;

    fn bind(instrument: &Self::Instrument, attributes: Vec<KeyValue>) -> Self;
}

pub(crate) struct CounterSeries {
    bound: BoundCounter<u64>,
    /// What was counted, for `absolute`: the SDK does not tell.
    total: AtomicU64,
}

impl Series for CounterSeries {
    type Instrument = metrics::Counter<u64>;

    fn build(meter: &Meter, name: String, description: &Description) -> Self::Instrument {
        let builder = meter.u64_counter(name).with_unit(description.unit.unwrap_or_default());
        builder.with_description(description.text.clone()).build()
    }

    fn bind(instrument: &Self::Instrument, attributes: Vec<KeyValue>) -> Self {
        let bound = instrument.bind(&attributes);
        // The SDK exports a series without attributes from its first add on, so each gets one.
        bound.add(0);
        Self { bound, total: AtomicU64::new(0) }
    }
}

impl CounterFn for CounterSeries {
    fn increment(&self, value: u64) {
        self.total.fetch_add(value, Ordering::Relaxed);
        self.bound.add(value);
    }

    fn absolute(&self, value: u64) {
        let before = self.total.fetch_max(value, Ordering::Relaxed);
        // A value that is older than another arrives late: a counter does not go back.
        if value > before {
            self.bound.add(value - before);
        }
    }
}

pub(crate) struct GaugeSeries {
    gauge: metrics::Gauge<f64>,
    attributes: Vec<KeyValue>,
    // Bound at the first value, because the SDK exports a bound series from then on.
    bound: OnceLock<BoundGauge<f64>>,
    /// The latest value. An OpenTelemetry gauge cannot be incremented, and values must reach it in their order.
    value: Mutex<f64>,
}

impl GaugeSeries {
    fn update(&self, change: impl FnOnce(f64) -> f64) {
        let bound = match self.bound.get() {
            Some(bound) => bound,
            None => {
                // Not within `get_or_init`: the provider may log, and who takes the log may record to this very series.
                let Some(bound) = Building::run(|| self.gauge.bind(&self.attributes)) else { return };
                self.bound.get_or_init(|| bound)
            }
        };
        let mut value = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(*value);
        if changed.is_finite() {
            *value = changed;
            bound.record(changed);
        }
    }
}

impl Series for GaugeSeries {
    type Instrument = metrics::Gauge<f64>;

    fn build(meter: &Meter, name: String, description: &Description) -> Self::Instrument {
        let builder = meter.f64_gauge(name).with_unit(description.unit.unwrap_or_default());
        builder.with_description(description.text.clone()).build()
    }

    fn bind(instrument: &Self::Instrument, attributes: Vec<KeyValue>) -> Self {
        Self { gauge: instrument.clone(), attributes, bound: OnceLock::new(), value: Mutex::new(0.0) }
    }
}

impl GaugeFn for GaugeSeries {
    fn increment(&self, value: f64) {
        if value.is_finite() {
            self.update(|before| before + value);
        }
    }

    fn decrement(&self, value: f64) {
        self.increment(-value);
    }

    fn set(&self, value: f64) {
        if value.is_finite() {
            self.update(|_| value);
        }
    }
}

pub(crate) struct HistogramSeries(BoundHistogram<f64>);

impl Series for HistogramSeries {
    type Instrument = metrics::Histogram<f64>;

    fn build(meter: &Meter, name: String, description: &Description) -> Self::Instrument {
        let unit = description.unit.unwrap_or_else(|| unit::of_name(&name));
        meter.f64_histogram(name).with_unit(unit).with_description(description.text.clone()).build()
    }

    fn bind(instrument: &Self::Instrument, attributes: Vec<KeyValue>) -> Self {
        Self(instrument.bind(&attributes))
    }
}

impl HistogramFn for HistogramSeries {
    fn record(&self, value: f64) {
        if value.is_finite() {
            self.0.record(value);
        }
    }
}
