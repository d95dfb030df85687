//! Metrics of the machine and of this process: CPU, memory, disk, file descriptors, threads.
//!
//! ```
//! use barograph::opentelemetry::metrics::MeterProvider;
//! use barograph_instrumentation_system::SystemMetrics;
//!
//! fn run(provider: &dyn MeterProvider) {
//!     let _system = SystemMetrics::new(provider);     // until it is dropped
//!     serve();
//! }
//! # fn serve() {}
//! # run(&barograph::opentelemetry::metrics::NoopMeterProvider::new());
//! ```
//!
//! In a container with limits (control groups, v2 or v1) `system.memory` is a percentage of the container's memory and
//! `system.cpu` one of the cores it may use; elsewhere both are of the machine's.
//!
//! What is measured is read once a second by a thread named `barograph-system`, and a scrape sees the latest reading.
//! What the operating system does not tell is absent, never zero. Names, units and descriptions are in [`semconv`].

mod container;
mod instruments;
mod reading;
mod refresh;
pub mod semconv;

use std::path::Path;
use std::sync::mpsc::Sender;

use barograph::Registration;
use barograph::opentelemetry::InstrumentationScope;
use barograph::opentelemetry::metrics::MeterProvider;

use crate::reading::{Reader, Reading};

/// Measures the machine and this process for as long as it lives.
///
/// When it is dropped, its thread ends and its series are gone from the next scrape on.
#[must_use = "the machine is measured until this is dropped"]
#[derive(Debug)]
pub struct SystemMetrics {
    _registrations: [Registration; 7],
    // The thread ends when this end of its channel is gone.
    _stop: Sender<()>,
}

impl SystemMetrics {
    /// Takes a first reading, which costs about a millisecond, starts the thread that takes the others, and registers
    /// the observables in the scope [`semconv::SCOPE`].
    ///
    /// All values are there from the first scrape on, except `system.cpu`: what is used of a CPU shows in the
    /// difference of two readings, the second of which is taken a quarter of a second later.
    ///
    /// Where no thread can be started, nothing is exported.
    pub fn new(provider: &dyn MeterProvider) -> Self {
        let scope = InstrumentationScope::builder(semconv::SCOPE).with_version(env!("CARGO_PKG_VERSION")).build();
        let mut reader = Reader::new(Path::new("/"));
        let (latest, stop) = refresh::start(move || reader.as_mut().map_or_else(Reading::default, Reader::read));
        let registrations = instruments::register(&provider.meter_with_scope(scope), &latest);
        Self { _registrations: registrations, _stop: stop }
    }
}

/// Compiles the README's program.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
