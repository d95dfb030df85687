//! What threads that count and threads that collect share: cells, and the moving of what they hold.
//!
//! Nothing here waits. `tests/model` compiles this file against atomics that try every order of events.

use std::sync::{Arc, OnceLock};

use super::atomic::{AtomicU64, Ordering};

/// A bound instrument that adds up. Cells hold the bits of its number: in two's complement, additions wrap alike.
pub(super) trait Sum: Send + Sync + 'static {
    fn add_bits(&self, bits: u64);
}

/// What can be drained when somebody collects.
pub(crate) trait Drain: Send + Sync {
    /// Moves what the cells hold to the SDK.
    fn drain(&self);
}

/// Alone on its cache line, so that threads that count different things do not wait for each other.
#[derive(Default)]
#[repr(align(64))]
pub(super) struct Cell(AtomicU64);

impl Cell {
    #[inline]
    pub(super) fn add(&self, bits: u64) {
        self.0.fetch_add(bits, Ordering::Relaxed);
    }
}

/// The series of one counter.
pub(super) struct Series<B: Sum> {
    pub(super) cells: Arc<[Cell]>,
    pub(super) bound: OnceLock<Box<[B]>>,
}

impl<B: Sum> Series<B> {
    pub(super) fn new(cells: Arc<[Cell]>) -> Self {
        Self { cells, bound: OnceLock::new() }
    }
}

impl<B: Sum> Drain for Series<B> {
    fn drain(&self) {
        for (cell, bound) in self.cells.iter().zip(self.bound.get().into_iter().flatten()) {
            // Most cells are as they were, and a look leaves their cache lines with the threads that write them.
            if cell.0.load(Ordering::Relaxed) != 0 {
                // Two readers may drain at once: each takes what the other has not.
                bound.add_bits(cell.0.swap(0, Ordering::Relaxed));
            }
        }
    }
}

impl<B: Sum> Drop for Series<B> {
    /// The last handle is gone; what it counted is not.
    fn drop(&mut self) {
        self.drain();
    }
}
