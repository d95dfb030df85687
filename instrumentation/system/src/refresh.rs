//! The thread that keeps the latest reading fresh, so that no scrape waits for the operating system.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

const INTERVAL: Duration = Duration::from_secs(1);

// The usage of CPUs is known from the second reading on, which therefore comes early. Not before 200 ms, though: what
// is counted in ticks of 10 ms is too coarse for less.
const SECOND_READING: Duration = Duration::from_millis(250);

/// The latest reading, shared by the thread that replaces it and the callbacks that observe it.
#[derive(Debug, Default)]
pub(crate) struct Latest<R>(Arc<Mutex<Arc<R>>>);

impl<R> Latest<R> {
    pub(crate) fn get(&self) -> Arc<R> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, reading: R) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(reading);
    }
}

impl<R> Clone for Latest<R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// Reads once, here and now, and from then on in the background until the sender is dropped.
pub(crate) fn start<R>(mut read: impl FnMut() -> R + Send + 'static) -> (Latest<R>, Sender<()>)
where
    R: Default + Send + Sync + 'static,
{
    let latest = Latest::default();
    latest.set(read());
    let (stop, stopped) = mpsc::channel();
    let kept = ForgottenWithItsThread(latest.clone());
    let refresh = move || {
        let mut interval = SECOND_READING;
        while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
            kept.0.set(read());
            interval = INTERVAL;
        }
    };
    // Nobody joins it: it ends by itself, and a drop should not wait for a reading. Where no thread can be had, the
    // closure is dropped unrun, and the reading is forgotten just as when the thread ends.
    let _detached = thread::Builder::new().name("barograph-system".into()).spawn(refresh);
    (latest, stop)
}

/// Nothing is better than what nobody refreshes: should the thread ever panic, its last reading goes with it.
struct ForgottenWithItsThread<R: Default>(Latest<R>);

impl<R: Default> Drop for ForgottenWithItsThread<R> {
    fn drop(&mut self) {
        self.0.set(R::default());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::reading::Reading;

    #[test]
    fn the_first_reading_is_there_at_once_and_the_next_ones_follow() {
        let mut readings = 0.0;
        let (latest, _stop) = start(move || {
            readings += 1.0;
            Reading { threads: Some(readings), ..Reading::default() }
        });
        assert_eq!(latest.get().threads, Some(1.0));
        wait_until(|| latest.get().threads > Some(2.0));
    }

    #[test]
    fn the_thread_ends_when_nobody_wants_readings_any_more() {
        let (latest, stop) = start(|| Reading { threads: Some(1.0), ..Reading::default() });
        assert_eq!(Arc::strong_count(&latest.0), 2);
        drop(stop);
        wait_until(|| Arc::strong_count(&latest.0) == 1);
    }

    #[test]
    fn a_thread_that_panics_leaves_no_stale_reading() {
        let mut first = true;
        let (latest, _stop) = start(move || {
            assert!(std::mem::take(&mut first), "the second reading panics, as this test wants");
            Reading { threads: Some(1.0), ..Reading::default() }
        });
        assert_eq!(latest.get().threads, Some(1.0));
        wait_until(|| *latest.get() == Reading::default());
    }

    fn wait_until(condition: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !condition() {
            assert!(Instant::now() < deadline, "waited 20 s");
            thread::sleep(Duration::from_millis(5));
        }
    }
}
