//! Where collected data goes.

mod console;
#[cfg(feature = "otlp")]
mod file;
#[cfg(feature = "otlp")]
mod otlp;
mod periodic;
mod prometheus;
mod registry;

use std::fmt;
use std::time::Duration;

use opentelemetry_sdk::metrics::data::ResourceMetrics;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config::{PeriodicMetricReader, PushMetricExporter};
use crate::guard::Exemplars;
use crate::self_metrics::Reason;

pub(crate) use self::periodic::{Periodic, Pusher};
pub(crate) use self::prometheus::{Asked, PrometheusExporter, PrometheusOptions, ResourceLabels, Shown};
pub(crate) use self::registry::{ExportedRegistry, MergedRegistry, is_same_registry, merged_registry};

/// A setting that an exporter cannot work with.
#[derive(Debug)]
pub(crate) struct Invalid {
    /// The setting, below the exporter's own place in the configuration.
    pub(crate) field: &'static str,
    pub(crate) problem: String,
}

#[cfg_attr(not(feature = "otlp"), allow(dead_code, reason = "standard output takes everything"))]
impl Invalid {
    fn new(field: &'static str, problem: String) -> Self {
        Self { field, problem }
    }

    fn endpoint(problem: String) -> Self {
        Self::new("endpoint", problem)
    }
}

/// What one export came to, as far as it got.
#[derive(Debug, Default)]
pub(crate) struct Exported {
    /// Points that were taken.
    pub(crate) delivered: u64,
    /// Points that the other side left out for good.
    pub(crate) rejected: u64,
    /// What it said about them, or warned of.
    pub(crate) message: String,
}

impl Exported {
    fn add(&mut self, points: u64, rejected: u64, message: String) {
        let rejected = rejected.min(points);
        self.delivered += points - rejected;
        self.rejected += rejected;
        if !message.is_empty() {
            self.message = message;
        }
    }
}

/// Why points did not arrive.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) reason: Reason,
    pub(crate) message: String,
    pub(crate) again: Again,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Whether the same may succeed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "otlp"), allow(dead_code, reason = "what is written to a stream may always be written later"))]
pub(crate) enum Again {
    Never,
    /// After as long as the other side asked for, or as long as we like.
    Later(Option<Duration>),
}

/// Where a periodic reader pushes to.
#[derive(Debug)]
pub(crate) enum PushExporter {
    #[cfg(feature = "otlp")]
    OtlpHttp(otlp::OtlpExporter),
    #[cfg(feature = "otlp")]
    OtlpGrpc(otlp::OtlpExporter),
    #[cfg(feature = "otlp")]
    OtlpFile(file::OtlpFileExporter),
    Console(console::ConsoleExporter),
}

impl PushExporter {
    /// # Errors
    ///
    /// When the configuration asks for what cannot be.
    pub(crate) fn new(reader: &PeriodicMetricReader) -> Result<Self, Invalid> {
        #[cfg(feature = "otlp")]
        let max_points = reader.max_export_batch_size.map(usize::from);
        match &reader.exporter {
            #[cfg(feature = "otlp")]
            PushMetricExporter::OtlpHttp(config) => otlp::OtlpExporter::http(config, max_points).map(Self::OtlpHttp),
            #[cfg(feature = "otlp")]
            PushMetricExporter::OtlpGrpc(config) => otlp::OtlpExporter::grpc(config, max_points).map(Self::OtlpGrpc),
            #[cfg(feature = "otlp")]
            PushMetricExporter::OtlpFile(config) => file::OtlpFileExporter::new(config, max_points).map(Self::OtlpFile),
            #[cfg(not(feature = "otlp"))]
            PushMetricExporter::OtlpHttp(_) | PushMetricExporter::OtlpGrpc(_) | PushMetricExporter::OtlpFile(_) => {
                let message = "OTLP is not part of this program: add the feature `otlp` to barograph";
                Err(Invalid { field: "", problem: message.to_owned() })
            }
            PushMetricExporter::Console(_) => Ok(Self::Console(console::ConsoleExporter)),
        }
    }

    /// The exporter's name in the declarative configuration, which the pipeline's own metrics show.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            #[cfg(feature = "otlp")]
            Self::OtlpHttp(_) => "otlp_http",
            #[cfg(feature = "otlp")]
            Self::OtlpGrpc(_) => "otlp_grpc",
            #[cfg(feature = "otlp")]
            Self::OtlpFile(_) => "otlp_file",
            Self::Console(_) => "console",
        }
    }

    /// What it is in the terms of the semantic conventions, where they have one for it: its `otel.component.type`.
    pub(crate) fn component(&self) -> &'static str {
        match self {
            #[cfg(feature = "otlp")]
            Self::OtlpHttp(exporter) if exporter.is_json() => "otlp_http_json_metric_exporter",
            #[cfg(feature = "otlp")]
            Self::OtlpHttp(_) => "otlp_http_metric_exporter",
            #[cfg(feature = "otlp")]
            Self::OtlpGrpc(_) => "otlp_grpc_metric_exporter",
            #[cfg(feature = "otlp")]
            Self::OtlpFile(_) => "otlp_file_metric_exporter",
            Self::Console(_) => "console_metric_exporter",
        }
    }

    /// Where it pushes to, for people, without secrets.
    pub(crate) fn target(&self) -> String {
        match self {
            #[cfg(feature = "otlp")]
            Self::OtlpHttp(exporter) | Self::OtlpGrpc(exporter) => exporter.endpoint().to_owned(),
            #[cfg(feature = "otlp")]
            Self::OtlpFile(exporter) => exporter.target(),
            Self::Console(_) => "standard output".to_owned(),
        }
    }

    async fn export(
        &mut self,
        data: &ResourceMetrics,
        exemplars: &Exemplars,
        until: Instant,
        hurry: &Notify,
        exported: &mut Exported,
    ) -> Result<(), Failure> {
        #[cfg(not(feature = "otlp"))]
        let _ = (exemplars, until, hurry);
        match self {
            #[cfg(feature = "otlp")]
            Self::OtlpHttp(exporter) | Self::OtlpGrpc(exporter) => {
                exporter.export(data, exemplars, until, hurry, exported).await
            }
            #[cfg(feature = "otlp")]
            Self::OtlpFile(exporter) => exporter.export(data, exemplars, exported),
            Self::Console(exporter) => exporter.export(data, exported),
        }
    }
}

fn too_late() -> Failure {
    Failure {
        reason: Reason::Timeout,
        message: "no answer before the export had to end".to_owned(),
        again: Again::Later(None),
    }
}

/// How many points were collected.
fn points(data: &ResourceMetrics) -> u64 {
    use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData};
    fn of<T>(data: &MetricData<T>) -> usize {
        match data {
            MetricData::Gauge(gauge) => gauge.data_points().count(),
            MetricData::Sum(sum) => sum.data_points().count(),
            MetricData::Histogram(histogram) => histogram.data_points().count(),
            MetricData::ExponentialHistogram(histogram) => histogram.data_points().count(),
        }
    }
    let metrics = data.scope_metrics().flat_map(|scope| scope.metrics());
    let points = metrics.map(|metric| match metric.data() {
        AggregatedMetrics::F64(data) => of(data),
        AggregatedMetrics::U64(data) => of(data),
        AggregatedMetrics::I64(data) => of(data),
    });
    points.sum::<usize>() as u64
}
