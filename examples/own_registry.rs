//! An application that has a `prometheus::Registry` already, in both directions.
//!
//! ```text
//! cargo run --example own_registry
//! ```
//!
//! First Barograph serves: look at `legacy_jobs_total` of the registry beside `modern_jobs_total` in one scrape. Then
//! the application serves its registry as it always has: look at `modern_jobs_total` in what its own encoder writes.
//!
//! One registry goes in one direction. Given for both, its metrics would come back to where they came from; `start`
//! says so instead.

#![expect(clippy::print_stdout, reason = "an example talks to a person")]

use std::time::Duration;

use barograph::{CounterSpec, MeterExt, Telemetry};
use prometheus::{IntCounter, Registry, TextEncoder};

const JOBS: CounterSpec = CounterSpec::new("modern.jobs", "{job}", "Jobs, counted through OpenTelemetry.");

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let registry = Registry::new();
    let legacy = IntCounter::new("legacy_jobs_total", "Jobs, counted through the prometheus crate.")?;
    registry.register(Box::new(legacy.clone()))?;
    legacy.inc_by(2);

    println!("== The registry's metrics in our scrape ==");
    let telemetry = Telemetry::builder("merged").without_endpoint().with_registry(registry.clone()).start()?;
    telemetry.meter("jobs").counter(&JOBS).add(3, ());
    telemetry.verify()?;
    show(&telemetry.scrape()?);
    telemetry.shutdown(Duration::from_secs(5))?;

    println!("== Our metrics in the application's registry ==");
    let telemetry = Telemetry::builder("exported").without_endpoint().export_to_registry(registry.clone()).start()?;
    telemetry.meter("jobs").counter(&JOBS).add(3, ());
    telemetry.verify()?;
    show(&TextEncoder::new().encode_to_string(&registry.gather())?);
    telemetry.shutdown(Duration::from_secs(5))?;

    println!("== One registry in both directions ==");
    let both = Telemetry::builder("both").with_registry(registry.clone()).export_to_registry(registry).start();
    if let Err(error) = both {
        println!("{error}");
    }
    Ok(())
}

fn show(page: &str) {
    for line in page.lines().filter(|line| line.contains("_jobs_total")) {
        println!("{line}");
    }
}
