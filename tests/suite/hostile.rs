//! Bytes that no scraper sends: the endpoint refuses them, closes, or answers as if they were none, never says more than it was
//! asked, and goes on.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use barograph::Telemetry;
use barograph::opentelemetry::KeyValue;

use crate::support::{DEADLINE, builder, find, get, wait_until};

/// What a client sends next on its connection. The connection ends after the answer.
const NEXT: &str = "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// What must never be taken for a request. Its answer would be the page for people.
const SMUGGLED: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

struct Endpoint {
    telemetry: Telemetry,
    address: SocketAddr,
}

/// What a connection said, answer by answer, until it was closed.
#[derive(Debug)]
struct Said {
    statuses: Vec<u16>,
    text: String,
}

impl Endpoint {
    fn start() -> Self {
        let telemetry = builder().start().unwrap();
        let address = telemetry.local_addr().unwrap();
        Self { telemetry, address }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    /// Sends the bytes and what comes [`NEXT`], and reads until the connection is closed.
    #[track_caller]
    fn say(&self, bytes: impl AsRef<[u8]>) -> Said {
        let mut stream = self.connect();
        // It may be closed while there is still something to write.
        let _ = stream.write_all(bytes.as_ref()).and_then(|()| stream.write_all(NEXT.as_bytes()));
        Said::read(&mut stream, &String::from_utf8_lossy(bytes.as_ref()))
    }

    /// What is said is refused or ends the connection, and what comes next is not answered either.
    #[track_caller]
    fn refuses(&self, bytes: impl AsRef<[u8]>) {
        let shown = shown(bytes.as_ref());
        let said = self.say(bytes);
        assert!(matches!(said.statuses[..], [] | [400..=499]), "{shown}\n{said:?}");
        self.goes_on(&shown);
    }

    /// What is said may be answered, but once, and what it carries is never a request.
    #[track_caller]
    fn is_not_misled_by(&self, bytes: impl AsRef<[u8]>) {
        let shown = shown(bytes.as_ref());
        let said = self.say(bytes);
        // The second is what comes next, where the connection goes on.
        assert!(matches!(said.statuses[..], [] | [200 | 400..=499] | [200 | 400..=499, 200]), "{shown}\n{said:?}");
        assert!(!said.text.contains("<h1>"), "{shown}\n{said:?}");
        self.goes_on(&shown);
    }

    /// What is said is answered with this, and if the connection goes on, so is what comes next.
    #[track_caller]
    fn answers(&self, bytes: impl AsRef<[u8]>, status: u16) {
        let shown = shown(bytes.as_ref());
        let said = self.say(bytes);
        let [first, ref rest @ ..] = said.statuses[..] else { panic!("{shown}\n{said:?}") };
        assert!(first == status && matches!(rest, [] | [200]), "{shown}\n{said:?}");
        assert!(!said.text.contains("<h1>"), "{shown}\n{said:?}");
        self.goes_on(&shown);
    }

    #[track_caller]
    fn goes_on(&self, shown: &str) {
        assert_eq!(get(self.address, "/livez").body, "ok\n", "after {shown}");
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // No thread of ours was lost.
            assert!(self.telemetry.scrape().is_ok());
        }
    }
}

impl Said {
    #[track_caller]
    fn read(stream: &mut TcpStream, shown: &str) -> Self {
        let mut bytes = Vec::new();
        if let Err(error) = stream.read_to_end(&mut bytes) {
            // Closed with something unread, which is how much is taken of those who send too much.
            let is_closed = matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe);
            assert!(is_closed, "neither answered nor closed: {error}, {}", shown.get(..200).unwrap_or(shown));
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Self { statuses: statuses(&text), text }
    }
}

/// The statuses of one answer after the other, less those that only announce one. Each body has a length, or comes in chunks.
#[track_caller]
fn statuses(mut text: &str) -> Vec<u16> {
    let mut statuses = Vec::new();
    while !text.is_empty() {
        let status = text.strip_prefix("HTTP/1.1 ").or_else(|| text.strip_prefix("HTTP/1.0 "));
        let status = status.and_then(|rest| rest.get(..3)?.parse().ok());
        let Some(status) = status else { panic!("no answer begins like this: {text}") };
        if status >= 200 {
            statuses.push(status);
        }
        let Some((head, rest)) = text.split_once("\r\n\r\n") else { break };
        let head = head.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        text = match length.and_then(|length| length.parse::<usize>().ok()) {
            Some(length) => rest.get(length..).unwrap_or_default(),
            None if head.contains("transfer-encoding: chunked") => {
                rest.split_once("\r\n0\r\n\r\n").map_or("", |(_, rest)| rest)
            }
            None => rest,
        };
    }
    statuses
}

fn shown(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(300)].escape_ascii().to_string()
}

fn head(headers: &str) -> String {
    format!("GET /livez HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")
}

#[test]
fn a_request_whose_length_can_be_read_in_two_ways_is_never_two_requests() {
    let endpoint = Endpoint::start();
    let length = SMUGGLED.len();
    // Where it is a request, its answer is seen.
    let said = endpoint.say(head("") + SMUGGLED);
    assert!(said.statuses == [200, 200, 200] && said.text.contains("<h1>"), "{said:?}");
    // One length covers what follows, the other leaves it for a request.
    for headers in [
        format!("Content-Length: 0\r\nContent-Length: {length}\r\n"),
        format!("Content-Length: {length}\r\nContent-Length: 0\r\n"),
        format!("Content-Length: 0, {length}\r\n"),
        format!("Content-Length: {length}\r\n Content-Length: 0\r\n"),
        format!("Content-Length : {length}\r\n"),
        format!("Content-Length\t: {length}\r\n"),
        format!("Content-Length: +{length}\r\n"),
        format!("Content-Length: -{length}\r\n"),
        format!("Content-Length: 0x{length:x}\r\n"),
        format!("Content-Length: {length} {length}\r\n"),
        format!("Content-Length: {length}.0\r\n"),
        format!("Content-Length: {length}a\r\n"),
        "Content-Length:\r\n".to_owned(),
        "Content-Length: 99999999999999999999999\r\n".to_owned(),
        "Content-Length: 18446744073709551616\r\n".to_owned(),
    ] {
        endpoint.refuses(head(&headers) + SMUGGLED);
    }
    // By what comes first in these the rest is a request, and for others it is a body.
    for headers in [
        format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", length + 5),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {}\r\n", length + 5),
        format!("Content-Length: {}\r\nTransfer-Encoding: gzip, chunked\r\n", length + 5),
    ] {
        endpoint.is_not_misled_by(head(&headers) + "0\r\n\r\n" + SMUGGLED);
    }
}

#[test]
fn a_transfer_encoding_that_is_not_simply_chunked_is_never_two_requests() {
    let endpoint = Endpoint::start();
    for encoding in [
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: \u{b}chunked",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding:\r\n chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
        "Transfer-Encoding: \"chunked\"",
    ] {
        endpoint.refuses(head(&format!("{encoding}\r\n")) + "0\r\n\r\n" + SMUGGLED);
    }
    // HTTP/1.0 has no chunks.
    let old =
        format!("GET /livez HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}");
    endpoint.is_not_misled_by(old);
}

#[test]
fn chunks_that_cannot_be_read_end_the_connection() {
    let endpoint = Endpoint::start();
    for chunks in [
        "g\r\n",
        "-1\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "\r\n5\r\nhello\r\n0\r\n\r\n",
        "FFFFFFFFFFFFFFFFF\r\n",
        "10000000000000000\r\n",
        "5\nhello\n0\n\n",
        "5\rhello\r\n0\r\n\r\n",
        "5;a\nhello\r\n0\r\n\r\n",
        "5\r\nhelloo\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhell\r\n0\r\n\r\n",
        ";\r\n",
    ] {
        endpoint.is_not_misled_by(head("Transfer-Encoding: chunked\r\n") + chunks + SMUGGLED);
    }
    for length in [10_000, 100_000] {
        let long = "x".repeat(length);
        let extension = format!("5;{long}\r\nhello\r\n0\r\n\r\n");
        let trailer = format!("5\r\nhello\r\n0\r\nX-Long: {long}\r\n\r\n");
        for chunks in [extension, trailer] {
            endpoint.answers(head("Transfer-Encoding: chunked\r\n") + &chunks, 200);
        }
    }
}

#[test]
fn a_short_body_is_no_hindrance_and_no_request() {
    let endpoint = Endpoint::start();
    let length = SMUGGLED.len();
    for (headers, body) in [
        (format!("Content-Length: {length}\r\n"), SMUGGLED.to_owned()),
        (format!("Content-Length: {length}\r\nContent-Length: {length}\r\n"), SMUGGLED.to_owned()),
        ("Transfer-Encoding: chunked\r\n".to_owned(), format!("{length:x}\r\n{SMUGGLED}\r\n0\r\n\r\n")),
        ("Transfer-Encoding: CHUNKED\r\n".to_owned(), format!("{length:X};a=b;c\r\n{SMUGGLED}\r\n0\r\n\r\n")),
        (
            "Transfer-Encoding: chunked\r\nTrailer: Content-Length\r\n".to_owned(),
            format!("{length:x}\r\n{SMUGGLED}\r\n0\r\nContent-Length: 5\r\nHost: evil\r\n\r\n"),
        ),
    ] {
        endpoint.is_not_misled_by(head(&headers) + &body);
    }
    endpoint.answers(head("Content-Length: 0\r\n"), 200);
    endpoint.answers(head("Content-Length: 5\r\n") + "hello", 200);
}

#[test]
fn a_head_that_cannot_be_read_is_refused() {
    let endpoint = Endpoint::start();
    for header in [
        &b"X: a\r\n b"[..],
        b"X: a\r\n\tb",
        b" X: a",
        b"X : a",
        b": a",
        b"X",
        b"X: a\0b",
        b"X: a\x01b",
        b"X: a\x7fb",
        b"X: a\rb",
        b"X\0: a",
        b"X\xff: a",
        b"X(: a",
        b"X y: a",
    ] {
        let mut bytes = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n".to_vec();
        bytes.extend_from_slice(header);
        bytes.extend_from_slice(b"\r\n\r\n");
        endpoint.refuses(bytes);
    }
    for line in [
        &b"GET /livez HTTP/1.1 x"[..],
        b"GET /livez HTTP/1.2",
        b"GET /livez HTTP/9.9",
        b"GET /livez http/1.1",
        b"GET /livez HTTP/1.1\x0b",
        b"GET /li\0vez HTTP/1.1",
        b"GET /li\x7fvez HTTP/1.1",
        b"GET /li vez HTTP/1.1",
        b"G\0T /livez HTTP/1.1",
        b"G(T /livez HTTP/1.1",
        b" GET /livez HTTP/1.1",
        b"GET",
        b"GET ",
        b"\0",
        b"\xff\xfe\xfd",
    ] {
        let mut bytes = line.to_vec();
        bytes.extend_from_slice(b"\r\nHost: localhost\r\n\r\n");
        endpoint.refuses(bytes);
    }
}

#[test]
fn what_may_be_read_in_two_ways_is_answered_once() {
    let endpoint = Endpoint::start();
    // A line may end with a line feed alone, and a value may have bytes that are no text.
    endpoint.is_not_misled_by("GET /livez HTTP/1.1\nHost: localhost\n\n");
    endpoint.is_not_misled_by("GET /livez HTTP/1.1\r\nHost: localhost\r\n\n");
    endpoint.is_not_misled_by("\r\n\r\nGET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
    endpoint.is_not_misled_by(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: \xff\xfe\xc3\x28\r\n\r\n");
    endpoint.is_not_misled_by(b"GET /livez?\xff\xc3\x28 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    endpoint.is_not_misled_by(b"GET /livez HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n");
    endpoint
        .is_not_misled_by(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: \xff\r\nAccept-Encoding: \xfe\r\n\r\n");
    endpoint.is_not_misled_by("GET /metrics?name[]=%ff%00%&%=%&=&&name[]= HTTP/1.1\r\nHost: localhost\r\n\r\n");
    for timeout in ["-1", "NaN", "1e999", "0", "\u{1}", "99999999999999999999"] {
        endpoint.is_not_misled_by(format!(
            "GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Prometheus-Scrape-Timeout-Seconds: {timeout}\r\n\r\n"
        ));
    }
}

#[test]
fn what_is_too_long_is_refused() {
    let endpoint = Endpoint::start();
    let long = "x".repeat(100_000);
    endpoint.refuses(format!("GET /livez?{long} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    endpoint.refuses(format!("{long} /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    endpoint.refuses(head(&format!("X-Long: {long}\r\n")));
    endpoint.refuses(head(&format!("{long}: x\r\n")));
    endpoint.refuses(head(&"X: y\r\n".repeat(10_000)));
    endpoint.refuses(head(&"a:\r\n".repeat(5_000)));
    // Ends nowhere.
    endpoint.refuses(&long);
    endpoint.refuses("\r\n".repeat(100_000));
    for length in ["4097", "100000", "10000000000", "18446744073709551615"] {
        endpoint.refuses(head(&format!("Content-Length: {length}\r\n")) + SMUGGLED);
    }
}

#[test]
fn other_protocols_are_refused() {
    let endpoint = Endpoint::start();
    // HTTP/0.9 and HTTP/2 without TLS.
    endpoint.refuses("GET /metrics\r\n");
    endpoint.refuses("GET /metrics\r\n\r\n");
    endpoint.refuses(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    // The begin of a TLS handshake, of SSH, and of what asks for a terminal.
    endpoint.refuses([&b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"[..], &[7; 512]].concat());
    endpoint.refuses("SSH-2.0-OpenSSH_9.6\r\n");
    endpoint.refuses(b"\xff\xfd\x18\xff\xfd\x20\xff\xfd\x23");
    endpoint.refuses(b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n");
}

#[test]
fn a_target_of_any_form_is_this_endpoint_or_refused() {
    let endpoint = Endpoint::start();
    let at = |line: &str| format!("{line} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    endpoint.answers(at("GET http://localhost/livez"), 200);
    for line in [
        "GET http://evil/metrics",
        "GET http://localhost@evil/metrics",
        "GET https://evil.example:1/livez",
        "GET ftp://evil/livez",
        "GET //evil/livez",
        "GET localhost:80",
        "GET *",
        "OPTIONS *",
        "CONNECT localhost:80",
        "CONNECT evil:443",
        "CONNECT /livez",
        "GET /../livez",
        "GET /metrics/../livez",
        "GET /%6civez",
        "GET /livez%00",
        "GET /livez%2f..%2fmetrics",
        "GET \\livez",
        "TRACE /livez",
        "DEBUG /livez",
        "GET livez",
        "GET ?",
        "GET #",
    ] {
        let said = endpoint.say(at(line));
        assert!(matches!(said.statuses[..], [] | [400..=499] | [400..=499, 200]), "{line}\n{said:?}");
        endpoint.goes_on(line);
    }
    // Who is asked for stands twice, and differs.
    endpoint.is_not_misled_by("GET http://localhost/livez HTTP/1.1\r\nHost: evil\r\n\r\n");
    endpoint.is_not_misled_by("GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n");
}

#[test]
fn nobody_is_taken_to_another_protocol() {
    let endpoint = Endpoint::start();
    endpoint.answers(
        head("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"),
        200,
    );
    endpoint.answers(
        head("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"),
        200,
    );
    endpoint.answers(head("Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n"), 200);
}

#[test]
fn who_waits_to_be_told_to_go_on_is_answered() {
    let endpoint = Endpoint::start();
    endpoint.answers(head("Expect: 100-continue\r\nContent-Length: 5\r\n") + "hello", 200);
    endpoint.refuses(head("Expect: 100-continue\r\nContent-Length: 100000\r\n"));
    // Nothing of the body is sent before the answer.
    for length in ["5", "100000"] {
        let mut stream = endpoint.connect();
        let head = head(&format!("Expect: 100-continue\r\nContent-Length: {length}\r\nConnection: close\r\n"));
        stream.write_all(head.as_bytes()).unwrap();
        let mut begin = [0; 12];
        stream.read_exact(&mut begin).unwrap();
        assert!(begin == *b"HTTP/1.1 200" || begin == *b"HTTP/1.1 413", "{}", begin.escape_ascii());
    }
    endpoint.goes_on("100-continue");
}

#[test]
fn an_upload_is_not_taken_whole() {
    // More than the buffers of the system on both sides hold.
    const MUCH: usize = 64 * 1024 * 1024;
    let endpoint = Endpoint::start();
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let plain = "x".repeat(0x10000);
    for (headers, piece) in
        [("Transfer-Encoding: chunked\r\n", &chunk), (&*format!("Content-Length: {MUCH}\r\n"), &plain)]
    {
        let mut stream = endpoint.connect();
        stream.write_all(head(headers).as_bytes()).unwrap();
        let mut sent = 0;
        while sent < MUCH && stream.write_all(piece.as_bytes()).is_ok() {
            sent += piece.len();
        }
        assert!(sent < MUCH, "{headers}: {sent} bytes were taken");
        let _ = stream.shutdown(Shutdown::Both);
        endpoint.goes_on(headers);
    }
}

#[test]
fn many_requests_at_once_are_answered_one_by_one() {
    let endpoint = Endpoint::start();
    let said = endpoint.say(head("").repeat(500));
    assert_eq!(said.statuses, [200; 501]);
}

#[test]
fn a_scraper_that_leaves_in_the_middle_of_its_page_leaves_nothing_behind() {
    let telemetry = Telemetry::builder("leaving").with_address("127.0.0.1:0").start().unwrap();
    let address = telemetry.local_addr().unwrap();
    let counter = telemetry.meter("m").u64_counter("large").build();
    for n in 0..1_500 {
        counter.add(1, &[KeyValue::new("n", n), KeyValue::new("text", "x".repeat(8_000))]);
    }
    let encoding = || {
        let threads = std::fs::read_dir("/proc/self/task").unwrap();
        let names = threads.filter_map(|thread| std::fs::read_to_string(thread.unwrap().path().join("comm")).ok());
        names.filter(|name| name.starts_with("barograph-encod")).count()
    };
    for _ in 0..20 {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut begin = [0; 100_000];
        stream.read_exact(&mut begin).unwrap();
        assert!(begin.starts_with(b"HTTP/1.1 200 "));
    }
    let in_flight = || find(&telemetry.scrape().unwrap(), "barograph_scrape_in_flight").unwrap();
    wait_until("no scrape is in flight", || in_flight() == 0.0);
    if cfg!(target_os = "linux") {
        // Other tests of this process scrape too, and none of them for ever.
        wait_until("no page is encoded for nobody", || encoding() == 0);
    }
    let cancelled = "otel_sdk_exporter_operation_duration_seconds_count{error_type=\"cancelled\"";
    let page = telemetry.scrape().unwrap();
    let line = page.lines().find(|line| line.starts_with(cancelled)).unwrap_or_else(|| panic!("{page}"));
    assert!(line.ends_with(" 20"), "{line}");
}
