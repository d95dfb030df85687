//! VictoriaMetrics and vmagent, which read OTLP and are asked, or write on, as Prometheus is, and vmalert, which has rules.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::{self, Server, poll};
use crate::query::{QUERY_POLL, Queries, Sample};
use crate::request::{Response, get};

// Enough for any test; without a limit it takes what it finds.
const MEMORY: &str = "-memory.allowedBytes=256MiB";

// Names as Prometheus' own OTLP receiver makes them. The default keeps the dots.
const NAMES: &str = "-opentelemetry.usePrometheusNaming";

/// The directory that holds VictoriaMetrics and vmagent; without one says that the test is skipped.
///
/// # Panics
///
/// Without one, with `CI=true`.
pub(crate) fn require() -> Option<PathBuf> {
    process::require(&["victoria-metrics", "vmagent"], "tests/stack/install-otlp")
}

/// A running VictoriaMetrics. It ends when this is dropped, and a test that panics shows the end of its log.
#[must_use = "VictoriaMetrics ends when this is dropped"]
#[derive(Debug)]
pub(crate) struct Victoria {
    queries: Queries,
    _server: Server,
}

impl Victoria {
    /// Starts VictoriaMetrics and waits until it answers. Its log and data go into `dir`.
    #[track_caller]
    pub(crate) fn start(bin: &Path, dir: &Path) -> Self {
        Self::start_with(bin, dir, &[])
    }

    /// Starts it like [`start`](Self::start), with these flags.
    #[track_caller]
    pub(crate) fn start_with(bin: &Path, dir: &Path, flags: &[String]) -> Self {
        fs::create_dir_all(dir).unwrap();
        let mut command = Command::new(bin.join("victoria-metrics"));
        command.args(flags);
        command.arg(path_argument("-storageDataPath", &dir.join("data")));
        // A month is the default, and nothing is found in the last 30 seconds.
        command.args(["-retentionPeriod=1d", "-search.latencyOffset=0s"]);
        command.args([MEMORY, NAMES]);
        let (address, server) = spawn(&mut command, dir.join("victoria-metrics.log"));
        Self { queries: Queries { address }, _server: server }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.queries.address
    }

    /// The URL to export metrics to, as protobuf: it reads no JSON.
    pub(crate) fn url(&self) -> String {
        format!("http://{}{PATH}", self.queries.address)
    }

    /// The result of an instant query as of now, in the order of the labels. What it got in the last second or two may
    /// be missing.
    #[track_caller]
    pub(crate) fn query(&self, promql: &str) -> Vec<Sample> {
        self.flush();
        self.queries.query(promql)
    }

    /// Makes visible what was received, which would take some ten seconds otherwise; its query API.
    #[track_caller]
    pub(crate) fn flush(&self) -> Queries {
        let flushed = get(self.queries.address, "/internal/force_flush", "").unwrap();
        assert_eq!(flushed.status, 200, "{}", flushed.text());
        self.queries
    }

    /// Repeats the query until the predicate holds for its result, and returns that result.
    #[track_caller]
    pub(crate) fn wait_for(
        &self,
        promql: &str,
        deadline: Duration,
        predicate: impl Fn(&[Sample]) -> bool,
    ) -> Vec<Sample> {
        poll(deadline, QUERY_POLL, || {
            let samples = self.query(promql);
            if predicate(&samples) { Ok(samples) } else { Err(format!("{promql} last gave {samples:#?}")) }
        })
    }
}

/// A running vmagent. It ends when this is dropped, and a test that panics shows the end of its log.
#[must_use = "vmagent ends when this is dropped"]
#[derive(Debug)]
pub(crate) struct Vmagent {
    address: SocketAddr,
    _server: Server,
}

impl Vmagent {
    /// Starts a vmagent that writes what it gets to this URL, and waits until it answers. Its log and data go into `dir`.
    #[track_caller]
    pub(crate) fn start(bin: &Path, dir: &Path, remote_write_url: &str) -> Self {
        // Prometheus reads neither VictoriaMetrics' own protocol nor anything of a first try with it.
        Self::start_with(bin, dir, remote_write_url, &["-remoteWrite.forcePromProto".to_owned()])
    }

    /// Starts it like [`start`](Self::start), with these flags, which decide how it writes.
    #[track_caller]
    pub(crate) fn start_with(bin: &Path, dir: &Path, remote_write_url: &str, flags: &[String]) -> Self {
        fs::create_dir_all(dir).unwrap();
        let mut command = Command::new(bin.join("vmagent"));
        command.arg(path_argument("-remoteWrite.tmpDataPath", &dir.join("data")));
        command.arg(format!("-remoteWrite.url={remote_write_url}"));
        command.args(flags).arg("-remoteWrite.flushInterval=200ms");
        command.args([MEMORY, NAMES]);
        let (address, server) = spawn(&mut command, dir.join("vmagent.log"));
        Self { address, _server: server }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL to export metrics to, as protobuf: it reads no JSON.
    pub(crate) fn url(&self) -> String {
        format!("http://{}{PATH}", self.address)
    }
}

/// A running vmalert. It ends when this is dropped, and a test that panics shows the end of its log.
#[must_use = "vmalert ends when this is dropped"]
#[derive(Debug)]
pub(crate) struct Vmalert {
    _server: Server,
}

impl Vmalert {
    /// Starts a vmalert that evaluates these rules, a path or a pattern of some, against this VictoriaMetrics every second,
    /// writes there what comes of them, and tells nobody of alerts.
    #[track_caller]
    pub(crate) fn start(bin: &Path, dir: &Path, rules: &Path, victoria: &Victoria) -> Self {
        fs::create_dir_all(dir).unwrap();
        let mut command = Command::new(bin.join("vmalert"));
        command.arg(path_argument("-rule", rules));
        let address = victoria.address();
        command.args([format!("-datasource.url=http://{address}"), format!("-remoteWrite.url=http://{address}")]);
        command.args(["-notifier.blackhole", "-evaluationInterval=1s", "-remoteWrite.flushInterval=200ms"]);
        // It looks half a minute back, because VictoriaMetrics shows what it got late.
        command.arg("-rule.evalDelay=0s");
        Self { _server: spawn(&mut command, dir.join("vmalert.log")).1 }
    }
}

/// Where both take OTLP.
pub(crate) const PATH: &str = "/opentelemetry/v1/metrics";

fn path_argument(flag: &str, path: &Path) -> std::ffi::OsString {
    let mut argument = std::ffi::OsString::from(format!("{flag}="));
    argument.push(path);
    argument
}

#[track_caller]
fn spawn(command: &mut Command, log: PathBuf) -> (SocketAddr, Server) {
    // The system chooses a free port and the server logs it. A port chosen here could be taken by then.
    let mut server = Server::spawn(command.arg("-httpListenAddr=127.0.0.1:0"), log);
    let address = server.wait_until_ready(|log| {
        let address = listening_address(log).ok_or("no address is in the log")?;
        match get(address, "/health", "") {
            Ok(Response { status: 200, .. }) => Ok(address),
            Ok(Response { status, .. }) => Err(format!("/health answered {status}")),
            Err(error) => Err(format!("/health: {error}")),
        }
    });
    (address, server)
}

/// Finds the address in the line `... started server at http://127.0.0.1:43095/`.
fn listening_address(log: &str) -> Option<SocketAddr> {
    let (_, rest) = log.split_once("started server at http://")?;
    rest.split_once('/')?.0.parse().ok()
}
