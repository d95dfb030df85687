//! The instruments, built when a field is met first.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use barograph::opentelemetry::KeyValue;
use barograph::opentelemetry::metrics::{Counter, Gauge, Histogram, Meter, UpDownCounter};

const COUNTER: &str = "monotonic_counter.";
const UP_DOWN_COUNTER: &str = "counter.";
const GAUGE: &str = "gauge.";
const HISTOGRAM: &str = "histogram.";

/// Whether a field of this name is a metric.
pub(crate) fn is_metric(field: &str) -> bool {
    [COUNTER, UP_DOWN_COUNTER, GAUGE, HISTOGRAM].iter().any(|prefix| field.starts_with(prefix))
}

/// Whether a field of this name is a counter that only goes up.
pub(crate) fn is_counter(field: &str) -> bool {
    field.starts_with(COUNTER)
}

/// By the name of the field, which the program has written: there are only so many.
pub(crate) struct Instruments {
    meter: Meter,
    by_field: RwLock<HashMap<&'static str, Instrument>>,
}

#[derive(Clone)]
enum Instrument {
    Counter(Counter<f64>),
    UpDownCounter(UpDownCounter<f64>),
    Gauge(Gauge<f64>),
    Histogram(Histogram<f64>),
}

impl Instruments {
    pub(crate) fn new(meter: Meter) -> Self {
        Self { meter, by_field: RwLock::default() }
    }

    /// Records to the instrument of a field that is a metric.
    pub(crate) fn record(&self, field: &'static str, value: f64, attributes: &[KeyValue]) {
        let known = self.by_field.read().unwrap_or_else(PoisonError::into_inner).get(field).cloned();
        let instrument = known.or_else(|| {
            // There it would be refused, for good: the next event builds it.
            if barograph::is_in_callback() {
                return None;
            }
            // No lock is held meanwhile: the provider may log, and the log comes through here.
            let built = self.build(field)?;
            self.by_field.write().unwrap_or_else(PoisonError::into_inner).insert(field, built.clone());
            Some(built)
        });
        match instrument {
            Some(Instrument::Counter(counter)) => counter.add(value, attributes),
            Some(Instrument::UpDownCounter(counter)) => counter.add(value, attributes),
            Some(Instrument::Gauge(gauge)) => gauge.record(value, attributes),
            Some(Instrument::Histogram(histogram)) => histogram.record(value, attributes),
            None => {}
        }
    }

    fn build(&self, field: &'static str) -> Option<Instrument> {
        let meter = &self.meter;
        Some(if let Some(name) = field.strip_prefix(COUNTER) {
            Instrument::Counter(meter.f64_counter(name).build())
        } else if let Some(name) = field.strip_prefix(UP_DOWN_COUNTER) {
            Instrument::UpDownCounter(meter.f64_up_down_counter(name).build())
        } else if let Some(name) = field.strip_prefix(GAUGE) {
            Instrument::Gauge(meter.f64_gauge(name).build())
        } else {
            let name = field.strip_prefix(HISTOGRAM)?;
            Instrument::Histogram(meter.f64_histogram(name).with_unit(unit_of(name)).build())
        })
    }
}

/// The unit that a name in the manner of Prometheus ends with: without one a histogram's buckets fit nothing.
fn unit_of(name: &str) -> &'static str {
    match name.rsplit(['_', '.']).next() {
        Some("seconds") => "s",
        Some("milliseconds") => "ms",
        Some("microseconds") => "us",
        Some("nanoseconds") => "ns",
        Some("bytes") => "By",
        _ => "",
    }
}
