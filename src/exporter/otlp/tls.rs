//! TLS towards an OTLP receiver: whom we trust, and who we are.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Invalid;
use crate::config::Tls;

/// Turns a TCP connection into a TLS one.
pub(super) struct Connector {
    server: ServerName<'static>,
    connector: TlsConnector,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Connector {
    /// # Errors
    ///
    /// When a file cannot be read or holds something else, or the system trusts nobody.
    pub(super) fn new(host: &str, is_http2: bool, tls: &Tls) -> Result<Self, Invalid> {
        let server = ServerName::try_from(host.to_owned())
            .map_err(|_| Invalid::endpoint(format!("`{host}` is no name that a certificate could have")))?;
        // By name: where several providers are compiled in, asking for the default one panics.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Invalid::new("tls", error.to_string()))?
            .with_root_certificates(roots(tls.ca_file.as_deref())?);
        let mut config = match (&tls.cert_file, &tls.key_file) {
            (None, None) => builder.with_no_client_auth(),
            (Some(certificate), Some(key)) => {
                let chain = certificates("tls.cert_file", certificate)?;
                let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable("tls.key_file", key, &error))?;
                builder.with_client_auth_cert(chain, key).map_err(|error| {
                    Invalid::new("tls.key_file", format!("the key and the certificate do not go together: {error}"))
                })?
            }
            (Some(_), None) => return Err(alone("tls.cert_file", "tls.key_file")),
            (None, Some(_)) => return Err(alone("tls.key_file", "tls.cert_file")),
        };
        config.alpn_protocols = vec![if is_http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        Ok(Self { server, connector: TlsConnector::from(Arc::new(config)) })
    }

    pub(super) async fn connect(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.connector.connect(self.server.clone(), stream).await
    }
}

fn alone(field: &'static str, missing: &str) -> Invalid {
    Invalid::new(field, format!("is set without {missing}: a client that says who it is needs both"))
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, Invalid> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            for certificate in certificates("tls.ca_file", path)? {
                roots.add(certificate).map_err(|error| {
                    Invalid::new("tls.ca_file", format!("{} holds an unusable certificate: {error}", path.display()))
                })?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                let message = "this system trusts no certificate (a package like ca-certificates brings them): name one with this setting";
                return Err(Invalid::new("tls.ca_file", message.to_owned()));
            }
        }
    }
    Ok(roots)
}

fn certificates(field: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Invalid> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|error| unreadable(field, path, &error))?;
    if certificates.is_empty() {
        return Err(unreadable(field, path, &pem::Error::NoItemsFound));
    }
    Ok(certificates)
}

fn unreadable(field: &'static str, path: &Path, error: &pem::Error) -> Invalid {
    let reason = match error {
        pem::Error::Io(error) => error.kind().to_string(),
        pem::Error::NoItemsFound => "it holds nothing of the kind in PEM".to_owned(),
        error => error.to_string(),
    };
    Invalid::new(field, format!("cannot read {}: {reason}", path.display()))
}
