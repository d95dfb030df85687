//! The dashboards, one file each: which panels, in which order, and what to do when one is red.

mod api;
mod audit_agent;
mod http;
mod runtime;
mod sdk;
mod system_health;
mod test_watcher;

use crate::generator::grafana::Dashboard;

pub(crate) fn all() -> Vec<Dashboard> {
    vec![
        system_health::dashboard(),
        test_watcher::dashboard(),
        audit_agent::dashboard(),
        api::dashboard(),
        http::dashboard(),
        runtime::dashboard(),
        sdk::dashboard(),
    ]
}
