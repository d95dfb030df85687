//! What a scrape of typed counters takes whose counts are still with the threads that counted. For comparing two versions
//! of Barograph: build both, and let them take turns.

use std::fmt::Write;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use barograph::{Counter, CounterSpec, MeterExt};
use rustix::time::{ClockId, clock_gettime};

use super::labels::{Api, SERIES, Status, combinations};
use super::pipeline;
use crate::ours::{Format, Scrape, scraper};

/// Of eighteen series each: 990 in all.
const COUNTERS: usize = 55;
const ROUNDS: usize = 1_001;

type Calls = Counter<(Api, Status)>;

/// What has been counted when the first scrape comes, and between scrapes, by how many threads.
struct Case {
    name: &'static str,
    threads: usize,
    first: Work,
    between: Work,
}

const CASES: [Case; 8] = [
    Case {
        name: "1 thread has counted in all series, nothing new since the last scrape",
        threads: 1,
        first: all,
        between: nothing,
    },
    Case { name: "1 thread, something new in 20 series", threads: 1, first: some, between: some },
    Case { name: "1 thread, something new in all series", threads: 1, first: all, between: all },
    Case { name: "8 threads have each counted in all series, nothing new", threads: 8, first: all, between: nothing },
    Case { name: "8 threads, each something new in 20 series", threads: 8, first: some, between: some },
    Case { name: "8 threads, each something new in all series", threads: 8, first: all, between: all },
    Case { name: "64 threads, each something new in 20 series", threads: 64, first: some, between: some },
    Case { name: "64 threads, each something new in all series", threads: 64, first: all, between: all },
];

/// Each case has a process of its own: who collects looks at the threads of all pipelines of a program.
pub(crate) fn measure() -> String {
    let mut table = format!(
        "### A scrape of {} typed series in {COUNTERS} counters\n\n| case | median µs | min µs | median µs of processor time | min |\n|---|---:|---:|---:|---:|\n",
        COUNTERS * SERIES
    );
    for (number, case) in CASES.iter().enumerate() {
        let columns = crate::of_its_own(&["record", "--scrape-of", &number.to_string()]);
        let _ = writeln!(table, "| {} | {} |", case.name, columns.trim());
    }
    table
}

/// The columns of one case: as a scraper waits for it, and as the machine works for it, which is the steadier one where others
/// work too.
pub(crate) fn of(number: &str) -> String {
    let case = &CASES[number.parse::<usize>().expect("a number")];
    let working =
        || Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).expect("a time since the process began");
    let mut scraped = Scraped::new(case);
    let times: Vec<(Duration, Duration)> = (0..ROUNDS)
        .map(|_| {
            scraped.work(case.between);
            let (waiting, working_before) = (Instant::now(), working());
            scraped.scrape();
            (waiting.elapsed(), working() - working_before)
        })
        .collect();
    scraped.check();
    let column = |of: fn(&(Duration, Duration)) -> Duration| {
        let mut times: Vec<f64> = times.iter().map(|time| of(time).as_secs_f64() * 1e6).collect();
        times.sort_by(f64::total_cmp);
        format!("{:.0} | {:.0}", times[times.len() / 2], times[0])
    };
    format!("{} | {}", column(|(waiting, _)| *waiting), column(|(_, working)| *working))
}

/// Adds to some of the series: which ones may depend on the thread. Returns to how many.
type Work = fn(counters: &[Calls], thread: usize) -> u64;

fn nothing(_: &[Calls], _: usize) -> u64 {
    0
}

/// Far from each other, and others in every thread.
fn some(counters: &[Calls], thread: usize) -> u64 {
    add(counters, (thread % 49..COUNTERS * SERIES).step_by(49).take(20))
}

fn all(counters: &[Calls], _: usize) -> u64 {
    add(counters, 0..COUNTERS * SERIES)
}

fn add(counters: &[Calls], series: impl Iterator<Item = usize>) -> u64 {
    let all = combinations();
    series.inspect(|number| counters[number / SERIES].add(1, all[number % SERIES])).count() as u64
}

/// A program of which the threads live on and are asleep while it is scraped.
struct Scraped {
    threads: Threads,
    counted: u64,
    scrape: Scrape,
    page: Vec<u8>,
}

impl Scraped {
    fn new(case: &Case) -> Self {
        let telemetry = pipeline(None);
        let meter = telemetry.meter("bench");
        let spec = |number| CounterSpec::new(format!("bench.calls_{number}").leak(), "{call}", "Calls, typed.");
        let counters: Arc<[Calls]> = (0..COUNTERS).map(|number| meter.counter(&spec(number))).collect();
        let threads = Threads::start(case.threads, counters);
        let mut this = Self { threads, counted: 0, scrape: scraper(telemetry, Format::TEXT), page: Vec::new() };
        this.work(case.first);
        this.scrape();
        this.check();
        this
    }

    fn work(&mut self, work: Work) {
        self.counted += self.threads.work(work);
    }

    fn scrape(&mut self) {
        self.page.clear();
        (self.scrape)(&mut |piece| self.page.extend_from_slice(black_box(piece)));
    }

    fn check(&self) {
        assert_eq!(total(str::from_utf8(&self.page).expect("text")), self.counted);
    }
}

/// Everything that was counted, as a page has it.
fn total(page: &str) -> u64 {
    let samples = page.lines().filter(|line| line.starts_with("bench_calls_"));
    samples.map(|line| line.rsplit(' ').next().expect("a value").parse::<u64>().expect("a whole number")).sum()
}

/// Threads that work when they are told to. They end when nobody can tell them any more.
struct Threads {
    orders: Vec<Sender<Work>>,
    done: Receiver<u64>,
}

impl Threads {
    fn start(count: usize, counters: Arc<[Calls]>) -> Self {
        let (finished, done) = channel();
        let orders = (0..count).map(|number| {
            let (order, orders) = channel::<Work>();
            let (counters, finished) = (Arc::clone(&counters), finished.clone());
            thread::spawn(move || {
                for work in orders {
                    finished.send(work(&counters, number)).expect("somebody waits");
                }
            });
            order
        });
        Self { orders: orders.collect(), done }
    }

    /// Returns how much all of them have added, once they have.
    fn work(&self, work: Work) -> u64 {
        self.orders.iter().for_each(|order| order.send(work).expect("it waits for work"));
        self.done.iter().take(self.orders.len()).sum()
    }
}
