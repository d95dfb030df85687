//! Bytes on a connection of the endpoint: written in pieces, half closed or not. Whatever they are, the endpoint answers as
//! HTTP does or closes, and goes on.

#![no_main]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use barograph::Telemetry;
use barograph::config::EndpointLimits;
use barograph::opentelemetry::KeyValue;
use libfuzzer_sys::fuzz_target;

/// What is not answered or closed by then hangs.
const DEADLINE: Duration = Duration::from_secs(10);

static TELEMETRY: LazyLock<Telemetry> = LazyLock::new(|| {
    // Half a request is given up soon, so that there are many of them in a second.
    let soon = Duration::from_millis(20);
    let limits = EndpointLimits { head_timeout: soon, idle_timeout: soon, ..EndpointLimits::default() };
    let telemetry = Telemetry::builder("fuzz").with_address("127.0.0.1:0").with_limits(limits).start().unwrap();
    let meter = telemetry.meter("m");
    meter.u64_counter("jobs.done").build().add(1, &[KeyValue::new("a.b", "\"\\\n")]);
    meter.f64_histogram("wait.time").with_unit("s").build().record(0.5, &[]);
    telemetry
});

/// One connection, kept for as long as the endpoint keeps it, for what comes after: the system has only so many ports.
static AFTER: Mutex<Option<TcpStream>> = Mutex::new(None);

fuzz_target!(|bytes: &[u8]| {
    let address = TELEMETRY.local_addr().unwrap();
    // How it is sent, and what.
    let Some((&[how, ref cuts @ ..], bytes)) = bytes.split_first_chunk::<4>() else { return };
    let mut stream = connect(address);
    let mut cuts = cuts.map(|cut| bytes.len() * usize::from(cut) / 256);
    cuts.sort_unstable();
    let mut begin = 0;
    for end in cuts.into_iter().chain([bytes.len()]) {
        // It may be closed already.
        if stream.write_all(&bytes[begin..end]).is_err() {
            break;
        }
        begin = end;
        if how & 1 == 1 {
            // The endpoint sees the piece by itself.
            thread::sleep(Duration::from_micros(100));
        }
    }
    if how & 2 == 2 {
        let _ = stream.shutdown(Shutdown::Write);
    }
    let mut said = Vec::new();
    if let Err(error) = stream.read_to_end(&mut said) {
        let is_closed = matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe);
        assert!(is_closed, "neither answered nor closed: {error}");
    }
    if !said.is_empty() {
        let begin = said.get(..12).map(|begin| begin.escape_ascii().to_string());
        let status = begin
            .as_deref()
            .and_then(|begin| begin.strip_prefix("HTTP/1.1 ").or_else(|| begin.strip_prefix("HTTP/1.0 ")));
        // 100 is what a body is asked for with.
        let is_answer = matches!(status.map(str::as_bytes), Some([b'2' | b'4', ..] | b"503" | b"100"));
        assert!(is_answer, "{}", said[..said.len().min(200)].escape_ascii());
    }
    goes_on(address);
});

fn connect(address: SocketAddr) -> TcpStream {
    let end = Instant::now() + DEADLINE;
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => {
                stream.set_nodelay(true).unwrap();
                stream.set_read_timeout(Some(DEADLINE)).unwrap();
                stream.set_write_timeout(Some(DEADLINE)).unwrap();
                return stream;
            }
            // Every port is still held by a connection that has ended.
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable && Instant::now() < end => {
                thread::sleep(Duration::from_millis(10));
            }
            Err(error) => panic!("the endpoint cannot be reached: {error}"),
        }
    }
}

/// The endpoint answers others.
fn goes_on(address: SocketAddr) {
    let mut after = AFTER.lock().unwrap_or_else(PoisonError::into_inner);
    let kept = after.take().and_then(is_live);
    *after = Some(kept.unwrap_or_else(|| is_live(connect(address)).expect("an answer of /livez")));
}

/// The connection, if `/livez` answers on it.
fn is_live(mut stream: TcpStream) -> Option<TcpStream> {
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    let mut buffer = [0; 512];
    while !answer.ends_with(b"\r\n\r\nok\n") {
        let read = stream.read(&mut buffer).ok().filter(|&read| read > 0)?;
        answer.extend_from_slice(&buffer[..read]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", answer.escape_ascii());
    Some(stream)
}
