//! The endpoint under load: a process of its own, and what it has open and resident.

use std::env;
use std::fs;
use std::future::Future;
use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use barograph::{Telemetry, View};
use tokio::time::sleep;

use crate::workload::LOAD;

/// How long connections that their clients have closed may stay open.
const SETTLING: Duration = Duration::from_secs(30);

/// How often the process is looked at.
const INTERVAL: Duration = Duration::from_millis(50);

/// Serves the workload until stdin ends, which it does with the process that started this one. Says where.
pub(crate) fn serve(web_config: Option<&str>) {
    let view = View::of("bench.*").with_cardinality_limit(LOAD.sets);
    let builder = Telemetry::builder("bench").with_address("127.0.0.1:0").with_view(view);
    let builder = match web_config {
        Some(path) => builder.with_web_config(path),
        None => builder,
    };
    let telemetry = match builder.start() {
        Ok(telemetry) => telemetry,
        Err(error) => return println!("{error}"),
    };
    LOAD.record(telemetry.meter_provider());
    println!("{}", telemetry.local_addr().expect("an endpoint"));
    let _ = io::stdin().read_to_end(&mut Vec::new());
}

pub(super) struct Endpoint {
    child: Child,
    pub(super) address: SocketAddr,
}

/// What a process has, or had at most.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Footprint {
    /// In bytes.
    pub(super) resident: usize,
    pub(super) descriptors: usize,
    pub(super) threads: usize,
}

impl Endpoint {
    /// Starts it, and waits until it serves; or what it said instead.
    pub(super) async fn start(web_config: Option<&Path>) -> Result<Self, String> {
        let mut child = Command::new(env::current_exe().expect("this program"))
            .args(["load", "--serve"])
            .args(web_config)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program runs");
        let mut said = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut said).expect("a line");
        match said.trim().parse() {
            Ok(address) => Ok(Self { child, address }),
            Err(_) => {
                let _ = child.wait();
                Err(format!("the endpoint does not start: {}", said.trim()))
            }
        }
    }

    pub(super) fn footprint(&self) -> Footprint {
        let directory = format!("/proc/{}", self.child.id());
        let status = fs::read_to_string(format!("{directory}/status")).expect("a process that runs, on Linux");
        let number = |name: &str| -> usize {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line of Linux");
            line.trim().trim_end_matches(" kB").parse().expect("a number")
        };
        Footprint {
            resident: number("VmRSS:") * 1024,
            descriptors: fs::read_dir(format!("{directory}/fd")).expect("our own child").count(),
            threads: number("Threads:"),
        }
    }

    /// The work's result, and the most that the endpoint had meanwhile.
    pub(super) async fn peak_during<T>(&self, work: impl Future<Output = T>) -> (T, Footprint) {
        let mut peak = Footprint::default();
        let watching = async {
            loop {
                let now = self.footprint();
                peak.resident = peak.resident.max(now.resident);
                peak.descriptors = peak.descriptors.max(now.descriptors);
                peak.threads = peak.threads.max(now.threads);
                sleep(INTERVAL).await;
            }
        };
        let result = tokio::select! {
            result = work => result,
            () = watching => unreachable!("it watches for ever"),
        };
        (result, peak)
    }

    /// What it has once its descriptors and threads are back to what they were, or when they should have been.
    pub(super) async fn settled(&self, before: &Footprint) -> Footprint {
        let end = Instant::now() + SETTLING;
        loop {
            let now = self.footprint();
            let is_settled = now.descriptors <= before.descriptors && now.threads <= before.threads;
            if is_settled || Instant::now() >= end {
                return now;
            }
            sleep(INTERVAL).await;
        }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        // It ends when its stdin does; at once is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How many descriptors this process, and one that it starts, may have.
pub(super) fn descriptors() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").expect("Linux");
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).expect("a line of Linux");
    line.split_whitespace().next().and_then(|soft| soft.parse().ok()).unwrap_or(usize::MAX)
}
