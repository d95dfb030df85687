//! One endpoint of the fleet, a process of its own, and all of them together.

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use barograph::{Telemetry, View};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, MeterProvider};
use rustix::time::{ClockId, clock_gettime};

/// Instruments of each kind, and what share of the lines they are: 200 counters, 200 gauges, and 40 histograms of 15 lines
/// in a thousand.
const PLAIN: usize = 5;
const HISTOGRAMS: usize = 2;
const BOUNDS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// A bucket for each bound, the infinite one, a sum and a count.
const LINES_OF_HISTOGRAM: usize = BOUNDS.len() + 3;

/// Sizes are multiples of this: two sets of each plain instrument, one of each histogram.
const STEP: usize = 50;

/// Each series has another value each time.
const CHANGES_EVERY: Duration = Duration::from_secs(1);

/// Serves or pushes, as the environment says, until stdin ends, which it does with the process that started this one. Says
/// where it listens, and then, whenever it is asked by a line, what its processor time is: all of it, and what of it was
/// recording.
pub(crate) fn serve(size: &str) {
    let size: usize = size.parse().expect("a number of series");
    let view = View::of("fleet.*").with_cardinality_limit(sets(size).0);
    let telemetry =
        match Telemetry::from_env().or_service_name("fleet").with_address("127.0.0.1:0").with_view(view).start() {
            Ok(telemetry) => telemetry,
            Err(error) => return println!("{error}"),
        };
    let work = Work::new(telemetry.meter_provider(), size);
    let recording = Arc::new(AtomicU64::new(0));
    let spent = Arc::clone(&recording);
    thread::spawn(move || {
        for round in 0.. {
            work.record(round);
            spent.store(nanoseconds(ClockId::ThreadCPUTime), Ordering::Relaxed);
            thread::sleep(CHANGES_EVERY);
        }
    });
    match telemetry.local_addr() {
        Some(address) => println!("{address}"),
        None => println!("pushing"),
    }
    for _ in io::stdin().lines().map_while(Result::ok) {
        println!("{} {}", nanoseconds(ClockId::ProcessCPUTime), recording.load(Ordering::Relaxed));
    }
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Attribute sets of each plain instrument, and of each histogram.
fn sets(size: usize) -> (usize, usize) {
    assert_eq!(size % STEP, 0, "{size} series cannot be shared out");
    let histogram_lines = size * 6 / 10;
    (size * 2 / 10 / PLAIN, histogram_lines / LINES_OF_HISTOGRAM / HISTOGRAMS)
}

/// Points of OTLP, where a histogram is one.
pub(super) fn points(size: usize) -> usize {
    let (plain, histogram) = sets(size);
    2 * PLAIN * plain + HISTOGRAMS * histogram
}

struct Work {
    counters: Vec<Counter<u64>>,
    gauges: Vec<Gauge<f64>>,
    histograms: Vec<Histogram<f64>>,
    attributes: Vec<[KeyValue; 3]>,
    of_histograms: usize,
}

impl Work {
    fn new(provider: &dyn MeterProvider, size: usize) -> Self {
        let meter = provider.meter("fleet");
        let (plain, of_histograms) = sets(size);
        let attributes = (0..plain).map(|set| {
            [
                KeyValue::new("method", ["GET", "PUT", "POST", "DELETE"][set % 4]),
                KeyValue::new("route", format!("/api/v1/resource/{}", set / 4)),
                KeyValue::new("status", if set % 8 < 7 { "200" } else { "500" }),
            ]
        });
        Self {
            counters: (0..PLAIN).map(|i| meter.u64_counter(format!("fleet.requests_{i}")).build()).collect(),
            gauges: (0..PLAIN).map(|i| meter.f64_gauge(format!("fleet.load_{i}")).build()).collect(),
            histograms: (0..HISTOGRAMS)
                .map(|i| {
                    let histogram = meter.f64_histogram(format!("fleet.duration_{i}")).with_unit("s");
                    histogram.with_boundaries(BOUNDS.to_vec()).build()
                })
                .collect(),
            attributes: attributes.collect(),
            of_histograms,
        }
    }

    fn record(&self, round: u64) {
        // Every series in its own way.
        let value = |set: usize| (round * 7_919 + set as u64 * 104_729) % 1_009;
        for (set, attributes) in self.attributes.iter().enumerate() {
            self.counters.iter().for_each(|counter| counter.add(1 + value(set), attributes));
            self.gauges.iter().for_each(|gauge| gauge.record(value(set) as f64 / 7.0, attributes));
        }
        for (set, attributes) in self.attributes.iter().take(self.of_histograms).enumerate() {
            self.histograms.iter().for_each(|histogram| histogram.record(value(set) as f64 / 97.0, attributes));
        }
    }
}

/// Endpoints, started. They end when this is dropped, and with this process.
pub(super) struct Fleet {
    endpoints: Vec<Endpoint>,
}

struct Endpoint {
    child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// What it said first.
    address: String,
}

/// What an endpoint has used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    /// The processor time of all but the recording, and of the recording.
    pub(super) serving: Duration,
    pub(super) recording: Duration,
    /// In bytes: resident, and what of it no other process shares.
    pub(super) resident: usize,
    pub(super) own: usize,
}

impl Fleet {
    /// Starts `count` endpoints of `size` series, spread over the time `over`, as those of a real fleet do not push all at
    /// once. They push to the gateway, or else are scraped.
    pub(super) fn start(count: usize, size: usize, gateway: Option<&str>, over: Duration) -> Self {
        let mut endpoints = Vec::with_capacity(count);
        for number in 0..count {
            let mut command = Command::new(env::current_exe().expect("this program"));
            command.args(["fleet", "--serve", &size.to_string()]);
            // Nothing of ours decides but what stands here.
            for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("OTEL_")) {
                command.env_remove(name);
            }
            match gateway {
                None => command.env("OTEL_METRICS_EXPORTER", "prometheus"),
                Some(url) => command.envs([
                    ("OTEL_METRICS_EXPORTER", "otlp"),
                    ("OTEL_EXPORTER_OTLP_ENDPOINT", url),
                    ("OTEL_METRIC_EXPORT_INTERVAL", "10000"),
                ]),
            };
            // Or all that push would be one.
            command.env("OTEL_RESOURCE_ATTRIBUTES", format!("service.instance.id=endpoint-{number}"));
            endpoints.push(Endpoint::start(&mut command));
            thread::sleep(over / count as u32);
        }
        Self { endpoints }
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = &str> {
        self.endpoints.iter().map(|endpoint| endpoint.address.as_str())
    }

    pub(super) fn usage(&mut self) -> Vec<Usage> {
        self.endpoints.iter_mut().map(Endpoint::usage).collect()
    }
}

impl Endpoint {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("this program runs");
        let asks = child.stdin.take().expect("a pipe");
        let answers = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut endpoint = Self { child, asks, answers, address: String::new() };
        endpoint.address = endpoint.line();
        let is_good = endpoint.address == "pushing" || endpoint.address.starts_with("127.0.0.1:");
        assert!(is_good, "an endpoint does not start: {}", endpoint.address);
        endpoint
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    fn usage(&mut self) -> Usage {
        self.asks.write_all(b"\n").expect("an endpoint that runs");
        let line = self.line();
        let (all, recording) = line.split_once(' ').expect("two numbers");
        let time = |number: &str| Duration::from_nanos(number.parse().expect("a number"));
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("Linux");
        Usage {
            serving: time(all).saturating_sub(time(recording)),
            recording: time(recording),
            resident: super::server::kilobytes(&status, "VmRSS:") * 1024,
            own: super::server::kilobytes(&status, "RssAnon:") * 1024,
        }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
