//! What is recorded by the macros of `metrics`, seen from the page.

use std::sync::Arc;
use std::thread;

use barograph::View;
use barograph::opentelemetry::metrics::AsyncInstrument;
use barograph::testing::TestTelemetry;
use barograph_instrumentation_metrics::{MetricsRecorder, SCOPE};
use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram, with_local_recorder,
};
use tracing_subscriber::layer::Context;
use tracing_subscriber::prelude::*;

/// Runs what records, with a recorder on a pipeline of its own.
fn record(work: impl FnOnce(&TestTelemetry)) -> TestTelemetry {
    record_on(TestTelemetry::new(), work)
}

fn record_on(telemetry: TestTelemetry, work: impl FnOnce(&TestTelemetry)) -> TestTelemetry {
    let recorder = MetricsRecorder::new(telemetry.provider());
    with_local_recorder(&recorder, || work(&telemetry));
    telemetry
}

#[test]
fn names_stay_as_they_are_and_nothing_is_doubled() {
    let telemetry = record(|_| {
        describe_counter!("http_requests_total", Unit::Count, "Requests.");
        counter!("http_requests_total").increment(2);
        counter!("cache.hits").increment(1);
        describe_histogram!("wait_seconds", Unit::Seconds, "Waits.");
        histogram!("wait_seconds").record(0.2);
        gauge!("pool/size-now").set(4);
    });
    telemetry.metric("http_requests_total").in_scope(SCOPE).value(2);
    telemetry.metric("cache.hits").value(1);
    telemetry.metric("cache_hits_total").value(1);
    telemetry.metric("wait_seconds_count").value(1);
    telemetry.metric("pool_size_now").value(4);
    telemetry.telemetry().verify().unwrap();
    let page = telemetry.page();
    assert!(page.contains("# HELP http_requests_total Requests.\n"), "{page}");
    assert!(page.contains("# HELP wait_seconds Waits.\n"), "{page}");
}

#[test]
fn a_name_that_opentelemetry_does_not_know_as_one_is_refused_where_it_can_be_seen() {
    let telemetry = record(|_| {
        for name in ["9lives", "_hidden", "two words", "a:b", "Größe", ""] {
            counter!(name).increment(1);
            gauge!(name).set(1);
            histogram!(name).record(1);
        }
        counter!("fine").increment(1);
    });
    telemetry.metric("fine").value(1);
    let problems = telemetry.telemetry().verify().unwrap_err().to_string();
    for name in ["9lives", "_hidden", "two words", "a:b", "Größe"] {
        assert!(problems.contains(&format!("`{name}`")), "{name}: {problems}");
    }
}

#[test]
fn units_are_ucum_and_give_names_and_buckets_that_fit() {
    let telemetry = record(|_| {
        for (name, unit) in [
            ("count", Unit::Count),
            ("percent", Unit::Percent),
            ("s", Unit::Seconds),
            ("ms", Unit::Milliseconds),
            ("us", Unit::Microseconds),
            ("ns", Unit::Nanoseconds),
            ("tib", Unit::Tebibytes),
            ("gib", Unit::Gibibytes),
            ("mib", Unit::Mebibytes),
            ("kib", Unit::Kibibytes),
            ("by", Unit::Bytes),
            ("tbps", Unit::TerabitsPerSecond),
            ("gbps", Unit::GigabitsPerSecond),
            ("mbps", Unit::MegabitsPerSecond),
            ("kbps", Unit::KilobitsPerSecond),
            ("bps", Unit::BitsPerSecond),
            ("rate", Unit::CountPerSecond),
        ] {
            describe_gauge!(name, unit, "A value.");
            gauge!(name).set(1);
        }
        describe_histogram!("wait", Unit::Milliseconds, "Waits.");
        histogram!("wait").record(30);
        // Not described, and yet the name says it.
        histogram!("http_requests_duration_seconds").record(0.03);
        histogram!("body.bytes").record(300);
        // Said otherwise, the name has no say.
        describe_histogram!("fake_seconds", Unit::Count, "Fakes.");
        histogram!("fake_seconds").record(7);
    });
    let page = telemetry.page();
    let gauges: Vec<&str> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" gauge")).collect();
    assert_eq!(
        gauges,
        [
            "bps_bit_per_second",
            "by_bytes",
            "count",
            "gbps_Gbit_per_second",
            "gib_gibibytes",
            "kbps_kbit_per_second",
            "kib_kibibytes",
            "mbps_Mbit_per_second",
            "mib_mebibytes",
            "ms_milliseconds",
            "ns_nanoseconds",
            "percent",
            "rate_per_second",
            "s_seconds",
            "tbps_Tbit_per_second",
            "tib_tebibytes",
            "us_microseconds",
        ],
        "{page}"
    );
    telemetry.metric("wait_milliseconds").bucket(25.0, 0).bucket(50.0, 1);
    telemetry.metric("http_requests_duration_seconds").bucket(0.025, 0).bucket(0.05, 1);
    telemetry.metric("body_bytes").bucket(256.0, 0).bucket(1024.0, 1);
    // The SDK's own buckets: there are none for a count.
    telemetry.metric("fake_seconds").bucket(5.0, 0).bucket(10.0, 1);
}

#[test]
fn a_description_counts_until_the_first_registration_and_the_latest_of_them_does() {
    let telemetry = record(|_| {
        describe_counter!("early", "First words.");
        describe_counter!("early", Unit::Bytes, "Second thoughts.");
        counter!("early").increment(1);
        counter!("late").increment(1);
        describe_counter!("late", Unit::Bytes, "Nobody listens.");
        describe_gauge!("never", "Described and not used.");
        counter!("late").increment(1);
    });
    let page = telemetry.page();
    assert!(page.contains("# HELP early_bytes_total Second thoughts.\n"), "{page}");
    assert!(!page.contains("First words"), "{page}");
    assert!(!page.contains("Nobody listens") && !page.contains("never"), "{page}");
    telemetry.metric("late_total").value(2);
    telemetry.telemetry().verify().unwrap();
}

#[test]
fn a_counter_is_0_from_its_registration_on() {
    let telemetry = record(|telemetry| {
        let plain = counter!("plain");
        let labelled = counter!("labelled", "kind" => "a");
        telemetry.metric("plain").value(0);
        telemetry.metric("labelled").with(("kind", "a")).value(0);
        plain.increment(1);
        labelled.increment(2);
    });
    telemetry.metric("plain").value(1);
    telemetry.metric("labelled").with(("kind", "a")).value(2);
}

#[test]
fn an_absolute_value_brings_a_counter_up_to_it_and_never_back() {
    let telemetry = record(|telemetry| {
        let reads = counter!("reads");
        reads.absolute(10);
        telemetry.metric("reads").value(10);
        reads.absolute(4);
        telemetry.metric("reads").value(10);
        // Through another handle, by another word.
        counter!("reads").increment(5);
        counter!("reads").absolute(12);
        telemetry.metric("reads").value(15);
        counter!("reads").absolute(20);
    });
    telemetry.metric("reads").value(20);
}

#[test]
fn a_gauge_is_set_incremented_and_decremented_from_its_first_value_on() {
    let telemetry = record(|telemetry| {
        let depth = gauge!("depth", "queue" => "in");
        telemetry.metric("depth").absent();
        depth.set(3.5);
        gauge!("depth", "queue" => "in").increment(2.0);
        depth.decrement(1.0);
        telemetry.metric("depth").with(("queue", "in")).value(4.5);
        gauge!("depth", "queue" => "out").decrement(1.0);
    });
    telemetry.metric("depth").with(("queue", "out")).value(-1);
}

#[test]
fn what_is_no_number_is_ignored() {
    let telemetry = record(|telemetry| {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            gauge!("level").set(value);
            gauge!("level").increment(value);
            gauge!("level").decrement(value);
            histogram!("wait").record(value);
        }
        telemetry.metric("level").absent();
        telemetry.metric("wait").absent();
        gauge!("level").set(1.0);
        gauge!("level").set(f64::NAN);
        gauge!("level").set(f64::MAX);
        gauge!("level").increment(f64::MAX);
        histogram!("wait").record(2.0);
    });
    telemetry.metric("level").value(f64::MAX);
    telemetry.metric("wait").count(1).sum(2);
}

#[test]
fn labels_become_attributes_whatever_their_order_and_one_key_makes_one_series() {
    let telemetry = record(|_| {
        counter!("calls", "api" => "a", "status" => "ok").increment(1);
        counter!("calls", "status" => "ok", "api" => "a").increment(1);
        counter!("calls", &[("status", "ok".to_owned()), ("api", "a".to_owned())]).increment(1);
        histogram!("sizes", "api" => "a").record_many(3, 4);
    });
    telemetry.metric("calls").with([("api", "a"), ("status", "ok")]).value(3);
    telemetry.metric("calls").series(1);
    telemetry.metric("sizes").with(("api", "a")).count(4).sum(12);
}

#[test]
fn views_apply() {
    let telemetry = TestTelemetry::with(|builder| {
        builder
            .with_view(View::of("wait").with_name("queue.wait").with_buckets([1.0, 2.0]))
            .with_view(View::of("calls").with_attributes(["api"]))
            .with_view(View::of("noise").dropped())
    });
    let telemetry = record_on(telemetry, |_| {
        histogram!("wait").record(1.5);
        counter!("calls", "api" => "a", "user" => "ada").increment(1);
        counter!("calls", "api" => "a", "user" => "bob").increment(1);
        gauge!("noise").set(1);
    });
    telemetry.metric("queue.wait").bucket(1.0, 0).bucket(2.0, 1);
    telemetry.metric("calls").with(("api", "a")).value(2);
    telemetry.metric("calls").series(1);
    telemetry.metric("noise").absent();
}

#[test]
fn one_name_of_two_kinds_is_a_problem_that_verify_names() {
    let telemetry = record(|_| {
        gauge!("thing_total").set(1);
        counter!("thing").increment(1);
    });
    let problems = telemetry.telemetry().verify().unwrap_err().to_string();
    assert!(problems.contains("`thing_total`") && problems.contains("`thing`"), "{problems}");
}

#[test]
fn labels_without_end_are_added_up_by_the_pipeline_and_grow_nothing_of_the_recorders() {
    const USERS: u64 = 12_000;
    let telemetry = record(|_| {
        for user in 0..USERS {
            let user = user.to_string();
            counter!("calls", "user" => user.clone()).increment(1);
            gauge!("level", "user" => user.clone()).increment(1.0);
            histogram!("wait", "user" => user).record(1.0);
        }
        // Of a series that is remembered, and of one that is not.
        for user in ["0", "11999"] {
            counter!("calls", "user" => user).absolute(1);
            counter!("calls", "user" => user).increment(1);
        }
    });
    let page = telemetry.telemetry().scrape().unwrap();
    let of = |name: &str, label: &str| -> Vec<&str> {
        let series = page.lines().filter(|line| line.starts_with(name) && line.contains(label));
        series.map(|line| line.rsplit(' ').next().unwrap()).collect()
    };
    assert_eq!(of("calls_total{", "user=\"0\""), ["2"]);
    assert_eq!(
        (of("calls_total{", "").len(), of("level{", "").len(), of("wait_count{", "").len()),
        (2_001, 2_001, 2_001)
    );
    let rest = USERS - 2_000;
    assert_eq!(of("calls_total{", "otel_metric_overflow=\"true\""), [(rest + 1).to_string()]);
    assert_eq!(of("wait_count{", "otel_metric_overflow=\"true\""), [rest.to_string()]);
}

#[test]
fn what_the_recorder_remembers_is_limited_where_the_pipeline_is_not() {
    const USERS: u64 = 10_500;
    let unlimited = TestTelemetry::with(|builder| builder.with_view(View::of("*").with_cardinality_limit(20_000)));
    let telemetry = record_on(unlimited, |_| {
        for _ in 0..2 {
            for user in 0..USERS {
                counter!("calls", "user" => user.to_string()).absolute(3);
            }
        }
    });
    let page = telemetry.telemetry().scrape().unwrap();
    let calls: Vec<&str> = page.lines().filter(|line| line.starts_with("calls_total{")).collect();
    assert_eq!(calls.len(), 10_001);
    assert!(calls.iter().all(|line| line.ends_with(" 3")), "an absolute value that many share is one too");
}

#[test]
fn names_without_end_record_nothing_in_the_end() {
    let limited = TestTelemetry::with(|builder| builder.with_view(View::of("*").with_cardinality_limit(1)));
    let telemetry = record_on(limited, |_| {
        for number in 0..2_010 {
            gauge!(format!("gauge.{number}")).set(1);
        }
        counter!("another.kind").increment(1);
    });
    telemetry.metric("gauge.1999").value(1);
    telemetry.metric("gauge.2000").absent();
    telemetry.metric("another.kind").value(1);
}

#[test]
fn threads_that_register_and_record_at_once_lose_nothing() {
    const THREADS: u64 = 8;
    const ROUNDS: u64 = 2_000;
    let telemetry = TestTelemetry::new();
    let recorder = Arc::new(MetricsRecorder::new(telemetry.provider()));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                with_local_recorder(&recorder, || {
                    for round in 0..ROUNDS {
                        let series = (round % 7).to_string();
                        counter!("calls", "series" => series.clone()).increment(1);
                        gauge!("level", "series" => series.clone()).increment(2.0);
                        gauge!("level", "series" => series.clone()).decrement(1.0);
                        histogram!("wait", "series" => series).record(1.0);
                        counter!("total").absolute(round);
                    }
                });
            });
        }
    });
    let all = |term: &str| -> f64 {
        (0..7).map(|series| telemetry.metric(term).with(("series", series)).try_value().unwrap()).sum()
    };
    assert_eq!(all("calls_total"), (THREADS * ROUNDS) as f64);
    assert_eq!(all("level"), (THREADS * ROUNDS) as f64);
    assert_eq!(all("wait_count"), (THREADS * ROUNDS) as f64);
    telemetry.metric("total").value(ROUNDS - 1);
}

/// Counts the lines of the log, as programs do; one of the names is none.
struct CountLines;

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for CountLines {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let level = event.metadata().level().as_str();
        counter!("log.lines", "level" => level).increment(1);
        gauge!("log.open", "level" => level).increment(1.0);
        counter!("log lines").increment(1);
    }
}

#[test]
fn a_program_that_counts_its_log_lines_neither_hangs_nor_goes_round_in_circles() {
    // The SDK has something to say about each series that is beyond the limit.
    let limited = TestTelemetry::with(|builder| builder.with_view(View::of("log.*").with_cardinality_limit(1)));
    // Global, because a scoped one sees no event that a layer brings about.
    tracing_subscriber::registry().with(CountLines).init();
    let telemetry = record_on(limited, |_| {
        // Refused, and logged by the provider while it builds.
        counter!("no name").increment(1);
        gauge!("no name").set(1);
        counter!("described").increment(1);
        describe_counter!("described", "Late.");
        for _ in 0..3 {
            tracing::info!("a line");
        }
    });
    let series = telemetry.metric("log.lines").series(2);
    series.with(("otel.metric.overflow", "true")).present();
    telemetry.metric("log.open").series(2);
}

#[test]
fn what_is_met_first_in_a_callback_is_recorded_from_the_next_time_on() {
    let telemetry = TestTelemetry::new();
    let recorder = Arc::new(MetricsRecorder::new(telemetry.provider()));
    let inside = Arc::clone(&recorder);
    let meter = telemetry.meter("m");
    let read = move |observer: &dyn AsyncInstrument<f64>| {
        with_local_recorder(&*inside, || counter!("reads").increment(1));
        observer.observe(1.0, &[]);
    };
    meter.f64_observable_gauge("level").with_callback(read).build();
    let _ = telemetry.page();
    telemetry.metric("reads").absent();
    with_local_recorder(&*recorder, || counter!("reads").increment(1));
    assert!(telemetry.metric("reads").try_value() >= Some(1.0));
}

#[test]
fn a_handle_outlives_the_pipeline_in_silence() {
    let telemetry = TestTelemetry::new();
    let recorder = MetricsRecorder::new(telemetry.provider());
    let handle = with_local_recorder(&recorder, || counter!("calls"));
    drop(telemetry);
    handle.increment(1);
    with_local_recorder(&recorder, || gauge!("level").set(1));
}
