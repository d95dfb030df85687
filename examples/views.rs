//! A legacy name and other buckets, without touching the component.
//!
//! ```text
//! cargo run --example views
//! ```
//!
//! The test watcher is used as it is. Look at `legacy_test_runs_total`, the name that an old dashboard asks for, and at
//! the three buckets of `test_watcher_processing_duration_seconds` in place of its eight. The file counter is gone.

#![expect(clippy::print_stdout, reason = "an example talks to a person")]

use std::time::Duration;

use barograph::{Telemetry, View};
use barograph_instrumentation_test_watcher::TestWatcherMetrics;
use barograph_instrumentation_test_watcher::semconv::TestStatus;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let telemetry = Telemetry::builder("views")
        .without_endpoint()
        .with_view(View::of("test_watcher.tests_run").with_name("legacy_test_runs"))
        .with_view(View::of("*.processing_duration").in_scope("test_watcher").with_buckets([1.0, 10.0, 60.0]))
        .with_view(View::of("test_watcher.files_processed").dropped())
        .start()?;
    let watcher = TestWatcherMetrics::new(telemetry.meter_provider());
    // A view that matches nothing, or gives two metrics one name, ends the program here and says which.
    telemetry.verify()?;

    watcher.record_file_processed();
    watcher.record_test_run(TestStatus::Pass);
    watcher.time_processing().stop();

    let page = telemetry.scrape()?;
    let shown = ["legacy_test_runs", "test_watcher_processing_duration", "test_watcher_files_processed"];
    for line in page.lines().filter(|line| shown.iter().any(|name| line.starts_with(name))) {
        println!("{line}");
    }
    telemetry.shutdown(Duration::from_secs(5))?;
    Ok(())
}
