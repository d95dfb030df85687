//! Every name recorded here: the scope and the metrics.

use barograph::{Descriptor, ObservableCounterSpec, ObservableGaugeSpec};

/// The instrumentation scope.
pub const SCOPE: &str = "system";

/// Share of the CPU time in use, of the cores that the machine has or the container may use.
pub const SYSTEM_CPU: ObservableGaugeSpec =
    ObservableGaugeSpec::new("system.cpu", "%", "CPU in use, in percent of the cores of the machine or container.");

/// Share of the memory in use, of what the machine has or the container may use.
pub const SYSTEM_MEMORY: ObservableGaugeSpec = ObservableGaugeSpec::new(
    "system.memory",
    "%",
    "Memory in use, in percent of the memory of the machine or the limit of the container.",
);

/// Share of the root filesystem that is not available.
pub const SYSTEM_DISK: ObservableGaugeSpec =
    ObservableGaugeSpec::new("system.disk", "%", "Space in use on the root filesystem, in percent.");

/// CPU time of this process, on all cores together.
pub const PROCESS_CPU: ObservableCounterSpec =
    ObservableCounterSpec::new("process.cpu", "s", "Total user and system CPU time spent by this process.");

/// Resident memory of this process.
pub const PROCESS_RESIDENT_MEMORY: ObservableGaugeSpec =
    ObservableGaugeSpec::new("process.resident_memory", "By", "Resident memory of this process.");

/// Descriptors this process has open.
pub const PROCESS_OPEN_FILE_DESCRIPTORS: ObservableGaugeSpec = ObservableGaugeSpec::new(
    "process.open_file_descriptors",
    "{file_descriptor}",
    "Number of file descriptors that this process has open.",
);

/// Threads of this process.
pub const PROCESS_THREADS_COUNT: ObservableGaugeSpec =
    ObservableGaugeSpec::new("process.threads_count", "{thread}", "Number of threads of this process.");

/// All of them.
pub const METRICS: &[Descriptor] = &[
    SYSTEM_CPU.descriptor(),
    SYSTEM_MEMORY.descriptor(),
    SYSTEM_DISK.descriptor(),
    PROCESS_CPU.descriptor(),
    PROCESS_RESIDENT_MEMORY.descriptor(),
    PROCESS_OPEN_FILE_DESCRIPTORS.descriptor(),
    PROCESS_THREADS_COUNT.descriptor(),
];
