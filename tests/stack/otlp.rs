//! Servers that take OTLP, for the end-to-end tests: an OpenTelemetry Collector, VictoriaMetrics and vmagent.
//!
//! ```ignore
//! let Some(bin) = Collector::require() else { return };
//! let collector = Collector::start(&bin, &dir, &Options::default());
//! // Something exports to collector.grpc_address() or collector.http_address().
//! let metric = collector.received()[0].metrics().next().unwrap();
//! ```
//!
//! `tests/stack/install-otlp` puts them in place. Only loopback is used. The tests below are of the drivers themselves:
//! what they send is written by hand.

pub(crate) mod certificates;
pub(crate) mod collector;
pub(crate) mod sink;
pub(crate) mod victoria;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};

use crate::prometheus::{self, Prometheus};
use crate::query::Sample;
use crate::request::{self, Response, post};
use certificates::Certificates;
use collector::{Collector, Options};
use sink::{Answer, Sink};
use victoria::{Victoria, Vmagent};

/// A write becomes visible within two seconds on an idle machine.
const VISIBLE: Duration = Duration::from_secs(40);

const JSON: &str = "Content-Type: application/json\r\n";
const PROTOBUF: &str = "Content-Type: application/x-protobuf\r\n";

/// A cumulative sum with two points and a histogram with one, of now.
fn export() -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let time = |before: u64| (now - Duration::from_secs(before)).as_nanos().to_string();
    let text = |key: &str, value: &str| json!({ "key": key, "value": { "stringValue": value } });
    let point = |value: &str, method: &str| {
        json!({
            "attributes": [text("http.request.method", method)],
            "startTimeUnixNano": time(60),
            "timeUnixNano": time(1),
            "asInt": value,
        })
    };
    let requests = json!({
        "name": "shop.requests",
        "description": "Requests.",
        "unit": "{request}",
        "sum": { "aggregationTemporality": 2, "isMonotonic": true, "dataPoints": [point("3", "GET"), point("4", "PUT")] },
    });
    let durations = json!({
        "name": "shop.duration",
        "unit": "s",
        "histogram": { "aggregationTemporality": 2, "dataPoints": [{
            "startTimeUnixNano": time(60),
            "timeUnixNano": time(1),
            "count": "3",
            "sum": 2.75,
            "bucketCounts": ["1", "2", "0"],
            // The collector writes whole floats as integers, which is not the same to a comparison.
            "explicitBounds": [0.5, 2.5],
            "min": 0.25,
            "max": 1.5,
        }] },
    });
    json!({ "resourceMetrics": [{
        "resource": { "attributes": [text("service.name", "shop")] },
        "scopeMetrics": [{ "scope": { "name": "by hand", "version": "1" }, "metrics": [requests, durations] }],
    }] })
}

fn protobuf(export: &Value) -> Vec<u8> {
    serde_json::from_value::<ExportMetricsServiceRequest>(export.clone()).unwrap().encode_to_vec()
}

#[test]
fn what_a_collector_takes_arrives_in_the_sink_point_by_point() {
    let Some(bin) = Collector::require() else { return };
    let directory = tempfile::tempdir().unwrap();
    let collector = Collector::start(&bin, directory.path(), &Options::default());
    let export = export();
    let sent = [
        post(collector.http_address(), "/v1/metrics", JSON, export.to_string().as_bytes()).unwrap(),
        post(collector.http_address(), "/v1/metrics", PROTOBUF, &protobuf(&export)).unwrap(),
    ];
    assert_eq!(sent.each_ref().map(|response| response.status), [200, 200], "{sent:?}");

    let received = collector.received();
    assert_eq!(received.len(), 2);
    for request in &received {
        assert_eq!(request.path, "/v1/metrics");
        assert_eq!(request.body["resourceMetrics"][0]["resource"], export["resourceMetrics"][0]["resource"]);
        let wanted = export["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].as_array().unwrap();
        let metrics: Vec<&Value> = request.metrics().collect();
        assert_eq!(metrics.len(), 2);
        assert_eq!(metrics[0]["sum"], wanted[0]["sum"]);
        assert_eq!(metrics[1]["histogram"], wanted[1]["histogram"]);
    }
    let grpc = TcpStream::connect(collector.grpc_address());
    assert!(grpc.is_ok(), "nobody listens for gRPC: {grpc:?}");
}

#[test]
fn a_client_of_the_collector_hears_the_status_that_the_sink_was_told_to_answer() {
    let Some(bin) = Collector::require() else { return };
    let directory = tempfile::tempdir().unwrap();
    let collector = Collector::start(&bin, directory.path(), &Options::default());
    collector.sink().script([Answer::status(429).retry_after("7"), Answer::status(503), Answer::status(400)]);
    let body = export().to_string();
    let answers = [(); 4].map(|()| post(collector.http_address(), "/v1/metrics", JSON, body.as_bytes()).unwrap());
    // When to come back it keeps to itself.
    let heard = answers.each_ref().map(|answer| (answer.status, answer.header("Retry-After")));
    assert_eq!(heard, [(429, None), (503, None), (400, None), (200, None)], "{answers:?}");
    assert!(collector.log().contains("Throttle (7s)"), "{}", collector.log());
    assert_eq!(collector.received().len(), 4);
}

#[test]
fn a_sink_reads_protobuf_and_compressed_bodies_and_keeps_to_its_script() {
    let sink = Sink::start();
    let export = export();
    let mut gzip = flate2::read::GzEncoder::new(io::Cursor::new(protobuf(&export)), flate2::Compression::fast());
    let mut compressed = Vec::new();
    gzip.read_to_end(&mut compressed).unwrap();
    sink.script([
        Answer::status(503).retry_after("2").after(Duration::from_millis(300)),
        Answer::status(200).body("x"),
    ]);

    let headers = format!("{PROTOBUF}Content-Encoding: gzip\r\n");
    let late = post(sink.address(), "/v1/metrics", &headers, &compressed).unwrap();
    let elapsed = sink.received()[0].at.elapsed();
    assert_eq!((late.status, late.header("retry-after")), (503, Some("2")));
    assert!(elapsed >= Duration::from_millis(300), "it answered after {elapsed:?}");
    assert_eq!(post(sink.address(), "/v1/metrics", JSON, export.to_string().as_bytes()).unwrap().body, b"x");
    assert_eq!(post(sink.address(), "/v1/metrics", JSON, b"{").unwrap().status, 400);
    assert_eq!(post(sink.address(), "/v1/metrics", PROTOBUF, b"").unwrap().status, 200);

    let received = sink.wait_for(4, Duration::from_secs(10));
    assert_eq!(received[0].headers["content-encoding"], "gzip");
    let histogram = |request: usize| received[request].metrics().nth(1).unwrap()["histogram"]["dataPoints"][0].clone();
    for field in ["count", "sum", "bucketCounts", "explicitBounds", "timeUnixNano"] {
        assert_eq!(histogram(0)[field], histogram(1)[field], "{field}");
    }
    assert_eq!(received[2].body, Value::Null);
}

#[test]
fn a_collector_with_tls_takes_only_clients_that_know_its_authority_or_are_known_to_it() {
    let Some(bin) = Collector::require() else { return };
    let directory = tempfile::tempdir().unwrap();
    let ours = Certificates::write(&directory.path().join("ours"));
    let others = Certificates::write(&directory.path().join("others"));
    let body = export().to_string();
    let collector = |name: &str, tls| {
        Collector::start(&bin, &directory.path().join(name), &Options { tls: Some(tls), ..Options::default() })
    };

    let open = collector("open", ours.server_tls());
    for host in ["localhost", "127.0.0.1"] {
        let answer = post_tls(host, open.http_address(), &ours, None, body.as_bytes()).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let refused = post_tls("localhost", open.http_address(), &others, None, body.as_bytes()).unwrap_err();
    assert!(refused.to_string().contains("invalid peer certificate"), "{refused}");
    let plain = post(open.http_address(), "/v1/metrics", JSON, body.as_bytes());
    assert!(plain.as_ref().map_or(true, |answer| answer.status == 400), "it talks without TLS: {plain:?}");

    let mutual = collector("mutual", ours.mutual_tls());
    let answer = post_tls("localhost", mutual.http_address(), &ours, Some(&ours), body.as_bytes()).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    for stranger in [None, Some(&others)] {
        assert!(post_tls("localhost", mutual.http_address(), &ours, stranger, body.as_bytes()).is_err());
    }
    assert_eq!([open.received().len(), mutual.received().len()], [2, 1]);
}

/// A POST by a client that trusts the authority of `trusted` and, if it is `known`, shows that one's certificate.
fn post_tls(
    host: &'static str,
    address: SocketAddr,
    trusted: &Certificates,
    known: Option<&Certificates>,
    body: &[u8],
) -> io::Result<Response> {
    let certificate = |path: &Path| CertificateDer::from_pem_file(path).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate(&trusted.authority)).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match known {
        Some(Certificates { client, client_key, .. }) => {
            let key = PrivateKeyDer::from_pem_file(client_key).unwrap();
            config.with_client_auth_cert(vec![certificate(client)], key).unwrap()
        }
        None => config.with_no_client_auth(),
    };
    let socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let connection = ClientConnection::new(Arc::new(config), ServerName::try_from(host).unwrap()).unwrap();
    let mut stream = StreamOwned::new(connection, socket);
    stream.write_all(&request::post_request(host, "/v1/metrics", JSON, body))?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    Ok(request::parse_response(&bytes).unwrap())
}

#[test]
fn what_victoria_metrics_takes_is_found_under_the_names_of_prometheus() {
    let Some(bin) = victoria::require() else { return };
    let directory = tempfile::tempdir().unwrap();
    let victoria = Victoria::start(&bin, directory.path());
    assert_eq!(victoria.url(), format!("http://{}{}", victoria.address(), victoria::PATH));
    let answer = post(victoria.address(), victoria::PATH, PROTOBUF, &protobuf(&export())).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());

    let found = victoria.wait_for("shop_requests_total", VISIBLE, |found| found.len() == 2);
    assert_is_the_export(&found, |promql| victoria.query(promql));
}

#[test]
fn what_vmagent_takes_arrives_in_prometheus() {
    let (Some(bin), Some(prometheus_bin)) = (victoria::require(), prometheus::require()) else { return };
    let directory = tempfile::tempdir().unwrap();
    let prometheus = Prometheus::start_receiving(&prometheus_bin, &directory.path().join("prometheus"));
    let vmagent = Vmagent::start(&bin, &directory.path().join("vmagent"), &prometheus.write_url());
    assert_eq!(vmagent.url(), format!("http://{}{}", vmagent.address(), victoria::PATH));
    let answer = post(vmagent.address(), victoria::PATH, PROTOBUF, &protobuf(&export())).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());

    let found = prometheus.wait_for("shop_requests_total", VISIBLE, |found| found.len() == 2);
    assert_is_the_export(&found, |promql| prometheus.query(promql));
}

fn assert_is_the_export(requests: &[Sample], query: impl Fn(&str) -> Vec<Sample>) {
    let by_method = |sample: &Sample| (sample.labels["http_request_method"].clone(), sample.value);
    let requests: Vec<(String, f64)> = requests.iter().map(by_method).collect();
    assert_eq!(requests, [("GET".to_owned(), 3.0), ("PUT".to_owned(), 4.0)]);
    let by_bound = |sample: &Sample| (sample.labels["le"].clone(), sample.value);
    let buckets: Vec<(String, f64)> = query("shop_duration_seconds_bucket").iter().map(by_bound).collect();
    assert_eq!(buckets, [("+Inf", 3.0), ("0.5", 1.0), ("2.5", 3.0)].map(|(bound, count)| (bound.to_owned(), count)));
    assert_eq!(query("shop_duration_seconds_sum")[0].value, 2.75);
    assert_eq!(query("shop_duration_seconds_count")[0].labels["service_name"], "shop");
}
