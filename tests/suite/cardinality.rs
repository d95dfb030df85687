//! Too many series: who is told, when, and which attribute is to blame.

use barograph::config::LivePage;
use barograph::opentelemetry::KeyValue;
use barograph::testing::TestTelemetry;
use barograph::{CounterSpec, MeterExt, Problem, Telemetry, View};

use crate::instruments::{Api, Outcome};
use crate::support::{find, get, keep_logs, logged, talking_builder as builder, talking_telemetry as telemetry};

const CALLS: CounterSpec<(Api, Outcome)> = CounterSpec::new("full.calls", "{call}", "Calls.");

/// Records so many more users, with two attributes that have few values.
fn record(telemetry: &Telemetry, name: &'static str, users: std::ops::Range<usize>) {
    let requests = telemetry.meter("shop").u64_counter(name).build();
    for user in users {
        let attributes = [
            KeyValue::new("method", ["GET", "PUT"][user % 2]),
            KeyValue::new("user.id", user.to_string()),
            KeyValue::new("region", ["a", "b", "c"][user % 3]),
        ];
        requests.add(1, &attributes);
    }
}

#[test]
fn a_log_line_at_four_fifths_and_one_beyond_the_limit_name_the_guilty_key() {
    keep_logs();
    let telemetry = telemetry().into_telemetry();
    let logged = || logged("`logged.requests` of meter `shop`");
    record(&telemetry, "logged.requests", 0..1_599);
    telemetry.scrape().unwrap();
    assert_eq!(logged(), Vec::<String>::new());

    record(&telemetry, "logged.requests", 1_599..1_600);
    telemetry.scrape().unwrap();
    telemetry.scrape().unwrap();
    let view = "View::of(\"logged.requests\").in_scope(\"shop\")";
    let remedy = format!(
        "leave a key out with `{view}.without_attributes([\"user.id\"])`, or allow more with `{view}.with_cardinality_limit(4000)`"
    );
    let near = format!(
        "WARN `logged.requests` of meter `shop` has 1600 of at most 2000 series, further ones will be added up in one: `user.id` has 1600 values, `region` has 3 values, `method` has 2 values; {remedy}"
    );
    assert_eq!(logged(), [near.as_str()]);

    record(&telemetry, "logged.requests", 1_600..5_000);
    telemetry.scrape().unwrap();
    telemetry.scrape().unwrap();
    let beyond = format!(
        "WARN `logged.requests` of meter `shop` has more series than its limit of 2000, further ones are summed under `otel_metric_overflow=\"true\"`: `user.id` has 2000 values, `region` has 3 values, `method` has 2 values; {remedy}"
    );
    assert_eq!(logged(), [near, beyond]);
}

#[test]
fn an_overflow_is_a_problem_and_on_the_landing_page() {
    let few = View::of("few").with_cardinality_limit(10);
    let telemetry = builder().with_view(few).with_live_page(LivePage::Off).start().unwrap();
    record(&telemetry, "few", 0..10);
    telemetry.scrape().unwrap();
    telemetry.verify().unwrap();
    record(&telemetry, "few", 10..11);
    telemetry.scrape().unwrap();
    let problems = telemetry.verify().unwrap_err().problems;
    let [Problem::Overflow { instrument, limit: 10, keys, .. }] = problems.as_slice() else { panic!("{problems:?}") };
    assert_eq!(instrument.to_string(), "`few` of meter `shop`");
    assert_eq!(keys[0], ("user.id".to_owned(), 10));
    let page = get(telemetry.local_addr().unwrap(), "/").body;
    assert!(page.contains("`few` of meter `shop` has more series than its limit of 10"), "{page}");
}

#[test]
fn how_many_series_an_open_instrument_has_is_said_in_the_scrape_after() {
    let telemetry = builder().with_view(View::of("few").with_cardinality_limit(10)).start().unwrap();
    let said = || {
        let page = telemetry.scrape().unwrap();
        ["series", "series_limit", "overflowing"]
            .map(|what| find(&page, &format!("barograph_instrument_{what}{{instrument=\"few\",scope=\"shop\"}}")))
    };
    record(&telemetry, "few", 0..1);
    said();
    assert_eq!(said(), [None; 3], "one series is nothing to tell");
    record(&telemetry, "few", 1..7);
    assert_eq!(said(), [None; 3], "not in the scrape that finds it");
    assert_eq!(said(), [Some(7.0), Some(10.0), Some(0.0)]);
    record(&telemetry, "few", 7..20);
    said();
    assert_eq!(said(), [Some(10.0), Some(10.0), Some(1.0)]);
}

#[test]
fn a_typed_instrument_with_all_its_series_is_as_it_should_be() {
    let telemetry = telemetry();
    let calls = telemetry.meter("shop").counter(&CALLS);
    calls.add(1, (Api::DeepSeek, Outcome::Success));
    let _ = telemetry.page();
    let page = telemetry.page();
    assert!(page.contains("full_calls_total{"), "{page}");
    assert!(!page.contains("barograph_instrument_series"), "{page}");
    telemetry.telemetry().verify().unwrap();

    // The same instrument by the OpenTelemetry API, with what was not declared.
    let open = telemetry.meter("shop").u64_counter("full.calls").with_unit("{call}").with_description("Calls.").build();
    open.add(1, &[KeyValue::new("api", "another")]);
    let _ = telemetry.page();
    let error = telemetry.telemetry().verify().unwrap_err().to_string();
    assert!(error.contains("`full.calls` of meter `shop` has more series than its limit of 6"), "{error}");
    telemetry
        .metric("barograph_instrument_overflowing")
        .with([("instrument", "full.calls"), ("scope", "shop")])
        .value(1);
}

#[test]
fn the_series_without_attributes_does_not_count() {
    let telemetry = builder().with_view(View::of("one").with_cardinality_limit(1)).start().unwrap();
    telemetry.meter("shop").u64_counter("one").build().add(1, &[]);
    telemetry.scrape().unwrap();
    let page = telemetry.scrape().unwrap();
    assert!(!page.contains("barograph_instrument_series"), "{page}");
    telemetry.verify().unwrap();
}

#[cfg(feature = "otlp")]
#[test]
fn a_push_of_differences_finds_an_overflow_of_which_it_has_only_the_overflow() {
    use barograph::config::{
        MetricReader, OtlpFileMetricExporter, Preferences, PushMetricExporter, TemporalityPreference,
    };

    let folder = tempfile::tempdir().unwrap();
    let preferences = Preferences { temporality: TemporalityPreference::Delta, ..Preferences::default() };
    let file = OtlpFileMetricExporter { path: Some(folder.path().join("metrics.jsonl")), preferences };
    let telemetry = Telemetry::builder("suite")
        .without_endpoint()
        .with_view(View::of("few").with_cardinality_limit(10))
        .with_view(View::of("few").with_name("renamed").with_cardinality_limit(3))
        .with_reader(MetricReader::periodic(PushMetricExporter::OtlpFile(file)))
        .start()
        .unwrap();
    record(&telemetry, "few", 0..3);
    telemetry.force_flush(crate::support::DEADLINE).unwrap();
    telemetry.verify().unwrap();
    record(&telemetry, "few", 3..4);
    telemetry.force_flush(crate::support::DEADLINE).unwrap();
    let error = telemetry.verify().unwrap_err().to_string();
    let remedy =
        "allow more with `View::of(\"few\").in_scope(\"shop\").with_name(\"renamed\").with_cardinality_limit(6)`";
    assert!(
        error.contains("`few` of meter `shop` has more series than its limit of 3") && error.contains(remedy),
        "{error}"
    );
}

#[test]
fn an_observable_that_has_fewer_series_again_is_no_longer_crowded() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    let telemetry =
        builder().with_view(View::of("level").with_cardinality_limit(10)).without_endpoint().start().unwrap();
    let telemetry = TestTelemetry::from(telemetry);
    let many = Arc::new(AtomicU64::new(30));
    let observed = Arc::clone(&many);
    telemetry
        .meter("shop")
        .u64_observable_gauge("level")
        .with_callback(move |observer| {
            (0..observed.load(Ordering::Relaxed))
                .for_each(|n| observer.observe(n, &[KeyValue::new("n", n.cast_signed())]));
        })
        .build();
    let overflowing =
        telemetry.metric("barograph_instrument_overflowing").with([("instrument", "level"), ("scope", "shop")]);
    let _ = telemetry.page();
    overflowing.value(1);
    many.store(0, Ordering::Relaxed);
    let _ = telemetry.page();
    overflowing.absent();
}
