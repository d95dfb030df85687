//! From what was asked for to a pipeline that runs.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::reader::MetricReader as SdkMetricReader;
use opentelemetry_sdk::metrics::{InstrumentKind, ManualReader, Pipeline, SdkMeterProvider, Temporality};
use prometheus::Registry;

use super::Telemetry;
use crate::config::{
    self, Configuration, Fallback, HistogramAggregation, IncludeExclude, MetricReader, PeriodicMetricReader,
    Preferences, PrometheusMetricExporter, PullMetricReader, TemporalityPreference,
};
use crate::error::{ConfigError, StartError};
use crate::exporter::{
    ExportedRegistry, MergedRegistry, Periodic, PrometheusExporter, PrometheusOptions, PushExporter, Pusher,
    ResourceLabels, is_same_registry,
};
use crate::exposition::{Naming, TranslationStrategy};
use crate::guard::{EnabledMeters, GuardedMeterProvider, Scraped};
use crate::resource;
use crate::scrape::{Collector, Endpoint, Gatherer, ScrapeService, Server};
use crate::self_metrics::{ExportMetrics, SelfMetrics};
use crate::view::{Pattern, ReaderDefaults, View, Views};

impl Telemetry {
    /// Begins a pipeline for the service of this name, the `service.name` of its resource, with a scrape endpoint at
    /// `http://localhost:9464/metrics`. Of the environment it takes `OTEL_RESOURCE_ATTRIBUTES` and nothing else.
    pub fn builder(service_name: impl Into<String>) -> TelemetryBuilder {
        TelemetryBuilder::new(Base::Named(service_name.into()))
    }

    /// Begins a pipeline that is what the environment asks for: the variables of OpenTelemetry, or the file that
    /// `OTEL_CONFIG_FILE` names. The module [`config`](crate::config) lists them.
    ///
    /// ```no_run
    /// use barograph::Telemetry;
    ///
    /// let telemetry = Telemetry::from_env().or_service_name("checkout").start()?;
    /// # Ok::<(), barograph::StartError>(())
    /// ```
    ///
    /// Where `OTEL_METRICS_EXPORTER` is not set it serves a scrape; [`or_exporters`](TelemetryBuilder::or_exporters)
    /// chooses another fallback. (OpenTelemetry's own default is `otlp`.) What the methods of the builder say stands
    /// before the environment.
    ///
    /// What cannot work is an error of [`start`](TelemetryBuilder::start), and whether to run without metrics is the
    /// program's to decide:
    ///
    /// ```no_run
    /// use barograph::{Config, Telemetry};
    ///
    /// let telemetry = Telemetry::from_env().start().or_else(|error| {
    ///     eprintln!("running without metrics: {error}");
    ///     Telemetry::from_config(Config::default()).start()
    /// })?;
    /// # Ok::<(), barograph::StartError>(())
    /// ```
    pub fn from_env() -> TelemetryBuilder {
        let fallback = Fallback { service_name: None, exporters: "prometheus".to_owned() };
        TelemetryBuilder::new(Base::Environment(fallback))
    }

    /// Begins a pipeline that is what this configuration says: a [`Config`](crate::Config) that was written in code, or a
    /// [`Configuration`] that was read from a file. The environment has no say.
    pub fn from_config(configuration: impl Into<Configuration>) -> TelemetryBuilder {
        TelemetryBuilder::new(Base::Given(Box::new(configuration.into())))
    }
}

/// What a builder begins with.
#[derive(Debug)]
enum Base {
    Named(String),
    Environment(Fallback),
    Given(Box<Configuration>),
}

impl Base {
    fn configuration(self) -> Result<Configuration, ConfigError> {
        match self {
            Self::Named(name) => Ok(config::named(&name)),
            Self::Environment(fallback) => config::from_env(&fallback),
            Self::Given(configuration) => Ok(*configuration),
        }
    }
}

/// What code says beyond it.
type Change = Box<dyn FnOnce(&mut Configuration) -> Result<(), StartError> + Send>;

/// Builds a [`Telemetry`].
#[must_use = "nothing runs before `start`"]
pub struct TelemetryBuilder {
    base: Base,
    changes: Vec<Change>,
    merged: Option<Registry>,
    export_to: Option<Registry>,
}

impl fmt::Debug for TelemetryBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TelemetryBuilder")
            .field("base", &self.base)
            .field("changes", &self.changes.len())
            .field("merged", &self.merged)
            .field("export_to", &self.export_to)
            .finish()
    }
}

impl TelemetryBuilder {
    fn new(base: Base) -> Self {
        Self { base, changes: Vec::new(), merged: None, export_to: None }
    }

    fn change(mut self, change: impl FnOnce(&mut Configuration) + Send + 'static) -> Self {
        self.changes.push(Box::new(|configuration| {
            change(configuration);
            Ok(())
        }));
        self
    }

    /// Changes every scrape endpoint, and keeps in mind that code has said so.
    fn change_prometheus(
        self,
        field: &'static str,
        change: impl Fn(&mut PrometheusMetricExporter) + Send + 'static,
    ) -> Self {
        self.change(move |configuration| change_prometheus(configuration, &[field], change))
    }

    /// The service's name where neither the environment nor its file has one. Without one it is `unknown_service` with the
    /// program's name. Says nothing where the pipeline does not come from the environment.
    pub fn or_service_name(mut self, name: impl Into<String>) -> Self {
        if let Base::Environment(fallback) = &mut self.base {
            fallback.service_name = Some(name.into());
        }
        self
    }

    /// The exporters where `OTEL_METRICS_EXPORTER` names none, as it would name them. Defaults to `prometheus`. Says
    /// nothing where the pipeline does not come from the environment.
    ///
    /// ```no_run
    /// use barograph::Telemetry;
    ///
    /// let telemetry = Telemetry::from_env().or_exporters("prometheus,otlp").start()?;
    /// # Ok::<(), barograph::StartError>(())
    /// ```
    pub fn or_exporters(mut self, exporters: impl Into<String>) -> Self {
        if let Base::Environment(fallback) = &mut self.base {
            fallback.exporters = exporters.into();
        }
        self
    }

    /// Adds a reader: an exporter that is pushed to, or one more scrape endpoint.
    ///
    /// ```
    /// use barograph::Telemetry;
    /// use barograph::config::{MetricReader, OtlpMetricExporter, PushMetricExporter};
    ///
    /// let otlp = OtlpMetricExporter::http("http://collector:4318");
    /// // Scraped and pushed.
    /// let builder = Telemetry::builder("checkout")
    ///     .with_reader(MetricReader::periodic(PushMetricExporter::OtlpHttp(otlp)));
    /// ```
    pub fn with_reader(self, reader: MetricReader) -> Self {
        self.change(|configuration| {
            let readers = &mut configuration.config.meter_provider.get_or_insert_default().readers;
            let path = format!("meter_provider.readers[{}]", readers.len());
            readers.push(reader);
            configuration.set_by_code(path);
        })
    }

    /// Adds attributes to the resource. They win over those of the environment and of files.
    pub fn with_resource(self, attributes: impl IntoIterator<Item = KeyValue>) -> Self {
        let attributes: Vec<_> = attributes.into_iter().collect();
        self.change(|configuration| {
            for attribute in attributes {
                configuration.set_by_code(format!("resource.attributes.{}", attribute.key));
                configuration.config.resource.set(attribute);
            }
        })
    }

    /// Where the endpoint listens: a host and a port, where 0 lets the system choose. Defaults to `localhost:9464`: to be
    /// scraped from other machines, name an address that they reach. Says nothing where there is no scrape endpoint,
    /// as the other methods about one.
    pub fn with_address(mut self, address: impl ToString) -> Self {
        let address = address.to_string();
        self.changes.push(Box::new(move |configuration| {
            let (host, port) = host_and_port(&address)?;
            change_prometheus(configuration, &["host", "port"], |exporter| {
                exporter.host.clone_from(&host);
                exporter.port = port;
                exporter.listens = true;
            });
            Ok(())
        }));
        self
    }

    /// Opens no socket: for programs that mount [`Telemetry::scrape_service`] in a server of their own.
    pub fn without_endpoint(self) -> Self {
        self.change_prometheus("listens", |exporter| exporter.listens = false)
    }

    /// Where the metrics are. Defaults to `/metrics`.
    pub fn with_path(self, path: impl Into<String>) -> Self {
        let path = path.into();
        self.change_prometheus("path", move |exporter| exporter.path.clone_from(&path))
    }

    /// Adds a view, after those of a file. Where several match, later ones are exceptions from earlier ones: see [`View`].
    pub fn with_view(self, view: View) -> Self {
        self.change(|configuration| {
            let views = &mut configuration.config.meter_provider.get_or_insert_default().views;
            let path = format!("meter_provider.views[{}]", views.len());
            views.push(view);
            configuration.set_by_code(path);
        })
    }

    /// How names are translated for a scrape. Defaults to
    /// [`UnderscoreEscapingWithSuffixes`](TranslationStrategy::UnderscoreEscapingWithSuffixes).
    pub fn with_translation_strategy(self, strategy: TranslationStrategy) -> Self {
        self.change_prometheus("translation_strategy", move |exporter| exporter.translation_strategy = strategy)
    }

    /// Puts `namespace_` before the scraped name of every metric but `target_info` and those of a merged registry, whose
    /// names are final. Defaults to nothing.
    pub fn with_namespace(self, namespace: impl Into<String>) -> Self {
        let namespace = namespace.into();
        self.change_prometheus("namespace", move |exporter| exporter.namespace.clone_from(&namespace))
    }

    /// Leaves out `target_info`, which says with the resource's attributes as labels who is measured.
    pub fn without_target_info(self) -> Self {
        self.change_prometheus("target_info_enabled/development", |exporter| exporter.target_info_enabled = false)
    }

    /// Leaves out the labels that say which meter a point belongs to, `otel_scope_name` and its like. Metrics of two
    /// meters that have one name are one metric then, and of their points with the same labels one is shown.
    pub fn without_scope_info(self) -> Self {
        self.change_prometheus("scope_info_enabled", |exporter| exporter.scope_info_enabled = false)
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
        self,
        included: impl IntoIterator<Item = P>,
        excluded: impl IntoIterator<Item = Q>,
    ) -> Self {
        let labels = IncludeExclude {
            included: Some(included.into_iter().map(Into::into).collect()),
            excluded: excluded.into_iter().map(Into::into).collect(),
        };
        self.change_prometheus("resource_constant_labels", move |exporter| {
            exporter.resource_constant_labels = Some(labels.clone());
        })
    }

    /// Shows in OpenMetrics when counters and histograms began to count, in a `_created` series for each. Off by
    /// default, because it is one series more for each; protobuf says it without a series, always.
    pub fn with_created_series(self) -> Self {
        self.change_prometheus("created_series", |exporter| exporter.created_series = true)
    }

    /// Shows the metrics of this registry in our scrape, after the SDK's. Under one name the SDK's type and points win.
    /// They are not pushed: who pushes is the SDK's reader, which does not know them.
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

    /// Starts the pipeline. The endpoint is bound when this returns, and every file that an exporter needs has been read.
    ///
    /// # Errors
    ///
    /// When the configuration, a path, a view or a registry cannot work, or the address cannot be bound. Nothing runs
    /// then.
    pub fn start(self) -> Result<Telemetry, StartError> {
        let mut configuration = self.base.configuration()?;
        self.changes.into_iter().try_for_each(|change| change(&mut configuration))?;
        if let (Some(merged), Some(export_to)) = (&self.merged, &self.export_to)
            && is_same_registry(merged, export_to)
        {
            return Err(StartError::SameRegistry);
        }
        let disabled = configuration.config.disabled;
        let meter_provider = configuration.config.meter_provider.clone().filter(|_| !disabled).unwrap_or_default();
        let views = Arc::new(Views::new(meter_provider.views)?);
        let (pulls, pushes) = split(meter_provider.readers, &configuration)?;

        let mut sources = Sources::default();
        let pulls: Vec<_> = pulls.into_iter().map(|pull| (sources.of_pull(&pull.reader), pull)).collect();
        let pushes: Vec<_> = pushes.into_iter().map(|push| (sources.of_push(&push.reader), push)).collect();
        let mut builder = SdkMeterProvider::builder().with_resource(resource(&configuration));
        for source in &sources.0 {
            builder = builder.with_reader(SharedReader(Arc::clone(&source.reader)));
        }
        let mut readers: Vec<_> = sources.0.iter().map(|source| source.key.defaults).collect();
        let mut exported = None;
        if let Some(registry) = self.export_to.as_ref().filter(|_| !disabled) {
            let (registration, reader) =
                ExportedRegistry::register(registry).map_err(|source| StartError::Registry { source })?;
            exported = Some(registration);
            builder = builder.with_reader(reader);
            readers.push(ReaderDefaults::default());
        }
        let is_read = !readers.is_empty();
        let sdk = views.install(readers, builder).build();
        let self_metrics = Arc::new(SelfMetrics::new(&sdk));
        let scraped = pulls.first().map(|(_, pull)| pull.reader.exporter.clone()).unwrap_or_default();
        let configurator = meter_provider.meter_configurator;
        let rules = configurator.meters.into_iter().map(|meter| (Pattern::of_keys(meter.name), meter.enabled));
        let enabled = EnabledMeters {
            default: is_read && configurator.default_enabled,
            rules: rules.filter(|_| is_read).collect(),
        };
        let provider =
            GuardedMeterProvider::new(sdk.clone(), views, shown(&scraped), enabled, Arc::clone(&self_metrics));

        let thread = |name| move |source| StartError::Thread { name, source };
        let service_name = service_name(&configuration);
        let mut endpoints = Vec::new();
        for (reader, pull) in pulls {
            let exporter = PrometheusExporter::new(options(&pull.reader.exporter), Arc::clone(&self_metrics));
            let merged = self.merged.clone().map(|registry| MergedRegistry::new(registry, Arc::clone(&self_metrics)));
            let collector = Collector::new(reader, merged, provider.clone());
            let gatherer = Gatherer::start(collector, exporter).map_err(thread("barograph-collect"))?;
            let path = pull.reader.exporter.path;
            let endpoint = Endpoint { service_name: service_name.clone(), path, gatherer, provider: provider.clone() };
            endpoints.push((ScrapeService::new(endpoint), pull.listener));
        }
        let service = endpoints.first().map(|(service, _)| service.clone());
        let service = service.unwrap_or_else(|| {
            let (path, gatherer) = (scraped.path, Gatherer::absent());
            ScrapeService::new(Endpoint { service_name, path, gatherer, provider: provider.clone() })
        });
        let gatherers = endpoints.iter().map(|(service, _)| service.gatherer().clone()).collect();
        let mut servers = Vec::new();
        for (service, listener) in endpoints {
            if let Some(listener) = listener {
                servers.push(Server::start(listener, service).map_err(thread("barograph-scrape"))?);
            }
        }
        let pushers = start_pushers(pushes, &sdk)?;
        say(&configuration);
        Ok(Telemetry { provider, sdk, configuration, service, gatherers, servers, pushers, exported })
    }
}

/// The times between two exports that make sense of those that can be written: without a pause there would be nothing
/// but exports, and a year can be added to a point in time.
const SHORTEST: Duration = Duration::from_micros(1);
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A scrape endpoint to be, with its socket.
struct Pull {
    reader: PullMetricReader,
    listener: Option<TcpListener>,
}

/// An exporter to be, checked as far as it can be without its receiver.
struct Push {
    reader: PeriodicMetricReader,
    exporter: PushExporter,
}

fn split(readers: Vec<MetricReader>, configuration: &Configuration) -> Result<(Vec<Pull>, Vec<Push>), StartError> {
    let (mut pulls, mut pushes) = (Vec::new(), Vec::new());
    for (index, reader) in readers.into_iter().enumerate() {
        match reader {
            MetricReader::Pull(reader) => {
                let PrometheusMetricExporter { host, port, listens, path, .. } = &reader.exporter;
                if !is_path(path) {
                    return Err(StartError::Path { path: path.clone() });
                }
                let listener = listens.then(|| bind(host, *port)).transpose()?;
                pulls.push(Pull { reader, listener });
            }
            MetricReader::Periodic(reader) => {
                let exporter = configuration.push_exporter(index, &reader)?;
                pushes.push(Push { reader, exporter });
            }
        }
    }
    Ok((pulls, pushes))
}

fn start_pushers(pushes: Vec<(Arc<ManualReader>, Push)>, sdk: &SdkMeterProvider) -> Result<Vec<Pusher>, StartError> {
    let mut names: Vec<&'static str> = Vec::new();
    let mut pushers = Vec::new();
    for (reader, Push { reader: PeriodicMetricReader { interval, timeout, exporter: config, .. }, exporter }) in pushes
    {
        let name = exporter.name();
        names.push(name);
        let metrics = match names.iter().filter(|other| **other == name).count() {
            1 => ExportMetrics::new(sdk, name.to_owned()),
            // Two of a kind are told apart.
            nth => ExportMetrics::new(sdk, format!("{name}/{nth}")),
        };
        let is_cumulative = config.preferences().temporality == TemporalityPreference::Cumulative;
        let interval = interval.clamp(SHORTEST, LONGEST);
        let pusher = Pusher::start(Periodic { reader, is_cumulative, exporter, interval, timeout, metrics });
        pushers.push(pusher.map_err(|source| StartError::Thread { name: "barograph-export", source })?);
    }
    Ok(pushers)
}

/// The SDK's readers. Whoever wants the same of one shares it: every reader costs every record once more.
#[derive(Default)]
struct Sources(Vec<Source>);

struct Source {
    key: SourceKey,
    reader: Arc<ManualReader>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct SourceKey {
    temporality: TemporalityPreference,
    defaults: ReaderDefaults,
    /// What is collected as a difference is gone with its collection: that reader is nobody else's.
    owner: Option<usize>,
}

impl Sources {
    fn of_pull(&mut self, reader: &PullMetricReader) -> Arc<ManualReader> {
        let defaults = ReaderDefaults { has_exponential_histograms: false, limits: reader.cardinality_limits };
        self.get(SourceKey { temporality: TemporalityPreference::Cumulative, defaults, owner: None })
    }

    fn of_push(&mut self, reader: &PeriodicMetricReader) -> Arc<ManualReader> {
        let Preferences { temporality, default_histogram_aggregation } = reader.exporter.preferences();
        let has_exponential_histograms =
            default_histogram_aggregation == HistogramAggregation::Base2ExponentialBucketHistogram;
        let defaults = ReaderDefaults { has_exponential_histograms, limits: reader.cardinality_limits };
        let owner = (temporality != TemporalityPreference::Cumulative).then_some(self.0.len());
        self.get(SourceKey { temporality, defaults, owner })
    }

    fn get(&mut self, key: SourceKey) -> Arc<ManualReader> {
        if let Some(source) = self.0.iter().find(|source| source.key == key) {
            return Arc::clone(&source.reader);
        }
        let temporality = match key.temporality {
            TemporalityPreference::Cumulative => Temporality::Cumulative,
            TemporalityPreference::Delta => Temporality::Delta,
            TemporalityPreference::LowMemory => Temporality::LowMemory,
        };
        let reader = Arc::new(ManualReader::builder().with_temporality(temporality).build());
        self.0.push(Source { key, reader: Arc::clone(&reader) });
        reader
    }
}

/// Says once what was resolved, and from where.
fn say(configuration: &Configuration) {
    for warning in &configuration.warnings {
        tracing::warn!("{warning}");
    }
    let settings: Vec<_> = configuration.settings().iter().map(ToString::to_string).collect();
    tracing::info!("the metrics pipeline runs: {}", settings.join(", "));
}

fn shown(exporter: &PrometheusMetricExporter) -> Scraped {
    let PrometheusOptions { naming, target_info, scope_info, .. } = options(exporter);
    Scraped { naming, target_info, scope_info }
}

fn options(exporter: &PrometheusMetricExporter) -> PrometheusOptions {
    let patterns = |names: &[String]| names.iter().cloned().map(Pattern::of_keys).collect();
    let resource_labels = exporter.resource_constant_labels.as_ref().map(|labels| ResourceLabels {
        included: patterns(labels.included.as_deref().unwrap_or(&["*".to_owned()])),
        excluded: patterns(&labels.excluded),
    });
    PrometheusOptions {
        naming: Naming { strategy: exporter.translation_strategy, namespace: exporter.namespace.clone() },
        target_info: exporter.target_info_enabled,
        scope_info: exporter.scope_info_enabled,
        resource_labels: resource_labels.unwrap_or_default(),
        created_series: exporter.created_series,
    }
}

fn resource(configuration: &Configuration) -> opentelemetry_sdk::Resource {
    let config = &configuration.config.resource;
    let found = config.detection.detectors.iter().flat_map(|detector| config::detect(*detector));
    let names = &config.detection.attributes;
    let kept = found.filter(|attribute| names.contains(attribute.key.as_str()));
    resource::resource(kept.collect(), config.attributes.clone(), config.schema_url.clone())
}

fn service_name(configuration: &Configuration) -> String {
    let attributes = &configuration.config.resource.attributes;
    let name = attributes.iter().find(|attribute| attribute.key.as_str() == "service.name");
    name.map_or_else(resource::unknown_service, |attribute| attribute.value.to_string())
}

fn change_prometheus(
    configuration: &mut Configuration,
    fields: &[&'static str],
    change: impl Fn(&mut PrometheusMetricExporter),
) {
    let readers = configuration.config.meter_provider.iter_mut().flat_map(|provider| provider.readers.iter_mut());
    let mut paths = Vec::new();
    for (index, reader) in readers.enumerate() {
        if let MetricReader::Pull(pull) = reader {
            change(&mut pull.exporter);
            let path = format!("meter_provider.readers[{index}].pull.exporter.prometheus/development");
            paths.extend(fields.iter().map(|field| format!("{path}.{field}")));
        }
    }
    paths.into_iter().for_each(|path| configuration.set_by_code(path));
}

fn is_path(path: &str) -> bool {
    path.starts_with('/')
        && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'?' && byte != b'#')
        && !matches!(path, "/" | "/livez" | "/readyz")
}

/// `host:port`, with brackets around an IPv6 address.
fn host_and_port(address: &str) -> Result<(String, u16), StartError> {
    let invalid = |what: &str| StartError::Address {
        address: address.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidInput, what.to_owned()),
    };
    let (host, port) = address.rsplit_once(':').ok_or_else(|| invalid("invalid socket address"))?;
    let port = port.parse().map_err(|_| invalid("invalid port value"))?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Ok((host.to_owned(), port))
}

/// Binds the first of the addresses that the host stands for and that can be bound.
fn bind(host: &str, port: u16) -> Result<TcpListener, StartError> {
    let unresolved = |source| StartError::Address { address: format!("{host}:{port}"), source };
    let mut addresses: Vec<SocketAddr> = (host, port).to_socket_addrs().map_err(unresolved)?.collect();
    // A name for both families: what people type into curl and into scrape configurations is the older one.
    addresses.sort_by_key(SocketAddr::is_ipv6);
    let mut last = unresolved(io::Error::from(io::ErrorKind::NotFound));
    for address in addresses {
        match TcpListener::bind(address) {
            Ok(listener) => return Ok(listener),
            Err(source) => last = StartError::Bind { address, source },
        }
    }
    Err(last)
}

/// A reader that the SDK owns and that we collect from.
#[derive(Debug)]
struct SharedReader(Arc<ManualReader>);

impl SdkMetricReader for SharedReader {
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
