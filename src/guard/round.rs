//! Runs what the program gave us, its callbacks, on a thread that can be left behind.
//!
//! Before a reader collects, a [`Round`] runs the callbacks of every observable on a worker; what they observe is kept,
//! and shown to the SDK when the reader asks for it. So a callback that hangs holds none of the SDK's locks, and whoever
//! collects waits for it until a deadline only: the worker is left behind with it, another one does the rest, and later
//! rounds go past that observable until it is back. One hand-off serves all the callbacks of a round.

use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak, mpsc};
use std::time::{Duration, Instant};

use crate::error::InstrumentName;
use crate::instrument::InCallback;
use crate::runtime;
use crate::self_metrics::CallbackMetrics;

/// How long a collection that does not say so waits: that of a reader which is not ours.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What was late waits for its next chance no longer than this part of the time that is left.
const PROBATION: u32 = 4;

thread_local! {
    /// What the reader that collects on this thread shows.
    static SHOWN: Cell<Shown> = const { Cell::new(Shown { round: 0, is_ours: false, differences: false }) };
    /// Whether this thread runs what the program gave us.
    static IS_WORKING: Cell<bool> = const { Cell::new(false) };
}

#[derive(Clone, Copy)]
struct Shown {
    round: u64,
    /// Whether the round was run before the reader was asked. Readers that are not ours have it run when they ask.
    is_ours: bool,
    /// Whether the reader shows by how much observable counters have grown since it collected last.
    differences: bool,
}

/// Whether this thread runs a callback: whoever waited here for a collection might wait for itself.
pub(crate) fn is_in_round() -> bool {
    IS_WORKING.get()
}

/// Whether this thread's reader shows by how much observable counters have grown.
pub(super) fn shows_differences() -> bool {
    SHOWN.get().differences
}

/// Something of the program's that every round runs, and that may never return.
pub(crate) trait Work: Send + Sync {
    fn turn(&self) -> &Turn;
    /// Runs it for this round, unless somebody else is at it until the round does without it, or wants no more.
    fn run(&self, round: u64, is_wanted: &dyn Fn() -> bool);
}

/// What the work came to the last time, for those who show it.
pub(crate) struct Watched<T> {
    turn: Turn,
    work: Box<dyn Fn() -> T + Send + Sync>,
    latest: Mutex<(u64, Arc<T>)>,
}

impl<T: Default> Watched<T> {
    pub(crate) fn new(
        name: InstrumentName,
        metrics: Arc<CallbackMetrics>,
        work: impl Fn() -> T + Send + Sync + 'static,
    ) -> Self {
        let state = Mutex::new(None);
        let turn = Turn { name, metrics, state, changed: Condvar::new(), is_on_probation: AtomicBool::new(false) };
        Self { turn, work: Box::new(work), latest: Mutex::default() }
    }

    /// What it came to in this round or since; nothing if it was not waited for.
    pub(crate) fn of_round(&self, round: u64) -> Option<Arc<T>> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        (round > 0 && latest.0 >= round).then(|| Arc::clone(&latest.1))
    }

    /// What it came to in the round that this thread's reader shows.
    pub(super) fn shown(&self) -> Option<Arc<T>> {
        self.of_round(SHOWN.get().round)
    }

    /// The same for a counter. Where differences are shown and it was late, it is what it was: the SDK would count all of
    /// it once more after a collection without it.
    pub(super) fn shown_count(&self) -> Option<Arc<T>> {
        let Shown { round, differences, .. } = SHOWN.get();
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        (differences || (round > 0 && latest.0 >= round)).then(|| Arc::clone(&latest.1))
    }
}

impl<T: Default + Send + Sync> Work for Watched<T> {
    fn turn(&self) -> &Turn {
        &self.turn
    }

    fn run(&self, round: u64, is_wanted: &dyn Fn() -> bool) {
        if !self.turn.begin(is_wanted) {
            return;
        }
        // The panics of callbacks are caught one by one; this is for the rest.
        let result = catch_unwind(AssertUnwindSafe(|| (self.work)())).unwrap_or_default();
        self.turn.end(|| {
            let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
            // A round that was begun later may have had its turn before: it shows this, too.
            *latest = (round.max(latest.0), Arc::new(result));
        });
    }
}

/// Who is at a piece of work: one at a time, however many rounds there are.
pub(crate) struct Turn {
    name: InstrumentName,
    metrics: Arc<CallbackMetrics>,
    state: Mutex<Option<Running>>,
    changed: Condvar,
    /// Whether it was late and has not been in time since.
    is_on_probation: AtomicBool,
}

/// What is wrong with the callbacks of an instrument.
#[derive(Default)]
pub(crate) struct Trouble {
    /// For how long they have been running, if nobody waits for them any more.
    pub(crate) running: Option<Duration>,
    /// How often they panicked, and how often a collection did not wait for them.
    pub(crate) panics: u64,
    pub(crate) late: u64,
}

struct Running {
    since: Instant,
    /// When whoever waited for it went on.
    late_since: Option<Instant>,
}

impl Turn {
    fn state(&self) -> MutexGuard<'_, Option<Running>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for another round that is at it, and says whether to go ahead. What was late already is not waited for.
    fn begin(&self, is_wanted: &dyn Fn() -> bool) -> bool {
        let mut state = self.state();
        loop {
            if !is_wanted() {
                return false;
            }
            match &*state {
                None => break,
                Some(Running { late_since: Some(_), .. }) => {
                    drop(state);
                    self.metrics.late();
                    return false;
                }
                Some(_) => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
        *state = Some(Running { since: Instant::now(), late_since: None });
        true
    }

    /// Ends it. What comes too late is not kept.
    fn end(&self, keep: impl FnOnce()) {
        let mut state = self.state();
        if let Some(running) = state.take() {
            self.metrics.took(running.since.elapsed());
            if running.late_since.is_none() {
                self.is_on_probation.store(false, Ordering::Relaxed);
                keep();
            }
        }
        self.changed.notify_all();
    }

    /// Nobody waits for it any more.
    fn give_up(&self) {
        let mut state = self.state();
        let mut is_news = false;
        if let Some(running) = state.as_mut() {
            is_news = running.late_since.is_none();
            running.late_since.get_or_insert_with(Instant::now);
            self.is_on_probation.store(true, Ordering::Relaxed);
        }
        self.changed.notify_all();
        drop(state);
        if is_news {
            self.metrics.late();
        }
    }

    /// Has a worker that waits for its turn look whether it is still wanted.
    fn wake(&self) {
        let _state = self.state();
        self.changed.notify_all();
    }

    fn trouble(&self) -> Trouble {
        let late_for =
            self.state().as_ref().filter(|running| running.late_since.is_some()).map(|running| running.since);
        let [panics, late] = self.metrics.failures();
        Trouble { running: late_for.map(|since| since.elapsed()), panics, late }
    }

    /// Since when it runs, if it was waited for after `asked`.
    fn was_running(&self, asked: Instant) -> Option<Instant> {
        let state = self.state();
        let running = state.as_ref()?;
        running.late_since.is_none_or(|late| late >= asked).then_some(running.since)
    }
}

/// One run through everything that the program gave us.
pub(crate) struct Round {
    number: u64,
    progress: Mutex<Progress>,
    changed: Condvar,
}

struct Progress {
    until: Instant,
    is_unwanted: bool,
    work: Vec<Arc<dyn Work>>,
    next: usize,
    running: Option<Step>,
    /// How many workers were left behind: the next one's number. A worker that finds another number has been.
    worker: usize,
    is_done: bool,
}

struct Step {
    place: usize,
    /// When it is given up although the round goes on.
    limit: Option<Instant>,
}

impl Round {
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the deadline forward.
    pub(crate) fn shorten(&self, until: Instant) {
        let mut progress = self.progress();
        progress.until = progress.until.min(until);
        self.changed.notify_all();
    }

    /// Ends it now, and sees to it that what runs counts as late before anybody hears of it.
    pub(crate) fn expire(&self, now: Instant) {
        self.shorten(now);
        let running = {
            let progress = self.progress();
            progress.running.as_ref().and_then(|step| progress.work.get(step.place).cloned())
        };
        if let Some(work) = running {
            work.turn().give_up();
        }
    }

    /// Nobody wants it any more: what has not begun is not run, and what runs is not to blame.
    pub(crate) fn cancel(&self) {
        self.progress().is_unwanted = true;
        self.changed.notify_all();
    }

    pub(crate) fn is_unwanted(&self) -> bool {
        self.progress().is_unwanted
    }

    /// Does what there is to do, until there is no more or this worker was left behind.
    fn work_through(&self, worker: usize) {
        let is_wanted = || self.progress().worker == worker;
        loop {
            let work = {
                let mut progress = self.progress();
                if progress.worker != worker {
                    return;
                }
                progress.running = None;
                let place = progress.next;
                let work = progress.work.get(place).filter(|_| !progress.is_unwanted).cloned();
                let Some(work) = work else { return };
                let limit = work.turn().is_on_probation.load(Ordering::Relaxed).then(|| {
                    let now = Instant::now();
                    now + progress.until.saturating_duration_since(now) / PROBATION
                });
                progress.next += 1;
                progress.running = Some(Step { place, limit });
                if limit.is_some() {
                    self.changed.notify_all();
                }
                work
            };
            work.run(self.number, &is_wanted);
        }
    }

    /// Says that this worker has done what there was.
    fn is_through(&self, worker: usize) {
        let mut progress = self.progress();
        if progress.worker == worker {
            progress.is_done = true;
            self.changed.notify_all();
        }
    }

    /// Waits for the worker, as long as that makes sense, and says what the next one's number is if there must be one.
    fn wait(&self) -> Option<usize> {
        let mut progress = self.progress();
        let mut now = Instant::now();
        while !progress.is_done && !progress.is_unwanted {
            let limit = progress.running.as_ref().and_then(|step| step.limit);
            let limit = limit.map_or(progress.until, |limit| limit.min(progress.until));
            if now >= limit {
                break;
            }
            let waited = self.changed.wait_timeout(progress, limit - now);
            (progress, _) = waited.unwrap_or_else(PoisonError::into_inner);
            now = Instant::now();
        }
        if progress.is_done {
            return None;
        }
        progress.worker += 1;
        let is_late = !progress.is_unwanted;
        let left = progress.running.take().and_then(|step| progress.work.get(step.place).cloned());
        let goes_on = is_late && now < progress.until && progress.next < progress.work.len();
        let next = goes_on.then_some(progress.worker);
        drop(progress);
        if let Some(left) = left {
            if is_late { left.turn().give_up() } else { left.turn().wake() }
        }
        next
    }
}

impl std::fmt::Debug for Round {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Round").field("number", &self.number).finish_non_exhaustive()
    }
}

/// Numbers all rounds of all pipelines: 0 is none.
static ROUNDS: AtomicU64 = AtomicU64::new(1);

/// What is run before a reader collects, and who runs it.
#[derive(Default)]
pub(crate) struct Callbacks {
    /// What the SDK holds: an observable that it has dropped is not run.
    all: Mutex<Vec<Weak<dyn Work>>>,
    workers: Arc<Workers>,
}

impl Callbacks {
    pub(super) fn add(&self, work: Weak<dyn Work>) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        // The SDK drops the observables of views that drop them; a list that would grow first lets go of those.
        if all.len() == all.capacity() {
            all.retain(|work| work.strong_count() > 0);
        }
        all.push(work);
    }

    /// A round that is waited for until then.
    pub(crate) fn round(&self, until: Instant) -> Arc<Round> {
        let progress =
            Progress { until, is_unwanted: false, work: Vec::new(), next: 0, running: None, worker: 0, is_done: false };
        let number = ROUNDS.fetch_add(1, Ordering::Relaxed);
        Arc::new(Round { number, progress: Mutex::new(progress), changed: Condvar::new() })
    }

    fn all(&self) -> Vec<Arc<dyn Work>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect()
    }

    /// Runs every callback, and whatever else there is, and returns at the round's deadline at the latest.
    pub(crate) fn run(&self, round: &Arc<Round>, more: Option<Arc<dyn Work>>) {
        let mut work = self.all();
        work.extend(more);
        if work.is_empty() {
            return;
        }
        round.progress().work = work;
        let mut next = Some(0);
        while let Some(worker) = next {
            if self.workers.hand_over(round, worker).is_err() {
                // Without a thread to spare it is run here.
                let outer = IS_WORKING.replace(true);
                round.work_through(worker);
                IS_WORKING.set(outer);
                round.is_through(worker);
            }
            next = round.wait();
        }
    }

    /// Has a reader of ours collect what the round came to. `differences` says whether it shows by how much observable
    /// counters have grown.
    pub(crate) fn show<T>(&self, round: &Round, differences: bool, collect: impl FnOnce() -> T) -> T {
        struct Reset(Shown);

        impl Drop for Reset {
            fn drop(&mut self) {
                SHOWN.set(self.0);
            }
        }

        let _reset = Reset(SHOWN.replace(Shown { round: round.number, is_ours: true, differences }));
        // The SDK logs under its lock. Who takes the log may build an instrument, and would wait for that lock for ever.
        let _inside = InCallback::enter();
        collect()
    }

    /// What every collection begins with: a reader that is not ours has not run a round yet.
    pub(super) fn attend(&self) {
        if SHOWN.get().is_ours {
            return;
        }
        let round = self.round(Instant::now() + PATIENCE);
        self.run(&round, None);
        SHOWN.set(Shown { round: round.number, is_ours: false, differences: false });
    }

    /// What is wrong with the callbacks of an instrument.
    pub(crate) fn trouble(&self, instrument: &InstrumentName) -> Trouble {
        let all = self.all();
        let turn = all.iter().map(|work| work.turn()).find(|turn| turn.name == *instrument);
        turn.map(Turn::trouble).unwrap_or_default()
    }

    /// What kept those waiting who have asked then, and for how long it has been running: the oldest.
    pub(crate) fn running(&self, asked: Instant, more: Option<&dyn Work>) -> Option<(InstrumentName, Duration)> {
        let all = self.all();
        let turns = all.iter().map(|work| work.turn()).chain(more.map(Work::turn));
        let running = turns.filter_map(|turn| turn.was_running(asked).map(|since| (since, turn)));
        let (since, turn) = running.min_by_key(|(since, _)| *since)?;
        Some((turn.name.clone(), since.elapsed()))
    }
}

impl std::fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Callbacks")
    }
}

/// The threads that run callbacks. One is kept; others are those left behind, which end when their callbacks do.
#[derive(Default)]
struct Workers {
    idle: Mutex<Option<mpsc::Sender<Job>>>,
}

/// A round, and the worker's number in it.
type Job = (Arc<Round>, usize);

impl Workers {
    fn idle(&self) -> MutexGuard<'_, Option<mpsc::Sender<Job>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hand_over(self: &Arc<Self>, round: &Arc<Round>, worker: usize) -> io::Result<()> {
        let mut job = (Arc::clone(round), worker);
        let idle = self.idle().take();
        if let Some(idle) = idle {
            match idle.send(job) {
                Ok(()) => return Ok(()),
                Err(mpsc::SendError(back)) => job = back,
            }
        }
        let workers = Arc::downgrade(self);
        runtime::spawn("barograph-callback", move || {
            IS_WORKING.set(true);
            loop {
                let (round, worker) = job;
                round.work_through(worker);
                // It is there for the next round before anybody hears that this one is over.
                let next = workers.upgrade().and_then(|workers| workers.offer());
                round.is_through(worker);
                drop(round);
                match next.and_then(|next| next.recv().ok()) {
                    Some(next) => job = next,
                    None => return,
                }
            }
        })
    }

    /// Where the next job comes from, if another worker is of use.
    fn offer(&self) -> Option<mpsc::Receiver<Job>> {
        let mut idle = self.idle();
        if idle.is_some() {
            return None;
        }
        let (sender, jobs) = mpsc::channel();
        *idle = Some(sender);
        Some(jobs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::self_metrics::SelfMetrics;
    use std::thread;

    const SOON: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(10);

    fn watch<T: Default + Send + Sync + 'static>(
        callbacks: &Callbacks,
        work: impl Fn() -> T + Send + Sync + 'static,
    ) -> Arc<Watched<T>> {
        let metrics = SelfMetrics::new(&opentelemetry::metrics::NoopMeterProvider::new());
        let name = InstrumentName { name: "i".to_owned(), scope: "s".to_owned() };
        let watched = Arc::new(Watched::new(name, Arc::new(metrics.callback("i")), work));
        let work: Arc<dyn Work> = Arc::clone(&watched) as _;
        callbacks.add(Arc::downgrade(&work));
        watched
    }

    /// Work that says when it begins, and ends when it is told to or its gate is gone.
    fn gate(callbacks: &Callbacks) -> (mpsc::Sender<()>, mpsc::Receiver<()>, Arc<Watched<u32>>) {
        let (open, opened) = mpsc::channel();
        let (begin, begun) = mpsc::channel();
        let opened = Mutex::new(opened);
        let work = move || {
            let _ = begin.send(());
            let _ = opened.lock().unwrap().recv();
            7
        };
        (open, begun, watch(callbacks, work))
    }

    fn run(callbacks: &Callbacks, patience: Duration) -> u64 {
        let round = callbacks.round(Instant::now() + patience);
        callbacks.run(&round, None);
        round.number()
    }

    fn wait_until(condition: impl Fn() -> bool) {
        let end = Instant::now() + LONG;
        while !condition() {
            assert!(Instant::now() < end);
            thread::yield_now();
        }
    }

    #[test]
    fn a_worker_that_is_left_behind_ends_when_its_callback_does_and_another_one_is_kept() {
        let callbacks = Callbacks::default();
        // Each worker holds one.
        let workers = || Arc::weak_count(&callbacks.workers);
        let (open, begun, stuck) = gate(&callbacks);
        let healthy = watch(&callbacks, || 1_u32);
        let first = run(&callbacks, SOON);
        assert!(stuck.of_round(first).is_none() && healthy.of_round(first).is_none(), "there was no time for it");
        for _ in 0..5 {
            let round = run(&callbacks, LONG);
            assert!(stuck.of_round(round).is_none());
            assert_eq!(healthy.of_round(round).as_deref(), Some(&1));
            assert_eq!(workers(), 2);
        }
        drop(open);
        wait_until(|| workers() == 1);
        assert!(stuck.of_round(first).is_none(), "what comes too late is not kept");
        let round = run(&callbacks, LONG);
        assert_eq!((stuck.of_round(round).as_deref(), workers()), (Some(&7), 1));
        assert_eq!(begun.try_iter().count(), 2);
    }

    #[test]
    fn what_was_late_gets_a_quarter_of_the_time_until_it_was_in_time_again() {
        let callbacks = Callbacks::default();
        let (open, begun, stuck) = gate(&callbacks);
        let healthy = watch(&callbacks, || 1_u32);
        run(&callbacks, SOON);
        open.send(()).unwrap();
        wait_until(|| stuck.turn.state().is_none());
        let round = run(&callbacks, Duration::from_secs(2));
        assert!(stuck.of_round(round).is_none());
        assert_eq!(healthy.of_round(round).as_deref(), Some(&1), "there is time left for the others");
        assert_eq!(begun.try_iter().count(), 2);
        open.send(()).unwrap();
        wait_until(|| stuck.turn.state().is_none());
        drop(open);
        run(&callbacks, LONG);
        assert!(!stuck.turn.is_on_probation.load(Ordering::Relaxed));
    }

    #[test]
    fn two_rounds_at_a_time_run_a_callback_one_after_the_other() {
        let callbacks = Callbacks::default();
        let (open, begun, slow) = gate(&callbacks);
        thread::scope(|scope| {
            let first = scope.spawn(|| run(&callbacks, LONG));
            begun.recv_timeout(LONG).unwrap();
            let second = scope.spawn(|| run(&callbacks, LONG));
            wait_until(|| Arc::weak_count(&callbacks.workers) == 2);
            assert!(begun.try_recv().is_err());
            drop(open);
            let rounds = [first.join().unwrap(), second.join().unwrap()];
            assert!(rounds.iter().all(|round| slow.of_round(*round).is_some()));
            begun.recv_timeout(LONG).unwrap();
        });
        wait_until(|| Arc::weak_count(&callbacks.workers) == 1);
    }

    #[test]
    fn what_an_older_round_has_run_later_is_shown_by_a_newer_one_too() {
        let callbacks = Callbacks::default();
        let healthy = watch(&callbacks, || 1_u32);
        let [older, newer] = [(); 2].map(|()| callbacks.round(Instant::now() + LONG));
        for round in [&newer, &older] {
            callbacks.run(round, None);
        }
        assert!([older, newer].iter().all(|round| healthy.of_round(round.number()).is_some()));
    }

    #[test]
    fn rounds_that_are_cancelled_leave_no_more_than_one_worker_behind() {
        let callbacks = Callbacks::default();
        let (open, begun, stuck) = gate(&callbacks);
        for _ in 0..20 {
            let round = callbacks.round(Instant::now() + LONG);
            thread::scope(|scope| {
                scope.spawn(|| callbacks.run(&round, None));
                wait_until(|| round.progress().running.is_some());
                round.cancel();
            });
        }
        wait_until(|| Arc::weak_count(&callbacks.workers) == 2);
        assert!(stuck.turn.was_running(Instant::now()).is_some(), "nobody calls it late");
        drop(open);
        wait_until(|| Arc::weak_count(&callbacks.workers) == 1);
        assert_eq!(begun.try_iter().count(), 1);
    }
}
