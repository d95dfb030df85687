//! Requests and answers, without a socket.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{
    ACCEPT, ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, VARY,
};
use http::{HeaderMap, Method, Request, Response, StatusCode};

use crate::error::ScrapeError;
use crate::exporter::Asked;
use crate::exposition::negotiate;
use crate::guard::GuardedMeterProvider;
use crate::self_metrics::ScrapeMetrics;

use super::body::ScrapeBody;
use super::compression::Compression;
use super::debug::{self, DebugPage};
use super::gather::{self, Gatherer};
use super::landing;
use super::live::{self, Live};
use super::readiness::Readiness;

/// More than anybody asks for in earnest, and what other servers stop at too.
const MAX_QUERY_BYTES: usize = 8 * 1024;

/// The endpoint as a tower service, to mount in a router of your own.
///
/// Made by [`Telemetry::scrape_service`](crate::Telemetry::scrape_service). It answers at the pipeline's path
/// (`/metrics` unless told otherwise), at `/livez`, at `/readyz` and at `/`, to `GET` and `HEAD`; everything else is 404
/// or 405. Collecting and encoding run on Barograph's own threads, so the worker that polls the answer is never blocked.
///
/// `Accept` chooses the format: Prometheus text 0.0.4 (the default) and 1.0.0, OpenMetrics, protobuf, with names escaped
/// as `escaping=` asks. `Accept-Encoding` compresses: with gzip, with zstd too if the feature `zstd` is on, and nothing that
/// fits into one packet of the network unless `identity` is refused. `?name[]=a&name[]=b` shows these families only, by their
/// names or by those of their series.
///
/// Where [`with_debug_page`](crate::TelemetryBuilder::with_debug_page) asks for it, `/debug/metrics` says as JSON why each
/// metric is called what it is called and why one is missing; `?name=` chooses.
///
/// To a browser on this machine `/` is the live page, which asks `/live` for what is recorded as long as it is open; to
/// everybody else, and wherever this service is mounted, it is a plain page, unless
/// [`with_live_page`](crate::TelemetryBuilder::with_live_page) says otherwise.
///
/// A scrape ends in time on any runtime: half a second before the scraper gives up, which it says in
/// `X-Prometheus-Scrape-Timeout-Seconds`, or after 9.5 s. A callback of an observable that is still running then is named
/// in the answer, a 503, and costs later scrapes its own series only.
///
/// In axum it is `Router::route_service` at the path itself or `Router::nest_service` below another one; in hyper,
/// `hyper_util::service::TowerToHyperService` makes it one of hyper's services.
#[derive(Clone, Debug)]
pub struct ScrapeService {
    endpoint: Arc<Endpoint>,
}

/// A header: how long the scraper waits for this answer, in seconds.
const SCRAPE_TIMEOUT: &str = "x-prometheus-scrape-timeout-seconds";

/// Longer than anybody's scrape takes in earnest: no stranger decides for how long a callback may hold up others.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(120);

/// Shorter than anybody's scrape is in earnest: nor does a stranger have callbacks called late that are not.
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(100);

/// How long a scrape may take until there is something of its page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScrapeTimeouts {
    /// For scrapers that do not say how long they wait.
    pub(crate) default: Duration,
    /// What is left of a scraper's own timeout for the answer to travel.
    pub(crate) offset: Duration,
}

impl ScrapeTimeouts {
    /// How long the scrape may take whose scraper says that it waits for so long.
    fn of(&self, header: Option<&str>) -> Duration {
        let seconds = header.and_then(|value| value.parse().ok());
        let timeout = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        timeout.filter(|timeout| !timeout.is_zero()).map_or(self.default, |timeout| {
            timeout.saturating_sub(self.offset).max(timeout / 2).clamp(SHORTEST_TIMEOUT, LONGEST_TIMEOUT)
        })
    }
}

/// What every clone of the service shares.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) service_name: String,
    /// Where the metrics are: the landing page and the health checks stand beside it.
    pub(crate) path: String,
    pub(crate) gatherer: Gatherer,
    pub(crate) timeouts: ScrapeTimeouts,
    pub(crate) provider: GuardedMeterProvider,
    /// The page that explains the metrics, where it is wanted.
    pub(crate) debug: Option<DebugPage>,
    /// The live page, unless it is switched off.
    pub(crate) live: Option<Arc<Live>>,
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) metrics: Arc<ScrapeMetrics>,
}

impl Endpoint {
    fn ready(&self) -> Response<ScrapeBody> {
        if self.gatherer.is_shut_down() {
            return failure(&ScrapeError::ShutDown);
        }
        let unready = |text| plain(StatusCode::SERVICE_UNAVAILABLE, text);
        match self.readiness.awaited().as_slice() {
            _ if self.readiness.is_ending() => unready("shutting down\n".to_owned()),
            [] => plain(StatusCode::OK, "ok\n".to_owned()),
            awaited => unready(format!("waiting for {}\n", awaited.join(", "))),
        }
    }
}

impl ScrapeService {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint: Arc::new(endpoint) }
    }

    pub(crate) fn gatherer(&self) -> &Gatherer {
        &self.endpoint.gatherer
    }

    pub(super) fn path(&self) -> &str {
        &self.endpoint.path
    }

    /// How long a scrape takes at most where nobody says.
    pub(crate) fn default_timeout(&self) -> Duration {
        self.endpoint.timeouts.default
    }

    pub(super) async fn respond(&self, asked: Asking) -> Response<ScrapeBody> {
        let is_metrics = asked.path == self.endpoint.path;
        let mut response = self.answer(&asked, is_metrics).await;
        if is_metrics {
            // Whatever the answer is: a cache decides by the first that it sees.
            response.headers_mut().insert(VARY, HeaderValue::from_static("accept, accept-encoding"));
        }
        response
    }

    async fn answer(&self, asked: &Asking, is_metrics: bool) -> Response<ScrapeBody> {
        let endpoint = &*self.endpoint;
        let path = asked.path.as_str();
        let is_debug = endpoint.debug.is_some() && path == debug::PATH;
        let live = endpoint.live.as_ref();
        let polled = live.filter(|_| path == live::PATH);
        if !is_metrics && !is_debug && polled.is_none() && !matches!(path, "/" | "/livez" | "/readyz") {
            return plain(StatusCode::NOT_FOUND, format!("not found, the metrics are at {}\n", endpoint.path));
        }
        if asked.method != Method::GET && asked.method != Method::HEAD {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are allowed\n".to_owned());
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        let shown = live.filter(|live| live.is_for(asked.is_at_home));
        if is_metrics || is_debug || polled.is_some() {
            return match (asked.query.len(), polled) {
                (0..=MAX_QUERY_BYTES, _) if is_metrics => self.metrics(asked).await,
                (0..=MAX_QUERY_BYTES, None) => self.debug(asked).await,
                (0..=MAX_QUERY_BYTES, Some(live)) if shown.is_some() => self.live(live, asked).await,
                (_, Some(_)) if shown.is_none() => plain(StatusCode::FORBIDDEN, format!("{}\n", landing::HIDDEN)),
                _ => plain(StatusCode::BAD_REQUEST, format!("the query is longer than {MAX_QUERY_BYTES} bytes\n")),
            };
        }
        match path {
            "/livez" => plain(StatusCode::OK, "ok\n".to_owned()),
            "/readyz" => endpoint.ready(),
            _ if let Some(live) = shown => live.page(asked.compression()).await,
            _ => {
                let problems = endpoint.provider.catalogue().problems();
                let debug_path = endpoint.debug.is_some().then_some(debug::PATH);
                let page = landing::page(&endpoint.service_name, &endpoint.path, debug_path, live.is_some(), &problems);
                response(StatusCode::OK, "text/html; charset=utf-8", ScrapeBody::whole(page))
            }
        }
    }

    async fn debug(&self, asked: &Asking) -> Response<ScrapeBody> {
        let names = form_urlencoded::parse(asked.query.as_bytes())
            .filter(|(key, _)| key == "name[]" || key == "name")
            .map(|(_, name)| name.into_owned())
            .collect();
        match DebugPage::page(Arc::clone(&self.endpoint), names).await {
            Ok(page) => response(StatusCode::OK, "application/json", ScrapeBody::whole(page)),
            Err(error) => failure(&error),
        }
    }

    async fn live(&self, live: &Arc<Live>, asked: &Asking) -> Response<ScrapeBody> {
        let (wanted, timeout) = (live.poll(&self.endpoint, &asked.query), self.endpoint.timeouts.default);
        let request = gather::Request { wanted, compression: asked.compression(), timeout };
        let mut response = match self.endpoint.gatherer.page(request).await {
            Ok(page) => streamed("application/json", page),
            Err(error) => failure(&error),
        };
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    async fn metrics(&self, asked: &Asking) -> Response<ScrapeBody> {
        let format = negotiate(asked.accept.as_deref());
        let names = form_urlencoded::parse(asked.query.as_bytes())
            .filter(|(key, _)| key == "name[]")
            .map(|(_, name)| name.into_owned())
            .collect();
        let timeout = self.endpoint.timeouts.of(asked.timeout.as_deref());
        let wanted = Box::new(Asked { format, names });
        let request = gather::Request { wanted, compression: asked.compression(), timeout };
        let mut scrape = self.endpoint.metrics.begin();
        match self.endpoint.gatherer.page(request).await {
            Ok(page) => {
                scrape.status(StatusCode::OK.as_u16());
                if asked.method == Method::HEAD {
                    // Nobody takes its body.
                    scrape.ended(None);
                }
                streamed(&format.content_type(), page.counted(scrape))
            }
            Err(error) => {
                let response = failure(&error);
                scrape.status(response.status().as_u16());
                scrape.ended(Some(error.kind()));
                response
            }
        }
    }
}

/// What an answer depends on.
pub(super) struct Asking {
    method: Method,
    path: String,
    query: String,
    accept: Option<String>,
    accept_encoding: Option<String>,
    timeout: Option<String>,
    /// Whether it is known to come from a browser on this machine that was not led astray.
    is_at_home: bool,
}

impl Asking {
    pub(super) fn of<B>(request: &Request<B>, is_at_home: bool) -> Self {
        Self {
            is_at_home,
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            query: request.uri().query().unwrap_or_default().to_owned(),
            accept: joined(request.headers(), &ACCEPT),
            accept_encoding: joined(request.headers(), &ACCEPT_ENCODING),
            timeout: request.headers().get(SCRAPE_TIMEOUT).and_then(|value| value.to_str().ok()).map(str::to_owned),
        }
    }

    fn compression(&self) -> Compression {
        Compression::negotiate(self.accept_encoding.as_deref().unwrap_or_default())
    }
}

/// A header that may come several times. What is no text is as good as not there.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let values: Vec<&str> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    (!values.is_empty()).then(|| values.join(", "))
}

/// The answer to a scrape that failed: never an empty page, which Prometheus would take for a healthy one.
pub(super) fn failure(error: &ScrapeError) -> Response<ScrapeBody> {
    let status = match error {
        ScrapeError::ShutDown | ScrapeError::Busy { .. } | ScrapeError::TimedOut { .. } => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        ScrapeError::NotServed => StatusCode::NOT_FOUND,
        ScrapeError::Collect { .. } => StatusCode::INTERNAL_SERVER_ERROR,
    };
    plain(status, format!("{error}\n"))
}

pub(super) fn plain(status: StatusCode, text: String) -> Response<ScrapeBody> {
    response(status, "text/plain; charset=utf-8", ScrapeBody::whole(text))
}

/// A page that may be compressed.
pub(super) fn streamed(content_type: &str, page: ScrapeBody) -> Response<ScrapeBody> {
    let coding = page.coding();
    let mut response = response(StatusCode::OK, content_type, page);
    if let Some(coding) = coding {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    }
    response
}

fn response(status: StatusCode, content_type: &str, body: ScrapeBody) -> Response<ScrapeBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    // Content types are made of constants.
    let content_type = HeaderValue::from_str(content_type).unwrap_or(HeaderValue::from_static("text/plain"));
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

impl<B> tower_service::Service<Request<B>> for ScrapeService {
    type Response = Response<ScrapeBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (service, asking) = (self.clone(), Asking::of(&request, false));
        Box::pin(async move { Ok(service.respond(asking).await) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_ends_before_its_scraper_gives_up() {
        let timeouts = ScrapeTimeouts { default: Duration::from_millis(9_500), offset: Duration::from_millis(500) };
        let timeout = |header| timeouts.of(Some(header));
        assert_eq!(timeout("10"), Duration::from_millis(9_500));
        assert_eq!(timeout("0.4"), Duration::from_millis(200));
        assert_eq!(timeout("1e18"), LONGEST_TIMEOUT);
        for short in ["0.001", "1e-9"] {
            assert_eq!(timeout(short), SHORTEST_TIMEOUT, "{short}");
        }
        for nonsense in ["", "soon", "-1", "NaN", "inf", "0", "1e999"] {
            assert_eq!(timeout(nonsense), Duration::from_millis(9_500), "{nonsense}");
        }
    }
}
