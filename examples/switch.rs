//! One program, scraped or pushed or both: the environment says which, and the series are the same.
//!
//! ```text
//! cargo run --example switch                                                      # scraped
//! OTEL_METRICS_EXPORTER=otlp cargo run --example switch                           # pushed to localhost:4318
//! OTEL_METRICS_EXPORTER=prometheus,otlp cargo run --example switch                # both
//! OTEL_METRICS_EXPORTER=otlp OTEL_EXPORTER_OTLP_PROTOCOL=grpc cargo run --example switch
//! OTEL_METRICS_EXPORTER=console OTEL_METRIC_EXPORT_INTERVAL=2000 cargo run --example switch
//! OTEL_CONFIG_FILE=examples/otel.yaml cargo run --features config-file --example switch
//! ```
//!
//! Look at the lines it begins with: every setting that takes part, and who made it. It works for ten seconds, and what it
//! has counted by then is delivered before it ends.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to a person")]

use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};

use barograph::{CounterSpec, HistogramSpec, MeterExt, Telemetry, attribute};

attribute! {
    /// How a job ended.
    pub enum Status: "status" { Done = "done", Failed = "failed" }
}
const JOBS: CounterSpec<Status> = CounterSpec::new("worker.jobs", "{job}", "Jobs that ended.");
const DURATION: HistogramSpec = HistogramSpec::new("worker.job.duration", "s", "How long jobs took.");

fn main() -> Result<(), Box<dyn Error>> {
    let telemetry = Telemetry::from_env().or_service_name("worker").start()?;
    for setting in telemetry.configuration().settings() {
        println!("{setting}");
    }
    for warning in &telemetry.configuration().warnings {
        eprintln!("warning: {warning}");
    }
    if let Some(address) = telemetry.local_addr() {
        println!("curl http://{address}/metrics");
    }

    let meter = telemetry.meter("worker");
    let (jobs, duration) = (meter.counter(&JOBS), meter.histogram(&DURATION));
    let begun = Instant::now();
    for job in 0_u64.. {
        if begun.elapsed() > Duration::from_secs(10) {
            break;
        }
        duration.start_timer(()).time(|| thread::sleep(Duration::from_millis(job % 7)));
        jobs.add(1, if job % 10 == 9 { Status::Failed } else { Status::Done });
    }
    // The last values, within five seconds or not at all.
    telemetry.shutdown(Duration::from_secs(5))?;
    Ok(())
}
