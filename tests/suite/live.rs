//! The live page at `/` and its data at `/live`: who sees them, and what they say.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};

use barograph::config::{EndpointLimits, LivePage};
use barograph::opentelemetry::KeyValue;
use barograph::opentelemetry::metrics::MeterProvider;
use barograph::{CounterSpec, MeterExt, Telemetry, TelemetryBuilder, View};
use flate2::read::GzDecoder;
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::instruments::{Api, Outcome};
use crate::support::{
    Answer, DEADLINE, builder, find, get, request, request_with, talking_builder, without_panic_messages,
};

const TYPED: CounterSpec<(Api, Outcome)> = CounterSpec::new("typed.calls", "{call}", "Calls.");

fn data(telemetry: &Telemetry) -> Value {
    asked(telemetry, "/live")
}

fn asked(telemetry: &Telemetry, path: &str) -> Value {
    let answer = get(telemetry.local_addr().unwrap(), path);
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")), "{}", answer.body);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    serde_json::from_str(&answer.body).unwrap()
}

/// A family by its scraped name, and the values of its series.
fn family<'v>(data: &'v Value, scraped: &str) -> (&'v Value, &'v Value) {
    let families = data["families"].as_array().unwrap();
    let place = families.iter().position(|family| family["scraped"] == scraped);
    let place = place.unwrap_or_else(|| panic!("no `{scraped}`: {data:#}"));
    (&families[place], &data["values"][place])
}

/// What a server answers to somebody who sends these headers besides what a browser on this machine does.
fn status(address: SocketAddr, path: &str, headers: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    Answer::parse(answer, true)
}

fn is_page(answer: &Answer) -> bool {
    answer.header("content-security-policy").is_some()
}

#[track_caller]
fn assert_shown(address: SocketAddr, headers: &str) {
    assert!(is_page(&status(address, "/", headers)), "{headers}");
    assert_eq!(status(address, "/live", headers).status, 200, "{headers}");
}

#[track_caller]
fn assert_hidden(address: SocketAddr, headers: &str) {
    let landing = status(address, "/", headers);
    assert_eq!((landing.status, is_page(&landing)), (200, false), "{headers}");
    let refused = status(address, "/live", headers);
    assert_eq!((refused.status, refused.header("content-type")), (403, Some("text/plain; charset=utf-8")), "{headers}");
    for text in [&landing.body, &refused.body] {
        assert!(text.contains("on this machine only"), "{text}");
        assert!(text.contains("with_live_page(LivePage::Anyone)"), "{text}");
    }
}

fn anywhere() -> TelemetryBuilder {
    Telemetry::builder("suite").with_address("0.0.0.0:0").without_self_metrics()
}

/// An address of this machine that is no loopback, if it has one. Nothing is sent.
fn own_address() -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(ip) if !ip.is_loopback() && !ip.is_unspecified() => Some(ip),
        _ => None,
    }
}

#[test]
fn the_page_comes_whole_under_a_strict_policy_and_compressed_for_who_takes_it_so() {
    let telemetry = builder().start().unwrap();
    let address = telemetry.local_addr().unwrap();
    let page = get(address, "/");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").unwrap();
    for part in ["default-src 'none';", "connect-src 'self';", "base-uri 'none';", "form-action 'none';"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(policy.ends_with("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
    for (name, value) in [
        ("cache-control", "no-cache"),
        ("referrer-policy", "no-referrer"),
        ("vary", "accept-encoding"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(page.header(name), Some(value));
    }
    assert!(page.body.starts_with("<!DOCTYPE html>") && page.body.trim_end().ends_with("</html>"));
    assert!(page.head.len() + page.bytes.len() < 60 * 1024);

    let head = request(address, "HEAD", "/");
    assert_eq!((head.header("content-length"), head.body.as_str()), (page.header("content-length"), ""));

    // Below a packet's length nothing is compressed.
    let packed = request_with(address, "GET", "/", &[("Accept-Encoding", "gzip, identity;q=0")]);
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    let mut text = String::new();
    GzDecoder::new(packed.bytes.as_slice()).read_to_string(&mut text).unwrap();
    assert_eq!(text, page.body);
}

#[test]
fn browsers_on_this_machine_see_it_and_strangers_are_told_why_not() {
    let telemetry = anywhere().start().unwrap();
    let local = SocketAddr::from(([127, 0, 0, 1], telemetry.local_addr().unwrap().port()));
    for host in ["localhost", "127.0.0.1:9464", "[::1]", "app.localhost:80"] {
        assert_shown(local, &format!("Host: {host}\r\n"));
    }
    // A name that somebody has pointed here; and a proxy, which speaks for somebody else.
    assert_hidden(local, "Host: evil.example\r\n");
    assert_hidden(local, "Host: localhost\r\nX-Forwarded-For: 192.0.2.1\r\n");
    assert_hidden(local, "Host: localhost\r\nForwarded: for=192.0.2.1\r\n");
    assert_eq!(status(local, "/metrics", "Host: evil.example\r\n").status, 200, "it listens to everybody");
    if let Some(own) = own_address() {
        let other = SocketAddr::from((own, local.port()));
        assert_hidden(other, "Host: localhost\r\n");
        assert_eq!(status(other, "/metrics", "Host: localhost\r\n").status, 200);
    }
}

#[test]
fn an_allowed_host_sees_it_and_an_endpoint_on_loopback_answers_nobody_else_at_all() {
    let limits = EndpointLimits { allowed_hosts: vec!["metrics.example".to_owned()], ..EndpointLimits::default() };
    let telemetry = builder().with_limits(limits).start().unwrap();
    let address = telemetry.local_addr().unwrap();
    assert_shown(address, "Host: metrics.example\r\n");
    for path in ["/", "/live"] {
        let refused = status(address, path, "Host: evil.example\r\n");
        assert_eq!((refused.status, refused.body.contains("allowed_hosts")), (403, true), "{path}");
    }
}

#[test]
fn it_can_be_shown_to_everybody_and_to_nobody() {
    let telemetry = anywhere().with_live_page(LivePage::Anyone).start().unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], telemetry.local_addr().unwrap().port()));
    assert_shown(address, "Host: evil.example\r\nX-Forwarded-For: 192.0.2.1\r\n");
    let settings = telemetry.configuration().settings();
    let setting = settings.iter().find(|setting| setting.path.ends_with(".live_page")).unwrap();
    assert!(setting.to_string().ends_with("prometheus/development.live_page: anyone (code)"), "{setting}");

    let telemetry = builder().with_live_page(LivePage::Off).start().unwrap();
    let address = telemetry.local_addr().unwrap();
    assert_eq!(get(address, "/live").status, 404);
    let landing = get(address, "/");
    assert!(!is_page(&landing) && !landing.body.contains("with_live_page"), "{}", landing.body);
}

#[cfg(unix)]
#[test]
fn who_comes_through_a_socket_in_the_file_system_is_on_this_machine() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metrics.sock");
    let _telemetry = builder().with_address(format!("unix:{}", path.display())).start().unwrap();
    let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(stream, "GET /live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(Answer::parse(answer, true).status, 200);
}

#[test]
fn only_get_and_head_are_answered_and_no_endless_query() {
    let telemetry = builder().start().unwrap();
    let address = telemetry.local_addr().unwrap();
    let head = request(address, "HEAD", "/live");
    assert_eq!((head.status, head.header("content-type"), head.body.as_str()), (200, Some("application/json"), ""));
    let answer = request(address, "POST", "/live");
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")));
    assert_eq!(get(address, &format!("/live?known={}", "x".repeat(9_000))).status, 400);
    let error = builder().with_path("/live").start().unwrap_err().to_string();
    assert!(error.contains("`/live`"), "{error}");
}

#[test]
fn counters_gauges_and_histograms_come_with_all_that_is_known_of_them() {
    let buckets = View::of("took").with_buckets([0.5, 1.0]);
    let telemetry = builder().with_view(buckets).with_view(View::of("few").with_cardinality_limit(1)).start().unwrap();
    let meter = telemetry.meter("shop");
    let sold = meter.u64_counter("sold.things").with_unit("{thing}").with_description("Things sold.").build();
    sold.add(3, &[KeyValue::new("kind", "book"), KeyValue::new("paid", true)]);
    sold.add(2, &[KeyValue::new("kind", "apple")]);
    meter.i64_up_down_counter("queued").build().add(-2, &[]);
    meter.f64_gauge("level").with_unit("Cel").build().record(21.5, &[]);
    let level = meter.f64_gauge("other.level").build();
    level.record(-0.25, &[]);
    let took = meter.f64_histogram("took").with_unit("s").build();
    [0.5, 0.75, 2.0, 3.0].iter().for_each(|seconds| took.record(*seconds, &[]));
    let few = meter.u64_counter("few").build();
    (0..3).for_each(|user| few.add(1, &[KeyValue::new("user", user)]));

    let data = data(&telemetry);
    assert_eq!(data["service"], "suite");
    assert_eq!(data["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&data["metrics"], &data["debug"]), (&json!("/metrics"), &Value::Null));
    let (now, started) = (data["now"].as_f64().unwrap(), data["started"].as_f64().unwrap());
    assert!(started > 1.7e9 && now >= started && now < started + 60.0, "{started} {now}");
    assert!(data["collection"]["seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(data["left_out"], Value::Null);

    let (about, values) = family(&data, "sold_things_total");
    assert_eq!(
        about,
        &json!({
            "name": "sold.things", "scraped": "sold_things_total", "scope": "shop", "kind": "counter",
            "unit": "{thing}", "description": "Things sold.", "keys": ["kind", "paid"],
            "series": [["apple", null], ["book", "true"]], "limit": 2_000, "overflows": false,
        })
    );
    assert_eq!(values, &json!([2, 3]));
    let (about, values) = family(&data, "queued");
    assert_eq!(
        (&about["kind"], &about["keys"], &about["series"]),
        (&json!("up_down_counter"), &json!([]), &json!([[]]))
    );
    assert_eq!(values, &json!([-2]));
    let (about, values) = family(&data, "level_celsius");
    assert_eq!((&about["name"], &about["kind"], &about["unit"]), (&json!("level"), &json!("gauge"), &json!("Cel")));
    assert_eq!(values, &json!([21.5]));
    assert_eq!(family(&data, "other_level").1, &json!([-0.25]));
    let (about, values) = family(&data, "took_seconds");
    assert_eq!((&about["kind"], &about["bounds"]), (&json!("histogram"), &json!([0.5, 1])));
    assert_eq!(values, &json!([[4, 6.25, [1, 1, 2]]]));
    let (about, values) = family(&data, "few_total");
    assert_eq!((&about["limit"], &about["overflows"]), (&json!(1), &json!(true)));
    assert_eq!(about["keys"], json!(["otel_metric_overflow", "user"]));
    assert_eq!(values.as_array().unwrap().iter().map(|value| value.as_u64().unwrap()).sum::<u64>(), 3);
    let problem = data["problems"][0].as_str().unwrap();
    assert!(problem.contains("`few` of meter `shop` has more series than its limit of 1"), "{problem}");
}

#[test]
fn families_come_by_meter_and_those_without_series_are_there_too() {
    let telemetry = builder().with_view(View::of("dropped").dropped()).start().unwrap();
    let _ = telemetry.meter("b").u64_counter("early").with_description("Nothing yet.").build();
    let _ = telemetry.meter("b").f64_histogram("empty").with_unit("s").build();
    let _ = telemetry.meter("b").f64_histogram("dropped").build();
    telemetry.meter("b").u64_counter("z").build().add(1, &[]);
    telemetry.meter("c").u64_counter("a").build().add(1, &[]);
    telemetry.meter("a").u64_counter("y").build().add(1, &[]);
    let _typed = telemetry.meter("a").counter(&TYPED);
    let data = data(&telemetry);
    let families = data["families"].as_array().unwrap();
    let names: Vec<_> =
        families.iter().map(|f| (f["scope"].as_str().unwrap(), f["scraped"].as_str().unwrap())).collect();
    assert_eq!(
        names,
        [
            ("a", "typed_calls_total"),
            ("a", "y_total"),
            ("b", "early_total"),
            ("b", "empty_seconds"),
            ("b", "z_total"),
            ("c", "a_total")
        ]
    );
    let (about, values) = family(&data, "early_total");
    assert_eq!((&about["series"], &about["description"], values), (&json!([]), &json!("Nothing yet."), &json!([])));
    assert_eq!((&family(&data, "empty_seconds").0["bounds"], &data["values"][3]), (&json!([]), &json!([])));
    let (typed, values) = family(&data, "typed_calls_total");
    assert_eq!(typed["series"].as_array().unwrap().len(), values.as_array().unwrap().len());
    assert!(values.as_array().unwrap().iter().all(|value| value == &json!(0)), "{values}");
}

#[test]
fn an_exponential_histogram_brings_its_bounds() {
    let telemetry = builder().with_view(View::of("took").with_exponential_buckets(160)).start().unwrap();
    let took = telemetry.meter("shop").f64_histogram("took").build();
    [1.5, 3.0, 3.5].iter().for_each(|seconds| took.record(*seconds, &[]));
    let data = data(&telemetry);
    let (about, values) = family(&data, "took");
    assert_eq!((&about["kind"], about.get("bounds")), (&json!("exponential_histogram"), None));
    let value = values[0].as_array().unwrap();
    assert_eq!((value.len(), &value[0], &value[1]), (4, &json!(3), &json!(8)));
    let (counts, bounds) = (value[2].as_array().unwrap(), value[3].as_array().unwrap());
    assert_eq!(counts.len(), bounds.len() + 1);
    assert_eq!(counts.iter().map(|count| count.as_u64().unwrap()).sum::<u64>(), 3);
    let below_two = bounds.iter().zip(counts).filter(|(bound, _)| bound.as_f64().unwrap() <= 2.0);
    assert_eq!(below_two.map(|(_, count)| count.as_u64().unwrap()).sum::<u64>(), 1);
}

#[test]
fn one_name_of_two_meters_is_one_family_whose_series_say_which() {
    let telemetry = builder().start().unwrap();
    telemetry.meter("one").u64_counter("same").build().add(1, &[]);
    telemetry.meter("two").u64_counter("same").build().add(2, &[]);
    let data = data(&telemetry);
    let (about, values) = family(&data, "same_total");
    assert_eq!((&about["scope"], &about["keys"]), (&json!("one"), &json!(["otel_scope_name"])));
    assert_eq!((&about["series"], values), (&json!([["one"], ["two"]]), &json!([1, 2])));
}

#[test]
fn a_merged_registry_is_part_of_it() {
    let registry = prometheus::Registry::new();
    let opts = prometheus::HistogramOpts::new("theirs", "Their histogram.").buckets(vec![1.0, 2.0]);
    let histogram = prometheus::Histogram::with_opts(opts).unwrap();
    registry.register(Box::new(histogram.clone())).unwrap();
    let counter = prometheus::IntCounter::new("counted_total", "Their counter.").unwrap();
    registry.register(Box::new(counter.clone())).unwrap();
    let gauge = prometheus::GaugeVec::new(prometheus::Opts::new("odd", "No numbers."), &["at"]).unwrap();
    registry.register(Box::new(gauge.clone())).unwrap();
    histogram.observe(1.5);
    counter.inc_by(7);
    for (at, value) in [("a", f64::NAN), ("b", f64::INFINITY), ("c", f64::NEG_INFINITY), ("d", 1e300)] {
        gauge.with_label_values(&[at]).set(value);
    }
    let telemetry = builder().with_registry(registry).start().unwrap();
    let data = data(&telemetry);
    let (about, values) = family(&data, "theirs");
    assert_eq!((&about["scope"], &about["kind"], &about["limit"]), (&json!(""), &json!("histogram"), &Value::Null));
    assert_eq!((&about["description"], values), (&json!("Their histogram."), &json!([[1, 1.5, [0, 1, 0]]])));
    let (about, values) = family(&data, "counted_total");
    assert_eq!((&about["name"], &about["kind"], values), (&json!("counted_total"), &json!("counter"), &json!([7])));
    assert_eq!(family(&data, "odd").1, &json!(["NaN", "+Inf", "-Inf", 1e300]));
}

#[test]
fn lists_that_are_known_are_left_out_until_a_series_comes() {
    let telemetry = builder().start().unwrap();
    let counter = telemetry.meter("shop").u64_counter("sold").build();
    counter.add(1, &[KeyValue::new("kind", "book")]);
    let first = data(&telemetry);
    let path = format!("/live?known={}", first["schema"].as_str().unwrap());
    counter.add(4, &[KeyValue::new("kind", "book")]);
    let second = asked(&telemetry, &path);
    assert_eq!((second.get("families"), &second["schema"]), (None, &first["schema"]));
    assert_eq!(second["values"], json!([[5]]));
    counter.add(1, &[KeyValue::new("kind", "apple")]);
    let third = asked(&telemetry, &path);
    assert_ne!(third["schema"], first["schema"]);
    assert_eq!(family(&third, "sold_total").0["series"], json!([["apple"], ["book"]]));
    assert_eq!(third["values"], json!([[1, 5]]));
    assert!(asked(&telemetry, "/live?known=")["families"].is_array());
}

#[test]
fn hostile_names_and_values_are_only_text() {
    let telemetry = builder().start().unwrap();
    let hostile = "</script><img src=x onerror=alert(1)>\"\\\u{0}\u{1}\u{1f}\u{7f}\u{2028}\u{feff}\u{1f4a9}\r\n'`${x}";
    let description = format!("<b>{hostile}");
    let counter = telemetry.meter("</script>\"").u64_counter("sold").with_description(description.clone()).build();
    counter.add(1, &[KeyValue::new("k</script>\"\u{1}", hostile)]);
    let refused = telemetry.meter("shop").u64_counter("\"</script>\u{2}").build();
    refused.add(1, &[]);
    let data = data(&telemetry);
    let (about, _) = family(&data, "sold_total");
    assert_eq!((&about["scope"], &about["description"]), (&json!("</script>\""), &json!(description)));
    assert_eq!(about["series"], json!([[hostile]]));
    assert!(data["problems"][0].as_str().unwrap().contains("\"</script>"), "{}", data["problems"]);
}

#[test]
fn health_is_in_the_data_callbacks_that_panic_among_it() {
    let telemetry = talking_builder().start().unwrap();
    let meter = telemetry.meter("shop");
    meter.u64_observable_gauge("broken").with_callback(|_| panic!("expected")).build();
    let _ = telemetry.meter("shop").u64_counter("not a name").build();
    let data = without_panic_messages(|| {
        data(&telemetry);
        data(&telemetry)
    });
    let (about, values) = family(&data, "barograph_callback_errors_total");
    assert_eq!((&about["scope"], &about["keys"]), (&json!("barograph"), &json!(["instrument", "reason"])));
    let at = about["series"].as_array().unwrap().iter().position(|series| series == &json!(["broken", "panic"]));
    assert!(values[at.unwrap()].as_u64().unwrap() >= 1, "{values}");
    assert!(data["problems"][0].as_str().unwrap().contains("`not a name`"), "{}", data["problems"]);
    for scraped in ["barograph_points_dropped_total", "barograph_instruments_refused_total"] {
        assert_eq!(family(&data, scraped).0["keys"], json!(["reason"]));
    }
}

#[test]
fn a_poll_is_no_scrape() {
    let telemetry = talking_builder().start().unwrap();
    telemetry.meter("shop").u64_counter("same").build().add(1, &[]);
    telemetry.meter("shop").u64_counter("same_total").build().add(1, &[]);
    (0..3).for_each(|_| drop(data(&telemetry)));
    let requests = "barograph_scrape_requests_total{code=\"200\"}";
    let duplicates = "barograph_points_dropped_total{reason=\"duplicate\"}";
    let page = telemetry.scrape().unwrap();
    assert_eq!((find(&page, requests), find(&page, duplicates)), (Some(0.0), Some(0.0)));
    // That was one, in which the second of two that are the same was dropped.
    assert_eq!(find(&telemetry.scrape().unwrap(), duplicates), Some(1.0));
}

#[test]
fn five_thousand_series_are_answered_and_more_than_there_is_room_for_are_counted() {
    let telemetry = builder().with_view(View::of("many").with_cardinality_limit(30_000)).start().unwrap();
    let counter = telemetry.meter("shop").u64_counter("many").build();
    let record = |users: std::ops::Range<i64>| users.for_each(|user| counter.add(1, &[KeyValue::new("user", user)]));
    record(0..5_000);
    let some = data(&telemetry);
    let (about, values) = family(&some, "many_total");
    assert_eq!(about["series"].as_array().unwrap().len(), 5_000);
    assert_eq!((values.as_array().unwrap().len(), some.get("left_out")), (5_000, None));
    record(5_000..20_010);
    let all = data(&telemetry);
    let (about, values) = family(&all, "many_total");
    assert_eq!(about["series"].as_array().unwrap().len(), 20_000);
    assert_eq!((values.as_array().unwrap().len(), &all["left_out"]), (20_000, &json!(10)));
}

#[test]
fn series_that_have_many_different_labels_do_not_make_an_endless_table() {
    let telemetry = builder().start().unwrap();
    let counter = telemetry.meter("shop").u64_counter("wild").build();
    (0..100).for_each(|key| counter.add(1, &[KeyValue::new(format!("key{key:03}"), "x"), KeyValue::new("both", "y")]));
    let data = data(&telemetry);
    let (about, values) = family(&data, "wild_total");
    assert_eq!(about["keys"].as_array().unwrap().len(), 64);
    assert_eq!((values.as_array().unwrap().len(), &data["left_out"]), (63, &json!(37)));
    let series = about["series"].as_array().unwrap();
    assert!(series.iter().all(|labels| labels.as_array().unwrap().len() == 64 && labels[0] == "y"));
    assert_eq!((&series[0][1], &series[0][2], &series[1][2]), (&json!("x"), &Value::Null, &json!("x")));
}

/// An answer of the service in somebody else's server, and its body.
fn mounted(telemetry: &Telemetry, path: &str) -> (http::response::Parts, String) {
    let request = Request::get(path).header("Host", "localhost").header("Accept-Encoding", "gzip").body(()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (parts, body) = telemetry.scrape_service().oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        let is_packed = parts.headers.get("content-encoding").is_some();
        let mut text = String::new();
        if is_packed {
            GzDecoder::new(body.as_slice()).read_to_string(&mut text).unwrap();
        } else {
            text = String::from_utf8(body).unwrap();
        }
        (parts, text)
    })
}

#[test]
fn where_it_is_mounted_nobody_is_known_to_be_on_this_machine() {
    let telemetry = builder().without_endpoint().start().unwrap();
    let (parts, landing) = mounted(&telemetry, "/");
    assert!(parts.headers.get("content-security-policy").is_none() && landing.contains("with_live_page"), "{landing}");
    assert_eq!(mounted(&telemetry, "/live").0.status, 403);

    let telemetry = builder().without_endpoint().with_live_page(LivePage::Anyone).start().unwrap();
    let counter = telemetry.meter_provider().meter("shop").u64_counter("sold").build();
    (0..200).for_each(|user| counter.add(1, &[KeyValue::new("user", user)]));
    let (parts, page) = mounted(&telemetry, "/");
    assert!(parts.headers.get("content-security-policy").is_some() && page.contains("</html>"), "{page}");
    let (parts, text) = mounted(&telemetry, "/live");
    assert_eq!(parts.headers.get("content-encoding").unwrap(), "gzip");
    let data: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(family(&data, "sold_total").1.as_array().unwrap().len(), 200);
}

#[test]
fn after_the_end_it_says_that_this_is_the_end() {
    let telemetry = builder().without_endpoint().with_live_page(LivePage::Anyone).start().unwrap();
    let service = telemetry.scrape_service();
    telemetry.shutdown(DEADLINE).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let answer = service.oneshot(Request::get("/live").body(()).unwrap()).await.unwrap();
        assert_eq!((answer.status().as_u16(), &answer.headers()["cache-control"] == "no-store"), (503, true));
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "the metrics pipeline is shut down\n");
    });
}
