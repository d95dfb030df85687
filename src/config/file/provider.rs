//! `meter_provider`: readers and where they push to, and what else is said there.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use super::fields::{Decoder, Field, Fields};
use crate::config::env::{limit, pairs};
use crate::config::{
    CardinalityLimits, Compression, ConsoleMetricExporter, ExemplarFilter, HistogramAggregation, MeterConfigurator,
    MeterMatcher, MeterProvider, MetricReader, OtlpFileMetricExporter, OtlpHttpEncoding, OtlpMetricExporter,
    PeriodicMetricReader, Preferences, PrometheusMetricExporter, PullMetricReader, PushMetricExporter,
    TemporalityPreference, Tls,
};
use crate::error::ConfigError;
use crate::exposition::TranslationStrategy;
use crate::view::MAX_LIMIT;

const FILTERS: &[(&str, ExemplarFilter)] = &[
    ("always_on", ExemplarFilter::AlwaysOn),
    ("always_off", ExemplarFilter::AlwaysOff),
    ("trace_based", ExemplarFilter::TraceBased),
];

const TEMPORALITIES: &[(&str, TemporalityPreference)] = &[
    ("cumulative", TemporalityPreference::Cumulative),
    ("delta", TemporalityPreference::Delta),
    ("low_memory", TemporalityPreference::LowMemory),
];

const AGGREGATIONS: &[(&str, HistogramAggregation)] = &[
    ("explicit_bucket_histogram", HistogramAggregation::ExplicitBucketHistogram),
    ("base2_exponential_bucket_histogram", HistogramAggregation::Base2ExponentialBucketHistogram),
];

const COMPRESSIONS: &[(&str, Compression)] =
    &[("gzip", Compression::Gzip), ("none", Compression::None), ("zstd", Compression::Zstd)];

const ENCODINGS: &[(&str, OtlpHttpEncoding)] =
    &[("protobuf", OtlpHttpEncoding::Protobuf), ("json", OtlpHttpEncoding::Json)];

/// Three of them are in development, as their exporter is; people write them as the metrics specification does, without.
const STRATEGIES: &[(&str, TranslationStrategy)] = &[
    ("underscore_escaping_with_suffixes", TranslationStrategy::UnderscoreEscapingWithSuffixes),
    ("underscore_escaping_without_suffixes/development", TranslationStrategy::UnderscoreEscapingWithoutSuffixes),
    ("no_utf8_escaping_with_suffixes/development", TranslationStrategy::NoUtf8EscapingWithSuffixes),
    ("no_translation/development", TranslationStrategy::NoTranslation),
    ("underscore_escaping_with_suffixes/development", TranslationStrategy::UnderscoreEscapingWithSuffixes),
    ("underscore_escaping_without_suffixes", TranslationStrategy::UnderscoreEscapingWithoutSuffixes),
    ("no_utf8_escaping_with_suffixes", TranslationStrategy::NoUtf8EscapingWithSuffixes),
    ("no_translation", TranslationStrategy::NoTranslation),
];

const PUSH_EXPORTERS: &[&str] = &["otlp_http", "otlp_grpc", "otlp_file/development", "console"];
const PULL_EXPORTERS: &[&str] = &["prometheus/development"];

/// What HTTP and gRPC have in common.
const OTLP: &[&str] = &[
    "endpoint",
    "tls",
    "headers",
    "headers_list",
    "compression",
    "max_request_size",
    "max_response_size",
    "timeout",
    "temporality_preference",
    "default_histogram_aggregation",
];

impl Decoder<'_> {
    pub(super) fn meter_provider(&mut self, field: &Field<'_>) -> Result<MeterProvider, ConfigError> {
        let fields = self.fields(field, &["readers", "views", "exemplar_filter", "meter_configurator/development"])?;
        let list = self.required(&fields, "readers", "a list of readers")?;
        let mut provider = MeterProvider::default();
        for item in self.items(&list, "a list of readers")? {
            provider.readers.push(self.reader(&item)?);
        }
        if let Some(list) = self.get(&fields, "views") {
            for item in self.items(&list, "a list of views")? {
                provider.views.push(self.view(&item)?);
            }
        }
        if let Some(filter) = self.get(&fields, "exemplar_filter") {
            provider.exemplar_filter = self.chosen(&filter, FILTERS)?;
        }
        if let Some(configurator) = self.get(&fields, "meter_configurator/development") {
            provider.meter_configurator = self.meter_configurator(&configurator)?;
        }
        Ok(provider)
    }

    fn reader(&mut self, item: &Field<'_>) -> Result<MetricReader, ConfigError> {
        let known = ["periodic", "pull"];
        self.fields(item, &known)?;
        let chosen = self.one_of(item, &known)?;
        match chosen.key() {
            "periodic" => self.periodic(&chosen).map(MetricReader::Periodic),
            _ => self.pull(&chosen).map(MetricReader::Pull),
        }
    }

    fn periodic(&mut self, field: &Field<'_>) -> Result<PeriodicMetricReader, ConfigError> {
        const BATCH: &str = "max_export_batch_size/development";
        let known = ["interval", "timeout", BATCH, "exporter", "producers", "cardinality_limits"];
        let fields = self.fields(field, &known)?;
        let interval = self.milliseconds(&fields, "interval")?;
        let timeout = self.milliseconds(&fields, "timeout")?;
        let max_export_batch_size = self.size(&fields, BATCH, "a number of data points, at least 1")?;
        let exporter = self.required(&fields, "exporter", "an exporter")?;
        let mut reader = PeriodicMetricReader::new(self.push_exporter(&exporter)?);
        match interval {
            Some(Duration::ZERO) => {
                if let Some(interval) = self.get(&fields, "interval") {
                    self.warn(&interval, "0 is no time between two exports: 60000 is used".to_owned());
                    // What is used is nobody's.
                    self.configuration.origins.remove(&interval.path);
                }
            }
            Some(interval) => reader.interval = interval,
            None => {}
        }
        if let Some(timeout) = timeout {
            reader.timeout = limit(timeout);
        }
        reader.max_export_batch_size = max_export_batch_size;
        self.producers(&fields)?;
        reader.cardinality_limits = self.cardinality_limits(&fields)?;
        Ok(reader)
    }

    fn pull(&mut self, field: &Field<'_>) -> Result<PullMetricReader, ConfigError> {
        let fields = self.fields(field, &["exporter", "producers", "cardinality_limits"])?;
        let exporter = self.required(&fields, "exporter", "an exporter")?;
        let exporter = self.exporter(&exporter, PULL_EXPORTERS)?;
        let exporter = self.prometheus(&exporter)?;
        self.producers(&fields)?;
        Ok(PullMetricReader { exporter, cardinality_limits: self.cardinality_limits(&fields)? })
    }

    /// The exporter that is chosen. The schema allows others than it names, for extensions; there are none, and metrics
    /// that go nowhere are an error.
    fn exporter<'n>(&mut self, field: &Field<'n>, known: &[&str]) -> Result<Field<'n>, ConfigError> {
        let chosen = self.one_of(field, known)?;
        if !known.contains(&chosen.key()) {
            self.fields(field, known)?;
        }
        Ok(chosen)
    }

    fn push_exporter(&mut self, field: &Field<'_>) -> Result<PushMetricExporter, ConfigError> {
        let chosen = self.exporter(field, PUSH_EXPORTERS)?;
        Ok(match chosen.key() {
            "otlp_http" => {
                let fields = self.fields_or_null(&chosen, &[OTLP, &["encoding"]].concat())?;
                let mut exporter = OtlpMetricExporter::http("http://localhost:4318");
                self.otlp(&fields, &["ca_file", "key_file", "cert_file"], &mut exporter)?;
                exporter.encoding = self.choice(&fields, "encoding", ENCODINGS)?.unwrap_or_default();
                if let Some(endpoint) = self.get(&fields, "endpoint").filter(|_| has_no_path(&exporter.endpoint)) {
                    self.warn(&endpoint, "has no path, so it is sent to `/`: `/v1/metrics` is usual".to_owned());
                }
                PushMetricExporter::OtlpHttp(exporter)
            }
            "otlp_grpc" => {
                let fields = self.fields_or_null(&chosen, OTLP)?;
                let mut exporter = OtlpMetricExporter::grpc("http://localhost:4317");
                self.otlp(&fields, &["ca_file", "key_file", "cert_file", "insecure"], &mut exporter)?;
                PushMetricExporter::OtlpGrpc(exporter)
            }
            "otlp_file/development" => {
                let known = ["output_stream", "temporality_preference", "default_histogram_aggregation"];
                let fields = self.fields_or_null(&chosen, &known)?;
                let path = self.output_stream(&fields)?;
                PushMetricExporter::OtlpFile(OtlpFileMetricExporter { path, preferences: self.preferences(&fields)? })
            }
            _ => {
                let known = ["temporality_preference", "default_histogram_aggregation"];
                let fields = self.fields_or_null(&chosen, &known)?;
                PushMetricExporter::Console(ConsoleMetricExporter { preferences: self.preferences(&fields)? })
            }
        })
    }

    fn otlp(
        &mut self,
        fields: &Fields<'_>,
        tls: &[&str],
        exporter: &mut OtlpMetricExporter,
    ) -> Result<(), ConfigError> {
        if let Some(endpoint) = self.string(fields, "endpoint")? {
            exporter.endpoint = endpoint;
        }
        if let Some(field) = self.get(fields, "tls") {
            let fields = self.fields_or_null(&field, tls)?;
            exporter.tls = Tls {
                ca_file: self.absolute_path(&fields, "ca_file")?,
                key_file: self.absolute_path(&fields, "key_file")?,
                cert_file: self.absolute_path(&fields, "cert_file")?,
                insecure: self.boolean(&fields, "insecure")?.unwrap_or(false),
            };
        }
        exporter.headers = self.headers(fields)?;
        if let Some(compression) = self.get(fields, "compression").filter(|field| !field.is_null()) {
            exporter.compression = self.chosen(&compression, COMPRESSIONS)?;
        }
        let bytes = "a number of bytes, 0 for no limit";
        let size = self.integer::<usize>(fields, "max_request_size", 0..=i128::MAX, bytes)?;
        if let Some(size) = size {
            exporter.max_request_size = NonZeroUsize::new(size);
        }
        if let Some(size) = self.size(fields, "max_response_size", "a number of bytes, at least 1")? {
            exporter.max_response_size = size.get();
        }
        if let Some(timeout) = self.milliseconds(fields, "timeout")? {
            exporter.timeout = limit(timeout);
        }
        exporter.preferences = self.preferences(fields)?;
        Ok(())
    }

    /// Both lists of headers, `headers` with priority. Values are secrets: no message has one.
    fn headers(&mut self, fields: &Fields<'_>) -> Result<Vec<(String, String)>, ConfigError> {
        let mut headers: Vec<(String, String)> = Vec::new();
        // The names of headers are the same in any case.
        let mut set = |name: String, value: String| {
            headers.retain(|(other, _)| !other.eq_ignore_ascii_case(&name));
            headers.push((name, value));
        };
        if let Some(list) = self.get(fields, "headers_list").filter(|list| !list.is_null()) {
            let text = self.text(&list, "a string")?;
            let expected = "a text that is no list, expected key=value, percent-encoded, with commas between";
            let pairs = pairs(&text).map_err(|_| self.error_at(&list, expected))?;
            pairs.into_iter().for_each(|(name, value)| set(name, value));
            // Settings show both as one.
            self.note(list.path.replace("headers_list", "headers"), &list);
        }
        if let Some(list) = self.get(fields, "headers") {
            for item in self.items(&list, "a list of headers")? {
                let fields = self.fields(&item, &["name", "value"])?;
                let name = self.required_string(&fields, "name")?;
                let value = self.required(&fields, "value", "a string, or null for none")?;
                if !value.is_null() {
                    set(name, self.text(&value, "a string")?);
                }
            }
        }
        Ok(headers)
    }

    fn absolute_path(&mut self, fields: &Fields<'_>, key: &str) -> Result<Option<PathBuf>, ConfigError> {
        let Some(path) = self.string(fields, key)?.map(PathBuf::from) else { return Ok(None) };
        match self.get(fields, key) {
            Some(field) if !path.is_absolute() => {
                Err(self.error_at(&field, "a relative path, expected an absolute one"))
            }
            _ => Ok(Some(path)),
        }
    }

    /// `None` is standard output.
    fn output_stream(&mut self, fields: &Fields<'_>) -> Result<Option<PathBuf>, ConfigError> {
        let Some(field) = self.get(fields, "output_stream").filter(|field| !field.is_null()) else { return Ok(None) };
        let expected = "stdout or file:///an/absolute/path";
        let text = self.text(&field, expected)?;
        match text.strip_prefix("file://") {
            None if text == "stdout" => Ok(None),
            Some(path) if path.starts_with('/') && !path.ends_with('/') => Ok(Some(PathBuf::from(path))),
            _ => Err(self.error_at(&field, format!("another stream, expected {expected}"))),
        }
    }

    fn preferences(&mut self, fields: &Fields<'_>) -> Result<Preferences, ConfigError> {
        let temporality = self.choice(fields, "temporality_preference", TEMPORALITIES)?;
        let aggregation = self.choice(fields, "default_histogram_aggregation", AGGREGATIONS)?;
        Ok(Preferences {
            temporality: temporality.unwrap_or_default(),
            default_histogram_aggregation: aggregation.unwrap_or_default(),
        })
    }

    fn prometheus(&mut self, field: &Field<'_>) -> Result<PrometheusMetricExporter, ConfigError> {
        let known = [
            "host",
            "port",
            "scope_info_enabled",
            "target_info_enabled/development",
            "resource_constant_labels",
            "translation_strategy",
        ];
        let fields = self.fields_or_null(field, &known)?;
        let usual = PrometheusMetricExporter::default();
        let port = self.integer(&fields, "port", 0..=65_535, "a port from 0 to 65535")?;
        let strategy = match self.get(&fields, "translation_strategy") {
            Some(strategy) => Some(self.translation_strategy(&strategy)?),
            None => None,
        };
        Ok(PrometheusMetricExporter {
            host: self.string(&fields, "host")?.unwrap_or(usual.host),
            port: port.unwrap_or(usual.port),
            scope_info_enabled: self.boolean(&fields, "scope_info_enabled")?.unwrap_or(true),
            target_info_enabled: self.boolean(&fields, "target_info_enabled/development")?.unwrap_or(true),
            resource_constant_labels: self.include_exclude(&fields, "resource_constant_labels")?,
            translation_strategy: strategy.unwrap_or_default(),
            ..PrometheusMetricExporter::default()
        })
    }

    fn translation_strategy(&self, field: &Field<'_>) -> Result<TranslationStrategy, ConfigError> {
        // Where it is none of them, only the schema's own spellings are worth naming.
        self.chosen(field, STRATEGIES).or_else(|_| self.chosen(field, STRATEGIES.get(..4).unwrap_or(STRATEGIES)))
    }

    fn producers(&mut self, fields: &Fields<'_>) -> Result<(), ConfigError> {
        let Some(list) = self.get(fields, "producers") else { return Ok(()) };
        for item in self.items(&list, "a list of producers")? {
            let chosen = self.one_of(&item, &["opencensus"])?;
            let why = match chosen.key() {
                "opencensus" => {
                    self.fields_or_null(&chosen, &[])?;
                    "OpenCensus is not supported, and deprecated in the schema"
                }
                _ => "there are no metric producers here",
            };
            self.warn(&chosen, format!("is ignored: {why}"));
        }
        Ok(())
    }

    fn cardinality_limits(&mut self, fields: &Fields<'_>) -> Result<CardinalityLimits, ConfigError> {
        let known = [
            "default",
            "counter",
            "gauge",
            "histogram",
            "observable_counter",
            "observable_gauge",
            "observable_up_down_counter",
            "up_down_counter",
        ];
        let Some(field) = self.get(fields, "cardinality_limits") else { return Ok(CardinalityLimits::default()) };
        let fields = self.fields(&field, &known)?;
        Ok(CardinalityLimits {
            default: self.cardinality(&fields, "default")?,
            counter: self.cardinality(&fields, "counter")?,
            gauge: self.cardinality(&fields, "gauge")?,
            histogram: self.cardinality(&fields, "histogram")?,
            observable_counter: self.cardinality(&fields, "observable_counter")?,
            observable_gauge: self.cardinality(&fields, "observable_gauge")?,
            observable_up_down_counter: self.cardinality(&fields, "observable_up_down_counter")?,
            up_down_counter: self.cardinality(&fields, "up_down_counter")?,
        })
    }

    /// A number of series. The SDK reserves memory for all of them, so there is an end to it.
    pub(super) fn cardinality(&mut self, fields: &Fields<'_>, key: &str) -> Result<Option<NonZeroUsize>, ConfigError> {
        let expected = "a number of series from 1 to 1000000";
        let limit = self.integer::<usize>(fields, key, 1..=MAX_LIMIT as i128, expected)?;
        Ok(limit.and_then(NonZeroUsize::new))
    }

    fn size(&mut self, fields: &Fields<'_>, key: &str, expected: &str) -> Result<Option<NonZeroUsize>, ConfigError> {
        let size = self.integer::<usize>(fields, key, 1..=i128::MAX, expected)?;
        Ok(size.and_then(NonZeroUsize::new))
    }

    fn milliseconds(&mut self, fields: &Fields<'_>, key: &str) -> Result<Option<Duration>, ConfigError> {
        // A clock cannot be set forward by any number; nobody waits for a year.
        const YEAR: i128 = 365 * 24 * 60 * 60 * 1000;
        let expected = "a whole number of milliseconds, from 0 to those of a year";
        let milliseconds = self.integer(fields, key, 0..=YEAR, expected)?;
        Ok(milliseconds.map(Duration::from_millis))
    }

    fn meter_configurator(&mut self, field: &Field<'_>) -> Result<MeterConfigurator, ConfigError> {
        let fields = self.fields(field, &["default_config", "meters"])?;
        let mut configurator = MeterConfigurator::default();
        if let Some(config) = self.get(&fields, "default_config") {
            configurator.default_enabled = self.meter_config(&config)?;
        }
        if let Some(list) = self.get(&fields, "meters") {
            for item in self.items(&list, "a list of meters")? {
                let fields = self.fields(&item, &["name", "config"])?;
                let name = self.required_string(&fields, "name")?;
                let config = self.required(&fields, "config", "a mapping")?;
                configurator.meters.push(MeterMatcher { name, enabled: self.meter_config(&config)? });
            }
        }
        Ok(configurator)
    }

    fn meter_config(&mut self, field: &Field<'_>) -> Result<bool, ConfigError> {
        let fields = self.fields(field, &["enabled"])?;
        match self.get(&fields, "enabled") {
            // Unlike most booleans it cannot be null.
            Some(enabled) => self.flag(&enabled),
            None => Ok(true),
        }
    }
}

/// Whether an endpoint ends with its host.
fn has_no_path(endpoint: &str) -> bool {
    let host = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    host.find(['/', '?', '#'])
        .is_none_or(|end| matches!(host.get(end..end + 1), Some("?" | "#")) || end + 1 == host.len())
}
