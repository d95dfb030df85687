//! The other exporters of the OpenTelemetry SDK.

use opentelemetry_prometheus_text_exporter::PrometheusExporter;
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{SdkMeterProvider, Stream};
use prometheus::{Registry, TextEncoder};

use crate::ours::Scrape;
use crate::workload::Workload;

pub(super) fn prometheus(workload: &Workload) -> Scrape {
    let registry = Registry::new();
    let exporter =
        opentelemetry_prometheus::exporter().with_registry(registry.clone()).build().expect("a new registry");
    let provider = provider(workload, exporter);
    let mut page = String::new();
    Box::new(move |sink| {
        let _ = &provider;
        page.clear();
        TextEncoder::new().encode_utf8(&registry.gather(), &mut page).expect("valid families");
        sink(page.as_bytes());
    })
}

pub(super) fn text_exporter(workload: &Workload) -> Scrape {
    let exporter = PrometheusExporter::new();
    let provider = provider(workload, exporter.clone());
    let mut page = Vec::new();
    Box::new(move |sink| {
        let _ = &provider;
        page.clear();
        exporter.export(&mut page).expect("a buffer takes everything");
        sink(&page);
    })
}

/// A pipeline of the SDK in which the workload has been recorded. With the limit of 2,000 sets that it has by default,
/// the larger workloads would overflow.
pub(super) fn provider(workload: &Workload, reader: impl MetricReader) -> SdkMeterProvider {
    let limit = workload.sets;
    let provider = SdkMeterProvider::builder()
        .with_reader(reader)
        .with_view(move |_: &_| Stream::builder().with_cardinality_limit(limit).build().ok())
        .build();
    workload.record(&provider);
    provider
}
