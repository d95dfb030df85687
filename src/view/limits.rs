//! How many series are kept where no view says it.

use std::num::NonZeroUsize;

use crate::spec::Kind;

/// How many series are kept for each instrument that no view limits, by its kind. What goes beyond is added to one series
/// with `otel_metric_overflow="true"`. At most 1,000,000, because the SDK reserves memory for all of them. A typed instrument has exactly the series that it can have, whatever stands here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CardinalityLimits {
    /// For the kinds that have no limit of their own; `None` is 2,000.
    pub default: Option<NonZeroUsize>,
    /// For counters.
    pub counter: Option<NonZeroUsize>,
    /// For gauges.
    pub gauge: Option<NonZeroUsize>,
    /// For histograms.
    pub histogram: Option<NonZeroUsize>,
    /// For observable counters.
    pub observable_counter: Option<NonZeroUsize>,
    /// For observable gauges.
    pub observable_gauge: Option<NonZeroUsize>,
    /// For observable up-down counters.
    pub observable_up_down_counter: Option<NonZeroUsize>,
    /// For up-down counters.
    pub up_down_counter: Option<NonZeroUsize>,
}

impl CardinalityLimits {
    /// The limit for instruments of this kind; `None` is the SDK's own 2,000.
    pub(crate) fn of(&self, kind: Kind) -> Option<NonZeroUsize> {
        let own = match kind {
            Kind::Counter => self.counter,
            Kind::Gauge => self.gauge,
            Kind::Histogram => self.histogram,
            Kind::ObservableCounter => self.observable_counter,
            Kind::ObservableGauge => self.observable_gauge,
            Kind::ObservableUpDownCounter => self.observable_up_down_counter,
            Kind::UpDownCounter => self.up_down_counter,
        };
        own.or(self.default)
    }
}
