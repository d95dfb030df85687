//! The `measured` crate: vectors of metrics over a set of labels that is known beforehand, which is how it is fastest.

use std::sync::Arc;

use measured::label::{LabelGroup, LabelGroupSet, LabelGroupVisitor, LabelName};
use measured::metric::MetricFamilyEncoding;
use measured::metric::histogram::Thresholds;
use measured::metric::name::MetricName;
use measured::text::TextEncoder;
use measured::{CounterVec, HistogramVec};

use crate::ours::Scrape;
use crate::workload::{BOUNDS, INSTRUMENTS, Set, Value, Workload};

/// Its names are borrowed for ever.
const NAMES: [(&MetricName, &MetricName); INSTRUMENTS] = [
    (MetricName::from_str("bench_counter_0_total"), MetricName::from_str("bench_histogram_0")),
    (MetricName::from_str("bench_counter_1_total"), MetricName::from_str("bench_histogram_1")),
    (MetricName::from_str("bench_counter_2_total"), MetricName::from_str("bench_histogram_2")),
    (MetricName::from_str("bench_counter_3_total"), MetricName::from_str("bench_histogram_3")),
    (MetricName::from_str("bench_counter_4_total"), MetricName::from_str("bench_histogram_4")),
];

pub(super) fn scraper(workload: &Workload) -> Scrape {
    let sets: Vec<Set> = workload.sets().collect();
    let names = workload.keys().iter().map(|key| LabelName::from_str(key)).collect();
    let labels = Arc::new(Labels { names, values: workload.sets().map(|set| set.values).collect() });
    let vectors = NAMES.map(|names| {
        let counters = CounterVec::dense_with_label_set(Arc::clone(&labels));
        let histograms = HistogramVec::dense_with_label_set_and_metadata(
            Arc::clone(&labels),
            Thresholds::<{ BOUNDS.len() }>::with_buckets(BOUNDS),
        );
        for (index, Set { count, durations, .. }) in sets.iter().enumerate() {
            counters.inc_by(labels.decode_dense(index), *count);
            durations.iter().for_each(|duration| histograms.observe(labels.decode_dense(index), *duration));
        }
        (names, counters, histograms)
    });
    let mut encoder = TextEncoder::new(Vec::new());
    Box::new(move |sink| {
        encoder.writer.clear();
        for ((counter, histogram), counters, histograms) in &vectors {
            counters.collect_family_into(counter, &mut encoder).expect("a buffer takes everything");
            histograms.collect_family_into(histogram, &mut encoder).expect("a buffer takes everything");
        }
        sink(&encoder.writer);
    })
}

/// The label sets of the workload, each known by its position.
struct Labels {
    names: Vec<&'static LabelName>,
    values: Vec<Vec<Value>>,
}

/// One of them.
struct Group<'a> {
    labels: &'a Labels,
    index: usize,
}

impl LabelGroup for Group<'_> {
    fn visit_values(&self, visitor: &mut impl LabelGroupVisitor) {
        for (name, value) in self.labels.names.iter().zip(&self.labels.values[self.index]) {
            visitor.write_value(name, &value.as_ref());
        }
    }
}

impl LabelGroupSet for Labels {
    type Group<'a> = Group<'a>;
    type Unique = usize;

    fn cardinality(&self) -> Option<usize> {
        Some(self.values.len())
    }

    fn encode_dense(&self, index: usize) -> Option<usize> {
        Some(index)
    }

    fn decode_dense(&self, index: usize) -> Group<'_> {
        Group { labels: self, index }
    }

    fn encode(&self, group: Group<'_>) -> Option<usize> {
        Some(group.index)
    }

    fn decode(&self, index: &usize) -> Group<'_> {
        self.decode_dense(*index)
    }
}
