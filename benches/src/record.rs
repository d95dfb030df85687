//! What recording costs: nanoseconds of one operation, on one or more threads that all record into the same one
//! series, or into the same eighteen in turn.

mod bench;
mod contestants;
mod labels;
mod scrape;

use std::hint::black_box;
use std::time::{Duration, Instant};

use barograph::config::{
    ExemplarFilter, MetricReader, OtlpMetricExporter, PeriodicMetricReader, PushMetricExporter, TemporalityPreference,
};
use barograph::{
    Attribute, CounterSpec, HistogramSpec, MeterExt, OperationSpec, Telemetry, UpDownCounterSpec, attribute, buckets,
};
use opentelemetry::metrics::MeterProvider;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::metrics::{ManualReader, SdkMeterProvider};

use crate::table::Table;
use bench::{Bench, OPERATIONS};
use labels::{Api, Status};
pub(crate) use scrape::{measure as measure_scrape, of as scrape_of};

const CALLS: CounterSpec<(Api, Status)> = CounterSpec::new("bench.calls", "{call}", "Calls, typed.");
const ACTIVE: UpDownCounterSpec<(Api, Status)> =
    UpDownCounterSpec::new("bench.active_calls", "{call}", "Active calls, typed.");
const DURATION: HistogramSpec<(Api, Status)> =
    HistogramSpec::new("bench.duration", "s", "Durations, typed.").buckets(buckets::SECONDS);

/// The same three metrics, as an operation and by hand.
const OPERATION: OperationSpec<Ended> = OperationSpec { calls: ENDED, duration: TOOK, active: UNDER_WAY };
const ENDED: CounterSpec<Ended> = CounterSpec::new("bench.operation.calls", "{call}", "Calls.");
const TOOK: HistogramSpec<Ended> =
    HistogramSpec::new("bench.operation.duration", "s", "Durations.").buckets(buckets::SECONDS);
const UNDER_WAY: UpDownCounterSpec = UpDownCounterSpec::new("bench.operation.active_calls", "{call}", "Calls.");

attribute! {
    /// How an operation ended.
    pub(crate) enum Ended: "outcome" { Success = "success", Error = "error", Cancelled = "cancelled" }
    unfinished => Cancelled
}

impl From<&Result<u64, u64>> for Ended {
    fn from(result: &Result<u64, u64>) -> Self {
        if result.is_ok() { Self::Success } else { Self::Error }
    }
}

const ROUNDS: usize = 21;

pub(crate) fn measure(threads: usize, series: usize) -> String {
    let bench = Bench::new(threads, series);
    let references = &[("ours", 0), ("fetch_add", contestants::FETCH_ADD)];
    let table = Table { references, ..table() };
    format!("### Recording, threads: {threads}, series: {series}\n\n{}", table.measure(contestants::all(&bench)))
}

fn table() -> Table {
    Table { rounds: ROUNDS, per_round: OPERATIONS, unit: ("ns", 1e9), references: &[] }
}

/// What a record costs a program that is scraped, and one that is pushed from as well.
pub(crate) fn measure_readers() -> String {
    let bench = Bench::new(1, 1);
    let table = Table { references: &[("scraped alone", 0)], ..table() };
    let counter = |telemetry: Telemetry| {
        let calls = telemetry.meter("bench").counter(&CALLS);
        move |n, api, status| {
            let _ = &telemetry;
            calls.add(n, (api, status));
        }
    };
    let histogram = |telemetry: Telemetry| {
        let duration = telemetry.meter("bench").histogram(&DURATION);
        move |n, api, status| {
            let _ = &telemetry;
            duration.record(seconds(n), (api, status));
        }
    };
    let open = |meter: opentelemetry::metrics::Meter, keep: Box<dyn Send + Sync>| {
        let calls = meter.u64_counter("bench.calls").build();
        move |n, api: Api, status: Status| {
            let _ = &keep;
            calls.add(n, &[KeyValue::new("api", api.as_str()), KeyValue::new("status", status.as_str())]);
        }
    };
    let open_of = |telemetry: Telemetry| open(telemetry.meter("bench"), Box::new(telemetry));
    let sdk = |readers: usize| {
        let builder = SdkMeterProvider::builder();
        let reader = || ManualReader::builder().build();
        let provider = (0..readers).fold(builder, |builder, _| builder.with_reader(reader())).build();
        open(provider.meter("bench"), Box::new(provider))
    };
    let (alone, cumulative, delta) = ("scraped alone", "scraped and pushed", "scraped and pushed as differences");
    let (both, differences) = (Some(TemporalityPreference::Cumulative), Some(TemporalityPreference::Delta));
    let typed_counters = vec![
        bench.contestant(alone, counter(pipeline(None))),
        bench.contestant(cumulative, counter(pipeline(both))),
        bench.contestant(delta, counter(pipeline(differences))),
    ];
    let typed_histograms = vec![
        bench.contestant(alone, histogram(pipeline(None))),
        bench.contestant(cumulative, histogram(pipeline(both))),
        bench.contestant(delta, histogram(pipeline(differences))),
    ];
    let open_counters = vec![
        bench.contestant(alone, open_of(pipeline(None))),
        bench.contestant(cumulative, open_of(pipeline(both))),
        bench.contestant(delta, open_of(pipeline(differences))),
        bench.contestant("the SDK with one reader", sdk(1)),
        bench.contestant("the SDK with two readers", sdk(2)),
    ];
    let mut tables = String::new();
    for (name, contestants) in [
        ("typed counter, 2 attributes", typed_counters),
        ("typed histogram, 2 attributes", typed_histograms),
        ("OpenTelemetry counter, 2 attributes", open_counters),
    ] {
        tables += &format!("### Recording with several readers: {name}\n\n{}\n", table.measure(contestants));
    }
    tables
}

/// What measuring a function costs that does nothing, as an operation, and with the same metrics by hand.
pub(crate) fn measure_operations(threads: usize) -> String {
    let bench = Bench::new(threads, 1);
    let table = Table { references: &[("by hand", 0)], ..table() };
    let telemetry = pipeline(None);
    let meter = telemetry.meter("bench");
    let operation = meter.operation(&OPERATION);
    let (calls, duration, active) = (meter.counter(&ENDED), meter.histogram(&TOOK), meter.up_down_counter(&UNDER_WAY));
    let work = |n: u64, status: Status| if status.index() == 0 { Ok(n) } else { Err(n) };
    let contestants = vec![
        bench.contestant("by hand, without a thought of panics: `add`, `record`, two clock reads", |n, _, status| {
            active.add(1, ());
            let started = Instant::now();
            let result = black_box(work(n, status));
            let outcome = Ended::from(&result);
            duration.record(started.elapsed().as_secs_f64(), outcome);
            calls.add(1, outcome);
            active.add(-1, ());
        }),
        bench.contestant("by hand with the guards: `InFlight`, `OutcomeTimer` and a counter", |n, _, status| {
            let _active = active.in_flight(());
            let timer = duration.start_outcome_timer();
            let outcome = Ended::from(&black_box(work(n, status)));
            timer.finish(outcome);
            calls.add(1, outcome);
        }),
        bench.contestant("`operation.run`", |n, _, status| {
            let _ = operation.run(|| black_box(work(n, status)));
        }),
        bench.contestant("`operation.start().run`", |n, _, status| {
            let _ = operation.start().run(|| black_box(work(n, status)));
        }),
        bench.contestant("two clock reads alone", |n, _, status| {
            let started = Instant::now();
            let _ = black_box(work(n, status));
            black_box(started.elapsed().as_secs_f64());
        }),
    ];
    format!("### An operation, threads: {threads}\n\n{}", table.measure(contestants))
}

/// What a record costs where exemplars are not wanted, where they are and there is no span, and inside of one.
pub(crate) fn measure_exemplars() -> String {
    let bench = Bench::new(1, 1);
    let table = Table { references: &[("off", 0)], ..table() };
    let inside = |flags| {
        let (trace, span) = (TraceId::from(0xabcd_u128), SpanId::from(0xabcd_u64));
        let span = SpanContext::new(trace, span, flags, false, TraceState::NONE);
        Context::new().with_remote_span_context(span)
    };
    let cases = || {
        [
            ("always_off, inside a sampled span", ExemplarFilter::AlwaysOff, inside(TraceFlags::SAMPLED)),
            ("trace_based, outside of any span", ExemplarFilter::TraceBased, Context::new()),
            ("trace_based, inside an unsampled span", ExemplarFilter::TraceBased, inside(TraceFlags::NOT_SAMPLED)),
            ("trace_based, inside a sampled span", ExemplarFilter::TraceBased, inside(TraceFlags::SAMPLED)),
        ]
    };
    let pipeline = |filter| {
        let builder = Telemetry::builder("bench").without_endpoint().with_exemplar_filter(filter);
        builder.start().expect("no endpoint, nothing to fail")
    };
    let typed_counters = cases().map(|(name, filter, context)| {
        let telemetry = pipeline(filter);
        let calls = telemetry.meter("bench").counter(&CALLS);
        bench.contestant_in(context, name, move |n, api, status| {
            let _ = &telemetry;
            calls.add(n, (api, status));
        })
    });
    let typed_histograms = cases().map(|(name, filter, context)| {
        let telemetry = pipeline(filter);
        let duration = telemetry.meter("bench").histogram(&DURATION);
        bench.contestant_in(context, name, move |n, api, status| {
            let _ = &telemetry;
            duration.record(seconds(n), (api, status));
        })
    });
    let open_counters = cases().map(|(name, filter, context)| {
        let telemetry = pipeline(filter);
        let calls = telemetry.meter("bench").u64_counter("bench.calls").build();
        bench.contestant_in(context, name, move |n, api, status| {
            let _ = &telemetry;
            calls.add(n, &[KeyValue::new("api", api.as_str()), KeyValue::new("status", status.as_str())]);
        })
    });
    let mut tables = String::new();
    for (name, contestants) in [
        ("typed counter, 2 attributes", typed_counters),
        ("typed histogram, 2 attributes", typed_histograms),
        ("OpenTelemetry counter, 2 attributes", open_counters),
    ] {
        tables += &format!("### Recording with exemplars: {name}\n\n{}\n", table.measure(contestants.into()));
    }
    tables
}

/// A pipeline that is scraped, and pushes as well if it is told how: to nobody, once an hour.
fn pipeline(pushed: Option<TemporalityPreference>) -> Telemetry {
    let builder = Telemetry::builder("bench").without_endpoint();
    let Some(temporality) = pushed else {
        return builder.start().expect("no endpoint, nothing to fail");
    };
    let mut exporter = OtlpMetricExporter::http("http://127.0.0.1:1");
    exporter.preferences.temporality = temporality;
    let reader = PeriodicMetricReader {
        interval: Duration::from_secs(3_600),
        ..PeriodicMetricReader::new(PushMetricExporter::OtlpHttp(exporter))
    };
    builder.with_reader(MetricReader::Periodic(reader)).start().expect("a port that exists")
}

/// A value for histograms.
fn seconds(n: u64) -> f64 {
    n as f64 * 0.3
}
