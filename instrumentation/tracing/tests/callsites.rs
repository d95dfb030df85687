//! What callsites cost that have no metrics. A binary of its own: a callsite is enabled for the whole process as soon as any
//! subscriber of it is interested.

use std::cell::Cell;

use barograph::testing::TestTelemetry;
use barograph_instrumentation_tracing::layer;
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::Context;
use tracing_subscriber::prelude::*;

/// A log that shows nothing.
struct Log;

impl<S: Subscriber> Layer<S> for Log {
    fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {}
}

#[test]
fn a_callsite_without_metrics_stays_as_disabled_as_it_was() {
    let telemetry = TestTelemetry::new();
    let evaluated = Cell::new(0);
    let evaluate = || {
        evaluated.set(evaluated.get() + 1);
        1
    };
    let errors = Log.with_filter(LevelFilter::ERROR);
    let subscriber = tracing_subscriber::registry().with(layer(telemetry.provider(), &[])).with(errors);
    tracing::subscriber::with_default(subscriber, || {
        tracing::trace!(orders = evaluate(), "nobody asks for it");
        tracing::info!(monotonicity.orders = evaluate(), "nor for this one");
        let _span = tracing::info_span!("request", monotonic_counter.orders = evaluate());
        assert_eq!(evaluated.get(), 0);
        tracing::trace!(monotonic_counter.orders = evaluate());
        tracing::error!(orders = evaluate(), "for the log alone");
    });
    assert_eq!(evaluated.get(), 2);
    telemetry.metric("orders").value(1);
    telemetry.metric("monotonicity.orders").absent();
}
