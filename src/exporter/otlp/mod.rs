//! Pushes to an OTLP receiver: requests are encoded, compressed, sent, and sent again where that can help.
//!
//! It runs on the reactor of the thread that exports, over connections of its own: nothing here asks for a runtime of the
//! caller's or changes with the features that other crates switch on. Specification: "OpenTelemetry Protocol Exporter".

mod answer;
mod connection;
mod json;
mod message;
mod protobuf;
#[cfg(feature = "tls")]
mod tls;

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, Version};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{Again, Exported, Failure, Invalid, Reason, too_late};
use crate::config::{Compression, OtlpHttpEncoding, OtlpMetricExporter, without_password};
use crate::exemplar::Measured;
use crate::guard::{Exemplars, MetricExemplars, PointExemplar};
use answer::Taken;
use connection::{Client, Destination, NoAnswer};
pub(super) use message::{Encoding, Limits, Requests};

/// How an OTLP exporter calls itself.
const USER_AGENT: &str =
    concat!("Barograph/", env!("CARGO_PKG_VERSION"), " OTel-OTLP-Exporter-Rust/", env!("CARGO_PKG_VERSION"));

/// The first wait before a request is sent again; each further one is twice as long, up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Pushes to one OTLP receiver.
#[derive(Debug)]
pub(crate) struct OtlpExporter {
    endpoint: String,
    protocol: Protocol,
    client: Client,
    request: Request<()>,
    compression: Compression,
    timeout: Duration,
    limits: Limits,
    max_response_size: usize,
    /// The request, before and after its compression: what one export fills the next one fills again.
    body: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http(Encoding),
    Grpc,
}

impl OtlpExporter {
    pub(super) fn is_json(&self) -> bool {
        self.protocol == Protocol::Http(Encoding::Json)
    }

    /// # Errors
    ///
    /// When the endpoint is no URL, a header cannot be one, a certificate cannot be read, or this build lacks what is
    /// asked for.
    pub(crate) fn http(config: &OtlpMetricExporter, max_points: Option<usize>) -> Result<Self, Invalid> {
        let encoding = match config.encoding {
            OtlpHttpEncoding::Protobuf => Encoding::Protobuf,
            OtlpHttpEncoding::Json => Encoding::Json,
        };
        let destination = Destination::http(&config.endpoint)?;
        Self::new(config, max_points, destination, Protocol::Http(encoding))
    }

    /// # Errors
    ///
    /// As those of [`http`](Self::http).
    pub(crate) fn grpc(config: &OtlpMetricExporter, max_points: Option<usize>) -> Result<Self, Invalid> {
        let destination = Destination::grpc(&config.endpoint, config.tls.insecure)?;
        Self::new(config, max_points, destination, Protocol::Grpc)
    }

    fn new(
        config: &OtlpMetricExporter,
        max_points: Option<usize>,
        destination: Destination,
        protocol: Protocol,
    ) -> Result<Self, Invalid> {
        if config.compression == Compression::Zstd && !cfg!(feature = "zstd") {
            let message = "zstd is not part of this program: add the feature `zstd` to barograph, or choose gzip";
            return Err(Invalid::new("compression", message.to_owned()));
        }
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = destination.uri();
        *request.headers_mut() = headers(config, protocol, &destination)?;
        let is_http2 = protocol == Protocol::Grpc;
        if is_http2 {
            *request.version_mut() = Version::HTTP_2;
        } else {
            // HTTP/1.1 asks for the path; who is asked stands in a header.
            *request.uri_mut() = destination.path.clone().into();
        }
        Ok(Self {
            endpoint: without_password(&config.endpoint),
            protocol,
            client: Client::new(destination, is_http2, &config.tls)?,
            request,
            compression: config.compression,
            timeout: config.timeout.unwrap_or(Duration::MAX),
            limits: Limits { max_points, max_bytes: config.max_request_size.map(usize::from) },
            max_response_size: config.max_response_size,
            body: Vec::new(),
        })
    }

    /// Where it pushes to, as it may be shown.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Pushes what was collected, and again where that can help, until the deadline.
    ///
    /// # Errors
    ///
    /// The first failure, where there is one. A request that is refused for good keeps none of the others from being sent;
    /// `exported` says how far it got.
    pub(crate) async fn export(
        &mut self,
        data: &ResourceMetrics,
        exemplars: &Exemplars,
        until: Instant,
        hurry: &Notify,
        exported: &mut Exported,
    ) -> Result<(), Failure> {
        let encoding = match self.protocol {
            Protocol::Http(encoding) => encoding,
            Protocol::Grpc => Encoding::Protobuf,
        };
        let mut requests = Requests::new(data, exemplars, encoding, self.limits);
        let mut body = std::mem::take(&mut self.body);
        let mut result = Ok(());
        while let Some(points) = requests.next(&mut body) {
            let taken = match self.pack(&body) {
                Ok(packed) => self.deliver(packed, until, hurry).await,
                Err(failure) => Err(failure),
            };
            match taken {
                Ok(Taken { rejected, message }) => exported.add(points as u64, rejected, message),
                Err(failure) => {
                    let ends = failure.again != Again::Never;
                    result = result.and(Err(failure));
                    if ends {
                        break;
                    }
                }
            }
        }
        self.body = body;
        result
    }

    /// Sends a request until it is taken, refused for good, or the time is up.
    async fn deliver(&mut self, body: Bytes, until: Instant, hurry: &Notify) -> Result<Taken, Failure> {
        let mut wait = FIRST_WAIT;
        loop {
            let failure = match timeout_at(until, self.attempt(body.clone())).await {
                Ok(Ok(taken)) => return Ok(taken),
                Ok(Err(failure)) => failure,
                Err(_) => return Err(too_late()),
            };
            let Again::Later(asked) = failure.again else { return Err(failure) };
            // Many programs fail at once when a receiver does: they must not come back at once as well.
            let delay = asked.unwrap_or_else(|| wait.mul_f64(0.5 + fastrand::f64()));
            if Instant::now().checked_add(delay).is_none_or(|then| then >= until) {
                return Err(failure);
            }
            tokio::select! {
                () = sleep(delay) => {}
                () = hurry.notified() => {}
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    async fn attempt(&mut self, body: Bytes) -> Result<Taken, Failure> {
        let (mut parts, ()) = self.request.clone().into_parts();
        parts.headers.insert(header::CONTENT_LENGTH, body.len().into());
        let request = Request::from_parts(parts, Full::new(body));
        let (protocol, limit, patience) = (self.protocol, self.max_response_size, self.timeout);
        let answered = timeout(patience, async {
            let response = self.client.send(request).await.map_err(Failure::from)?;
            read(response, protocol, limit).await
        });
        answered.await.unwrap_or_else(|_| {
            Err(Failure {
                reason: Reason::Timeout,
                message: format!("no answer within {patience:?}"),
                again: Again::Later(None),
            })
        })
    }

    /// The request as it is sent: compressed, and for gRPC with the five bytes before it.
    fn pack(&self, message: &[u8]) -> Result<Bytes, Failure> {
        let is_grpc = self.protocol == Protocol::Grpc;
        let is_compressed = self.compression != Compression::None;
        let mut packed = Vec::with_capacity(if is_compressed { message.len() / 8 } else { message.len() + 5 });
        if is_grpc {
            packed.extend_from_slice(&[u8::from(is_compressed), 0, 0, 0, 0]);
        }
        let mut packed = match self.compression {
            Compression::None => {
                packed.extend_from_slice(message);
                Ok(packed)
            }
            Compression::Gzip => {
                let mut gzip = flate2::write::GzEncoder::new(packed, flate2::Compression::new(GZIP_LEVEL));
                gzip.write_all(message).and_then(|()| gzip.finish())
            }
            #[cfg(feature = "zstd")]
            Compression::Zstd => zstd::stream::write::Encoder::new(packed, ZSTD_LEVEL)
                .and_then(|mut zstd| zstd.write_all(message).and_then(|()| zstd.finish())),
            // Refused when the exporter was built.
            #[cfg(not(feature = "zstd"))]
            Compression::Zstd => Err(std::io::ErrorKind::Unsupported.into()),
        }
        .map_err(|error| Failure {
            reason: Reason::Io,
            message: format!("cannot compress the request: {error}"),
            again: Again::Never,
        })?;
        if is_grpc {
            let length = u32::try_from(packed.len() - 5).map_err(|_| Failure {
                reason: Reason::Refused,
                message: "a gRPC message has at most 4 GiB: set max_request_size".to_owned(),
                again: Again::Never,
            })?;
            packed[1..5].copy_from_slice(&length.to_be_bytes());
        }
        Ok(packed.into())
    }
}

/// Smaller requests cost more time than they save: these are what the pages of a scrape are compressed with, and zstd's
/// fastest.
const GZIP_LEVEL: u32 = 2;
#[cfg(feature = "zstd")]
const ZSTD_LEVEL: i32 = 1;

fn headers(config: &OtlpMetricExporter, protocol: Protocol, destination: &Destination) -> Result<HeaderMap, Invalid> {
    let mut headers = HeaderMap::new();
    headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    for (name, value) in &config.headers {
        // The value may be a secret: only the name is shown.
        let invalid = |what: &str| Invalid::new("headers", format!("`{name}` is no header: {what}"));
        let key = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| invalid("its name cannot be one"))?;
        let mut value = HeaderValue::from_str(value).map_err(|_| invalid("its value has a character that none has"))?;
        value.set_sensitive(true);
        headers.insert(key, value);
    }
    let (content_type, encoding) = match protocol {
        Protocol::Http(Encoding::Protobuf) => ("application/x-protobuf", header::CONTENT_ENCODING),
        Protocol::Http(Encoding::Json) => ("application/json", header::CONTENT_ENCODING),
        Protocol::Grpc => ("application/grpc", HeaderName::from_static("grpc-encoding")),
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    match config.compression {
        Compression::None => {}
        Compression::Gzip => drop(headers.insert(encoding, HeaderValue::from_static("gzip"))),
        Compression::Zstd => drop(headers.insert(encoding, HeaderValue::from_static("zstd"))),
    }
    match protocol {
        Protocol::Grpc => drop(headers.insert(header::TE, HeaderValue::from_static("trailers"))),
        Protocol::Http(_) => {
            let host = HeaderValue::from_str(destination.authority.as_str());
            headers.insert(header::HOST, host.map_err(|error| Invalid::endpoint(error.to_string()))?);
        }
    }
    Ok(headers)
}

async fn read(response: Response<Incoming>, protocol: Protocol, limit: usize) -> Result<Taken, Failure> {
    let (parts, body) = response.into_parts();
    let body = match Limited::new(body, limit).collect().await {
        Ok(body) => body,
        Err(error) if error.is::<LengthLimitError>() => {
            return Err(Failure {
                reason: Reason::Refused,
                message: format!("the answer ({}) is longer than {limit} bytes", parts.status),
                again: Again::Never,
            });
        }
        // Taken, and only what was to be said about it is lost: to send it again would be to send it twice.
        Err(_) if matches!(protocol, Protocol::Http(_)) && parts.status.is_success() => return Ok(Taken::default()),
        Err(error) => {
            return Err(Failure {
                reason: Reason::Connection,
                message: format!("the answer ({}) broke off: {error}", parts.status),
                again: Again::Later(None),
            });
        }
    };
    let trailers = body.trailers().cloned();
    let body = body.to_bytes();
    match protocol {
        Protocol::Http(_) => answer::http(parts.status, &parts.headers, &body),
        Protocol::Grpc => answer::grpc(parts.status, &parts.headers, &body, trailers.as_ref()),
    }
}

impl From<NoAnswer> for Failure {
    fn from(NoAnswer { reason, message }: NoAnswer) -> Self {
        Self { reason, message, again: Again::Later(None) }
    }
}
