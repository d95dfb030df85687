//! What a scrape shows of the test watcher.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use barograph::Telemetry;
use barograph_instrumentation_test_watcher::TestWatcherMetrics;
use barograph_instrumentation_test_watcher::semconv::{
    Api, ApiStatus, ErrorType, METRICS, SCOPE, TestExecutionStatus, TestStatus,
};

#[test]
fn every_metric_is_on_the_page_with_its_name_kind_and_description() {
    let (telemetry, metrics) = start();
    record_everything(&metrics);
    let page = telemetry.scrape().unwrap();
    for metric in METRICS {
        let name = metric.scraped_name().unwrap();
        assert!(page.contains(&format!("# HELP {name} {}\n", metric.description)), "{name} is not in\n{page}");
        let kind = match metric.kind.as_str() {
            "up-down counter" => "gauge",
            kind => kind,
        };
        assert!(page.contains(&format!("# TYPE {name} {kind}\n")), "{name} is no {kind} in\n{page}");
    }
    assert_eq!(page.matches("# TYPE test_watcher_").count(), METRICS.len(), "{page}");
    let scope = [("otel_scope_name", SCOPE), ("otel_scope_version", env!("CARGO_PKG_VERSION"))];
    assert!(value(&page, "test_watcher_files_processed_total", &scope).is_some(), "{page}");
}

#[test]
fn counters_begin_at_zero_and_gauges_with_their_first_value() {
    let (telemetry, _metrics) = start();
    let page = telemetry.scrape().unwrap();
    assert_eq!(value(&page, "test_watcher_files_processed_total", &[]), Some(0.0));
    assert_eq!(value(&page, "test_watcher_changed_files_current", &[]), Some(0.0));
    for status in TestStatus::ALL {
        assert_eq!(value(&page, "test_watcher_tests_run_total", &[("status", status.as_str())]), Some(0.0));
    }
    for status in TestExecutionStatus::ALL {
        let count = value(&page, "test_watcher_test_execution_duration_seconds_count", &[("status", status.as_str())]);
        assert_eq!(count, Some(0.0));
    }
    assert_eq!(page.matches("test_watcher_api_calls_total{").count(), Api::ALL.len() * ApiStatus::ALL.len());
    assert_eq!(page.matches("test_watcher_errors_total{").count(), ErrorType::ALL.len());
    assert_eq!(value(&page, "test_watcher_is_running", &[]), None);
    assert_eq!(value(&page, "test_watcher_memory_usage_bytes", &[]), None);
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

    let page = telemetry.scrape().unwrap();
    assert_eq!(value(&page, "test_watcher_files_processed_total", &[]), Some(3.0));
    assert_eq!(value(&page, "test_watcher_tests_run_total", &[("status", "fail")]), Some(1.0));
    assert_eq!(value(&page, "test_watcher_tests_run_total", &[("status", "pass")]), Some(0.0));
    assert_eq!(
        value(&page, "test_watcher_api_calls_total", &[("api", "perplexity"), ("status", "rate_limited")]),
        Some(1.0)
    );
    assert_eq!(value(&page, "test_watcher_api_calls_total", &[("api", "other"), ("status", "success")]), Some(1.0));
    assert_eq!(value(&page, "test_watcher_errors_total", &[("error_type", "io")]), Some(1.0));
    assert_eq!(value(&page, "test_watcher_errors_total", &[("error_type", "other")]), Some(1.0));
}

#[test]
fn the_count_of_changed_files_is_the_last_one_set() {
    let (telemetry, metrics) = start();
    for count in [5, 2, i64::MAX, 8] {
        metrics.update_changed_files_count(count);
        let page = telemetry.scrape().unwrap();
        assert_eq!(value(&page, "test_watcher_changed_files_current", &[]), Some(count as f64));
    }
    thread::scope(|scope| {
        for thread in 0..4 {
            let metrics = metrics.clone();
            scope.spawn(move || (0..10_000).for_each(|count| metrics.update_changed_files_count(count * thread)));
        }
    });
    metrics.update_changed_files_count(3);
    assert_eq!(value(&telemetry.scrape().unwrap(), "test_watcher_changed_files_current", &[]), Some(3.0));
}

#[test]
fn the_watcher_is_running_until_it_says_that_it_is_not() {
    let (telemetry, metrics) = start();
    for (running, shown) in [(true, 1.0), (false, 0.0), (true, 1.0)] {
        metrics.set_running(running);
        assert_eq!(value(&telemetry.scrape().unwrap(), "test_watcher_is_running", &[]), Some(shown));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn memory_usage_is_that_of_this_process() {
    let (telemetry, metrics) = start();
    metrics.update_memory_usage();
    let bytes = value(&telemetry.scrape().unwrap(), "test_watcher_memory_usage_bytes", &[]);
    assert!(bytes > Some(1e6) && bytes < Some(1e10), "{bytes:?}");
}

#[test]
fn a_timer_records_once_in_seconds() {
    let (telemetry, metrics) = start();
    let processing = metrics.time_processing().stop();
    drop(metrics.time_debounce());
    metrics.time_debounce().discard();

    let page = telemetry.scrape().unwrap();
    assert_eq!(value(&page, "test_watcher_processing_duration_seconds_count", &[]), Some(1.0));
    assert_eq!(value(&page, "test_watcher_processing_duration_seconds_sum", &[]), Some(processing.as_secs_f64()));
    assert_eq!(value(&page, "test_watcher_debounce_duration_seconds_count", &[]), Some(1.0));
}

#[test]
fn the_buckets_of_the_processing_time_are_those_of_the_dashboards() {
    let (telemetry, metrics) = start();
    metrics.time_processing().stop();
    let page = telemetry.scrape().unwrap();
    let bounds: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("test_watcher_processing_duration_seconds_bucket"))
        .filter_map(|line| line.split("le=\"").nth(1)?.split('"').next())
        .collect();
    assert_eq!(bounds, ["0.1", "0.5", "1", "2", "5", "10", "30", "60", "+Inf"]);
}

#[test]
fn a_test_execution_that_is_not_finished_is_cancelled() {
    let (telemetry, metrics) = start();
    metrics.time_test_execution().finish(TestStatus::Fail.into());
    drop(metrics.time_test_execution());

    let page = telemetry.scrape().unwrap();
    assert_eq!(ended(&page, "fail"), (Some(0.0), Some(1.0)));
    assert_eq!(ended(&page, "cancelled"), (None, Some(1.0)));
}

#[test]
fn a_run_is_counted_and_timed_as_what_it_was() {
    let (telemetry, metrics) = start();
    metrics.start_run().pass();
    metrics.start_run().pass();
    metrics.start_run().fail();
    metrics.start_run().error();
    metrics.start_run().finish(TestStatus::Error);

    let page = telemetry.scrape().unwrap();
    assert_eq!(ended(&page, "pass"), (Some(2.0), Some(2.0)));
    assert_eq!(ended(&page, "fail"), (Some(1.0), Some(1.0)));
    assert_eq!(ended(&page, "error"), (Some(2.0), Some(2.0)));
    assert_eq!(ended(&page, "cancelled"), (None, Some(0.0)));
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

    let page = telemetry.scrape().unwrap();
    assert_eq!(ended(&page, "error"), (Some(2.0), Some(0.0)));
    assert_eq!(ended(&page, "cancelled"), (None, Some(2.0)));
}

fn start() -> (Telemetry, TestWatcherMetrics) {
    let telemetry = Telemetry::builder("test").without_endpoint().start().unwrap();
    let metrics = TestWatcherMetrics::new(telemetry.meter_provider());
    (telemetry, metrics)
}

fn record_everything(metrics: &TestWatcherMetrics) {
    metrics.update_memory_usage();
    metrics.set_running(true);
    metrics.time_processing().stop();
    metrics.time_debounce().stop();
}

/// How many runs ended with this status: counted, and timed.
fn ended(page: &str, status: &str) -> (Option<f64>, Option<f64>) {
    let labels = [("status", status)];
    let counted = value(page, "test_watcher_tests_run_total", &labels);
    (counted, value(page, "test_watcher_test_execution_duration_seconds_count", &labels))
}

/// The value of the first series of that name that has these labels.
fn value(page: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    page.lines().find_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let found = series.strip_prefix(name)?.strip_prefix('{')?;
        let has = |&(key, value): &(&str, &str)| found.contains(&format!("{key}=\"{value}\""));
        labels.iter().all(has).then(|| value.parse().ok())?
    })
}
