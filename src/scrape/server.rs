//! The listening socket, on a thread and a reactor of its own.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulConnection, GracefulShutdown};
use tokio::net::TcpStream;
use tokio::sync::{OwnedRwLockReadGuard, RwLock, Semaphore, oneshot};
use tokio::time;
use tokio_io_timeout::TimeoutStream;

use crate::error::ScrapeError;
use crate::runtime;

use super::body::ScrapeBody;
use super::service::{Asking, ScrapeService, failure};

/// Connections open at once. A Prometheus holds one; the rest is room for people and for a second Prometheus, and a
/// bound on what strangers can hold.
const MAX_CONNECTIONS: usize = 256;

/// How long a connection may take to send a request's head, and may stand idle between requests: longer than any usual
/// scrape interval, so that a Prometheus keeps its connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(120);

/// How long a scraper may not take a single byte of its answer. One that reads slowly is served; one that does not read
/// gives its place to others.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// More than any scraper sends, cookies and all.
const MAX_HEAD_BYTES: usize = 32 * 1024;

/// Prometheus gives up after 10 s by default; a scrape that it did not limit itself ends before that.
const SCRAPE_TIMEOUT: Duration = Duration::from_millis(9_500);

/// What is left of the scraper's own timeout for the answer to travel.
const TIMEOUT_OFFSET: Duration = Duration::from_millis(500);

/// A server that listens. Dropped, it closes its connections and its socket at once.
#[derive(Debug)]
pub(crate) struct Server {
    local_addr: SocketAddr,
    stop: Option<oneshot::Sender<Duration>>,
    // Behind a lock only so that the pipeline can be shared between threads.
    stopped: Mutex<mpsc::Receiver<bool>>,
}

impl Server {
    /// Serves on a socket that is bound already.
    pub(crate) fn start(listener: TcpListener, service: ScrapeService) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let local_addr = listener.local_addr()?;
        let (stop, stopping) = oneshot::channel();
        let (done, stopped) = mpsc::channel();
        runtime::spawn_async("barograph-scrape", move || async move {
            let listener = match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => listener,
                Err(error) => {
                    tracing::error!(%error, "the scrape endpoint could not be served");
                    return;
                }
            };
            let connections = GracefulShutdown::new();
            let answers = Arc::new(RwLock::new(()));
            let deadline = tokio::select! {
                // A server that is dropped rather than stopped has no time left for anybody.
                deadline = stopping => deadline.unwrap_or(Duration::ZERO),
                never = accept(&listener, &service, &connections, &answers) => match never {},
            };
            drop(listener);
            let drained = async {
                tokio::select! {
                    () = connections.shutdown() => {}
                    () = answered(&answers) => {}
                }
            };
            let _ = done.send(time::timeout(deadline, drained).await.is_ok());
        })?;
        Ok(Self { local_addr, stop: Some(stop), stopped: Mutex::new(stopped) })
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Stops accepting, lets the answers under way end, and returns whether they did within `deadline`.
    pub(crate) fn stop(mut self, deadline: Duration) -> bool {
        self.end(deadline)
    }

    fn end(&mut self, deadline: Duration) -> bool {
        let Some(stop) = self.stop.take() else {
            return true;
        };
        // The thread is gone already if the socket could not be served.
        if stop.send(deadline).is_err() {
            return true;
        }
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        stopped.recv_timeout(deadline.saturating_add(CLOSING)).unwrap_or(false)
    }
}

/// What the thread may need to wake up and close its sockets once the deadline has passed.
const CLOSING: Duration = Duration::from_millis(250);

impl Drop for Server {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}

async fn accept(
    listener: &tokio::net::TcpListener,
    service: &ScrapeService,
    connections: &GracefulShutdown,
    answers: &Arc<RwLock<()>>,
) -> Infallible {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // An error would mean that the semaphore is closed, which nobody does; without a place the connection is one
        // more than the limit, and no worse.
        let place = Arc::clone(&places).acquire_owned().await.ok();
        match listener.accept().await {
            Ok((stream, _)) => {
                let connection = connections.watch(connection(stream, service.clone(), Arc::clone(answers)));
                tokio::spawn(async move {
                    // A scraper that goes away mid-answer is its own business.
                    let _ = connection.await;
                    drop(place);
                });
            }
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                // Out of descriptors or memory: trying again at once would only burn a core.
                tracing::warn!(%error, "the scrape endpoint cannot accept connections, trying again in a second");
                time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Ready when every answer has left. A connection that is only half way through its request holds nobody up.
async fn answered(answers: &RwLock<()>) {
    drop(answers.write().await);
    time::sleep(FLUSH).await;
}

/// What the few bytes that are copied rather than held need to leave.
const FLUSH: Duration = Duration::from_millis(50);

/// `answers` is held for reading by every answer until the last of its bytes has been written.
fn connection(stream: TcpStream, service: ScrapeService, answers: Arc<RwLock<()>>) -> impl GracefulConnection {
    let service = service_fn(move |request| {
        let (service, answers) = (service.clone(), Arc::clone(&answers));
        async move {
            let answering = answers.read_owned().await;
            let answer = answer(service, request).await;
            Ok::<_, Infallible>(answer.map(|body| Held { body, answering: Arc::new(answering) }))
        }
    });
    // Only writes have a deadline of their own here: reads have hyper's.
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(Box::pin(stream)), service)
}

/// A body that keeps the server from ending until the last of its bytes is written, or the connection is gone.
struct Held {
    body: ScrapeBody,
    answering: Arc<OwnedRwLockReadGuard<()>>,
}

impl Body for Held {
    type Data = Bytes;
    type Error = ScrapeError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ScrapeError>>> {
        struct Chunk(Bytes, #[expect(dead_code, reason = "held, not looked at")] Arc<OwnedRwLockReadGuard<()>>);

        impl AsRef<[u8]> for Chunk {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let hold = |chunk| Bytes::from_owner(Chunk(chunk, Arc::clone(&self.answering)));
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(hold))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

async fn answer(service: ScrapeService, request: Request<Incoming>) -> Response<ScrapeBody> {
    let after = scrape_timeout(&request);
    let answer = service.respond(Asking::of(&request));
    time::timeout(after, answer).await.unwrap_or_else(|_| failure(&ScrapeError::TimedOut { after }))
}

/// How long the scraper waits for this answer, less what the answer needs to travel.
fn scrape_timeout<B>(request: &Request<B>) -> Duration {
    request
        .headers()
        .get("x-prometheus-scrape-timeout-seconds")
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|timeout| !timeout.is_zero())
        .map_or(SCRAPE_TIMEOUT, |timeout| timeout.saturating_sub(TIMEOUT_OFFSET).max(timeout / 2))
}

fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeout(header: &str) -> Duration {
        scrape_timeout(&Request::builder().header("X-Prometheus-Scrape-Timeout-Seconds", header).body(()).unwrap())
    }

    #[test]
    fn a_scrape_ends_before_its_scraper_gives_up() {
        assert_eq!(timeout("10"), Duration::from_millis(9_500));
        assert_eq!(timeout("0.4"), Duration::from_millis(200));
        for nonsense in ["", "soon", "-1", "NaN", "inf", "0", "1e999"] {
            assert_eq!(timeout(nonsense), SCRAPE_TIMEOUT, "{nonsense}");
        }
    }
}
