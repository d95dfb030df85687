//! Cells that counters add to, and the SDK's bound instruments that the cells are drained into.
//!
//! A bound instrument costs a chain of pointers before its atomic; a cell is the atomic itself. Barograph's provider
//! takes the cells of every counter that is built and drains them whenever somebody collects, before the SDK looks: so
//! views, readers and shutdown see what they would see otherwise. (What a callback adds shows in the collection after:
//! draining comes before the callbacks.) A provider that takes no cells gets every add at once.

use std::cell::RefCell;
use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{BoundCounter, BoundUpDownCounter};

use super::series::{Cell, Drain, Series, Sum};
use super::with_attributes;
use crate::attribute::{AttributeSet, combinations, key_values};
use crate::exemplar::{NumberedSeries, Source};

impl Sum for BoundCounter<u64> {
    fn add_bits(&self, bits: u64) {
        self.add(bits);
    }
}

impl Sum for BoundUpDownCounter<i64> {
    fn add_bits(&self, bits: u64) {
        self.add(bits.cast_signed());
    }
}

/// The series of a counter as its handles hold them.
pub(super) struct Shared<B: Sum> {
    /// The cells of the series, one pointer away; none where no provider drains them.
    cells: Arc<[Cell]>,
    /// `None` where nobody wants exemplars.
    exemplars: Option<Arc<NumberedSeries>>,
    series: Arc<Series<B>>,
}

impl<B: Sum> Shared<B> {
    /// Builds an instrument while the provider can take its cells, then binds every combination of its attributes.
    pub(super) fn build<A: AttributeSet, I>(build: impl FnOnce() -> I, bind: impl Fn(&I, &[KeyValue]) -> B) -> Self {
        let cells: Arc<[Cell]> = (0..A::CARDINALITY).map(|_| Cell::default()).collect();
        let series = Arc::new(Series::new(Arc::clone(&cells)));
        let outer = replace_offer(Offer { cells: Some(Arc::clone(&series) as _), exemplars: None });
        let instrument = with_attributes(A::ATTRIBUTES, build);
        let left = replace_offer(outer.unwrap_or_default());
        let (is_taken, source) = left.map_or((false, None), |left| (left.cells.is_none(), left.exemplars));
        series.bound.get_or_init(|| {
            let bound = combinations::<A>().map(|attributes| bind(&instrument, &attributes));
            // The SDK exports a series without attributes from its first add on, so each gets one.
            bound.inspect(|bound| bound.add_bits(0)).collect()
        });
        let attributes = |number| key_values(A::ATTRIBUTES, number);
        let exemplars = source.map(|source| Arc::new(NumberedSeries::new(&source, A::CARDINALITY, attributes)));
        Self { cells: if is_taken { cells } else { Arc::default() }, exemplars, series }
    }

    #[inline]
    pub(super) fn add_bits(&self, index: usize, bits: u64) {
        match self.cells.get(index) {
            Some(cell) => {
                cell.add(bits);
                if let Some(exemplars) = &self.exemplars {
                    exemplars.offer(index, bits);
                }
            }
            None => self.add_bound(index, bits),
        }
    }

    #[cold]
    fn add_bound(&self, index: usize, bits: u64) {
        if let Some(bound) = self.series.bound.get().and_then(|bound| bound.get(index)) {
            bound.add_bits(bits);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.series.cells.len()
    }
}

impl<B: Sum> Clone for Shared<B> {
    fn clone(&self) -> Self {
        let (cells, exemplars, series) = (&self.cells, &self.exemplars, &self.series);
        Self { cells: Arc::clone(cells), exemplars: exemplars.clone(), series: Arc::clone(series) }
    }
}

/// What the thread that builds a counter offers the provider, and what it is given back.
#[derive(Default)]
pub(super) struct Offer {
    cells: Option<Arc<dyn Drain>>,
    /// Where exemplars of what is counted go, if anybody wants them.
    exemplars: Option<Arc<Source>>,
}

thread_local! {
    static OFFER: RefCell<Offer> = const { RefCell::new(Offer { cells: None, exemplars: None }) };
}

/// Makes another offer. On a thread that is ending there is no place for one any more, and none is made.
pub(super) fn replace_offer(offer: Offer) -> Option<Offer> {
    OFFER.try_with(|place| place.replace(offer)).ok()
}

/// The cells of the counter that this thread is building, if it is building one. Who takes them drains them, and says where
/// exemplars go.
#[cfg(feature = "prometheus")]
pub(crate) fn take_cells(exemplars: Option<Arc<Source>>) -> Option<std::sync::Weak<dyn Drain>> {
    let take = |offer: &RefCell<Offer>| {
        let mut offer = offer.borrow_mut();
        let cells = offer.cells.take()?;
        offer.exemplars = exemplars;
        Some(Arc::downgrade(&cells))
    };
    OFFER.try_with(take).ok().flatten()
}
