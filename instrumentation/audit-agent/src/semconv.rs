//! Every name the audit agent records: the scope, the attributes and the metrics.

use barograph::{CounterSpec, Descriptor, GaugeSpec, HistogramSpec, UpDownCounterSpec, attribute, buckets};

/// The instrumentation scope.
pub const SCOPE: &str = "audit_agent";

attribute! {
    /// What made the agent run.
    pub enum Trigger: "trigger" {
        Scheduled = "scheduled", Manual = "manual", Marker = "marker", Commit = "commit", Other = "other",
    }
    unknown => Other
}

attribute! {
    /// What went wrong in the agent.
    pub enum ErrorType: "error_type" {
        Io = "io", Git = "git", Parse = "parse", Internal = "internal", Other = "other",
    }
    unknown => Other
}

/// Runs of the agent, by what triggered them.
pub const RUNS: CounterSpec<Trigger> =
    CounterSpec::new("audit_agent.runs", "{run}", "Total number of audit runs started.");

/// Completion markers the agent has found.
pub const COMPLETION_MARKERS_FOUND: CounterSpec = CounterSpec::new(
    "audit_agent.completion_markers_found",
    "{marker}",
    "Total number of completion markers found by AuditAgent.",
);

/// Commits the agent has detected.
pub const GIT_COMMITS_DETECTED: CounterSpec = CounterSpec::new(
    "audit_agent.git_commits_detected",
    "{commit}",
    "Total number of git commits detected by AuditAgent.",
);

/// Errors in the agent itself, by what went wrong.
pub const ERRORS: CounterSpec<ErrorType> =
    CounterSpec::new("audit_agent.errors", "{error}", "Total number of errors in AuditAgent.");

/// The coverage that the latest audit found.
pub const COVERAGE: GaugeSpec =
    GaugeSpec::new("audit_agent.coverage", "%", "Coverage found by the latest audit, in percent.");

/// When the latest run ended.
pub const LAST_RUN_TIMESTAMP: GaugeSpec = GaugeSpec::new(
    "audit_agent.last_run_timestamp",
    "s",
    "Time at which the latest audit run ended, in seconds since the Unix epoch.",
);

/// Audits under way.
pub const ACTIVE_TASKS: UpDownCounterSpec =
    UpDownCounterSpec::new("audit_agent.active_tasks", "{task}", "Number of audits under way.");

/// Time from the start of a run to its end, by what triggered it.
pub const RUN_DURATION: HistogramSpec<Trigger> =
    HistogramSpec::new("audit_agent.run_duration", "s", "Time spent on an audit run.").buckets(buckets::MINUTES);

/// Time spent analysing, which is a part of a run.
pub const ANALYSIS_DURATION: HistogramSpec =
    HistogramSpec::new("audit_agent.analysis_duration", "s", "Time spent analysing what changed.")
        .buckets(buckets::MINUTES);

/// All of them.
pub const METRICS: &[Descriptor] = &[
    RUNS.descriptor(),
    COMPLETION_MARKERS_FOUND.descriptor(),
    GIT_COMMITS_DETECTED.descriptor(),
    ERRORS.descriptor(),
    COVERAGE.descriptor(),
    LAST_RUN_TIMESTAMP.descriptor(),
    ACTIVE_TASKS.descriptor(),
    RUN_DURATION.descriptor(),
    ANALYSIS_DURATION.descriptor(),
];
