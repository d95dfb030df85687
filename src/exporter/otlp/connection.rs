//! One connection to an OTLP receiver: HTTP/1.1 or HTTP/2, with or without TLS, opened when it is needed.

use std::error::Error;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Invalid, Reason};
use crate::config::Tls;

#[cfg(feature = "tls")]
use super::tls::Connector;

/// Where requests go.
#[derive(Clone, Debug)]
pub(super) struct Destination {
    is_https: bool,
    host: String,
    port: u16,
    /// What a request is about: the whole URL for HTTP/2, and for HTTP/1.1 its path with the host in a header.
    pub(super) authority: Authority,
    pub(super) path: PathAndQuery,
}

/// The method that gRPC calls.
const GRPC_METHOD: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

impl Destination {
    /// Specification: "Endpoint URLs for OTLP/HTTP" in "OpenTelemetry Protocol Exporter": the URL is used as it is.
    pub(super) fn http(endpoint: &str) -> Result<Self, Invalid> {
        let expected = "expected a URL like http://localhost:4318/v1/metrics";
        Self::parse(endpoint, expected)
    }

    /// Specification: "Endpoint (OTLP/gRPC)" and "Insecure" in "OpenTelemetry Protocol Exporter".
    pub(super) fn grpc(endpoint: &str, is_insecure: bool) -> Result<Self, Invalid> {
        let expected = "expected a URL like http://localhost:4317";
        let with_scheme = match endpoint.split_once("://") {
            Some(_) => endpoint.to_owned(),
            None => format!("{}://{endpoint}", if is_insecure { "http" } else { "https" }),
        };
        let mut destination = Self::parse(&with_scheme, expected)?;
        if !matches!(destination.path.as_str(), "" | "/") {
            return Err(Invalid::endpoint(format!(
                "`{}` has a path, and gRPC has none: {expected}, or choose http/protobuf",
                crate::config::without_password(endpoint)
            )));
        }
        destination.path = PathAndQuery::from_static(GRPC_METHOD);
        Ok(destination)
    }

    fn parse(endpoint: &str, expected: &str) -> Result<Self, Invalid> {
        let shown = crate::config::without_password(endpoint);
        let invalid = |problem: &str| Invalid::endpoint(format!("`{shown}` {problem}: {expected}"));
        let uri: Uri = endpoint.trim().parse().map_err(|error| invalid(&format!("is not a URL ({error})")))?;
        let is_https = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(invalid("begins with neither http:// nor https://")),
        };
        let Some(authority) = uri.authority().filter(|authority| !authority.host().is_empty()) else {
            return Err(invalid("names no host"));
        };
        if authority.as_str().contains('@') {
            return Err(invalid("has credentials, which are sent by no exporter (a header can hold them)"));
        }
        let written = authority.as_str().rsplit_once(':').filter(|(_, port)| !port.contains(']'));
        let port = match (authority.port_u16(), written) {
            (Some(0), _) => return Err(invalid("has port 0")),
            (Some(port), _) => port,
            (None, Some((_, port))) if !port.is_empty() => return Err(invalid("has a port beyond 65535")),
            (None, _) => {
                if is_https {
                    443
                } else {
                    80
                }
            }
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        Ok(Self { is_https, host, port, authority: authority.clone(), path })
    }

    pub(super) fn uri(&self) -> Uri {
        let scheme = if self.is_https { Scheme::HTTPS } else { Scheme::HTTP };
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(scheme);
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(self.path.clone());
        // Each of the parts comes from a URL that was one.
        Uri::from_parts(parts).unwrap_or_default()
    }
}

/// Why a request got no answer.
#[derive(Debug)]
pub(super) struct NoAnswer {
    pub(super) reason: Reason,
    pub(super) message: String,
}

impl NoAnswer {
    fn new(reason: Reason, what: &str, error: &(dyn Error + 'static)) -> Self {
        Self { reason, message: format!("{what}: {}", innermost(error)) }
    }
}

/// What went wrong in the end: the libraries between say no more than that something did.
fn innermost(mut error: &(dyn Error + 'static)) -> String {
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Opens connections, and keeps the last one for the next request.
#[derive(Debug)]
pub(super) struct Client {
    destination: Destination,
    is_http2: bool,
    #[cfg(feature = "tls")]
    tls: Option<Connector>,
    connection: Option<Connection>,
}

#[derive(Debug)]
struct Connection {
    sender: Sender,
    /// What keeps it going. When the connection breaks, this knows why, and the sender no more than that it did.
    driver: JoinHandle<Result<(), hyper::Error>>,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Client {
    /// # Errors
    ///
    /// When a certificate or a key cannot be read, or the endpoint wants TLS and this build has none.
    pub(super) fn new(destination: Destination, is_http2: bool, tls: &Tls) -> Result<Self, Invalid> {
        #[cfg(feature = "tls")]
        {
            let tls = if destination.is_https { Some(Connector::new(&destination.host, is_http2, tls)?) } else { None };
            Ok(Self { destination, is_http2, tls, connection: None })
        }
        #[cfg(not(feature = "tls"))]
        {
            let _ = tls;
            if destination.is_https {
                return Err(Invalid::endpoint(format!(
                    "{} wants TLS, and this program was built without it: add the feature `tls` to barograph, or write http://",
                    destination.uri()
                )));
            }
            Ok(Self { destination, is_http2, connection: None })
        }
    }

    /// Sends one request. A connection that the receiver has closed meanwhile is opened again.
    pub(super) async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, NoAnswer> {
        if self.connection.as_ref().is_some_and(Connection::is_closed) {
            self.connection = None;
        }
        let is_used = self.connection.is_some();
        let again = request.clone();
        match self.send_once(request).await {
            // The receiver may close a connection that was idle just as we begin to use it.
            Err(_) if is_used => self.send_once(again).await,
            answer => answer,
        }
    }

    async fn send_once(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, NoAnswer> {
        // Taken, so that a request that is given up half way takes its connection with it.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let answer = match &mut connection.sender {
            Sender::Http1(sender) => sender.send_request(request).await,
            Sender::Http2(sender) => sender.send_request(request).await,
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return Err(connection.broken(error).await),
        };
        self.connection = Some(connection);
        Ok(answer)
    }

    async fn connect(&self) -> Result<Connection, NoAnswer> {
        let Destination { host, port, .. } = &self.destination;
        let refused = |error: io::Error| NoAnswer::new(Reason::Connection, "cannot connect", &error);
        let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(refused)?;
        // Requests are written whole; waiting for more to send only delays them.
        let _ = stream.set_nodelay(true);
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            let stream = tls.connect(stream).await;
            let stream = stream.map_err(|error| NoAnswer::new(Reason::Tls, "no TLS", &error))?;
            return self.handshake(stream).await;
        }
        self.handshake(stream).await
    }

    async fn handshake<S>(&self, stream: S) -> Result<Connection, NoAnswer>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let failed = |error: hyper::Error| NoAnswer::new(Reason::Connection, "no HTTP connection", &error);
        // The driver ends with the connection, or with this thread's reactor.
        Ok(if self.is_http2 {
            let (sender, driver) =
                http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(failed)?;
            Connection { sender: Sender::Http2(sender), driver: tokio::spawn(driver) }
        } else {
            let (sender, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
            Connection { sender: Sender::Http1(sender), driver: tokio::spawn(driver) }
        })
    }
}

/// How long a driver may take to end with the connection that it drives.
const DRIVER_ENDS: Duration = Duration::from_millis(50);

impl Connection {
    /// Why it broke.
    async fn broken(self, error: hyper::Error) -> NoAnswer {
        let driver = timeout(DRIVER_ENDS, self.driver).await;
        let error = if let Ok(Ok(Err(error))) = driver { error } else { error };
        let failed = NoAnswer::new(Reason::Connection, "the connection ended before an answer came", &error);
        // A server of TLS 1.3 refuses our certificate only once we have begun to speak, and then nothing but these words of
        // its alert is left of the reason.
        let is_alert = failed.message.contains("received fatal alert");
        NoAnswer { reason: if is_alert { Reason::Tls } else { Reason::Connection }, ..failed }
    }

    fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }
}
