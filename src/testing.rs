//! Tests of what a program records: a pipeline of its own for each test, and assertions that say what there is instead.
//!
//! ```
//! use barograph::testing::TestTelemetry;
//! use barograph::{CounterSpec, MeterExt, attribute};
//!
//! attribute! { enum Status: "status" { Success = "success", Error = "error" } }
//! const CALLS: CounterSpec<Status> = CounterSpec::new("api.calls", "{call}", "Calls to the API.");
//!
//! let telemetry = TestTelemetry::new();
//! let calls = telemetry.meter("api").counter(&CALLS);
//! calls.add(3, Status::Success);
//!
//! telemetry.metric("api.calls").with(Status::Success).value(3);
//! // The same as a scraper knows it.
//! telemetry.metric("api_calls_total").with(("status", "success")).value(3);
//! ```
//!
//! A component that takes its provider as an argument is given [`TestTelemetry::provider`], and nothing global is touched:
//! tests run at the same time without seeing each other. No socket is opened. What a test reads was collected as for a
//! scrape: views, limits and callbacks have had their say.
//!
//! [`assert_golden`] compares whole pages with files, and [`lint`] says of a page of any program what is wrong with the names
//! on it.

#![expect(clippy::panic, reason = "an assertion that does not hold ends its test")]

mod attributes;
mod eventually;
mod golden;
mod lint;
mod metric;
mod parser;
mod snapshot;

use std::collections::HashMap;
use std::future::Future;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use attributes::Attributes;
pub use attributes::{Expected, IntoAttributes};
pub use golden::assert_golden;
pub use lint::{LintProblem, LintRule, lint};
pub use metric::TestMetric;

use crate::config::{Config, MeterProvider, MetricReader, Resource};
use crate::guard::GuardedMeterProvider;
use crate::pipeline::{Telemetry, TelemetryBuilder};
use crate::spec::Descriptor;
use eventually::{Attempts, fail};
use snapshot::{Metric, Snapshot};

/// How long `eventually` tries.
const DEADLINE: Duration = Duration::from_secs(10);

/// What a series is asked for by: name, meter, attributes.
type Key = (String, Option<String>, Attributes);

/// A pipeline for one test: nobody else sees it, it listens nowhere, and the environment has no say.
///
/// ```
/// use barograph::View;
/// use barograph::opentelemetry::KeyValue;
/// use barograph::testing::TestTelemetry;
///
/// let telemetry = TestTelemetry::with(|builder| builder.with_view(View::of("worker.jobs").with_attributes(["status"])));
/// let jobs = telemetry.meter("worker").u64_counter("worker.jobs").build();
/// jobs.add(1, &[KeyValue::new("status", "done"), KeyValue::new("user", "ada")]);
/// telemetry.metric("worker.jobs").with(("status", "done")).value(1);
/// telemetry.metric("worker.jobs").with(("user", "ada")).absent();
/// ```
#[derive(Debug)]
pub struct TestTelemetry {
    telemetry: Telemetry,
    deadline: Duration,
    /// The values of series when a change of them was last asked for.
    asked: Mutex<HashMap<Key, f64>>,
}

impl Default for TestTelemetry {
    fn default() -> Self {
        Self::new()
    }
}

/// A pipeline that was built otherwise, to be asked as one for tests.
impl From<Telemetry> for TestTelemetry {
    fn from(telemetry: Telemetry) -> Self {
        Self { telemetry, deadline: DEADLINE, asked: Mutex::default() }
    }
}

impl TestTelemetry {
    /// Starts a pipeline for the service `test`, without a socket, without what pipelines say about themselves, and without
    /// `target_info`, in which the SDK's version would be part of every golden file.
    ///
    /// # Panics
    ///
    /// When no thread can be started.
    #[must_use]
    #[track_caller]
    pub fn new() -> Self {
        Self::with(|builder| builder)
    }

    /// Like [`new`](Self::new), with views, resource attributes, an address or whatever else a builder has. A pipeline that is
    /// built in another way, to see what it says about itself, becomes one for tests by `From`.
    ///
    /// # Panics
    ///
    /// When the pipeline cannot start as it was built.
    #[must_use]
    #[track_caller]
    pub fn with(build: impl FnOnce(TelemetryBuilder) -> TelemetryBuilder) -> Self {
        let resource = Resource { attributes: vec![KeyValue::new("service.name", "test")], ..Resource::default() };
        let meter_provider = MeterProvider { readers: vec![MetricReader::pull()], ..MeterProvider::default() };
        let config = Config { resource, meter_provider: Some(meter_provider), ..Config::default() };
        let builder = Telemetry::from_config(config).without_endpoint().without_self_metrics().without_target_info();
        match build(builder).start() {
            Ok(telemetry) => Self::from(telemetry),
            Err(error) => fail(format!("the pipeline does not start: {}", with_sources(&error))),
        }
    }

    /// How long `eventually` tries. Defaults to 10 s.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// The provider of meters, for everything that takes a `&dyn MeterProvider`.
    #[must_use]
    pub fn provider(&self) -> &GuardedMeterProvider {
        self.telemetry.meter_provider()
    }

    /// A meter of the provider.
    #[must_use]
    pub fn meter(&self, name: &'static str) -> Meter {
        self.telemetry.meter(name)
    }

    /// The pipeline itself.
    pub fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// The pipeline itself, to be shut down.
    pub fn into_telemetry(self) -> Telemetry {
        self.telemetry
    }

    /// A metric to say something about, by the name that it was recorded with or by the one that it is scraped by; parts of
    /// histograms have names too (`job_duration_seconds_count`).
    #[must_use = "it only selects: say what is true of it"]
    pub fn metric(&self, name: &str) -> TestMetric<'_> {
        TestMetric::new(self, name)
    }

    /// What a scrape shows now, as text of the format 0.0.4.
    ///
    /// # Panics
    ///
    /// When collecting fails.
    #[must_use]
    #[track_caller]
    pub fn page(&self) -> String {
        self.snapshot().page
    }

    /// Compares the page with the file at `path`: see [`assert_golden`].
    #[track_caller]
    pub fn assert_golden(&self, path: impl AsRef<Path>) {
        assert_golden(path, &self.page());
    }

    /// Says what was counted, all of it: every series of counters and up-down counters that is not zero, and of histograms how
    /// many values they have recorded, in the order of their names. Gauges are left out, for what they show is seldom known
    /// before.
    ///
    /// ```
    /// use barograph::opentelemetry::KeyValue;
    /// use barograph::testing::TestTelemetry;
    ///
    /// let telemetry = TestTelemetry::new();
    /// let meter = telemetry.meter("worker");
    /// meter.u64_counter("worker.jobs").build().add(2, &[KeyValue::new("status", "done")]);
    /// meter.f64_histogram("worker.duration").build().record(0.5, &[]);
    /// telemetry.assert_counted(&["worker.duration 1", "worker.jobs{status=done} 2"]);
    /// ```
    #[track_caller]
    pub fn assert_counted(&self, expected: &[&str]) {
        let mut counted: Vec<String> = self.snapshot().collected.iter().flat_map(Metric::counted).collect();
        counted.sort();
        if counted != expected {
            let lines = |lines: &mut dyn Iterator<Item = &str>| lines.flat_map(|line| [line, "\n"]).collect::<String>();
            let expected = lines(&mut expected.iter().copied());
            let diff = golden::diff(&expected, &lines(&mut counted.iter().map(String::as_str)));
            fail(format!("what was counted is not what it should be (- should be, + is)\n{diff}"));
        }
    }

    /// Holds what a meter has recorded against the specs of its component: each metric is exported, is of the kind,
    /// the unit and the description of its spec, and is on the page by its scraped name; and there is no other.
    ///
    /// ```
    /// use barograph::testing::TestTelemetry;
    /// use barograph::{CounterSpec, Descriptor, MeterExt};
    ///
    /// const JOBS: CounterSpec = CounterSpec::new("worker.jobs", "{job}", "Jobs that ended.");
    /// const METRICS: &[Descriptor] = &[JOBS.descriptor()];
    ///
    /// let telemetry = TestTelemetry::new();
    /// let _jobs = telemetry.meter("worker").counter(&JOBS);
    /// telemetry.assert_specs("worker", METRICS);
    /// ```
    #[track_caller]
    pub fn assert_specs(&self, meter: &str, specs: &[Descriptor]) {
        let snapshot = self.snapshot();
        let recorded: Vec<_> = snapshot.collected.iter().filter(|metric| metric.scope == meter).collect();
        let mut wrong = Vec::new();
        for spec in specs {
            let mut of_name = recorded.iter().filter(|metric| metric.name == spec.name).peekable();
            if of_name.peek().is_none() {
                wrong.push(format!("{}: it has recorded nothing", spec.name));
            }
            // Of two that share the name one is not what the spec says.
            of_name.for_each(|metric| wrong.extend(metric.differences(spec, &snapshot.page)));
        }
        let strays = recorded.iter().filter(|metric| specs.iter().all(|spec| spec.name != metric.name));
        wrong.extend(strays.map(|metric| format!("{}: no spec has it", metric.name)));
        if !wrong.is_empty() {
            let wrong = wrong.join("\n  ");
            fail(format!("what the meter {meter} records is not what its specs say\n  {wrong}"));
        }
    }

    /// Tries until what the closure asserts holds, for as long as [`with_deadline`](Self::with_deadline) says, and then fails
    /// with what failed last. Blocks the thread in between.
    ///
    /// ```
    /// use barograph::testing::TestTelemetry;
    ///
    /// let telemetry = TestTelemetry::new();
    /// let meter = telemetry.meter("worker");
    /// std::thread::spawn(move || {
    ///     meter.u64_counter("worker.jobs").build().add(1, &[]);
    ///     meter.i64_gauge("worker.idle").build().record(4, &[]);
    /// });
    /// telemetry.eventually(|telemetry| {
    ///     telemetry.metric("worker.jobs").value(1);
    ///     telemetry.metric("worker.idle").value(4)
    /// });
    /// ```
    #[track_caller]
    pub fn eventually<'t, R>(&'t self, mut check: impl FnMut(&'t Self) -> R) -> R {
        Attempts::new(self.deadline).run(|| {
            let _attempt = Attempt::begin(self);
            check(self)
        })
    }

    /// Like [`eventually`](Self::eventually), for async tests: other tasks run in between, under a paused clock too. The
    /// deadline is one of real time.
    #[track_caller]
    pub fn eventually_async<'t, R>(&'t self, mut check: impl FnMut(&'t Self) -> R) -> impl Future<Output = R> {
        let attempts = Attempts::new(self.deadline);
        let attempt = move || {
            let _attempt = Attempt::begin(self);
            check(self)
        };
        async move { attempts.run_async(attempt).await }
    }

    #[track_caller]
    fn snapshot(&self) -> Snapshot {
        match Snapshot::take(&self.telemetry) {
            Ok(snapshot) => snapshot,
            Err(error) => fail(format!("nothing could be collected: {}", with_sources(&error))),
        }
    }

    fn asked_before(&self, key: &Key) -> f64 {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied().unwrap_or_default()
    }

    fn remember(&self, key: Key, value: f64) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(key, value);
    }
}

/// Forgets what an attempt that fails has asked for: the next one begins where this one did.
struct Attempt<'t> {
    telemetry: &'t TestTelemetry,
    asked: HashMap<Key, f64>,
}

impl<'t> Attempt<'t> {
    fn begin(telemetry: &'t TestTelemetry) -> Self {
        let asked = telemetry.asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Self { telemetry, asked }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut asked = self.telemetry.asked.lock().unwrap_or_else(PoisonError::into_inner);
            *asked = std::mem::take(&mut self.asked);
        }
    }
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(Some(error), |error| error.source());
    sources.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests;
