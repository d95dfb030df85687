//! What the layer has to say. A binary of its own: where a subscriber is scoped, tracing drops what its layers log.

mod lines;

use barograph::testing::TestTelemetry;
use barograph_instrumentation_tracing::layer;
use tracing::Level;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::prelude::*;

use lines::Lines;

#[test]
fn what_cannot_be_recorded_is_said_once_and_the_log_of_that_brings_nothing_about() {
    let telemetry = TestTelemetry::new();
    let (all, warnings, others) = (Lines::default(), Lines::default(), Lines::default());
    tracing_subscriber::registry()
        .with(all.clone())
        .with(warnings.clone().with_filter(LevelFilter::WARN))
        .with(layer(telemetry.provider(), &["status"]))
        .with(others.clone().with_filter(filter_fn(|metadata| metadata.level() == &Level::DEBUG)))
        .init();
    for round in 0..3 {
        tracing::info!(monotonic_counter.orders = "many", status = "a text");
        tracing::info!(gauge.stock = true);
        tracing::info!(histogram.price = ?Some(1));
        tracing::info!(monotonic_counter.orders = -1);
        tracing::info!({ monotonic_counter.refunds = -round });
        tracing::info!({ "gauge.no name" } = 1, "the provider refuses it");
        tracing::info!(monotonic_counter.orders = 1);
    }
    telemetry.metric("orders").value(3);
    telemetry.metric("stock").absent();
    for (field, problem) in [
        ("monotonic_counter.orders", "no number"),
        ("gauge.stock", "no number"),
        ("histogram.price", "no number"),
        ("monotonic_counter.refunds", "less than 0"),
    ] {
        let words = format!("`{field}` is {problem}");
        let said = all.about(&words);
        assert_eq!(said.len(), 1, "{field}: {said:?}");
        assert!(said[0].starts_with("WARN ") && said[0].contains("log.rs:"), "{said:?}");
        assert_eq!(warnings.about(&words).len(), 1);
    }
    assert_eq!(all.about("`no name`").len(), 1, "{:?}", all.about("no name"));
    let problems = telemetry.telemetry().verify().unwrap_err().to_string();
    assert!(problems.contains("`no name`"), "{problems}");
}
