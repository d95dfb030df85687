//! Scraped and pushed, a program has the same series: one run of the platform is scraped by a real Prometheus and pushed
//! to a real OpenTelemetry Collector, to VictoriaMetrics and, by vmagent, to the same Prometheus.
//!
//! The last page of the platform is what the others are held against: [`DIFFERENCES`] says all that is not the same.

mod differences;
pub(crate) mod points;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::otlp::collector::{Collector, Options};
use crate::otlp::victoria::{self, Victoria, Vmagent};
use crate::platform::Platform;
use crate::prometheus::{self, Job, Prometheus, Sample};
use crate::query::Queries;
use crate::{Series, UP};
use differences::{DIFFERENCES, Difference, METADATA, Place, Run, name};
use points::points;

pub(crate) use differences::base;

/// Prometheus needs 5 s to its first scrape, and more where the machine compiles; the last 3 s are quiet.
const LIFETIME: Duration = Duration::from_secs(15);

/// Selects what was written to the Prometheus that scrapes as well.
const WRITTEN: &str = "job=\"\", __name__!=\"\"";

/// What the pipeline says about itself.
const SELF_METRICS: [(&str, &str); 14] = [
    ("barograph.callback.duration", "barograph_callback_duration_seconds"),
    ("barograph.callback.errors", "barograph_callback_errors_total"),
    ("barograph.instruments.refused", "barograph_instruments_refused_total"),
    ("barograph.points.dropped", "barograph_points_dropped_total"),
    ("barograph.export.failures", "barograph_export_failures_total"),
    ("barograph.export.last_success_timestamp", "barograph_export_last_success_timestamp_seconds"),
    ("barograph.scrape.in_flight", "barograph_scrape_in_flight"),
    ("barograph.scrape.refused", "barograph_scrape_refused_total"),
    ("barograph.scrape.requests", "barograph_scrape_requests_total"),
    ("barograph.scrape.sent", "barograph_scrape_sent_bytes_total"),
    ("barograph.scrape.series", "barograph_scrape_series"),
    ("otel.sdk.exporter.metric_data_point.exported", "otel_sdk_exporter_metric_data_point_exported_total"),
    ("otel.sdk.exporter.operation.duration", "otel_sdk_exporter_operation_duration_seconds"),
    ("otel.sdk.metric_reader.collection.duration", "otel_sdk_metric_reader_collection_duration_seconds"),
];

#[cfg(feature = "config-file")]
#[test]
fn one_run_is_the_same_scraped_and_pushed_but_for_what_the_table_says() {
    let (Some(prometheus_bin), Some(bin), Some(_)) = (prometheus::require(), victoria::require(), Collector::require())
    else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let prometheus = Prometheus::start_receiving(&prometheus_bin, &at("prometheus"));
    let vmagent = Vmagent::start(&bin, &at("vmagent"), &prometheus.write_url());
    let victoria = Victoria::start(&bin, &at("victoria"));
    let collector = Collector::start(&bin, &at("otelcol"), &Options::default());
    // Several exporters are for a file to say.
    let receivers = [format!("http://{}/v1/metrics", collector.http_address()), vmagent.url(), victoria.url()];
    let file = at("otel.yaml");
    std::fs::write(&file, configuration(&receivers)).unwrap();
    let environment = [("OTEL_CONFIG_FILE", file.to_str().unwrap())];
    let platform = Platform::start_with(&at("summary.json"), LIFETIME, &environment);
    prometheus.scrape_from_now(&[Job::new("platform", platform.address())], "500ms");
    prometheus.wait_until_up("platform", UP);
    // What the pipeline says of a scrape is there in the one after.
    let scrapes = "count_over_time(up{job=\"platform\"}[1m])";
    prometheus.wait_for(scrapes, UP, |found| found.first().is_some_and(|found| found.value >= 3.0));
    let page_metadata = metadata_of_page(&platform.page());
    let scraped_metadata = metadata(&prometheus);
    let mut page = page_metadata;
    page.extend(platform.wait().into_iter().map(|(labels, value)| Sample { labels, value }));

    // The platform has ended, so each receiver has taken the last push. A push before it, from the quiet end, had all the
    // values that are compared: whoever shows a count that is no less shows those.
    let received = collector.received();
    let pushed = points(received.last().unwrap());
    let delivered = |sample: &&Sample| {
        let has = |label: &str, value: &str| sample.labels.get(label).is_some_and(|it| it == value);
        name(sample) == "otel.sdk.exporter.metric_data_point.exported"
            && has("otel.component.name", "otlp_http_metric_exporter/0")
            && !sample.labels.contains_key("error.type")
    };
    let earlier = points(&received[received.len() - 3]);
    let delivered = earlier.iter().find(delivered).unwrap().value;
    let count = "otel_sdk_exporter_metric_data_point_exported_total{otel_component_name=\"otlp_http_metric_exporter/0\", error_type=\"\", job=\"\"}";
    let has_all = |found: &[Sample]| found.first().is_some_and(|found| found.value >= delivered);
    prometheus.wait_for(count, UP, has_all);
    victoria.wait_for(count, UP, has_all);
    prometheus.wait_for("{job=\"platform\", __name__!~\"up|scrape_.*\"}", UP, <[Sample]>::is_empty);

    let names = translation();
    let run =
        Run { resource: resource_of(&page), outlived: prometheus.query(&format!("{{{WRITTEN}}}")).len(), names, page };
    let all = |selector: &str| format!("last_over_time({{{selector}}}[10m])");
    let mut scraped = prometheus.query(&all("job=\"platform\""));
    scraped.extend(scraped_metadata);
    let mut in_victoria = victoria.query(&all("__name__!=\"\""));
    in_victoria.extend(metadata_of_victoria(&victoria));
    let places = [
        (Place::Scraped, scraped),
        (Place::Written, prometheus.query(&all(WRITTEN))),
        (Place::Victoria, in_victoria),
        (Place::Collector, pushed),
    ];
    for (place, mut samples) in places {
        for difference in DIFFERENCES.iter().filter(|difference| difference.places.contains(&place)) {
            let times = (difference.undo)(&mut samples, &run);
            assert!(times > 0, "{place:?} has not (any more): {}", difference.what);
        }
        assert_is_the_page(place, samples, &run);
    }
}

/// Scraped, and pushed to all of these.
fn configuration(receivers: &[String]) -> String {
    let mut file = "file_format: \"1.1\"\n\
        resource:\n  \
          attributes_list: service.version=1.2.3,deployment.environment.name=test\n\
        meter_provider:\n  \
          readers:\n    \
            - pull: {exporter: {prometheus/development: }}\n"
        .to_owned();
    for receiver in receivers {
        file += &format!("    - periodic: {{interval: 500, exporter: {{otlp_http: {{endpoint: \"{receiver}\"}}}}}}\n");
    }
    file
}

#[track_caller]
fn assert_is_the_page(place: Place, samples: Vec<Sample>, run: &Run) {
    let count = samples.len();
    let found: BTreeMap<Series, f64> = samples.into_iter().map(|sample| (sample.labels, sample.value)).collect();
    assert_eq!(found.len(), count, "{place:?}: two of its series are one on the page");
    let page: BTreeMap<&Series, f64> = run.page.iter().map(|sample| (&sample.labels, sample.value)).collect();
    let missing: Vec<_> = page.keys().filter(|series| !found.contains_key(**series)).collect();
    let more: Vec<_> = found.keys().filter(|series| !page.contains_key(series)).collect();
    assert!(missing.is_empty() && more.is_empty(), "{place:?} lacks {missing:#?} and has {more:#?}");

    let names: BTreeSet<&str> =
        found.keys().map(|series| series["__name__"].as_str()).flat_map(|name| [name, base(name)]).collect();
    for scraped in run.names.values() {
        assert!(names.contains(scraped.as_str()), "{place:?} has no series of {scraped}");
    }
    let mut compared = 0;
    for (series, value) in &found {
        if is_settled(&series["__name__"]) {
            assert_eq!(*value, page[series], "{place:?}: {series:?}");
            compared += 1;
        } else {
            assert!(value.is_finite() && *value >= 0.0, "{place:?}: {series:?} is {value}");
        }
    }
    assert!(compared > 500, "{place:?}: only {compared} values were compared");
}

/// Whether a value is the same at any time of the quiet end.
pub(crate) fn is_settled(name: &str) -> bool {
    // What the machine and the process use goes on, and so do the pushes.
    let goes_on = ["system_", "process_", "barograph_", "otel_sdk_"];
    !goes_on.iter().any(|start| name.starts_with(start))
}

/// Scraped names by those of OpenTelemetry: what the tables of the components' pages promise, and the self-metrics.
pub(crate) fn translation() -> BTreeMap<String, String> {
    let components = ["api-clients", "async-bridge", "audit-agent", "system", "test-watcher"];
    let mut names = BTreeMap::new();
    for component in components {
        let path = format!("{}/instrumentation/{component}/README.md", env!("CARGO_MANIFEST_DIR"));
        let page = std::fs::read_to_string(Path::new(&path)).unwrap();
        let table = page.lines().skip_while(|line| !line.starts_with("| OTel name |")).skip(2);
        for row in table.take_while(|line| line.starts_with('|')) {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            names.insert(cells[1].to_owned(), cells[5].to_owned());
        }
    }
    assert_eq!(names.len(), 40, "{names:?}");
    names.extend(SELF_METRICS.map(|(otel, scraped)| (otel.to_owned(), scraped.to_owned())));
    names
}

/// The resource as `target_info` has it.
fn resource_of(page: &[Sample]) -> Series {
    let mut labels = page.iter().find(|sample| name(sample) == "target_info").unwrap().labels.clone();
    labels.remove("__name__");
    assert_eq!(labels["service_name"], "automation-platform");
    labels
}

fn described(name: &str, kind: &str, help: &str, unit: &str) -> Sample {
    let mut labels: Series =
        [("__name__", format!("{METADATA}{name}").as_str()), ("type", kind), ("help", help)].map(owned).into();
    if !unit.is_empty() {
        labels.insert("unit".to_owned(), unit.to_owned());
    }
    Sample { labels, value: 1.0 }
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// What the lines for HELP and TYPE of a page say.
fn metadata_of_page(page: &str) -> Vec<Sample> {
    let of = |keyword: &str| -> BTreeMap<&str, &str> {
        page.lines().filter_map(|line| line.strip_prefix(keyword)?.split_once(' ')).collect()
    };
    let help = of("# HELP ");
    of("# TYPE ").into_iter().map(|(name, kind)| described(name, kind, help[name], "")).collect()
}

/// What a server says about its metrics, by Prometheus' API.
fn metadata(queries: &Queries) -> Vec<Sample> {
    let data = queries.data("/api/v1/metadata");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metrics = data.as_object().unwrap().iter();
    metrics
        .flat_map(|(name, said)| said.as_array().unwrap().iter().map(move |said| (name, said)))
        .map(|(name, said)| described(name, &text(&said["type"]), &text(&said["help"]), &text(&said["unit"])))
        .collect()
}

/// The same of VictoriaMetrics.
fn metadata_of_victoria(victoria: &Victoria) -> Vec<Sample> {
    metadata(&Queries { address: victoria.address() })
}

#[test]
fn the_readmes_table_of_differences_is_the_one_that_was_seen() {
    let mut table = "| what differs | where | why | the setting that removes it |\n|---|---|---|---|\n".to_owned();
    for Difference { what, places, why, setting, .. } in DIFFERENCES {
        let places: Vec<&str> = places.iter().map(|place| place.as_str()).collect();
        // A bar would end the cell.
        let cells = [what, places.join(", ").as_str(), why, setting].map(|cell| cell.replace('|', "\\|"));
        table.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    assert!(include_str!("../../README.md").contains(&table), "the README's table should be:\n{table}");
}
