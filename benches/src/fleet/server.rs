//! The servers that collect and store: programs of target/stack/bin, asked by HTTP and watched in /proc.

use std::env;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// The machine may be busy.
const READY: Duration = Duration::from_secs(60);

/// A question about 200,000 series takes a while.
const ANSWER: Duration = Duration::from_secs(60);

/// What /proc counts processor time in: a hundredth of a second, on every Linux that a program can ask.
const TICKS: f64 = 100.0;

/// The folder of the programs, if all of them are there.
pub(super) fn programs(names: &[&str]) -> Option<PathBuf> {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let folder = repository().join(target).join("stack/bin");
    names.iter().all(|name| folder.join(name).is_file()).then_some(folder)
}

pub(super) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("benches/ is in the repository")
}

/// A running server. It ends when this is dropped.
pub(super) struct Server {
    child: Child,
    pub(super) address: SocketAddr,
}

impl Server {
    /// Starts it, and waits until its log says where it listens.
    pub(super) fn start(command: &mut Command, log: &Path, listens: fn(&str) -> Option<&str>) -> Self {
        let file = File::create(log).expect("a file");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let child = command.spawn().expect("a program that runs");
        // From here on it ends with this.
        let mut server = Self { child, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let end = Instant::now() + READY;
        loop {
            let said = fs::read_to_string(log).unwrap_or_default();
            // Whole lines: half a port is another port.
            let said = &said[..said.rfind('\n').map_or(0, |end| end + 1)];
            if let Some(address) = listens(said) {
                server.address = address.parse().expect("an address");
                return server;
            }
            let has_ended = server.child.try_wait().expect("our own child").is_some();
            assert!(!has_ended && Instant::now() < end, "{:?} does not start: {said}", command.get_program());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The processor time that it has used, in seconds.
    pub(super) fn cpu(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("a process that runs");
        // The name, in brackets, may have spaces. Of what follows it, the 12th and 13th are the times.
        let fields = stat.rsplit_once(") ").expect("a line of Linux").1.split(' ').skip(11).take(2);
        fields.map(|ticks| ticks.parse::<f64>().expect("a number") / TICKS).sum()
    }

    /// In bytes.
    pub(super) fn resident(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("a process that runs");
        kilobytes(&status, "VmRSS:") * 1024
    }

    /// The body of the answer to `GET path`.
    pub(super) fn get(&self, path: &str) -> String {
        String::from_utf8(get(&self.address.to_string(), path, "")).expect("text")
    }

    /// The sum of this metric's samples whose labels hold this.
    pub(super) fn metric(&self, name: &str, labels: &str) -> f64 {
        metric(self.address, name, labels)
    }

    /// All samples that the range selector finds, of all series.
    pub(super) fn samples(&self, selector: &str) -> Vec<f64> {
        let answer: Value =
            serde_json::from_str(&self.get(&format!("/api/v1/query?query={}", form(selector)))).expect("JSON");
        let series = answer["data"]["result"].as_array().expect("a matrix");
        let values = series.iter().flat_map(|series| series["values"].as_array().expect("samples"));
        values.map(|value| value[1].as_str().and_then(|value| value.parse().ok()).expect("a number")).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nobody reads its data again.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The sum of the samples of a metric, on the page of this address, whose labels hold this.
pub(super) fn metric(address: SocketAddr, name: &str, labels: &str) -> f64 {
    let page = get(&address.to_string(), "/metrics", "");
    let page = String::from_utf8(page).expect("text");
    let samples = page.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let rest = series.strip_prefix(name)?;
        ((rest.is_empty() || rest.starts_with('{')) && rest.contains(labels)).then(|| value.parse::<f64>().ok())?
    });
    samples.sum()
}

/// The body of the answer to a scrape or a question. Not by HTTP/1.1, so that it has no chunks.
pub(super) fn get(address: &str, path: &str, headers: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("a server that listens");
    stream.set_read_timeout(Some(ANSWER)).expect("a time");
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).expect("a server that reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("a whole answer");
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let is_good = answer.starts_with(b"HTTP/1.0 20") || answer.starts_with(b"HTTP/1.1 20");
    assert!(is_good, "{path}: {}", String::from_utf8_lossy(&answer));
    answer.split_off(head + 4)
}

/// A number of kilobytes in what Linux says about a process.
pub(super) fn kilobytes(status: &str, name: &str) -> usize {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line of Linux");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// As it stands in a query of HTTP.
fn form(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
