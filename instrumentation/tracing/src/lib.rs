//! A layer for `tracing-subscriber`: fields of events become OpenTelemetry metrics, in the manner that tracing-opentelemetry
//! has made known.
//!
//! ```
//! use barograph::opentelemetry::metrics::MeterProvider;
//! use tracing_subscriber::prelude::*;
//!
//! fn install(provider: &dyn MeterProvider) {
//!     let metrics = barograph_instrumentation_tracing::layer(provider, &["status"]);
//!     tracing_subscriber::registry().with(metrics).init();
//!
//!     tracing::info!(monotonic_counter.orders = 1, status = "paid", user = "ada", "ordered");
//! }
//! # install(&barograph::opentelemetry::metrics::NoopMeterProvider::new());
//! ```
//!
//! One event is a line in the log, with the user, and one more of `orders` with `status="paid"`, without the user.
//!
//! # Fields
//!
//! | field | becomes | value |
//! |---|---|---|
//! | `monotonic_counter.NAME` | a counter | 0 or more is added |
//! | `counter.NAME` | an up-down counter | is added |
//! | `gauge.NAME` | a gauge | is the latest value |
//! | `histogram.NAME` | a histogram | is recorded |
//!
//! An event may have several. A value is any number (integers of up to 128 bits, floats), and all of them are `f64` in
//! OpenTelemetry, so that `1` and `0.5` are one metric: above 2⁵³ integers are rounded. NaN and infinities are ignored. A
//! text, a boolean, or a negative number for a counter that only goes up, is refused, and a warning says so once for each field
//! (a global subscriber shows it; while any is scoped, tracing drops what layers log).
//!
//! Names stay as they are, dots included; one that is no OpenTelemetry instrument name is refused by the provider, and
//! Barograph's says so in a log and in `Telemetry::verify`. An event has no place for a unit or a description: a histogram's
//! unit is what its name ends with (`_seconds`, `_bytes`), and gives it fitting buckets; other buckets come from a view.
//! All metrics belong to the scope [`SCOPE`], whatever the target of the event. A series begins with its first event.
//!
//! # Attributes
//!
//! Only fields that are listed become attributes. Events carry what a log line is for: ids, messages, texts of users,
//! each of which would be a series for ever, so nothing becomes one by accident. Where a listed field has many values all
//! the same, the pipeline's limit applies as to any open attribute. Fields of spans are never attributes.
//! Texts, integers, floats and booleans keep their type; what is recorded by `?` or `%` is its text.
//!
//! # What it costs
//!
//! The layer is filtered by the fields of an event's callsite, which are known when the callsite is registered: a
//! callsite without such a field that no other layer asks for stays as disabled as it was, and another never reaches the
//! layer. A filter of the whole subscriber (`EnvFilter` as a layer, `LevelFilter`) disables events for it as well: give such
//! a filter to the layer that writes the log (`with_filter`), and the level of an event no longer decides what is counted.
//!
//! The pipeline's own log passes through the layer like any other. The layer holds no lock while it calls the provider,
//! and says nothing twice, so the two cannot go round in circles.

mod instruments;
mod record;

use barograph::opentelemetry::InstrumentationScope;
use barograph::opentelemetry::metrics::MeterProvider;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use crate::instruments::{Instruments, is_metric};
use crate::record::MetricLayer;

/// The name of the instrumentation scope.
pub const SCOPE: &str = "tracing";

/// A layer that records the metrics in events to the scope [`SCOPE`] of the provider. Fields named in `attributes` become
/// attributes; no others do.
pub fn layer<S>(provider: &dyn MeterProvider, attributes: &[&'static str]) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let scope = InstrumentationScope::builder(SCOPE).with_version(env!("CARGO_PKG_VERSION")).build();
    let instruments = Instruments::new(provider.meter_with_scope(scope));
    let has_metric =
        |metadata: &Metadata<'_>| metadata.is_event() && metadata.fields().iter().any(|field| is_metric(field.name()));
    MetricLayer::new(instruments, attributes).with_filter(filter_fn(has_metric))
}

/// Compiles the README's program.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
