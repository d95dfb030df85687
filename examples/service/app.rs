//! The service: a shop with a few routes, each for the sake of something that can be measured.

use std::convert::Infallible;
use std::hint::black_box;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use barograph::opentelemetry::metrics::Meter;
use barograph::{MeterExt, Operation, OperationSpec, operation};
use barograph_instrumentation_tokio::{Tasks, TokioMetrics};
use hyper::body::{Bytes, Frame};
use tokio::time::{Sleep, sleep};
use tower::BoxError;

use crate::stock::Stock;

/// What a panic says that nobody has to repair.
pub(crate) const ON_PURPOSE: &str = "on purpose";

/// Calls, how they end, how long they take and how many are under way, for one function.
const PLACE: OperationSpec = operation!("orders.place", "Places an order.");

/// What all handlers share.
#[derive(Clone)]
pub(crate) struct App {
    stock: Stock,
    orders: Arc<AtomicU64>,
    place: Operation,
    mail: Tasks,
    digest: Tasks,
}

impl App {
    pub(crate) fn new(meter: &Meter, tokio: &TokioMetrics, stock: Stock) -> Self {
        Self {
            stock,
            orders: Arc::default(),
            place: meter.operation(&PLACE),
            mail: tokio.tasks("mail"),
            digest: tokio.tasks("digest"),
        }
    }

    pub(crate) fn router(self) -> Router {
        Router::new()
            .route("/orders", post(place))
            .route("/orders/{id}", get(order))
            .route("/orders/{id}/invoice", get(invoice))
            .route("/export", get(export))
            .route("/panic", get(bug))
            .route("/shop.Orders/Count", post(count))
            .with_state(self)
    }

    /// The supplier's answer decides. What follows from an order is done by tasks of their own.
    async fn place(&self, order: u64) -> Result<(), BoxError> {
        self.stock.reserve(order).await?;
        // Who reads the mail is not waited for, so nobody but a metric tells when a task panics.
        self.mail.spawn(async move {
            sleep(Duration::from_millis(order % 50)).await;
            assert!(!order.is_multiple_of(100), "{ON_PURPOSE}");
        });
        // Computes on a worker, which it should not: see how long a poll of this kind takes.
        self.digest.spawn(async move { compute(Duration::from_micros(order % 100 * 50)) });
        Ok(())
    }
}

async fn place(State(app): State<App>, body: Bytes) -> Response {
    let order = app.orders.fetch_add(1, Ordering::Relaxed);
    match app.place.instrument(app.place(order)).await {
        Ok(()) => (StatusCode::CREATED, body).into_response(),
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}

async fn order(Path(id): Path<u64>) -> Result<String, StatusCode> {
    // As a crate for caches may count them, which knows nothing of OpenTelemetry.
    let result = if id.is_multiple_of(4) { "miss" } else { "hit" };
    metrics::counter!("orders.cache.lookups", "result" => result).increment(1);
    if id.is_multiple_of(10) { Err(StatusCode::NOT_FOUND) } else { Ok(format!("{{\"order\": {id}}}")) }
}

/// Takes its time: about a third of a second, now and then a whole one.
async fn invoice(Path(id): Path<u64>) -> String {
    sleep(Duration::from_millis(if id.is_multiple_of(20) { 1_000 } else { 200 + id % 200 })).await;
    "an invoice ".repeat(200)
}

/// A stream of lines. Every third one breaks off.
async fn export(State(app): State<App>) -> Body {
    let breaks_off = app.orders.load(Ordering::Relaxed).is_multiple_of(3);
    Body::new(Lines { left: 20, breaks_off, next: Box::pin(sleep(Duration::ZERO)) })
}

struct Lines {
    left: u32,
    breaks_off: bool,
    next: Pin<Box<Sleep>>,
}

impl HttpBody for Lines {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        ready!(self.next.as_mut().poll(context));
        self.left = self.left.saturating_sub(1);
        self.next = Box::pin(sleep(Duration::from_millis(10)));
        Poll::Ready(match self.left {
            0 => None,
            10 if self.breaks_off => Some(Err("the database is gone".into())),
            _ => Some(Ok(Frame::data(Bytes::from_static(b"an order, and what it was about\n")))),
        })
    }
}

/// Ends its request, and nothing else.
#[expect(clippy::panic, reason = "what becomes of a request whose handler panics is to be seen")]
async fn bug() -> StatusCode {
    panic!("{ON_PURPOSE}")
}

/// A call of gRPC without a crate for it: an empty message, and how it ended in the trailers.
async fn count(State(app): State<App>) -> Response {
    let status = match app.orders.load(Ordering::Relaxed) % 20 {
        0 => "13",    // INTERNAL, the server's fault
        1..=4 => "5", // NOT_FOUND, the client's
        _ => "0",
    };
    let trailers = HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static(status))]);
    let frames = [Frame::data(Bytes::from_static(&[0; 5])), Frame::trailers(trailers)];
    ([(header::CONTENT_TYPE, "application/grpc")], Body::new(Frames(frames.into_iter()))).into_response()
}

/// A message, and the trailers after it.
struct Frames(std::array::IntoIter<Frame<Bytes>, 2>);

impl HttpBody for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.next().map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.0.len() == 0
    }
}

/// Keeps the CPU busy.
fn compute(time: Duration) {
    let started = Instant::now();
    while started.elapsed() < time {
        black_box(started);
    }
}
