//! Every name recorded here: the scope, the attributes and the metrics.
//!
//! There are two tables. [`METRICS`] is the platform's contract. [`PROCESS_METRICS`] and [`HOST_METRICS`] are those of
//! OpenTelemetry's semantic conventions, version 1.44.0; what the conventions have no name for yet is in
//! [`OTHER_PROCESS_METRICS`].

use barograph::{
    Descriptor, ObservableCounterSpec, ObservableGaugeSpec, ObservableUpDownCounterSpec, ViewSpec, attribute,
};

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

/// The contract: what [`SystemMetrics`](crate::SystemMetrics) records.
pub const METRICS: &[Descriptor] = &[
    SYSTEM_CPU.descriptor(),
    SYSTEM_MEMORY.descriptor(),
    SYSTEM_DISK.descriptor(),
    PROCESS_CPU.descriptor(),
    PROCESS_RESIDENT_MEMORY.descriptor(),
    PROCESS_OPEN_FILE_DESCRIPTORS.descriptor(),
    PROCESS_THREADS_COUNT.descriptor(),
];

/// The device: of a disk its name in the kernel (`nvme0n1`), of a filesystem what it is on (`/dev/nvme0n1p1`), of
/// packets the network interface.
pub const SYSTEM_DEVICE: &str = "system.device";

/// The network interface, for example `eth0`.
pub const NETWORK_INTERFACE_NAME: &str = "network.interface.name";

/// The type of a filesystem, for example `ext4`.
pub const FILESYSTEM_TYPE: &str = "system.filesystem.type";

/// Whether a filesystem is mounted for reading and writing (`rw`) or for reading only (`ro`).
pub const FILESYSTEM_MODE: &str = "system.filesystem.mode";

/// Where a filesystem is mounted.
pub const FILESYSTEM_MOUNTPOINT: &str = "system.filesystem.mountpoint";

attribute! {
    /// What a process, or the processes of a container, spent CPU time on.
    pub enum ProcessCpuMode: "cpu.mode" {
        /// Its own code.
        User = "user",
        /// The kernel, on its behalf.
        System = "system",
    }
}

attribute! {
    /// What the CPUs of the machine spent their time on.
    pub enum CpuMode: "cpu.mode" {
        /// Processes.
        User = "user",
        /// The kernel.
        System = "system",
        /// Processes of low priority.
        Nice = "nice",
        /// Nothing.
        Idle = "idle",
        /// Nothing, while a disk was waited for.
        Iowait = "iowait",
        /// Interrupts, hard and soft.
        Interrupt = "interrupt",
        /// Other virtual machines.
        Steal = "steal",
    }
}

attribute! {
    /// Which way bytes went between memory and a disk.
    pub enum DiskDirection: "disk.io.direction" { Read = "read", Write = "write" }
}

attribute! {
    /// Which way bytes went through a network interface, as the machine sees it.
    pub enum NetworkDirection: "network.io.direction" { Transmit = "transmit", Receive = "receive" }
}

attribute! {
    /// Why a thread left its CPU.
    pub enum ContextSwitchType: "process.context_switch.type" {
        /// It waited for something.
        Voluntary = "voluntary",
        /// Its time was up, or somebody more urgent came.
        Involuntary = "involuntary",
    }
}

attribute! {
    /// What a page fault cost.
    pub enum FaultType: "system.paging.fault.type" {
        /// The page came from a disk.
        Major = "major",
        /// The page was in memory.
        Minor = "minor",
    }
}

attribute! {
    /// Which way pages went: into memory, or out to swap.
    pub enum PagingDirection: "system.paging.direction" { In = "in", Out = "out" }
}

attribute! {
    /// What memory is used for. The four add up to the memory there is, or nearly.
    pub enum MemoryState: "system.memory.state" {
        /// In use: what is not available to a program that starts now.
        Used = "used",
        /// Not used at all.
        Free = "free",
        /// Data on its way to and from disks.
        Buffers = "buffers",
        /// Files that were read.
        Cached = "cached",
    }
}

attribute! {
    /// Whether swap is used.
    pub enum PagingState: "system.paging.state" { Used = "used", Free = "free" }
}

attribute! {
    /// Whether space is used. What only root may use counts as used.
    pub enum FilesystemState: "system.filesystem.state" { Used = "used", Free = "free" }
}

/// CPU time of this process, by mode.
pub const PROCESS_CPU_TIME: ObservableCounterSpec<ProcessCpuMode> =
    ObservableCounterSpec::new("process.cpu.time", "s", "CPU time that this process spent, by mode.");

/// Share of the CPUs that this process may use which it used since the reading before, by mode.
pub const PROCESS_CPU_UTILIZATION: ObservableGaugeSpec<ProcessCpuMode> = ObservableGaugeSpec::new(
    "process.cpu.utilization",
    "1",
    "Share that this process used of the CPUs available to it, by mode.",
);

/// Resident memory of this process.
pub const PROCESS_MEMORY_USAGE: ObservableUpDownCounterSpec =
    ObservableUpDownCounterSpec::new("process.memory.usage", "By", "Physical memory that this process uses.");

/// Virtual memory of this process.
pub const PROCESS_MEMORY_VIRTUAL: ObservableUpDownCounterSpec =
    ObservableUpDownCounterSpec::new("process.memory.virtual", "By", "Virtual memory of this process.");

/// Bytes that this process had disks read and write; what came from the page cache does not count.
pub const PROCESS_DISK_IO: ObservableCounterSpec<DiskDirection> =
    ObservableCounterSpec::new("process.disk.io", "By", "Bytes that disks read and wrote for this process.");

/// Threads of this process.
pub const PROCESS_THREAD_COUNT: ObservableUpDownCounterSpec =
    ObservableUpDownCounterSpec::new("process.thread.count", "{thread}", "Threads of this process.");

/// Descriptors that this process has open.
pub const PROCESS_FILE_DESCRIPTOR_COUNT: ObservableUpDownCounterSpec = ObservableUpDownCounterSpec::new(
    "process.unix.file_descriptor.count",
    "{file_descriptor}",
    "File descriptors that this process has open.",
);

/// How often threads of this process left their CPU, by why.
pub const PROCESS_CONTEXT_SWITCHES: ObservableCounterSpec<ContextSwitchType> = ObservableCounterSpec::new(
    "process.context_switches",
    "{context_switch}",
    "Times that a thread of this process left its CPU, by why.",
);

/// Page faults of this process, by what they cost.
pub const PROCESS_PAGING_FAULTS: ObservableCounterSpec<FaultType> =
    ObservableCounterSpec::new("process.paging.faults", "{fault}", "Page faults of this process, by type.");

/// Time since this process was started.
pub const PROCESS_UPTIME: ObservableGaugeSpec =
    ObservableGaugeSpec::new("process.uptime", "s", "Time since this process was started.");

/// CPU time of all processes of the container, by mode.
pub const CONTAINER_CPU_TIME: ObservableCounterSpec<ProcessCpuMode> =
    ObservableCounterSpec::new("container.cpu.time", "s", "CPU time that this process's container spent, by mode.");

/// CPUs that the container used since the reading before, by mode.
pub const CONTAINER_CPU_USAGE: ObservableGaugeSpec<ProcessCpuMode> =
    ObservableGaugeSpec::new("container.cpu.usage", "{cpu}", "CPUs that this process's container uses, by mode.");

/// Memory of the container, with all of its page cache.
pub const CONTAINER_MEMORY_USAGE: ObservableUpDownCounterSpec = ObservableUpDownCounterSpec::new(
    "container.memory.usage",
    "By",
    "Memory that this process's container uses, page cache included.",
);

/// Memory of the container without the page cache that nobody used of late: what cannot be had back.
pub const CONTAINER_MEMORY_WORKING_SET: ObservableUpDownCounterSpec = ObservableUpDownCounterSpec::new(
    "container.memory.working_set",
    "By",
    "Memory that this process's container uses and cannot give back easily.",
);

/// Memory of the container that is no page cache.
pub const CONTAINER_MEMORY_RSS: ObservableUpDownCounterSpec = ObservableUpDownCounterSpec::new(
    "container.memory.rss",
    "By",
    "Memory that the processes of this process's container have allocated.",
);

/// What is left of the limit on memory; absent without one.
pub const CONTAINER_MEMORY_AVAILABLE: ObservableUpDownCounterSpec = ObservableUpDownCounterSpec::new(
    "container.memory.available",
    "By",
    "Memory that this process's container may still use: its limit less its working set.",
);

/// When this process was started.
pub const PROCESS_START_TIME: ObservableGaugeSpec =
    ObservableGaugeSpec::new("process.start_time", "s", "When this process was started, in seconds since 1970.");

/// How many descriptors this process may have open.
pub const PROCESS_FILE_DESCRIPTOR_LIMIT: ObservableUpDownCounterSpec = ObservableUpDownCounterSpec::new(
    "process.unix.file_descriptor.limit",
    "{file_descriptor}",
    "File descriptors that this process may have open.",
);

/// How much virtual memory this process may have. Without a limit it is 2⁶⁴ − 1, as in Prometheus' own libraries.
pub const PROCESS_MEMORY_VIRTUAL_LIMIT: ObservableUpDownCounterSpec = ObservableUpDownCounterSpec::new(
    "process.memory.virtual_limit",
    "By",
    "Virtual memory that this process may have.",
);

/// CPUs that the container may use; absent without a limit.
pub const CONTAINER_CPU_LIMIT: ObservableUpDownCounterSpec =
    ObservableUpDownCounterSpec::new("container.cpu.limit", "{cpu}", "CPUs that this process's container may use.");

/// Memory that the container may use; absent without a limit.
pub const CONTAINER_MEMORY_LIMIT: ObservableUpDownCounterSpec =
    ObservableUpDownCounterSpec::new("container.memory.limit", "By", "Memory that this process's container may use.");

/// Time since the machine was started.
pub const SYSTEM_UPTIME: ObservableGaugeSpec =
    ObservableGaugeSpec::new("system.uptime", "s", "Time since the machine was started.");

/// CPUs as the operating system sees them.
pub const SYSTEM_CPU_LOGICAL_COUNT: ObservableUpDownCounterSpec =
    ObservableUpDownCounterSpec::new("system.cpu.logical.count", "{cpu}", "Logical CPUs of the machine.");

/// Time of all CPUs together, by mode.
pub const SYSTEM_CPU_TIME: ObservableCounterSpec<CpuMode> =
    ObservableCounterSpec::new("system.cpu.time", "s", "Time that the machine's CPUs spent, by mode.");

/// Share of the time of all CPUs since the reading before, by mode. The modes add up to 1.
pub const SYSTEM_CPU_UTILIZATION: ObservableGaugeSpec<CpuMode> =
    ObservableGaugeSpec::new("system.cpu.utilization", "1", "Share of the time of the machine's CPUs, by mode.");

/// Memory of the machine, by what it is used for.
pub const SYSTEM_MEMORY_USAGE: ObservableUpDownCounterSpec<MemoryState> =
    ObservableUpDownCounterSpec::new("system.memory.usage", "By", "Memory of the machine, by state.");

/// Memory of the machine.
pub const SYSTEM_MEMORY_LIMIT: ObservableUpDownCounterSpec =
    ObservableUpDownCounterSpec::new("system.memory.limit", "By", "Memory of the machine.");

/// Share of the machine's memory, by what it is used for.
pub const SYSTEM_MEMORY_UTILIZATION: ObservableGaugeSpec<MemoryState> =
    ObservableGaugeSpec::new("system.memory.utilization", "1", "Share of the machine's memory, by state.");

/// What a program that starts now could use without swapping.
pub const SYSTEM_MEMORY_AVAILABLE: ObservableUpDownCounterSpec = ObservableUpDownCounterSpec::new(
    "system.memory.linux.available",
    "By",
    "Memory of the machine that a program could still have without swapping.",
);

/// Swap of the machine. Absent where there is none.
pub const SYSTEM_PAGING_USAGE: ObservableUpDownCounterSpec<PagingState> =
    ObservableUpDownCounterSpec::new("system.paging.usage", "By", "Swap of the machine, by state.");

/// Share of the machine's swap. Absent where there is none.
pub const SYSTEM_PAGING_UTILIZATION: ObservableGaugeSpec<PagingState> =
    ObservableGaugeSpec::new("system.paging.utilization", "1", "Share of the machine's swap, by state.");

/// Page faults of all processes, by what they cost.
pub const SYSTEM_PAGING_FAULTS: ObservableCounterSpec<FaultType> =
    ObservableCounterSpec::new("system.paging.faults", "{fault}", "Page faults on the machine, by type.");

/// Pages that were swapped in and out.
pub const SYSTEM_PAGING_OPERATIONS: ObservableCounterSpec<PagingDirection> =
    ObservableCounterSpec::new("system.paging.operations", "{operation}", "Pages swapped, by direction.");

/// Bytes of each disk.
pub const SYSTEM_DISK_IO: ObservableCounterSpec<DiskDirection> =
    ObservableCounterSpec::new("system.disk.io", "By", "Bytes that the disk read and wrote.").open(&[SYSTEM_DEVICE]);

/// Operations of each disk.
pub const SYSTEM_DISK_OPERATIONS: ObservableCounterSpec<DiskDirection> =
    ObservableCounterSpec::new("system.disk.operations", "{operation}", "Reads and writes that the disk completed.")
        .open(&[SYSTEM_DEVICE]);

/// Time in which a disk had something to do. Its rate is the share of the time that the disk was busy.
pub const SYSTEM_DISK_IO_TIME: ObservableCounterSpec =
    ObservableCounterSpec::new("system.disk.io_time", "s", "Time in which the disk had something to do.")
        .open(&[SYSTEM_DEVICE]);

/// Time of all operations of a disk together. Divided by their number it is how long one takes.
pub const SYSTEM_DISK_OPERATION_TIME: ObservableCounterSpec<DiskDirection> = ObservableCounterSpec::new(
    "system.disk.operation_time",
    "s",
    "Time that the disk's reads and writes took, added up.",
)
.open(&[SYSTEM_DEVICE]);

/// Space of each filesystem.
pub const SYSTEM_FILESYSTEM_USAGE: ObservableUpDownCounterSpec<FilesystemState> =
    ObservableUpDownCounterSpec::new("system.filesystem.usage", "By", "Space of the filesystem, by state.").open(&[
        SYSTEM_DEVICE,
        FILESYSTEM_TYPE,
        FILESYSTEM_MODE,
        FILESYSTEM_MOUNTPOINT,
    ]);

/// Share of the space of each filesystem.
pub const SYSTEM_FILESYSTEM_UTILIZATION: ObservableGaugeSpec<FilesystemState> =
    ObservableGaugeSpec::new("system.filesystem.utilization", "1", "Share of the filesystem's space, by state.")
        .open(&[SYSTEM_DEVICE, FILESYSTEM_TYPE, FILESYSTEM_MODE, FILESYSTEM_MOUNTPOINT]);

/// Size of each filesystem.
pub const SYSTEM_FILESYSTEM_LIMIT: ObservableUpDownCounterSpec =
    ObservableUpDownCounterSpec::new("system.filesystem.limit", "By", "Size of the filesystem.").open(&[
        SYSTEM_DEVICE,
        FILESYSTEM_TYPE,
        FILESYSTEM_MODE,
        FILESYSTEM_MOUNTPOINT,
    ]);

/// Bytes through each network interface.
pub const SYSTEM_NETWORK_IO: ObservableCounterSpec<NetworkDirection> =
    ObservableCounterSpec::new("system.network.io", "By", "Bytes that the network interface sent and received.")
        .open(&[NETWORK_INTERFACE_NAME]);

/// Packets through each network interface, which the conventions call a device here and only here.
pub const SYSTEM_NETWORK_PACKET_COUNT: ObservableCounterSpec<NetworkDirection> = ObservableCounterSpec::new(
    "system.network.packet.count",
    "{packet}",
    "Packets that the network interface sent and received.",
)
.open(&[SYSTEM_DEVICE]);

/// Packets that an interface dropped though nothing was wrong with them.
pub const SYSTEM_NETWORK_PACKET_DROPPED: ObservableCounterSpec<NetworkDirection> = ObservableCounterSpec::new(
    "system.network.packet.dropped",
    "{packet}",
    "Packets that the network interface dropped without an error.",
)
.open(&[NETWORK_INTERFACE_NAME]);

/// Errors of each network interface.
pub const SYSTEM_NETWORK_ERRORS: ObservableCounterSpec<NetworkDirection> =
    ObservableCounterSpec::new("system.network.errors", "{error}", "Errors of the network interface.")
        .open(&[NETWORK_INTERFACE_NAME]);

/// What [`ProcessMetrics`](crate::ProcessMetrics) records by the semantic conventions.
pub const PROCESS_METRICS: &[Descriptor] = &[
    PROCESS_CPU_TIME.descriptor(),
    PROCESS_CPU_UTILIZATION.descriptor(),
    PROCESS_MEMORY_USAGE.descriptor(),
    PROCESS_MEMORY_VIRTUAL.descriptor(),
    PROCESS_DISK_IO.descriptor(),
    PROCESS_THREAD_COUNT.descriptor(),
    PROCESS_FILE_DESCRIPTOR_COUNT.descriptor(),
    PROCESS_CONTEXT_SWITCHES.descriptor(),
    PROCESS_PAGING_FAULTS.descriptor(),
    PROCESS_UPTIME.descriptor(),
    CONTAINER_CPU_TIME.descriptor(),
    CONTAINER_CPU_USAGE.descriptor(),
    CONTAINER_MEMORY_USAGE.descriptor(),
    CONTAINER_MEMORY_WORKING_SET.descriptor(),
    CONTAINER_MEMORY_RSS.descriptor(),
    CONTAINER_MEMORY_AVAILABLE.descriptor(),
];

/// What [`ProcessMetrics`](crate::ProcessMetrics) records besides, because the conventions have no name for it and
/// somebody who looks for a limit needs it.
pub const OTHER_PROCESS_METRICS: &[Descriptor] = &[
    PROCESS_START_TIME.descriptor(),
    PROCESS_FILE_DESCRIPTOR_LIMIT.descriptor(),
    PROCESS_MEMORY_VIRTUAL_LIMIT.descriptor(),
    CONTAINER_CPU_LIMIT.descriptor(),
    CONTAINER_MEMORY_LIMIT.descriptor(),
];

/// What [`HostMetrics`](crate::HostMetrics) records, by the semantic conventions.
pub const HOST_METRICS: &[Descriptor] = &[
    SYSTEM_UPTIME.descriptor(),
    SYSTEM_CPU_LOGICAL_COUNT.descriptor(),
    SYSTEM_CPU_TIME.descriptor(),
    SYSTEM_CPU_UTILIZATION.descriptor(),
    SYSTEM_MEMORY_USAGE.descriptor(),
    SYSTEM_MEMORY_LIMIT.descriptor(),
    SYSTEM_MEMORY_UTILIZATION.descriptor(),
    SYSTEM_MEMORY_AVAILABLE.descriptor(),
    SYSTEM_PAGING_USAGE.descriptor(),
    SYSTEM_PAGING_UTILIZATION.descriptor(),
    SYSTEM_PAGING_FAULTS.descriptor(),
    SYSTEM_PAGING_OPERATIONS.descriptor(),
    SYSTEM_DISK_IO.descriptor(),
    SYSTEM_DISK_OPERATIONS.descriptor(),
    SYSTEM_DISK_IO_TIME.descriptor(),
    SYSTEM_DISK_OPERATION_TIME.descriptor(),
    SYSTEM_FILESYSTEM_USAGE.descriptor(),
    SYSTEM_FILESYSTEM_UTILIZATION.descriptor(),
    SYSTEM_FILESYSTEM_LIMIT.descriptor(),
    SYSTEM_NETWORK_IO.descriptor(),
    SYSTEM_NETWORK_PACKET_COUNT.descriptor(),
    SYSTEM_NETWORK_PACKET_DROPPED.descriptor(),
    SYSTEM_NETWORK_ERRORS.descriptor(),
];

/// The names that Prometheus' own libraries give to what [`ProcessMetrics`](crate::ProcessMetrics) records, as views:
/// `process_cpu_seconds_total`, `process_resident_memory_bytes`, `process_virtual_memory_bytes`,
/// `process_virtual_memory_max_bytes`, `process_open_fds`, `process_max_fds`, `process_threads` and
/// `process_start_time_seconds`, all without attributes.
///
/// They stand in place of the conventions' names: see [`ProcessMetrics`](crate::ProcessMetrics) for how they are used.
pub const CLASSIC_PROCESS_VIEWS: &[ViewSpec] = &[
    ViewSpec::new(PROCESS_CPU_TIME.descriptor().name, "process.cpu").in_scope(SCOPE).with_attributes(&[]),
    ViewSpec::new(PROCESS_MEMORY_USAGE.descriptor().name, "process.resident_memory").in_scope(SCOPE),
    ViewSpec::new(PROCESS_MEMORY_VIRTUAL.descriptor().name, "process.virtual_memory").in_scope(SCOPE),
    ViewSpec::new(PROCESS_MEMORY_VIRTUAL_LIMIT.descriptor().name, "process.virtual_memory_max").in_scope(SCOPE),
    ViewSpec::new(PROCESS_FILE_DESCRIPTOR_COUNT.descriptor().name, "process.open_fds").in_scope(SCOPE),
    ViewSpec::new(PROCESS_FILE_DESCRIPTOR_LIMIT.descriptor().name, "process.max_fds").in_scope(SCOPE),
    ViewSpec::new(PROCESS_THREAD_COUNT.descriptor().name, "process.threads").in_scope(SCOPE),
    ViewSpec::new(PROCESS_START_TIME.descriptor().name, PROCESS_START_TIME.descriptor().name).in_scope(SCOPE),
];
