//! OpenTelemetry metrics for Rust services: declare a metric once, record it in nanoseconds, scrape it with Prometheus or
//! push it with OTLP as the same series.
//!
//! ```no_run
//! use barograph::{CounterSpec, MeterExt, StartError, Telemetry, attribute};
//!
//! attribute! { enum Status: "status" { Done = "done", Failed = "failed" } }
//! const JOBS: CounterSpec<Status> = CounterSpec::new("worker.jobs", "{job}", "Jobs that ended.");
//!
//! fn main() -> Result<(), StartError> {
//!     let telemetry = Telemetry::builder("worker").start()?;
//!     let jobs = telemetry.meter("worker").counter(&JOBS);
//!     jobs.add(1, Status::Done); // wherever a job ends
//!     loop {
//!         std::thread::park(); // the endpoint answers until the process ends
//!     }
//! }
//! ```
//!
//! That is a whole program. `curl http://127.0.0.1:9464/metrics` shows its series, each of them from the first scrape
//! on, and the same names for as long as the program is built.
//!
//! # A map
//!
//! - **Declare**: [`attribute!`] makes closed sets of values, [`CounterSpec`] and its siblings declare metrics,
//!   [`buckets`] has boundaries that fit.
//! - **Record**: [`MeterExt`] builds typed handles on any OpenTelemetry meter: [`Counter`], [`UpDownCounter`],
//!   [`Gauge`], [`Histogram`], observables and [`KeyedGauge`]; [`Timer`], [`OutcomeTimer`] and [`InFlight`] are guards
//!   that cannot forget. [`operation!`] declares a function's calls, outcomes, durations and calls in progress at once;
//!   its [`Operation`] measures a closure or a future.
//!   What counters and histograms record inside a sampled span leads to its trace: see
//!   [`TelemetryBuilder::with_exemplar_filter`].
//! - **Run**: [`Telemetry`] is the pipeline: it hands out guarded meters, answers scrapes, pushes, and shuts down in time.
//!   [`Telemetry::from_env`] makes it what the environment asks for; [`config`] is what it can be made of.
//!   [`View`] renames, re-buckets, narrows or drops without touching a component. [`ScrapeService`] mounts the endpoint
//!   in a router of your own.
//! - **Trust**: a callback that panics loses its own series and nothing else; a name never doubles its unit or its
//!   `_total`; what Prometheus could not read is left out and counted; [`Telemetry::verify`] says at start what is
//!   wrong, naming both sides. What the pipeline says about itself is listed in [`SELF_METRICS`].
//! - **Ship**: the [`guide`] is about names, cardinality, buckets, tests, operation, and migrating from other crates.
//!
//! # Features
//!
//! - `prometheus` (default): the pipeline, the exposition, the endpoint. Without it the crate is the instrument layer on
//!   the OpenTelemetry API alone, with no other dependency: what a library needs.
//! - `page` (default): the live page at `/` of the endpoint ([`TelemetryBuilder::with_live_page`]).
//! - `otlp` (default): pushing by OTLP, as http/protobuf, http/json and gRPC, with gzip.
//! - `tls`: OTLP to endpoints of `https`.
//! - `zstd`: pages and OTLP compressed with zstd.
//! - `web-config`: TLS, client certificates, passwords and tokens for the endpoint
//!   ([`TelemetryBuilder::with_web_config`]).
//! - `testing`: the module `testing`, for tests: a pipeline of their own, assertions about metrics, golden pages, a linter.
//! - `config-file`: files of OpenTelemetry's declarative configuration.
//!
//! The whole [`opentelemetry`] crate is re-exported: two versions of it in one binary are two worlds, of which one
//! records nothing.

#![cfg_attr(not(feature = "prometheus"), allow(rustdoc::broken_intra_doc_links, reason = "the map shows every room"))]

mod attribute;
#[cfg(feature = "prometheus")]
pub mod config;
#[cfg(feature = "prometheus")]
mod error;
#[cfg(feature = "prometheus")]
mod exemplar;
#[cfg(not(feature = "prometheus"))]
#[path = "exemplar/none.rs"]
mod exemplar;
#[cfg(feature = "prometheus")]
mod exporter;
#[cfg(feature = "prometheus")]
mod exposition;
mod failure;
#[cfg(feature = "prometheus")]
mod guard;
#[cfg(all(any(doc, doctest), feature = "prometheus"))]
pub mod guide;
mod instrument;
#[cfg(feature = "prometheus")]
mod pipeline;
#[cfg(feature = "prometheus")]
mod resource;
#[cfg(feature = "prometheus")]
mod runtime;
#[cfg(feature = "prometheus")]
mod scrape;
#[cfg(feature = "prometheus")]
mod self_metrics;
mod spec;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "prometheus")]
mod view;

#[doc(hidden)]
pub use attribute::all_distinct;
pub use attribute::{Attribute, AttributeInfo, AttributeSet, MAX_CARDINALITY, Outcome};
pub use failure::{ClassifiedError, Failure};
pub use instrument::{
    Call, CallOutcome, Counter, Gauge, Histogram, InFlight, KeyedGauge, MeterExt, Observer, Operation,
    OperationAttributes, OperationSpec, OutcomeTimer, Registration, Timer, UpDownCounter, is_in_callback,
};
pub use opentelemetry;
pub use spec::{
    CounterSpec, Descriptor, GaugeSpec, HistogramSpec, Kind, ObservableCounterSpec, ObservableGaugeSpec,
    ObservableUpDownCounterSpec, UpDownCounterSpec, ViewSpec, buckets,
};
#[cfg(feature = "prometheus")]
pub use {
    config::Config,
    error::{
        ConfigError, FlushError, InstrumentName, Origin, Problem, ScrapeError, ShutdownError, StartError, VerifyError,
        ViewError,
    },
    exposition::TranslationStrategy,
    guard::GuardedMeterProvider,
    pipeline::{Telemetry, TelemetryBuilder},
    scrape::{ReadinessLatch, ScrapeBody, ScrapeService},
    self_metrics::METRICS as SELF_METRICS,
    view::View,
};

/// Compiles the README's programs.
#[cfg(all(doctest, feature = "testing"))]
#[doc = include_str!("../README.md")]
struct Readme;
