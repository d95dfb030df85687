//! Values as they were collected, and how each is handed to an encoder.

use std::time::SystemTime;

use opentelemetry_sdk::metrics::data::{
    ExponentialBucket, ExponentialHistogram, ExponentialHistogramDataPoint, HistogramDataPoint,
};
use prometheus::proto;

use crate::exposition::{
    Encoder, ExponentialBuckets, ExponentialSample, FamilyKind, Grid, HistogramSample, Labels, Number, SummarySample,
};

/// The value of one point, still where it was collected.
pub(super) enum Value<'a> {
    Number(Number),
    HistogramF64(&'a [f64], &'a HistogramDataPoint<f64>),
    HistogramU64(&'a [f64], &'a HistogramDataPoint<u64>),
    HistogramI64(&'a [f64], &'a HistogramDataPoint<i64>),
    ExponentialF64(&'a ExponentialHistogramDataPoint<f64>),
    ExponentialU64(&'a ExponentialHistogramDataPoint<u64>),
    ExponentialI64(&'a ExponentialHistogramDataPoint<i64>),
    RegistryHistogram(&'a proto::Histogram),
    RegistrySummary(&'a proto::Summary),
}

/// A number type of the SDK.
pub(super) trait Measured: Copy + 'static {
    fn number(self) -> Number;
    /// Whether something that counts can have come to this.
    fn is_count(self) -> bool;
    fn histogram<'a>(bounds: &'a [f64], point: &'a HistogramDataPoint<Self>) -> Value<'a>;
    fn exponential(point: &ExponentialHistogramDataPoint<Self>) -> Value<'_>;
}

macro_rules! measured {
    ($type:ty, $number:ident, $histogram:ident, $exponential:ident, $value:ident => $is_count:expr) => {
        impl Measured for $type {
            fn number(self) -> Number {
                Number::$number(self)
            }

            fn is_count(self) -> bool {
                let $value = self;
                $is_count
            }

            fn histogram<'a>(bounds: &'a [f64], point: &'a HistogramDataPoint<Self>) -> Value<'a> {
                Value::$histogram(bounds, point)
            }

            fn exponential(point: &ExponentialHistogramDataPoint<Self>) -> Value<'_> {
                Value::$exponential(point)
            }
        }
    };
}

measured!(f64, Float, HistogramF64, ExponentialF64, value => value >= 0.0);
measured!(u64, Unsigned, HistogramU64, ExponentialU64, _value => true);
measured!(i64, Signed, HistogramI64, ExponentialI64, value => value >= 0);

/// The value of a metric of a merged registry; `None` for a histogram whose bounds do not ascend or whose counts do not
/// add up, for a summary whose quantiles do not ascend from 0 to 1, and for a counter that is no count.
#[expect(deprecated, reason = "a collector of the caller's own can still be untyped")]
pub(super) fn registry_value(kind: FamilyKind, metric: &proto::Metric) -> Option<Value<'_>> {
    Some(match kind {
        FamilyKind::Counter => {
            let value = metric.get_counter().get_value();
            return value.is_count().then_some(Value::Number(Number::Float(value)));
        }
        FamilyKind::Gauge | FamilyKind::Info => Value::Number(Number::Float(metric.get_gauge().get_value())),
        FamilyKind::Untyped => Value::Number(Number::Float(metric.get_untyped().get_value())),
        FamilyKind::Histogram => {
            let histogram = metric.get_histogram();
            let buckets = histogram.get_bucket();
            let ascends = buckets.is_sorted_by(|a, b| a.upper_bound() < b.upper_bound())
                && buckets.iter().all(|bucket| !bucket.upper_bound().is_nan());
            let adds_up = buckets.is_sorted_by_key(|bucket| bucket.cumulative_count())
                && buckets.last().is_none_or(|last| last.cumulative_count() <= histogram.get_sample_count());
            return (ascends && adds_up).then_some(Value::RegistryHistogram(histogram));
        }
        FamilyKind::Summary => {
            let summary = metric.get_summary();
            let quantiles = summary.get_quantile();
            let ascends = quantiles.is_sorted_by(|a, b| a.quantile() < b.quantile())
                && quantiles.iter().all(|quantile| (0.0..=1.0).contains(&quantile.quantile()));
            return ascends.then_some(Value::RegistrySummary(summary));
        }
    })
}

/// Hands values to an encoder; keeps the lists that a histogram needs from one to the next.
#[derive(Default)]
pub(super) struct Values {
    bounds: Vec<f64>,
    cumulative: Vec<u64>,
    negative: Vec<u64>,
    quantiles: Vec<(f64, f64)>,
}

impl Values {
    pub(super) fn write(
        &mut self,
        value: &Value<'_>,
        labels: Labels<'_>,
        start: Option<SystemTime>,
        encoder: &mut impl Encoder,
    ) {
        match value {
            Value::Number(number) => encoder.number(labels, *number, start),
            Value::HistogramF64(bounds, point) => self.histogram(bounds, *point, labels, start, encoder),
            Value::HistogramU64(bounds, point) => self.histogram(bounds, *point, labels, start, encoder),
            Value::HistogramI64(bounds, point) => self.histogram(bounds, *point, labels, start, encoder),
            Value::ExponentialF64(point) => self.exponential(*point, labels, start, encoder),
            Value::ExponentialU64(point) => self.exponential(*point, labels, start, encoder),
            Value::ExponentialI64(point) => self.exponential(*point, labels, start, encoder),
            Value::RegistryHistogram(histogram) => self.registry_histogram(histogram, labels, encoder),
            Value::RegistrySummary(summary) => {
                self.quantiles.clear();
                self.quantiles.extend(summary.get_quantile().iter().map(|q| (q.quantile(), q.value())));
                let (count, sum) = (summary.sample_count(), summary.sample_sum());
                encoder.summary(labels, &SummarySample { quantiles: &self.quantiles, count, sum });
            }
        }
    }

    fn histogram<T: Measured>(
        &mut self,
        bounds: &[f64],
        point: &HistogramDataPoint<T>,
        labels: Labels<'_>,
        start: Option<SystemTime>,
        encoder: &mut impl Encoder,
    ) {
        self.cumulative.clear();
        let mut below = 0;
        // The last count is that of the infinite bucket, which the encoder makes from the total.
        self.cumulative.extend(point.bucket_counts().take(bounds.len()).map(|count| {
            below += count;
            below
        }));
        let sample =
            HistogramSample { bounds, cumulative: &self.cumulative, count: point.count(), sum: point.sum().number() };
        encoder.histogram(labels, &sample, start);
    }

    fn exponential<T: Measured>(
        &mut self,
        point: &ExponentialHistogramDataPoint<T>,
        labels: Labels<'_>,
        start: Option<SystemTime>,
        encoder: &mut impl Encoder,
    ) {
        let sample = exponential_sample(point, &mut self.cumulative, &mut self.negative);
        encoder.exponential(labels, &sample, start);
    }

    fn registry_histogram(&mut self, histogram: &proto::Histogram, labels: Labels<'_>, encoder: &mut impl Encoder) {
        self.bounds.clear();
        self.cumulative.clear();
        for bucket in histogram.get_bucket().iter().filter(|bucket| bucket.upper_bound().is_finite()) {
            self.bounds.push(bucket.upper_bound());
            self.cumulative.push(bucket.cumulative_count());
        }
        let sample = HistogramSample {
            bounds: &self.bounds,
            cumulative: &self.cumulative,
            count: histogram.get_sample_count(),
            sum: Number::Float(histogram.get_sample_sum()),
        };
        encoder.histogram(labels, &sample, None);
    }
}

/// Makes room in the grid for all points of a histogram.
pub(super) fn include<T: Measured>(histogram: &ExponentialHistogram<T>, grid: &mut Grid) {
    let (mut positive, mut negative) = (Vec::new(), Vec::new());
    for point in histogram.data_points() {
        grid.include(&exponential_sample(point, &mut positive, &mut negative));
    }
}

fn exponential_sample<'s, T: Measured>(
    point: &ExponentialHistogramDataPoint<T>,
    positive: &'s mut Vec<u64>,
    negative: &'s mut Vec<u64>,
) -> ExponentialSample<'s> {
    ExponentialSample {
        scale: point.scale(),
        count: point.count() as u64,
        sum: point.sum().number(),
        zero_count: point.zero_count(),
        zero_threshold: point.zero_threshold(),
        positive: buckets(point.positive_bucket(), positive),
        negative: buckets(point.negative_bucket(), negative),
    }
}

fn buckets<'s>(bucket: &ExponentialBucket, counts: &'s mut Vec<u64>) -> ExponentialBuckets<'s> {
    counts.clear();
    counts.extend(bucket.counts());
    ExponentialBuckets { offset: bucket.offset(), counts }
}
