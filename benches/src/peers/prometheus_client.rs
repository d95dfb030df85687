//! The `prometheus-client` crate: families of metrics by a label set of any type. Its text is OpenMetrics.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::ours::Scrape;
use crate::workload::{BOUNDS, INSTRUMENTS, Set, Value, Workload};

type Labels = Vec<(&'static str, Value)>;

pub(super) fn scraper(workload: &Workload) -> Scrape {
    let mut registry = Registry::default();
    for instrument in 0..INSTRUMENTS {
        let counters = Family::<Labels, Counter>::default();
        let histograms = Family::<Labels, Histogram>::new_with_constructor(|| Histogram::new(BOUNDS));
        registry.register(format!("bench_counter_{instrument}"), "Counted", counters.clone());
        registry.register(format!("bench_histogram_{instrument}"), "Measured", histograms.clone());
        for Set { values, count, durations } in workload.sets() {
            let labels: Labels = workload.keys().iter().copied().zip(values).collect();
            counters.get_or_create(&labels).inc_by(count);
            let histogram = histograms.get_or_create(&labels);
            durations.into_iter().for_each(|duration| histogram.observe(duration));
        }
    }
    let mut page = String::new();
    Box::new(move |sink| {
        page.clear();
        encode(&mut page, &registry).expect("a string takes everything");
        sink(page.as_bytes());
    })
}
