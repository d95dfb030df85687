//! What Prometheus makes of exemplars: from a series to the trace of a request that is in it.

use std::time::SystemTime;

use barograph::opentelemetry::KeyValue;
use barograph::opentelemetry::trace::{TraceContextExt, Tracer, TracerProvider};
use barograph::{CounterSpec, HistogramSpec, MeterExt, Telemetry, View, attribute};
use opentelemetry_sdk::trace::SdkTracerProvider;
use serde_json::Value;

use crate::UP;
use crate::process::poll;
use crate::prometheus::{self, Job, Prometheus};
use crate::query::QUERY_POLL;

attribute! { enum Outcome: "outcome" { Sold = "sold", Refused = "refused" } }
const ORDERS: CounterSpec<Outcome> = CounterSpec::new("shop.orders", "{order}", "Orders.");
const DURATION: HistogramSpec<Outcome> = HistogramSpec::new("shop.duration", "s", "Time.").buckets(&[0.1, 1.0]);

#[test]
fn prometheus_leads_from_a_counter_and_from_a_bucket_to_the_trace_of_the_span_they_were_recorded_in() {
    let Some(bin) = prometheus::require() else { return };
    let directory = tempfile::tempdir().unwrap();
    let telemetry = Telemetry::builder("shop")
        .with_address("127.0.0.1:0")
        .with_view(View::of("shop.native").with_exponential_buckets(160))
        .with_view(View::of("shop.narrowed").with_attributes(["kept"]))
        .start()
        .unwrap();
    let meter = telemetry.meter("shop");
    let (orders, duration) = (meter.counter(&ORDERS), meter.histogram(&DURATION));
    let native = meter.f64_histogram("shop.native").with_unit("s").build();
    let narrowed = meter.u64_counter("shop.narrowed").build();
    let tracer = SdkTracerProvider::builder().build().tracer("shop");
    let trace = tracer.in_span("order", |context| {
        orders.add(2, Outcome::Sold);
        duration.record(0.5, Outcome::Sold);
        duration.record(30.0, Outcome::Sold);
        native.record(0.25, &[]);
        narrowed.add(1, &[KeyValue::new("kept", "k"), KeyValue::new("left.out", "customer")]);
        let span = context.span();
        let span = span.span_context();
        (span.trace_id().to_string(), span.span_id().to_string())
    });

    let address = telemetry.local_addr().unwrap();
    let jobs = [
        Job::new("text", address).asking_for("OpenMetricsText1.0.0"),
        Job::new("protobuf", address).asking_for("PrometheusProto"),
    ];
    let features = ["exemplar-storage", "native-histograms"];
    let prometheus = Prometheus::start_with(&bin, directory.path(), &jobs, "500ms", &features);
    prometheus.wait_until_up("text", UP);
    prometheus.wait_until_up("protobuf", UP);

    for job in ["text", "protobuf"] {
        let one = |selector: &str| -> Value {
            let found = exemplars(&prometheus, &format!("{selector},job=\"{job}\"}}"));
            let [exemplar] = found.as_slice() else { panic!("{job}, {selector}: {found:?}") };
            assert_eq!(exemplar["labels"]["trace_id"], trace.0.as_str(), "{job}, {selector}");
            assert_eq!(exemplar["labels"]["span_id"], trace.1.as_str(), "{job}, {selector}");
            exemplar.clone()
        };
        assert_eq!(one("shop_orders_total{outcome=\"sold\"")["value"], "2");
        assert_eq!(one("shop_duration_seconds_bucket{le=\"1.0\"")["value"], "0.5");
        assert_eq!(one("shop_duration_seconds_bucket{le=\"+Inf\"")["value"], "30");
        assert_eq!(one("shop_narrowed_total{kept=\"k\"")["labels"]["left_out"], "customer");
        let native = if job == "protobuf" { "shop_native_seconds" } else { "shop_native_seconds_bucket" };
        assert_eq!(one(&format!("{native}{{otel_scope_name=\"shop\""))["value"], "0.25");
    }
}

/// The exemplars that Prometheus has stored of the series that the selector selects, once there are any.
fn exemplars(prometheus: &Prometheus, selector: &str) -> Vec<Value> {
    let encoded: String = selector.bytes().map(|byte| format!("%{byte:02X}")).collect();
    poll(UP, QUERY_POLL, || {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let (start, end) = (now - 3_600, now + 3_600);
        let found = prometheus.data(&format!("/api/v1/query_exemplars?query={encoded}&start={start}&end={end}"));
        let of_series = |series: &Value| series["exemplars"].as_array().cloned().unwrap_or_default();
        let all: Vec<Value> = found.as_array().into_iter().flatten().flat_map(of_series).collect();
        if all.is_empty() { Err(format!("no exemplars of {selector}: {found}")) } else { Ok(all) }
    })
}
