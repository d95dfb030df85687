//! In-flight counts that cannot leak.

use std::future::Future;

use opentelemetry::metrics::BoundUpDownCounter;

use super::cells::Shared;

/// One thing in flight: counted up when the guard is made, down when it is dropped, however that happens.
///
/// Made by [`UpDownCounter::in_flight`](crate::UpDownCounter::in_flight).
#[must_use = "the count goes down again when the guard is dropped"]
pub struct InFlight {
    series: Shared<BoundUpDownCounter<i64>>,
    index: usize,
}

impl InFlight {
    pub(super) fn new(series: Shared<BoundUpDownCounter<i64>>, index: usize) -> Self {
        series.add_bits(index, 1);
        Self { series, index }
    }

    /// Keeps the count up until the future is ready or dropped.
    pub async fn instrument<F: Future>(self, future: F) -> F::Output {
        let _in_flight = self;
        future.await
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.series.add_bits(self.index, (-1_i64).cast_unsigned());
    }
}

impl std::fmt::Debug for InFlight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InFlight")
    }
}
