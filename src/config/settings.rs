//! What a configuration came to, setting by setting.

use std::fmt;
use std::time::Duration;

use super::model::{
    Compression, EndpointLimits, ExemplarFilter, HistogramAggregation, IncludeExclude, LivePage, MASKED, MeterProvider,
    MetricReader, OtlpHttpEncoding, OtlpMetricExporter, Preferences, PrometheusMetricExporter, PushMetricExporter,
    RateLimit, ResourceDetector, TemporalityPreference, without_password,
};
use super::{CardinalityLimits, Configuration};
use crate::error::Origin;

/// One setting, as it is and from where.
///
/// ```
/// use barograph::config::{Config, Configuration};
///
/// let settings = Configuration::from(Config::default()).settings();
/// assert_eq!(settings[0].to_string(), "disabled: false (code)");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Where it stands in the declarative configuration, for example `meter_provider.readers[0].periodic.interval`.
    pub path: String,
    /// Its value, for people. A secret is three stars.
    pub value: String,
    /// Who said so.
    pub origin: Origin,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.path, self.value, self.origin)
    }
}

impl Configuration {
    /// Every setting that takes part, in the order of the declarative configuration.
    #[must_use]
    pub fn settings(&self) -> Vec<Setting> {
        let mut list = List { configuration: self, settings: Vec::new() };
        list.add("disabled", self.config.disabled);
        let resource = &self.config.resource;
        for attribute in &resource.attributes {
            list.add(&format!("resource.attributes.{}", attribute.key), &attribute.value);
        }
        if !resource.detection.detectors.is_empty() {
            let names: Vec<_> = resource.detection.detectors.iter().map(|detector| detector.as_str()).collect();
            list.add("resource.detection/development.detectors", names.join(", "));
            list.include_exclude("resource.detection/development.attributes", &resource.detection.attributes);
        }
        if let Some(url) = &resource.schema_url {
            list.add("resource.schema_url", url);
        }
        match &self.config.meter_provider {
            Some(provider) => list.meter_provider(provider),
            None => list.add("meter_provider", "none: nothing is recorded"),
        }
        list.settings
    }
}

struct List<'a> {
    configuration: &'a Configuration,
    settings: Vec<Setting>,
}

impl List<'_> {
    fn add(&mut self, path: &str, value: impl fmt::Display) {
        let origin = self.configuration.origin(path);
        self.settings.push(Setting { path: path.to_owned(), value: value.to_string(), origin });
    }

    fn meter_provider(&mut self, provider: &MeterProvider) {
        if provider.readers.is_empty() {
            self.add("meter_provider.readers", "none: nothing is recorded");
        }
        for (index, reader) in provider.readers.iter().enumerate() {
            let path = format!("meter_provider.readers[{index}]");
            match reader {
                MetricReader::Periodic(periodic) => {
                    let path = format!("{path}.periodic");
                    self.add(&format!("{path}.interval"), milliseconds(Some(periodic.interval)));
                    self.add(&format!("{path}.timeout"), milliseconds(periodic.timeout));
                    if let Some(size) = periodic.max_export_batch_size {
                        self.add(&format!("{path}.max_export_batch_size/development"), size);
                    }
                    self.push_exporter(&format!("{path}.exporter"), &periodic.exporter);
                    self.limits(&format!("{path}.cardinality_limits"), &periodic.cardinality_limits);
                }
                MetricReader::Pull(pull) => {
                    self.prometheus(&format!("{path}.pull.exporter.prometheus/development"), &pull.exporter);
                    self.limits(&format!("{path}.pull.cardinality_limits"), &pull.cardinality_limits);
                }
            }
        }
        for (index, view) in provider.views.iter().enumerate() {
            self.add(&format!("meter_provider.views[{index}]"), view);
        }
        let filter = match provider.exemplar_filter {
            ExemplarFilter::AlwaysOn => "always_on",
            ExemplarFilter::AlwaysOff => "always_off",
            ExemplarFilter::TraceBased => "trace_based",
        };
        self.add("meter_provider.exemplar_filter", filter);
        let configurator = &provider.meter_configurator;
        let path = "meter_provider.meter_configurator/development";
        if !configurator.default_enabled {
            self.add(&format!("{path}.default_config.enabled"), false);
        }
        for (index, meter) in configurator.meters.iter().enumerate() {
            let path = format!("{path}.meters[{index}]");
            self.add(&path, format!("{} enabled: {}", meter.name, meter.enabled));
        }
    }

    fn push_exporter(&mut self, path: &str, exporter: &PushMetricExporter) {
        let path = format!("{path}.{}", exporter.key());
        match exporter {
            PushMetricExporter::OtlpHttp(otlp) => {
                self.otlp(&path, otlp);
                let encoding = match otlp.encoding {
                    OtlpHttpEncoding::Protobuf => "protobuf",
                    OtlpHttpEncoding::Json => "json",
                };
                self.add(&format!("{path}.encoding"), encoding);
            }
            PushMetricExporter::OtlpGrpc(otlp) => {
                self.otlp(&path, otlp);
                if otlp.tls.insecure {
                    self.add(&format!("{path}.tls.insecure"), true);
                }
            }
            PushMetricExporter::OtlpFile(file) => {
                let stream = file.path.as_ref().map(|path| format!("file://{}", path.display()));
                self.add(&format!("{path}.output_stream"), stream.as_deref().unwrap_or("stdout"));
            }
            PushMetricExporter::Console(_) => {}
        }
        let Preferences { temporality, default_histogram_aggregation } = exporter.preferences();
        let temporality = match temporality {
            TemporalityPreference::Cumulative => "cumulative",
            TemporalityPreference::Delta => "delta",
            TemporalityPreference::LowMemory => "low_memory",
        };
        self.add(&format!("{path}.temporality_preference"), temporality);
        let aggregation = match default_histogram_aggregation {
            HistogramAggregation::ExplicitBucketHistogram => "explicit_bucket_histogram",
            HistogramAggregation::Base2ExponentialBucketHistogram => "base2_exponential_bucket_histogram",
        };
        self.add(&format!("{path}.default_histogram_aggregation"), aggregation);
    }

    fn otlp(&mut self, path: &str, otlp: &OtlpMetricExporter) {
        self.add(&format!("{path}.endpoint"), without_password(&otlp.endpoint));
        for (field, file) in
            [("ca_file", &otlp.tls.ca_file), ("key_file", &otlp.tls.key_file), ("cert_file", &otlp.tls.cert_file)]
        {
            if let Some(file) = file {
                self.add(&format!("{path}.tls.{field}"), file.display());
            }
        }
        if !otlp.headers.is_empty() {
            let headers: Vec<_> = otlp.headers.iter().map(|(name, _)| format!("{name}={MASKED}")).collect();
            self.add(&format!("{path}.headers"), headers.join(", "));
        }
        let compression = match otlp.compression {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        };
        self.add(&format!("{path}.compression"), compression);
        self.add(&format!("{path}.timeout"), milliseconds(otlp.timeout));
        let size = otlp.max_request_size.map_or_else(|| "no limit".to_owned(), |size| format!("{size} bytes"));
        self.add(&format!("{path}.max_request_size"), size);
        self.add(&format!("{path}.max_response_size"), format!("{} bytes", otlp.max_response_size));
    }

    fn prometheus(&mut self, path: &str, exporter: &PrometheusMetricExporter) {
        if exporter.listens && exporter.listeners.is_empty() {
            self.add(&format!("{path}.host"), &exporter.host);
            self.add(&format!("{path}.port"), exporter.port);
        }
        if exporter.listens && !exporter.listeners.is_empty() {
            let listeners: Vec<_> = exporter.listeners.iter().map(ToString::to_string).collect();
            self.add(&format!("{path}.listeners"), listeners.join(", "));
        }
        if let Some(file) = &exporter.web_config_file {
            self.add(&format!("{path}.web_config_file"), file.display());
        }
        if exporter.debug_page {
            self.add(&format!("{path}.debug_page"), true);
        }
        if exporter.live_page != LivePage::default() {
            self.add(&format!("{path}.live_page"), exporter.live_page.as_str());
        }
        self.endpoint_limits(&format!("{path}.limits"), &exporter.limits);
        if !exporter.linger.is_zero() {
            self.add(&format!("{path}.linger"), milliseconds(Some(exporter.linger)));
        }
        self.add(&format!("{path}.scope_info_enabled"), exporter.scope_info_enabled);
        self.add(&format!("{path}.target_info_enabled/development"), exporter.target_info_enabled);
        if let Some(labels) = &exporter.resource_constant_labels {
            self.include_exclude(&format!("{path}.resource_constant_labels"), labels);
        }
        self.add(&format!("{path}.translation_strategy"), exporter.translation_strategy.as_str());
    }

    /// Those that are not as they are where nobody says anything.
    fn endpoint_limits(&mut self, path: &str, limits: &EndpointLimits) {
        let usual = EndpointLimits::default();
        let count = |count: usize| count.to_string();
        let bytes = |count: u64| format!("{count} bytes");
        let time = |time| milliseconds(Some(time));
        let EndpointLimits { rate_limit, allowed_hosts, .. } = limits;
        let rate_limit = rate_limit
            .map(|RateLimit { interval, burst }| format!("{burst} at once, then one every {}", time(interval)));
        let shown = |limits: &EndpointLimits| {
            [
                ("max_connections", count(limits.max_connections)),
                ("max_scrapes", count(limits.max_scrapes)),
                ("max_head_bytes", bytes(limits.max_head_bytes as u64)),
                ("max_body_bytes", bytes(limits.max_body_bytes)),
                ("head_timeout", time(limits.head_timeout)),
                ("idle_timeout", time(limits.idle_timeout)),
                ("write_timeout", time(limits.write_timeout)),
                ("answer_timeout", time(limits.answer_timeout)),
                ("scrape_timeout", time(limits.scrape_timeout)),
                ("scrape_timeout_offset", time(limits.scrape_timeout_offset)),
            ]
        };
        for (limit, usual) in shown(limits).into_iter().zip(shown(&usual)) {
            if limit != usual {
                self.add(&format!("{path}.{}", limit.0), limit.1);
            }
        }
        if let Some(rate_limit) = rate_limit {
            self.add(&format!("{path}.rate_limit"), rate_limit);
        }
        if !allowed_hosts.is_empty() {
            self.add(&format!("{path}.allowed_hosts"), allowed_hosts.join(", "));
        }
    }

    fn include_exclude(&mut self, path: &str, names: &IncludeExclude) {
        if let Some(included) = &names.included {
            self.add(&format!("{path}.included"), included.join(", "));
        }
        if !names.excluded.is_empty() {
            self.add(&format!("{path}.excluded"), names.excluded.join(", "));
        }
    }

    fn limits(&mut self, path: &str, limits: &CardinalityLimits) {
        let kinds = [
            ("default", limits.default),
            ("counter", limits.counter),
            ("gauge", limits.gauge),
            ("histogram", limits.histogram),
            ("observable_counter", limits.observable_counter),
            ("observable_gauge", limits.observable_gauge),
            ("observable_up_down_counter", limits.observable_up_down_counter),
            ("up_down_counter", limits.up_down_counter),
        ];
        for (kind, limit) in kinds {
            if let Some(limit) = limit {
                self.add(&format!("{path}.{kind}"), limit);
            }
        }
    }
}

fn milliseconds(duration: Option<Duration>) -> String {
    duration.map_or_else(|| "no limit".to_owned(), |duration| format!("{} ms", duration.as_millis()))
}

impl PushMetricExporter {
    /// The name of the exporter in the declarative configuration.
    pub(crate) fn key(&self) -> &'static str {
        match self {
            Self::OtlpHttp(_) => "otlp_http",
            Self::OtlpGrpc(_) => "otlp_grpc",
            Self::OtlpFile(_) => "otlp_file/development",
            Self::Console(_) => "console",
        }
    }
}

impl ResourceDetector {
    fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Host => "host",
            Self::Process => "process",
            Self::Service => "service",
        }
    }
}
