//! A metric written once, as typed constant data: name, unit, description, attributes, and for a histogram its buckets.
//!
//! ```
//! use barograph::{CounterSpec, HistogramSpec, attribute, buckets};
//!
//! attribute! {
//!     /// How a job ended.
//!     pub enum JobStatus: "status" { Done = "done", Failed = "failed" }
//! }
//!
//! /// Jobs, by how they ended.
//! pub const JOBS: CounterSpec<JobStatus> = CounterSpec::new("worker.jobs", "{job}", "Jobs that ended.");
//!
//! /// Time spent on a job.
//! pub const JOB_DURATION: HistogramSpec =
//!     HistogramSpec::new("worker.job_duration", "s", "Time spent on a job.").buckets(buckets::MINUTES);
//!
//! assert_eq!(JOBS.descriptor().cardinality(), 2);
//! ```
//!
//! The name is dotted and without unit or `_total`; the unit is UCUM (`s`, `By`, `%`, `{job}`). The exposition adds
//! both where the scraped name needs them: `worker_jobs_total`, `worker_job_duration_seconds`.
//!
//! The kind is part of the type, so a counter's spec cannot become a histogram:
//!
//! ```compile_fail
//! use barograph::{CounterSpec, HistogramSpec};
//! const JOBS: HistogramSpec = CounterSpec::<()>::new("worker.jobs", "{job}", "Jobs that ended.");
//! ```
//!
//! And more combinations than [`MAX_CARDINALITY`](crate::MAX_CARDINALITY) do not compile. Ten values four times are
//! exactly as many as may be:
//!
//! ```
//! # barograph::attribute! { pub enum A: "a" { A0 = "0", A1 = "1", A2 = "2", A3 = "3", A4 = "4", A5 = "5", A6 = "6", A7 = "7", A8 = "8", A9 = "9" } }
//! # barograph::attribute! { pub enum B: "b" { A0 = "0", A1 = "1", A2 = "2", A3 = "3", A4 = "4", A5 = "5", A6 = "6", A7 = "7", A8 = "8", A9 = "9" } }
//! # barograph::attribute! { pub enum C: "c" { A0 = "0", A1 = "1", A2 = "2", A3 = "3", A4 = "4", A5 = "5", A6 = "6", A7 = "7", A8 = "8", A9 = "9" } }
//! # barograph::attribute! { pub enum D: "d" { A0 = "0", A1 = "1", A2 = "2", A3 = "3", A4 = "4", A5 = "5", A6 = "6", A7 = "7", A8 = "8", A9 = "9" } }
//! let spec = barograph::CounterSpec::<(A, B, C, D)>::new("worker.jobs", "{job}", "Jobs that ended.");
//! assert_eq!(spec.descriptor().cardinality(), 10_000);
//! ```
//!
//! One value more is one too many:
//!
//! ```compile_fail
//! # barograph::attribute! { pub enum A: "a" { A0 = "0", A1 = "1", A2 = "2", A3 = "3", A4 = "4", A5 = "5", A6 = "6", A7 = "7", A8 = "8", A9 = "9", A10 = "10" } }
//! # barograph::attribute! { pub enum B: "b" { A0 = "0", A1 = "1", A2 = "2", A3 = "3", A4 = "4", A5 = "5", A6 = "6", A7 = "7", A8 = "8", A9 = "9" } }
//! # barograph::attribute! { pub enum C: "c" { A0 = "0", A1 = "1", A2 = "2", A3 = "3", A4 = "4", A5 = "5", A6 = "6", A7 = "7", A8 = "8", A9 = "9" } }
//! # barograph::attribute! { pub enum D: "d" { A0 = "0", A1 = "1", A2 = "2", A3 = "3", A4 = "4", A5 = "5", A6 = "6", A7 = "7", A8 = "8", A9 = "9" } }
//! let spec = barograph::CounterSpec::<(A, B, C, D)>::new("worker.jobs", "{job}", "Jobs that ended.");
//! ```

use std::marker::PhantomData;

use crate::attribute::{AttributeInfo, AttributeSet, MAX_CARDINALITY, keys_distinct};

/// What kind of instrument a spec declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// Only goes up; recorded where it happens.
    Counter,
    /// Goes up and down; recorded where it happens.
    UpDownCounter,
    /// The latest value; recorded where it changes.
    Gauge,
    /// A distribution in buckets; recorded where it happens.
    Histogram,
    /// Only goes up; read when somebody collects.
    ObservableCounter,
    /// Goes up and down, adds up over attributes; read when somebody collects.
    ObservableUpDownCounter,
    /// The current value; read when somebody collects.
    ObservableGauge,
}

impl Kind {
    /// The kind in words, as the tables of the documentation write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::UpDownCounter => "up-down counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::ObservableCounter => "observable counter",
            Self::ObservableUpDownCounter => "observable up-down counter",
            Self::ObservableGauge => "observable gauge",
        }
    }

    /// Whether it is read when somebody collects.
    #[cfg(feature = "prometheus")]
    pub(crate) const fn is_observable(self) -> bool {
        matches!(self, Self::ObservableCounter | Self::ObservableUpDownCounter | Self::ObservableGauge)
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A spec as data, whatever its type: what catalogues, tables and dashboards are made from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Descriptor {
    /// The dotted OpenTelemetry name, without unit or `_total`.
    pub name: &'static str,
    /// What is measured, in one sentence.
    pub description: &'static str,
    /// The UCUM unit; empty where there is none.
    pub unit: &'static str,
    /// The kind of instrument.
    pub kind: Kind,
    /// The closed attributes its series are told apart by.
    pub attributes: &'static [AttributeInfo],
    /// The keys of its open attributes, whose values are known only when the program runs. Typed handles have none.
    pub open_attributes: &'static [&'static str],
    /// A histogram's upper bounds; `None` for a preset that fits the unit.
    pub buckets: Option<&'static [f64]>,
}

impl Descriptor {
    /// The number of series the spec can make: with open attributes, for each combination of their values.
    #[must_use]
    pub fn cardinality(&self) -> usize {
        self.attributes.iter().map(|attribute| attribute.values.len()).product()
    }
}

macro_rules! spec {
    ($(#[$meta:meta])* $name:ident, $kind:ident) => {
        $(#[$meta])*
        pub struct $name<A = ()> {
            descriptor: Descriptor,
            attributes: PhantomData<fn(A)>,
        }

        impl<A: AttributeSet> $name<A> {
            /// Declares the metric: dotted name, UCUM unit, one sentence of description.
            ///
            /// Name and unit follow the [instrument syntax] of the OpenTelemetry specification. A name that does not
            /// is refused when the instrument is built: the handle then records nothing, the refusal is logged, and
            /// `Telemetry::verify` returns it as an error.
            ///
            /// [instrument syntax]: https://opentelemetry.io/docs/specs/otel/metrics/api/#instrument-name-syntax
            #[must_use]
            pub const fn new(name: &'static str, unit: &'static str, description: &'static str) -> Self {
                const {
                    assert!(
                        A::CARDINALITY <= MAX_CARDINALITY,
                        "an instrument has at most 10,000 combinations of attribute values"
                    );
                    assert!(keys_distinct(A::ATTRIBUTES), "the attributes of an instrument have different keys");
                }
                Self {
                    descriptor: Descriptor {
                        name,
                        description,
                        unit,
                        kind: Kind::$kind,
                        attributes: A::ATTRIBUTES,
                        open_attributes: &[],
                        buckets: None,
                    },
                    attributes: PhantomData,
                }
            }

            /// Says that its series have attributes more, of these keys, whose values are known only when the program
            /// runs: see `open_*` of [`MeterExt`](crate::MeterExt), and
            /// [`Observer::observe_with`](crate::Observer::observe_with).
            #[must_use]
            pub const fn open(mut self, keys: &'static [&'static str]) -> Self {
                self.descriptor.open_attributes = keys;
                self
            }

            /// The spec as data.
            #[must_use]
            pub const fn descriptor(&self) -> Descriptor {
                self.descriptor
            }
        }

        impl<A> std::fmt::Debug for $name<A> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.descriptor.fmt(f)
            }
        }
    };
}

spec!(
    /// Declares a [`Counter`](crate::Counter).
    CounterSpec,
    Counter
);
spec!(
    /// Declares an [`UpDownCounter`](crate::UpDownCounter).
    UpDownCounterSpec,
    UpDownCounter
);
spec!(
    /// Declares a [`Gauge`](crate::Gauge).
    GaugeSpec,
    Gauge
);
spec!(
    /// Declares a [`Histogram`](crate::Histogram).
    HistogramSpec,
    Histogram
);
spec!(
    /// Declares an observable counter: see [`MeterExt::observable_counter`](crate::MeterExt::observable_counter).
    ObservableCounterSpec,
    ObservableCounter
);
spec!(
    /// Declares an observable up-down counter: see
    /// [`MeterExt::observable_up_down_counter`](crate::MeterExt::observable_up_down_counter).
    ObservableUpDownCounterSpec,
    ObservableUpDownCounter
);
spec!(
    /// Declares an observable gauge: see [`MeterExt::observable_gauge`](crate::MeterExt::observable_gauge).
    ObservableGaugeSpec,
    ObservableGauge
);

impl<A: AttributeSet> HistogramSpec<A> {
    /// The upper bounds of the buckets, ascending; the one above them all is implied.
    ///
    /// Defaults to a preset that fits the unit: see [`buckets`].
    #[must_use]
    pub const fn buckets(mut self, bounds: &'static [f64]) -> Self {
        self.descriptor.buckets = Some(bounds);
        self
    }
}

/// Another name for what an instrument records, as constant data: what a component, which stands on the instrument layer
/// alone, offers to those who know its metrics by other names.
///
/// With the feature `prometheus` it becomes a `View`, and `TelemetryBuilder::with_views` takes a list of them.
///
/// ```
/// use barograph::ViewSpec;
///
/// /// The names that the program before this one had.
/// pub const OLD_NAMES: &[ViewSpec] = &[
///     ViewSpec::new("worker.jobs", "jobs_done").in_scope("worker").with_attributes(&["status"]),
///     ViewSpec::new("worker.job_duration", "job_time").in_scope("worker"),
/// ];
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ViewSpec {
    /// The name of the instrument.
    pub instrument: &'static str,
    /// The name of its scope; `None` for any.
    pub scope: Option<&'static str>,
    /// The name of the stream, dotted, without unit or `_total`.
    pub name: &'static str,
    /// The keys of the attributes that are kept; `None` for all.
    pub attributes: Option<&'static [&'static str]>,
}

impl ViewSpec {
    /// Gives what the instrument records this name.
    #[must_use]
    pub const fn new(instrument: &'static str, name: &'static str) -> Self {
        Self { instrument, scope: None, name, attributes: None }
    }

    /// Selects the instrument of this scope only. Defaults to any.
    #[must_use]
    pub const fn in_scope(mut self, scope: &'static str) -> Self {
        self.scope = Some(scope);
        self
    }

    /// Keeps only the attributes with these keys; series that then no longer differ are added up. Defaults to all.
    #[must_use]
    pub const fn with_attributes(mut self, keys: &'static [&'static str]) -> Self {
        self.attributes = Some(keys);
        self
    }
}

/// Bucket boundaries that fit common work, named by what they measure.
pub mod buckets {
    /// Calls and requests in seconds, 5 ms to 10 s: the advice of the [HTTP semantic conventions].
    ///
    /// The default for unit `s`.
    ///
    /// [HTTP semantic conventions]: https://opentelemetry.io/docs/specs/semconv/http/http-metrics/
    pub const SECONDS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

    /// Jobs in seconds, 100 ms to 10 min: test runs, audits, builds.
    pub const MINUTES: &[f64] = &[0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];

    /// The bounds of [`SECONDS`] in milliseconds. The default for unit `ms`.
    pub const MILLISECONDS: &[f64] =
        &[5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1e3, 2.5e3, 5e3, 7.5e3, 1e4];

    /// Microseconds, 10 µs to 1 s. The default for unit `us`.
    pub const MICROSECONDS: &[f64] = &[10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1e3, 2.5e3, 5e3, 1e4, 2.5e4, 1e5, 1e6];

    /// Nanoseconds, 100 ns to 100 ms. The default for unit `ns`.
    pub const NANOSECONDS: &[f64] = &[100.0, 250.0, 500.0, 1e3, 2.5e3, 5e3, 1e4, 5e4, 1e5, 1e6, 1e7, 1e8];

    /// Sizes in bytes, 256 B to 256 MiB by powers of four. The default for unit `By`.
    pub const BYTES: &[f64] = &[
        256.0,
        1024.0,
        4096.0,
        16384.0,
        65536.0,
        262_144.0,
        1_048_576.0,
        4_194_304.0,
        16_777_216.0,
        67_108_864.0,
        268_435_456.0,
    ];

    /// The preset that fits a UCUM unit; `None` where the SDK's own default is as good as any.
    ///
    /// ```
    /// assert_eq!(barograph::buckets::for_unit("s"), Some(barograph::buckets::SECONDS));
    /// assert_eq!(barograph::buckets::for_unit("{item}"), None);
    /// ```
    #[must_use]
    pub fn for_unit(unit: &str) -> Option<&'static [f64]> {
        Some(match unit {
            "s" => SECONDS,
            "ms" => MILLISECONDS,
            "us" => MICROSECONDS,
            "ns" => NANOSECONDS,
            "By" => BYTES,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_ascends() {
        for unit in ["s", "ms", "us", "ns", "By"] {
            let bounds = buckets::for_unit(unit).unwrap();
            assert!(bounds.is_sorted_by(|a, b| a < b), "{unit}: {bounds:?}");
        }
        assert!(buckets::MINUTES.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn a_descriptor_says_what_the_spec_said() {
        const SPEC: HistogramSpec = HistogramSpec::new("a.b", "s", "What.").buckets(buckets::MINUTES);
        let descriptor = SPEC.descriptor();
        assert_eq!((descriptor.name, descriptor.unit, descriptor.description), ("a.b", "s", "What."));
        assert_eq!((descriptor.kind, descriptor.buckets), (Kind::Histogram, Some(buckets::MINUTES)));
        assert_eq!(descriptor.cardinality(), 1);
    }
}
