//! Pushing to a real OpenTelemetry Collector: every protocol, compression and kind of connection, collectors that go and
//! come back, and those that do not take what they get.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use barograph::Telemetry;
#[cfg(all(feature = "tls", feature = "zstd"))]
use barograph::config::Tls;
use barograph::config::{
    Compression, MetricReader, OtlpHttpEncoding, OtlpMetricExporter, PeriodicMetricReader, PushMetricExporter,
    TemporalityPreference,
};
use barograph::opentelemetry::KeyValue;
use barograph::opentelemetry::metrics::Counter;
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsPartialSuccess, ExportMetricsServiceResponse};
use prost::Message;
use serde_json::{Value, json};

#[cfg(all(feature = "tls", feature = "zstd"))]
use crate::otlp::certificates::Certificates;
use crate::otlp::collector::{Collector, Options};
use crate::otlp::sink::{Answer, Received, Sink};
use crate::process::poll;

/// Enough for an export on a machine that compiles as well.
const ENOUGH: Duration = Duration::from_secs(30);

/// Enough to find out that nobody listens, and too little for another try, which comes after 250 ms at the soonest.
const BRIEF: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Grpc,
    Protobuf,
    Json,
}

const PROTOCOLS: [Protocol; 3] = [Protocol::Grpc, Protocol::Protobuf, Protocol::Json];

impl Protocol {
    /// An exporter to the collector, which `scheme` says how to speak to.
    fn exporter(self, collector: &Collector, scheme: &str) -> OtlpMetricExporter {
        // The name, so that a certificate has to match it.
        let url = |address: SocketAddr| format!("{scheme}://localhost:{}", address.port());
        match self {
            Self::Grpc => OtlpMetricExporter::grpc(&url(collector.grpc_address())),
            _ => self.over_http(&url(collector.http_address())),
        }
    }

    fn over_http(self, base: &str) -> OtlpMetricExporter {
        let encoding = if self == Self::Json { OtlpHttpEncoding::Json } else { OtlpHttpEncoding::Protobuf };
        OtlpMetricExporter { encoding, ..OtlpMetricExporter::http(base) }
    }

    /// A pipeline that pushes when it is told to, and at the end.
    fn pushing(self, exporter: OtlpMetricExporter) -> Telemetry {
        let exporter = match self {
            Self::Grpc => PushMetricExporter::OtlpGrpc(exporter),
            _ => PushMetricExporter::OtlpHttp(exporter),
        };
        let reader =
            PeriodicMetricReader { interval: Duration::from_secs(3_600), ..PeriodicMetricReader::new(exporter) };
        let builder = Telemetry::builder("protocols").without_endpoint();
        builder.with_reader(MetricReader::Periodic(reader)).start().unwrap()
    }
}

/// What each pipeline here counts.
fn orders(telemetry: &Telemetry) -> Counter<u64> {
    telemetry.meter("shop").u64_counter("shop.orders").build()
}

/// The one point of a metric in a request, and what it is a point of.
#[track_caller]
fn point<'a>(request: &'a Received, name: &str, kind: &str) -> (&'a Value, &'a Value) {
    let metric = request.metrics().find(|metric| metric["name"] == name);
    let data = &metric.unwrap_or_else(|| panic!("no {name} in {}", request.body))[kind];
    let points = data["dataPoints"].as_array().unwrap_or_else(|| panic!("{name} is no {kind}: {}", request.body));
    assert_eq!(points.len(), 1, "{points:?}");
    (&points[0], data)
}

/// The orders in a request.
#[track_caller]
fn ordered(request: &Received) -> u64 {
    point(request, "shop.orders", "sum").0["asInt"].as_str().unwrap().parse().unwrap()
}

/// The value of a counter of the pipeline's own, by the attribute it has besides the exporter.
#[track_caller]
fn own(telemetry: &Telemetry, name: &str, attribute: &str) -> u64 {
    let page = telemetry.scrape().unwrap();
    let line = page.lines().find(|line| line.starts_with(name) && line.contains(attribute));
    line.and_then(|line| line.rsplit_once(' ')?.1.parse().ok()).unwrap_or_else(|| panic!("no {name} in {page}"))
}

const POINTS: &str = "otel_sdk_exporter_metric_data_point_exported_total";

fn delivered(telemetry: &Telemetry) -> u64 {
    let page = telemetry.scrape().unwrap();
    let is_it = |line: &&str| line.starts_with(POINTS) && line.contains("\"otlp_") && !line.contains("error_type");
    let line = page.lines().find(is_it);
    line.and_then(|line| line.rsplit_once(' ')?.1.parse().ok()).unwrap_or_else(|| panic!("no {POINTS} in {page}"))
}

/// Flushes to somebody who takes nothing, until it is counted for this reason: a busy machine may be too slow at first.
#[track_caller]
fn flush_in_vain(telemetry: &Telemetry, reason: &str) {
    poll(ENOUGH, BRIEF, || {
        let error = telemetry.force_flush(BRIEF).unwrap_err();
        let failed = own(telemetry, "barograph_export_failures_total", &format!("reason=\"{reason}\""));
        if failed > 0 { Ok(()) } else { Err(format!("no failure is counted as {reason}: {error}")) }
    });
}

/// Records, flushes, records and shuts down; the collector understands both exports as they were meant.
#[track_caller]
fn assert_arrives(collector: &Collector, protocol: Protocol, exporter: OtlpMetricExporter) {
    let case = format!("{protocol:?} {exporter:?}");
    let before = collector.received().len();
    let telemetry = protocol.pushing(exporter);
    let meter = telemetry.meter("shop");
    let paid = [KeyValue::new("paid", true), KeyValue::new("by", "card é 🦀")];
    let orders = meter.u64_counter("shop.orders").with_unit("{order}").with_description("Orders.").build();
    orders.add(3, &paid);
    meter.f64_gauge("shop.heat").with_unit("Cel").build().record(-0.25, &[]);
    let waits = meter.f64_histogram("shop.wait").with_unit("s").with_boundaries(vec![0.5, 2.5]).build();
    [0.25, 1.5, 9.25].iter().for_each(|wait| waits.record(*wait, &[]));
    telemetry.force_flush(ENOUGH).unwrap_or_else(|error| panic!("{case}: {error}"));
    orders.add(4, &paid);
    telemetry.shutdown(ENOUGH).unwrap_or_else(|error| panic!("{case}: {error}"));

    let received = &collector.received()[before..];
    assert_eq!(received.iter().map(ordered).collect::<Vec<_>>(), [3, 7], "{case}");
    for request in received {
        let (point_of_orders, sum) = point(request, "shop.orders", "sum");
        assert_eq!((&sum["aggregationTemporality"], &sum["isMonotonic"]), (&json!(2), &json!(true)), "{case}");
        let mut attributes = point_of_orders["attributes"].as_array().unwrap().clone();
        attributes.sort_by_key(|attribute| attribute["key"].as_str().map(str::to_owned));
        let wanted = json!([
            { "key": "by", "value": { "stringValue": "card é 🦀" } },
            { "key": "paid", "value": { "boolValue": true } },
        ]);
        assert_eq!(Value::from(attributes), wanted, "{case}");
        assert_eq!(point(request, "shop.heat", "gauge").0["asDouble"], -0.25, "{case}");
        let (wait, _) = point(request, "shop.wait", "histogram");
        let found = ["count", "sum", "bucketCounts", "explicitBounds", "min", "max"].map(|field| &wait[field]);
        let wanted = [json!("3"), json!(11), json!(["1", "1", "1"]), json!([0.5, 2.5]), json!(0.25), json!(9.25)];
        assert_eq!(found, wanted.each_ref(), "{case}");
        let metric = request.metrics().find(|metric| metric["name"] == "shop.orders").unwrap();
        assert_eq!((&metric["unit"], &metric["description"]), (&json!("{order}"), &json!("Orders.")), "{case}");
        let attributes = &request.body["resourceMetrics"][0]["resource"]["attributes"];
        let service = json!({ "key": "service.name", "value": { "stringValue": "protocols" } });
        assert!(attributes.as_array().unwrap().contains(&service), "{case}: {attributes}");
    }
}

#[test]
fn every_protocol_reaches_a_real_collector_plain_and_gzipped() {
    let Some(bin) = Collector::require() else { return };
    let directory = tempfile::tempdir().unwrap();
    let collector = Collector::start(&bin, directory.path(), &Options::default());
    for protocol in PROTOCOLS {
        for compression in [Compression::None, Compression::Gzip] {
            let exporter = OtlpMetricExporter { compression, ..protocol.exporter(&collector, "http") };
            assert_arrives(&collector, protocol, exporter);
        }
    }
}

#[cfg(all(feature = "tls", feature = "zstd"))]
#[test]
fn every_protocol_and_compression_reaches_a_real_collector_by_every_kind_of_connection() {
    let Some(bin) = Collector::require() else { return };
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let certificates = Certificates::write(&at("certificates"));
    let trusting = Tls { ca_file: Some(certificates.authority.clone()), ..Tls::default() };
    let known = Tls {
        key_file: Some(certificates.client_key.clone()),
        cert_file: Some(certificates.client.clone()),
        ..trusting.clone()
    };
    let connections = [
        ("plain", "http", None, Tls::default()),
        ("tls", "https", Some(certificates.server_tls()), trusting),
        ("mutual", "https", Some(certificates.mutual_tls()), known),
    ];
    for (name, scheme, server, tls) in connections {
        let collector = Collector::start(&bin, &at(name), &Options { tls: server, ..Options::default() });
        for protocol in PROTOCOLS {
            for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
                let tls = tls.clone();
                let exporter = OtlpMetricExporter { compression, tls, ..protocol.exporter(&collector, scheme) };
                assert_arrives(&collector, protocol, exporter);
            }
        }
    }
}

#[cfg(all(feature = "tls", feature = "zstd"))]
#[test]
fn nothing_is_told_to_a_collector_that_is_not_trusted_nor_taken_from_a_stranger() {
    let Some(bin) = Collector::require() else { return };
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let (ours, others) = (Certificates::write(&at("ours")), Certificates::write(&at("others")));
    let options = Options { tls: Some(ours.mutual_tls()), ..Options::default() };
    let collector = Collector::start(&bin, &at("otelcol"), &options);
    let tls = |trusted: &Certificates, known: Option<&Certificates>| Tls {
        ca_file: Some(trusted.authority.clone()),
        key_file: known.map(|known| known.client_key.clone()),
        cert_file: known.map(|known| known.client.clone()),
        insecure: false,
    };
    // With TLS 1.3 a client hears after its handshake that it should have been somebody else.
    let cases = [(tls(&others, Some(&ours)), "tls"), (tls(&ours, None), "tls"), (tls(&ours, Some(&others)), "tls")];
    for protocol in PROTOCOLS {
        for (tls, reason) in &cases {
            let exporter = OtlpMetricExporter { tls: tls.clone(), ..protocol.exporter(&collector, "https") };
            let telemetry = protocol.pushing(exporter);
            orders(&telemetry).add(1, &[]);
            flush_in_vain(&telemetry, reason);
        }
    }
    assert!(collector.received().is_empty());
}

#[test]
fn a_collector_that_was_killed_and_replaced_gets_the_right_totals_and_nothing_twice() {
    let Some(bin) = Collector::require() else { return };
    let directory = tempfile::tempdir().unwrap();
    let first = Collector::start(&bin, &directory.path().join("first"), &Options::default());
    let pipelines = PROTOCOLS.map(|protocol| protocol.pushing(protocol.exporter(&first, "http")));
    let counters = pipelines.each_ref().map(orders);
    counters.iter().for_each(|orders| orders.add(3, &[]));
    pipelines.iter().for_each(|telemetry| telemetry.force_flush(ENOUGH).unwrap());
    let begun = first.received().iter().map(started).collect::<Vec<_>>();
    assert_eq!(first.received().iter().map(ordered).collect::<Vec<_>>(), [3, 3, 3]);

    let addresses = [first.grpc_address(), first.http_address()];
    drop(first);
    counters.iter().for_each(|orders| orders.add(4, &[]));
    for telemetry in &pipelines {
        flush_in_vain(telemetry, "connection");
    }

    let options = Options { addresses: Some(addresses), ..Options::default() };
    let second = Collector::start(&bin, &directory.path().join("second"), &options);
    counters.iter().for_each(|orders| orders.add(5, &[]));
    pipelines.iter().for_each(|telemetry| telemetry.force_flush(ENOUGH).unwrap());
    let received = second.received();
    assert_eq!(received.iter().map(ordered).collect::<Vec<_>>(), [12, 12, 12], "all of it, once");
    assert_eq!(received.iter().map(started).collect::<Vec<_>>(), begun, "it is the same series");
    pipelines.into_iter().for_each(|telemetry| telemetry.shutdown(ENOUGH).unwrap());
    assert_eq!(second.received().iter().skip(3).map(ordered).collect::<Vec<_>>(), [12, 12, 12]);
}

/// When the series of the orders began.
fn started(request: &Received) -> String {
    point(request, "shop.orders", "sum").0["startTimeUnixNano"].as_str().unwrap().to_owned()
}

#[test]
fn differences_that_a_collector_was_not_there_for_arrive_once_when_it_comes_in_time() {
    let Some(bin) = Collector::require() else { return };
    let directory = tempfile::tempdir().unwrap();
    let first = Collector::start(&bin, &directory.path().join("first"), &Options::default());
    let pipelines = PROTOCOLS.map(|protocol| {
        let mut exporter = protocol.exporter(&first, "http");
        exporter.preferences.temporality = TemporalityPreference::Delta;
        protocol.pushing(exporter)
    });
    let counters = pipelines.each_ref().map(orders);
    counters.iter().for_each(|orders| orders.add(3, &[]));
    pipelines.iter().for_each(|telemetry| telemetry.force_flush(ENOUGH).unwrap());
    assert_eq!(first.received().iter().map(ordered).collect::<Vec<_>>(), [3, 3, 3]);

    let addresses = [first.grpc_address(), first.http_address()];
    drop(first);
    counters.iter().for_each(|orders| orders.add(4, &[]));
    let second = thread::scope(|scope| {
        let flushes = pipelines.each_ref().map(|telemetry| scope.spawn(|| telemetry.force_flush(ENOUGH)));
        // At least the first try of each finds nobody.
        thread::sleep(BRIEF);
        let options = Options { addresses: Some(addresses), ..Options::default() };
        let second = Collector::start(&bin, &directory.path().join("second"), &options);
        flushes.into_iter().for_each(|flush| flush.join().unwrap().unwrap());
        second
    });
    counters.iter().for_each(|orders| orders.add(5, &[]));
    pipelines.into_iter().for_each(|telemetry| telemetry.shutdown(ENOUGH).unwrap());
    let received = second.received();
    assert_eq!(received.iter().map(ordered).collect::<Vec<_>>(), [4, 4, 4, 5, 5, 5]);
    for request in &received {
        assert_eq!(point(request, "shop.orders", "sum").1["aggregationTemporality"], 1, "{}", request.body);
    }
}

#[test]
fn what_the_collectors_backend_does_not_take_at_first_is_tried_again_and_arrives_once() {
    let Some(bin) = Collector::require() else { return };
    let directory = tempfile::tempdir().unwrap();
    thread::scope(|scope| {
        for protocol in PROTOCOLS {
            let dir = directory.path().join(format!("{protocol:?}"));
            let bin = &bin;
            scope.spawn(move || {
                let collector = Collector::start(bin, &dir, &Options::default());
                // A throttled gRPC client comes back only if it is told when, and the collector does not tell.
                let second = if protocol == Protocol::Grpc { 503 } else { 429 };
                collector.sink().script([Answer::status(503), Answer::status(second)]);
                let telemetry = protocol.pushing(protocol.exporter(&collector, "http"));
                orders(&telemetry).add(3, &[]);
                telemetry.force_flush(ENOUGH).unwrap_or_else(|error| panic!("{protocol:?}: {error}"));
                let tries = collector.received();
                // The first two were sent away, and the third is the same as they were.
                assert_eq!(tries.iter().map(ordered).collect::<Vec<_>>(), [3, 3, 3], "{protocol:?}");
                assert_eq!(tries[0].body, tries[2].body, "{protocol:?}");
                assert_eq!(own(&telemetry, "barograph_export_failures_total", "reason=\"unavailable\""), 0);
                telemetry.shutdown(ENOUGH).unwrap();
                assert_eq!(collector.received().len(), 4, "{protocol:?}");
            });
        }
    });
}

#[test]
fn what_the_collectors_backend_never_takes_is_not_tried_again() {
    let Some(bin) = Collector::require() else { return };
    let directory = tempfile::tempdir().unwrap();
    let collector = Collector::start(&bin, directory.path(), &Options::default());
    let cases = PROTOCOLS.map(|protocol| (protocol, 400, "refused"));
    let throttled = (Protocol::Grpc, 429, "throttled");
    for (number, (protocol, status, reason)) in cases.into_iter().chain([throttled]).enumerate() {
        collector.sink().script([Answer::status(status)]);
        let telemetry = protocol.pushing(protocol.exporter(&collector, "http"));
        orders(&telemetry).add(3, &[]);
        let begun = Instant::now();
        assert!(telemetry.force_flush(ENOUGH).is_err(), "{protocol:?}");
        assert!(begun.elapsed() < ENOUGH / 2, "{protocol:?}: it waited for nothing");
        let failed = own(&telemetry, "barograph_export_failures_total", &format!("reason=\"{reason}\""));
        assert_eq!(failed, 1, "{protocol:?} {status}");
        telemetry.shutdown(ENOUGH).unwrap();
        assert_eq!(collector.received().len(), 2 * (number + 1), "{protocol:?}");
    }
}

#[test]
fn a_receiver_that_says_when_to_come_back_is_not_asked_before() {
    let sink = Sink::start();
    let base = format!("http://{}", sink.address());
    for protocol in [Protocol::Protobuf, Protocol::Json] {
        let before = sink.received().len();
        sink.script([Answer::status(429).retry_after("1")]);
        let telemetry = protocol.pushing(protocol.over_http(&base));
        orders(&telemetry).add(3, &[]);
        telemetry.force_flush(ENOUGH).unwrap();
        let tries = &sink.received()[before..];
        assert_eq!(tries.iter().map(ordered).collect::<Vec<_>>(), [3, 3], "{protocol:?}");
        let wait = tries[1].at - tries[0].at;
        assert!(wait >= Duration::from_millis(990), "{protocol:?}: it came back after {wait:?}");
    }
}

#[test]
fn points_that_a_receiver_leaves_out_are_no_failed_push_and_are_counted() {
    let sink = Sink::start();
    let base = format!("http://{}", sink.address());
    let partial = ExportMetricsPartialSuccess { rejected_data_points: 2, error_message: "too old".to_owned() };
    let protobuf = ExportMetricsServiceResponse { partial_success: Some(partial) }.encode_to_vec();
    let json = br#"{"partialSuccess":{"rejectedDataPoints":"2","errorMessage":"too old"}}"#.to_vec();
    for (protocol, body) in [(Protocol::Protobuf, protobuf), (Protocol::Json, json.clone())] {
        sink.script([Answer::status(200).body(body)]);
        let telemetry = protocol.pushing(protocol.over_http(&base));
        orders(&telemetry).add(3, &[]);
        telemetry.force_flush(ENOUGH).unwrap();
        assert_eq!(own(&telemetry, POINTS, "error_type=\"rejected\""), 2, "{protocol:?}");
        assert_eq!(own(&telemetry, "barograph_export_failures_total", "reason=\"rejected\""), 1, "{protocol:?}");
        assert!(delivered(&telemetry) > 2, "{protocol:?}");
        telemetry.shutdown(ENOUGH).unwrap();
    }
    assert_eq!(sink.received().len(), 4, "a partial success is not tried again");

    // A collector has taken all of it, and keeps to itself that another has not.
    let Some(bin) = Collector::require() else { return };
    let directory = tempfile::tempdir().unwrap();
    let collector = Collector::start(&bin, directory.path(), &Options::default());
    for protocol in PROTOCOLS {
        collector.sink().script([Answer::status(200).body(json.clone())]);
        let telemetry = protocol.pushing(protocol.exporter(&collector, "http"));
        orders(&telemetry).add(3, &[]);
        telemetry.force_flush(ENOUGH).unwrap();
        assert_eq!(own(&telemetry, POINTS, "error_type=\"rejected\""), 0, "{protocol:?}");
    }
    assert!(collector.log().contains("Partial success"), "{}", collector.log());
}
