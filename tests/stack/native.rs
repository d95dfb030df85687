//! What Prometheus makes of exponential histograms and of the times at which series began.

use std::time::{Duration, SystemTime};

use barograph::{Telemetry, View};

use crate::UP;
use crate::prometheus::{self, Job, Prometheus};

// Both are off in Prometheus 3.5 unless asked for.
const FEATURES: [&str; 2] = ["native-histograms", "created-timestamp-zero-ingestion"];

const VALUES: usize = 10_000;

/// As many values, from 1 ms to 100 s, as many in each decade, in no order, the same in every run.
fn durations() -> Vec<f64> {
    // A step that is coprime to the number of values visits each once.
    (0..VALUES).map(|n| 10_f64.powf(-3.0 + 5.0 * ((n * 7_919 % VALUES) as f64 + 0.5) / VALUES as f64)).collect()
}

#[test]
fn quantiles_of_an_exponential_histogram_are_right_to_a_bucket_native_and_as_text() {
    let Some(bin) = prometheus::require() else { return };
    let directory = tempfile::tempdir().unwrap();
    let telemetry = Telemetry::builder("native")
        .with_address("127.0.0.1:0")
        .with_view(View::of("exact.*").with_exponential_buckets(160))
        .start()
        .unwrap();
    let meter = telemetry.meter("native");
    let mut values = durations();
    let duration = meter.f64_histogram("exact.duration").with_unit("s").build();
    values.iter().for_each(|&value| duration.record(value, &[]));
    // Below zero, zero and above, as many of each.
    let change = meter.f64_histogram("exact.change").build();
    for &value in &values {
        [-value, 0.0, value].into_iter().for_each(|value| change.record(value, &[]));
    }
    let sum: f64 = values.iter().sum();
    values.sort_by(f64::total_cmp);

    let address = telemetry.local_addr().unwrap();
    let jobs = [
        Job::new("native", address).asking_for("PrometheusProto"),
        Job::new("classic", address).asking_for("OpenMetricsText1.0.0"),
    ];
    let prometheus = Prometheus::start_with(&bin, directory.path(), &jobs, "500ms", &FEATURES);
    prometheus.wait_until_up("native", UP);
    prometheus.wait_until_up("classic", UP);

    let native = "exact_duration_seconds{job=\"native\"}";
    let stored = prometheus.query_histograms(native);
    assert_eq!(stored.len(), 1, "it is a native histogram: {stored:?}");
    assert_eq!((stored[0].count, stored[0].sum), (VALUES as f64, sum));
    assert_eq!(one(&prometheus, &format!("histogram_count({native})")), VALUES as f64);
    assert_eq!(one(&prometheus, &format!("histogram_sum({native})")), sum);
    let base = stored[0].buckets.iter().map(|(lower, upper, _)| upper / lower).fold(0.0, f64::max);
    // Five decades in 160 buckets: eight of them an octave.
    assert!((base - 2_f64.powf(0.125)).abs() < 1e-9, "the buckets are as narrow as can be: {base}");
    let buckets = "exact_duration_seconds_bucket{job=\"classic\"}";
    assert_eq!(one(&prometheus, "exact_duration_seconds_count{job=\"classic\"}"), VALUES as f64);
    assert_eq!(one(&prometheus, "exact_duration_seconds_sum{job=\"classic\"}"), sum);
    for quantile in [0.1, 0.5, 0.9, 0.99] {
        let exact = values[(quantile * VALUES as f64).ceil() as usize - 1];
        // Four buckets an octave in text.
        for (series, error) in [(native, base), (buckets, 2_f64.powf(0.25))] {
            let found = one(&prometheus, &format!("histogram_quantile({quantile}, {series})"));
            let ratio = (found / exact).max(exact / found);
            assert!(ratio <= error, "{quantile} of {series}: {found}, exactly {exact}");
        }
    }

    let change = &prometheus.query_histograms("exact_change{job=\"native\"}")[0];
    assert_eq!(change.count, 3.0 * VALUES as f64);
    let in_sign = |sign: fn(&(f64, f64, f64)) -> bool| -> f64 {
        change.buckets.iter().filter(|bucket| sign(bucket)).map(|(_, _, count)| count).sum()
    };
    assert_eq!(in_sign(|(_, upper, _)| *upper < 0.0), VALUES as f64, "below zero: {change:?}");
    assert_eq!(in_sign(|(lower, upper, _)| *lower <= 0.0 && *upper >= 0.0), VALUES as f64, "zero: {change:?}");
    assert_eq!(in_sign(|(lower, _, _)| *lower > 0.0), VALUES as f64, "above zero: {change:?}");
    // OpenMetrics has neither count nor sum where there are buckets below zero; the infinite one says the count.
    let counted = "exact_change_bucket{job=\"classic\", le=\"+Inf\"}";
    assert_eq!(one(&prometheus, counted), 3.0 * VALUES as f64);
    let median = one(&prometheus, "histogram_quantile(0.5, exact_change{job=\"native\"})");
    assert!(median.abs() < 1e-9, "the median is zero: {median}");
}

#[test]
fn a_histogram_whose_buckets_widen_between_scrapes_is_no_reset_and_stays_queryable() {
    let Some(bin) = prometheus::require() else { return };
    let directory = tempfile::tempdir().unwrap();
    let telemetry = Telemetry::builder("native")
        .with_address("127.0.0.1:0")
        .with_view(View::of("widening").with_exponential_buckets(160))
        .start()
        .unwrap();
    let widening = telemetry.meter("native").f64_histogram("widening").build();
    (0..1_000).for_each(|n| widening.record(1.0 + f64::from(n) / 10_000.0, &[]));

    let jobs = [Job::new("native", telemetry.local_addr().unwrap()).asking_for("PrometheusProto")];
    // Not with zeros at the beginning: from them to the first histogram this Prometheus counts a reset.
    let features = ["native-histograms"];
    let prometheus = Prometheus::start_with(&bin, directory.path(), &jobs, "500ms", &features);
    prometheus.wait_for("histogram_count(widening)", UP, |found| found.first().is_some_and(|s| s.value == 1_000.0));
    let base = || {
        let stored = prometheus.query_histograms("widening");
        stored[0].buckets.iter().map(|(lower, upper, _)| upper / lower).fold(0.0, f64::max)
    };
    let narrow = base();
    (0..1_000).for_each(|n| widening.record(10_f64.powf(f64::from(n) / 50.0 - 10.0), &[]));
    prometheus.wait_for("histogram_count(widening)", UP, |found| found.first().is_some_and(|s| s.value == 2_000.0));
    assert!(base() > narrow * 1.1, "the buckets are wider: {narrow}, then {}", base());

    assert_eq!(one(&prometheus, "resets(widening[5m])"), 0.0);
    let increase = one(&prometheus, "histogram_count(increase(widening[5m]))");
    // Extrapolated to the range, so it is about the thousand, and more with the thousand before them.
    assert!((999.0..2_500.0).contains(&increase), "what came in between is seen: {increase}");
    let median = one(&prometheus, "histogram_quantile(0.5, widening)");
    assert!((0.5..2.0).contains(&median), "{median}");
}

#[test]
fn a_histogram_that_is_exponential_for_one_meter_only_is_whole_for_both() {
    let Some(bin) = prometheus::require() else { return };
    let directory = tempfile::tempdir().unwrap();
    // Prometheus takes all the histograms of a family for native ones, or none of them.
    let builder = Telemetry::builder("mixed").with_address("127.0.0.1:0");
    let telemetry = ["a", "d"]
        .into_iter()
        .fold(builder, |builder, scope| {
            builder.with_view(View::of("size").in_scope(scope).with_exponential_buckets(160))
        })
        .start()
        .unwrap();
    for (meter, count) in METERS {
        let size = telemetry.meter(meter).f64_histogram("size").build();
        (1..=count).for_each(|value| size.record(f64::from(value), &[]));
    }

    let jobs = [Job::new("protobuf", telemetry.local_addr().unwrap()).asking_for("PrometheusProto")];
    let prometheus = Prometheus::start_with(&bin, directory.path(), &jobs, "500ms", &FEATURES);
    prometheus.wait_until_up("protobuf", UP);
    for (meter, count) in METERS {
        let scope = format!("otel_scope_name=\"{meter}\"");
        let found = prometheus.query(&format!("histogram_count(size{{{scope}}}) or size_count{{{scope}}}"));
        assert_eq!(
            found.iter().map(|sample| sample.value).collect::<Vec<_>>(),
            [f64::from(count)],
            "{meter}: {found:?}"
        );
        let quantile = format!("histogram_quantile(1, size{{{scope}}} or size_bucket{{{scope}}})");
        assert!(prometheus.query(&quantile).iter().any(|sample| sample.value >= f64::from(count) / 2.0), "{meter}");
    }
}

/// Meters and how many values each records: native and explicit ones, in either order.
const METERS: [(&str, u32); 4] = [("a", 2), ("b", 3), ("c", 4), ("d", 5)];

#[test]
fn a_counter_is_seen_from_its_beginning_where_the_format_says_when_that_was() {
    let Some(bin) = prometheus::require() else { return };
    let directory = tempfile::tempdir().unwrap();
    let telemetry = Telemetry::builder("created").with_address("127.0.0.1:0").with_created_series().start().unwrap();
    let begun = SystemTime::now();
    let meter = telemetry.meter("created");
    meter.u64_counter("orders").build().add(7, &[]);
    meter.f64_histogram("wait").with_unit("s").build().record(0.3, &[]);
    let made = SystemTime::now();

    let address = telemetry.local_addr().unwrap();
    let jobs = [
        Job::new("protobuf", address).asking_for("PrometheusProto"),
        Job::new("openmetrics", address).asking_for("OpenMetricsText1.0.0"),
        Job::new("text", address).asking_for("PrometheusText0.0.4"),
    ];
    let prometheus = Prometheus::start_with(&bin, directory.path(), &jobs, "500ms", &FEATURES);
    for job in ["protobuf", "openmetrics", "text"] {
        prometheus.wait_for(&format!("count_over_time(orders_total{{job=\"{job}\"}}[1m]) > 2"), UP, |f| !f.is_empty());
    }

    let seconds =
        |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64();
    for (job, is_seen) in [("protobuf", true), ("openmetrics", true), ("text", false)] {
        for (series, value) in [("orders_total", 7.0), ("wait_seconds_count", 1.0)] {
            let selector = format!("{series}{{job=\"{job}\"}}[1m]");
            let samples = prometheus.query_matrix(&selector).swap_remove(0);
            assert_eq!(samples.last().unwrap().1, value, "{selector}: {samples:?}");
            let increase = one(&prometheus, &format!("increase({selector})"));
            if is_seen {
                let (time, first) = samples[0];
                assert_eq!(first, 0.0, "{selector} begins with nothing: {samples:?}");
                let period = seconds(begun) - 0.001..=seconds(made) + 0.001;
                assert!(period.contains(&time), "{selector} began at {time}, not within {period:?}");
                assert!(increase >= value, "{selector} rose by {increase}");
            } else {
                assert_eq!((samples[0].1, increase), (value, 0.0), "{selector}: {samples:?}");
            }
        }
    }
}

/// The one value of a query.
#[track_caller]
fn one(prometheus: &Prometheus, promql: &str) -> f64 {
    let found = prometheus.query(promql);
    assert_eq!(found.len(), 1, "{promql}: {found:?}");
    found[0].value
}
