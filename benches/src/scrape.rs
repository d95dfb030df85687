//! One scrape: from what was recorded to the last byte of the page.

use std::hint::black_box;
use std::time::Instant;

use crate::check::check;
use crate::peers::{ON_OUR_PAGE, PEERS};
use crate::table::{Contestant, Table};
use crate::workload::Workload;

pub(crate) fn measure(workload: &Workload) -> String {
    let contestants = PEERS.into_iter().chain(ON_OUR_PAGE).map(|(name, prepare)| {
        let mut scrape = prepare(workload);
        let mut page = Vec::new();
        scrape(&mut |piece| page.extend_from_slice(piece));
        // The SDK alone makes no page.
        let size = (!page.is_empty()).then_some(page.len());
        if size.is_some() {
            check(name, &page, workload);
        }
        Contestant::new(name, size, move || {
            let mut length = 0;
            let start = Instant::now();
            scrape(&mut |piece| length += black_box(piece).len());
            let time = start.elapsed();
            // Numbers of series that SDKs count of themselves may grow by a digit, but not more.
            assert!(length.abs_diff(size.unwrap_or_default()) < 1_000, "{name}: {length} bytes, {size:?} at first");
            time
        })
    });
    let table = Table { rounds: workload.rounds, per_round: 1, unit: ("ms", 1e3), references: &[("ours", 0)] };
    format!(
        "### {}: {} lines, {} rounds\n\n{}",
        workload.name,
        workload.lines(),
        workload.rounds,
        table.measure(contestants.collect())
    )
}
