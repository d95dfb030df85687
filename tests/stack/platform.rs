//! The platform example as a process of its own.

use std::collections::BTreeMap;
use std::env;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long the platform may take to say where it listens.
const STARTUP: Duration = Duration::from_secs(30);

/// A running platform. Killed by its process id when this is dropped.
pub(crate) struct Platform {
    child: Child,
    address: SocketAddr,
    summary: PathBuf,
    ends_after: Duration,
    output: mpsc::Receiver<String>,
}

impl Platform {
    /// Starts the platform on a port that the system chooses; it ends by itself after `lifetime`.
    pub(crate) fn start(summary: &Path, lifetime: Duration) -> Self {
        Self::start_with(summary, lifetime, &[])
    }

    /// Starts it like [`start`](Self::start), with these environment variables.
    pub(crate) fn start_with(summary: &Path, lifetime: Duration, environment: &[(&str, &str)]) -> Self {
        Self::launch(summary, lifetime, environment, &["--port", "0"])
    }

    /// Starts it with every fault that there is, on this port, where 0 lets the system choose.
    pub(crate) fn start_chaos(directory: &Path, port: u16, lifetime: Duration, environment: &[(&str, &str)]) -> Self {
        let arguments = ["--chaos", "--port", &port.to_string()];
        Self::launch(&directory.join("summary.json"), lifetime, environment, &arguments)
    }

    fn launch(summary: &Path, lifetime: Duration, environment: &[(&str, &str)], arguments: &[&str]) -> Self {
        let mut child = Command::new(binary())
            .envs(environment.iter().copied())
            .args(arguments)
            .args(["--for", &format!("{}s", lifetime.as_secs()), "--json-summary"])
            .arg(summary)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (said, output) = mpsc::channel();
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| said.send(line)));
        let mut platform = Self {
            child,
            address: ([127, 0, 0, 1], 0).into(),
            summary: summary.to_owned(),
            ends_after: lifetime,
            output,
        };
        let deadline = Instant::now() + STARTUP;
        while platform.address.port() == 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            let line =
                platform.output.recv_timeout(left).unwrap_or_else(|_| panic!("no scrape URL within {STARTUP:?}"));
            if let Some((_, url)) = line.split_once("http://") {
                platform.address = url.split('/').next().and_then(|address| address.parse().ok()).unwrap();
            }
        }
        platform
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its page now.
    pub(crate) fn page(&self) -> String {
        String::from_utf8(crate::prometheus::page(self.address, "text/plain;version=0.0.4")).unwrap()
    }

    /// Waits for its end, which is a good one, and reads its summary: every series by its labels.
    pub(crate) fn wait(mut self) -> BTreeMap<super::Series, f64> {
        let deadline = Instant::now() + self.ends_after + STARTUP;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "the platform did not end by itself");
            thread::sleep(Duration::from_millis(50));
        };
        let said: Vec<String> = self.output.iter().collect();
        assert!(status.success(), "the platform ended with {status}:\n{}", said.join("\n"));
        let summary: Value = serde_json::from_str(&std::fs::read_to_string(&self.summary).unwrap()).unwrap();
        summary["series"].as_array().unwrap().iter().map(series).collect()
    }
}

fn series(sample: &Value) -> (super::Series, f64) {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let labels = sample["labels"].as_object().unwrap().iter().map(|(name, value)| (name.clone(), text(value)));
    let name = ("__name__".to_owned(), text(&sample["name"]));
    (super::normal(labels.chain([name]).collect()), sample["value"].as_f64().unwrap())
}

/// Cargo builds the examples before it runs tests, beside them.
pub(crate) fn binary() -> PathBuf {
    let test = env::current_exe().unwrap();
    let binary = test.parent().and_then(Path::parent).unwrap().join("examples/platform");
    assert!(binary.is_file(), "{} is missing: `cargo build --example platform` makes it", binary.display());
    binary
}

impl Drop for Platform {
    fn drop(&mut self) {
        // Nothing to do where it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
