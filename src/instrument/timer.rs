//! Timers: seconds from their creation until they are stopped or dropped, recorded exactly once.
//!
//! ```
//! # use barograph::opentelemetry::metrics::{MeterProvider, NoopMeterProvider};
//! # use barograph::{HistogramSpec, MeterExt, attribute};
//! # attribute! {
//! #     /// How a run ended.
//! #     pub enum RunOutcome: "outcome" { Success = "success", Error = "error", Cancelled = "cancelled" }
//! #     unfinished => Cancelled
//! # }
//! # const DEBOUNCE: HistogramSpec = HistogramSpec::new("watcher.debounce_duration", "s", "Time spent waiting.");
//! # const RUN: HistogramSpec<RunOutcome> = HistogramSpec::new("watcher.run_duration", "s", "Time spent running.");
//! # let meter = NoopMeterProvider::new().meter("watcher");
//! # let debounce = meter.histogram(&DEBOUNCE);
//! # let run = meter.histogram(&RUN);
//! # fn work() -> Result<u32, String> { Ok(1) }
//! let timer = debounce.start_timer(());       // a guard: records when it goes out of scope
//! let seconds = timer.stop().as_secs_f64();   // or when it is stopped
//!
//! let answer = debounce.start_timer(()).time(|| 6 * 7);                 // a closure
//! let pause = debounce.start_timer(()).instrument(async { /* … */ });   // a future
//!
//! let timer = run.start_outcome_timer();      // how it ends is not known yet
//! timer.finish(RunOutcome::Success);          // dropped instead, it would record `cancelled`
//!
//! let result = run.start_outcome_timer()
//!     .time(work, |result| if result.is_ok() { RunOutcome::Success } else { RunOutcome::Error });
//! ```

use std::future::Future;
use std::time::{Duration, Instant};

use opentelemetry::metrics::BoundHistogram;

use super::Histogram;
use crate::attribute::AttributeSet;

/// Records the seconds between its creation and its end, whatever the end is.
#[must_use = "a timer records when it is dropped"]
pub struct Timer {
    // Taken by whoever ends the timer first, so that it records once.
    series: Option<BoundHistogram<f64>>,
    started: Instant,
}

impl Timer {
    pub(super) fn start(series: Option<BoundHistogram<f64>>) -> Self {
        Self { series, started: Instant::now() }
    }

    /// Records the seconds so far and returns them.
    pub fn stop(mut self) -> Duration {
        self.record()
    }

    /// Ends the timer without recording anything.
    pub fn discard(mut self) {
        self.series = None;
    }

    /// Times a closure. A panic in it is recorded too.
    pub fn time<T>(self, work: impl FnOnce() -> T) -> T {
        let _timer = self;
        work()
    }

    /// Times a future, from the timer's creation until the future is ready or dropped.
    pub async fn instrument<F: Future>(self, future: F) -> F::Output {
        let _timer = self;
        future.await
    }

    fn record(&mut self) -> Duration {
        let elapsed = self.started.elapsed();
        if let Some(series) = self.series.take() {
            series.record(elapsed.as_secs_f64());
        }
        elapsed
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.record();
    }
}

impl std::fmt::Debug for Timer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timer").field("started", &self.started).finish_non_exhaustive()
    }
}

/// Records the seconds between its creation and the moment somebody says how the work ended.
///
/// Dropped before that (a panic, a `?`, a future that is no longer polled), it records the seconds under
/// [`Outcome::UNFINISHED`](crate::Outcome::UNFINISHED).
#[must_use = "a timer that is dropped at once records an unfinished run"]
pub struct OutcomeTimer<A: AttributeSet> {
    // Taken by whoever ends the timer first, so that it records once.
    histogram: Option<Histogram<A>>,
    unfinished: A,
    started: Instant,
}

impl<A: AttributeSet> OutcomeTimer<A> {
    pub(super) fn start(histogram: Histogram<A>, unfinished: A) -> Self {
        Self { histogram: Some(histogram), unfinished, started: Instant::now() }
    }

    /// Records the seconds so far under `attributes` and returns them.
    pub fn finish(mut self, attributes: A) -> Duration {
        self.record(attributes)
    }

    /// Ends the timer without recording anything.
    pub fn discard(mut self) {
        self.histogram = None;
    }

    /// Times a closure; `classify` says from its result how it ended.
    pub fn time<T>(self, work: impl FnOnce() -> T, classify: impl FnOnce(&T) -> A) -> T {
        let result = work();
        self.finish(classify(&result));
        result
    }

    /// Times a future, from the timer's creation until the future is ready; `classify` says from its output how it
    /// ended. Dropped before that, the run is unfinished.
    pub async fn instrument<F: Future>(self, future: F, classify: impl FnOnce(&F::Output) -> A) -> F::Output {
        let output = future.await;
        self.finish(classify(&output));
        output
    }

    fn record(&mut self, attributes: A) -> Duration {
        let elapsed = self.started.elapsed();
        if let Some(histogram) = self.histogram.take() {
            histogram.record(elapsed.as_secs_f64(), attributes);
        }
        elapsed
    }
}

impl<A: AttributeSet> Drop for OutcomeTimer<A> {
    fn drop(&mut self) {
        self.record(self.unfinished);
    }
}

impl<A: AttributeSet> std::fmt::Debug for OutcomeTimer<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutcomeTimer").field("started", &self.started).finish_non_exhaustive()
    }
}
