//! Pushing by OTLP: what arrives, what is tried again, what is said when nothing arrives, and the end.

use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use barograph::config::{
    Compression, Config, HistogramAggregation, MeterProvider, MetricReader, OtlpHttpEncoding, OtlpMetricExporter,
    PeriodicMetricReader, PushMetricExporter, Resource, TemporalityPreference,
};
use barograph::opentelemetry::KeyValue;
use barograph::{CounterSpec, MeterExt, ShutdownError, Telemetry};
#[cfg(feature = "web-config")]
use barograph::{Descriptor, Kind, SELF_METRICS, View};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;

#[cfg(feature = "web-config")]
use crate::parser::{Family, Format, Value, parse};
use crate::receiver::{Receiver, Reply};
#[cfg(feature = "web-config")]
use crate::support::get;
use crate::support::{find, keep_logs, logged, wait_until};

const JOBS: CounterSpec = CounterSpec::new("worker.jobs", "{job}", "Jobs.");
const LONG: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Protocol {
    Grpc,
    Protobuf,
    Json,
}

const PROTOCOLS: [Protocol; 3] = [Protocol::Grpc, Protocol::Protobuf, Protocol::Json];

/// An exporter of this protocol to a receiver at this URL.
fn exporter(protocol: Protocol, url: &str) -> OtlpMetricExporter {
    match protocol {
        Protocol::Grpc => OtlpMetricExporter::grpc(url),
        Protocol::Protobuf => OtlpMetricExporter::http(url),
        Protocol::Json => OtlpMetricExporter { encoding: OtlpHttpEncoding::Json, ..OtlpMetricExporter::http(url) },
    }
}

/// A reader that pushes when it is told to, and at the end.
fn reader(protocol: Protocol, exporter: OtlpMetricExporter) -> PeriodicMetricReader {
    let exporter = match protocol {
        Protocol::Grpc => PushMetricExporter::OtlpGrpc(exporter),
        _ => PushMetricExporter::OtlpHttp(exporter),
    };
    PeriodicMetricReader { interval: Duration::from_secs(3_600), ..PeriodicMetricReader::new(exporter) }
}

/// A pipeline that pushes, and can be scraped without a socket.
fn pushing(reader: PeriodicMetricReader) -> Telemetry {
    Telemetry::builder("suite").without_endpoint().with_reader(MetricReader::Periodic(reader)).start().unwrap()
}

fn pushing_to(protocol: Protocol, url: &str) -> Telemetry {
    pushing(reader(protocol, exporter(protocol, url)))
}

/// A URL that nobody listens at.
fn nobody() -> (SocketAddr, String) {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    (address, format!("http://{address}"))
}

fn failures(page: &str, exporter: &str, reason: &str) -> f64 {
    let series = format!(r#"barograph_export_failures_total{{exporter="{exporter}",reason="{reason}"}}"#);
    find(page, &series).unwrap_or_else(|| panic!("no {series} in {page}"))
}

/// Points by what became of them: `lost` are those of exports that failed, whatever the reason.
fn points(page: &str, exporter: &str, outcome: &str) -> f64 {
    let (kind, number) =
        exporter.split_once('/').map_or((exporter, 0), |(kind, nth)| (kind, nth.parse::<u32>().unwrap() - 1));
    let name = format!("otel_component_name=\"{kind}_metric_exporter/{number}\"");
    let is_json = format!("otel_component_name=\"{kind}_json_metric_exporter/{number}\"");
    let mut series = page
        .lines()
        .filter(|line| {
            line.starts_with("otel_sdk_exporter_metric_data_point_exported_total{")
                && (line.contains(&name) || line.contains(&is_json))
        })
        .peekable();
    assert!(series.peek().is_some(), "nothing of {exporter} in {page}");
    let of_outcome = series.filter(|line| match outcome {
        "delivered" => !line.contains("error_type="),
        "rejected" => line.contains("error_type=\"rejected\""),
        _ => line.contains("error_type=") && !line.contains("error_type=\"rejected\""),
    });
    of_outcome.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
}

#[test]
fn every_protocol_and_compression_delivers_what_was_recorded() {
    let receiver = Receiver::start();
    for protocol in PROTOCOLS {
        for (compression, encoding) in [
            (Compression::None, None),
            (Compression::Gzip, Some("gzip")),
            #[cfg(feature = "zstd")]
            (Compression::Zstd, Some("zstd")),
        ] {
            receiver.forget();
            let headers = vec![("Api-Key".to_owned(), "s3cr3t".to_owned())];
            let exporter = OtlpMetricExporter { compression, headers, ..exporter(protocol, &receiver.url()) };
            let telemetry = pushing(reader(protocol, exporter));
            telemetry.meter("m").counter(&JOBS).add(3, ());
            telemetry.force_flush(LONG).unwrap();
            let received = receiver.received();
            let [request] = received.as_slice() else { panic!("{received:?}") };
            assert_eq!(request.sum("worker.jobs"), Some(3), "{protocol:?} {compression:?}");
            assert_eq!(request.metric("worker.jobs").map(|metric| metric.unit.as_str()), Some("{job}"));
            let (path, content_type, encoding_header) = match protocol {
                Protocol::Grpc => (
                    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
                    "application/grpc",
                    "grpc-encoding",
                ),
                Protocol::Protobuf => ("/v1/metrics", "application/x-protobuf", "content-encoding"),
                Protocol::Json => ("/v1/metrics", "application/json", "content-encoding"),
            };
            assert_eq!(request.path, path);
            assert_eq!(request.header("content-type"), Some(content_type));
            assert_eq!(request.header(encoding_header), encoding);
            assert_eq!(request.header("api-key"), Some("s3cr3t"));
            assert!(request.header("user-agent").unwrap().contains("OTel-OTLP-Exporter-Rust/"));
            let resource = request.message.resource_metrics[0].resource.as_ref().unwrap();
            assert!(resource.attributes.iter().any(|attribute| attribute.key == "service.name"));
            drop(telemetry);
        }
    }
}

#[test]
fn what_passes_is_tried_again_and_arrives_once() {
    for protocol in PROTOCOLS {
        let receiver = Receiver::start();
        let later = match protocol {
            Protocol::Grpc => vec![Reply::Grpc(14), Reply::Status(503, None), Reply::Taken],
            _ => vec![Reply::Status(503, Some("0")), Reply::Status(429, Some("1")), Reply::Taken],
        };
        receiver.answer(later);
        let telemetry = pushing_to(protocol, &receiver.url());
        telemetry.meter("m").counter(&JOBS).add(3, ());
        let begun = Instant::now();
        telemetry.force_flush(LONG).unwrap();
        let received = receiver.received();
        assert_eq!(received.len(), 3, "{protocol:?}");
        assert!(received.windows(2).all(|pair| pair[0].message == pair[1].message), "the same request each time");
        if protocol != Protocol::Grpc {
            assert!(begun.elapsed() >= Duration::from_secs(1), "it came back before it was asked to");
        }
        let page = telemetry.scrape().unwrap();
        let name = if protocol == Protocol::Grpc { "otlp_grpc" } else { "otlp_http" };
        assert_eq!(points(&page, name, "lost"), 0.0);
        assert!(points(&page, name, "delivered") > 0.0);
        assert!(
            find(&page, &format!(r#"barograph_export_last_success_timestamp_seconds{{exporter="{name}"}}"#))
                > Some(1.7e9)
        );
    }
}

#[test]
fn what_is_refused_is_not_tried_again_and_is_said_with_its_reason() {
    for (protocol, reply, reason, said) in [
        (Protocol::Protobuf, Reply::Status(400, None), "refused", "400 Bad Request"),
        (Protocol::Json, Reply::Status(404, None), "refused", "404 Not Found"),
        (Protocol::Grpc, Reply::Grpc(16), "refused", "UNAUTHENTICATED"),
        (Protocol::Grpc, Reply::Grpc(8), "throttled", "RESOURCE_EXHAUSTED"),
    ] {
        let receiver = Receiver::start();
        receiver.answer([reply]);
        let telemetry = pushing_to(protocol, &receiver.url());
        telemetry.meter("m").counter(&JOBS).add(3, ());
        let error = telemetry.force_flush(LONG).unwrap_err();
        let (name, path) = if protocol == Protocol::Grpc { ("otlp_grpc", "") } else { ("otlp_http", "/v1/metrics") };
        let expected = format!("not everything was delivered: {name} to {}{path}: {said}", receiver.url());
        assert_eq!(error.to_string(), expected);
        assert_eq!(receiver.count(), 1);
        let page = telemetry.scrape().unwrap();
        assert_eq!(failures(&page, name, reason), 1.0);
        assert!(points(&page, name, "lost") > 0.0);
    }
}

#[test]
fn points_that_the_receiver_leaves_out_are_counted() {
    for protocol in PROTOCOLS {
        let receiver = Receiver::start();
        receiver.answer([Reply::Partly(2, "too old")]);
        let telemetry = pushing_to(protocol, &receiver.url());
        telemetry.meter("m").counter(&JOBS).add(3, ());
        telemetry.force_flush(LONG).unwrap();
        assert_eq!(receiver.count(), 1, "what was partly taken is not sent again");
        let page = telemetry.scrape().unwrap();
        let name = if protocol == Protocol::Grpc { "otlp_grpc" } else { "otlp_http" };
        assert_eq!(points(&page, name, "rejected"), 2.0, "{protocol:?}");
        assert_eq!(points(&page, name, "lost"), 0.0, "{protocol:?}");
        assert_eq!(failures(&page, name, "rejected"), 1.0);
    }
}

#[test]
fn a_receiver_that_comes_back_gets_the_right_values_once() {
    for protocol in PROTOCOLS {
        let receiver = Receiver::start();
        let reader = PeriodicMetricReader {
            interval: Duration::from_millis(20),
            timeout: Some(Duration::from_millis(300)),
            ..reader(protocol, exporter(protocol, &receiver.url()))
        };
        let telemetry = pushing(reader);
        let jobs = telemetry.meter("m").counter(&JOBS);
        jobs.add(1, ());
        wait_until("the first value arrives", || receiver.received().iter().any(|r| r.sum("worker.jobs") == Some(1)));
        let address = receiver.kill();
        jobs.add(10, ());
        let name = if protocol == Protocol::Grpc { "otlp_grpc" } else { "otlp_http" };
        wait_until("failures are counted", || failures(&telemetry.scrape().unwrap(), name, "connection") >= 2.0);
        jobs.add(100, ());
        let receiver = Receiver::start_at(address, None);
        wait_until("the value arrives", || receiver.received().iter().any(|r| r.sum("worker.jobs") == Some(111)));
        // What was collected before may still come first.
        let sums: Vec<_> = receiver.received().iter().map(|r| r.sum("worker.jobs")).collect();
        assert!(sums.is_sorted() && sums.iter().all(|sum| matches!(sum, Some(11 | 111))), "{sums:?}");
        // Hangs, then is replaced by one that does not.
        receiver.answer([Reply::Silence]);
        wait_until("a timeout is counted", || failures(&telemetry.scrape().unwrap(), name, "timeout") >= 1.0);
        let address = receiver.kill();
        jobs.add(1_000, ());
        let receiver = Receiver::start_at(address, None);
        wait_until("the value arrives", || receiver.received().iter().any(|r| r.sum("worker.jobs") == Some(1_111)));
    }
}

#[test]
fn differences_add_up_though_requests_are_tried_again() {
    let receiver = Receiver::start();
    let mut exporter = exporter(Protocol::Protobuf, &receiver.url());
    exporter.preferences.temporality = TemporalityPreference::Delta;
    let telemetry = pushing(reader(Protocol::Protobuf, exporter));
    let jobs = telemetry.meter("m").counter(&JOBS);
    receiver.answer([Reply::Status(503, Some("0")), Reply::Taken]);
    let mut sums = Vec::new();
    for value in [1, 20, 300] {
        jobs.add(value, ());
        telemetry.force_flush(LONG).unwrap();
        sums.push(receiver.received().last().and_then(|request| request.sum("worker.jobs")));
    }
    assert_eq!(sums, [Some(1), Some(20), Some(300)]);
    // What cannot be delivered is gone, and counted.
    let address = receiver.kill();
    jobs.add(4_000, ());
    telemetry.force_flush(Duration::from_millis(300)).unwrap_err();
    assert!(points(&telemetry.scrape().unwrap(), "otlp_http", "lost") > 0.0);
    let receiver = Receiver::start_at(address, None);
    jobs.add(5, ());
    telemetry.force_flush(LONG).unwrap();
    assert_eq!(receiver.received().last().unwrap().sum("worker.jobs"), Some(5));
    // The scrape has all of it.
    assert_eq!(find(&telemetry.scrape().unwrap(), "worker_jobs_total"), Some(4_326.0));
}

/// A reader whose exports are differences.
fn delta(url: &str) -> PeriodicMetricReader {
    let mut exporter = exporter(Protocol::Protobuf, url);
    exporter.preferences.temporality = TemporalityPreference::Delta;
    reader(Protocol::Protobuf, exporter)
}

#[test]
fn whoever_wants_differences_gets_all_of_them() {
    let receivers = [Receiver::start(), Receiver::start()];
    let builder = receivers.iter().fold(Telemetry::builder("suite").without_endpoint(), |builder, receiver| {
        builder.with_reader(MetricReader::Periodic(delta(&receiver.url())))
    });
    let telemetry = builder.start().unwrap();
    let jobs = telemetry.meter("m").counter(&JOBS);
    for value in [1, 20] {
        jobs.add(value, ());
        telemetry.force_flush(LONG).unwrap();
        for receiver in &receivers {
            assert_eq!(receiver.received().last().unwrap().sum("worker.jobs"), Some(value as i64));
        }
    }
    // Two of a kind are told apart.
    let page = telemetry.scrape().unwrap();
    assert!(points(&page, "otlp_http", "delivered") > 0.0 && points(&page, "otlp_http/2", "delivered") > 0.0);
}

#[test]
fn the_end_does_not_wait_for_what_the_receiver_asked_for() {
    let receiver = Receiver::start();
    receiver.answer([Reply::Status(503, Some("20")), Reply::Taken]);
    let reader = PeriodicMetricReader { interval: Duration::from_millis(1), ..delta(&receiver.url()) };
    let telemetry = pushing(reader);
    let jobs = telemetry.meter("m").counter(&JOBS);
    jobs.add(1, ());
    wait_until("a request waits to be sent again", || receiver.count() == 1);
    jobs.add(41, ());
    let begun = Instant::now();
    telemetry.shutdown(LONG).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let sums: Vec<_> = receiver.received().iter().skip(1).filter_map(|request| request.sum("worker.jobs")).collect();
    assert_eq!(sums.iter().sum::<i64>(), 42, "{sums:?}");
}

#[test]
fn no_number_of_flushes_keeps_the_last_values_from_being_delivered() {
    let receiver = Receiver::start();
    receiver.answer([Reply::Silence, Reply::Taken]);
    let telemetry = Arc::new(pushing_to(Protocol::Protobuf, &receiver.url()));
    let jobs = telemetry.meter("m").counter(&JOBS);
    jobs.add(1, ());
    let first = {
        let telemetry = Arc::clone(&telemetry);
        thread::spawn(move || telemetry.force_flush(Duration::from_secs(3)))
    };
    wait_until("an export hangs", || receiver.count() == 1);
    for _ in 0..1_500 {
        telemetry.force_flush(Duration::from_micros(100)).unwrap_err();
    }
    jobs.add(41, ());
    // The other handle is dropped by its thread once its flush has failed; the end is asked for by this one.
    first.join().unwrap().unwrap_err();
    let telemetry = Arc::into_inner(telemetry).unwrap();
    telemetry.shutdown(LONG).unwrap();
    assert_eq!(receiver.received().last().unwrap().sum("worker.jobs"), Some(42));
}

#[test]
fn a_flush_does_not_wait_for_an_export_that_hangs() {
    let receiver = Receiver::start();
    receiver.answer([Reply::Silence, Reply::Taken]);
    let interval = Duration::from_millis(1);
    let reader =
        PeriodicMetricReader { interval, ..reader(Protocol::Protobuf, exporter(Protocol::Protobuf, &receiver.url())) };
    let telemetry = pushing(reader);
    telemetry.meter("m").counter(&JOBS).add(7, ());
    wait_until("an export hangs", || receiver.count() == 1);
    telemetry.force_flush(Duration::from_secs(5)).unwrap();
    assert_eq!(receiver.received().last().unwrap().sum("worker.jobs"), Some(7));
}

#[test]
fn a_receiver_that_asks_for_time_gets_it_from_the_next_export_too() {
    let receiver = Receiver::start();
    receiver.answer([Reply::Status(503, Some("1")), Reply::Taken]);
    let reader = PeriodicMetricReader {
        interval: Duration::from_millis(10),
        // Too short to come back within the same export.
        timeout: Some(Duration::from_millis(200)),
        ..reader(Protocol::Protobuf, exporter(Protocol::Protobuf, &receiver.url()))
    };
    let telemetry = pushing(reader);
    telemetry.meter("m").counter(&JOBS).add(7, ());
    wait_until("it is asked", || receiver.count() == 1);
    let asked = Instant::now();
    wait_until("it is asked again", || receiver.count() == 2);
    assert!(asked.elapsed() > Duration::from_millis(700), "{:?}", asked.elapsed());
}

#[test]
fn a_request_that_is_refused_keeps_no_other_from_being_sent() {
    let receiver = Receiver::start();
    receiver.answer([Reply::Status(400, None), Reply::Taken]);
    let reader = PeriodicMetricReader {
        max_export_batch_size: NonZeroUsize::new(1),
        ..reader(Protocol::Protobuf, exporter(Protocol::Protobuf, &receiver.url()))
    };
    let telemetry = pushing(reader);
    telemetry.meter("m").counter(&JOBS).add(7, ());
    telemetry.force_flush(LONG).unwrap_err();
    let page = telemetry.scrape().unwrap();
    assert_eq!(points(&page, "otlp_http", "lost"), 1.0);
    assert_eq!(points(&page, "otlp_http", "delivered"), receiver.count() as f64 - 1.0);
    assert!(receiver.count() > 10, "{}", receiver.count());
}

#[test]
fn a_connection_is_kept_and_opened_again_where_it_was_closed() {
    for protocol in PROTOCOLS {
        let receiver = Receiver::start();
        let telemetry = pushing_to(protocol, &receiver.url());
        let jobs = telemetry.meter("m").counter(&JOBS);
        for _ in 0..3 {
            jobs.add(1, ());
            telemetry.force_flush(LONG).unwrap();
        }
        assert_eq!((receiver.count(), receiver.connections()), (3, 1), "{protocol:?}");
        let receiver = Receiver::start_at(receiver.kill(), None);
        telemetry.force_flush(LONG).unwrap();
        assert_eq!(receiver.received()[0].sum("worker.jobs"), Some(3));
        assert_eq!(points(&telemetry.scrape().unwrap(), &name(protocol), "lost"), 0.0);
    }
}

fn name(protocol: Protocol) -> String {
    if protocol == Protocol::Grpc { "otlp_grpc" } else { "otlp_http" }.to_owned()
}

#[test]
fn a_receiver_that_takes_every_other_export_is_not_in_every_line_of_the_log() {
    keep_logs();
    let receiver = Receiver::start();
    let flapping = (0..40).flat_map(|_| [Reply::Status(400, None), Reply::Taken]);
    receiver.answer(flapping);
    let url = receiver.url();
    let telemetry = pushing_to(Protocol::Protobuf, &url);
    telemetry.meter("m").counter(&JOBS).add(1, ());
    for _ in 0..20 {
        telemetry.force_flush(LONG).unwrap_err();
        telemetry.force_flush(LONG).unwrap();
    }
    let lines = logged(&url);
    // That it runs, that it fails, that it is well again.
    assert_eq!(lines.len(), 3, "{lines:?}");
}

#[test]
fn lines_of_json_stay_lines_though_the_file_is_taken_away_or_full() {
    use barograph::config::OtlpFileMetricExporter;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    let to = |path: &std::path::Path| {
        let exporter = OtlpFileMetricExporter { path: Some(path.to_owned()), ..OtlpFileMetricExporter::default() };
        let reader = PeriodicMetricReader::new(PushMetricExporter::OtlpFile(exporter));
        Telemetry::builder("suite").without_endpoint().with_reader(MetricReader::Periodic(reader)).start()
    };
    let telemetry = to(&path).unwrap();
    let jobs = telemetry.meter("m").counter(&JOBS);
    jobs.add(1, ());
    telemetry.force_flush(LONG).unwrap();
    std::fs::rename(&path, folder.path().join("rotated.jsonl")).unwrap();
    jobs.add(1, ());
    telemetry.shutdown(LONG).unwrap();
    for name in ["rotated.jsonl", "metrics.jsonl"] {
        let text = std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest =
            serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!(line.resource_metrics.len(), 1);
    }
    let error = to(folder.path()).unwrap_err().to_string();
    assert!(error.contains("otlp_file/development.output_stream: cannot append to "), "{error}");
    let full = to(std::path::Path::new("/dev/full")).unwrap();
    full.force_flush(LONG).unwrap_err();
    let page = full.scrape().unwrap();
    assert!(failures(&page, "otlp_file", "io") == 1.0 && points(&page, "otlp_file", "lost") > 0.0, "{page}");
}

#[test]
fn a_pipeline_that_is_switched_off_is_content_with_its_views() {
    use barograph::View;
    use barograph::config::{MeterConfigurator, MeterMatcher};

    let meters = vec![MeterMatcher { name: "m".to_owned(), enabled: false }];
    let off = MeterConfigurator { meters, ..MeterConfigurator::default() };
    let none = MeterProvider::default();
    let switched_off =
        MeterProvider { readers: vec![MetricReader::pull()], meter_configurator: off, ..MeterProvider::default() };
    for (provider, disabled) in [(none.clone(), false), (none, true), (switched_off, false)] {
        let config = Config { meter_provider: Some(provider), disabled, ..Config::default() };
        let view = View::of("worker.jobs").with_cardinality_limit(5);
        let telemetry = Telemetry::from_config(config).without_endpoint().with_view(view).start().unwrap();
        telemetry.meter("m").counter(&JOBS).add(1, ());
        telemetry.verify().unwrap();
    }
}

#[test]
fn a_dead_receiver_blocks_nobody() {
    let (_, url) = nobody();
    let reader = PeriodicMetricReader {
        interval: Duration::from_millis(1),
        ..reader(Protocol::Protobuf, exporter(Protocol::Protobuf, &url))
    };
    let telemetry = pushing(reader);
    let jobs = telemetry.meter("m").counter(&JOBS);
    let begun = Instant::now();
    for _ in 0..1_000 {
        jobs.add(1, ());
    }
    assert_eq!(find(&telemetry.scrape().unwrap(), "worker_jobs_total"), Some(1_000.0));
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[test]
fn what_was_resolved_and_that_nothing_arrives_is_logged_once_and_no_secret() {
    keep_logs();
    let (address, url) = nobody();
    let exporter = OtlpMetricExporter {
        headers: vec![("api-key".to_owned(), "s3cr3t".to_owned())],
        ..exporter(Protocol::Protobuf, &url)
    };
    let reader = PeriodicMetricReader {
        interval: Duration::from_millis(1),
        timeout: Some(Duration::from_millis(50)),
        ..reader(Protocol::Protobuf, exporter)
    };
    let telemetry = pushing(reader);
    telemetry.meter("m").counter(&JOBS).add(1, ());
    wait_until("many exports have failed", || failures(&telemetry.scrape().unwrap(), "otlp_http", "connection") > 20.0);
    let resolved = format!("endpoint: {url}/v1/metrics (code)");
    let failed = format!("WARN metrics could not be pushed to {url}/v1/metrics: cannot connect: ");
    let lines = logged(&url);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("INFO the metrics pipeline runs: ") && lines[0].contains(&resolved), "{lines:?}");
    assert!(lines[1].starts_with(&failed), "{lines:?}");
    let _receiver = Receiver::start_at(address, None);
    wait_until("that it succeeds is logged", || logged(&url).len() == 3);
    assert_eq!(logged(&url)[2], format!("INFO metrics are pushed to {url}/v1/metrics again"));
    assert_eq!(logged("s3cr3t"), [""; 0]);
}

#[test]
fn shutdown_keeps_its_deadline_whatever_the_receiver_does() {
    let deadline = Duration::from_millis(600);
    for protocol in PROTOCOLS {
        for reply in [None, Some(Reply::Silence), Some(Reply::Late(Duration::from_secs(5)))] {
            let receiver = Receiver::start();
            let url = match &reply {
                Some(reply) => {
                    receiver.answer([reply.clone()]);
                    receiver.url()
                }
                None => nobody().1,
            };
            let telemetry = pushing_to(protocol, &url);
            telemetry.meter("m").counter(&JOBS).add(1, ());
            let begun = Instant::now();
            let error = telemetry.shutdown(deadline).unwrap_err();
            let took = begun.elapsed();
            assert!(matches!(error, ShutdownError::Export { .. }), "{error}");
            assert!(took < deadline + Duration::from_millis(400), "{protocol:?} {reply:?} took {took:?}");
        }
        // While an export hangs already.
        let receiver = Receiver::start();
        receiver.answer([Reply::Silence]);
        let interval = Duration::from_millis(1);
        let reader = PeriodicMetricReader { interval, ..reader(protocol, exporter(protocol, &receiver.url())) };
        let telemetry = pushing(reader);
        telemetry.meter("m").counter(&JOBS).add(1, ());
        wait_until("an export hangs", || receiver.count() == 1);
        // It would be answered by now; the one that hangs is given up for the last one.
        receiver.answer([Reply::Taken]);
        telemetry.shutdown(LONG).unwrap();
        assert_eq!(receiver.received().last().unwrap().sum("worker.jobs"), Some(1), "{protocol:?}");
    }
}

#[test]
fn the_last_values_arrive_by_shutdown_and_by_drop_though_the_receiver_is_slow() {
    for protocol in PROTOCOLS {
        let receiver = Receiver::start();
        receiver.answer([Reply::Late(Duration::from_millis(200))]);
        for value in [1, 2] {
            receiver.forget();
            let telemetry = pushing_to(protocol, &receiver.url());
            telemetry.meter("m").counter(&JOBS).add(value, ());
            if value == 1 {
                telemetry.shutdown(LONG).unwrap()
            } else {
                drop(telemetry)
            }
            assert_eq!(
                receiver.received().last().and_then(|r| r.sum("worker.jobs")),
                Some(value as i64),
                "{protocol:?}"
            );
        }
    }
}

/// With reqwest's clients, both of them, and tonic compiled into the same program by a crate that exports too.
#[test]
fn it_works_in_every_runtime_and_through_every_end() {
    let _theirs = opentelemetry_otlp::MetricExporter::builder();
    let runtime = |workers: usize| {
        let mut builder = match workers {
            1 => tokio::runtime::Builder::new_current_thread(),
            _ => tokio::runtime::Builder::new_multi_thread(),
        };
        builder.enable_all().build().unwrap()
    };
    for protocol in PROTOCOLS {
        for workers in 0..3 {
            for end in ["shutdown", "drop", "panic"] {
                let receiver = Receiver::start();
                let url = receiver.url();
                let program = move || {
                    let telemetry = pushing_to(protocol, &url);
                    telemetry.meter("m").counter(&JOBS).add(7, ());
                    match end {
                        "shutdown" => telemetry.shutdown(LONG).unwrap(),
                        "drop" => drop(telemetry),
                        _ => std::panic::panic_any("expected: the end of the main thread"),
                    }
                };
                let begun = Instant::now();
                let main = crate::support::without_panic_messages(|| {
                    thread::spawn(move || match workers {
                        0 => program(),
                        _ => runtime(workers).block_on(async { program() }),
                    })
                });
                assert_eq!(main.join().is_err(), end == "panic");
                let what = format!("{protocol:?}, {workers} workers, {end}");
                assert!(begun.elapsed() < Duration::from_secs(3), "{what} took {:?}", begun.elapsed());
                assert_eq!(receiver.received().last().and_then(|r| r.sum("worker.jobs")), Some(7), "{what}");
            }
        }
    }
}

#[test]
fn flushes_that_wait_at_once_are_answered_by_one_export() {
    let receiver = Receiver::start();
    receiver.answer([Reply::Late(Duration::from_millis(100))]);
    let telemetry = Arc::new(pushing_to(Protocol::Protobuf, &receiver.url()));
    let flushes: Vec<_> = (0..20)
        .map(|_| {
            let telemetry = Arc::clone(&telemetry);
            thread::spawn(move || telemetry.force_flush(LONG))
        })
        .collect();
    for flush in flushes {
        flush.join().unwrap().unwrap();
    }
    assert!(receiver.count() <= 4, "{} exports for 20 flushes", receiver.count());
}

#[test]
fn scraped_and_pushed_is_read_once() {
    let receiver = Receiver::start();
    let telemetry = pushing_to(Protocol::Protobuf, &receiver.url());
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    telemetry
        .meter("m")
        .u64_observable_counter("seen")
        .with_callback(move |observer| observer.observe(counted.fetch_add(1, Ordering::Relaxed) + 1, &[]))
        .build();
    assert_eq!(find(&telemetry.scrape().unwrap(), "seen_total"), Some(1.0));
    telemetry.force_flush(LONG).unwrap();
    assert_eq!(receiver.received()[0].sum("seen"), Some(2));
    assert_eq!(find(&telemetry.scrape().unwrap(), "seen_total"), Some(3.0));
}

#[test]
fn each_reader_has_histograms_and_limits_of_its_own() {
    let receiver = Receiver::start();
    let mut exporter = exporter(Protocol::Protobuf, &receiver.url());
    exporter.preferences.default_histogram_aggregation = HistogramAggregation::Base2ExponentialBucketHistogram;
    let mut push = reader(Protocol::Protobuf, exporter);
    push.cardinality_limits.counter = NonZeroUsize::new(3);
    let telemetry = pushing(push);
    // Built on several threads at once: which reader is asked about is known on each of them.
    let provider = telemetry.meter_provider().clone();
    thread::scope(|scope| {
        for thread in 0..4 {
            let provider = &provider;
            scope.spawn(move || {
                use barograph::opentelemetry::metrics::MeterProvider;
                let meter = provider.meter("m");
                meter.f64_histogram(format!("wait{thread}")).with_unit("s").build().record(0.5, &[]);
                let calls = meter.u64_counter(format!("calls{thread}")).build();
                for key in 0..10 {
                    calls.add(1, &[KeyValue::new("key", key)]);
                }
            });
        }
    });
    telemetry.force_flush(LONG).unwrap();
    let received = receiver.received();
    let page = telemetry.scrape().unwrap();
    for thread in 0..4 {
        let pushed = received[0].metric(&format!("wait{thread}")).unwrap().data.as_ref().unwrap();
        assert!(matches!(pushed, Data::ExponentialHistogram(_)), "{pushed:?}");
        assert_eq!(find(&page, &format!("wait{thread}_seconds_bucket{{le=\"0.5\"}}")), Some(1.0), "{page}");
        let calls = received[0].metric(&format!("calls{thread}")).unwrap().data.as_ref().unwrap();
        let Data::Sum(calls) = calls else { panic!("{calls:?}") };
        let overflow = |point: &&opentelemetry_proto::tonic::metrics::v1::NumberDataPoint| {
            point.attributes.iter().any(|attribute| attribute.key == "otel.metric.overflow")
        };
        assert_eq!(calls.data_points.iter().filter(overflow).count(), 1, "{calls:?}");
        assert!(calls.data_points.len() <= 4, "{calls:?}");
        assert_eq!(page.matches(&format!("\ncalls{thread}_total{{")).count(), 10, "{page}");
    }
}

#[test]
fn a_request_is_cut_where_it_would_hold_too_much() {
    for (max_points, max_bytes) in [(NonZeroUsize::new(10), None), (None, NonZeroUsize::new(2_000))] {
        let receiver = Receiver::start();
        let exporter =
            OtlpMetricExporter { max_request_size: max_bytes, ..exporter(Protocol::Protobuf, &receiver.url()) };
        let reader = PeriodicMetricReader { max_export_batch_size: max_points, ..reader(Protocol::Protobuf, exporter) };
        let telemetry = pushing(reader);
        let calls = telemetry.meter("m").u64_counter("calls").build();
        for key in 0..100 {
            calls.add(1, &[KeyValue::new("key", key)]);
        }
        telemetry.force_flush(LONG).unwrap();
        assert!(receiver.count() >= 4, "{}", receiver.count());
        let sent: usize = receiver
            .received()
            .iter()
            .filter_map(|request| match request.metric("calls")?.data.as_ref()? {
                Data::Sum(sum) => Some(sum.data_points.len()),
                _ => None,
            })
            .sum();
        assert_eq!(sent, 100);
    }
}

#[test]
fn a_disabled_pipeline_and_one_without_readers_record_nothing_and_say_so() {
    let none = Config { meter_provider: Some(MeterProvider::default()), ..Config::default() };
    let disabled = Config { disabled: true, ..none.clone() };
    for config in [Config::default(), none, disabled] {
        let telemetry = Telemetry::from_config(config).start().unwrap();
        telemetry.meter("m").counter(&JOBS).add(1, ());
        assert_eq!(telemetry.local_addr(), None);
        assert!(telemetry.scrape().unwrap_err().to_string().starts_with("these metrics are not scraped"));
        telemetry.force_flush(LONG).unwrap();
        telemetry.shutdown(LONG).unwrap();
    }
}

#[test]
fn a_meter_that_is_switched_off_records_nothing() {
    use barograph::config::{MeterConfigurator, MeterMatcher};

    let meters = vec![MeterMatcher { name: "noisy.*".to_owned(), enabled: false }];
    let meter_provider = MeterProvider {
        readers: vec![MetricReader::pull()],
        meter_configurator: MeterConfigurator { meters, ..MeterConfigurator::default() },
        ..MeterProvider::default()
    };
    let config = Config { meter_provider: Some(meter_provider), resource: Resource::default(), disabled: false };
    let telemetry = Telemetry::from_config(config).without_endpoint().start().unwrap();
    telemetry.meter("noisy.part").u64_counter("a").build().add(1, &[]);
    telemetry.meter("quiet").u64_counter("b").build().add(1, &[]);
    let page = telemetry.scrape().unwrap();
    assert_eq!((find(&page, "a_total"), find(&page, "b_total")), (None, Some(1.0)), "{page}");
}

#[test]
fn an_endpoint_that_is_none_is_said_at_start_with_its_place() {
    let error = |protocol, endpoint: &str| {
        let reader = reader(protocol, OtlpMetricExporter { endpoint: endpoint.to_owned(), ..exporter(protocol, "") });
        let builder = Telemetry::builder("suite").without_endpoint().with_reader(MetricReader::Periodic(reader));
        builder.start().unwrap_err().to_string()
    };
    let http = "meter_provider.readers[1].periodic.exporter.otlp_http.endpoint: ";
    for (endpoint, problem) in [
        ("localhost:4318", "`localhost:4318` begins with neither http:// nor https://"),
        ("ftp://x/", "`ftp://x/` begins with neither http:// nor https://"),
        ("http://x:99999/", "`http://x:99999/` has a port beyond 65535"),
        (
            "http://user:pw@x/",
            "`http://***@x/` has credentials, which are sent by no exporter (a header can hold them)",
        ),
        ("http://x y/", "`http://x y/` is not a URL (invalid uri character)"),
    ] {
        assert_eq!(
            error(Protocol::Protobuf, endpoint),
            format!("{http}{problem}: expected a URL like http://localhost:4318/v1/metrics")
        );
    }
    let path = error(Protocol::Grpc, "http://x:1/v1/metrics");
    assert!(path.contains("has a path, and gRPC has none"), "{path}");
    let header = {
        let exporter = OtlpMetricExporter {
            headers: vec![("bad name".to_owned(), "s3cr3t".to_owned())],
            ..exporter(Protocol::Protobuf, "http://x")
        };
        catch_unwind(AssertUnwindSafe(|| {
            let reader = MetricReader::Periodic(reader(Protocol::Protobuf, exporter));
            Telemetry::builder("suite").without_endpoint().with_reader(reader).start().unwrap_err().to_string()
        }))
    };
    let header = header.unwrap();
    assert!(header.ends_with("headers: `bad name` is no header: its name cannot be one"), "{header}");
    assert!(!header.contains("s3cr3t"));
}

#[cfg(not(feature = "tls"))]
#[test]
fn an_endpoint_that_wants_tls_is_said_where_there_is_none() {
    let reader = reader(Protocol::Protobuf, exporter(Protocol::Protobuf, "https://x:1"));
    let builder = Telemetry::builder("suite").without_endpoint().with_reader(MetricReader::Periodic(reader));
    assert!(builder.start().unwrap_err().to_string().contains("add the feature `tls`"));
}

#[cfg(feature = "tls")]
mod tls {
    use barograph::config::Tls;

    use super::*;
    use crate::certificates::Certificates;

    fn start(protocol: Protocol, url: &str, tls: Tls) -> Result<Telemetry, barograph::StartError> {
        let reader = reader(protocol, OtlpMetricExporter { tls, ..exporter(protocol, url) });
        Telemetry::builder("suite").without_endpoint().with_reader(MetricReader::Periodic(reader)).start()
    }

    #[test]
    fn the_servers_certificate_is_checked_and_ours_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let certificates = Certificates::write(folder.path());
        let ca_file = Some(certificates.authority.clone());
        for asks_for_client in [false, true] {
            let receiver = Receiver::start_with_tls(&certificates, asks_for_client);
            for (protocol, host) in
                PROTOCOLS.into_iter().flat_map(|protocol| [(protocol, "localhost"), (protocol, "127.0.0.1")])
            {
                receiver.forget();
                let url = format!("https://{host}:{}", receiver.address.port());
                let alone = Tls { ca_file: ca_file.clone(), ..Tls::default() };
                let with_certificate = Tls {
                    key_file: Some(certificates.client_key.clone()),
                    cert_file: Some(certificates.client.clone()),
                    ..alone.clone()
                };
                let telemetry = start(protocol, &url, with_certificate).unwrap();
                telemetry.meter("m").counter(&JOBS).add(3, ());
                telemetry.force_flush(LONG).unwrap();
                assert_eq!(receiver.received()[0].sum("worker.jobs"), Some(3), "{protocol:?}");
                let telemetry = start(protocol, &url, alone).unwrap();
                if !asks_for_client {
                    telemetry.force_flush(LONG).unwrap();
                    continue;
                }
                let name = if protocol == Protocol::Grpc { "otlp_grpc" } else { "otlp_http" };
                // A request that is on its way when the server refuses may break before the reason is heard.
                wait_until("the reason is counted", || {
                    telemetry.force_flush(Duration::from_millis(400)).unwrap_err();
                    failures(&telemetry.scrape().unwrap(), name, "tls") >= 1.0
                });
            }
        }
    }

    #[test]
    fn a_stranger_gets_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let receiver = Receiver::start_with_tls(&Certificates::write(folder.path()), false);
        let url = format!("https://{}", receiver.address);
        let others = Certificates::write(&folder.path().join("others"));
        let ca_file = Some(others.authority);
        let telemetry = start(Protocol::Protobuf, &url, Tls { ca_file, ..Tls::default() }).unwrap();
        // A machine that has much to do may not come to the handshake in time.
        wait_until("the reason is told", || {
            let error = telemetry.force_flush(Duration::from_millis(400)).unwrap_err().to_string();
            error.contains("no TLS: invalid peer certificate")
        });
        assert!(failures(&telemetry.scrape().unwrap(), "otlp_http", "tls") >= 1.0);
        assert_eq!(receiver.count(), 0);
    }

    #[test]
    fn a_file_that_is_not_there_or_holds_something_else_is_said_at_start() {
        let folder = tempfile::tempdir().unwrap();
        let certificates = Certificates::write(folder.path());
        let error = |tls| start(Protocol::Protobuf, "https://localhost:1", tls).unwrap_err().to_string();
        let place = "meter_provider.readers[1].periodic.exporter.otlp_http.tls";
        let missing = folder.path().join("missing.pem");
        assert_eq!(
            error(Tls { ca_file: Some(missing.clone()), ..Tls::default() }),
            format!("{place}.ca_file: cannot read {}: entity not found", missing.display())
        );
        let key = certificates.client_key.clone();
        assert_eq!(
            error(Tls { ca_file: Some(key.clone()), ..Tls::default() }),
            format!("{place}.ca_file: cannot read {}: it holds nothing of the kind in PEM", key.display())
        );
        let alone =
            error(Tls { ca_file: Some(certificates.authority.clone()), key_file: Some(key.clone()), ..Tls::default() });
        assert!(alone.starts_with(&format!("{place}.key_file: is set without tls.cert_file")), "{alone}");
        let other = error(Tls {
            ca_file: Some(certificates.authority.clone()),
            key_file: Some(key),
            cert_file: Some(certificates.server.clone()),
            insecure: false,
        });
        assert!(other.contains("do not go together"), "{other}");
    }
}

/// All of them at once: a pipeline that is scraped, pushes, is refused, is guarded, and has an instrument near its limit.
#[cfg(feature = "web-config")]
#[test]
fn what_the_pipeline_says_about_itself_is_what_its_specs_say() {
    use std::collections::BTreeSet;

    let directory = tempfile::tempdir().unwrap();
    let web_config = directory.path().join("web-config.yml");
    std::fs::write(&web_config, "").unwrap();
    let receiver = Receiver::start();
    let telemetry = Telemetry::builder("suite")
        .with_address("127.0.0.1:0")
        .with_web_config(web_config)
        .with_reader(MetricReader::Periodic(reader(Protocol::Protobuf, exporter(Protocol::Protobuf, &receiver.url()))))
        .with_view(View::of("few").with_cardinality_limit(2))
        .start()
        .unwrap();
    let meter = telemetry.meter("m");
    meter.u64_observable_gauge("observed").with_callback(|observer| observer.observe(1, &[])).build();
    let few = meter.u64_counter("few").build();
    (0..4).for_each(|n| few.add(1, &[KeyValue::new("n", n)]));
    telemetry.force_flush(LONG).unwrap();
    receiver.answer([Reply::Status(400, None)]);
    telemetry.force_flush(LONG).unwrap_err();
    // What a scrape comes to, and what a collection finds, shows in the next.
    let address = telemetry.local_addr().unwrap();
    for _ in 0..2 {
        assert_eq!(get(address, "/metrics").status, 200);
    }
    let families = parse(Format::Text004, get(address, "/metrics").body.as_bytes()).unwrap();

    let is_own = |family: &&Family| family.name.starts_with("barograph_") || family.name.starts_with("otel_sdk_");
    let own: BTreeSet<&str> = families.iter().filter(is_own).map(|family| &*family.name).collect();
    let listed: Vec<String> = SELF_METRICS.iter().filter_map(Descriptor::scraped_name).collect();
    assert_eq!(own, listed.iter().map(String::as_str).collect(), "no more and no less");
    for (spec, name) in SELF_METRICS.iter().zip(&listed) {
        let family = families.iter().find(|family| &family.name == name).unwrap();
        let kind = match spec.kind {
            Kind::Counter => "counter",
            Kind::Histogram => "histogram",
            _ => "gauge",
        };
        assert_eq!((&*family.kind, &*family.help), (kind, spec.description), "{name}");
        let mut keys = BTreeSet::new();
        for point in &family.points {
            for (key, value) in point.labels.iter().filter(|(key, _)| !key.starts_with("otel_scope_")) {
                keys.insert(key.clone());
                let closed = spec.attributes.iter().find(|attribute| attribute.key == key);
                assert!(closed.is_none_or(|closed| closed.values.contains(&&**value)), "{name}: {key} {value}");
            }
            if let Value::Histogram { buckets, .. } = &point.value {
                let bounds: Vec<f64> = buckets.iter().map(|(bound, _)| *bound).collect();
                assert_eq!(bounds[..bounds.len() - 1], *spec.buckets.unwrap(), "{name}");
            }
        }
        let declared =
            spec.attributes.iter().map(|attribute| attribute.key).chain(spec.open_attributes.iter().copied());
        assert_eq!(keys, declared.map(|key| key.replace('.', "_")).collect(), "{name}");
    }
}
