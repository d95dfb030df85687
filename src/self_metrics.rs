//! What the pipeline says about itself: errors of callbacks, refused instruments, dropped points.
//!
//! These are instruments of the SDK like any other, under the meter `barograph`, so they leave by every way the
//! program's own metrics leave by. They are recorded while others collect; what the exporter drops shows in the next
//! scrape.

use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry::{InstrumentationScope, KeyValue};

use crate::attribute;
use crate::instrument::{Counter, MeterExt};
use crate::spec::CounterSpec;

attribute! {
    /// Why an instrument records nothing.
    pub(crate) enum Refusal: "reason" {
        InvalidName = "invalid_name",
        InvalidUnit = "invalid_unit",
        InvalidBuckets = "invalid_buckets",
        BuiltInCallback = "built_in_callback",
    }
}

attribute! {
    /// Why a data point was not exposed.
    pub(crate) enum DropReason: "reason" {
        Conflict = "conflict",
        Duplicate = "duplicate",
        InvalidName = "invalid_name",
        InvalidValue = "invalid_value",
    }
}

/// The name has an open-ended attribute, `instrument`: the names of the program's observable instruments.
const CALLBACK_ERRORS: CounterSpec =
    CounterSpec::new("barograph.callback.errors", "{error}", "Panics caught in callbacks of observable instruments.");

const INSTRUMENTS_REFUSED: CounterSpec<Refusal> = CounterSpec::new(
    "barograph.instruments.refused",
    "{instrument}",
    "Instruments that could not be built and record nothing.",
);

const POINTS_DROPPED: CounterSpec<DropReason> = CounterSpec::new(
    "barograph.points.dropped",
    "{point}",
    "Data points that were collected but not exposed to a scrape.",
);

/// The pipeline's own instruments.
#[derive(Debug)]
pub(crate) struct SelfMetrics {
    callback_errors: opentelemetry::metrics::Counter<u64>,
    instruments_refused: Counter<Refusal>,
    points_dropped: Counter<DropReason>,
}

impl SelfMetrics {
    pub(crate) fn new(provider: &dyn MeterProvider) -> Self {
        let scope = InstrumentationScope::builder("barograph").with_version(env!("CARGO_PKG_VERSION")).build();
        let meter: Meter = provider.meter_with_scope(scope);
        let errors = CALLBACK_ERRORS.descriptor();
        Self {
            callback_errors: meter
                .u64_counter(errors.name)
                .with_unit(errors.unit)
                .with_description(errors.description)
                .build(),
            instruments_refused: meter.counter(&INSTRUMENTS_REFUSED),
            points_dropped: meter.counter(&POINTS_DROPPED),
        }
    }

    /// Makes the series of an instrument's callback errors exist, so that an alert can tell 0 from absent.
    pub(crate) fn expect_callback(&self, instrument: &str) {
        self.callback_errors.add(0, &[KeyValue::new("instrument", instrument.to_owned())]);
    }

    pub(crate) fn callback_panicked(&self, instrument: &str) {
        self.callback_errors.add(1, &[KeyValue::new("instrument", instrument.to_owned())]);
    }

    pub(crate) fn instrument_refused(&self, reason: Refusal) {
        self.instruments_refused.add(1, reason);
    }

    pub(crate) fn points_dropped(&self, points: usize, reason: DropReason) {
        self.points_dropped.add(points as u64, reason);
    }
}
