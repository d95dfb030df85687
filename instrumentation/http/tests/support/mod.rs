//! Bodies made of frames, and what was recorded as lines.

use std::collections::BTreeMap;
use std::io;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::task::{Context, Poll};

use barograph::testing::TestTelemetry;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};

/// A body of frames that are all there.
pub(crate) struct Frames {
    frames: std::collections::VecDeque<Result<&'static str, &'static str>>,
    pub(crate) trailers: Option<HeaderMap>,
    says_its_end: bool,
    pub(crate) panics: bool,
}

impl Frames {
    pub(crate) fn new<const N: usize>(frames: [Result<&'static str, &'static str>; N]) -> Self {
        Self { frames: frames.into(), trailers: None, says_its_end: true, panics: false }
    }

    /// One that does not tell that it has ended before it is asked for a frame that it does not have.
    pub(crate) fn that_keeps_its_end_to_itself(self) -> Self {
        Self { says_its_end: false, ..self }
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.panics {
            resume_unwind(Box::new("quietly"));
        }
        let data = self.frames.pop_front();
        let frame = data.map(|data| data.map(|data| Frame::data(Bytes::from(data))).map_err(io::Error::other));
        Poll::Ready(frame.or_else(|| self.trailers.take().map(Frame::trailers).map(Ok)))
    }

    fn is_end_stream(&self) -> bool {
        self.says_its_end && self.frames.is_empty() && self.trailers.is_none()
    }
}

/// Every series of ours but the buckets, as `side what attributes… = count`, with what was active and is no more left
/// out.
pub(crate) fn recorded(telemetry: &TestTelemetry) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, labels, value) in samples(&telemetry.page()) {
        let (side, rest) = name.trim_start_matches("http_").split_once('_').unwrap();
        let what = match rest {
            "active_requests" if value == 0.0 => continue,
            "active_requests" => "active",
            "request_duration_seconds_count" => "duration",
            "request_body_size_bytes_count" => "request",
            "response_body_size_bytes_count" => "response",
            _ => continue,
        };
        lines.push(format!("{side} {what} {} = {value}", described(&labels)));
    }
    lines.sort();
    lines
}

/// The requests that have ended, by their attributes. Each is in all three histograms alike, and none is active.
#[track_caller]
pub(crate) fn ended(telemetry: &TestTelemetry) -> Vec<String> {
    let recorded = recorded(telemetry);
    let of = |what: &str| -> Vec<String> {
        let of_side = |line: &String| line.split_once(' ').unwrap().1.strip_prefix(what).map(str::to_owned);
        let mut lines: Vec<_> = recorded.iter().filter_map(of_side).collect();
        lines.sort();
        lines
    };
    assert_eq!(of("active "), [""; 0], "{recorded:#?}");
    let durations = of("duration ");
    assert_eq!(of("request "), durations);
    assert_eq!(of("response "), durations);
    durations
}

/// The bytes of the bodies of requests and responses, of all series together.
pub(crate) fn sizes(telemetry: &TestTelemetry) -> (f64, f64) {
    let page = telemetry.page();
    let sum = |what: &str| samples(&page).filter(|(name, ..)| name.ends_with(what)).map(|(.., value)| value).sum();
    (sum("request_body_size_bytes_sum"), sum("response_body_size_bytes_sum"))
}

/// The samples of a page that are ours: name, labels, value.
fn samples(page: &str) -> impl Iterator<Item = (&str, BTreeMap<&str, &str>, f64)> {
    page.lines().filter(|line| line.starts_with("http_")).map(|line| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap();
        let labels = labels.trim_end_matches('}').trim_end_matches('"').split("\",");
        (name, labels.map(|label| label.split_once("=\"").unwrap()).collect(), value.parse().unwrap())
    })
}

/// The values of the attributes, in the order in which a person would say them.
fn described(labels: &BTreeMap<&str, &str>) -> String {
    let value = |key: &str| labels.get(key).map(|value| (*value).to_owned());
    let named = |key: &str, name: &str| labels.get(key).map(|value| format!("{name}={value}"));
    let words = [
        value("http_request_method"),
        value("url_scheme"),
        value("server_address"),
        value("server_port"),
        value("url_template"),
        value("network_protocol_version"),
        value("http_route"),
        value("http_response_status_code"),
        named("error_type", "error"),
        named("rpc_response_status_code", "grpc"),
    ];
    let words: Vec<String> = words.into_iter().flatten().collect();
    let others = labels.keys().filter(|key| !key.starts_with("otel_scope_") && **key != "le").count();
    assert_eq!(words.len(), others, "{labels:?}");
    words.join(" ")
}

/// A body that never ends.
pub(crate) struct Endless;

impl Body for Endless {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'.'; 100])))))
    }
}
