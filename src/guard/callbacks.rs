//! The callbacks of one observable, and what they observe.

use std::any::Any;
use std::collections::HashSet;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Callback};

use super::round::{Watched, shows_differences};
use crate::error::InstrumentName;
use crate::instrument::{InCallback, take_finished};
use crate::self_metrics::CallbackMetrics;

/// One observable instrument: what the SDK's callbacks share, however many streams there are.
pub(super) struct Observable<M> {
    list: Arc<CallbackList<M>>,
    pub(super) watched: Arc<Watched<Recording<M>>>,
    /// What a reader of differences was shown when no callback had panicked last.
    whole: Mutex<Arc<Recording<M>>>,
}

impl<M: Copy + Send + Sync + 'static> Observable<M> {
    pub(super) fn new(instrument: InstrumentName, metrics: CallbackMetrics, callbacks: Vec<Callback<M>>) -> Self {
        let metrics = Arc::new(metrics);
        let list = Arc::new(CallbackList {
            instrument: instrument.clone(),
            metrics: Arc::clone(&metrics),
            callbacks: Mutex::new(callbacks),
            panicked: AtomicBool::new(false),
        });
        let run = Arc::clone(&list);
        let watched = Arc::new(Watched::new(instrument, metrics, move || run.record()));
        Self { list, watched, whole: Mutex::default() }
    }

    /// Adds callbacks, also while others run.
    pub(super) fn extend(&self, callbacks: Vec<Callback<M>>) {
        self.list.lock().extend(callbacks);
    }

    /// Observes what the callbacks have observed in the round that the reader shows.
    pub(super) fn observe(&self, observer: &dyn AsyncInstrument<M>, is_counter: bool) {
        let shown = if is_counter { self.watched.shown_count() } else { self.watched.shown() };
        let Some(recording) = shown else { return };
        recording.replay(observer, |_| true);
        if is_counter && shows_differences() {
            let mut whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
            if recording.is_broken {
                // As for a counter that is late: the SDK would count all of it once more.
                let observed: HashSet<&[KeyValue]> = recording.iter().map(|(_, attributes)| attributes).collect();
                whole.replay(observer, |attributes| !observed.contains(attributes));
            } else {
                *whole = recording;
            }
        }
    }
}

/// The callbacks of one observable instrument.
struct CallbackList<M> {
    instrument: InstrumentName,
    metrics: Arc<CallbackMetrics>,
    callbacks: Mutex<Vec<Callback<M>>>,
    /// Whether a panic was logged: the counter counts them all, the log needs one.
    panicked: AtomicBool,
}

impl<M: Copy + Send + Sync> CallbackList<M> {
    fn lock(&self) -> MutexGuard<'_, Vec<Callback<M>>> {
        self.callbacks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self) -> Recording<M> {
        let recorder = Recorder(Mutex::default());
        let is_broken = !self.run(&recorder);
        let recording = recorder.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        Recording { is_broken, ..recording }
    }

    /// Runs every callback, whatever the others do, and forgets those that have finished. Returns whether none panicked.
    fn run(&self, observer: &dyn AsyncInstrument<M>) -> bool {
        let mut is_whole = true;
        let inside = InCallback::enter();
        // Whoever builds the instrument once more while they run must not wait for them.
        let mut callbacks = mem::take(&mut *self.lock());
        let finished: Vec<Callback<M>> = callbacks
            .extract_if(.., |callback| {
                take_finished();
                // The state a callback leaves behind when it unwinds is its own; ours is not touched by it.
                match catch_unwind(AssertUnwindSafe(|| callback(observer))) {
                    Ok(()) => take_finished(),
                    Err(payload) => {
                        self.panicked(payload);
                        is_whole = false;
                        false
                    }
                }
            })
            .collect();
        {
            let mut list = self.lock();
            callbacks.append(&mut list);
            *list = callbacks;
        }
        // What a callback has captured may panic when it is dropped.
        for callback in finished {
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(callback))) {
                self.panicked(payload);
            }
        }
        drop(inside);
        is_whole
    }

    fn panicked(&self, payload: Box<dyn Any + Send>) {
        self.metrics.panicked();
        if !self.panicked.swap(true, Ordering::Relaxed) {
            tracing::error!(
                instrument = %self.instrument.name,
                scope = %self.instrument.scope,
                panic = panic_message(payload.as_ref()),
                "an observable's callback panicked; its series are missing, later panics are only counted",
            );
        }
        // A payload's own drop may panic as well.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(payload)));
    }
}

fn panic_message(payload: &(dyn Any + Send)) -> &str {
    match payload.downcast_ref::<&'static str>() {
        Some(message) => message,
        None => payload.downcast_ref::<String>().map_or("no message", String::as_str),
    }
}

/// What callbacks have observed, until a reader asks for it.
pub(super) struct Recording<M> {
    /// Each value, and where its attributes end.
    values: Vec<(M, usize)>,
    attributes: Vec<KeyValue>,
    /// Whether a callback panicked: what it would have observed is missing.
    is_broken: bool,
}

impl<M> Default for Recording<M> {
    fn default() -> Self {
        Self { values: Vec::new(), attributes: Vec::new(), is_broken: false }
    }
}

impl<M: Copy> Recording<M> {
    fn iter(&self) -> impl Iterator<Item = (M, &[KeyValue])> {
        let mut begin = 0;
        self.values.iter().map(move |&(value, end)| {
            (value, self.attributes.get(mem::replace(&mut begin, end)..end).unwrap_or_default())
        })
    }

    fn replay(&self, observer: &dyn AsyncInstrument<M>, is_wanted: impl Fn(&[KeyValue]) -> bool) {
        for (value, attributes) in self.iter().filter(|(_, attributes)| is_wanted(attributes)) {
            observer.observe(value, attributes);
        }
    }
}

/// Takes what callbacks observe, from whatever thread they observe it on.
struct Recorder<M>(Mutex<Recording<M>>);

impl<M: Copy + Send + Sync> AsyncInstrument<M> for Recorder<M> {
    fn observe(&self, value: M, attributes: &[KeyValue]) {
        let mut recording = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recording.attributes.extend_from_slice(attributes);
        let end = recording.attributes.len();
        recording.values.push((value, end));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::round::Work;
    use crate::instrument::finish_callback;
    use crate::self_metrics::SelfMetrics;

    struct Sum(Mutex<f64>);

    impl AsyncInstrument<f64> for Sum {
        fn observe(&self, value: f64, attributes: &[KeyValue]) {
            *self.0.lock().unwrap() += value * attributes.len() as f64;
        }
    }

    #[test]
    fn a_callback_that_has_finished_is_forgotten_and_one_that_panics_is_not() {
        let finish: Callback<f64> = Box::new(|_| finish_callback());
        let panic: Callback<f64> = Box::new(|_| std::panic::panic_any("a panic that this test wants"));
        let go_on: Callback<f64> = Box::new(|observer| {
            observer.observe(1.0, &[KeyValue::new("a", "b")]);
            observer.observe(100.0, &[]);
            observer.observe(10.0, &[KeyValue::new("a", "b"), KeyValue::new("c", "d")]);
        });
        let name = InstrumentName { name: "i".to_owned(), scope: "s".to_owned() };
        let metrics = SelfMetrics::new(&opentelemetry::metrics::NoopMeterProvider::new());
        let observable = Observable::new(name, metrics.callback("i"), vec![finish, panic, go_on]);
        for round in 1..=2 {
            observable.watched.run(round, &|| true);
            assert_eq!(observable.list.lock().len(), 2);
            let sum = Sum(Mutex::default());
            observable.watched.of_round(round).unwrap().replay(&sum, |_| true);
            assert_eq!(*sum.0.lock().unwrap(), 21.0, "each value with the attributes it came with");
        }
        assert!(observable.watched.of_round(3).is_none());
        assert!(!crate::instrument::is_in_callback());
    }
}
