//! Histograms: how long, how large, in buckets.

use std::marker::PhantomData;
use std::sync::Arc;

use opentelemetry::metrics::{BoundHistogram, Meter};

use super::counter::handle_traits;
use super::with_attributes;
use super::{OutcomeTimer, Timer};
use crate::attribute::{Attribute, AttributeSet, Outcome, combinations};
use crate::spec::Descriptor;

/// Records a distribution: durations, sizes. Built by [`MeterExt::histogram`](crate::MeterExt::histogram).
///
/// Durations are recorded by a [`Timer`], or by an [`OutcomeTimer`] where an attribute says how the work ended.
pub struct Histogram<A = ()> {
    series: Arc<[BoundHistogram<f64>]>,
    attributes: PhantomData<fn(A)>,
}

impl<A: AttributeSet> Histogram<A> {
    pub(super) fn build(meter: &Meter, descriptor: &Descriptor) -> Self {
        let histogram = with_attributes(A::ATTRIBUTES, || open(meter, descriptor));
        let series = combinations::<A>().map(|attributes| histogram.bind(&attributes)).collect();
        Self { series, attributes: PhantomData }
    }

    /// Records `value`, in the unit of the spec. NaN and infinities are ignored.
    #[inline]
    pub fn record(&self, value: f64, attributes: A) {
        if let Some(series) = self.series.get(attributes.index()) {
            series.record(value);
        }
    }

    /// Starts a timer that records the seconds from now until it is stopped or dropped, under `attributes`.
    #[must_use = "a timer records when it is dropped"]
    pub fn start_timer(&self, attributes: A) -> Timer {
        Timer::start(self.series.get(attributes.index()).cloned())
    }
}

impl<O: Outcome> Histogram<O> {
    /// Starts a timer that waits to be told how the work ended. Dropped untold, it records
    /// [`Outcome::UNFINISHED`].
    #[must_use = "a timer records when it is dropped"]
    pub fn start_outcome_timer(&self) -> OutcomeTimer<O> {
        OutcomeTimer::start(self.clone(), O::UNFINISHED)
    }
}

impl<A: Attribute, O: Outcome> Histogram<(A, O)> {
    /// Starts a timer of which `attribute` is known and the outcome is not yet. Dropped untold, it records
    /// [`Outcome::UNFINISHED`].
    #[must_use = "a timer records when it is dropped"]
    pub fn start_outcome_timer_for(&self, attribute: A) -> OutcomeTimer<(A, O)> {
        OutcomeTimer::start(self.clone(), (attribute, O::UNFINISHED))
    }
}

/// The OpenTelemetry histogram of a spec.
pub(super) fn open(meter: &Meter, descriptor: &Descriptor) -> opentelemetry::metrics::Histogram<f64> {
    let builder =
        meter.f64_histogram(descriptor.name).with_unit(descriptor.unit).with_description(descriptor.description);
    match descriptor.buckets {
        Some(bounds) => builder.with_boundaries(bounds.to_vec()).build(),
        None => builder.build(),
    }
}

handle_traits!(Histogram);
