//! The handles, built once from a meter.

use std::time::SystemTime;

use barograph::opentelemetry::metrics::Meter;
use barograph::{Counter, Gauge, Histogram, MeterExt, UpDownCounter};

use crate::semconv;
use crate::semconv::{ErrorType, Trigger};

#[derive(Debug)]
pub(crate) struct Instruments {
    pub(crate) runs: Counter<Trigger>,
    pub(crate) completion_markers_found: Counter,
    pub(crate) git_commits_detected: Counter,
    pub(crate) errors: Counter<ErrorType>,
    pub(crate) coverage: Gauge,
    last_run_timestamp: Gauge,
    pub(crate) active_tasks: UpDownCounter,
    pub(crate) run_duration: Histogram<Trigger>,
    pub(crate) analysis_duration: Histogram,
}

impl Instruments {
    pub(crate) fn new(meter: &Meter) -> Self {
        Self {
            runs: meter.counter(&semconv::RUNS),
            completion_markers_found: meter.counter(&semconv::COMPLETION_MARKERS_FOUND),
            git_commits_detected: meter.counter(&semconv::GIT_COMMITS_DETECTED),
            errors: meter.counter(&semconv::ERRORS),
            coverage: meter.gauge(&semconv::COVERAGE),
            last_run_timestamp: meter.gauge(&semconv::LAST_RUN_TIMESTAMP),
            active_tasks: meter.up_down_counter(&semconv::ACTIVE_TASKS),
            run_duration: meter.histogram(&semconv::RUN_DURATION),
            analysis_duration: meter.histogram(&semconv::ANALYSIS_DURATION),
        }
    }

    pub(crate) fn last_run_is_now(&self) {
        // A clock before 1970 is no time to tell anybody.
        if let Ok(since_epoch) = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            self.last_run_timestamp.record(since_epoch.as_secs_f64(), ());
        }
    }
}
