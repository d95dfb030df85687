//! Operations, seen from the page: whatever becomes of a call, it is counted and timed once, and none stays in progress.

use std::cell::Cell;
use std::future::{Future, pending, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::thread;

use barograph::testing::TestTelemetry;
use barograph::{
    CallOutcome, CounterSpec, HistogramSpec, MeterExt, Operation, OperationSpec, UpDownCounterSpec, View, attribute,
    buckets, operation,
};

use crate::support::without_panic_messages;

attribute! {
    /// Which store.
    pub(crate) enum Store: "store" { Memory = "memory", Disk = "disk" }
}
attribute! {
    /// Of which kind.
    pub(crate) enum Kind: "kind" { Key = "key", Range = "range" }
}
attribute! {
    /// How a read ended.
    pub(crate) enum Read: "read" { Hit = "hit", Miss = "miss", Broken = "broken" }
    unfinished => Broken
}

impl From<&Option<u32>> for Read {
    fn from(entry: &Option<u32>) -> Self {
        if entry.is_some() { Self::Hit } else { Self::Miss }
    }
}

const LOOKUP: OperationSpec = operation!("cache.lookup", "Looks a key up in the cache.");
const BY_STORE: OperationSpec<(Store, CallOutcome)> = operation!("store.lookup", "Looks a key up.");
const BY_BOTH: OperationSpec<(Store, Kind, CallOutcome)> = operation!("index.lookup", "Looks a key up.");
const READ: OperationSpec<Read> = operation!("store.read", "Reads an entry.");

/// The calls of `cache.lookup` by outcome, then those in progress; checks that each was timed once.
fn recorded(telemetry: &TestTelemetry) -> ([f64; 4], f64) {
    let by_outcome = CallOutcome::ALL.iter().map(|outcome| {
        let calls = telemetry.metric("cache_lookup_calls_total").with(*outcome).try_value().unwrap();
        telemetry.metric("cache_lookup_duration_seconds_count").with(*outcome).value(calls);
        calls
    });
    let by_outcome = by_outcome.collect::<Vec<_>>().try_into().unwrap();
    (by_outcome, telemetry.metric("cache_lookup_active_calls").try_value().unwrap())
}

fn start() -> (TestTelemetry, Operation) {
    let telemetry = TestTelemetry::new();
    let lookup = telemetry.meter("cache").operation(&LOOKUP);
    (telemetry, lookup)
}

fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn one_declaration_is_three_metrics_that_are_there_from_the_first_scrape() {
    let (telemetry, _lookup) = start();
    assert_eq!(recorded(&telemetry), ([0.0; 4], 0.0));
    let page = telemetry.page();
    assert!(
        page.contains("# HELP cache_lookup_calls_total Calls that have ended, by how. Looks a key up in the cache.")
    );
    telemetry.telemetry().verify().unwrap();

    let [calls, duration, active] = LOOKUP.descriptors();
    assert_eq!([calls.unit, duration.unit, active.unit], ["{call}", "s", "{call}"]);
    assert_eq!(duration.buckets, Some(buckets::SECONDS));
    assert_eq!(LOOKUP.buckets(buckets::MINUTES).descriptors()[1].buckets, Some(buckets::MINUTES));
}

#[test]
fn what_a_closure_returns_says_how_the_call_ended_and_is_passed_on() {
    let (telemetry, lookup) = start();
    assert_eq!(lookup.run(|| Ok::<_, String>(42)), Ok(42));
    assert_eq!(lookup.run(|| Err::<u32, _>("none")), Err("none"));
    assert_eq!(recorded(&telemetry), ([1.0, 1.0, 0.0, 0.0], 0.0));
}

#[test]
fn a_closure_that_panics_is_a_panic_and_no_longer_in_progress() {
    let (telemetry, lookup) = start();
    without_panic_messages(|| {
        let panicking = || -> Result<(), ()> { panic!("expected: measured") };
        assert!(catch_unwind(AssertUnwindSafe(|| lookup.run(panicking))).is_err());
        let classify = |_: &()| -> CallOutcome { panic!("expected: of the classifier") };
        assert!(catch_unwind(AssertUnwindSafe(|| lookup.start().run_with(|| (), classify))).is_err());
    });
    assert_eq!(recorded(&telemetry), ([0.0, 0.0, 0.0, 2.0], 0.0));
}

#[test]
fn a_call_is_in_progress_from_its_start_to_its_end_also_within_itself() {
    fn recurse(telemetry: &TestTelemetry, lookup: &Operation, depth: u32) -> Result<f64, ()> {
        lookup.run(|| if depth == 0 { Ok(recorded(telemetry).1) } else { recurse(telemetry, lookup, depth - 1) })
    }
    let (telemetry, lookup) = start();
    assert_eq!(recurse(&telemetry, &lookup, 3), Ok(4.0));
    assert_eq!(recorded(&telemetry), ([4.0, 0.0, 0.0, 0.0], 0.0));
}

#[test]
fn operations_within_each_other_are_counted_by_themselves() {
    let (telemetry, lookup) = start();
    let read = telemetry.meter("cache").operation(&READ);
    let found = lookup.run(|| read.run(|| None).ok_or("not there"));
    assert_eq!(found, Err::<u32, _>("not there"));
    assert_eq!(recorded(&telemetry), ([0.0, 1.0, 0.0, 0.0], 0.0));
    telemetry.metric("store_read_calls_total").with(("read", "miss")).value(1);
}

#[tokio::test]
async fn the_output_of_a_future_says_how_the_call_ended_and_is_passed_on() {
    let (telemetry, lookup) = start();
    assert_eq!(lookup.instrument(async { Ok::<_, String>(42) }).await, Ok(42));
    assert_eq!(lookup.instrument(ready(Err::<u32, _>("none"))).await, Err("none"));
    assert_eq!(lookup.start().instrument(async { Ok::<_, String>(42) }).await, Ok(42));
    let classify = |answer: &u32| if *answer == 42 { CallOutcome::Success } else { CallOutcome::Error };
    assert_eq!(lookup.start().instrument_with(ready(7), classify).await, 7);
    assert_eq!(recorded(&telemetry), ([2.0, 2.0, 0.0, 0.0], 0.0));
}

#[test]
fn a_future_that_is_dropped_half_way_is_cancelled() {
    let (telemetry, lookup) = start();
    {
        let mut future = pin!(lookup.instrument(pending::<Result<(), ()>>()));
        assert!(poll(future.as_mut()).is_pending());
        assert!(poll(future).is_pending());
        assert_eq!(recorded(&telemetry), ([0.0; 4], 1.0));
    }
    assert_eq!(recorded(&telemetry), ([0.0, 0.0, 1.0, 0.0], 0.0));
}

#[test]
fn a_future_that_is_never_polled_was_no_call_unless_the_call_had_started() {
    let (telemetry, lookup) = start();
    drop(lookup.instrument(pending::<Result<(), ()>>()));
    assert_eq!(recorded(&telemetry), ([0.0; 4], 0.0));
    let future = lookup.start().instrument(pending::<Result<(), ()>>());
    assert_eq!(recorded(&telemetry), ([0.0; 4], 1.0));
    drop(future);
    assert_eq!(recorded(&telemetry), ([0.0, 0.0, 1.0, 0.0], 0.0));
}

#[test]
fn a_future_that_panics_when_it_is_polled_is_a_panic() {
    let (telemetry, lookup) = start();
    let polls = Cell::new(0);
    let panicking = std::future::poll_fn(|_| -> Poll<Result<(), ()>> {
        polls.set(polls.get() + 1);
        if polls.get() == 2 { panic!("expected: at the second poll") } else { Poll::Pending }
    });
    let mut future = Box::pin(lookup.instrument(panicking));
    assert!(poll(future.as_mut()).is_pending());
    without_panic_messages(|| assert!(catch_unwind(AssertUnwindSafe(|| poll(future.as_mut()))).is_err()));
    assert_eq!(recorded(&telemetry), ([0.0, 0.0, 0.0, 1.0], 0.0));
    drop(future);
    assert_eq!(recorded(&telemetry), ([0.0, 0.0, 0.0, 1.0], 0.0));
}

#[tokio::test]
async fn a_task_that_is_aborted_is_cancelled() {
    let (telemetry, lookup) = start();
    let task = tokio::spawn(lookup.instrument(pending::<Result<(), ()>>()));
    while recorded(&telemetry).1 == 0.0 {
        tokio::task::yield_now().await;
    }
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert_eq!(recorded(&telemetry), ([0.0, 0.0, 1.0, 0.0], 0.0));
}

#[test]
fn a_call_that_is_given_up_while_another_panic_unwinds_did_not_panic_itself() {
    struct Cleanup(Operation);
    impl Drop for Cleanup {
        fn drop(&mut self) {
            drop(self.0.start());
        }
    }
    let (telemetry, lookup) = start();
    without_panic_messages(|| {
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            let _cleanup = Cleanup(lookup.clone());
            panic!("expected: elsewhere");
        }));
        assert!(unwound.is_err());
    });
    assert_eq!(recorded(&telemetry), ([0.0, 0.0, 1.0, 0.0], 0.0));
}

#[test]
fn a_call_that_was_started_ends_as_it_is_told_or_else_unfinished() {
    let (telemetry, lookup) = start();
    lookup.start().finish(CallOutcome::Success);
    lookup.start().finish(CallOutcome::Cancelled);
    let call = lookup.clone().start();
    assert_eq!(recorded(&telemetry).1, 1.0);
    // Elsewhere, and without the handle that it was started by.
    drop(lookup);
    thread::spawn(move || drop(call)).join().unwrap();
    assert_eq!(recorded(&telemetry), ([1.0, 0.0, 2.0, 0.0], 0.0));
}

#[test]
fn what_is_known_at_the_start_tells_calls_apart_also_while_they_are_in_progress() {
    let telemetry = TestTelemetry::new();
    let meter = telemetry.meter("store");
    let (by_store, by_both) = (meter.operation(&BY_STORE), meter.operation(&BY_BOTH));
    let call = by_store.start_for(Store::Disk);
    telemetry.metric("store_lookup_active_calls").with(("store", "disk")).value(1);
    telemetry.metric("store_lookup_active_calls").with(("store", "memory")).value(0);
    assert_eq!(call.run(|| Err::<(), _>("gone")), Err("gone"));
    telemetry.metric("store_lookup_active_calls").with(("store", "disk")).value(0);
    telemetry.metric("store_lookup_calls_total").with([("outcome", "error"), ("store", "disk")]).value(1);

    by_both.start_for((Store::Memory, Kind::Range)).finish(CallOutcome::Panic);
    let duration = telemetry.metric("index_lookup_duration_seconds");
    duration.with((Store::Memory, Kind::Range, CallOutcome::Panic)).count(1);
}

#[test]
fn an_outcome_of_ones_own_is_made_from_any_type_and_needs_no_word_for_panics() {
    let telemetry = TestTelemetry::new();
    let read = telemetry.meter("store").operation(&READ);
    assert_eq!(read.run(|| Some(1)), Some(1));
    without_panic_messages(|| {
        let panicking = || -> Option<u32> { panic!("expected: while reading") };
        assert!(catch_unwind(AssertUnwindSafe(|| read.run(panicking))).is_err());
    });
    telemetry.metric("store_read_calls_total").with(("read", "hit")).value(1);
    telemetry.metric("store_read_calls_total").with(("read", "broken")).value(1);
}

#[test]
fn metrics_with_names_of_their_own_are_an_operation_too_and_views_apply_to_each() {
    const ASK: OperationSpec = OperationSpec {
        calls: CounterSpec::new("desk.questions", "{question}", "Questions that were answered."),
        duration: HistogramSpec::new("desk.answer_time", "s", "Time an answer took."),
        active: UpDownCounterSpec::new("desk.open_questions", "{question}", "Questions without an answer yet."),
    };
    let view = View::of("desk.answer_time").with_buckets([0.5, 3600.0]);
    let telemetry = TestTelemetry::with(|builder| builder.with_view(view));
    telemetry.meter("desk").operation(&ASK).run(|| Ok::<_, ()>(())).unwrap();
    telemetry.metric("desk_questions_total").with(("outcome", "success")).value(1);
    telemetry.metric("desk_answer_time_seconds_bucket").with([("outcome", "success"), ("le", "3600")]).value(1);
    telemetry.metric("desk_open_questions").value(0);
}

#[test]
fn a_call_that_is_dropped_because_something_else_panics_is_cancelled() {
    let (telemetry, lookup) = start();
    let mut waiting = Box::pin(lookup.instrument(pending::<Result<(), ()>>()));
    assert!(poll(waiting.as_mut()).is_pending());
    let beside = AssertUnwindSafe(move || {
        let _waiting = waiting;
        std::panic::resume_unwind(Box::new("quietly"));
    });
    catch_unwind(beside).unwrap_err();
    // Success, error, cancelled, panic.
    assert_eq!(recorded(&telemetry), ([0.0, 0.0, 1.0, 0.0], 0.0));
}
