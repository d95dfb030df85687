//! An audit: from what triggered it until it ends, whatever the end is.

use std::sync::Arc;

use barograph::{InFlight, Timer};

use crate::instruments::Instruments;
use crate::semconv::Trigger;

/// An audit under way, made by [`AuditAgentMetrics::start_audit`](crate::AuditAgentMetrics::start_audit).
///
/// It was counted in `audit_agent.runs` when it started, and is one of `audit_agent.active_tasks` while it lives. It
/// ends when it is dropped, which a panic, a `?` or a future that is no longer polled do too: then the seconds since
/// its start are recorded in `audit_agent.run_duration`, and `audit_agent.last_run_timestamp` is set.
#[must_use = "an audit ends when it is dropped"]
#[derive(Debug)]
pub struct Audit {
    instruments: Arc<Instruments>,
    _active: InFlight,
    _timer: Timer,
}

impl Audit {
    pub(crate) fn start(instruments: Arc<Instruments>, trigger: Trigger) -> Self {
        instruments.runs.add(1, trigger);
        Self {
            _active: instruments.active_tasks.in_flight(()),
            _timer: instruments.run_duration.start_timer(trigger),
            instruments,
        }
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.instruments.last_run_is_now();
    }
}
