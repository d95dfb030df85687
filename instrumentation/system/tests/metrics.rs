//! What a scrape shows of the machine and of this process.

#![cfg(target_os = "linux")]

use std::time::{Duration, Instant};

use barograph::testing::TestTelemetry;
use barograph_instrumentation_system::SystemMetrics;
use barograph_instrumentation_system::semconv::{METRICS, SCOPE};

#[test]
fn every_metric_is_on_the_page_with_its_name_kind_and_description() {
    let (telemetry, _system) = start();
    // All but one are there at once.
    for metric in METRICS.iter().filter(|metric| metric.name != "system.cpu") {
        telemetry.metric(metric.name).present();
    }
    telemetry.eventually(|telemetry| telemetry.assert_specs(SCOPE, METRICS));
    let scope = [("otel_scope_name", SCOPE), ("otel_scope_version", env!("CARGO_PKG_VERSION"))];
    telemetry.metric("system_cpu_percent").with(scope).present();
}

#[test]
fn cpu_memory_and_disk_are_percentages() {
    let (telemetry, _system) = start();
    telemetry.metric("system.cpu").eventually(|cpu| cpu.present());
    for name in ["system.cpu", "system.memory", "system.disk"] {
        let percent = telemetry.metric(name).try_value().unwrap();
        assert!((0.0..=100.0).contains(&percent), "{name} {percent}");
    }
}

#[test]
fn the_process_is_this_one() {
    let (telemetry, _system) = start();
    let resident = telemetry.metric("process.resident_memory").try_value();
    assert!(resident > Some(1e6) && resident < Some(1e10), "{resident:?}");
    let files = telemetry.metric("process.open_file_descriptors").try_value();
    assert!(files >= Some(3.0) && files < Some(1000.0), "{files:?}");
    // This one, the test runner's, and the one that reads.
    let threads = telemetry.metric("process.threads_count").try_value();
    assert!(threads >= Some(2.0) && threads < Some(1000.0), "{threads:?}");
}

#[test]
fn values_are_refreshed_between_scrapes() {
    let (telemetry, _system) = start();
    let before = telemetry.metric("process.cpu").try_value();
    let working = Instant::now();
    while working.elapsed() < Duration::from_millis(100) {
        std::hint::spin_loop();
    }
    telemetry.metric("process.cpu").eventually(|cpu| assert!(cpu.try_value() > before));
}

#[test]
fn nothing_is_left_of_metrics_that_were_dropped() {
    let (telemetry, system) = start();
    telemetry.metric("process.threads_count").present();
    drop(system);
    for metric in METRICS {
        telemetry.metric(metric.name).absent();
    }
    assert_eq!(telemetry.page(), "");
}

fn start() -> (TestTelemetry, SystemMetrics) {
    let telemetry = TestTelemetry::new().with_deadline(Duration::from_secs(20));
    let system = SystemMetrics::new(telemetry.provider());
    (telemetry, system)
}
