//! Views, seen from the page.

use barograph::opentelemetry::KeyValue;
use barograph::testing::TestTelemetry;
use barograph::{CounterSpec, HistogramSpec, Kind, MeterExt, Telemetry, View, attribute};

attribute! {
    /// How it ended.
    pub(crate) enum Status: "status" { Done = "done", Failed = "failed" }
}
attribute! {
    /// Where.
    pub(crate) enum Zone: "zone" { East = "east", West = "west" }
}

const JOBS: CounterSpec<(Status, Zone)> = CounterSpec::new("worker.jobs", "{job}", "Jobs.");
const DURATION: HistogramSpec = HistogramSpec::new("worker.duration", "s", "Durations.");

fn with(views: impl IntoIterator<Item = View>) -> TestTelemetry {
    TestTelemetry::with(|builder| views.into_iter().fold(builder, |builder, view| builder.with_view(view)))
}

#[test]
fn a_view_renames_and_describes_anew() {
    let telemetry = with([View::of("worker.jobs").with_name("legacy_jobs").with_description("As before.")]);
    telemetry.meter("m").counter(&JOBS).add(1, (Status::Done, Zone::East));
    telemetry.telemetry().verify().unwrap();
    let page = telemetry.page();
    assert!(page.contains("# HELP legacy_jobs_total As before.\n# TYPE legacy_jobs_total counter\n"), "{page}");
    telemetry.metric("legacy_jobs_total").with([("status", "done"), ("zone", "east")]).value(1);
    assert!(!page.contains("worker_jobs"), "{page}");
}

#[test]
fn a_view_gives_other_buckets_to_histograms_and_leaves_other_kinds_alone() {
    let telemetry = with([View::of("worker.*").with_buckets([1.0, 2.0])]);
    telemetry.meter("m").histogram(&DURATION).record(1.5, ());
    telemetry.meter("m").counter(&JOBS).add(1, (Status::Done, Zone::East));
    telemetry.metric("worker_duration_seconds_bucket").series(3);
    telemetry.metric("worker.duration").bucket(2.0, 1);
    assert!(telemetry.page().contains("# TYPE worker_jobs_total counter\n"), "{}", telemetry.page());
}

#[test]
fn a_view_drops_what_its_wildcard_selects() {
    let telemetry = with([View::of("worker.*").in_scope("quiet").dropped()]);
    telemetry.meter("quiet").counter(&JOBS).add(1, (Status::Done, Zone::East));
    telemetry.meter("loud").counter(&JOBS).add(1, (Status::Done, Zone::East));
    telemetry.telemetry().verify().unwrap();
    telemetry.metric("worker.jobs").in_scope("quiet").absent();
    telemetry.metric("worker.jobs").in_scope("loud").present();
}

#[test]
fn a_view_keeps_some_attributes_and_adds_up_the_rest() {
    let telemetry = with([View::of("worker.jobs").with_attributes(["status"])]);
    let jobs = telemetry.meter("m").counter(&JOBS);
    jobs.add(1, (Status::Done, Zone::East));
    jobs.add(2, (Status::Done, Zone::West));
    telemetry.metric("worker_jobs_total").with(("status", "done")).value(3);
    telemetry.metric("worker_jobs_total").with(("status", "failed")).value(0);
}

#[test]
fn a_view_limits_the_series_of_open_attributes() {
    let telemetry = with([View::of("*").of_kind(Kind::Counter).of_unit("{visit}").with_cardinality_limit(2)]);
    let visits = telemetry.meter("m").u64_counter("visits").with_unit("{visit}").build();
    for page in 0..10 {
        visits.add(1, &[KeyValue::new("page", page)]);
    }
    telemetry.metric("visits_total").with(("page", "0")).value(1);
    telemetry.metric("visits_total").with(("page", "1")).value(1);
    telemetry.metric("visits_total").with(("otel_metric_overflow", "true")).value(8);
}

#[test]
fn two_views_make_two_streams() {
    let telemetry = with([
        View::of("worker.duration").with_name("fine"),
        View::of("worker.duration").with_name("coarse").with_buckets([60.0]),
    ]);
    telemetry.meter("m").histogram(&DURATION).record(1.5, ());
    let page = telemetry.page();
    telemetry.metric("fine_seconds_count").value(1);
    telemetry.metric("coarse_seconds_bucket").with(("le", "60")).value(1);
    assert!(!page.contains("worker_duration"), "{page}");
}

#[test]
fn a_view_that_drops_an_instrument_undoes_the_views_before_it_and_is_undone_by_one_after() {
    let shown = |views: Vec<View>| {
        let telemetry = with(views);
        let meter = telemetry.meter("m");
        meter.u64_counter("worker.jobs").build().add(1, &[]);
        meter.u64_counter("other.jobs").build().add(1, &[]);
        telemetry.telemetry().verify().unwrap();
        ["worker_jobs_total", "renamed_total", "other_jobs_total"]
            .map(|name| telemetry.metric(name).try_value().is_some())
    };
    let drop = |name: &str| View::of(name).dropped();
    let rename = || View::of("worker.jobs").with_name("renamed");
    let limit = || View::of("*").of_kind(Kind::Counter).with_cardinality_limit(10);
    assert_eq!(shown(vec![rename(), limit(), drop("worker.*")]), [false, false, true]);
    assert_eq!(shown(vec![drop("worker.*"), rename()]), [false, true, true]);
    // Everything but one component.
    assert_eq!(shown(vec![drop("*"), View::of("worker.*")]), [true, false, false]);
}

#[test]
fn attributes_are_kept_and_left_out_by_patterns() {
    let telemetry = with([
        View::of("open").with_attributes(["http.*", "zone"]).without_attributes(["http.url*"]),
        View::of("watched").without_attributes(["user.*"]),
        View::of("worker.jobs").without_attributes(["zo?e"]),
    ]);
    let meter = telemetry.meter("m");
    let open = meter.u64_counter("open").build();
    let attributes = |method: &'static str, url: &'static str| {
        [
            KeyValue::new("http.method", method),
            KeyValue::new("http.url.full", url),
            KeyValue::new("zone", "east"),
            KeyValue::new("user", "x"),
        ]
    };
    open.add(1, &attributes("GET", "/a"));
    open.add(2, &attributes("GET", "/b"));
    open.bind(&attributes("PUT", "/c")).add(4);
    meter
        .i64_observable_gauge("watched")
        .with_callback(|observer| observer.observe(7, &[KeyValue::new("user.id", 1), KeyValue::new("kept", true)]))
        .build();
    // A typed instrument's attributes are known: the SDK is given a list.
    let jobs = meter.counter(&JOBS);
    jobs.add(1, (Status::Done, Zone::East));
    jobs.add(1, (Status::Done, Zone::West));
    telemetry.telemetry().verify().unwrap();
    let page = telemetry.page();
    telemetry.metric("open_total").with([("http_method", "GET"), ("zone", "east")]).value(3);
    telemetry.metric("open_total").with([("http_method", "PUT"), ("zone", "east")]).value(4);
    telemetry.metric("watched").with(("kept", "true")).value(7);
    telemetry.metric("worker_jobs_total").with(("status", "done")).value(2);
    assert!(!page.contains("url") && !page.contains("user"), "{page}");
}

#[test]
fn what_is_observed_adds_up_where_attributes_are_left_out() {
    for view in [
        View::of("seen").with_attributes(["a"]),
        View::of("seen").with_attributes(["a*"]),
        View::of("seen").without_attributes(["b"]),
    ] {
        let telemetry = with([view]);
        let meter = telemetry.meter("m");
        let observed = |key: &'static str| [KeyValue::new("b", key), KeyValue::new("a", 1)];
        meter
            .u64_observable_counter("seen")
            .with_callback(move |observer| {
                [10, 20, 30]
                    .into_iter()
                    .zip(["x", "y", "z"])
                    .for_each(|(value, key)| observer.observe(value, &observed(key)));
            })
            .build();
        for _ in 0..2 {
            telemetry.metric("seen_total").with(("a", "1")).value(60);
        }
    }
}

#[test]
fn a_name_in_another_case_is_no_other_name() {
    let telemetry = with([View::of("k").with_name("K"), View::of("k").without_attributes(["b"])]);
    let counter = telemetry.meter("m").u64_counter("k").build();
    counter.add(5, &[KeyValue::new("a", 1)]);
    counter.add(5, &[KeyValue::new("a", 1), KeyValue::new("b", 1)]);
    telemetry.telemetry().verify().unwrap();
    let page = telemetry.page();
    telemetry.metric("K_total").with(("a", "1")).value(10);
    assert_eq!(page.matches("\nK_total{").count(), 1, "{page}");
}

#[test]
fn each_stream_of_an_instrument_keeps_the_attributes_of_its_view() {
    let telemetry = with([
        View::of("requests").without_attributes(["url"]),
        View::of("requests").with_name("requests.by_url").with_attributes(["url"]),
        View::of("requests").with_name("requests.all").with_attributes(["no*"]),
    ]);
    let requests = telemetry.meter("m").f64_histogram("requests").with_boundaries(vec![1.0]).build();
    for url in ["/a", "/b"] {
        requests.record(0.5, &[KeyValue::new("url", url), KeyValue::new("method", "GET")]);
    }
    telemetry.metric("requests_bucket").with([("method", "GET"), ("le", "1")]).value(2);
    telemetry.metric("requests_by_url_count").with(("url", "/a")).value(1);
    telemetry.metric("requests_all_count").value(2);
}

#[test]
fn a_view_selects_by_the_version_and_schema_of_a_meter() {
    use barograph::opentelemetry::InstrumentationScope;
    use barograph::opentelemetry::metrics::MeterProvider;

    let telemetry = with([
        View::of("a").in_scope_version("2").with_name("second"),
        View::of("a").in_scope_schema_url("https://s").with_name("schema"),
    ]);
    let meter = |version: &'static str, url: &'static str| {
        let scope = InstrumentationScope::builder("m").with_version(version).with_schema_url(url).build();
        telemetry.provider().meter_with_scope(scope)
    };
    for (version, url) in [("1", ""), ("2", ""), ("1", "https://s")] {
        meter(version, url).u64_counter("a").build().add(1, &[]);
    }
    for name in ["a_total", "second_total", "schema_total"] {
        telemetry.metric(name).value(1);
    }
}

#[test]
fn a_later_view_is_an_exception_from_an_earlier_one() {
    let telemetry = with([
        View::of("*").of_kind(Kind::Histogram).with_buckets([1.0, 2.0]).with_cardinality_limit(100),
        View::of("worker.duration").with_buckets([42.0]),
    ]);
    let meter = telemetry.meter("m");
    meter.histogram(&DURATION).record(1.5, ());
    meter.f64_histogram("other").build().record(1.5, &[]);
    telemetry.telemetry().verify().unwrap();
    telemetry.metric("worker_duration_seconds_bucket").with(("le", "42")).value(1);
    telemetry.metric("worker_duration_seconds_bucket").with(("le", "2")).absent();
    telemetry.metric("other_bucket").with(("le", "2")).value(1);
}

#[test]
fn impossible_views_stop_the_start_and_idle_ones_the_verification() {
    let start = |view| Telemetry::builder("suite").without_endpoint().with_view(view).start().unwrap_err().to_string();
    assert_eq!(
        start(View::of("a").with_buckets([2.0, 1.0])),
        "the view of `a` sets impossible buckets [2.0, 1.0]: bounds are finite and ascend, none stands twice"
    );
    assert!(start(View::of("a.*").with_name("b")).contains("rename one instrument at a time"));

    let telemetry = with([View::of("worker.jbos").with_name("x")]);
    telemetry.meter("m").counter(&JOBS).add(1, (Status::Done, Zone::East));
    assert_eq!(
        telemetry.telemetry().verify().unwrap_err().to_string(),
        "the view of `worker.jbos` matches no instrument: correct its name, or build the instrument before verifying"
    );
}

#[test]
fn a_view_that_gives_two_instruments_one_name_is_said_with_both_sides() {
    let telemetry = with([View::of("worker.b").with_name("worker.a")]);
    let meter = telemetry.meter("m");
    meter.u64_counter("worker.a").build().add(1, &[]);
    meter.u64_counter("worker.b").build().add(1, &[]);
    let error = telemetry.telemetry().verify().unwrap_err().to_string();
    assert!(
        error.contains("`worker.b` of meter `m` and `worker.a` of meter `m` are both scraped as `worker_a_total`"),
        "{error}"
    );
}
