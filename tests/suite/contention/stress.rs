//! Everything at once: threads that come and go, handles that are cloned, dropped and built anew, guards that end on another
//! thread than they began on, four readers, and pipelines that end.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Instant;

use barograph::Telemetry;
use barograph::config::TemporalityPreference;

use super::book::{Book, Desk, Reader, Ride, added_up, shown_by, shown_on};
use super::{LONG, pushing_to};
use crate::receiver::{Received, Receiver};
use crate::support::{builder, get};

/// Threads that record at once.
const THREADS: usize = 6;

/// How many of them come and go, at least.
const LIVES: u64 = 1_000;

/// How many pipelines end meanwhile, at least.
const ENDED: u64 = 8;

/// What threads hand to each other: the handles of the pipeline that stays and of the one that will end soon, spare handles,
/// and what is in flight.
struct Exchange {
    staying: Desk,
    ending: Mutex<Desk>,
    spare: Mutex<Vec<Desk>>,
    rides: Mutex<Vec<Ride>>,
}

thread_local! {
    /// What is in flight until the destructor of a thread's data lets it go, perhaps with the last handle of its kind.
    static UNTIL_THE_END: RefCell<Vec<(Ride, Desk)>> = const { RefCell::new(Vec::new()) };
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

impl Exchange {
    /// What one thread does in its life.
    fn live(&self, random: &mut fastrand::Rng) {
        let mut desks = [self.staying.clone(), lock(&self.ending).clone()];
        let mut own = Vec::new();
        // What is in there is dropped after what the thread needs for counting if it is looked at before the first count.
        if random.bool() {
            UNTIL_THE_END.with_borrow(Vec::len);
        }
        for _ in 0..random.usize(1..300) {
            let desk = &mut desks[usize::from(random.u8(..4) == 0)];
            match random.u8(..32) {
                0 => *desk = desk.built_anew(),
                1 => *desk = desk.clone(),
                2 => lock(&self.spare).push(desk.clone()),
                3 => {
                    // Dropped outside of the lock, perhaps as the last of its kind.
                    let spare = lock(&self.spare).pop();
                    if let Some(spare) = spare {
                        spare.add_something(random);
                    }
                }
                4..=6 => own.push(desk.begin_something(random)),
                7..=8 => {
                    let ride = desk.begin_something(random);
                    lock(&self.rides).push(ride);
                }
                9..=11 => {
                    let ride = lock(&self.rides).pop();
                    drop(ride);
                }
                12 => own.clear(),
                13 => {
                    let ride = desk.begin_something(random);
                    UNTIL_THE_END.with_borrow_mut(|rides| rides.push((ride, desk.clone())));
                }
                _ => desk.add_something(random),
            }
        }
        if random.bool() {
            lock(&self.rides).append(&mut own);
        }
    }
}

/// What has arrived since the last time.
fn taken(receiver: &Receiver) -> Vec<Received> {
    let received = receiver.received();
    receiver.forget();
    received
}

/// Starts a pipeline, and ends it while it is recorded to.
fn start_and_end(exchange: &Exchange, receiver: &Receiver, is_over: &AtomicBool) {
    let reader = pushing_to(receiver, TemporalityPreference::Delta);
    let telemetry = builder().without_endpoint().with_reader(reader).start().unwrap();
    let book = Arc::new(Book::new());
    let desk = Desk::new(telemetry.meter("m"), Arc::clone(&book));
    let before = std::mem::replace(&mut *lock(&exchange.ending), desk);
    // Perhaps these are the last handles of a pipeline that has ended.
    drop(before);
    let mut pushed = Reader::new("a reader of differences whose pipeline ends");
    let mut collect = |push: &mut dyn FnMut()| {
        let before = book.before();
        push();
        let received = taken(receiver);
        let sums = received.iter().map(shown_by).fold(pushed.last().clone(), added_up);
        pushed.look(&book, &before, sums);
    };
    let deadline = Instant::now() + LONG;
    while book.ticks() < 10_000 && !is_over.load(Ordering::SeqCst) {
        collect(&mut || telemetry.force_flush(LONG).unwrap());
        assert!(Instant::now() < deadline, "nobody records");
    }
    let mut telemetry = Some(telemetry);
    collect(&mut || telemetry.take().unwrap().shutdown(LONG).unwrap());
}

/// The readers that push.
struct Pushes<'t> {
    telemetry: &'t Telemetry,
    receivers: [Receiver; 2],
    cumulative: Reader,
    differences: Reader,
}

impl Pushes<'_> {
    fn collect(&mut self, book: &Book) {
        let before = book.before();
        self.telemetry.force_flush(LONG).unwrap();
        let [cumulative, differences] = self.receivers.each_ref().map(|receiver| {
            let [received] = taken(receiver).try_into().unwrap();
            shown_by(&received)
        });
        assert!(cumulative.1.is_empty(), "{cumulative:?}");
        self.cumulative.look(book, &before, cumulative.0);
        let sums = added_up(self.differences.last().clone(), differences);
        self.differences.look(book, &before, sums);
    }
}

fn again_until(is_over: &AtomicBool, mut work: impl FnMut()) {
    let _over = Over(is_over);
    while !is_over.load(Ordering::SeqCst) {
        work();
    }
}

/// Ends the others' loops, also where an assertion has failed.
struct Over<'t>(&'t AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn whatever_threads_and_pipelines_do_every_reader_sees_every_value_once_and_nothing_that_never_was() {
    let seed = std::env::var("BAROGRAPH_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("what the threads do comes from BAROGRAPH_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let receivers = [Receiver::start(), Receiver::start()];
    let telemetry = builder()
        .with_reader(pushing_to(&receivers[0], TemporalityPreference::Cumulative))
        .with_reader(pushing_to(&receivers[1], TemporalityPreference::Delta))
        .start()
        .unwrap();
    let address = telemetry.local_addr().unwrap();
    let book = Arc::new(Book::new());
    let staying = Desk::new(telemetry.meter("m"), Arc::clone(&book));
    let ending = Mutex::new(staying.clone());
    let exchange = Exchange { staying, ending, spare: Mutex::default(), rides: Mutex::default() };
    let (is_over, ended) = (AtomicBool::new(false), AtomicU64::new(0));

    let over_tcp = || shown_on(&get(address, "/metrics").body);
    let directly = || shown_on(&telemetry.scrape().unwrap());
    let mut scrapes = [Reader::new("a scrape over TCP"), Reader::new("a scrape without a socket")];
    let mut pushes = Pushes {
        telemetry: &telemetry,
        receivers,
        cumulative: Reader::new("a cumulative push"),
        differences: Reader::new("a push of differences"),
    };
    thread::scope(|scope| {
        let over = Over(&is_over);
        let [tcp, direct] = &mut scrapes;
        scope.spawn(|| again_until(&is_over, || tcp.collect(&book, over_tcp)));
        scope.spawn(|| again_until(&is_over, || direct.collect(&book, directly)));
        scope.spawn(|| again_until(&is_over, || pushes.collect(&book)));
        scope.spawn(|| {
            let receiver = Receiver::start();
            again_until(&is_over, || {
                start_and_end(&exchange, &receiver, &is_over);
                ended.fetch_add(1, Ordering::SeqCst);
            });
        });
        let deadline = Instant::now() + 2 * LONG;
        let mut threads = VecDeque::new();
        let mut lives = 0;
        while !is_over.load(Ordering::SeqCst) && (lives < LIVES || ended.load(Ordering::SeqCst) < ENDED) {
            let (exchange, mut random) = (&exchange, random.fork());
            threads.push_back(scope.spawn(move || exchange.live(&mut random)));
            lives += 1;
            if threads.len() == THREADS {
                threads.pop_front().unwrap().join().unwrap();
            }
            assert!(Instant::now() < deadline, "{lives} threads and {ended:?} pipelines have ended");
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        drop(over);
    });

    let mut check_totals = || {
        let [tcp, direct] = &mut scrapes;
        tcp.collect(&book, over_tcp);
        direct.collect(&book, directly);
        pushes.collect(&book);
        for reader in [tcp, direct, &pushes.cumulative, &pushes.differences] {
            reader.check_totals(&book);
        }
    };
    check_totals();
    // Now also without anything in flight, and without a handle.
    drop(exchange);
    check_totals();
}
