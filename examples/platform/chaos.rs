//! `--chaos`: every fault that a panel or an alert looks for, again and again, a few seconds apart.
//!
//! | fault | where it shows |
//! |---|---|
//! | APIs that fail in every way, each in its turn | `api_*`, `test_watcher_api_calls_total` |
//! | tests that fail and crash; audits without git, with a report that is cut off or no file at all | `test_watcher_*`, `audit_agent_errors_total` |
//! | an operating system that reports no changes | `test_watcher_errors_total{error_type="io"}` |
//! | calls across the bridge that wait, are cancelled, come too late or from the wrong thread | `safe_async_bridge_*` |
//! | a callback that panics, and one that hangs | `barograph_callback_errors_total` |
//! | an instrument beyond its limit of series, and one that comes near it | `barograph_instrument_*`, `otel_metric_overflow` |
//! | instruments that cannot be built | `barograph_instruments_refused_total` |
//! | points that cannot be scraped: another's name, another's labels, no name, buckets that descend | `barograph_points_dropped_total` |
//! | requests that no scraper sends | `barograph_scrape_refused_total` |
//! | a web configuration that comes and goes (feature `web-config`) | `barograph_scrape_web_config_valid` |
//! | an OTLP receiver that refuses, throttles, dawdles and hangs up | `barograph_export_failures_total` |
//!
//! What the workers count for themselves goes on to agree with the scrape: these are faults, not lies.

use std::collections::HashMap;
use std::fs;
use std::future;
use std::io;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

use barograph::config::{MetricReader, OtlpMetricExporter, PeriodicMetricReader, PushMetricExporter};
use barograph::opentelemetry::KeyValue;
use barograph::opentelemetry::metrics::{Counter, Meter};
use barograph::{GuardedMeterProvider, Telemetry, TelemetryBuilder, View};
use barograph_instrumentation_api_clients::ApiClientMetrics;
use barograph_instrumentation_api_clients::semconv::Api;
use barograph_instrumentation_async_bridge::{AsyncBridge, CallError};
use notify::Event;
use prometheus::Registry;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Histogram, Metric, MetricFamily, MetricType};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::apis::{Addresses, Apis, cross};
use crate::changes::Changes;
use crate::developer::Step;
use crate::flag::Flag;
use crate::stand_ins;
use crate::stand_ins::Behaviour;
use crate::tally::Tally;

/// Between two rounds of faults.
const PAUSE: Duration = Duration::from_millis(200);

/// What the developer does: every way for a test and an audit to go wrong. Whatever follows a marker or a commit comes
/// after the audit that it triggers.
pub(crate) const SCRIPT: &[Step] = &[
    Step::Edit("src/add.sh"),
    // A test that fails.
    Step::Break("src/median.sh", " | sort -n", ""),
    Step::Edit("src/median.sh"),
    Step::Mark,
    // A test that is an error.
    Step::Crash("src/greet.sh"),
    Step::Edit("src/greet.sh"),
    Step::Commit,
    // An audit with an error of type io.
    Step::MisplaceReport,
    Step::Mark,
    // One of type parse.
    Step::MeasureBadly,
    Step::Mark,
    Step::Measure(31),
    Step::EditAll,
    // One of type git.
    Step::BreakGit,
    Step::Mark,
    Step::MendGit,
];

/// How all three APIs answer one request after the other. The number is odd, and so every other time it is the caller
/// whose time is up before the client's: see [`Saboteur::ask`].
const APIS: &[Behaviour] = &[
    Behaviour::Answer,
    Behaviour::RateLimit,
    Behaviour::Break,
    Behaviour::Garble,
    Behaviour::Dawdle,
    Behaviour::AnswerInJapanese,
    Behaviour::HangUp,
];

/// Only the system could listen there, and it does not.
const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

/// What the OTLP receiver does, each for [`TURN`]: the reasons of `barograph_export_failures_total` are none, unavailable,
/// throttled, refused, rejected, timeout and connection.
const RECEIVER: &[Behaviour] = &[
    Behaviour::Take,
    Behaviour::Close,
    Behaviour::RateLimit,
    Behaviour::Break,
    Behaviour::TakeSome,
    Behaviour::Dawdle,
    Behaviour::HangUp,
];

/// Long enough for an export to be given up.
const TURN: Duration = Duration::from_secs(2);

/// How many series the instruments may have that come near the limit and beyond it: enough to see, and no load.
const LIMIT: usize = 20;

/// Longer than any collection waits, so each one finds it late.
const HANGS: Duration = Duration::from_secs(60);

/// What has to be there before the pipeline starts.
pub(crate) struct Chaos {
    apis: SocketAddr,
    receiver: SocketAddr,
    web_config: TempDir,
    stop: Flag,
}

impl Chaos {
    pub(crate) fn prepare(runtime: &Runtime, stop: &Flag) -> io::Result<Self> {
        let chaos = Self {
            apis: stand_ins::start(runtime, APIS)?,
            receiver: stand_ins::start_receiver(runtime, RECEIVER, TURN, stop)?,
            web_config: tempfile::Builder::new().prefix("platform-chaos-").tempdir()?,
            stop: stop.clone(),
        };
        fs::write(chaos.web_config_file(), RIGHT)?;
        Ok(chaos)
    }

    fn web_config_file(&self) -> PathBuf {
        self.web_config.path().join("web-config.yml")
    }

    /// What the environment asks for, and more: a receiver that is no good, small limits, and a web configuration where
    /// there is none.
    pub(crate) fn configure(
        &self,
        mut telemetry: TelemetryBuilder,
        needs_web_config: bool,
    ) -> prometheus::Result<TelemetryBuilder> {
        let registry = Registry::new();
        let desc = Desc::new("chaos".to_owned(), "What cannot be scraped.".to_owned(), Vec::new(), HashMap::new())?;
        registry.register(Box::new(Unfit(desc)))?;
        if cfg!(feature = "otlp") {
            let exporter = OtlpMetricExporter::http(&format!("http://{}", self.receiver));
            let mut reader = PeriodicMetricReader::new(PushMetricExporter::OtlpHttp(exporter));
            (reader.interval, reader.timeout) = (TURN / 4, Some(TURN / 4));
            telemetry = telemetry.with_reader(MetricReader::Periodic(reader));
        }
        if cfg!(feature = "web-config") && needs_web_config {
            telemetry = telemetry.with_web_config(self.web_config_file());
        }
        Ok(telemetry
            .with_registry(registry)
            .with_view(View::of("chaos.visitors").with_cardinality_limit(LIMIT))
            .with_view(View::of("chaos.seats").with_cardinality_limit(LIMIT)))
    }

    /// Builds the instruments that are no good; from here on there are faults in the pipeline.
    pub(crate) fn saboteur(
        &self,
        telemetry: &Telemetry,
        bridge: &AsyncBridge,
        api_clients: &ApiClientMetrics,
        changes: &Changes,
        bridge_tally: &Tally,
        client_tally: &Tally,
    ) -> Saboteur {
        let apis = |address| {
            let addresses = Addresses { deepseek: address, perplexity: address, backup: address };
            Apis::new(bridge.clone(), api_clients, &addresses, bridge_tally, client_tally)
        };
        let meter = telemetry.meter("chaos");
        observe_badly(&meter, &self.stop);
        Saboteur {
            apis: apis(self.apis),
            gone: apis(NOBODY),
            provider: telemetry.meter_provider().clone(),
            visitors: meter.u64_counter("chaos.visitors").with_description("Beyond its limit of series.").build(),
            seats: meter.u64_counter("chaos.seats").with_description("Near its limit of series.").build(),
            same_name: same_name(&meter),
            meter,
            bridge: bridge.clone(),
            tally: bridge_tally.clone(),
            reports: changes.reports.clone(),
            endpoint: telemetry.local_addrs().next().map(reachable),
            web_config: self.web_config_file(),
            stop: self.stop.clone(),
        }
    }
}

/// Makes the faults that are not the developer's.
pub(crate) struct Saboteur {
    apis: Apis,
    gone: Apis,
    provider: GuardedMeterProvider,
    meter: Meter,
    visitors: Counter<u64>,
    seats: Counter<u64>,
    same_name: Vec<Counter<u64>>,
    bridge: AsyncBridge,
    tally: Tally,
    reports: Sender<notify::Result<Event>>,
    endpoint: Option<SocketAddr>,
    web_config: PathBuf,
    stop: Flag,
}

impl Saboteur {
    pub(crate) fn run(&self) {
        let mut slow = None;
        for round in 0_usize.. {
            if self.stop.wait(PAUSE) {
                return;
            }
            self.ask(round);
            self.build_badly();
            self.overflow(round);
            // Not so often that nothing else is seen.
            if round.is_multiple_of(4) {
                self.close_a_bridge();
                self.deadlock();
                // The operating system says that it cannot watch: an error of the watcher's, of type io.
                let _ = self.reports.send(Err(notify::Error::generic("the system's limit of watches is reached")));
            }
            if let Some(endpoint) = self.endpoint {
                disturb(endpoint, round, &mut slow);
            }
            if cfg!(feature = "web-config") {
                // A configuration that has become wrong, and is right again eight rounds later.
                let _ = fs::write(
                    &self.web_config,
                    if (round / 8).is_multiple_of(2) { RIGHT } else { "tls_server_config: [" },
                );
            }
        }
    }

    /// One call to each API, and now and then one to where none listens (error type connect). The client waits for 600 ms and the caller for longer or for less: an API that dawdles is a
    /// timeout for the client, or a call that its caller cancels.
    fn ask(&self, round: usize) {
        let patience = Duration::from_millis(if round.is_multiple_of(2) { 2_000 } else { 300 });
        for api in [Api::DeepSeek, Api::Perplexity, Api::Other] {
            // The stand-in takes turns over all who ask: after three questions each API is three behaviours further, and
            // three and seven have nothing in common.
            let _ = self.apis.ask(api, format!("What is left of it after round {round}?"), patience);
            if round.is_multiple_of(7) {
                let _ = self.gone.ask(api, "Is anybody there?".to_owned(), patience);
            }
        }
    }

    /// A bridge that is closed during a call (outcome cancelled), and before one (error type closed).
    fn close_a_bridge(&self) {
        // Without a thread for its loop there is no bridge to close.
        let Ok(bridge) = AsyncBridge::new(&self.provider) else { return };
        thread::scope(|scope| {
            scope.spawn(|| {
                self.stop.wait(Duration::from_millis(50));
                bridge.close();
            });
            let _ = cross(&bridge, &self.tally, future::pending::<Result<(), ()>>(), Duration::from_secs(5));
        });
        let _ = cross(&bridge, &self.tally, future::ready(Ok::<(), ()>(())), Duration::from_secs(5));
    }

    /// A call from the bridge's own thread, which would wait for itself: error type internal, and other for the call that
    /// it is part of.
    fn deadlock(&self) {
        let (bridge, tally) = (self.bridge.clone(), self.tally.clone());
        let inner = async move { cross(&bridge, &tally, future::ready(Ok::<(), ()>(())), Duration::from_secs(5)) };
        let _: Result<(), CallError<CallError<()>>> = cross(&self.bridge, &self.tally, inner, Duration::from_secs(5));
    }

    /// Instruments that are refused: for their name, their unit and their buckets.
    fn build_badly(&self) {
        self.meter.u64_counter("1 metric too many").build().add(1, &[]);
        self.meter.u64_counter("chaos.unit").with_unit("größer").build().add(1, &[]);
        self.meter.f64_histogram("chaos.buckets").with_boundaries(vec![2.0, 1.0]).build().record(1.0, &[]);
    }

    /// Ever new visitors, of which only the first have a series of their own, and nine seats of ten.
    fn overflow(&self, round: usize) {
        self.visitors.add(1, &[KeyValue::new("visitor", round as i64)]);
        self.seats.add(1, &[KeyValue::new("seat", (round % (LIMIT * 9 / 10)) as i64)]);
        self.same_name.iter().for_each(|counter| counter.add(1, &[]));
    }

    /// Calls that wait for nothing until their time is up: there is always one pending, and one timeout a second.
    pub(crate) fn keep_waiting(&self) {
        while !self.stop.is_raised() {
            let _ = cross(&self.bridge, &self.tally, future::pending::<Result<(), ()>>(), Duration::from_secs(1));
        }
    }
}

/// Another library's collector, of which nothing fits on a page: a name that is none, and buckets that descend.
struct Unfit(Desc);

impl Collector for Unfit {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.0]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let buckets = [2.0, 1.0].map(|bound| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound);
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets.to_vec());
        let mut descending = Metric::default();
        descending.set_histogram(histogram);
        let families =
            [("no name", MetricType::GAUGE, Metric::default()), ("chaos", MetricType::HISTOGRAM, descending)];
        families
            .map(|(name, kind, metric)| {
                let mut family = MetricFamily::default();
                family.set_name(name.to_owned());
                family.set_field_type(kind);
                family.set_metric(vec![metric]);
                family
            })
            .to_vec()
    }
}

/// Counters of which a scrape can show only one: a gauge that is called like the second (conflict), and two counters
/// whose names differ in what a label cannot show (duplicate).
fn same_name(meter: &Meter) -> Vec<Counter<u64>> {
    meter.u64_gauge("chaos.taken.total").build().record(1, &[]);
    ["chaos.taken", "chaos.same.name", "chaos.same_name"].map(|name| meter.u64_counter(name).build()).into()
}

/// Callbacks that panic and hang.
#[expect(clippy::panic, reason = "a callback that panics is one of the faults")]
fn observe_badly(meter: &Meter, stop: &Flag) {
    let (builder, panics) = (meter.clone(), AtomicBool::new(false));
    meter
        .u64_observable_gauge("chaos.panicking")
        .with_description("Panics every other time.")
        .with_callback(move |observer| {
            observer.observe(1, &[]);
            // Refused: an instrument that is built in a callback.
            builder.u64_counter("chaos.built_in_callback").build().add(1, &[]);
            if panics.fetch_xor(true, Ordering::Relaxed) {
                panic!("chaos");
            }
        })
        .build();
    let stop = stop.clone();
    meter
        .u64_observable_gauge("chaos.hanging")
        .with_description("Its callback takes longer than any collection waits.")
        .with_callback(move |observer| {
            stop.wait(HANGS);
            observer.observe(1, &[]);
        })
        .build();
}

/// A web configuration that asks for nothing.
const RIGHT: &str = "# Chaos\n";

/// Where this machine reaches what listens there.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => (Ipv4Addr::LOCALHOST, address.port()).into(),
        IpAddr::V6(ip) if ip.is_unspecified() => (Ipv6Addr::LOCALHOST, address.port()).into(),
        _ => address,
    }
}

/// Sends what no scraper sends, something else each round. The reasons are host (on loopback only), malformed, head, body,
/// and the scrape that is given up shows as `error_type="cancelled"` of `otel_sdk_exporter_operation_duration_seconds`.
fn disturb(endpoint: SocketAddr, round: usize, slow: &mut Option<(Instant, TcpStream)>) {
    let long = "a".repeat(64 * 1024);
    let (request, reads) = match round % 5 {
        0 => ("GET /metrics HTTP/1.1\r\nHost: elsewhere.example\r\nConnection: close\r\n\r\n".to_owned(), true),
        1 => ("not HTTP at all\r\n\r\n".to_owned(), true),
        2 => (format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Long: {long}\r\n\r\n"), true),
        3 => ("GET /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n".to_owned(), true),
        _ => ("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), false),
    };
    // However it ends: the endpoint has seen it.
    let _ = exchange(endpoint, &request, reads);
    // A head that never ends: the endpoint waits for ten seconds (head_timeout).
    if slow.as_ref().is_none_or(|(since, _)| since.elapsed() > Duration::from_secs(12)) {
        let begun = TcpStream::connect(endpoint).and_then(|mut stream| {
            stream.write_all(b"GET /metr")?;
            Ok((Instant::now(), stream))
        });
        *slow = begun.ok();
    }
}

fn exchange(endpoint: SocketAddr, request: &str, reads: bool) -> io::Result<()> {
    const PATIENCE: Duration = Duration::from_secs(1);
    let mut stream = TcpStream::connect_timeout(&endpoint, PATIENCE)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    if reads {
        stream.read_to_end(&mut Vec::new())?;
    }
    Ok(())
}
