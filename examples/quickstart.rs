//! The ten-line program.
//!
//! ```text
//! cargo run --example quickstart
//! curl http://127.0.0.1:9464/metrics
//! ```
//!
//! Look at `worker_jobs_total`: `done` is 1, and `failed` is there as 0, so that a rate exists before the first failure.

use barograph::{CounterSpec, MeterExt, StartError, Telemetry, attribute};

attribute! { enum Status: "status" { Done = "done", Failed = "failed" } }
const JOBS: CounterSpec<Status> = CounterSpec::new("worker.jobs", "{job}", "Jobs that ended.");

fn main() -> Result<(), StartError> {
    let telemetry = Telemetry::builder("worker").start()?;
    let jobs = telemetry.meter("worker").counter(&JOBS);
    jobs.add(1, Status::Done); // wherever a job ends
    loop {
        std::thread::park(); // the endpoint answers until the process ends
    }
}
