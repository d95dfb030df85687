//! Pages, whole, as `curl` shows them. The `d…` in names are the rows of the table of defects of the bridge below us.

use barograph::Telemetry;
use barograph::opentelemetry::metrics::MeterProvider;
use barograph::opentelemetry::{InstrumentationScope, KeyValue};
use barograph::testing::TestTelemetry;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry};

use crate::support::{assert_golden, families, get, talking_builder, talking_telemetry, telemetry};

fn page(record: impl FnOnce(&Telemetry)) -> String {
    let telemetry = telemetry();
    record(&telemetry);
    telemetry.scrape().unwrap()
}

#[test]
fn an_empty_pipeline_shows_its_target() {
    assert_golden("empty", &page(|_| {}));
}

#[test]
fn what_the_pipeline_says_about_itself_has_these_names_types_and_descriptions() {
    let telemetry = talking_builder().start().unwrap();
    telemetry.meter("m").u64_observable_gauge("observed").with_callback(|observer| observer.observe(1, &[])).build();
    let address = telemetry.local_addr().unwrap();
    // What a scrape comes to shows in the next.
    for _ in 0..2 {
        assert_eq!(get(address, "/metrics").status, 200);
    }
    let page = get(address, "/metrics").body;
    let is_own = |line: &&str| line.starts_with("# ") && (line.contains(" barograph_") || line.contains(" otel_sdk_"));
    assert_golden("own", &page.lines().filter(is_own).flat_map(|line| [line, "\n"]).collect::<String>());
}

#[test]
fn every_kind_of_instrument_is_a_family_of_its_type() {
    let page = page(|telemetry| {
        let meter = telemetry.meter("kinds");
        let a = [KeyValue::new("k", "a")];
        let b = [KeyValue::new("k", "b")];
        let counter = meter.u64_counter("kinds.counter").with_description("Goes up.").build();
        counter.add(2, &b);
        counter.add(u64::MAX, &a);
        meter.f64_counter("kinds.float_counter").with_unit("s").build().add(0.1, &[]);
        meter.i64_up_down_counter("kinds.up_down").with_unit("{task}").build().add(-3, &a);
        meter.f64_gauge("kinds.gauge").with_unit("Cel").build().record(-1.5e300, &a);
        let histogram =
            meter.f64_histogram("kinds.histogram").with_unit("s").with_boundaries(vec![0.5, 1.0, 1e6]).build();
        for value in [0.5, 0.75, 2.0, 2e6] {
            histogram.record(value, &a);
        }
        meter.u64_histogram("kinds.sizes").with_unit("By").build().record(5000, &[]);
        meter.u64_observable_counter("kinds.observable_counter").with_callback(|o| o.observe(7, &[])).build();
        meter.i64_observable_up_down_counter("kinds.observable_up_down").with_callback(|o| o.observe(-7, &[])).build();
        meter
            .f64_observable_gauge("kinds.observable_gauge")
            .with_unit("1")
            .with_callback(|o| o.observe(0.25, &[]))
            .build();
    });
    assert_golden("kinds", &page);
}

#[test]
fn d2_to_d6_names_and_units_are_translated_once_and_whole() {
    let page = page(|telemetry| {
        let meter = telemetry.meter("names");
        for (name, unit) in [
            ("n01.http_requests_total", "{request}"), // D2: `_total` is not added twice.
            ("n02.foo_seconds", "s"),                 // D3: nor is the unit.
            ("n03.foo_seconds_total", "s"),
            ("n04.ratio", "1"),        // D4: a counter is no ratio.
            ("n05.size", "kBy"),       // D5: the table has it.
            ("n06.length", "furlong"), // D5: an unknown unit is not lost.
            ("n07.speed", "m/s"),
            ("n08.rate", "1/s"),
            ("n09.a..b__c", ""), // D6: runs of underscores collapse.
            ("n10.dash-slash/dot.", ""),
        ] {
            meter.u64_counter(name).with_unit(unit).build().add(1, &[]);
        }
        meter.f64_gauge("n11.utilization").with_unit("1").build().record(0.5, &[]);
        meter.f64_gauge("n12.done").with_unit("%").build().record(50.0, &[]);
    });
    assert_golden("names", &families(&page, "n"));
}

#[test]
fn d7_and_d8_labels_are_such_that_prometheus_can_read_them() {
    let page = page(|telemetry| {
        let meter = telemetry.meter("labels");
        meter.u64_counter("labels.names").build().add(
            1,
            &[
                KeyValue::new("1abc", "a leading digit"),
                KeyValue::new("a:b", "a colon"),
                KeyValue::new("http.method", "dots"),
                KeyValue::new("__name__", "reserved"),
                KeyValue::new("日本", "no ASCII at all"),
            ],
        );
        meter.u64_counter("labels.values").build().add(
            1,
            &[
                KeyValue::new("v", "quote \" backslash \\ newline \n tab \t é 🦀"),
                KeyValue::new("bool", true),
                KeyValue::new("int", -3),
                KeyValue::new("float", 0.1),
                KeyValue::new("empty", ""),
            ],
        );
        meter
            .u64_counter("labels.joined")
            .build()
            .add(1, &[KeyValue::new("x_y", "3"), KeyValue::new("x.y", "2"), KeyValue::new("x-y", "1")]);
        let le = [KeyValue::new("le", "user")];
        meter.f64_histogram("labels.histogram").with_boundaries(vec![1.0]).build().record(0.5, &le);
        meter.u64_counter("labels.counter").build().add(1, &le);
    });
    assert_golden("labels", &families(&page, "labels"));
}

#[test]
fn scopes_are_labels_of_their_points() {
    let page = page(|telemetry| {
        let scope = InstrumentationScope::builder("scoped")
            .with_version("1.2.3")
            .with_schema_url("https://example.com/1.0")
            .with_attributes([KeyValue::new("team", "core"), KeyValue::new("version", "an impostor")])
            .build();
        telemetry.meter_provider().meter_with_scope(scope).u64_counter("scoped.calls").build().add(1, &[]);
        telemetry.meter("other").u64_counter("scoped.calls").build().add(2, &[]);
    });
    assert_golden("scopes", &families(&page, "scoped"));
}

#[test]
fn d11_points_that_prometheus_could_not_tell_apart_are_written_once_and_counted() {
    let telemetry = talking_telemetry();
    let meter = telemetry.meter("colliding");
    meter.u64_counter("collide.x_y").build().add(2, &[]);
    meter.u64_counter("collide.x.y").build().add(1, &[]);
    let error = telemetry.telemetry().verify().unwrap_err().to_string();
    let shown = "`collide.x_y` of meter `colliding` and `collide.x.y` of meter `colliding` are both scraped as `collide_x_y_total`";
    assert!(error.contains(shown) && error.contains("only the latter is shown"), "{error}");

    for _ in 0..3 {
        let page = telemetry.page();
        let series = families(&page, "collide");
        assert_eq!(series.lines().filter(|line| !line.starts_with('#')).count(), 1, "{series}");
        assert!(series.ends_with(" 1\n"), "the first by name wins, always: {series}");
    }
    telemetry.metric("barograph_points_dropped_total").with(("reason", "duplicate")).value(3);
}

#[test]
fn d12_of_two_types_the_same_one_wins_every_time() {
    for _ in 0..20 {
        let telemetry = talking_telemetry();
        telemetry.meter("b").f64_gauge("conflict").build().record(1.0, &[]);
        telemetry.meter("a").f64_histogram("conflict").build().record(1.0, &[]);
        let series = families(&telemetry.page(), "conflict");
        assert!(series.starts_with("# TYPE conflict histogram\n"), "{series}");
        assert!(!series.contains("otel_scope_name=\"b\""), "{series}");
        telemetry.metric("barograph_points_dropped_total").with(("reason", "conflict")).value(1);
        let error = telemetry.telemetry().verify().unwrap_err().to_string();
        // The one that is said to be shown is the one on the page.
        assert!(error.contains("`conflict` of meter `b` and `conflict` of meter `a` are both scraped"), "{error}");
    }
}

#[test]
fn a_family_cannot_be_called_like_a_series_of_a_histogram() {
    let telemetry = telemetry();
    let meter = telemetry.meter("m");
    meter.f64_histogram("taken").build().record(1.0, &[]);
    meter.f64_gauge("taken.count").build().record(9.0, &[]);
    let page = telemetry.scrape().unwrap();
    assert!(!page.contains("# TYPE taken_count"), "{page}");
    assert_eq!(page.matches("taken_count").count(), 1, "{page}");
    assert!(telemetry.verify().unwrap_err().to_string().contains("`taken_count`"));
}

#[test]
fn of_two_descriptions_one_is_written_and_no_point_is_lost() {
    let page = page(|telemetry| {
        telemetry.meter("a").u64_counter("described").with_description("First.").build().add(1, &[]);
        telemetry.meter("b").u64_counter("described").with_description("Second.\nOn two lines \\.").build().add(2, &[]);
        telemetry.meter("c").u64_counter("multiline").with_description("One.\nTwo \\.").build().add(2, &[]);
    });
    let series = families(&page, "described");
    assert_eq!(series.matches("# HELP").count(), 1, "{series}");
    assert!(series.contains("# HELP described_total First.\n"), "{series}");
    assert_eq!(series.lines().count(), 4, "{series}");
    assert!(page.contains("# HELP multiline_total One.\\nTwo \\\\.\n"), "{page}");
}

#[test]
fn a_registry_is_merged_by_the_same_rules_and_gives_way_to_the_sdk() {
    let registry = Registry::new();
    let counter = IntCounterVec::new(Opts::new("legacy_jobs_total", "Jobs \\ of the registry."), &["status"]).unwrap();
    counter.with_label_values(&["done \"quoted\""]).inc_by(2);
    let histogram =
        HistogramVec::new(HistogramOpts::new("legacy_seconds", "Durations.").buckets(vec![0.1, 1.0]), &["route"])
            .unwrap();
    histogram.with_label_values(&["/"]).observe(0.5);
    let shared = IntGauge::new("shared", "Of the registry.").unwrap();
    shared.set(9);
    let conflicting = IntGauge::new("conflicting_total", "Of the registry.").unwrap();
    registry.register(Box::new(counter)).unwrap();
    registry.register(Box::new(histogram)).unwrap();
    registry.register(Box::new(shared)).unwrap();
    registry.register(Box::new(conflicting)).unwrap();

    let telemetry = Telemetry::builder("suite").without_endpoint().with_registry(registry).start().unwrap();
    let meter = telemetry.meter("sdk");
    meter.f64_gauge("shared").with_description("Of the SDK.").build().record(1.0, &[]);
    meter.u64_counter("conflicting").with_description("Of the SDK.").build().add(1, &[]);
    let page = telemetry.scrape().unwrap();
    let shown: String = ["conflicting", "legacy", "shared"].map(|name| families(&page, name)).concat();
    assert_golden("registry", &shown);
}

#[test]
fn what_a_collector_of_the_callers_own_says_wrong_costs_it_only_its_own_points() {
    use prometheus::core::{Collector, Desc};
    use prometheus::proto::{Bucket, Histogram, Metric, MetricFamily, MetricType};

    struct Wrong(Desc);
    impl Collector for Wrong {
        fn desc(&self) -> Vec<&Desc> {
            vec![&self.0]
        }

        fn collect(&self) -> Vec<MetricFamily> {
            let family = |name: &str, kind, metric| {
                let mut family = MetricFamily::default();
                family.set_name(name.to_owned());
                family.set_field_type(kind);
                family.set_metric(vec![metric]);
                family
            };
            let bucket = |bound| {
                let mut bucket = Bucket::default();
                bucket.set_upper_bound(bound);
                bucket
            };
            let mut histogram = Histogram::default();
            histogram.set_bucket([2.0, 1.0, 1.0].map(bucket).to_vec());
            let mut unordered = Metric::default();
            unordered.set_histogram(histogram);
            vec![
                family("bad name\nx{", MetricType::GAUGE, Metric::default()),
                family("9lives", MetricType::GAUGE, Metric::default()),
                family("unordered", MetricType::HISTOGRAM, unordered),
                family("good", MetricType::GAUGE, Metric::default()),
            ]
        }
    }

    let registry = Registry::new();
    let desc = Desc::new("wrong".into(), "Wrong.".into(), vec![], Default::default()).unwrap();
    registry.register(Box::new(Wrong(desc))).unwrap();
    let telemetry = Telemetry::builder("suite").without_endpoint().with_registry(registry).start().unwrap();
    let telemetry = TestTelemetry::from(telemetry);
    let page = telemetry.page();
    assert!(page.contains("# TYPE good gauge\ngood 0\n"), "{page}");
    assert!(!page.contains("bad name") && !page.contains("lives") && !page.contains("unordered"), "{page}");
    telemetry.metric("barograph_points_dropped_total").with(("reason", "invalid_name")).value(2);
    telemetry.metric("barograph_points_dropped_total").with(("reason", "invalid_value")).value(2);
}

#[test]
fn a_metric_cannot_pose_as_the_target() {
    let telemetry = telemetry();
    telemetry.meter("m").f64_gauge("target.info").build().record(7.0, &[]);
    let page = telemetry.scrape().unwrap();
    assert_eq!(page.matches("\ntarget_info").count(), 1, "{page}");
    let error = telemetry.verify().unwrap_err().to_string();
    assert!(error.contains("`target.info` of meter `m` is not shown: `target_info` is the exporter's own"), "{error}");
}

#[test]
fn a_key_that_stands_twice_has_one_value_and_it_is_always_the_same() {
    for _ in 0..20 {
        let telemetry = TestTelemetry::new();
        let twice = [KeyValue::new("k", "b"), KeyValue::new("k", "a")];
        telemetry.meter("m").u64_counter("twice").build().add(1, &twice);
        telemetry.metric("twice_total").with(("k", "b")).value(1);
    }
}

#[test]
fn an_empty_value_is_no_label_as_prometheus_sees_it() {
    let telemetry = talking_telemetry();
    let counter = telemetry.meter("m").u64_counter("empty").build();
    counter.add(1, &[]);
    counter.add(2, &[KeyValue::new("a", "")]);
    let page = telemetry.page();
    assert_eq!(page.matches("\nempty_total{otel_scope_name=\"m\"} ").count(), 1, "{page}");
    assert!(!page.contains("a=\"\""), "{page}");
    telemetry.metric("barograph_points_dropped_total").with(("reason", "duplicate")).value(1);
}

#[test]
fn points_of_many_shapes_are_all_written() {
    let telemetry = telemetry();
    let counter = telemetry.meter("m").u64_counter("shapes").build();
    for n in 0..1_500 {
        counter.add(1, &[KeyValue::new(format!("k{n}"), "v")]);
    }
    assert_eq!(telemetry.scrape().unwrap().matches("\nshapes_total{").count(), 1_500);
}

#[test]
fn a_page_is_the_same_from_scrape_to_scrape() {
    let telemetry = telemetry();
    let counter = telemetry.meter("m").u64_counter("stable").build();
    for n in 0..500 {
        counter.add(1, &[KeyValue::new("n", n)]);
    }
    let first = telemetry.scrape().unwrap();
    assert_eq!(telemetry.scrape().unwrap(), first);
    // A new series takes its place among the others.
    counter.add(1, &[KeyValue::new("n", 0), KeyValue::new("o", "new")]);
    let lines: Vec<String> =
        families(&telemetry.scrape().unwrap(), "stable").lines().skip(1).map(str::to_owned).collect();
    assert_eq!(lines.len(), 501);
    assert!(lines.is_sorted_by_key(|line| line.split("\",").next().map(str::to_owned)), "{lines:#?}");
}

#[test]
fn a_large_family_stays_in_order_while_points_come_and_go_and_whatever_the_escaping() {
    use crate::support::{builder, request_with};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    let telemetry = builder()
        .without_scope_info()
        .with_translation_strategy(barograph::TranslationStrategy::NoTranslation)
        .start()
        .unwrap();
    let replaced = Arc::new(AtomicUsize::new(0));
    let pods = Arc::clone(&replaced);
    telemetry
        .meter("m")
        .u64_observable_gauge("pods")
        .with_callback(move |observer| {
            let replaced = pods.load(Ordering::Relaxed);
            for n in 0..600_usize {
                let name = if n < replaced { format!("new-{n:04}") } else { format!("{:04}", n * 7_919 % 10_007) };
                let other = format!("{:04}", n * 3_571 % 10_007);
                observer.observe(1, &[KeyValue::new("a.y", name), KeyValue::new("a_x", other)]);
            }
        })
        .build();
    for round in 0..12 {
        replaced.store(round / 4, Ordering::Relaxed);
        for escaping in ["allow-utf-8", "underscores", "allow-utf-8"] {
            let accept = format!("text/plain;version=1.0.0;escaping={escaping}");
            let address = telemetry.local_addr().unwrap();
            let page = request_with(address, "GET", "/metrics?name[]=pods", &[("Accept", &accept)]).body;
            let lines: Vec<&str> = page.lines().filter(|line| line.starts_with("pods{")).collect();
            assert_eq!(lines.len(), 600);
            assert!(lines.is_sorted(), "round {round}, {escaping}");
        }
    }
}
