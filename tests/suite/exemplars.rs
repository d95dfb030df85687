//! Exemplars: which measurements become some, and where they are shown.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use barograph::config::ExemplarFilter;
use barograph::opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer, TracerProvider,
};
use barograph::opentelemetry::{Context, KeyValue};
use barograph::{CounterSpec, HistogramSpec, MeterExt, Telemetry, TelemetryBuilder, View, attribute};
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};

use crate::parser::{self, Exemplar, Format, Point, Value};
use crate::support::{builder, request_with, without_panic_messages};

attribute! { enum Status: "status" { Done = "done", Failed = "failed" } }
const JOBS: CounterSpec<Status> = CounterSpec::new("jobs", "{job}", "Jobs.");
const LATENCY: HistogramSpec<Status> = HistogramSpec::new("latency", "s", "Time.").buckets(&[0.5, 1.0, 2.0]);

const WITH_EXEMPLARS: [(Format, &str); 2] = [
    (Format::OpenMetrics, "application/openmetrics-text;version=1.0.0"),
    (Format::Protobuf, "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"),
];

fn start(builder: TelemetryBuilder) -> Telemetry {
    builder.with_address("127.0.0.1:0").without_target_info().without_scope_info().start().unwrap()
}

/// The page in this format, read strictly.
fn read(telemetry: &Telemetry, (format, accept): (Format, &str)) -> Vec<parser::Family> {
    let answer = request_with(telemetry.local_addr().unwrap(), "GET", "/metrics", &[("Accept", accept)]);
    parser::parse(format, &answer.bytes).unwrap_or_else(|error| panic!("{error}\n{}", answer.body))
}

/// The points of one family.
fn points(telemetry: &Telemetry, format: (Format, &str), family: &str) -> Vec<Point> {
    let families = read(telemetry, format);
    families.into_iter().find(|found| found.name == family).map(|found| found.points).unwrap_or_default()
}

/// The exemplars of one family, each with its bucket's bound; they must be the same in all formats that have any.
fn exemplars(telemetry: &Telemetry, family: &str) -> Vec<(f64, Exemplar)> {
    let [open_metrics, protobuf] = WITH_EXEMPLARS.map(|format| {
        let points = points(telemetry, format, family);
        points.into_iter().flat_map(|point| point.exemplars).collect::<Vec<_>>()
    });
    let same = |((a_bound, a), (b_bound, b)): (&(f64, Exemplar), &(f64, Exemplar))| {
        // Text has times to the millisecond.
        a_bound == b_bound && a.labels == b.labels && a.value == b.value && (b.time - a.time).abs() < 0.002
    };
    assert_eq!(open_metrics.len(), protobuf.len());
    assert!(open_metrics.iter().zip(&protobuf).all(same), "{open_metrics:?}\n{protobuf:?}");
    open_metrics
}

/// Runs it inside a span of the SDK's tracer. Returns the ids of the span as an exemplar's labels.
fn in_span(sampler: Sampler, work: impl FnOnce()) -> Vec<(String, String)> {
    let provider = SdkTracerProvider::builder().with_sampler(sampler).build();
    provider.tracer("suite").in_span("work", |context| {
        work();
        let span = context.span();
        let span = span.span_context();
        vec![("trace_id".to_owned(), span.trace_id().to_string()), ("span_id".to_owned(), span.span_id().to_string())]
    })
}

fn sampled(work: impl FnOnce()) -> Vec<(String, String)> {
    in_span(Sampler::AlwaysOn, work)
}

/// Runs it inside a span of another process.
fn in_remote_span(flags: TraceFlags, work: impl FnOnce()) {
    let span = SpanContext::new(TraceId::from(7), SpanId::from(9), flags, true, TraceState::NONE);
    let _attached = Context::new().with_remote_span_context(span).attach();
    work();
}

fn with(labels: &[(String, String)], more: &[(&str, &str)]) -> Vec<(String, String)> {
    let more = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    labels.iter().cloned().chain(more).collect()
}

#[test]
fn a_counter_that_counts_without_end_still_leads_to_the_spans_of_now() {
    let telemetry = start(builder());
    let jobs = telemetry.meter("m").counter(&JOBS);
    for _ in 0..3 {
        // Before anybody collects, many adds outside of any span; then a span with as many as one of which looks.
        (0..10_000).for_each(|_| jobs.add(1, Status::Done));
        let span = sampled(|| (0..64).for_each(|_| jobs.add(1, Status::Done)));
        assert_eq!(labels_of(&telemetry, "jobs_total"), [span]);
        // Somebody has collected: the first add looks again.
        let span = sampled(|| jobs.add(1, Status::Done));
        assert_eq!(labels_of(&telemetry, "jobs_total"), [span]);
    }
}

fn labels_of(telemetry: &Telemetry, family: &str) -> Vec<Vec<(String, String)>> {
    exemplars(telemetry, family).into_iter().map(|(_, exemplar)| exemplar.labels).collect()
}

#[test]
fn the_last_of_a_typed_counter_is_shown_with_the_ids_of_its_span_and_its_time() {
    let telemetry = start(builder());
    let jobs = telemetry.meter("m").counter(&JOBS);
    let before = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    sampled(|| jobs.add(1, Status::Done));
    let ids = sampled(|| jobs.add(5, Status::Done));
    jobs.add(100, Status::Done);
    let [(_, exemplar)] = exemplars(&telemetry, "jobs_total").try_into().unwrap();
    assert_eq!((exemplar.labels, exemplar.value), (ids.clone(), 5.0));
    assert!(exemplar.time > before - 0.002 && exemplar.time < before + 60.0, "{}", exemplar.time);
    let points = points(&telemetry, WITH_EXEMPLARS[0], "jobs_total");
    let done = points.iter().find(|point| point.label("status") == Some("done")).unwrap();
    assert!(matches!(&done.value, Value::Number(number) if number.value == 106.0), "{done:?}");
    assert_eq!(done.exemplars.len(), 1, "and the other series has none");

    // The format of the first scrapers has no place for them.
    let page = telemetry.scrape().unwrap();
    assert!(!page.contains(&ids[0].1) && !page.contains(" # "), "{page}");
}

#[test]
fn each_bucket_of_a_typed_histogram_keeps_its_last_the_infinite_one_too() {
    let telemetry = start(builder());
    let latency = telemetry.meter("m").histogram(&LATENCY);
    let ids = [0.5, 0.7, 0.6, 100.0].map(|value| sampled(|| latency.record(value, Status::Done)));
    latency.record(1.5, Status::Done);
    let shown = exemplars(&telemetry, "latency_seconds");
    let shown: Vec<_> = shown.into_iter().map(|(bound, exemplar)| (bound, exemplar.value, exemplar.labels)).collect();
    let [half, _, last, large] = ids;
    assert_eq!(shown, [(0.5, 0.5, half), (1.0, 0.6, last), (f64::INFINITY, 100.0, large)]);
}

#[test]
fn instruments_of_opentelemetry_itself_have_them_bound_or_not() {
    let telemetry = start(builder());
    let meter = telemetry.meter("m");
    let pairs = [KeyValue::new("k", "v")];
    let (u64s, f64s) = (meter.u64_counter("u").build(), meter.f64_counter("f").build());
    let (timed, sized) = (
        meter.f64_histogram("timed").with_boundaries(vec![1.0]).build(),
        meter.u64_histogram("sized").with_boundaries(vec![10.0]).build(),
    );
    let bound = (u64s.bind(&[KeyValue::new("k", "bound")]), timed.bind(&[KeyValue::new("k", "bound")]));
    let ids = sampled(|| {
        u64s.add(2, &pairs);
        f64s.add(1.5, &pairs);
        timed.record(0.25, &pairs);
        sized.record(11, &pairs);
        bound.0.add(3);
        bound.1.record(1.25);
    });
    let shown = |family| {
        let all = exemplars(&telemetry, family).into_iter();
        all.map(|(bound, exemplar)| {
            assert_eq!(exemplar.labels, ids);
            (bound, exemplar.value)
        })
        .collect::<Vec<_>>()
    };
    let infinite = f64::INFINITY;
    assert_eq!(shown("u_total"), [(infinite, 3.0), (infinite, 2.0)]);
    assert_eq!(shown("f_total"), [(infinite, 1.5)]);
    assert_eq!(shown("timed"), [(infinite, 1.25), (1.0, 0.25)]);
    assert_eq!(shown("sized"), [(infinite, 11.0)]);
}

#[test]
fn what_is_not_recorded_in_a_sampled_span_is_no_exemplar() {
    let telemetry = start(builder());
    let jobs = telemetry.meter("m").counter(&JOBS);
    let latency = telemetry.meter("m").histogram(&LATENCY);
    let record = || {
        jobs.add(1, Status::Done);
        latency.record(1.0, Status::Done);
    };
    record();
    in_span(Sampler::AlwaysOff, record);
    in_remote_span(TraceFlags::NOT_SAMPLED, record);
    sampled(|| {
        let _suppressed = Context::enter_telemetry_suppressed_scope();
        record();
    });
    assert!(exemplars(&telemetry, "jobs_total").is_empty());
    assert!(exemplars(&telemetry, "latency_seconds").is_empty());
    // A number that is none is not recorded, so it stands for nothing.
    sampled(|| latency.record(f64::NAN, Status::Done));
    assert!(exemplars(&telemetry, "latency_seconds").is_empty());

    in_remote_span(TraceFlags::SAMPLED, record);
    let [(_, exemplar)] = exemplars(&telemetry, "jobs_total").try_into().unwrap();
    let ids = [("trace_id", "00000000000000000000000000000007"), ("span_id", "0000000000000009")];
    assert_eq!(exemplar.labels, with(&[], &ids));
}

#[test]
fn what_goes_up_and_down_or_has_only_a_last_value_has_none() {
    let telemetry = start(builder().with_exemplar_filter(ExemplarFilter::AlwaysOn));
    let meter = telemetry.meter("m");
    meter.i64_up_down_counter("open").build().add(3, &[]);
    meter.f64_gauge("level").build().record(1.0, &[]);
    for format in WITH_EXEMPLARS {
        let families = read(&telemetry, format);
        assert!(families.iter().flat_map(|family| &family.points).all(|point| point.exemplars.is_empty()));
    }
}

#[test]
fn always_on_takes_what_has_no_span_and_always_off_takes_nothing() {
    let record = |telemetry: &Telemetry| {
        let (jobs, latency) = (telemetry.meter("m").counter(&JOBS), telemetry.meter("m").histogram(&LATENCY));
        jobs.add(4, Status::Done);
        latency.record(0.75, Status::Done);
        telemetry.meter("m").u64_counter("plain").build().add(2, &[]);
    };
    let telemetry = start(builder().with_exemplar_filter(ExemplarFilter::AlwaysOn));
    record(&telemetry);
    for (family, value) in [("jobs_total", 4.0), ("latency_seconds", 0.75), ("plain_total", 2.0)] {
        let [(_, exemplar)] = exemplars(&telemetry, family).try_into().unwrap();
        assert_eq!((exemplar.labels, exemplar.value), (vec![], value));
    }
    let answer = request_with(telemetry.local_addr().unwrap(), "GET", "/metrics", &[("Accept", WITH_EXEMPLARS[0].1)]);
    assert!(answer.body.contains("plain_total 2 # {} 2 "), "{}", answer.body);
    // Adding up for a collection is nobody's measurement.
    let ids = in_span(Sampler::AlwaysOff, || drop(telemetry.scrape().unwrap()));
    assert_eq!(exemplars(&telemetry, "jobs_total").len(), 1);
    let unsampled = in_span(Sampler::AlwaysOff, || record(&telemetry));
    let [(_, exemplar)] = exemplars(&telemetry, "jobs_total").try_into().unwrap();
    assert_eq!(exemplar.labels, unsampled, "where it was made is said all the same");
    assert_ne!(unsampled, ids);

    let telemetry = start(builder().with_exemplar_filter(ExemplarFilter::AlwaysOff));
    sampled(|| record(&telemetry));
    assert!(exemplars(&telemetry, "jobs_total").is_empty() && exemplars(&telemetry, "latency_seconds").is_empty());
    let setting = telemetry
        .configuration()
        .settings()
        .into_iter()
        .find(|setting| setting.path == "meter_provider.exemplar_filter");
    assert_eq!(setting.unwrap().to_string(), "meter_provider.exemplar_filter: always_off (code)");
}

#[test]
fn a_renamed_stream_has_them_under_its_name_and_a_dropped_one_nowhere() {
    let views = builder()
        .with_view(View::of("jobs").with_name("work"))
        .with_view(View::of("jobs").with_name("more.work"))
        .with_view(View::of("latency").dropped());
    let telemetry = start(views);
    let ids = sampled(|| {
        telemetry.meter("m").counter(&JOBS).add(1, Status::Failed);
        telemetry.meter("m").histogram(&LATENCY).record(1.0, Status::Done);
    });
    for family in ["work_total", "more_work_total"] {
        let [(_, exemplar)] = exemplars(&telemetry, family).try_into().unwrap();
        assert_eq!(exemplar.labels, ids, "{family}");
    }
    assert_eq!(read(&telemetry, WITH_EXEMPLARS[0]).len(), 2);
}

#[test]
fn what_a_view_leaves_out_is_said_by_the_exemplar_and_the_last_of_the_series_that_became_one_wins() {
    // By a list of keys, which the SDK is told, and by a pattern, which the guard sees to.
    for view in [View::of("*").with_attributes(["kept"]), View::of("*").without_attributes(["left.*"])] {
        let telemetry = start(builder().with_view(view));
        let meter = telemetry.meter("m");
        let (counter, histogram) =
            (meter.u64_counter("c").build(), meter.f64_histogram("h").with_boundaries(vec![1.0]).build());
        let pairs = |left: &'static str| [KeyValue::new("left.out", left), KeyValue::new("kept", "k")];
        sampled(|| {
            counter.add(1, &pairs("first"));
            histogram.record(0.5, &pairs("first"));
        });
        let ids = sampled(|| {
            counter.bind(&pairs("second")).add(2);
            histogram.record(0.75, &pairs("second"));
        });
        for (family, value) in [("c_total", 2.0), ("h", 0.75)] {
            let [(_, exemplar)] = exemplars(&telemetry, family).try_into().unwrap();
            assert_eq!((exemplar.value, exemplar.labels), (value, with(&ids, &[("left_out", "second")])), "{family}");
        }
    }
    // A typed instrument's are known beforehand.
    let telemetry = start(builder().with_view(View::of("*").without_attributes(["status"])));
    let ids = sampled(|| {
        telemetry.meter("m").counter(&JOBS).add(1, Status::Failed);
        telemetry.meter("m").histogram(&LATENCY).record(0.1, Status::Failed);
    });
    for family in ["jobs_total", "latency_seconds"] {
        let [(_, exemplar)] = exemplars(&telemetry, family).try_into().unwrap();
        assert_eq!(exemplar.labels, with(&ids, &[("status", "failed")]), "{family}");
    }
}

#[test]
fn attributes_that_make_an_exemplar_too_long_are_left_off_and_the_ids_never() {
    // The ids have 63 characters with their names.
    for (length, fits) in [(64, true), (65, false)] {
        let telemetry = start(builder().with_view(View::of("*").with_attributes(["kept"])));
        let ids = sampled(|| {
            let pairs = [KeyValue::new("x", "é".repeat(length)), KeyValue::new("trace_id", "mine")];
            telemetry.meter("m").u64_counter("c").build().add(1, &pairs);
        });
        let [(_, exemplar)] = exemplars(&telemetry, "c_total").try_into().unwrap();
        assert_eq!(exemplar.labels[..2], ids[..]);
        assert_eq!(exemplar.label("x").is_some(), fits, "{length}");
        assert_eq!(exemplar.labels.len(), if fits { 3 } else { 2 }, "nothing else poses as an id");
    }
}

#[test]
fn other_buckets_have_the_exemplars_whose_values_lie_in_them() {
    let telemetry = start(builder().with_view(View::of("latency").with_buckets(vec![0.1, 10.0])));
    let latency = telemetry.meter("m").histogram(&LATENCY);
    sampled(|| latency.record(0.05, Status::Done));
    let ids = [0.7, 1.5].map(|value| sampled(|| latency.record(value, Status::Done)));
    let shown = exemplars(&telemetry, "latency_seconds");
    let shown: Vec<_> = shown.into_iter().map(|(bound, exemplar)| (bound, exemplar.value)).collect();
    assert_eq!(shown, [(0.1, 0.05), (10.0, 1.5)], "of two the later one: {ids:?}");
}

#[test]
fn a_native_histogram_lists_them_with_their_times_and_as_text_they_are_in_its_buckets() {
    let telemetry = start(builder().with_view(View::of("latency").with_exponential_buckets(160)));
    let latency = telemetry.meter("m").histogram(&LATENCY);
    let ids = [0.3, 1.5, 40.0].map(|value| sampled(|| latency.record(value, Status::Done)));
    let [open_metrics, protobuf] = WITH_EXEMPLARS.map(|format| {
        let points = points(&telemetry, format, "latency_seconds");
        points.into_iter().find(|point| point.label("status") == Some("done")).unwrap()
    });
    assert!(matches!(protobuf.value, Value::Native(_)));
    for exemplars in [open_metrics.exemplars, protobuf.exemplars] {
        let shown: Vec<_> = exemplars.into_iter().map(|(_, exemplar)| (exemplar.value, exemplar.labels)).collect();
        assert_eq!(shown, [0.3, 1.5, 40.0].into_iter().zip(ids.clone()).collect::<Vec<_>>());
    }
}

#[test]
fn meters_and_units_do_not_take_each_others() {
    let telemetry = builder().with_address("127.0.0.1:0").without_target_info().start().unwrap();
    let one = telemetry.meter("one").u64_counter("same").build();
    let other = telemetry.meter("other").u64_counter("same").build();
    other.add(1, &[]);
    sampled(|| one.add(1, &[]));
    let points = points(&telemetry, WITH_EXEMPLARS[0], "same_total");
    let of = |scope| points.iter().find(|point| point.label("otel_scope_name") == Some(scope)).unwrap().exemplars.len();
    assert_eq!((of("one"), of("other")), (1, 0));
}

#[test]
fn an_exemplar_outlives_its_handle_and_is_shared_by_handles_of_one_instrument() {
    let telemetry = start(builder());
    let ids = sampled(|| telemetry.meter("m").counter(&JOBS).add(3, Status::Done));
    let again = telemetry.meter("m").counter(&JOBS);
    let [(_, exemplar)] = exemplars(&telemetry, "jobs_total").try_into().unwrap();
    assert_eq!(exemplar.labels, ids);
    let later = sampled(|| again.add(4, Status::Done));
    let [(_, exemplar)] = exemplars(&telemetry, "jobs_total").try_into().unwrap();
    assert_eq!((exemplar.labels, exemplar.value), (later, 4.0));
    // What the last handle has counted is moved by whoever collects next, which is nobody's measurement.
    drop(again);
    in_remote_span(TraceFlags::SAMPLED, || _ = telemetry.scrape().unwrap());
    let [(_, exemplar)] = exemplars(&telemetry, "jobs_total").try_into().unwrap();
    assert_eq!(exemplar.value, 4.0);
}

#[test]
fn timers_and_instruments_with_open_attributes_have_them() {
    const OPEN: CounterSpec = CounterSpec::new("pool.jobs", "{job}", "Jobs.").open(&["pool"]);
    let telemetry = start(builder());
    let meter = telemetry.meter("m");
    let (latency, open) = (meter.histogram(&LATENCY), meter.open_counter(&OPEN));
    let ids = sampled(|| {
        latency.start_timer(Status::Done).stop();
        open.add(1, &[KeyValue::new("pool", "images")]);
    });
    for family in ["latency_seconds", "pool_jobs_total"] {
        let [(_, exemplar)] = exemplars(&telemetry, family).try_into().unwrap();
        assert_eq!(exemplar.labels, ids, "{family}");
    }
}

#[test]
fn two_endpoints_show_the_same_ones() {
    use barograph::config::{MetricReader, PrometheusMetricExporter, PullMetricReader};
    let exporter = PrometheusMetricExporter { listens: false, ..PrometheusMetricExporter::default() };
    let second = MetricReader::Pull(PullMetricReader { exporter, ..PullMetricReader::default() });
    let telemetry = start(builder().with_reader(second));
    let ids = sampled(|| telemetry.meter("m").counter(&JOBS).add(1, Status::Done));
    for _ in 0..2 {
        let [(_, exemplar)] = exemplars(&telemetry, "jobs_total").try_into().unwrap();
        assert_eq!(exemplar.labels, ids, "reading takes nothing away");
    }
}

#[test]
fn recording_after_the_end_is_no_trouble() {
    let telemetry = start(builder());
    let (jobs, latency) = (telemetry.meter("m").counter(&JOBS), telemetry.meter("m").histogram(&LATENCY));
    let plain = telemetry.meter("m").u64_counter("plain").build();
    telemetry.shutdown(std::time::Duration::from_secs(5)).unwrap();
    sampled(|| {
        jobs.add(1, Status::Done);
        latency.record(1.0, Status::Done);
        plain.add(1, &[]);
    });
}

#[cfg(feature = "otlp")]
#[test]
fn a_push_says_what_a_scrape_says_and_of_differences_only_what_is_new() {
    use std::time::Duration;

    use barograph::config::{
        MetricReader, OtlpMetricExporter, PeriodicMetricReader, PushMetricExporter, TemporalityPreference,
    };
    use opentelemetry_proto::tonic::metrics::v1::metric::Data;

    use crate::receiver::Receiver;

    for temporality in [TemporalityPreference::Cumulative, TemporalityPreference::Delta] {
        let receiver = Receiver::start();
        let mut exporter = OtlpMetricExporter::http(&receiver.url());
        exporter.preferences.temporality = temporality;
        let reader = PeriodicMetricReader {
            interval: Duration::from_secs(3_600),
            ..PeriodicMetricReader::new(PushMetricExporter::OtlpHttp(exporter))
        };
        let telemetry = start(builder().with_reader(MetricReader::Periodic(reader)));
        let (jobs, latency) = (telemetry.meter("m").counter(&JOBS), telemetry.meter("m").histogram(&LATENCY));
        let pushed = || {
            receiver.forget();
            telemetry.force_flush(Duration::from_secs(5)).unwrap();
            let received = receiver.received();
            let Some(Data::Sum(sum)) = received[0].metric("jobs").unwrap().data.clone() else { panic!("no sum") };
            let Some(Data::Histogram(histogram)) = received[0].metric("latency").unwrap().data.clone() else {
                panic!("no histogram")
            };
            let of_points = sum.data_points.into_iter().flat_map(|point| point.exemplars);
            let all = of_points.chain(histogram.data_points.into_iter().flat_map(|point| point.exemplars));
            all.map(|exemplar| exemplar.trace_id.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
                .collect::<Vec<_>>()
        };
        let record = || {
            jobs.add(1, Status::Done);
            latency.record(0.1, Status::Done);
        };
        let trace = sampled(record)[0].1.clone();
        assert_eq!(pushed(), [trace.clone(), trace.clone()]);
        record();
        let again = pushed();
        match temporality {
            TemporalityPreference::Delta => assert_eq!(again, Vec::<String>::new(), "said once"),
            _ => assert_eq!(again, [trace.clone(), trace]),
        }
        let trace = sampled(record)[0].1.clone();
        assert_eq!(pushed(), [trace.clone(), trace]);
    }
}

/// Records when its thread ends.
struct Recorder(Box<dyn Fn()>);

impl Drop for Recorder {
    fn drop(&mut self) {
        (self.0)();
    }
}

thread_local! {
    static EARLY: RefCell<Vec<Recorder>> = const { RefCell::new(Vec::new()) };
}

#[test]
fn recording_from_the_destructor_of_a_threads_data_does_not_panic() {
    let telemetry = start(builder());
    let jobs = telemetry.meter("m").counter(&JOBS);
    let latency = telemetry.meter("m").histogram(&LATENCY);
    let plain = telemetry.meter("m").u64_counter("plain").build();
    let ended = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&ended);
    let (counter, histogram) = (jobs.clone(), latency.clone());
    // What has a destructor is dropped in the opposite order, so this thread's data outlives its context.
    let thread = std::thread::spawn(move || {
        EARLY.with(|early| {
            early.borrow_mut().push(Recorder(Box::new(move || {
                counter.add(1, Status::Done);
                histogram.record(1.0, Status::Done);
                plain.add(1, &[]);
                count.fetch_add(1, Ordering::Relaxed);
            })));
        });
        in_remote_span(TraceFlags::SAMPLED, || jobs.add(1, Status::Failed));
    });
    thread.join().unwrap();
    assert_eq!(ended.load(Ordering::Relaxed), 1, "nothing panicked on the way");
    let points = points(&telemetry, WITH_EXEMPLARS[0], "jobs_total");
    assert!(points.iter().all(|point| matches!(&point.value, Value::Number(number) if number.value == 1.0)));
}

/// Counts events.
struct Counting(Box<dyn Fn() + Send + Sync>);

impl tracing::Subscriber for Counting {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        (self.0)();
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn recording_while_the_api_changes_its_context_does_not_panic() {
    let telemetry = start(builder());
    let jobs = telemetry.meter("m").counter(&JOBS);
    let counted = jobs.clone();
    let busy = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&busy);
    let subscriber = Counting(Box::new(move || {
        counted.add(1, Status::Failed);
        let is_busy = std::panic::catch_unwind(|| Context::map_current(|_| ())).is_err();
        seen.fetch_add(is_busy.into(), Ordering::Relaxed);
    }));
    without_panic_messages(|| {
        tracing::subscriber::with_default(subscriber, || {
            // The API warns of the last one in the middle of attaching it.
            let mut attached: Vec<_> = (0..=u16::MAX).map(|_| Context::new().attach()).collect();
            while attached.pop().is_some() {}
        });
    });
    assert!(busy.load(Ordering::Relaxed) > 1, "otherwise this has shown nothing");
    let ids = sampled(|| jobs.add(1, Status::Done));
    let [(_, exemplar)] = exemplars(&telemetry, "jobs_total").try_into().unwrap();
    assert_eq!(exemplar.labels, ids, "the thread goes on as before, though it was busy when it recorded first");
    let points = points(&telemetry, WITH_EXEMPLARS[0], "jobs_total");
    let failed = points.iter().find(|point| point.label("status") == Some("failed")).unwrap();
    assert!(matches!(&failed.value, Value::Number(number) if number.value >= 1.0), "{failed:?}");
}
