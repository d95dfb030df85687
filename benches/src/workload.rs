//! What there is to scrape: five counters and five histograms of 14 buckets, the same attribute sets on each of them,
//! recorded alike by every contestant.

use std::borrow::Cow;
use std::fmt::Write;

use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider;

/// Counters, and as many histograms.
pub(crate) const INSTRUMENTS: usize = 5;
pub(crate) const BOUNDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

const KEYS: [&str; 10] =
    ["method", "route", "status", "region", "zone", "cluster", "tenant", "version", "client", "protocol"];

pub(crate) struct Workload {
    pub(crate) name: &'static str,
    /// Attribute sets of each instrument.
    pub(crate) sets: usize,
    /// Attributes of each set, the first ones of `KEYS`.
    pub(crate) attributes: usize,
    /// Values are made as long as this, in bytes; 0 leaves them as they are.
    value_length: usize,
    /// Fewer where a page is large.
    pub(crate) rounds: usize,
}

impl Workload {
    const fn new(name: &'static str, sets: usize, attributes: usize, value_length: usize, rounds: usize) -> Self {
        Self { name, sets, attributes, value_length, rounds }
    }
}

pub(crate) const HEADLINE: Workload = Workload::new("10 k attribute sets of 3, short values", 1_000, 3, 0, 21);
pub(crate) const LARGEST: Workload = Workload::new("100 k attribute sets of 3, short values", 10_000, 3, 0, 7);
/// As many series as Prometheus counts them, a line each, as a large service has: 10,000.
pub(crate) const LOAD: Workload = Workload::new("10 k lines", 111, 3, 0, 0);
pub(crate) const WORKLOADS: [Workload; 6] = [
    HEADLINE,
    Workload::new("1 k attribute sets of 3, short values", 100, 3, 0, 51),
    LARGEST,
    Workload::new("10 k attribute sets of 10, short values", 1_000, 10, 0, 11),
    Workload::new("10 k attribute sets of 3, values of 200 bytes", 1_000, 3, 200, 7),
    // Ten times as many would be a page of 200 MB.
    Workload::new("1 k attribute sets of 10, values of 200 bytes", 100, 10, 200, 11),
];

impl Workload {
    /// All series together: one for each set of each instrument.
    pub(crate) const fn series(&self) -> usize {
        2 * INSTRUMENTS * self.sets
    }

    /// The lines of samples that they are in a page of text: a histogram has its buckets, `+Inf`, a sum and a count.
    pub(crate) const fn lines(&self) -> usize {
        INSTRUMENTS * self.sets * (1 + BOUNDS.len() + 3)
    }

    pub(crate) fn keys(&self) -> &'static [&'static str] {
        &KEYS[..self.attributes]
    }

    /// Each attribute set, and what is recorded with it.
    pub(crate) fn sets(&self) -> impl Iterator<Item = Set> {
        (0..self.sets).map(|set| Set {
            values: (0..self.attributes).map(|key| self.value(key, set)).collect(),
            count: 31 * set as u64,
            durations: [(set % 1_000) as f64 / 97.0, (set % 1_000) as f64 / 977.0],
        })
    }

    /// What a program would have as a constant is one: cloning it costs those nothing who keep it as it is.
    fn value(&self, key: usize, set: usize) -> Value {
        let value = match KEYS[key] {
            "method" => Value::from(["GET", "PUT", "POST", "DELETE"][set % 4]),
            // With the method it tells each set from the others.
            "route" => Value::from(format!("/api/v1/resource/{}", set / 4)),
            "status" => Value::from(if set % 8 < 7 { "200" } else { "500" }),
            name => Value::from(format!("{name}-{}", set % (key + 2))),
        };
        if self.value_length == 0 { value } else { lengthened(value.into_owned(), self.value_length).into() }
    }

    /// Records it all through the OpenTelemetry API.
    pub(crate) fn record(&self, provider: &dyn MeterProvider) {
        let meter = provider.meter("bench");
        for instrument in 0..INSTRUMENTS {
            let counter = meter.u64_counter(format!("bench.counter_{instrument}")).build();
            let histogram =
                meter.f64_histogram(format!("bench.histogram_{instrument}")).with_boundaries(BOUNDS.to_vec()).build();
            for Set { values, count, durations } in self.sets() {
                let attributes: Vec<KeyValue> =
                    self.keys().iter().zip(values).map(|(key, value)| KeyValue::new(*key, value)).collect();
                counter.add(count, &attributes);
                durations.into_iter().for_each(|duration| histogram.record(duration, &attributes));
            }
        }
    }
}

pub(crate) type Value = Cow<'static, str>;

/// One attribute set, without its keys, and what is recorded with it.
pub(crate) struct Set {
    pub(crate) values: Vec<Value>,
    pub(crate) count: u64,
    pub(crate) durations: [f64; 2],
}

/// The value with text after it that depends on the value alone and does not repeat, or gzip would see through it.
fn lengthened(mut value: String, length: usize) -> String {
    let mut state = value.bytes().fold(0, |state: u64, byte| state.wrapping_mul(31).wrapping_add(u64::from(byte)));
    while value.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let _ = write!(value, "/{state:x}");
    }
    value.truncate(length);
    value
}
