//! Memory that threads count in: each has a block of cells that nobody else writes to, so that a count is a load and a store.
//!
//! Every series has a number in the process, and a thread finds its cell of a series in its directory, by that number. A block
//! grows by chunks of 16 cells, and only where its thread counts. Cells are totals that are never set back: who collects adds a
//! series up over all blocks, and whoever has ended needs nothing done, because the thread that begins next goes on in its block,
//! totals and all. So blocks are as many as threads have ever lived at once, and like their chunks and directories they are never
//! freed: that is what lets a thread that ends, or one that is collected from, count on without asking anybody.
//!
//! `tests/model` compiles this file against atomics and locks that try every order of events.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{PoisonError, TryLockError};

use super::sync::{AtomicU32, AtomicU64, Mutex, MutexGuard, OnceLock, Ordering};

/// The cells of a chunk.
pub(super) const CELLS: usize = 16;
/// After each collection so many adds of a thread to a series look whether they are made inside a span, and then one in about so
/// many that are alike.
const LOOKS: u32 = 16;
const STRIDE: u64 = 64;
/// Nobody wants to know of spans.
const NEVER: u32 = u32::MAX;

/// The cells of one thread for series of consecutive numbers.
#[derive(Default)]
#[repr(align(64))]
pub(crate) struct Chunk {
    pub(super) totals: [AtomicU64; CELLS],
    /// The total, its lower half, from which on an add looks whether it is made inside a span. Below [`LOOKS`] it says how many
    /// have looked since somebody collected, which is never more than what they have added. Where who collects and who adds change
    /// it at once, one of both is lost: an exemplar may come a collection later.
    pub(super) looks: [AtomicU32; CELLS],
}

impl Chunk {
    /// Adds for the thread whose chunk this is, unless it is time to look for a span first.
    ///
    /// Who sees a total that was added to by [`Ordering::Release`] also sees what was added, on whatever thread, before.
    #[inline]
    pub(super) fn add_unless_due(&self, number: usize, bits: u64, order: Ordering) -> bool {
        let cell = &self.totals[number % CELLS];
        let total = cell.load(Ordering::Relaxed);
        if total as u32 >= self.looks[number % CELLS].load(Ordering::Relaxed) {
            return false;
        }
        cell.store(total.wrapping_add(bits), order);
        true
    }

    /// Adds when it is time to look. Says when it is the next time: where nobody wants to look, never.
    pub(super) fn add_and_look(&self, number: usize, bits: u64, order: Ordering, is_wanted: bool) {
        let (cell, look) = (&self.totals[number % CELLS], &self.looks[number % CELLS]);
        let total = cell.load(Ordering::Relaxed);
        cell.store(total.wrapping_add(bits), order);
        let next = match look.load(Ordering::Relaxed) {
            _ if !is_wanted => NEVER,
            // Nothing was measured, or nothing that shows in this half.
            _ if bits as u32 == 0 => return,
            looked if looked < LOOKS - 1 => looked + 1,
            // At the end of a half the sum begins anew and is small, and so each add looks until the total does, too.
            _ => (total.wrapping_add(bits.saturating_mul(STRIDE).min(1 << 31)) as u32).min(NEVER - 1),
        };
        look.store(next, Ordering::Relaxed);
    }
}

/// Where a block has a chunk.
#[derive(Default)]
pub(crate) struct Place {
    chunk: OnceLock<&'static Chunk>,
    /// The sum of its totals when somebody collected last.
    seen: AtomicU64,
}

/// The chunks of a block by the numbers of their series.
pub(crate) type Directory = &'static [Place];

/// The chunk of a number, if the block has it.
#[inline]
pub(super) fn find(directory: Directory, number: usize) -> Option<&'static Chunk> {
    directory.get(number / CELLS)?.chunk.get().copied()
}

/// Adds up over all blocks what is in one cell.
pub(super) fn sum(directories: &[Directory], number: usize) -> u64 {
    let cells = directories.iter().filter_map(|directory| find(directory, number));
    cells.map(|chunk| chunk.totals[number % CELLS].load(Ordering::Acquire)).fold(0, u64::wrapping_add)
}

/// Whoever collects adds cells up here: those of the numbers that are wanted, and of others in the same chunks.
#[derive(Default)]
pub(crate) struct Sums(Vec<(bool, [u64; CELLS])>);

impl Sums {
    /// Some series have these numbers.
    pub(super) fn want(&mut self, first: usize, count: usize) {
        let places = first / CELLS..(first + count).div_ceil(CELLS);
        if places.end > self.0.len() {
            self.0.resize(places.end, (false, [0; CELLS]));
        }
        self.0.iter_mut().take(places.end).skip(places.start).for_each(|(is_wanted, _)| *is_wanted = true);
    }

    /// The sum of one cell over all blocks.
    pub(super) fn get(&self, number: usize) -> u64 {
        self.0.get(number / CELLS).map_or(0, |(_, sums)| sums[number % CELLS])
    }

    /// Block by block, because that is how they lie in memory.
    pub(super) fn add_up(&mut self, directories: &[Directory]) {
        for directory in directories {
            for (place, (is_wanted, sums)) in directory.iter().zip(&mut self.0) {
                if let (true, Some(chunk)) = (*is_wanted, place.chunk.get()) {
                    place.add_to(sums, chunk);
                }
            }
        }
    }
}

impl Place {
    fn add_to(&self, sums: &mut [u64; CELLS], chunk: &Chunk) {
        let mut all = 0_u64;
        for (sum, total) in sums.iter_mut().zip(&chunk.totals) {
            let total = total.load(Ordering::Acquire);
            *sum = sum.wrapping_add(total);
            all = all.wrapping_add(total);
        }
        // Most have not been added to, and then their other half stays with the thread that writes it.
        if self.seen.load(Ordering::Relaxed) != all {
            self.seen.store(all, Ordering::Relaxed);
            for look in &chunk.looks {
                if !matches!(look.load(Ordering::Relaxed), 0 | NEVER) {
                    look.store(0, Ordering::Relaxed);
                }
            }
        }
    }
}

/// Every block and number of the process.
#[derive(Default)]
pub(super) struct Registry {
    state: Mutex<State>,
    collecting: Mutex<Sums>,
}

#[derive(Default)]
struct State {
    directories: Vec<Directory>,
    /// Blocks whose threads have ended.
    idle: Vec<usize>,
    numbers: Numbers,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Collects. Who collects next waits: it must not look before what this one has taken has arrived.
    pub(super) fn collect(&self, collect: impl FnOnce(&mut Sums)) {
        let mut sums = self.collecting.lock().unwrap_or_else(PoisonError::into_inner);
        sums.0.clear();
        collect(&mut sums);
    }

    /// The directory of a thread's block once it has a chunk for this number. `block` is the thread's, if it has one already.
    ///
    /// `None` if somebody is at the registry right now: a thread that counts does not wait, and it may be that very thread, where
    /// somebody counts allocations.
    pub(super) fn directory_with(&self, block: &Cell<Option<usize>>, number: usize) -> Option<Directory> {
        let mut state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let state = &mut *state;
        let own = block.get().or_else(|| state.idle.pop()).unwrap_or(state.directories.len());
        if own == state.directories.len() {
            state.directories.push(&[]);
        }
        block.set(Some(own));
        let directory = state.directories.get_mut(own)?;
        let place = number / CELLS;
        if place >= directory.len() {
            let grown: Box<[Place]> = (0..(place + 1).next_power_of_two()).map(|_| Place::default()).collect();
            for (place, old) in grown.iter().zip(*directory) {
                if let Some(&chunk) = old.chunk.get() {
                    place.chunk.get_or_init(|| chunk);
                }
            }
            *directory = Box::leak(grown);
        }
        directory.get(place)?.chunk.get_or_init(|| Box::leak(Box::default()));
        Some(directory)
    }

    /// A thread counts no more: the next that begins goes on in its block.
    pub(super) fn give_block_back(&self, block: usize) {
        self.lock().idle.push(block);
    }

    /// The directories of all blocks as they are now.
    pub(super) fn directories(&self) -> Vec<Directory> {
        self.lock().directories.clone()
    }

    /// The first of so many consecutive numbers that no series has. Spans will be looked for.
    pub(super) fn take_numbers(&self, count: usize) -> usize {
        let first = self.lock().numbers.take(count);
        for directory in self.directories() {
            for number in first..first + count {
                if let Some(chunk) = find(directory, number) {
                    chunk.looks[number % CELLS].store(0, Ordering::Relaxed);
                }
            }
        }
        first
    }

    /// Nobody adds to series of these numbers any more.
    pub(super) fn give_numbers_back(&self, first: usize, count: usize) {
        self.lock().numbers.give_back(first, count);
    }
}

/// Which numbers no series has.
#[derive(Default)]
struct Numbers {
    /// How many, by the first of them, below `end`.
    free: BTreeMap<usize, usize>,
    end: usize,
}

impl Numbers {
    fn take(&mut self, count: usize) -> usize {
        let Some((first, length)) =
            self.free.iter().map(|(&first, &length)| (first, length)).find(|(_, length)| *length >= count)
        else {
            self.end += count;
            return self.end - count;
        };
        self.free.remove(&first);
        if length > count {
            self.free.insert(first + count, length - count);
        }
        first
    }

    fn give_back(&mut self, first: usize, count: usize) {
        let (mut first, mut end) = (first, first + count);
        if let Some(after) = self.free.remove(&end) {
            end += after;
        }
        if let Some((&before, &length)) = self.free.range(..first).next_back()
            && before + length == first
        {
            self.free.remove(&before);
            first = before;
        }
        if end == self.end {
            self.end = first;
        } else {
            self.free.insert(first, end - first);
        }
    }
}
