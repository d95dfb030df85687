//! Counting on many threads: they come and go while readers collect and pipelines end, and every value is there once.

mod book;
mod stress;

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Duration;

use barograph::config::{
    HistogramAggregation, MetricReader, OtlpMetricExporter, PeriodicMetricReader, Preferences, PushMetricExporter,
    TemporalityPreference,
};
use barograph::opentelemetry::metrics::MeterProvider;
use barograph::opentelemetry::metrics::noop::NoopMeterProvider;
use barograph::testing::TestTelemetry;
use barograph::{Counter, CounterSpec, InFlight, MeterExt, UpDownCounter, UpDownCounterSpec, attribute};

use crate::receiver::Receiver;
use crate::support::{builder, find, get, wait_until};

attribute! {
    /// Which way.
    pub(crate) enum Lane: "lane" { Left = "left", Middle = "middle", Right = "right" }
}
attribute! {
    /// How it ended.
    pub(crate) enum End: "end" { Kept = "kept", Lost = "lost" }
}

const RIDES: CounterSpec<(Lane, End)> = CounterSpec::new("rides", "{ride}", "Rides that ended.");
const TICKS: CounterSpec = CounterSpec::new("ticks", "{tick}", "Ticks of a clock.");
const LOAD: UpDownCounterSpec<Lane> = UpDownCounterSpec::new("load", "{crate}", "What is carried.");
const RIDING: UpDownCounterSpec<Lane> = UpDownCounterSpec::new("riding", "{ride}", "Rides under way.");

/// For what may wait for other tests of the binary, too.
const LONG: Duration = Duration::from_secs(30);

/// A reader of its own that pushes when it is told to, and at the end. One that is cumulative has other histograms than a
/// scrape, or it would be the scrape's reader.
fn pushing_to(receiver: &Receiver, temporality: TemporalityPreference) -> MetricReader {
    let default_histogram_aggregation = HistogramAggregation::Base2ExponentialBucketHistogram;
    let preferences = Preferences { temporality, default_histogram_aggregation };
    let exporter = OtlpMetricExporter { preferences, ..OtlpMetricExporter::http(&receiver.url()) };
    let exporter = PushMetricExporter::OtlpHttp(exporter);
    let interval = Duration::from_secs(3_600);
    MetricReader::Periodic(PeriodicMetricReader { interval, ..PeriodicMetricReader::new(exporter) })
}

/// What the receiver was sent of the metric's first series, added up.
fn differences(receiver: &Receiver, name: &str) -> i64 {
    receiver.received().iter().filter_map(|received| received.sum(name)).sum()
}

/// Does something again and again on a thread of its own until it is dropped.
struct Meanwhile {
    is_over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<u64>>,
}

impl Meanwhile {
    fn again(mut work: impl FnMut() + Send + 'static) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&is_over);
        let thread = thread::spawn(move || {
            let mut times = 0;
            while !asked.load(Ordering::SeqCst) {
                work();
                times += 1;
            }
            times
        });
        Self { is_over, thread: Some(thread) }
    }

    /// Ends it, and says how often it was done; what failed in it fails here.
    fn end(mut self) -> u64 {
        self.is_over.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Meanwhile {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_hundred_million_adds_are_all_there() {
    // Two threads: as many as there are processors where tests run. Each has a series to itself and one that both have.
    const EACH: u64 = 25_000_000;
    const STEP: u64 = EACH / 10;
    let telemetry = TestTelemetry::new();
    let rides = telemetry.meter("m").counter(&RIDES);
    let (steps, taken) = mpsc::channel();
    let threads = [Lane::Left, Lane::Right].map(|own| {
        let (rides, steps) = (rides.clone(), steps.clone());
        thread::spawn(move || {
            let mut left = EACH;
            // Without optimisation the iterator of a range would cost as much as counting does.
            while left > 0 {
                rides.add(1, (own, End::Kept));
                rides.add(3, (Lane::Middle, End::Kept));
                left -= 1;
                if left.is_multiple_of(STEP) {
                    steps.send(()).unwrap();
                }
            }
        })
    });
    drop(steps);
    let of = |lane| telemetry.metric("rides").with((lane, End::Kept));
    let mut last = 0.0;
    for (step, ()) in (1_u64..).zip(taken) {
        let shown = of(Lane::Middle).try_value().unwrap();
        assert!(shown >= last && shown >= (3 * STEP * step) as f64, "{shown} after {last} and {step} steps");
        last = shown;
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    of(Lane::Left).value(EACH);
    of(Lane::Right).value(EACH);
    of(Lane::Middle).value(2 * 3 * EACH);
}

#[test]
fn what_was_added_before_a_scrape_was_asked_for_is_in_the_answer_whoever_else_collects() {
    let receiver = Receiver::start();
    let telemetry = builder().with_reader(pushing_to(&receiver, TemporalityPreference::Delta)).start().unwrap();
    let telemetry = Arc::new(telemetry);
    let address = telemetry.local_addr().unwrap();
    let rides = telemetry.meter("m").counter(&RIDES);
    let pushing = Arc::clone(&telemetry);
    let others = [
        Meanwhile::again(move || assert_eq!(get(address, "/metrics").status, 200)),
        Meanwhile::again(move || pushing.force_flush(LONG).unwrap()),
    ];
    let mut total = 0;
    for round in 0..300 {
        let added = if round % 3 == 0 {
            rides.add(round, (Lane::Left, End::Kept));
            round
        } else {
            let threads: Vec<_> = (1..=round % 5)
                .map(|value| {
                    let rides = rides.clone();
                    thread::spawn(move || rides.add(value, (Lane::Left, End::Kept)))
                })
                .collect();
            let values = 1..=threads.len() as u64;
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            values.sum()
        };
        total += added;
        let answer = get(address, "/metrics");
        let shown = find(&answer.body, r#"rides_total{end="kept",lane="left"}"#);
        assert_eq!(shown, Some(total as f64), "round {round}: {answer:?}");
    }
    assert!(others.map(Meanwhile::end).iter().all(|times| *times > 0));
    telemetry.force_flush(LONG).unwrap();
    let differences: i64 =
        receiver.received().iter().map(|received| book::shown_by(received).1["rides/kept/left"]).sum();
    assert_eq!(differences, total as i64);
}

attribute! {
    /// With many others it takes a while to drop.
    pub(crate) enum Digit: "digit" {
        D0 = "0", D1 = "1", D2 = "2", D3 = "3", D4 = "4", D5 = "5", D6 = "6", D7 = "7", D8 = "8", D9 = "9",
    }
}
attribute! {
    /// The same once more.
    pub(crate) enum Ten: "ten" {
        T0 = "0", T1 = "1", T2 = "2", T3 = "3", T4 = "4", T5 = "5", T6 = "6", T7 = "7", T8 = "8", T9 = "9",
    }
}

const LARGE: CounterSpec<(Ten, Digit)> = CounterSpec::new("large", "{thing}", "Things by number.");

#[test]
fn what_a_thread_has_added_is_in_its_scrape_although_others_are_dropping_the_last_handles() {
    const OTHERS: usize = 4;
    let telemetry = TestTelemetry::new();
    let meter = telemetry.meter("m");
    let all = Arc::new(Barrier::new(OTHERS + 1));
    let others: Vec<_> = (0..OTHERS)
        .map(|_| {
            let (send, handles) = mpsc::channel::<Counter<(Ten, Digit)>>();
            let all = Arc::clone(&all);
            let thread = thread::spawn(move || {
                for handle in handles {
                    all.wait();
                    drop(handle);
                }
            });
            (send, thread)
        })
        .collect();
    for round in 1..=400 {
        for (other, _) in &others {
            let large = meter.counter(&LARGE);
            large.add(1, (Ten::T9, Digit::D9));
            other.send(large).unwrap();
        }
        all.wait();
        telemetry.metric("large").with((Ten::T9, Digit::D9)).value(OTHERS * round);
    }
    for (other, thread) in others {
        drop(other);
        thread.join().unwrap();
    }
}

#[test]
fn thousands_of_threads_that_add_once_are_all_counted() {
    const THREADS: u64 = 5_000;
    let telemetry = TestTelemetry::new();
    let (rides, riding) = (telemetry.meter("m").counter(&RIDES), telemetry.meter("m").up_down_counter(&RIDING));
    let mut total = 0;
    for wave in 0..THREADS / 50 {
        let threads: Vec<_> = (0..50)
            .map(|value| {
                let (rides, riding) = (rides.clone(), riding.clone());
                thread::spawn(move || {
                    rides.add(value, (Lane::Right, End::Lost));
                    riding.in_flight(Lane::Right)
                })
            })
            .collect();
        let in_flight: Vec<InFlight> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        total += (0..50).sum::<u64>();
        if wave % 10 == 0 {
            telemetry.metric("rides").with((Lane::Right, End::Lost)).value(total);
            telemetry.metric("riding").with(Lane::Right).value(in_flight.len() as u64);
        }
    }
    telemetry.assert_counted(&[&format!("rides{{end=lost, lane=right}} {total}")]);
}

#[test]
fn a_pool_of_blocking_threads_that_come_and_go_loses_nothing() {
    const TASKS: u64 = 5_000;
    let telemetry = TestTelemetry::new();
    let ticks = telemetry.meter("m").counter(&TICKS);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(32)
        // Nobody stays for long.
        .thread_keep_alive(Duration::from_micros(10))
        .build()
        .unwrap();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..TASKS)
            .map(|value| {
                let ticks = ticks.clone();
                tokio::task::spawn_blocking(move || ticks.add(value, ()))
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    telemetry.metric("ticks").value((0..TASKS).sum::<u64>());
    drop(runtime);
    telemetry.metric("ticks").value((0..TASKS).sum::<u64>());
}

#[test]
fn a_thread_that_ends_while_somebody_collects_is_counted_once() {
    let telemetry = Arc::new(TestTelemetry::new());
    let ticks = telemetry.meter("m").counter(&TICKS);
    let (begun, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let adders = [0; 2].map(|_| {
        let (ticks, begun, done) = (ticks.clone(), Arc::clone(&begun), Arc::clone(&done));
        Meanwhile::again(move || {
            let ticks = ticks.clone();
            begun.fetch_add(7, Ordering::SeqCst);
            thread::spawn(move || ticks.add(7, ())).join().unwrap();
            done.fetch_add(7, Ordering::SeqCst);
        })
    });
    for _ in 0..500 {
        let least = done.load(Ordering::SeqCst);
        let shown = telemetry.metric("ticks").try_value().unwrap_or_default() as u64;
        let most = begun.load(Ordering::SeqCst);
        assert!((least..=most).contains(&shown), "{shown} is not from {least} to {most}");
    }
    let threads: u64 = adders.map(Meanwhile::end).iter().sum();
    telemetry.metric("ticks").value(7 * threads);
}

/// Does something when its thread ends.
struct AtEnd(Option<Box<dyn FnOnce()>>);

impl Drop for AtEnd {
    fn drop(&mut self) {
        if let Some(work) = self.0.take() {
            work();
        }
    }
}

thread_local! {
    // What has a destructor is dropped in the opposite order of its first use.
    static FIRST: RefCell<Vec<AtEnd>> = const { RefCell::new(Vec::new()) };
    static LAST: RefCell<Vec<AtEnd>> = const { RefCell::new(Vec::new()) };
    static RIDER: RefCell<Option<InFlight>> = const { RefCell::new(None) };
}

/// Does something when this thread ends, as early or as late among others as `place` was used first.
fn at_end(place: &'static thread::LocalKey<RefCell<Vec<AtEnd>>>, work: impl FnOnce() + 'static) {
    place.with_borrow_mut(|place| place.push(AtEnd(Some(Box::new(work)))));
}

#[test]
fn what_the_destructor_of_a_threads_data_records_is_counted() {
    let telemetry = TestTelemetry::new();
    let meter = telemetry.meter("m");
    let (rides, ticks) = (meter.counter(&RIDES), meter.counter(&TICKS));
    let (load, riding) = (meter.up_down_counter(&LOAD), meter.up_down_counter(&RIDING));
    let ended = Arc::new(AtomicU64::new(0));
    let record = {
        let (rides, load, riding, ended) = (rides.clone(), load.clone(), riding.clone(), Arc::clone(&ended));
        move |lane| {
            let _riding = riding.in_flight(lane);
            rides.add(2, (lane, End::Kept));
            load.add(5, lane);
            load.add(-2, lane);
            // A handle of its own, and the last one of its kind on this thread.
            meter.counter(&TICKS).add(1, ());
            ended.fetch_add(1, Ordering::Relaxed);
        }
    };
    for round in 1..=20 {
        let in_flight = riding.in_flight(Lane::Middle);
        // One that has recorded between the first use of the two, one that begins with it, and one that never does before.
        for order in 0..3 {
            let (record, rides, ticks) = (record.clone(), rides.clone(), ticks.clone());
            let add = move |wanted: u64| {
                if order == wanted {
                    rides.add(1, (Lane::Middle, End::Lost));
                    ticks.add(1, ());
                }
            };
            let thread = thread::spawn(move || {
                add(0);
                let late = record.clone();
                at_end(&FIRST, move || late(Lane::Left));
                add(1);
                at_end(&LAST, move || record(Lane::Right));
            });
            thread.join().unwrap();
        }
        assert_eq!(ended.load(Ordering::Relaxed), 6 * round, "nothing panicked on the way");
        drop(in_flight);
        telemetry.assert_counted(&[
            &format!("load{{lane=left}} {}", 9 * round),
            &format!("load{{lane=right}} {}", 9 * round),
            &format!("rides{{end=kept, lane=left}} {}", 6 * round),
            &format!("rides{{end=kept, lane=right}} {}", 6 * round),
            &format!("rides{{end=lost, lane=middle}} {}", 2 * round),
            &format!("ticks {}", 8 * round),
        ]);
    }
}

#[test]
fn a_thread_that_counts_while_it_ends_and_one_that_begins_meanwhile_do_not_disturb_each_other() {
    let telemetry = TestTelemetry::new();
    let ticks = telemetry.meter("m").counter(&TICKS);
    let mut total = 0;
    for _ in 0..10 {
        let (is_ending, ending) = mpsc::channel();
        let (stop, is_stopped) = mpsc::channel::<()>();
        let (count, counted) = mpsc::channel();
        let theirs = ticks.clone();
        let thread = thread::spawn(move || {
            let late = theirs.clone();
            at_end(&FIRST, move || {
                is_ending.send(()).unwrap();
                let mut times = 0_u64;
                while is_stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
                    late.add(1, ());
                    times += 1;
                }
                count.send(times).unwrap();
            });
            theirs.add(1, ());
        });
        ending.recv().unwrap();
        let ours = ticks.clone();
        thread::spawn(move || (0..50_000).for_each(|_| ours.add(1, ()))).join().unwrap();
        stop.send(()).unwrap();
        total += counted.recv().unwrap() + 50_001;
        thread.join().unwrap();
        telemetry.metric("ticks").value(total);
    }
}

#[test]
fn what_is_in_flight_until_a_threads_data_is_destroyed_goes_down_again() {
    let telemetry = TestTelemetry::new();
    let riding = telemetry.meter("m").up_down_counter(&RIDING);
    let keep = |in_flight| RIDER.with_borrow_mut(|rider| *rider = Some(in_flight));
    for round in 0..30 {
        let (inside, is_inside) = mpsc::channel();
        let (leave, may_leave) = mpsc::channel::<()>();
        let (theirs, elsewhere) = (riding.clone(), riding.in_flight(Lane::Left));
        let thread = thread::spawn(move || {
            match round % 3 {
                // Made by another thread; this one counts nothing before its data is destroyed.
                0 => keep(elsewhere),
                // The place is used before the thread counts for the first time, or after.
                1 => {
                    RIDER.with_borrow(|_| drop(elsewhere));
                    keep(theirs.in_flight(Lane::Left));
                }
                _ => {
                    drop(elsewhere);
                    keep(theirs.in_flight(Lane::Left));
                }
            }
            inside.send(()).unwrap();
            may_leave.recv().unwrap();
        });
        is_inside.recv().unwrap();
        telemetry.metric("riding").with(Lane::Left).value(1);
        leave.send(()).unwrap();
        thread.join().unwrap();
        telemetry.metric("riding").with(Lane::Left).value(0);
    }
}

#[test]
fn what_is_in_flight_is_never_seen_to_leave_before_it_came_although_a_thread_that_ends_lets_it_go() {
    let telemetry = Arc::new(TestTelemetry::new());
    let riding = telemetry.meter("m").up_down_counter(&RIDING);
    let (made, rides) = mpsc::sync_channel::<InFlight>(8);
    let theirs = riding.clone();
    let ending = thread::spawn(move || {
        at_end(&FIRST, move || rides.into_iter().for_each(drop));
        drop(theirs.in_flight(Lane::Left));
    });
    let making = Meanwhile::again(move || made.send(riding.in_flight(Lane::Left)).unwrap());
    for _ in 0..200 {
        let shown = telemetry.metric("riding").with(Lane::Left).try_value().unwrap();
        assert!(shown >= 0.0, "{shown} are in flight");
    }
    assert!(making.end() > 0);
    ending.join().unwrap();
    telemetry.metric("riding").with(Lane::Left).value(0);
}

#[test]
fn threads_that_go_on_recording_after_the_end_do_no_harm_to_anybody() {
    let receiver = Receiver::start();
    let ending =
        builder().without_endpoint().with_reader(pushing_to(&receiver, TemporalityPreference::Delta)).start().unwrap();
    let staying = TestTelemetry::new();
    let meter = ending.meter("m");
    let [of_ending, of_staying] = [meter.counter(&TICKS), staying.meter("m").counter(&TICKS)];
    let riding = meter.up_down_counter(&RIDING);
    let (begun, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let adders = [0; 3].map(|_| {
        let (of_ending, of_staying, riding) = (of_ending.clone(), of_staying.clone(), riding.clone());
        let (begun, done) = (Arc::clone(&begun), Arc::clone(&done));
        Meanwhile::again(move || {
            let _in_flight = riding.in_flight(Lane::Left);
            begun.fetch_add(1, Ordering::SeqCst);
            of_ending.add(1, ());
            of_staying.add(1, ());
            done.fetch_add(1, Ordering::SeqCst);
        })
    });
    let in_flight = riding.in_flight(Lane::Right);
    wait_until("they record", || done.load(Ordering::SeqCst) > 1_000);
    let least = done.load(Ordering::SeqCst);
    ending.shutdown(LONG).unwrap();
    let most = begun.load(Ordering::SeqCst);
    wait_until("they go on", || done.load(Ordering::SeqCst) > most + 1_000);
    drop(in_flight);
    // A handle that is built now, and dropped by a thread's destructor.
    let late = (meter.counter(&RIDES), riding.in_flight(Lane::Middle));
    let ends = thread::spawn(move || {
        at_end(&FIRST, move || late.0.add(1, (Lane::Left, End::Lost)));
        RIDER.with_borrow_mut(|rider| *rider = Some(late.1));
    });
    ends.join().unwrap();
    let times: u64 = adders.map(Meanwhile::end).iter().sum();
    drop((of_ending, riding, meter));
    let pushed = u64::try_from(differences(&receiver, "ticks")).unwrap();
    assert!((least..=most).contains(&pushed), "{pushed} is not from {least} to {most}");
    staying.assert_counted(&[&format!("ticks {times}")]);
}

#[test]
fn a_handle_from_before_any_pipeline_records_nothing_and_disturbs_nobody() {
    let early = NoopMeterProvider::new().meter("m");
    let (ticks, riding): (Counter, UpDownCounter<Lane>) = (early.counter(&TICKS), early.up_down_counter(&RIDING));
    let in_flight = riding.in_flight(Lane::Left);
    let adders = [0; 2].map(|_| {
        let (ticks, riding) = (ticks.clone(), riding.clone());
        Meanwhile::again(move || {
            let _in_flight = riding.in_flight(Lane::Left);
            ticks.add(1, ());
        })
    });
    for _ in 0..50 {
        let telemetry = TestTelemetry::new();
        let ours = telemetry.meter("m").counter(&TICKS);
        let _ours = telemetry.meter("m").up_down_counter(&RIDING);
        ticks.add(100, ());
        ours.add(1, ());
        thread::spawn({
            let (ticks, ours) = (ticks.clone(), ours.clone());
            move || {
                at_end(&FIRST, move || ticks.add(100, ()));
                ours.add(1, ());
            }
        })
        .join()
        .unwrap();
        telemetry.assert_counted(&["ticks 2"]);
    }
    assert!(adders.map(Meanwhile::end).iter().all(|times| *times > 0));
    drop((ticks, in_flight));
}

#[test]
fn two_pipelines_of_one_program_each_see_their_own() {
    let pipelines = [TestTelemetry::new(), TestTelemetry::new()];
    let handles = pipelines.each_ref().map(|telemetry| {
        let meter = telemetry.meter("m");
        (meter.counter(&RIDES), meter.up_down_counter(&RIDING))
    });
    for round in 1..=50 {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let [(first, riding), (second, _)] = handles.clone();
                thread::spawn(move || {
                    first.add(1, (Lane::Left, End::Kept));
                    second.add(10, (Lane::Left, End::Kept));
                    second.add(10, (Lane::Right, End::Lost));
                    riding.in_flight(Lane::Left)
                })
            })
            .collect();
        let in_flight: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        let first = format!("rides{{end=kept, lane=left}} {}", 4 * round);
        pipelines[0].assert_counted(&[&first, "riding{lane=left} 4"]);
        drop(in_flight);
        pipelines[0].assert_counted(&[&first]);
        pipelines[1].assert_counted(&[
            &format!("rides{{end=kept, lane=left}} {}", 40 * round),
            &format!("rides{{end=lost, lane=right}} {}", 40 * round),
        ]);
    }
}

#[test]
fn counters_that_are_built_and_dropped_ten_thousand_times_keep_their_totals() {
    // Three kinds in turn: what one of them leaves behind is not to be found by the next.
    let telemetry = TestTelemetry::new();
    let meter = telemetry.meter("m");
    let (mut ticks, mut kept, mut load) = (0, 0, 0);
    for round in 0..10_000_u32 {
        match round % 3 {
            0 => {
                meter.counter(&TICKS).add(1, ());
                ticks += 1;
            }
            1 => {
                // Both threads count, and either may drop the last handle.
                let rides = meter.counter(&RIDES);
                let theirs = rides.clone();
                let is_elsewhere = round % 100 == 1;
                let thread = is_elsewhere.then(|| thread::spawn(move || theirs.add(20, (Lane::Left, End::Kept))));
                rides.add(2, (Lane::Left, End::Kept));
                drop(rides);
                thread.into_iter().for_each(|thread| thread.join().unwrap());
                kept += if is_elsewhere { 22 } else { 2 };
            }
            _ => {
                let carried = meter.up_down_counter(&LOAD);
                carried.add(-300, Lane::Right);
                carried.add(299, Lane::Right);
                load -= 1;
            }
        }
        if round % 1_000 == 999 {
            telemetry.assert_counted(&[
                &format!("load{{lane=right}} {load}"),
                &format!("rides{{end=kept, lane=left}} {kept}"),
                &format!("ticks {ticks}"),
            ]);
        }
    }
    assert_eq!(ticks, 3_334);
}

#[test]
fn the_largest_and_the_smallest_values_neither_panic_nor_lose_what_comes_after() {
    let telemetry = TestTelemetry::new();
    let load = telemetry.meter("m").up_down_counter(&LOAD);
    let add = |value| {
        let load = load.clone();
        thread::spawn(move || load.add(value, Lane::Left)).join().unwrap();
    };
    for collects in [true, false] {
        for (value, shown) in [(i64::MIN, i64::MIN as f64), (i64::MAX, -1.0), (6, 5.0), (-5, 0.0)] {
            add(value);
            if collects {
                assert_eq!(telemetry.metric("load").with(Lane::Left).try_value(), Some(shown));
            }
        }
        telemetry.metric("load").with(Lane::Left).value(0);
    }
}

#[test]
fn what_the_threads_of_a_scope_have_added_is_there_once_the_scope_has_ended() {
    let telemetry = builder().without_endpoint().start().unwrap();
    let ticks = telemetry.meter("m").counter(&TICKS);
    for round in 1..=200 {
        // A scope does not wait for the destructors of its threads' data: their threads may still be ending.
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| ticks.add(1, ()));
            }
        });
        assert_eq!(find(&telemetry.scrape().unwrap(), "ticks_total"), Some(f64::from(4 * round)));
    }
}

macro_rules! digits {
    ($($name:ident: $key:literal),+) => {$(
        attribute! {
            enum $name: $key {
                D0 = "0", D1 = "1", D2 = "2", D3 = "3", D4 = "4", D5 = "5", D6 = "6", D7 = "7", D8 = "8", D9 = "9",
            }
        }
    )+};
}
digits!(Hundreds: "hundreds", Tens: "tens", Ones: "ones");

const SEATS: CounterSpec<(Hundreds, Tens, Ones)> = CounterSpec::new("seats", "{ride}", "Rides on each seat.");
const STANDS: CounterSpec<(Hundreds, Tens, Ones)> = CounterSpec::new("stands", "{ride}", "Rides without a seat.");

#[test]
fn of_thousands_of_series_each_has_what_every_thread_has_added_to_it() {
    let telemetry = TestTelemetry::new();
    let places = [&SEATS, &STANDS].map(|spec| telemetry.meter("many").counter(spec));
    let all = || (0..1_000).map(|n| (n, (Hundreds::ALL[n / 100], Tens::ALL[n / 10 % 10], Ones::ALL[n % 10])));
    for round in 1..=2 {
        thread::scope(|scope| {
            for thread in 0..4_u64 {
                let places = &places;
                scope.spawn(move || {
                    for (n, place) in all() {
                        places[0].add(n as u64, place);
                        places[1].add(thread, place);
                    }
                });
            }
        });
        for (n, place) in all().step_by(37) {
            telemetry.metric("seats").with(place).value((round * 4 * n) as f64);
            telemetry.metric("stands").with(place).value((round * 6) as f64);
        }
    }
}
