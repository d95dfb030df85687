//! What a Collector understood, as samples: as close to it as they can be without being changed.

use serde_json::Value;

use super::described;
use crate::Series;
use crate::otlp::sink::Received;
use crate::prometheus::Sample;

/// What a point of OTLP has besides its value stands among the samples, under its name behind this.
pub(super) const BESIDE: &str = "(beside) ";

/// The points that the Collector understood, as close to samples as they can be without being changed.
pub(super) fn points(request: &Received) -> Vec<Sample> {
    let mut samples = Vec::new();
    for resource in elements(&request.body["resourceMetrics"]) {
        let of_resource = labels_of(&resource["resource"]["attributes"], |key| key.replace('.', "_"));
        for scope in elements(&resource["scopeMetrics"]) {
            let part = |part: &str| (format!("scope_{part}"), scope["scope"][part].as_str().unwrap().to_owned());
            let context: Series = of_resource.clone().into_iter().chain([part("name"), part("version")]).collect();
            for metric in elements(&scope["metrics"]) {
                add_points(&mut samples, metric, &context);
                let text = |field: &str| metric[field].as_str().unwrap_or_default();
                samples.push(described(text("name"), kind(metric), text("description"), text("unit")));
            }
        }
    }
    samples
}

/// What Prometheus would call it.
fn kind(metric: &Value) -> &'static str {
    match &metric["sum"] {
        Value::Null if metric["histogram"].is_object() => "histogram",
        Value::Null if metric["gauge"].is_object() => "gauge",
        Value::Null => panic!("what is {metric}?"),
        sum if sum["isMonotonic"] == true => "counter",
        _ => "gauge",
    }
}

fn add_points(samples: &mut Vec<Sample>, metric: &Value, context: &Series) {
    let metric_name = metric["name"].as_str().unwrap();
    let data = ["sum", "gauge", "histogram"].iter().map(|kind| &metric[*kind]).find(|data| data.is_object()).unwrap();
    if metric["gauge"].is_null() {
        assert_eq!(data["aggregationTemporality"], CUMULATIVE, "{metric_name}");
    }
    for point in elements(&data["dataPoints"]) {
        let mut add = |prefix: &str, suffix: &str, bound: Option<String>, value: f64| {
            let attributes = labels_of(&point["attributes"], str::to_owned);
            let mut labels: Series = context.clone().into_iter().chain(attributes).collect();
            labels.insert("__name__".to_owned(), format!("{prefix}{metric_name}{suffix}"));
            labels.extend(bound.map(|bound| ("le".to_owned(), bound)));
            samples.push(Sample { labels, value });
        };
        add(BESIDE, "_start", None, number(&point["startTimeUnixNano"]));
        if metric["histogram"].is_null() {
            let value = if point["asInt"].is_null() { &point["asDouble"] } else { &point["asInt"] };
            add("", "", None, number(value));
            continue;
        }
        let bounds = elements(&point["explicitBounds"]).map(|bound| number(bound).to_string());
        for (bound, count) in bounds.chain(["+Inf".to_owned()]).zip(elements(&point["bucketCounts"])) {
            add("", "_bucket", Some(bound), number(count));
        }
        add("", "_sum", None, number(&point["sum"]));
        add("", "_count", None, number(&point["count"]));
        for field in ["min", "max"] {
            if !point[field].is_null() {
                add(BESIDE, field, None, number(&point[field]));
            }
        }
    }
}

/// `AGGREGATION_TEMPORALITY_CUMULATIVE`.
const CUMULATIVE: u64 = 2;

pub(crate) fn elements(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

pub(crate) fn labels_of(attributes: &Value, key: impl Fn(&str) -> String) -> Series {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    // What is an integer is text in OTLP's JSON.
    let value = |value: &Value| text(value.get("stringValue").unwrap_or(&value["intValue"]));
    let attribute = |attribute: &Value| (key(&text(&attribute["key"])), value(&attribute["value"]));
    elements(attributes).map(attribute).collect()
}

/// A number of OTLP/JSON: large ones are text, and what is 0 is left out.
pub(crate) fn number(value: &Value) -> f64 {
    match value {
        Value::Null => 0.0,
        Value::String(text) => text.parse().unwrap(),
        number => number.as_f64().unwrap(),
    }
}
