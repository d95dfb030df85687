//! An OTLP/HTTP server inside the test, which keeps what it gets and answers as it is told.
//!
//! ```ignore
//! let sink = Sink::start();
//! sink.script([Answer::status(503).retry_after("1")]);
//! // Something exports to sink.url(), is told to come back, and does.
//! let received = sink.wait_for(2, Duration::from_secs(10));
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;

use crate::process::poll;

// A collection of the tests is some hundred kilobytes; a body that never ends must not fill the machine.
const BODY_LIMIT: usize = 32 << 20;

// More than any test opens, and few enough for a loop gone wild.
const CONNECTIONS: usize = 64;

// Long enough for a client that is busy compiling; then the rest of its request is not coming.
const REQUEST_DEADLINE: Duration = Duration::from_secs(30);

/// What the sink answers to one request.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    status: u16,
    retry_after: Option<String>,
    delay: Duration,
    body: Option<Vec<u8>>,
}

impl Answer {
    pub(crate) fn status(status: u16) -> Self {
        Self { status, retry_after: None, delay: Duration::ZERO, body: None }
    }

    /// Seconds or a date, as it stands in the header.
    pub(crate) fn retry_after(self, value: &str) -> Self {
        Self { retry_after: Some(value.to_owned()), ..self }
    }

    /// Answers that much later. The request is kept at once.
    pub(crate) fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// Defaults to an empty message in the format of the request.
    pub(crate) fn body(self, body: impl Into<Vec<u8>>) -> Self {
        Self { body: Some(body.into()), ..self }
    }
}

/// A request that the sink got.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) path: String,
    /// By name in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    /// The `ExportMetricsServiceRequest` as OTLP/JSON, which a protobuf body is translated to; null if it is neither.
    ///
    /// A collector leaves fields at their default out, the translation writes most of them.
    pub(crate) body: Value,
    pub(crate) at: Instant,
}

impl Received {
    /// Every metric of the request, whatever its resource and scope.
    pub(crate) fn metrics(&self) -> impl Iterator<Item = &Value> {
        elements(&self.body, "resourceMetrics")
            .flat_map(|resource| elements(resource, "scopeMetrics"))
            .flat_map(|scope| elements(scope, "metrics"))
    }
}

fn elements<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value[key].as_array().into_iter().flatten()
}

#[derive(Debug, Default)]
struct State {
    script: VecDeque<Answer>,
    received: Vec<Received>,
}

/// A running sink. It ends when this is dropped.
#[must_use = "the sink ends when this is dropped"]
#[derive(Debug)]
pub(crate) struct Sink {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    runtime: Option<Runtime>,
}

impl Sink {
    /// Starts a sink on a port that the system chooses, in a thread of its own: it works for blocking tests too.
    pub(crate) fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("sink").enable_all().build().unwrap();
        runtime.spawn(serve(listener, Arc::clone(&state)));
        Self { address, state, runtime: Some(runtime) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL to export metrics to.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/v1/metrics", self.address)
    }

    /// Answers the next requests so, one each, after those that were told before. Once all are used up it is 200 again.
    pub(crate) fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        lock(&self.state).script.extend(answers);
    }

    /// Every request until now, in the order of arrival.
    pub(crate) fn received(&self) -> Vec<Received> {
        lock(&self.state).received.clone()
    }

    /// Waits until there are that many requests, and returns them all.
    #[track_caller]
    pub(crate) fn wait_for(&self, requests: usize, deadline: Duration) -> Vec<Received> {
        poll(deadline, Duration::from_millis(10), || {
            let received = self.received();
            let count = received.len();
            if count >= requests { Ok(received) } else { Err(format!("{count} of {requests} requests have come")) }
        })
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // Dropped by itself, a runtime would panic in a test that is asynchronous.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // A test that failed elsewhere still wants to show what was received.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: std::net::TcpListener, state: Arc<Mutex<State>>) {
    let listener = TcpListener::from_std(listener).unwrap();
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        let Ok((stream, _)) = listener.accept().await else { continue };
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, &state));
            let mut connection = http1::Builder::new();
            connection.timer(TokioTimer::new()).header_read_timeout(REQUEST_DEADLINE);
            // A client may leave whenever it likes.
            let _ = connection.serve_connection(TokioIo::new(stream), service).await;
            drop(place);
        });
    }
}

async fn answer(request: Request<Incoming>, state: &Mutex<State>) -> Result<Response<Full<Bytes>>, Infallible> {
    let at = Instant::now();
    let (head, body) = request.into_parts();
    let body = tokio::time::timeout(REQUEST_DEADLINE, Limited::new(body, BODY_LIMIT).collect()).await;
    let Ok(Ok(body)) = body else { return Ok(respond(&Answer::status(408), None)) };
    let text = |value: &header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers: BTreeMap<String, String> =
        head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    let decoded = decoded(&headers, &body.to_bytes());
    let is_readable = decoded.is_some();
    let content_type = headers.get("content-type").cloned();
    let answer = {
        let mut state = lock(state);
        let path = head.uri.path().to_owned();
        state.received.push(Received { path, headers, body: decoded.unwrap_or_default(), at });
        if is_readable { state.script.pop_front().unwrap_or(Answer::status(200)) } else { Answer::status(400) }
    };
    tokio::time::sleep(answer.delay).await;
    Ok(respond(&answer, content_type))
}

fn respond(answer: &Answer, content_type: Option<String>) -> Response<Full<Bytes>> {
    let content_type = content_type.unwrap_or_else(|| "application/json".to_owned());
    let empty = if content_type.starts_with("application/json") { b"{}".to_vec() } else { Vec::new() };
    let mut response = Response::builder().status(answer.status).header(header::CONTENT_TYPE, content_type);
    if let Some(value) = &answer.retry_after {
        response = response.header(header::RETRY_AFTER, value);
    }
    response.body(Full::from(answer.body.clone().unwrap_or(empty))).unwrap()
}

/// The body as JSON, if its headers and itself are those of OTLP.
fn decoded(headers: &BTreeMap<String, String>, body: &[u8]) -> Option<Value> {
    let mut plain = Vec::new();
    match headers.get("content-encoding").map(String::as_str) {
        None | Some("identity") => plain.extend_from_slice(body),
        Some("gzip") => {
            GzDecoder::new(body).take(BODY_LIMIT as u64).read_to_end(&mut plain).ok()?;
        }
        Some(_) => return None,
    }
    match headers.get("content-type").map(String::as_str) {
        Some("application/json") => serde_json::from_slice(&plain).ok(),
        Some("application/x-protobuf") => {
            serde_json::to_value(ExportMetricsServiceRequest::decode(plain.as_slice()).ok()?).ok()
        }
        _ => None,
    }
}
