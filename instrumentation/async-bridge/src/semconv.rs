//! What the bridge records: the only place where a name, a unit or a description is written.

use barograph::{CounterSpec, Descriptor, HistogramSpec, UpDownCounterSpec, attribute, buckets};

/// The name of the instrumentation scope.
pub const SCOPE: &str = "safe_async_bridge";

attribute! {
    /// How a call ended.
    pub enum CallOutcome: "outcome" {
        Success = "success",
        Error = "error",
        Timeout = "timeout",
        Cancelled = "cancelled",
    }
    unfinished => Cancelled
}

attribute! {
    /// Why a call ended as [`CallOutcome::Error`].
    pub enum ErrorType: "error_type" {
        /// The future panicked.
        Panic = "panic",
        /// The bridge was closed before the call.
        Closed = "closed",
        /// The call could not be made from where it was made.
        Internal = "internal",
        /// The future returned an error.
        Other = "other",
    }
    unknown => Other
}

/// Calls, by how they ended: one for each call, when it ends.
pub const CALLS: CounterSpec<CallOutcome> =
    CounterSpec::new("safe_async_bridge.calls", "{call}", "Calls across the bridge, by how they ended.");

/// Calls that ended as an error, by why. They add up to the calls with outcome `error`.
pub const ERRORS: CounterSpec<ErrorType> =
    CounterSpec::new("safe_async_bridge.errors", "{error}", "Calls that ended as an error, by its type.");

/// Calls that took longer than their caller would wait. As many as the calls with outcome `timeout`.
pub const TIMEOUTS: CounterSpec =
    CounterSpec::new("safe_async_bridge.timeouts", "{timeout}", "Calls that took longer than their timeout.");

/// Futures on the loop: up when a call hands its future over, down when the future has ended or was dropped.
pub const PENDING_TASKS: UpDownCounterSpec =
    UpDownCounterSpec::new("safe_async_bridge.pending_tasks", "{task}", "Futures that are on the loop now.");

/// Loops that run: one for each bridge, from its creation until it is closed and its thread is done.
pub const ACTIVE_LOOPS: UpDownCounterSpec =
    UpDownCounterSpec::new("safe_async_bridge.active_loops", "{loop}", "Event loops that run now.");

/// Seconds from the call until its end, by how it ended.
pub const EXECUTION_DURATION: HistogramSpec<CallOutcome> =
    HistogramSpec::new("safe_async_bridge.execution_duration", "s", "Time a caller spent in a call across the bridge.")
        .buckets(buckets::SECONDS);

/// Every metric of the bridge.
pub const METRICS: &[Descriptor] = &[
    CALLS.descriptor(),
    ERRORS.descriptor(),
    TIMEOUTS.descriptor(),
    PENDING_TASKS.descriptor(),
    ACTIVE_LOOPS.descriptor(),
    EXECUTION_DURATION.descriptor(),
];
