//! The instruments of one side, and what is kept of them so that a request costs no search by attributes.
//!
//! What is known of a request when it starts (its [`Key`]) leads to an [`Endpoint`], which keeps the bound instruments of
//! each way its requests have ended so far. Both are lists that only grow, up to a limit, so that they are read without a
//! lock. Past the limits nothing is kept: such requests are recorded by their attributes, and the SDK's own limit of
//! series holds for them as for everything else.

use std::iter;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use barograph::opentelemetry::KeyValue;
use barograph::opentelemetry::metrics::{self, BoundHistogram, BoundUpDownCounter, Meter};
use barograph::{AttributeSet, HistogramSpec, MeterExt, UpDownCounterSpec};

use crate::outcome::Outcome;
use crate::semconv;

/// Endpoints that are kept: more than the methods, routes and versions of any but a generated API.
const MAX_ENDPOINTS: usize = 1_000;

/// Ways to end that are kept for each endpoint: far more than one program answers with.
const MAX_OUTCOMES: usize = 32;

/// A few endpoints share one at the limit. A power of two.
const BUCKETS: usize = 256;

/// Which side of HTTP is measured: statuses are errors by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Server,
    Client,
}

/// The instruments of one side.
#[derive(Debug)]
pub(crate) struct Instruments {
    active: metrics::UpDownCounter<i64>,
    histograms: Histograms,
    buckets: Box<[List<Arc<Endpoint>>]>,
    /// How many endpoints the buckets hold, or are about to.
    kept: AtomicUsize,
}

#[derive(Clone, Debug)]
struct Histograms {
    side: Side,
    duration: metrics::Histogram<f64>,
    request_size: metrics::Histogram<f64>,
    response_size: metrics::Histogram<f64>,
}

impl Instruments {
    pub(crate) fn of_server(meter: &Meter) -> Self {
        Self::new(
            meter,
            Side::Server,
            &semconv::SERVER_ACTIVE_REQUESTS,
            &semconv::SERVER_REQUEST_DURATION,
            [&semconv::SERVER_REQUEST_BODY_SIZE, &semconv::SERVER_RESPONSE_BODY_SIZE],
        )
    }

    pub(crate) fn of_client(meter: &Meter) -> Self {
        Self::new(
            meter,
            Side::Client,
            &semconv::CLIENT_ACTIVE_REQUESTS,
            &semconv::CLIENT_REQUEST_DURATION,
            [&semconv::CLIENT_REQUEST_BODY_SIZE, &semconv::CLIENT_RESPONSE_BODY_SIZE],
        )
    }

    fn new<A: AttributeSet, B: AttributeSet>(
        meter: &Meter,
        side: Side,
        active: &UpDownCounterSpec<A>,
        duration: &HistogramSpec<B>,
        [request_size, response_size]: [&HistogramSpec<B>; 2],
    ) -> Self {
        let histograms = Histograms {
            side,
            duration: meter.open_histogram(duration),
            request_size: meter.open_histogram(request_size),
            response_size: meter.open_histogram(response_size),
        };
        Self {
            active: meter.open_up_down_counter(active),
            histograms,
            buckets: (0..BUCKETS).map(|_| List::default()).collect(),
            kept: AtomicUsize::new(0),
        }
    }

    /// The endpoint of a key; of one that is new, made with these attributes.
    pub(crate) fn endpoint(&self, key: &Key<'_>, attributes: impl FnOnce() -> EndpointAttributes) -> Arc<Endpoint> {
        let bucket = &self.buckets[key.bucket()];
        match bucket.find(|endpoint| endpoint.is_of(key)) {
            Some(endpoint) => Arc::clone(endpoint),
            None => self.add(bucket, key, attributes()),
        }
    }

    #[cold]
    fn add(&self, bucket: &List<Arc<Endpoint>>, key: &Key<'_>, attributes: EndpointAttributes) -> Arc<Endpoint> {
        // Two threads may count the same endpoint, of which one is then kept: the limit is a little lower for it.
        let is_kept = self
            .kept
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |kept| (kept < MAX_ENDPOINTS).then_some(kept + 1));
        let endpoint = Arc::new(Endpoint {
            method: key.method,
            number: key.number,
            name: key.name.into(),
            template: key.template,
            active: self.active.bind(&attributes.of_active),
            attributes: attributes.of_histograms,
            histograms: self.histograms.clone(),
            outcomes: is_kept.is_ok().then(List::default),
        });
        if is_kept.is_err() {
            return endpoint;
        }
        Arc::clone(bucket.add(endpoint, |endpoint| endpoint.is_of(key)))
    }
}

/// What tells endpoints apart: what is known of a request when it starts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key<'a> {
    pub(crate) method: &'static str,
    /// A server's scheme and version, or a client's port.
    pub(crate) number: u32,
    /// A server's route, or the host that a client asks.
    pub(crate) name: &'a str,
    /// What a client's program says of the URL.
    pub(crate) template: Option<&'static str>,
}

impl Key<'_> {
    /// Where in the table. Templates differ where names do, mostly, and stay out.
    fn bucket(&self) -> usize {
        // Multiply and rotate, eight bytes at a time: a request needs it fast, and a long list is only slow.
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        let mix = |hash: u64, word: u64| (hash.rotate_left(23) ^ word).wrapping_mul(ODD);
        let mut hash =
            mix(u64::from(self.number), self.method.bytes().fold(0, |word, byte| word << 7 ^ u64::from(byte)));
        let (words, rest) = self.name.as_bytes().as_chunks::<8>();
        for word in words {
            hash = mix(hash, u64::from_le_bytes(*word));
        }
        hash = rest.iter().fold(hash, |hash, byte| mix(hash, u64::from(*byte)));
        (hash >> 32) as usize % BUCKETS
    }
}

/// The attributes of a new endpoint.
#[derive(Debug)]
pub(crate) struct EndpointAttributes {
    pub(crate) of_active: Vec<KeyValue>,
    /// Without those that say how a request ended.
    pub(crate) of_histograms: Vec<KeyValue>,
}

/// Requests that are alike when they start.
#[derive(Debug)]
pub(crate) struct Endpoint {
    method: &'static str,
    number: u32,
    name: Box<str>,
    template: Option<&'static str>,
    active: BoundUpDownCounter<i64>,
    attributes: Vec<KeyValue>,
    histograms: Histograms,
    /// What is bound; nothing for an endpoint beyond the limit.
    outcomes: Option<List<(Outcome, Series)>>,
}

/// The bound instruments of one way to end.
#[derive(Debug)]
struct Series {
    duration: BoundHistogram<f64>,
    request_size: BoundHistogram<f64>,
    response_size: BoundHistogram<f64>,
}

impl Endpoint {
    fn is_of(&self, key: &Key<'_>) -> bool {
        self.number == key.number
            && *self.name == *key.name
            && self.method == key.method
            && self.template == key.template
    }

    pub(crate) fn side(&self) -> Side {
        self.histograms.side
    }

    /// Counts a request that starts (1) or ends (-1).
    pub(crate) fn add_active(&self, value: i64) {
        self.active.add(value);
    }

    /// Records a request that has ended.
    pub(crate) fn record(&self, outcome: Outcome, seconds: f64, request_size: u64, response_size: u64) {
        let (request_size, response_size) = (request_size as f64, response_size as f64);
        let series = self.outcomes.as_ref().and_then(|outcomes| {
            let known = outcomes.find(|(known, _)| *known == outcome);
            known.or_else(|| self.bind(outcomes, outcome))
        });
        if let Some((_, series)) = series {
            series.duration.record(seconds);
            series.request_size.record(request_size);
            series.response_size.record(response_size);
        } else {
            let attributes = self.attributes_of(outcome);
            self.histograms.duration.record(seconds, &attributes);
            self.histograms.request_size.record(request_size, &attributes);
            self.histograms.response_size.record(response_size, &attributes);
        }
    }

    #[cold]
    fn bind<'a>(&self, outcomes: &'a List<(Outcome, Series)>, outcome: Outcome) -> Option<&'a (Outcome, Series)> {
        if outcomes.iter().count() >= MAX_OUTCOMES {
            return None;
        }
        let attributes = self.attributes_of(outcome);
        let series = Series {
            duration: self.histograms.duration.bind(&attributes),
            request_size: self.histograms.request_size.bind(&attributes),
            response_size: self.histograms.response_size.bind(&attributes),
        };
        Some(outcomes.add((outcome, series), |(known, _)| *known == outcome))
    }

    fn attributes_of(&self, outcome: Outcome) -> Vec<KeyValue> {
        let mut attributes = self.attributes.clone();
        outcome.describe(self.side(), &mut attributes);
        attributes
    }
}

/// A list that only grows, read without a lock.
#[derive(Debug)]
struct List<T> {
    first: OnceLock<Box<Link<T>>>,
}

#[derive(Debug)]
struct Link<T> {
    item: T,
    next: List<T>,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self { first: OnceLock::new() }
    }
}

impl<T> List<T> {
    fn iter(&self) -> impl Iterator<Item = &T> {
        let links = iter::successors(self.first.get(), |link| link.next.first.get());
        links.map(|link| &link.item)
    }

    fn find(&self, is: impl Fn(&T) -> bool) -> Option<&T> {
        self.iter().find(|item| is(item))
    }

    /// Adds the item, unless another thread has meanwhile added one that `is` the same: then that one stays.
    fn add(&self, item: T, is: impl Fn(&T) -> bool) -> &T {
        let mut new = Some(Box::new(Link { item, next: Self::default() }));
        let mut list = self;
        loop {
            match list.first.get() {
                Some(link) if new.is_none() || is(&link.item) => return &link.item,
                Some(link) => list = &link.next,
                None => new = new.take().and_then(|link| list.first.set(link).err()),
            }
        }
    }
}
