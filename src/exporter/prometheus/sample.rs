//! Values as they were collected, and how each is handed to an encoder.

use opentelemetry_sdk::metrics::data::{AggregatedMetrics, HistogramDataPoint, MetricData};
use prometheus::proto;

use crate::exposition::{Encoder, FamilyKind, HistogramSample, Labels, Number, SummarySample};

use super::labels::Shapes;
use super::points::Points;

/// The value of one point, still where it was collected.
pub(super) enum Value<'a> {
    Number(Number),
    HistogramF64(&'a HistogramDataPoint<f64>),
    HistogramU64(&'a HistogramDataPoint<u64>),
    HistogramI64(&'a HistogramDataPoint<i64>),
    RegistryHistogram(&'a proto::Histogram),
    RegistrySummary(&'a proto::Summary),
}

/// A number type of the SDK.
trait Measured: Copy + 'static {
    fn number(self) -> Number;
    fn histogram(point: &HistogramDataPoint<Self>) -> Value<'_>;
}

macro_rules! measured {
    ($type:ty, $number:ident, $histogram:ident) => {
        impl Measured for $type {
            fn number(self) -> Number {
                Number::$number(self)
            }

            fn histogram(point: &HistogramDataPoint<Self>) -> Value<'_> {
                Value::$histogram(point)
            }
        }
    };
}

measured!(f64, Float, HistogramF64);
measured!(u64, Unsigned, HistogramU64);
measured!(i64, Signed, HistogramI64);

/// Appends the points of a metric. Returns how many of them no text format can show.
pub(super) fn push_metric<'a>(
    data: &'a AggregatedMetrics,
    shapes: &mut Shapes<'a, '_>,
    points: &mut Points<'a>,
) -> usize {
    match data {
        AggregatedMetrics::F64(data) => push(data, shapes, points),
        AggregatedMetrics::U64(data) => push(data, shapes, points),
        AggregatedMetrics::I64(data) => push(data, shapes, points),
    }
}

fn push<'a, T: Measured>(data: &'a MetricData<T>, shapes: &mut Shapes<'a, '_>, points: &mut Points<'a>) -> usize {
    match data {
        MetricData::Gauge(gauge) => {
            for point in gauge.data_points() {
                points.push(shapes, || point.attributes(), Value::Number(point.value().number()));
            }
        }
        MetricData::Sum(sum) => {
            for point in sum.data_points() {
                points.push(shapes, || point.attributes(), Value::Number(point.value().number()));
            }
        }
        MetricData::Histogram(histogram) => {
            for point in histogram.data_points() {
                points.push(shapes, || point.attributes(), T::histogram(point));
            }
        }
        MetricData::ExponentialHistogram(histogram) => return histogram.data_points().count(),
    }
    0
}

/// How many points a metric has.
pub(super) fn count_points(data: &AggregatedMetrics) -> usize {
    fn count<T>(data: &MetricData<T>) -> usize {
        match data {
            MetricData::Gauge(gauge) => gauge.data_points().count(),
            MetricData::Sum(sum) => sum.data_points().count(),
            MetricData::Histogram(histogram) => histogram.data_points().count(),
            MetricData::ExponentialHistogram(histogram) => histogram.data_points().count(),
        }
    }
    match data {
        AggregatedMetrics::F64(data) => count(data),
        AggregatedMetrics::U64(data) => count(data),
        AggregatedMetrics::I64(data) => count(data),
    }
}

/// The value of a metric of a merged registry; `None` for a histogram whose bounds do not ascend.
#[expect(deprecated, reason = "a collector of the caller's own can still be untyped")]
pub(super) fn registry_value(kind: FamilyKind, metric: &proto::Metric) -> Option<Value<'_>> {
    Some(match kind {
        FamilyKind::Counter => Value::Number(Number::Float(metric.get_counter().get_value())),
        FamilyKind::Gauge => Value::Number(Number::Float(metric.get_gauge().get_value())),
        FamilyKind::Untyped => Value::Number(Number::Float(metric.get_untyped().get_value())),
        FamilyKind::Histogram => {
            let histogram = metric.get_histogram();
            let ascends = histogram.get_bucket().is_sorted_by(|a, b| a.upper_bound() < b.upper_bound());
            return ascends.then_some(Value::RegistryHistogram(histogram));
        }
        FamilyKind::Summary => Value::RegistrySummary(metric.get_summary()),
    })
}

/// Hands values to an encoder; keeps the lists that a histogram needs from one to the next.
#[derive(Default)]
pub(super) struct Samples {
    bounds: Vec<f64>,
    cumulative: Vec<u64>,
    quantiles: Vec<(f64, f64)>,
}

impl Samples {
    pub(super) fn write(&mut self, value: &Value<'_>, labels: Labels<'_>, encoder: &mut impl Encoder) {
        match value {
            Value::Number(number) => encoder.number(labels, *number),
            Value::HistogramF64(point) => self.sdk_histogram(*point, labels, encoder),
            Value::HistogramU64(point) => self.sdk_histogram(*point, labels, encoder),
            Value::HistogramI64(point) => self.sdk_histogram(*point, labels, encoder),
            Value::RegistryHistogram(histogram) => self.registry_histogram(histogram, labels, encoder),
            Value::RegistrySummary(summary) => {
                self.quantiles.clear();
                self.quantiles.extend(summary.get_quantile().iter().map(|q| (q.quantile(), q.value())));
                encoder.summary(
                    labels,
                    &SummarySample {
                        quantiles: &self.quantiles,
                        count: summary.sample_count(),
                        sum: summary.sample_sum(),
                    },
                );
            }
        }
    }

    fn sdk_histogram<T: Measured>(
        &mut self,
        point: &HistogramDataPoint<T>,
        labels: Labels<'_>,
        encoder: &mut impl Encoder,
    ) {
        self.bounds.clear();
        self.bounds.extend(point.bounds());
        self.cumulative.clear();
        let mut below = 0;
        // The last count is that of the infinite bucket, which the encoder makes from the total.
        self.cumulative.extend(point.bucket_counts().take(self.bounds.len()).map(|count| {
            below += count;
            below
        }));
        encoder.histogram(
            labels,
            &HistogramSample {
                bounds: &self.bounds,
                cumulative: &self.cumulative,
                count: point.count(),
                sum: point.sum().number(),
            },
        );
    }

    fn registry_histogram(&mut self, histogram: &proto::Histogram, labels: Labels<'_>, encoder: &mut impl Encoder) {
        self.bounds.clear();
        self.cumulative.clear();
        for bucket in histogram.get_bucket().iter().filter(|bucket| bucket.upper_bound().is_finite()) {
            self.bounds.push(bucket.upper_bound());
            self.cumulative.push(bucket.cumulative_count());
        }
        encoder.histogram(
            labels,
            &HistogramSample {
                bounds: &self.bounds,
                cumulative: &self.cumulative,
                count: histogram.get_sample_count(),
                sum: Number::Float(histogram.get_sample_sum()),
            },
        );
    }
}
