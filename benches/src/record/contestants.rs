//! Everybody who records, and how each of them does it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use barograph::{CounterSpec, MeterExt};
use barograph_instrumentation_metrics::MetricsRecorder;
use measured::CounterVec;
use measured::metric::histogram::Thresholds;
use metrics::{Counter, Histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::metrics::{ManualReader, SdkMeterProvider};
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts};
use prometheus_client::metrics::family::Family;

use super::bench::Bench;
use super::labels::{Api, Labels, LabelsSet, Status};
use super::{ACTIVE, CALLS, DURATION, pipeline, seconds};
use crate::table::Contestant;
use crate::workload::BOUNDS;

/// Where in the list of all the bare atomic stands.
pub(super) const FETCH_ADD: usize = 5;

/// Everybody, in the order of the table.
pub(super) fn all(bench: &Bench) -> Vec<Contestant<'_>> {
    [ours, atomics, opentelemetry, prometheus, prometheus_client, metrics, measured]
        .map(|of| of(bench))
        .into_iter()
        .flatten()
        .collect()
}

fn ours(bench: &Bench) -> Vec<Contestant<'_>> {
    let telemetry = pipeline(None);
    let meter = telemetry.meter("bench");
    let (calls, active, duration) = (meter.counter(&CALLS), meter.up_down_counter(&ACTIVE), meter.histogram(&DURATION));
    let in_flight = active.clone();
    let spec = |number| CounterSpec::new(format!("bench.others_{number}").leak(), "{call}", "Others.");
    let large: Vec<barograph::Counter<(Api, Status)>> = (0..230).map(|number| meter.counter(&spec(number))).collect();
    let far = meter.counter(&CounterSpec::<(Api, Status)>::new("bench.far", "{call}", "Calls, typed."));
    vec![
        bench.contestant("barograph, typed counter, 2 attributes", move |n, api, status| {
            // The pipeline runs as long as it is recorded to.
            let _ = &telemetry;
            calls.add(n, (api, status));
        }),
        bench.contestant("barograph, typed up-down counter, 2 attributes", move |n, api, status| {
            active.add(n.cast_signed(), (api, status));
        }),
        bench.contestant("barograph, guard of a typed up-down counter, made and dropped", move |_, api, status| {
            drop(in_flight.in_flight((api, status)));
        }),
        bench.contestant("barograph, typed counter in a program of more than 4,096 series", move |n, api, status| {
            let _ = &large;
            far.add(n, (api, status));
        }),
        bench.contestant("barograph, typed histogram, 2 attributes", move |n, api, status| {
            duration.record(seconds(n), (api, status));
        }),
    ]
}

/// Alone on its cache line.
#[derive(Default)]
#[repr(align(64))]
struct Padded(AtomicU64);

fn atomics(bench: &Bench) -> Vec<Contestant<'_>> {
    let name = if bench.has_one_series() {
        "`AtomicU64::fetch_add`"
    } else {
        "`AtomicU64::fetch_add`, each on a cache line of its own"
    };
    let padded = bench.contestant_by_handle(
        name,
        |_, _| Padded::default(),
        |atomic, n| _ = atomic.0.fetch_add(n, Ordering::Relaxed),
    );
    let packed = || {
        let name = "`AtomicU64::fetch_add`, 18 in a row";
        bench.contestant_by_handle(
            name,
            |_, _| AtomicU64::new(0),
            |atomic, n| _ = atomic.fetch_add(n, Ordering::Relaxed),
        )
    };
    [padded].into_iter().chain((!bench.has_one_series()).then(packed)).collect()
}

fn opentelemetry(bench: &Bench) -> Vec<Contestant<'_>> {
    let provider = SdkMeterProvider::builder().with_reader(ManualReader::builder().build()).build();
    let meter = provider.meter("bench");
    let counter = meter.u64_counter("bench.calls").build();
    let histogram = meter.f64_histogram("bench.duration").with_boundaries(BOUNDS.to_vec()).build();
    let attributes =
        |api: Api, status: Status| [KeyValue::new("api", api.as_str()), KeyValue::new("status", status.as_str())];
    let bound_counter = |api, status| counter.bind(&attributes(api, status));
    let bound_histogram = |api, status| histogram.bind(&attributes(api, status));
    vec![
        bench.contestant_by_handle("OpenTelemetry counter, bound", bound_counter, move |counter, n| {
            let _ = &provider;
            counter.add(n);
        }),
        bench.contestant_by_handle("OpenTelemetry histogram, bound", bound_histogram, |histogram, n| {
            histogram.record(seconds(n))
        }),
        bench.contestant("OpenTelemetry counter, 2 attributes", move |n, api, status| {
            counter.add(n, &attributes(api, status));
        }),
        bench.contestant("OpenTelemetry histogram, 2 attributes", move |n, api, status| {
            histogram.record(seconds(n), &attributes(api, status));
        }),
    ]
}

fn prometheus(bench: &Bench) -> Vec<Contestant<'_>> {
    let options = Opts::new("bench_calls_total", "Calls.");
    let counters = IntCounterVec::new(options, &["api", "status"]).expect("valid names");
    let options = HistogramOpts::new("bench_duration_seconds", "Durations.").buckets(BOUNDS.to_vec());
    let histograms = HistogramVec::new(options, &["api", "status"]).expect("valid names");
    let values = |api: Api, status: Status| [api.as_str(), status.as_str()];
    vec![
        bench.contestant_by_handle(
            "prometheus `IntCounter`",
            |api, status| counters.with_label_values(&values(api, status)),
            |counter, n| counter.inc_by(n),
        ),
        bench.contestant_by_handle(
            "prometheus `Histogram`",
            |api, status| histograms.with_label_values(&values(api, status)),
            |histogram, n| histogram.observe(seconds(n)),
        ),
        bench.contestant("prometheus `IntCounterVec`, 2 labels", move |n, api, status| {
            counters.with_label_values(&values(api, status)).inc_by(n);
        }),
    ]
}

fn prometheus_client(bench: &Bench) -> Vec<Contestant<'_>> {
    let family = Family::<Labels, prometheus_client::metrics::counter::Counter>::default();
    vec![
        bench.contestant_by_handle(
            "prometheus-client `Counter`",
            |_, _| prometheus_client::metrics::counter::Counter::<u64>::default(),
            |counter, n| _ = counter.inc_by(n),
        ),
        bench.contestant("prometheus-client `Family`, 2 labels", move |n, api, status| {
            family.get_or_create(&Labels { api, status }).inc_by(n);
        }),
        bench.contestant_by_handle(
            "prometheus-client `Histogram`",
            |_, _| prometheus_client::metrics::histogram::Histogram::new(BOUNDS),
            |histogram, n| histogram.observe(seconds(n)),
        ),
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
    let telemetry = pipeline(None);
    let recorder = Arc::new(MetricsRecorder::new(telemetry.meter_provider()));
    let counter = |api: Api, status: Status| metrics::counter!("bench_bound_calls_total", "api" => api.as_str(), "status" => status.as_str());
    let histogram = |api: Api, status: Status| metrics::histogram!("bench_duration_seconds", "api" => api.as_str(), "status" => status.as_str());
    let bridged_counter = |api, status| metrics::with_local_recorder(&recorder, || counter(api, status));
    let bridged_histogram = |api, status| metrics::with_local_recorder(&recorder, || histogram(api, status));
    let call = |n: u64, api: Api, status: Status| {
        metrics::counter!("bench_calls_total", "api" => api.as_str(), "status" => status.as_str()).increment(n);
    };
    let count = |counter: &Counter, n| counter.increment(n);
    let measure = |histogram: &Histogram, n| histogram.record(seconds(n));
    vec![
        bench.contestant_by_handle("metrics counter on barograph, handle", bridged_counter, move |counter, n| {
            let _ = &telemetry;
            count(counter, n);
        }),
        bench.contestant_by_handle("metrics histogram on barograph, handle", bridged_histogram, measure),
        // A local recorder is looked up like a global one.
        bench.contestant_on(Arc::clone(&recorder), "metrics counter on barograph, macro, 2 labels", call),
        bench.contestant_by_handle("metrics counter, handle", counter, count),
        bench.contestant("metrics counter, macro, 2 labels", call),
        // It only stores the value: sorting into buckets is left to the upkeep, which is not counted here.
        bench
            .contestant_by_handle("metrics histogram, handle, without upkeep", histogram, measure)
            .followed_by(|| upkeep.run_upkeep()),
    ]
}

fn measured(bench: &Bench) -> Vec<Contestant<'_>> {
    let counters = CounterVec::<LabelsSet>::dense();
    let thresholds = Thresholds::with_buckets(BOUNDS);
    let histograms = measured::HistogramVec::<LabelsSet, { BOUNDS.len() }>::dense_with_metadata(thresholds);
    vec![
        bench.contestant("measured counter, dense, 2 labels", move |n, api, status| {
            counters.inc_by(Labels { api, status }, n);
        }),
        bench.contestant("measured histogram, dense, 2 labels", move |n, api, status| {
            histograms.observe(Labels { api, status }, seconds(n));
        }),
    ]
}
