//! A plain synchronous program: no async runtime, no `async` anywhere.
//!
//! ```text
//! cargo run --example no_runtime
//! ```
//!
//! It sorts lists for two seconds, then shows what a scrape of it answers. Look at `sorter_duration_seconds_bucket`:
//! the buckets fit seconds although nobody chose them, because the unit says what is measured.

#![expect(clippy::print_stdout, reason = "an example talks to a person")]

use std::time::{Duration, Instant};

use barograph::{CounterSpec, HistogramSpec, MeterExt, Telemetry};

const LISTS: CounterSpec = CounterSpec::new("sorter.lists", "{list}", "Lists sorted.");
const DURATION: HistogramSpec = HistogramSpec::new("sorter.duration", "s", "Time spent sorting a list.");

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let telemetry = Telemetry::builder("sorter").with_address("127.0.0.1:0").start()?;
    let meter = telemetry.meter("sorter");
    let (lists, duration) = (meter.counter(&LISTS), meter.histogram(&DURATION));
    telemetry.verify()?;
    if let Some(address) = telemetry.local_addr() {
        println!("curl http://{address}/metrics");
    }

    let end = Instant::now() + Duration::from_secs(2);
    let mut seed = 1_u64;
    while Instant::now() < end {
        let mut list: Vec<u64> = (0..100_000).map(|_| next(&mut seed)).collect();
        duration.start_timer(()).time(|| list.sort_unstable());
        lists.add(1, ());
    }

    println!("{}", telemetry.scrape()?);
    telemetry.shutdown(Duration::from_secs(5))?;
    Ok(())
}

/// A number that looks random: a step of Marsaglia's xorshift.
fn next(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}
