//! The handles, built once from a meter.

use std::sync::atomic::{AtomicI64, Ordering};

use barograph::opentelemetry::metrics::Meter;
use barograph::{Counter, Gauge, Histogram, MeterExt, UpDownCounter};

use crate::semconv;
use crate::semconv::{Api, ApiStatus, ErrorType, TestExecutionStatus, TestStatus};

#[derive(Debug)]
pub(crate) struct Instruments {
    pub(crate) files_processed: Counter,
    pub(crate) tests_run: Counter<TestStatus>,
    pub(crate) api_calls: Counter<(Api, ApiStatus)>,
    pub(crate) errors: Counter<ErrorType>,
    pub(crate) changed_files: ChangedFiles,
    pub(crate) memory_usage: Gauge,
    pub(crate) is_running: Gauge,
    pub(crate) processing_duration: Histogram,
    pub(crate) debounce_duration: Histogram,
    pub(crate) test_execution_duration: Histogram<TestExecutionStatus>,
}

impl Instruments {
    pub(crate) fn new(meter: &Meter) -> Self {
        Self {
            files_processed: meter.counter(&semconv::FILES_PROCESSED),
            tests_run: meter.counter(&semconv::TESTS_RUN),
            api_calls: meter.counter(&semconv::API_CALLS),
            errors: meter.counter(&semconv::ERRORS),
            changed_files: ChangedFiles {
                counter: meter.up_down_counter(&semconv::CHANGED_FILES_CURRENT),
                last: AtomicI64::new(0),
            },
            memory_usage: meter.gauge(&semconv::MEMORY_USAGE),
            is_running: meter.gauge(&semconv::IS_RUNNING),
            processing_duration: meter.histogram(&semconv::PROCESSING_DURATION),
            debounce_duration: meter.histogram(&semconv::DEBOUNCE_DURATION),
            test_execution_duration: meter.histogram(&semconv::TEST_EXECUTION_DURATION),
        }
    }
}

/// An up-down counter that is told how many there are, not how many more.
#[derive(Debug)]
pub(crate) struct ChangedFiles {
    counter: UpDownCounter,
    last: AtomicI64,
}

impl ChangedFiles {
    pub(crate) fn set(&self, count: i64) {
        // Each caller takes the count that another one left, so the differences add up to the last count, in
        // whatever order they are added. They wrap rather than saturate for the same reason.
        let before = self.last.swap(count, Ordering::Relaxed);
        self.counter.add(count.wrapping_sub(before), ());
    }
}
