//! Parts of Barograph by themselves, through its public API: what a page of one metric costs in each format, and what
//! one record costs.
//!
//! `cargo bench -p barograph-benches`, or `cargo bench -p barograph-benches -- histogram` for some of them.

#![expect(clippy::expect_used, reason = "a measurement that cannot be made ends here")]

#[path = "../src/ours.rs"]
mod ours;

use std::future::{pending, poll_fn, ready};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use barograph::opentelemetry::metrics::NoopMeterProvider;
use barograph::{CounterSpec, HistogramSpec, MeterExt, Telemetry, attribute, buckets};
use barograph_instrumentation_system::{HostMetrics, ProcessMetrics, SystemMetrics};
use barograph_instrumentation_tokio::TokioMetrics;
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::metrics::{ManualReader, SdkMeterProvider};

use ours::{Format, scraper};

attribute! { enum Api: "api" { DeepSeek = "deepseek", Perplexity = "perplexity", Other = "other" } }
attribute! { enum Status: "status" { Success = "success", Error = "error" } }

const CALLS: CounterSpec<(Api, Status)> = CounterSpec::new("bench.calls", "{call}", "Calls.");
const TOTAL: CounterSpec = CounterSpec::new("bench.total", "{call}", "All calls.");
const DURATION: HistogramSpec<(Api, Status)> =
    HistogramSpec::new("bench.duration", "s", "Durations.").buckets(buckets::SECONDS);

const FORMATS: [Format; 8] = [
    Format::TEXT,
    Format::OPEN_METRICS,
    Format::PROTOBUF,
    Format::TEXT.gzip(),
    Format::OPEN_METRICS.gzip(),
    Format::PROTOBUF.gzip(),
    Format::TEXT.zstd(),
    Format::PROTOBUF.zstd(),
];

fn main() {
    divan::main();
}

fn telemetry() -> Telemetry {
    Telemetry::builder("bench").without_endpoint().start().expect("no endpoint, nothing to fail")
}

/// A scrape of next to nothing: the way there and back.
#[divan::bench(args = FORMATS)]
fn scrape_of_one_counter(bencher: Bencher, format: Format) {
    let telemetry = telemetry();
    telemetry.meter("bench").counter(&TOTAL).add(1, ());
    let mut scrape = scraper(telemetry, format);
    bencher.bench_local(|| scrape(&mut |piece| _ = black_box(piece)));
}

/// 17,000 lines of text.
#[divan::bench(args = FORMATS)]
fn scrape_of_a_histogram_with_1000_sets(bencher: Bencher, format: Format) {
    let telemetry = telemetry();
    let histogram =
        telemetry.meter("bench").f64_histogram("bench.sizes").with_boundaries(buckets::SECONDS.to_vec()).build();
    (0..1_000).for_each(|set| histogram.record(f64::from(set) / 97.0, &[KeyValue::new("set", i64::from(set))]));
    let mut scrape = scraper(telemetry, format);
    bencher.bench_local(|| scrape(&mut |piece| _ = black_box(piece)));
}

#[divan::bench]
fn typed_counter_add(bencher: Bencher) {
    let telemetry = telemetry();
    let calls = telemetry.meter("bench").counter(&CALLS);
    bencher.bench(|| calls.add(black_box(1), black_box((Api::DeepSeek, Status::Success))));
}

#[divan::bench]
fn typed_histogram_record(bencher: Bencher) {
    let telemetry = telemetry();
    let duration = telemetry.meter("bench").histogram(&DURATION);
    bencher.bench(|| duration.record(black_box(0.3), black_box((Api::DeepSeek, Status::Success))));
}

/// One at a time is the only way into the SDK's aggregation: what a value costs there, and so at least costs whoever would keep
/// values back and hand them on in a batch.
#[divan::bench(args = [Batch::AsTheyCome, Batch::Sorted, Batch::Equal])]
fn values_of_the_sdks_histogram(bencher: Bencher, batch: &Batch) {
    let provider = SdkMeterProvider::builder().with_reader(ManualReader::builder().build()).build();
    let histogram =
        provider.meter("bench").f64_histogram("bench.sizes").with_boundaries(buckets::SECONDS.to_vec()).build();
    let bound = histogram.bind(&[]);
    let values = black_box(batch.values());
    bencher.counter(ItemsCount::new(values.len())).bench_local(|| values.iter().for_each(|&value| bound.record(value)));
}

/// Values of which many are recorded at once.
#[derive(Clone, Copy, Debug)]
enum Batch {
    AsTheyCome,
    Sorted,
    Equal,
}

impl Batch {
    fn values(self) -> Vec<f64> {
        // Spread over all buckets, and in no order.
        let mut values: Vec<f64> = (0..1_000_u32).map(|n| f64::from(n * 617 % 1_000) / 97.0).collect();
        match self {
            Self::AsTheyCome => {}
            Self::Sorted => values.sort_by(f64::total_cmp),
            Self::Equal => values.fill(0.3),
        }
        values
    }
}

/// A task that nobody wakes: a poll of it, and nothing else.
#[divan::bench]
fn poll_of_a_task(bencher: Bencher) {
    let telemetry = telemetry();
    let tasks = TokioMetrics::new(telemetry.meter_provider()).tasks("bench");
    let mut task = pin!(tasks.instrument(pending::<()>()));
    let mut context = Context::from_waker(Waker::noop());
    bencher.bench_local(|| task.as_mut().poll(&mut context).is_pending());
}

/// A task that wakes itself and yields: a wake and a poll each.
#[divan::bench]
fn wake_and_poll_of_a_task(bencher: Bencher) {
    let telemetry = telemetry();
    let tasks = TokioMetrics::new(telemetry.meter_provider()).tasks("bench");
    let mut task = pin!(tasks.instrument(poll_fn(|context: &mut Context<'_>| {
        context.waker().wake_by_ref();
        Poll::<()>::Pending
    })));
    let mut context = Context::from_waker(Waker::noop());
    bencher.bench_local(|| task.as_mut().poll(&mut context).is_pending());
}

/// From a future to its end: what a task costs besides its polls.
#[divan::bench]
fn task_that_is_ready_at_once(bencher: Bencher) {
    let telemetry = telemetry();
    let tasks = TokioMetrics::new(telemetry.meter_provider()).tasks("bench");
    let mut context = Context::from_waker(Waker::noop());
    bencher.bench_local(|| pin!(tasks.instrument(ready(()))).poll(&mut context).is_ready());
}

/// A first reading for the contract, a thread, and the instruments.
#[divan::bench]
fn system_metrics_new() -> SystemMetrics {
    SystemMetrics::new(&NoopMeterProvider::new())
}

/// A first reading of this process and its container, a thread, and the instruments.
#[divan::bench]
fn process_metrics_new() -> ProcessMetrics {
    ProcessMetrics::new(&NoopMeterProvider::new())
}

/// A first reading of this machine, a thread, and the instruments.
#[divan::bench]
fn host_metrics_new() -> HostMetrics {
    HostMetrics::new(&NoopMeterProvider::new())
}
