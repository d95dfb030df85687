//! The five components together, in one pipeline: what the platform runs.

use std::time::Duration;

use barograph::Descriptor;
use barograph::testing::{LintProblem, LintRule, lint};
use barograph_instrumentation_api_clients::ApiClientMetrics;
use barograph_instrumentation_api_clients::semconv::Api;
use barograph_instrumentation_async_bridge::AsyncBridge;
use barograph_instrumentation_audit_agent::AuditAgentMetrics;
use barograph_instrumentation_audit_agent::semconv::Trigger;
use barograph_instrumentation_system::{HostMetrics, ProcessMetrics, SystemMetrics};
use barograph_instrumentation_test_watcher::TestWatcherMetrics;
use barograph_instrumentation_tokio::TokioMetrics;

use crate::support::{builder, get, request_with, talking_builder};

fn all() -> Vec<Descriptor> {
    [
        barograph_instrumentation_test_watcher::semconv::METRICS,
        barograph_instrumentation_audit_agent::semconv::METRICS,
        barograph_instrumentation_async_bridge::semconv::METRICS,
        barograph_instrumentation_api_clients::semconv::METRICS,
        barograph_instrumentation_system::semconv::METRICS,
    ]
    .concat()
}

/// The names that the platform's dashboards query: a contract, so it is written out and not derived.
const CONTRACT: [&str; 40] = [
    "test_watcher_files_processed_total",
    "test_watcher_tests_run_total",
    "test_watcher_api_calls_total",
    "test_watcher_errors_total",
    "test_watcher_changed_files_current",
    "test_watcher_memory_usage_bytes",
    "test_watcher_is_running",
    "test_watcher_processing_duration_seconds",
    "test_watcher_debounce_duration_seconds",
    "test_watcher_test_execution_duration_seconds",
    "audit_agent_runs_total",
    "audit_agent_completion_markers_found_total",
    "audit_agent_git_commits_detected_total",
    "audit_agent_errors_total",
    "audit_agent_coverage_percent",
    "audit_agent_last_run_timestamp_seconds",
    "audit_agent_active_tasks",
    "audit_agent_run_duration_seconds",
    "audit_agent_analysis_duration_seconds",
    "safe_async_bridge_calls_total",
    "safe_async_bridge_errors_total",
    "safe_async_bridge_timeouts_total",
    "safe_async_bridge_pending_tasks",
    "safe_async_bridge_active_loops",
    "safe_async_bridge_execution_duration_seconds",
    "api_deepseek_calls_total",
    "api_perplexity_calls_total",
    "api_rate_limits_total",
    "api_errors_total",
    "api_tokens_used_total",
    "api_deepseek_response_time_seconds",
    "api_perplexity_response_time_seconds",
    "api_request_duration_seconds",
    "system_cpu_percent",
    "system_memory_percent",
    "system_disk_percent",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_open_file_descriptors",
    "process_threads_count",
];

#[test]
fn the_names_are_those_that_the_dashboards_query() {
    let names: Vec<String> = all().iter().map(|descriptor| descriptor.scraped_name().unwrap()).collect();
    assert_eq!(names, CONTRACT);
}

#[test]
fn all_five_live_in_one_pipeline_and_are_scraped() {
    let telemetry = builder().start().unwrap();
    let provider = telemetry.meter_provider();
    let watcher = TestWatcherMetrics::new(provider);
    let agent = AuditAgentMetrics::new(provider);
    let bridge = AsyncBridge::new(provider).unwrap();
    let clients = ApiClientMetrics::new(provider);
    let system = SystemMetrics::new(provider);
    telemetry.verify().unwrap();

    let page = get(telemetry.local_addr().unwrap(), "/metrics").body;
    // Counters and everything observed are there before anything happened; gauges and plain histograms wait.
    let immediate = all().iter().filter(|descriptor| descriptor.kind.as_str().contains("counter")).count();
    let shown = all().iter().filter(|d| page.contains(&format!("# TYPE {} ", d.scraped_name().unwrap()))).count();
    assert!(shown >= immediate + 6, "{shown} of {immediate} counters and the system's gauges: {page}");
    drop((watcher, agent, bridge, clients, system));
}

/// Why a name that breaks a rule stays.
fn excuse(problem: &LintProblem) -> Option<&'static str> {
    match problem.rule {
        LintRule::ReservedSuffix if problem.metric.ends_with("_count") => Some(
            "OpenTelemetry's semantic conventions call so what an up-down counter counts, and the platform's contract has one",
        ),
        _ => None,
    }
}

#[test]
fn names_on_the_pages_keep_the_rules_of_promlint_and_opentelemetry() {
    let telemetry = talking_builder().start().unwrap();
    let provider = telemetry.meter_provider();
    let watcher = TestWatcherMetrics::new(provider);
    watcher.update_memory_usage();
    watcher.set_running(true);
    watcher.start_run().pass();
    drop((watcher.time_processing(), watcher.time_debounce()));
    let agent = AuditAgentMetrics::new(provider);
    agent.update_coverage(50.0);
    drop((agent.start_audit(Trigger::Manual), agent.time_analysis()));
    let bridge = AsyncBridge::new(provider).unwrap();
    bridge.call(async { Ok::<_, std::convert::Infallible>(()) }, Duration::from_secs(60)).unwrap();
    let clients = ApiClientMetrics::new(provider);
    clients.start_call(Api::DeepSeek).succeed();
    clients.start_call(Api::Perplexity).succeed();
    let _system = (SystemMetrics::new(provider), ProcessMetrics::new(provider), HostMetrics::new(provider));
    let tokio = TokioMetrics::new(provider);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _watched = tokio.watch("main", runtime.handle());
    runtime.block_on(tokio.tasks("job").instrument(async {}));

    let address = telemetry.local_addr().unwrap();
    for accept in ["text/plain;version=0.0.4", "application/openmetrics-text;version=1.0.0"] {
        let page = request_with(address, "GET", "/metrics", &[("Accept", accept)]).body;
        let (excused, others): (Vec<_>, Vec<_>) = lint(&page).into_iter().partition(|it| excuse(it).is_some());
        let others: Vec<_> = others.iter().map(ToString::to_string).collect();
        assert!(others.is_empty(), "{accept}: {others:#?}");
        assert!(excused.iter().any(|problem| problem.metric == "process_threads_count"), "{accept}: {excused:?}");
    }
}
