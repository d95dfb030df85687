//! Many endpoints on one machine, and what it costs to collect and to store them: scraped by vmagent and by Prometheus, and
//! pushed through an OpenTelemetry Collector. Linux only.
//!
//! Each endpoint is a process of its own, this program started again. The servers are those that tests/stack installs, with
//! the files and flags of deploy/scale. Everything is on loopback, on ports that the system chooses, and ends with this.

mod endpoint;
mod report;
mod server;
mod servers;

use std::thread;
use std::time::{Duration, Instant};

pub(crate) use endpoint::serve;
use endpoint::{Fleet, Usage};
use report::{cardinality, tables};
use servers::{Programs, Servers, Way};

/// How often an endpoint is scraped, or pushes: as deploy/scale/vmagent.yml says.
const INTERVAL: Duration = Duration::from_secs(10);

/// Prometheus finds its targets after 5 s and spreads the first scrapes over an interval. What comes first makes all the
/// series, which is the hardest that a store has to do; whoever was behind by then has caught up.
const WARM_UP: Duration = Duration::from_secs(60);

const MEASURED: Duration = Duration::from_secs(60);

/// Until what was scraped last can be asked for.
const STORED: Duration = Duration::from_secs(3);

const ENDPOINTS: usize = 200;
const SERIES: usize = 1_000;

/// Endpoints and the series of each, from fewest to most. The last has as many as the headline on a tenth of the targets.
const SIZES: [(usize, usize); 4] = [(ENDPOINTS, 100), (ENDPOINTS, SERIES), (ENDPOINTS, 5_000), (20, 10_000)];

pub(crate) fn measure() -> String {
    let title = format!("### {ENDPOINTS} endpoints of {SERIES} series\n\n");
    match Programs::find() {
        Ok(programs) => {
            let ways = [Way::Vmagent, Way::Prometheus, Way::Gateway];
            format!("{title}{}", tables(&ways.map(|way| run(&programs, way, ENDPOINTS, SERIES))))
        }
        Err(why) => format!("{title}Not measured: {why}\n"),
    }
}

pub(crate) fn measure_cardinality() -> String {
    let title = "### What series cost\n\n".to_owned();
    match Programs::find() {
        Ok(programs) => {
            let ways = [Way::Vmagent, Way::Prometheus];
            let of_way = |way| SIZES.map(|(count, size)| run(&programs, way, count, size));
            let rows: Vec<Row> = ways.into_iter().flat_map(of_way).collect();
            format!("{title}{}\n{}", tables(&rows), cardinality(&rows))
        }
        Err(why) => format!("{title}Not measured: {why}\n"),
    }
}

/// What one run of a fleet was like.
#[derive(Debug)]
struct Row {
    way: Way,
    endpoints: usize,
    size: usize,
    /// In the store, at the end.
    series: f64,
    /// Samples a second: what the pages have, and what the store says that it got.
    expected: f64,
    ingested: f64,
    /// Points a second that the gateway sent on, and those that it could not take or send.
    points: Option<(f64, f64)>,
    scrapes: Option<Scrapes>,
    /// By remote write, for a sample.
    bytes_written: Option<f64>,
    collector: Used,
    /// Where that is another process.
    store: Option<Used>,
    bytes_per_sample: f64,
    index_bytes_per_series: Option<f64>,
    usage: Vec<EndpointUsage>,
    /// One page, in bytes, and with gzip.
    page: Option<(usize, usize)>,
}

#[derive(Debug)]
struct Scrapes {
    count: usize,
    failed: usize,
    /// Sorted, in seconds.
    durations: Vec<f64>,
}

/// Processor seconds in a second, and bytes resident at most.
#[derive(Clone, Copy, Debug)]
struct Used {
    cpu: f64,
    resident: usize,
}

/// Of an endpoint: what a scrape or a push took, what a second of recording took, and its memory.
#[derive(Clone, Copy, Debug)]
struct EndpointUsage {
    scrape: Duration,
    recording: Duration,
    resident: usize,
    own: usize,
}

fn run(programs: &Programs, way: Way, count: usize, size: usize) -> Row {
    eprintln!("{way}, {count} endpoints of {size} series");
    let mut servers = Servers::start(programs, way);
    let mut fleet = Fleet::start(count, size, servers.gateway_url().as_deref(), INTERVAL);
    servers.scrape(programs, fleet.addresses());
    thread::sleep(WARM_UP);

    let begun = Instant::now();
    let (before, ingested) = (fleet.usage(), servers.ingested());
    let (points, written) = (servers.points(), servers.written());
    let (collector, store) = (servers.collector().cpu(), servers.store().map(server::Server::cpu));
    let (mut collector_peak, mut store_peak) = (0, 0);
    while begun.elapsed() < MEASURED {
        collector_peak = collector_peak.max(servers.collector().resident());
        store_peak = store_peak.max(servers.store().map_or(0, server::Server::resident));
        thread::sleep(Duration::from_millis(500).min(MEASURED.saturating_sub(begun.elapsed())));
    }
    let seconds = begun.elapsed().as_secs_f64();
    let used =
        |server: &server::Server, before: f64, resident| Used { cpu: (server.cpu() - before) / seconds, resident };
    let collector = used(servers.collector(), collector, collector_peak);
    let store = servers.store().zip(store).map(|(server, before)| used(server, before, store_peak));
    let ingested = (servers.ingested() - ingested) / seconds;
    let bytes_written = written.zip(servers.written()).map(|(before, now)| (now - before) / seconds / ingested);
    let points = points
        .zip(servers.points())
        .map(|((sent, lost), (now_sent, now_lost))| ((now_sent - sent) / seconds, (now_lost - lost) / seconds));
    let after = fleet.usage();

    thread::sleep(STORED);
    let (series, bytes_per_sample, index_bytes_per_series) = servers.stored();
    let page = fleet.addresses().next().filter(|_| way != Way::Gateway).map(|address| {
        let page = server::get(address, "/metrics", "");
        let lines =
            page.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && !line.starts_with(b"#")).count();
        (lines, page.len(), server::get(address, "/metrics", "Accept-Encoding: gzip\r\n").len())
    });
    // Each of a pushed fleet's series comes once in an interval.
    let samples = page.map_or(series, |(lines, ..)| (lines * count) as f64);
    Row {
        way,
        endpoints: count,
        size,
        series,
        expected: samples / INTERVAL.as_secs_f64(),
        ingested,
        points,
        scrapes: servers.scrapes(MEASURED),
        bytes_written,
        collector,
        store,
        bytes_per_sample,
        index_bytes_per_series,
        usage: before.iter().zip(&after).map(|(before, after)| endpoint_usage(before, after)).collect(),
        page: page.map(|(_, plain, gzip)| (plain, gzip)),
    }
}

/// Of one endpoint.
fn scrapes_due() -> usize {
    MEASURED.div_duration_f64(INTERVAL) as usize
}

fn endpoint_usage(before: &Usage, after: &Usage) -> EndpointUsage {
    EndpointUsage {
        scrape: (after.serving.saturating_sub(before.serving)).div_f64(scrapes_due() as f64),
        recording: (after.recording.saturating_sub(before.recording)).div_f64(MEASURED.as_secs_f64()),
        resident: after.resident,
        own: after.own,
    }
}
