//! Cells that counters add to, and the SDK's bound instruments that the cells are drained into.
//!
//! A bound instrument costs a chain of pointers before its atomic; a cell is the atomic itself. Barograph's provider
//! takes the cells of every counter that is built and drains them whenever somebody collects, before the SDK looks: so
//! views, readers and shutdown see what they would see otherwise. (What a callback adds shows in the collection after:
//! draining comes before the callbacks.) A provider that takes no cells gets every add at once.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{BoundCounter, BoundUpDownCounter};

use super::with_attributes;
use crate::attribute::{AttributeSet, combinations};

/// A bound instrument that adds up. Cells hold the bits of its number: in two's complement, additions wrap alike.
pub(super) trait Sum: Send + Sync + 'static {
    fn add_bits(&self, bits: u64);
}

impl Sum for BoundCounter<u64> {
    fn add_bits(&self, bits: u64) {
        self.add(bits);
    }
}

impl Sum for BoundUpDownCounter<i64> {
    fn add_bits(&self, bits: u64) {
        self.add(bits.cast_signed());
    }
}

/// What can be drained when somebody collects.
pub(crate) trait Drain: Send + Sync {
    /// Moves what the cells hold to the SDK.
    fn drain(&self);
}

/// The series of one counter.
pub(super) struct Series<B: Sum> {
    cells: Arc<[Cell]>,
    bound: OnceLock<Box<[B]>>,
}

/// Alone on its cache line, so that threads that count different things do not wait for each other.
#[derive(Default)]
#[repr(align(64))]
struct Cell(AtomicU64);

/// The series of a counter as its handles hold them.
pub(super) struct Shared<B: Sum> {
    /// The cells of the series, one pointer away; none where no provider drains them.
    cells: Arc<[Cell]>,
    series: Arc<Series<B>>,
}

impl<B: Sum> Shared<B> {
    /// Builds an instrument while the provider can take its cells, then binds every combination of its attributes.
    pub(super) fn build<A: AttributeSet, I>(build: impl FnOnce() -> I, bind: impl Fn(&I, &[KeyValue]) -> B) -> Self {
        let cells: Arc<[Cell]> = (0..A::CARDINALITY).map(|_| Cell::default()).collect();
        let series = Arc::new(Series { cells: Arc::clone(&cells), bound: OnceLock::new() });
        let offer: Arc<dyn Drain> = Arc::clone(&series) as _;
        // A thread that is ending has no such slot any more; there the offer is not made.
        let outer = OFFER.try_with(|slot| slot.replace(Some(offer))).ok().flatten();
        let instrument = with_attributes(A::ATTRIBUTES, build);
        let is_taken = OFFER.try_with(|slot| slot.replace(outer)).is_ok_and(|left| left.is_none());
        series.bound.get_or_init(|| {
            let bound = combinations::<A>().map(|attributes| bind(&instrument, &attributes));
            // The SDK exports a series without attributes from its first add on, so each gets one.
            bound.inspect(|bound| bound.add_bits(0)).collect()
        });
        Self { cells: if is_taken { cells } else { Arc::default() }, series }
    }

    #[inline]
    pub(super) fn add_bits(&self, index: usize, bits: u64) {
        match self.cells.get(index) {
            Some(cell) => {
                cell.0.fetch_add(bits, Ordering::Relaxed);
            }
            None => self.add_bound(index, bits),
        }
    }

    #[cold]
    fn add_bound(&self, index: usize, bits: u64) {
        if let Some(bound) = self.series.bound.get().and_then(|bound| bound.get(index)) {
            bound.add_bits(bits);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.series.cells.len()
    }
}

impl<B: Sum> Clone for Shared<B> {
    fn clone(&self) -> Self {
        Self { cells: Arc::clone(&self.cells), series: Arc::clone(&self.series) }
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

thread_local! {
    static OFFER: RefCell<Option<Arc<dyn Drain>>> = const { RefCell::new(None) };
}

/// The cells of the counter that this thread is building, if it is building one. Who takes them drains them.
#[cfg(feature = "prometheus")]
pub(crate) fn take_cells() -> Option<std::sync::Weak<dyn Drain>> {
    let cells = OFFER.try_with(RefCell::take).ok().flatten()?;
    Some(Arc::downgrade(&cells))
}
