//! Scrapers that ask as Prometheus does, one page after the other on a connection that is kept.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, HOST, USER_AGENT};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_rustls::TlsConnector;

use crate::table::megabytes;

/// What Prometheus 3.5 sends by default.
const PROMETHEUS: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";

/// After a connection that could not be made or broke.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) struct Scrapers {
    pub(super) count: usize,
    pub(super) address: SocketAddr,
    pub(super) certificate: Option<Certificate>,
}

/// What became of the scrapes.
#[derive(Debug, Default)]
pub(super) struct Scrapes {
    /// How long each that was answered with 200 took, from the request to the last byte.
    times: Vec<Duration>,
    bytes: usize,
    not_ok: usize,
    /// Connections that were not made, or ended before their page did.
    broken: usize,
}

impl Scrapers {
    /// Everybody scrapes for this long. What is under way at the end is not counted.
    pub(super) async fn run(&self, duration: Duration) -> Scrapes {
        let end = Instant::now() + duration;
        let connector = self.certificate.as_ref().map(Certificate::connector);
        let mut scrapers = JoinSet::new();
        for _ in 0..self.count {
            scrapers.spawn(scrape_until(end, self.address, connector.clone()));
        }
        let mut all = Scrapes::default();
        while let Some(scrapes) = scrapers.join_next().await {
            let Scrapes { times, bytes, not_ok, broken } = scrapes.expect("a scraper does not panic");
            all.times.extend(times);
            all.bytes += bytes;
            all.not_ok += not_ok;
            all.broken += broken;
        }
        all.times.sort_unstable();
        all
    }

    /// A single scrape, whose page is looked at.
    pub(super) async fn one_scrape(&self) {
        let connector = self.certificate.as_ref().map(Certificate::connector);
        let mut connection = connect(self.address, connector.as_ref()).await.expect("a connection");
        let page = ask(&mut connection, self.address).await.expect("an answer");
        assert_eq!(page.status(), StatusCode::OK);
        assert_eq!(page.headers().get(CONTENT_ENCODING).map(|coding| coding.as_bytes()), Some(b"gzip".as_slice()));
        let page = page.into_body().collect().await.expect("a whole page").to_bytes();
        crate::check::check("the endpoint", &page, &crate::workload::LOAD);
    }
}

async fn scrape_until(end: Instant, address: SocketAddr, connector: Option<TlsConnector>) -> Scrapes {
    let mut scrapes = Scrapes::default();
    let mut connection = None;
    while Instant::now() < end {
        let left = end - Instant::now();
        let scrape = async {
            if connection.is_none() {
                connection = Some(connect(address, connector.as_ref()).await.ok()?);
            }
            let begin = Instant::now();
            let answer = ask(connection.as_mut()?, address).await.ok()?;
            let status = answer.status();
            let mut body = answer.into_body();
            let mut bytes = 0;
            while let Some(frame) = body.frame().await {
                bytes += frame.ok()?.data_ref().map_or(0, Bytes::len);
            }
            Some((status, bytes, begin.elapsed()))
        };
        match tokio::time::timeout(left, scrape).await {
            // The end.
            Err(_) => break,
            Ok(Some((StatusCode::OK, bytes, time))) => {
                scrapes.times.push(time);
                scrapes.bytes += bytes;
            }
            Ok(Some(_)) => scrapes.not_ok += 1,
            Ok(None) => {
                scrapes.broken += 1;
                connection = None;
                sleep(PAUSE).await;
            }
        }
    }
    scrapes
}

async fn ask(connection: &mut SendRequest<Empty<Bytes>>, address: SocketAddr) -> hyper::Result<Response<Incoming>> {
    let request = Request::get("/metrics")
        .header(HOST, address.to_string())
        .header(USER_AGENT, "Prometheus/3.5.3")
        .header(ACCEPT, PROMETHEUS)
        .header(ACCEPT_ENCODING, "gzip")
        .header("x-prometheus-scrape-timeout-seconds", "10");
    let request = request.body(Empty::new()).expect("a request");
    connection.ready().await?;
    connection.send_request(request).await
}

type Connected = Result<SendRequest<Empty<Bytes>>, Box<dyn std::error::Error + Send + Sync>>;

async fn connect(address: SocketAddr, connector: Option<&TlsConnector>) -> Connected {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    match connector {
        None => speak(stream).await,
        Some(connector) => speak(connector.connect(ServerName::try_from("localhost")?, stream).await?).await,
    }
}

async fn speak(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Connected {
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // It ends when the sender is dropped.
    tokio::spawn(connection);
    Ok(sender)
}

impl Scrapes {
    /// The columns of the table.
    pub(super) fn row(&self, duration: Duration) -> String {
        let seconds = duration.as_secs_f64();
        let milliseconds = |place: f64| {
            let last = self.times.len().saturating_sub(1) as f64;
            self.times.get((last * place).round() as usize).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
        };
        format!(
            "{:.0} | {:.0} | {:.0} | {:.0} | {} | {} | {:.1}",
            self.times.len() as f64 / seconds,
            milliseconds(0.5),
            milliseconds(0.99),
            milliseconds(1.0),
            self.not_ok,
            self.broken,
            megabytes(self.bytes) / seconds
        )
    }
}

/// A certificate for `localhost` that signs itself, its key, and the web configuration that names both.
pub(super) struct Certificate {
    certificate: rcgen::Certificate,
    web_config: PathBuf,
    _directory: TempDir,
}

impl Certificate {
    pub(super) fn write() -> Self {
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let directory = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: String| {
            let path = directory.path().join(name);
            fs::write(&path, text).expect("a file");
            path
        };
        write("certificate.pem", cert.pem());
        write("key.pem", signing_key.serialize_pem());
        let web_config = "tls_server_config:\n  cert_file: certificate.pem\n  key_file: key.pem\n".to_owned();
        Self { certificate: cert, web_config: write("web-config.yml", web_config), _directory: directory }
    }

    pub(super) fn web_config(&self) -> &Path {
        &self.web_config
    }

    fn connector(&self) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions that ring has")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        TlsConnector::from(Arc::new(config))
    }
}
