//! Whom the service asks: a supplier, who may be slow or have no answer, and another one, who is never there.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use barograph_instrumentation_http::{HttpClientMetrics, ResponseBody, UrlTemplate};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tower::timeout::TimeoutLayer;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, ServiceBuilder, ServiceExt};

/// How long an order can wait for the supplier.
const PATIENCE: Duration = Duration::from_millis(200);

/// Only the system could listen on port 1, and it does not.
const OTHER_SUPPLIER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

/// The suppliers, as the service knows them.
#[derive(Clone)]
pub(crate) struct Stock {
    client: BoxCloneSyncService<Request<Body>, Response<ResponseBody<Incoming>>, BoxError>,
    supplier: SocketAddr,
}

impl Stock {
    pub(crate) fn new(metrics: &HttpClientMetrics, supplier: SocketAddr) -> Self {
        // The time-out is within the measurement, which therefore knows one from a caller that went away.
        let client = ServiceBuilder::new()
            .layer(metrics.layer())
            .layer(TimeoutLayer::new(PATIENCE))
            .service(Client::builder(TokioExecutor::new()).build_http());
        Self { client: BoxCloneSyncService::new(client), supplier }
    }

    /// Reserves what an order asks for.
    pub(crate) async fn reserve(&self, order: u64) -> Result<(), BoxError> {
        match self.ask(self.supplier, order).await {
            // Some goods are sold by another supplier too.
            Err(_) if order.is_multiple_of(16) => self.ask(OTHER_SUPPLIER, order).await,
            answer => answer,
        }
    }

    async fn ask(&self, supplier: SocketAddr, order: u64) -> Result<(), BoxError> {
        // Each order is a URL of its own, and all of them are one series.
        let request = Request::post(format!("http://{supplier}/stock/{order}"))
            .extension(UrlTemplate("/stock/{id}"))
            .body(Body::from(format!("{{\"order\": {order}}}")))?;
        let response = self.client.clone().oneshot(request).await?;
        let status = response.status();
        // An answer that nobody reads to its end was given up.
        response.into_body().collect().await?;
        if status == StatusCode::OK { Ok(()) } else { Err(format!("the supplier answered with {status}").into()) }
    }
}
