//! What the pipeline says about itself: errors of callbacks, refused instruments, dropped points, exports.
//!
//! These are instruments of the SDK like any other, under the meter `barograph`, so they leave by every way the
//! program's own metrics leave by. They are recorded while others collect; what the exporter drops shows in the next
//! scrape.

use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry::{InstrumentationScope, KeyValue};

use crate::attribute;
use crate::attribute::{Attribute, AttributeInfo};
use crate::instrument::{Counter, MeterExt};
use crate::spec::{CounterSpec, Descriptor, GaugeSpec};

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

attribute! {
    /// Why an export failed.
    pub(crate) enum Reason: "reason" {
        Collect = "collect",
        Connection = "connection",
        Io = "io",
        Refused = "refused",
        Rejected = "rejected",
        Throttled = "throttled",
        Timeout = "timeout",
        Tls = "tls",
        Unavailable = "unavailable",
    }
}

attribute! {
    /// What became of a data point that was exported.
    enum Fate: "outcome" { Delivered = "delivered", Lost = "lost", Rejected = "rejected" }
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

const EXPORT_FAILURES: CounterSpec<Reason> =
    CounterSpec::new("barograph.export.failures", "{export}", "Exports that did not arrive whole, by reason.");

const EXPORT_POINTS: CounterSpec<Fate> = CounterSpec::new(
    "barograph.export.points",
    "{point}",
    "Data points that were pushed: taken, left out by the receiver, or not delivered.",
);

const EXPORT_LAST_SUCCESS: GaugeSpec =
    GaugeSpec::new("barograph.export.last_success_timestamp", "s", "When an export last arrived whole, as Unix time.");

/// The pipeline's own instruments.
#[derive(Debug)]
pub(crate) struct SelfMetrics {
    callback_errors: opentelemetry::metrics::Counter<u64>,
    instruments_refused: Counter<Refusal>,
    points_dropped: Counter<DropReason>,
}

impl SelfMetrics {
    pub(crate) fn new(provider: &dyn MeterProvider) -> Self {
        let meter = meter(provider);
        Self {
            callback_errors: open_counter(&meter, &CALLBACK_ERRORS.descriptor()),
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

fn meter(provider: &dyn MeterProvider) -> Meter {
    let scope = InstrumentationScope::builder("barograph").with_version(env!("CARGO_PKG_VERSION")).build();
    provider.meter_with_scope(scope)
}

/// A counter whose attributes are not all known when the program is built.
fn open_counter(meter: &Meter, spec: &Descriptor) -> opentelemetry::metrics::Counter<u64> {
    meter.u64_counter(spec.name).with_unit(spec.unit).with_description(spec.description).build()
}

/// What a periodic reader says about its exports.
///
/// Its series have an attribute more than their specs, `exporter`: which exporters a pipeline has is known when it starts.
#[derive(Debug)]
pub(crate) struct ExportMetrics {
    exporter: KeyValue,
    failures: opentelemetry::metrics::Counter<u64>,
    points: opentelemetry::metrics::Counter<u64>,
    last_success: opentelemetry::metrics::Gauge<f64>,
}

impl ExportMetrics {
    pub(crate) fn new(provider: &dyn MeterProvider, exporter: String) -> Self {
        let meter = meter(provider);
        let last_success = EXPORT_LAST_SUCCESS.descriptor();
        let metrics = Self {
            exporter: KeyValue::new("exporter", exporter),
            failures: open_counter(&meter, &EXPORT_FAILURES.descriptor()),
            points: open_counter(&meter, &EXPORT_POINTS.descriptor()),
            last_success: meter
                .f64_gauge(last_success.name)
                .with_unit(last_success.unit)
                .with_description(last_success.description)
                .build(),
        };
        // An alert can tell 0 from absent.
        for &reason in Reason::INFO.values {
            metrics.failures.add(0, &metrics.attributes(Reason::INFO, reason));
        }
        for &fate in Fate::INFO.values {
            metrics.points.add(0, &metrics.attributes(Fate::INFO, fate));
        }
        metrics
    }

    fn attributes(&self, attribute: AttributeInfo, value: &'static str) -> [KeyValue; 2] {
        [self.exporter.clone(), KeyValue::new(attribute.key, value)]
    }

    pub(crate) fn failed(&self, reason: Reason) {
        self.failures.add(1, &self.attributes(Reason::INFO, Reason::INFO.values[Attribute::index(reason)]));
    }

    pub(crate) fn points(&self, delivered: u64, rejected: u64, lost: u64) {
        for (fate, points) in [(Fate::Delivered, delivered), (Fate::Rejected, rejected), (Fate::Lost, lost)] {
            self.points.add(points, &self.attributes(Fate::INFO, Fate::INFO.values[Attribute::index(fate)]));
        }
    }

    pub(crate) fn succeeded(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_success.record(now.as_secs_f64(), std::slice::from_ref(&self.exporter));
    }
}
