//! One pipeline in every format that a scraper can ask for.
//!
//! ```text
//! cargo run --example formats
//! ```
//!
//! The names are those of OpenTelemetry, dots and all. Look at how they are quoted for who can read them and escaped for
//! who cannot, and at the histogram with exponential buckets, which the text formats show with fixed ones.

#![expect(clippy::print_stdout, reason = "an example talks to a person")]

use std::time::Duration;

use barograph::opentelemetry::KeyValue;
use barograph::{Telemetry, TranslationStrategy, View};
use http::Request;
use http_body_util::BodyExt;
use tower::ServiceExt;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let telemetry = Telemetry::builder("formats")
        .without_endpoint()
        .without_target_info()
        .without_scope_info()
        .with_translation_strategy(TranslationStrategy::NoTranslation)
        .with_view(View::of("http.duration").with_exponential_buckets(160))
        .start()?;
    let meter = telemetry.meter("formats");
    meter.u64_counter("http.requests").build().add(1, &[KeyValue::new("http.method", "GET")]);
    let duration = meter.f64_histogram("http.duration").with_unit("s").with_description("Time to answer.").build();
    [0.010, 0.012, 0.080].into_iter().for_each(|seconds| duration.record(seconds, &[]));

    for accept in [
        "text/plain;version=0.0.4",
        "text/plain;version=1.0.0;escaping=allow-utf-8",
        "text/plain;version=1.0.0;escaping=values",
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8",
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
    ] {
        let request = Request::get("/metrics?name[]=http.requests&name[]=http.duration").header("accept", accept);
        let answer = telemetry.scrape_service().oneshot(request.body(())?).await?;
        println!("Accept: {accept}\n{:?}\n", answer.headers()["content-type"]);
        let page = answer.into_body().collect().await?.to_bytes();
        match std::str::from_utf8(&page) {
            Ok(text) => println!("{text}"),
            Err(_) => println!("{} bytes of protobuf\n", page.len()),
        }
    }
    telemetry.shutdown(Duration::from_secs(5))?;
    Ok(())
}
