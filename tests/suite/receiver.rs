//! An OTLP receiver that does as it is told: takes requests by HTTP and gRPC, keeps what they say, and answers from a
//! script.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use http_body_util::combinators::BoxBody;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric};
use prost::Message;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use crate::certificates::Certificates;

/// How a request is answered.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Taken,
    /// Taken but for so many points.
    Partly(i64, &'static str),
    /// An HTTP status, with a `Retry-After` if there is one.
    Status(u16, Option<&'static str>),
    /// A gRPC status in the trailers.
    Grpc(i32),
    /// Never.
    Silence,
    /// After a while.
    Late(Duration),
}

/// One request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) message: ExportMetricsServiceRequest,
}

impl Received {
    pub(crate) fn metric(&self, name: &str) -> Option<&Metric> {
        let scopes = self.message.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
        scopes.flat_map(|scope| &scope.metrics).find(|metric| metric.name == name)
    }

    /// The first point of a sum of whole numbers.
    pub(crate) fn sum(&self, name: &str) -> Option<i64> {
        use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
        match self.metric(name)?.data.as_ref()? {
            metric::Data::Sum(sum) => match sum.data_points.first()?.value? {
                Value::AsInt(value) => Some(value),
                Value::AsDouble(value) => Some(value as i64),
            },
            _ => None,
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

#[derive(Debug, Default)]
struct Shared {
    received: Mutex<Vec<Received>>,
    /// Answers of the next requests; then the last one for ever.
    script: Mutex<VecDeque<Reply>>,
    connections: AtomicUsize,
}

/// Runs until it is dropped; then it refuses connections.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    stopped: mpsc::Receiver<()>,
}

impl Receiver {
    pub(crate) fn start() -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), None)
    }

    pub(crate) fn start_with_tls(certificates: &Certificates, asks_for_client: bool) -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), Some(acceptor(certificates, asks_for_client)))
    }

    pub(crate) fn start_at(address: SocketAddr, tls: Option<TlsAcceptor>) -> Self {
        let shared = Arc::new(Shared::default());
        let (stop, is_stopped) = oneshot::channel();
        let (started, is_started) = mpsc::channel();
        let (ended, stopped) = mpsc::channel();
        let theirs = Arc::clone(&shared);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let socket = tokio::net::TcpSocket::new_v4().unwrap();
                socket.set_reuseaddr(true).unwrap();
                socket.bind(address).unwrap();
                let listener = socket.listen(64).unwrap();
                started.send(listener.local_addr().unwrap()).unwrap();
                tokio::select! {
                    () = serve(listener, tls, theirs) => {}
                    _ = is_stopped => {}
                }
            });
            drop(runtime);
            let _ = ended.send(());
        });
        Self { address: is_started.recv().unwrap(), shared, stop: Some(stop), stopped }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn answer(&self, replies: impl IntoIterator<Item = Reply>) {
        *self.shared.script.lock().unwrap() = replies.into_iter().collect();
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.shared.received.lock().unwrap().len()
    }

    /// How many connections were made.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    pub(crate) fn forget(&self) {
        self.shared.received.lock().unwrap().clear();
    }

    /// Stops it, and returns where it was.
    pub(crate) fn kill(mut self) -> SocketAddr {
        self.end();
        self.address
    }

    fn end(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
            let _ = self.stopped.recv_timeout(Duration::from_secs(5));
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.end();
    }
}

async fn serve(listener: tokio::net::TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        shared.connections.fetch_add(1, Ordering::Relaxed);
        let (tls, shared) = (tls.clone(), Arc::clone(&shared));
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, Arc::clone(&shared)));
            let server = auto::Builder::new(TokioExecutor::new());
            match tls {
                Some(tls) => {
                    let Ok(stream) = tls.accept(stream).await else { return };
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                }
                None => drop(server.serve_connection(TokioIo::new(stream), service).await),
            }
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    let (parts, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        std::future::pending::<()>().await;
        unreachable!()
    };
    let body = body.to_bytes();
    let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_grpc = text("content-type").starts_with("application/grpc");
    let is_json = text("content-type") == "application/json";
    let (message, encoding) =
        if is_grpc { (body.slice(5..), text("grpc-encoding")) } else { (body.clone(), text("content-encoding")) };
    let message = unpacked(&message, encoding);
    let message = if is_json {
        serde_json::from_slice(&message).unwrap()
    } else {
        ExportMetricsServiceRequest::decode(message.as_slice()).unwrap()
    };
    let received = Received { path: parts.uri.path().to_owned(), headers: parts.headers.clone(), message };
    shared.received.lock().unwrap().push(received);
    let reply = {
        let mut script = shared.script.lock().unwrap();
        if script.len() > 1 { script.pop_front() } else { script.front().cloned() }
    };
    let reply = reply.unwrap_or(Reply::Taken);
    match reply {
        Reply::Silence => std::future::pending().await,
        Reply::Late(wait) => tokio::time::sleep(wait).await,
        _ => {}
    }
    Ok(if is_grpc { grpc_reply(&reply) } else { http_reply(&reply, is_json) })
}

fn unpacked(message: &[u8], encoding: &str) -> Vec<u8> {
    match encoding {
        "gzip" => {
            let mut plain = Vec::new();
            flate2::read::GzDecoder::new(message).read_to_end(&mut plain).unwrap();
            plain
        }
        "zstd" => zstd::stream::decode_all(message).unwrap(),
        "" => message.to_vec(),
        other => panic!("unknown encoding {other}"),
    }
}

fn partial_success(reply: &Reply) -> Vec<u8> {
    use opentelemetry_proto::tonic::collector::metrics::v1::{
        ExportMetricsPartialSuccess, ExportMetricsServiceResponse,
    };
    let partial_success = match reply {
        Reply::Partly(points, message) => {
            Some(ExportMetricsPartialSuccess { rejected_data_points: *points, error_message: (*message).to_owned() })
        }
        _ => None,
    };
    ExportMetricsServiceResponse { partial_success }.encode_to_vec()
}

fn http_reply(reply: &Reply, is_json: bool) -> Response<BoxBody<Bytes, Infallible>> {
    let mut response = Response::builder();
    let body = match reply {
        Reply::Status(status, after) => {
            response = response.status(*status);
            if let Some(after) = after {
                response = response.header("retry-after", *after);
            }
            Vec::new()
        }
        Reply::Partly(points, message) if is_json => {
            response = response.header("content-type", "application/json");
            let json = serde_json::json!({
                "partialSuccess": { "rejectedDataPoints": points.to_string(), "errorMessage": message }
            });
            json.to_string().into_bytes()
        }
        reply => partial_success(reply),
    };
    response.body(http_body_util::Full::new(Bytes::from(body)).boxed()).unwrap()
}

fn grpc_reply(reply: &Reply) -> Response<BoxBody<Bytes, Infallible>> {
    let (status, message) = match reply {
        Reply::Grpc(status) => (*status, Vec::new()),
        Reply::Status(status, _) => {
            return Response::builder().status(*status).body(http_body_util::Empty::new().boxed()).unwrap();
        }
        reply => (0, partial_success(reply)),
    };
    let mut framed = vec![0];
    framed.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    framed.extend_from_slice(&message);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status.to_string().parse().unwrap());
    let body = http_body_util::Full::new(Bytes::from(framed)).with_trailers(async move { Some(Ok(trailers)) });
    Response::builder().header("content-type", "application/grpc").body(body.boxed()).unwrap()
}

fn acceptor(certificates: &Certificates, asks_for_client: bool) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let read = |path: &Path| -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_file_iter(path).unwrap().map(Result::unwrap).collect()
    };
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = if asks_for_client {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(read(&certificates.authority));
        let verifier =
            rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let key = PrivateKeyDer::from_pem_file(&certificates.server_key).unwrap();
    let mut config = builder.with_single_cert(read(&certificates.server), key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}
