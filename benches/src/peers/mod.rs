//! Everybody who turns the workload into a page, each used as well as its API allows: buffers are reused where a caller
//! may hand them in.

mod limits;
mod measured;
mod metrics;
mod opentelemetry;
mod prometheus;
mod prometheus_client;

use barograph::{Telemetry, View};

use crate::ours::{Format, Scrape, scraper};
use crate::workload::Workload;

/// A name, and how to record the workload and get ready for the first scrape.
type Peer = (&'static str, fn(&Workload) -> Scrape);

/// Who takes part, ours first.
pub(crate) const PEERS: [Peer; 15] = [
    ("barograph, text", |workload| barograph(workload, Format::TEXT)),
    ("barograph, OpenMetrics", |workload| barograph(workload, Format::OPEN_METRICS)),
    ("barograph, protobuf", |workload| barograph(workload, Format::PROTOBUF)),
    ("barograph, text + gzip", |workload| barograph(workload, Format::TEXT.gzip())),
    ("barograph, OpenMetrics + gzip", |workload| barograph(workload, Format::OPEN_METRICS.gzip())),
    ("barograph, protobuf + gzip", |workload| barograph(workload, Format::PROTOBUF.gzip())),
    ("barograph, text + zstd", |workload| barograph(workload, Format::TEXT.zstd())),
    ("barograph, protobuf + zstd", |workload| barograph(workload, Format::PROTOBUF.zstd())),
    ("opentelemetry-prometheus + TextEncoder", opentelemetry::prometheus),
    ("opentelemetry-prometheus-text-exporter", opentelemetry::text_exporter),
    ("prometheus", prometheus::scraper),
    ("prometheus-client", prometheus_client::scraper),
    ("metrics-exporter-prometheus", metrics::scraper),
    ("measured", measured::scraper),
    ("limit: collect of the SDK alone", limits::collect),
];

/// What is timed beside them on the page that we have made already.
pub(crate) const ON_OUR_PAGE: [Peer; 3] = [
    ("limit: memcpy of our text, buffer reused", limits::copy),
    ("limit: memcpy of our text, buffer fresh", limits::copy_to_fresh),
    ("flate2, level 6, of our text", limits::gzip),
];

pub(crate) fn barograph(workload: &Workload, format: Format) -> Scrape {
    let view = View::of("bench.*").with_cardinality_limit(workload.sets);
    let telemetry = Telemetry::builder("bench")
        .without_endpoint()
        .with_view(view)
        .without_self_metrics()
        .start()
        .expect("no endpoint");
    workload.record(telemetry.meter_provider());
    scraper(telemetry, format)
}
