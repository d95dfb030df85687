//! One reading of the machine, as the semantic conventions want it. What cannot be read is absent, never zero.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use barograph::opentelemetry::KeyValue;
use sysinfo::{Disk, DiskRefreshKind, Disks, MemoryRefreshKind, System};

use crate::process::{TICKS, field, kibibytes};
use crate::semconv::{
    CpuMode, DiskDirection, FILESYSTEM_MODE, FILESYSTEM_MOUNTPOINT, FILESYSTEM_TYPE, FaultType, FilesystemState,
    MemoryState, NETWORK_INTERFACE_NAME, NetworkDirection, PagingDirection, PagingState, SYSTEM_DEVICE,
};

/// What was read at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct HostReading {
    pub(crate) uptime: Option<f64>,
    pub(crate) cpus: Option<f64>,
    pub(crate) cpu_time: Option<CpuTimes>,
    pub(crate) cpu_utilization: Option<CpuTimes>,
    pub(crate) memory: Option<[(MemoryState, f64); 4]>,
    pub(crate) memory_limit: Option<f64>,
    pub(crate) memory_available: Option<f64>,
    pub(crate) swap: Option<[(PagingState, f64); 2]>,
    pub(crate) faults: Option<[(FaultType, f64); 2]>,
    pub(crate) swapped: Option<[(PagingDirection, f64); 2]>,
    pub(crate) disks: Vec<DiskReading>,
    pub(crate) filesystems: Vec<FilesystemReading>,
    pub(crate) interfaces: Vec<InterfaceReading>,
}

/// A value for each mode.
type CpuTimes = [(CpuMode, f64); 7];

/// What a disk has done so far: bytes, operations, seconds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DiskReading {
    pub(crate) device: [KeyValue; 1],
    pub(crate) bytes: [(DiskDirection, f64); 2],
    pub(crate) operations: [(DiskDirection, f64); 2],
    pub(crate) operation_time: [(DiskDirection, f64); 2],
    pub(crate) busy: f64,
}

/// The space of a filesystem.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FilesystemReading {
    pub(crate) attributes: [KeyValue; 4],
    pub(crate) space: [(FilesystemState, f64); 2],
    pub(crate) size: f64,
}

/// What went through a network interface so far.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct InterfaceReading {
    pub(crate) name: [KeyValue; 1],
    /// The same by the key that packets have.
    pub(crate) device: [KeyValue; 1],
    pub(crate) bytes: [(NetworkDirection, f64); 2],
    pub(crate) packets: [(NetworkDirection, f64); 2],
    pub(crate) errors: [(NetworkDirection, f64); 2],
    pub(crate) dropped: [(NetworkDirection, f64); 2],
}

/// Reads, and keeps what the next reading is compared with.
pub(crate) struct HostReader {
    root: PathBuf,
    cpu_before: Option<CpuTimes>,
    minor_faults_before: f64,
    /// Of each disk: the times that reads and writes took, and in which it was busy.
    disk_times: BTreeMap<String, [Milliseconds; 3]>,
    mounted: Option<Disks>,
    elsewhere: Option<System>,
}

impl HostReader {
    /// A reader of the machine whose `proc` and `sys` are below `root`. The sizes of filesystems are those of what is
    /// mounted here.
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            cpu_before: None,
            minor_faults_before: 0.0,
            disk_times: BTreeMap::new(),
            mounted: Disks::new().ok(),
            elsewhere: System::new().ok(),
        }
    }

    pub(crate) fn read(&mut self) -> HostReading {
        let mut reading = self.read_files();
        reading.filesystems = self.read_filesystems();
        if cfg!(not(target_os = "linux")) {
            self.read_elsewhere(&mut reading);
        }
        reading
    }

    fn read_files(&mut self) -> HostReading {
        let mut reading = HostReading {
            uptime: self.text("proc/uptime").and_then(|text| text.split(' ').next()?.parse().ok()),
            interfaces: self.text("proc/net/dev").map(|table| interfaces(&table)).unwrap_or_default(),
            ..HostReading::default()
        };
        if let Some(stats) = self.text("proc/diskstats") {
            reading.disks = disks(&stats, &self.whole_disks(), &mut self.disk_times);
        }
        if let Some(stat) = self.text("proc/stat") {
            self.read_cpus(&stat, &mut reading);
        }
        if let Some(memory) = self.text("proc/meminfo") {
            read_memory(&memory, &mut reading);
        }
        if let Some(counters) = self.text("proc/vmstat") {
            if let Some((all, major)) = field(&counters, "pgfault ").zip(field(&counters, "pgmajfault ")) {
                // The kernel does not raise the two at one moment; a counter may not go down.
                self.minor_faults_before = (all - major).max(self.minor_faults_before);
                reading.faults = Some([(FaultType::Major, major), (FaultType::Minor, self.minor_faults_before)]);
            }
            let swapped = field(&counters, "pswpin ").zip(field(&counters, "pswpout "));
            reading.swapped =
                swapped.map(|(pages_in, out)| [(PagingDirection::In, pages_in), (PagingDirection::Out, out)]);
        }
        reading
    }

    fn read_cpus(&mut self, stat: &str, reading: &mut HostReading) {
        let is_cpu =
            |line: &&str| line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        reading.cpus = Some(stat.lines().filter(is_cpu).count() as f64).filter(|&cpus| cpus > 0.0);
        let Some(mut times) = cpu_times(stat) else { return };
        if let Some(before) = self.cpu_before {
            // The kernel takes back what it said of waiting for disks; a counter may not.
            for ((_, time), (_, before)) in times.iter_mut().zip(before) {
                *time = time.max(before);
            }
            let mut spent = times;
            for ((_, spent), (_, before)) in spent.iter_mut().zip(before) {
                *spent -= before;
            }
            let all: f64 = spent.iter().map(|(_, spent)| spent).sum();
            reading.cpu_utilization = (all > 0.0).then(|| spent.map(|(mode, spent)| (mode, spent / all)));
        }
        self.cpu_before = Some(times);
        reading.cpu_time = Some(times);
    }

    /// The disks that are no parts of others, and none that are made of files or memory.
    fn whole_disks(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(self.root.join("sys/block")).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().replace('!', "/"));
        names.filter(|name| !["loop", "ram", "zram"].iter().any(|prefix| name.starts_with(prefix))).collect()
    }

    fn read_filesystems(&mut self) -> Vec<FilesystemReading> {
        // Without sizes at first: asking for the size of what is served over a network may hang.
        let Some(mounted) = &mut self.mounted else { return Vec::new() };
        mounted.refresh_specifics(true, DiskRefreshKind::nothing());
        let mut devices = BTreeSet::new();
        let mut filesystems = Vec::new();
        for disk in mounted.iter_mut() {
            // A container's root is on no device, and files of its host are mounted in it one by one.
            let is_local = disk.name().to_string_lossy().starts_with("/dev/") || disk.mount_point() == Path::new("/");
            if is_local && disk.mount_point().is_dir() && devices.insert(disk.name().to_owned()) {
                disk.refresh_specifics(DiskRefreshKind::nothing().with_storage());
                filesystems.extend(filesystem(disk));
            }
        }
        filesystems
    }

    /// What other systems than Linux tell.
    fn read_elsewhere(&mut self, reading: &mut HostReading) {
        let Some(system) = &mut self.elsewhere else { return };
        system.refresh_memory_specifics(MemoryRefreshKind::everything());
        reading.memory_limit = Some(system.total_memory() as f64).filter(|&bytes| bytes > 0.0);
        let swap = (system.total_swap() > 0).then(|| (system.used_swap() as f64, system.free_swap() as f64));
        reading.swap = swap.map(|(used, free)| [(PagingState::Used, used), (PagingState::Free, free)]);
        reading.uptime = System::uptime().ok().map(|seconds| seconds as f64);
        let cpus = std::thread::available_parallelism();
        reading.cpus = cpus.ok().map(|cpus| cpus.get() as f64);
    }

    fn text(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.root.join(file)).ok()
    }
}

/// The line of all CPUs in `/proc/stat`, in seconds.
fn cpu_times(stat: &str) -> Option<CpuTimes> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<f64> = line.split_ascii_whitespace().map_while(|number| number.parse().ok()).collect();
    // Kernels of before 2.6 say less. What guests use is a part of user and nice.
    let &[user, nice, system, idle, iowait, irq, softirq, steal, ..] = ticks.as_slice() else { return None };
    let times = [
        (CpuMode::User, user),
        (CpuMode::System, system),
        (CpuMode::Nice, nice),
        (CpuMode::Idle, idle),
        (CpuMode::Iowait, iowait),
        (CpuMode::Interrupt, irq + softirq),
        (CpuMode::Steal, steal),
    ];
    Some(times.map(|(mode, ticks)| (mode, ticks / TICKS)))
}

fn read_memory(meminfo: &str, reading: &mut HostReading) {
    let bytes = |name: &str| kibibytes(meminfo, name);
    reading.memory_limit = bytes("MemTotal:");
    reading.memory_available = bytes("MemAvailable:");
    reading.memory = (|| {
        // What is shared is among what is cached, cannot be had back, and so is used.
        let cached = bytes("Cached:")? + bytes("SReclaimable:").unwrap_or(0.0);
        Some([
            (MemoryState::Used, (bytes("MemTotal:")? - bytes("MemAvailable:")?).max(0.0)),
            (MemoryState::Free, bytes("MemFree:")?),
            (MemoryState::Buffers, bytes("Buffers:")?),
            (MemoryState::Cached, (cached - bytes("Shmem:").unwrap_or(0.0)).max(0.0)),
        ])
    })();
    let swap = bytes("SwapTotal:").zip(bytes("SwapFree:")).filter(|&(total, _)| total > 0.0);
    reading.swap = swap.map(|(total, free)| [(PagingState::Used, (total - free).max(0.0)), (PagingState::Free, free)]);
}

/// `/proc/diskstats`, of these disks. One that was never used is none that anybody has.
fn disks(stats: &str, wanted: &BTreeSet<String>, times: &mut BTreeMap<String, [Milliseconds; 3]>) -> Vec<DiskReading> {
    // Whatever the disk, the kernel counts sectors of this size.
    const SECTOR: f64 = 512.0;
    let disk = |line: &str| {
        let mut fields = line.split_ascii_whitespace().skip(2);
        let name = fields.next().filter(|&name| wanted.contains(name))?;
        let numbers: Vec<f64> = fields.map_while(|number| number.parse().ok()).collect();
        let &[reads, _, sectors_read, read_ms, writes, _, sectors_written, write_ms, _, busy_ms, ..] =
            numbers.as_slice()
        else {
            return None;
        };
        let both = |read, write| [(DiskDirection::Read, read), (DiskDirection::Write, write)];
        let [read_time, write_time, busy_time] = times.entry(name.to_owned()).or_default();
        (reads + writes > 0.0).then(|| DiskReading {
            device: [KeyValue::new(SYSTEM_DEVICE, name.to_owned())],
            bytes: both(sectors_read * SECTOR, sectors_written * SECTOR),
            operations: both(reads, writes),
            operation_time: both(read_time.seconds(read_ms), write_time.seconds(write_ms)),
            busy: busy_time.seconds(busy_ms),
        })
    };
    stats.lines().filter_map(disk).collect()
}

/// A time of which the kernel tells the lower 32 bits of its milliseconds, which begin anew after seven weeks.
#[derive(Clone, Copy, Debug, Default)]
struct Milliseconds {
    last: f64,
    lost: f64,
}

impl Milliseconds {
    fn seconds(&mut self, told: f64) -> f64 {
        const ALL: f64 = 4_294_967_296.0;
        // Less by more than half: a disk that has come anew has less than before as well.
        if told + ALL / 2.0 < self.last {
            self.lost += ALL;
        }
        self.last = told;
        (self.lost + told) / 1000.0
    }
}

/// `/proc/net/dev`. The interface of the machine with itself is left out, and the host's ends of its containers', which
/// come and go; so is one that was never used.
fn interfaces(table: &str) -> Vec<InterfaceReading> {
    let interface = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        let name = name.trim();
        let numbers: Vec<f64> = numbers.split_ascii_whitespace().map_while(|number| number.parse().ok()).collect();
        let &[
            bytes_in,
            packets_in,
            errors_in,
            dropped_in,
            _,
            _,
            _,
            _,
            bytes_out,
            packets_out,
            errors_out,
            dropped_out,
            ..,
        ] = numbers.as_slice()
        else {
            return None;
        };
        let is_wanted = name != "lo" && !name.starts_with("veth") && packets_in + packets_out > 0.0;
        let both = |transmit, receive| [(NetworkDirection::Transmit, transmit), (NetworkDirection::Receive, receive)];
        is_wanted.then(|| InterfaceReading {
            name: [KeyValue::new(NETWORK_INTERFACE_NAME, name.to_owned())],
            device: [KeyValue::new(SYSTEM_DEVICE, name.to_owned())],
            bytes: both(bytes_out, bytes_in),
            packets: both(packets_out, packets_in),
            errors: both(errors_out, errors_in),
            dropped: both(dropped_out, dropped_in),
        })
    };
    table.lines().filter_map(interface).collect()
}

fn filesystem(disk: &Disk) -> Option<FilesystemReading> {
    let size = disk.total_space();
    let free = disk.available_space();
    let attributes = [
        KeyValue::new(SYSTEM_DEVICE, disk.name().to_string_lossy().into_owned()),
        KeyValue::new(FILESYSTEM_TYPE, disk.file_system().to_string_lossy().into_owned()),
        KeyValue::new(FILESYSTEM_MODE, if disk.is_read_only() { "ro" } else { "rw" }),
        KeyValue::new(FILESYSTEM_MOUNTPOINT, disk.mount_point().to_string_lossy().into_owned()),
    ];
    (size > 0).then(|| FilesystemReading {
        attributes,
        space: [(FilesystemState::Used, size.saturating_sub(free) as f64), (FilesystemState::Free, free as f64)],
        size: size as f64,
    })
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::fixture::{machine, write};

    #[test]
    fn everything_is_read_from_proc() {
        let root = machine(&[
            ("proc/uptime", "5600.50 100.00\n"),
            (
                "proc/stat",
                "cpu  100 20 30 400 50 6 7 8 90 9\ncpu0 50 10 15 200 25 3 3 4 0 0\ncpu1 50 10 15 200 25 3 4 4 0 0\nintr 1\n",
            ),
            (
                "proc/meminfo",
                "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 600 kB\nBuffers: 50 kB\nCached: 400 kB\nSwapCached: 1 kB\n\
                 SwapTotal: 200 kB\nSwapFree: 150 kB\nSReclaimable: 60 kB\nShmem: 10 kB\n",
            ),
            ("proc/vmstat", "pgfault 1000\npgmajfault 40\npswpin 3\npswpout 5\n"),
            (
                "proc/diskstats",
                " 8 0 sda 10 1 20 3000 30 2 40 5000 0 6000 8000 0 0 0 0 0 0\n 8 1 sda1 9 0 9 9 9 9 9 9 0 9 9\n 7 0 loop0 1 1 1 1 1 1 1 1 1 1 1\n 8 16 sdb 0 0 0 0 0 0 0 0 0 0 0\n",
            ),
            ("sys/block/sda/size", ""),
            ("sys/block/sdb/size", ""),
            ("sys/block/loop0/size", ""),
            (
                "proc/net/dev",
                "Inter-|   Receive  |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes packets\n\
                 lo: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n eth0:1000 10 1 2 0 0 0 0 2000 20 3 4 0 0 0 0\nveth12: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n\
                 eth1: 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n",
            ),
        ]);
        let reading = HostReader::new(root.path()).read_files();
        let directions = |read, write| [(DiskDirection::Read, read), (DiskDirection::Write, write)];
        let ways = |transmit, receive| [(NetworkDirection::Transmit, transmit), (NetworkDirection::Receive, receive)];
        let expected = HostReading {
            uptime: Some(5600.5),
            cpus: Some(2.0),
            cpu_time: Some([
                (CpuMode::User, 1.0),
                (CpuMode::System, 0.3),
                (CpuMode::Nice, 0.2),
                (CpuMode::Idle, 4.0),
                (CpuMode::Iowait, 0.5),
                (CpuMode::Interrupt, 0.13),
                (CpuMode::Steal, 0.08),
            ]),
            cpu_utilization: None,
            memory: Some([
                (MemoryState::Used, 409_600.0),
                (MemoryState::Free, 102_400.0),
                (MemoryState::Buffers, 51_200.0),
                (MemoryState::Cached, 460_800.0),
            ]),
            memory_limit: Some(1_024_000.0),
            memory_available: Some(614_400.0),
            swap: Some([(PagingState::Used, 51_200.0), (PagingState::Free, 153_600.0)]),
            faults: Some([(FaultType::Major, 40.0), (FaultType::Minor, 960.0)]),
            swapped: Some([(PagingDirection::In, 3.0), (PagingDirection::Out, 5.0)]),
            // Neither parts of it, nor what is a file, nor what was never used.
            disks: vec![DiskReading {
                device: [KeyValue::new(SYSTEM_DEVICE, "sda")],
                bytes: directions(10_240.0, 20_480.0),
                operations: directions(10.0, 30.0),
                operation_time: directions(3.0, 5.0),
                busy: 6.0,
            }],
            filesystems: vec![],
            interfaces: vec![InterfaceReading {
                name: [KeyValue::new(NETWORK_INTERFACE_NAME, "eth0")],
                device: [KeyValue::new(SYSTEM_DEVICE, "eth0")],
                bytes: ways(2000.0, 1000.0),
                packets: ways(20.0, 10.0),
                errors: ways(3.0, 1.0),
                dropped: ways(4.0, 2.0),
            }],
        };
        assert_eq!(reading, expected);
    }

    #[test]
    fn what_cannot_be_read_is_absent() {
        assert_eq!(HostReader::new(machine(&[]).path()).read_files(), HostReading::default());
        let nonsense = machine(&[
            ("proc/uptime", "\n"),
            ("proc/stat", "cpu  1 2 3\nctxt many\n"),
            ("proc/meminfo", "MemFree: 1 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n"),
            ("proc/vmstat", "pgfault 1\n"),
            ("proc/diskstats", "8 0 sda 1 2\n8\n"),
            ("sys/block/sda/size", ""),
            ("proc/net/dev", "eth0: 1 2 3\nnothing\n"),
        ]);
        assert_eq!(HostReader::new(nonsense.path()).read_files(), HostReading::default());
    }

    #[test]
    fn what_the_kernel_counts_in_32_bits_goes_on() {
        let stats = |ms: u64| format!("8 0 sda 1 0 1 {ms} 1 0 1 5 0 {ms} 0\n");
        let root = machine(&[("sys/block/sda/size", ""), ("proc/diskstats", &stats(4_294_967_000))]);
        let mut reader = HostReader::new(root.path());
        let mut busy = || reader.read_files().disks[0].busy;
        assert_eq!(busy(), 4_294_967.0);
        write(&root, "proc/diskstats", &stats(704));
        assert_eq!(busy(), 4_294_968.0);
        // The disk was taken out, and another has its name.
        write(&root, "proc/diskstats", &stats(4));
        assert_eq!(busy(), 4_294_967.3);
    }

    #[test]
    fn minor_faults_do_not_go_down_while_a_major_one_is_under_way() {
        let root = machine(&[("proc/vmstat", "pgfault 1000\npgmajfault 40\n")]);
        let mut reader = HostReader::new(root.path());
        let mut minor = || reader.read_files().faults.unwrap()[1];
        assert_eq!(minor(), (FaultType::Minor, 960.0));
        write(&root, "proc/vmstat", "pgfault 1000\npgmajfault 41\n");
        assert_eq!(minor(), (FaultType::Minor, 960.0));
        write(&root, "proc/vmstat", "pgfault 1002\npgmajfault 41\n");
        assert_eq!(minor(), (FaultType::Minor, 961.0));
    }

    #[test]
    fn the_modes_of_the_cpus_add_up_to_one() {
        let root = machine(&[("proc/stat", "cpu  100 0 0 100 50 0 0 0 0 0\n")]);
        let mut reader = HostReader::new(root.path());
        assert_eq!(reader.read_files().cpu_utilization, None);
        // The kernel has less of `iowait` now, which is none.
        write(&root, "proc/stat", "cpu  125 0 0 170 40 2 3 0 0 0\n");
        let reading = reader.read_files();
        let shares = reading.cpu_utilization.unwrap().map(|(_, share)| (share * 100.0).round());
        assert_eq!(shares, [25.0, 0.0, 0.0, 70.0, 0.0, 5.0, 0.0]);
        assert_eq!(reading.cpu_time.unwrap()[4], (CpuMode::Iowait, 0.5), "a counter does not go down");
        assert_eq!(reader.read_files().cpu_utilization, None, "no time has passed");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn each_filesystem_of_this_machine_is_there_once_and_full_of_what_it_holds() {
        let filesystems = HostReader::new(Path::new("/")).read().filesystems;
        let mut devices = BTreeSet::new();
        for filesystem in &filesystems {
            let [(_, used), (_, free)] = filesystem.space;
            assert_eq!(used + free, filesystem.size, "{filesystem:?}");
            assert!(devices.insert(filesystem.attributes[0].value.to_string()), "{filesystem:?}");
        }
        let root = |filesystem: &FilesystemReading| filesystem.attributes[3].value.as_str() == "/";
        assert!(filesystems.iter().any(root), "{filesystems:?}");
    }

    #[test]
    fn other_systems_tell_some_of_it() {
        let root = machine(&[]);
        let mut reading = HostReading::default();
        HostReader::new(root.path()).read_elsewhere(&mut reading);
        assert!(reading.memory_limit > Some(1e6), "{reading:?}");
        assert!(reading.cpus >= Some(1.0), "{reading:?}");
        assert_eq!(reading.cpu_time, None);
    }
}
