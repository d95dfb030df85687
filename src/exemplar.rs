//! Exemplars: of each series, and of each bucket of a histogram, the measurement that was made last inside a sampled span,
//! with the span's ids. They lead from a point in a graph to the trace of a request that is in it.
//!
//! A measurement outside of any span costs a look at the thread's context and nothing else; of what typed counters add often only
//! some is looked at (see `instrument::blocks`). Nothing is kept of a series, and
//! no memory taken for it, before its first exemplar. Whoever records never waits: where two threads have an exemplar for one
//! place at once, one of them is left out.
//!
//! Specification: "Exemplar" in the metrics SDK document, with one reservoir for all instruments: for histograms the aligned
//! one by the bounds of the instrument itself, for counters one of size 1. Both keep the latest.

mod slots;
mod span;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, TryLockError};
use std::time::SystemTime;

use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanId, TraceId};

use slots::Slots;

/// What the slots share memory by. A model of them brings its own: see `tests/model`.
mod sync {
    pub(super) use std::sync::{Mutex, TryLockError};
}

/// Series of one instrument whose attributes are open that can have exemplars: as many as the SDK keeps where nobody says
/// anything.
const MAX_SERIES: usize = 2_000;

/// Which measurements become exemplars, where any do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filter {
    /// All but those of telemetry itself.
    AlwaysOn,
    /// Those made inside a sampled span.
    TraceBased,
}

/// What led to a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpanIds {
    pub(crate) trace: TraceId,
    pub(crate) span: SpanId,
}

/// A value as it was recorded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Measured {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
}

impl Measured {
    pub(crate) fn as_f64(self) -> f64 {
        match self {
            Self::Unsigned(value) => value as f64,
            Self::Signed(value) => value as f64,
            Self::Float(value) => value,
        }
    }
}

impl From<u64> for Measured {
    fn from(value: u64) -> Self {
        Self::Unsigned(value)
    }
}

impl From<i64> for Measured {
    fn from(value: i64) -> Self {
        Self::Signed(value)
    }
}

impl From<f64> for Measured {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

/// One measurement that stands for many.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exemplar {
    pub(crate) value: Measured,
    pub(crate) time: SystemTime,
    /// `None` where every measurement may become one, and this was made outside of any span.
    pub(crate) span: Option<SpanIds>,
}

/// The exemplars of one instrument.
#[derive(Debug)]
pub(crate) struct Source {
    filter: Filter,
    /// The upper bounds of a histogram's buckets, each of which keeps one; none for a counter.
    bounds: Box<[f64]>,
    max_series: usize,
    /// Whether a view makes many series one point: then the newest series has its latest exemplar.
    is_merged: bool,
    series: Mutex<HashMap<Arc<[KeyValue]>, Arc<Series>>>,
    /// Whether this or another source of the pipeline has any exemplar.
    is_any: Arc<AtomicBool>,
}

/// The exemplars of one series.
#[derive(Debug)]
pub(crate) struct Series {
    attributes: Arc<[KeyValue]>,
    slots: Slots<Exemplar>,
}

impl Series {
    /// Those with which it was recorded, in no order.
    pub(crate) fn attributes(&self) -> &[KeyValue] {
        &self.attributes
    }

    /// Those there are, with the place of each: the bucket of the instrument.
    pub(crate) fn exemplars(&self) -> impl Iterator<Item = (usize, Exemplar)> {
        self.slots.read()
    }
}

impl Source {
    /// `max_series` is what a typed instrument or a view says; `is_merged`, whether a view leaves out attributes.
    pub(crate) fn new(
        filter: Filter,
        bounds: &[f64],
        max_series: Option<usize>,
        is_merged: bool,
        is_any: Arc<AtomicBool>,
    ) -> Self {
        let max_series = max_series.unwrap_or(MAX_SERIES);
        Self { filter, bounds: bounds.into(), max_series, is_merged, series: Mutex::default(), is_any }
    }

    /// Every series that has exemplars.
    pub(crate) fn series(&self) -> Vec<Arc<Series>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Takes a measurement of any series, if it is to be an exemplar.
    #[inline]
    pub(crate) fn offer(&self, value: impl Into<Measured>, attributes: &[KeyValue]) {
        if span::may_be(self.filter) {
            self.keep(value.into(), || self.find(attributes, || attributes.into()));
        }
    }

    /// Out of the way of those who have nothing to keep.
    #[cold]
    fn keep(&self, value: Measured, series: impl FnOnce() -> Option<Arc<Series>>) {
        let Some(span) = span::eligible(self.filter) else {
            return;
        };
        let number = value.as_f64();
        // The SDK does not record what is no number either, and to add nothing, which begins a series, is no measurement.
        if !number.is_finite() || (self.bounds.is_empty() && number == 0.0) {
            return;
        }
        if let Some(series) = series() {
            let bucket = self.bounds.partition_point(|&bound| bound < number);
            series.slots.put(bucket, Exemplar { value, time: SystemTime::now(), span });
            // Set once, then only looked at: the line stays with everybody.
            if !self.is_any.load(Ordering::Relaxed) {
                self.is_any.store(true, Ordering::Release);
            }
        }
    }

    /// The series of these attributes; `None` where there are too many already, or somebody else looks right now.
    fn find(&self, attributes: &[KeyValue], own: impl FnOnce() -> Arc<[KeyValue]>) -> Option<Arc<Series>> {
        let mut all = match self.series.try_lock() {
            Ok(all) => all,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        if let Some(known) = all.get(attributes) {
            return Some(Arc::clone(known));
        }
        if all.len() >= self.max_series {
            let is_unbound = |series: &Arc<Series>| self.is_merged && Arc::strong_count(series) == 1;
            let given_up = all.iter().find(|(_, series)| is_unbound(series)).map(|(key, _)| Arc::clone(key))?;
            all.remove(&given_up);
        }
        let attributes = own();
        let series = Arc::new(Series { attributes: Arc::clone(&attributes), slots: Slots::new(self.bounds.len() + 1) });
        all.insert(attributes, Arc::clone(&series));
        Some(series)
    }
}

/// The exemplars of one series whose attributes are known beforehand.
#[derive(Debug)]
pub(crate) struct BoundSeries {
    filter: Filter,
    source: Arc<Source>,
    attributes: Arc<[KeyValue]>,
    series: OnceLock<Arc<Series>>,
}

impl BoundSeries {
    pub(crate) fn new(source: &Arc<Source>, attributes: &[KeyValue]) -> Self {
        let source = Arc::clone(source);
        Self { filter: source.filter, source, attributes: attributes.into(), series: OnceLock::new() }
    }

    /// Takes a measurement, if it is to be an exemplar.
    #[inline]
    pub(crate) fn offer(&self, value: impl Into<Measured>) {
        if span::may_be(self.filter) {
            self.source.keep(value.into(), || {
                known(&self.series, || self.source.find(&self.attributes, || Arc::clone(&self.attributes)))
            });
        }
    }
}

/// The exemplars of a typed counter, whose series have numbers.
#[derive(Debug)]
pub(crate) struct NumberedSeries {
    filter: Filter,
    source: Arc<Source>,
    count: usize,
    attributes: fn(usize) -> Vec<KeyValue>,
    series: OnceLock<Box<[OnceLock<Arc<Series>>]>>,
}

impl NumberedSeries {
    /// `attributes` says those of each of the `count` series.
    pub(crate) fn new(source: &Arc<Source>, count: usize, attributes: fn(usize) -> Vec<KeyValue>) -> Self {
        let source = Arc::clone(source);
        Self { filter: source.filter, source, count, attributes, series: OnceLock::new() }
    }

    /// Takes a measurement, if it is to be an exemplar.
    #[inline]
    pub(crate) fn offer(&self, number: usize, value: u64) {
        if span::may_be(self.filter) {
            self.source.keep(value.into(), || {
                if self.series.get().is_none() {
                    // Outside of the lock: to allocate may be what is counted here.
                    let _ = self.series.set((0..self.count).map(|_| OnceLock::new()).collect());
                }
                known(self.series.get()?.get(number)?, || {
                    let attributes: Arc<[KeyValue]> = (self.attributes)(number).into();
                    self.source.find(&attributes, || Arc::clone(&attributes))
                })
            });
        }
    }
}

/// What was found before, or is found now.
fn known(series: &OnceLock<Arc<Series>>, find: impl FnOnce() -> Option<Arc<Series>>) -> Option<Arc<Series>> {
    if let Some(series) = series.get() {
        return Some(Arc::clone(series));
    }
    let found = find()?;
    Some(Arc::clone(series.get_or_init(|| found)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::Context;
    use opentelemetry::trace::{SpanContext, TraceContextExt, TraceFlags, TraceState};

    fn source(cardinality: Option<usize>) -> Arc<Source> {
        Arc::new(Source::new(Filter::TraceBased, &[1.0, 2.0], cardinality, false, Arc::default()))
    }

    fn in_span(work: impl FnOnce()) {
        let span = SpanContext::new(TraceId::from(1), SpanId::from(1), TraceFlags::SAMPLED, false, TraceState::NONE);
        let _attached = Context::new().with_remote_span_context(span).attach();
        work();
    }

    fn kept(source: &Source) -> Vec<(usize, f64)> {
        let all = source.series();
        all.iter().flat_map(|series| series.exemplars()).map(|(place, e)| (place, e.value.as_f64())).collect()
    }

    #[test]
    fn no_memory_is_taken_for_a_series_before_its_first_exemplar() {
        let source = source(None);
        let bound = BoundSeries::new(&source, &[]);
        let numbered = NumberedSeries::new(&source, 100, |number| vec![KeyValue::new("n", number as i64)]);
        bound.offer(1.0);
        source.offer(1.0, &[]);
        numbered.offer(7, 1);
        assert!(source.series().is_empty() && bound.series.get().is_none() && numbered.series.get().is_none());
        assert!(!source.is_any.load(Ordering::Relaxed));
        in_span(|| numbered.offer(7, 1));
        assert_eq!(source.series()[0].attributes(), [KeyValue::new("n", 7)]);
        assert!(source.is_any.load(Ordering::Relaxed));
        in_span(|| numbered.offer(100, 1));
        assert_eq!(source.series().len(), 1, "there is no such series");
    }

    #[test]
    fn a_source_keeps_no_more_series_than_it_may_and_those_that_it_has_go_on() {
        for (cardinality, most) in [(None, MAX_SERIES), (Some(3), 3)] {
            let source = source(cardinality);
            in_span(|| (0..5_000).for_each(|n| source.offer(0.5, &[KeyValue::new("n", n)])));
            assert_eq!(source.series().len(), most);
            in_span(|| source.offer(1.5, &[KeyValue::new("n", 0)]));
            assert_eq!(kept(&source).len(), most + 1);
        }
    }

    #[test]
    fn where_many_series_are_one_point_the_newest_have_a_place() {
        let source = Arc::new(Source::new(Filter::TraceBased, &[], Some(3), true, Arc::default()));
        let bound = BoundSeries::new(&source, &[KeyValue::new("n", "bound")]);
        in_span(|| bound.offer(1000.0));
        in_span(|| (1..=50).for_each(|n| source.offer(n as f64, &[KeyValue::new("n", n)])));
        let mut kept = kept(&source);
        kept.sort_by(|a, b| a.1.total_cmp(&b.1));
        assert_eq!(kept.len(), 3);
        assert_eq!(kept[1..], [(0, 50.0), (0, 1000.0)]);
    }

    #[test]
    fn nothing_added_to_a_counter_is_no_measurement() {
        let source = Arc::new(Source::new(Filter::TraceBased, &[], None, false, Arc::default()));
        in_span(|| source.offer(0_u64, &[]));
        assert!(source.series().is_empty());
    }

    #[test]
    fn bound_and_unbound_handles_of_one_series_share_its_places() {
        let source = source(None);
        let pairs = [KeyValue::new("k", "v")];
        let bound = [(); 2].map(|()| BoundSeries::new(&source, &pairs));
        in_span(|| {
            bound[0].offer(0.25);
            bound[1].offer(0.5);
            source.offer(2.0, &pairs);
            source.offer(f64::NAN, &pairs);
            source.offer(f64::INFINITY, &pairs);
        });
        assert_eq!(kept(&source), [(0, 0.5), (1, 2.0)]);
    }
}
