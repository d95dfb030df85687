//! Beside the exporter that everybody has: what opentelemetry-prometheus gets right, Barograph shows as well, sample by
//! sample.
//!
//! The instruments keep away from what it gets wrong or leaves out: names that collide or end with a suffix, keys with
//! other characters, `le`, and exponential histograms. What the two mean to differ in is left out: the pipeline's own metrics,
//! and `target_info`, which both make from resources of their own.

use std::collections::BTreeMap;

use barograph::Telemetry;
use barograph::opentelemetry::metrics::MeterProvider;
use barograph::opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Encoder, Registry, TextEncoder};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;

use crate::case::is_own;
use crate::parser::{self, Format, LabelSet, Value};
use crate::properties::holds_for;

/// What is recorded into both.
#[derive(Clone, Debug)]
struct Instrument {
    name: String,
    unit: &'static str,
    description: String,
    kind: usize,
    boundaries: Vec<f64>,
    points: Vec<(BTreeMap<String, String>, Vec<f64>)>,
}

fn instruments() -> impl Strategy<Value = Vec<Instrument>> {
    let units = select(vec!["", "s", "ms", "By", "KiBy", "m", "V", "J", "Cel", "Hz", "%", "By/s", "{thing}", "d"]);
    let keys = "[a-z]{1,3}(_[a-z]{1,3})?".prop_filter("a label of its own", |key| key != "le");
    let points = vec((btree_map(keys, ".{1,6}", 0..4), vec(any::<f64>(), 1..4)), 1..5);
    let boundaries = vec(any::<f64>(), 0..6).prop_map(|mut bounds| {
        bounds.retain(|bound| bound.is_finite());
        bounds.sort_by(f64::total_cmp);
        bounds.dedup_by(|a, b| a == b);
        bounds
    });
    let instrument = ("[a-z]{2,4}([._][a-z]{2,4}){0,2}", units, ".{0,12}", 0..KINDS, boundaries, points).prop_map(
        |(name, unit, description, kind, boundaries, points)| Instrument {
            name,
            unit,
            description,
            kind,
            boundaries,
            points,
        },
    );
    vec(instrument, 1..6).prop_map(|mut instruments| {
        // No two of one name.
        instruments.iter_mut().enumerate().for_each(|(number, instrument)| {
            instrument.name = format!("{}.n{number}", instrument.name);
        });
        instruments
    })
}

/// Counters, up-down counters, gauges and histograms of every number type.
const KINDS: usize = 9;

fn record(provider: &dyn MeterProvider, instruments: &[Instrument]) {
    let meter = provider.meter_with_scope(InstrumentationScope::builder("m").with_version("1.2").build());
    for Instrument { name, unit, description, kind, boundaries, points } in instruments {
        let points = points.iter().map(|(attributes, values)| {
            let attributes = attributes.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
            (attributes.collect::<Vec<_>>(), values)
        });
        let (name, unit, description, boundaries) = (name.clone(), *unit, description.clone(), boundaries.clone());
        macro_rules! record {
            ($build:ident, $record:ident, $value:ident => $number:expr $(, $boundaries:expr)?) => {{
                let builder = meter.$build(name).with_unit(unit).with_description(description);
                let instrument = builder$(.with_boundaries($boundaries))?.build();
                points.for_each(|(attributes, values)| {
                    values.iter().for_each(|&$value| instrument.$record($number, &attributes));
                });
            }};
        }
        match kind {
            0 => record!(u64_counter, add, value => value.to_bits() >> 3),
            1 => record!(f64_counter, add, value => value.abs()),
            2 => record!(i64_up_down_counter, add, value => value.to_bits().cast_signed()),
            3 => record!(f64_up_down_counter, add, value => value),
            4 => record!(u64_gauge, record, value => value.to_bits()),
            5 => record!(i64_gauge, record, value => value.to_bits().cast_signed()),
            6 => record!(f64_gauge, record, value => value),
            7 => record!(u64_histogram, record, value => value.to_bits() >> 8, boundaries),
            _ => record!(f64_histogram, record, value => value, boundaries),
        }
    }
}

/// Every series of a page; numbers as their bits.
fn series(page: &str) -> BTreeMap<(String, LabelSet), Vec<u64>> {
    let families = parser::parse(Format::Text004, page.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{page}"));
    let mut series = BTreeMap::new();
    for family in families.iter().filter(|family| !is_own(family) && family.name != "target_info") {
        for point in &family.points {
            let value = match &point.value {
                Value::Number(number) => vec![number.value.to_bits()],
                Value::Histogram { buckets, totals } => {
                    let buckets = buckets.iter().flat_map(|(bound, count)| [bound.to_bits(), *count]);
                    buckets.chain(totals.iter().map(|(sum, _)| sum.value.to_bits())).collect()
                }
                Value::Native(_) => panic!("text has no native histograms"),
            };
            let mut labels = point.labels.clone();
            labels.sort();
            series.insert((format!("{} {}", family.kind, family.name), labels), value);
        }
    }
    series
}

#[test]
fn what_opentelemetry_prometheus_shows_right_is_shown_alike() {
    holds_for(&instruments(), 60, |instruments| {
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter().with_registry(registry.clone()).build().unwrap();
        let theirs = SdkMeterProvider::builder().with_reader(exporter).build();
        record(&theirs, &instruments);
        let mut page = Vec::new();
        TextEncoder::new().encode(&registry.gather(), &mut page).unwrap();
        let theirs = series(std::str::from_utf8(&page).unwrap());

        let ours = Telemetry::builder("differential").without_endpoint().without_self_metrics().start().unwrap();
        record(ours.meter_provider(), &instruments);
        let ours = series(&ours.scrape().unwrap());
        assert!(!theirs.is_empty() || ours.is_empty());
        assert_eq!(ours, theirs);
    });
}
