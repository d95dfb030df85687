//! What a program can do wrong, and what it then loses: only that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use barograph::opentelemetry::KeyValue;
use barograph::{MeterExt, ObservableGaugeSpec};

use crate::support::{families, telemetry, value, without_panic_messages};

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
            let page = telemetry.scrape().unwrap();
            assert!(page.contains(&format!("healthy_total{{otel_scope_name=\"third_party\"}} {scrape}\n")), "{page}");
            assert!(page.contains("observes{"), "{page}");
            assert_eq!(families(&page, "panics"), "");
            assert_eq!(families(&page, "weather"), "");
            for instrument in ["panics", "weather.temperature"] {
                let errors = format!(
                    "barograph_callback_errors_total{{instrument=\"{instrument}\",otel_scope_name=\"barograph\",otel_scope_version=\"{}\"}} {scrape}\n",
                    env!("CARGO_PKG_VERSION")
                );
                assert!(page.contains(&errors), "counted in the scrape in which it happened: {page}");
            }
        }
    });
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
        assert_eq!(value(&telemetry, "weather_temperature_celsius"), None);
        broken.store(false, Ordering::Relaxed);
        assert_eq!(value(&telemetry, "weather_temperature_celsius"), Some(21.0));
        assert_eq!(value(&telemetry, "barograph_callback_errors_total{instrument=\"weather.temperature\"}"), Some(1.0));
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
            barograph::Telemetry::builder("suite").without_endpoint().with_registry(registry).start().unwrap();
        telemetry.meter("m").u64_counter("healthy").build().add(1, &[]);
        for scrape in 1..=3 {
            let page = telemetry.scrape().unwrap();
            assert!(page.contains("healthy_total"), "{scrape}: {page}");
        }
        let errors = value(&telemetry, "barograph_callback_errors_total{instrument=\"prometheus::Registry\"}");
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
    let page = telemetry.scrape().unwrap();
    assert!(page.contains("\nbuilds{"), "{page}");
    assert!(!page.contains("built_inside"), "{page}");
    assert_eq!(
        telemetry.verify().unwrap_err().to_string(),
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
    let error = telemetry.verify().unwrap_err();
    assert_eq!(error.problems.len(), 3);
    let error = error.to_string();
    for part in ["`9lives` of meter `m` records nothing", "its unit `µs`", "its buckets [2.0, 1.0]"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert_eq!(value(&telemetry, "legal_total"), Some(1.0));
    for reason in ["invalid_name", "invalid_unit", "invalid_buckets"] {
        let refused = value(&telemetry, &format!("barograph_instruments_refused_total{{reason=\"{reason}\"}}"));
        assert_eq!(refused, Some(1.0), "{reason}");
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
    let page = telemetry.scrape().unwrap();
    for (series, expected) in [
        ("h_seconds_bucket{le=\"0.005\"}", Some(1.0)),
        ("h_milliseconds_bucket{le=\"5\"}", Some(1.0)),
        ("h_bytes_bucket{le=\"256\"}", Some(0.0)),
        ("h_bytes_bucket{le=\"1024\"}", Some(1.0)),
        ("h_own_seconds_bucket{le=\"42\"}", Some(1.0)),
        ("h_own_seconds_bucket{le=\"10\"}", None),
    ] {
        assert_eq!(crate::support::find(&page, series), expected, "{series}\n{page}");
    }
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
    let page = telemetry.scrape().unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    assert!(page.contains("by=\"first\"") && page.contains("by=\"second\""), "{page}");
    telemetry.verify().unwrap();
}

#[test]
fn the_global_provider_is_the_guarded_one() {
    without_panic_messages(|| {
        let telemetry = telemetry();
        telemetry.install_global();
        let meter = opentelemetry::global::meter("global");
        meter.u64_observable_gauge("global.panics").with_callback(|_| panic!("expected: global")).build();
        meter.u64_counter("global.calls").build().add(1, &[]);
        for _ in 0..2 {
            assert_eq!(value(&telemetry, "global_calls_total"), Some(1.0));
        }
    });
}
