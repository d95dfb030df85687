//! The listening sockets, on a thread and a reactor of their own, and what is asked of everybody who connects.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, FORWARDED, HOST, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, Request, Response, StatusCode, Version};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedRwLockReadGuard, RwLock, oneshot};
use tokio::time;

use crate::config::EndpointLimits;
use crate::error::ScrapeError;
use crate::runtime;
use crate::self_metrics::{Refused, ScrapeMetrics};

use super::body::ScrapeBody;
use super::connection::{Answering, Connections, Place, Watched};
use super::listener::{Bound, SocketFile};
use super::rate_limit::RateLimiter;
use super::service::{Asking, ScrapeService, plain};
use super::web_config::{Unauthorized, WebConfig};

/// Streams of one HTTP/2 connection at once. A scraper uses one at a time.
#[cfg(feature = "web-config")]
const MAX_STREAMS: u32 = 32;

/// Streams that the peer has given up before they were looked at, and those that we had to: more of them end the connection
/// ("rapid reset"). Who means it gives up one or two.
#[cfg(feature = "web-config")]
const MAX_RESETS: usize = 20;

/// Bytes of one stream that wait for the peer to take them: two chunks.
#[cfg(feature = "web-config")]
const MAX_UNSENT: usize = 2 * crate::exposition::CHUNK;

/// What hyper needs at least for a head.
const MIN_HEAD_BYTES: usize = 8 * 1024;

/// After how long it is tried again to accept where descriptors or memory are short.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// How often it is logged that they are.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// What is served, and to whom.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) service: ScrapeService,
    pub(crate) limits: EndpointLimits,
    /// The names by which the endpoint was told to listen.
    pub(crate) hosts: Vec<String>,
    pub(crate) web_config: Option<WebConfig>,
    pub(crate) metrics: Arc<ScrapeMetrics>,
}

/// A server that listens. Dropped, it closes its connections and its sockets at once.
#[derive(Debug)]
pub(crate) struct Server {
    local_addrs: Vec<SocketAddr>,
    urls: Vec<String>,
    stop: Option<oneshot::Sender<Duration>>,
    // Behind a lock only so that the pipeline can be shared between threads.
    stopped: Mutex<mpsc::Receiver<bool>>,
}

impl Server {
    /// Serves on sockets that are bound already.
    pub(crate) fn start(listeners: Vec<Bound>, offer: Offer) -> io::Result<Self> {
        let local_addrs: Vec<_> = listeners.iter().filter_map(Bound::tcp_addr).collect();
        let urls = local_addrs.iter().map(|address| offer.url(*address)).collect();
        offer.warn_of_strangers(&local_addrs);
        let (stop, stopping) = oneshot::channel();
        let (done, stopped) = mpsc::channel();
        let (opened, are_open) = mpsc::channel();
        runtime::spawn_async("barograph-scrape", move || async move {
            let listeners: io::Result<Vec<_>> = listeners.into_iter().map(Listening::open).collect();
            let listeners = match listeners {
                Ok(listeners) => listeners,
                Err(error) => {
                    let _ = opened.send(Err(error));
                    return;
                }
            };
            let _ = opened.send(Ok(()));
            let door = Arc::new(Door::new(offer));
            let watchers = GracefulShutdown::new();
            let accepting = listeners.iter().map(|listener| accept(listener, &door, &watchers));
            let deadline = tokio::select! {
                // A server that is dropped rather than stopped has no time left for anybody.
                deadline = stopping => deadline.unwrap_or(Duration::ZERO),
                _ = all(accepting.map(Box::pin).collect()) => Duration::ZERO,
            };
            drop(listeners);
            let drained = async {
                tokio::select! {
                    () = watchers.shutdown() => {}
                    () = answered(&door.answers) => {}
                }
            };
            let _ = done.send(time::timeout(deadline, drained).await.is_ok());
        })?;
        are_open.recv().unwrap_or_else(|_| Err(io::Error::other("the thread ended before it served")))?;
        Ok(Self { local_addrs, urls, stop: Some(stop), stopped: Mutex::new(stopped) })
    }

    pub(crate) fn local_addrs(&self) -> &[SocketAddr] {
        &self.local_addrs
    }

    pub(crate) fn urls(&self) -> &[String] {
        &self.urls
    }

    /// Stops accepting, lets the answers under way end, and returns whether they did within `deadline`.
    pub(crate) fn stop(mut self, deadline: Duration) -> bool {
        self.end(deadline)
    }

    fn end(&mut self, deadline: Duration) -> bool {
        let Some(stop) = self.stop.take() else {
            return true;
        };
        // The thread is gone already if a socket could not be served.
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

impl Offer {
    /// Where a client on this machine finds the metrics of an endpoint that listens here.
    fn url(&self, mut address: SocketAddr) -> String {
        let scheme = if self.web_config.as_ref().is_some_and(WebConfig::is_tls) { "https" } else { "http" };
        if address.ip().is_unspecified() {
            address.set_ip(match address.ip() {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        format!("{scheme}://{address}{}", self.service.path())
    }

    /// Whoever opens an endpoint to others without asking who they are should know what else there is.
    fn warn_of_strangers(&self, addresses: &[SocketAddr]) {
        let is_open = self.web_config.as_ref().is_none_or(|config| !config.authenticates());
        if let Some(address) = addresses.iter().find(|address| is_open && !address.ip().to_canonical().is_loopback()) {
            tracing::warn!(
                "the scrape endpoint at {address} answers whoever reaches it: a web configuration file asks for a password, a token or a client certificate (`with_web_config`, feature `web-config`), `with_address` has it listen on loopback"
            );
        }
    }
}

/// A socket inside the reactor.
enum Listening {
    Tcp(tokio::net::TcpListener, SocketAddr),
    #[cfg(unix)]
    Unix(tokio::net::UnixListener, #[expect(dead_code, reason = "the file goes with it")] Option<SocketFile>),
}

impl Listening {
    fn open(bound: Bound) -> io::Result<Self> {
        match bound {
            Bound::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                let address = listener.local_addr()?;
                Ok(Self::Tcp(tokio::net::TcpListener::from_std(listener)?, address))
            }
            #[cfg(unix)]
            Bound::Unix(listener, file) => {
                listener.set_nonblocking(true)?;
                Ok(Self::Unix(tokio::net::UnixListener::from_std(listener)?, file))
            }
        }
    }

    /// Whether only programs of this machine can connect, a browser among them, which can be made to.
    fn is_loopback(&self) -> bool {
        matches!(self, Self::Tcp(_, address) if address.ip().to_canonical().is_loopback())
    }
}

/// Polls all of them; ready when one is, which none of them ever is.
async fn all<F: Future + Unpin>(mut futures: Vec<F>) -> F::Output {
    std::future::poll_fn(|context| {
        for future in &mut futures {
            if let Poll::Ready(output) = Pin::new(future).poll(context) {
                return Poll::Ready(output);
            }
        }
        Poll::Pending
    })
    .await
}

async fn accept(listener: &Listening, door: &Arc<Door>, watchers: &GracefulShutdown) -> Infallible {
    let mut logged: Option<Instant> = None;
    loop {
        let accepted = match listener {
            Listening::Tcp(listener, _) => listener.accept().await.map(|(stream, peer)| {
                // What is left of an answer leaves at once; hyper puts small parts together by itself.
                let _ = stream.set_nodelay(true);
                (Stream::Tcp(stream), peer.ip().to_canonical().is_loopback())
            }),
            #[cfg(unix)]
            Listening::Unix(listener, _) => listener.accept().await.map(|(stream, _)| (Stream::Unix(stream), true)),
        };
        match accepted {
            Ok((stream, is_local)) => {
                let place = door.connections.place(&door.offer.limits).await;
                let (door, watcher) = (Arc::clone(door), watchers.watcher());
                let origin = Origin { is_loopback: listener.is_loopback(), is_local };
                tokio::spawn(async move {
                    match stream {
                        Stream::Tcp(stream) => door.serve(stream, place, watcher, origin).await,
                        #[cfg(unix)]
                        Stream::Unix(stream) => door.serve(stream, place, watcher, origin).await,
                    }
                });
            }
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                // Out of descriptors or memory. Ours are the first to be given back: the program has better uses for them.
                door.connections.make_room(&door.offer.limits);
                door.offer.metrics.refused(Refused::Exhausted);
                if logged.is_none_or(|logged| logged.elapsed() >= LOG_INTERVAL) {
                    logged = Some(Instant::now());
                    tracing::warn!(%error, "the scrape endpoint cannot accept a connection, and goes on trying: raise the limit of open files, or find what keeps them open");
                }
                time::sleep(EXHAUSTED).await;
            }
        }
    }
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug)]
struct Origin {
    /// Whether it comes without TLS to a socket that only programs of this machine can connect to, a browser among them,
    /// which can be made to.
    is_loopback: bool,
    /// Whether it comes from a program of this machine, wherever the socket listens.
    is_local: bool,
}

enum Stream {
    Tcp(tokio::net::TcpStream),
    #[cfg(unix)]
    Unix(tokio::net::UnixStream),
}

fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset
    )
}

/// Ready when every answer has left. A connection that is only half way through its request holds nobody up.
async fn answered(answers: &RwLock<()>) {
    drop(answers.write().await);
    time::sleep(FLUSH).await;
}

/// What the few bytes that are copied rather than held need to leave.
const FLUSH: Duration = Duration::from_millis(50);

/// What every connection has to pass.
struct Door {
    offer: Offer,
    rate: Option<RateLimiter>,
    connections: Arc<Connections>,
    /// Held for reading by every answer until the last of its bytes has been written.
    answers: Arc<RwLock<()>>,
}

impl Door {
    fn new(offer: Offer) -> Self {
        let rate = offer.limits.rate_limit.map(RateLimiter::new);
        Self { offer, rate, connections: Arc::default(), answers: Arc::default() }
    }

    /// Serves one connection to its end.
    async fn serve<S>(self: Arc<Self>, stream: S, place: Place, watcher: Watcher, origin: Origin)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let stream = Watched::new(stream, Arc::clone(&place.connection));
        let door = Arc::clone(&self);
        let ended = tokio::select! {
            biased;
            ended = async {
                let Some(config) = &self.offer.web_config else {
                    return door.http1(stream, &place, watcher, origin).await;
                };
                match config.current().await.tls() {
                    None => door.http1(stream, &place, watcher, origin).await,
                    Some(acceptor) => {
                        // Whoever was led astray finds a certificate of another name.
                        door.tls(acceptor, stream, &place, watcher, Origin { is_loopback: false, ..origin }).await
                    }
                }
            } => ended,
            expired = place.connection.expiry(&self.offer.limits) => expired,
        };
        if let Some(refused) = ended {
            self.offer.metrics.refused(refused);
        }
    }

    #[cfg(feature = "web-config")]
    async fn tls<S>(
        self: Arc<Self>,
        acceptor: tokio_rustls::TlsAcceptor,
        mut stream: Watched<S>,
        place: &Place,
        watcher: Watcher,
        origin: Origin,
    ) -> Option<Refused>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        match stream.begins_tls().await {
            Ok(true) => {}
            // Gone again without a word.
            Err(_) => return None,
            Ok(false) => {
                const ANSWER: &str = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 42\r\nConnection: close\r\n\r\nthis endpoint speaks TLS: ask it by https\n";
                // What was not read would have the answer thrown away with the connection.
                let _ = stream.read(&mut [0; MIN_HEAD_BYTES]).await;
                let _ = stream.write_all(ANSWER.as_bytes()).await;
                let _ = stream.shutdown().await;
                return Some(Refused::Handshake);
            }
        }
        match acceptor.accept(stream).await {
            Ok(stream) => self.http(stream, place, watcher, origin).await,
            Err(error) => {
                tracing::debug!(%error, "a TLS handshake with the scrape endpoint failed");
                Some(Refused::Handshake)
            }
        }
    }

    #[cfg(not(feature = "web-config"))]
    async fn tls<S>(
        self: Arc<Self>,
        acceptor: super::web_config::Acceptor,
        _: S,
        _: &Place,
        _: Watcher,
        _: Origin,
    ) -> Option<Refused> {
        acceptor.none()
    }

    /// Over TLS both have agreed on what is spoken.
    #[cfg(feature = "web-config")]
    async fn http<S>(
        self: Arc<Self>,
        stream: tokio_rustls::server::TlsStream<Watched<S>>,
        place: &Place,
        watcher: Watcher,
        origin: Origin,
    ) -> Option<Refused>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        use hyper_util::rt::{TokioExecutor, TokioTimer};

        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return self.http1(stream, place, watcher, origin).await;
        }
        place.connection.is_http2();
        let limits = &self.offer.limits;
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_pending_accept_reset_streams(MAX_RESETS)
            .max_local_error_reset_streams(MAX_RESETS)
            .max_header_list_size(u32::try_from(limits.max_head_bytes.max(MIN_HEAD_BYTES)).unwrap_or(u32::MAX))
            .max_send_buf_size(MAX_UNSENT);
        let answer = self.answerer(place, origin);
        // A scraper that goes away mid-answer is its own business.
        let _ = watcher.watch(builder.serve_connection(TokioIo::new(stream), service_fn(answer))).await;
        None
    }

    async fn http1<S>(self: Arc<Self>, stream: S, place: &Place, watcher: Watcher, origin: Origin) -> Option<Refused>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let mut builder = http1::Builder::new();
        // Reads have a deadline of our own, which tells a head on its way from idleness.
        builder.header_read_timeout(None).max_buf_size(self.offer.limits.max_head_bytes.max(MIN_HEAD_BYTES));
        let answer = self.answerer(place, origin);
        // hyper has answered 431 or 400.
        match watcher.watch(builder.serve_connection(TokioIo::new(stream), service_fn(answer))).await {
            Err(error) if error.is_parse_too_large() => Some(Refused::Head),
            Err(error) if error.is_parse() => Some(Refused::Malformed),
            Ok(()) | Err(_) => None,
        }
    }

    /// What answers the requests of one connection.
    fn answerer(
        self: Arc<Self>,
        place: &Place,
        origin: Origin,
    ) -> impl Fn(Request<Incoming>) -> BoxedAnswer + Send + Sync + 'static {
        let connection = Arc::clone(&place.connection);
        move |request| {
            let (door, mut answering) = (Arc::clone(&self), connection.answer());
            Box::pin(async move {
                let unwritten = Arc::clone(&door.answers).read_owned().await;
                let answer = door.answer(request, origin, &mut answering).await;
                let held = Arc::new((answering, unwritten));
                Ok(answer.map(|body| Held { body, held }))
            })
        }
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        origin: Origin,
        answering: &mut Answering,
    ) -> Response<ScrapeBody> {
        let current = match &self.offer.web_config {
            None => None,
            Some(config) => {
                let current = config.current().await;
                self.offer.metrics.web_config(config.last_error().is_none());
                Some(current)
            }
        };
        let headers = current.as_ref().map(|current| current.headers().to_vec()).unwrap_or_default();
        let mut answer = match self.admit(&request, origin, current.as_deref()).await {
            Ok(()) => {
                let is_at_home = origin.is_local && !is_forwarded(request.headers()) && self.is_known_host(&request);
                self.offer.service.respond(Asking::of(&request, is_at_home)).await
            }
            Err((refused, answer)) => {
                self.offer.metrics.refused(refused);
                answering.is_refused();
                answer
            }
        };
        answer.headers_mut().extend(headers);
        answer
    }

    /// Whether the request is answered; if not, what is said instead.
    async fn admit(
        &self,
        request: &Request<Incoming>,
        origin: Origin,
        current: Option<&super::web_config::Current>,
    ) -> Result<(), (Refused, Response<ScrapeBody>)> {
        let headers = request.headers();
        if origin.is_loopback && !self.is_known_host(request) {
            const WHY: &str = "this endpoint listens on loopback and answers for localhost, not for the host that was asked for: `allowed_hosts` of its limits names others\n";
            return Err((Refused::Host, plain(StatusCode::FORBIDDEN, WHY.to_owned())));
        }
        let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > self.offer.limits.max_body_bytes) {
            let mut answer = plain(StatusCode::PAYLOAD_TOO_LARGE, "a scrape needs no body\n".to_owned());
            if request.version() < Version::HTTP_2 {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            return Err((Refused::Body, answer));
        }
        let rate = match current.and_then(|current| current.limiter()) {
            Some(of_file) => Some(of_file),
            None => self.rate.as_ref(),
        };
        if let Some(Err(after)) = rate.map(|rate| rate.take(Instant::now())) {
            // Whole seconds, and not too early.
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            let mut answer =
                plain(StatusCode::TOO_MANY_REQUESTS, format!("too many requests, ask again in {seconds} s\n"));
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
            return Err((Refused::RateLimit, answer));
        }
        let Some(current) = current else { return Ok(()) };
        match current.authenticate(headers).await {
            Ok(()) => Ok(()),
            Err(Unauthorized::Busy) => {
                let mut answer =
                    plain(StatusCode::SERVICE_UNAVAILABLE, "too many passwords to check, ask again\n".to_owned());
                answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(1));
                Err((Refused::Credentials, answer))
            }
            Err(Unauthorized::Denied { challenges }) => {
                let mut answer = plain(StatusCode::UNAUTHORIZED, "unauthorized\n".to_owned());
                for challenge in challenges {
                    answer.headers_mut().append(WWW_AUTHENTICATE, challenge);
                }
                Err((Refused::Credentials, answer))
            }
        }
    }

    /// Whether the host that is asked for is one of this machine's loopback, or one that the program has named. Without
    /// any, which HTTP/1.0 allows, it is no browser.
    fn is_known_host(&self, request: &Request<Incoming>) -> bool {
        let named = request.uri().authority().map(|authority| authority.as_str().as_bytes());
        let mut asked = request.headers().get_all(HOST).iter().map(HeaderValue::as_bytes).chain(named).peekable();
        if asked.peek().is_none() {
            return true;
        }
        asked.all(|host| std::str::from_utf8(host).is_ok_and(|host| self.is_allowed(host)))
    }

    fn is_allowed(&self, host: &str) -> bool {
        let host = bare(host);
        let is_loopback = || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
        let is = |name: &str| host.eq_ignore_ascii_case(bare(name));
        let names = self.offer.limits.allowed_hosts.iter().chain(&self.offer.hosts);
        is("localhost")
            || host.len() > ".localhost".len() && host.to_ascii_lowercase().ends_with(".localhost")
            || is_loopback()
            || names.into_iter().any(|name| name == "*" || is(name))
    }
}

/// Whether a proxy asks, for somebody who can be anywhere.
fn is_forwarded(headers: &HeaderMap) -> bool {
    headers.contains_key(FORWARDED) || headers.contains_key("x-forwarded-for")
}

/// A host without what else can be written around it: a port, brackets, the dot at the end of a whole name.
fn bare(host: &str) -> &str {
    let host = without_port(host).trim_end_matches('.');
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// `host` of `host:port`; an IPv6 address keeps its brackets.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => {
            if name.contains(':') && !name.ends_with(']') { host } else { name }
        }
        _ => host,
    }
}

type BoxedAnswer = Pin<Box<dyn Future<Output = Result<Response<Held>, Infallible>> + Send>>;

/// A body that keeps the server from ending, and its connection from being idle, until the last of its bytes is written,
/// or the connection is gone.
struct Held {
    body: ScrapeBody,
    held: Arc<(Answering, OwnedRwLockReadGuard<()>)>,
}

impl Body for Held {
    type Data = Bytes;
    type Error = ScrapeError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ScrapeError>>> {
        struct Chunk(
            Bytes,
            #[expect(dead_code, reason = "held, not looked at")] Arc<(Answering, OwnedRwLockReadGuard<()>)>,
        );

        impl AsRef<[u8]> for Chunk {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let hold = |chunk| Bytes::from_owner(Chunk(chunk, Arc::clone(&self.held)));
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(hold))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_no_part_of_a_host() {
        for (host, bare) in [
            ("localhost:9464", "localhost"),
            ("localhost", "localhost"),
            ("127.0.0.1:1", "127.0.0.1"),
            ("[::1]:9464", "[::1]"),
            ("[::1]", "[::1]"),
            ("::1", "::1"),
            ("host:", "host"),
            ("evil:80@localhost", "evil:80@localhost"),
            ("", ""),
        ] {
            assert_eq!(without_port(host), bare, "{host}");
        }
    }
}
