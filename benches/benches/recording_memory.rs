//! What recording costs in memory: threads that live at once, and threads that come and go.
//!
//! `cargo bench -p barograph-benches --bench recording_memory` (half a minute)
//!
//! The heap is counted to the byte, in a binary of its own because that makes every allocation slow; stacks are no part of
//! it. What is resident (Linux) is that of the same program without counting. Each figure has a process of its own, and
//! every process ends by comparing what a scrape says with what its threads have added.

#![expect(clippy::print_stdout, reason = "a measurement is printed")]
#![expect(clippy::expect_used, reason = "a measurement that cannot be made ends here")]

use std::env;
use std::fmt::Write;
use std::fs;
use std::process::Command;
use std::sync::{Barrier, Mutex};
use std::thread;

use barograph::{Counter, CounterSpec, MeterExt, Telemetry, attribute};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const SERIES: usize = 1_000;
/// As far from each other as they can be.
const TOUCHED: usize = 20;
const ALIVE: usize = 64;
/// So many come and go before each look at the memory; four of them at a time.
const SHORT_LIVED: [usize; 4] = [0, 1_000, 10_000, 100_000];
const AT_A_TIME: usize = 4;

/// With this in every series from the beginning a page does not grow, and with it the buffers that are kept.
const FIRST: u64 = 1_000_000;
/// Of so many processes the median is taken where threads are alive: what is resident then also depends on who came first.
const PROCESSES: usize = 9;

const LAYOUTS: [&str; 2] = ["one counter of 1,000 series", "1,000 counters of one series"];
const METHODS: [&str; 2] = ["heap", "resident"];

fn main() {
    // `cargo bench` adds a flag.
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        // What the tables below start: one figure in a process of its own.
        ["alive", layout, method, touched] => alive(layout, method, touched.parse().expect("a number")),
        ["short-lived", layout, method] => short_lived(layout, method),
        _ => println!("{}\n{}", table_of_alive(), table_of_short_lived()),
    }
}

fn table_of_alive() -> String {
    let mut table = format!("### {SERIES} typed series, {ALIVE} threads alive\n\n");
    let _ = writeln!(
        table,
        "| layout | kB | no threads | threads that touch nothing | that touch {TOUCHED} series each | for that | bytes for each of {} |\n|---|---|---:|---:|---:|---:|---:|",
        ALIVE * TOUCHED
    );
    for layout in LAYOUTS {
        for method in METHODS {
            let [idle, touching] = [0, TOUCHED].map(|touched| {
                let touched = touched.to_string();
                let runs: Vec<_> = (0..PROCESSES).map(|_| figures(&["alive", layout, method, &touched])).collect();
                [0, 1].map(|look| median(runs.iter().map(|figures| figures[look]).collect()))
            });
            let difference = touching[1] - idle[1];
            let kilobytes = [idle[0], idle[1], touching[1], difference].map(|bytes| format!("{:.1}", bytes / 1e3));
            let each = difference / (ALIVE * TOUCHED) as f64;
            let _ = writeln!(table, "| {layout} | {method} | {} | {each:.0} |", kilobytes.join(" | "));
        }
    }
    table
}

fn table_of_short_lived() -> String {
    let mut table =
        format!("### {SERIES} typed series, threads that add to {TOUCHED} each and end, {AT_A_TIME} at a time\n\n");
    table += "| layout | kB | before | after 1,000 | after 10,000 | after 100,000 |\n|---|---|---:|---:|---:|---:|\n";
    for layout in LAYOUTS {
        for method in METHODS {
            let figures = figures(&["short-lived", layout, method]);
            let kilobytes: Vec<String> = figures.iter().map(|bytes| format!("{:.1}", bytes / 1e3)).collect();
            let _ = writeln!(table, "| {layout} | {method} | {} |", kilobytes.join(" | "));
        }
    }
    table
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Bytes, as a process says them.
fn figures(arguments: &[&str]) -> Vec<f64> {
    let child = Command::new(env::current_exe().expect("this program")).args(arguments).output();
    let child = child.expect("this program runs");
    assert!(child.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&child.stderr));
    let figures = String::from_utf8(child.stdout).expect("numbers");
    figures.split_whitespace().map(|bytes| bytes.parse().expect("a number")).collect()
}

fn alive(layout: &str, method: &str, touched: usize) {
    let memory = Memory::by(method);
    let counters = Counters::new(layout);
    let before = memory.bytes();
    let (have_touched, may_end) = (Barrier::new(ALIVE + 1), Barrier::new(ALIVE + 1));
    thread::scope(|scope| {
        for thread in 0..ALIVE {
            let (counters, have_touched, may_end) = (&counters, &have_touched, &may_end);
            scope.spawn(move || {
                counters.touch(thread, touched);
                have_touched.wait();
                may_end.wait();
            });
        }
        have_touched.wait();
        println!("{before} {}", memory.bytes());
        assert_eq!(counters.total(), (ALIVE * touched) as u64, "threads alive");
        may_end.wait();
    });
    assert_eq!(counters.total(), (ALIVE * touched) as u64, "threads gone");
}

fn short_lived(layout: &str, method: &str) {
    let memory = Memory::by(method);
    let counters = Counters::new(layout);
    let mut ended = 0;
    for threads in SHORT_LIVED {
        while ended < threads {
            thread::scope(|scope| {
                for thread in ended..ended + AT_A_TIME {
                    let counters = &counters;
                    scope.spawn(move || counters.touch(thread, TOUCHED));
                }
            });
            ended += AT_A_TIME;
        }
        println!("{}", memory.bytes());
        assert_eq!(counters.total(), (threads * TOUCHED) as u64);
    }
}

/// How much memory this process has.
enum Memory {
    /// It counts as long as the profiler is there.
    Heap(dhat::Profiler),
    Resident,
}

impl Memory {
    fn by(method: &str) -> Self {
        if method == METHODS[0] { Self::Heap(dhat::Profiler::builder().testing().build()) } else { Self::Resident }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Heap(_) => dhat::HeapStats::get().curr_bytes,
            Self::Resident => {
                // What `status` has is up to some pages off.
                let sums = fs::read_to_string("/proc/self/smaps_rollup").expect("Linux");
                let line = sums.lines().find_map(|line| line.strip_prefix("Rss:")).expect("what is resident");
                let kilobytes: usize = line.trim().trim_end_matches(" kB").parse().expect("a number");
                kilobytes * 1024
            }
        }
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

/// A thousand series.
struct Counters {
    telemetry: Telemetry,
    layout: Layout,
    turn: Mutex<()>,
}

enum Layout {
    One(Counter<(Hundreds, Tens, Ones)>),
    Many(Vec<Counter>),
}

impl Counters {
    fn new(layout: &str) -> Self {
        let telemetry = Telemetry::builder("bench").without_endpoint().without_self_metrics();
        let telemetry = telemetry.start().expect("no endpoint, nothing to fail");
        let meter = telemetry.meter("bench");
        let name = |number| format!("bench.touched_{number}").leak();
        let layout = if layout == LAYOUTS[0] {
            Layout::One(meter.counter(&CounterSpec::new(name(0), "{touch}", "Touched.")))
        } else {
            let spec = |number| CounterSpec::new(name(number), "{touch}", "Touched.");
            Layout::Many((0..SERIES).map(|number| meter.counter(&spec(number))).collect())
        };
        let counters = Self { telemetry, layout, turn: Mutex::default() };
        (0..SERIES).for_each(|number| counters.add(FIRST, number));
        // What the first scrape brings with it is there before the first look.
        assert_eq!(counters.total(), 0);
        counters
    }

    /// Threads touch different series.
    fn touch(&self, thread: usize, count: usize) {
        const APART: usize = SERIES / TOUCHED;
        // One after the other: counting the heap keeps each so long at what they share that the others would go without.
        let _turn = self.turn.lock().expect("nothing panics");
        (thread % APART..SERIES).step_by(APART).take(count).for_each(|number| self.add(1, number));
    }

    fn add(&self, value: u64, number: usize) {
        match &self.layout {
            Layout::One(counter) => {
                let digit = |power: usize| number / power % 10;
                counter.add(value, (Hundreds::ALL[digit(100)], Tens::ALL[digit(10)], Ones::ALL[digit(1)]));
            }
            Layout::Many(counters) => counters[number].add(value, ()),
        }
    }

    /// What the threads have added.
    fn total(&self) -> u64 {
        let page = self.telemetry.scrape().expect("a page");
        let samples: Vec<&str> = page.lines().filter(|line| line.starts_with("bench_touched_")).collect();
        assert_eq!(samples.len(), SERIES, "samples in the page");
        let value = |line: &&str| line.rsplit(' ').next().expect("a value").parse::<u64>().expect("a whole number");
        samples.iter().map(value).sum::<u64>() - FIRST * SERIES as u64
    }
}
