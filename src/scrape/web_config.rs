//! TLS and who may ask: the web configuration file that Prometheus and its exporters share.
//!
//! The file is that of Prometheus' exporter-toolkit, setting by setting, and one more: `bearer_token_file`. It and the files
//! that it names are looked at again while the endpoint runs, so that certificates, users and tokens change without a
//! restart. A file that has become wrong changes nothing.

mod clients;
mod file;
mod tls;
mod users;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue};
use rustls::SupportedCipherSuite;
use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
use tokio::{task, time};
use tokio_rustls::TlsAcceptor;

use super::rate_limit::RateLimiter;
use crate::error::{ConfigError, Origin};

pub(crate) use users::Unauthorized;

/// Soon enough for who has just changed a password, and nothing beside a scrape.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long a request waits for the files. A file system that hangs must not take the endpoint with it.
const PATIENCE: Duration = Duration::from_secs(1);

/// More than any certificate bundle has.
const MAX_FILE: u64 = 1 << 20;

/// A web configuration file, and what it says by now.
#[derive(Clone, Debug)]
pub(crate) struct WebConfig {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    interval: Duration,
    current: RwLock<Arc<Current>>,
    last_error: Mutex<Option<ConfigError>>,
    // Held by whoever reads the files, until they are read, even if the request that began it has gone away.
    looked: Arc<tokio::sync::Mutex<Looked>>,
}

/// What was last looked at, whether it was any good or not.
#[derive(Debug)]
struct Looked {
    at: Instant,
    found: BTreeMap<PathBuf, Found>,
}

/// What a file held, as a digest: keys are not kept for longer than they are needed.
type Found = Result<Vec<u8>, io::ErrorKind>;

impl WebConfig {
    /// # Errors
    ///
    /// When the file, or one that it names, cannot be read or is wrong: the error names the line.
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::read_every(path, INTERVAL)
    }

    fn read_every(path: &Path, interval: Duration) -> Result<Self, ConfigError> {
        let mut files = Files::default();
        let at = Instant::now();
        let (current, warnings) = file::read(path, &mut files)?;
        log(&warnings);
        let looked = Arc::new(tokio::sync::Mutex::new(Looked { at, found: files.found() }));
        let (current, last_error) = (RwLock::new(Arc::new(current)), Mutex::new(None));
        Ok(Self { shared: Arc::new(Shared { path: path.to_owned(), interval, current, last_error, looked }) })
    }

    /// What counts now: the files are looked at first, if that was more than a second ago.
    pub(crate) async fn current(&self) -> Arc<Current> {
        if time::timeout(PATIENCE, self.look_again()).await.is_err() {
            tracing::debug!(path = %self.shared.path.display(), "the web configuration takes long to read");
        }
        self.shared.current()
    }

    async fn look_again(&self) {
        let mut looked = Arc::clone(&self.shared.looked).lock_owned().await;
        if looked.at.elapsed() < self.shared.interval {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let look = move || {
            shared.look(&mut looked.found);
            looked.at = Instant::now();
        };
        // It fails when the reactor ends, and then there is nobody left to answer.
        let _ = task::spawn_blocking(look).await;
    }

    /// Why the file is not what counts, if it has become wrong.
    pub(crate) fn last_error(&self) -> Option<ConfigError> {
        self.shared.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether who asks must say who it is: by a password, a token or a certificate that is verified.
    pub(crate) fn authenticates(&self) -> bool {
        self.shared.current().authenticates()
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.shared.current().tls.is_some()
    }
}

impl Shared {
    fn current(&self) -> Arc<Current> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the files and takes what they say, if it is something new.
    fn look(&self, found: &mut BTreeMap<PathBuf, Found>) {
        let mut files = Files::default();
        if found.iter().all(|(path, before)| files.look(path) == *before) {
            return;
        }
        let before = self.current();
        let result = file::read(&self.path, &mut files).and_then(|(current, warnings)| {
            self.check_change(&before, &current)?;
            Ok((current.with_state_of(&before), warnings))
        });
        *found = files.found();
        let error = match result {
            Ok((current, warnings)) => {
                log(&warnings);
                tracing::info!(path = %self.path.display(), "the web configuration has changed");
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(current);
                None
            }
            Err(error) => {
                tracing::error!(%error, "the web configuration has become wrong: the one before it goes on");
                Some(error)
            }
        };
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }

    /// Whoever connects would hear something that is no TLS, or send a password without it. And a file that is just being
    /// written is empty for a moment, which must not open the door.
    fn check_change(&self, before: &Current, after: &Current) -> Result<(), ConfigError> {
        let (path, change) = match (&before.tls, &after.tls) {
            (Some(_), None) => ("tls_server_config", "TLS is switched off"),
            (None, Some(_)) => ("tls_server_config", "TLS is switched on"),
            _ if before.access.is_restricted() && !after.authenticates() => {
                ("", "users and tokens are all taken away, so that everybody would be let in")
            }
            _ => return Ok(()),
        };
        Err(ConfigError {
            origin: Origin::File { path: self.path.clone(), line: 1, column: 1 },
            path: path.to_owned(),
            problem: format!("{change} while the endpoint runs, expected a restart for that"),
        })
    }
}

fn log(warnings: &[String]) {
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}

/// What a web configuration says.
#[derive(Debug)]
pub(crate) struct Current {
    tls: Option<tls::Server>,
    headers: Vec<(HeaderName, HeaderValue)>,
    access: Arc<users::Access>,
    limiter: Option<Arc<RateLimiter>>,
}

impl Current {
    /// What turns a connection into one of TLS, where it is on.
    pub(crate) fn tls(&self) -> Option<TlsAcceptor> {
        self.tls.as_ref().map(|tls| tls.acceptor.clone())
    }

    /// What every answer has in its head.
    pub(crate) fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }

    /// Whether who sends these headers may be answered.
    ///
    /// # Errors
    ///
    /// When it has not said who it is, or that is not true, or too many wait to hear whether it is.
    pub(crate) async fn authenticate(&self, headers: &HeaderMap) -> Result<(), Unauthorized> {
        self.access.authenticate(headers).await
    }

    /// How often may be asked. Its bucket is the same for as long as the file says the same.
    pub(crate) fn limiter(&self) -> Option<&RateLimiter> {
        self.limiter.as_deref()
    }

    fn authenticates(&self) -> bool {
        self.access.is_restricted() || self.tls.as_ref().is_some_and(|tls| tls.authenticates)
    }

    /// The same with what is remembered, as far as it still counts: whose password was right, and how full the bucket is.
    fn with_state_of(mut self, before: &Self) -> Self {
        if self.access.is_same(&before.access) {
            self.access = Arc::clone(&before.access);
        }
        if self.limiter.as_ref().map(|limiter| limiter.limit())
            == before.limiter.as_ref().map(|limiter| limiter.limit())
        {
            self.limiter.clone_from(&before.limiter);
        }
        self
    }
}

/// Files, each read once, so that what is compared is what is used.
#[derive(Default)]
struct Files {
    read: BTreeMap<PathBuf, Result<Vec<u8>, io::ErrorKind>>,
    used: Vec<PathBuf>,
}

impl Files {
    fn bytes(&mut self, path: &Path) -> Result<&[u8], io::ErrorKind> {
        self.used.push(path.to_owned());
        let read = self.read.entry(path.to_owned()).or_insert_with(|| read(path));
        read.as_deref().map_err(|kind| *kind)
    }

    fn look(&mut self, path: &Path) -> Found {
        self.read
            .entry(path.to_owned())
            .or_insert_with(|| read(path))
            .as_deref()
            .map(|bytes| sha256(&[bytes]))
            .map_err(|kind| *kind)
    }

    /// What the files held that were used.
    fn found(mut self) -> BTreeMap<PathBuf, Found> {
        let used = std::mem::take(&mut self.used);
        used.into_iter().map(|path| (self.look(&path), path)).map(|(found, path)| (path, found)).collect()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, io::ErrorKind> {
    let mut bytes = Vec::new();
    let length = File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes));
    match length.map_err(|error| error.kind())? as u64 {
        0..=MAX_FILE => Ok(bytes),
        _ => Err(io::ErrorKind::FileTooLarge),
    }
}

/// The digest of these parts, none of which can be mistaken for the end of another.
fn sha256(parts: &[&[u8]]) -> Vec<u8> {
    let suite = match TLS13_AES_128_GCM_SHA256 {
        SupportedCipherSuite::Tls12(suite) => &suite.common,
        SupportedCipherSuite::Tls13(suite) => &suite.common,
    };
    let mut digest = suite.hash_provider.start();
    for part in parts {
        digest.update(&(part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.finish().as_ref().to_vec()
}
