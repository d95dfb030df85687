//! What an OTLP receiver answers: taken, taken in part, come again, or never.
//!
//! Specification: "OTLP/HTTP Response" and "OTLP/gRPC Response" of the OpenTelemetry Protocol.

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use percent_encoding::percent_decode_str;

use super::{Again, Failure, Reason};

/// What the receiver did with the points of one request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// Points that it left out for good.
    pub(super) rejected: u64,
    /// Why, or what it warns of.
    pub(super) message: String,
}

/// The answer to an HTTP request.
pub(super) fn http(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Result<Taken, Failure> {
    let is_json = headers
        .get(http::header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().to_ascii_lowercase().starts_with(b"application/json"));
    if status.is_success() {
        let taken = if is_json { json_response(body) } else { response(body) };
        // It was taken, and what was said about it is nothing that we understand.
        return Ok(taken.unwrap_or_default());
    }
    let said = if is_json { json_status(body) } else { status_message(body) };
    let said = said.unwrap_or_else(|| excerpt(body));
    let message = format!("{status}{}{said}", if said.is_empty() { "" } else { ": " });
    let (reason, again) = match status.as_u16() {
        429 => (Reason::Throttled, Again::Later(retry_after(headers))),
        502..=504 => (Reason::Unavailable, Again::Later(retry_after(headers))),
        _ => (Reason::Refused, Again::Never),
    };
    let message = match headers.get(http::header::LOCATION) {
        Some(location) if status.is_redirection() => format!(
            "{message}, to {}: redirects are not followed, write that endpoint",
            crate::config::without_password(&String::from_utf8_lossy(location.as_bytes()))
        ),
        _ => message,
    };
    Err(Failure { reason, message, again })
}

/// The answer to a gRPC call, of which the status is in the trailers, or in the headers where there is nothing else.
pub(super) fn grpc(
    status: StatusCode,
    headers: &HeaderMap,
    body: &Bytes,
    trailers: Option<&HeaderMap>,
) -> Result<Taken, Failure> {
    let said = trailers.filter(|trailers| trailers.contains_key("grpc-status")).unwrap_or(headers);
    let Some(code) = said.get("grpc-status") else {
        // Not gRPC at all: a proxy, or an endpoint of HTTP.
        return Err(match http(status, headers, body) {
            Ok(_) => Failure {
                reason: Reason::Refused,
                message: "the answer is not one of gRPC: is this the port of OTLP over gRPC?".to_owned(),
                again: Again::Never,
            },
            Err(failure) => failure,
        });
    };
    let code = code.to_str().ok().and_then(|code| code.trim().parse::<u32>().ok()).unwrap_or(2);
    if code == 0 {
        // Five bytes say whether the message is compressed, and how long it is. We have asked for it plain.
        return Ok(body.get(5..).and_then(response).unwrap_or_default());
    }
    let text = said.get("grpc-message").map(|text| String::from_utf8_lossy(text.as_bytes()).into_owned());
    let text = text.map(|text| percent_decode_str(&text).decode_utf8_lossy().into_owned()).unwrap_or_default();
    let message = format!("{}{}{}", code_name(code), if text.is_empty() { "" } else { ": " }, short(&text));
    let delay = said.get("grpc-status-details-bin").and_then(|details| retry_info(details.as_bytes()));
    let (reason, again) = match code {
        // RESOURCE_EXHAUSTED says whether it passes by telling when.
        8 => (Reason::Throttled, delay.map_or(Again::Never, |delay| Again::Later(Some(delay)))),
        // CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE, UNAVAILABLE, DATA_LOSS.
        1 | 4 | 10 | 11 | 14 | 15 => (Reason::Unavailable, Again::Later(delay)),
        _ => (Reason::Refused, Again::Never),
    };
    Err(Failure { reason, message, again })
}

fn code_name(code: u32) -> &'static str {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    NAMES.get(code as usize).copied().unwrap_or("UNKNOWN")
}

/// Seconds, or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => {
            let date = httpdate::parse_http_date(text).ok()?;
            Some(date.duration_since(SystemTime::now()).unwrap_or_default())
        }
    }
}

/// What a person needs to see of a text that can be long.
fn short(text: &str) -> String {
    const LONGEST: usize = 200;
    let line: String = text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() { format!("{line}…") } else { line }
}

/// The beginning of a body that is text.
fn excerpt(body: &[u8]) -> String {
    match std::str::from_utf8(body) {
        Ok(text) => short(text.trim()),
        Err(_) => String::new(),
    }
}

/// `ExportMetricsServiceResponse`, whose field 1 is `partial_success`.
fn response(message: &[u8]) -> Option<Taken> {
    let mut taken = Taken::default();
    for field in Fields(message) {
        if let (1, Field::Bytes(partial)) = field? {
            for field in Fields(partial) {
                match field? {
                    (1, Field::Varint(rejected)) => taken.rejected = rejected,
                    (2, Field::Bytes(text)) => taken.message = short(&String::from_utf8_lossy(text)),
                    _ => {}
                }
            }
        }
    }
    Some(taken)
}

fn json_response(body: &[u8]) -> Option<Taken> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let partial = value.get("partialSuccess")?;
    let rejected = partial.get("rejectedDataPoints");
    // Protobuf's JSON writes 64-bit numbers as text, and takes both.
    let rejected = rejected.and_then(|n| n.as_u64().or_else(|| n.as_str()?.parse().ok())).unwrap_or(0);
    let message = partial.get("errorMessage").and_then(|text| text.as_str()).map(short).unwrap_or_default();
    Some(Taken { rejected, message })
}

/// `google.rpc.Status`, whose field 2 is `message`.
fn status_message(message: &[u8]) -> Option<String> {
    let mut said = None;
    for field in Fields(message) {
        if let (2, Field::Bytes(text)) = field? {
            said = Some(short(std::str::from_utf8(text).ok()?));
        }
    }
    said
}

fn json_status(body: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    Some(short(value.get("message")?.as_str()?))
}

/// The delay of the `google.rpc.RetryInfo` among the details of a `google.rpc.Status`, in base64 with or without padding.
fn retry_info(details: &[u8]) -> Option<Duration> {
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let status = GeneralPurpose::new(&base64::alphabet::STANDARD, lenient).decode(details).ok()?;
    for field in Fields(&status) {
        let (3, Field::Bytes(any)) = field? else { continue };
        let (mut is_retry_info, mut value) = (false, &[][..]);
        for field in Fields(any) {
            match field? {
                (1, Field::Bytes(url)) => is_retry_info = url.ends_with(b"/google.rpc.RetryInfo"),
                (2, Field::Bytes(bytes)) => value = bytes,
                _ => {}
            }
        }
        if !is_retry_info {
            continue;
        }
        for field in Fields(value) {
            let (1, Field::Bytes(duration)) = field? else { continue };
            let (mut seconds, mut nanos) = (0, 0);
            for field in Fields(duration) {
                match field? {
                    (1, Field::Varint(value)) => seconds = value,
                    (2, Field::Varint(value)) => nanos = u32::try_from(value).ok()?,
                    _ => {}
                }
            }
            return Duration::from_secs(seconds).checked_add(Duration::from_nanos(nanos.into()));
        }
    }
    None
}

/// The fields of a protobuf message; `None` where it is broken, and that is the last one.
struct Fields<'a>(&'a [u8]);

enum Field<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// One of fixed length, of which none is read here.
    Fixed,
}

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn field(&mut self) -> Option<(u64, Field<'a>)> {
        let tag = self.varint()?;
        let field = match tag & 7 {
            0 => Field::Varint(self.varint()?),
            1 => self.take(8).map(|_| Field::Fixed)?,
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Field::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Field::Fixed)?,
            _ => return None,
        };
        Some((tag >> 3, field))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u64, Field<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| ((*name).parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    /// A message of one field: a length-delimited one, or a number.
    fn bytes_field(number: u8, bytes: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, bytes.len() as u8][..], bytes].concat()
    }

    #[test]
    fn success_may_be_partial_in_both_encodings() {
        let partial = [&[1 << 3, 5][..], &bytes_field(2, b"too old")].concat();
        let taken = Taken { rejected: 5, message: "too old".to_owned() };
        assert_eq!(http(StatusCode::OK, &headers(&[]), &bytes_field(1, &partial)).unwrap(), taken);
        let json = br#"{"partialSuccess":{"rejectedDataPoints":"5","errorMessage":"too old"}}"#;
        let is_json = headers(&[("content-type", "application/json; charset=utf-8")]);
        assert_eq!(http(StatusCode::OK, &is_json, json).unwrap(), taken);
        assert_eq!(http(StatusCode::OK, &is_json, b"{}").unwrap(), Taken::default());
        assert_eq!(http(StatusCode::ACCEPTED, &headers(&[]), b"\xff\xff").unwrap(), Taken::default());
        let framed = [&[0, 0, 0, 0, 13][..], &bytes_field(1, &partial)].concat();
        let ok = headers(&[("grpc-status", "0")]);
        assert_eq!(grpc(StatusCode::OK, &headers(&[]), &framed.into(), Some(&ok)).unwrap(), taken);
    }

    #[test]
    fn http_says_what_may_be_tried_again_and_when() {
        let later =
            |status: u16, pairs: &[_]| http(StatusCode::from_u16(status).unwrap(), &headers(pairs), b"").unwrap_err();
        for status in [429, 502, 503, 504] {
            assert_eq!(later(status, &[]).again, Again::Later(None), "{status}");
        }
        for status in [302, 400, 401, 404, 413, 500] {
            assert_eq!(later(status, &[]).again, Again::Never, "{status}");
        }
        let seconds = Again::Later(Some(Duration::from_secs(7)));
        assert_eq!(later(503, &[("retry-after", "7")]).again, seconds);
        let past = Again::Later(Some(Duration::ZERO));
        assert_eq!(later(429, &[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")]).again, past);
        assert_eq!(later(429, &[("retry-after", "soon")]).again, Again::Later(None));
    }

    #[test]
    fn a_refusal_shows_what_was_said_and_not_more_than_a_line_of_it() {
        let said = http(StatusCode::BAD_REQUEST, &headers(&[]), &bytes_field(2, b"no such tenant")).unwrap_err();
        assert_eq!(said.message, "400 Bad Request: no such tenant");
        let long = http(StatusCode::FORBIDDEN, &headers(&[]), "x\n".repeat(500).as_bytes()).unwrap_err();
        assert_eq!(long.message.chars().count(), "403 Forbidden: ".len() + 201);
        assert!(!long.message.contains('\n'));
        let moved = headers(&[("location", "https://u:p@other/v1/metrics?key=1")]);
        assert_eq!(
            http(StatusCode::FOUND, &moved, b"").unwrap_err().message,
            "302 Found, to https://***@other/v1/metrics?***: redirects are not followed, write that endpoint"
        );
    }

    #[test]
    fn grpc_codes_say_what_may_be_tried_again() {
        let failed = |code: &'static str| {
            grpc(StatusCode::OK, &headers(&[("grpc-status", code)]), &Bytes::new(), None).unwrap_err()
        };
        for code in ["1", "4", "10", "11", "14", "15"] {
            assert_eq!(failed(code).again, Again::Later(None), "{code}");
        }
        for code in ["2", "3", "5", "7", "8", "12", "16", "99", "nonsense"] {
            assert_eq!(failed(code).again, Again::Never, "{code}");
        }
        let trailers = headers(&[("grpc-status", "16"), ("grpc-message", "no%20token")]);
        let failure = grpc(StatusCode::OK, &headers(&[]), &Bytes::new(), Some(&trailers)).unwrap_err();
        assert_eq!((failure.reason, failure.message.as_str()), (Reason::Refused, "UNAUTHENTICATED: no token"));
    }

    #[test]
    fn exhausted_resources_are_tried_again_if_they_say_when() {
        let duration = [1 << 3, 2, 2 << 3, 3];
        let info = bytes_field(1, &duration);
        let any = [bytes_field(1, b"type.googleapis.com/google.rpc.RetryInfo"), bytes_field(2, &info)].concat();
        let status = [vec![1 << 3, 8], bytes_field(3, &any)].concat();
        for encoded in
            [base64::prelude::BASE64_STANDARD.encode(&status), base64::prelude::BASE64_STANDARD_NO_PAD.encode(&status)]
        {
            let mut said = headers(&[("grpc-status", "8")]);
            said.insert("grpc-status-details-bin", encoded.parse().unwrap());
            let failure = grpc(StatusCode::OK, &headers(&[]), &Bytes::new(), Some(&said)).unwrap_err();
            assert_eq!(failure.again, Again::Later(Some(Duration::new(2, 3))));
        }
    }

    #[test]
    fn what_does_not_speak_grpc_is_told_apart() {
        let page = grpc(StatusCode::OK, &headers(&[("content-type", "text/html")]), &Bytes::new(), None).unwrap_err();
        assert!(page.message.contains("not one of gRPC"), "{}", page.message);
        let gone = grpc(StatusCode::BAD_GATEWAY, &headers(&[]), &Bytes::new(), None).unwrap_err();
        assert_eq!(gone.again, Again::Later(None));
    }
}
