//! The pipeline: where resource, views, readers and the scrape endpoint meet, and who ends them.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{InstrumentKind, ManualReader, Pipeline, SdkMeterProvider, Temporality};
use prometheus::Registry;

use crate::error::{ScrapeError, ShutdownError, StartError, VerifyError};
use crate::exporter::{
    Asked, ExportedRegistry, MergedRegistry, PrometheusExporter, PrometheusOptions, ResourceLabels, is_same_registry,
};
use crate::exposition::{Naming, TranslationStrategy};
use crate::guard::{GuardedMeterProvider, Scraped};
use crate::resource::resource;
use crate::runtime;
use crate::scrape::{Collector, Compression, Endpoint, Gatherer, Request, ScrapeService, Server};
use crate::self_metrics::SelfMetrics;
use crate::view::{Pattern, View, Views};

/// Where the specification of the Prometheus exporter wants it: on loopback, at port 9464.
const DEFAULT_ADDRESS: &str = "127.0.0.1:9464";
const DEFAULT_PATH: &str = "/metrics";

/// A metrics pipeline that runs: hands out meters and answers scrapes until it is shut down.
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
/// It needs no async runtime and works inside any: serving, collecting and encoding happen on threads of its own.
/// Dropped instead of shut down, it closes the endpoint at once and says nothing.
#[derive(Debug)]
#[must_use = "the metrics are gone when the pipeline is dropped"]
pub struct Telemetry {
    provider: GuardedMeterProvider,
    sdk: SdkMeterProvider,
    service: ScrapeService,
    server: Option<Server>,
    exported: Option<ExportedRegistry>,
}

impl Telemetry {
    /// Begins a pipeline for the service of this name, the `service.name` of its resource.
    pub fn builder(service_name: impl Into<String>) -> TelemetryBuilder {
        TelemetryBuilder {
            service_name: service_name.into(),
            attributes: Vec::new(),
            address: Some(DEFAULT_ADDRESS.to_owned()),
            path: DEFAULT_PATH.to_owned(),
            views: Vec::new(),
            prometheus: PrometheusOptions {
                naming: Naming::default(),
                target_info: true,
                scope_info: true,
                resource_labels: ResourceLabels::default(),
                created_series: false,
            },
            merged: None,
            export_to: None,
        }
    }

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

    /// Where the endpoint listens, with the port that was chosen for port 0; `None` without an endpoint.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.server.as_ref().map(Server::local_addr)
    }

    /// The endpoint as a tower service, to mount in a router of your own.
    #[must_use]
    pub fn scrape_service(&self) -> ScrapeService {
        self.service.clone()
    }

    /// What a scrape would show now, as text. Blocks while the observable callbacks run.
    ///
    /// # Errors
    ///
    /// When collecting fails, and always inside a callback: an empty page always means that there are no metrics.
    pub fn scrape(&self) -> Result<String, ScrapeError> {
        let request = Request { asked: Asked::default(), compression: Compression::None };
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
    /// views that match nothing: each with its name, and where two sides collide, both.
    pub fn verify(&self) -> Result<(), VerifyError> {
        match self.provider.catalogue().problems() {
            problems if problems.is_empty() => Ok(()),
            problems => Err(VerifyError { problems }),
        }
    }

    /// Shuts the pipeline down: no new scrapes, those under way are answered, then the SDK ends. Returns within
    /// `deadline`, give or take a quarter of a second for closing sockets, even if a callback never returns.
    ///
    /// It blocks meanwhile; inside an async runtime call it last. Handles that are still recorded to do nothing.
    ///
    /// # Errors
    ///
    /// When scrapes were still under way at the deadline, or the SDK complained. The pipeline is down all the same.
    pub fn shutdown(mut self, deadline: Duration) -> Result<(), ShutdownError> {
        let deadline = deadline.min(FOR_EVER);
        let end = Instant::now() + deadline;
        let drained = self.server.take().is_none_or(|server| server.stop(deadline));
        let ended = self.end_sdk();
        let left = end.saturating_duration_since(Instant::now()).max(GRACE);
        match ended.recv_timeout(left) {
            Ok(Ok(())) if drained => Ok(()),
            Ok(Err(source)) => Err(ShutdownError::Sdk { source }),
            Ok(Ok(())) | Err(_) => Err(ShutdownError::Deadline { after: deadline }),
        }
    }

    /// Leaves the caller's registry and ends the SDK, on a thread of its own: both wait for a collection under way, and
    /// so for every callback, for as long as that takes.
    fn end_sdk(&mut self) -> mpsc::Receiver<OTelSdkResult> {
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

/// What even a deadline of nothing, or a drop, leaves the SDK to end in.
const GRACE: Duration = Duration::from_millis(100);

impl Drop for Telemetry {
    fn drop(&mut self) {
        self.server = None;
        // After `shutdown` there is nothing left to end.
        if !self.service.gatherer().is_shut_down() {
            let _ = self.end_sdk().recv_timeout(GRACE);
        }
    }
}

/// Builds a [`Telemetry`].
#[derive(Debug)]
#[must_use = "nothing runs before `start`"]
pub struct TelemetryBuilder {
    // Required by the caller.
    service_name: String,
    // Optional.
    attributes: Vec<KeyValue>,
    address: Option<String>,
    path: String,
    views: Vec<View>,
    prometheus: PrometheusOptions,
    merged: Option<Registry>,
    export_to: Option<Registry>,
}

impl TelemetryBuilder {
    /// Adds attributes to the resource, exposed as labels of `target_info`. They win over `OTEL_RESOURCE_ATTRIBUTES`.
    pub fn with_resource(mut self, attributes: impl IntoIterator<Item = KeyValue>) -> Self {
        self.attributes.extend(attributes);
        self
    }

    /// Where the endpoint listens: a host and a port, where 0 lets the system choose. Defaults to `127.0.0.1:9464`:
    /// to be scraped from other machines, name an address that they reach.
    pub fn with_address(mut self, address: impl ToString) -> Self {
        self.address = Some(address.to_string());
        self
    }

    /// Opens no socket: for programs that mount [`Telemetry::scrape_service`] in a server of their own.
    pub fn without_endpoint(mut self) -> Self {
        self.address = None;
        self
    }

    /// Where the metrics are. Defaults to `/metrics`.
    pub fn with_path(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// Adds a view. Where several match, later ones are exceptions from earlier ones: see [`View`].
    pub fn with_view(mut self, view: View) -> Self {
        self.views.push(view);
        self
    }

    /// How names are translated for a scrape. Defaults to
    /// [`UnderscoreEscapingWithSuffixes`](TranslationStrategy::UnderscoreEscapingWithSuffixes).
    pub fn with_translation_strategy(mut self, strategy: TranslationStrategy) -> Self {
        self.prometheus.naming.strategy = strategy;
        self
    }

    /// Puts `namespace_` before the scraped name of every metric but `target_info` and those of a merged registry, whose
    /// names are final. Defaults to nothing.
    pub fn with_namespace(mut self, namespace: impl Into<String>) -> Self {
        self.prometheus.naming.namespace = namespace.into();
        self
    }

    /// Leaves out `target_info`, which says with the resource's attributes as labels who is measured.
    pub fn without_target_info(mut self) -> Self {
        self.prometheus.target_info = false;
        self
    }

    /// Leaves out the labels that say which meter a point belongs to, `otel_scope_name` and its like. Metrics of two
    /// meters that have one name are one metric then, and of their points with the same labels one is shown.
    pub fn without_scope_info(mut self) -> Self {
        self.prometheus.scope_info = false;
        self
    }

    /// Makes attributes of the resource labels of every point, besides those of `target_info`: those whose keys match
    /// `included` but not `excluded`. `*` stands for any characters and `?` for one; case matters. Defaults to none:
    /// each is a label more on every series, and a join with `target_info` has them all.
    ///
    /// ```
    /// use barograph::Telemetry;
    ///
    /// let builder = Telemetry::builder("checkout").with_resource_labels(["service.*"], ["service.instance.id"]);
    /// ```
    pub fn with_resource_labels<P: Into<String>, Q: Into<String>>(
        mut self,
        included: impl IntoIterator<Item = P>,
        excluded: impl IntoIterator<Item = Q>,
    ) -> Self {
        self.prometheus.resource_labels = ResourceLabels {
            included: included.into_iter().map(|pattern| Pattern::of_keys(pattern.into())).collect(),
            excluded: excluded.into_iter().map(|pattern| Pattern::of_keys(pattern.into())).collect(),
        };
        self
    }

    /// Shows in OpenMetrics when counters and histograms began to count, in a `_created` series for each. Off by
    /// default, because it is one series more for each; protobuf says it without a series, always.
    pub fn with_created_series(mut self) -> Self {
        self.prometheus.created_series = true;
        self
    }

    /// Shows the metrics of this registry in our scrape, after the SDK's. Under one name the SDK's type and points win.
    ///
    /// Its names are final: they get no namespace and no suffix, and are escaped where a scraper could not read them.
    /// Timestamps that a collector gives its samples are not shown: the scraper's own time counts.
    pub fn with_registry(mut self, registry: Registry) -> Self {
        self.merged = Some(registry);
        self
    }

    /// Shows our metrics in this registry, for a program that serves its registry itself.
    ///
    /// Their names are those of opentelemetry-prometheus: a name that ends with its unit or with `_total` already gets
    /// the suffix again. The registry is a second reader, and every record costs about twice as much.
    pub fn export_to_registry(mut self, registry: Registry) -> Self {
        self.export_to = Some(registry);
        self
    }

    /// Starts the pipeline. The endpoint is bound when this returns.
    ///
    /// # Errors
    ///
    /// When the address cannot be bound, or a path, a view or a registry cannot work. Nothing runs then.
    pub fn start(self) -> Result<Telemetry, StartError> {
        let views = Arc::new(Views::new(self.views)?);
        if let (Some(merged), Some(export_to)) = (&self.merged, &self.export_to)
            && is_same_registry(merged, export_to)
        {
            return Err(StartError::SameRegistry);
        }
        if !is_path(&self.path) {
            return Err(StartError::Path { path: self.path });
        }
        let listener = self.address.map(|address| bind(&address)).transpose()?;

        let reader = Arc::new(ManualReader::builder().with_temporality(Temporality::Cumulative).build());
        let mut builder = SdkMeterProvider::builder()
            .with_resource(resource(self.service_name.clone(), self.attributes))
            .with_reader(SharedReader(Arc::clone(&reader)));
        let mut exported = None;
        if let Some(registry) = &self.export_to {
            let (registration, reader) =
                ExportedRegistry::register(registry).map_err(|source| StartError::Registry { source })?;
            exported = Some(registration);
            builder = builder.with_reader(reader);
        }
        let sdk = views.install(builder).build();
        let self_metrics = Arc::new(SelfMetrics::new(&sdk));
        let PrometheusOptions { naming, target_info, scope_info, .. } = &self.prometheus;
        let scraped = Scraped { naming: naming.clone(), target_info: *target_info, scope_info: *scope_info };
        let provider = GuardedMeterProvider::new(sdk.clone(), views, scraped, Arc::clone(&self_metrics));

        let exporter = PrometheusExporter::new(self.prometheus, Arc::clone(&self_metrics));
        let merged = self.merged.map(|registry| MergedRegistry::new(registry, self_metrics));
        let thread = |name| move |source| StartError::Thread { name, source };
        let collector = Collector::new(reader, merged, provider.clone());
        let gatherer = Gatherer::start(collector, exporter).map_err(thread("barograph-collect"))?;
        let service = ScrapeService::new(Endpoint {
            service_name: self.service_name,
            path: self.path,
            gatherer,
            provider: provider.clone(),
        });
        let server = listener
            .map(|listener| Server::start(listener, service.clone()).map_err(thread("barograph-scrape")))
            .transpose()?;
        Ok(Telemetry { provider, sdk, service, server, exported })
    }
}

fn is_path(path: &str) -> bool {
    path.starts_with('/')
        && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'?' && byte != b'#')
        && !matches!(path, "/" | "/livez" | "/readyz")
}

/// Binds the first of the addresses that the text stands for and that can be bound.
fn bind(address: &str) -> Result<TcpListener, StartError> {
    let unresolved = |source| StartError::Address { address: address.to_owned(), source };
    let mut last = unresolved(io::Error::from(io::ErrorKind::NotFound));
    for address in address.to_socket_addrs().map_err(unresolved)? {
        match TcpListener::bind(address) {
            Ok(listener) => return Ok(listener),
            Err(source) => last = StartError::Bind { address, source },
        }
    }
    Err(last)
}

/// The scrape's reader: the SDK owns its readers, and we collect from this one.
#[derive(Debug)]
struct SharedReader(Arc<ManualReader>);

impl MetricReader for SharedReader {
    fn register_pipeline(&self, pipeline: std::sync::Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, data: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(data)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.0.temporality(kind)
    }
}
