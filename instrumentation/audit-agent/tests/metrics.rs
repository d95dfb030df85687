//! What a scrape shows of the audit agent.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::SystemTime;

use barograph::Telemetry;
use barograph_instrumentation_audit_agent::AuditAgentMetrics;
use barograph_instrumentation_audit_agent::semconv::{ErrorType, METRICS, SCOPE, Trigger};

#[test]
fn every_metric_is_on_the_page_with_its_name_kind_and_description() {
    let (telemetry, metrics) = start();
    metrics.update_coverage(50.0);
    metrics.time_analysis().stop();
    drop(metrics.start_audit(Trigger::Manual));

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
    assert_eq!(page.matches("# TYPE audit_agent_").count(), METRICS.len(), "{page}");
    let scope = [("otel_scope_name", SCOPE), ("otel_scope_version", env!("CARGO_PKG_VERSION"))];
    assert!(value(&page, "audit_agent_git_commits_detected_total", &scope).is_some(), "{page}");
}

#[test]
fn counters_begin_at_zero_and_gauges_with_their_first_value() {
    let (telemetry, _metrics) = start();
    let page = telemetry.scrape().unwrap();
    for name in [
        "audit_agent_completion_markers_found_total",
        "audit_agent_git_commits_detected_total",
        "audit_agent_active_tasks",
    ] {
        assert_eq!(value(&page, name, &[]), Some(0.0), "{name}");
    }
    for trigger in Trigger::ALL {
        let labels = [("trigger", trigger.as_str())];
        assert_eq!(value(&page, "audit_agent_runs_total", &labels), Some(0.0));
        assert_eq!(value(&page, "audit_agent_run_duration_seconds_count", &labels), Some(0.0));
    }
    assert_eq!(page.matches("audit_agent_errors_total{").count(), ErrorType::ALL.len());
    assert_eq!(value(&page, "audit_agent_coverage_percent", &[]), None);
    assert_eq!(value(&page, "audit_agent_last_run_timestamp_seconds", &[]), None);
}

#[test]
fn what_happens_is_counted_by_its_attributes() {
    let (telemetry, metrics) = start();
    metrics.record_run(Trigger::Commit);
    metrics.record_run(Trigger::from("commit"));
    metrics.record_run(Trigger::from("a trigger nobody listed"));
    metrics.record_completion_marker_found();
    metrics.record_git_commits(4);
    metrics.record_git_commits(0);
    metrics.record_error(ErrorType::Parse);
    metrics.record_error(ErrorType::from("an error nobody listed"));

    let page = telemetry.scrape().unwrap();
    assert_eq!(value(&page, "audit_agent_runs_total", &[("trigger", "commit")]), Some(2.0));
    assert_eq!(value(&page, "audit_agent_runs_total", &[("trigger", "other")]), Some(1.0));
    assert_eq!(value(&page, "audit_agent_runs_total", &[("trigger", "manual")]), Some(0.0));
    assert_eq!(value(&page, "audit_agent_completion_markers_found_total", &[]), Some(1.0));
    assert_eq!(value(&page, "audit_agent_git_commits_detected_total", &[]), Some(4.0));
    assert_eq!(value(&page, "audit_agent_errors_total", &[("error_type", "parse")]), Some(1.0));
    assert_eq!(value(&page, "audit_agent_errors_total", &[("error_type", "other")]), Some(1.0));
}

#[test]
fn coverage_is_the_latest_percentage() {
    let (telemetry, metrics) = start();
    for (percent, shown) in [(87.5, 87.5), (12.0, 12.0), (f64::NAN, 12.0), (130.0, 100.0), (-1.0, 0.0)] {
        metrics.update_coverage(percent);
        assert_eq!(value(&telemetry.scrape().unwrap(), "audit_agent_coverage_percent", &[]), Some(shown), "{percent}");
    }
}

#[test]
fn the_time_of_the_latest_run_is_now_in_unix_seconds() {
    let (telemetry, metrics) = start();
    let before = unix_seconds();
    metrics.update_last_run_timestamp();
    let shown = value(&telemetry.scrape().unwrap(), "audit_agent_last_run_timestamp_seconds", &[]).unwrap();
    assert!((before..=unix_seconds()).contains(&shown), "{shown}");
}

#[test]
fn a_timer_records_once_in_seconds() {
    let (telemetry, metrics) = start();
    let run = metrics.time_run(Trigger::Scheduled).stop();
    drop(metrics.time_analysis());
    metrics.time_analysis().discard();

    let page = telemetry.scrape().unwrap();
    let labels = [("trigger", "scheduled")];
    assert_eq!(value(&page, "audit_agent_run_duration_seconds_count", &labels), Some(1.0));
    assert_eq!(value(&page, "audit_agent_run_duration_seconds_sum", &labels), Some(run.as_secs_f64()));
    assert_eq!(value(&page, "audit_agent_run_duration_seconds_count", &[("trigger", "manual")]), Some(0.0));
    assert_eq!(value(&page, "audit_agent_analysis_duration_seconds_count", &[]), Some(1.0));
    assert_eq!(value(&page, "audit_agent_runs_total", &labels), Some(0.0), "timing alone counts nothing");
}

#[test]
fn an_audit_is_counted_at_its_start_active_while_it_lives_and_timed_at_its_end() {
    let (telemetry, metrics) = start();
    let labels = [("trigger", "marker")];
    let started = unix_seconds();
    let first = metrics.start_audit(Trigger::Marker);
    let second = metrics.start_audit(Trigger::Marker);

    let page = telemetry.scrape().unwrap();
    assert_eq!(value(&page, "audit_agent_runs_total", &labels), Some(2.0));
    assert_eq!(value(&page, "audit_agent_active_tasks", &[]), Some(2.0));
    assert_eq!(value(&page, "audit_agent_run_duration_seconds_count", &labels), Some(0.0));
    assert_eq!(value(&page, "audit_agent_last_run_timestamp_seconds", &[]), None);

    drop((first, second));
    let page = telemetry.scrape().unwrap();
    assert_eq!(value(&page, "audit_agent_runs_total", &labels), Some(2.0));
    assert_eq!(value(&page, "audit_agent_active_tasks", &[]), Some(0.0));
    assert_eq!(value(&page, "audit_agent_run_duration_seconds_count", &labels), Some(2.0));
    assert!(value(&page, "audit_agent_last_run_timestamp_seconds", &[]) >= Some(started), "{page}");
}

#[test]
fn an_audit_that_panics_is_no_longer_active() {
    let (telemetry, metrics) = start();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _audit = metrics.start_audit(Trigger::Manual);
        panic!("the audit panics, as this test wants");
    }));
    assert!(panicked.is_err());

    let page = telemetry.scrape().unwrap();
    assert_eq!(value(&page, "audit_agent_active_tasks", &[]), Some(0.0));
    assert_eq!(value(&page, "audit_agent_run_duration_seconds_count", &[("trigger", "manual")]), Some(1.0));
    assert!(value(&page, "audit_agent_last_run_timestamp_seconds", &[]).is_some());
}

fn start() -> (Telemetry, AuditAgentMetrics) {
    let telemetry = Telemetry::builder("test").without_endpoint().start().unwrap();
    let metrics = AuditAgentMetrics::new(telemetry.meter_provider());
    (telemetry, metrics)
}

fn unix_seconds() -> f64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64()
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
