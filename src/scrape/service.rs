//! Requests and answers, without a socket.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;

use crate::error::ScrapeError;
use crate::exposition;
use crate::guard::GuardedMeterProvider;

use super::gather::Gatherer;
use super::landing;

/// The endpoint as a tower service, to mount in a router of your own.
///
/// Made by [`Telemetry::scrape_service`](crate::Telemetry::scrape_service). It answers at the pipeline's path
/// (`/metrics` unless told otherwise), at `/livez`, at `/readyz` and at `/`, to `GET` and `HEAD`; everything else is 404
/// or 405. Collecting and encoding run on Barograph's own thread, so the worker that polls the answer is never blocked.
///
/// It waits for the callbacks of observables for as long as they take: the deadline of a scrape is kept by the endpoint's
/// own server, and here by a timeout layer of yours.
///
/// In axum it is `Router::route_service` at the path itself or `Router::nest_service` below another one; in hyper,
/// `hyper_util::service::TowerToHyperService` makes it one of hyper's services.
#[derive(Clone, Debug)]
pub struct ScrapeService {
    endpoint: Arc<Endpoint>,
}

/// What every clone of the service shares.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) service_name: String,
    /// Where the metrics are: the landing page and the health checks stand beside it.
    pub(crate) path: String,
    pub(crate) gatherer: Gatherer,
    pub(crate) provider: GuardedMeterProvider,
}

impl ScrapeService {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint: Arc::new(endpoint) }
    }

    pub(crate) fn gatherer(&self) -> &Gatherer {
        &self.endpoint.gatherer
    }

    pub(super) async fn respond(&self, method: Method, path: String) -> Response<Full<Bytes>> {
        let endpoint = &*self.endpoint;
        let is_metrics = path == endpoint.path;
        if !is_metrics && !matches!(path.as_str(), "/" | "/livez" | "/readyz") {
            return plain(StatusCode::NOT_FOUND, format!("not found, the metrics are at {}\n", endpoint.path));
        }
        if method != Method::GET && method != Method::HEAD {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are allowed\n".to_owned());
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        if is_metrics {
            return match endpoint.gatherer.page().await {
                Ok(page) => response(StatusCode::OK, exposition::CONTENT_TYPE, page),
                Err(error) => failure(&error),
            };
        }
        match path.as_str() {
            "/livez" => plain(StatusCode::OK, "ok\n".to_owned()),
            "/readyz" if endpoint.gatherer.is_shut_down() => failure(&ScrapeError::ShutDown),
            "/readyz" => plain(StatusCode::OK, "ok\n".to_owned()),
            _ => {
                let problems = endpoint.provider.catalogue().problems();
                let page = landing::page(&endpoint.service_name, &endpoint.path, &problems);
                response(StatusCode::OK, "text/html; charset=utf-8", page.into())
            }
        }
    }
}

/// The answer to a scrape that failed: never an empty page, which Prometheus would take for a healthy one.
pub(super) fn failure(error: &ScrapeError) -> Response<Full<Bytes>> {
    let status = match error {
        ScrapeError::ShutDown | ScrapeError::TimedOut { .. } => StatusCode::SERVICE_UNAVAILABLE,
        ScrapeError::Collect { .. } => StatusCode::INTERNAL_SERVER_ERROR,
    };
    plain(status, format!("{error}\n"))
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    response(status, "text/plain; charset=utf-8", text.into())
}

fn response(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

impl<B> tower_service::Service<Request<B>> for ScrapeService {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let service = self.clone();
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        Box::pin(async move { Ok(service.respond(method, path).await) })
    }
}
