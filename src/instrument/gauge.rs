//! Gauges: the latest value of something.

use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};

use opentelemetry::metrics::{BoundGauge, Meter};

use super::counter::handle_traits;
use super::with_attributes;
use crate::attribute::{AttributeSet, key_values};
use crate::spec::Descriptor;

/// Holds the latest value of something. Built by [`MeterExt::gauge`](crate::MeterExt::gauge).
///
/// A series begins with its first value: unlike a counter's, a gauge's 0 would be a claim. NaN and infinities are
/// ignored, and the value before them stays.
pub struct Gauge<A = ()> {
    series: Arc<Series>,
    attributes: PhantomData<fn(A)>,
}

struct Series {
    gauge: opentelemetry::metrics::Gauge<f64>,
    // Bound at the first value, because the SDK exports a bound series from then on.
    bound: Box<[OnceLock<BoundGauge<f64>>]>,
}

impl Series {
    fn len(&self) -> usize {
        self.bound.len()
    }
}

impl<A: AttributeSet> Gauge<A> {
    pub(super) fn build(meter: &Meter, descriptor: &Descriptor) -> Self {
        let gauge = with_attributes(A::ATTRIBUTES, || open(meter, descriptor));
        let bound = (0..A::CARDINALITY).map(|_| OnceLock::new()).collect();
        Self { series: Arc::new(Series { gauge, bound }), attributes: PhantomData }
    }

    /// Makes `value` the value of the series of `attributes`.
    #[inline]
    pub fn record(&self, value: f64, attributes: A) {
        let index = attributes.index();
        if let Some(bound) = self.series.bound.get(index)
            && value.is_finite()
        {
            bound.get_or_init(|| self.series.gauge.bind(&key_values(A::ATTRIBUTES, index))).record(value);
        }
    }
}

/// The OpenTelemetry gauge of a spec.
pub(super) fn open(meter: &Meter, descriptor: &Descriptor) -> opentelemetry::metrics::Gauge<f64> {
    meter.f64_gauge(descriptor.name).with_unit(descriptor.unit).with_description(descriptor.description).build()
}

handle_traits!(Gauge);
