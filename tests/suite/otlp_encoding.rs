//! The OTLP encoder against opentelemetry-proto, which makes the same messages from the same data.

#[path = "../../src/exporter/otlp/json.rs"]
mod json;
#[path = "../../src/exporter/otlp/message.rs"]
mod message;
#[path = "../../src/exporter/otlp/protobuf.rs"]
mod protobuf;

use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use opentelemetry::metrics::{Meter, MeterProvider as _};
use opentelemetry::trace::{SpanId, TraceId};
use opentelemetry::{Array, InstrumentationScope, KeyValue, StringValue, Value};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{
    Aggregation, Instrument, InstrumentKind, ManualReader, Pipeline, SdkMeterProvider, Stream, Temporality,
};
use proptest::prelude::*;
use prost::Message as _;
use serde_json::json;

use message::{Encoding, Limits, Requests};

/// What the encoder asks of the guard: exemplars of every point, which the SDK has none of.
#[derive(Debug)]
struct Exemplars(Option<MetricExemplars>);
#[derive(Debug)]
struct MetricExemplars(Vec<PointExemplar>);

static NONE: Exemplars = Exemplars(None);

impl Exemplars {
    fn of(&self, _scope: usize, _metric: usize) -> Option<&MetricExemplars> {
        self.0.as_ref()
    }
}

impl MetricExemplars {
    fn of_point<'p>(&self, _attributes: impl Iterator<Item = &'p KeyValue>) -> &[PointExemplar] {
        &self.0
    }
}

#[derive(Debug)]
struct PointExemplar {
    exemplar: Exemplar,
    filtered: Vec<KeyValue>,
}

#[derive(Debug)]
struct Exemplar {
    value: Measured,
    time: SystemTime,
    span: Option<SpanIds>,
}

#[derive(Clone, Copy, Debug)]
struct SpanIds {
    trace: TraceId,
    span: SpanId,
}

#[derive(Debug)]
enum Measured {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
}

const BOTH: [Encoding; 2] = [Encoding::Protobuf, Encoding::Json];

#[test]
fn a_request_says_what_opentelemetry_proto_says_of_every_kind_and_attribute_type() {
    for temporality in [Temporality::Cumulative, Temporality::Delta] {
        let source = Source::new(temporality, resource());
        record_everything(&source);
        let first = source.collect();
        assert_eq!(kinds(&oracle(&first)), 23, "all that was recorded");
        assert_same(&first);
        // The second delta of what was recorded once, and the second sum of it.
        source.provider.meter("late").u64_counter("late").build().add(1, &[]);
        assert_same(&source.collect());
    }
}

#[test]
fn a_request_says_it_of_a_resource_without_attributes_too() {
    let source = Source::new(Temporality::Cumulative, Resource::builder_empty().build());
    source.provider.meter("").i64_up_down_counter("c").build().add(0, &[]);
    assert_same(&source.collect());
}

#[test]
fn a_histogram_of_nothing_has_neither_a_least_nor_a_most() {
    let source = Source::new(Temporality::Cumulative, resource());
    let bound = source.provider.meter("m").f64_histogram("h").build().bind(&[KeyValue::new("k", "v")]);
    let data = source.collect();
    for encoding in BOTH {
        let [request] = requests(&data, encoding, Limits::default()).try_into().unwrap();
        let metric = &request.message.resource_metrics[0].scope_metrics[0].metrics[0];
        let Some(Data::Histogram(histogram)) = &metric.data else { panic!("{metric:?}") };
        let point = &histogram.data_points[0];
        assert_eq!((point.count, point.min, point.max), (0, None, None));
    }
    drop(bound);
}

#[test]
fn exemplars_say_value_time_ids_and_what_the_point_leaves_out() {
    let source = Source::new(Temporality::Cumulative, Resource::builder_empty().build());
    let meter = source.provider.meter("m");
    meter.u64_counter("sum").build().add(1, &[]);
    meter.f64_histogram("histogram").build().record(1.0, &[]);
    meter.f64_histogram("exponential").build().record(1.0, &[]);
    meter.f64_gauge("gauge").build().record(1.0, &[]);
    let data = source.collect();
    let at = |value, span| {
        let exemplar = Exemplar { value, time: SystemTime::UNIX_EPOCH + Duration::from_nanos(1_234), span };
        PointExemplar { exemplar, filtered: vec![KeyValue::new("left", "out")] }
    };
    let ids = || Some(SpanIds { trace: TraceId::from(0xabc), span: SpanId::from(0x1de) });
    let given = vec![
        at(Measured::Unsigned(3), ids()),
        at(Measured::Signed(-3), ids()),
        at(Measured::Float(0.0), ids()),
        at(Measured::Float(1.5), None),
    ];
    let exemplars = Exemplars(Some(MetricExemplars(given)));
    for encoding in BOTH {
        let [request] = requests_with(&data, &exemplars, encoding, Limits::default()).try_into().unwrap();
        let metrics = &request.message.resource_metrics[0].scope_metrics[0].metrics;
        let found = metrics.iter().map(|metric| match metric.data.as_ref().unwrap() {
            Data::Sum(sum) => &sum.data_points[0].exemplars,
            Data::Histogram(histogram) => &histogram.data_points[0].exemplars,
            Data::ExponentialHistogram(histogram) => &histogram.data_points[0].exemplars,
            Data::Gauge(gauge) => &gauge.data_points[0].exemplars,
            other => panic!("{other:?}"),
        });
        let found: Vec<_> = found.collect();
        assert_eq!(found.iter().map(|all| all.len()).sum::<usize>(), 3 * 4, "a gauge has none: {found:?}");
        for all in found.into_iter().filter(|all| !all.is_empty()) {
            use opentelemetry_proto::tonic::metrics::v1::exemplar::Value::{AsDouble, AsInt};
            let values: Vec<_> = all.iter().map(|exemplar| exemplar.value.unwrap()).collect();
            assert_eq!(values, [AsInt(3), AsInt(-3), AsDouble(0.0), AsDouble(1.5)]);
            assert!(all.iter().all(|exemplar| exemplar.time_unix_nano == 1_234));
            assert!(all.iter().all(|exemplar| exemplar.filtered_attributes[0].key == "left"));
            assert_eq!(all[0].trace_id, 0xabc_u128.to_be_bytes());
            assert_eq!(all[0].span_id, 0x1de_u64.to_be_bytes());
            assert!(all[3].trace_id.is_empty() && all[3].span_id.is_empty());
        }
    }
}

#[test]
fn data_without_points_is_no_request() {
    let source = Source::new(Temporality::Delta, resource());
    let counter = source.provider.meter("m").u64_counter("c").build();
    for recorded in [false, true, false] {
        if recorded {
            counter.add(1, &[]);
        }
        let data = source.collect();
        for encoding in BOTH {
            let mut requests = Requests::new(&data, &NONE, encoding, Limits::default());
            let mut body = b"left over".to_vec();
            assert_eq!(requests.next(&mut body), recorded.then_some(1));
            assert_eq!(body.is_empty(), !recorded);
            assert_eq!(requests.next(&mut body), None, "once for all");
            assert!(body.is_empty());
        }
    }
}

#[test]
fn a_u64_that_otlp_cannot_say_is_the_largest_it_can() {
    let source = Source::new(Temporality::Cumulative, resource());
    source.provider.meter("m").u64_gauge("g").build().record(u64::MAX, &[]);
    let data = source.collect();
    for encoding in BOTH {
        let requests = requests(&data, encoding, Limits::default());
        let Some(Data::Gauge(gauge)) = &requests[0].message.resource_metrics[0].scope_metrics[0].metrics[0].data else {
            panic!("{requests:?}");
        };
        assert_eq!(gauge.data_points[0].value, Some(number_data_point::Value::AsInt(i64::MAX)));
    }
}

#[test]
fn numbers_that_are_none_are_texts_in_json_and_themselves_in_protobuf() {
    // The SDK refuses them as measurements. They come as attributes, and as sums of what is too large.
    let source = Source::new(Temporality::Cumulative, Resource::builder_empty().build());
    let meter = source.provider.meter("m");
    let (sum, histogram) = (meter.f64_up_down_counter("s").build(), meter.f64_histogram("h").build());
    let max = f64::MAX;
    let cases = [
        ("NaN", f64::NAN, vec![0.5]),
        ("Infinity", f64::INFINITY, vec![max, max]),
        ("-Infinity", f64::NEG_INFINITY, vec![-max, -max]),
    ];
    for (text, attribute, values) in cases {
        let attributes = [KeyValue::new("a", text), KeyValue::new("b", attribute)];
        for value in values {
            sum.add(value, &attributes);
            histogram.record(value, &attributes);
        }
    }
    let data = source.collect();
    let json = json(&data);
    let mut seen = Vec::new();
    for (metric, field) in [("0/sum", "asDouble"), ("1/histogram", "sum")] {
        let path = format!("/resourceMetrics/0/scopeMetrics/0/metrics/{metric}/dataPoints");
        for point in json.pointer(&path).unwrap().as_array().unwrap() {
            let text = &point["attributes"][0]["value"]["stringValue"];
            assert_eq!(&point["attributes"][1]["value"]["doubleValue"], text);
            assert_eq!(point[field], if text == "NaN" { json!(0.5) } else { text.clone() });
            seen.push(text.as_str().unwrap());
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, ["-Infinity", "-Infinity", "Infinity", "Infinity", "NaN", "NaN"]);

    let protobuf = &requests(&data, Encoding::Protobuf, Limits::default())[0].message;
    assert_eq!(format!("{protobuf:?}"), format!("{:?}", oracle(&data)));
}

#[test]
fn json_has_integers_of_64_bits_as_texts_and_others_and_enumerations_as_numbers() {
    let source = Source::new(Temporality::Cumulative, Resource::builder_empty().build());
    let meter = source.provider.meter("m");
    meter.u64_counter("c").with_unit("s").build().add(7, &[KeyValue::new("k", 1)]);
    meter.f64_histogram("exponential").build().record(2.0, &[]);
    meter.f64_histogram("explicit").build().record(2.0, &[]);
    let mut found = json(&source.collect());
    let metrics = found.pointer_mut("/resourceMetrics/0/scopeMetrics/0/metrics").unwrap();
    for metric in metrics.as_array_mut().unwrap() {
        for kind in ["sum", "histogram", "exponentialHistogram"] {
            if let Some(point) = metric.get_mut(kind).map(|data| &mut data["dataPoints"][0]) {
                let point = point.as_object_mut().unwrap();
                for time in ["startTimeUnixNano", "timeUnixNano"] {
                    let time = point.remove(time).unwrap();
                    assert!(time.as_str().unwrap().parse::<u64>().unwrap() > 1_600_000_000_000_000_000);
                }
            }
        }
    }
    let sum = json!({
        "aggregationTemporality": 2, "isMonotonic": true,
        "dataPoints": [{"attributes": [{"key": "k", "value": {"intValue": "1"}}], "asInt": "7"}],
    });
    let exponential = json!({
        "aggregationTemporality": 2,
        "dataPoints": [{
            "count": "1", "sum": 2.0, "min": 2.0, "max": 2.0, "scale": 20, "negative": {},
            "positive": {"offset": 1048575, "bucketCounts": ["1"]},
        }],
    });
    let explicit = json!({
        "aggregationTemporality": 2,
        "dataPoints": [{
            "count": "1", "sum": 2.0, "min": 2.0, "max": 2.0,
            "bucketCounts": ["0", "1", "0"], "explicitBounds": [-1.5, 10.0],
        }],
    });
    let wanted = json!({"resourceMetrics": [{"resource": {}, "scopeMetrics": [{"scope": {"name": "m"}, "metrics": [
        {"name": "c", "unit": "s", "sum": sum},
        {"name": "exponential", "exponentialHistogram": exponential},
        {"name": "explicit", "histogram": explicit},
    ]}]}]});
    assert_eq!(found, wanted);
}

#[test]
fn json_texts_come_back_whatever_is_in_them() {
    let every: String = (0..=0x2100).filter_map(char::from_u32).chain(['\u{10ffff}', '\u{1f980}']).collect();
    for (text, escaped) in [
        ("", r#""""#),
        ("a\"b\\c/d", r#""a\"b\\c/d""#),
        ("\n\r\t\u{8}\u{c}\u{0}\u{1f}\u{7f}", "\"\\n\\r\\t\\u0008\\u000c\\u0000\\u001f\u{7f}\""),
        ("\u{2028}\u{2029}é\u{1f980}{[\",", "\"\u{2028}\u{2029}é\u{1f980}{[\\\",\""),
        ("ends with {", "\"ends with {\""),
        (every.as_str(), ""),
    ] {
        let resource = Resource::builder_empty().with_attribute(KeyValue::new(text.to_owned(), text.to_owned()));
        let source = Source::new(Temporality::Cumulative, resource.build());
        source.provider.meter("m").u64_counter("c").build().add(1, &[]);
        let data = source.collect();
        let mut body = Vec::new();
        Requests::new(&data, &NONE, Encoding::Json, Limits::default()).next(&mut body);
        let body = String::from_utf8(body).unwrap();
        assert!(body.contains(&format!("\"value\":{{\"stringValue\":{escaped}")), "{body}");
        let message: ExportMetricsServiceRequest = serde_json::from_str(&body).unwrap();
        let attribute = &message.resource_metrics[0].resource.as_ref().unwrap().attributes[0];
        let value = attribute.value.as_ref().and_then(|value| value.value.clone());
        assert_eq!((attribute.key.as_str(), value), (text, Some(any_value::Value::StringValue(text.to_owned()))));
    }
}

#[test]
fn requests_together_hold_every_point_once_in_order_and_none_is_over_a_limit() {
    let source = Source::new(Temporality::Cumulative, resource());
    record_everything(&source);
    let data = source.collect();
    for encoding in BOTH {
        for max_points in [0, 1, 2, 7].map(Some).into_iter().chain([None]) {
            for max_bytes in [0, 600, 1500, 4000, 100_000].map(Some).into_iter().chain([None]) {
                assert_cut(&data, encoding, Limits { max_points, max_bytes });
            }
        }
    }
}

#[test]
fn a_request_ends_only_where_the_next_point_would_be_too_much() {
    let source = Source::new(Temporality::Cumulative, resource());
    record_everything(&source);
    // Enough for lengths of three bytes.
    let counter = source.provider.meter("long").u64_counter("long").build();
    (0..200).for_each(|i| counter.add(1, &[KeyValue::new("i", i), KeyValue::new("text", "x".repeat(i as usize))]));
    let data = source.collect();
    for encoding in BOTH {
        let first = |max_points, max_bytes| {
            let mut body = Vec::new();
            let points =
                Requests::new(&data, &NONE, encoding, Limits { max_points, max_bytes }).next(&mut body).unwrap();
            (points, body.len())
        };
        let (total, _) = first(None, None);
        assert!(total > 200);
        for points in 1..=total {
            let (found, bytes) = first(Some(points), None);
            assert_eq!(found, points);
            assert_eq!(first(None, Some(bytes)), (points, bytes), "just large enough");
            assert_eq!(first(None, Some(bytes - 1)).0, (points - 1).max(1), "a byte too small for {points}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_data_is_said_as_opentelemetry_proto_says_it(recording in recording()) {
        for temporality in [Temporality::Cumulative, Temporality::Delta] {
            let source = Source::new(temporality, recording.resource());
            recording.play(&source);
            assert_same(&source.collect());
        }
    }

    #[test]
    fn random_data_is_cut_without_loss(recording in recording(), max_points in 0..9_usize, max_bytes in 0..3000_usize) {
        let source = Source::new(Temporality::Cumulative, recording.resource());
        recording.play(&source);
        let data = source.collect();
        for encoding in BOTH {
            assert_cut(&data, encoding, Limits { max_points: Some(max_points), max_bytes: None });
            assert_cut(&data, encoding, Limits { max_points: None, max_bytes: Some(max_bytes) });
            assert_cut(&data, encoding, Limits { max_points: Some(max_points), max_bytes: Some(max_bytes) });
        }
    }
}

/// A provider that collects when it is asked to. Views make `explicit…`, `extremeless…`, `boundless…` and `exponential…`
/// histograms of their kind, whatever the instrument.
struct Source {
    provider: SdkMeterProvider,
    reader: Shared,
}

impl Source {
    fn new(temporality: Temporality, resource: Resource) -> Self {
        let reader = Shared(Arc::new(ManualReader::builder().with_temporality(temporality).build()));
        let explicit = |boundaries, record_min_max| Aggregation::ExplicitBucketHistogram { boundaries, record_min_max };
        let view = move |instrument: &Instrument| {
            let aggregation = match instrument.name() {
                name if name.starts_with("explicit") => explicit(vec![-1.5, 10.0], true),
                name if name.starts_with("extremeless") => explicit(vec![0.0, 1.0, 2.0], false),
                name if name.starts_with("boundless") => explicit(vec![], true),
                name if name.starts_with("exponential") => {
                    Aggregation::Base2ExponentialHistogram { max_size: 20, max_scale: 20, record_min_max: true }
                }
                _ => return None,
            };
            Stream::builder().with_aggregation(aggregation).build().ok()
        };
        let provider =
            SdkMeterProvider::builder().with_reader(reader.clone()).with_resource(resource).with_view(view).build();
        Self { provider, reader }
    }

    fn collect(&self) -> ResourceMetrics {
        let mut data = ResourceMetrics::default();
        self.reader.collect(&mut data).unwrap();
        data
    }
}

#[derive(Clone, Debug)]
struct Shared(Arc<ManualReader>);

impl MetricReader for Shared {
    fn register_pipeline(&self, pipeline: Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, data: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(data)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.0.temporality(kind)
    }
}

fn attributes() -> Vec<KeyValue> {
    vec![
        KeyValue::new("string", "text"),
        KeyValue::new("empty", ""),
        KeyValue::new("long", "x".repeat(200)),
        KeyValue::new("true", true),
        KeyValue::new("false", false),
        KeyValue::new("zero", 0),
        KeyValue::new("negative", i64::MIN),
        KeyValue::new("positive", i64::MAX),
        KeyValue::new("float", 0.1),
        KeyValue::new("zero_float", 0.0),
        KeyValue::new(
            "strings",
            Value::Array(Array::from(vec![StringValue::from("a"), StringValue::from(""), "\"\n".into()])),
        ),
        KeyValue::new("bools", Value::Array(Array::from(vec![true, false]))),
        KeyValue::new("ints", Value::Array(Array::from(vec![0_i64, -1, i64::MAX]))),
        KeyValue::new("floats", Value::Array(Array::from(vec![0.0, -1.5, 1e300]))),
        KeyValue::new("none", Value::Array(Array::from(Vec::<i64>::new()))),
    ]
}

fn resource() -> Resource {
    Resource::builder_empty().with_schema_url(attributes(), "https://example.com/resource").build()
}

fn record_everything(source: &Source) {
    let scope = InstrumentationScope::builder("full")
        .with_version("1.2.3")
        .with_schema_url("https://example.com/scope")
        .with_attributes(attributes())
        .build();
    for meter in [source.provider.meter_with_scope(scope), source.provider.meter("bare"), source.provider.meter("")] {
        let sets = [vec![], vec![KeyValue::new("k", "v")], attributes()];
        let (u64s, i64s, f64s) = ([0, 3, i64::MAX as u64], [-3, 0, i64::MAX], [-2.5, 0.0, 1e300_f64]);
        for (i, set) in sets.iter().enumerate() {
            meter.u64_counter("u64_counter").with_unit("By").with_description("Read.").build().add(u64s[i], set);
            meter.f64_counter("f64_counter").build().add(f64s[i].abs(), set);
            meter.i64_up_down_counter("i64_up_down").build().add(i64s[i], set);
            meter.f64_up_down_counter("f64_up_down").build().add(f64s[i], set);
            meter.u64_gauge("u64_gauge").build().record(u64s[i], set);
            meter.i64_gauge("i64_gauge").build().record(i64s[i], set);
            meter.f64_gauge("f64_gauge").build().record(f64s[i], set);
            for kind in ["explicit", "extremeless", "boundless", "exponential", "default"] {
                let unsigned = meter.u64_histogram(format!("{kind}_u64")).build();
                let float = meter.f64_histogram(format!("{kind}_f64")).build();
                let signed = meter.i64_gauge(format!("{kind}_i64")).build();
                for n in 0..40_i32 {
                    unsigned.record(n as u64 * u64s[i].min(1000), set);
                    float.record(f64::from(n - 20) * f64s[i].min(10.0), set);
                    signed.record(i64::from(n - 20) * i64s[i].min(1000), set);
                }
            }
        }
        let observed = attributes();
        let _ = meter.u64_observable_counter("observed").with_callback(move |o| o.observe(5, &observed)).build();
        let _ = meter.i64_observable_gauge("unobserved").with_callback(|_| {}).build();
    }
}

/// One thing to record after the other.
#[derive(Clone, Debug)]
struct Recording {
    resource: Vec<KeyValue>,
    schema_url: String,
    scopes: Vec<Scope>,
}

/// Name, version, schema URL, attributes.
type Scope = (String, Option<String>, Option<String>, Vec<KeyValue>, Vec<Recorded>);

#[derive(Clone, Debug)]
struct Recorded {
    instrument: usize,
    description: String,
    values: Vec<(f64, i64, Vec<KeyValue>)>,
}

impl Recording {
    fn resource(&self) -> Resource {
        Resource::builder_empty().with_schema_url(self.resource.clone(), self.schema_url.clone()).build()
    }

    fn play(&self, source: &Source) {
        for (name, version, schema_url, attributes, recorded) in &self.scopes {
            let mut scope = InstrumentationScope::builder(name.clone()).with_attributes(attributes.clone());
            if let Some(version) = version {
                scope = scope.with_version(version.clone());
            }
            if let Some(url) = schema_url {
                scope = scope.with_schema_url(url.clone());
            }
            let meter = source.provider.meter_with_scope(scope.build());
            for (i, recorded) in recorded.iter().enumerate() {
                recorded.play(&meter, i);
            }
        }
    }
}

impl Recorded {
    fn play(&self, meter: &Meter, i: usize) {
        let (kind, help) = (self.instrument / 7, self.description.clone());
        let kind = ["explicit", "extremeless", "boundless", "exponential", "plain"][kind];
        let name = format!("{kind}{i}");
        for (float, int, set) in &self.values {
            let (name, help, size) = (name.clone(), help.clone(), int.unsigned_abs() >> 1);
            match self.instrument % 7 {
                0 => meter.u64_counter(name).with_description(help).build().add(size >> 8, set),
                1 => meter.f64_counter(name).with_description(help).build().add(float.abs(), set),
                2 => meter.i64_up_down_counter(name).with_description(help).build().add(int >> 8, set),
                3 => meter.i64_gauge(name).with_description(help).build().record(int >> 8, set),
                4 => meter.f64_gauge(name).with_description(help).build().record(*float, set),
                5 => meter.u64_histogram(name).with_description(help).build().record(size >> 8, set),
                _ => meter.f64_histogram(name).with_description(help).build().record(*float, set),
            }
        }
    }
}

fn recording() -> impl Strategy<Value = Recording> {
    let recorded = (0..35_usize, "[ -~]{0,9}", prop::collection::vec((number(), any::<i64>(), pairs()), 0..6))
        .prop_map(|(instrument, description, values)| Recorded { instrument, description, values });
    let recorded = prop::collection::vec(recorded, 0..6);
    let scope = (any::<String>(), any::<Option<String>>(), any::<Option<String>>(), pairs(), recorded);
    (pairs(), any::<String>(), prop::collection::vec(scope, 0..4))
        .prop_map(|(resource, schema_url, scopes)| Recording { resource, schema_url, scopes })
}

/// A number whose sums are numbers too: neither side's JSON reader knows others.
fn number() -> impl Strategy<Value = f64> {
    use prop::num::f64::{NEGATIVE, NORMAL, POSITIVE, SUBNORMAL, ZERO};
    let any = POSITIVE | NEGATIVE | NORMAL | SUBNORMAL | ZERO;
    prop_oneof![any.prop_map(|value| value.clamp(-1e300, 1e300)), (-50..50).prop_map(|value| f64::from(value) / 4.0)]
}

fn pairs() -> impl Strategy<Value = Vec<KeyValue>> {
    let list = || 0..4_usize;
    let value = prop_oneof![
        any::<String>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        number().prop_map(Value::from),
        prop::collection::vec(any::<String>().prop_map(StringValue::from), list())
            .prop_map(|v| Value::Array(Array::from(v))),
        prop::collection::vec(any::<bool>(), list()).prop_map(|v| Value::Array(Array::from(v))),
        prop::collection::vec(any::<i64>(), list()).prop_map(|v| Value::Array(Array::from(v))),
        prop::collection::vec(number(), list()).prop_map(|v| Value::Array(Array::from(v))),
    ];
    // A key at least a character long; prost leaves out an empty one, and lengths are compared.
    let pair = ("\\PC{1,8}", value).prop_map(|(key, value)| KeyValue::new(key, value));
    prop::collection::vec(pair, 0..5)
}

/// What opentelemetry-proto makes of the data, but for metrics and scopes without points.
fn oracle(data: &ResourceMetrics) -> ExportMetricsServiceRequest {
    let mut request = ExportMetricsServiceRequest::from(data);
    for resource in &mut request.resource_metrics {
        for scope in &mut resource.scope_metrics {
            // The least and the most of nothing, which the SDK has as the ends of its numbers.
            for metric in &mut scope.metrics {
                match &mut metric.data {
                    Some(Data::Histogram(data)) => {
                        let empty = data.data_points.iter_mut().filter(|point| point.count == 0);
                        empty.for_each(|point| (point.min, point.max) = (None, None));
                    }
                    Some(Data::ExponentialHistogram(data)) => {
                        let empty = data.data_points.iter_mut().filter(|point| point.count == 0);
                        empty.for_each(|point| (point.min, point.max) = (None, None));
                    }
                    _ => {}
                }
            }
            scope.metrics.retain(|metric| match &metric.data {
                Some(Data::Gauge(data)) => !data.data_points.is_empty(),
                Some(Data::Sum(data)) => !data.data_points.is_empty(),
                Some(Data::Histogram(data)) => !data.data_points.is_empty(),
                Some(Data::ExponentialHistogram(data)) => !data.data_points.is_empty(),
                other => panic!("{other:?}"),
            });
        }
        resource.scope_metrics.retain(|scope| !scope.metrics.is_empty());
    }
    request.resource_metrics.retain(|resource| !resource.scope_metrics.is_empty());
    request
}

fn kinds(request: &ExportMetricsServiceRequest) -> usize {
    request.resource_metrics[0].scope_metrics[0].metrics.len()
}

#[derive(Debug)]
struct Request {
    message: ExportMetricsServiceRequest,
    points: usize,
    bytes: usize,
}

/// All requests, as others read them.
fn requests(data: &ResourceMetrics, encoding: Encoding, limits: Limits) -> Vec<Request> {
    requests_with(data, &NONE, encoding, limits)
}

fn requests_with(data: &ResourceMetrics, exemplars: &Exemplars, encoding: Encoding, limits: Limits) -> Vec<Request> {
    let mut requests = Requests::new(data, exemplars, encoding, limits);
    let mut body = Vec::new();
    std::iter::from_fn(|| {
        let points = requests.next(&mut body)?;
        let message = match encoding {
            Encoding::Protobuf => {
                let message = ExportMetricsServiceRequest::decode(body.as_slice()).unwrap();
                assert_eq!(body.len(), message.encoded_len(), "no byte more than needed");
                message
            }
            Encoding::Json => serde_json::from_slice(&body)
                .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&body))),
        };
        Some(Request { message, points, bytes: body.len() })
    })
    .collect()
}

fn json(data: &ResourceMetrics) -> serde_json::Value {
    let mut body = Vec::new();
    Requests::new(data, &NONE, Encoding::Json, Limits::default()).next(&mut body);
    serde_json::from_slice(&body).unwrap()
}

fn assert_same(data: &ResourceMetrics) {
    let wanted = oracle(data);
    for encoding in BOTH {
        let requests = requests(data, encoding, Limits::default());
        match requests.as_slice() {
            [] => assert!(wanted.resource_metrics.is_empty()),
            [only] => {
                assert_eq!(only.message, wanted, "{encoding:?}");
                assert_eq!(only.points, points(&wanted).len());
            }
            _ => panic!("without limits there is one request"),
        }
    }
}

/// That the requests hold the same points as the data, each within the same metric, scope and resource, and that none is
/// over a limit unless it holds only one point.
fn assert_cut(data: &ResourceMetrics, encoding: Encoding, limits: Limits) {
    let mut found = Vec::new();
    for request in requests(data, encoding, limits) {
        let points = points(&request.message);
        assert_eq!(request.points, points.len());
        assert!(request.points > 0);
        if request.points > 1 {
            assert!(limits.max_points.is_none_or(|max| request.points <= max), "{limits:?}");
            assert!(limits.max_bytes.is_none_or(|max| request.bytes <= max), "{limits:?}");
        }
        // What holds no points is not there.
        for scope in &request.message.resource_metrics[0].scope_metrics {
            assert!(!scope.metrics.is_empty());
        }
        found.extend(points);
    }
    assert_eq!(found, points(&oracle(data)), "{encoding:?} {limits:?}");
}

/// Each point with everything that it is in.
fn points(request: &ExportMetricsServiceRequest) -> Vec<String> {
    let mut points = Vec::new();
    for resource in &request.resource_metrics {
        for scope in &resource.scope_metrics {
            for metric in &scope.metrics {
                let (kind, texts): (_, Vec<String>) = match metric.data.as_ref().unwrap() {
                    Data::Gauge(data) => {
                        ("gauge".to_owned(), data.data_points.iter().map(|p| format!("{p:?}")).collect())
                    }
                    Data::Sum(data) => (
                        format!("sum {} {}", data.aggregation_temporality, data.is_monotonic),
                        data.data_points.iter().map(|p| format!("{p:?}")).collect(),
                    ),
                    Data::Histogram(data) => (
                        format!("histogram {}", data.aggregation_temporality),
                        data.data_points.iter().map(|p| format!("{p:?}")).collect(),
                    ),
                    Data::ExponentialHistogram(data) => (
                        format!("exponential {}", data.aggregation_temporality),
                        data.data_points.iter().map(|p| format!("{p:?}")).collect(),
                    ),
                    other => panic!("{other:?}"),
                };
                assert!(!texts.is_empty(), "{metric:?}");
                let (resource, scope) = ((&resource.resource, &resource.schema_url), (&scope.scope, &scope.schema_url));
                let metric = (&metric.name, &metric.description, &metric.unit, kind);
                points.extend(texts.into_iter().map(|text| format!("{resource:?} {scope:?} {metric:?} {text}")));
            }
        }
    }
    points
}
