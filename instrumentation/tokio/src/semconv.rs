//! Every name recorded here: the scope, the attributes and the metrics.
//!
//! The semantic conventions know nothing of tokio. The names have the shape of those for other runtimes (`go.*`, `jvm.*`,
//! `nodejs.*`, `dotnet.*`, version 1.44.0): what there is of something is an up-down counter that ends with `count` or
//! `length`, what has happened is a counter, times are in seconds.

use barograph::{
    CounterSpec, Descriptor, HistogramSpec, ObservableCounterSpec, ObservableUpDownCounterSpec, UpDownCounterSpec,
    attribute,
};

/// The instrumentation scope.
pub const SCOPE: &str = "tokio";

/// Which runtime: the name that it is watched by.
pub const RUNTIME_NAME: &str = "tokio.runtime.name";

/// Which of a runtime's workers: its number, from 0 on.
pub const WORKER_ID: &str = "tokio.worker.id";

/// The upper bound of a bucket of tokio's own histogram of poll times, in seconds.
pub const POLL_DURATION_LIMIT: &str = "tokio.poll.duration.limit";

/// Which kind of task: the name that its [`Tasks`](crate::Tasks) were made with.
pub const TASK_KIND: &str = "tokio.task.kind";

attribute! {
    /// How a task ended.
    pub enum TaskOutcome: "tokio.task.outcome" {
        /// Its future was ready.
        Completed = "completed",
        /// Its future panicked.
        Panicked = "panicked",
        /// Its future was dropped before it was ready: aborted, or its runtime was shut down.
        Cancelled = "cancelled",
    }
    unfinished => Cancelled
}

attribute! {
    /// What a thread of the blocking pool does.
    pub enum ThreadState: "tokio.thread.state" {
        /// It waits for work.
        Idle = "idle",
        /// It runs a blocking function.
        Busy = "busy",
    }
}

/// Workers of a runtime, which never changes.
pub const WORKER_COUNT: ObservableUpDownCounterSpec =
    ObservableUpDownCounterSpec::new("tokio.runtime.worker.count", "{worker}", "Worker threads of the runtime.")
        .open(&[RUNTIME_NAME]);

/// Time a worker was not parked. Its rate is the share of the time that the worker was busy.
pub const WORKER_BUSY_TIME: ObservableCounterSpec =
    ObservableCounterSpec::new("tokio.runtime.worker.busy_time", "s", "Time the worker was busy.")
        .open(&[RUNTIME_NAME, WORKER_ID]);

/// How often the workers of a runtime went to sleep for lack of work.
pub const WORKER_PARKS: ObservableCounterSpec =
    ObservableCounterSpec::new("tokio.runtime.worker.parks", "{park}", "Times that a worker parked for lack of work.")
        .open(&[RUNTIME_NAME]);

/// Tasks that were spawned and have not ended.
pub const TASK_COUNT: ObservableUpDownCounterSpec =
    ObservableUpDownCounterSpec::new("tokio.runtime.task.count", "{task}", "Tasks of the runtime that have not ended.")
        .open(&[RUNTIME_NAME]);

/// Tasks that wait in the queue that all workers share.
pub const GLOBAL_QUEUE_LENGTH: ObservableUpDownCounterSpec = ObservableUpDownCounterSpec::new(
    "tokio.runtime.global_queue.length",
    "{task}",
    "Tasks ready to run that wait in the queue that all workers share.",
)
.open(&[RUNTIME_NAME]);

/// Instrumented tasks that have begun and not ended.
pub const INSTRUMENTED_COUNT: UpDownCounterSpec =
    UpDownCounterSpec::new("tokio.task.count", "{task}", "Instrumented tasks that have not ended, by kind.")
        .open(&[TASK_KIND]);

/// Instrumented tasks that have ended, by how.
pub const INSTRUMENTED_ENDED: CounterSpec<TaskOutcome> =
    CounterSpec::new("tokio.task.ended", "{task}", "Instrumented tasks that ended, by kind and outcome.")
        .open(&[TASK_KIND]);

/// Time one poll of an instrumented task took, in which its worker could do nothing else.
pub const POLL_DURATION: HistogramSpec =
    HistogramSpec::new("tokio.task.poll.duration", "s", "Time a poll of an instrumented task took, by kind.")
        .buckets(POLLS)
        .open(&[TASK_KIND]);

/// Time an instrumented task was ready to run before it ran: from its first wake since a poll began to the next poll.
pub const SCHEDULE_DURATION: HistogramSpec = HistogramSpec::new(
    "tokio.task.schedule.duration",
    "s",
    "Time an instrumented task waited to be polled after it was woken, by kind.",
)
.buckets(POLLS)
.open(&[TASK_KIND]);

/// From what a poll should take, tens of microseconds, to what stops a service.
const POLLS: &[f64] = &[0.000_01, 0.000_03, 0.000_1, 0.000_3, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0];

/// Tasks that wait in a worker's own queue.
pub const LOCAL_QUEUE_LENGTH: ObservableUpDownCounterSpec = ObservableUpDownCounterSpec::new(
    "tokio.runtime.local_queue.length",
    "{task}",
    "Tasks ready to run that wait in the worker's own queue.",
)
.open(&[RUNTIME_NAME, WORKER_ID]);

/// Blocking functions that wait for a thread.
pub const BLOCKING_QUEUE_LENGTH: ObservableUpDownCounterSpec = ObservableUpDownCounterSpec::new(
    "tokio.runtime.blocking_queue.length",
    "{task}",
    "Blocking functions that wait for a thread of the blocking pool.",
)
.open(&[RUNTIME_NAME]);

/// Threads of the blocking pool, by what they do.
pub const BLOCKING_THREAD_COUNT: ObservableUpDownCounterSpec<ThreadState> = ObservableUpDownCounterSpec::new(
    "tokio.runtime.blocking_thread.count",
    "{thread}",
    "Threads of the blocking pool, by what they do.",
)
.open(&[RUNTIME_NAME]);

/// Tasks spawned so far.
pub const TASKS_SPAWNED: ObservableCounterSpec =
    ObservableCounterSpec::new("tokio.runtime.task.spawned", "{task}", "Tasks spawned on the runtime.")
        .open(&[RUNTIME_NAME]);

/// How often a task had to yield because its budget was used up.
pub const FORCED_YIELDS: ObservableCounterSpec = ObservableCounterSpec::new(
    "tokio.runtime.task.forced_yields",
    "{yield}",
    "Times that a task was made to yield because it had used up its budget.",
)
.open(&[RUNTIME_NAME]);

/// Polls of tasks by a worker.
pub const WORKER_POLLS: ObservableCounterSpec =
    ObservableCounterSpec::new("tokio.runtime.worker.polls", "{poll}", "Polls of tasks by the worker.")
        .open(&[RUNTIME_NAME, WORKER_ID]);

/// Polls by how long they took, where the runtime was built with its histogram of poll times. As in a histogram of
/// Prometheus, each limit counts what the ones below it count.
pub const WORKER_POLLS_WITHIN: ObservableCounterSpec = ObservableCounterSpec::new(
    "tokio.runtime.worker.polls_within",
    "{poll}",
    "Polls of tasks that took no longer than the limit, in seconds.",
)
.open(&[RUNTIME_NAME, POLL_DURATION_LIMIT]);

/// Tasks that a worker took from another one's queue.
pub const WORKER_STEALS: ObservableCounterSpec =
    ObservableCounterSpec::new("tokio.runtime.worker.steals", "{task}", "Tasks that workers took from each other.")
        .open(&[RUNTIME_NAME]);

/// How often a worker's own queue was full.
pub const WORKER_OVERFLOWS: ObservableCounterSpec = ObservableCounterSpec::new(
    "tokio.runtime.worker.overflows",
    "{overflow}",
    "Times that a worker's queue was full, and half of it went to the queue of all.",
)
.open(&[RUNTIME_NAME]);

/// Sockets and pipes that the I/O driver watches.
pub const IO_COUNT: ObservableUpDownCounterSpec = ObservableUpDownCounterSpec::new(
    "tokio.runtime.io.count",
    "{file_descriptor}",
    "File descriptors that the I/O driver watches.",
)
.open(&[RUNTIME_NAME]);

/// How often a watched descriptor became ready.
pub const IO_EVENTS: ObservableCounterSpec = ObservableCounterSpec::new(
    "tokio.runtime.io.events",
    "{event}",
    "Events of readiness that the I/O driver handled.",
)
.open(&[RUNTIME_NAME]);

/// What is measured with every tokio.
pub const METRICS: &[Descriptor] = &[
    WORKER_COUNT.descriptor(),
    WORKER_BUSY_TIME.descriptor(),
    WORKER_PARKS.descriptor(),
    TASK_COUNT.descriptor(),
    GLOBAL_QUEUE_LENGTH.descriptor(),
    INSTRUMENTED_COUNT.descriptor(),
    INSTRUMENTED_ENDED.descriptor(),
    POLL_DURATION.descriptor(),
    SCHEDULE_DURATION.descriptor(),
];

/// What is measured besides where the program is built with `--cfg tokio_unstable`, and absent elsewhere.
pub const UNSTABLE_METRICS: &[Descriptor] = &[
    LOCAL_QUEUE_LENGTH.descriptor(),
    BLOCKING_QUEUE_LENGTH.descriptor(),
    BLOCKING_THREAD_COUNT.descriptor(),
    TASKS_SPAWNED.descriptor(),
    FORCED_YIELDS.descriptor(),
    WORKER_POLLS.descriptor(),
    WORKER_POLLS_WITHIN.descriptor(),
    WORKER_STEALS.descriptor(),
    WORKER_OVERFLOWS.descriptor(),
    IO_COUNT.descriptor(),
    IO_EVENTS.descriptor(),
];
