//! Leaves out attributes by patterns. The SDK takes a list of keys to keep, and for an instrument whose attributes are
//! open nobody can list what a pattern matches.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{
    AsyncInstrument, BoundSyncInstrument, Counter, Gauge, Histogram, SyncInstrument, UpDownCounter,
};

use crate::view::{KeyFilter, only_stream};

/// One instrument of the SDK for each stream of an instrument, each with the attributes that it keeps.
pub(super) struct Filtered<H> {
    streams: Vec<(Option<KeyFilter>, H)>,
}

impl<H> Filtered<H> {
    /// Builds the instruments, one for each place in the order of the filters.
    pub(super) fn new(filters: Vec<Option<KeyFilter>>, build: impl Fn() -> H) -> Self {
        let streams = filters.into_iter().enumerate();
        Self { streams: streams.map(|(place, filter)| (filter, only_stream(place, &build))).collect() }
    }
}

/// What the four handles that are recorded to have in common.
pub(super) trait Handle<T> {
    fn record(&self, value: T, attributes: &[KeyValue]);
    /// Records to these attributes, and shows each value to somebody else.
    fn bound(
        &self,
        attributes: &[KeyValue],
        show: impl Fn(T) + Send + Sync + 'static,
    ) -> Box<dyn BoundSyncInstrument<T> + Send + Sync>;
}

macro_rules! handle {
    ($handle:ident, $record:ident) => {
        impl<T: Copy + 'static> Handle<T> for $handle<T> {
            fn record(&self, value: T, attributes: &[KeyValue]) {
                self.$record(value, attributes);
            }

            fn bound(
                &self,
                attributes: &[KeyValue],
                show: impl Fn(T) + Send + Sync + 'static,
            ) -> Box<dyn BoundSyncInstrument<T> + Send + Sync> {
                let bound = self.bind(attributes);
                Box::new(Bound(move |value| {
                    bound.$record(value);
                    show(value);
                }))
            }
        }
    };
}

handle!(Counter, add);
handle!(UpDownCounter, add);
handle!(Gauge, record);
handle!(Histogram, record);

struct Bound<F>(F);

impl<T, F: Fn(T) + Send + Sync> BoundSyncInstrument<T> for Bound<F> {
    fn measure(&self, value: T) {
        (self.0)(value);
    }
}

impl<T: Copy + Send + Sync + 'static, H: Handle<T> + Send + Sync> SyncInstrument<T> for Filtered<H> {
    fn measure(&self, value: T, attributes: &[KeyValue]) {
        for (filter, stream) in &self.streams {
            match filter {
                None => stream.record(value, attributes),
                Some(filter) => stream.record(value, &kept(filter, attributes)),
            }
        }
    }

    fn bind(&self, attributes: &[KeyValue]) -> Box<dyn BoundSyncInstrument<T> + Send + Sync> {
        let streams = self.streams.iter().map(|(filter, stream)| match filter {
            None => stream.bound(attributes, |_| {}),
            Some(filter) => stream.bound(&kept(filter, attributes), |_| {}),
        });
        let streams: Vec<_> = streams.collect();
        Box::new(Bound(move |value| streams.iter().for_each(|stream| stream.measure(value))))
    }
}

/// Takes what callbacks observe, without the attributes that the stream does not keep.
pub(super) struct FilteredObserver<'a, M> {
    filter: &'a KeyFilter,
    observer: &'a dyn AsyncInstrument<M>,
    /// What a sum was observed to be, by what is left of its attributes: the SDK would show the last one.
    sums: Option<Mutex<HashMap<Vec<KeyValue>, M>>>,
}

impl<'a, M: Number> FilteredObserver<'a, M> {
    /// Observes through the filter; what is a sum is handed on in the end.
    pub(super) fn run(
        filter: &'a KeyFilter,
        observer: &'a dyn AsyncInstrument<M>,
        is_sum: bool,
        observe: impl FnOnce(&dyn AsyncInstrument<M>),
    ) {
        let filtered = FilteredObserver { filter, observer, sums: is_sum.then(Mutex::default) };
        observe(&filtered);
        let sums = filtered.sums.map(|sums| sums.into_inner().unwrap_or_else(PoisonError::into_inner));
        for (attributes, sum) in sums.into_iter().flatten() {
            observer.observe(sum, &attributes);
        }
    }
}

impl<M: Number> AsyncInstrument<M> for FilteredObserver<'_, M> {
    fn observe(&self, value: M, attributes: &[KeyValue]) {
        let mut attributes = kept(self.filter, attributes);
        let Some(sums) = &self.sums else { return self.observer.observe(value, &attributes) };
        attributes.sort_by(|a, b| a.key.cmp(&b.key));
        let mut sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
        sums.entry(attributes).and_modify(|sum| *sum = sum.plus(value)).or_insert(value);
    }
}

/// What an observable instrument observes.
pub(super) trait Number: Copy + Send + Sync {
    fn plus(self, other: Self) -> Self;
}

impl Number for u64 {
    fn plus(self, other: Self) -> Self {
        self.saturating_add(other)
    }
}

impl Number for i64 {
    fn plus(self, other: Self) -> Self {
        self.saturating_add(other)
    }
}

impl Number for f64 {
    fn plus(self, other: Self) -> Self {
        self + other
    }
}

fn kept(filter: &KeyFilter, attributes: &[KeyValue]) -> Vec<KeyValue> {
    attributes.iter().filter(|attribute| filter.keeps(attribute.key.as_str())).cloned().collect()
}
