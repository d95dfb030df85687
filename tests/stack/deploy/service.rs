//! The service example as a process of its own, for the dashboards and rules that the platform has no data for.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use barograph::Descriptor;
use barograph_instrumentation_system::semconv as system;
use barograph_instrumentation_tokio::semconv as tokio;

use super::expressions::{Expression, alternatives};
use crate::platform;
use crate::process::{PROCESS_POLL, Server, poll};
use crate::prometheus;

/// How long it may take until all is on its page that will ever be.
const STARTUP: Duration = Duration::from_secs(30);

/// A running service, with customers.
pub(crate) struct Service {
    _server: Server,
    address: SocketAddr,
}

impl Service {
    /// Starts it on ports that the system chooses, with these environment variables.
    pub(crate) fn start(directory: &Path, environment: &[(&str, &str)]) -> Self {
        let mut command = command();
        command.args(["--listen", "127.0.0.1:0"]).envs(environment.iter().copied());
        let mut server = Server::spawn(&mut command, directory.join("service.log"));
        let address = server.wait_until_ready(|log| {
            let address = log.lines().find_map(|line| line.strip_prefix("curl http://")?.strip_suffix("/metrics"));
            address.and_then(|address| address.parse().ok()).ok_or_else(|| format!("no address in {log}"))
        });
        Self { _server: server, address }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The names of what this machine or this build has nothing to say about, which are therefore not on its page.
    pub(crate) fn elsewhere(&self) -> Vec<String> {
        let page = || String::from_utf8(prometheus::page(self.address, "text/plain;version=0.0.4")).unwrap();
        let has = |page: &str, name: &str| page.lines().any(|line| line.strip_prefix(name).is_some_and(begins_values));
        // What is a difference of two readings is the last to come.
        let last = system::PROCESS_CPU_UTILIZATION.descriptor().scraped_name().unwrap();
        let page = poll(STARTUP, PROCESS_POLL, || {
            let page = page();
            if has(&page, &last) { Ok(page) } else { Err(format!("no {last} in {page}")) }
        });
        let may_be_missing = |name: &String| ELSEWHERE.iter().any(|(prefix, _)| name.starts_with(prefix));
        let of_machine = [system::PROCESS_METRICS, system::OTHER_PROCESS_METRICS, system::HOST_METRICS].concat();
        let of_machine = names(&of_machine).filter(may_be_missing);
        of_machine.chain(names(tokio::UNSTABLE_METRICS)).filter(|name| !has(&page, name)).collect()
    }
}

/// What not every machine has, and why.
const ELSEWHERE: [(&str, &str); 5] = [
    ("container_", "no container, or one without limits"),
    ("process_disk_io", "a kernel that keeps no account of it"),
    ("system_disk_", "no disk that is a whole one"),
    ("system_network_", "no network but loopback"),
    ("system_paging_u", "no swap"),
];

fn names(metrics: &[Descriptor]) -> impl Iterator<Item = String> {
    metrics.iter().map(|metric| metric.scraped_name().unwrap())
}

fn begins_values(rest: &str) -> bool {
    rest.starts_with(['{', ' '])
}

/// The service, which answers on a port that the system chooses.
pub(crate) fn command() -> Command {
    let mut command = Command::new(binary());
    command.args(["--http", "127.0.0.1:0", "--for", "10m"]);
    command
}

/// Cargo builds the examples before it runs tests, beside them.
fn binary() -> PathBuf {
    let binary = platform::binary().with_file_name("service");
    assert!(binary.is_file(), "{} is missing: `cargo build --example service` makes it", binary.display());
    binary
}

/// Whether there is no side of it that does without these metrics.
pub(crate) fn needs(expression: &Expression, metrics: &[String]) -> bool {
    let needs = |side: &String| metrics.iter().any(|name| side.contains(name.as_str()));
    alternatives(&expression.promql).iter().all(needs)
}
