//! What a pipeline is made of: one model, and three ways to it.
//!
//! - **Code**: [`Telemetry::builder`](crate::Telemetry::builder) and its methods, or a [`Config`] as a value.
//! - **The environment**: [`Telemetry::from_env`](crate::Telemetry::from_env) reads the variables that OpenTelemetry
//!   specifies, among them `OTEL_METRICS_EXPORTER` and `OTEL_EXPORTER_OTLP_ENDPOINT`.
//! - **A file**: where `OTEL_CONFIG_FILE` names one of the declarative configuration it is used, and every other variable
//!   is ignored but for those that the file refers to. [`Configuration::from_file`] reads one without a pipeline.
//!
//! What code says stands before all of them. [`Configuration::settings`] shows what came of it, and from where.
//!
//! # Variables
//!
//! An empty variable is one that is not set; the names of values are taken in any case; a value that is none is ignored, with a
//! warning. Each variable of OTLP stands also with `METRICS_` after `OTLP_`, which then is the one that counts.
//!
//! | variable | values | default |
//! |---|---|---|
//! | `OTEL_CONFIG_FILE` | a file | the variables below |
//! | `OTEL_SDK_DISABLED` | `true` records nothing | `false` |
//! | `OTEL_SERVICE_NAME` | a name | the program's |
//! | `OTEL_RESOURCE_ATTRIBUTES` | `key=value,…`, percent-encoded | |
//! | `OTEL_METRICS_EXPORTER` | `prometheus`, `otlp`, `console`, `otlp/stdout`, `none`; several with commas | `prometheus` (specified: `otlp`) |
//! | `OTEL_EXPORTER_PROMETHEUS_HOST` | a name or an address | `localhost` |
//! | `OTEL_EXPORTER_PROMETHEUS_PORT` | a port | `9464` |
//! | `OTEL_METRIC_EXPORT_INTERVAL` | milliseconds | `60000` |
//! | `OTEL_METRIC_EXPORT_TIMEOUT` | milliseconds, 0 for none | `30000` |
//! | `OTEL_EXPORTER_OTLP_PROTOCOL` | `http/protobuf`, `http/json`, `grpc` | `http/protobuf` |
//! | `OTEL_EXPORTER_OTLP_ENDPOINT` | a URL, to which HTTP adds `/v1/metrics` | `http://localhost:4318`, for gRPC `:4317` |
//! | `OTEL_EXPORTER_OTLP_METRICS_ENDPOINT` | a URL, used as it is | |
//! | `OTEL_EXPORTER_OTLP_INSECURE` | `true`: a gRPC endpoint without a scheme has no TLS | `false` |
//! | `OTEL_EXPORTER_OTLP_CERTIFICATE` | a file: whose certificate is trusted | the system's |
//! | `OTEL_EXPORTER_OTLP_CLIENT_KEY`, `…_CLIENT_CERTIFICATE` | files: who we are | |
//! | `OTEL_EXPORTER_OTLP_HEADERS` | `key=value,…`, percent-encoded | |
//! | `OTEL_EXPORTER_OTLP_COMPRESSION` | `gzip`, `zstd`, `none` | `none` |
//! | `OTEL_EXPORTER_OTLP_TIMEOUT` | milliseconds for one attempt, 0 for none | `10000` |
//! | `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE` | `cumulative`, `delta`, `lowmemory` | `cumulative` |
//! | `OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION` | `explicit_bucket_histogram`, `base2_exponential_bucket_histogram` | the first |
//! | `OTEL_METRICS_EXEMPLAR_FILTER` | `always_on`, `always_off`, `trace_based`: what becomes an exemplar | `trace_based` |
//!
//! Specification: "OpenTelemetry Environment Variable Specification", "OpenTelemetry Protocol Exporter", "Declarative
//! configuration".

mod env;
#[cfg(feature = "config-file")]
mod file;
mod model;
mod settings;

use std::collections::BTreeMap;
use std::path::Path;

use opentelemetry::KeyValue;

use crate::error::{ConfigError, Origin};
use crate::resource;
use crate::view::Pattern;

pub use crate::view::CardinalityLimits;
pub(crate) use env::Fallback;
#[cfg(feature = "config-file")]
use file::read as read_file;
#[cfg(feature = "web-config")]
pub(crate) use file::{fields, yaml};
#[cfg(feature = "otlp")]
pub(crate) use model::without_password;
pub use model::{
    Compression, Config, ConsoleMetricExporter, EndpointLimits, ExemplarFilter, HistogramAggregation, IncludeExclude,
    Listener, LivePage, MeterConfigurator, MeterMatcher, MeterProvider, MetricReader, OtlpFileMetricExporter,
    OtlpHttpEncoding, OtlpMetricExporter, PeriodicMetricReader, Preferences, PrometheusMetricExporter,
    PullMetricReader, PushMetricExporter, RateLimit, Resource, ResourceDetection, ResourceDetector,
    TemporalityPreference, Tls,
};
pub use settings::Setting;

/// A [`Config`] with what is known about where it comes from.
#[derive(Clone, Debug, Default)]
pub struct Configuration {
    /// The configuration.
    pub config: Config,
    /// What was asked for and is not done, and why.
    pub warnings: Vec<String>,
    /// The origins of the settings that somebody made, by their paths.
    pub(crate) origins: BTreeMap<String, Origin>,
}

impl Configuration {
    /// Reads a file of the declarative configuration, `file_format` 1.0 or 1.1, in which `${NAME}` stands for an
    /// environment variable.
    ///
    /// ```no_run
    /// use barograph::config::Configuration;
    ///
    /// let configuration = Configuration::from_file("otel.yaml")?;
    /// for setting in configuration.settings() {
    ///     println!("{setting}");
    /// }
    /// # Ok::<(), barograph::ConfigError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When the file cannot be read, is no YAML, or says what the schema does not allow: the error names the line. Always
    /// without the feature `config-file`.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        read_file(path.as_ref(), &variable)
    }

    /// Who made this setting. What code gives as a whole, a reader or all of it, was made by code in each of its parts.
    pub(crate) fn origin(&self, path: &str) -> Origin {
        if let Some(origin) = self.origins.get(path) {
            return origin.clone();
        }
        let ends = path.match_indices(['.', '[']).map(|(end, _)| end).chain([0]);
        let is_by_code = ends.map(|end| &path[..end]).any(|part| self.origins.get(part) == Some(&Origin::Code));
        if is_by_code { Origin::Code } else { Origin::Default }
    }

    pub(crate) fn set_by_code(&mut self, path: impl Into<String>) {
        self.origins.insert(path.into(), Origin::Code);
    }
}

impl From<Config> for Configuration {
    fn from(config: Config) -> Self {
        let mut configuration = Self { config, ..Self::default() };
        configuration.set_by_code("");
        configuration
    }
}

/// An environment variable that is set to something.
pub(crate) fn variable(name: &str) -> Option<String> {
    // What is no UTF-8 is taken as far as it is.
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()).filter(|value| !value.is_empty())
}

#[cfg(not(feature = "config-file"))]
fn read_file(path: &Path, _: &dyn Fn(&str) -> Option<String>) -> Result<Configuration, ConfigError> {
    let path = path.display();
    let problem = format!("cannot read {path}, this program has no files: add the feature `config-file` to barograph");
    Err(ConfigError { origin: Origin::Default, path: String::new(), problem })
}

/// The configuration of a program that says itself who is measured.
pub(crate) fn named(service_name: &str) -> Configuration {
    env::read_resource(&variable, service_name)
}

/// The configuration that the environment asks for.
pub(crate) fn from_env(fallback: &Fallback) -> Result<Configuration, ConfigError> {
    env::read(&variable, fallback)
}

/// What a detector finds.
pub(crate) fn detect(detector: ResourceDetector) -> Vec<KeyValue> {
    match detector {
        ResourceDetector::Container => resource::container(),
        ResourceDetector::Host => resource::host(),
        ResourceDetector::Process => resource::process(),
        ResourceDetector::Service => resource::service(variable("OTEL_SERVICE_NAME")),
    }
}

impl IncludeExclude {
    pub(crate) fn contains(&self, name: &str) -> bool {
        let matches = |patterns: &[String]| patterns.iter().any(|text| Pattern::of_keys(text.clone()).matches(name));
        self.included.as_deref().is_none_or(matches) && !matches(&self.excluded)
    }
}
