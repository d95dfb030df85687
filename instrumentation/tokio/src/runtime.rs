//! The runtimes that are watched, each until its guard is dropped or it is shut down.

use std::fmt;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use barograph::opentelemetry::KeyValue;
use tokio::runtime::{Handle, RuntimeMetrics};
use tokio::task::AbortHandle;

use crate::instruments::Instruments;
use crate::semconv::RUNTIME_NAME;

/// A runtime and what tokio tells of it.
#[derive(Debug)]
pub(crate) struct Runtime {
    id: u64,
    /// The attribute.
    pub(crate) name: KeyValue,
    pub(crate) metrics: RuntimeMetrics,
}

/// All runtimes that are watched, shared by the callbacks that read them and the guards that take them away.
#[derive(Debug, Default)]
pub(crate) struct Watched(Mutex<Runtimes>);

#[derive(Debug, Default)]
struct Runtimes {
    last_id: u64,
    all: Vec<Runtime>,
}

impl Watched {
    pub(crate) fn each(&self, mut observe: impl FnMut(&Runtime)) {
        self.lock().all.iter().for_each(&mut observe);
    }

    /// Adds a runtime, by that name or the first one free after it.
    fn add(&self, wanted: &str, metrics: RuntimeMetrics) -> (u64, String) {
        let mut runtimes = self.lock();
        let is_free = |name: &String| runtimes.all.iter().all(|other| other.name.value.as_str() != name.as_str());
        let mut others = 2_u64..;
        let mut name = wanted.to_owned();
        while !is_free(&name) {
            name = format!("{wanted}-{}", others.next().unwrap_or_default());
        }
        runtimes.last_id += 1;
        let id = runtimes.last_id;
        runtimes.all.push(Runtime { id, name: KeyValue::new(RUNTIME_NAME, name.clone()), metrics });
        (id, name)
    }

    fn remove(&self, id: u64) {
        let mut runtimes = self.lock();
        let index = runtimes.all.iter().position(|runtime| runtime.id == id);
        let removed = index.map(|index| runtimes.all.swap_remove(index));
        // What may be the last handle of a runtime is dropped when nobody has to wait for it.
        drop(runtimes);
        drop(removed);
    }

    fn lock(&self) -> MutexGuard<'_, Runtimes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A runtime that is measured until this is dropped or the runtime is shut down, whichever is first.
///
/// Made by [`TokioMetrics::watch`](crate::TokioMetrics::watch).
#[must_use = "the runtime is watched until this is dropped"]
pub struct WatchedRuntime {
    // The callbacks are registered for as long as somebody watches.
    instruments: Arc<Instruments>,
    id: u64,
    name: String,
    sentinel: AbortHandle,
}

impl WatchedRuntime {
    pub(crate) fn watch(instruments: Arc<Instruments>, name: String, runtime: &Handle) -> Self {
        let (id, name) = instruments.watched.add(&name, runtime.metrics());
        // A runtime drops its tasks when it is shut down, at once if it has been: no other sign of it is given.
        let sentinel = Sentinel { watched: Arc::downgrade(&instruments.watched), id };
        let waiting = runtime.spawn(async move {
            let _sentinel = sentinel;
            pending::<()>().await;
        });
        Self { instruments, id, name, sentinel: waiting.abort_handle() }
    }

    /// The value of `tokio.runtime.name`: the name that was asked for, with a number if another runtime had it.
    ///
    /// ```
    /// # let provider = barograph::opentelemetry::metrics::NoopMeterProvider::new();
    /// # let build = || tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// let (one, another) = (build(), build());
    /// let metrics = barograph_instrumentation_tokio::TokioMetrics::new(&provider);
    /// let first = metrics.watch("pool", one.handle());
    /// let second = metrics.watch("pool", another.handle());
    /// assert_eq!((first.name(), second.name()), ("pool", "pool-2"));
    /// ```
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for WatchedRuntime {
    fn drop(&mut self) {
        self.instruments.watched.remove(self.id);
        self.sentinel.abort();
    }
}

impl fmt::Debug for WatchedRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchedRuntime").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Lives in a task of the runtime, and dies with it.
struct Sentinel {
    watched: Weak<Watched>,
    id: u64,
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        if let Some(watched) = self.watched.upgrade() {
            watched.remove(self.id);
        }
    }
}
