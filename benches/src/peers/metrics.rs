//! The `metrics` façade with its exporter for Prometheus.

use metrics::{Label, counter, histogram, with_local_recorder};
use metrics_exporter_prometheus::PrometheusBuilder;

use crate::ours::Scrape;
use crate::workload::{BOUNDS, INSTRUMENTS, Set, Workload};

pub(super) fn scraper(workload: &Workload) -> Scrape {
    let recorder = PrometheusBuilder::new().set_buckets(&BOUNDS).expect("there are buckets").build_recorder();
    let handle = recorder.handle();
    with_local_recorder(&recorder, || {
        for instrument in 0..INSTRUMENTS {
            for Set { values, count, durations } in workload.sets() {
                let labels: Vec<Label> =
                    workload.keys().iter().zip(values).map(|(key, value)| Label::new(*key, value)).collect();
                counter!(format!("bench_counter_{instrument}_total"), labels.clone()).increment(count);
                let histogram = histogram!(format!("bench_histogram_{instrument}"), labels);
                durations.into_iter().for_each(|duration| histogram.record(duration));
            }
        }
    });
    // It keeps every value until somebody sorts them into buckets; in a service its upkeep does so every few seconds.
    handle.run_upkeep();
    let mut page = Vec::new();
    Box::new(move |sink| {
        page.clear();
        handle.render_to_write(&mut page).expect("a buffer takes everything");
        sink(&page);
    })
}
