//! Metrics for HTTP servers and clients, as tower layers, after the [semantic conventions 1.44.0 for HTTP metrics]: how
//! long requests take, how many are active, how large their bodies are.
//!
//! ```
//! use axum::Router;
//! use axum::extract::MatchedPath;
//! use axum::routing::get;
//! use barograph::opentelemetry::metrics::MeterProvider;
//! use barograph_instrumentation_http::HttpServerMetrics;
//!
//! fn app(provider: &dyn MeterProvider) -> Router {
//!     let metrics = HttpServerMetrics::new(provider);   // once; clones are cheap
//!     let measured = metrics
//!         .layer()
//!         .with_route(|request| request.extensions.get::<MatchedPath>().map(MatchedPath::as_str));
//!     Router::new().route("/users/{id}", get(async || "a user")).layer(measured)
//! }
//! # app(&barograph::opentelemetry::metrics::NoopMeterProvider::new());
//! ```
//!
//! # What a request is
//!
//! It starts when it is handed to the layer, and ends when the body of its response has ended, has failed or is dropped:
//! see [`HttpServerLayer`] and [`HttpClientLayer`]. Then it is recorded once, in one series of each histogram:
//!
//! | what happened | `http.response.status_code` | `error.type` |
//! |---|---|---|
//! | a response | its status | none; the status, if that is an error: 5xx, for clients 4xx too |
//! | a response of gRPC | its status | the name of its status of gRPC, if that is an error on this side |
//! | a response whose body failed | its status | `body` |
//! | a response whose body was dropped before its end | its status | `cancelled` |
//! | the future was dropped before the response: a client went away, a time-out around the layer | none | `cancelled` |
//! | a panic, in the handler or while the body was made | that of the response, if there was one | `panic` |
//! | the service returned an error | none | `timeout`, `connect` or `_OTHER`: see [`ErrorType::of`](semconv::ErrorType::of) |
//!
//! The sizes are those of what went through: bytes of the request that were read, bytes of the response that were handed
//! on. Compression within the layer counts compressed, compression around it does not.
//!
//! # What a client cannot do
//!
//! Nothing that clients choose becomes a series of its own: no path (only templates of routes, and
//! [`UNMATCHED`](semconv::UNMATCHED)), no host, no method that is not known (`_OTHER`).
//!
//! # What it costs
//!
//! Once each of a program's routes has answered, a request costs two looks at the clock, a search by its method and
//! route, and a record in each of three bound histograms. It allocates nothing, save for a counter when the request has
//! a body, and takes no lock of its own. Of endpoints 1,000 are kept in this way, of each 32 ways to end; what is beyond
//! is recorded by its attributes, which is slower, and may count towards the SDK's limit of series.
//!
//! [semantic conventions 1.44.0 for HTTP metrics]: https://github.com/open-telemetry/semantic-conventions/blob/v1.44.0/docs/http/http-metrics.md

mod body;
mod client;
mod exchange;
mod future;
mod instruments;
mod methods;
mod outcome;
pub mod semconv;
mod server;

pub use body::{RequestBody, ResponseBody};
pub use client::{HttpClientLayer, HttpClientService, UrlTemplate};
pub use future::ResponseFuture;
pub use server::{HttpServerLayer, HttpServerService};

use std::sync::Arc;

use barograph::ClassifiedError;
use barograph::opentelemetry::InstrumentationScope;
use barograph::opentelemetry::metrics::{Meter, MeterProvider};

use crate::instruments::Instruments;
use crate::semconv::ErrorType;

/// Measures the requests of HTTP servers. Clones, and the layers that they make, record into the same series.
#[derive(Clone, Debug)]
pub struct HttpServerMetrics {
    instruments: Arc<Instruments>,
}

impl HttpServerMetrics {
    /// Builds the instruments, in the scope [`semconv::SCOPE`]. A series is exported from its first request on.
    #[must_use]
    pub fn new(provider: &dyn MeterProvider) -> Self {
        Self { instruments: Arc::new(Instruments::of_server(&meter(provider))) }
    }

    /// A tower layer that measures every request of a server: see [`HttpServerLayer`].
    ///
    /// Requests, responses and errors pass through unchanged, save for the types of their bodies: the service within gets
    /// a [`RequestBody`], the one around it a [`ResponseBody`]. A service that wants bodies of its own type has them by
    /// `ServiceBuilder::map_request(|request: Request<_>| request.map(Body::new))` between the two.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use http::{Request, Response};
    /// use barograph_instrumentation_http::HttpServerMetrics;
    /// use tower::{ServiceBuilder, ServiceExt};
    ///
    /// # async fn program(metrics: HttpServerMetrics) -> Result<(), Infallible> {
    /// # let service = tower::service_fn(|_: Request<_>| async { Ok::<_, Infallible>(Response::new("{}".to_owned())) });
    /// let service = ServiceBuilder::new().layer(metrics.layer()).service(service);
    /// let response = service.oneshot(Request::new("{}".to_owned())).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn layer<E, Form>(&self) -> HttpServerLayer<fn(&E) -> ErrorType>
    where
        E: ClassifiedError<Form>,
    {
        self.layer_with(|error: &E| error.failure().into())
    }

    /// Like [`layer`](Self::layer), for a service whose errors say more by methods of their own: `classify` tells their
    /// type.
    #[must_use]
    pub fn layer_with<C>(&self, classify: C) -> HttpServerLayer<C> {
        HttpServerLayer::new(Arc::clone(&self.instruments), classify)
    }
}

/// Measures the requests of HTTP clients. Clones, and the layers that they make, record into the same series.
#[derive(Clone, Debug)]
pub struct HttpClientMetrics {
    instruments: Arc<Instruments>,
}

impl HttpClientMetrics {
    /// Builds the instruments, in the scope [`semconv::SCOPE`]. A series is exported from its first request on.
    #[must_use]
    pub fn new(provider: &dyn MeterProvider) -> Self {
        Self { instruments: Arc::new(Instruments::of_client(&meter(provider))) }
    }

    /// A tower layer that measures every request of a client: see [`HttpClientLayer`].
    ///
    /// Requests, responses and errors pass through unchanged, save for the types of their bodies, as around a
    /// [server](HttpServerMetrics::layer).
    ///
    /// ```
    /// use barograph_instrumentation_http::HttpClientMetrics;
    /// use http::Request;
    /// use http_body_util::Empty;
    /// use hyper::body::Bytes;
    /// use hyper_util::client::legacy::Client;
    /// use hyper_util::rt::TokioExecutor;
    /// use tower::{BoxError, ServiceBuilder, ServiceExt};
    ///
    /// # async fn program(metrics: HttpClientMetrics) -> Result<(), BoxError> {
    /// let client = Client::builder(TokioExecutor::new()).build_http();
    /// let client = ServiceBuilder::new().layer(metrics.layer()).service(client);
    /// let request = Request::get("http://localhost:8080/").body(Empty::<Bytes>::new())?;
    /// let response = client.oneshot(request).await?;   // measured until its body has been read
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn layer<E, Form>(&self) -> HttpClientLayer<fn(&E) -> ErrorType>
    where
        E: ClassifiedError<Form>,
    {
        self.layer_with(|error: &E| error.failure().into())
    }

    /// Like [`layer`](Self::layer), for a client whose errors say more by methods of their own: `classify` tells their
    /// type.
    ///
    /// ```
    /// # use http::{Request, Response};
    /// # use barograph_instrumentation_http::HttpClientMetrics;
    /// # use barograph_instrumentation_http::semconv::ErrorType;
    /// # use tower::{Layer, ServiceExt};
    /// # #[derive(Debug)] struct ClientError;
    /// # impl ClientError { fn is_connect(&self) -> bool { true } }
    /// # async fn program(metrics: HttpClientMetrics) -> Result<(), ClientError> {
    /// # let client = tower::service_fn(|_: Request<_>| async { Ok::<_, ClientError>(Response::new("{}".to_owned())) });
    /// let layer = metrics.layer_with(|error: &ClientError| {
    ///     if error.is_connect() { ErrorType::Connect } else { ErrorType::Other }
    /// });
    /// let response = layer.layer(client).oneshot(Request::new("{}".to_owned())).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn layer_with<C>(&self, classify: C) -> HttpClientLayer<C> {
        HttpClientLayer::new(Arc::clone(&self.instruments), classify)
    }
}

fn meter(provider: &dyn MeterProvider) -> Meter {
    let scope = InstrumentationScope::builder(semconv::SCOPE)
        .with_version(env!("CARGO_PKG_VERSION"))
        .with_schema_url(semconv::SCHEMA_URL)
        .build();
    provider.meter_with_scope(scope)
}

/// Compiles the README's programs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
