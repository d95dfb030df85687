//! From what was asked for to a pipeline that runs.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider;
use opentelemetry::metrics::noop::NoopMeterProvider;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::reader::MetricReader as SdkMetricReader;
use opentelemetry_sdk::metrics::{InstrumentKind, ManualReader, Pipeline, SdkMeterProvider, Temporality};
use prometheus::Registry;

use super::Telemetry;
use crate::config::{
    self, Configuration, EndpointLimits, ExemplarFilter, Fallback, HistogramAggregation, IncludeExclude, Listener,
    LivePage, MeterMatcher, MetricReader, PeriodicMetricReader, Preferences, PrometheusMetricExporter,
    PullMetricReader, TemporalityPreference,
};
use crate::error::{ConfigError, StartError};
use crate::exemplar::Filter;
use crate::exporter::{
    ExportedRegistry, Periodic, PrometheusExporter, PrometheusOptions, PushExporter, Pusher, ResourceLabels,
    is_same_registry, merged_registry,
};
use crate::exposition::{Naming, TranslationStrategy};
use crate::guard::{Callbacks, EnabledMeters, GuardedMeterProvider, Scraped, Watch};
use crate::resource;
use crate::scrape::{
    Bound, Collector, DebugPage, Endpoint, Gatherer, Live, Offer, Readiness, ScrapeService, ScrapeTimeouts, Server,
    WebConfig, bind,
};
use crate::self_metrics::{self, ExportMetrics, ScrapeMetrics, SelfMetrics};
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

    /// Where the endpoint listens: a host and a port, where 0 lets the system choose, `unix:` and the path of a socket, or
    /// `systemd` for what [socket activation] hands over. Defaults to `localhost:9464`: to be scraped from other
    /// machines, name an address that they reach. Says nothing where there is no scrape endpoint, as the other methods
    /// about one.
    ///
    /// [socket activation]: https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html
    pub fn with_address(self, address: impl ToString) -> Self {
        self.with_addresses([address])
    }

    /// Several places where the endpoint listens, each as [`with_address`](Self::with_address) takes it.
    ///
    /// ```
    /// use barograph::Telemetry;
    ///
    /// let builder = Telemetry::builder("checkout")
    ///     .with_addresses(["127.0.0.1:9464", "[::1]:9464", "unix:/run/checkout/metrics.sock"]);
    /// ```
    pub fn with_addresses<A: ToString>(mut self, addresses: impl IntoIterator<Item = A>) -> Self {
        let addresses: Vec<_> = addresses.into_iter().map(|address| address.to_string()).collect();
        self.changes.push(Box::new(move |configuration| {
            let listeners = addresses.iter().map(|address| address.parse()).collect::<Result<Vec<Listener>, _>>()?;
            change_prometheus(configuration, &["host", "port", "listeners"], |exporter| {
                exporter.listens = true;
                match listeners.as_slice() {
                    // What the schema has words for is said in them.
                    [Listener::Tcp { host, port }] => {
                        (exporter.host, exporter.port) = (host.clone(), *port);
                        exporter.listeners.clear();
                    }
                    listeners => exporter.listeners = listeners.to_vec(),
                }
            });
            Ok(())
        }));
        self
    }

    /// Opens no socket: for programs that mount [`Telemetry::scrape_service`] in a server of their own.
    pub fn without_endpoint(self) -> Self {
        self.change_prometheus("listens", |exporter| exporter.listens = false)
    }

    /// The file that asks for TLS and for passwords, tokens or client certificates, in the [format] of Prometheus' own
    /// exporters, with `bearer_token_file` besides. It and the files that it names are read again when they change. Needs the
    /// feature `web-config`.
    ///
    /// ```no_run
    /// use barograph::Telemetry;
    ///
    /// let telemetry = Telemetry::builder("checkout")
    ///     .with_address("0.0.0.0:9464")
    ///     .with_web_config("/etc/checkout/web-config.yml")
    ///     .start()?;
    /// # Ok::<(), barograph::StartError>(())
    /// ```
    ///
    /// [format]: https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md
    pub fn with_web_config(self, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        self.change_prometheus("web_config_file", move |exporter| exporter.web_config_file = Some(path.clone()))
    }

    /// What anybody can take of the endpoint: see [`EndpointLimits`].
    pub fn with_limits(self, limits: EndpointLimits) -> Self {
        self.change_prometheus("limits", move |exporter| exporter.limits = limits.clone())
    }

    /// How long a shutdown goes on serving before it ends, so that every Prometheus scrapes the last values: a scrape
    /// interval, and a little. `/readyz` says 503 meanwhile. It is part of the shutdown's deadline, of which the end needs
    /// some too. Defaults to not at all.
    pub fn with_linger(self, linger: Duration) -> Self {
        self.change_prometheus("linger", move |exporter| exporter.linger = linger)
    }

    /// Leaves out what the pipeline says about itself, the metrics of the meter `barograph`. In a file it is that meter's
    /// `enabled: false`.
    pub fn without_self_metrics(self) -> Self {
        self.change(|configuration| {
            let provider = configuration.config.meter_provider.get_or_insert_default();
            let rule = MeterMatcher { name: self_metrics::SCOPE.to_owned(), enabled: false };
            // The first that matches decides.
            provider.meter_configurator.meters.insert(0, rule);
            configuration.set_by_code("meter_provider.meter_configurator/development");
        })
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

    /// Adds views, for example those that a component offers as [`ViewSpec`](crate::ViewSpec)s: see
    /// [`with_view`](Self::with_view).
    ///
    /// ```
    /// use barograph::{Telemetry, ViewSpec};
    ///
    /// const OLD_NAMES: &[ViewSpec] = &[ViewSpec::new("worker.jobs", "jobs_done")];
    ///
    /// let builder = Telemetry::builder("worker").with_views(OLD_NAMES.iter().copied());
    /// ```
    pub fn with_views<V: Into<View>>(self, views: impl IntoIterator<Item = V>) -> Self {
        views.into_iter().fold(self, |builder, view| builder.with_view(view.into()))
    }

    /// Which measurements become exemplars: of counters and histograms, the last of each series and of each bucket.
    /// Defaults to [`ExemplarFilter::TraceBased`], those that are made inside a sampled span. The variable is
    /// `OTEL_METRICS_EXEMPLAR_FILTER`.
    ///
    /// Of a typed counter the first 16 adds of each thread to each series after a collection can become one, and then one in about
    /// 64 of values that are alike.
    ///
    /// They are shown to scrapers that ask for OpenMetrics or protobuf, with the trace's and the span's ids and with the
    /// attributes that a view has left out, as far as 128 characters allow; and they are pushed by OTLP. Prometheus keeps
    /// them with `--enable-feature=exemplar-storage`.
    ///
    /// ```
    /// use barograph::Telemetry;
    /// use barograph::config::ExemplarFilter;
    ///
    /// let builder = Telemetry::builder("checkout").with_exemplar_filter(ExemplarFilter::AlwaysOff);
    /// ```
    pub fn with_exemplar_filter(self, filter: ExemplarFilter) -> Self {
        self.change(move |configuration| {
            configuration.config.meter_provider.get_or_insert_default().exemplar_filter = filter;
            configuration.set_by_code("meter_provider.exemplar_filter");
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

    /// Explains every metric at `/debug/metrics`, in JSON: why it is called what it is called, which views changed it, how
    /// many series it has and may have, and why an instrument is missing. `?name=` shows one of them. Off by default:
    /// each collection then looks through every point, and the page shows names, descriptions and attribute keys to
    /// whoever can scrape, but never the value of an attribute.
    ///
    /// ```
    /// use barograph::Telemetry;
    ///
    /// let builder = Telemetry::builder("checkout").with_debug_page();
    /// // curl -s 'http://localhost:9464/debug/metrics?name=http_server_request_duration_seconds' | jq
    /// ```
    pub fn with_debug_page(self) -> Self {
        self.change_prometheus("debug_page", |exporter| exporter.debug_page = true)
    }

    /// Chooses who sees the live page at `/`, which shows in a browser what is recorded, as it is recorded. Defaults to
    /// browsers on this machine, [`LivePage::Loopback`]. Nothing is collected for it but while it is open. Without the
    /// feature `page` there is none, whatever is said here.
    ///
    /// ```
    /// use barograph::Telemetry;
    /// use barograph::config::LivePage;
    ///
    /// // In a container the browser is on another machine.
    /// let builder = Telemetry::builder("checkout").with_address("0.0.0.0:9464").with_live_page(LivePage::Anyone);
    /// ```
    pub fn with_live_page(self, page: LivePage) -> Self {
        self.change_prometheus("live_page", move |exporter| exporter.live_page = page)
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
        let scraped = pulls.first().map(|(_, pull)| pull.reader.exporter.clone()).unwrap_or_default();
        let configurator = meter_provider.meter_configurator;
        let rules = configurator.meters.into_iter().map(|meter| (Pattern::of_keys(meter.name), meter.enabled));
        let enabled = EnabledMeters {
            default: is_read && configurator.default_enabled,
            rules: rules.filter(|_| is_read).collect(),
        };
        // What the pipeline says about itself leaves by the SDK's own provider: nobody has to be guarded from it.
        let nobody = NoopMeterProvider::new();
        let own: &dyn MeterProvider = if enabled.contains(self_metrics::SCOPE) { &sdk } else { &nobody };
        let self_metrics = Arc::new(SelfMetrics::new(own));
        let scrape_metrics = Arc::new(ScrapeMetrics::new(if pulls.is_empty() { &nobody } else { own }));
        let exemplars = match meter_provider.exemplar_filter {
            ExemplarFilter::AlwaysOn => Some(Filter::AlwaysOn),
            ExemplarFilter::AlwaysOff => None,
            ExemplarFilter::TraceBased => Some(Filter::TraceBased),
        };
        let own_metrics = Arc::clone(&self_metrics);
        let provider = GuardedMeterProvider::new(sdk.clone(), views, shown(&scraped), enabled, exemplars, own_metrics);

        let thread = |name| move |source| StartError::Thread { name, source };
        let service_name = service_name(&configuration);
        let readiness = Arc::new(Readiness::default());
        let linger = pulls.iter().map(|(_, pull)| pull.reader.exporter.linger).max().unwrap_or_default();
        let endpoint = |exporter: &PrometheusMetricExporter, gatherer, debug, live| {
            let EndpointLimits { scrape_timeout: default, scrape_timeout_offset: offset, .. } = exporter.limits;
            let (path, timeouts) = (exporter.path.clone(), ScrapeTimeouts { default: default.min(LONGEST), offset });
            let (service_name, provider) = (service_name.clone(), provider.clone());
            let (readiness, metrics) = (Arc::clone(&readiness), Arc::clone(&scrape_metrics));
            ScrapeService::new(Endpoint {
                service_name,
                path,
                gatherer,
                timeouts,
                provider,
                debug,
                live,
                readiness,
                metrics,
            })
        };
        let (mut services, mut offers) = (Vec::new(), Vec::new());
        for (reader, Pull { reader: pull, listeners, web_config }) in pulls {
            let exporter = PrometheusExporter::new(
                options(&pull.exporter),
                Arc::clone(&self_metrics),
                Arc::clone(&scrape_metrics),
            );
            let merged = self.merged.clone().map(|registry| Arc::new(merged_registry(registry, &self_metrics)));
            let max_scrapes = pull.exporter.limits.max_scrapes;
            let watch = sources.watch(&reader, &provider, pull.exporter.debug_page);
            let debug = pull.exporter.debug_page;
            let debug = debug.then(|| DebugPage::new(watch.clone(), shown(&pull.exporter)));
            let live = Live::new(pull.exporter.live_page, watch.clone(), shown(&pull.exporter));
            let collector = Collector::new(reader, merged, provider.clone(), watch, Arc::clone(&scrape_metrics));
            let gatherer = Gatherer::start(collector, exporter, max_scrapes).map_err(thread("barograph-gather"))?;
            let service = endpoint(&pull.exporter, gatherer, debug, live);
            if !listeners.is_empty() {
                let (service, metrics) = (service.clone(), Arc::clone(&scrape_metrics));
                let hosts = hosts(&pull.exporter.host, &pull.exporter.listeners);
                let offer = Offer { service, limits: pull.exporter.limits, hosts, web_config, metrics };
                offers.push((listeners, offer));
            }
            services.push(service);
        }
        let service = services.first().cloned().unwrap_or_else(|| endpoint(&scraped, Gatherer::absent(), None, None));
        let gatherers = services.iter().map(|service| service.gatherer().clone()).collect();
        let mut servers = Vec::new();
        for (listeners, offer) in offers {
            servers.push(Server::start(listeners, offer).map_err(thread("barograph-scrape"))?);
        }
        let watched = |reader: &_| sources.watch(reader, &provider, false);
        let pushers = start_pushers(pushes, own, provider.callbacks(), watched)?;
        say(&configuration);
        Ok(Telemetry {
            provider,
            sdk,
            configuration,
            service,
            readiness,
            linger,
            gatherers,
            servers,
            pushers,
            exported,
        })
    }
}

/// The times between two exports that make sense of those that can be written: without a pause there would be nothing
/// but exports, and a year can be added to a point in time. The latter goes for the time of a scrape too.
const SHORTEST: Duration = Duration::from_micros(1);
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A scrape endpoint to be, with its sockets.
struct Pull {
    reader: PullMetricReader,
    listeners: Vec<Bound>,
    web_config: Option<WebConfig>,
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
                let PrometheusMetricExporter { host, port, listens, listeners, path, web_config_file, .. } =
                    &reader.exporter;
                if !is_path(path) {
                    return Err(StartError::Path { path: path.clone() });
                }
                let own = [Listener::Tcp { host: host.clone(), port: *port }];
                let listeners = match listens {
                    false => Vec::new(),
                    true => bind(if listeners.is_empty() { &own } else { listeners })?,
                };
                let web_config = web_config_file.as_deref().map(WebConfig::read).transpose()?;
                pulls.push(Pull { reader, listeners, web_config });
            }
            MetricReader::Periodic(reader) => {
                let exporter = configuration.push_exporter(index, &reader)?;
                pushes.push(Push { reader, exporter });
            }
        }
    }
    Ok((pulls, pushes))
}

fn start_pushers(
    pushes: Vec<(Arc<ManualReader>, Push)>,
    own: &dyn MeterProvider,
    callbacks: &Arc<Callbacks>,
    watched: impl Fn(&Arc<ManualReader>) -> Watch,
) -> Result<Vec<Pusher>, StartError> {
    let (mut names, mut kinds): (Vec<&'static str>, Vec<&'static str>) = (Vec::new(), Vec::new());
    let mut pushers = Vec::new();
    for (reader, Push { reader: PeriodicMetricReader { interval, timeout, exporter: config, .. }, exporter }) in pushes
    {
        let name = exporter.name();
        names.push(name);
        let kind = exporter.component();
        kinds.push(kind);
        let number = kinds.iter().filter(|other| **other == kind).count() - 1;
        let metrics = match names.iter().filter(|other| **other == name).count() {
            1 => ExportMetrics::new(own, name.to_owned(), kind, number),
            // Two of a kind are told apart.
            nth => ExportMetrics::new(own, format!("{name}/{nth}"), kind, number),
        };
        let temporality = config.preferences().temporality;
        let is_cumulative = temporality == TemporalityPreference::Cumulative;
        let has_differences = temporality == TemporalityPreference::Delta;
        let interval = interval.clamp(SHORTEST, LONGEST);
        let (watch, callbacks) = (watched(&reader), Arc::clone(callbacks));
        let periodic =
            Periodic { reader, watch, callbacks, is_cumulative, has_differences, exporter, interval, timeout, metrics };
        let pusher = Pusher::start(periodic);
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

    /// The eyes for one of these readers, whoever collects from it.
    fn watch(&self, reader: &Arc<ManualReader>, provider: &GuardedMeterProvider, has_details: bool) -> Watch {
        let index = self.0.iter().position(|source| Arc::ptr_eq(&source.reader, reader)).unwrap_or(self.0.len());
        let key = self.0.get(index).map(|source| source.key);
        let is_cumulative = key.is_none_or(|key| key.temporality == TemporalityPreference::Cumulative);
        provider.watch(index, key.map(|key| key.defaults).unwrap_or_default(), is_cumulative, has_details)
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

/// The names that an endpoint was told to listen by, which its clients use.
fn hosts(host: &str, listeners: &[Listener]) -> Vec<String> {
    let others = listeners.iter().filter_map(|listener| match listener {
        Listener::Tcp { host, .. } => Some(host.clone()),
        Listener::Unix(_) | Listener::Systemd => None,
    });
    others.chain([host.to_owned()]).collect()
}

fn is_path(path: &str) -> bool {
    path.starts_with('/')
        && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'?' && byte != b'#')
        && !matches!(path, "/" | "/live" | "/livez" | "/readyz" | "/debug/metrics")
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
