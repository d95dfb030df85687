//! Counting against collecting against the end of the last handle.

#[path = "../../src/instrument/series.rs"]
mod series;

use std::sync::Arc;

use loom::sync::atomic;
use loom::thread;

use series::{Cell, Drain, Series, Sum};

use crate::model;

/// A bound instrument of an SDK that only adds up.
struct Total(Arc<atomic::AtomicU64>);

impl Sum for Total {
    fn add_bits(&self, bits: u64) {
        self.0.fetch_add(bits, atomic::Ordering::Relaxed);
    }
}

/// The handle of a counter: it counts in cells, and keeps the series that they belong to.
#[derive(Clone)]
struct Handle {
    cells: Arc<[Cell]>,
    series: loom::sync::Arc<Series<Total>>,
}

impl Handle {
    fn new(total: &Arc<atomic::AtomicU64>) -> Self {
        let cells: Arc<[Cell]> = [Cell::default()].into();
        let series = Series::new(Arc::clone(&cells));
        series.bound.get_or_init(|| [Total(Arc::clone(total))].into());
        Self { cells, series: loom::sync::Arc::new(series) }
    }

    fn add(&self, bits: u64) {
        self.cells[0].add(bits);
    }
}

#[test]
fn nothing_is_lost_or_counted_twice_while_two_readers_drain() {
    model(|| {
        let total = Arc::new(atomic::AtomicU64::new(0));
        let handle = Handle::new(&total);
        let readers = [handle.series.clone(), handle.series.clone()];
        let readers = readers.map(|series| thread::spawn(move || series.drain()));
        handle.add(1);
        handle.add(2);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        handle.series.drain();
        assert_eq!(total.load(atomic::Ordering::Relaxed), 3);
    });
}

#[test]
fn the_last_handle_hands_on_what_every_thread_has_counted_whoever_drops_it() {
    model(|| {
        let total = Arc::new(atomic::AtomicU64::new(0));
        let handle = Handle::new(&total);
        let (counting, reading) = (handle.clone(), handle.series.clone());
        let counter = thread::spawn(move || counting.add(1));
        let reader = thread::spawn(move || reading.drain());
        handle.add(2);
        drop(handle);
        counter.join().unwrap();
        reader.join().unwrap();
        assert_eq!(total.load(atomic::Ordering::Relaxed), 3);
    });
}
