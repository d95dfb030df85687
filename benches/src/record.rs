//! What recording costs: nanoseconds of one operation, on one or more threads that all record into the same series.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Barrier, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use barograph::config::{
    MetricReader, OtlpMetricExporter, PeriodicMetricReader, PushMetricExporter, TemporalityPreference,
};
use barograph::{CounterSpec, HistogramSpec, MeterExt, Telemetry, attribute, buckets};
use measured::label::{LabelValue, LabelVisitor};
use measured::metric::histogram::Thresholds;
use measured::{CounterVec, FixedCardinalityLabel, HistogramVec, LabelGroup};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::metrics::{ManualReader, SdkMeterProvider};
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::family::Family;

use crate::table::{Contestant, Table};
use crate::workload::BOUNDS;

attribute! {
    /// Which API was called.
    #[derive(EncodeLabelValue)]
    pub(crate) enum Api: "api" { DeepSeek = "deepseek", Perplexity = "perplexity", Other = "other" }
}
attribute! {
    /// How a call ended.
    #[derive(EncodeLabelValue)]
    pub(crate) enum Status: "status" { Success = "success", Error = "error", Timeout = "timeout", RateLimited = "rate_limited" }
}

/// What measured's derive would write, were it to work inside our macro.
macro_rules! measured_label {
    ($($name:ident),+) => {$(
        impl LabelValue for $name {
            fn visit<V: LabelVisitor>(&self, visitor: V) -> V::Output {
                visitor.write_str(self.as_str())
            }
        }

        impl FixedCardinalityLabel for $name {
            fn cardinality() -> usize {
                Self::ALL.len()
            }

            fn encode(&self) -> usize {
                *self as usize
            }

            fn decode(index: usize) -> Self {
                Self::ALL[index]
            }
        }
    )+};
}
measured_label!(Api, Status);

/// Both, as measured and prometheus-client want them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, LabelGroup, EncodeLabelSet)]
#[label(set = LabelsSet)]
struct Labels {
    api: Api,
    status: Status,
}

const CALLS: CounterSpec<(Api, Status)> = CounterSpec::new("bench.calls", "{call}", "Calls, typed.");
const DURATION: HistogramSpec<(Api, Status)> =
    HistogramSpec::new("bench.duration", "s", "Durations, typed.").buckets(buckets::SECONDS);

/// The operations of a round, shared out among the threads.
const OPERATIONS: usize = 1_000 * BATCH;
const BATCH: usize = 1_000;
const ROUNDS: usize = 21;

pub(crate) fn measure(threads: usize) -> String {
    // What is recorded comes from outside, as it does in a program; every contestant reads it from the same list.
    let inputs = black_box(vec![(1_u64, Api::DeepSeek, Status::Success); BATCH]);
    let bench = Bench { threads, inputs };
    let mut contestants = ours(&bench);
    contestants.extend(opentelemetry(&bench));
    contestants.extend(prometheus(&bench));
    contestants.extend(prometheus_client(&bench));
    contestants.extend(metrics(&bench));
    contestants.extend(measured(&bench));
    let table = Table {
        rounds: ROUNDS,
        per_round: OPERATIONS / threads,
        unit: ("ns", 1e9),
        references: &[("ours", 0), ("fetch_add", 1)],
    };
    format!("### Recording, threads: {threads}\n\n{}", table.measure(contestants))
}

/// What a record costs a program that is scraped, and one that is pushed from as well.
pub(crate) fn measure_readers() -> String {
    let inputs = black_box(vec![(1_u64, Api::DeepSeek, Status::Success); BATCH]);
    let bench = Bench { threads: 1, inputs };
    let table = Table { rounds: ROUNDS, per_round: OPERATIONS, unit: ("ns", 1e9), references: &[("scraped alone", 0)] };
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

/// The operation on `inputs`, by each of `threads`.
struct Bench {
    threads: usize,
    inputs: Vec<(u64, Api, Status)>,
}

impl Bench {
    fn contestant<'a>(
        &'a self,
        name: &'static str,
        operation: impl Fn(u64, Api, Status) + Sync + 'a,
    ) -> Contestant<'a> {
        Contestant::new(name, None, move || self.time(&operation))
    }

    /// From the first thread's start to the last one's end. Starting the threads is not counted.
    fn time(&self, operation: impl Fn(u64, Api, Status) + Sync) -> Duration {
        let barrier = Barrier::new(self.threads);
        let work = || {
            barrier.wait();
            let start = Instant::now();
            repeat(OPERATIONS / BATCH / self.threads, &self.inputs, &operation);
            (start, Instant::now())
        };
        let times: Vec<(Instant, Instant)> = thread::scope(|scope| {
            let threads: Vec<_> = (0..self.threads).map(|_| scope.spawn(work)).collect();
            threads.into_iter().map(|thread| thread.join().expect("nothing panics")).collect()
        });
        let start = times.iter().map(|(start, _)| *start).min().expect("a thread");
        let end = times.iter().map(|(_, end)| *end).max().expect("a thread");
        end - start
    }
}

/// A function of its own, as in a program: the compiler sees that what it is given does not change.
#[inline(never)]
fn repeat(batches: usize, inputs: &[(u64, Api, Status)], operation: &impl Fn(u64, Api, Status)) {
    for _ in 0..batches {
        for &(n, api, status) in inputs {
            operation(n, api, status);
        }
    }
}

/// A value for histograms.
fn seconds(n: u64) -> f64 {
    n as f64 * 0.3
}

fn ours(bench: &Bench) -> Vec<Contestant<'_>> {
    let telemetry = Telemetry::builder("bench").without_endpoint().start().expect("no endpoint, nothing to fail");
    let meter = telemetry.meter("bench");
    let (calls, duration) = (meter.counter(&CALLS), meter.histogram(&DURATION));
    let atomic = AtomicU64::new(0);
    vec![
        bench.contestant("barograph, typed counter, 2 attributes", move |n, api, status| {
            // The pipeline runs as long as it is recorded to.
            let _ = &telemetry;
            calls.add(n, (api, status));
        }),
        bench.contestant("`AtomicU64::fetch_add`", move |n, _, _| _ = atomic.fetch_add(n, Ordering::Relaxed)),
        bench.contestant("barograph, typed histogram, 2 attributes", move |n, api, status| {
            duration.record(seconds(n), (api, status));
        }),
    ]
}

fn opentelemetry(bench: &Bench) -> Vec<Contestant<'_>> {
    let provider = SdkMeterProvider::builder().with_reader(ManualReader::builder().build()).build();
    let meter = provider.meter("bench");
    let counter = meter.u64_counter("bench.calls").build();
    let histogram = meter.f64_histogram("bench.duration").with_boundaries(BOUNDS.to_vec()).build();
    let attributes =
        |api: Api, status: Status| [KeyValue::new("api", api.as_str()), KeyValue::new("status", status.as_str())];
    let bound_counter = counter.bind(&attributes(Api::DeepSeek, Status::Success));
    let bound_histogram = histogram.bind(&attributes(Api::DeepSeek, Status::Success));
    vec![
        bench.contestant("OpenTelemetry counter, bound", move |n, _, _| {
            let _ = &provider;
            bound_counter.add(n);
        }),
        bench.contestant("OpenTelemetry counter, 2 attributes", move |n, api, status| {
            counter.add(n, &attributes(api, status));
        }),
        bench.contestant("OpenTelemetry histogram, bound", move |n, _, _| bound_histogram.record(seconds(n))),
        bench.contestant("OpenTelemetry histogram, 2 attributes", move |n, api, status| {
            histogram.record(seconds(n), &attributes(api, status));
        }),
    ]
}

fn prometheus(bench: &Bench) -> Vec<Contestant<'_>> {
    let options = Opts::new("bench_calls_total", "Calls.");
    let counters = IntCounterVec::new(options, &["api", "status"]).expect("valid names");
    let counter = IntCounter::new("bench_bound_calls_total", "Calls.").expect("a valid name");
    let options = HistogramOpts::new("bench_duration_seconds", "Durations.").buckets(BOUNDS.to_vec());
    let histogram = Histogram::with_opts(options).expect("a valid name");
    vec![
        bench.contestant("prometheus `IntCounter`", move |n, _, _| counter.inc_by(n)),
        bench.contestant("prometheus `IntCounterVec`, 2 labels", move |n, api, status| {
            counters.with_label_values(&[api.as_str(), status.as_str()]).inc_by(n);
        }),
        bench.contestant("prometheus `Histogram`", move |n, _, _| histogram.observe(seconds(n))),
    ]
}

fn prometheus_client(bench: &Bench) -> Vec<Contestant<'_>> {
    let counter = prometheus_client::metrics::counter::Counter::<u64>::default();
    let family = Family::<Labels, prometheus_client::metrics::counter::Counter>::default();
    let histogram = prometheus_client::metrics::histogram::Histogram::new(BOUNDS);
    vec![
        bench.contestant("prometheus-client `Counter`", move |n, _, _| _ = counter.inc_by(n)),
        bench.contestant("prometheus-client `Family`, 2 labels", move |n, api, status| {
            family.get_or_create(&Labels { api, status }).inc_by(n);
        }),
        bench.contestant("prometheus-client `Histogram`", move |n, _, _| histogram.observe(seconds(n))),
    ]
}

/// The macro asks for the global recorder each time, so there is one for all measurements.
static METRICS: LazyLock<PrometheusHandle> = LazyLock::new(|| {
    let recorder = PrometheusBuilder::new().set_buckets(&BOUNDS).expect("there are buckets").build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).expect("the first one");
    handle
});

fn metrics(bench: &Bench) -> Vec<Contestant<'_>> {
    let upkeep = &*METRICS;
    let counter = metrics::counter!("bench_bound_calls_total");
    let histogram = metrics::histogram!("bench_duration_seconds");
    vec![
        bench.contestant("metrics counter, handle", move |n, _, _| counter.increment(n)),
        bench.contestant("metrics counter, macro, 2 labels", |n, api, status| {
            metrics::counter!("bench_calls_total", "api" => api.as_str(), "status" => status.as_str()).increment(n);
        }),
        // It only stores the value: sorting into buckets is left to the upkeep, which is not counted here.
        Contestant::new("metrics histogram, handle, without upkeep", None, move || {
            let time = bench.time(|n, _, _| histogram.record(seconds(n)));
            upkeep.run_upkeep();
            time
        }),
    ]
}

fn measured(bench: &Bench) -> Vec<Contestant<'_>> {
    let counters = CounterVec::<LabelsSet>::dense();
    let histograms = HistogramVec::<LabelsSet, { BOUNDS.len() }>::dense_with_metadata(Thresholds::with_buckets(BOUNDS));
    vec![
        bench.contestant("measured counter, dense, 2 labels", move |n, api, status| {
            counters.inc_by(Labels { api, status }, n);
        }),
        bench.contestant("measured histogram, dense, 2 labels", move |n, api, status| {
            histograms.observe(Labels { api, status }, seconds(n));
        }),
    ]
}
