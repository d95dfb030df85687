//! Counters: things that add up.

use std::marker::PhantomData;

use opentelemetry::metrics::{BoundCounter, BoundUpDownCounter, Meter};

use super::InFlight;
use super::cells::Shared;
use crate::attribute::AttributeSet;
use crate::spec::Descriptor;

/// Counts what only goes up: runs, calls, errors. Built by [`MeterExt::counter`](crate::MeterExt::counter).
pub struct Counter<A = ()> {
    series: Shared<BoundCounter<u64>>,
    attributes: PhantomData<fn(A)>,
}

impl<A: AttributeSet> Counter<A> {
    pub(super) fn build(meter: &Meter, descriptor: &Descriptor) -> Self {
        let series = Shared::build::<A, _>(|| open(meter, descriptor), opentelemetry::metrics::Counter::bind);
        Self { series, attributes: PhantomData }
    }

    /// Adds `value` to the series of `attributes`. For a counter without attributes that is `()`.
    ///
    /// Threads do not wait for each other. What was added before a collection began, on the same thread or on one that has been
    /// joined, is part of it.
    #[inline]
    pub fn add(&self, value: u64, attributes: A) {
        self.series.add(attributes, value);
    }
}

/// Counts what goes up and down: tasks in flight, items in a queue. Built by
/// [`MeterExt::up_down_counter`](crate::MeterExt::up_down_counter).
///
/// Where a thing has a beginning and an end in one place, [`in_flight`](Self::in_flight) cannot forget the end.
///
/// Threads do not wait for each other, nor for whoever collects. What goes down is therefore read before what goes up: what goes up
/// and down again through a handle and its clones, on whatever threads, is never less than it was, and what goes up while somebody
/// collects may come on top.
pub struct UpDownCounter<A = ()> {
    series: Shared<BoundUpDownCounter<i64>>,
    attributes: PhantomData<fn(A)>,
}

impl<A: AttributeSet> UpDownCounter<A> {
    pub(super) fn build(meter: &Meter, descriptor: &Descriptor) -> Self {
        let build = || open_up_down(meter, descriptor);
        let series = Shared::build::<A, _>(build, opentelemetry::metrics::UpDownCounter::bind);
        Self { series, attributes: PhantomData }
    }

    /// Adds `value`, which may be negative, to the series of `attributes`. What was added before a collection began, on the same
    /// thread or on one that has been joined, is part of it.
    #[inline]
    pub fn add(&self, value: i64, attributes: A) {
        self.series.add(attributes, value);
    }

    /// Counts one up now, and one down when the guard is dropped.
    #[must_use = "the count goes down again when the guard is dropped"]
    pub fn in_flight(&self, attributes: A) -> InFlight {
        InFlight::new(self.series.clone(), attributes)
    }
}

/// The OpenTelemetry counter of a spec.
pub(super) fn open(meter: &Meter, descriptor: &Descriptor) -> opentelemetry::metrics::Counter<u64> {
    meter.u64_counter(descriptor.name).with_unit(descriptor.unit).with_description(descriptor.description).build()
}

/// The OpenTelemetry up-down counter of a spec.
pub(super) fn open_up_down(meter: &Meter, descriptor: &Descriptor) -> opentelemetry::metrics::UpDownCounter<i64> {
    meter
        .i64_up_down_counter(descriptor.name)
        .with_unit(descriptor.unit)
        .with_description(descriptor.description)
        .build()
}

macro_rules! handle_traits {
    ($name:ident) => {
        impl<A> Clone for $name<A> {
            fn clone(&self) -> Self {
                Self { series: self.series.clone(), attributes: PhantomData }
            }
        }

        impl<A> std::fmt::Debug for $name<A> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name)).field("series", &self.series.len()).finish()
            }
        }
    };
}
pub(super) use handle_traits;

handle_traits!(Counter);
handle_traits!(UpDownCounter);
