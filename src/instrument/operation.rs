//! Operations: a function's calls, how they end, how long they take and how many are in progress, from one declaration.
//!
//! ```
//! use barograph::{MeterExt, OperationSpec, operation};
//! # use barograph::opentelemetry::metrics::{MeterProvider, NoopMeterProvider};
//! # fn find(key: &str) -> Result<u32, String> { Ok(1) }
//! # async fn fetch(key: &str) -> Result<u32, String> { Ok(1) }
//!
//! // cache.lookup.calls and cache.lookup.duration by outcome, cache.lookup.active_calls
//! const LOOKUP: OperationSpec = operation!("cache.lookup", "Looks a key up in the cache.");
//!
//! # fn sync() -> Result<(), String> {
//! # let meter = NoopMeterProvider::new().meter("cache");
//! let lookup = meter.operation(&LOOKUP);                  // once; clones are cheap
//! let value = lookup.run(|| find("key"))?;                // `Ok` is a success, `Err` an error
//! # Ok(()) }
//! # async fn run() -> Result<(), String> {
//! # let lookup = NoopMeterProvider::new().meter("cache").operation(&LOOKUP);
//! let value = lookup.instrument(fetch("key")).await?;     // dropped half-way it is cancelled
//! # Ok(()) }
//! # sync().unwrap();
//! ```
//!
//! It wraps what is called, and is no attribute of the function: what is measured, and from where to where, stands where
//! it happens; a method, a closure and a part of a function are measured in the same way; the handle comes from where
//! the program keeps its handles, and not from a global; and no procedural macro has to be built.

use std::future::{Future, poll_fn};
use std::ops::Deref;
use std::pin::pin;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use opentelemetry::metrics::Meter;

use super::{Counter, Histogram, MeterExt, UpDownCounter};
use crate::attribute;
use crate::attribute::{Attribute, AttributeSet, Outcome};
use crate::spec::{CounterSpec, Descriptor, HistogramSpec, UpDownCounterSpec};

attribute! {
    /// How a call ended, for an [`Operation`] that asks for no more.
    pub enum CallOutcome: "outcome" {
        /// It returned `Ok`.
        Success = "success",
        /// It returned `Err`.
        Error = "error",
        /// It was dropped before its end: a future that is no longer polled, a `?` on the way.
        Cancelled = "cancelled",
        /// It panicked.
        Panic = "panic",
    }
    unfinished => Cancelled
    panicked => Panic
}

impl<T, E> From<&Result<T, E>> for CallOutcome {
    fn from(result: &Result<T, E>) -> Self {
        if result.is_ok() { Self::Success } else { Self::Error }
    }
}

/// What the calls of an operation are told apart by: an [`Outcome`], or a tuple whose last attribute is one and whose
/// others are known when a call starts.
pub trait OperationAttributes: AttributeSet {
    /// How a call ended.
    type Outcome: Outcome;

    /// What is known when a call starts.
    type Known: AttributeSet;

    /// The attributes of a call that has ended.
    fn ended(known: Self::Known, outcome: Self::Outcome) -> Self;
}

impl<O: Outcome> OperationAttributes for O {
    type Outcome = O;
    type Known = ();

    fn ended((): (), outcome: O) -> Self {
        outcome
    }
}

impl<A: Attribute, O: Outcome> OperationAttributes for (A, O) {
    type Outcome = O;
    type Known = A;

    fn ended(known: A, outcome: O) -> Self {
        (known, outcome)
    }
}

impl<A: Attribute, B: Attribute, O: Outcome> OperationAttributes for (A, B, O) {
    type Outcome = O;
    type Known = (A, B);

    fn ended((a, b): (A, B), outcome: O) -> Self {
        (a, b, outcome)
    }
}

/// Declares an [`Operation`]: three metrics that share their attributes. Made by [`operation!`](crate::operation!), or
/// from three specs where the metrics have names of their own:
///
/// ```
/// use barograph::{CallOutcome, CounterSpec, Descriptor, HistogramSpec, OperationSpec, UpDownCounterSpec, attribute};
///
/// attribute! {
///     /// What is asked.
///     pub enum Api: "api" { DeepSeek = "deepseek", Other = "other" }
/// }
///
/// pub const ASK: OperationSpec<(Api, CallOutcome)> = OperationSpec {
///     calls: CounterSpec::new("assistant.questions", "{question}", "Questions, by API and how they ended."),
///     duration: HistogramSpec::new("assistant.answer_time", "s", "Time an answer took."),
///     active: UpDownCounterSpec::new("assistant.open_questions", "{question}", "Questions without an answer yet."),
/// };
///
/// pub const METRICS: &[Descriptor] = &ASK.descriptors();
/// ```
#[derive(Debug)]
pub struct OperationSpec<S: OperationAttributes = CallOutcome> {
    /// Calls that have ended. As many as the histogram has counted, and there when a view has dropped that one.
    pub calls: CounterSpec<S>,
    /// Seconds from the start of a call to its end.
    pub duration: HistogramSpec<S>,
    /// Calls that have not ended.
    pub active: UpDownCounterSpec<S::Known>,
}

impl<S: OperationAttributes> OperationSpec<S> {
    /// The upper bounds of the duration's buckets, in seconds. Of an [`operation!`](crate::operation!), defaults to
    /// [`buckets::SECONDS`](crate::buckets::SECONDS).
    #[must_use]
    pub const fn buckets(self, bounds: &'static [f64]) -> Self {
        let Self { calls, duration, active } = self;
        Self { calls, duration: duration.buckets(bounds), active }
    }

    /// The three metrics as data, for a table of all: calls, duration, active calls.
    #[must_use]
    pub const fn descriptors(&self) -> [Descriptor; 3] {
        [self.calls.descriptor(), self.duration.descriptor(), self.active.descriptor()]
    }
}

/// Declares an operation by its name and a sentence that says what it does. For `cache.lookup` it declares
///
/// | metric | kind | unit | attributes |
/// |---|---|---|---|
/// | `cache.lookup.calls` | counter | `{call}` | all |
/// | `cache.lookup.duration` | histogram | `s` | all |
/// | `cache.lookup.active_calls` | up-down counter | `{call}` | all but the outcome |
///
/// named as the semantic conventions name `http.server.request.duration` and `http.server.active_requests`.
///
/// ```
/// use barograph::{CallOutcome, OperationSpec, attribute, buckets, operation};
///
/// attribute! {
///     /// Which store is asked.
///     pub enum Store: "store" { Memory = "memory", Disk = "disk" }
/// }
///
/// /// Lookups, by store and how they ended.
/// pub const LOOKUP: OperationSpec<(Store, CallOutcome)> =
///     operation!("cache.lookup", "Looks a key up in the cache.").buckets(buckets::MINUTES);
///
/// let [calls, duration, active] = LOOKUP.descriptors();
/// assert_eq!((calls.name, calls.cardinality()), ("cache.lookup.calls", 8));
/// assert_eq!((duration.name, duration.buckets), ("cache.lookup.duration", Some(buckets::MINUTES)));
/// assert_eq!((active.name, active.cardinality()), ("cache.lookup.active_calls", 2));
/// assert_eq!(calls.description, "Calls that have ended, by how. Looks a key up in the cache.");
/// ```
#[macro_export]
macro_rules! operation {
    ($name:literal, $description:literal $(,)?) => {
        $crate::OperationSpec {
            calls: $crate::CounterSpec::new(
                concat!($name, ".calls"),
                "{call}",
                concat!("Calls that have ended, by how. ", $description),
            ),
            duration: $crate::HistogramSpec::new(
                concat!($name, ".duration"),
                "s",
                concat!("Time from the start of a call to its end. ", $description),
            )
            .buckets($crate::buckets::SECONDS),
            active: $crate::UpDownCounterSpec::new(
                concat!($name, ".active_calls"),
                "{call}",
                concat!("Calls that have not ended. ", $description),
            ),
        }
    };
}

/// Measures the calls of one operation. Built by [`MeterExt::operation`](crate::MeterExt::operation); clones record
/// into the same series.
///
/// A call is in progress from its start to its end, and then counted and timed once under how it ended. Its outcome is
/// made from what it returns; a call that returns nothing is [`Outcome::UNFINISHED`], or [`Outcome::PANICKED`] when it
/// unwinds.
///
/// An outcome of one's own says more:
///
/// ```
/// use std::io;
///
/// use barograph::{MeterExt, OperationSpec, attribute, operation};
/// # use barograph::opentelemetry::metrics::{MeterProvider, NoopMeterProvider};
///
/// attribute! {
///     /// How a read ended.
///     pub enum ReadOutcome: "outcome" { Hit = "hit", Miss = "miss", Error = "error", Cancelled = "cancelled" }
///     unfinished => Cancelled
///     panicked => Error
/// }
///
/// impl<T> From<&io::Result<Option<T>>> for ReadOutcome {
///     fn from(result: &io::Result<Option<T>>) -> Self {
///         match result {
///             Ok(Some(_)) => Self::Hit,
///             Ok(None) => Self::Miss,
///             Err(_) => Self::Error,
///         }
///     }
/// }
///
/// const READ: OperationSpec<ReadOutcome> = operation!("store.read", "Reads an entry.");
///
/// # fn read() -> io::Result<Option<String>> { Ok(None) }
/// # let read_operation = NoopMeterProvider::new().meter("store").operation(&READ);
/// let entry = read_operation.run(|| read())?;             // a miss
/// # Ok::<(), io::Error>(())
/// ```
pub struct Operation<S: OperationAttributes = CallOutcome> {
    instruments: Arc<Instruments<S>>,
}

struct Instruments<S: OperationAttributes> {
    calls: Counter<S>,
    duration: Histogram<S>,
    active: UpDownCounter<S::Known>,
}

impl<S: OperationAttributes> Operation<S> {
    pub(super) fn build(meter: &Meter, spec: &OperationSpec<S>) -> Self {
        let instruments = Instruments {
            calls: meter.counter(&spec.calls),
            duration: meter.histogram(&spec.duration),
            active: meter.up_down_counter(&spec.active),
        };
        Self { instruments: Arc::new(instruments) }
    }

    /// Starts a call now, of which `known` is known already.
    ///
    /// ```
    /// # use barograph::{CallOutcome, MeterExt, OperationSpec, attribute, operation};
    /// # use barograph::opentelemetry::metrics::{MeterProvider, NoopMeterProvider};
    /// # attribute! {
    /// #     /// Which store is asked.
    /// #     pub enum Store: "store" { Memory = "memory", Disk = "disk" }
    /// # }
    /// const LOOKUP: OperationSpec<(Store, CallOutcome)> = operation!("cache.lookup", "Looks a key up in the cache.");
    ///
    /// # fn find() -> Result<u32, String> { Ok(1) }
    /// # let lookup = NoopMeterProvider::new().meter("cache").operation(&LOOKUP);
    /// let value = lookup.start_for(Store::Disk).run(|| find())?;
    /// # Ok::<(), String>(())
    /// ```
    pub fn start_for(&self, known: S::Known) -> Call<S> {
        Call(Running::start(Arc::clone(&self.instruments), known))
    }
}

impl<O: Outcome> Operation<O> {
    /// Starts a call now.
    pub fn start(&self) -> Call<O> {
        self.start_for(())
    }

    /// Calls a closure; what it returns says how the call ended.
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> T
    where
        O: for<'a> From<&'a T>,
    {
        Running::start(&*self.instruments, ()).run(work)
    }

    /// Runs a future; its output says how the call ended.
    ///
    /// Like the future itself, a call starts when it is polled first: one that is dropped before that was never made,
    /// and nothing is counted. To count from elsewhere, [`start`](Self::start) the call there.
    pub fn instrument<F>(&self, future: F) -> impl Future<Output = F::Output> + use<F, O>
    where
        F: Future,
        O: for<'a> From<&'a F::Output>,
    {
        let instruments = Arc::clone(&self.instruments);
        async move {
            let mut call = Running::<O, _>::start(instruments, ());
            let output = call.watch(future).await;
            call.finish(O::from(&output));
            output
        }
    }
}

impl<S: OperationAttributes> Clone for Operation<S> {
    fn clone(&self) -> Self {
        Self { instruments: Arc::clone(&self.instruments) }
    }
}

impl<S: OperationAttributes> std::fmt::Debug for Operation<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Operation").field("calls", &self.instruments.calls).finish_non_exhaustive()
    }
}

/// A call in progress, from its start until it is told how it ended, or dropped.
///
/// Made by [`Operation::start`]; [`Operation::run`] and [`Operation::instrument`] do without it.
#[must_use = "a call that is dropped at once did not finish"]
pub struct Call<S: OperationAttributes = CallOutcome>(Running<S, Arc<Instruments<S>>>);

impl<S: OperationAttributes> Call<S> {
    /// Ends the call.
    pub fn finish(self, outcome: S::Outcome) {
        self.0.finish(outcome);
    }

    /// Calls a closure; what it returns says how the call ended.
    pub fn run<T>(self, work: impl FnOnce() -> T) -> T
    where
        S::Outcome: for<'a> From<&'a T>,
    {
        self.0.run(work)
    }

    /// Like [`run`](Self::run); `classify` says from what the closure returns how the call ended.
    ///
    /// ```
    /// # use barograph::{CallOutcome, MeterExt, OperationSpec, operation};
    /// # use barograph::opentelemetry::metrics::{MeterProvider, NoopMeterProvider};
    /// # const SORT: OperationSpec = operation!("index.sort", "Sorts the index.");
    /// # let sort = NoopMeterProvider::new().meter("index").operation(&SORT);
    /// # let mut index = vec![2, 1];
    /// sort.start().run_with(|| index.sort(), |()| CallOutcome::Success);  // what cannot fail
    /// ```
    pub fn run_with<T>(self, work: impl FnOnce() -> T, classify: impl FnOnce(&T) -> S::Outcome) -> T {
        self.0.run_with(work, classify)
    }

    /// Runs a future; its output says how the call ended. The call has started, so a future that is dropped before it
    /// is polled is a call that did not finish.
    pub async fn instrument<F: Future>(mut self, future: F) -> F::Output
    where
        S::Outcome: for<'a> From<&'a F::Output>,
    {
        let output = self.0.watch(future).await;
        self.finish(S::Outcome::from(&output));
        output
    }

    /// Like [`instrument`](Self::instrument); `classify` says from the future's output how the call ended.
    pub async fn instrument_with<F: Future>(
        mut self,
        future: F,
        classify: impl FnOnce(&F::Output) -> S::Outcome,
    ) -> F::Output {
        let output = self.0.watch(future).await;
        self.finish(classify(&output));
        output
    }
}

impl<S: OperationAttributes> std::fmt::Debug for Call<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call").field("started", &self.0.started).finish_non_exhaustive()
    }
}

/// What starts and ends a call, once, however it ends. A closure borrows the instruments: a count of their owners that all
/// threads share would cost as much as a measurement.
struct Running<S: OperationAttributes, I: Deref<Target = Instruments<S>>> {
    instruments: I,
    known: S::Known,
    // Of another panic that unwinds already, this call is not the one that panics.
    started_unwinding: bool,
    // Nor is a future that is dropped between two polls, whatever drops it.
    is_between_polls: bool,
    started: Instant,
    outcome: Option<S::Outcome>,
}

impl<S: OperationAttributes, I: Deref<Target = Instruments<S>>> Running<S, I> {
    fn start(instruments: I, known: S::Known) -> Self {
        instruments.active.add(1, known);
        let started_unwinding = thread::panicking();
        let started = Instant::now();
        Self { instruments, known, started_unwinding, is_between_polls: false, started, outcome: None }
    }

    fn run<T>(self, work: impl FnOnce() -> T) -> T
    where
        S::Outcome: for<'a> From<&'a T>,
    {
        self.run_with(work, |result| S::Outcome::from(result))
    }

    fn run_with<T>(self, work: impl FnOnce() -> T, classify: impl FnOnce(&T) -> S::Outcome) -> T {
        let result = work();
        self.finish(classify(&result));
        result
    }

    /// Runs a future, and knows when it is being polled.
    async fn watch<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = pin!(future);
        self.is_between_polls = true;
        let output = poll_fn(|context| {
            self.is_between_polls = false;
            let polled = future.as_mut().poll(context);
            self.is_between_polls = true;
            polled
        })
        .await;
        self.is_between_polls = false;
        output
    }

    fn finish(mut self, outcome: S::Outcome) {
        self.outcome = Some(outcome);
    }
}

impl<S: OperationAttributes, I: Deref<Target = Instruments<S>>> Drop for Running<S, I> {
    fn drop(&mut self) {
        let seconds = self.started.elapsed().as_secs_f64();
        let outcome = self.outcome.unwrap_or_else(|| {
            let panicked = thread::panicking() && !self.started_unwinding && !self.is_between_polls;
            if panicked { S::Outcome::PANICKED } else { S::Outcome::UNFINISHED }
        });
        let attributes = S::ended(self.known, outcome);
        self.instruments.active.add(-1, self.known);
        self.instruments.calls.add(1, attributes);
        self.instruments.duration.record(seconds, attributes);
    }
}
