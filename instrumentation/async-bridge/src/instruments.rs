//! The handles, built once from a meter, and the guard that records one call.

use std::time::Instant;

use barograph::opentelemetry::metrics::Meter;
use barograph::{Counter, Histogram, MeterExt, Outcome, UpDownCounter};

use crate::error::CallError;
use crate::semconv;
use crate::semconv::{CallOutcome, ErrorType};

#[derive(Debug)]
pub(crate) struct Instruments {
    calls: Counter<CallOutcome>,
    errors: Counter<ErrorType>,
    timeouts: Counter,
    pub(crate) pending_tasks: UpDownCounter,
    pub(crate) active_loops: UpDownCounter,
    execution_duration: Histogram<CallOutcome>,
}

impl Instruments {
    pub(crate) fn new(meter: &Meter) -> Self {
        Self {
            calls: meter.counter(&semconv::CALLS),
            errors: meter.counter(&semconv::ERRORS),
            timeouts: meter.counter(&semconv::TIMEOUTS),
            pending_tasks: meter.up_down_counter(&semconv::PENDING_TASKS),
            active_loops: meter.up_down_counter(&semconv::ACTIVE_LOOPS),
            execution_duration: meter.histogram(&semconv::EXECUTION_DURATION),
        }
    }

    pub(crate) fn start_call(&self) -> Call<'_> {
        Call { instruments: self, started: Instant::now(), outcome: CallOutcome::UNFINISHED }
    }
}

/// One call, counted once when it is dropped.
pub(crate) struct Call<'a> {
    instruments: &'a Instruments,
    started: Instant,
    outcome: CallOutcome,
}

impl Call<'_> {
    pub(crate) fn end<T, E>(mut self, result: &Result<T, CallError<E>>) {
        let error_type = match result {
            Ok(_) => {
                self.outcome = CallOutcome::Success;
                return;
            }
            Err(CallError::TimedOut { .. }) => {
                self.outcome = CallOutcome::Timeout;
                self.instruments.timeouts.add(1, ());
                return;
            }
            Err(CallError::Cancelled) => {
                self.outcome = CallOutcome::Cancelled;
                return;
            }
            Err(CallError::Failed(_)) => ErrorType::Other,
            Err(CallError::Panicked { .. }) => ErrorType::Panic,
            Err(CallError::Closed) => ErrorType::Closed,
            Err(CallError::WouldDeadlock) => ErrorType::Internal,
        };
        self.outcome = CallOutcome::Error;
        self.instruments.errors.add(1, error_type);
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.instruments.calls.add(1, self.outcome);
        self.instruments.execution_duration.record(self.started.elapsed().as_secs_f64(), self.outcome);
    }
}
