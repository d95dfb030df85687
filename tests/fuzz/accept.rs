//! What a scraper asks for: `Accept`, `Accept-Encoding` and the query, made of bytes.

#![no_main]
#![allow(dead_code, unused_imports, reason = "the suite uses more of what is shared")]

#[path = "../suite/case.rs"]
mod case;
#[path = "../suite/dto.rs"]
mod dto;
#[path = "../suite/parser.rs"]
mod parser;

use std::sync::LazyLock;

use barograph::opentelemetry::KeyValue;
use barograph::{Telemetry, TranslationStrategy};
use http_body_util::BodyExt;
use libfuzzer_sys::fuzz_target;
use parser::Format;
use tower::ServiceExt;

static TELEMETRY: LazyLock<Telemetry> = LazyLock::new(|| {
    let builder = Telemetry::builder("fuzz").without_endpoint();
    let telemetry = builder.with_translation_strategy(TranslationStrategy::NoTranslation).start().unwrap();
    let meter = telemetry.meter("m");
    meter.u64_counter("jobs.done").build().add(1, &[KeyValue::new("a.b", "\"\\\n")]);
    meter.f64_histogram("wait.time").with_unit("s").build().record(0.5, &[]);
    telemetry
});

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.split(|&byte| byte == 0);
    let mut request = http::Request::get("/metrics");
    for name in ["accept", "accept", "accept-encoding"] {
        if let Some(Ok(value)) = parts.next().map(http::HeaderValue::from_bytes) {
            request = request.header(name, value);
        }
    }
    if let Some(uri) = parts.next().and_then(|query| http::Uri::try_from([b"/metrics?", query].concat()).ok()) {
        request = request.uri(uri);
    }
    let (head, body) = case::block_on(async {
        let response = TELEMETRY.scrape_service().oneshot(request.body(()).unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        (head, body.collect().await.unwrap().to_bytes())
    });
    if head.status == 400 {
        return;
    }
    assert_eq!(head.status, 200);
    if head.headers.contains_key("content-encoding") {
        return;
    }
    let content_type = head.headers["content-type"].to_str().unwrap();
    let format = match content_type {
        // Who asks for names as they are in 0.0.4 gets them.
        text if text.starts_with("text/plain") && text.ends_with("allow-utf-8") => Format::Text100,
        text if text.starts_with("text/plain; version=0.0.4") => Format::Text004,
        text if text.starts_with("text/plain; version=1.0.0") => Format::Text100,
        text if text.starts_with("application/openmetrics-text") => Format::OpenMetrics,
        _ => Format::Protobuf,
    };
    let families = parser::parse(format, &body);
    assert!(families.is_ok(), "{content_type}: {families:?}");
});
