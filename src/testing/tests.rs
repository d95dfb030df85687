//! What the kit finds, and what it says when it does not.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use opentelemetry::KeyValue;

use super::TestTelemetry;
use crate::attribute;
use crate::instrument::MeterExt;
use crate::spec::{CounterSpec, HistogramSpec};

attribute! { enum Status: "status" { Success = "success", Error = "error" } }
attribute! { enum Api: "api" { One = "one", Two = "two" } }

const CALLS: CounterSpec<(Api, Status)> = CounterSpec::new("api.calls", "{call}", "Calls.");
const DURATION: HistogramSpec<Status> =
    HistogramSpec::new("api.request_duration", "s", "Time of a request.").buckets(&[0.1, 0.5, 1.0]);

/// One metric of every kind.
fn recorded() -> TestTelemetry {
    let telemetry = TestTelemetry::new();
    let meter = telemetry.meter("api");
    let calls = meter.counter(&CALLS);
    calls.add(3, (Api::One, Status::Success));
    calls.add(1, (Api::Two, Status::Error));
    let duration = meter.histogram(&DURATION);
    [0.05, 0.1, 0.2].into_iter().for_each(|seconds| duration.record(seconds, Status::Success));
    meter.i64_up_down_counter("api.queue").build().add(-2, &[]);
    meter.f64_gauge("api.load").with_unit("1").build().record(0.5, &[KeyValue::new("http.route", "/a/{b}")]);
    telemetry
}

/// What an assertion says when it fails.
fn failure<R>(assertion: impl FnOnce() -> R) -> String {
    let panic = catch_unwind(AssertUnwindSafe(assertion)).map(drop).unwrap_err();
    *panic.downcast::<String>().unwrap()
}

#[test]
fn a_series_is_found_in_the_terms_of_opentelemetry_and_of_a_scrape() {
    let telemetry = recorded();
    telemetry.metric("api.calls").with((Api::One, Status::Success)).value(3);
    telemetry.metric("api.calls").with(Api::One).with(Status::Success).value(3_u64);
    telemetry.metric("api_calls_total").with([("api", "one"), ("status", "success")]).value(3.0);
    telemetry.metric("api.queue").value(-2);
    telemetry.metric("api.load").with(("http.route", "/a/{b}")).value(0.5);
    telemetry.metric("api_load_ratio").with(("http_route", "/a/{b}")).value(0.5);
    telemetry.metric("api.load").with(KeyValue::new("http.route", "/a/{b}")).value(0.5_f32);
}

#[test]
fn a_histogram_has_a_count_a_sum_and_buckets_and_its_parts_have_values() {
    let telemetry = recorded();
    for name in ["api.request_duration", "api_request_duration_seconds"] {
        let duration = telemetry.metric(name).with(Status::Success);
        duration.count(3).sum(0.35).bucket(0.1, 2).bucket(0.5, 3).bucket(f64::INFINITY, 3);
        assert_eq!((duration.try_count(), duration.try_sum()), (Some(3), Some(0.05 + 0.1 + 0.2)));
        telemetry.metric(name).with(Status::Error).count(0);
    }
    telemetry.metric("api_request_duration_seconds_count").with(Status::Success).value(3);
    telemetry.metric("api_request_duration_seconds_bucket").with(Status::Success).with(("le", 0.1)).value(2);
    telemetry.metric("api_request_duration_seconds_sum").with(Status::Success).value(0.35);
}

#[test]
fn the_only_series_needs_no_attributes_and_one_without_any_comes_first() {
    let telemetry = TestTelemetry::new();
    let jobs = telemetry.meter("worker").u64_counter("worker.jobs").build();
    let done = KeyValue::new("status", "done");
    jobs.add(1, std::slice::from_ref(&done));
    telemetry.metric("worker.jobs").value(1);
    jobs.add(5, &[]);
    telemetry.metric("worker.jobs").value(5).series(2);
    telemetry.metric("worker.jobs").with(done).value(1).series(1);
}

#[test]
fn metrics_of_one_name_are_told_apart_by_their_meters() {
    let telemetry = TestTelemetry::new();
    telemetry.meter("a").u64_counter("jobs").build().add(1, &[]);
    telemetry.meter("b").u64_counter("jobs").build().add(2, &[]);
    for name in ["jobs", "jobs_total"] {
        telemetry.metric(name).in_scope("a").value(1);
        telemetry.metric(name).in_scope("b").value(2);
        telemetry.metric(name).in_scope("c").absent();
    }
    telemetry.metric("jobs_total").with(("otel_scope_name", "b")).value(2);
    assert_eq!(
        failure(|| telemetry.metric("jobs").value(1)),
        "jobs: a value of 1 was asked for of one series and there are 2; say with which attributes, or in which scope\n\
         the counter has\n  {} of the meter a 1\n  {} of the meter b 2"
    );
}

#[test]
fn a_change_is_one_since_the_last_time_that_it_was_asked_for() {
    let telemetry = TestTelemetry::new();
    telemetry.metric("worker.jobs").delta(0);
    let jobs = telemetry.meter("worker").u64_counter("worker.jobs").build();
    let idle = telemetry.meter("worker").i64_gauge("worker.idle").build();
    let (done, failed) = (KeyValue::new("status", "done"), KeyValue::new("status", "failed"));
    jobs.add(2, std::slice::from_ref(&done));
    jobs.add(1, std::slice::from_ref(&failed));
    idle.record(7, &[]);
    telemetry.metric("worker.jobs").with(done.clone()).delta(2);
    telemetry.metric("worker.idle").delta(7);
    jobs.add(5, std::slice::from_ref(&done));
    idle.record(3, &[]);
    assert_eq!(
        failure(|| telemetry.metric("worker.jobs").with(done.clone()).delta(2)),
        "worker.jobs{status=done}: change is 5, not 2\nthe counter has\n  {status=done} 7\n  {status=failed} 1"
    );
    // One that was not right is asked for again.
    telemetry.metric("worker.jobs").with(done).delta(5);
    telemetry.metric("worker.jobs").with(failed).delta(1);
    telemetry.metric("worker.idle").delta(-4);

    let duration = telemetry.meter("worker").f64_histogram("worker.duration").build();
    duration.record(1.5, &[]);
    telemetry.metric("worker.duration").delta(1);
}

#[test]
fn what_is_not_there_is_absent_and_has_no_value() {
    let telemetry = recorded();
    telemetry.metric("api.calls").with((Api::One, Status::Success)).present();
    telemetry.metric("api.calls").with(("status", "unheard of")).absent();
    telemetry.metric("unheard.of").absent().delta(0);
    assert_eq!(telemetry.metric("unheard.of").try_value(), None);
    assert_eq!(telemetry.metric("api.request_duration").with(("status", "x")).try_count(), None);
    assert_eq!(telemetry.metric("api.request_duration").with(("status", "x")).try_sum(), None);
    assert_eq!(telemetry.metric("api.queue").try_value(), Some(-2.0));
}

#[test]
fn attributes_are_shown_so_that_they_can_be_told_apart() {
    let telemetry = TestTelemetry::new();
    telemetry
        .meter("worker")
        .u64_counter("jobs")
        .build()
        .add(1, &[KeyValue::new("a", "x, b=y"), KeyValue::new("c", "")]);
    let message = failure(|| telemetry.metric("jobs").with(("http.route", "/a/{b}")).value(1));
    assert!(message.starts_with("jobs{http.route=\"/a/{b}\"}: there is no such series"), "{message}");
    assert!(message.ends_with("\n  {a=\"x, b=y\", c=\"\"} 1"), "{message}");
}

#[test]
fn what_was_counted_is_compared_as_a_whole() {
    let telemetry = recorded();
    let counted = ["api.calls{api=one, status=success} 3", "api.calls{api=two, status=error} 1", "api.queue -2"];
    let duration = "api.request_duration{status=success} 3";
    telemetry.assert_counted(&[counted[0], counted[1], counted[2], duration]);
    assert_eq!(
        failure(|| telemetry.assert_counted(&[counted[0], "api.calls{api=two, status=error} 2", counted[2], duration])),
        "what was counted is not what it should be (- should be, + is)\n@ line 1\n api.calls{api=one, status=success} 3\n\
         -api.calls{api=two, status=error} 2\n+api.calls{api=two, status=error} 1\n api.queue -2\n \
         api.request_duration{status=success} 3\n"
    );
    TestTelemetry::new().assert_counted(&[]);
}

#[test]
fn a_component_records_what_its_specs_say_and_nothing_else() {
    const OTHER: CounterSpec = CounterSpec::new("api.other", "{other}", "Others.");
    let telemetry = TestTelemetry::new();
    let meter = telemetry.meter("api");
    let (_calls, duration) = (meter.counter(&CALLS), meter.histogram(&DURATION));
    duration.record(0.1, Status::Success);
    telemetry.assert_specs("api", &[CALLS.descriptor(), DURATION.descriptor()]);
    telemetry.meter("elsewhere").u64_counter("not.ours").build().add(1, &[]);
    meter.i64_gauge("api.stray").build().record(1, &[]);
    let other = meter.f64_histogram("api.other").build();
    other.record(1.0, &[]);
    assert_eq!(
        failure(|| telemetry.assert_specs("api", &[CALLS.descriptor(), OTHER.descriptor(), DURATION.descriptor()])),
        "what the meter api records is not what its specs say\n  api.other: it is a histogram, not a counter\n  \
         api.other: its unit is \"\", not \"{other}\"\n  api.other: its description is \"\", not \"Others.\"\n  \
         api.other: it is not on the page as api_other_total\n  api.stray: no spec has it"
    );
    assert_eq!(
        failure(|| TestTelemetry::new().assert_specs("api", &[CALLS.descriptor()])),
        "what the meter api records is not what its specs say\n  api.calls: it has recorded nothing"
    );
}

#[test]
fn a_wrong_value_is_shown_with_the_series_that_there_are() {
    let telemetry = recorded();
    let calls = "\nthe counter has\n  {api=one, status=error} 0\n  {api=one, status=success} 3\n  \
                 {api=two, status=error} 1\n  {api=two, status=success} 0";
    let asked = telemetry.metric("api.calls").with((Api::One, Status::Success));
    assert_eq!(failure(|| asked.value(4)), format!("api.calls{{api=one, status=success}}: value is 3, not 4{calls}"));
    assert_eq!(
        failure(|| telemetry.metric("api.calls").with(("status", "sucess")).value(3)),
        format!("api.calls{{status=sucess}}: there is no such series, and a value of 3 was asked for{calls}")
    );
    assert_eq!(
        failure(|| telemetry.metric("api.calls").with(("status", "sucess")).present()),
        format!("api.calls{{status=sucess}}: there is no such series, and any was asked for{calls}")
    );
    assert_eq!(
        failure(|| asked.absent()),
        format!("api.calls{{api=one, status=success}}: there is a series that should not be{calls}")
    );
    assert_eq!(
        failure(|| telemetry.metric("api.calls").series(3)),
        format!("api.calls: there are 4 series, not 3{calls}")
    );
    assert_eq!(
        failure(|| telemetry.metric("api.calls").with(Api::One).try_value()),
        format!(
            "api.calls{{api=one}}: a value was asked for of one series and there are 2; say with which attributes, \
             or in which scope{calls}"
        )
    );
}

#[test]
fn what_a_histogram_has_is_shown_and_so_is_what_it_has_not() {
    let telemetry = recorded();
    let duration = telemetry.metric("api.request_duration").with(Status::Success);
    let has = "\nthe histogram has\n  {status=error} count 0, sum 0\n  \
               {status=success} count 3, sum 0.35000000000000003, ≤0.1: 2, ≤0.5: 3";
    let name = "api.request_duration{status=success}";
    assert_eq!(failure(|| duration.count(4)), format!("{name}: count is 3, not 4{has}"));
    assert_eq!(failure(|| duration.sum(0.3)), format!("{name}: sum is 0.35000000000000003, not 0.3{has}"));
    assert_eq!(failure(|| duration.bucket(0.5, 2)), format!("{name}: values up to 0.5 is 3, not 2{has}"));
    assert_eq!(
        failure(|| duration.bucket(0.25, 2)),
        format!("{name}: there is no boundary at 0.25; it has 0.1, 0.5, 1, inf")
    );
    assert_eq!(
        failure(|| duration.value(3)),
        format!(
            "{name}: it is a histogram, which has no value, and a value of 3 was asked for; ask for count, sum or bucket"
        )
    );
    assert_eq!(
        failure(|| telemetry.metric("api.queue").count(1)),
        "api.queue: it is no histogram, and a count of 1 was asked for; ask for its value"
    );
}

#[test]
fn an_unknown_name_is_answered_with_the_nearest_and_with_all_that_there_are() {
    let telemetry = recorded();
    assert_eq!(
        failure(|| telemetry.metric("api.cals").value(3)),
        "there is no metric api.cals, and a value of 3 was asked for; the nearest: api.calls\n  \
         recorded: api.calls, api.load, api.queue, api.request_duration\n  \
         scraped: api_calls_total, api_load_ratio, api_queue, api_request_duration_seconds"
    );
    assert_eq!(
        failure(|| _ = TestTelemetry::new().metric("x").present()),
        "there is no metric x, and any was asked for\n  recorded: nothing\n  scraped: nothing"
    );
}

#[test]
fn a_failure_names_the_line_of_the_test() {
    let telemetry = TestTelemetry::new();
    let at = std::sync::Arc::new(std::sync::Mutex::new(None));
    let seen = std::sync::Arc::clone(&at);
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload_as_str().is_some_and(|text| text.contains("no metric line.of")) {
            *seen.lock().unwrap() = panic.location().map(|location| (location.file().to_owned(), location.line()));
        }
        hook(panic);
    }));
    let line = line!() + 1;
    failure(|| telemetry.metric("line.of").value(1));
    assert_eq!(*at.lock().unwrap(), Some((file!().to_owned(), line)));
}

#[test]
fn whole_numbers_are_equal_or_not_and_sums_may_round() {
    use super::attributes::is_same;
    assert!(is_same(0.1 + 0.2, 0.3));
    assert!(!is_same(0.3, 0.300_001));
    assert!(!is_same(1e15, 1e15 + 1.0));
    assert!(!is_same(0.0, 1e-300));
    assert!(is_same(f64::NAN, f64::NAN));
    assert!(is_same(f64::INFINITY, f64::INFINITY));
    assert!(!is_same(f64::INFINITY, f64::NEG_INFINITY));
    assert!(!is_same(f64::INFINITY, 0.5));
    assert!(!is_same(0.5, f64::INFINITY));
}

#[test]
fn what_comes_later_is_waited_for() {
    let telemetry = TestTelemetry::new();
    let jobs = telemetry.meter("worker").u64_counter("worker.jobs").build();
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..5 {
                thread::sleep(Duration::from_millis(2));
                jobs.add(1, &[]);
            }
        });
        telemetry.metric("worker.jobs").eventually(|jobs| jobs.value(5));
    });
    telemetry.eventually(|telemetry| telemetry.metric("worker.jobs").present());
    assert_eq!(telemetry.eventually(|telemetry| telemetry.metric("worker.jobs").try_value()), Some(5.0));
}

#[test]
fn what_never_comes_fails_at_the_deadline_with_what_failed_last() {
    let telemetry = TestTelemetry::new().with_deadline(Duration::from_millis(20));
    let jobs = telemetry.meter("worker").u64_counter("worker.jobs").build();
    let attempts = AtomicU64::new(0);
    let message = failure(|| {
        telemetry.eventually(|telemetry| {
            jobs.add(1, &[]);
            attempts.fetch_add(1, Ordering::Relaxed);
            telemetry.metric("worker.jobs").value(0)
        })
    });
    let last = attempts.load(Ordering::Relaxed);
    assert!(last > 1, "{last}");
    assert_eq!(
        message,
        format!("not within 20ms: worker.jobs: value is {last}, not 0\nthe counter has\n  {{}} {last}")
    );
    // A test's own assertion is tried again too.
    let message = failure(|| telemetry.eventually(|_| assert_eq!(1, 2, "never")));
    assert!(message.contains("never") && message.starts_with("not within 20ms"), "{message}");
}

#[test]
fn an_eventually_inside_another_one_is_tried_again_as_a_whole() {
    let telemetry = TestTelemetry::new().with_deadline(Duration::from_millis(20));
    let mut outer = 0;
    telemetry.with_deadline(Duration::from_secs(10)).eventually(|telemetry| {
        outer += 1;
        let short = telemetry.metric("worker.jobs");
        if outer < 3 {
            short.present();
        }
    });
    assert_eq!(outer, 3);
    // Outside an assertion fails as ever.
    failure(|| _ = TestTelemetry::new().metric("worker.jobs").present());
}

#[test]
fn a_panic_that_is_no_assertion_is_not_swallowed() {
    let attempt = || TestTelemetry::new().eventually(|_| -> () { resume_unwind(Box::new(7_u8)) });
    let panic = catch_unwind(AssertUnwindSafe(attempt)).unwrap_err();
    assert_eq!(panic.downcast_ref::<u8>(), Some(&7));
}

#[test]
fn other_tasks_of_the_thread_run_while_a_test_waits() {
    // Without a timer: the pauses are the kit's own.
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let telemetry = TestTelemetry::new();
    let jobs = telemetry.meter("worker").u64_counter("worker.jobs").build();
    runtime.block_on(async {
        let work = tokio::spawn(async move {
            for _ in 0..3 {
                tokio::task::yield_now().await;
                jobs.add(1, &[]);
            }
        });
        telemetry.metric("worker.jobs").eventually_async(|jobs| jobs.value(3)).await;
        telemetry.eventually_async(|telemetry| telemetry.metric("worker.jobs").value(3)).await;
        work.await.unwrap();
    });
    let telemetry = telemetry.with_deadline(Duration::from_millis(10));
    let message = failure(|| runtime.block_on(telemetry.eventually_async(|all| all.metric("worker.jobs").value(2))));
    assert!(message.contains(file!()) && message.contains("value is 3, not 2"), "{message}");
}

#[test]
fn pipelines_do_not_see_each_other_nor_the_environment() {
    let (one, other) = (TestTelemetry::new(), TestTelemetry::new());
    one.meter("worker").u64_counter("worker.jobs").build().add(1, &[]);
    one.metric("worker.jobs").value(1);
    other.metric("worker.jobs").absent();
    assert_eq!(other.page(), "");
    assert_eq!(one.telemetry().local_addr(), None);
    assert_eq!(one.page(), "# TYPE worker_jobs_total counter\nworker_jobs_total{otel_scope_name=\"worker\"} 1\n");
}

#[test]
fn a_pipeline_that_cannot_start_or_collect_fails_the_test() {
    let message = failure(|| TestTelemetry::with(|builder| builder.with_path("no path")));
    assert!(message.starts_with("the pipeline does not start: "), "{message}");
    let without_scrape = TestTelemetry::with(|_| crate::Telemetry::from_config(crate::Config::default()));
    let message = failure(|| without_scrape.page());
    assert!(message.starts_with("nothing could be collected: these metrics are not scraped"), "{message}");
}

/// Started by the test below, alone in a process: threads are the process's, and the tests beside this one have some too.
#[cfg(target_os = "linux")]
#[test]
#[ignore = "a part of another test"]
fn threads_that_are_left_behind() {
    let names = || -> Vec<String> {
        // The first thread is called after the program.
        let is_first = |task: &std::fs::DirEntry| task.file_name() == std::process::id().to_string().as_str();
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten().filter(|task| !is_first(task));
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
        names.map(|name| name.trim().to_owned()).filter(|name| name.starts_with("barograph")).collect()
    };
    let telemetry = recorded();
    telemetry.metric("api.queue").value(-2);
    assert!(!names().is_empty());
    drop(telemetry);
    let none = TestTelemetry::from(crate::Telemetry::from_config(crate::Config::default()).start().unwrap());
    none.eventually(|_| assert_eq!(names(), [""; 0]));
}

#[cfg(target_os = "linux")]
#[test]
fn a_pipeline_leaves_no_thread_behind() {
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    let child = child.args(["--ignored", "--exact", "testing::tests::threads_that_are_left_behind"]);
    let output = String::from_utf8(child.output().unwrap().stdout).unwrap();
    assert!(output.contains("1 passed"), "{output}");
}

#[test]
fn an_attempt_that_fails_does_not_use_up_a_change() {
    let telemetry = TestTelemetry::new();
    let meter = telemetry.meter("worker");
    let (jobs, done) = (meter.u64_counter("worker.jobs").build(), meter.u64_counter("worker.done").build());
    jobs.add(1, &[]);
    let mut attempts = 0;
    telemetry.eventually(|telemetry| {
        attempts += 1;
        telemetry.metric("worker.jobs").delta(1);
        if attempts == 2 {
            done.add(1, &[]);
        }
        telemetry.metric("worker.done").value(1);
    });
    assert_eq!(attempts, 2);
    telemetry.metric("worker.jobs").delta(0);
}
