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
    OtlpHttpEncoding, OtlpMetricExporter, PeriodicMetricReader, PullMetricReader, PushMetricExporter, ResourceDetector,
    TemporalityPreference, metrics_url,
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

/// Who names the exporters where no variable does.
const FALLBACK: &str = "or_exporters";

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
            let mut configuration = file(name, &path, variable)?;
            let detectors = &configuration.config.resource.detection.detectors;
            // What a detector will find wins over the program's own name for itself.
            if !(detectors.contains(&ResourceDetector::Service) && variable("OTEL_SERVICE_NAME").is_some()) {
                configuration.or_service_name(fallback.service_name.as_deref());
            }
            return Ok(configuration);
        }
    }
    env.result.config.disabled = env.boolean("OTEL_SDK_DISABLED", "disabled").unwrap_or(false);
    env.resource(fallback.service_name.as_deref());
    let mut exporters = env.exporters("OTEL_METRICS_EXPORTER", env.get("OTEL_METRICS_EXPORTER"));
    if exporters.is_none() {
        exporters = env.exporters(FALLBACK, Some(fallback.exporters.clone()));
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

fn file(name: &str, path: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Configuration, ConfigError> {
    let mut read = super::read_file(std::path::Path::new(path), variable).map_err(|error| match error.origin {
        // The file itself: say who named it.
        Origin::Default => ConfigError { origin: Origin::Environment(name.to_owned()), ..error },
        _ => error,
    })?;
    if name != "OTEL_CONFIG_FILE" {
        read.warnings.push(format!("{name} is deprecated: set OTEL_CONFIG_FILE instead"));
    }
    Ok(read)
}

impl Configuration {
    /// The program's own name for itself, if nobody has said another.
    fn or_service_name(&mut self, name: Option<&str>) {
        let attributes = &self.config.resource.attributes;
        if let Some(name) = name
            && !attributes.iter().any(|attribute| attribute.key.as_str() == "service.name")
        {
            self.config.resource.set(KeyValue::new("service.name", name.to_owned()));
            self.set_by_code("resource.attributes.service.name");
        }
    }
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

    /// What a variable of OTLP says: that of metrics, or else that of all signals. `parse` gets its name and value; what it
    /// cannot read is as if it were not set.
    fn otlp<T>(&mut self, name: &str, parse: impl Fn(&mut Self, &str, String) -> Option<T>) -> Option<T> {
        ["OTEL_EXPORTER_OTLP_METRICS_", "OTEL_EXPORTER_OTLP_"].iter().find_map(|prefix| {
            let name = format!("{prefix}{name}");
            let value = self.get(&name)?;
            parse(self, &name, value)
        })
    }

    fn warn(&mut self, warning: String) {
        self.result.warnings.push(warning);
    }

    fn ignore(&mut self, name: &str, value: &str, expected: &str) {
        self.warn(format!("{name} is ignored: {value:?} is not {expected}"));
    }

    fn set(&mut self, path: &str, variable: &str) {
        // Its settings have defaults that nobody chose, so not even code is their origin.
        if variable != FALLBACK {
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
            "false" => {
                self.set(path, name);
                Some(false)
            }
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
        self.result.or_service_name(fallback_name);
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
            // The preferences of the environment are for OTLP.
            Exporter::Console => PushMetricExporter::Console(ConsoleMetricExporter::default()),
        };
        let mut reader = PeriodicMetricReader::new(exporter);
        if let Some(value) = self.get("OTEL_METRIC_EXPORT_INTERVAL") {
            let (name, path) = ("OTEL_METRIC_EXPORT_INTERVAL", format!("{path}.periodic.interval"));
            if value.parse() == Ok(0) {
                self.ignore(name, &value, "a time between two exports");
            } else {
                reader.interval = self.milliseconds(name, &value, &path).unwrap_or(reader.interval);
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
        let protocol = self.otlp("PROTOCOL", |env, name, value| {
            let protocols = [("grpc", "grpc"), ("http/protobuf", "http/protobuf"), ("http/json", "http/json")];
            let path = match value.to_ascii_lowercase().as_str() {
                "grpc" => path.to_owned(),
                _ => format!("{http}.encoding"),
            };
            env.chosen(name, &path, &value, &protocols)
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
        let text = |setting: String| {
            move |env: &mut Self, name: &str, value: String| {
                env.set(&setting, name);
                Some((name.to_owned(), value))
            }
        };
        if let Some((name, endpoint)) = self.otlp("ENDPOINT", text(format!("{path}.endpoint"))) {
            let is_whole = is_grpc || name.contains("_METRICS_");
            exporter.endpoint = if is_whole { endpoint } else { metrics_url(&endpoint) };
        }
        for (name, field, file) in [
            ("CERTIFICATE", "ca_file", &mut exporter.tls.ca_file),
            ("CLIENT_KEY", "key_file", &mut exporter.tls.key_file),
            ("CLIENT_CERTIFICATE", "cert_file", &mut exporter.tls.cert_file),
        ] {
            let found = self.otlp(name, text(format!("{path}.tls.{field}")));
            *file = found.map(|(_, value)| PathBuf::from(value));
        }
        if is_grpc {
            let insecure = self.otlp("INSECURE", |env, name, _| env.boolean(name, &format!("{path}.tls.insecure")));
            exporter.tls.insecure = insecure.unwrap_or(false);
        }
        let headers = self.otlp("HEADERS", |env, name, list| match pairs(&list) {
            Ok(pairs) => {
                env.set(&format!("{path}.headers"), name);
                Some(pairs)
            }
            // The pair may hold a secret.
            Err(_) => {
                env.warn(format!("{name} is ignored: it is no list of key=value, percent-encoded"));
                None
            }
        });
        exporter.headers = headers.unwrap_or_default();
        let compression = self.otlp("COMPRESSION", |env, name, value| {
            let choices = [("gzip", Compression::Gzip), ("none", Compression::None), ("zstd", Compression::Zstd)];
            env.chosen(name, &format!("{path}.compression"), &value, &choices)
        });
        exporter.compression = compression.unwrap_or_default();
        let timeout =
            self.otlp("TIMEOUT", |env, name, value| env.milliseconds(name, &value, &format!("{path}.timeout")));
        exporter.timeout = timeout.map_or(exporter.timeout, limit);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn from(variables: &[(&str, &str)]) -> Configuration {
        let fallback = Fallback { service_name: Some("fallback".to_owned()), exporters: "prometheus".to_owned() };
        let variable =
            |name: &str| variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned());
        read(&variable, &fallback).unwrap()
    }

    fn readers(variables: &[(&str, &str)]) -> Vec<MetricReader> {
        from(variables).config.meter_provider.unwrap().readers
    }

    fn periodic(variables: &[(&str, &str)]) -> PeriodicMetricReader {
        let MetricReader::Periodic(reader) = only(readers(variables)) else { unreachable!() };
        reader
    }

    fn only(mut readers: Vec<MetricReader>) -> MetricReader {
        assert_eq!(readers.len(), 1, "{readers:?}");
        readers.remove(0)
    }

    fn otlp(variables: &[(&str, &str)]) -> (bool, OtlpMetricExporter) {
        let variables = [&[("OTEL_METRICS_EXPORTER", "otlp")], variables].concat();
        match periodic(&variables).exporter {
            PushMetricExporter::OtlpHttp(exporter) => (false, exporter),
            PushMetricExporter::OtlpGrpc(exporter) => (true, exporter),
            other => unreachable!("{other:?}"),
        }
    }

    /// The settings that the environment made, without their common beginning.
    fn settings(variables: &[(&str, &str)]) -> Vec<String> {
        let settings = from(variables).settings().into_iter();
        let settings = settings.filter(|setting| matches!(setting.origin, Origin::Environment(_)));
        let beginning = "meter_provider.readers[0].periodic.";
        settings.map(|setting| setting.to_string().replace(beginning, "")).collect()
    }

    #[test]
    fn an_empty_environment_serves_a_scrape_under_the_programs_name() {
        let configuration = from(&[]);
        assert!(configuration.warnings.is_empty());
        let config = configuration.config;
        assert!(!config.disabled);
        assert_eq!(config.resource.attributes, [KeyValue::new("service.name", "fallback")]);
        let MetricReader::Pull(pull) = only(config.meter_provider.unwrap().readers) else { unreachable!() };
        assert_eq!((pull.exporter.host.as_str(), pull.exporter.port), ("localhost", 9464));
        // Empty and blank are unset.
        assert_eq!(readers(&[("OTEL_METRICS_EXPORTER", " ")]).len(), 1);
    }

    #[test]
    fn exporters_are_a_list_in_any_case_each_once() {
        let kinds = |list: &str| {
            let readers = readers(&[("OTEL_METRICS_EXPORTER", list)]).into_iter();
            let kinds = readers.map(|reader| match reader {
                MetricReader::Pull(_) => "prometheus",
                MetricReader::Periodic(periodic) => periodic.exporter.key(),
            });
            kinds.collect::<Vec<_>>()
        };
        assert_eq!(kinds("prometheus,otlp"), ["prometheus", "otlp_http"]);
        assert_eq!(kinds(" OTLP , console,otlp/stdout,, otlp"), ["otlp_http", "console", "otlp_file/development"]);
        assert_eq!(kinds("none"), [""; 0]);
        // What is unknown is as if it were not there.
        assert_eq!(kinds("zipkin"), ["prometheus"]);
        assert_eq!(kinds("zipkin,console"), ["console"]);
        assert_eq!(kinds("none,console"), ["console"]);
        assert_eq!(
            from(&[("OTEL_METRICS_EXPORTER", "none,console,Logging")]).warnings,
            [
                r#"OTEL_METRICS_EXPORTER is ignored: "Logging" is not one of otlp, prometheus, console, otlp/stdout, none"#,
                "OTEL_METRICS_EXPORTER names `none` beside others, which are used",
            ]
        );
    }

    #[test]
    fn an_endpoint_for_all_signals_gets_a_path_and_one_for_metrics_does_not() {
        let endpoint = |variables: &[(&str, &str)]| otlp(variables).1.endpoint;
        let (all, metrics) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT");
        assert_eq!(endpoint(&[]), "http://localhost:4318/v1/metrics");
        assert_eq!(endpoint(&[(all, "http://c:4318")]), "http://c:4318/v1/metrics");
        assert_eq!(endpoint(&[(all, "http://c:4318/mine/")]), "http://c:4318/mine/v1/metrics");
        assert_eq!(endpoint(&[(all, "http://c"), (metrics, "https://m/v1/metrics/")]), "https://m/v1/metrics/");
        assert_eq!(endpoint(&[(metrics, "http://m:4318")]), "http://m:4318");
        let grpc = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
        assert_eq!(endpoint(&[grpc]), "http://localhost:4317");
        assert_eq!(endpoint(&[grpc, (all, "c:4317")]), "c:4317");
    }

    #[test]
    fn each_variable_of_otlp_says_what_the_specification_says() {
        let (is_grpc, exporter) = otlp(&[
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "gRPC"),
            ("OTEL_EXPORTER_OTLP_METRICS_INSECURE", "True"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"),
            ("OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE", "/metrics.pem"),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/key.pem"),
            ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/cert.pem"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "all=1"),
            ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "api-key = a%2Cb , tenant=x=y,api-key=later"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "GZIP"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
            ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "LowMemory"),
            ("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "BASE2_EXPONENTIAL_BUCKET_HISTOGRAM"),
        ]);
        assert!(is_grpc && exporter.tls.insecure);
        assert_eq!(exporter.tls.ca_file, Some(PathBuf::from("/metrics.pem")));
        assert_eq!(exporter.tls.key_file, Some(PathBuf::from("/key.pem")));
        assert_eq!(exporter.tls.cert_file, Some(PathBuf::from("/cert.pem")));
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(exporter.headers, [pair("tenant", "x=y"), pair("api-key", "later")]);
        assert_eq!(exporter.compression, Compression::Gzip);
        assert_eq!(exporter.timeout, None);
        assert_eq!(exporter.preferences.temporality, TemporalityPreference::LowMemory);
        assert_eq!(
            exporter.preferences.default_histogram_aggregation,
            HistogramAggregation::Base2ExponentialBucketHistogram
        );
        assert_eq!(otlp(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")]).1.encoding, OtlpHttpEncoding::Json);
    }

    #[test]
    fn what_cannot_be_read_for_metrics_leaves_what_is_said_for_all_signals() {
        let (is_grpc, exporter) = otlp(&[
            ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "bogus"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "soon"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "5000"),
            ("OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", "br"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "none"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=b"),
        ]);
        assert!(is_grpc);
        assert_eq!((exporter.timeout, exporter.compression), (Some(Duration::from_secs(5)), Compression::Gzip));
        assert_eq!(exporter.headers, [("a".to_owned(), "b".to_owned())]);
    }

    #[test]
    fn what_cannot_be_read_is_ignored_with_a_warning_that_names_it() {
        for (name, value, warning) in [
            (
                "OTEL_METRIC_EXPORT_INTERVAL",
                "fast",
                r#"OTEL_METRIC_EXPORT_INTERVAL is ignored: "fast" is not a number of milliseconds"#,
            ),
            (
                "OTEL_METRIC_EXPORT_INTERVAL",
                "-1",
                r#"OTEL_METRIC_EXPORT_INTERVAL is ignored: "-1" is not a number of milliseconds"#,
            ),
            (
                "OTEL_METRIC_EXPORT_INTERVAL",
                "0",
                r#"OTEL_METRIC_EXPORT_INTERVAL is ignored: "0" is not a time between two exports"#,
            ),
            (
                "OTEL_METRIC_EXPORT_TIMEOUT",
                "1s",
                r#"OTEL_METRIC_EXPORT_TIMEOUT is ignored: "1s" is not a number of milliseconds"#,
            ),
            (
                "OTEL_EXPORTER_OTLP_PROTOCOL",
                "http",
                r#"OTEL_EXPORTER_OTLP_PROTOCOL is ignored: "http" is not one of grpc, http/protobuf, http/json"#,
            ),
            (
                "OTEL_EXPORTER_OTLP_METRICS_COMPRESSION",
                "br",
                r#"OTEL_EXPORTER_OTLP_METRICS_COMPRESSION is ignored: "br" is not one of gzip, none, zstd"#,
            ),
            (
                "OTEL_EXPORTER_OTLP_HEADERS",
                "s3cr3t",
                "OTEL_EXPORTER_OTLP_HEADERS is ignored: it is no list of key=value, percent-encoded",
            ),
            ("OTEL_SDK_DISABLED", "yes", r#"OTEL_SDK_DISABLED is taken as false: "yes" is neither true nor false"#),
            (
                "OTEL_RESOURCE_ATTRIBUTES",
                "a=1,b",
                r#"OTEL_RESOURCE_ATTRIBUTES is ignored: "b" is not key=value, percent-encoded"#,
            ),
            (
                "OTEL_METRICS_EXEMPLAR_FILTER",
                "some",
                r#"OTEL_METRICS_EXEMPLAR_FILTER is ignored: "some" is not one of always_on, always_off, trace_based"#,
            ),
        ] {
            let configuration = from(&[("OTEL_METRICS_EXPORTER", "otlp"), (name, value)]);
            assert_eq!(configuration.warnings, [warning]);
            assert!(!configuration.config.disabled);
            assert!(!configuration.origins.values().any(|origin| *origin == Origin::Environment(name.to_owned())));
            let reader = only(configuration.config.meter_provider.unwrap().readers);
            let MetricReader::Periodic(reader) = reader else { unreachable!() };
            assert_eq!((reader.interval, reader.timeout), (Duration::from_secs(60), Some(Duration::from_secs(30))));
        }
        let port = from(&[("OTEL_EXPORTER_PROMETHEUS_PORT", "65536")]);
        assert_eq!(
            port.warnings,
            [r#"OTEL_EXPORTER_PROMETHEUS_PORT is ignored: "65536" is not a port from 0 to 65535"#]
        );
    }

    #[test]
    fn the_resource_is_the_list_with_the_name_before_it() {
        let attributes = |variables: &[(&str, &str)]| from(variables).config.resource.attributes;
        let list = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=listed, deployment.environment.name=a%20b");
        assert_eq!(
            attributes(&[list]),
            [KeyValue::new("service.name", "listed"), KeyValue::new("deployment.environment.name", "a b")]
        );
        assert_eq!(attributes(&[list, ("OTEL_SERVICE_NAME", "named")])[0], KeyValue::new("service.name", "named"));
        // A program that says who it is takes the rest.
        let variable = |name: &str| match name {
            "OTEL_RESOURCE_ATTRIBUTES" => Some(list.1.to_owned()),
            "OTEL_SERVICE_NAME" => Some("named".to_owned()),
            _ => None,
        };
        let own = read_resource(&variable, "own").config.resource.attributes;
        assert_eq!(own[0], KeyValue::new("service.name", "own"));
        assert_eq!(own.len(), 2);
    }

    #[test]
    fn settings_say_which_variable_they_come_from_and_no_secret() {
        assert_eq!(
            settings(&[
                ("OTEL_METRICS_EXPORTER", "otlp"),
                ("OTEL_METRIC_EXPORT_INTERVAL", "500"),
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://user:s3cr3t@c/x?token=s3cr3t"),
                ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "api-key=s3cr3t"),
            ]),
            [
                "interval: 500 ms (OTEL_METRIC_EXPORT_INTERVAL)",
                "exporter.otlp_http.endpoint: https://***@c/x/v1/metrics?*** (OTEL_EXPORTER_OTLP_ENDPOINT)",
                "exporter.otlp_http.headers: api-key=*** (OTEL_EXPORTER_OTLP_METRICS_HEADERS)",
            ]
        );
    }

    #[cfg(feature = "config-file")]
    #[test]
    fn a_file_is_all_that_counts_but_for_what_it_refers_to_and_the_programs_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("otel.yaml");
        let file = "file_format: \"1.1\"\nresource:\n  attributes: [{name: a, value: \"${A}\"}]\n";
        std::fs::write(&path, file).unwrap();
        let configuration = from(&[
            ("OTEL_CONFIG_FILE", path.to_str().unwrap()),
            ("A", "1"),
            ("OTEL_RESOURCE_ATTRIBUTES", "b=2"),
            ("OTEL_SERVICE_NAME", "ignored"),
            ("OTEL_SDK_DISABLED", "true"),
            ("OTEL_METRICS_EXPORTER", "otlp"),
        ]);
        let config = configuration.config;
        assert_eq!(config.resource.attributes, [KeyValue::new("a", "1"), KeyValue::new("service.name", "fallback")]);
        assert!(!config.disabled && config.meter_provider.is_none());
        assert!(configuration.warnings.is_empty());
    }

    #[cfg(not(feature = "config-file"))]
    #[test]
    fn a_file_needs_its_feature() {
        let variable = |name: &str| (name == "OTEL_CONFIG_FILE").then(|| "otel.yaml".to_owned());
        let fallback = Fallback { service_name: None, exporters: "otlp".to_owned() };
        let error = read(&variable, &fallback).unwrap_err().to_string();
        assert_eq!(
            error,
            "OTEL_CONFIG_FILE: cannot read otel.yaml, this program has no files: add the feature `config-file` to barograph"
        );
    }
}
