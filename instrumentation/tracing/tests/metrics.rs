//! What events bring about, seen from the page and from the log beside it.

mod lines;

use std::sync::Arc;

use barograph::View;
use barograph::testing::TestTelemetry;
use barograph_instrumentation_tracing::{SCOPE, layer};
use tracing::{Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::prelude::*;

use lines::Lines;

/// Runs what logs, with the layer on a pipeline of its own and a log beside it.
fn log(attributes: &[&'static str], work: impl FnOnce(&TestTelemetry)) -> TestTelemetry {
    log_on(TestTelemetry::new(), attributes, work)
}

fn log_on(telemetry: TestTelemetry, attributes: &[&'static str], work: impl FnOnce(&TestTelemetry)) -> TestTelemetry {
    let metrics = layer(telemetry.provider(), attributes);
    let subscriber = tracing_subscriber::registry().with(Lines::default()).with(metrics);
    tracing::subscriber::with_default(subscriber, || work(&telemetry));
    telemetry
}

#[test]
fn each_prefix_is_a_kind_and_the_rest_is_the_name() {
    let telemetry = log(&[], |_| {
        for _ in 0..2 {
            tracing::info!(monotonic_counter.shop.orders = 1, "ordered");
            tracing::info!(counter.open_orders = 3);
            tracing::info!(counter.open_orders = -1);
            tracing::info!(gauge.stock = 12);
            tracing::info!(histogram.price = 7.5);
        }
    });
    telemetry.metric("shop.orders").in_scope(SCOPE).value(2);
    telemetry.metric("shop_orders_total").value(2);
    telemetry.metric("open_orders").value(4);
    telemetry.metric("stock").value(12);
    telemetry.metric("price").count(2).sum(15);
    let page = telemetry.page();
    assert!(
        page.contains("# TYPE shop_orders_total counter\n") && page.contains("# TYPE open_orders gauge\n"),
        "{page}"
    );
    telemetry.telemetry().verify().unwrap();
}

#[test]
fn an_event_may_have_several_and_one_name_may_have_several_kinds_of_number() {
    let telemetry = log(&["status"], |_| {
        tracing::info!(monotonic_counter.orders = 1, histogram.price = 2, gauge.stock = 3.5, status = "paid");
        tracing::info!(monotonic_counter.orders = 0.5, status = "paid");
        tracing::info!(monotonic_counter.orders = 1_u64, status = "paid");
        tracing::info!(monotonic_counter.orders = 1_i128, status = "paid");
        tracing::info!(monotonic_counter.orders = u128::from(u64::MAX) + 1, status = "huge");
        tracing::info!(monotonic_counter.orders = 1_u8, status = "paid");
    });
    telemetry.metric("orders").with(("status", "paid")).value(4.5);
    telemetry.metric("orders").with(("status", "huge")).value(18_446_744_073_709_551_616.0);
    telemetry.metric("price").with(("status", "paid")).count(1);
    telemetry.metric("stock").with(("status", "paid")).value(3.5);
    telemetry.telemetry().verify().unwrap();
}

#[test]
fn only_listed_fields_are_attributes_and_those_of_spans_never_are() {
    let telemetry = log(&["status", "attempt", "cached", "ratio", "shown", "huge"], |_| {
        let _span = tracing::info_span!("request", status = "of the span", user = 1).entered();
        for user in 0..3 {
            tracing::info!(monotonic_counter.orders = 1, user, order = ?user, "ordered");
        }
        tracing::info!(
            monotonic_counter.typed = 1,
            status = "paid",
            attempt = 2,
            cached = true,
            ratio = 0.5,
            shown = ?Some(1),
            huge = u64::MAX,
        );
    });
    telemetry.metric("orders").series(1).value(3);
    let page = telemetry.page();
    let line = page.lines().find(|line| line.starts_with("typed_total{")).unwrap();
    for label in [
        "status=\"paid\"",
        "attempt=\"2\"",
        "cached=\"true\"",
        "ratio=\"0.5\"",
        "shown=\"Some(1)\"",
        "huge=\"18446744073709551615\"",
    ] {
        assert!(line.contains(label), "{label}: {line}");
    }
    assert!(!page.contains("user") && !page.contains("message") && !page.contains("of the span"), "{page}");
}

#[test]
fn attributes_without_end_are_added_up_by_the_pipeline() {
    let telemetry = log(&["user"], |_| {
        for user in 0..2_500 {
            tracing::info!(monotonic_counter.orders = 1, user);
        }
    });
    let page = telemetry.telemetry().scrape().unwrap();
    let series: Vec<&str> = page.lines().filter(|line| line.starts_with("orders_total{")).collect();
    assert_eq!(series.len(), 2_001);
    let overflow = series.iter().find(|line| line.contains("otel_metric_overflow=\"true\"")).unwrap();
    assert!(overflow.ends_with(" 500"), "{overflow}");
}

#[test]
fn views_apply_and_names_say_units_for_buckets() {
    let view = View::of("price").with_name("shop.price").with_buckets([1.0, 10.0]);
    let telemetry = log_on(TestTelemetry::with(|builder| builder.with_view(view)), &[], |_| {
        tracing::info!(histogram.price = 7, histogram.wait_seconds = 0.03, histogram.shop.body.bytes = 300);
    });
    telemetry.metric("shop.price").bucket(1.0, 0).bucket(10.0, 1);
    telemetry.metric("wait_seconds").bucket(0.025, 0).bucket(0.05, 1);
    telemetry.metric("shop_body_bytes").bucket(256.0, 0).bucket(1024.0, 1);
}

#[test]
fn what_is_no_number_is_ignored_and_leaves_what_was() {
    let telemetry = log(&[], |telemetry| {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            tracing::info!(
                monotonic_counter.orders = value,
                counter.open = value,
                gauge.stock = value,
                histogram.price = value
            );
        }
        assert_eq!(telemetry.page(), "");
        tracing::info!(gauge.stock = 2);
        tracing::info!(gauge.stock = f64::NAN);
    });
    telemetry.metric("stock").value(2);
}

#[test]
fn the_filter_of_another_layer_has_no_say_and_that_of_the_subscriber_has() {
    let telemetry = TestTelemetry::new();
    let lines = Lines::default();
    let log = lines.clone().with_filter(LevelFilter::WARN);
    let subscriber = tracing_subscriber::registry().with(log).with(layer(telemetry.provider(), &[]));
    tracing::subscriber::with_default(subscriber, || tracing::debug!(monotonic_counter.orders = 1));
    telemetry.metric("orders").value(1);
    assert!(lines.about("").is_empty());

    let subscriber = tracing_subscriber::registry().with(LevelFilter::WARN).with(layer(telemetry.provider(), &[]));
    tracing::subscriber::with_default(subscriber, || tracing::debug!(monotonic_counter.orders = 1));
    telemetry.metric("orders").value(1);
}

#[test]
fn an_event_reaches_the_log_with_all_its_fields() {
    let telemetry = TestTelemetry::new();
    let lines = Lines::default();
    let subscriber = tracing_subscriber::registry().with(layer(telemetry.provider(), &["status"])).with(lines.clone());
    tracing::subscriber::with_default(subscriber, || {
        tracing::info!(monotonic_counter.orders = 1, status = "paid", user = "ada", "ordered");
    });
    let said = lines.about("ordered");
    assert!(said[0].contains("monotonic_counter.orders=1") && said[0].contains("user=\"ada\""), "{said:?}");
}

#[test]
fn threads_that_meet_a_metric_at_once_lose_nothing() {
    const THREADS: usize = 8;
    const ROUNDS: usize = 1_000;
    let telemetry = TestTelemetry::new();
    let subscriber = Arc::new(tracing_subscriber::registry().with(layer(telemetry.provider(), &["thread"])));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let subscriber = Arc::clone(&subscriber);
            scope.spawn(move || {
                tracing::subscriber::with_default(subscriber, || {
                    for _ in 0..ROUNDS {
                        tracing::info!(monotonic_counter.orders = 1, thread);
                    }
                });
            });
        }
    });
    for thread in 0..THREADS {
        telemetry.metric("orders").with(("thread", thread)).value(ROUNDS as u64);
    }
}

#[test]
fn the_layer_can_be_one_of_many_in_a_box() {
    fn subscriber(telemetry: &TestTelemetry) -> impl Subscriber {
        let layers: Vec<Box<dyn Layer<tracing_subscriber::Registry> + Send + Sync>> =
            vec![layer(telemetry.provider(), &[]).boxed(), filter_everything().boxed()];
        tracing_subscriber::registry().with(layers)
    }
    fn filter_everything() -> impl Layer<tracing_subscriber::Registry> {
        Lines::default().with_filter(filter_fn(|_: &Metadata<'_>| false))
    }
    let telemetry = TestTelemetry::new();
    tracing::subscriber::with_default(subscriber(&telemetry), || tracing::info!(monotonic_counter.orders = 1));
    telemetry.metric("orders").value(1);
}
