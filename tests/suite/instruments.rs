//! Typed handles, seen from the page.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::{Context, Waker};

use barograph::opentelemetry::KeyValue;
use barograph::opentelemetry::metrics::MeterProvider;
use barograph::testing::TestTelemetry;
use barograph::{
    CounterSpec, GaugeSpec, HistogramSpec, MeterExt, ObservableCounterSpec, ObservableGaugeSpec,
    ObservableUpDownCounterSpec, UpDownCounterSpec, View, attribute,
};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Registry, TextEncoder};

use crate::support::{find, without_panic_messages};

attribute! {
    /// Which API.
    pub(crate) enum Api: "api" { DeepSeek = "deepseek", Perplexity = "perplexity" }
}
attribute! {
    /// How it ended.
    pub(crate) enum Outcome: "outcome" { Success = "success", Error = "error", Cancelled = "cancelled" }
    unfinished => Cancelled
}

const CALLS: CounterSpec<(Api, Outcome)> = CounterSpec::new("t.calls", "{call}", "Calls.");
const PLAIN: CounterSpec = CounterSpec::new("t.plain", "{thing}", "Things.");
const PENDING: UpDownCounterSpec = UpDownCounterSpec::new("t.pending", "{task}", "Tasks.");
const LEVEL: GaugeSpec<Api> = GaugeSpec::new("t.level", "%", "Levels.");
const DURATION: HistogramSpec<Outcome> = HistogramSpec::new("t.duration", "s", "Durations.");
const BY_API: HistogramSpec<(Api, Outcome)> = HistogramSpec::new("t.by_api", "s", "Durations.");
const WAIT: HistogramSpec = HistogramSpec::new("t.wait", "s", "Waits.");

#[test]
fn every_combination_of_a_counter_is_0_from_the_first_scrape() {
    let telemetry = TestTelemetry::new();
    let meter = telemetry.meter("t");
    let _calls = meter.counter(&CALLS);
    let _plain = meter.counter(&PLAIN);
    let _pending = meter.up_down_counter(&PENDING);
    for &api in Api::ALL {
        for &outcome in Outcome::ALL {
            telemetry.metric("t_calls_total").with((api, outcome)).value(0);
        }
    }
    telemetry.metric("t_plain_total").value(0);
    telemetry.metric("t_pending").value(0);
}

#[test]
fn handles_built_from_one_spec_record_into_the_same_series() {
    let telemetry = TestTelemetry::new();
    let handles: Vec<_> = (0..3).map(|_| telemetry.meter("t").counter(&CALLS)).collect();
    for handle in &handles {
        handle.clone().add(2, (Api::DeepSeek, Outcome::Error));
    }
    telemetry.metric("t_calls_total").with([("api", "deepseek"), ("outcome", "error")]).value(6);
    telemetry.metric("t_calls_total").with([("api", "perplexity"), ("outcome", "error")]).value(0);
    telemetry.telemetry().verify().unwrap();
}

#[test]
fn a_typed_instrument_is_limited_to_exactly_its_series_and_loses_none() {
    let telemetry = TestTelemetry::new();
    let calls = telemetry.meter("t").counter(&CALLS);
    for &api in Api::ALL {
        for &outcome in Outcome::ALL {
            calls.add(1, (api, outcome));
        }
    }
    // What goes through the API beside the handle would be one series too many.
    let untyped = telemetry.meter("t").u64_counter("t.calls").with_unit("{call}").with_description("Calls.").build();
    untyped.add(5, &[KeyValue::new("api", "unheard of")]);
    telemetry.metric("t_calls_total").with(("api", "unheard of")).absent();
    telemetry.metric("t_calls_total").with(("otel_metric_overflow", "true")).value(5);
    telemetry.metric("t_calls_total").with([("api", "perplexity"), ("outcome", "cancelled")]).value(1);
}

#[test]
fn a_gauge_begins_with_its_first_value_and_ignores_what_is_none() {
    let telemetry = TestTelemetry::new();
    let level = telemetry.meter("t").gauge(&LEVEL);
    level.record(f64::NAN, Api::DeepSeek);
    telemetry.metric("t_level_percent").absent();
    level.record(12.5, Api::DeepSeek);
    level.record(f64::INFINITY, Api::DeepSeek);
    telemetry.metric("t_level_percent").with(("api", "deepseek")).value(12.5);
    telemetry.metric("t_level_percent").with(("api", "perplexity")).absent();
}

#[test]
fn a_timer_records_once_however_it_ends() {
    let telemetry = TestTelemetry::new();
    let wait = telemetry.meter("t").histogram(&WAIT);
    let waits = telemetry.metric("t.wait");
    drop(wait.start_timer(()));
    waits.count(1);
    let elapsed = wait.start_timer(()).stop();
    waits.count(2);
    assert!(waits.try_sum() >= Some(elapsed.as_secs_f64()));
    wait.start_timer(()).discard();
    waits.count(2);
    assert_eq!(wait.start_timer(()).time(|| 42), 42);
    waits.count(3);
    without_panic_messages(|| {
        let panicked = catch_unwind(AssertUnwindSafe(|| wait.start_timer(()).time(|| panic!("expected: timed"))));
        assert!(panicked.is_err());
    });
    waits.count(4);
}

#[test]
fn an_outcome_timer_that_is_dropped_unfinished_is_cancelled() {
    let telemetry = TestTelemetry::new();
    let meter = telemetry.meter("t");
    let duration = meter.histogram(&DURATION);
    let by_api = meter.histogram(&BY_API);

    drop(duration.start_outcome_timer());
    duration.start_outcome_timer().finish(Outcome::Success);
    duration.start_outcome_timer().discard();
    let classify = |result: &Result<(), ()>| if result.is_ok() { Outcome::Success } else { Outcome::Error };
    assert_eq!(duration.start_outcome_timer().time(|| Err(()), classify), Err(()));
    drop(by_api.start_outcome_timer_for(Api::Perplexity));

    telemetry.assert_counted(&[
        "t.by_api{api=perplexity, outcome=cancelled} 1",
        "t.duration{outcome=cancelled} 1",
        "t.duration{outcome=error} 1",
        "t.duration{outcome=success} 1",
    ]);
}

#[test]
fn a_future_dropped_mid_await_is_recorded_once_and_leaves_nothing_in_flight() {
    let telemetry = TestTelemetry::new();
    let meter = telemetry.meter("t");
    let (duration, pending) = (meter.histogram(&DURATION), meter.up_down_counter(&PENDING));
    let wait = meter.histogram(&WAIT);
    let never = std::future::pending::<()>;
    let work = || {
        let timed = duration.start_outcome_timer().instrument(never(), |()| Outcome::Success);
        pending.in_flight(()).instrument(wait.start_timer(()).instrument(timed))
    };

    {
        let mut future = pin!(work());
        let mut context = Context::from_waker(Waker::noop());
        assert!(future.as_mut().poll(&mut context).is_pending());
        assert!(future.as_mut().poll(&mut context).is_pending());
        telemetry.assert_counted(&["t.pending 1"]);
    }
    telemetry.assert_counted(&["t.duration{outcome=cancelled} 1", "t.wait 1"]);

    // Never polled at all: it was in flight from its creation, and is no more.
    drop(work());
    telemetry.assert_counted(&["t.duration{outcome=cancelled} 2", "t.wait 2"]);
}

#[test]
fn a_future_that_is_ready_is_recorded_as_what_it_was() {
    let telemetry = TestTelemetry::new();
    let duration = telemetry.meter("t").histogram(&DURATION);
    let mut future = pin!(
        duration
            .start_outcome_timer()
            .instrument(async { 7 }, |n| { if *n == 7 { Outcome::Success } else { Outcome::Error } })
    );
    assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
    telemetry.metric("t_duration_seconds_count").with(("outcome", "success")).value(1);
    telemetry.metric("t_duration_seconds_count").with(("outcome", "cancelled")).value(0);
}

#[test]
fn what_was_counted_stays_when_the_last_handle_is_gone() {
    let telemetry = TestTelemetry::new();
    for _ in 0..100 {
        let calls = telemetry.meter("t").counter(&CALLS);
        calls.add(1, (Api::DeepSeek, Outcome::Success));
        let pending = telemetry.meter("t").up_down_counter(&PENDING);
        pending.add(3, ());
        pending.add(-1, ());
    }
    for _ in 0..2 {
        telemetry.metric("t_calls_total").with([("api", "deepseek"), ("outcome", "success")]).value(100);
        telemetry.metric("t_pending").value(200);
    }
}

#[test]
fn two_readers_see_the_same_counts_and_neither_takes_from_the_other() {
    let registry = Registry::new();
    let telemetry = TestTelemetry::with(|builder| builder.export_to_registry(registry.clone()));
    let plain = telemetry.meter("t").counter(&PLAIN);
    for total in [5.0, 10.0, 15.0] {
        plain.add(5, ());
        let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        assert_eq!(find(&text, "t_plain_total"), Some(total));
        telemetry.metric("t_plain_total").value(total);
    }
}

#[test]
fn no_view_can_stop_the_counters_that_it_does_not_select() {
    let telemetry = TestTelemetry::with(|builder| {
        builder.with_view(View::of("*drain*").dropped()).with_view(View::of("*").in_scope("barograph*").dropped())
    });
    telemetry.meter("t").counter(&PLAIN).add(1, ());
    let kept = telemetry.meter("t").counter(&PLAIN);
    kept.add(2, ());
    telemetry.metric("t_plain_total").value(3);
}

#[test]
fn handles_work_on_a_provider_that_is_not_ours() {
    let registry = Registry::new();
    let exporter = opentelemetry_prometheus::exporter().with_registry(registry.clone()).build().unwrap();
    let provider = SdkMeterProvider::builder().with_reader(exporter).build();
    let meter = provider.meter("t");
    let (calls, pending) = (meter.counter(&CALLS), meter.up_down_counter(&PENDING));
    calls.add(2, (Api::DeepSeek, Outcome::Error));
    let _in_flight = pending.in_flight(());
    let disk = meter.keyed_gauge(&DISK);
    disk.set(4.0, Api::DeepSeek);
    let text = || TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    assert_eq!(find(&text(), "t_calls_total{api=\"deepseek\",outcome=\"error\"}"), Some(2.0), "{}", text());
    assert_eq!(find(&text(), "t_calls_total{api=\"perplexity\",outcome=\"error\"}"), Some(0.0));
    assert_eq!(find(&text(), "t_pending"), Some(1.0));
    assert_eq!(find(&text(), "t_disk_bytes{api=\"deepseek\"}"), Some(4.0));
    drop(disk);
    assert_eq!(find(&text(), "t_disk_bytes{api=\"deepseek\"}"), None);
}

const DISK: ObservableGaugeSpec<Api> = ObservableGaugeSpec::new("t.disk", "By", "Disks.");
const CPU: ObservableCounterSpec = ObservableCounterSpec::new("t.cpu", "s", "Processor time.");
const QUEUE: ObservableUpDownCounterSpec = ObservableUpDownCounterSpec::new("t.queue", "{item}", "Items.");

#[test]
fn an_observable_is_there_until_its_registration_is_dropped() {
    let telemetry = TestTelemetry::new();
    let meter = telemetry.meter("t");
    for round in 1..=3 {
        let disk = meter.observable_gauge(&DISK, |observer| observer.observe(3.0, Api::DeepSeek));
        let cpu = meter.observable_counter(&CPU, |observer| observer.observe(1.5, ()));
        let queue = meter.observable_up_down_counter(&QUEUE, |observer| observer.observe(-2.0, ()));
        telemetry.metric("t_disk_bytes").with(("api", "deepseek")).value(3);
        telemetry.metric("t_disk_bytes").with(("api", "perplexity")).absent();
        telemetry.metric("t_cpu_seconds_total").value(1.5);
        telemetry.metric("t_queue").value(-2);
        drop((disk, cpu, queue));
        assert_eq!(telemetry.page(), "", "round {round}");
    }
    telemetry.telemetry().verify().unwrap();
}

#[test]
fn a_keyed_gauge_shows_what_is_set_and_forgets_what_is_removed() {
    let telemetry = TestTelemetry::new();
    let disk = telemetry.meter("t").keyed_gauge(&DISK);
    let shown = || Api::ALL.iter().map(|api| telemetry.metric("t.disk").with(*api).try_value()).collect::<Vec<_>>();
    assert_eq!(shown(), [None, None]);
    disk.set(1.0, Api::DeepSeek);
    disk.clone().set(2.0, Api::Perplexity);
    disk.set(f64::NAN, Api::Perplexity);
    assert_eq!(shown(), [Some(1.0), Some(2.0)]);
    disk.remove(Api::DeepSeek);
    assert_eq!(shown(), [None, Some(2.0)]);
    disk.set(0.0, Api::DeepSeek);
    disk.clear();
    assert_eq!(shown(), [None, None]);
    disk.set(5.0, Api::DeepSeek);
    assert_eq!(shown(), [Some(5.0), None]);
    drop(disk);
    assert_eq!(shown(), [None, None]);
}

#[test]
fn handles_outlive_their_pipeline_and_then_do_nothing() {
    let telemetry = TestTelemetry::new();
    let meter = telemetry.meter("t");
    let (calls, duration, level) = (meter.counter(&CALLS), meter.histogram(&DURATION), meter.gauge(&LEVEL));
    telemetry.into_telemetry().shutdown(std::time::Duration::from_secs(5)).unwrap();
    calls.add(1, (Api::DeepSeek, Outcome::Error));
    duration.start_outcome_timer().finish(Outcome::Success);
    level.record(1.0, Api::DeepSeek);
    let _late = meter.counter(&PLAIN);
}

#[test]
fn many_threads_lose_nothing() {
    let telemetry = TestTelemetry::new();
    let calls = telemetry.meter("t").counter(&CALLS);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..10_000).for_each(|_| calls.add(1, (Api::DeepSeek, Outcome::Success))));
        }
        for _ in 0..20 {
            let _ = telemetry.page();
        }
    });
    telemetry.metric("t_calls_total").with([("api", "deepseek"), ("outcome", "success")]).value(80000);
}
