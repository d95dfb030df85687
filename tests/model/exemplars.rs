//! Exemplars that are written against exemplars that are read.

#[path = "../../src/exemplar/slots.rs"]
mod slots;

/// What the slots share memory by.
mod sync {
    pub(super) use loom::sync::Mutex;
    pub(super) use std::sync::TryLockError;
}

use loom::sync::Arc;
use loom::thread;

use slots::Slots;

use crate::model;

fn read(slots: &Slots<(u64, u64)>) -> Vec<(usize, (u64, u64))> {
    slots.read().collect()
}

#[test]
fn who_reads_sees_one_exemplar_as_it_was_put_or_none() {
    model(|| {
        let slots = Arc::new(Slots::new(2));
        let writers = [1, 2].map(|n| {
            let slots = Arc::clone(&slots);
            thread::spawn(move || slots.put(1, (n, n)))
        });
        for (place, (a, b)) in read(&slots) {
            assert!(place == 1 && a == b, "{place}: {a} and {b}");
        }
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        // Nobody else is there now, and nobody has left anything locked.
        slots.put(1, (3, 3));
        assert_eq!(read(&slots), [(1, (3, 3))]);
    });
}

#[test]
fn of_two_that_are_put_at_once_one_stays() {
    model(|| {
        let slots = Arc::new(Slots::new(1));
        let writers = [1, 2].map(|n| {
            let slots = Arc::clone(&slots);
            thread::spawn(move || slots.put(0, (n, n)))
        });
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        let left = read(&slots);
        assert!(left == [(0, (1, 1))] || left == [(0, (2, 2))], "{left:?}");
    });
}
