//! How an operation is timed, on one or more threads.

use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use barograph::AttributeSet;
use barograph_instrumentation_metrics::MetricsRecorder;
use opentelemetry::Context;

use super::labels::{Api, SERIES, Status, combinations};
use crate::table::Contestant;

/// A round is reported as what so many operations of a thread take.
pub(super) const OPERATIONS: usize = 1_000_000;
/// It takes about this long for everybody, so that it is measured as well in who is fast as in who is slow: in less time,
/// when the threads begin and when the machine does something else would show in the fastest.
const ROUND: Duration = Duration::from_millis(40);
/// What a thread records is as long as this, over and over: every series equally often.
const BATCH: usize = 56 * SERIES;

type Input = (u64, Api, Status);

/// What each thread records.
pub(super) struct Bench {
    series: usize,
    inputs: Vec<Vec<Input>>,
}

impl Bench {
    /// All threads record into the same series, one after the other.
    pub(super) fn new(threads: usize, series: usize) -> Self {
        let series_of = |thread: usize, operation: usize| {
            // Each thread begins with another one: those of a program do not walk in step either.
            let (api, status) = combinations()[(operation + thread * series / threads) % series];
            (1, api, status)
        };
        let inputs = (0..threads).map(|thread| (0..BATCH).map(|operation| series_of(thread, operation)).collect());
        // What is recorded comes from outside, as it does in a program.
        Self { series, inputs: black_box(inputs.collect()) }
    }

    pub(super) fn has_one_series(&self) -> bool {
        self.series == 1
    }

    /// Records by what the attributes are.
    pub(super) fn contestant<'a>(
        &'a self,
        name: &'static str,
        operation: impl Fn(u64, Api, Status) + Sync + 'a,
    ) -> Contestant<'a> {
        self.contestant_in(Context::new(), name, operation)
    }

    /// Records into a series that is known: by its handle if there is one, or by that of eighteen that the attributes
    /// select, as in a program that keeps them in an array.
    pub(super) fn contestant_by_handle<'a, H: Sync + 'a>(
        &'a self,
        name: &'static str,
        handle: impl Fn(Api, Status) -> H,
        operation: impl Fn(&H, u64) + Sync + 'a,
    ) -> Contestant<'a> {
        let all = combinations();
        if self.has_one_series() {
            let only = handle(all[0].0, all[0].1);
            return self.contestant(name, move |n, _, _| operation(&only, n));
        }
        let handles = all.map(|(api, status)| handle(api, status));
        self.contestant(name, move |n, api, status| operation(&handles[(api, status).index()], n))
    }

    /// Records where this is the current context.
    pub(super) fn contestant_in<'a>(
        &'a self,
        context: Context,
        name: &'static str,
        operation: impl Fn(u64, Api, Status) + Sync + 'a,
    ) -> Contestant<'a> {
        let within = move |work: &mut dyn FnMut()| {
            let _current = context.clone().attach();
            work();
        };
        self.contestant_within(within, name, operation)
    }

    /// Each thread has the recorder for its own.
    pub(super) fn contestant_on<'a>(
        &'a self,
        recorder: Arc<MetricsRecorder>,
        name: &'static str,
        operation: impl Fn(u64, Api, Status) + Sync + 'a,
    ) -> Contestant<'a> {
        let within = move |work: &mut dyn FnMut()| metrics::with_local_recorder(&recorder, work);
        self.contestant_within(within, name, operation)
    }

    fn contestant_within<'a>(
        &'a self,
        within: impl Fn(&mut dyn FnMut()) + Sync + 'a,
        name: &'static str,
        operation: impl Fn(u64, Api, Status) + Sync + 'a,
    ) -> Contestant<'a> {
        let mut batches = None;
        Contestant::new(name, None, move || {
            let time = |batches: usize| self.time(batches, &within, &operation);
            let batches = *batches.get_or_insert_with(|| batches_of_a_round(time));
            time(batches).mul_f64(OPERATIONS as f64 / (batches * BATCH) as f64)
        })
    }

    /// From the first thread's start to the last one's end. Starting the threads is not counted.
    fn time(
        &self,
        batches: usize,
        within: &(impl Fn(&mut dyn FnMut()) + Sync),
        operation: &(impl Fn(u64, Api, Status) + Sync),
    ) -> Duration {
        let barrier = Barrier::new(self.inputs.len());
        let work = |inputs: &[Input]| {
            let mut times = None;
            within(&mut || {
                barrier.wait();
                let start = Instant::now();
                repeat(batches, inputs, operation);
                times = Some((start, Instant::now()));
            });
            times.expect("it was called")
        };
        let times: Vec<(Instant, Instant)> = thread::scope(|scope| {
            let threads: Vec<_> = self.inputs.iter().map(|inputs| scope.spawn(|| work(inputs))).collect();
            threads.into_iter().map(|thread| thread.join().expect("nothing panics")).collect()
        });
        let start = times.iter().map(|(start, _)| *start).min().expect("a thread");
        let end = times.iter().map(|(_, end)| *end).max().expect("a thread");
        end - start
    }
}

fn batches_of_a_round(time: impl Fn(usize) -> Duration) -> usize {
    let mut batches = 1;
    loop {
        let took = time(batches);
        if took >= ROUND / 8 {
            return ((batches as f64 * ROUND.as_secs_f64() / took.as_secs_f64()) as usize).max(1);
        }
        batches *= 4;
    }
}

/// A function of its own, as in a program: the compiler sees that what it is given does not change.
#[inline(never)]
fn repeat(batches: usize, inputs: &[Input], operation: &impl Fn(u64, Api, Status)) {
    for _ in 0..batches {
        for &(n, api, status) in inputs {
            operation(n, api, status);
        }
    }
}
