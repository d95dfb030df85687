//! The series of a counter between the cells that threads add to and the SDK's bound instruments that the sums of the cells go to.
//!
//! `tests/model` compiles this file, too, against atomics and locks that try every order of events.

use std::mem;
use std::sync::PoisonError;

use super::blocks::{Directory, Registry, Sums, sum};
use super::sync::{Arc, AtomicU64, Mutex, OnceLock, Ordering};

/// A bound instrument that adds up. Cells hold the bits of its number: in two's complement, additions wrap alike.
pub(super) trait Sum: Send + Sync + 'static {
    /// Whether what is added may be negative. Then a series has two cells in each block, for what goes up and for what goes down.
    /// Who collects reads first what went down: who has seen something leave has seen it come, whichever threads it came and left
    /// on, and no count of things in flight is ever below those there are.
    const GOES_DOWN: bool;

    fn add_bits(&self, bits: u64);
}

/// What can be drained when somebody collects.
pub(crate) trait Drain: Send + Sync {
    /// Whether it has cells.
    fn is_ready(&self) -> bool;

    /// Says which sums it wants, and looks at what these blocks say that has to be looked at first.
    fn begin(&self, directories: &[Directory], sums: &mut Sums);

    /// Moves to the SDK what the sums are beyond what has been moved before.
    fn drain(&self, sums: &Sums);
}

/// Drains all of these, and lets go of those that have no handle any more.
///
/// A list owns what it drains: were it the last handle that drained, somebody could collect while it does, and not see what other
/// handles had counted before.
pub(super) fn drain_all<S: Drain + ?Sized>(registry: &Registry, list: &Mutex<Vec<Arc<S>>>) {
    registry.collect(|sums| {
        let lock = || list.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever builds a counter meanwhile does not wait, unless it is the one that finds the list full.
        let mut all = mem::take(&mut *lock());
        // Blocks are looked for after this has been asked: of who has no handle any more all that was counted is then there,
        // and who gets cells only now may have numbers that others have counted with.
        let asked: Vec<_> = all.iter_mut().map(|series| (Arc::get_mut(series).is_none(), series.is_ready())).collect();
        let ready = || all.iter().zip(&asked).filter(|(_, (_, is_ready))| *is_ready).map(|(series, _)| series);
        let directories = registry.directories();
        ready().for_each(|series| series.begin(&directories, sums));
        // They are looked for again: what came up before something went down may have been in a block that was not there.
        sums.add_up(&registry.directories());
        ready().for_each(|series| series.drain(sums));
        let mut asked = asked.iter();
        all.retain(|_| asked.next().is_none_or(|(is_used, _)| *is_used));
        let mut list = lock();
        all.append(&mut list);
        *list = all;
    });
}

/// The series of one counter.
pub(super) struct Series<B: Sum> {
    pub(super) bound: OnceLock<Box<[B]>>,
    cells: OnceLock<Cells>,
}

/// Where the cells of a counter are in every block.
struct Cells {
    registry: &'static Registry,
    first: usize,
    /// Cells in no block, for threads that cannot have one.
    strays: Box<[AtomicU64]>,
    counts: Mutex<Box<[Count]>>,
}

#[derive(Default)]
struct Count {
    /// So much has been moved to the SDK.
    drained: u64,
    /// What has gone down, as the collection that is under way has seen it.
    down: u64,
}

impl Cells {
    /// A cell in no block.
    fn stray(&self, number: usize) -> u64 {
        self.strays.get(number - self.first).map_or(0, |stray| stray.load(Ordering::Acquire))
    }
}

impl Drop for Cells {
    fn drop(&mut self) {
        self.registry.give_numbers_back(self.first, self.strays.len());
    }
}

impl<B: Sum> Series<B> {
    /// How many cells a series has in each block. What goes down is in the second one.
    pub(super) const CELLS: usize = if B::GOES_DOWN { 2 } else { 1 };

    pub(super) fn new() -> Self {
        Self { bound: OnceLock::new(), cells: OnceLock::new() }
    }

    /// Gives each of `count` series its cells, once they are bound. Returns the number of the first.
    pub(super) fn number(&self, registry: &'static Registry, count: usize) -> usize {
        let number = || {
            let cells = count * Self::CELLS;
            let first = registry.take_numbers(cells);
            let strays = (0..cells).map(|_| AtomicU64::new(0)).collect();
            // What those counted who had these numbers before has been moved.
            let directories = registry.directories();
            let drained = |number| {
                let down = if B::GOES_DOWN { sum(&directories, number + 1) } else { 0 };
                sum(&directories, number).wrapping_add(down)
            };
            let count = |number| Count { drained: drained(number), down: 0 };
            let counts = (first..first + cells).step_by(Self::CELLS).map(count).collect();
            Cells { registry, first, strays, counts: Mutex::new(counts) }
        };
        self.cells.get_or_init(number).first
    }

    /// Adds on a thread that has no cell of this number. Without cells at all it is the SDK that is told: `false`.
    pub(super) fn add_stray(&self, number: usize, bits: u64) -> bool {
        let Some(cells) = self.cells.get() else {
            return false;
        };
        if let Some(stray) = cells.strays.get(number - cells.first) {
            stray.fetch_add(bits, Ordering::Release);
        }
        true
    }
}

impl<B: Sum> Drain for Series<B> {
    fn is_ready(&self) -> bool {
        self.cells.get().is_some()
    }

    fn begin(&self, directories: &[Directory], sums: &mut Sums) {
        if let Some(cells) = self.cells.get() {
            sums.want(cells.first, cells.strays.len());
            if B::GOES_DOWN {
                let mut counts = cells.counts.lock().unwrap_or_else(PoisonError::into_inner);
                for (count, number) in counts.iter_mut().zip((cells.first + 1..).step_by(Self::CELLS)) {
                    count.down = sum(directories, number).wrapping_add(cells.stray(number));
                }
            }
        }
    }

    fn drain(&self, sums: &Sums) {
        let (Some(bound), Some(cells)) = (self.bound.get(), self.cells.get()) else {
            return;
        };
        let mut counts = cells.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for ((count, bound), number) in counts.iter_mut().zip(bound).zip((cells.first..).step_by(Self::CELLS)) {
            let total = sums.get(number).wrapping_add(cells.stray(number)).wrapping_add(count.down);
            // Most have not been added to.
            if total != count.drained {
                bound.add_bits(total.wrapping_sub(count.drained));
                count.drained = total;
            }
        }
    }
}
