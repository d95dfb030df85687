//! The model: the types of the declarative configuration's `resource` and `meter_provider`, in Rust.

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use opentelemetry::KeyValue;

use crate::error::StartError;
use crate::exposition::TranslationStrategy;
use crate::view::{CardinalityLimits, View};

/// What a pipeline is made of. The builder, the environment and a file all lead to one of these, and the pipeline is
/// built from nothing else.
///
/// The names are those of OpenTelemetry's declarative configuration; what they mean and their defaults are in its
/// [schema]. Units, where a type does not say them, are milliseconds in a file and a [`Duration`] here.
///
/// ```
/// use barograph::Telemetry;
/// use barograph::config::{Config, MeterProvider, MetricReader, OtlpMetricExporter, PushMetricExporter};
///
/// let exporter = OtlpMetricExporter::http("http://collector:4318");
/// let readers = vec![MetricReader::pull(), MetricReader::periodic(PushMetricExporter::OtlpHttp(exporter))];
/// let config = Config { meter_provider: Some(MeterProvider { readers, ..Default::default() }), ..Default::default() };
/// let builder = Telemetry::from_config(config);
/// ```
///
/// [schema]: https://opentelemetry.io/docs/specs/otel-config/types/
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Whether nothing is recorded at all.
    pub disabled: bool,
    /// Who is measured.
    pub resource: Resource,
    /// How it is measured and where that goes; without one nothing is recorded.
    pub meter_provider: Option<MeterProvider>,
}

/// Who is measured.
#[derive(Clone, Debug, Default)]
pub struct Resource {
    /// The attributes. Of two with one key the later one counts.
    pub attributes: Vec<KeyValue>,
    /// What is found out when the pipeline starts. It gives way to `attributes`.
    pub detection: ResourceDetection,
    /// The schema that the attributes follow.
    pub schema_url: Option<String>,
}

impl Resource {
    /// Sets an attribute, in the place of one that has its key.
    pub(crate) fn set(&mut self, attribute: KeyValue) {
        match self.attributes.iter_mut().find(|other| other.key == attribute.key) {
            Some(other) => *other = attribute,
            None => self.attributes.push(attribute),
        }
    }
}

/// What is found out about a resource when the pipeline starts.
#[derive(Clone, Debug, Default)]
pub struct ResourceDetection {
    /// Which of the attributes that are found are kept, by their keys.
    pub attributes: IncludeExclude,
    /// Where to look.
    pub detectors: Vec<ResourceDetector>,
}

/// Where attributes of a resource can be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResourceDetector {
    /// `container.id`, on Linux with control groups that name it.
    Container,
    /// `host.name`, `host.arch`, `os.type`.
    Host,
    /// `process.pid`, `process.executable.name` and `.path`, `process.runtime.name`.
    Process,
    /// `service.name` from the variable `OTEL_SERVICE_NAME`, and a random `service.instance.id`.
    Service,
}

/// Which of several names are meant: those that match one of `included` and none of `excluded`. `*` stands for any
/// characters and `?` for one; case matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IncludeExclude {
    /// `None` includes all of them.
    pub included: Option<Vec<String>>,
    /// Stands before `included`.
    pub excluded: Vec<String>,
}

/// How a program is measured and where that goes.
#[derive(Clone, Debug, Default)]
pub struct MeterProvider {
    /// Who reads, and hands on what was read; without one nothing is recorded.
    pub readers: Vec<MetricReader>,
    /// What becomes of instruments on the way. Later ones are exceptions from earlier ones: see [`View`].
    pub views: Vec<View>,
    /// Which measurements may become exemplars: see
    /// [`with_exemplar_filter`](crate::TelemetryBuilder::with_exemplar_filter).
    pub exemplar_filter: ExemplarFilter,
    /// Which meters record anything.
    pub meter_configurator: MeterConfigurator,
}

/// Which measurements may become exemplars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExemplarFilter {
    /// All.
    AlwaysOn,
    /// None.
    AlwaysOff,
    /// Those made inside a sampled span.
    #[default]
    TraceBased,
}

/// Which meters record anything.
#[derive(Clone, Debug)]
pub struct MeterConfigurator {
    /// Whether meters that no matcher names are enabled.
    pub default_enabled: bool,
    /// The first that matches a meter's name decides.
    pub meters: Vec<MeterMatcher>,
}

impl Default for MeterConfigurator {
    fn default() -> Self {
        Self { default_enabled: true, meters: Vec::new() }
    }
}

/// What becomes of meters by their names.
#[derive(Clone, Debug)]
pub struct MeterMatcher {
    /// The meter's name; `*` stands for any characters and `?` for one, and case matters.
    pub name: String,
    /// Whether instruments of the meter record anything.
    pub enabled: bool,
}

/// Who reads.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum MetricReader {
    /// Reads by itself, and pushes.
    Periodic(PeriodicMetricReader),
    /// Reads when it is asked to.
    Pull(PullMetricReader),
}

impl MetricReader {
    /// A scrape endpoint with every setting's default: `http://localhost:9464/metrics`.
    #[must_use]
    pub fn pull() -> Self {
        Self::Pull(PullMetricReader::default())
    }

    /// Pushes to `exporter` once a minute.
    #[must_use]
    pub fn periodic(exporter: PushMetricExporter) -> Self {
        Self::Periodic(PeriodicMetricReader::new(exporter))
    }
}

/// Reads by itself, and pushes.
#[derive(Clone, Debug)]
pub struct PeriodicMetricReader {
    /// The time between the starts of two exports. Defaults to a minute.
    pub interval: Duration,
    /// How long one export may take, with all that is tried again; `None` is as long as it takes. Defaults to 30 s.
    pub timeout: Option<Duration>,
    /// How many data points one request may hold. Defaults to any number.
    pub max_export_batch_size: Option<NonZeroUsize>,
    /// Where it goes.
    pub exporter: PushMetricExporter,
    /// How many series are kept for each instrument that no view limits.
    pub cardinality_limits: CardinalityLimits,
}

impl PeriodicMetricReader {
    /// Pushes to `exporter` once a minute.
    #[must_use]
    pub fn new(exporter: PushMetricExporter) -> Self {
        Self {
            interval: Duration::from_secs(60),
            timeout: Some(Duration::from_secs(30)),
            max_export_batch_size: None,
            exporter,
            cardinality_limits: CardinalityLimits::default(),
        }
    }
}

/// Where a periodic reader pushes to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PushMetricExporter {
    /// OTLP over HTTP/1.1, as protobuf or JSON.
    OtlpHttp(OtlpMetricExporter),
    /// OTLP over gRPC.
    OtlpGrpc(OtlpMetricExporter),
    /// OTLP as lines of JSON, for a file or standard output.
    OtlpFile(OtlpFileMetricExporter),
    /// For people, on standard output.
    Console(ConsoleMetricExporter),
}

impl PushMetricExporter {
    /// How the reader before this exporter aggregates.
    pub(crate) fn preferences(&self) -> Preferences {
        match self {
            Self::OtlpHttp(OtlpMetricExporter { preferences, .. })
            | Self::OtlpGrpc(OtlpMetricExporter { preferences, .. })
            | Self::OtlpFile(OtlpFileMetricExporter { preferences, .. })
            | Self::Console(ConsoleMetricExporter { preferences }) => *preferences,
        }
    }
}

/// How an exporter wants what it exports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Preferences {
    /// Whether points say what came since the start or since the export before.
    pub temporality: TemporalityPreference,
    /// What becomes of histograms that no view says more about.
    pub default_histogram_aggregation: HistogramAggregation,
}

/// Whether points say what came since the start or since the export before.
///
/// Specification: `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE` in "Metrics Exporter - OTLP".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TemporalityPreference {
    /// Since the start. What Prometheus and its like understand; a lost export loses nothing.
    #[default]
    Cumulative,
    /// Since the export before, except for what can go down.
    Delta,
    /// Since the export before for counters and histograms that are recorded to, since the start for the rest.
    LowMemory,
}

/// What becomes of histograms that no view says more about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HistogramAggregation {
    /// Buckets with fixed bounds: those that the instrument was built with, or that fit its unit.
    #[default]
    ExplicitBucketHistogram,
    /// Exponential buckets, at most 160.
    Base2ExponentialBucketHistogram,
}

/// OTLP over HTTP or gRPC.
///
/// ```
/// use barograph::config::{Compression, OtlpMetricExporter};
///
/// let exporter = OtlpMetricExporter {
///     headers: vec![("api-key".to_owned(), "s3cr3t".to_owned())],
///     compression: Compression::Gzip,
///     ..OtlpMetricExporter::http("https://collector.example:4318")
/// };
/// assert_eq!(exporter.endpoint, "https://collector.example:4318/v1/metrics");
/// assert!(!format!("{exporter:?}").contains("s3cr3t"));
/// ```
#[derive(Clone)]
pub struct OtlpMetricExporter {
    /// Where to: for HTTP the whole URL, used as it is; for gRPC a scheme, host and port.
    pub endpoint: String,
    /// Whose certificate is trusted, and who we are, where the endpoint is `https`.
    pub tls: Tls,
    /// Headers of every request, or metadata of every call. Never logged.
    pub headers: Vec<(String, String)>,
    /// How requests are compressed. Defaults to not at all.
    pub compression: Compression,
    /// How long one attempt may take; `None` is as long as it takes. Defaults to 10 s.
    pub timeout: Option<Duration>,
    /// What the bytes of an HTTP request are. gRPC is always protobuf.
    pub encoding: OtlpHttpEncoding,
    /// How many bytes one request may have, before compression. A larger one is cut into several; `None` is no limit.
    /// Defaults to 64 MiB for HTTP; for gRPC to the 4 MiB that gRPC servers accept where nobody told them more.
    pub max_request_size: Option<NonZeroUsize>,
    /// How many bytes of an answer are read. Defaults to 4 MiB.
    pub max_response_size: usize,
    /// How points are aggregated.
    pub preferences: Preferences,
}

impl OtlpMetricExporter {
    /// Over HTTP to the collector at this base URL, `http://localhost:4318` being the usual one: `/v1/metrics` is added
    /// to it, as it is to `OTEL_EXPORTER_OTLP_ENDPOINT`.
    #[must_use]
    pub fn http(base: &str) -> Self {
        Self::to(metrics_url(base), 64 << 20)
    }

    /// Over gRPC to the collector at this address, `http://localhost:4317` being the usual one.
    #[must_use]
    pub fn grpc(endpoint: &str) -> Self {
        Self::to(endpoint.to_owned(), 4 << 20)
    }

    fn to(endpoint: String, max_request_size: usize) -> Self {
        Self {
            endpoint,
            tls: Tls::default(),
            headers: Vec::new(),
            compression: Compression::None,
            timeout: Some(Duration::from_secs(10)),
            encoding: OtlpHttpEncoding::Protobuf,
            max_request_size: NonZeroUsize::new(max_request_size),
            max_response_size: 4 << 20,
            preferences: Preferences::default(),
        }
    }
}

impl fmt::Debug for OtlpMetricExporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.headers.iter().map(|(name, _)| (name, MASKED)).collect();
        f.debug_struct("OtlpMetricExporter")
            .field("endpoint", &without_password(&self.endpoint))
            .field("tls", &self.tls)
            .field("headers", &headers)
            .field("compression", &self.compression)
            .field("timeout", &self.timeout)
            .field("encoding", &self.encoding)
            .field("max_request_size", &self.max_request_size)
            .field("max_response_size", &self.max_response_size)
            .field("preferences", &self.preferences)
            .finish()
    }
}

/// What is shown of a secret.
pub(crate) const MASKED: &str = "***";

/// The URL as it may be shown: without what stands before an `@`, and without a query, in which people put keys. What is
/// no URL is treated as if it were to be one.
pub(crate) fn without_password(url: &str) -> String {
    let (url, query) = url.split_once('?').map_or((url, ""), |(url, _)| (url, "?"));
    let (start, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (&url[..scheme.len() + 3], rest));
    let (masked, rest) = rest.rsplit_once('@').map_or(("", rest), |(_, host)| (MASKED, host));
    let at = if masked.is_empty() { "" } else { "@" };
    let hidden = if query.is_empty() { "" } else { MASKED };
    format!("{start}{masked}{at}{rest}{query}{hidden}")
}

/// The URL for metrics below a base URL: `/v1/metrics` is added to its path.
pub(super) fn metrics_url(base: &str) -> String {
    let (path, query) = base.split_at(base.find('?').unwrap_or(base.len()));
    format!("{}/v1/metrics{query}", path.trim_end_matches('/'))
}

/// Whose certificate is trusted, and who we are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// The certificates, in PEM, of those who may have signed the server's. Defaults to those that the system trusts.
    pub ca_file: Option<PathBuf>,
    /// Our private key, in PEM, for a server that wants to know who we are. Goes with `cert_file`.
    pub key_file: Option<PathBuf>,
    /// Our certificate and those that lead from it to one that the server trusts, in PEM.
    pub cert_file: Option<PathBuf>,
    /// Whether a gRPC endpoint without a scheme is spoken to without TLS. Defaults to no, as specified.
    pub insecure: bool,
}

/// How requests are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// With gzip, which every collector understands.
    Gzip,
    /// With zstd, which smaller and faster collectors may not understand. Needs the feature `zstd`.
    Zstd,
}

/// What the bytes of an HTTP request are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OtlpHttpEncoding {
    /// Protobuf.
    #[default]
    Protobuf,
    /// Protobuf's JSON, as OTLP writes it.
    Json,
}

/// OTLP as lines of JSON.
#[derive(Clone, Debug, Default)]
pub struct OtlpFileMetricExporter {
    /// Where the lines are appended; `None` is standard output.
    pub path: Option<PathBuf>,
    /// How points are aggregated.
    pub preferences: Preferences,
}

/// For people, on standard output.
#[derive(Clone, Debug, Default)]
pub struct ConsoleMetricExporter {
    /// How points are aggregated.
    pub preferences: Preferences,
}

/// Reads when it is asked to.
#[derive(Clone, Debug, Default)]
pub struct PullMetricReader {
    /// Who asks.
    pub exporter: PrometheusMetricExporter,
    /// How many series are kept for each instrument that no view limits.
    pub cardinality_limits: CardinalityLimits,
}

/// A scrape endpoint for Prometheus.
#[derive(Clone, Debug)]
pub struct PrometheusMetricExporter {
    /// The name or address that it listens on. Defaults to `localhost`.
    pub host: String,
    /// The port that it listens on; 0 lets the system choose. Defaults to 9464.
    pub port: u16,
    /// Whether labels say which meter a point belongs to. Defaults to true.
    pub scope_info_enabled: bool,
    /// Whether there is a `target_info`. Defaults to true.
    pub target_info_enabled: bool,
    /// Which attributes of the resource are labels of every point. Defaults to none.
    pub resource_constant_labels: Option<IncludeExclude>,
    /// How names are translated.
    pub translation_strategy: TranslationStrategy,
    /// Whether it listens at all: a program may mount the service in a server of its own. Not in the schema.
    pub listens: bool,
    /// Where it listens instead of at `host` and `port`. Defaults to nothing: there. Not in the schema.
    pub listeners: Vec<Listener>,
    /// Where the metrics are. Defaults to `/metrics`. Not in the schema.
    pub path: String,
    /// What stands before the name of every metric, with a `_` between. Defaults to nothing. Not in the schema.
    pub namespace: String,
    /// Whether OpenMetrics shows when series began. Defaults to false. Not in the schema.
    pub created_series: bool,
    /// Whether `/debug/metrics` explains every metric. Defaults to false. Not in the schema.
    pub debug_page: bool,
    /// Who sees the live page at `/`. Defaults to browsers on this machine. Needs the feature `page`, which is on by
    /// default. Not in the schema.
    pub live_page: LivePage,
    /// The file that asks for TLS and for credentials, in the format of Prometheus' own exporters. Defaults to none. Needs
    /// the feature `web-config`. Not in the schema.
    pub web_config_file: Option<PathBuf>,
    /// What anybody can take of it. Not in the schema.
    pub limits: EndpointLimits,
    /// How long it is served after a shutdown has begun, so that the last values are scraped. Defaults to not at all. Not
    /// in the schema.
    pub linger: Duration,
}

/// Who sees the live page at `/` of a scrape endpoint, and its data at `/live`. Everybody else gets a plain page, and a 403.
///
/// What it shows is what a scrape shows, and which instruments have no series yet. Credentials of a web configuration are
/// asked for as they are for every path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LivePage {
    /// Whoever connects from a loopback address or through a socket in the file system, asks for a loopback name or one of
    /// `allowed_hosts`, and is no proxy that speaks for somebody else. Where the service is mounted in a router of your own
    /// nobody does: who connects is not known there.
    #[default]
    Loopback,
    /// Whoever reaches the endpoint.
    Anyone,
    /// Nobody.
    Off,
}

impl LivePage {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Anyone => "anyone",
            Self::Off => "off",
        }
    }
}

/// A place where a scrape endpoint listens.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Listener {
    /// A port of a name or an address.
    Tcp {
        /// The name or address. Of a name that stands for several addresses the first that the machine has, IPv4 first.
        host: String,
        /// The port; 0 lets the system choose.
        port: u16,
    },
    /// A socket in the file system. One that a program has left behind there is replaced, one that is served is not. Who
    /// may connect is what the directory and the process' umask say.
    Unix(PathBuf),
    /// Every stream socket that systemd has handed over ([socket activation]).
    ///
    /// [socket activation]: https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html
    Systemd,
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Systemd => f.write_str("systemd"),
        }
    }
}

impl FromStr for Listener {
    type Err = StartError;

    /// `host:port`, with brackets around an IPv6 address, `unix:/path/of/socket`, or `systemd`.
    fn from_str(address: &str) -> Result<Self, StartError> {
        let invalid = |what: &str| StartError::Address {
            address: address.to_owned(),
            source: io::Error::new(io::ErrorKind::InvalidInput, what.to_owned()),
        };
        if address == "systemd" {
            return Ok(Self::Systemd);
        }
        if let Some(path) = address.strip_prefix("unix:") {
            return if path.is_empty() { Err(invalid("no path after `unix:`")) } else { Ok(Self::Unix(path.into())) };
        }
        let (host, port) = address.rsplit_once(':').ok_or_else(|| invalid("no port"))?;
        let port = port.parse().map_err(|_| invalid("invalid port value"))?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if bare.is_none() && host.contains(':') {
            return Err(invalid("an IPv6 address stands in brackets, as in [::1]:9464"));
        }
        Ok(Self::Tcp { host: bare.unwrap_or(host).to_owned(), port })
    }
}

/// What anybody can take of a scrape endpoint that listens. What is mounted in a server of your own has that server's
/// limits, and of these `max_scrapes`, `scrape_timeout` and `scrape_timeout_offset`.
///
/// ```
/// use barograph::Telemetry;
/// use barograph::config::EndpointLimits;
///
/// let limits = EndpointLimits { max_connections: 32, ..EndpointLimits::default() };
/// let builder = Telemetry::builder("checkout").with_limits(limits);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointLimits {
    /// Connections open at once; at least 1. Where there are more, one gives way that has not asked for anything yet; where
    /// all have, one that has been idle or was refused; then one whose scrape has taken longer than `scrape_timeout`.
    /// Defaults to 256: a Prometheus holds one; the rest is room for people, for more of them, and for strangers, in a
    /// quarter of the descriptors that a process usually has.
    pub max_connections: usize,
    /// Scrapes that wait or are on their way at once; whoever asks beyond gets a 503. Defaults to 256, as many as there are
    /// connections: they share collections, and pages that nobody reads give way to others.
    pub max_scrapes: usize,
    /// The bytes of a request's head. More is a 431. At least 8 KiB, which is what reading takes. Defaults to 32 KiB: more
    /// than any scraper sends, a browser's cookies included.
    pub max_head_bytes: usize,
    /// The bytes of a request's body. More is a 413. A scrape has none and whatever comes is not read; defaults to 4 KiB for
    /// clients that send one out of habit.
    pub max_body_bytes: u64,
    /// The time for a TLS handshake and the head of a request, from its first byte; on a new connection, from its begin.
    /// Defaults to 10 s: the longest round trips take a tenth of it.
    pub head_timeout: Duration,
    /// The time between two requests on one connection. Defaults to 120 s: longer than any usual scrape interval, so that a
    /// Prometheus keeps its connection.
    pub idle_timeout: Duration,
    /// The time in which a scraper takes not a single byte of its answer. Defaults to 30 s: a scraper that lives takes some
    /// within its own timeout, which is 10 s.
    pub write_timeout: Duration,
    /// The time for a whole answer. Defaults to 120 s: a page of 10 MB over a line of 1 Mbit/s.
    pub answer_timeout: Duration,
    /// The time for a scrape whose scraper names none, a year at most. Defaults to 9.5 s: Prometheus gives up after 10 s.
    pub scrape_timeout: Duration,
    /// What is left of the time that the scraper names (`X-Prometheus-Scrape-Timeout-Seconds`) for the answer to travel, at
    /// most half of it. Defaults to 0.5 s, as in Prometheus' blackbox exporter.
    pub scrape_timeout_offset: Duration,
    /// Requests in a time, before anybody is asked who they are; more is a 429 with `Retry-After`. Defaults to none: the other
    /// limits bound the work, and a rate would have to know how many scrape. A web configuration file can set one as well,
    /// which counts then.
    pub rate_limit: Option<RateLimit>,
    /// Names, besides those of the loopback and the configured one, for which an endpoint on loopback answers without TLS.
    /// Defaults to none: a web page that a browser loads from elsewhere could point its own name to 127.0.0.1 and read
    /// the metrics (DNS rebinding). `*` answers for all.
    pub allowed_hosts: Vec<String>,
}

impl Default for EndpointLimits {
    fn default() -> Self {
        Self {
            max_connections: 256,
            max_scrapes: 256,
            max_head_bytes: 32 * 1024,
            max_body_bytes: 4 * 1024,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(120),
            write_timeout: Duration::from_secs(30),
            answer_timeout: Duration::from_secs(120),
            scrape_timeout: Duration::from_millis(9_500),
            scrape_timeout_offset: Duration::from_millis(500),
            rate_limit: None,
            allowed_hosts: Vec::new(),
        }
    }
}

/// A token bucket: each request takes a token, and there is a new one after each interval. An interval of zero limits
/// nothing, a burst of 0 lets nobody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// The time between two requests in the long run.
    pub interval: Duration,
    /// How many requests may come at once after a pause.
    pub burst: u32,
}

impl Default for PrometheusMetricExporter {
    fn default() -> Self {
        Self {
            host: "localhost".to_owned(),
            port: 9464,
            scope_info_enabled: true,
            target_info_enabled: true,
            resource_constant_labels: None,
            translation_strategy: TranslationStrategy::default(),
            listens: true,
            path: "/metrics".to_owned(),
            namespace: String::new(),
            created_series: false,
            debug_page: false,
            live_page: LivePage::default(),
            listeners: Vec::new(),
            web_config_file: None,
            limits: EndpointLimits::default(),
            linger: Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_a_url_has_no_secret() {
        for (url, shown) in [
            ("http://host:1/path", "http://host:1/path"),
            ("https://user:s3cr3t@host/path?key=s3cr3t", "https://***@host/path?***"),
            ("http:/user:s3cr3t@host", "***@host"),
            ("http//user:s3cr3t@host", "***@host"),
            ("http://user:s3cr3t/more@host", "http://***@host"),
            ("user:s3cr3t@host", "***@host"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }

    #[test]
    fn the_path_of_metrics_comes_before_a_query() {
        assert_eq!(metrics_url("http://host/"), "http://host/v1/metrics");
        assert_eq!(metrics_url("http://host/a?b=c"), "http://host/a/v1/metrics?b=c");
    }

    #[test]
    fn an_address_is_a_port_a_file_or_what_systemd_hands_over() {
        let tcp = |host: &str, port| Listener::Tcp { host: host.to_owned(), port };
        for (address, listener) in [
            ("127.0.0.1:9464", tcp("127.0.0.1", 9464)),
            ("localhost:0", tcp("localhost", 0)),
            ("[::1]:80", tcp("::1", 80)),
            ("unix:/run/app/metrics.sock", Listener::Unix("/run/app/metrics.sock".into())),
            ("unix:metrics.sock", Listener::Unix("metrics.sock".into())),
            ("systemd", Listener::Systemd),
        ] {
            assert_eq!(address.parse::<Listener>().unwrap(), listener, "{address}");
            assert_eq!(listener.to_string(), address);
        }
        for wrong in ["", "9464", "localhost", "localhost:", "localhost:http", "::1:9464", "unix:", "host:70000"] {
            let error = wrong.parse::<Listener>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{wrong}`")), "{error}");
        }
    }
}
