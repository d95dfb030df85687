//! The platform where it is only pushed, and where what is pushed is not of the kind that is scraped.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::otlp::collector::{Collector, Options};
use crate::otlp::sink::Received;
use crate::parity::points::{elements, labels_of, number};
use crate::parity::{base, is_settled, translation};
use crate::platform::{self, Platform};
use crate::process::Server;
use crate::prometheus::{self, Prometheus};
use crate::{Series, UP, series};

/// Prometheus needs 5 s to its first scrape, and more where the machine compiles; the last 3 s are quiet.
const LIFETIME: Duration = Duration::from_secs(15);

/// `AGGREGATION_TEMPORALITY_DELTA` and `..._CUMULATIVE`.
const DELTA: u64 = 1;
const CUMULATIVE: u64 = 2;

/// What came in all pushes together, by the name and labels of a scrape.
#[derive(Default)]
struct Pushed {
    counters: BTreeMap<Series, f64>,
    histograms: BTreeMap<Series, Histogram>,
    /// When the last point of each ended.
    ended: BTreeMap<Series, String>,
    /// In how many pushes something was counted.
    pushes: BTreeMap<Series, usize>,
}

#[derive(Clone, Debug, Default)]
struct Histogram {
    count: f64,
    sum: f64,
    /// Lower bound, which is not in it, upper bound, which is, and count.
    buckets: Vec<(f64, f64, f64)>,
}

impl Histogram {
    fn add(&mut self, point: &Value) {
        self.count += number(&point["count"]);
        self.sum += number(&point["sum"]);
        self.buckets.push((f64::NEG_INFINITY, 0.0, number(&point["zeroCount"])));
        assert!(elements(&point["negative"]["bucketCounts"]).next().is_none(), "no time is less than none: {point}");
        let base = 2_f64.powf(2_f64.powf(-number(&point["scale"])));
        let first = number(&point["positive"]["offset"]);
        for (index, count) in elements(&point["positive"]["bucketCounts"]).enumerate() {
            let exponent = first + index as f64;
            self.buckets.push((base.powf(exponent), base.powf(exponent + 1.0), number(count)));
        }
    }

    /// Between how many and how many values were not greater than this.
    fn up_to(&self, bound: f64) -> (f64, f64) {
        // The bounds of exponential buckets are as exact as floats are.
        let count = |is_below: &dyn Fn(f64, f64) -> bool| -> f64 {
            let below = self.buckets.iter().filter(|(lower, upper, _)| is_below(*lower, *upper));
            below.map(|(.., count)| count).sum()
        };
        (count(&|_, upper| upper < bound * (1.0 - 1e-9)), count(&|lower, _| lower < bound * (1.0 + 1e-9)))
    }
}

impl Pushed {
    fn add(&mut self, request: &Received, names: &BTreeMap<String, String>) {
        for scope in elements(&request.body["resourceMetrics"]).flat_map(|it| elements(&it["scopeMetrics"])) {
            for metric in elements(&scope["metrics"]) {
                let part =
                    |part: &str| (format!("otel_scope_{part}"), scope["scope"][part].as_str().unwrap().to_owned());
                let name = ("__name__".to_owned(), names[metric["name"].as_str().unwrap()].clone());
                let of_metric: Series = [part("name"), part("version"), name].into();
                self.add_metric(metric, &of_metric);
            }
        }
    }

    fn add_metric(&mut self, metric: &Value, of_metric: &Series) {
        assert!(metric["histogram"].is_null(), "a histogram with explicit buckets was pushed: {metric}");
        let (sum, histogram) = (&metric["sum"], &metric["exponentialHistogram"]);
        if sum["isMonotonic"] != true && histogram.is_null() {
            let is_current = sum.is_null() || sum["aggregationTemporality"] == CUMULATIVE;
            assert!(is_current, "what goes up and down is told as it is: {metric}");
            return;
        }
        let data = if histogram.is_null() { sum } else { histogram };
        assert_eq!(data["aggregationTemporality"], DELTA, "{metric}");
        for point in elements(&data["dataPoints"]) {
            let attributes = labels_of(&point["attributes"], str::to_owned);
            let series: Series = of_metric.clone().into_iter().chain(attributes).collect();
            let time = |field: &str| point[field].as_str().unwrap().to_owned();
            if let Some(ended) = self.ended.insert(series.clone(), time("timeUnixNano")) {
                assert!(time("startTimeUnixNano") >= ended, "{series:?} has a time that it has told of: {point}");
            }
            let counted = if histogram.is_null() {
                let value = if point["asInt"].is_null() { &point["asDouble"] } else { &point["asInt"] };
                *self.counters.entry(series.clone()).or_default() += number(value);
                number(value)
            } else {
                self.histograms.entry(series.clone()).or_default().add(point);
                number(&point["count"])
            };
            *self.pushes.entry(series).or_default() += usize::from(counted > 0.0);
        }
    }

    /// What a scrape would show of a series, if it is one of a counter or a histogram; a bucket has a least and a
    /// greatest.
    fn range(&self, series: &Series) -> Option<(f64, f64)> {
        let name = series["__name__"].as_str();
        if name.ends_with("_total") {
            let value = self.counters.get(series).copied().unwrap_or_default();
            return Some((value, value));
        }
        let bound = series.get("le").map(|bound| bound.parse::<f64>().unwrap());
        let mut key = series.clone();
        key.remove("le");
        key.insert("__name__".to_owned(), base(name).to_owned());
        let histogram = self.histograms.get(&key)?;
        match bound {
            Some(bound) => Some(histogram.up_to(bound)),
            None if name.ends_with("_count") => Some((histogram.count, histogram.count)),
            // Sums of floats depend on their order.
            None => Some((histogram.sum * (1.0 - 1e-9), histogram.sum * (1.0 + 1e-9))),
        }
    }
}

#[test]
fn exponential_differences_that_are_pushed_add_up_to_the_explicit_totals_that_are_scraped() {
    let (Some(prometheus_bin), Some(bin)) = (prometheus::require(), Collector::require()) else { return };
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let collector = Collector::start(&bin, &at("otelcol"), &Options::default());
    let environment = [
        ("OTEL_METRICS_EXPORTER", "prometheus,otlp"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "500"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{}", collector.grpc_address())),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta"),
        ("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "base2_exponential_bucket_histogram"),
    ];
    let platform = Platform::start_with(&at("summary.json"), LIFETIME, &environment);
    let targets = [("platform", platform.address())];
    let prometheus = Prometheus::start(&prometheus_bin, &at("prometheus"), &targets, "500ms");
    prometheus.wait_until_up("platform", UP);
    platform.wait();
    let scraped: BTreeMap<Series, f64> =
        prometheus.query("last_over_time({job=\"platform\"}[10m])").into_iter().map(series).collect();

    let names = translation();
    let mut pushed = Pushed::default();
    collector.received().iter().for_each(|request| pushed.add(request, &names));
    let mut compared = BTreeMap::<&str, usize>::new();
    for (series, value) in scraped.iter().filter(|(series, _)| is_settled(&series["__name__"])) {
        let Some((least, most)) = pushed.range(series) else { continue };
        assert!((least..=most).contains(value), "{series:?} is {value}, and {least} to {most} by what was pushed");
        *compared.entry(if series.contains_key("le") { "bucket" } else { "value" }).or_default() += 1;
    }
    // A histogram that nothing is recorded to is no difference.
    assert!(compared["value"] > 100 && compared["bucket"] > 50, "{compared:?}");
    let histograms = pushed.histograms.keys().map(|series| series["__name__"].as_str());
    let histograms: BTreeSet<&str> =
        histograms.filter(|name| !name.starts_with("barograph_") && !name.starts_with("otel_sdk_")).collect();
    assert_eq!(histograms.len(), 7, "{histograms:?}");
    let repeated = pushed.pushes.values().filter(|pushes| **pushes > 1).count();
    assert!(repeated > 5, "only {repeated} series were counted in more than one push: nothing was added up");
}

fn start_pushing(dir: &Path, endpoint: &str, lifetime: &str, environment: &[(&str, &str)]) -> Server {
    let mut command = Command::new(platform::binary());
    command.args(["--for", lifetime]).envs(environment.iter().copied()).envs([
        ("OTEL_METRICS_EXPORTER", "otlp"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "200"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
    ]);
    Server::spawn(&mut command, dir.join("platform.log"))
}

#[test]
fn a_platform_that_only_pushes_listens_nowhere_and_everything_arrives() {
    let Some(bin) = Collector::require() else { return };
    let directory = tempfile::tempdir().unwrap();
    let collector = Collector::start(&bin, &directory.path().join("otelcol"), &Options::default());
    // Whoever wanted to listen there could not.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let environment = [("OTEL_EXPORTER_PROMETHEUS_HOST", "127.0.0.1"), ("OTEL_EXPORTER_PROMETHEUS_PORT", &port)];
    let endpoint = format!("http://{}", collector.http_address());
    let platform = start_pushing(directory.path(), &endpoint, "4s", &environment);
    let first = collector.sink().wait_for(1, UP).swap_remove(0);
    // The two APIs that it asks are stand-ins of its own.
    assert_eq!(listening_sockets(platform.id()), 2);

    let (code, said) = platform.wait();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("pushed to {endpoint}/v1/metrics (OTEL_EXPORTER_OTLP_ENDPOINT)")), "{said}");
    assert!(said.contains("nothing is scraped here") && !said.contains("DIFFERS"), "{said}");
    let received = collector.received();
    let last = received.last().unwrap();
    let names: BTreeSet<String> = last.metrics().map(|metric| metric["name"].as_str().unwrap().to_owned()).collect();
    // Nothing is scraped.
    let expected = translation().into_keys().filter(|name| !name.starts_with("barograph.scrape."));
    assert_eq!(names, expected.collect());
    let files = |request: &Received| {
        let files = request.metrics().find(|metric| metric["name"] == "test_watcher.files_processed").unwrap();
        number(&files["sum"]["dataPoints"][0]["asInt"])
    };
    let tested = said.lines().filter(|line| line.contains("] watcher ") && line.contains(" in ")).count();
    assert!(files(&first) < files(last), "{} is no progress", files(last));
    assert_eq!(files(last), tested as f64, "{said}");
}

/// How many sockets of a process wait for connections.
fn listening_sockets(process: u32) -> usize {
    let open: BTreeSet<String> = fs::read_dir(format!("/proc/{process}/fd"))
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()?.to_str().map(str::to_owned))
        .collect();
    let is_listening = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // The state, where 0A is LISTEN, and the inode.
        fields.get(3) == Some(&"0A") && open.contains(&format!("socket:[{}]", fields[9]))
    };
    let of = |table: &str| {
        let table = fs::read_to_string(format!("/proc/{process}/net/{table}")).unwrap_or_default();
        table.lines().filter(is_listening).count()
    };
    of("tcp") + of("tcp6")
}

#[test]
fn a_platform_that_nobody_takes_anything_from_ends_in_time_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    // Only the system could listen there, and it does not.
    let endpoint = "http://127.0.0.1:1";
    let begun = Instant::now();
    let (code, said) = start_pushing(directory.path(), endpoint, "1s", &[]).wait();
    assert_eq!(code, Some(1), "{said}");
    let last = said.lines().last().unwrap_or_default();
    let wanted = format!(
        "platform: the last values were not delivered: otlp_http to {endpoint}/v1/metrics: cannot connect: Connection refused"
    );
    assert!(last.starts_with(&wanted), "{said}");
    // It works for a second and tries to deliver for five.
    assert!(begun.elapsed() < Duration::from_secs(20), "{said}");
}
