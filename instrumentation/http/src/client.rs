//! Measures the requests of an HTTP client that is a [`Service`].

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll};

use barograph::Attribute;
use barograph::opentelemetry::KeyValue;
use http::request::Parts;
use http::{Request, Response, Version, header};
use tower_layer::Layer;
use tower_service::Service;

use crate::body::{RequestBody, ResponseBody};
use crate::exchange::Exchange;
use crate::future::ResponseFuture;
use crate::instruments::{EndpointAttributes, Instruments, Key};
use crate::methods::KnownMethods;
use crate::semconv;
use crate::semconv::ErrorType;

/// The template of a request's URL, such as `/users/{id}`, as an extension of that request: its series have it as
/// `url.template`. It is written in the program, so that what users send cannot become one.
///
/// ```
/// use barograph_instrumentation_http::UrlTemplate;
/// use http::Request;
///
/// let request = Request::get("http://localhost/users/17").extension(UrlTemplate("/users/{id}")).body(());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UrlTemplate(pub &'static str);

/// Measures every request that goes through the client it wraps. Made by
/// [`HttpClientMetrics::layer`](crate::HttpClientMetrics::layer).
///
/// A request starts when it is handed to the client, and ends when the body of its response has ended, has failed or is
/// dropped; without a response, when the client returns an error or its future is dropped. So a response whose body
/// nobody reads to its end was `cancelled`. A response to HEAD, one of status 1xx, 204 or 304, and a 2xx for CONNECT end
/// with their head.
#[derive(Clone, Debug)]
pub struct HttpClientLayer<C> {
    options: Arc<Options>,
    classify: C,
}

#[derive(Clone, Debug)]
struct Options {
    instruments: Arc<Instruments>,
    server: Option<(String, u16)>,
    methods: KnownMethods,
}

impl<C> HttpClientLayer<C> {
    pub(crate) fn new(instruments: Arc<Instruments>, classify: C) -> Self {
        let options = Options { instruments, server: None, methods: KnownMethods::default() };
        Self { options: Arc::new(options), classify }
    }

    /// Records this `server.address` and `server.port` for every request.
    ///
    /// Defaults to what each request says: its `Host`, which decides in HTTP/1.1, or the authority of its URL, with the
    /// port that its scheme implies. Say it where requests do not, as around a channel of tonic, and where anybody may
    /// choose the host, as each is a series.
    #[must_use]
    pub fn with_server(mut self, address: impl Into<String>, port: u16) -> Self {
        Arc::make_mut(&mut self.options).server = Some((address.into(), port));
        self
    }

    /// Records these methods under their names, and all others as `_OTHER`.
    ///
    /// Defaults to those of [`Method`](semconv::Method).
    #[must_use]
    pub fn with_known_methods(mut self, methods: &'static [&'static str]) -> Self {
        Arc::make_mut(&mut self.options).methods = KnownMethods::these(methods);
        self
    }
}

impl Options {
    fn start(&self, request: &Parts, request_size: Option<Arc<AtomicU64>>) -> Exchange {
        let method = self.methods.known(&request.method);
        let (address, port) = match &self.server {
            Some((address, port)) => (address.as_str(), Some(*port)),
            None => server(request),
        };
        let template = request.extensions.get::<UrlTemplate>().map(|template| template.0);
        let key = Key { method, number: port.map_or(0, |port| u32::from(port) + 1), name: address, template };
        let endpoint = self.instruments.endpoint(&key, || {
            let mut attributes = vec![KeyValue::new(semconv::Method::INFO.key, method)];
            if !address.is_empty() {
                attributes.push(KeyValue::new(semconv::SERVER_ADDRESS, address.to_owned()));
            }
            attributes.extend(port.map(|port| KeyValue::new(semconv::SERVER_PORT, i64::from(port))));
            attributes.extend(template.map(|template| KeyValue::new(semconv::URL_TEMPLATE, template)));
            EndpointAttributes { of_active: attributes.clone(), of_histograms: attributes }
        });
        Exchange::start(endpoint, request, request_size)
    }
}

/// The host and the port that a request names; an empty host if it names none.
fn server(request: &Parts) -> (&str, Option<u16>) {
    let uri = &request.uri;
    let host = || request.headers.get(header::HOST).and_then(|host| split(host.to_str().ok()?));
    let authority = || uri.host().map(|host| (host, uri.port_u16()));
    let named = if request.version < Version::HTTP_2 { host().or_else(authority) } else { authority().or_else(host) };
    let (host, port) = named.unwrap_or_default();
    let port = port.or(match uri.scheme_str() {
        Some("http" | "ws") => Some(80),
        Some("https" | "wss") => Some(443),
        _ => None,
    });
    (host.trim_start_matches('[').trim_end_matches(']'), port)
}

/// The parts of `example.com:8080`, `example.com` or `[::1]:8080`.
fn split(host: &str) -> Option<(&str, Option<u16>)> {
    let port = host.rfind(':').filter(|colon| !host[*colon..].contains(']'));
    let Some(colon) = port else { return Some((host, None)) };
    Some((&host[..colon], host[colon + 1..].parse().ok()))
}

impl<S, C: Clone> Layer<S> for HttpClientLayer<C> {
    type Service = HttpClientService<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        HttpClientService { inner, layer: self.clone() }
    }
}

/// A client whose requests are measured: see [`HttpClientLayer`].
#[derive(Clone, Debug)]
pub struct HttpClientService<S, C> {
    inner: S,
    layer: HttpClientLayer<C>,
}

impl<S, C, B, R> Service<Request<B>> for HttpClientService<S, C>
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
