//! What a scrape shows of the test watcher.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use barograph::testing::TestTelemetry;
use barograph_instrumentation_test_watcher::TestWatcherMetrics;
use barograph_instrumentation_test_watcher::semconv::{
    Api, ApiStatus, ErrorType, METRICS, SCOPE, TestExecutionStatus, TestStatus,
};

#[test]
fn every_metric_is_on_the_page_with_its_name_kind_and_description() {
    let (telemetry, metrics) = start();
    record_everything(&metrics);
    telemetry.assert_specs(SCOPE, METRICS);
    let scope = [("otel_scope_name", SCOPE), ("otel_scope_version", env!("CARGO_PKG_VERSION"))];
    telemetry.metric("test_watcher_files_processed_total").with(scope).present();
}

#[test]
fn counters_begin_at_zero_and_gauges_with_their_first_value() {
    let (telemetry, _metrics) = start();
    telemetry.metric("test_watcher.files_processed").value(0);
    telemetry.metric("test_watcher.changed_files_current").value(0);
    for status in TestStatus::ALL {
        telemetry.metric("test_watcher.tests_run").with(*status).value(0);
    }
    for status in TestExecutionStatus::ALL {
        telemetry.metric("test_watcher.test_execution_duration").with(*status).count(0);
    }
    telemetry.metric("test_watcher.api_calls").series(Api::ALL.len() * ApiStatus::ALL.len());
    telemetry.metric("test_watcher.errors").series(ErrorType::ALL.len());
    telemetry.metric("test_watcher.is_running").absent();
    telemetry.metric("test_watcher.memory_usage").absent();
}

#[test]
fn what_happens_is_counted_by_its_attributes() {
    let (telemetry, metrics) = start();
    for _ in 0..3 {
        metrics.record_file_processed();
    }
    metrics.record_test_run(TestStatus::Fail);
    metrics.record_api_call(Api::Perplexity, ApiStatus::RateLimited);
    metrics.record_api_call(Api::from("an API nobody listed"), ApiStatus::Success);
    metrics.record_error(ErrorType::from("io"));
    metrics.record_error(ErrorType::from("an error nobody listed"));

    telemetry.assert_counted(&[
        "test_watcher.api_calls{api=other, status=success} 1",
        "test_watcher.api_calls{api=perplexity, status=rate_limited} 1",
        "test_watcher.errors{error_type=io} 1",
        "test_watcher.errors{error_type=other} 1",
        "test_watcher.files_processed 3",
        "test_watcher.tests_run{status=fail} 1",
    ]);
}

#[test]
fn the_count_of_changed_files_is_the_last_one_set() {
    let (telemetry, metrics) = start();
    for count in [5, 2, i64::MAX, 8] {
        metrics.update_changed_files_count(count);
        telemetry.metric("test_watcher.changed_files_current").value(count);
    }
    thread::scope(|scope| {
        for thread in 0..4 {
            let metrics = metrics.clone();
            scope.spawn(move || (0..10_000).for_each(|count| metrics.update_changed_files_count(count * thread)));
        }
    });
    metrics.update_changed_files_count(3);
    telemetry.metric("test_watcher.changed_files_current").value(3);
}

#[test]
fn the_watcher_is_running_until_it_says_that_it_is_not() {
    let (telemetry, metrics) = start();
    for (running, shown) in [(true, 1), (false, 0), (true, 1)] {
        metrics.set_running(running);
        telemetry.metric("test_watcher.is_running").value(shown);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn memory_usage_is_that_of_this_process() {
    let (telemetry, metrics) = start();
    metrics.update_memory_usage();
    let bytes = telemetry.metric("test_watcher.memory_usage").try_value();
    assert!(bytes > Some(1e6) && bytes < Some(1e10), "{bytes:?}");
}

#[test]
fn a_timer_records_once_in_seconds() {
    let (telemetry, metrics) = start();
    let processing = metrics.time_processing().stop();
    drop(metrics.time_debounce());
    metrics.time_debounce().discard();

    telemetry.metric("test_watcher.processing_duration").count(1).sum(processing.as_secs_f64());
    telemetry.metric("test_watcher.debounce_duration").count(1);
}

#[test]
fn the_buckets_of_the_processing_time_are_those_of_the_dashboards() {
    let (telemetry, metrics) = start();
    metrics.time_processing().stop();
    let buckets = telemetry.metric("test_watcher_processing_duration_seconds_bucket").series(9);
    for bound in ["0.1", "0.5", "1", "2", "5", "10", "30", "60", "+Inf"] {
        buckets.with(("le", bound)).present();
    }
}

#[test]
fn a_test_execution_that_is_not_finished_is_cancelled() {
    let (telemetry, metrics) = start();
    metrics.time_test_execution().finish(TestStatus::Fail.into());
    drop(metrics.time_test_execution());
    telemetry.assert_counted(&[
        "test_watcher.test_execution_duration{status=cancelled} 1",
        "test_watcher.test_execution_duration{status=fail} 1",
    ]);
}

#[test]
fn a_run_is_counted_and_timed_as_what_it_was() {
    let (telemetry, metrics) = start();
    metrics.start_run().pass();
    metrics.start_run().pass();
    metrics.start_run().fail();
    metrics.start_run().error();
    metrics.start_run().finish(TestStatus::Error);
    telemetry.assert_counted(&[
        "test_watcher.test_execution_duration{status=error} 2",
        "test_watcher.test_execution_duration{status=fail} 1",
        "test_watcher.test_execution_duration{status=pass} 2",
        "test_watcher.tests_run{status=error} 2",
        "test_watcher.tests_run{status=fail} 1",
        "test_watcher.tests_run{status=pass} 2",
    ]);
}

#[test]
fn a_run_that_is_abandoned_is_an_error() {
    let (telemetry, metrics) = start();
    drop(metrics.start_run());
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _run = metrics.start_run();
        panic!("the tests panic, as this test wants");
    }));
    assert!(panicked.is_err());
    telemetry.assert_counted(&[
        "test_watcher.test_execution_duration{status=cancelled} 2",
        "test_watcher.tests_run{status=error} 2",
    ]);
}

fn start() -> (TestTelemetry, TestWatcherMetrics) {
    let telemetry = TestTelemetry::new();
    let metrics = TestWatcherMetrics::new(telemetry.provider());
    (telemetry, metrics)
}

fn record_everything(metrics: &TestWatcherMetrics) {
    metrics.update_memory_usage();
    metrics.set_running(true);
    metrics.time_processing().stop();
    metrics.time_debounce().stop();
}
