//! Metrics for an audit agent: how often it runs and why, what it finds, how long it takes.
//!
//! ```
//! use barograph::opentelemetry::metrics::MeterProvider;
//! use barograph_instrumentation_audit_agent::AuditAgentMetrics;
//! use barograph_instrumentation_audit_agent::semconv::{ErrorType, Trigger};
//!
//! fn audit(metrics: &AuditAgentMetrics, trigger: Trigger) -> std::io::Result<()> {
//!     let _audit = metrics.start_audit(trigger);     // ends when it goes out of scope
//!     metrics.record_git_commits(new_commits()?);
//!     let coverage = metrics.time_analysis().time(analyse)?;
//!     metrics.update_coverage(coverage);
//!     Ok(())
//! }
//!
//! fn on_event(provider: &dyn MeterProvider, event: &str) {
//!     let metrics = AuditAgentMetrics::new(provider);
//!     if audit(&metrics, Trigger::from(event)).is_err() {     // an event nobody listed is `other`
//!         metrics.record_error(ErrorType::Git);
//!     }
//! }
//! # fn new_commits() -> std::io::Result<u64> { Ok(3) }
//! # fn analyse() -> std::io::Result<f64> { Ok(87.5) }
//! # on_event(&barograph::opentelemetry::metrics::NoopMeterProvider::new(), "commit");
//! ```
//!
//! Names, units, attributes and descriptions are in [`semconv`].

mod audit;
mod instruments;
pub mod semconv;

pub use audit::Audit;

use std::sync::Arc;

use barograph::Timer;
use barograph::opentelemetry::InstrumentationScope;
use barograph::opentelemetry::metrics::MeterProvider;

use crate::instruments::Instruments;
use crate::semconv::{ErrorType, Trigger};

/// Records what an audit agent does. Clones record into the same series.
#[derive(Clone, Debug)]
pub struct AuditAgentMetrics {
    instruments: Arc<Instruments>,
}

impl AuditAgentMetrics {
    /// Builds the instruments, in the scope [`semconv::SCOPE`].
    ///
    /// Counters are exported as 0 from here on, gauges from their first value on.
    #[must_use]
    pub fn new(provider: &dyn MeterProvider) -> Self {
        let scope = InstrumentationScope::builder(semconv::SCOPE).with_version(env!("CARGO_PKG_VERSION")).build();
        let meter = provider.meter_with_scope(scope);
        Self { instruments: Arc::new(Instruments::new(&meter)) }
    }

    /// Counts a run that starts, in `audit_agent.runs` by `trigger`.
    ///
    /// [`start_audit`](Self::start_audit) counts and times a run, and cannot forget its end.
    pub fn record_run(&self, trigger: Trigger) {
        self.instruments.runs.add(1, trigger);
    }

    /// Makes `percent` the coverage found, in `audit_agent.coverage`.
    ///
    /// What is below 0 or above 100 counts as the nearer of the two; NaN is ignored.
    pub fn update_coverage(&self, percent: f64) {
        self.instruments.coverage.record(percent.clamp(0.0, 100.0), ());
    }

    /// Counts a completion marker as found, in `audit_agent.completion_markers_found`.
    pub fn record_completion_marker_found(&self) {
        self.instruments.completion_markers_found.add(1, ());
    }

    /// Counts `commits` more commits as detected, in `audit_agent.git_commits_detected`.
    pub fn record_git_commits(&self, commits: u64) {
        self.instruments.git_commits_detected.add(commits, ());
    }

    /// Counts an error of the agent itself, in `audit_agent.errors` by `error_type`.
    pub fn record_error(&self, error_type: ErrorType) {
        self.instruments.errors.add(1, error_type);
    }

    /// Makes now the time of the latest run, in seconds since the Unix epoch in `audit_agent.last_run_timestamp`.
    pub fn update_last_run_timestamp(&self) {
        self.instruments.last_run_is_now();
    }

    /// Times a run, from now until the timer is stopped or dropped, in seconds in `audit_agent.run_duration` by
    /// `trigger`.
    ///
    /// It counts nothing: [`start_audit`](Self::start_audit) does both.
    pub fn time_run(&self, trigger: Trigger) -> Timer {
        self.instruments.run_duration.start_timer(trigger)
    }

    /// Times an analysis, from now until the timer is stopped or dropped, in seconds in
    /// `audit_agent.analysis_duration`.
    pub fn time_analysis(&self) -> Timer {
        self.instruments.analysis_duration.start_timer(())
    }

    /// Starts an audit: counts the run now, holds `audit_agent.active_tasks` up until it ends, and times it.
    pub fn start_audit(&self, trigger: Trigger) -> Audit {
        Audit::start(Arc::clone(&self.instruments), trigger)
    }
}

/// Compiles the README's program.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
