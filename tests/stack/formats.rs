//! Every format of the endpoint as its readers understand it: a real Prometheus, promtool and prometheus_client.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use barograph::opentelemetry::KeyValue;
use barograph::{Telemetry, TranslationStrategy, View};

use crate::hostile::{self, Point, Recorded};
use crate::parser::{self, Page, Parsed};
use crate::platform::Platform;
use crate::prometheus::{self, Job, Prometheus, Sample};
use crate::{UP, dto};

const PROTOBUF: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
pub(crate) const OPEN_METRICS: &str = "application/openmetrics-text;version=1.0.0";
pub(crate) const OPEN_METRICS_UTF8: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8";
pub(crate) const TEXT: &str = "text/plain;version=0.0.4";
pub(crate) const TEXT_UTF8: &str = "text/plain;version=1.0.0;escaping=allow-utf-8";

/// A way to ask for a page: as Prometheus calls it, and what it accepts then.
struct Protocol {
    name: &'static str,
    accept: &'static str,
    /// Whether names are whole.
    is_utf8: bool,
}

const PROTOCOLS: [Protocol; 5] = [
    Protocol { name: "PrometheusText0.0.4", accept: TEXT, is_utf8: false },
    Protocol { name: "PrometheusText1.0.0", accept: TEXT_UTF8, is_utf8: true },
    Protocol { name: "OpenMetricsText0.0.1", accept: "application/openmetrics-text;version=0.0.1", is_utf8: false },
    Protocol { name: "OpenMetricsText1.0.0", accept: OPEN_METRICS_UTF8, is_utf8: true },
    Protocol { name: "PrometheusProto", accept: PROTOBUF, is_utf8: false },
];

const NATIVE: &str = "PrometheusProto";

#[test]
fn five_protocols_bring_a_real_prometheus_every_sample_with_the_same_values_and_whole_labels() {
    let Some(bin) = prometheus::require() else { return };
    let directory = tempfile::tempdir().unwrap();
    let hostile = hostile::start(TranslationStrategy::NoTranslation);
    assert!(hostile.points.len() > 150, "there is much to lose: {}", hostile.points.len());
    let jobs = PROTOCOLS.map(|Protocol { name, .. }| Job::new(name, hostile.address()).asking_for(name));
    let prometheus = Prometheus::start_with(&bin, directory.path(), &jobs, "2s", &["native-histograms"]);

    let mut of_text = None;
    for Protocol { name: job, accept, is_utf8 } in PROTOCOLS {
        assert_everything_is_stored(&prometheus, job, samples_of(&prometheus::page(hostile.address(), accept), job));
        let stored = of_points(prometheus.query(&format!("{{job=\"{job}\", id!=\"\"{}}}", without_native(job))));
        let text = of_text.get_or_insert_with(|| stored.clone());
        for point in hostile.points.iter().filter(|point| job != NATIVE || !point.is_exponential) {
            let found = &stored[&point.id];
            assert_recorded(point, found, is_open_metrics(job));
            for (series, value) in found {
                assert_eq!(value.to_bits(), text[&point.id][series].to_bits(), "{job}: {series:?} of {point:?}");
            }
        }
        if is_utf8 {
            let found = prometheus.query(&format!("{{job=\"{job}\", id!=\"\"}}"));
            hostile.points.iter().for_each(|point| assert_is_whole(point, &found));
        }
    }
    for point in hostile.points.iter().filter(|point| point.is_exponential) {
        let found = prometheus.query_histograms(&format!("{{job=\"{NATIVE}\", id=\"{}\"}}", point.id));
        let Recorded::Histogram { count, sum, .. } = point.recorded else { panic!("{point:?} is a histogram") };
        assert_eq!(found.iter().map(|found| (found.count, found.sum)).collect::<Vec<_>>(), [(count, sum)], "{point:?}");
    }
}

/// Which series of a job are plain numbers.
fn without_native(job: &str) -> &'static str {
    if job == NATIVE { ", buckets!=\"exponential\"" } else { "" }
}

fn is_open_metrics(job: &str) -> bool {
    job.starts_with("OpenMetrics")
}

#[test]
fn every_escaping_scheme_loses_no_sample_in_a_real_prometheus_and_values_can_be_taken_back() {
    let Some(bin) = prometheus::require() else { return };
    let directory = tempfile::tempdir().unwrap();
    let hostile = hostile::start(TranslationStrategy::NoTranslation);
    let protocols = [("PrometheusText1.0.0", "text/plain"), ("OpenMetricsText1.0.0", "application/openmetrics-text")];
    let cases = ["allow-utf-8", "underscores", "dots", "values"].map(|scheme| {
        protocols.map(|(protocol, media_type)| {
            let job = format!("{protocol} {scheme}");
            let accept = format!("{media_type};version=1.0.0;escaping={scheme}");
            (Job::new(job.as_str(), hostile.address()).asking_for(protocol).escaping(scheme), job, accept)
        })
    });
    let jobs: Vec<Job> = cases.iter().flatten().map(|(job, ..)| job.clone()).collect();
    let prometheus = Prometheus::start_with(&bin, directory.path(), &jobs, "2s", &[]);

    for (_, job, accept) in cases.iter().flatten() {
        assert_everything_is_stored(&prometheus, job, samples_of(&prometheus::page(hostile.address(), accept), job));
        let stored = of_points(prometheus.query(&format!("{{job=\"{job}\", id!=\"\"}}")));
        hostile.points.iter().for_each(|point| assert_recorded(point, &stored[&point.id], is_open_metrics(job)));
    }
    for (protocol, _) in protocols {
        let series = |scheme: &str| {
            let found = prometheus.query(&format!("{{job=\"{protocol} {scheme}\", id!=\"\"}}"));
            found.into_iter().map(|sample| without(sample.labels, "job")).collect::<Vec<_>>()
        };
        let whole = series("allow-utf-8");
        let names: BTreeSet<&str> =
            whole.iter().flat_map(|labels| labels.keys().chain([&labels["__name__"]])).map(String::as_str).collect();
        // A name that looks escaped and is not is left alone by the scheme, so nobody can know.
        let taken_back = |name: &str| if names.contains(name) { name.to_owned() } else { unescaped(name) };
        let values: BTreeSet<BTreeMap<String, String>> = series("values")
            .into_iter()
            .map(|mut labels| {
                let name = labels.remove("__name__").unwrap();
                let (family, suffix) = split(&name);
                let mut labels: BTreeMap<_, _> =
                    labels.into_iter().map(|(key, value)| (taken_back(&key), value)).collect();
                labels.insert("__name__".to_owned(), taken_back(family) + suffix);
                labels
            })
            .collect();
        for labels in &whole {
            assert!(values.contains(labels), "{protocol}: {labels:?} is not among {:#?}", like(labels, &values));
        }
        assert_eq!(values.len(), whole.len());
    }
}

/// The series of the same point.
fn like<'a>(
    labels: &'a BTreeMap<String, String>,
    among: &'a BTreeSet<BTreeMap<String, String>>,
) -> Vec<&'a BTreeMap<String, String>> {
    among.iter().filter(|other| other.get("id") == labels.get("id")).collect()
}

/// Takes the escaping scheme `values` back: two underscores are one, a number between two of them is a code point.
fn unescaped(name: &str) -> String {
    let Some(mut rest) = name.strip_prefix("U__") else { return name.to_owned() };
    let mut whole = String::new();
    while let Some((before, after)) = rest.split_once('_') {
        whole.push_str(before);
        rest = match after.strip_prefix('_') {
            Some(after) => {
                whole.push('_');
                after
            }
            None => {
                let (number, after) = after.split_once('_').unwrap_or_else(|| panic!("{name} is not escaped"));
                let number = u32::from_str_radix(number, 16).unwrap_or_else(|_| panic!("{name}: {number}"));
                whole.push(char::from_u32(number).unwrap());
                after
            }
        };
    }
    whole + rest
}

#[test]
fn a_nul_in_a_name_or_a_key_costs_neither_the_page_nor_the_sample() {
    let Some(bin) = prometheus::require() else { return };
    let directory = tempfile::tempdir().unwrap();
    // Prometheus' readers of text take a NUL anywhere but in a value for the end of the page.
    let telemetry = Telemetry::builder("nul")
        .without_self_metrics()
        .with_address("127.0.0.1:0")
        .with_translation_strategy(TranslationStrategy::NoTranslation)
        .with_view(View::of("renamed").with_name("nul\0byte"))
        .start()
        .unwrap();
    let meter = telemetry.meter("nul");
    meter.u64_counter("renamed").build().add(3, &[KeyValue::new("id", "name")]);
    let attributes = [KeyValue::new("nul\0key", "nul\0value"), KeyValue::new("id", "key")];
    meter.u64_counter("plain").with_description("nul\0description").build().add(4, &attributes);
    let address = telemetry.local_addr().unwrap();
    let jobs = PROTOCOLS.map(|Protocol { name, .. }| Job::new(name, address).asking_for(name));
    let prometheus = Prometheus::start_with(&bin, directory.path(), &jobs, "1s", &[]);

    for Protocol { name: job, accept, .. } in PROTOCOLS {
        assert_everything_is_stored(&prometheus, job, samples_of(&prometheus::page(address, accept), job));
        let found = prometheus.query(&format!("{{job=\"{job}\", id!=\"\"}}"));
        assert_eq!(found.iter().map(|sample| sample.value).sum::<f64>(), 7.0, "{job}: {found:?}");
        assert!(found.iter().any(|sample| sample.labels.values().any(|value| value == "nul\0value")), "{found:?}");
    }
}

#[test]
fn a_strict_parser_reads_every_sample_of_our_openmetrics_and_text_pages_as_it_was_recorded() {
    let Some(python) = parser::require() else { return };
    let directory = tempfile::tempdir().unwrap();
    let platform = Platform::start(&directory.path().join("summary.json"), Duration::from_secs(60));
    let mut pages = vec![("OpenMetrics of the platform", platform_page(&platform, OPEN_METRICS), Vec::new())];
    for strategy in [TranslationStrategy::UnderscoreEscapingWithSuffixes, TranslationStrategy::NoTranslation] {
        for is_created in [false, true] {
            let hostile =
                hostile::start_with(
                    strategy,
                    |builder| {
                        if is_created { builder.with_created_series() } else { builder }
                    },
                );
            for (what, page) in hostile.pages() {
                let is_expected = is_created && what.ends_with("OpenMetrics");
                assert_eq!(page.text.contains("_created{"), is_expected, "{what}: creation is shown where asked for");
                pages.push((what, page, hostile.points.clone()));
            }
        }
    }

    let read = parser::parse(&python, &pages.iter().map(|(_, page, _)| page.clone()).collect::<Vec<_>>());
    for ((what, page, points), read) in pages.iter().zip(read) {
        let read = read.unwrap_or_else(|error| panic!("{what}: {error}"));
        let read = assert_read(what, page, read);
        let sample = |Parsed { name, mut labels, value }: Parsed| {
            labels.insert("__name__".to_owned(), name);
            Sample { labels, value }
        };
        let is_of_point = |read: &Parsed| read.labels.contains_key("id") && !read.name.ends_with("_created");
        let found = of_points(read.into_iter().filter(is_of_point).map(sample).collect());
        points.iter().for_each(|point| assert_recorded(point, &found[&point.id], what.contains("OpenMetrics")));
    }
}

/// Its page, once its metrics are there.
fn platform_page(platform: &Platform, accept: &str) -> Page {
    let end = Instant::now() + UP;
    loop {
        let page = Page::open_metrics(prometheus::page(platform.address(), accept));
        if page.samples() > 100 || Instant::now() > end {
            assert!(page.samples() > 100, "the platform shows little: {}", page.text);
            return page;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn promtool_reads_hostile_pages_of_every_strategy() {
    let Some(bin) = prometheus::require() else { return };
    for strategy in [
        TranslationStrategy::UnderscoreEscapingWithSuffixes,
        TranslationStrategy::UnderscoreEscapingWithoutSuffixes,
        TranslationStrategy::NoUtf8EscapingWithSuffixes,
        TranslationStrategy::NoTranslation,
    ] {
        let hostile = hostile::start(strategy);
        let page = Page::text(prometheus::page(hostile.address(), TEXT));
        assert_eq!(page.text, hostile.telemetry.scrape().unwrap(), "the page that is asked for is what a scrape shows");
        assert_promtool_reads(&bin, &format!("{strategy:?}"), &page);
    }
}

#[test]
fn random_pages_are_read_whole_by_promtool_by_a_strict_parser_and_by_a_real_prometheus() {
    let (Some(bin), Some(python)) = (prometheus::require(), parser::require()) else { return };
    let directory = tempfile::tempdir().unwrap();
    let all: Vec<_> = (0..40).map(|seed| (seed, hostile::random(seed))).collect();
    let jobs: Vec<Job> = all
        .iter()
        .map(|(seed, hostile)| {
            let protocol = &PROTOCOLS[*seed as usize % PROTOCOLS.len()];
            Job::new(format!("{} {seed}", protocol.name), hostile.address()).asking_for(protocol.name)
        })
        .collect();
    let prometheus = Prometheus::start_with(&bin, directory.path(), &jobs, "2s", &["native-histograms"]);

    let mut pages = Vec::new();
    for (seed, hostile) in &all {
        for (what, page) in hostile.pages() {
            let what = format!("{what} of seed {seed}");
            if what.starts_with("text") {
                assert_promtool_reads(&bin, &what, &page);
            }
            pages.push((what, page));
        }
    }
    assert!(pages.iter().map(|(_, page)| page.samples()).sum::<usize>() > 40_000, "the pages are full");
    let read = parser::parse(&python, &pages.iter().map(|(_, page)| page.clone()).collect::<Vec<_>>());
    for ((what, page), read) in pages.iter().zip(read) {
        assert_read(what, page, read.unwrap_or_else(|error| panic!("{what}: {error}")));
    }

    for (seed, hostile) in &all {
        let protocol = &PROTOCOLS[*seed as usize % PROTOCOLS.len()];
        let job = format!("{} {seed}", protocol.name);
        let page = prometheus::page(hostile.address(), protocol.accept);
        assert_everything_is_stored(&prometheus, &job, samples_of(&page, &job));
    }
}

/// How many samples Prometheus should find on the page of a job.
fn samples_of(page: &[u8], job: &str) -> usize {
    if !job.starts_with(NATIVE) {
        return Page::text(page.to_vec()).samples();
    }
    let of_metric = |metric: &dto::Metric| match &metric.histogram {
        // A native histogram is one.
        Some(histogram) if histogram.schema.is_some() => 1,
        // Prometheus adds the infinite bucket where it is not said.
        Some(histogram) => {
            let is_infinite = |bucket: &dto::Bucket| bucket.upper_bound == Some(f64::INFINITY);
            2 + histogram.bucket.len() + usize::from(!histogram.bucket.iter().any(is_infinite))
        }
        None => 1,
    };
    dto::decode_all(page).iter().flat_map(|family| &family.metric).map(of_metric).sum()
}

/// The job is up, Prometheus has read so many samples, dropped none and stored each as a series of its own.
#[track_caller]
fn assert_everything_is_stored(prometheus: &Prometheus, job: &str, samples: usize) {
    prometheus.wait_until_up(job, UP);
    let health = prometheus.target_health();
    let (_, _, error) = health.iter().find(|(name, ..)| name == job).unwrap();
    assert_eq!(error, "", "{job}");
    for series in ["scrape_samples_scraped", "scrape_samples_post_metric_relabeling"] {
        let found = prometheus.wait_for(&format!("{series}{{job=\"{job}\"}}"), UP, |found| !found.is_empty());
        assert_eq!(found[0].value, samples as f64, "{series} of {job}");
    }
    // What of a page it takes for the same series, it drops in silence.
    let stored =
        prometheus.query(&format!("count({{job=\"{job}\", __name__!~\"up|scrape_(duration|samples|series)_.*\"}})"));
    assert_eq!(stored[0].value, samples as f64, "series of {job}");
}

/// promtool may find names that it would have chosen otherwise, but nothing that it cannot read.
#[track_caller]
fn assert_promtool_reads(bin: &std::path::Path, what: &str, page: &Page) {
    if let Err(output) = prometheus::promtool_check_metrics(bin, &page.text) {
        assert!(output.contains("exit code 3"), "{what}: {output}");
    }
}

/// A parser has found as many samples as there are lines, each with the value at the end of its line.
#[track_caller]
fn assert_read(what: &str, page: &Page, mut read: Vec<Parsed>) -> Vec<Parsed> {
    let lines: Vec<&str> = page.lines().collect();
    for (line, read) in lines.iter().zip(&mut read) {
        let value: f64 = line.rsplit(' ').next().and_then(|value| value.parse().ok()).unwrap();
        // The parser takes `-0` for an integer, and integers have no such zero.
        if read.value == 0.0 && value == 0.0 {
            read.value = value;
        }
        assert_eq!(value.to_bits(), read.value.to_bits(), "{what}: {line} was read as {read:?}");
    }
    assert_eq!(read.len(), lines.len(), "samples of {what}");
    read
}

/// A series of a point: what its name adds to that of its metric, and the bound where it is a bucket.
type SeriesOfPoint = (&'static str, Option<String>);

/// The values of every point by its `id`.
fn of_points(samples: Vec<Sample>) -> BTreeMap<String, BTreeMap<SeriesOfPoint, f64>> {
    let mut points = BTreeMap::<String, BTreeMap<SeriesOfPoint, f64>>::new();
    for Sample { mut labels, value } in samples {
        let (_, suffix) = split(&labels["__name__"]);
        let bound = labels.remove("le").filter(|_| suffix == "_bucket");
        let other = points.entry(labels["id"].clone()).or_default().insert((suffix, bound), value);
        assert_eq!(other, None, "a point has each of its series once: {labels:?}");
    }
    points
}

/// Splits what a histogram adds to its name.
fn split(name: &str) -> (&str, &'static str) {
    let suffixes = ["_bucket", "_sum", "_count"];
    suffixes.into_iter().find_map(|suffix| Some((name.strip_suffix(suffix)?, suffix))).unwrap_or((name, ""))
}

/// The series of a point say what was recorded.
#[track_caller]
fn assert_recorded(point: &Point, found: &BTreeMap<SeriesOfPoint, f64>, is_open_metrics: bool) {
    let is = |suffix: &'static str, bound: Option<&str>, value: f64| {
        let found = found.get(&(suffix, bound.map(str::to_owned))).copied();
        let is_same =
            found.is_some_and(|found| found.to_bits() == value.to_bits() || (found.is_nan() && value.is_nan()));
        assert!(is_same, "{point:?}: {suffix} is {found:?}");
    };
    match point.recorded {
        Recorded::Number(value) => {
            is("", None, value);
            assert_eq!(found.len(), 1, "{point:?} is a number");
        }
        Recorded::Histogram { count, sum, has_negative_bounds } => {
            is("_bucket", Some("+Inf"), count);
            // OpenMetrics forbids the sum, and then the count, where values below zero count.
            if is_open_metrics && (sum < 0.0 || has_negative_bounds) {
                assert!(found.keys().all(|(suffix, _)| *suffix == "_bucket"), "{point:?}: {found:?}");
            } else {
                is("_sum", None, sum);
                is("_count", None, count);
            }
        }
    }
}

/// Every series of a point is called as its metric is, and has the labels that its attributes are.
#[track_caller]
fn assert_is_whole(point: &Point, found: &[Sample]) {
    let mut series = found.iter().filter(|sample| sample.labels["id"] == point.id).peekable();
    assert!(series.peek().is_some(), "{point:?} is there");
    for Sample { labels, .. } in series {
        let name = labels["__name__"].as_str();
        assert!(name == point.name || split(name).0 == point.name, "{point:?} is called {name}");
        for (key, value) in point.labels() {
            assert_eq!(labels.get(key), Some(&value), "{key} of {point:?}");
        }
    }
}

fn without(mut labels: BTreeMap<String, String>, label: &str) -> BTreeMap<String, String> {
    labels.remove(label);
    labels
}
