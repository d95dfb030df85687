//! From a collection to the OTLP requests that carry it: one walk over the data, whatever the encoding.
//!
//! What is a list of messages before it comes to the points is cut where a request gets too large; the next request says
//! the same resource, scope and metric again and goes on. In each message the lists come last. So of a message that was
//! begun nothing is to follow but points, and its length is known after each of them.

use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry::{Array, Key, KeyValue, Value};
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::{
    AggregatedMetrics, ExponentialBucket, ExponentialHistogramDataPoint, HistogramDataPoint, Metric, MetricData,
    ResourceMetrics, ScopeMetrics,
};

use super::json;
use super::protobuf;
// By way of the module above, so that a test can compile this file with exemplars of its own.
use super::{Exemplars, Measured, MetricExemplars, PointExemplar};

/// How requests are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Protobuf,
    Json,
}

/// How large a request may be. Defaults to any size.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    pub(crate) max_points: Option<usize>,
    /// Of the body before it is compressed.
    pub(crate) max_bytes: Option<usize>,
}

/// Cuts a collection into requests that stay within limits.
///
/// Every request holds a point at least, even one that is too large by itself: whoever receives it may still take it.
/// Metrics and scopes without points are left out.
#[derive(Debug)]
pub(crate) struct Requests<'a> {
    data: &'a ResourceMetrics,
    exemplars: &'a Exemplars,
    encoding: Encoding,
    limits: Limits,
    next: Position,
}

impl<'a> Requests<'a> {
    pub(crate) fn new(data: &'a ResourceMetrics, exemplars: &'a Exemplars, encoding: Encoding, limits: Limits) -> Self {
        Self { data, exemplars, encoding, limits, next: Position::default() }
    }

    /// Writes the next request into `body`, which is cleared first, and returns how many points it holds; `None` when all
    /// of them were given out.
    pub(crate) fn next(&mut self, body: &mut Vec<u8>) -> Option<usize> {
        body.clear();
        let mut cut = Cut { limits: self.limits, next: self.next, points: 0, is_full: false };
        let (data, exemplars) = (self.data, self.exemplars);
        match self.encoding {
            Encoding::Protobuf => protobuf::write(body, |writer| request(writer, data, exemplars, &mut cut)),
            Encoding::Json => json::write(body, |writer| request(writer, data, exemplars, &mut cut)),
        }
        self.next = cut.next;
        if cut.points == 0 {
            body.clear();
            return None;
        }
        Some(cut.points)
    }
}

/// Writes messages. A field has a number in one encoding and a name in the other, so it is given both.
///
/// What is given is written, default or not: which fields may be left out is for the walk to know.
pub(super) trait Writer {
    fn string(&mut self, field: u8, name: &str, value: &str);
    fn bool(&mut self, field: u8, name: &str, value: bool);
    fn enumeration(&mut self, field: u8, name: &str, value: u8);
    fn int64(&mut self, field: u8, name: &str, value: i64);
    fn sint32(&mut self, field: u8, name: &str, value: i32);
    fn fixed64(&mut self, field: u8, name: &str, value: u64);
    fn sfixed64(&mut self, field: u8, name: &str, value: i64);
    fn double(&mut self, field: u8, name: &str, value: f64);
    /// The id of a trace or a span, which is in hexadecimal digits where everything else that is bytes would be in base64.
    fn id(&mut self, field: u8, name: &str, value: &[u8]);

    fn uint64s(&mut self, field: u8, name: &str, values: impl Iterator<Item = u64>);
    fn fixed64s(&mut self, field: u8, name: &str, values: impl Iterator<Item = u64>);
    fn doubles(&mut self, field: u8, name: &str, values: impl Iterator<Item = f64>);

    fn message(&mut self, field: u8, name: &str, write: impl FnOnce(&mut Self));
    /// A list of messages: `write` gives each of them to [`item`](Self::item), by the same number.
    fn list(&mut self, name: &str, write: impl FnOnce(&mut Self));
    fn item(&mut self, field: u8, write: impl FnOnce(&mut Self));

    /// How long the request were if it ended here, and everything begun with it.
    fn closed_len(&self) -> usize;
    /// Where [`rewind`](Self::rewind) comes back to.
    fn mark(&self) -> usize;
    /// Forgets what was written since; everything begun since must have ended.
    fn rewind(&mut self, mark: usize);

    /// A list of messages that is left out if it is empty.
    fn messages<T>(
        &mut self,
        field: u8,
        name: &str,
        items: impl Iterator<Item = T>,
        mut write: impl FnMut(&mut Self, T),
    ) {
        let mut items = items.peekable();
        if items.peek().is_some() {
            self.list(name, |w| items.for_each(|item| w.item(field, |w| write(w, item))));
        }
    }

    /// A text that is left out if it is empty.
    fn text(&mut self, field: u8, name: &str, value: &str) {
        if !value.is_empty() {
            self.string(field, name, value);
        }
    }

    /// A number that is left out if it is 0.
    fn nonzero(&mut self, field: u8, name: &str, value: u64) {
        if value != 0 {
            self.fixed64(field, name, value);
        }
    }
}

/// The first point that was not given out yet, each part counted within the one before.
#[derive(Clone, Copy, Debug, Default)]
struct Position {
    scope: usize,
    metric: usize,
    point: usize,
}

/// Decides where a request ends.
struct Cut {
    limits: Limits,
    next: Position,
    /// How many points the request holds.
    points: usize,
    is_full: bool,
}

impl Cut {
    /// Takes the point that was just written, or refuses it because the request were too large with it.
    fn take(&mut self, writer: &impl Writer) {
        let Limits { max_points, max_bytes } = self.limits;
        let is_too_many = max_points.is_some_and(|max| self.points >= max);
        let is_too_large = || max_bytes.is_some_and(|max| writer.closed_len() > max);
        self.is_full = self.points > 0 && (is_too_many || is_too_large());
        if !self.is_full {
            self.points += 1;
            self.next.point += 1;
        }
    }

    /// Writes the messages of a list until the request is full, but for those that hold no point that was taken.
    /// Returns whether the list is through.
    fn list<W: Writer, T>(
        &mut self,
        writer: &mut W,
        field: u8,
        name: &str,
        items: impl Iterator<Item = T>,
        mut write: impl FnMut(&mut W, &mut Self, T),
    ) -> bool {
        writer.list(name, |writer| {
            for item in items {
                let (mark, points) = (writer.mark(), self.points);
                writer.item(field, |writer| write(writer, self, item));
                if self.points == points {
                    writer.rewind(mark);
                }
                if self.is_full {
                    break;
                }
            }
        });
        !self.is_full
    }
}

fn request<W: Writer>(w: &mut W, data: &ResourceMetrics, exemplars: &Exemplars, cut: &mut Cut) {
    // The SDK shows its lists as iterators; they are slices underneath, and to skip takes no time.
    let scopes = data.scope_metrics().skip(cut.next.scope);
    w.list("resourceMetrics", |w| {
        w.item(1, |w| {
            w.message(1, "resource", |w| {
                w.messages(1, "attributes", data.resource().iter(), |w, (key, value)| attribute(w, key, value));
            });
            w.text(3, "schemaUrl", data.resource().schema_url().unwrap_or_default());
            cut.list(w, 2, "scopeMetrics", scopes, |w, cut, scope| {
                if scope_metrics(w, scope, exemplars, cut) {
                    cut.next = Position { scope: cut.next.scope + 1, ..Position::default() };
                }
            });
        });
    });
}

fn scope_metrics<W: Writer>(w: &mut W, data: &ScopeMetrics, exemplars: &Exemplars, cut: &mut Cut) -> bool {
    let scope = data.scope();
    w.message(1, "scope", |w| {
        w.text(1, "name", scope.name());
        w.text(2, "version", scope.version().unwrap_or_default());
        w.messages(3, "attributes", scope.attributes(), key_value);
    });
    w.text(3, "schemaUrl", scope.schema_url().unwrap_or_default());
    let metrics = data.metrics().skip(cut.next.metric);
    cut.list(w, 2, "metrics", metrics, |w, cut, data| {
        if metric(w, data, exemplars.of(cut.next.scope, cut.next.metric), cut) {
            cut.next = Position { metric: cut.next.metric + 1, point: 0, ..cut.next };
        }
    })
}

fn metric<W: Writer>(w: &mut W, metric: &Metric, exemplars: Option<&MetricExemplars>, cut: &mut Cut) -> bool {
    w.text(1, "name", metric.name());
    w.text(2, "description", metric.description());
    w.text(3, "unit", metric.unit());
    match metric.data() {
        AggregatedMetrics::F64(data) => metric_data(w, data, exemplars, cut),
        AggregatedMetrics::U64(data) => metric_data(w, data, exemplars, cut),
        AggregatedMetrics::I64(data) => metric_data(w, data, exemplars, cut),
    }
}

fn metric_data<W: Writer, T: Number>(
    w: &mut W,
    data: &MetricData<T>,
    all: Option<&MetricExemplars>,
    cut: &mut Cut,
) -> bool {
    match data {
        MetricData::Gauge(gauge) => {
            let times = Times::new(gauge.start_time(), gauge.time());
            points(w, 5, "gauge", None, gauge.data_points(), cut, |w, point| {
                number(w, point.value(), times, point.attributes(), &[]);
            })
        }
        MetricData::Sum(sum) => {
            let times = Times::new(Some(sum.start_time()), sum.time());
            let kind = Some((sum.temporality(), sum.is_monotonic()));
            points(w, 7, "sum", kind, sum.data_points(), cut, |w, point| {
                let exemplars = all.map_or(&[][..], |all| all.of_point(point.attributes()));
                number(w, point.value(), times, point.attributes(), exemplars);
            })
        }
        MetricData::Histogram(data) => {
            let times = Times::new(Some(data.start_time()), data.time());
            let kind = Some((data.temporality(), false));
            points(w, 9, "histogram", kind, data.data_points(), cut, |w, point| {
                histogram(w, point, times, all.map_or(&[], |all| all.of_point(point.attributes())));
            })
        }
        MetricData::ExponentialHistogram(data) => {
            let times = Times::new(Some(data.start_time()), data.time());
            let kind = Some((data.temporality(), false));
            let write = |w: &mut W, point: &ExponentialHistogramDataPoint<T>| {
                let exemplars = all.map_or(&[][..], |all| all.of_point(point.attributes()));
                exponential_histogram(w, point, times, exemplars);
            };
            points(w, 10, "exponentialHistogram", kind, data.data_points(), cut, write)
        }
    }
}

/// Writes the points of a metric within the message of its kind, and says whether they are through. A kind that adds up
/// says over which time, and whether it only grows.
fn points<W: Writer, P>(
    w: &mut W,
    field: u8,
    name: &str,
    kind: Option<(Temporality, bool)>,
    points: impl Iterator<Item = P>,
    cut: &mut Cut,
    write: impl Fn(&mut W, P),
) -> bool {
    let points = points.skip(cut.next.point);
    let mut is_through = false;
    w.message(field, name, |w| {
        if let Some((temporality, is_monotonic)) = kind {
            // What the specification may come to add is taken for cumulative, as other exporters do.
            let temporality = if temporality == Temporality::Delta { 1 } else { 2 };
            w.enumeration(2, "aggregationTemporality", temporality);
            if is_monotonic {
                w.bool(3, "isMonotonic", true);
            }
        }
        is_through = cut.list(w, 1, "dataPoints", points, |w, cut, point| {
            write(w, point);
            cut.take(w);
        });
    });
    is_through
}

/// Nanoseconds since 1970. 0 is what receivers take for unknown.
#[derive(Clone, Copy)]
struct Times {
    start: u64,
    time: u64,
}

impl Times {
    fn new(start: Option<SystemTime>, time: SystemTime) -> Self {
        Self { start: start.map(nanos).unwrap_or_default(), time: nanos(time) }
    }

    /// All kinds of points have the same numbers for them.
    fn write(self, w: &mut impl Writer) {
        w.nonzero(2, "startTimeUnixNano", self.start);
        w.nonzero(3, "timeUnixNano", self.time);
    }
}

fn nanos(time: SystemTime) -> u64 {
    // A clock before 1970 was never set. 64 bits last until 2554.
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

fn number<'a, T: Number>(
    w: &mut impl Writer,
    value: T,
    times: Times,
    attributes: impl Iterator<Item = &'a KeyValue>,
    exemplars: &[PointExemplar],
) {
    w.messages(7, "attributes", attributes, key_value);
    times.write(w);
    value.write(w);
    w.messages(5, "exemplars", exemplars.iter(), exemplar);
}

fn exemplar(w: &mut impl Writer, point: &PointExemplar) {
    w.messages(7, "filteredAttributes", point.filtered.iter(), key_value);
    w.nonzero(2, "timeUnixNano", nanos(point.exemplar.time));
    match point.exemplar.value {
        Measured::Unsigned(value) => value.write(w),
        Measured::Signed(value) => value.write(w),
        // The number that a float has here is the one that it has in a point less 1.
        Measured::Float(value) => w.double(3, "asDouble", value),
    }
    if let Some(ids) = point.exemplar.span {
        w.id(4, "spanId", &ids.span.to_bytes());
        w.id(5, "traceId", &ids.trace.to_bytes());
    }
}

fn histogram<T: Number>(w: &mut impl Writer, point: &HistogramDataPoint<T>, times: Times, exemplars: &[PointExemplar]) {
    w.messages(9, "attributes", point.attributes(), key_value);
    times.write(w);
    w.nonzero(4, "count", point.count());
    w.double(5, "sum", point.sum().double());
    if let Some(counts) = some(point.bucket_counts()) {
        w.fixed64s(6, "bucketCounts", counts);
    }
    if let Some(bounds) = some(point.bounds()) {
        w.doubles(7, "explicitBounds", bounds);
    }
    w.messages(8, "exemplars", exemplars.iter(), exemplar);
    // Of nothing there is neither, though the SDK has numbers.
    let is_empty = point.count() == 0;
    if let Some(min) = point.min().filter(|_| !is_empty) {
        w.double(11, "min", min.double());
    }
    if let Some(max) = point.max().filter(|_| !is_empty) {
        w.double(12, "max", max.double());
    }
}

fn exponential_histogram<T: Number>(
    w: &mut impl Writer,
    point: &ExponentialHistogramDataPoint<T>,
    times: Times,
    exemplars: &[PointExemplar],
) {
    w.messages(1, "attributes", point.attributes(), key_value);
    times.write(w);
    w.nonzero(4, "count", point.count() as u64);
    w.double(5, "sum", point.sum().double());
    if point.scale() != 0 {
        w.sint32(6, "scale", point.scale().into());
    }
    w.nonzero(7, "zeroCount", point.zero_count());
    w.message(8, "positive", |w| buckets(w, point.positive_bucket()));
    w.message(9, "negative", |w| buckets(w, point.negative_bucket()));
    w.messages(11, "exemplars", exemplars.iter(), exemplar);
    let is_empty = point.count() == 0;
    if let Some(min) = point.min().filter(|_| !is_empty) {
        w.double(12, "min", min.double());
    }
    if let Some(max) = point.max().filter(|_| !is_empty) {
        w.double(13, "max", max.double());
    }
    if point.zero_threshold() != 0.0 {
        w.double(14, "zeroThreshold", point.zero_threshold());
    }
}

fn buckets(w: &mut impl Writer, bucket: &ExponentialBucket) {
    if bucket.offset() != 0 {
        w.sint32(1, "offset", bucket.offset());
    }
    if let Some(counts) = some(bucket.counts()) {
        w.uint64s(2, "bucketCounts", counts);
    }
}

/// The values, if there are any.
fn some<I: Iterator>(values: I) -> Option<impl Iterator<Item = I::Item>> {
    let mut values = values.peekable();
    values.peek().is_some().then_some(values)
}

fn key_value(w: &mut impl Writer, pair: &KeyValue) {
    attribute(w, &pair.key, &pair.value);
}

fn attribute(w: &mut impl Writer, key: &Key, value: &Value) {
    // Even an empty key is written: to some who read JSON a pair without one is an error.
    w.string(1, "key", key.as_str());
    w.message(2, "value", |w| any_value(w, value));
}

fn any_value(w: &mut impl Writer, value: &Value) {
    match value {
        Value::String(value) => w.string(1, "stringValue", value.as_str()),
        Value::Bool(value) => w.bool(2, "boolValue", *value),
        Value::I64(value) => w.int64(3, "intValue", *value),
        Value::F64(value) => w.double(4, "doubleValue", *value),
        Value::Array(Array::String(values)) => array(w, values, |w, value| w.string(1, "stringValue", value.as_str())),
        Value::Array(Array::Bool(values)) => array(w, values, |w, value| w.bool(2, "boolValue", *value)),
        Value::Array(Array::I64(values)) => array(w, values, |w, value| w.int64(3, "intValue", *value)),
        Value::Array(Array::F64(values)) => array(w, values, |w, value| w.double(4, "doubleValue", *value)),
        // A type that the API has learnt since.
        other => w.string(1, "stringValue", &other.to_string()),
    }
}

fn array<W: Writer, T>(w: &mut W, values: &[T], write: impl Fn(&mut W, &T)) {
    // The list is written even if it is empty: to some who read JSON an array without values is an error.
    w.message(5, "arrayValue", |w| {
        w.list("values", |w| values.iter().for_each(|value| w.item(1, |w| write(w, value))));
    });
}

/// A number type of the SDK.
trait Number: Copy {
    /// Writes the value of a point.
    fn write(self, w: &mut impl Writer);
    /// Histograms know only floats; a large integer loses its last digits.
    fn double(self) -> f64;
}

impl Number for f64 {
    fn write(self, w: &mut impl Writer) {
        w.double(4, "asDouble", self);
    }

    fn double(self) -> f64 {
        self
    }
}

impl Number for i64 {
    fn write(self, w: &mut impl Writer) {
        w.sfixed64(6, "asInt", self);
    }

    fn double(self) -> f64 {
        self as f64
    }
}

impl Number for u64 {
    fn write(self, w: &mut impl Writer) {
        // A counter that is too large stays where it is. opentelemetry-proto makes it 0, which reads as a restart.
        i64::try_from(self).unwrap_or(i64::MAX).write(w);
    }

    fn double(self) -> f64 {
        self as f64
    }
}
