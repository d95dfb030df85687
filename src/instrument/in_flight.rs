//! In-flight counts that cannot leak.

use std::future::Future;

use opentelemetry::metrics::BoundUpDownCounter;

/// One thing in flight: counted up when the guard is made, down when it is dropped, however that happens.
///
/// Made by [`UpDownCounter::in_flight`](crate::UpDownCounter::in_flight).
#[must_use = "the count goes down again when the guard is dropped"]
pub struct InFlight {
    series: Option<BoundUpDownCounter<i64>>,
}

impl InFlight {
    pub(super) fn new(series: Option<BoundUpDownCounter<i64>>) -> Self {
        if let Some(series) = &series {
            series.add(1);
        }
        Self { series }
    }

    /// Keeps the count up until the future is ready or dropped.
    pub async fn instrument<F: Future>(self, future: F) -> F::Output {
        let _in_flight = self;
        future.await
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(series) = &self.series {
            series.add(-1);
        }
    }
}

impl std::fmt::Debug for InFlight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InFlight")
    }
}
