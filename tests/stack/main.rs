//! End to end: real processes, a real Prometheus, and what it then answers.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[cfg(feature = "page")]
mod browser;
#[cfg(feature = "config-file")]
mod deploy;
mod deployment;
#[path = "../suite/dto.rs"]
#[expect(dead_code, reason = "the suite looks closer at the messages")]
mod dto;
mod examples;
mod exemplars;
mod formats;
mod grafana;
mod hostile;
mod migrating;
mod native;
#[cfg(feature = "web-config")]
mod open;
mod otlp;
#[cfg(feature = "page")]
mod page;
mod parity;
mod parser;
mod platform;
mod process;
mod prometheus;
mod protocols;
mod pushed;
mod query;
mod request;
mod rules;
#[cfg(feature = "config-file")]
mod scale;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use barograph::Telemetry;
use barograph::opentelemetry::KeyValue;

use platform::Platform;
use prometheus::{Prometheus, Sample};

/// Prometheus needs about 5 s to its first scrape on an idle machine; CI's may be compiling.
const UP: Duration = Duration::from_secs(40);

/// What tells one series from another: its name and labels, less those that Prometheus adds.
type Series = BTreeMap<String, String>;

#[test]
fn a_prometheus_that_scrapes_the_platform_every_second_sees_all_of_it_and_ends_with_its_summary() {
    let Some(bin) = prometheus::require() else { return };
    let directory = tempfile::tempdir().unwrap();
    let platform = Platform::start(&directory.path().join("summary.json"), Duration::from_secs(45));
    let prometheus = Prometheus::start(&bin, directory.path(), &[("platform", platform.address())], "1s");
    prometheus.wait_until_up("platform", UP);

    let page = platform.page();
    match prometheus::promtool_check_metrics(&bin, &page) {
        Ok(()) => {}
        // The one name of the contract that promtool would have chosen otherwise.
        Err(output) => {
            let lints: Vec<&str> = output.lines().filter(|line| line.contains("metric")).collect();
            assert!(output.contains("exit code 3"), "promtool cannot read the page: {output}\n{page}");
            assert!(
                lints.iter().all(|line| line.starts_with("process_threads_count ")),
                "promtool complains: {output}"
            );
        }
    }

    let summary = platform.wait();
    let scraped: BTreeMap<Series, f64> =
        prometheus.query("last_over_time({job=\"platform\"}[10m])").into_iter().map(series).collect();

    let names: BTreeSet<&str> =
        scraped.keys().filter_map(|series| series.get("__name__")).map(String::as_str).collect();
    let metrics = contract();
    assert_eq!(metrics.len(), 40);
    for name in &metrics {
        let histogram = format!("{name}_count");
        assert!(names.contains(name.as_str()) || names.contains(histogram.as_str()), "no data for {name} in {names:?}");
    }

    let belongs =
        |name: &str| metrics.iter().any(|metric| name.strip_prefix(metric.as_str()).is_some_and(is_series_of));
    let mut compared = 0;
    for (series, value) in &summary {
        let name = series["__name__"].as_str();
        // What the process uses goes on after the work has ended, and after the last scrape.
        let settled = belongs(name) && !name.starts_with("process_") && !name.starts_with("system_");
        if settled && name != "test_watcher_memory_usage_bytes" {
            assert_eq!(scraped.get(series), Some(value), "{series:?}");
            compared += 1;
        }
    }
    assert!(compared > 100, "only {compared} series of the summary were compared: {summary:?}");
}

/// The scraped names of the five components.
fn contract() -> Vec<String> {
    [
        barograph_instrumentation_test_watcher::semconv::METRICS,
        barograph_instrumentation_audit_agent::semconv::METRICS,
        barograph_instrumentation_async_bridge::semconv::METRICS,
        barograph_instrumentation_api_clients::semconv::METRICS,
        barograph_instrumentation_system::semconv::METRICS,
    ]
    .iter()
    .flat_map(|metrics| metrics.iter())
    .map(|metric| metric.scraped_name().unwrap())
    .collect()
}

fn is_series_of(suffix: &str) -> bool {
    matches!(suffix, "" | "_bucket" | "_sum" | "_count")
}

fn series(sample: Sample) -> (Series, f64) {
    let mut labels = sample.labels;
    labels.remove("job");
    labels.remove("instance");
    (normal(labels), sample.value)
}

/// Prometheus 3 writes the bounds of buckets as floats: `1.0` where the page says `1`.
fn normal(mut labels: Series) -> Series {
    if let Some(bound) = labels.get_mut("le").filter(|bound| *bound != "+Inf") {
        *bound = bound.parse::<f64>().unwrap().to_string();
    }
    labels
}

#[test]
fn a_page_of_hostile_names_and_labels_loses_no_sample_in_a_real_prometheus() {
    let Some(bin) = prometheus::require() else { return };
    let directory = tempfile::tempdir().unwrap();
    let telemetry = Telemetry::builder("hostile \"service\"\n").with_address("127.0.0.1:0");
    // What it says about itself is more with each scrape.
    let telemetry = telemetry.without_self_metrics().start().unwrap();
    let meter = telemetry.meter("hostile");
    let hostile = [
        KeyValue::new("1abc", "a leading digit"),
        KeyValue::new("a:b", "a colon"),
        KeyValue::new("__name__", "an impostor"),
        KeyValue::new("le", "not a bound"),
        KeyValue::new("quoted", "\" \\ \n \u{0} é 🦀"),
        KeyValue::new("", "no key"),
    ];
    meter.u64_counter("http_requests_total").build().add(3, &hostile);
    meter.u64_counter("a..b__c").with_unit("kBy").build().add(1, &hostile);
    meter.f64_histogram("h").with_unit("s").build().record(0.3, &hostile);
    meter.u64_counter("x.y").build().add(1, &[]);
    meter.u64_counter("x_y").build().add(1, &[]);
    meter.f64_gauge("h.seconds.count").build().record(1.0, &[]);
    let address: SocketAddr = telemetry.local_addr().unwrap();
    let samples = telemetry.scrape().unwrap().lines().filter(|line| !line.starts_with('#')).count();

    let prometheus = Prometheus::start(&bin, directory.path(), &[("hostile", address)], "500ms");
    prometheus.wait_until_up("hostile", UP);
    let scraped = prometheus.wait_for("scrape_samples_scraped{job=\"hostile\"}", UP, |found| !found.is_empty());
    assert_eq!(scraped[0].value, samples as f64, "every line was read: {:?}", prometheus.target_health());
    let found = prometheus.query("http_requests_total{job=\"hostile\"}");
    assert_eq!(found[0].value, 3.0);
    assert_eq!(found[0].labels["quoted"], "\" \\ \n \u{0} é 🦀");
    assert_eq!(found[0].labels["key_1abc"], "a leading digit");
}

#[test]
fn the_platform_says_in_one_line_what_is_wrong_with_what_it_was_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let empty = tempfile::tempdir().unwrap();
    let in_use = format!("platform: failed to bind the scrape endpoint to 127.0.0.1:{port}: address in use");
    let cases: [(&[&str], i32, &str); 6] = [
        (&["--port", &port], 1, &in_use),
        (&["--prot", "1"], 2, "unexpected argument '--prot'"),
        (&["/no/such/directory"], 2, "platform: cannot watch /no/such/directory: it does not exist"),
        (&[empty.path().to_str().unwrap()], 2, "say how to test with --test-command"),
        (&["--for", "30"], 2, "a duration is a whole number and a unit, like 500ms, 30s, 2m or 1h"),
        (&["--host", "nowhere.invalid"], 1, "failed to resolve the scrape endpoint's address `nowhere.invalid:9464`"),
    ];
    for (arguments, code, message) in cases {
        let output = Command::new(platform::binary()).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(message), "{arguments:?}: {said}");
        assert!(!said.contains("panicked"), "{arguments:?}: {said}");
    }
}
