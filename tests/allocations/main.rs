//! What a scrape allocates beyond the SDK's own collection. A binary of its own, because it counts a whole process.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::{Arc, Mutex, PoisonError};

use barograph::opentelemetry::KeyValue;
use barograph::opentelemetry::metrics::MeterProvider;
use barograph::{Telemetry, View};
use http_body_util::BodyExt;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{Instrument, ManualReader, SdkMeterProvider, Stream};
use prometheus::{Registry, TextEncoder};
use tower::ServiceExt;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const POINTS: u64 = 1_000;

/// The profiler counts the whole process, so one test at a time has it.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[test]
fn d13_no_family_is_allocated_for_a_point() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    // The SDK beside it has no metrics of its own either.
    let builder = Telemetry::builder("allocations").without_endpoint().without_self_metrics();
    let telemetry = builder.start().unwrap();
    record(telemetry.meter_provider());

    let reader = Arc::new(ManualReader::builder().build());
    let sdk = SdkMeterProvider::builder().with_reader(Shared(reader.clone())).build();
    record(&sdk);
    let mut data = ResourceMetrics::default();

    let registry = Registry::new();
    let exporter = opentelemetry_prometheus::exporter().with_registry(registry.clone()).build().unwrap();
    let below = SdkMeterProvider::builder().with_reader(exporter).build();
    record(&below);

    let _profiler = dhat::Profiler::builder().testing().build();
    // Caches and buffers are filled by the first scrape; every later one is like the second.
    let ours = blocks(|| drop(telemetry.scrape().unwrap()));
    let collection = blocks(|| reader.collect(&mut data).unwrap());
    let theirs = blocks(|| drop(TextEncoder::new().encode_to_string(&registry.gather()).unwrap()));

    let beyond = ours.saturating_sub(collection);
    assert!(beyond < POINTS / 4, "{beyond} blocks beyond the SDK's {collection} for {POINTS} points");
    // What the row of the table of defects is about, and that the count can tell: several blocks a point.
    assert!(theirs > collection + 5 * POINTS, "{theirs} blocks of the bridge, {collection} of the SDK");
}

/// A page of 17 MB in text, of instruments that are each longer than everything that may be buffered.
#[test]
fn a_page_of_any_size_needs_less_than_two_megabytes_beyond_what_was_collected() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    const SETS: usize = 1_000;
    const INSTRUMENTS: usize = 2;
    const TEXT: &str = include_str!("main.rs");
    let fill = |provider: &dyn MeterProvider| {
        for n in 0..INSTRUMENTS {
            let histogram = provider.meter("allocations").f64_histogram(format!("histogram_{n}")).build();
            for set in 0..SETS {
                histogram.record(1.0, &[KeyValue::new("n", set as i64), KeyValue::new("text", &TEXT[..400])]);
            }
        }
    };
    let reader = Arc::new(ManualReader::builder().build());
    let limit = |_: &Instrument| Stream::builder().with_cardinality_limit(SETS).build().ok();
    let sdk = SdkMeterProvider::builder().with_reader(Shared(reader.clone())).with_view(limit).build();
    fill(&sdk);

    let protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
    for (accept, compression, at_least) in [
        ("text/plain", "identity", 17_000_000),
        ("application/openmetrics-text;version=1.0.0", "gzip", 100_000),
        (protobuf, "identity", 1_000_000),
    ] {
        let everything = View::of("histogram_*").with_cardinality_limit(SETS);
        let telemetry = Telemetry::builder("allocations").without_endpoint().with_view(everything).start().unwrap();
        fill(telemetry.meter_provider());
        let _profiler = dhat::Profiler::builder().testing().build();
        let length = scrape(&telemetry, accept, compression);
        assert!(length > at_least, "{length} bytes of {accept} in {compression}");
        let peak = dhat::HeapStats::get().max_bytes;
        let before = dhat::HeapStats::get().curr_bytes;
        let mut data = ResourceMetrics::default();
        reader.collect(&mut data).unwrap();
        let collected = dhat::HeapStats::get().curr_bytes - before;
        let beyond = peak.saturating_sub(collected);
        assert!(
            beyond < 2_000_000,
            "{accept}, {compression}: {beyond} bytes beyond the {collected} that were collected"
        );
    }
}

/// Refused, told to come later, taken: 10,000 exports, after which there is as much on the heap as after the first
/// hundred of each.
#[cfg(feature = "otlp")]
#[test]
fn exports_that_fail_and_exports_that_succeed_leave_nothing_behind() {
    use std::sync::atomic::{AtomicU16, Ordering};
    use std::time::{Duration, Instant};

    use barograph::config::{MetricReader, OtlpMetricExporter, PeriodicMetricReader, PushMetricExporter};

    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let status = Arc::new(AtomicU16::new(503));
    let address = receiver(Arc::clone(&status));
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();

    let _profiler = dhat::Profiler::builder().testing().build();
    for (address, answer, counter) in [
        (nobody, 0, r#"failures_total{exporter="otlp_http",reason="connection""#),
        (address, 503, r#"failures_total{exporter="otlp_http",reason="unavailable""#),
        (address, 200, r#"operation_duration_seconds_count{otel_component_name="otlp_http_metric_exporter/0""#),
    ] {
        status.store(answer, Ordering::Relaxed);
        let exporter = PushMetricExporter::OtlpHttp(OtlpMetricExporter::http(&format!("http://{address}")));
        let reader = PeriodicMetricReader {
            interval: Duration::from_micros(1),
            // Too short to wait for a second attempt.
            timeout: Some(Duration::from_millis(200)),
            ..PeriodicMetricReader::new(exporter)
        };
        let builder = Telemetry::builder("allocations").without_endpoint().without_scope_info();
        let telemetry = builder.with_reader(MetricReader::Periodic(reader)).start().unwrap();
        let counted = || -> f64 {
            let page = telemetry.scrape().unwrap();
            let line = page.lines().find(|line| line.contains(counter)).unwrap_or("} 0");
            line.rsplit_once(' ').unwrap().1.parse().unwrap()
        };
        let wait_for = |exports: f64| {
            let deadline = Instant::now() + Duration::from_secs(60);
            while counted() < exports {
                assert!(Instant::now() < deadline, "{} of {exports} exports", counted());
                std::thread::sleep(Duration::from_millis(20));
            }
        };
        wait_for(100.0);
        let before = dhat::HeapStats::get().curr_bytes;
        wait_for(3_334.0);
        let after = dhat::HeapStats::get().curr_bytes;
        assert!(
            after < before + 100_000,
            "{before} bytes on the heap, and {after} after 3,234 exports more: {counter}"
        );
    }
}

/// A receiver of HTTP that answers every request with a status.
#[cfg(feature = "otlp")]
fn receiver(status: Arc<std::sync::atomic::AtomicU16>) -> std::net::SocketAddr {
    use std::io::{BufRead, BufReader, Read, Write};

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream);
            loop {
                let (mut line, mut length) = (String::new(), 0);
                while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                    if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    line.clear();
                }
                if line.is_empty() || reader.read_exact(&mut vec![0; length]).is_err() {
                    break;
                }
                let status = status.load(std::sync::atomic::Ordering::Relaxed);
                let answer = format!("HTTP/1.1 {status} Said\r\ncontent-length: 0\r\n\r\n");
                if reader.get_mut().write_all(answer.as_bytes()).is_err() {
                    break;
                }
            }
        }
    });
    address
}

/// Reads a page as a connection does, a chunk at a time. Returns its length.
fn scrape(telemetry: &Telemetry, accept: &str, accept_encoding: &str) -> usize {
    let request = http::Request::get("/metrics").header("accept", accept).header("accept-encoding", accept_encoding);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let answer = telemetry.scrape_service().oneshot(request.body(()).unwrap()).await.unwrap();
        let (mut body, mut length) = (answer.into_body(), 0);
        while let Some(frame) = body.frame().await {
            length += frame.unwrap().into_data().map_or(0, |chunk| chunk.len());
        }
        length
    })
}

fn record(provider: &dyn MeterProvider) {
    let counter = provider.meter("allocations").u64_counter("allocations.points").build();
    for n in 0..POINTS {
        counter.add(1, &[KeyValue::new("n", format!("{n}")), KeyValue::new("kind", "same")]);
    }
}

/// The blocks that the second run of `work` allocates.
fn blocks(mut work: impl FnMut()) -> u64 {
    work();
    let before = dhat::HeapStats::get().total_blocks;
    work();
    dhat::HeapStats::get().total_blocks - before
}

#[derive(Debug)]
struct Shared(Arc<ManualReader>);

impl MetricReader for Shared {
    fn register_pipeline(&self, pipeline: std::sync::Weak<opentelemetry_sdk::metrics::Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, data: &mut ResourceMetrics) -> opentelemetry_sdk::error::OTelSdkResult {
        self.0.collect(data)
    }

    fn force_flush(&self) -> opentelemetry_sdk::error::OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: std::time::Duration) -> opentelemetry_sdk::error::OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self, kind: opentelemetry_sdk::metrics::InstrumentKind) -> opentelemetry_sdk::metrics::Temporality {
        self.0.temporality(kind)
    }
}
