//! Measures the requests of an HTTP server that is a [`Service`].

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll};

use barograph::Attribute;
use barograph::opentelemetry::KeyValue;
use http::request::Parts;
use http::{Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use crate::body::{RequestBody, ResponseBody};
use crate::exchange::Exchange;
use crate::future::ResponseFuture;
use crate::instruments::{EndpointAttributes, Instruments, Key};
use crate::methods::KnownMethods;
use crate::semconv;
use crate::semconv::{ErrorType, ProtocolVersion, Scheme};

/// Tells the template of the route that a request was matched to.
type Route = dyn for<'a> Fn(&'a Parts) -> Option<&'a str> + Send + Sync;

/// Measures every request of the service it wraps. Made by [`HttpServerMetrics::layer`](crate::HttpServerMetrics::layer).
///
/// A request starts when it is handed to the service, and ends when the body of its response has ended, has failed or is
/// dropped; without a response, when the service returns an error or its future is dropped. A response to HEAD, one of
/// status 1xx, 204 or 304, and a 2xx for CONNECT end with their head: what follows an upgrade is not the request's.
/// Neither is the time until the service is ready.
#[derive(Clone, Debug)]
pub struct HttpServerLayer<C> {
    options: Arc<Options>,
    classify: C,
}

#[derive(Clone)]
struct Options {
    instruments: Arc<Instruments>,
    route: Option<Arc<Route>>,
    scheme: Option<Scheme>,
    methods: KnownMethods,
}

impl<C> HttpServerLayer<C> {
    pub(crate) fn new(instruments: Arc<Instruments>, classify: C) -> Self {
        let options = Options { instruments, route: None, scheme: None, methods: KnownMethods::default() };
        Self { options: Arc::new(options), classify }
    }

    /// Records `http.route`: `route` tells the template of the route that a request was matched to. Where it tells none,
    /// that is [`UNMATCHED`](semconv::UNMATCHED), one value for all paths that lead nowhere.
    ///
    /// It must tell templates only (`/users/{id}`), never what a client sent: each value is a series.
    ///
    /// Defaults to none: a service has no routes, and its series no `http.route`.
    ///
    /// axum tells the template by an extension of the request, which is there within [`Router::layer`] and
    /// [`Router::route_layer`] (the first covers requests that match no route, the second leaves them out), and is not
    /// there around the router:
    ///
    /// ```
    /// use axum::Router;
    /// use axum::extract::MatchedPath;
    /// use axum::routing::get;
    /// use barograph_instrumentation_http::HttpServerMetrics;
    ///
    /// # fn app(metrics: HttpServerMetrics) -> Router {
    /// Router::new().route("/users/{id}", get(async || "a user")).layer(
    ///     metrics
    ///         .layer()
    ///         .with_route(|request| request.extensions.get::<MatchedPath>().map(MatchedPath::as_str)),
    /// )
    /// # }
    /// ```
    ///
    /// [`Router::layer`]: https://docs.rs/axum/latest/axum/struct.Router.html#method.layer
    /// [`Router::route_layer`]: https://docs.rs/axum/latest/axum/struct.Router.html#method.route_layer
    #[must_use]
    pub fn with_route<R>(mut self, route: R) -> Self
    where
        R: for<'a> Fn(&'a Parts) -> Option<&'a str> + Send + Sync + 'static,
    {
        Arc::make_mut(&mut self.options).route = Some(Arc::new(route));
        self
    }

    /// Records this `url.scheme`: that which clients use, where TLS ends before the server.
    ///
    /// Defaults to that of the request's target, which HTTP/2 always has and HTTP/1.1 hardly ever, and to `http`.
    #[must_use]
    pub fn with_scheme(mut self, scheme: Scheme) -> Self {
        Arc::make_mut(&mut self.options).scheme = Some(scheme);
        self
    }

    /// Records these methods under their names, and all others as `_OTHER`.
    ///
    /// Defaults to those of [`Method`](semconv::Method). A server of WebDAV has more: `PROPFIND`, `MKCOL` and others.
    #[must_use]
    pub fn with_known_methods(mut self, methods: &'static [&'static str]) -> Self {
        Arc::make_mut(&mut self.options).methods = KnownMethods::these(methods);
        self
    }
}

impl Options {
    fn start(&self, request: &Parts, request_size: Option<Arc<AtomicU64>>) -> Exchange {
        let method = self.methods.known(&request.method);
        let scheme = self.scheme.unwrap_or_else(|| {
            if request.uri.scheme() == Some(&http::uri::Scheme::HTTPS) { Scheme::Https } else { Scheme::Http }
        });
        let version = ProtocolVersion::of(request.version);
        let route = self.route.as_ref().map(|route| route(request).unwrap_or(semconv::UNMATCHED));
        let number =
            route.is_some() as u32 | (scheme as u32) << 1 | version.map_or(0, |version| version as u32 + 1) << 2;
        let key = Key { method, number, name: route.unwrap_or_default(), template: None };
        let endpoint = self.instruments.endpoint(&key, || {
            let of_active = vec![KeyValue::new(semconv::Method::INFO.key, method), scheme.into()];
            let mut of_histograms = of_active.clone();
            of_histograms.extend(version.map(KeyValue::from));
            of_histograms.extend(route.map(|route| KeyValue::new(semconv::HTTP_ROUTE, route.to_owned())));
            EndpointAttributes { of_active, of_histograms }
        });
        Exchange::start(endpoint, request, request_size)
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("has_route", &self.route.is_some())
            .field("scheme", &self.scheme)
            .field("methods", &self.methods)
            .finish_non_exhaustive()
    }
}

impl<S, C: Clone> Layer<S> for HttpServerLayer<C> {
    type Service = HttpServerService<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        HttpServerService { inner, layer: self.clone() }
    }
}

/// A service whose requests are measured: see [`HttpServerLayer`].
#[derive(Clone, Debug)]
pub struct HttpServerService<S, C> {
    inner: S,
    layer: HttpServerLayer<C>,
}

impl<S, C, B, R> Service<Request<B>> for HttpServerService<S, C>
where
    S: Service<Request<RequestBody<B>>, Response = Response<R>>,
    C: Fn(&S::Error) -> ErrorType + Clone,
    B: http_body::Body,
    R: http_body::Body,
{
    type Response = Response<ResponseBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, C>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (head, body) = request.into_parts();
        let body = RequestBody::new(body);
        let exchange = self.layer.options.start(&head, body.size());
        let response = self.inner.call(Request::from_parts(head, body));
        ResponseFuture::new(response, exchange, self.layer.classify.clone())
    }
}
