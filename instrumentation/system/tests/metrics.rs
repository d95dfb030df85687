//! What a scrape shows of the machine and of this process.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::thread;
use std::time::{Duration, Instant};

use barograph::Telemetry;
use barograph_instrumentation_system::SystemMetrics;
use barograph_instrumentation_system::semconv::{METRICS, SCOPE};

#[test]
fn every_metric_is_on_the_page_with_its_name_kind_and_description() {
    let (telemetry, _system) = start();
    // All but one are there at once.
    let page = telemetry.scrape().unwrap();
    for metric in METRICS.iter().filter(|metric| metric.name != "system.cpu") {
        assert!(
            page.contains(&format!("# TYPE {} ", metric.scraped_name().unwrap())),
            "{} is not in\n{page}",
            metric.name
        );
    }

    let page = scrape_until(&telemetry, |page| page.contains("system_cpu_percent"));
    for metric in METRICS {
        let name = metric.scraped_name().unwrap();
        assert!(page.contains(&format!("# HELP {name} {}\n", metric.description)), "{name} is not in\n{page}");
        let kind = metric.kind.as_str().trim_start_matches("observable ");
        assert!(page.contains(&format!("# TYPE {name} {kind}\n")), "{name} is no {kind} in\n{page}");
    }
    let scope = [("otel_scope_name", SCOPE), ("otel_scope_version", env!("CARGO_PKG_VERSION"))];
    assert!(value(&page, "system_cpu_percent", &scope).is_some(), "{page}");
}

#[test]
fn cpu_memory_and_disk_are_percentages() {
    let (telemetry, _system) = start();
    let page = scrape_until(&telemetry, |page| page.contains("system_cpu_percent"));
    for name in ["system_cpu_percent", "system_memory_percent", "system_disk_percent"] {
        let percent = value(&page, name, &[]).unwrap();
        assert!((0.0..=100.0).contains(&percent), "{name} {percent}");
    }
}

#[test]
fn the_process_is_this_one() {
    let (telemetry, _system) = start();
    let page = telemetry.scrape().unwrap();
    let resident = value(&page, "process_resident_memory_bytes", &[]);
    assert!(resident > Some(1e6) && resident < Some(1e10), "{resident:?}");
    let files = value(&page, "process_open_file_descriptors", &[]);
    assert!(files >= Some(3.0) && files < Some(1000.0), "{files:?}");
    // This one, the test runner's, and the one that reads.
    let threads = value(&page, "process_threads_count", &[]);
    assert!(threads >= Some(2.0) && threads < Some(1000.0), "{threads:?}");
}

#[test]
fn values_are_refreshed_between_scrapes() {
    let (telemetry, _system) = start();
    let before = value(&telemetry.scrape().unwrap(), "process_cpu_seconds_total", &[]);
    let working = Instant::now();
    while working.elapsed() < Duration::from_millis(100) {
        std::hint::spin_loop();
    }
    scrape_until(&telemetry, |page| value(page, "process_cpu_seconds_total", &[]) > before);
}

#[test]
fn nothing_is_left_of_metrics_that_were_dropped() {
    let (telemetry, system) = start();
    assert!(telemetry.scrape().unwrap().contains("process_threads_count"));
    drop(system);
    let page = telemetry.scrape().unwrap();
    for metric in METRICS {
        assert!(!page.contains(&metric.scraped_name().unwrap()), "{} is still in\n{page}", metric.name);
    }
}

fn start() -> (Telemetry, SystemMetrics) {
    let telemetry = Telemetry::builder("test").without_endpoint().start().unwrap();
    let system = SystemMetrics::new(telemetry.meter_provider());
    (telemetry, system)
}

fn scrape_until(telemetry: &Telemetry, condition: impl Fn(&str) -> bool) -> String {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let page = telemetry.scrape().unwrap();
        if condition(&page) {
            return page;
        }
        assert!(Instant::now() < deadline, "waited 20 s for\n{page}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The value of the first series of that name that has these labels.
fn value(page: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    page.lines().find_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let found = series.strip_prefix(name)?.strip_prefix('{')?;
        let has = |&(key, value): &(&str, &str)| found.contains(&format!("{key}=\"{value}\""));
        labels.iter().all(has).then(|| value.parse().ok())?
    })
}
