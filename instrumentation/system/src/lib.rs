//! Metrics of the machine and of this process: CPU, memory, disks, networks, file descriptors, threads.
//!
//! There are two tables of them, and a program chooses one:
//!
//! - [`SystemMetrics`] records the seven metrics that the platform's dashboards know.
//! - [`ProcessMetrics`] and [`HostMetrics`] record what OpenTelemetry's semantic conventions, version 1.44.0, have for
//!   processes, containers and machines. With [`semconv::CLASSIC_PROCESS_VIEWS`] those of the process have the names
//!   that Prometheus' own libraries use.
//!
//! ```
//! use barograph::opentelemetry::metrics::MeterProvider;
//! use barograph_instrumentation_system::ProcessMetrics;
//!
//! fn run(provider: &dyn MeterProvider) {
//!     let _process = ProcessMetrics::new(provider);     // until it is dropped
//!     serve();
//! }
//! # fn serve() {}
//! # run(&barograph::opentelemetry::metrics::NoopMeterProvider::new());
//! ```
//!
//! Each is recorded only where somebody builds it, so the tables are never mixed by accident. Nor do they collide: no name
//! is in both, as OpenTelemetry has it or as it is scraped, so that a program that moves from one to the other can have
//! both for a while. Only the classic names are also some of the contract's (`process_cpu_seconds_total`,
//! `process_resident_memory_bytes`): those views do not go together with [`SystemMetrics`], and
//! `Telemetry::verify` says so.
//!
//! In a container with limits (control groups, v2 or v1) `system.memory` of the contract is a percentage of the
//! container's memory and its `system.cpu` one of the cores that it may use; elsewhere both are of the machine's. By the
//! conventions, `system.*` is the machine's and `container.*` the container's.
//!
//! What is measured is read once a second by a thread named `barograph-system`, and a scrape sees the latest reading.
//! What the operating system does not tell is absent, never zero. Names, units and descriptions are in [`semconv`].

mod container;
#[cfg(test)]
mod fixture;
mod host;
mod instruments;
mod process;
mod reading;
mod refresh;
pub mod semconv;

use std::path::Path;
use std::sync::mpsc::Sender;

use barograph::Registration;
use barograph::opentelemetry::InstrumentationScope;
use barograph::opentelemetry::metrics::{Meter, MeterProvider};

use crate::host::HostReader;
use crate::process::ProcessReader;
use crate::reading::{Reader, Reading};

/// Measures the machine and this process for as long as it lives: the platform's seven metrics.
///
/// When it is dropped, its thread ends and its series are gone from the next scrape on.
#[must_use = "the machine is measured until this is dropped"]
#[derive(Debug)]
pub struct SystemMetrics {
    _registrations: Vec<Registration>,
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
        let mut reader = Reader::new(Path::new("/"));
        let (latest, stop) = refresh::start(move || reader.as_mut().map_or_else(Reading::default, Reader::read));
        Self { _registrations: instruments::contract(&meter(provider), &latest), _stop: stop }
    }
}

/// Measures this process, and the container it is in, for as long as it lives: [`semconv::PROCESS_METRICS`] by the
/// semantic conventions, and [`semconv::OTHER_PROCESS_METRICS`] besides.
///
/// The container is the control group of this process, v2 or v1, where it is not the machine's root; its limits are the
/// tightest on the way to the root. Without a limit, what is measured against it is absent.
///
/// When it is dropped, its thread ends and its series are gone from the next scrape on.
///
/// # The classic names
///
/// Dashboards that know `process_resident_memory_bytes` and the like are served by views:
///
/// ```
/// use barograph::Telemetry;
/// use barograph_instrumentation_system::ProcessMetrics;
/// use barograph_instrumentation_system::semconv::CLASSIC_PROCESS_VIEWS;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let telemetry = Telemetry::builder("service")
///     .with_views(CLASSIC_PROCESS_VIEWS.iter().copied())
///     .without_endpoint()
///     .start()?;
/// let _process = ProcessMetrics::new(telemetry.meter_provider());
/// assert!(cfg!(not(target_os = "linux")) || telemetry.scrape()?.contains("process_resident_memory_bytes"));
/// # Ok(())
/// # }
/// ```
///
/// What has a classic name has that one only, with the labels of the scope and no others; the other metrics keep their
/// names. To have nothing but the classic ones, drop the rest before:
/// `.with_view(View::of("*").in_scope("system").dropped())`.
#[must_use = "the process is measured until this is dropped"]
#[derive(Debug)]
pub struct ProcessMetrics {
    _registrations: Vec<Registration>,
    _stop: Sender<()>,
}

impl ProcessMetrics {
    /// Takes a first reading, starts the thread that takes the others, and registers the observables in the scope
    /// [`semconv::SCOPE`].
    ///
    /// All values are there from the first scrape on, except `process.cpu.utilization` and `container.cpu.usage`, which
    /// are there a quarter of a second later.
    ///
    /// Where no thread can be started, nothing is exported.
    pub fn new(provider: &dyn MeterProvider) -> Self {
        let mut reader = ProcessReader::new(Path::new("/"));
        let (latest, stop) = refresh::start(move || reader.read());
        Self { _registrations: instruments::process(&meter(provider), &latest), _stop: stop }
    }
}

/// Measures the machine for as long as it lives: [`semconv::HOST_METRICS`], by the semantic conventions.
///
/// One program on a machine is enough, and none is needed where a node exporter or a collector measures it.
///
/// - Disks are whole ones, without their partitions, and without those made of files or memory.
/// - Filesystems are those on a device of this machine, each once, and `/`. What is served over a network is left out,
///   because asking for its size may hang.
/// - Network interfaces are all but `lo` and the host's ends of its containers' (`veth*`), which come and go.
///
/// When it is dropped, its thread ends and its series are gone from the next scrape on.
#[must_use = "the machine is measured until this is dropped"]
#[derive(Debug)]
pub struct HostMetrics {
    _registrations: Vec<Registration>,
    _stop: Sender<()>,
}

impl HostMetrics {
    /// Takes a first reading, starts the thread that takes the others, and registers the observables in the scope
    /// [`semconv::SCOPE`].
    ///
    /// All values are there from the first scrape on, except `system.cpu.utilization`, which is there a quarter of a
    /// second later.
    ///
    /// Where no thread can be started, nothing is exported.
    pub fn new(provider: &dyn MeterProvider) -> Self {
        let mut reader = HostReader::new(Path::new("/"));
        let (latest, stop) = refresh::start(move || reader.read());
        Self { _registrations: instruments::host(&meter(provider), &latest), _stop: stop }
    }
}

fn meter(provider: &dyn MeterProvider) -> Meter {
    let scope = InstrumentationScope::builder(semconv::SCOPE).with_version(env!("CARGO_PKG_VERSION")).build();
    provider.meter_with_scope(scope)
}

/// Compiles the README's program.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
