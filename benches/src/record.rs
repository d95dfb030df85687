//! What recording costs: nanoseconds of one operation, on one or more threads that all record into the same series.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use barograph::config::{
    ExemplarFilter, MetricReader, OtlpMetricExporter, PeriodicMetricReader, PushMetricExporter, TemporalityPreference,
};
use barograph::{
    Attribute, CounterSpec, HistogramSpec, MeterExt, OperationSpec, Telemetry, UpDownCounterSpec, attribute, buckets,
};
use barograph_instrumentation_metrics::MetricsRecorder;
use measured::label::{LabelValue, LabelVisitor};
use measured::metric::histogram::Thresholds;
use measured::{CounterVec, FixedCardinalityLabel, HistogramVec, LabelGroup};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use opentelemetry::metrics::MeterProvider;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use opentelemetry::{Context, KeyValue};
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

/// The same three metrics, as an operation and by hand.
const OPERATION: OperationSpec<Ended> = OperationSpec { calls: ENDED, duration: TOOK, active: ACTIVE };
const ENDED: CounterSpec<Ended> = CounterSpec::new("bench.operation.calls", "{call}", "Calls.");
const TOOK: HistogramSpec<Ended> =
    HistogramSpec::new("bench.operation.duration", "s", "Durations.").buckets(buckets::SECONDS);
const ACTIVE: UpDownCounterSpec = UpDownCounterSpec::new("bench.operation.active_calls", "{call}", "Calls.");

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

/// What measuring a function costs that does nothing, as an operation, and with the same metrics by hand.
pub(crate) fn measure_operations(threads: usize) -> String {
    let inputs = black_box(vec![(1_u64, Api::DeepSeek, Status::Success); BATCH]);
    let bench = Bench { threads, inputs };
    let table =
        Table { rounds: ROUNDS, per_round: OPERATIONS / threads, unit: ("ns", 1e9), references: &[("by hand", 0)] };
    let telemetry = pipeline(None);
    let meter = telemetry.meter("bench");
    let operation = meter.operation(&OPERATION);
    let (calls, duration, active) = (meter.counter(&ENDED), meter.histogram(&TOOK), meter.up_down_counter(&ACTIVE));
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
    let inputs = black_box(vec![(1_u64, Api::DeepSeek, Status::Success); BATCH]);
    let bench = Bench { threads: 1, inputs };
    let table = Table { rounds: ROUNDS, per_round: OPERATIONS, unit: ("ns", 1e9), references: &[("off", 0)] };
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
        self.contestant_in(Context::new(), name, operation)
    }

    /// Records where this is the current context.
    fn contestant_in<'a>(
        &'a self,
        context: Context,
        name: &'static str,
        operation: impl Fn(u64, Api, Status) + Sync + 'a,
    ) -> Contestant<'a> {
        Contestant::new(name, None, move || self.time(&context, &operation))
    }

    /// Each thread has the recorder for its own.
    fn contestant_on<'a>(
        &'a self,
        recorder: Arc<MetricsRecorder>,
        name: &'static str,
        operation: impl Fn(u64, Api, Status) + Sync + 'a,
    ) -> Contestant<'a> {
        Contestant::new(name, None, move || {
            self.time_within(|work| metrics::with_local_recorder(&recorder, work), &operation)
        })
    }

    /// From the first thread's start to the last one's end. Starting the threads is not counted.
    fn time(&self, context: &Context, operation: impl Fn(u64, Api, Status) + Sync) -> Duration {
        let within = |work: &mut dyn FnMut()| {
            let _current = context.clone().attach();
            work();
        };
        self.time_within(within, operation)
    }

    fn time_within(
        &self,
        surround: impl Fn(&mut dyn FnMut()) + Sync,
        operation: impl Fn(u64, Api, Status) + Sync,
    ) -> Duration {
        let barrier = Barrier::new(self.threads);
        let work = || {
            let mut times = None;
            surround(&mut || {
                barrier.wait();
                let start = Instant::now();
                repeat(OPERATIONS / BATCH / self.threads, &self.inputs, &operation);
                times = Some((start, Instant::now()));
            });
            times.expect("it was called")
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
    let telemetry = pipeline(None);
    let recorder = Arc::new(MetricsRecorder::new(telemetry.meter_provider()));
    let (bridged_counter, bridged_histogram) = metrics::with_local_recorder(&recorder, || {
        (metrics::counter!("bench_bound_calls_total"), metrics::histogram!("bench_duration_seconds"))
    });
    vec![
        bench.contestant("metrics counter on barograph, handle", move |n, _, _| {
            let _ = &telemetry;
            bridged_counter.increment(n);
        }),
        // A local recorder is looked up like a global one.
        bench.contestant_on(recorder, "metrics counter on barograph, macro, 2 labels", |n, api, status| {
            metrics::counter!("bench_calls_total", "api" => api.as_str(), "status" => status.as_str()).increment(n);
        }),
        bench.contestant("metrics histogram on barograph, handle", move |n, _, _| bridged_histogram.record(seconds(n))),
        bench.contestant("metrics counter, handle", move |n, _, _| counter.increment(n)),
        bench.contestant("metrics counter, macro, 2 labels", |n, api, status| {
            metrics::counter!("bench_calls_total", "api" => api.as_str(), "status" => status.as_str()).increment(n);
        }),
        // It only stores the value: sorting into buckets is left to the upkeep, which is not counted here.
        Contestant::new("metrics histogram, handle, without upkeep", None, move || {
            let time = bench.time(&Context::new(), |n, _, _| histogram.record(seconds(n)));
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
