//! What holds for every pipeline and everything recorded into it, whatever the names, labels and values are.
//!
//! `PROPTEST_CASES=5000 cargo test --test suite properties` looks further. A failure says the seed that shows it again.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use barograph::opentelemetry::KeyValue;
use barograph::opentelemetry::metrics::{AsyncInstrument, MeterProvider};
use barograph::{Telemetry, TranslationStrategy};
use http_body_util::BodyExt;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use tower::ServiceExt;

use crate::case::{self, PROTOBUF, assert_order, block_on, own, scrape};
use crate::parser::{self, Format, Point, Value};

/// Runs a property over random cases: `cases` of them unless `PROPTEST_CASES` says otherwise.
pub(crate) fn holds_for<S: Strategy>(strategy: &S, cases: u32, property: impl Fn(S::Value)) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("PROPTEST_RNG_SEED").unwrap_or_else(|| RandomState::new().hash_one(0));
    let config = Config {
        cases: number("PROPTEST_CASES").map_or(cases, |cases| cases as u32),
        // Nothing is written next to the sources; the seed is in the message.
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed),
        max_shrink_time: 20_000,
        ..Config::default()
    };
    let result = TestRunner::new(config).run(strategy, |case| {
        property(case);
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}\nPROPTEST_RNG_SEED={seed} shows it again");
    }
}

#[test]
fn every_page_says_what_was_recorded_and_nothing_else_in_every_format() {
    holds_for(&case::cases(), 40, |case| case.check());
}

#[test]
fn a_body_is_the_page_in_frames_of_bounded_size() {
    let shapes = (1_000..8_000_usize, prop_oneof![4 => 1..60_usize, 1 => 1..2_000_usize], any::<bool>(), 0..4_usize);
    holds_for(&shapes, 4, |(points, longest, is_histogram, spike)| {
        let telemetry = Telemetry::builder("streams").without_endpoint().without_self_metrics().start().unwrap();
        let meter = telemetry.meter("m");
        let counter = meter.u64_counter("counted").build();
        let histogram = meter.f64_histogram("measured").with_boundaries((0..50).map(f64::from).collect()).build();
        for point in 0..points.min(1_900) {
            let attributes = [KeyValue::new("k", format!("{point}{}", "x".repeat(point * 7 % longest)))];
            counter.add(point as u64, &attributes);
            if is_histogram {
                histogram.record(point as f64 / 100.0, &attributes);
            }
        }
        // Lines that are longer than a chunk.
        for number in 0..spike {
            counter.add(1, &[KeyValue::new("k", "long".repeat(50_000 * (number + 1)))]);
        }
        let service = telemetry.scrape_service();
        for accept in ["", "application/openmetrics-text;version=1.0.0", PROTOBUF] {
            let request = http::Request::get("/metrics").header("accept", accept).body(()).unwrap();
            let frames: Vec<Vec<u8>> = block_on(async {
                let mut body = service.clone().oneshot(request).await.unwrap().into_body();
                let mut frames = Vec::new();
                while let Some(frame) = body.frame().await {
                    frames.push(frame.unwrap().into_data().unwrap().to_vec());
                }
                frames
            });
            let page = frames.concat();
            let line = match accept {
                PROTOBUF => 300_000 * spike,
                _ => page.split(|&byte| byte == b'\n').map(<[u8]>::len).max().unwrap(),
            };
            for frame in &frames {
                // A line leaves whole, after what was not enough for a chunk.
                let most = if line > 24 * 1024 { MAX_FRAME + line } else { MAX_FRAME };
                let most = if accept == PROTOBUF { most.max(MAX_FRAME + KEPT) } else { most };
                assert!(!frame.is_empty() && frame.len() <= most, "{} of {}", frame.len(), page.len());
            }
            assert!(page.len() < 4 * MAX_FRAME || frames.len() > 2, "{} frames of {}", frames.len(), page.len());
            if accept.is_empty() {
                assert_eq!(String::from_utf8(page).unwrap(), telemetry.scrape().unwrap());
            }
        }
    });
}

/// What a frame holds at most, unless a line is longer.
const MAX_FRAME: usize = 160 * 1024;

/// A family of protobuf is kept until its length is known, if it is no longer than this.
const KEPT: usize = 256 * 1024;

/// A family of many points.
#[derive(Clone, Debug)]
struct Large {
    /// How many there are at first, and how many come before each other scrape.
    points: usize,
    added: Vec<usize>,
    /// The key of a point is one of these.
    keys: Vec<&'static str>,
    scope_info: bool,
    is_observable: bool,
    asks: Vec<usize>,
}

fn large() -> impl Strategy<Value = Large> {
    let keys = prop::sample::subsequence(vec!["a.z", "a_b", "k", "le", "mark", "é", "1", "A"], 1..5);
    let flags = (any::<bool>(), any::<bool>());
    let scrapes =
        (prop::collection::vec(prop_oneof![2 => Just(0), 1 => 1..40_usize], 6), prop::collection::vec(0..5_usize, 2));
    (250..700_usize, scrapes, keys, flags).prop_map(|(points, (added, asks), keys, (scope_info, is_observable))| {
        Large { points, added, keys, scope_info, is_observable, asks }
    })
}

impl Large {
    fn attributes(&self, point: usize) -> Vec<KeyValue> {
        let key = self.keys[point % self.keys.len()];
        vec![KeyValue::new(key, (point * 7_919 % 10_007).to_string()), KeyValue::new("all", "the same")]
    }

    fn check(&self) {
        let mut builder = Telemetry::builder("large")
            .without_endpoint()
            .with_translation_strategy(TranslationStrategy::NoTranslation);
        if !self.scope_info {
            builder = builder.without_scope_info();
        }
        let telemetry = builder.start().unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let meters = ["first", "second"].map(|name| telemetry.meter_provider().meter(name));
        let gauges = meters.each_ref().map(|meter| meter.u64_gauge("large").build());
        if self.is_observable {
            let (case, count) = (self.clone(), Arc::clone(&count));
            let callback = move |observer: &dyn AsyncInstrument<u64>| {
                (0..count.load(Ordering::Relaxed)).for_each(|n| observer.observe(n as u64, &case.attributes(n)));
            };
            let _gauge = meters[0].u64_observable_gauge("large").with_callback(callback).build();
        }
        let service = telemetry.scrape_service();
        let mut dropped: Option<(f64, f64)> = None;
        // Two scrapers, one after the other.
        for (scrape_number, added) in std::iter::once(&self.points).chain(&self.added).enumerate() {
            let before = count.fetch_add(*added, Ordering::Relaxed);
            let now = before + added;
            for point in before..now {
                if !self.is_observable {
                    gauges[0].record(point as u64, &self.attributes(point));
                }
                // Each third point of the other meter has the labels of one of this, if no scope tells them apart.
                let other = if point % 3 == 0 { point } else { point + 5_000 };
                gauges[1].record(1_000_000 + point as u64, &self.attributes(other));
            }
            for _ in 0..3 {
                let (format, accept) = ASKS[self.asks[scrape_number % self.asks.len()]];
                let page = scrape(&service, accept);
                let families = parser::parse(format, &page).unwrap();
                let context = || format!("{format:?}, {now} points, scrape {scrape_number}");
                assert_order(&families, &context);
                let family = families.iter().find(|family| family.name == "large").unwrap();
                let alike = if self.scope_info { 0 } else { now.div_ceil(3) };
                assert_eq!(family.points.len(), 2 * now - alike, "{}", context());
                let values: std::collections::BTreeSet<u64> = family.points.iter().map(number).collect();
                let seconds = (0..now).filter(|point| self.scope_info || point % 3 != 0);
                let expected = (0..now).chain(seconds.map(|point| point + 1_000_000)).map(|value| value as u64);
                assert_eq!(values, expected.collect(), "{}", context());
                // What the page before dropped shows on this one.
                let shown = own(&families, "dropped");
                assert!(dropped.is_none_or(|(shown_before, alike)| shown - shown_before == alike), "{}", context());
                dropped = Some((shown, alike as f64));
            }
        }
    }
}

const ASKS: [(Format, &str); 5] = [
    (Format::Text004, ""),
    (Format::Text100, "text/plain;version=1.0.0;escaping=allow-utf-8"),
    (Format::Text100, "text/plain;version=1.0.0;escaping=dots"),
    (Format::OpenMetrics, "application/openmetrics-text;version=1.0.0;escaping=values"),
    (Format::Protobuf, PROTOBUF),
];

fn number(point: &Point) -> u64 {
    match &point.value {
        Value::Number(number) => number.value as u64,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_large_family_is_sorted_whole_and_without_duplicates_in_every_scrape() {
    holds_for(&large(), 8, |case| case.check());
}

#[test]
fn of_an_observables_points_with_the_same_labels_the_same_one_is_shown_in_every_scrape() {
    let telemetry = Telemetry::builder("alike").without_endpoint().start().unwrap();
    let callback = |observer: &dyn AsyncInstrument<u64>| {
        let keys = ["a.b", "a_b", "a-b", "a..b", "a/b"];
        keys.iter().zip(1..).for_each(|(key, value)| observer.observe(value, &[KeyValue::new(*key, "1")]));
        // These differ in nothing but the type of the value.
        observer.observe(6, &[KeyValue::new("a_b", 1)]);
    };
    let _counter = telemetry.meter("m").u64_observable_counter("alike").with_callback(callback).build();
    let service = telemetry.scrape_service();
    for scrape_number in 0..20 {
        let families = parser::parse(Format::Text004, &scrape(&service, "")).unwrap();
        let family = families.iter().find(|family| family.name == "alike_total").unwrap();
        assert_eq!(family.points.iter().map(number).collect::<Vec<_>>(), [3], "scrape {scrape_number}");
    }
}
