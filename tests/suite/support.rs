//! What the tests share: pipelines, requests, golden files, waiting.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use barograph::{Telemetry, TelemetryBuilder};

/// How long a test waits for what should happen at once.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

pub(crate) fn builder() -> TelemetryBuilder {
    Telemetry::builder("suite").with_address("127.0.0.1:0")
}

/// A pipeline without a socket.
pub(crate) fn telemetry() -> Telemetry {
    Telemetry::builder("suite").without_endpoint().start().unwrap()
}

/// The value of one series of the pipeline's page, written as the page writes it up to the value. Scope labels are
/// taken out first, so that a test says only what it is about.
pub(crate) fn value(telemetry: &Telemetry, series: &str) -> Option<f64> {
    find(&telemetry.scrape().unwrap(), series)
}

/// Like [`value`], on a page that is there already.
pub(crate) fn find(page: &str, series: &str) -> Option<f64> {
    page.lines().map(without_scope).find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

fn without_scope(line: &str) -> String {
    let Some((name, rest)) = line.split_once('{') else {
        return line.to_owned();
    };
    let Some((labels, value)) = rest.rsplit_once("} ") else {
        return line.to_owned();
    };
    let own: Vec<&str> = labels.split(',').filter(|label| !label.starts_with("otel_scope_")).collect();
    if own.is_empty() { format!("{name} {value}") } else { format!("{name}{{{}}} {value}", own.join(",")) }
}

/// The lines of a page that belong to the families whose names begin with `prefix`.
pub(crate) fn families(page: &str, prefix: &str) -> String {
    let belongs = |line: &&str| {
        let name = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE ")).unwrap_or(line);
        name.starts_with(prefix)
    };
    page.lines().filter(belongs).flat_map(|line| [line, "\n"]).collect()
}

/// Compares a whole page with `tests/golden/<case>.txt`.
pub(crate) fn assert_golden(case: &str, page: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{case}.txt"));
    if std::env::var_os("BAROGRAPH_BLESS").is_some() {
        std::fs::write(&path, page).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    if golden != page {
        let differing = golden.lines().zip(page.lines()).position(|(a, b)| a != b);
        let line = differing.unwrap_or_else(|| golden.lines().count().min(page.lines().count()));
        panic!(
            "{} differs from line {} on\n  golden: {}\n  page:   {}\n\nthe whole page:\n{page}",
            path.display(),
            line + 1,
            golden.lines().nth(line).unwrap_or("(ends)"),
            page.lines().nth(line).unwrap_or("(ends)"),
        );
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// Sends one request and reads the answer to its end.
pub(crate) fn request(address: SocketAddr, method: &str, path: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

pub(crate) fn get(address: SocketAddr, path: &str) -> Answer {
    request(address, "GET", path)
}

/// Waits until `condition` holds; fails with `what` at the deadline.
pub(crate) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Keeps the messages of expected panics out of the test's output. They are counted and asserted where they matter.
pub(crate) fn without_panic_messages<T>(work: impl FnOnce() -> T) -> T {
    use std::sync::Once;
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let expected = info.payload().downcast_ref::<&str>().is_some_and(|text| text.starts_with("expected"));
            if !expected {
                loud(info);
            }
        }));
    });
    work()
}
