//! One thread records: what an add costs beside a bare atomic.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use barograph::{CounterSpec, HistogramSpec, MeterExt, Telemetry, attribute, buckets};
use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider;

use crate::table::{Contestant, table};

attribute! {
    /// Which API was called.
    pub(crate) enum Api: "api" { DeepSeek = "deepseek", Perplexity = "perplexity", Other = "other" }
}
attribute! {
    /// How a call ended.
    pub(crate) enum Status: "status" { Success = "success", Error = "error", Timeout = "timeout", RateLimited = "rate_limited" }
}

const CALLS: CounterSpec<(Api, Status)> = CounterSpec::new("bench.calls", "{call}", "Calls, typed.");
const DURATION: HistogramSpec<(Api, Status)> =
    HistogramSpec::new("bench.duration", "s", "Durations, typed.").buckets(buckets::SECONDS);

const OPERATIONS: u32 = 2_000_000;
const ROUNDS: usize = 31;

pub(crate) fn measure() -> String {
    let telemetry = Telemetry::builder("bench").without_endpoint().start().expect("no endpoint, nothing to fail");
    let meter = telemetry.meter_provider().meter("bench");
    let atomic = AtomicU64::new(0);
    let calls = meter.counter(&CALLS);
    let duration = meter.histogram(&DURATION);
    let untyped = meter.u64_counter("bench.untyped_calls").build();
    let attributes = [KeyValue::new("api", "deepseek"), KeyValue::new("status", "success")];
    let bound = untyped.bind(&attributes);

    let contestants = vec![
        Contestant::new("`AtomicU64::fetch_add`", || {
            time(|| {
                black_box(&atomic).fetch_add(black_box(1), Ordering::Relaxed);
            })
        }),
        Contestant::new("typed counter, two attributes", || {
            time(|| black_box(&calls).add(black_box(1), (black_box(Api::DeepSeek), black_box(Status::Success))))
        }),
        Contestant::new("OpenTelemetry counter, bound", || time(|| black_box(&bound).add(black_box(1)))),
        Contestant::new("OpenTelemetry counter, two attributes", || {
            time(|| black_box(&untyped).add(black_box(1), black_box(&attributes)))
        }),
        Contestant::new("typed histogram, two attributes, 14 buckets", || {
            time(|| black_box(&duration).record(black_box(0.3), (black_box(Api::DeepSeek), black_box(Status::Success))))
        }),
    ];
    table(contestants, ROUNDS, OPERATIONS, ("ns", 1e9))
}

fn time(mut operation: impl FnMut()) -> Duration {
    let start = Instant::now();
    for _ in 0..OPERATIONS {
        operation();
    }
    start.elapsed()
}
