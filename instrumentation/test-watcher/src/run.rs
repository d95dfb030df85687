//! A test run: from its start until it passes, fails, errs or is abandoned.

use std::sync::Arc;
use std::time::Duration;

use barograph::OutcomeTimer;

use crate::instruments::Instruments;
use crate::semconv::{TestExecutionStatus, TestStatus};

/// A test run under way, made by [`TestWatcherMetrics::start_run`](crate::TestWatcherMetrics::start_run).
///
/// When it ends, `test_watcher.tests_run` goes up by one and the seconds since it started are recorded in
/// `test_watcher.test_execution_duration`, both with its status. A run that is abandoned is an error: dropped before
/// anybody said how it ended (a panic, a `?`, a future that is no longer polled), it counts as `error` and its
/// duration as `cancelled`.
#[must_use = "a run that is dropped at once counts as an error"]
#[derive(Debug)]
pub struct TestRun {
    instruments: Arc<Instruments>,
    // Taken by whoever ends the run first, so that it ends once.
    timer: Option<OutcomeTimer<TestExecutionStatus>>,
}

impl TestRun {
    pub(crate) fn start(instruments: Arc<Instruments>) -> Self {
        let timer = Some(instruments.test_execution_duration.start_outcome_timer());
        Self { instruments, timer }
    }

    /// Ends the run: its tests passed. Returns how long it took.
    pub fn pass(self) -> Duration {
        self.finish(TestStatus::Pass)
    }

    /// Ends the run: a test failed. Returns how long it took.
    pub fn fail(self) -> Duration {
        self.finish(TestStatus::Fail)
    }

    /// Ends the run: the tests could not be run to their end. Returns how long it took.
    pub fn error(self) -> Duration {
        self.finish(TestStatus::Error)
    }

    /// Ends the run with a status that is known as a value. Returns how long it took.
    pub fn finish(mut self, status: TestStatus) -> Duration {
        self.instruments.tests_run.add(1, status);
        self.timer.take().map_or(Duration::ZERO, |timer| timer.finish(status.into()))
    }
}

impl Drop for TestRun {
    fn drop(&mut self) {
        // The timer is still there, and records `cancelled` when it is dropped after this.
        if self.timer.is_some() {
            self.instruments.tests_run.add(1, TestStatus::Error);
        }
    }
}
