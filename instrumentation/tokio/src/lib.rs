//! Metrics of tokio: how busy a runtime's workers are, what waits for them, and which tasks hold them up.
//!
//! ```
//! use barograph::opentelemetry::metrics::MeterProvider;
//! use barograph_instrumentation_tokio::TokioMetrics;
//! use tokio::runtime::Handle;
//!
//! async fn run(provider: &dyn MeterProvider) {
//!     let metrics = TokioMetrics::new(provider);                      // once; clones are cheap
//!     let _watched = metrics.watch("main", &Handle::current());       // until it is dropped
//!
//!     let thumbnails = metrics.tasks("thumbnails");                   // one kind of task
//!     let made = thumbnails.spawn(async { 17 }).await;                // counted, and its polls timed
//!     assert_eq!(made.ok(), Some(17));
//! }
//! # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
//! # runtime.block_on(run(&barograph::opentelemetry::metrics::NoopMeterProvider::new()));
//! ```
//!
//! # Runtimes
//!
//! What tokio counts anyway is read when somebody collects, and costs the runtime nothing: see
//! [`TokioMetrics::watch`]. Several runtimes are told apart by `tokio.runtime.name`. The rate of
//! `tokio.runtime.worker.busy_time` is the share of the time that a worker was busy: workers that are all near 1 need
//! help, and one that is near 1 alone has a task that does not yield. Tokio adds the time of a poll when it has ended:
//! a worker that hangs in one looks idle, and what shows it is `tokio.runtime.global_queue.length`, which grows.
//!
//! A program that is built with `--cfg tokio_unstable` has [more](semconv::UNSTABLE_METRICS): the blocking pool, local
//! queues, steals, polls, I/O. Elsewhere these are absent.
//!
//! # Tasks
//!
//! What no runtime tells is which tasks it is: see [`Tasks`]. Names, units and descriptions are in [`semconv`].

mod instruments;
mod runtime;
pub mod semconv;
mod task;
#[cfg_attr(not(tokio_unstable), path = "no_unstable.rs")]
mod unstable;

pub use runtime::WatchedRuntime;
pub use task::{Instrumented, Tasks};

use std::sync::Arc;

use barograph::opentelemetry::metrics::MeterProvider;
use barograph::opentelemetry::{InstrumentationScope, StringValue};
use tokio::runtime::Handle;

use crate::instruments::Instruments;
use crate::runtime::Watched;

/// Measures runtimes and tasks. Clones record into the same series.
///
/// A program has one for each provider: two would not know of each other's names of runtimes.
#[derive(Clone, Debug)]
pub struct TokioMetrics {
    instruments: Arc<Instruments>,
}

impl TokioMetrics {
    /// Builds the instruments, in the scope [`semconv::SCOPE`]. Series begin with the first runtime that is watched and
    /// the first kind of task.
    #[must_use]
    pub fn new(provider: &dyn MeterProvider) -> Self {
        let scope = InstrumentationScope::builder(semconv::SCOPE).with_version(env!("CARGO_PKG_VERSION")).build();
        let meter = provider.meter_with_scope(scope);
        Self { instruments: Arc::new(Instruments::new(&meter, &Arc::new(Watched::default()))) }
    }

    /// Measures a runtime until what it returns is dropped or the runtime is shut down: then its series are gone from
    /// the next collection on.
    ///
    /// The name becomes the attribute `tokio.runtime.name`. Where a runtime of that name is watched already, it becomes
    /// `name-2`, then `name-3`: [`WatchedRuntime::name`] tells. A name is free again when its runtime is no longer
    /// watched.
    ///
    /// The runtime is not kept alive, and its shutdown not held up. How it ends is learnt by a task on it that is never
    /// ready, which `tokio.runtime.task.count` does not count. Watch a runtime once: of two guards, each counts the other's.
    pub fn watch(&self, name: impl Into<String>, runtime: &Handle) -> WatchedRuntime {
        WatchedRuntime::watch(Arc::clone(&self.instruments), name.into(), runtime)
    }

    /// The tasks of one kind, which becomes the attribute `tokio.task.kind`: each kind is a set of series for as long
    /// as the program runs, so there should be few and all of them known when it is written. Where they are an enum of
    /// [`barograph::attribute!`], the text of a variant does.
    ///
    /// Keep what it returns: finding the series of a kind costs more than measuring a task. All of them are exported
    /// from here on.
    #[must_use]
    pub fn tasks(&self, kind: impl Into<StringValue>) -> Tasks {
        Tasks::new(self.instruments.tasks_of(kind.into()))
    }
}

/// Compiles the README's program.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
