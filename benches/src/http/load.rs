//! A service under the load of wrk, bare and with the layers of each contestant: every variant a process of its own, this
//! program started again, that lives through all rounds and is asked in turn.

use std::env;
use std::fmt::Write;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::median;
use super::services::SERVICES;

const ROUNDS: usize = 15;

/// Rounds that are not counted.
const WARM_UP: usize = 1;

/// How long each service is asked in a round.
const SECONDS: u32 = 4;

/// Connections that wrk keeps, each asking again as soon as it has its answer.
const CONNECTIONS: u32 = 32;

/// Serves one service until stdin ends, which it does with the process that started this one. Says where.
pub(crate) fn serve(name: &str) {
    let service = SERVICES.iter().find(|service| service.name == name).expect("a service of that name");
    // As `#[tokio::main]` has it: a worker for each core.
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        println!("{}", listener.local_addr().expect("an address"));
        let layered = (service.build)();
        let router = layered.router.clone();
        tokio::spawn(async { axum::serve(listener, router).await.expect("a server") });
        let ended = tokio::task::spawn_blocking(|| io::stdin().read_to_end(&mut Vec::new()));
        let _ = ended.await;
        println!("{}", (layered.counted)().map_or("-".to_owned(), |counted| counted.to_string()));
    });
    runtime.shutdown_background();
}

pub(crate) fn measure() -> String {
    let title = format!("### A service under load, {ROUNDS} rounds of {SECONDS} s, {CONNECTIONS} connections\n\n");
    let Some(wrk) = find() else {
        return title + "Not measured: there is no target/stack/bin/wrk, which tests/stack/install-wrk makes.\n";
    };
    let mut servers: Vec<Server> = SERVICES.iter().map(|service| Server::start(service.name)).collect();
    for round in 0..ROUNDS + WARM_UP {
        for server in &mut servers {
            let ran = server.ask(&wrk);
            if round >= WARM_UP {
                server.runs.push(ran);
            }
        }
    }
    let mut table =
        title + "| service | requests/s | loss % | CPU µs a request | added % |\n|---|---:|---:|---:|---:|\n";
    let bare = servers[0].runs.clone();
    for server in servers {
        let of = |value: fn(&Ran) -> f64| median(&server.runs.iter().map(value).collect::<Vec<_>>());
        // What else the machine does falls on all of one round alike.
        let against = |value: fn(&Ran) -> f64| {
            let ratios: Vec<f64> = server.runs.iter().zip(&bare).map(|(own, bare)| value(own) / value(bare)).collect();
            (median(&ratios) - 1.0) * 100.0
        };
        let _ = writeln!(
            table,
            "| {} | {:.0} | {:.1} | {:.2} | {:.1} |",
            server.name,
            of(|ran| ran.per_second),
            -against(|ran| ran.per_second),
            of(|ran| ran.cpu_of_one) * 1e6,
            against(|ran| ran.cpu_of_one),
        );
        server.stop();
    }
    table
}

/// What one run of wrk gave.
#[derive(Clone, Copy)]
struct Ran {
    per_second: f64,
    /// Seconds of processor time that the service took for each request, its share of the kernel's included.
    cpu_of_one: f64,
}

struct Server {
    name: &'static str,
    child: Child,
    says: BufReader<std::process::ChildStdout>,
    address: String,
    asked: u64,
    runs: Vec<Ran>,
}

impl Server {
    fn start(name: &'static str) -> Self {
        let mut child = Command::new(env::current_exe().expect("this program"))
            .args(["http", "--serve", name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program runs");
        let mut says = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut said = String::new();
        says.read_line(&mut said).expect("a line");
        Self { name, child, says, address: said.trim().to_owned(), asked: 0, runs: Vec::new() }
    }

    fn ask(&mut self, wrk: &Path) -> Ran {
        let before = self.cpu();
        let output = Command::new(wrk)
            .args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{SECONDS}s"), "--timeout", "5s"])
            .arg(format!("http://{}/users/17", self.address))
            .output()
            .expect("wrk runs");
        let cpu = self.cpu() - before;
        let said = String::from_utf8_lossy(&output.stdout);
        let word_before = |what: &str| {
            let line = said.lines().find(|line| line.contains(what)).expect("wrk says how it went");
            line.split_whitespace().next().and_then(|word| word.parse::<u64>().ok()).unwrap_or_default()
        };
        assert!(!said.contains("Non-2xx") && !said.contains("Socket errors"), "{}: {said}", self.name);
        let requests = word_before(" requests in ");
        self.asked += requests;
        let per_second = said.lines().find_map(|line| line.strip_prefix("Requests/sec:")).map(str::trim);
        let per_second = per_second.and_then(|text| text.parse().ok()).expect("requests a second");
        Ran { per_second, cpu_of_one: cpu / requests as f64 }
    }

    /// Seconds of processor time that its threads have taken.
    fn cpu(&self) -> f64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("a process that runs, on Linux");
        let nanos = tasks.map(|task| {
            let said =
                fs::read_to_string(task.expect("a thread").path().join("schedstat")).expect("scheduler statistics");
            said.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok()).expect("nanoseconds")
        });
        nanos.sum::<u64>() as f64 / 1e9
    }

    /// Ends it, and checks that it has counted what was asked. At the end of each run, wrk leaves without the answers to
    /// its last requests, at most one for each connection.
    fn stop(mut self) {
        drop(self.child.stdin.take());
        let mut said = String::new();
        self.says.read_line(&mut said).expect("a line");
        let _ = self.child.wait();
        let runs = (ROUNDS + WARM_UP) as u64;
        if let Ok(counted) = said.trim().parse::<u64>() {
            let possible = self.asked..=self.asked + runs * u64::from(CONNECTIONS);
            assert!(possible.contains(&counted), "{}: {counted} were counted, {} asked", self.name, self.asked);
        } else {
            assert_eq!(said.trim(), "-", "{}", self.name);
        }
    }
}

fn find() -> Option<PathBuf> {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(target).join("stack/bin/wrk");
    program.is_file().then_some(program)
}
