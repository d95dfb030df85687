//! What a scraper asks for and gets: formats, names, metadata, and only what it asked for.

use std::io::Read;
use std::net::SocketAddr;

use barograph::opentelemetry::KeyValue;
use barograph::opentelemetry::metrics::MeterProvider;
use barograph::{Telemetry, TelemetryBuilder, TranslationStrategy, View};
use prometheus::{IntCounter, IntGauge, Registry};

use crate::dto::{self, MetricFamily, MetricType};
use crate::support::{Answer, assert_golden, builder, families, request, request_with, talking_builder};

const OPEN_METRICS: &str = "application/openmetrics-text;version=1.0.0";
const PROTOBUF: &str =
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;escaping=allow-utf-8";
const UTF_8: &str = "text/plain;version=1.0.0;escaping=allow-utf-8";

fn ask(address: SocketAddr, path: &str, accept: &str) -> Answer {
    request_with(address, "GET", path, &[("Accept", accept)])
}

/// The page of a pipeline in the format that `accept` asks for.
fn page(builder: TelemetryBuilder, record: impl FnOnce(&Telemetry), accept: &str) -> String {
    let telemetry = builder.with_address("127.0.0.1:0").start().unwrap();
    record(&telemetry);
    ask(telemetry.local_addr().unwrap(), "/metrics", accept).body
}

/// The families of a pipeline's protobuf page, less the pipeline's own.
fn messages(builder: TelemetryBuilder, record: impl FnOnce(&Telemetry)) -> Vec<MetricFamily> {
    let telemetry = builder.with_address("127.0.0.1:0").start().unwrap();
    record(&telemetry);
    let answer = ask(telemetry.local_addr().unwrap(), "/metrics", PROTOBUF);
    let families = dto::decode_all(&answer.bytes);
    families.into_iter().filter(|family| !family.name().starts_with("barograph")).collect()
}

fn every_kind(telemetry: &Telemetry) {
    let meter = telemetry.meter("m");
    let counter = meter.u64_counter("jobs").with_unit("{job}").with_description("Jobs \"done\".\nAll of them.").build();
    counter.add(3, &[KeyValue::new("queue", "a\"b\\c\nd")]);
    counter.add(1, &[]);
    meter.f64_counter("busy.time").with_unit("s").build().add(1.5, &[]);
    meter.f64_gauge("disk.used").with_unit("1").with_description("Used part.").build().record(0.25, &[]);
    meter.i64_up_down_counter("open").build().add(-2, &[]);
    let latency = meter.f64_histogram("latency").with_unit("s").with_boundaries(vec![0.5, 1.0, 2.0]).build();
    [0.25, 0.75, 5.0].into_iter().for_each(|value| latency.record(value, &[KeyValue::new("le", "mine")]));
    let sizes = meter.u64_histogram("sizes").with_unit("By").build();
    [1, 1, 3, 1_000].into_iter().for_each(|value| sizes.record(value, &[]));
}

fn every_kind_builder() -> TelemetryBuilder {
    builder().with_view(View::of("sizes").with_exponential_buckets(160))
}

#[test]
fn every_kind_of_instrument_is_shown_in_every_text_format() {
    let own = |strategy, accept| -> String {
        let page = page(every_kind_builder().with_translation_strategy(strategy), every_kind, accept);
        page.lines().filter(|line| !line.contains("barograph")).flat_map(|line| [line, "\n"]).collect()
    };
    let default = TranslationStrategy::default();
    assert_golden("every_kind_text", &own(default, "text/plain;version=0.0.4"));
    assert_golden("every_kind_utf8", &own(TranslationStrategy::NoUtf8EscapingWithSuffixes, UTF_8));
    assert_golden("every_kind_openmetrics", &own(default, OPEN_METRICS));
}

#[test]
fn every_kind_of_instrument_is_a_message_of_its_type_with_its_start() {
    let families = messages(every_kind_builder(), every_kind);
    let summary: Vec<_> = families.iter().map(|f| (f.name(), f.r#type(), f.unit(), f.metric.len())).collect();
    assert_eq!(
        summary,
        [
            ("busy_time_seconds_total", MetricType::Counter, "seconds", 1),
            ("disk_used_ratio", MetricType::Gauge, "", 1),
            ("jobs_total", MetricType::Counter, "", 2),
            ("latency_seconds", MetricType::Histogram, "seconds", 1),
            ("open", MetricType::Gauge, "", 1),
            ("sizes_bytes", MetricType::Histogram, "bytes", 1),
            ("target_info", MetricType::Gauge, "", 1),
        ]
    );
    assert_eq!(families[2].help(), "Jobs \"done\".\nAll of them.");
    let counter = families[2].metric[1].counter.as_ref().unwrap();
    assert_eq!(counter.value(), 3.0);
    assert!(counter.created_timestamp.as_ref().unwrap().seconds > 1_600_000_000);
    let labels: Vec<_> = families[2].metric[1].label.iter().map(|label| (label.name(), label.value())).collect();
    assert_eq!(labels, [("otel_scope_name", "m"), ("queue", "a\"b\\c\nd")]);

    let classic = families[3].metric[0].histogram.as_ref().unwrap();
    let buckets: Vec<_> = classic.bucket.iter().map(|b| (b.upper_bound(), b.cumulative_count())).collect();
    assert_eq!(buckets, [(0.5, 1), (1.0, 2), (2.0, 2)]);
    assert_eq!((classic.sample_count(), classic.sample_sum()), (3, 6.0));
    assert!(classic.created_timestamp.is_some());

    let native = families[5].metric[0].histogram.as_ref().unwrap();
    assert_eq!((native.sample_count(), native.sample_sum(), native.zero_threshold()), (4, 1005.0, 1e-128));
    assert!((-4..=8).contains(&native.schema()), "{}", native.schema());
    let [negative, positive] = native.native_buckets();
    assert!(negative.is_empty());
    assert_eq!(positive.iter().map(|(_, count)| count).collect::<Vec<_>>(), [&2, &1, &1], "1 twice, 3, 1,000");
    assert!(native.bucket.is_empty() && native.created_timestamp.is_some());
}

#[test]
fn the_strategy_makes_the_name_and_what_the_scraper_can_read_escapes_it() {
    use TranslationStrategy::{
        NoTranslation, NoUtf8EscapingWithSuffixes, UnderscoreEscapingWithSuffixes, UnderscoreEscapingWithoutSuffixes,
    };
    for (strategy, underscores, utf_8, dots, values) in [
        (
            UnderscoreEscapingWithSuffixes,
            "foo_bar_bytes_total",
            "foo_bar_bytes_total",
            "foo__bar__bytes__total",
            "foo_bar_bytes_total",
        ),
        (UnderscoreEscapingWithoutSuffixes, "foo_bar", "foo_bar", "foo__bar", "foo_bar"),
        (
            NoUtf8EscapingWithSuffixes,
            "foo_bar_bytes_total",
            "foo.bar_bytes_total",
            "foo_dot_bar__bytes__total",
            "U__foo_2e_bar__bytes__total",
        ),
        (NoTranslation, "foo_bar", "foo.bar", "foo_dot_bar", "U__foo_2e_bar"),
    ] {
        let telemetry = builder().with_translation_strategy(strategy).without_scope_info().start().unwrap();
        let address = telemetry.local_addr().unwrap();
        telemetry.meter("m").u64_counter("foo.bar").with_unit("By").build().add(1, &[KeyValue::new("a.b", "c")]);
        for (escaping, name) in
            [("underscores", underscores), ("allow-utf-8", utf_8), ("dots", dots), ("values", values)]
        {
            for accept in ["text/plain;version=1.0.0", OPEN_METRICS] {
                let page = ask(address, "/metrics", &format!("{accept};escaping={escaping}")).body;
                let line = page.lines().find(|line| line.ends_with("=\"c\"} 1")).unwrap();
                let written = if name.contains('.') { format!("{{\"{name}\",") } else { format!("{name}{{") };
                assert!(line.starts_with(&written), "{strategy:?} {escaping} {accept}: {line}");
            }
        }
        let page = ask(address, "/metrics", "text/plain").body;
        assert!(page.contains(&format!("\n{underscores}{{a_b=\"c\"}} 1\n")), "{strategy:?}: {page}");
        assert_eq!(page, telemetry.scrape().unwrap());
    }
}

#[test]
fn the_answer_says_what_it_is() {
    let telemetry = builder().start().unwrap();
    let address = telemetry.local_addr().unwrap();
    let text = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";
    for (accept, content_type) in [
        ("", text),
        ("*/*", text),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", text),
        (
            // What a Prometheus 3 sends.
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
             text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
        ),
        (
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,*/*;q=0.2",
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=underscores",
        ),
        (
            "application/openmetrics-text",
            "application/openmetrics-text; version=0.0.1; charset=utf-8; escaping=underscores",
        ),
        ("text/plain;version=1.0.0;escaping=dots", "text/plain; version=1.0.0; charset=utf-8; escaping=dots"),
        ("text/plain;version=0.0.4;q=0.1,application/openmetrics-text;version=1.0.0;q=0", text),
        (";;;===,,\"", text),
        (&"a/b;".repeat(3_000), text),
        (&"x=y;q=0.1,".repeat(700), text),
    ] {
        let answer = ask(address, "/metrics", accept);
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(content_type)), "{accept}");
        assert_eq!(answer.header("vary"), Some("accept, accept-encoding"));
    }
}

#[test]
fn only_what_is_asked_for_is_shown_by_the_names_of_families_or_of_their_series() {
    let telemetry = every_kind_builder().start().unwrap();
    every_kind(&telemetry);
    let address = telemetry.local_addr().unwrap();
    let shown = |query: &str, accept: &str| -> Vec<String> {
        let page = ask(address, &format!("/metrics?{query}"), accept).body;
        let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
        types.map(str::to_owned).collect()
    };
    assert_eq!(shown("name[]=jobs_total&name[]=open", ""), ["jobs_total", "open"]);
    assert_eq!(shown("name%5B%5D=jobs_total", ""), ["jobs_total"]);
    assert_eq!(shown("name[]=latency_seconds_bucket", ""), ["latency_seconds"]);
    assert_eq!(shown("name[]=latency_seconds_count&name[]=target_info", ""), ["latency_seconds", "target_info"]);
    assert_eq!(shown("name[]=jobs", OPEN_METRICS), ["jobs"]);
    assert_eq!(shown("name[]=target", OPEN_METRICS), ["target"]);
    assert_eq!(shown("name[]=nothing", ""), [""; 0]);
    assert_eq!(shown("other=jobs_total", "").len(), shown("", "").len());
    let hundreds: String = (0..700).map(|n| format!("name[]=n{n}&")).collect();
    assert_eq!(shown(&hundreds, ""), [""; 0]);
    assert_eq!(shown("name[]=%ff%zz&=&&&name[]", ""), [""; 0]);

    let answer = ask(address, &format!("/metrics?{}", "x".repeat(9_000)), "");
    assert_eq!((answer.status, answer.body.as_str()), (400, "the query is longer than 8192 bytes\n"));
}

#[test]
fn the_target_the_scopes_and_the_namespace_can_be_chosen() {
    let record = |telemetry: &Telemetry| telemetry.meter("m").u64_counter("jobs").build().add(1, &[]);
    let resource = [KeyValue::new("team", "core"), KeyValue::new("team.id", 7), KeyValue::new("zone", "b")];
    let builder = || builder().with_resource(resource.clone());

    let page_of = |builder| page(builder, record, "");
    assert!(page_of(builder()).contains("\njobs_total{otel_scope_name=\"m\"} 1\n"));
    assert!(page_of(builder().without_scope_info()).contains("\njobs_total 1\n"));
    assert!(page_of(builder()).contains("\ntarget_info{"));
    assert!(!page_of(builder().without_target_info()).contains("target_info"));
    let page = page_of(builder().with_namespace("acme.web"));
    assert!(page.contains("\nacme_web_jobs_total{") && page.contains("\ntarget_info{"), "{page}");

    let registry = Registry::new();
    registry.register(Box::new(IntGauge::new("theirs", "Theirs.").unwrap())).unwrap();
    let labelled = builder().without_scope_info().with_registry(registry);
    let page = page_of(labelled.with_resource_labels(["team*", "zone"], ["team.?d"]));
    assert!(page.contains("\njobs_total{team=\"core\",zone=\"b\"} 1\n"), "{page}");
    assert!(page.contains("\ntheirs{team=\"core\",zone=\"b\"} 0\n"), "{page}");
    let target = page.lines().find(|line| line.starts_with("target_info{")).unwrap();
    assert!(target.contains("team=\"core\"") && target.contains("team_id=\"7\""), "{target}");
    let page = page_of(builder().with_resource_labels(["TEAM"], [""; 0]));
    assert!(page.contains("\njobs_total{otel_scope_name=\"m\"} 1\n"), "keys differ by case: {page}");
}

#[test]
fn openmetrics_says_when_series_began_only_if_it_is_told_to() {
    let created = |builder| {
        let page = page(builder, every_kind, OPEN_METRICS);
        page.lines().filter(|line| line.contains("_created{")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(created(every_kind_builder()), [""; 0]);
    let lines = created(every_kind_builder().without_scope_info().with_created_series());
    for name in ["jobs_created{queue=", "latency_seconds_created{exported_le="] {
        let line = lines.iter().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {lines:?}"));
        let seconds: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
        assert!((1.6e9..1e11).contains(&seconds), "{line}");
    }
    assert!(!lines.iter().any(|line| line.starts_with("open_") || line.starts_with("disk")), "{lines:?}");
}

#[test]
fn openmetrics_has_no_two_families_of_one_name_and_loses_no_counter_to_that() {
    let record = |telemetry: &Telemetry| {
        let meter = telemetry.meter("m");
        meter.u64_counter("a").build().add(1, &[]);
        meter.u64_gauge("a").build().record(2, &[]);
        meter.u64_counter("b").build().add(3, &[]);
        meter.u64_gauge("b.created").build().record(4, &[]);
    };
    let builder = || builder().without_scope_info();
    let open = page(builder(), record, OPEN_METRICS);
    assert_eq!(
        families(&open, "a") + &families(&open, "b").replace("barograph", "# barograph"),
        "# TYPE a gauge\na 2\n# TYPE a_total unknown\na_total 1\n".to_owned()
            + &families(&open, "b").replace("barograph", "# barograph")
    );
    assert!(open.contains("# TYPE b_created gauge\nb_created 4\n# TYPE b_total unknown\nb_total 3\n"), "{open}");
    let text = page(builder(), record, "");
    assert!(
        text.contains("# TYPE a_total counter\na_total 1\n") && text.contains("# TYPE b_total counter\n"),
        "{text}"
    );
}

#[test]
fn openmetrics_leaves_out_what_it_forbids() {
    let record = |telemetry: &Telemetry| {
        let meter = telemetry.meter("m");
        let below = meter.f64_histogram("below").with_boundaries(vec![-1.0, 1.0]).build();
        below.record(-5.0, &[]);
        let sunk = meter.f64_histogram("sunk").with_boundaries(vec![1.0]).build();
        sunk.record(-5.0, &[]);
    };
    let open = page(builder().without_scope_info(), record, OPEN_METRICS);
    let begin = "# TYPE below histogram\nbelow_bucket{le=\"-1.0\"} 1\nbelow_bucket{le=\"1.0\"} 1\nbelow_bucket{le=\"+Inf\"} 1\n";
    assert_eq!(families(&open, "below"), begin);
    assert!(!open.contains("sunk_sum") && !open.contains("sunk_count"), "{open}");
    let text = page(builder().without_scope_info(), record, "");
    assert!(text.contains("below_sum -5\nbelow_count 1\n") && text.contains("sunk_sum -5\n"), "{text}");
}

#[test]
fn a_count_that_cannot_be_is_left_out_and_counted_in_every_format() {
    let telemetry = talking_builder().start().unwrap();
    let meter = telemetry.meter_provider().meter("m");
    let _counter = meter.f64_observable_counter("sunk").with_callback(|observer| observer.observe(-1.0, &[])).build();
    let address = telemetry.local_addr().unwrap();
    for accept in ["", OPEN_METRICS] {
        assert!(!ask(address, "/metrics", accept).body.contains("\nsunk"));
    }
    let page = telemetry.scrape().unwrap();
    let line =
        page.lines().find(|line| line.starts_with("barograph_points_dropped_total") && line.contains("invalid_value"));
    assert!(line.is_some_and(|line| line.ends_with(" 2")), "{line:?}");
}

#[test]
fn a_registrys_metrics_are_escaped_and_formatted_like_the_rest() {
    let registry = Registry::new();
    let requests = IntCounter::new("their_requests", "Theirs.").unwrap();
    requests.inc();
    registry.register(Box::new(requests)).unwrap();
    let telemetry = builder().with_registry(registry).start().unwrap();
    let address = telemetry.local_addr().unwrap();
    let open = ask(address, "/metrics?name[]=their_requests", OPEN_METRICS).body;
    // A counter that is not called `_total` has no type in OpenMetrics, and keeps its name.
    assert_eq!(open, "# TYPE their_requests unknown\n# HELP their_requests Theirs.\ntheir_requests 1\n# EOF\n");
    let dots = ask(address, "/metrics?name[]=their_requests", "text/plain;version=1.0.0;escaping=dots").body;
    assert!(dots.contains("\ntheir__requests 1\n"), "{dots}");
}

#[test]
fn a_page_is_compressed_when_it_is_asked_for() {
    let telemetry = builder().start().unwrap();
    let counter = telemetry.meter("m").u64_counter("jobs").build();
    (0..1_500).for_each(|n| counter.add(n, &[KeyValue::new("n", n as i64)]));
    let address = telemetry.local_addr().unwrap();
    let or_gzip = if cfg!(feature = "zstd") { "zstd" } else { "gzip" };
    for accept in ["", OPEN_METRICS] {
        let plain = ask(address, "/metrics", accept);
        assert_eq!(plain.header("content-encoding"), None);
        for (accept_encoding, coding) in [
            ("gzip;q=1.0, identity;q=0.5", "gzip"),
            ("gzip, deflate, br, zstd", or_gzip),
            ("zstd;q=0.5, gzip;q=0.7", "gzip"),
        ] {
            let headers = [("Accept", accept), ("Accept-Encoding", accept_encoding)];
            let packed = request_with(address, "GET", "/metrics", &headers);
            assert_eq!(packed.header("content-encoding"), Some(coding), "{accept_encoding}");
            assert_eq!(packed.header("content-type"), plain.header("content-type"));
            assert_eq!(unpacked(&packed), plain.body, "{accept_encoding}");
            assert!(packed.bytes.len() * 4 < plain.bytes.len());
        }
    }
}

#[test]
fn a_page_of_many_chunks_is_whole_however_it_is_compressed() {
    let telemetry = builder().start().unwrap();
    let counter = telemetry.meter("m").u64_counter("jobs").build();
    // Text that no compressor makes so short that it leaves in one chunk.
    let mut state = 1_u64;
    for n in 0..1_900 {
        let text: String = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            format!("{:x}", state >> 8)
        })
        .take(50)
        .collect();
        counter.add(1, &[KeyValue::new("n", n), KeyValue::new("text", text)]);
    }
    let address = telemetry.local_addr().unwrap();
    let plain = ask(address, "/metrics", "").body;
    for coding in ["gzip", "zstd"] {
        let packed = request_with(address, "GET", "/metrics", &[("Accept-Encoding", coding)]);
        assert_eq!(packed.header("transfer-encoding"), Some("chunked"), "{coding}");
        assert_eq!(unpacked(&packed), plain, "{coding}");
    }
}

#[test]
fn a_page_that_fits_into_a_packet_is_compressed_only_for_those_who_do_not_take_it_otherwise() {
    let telemetry = builder().start().unwrap();
    telemetry.meter("m").u64_counter("jobs").build().add(1, &[]);
    let address = telemetry.local_addr().unwrap();
    let path = "/metrics?name[]=jobs_total";
    let plain = ask(address, path, "").body;
    assert!(plain.len() < 100, "{plain}");
    for (accept_encoding, coding) in
        [("gzip", None), ("zstd", None), ("gzip, identity;q=0", Some("gzip")), ("gzip, *;q=0", Some("gzip"))]
    {
        let answer = request_with(address, "GET", path, &[("Accept-Encoding", accept_encoding)]);
        assert_eq!((answer.status, answer.header("content-encoding")), (200, coding), "{accept_encoding}");
        assert_eq!(unpacked(&answer), plain, "{accept_encoding}");
    }
}

#[test]
fn who_leaves_nothing_that_could_be_sent_gets_the_page_as_it_is() {
    let telemetry = builder().start().unwrap();
    let address = telemetry.local_addr().unwrap();
    for accept_encoding in ["identity;q=0", "*;q=0", "br, identity;q=0", "gzip;q=0, zstd;q=0, *;q=0"] {
        let answer = request_with(address, "GET", "/metrics", &[("Accept-Encoding", accept_encoding)]);
        assert_eq!((answer.status, answer.header("content-encoding")), (200, None), "{accept_encoding}");
        assert!(answer.body.starts_with('#'), "{accept_encoding}");
    }
}

#[test]
fn every_answer_of_the_path_says_what_it_depends_on_and_head_says_the_same_as_get() {
    let telemetry = builder().start().unwrap();
    let address = telemetry.local_addr().unwrap();
    let vary = Some("accept, accept-encoding");
    let too_long = format!("/metrics?{}", "x".repeat(9_000));
    for (method, path, status) in [("GET", "/metrics", 200), ("POST", "/metrics", 405), ("GET", &too_long, 400)] {
        let answer = request(address, method, path);
        assert_eq!((answer.status, answer.header("vary")), (status, vary), "{method} {status}");
    }
    // A short page and a longer one, of one chunk each: their lengths are known.
    for path in ["/metrics?name[]=target_info", "/metrics"] {
        for coding in ["", "gzip", "zstd", "gzip, identity;q=0"] {
            let headers = [("Accept-Encoding", coding)];
            let get = request_with(address, "GET", path, &headers);
            let head = request_with(address, "HEAD", path, &headers);
            assert_eq!((head.status, head.bytes.len()), (200, 0), "{path} {coding}");
            for header in ["content-encoding", "content-type", "vary"] {
                assert_eq!(head.header(header), get.header(header), "{path} {coding} {header}");
            }
            assert_eq!(head.header("content-length").is_some(), get.header("content-length").is_some());
            assert_eq!(get.header("vary"), vary);
        }
    }
}

/// The body as it was before it was compressed.
fn unpacked(answer: &Answer) -> String {
    let mut text = String::new();
    match answer.header("content-encoding") {
        Some("gzip") => {
            flate2::read::MultiGzDecoder::new(answer.bytes.as_slice()).read_to_string(&mut text).unwrap();
        }
        Some("zstd") => text = String::from_utf8(zstd::decode_all(answer.bytes.as_slice()).unwrap()).unwrap(),
        coding => {
            assert_eq!(coding, None);
            text.clone_from(&answer.body);
        }
    }
    text
}

#[test]
fn a_family_longer_than_any_buffer_is_whole_in_every_format() {
    let telemetry = builder().start().unwrap();
    let meter = telemetry.meter("m");
    let (jobs, latency) = (meter.u64_counter("jobs").build(), meter.f64_histogram("latency").build());
    for n in 0..1_900 {
        let attributes = [KeyValue::new("n", n), KeyValue::new("text", "x".repeat(400))];
        jobs.add(n as u64, &attributes);
        latency.record(n as f64, &attributes);
    }
    let address = telemetry.local_addr().unwrap();
    for accept in ["", OPEN_METRICS] {
        let page = ask(address, "/metrics", accept).body;
        let count = |start: &str| page.lines().filter(|line| line.starts_with(start)).count();
        assert_eq!((count("jobs_total{"), count("latency_bucket{"), count("latency_sum{")), (1_900, 1_900 * 16, 1_900));
    }
    let families = dto::decode_all(&ask(address, "/metrics", PROTOBUF).bytes);
    for name in ["jobs_total", "latency"] {
        let family = families.iter().find(|family| family.name() == name).unwrap();
        assert_eq!(family.metric.len(), 1_900);
        let numbers: Vec<_> = family.metric.iter().map(|metric| metric.label[0].value().to_owned()).collect();
        assert!(numbers.is_sorted(), "in the order of their labels");
    }
}

#[test]
fn a_metric_that_is_dropped_describes_nothing() {
    let record = |telemetry: &Telemetry| {
        // Sorted first by its meter, the gauge is the one that is shown.
        telemetry.meter("a").f64_gauge("same").build().record(1.0, &[]);
        let meter = telemetry.meter("b");
        meter.u64_counter("same").with_unit("By").with_description("Dropped.").build().add(1, &[]);
    };
    let strategy = TranslationStrategy::UnderscoreEscapingWithoutSuffixes;
    let page = page(builder().with_translation_strategy(strategy), record, OPEN_METRICS);
    assert_eq!(families(&page, "same"), "# TYPE same gauge\nsame{otel_scope_name=\"a\"} 1\n");
}

#[test]
fn a_family_of_both_sorts_of_histograms_is_native_in_no_format() {
    let view = View::of("size").in_scope("a").with_exponential_buckets(160);
    let families = messages(builder().with_view(view), |telemetry| {
        for scope in ["a", "b"] {
            telemetry.meter(scope).u64_histogram("size").build().record(3, &[]);
        }
    });
    let family = families.iter().find(|family| family.name() == "size").unwrap();
    assert_eq!(family.metric.len(), 2);
    for metric in &family.metric {
        let histogram = metric.histogram.as_ref().unwrap();
        assert!(histogram.schema.is_none() && histogram.positive_span.is_empty() && !histogram.bucket.is_empty());
        assert_eq!(histogram.sample_count(), 1);
    }
}
