//! `/debug/metrics`: why a metric is called what it is called, and why one is missing.

use barograph::config::{EndpointLimits, LivePage};
use barograph::opentelemetry::metrics::{AsyncInstrument, MeterProvider};
use barograph::opentelemetry::{InstrumentationScope, KeyValue};
use barograph::{CounterSpec, MeterExt, Telemetry, TelemetryBuilder, TranslationStrategy, View};
use barograph_instrumentation_api_clients::ApiClientMetrics;
use barograph_instrumentation_async_bridge::AsyncBridge;
use barograph_instrumentation_audit_agent::AuditAgentMetrics;
use barograph_instrumentation_test_watcher::TestWatcherMetrics;
use serde_json::Value;

use crate::instruments::{Api, Outcome};
use crate::support::{get, request, talking_builder as builder};

const TYPED: CounterSpec<(Api, Outcome)> = CounterSpec::new("typed.calls", "{call}", "Calls.");

fn debugged() -> TelemetryBuilder {
    builder().with_debug_page()
}

fn page(telemetry: &Telemetry, query: &str) -> Value {
    let answer = get(telemetry.local_addr().unwrap(), &format!("/debug/metrics{query}"));
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")), "{}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

/// The page after a scrape.
fn explained(telemetry: &Telemetry) -> Value {
    telemetry.scrape().unwrap();
    page(telemetry, "")
}

fn entry<'v>(list: &'v Value, key: &str, name: &str) -> &'v Value {
    let found = list.as_array().unwrap().iter().find(|entry| entry[key] == name);
    found.unwrap_or_else(|| panic!("no `{name}`: {list:#}"))
}

/// The family of this name, if it has one metric.
fn family<'v>(page: &'v Value, name: &str) -> (&'v Value, &'v Value) {
    let family = entry(&page["families"], "name", name);
    assert_eq!(family["metrics"].as_array().unwrap().len(), 1, "{family:#}");
    (family, &family["metrics"][0])
}

fn why(entry: &Value) -> &str {
    entry["why"].as_str().unwrap_or_default()
}

fn steps(metric: &Value) -> Vec<(&str, &str)> {
    let steps = metric["naming"].as_array().unwrap().iter();
    steps.map(|step| (step["step"].as_str().unwrap(), step["name"].as_str().unwrap())).collect()
}

#[test]
fn it_is_not_there_unless_it_is_wanted() {
    let telemetry = builder().with_live_page(LivePage::Off).start().unwrap();
    let address = telemetry.local_addr().unwrap();
    assert_eq!(get(address, "/debug/metrics").status, 404);
    assert!(!get(address, "/").body.contains("debug/metrics"));

    let telemetry = debugged().with_live_page(LivePage::Off).start().unwrap();
    let address = telemetry.local_addr().unwrap();
    assert_eq!(get(address, "/debug/metrics").status, 200);
    assert_eq!(request(address, "HEAD", "/debug/metrics").status, 200);
    assert_eq!(request(address, "POST", "/debug/metrics").status, 405);
    assert_eq!(get(address, &format!("/debug/metrics?name={}", "x".repeat(9_000))).status, 400);
    assert!(get(address, "/").body.contains("href=\"debug/metrics\""));
}

#[test]
fn before_the_first_collection_it_says_that_there_was_none() {
    let telemetry = debugged().start().unwrap();
    telemetry.meter("m").u64_counter("early").build().add(1, &[]);
    let before = page(&telemetry, "");
    assert!(before["note"].as_str().unwrap().starts_with("Nothing has been collected yet"), "{before:#}");
    assert_eq!(before["collected_at"], Value::Null);
    assert!(why(entry(&before["missing"], "instrument", "early")).starts_with("Nothing has been collected yet"));
    let after = explained(&telemetry);
    assert!(after["note"].is_null() && after["collected_at"].is_string(), "{after:#}");
    assert_eq!(after["service"], "suite");
    assert_eq!(after["naming"]["translation_strategy"], "underscore_escaping_with_suffixes");
}

#[test]
fn a_name_is_explained_step_by_step() {
    let telemetry = debugged().with_namespace("shop").start().unwrap();
    let scope = InstrumentationScope::builder("http")
        .with_version("1.2")
        .with_schema_url("https://example.com/schema")
        .with_attributes([KeyValue::new("team", "hidden-team")])
        .build();
    let meter = telemetry.meter_provider().meter_with_scope(scope);
    let busy = meter.f64_counter("worker.busy").with_unit("s").with_description("Time spent working.").build();
    busy.add(1.5, &[KeyValue::new("http.route", "hidden-route"), KeyValue::new("status", 200)]);
    let page = explained(&telemetry);
    let (family, metric) = family(&page, "shop_worker_busy_seconds_total");
    assert_eq!(
        steps(metric),
        [
            ("illegal characters become _", "worker_busy"),
            ("namespace", "shop_worker_busy"),
            ("unit added", "shop_worker_busy_seconds"),
            ("_total added", "shop_worker_busy_seconds_total"),
        ]
    );
    assert_eq!((&family["type"], &family["series"]), (&"counter".into(), &1.into()));
    assert!(family["why"].is_null(), "nothing is unusual: {family:#}");
    let expected = serde_json::json!({
        "name": "http", "version": "1.2", "schema_url": "https://example.com/schema", "attributes": ["team"]
    });
    assert_eq!(metric["meter"], expected);
    for (field, value) in [
        ("instrument", "worker.busy"),
        ("kind", "counter"),
        ("number", "f64"),
        ("unit", "s"),
        ("description", "Time spent working."),
    ] {
        assert_eq!(metric[field], value, "{metric:#}");
    }
    assert_eq!(metric["labels"], serde_json::json!({"http.route": "http_route", "status": "status"}));
    assert_eq!((&metric["limit"], &metric["overflowed"]), (&2_000.into(), &false.into()));
}

#[test]
fn the_last_step_is_the_name_that_is_scraped_whatever_the_strategy() {
    use TranslationStrategy::{
        NoTranslation, NoUtf8EscapingWithSuffixes, UnderscoreEscapingWithSuffixes, UnderscoreEscapingWithoutSuffixes,
    };
    for strategy in
        [UnderscoreEscapingWithSuffixes, UnderscoreEscapingWithoutSuffixes, NoUtf8EscapingWithSuffixes, NoTranslation]
    {
        for namespace in ["", "shop"] {
            let telemetry = debugged().with_translation_strategy(strategy).with_namespace(namespace).start().unwrap();
            let provider = telemetry.meter_provider();
            // The platform's contract, and names that nobody should choose.
            let _components = (
                TestWatcherMetrics::new(provider),
                AuditAgentMetrics::new(provider),
                AsyncBridge::new(provider),
                ApiClientMetrics::new(provider),
            );
            let meter = telemetry.meter("odd");
            meter.u64_counter("jobs.total").with_unit("s").build().add(1, &[]);
            meter.f64_gauge("disk-used").with_unit("1").build().record(0.5, &[]);
            meter.u64_histogram("net/io").with_unit("By/s").build().record(1, &[]);
            meter.u64_gauge("a..b__c_").with_unit("furlong").build().record(1, &[]);
            let scraped = telemetry.scrape().unwrap();
            let page = page(&telemetry, "");
            let mut families = 0;
            for family in page["families"].as_array().unwrap().iter().filter(|family| family["name"] != "target_info") {
                let name = family["name"].as_str().unwrap();
                assert!(scraped.contains(&format!("# TYPE {name} ")), "{strategy:?} {name}\n{scraped}");
                for metric in family["metrics"].as_array().unwrap() {
                    let own = metric["instrument"].as_str().unwrap();
                    assert_eq!(steps(metric).last().map_or(own, |(_, name)| name), name, "{strategy:?}: {metric:#}");
                }
                families += 1;
            }
            // What has no series yet is named as well: every typed spec once.
            let types = scraped.lines().filter(|line| line.starts_with("# TYPE ") && !line.contains("target_info"));
            assert_eq!(families, types.count(), "{strategy:?}");
            assert!(families > 20, "{families}");
        }
    }
}

#[test]
fn a_view_that_renames_is_named_with_what_it_changed() {
    let telemetry = debugged()
        .with_view(View::of("*").with_description("Changed."))
        .with_view(View::of("old.jobs").in_scope("m").with_name("new.jobs").without_attributes(["user"]))
        .start()
        .unwrap();
    let attributes = [KeyValue::new("user", "u1"), KeyValue::new("kind", "k")];
    telemetry.meter("m").u64_counter("old.jobs").with_unit("{job}").build().add(1, &attributes);
    let page = explained(&telemetry);
    let (family, metric) = family(&page, "new_jobs_total");
    assert!(why(family).contains("A view gives `old.jobs` the name `new.jobs`."), "{family:#}");
    assert_eq!(
        steps(metric),
        [("view renames", "new.jobs"), ("illegal characters become _", "new_jobs"), ("_total added", "new_jobs_total"),]
    );
    let expected = serde_json::json!([
        {"index": 0, "selects": "*", "changes": "description=\"Changed.\""},
        {"index": 1, "selects": "old.jobs meter_name=m", "changes": "name=new.jobs excluded=[user]"},
    ]);
    assert_eq!(metric["views"], expected);
    assert_eq!(metric["keys_left_out"], serde_json::json!(["user"]));
    assert_eq!(metric["labels"], serde_json::json!({"kind": "kind"}));
}

#[test]
fn a_declared_key_that_a_view_leaves_out_is_named() {
    let telemetry = debugged().with_view(View::of("typed.calls").without_attributes(["api"])).start().unwrap();
    let _calls = telemetry.meter("m").counter(&TYPED);
    let page = explained(&telemetry);
    let (_, metric) = family(&page, "typed_calls_total");
    assert_eq!(metric["keys_left_out"], serde_json::json!(["api"]));
    assert_eq!(metric["keys_kept"], serde_json::json!(["outcome"]));
    assert_eq!((&metric["series"], &metric["limit"]), (&3.into(), &6.into()), "{metric:#}");
}

#[test]
fn what_is_missing_has_a_reason() {
    let telemetry = debugged().with_view(View::of("debug.*").dropped()).start().unwrap();
    let meter = telemetry.meter("m");
    meter.u64_counter("debug.steps").build().add(1, &[]);
    let _quiet = meter.u64_counter("quiet.jobs").build();
    meter.u64_observable_gauge("quiet.level").with_callback(|_| {}).build();
    meter.u64_counter("not a name").build().add(1, &[]);
    let page = explained(&telemetry);
    for (instrument, reason, would_be) in [
        ("debug.steps", "It is dropped by the last of the views that match it: `debug.*`.", Some("debug_steps_total")),
        ("quiet.jobs", "nothing has been recorded to it yet", Some("quiet_jobs_total")),
        ("quiet.level", "Its callback observed nothing", Some("quiet_level")),
        ("not a name", "It was refused: `not a name` of meter `m` records nothing", None),
    ] {
        let missing = entry(&page["missing"], "instrument", instrument);
        assert!(why(missing).contains(reason), "{missing:#}");
        assert_eq!(missing["would_be"].as_str(), would_be, "{missing:#}");
    }
    assert_eq!(page["missing"].as_array().unwrap().len(), 4, "{page:#}");
    assert_eq!(page["problems"].as_array().unwrap().len(), 1);
}

#[test]
fn a_callback_that_fails_is_the_reason_for_what_is_missing() {
    use std::sync::mpsc::channel;

    crate::support::without_panic_messages(|| {
        let limits = EndpointLimits { scrape_timeout: std::time::Duration::from_millis(500), ..Default::default() };
        let telemetry = debugged().with_limits(limits).start().unwrap();
        let meter = telemetry.meter("m");
        meter.u64_observable_gauge("panics").with_callback(|_| panic!("expected: a callback of a library")).build();
        let (open, opened) = channel::<()>();
        let opened = std::sync::Mutex::new(opened);
        let hang = move |_: &dyn AsyncInstrument<u64>| {
            let _ = opened.lock().unwrap().recv();
        };
        meter.u64_observable_gauge("hangs").with_callback(hang).build();
        telemetry.scrape().unwrap_err();
        let page = explained(&telemetry);
        let panics = why(entry(&page["missing"], "instrument", "panics"));
        assert!(panics.contains("Its callback panicked twice so far"), "{panics}");
        let hangs = why(entry(&page["missing"], "instrument", "hangs"));
        assert!(hangs.contains("Its callback has been running for "), "{hangs}");
        assert!(hangs.contains("Collections went on without it twice so far."), "{hangs}");
        drop(open);
        crate::support::wait_until("it is back", || {
            let page = explained(&telemetry);
            !why(entry(&page["missing"], "instrument", "hangs")).contains("has been running")
        });
    });
}

#[test]
fn keys_that_become_one_label_and_keys_of_the_format_are_told() {
    let telemetry = debugged().start().unwrap();
    let meter = telemetry.meter("m");
    let attributes = [KeyValue::new("a.b", "1"), KeyValue::new("a-b", "2"), KeyValue::new("le", "3")];
    meter.f64_histogram("merging").build().record(1.0, &attributes);
    let page = explained(&telemetry);
    let (family, metric) = family(&page, "merging");
    assert_eq!(metric["merged_labels"], serde_json::json!({"a_b": ["a-b", "a.b"]}));
    assert_eq!(metric["labels"], serde_json::json!({"a-b": "a_b", "a.b": "a_b", "le": "exported_le"}));
    assert!(why(family).contains("Several keys become the label `a_b`"), "{family:#}");
    assert!(why(family).contains("The key `le` is the format's own, so its label is `exported_le`."), "{family:#}");
}

#[test]
fn a_conflict_is_told_on_both_sides_with_the_points_that_it_costs() {
    let telemetry = debugged().start().unwrap();
    let meter = telemetry.meter("m");
    meter.u64_gauge("x.y").build().record(1, &[]);
    meter.u64_histogram("x_y").build().record(1, &[]);
    telemetry.scrape().unwrap();
    let page = explained(&telemetry);
    let family = entry(&page["families"], "name", "x_y");
    assert_eq!((&family["type"], family["metrics"].as_array().unwrap().len()), (&"gauge".into(), 2), "{family:#}");
    assert!(why(family).contains("`x_y` is a histogram and not shown: the first is a gauge."), "{family:#}");
    assert!(why(family).contains("they are of different types"), "{family:#}");
    assert_eq!(family["metrics"][1]["dropped_points"], serde_json::json!({"conflict": 2}));
    assert!(family["metrics"][0]["dropped_points"].is_null());
}

#[test]
fn an_overflow_names_the_keys_and_never_a_value() {
    let telemetry = debugged().with_view(View::of("few").with_cardinality_limit(5)).start().unwrap();
    let few = telemetry.meter("m").u64_counter("few").build();
    for n in 0..9 {
        few.add(1, &[KeyValue::new("password", format!("s3cr3t-{n}")), KeyValue::new("kind", "s3cr3t")]);
    }
    telemetry.scrape().unwrap();
    let body = get(telemetry.local_addr().unwrap(), "/debug/metrics").body;
    assert!(!body.contains("s3cr3t"), "{body}");
    let page: Value = serde_json::from_str(&body).unwrap();
    let (family, metric) = family(&page, "few_total");
    assert!(why(family).contains("More series of `few` were recorded than its limit of 5"), "{family:#}");
    assert_eq!(metric["values_by_key"], serde_json::json!({"kind": 1, "password": 5}));
    assert_eq!((&metric["series"], &metric["overflowed"]), (&5.into(), &true.into()));
    assert_eq!(family["series"], 6, "the one of the overflow included");
    // It is said in plain text, too: the worst key comes first.
    assert!(body.find("\"password\": 5").unwrap() < body.find("\"kind\": 1").unwrap(), "{body}");
}

#[test]
fn values_that_change_are_an_update_and_others_are_none() {
    let telemetry = debugged().start().unwrap();
    let meter = telemetry.meter("m");
    let (steady, lively) = (meter.u64_gauge("steady").build(), meter.u64_gauge("lively").build());
    let set = |values: [u64; 2]| {
        for (name, value) in ["a", "b"].into_iter().zip(values) {
            lively.record(value, &[KeyValue::new("leader", name)]);
        }
    };
    let updated = |name: &str| {
        let page = explained(&telemetry);
        (family(&page, name).1["last_update"].as_str().unwrap().to_owned(), page["collected_at"].clone())
    };
    steady.record(1, &[]);
    set([0, 1]);
    let first = updated("steady").0;
    crate::support::wait_until("another millisecond", || updated("steady").1 != first);
    // The sum of all values stays the same.
    set([1, 0]);
    let (lively, collected_at) = updated("lively");
    assert_eq!(lively, collected_at);
    assert_eq!(updated("steady").0, first);
    assert!(lively > first, "{lively} {first}");
}

#[test]
fn a_name_in_the_query_shows_one_family_by_any_of_its_names() {
    let telemetry = debugged().start().unwrap();
    let meter = telemetry.meter("m");
    meter.u64_counter("one.jobs").build().add(1, &[]);
    meter.f64_histogram("two").with_unit("s").build().record(1.0, &[]);
    let _quiet = meter.u64_counter("three").build();
    telemetry.scrape().unwrap();
    let names = |query: &str| -> Vec<String> {
        let page = page(&telemetry, query);
        let of = |list: &str, key: &str| -> Vec<String> {
            page[list].as_array().unwrap().iter().map(|entry| entry[key].as_str().unwrap().to_owned()).collect()
        };
        [of("families", "name"), of("missing", "instrument")].concat()
    };
    assert_eq!(names("?name=one_jobs_total"), ["one_jobs_total"]);
    assert_eq!(names("?name=one.jobs"), ["one_jobs_total"]);
    assert_eq!(names("?name[]=one_jobs&name[]=two_seconds_bucket"), ["one_jobs_total", "two_seconds"]);
    assert_eq!(names("?name=three_total"), ["three"]);
    assert_eq!(names("?name=nothing"), Vec::<String>::new());
    assert!(names("").len() > 4);
}

#[test]
fn a_merged_registry_is_said_to_be_one() {
    let registry = prometheus::Registry::new();
    let own = prometheus::IntCounter::new("legacy_total", "The application's own.").unwrap();
    registry.register(Box::new(own)).unwrap();
    let telemetry = debugged().with_registry(registry).start().unwrap();
    let page = explained(&telemetry);
    let (family, metric) = family(&page, "legacy_total");
    assert!(why(family).contains("comes from a merged prometheus registry"), "{family:#}");
    assert_eq!(metric["description"], "The application's own.");
}
