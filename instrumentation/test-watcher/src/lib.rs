//! Metrics for a test watcher: how many files it processes, how often it runs tests, how a run ends, how long it takes.
//!
//! ```
//! use barograph::opentelemetry::metrics::MeterProvider;
//! use barograph_instrumentation_test_watcher::TestWatcherMetrics;
//! use barograph_instrumentation_test_watcher::semconv::ErrorType;
//!
//! fn on_change(metrics: &TestWatcherMetrics, files: &[&str]) -> std::io::Result<()> {
//!     metrics.update_changed_files_count(files.len() as i64);
//!     let processing = metrics.time_processing();
//!     for file in files {
//!         let run = metrics.start_run();      // a run that is abandoned is an error
//!         if tests_pass(file)? { run.pass() } else { run.fail() };
//!         metrics.record_file_processed();
//!     }
//!     processing.stop();
//!     metrics.update_changed_files_count(0);
//!     Ok(())
//! }
//!
//! fn watch(provider: &dyn MeterProvider) {
//!     let metrics = TestWatcherMetrics::new(provider);
//!     metrics.set_running(true);
//!     if on_change(&metrics, &["src/lib.rs"]).is_err() {
//!         metrics.record_error(ErrorType::Io);
//!     }
//!     metrics.update_memory_usage();
//!     metrics.set_running(false);
//! }
//! # fn tests_pass(file: &str) -> std::io::Result<bool> { Ok(!file.is_empty()) }
//! # watch(&barograph::opentelemetry::metrics::NoopMeterProvider::new());
//! ```
//!
//! Names, units, attributes and descriptions are in [`semconv`].

mod instruments;
mod memory;
mod run;
pub mod semconv;

pub use run::TestRun;

use std::sync::Arc;

use barograph::opentelemetry::InstrumentationScope;
use barograph::opentelemetry::metrics::MeterProvider;
use barograph::{OutcomeTimer, Timer};

use crate::instruments::Instruments;
use crate::semconv::{Api, ApiStatus, ErrorType, TestExecutionStatus, TestStatus};

/// Records what a test watcher does. Clones record into the same series.
#[derive(Clone, Debug)]
pub struct TestWatcherMetrics {
    instruments: Arc<Instruments>,
}

impl TestWatcherMetrics {
    /// Builds the instruments, in the scope [`semconv::SCOPE`].
    ///
    /// Counters are exported as 0 from here on, gauges from their first value on.
    #[must_use]
    pub fn new(provider: &dyn MeterProvider) -> Self {
        let scope = InstrumentationScope::builder(semconv::SCOPE).with_version(env!("CARGO_PKG_VERSION")).build();
        let meter = provider.meter_with_scope(scope);
        Self { instruments: Arc::new(Instruments::new(&meter)) }
    }

    /// Counts a file as processed, in `test_watcher.files_processed`.
    pub fn record_file_processed(&self) {
        self.instruments.files_processed.add(1, ());
    }

    /// Counts a test run that ended, in `test_watcher.tests_run` by `status`.
    ///
    /// [`start_run`](Self::start_run) counts and times a run, and cannot forget its end.
    pub fn record_test_run(&self, status: TestStatus) {
        self.instruments.tests_run.add(1, status);
    }

    /// Counts a call to an API that ended, in `test_watcher.api_calls` by `api` and `status`.
    pub fn record_api_call(&self, api: Api, status: ApiStatus) {
        self.instruments.api_calls.add(1, (api, status));
    }

    /// Counts an error of the watcher itself, in `test_watcher.errors` by `error_type`.
    pub fn record_error(&self, error_type: ErrorType) {
        self.instruments.errors.add(1, error_type);
    }

    /// Makes `count` the number of changed files waiting, in `test_watcher.changed_files_current`.
    ///
    /// The count is shared by all clones of this handle; those of separately built handles add up.
    pub fn update_changed_files_count(&self, count: i64) {
        self.instruments.changed_files.set(count);
    }

    /// Reads this process's resident memory and records the bytes in `test_watcher.memory_usage`.
    ///
    /// Where the operating system has no `/proc` that tells, nothing is recorded.
    pub fn update_memory_usage(&self) {
        if let Some(bytes) = memory::resident_bytes() {
            self.instruments.memory_usage.record(bytes as f64, ());
        }
    }

    /// Records in `test_watcher.is_running` whether the watcher is running: 1 or 0.
    pub fn set_running(&self, running: bool) {
        self.instruments.is_running.record(f64::from(u8::from(running)), ());
    }

    /// Times the processing of changes, from now until the timer is stopped or dropped, in seconds in
    /// `test_watcher.processing_duration`.
    pub fn time_processing(&self) -> Timer {
        self.instruments.processing_duration.start_timer(())
    }

    /// Times the wait for changes to settle, from now until the timer is stopped or dropped, in seconds in
    /// `test_watcher.debounce_duration`.
    pub fn time_debounce(&self) -> Timer {
        self.instruments.debounce_duration.start_timer(())
    }

    /// Times an execution of tests, from now until the timer is told how it ended, in seconds in
    /// `test_watcher.test_execution_duration` by `status`. Dropped untold, it records `cancelled`.
    ///
    /// It counts nothing: [`start_run`](Self::start_run) does both.
    pub fn time_test_execution(&self) -> OutcomeTimer<TestExecutionStatus> {
        self.instruments.test_execution_duration.start_outcome_timer()
    }

    /// Starts a test run, which is counted and timed when it ends.
    pub fn start_run(&self) -> TestRun {
        TestRun::start(Arc::clone(&self.instruments))
    }
}

/// Compiles the README's program.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
