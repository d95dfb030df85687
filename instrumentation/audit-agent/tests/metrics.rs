//! What a scrape shows of the audit agent.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::SystemTime;

use barograph::testing::TestTelemetry;
use barograph_instrumentation_audit_agent::AuditAgentMetrics;
use barograph_instrumentation_audit_agent::semconv::{ErrorType, METRICS, SCOPE, Trigger};

#[test]
fn every_metric_is_on_the_page_with_its_name_kind_and_description() {
    let (telemetry, metrics) = start();
    metrics.update_coverage(50.0);
    metrics.time_analysis().stop();
    drop(metrics.start_audit(Trigger::Manual));
    telemetry.assert_specs(SCOPE, METRICS);
    let scope = [("otel_scope_name", SCOPE), ("otel_scope_version", env!("CARGO_PKG_VERSION"))];
    telemetry.metric("audit_agent_git_commits_detected_total").with(scope).present();
}

#[test]
fn counters_begin_at_zero_and_gauges_with_their_first_value() {
    let (telemetry, _metrics) = start();
    telemetry.metric("audit_agent.completion_markers_found").value(0);
    telemetry.metric("audit_agent.git_commits_detected").value(0);
    telemetry.metric("audit_agent.active_tasks").value(0);
    for trigger in Trigger::ALL {
        telemetry.metric("audit_agent.runs").with(*trigger).value(0);
        telemetry.metric("audit_agent.run_duration").with(*trigger).count(0);
    }
    telemetry.metric("audit_agent.errors").series(ErrorType::ALL.len());
    telemetry.metric("audit_agent.coverage").absent();
    telemetry.metric("audit_agent.last_run_timestamp").absent();
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

    telemetry.assert_counted(&[
        "audit_agent.completion_markers_found 1",
        "audit_agent.errors{error_type=other} 1",
        "audit_agent.errors{error_type=parse} 1",
        "audit_agent.git_commits_detected 4",
        "audit_agent.runs{trigger=commit} 2",
        "audit_agent.runs{trigger=other} 1",
    ]);
}

#[test]
fn coverage_is_the_latest_percentage() {
    let (telemetry, metrics) = start();
    for (percent, shown) in [(87.5, 87.5), (12.0, 12.0), (f64::NAN, 12.0), (130.0, 100.0), (-1.0, 0.0)] {
        metrics.update_coverage(percent);
        telemetry.metric("audit_agent.coverage").value(shown);
    }
}

#[test]
fn the_time_of_the_latest_run_is_now_in_unix_seconds() {
    let (telemetry, metrics) = start();
    let before = unix_seconds();
    metrics.update_last_run_timestamp();
    let shown = telemetry.metric("audit_agent.last_run_timestamp").try_value().unwrap();
    assert!((before..=unix_seconds()).contains(&shown), "{shown}");
}

#[test]
fn a_timer_records_once_in_seconds() {
    let (telemetry, metrics) = start();
    let run = metrics.time_run(Trigger::Scheduled).stop();
    drop(metrics.time_analysis());
    metrics.time_analysis().discard();

    // Timing alone counts nothing.
    telemetry.assert_counted(&["audit_agent.analysis_duration 1", "audit_agent.run_duration{trigger=scheduled} 1"]);
    telemetry.metric("audit_agent.run_duration").with(Trigger::Scheduled).sum(run.as_secs_f64());
}

#[test]
fn an_audit_is_counted_at_its_start_active_while_it_lives_and_timed_at_its_end() {
    let (telemetry, metrics) = start();
    let started = unix_seconds();
    let first = metrics.start_audit(Trigger::Marker);
    let second = metrics.start_audit(Trigger::Marker);
    telemetry.assert_counted(&["audit_agent.active_tasks 2", "audit_agent.runs{trigger=marker} 2"]);
    telemetry.metric("audit_agent.last_run_timestamp").absent();

    drop((first, second));
    telemetry.assert_counted(&["audit_agent.run_duration{trigger=marker} 2", "audit_agent.runs{trigger=marker} 2"]);
    assert!(telemetry.metric("audit_agent.last_run_timestamp").try_value() >= Some(started));
}

#[test]
fn an_audit_that_panics_is_no_longer_active() {
    let (telemetry, metrics) = start();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _audit = metrics.start_audit(Trigger::Manual);
        panic!("the audit panics, as this test wants");
    }));
    assert!(panicked.is_err());

    telemetry.assert_counted(&["audit_agent.run_duration{trigger=manual} 1", "audit_agent.runs{trigger=manual} 1"]);
    telemetry.metric("audit_agent.last_run_timestamp").present();
}

fn start() -> (TestTelemetry, AuditAgentMetrics) {
    let telemetry = TestTelemetry::new();
    let metrics = AuditAgentMetrics::new(telemetry.provider());
    (telemetry, metrics)
}

fn unix_seconds() -> f64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64()
}
