//! Whether the program wants to be asked: what `/readyz` says.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What keeps a pipeline's program from being ready.
#[derive(Debug, Default)]
pub(crate) struct Readiness {
    latches: Mutex<Vec<(u64, String)>>,
    is_ending: AtomicBool,
}

impl Readiness {
    fn latches(&self) -> MutexGuard<'_, Vec<(u64, String)>> {
        self.latches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn latch(self: &Arc<Self>, name: String) -> ReadinessLatch {
        let mut latches = self.latches();
        let number = latches.last().map_or(0, |(number, _)| number + 1);
        latches.push((number, name));
        ReadinessLatch { readiness: Arc::clone(self), number }
    }

    /// From now on the program is not ready, whatever its latches say.
    pub(crate) fn end(&self) {
        self.is_ending.store(true, Ordering::Release);
    }

    pub(super) fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::Acquire)
    }

    /// What the program is waiting for, in the order in which it began to.
    pub(super) fn awaited(&self) -> Vec<String> {
        self.latches().iter().map(|(_, name)| name.clone()).collect()
    }
}

/// While it lives, `/readyz` answers 503 and names it: see
/// [`Telemetry::readiness_latch`](crate::Telemetry::readiness_latch).
#[derive(Debug)]
#[must_use = "the program is ready when it is dropped"]
pub struct ReadinessLatch {
    readiness: Arc<Readiness>,
    number: u64,
}

impl Drop for ReadinessLatch {
    fn drop(&mut self) {
        self.readiness.latches().retain(|(number, _)| *number != self.number);
    }
}
