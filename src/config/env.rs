//! From the environment to the model.
//!
//! Specification: "Parsing empty value", "Type-specific guidance" and the tables of "OpenTelemetry Environment Variable
//! Specification"; "Configuration Options" of "OpenTelemetry Protocol Exporter".

use std::path::PathBuf;
use std::time::Duration;

use opentelemetry::KeyValue;
use percent_encoding::percent_decode_str;

use super::model::{
    Compression, ExemplarFilter, HistogramAggregation, MeterProvider, MetricReader, OtlpFileMetricExporter,
    OtlpHttpEncoding, OtlpMetricExporter, PeriodicMetricReader, PullMetricReader, PushMetricExporter,
    TemporalityPreference,
};
use super::{Configuration, ConsoleMetricExporter, Preferences};
use crate::error::{ConfigError, Origin};

/// What counts where the environment says nothing.
#[derive(Clone, Debug)]
pub(crate) struct Fallback {
    pub(crate) service_name: Option<String>,
    /// As `OTEL_METRICS_EXPORTER` writes them.
    pub(crate) exporters: String,
}

/// Looks variables up, and keeps what there is to say about them.
struct Environment<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
    result: Configuration,
}

/// The configuration that the environment asks for.
pub(crate) fn read(
    variable: &dyn Fn(&str) -> Option<String>,
    fallback: &Fallback,
) -> Result<Configuration, ConfigError> {
    let mut env = Environment { variable, result: Configuration::default() };
    for name in ["OTEL_CONFIG_FILE", "OTEL_EXPERIMENTAL_CONFIG_FILE"] {
        if let Some(path) = env.get(name) {
            return file(name, &path, variable);
        }
    }
    env.result.config.disabled = env.boolean("OTEL_SDK_DISABLED", "disabled").unwrap_or(false);
    env.resource(fallback.service_name.as_deref());
    let mut exporters = env.exporters("OTEL_METRICS_EXPORTER", env.get("OTEL_METRICS_EXPORTER"));
    if exporters.is_none() {
        exporters = env.exporters("", Some(fallback.exporters.clone()));
    }
    let mut readers = Vec::new();
    for exporter in exporters.unwrap_or_default() {
        let path = format!("meter_provider.readers[{}]", readers.len());
        readers.push(env.reader(exporter, &path));
    }
    let filter = env.choice(
        "OTEL_METRICS_EXEMPLAR_FILTER",
        "meter_provider.exemplar_filter",
        &[
            ("always_on", ExemplarFilter::AlwaysOn),
            ("always_off", ExemplarFilter::AlwaysOff),
            ("trace_based", ExemplarFilter::TraceBased),
        ],
    );
    let exemplar_filter = filter.unwrap_or_default();
    if exemplar_filter == ExemplarFilter::AlwaysOn {
        env.warn("OTEL_METRICS_EXEMPLAR_FILTER asks for exemplars, and none are collected yet".to_owned());
    }
    if env.get("OTEL_ENTITIES").is_some() {
        env.warn("OTEL_ENTITIES is ignored: entities are not supported, OTEL_RESOURCE_ATTRIBUTES is".to_owned());
    }
    env.result.config.meter_provider = Some(MeterProvider { readers, exemplar_filter, ..MeterProvider::default() });
    Ok(env.result)
}

/// What the environment says about who is measured, for a program that says the rest itself.
pub(crate) fn read_resource(variable: &dyn Fn(&str) -> Option<String>, service_name: &str) -> Configuration {
    let without_name = |name: &str| if name == "OTEL_SERVICE_NAME" { None } else { variable(name) };
    let mut env = Environment { variable: &without_name, result: Configuration::default() };
    env.resource(None);
    env.result.config.resource.set(KeyValue::new("service.name", service_name.to_owned()));
    env.result.set_by_code("resource.attributes.service.name");
    env.result.config.meter_provider =
        Some(MeterProvider { readers: vec![MetricReader::pull()], ..MeterProvider::default() });
    env.result
}

#[cfg(feature = "config-file")]
fn file(name: &str, path: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Configuration, ConfigError> {
    let mut read = super::file::read(std::path::Path::new(path), variable).map_err(|error| match error.origin {
        // The file itself: say who named it.
        Origin::Default => ConfigError { origin: Origin::Environment(name.to_owned()), ..error },
        _ => error,
    })?;
    if name != "OTEL_CONFIG_FILE" {
        read.warnings.push(format!("{name} is deprecated: set OTEL_CONFIG_FILE instead"));
    }
    Ok(read)
}

#[cfg(not(feature = "config-file"))]
fn file(name: &str, _: &str, _: &dyn Fn(&str) -> Option<String>) -> Result<Configuration, ConfigError> {
    Err(ConfigError {
        origin: Origin::Environment(name.to_owned()),
        path: String::new(),
        problem: "files are not part of this program: add the feature `config-file` to barograph, or unset it"
            .to_owned(),
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exporter {
    Otlp,
    Prometheus,
    Console,
    OtlpStdout,
}

impl Environment<'_> {
    /// The value, without blanks around it; none if nothing is left.
    fn get(&self, name: &str) -> Option<String> {
        (self.variable)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// The variable of OTLP: that of metrics, or else that of all signals.
    fn otlp(&self, name: &str) -> Option<(String, String)> {
        ["OTEL_EXPORTER_OTLP_METRICS_", "OTEL_EXPORTER_OTLP_"].iter().find_map(|prefix| {
            let name = format!("{prefix}{name}");
            self.get(&name).map(|value| (name, value))
        })
    }

    fn warn(&mut self, warning: String) {
        self.result.warnings.push(warning);
    }

    fn ignore(&mut self, name: &str, value: &str, expected: &str) {
        self.warn(format!("{name} is ignored: {value:?} is not {expected}"));
    }

    fn set(&mut self, path: &str, variable: &str) {
        if !variable.is_empty() {
            self.result.origins.insert(path.to_owned(), Origin::Environment(variable.to_owned()));
        }
    }

    fn boolean(&mut self, name: &str, path: &str) -> Option<bool> {
        let value = self.get(name)?;
        match value.to_ascii_lowercase().as_str() {
            "true" => {
                self.set(path, name);
                Some(true)
            }
            "false" => Some(false),
            _ => {
                self.warn(format!("{name} is taken as false: {value:?} is neither true nor false"));
                Some(false)
            }
        }
    }

    fn choice<T: Copy>(&mut self, name: &str, path: &str, choices: &[(&str, T)]) -> Option<T> {
        let value = self.get(name)?;
        self.chosen(name, path, &value, choices)
    }

    fn chosen<T: Copy>(&mut self, name: &str, path: &str, value: &str, choices: &[(&str, T)]) -> Option<T> {
        let chosen = choices.iter().find(|(choice, _)| choice.eq_ignore_ascii_case(value));
        match chosen {
            Some((_, chosen)) => {
                self.set(path, name);
                Some(*chosen)
            }
            None => {
                let names: Vec<_> = choices.iter().map(|(choice, _)| *choice).collect();
                self.ignore(name, value, &format!("one of {}", names.join(", ")));
                None
            }
        }
    }

    fn milliseconds(&mut self, name: &str, value: &str, path: &str) -> Option<Duration> {
        match value.parse::<u64>() {
            Ok(milliseconds) => {
                self.set(path, name);
                Some(Duration::from_millis(milliseconds))
            }
            Err(_) => {
                self.ignore(name, value, "a number of milliseconds");
                None
            }
        }
    }

    fn resource(&mut self, fallback_name: Option<&str>) {
        if let Some(list) = self.get("OTEL_RESOURCE_ATTRIBUTES") {
            match pairs(&list) {
                Ok(pairs) => {
                    for (key, value) in pairs {
                        self.set(&format!("resource.attributes.{key}"), "OTEL_RESOURCE_ATTRIBUTES");
                        self.result.config.resource.set(KeyValue::new(key, value));
                    }
                }
                Err(pair) => self.ignore("OTEL_RESOURCE_ATTRIBUTES", &pair, "key=value, percent-encoded"),
            }
        }
        if let Some(name) = self.get("OTEL_SERVICE_NAME") {
            self.set("resource.attributes.service.name", "OTEL_SERVICE_NAME");
            self.result.config.resource.set(KeyValue::new("service.name", name));
        }
        let attributes = &self.result.config.resource.attributes;
        if let Some(name) = fallback_name
            && !attributes.iter().any(|attribute| attribute.key.as_str() == "service.name")
        {
            self.result.config.resource.set(KeyValue::new("service.name", name.to_owned()));
            self.result.set_by_code("resource.attributes.service.name");
        }
    }

    /// The exporters of a list, each once; `None` if there is no list, or nothing in it is known.
    fn exporters(&mut self, name: &str, list: Option<String>) -> Option<Vec<Exporter>> {
        let list = list?;
        let (mut exporters, mut is_none) = (Vec::new(), false);
        for value in list.split(',').map(str::trim).filter(|value| !value.is_empty()) {
            let exporter = match value.to_ascii_lowercase().as_str() {
                "otlp" => Exporter::Otlp,
                "prometheus" => Exporter::Prometheus,
                "console" => Exporter::Console,
                "otlp/stdout" => Exporter::OtlpStdout,
                "none" => {
                    is_none = true;
                    continue;
                }
                _ => {
                    self.ignore(name, value, "one of otlp, prometheus, console, otlp/stdout, none");
                    continue;
                }
            };
            if !exporters.contains(&exporter) {
                self.set(&format!("meter_provider.readers[{}]", exporters.len()), name);
                exporters.push(exporter);
            }
        }
        if is_none && !exporters.is_empty() {
            self.warn(format!("{name} names `none` beside others, which are used"));
        }
        (is_none || !exporters.is_empty()).then_some(exporters)
    }

    fn reader(&mut self, exporter: Exporter, path: &str) -> MetricReader {
        let exporter = match exporter {
            Exporter::Prometheus => return MetricReader::Pull(self.pull(path)),
            Exporter::Otlp => self.otlp_exporter(&format!("{path}.periodic.exporter")),
            Exporter::OtlpStdout => {
                let preferences = self.preferences(&format!("{path}.periodic.exporter.otlp_file/development"));
                PushMetricExporter::OtlpFile(OtlpFileMetricExporter { path: None, preferences })
            }
            Exporter::Console => {
                let preferences = self.preferences(&format!("{path}.periodic.exporter.console"));
                PushMetricExporter::Console(ConsoleMetricExporter { preferences })
            }
        };
        let mut reader = PeriodicMetricReader::new(exporter);
        if let Some(value) = self.get("OTEL_METRIC_EXPORT_INTERVAL") {
            let (name, path) = ("OTEL_METRIC_EXPORT_INTERVAL", format!("{path}.periodic.interval"));
            match self.milliseconds(name, &value, &path) {
                Some(Duration::ZERO) => self.ignore(name, &value, "a time between two exports"),
                interval => reader.interval = interval.unwrap_or(reader.interval),
            }
        }
        if let Some(value) = self.get("OTEL_METRIC_EXPORT_TIMEOUT") {
            let path = format!("{path}.periodic.timeout");
            if let Some(timeout) = self.milliseconds("OTEL_METRIC_EXPORT_TIMEOUT", &value, &path) {
                reader.timeout = limit(timeout);
            }
        }
        MetricReader::Periodic(reader)
    }

    fn pull(&mut self, path: &str) -> PullMetricReader {
        let mut reader = PullMetricReader::default();
        let path = format!("{path}.pull.exporter.prometheus/development");
        if let Some(host) = self.get("OTEL_EXPORTER_PROMETHEUS_HOST") {
            self.set(&format!("{path}.host"), "OTEL_EXPORTER_PROMETHEUS_HOST");
            reader.exporter.host = host;
        }
        if let Some(port) = self.get("OTEL_EXPORTER_PROMETHEUS_PORT") {
            match port.parse() {
                Ok(port) => {
                    self.set(&format!("{path}.port"), "OTEL_EXPORTER_PROMETHEUS_PORT");
                    reader.exporter.port = port;
                }
                Err(_) => self.ignore("OTEL_EXPORTER_PROMETHEUS_PORT", &port, "a port from 0 to 65535"),
            }
        }
        reader
    }

    fn otlp_exporter(&mut self, path: &str) -> PushMetricExporter {
        let (http, grpc) = (format!("{path}.otlp_http"), format!("{path}.otlp_grpc"));
        let protocol = self.otlp("PROTOCOL").and_then(|(name, value)| {
            let protocols = [("grpc", "grpc"), ("http/protobuf", "http/protobuf"), ("http/json", "http/json")];
            let path = match value.to_ascii_lowercase().as_str() {
                "grpc" => path.to_owned(),
                _ => format!("{http}.encoding"),
            };
            self.chosen(&name, &path, &value, &protocols)
        });
        let is_grpc = protocol == Some("grpc");
        let path = if is_grpc { grpc } else { http };
        let mut exporter = if is_grpc {
            OtlpMetricExporter::grpc("http://localhost:4317")
        } else {
            OtlpMetricExporter::http("http://localhost:4318")
        };
        if protocol == Some("http/json") {
            exporter.encoding = OtlpHttpEncoding::Json;
        }
        if let Some((name, endpoint)) = self.otlp("ENDPOINT") {
            self.set(&format!("{path}.endpoint"), &name);
            exporter.endpoint = if is_grpc || name.contains("_METRICS_") {
                endpoint
            } else {
                format!("{}/v1/metrics", endpoint.trim_end_matches('/'))
            };
        }
        for (name, field, file) in [
            ("CERTIFICATE", "ca_file", &mut exporter.tls.ca_file),
            ("CLIENT_KEY", "key_file", &mut exporter.tls.key_file),
            ("CLIENT_CERTIFICATE", "cert_file", &mut exporter.tls.cert_file),
        ] {
            if let Some((name, value)) = self.otlp(name) {
                self.set(&format!("{path}.tls.{field}"), &name);
                *file = Some(PathBuf::from(value));
            }
        }
        if let Some((name, _)) = self.otlp("INSECURE")
            && is_grpc
        {
            exporter.tls.insecure = self.boolean(&name, &format!("{path}.tls.insecure")).unwrap_or(false);
        }
        if let Some((name, list)) = self.otlp("HEADERS") {
            match pairs(&list) {
                Ok(pairs) => {
                    self.set(&format!("{path}.headers"), &name);
                    exporter.headers = pairs;
                }
                // The pair may hold a secret.
                Err(_) => self.warn(format!("{name} is ignored: it is no list of key=value, percent-encoded")),
            }
        }
        if let Some((name, value)) = self.otlp("COMPRESSION") {
            let choices = [("gzip", Compression::Gzip), ("none", Compression::None), ("zstd", Compression::Zstd)];
            let chosen = self.chosen(&name, &format!("{path}.compression"), &value, &choices);
            exporter.compression = chosen.unwrap_or_default();
        }
        if let Some((name, value)) = self.otlp("TIMEOUT")
            && let Some(timeout) = self.milliseconds(&name, &value, &format!("{path}.timeout"))
        {
            exporter.timeout = limit(timeout);
        }
        exporter.preferences = self.preferences(&path);
        if is_grpc { PushMetricExporter::OtlpGrpc(exporter) } else { PushMetricExporter::OtlpHttp(exporter) }
    }

    fn preferences(&mut self, path: &str) -> Preferences {
        let temporality = self.choice(
            "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
            &format!("{path}.temporality_preference"),
            &[
                ("cumulative", TemporalityPreference::Cumulative),
                ("delta", TemporalityPreference::Delta),
                ("lowmemory", TemporalityPreference::LowMemory),
            ],
        );
        let default_histogram_aggregation = self.choice(
            "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
            &format!("{path}.default_histogram_aggregation"),
            &[
                ("explicit_bucket_histogram", HistogramAggregation::ExplicitBucketHistogram),
                ("base2_exponential_bucket_histogram", HistogramAggregation::Base2ExponentialBucketHistogram),
            ],
        );
        Preferences {
            temporality: temporality.unwrap_or_default(),
            default_histogram_aggregation: default_histogram_aggregation.unwrap_or_default(),
        }
    }
}

/// A timeout of 0 is none.
pub(super) fn limit(timeout: Duration) -> Option<Duration> {
    Some(timeout).filter(|timeout| !timeout.is_zero())
}

/// The pairs of a list like `key=value,other=value`, percent-decoded; or the pair that is none.
///
/// Specification: "Specifying headers via environment variables", which follows the header of W3C Baggage.
pub(super) fn pairs(list: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for pair in list.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let decoded = |text: &str| percent_decode_str(text.trim()).decode_utf8().map(std::borrow::Cow::into_owned);
        let (key, value) = pair.split_once('=').ok_or_else(|| pair.to_owned())?;
        let (key, value) = decoded(key).and_then(|key| Ok((key, decoded(value)?))).map_err(|_| pair.to_owned())?;
        if key.is_empty() {
            return Err(pair.to_owned());
        }
        // Of two with one key the later one counts.
        pairs.retain(|(other, _)| *other != key);
        pairs.push((key, value));
    }
    Ok(pairs)
}
