//! Counting against collecting against threads and handles that come and go.

#[path = "../../src/instrument/blocks.rs"]
mod blocks;
#[path = "../../src/instrument/series.rs"]
mod series;

/// What they share memory by.
mod sync {
    pub(super) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
    pub(super) use loom::sync::{Arc, Mutex, MutexGuard};

    use loom::sync::atomic::AtomicBool;

    /// Std's, as far as loom can see: whoever finds a value has seen what came before it was set.
    #[derive(Debug)]
    pub(super) struct OnceLock<T> {
        value: std::sync::OnceLock<T>,
        is_set: AtomicBool,
    }

    impl<T> OnceLock<T> {
        pub(super) fn new() -> Self {
            Self { value: std::sync::OnceLock::new(), is_set: AtomicBool::new(false) }
        }

        pub(super) fn get(&self) -> Option<&T> {
            self.is_set.load(Ordering::Acquire).then(|| self.value.get()).flatten()
        }

        pub(super) fn get_or_init(&self, init: impl FnOnce() -> T) -> &T {
            let value = self.value.get_or_init(init);
            self.is_set.store(true, Ordering::Release);
            value
        }
    }

    impl<T> Default for OnceLock<T> {
        fn default() -> Self {
            Self::new()
        }
    }
}

use std::cell::Cell;
use std::sync::PoisonError;

use loom::sync::atomic::{AtomicU64, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;

use blocks::{Chunk, Directory, Registry, find};
use series::{Series, Sum, drain_all};

use crate::model;

/// A bound instrument of an SDK that only adds up.
#[derive(Clone)]
struct Total(std::sync::Arc<AtomicU64>);

impl Total {
    fn new() -> Self {
        Self(std::sync::Arc::new(AtomicU64::new(0)))
    }

    fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed).cast_signed()
    }

    fn add(&self, bits: u64) {
        self.0.fetch_add(bits, Ordering::Relaxed);
    }
}

/// One of a counter.
struct Up(Total);

impl Sum for Up {
    const GOES_DOWN: bool = false;

    fn add_bits(&self, bits: u64) {
        self.0.add(bits);
    }
}

/// One of an up-down counter.
struct UpDown(Total);

impl Sum for UpDown {
    const GOES_DOWN: bool = true;

    fn add_bits(&self, bits: u64) {
        self.0.add(bits);
    }
}

/// A thread as the thread-locals of the library know it, until it is dropped.
struct Thread {
    registry: &'static Registry,
    block: Cell<Option<usize>>,
    directory: Cell<Directory>,
}

impl Thread {
    fn new(registry: &'static Registry) -> Self {
        Self { registry, block: Cell::new(None), directory: Cell::new(&[]) }
    }

    fn find(&self, number: usize) -> Option<&'static Chunk> {
        find(self.directory.get(), number).or_else(|| {
            let directory = self.registry.directory_with(&self.block, number)?;
            self.directory.set(directory);
            find(directory, number)
        })
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        if let Some(block) = self.block.get() {
            self.registry.give_block_back(block);
        }
    }
}

/// A provider that has one counter, which has one series.
struct Provider<B: Sum> {
    registry: &'static Registry,
    list: Mutex<Vec<Arc<Series<B>>>>,
}

impl<B: Sum> Provider<B> {
    fn new(registry: &'static Registry, bound: B) -> (Arc<Self>, Handle<B>) {
        let provider = Arc::new(Self { registry, list: Mutex::default() });
        let handle = provider.build(bound);
        (provider, handle)
    }

    /// The provider is given the series before they have cells.
    fn build(&self, bound: B) -> Handle<B> {
        let series = Arc::new(Series::new());
        self.list.lock().unwrap_or_else(PoisonError::into_inner).push(series.clone());
        series.bound.get_or_init(|| [bound].into());
        let number = series.number(self.registry, 1);
        Handle { series, number }
    }

    fn drain(&self) {
        drain_all(self.registry, &self.list);
    }
}

/// Of a counter with one series.
struct Handle<B: Sum> {
    series: Arc<Series<B>>,
    number: usize,
}

impl<B: Sum> Handle<B> {
    fn add(&self, thread: &Thread, value: i64) {
        let number = self.number + usize::from(value < 0);
        let bits = value.cast_unsigned();
        let order = if B::GOES_DOWN { Ordering::Release } else { Ordering::Relaxed };
        match thread.find(number) {
            Some(chunk) => {
                if !chunk.add_unless_due(number, bits, order) {
                    chunk.add_and_look(number, bits, order, true);
                }
            }
            None => assert!(self.series.add_stray(number, bits)),
        }
    }
}

impl<B: Sum> Clone for Handle<B> {
    fn clone(&self) -> Self {
        Self { series: self.series.clone(), number: self.number }
    }
}

fn registry() -> &'static Registry {
    Box::leak(Box::default())
}

#[test]
fn nothing_is_lost_or_counted_twice_while_two_readers_drain() {
    model(|| {
        let (registry, total) = (registry(), Total::new());
        let (provider, handle) = Provider::new(registry, Up(total.clone()));
        let own = Thread::new(registry);
        handle.add(&own, 1);
        let readers = [(); 2].map(|()| {
            let (provider, total) = (provider.clone(), total.clone());
            thread::spawn(move || {
                provider.drain();
                let seen = total.get();
                assert!((1..=3).contains(&seen), "{seen} of 3");
            })
        });
        handle.add(&own, 2);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        provider.drain();
        assert_eq!(total.get(), 3);
    });
}

#[test]
fn a_reader_that_comes_second_sees_the_chunks_that_the_first_has_seen() {
    model(|| {
        let (registry, total) = (registry(), Total::new());
        let (provider, handle) = Provider::new(registry, Up(total.clone()));
        let (draining, counted) = (provider.clone(), total.clone());
        let reader = thread::spawn(move || {
            draining.drain();
            counted.get()
        });
        // Its first add: the thread's block is made while somebody looks for blocks.
        handle.add(&Thread::new(registry), 1);
        provider.drain();
        assert_eq!(total.get(), 1, "what the same thread has added");
        let seen = reader.join().unwrap();
        assert!((0..=1).contains(&seen), "{seen} of 1");
        provider.drain();
        assert_eq!(total.get(), 1);
    });
}

#[test]
fn a_thread_that_ends_while_somebody_drains_leaves_its_cells_to_the_next() {
    model(|| {
        let (registry, total) = (registry(), Total::new());
        let (provider, handle) = Provider::new(registry, Up(total.clone()));
        let counting = [1, 2].map(|value| {
            let handle = handle.clone();
            thread::spawn(move || {
                let own = Thread::new(registry);
                handle.add(&own, value);
                handle.add(&own, value);
            })
        });
        provider.drain();
        let seen = total.get();
        counting.into_iter().for_each(|counting| counting.join().unwrap());
        provider.drain();
        assert!((0..=6).contains(&seen) && total.get() == 6, "{seen}, then {}", total.get());
        // Whoever comes after both takes one of the blocks that are there.
        handle.add(&Thread::new(registry), 1);
        assert!(registry.directories().len() <= 2);
        provider.drain();
        assert_eq!(total.get(), 7);
    });
}

#[test]
fn what_the_last_handle_has_counted_is_seen_whoever_drops_it_and_the_next_counter_begins_at_nothing() {
    model(|| {
        let (registry, total) = (registry(), Total::new());
        let (provider, handle) = Provider::new(registry, Up(total.clone()));
        let (number, counting) = (handle.number, handle.clone());
        let counting = thread::spawn(move || {
            counting.add(&Thread::new(registry), 1);
            drop(counting);
        });
        let draining = provider.clone();
        let reader = thread::spawn(move || draining.drain());
        handle.add(&Thread::new(registry), 2);
        drop(handle);
        provider.drain();
        assert!([2, 3].contains(&total.get()), "what the same thread has added is in {}", total.get());
        counting.join().unwrap();
        reader.join().unwrap();
        provider.drain();
        assert_eq!(total.get(), 3);

        let next = Total::new();
        let (provider, handle) = Provider::new(registry, Up(next.clone()));
        assert_eq!(handle.number, number, "the numbers of the one that is gone are free");
        handle.add(&Thread::new(registry), 4);
        provider.drain();
        assert_eq!((total.get(), next.get()), (3, 4));
    });
}

#[test]
fn what_the_only_handle_has_counted_is_seen_although_it_is_dropped_while_somebody_drains() {
    model(|| {
        let (registry, total) = (registry(), Total::new());
        let (provider, handle) = Provider::new(registry, Up(total.clone()));
        let draining = provider.clone();
        let reader = thread::spawn(move || draining.drain());
        handle.add(&Thread::new(registry), 1);
        drop(handle);
        reader.join().unwrap();
        provider.drain();
        assert_eq!(total.get(), 1);
    });
}

#[test]
fn a_counter_that_is_built_meanwhile_begins_at_nothing_although_others_have_counted_with_its_numbers() {
    model(|| {
        let (registry, total) = (registry(), Total::new());
        // Of a pipeline that has ended: nobody drains this any more.
        let (ended, old) = Provider::new(registry, Up(Total::new()));
        drop(ended);
        let provider = Arc::new(Provider { registry, list: Mutex::default() });
        let (draining, counted) = (provider.clone(), total.clone());
        let reader = thread::spawn(move || {
            draining.drain();
            let seen = counted.get();
            assert!((0..=2).contains(&seen), "{seen} of 2");
        });
        old.add(&Thread::new(registry), 5);
        drop(old);
        let handle = provider.build(Up(total.clone()));
        provider.drain();
        assert_eq!(total.get(), 0);
        handle.add(&Thread::new(registry), 2);
        reader.join().unwrap();
        provider.drain();
        assert_eq!(total.get(), 2);
    });
}

#[test]
fn nobody_sees_less_in_flight_than_there_is() {
    model(|| {
        let (registry, total) = (registry(), Total::new());
        let (provider, handle) = Provider::new(registry, UpDown(total.clone()));
        // This one has a block already, with a cell for what goes down.
        let ending = Thread::new(registry);
        handle.add(&ending, 1);
        handle.add(&ending, -1);
        let draining = provider.clone();
        let reader = thread::spawn(move || {
            draining.drain();
            let seen = total.get();
            assert!((0..=1).contains(&seen), "{seen} in flight");
            total
        });
        // It begins on one thread and ends on another, as a task does that is stolen.
        let beginning = Thread::new(registry);
        handle.add(&beginning, 1);
        handle.add(&ending, -1);
        let total = reader.join().unwrap();
        provider.drain();
        assert_eq!(total.get(), 0);
    });
}

#[test]
fn what_a_thread_lets_go_that_has_no_cells_any_more_is_not_seen_to_leave_before_it_came() {
    model(|| {
        let (registry, total) = (registry(), Total::new());
        let (provider, handle) = Provider::new(registry, UpDown(total.clone()));
        let draining = provider.clone();
        let reader = thread::spawn(move || {
            draining.drain();
            let seen = total.get();
            assert!((0..=1).contains(&seen), "{seen} in flight");
            total
        });
        handle.add(&Thread::new(registry), 1);
        assert!(handle.series.add_stray(handle.number + 1, (-1_i64).cast_unsigned()));
        let total = reader.join().unwrap();
        provider.drain();
        assert_eq!(total.get(), 0);
    });
}
