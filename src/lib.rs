//! Barograph (documentation follows).
pub mod attribute;
#[cfg(feature = "prometheus")]
mod error;
#[cfg(feature = "prometheus")]
mod exporter;
#[cfg(feature = "prometheus")]
mod exposition;
#[cfg(feature = "prometheus")]
mod guard;
pub mod instrument;
#[cfg(feature = "prometheus")]
mod pipeline;
#[cfg(feature = "prometheus")]
mod resource;
#[cfg(feature = "prometheus")]
mod runtime;
#[cfg(feature = "prometheus")]
mod scrape;
#[cfg(feature = "prometheus")]
mod self_metrics;
pub mod spec;
#[cfg(feature = "prometheus")]
mod view;
pub use attribute::{Attribute, AttributeInfo, AttributeSet, MAX_CARDINALITY, Outcome};
pub use instrument::{
    Counter, Gauge, Histogram, InFlight, KeyedGauge, MeterExt, Observer, OutcomeTimer, Registration, Timer,
    UpDownCounter,
};
pub use opentelemetry;
#[cfg(feature = "prometheus")]
pub use pipeline::{Telemetry, TelemetryBuilder};
pub use spec::{
    CounterSpec, Descriptor, GaugeSpec, HistogramSpec, Kind, ObservableCounterSpec, ObservableGaugeSpec,
    ObservableUpDownCounterSpec, UpDownCounterSpec, buckets,
};
#[cfg(feature = "prometheus")]
pub use {
    error::{InstrumentName, Problem, ScrapeError, ShutdownError, StartError, VerifyError, ViewError},
    guard::GuardedMeterProvider,
    scrape::ScrapeService,
    view::View,
};
