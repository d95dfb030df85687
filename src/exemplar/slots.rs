//! Places that keep the latest of what is put there, and never hold up whoever puts it.

use super::sync::{Mutex, TryLockError};

/// One place for each bucket.
#[derive(Debug)]
pub(super) struct Slots<T>(Box<[Mutex<Option<T>>]>);

impl<T: Copy> Slots<T> {
    pub(super) fn new(count: usize) -> Self {
        Self((0..count).map(|_| Mutex::new(None)).collect())
    }

    /// Replaces what is there. Who finds somebody else at it leaves it to them: another exemplar of the same moment.
    pub(super) fn put(&self, place: usize, value: T) {
        match self.0.get(place).map(Mutex::try_lock) {
            Some(Ok(mut slot)) => *slot = Some(value),
            Some(Err(TryLockError::Poisoned(slot))) => *slot.into_inner() = Some(value),
            Some(Err(TryLockError::WouldBlock)) | None => {}
        }
    }

    /// What is there, with its place.
    pub(super) fn read(&self) -> impl Iterator<Item = (usize, T)> {
        let read = |slot: &Mutex<Option<T>>| *slot.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        self.0.iter().enumerate().filter_map(move |(place, slot)| Some((place, read(slot)?)))
    }
}
