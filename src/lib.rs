//! Barograph (documentation follows).
pub mod attribute;
pub mod instrument;
pub mod spec;
pub use attribute::{Attribute, AttributeInfo, AttributeSet, MAX_CARDINALITY, Outcome};
pub use instrument::{
    Counter, Gauge, Histogram, InFlight, KeyedGauge, MeterExt, Observer, OutcomeTimer, Registration, Timer,
    UpDownCounter,
};
pub use opentelemetry;
pub use spec::{
    CounterSpec, Descriptor, GaugeSpec, HistogramSpec, Kind, ObservableCounterSpec, ObservableGaugeSpec,
    ObservableUpDownCounterSpec, UpDownCounterSpec, buckets,
};
