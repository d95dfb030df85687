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

const BATCH: usize = 1_000;
const BATCHES: u32 = 2_000;
const ROUNDS: usize = 31;

pub(crate) fn measure() -> String {
    let telemetry = Telemetry::builder("bench").without_endpoint().start().expect("no endpoint, nothing to fail");
    let meter = telemetry.meter_provider().meter("bench");
    let atomic = AtomicU64::new(0);
    let calls = meter.counter(&CALLS);
    let duration = meter.histogram(&DURATION);
    let untyped = meter.u64_counter("bench.untyped_calls").build();
    let bound = untyped.bind(&[KeyValue::new("api", "deepseek"), KeyValue::new("status", "success")]);

    // What is recorded comes from outside, as it does in a program; every contestant reads it from the same list.
    let inputs = black_box(vec![(1_u64, Api::DeepSeek, Status::Success); BATCH]);
    let contestants = vec![
        Contestant::new("`AtomicU64::fetch_add`", || {
            time(&inputs, |n, _, _| {
                atomic.fetch_add(n, Ordering::Relaxed);
            })
        }),
        Contestant::new("typed counter, two attributes", || {
            time(&inputs, |n, api, status| calls.add(n, (api, status)))
        }),
        Contestant::new("OpenTelemetry counter, bound", || time(&inputs, |n, _, _| bound.add(n))),
        Contestant::new("OpenTelemetry counter, two attributes", || {
            time(&inputs, |n, api, status| {
                untyped.add(n, &[KeyValue::new("api", api.as_str()), KeyValue::new("status", status.as_str())]);
            })
        }),
        Contestant::new("typed histogram, two attributes, 14 buckets", || {
            time(&inputs, |n, api, status| duration.record(n as f64 * 0.3, (api, status)))
        }),
    ];
    table(contestants, ROUNDS, BATCHES * BATCH as u32, ("ns", 1e9))
}

fn time(inputs: &[(u64, Api, Status)], mut operation: impl FnMut(u64, Api, Status)) -> Duration {
    let start = Instant::now();
    for _ in 0..BATCHES {
        for &(n, api, status) in inputs {
            operation(n, api, status);
        }
    }
    start.elapsed()
}
