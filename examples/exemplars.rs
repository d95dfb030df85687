//! From a point in a graph to the trace of a request that is in it.
//!
//! ```text
//! cargo run --example exemplars
//! ```
//!
//! It answers some requests, each inside a span of OpenTelemetry's tracer, and shows what a scrape in OpenMetrics then says.
//! Look at what follows each ` # `: of the counter and of every bucket the last request that was sampled, with the ids of
//! its span. The slowest bucket leads to the trace of a slow request, which is printed before. `customer` is no label of the
//! series, because a view has left it out, and is said by the exemplar.
//!
//! `OTEL_METRICS_EXEMPLAR_FILTER=always_off` shows the page without them. A Prometheus keeps them if it is started with
//! `--enable-feature=exemplar-storage`; Grafana draws them as points over a graph, each a link to its trace.

#![expect(clippy::print_stdout, reason = "an example talks to a person")]

use std::thread;
use std::time::Duration;

use barograph::opentelemetry::KeyValue;
use barograph::opentelemetry::trace::{TraceContextExt, Tracer, TracerProvider};
use barograph::{CounterSpec, HistogramSpec, MeterExt, Telemetry, View};
use http::Request;
use http_body_util::BodyExt;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tower::ServiceExt;

const REQUESTS: CounterSpec = CounterSpec::new("shop.requests", "{request}", "Requests answered.").open(&["customer"]);
const DURATION: HistogramSpec =
    HistogramSpec::new("shop.request.duration", "s", "Time to answer.").buckets(&[0.01, 0.1, 1.0]);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let telemetry = Telemetry::from_env()
        .or_service_name("shop")
        .without_endpoint()
        .without_scope_info()
        .with_view(View::of("shop.requests").without_attributes(["customer"]))
        .start()?;
    let meter = telemetry.meter("shop");
    let (requests, duration) = (meter.open_counter(&REQUESTS), meter.histogram(&DURATION));

    // Half of the requests are traced. Where the spans go is another story: this program only looks at their ids.
    let tracer = SdkTracerProvider::builder().with_sampler(Sampler::TraceIdRatioBased(0.5)).build().tracer("shop");
    for number in 0..40 {
        tracer.in_span("request", |context| {
            let timer = duration.start_timer(());
            let is_slow = number % 10 == 0;
            thread::sleep(Duration::from_millis(if is_slow { 120 } else { 1 + number }));
            timer.stop();
            requests.add(1, &[KeyValue::new("customer", format!("customer {}", number % 7))]);
            let span = context.span();
            if is_slow && span.span_context().is_sampled() {
                println!("a slow request is in the trace {}", span.span_context().trace_id());
            }
        });
    }

    let request = Request::get("/metrics").header("accept", "application/openmetrics-text;version=1.0.0").body(())?;
    let page = telemetry.scrape_service().oneshot(request).await?.into_body().collect().await?.to_bytes();
    for line in String::from_utf8_lossy(&page).lines().filter(|line| line.starts_with("shop_")) {
        println!("{line}");
    }
    telemetry.shutdown(Duration::from_secs(5))?;
    Ok(())
}
