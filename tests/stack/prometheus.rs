//! A real Prometheus for the end-to-end tests: found, started on a port of its own, asked, and stopped.
//!
//! ```ignore
//! let Some(bin) = prometheus::require() else { return };
//! let prometheus = Prometheus::start(&bin, &dir, &[("shop", endpoint.local_addr())], "200ms");
//! prometheus.wait_until_up("shop", Duration::from_secs(20));
//! assert_eq!(prometheus.query("orders_total")[0].value, 1.0);
//! ```
//!
//! `tests/stack/install` puts Prometheus and promtool in place. Whatever goes wrong here panics, as the end of the test
//! that asked; whatever waits has a deadline. Only loopback is used.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test helper reports to the person who runs the tests, and fails by panicking"
)]

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::iter;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

// Prometheus is ready within 0.1 s on an idle machine. The rest is for a CI machine that is compiling as well.
const READY_DEADLINE: Duration = Duration::from_secs(30);

// Prometheus answers a query over a few seconds of data in milliseconds.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);

// promtool and the parser take a few seconds at most.
const PROCESS_DEADLINE: Duration = Duration::from_secs(60);

// What happens within milliseconds, a process starting or ending, is looked at often.
const PROCESS_POLL: Duration = Duration::from_millis(10);

// What depends on a scrape takes at least one scrape interval.
const QUERY_POLL: Duration = Duration::from_millis(200);

// What ended Prometheus is in its last few lines; a start that went well takes twenty.
const LOG_TAIL_LINES: usize = 12;

const BIN_VARIABLE: &str = "BAROGRAPH_STACK_BIN";

/// The directory that holds both prometheus and promtool.
///
/// It is the one that `BAROGRAPH_STACK_BIN` names; without that variable, the one that `tests/stack/install` fills, or
/// else the first on `PATH`.
pub(crate) fn locate() -> Option<PathBuf> {
    let holds_both = |dir: &PathBuf| dir.join("prometheus").is_file() && dir.join("promtool").is_file();
    if let Some(named) = variable(BIN_VARIABLE) {
        // Whoever names a directory means that one. Another would test another version in silence.
        return Some(PathBuf::from(named)).filter(holds_both);
    }
    let path = variable("PATH").unwrap_or_default();
    iter::once(installed("bin")).chain(env::split_paths(&path)).find(holds_both)
}

/// Where the installers put what the end-to-end tests need.
pub(crate) fn installed(what: &str) -> PathBuf {
    let target = variable("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    Path::new(env!("CARGO_MANIFEST_DIR")).join(target).join("stack").join(what)
}

/// Like [`locate`], but says on stderr that the test is skipped when there is none.
///
/// # Panics
///
/// With `CI=true`, where a test that is skipped in silence would pass for one that ran.
pub(crate) fn require() -> Option<PathBuf> {
    let bin = locate();
    if bin.is_none() {
        let reason = match variable(BIN_VARIABLE) {
            Some(named) => format!("{BIN_VARIABLE}={} lacks prometheus or promtool", Path::new(&named).display()),
            None => "prometheus and promtool are neither installed for the tests nor on PATH".to_owned(),
        };
        skip(&reason, "tests/stack/install");
    }
    bin
}

/// Says on stderr that the test is skipped, why, and what would help.
///
/// # Panics
///
/// With `CI=true`.
pub(crate) fn skip(reason: &str, installer: &str) {
    assert!(env::var("CI").as_deref() != Ok("true"), "{reason}: run `{installer}` first");
    let test = thread::current().name().unwrap_or("a stack test").to_owned();
    // Past the test harness, which hides what a passing test prints with `eprintln!`.
    let _ = writeln!(io::stderr(), "skipped {test}: {reason}; `{installer}` helps");
}

/// What Prometheus scrapes under one name, and how it asks for it.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    name: String,
    target: SocketAddr,
    settings: Map<String, Value>,
}

impl Job {
    pub(crate) fn new(name: impl Into<String>, target: SocketAddr) -> Self {
        Self { name: name.into(), target, settings: Map::new() }
    }

    /// Asks for this format only: `PrometheusProto`, `OpenMetricsText1.0.0`, `PrometheusText0.0.4` and their like.
    pub(crate) fn asking_for(self, protocol: &str) -> Self {
        self.with("scrape_protocols", json!([protocol]))
    }

    /// Asks for names escaped so: `allow-utf-8`, `underscores`, `dots` or `values`.
    pub(crate) fn escaping(self, scheme: &str) -> Self {
        self.with("metric_name_escaping_scheme", json!(scheme))
    }

    fn with(mut self, setting: &str, value: Value) -> Self {
        self.settings.insert(setting.to_owned(), value);
        self
    }
}

impl From<&(&str, SocketAddr)> for Job {
    fn from((name, target): &(&str, SocketAddr)) -> Self {
        Self::new(*name, *target)
    }
}

/// A running Prometheus. It ends when this is dropped, and a test that panics shows the end of its log.
#[must_use = "Prometheus ends when this is dropped"]
pub(crate) struct Prometheus {
    address: SocketAddr,
    _server: Server,
}

impl Prometheus {
    /// Starts Prometheus as it is by default: see [`start_with`](Self::start_with).
    #[track_caller]
    pub(crate) fn start(bin: &Path, dir: &Path, targets: &[(&str, SocketAddr)], scrape_interval: &str) -> Self {
        let jobs: Vec<Job> = targets.iter().map(Job::from).collect();
        Self::start_with(bin, dir, &jobs, scrape_interval, &[])
    }

    /// Starts Prometheus with these features, which scrapes each target as its job says, and waits until it answers.
    ///
    /// Its configuration, log and data go into `dir`. `scrape_interval` is a number with `ms`, `s` or `m`. The first
    /// scrape comes about 5 s after the start, however short the interval: Prometheus' target discovery is throttled.
    #[track_caller]
    pub(crate) fn start_with(bin: &Path, dir: &Path, jobs: &[Job], scrape_interval: &str, features: &[&str]) -> Self {
        fs::create_dir_all(dir).expect("the directory for Prometheus can be made");
        let config_path = dir.join("prometheus.yml");
        fs::write(&config_path, configuration(jobs, scrape_interval)).expect("prometheus.yml can be written");
        let mut server = Server::spawn(bin, &config_path, features, &dir.join("data"), dir.join("prometheus.log"));
        let address = poll(READY_DEADLINE, PROCESS_POLL, || server.ready_address());
        Self { address, _server: server }
    }

    /// The result of an instant query as of now, in the order of the labels.
    #[track_caller]
    pub(crate) fn query(&self, promql: &str) -> Vec<Sample> {
        samples(&self.data(&format!("/api/v1/query?query={}", percent_encoded(promql))))
    }

    /// The native histograms in the result of an instant query; whatever else is there panics.
    #[track_caller]
    pub(crate) fn query_histograms(&self, promql: &str) -> Vec<NativeHistogram> {
        let data = self.data(&format!("/api/v1/query?query={}", percent_encoded(promql)));
        data["result"].as_array().expect("a vector is a list").iter().map(native_histogram).collect()
    }

    /// The samples of each series in the result of a range selector: seconds since 1970 and value.
    #[track_caller]
    pub(crate) fn query_matrix(&self, selector: &str) -> Vec<Vec<(f64, f64)>> {
        let data = self.data(&format!("/api/v1/query?query={}", percent_encoded(selector)));
        assert_eq!(data["resultType"], "matrix", "{selector} selects a range");
        let point = |point: &Value| (point[0].as_f64().expect("a time is a number"), number(point));
        let points =
            |series: &Value| series["values"].as_array().map_or(&[][..], Vec::as_slice).iter().map(point).collect();
        let series = data["result"].as_array().expect("a matrix is a list");
        series.iter().map(points).collect()
    }

    /// Job, health (`up`, `down`, `unknown`) and last scrape error of every target. Empty until discovery has run.
    #[track_caller]
    pub(crate) fn target_health(&self) -> Vec<(String, String, String)> {
        let data = self.data("/api/v1/targets?state=active");
        let targets = data["activeTargets"].as_array().expect("activeTargets is a list");
        targets
            .iter()
            .map(|target| (text(&target["labels"]["job"]), text(&target["health"]), text(&target["lastError"])))
            .collect()
    }

    /// Waits until the job has targets and the last scrape of each has worked.
    #[track_caller]
    pub(crate) fn wait_until_up(&self, job: &str, deadline: Duration) {
        poll(deadline, QUERY_POLL, || {
            let health = self.target_health();
            let mut of_job = health.iter().filter(|(name, ..)| name == job).peekable();
            let is_up = of_job.peek().is_some() && of_job.all(|(_, health, _)| health == "up");
            if is_up { Ok(()) } else { Err(format!("job {job} is not up; targets: {health:?}")) }
        });
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

    #[track_caller]
    fn data(&self, target: &str) -> Value {
        let response = match get(self.address, target, "") {
            Ok(response) => response,
            Err(error) => panic!("GET {target}: {error}"),
        };
        let body = String::from_utf8_lossy(&response.body);
        match serde_json::from_str::<Value>(&body) {
            Ok(mut answer) if response.status == 200 && answer["status"] == "success" => answer["data"].take(),
            _ => panic!("GET {target}: Prometheus answered {} with {body}", response.status),
        }
    }
}

/// One series of an instant query's result.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

/// One series of an instant query's result that is a native histogram.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NativeHistogram {
    pub(crate) count: f64,
    pub(crate) sum: f64,
    /// Lower bound, upper bound and count, ascending, without those that are empty.
    pub(crate) buckets: Vec<(f64, f64, f64)>,
}

/// Runs `promtool check metrics` over an exposition in Prometheus' text format; the error is its exit code and output.
///
/// promtool reads neither OpenMetrics nor UTF-8 names, and ends with 1 for what it cannot parse, with 3 for a lint. Its
/// time grows with the square of a family's series: 2,000 take seconds, 10,000 more than the deadline.
pub(crate) fn promtool_check_metrics(bin: &Path, exposition: &str) -> Result<(), String> {
    match run(Command::new(bin.join("promtool")).args(["check", "metrics"]), exposition.as_bytes()) {
        (Some(0), _) => Ok(()),
        (Some(code), output) => Err(format!("promtool ended with exit code {code}:\n{output}")),
        (None, output) => Err(format!("promtool was killed, by a signal or after {PROCESS_DEADLINE:?}:\n{output}")),
    }
}

/// Runs a process to its end, with this on its stdin: its exit code, none if it was killed, and all that it printed.
#[track_caller]
pub(crate) fn run(command: &mut Command, input: &[u8]) -> (Option<i32>, String) {
    let (output, writer) = io::pipe().expect("a pipe can be made");
    command.stdin(Stdio::piped()).stdout(writer.try_clone().expect("a pipe can be shared")).stderr(writer);
    let mut child = command.spawn().expect("the process can be started");
    // The command holds our ends of the pipe, which would keep it open.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut stdin = child.stdin.take().expect("stdin is piped");

    // A pipe that fills up stops the process, so both are served while it runs.
    thread::scope(|scope| {
        // A process may stop reading at the first line it cannot parse. What it thinks of that is in its output.
        scope.spawn(move || stdin.write_all(input).ok());
        let output = scope.spawn(move || io::read_to_string(output).unwrap_or_default());
        let code = wait_or_kill(&mut child, PROCESS_DEADLINE).expect("a child can be waited for");
        (code, output.join().unwrap_or_default())
    })
}

/// The process and its log.
struct Server {
    child: Child,
    log_path: PathBuf,
}

impl Server {
    #[track_caller]
    fn spawn(bin: &Path, config_path: &Path, features: &[&str], data_path: &Path, log_path: PathBuf) -> Self {
        let log = File::create(&log_path).expect("the log of Prometheus can be made");
        let child = Command::new(bin.join("prometheus"))
            .arg("--config.file")
            .arg(config_path)
            .arg("--storage.tsdb.path")
            .arg(data_path)
            // The system chooses a free port and Prometheus logs it. A port chosen here could be taken by then.
            .arg("--web.listen-address=127.0.0.1:0")
            .args(features.iter().map(|feature| format!("--enable-feature={feature}")))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log can be shared"))
            .stderr(log)
            .spawn()
            .expect("prometheus can be started");
        Self { child, log_path }
    }

    /// The address, once Prometheus listens there and says that it is ready.
    #[track_caller]
    fn ready_address(&mut self) -> Result<SocketAddr, String> {
        if let Some(status) = self.child.try_wait().expect("prometheus can be waited for") {
            panic!("prometheus ended before it was ready: {status}");
        }
        let address = listening_address(&self.log()).ok_or("prometheus has not logged where it listens")?;
        match get(address, "/-/ready", "") {
            Ok(Response { status: 200, .. }) => Ok(address),
            Ok(Response { status, .. }) => Err(format!("/-/ready answered {status}")),
            Err(error) => Err(format!("/-/ready: {error}")),
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log_path).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nobody reads the data again, so Prometheus is not asked to close it. Failing here means that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(LOG_TAIL_LINES)..];
            eprintln!("the end of {}:\n{}", self.log_path.display(), tail.join("\n"));
        }
    }
}

/// Finds the address in the line `... msg="Listening on" component=web address=127.0.0.1:36393`.
///
/// The line `Start listening for connections` before it repeats the flag, port 0 and all.
fn listening_address(log: &str) -> Option<SocketAddr> {
    // The log is read while it is written, and half a port number is another port: only whole lines count.
    let whole_lines = &log[..=log.rfind('\n')?];
    let line = whole_lines.lines().find(|line| line.contains(r#"msg="Listening on""#))?;
    line.split_whitespace().find_map(|field| field.strip_prefix("address="))?.parse().ok()
}

/// The text of prometheus.yml. It is JSON, which is YAML too and whose writer knows how to quote.
#[track_caller]
fn configuration(jobs: &[Job], scrape_interval: &str) -> String {
    // A job's name may stand only once, with all its targets.
    let mut scrape_configs = BTreeMap::<&str, Map<String, Value>>::new();
    for Job { name, target, settings } in jobs {
        let config = scrape_configs.entry(name).or_insert_with(|| settings.clone());
        config.insert("job_name".to_owned(), json!(name));
        let targets = config.entry("static_configs").or_insert_with(|| json!([{ "targets": [] }]));
        targets[0]["targets"].as_array_mut().expect("it was made above").push(json!(target.to_string()));
    }
    let configuration = json!({
        "global": { "scrape_interval": scrape_interval, "scrape_timeout": scrape_timeout(scrape_interval) },
        "scrape_configs": scrape_configs.values().collect::<Vec<_>>(),
    });
    format!("{configuration:#}\n")
}

/// Nine tenths of the interval: Prometheus refuses a timeout that is longer than the interval.
#[track_caller]
fn scrape_timeout(scrape_interval: &str) -> String {
    let digits = scrape_interval.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match &scrape_interval[digits.len()..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => panic!("the scrape interval {scrape_interval:?} is not a number with ms, s or m"),
    };
    let Ok(number) = digits.parse::<u64>() else { panic!("the scrape interval {scrape_interval:?} has no number") };
    format!("{}ms", number * unit * 9 / 10)
}

#[track_caller]
fn samples(data: &Value) -> Vec<Sample> {
    let mut samples: Vec<Sample> = match (data["resultType"].as_str(), &data["result"]) {
        (Some("vector"), Value::Array(series)) => series.iter().map(sample).collect(),
        (Some("scalar"), value) => vec![Sample { labels: BTreeMap::new(), value: number(value) }],
        _ => panic!("neither a vector nor a scalar: {data}"),
    };
    // Prometheus promises no order.
    samples.sort_by(|a, b| a.labels.cmp(&b.labels));
    samples
}

#[track_caller]
fn sample(series: &Value) -> Sample {
    Sample { labels: labels(series), value: number(&series["value"]) }
}

#[track_caller]
fn labels(series: &Value) -> BTreeMap<String, String> {
    let labels = series["metric"].as_object().expect("a series has labels");
    labels.iter().map(|(name, value)| (name.clone(), text(value))).collect()
}

/// Reads `[1700000000.1, {"count": "1", "sum": "2", "buckets": [[0, "1", "2", "1"]]}]`, where a bucket begins with which
/// of its bounds belong to it.
#[track_caller]
fn native_histogram(series: &Value) -> NativeHistogram {
    let histogram = &series["histogram"][1];
    let number = |value: &Value| match value.as_str().map(str::parse) {
        Some(Ok(number)) => number,
        _ => panic!("not a native histogram: {series}"),
    };
    let bucket = |bucket: &Value| (number(&bucket[1]), number(&bucket[2]), number(&bucket[3]));
    NativeHistogram {
        count: number(&histogram["count"]),
        sum: number(&histogram["sum"]),
        buckets: histogram["buckets"].as_array().map_or(&[][..], Vec::as_slice).iter().map(bucket).collect(),
    }
}

/// Reads `[1700000000.1, "+Inf"]`; numbers are strings there, because JSON has neither infinity nor NaN.
#[track_caller]
fn number(value: &Value) -> f64 {
    match value[1].as_str().map(str::parse) {
        Some(Ok(number)) => number,
        _ => panic!("not a plain number, perhaps a native histogram: {value}"),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

struct Response {
    status: u16,
    body: Vec<u8>,
}

/// What an endpoint answers to a scraper that accepts this.
#[track_caller]
pub(crate) fn page(address: SocketAddr, accept: &str) -> Vec<u8> {
    match get(address, "/metrics", &format!("Accept: {accept}\r\n")) {
        Ok(Response { status: 200, body }) => body,
        Ok(Response { status, body }) => panic!("/metrics answered {status}: {}", String::from_utf8_lossy(&body)),
        Err(error) => panic!("/metrics: {error}"),
    }
}

fn get(address: SocketAddr, target: &str, headers: &str) -> io::Result<Response> {
    let end = Instant::now() + REQUEST_DEADLINE;
    let mut stream = TcpStream::connect_timeout(&address, REQUEST_DEADLINE)?;
    stream.set_write_timeout(Some(REQUEST_DEADLINE))?;
    // Formatted first: `write!` would send each piece by itself, and the second waits for the first to be acknowledged.
    let request = format!("GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        // The time left, not the whole: a peer that drips bytes would otherwise never be given up.
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            // This is how Unix reports a read timeout; the check above says it more clearly.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    parse_response(&bytes).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "malformed or cut-off response"))
}

fn parse_response(bytes: &[u8]) -> Option<Response> {
    let head_length = find(bytes, b"\r\n\r\n")?;
    let mut head = str::from_utf8(&bytes[..head_length]).ok()?.split("\r\n");
    let body = &bytes[head_length + 4..];
    let status = head.next()?.split(' ').nth(1)?.parse().ok()?;
    let is_chunked = head.filter_map(|line| line.split_once(':')).any(|(name, value)| {
        name.eq_ignore_ascii_case("transfer-encoding") && value.trim().eq_ignore_ascii_case("chunked")
    });
    // Without chunks the body ends with the connection. That JSON is whole, its parser will see.
    let body = if is_chunked { unchunked(body)? } else { body.to_vec() };
    Some(Response { status, body })
}

/// Joins the chunks of a body; none if the last chunk, which is empty, is missing.
fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line_length = find(rest, b"\r\n")?;
        // A chunk's length may be followed by extensions, which mean nothing to us.
        let length = str::from_utf8(&rest[..line_length]).ok()?.split(';').next()?;
        let length = usize::from_str_radix(length.trim(), 16).ok()?;
        if length == 0 {
            return Some(body);
        }
        let chunk = rest.get(line_length + 2..)?;
        body.extend_from_slice(chunk.get(..length)?);
        rest = chunk[length..].strip_prefix(b"\r\n")?;
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// Repeats the attempt until it succeeds. At the deadline panics with what the last one said.
#[track_caller]
fn poll<T>(deadline: Duration, interval: Duration, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + deadline;
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(reason) if Instant::now() >= end => panic!("gave up after {deadline:?}: {reason}"),
            Err(_) => thread::sleep(interval),
        }
    }
}

/// The exit code; none if a signal ended the process, ours at the deadline included.
fn wait_or_kill(child: &mut Child, deadline: Duration) -> io::Result<Option<i32>> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.code());
        }
        if Instant::now() >= end {
            child.kill()?;
        }
        thread::sleep(PROCESS_POLL);
    }
}

/// A variable that is set to nothing counts as not set, as it does for the shell's `${NAME:-...}` in the installer.
fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunked_body_is_joined_and_its_extensions_and_trailers_are_ignored() {
        let response = parse_response(
            b"HTTP/1.1 200 OK\r\nTransfer-encoding: Chunked\r\n\r\n4;x=y\r\nbaro\r\nA\r\ngraph\r\n012\r\n0\r\nT: u\r\n\r\n",
        );
        let response = response.expect("it is well-formed");
        assert_eq!((response.status, response.body.as_slice()), (200, b"barograph\r\n012".as_slice()));
    }

    #[test]
    fn a_response_that_was_cut_off_is_none() {
        assert!(parse_response(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbaro\r\n").is_none());
        assert!(parse_response(b"HTTP/1.1 200 OK\r\nTransfer-Enc").is_none());
    }

    #[test]
    fn a_query_is_encoded_byte_by_byte() {
        assert_eq!(
            percent_encoded(r#"rate(a_b{c="é"}[1m]) + 1"#),
            "rate%28a_b%7Bc%3D%22%C3%A9%22%7D%5B1m%5D%29%20%2B%201"
        );
    }

    #[test]
    fn the_scrape_timeout_is_shorter_than_the_interval() {
        assert_eq!(
            [scrape_timeout("200ms"), scrape_timeout("1s"), scrape_timeout("1m")],
            ["180ms", "900ms", "54000ms"]
        );
    }

    #[test]
    fn the_address_is_read_from_a_whole_line_only() {
        let log = "msg=\"Start listening for connections\" address=127.0.0.1:0\nmsg=\"Listening on\" address=127.0.0.1:36393\n";
        assert_eq!(listening_address(log), Some(SocketAddr::from(([127, 0, 0, 1], 36393))));
        assert_eq!(listening_address(&log[..log.len() - 2]), None);
    }
}
