//! What is shown of runtimes and tasks, whatever becomes of them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::future::{Future, pending, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use barograph::testing::TestTelemetry;
use barograph_instrumentation_tokio::semconv::{METRICS, SCOPE, TaskOutcome, UNSTABLE_METRICS};
use barograph_instrumentation_tokio::{TokioMetrics, WatchedRuntime};
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinSet, yield_now};

#[test]
fn every_metric_is_on_the_page_with_its_name_kind_and_description() {
    let (telemetry, metrics) = start();
    let runtime = workers(2);
    let _watched = metrics.watch("main", runtime.handle());
    runtime.block_on(async { metrics.tasks("a").spawn(yield_now()).await.unwrap() });
    let page = telemetry.page();
    let unstable = if cfg!(tokio_unstable) { UNSTABLE_METRICS } else { &[] };
    for metric in METRICS.iter().chain(unstable) {
        let name = metric.scraped_name().unwrap();
        if metric.name.ends_with("polls_within") {
            // Only with the runtime's histogram.
            assert!(!page.contains(&name), "{page}");
            continue;
        }
        assert!(page.contains(&format!("# HELP {name} {}\n", metric.description)), "{name} is not in\n{page}");
        let kind = match metric.kind.as_str().trim_start_matches("observable ") {
            "up-down counter" => "gauge",
            kind => kind,
        };
        assert!(page.contains(&format!("# TYPE {name} {kind}\n")), "{name} is no {kind} in\n{page}");
    }
    if !cfg!(tokio_unstable) {
        for metric in UNSTABLE_METRICS {
            assert!(!page.contains(&metric.scraped_name().unwrap()), "{} is absent", metric.name);
        }
    }
    for series in page.lines().filter(|line| line.starts_with("tokio_")) {
        assert!(series.contains(&format!("otel_scope_name=\"{SCOPE}\"")), "{series}");
        let is_known =
            ["tokio_runtime_name=\"main\"", "tokio_task_kind=\"a\""].iter().any(|label| series.contains(label));
        assert!(is_known, "{series}");
    }
}

#[test]
fn a_runtime_says_how_many_workers_and_tasks_it_has() {
    let (telemetry, metrics) = start();
    let runtime = workers(3);
    let _watched = metrics.watch("main", runtime.handle());
    let main = ("tokio.runtime.name", "main");
    telemetry.metric("tokio.runtime.worker.count").with(main).value(3);
    telemetry.metric("tokio.runtime.task.count").with(main).value(0);

    let task = runtime.spawn(pending::<()>());
    telemetry.metric("tokio.runtime.task.count").with(main).value(1);
    task.abort();
    telemetry.metric("tokio.runtime.task.count").eventually(|metric| metric.with(main).value(0));
}

#[test]
fn what_waits_for_a_worker_is_in_the_queue() {
    let (telemetry, metrics) = start();
    // Nobody drives it, so everything waits; the first is what learns of the runtime's end.
    let runtime = Builder::new_current_thread().build().unwrap();
    let _watched = metrics.watch("main", runtime.handle());
    let main = ("tokio.runtime.name", "main");
    let queued = || telemetry.metric("tokio.runtime.global_queue.length").with(main).try_value().unwrap();
    let before = queued();
    for _ in 0..5 {
        runtime.spawn(ready(()));
    }
    assert_eq!(queued() - before, 5.0);
    runtime.block_on(async {
        while queued() > 0.0 {
            yield_now().await;
        }
    });
}

#[test]
fn each_worker_says_how_long_it_was_busy() {
    let (telemetry, metrics) = start();
    let runtime = workers(2);
    let _watched = metrics.watch("main", runtime.handle());
    let busy = |worker: &str| {
        let labels = [("tokio.runtime.name", "main"), ("tokio.worker.id", worker)];
        telemetry.metric("tokio.runtime.worker.busy_time").with(labels[0]).with(labels[1]).try_value().unwrap()
    };
    let all = || busy("0") + busy("1");
    let before = all();
    runtime.block_on(async {
        for _ in 0..200 {
            tokio::spawn(async { (0..10_000).for_each(|number| _ = std::hint::black_box(number)) }).await.unwrap();
        }
    });
    telemetry.eventually(|_| assert!(all() > before, "{} then {before}", all()));
}

#[test]
fn two_runtimes_of_one_name_have_series_of_their_own() {
    let (telemetry, metrics) = start();
    let runtimes = [workers(1), workers(2), workers(3)];
    let watched: Vec<WatchedRuntime> =
        runtimes.iter().map(|runtime| metrics.clone().watch("pool", runtime.handle())).collect();
    let names: Vec<&str> = watched.iter().map(WatchedRuntime::name).collect();
    assert_eq!(names, ["pool", "pool-2", "pool-3"]);
    for (name, workers) in [("pool", 1), ("pool-2", 2), ("pool-3", 3)] {
        telemetry.metric("tokio.runtime.worker.count").with(("tokio.runtime.name", name)).value(workers);
    }
    // A name that nobody has any more is free.
    drop(watched);
    assert_eq!(metrics.watch("pool", runtimes[0].handle()).name(), "pool");
}

#[test]
fn a_runtime_that_is_no_longer_watched_has_no_series() {
    let (telemetry, metrics) = start();
    let runtime = workers(1);
    let watched = metrics.watch("main", runtime.handle());
    telemetry.metric("tokio.runtime.worker.count").with(("tokio.runtime.name", "main")).present();
    drop(watched);
    assert!(!telemetry.page().contains("tokio_runtime"), "{}", telemetry.page());
    // What waited for its end is gone too.
    telemetry.eventually(|_| assert_eq!(runtime.metrics().num_alive_tasks(), 0));

    // At once, though nobody drives the runtime.
    let idle = Builder::new_current_thread().build().unwrap();
    drop(metrics.watch("idle", idle.handle()));
    assert!(!telemetry.page().contains("tokio_runtime"), "{}", telemetry.page());
}

#[test]
fn a_runtime_that_was_shut_down_has_no_series_and_its_guard_does_not_hold_it_up() {
    let (telemetry, metrics) = start();
    let builders: [fn() -> Runtime; 2] = [|| workers(2), || Builder::new_current_thread().build().unwrap()];
    for runtime in builders.map(|build| build()) {
        let watched = metrics.watch("main", runtime.handle());
        let handle = runtime.handle().clone();
        telemetry.metric("tokio.runtime.worker.count").with(("tokio.runtime.name", "main")).present();
        // Joins the workers: it would not return if somebody kept them.
        drop(runtime);
        assert!(!telemetry.page().contains("tokio_runtime"), "{}", telemetry.page());
        // To watch it now is as to watch it until its end.
        let late = metrics.watch("late", &handle);
        assert!(!telemetry.page().contains("tokio_runtime"), "{}", telemetry.page());
        drop((watched, late));
    }
}

#[test]
fn a_guard_that_outlives_the_metrics_still_watches() {
    let (telemetry, metrics) = start();
    let runtime = workers(1);
    let _watched = metrics.watch("main", runtime.handle());
    drop(metrics);
    telemetry.metric("tokio.runtime.worker.count").with(("tokio.runtime.name", "main")).value(1);
}

#[test]
fn a_kind_of_task_has_all_its_series_before_the_first_task() {
    let (telemetry, metrics) = start();
    let _tasks = metrics.tasks("uploads");
    assert_eq!(ended(&telemetry), [0, 0, 0]);
    telemetry.metric("tokio.task.count").with(KIND).value(0);
}

#[test]
fn a_task_that_is_ready_is_completed() {
    let (telemetry, metrics) = start();
    let tasks = metrics.tasks("uploads");
    let answer = workers(1).block_on(async move {
        let instrumented = tokio::spawn(tasks.instrument(async { 1 })).await.unwrap();
        instrumented + tasks.spawn(async { 2 }).await.unwrap()
    });
    assert_eq!(answer, 3);
    assert_eq!(ended(&telemetry), [2, 0, 0]);
    telemetry.metric("tokio.task.count").with(KIND).value(0);
    telemetry.metric("tokio.task.poll.duration").with(KIND).count(2);
}

#[test]
fn a_task_is_in_flight_from_its_start_to_its_end() {
    let (telemetry, metrics) = start();
    let tasks = metrics.tasks("uploads");
    let first = tasks.instrument(pending::<()>());
    let second = tasks.clone().instrument(ready(()));
    telemetry.metric("tokio.task.count").with(KIND).value(2);
    assert!(poll_once(second).is_ready());
    telemetry.metric("tokio.task.count").with(KIND).value(1);
    drop(first);
    telemetry.metric("tokio.task.count").with(KIND).value(0);
}

#[test]
fn a_task_that_is_aborted_is_cancelled() {
    let (telemetry, metrics) = start();
    let tasks = metrics.tasks("uploads");
    workers(1).block_on(async {
        let task = tasks.spawn(pending::<()>());
        yield_now().await;
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());

        let mut set = JoinSet::new();
        set.spawn(tasks.instrument(pending::<()>()));
        set.shutdown().await;
    });
    assert_eq!(ended(&telemetry), [0, 0, 2]);
    telemetry.metric("tokio.task.count").with(KIND).value(0);
}

#[test]
fn a_task_that_is_dropped_before_its_first_poll_is_cancelled() {
    let (telemetry, metrics) = start();
    drop(metrics.tasks("uploads").instrument(ready(())));
    assert_eq!(ended(&telemetry), [0, 0, 1]);
    telemetry.metric("tokio.task.poll.duration").with(KIND).count(0);
}

#[test]
fn a_task_whose_runtime_is_shut_down_is_cancelled() {
    let (telemetry, metrics) = start();
    let tasks = metrics.tasks("uploads");
    let runtime = workers(1);
    runtime.block_on(async { _ = tasks.spawn(pending::<()>()) });
    drop(runtime);
    assert_eq!(ended(&telemetry), [0, 0, 1]);
}

#[test]
fn a_task_that_panics_is_panicked_and_its_poll_counts() {
    let (telemetry, metrics) = start();
    let tasks = metrics.tasks("uploads");
    let runtime = workers(1);
    let error = runtime.block_on(async {
        tasks
            .spawn(async {
                yield_now().await;
                panic!("as this test wants");
            })
            .await
    });
    assert!(error.unwrap_err().is_panic());
    assert_eq!(ended(&telemetry), [0, 1, 0]);
    telemetry.metric("tokio.task.count").with(KIND).value(0);
    telemetry.metric("tokio.task.poll.duration").with(KIND).count(2);
}

#[test]
fn a_future_that_panicked_is_panicked_though_it_is_dropped_later() {
    let (telemetry, metrics) = start();
    let tasks = metrics.tasks("uploads");
    let mut task = Box::pin(tasks.instrument(async { panic!("as this test wants") }));
    let poll = || task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
    assert!(catch_unwind(AssertUnwindSafe(poll)).is_err());
    assert_eq!(ended(&telemetry), [0, 0, 0]);
    drop(task);
    assert_eq!(ended(&telemetry), [0, 1, 0]);
}

#[test]
fn a_task_that_panics_in_its_drop_has_ended_before() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(std::thread::panicking(), "as this test wants");
        }
    }
    let (telemetry, metrics) = start();
    let tasks = metrics.tasks("uploads");
    let task = tasks.instrument(async {
        let _bomb = Bomb;
        pending::<()>().await;
    });
    let mut task = Box::pin(task);
    assert!(task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    assert!(catch_unwind(AssertUnwindSafe(|| drop(task))).is_err());
    assert_eq!(ended(&telemetry), [0, 0, 1]);
    telemetry.metric("tokio.task.count").with(KIND).value(0);
}

#[test]
fn the_wait_for_a_worker_counts_from_the_first_wake_to_the_poll() {
    let (telemetry, metrics) = start();
    let mut waker = None;
    let mut task = Box::pin(metrics.tasks("uploads").instrument(poll_fn(move |context| -> Poll<()> {
        waker.get_or_insert_with(|| context.waker().clone()).wake_by_ref();
        context.waker().wake_by_ref();
        Poll::Pending
    })));
    // Nobody knows since when the first poll was wanted; each of the others was, by two wakes that count as one.
    for waits in [0, 1, 2] {
        assert!(poll_once(&mut task).is_pending());
        telemetry.metric("tokio.task.schedule.duration").with(KIND).count(waits);
    }
}

#[test]
fn a_spawned_task_waits_from_its_spawn_to_its_first_poll() {
    let (telemetry, metrics) = start();
    let tasks = metrics.tasks("uploads");
    workers(1).block_on(async { tasks.spawn(ready(())).await.unwrap() });
    telemetry.metric("tokio.task.schedule.duration").with(KIND).count(1);
}

#[test]
fn a_poll_without_a_wake_is_no_wait() {
    let (telemetry, metrics) = start();
    let mut task = Box::pin(metrics.tasks("uploads").instrument(pending::<()>()));
    for _ in 0..3 {
        assert!(poll_once(&mut task).is_pending());
    }
    telemetry.metric("tokio.task.schedule.duration").with(KIND).count(0);
    telemetry.metric("tokio.task.poll.duration").with(KIND).count(3);
}

#[test]
fn a_task_that_moves_to_another_executor_wakes_that_one() {
    struct Flag(AtomicBool);
    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let (_telemetry, metrics) = start();
    let (give, wait) = tokio::sync::oneshot::channel();
    let mut task = Box::pin(metrics.tasks("uploads").instrument(wait));
    let executors = [Arc::new(Flag(AtomicBool::new(false))), Arc::new(Flag(AtomicBool::new(false)))];
    for executor in &executors {
        let waker = Waker::from(Arc::clone(executor));
        assert!(task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    give.send(17).unwrap();
    assert_eq!(executors.map(|executor| executor.0.load(Ordering::SeqCst)), [false, true]);
    assert_eq!(poll_once(task), Poll::Ready(Ok(17)));
}

#[test]
fn a_wake_may_poll_right_where_it_is() {
    struct Inline<F>(std::sync::Mutex<Option<Pin<Box<F>>>>);
    impl<F: Future + Send + 'static> Wake for Inline<F> {
        fn wake(self: Arc<Self>) {
            if let Some(mut task) = self.0.try_lock().ok().and_then(|mut task| task.take()) {
                // By another waker than before, which the task has to note.
                _ = task.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            }
        }
    }
    let (telemetry, metrics) = start();
    let (give, wait) = tokio::sync::oneshot::channel::<()>();
    let executor = Arc::new(Inline(std::sync::Mutex::new(None)));
    let mut task = Box::pin(metrics.tasks("uploads").instrument(wait));
    let waker = Waker::from(Arc::clone(&executor));
    assert!(task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    *executor.0.lock().unwrap() = Some(task);
    give.send(()).unwrap();
    assert_eq!(ended(&telemetry), [1, 0, 0]);
}

#[test]
fn kinds_are_told_apart() {
    let (telemetry, metrics) = start();
    assert!(poll_once(metrics.tasks("uploads").instrument(ready(()))).is_ready());
    assert!(poll_once(metrics.tasks(String::from("mails")).instrument(ready(()))).is_ready());
    assert!(poll_once(metrics.tasks("uploads").instrument(ready(()))).is_ready());
    for (kind, ended) in [("uploads", 2), ("mails", 1)] {
        let kind = ("tokio.task.kind", kind);
        telemetry.metric("tokio.task.ended").with(kind).with(TaskOutcome::Completed).value(ended);
    }
}

const KIND: (&str, &str) = ("tokio.task.kind", "uploads");

fn start() -> (TestTelemetry, TokioMetrics) {
    let telemetry = TestTelemetry::new();
    let metrics = TokioMetrics::new(telemetry.provider());
    (telemetry, metrics)
}

fn workers(count: usize) -> Runtime {
    Builder::new_multi_thread().worker_threads(count).build().unwrap()
}

fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Tasks that completed, panicked and were cancelled.
fn ended(telemetry: &TestTelemetry) -> [u64; 3] {
    [TaskOutcome::Completed, TaskOutcome::Panicked, TaskOutcome::Cancelled]
        .map(|outcome| telemetry.metric("tokio.task.ended").with(KIND).with(outcome).try_value().unwrap() as u64)
}
