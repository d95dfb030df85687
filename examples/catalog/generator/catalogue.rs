//! Every metric there is, as data for programs and as a page for people.

use std::fmt::Write;

use barograph::{Descriptor, Kind, buckets};
use serde_json::{Value, json};

/// What records metrics: a component, or the pipeline itself.
pub(crate) struct Component {
    /// The folder in `instrumentation/`, or what a table besides its first is about, or `barograph`.
    pub(crate) name: &'static str,
    title: &'static str,
    /// The instrumentation scope.
    scope: &'static str,
    pub(crate) metrics: &'static [Descriptor],
}

pub(crate) fn components() -> [Component; 12] {
    use barograph_instrumentation_api_clients::semconv as api_clients;
    use barograph_instrumentation_async_bridge::semconv as async_bridge;
    use barograph_instrumentation_audit_agent::semconv as audit_agent;
    use barograph_instrumentation_http::semconv as http;
    use barograph_instrumentation_system::semconv as system;
    use barograph_instrumentation_test_watcher::semconv as test_watcher;
    use barograph_instrumentation_tokio::semconv as tokio;

    let component = |name, title, scope, metrics| Component { name, title, scope, metrics };
    [
        component("test-watcher", "Test watcher", test_watcher::SCOPE, test_watcher::METRICS),
        component("audit-agent", "Audit agent", audit_agent::SCOPE, audit_agent::METRICS),
        component("async-bridge", "Safe async bridge", async_bridge::SCOPE, async_bridge::METRICS),
        component("api-clients", "API clients", api_clients::SCOPE, api_clients::METRICS),
        component("system", "System", system::SCOPE, system::METRICS),
        component("http", "HTTP", http::SCOPE, http::METRICS),
        component("process", "Process and container", system::SCOPE, system::PROCESS_METRICS),
        component("process", "Process and container besides", system::SCOPE, system::OTHER_PROCESS_METRICS),
        component("host", "Host", system::SCOPE, system::HOST_METRICS),
        component("tokio", "Tokio", tokio::SCOPE, tokio::METRICS),
        component("tokio", "Tokio built unstable", tokio::SCOPE, tokio::UNSTABLE_METRICS),
        component("barograph", "Barograph itself", "barograph", barograph::SELF_METRICS),
    ]
}

/// The catalogue as JSON: an array of metrics.
///
/// An attribute without `values` is open: what it can be is known only when the program runs.
pub(crate) fn json() -> Value {
    let of =
        |component: &Component| component.metrics.iter().map(|metric| entry(component, metric)).collect::<Vec<_>>();
    components().iter().flat_map(of).collect()
}

fn entry(component: &Component, metric: &Descriptor) -> Value {
    let closed = metric.attributes.iter().map(|info| json!({ "key": info.key, "values": info.values }));
    let open = metric.open_attributes.iter().map(|key| json!({ "key": key }));
    json!({
        "attributes": closed.chain(open).collect::<Vec<_>>(),
        "buckets": bounds(metric),
        "component": component.name,
        "description": metric.description,
        "kind": metric.kind.as_str(),
        "name": metric.name,
        "scope": component.scope,
        "scraped_name": metric.scraped_name(),
        "unit": metric.unit,
    })
}

/// A histogram's upper bounds, those that it has by its unit if it says none.
fn bounds(metric: &Descriptor) -> Option<&'static [f64]> {
    (metric.kind == Kind::Histogram).then_some(metric.buckets.or_else(|| buckets::for_unit(metric.unit)))?
}

/// The catalogue as a page.
pub(crate) fn markdown() -> String {
    let components = components();
    let count: usize = components.iter().map(|component| component.metrics.len()).sum();
    let mut page = format!(
        "<!-- Written by `{}`; do not edit. -->\n\n# Catalogue of metrics\n\n\
         All {count} metrics, by component. \"Scraped as\" is the name with default settings, the same by \
             scrape and by OTLP \
         into Prometheus; a histogram's series add `_bucket`, `_sum` and `_count`. An attribute marked *open* has \
         values that are known only when the program runs. In labels, dots become underscores.\n\n\
         The same as data: `cargo run --example catalog -- --json`.\n\n",
        super::COMMAND
    );
    for Component { title, .. } in &components {
        let _ = writeln!(page, "- [{title}](#{})", title.to_lowercase().replace(' ', "-"));
    }
    for Component { title, scope, metrics, .. } in components {
        let _ = write!(
            page,
            "\n## {title}\n\nScope `{scope}`.\n\n\
             | scraped as | kind | unit | attributes | what it says |\n|---|---|---|---|---|\n"
        );
        metrics.iter().for_each(|metric| page += &row(metric));
        let histograms: Vec<_> = metrics.iter().filter_map(|metric| Some((metric, bounds(metric)?))).collect();
        if !histograms.is_empty() {
            page += "\nBuckets:\n\n| OpenTelemetry name | upper bounds |\n|---|---|\n";
        }
        for (metric, bounds) in histograms {
            let bounds: Vec<String> = bounds.iter().map(f64::to_string).collect();
            let _ = writeln!(page, "| {} | {} |", metric.name, bounds.join(" "));
        }
    }
    page
}

fn row(metric: &Descriptor) -> String {
    let closed = metric.attributes.iter().map(|info| format!("{}: {}", info.key, info.values.join(" ")));
    let open = metric.open_attributes.iter().map(|key| format!("{key}: *open*"));
    let attributes: Vec<String> = closed.chain(open).collect();
    let Descriptor { name, kind, unit, description, .. } = metric;
    let scraped = metric.scraped_name().unwrap_or_default();
    format!("| `{scraped}`<br>{name} | {kind} | {unit} | {} | {description} |\n", attributes.join("<br>"))
}
