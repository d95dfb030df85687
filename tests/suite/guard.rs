//! What a program can do wrong, and what it then loses: only that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use barograph::opentelemetry::KeyValue;
use barograph::opentelemetry::metrics::MeterProvider;
use barograph::testing::TestTelemetry;
use barograph::{CounterSpec, MeterExt, ObservableGaugeSpec};

use crate::support::{OnEvent, families, talking_builder, talking_telemetry as telemetry, without_panic_messages};

const WEATHER: ObservableGaugeSpec = ObservableGaugeSpec::new("weather.temperature", "Cel", "Outside.");

#[test]
fn d1_a_panicking_callback_loses_its_own_series_and_nothing_else_for_ever() {
    without_panic_messages(|| {
        let telemetry = telemetry();
        let meter = telemetry.meter("third_party");
        let healthy = meter.u64_counter("healthy").build();
        meter.f64_observable_gauge("panics").with_callback(|_| panic!("expected: a callback of a library")).build();
        meter.f64_observable_gauge("observes").with_callback(|observer| observer.observe(1.0, &[])).build();
        let _typed = meter.observable_gauge(&WEATHER, |_| panic!("expected: a callback of ours"));

        for scrape in 1..=10_u32 {
            healthy.add(1, &[]);
            let page = telemetry.page();
            assert!(page.contains(&format!("healthy_total{{otel_scope_name=\"third_party\"}} {scrape}\n")), "{page}");
            assert!(page.contains("observes{"), "{page}");
            assert_eq!(families(&page, "panics"), "");
            assert_eq!(families(&page, "weather"), "");
            for instrument in ["panics", "weather.temperature"] {
                let errors = format!(
                    "barograph_callback_errors_total{{instrument=\"{instrument}\",otel_scope_name=\"barograph\",otel_scope_version=\"{}\",reason=\"panic\"}} {scrape}\n",
                    env!("CARGO_PKG_VERSION")
                );
                assert!(page.contains(&errors), "counted in the scrape in which it happened: {page}");
            }
        }
    });
}

#[test]
fn what_a_callback_has_captured_may_panic_when_it_is_dropped() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("expected: a drop");
        }
    }

    without_panic_messages(|| {
        let telemetry = telemetry();
        telemetry.meter("m").u64_counter("healthy").build().add(1, &[]);
        let captured = Panics;
        let registration = telemetry.meter("m").observable_gauge(&WEATHER, move |observer| {
            let _ = &captured;
            observer.observe(1.0, ());
        });
        let _ = telemetry.page();
        drop(registration);
        for _ in 0..3 {
            telemetry.metric("healthy_total").value(1);
        }
        let errors = telemetry.metric("barograph_callback_errors_total");
        errors.with([("instrument", "weather.temperature"), ("reason", "panic")]).value(1);
    });
}

#[test]
fn a_callback_cannot_ask_for_a_scrape_and_so_cannot_wait_for_itself() {
    let telemetry = Arc::new(telemetry());
    let inner = Arc::clone(&telemetry);
    let (answer, answers) = std::sync::mpsc::channel();
    let answer = std::sync::Mutex::new(answer);
    telemetry
        .meter("m")
        .u64_observable_gauge("curious")
        .with_callback(move |observer| {
            let _ = answer.lock().unwrap().send(inner.telemetry().scrape());
            observer.observe(1, &[]);
        })
        .build();
    telemetry.metric("curious").value(1);
    let error = answers.recv().unwrap().unwrap_err();
    assert_eq!(error.to_string(), "failed to collect the metrics: a callback cannot ask for a scrape");
}

#[test]
fn a_callback_cannot_ask_for_a_flush_and_so_is_not_late_because_of_it() {
    let telemetry = Arc::new(telemetry());
    let inner = Arc::clone(&telemetry);
    let (answer, answers) = std::sync::mpsc::channel();
    let answer = std::sync::Mutex::new(answer);
    telemetry
        .meter("m")
        .u64_observable_gauge("curious")
        .with_callback(move |observer| {
            let _ = answer.lock().unwrap().send(inner.telemetry().force_flush(crate::support::DEADLINE));
            observer.observe(1, &[]);
        })
        .build();
    telemetry.metric("curious").value(1);
    let error = answers.recv().unwrap().unwrap_err();
    assert!(error.to_string().contains("a callback cannot ask for a flush"), "{error}");
}

#[test]
fn whoever_takes_a_warning_may_build_an_instrument_meanwhile() {
    let telemetry = telemetry();
    // Counts log events with a metric, as bridges from `tracing` do, and so builds instruments while something is logged.
    let provider = telemetry.provider().clone();
    let count = move |_: &tracing::Event<'_>| provider.meter("log").u64_counter("log.events").build().add(1, &[]);
    tracing::subscriber::with_default(OnEvent(count), || {
        telemetry.meter("m").u64_counter("not a name").build();
    });
    assert!(telemetry.metric("log.events").try_value() >= Some(1.0));
    assert_eq!(telemetry.telemetry().verify().unwrap_err().problems.len(), 1);
}

#[test]
fn one_name_declared_twice_and_not_alike_is_said() {
    const PLAIN: CounterSpec = CounterSpec::new("w.jobs", "{job}", "Jobs.");
    const TYPED: CounterSpec<crate::instruments::Api> = CounterSpec::new("w.jobs", "{job}", "Jobs.");
    const FINE: barograph::HistogramSpec = barograph::HistogramSpec::new("w.time", "s", "Time.").buckets(&[1.0, 2.0]);
    const COARSE: barograph::HistogramSpec = barograph::HistogramSpec::new("w.time", "s", "Time.").buckets(&[60.0]);

    let telemetry = telemetry();
    let meter = telemetry.meter("w");
    let _handles = (meter.counter(&PLAIN), meter.counter(&PLAIN), meter.histogram(&FINE), meter.histogram(&FINE));
    telemetry.telemetry().verify().unwrap();
    let _handles = (meter.counter(&TYPED), meter.histogram(&COARSE));
    meter.u64_counter("w.jobs").with_unit("{task}").with_description("Jobs.").build();
    let error = telemetry.telemetry().verify().unwrap_err().to_string();
    for difference in ["different attributes", "different buckets", "different kind, unit, description or number type"]
    {
        assert!(error.contains(difference), "{difference}: {error}");
    }
    assert!(error.contains("`w.jobs` of meter `w` is declared twice"), "{error}");
}

#[test]
fn a_callback_that_recovers_is_back() {
    without_panic_messages(|| {
        let telemetry = telemetry();
        let broken = Arc::new(AtomicBool::new(true));
        let is_broken = Arc::clone(&broken);
        let _registration = telemetry.meter("m").observable_gauge(&WEATHER, move |observer| {
            assert!(!is_broken.load(Ordering::Relaxed), "expected: the sensor is away");
            observer.observe(21.0, ());
        });
        // The payload of `assert!` with a message is a `&str` too.
        telemetry.metric("weather_temperature_celsius").absent();
        broken.store(false, Ordering::Relaxed);
        telemetry.metric("weather_temperature_celsius").value(21);
        let errors = telemetry.metric("barograph_callback_errors_total");
        errors.with([("instrument", "weather.temperature"), ("reason", "panic")]).value(1);
    });
}

#[test]
fn a_collector_of_a_merged_registry_that_panics_costs_the_registry_only() {
    use prometheus::core::{Collector, Desc};
    use prometheus::proto::MetricFamily;

    struct Panics(Desc);
    impl Collector for Panics {
        fn desc(&self) -> Vec<&Desc> {
            vec![&self.0]
        }

        fn collect(&self) -> Vec<MetricFamily> {
            panic!("expected: a collector")
        }
    }

    without_panic_messages(|| {
        let registry = prometheus::Registry::new();
        let desc = Desc::new("panics".into(), "Panics.".into(), vec![], Default::default()).unwrap();
        registry.register(Box::new(Panics(desc))).unwrap();
        let telemetry =
            TestTelemetry::from(talking_builder().without_endpoint().with_registry(registry).start().unwrap());
        telemetry.meter("m").u64_counter("healthy").build().add(1, &[]);
        for _ in 1..=3 {
            telemetry.metric("healthy").value(1);
        }
        let errors = telemetry.metric("barograph_callback_errors_total");
        let errors = errors.with([("instrument", "prometheus::Registry"), ("reason", "panic")]).try_value();
        assert!(errors >= Some(3.0), "{errors:?}");
    });
}

#[test]
fn an_instrument_built_inside_a_callback_is_refused_where_the_sdk_would_wait_for_ever() {
    let telemetry = telemetry();
    let meter = telemetry.meter("m");
    let inner = meter.clone();
    meter
        .u64_observable_gauge("builds")
        .with_callback(move |observer| {
            inner.u64_counter("built.inside").build().add(1, &[]);
            observer.observe(1, &[]);
        })
        .build();
    let page = telemetry.page();
    assert!(page.contains("\nbuilds{"), "{page}");
    assert!(!page.contains("built_inside"), "{page}");
    assert_eq!(
        telemetry.telemetry().verify().unwrap_err().to_string(),
        "`built.inside` of meter `m` records nothing: it was built inside an observable's callback, build it before and capture it"
    );
}

#[test]
fn an_illegal_name_unit_or_bucket_is_said_counted_and_costs_nobody_else() {
    let telemetry = telemetry();
    let meter = telemetry.meter("m");
    meter.u64_counter("9lives").build().add(1, &[]);
    meter.u64_counter("unit").with_unit("µs").build().add(1, &[]);
    meter.f64_histogram("buckets").with_boundaries(vec![2.0, 1.0]).build().record(1.0, &[]);
    meter.u64_counter("legal").build().add(1, &[]);
    let error = telemetry.telemetry().verify().unwrap_err();
    assert_eq!(error.problems.len(), 3);
    let error = error.to_string();
    for part in ["`9lives` of meter `m` records nothing", "its unit `µs`", "its buckets [2.0, 1.0]"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    telemetry.metric("legal_total").value(1);
    for reason in ["invalid_name", "invalid_unit", "invalid_buckets"] {
        telemetry.metric("barograph_instruments_refused_total").with(("reason", reason)).value(1);
    }
}

#[test]
fn histograms_without_boundaries_get_buckets_that_fit_their_unit() {
    let telemetry = telemetry();
    let meter = telemetry.meter("m");
    meter.f64_histogram("h.seconds").with_unit("s").build().record(0.003, &[]);
    meter.f64_histogram("h.milliseconds").with_unit("ms").build().record(3.0, &[]);
    meter.u64_histogram("h.bytes").with_unit("By").build().record(300, &[]);
    meter.f64_histogram("h.own").with_unit("s").with_boundaries(vec![42.0]).build().record(1.0, &[]);
    telemetry.metric("h.seconds").bucket(0.005, 1);
    telemetry.metric("h.milliseconds").bucket(5.0, 1);
    telemetry.metric("h.bytes").bucket(256.0, 0).bucket(1024.0, 1);
    telemetry.metric("h.own").bucket(42.0, 1);
    telemetry.metric("h_own_seconds_bucket").with(("le", 10)).absent();
}

#[test]
fn an_observable_built_twice_is_registered_once_with_both_callbacks() {
    let telemetry = telemetry();
    let meter = telemetry.meter("m");
    let calls = Arc::new(AtomicU64::new(0));
    for name in ["first", "second"] {
        let calls = Arc::clone(&calls);
        meter
            .u64_observable_gauge("twice")
            .with_callback(move |observer| {
                calls.fetch_add(1, Ordering::Relaxed);
                observer.observe(1, &[KeyValue::new("by", name)]);
            })
            .build();
    }
    let page = telemetry.page();
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    assert!(page.contains("by=\"first\"") && page.contains("by=\"second\""), "{page}");
    telemetry.telemetry().verify().unwrap();
}

#[test]
fn the_global_provider_is_the_guarded_one() {
    without_panic_messages(|| {
        let telemetry = telemetry();
        telemetry.telemetry().install_global();
        let meter = opentelemetry::global::meter("global");
        meter.u64_observable_gauge("global.panics").with_callback(|_| panic!("expected: global")).build();
        meter.u64_counter("global.calls").build().add(1, &[]);
        for _ in 0..2 {
            telemetry.metric("global_calls_total").value(1);
        }
    });
}

#[test]
fn an_instrument_that_a_log_line_builds_has_nothing_of_the_one_that_is_being_built() {
    // Its name is none, so there is something to log while it is built.
    const ENDED: CounterSpec = CounterSpec::new("jobs ended", "{job}", "Jobs that ended.");
    let telemetry = TestTelemetry::new();
    let lines = telemetry.meter("log");
    let count = move |_: &tracing::Event<'_>| {
        let lines = lines.u64_counter("log.lines").build();
        ["info", "warn"].iter().for_each(|level| lines.add(1, &[KeyValue::new("level", *level)]));
    };
    let ended = tracing::subscriber::with_default(OnEvent(count), || telemetry.meter("jobs").counter(&ENDED));
    ended.add(1, ());
    telemetry.metric("log.lines").with(("level", "info")).present();
    telemetry.metric("log.lines").with(("level", "warn")).present();
    telemetry.metric("log.lines").with(("otel.metric.overflow", "true")).absent();
}
