//! A recorder for the [`metrics`] crate: what is instrumented with `metrics`, in a program or in the crates that it
//! uses, becomes OpenTelemetry metrics, with the views, the scrape and the OTLP of the pipeline that all others go
//! through.
//!
//! ```
//! use barograph::opentelemetry::metrics::MeterProvider;
//! use barograph_instrumentation_metrics::MetricsRecorder;
//!
//! fn install(provider: &dyn MeterProvider) -> Result<(), Box<dyn std::error::Error>> {
//!     metrics::set_global_recorder(MetricsRecorder::new(provider))?;
//!     metrics::counter!("cache.hits", "store" => "memory").increment(1);
//!     Ok(())
//! }
//! # install(&barograph::opentelemetry::metrics::NoopMeterProvider::new()).unwrap();
//! ```
//!
//! What was asked of `metrics` before the recorder is installed is lost, as with any recorder: install it first.
//!
//! # What becomes what
//!
//! | `metrics` | OpenTelemetry |
//! |---|---|
//! | name | the same, dots and underscores as they are; the scrape doubles neither unit nor `_total` |
//! | label | attribute, a string |
//! | counter | counter (`u64`), exported as 0 from its registration on; `absolute` adds what is more than before |
//! | gauge | gauge (`f64`), exported from its first value on |
//! | histogram | histogram (`f64`) |
//! | unit | UCUM, as `By/s` or `{count}`; for a histogram without unit, what its name ends with (`_seconds`, `_bytes`) |
//! | description | description |
//! | target, module, level | nothing: all belong to the scope [`SCOPE`], or one metric of two modules would be two |
//!
//! - **A name that OpenTelemetry does not know as one** ([syntax]: ASCII, begins with a letter, then letters, digits,
//!   `_`, `.`, `-`, `/`, no more than 255) is refused by the provider. Barograph's says so in a log and in
//!   `Telemetry::verify`.
//! - **Describe before you register.** An OpenTelemetry instrument has its unit and description from the moment it is
//!   built, which is when it is registered first. A description that comes later and says something else is ignored,
//!   and said to be at debug level.
//! - **Buckets** fit the unit. Where there is none and the name has none, they are the SDK's: describe the metric, or
//!   give it a view with buckets.
//! - **NaN and infinities** are ignored, and the value before them stays. A gauge that has none begins at 0 when it is
//!   incremented.
//!
//! # Cardinality
//!
//! Labels are open, so the pipeline's limit applies to each metric: 2,000 series, or what a view or its reader says; what
//! is beyond is added up as `otel_metric_overflow="true"`, and the pipeline says which attribute has too many values. The
//! recorder itself remembers 10,000 series of a metric and 2,000 metrics of a kind. Further series are one with the overflow;
//! further metrics record nothing and are said to, once.
//!
//! A registration, which the macros make each time, is a look into a map; a handle that is kept saves that. Counters
//! and histograms are bound instruments: recording takes no lock. A gauge takes one of its series, for a store, because
//! increments and values must reach the SDK in their order.
//!
//! [syntax]: https://opentelemetry.io/docs/specs/otel/metrics/api/#instrument-name-syntax

mod family;
mod series;
mod unit;

use barograph::opentelemetry::InstrumentationScope;
use barograph::opentelemetry::metrics::{Meter, MeterProvider};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

use crate::family::{Description, Family};
use crate::series::{CounterSeries, GaugeSeries, HistogramSeries};

/// The name of the instrumentation scope.
pub const SCOPE: &str = "metrics";

/// Records what is asked of `metrics` on an OpenTelemetry provider.
///
/// Installed by `metrics::set_global_recorder`; in a test, `metrics::with_local_recorder` uses one for a closure.
pub struct MetricsRecorder {
    meter: Meter,
    counters: Family<CounterSeries>,
    gauges: Family<GaugeSeries>,
    histograms: Family<HistogramSeries>,
}

impl MetricsRecorder {
    /// Records into the scope [`SCOPE`] of the provider.
    #[must_use]
    pub fn new(provider: &dyn MeterProvider) -> Self {
        let scope = InstrumentationScope::builder(SCOPE).with_version(env!("CARGO_PKG_VERSION")).build();
        Self {
            meter: provider.meter_with_scope(scope),
            counters: Family::default(),
            gauges: Family::default(),
            histograms: Family::default(),
        }
    }
}

impl Recorder for MetricsRecorder {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.counters.describe(key, Description::new(unit, &description));
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.gauges.describe(key, Description::new(unit, &description));
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.histograms.describe(key, Description::new(unit, &description));
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.counters.series(key, &self.meter).map_or_else(Counter::noop, Counter::from_arc)
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.gauges.series(key, &self.meter).map_or_else(Gauge::noop, Gauge::from_arc)
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.histograms.series(key, &self.meter).map_or_else(Histogram::noop, Histogram::from_arc)
    }
}

impl std::fmt::Debug for MetricsRecorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MetricsRecorder")
    }
}

/// Compiles the README's program.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
