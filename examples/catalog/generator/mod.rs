//! What is made from the specs: the catalogue, the dashboards, and the rules as Kubernetes has them.
//!
//! `tests/policy` includes it too, and holds what it makes against the committed files.

pub(crate) mod catalogue;
mod dashboards;
mod grafana;
mod kubernetes;
mod query;

use std::io;
use std::path::Path;

/// What writes the files.
pub(crate) const COMMAND: &str = "cargo run --example catalog -- --write";

/// The generated files: their paths from the root of the project, and what they hold.
pub(crate) fn files(root: &Path) -> io::Result<Vec<(String, String)>> {
    let mut files = vec![("deploy/CATALOG.md".to_owned(), catalogue::markdown())];
    for dashboard in dashboards::all() {
        let mut json = dashboard.json();
        // Some feature of serde_json keeps keys as they come: whoever switches it on changes nothing here.
        json.sort_all_objects();
        files.push((format!("deploy/grafana/dashboards/{}", dashboard.file()), format!("{json:#}\n")));
    }
    files.extend(
        kubernetes::prometheus_rule(root)?.map(|rule| ("deploy/kubernetes/base/prometheus-rule.yaml".to_owned(), rule)),
    );
    Ok(files)
}
