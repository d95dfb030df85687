//! In-flight counts that cannot leak.

use std::future::Future;

use opentelemetry::metrics::BoundUpDownCounter;

use super::cells::Shared;
use crate::attribute::AttributeSet;

/// One thing in flight: counted up when the guard is made, down when it is dropped, however that happens.
///
/// Made by [`UpDownCounter::in_flight`](crate::UpDownCounter::in_flight).
#[must_use = "the count goes down again when the guard is dropped"]
pub struct InFlight {
    series: Shared<BoundUpDownCounter<i64>>,
    /// `None` for attributes that say of themselves that they are none of the series.
    index: Option<usize>,
}

impl InFlight {
    pub(super) fn new<A: AttributeSet>(series: Shared<BoundUpDownCounter<i64>>, attributes: A) -> Self {
        let index = Some(attributes.index()).filter(|&index| index < A::CARDINALITY);
        let this = Self { series, index };
        this.add(1);
        this
    }

    fn add(&self, value: i64) {
        if let Some(index) = self.index {
            self.series.add_to(index, value);
        }
    }

    /// Keeps the count up until the future is ready or dropped.
    pub async fn instrument<F: Future>(self, future: F) -> F::Output {
        let _in_flight = self;
        future.await
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.add(-1);
    }
}

impl std::fmt::Debug for InFlight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InFlight")
    }
}
