//! How handles count: in the cells of the thread they are used on, which are drained into the SDK's bound instruments.
//!
//! A bound instrument costs a chain of pointers and an atomic operation that threads wait for; a cell of one's own is a load and
//! a store. Barograph's provider takes the cells of every counter that is built and drains them whenever somebody collects,
//! before the SDK looks: so views, readers and shutdown see what they would see otherwise. A provider that takes no cells gets
//! every add at once. A thread that ends and has given its block away already, or that finds somebody at the registry, counts in
//! cells that all such threads share.

use std::cell::{Cell, RefCell};
#[cfg(feature = "prometheus")]
use std::sync::Mutex;
use std::sync::{Arc, LazyLock};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{BoundCounter, BoundUpDownCounter};

use super::blocks::{CELLS, Chunk, Directory, Registry, find};
#[cfg(feature = "prometheus")]
use super::series;
use super::series::{Drain, Series, Sum};
use super::sync::{AtomicU32, AtomicU64, Ordering};
use super::with_attributes;
use crate::attribute::{AttributeSet, combinations, key_values};
use crate::exemplar::{NumberedSeries, Source};

static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::default);

/// Numbers below this find their chunk in a thread-local of a fixed size, others in the directory: by three or four nanoseconds more.
const NEAR: usize = 4_096;

/// The chunk of whoever has none: it is always time to look, so that nobody ever adds to it.
static EMPTY: Chunk =
    Chunk { totals: [const { AtomicU64::new(0) }; CELLS], looks: [const { AtomicU32::new(0) }; CELLS] };

thread_local! {
    /// The chunks of this thread's block, and its directory, which has them all. They have no destructor, so that nothing is asked
    /// before they are looked at, and they are there for as long as the thread runs.
    static CHUNKS: [Cell<&'static Chunk>; NEAR / CELLS] = const { [const { Cell::new(&EMPTY) }; NEAR / CELLS] };
    static DIRECTORY: Cell<Directory> = const { Cell::new(&[]) };
    static BLOCK: Block = const { Block(Cell::new(None)) };
}

/// The block of a thread, once it has one.
struct Block(Cell<Option<usize>>);

impl Drop for Block {
    fn drop(&mut self) {
        if let Some(block) = self.0.get() {
            // Where thread-locals are kept by others than the loader, these may be gone as well.
            let _ = CHUNKS.try_with(|chunks| chunks.iter().for_each(|chunk| chunk.set(&EMPTY)));
            let _ = DIRECTORY.try_with(|directory| directory.set(&[]));
            REGISTRY.give_block_back(block);
        }
    }
}

/// Adds to this thread's cell, if it has one and it is not time to look for a span.
#[inline]
fn add_unless_due(number: usize, bits: u64, order: Ordering) -> bool {
    let near = CHUNKS.try_with(|chunks| chunks.get(number / CELLS).map(Cell::get)).unwrap_or(Some(&EMPTY));
    match near {
        Some(chunk) => chunk.add_unless_due(number, bits, order),
        None => add_far_unless_due(number, bits, order),
    }
}

/// Out of the way of those that are near.
#[inline(never)]
fn add_far_unless_due(number: usize, bits: u64, order: Ordering) -> bool {
    let chunk = DIRECTORY.try_with(|directory| find(directory.get(), number)).ok().flatten();
    chunk.is_some_and(|chunk| chunk.add_unless_due(number, bits, order))
}

/// This thread's chunk, which is made if need be. `None` where it cannot be: the thread is ending, or somebody is at the registry.
fn own_chunk(number: usize) -> Option<&'static Chunk> {
    BLOCK
        .try_with(|block| {
            let directory = DIRECTORY.try_with(Cell::get).ok()?;
            let chunk = find(directory, number).or_else(|| {
                let directory = REGISTRY.directory_with(&block.0, number)?;
                let _ = DIRECTORY.try_with(|own| own.set(directory));
                find(directory, number)
            })?;
            let _ = CHUNKS.try_with(|chunks| chunks.get(number / CELLS).map(|near| near.set(chunk)));
            Some(chunk)
        })
        .ok()
        .flatten()
}

/// Moves what has been counted to the SDK, and lets go of counters that have no handle any more.
#[cfg(feature = "prometheus")]
pub(crate) fn drain_all(list: &Mutex<Vec<Arc<dyn Drain>>>) {
    series::drain_all(&REGISTRY, list);
}

impl Sum for BoundCounter<u64> {
    const GOES_DOWN: bool = false;

    fn add_bits(&self, bits: u64) {
        self.add(bits);
    }
}

impl Sum for BoundUpDownCounter<i64> {
    const GOES_DOWN: bool = true;

    fn add_bits(&self, bits: u64) {
        self.add(bits.cast_signed());
    }
}

/// The series of a counter as its handles hold them.
pub(super) struct Shared<B: Sum> {
    /// The number of the first cell; [`NOWHERE`] where no provider drains them.
    first: usize,
    /// `None` where nobody wants exemplars.
    exemplars: Option<Arc<NumberedSeries>>,
    series: Arc<Series<B>>,
}

/// No block is this large, whatever is added to it.
const NOWHERE: usize = usize::MAX / 2;

impl<B: Sum> Shared<B> {
    /// Builds an instrument while the provider can take its cells, then binds every combination of its attributes.
    pub(super) fn build<A: AttributeSet, I>(build: impl FnOnce() -> I, bind: impl Fn(&I, &[KeyValue]) -> B) -> Self {
        let series = Arc::new(Series::new());
        let outer = replace_offer(Offer { cells: Some(Arc::clone(&series) as _), exemplars: None });
        let instrument = with_attributes(A::ATTRIBUTES, build);
        let left = replace_offer(outer.unwrap_or_default());
        let (is_taken, source) = left.map_or((false, None), |left| (left.cells.is_none(), left.exemplars));
        series.bound.get_or_init(|| {
            let bound = combinations::<A>().map(|attributes| bind(&instrument, &attributes));
            // The SDK exports a series without attributes from its first add on, so each gets one.
            bound.inspect(|bound| bound.add_bits(0)).collect()
        });
        let first = if is_taken { series.number(&REGISTRY, A::CARDINALITY) } else { NOWHERE };
        let attributes = |number| key_values(A::ATTRIBUTES, number);
        let exemplars = source.map(|source| Arc::new(NumberedSeries::new(&source, A::CARDINALITY, attributes)));
        Self { first, exemplars, series }
    }

    /// The number of this thread's cell for a series.
    #[inline]
    fn number(&self, index: usize) -> usize {
        self.first + index * Series::<B>::CELLS
    }

    /// Adds where it is time to look for a span, or where the thread has no cell. Says whether to look: without a cell always.
    #[cold]
    fn add_slowly(&self, number: usize, index: usize, bits: u64, order: Ordering) -> bool {
        let chunk = if self.first == NOWHERE { None } else { own_chunk(number) };
        let Some(chunk) = chunk else {
            let is_added = self.series.add_stray(number, bits);
            if !is_added && let Some(bound) = self.series.bound.get().and_then(|bound| bound.get(index)) {
                bound.add_bits(bits);
            }
            return is_added;
        };
        let is_due = !chunk.add_unless_due(number, bits, order);
        if is_due {
            chunk.add_and_look(number, bits, order, self.exemplars.is_some());
        }
        is_due
    }

    pub(super) fn len(&self) -> usize {
        self.series.bound.get().map_or(0, |bound| bound.len())
    }
}

impl Shared<BoundCounter<u64>> {
    #[inline]
    pub(super) fn add<A: AttributeSet>(&self, attributes: A, value: u64) {
        let index = attributes.index();
        // The compiler knows this of an enum, but anybody can write an attribute.
        if index < A::CARDINALITY && !add_unless_due(self.number(index), value, Ordering::Relaxed) {
            self.add_and_look(index, value);
        }
    }

    #[cold]
    fn add_and_look(&self, index: usize, value: u64) {
        let is_due = self.add_slowly(self.number(index), index, value, Ordering::Relaxed);
        if is_due && let Some(exemplars) = &self.exemplars {
            exemplars.offer(index, value);
        }
    }
}

impl Shared<BoundUpDownCounter<i64>> {
    #[inline]
    pub(super) fn add<A: AttributeSet>(&self, attributes: A, value: i64) {
        let index = attributes.index();
        if index < A::CARDINALITY {
            self.add_to(index, value);
        }
    }

    /// Adds to the series at this place, which there is.
    #[inline]
    pub(super) fn add_to(&self, index: usize, value: i64) {
        let number = self.number(index) + usize::from(value < 0);
        if !add_unless_due(number, value.cast_unsigned(), Ordering::Release) {
            self.add_slowly(number, index, value.cast_unsigned(), Ordering::Release);
        }
    }
}

impl<B: Sum> Clone for Shared<B> {
    fn clone(&self) -> Self {
        let Self { first, exemplars, series } = self;
        Self { first: *first, exemplars: exemplars.clone(), series: Arc::clone(series) }
    }
}

/// What the thread that builds a counter offers the provider, and what it is given back.
#[derive(Default)]
pub(super) struct Offer {
    cells: Option<Arc<dyn Drain>>,
    /// Where exemplars of what is counted go, if anybody wants them.
    exemplars: Option<Arc<Source>>,
}

thread_local! {
    static OFFER: RefCell<Offer> = const { RefCell::new(Offer { cells: None, exemplars: None }) };
}

/// Makes another offer. On a thread that is ending there is no place for one any more, and none is made.
pub(super) fn replace_offer(offer: Offer) -> Option<Offer> {
    OFFER.try_with(|place| place.replace(offer)).ok()
}

/// The cells of the counter that this thread is building, if it is building one. Who takes them drains them, and says where
/// exemplars go.
#[cfg(feature = "prometheus")]
pub(crate) fn take_cells(exemplars: Option<Arc<Source>>) -> Option<Arc<dyn Drain>> {
    let take = |offer: &RefCell<Offer>| {
        let mut offer = offer.borrow_mut();
        let cells = offer.cells.take()?;
        offer.exemplars = exemplars;
        Some(cells)
    };
    OFFER.try_with(take).ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds so often, and says which of the adds looked for a span.
    fn add(registry: &Registry, times: usize, value: u64, is_wanted: bool) -> Vec<usize> {
        let directory = registry.directory_with(&Cell::new(Some(0)), 0).unwrap();
        let chunk = find(directory, 0).unwrap();
        let mut looked = Vec::new();
        for add in 0..times {
            if !chunk.add_unless_due(0, value, Ordering::Relaxed) {
                chunk.add_and_look(0, value, Ordering::Relaxed, is_wanted);
                looked.push(add);
            }
        }
        looked
    }

    fn collect(registry: &Registry) -> u64 {
        let mut collected = 0;
        registry.collect(|sums| {
            sums.want(0, 1);
            sums.add_up(&registry.directories());
            collected = sums.get(0);
        });
        collected
    }

    #[test]
    fn after_a_collection_the_first_adds_look_for_a_span_and_then_one_in_sixty_four() {
        let registry = Registry::default();
        for collected in 0..3 {
            let looked = add(&registry, 16 + 640, 1, true);
            assert_eq!(looked[..16], (0..16).collect::<Vec<_>>());
            // One of these is 64 after the last.
            let apart: Vec<_> = looked[15..].windows(2).map(|pair| pair[1] - pair[0]).collect();
            assert_eq!(apart, [64; 10], "after {collected} collections");
            assert_eq!(collect(&registry), (collected + 1) * 656);
        }
    }

    #[test]
    fn to_add_nothing_uses_up_no_look() {
        let registry = Registry::default();
        add(&registry, 5, 0, true);
        assert_eq!(add(&registry, 100, 1, true).len(), 16 + 1);
    }

    #[test]
    fn values_of_any_size_look_as_often() {
        for value in [1_500, 1 << 20, 1 << 26] {
            let registry = Registry::default();
            for _ in 0..5 {
                let looked = add(&registry, 6_400, value, true).len();
                // Once in a while the half of the total that is looked at begins anew, and up to 64 adds look.
                assert!((100..700).contains(&looked), "{looked} adds of {value}");
                collect(&registry);
            }
        }
    }

    #[test]
    fn where_nobody_wants_exemplars_one_add_is_told_so_until_the_number_is_anothers() {
        let registry = Registry::default();
        registry.take_numbers(1);
        for looked in [&[0_usize][..], &[], &[]] {
            assert_eq!(add(&registry, 1_000, 1, false), looked);
            collect(&registry);
        }
        registry.give_numbers_back(0, 1);
        registry.take_numbers(1);
        assert_eq!(add(&registry, 16, 1, true).len(), 16);
    }

    #[test]
    fn numbers_are_given_out_again_and_join_with_those_beside_them() {
        let registry = Registry::default();
        let [a, b, c] = [5, 3, 7].map(|count| (registry.take_numbers(count), count));
        assert_eq!([a.0, b.0, c.0], [0, 5, 8]);
        registry.give_numbers_back(a.0, a.1);
        assert_eq!(registry.take_numbers(2), 0);
        registry.give_numbers_back(b.0, b.1);
        assert_eq!(registry.take_numbers(6), 2, "three that were left and three that came back");
        registry.give_numbers_back(c.0, c.1);
        registry.give_numbers_back(2, 6);
        registry.give_numbers_back(0, 2);
        assert_eq!(registry.take_numbers(100), 0, "all of them are free");
    }

    #[test]
    fn a_thread_goes_on_in_the_block_of_one_that_has_ended() {
        let registry = Registry::default();
        let blocks = [(); 2].map(|()| Cell::new(None));
        blocks.iter().for_each(|block| _ = registry.directory_with(block, 40));
        assert_eq!([blocks[0].get(), blocks[1].get()], [Some(0), Some(1)]);
        registry.give_block_back(0);
        let next = Cell::new(None);
        let directory = registry.directory_with(&next, 3).unwrap();
        assert_eq!(next.get(), Some(0));
        assert!(find(directory, 40).is_some() && find(directory, 3).is_some() && find(directory, 20).is_none());
        assert_eq!(registry.directories().len(), 2);
    }
}
