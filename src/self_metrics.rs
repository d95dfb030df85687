//! What the pipeline says about itself: errors and durations of callbacks, refused instruments, dropped points, exports.
//!
//! These are instruments of the SDK like any other, under the meter `barograph`, so they leave by every way the
//! program's own metrics leave by. They are recorded while others collect; what the exporter drops shows in the next
//! scrape.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use opentelemetry::metrics::{BoundCounter, BoundHistogram, Meter, MeterProvider};
use opentelemetry::{InstrumentationScope, KeyValue};

use crate::attribute;
use crate::attribute::Attribute;
use crate::instrument::{Counter, Gauge, MeterExt, UpDownCounter};
use crate::spec::{CounterSpec, Descriptor, GaugeSpec, HistogramSpec, ObservableGaugeSpec, UpDownCounterSpec};

attribute! {
    /// Why an instrument records nothing.
    pub(crate) enum Refusal: "reason" {
        InvalidName = "invalid_name",
        InvalidUnit = "invalid_unit",
        InvalidBuckets = "invalid_buckets",
        BuiltInCallback = "built_in_callback",
    }
}

attribute! {
    /// Why a data point was not exposed.
    pub(crate) enum DropReason: "reason" {
        Conflict = "conflict",
        Duplicate = "duplicate",
        InvalidName = "invalid_name",
        InvalidValue = "invalid_value",
    }
}

attribute! {
    /// Why the endpoint turned a connection or a request away.
    pub(crate) enum Refused: "reason" {
        AnswerTimeout = "answer_timeout",
        Body = "body",
        Connections = "connections",
        Credentials = "credentials",
        Exhausted = "exhausted",
        Handshake = "handshake",
        Head = "head",
        HeadTimeout = "head_timeout",
        Host = "host",
        Malformed = "malformed",
        RateLimit = "rate_limit",
        WriteTimeout = "write_timeout",
    }
}

attribute! {
    /// Why an export failed.
    pub(crate) enum Reason: "reason" {
        Collect = "collect",
        Connection = "connection",
        Io = "io",
        Refused = "refused",
        Rejected = "rejected",
        Throttled = "throttled",
        Timeout = "timeout",
        Tls = "tls",
        Unavailable = "unavailable",
    }
}

attribute! {
    /// What is wrong with a callback.
    enum CallbackError: "reason" { Late = "late", Panic = "panic" }
}

/// `instrument` is the name of an observable instrument of the program.
const CALLBACK_ERRORS: CounterSpec<CallbackError> = CounterSpec::new(
    "barograph.callback.errors",
    "{error}",
    "Callbacks of observable instruments that panicked, or that a collection did not wait for.",
)
.open(&["instrument"]);

const CALLBACK_DURATION: HistogramSpec = HistogramSpec::new(
    "barograph.callback.duration",
    "s",
    "How long the callbacks of an observable instrument took in one collection.",
)
.open(&["instrument"])
.buckets(DURATIONS);

const INSTRUMENTS_REFUSED: CounterSpec<Refusal> = CounterSpec::new(
    "barograph.instruments.refused",
    "{instrument}",
    "Instruments that could not be built and record nothing.",
);

const POINTS_DROPPED: CounterSpec<DropReason> = CounterSpec::new(
    "barograph.points.dropped",
    "{point}",
    "Data points that were collected but not exposed to a scrape.",
);

const SCRAPE_REQUESTS: CounterSpec =
    CounterSpec::new("barograph.scrape.requests", "{request}", "Scrapes, by status code.").open(&["code"]);

const SCRAPE_IN_FLIGHT: UpDownCounterSpec =
    UpDownCounterSpec::new("barograph.scrape.in_flight", "{request}", "Scrapes that are waiting or on their way.");

const SCRAPE_BYTES: CounterSpec = CounterSpec::new(
    "barograph.scrape.sent",
    "By",
    "Bytes of scraped pages, as they were sent: compressed if they were.",
);

const SCRAPE_SERIES: GaugeSpec = GaugeSpec::new(
    "barograph.scrape.series",
    "{series}",
    "Series in the last whole page: a histogram is one for each set of labels.",
);

const SCRAPE_REFUSED: CounterSpec<Refused> = CounterSpec::new(
    "barograph.scrape.refused",
    "{refusal}",
    "Connections and requests that the scrape endpoint turned away, by reason.",
);

const WEB_CONFIG_VALID: GaugeSpec = GaugeSpec::new(
    "barograph.scrape.web_config.valid",
    "",
    "Whether the web configuration file is what counts (1), or has become wrong and what it said before does (0).",
);

/// What the semantic conventions have names for. Specification: "Semantic Conventions for OpenTelemetry SDK metrics".
const EXPORT_DURATION: HistogramSpec = HistogramSpec::new(
    "otel.sdk.exporter.operation.duration",
    "s",
    "The duration of an export: of a scrape, from its request to its last byte.",
)
.open(&[COMPONENT_TYPE, COMPONENT_NAME, ERROR_TYPE])
.buckets(DURATIONS);

const COLLECTION_DURATION: HistogramSpec = HistogramSpec::new(
    "otel.sdk.metric_reader.collection.duration",
    "s",
    "The duration of a collection, callbacks included.",
)
.open(&[COMPONENT_TYPE, COMPONENT_NAME])
.buckets(DURATIONS);

const POINTS_EXPORTED: CounterSpec = CounterSpec::new(
    "otel.sdk.exporter.metric_data_point.exported",
    "{data_point}",
    "Data points whose export has ended.",
)
.open(&[COMPONENT_TYPE, COMPONENT_NAME, ERROR_TYPE]);

/// Whose the export or the collection is, and how it failed: the last one only where it did.
const COMPONENT_TYPE: &str = "otel.component.type";
const COMPONENT_NAME: &str = "otel.component.name";
const ERROR_TYPE: &str = "error.type";

/// Few, because each is a series: from what nobody notices to what Prometheus gives up on.
const DURATIONS: &[f64] = &[0.001, 0.01, 0.1, 1.0, 10.0];

const EXPORT_FAILURES: CounterSpec<Reason> =
    CounterSpec::new("barograph.export.failures", "{export}", "Exports that did not arrive whole, by reason.")
        .open(&["exporter"]);

const EXPORT_LAST_SUCCESS: GaugeSpec =
    GaugeSpec::new("barograph.export.last_success_timestamp", "s", "When an export last arrived whole, as Unix time.")
        .open(&["exporter"]);

/// Only instruments near their limit have these series, so that a page on which all is well has none. What they say
/// comes out of a collection, so it shows in the next one.
const INSTRUMENT_SERIES: ObservableGaugeSpec = ObservableGaugeSpec::new(
    "barograph.instrument.series",
    "{series}",
    "Series of an instrument with open attributes, at the collection before.",
)
.open(&["instrument", "scope"]);

const INSTRUMENT_SERIES_LIMIT: ObservableGaugeSpec = ObservableGaugeSpec::new(
    "barograph.instrument.series.limit",
    "{series}",
    "How many series an instrument with open attributes may have.",
)
.open(&["instrument", "scope"]);

const INSTRUMENT_OVERFLOWING: ObservableGaugeSpec = ObservableGaugeSpec::new(
    "barograph.instrument.overflowing",
    "",
    "Whether series of an instrument beyond its limit are added up in one: 1 if so, 0 if it only came near.",
)
.open(&["instrument", "scope"]);

/// Every metric that a pipeline can have of its own, under the meter `barograph`: for catalogues and dashboards.
///
/// `barograph.export.*` is there where something is pushed, `barograph.scrape.*` where there is an endpoint, and
/// `barograph.instrument.*` while an instrument with open attributes is near its limit or beyond it.
pub const METRICS: &[Descriptor] = &[
    SCRAPE_REQUESTS.descriptor(),
    SCRAPE_IN_FLIGHT.descriptor(),
    SCRAPE_BYTES.descriptor(),
    SCRAPE_SERIES.descriptor(),
    SCRAPE_REFUSED.descriptor(),
    WEB_CONFIG_VALID.descriptor(),
    EXPORT_FAILURES.descriptor(),
    EXPORT_LAST_SUCCESS.descriptor(),
    EXPORT_DURATION.descriptor(),
    POINTS_EXPORTED.descriptor(),
    COLLECTION_DURATION.descriptor(),
    CALLBACK_DURATION.descriptor(),
    CALLBACK_ERRORS.descriptor(),
    POINTS_DROPPED.descriptor(),
    INSTRUMENTS_REFUSED.descriptor(),
    INSTRUMENT_SERIES.descriptor(),
    INSTRUMENT_SERIES_LIMIT.descriptor(),
    INSTRUMENT_OVERFLOWING.descriptor(),
];

/// A stream whose attributes are open, or that is beyond its limit of series.
#[derive(Clone, Debug)]
pub(crate) struct LiveSeries {
    /// The name of the stream, and that of its meter.
    pub(crate) instrument: String,
    pub(crate) scope: String,
    pub(crate) series: usize,
    pub(crate) limit: usize,
    pub(crate) overflows: bool,
}

/// Which points of which metric were not exposed.
type Dropped = HashMap<Box<str>, HashMap<&'static str, u64>>;

/// Metrics of which is known why points were dropped. Who has more makes names at run time.
const MAX_DROPPED: usize = 10_000;

/// The pipeline's own instruments.
#[derive(Debug)]
pub(crate) struct SelfMetrics {
    callback_errors: opentelemetry::metrics::Counter<u64>,
    callback_duration: opentelemetry::metrics::Histogram<f64>,
    instruments_refused: Counter<Refusal>,
    points_dropped: Counter<DropReason>,
    dropped: Mutex<Dropped>,
    live: Arc<Mutex<Vec<LiveSeries>>>,
}

impl SelfMetrics {
    pub(crate) fn new(provider: &dyn MeterProvider) -> Self {
        let meter = meter(provider);
        let live: Arc<Mutex<Vec<LiveSeries>>> = Arc::default();
        series_gauge(&meter, &INSTRUMENT_SERIES.descriptor(), &live, |live| live.series as u64);
        series_gauge(&meter, &INSTRUMENT_SERIES_LIMIT.descriptor(), &live, |live| live.limit as u64);
        series_gauge(&meter, &INSTRUMENT_OVERFLOWING.descriptor(), &live, |live| live.overflows.into());
        Self {
            callback_errors: open_counter(&meter, &CALLBACK_ERRORS.descriptor()),
            callback_duration: open_histogram(&meter, &CALLBACK_DURATION.descriptor()),
            instruments_refused: meter.counter(&INSTRUMENTS_REFUSED),
            points_dropped: meter.counter(&POINTS_DROPPED),
            dropped: Mutex::default(),
            live,
        }
    }

    /// What is said about the callbacks of one instrument. Its series exist from now on, so that an alert can tell 0 from
    /// absent.
    pub(crate) fn callback(&self, instrument: &str) -> CallbackMetrics {
        let instrument = KeyValue::new("instrument", instrument.to_owned());
        let errors = |reason| {
            let reason = KeyValue::new(CallbackError::INFO.key, CallbackError::INFO.values[Attribute::index(reason)]);
            self.callback_errors.bind(&[instrument.clone(), reason])
        };
        CallbackMetrics {
            panics: errors(CallbackError::Panic),
            late: errors(CallbackError::Late),
            duration: self.callback_duration.bind(std::slice::from_ref(&instrument)),
            counted: [const { AtomicU64::new(0) }; 2],
        }
    }

    pub(crate) fn instrument_refused(&self, reason: Refusal) {
        self.instruments_refused.add(1, reason);
    }

    pub(crate) fn points_dropped(&self, metric: &str, points: usize, reason: DropReason) {
        self.points_dropped.add(points as u64, reason);
        let mut dropped = lock(&self.dropped);
        if dropped.len() < MAX_DROPPED || dropped.contains_key(metric) {
            if !dropped.contains_key(metric) {
                dropped.insert(metric.into(), HashMap::new());
            }
            if let Some(reasons) = dropped.get_mut(metric) {
                *reasons.entry(reason.as_str()).or_default() += points as u64;
            }
        }
    }

    /// How many points of a metric were not exposed so far, by reason.
    pub(crate) fn dropped(&self, metric: &str) -> Vec<(&'static str, u64)> {
        let reasons = lock(&self.dropped).get(metric).cloned().unwrap_or_default();
        let mut reasons: Vec<_> = reasons.into_iter().collect();
        reasons.sort_unstable();
        reasons
    }

    /// Says how many series these streams have; none of the others is said anything about.
    pub(crate) fn live_series(&self, live: Vec<LiveSeries>) {
        *lock(&self.live) = live;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads what was said when somebody collects, so that series leave with their reason.
fn series_gauge(
    meter: &Meter,
    spec: &Descriptor,
    live: &Arc<Mutex<Vec<LiveSeries>>>,
    value: impl Fn(&LiveSeries) -> u64 + Send + Sync + 'static,
) {
    let live = Arc::clone(live);
    let gauge = meter.u64_observable_gauge(spec.name).with_unit(spec.unit).with_description(spec.description);
    gauge
        .with_callback(move |observer| {
            for stream in lock(&live).iter() {
                let attributes = [
                    KeyValue::new("instrument", stream.instrument.clone()),
                    KeyValue::new("scope", stream.scope.clone()),
                ];
                observer.observe(value(stream), &attributes);
            }
        })
        .build();
}

/// What the pipeline says about the callbacks of one instrument.
#[derive(Debug)]
pub(crate) struct CallbackMetrics {
    panics: BoundCounter<u64>,
    late: BoundCounter<u64>,
    duration: BoundHistogram<f64>,
    /// Panics, and collections that did not wait, for the page that explains what is missing.
    counted: [AtomicU64; 2],
}

impl CallbackMetrics {
    pub(crate) fn panicked(&self) {
        self.panics.add(1);
        self.counted[0].fetch_add(1, Ordering::Relaxed);
    }

    /// A collection did not wait for them: they took too long, or are still running from before.
    pub(crate) fn late(&self) {
        self.late.add(1);
        self.counted[1].fetch_add(1, Ordering::Relaxed);
    }

    /// How often they panicked, and how often a collection did not wait for them.
    pub(crate) fn failures(&self) -> [u64; 2] {
        self.counted.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    pub(crate) fn took(&self, time: Duration) {
        self.duration.record(time.as_secs_f64());
    }
}

/// The meter of all of them.
pub(crate) const SCOPE: &str = "barograph";

fn meter(provider: &dyn MeterProvider) -> Meter {
    let scope = InstrumentationScope::builder(SCOPE).with_version(env!("CARGO_PKG_VERSION")).build();
    provider.meter_with_scope(scope)
}

/// A counter whose attributes are not all known when the program is built.
fn open_counter(meter: &Meter, spec: &Descriptor) -> opentelemetry::metrics::Counter<u64> {
    meter.u64_counter(spec.name).with_unit(spec.unit).with_description(spec.description).build()
}

/// What a periodic reader says about its exports.
///
/// Its series have attributes more than their specs, which say whose they are: which exporters a pipeline has is known when
/// it starts.
#[derive(Debug)]
pub(crate) struct ExportMetrics {
    exporter: KeyValue,
    component: [KeyValue; 2],
    failures: opentelemetry::metrics::Counter<u64>,
    points: opentelemetry::metrics::Counter<u64>,
    duration: opentelemetry::metrics::Histogram<f64>,
    collection: opentelemetry::metrics::Histogram<f64>,
    last_success: opentelemetry::metrics::Gauge<f64>,
}

impl ExportMetrics {
    /// `kind` is the `otel.component.type`, of which this exporter is the one of this number, from 0.
    pub(crate) fn new(provider: &dyn MeterProvider, exporter: String, kind: &'static str, number: usize) -> Self {
        let meter = meter(provider);
        let last_success = EXPORT_LAST_SUCCESS.descriptor();
        let metrics = Self {
            exporter: KeyValue::new("exporter", exporter),
            component: component(kind, number),
            failures: open_counter(&meter, &EXPORT_FAILURES.descriptor()),
            points: open_counter(&meter, &POINTS_EXPORTED.descriptor()),
            duration: open_histogram(&meter, &EXPORT_DURATION.descriptor()),
            collection: open_histogram(&meter, &COLLECTION_DURATION.descriptor()),
            last_success: meter
                .f64_gauge(last_success.name)
                .with_unit(last_success.unit)
                .with_description(last_success.description)
                .build(),
        };
        // An alert can tell 0 from absent.
        for &reason in Reason::INFO.values {
            metrics.failures.add(0, &[metrics.exporter.clone(), KeyValue::new(Reason::INFO.key, reason)]);
        }
        metrics.points.add(0, &metrics.component);
        metrics.points.add(0, &metrics.of_error("rejected"));
        metrics
    }

    /// The attributes of what went wrong in this way.
    fn of_error(&self, error: &'static str) -> [KeyValue; 3] {
        let [kind, name] = self.component.clone();
        [kind, name, KeyValue::new(ERROR_TYPE, error)]
    }

    pub(crate) fn collected(&self, took: Duration) {
        self.collection.record(took.as_secs_f64(), &self.component);
    }

    /// What became of the points of an export, and how long it took, waits before another try included.
    pub(crate) fn ended(&self, points: Points, took: Duration, failure: Option<Reason>) {
        self.points.add(points.delivered, &self.component);
        if points.rejected > 0 {
            self.points.add(points.rejected, &self.of_error("rejected"));
        }
        if points.lost > 0 {
            self.points.add(points.lost, &self.of_error(failure.unwrap_or(Reason::Timeout).as_str()));
        }
        match failure {
            None => {
                self.duration.record(took.as_secs_f64(), &self.component);
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                self.last_success.record(now.as_secs_f64(), std::slice::from_ref(&self.exporter));
            }
            Some(reason) => {
                self.duration.record(took.as_secs_f64(), &self.of_error(reason.as_str()));
                self.failures.add(1, &[self.exporter.clone(), KeyValue::new(Reason::INFO.key, reason.as_str())]);
            }
        }
    }
}

/// What became of the points of an export.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Points {
    pub(crate) delivered: u64,
    pub(crate) rejected: u64,
    pub(crate) lost: u64,
}

/// The attributes that say in the semantic conventions' terms who it is.
fn component(kind: &'static str, number: usize) -> [KeyValue; 2] {
    [KeyValue::new(COMPONENT_TYPE, kind), KeyValue::new(COMPONENT_NAME, format!("{kind}/{number}"))]
}

/// What the scrape endpoints of a pipeline say about themselves.
#[derive(Debug)]
pub(crate) struct ScrapeMetrics {
    component: [KeyValue; 2],
    requests: opentelemetry::metrics::Counter<u64>,
    in_flight: UpDownCounter,
    sent: Counter,
    series: Gauge,
    refused: Counter<Refused>,
    web_config: Gauge,
    duration: opentelemetry::metrics::Histogram<f64>,
    collection: opentelemetry::metrics::Histogram<f64>,
    points: opentelemetry::metrics::Counter<u64>,
}

impl ScrapeMetrics {
    pub(crate) fn new(provider: &dyn MeterProvider) -> Self {
        let meter = meter(provider);
        let metrics = Self {
            component: component("prometheus_http_text_metric_exporter", 0),
            requests: open_counter(&meter, &SCRAPE_REQUESTS.descriptor()),
            in_flight: meter.up_down_counter(&SCRAPE_IN_FLIGHT),
            sent: meter.counter(&SCRAPE_BYTES),
            series: meter.gauge(&SCRAPE_SERIES),
            refused: meter.counter(&SCRAPE_REFUSED),
            web_config: meter.gauge(&WEB_CONFIG_VALID),
            duration: open_histogram(&meter, &EXPORT_DURATION.descriptor()),
            collection: open_histogram(&meter, &COLLECTION_DURATION.descriptor()),
            points: open_counter(&meter, &POINTS_EXPORTED.descriptor()),
        };
        // An alert can tell 0 from absent.
        for code in [200, 500, 503] {
            metrics.requests.add(0, &[KeyValue::new("code", code)]);
        }
        metrics.points.add(0, &metrics.component);
        metrics
    }

    pub(crate) fn refused(&self, reason: Refused) {
        self.refused.add(1, reason);
    }

    /// Whether the web configuration file is what counts.
    pub(crate) fn web_config(&self, is_valid: bool) {
        self.web_config.record(f64::from(u8::from(is_valid)), ());
    }

    /// A collection has ended, and taken so long.
    pub(crate) fn collected(&self, took: Duration) {
        self.collection.record(took.as_secs_f64(), &self.component);
    }

    /// A page has been written to its end, with so many points, which are all that there are or those that were asked for.
    pub(crate) fn page(&self, points: usize, is_all: bool) {
        self.points.add(points as u64, &self.component);
        if is_all {
            self.series.record(points as f64, ());
        }
    }

    /// A scrape begins. It ends when what this returns is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> Scrape {
        self.in_flight.add(1, ());
        Scrape { metrics: Arc::clone(self), begun: Instant::now(), sent: 0, error: Some("cancelled") }
    }
}

/// A scrape under way: dropped before it was told how it ended, it is one that its scraper gave up.
#[derive(Debug)]
pub(crate) struct Scrape {
    metrics: Arc<ScrapeMetrics>,
    begun: Instant,
    sent: u64,
    error: Option<&'static str>,
}

impl Scrape {
    pub(crate) fn status(&self, code: u16) {
        self.metrics.requests.add(1, &[KeyValue::new("code", i64::from(code))]);
    }

    pub(crate) fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// It has ended: well, or with an error of this kind.
    pub(crate) fn ended(&mut self, error: Option<&'static str>) {
        self.error = error;
    }
}

impl Drop for Scrape {
    fn drop(&mut self) {
        self.metrics.in_flight.add(-1, ());
        self.metrics.sent.add(self.sent, ());
        let [kind, name] = self.metrics.component.clone();
        let took = self.begun.elapsed().as_secs_f64();
        match self.error {
            None => self.metrics.duration.record(took, &[kind, name]),
            Some(error) => self.metrics.duration.record(took, &[kind, name, KeyValue::new(ERROR_TYPE, error)]),
        }
    }
}

fn open_histogram(meter: &Meter, spec: &Descriptor) -> opentelemetry::metrics::Histogram<f64> {
    let histogram = meter.f64_histogram(spec.name).with_unit(spec.unit).with_description(spec.description);
    histogram.with_boundaries(spec.buckets.unwrap_or_default().to_vec()).build()
}
