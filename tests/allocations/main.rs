//! What a scrape allocates beyond the SDK's own collection. A binary of its own, because it counts a whole process.

use barograph::Telemetry;
use barograph::opentelemetry::KeyValue;
use barograph::opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{ManualReader, SdkMeterProvider};
use prometheus::{Registry, TextEncoder};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const POINTS: u64 = 1_000;

#[test]
fn d13_no_family_is_allocated_for_a_point() {
    let telemetry = Telemetry::builder("allocations").without_endpoint().start().unwrap();
    record(telemetry.meter_provider());

    let reader = std::sync::Arc::new(ManualReader::builder().build());
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
struct Shared(std::sync::Arc<ManualReader>);

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
