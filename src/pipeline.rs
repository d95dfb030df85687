//! The pipeline: where resource, views, readers, exporters and the scrape endpoint meet, and who ends them.

mod builder;
mod check;

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::SdkMeterProvider;

pub use builder::TelemetryBuilder;

use crate::config::Configuration;
use crate::error::{FlushError, ScrapeError, ShutdownError, VerifyError};
use crate::exporter::Asked;
use crate::exporter::{ExportedRegistry, Pusher};
use crate::guard::{GuardedMeterProvider, is_in_round};
use crate::runtime;
use crate::scrape::{Compression, Gatherer, Readiness, ReadinessLatch, Request, ScrapeService, Server};

/// A metrics pipeline that runs: hands out meters, answers scrapes and pushes until it is shut down.
///
/// ```
/// use barograph::Telemetry;
/// use std::time::Duration;
///
/// let telemetry = Telemetry::builder("checkout").with_address("127.0.0.1:0").start()?;
/// // Components take the provider: `TestWatcherMetrics::new(telemetry.meter_provider())`.
/// telemetry.verify()?;
/// println!("curl http://{}/metrics", telemetry.local_addr().expect("it has an endpoint"));
/// telemetry.shutdown(Duration::from_secs(5))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// It needs no async runtime and works inside any: serving, collecting, encoding and pushing happen on threads of its
/// own. Dropped instead of shut down, it closes the endpoint at once, gives a last export a second, and says nothing.
#[derive(Debug)]
#[must_use = "the metrics are gone when the pipeline is dropped"]
pub struct Telemetry {
    provider: GuardedMeterProvider,
    sdk: SdkMeterProvider,
    configuration: Configuration,
    /// The first scrape endpoint's; one that answers with an error where there is none.
    service: ScrapeService,
    readiness: Arc<Readiness>,
    /// How long a shutdown goes on serving.
    linger: Duration,
    gatherers: Vec<Gatherer>,
    servers: Vec<Server>,
    pushers: Vec<Pusher>,
    exported: Option<ExportedRegistry>,
}

impl Telemetry {
    /// The provider of meters, for everything that takes a `&dyn MeterProvider`.
    #[must_use]
    pub fn meter_provider(&self) -> &GuardedMeterProvider {
        &self.provider
    }

    /// A meter of the provider, for a program's own instruments.
    #[must_use]
    pub fn meter(&self, name: &'static str) -> Meter {
        self.provider.meter(name)
    }

    /// Makes the provider the global one, for libraries that ask `opentelemetry::global` for a meter.
    ///
    /// Call it before they do: an instrument made before there is a global provider records nothing, ever.
    pub fn install_global(&self) {
        opentelemetry::global::set_meter_provider(self.provider.clone());
    }

    /// Where the endpoint listens, with the port that was chosen for port 0; `None` without an endpoint that has a port.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addrs().next()
    }

    /// Every address that an endpoint of the pipeline listens at, in the order in which they were asked for. Sockets in the
    /// file system have none.
    pub fn local_addrs(&self) -> impl Iterator<Item = SocketAddr> {
        self.servers.iter().flat_map(Server::local_addrs).copied()
    }

    /// The URLs of the metrics, as a client on this machine finds them: one for each of the addresses, `https` where a web
    /// configuration asks for TLS.
    pub fn local_urls(&self) -> impl Iterator<Item = &str> {
        self.servers.iter().flat_map(Server::urls).map(String::as_str)
    }

    /// Keeps `/readyz` at 503 until it is dropped, by a name that says what the program is waiting for. It may be moved to
    /// whoever knows when that is over; the program is ready once every latch is gone.
    ///
    /// ```
    /// use barograph::Telemetry;
    ///
    /// let telemetry = Telemetry::builder("checkout").with_address("127.0.0.1:0").start()?;
    /// let cache = telemetry.readiness_latch("cache");
    /// std::thread::spawn(move || {
    ///     // … fill the cache …
    ///     drop(cache);
    /// });
    /// # Ok::<(), barograph::StartError>(())
    /// ```
    pub fn readiness_latch(&self, name: impl Into<String>) -> ReadinessLatch {
        self.readiness.latch(name.into())
    }

    /// What the pipeline was built from, and where each setting came from.
    ///
    /// ```
    /// use barograph::Telemetry;
    ///
    /// let telemetry = Telemetry::builder("checkout").with_address("127.0.0.1:0").start()?;
    /// let settings = telemetry.configuration().settings();
    /// let port = settings.iter().find(|setting| setting.path.ends_with(".port"));
    /// assert_eq!(port.map(ToString::to_string).as_deref(),
    ///     Some("meter_provider.readers[0].pull.exporter.prometheus/development.port: 0 (code)"));
    /// # Ok::<(), barograph::StartError>(())
    /// ```
    #[must_use]
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// The endpoint as a tower service, to mount in a router of your own. Where the configuration has no scrape endpoint
    /// it answers 404, and says why.
    #[must_use]
    pub fn scrape_service(&self) -> ScrapeService {
        self.service.clone()
    }

    /// What a scrape would show now, as text. Blocks while the observable callbacks run, for 9.5 s at most.
    ///
    /// # Errors
    ///
    /// When collecting fails or a callback takes too long, where the configuration has no scrape endpoint, and always inside a callback: an empty
    /// page always means that there are no metrics.
    pub fn scrape(&self) -> Result<String, ScrapeError> {
        let timeout = self.service.default_timeout();
        let request = Request { wanted: Box::new(Asked::default()), compression: Compression::None, timeout };
        let page = self.service.gatherer().page_blocking(request)?;
        // The encoder writes nothing but UTF-8.
        Ok(String::from_utf8(page).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    /// Says whether every instrument built so far, and every view, does what it was meant to.
    ///
    /// Building an instrument cannot fail in the OpenTelemetry API, so call this once the program has built its own,
    /// before it says that it is ready. What is found later is logged, counted and shown on the landing page.
    ///
    /// # Errors
    ///
    /// Names or units that are not legal, impossible buckets, two instruments that would be scraped under one name,
    /// views that match nothing: each with its name, and where two sides collide, both. Once somebody has collected also
    /// instruments with more series than their limit.
    pub fn verify(&self) -> Result<(), VerifyError> {
        match self.provider.catalogue().problems() {
            problems if problems.is_empty() => Ok(()),
            problems => Err(VerifyError { problems }),
        }
    }

    /// Pushes what is recorded now, without waiting for the next interval. Does nothing where nothing is pushed.
    ///
    /// It blocks until the receivers have taken it, and no longer than `deadline`.
    ///
    /// # Errors
    ///
    /// When an exporter did not deliver in time; it goes on trying at its next interval. Always inside a callback.
    pub fn force_flush(&self, deadline: Duration) -> Result<(), FlushError> {
        // The export would wait for the callback, and the callback for the export.
        if is_in_round() {
            return Err(FlushError { failures: vec!["a callback cannot ask for a flush".to_owned()] });
        }
        let failures = self.push(false, Instant::now() + deadline.min(FOR_EVER));
        if failures.is_empty() { Ok(()) } else { Err(FlushError { failures }) }
    }

    /// Has every exporter push, all at once, and waits; returns what went wrong.
    fn push(&self, ends: bool, until: Instant) -> Vec<String> {
        let waits: Vec<_> = self.pushers.iter().map(|pusher| pusher.push(ends, until)).collect();
        waits.into_iter().filter_map(|wait| wait.until(until).err()).collect()
    }

    /// Shuts the pipeline down: `/readyz` says 503, the endpoint lingers as long as it was told to
    /// ([`with_linger`](TelemetryBuilder::with_linger)), then there are no new scrapes, those under way are answered, the last values are pushed, then the SDK
    /// ends. Returns within `deadline`, give or take a quarter of a second for closing sockets, even if a callback never
    /// returns or a receiver never answers.
    ///
    /// It blocks meanwhile; inside an async runtime call it last. Handles that are still recorded to do nothing.
    ///
    /// # Errors
    ///
    /// When scrapes were still under way at the deadline, the last values were not delivered, or the SDK complained. The
    /// pipeline is down all the same.
    pub fn shutdown(mut self, deadline: Duration) -> Result<(), ShutdownError> {
        let deadline = deadline.min(FOR_EVER);
        let end = Instant::now() + deadline;
        self.readiness.end();
        // What is left is for the answers under way and the last export.
        thread::sleep(self.linger.min(deadline.saturating_sub(ENDING.min(deadline / 2))));
        // The exporters begin at once, and are waited for once the scrapes have ended.
        let waits: Vec<_> = self.pushers.iter().map(|pusher| pusher.push(true, end)).collect();
        let mut drained = true;
        for server in self.servers.drain(..) {
            drained &= server.stop(end.saturating_duration_since(Instant::now()));
        }
        let failures: Vec<_> = waits.into_iter().filter_map(|wait| wait.until(end).err()).collect();
        let ended = self.end_sdk();
        let left = end.saturating_duration_since(Instant::now()).max(GRACE);
        match ended.recv_timeout(left) {
            Ok(Err(source)) => Err(ShutdownError::Sdk { source }),
            _ if !failures.is_empty() => Err(ShutdownError::Export { failures }),
            Ok(Ok(())) if drained => Ok(()),
            Ok(Ok(())) | Err(_) => Err(ShutdownError::Deadline { after: deadline }),
        }
    }

    /// Leaves the caller's registry and ends the SDK, on a thread of its own: both wait for a collection under way, and
    /// so for every callback, for as long as that takes.
    fn end_sdk(&mut self) -> mpsc::Receiver<OTelSdkResult> {
        self.readiness.end();
        self.gatherers.drain(..).for_each(|gatherer| gatherer.shut_down());
        self.service.gatherer().shut_down();
        let (done, ended) = mpsc::channel();
        let (sdk, exported) = (self.sdk.clone(), self.exported.take());
        // Without a thread nothing ends the SDK, and the caller is told so by the deadline.
        let _ = runtime::spawn("barograph-shutdown", move || {
            drop(exported);
            let _ = done.send(sdk.shutdown());
        });
        ended
    }
}

/// What is as good as no deadline, and can be added to a point in time.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What a lingering endpoint leaves of the deadline.
const ENDING: Duration = Duration::from_secs(1);

/// What even a deadline of nothing, or a drop, leaves the SDK to end in.
const GRACE: Duration = Duration::from_millis(100);

/// How long a drop waits for the last values to be delivered.
const LAST_EXPORT: Duration = Duration::from_secs(1);

impl Drop for Telemetry {
    fn drop(&mut self) {
        self.servers.clear();
        // After `shutdown` there is nothing left to end.
        if !self.service.gatherer().is_shut_down() {
            let _ = self.push(true, Instant::now() + LAST_EXPORT);
            let _ = self.end_sdk().recv_timeout(GRACE);
        }
    }
}
