//! Tasks of one kind: how many there are, how they end, how long they hold up a worker and wait for one.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;
use tokio::task::JoinHandle;

use crate::instruments::PerKind;
use crate::semconv::TaskOutcome;

/// The tasks of one kind. Made by [`TokioMetrics::tasks`](crate::TokioMetrics::tasks); clones record into the same
/// series.
///
/// | metric | what is measured |
/// |---|---|
/// | `tokio.task.count` | tasks from the call of [`instrument`](Self::instrument) or [`spawn`](Self::spawn) until they are ready or dropped |
/// | `tokio.task.ended` | how they ended: `completed` when ready, `panicked` when a poll unwinds, `cancelled` when dropped before (aborted, never spawned, shut down) |
/// | `tokio.task.poll.duration` | each poll, the one that panics too |
/// | `tokio.task.schedule.duration` | from the first wake since the poll before began to the next poll; from [`spawn`](Self::spawn) to the first poll |
///
/// A poll costs two readings of the clock and two records more, and a wake one reading: README.md has figures. A task
/// costs one allocation.
///
/// A poll above a few milliseconds holds up every task that waits for the same worker: what computes or blocks for that
/// long belongs on `spawn_blocking`.
#[derive(Clone, Debug)]
pub struct Tasks {
    kind: Arc<PerKind>,
}

impl Tasks {
    pub(crate) fn new(kind: PerKind) -> Self {
        Self { kind: Arc::new(kind) }
    }

    /// A future that is measured from now until it is ready or dropped, wherever it is polled: as a task, in a
    /// `JoinSet`, as a part of another task, or by another executor.
    ///
    /// ```
    /// # async fn run(metrics: &barograph_instrumentation_tokio::TokioMetrics) {
    /// let uploads = metrics.tasks("uploads");
    /// let mut all = tokio::task::JoinSet::new();
    /// for _ in 0..10 {
    ///     all.spawn(uploads.instrument(async { /* … */ }));
    /// }
    /// # }
    /// ```
    pub fn instrument<F: Future>(&self, future: F) -> Instrumented<F> {
        Instrumented { future, task: Task::start(&self.kind, NEVER) }
    }

    /// Spawns a task on the runtime that this is called on, and measures it.
    ///
    /// # Panics
    ///
    /// As [`tokio::spawn`] does, outside of a runtime.
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        // To be spawned is to be woken for the first time.
        tokio::spawn(Instrumented { future, task: Task::start(&self.kind, NEVER + 1) })
    }
}

pin_project! {
    /// A future that is measured: see [`Tasks::instrument`].
    #[must_use = "futures do nothing unless polled"]
    pub struct Instrumented<F> {
        #[pin]
        future: F,
        // Dropped after the future, whose drop is a part of the task.
        task: Task,
    }
}

impl<F: Future> Future for Instrumented<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let waker = this.task.begin_poll(context.waker());
        let polled = this.future.poll(&mut Context::from_waker(&waker));
        this.task.end_poll(waker, polled.is_ready());
        polled
    }
}

impl<F> fmt::Debug for Instrumented<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Instrumented")
    }
}

/// What is known of one task.
struct Task {
    kind: Arc<PerKind>,
    wakes: Arc<Wakes>,
    /// `wakes` as a waker, while nobody polls.
    waker: Option<Waker>,
    /// What `wakes` wakes.
    inner: Option<Waker>,
    /// When the poll began that has not returned.
    polling: Option<Instant>,
    is_ended: bool,
}

impl Task {
    fn start(kind: &Arc<PerKind>, woken: u64) -> Self {
        let wakes = Wakes { started: Instant::now(), woken: AtomicU64::new(woken), inner: Mutex::default() };
        kind.count.add(1);
        Self {
            kind: Arc::clone(kind),
            wakes: Arc::new(wakes),
            waker: None,
            inner: None,
            polling: None,
            is_ended: false,
        }
    }

    fn begin_poll(&mut self, inner: &Waker) -> Waker {
        if !self.inner.as_ref().is_some_and(|known| known.will_wake(inner)) {
            self.inner = Some(inner.clone());
            self.wakes.set(inner.clone());
        }
        let now = Instant::now();
        if let Some(waited) = self.wakes.take(now) {
            self.kind.schedule_duration.record(waited.as_secs_f64());
        }
        self.polling = Some(now);
        self.waker.take().unwrap_or_else(|| Waker::from(Arc::clone(&self.wakes)))
    }

    fn end_poll(&mut self, waker: Waker, is_ready: bool) {
        self.waker = Some(waker);
        self.record_poll();
        if is_ready {
            self.end(TaskOutcome::Completed);
        }
    }

    /// Whether there was a poll to record.
    fn record_poll(&mut self) -> bool {
        let began = self.polling.take();
        if let Some(began) = began {
            self.kind.poll_duration.record(began.elapsed().as_secs_f64());
        }
        began.is_some()
    }

    fn end(&mut self, outcome: TaskOutcome) {
        if !std::mem::replace(&mut self.is_ended, true) {
            self.kind.end(outcome);
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // Only what unwinds leaves a poll without an end.
        let outcome = if self.record_poll() { TaskOutcome::Panicked } else { TaskOutcome::Cancelled };
        self.end(outcome);
    }
}

/// Stands between a task and its waker, and notes when it was woken.
struct Wakes {
    started: Instant,
    /// Nanoseconds from `started` to the first wake since a poll began, and one more: see [`NEVER`].
    woken: AtomicU64,
    inner: Mutex<Option<Waker>>,
}

/// Nobody woke it since.
const NEVER: u64 = 0;

impl Wakes {
    fn set(&self, inner: Waker) {
        let before = self.inner.lock().unwrap_or_else(PoisonError::into_inner).replace(inner);
        drop(before);
    }

    /// How long ago it was woken, if it was, and forgets it.
    fn take(&self, now: Instant) -> Option<Duration> {
        let woken = self.woken.swap(NEVER, Ordering::Relaxed).checked_sub(NEVER + 1)?;
        let woken = self.started.checked_add(Duration::from_nanos(woken))?;
        Some(now.saturating_duration_since(woken))
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // The first wake counts: before the others the task was ready to run as well.
        if self.woken.load(Ordering::Relaxed) == NEVER {
            let now = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX).saturating_add(NEVER + 1);
            // Where two wake it at once, either time is as good. One that comes while a poll begins may go without: its
            // wait is not measured.
            self.woken.store(now, Ordering::Relaxed);
        }
        // Woken outside of the lock, because an executor may poll right here.
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(inner) = inner {
            inner.wake();
        }
    }
}
