//! HTTP as a scraper or an exporter speaks it: one request, one response, a deadline.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

// A server answers about a few seconds of data in milliseconds.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let wanted = |(header, _): &&(String, String)| header.eq_ignore_ascii_case(name);
        self.headers.iter().find(wanted).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

pub(crate) fn get(address: SocketAddr, target: &str, headers: &str) -> io::Result<Response> {
    send(
        address,
        format!("GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\r\n").into_bytes(),
    )
}

pub(crate) fn post(address: SocketAddr, target: &str, headers: &str, body: &[u8]) -> io::Result<Response> {
    send(address, post_request(&address.to_string(), target, headers, body))
}

/// The bytes of a POST after which the connection ends. Each of the headers ends its line.
pub(crate) fn post_request(host: &str, target: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// The request is whole: sent in pieces, the second would wait for the first to be acknowledged.
fn send(address: SocketAddr, request: Vec<u8>) -> io::Result<Response> {
    let end = Instant::now() + REQUEST_DEADLINE;
    let mut stream = TcpStream::connect_timeout(&address, REQUEST_DEADLINE)?;
    stream.set_write_timeout(Some(REQUEST_DEADLINE))?;
    stream.write_all(&request)?;
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

pub(crate) fn parse_response(bytes: &[u8]) -> Option<Response> {
    let head_length = find(bytes, b"\r\n\r\n")?;
    let mut head = str::from_utf8(&bytes[..head_length]).ok()?.split("\r\n");
    let body = &bytes[head_length + 4..];
    let status = head.next()?.split(' ').nth(1)?.parse().ok()?;
    let header = |(name, value): (&str, &str)| (name.to_owned(), value.trim().to_owned());
    let headers = head.filter_map(|line| line.split_once(':')).map(header).collect();
    let mut response = Response { status, headers, body: body.to_vec() };
    // Without chunks the body ends with the connection. That JSON is whole, its parser will see.
    if response.header("transfer-encoding").is_some_and(|encoding| encoding.eq_ignore_ascii_case("chunked")) {
        response.body = unchunked(body)?;
    }
    Some(response)
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
}
