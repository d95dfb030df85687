//! Every name the test watcher records: the scope, the attributes and the metrics.

use barograph::{CounterSpec, Descriptor, GaugeSpec, HistogramSpec, UpDownCounterSpec, attribute, buckets};

/// The instrumentation scope.
pub const SCOPE: &str = "test_watcher";

attribute! {
    /// How a test run ended.
    pub enum TestStatus: "status" { Pass = "pass", Fail = "fail", Error = "error" }
}

attribute! {
    /// How the execution of tests ended; unlike [`TestStatus`] it may not have ended at all.
    pub enum TestExecutionStatus: "status" { Pass = "pass", Fail = "fail", Error = "error", Cancelled = "cancelled" }
    unfinished => Cancelled
}

impl From<TestStatus> for TestExecutionStatus {
    fn from(status: TestStatus) -> Self {
        match status {
            TestStatus::Pass => Self::Pass,
            TestStatus::Fail => Self::Fail,
            TestStatus::Error => Self::Error,
        }
    }
}

attribute! {
    /// Which API the watcher called.
    pub enum Api: "api" { DeepSeek = "deepseek", Perplexity = "perplexity", Other = "other" }
    unknown => Other
}

attribute! {
    /// How a call to an API ended.
    pub enum ApiStatus: "status" {
        Success = "success", Error = "error", Timeout = "timeout", RateLimited = "rate_limited",
    }
}

attribute! {
    /// What went wrong in the watcher.
    pub enum ErrorType: "error_type" {
        Io = "io", Test = "test", Api = "api", Internal = "internal", Other = "other",
    }
    unknown => Other
}

/// Files the watcher has processed.
pub const FILES_PROCESSED: CounterSpec =
    CounterSpec::new("test_watcher.files_processed", "{file}", "Total number of files processed by TestWatcher.");

/// Test runs, by how they ended.
pub const TESTS_RUN: CounterSpec<TestStatus> =
    CounterSpec::new("test_watcher.tests_run", "{run}", "Total number of test runs executed.");

/// Calls to APIs, by API and by how they ended.
pub const API_CALLS: CounterSpec<(Api, ApiStatus)> =
    CounterSpec::new("test_watcher.api_calls", "{call}", "Total number of API calls made by TestWatcher.");

/// Errors in the watcher itself, by what went wrong. A test that fails is none.
pub const ERRORS: CounterSpec<ErrorType> =
    CounterSpec::new("test_watcher.errors", "{error}", "Total number of errors in TestWatcher.");

/// Changed files that wait to be processed.
pub const CHANGED_FILES_CURRENT: UpDownCounterSpec = UpDownCounterSpec::new(
    "test_watcher.changed_files_current",
    "{file}",
    "Number of changed files waiting to be processed.",
);

/// Resident memory of the watcher's process.
pub const MEMORY_USAGE: GaugeSpec = GaugeSpec::new("test_watcher.memory_usage", "By", "Current memory usage in bytes.");

/// 1 while the watcher runs, 0 once it has stopped.
pub const IS_RUNNING: GaugeSpec =
    GaugeSpec::new("test_watcher.is_running", "", "Whether TestWatcher is running: 1 if it is, 0 if not.");

/// Time from noticing changed files until they are processed.
pub const PROCESSING_DURATION: HistogramSpec =
    HistogramSpec::new("test_watcher.processing_duration", "s", "Time spent processing file changes.")
        .buckets(&[0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0]);

/// Time spent waiting for a burst of changes to end.
pub const DEBOUNCE_DURATION: HistogramSpec =
    HistogramSpec::new("test_watcher.debounce_duration", "s", "Time spent waiting for file changes to settle.")
        .buckets(&[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5]);

/// Time spent executing tests, by how the execution ended.
pub const TEST_EXECUTION_DURATION: HistogramSpec<TestExecutionStatus> =
    HistogramSpec::new("test_watcher.test_execution_duration", "s", "Time spent executing tests.")
        .buckets(buckets::MINUTES);

/// All of them.
pub const METRICS: &[Descriptor] = &[
    FILES_PROCESSED.descriptor(),
    TESTS_RUN.descriptor(),
    API_CALLS.descriptor(),
    ERRORS.descriptor(),
    CHANGED_FILES_CURRENT.descriptor(),
    MEMORY_USAGE.descriptor(),
    IS_RUNNING.descriptor(),
    PROCESSING_DURATION.descriptor(),
    DEBOUNCE_DURATION.descriptor(),
    TEST_EXECUTION_DURATION.descriptor(),
];
