//! The `prometheus` crate: vectors of metrics with labels by position.

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, TextEncoder};

use crate::ours::Scrape;
use crate::workload::{BOUNDS, INSTRUMENTS, Set, Workload};

pub(super) fn scraper(workload: &Workload) -> Scrape {
    let registry = Registry::new();
    for instrument in 0..INSTRUMENTS {
        let counters =
            IntCounterVec::new(Opts::new(format!("bench_counter_{instrument}_total"), "Counted."), workload.keys())
                .expect("valid names");
        let histograms = HistogramVec::new(
            HistogramOpts::new(format!("bench_histogram_{instrument}"), "Measured.").buckets(BOUNDS.to_vec()),
            workload.keys(),
        )
        .expect("valid names");
        registry.register(Box::new(counters.clone())).expect("a new name");
        registry.register(Box::new(histograms.clone())).expect("a new name");
        for Set { values, count, durations } in workload.sets() {
            counters.with_label_values(&values).inc_by(count);
            let histogram = histograms.with_label_values(&values);
            durations.into_iter().for_each(|duration| histogram.observe(duration));
        }
    }
    let mut page = String::new();
    Box::new(move |sink| {
        page.clear();
        TextEncoder::new().encode_utf8(&registry.gather(), &mut page).expect("valid families");
        sink(page.as_bytes());
    })
}
