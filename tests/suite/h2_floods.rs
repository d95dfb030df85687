//! HTTP/2 as an attacker speaks it, frame by frame: the connection ends, or is held back, and the endpoint goes on.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use barograph::Telemetry;
use barograph::config::EndpointLimits;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;

use crate::certificates::Certificates;
use crate::support::{DEADLINE, builder};

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// Types of frames: RFC 9113, section 6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// The longest frame that everybody takes.
const FRAME: usize = 16 * 1024;

/// `GET https://localhost/livez` in HPACK: three entries of the static table, and two names of it with values of their own.
const GET_LIVEZ: &[u8] = b"\x82\x87\x04\x06/livez\x01\x09localhost";

struct Endpoint {
    telemetry: Telemetry,
    address: SocketAddr,
    authority: CertificateDer<'static>,
    _directory: TempDir,
}

impl Endpoint {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let certificates = Certificates::write(directory.path());
        let file = directory.path().join("web-config.yml");
        std::fs::write(&file, web_config(&certificates.server, &certificates.server_key)).unwrap();
        // So that a flood that is held back ends soon.
        let limits = EndpointLimits { write_timeout: Duration::from_millis(300), ..EndpointLimits::default() };
        let telemetry = builder().with_limits(limits).with_web_config(file).start().unwrap();
        let address = telemetry.local_addr().unwrap();
        let authority = CertificateDer::from_pem_file(&certificates.authority).unwrap();
        Self { telemetry, address, authority, _directory: directory }
    }

    fn connect(&self, protocol: &[u8]) -> Tls {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        let tls = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap();
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        let mut tls = StreamOwned::new(tls, stream);
        tls.conn.complete_io(&mut tls.sock).unwrap();
        assert_eq!(tls.conn.alpn_protocol(), Some(protocol));
        tls
    }

    /// A connection of HTTP/2 that has said what it has to at first.
    fn http2(&self) -> Tls {
        let mut stream = self.connect(b"h2");
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        stream.write_all(&frame(SETTINGS, 0, 0, b"")).unwrap();
        stream
    }

    /// Others are still answered, in both protocols.
    #[track_caller]
    fn goes_on(&self) {
        let mut stream = self.connect(b"http/1.1");
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nok\n"), "{answer}");

        let mut stream = self.http2();
        stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 1, GET_LIVEZ)).unwrap();
        let data = frames(&mut stream).find(|frame| frame.kind == DATA && frame.stream == 1);
        assert_eq!(data.map(|data| data.payload).as_deref(), Some(b"ok\n".as_slice()));
        assert!(self.telemetry.scrape().is_ok());
    }
}

fn web_config(certificate: &Path, key: &Path) -> String {
    format!("tls_server_config:\n  cert_file: {}\n  key_file: {}\n", certificate.display(), key.display())
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

#[derive(Debug)]
struct Frame {
    kind: u8,
    stream: u32,
    payload: Vec<u8>,
}

/// What the endpoint says, until it closes or the deadline passes.
fn frames(stream: &mut Tls) -> impl Iterator<Item = Frame> {
    std::iter::from_fn(move || {
        let mut head = [0; 9];
        stream.read_exact(&mut head).ok()?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload).ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        Some(Frame { kind: head[3], stream, payload })
    })
}

/// How a flood ended.
#[derive(Debug, PartialEq)]
enum Flood {
    /// The endpoint took all of it.
    Taken,
    /// It closed the connection meanwhile.
    Closed,
}

/// Sends the frames one after the other without reading a word.
fn flood(stream: &mut Tls, frames: impl Iterator<Item = Vec<u8>>) -> Flood {
    let mut batch = Vec::new();
    for frame in frames {
        batch.extend_from_slice(&frame);
        // As attackers do: many in one record, and in one packet.
        if batch.len() >= FRAME {
            if let Err(error) = stream.write_all(&batch) {
                assert_closed(&error);
                return Flood::Closed;
            }
            batch.clear();
        }
    }
    match stream.write_all(&batch).and_then(|()| stream.flush()) {
        Ok(()) => Flood::Taken,
        Err(error) => {
            assert_closed(&error);
            Flood::Closed
        }
    }
}

/// A connection that neither takes anything nor ends would be an endpoint that can be held.
#[track_caller]
fn assert_closed(error: &io::Error) {
    assert!(!matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "held, not closed: {error}");
}

/// Whether the endpoint says that it has had enough, or closes.
fn is_ended(stream: &mut Tls) -> bool {
    loop {
        let mut head = [0; 9];
        if let Err(error) = stream.read_exact(&mut head) {
            return !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
        }
        if head[3] == GOAWAY {
            return true;
        }
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        if stream.read_exact(&mut payload).is_err() {
            return true;
        }
    }
}

/// Numbers of streams that a client opens.
fn streams(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|n| 2 * n + 1)
}

#[test]
fn requests_that_are_taken_back_at_once_end_the_connection() {
    let endpoint = Endpoint::start();
    let mut stream = endpoint.http2();
    // "Rapid reset": never more than one stream is open.
    let resets = streams(20_000).flat_map(|stream| {
        [
            frame(HEADERS, END_STREAM | END_HEADERS, stream, GET_LIVEZ),
            frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()),
        ]
    });
    let flood = flood(&mut stream, resets);
    assert!(flood == Flood::Closed || is_ended(&mut stream));
    endpoint.goes_on();
}

#[test]
fn requests_that_the_endpoint_has_to_take_back_end_the_connection() {
    let endpoint = Endpoint::start();
    let mut stream = endpoint.http2();
    // "Made you reset": a window that grows beyond what a number can say is the client's error, and costs the endpoint a reset.
    let resets = streams(20_000).flat_map(|stream| {
        [
            frame(HEADERS, END_HEADERS, stream, GET_LIVEZ),
            frame(WINDOW_UPDATE, 0, stream, &0x7fff_ffff_u32.to_be_bytes()),
        ]
    });
    let flood = flood(&mut stream, resets);
    assert!(flood == Flood::Closed || is_ended(&mut stream));
    endpoint.goes_on();
}

#[test]
fn settings_and_pings_that_are_never_read_back_do_not_pile_up() {
    let endpoint = Endpoint::start();
    // Each asks for an answer. Once the buffers of the system are full the endpoint stops reading; it gives up who takes
    // nothing for longer than it may.
    let floods: [(&str, Vec<u8>); 3] = [
        ("settings", frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0])),
        ("empty settings", frame(SETTINGS, 0, 0, b"")),
        ("pings", frame(PING, 0, 0, b"floodyou")),
    ];
    for (name, one) in floods {
        let mut stream = endpoint.http2();
        let flood = flood(&mut stream, std::iter::repeat_n(one, 2_000_000));
        assert_eq!(flood, Flood::Closed, "{name}");
        endpoint.goes_on();
    }
}

#[test]
fn headers_that_never_end_end_the_connection() {
    let endpoint = Endpoint::start();
    let value = [0, 1, b'x', 0x7f, 0x81, 0x7d].into_iter().chain([b'y'; 16_000]).collect::<Vec<u8>>();
    for payload in [b"".as_slice(), &value[..2], &value[..100], &value[..]] {
        let mut stream = endpoint.http2();
        let begin = frame(HEADERS, END_STREAM, 1, GET_LIVEZ);
        let frames = std::iter::once(begin).chain(std::iter::repeat_n(frame(CONTINUATION, 0, 1, payload), 200_000));
        let flood = flood(&mut stream, frames);
        assert!(flood == Flood::Closed || is_ended(&mut stream), "{} bytes in each", payload.len());
        endpoint.goes_on();
    }
}

#[test]
fn a_few_bytes_that_stand_for_many_headers_are_refused() {
    let endpoint = Endpoint::start();
    let mut stream = endpoint.http2();
    // A header of 4,000 bytes goes into the table that both sides keep, and is then named by one byte: 60 MB in a frame.
    let mut bomb = GET_LIVEZ.to_vec();
    bomb.extend_from_slice(&[0x40, 1, b'x', 0x7f, 0xa1, 0x1e]);
    bomb.extend_from_slice(&[b'y'; 4_000]);
    bomb.resize(FRAME - 100, 0xbe);
    // The stream may be refused, or the connection may end.
    let _ = stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &bomb));
    let answer = frames(&mut stream)
        .find(|frame| frame.kind == GOAWAY || (frame.stream == 1 && matches!(frame.kind, HEADERS | RST_STREAM | DATA)));
    match answer {
        None => {}
        Some(answer) if matches!(answer.kind, GOAWAY | RST_STREAM) => {}
        // 0x88 is a status of 200; 431 is none of the static table's.
        Some(answer) => assert!(answer.kind == HEADERS && answer.payload.first() != Some(&0x88), "{answer:?}"),
    }
    endpoint.goes_on();
}

#[test]
fn more_requests_at_once_than_the_endpoint_takes_are_no_more_work() {
    let endpoint = Endpoint::start();
    let mut stream = endpoint.http2();
    let requests = streams(1_000).map(|stream| frame(HEADERS, END_STREAM | END_HEADERS, stream, GET_LIVEZ));
    flood(&mut stream, requests);
    // Those beyond the limit are refused one by one, or with the connection.
    let refused = frames(&mut stream).find(|frame| matches!(frame.kind, GOAWAY | RST_STREAM));
    assert!(refused.is_some() || is_ended(&mut stream));
    endpoint.goes_on();
}

#[test]
fn frames_that_make_no_sense_end_the_connection() {
    let endpoint = Endpoint::start();
    for frame in [
        frame(DATA, 0, 0, b"x"),
        frame(DATA, 0, 1, b"x"),
        frame(HEADERS, END_HEADERS, 0, GET_LIVEZ),
        frame(HEADERS, END_HEADERS, 2, GET_LIVEZ),
        frame(HEADERS, END_HEADERS, 1, &[0xff; 100]),
        frame(RST_STREAM, 0, 1, &[0; 3]),
        frame(SETTINGS, 0, 0, &[0; 5]),
        frame(SETTINGS, 0, 1, b""),
        frame(SETTINGS, 1, 0, &[0; 6]),
        frame(PING, 0, 0, &[0; 7]),
        frame(PING, 0, 1, &[0; 8]),
        frame(WINDOW_UPDATE, 0, 0, &[0; 4]),
        frame(CONTINUATION, END_HEADERS, 1, GET_LIVEZ),
        frame(DATA, 0, 1, &[0; FRAME + 1]),
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        vec![0xff; 100],
    ] {
        let shown = frame.escape_ascii().to_string();
        let mut stream = endpoint.http2();
        let _ = stream.write_all(&frame);
        assert!(is_ended(&mut stream), "{}", shown.get(..100).unwrap_or(&shown));
    }
    endpoint.goes_on();
}
