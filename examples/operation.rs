//! A function measured from one declaration: its calls and how they ended, how long they took, how many are in progress.
//!
//! ```text
//! cargo run --example operation
//! ```
//!
//! Look at the series that begin with `cache_lookup_`: eight calls with `outcome="success"`, two with `error`, one each
//! `cancelled` and with `panic`, all of them timed, and `cache_lookup_active_calls` back at 0.

#![expect(clippy::print_stdout, clippy::panic, reason = "an example talks to a person, and shows a panic")]

use std::error::Error;
use std::future::pending;
use std::panic::catch_unwind;
use std::thread;
use std::time::Duration;

use barograph::{MeterExt, OperationSpec, Telemetry, operation};
use tokio::time::timeout;

/// Declares `cache.lookup.calls`, `cache.lookup.duration` and `cache.lookup.active_calls`.
const LOOKUP: OperationSpec = operation!("cache.lookup", "Looks a key up in the cache.");

fn find(key: u64) -> Result<u64, String> {
    thread::sleep(Duration::from_millis(key));
    if key % 5 == 4 { Err(format!("{key} is not there")) } else { Ok(key * key) }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let telemetry = Telemetry::builder("cache").without_endpoint().without_self_metrics().start()?;
    let lookup = telemetry.meter("cache").operation(&LOOKUP);

    for key in 0..10 {
        match lookup.run(|| find(key)) {
            Ok(value) => println!("{key}: {value}"),
            Err(error) => println!("{error}"),
        }
    }
    let endless = lookup.instrument(pending::<Result<u64, String>>());
    if timeout(Duration::from_millis(20), endless).await.is_err() {
        println!("gave up");
    }
    let broken = || -> Result<u64, String> { panic!("a bug in the cache") };
    if catch_unwind(std::panic::AssertUnwindSafe(|| lookup.run(broken))).is_err() {
        println!("survived a panic");
    }

    print!("{}", telemetry.scrape()?);
    Ok(())
}
