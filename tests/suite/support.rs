//! What the tests share: pipelines, requests, golden files, waiting.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use barograph::testing::TestTelemetry;
use barograph::{Telemetry, TelemetryBuilder};

/// How long a test waits for what should happen at once.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// A pipeline that says nothing about itself: what it says is another thing in every scrape.
pub(crate) fn builder() -> TelemetryBuilder {
    talking_builder().without_self_metrics()
}

/// The same without a socket.
pub(crate) fn telemetry() -> Telemetry {
    builder().without_endpoint().start().unwrap()
}

/// A pipeline with the metrics that it has about itself.
pub(crate) fn talking_builder() -> TelemetryBuilder {
    Telemetry::builder("suite").with_address("127.0.0.1:0")
}

/// The same without a socket, to be asked.
pub(crate) fn talking_telemetry() -> TestTelemetry {
    talking_builder().without_endpoint().start().unwrap().into()
}

/// The value of one series of a page that came from somewhere, written as the page writes it up to the value. Scope labels
/// are taken out first, so that a test says only what it is about.
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
#[track_caller]
pub(crate) fn assert_golden(case: &str, page: &str) {
    barograph::testing::assert_golden(Path::new("tests/golden").join(format!("{case}.txt")), page);
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) bytes: Vec<u8>,
    /// The bytes as text, as far as they are any.
    pub(crate) body: String,
}

impl Answer {
    /// What a connection said until it was closed.
    pub(crate) fn parse(mut answer: Vec<u8>, has_body: bool) -> Self {
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
        let bytes = answer.split_off(end + 4);
        let is_chunked = has_body && head.to_ascii_lowercase().contains("\r\ntransfer-encoding: chunked");
        let bytes = if is_chunked { joined(&bytes) } else { bytes };
        Self { status, head, body: String::from_utf8_lossy(&bytes).into_owned(), bytes }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// Sends one request and reads the answer to its end.
pub(crate) fn request(address: SocketAddr, method: &str, path: &str) -> Answer {
    request_with(address, method, path, &[])
}

/// Like [`request`], with headers. One whose value is empty is not sent.
pub(crate) fn request_with(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let sent = headers.iter().filter(|(_, value)| !value.is_empty());
    let headers: String = sent.map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n{headers}Connection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    Answer::parse(answer, method != "HEAD")
}

/// A body that came in chunks. One that does not end as it should is a failure.
fn joined(mut chunks: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let line = chunks.windows(2).position(|window| window == b"\r\n").unwrap();
        let length = usize::from_str_radix(std::str::from_utf8(&chunks[..line]).unwrap(), 16).unwrap();
        chunks = &chunks[line + 2..];
        if length == 0 {
            return body;
        }
        body.extend_from_slice(&chunks[..length]);
        chunks = &chunks[length + 2..];
    }
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

/// Does something at each of our events: the SDK logs while it holds locks of its own, we do not.
pub(crate) struct OnEvent<F>(pub(crate) F);

impl<F: Fn(&tracing::Event<'_>) + 'static> tracing::Subscriber for OnEvent<F> {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("barograph")
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        (self.0)(event);
    }

    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

static LOGGED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// From now on what is logged is kept, by whatever thread: those that collect and push log as well.
pub(crate) fn keep_logs() {
    struct Text(String);
    impl tracing::field::Visit for Text {
        fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
            if field.name() == "message" {
                self.0 = format!("{value:?}");
            }
        }
    }
    // All tests of the binary share it.
    let _ = tracing::subscriber::set_global_default(OnEvent(|event: &tracing::Event<'_>| {
        let mut text = Text(String::new());
        event.record(&mut text);
        LOGGED.lock().unwrap().push(format!("{} {}", event.metadata().level(), text.0));
    }));
}

/// What was logged that has this text in it, with its level before it.
pub(crate) fn logged(text: &str) -> Vec<String> {
    LOGGED.lock().unwrap().iter().filter(|line| line.contains(text)).cloned().collect()
}
