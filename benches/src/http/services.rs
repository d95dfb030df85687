//! One service, with the layers of one contestant around it.

use axum::Router;
use axum::extract::{MatchedPath, Path};
use axum::routing::get;
use axum_prometheus::PrometheusMetricLayer;
use barograph::Telemetry;
use barograph_instrumentation_http::HttpServerMetrics;
use opentelemetry_instrumentation_tower::http::server::{Layer, LayerBuilder};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Registry, TextEncoder};
use tower::ServiceBuilder;

/// A contestant by its name, as its documentation says to use it.
pub(super) struct Service {
    pub(super) name: &'static str,
    pub(super) build: fn() -> Layered,
}

/// A service and how many of its requests were counted, `None` where nobody counts.
pub(super) struct Layered {
    pub(super) router: Router,
    pub(super) counted: Box<dyn Fn() -> Option<u64> + Send + Sync>,
}

/// The bare service first, then ours.
pub(super) const SERVICES: [Service; 6] = [
    Service { name: "bare", build: bare },
    Service { name: "barograph-instrumentation-http", build: ours },
    Service { name: "opentelemetry-instrumentation-tower, metrics only", build: || tower(false) },
    Service { name: "opentelemetry-instrumentation-tower", build: || tower(true) },
    Service { name: "axum-prometheus", build: prometheus },
    // What axum itself asks for any layer.
    Service { name: "limit: a layer that does nothing", build: idle },
];

/// What is measured: a small answer with something of the request in it.
fn service() -> Router {
    let user = async |Path(id): Path<u64>| format!("{{\"id\":{id},\"name\":\"somebody\",\"groups\":[\"readers\"]}}");
    Router::new().route("/users/{id}", get(user))
}

fn bare() -> Layered {
    Layered { router: service(), counted: Box::new(|| None) }
}

fn idle() -> Layered {
    Layered { router: service().layer(ServiceBuilder::new()), counted: Box::new(|| None) }
}

/// All of it: durations, active requests, both sizes, exemplars as they are by default.
fn ours() -> Layered {
    let telemetry = Telemetry::builder("bench").without_endpoint().start().expect("a pipeline");
    let metrics = HttpServerMetrics::new(telemetry.meter_provider());
    let layer = metrics.layer().with_route(|request| request.extensions.get::<MatchedPath>().map(MatchedPath::as_str));
    let counted = move || counted(&telemetry.scrape().expect("a page"), "http_server_request_duration_seconds_count");
    Layered { router: service().layer(layer), counted: Box::new(counted) }
}

/// With the SDK and its Prometheus exporter.
fn tower(has_spans: bool) -> Layered {
    let registry = Registry::new();
    let exporter =
        opentelemetry_prometheus::exporter().with_registry(registry.clone()).build().expect("a new registry");
    let provider = SdkMeterProvider::builder().with_reader(exporter).build();
    // The layer takes its meter from here when it is built; the next one replaces the provider, which must live on.
    opentelemetry::global::set_meter_provider(provider.clone());
    let layer: Layer = LayerBuilder::builder().with_tracing(has_spans).build().expect("a layer");
    let counted = move || {
        let _ = &provider;
        let page = TextEncoder::new().encode_to_string(&registry.gather()).expect("valid families");
        counted(&page, "http_server_request_duration_seconds_count")
    };
    Layered { router: service().layer(layer), counted: Box::new(counted) }
}

/// With the recorder that it sets up.
fn prometheus() -> Layered {
    let (layer, page) = PrometheusMetricLayer::pair();
    let counted = move || counted(&page.render(), "axum_http_requests_total");
    Layered { router: service().layer(layer), counted: Box::new(counted) }
}

/// The number of a sample, all its series together; `None` if there is none.
fn counted(page: &str, sample: &str) -> Option<u64> {
    let of_sample = page.lines().filter(|line| line.split(['{', ' ']).next() == Some(sample));
    let values = of_sample.map(|line| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()));
    values.map(|value| value.map(|value| value as u64)).sum()
}
