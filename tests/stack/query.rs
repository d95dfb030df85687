//! What a server answers that speaks Prometheus' query API.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test helper reports to the person who runs the tests, and fails by panicking"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use crate::process::poll;
use crate::request;

// What depends on a scrape takes at least one scrape interval.
pub(crate) const QUERY_POLL: Duration = Duration::from_millis(200);

/// The query API at an address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queries {
    pub(crate) address: SocketAddr,
}

impl Queries {
    /// The result of an instant query as of now, in the order of the labels.
    #[track_caller]
    pub(crate) fn query(&self, promql: &str) -> Vec<Sample> {
        samples(&self.data(&format!("/api/v1/query?query={}", percent_encoded(promql))))
    }

    /// The native histograms in the result of an instant query; whatever else is there panics.
    #[track_caller]
    pub(crate) fn query_histograms(&self, promql: &str) -> Vec<NativeHistogram> {
        let data = self.data(&format!("/api/v1/query?query={}", percent_encoded(promql)));
        data["result"].as_array().expect("a vector is a list").iter().map(native_histogram).collect()
    }

    /// The samples of each series in the result of a range selector: seconds since 1970 and value.
    #[track_caller]
    pub(crate) fn query_matrix(&self, selector: &str) -> Vec<Vec<(f64, f64)>> {
        let data = self.data(&format!("/api/v1/query?query={}", percent_encoded(selector)));
        assert_eq!(data["resultType"], "matrix", "{selector} selects a range");
        let point = |point: &Value| (point[0].as_f64().expect("a time is a number"), number(point));
        let points =
            |series: &Value| series["values"].as_array().map_or(&[][..], Vec::as_slice).iter().map(point).collect();
        let series = data["result"].as_array().expect("a matrix is a list");
        series.iter().map(points).collect()
    }

    /// Repeats the query until the predicate holds for its result, and returns that result.
    #[track_caller]
    pub(crate) fn wait_for(
        &self,
        promql: &str,
        deadline: Duration,
        predicate: impl Fn(&[Sample]) -> bool,
    ) -> Vec<Sample> {
        poll(deadline, QUERY_POLL, || {
            let samples = self.query(promql);
            if predicate(&samples) { Ok(samples) } else { Err(format!("{promql} last gave {samples:#?}")) }
        })
    }

    /// Whether the result of an instant query as of now holds anything to be drawn: a number, or a native histogram.
    ///
    /// # Errors
    ///
    /// What the server has to say against the query.
    pub(crate) fn gives_data(&self, promql: &str) -> Result<bool, String> {
        let data = self.try_data(&format!("/api/v1/query?query={}", percent_encoded(promql)))?;
        let is_number = |value: &Value| value[1].as_str().is_some_and(|value| value != "NaN");
        let is_data = |series: &Value| series.get("histogram").is_some() || is_number(&series["value"]);
        Ok(match &data["result"] {
            Value::Array(series) if data["resultType"] == "vector" => series.iter().any(is_data),
            scalar => is_number(scalar),
        })
    }

    #[track_caller]
    pub(crate) fn data(&self, target: &str) -> Value {
        self.try_data(target).unwrap_or_else(|error| panic!("GET {target}: {error}"))
    }

    fn try_data(&self, target: &str) -> Result<Value, String> {
        let response = request::get(self.address, target, "").map_err(|error| error.to_string())?;
        let body = response.text();
        match serde_json::from_str::<Value>(&body) {
            Ok(mut answer) if response.status == 200 && answer["status"] == "success" => Ok(answer["data"].take()),
            _ => Err(format!("the server answered {} with {body}", response.status)),
        }
    }
}

/// One series of an instant query's result.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

/// One series of an instant query's result that is a native histogram.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NativeHistogram {
    pub(crate) count: f64,
    pub(crate) sum: f64,
    /// Lower bound, upper bound and count, ascending, without those that are empty.
    pub(crate) buckets: Vec<(f64, f64, f64)>,
}

#[track_caller]
fn samples(data: &Value) -> Vec<Sample> {
    let mut samples: Vec<Sample> = match (data["resultType"].as_str(), &data["result"]) {
        (Some("vector"), Value::Array(series)) => series.iter().map(sample).collect(),
        (Some("scalar"), value) => vec![Sample { labels: BTreeMap::new(), value: number(value) }],
        _ => panic!("neither a vector nor a scalar: {data}"),
    };
    // Prometheus promises no order.
    samples.sort_by(|a, b| a.labels.cmp(&b.labels));
    samples
}

#[track_caller]
fn sample(series: &Value) -> Sample {
    Sample { labels: labels(series), value: number(&series["value"]) }
}

#[track_caller]
fn labels(series: &Value) -> BTreeMap<String, String> {
    let labels = series["metric"].as_object().expect("a series has labels");
    labels.iter().map(|(name, value)| (name.clone(), text(value))).collect()
}

/// Reads `[1700000000.1, {"count": "1", "sum": "2", "buckets": [[0, "1", "2", "1"]]}]`, where a bucket begins with which
/// of its bounds belong to it.
#[track_caller]
fn native_histogram(series: &Value) -> NativeHistogram {
    let histogram = &series["histogram"][1];
    let number = |value: &Value| match value.as_str().map(str::parse) {
        Some(Ok(number)) => number,
        _ => panic!("not a native histogram: {series}"),
    };
    let bucket = |bucket: &Value| (number(&bucket[1]), number(&bucket[2]), number(&bucket[3]));
    NativeHistogram {
        count: number(&histogram["count"]),
        sum: number(&histogram["sum"]),
        buckets: histogram["buckets"].as_array().map_or(&[][..], Vec::as_slice).iter().map(bucket).collect(),
    }
}

/// Reads `[1700000000.1, "+Inf"]`; numbers are strings there, because JSON has neither infinity nor NaN.
#[track_caller]
fn number(value: &Value) -> f64 {
    match value[1].as_str().map(str::parse) {
        Some(Ok(number)) => number,
        _ => panic!("not a plain number, perhaps a native histogram: {value}"),
    }
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_encoded_byte_by_byte() {
        assert_eq!(
            percent_encoded(r#"rate(a_b{c="é"}[1m]) + 1"#),
            "rate%28a_b%7Bc%3D%22%C3%A9%22%7D%5B1m%5D%29%20%2B%201"
        );
    }
}
