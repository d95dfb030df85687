//! Each request in a span of its own. A quarter of them is sampled, and what is recorded inside of one that is has its trace
//! as an exemplar: the measurement of the request too, though it ends when the handler has long returned.
//!
//! Where the spans go is another story: give the provider an exporter. Here only their ids are looked at.

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use barograph::opentelemetry::Context;
use barograph::opentelemetry::context::FutureExt;
use barograph::opentelemetry::trace::{SpanKind, TraceContextExt, Tracer, TracerProvider};
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};

pub(crate) fn tracer() -> SdkTracer {
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(0.25)));
    SdkTracerProvider::builder().with_sampler(sampler).build().tracer("service")
}

/// Middleware that answers a request in a span.
pub(crate) async fn in_span(State(tracer): State<SdkTracer>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str);
    let span = tracer.span_builder(route.to_owned()).with_kind(SpanKind::Server).start(&tracer);
    let context = Context::current_with_span(span);
    next.run(request).with_context(context).await
}
