//! The Prometheus that tests/stack/install puts into target/stack.

use std::env;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

/// It discovers its targets after five seconds; the machine may be busy.
const UP: Duration = Duration::from_secs(60);

/// After which a scrape is in its database.
const STORED: Duration = Duration::from_secs(2);

pub(super) fn find() -> Option<PathBuf> {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(target).join("stack/bin/prometheus");
    program.is_file().then_some(program)
}

pub(super) struct Prometheus {
    child: Child,
    address: SocketAddr,
    _directory: TempDir,
}

/// The scrapes of a time.
#[derive(Debug)]
pub(super) struct Scrapes {
    pub(super) count: f64,
    /// Those that failed, and those that were due and did not come.
    pub(super) missed: f64,
    /// In seconds.
    pub(super) slowest: f64,
}

impl Prometheus {
    /// Starts one that scrapes `target` every second.
    pub(super) async fn start(program: &Path, target: SocketAddr) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let config = directory.path().join("prometheus.yml");
        let text = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\nscrape_configs: [{{ job_name: endpoint, static_configs: [{{ targets: [\"{target}\"] }}] }}]\n"
        );
        fs::write(&config, text).expect("a file");
        let log = directory.path().join("log");
        let child = Command::new(program)
            .arg("--config.file")
            .arg(&config)
            .arg("--storage.tsdb.path")
            .arg(directory.path().join("data"))
            // The system chooses a port, and the log says which.
            .arg("--web.listen-address=127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("a file"))
            .spawn()
            .expect("a program that runs");
        // From here on it ends with this.
        let mut prometheus = Self { child, address: target, _directory: directory };
        let end = Instant::now() + UP;
        loop {
            let log = fs::read_to_string(&log).unwrap_or_default();
            // The line's end too: half a port is another port.
            let line =
                log.split_inclusive('\n').find(|line| line.contains(r#"msg="Listening on""#) && line.ends_with('\n'));
            let address =
                line.and_then(|line| line.split_whitespace().find_map(|field| field.strip_prefix("address=")));
            if let Some(address) = address {
                prometheus.address = address.parse().expect("an address");
                return prometheus;
            }
            assert!(Instant::now() < end, "prometheus does not start: {log}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    pub(super) async fn wait_until_up(&self) {
        let end = Instant::now() + UP;
        while self.query("up == 1", now()).await != Some(1.0) {
            assert!(Instant::now() < end, "prometheus does not scrape the endpoint");
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// The scrapes of the time that has just ended.
    pub(super) async fn scrapes_within(&self, duration: Duration) -> Scrapes {
        let end = now();
        sleep(STORED).await;
        let seconds = duration.as_secs();
        let query = async |function: &str, series: &str| {
            self.query(&format!("{function}({series}[{seconds}s])"), end).await.unwrap_or(f64::NAN)
        };
        let answered = query("sum_over_time", "up").await;
        Scrapes {
            count: query("count_over_time", "up").await,
            missed: seconds as f64 - answered,
            slowest: query("max_over_time", "scrape_duration_seconds").await,
        }
    }

    /// The value of the only series that the query finds.
    async fn query(&self, query: &str, time: f64) -> Option<f64> {
        let query: String = form(query);
        let mut stream = TcpStream::connect(self.address).await.ok()?;
        let request =
            format!("GET /api/v1/query?query={query}&time={time:.3} HTTP/1.0\r\nHost: {}\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let answer: Value = serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()?;
        answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Nobody reads its data again.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// As it stands in a query of HTTP.
fn form(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => escaped.push(byte.into()),
            _ => escaped += &format!("%{byte:02X}"),
        }
    }
    escaped
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64()
}
