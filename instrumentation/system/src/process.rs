//! One reading of this process and its container, as the semantic conventions want it. What cannot be read is absent,
//! never zero.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;
use std::{fs, io};

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use crate::container::Container;
use crate::semconv::{ContextSwitchType, DiskDirection, FaultType, ProcessCpuMode};

/// What was read at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ProcessReading {
    pub(crate) cpu_time: Option<[(ProcessCpuMode, f64); 2]>,
    pub(crate) cpu_utilization: Option<[(ProcessCpuMode, f64); 2]>,
    pub(crate) resident_bytes: Option<f64>,
    pub(crate) virtual_bytes: Option<f64>,
    pub(crate) virtual_limit: Option<f64>,
    pub(crate) disk_bytes: Option<[(DiskDirection, f64); 2]>,
    pub(crate) threads: Option<f64>,
    pub(crate) open_files: Option<f64>,
    pub(crate) open_files_limit: Option<f64>,
    pub(crate) context_switches: Option<[(ContextSwitchType, f64); 2]>,
    pub(crate) faults: Option<[(FaultType, f64); 2]>,
    pub(crate) uptime: Option<f64>,
    pub(crate) start_time: Option<f64>,

    pub(crate) container_cpu_time: Option<[(ProcessCpuMode, f64); 2]>,
    pub(crate) container_cpu_usage: Option<[(ProcessCpuMode, f64); 2]>,
    pub(crate) container_cpu_limit: Option<f64>,
    pub(crate) container_usage: Option<f64>,
    pub(crate) container_working_set: Option<f64>,
    pub(crate) container_rss: Option<f64>,
    pub(crate) container_available: Option<f64>,
    pub(crate) container_limit: Option<f64>,
}

/// CPU time by mode, and when it was read.
type CpuTimes = ([(ProcessCpuMode, f64); 2], Instant);

/// Reads, and keeps what the next reading is compared with.
pub(crate) struct ProcessReader {
    proc: PathBuf,
    container: Container,
    start_time: Option<f64>,
    cpu_before: Option<CpuTimes>,
    container_cpu_before: Option<CpuTimes>,
    context_switches: ContextSwitches,
    elsewhere: Option<(System, Pid)>,
}

/// The kernel tells times of processes in hundredths of a second, whatever its own clock does.
pub(crate) const TICKS: f64 = 100.0;

impl ProcessReader {
    /// A reader for the process it is built in. Everything is looked up in `proc` and `sys` below `root`.
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            proc: root.join("proc"),
            container: Container::find(root),
            start_time: None,
            cpu_before: None,
            container_cpu_before: None,
            context_switches: ContextSwitches::default(),
            elsewhere: System::new().ok().zip(sysinfo::get_current_pid().ok()),
        }
    }

    pub(crate) fn read(&mut self) -> ProcessReading {
        let mut reading = self.read_at(Instant::now());
        if cfg!(not(target_os = "linux")) {
            self.read_elsewhere(&mut reading);
        }
        reading
    }

    fn read_at(&mut self, now: Instant) -> ProcessReading {
        let mut reading = ProcessReading::default();
        self.read_stat(&mut reading);
        self.read_memory_and_files(&mut reading);
        self.read_container(&mut reading);
        reading.context_switches = self.context_switches.read(&self.proc.join("self/task"));

        let cpus = usable_cpus(reading.container_cpu_limit, available_cpus());
        let used = used_since(&mut self.cpu_before, reading.cpu_time, now);
        reading.cpu_utilization = used.map(|used| used.map(|(mode, used)| (mode, used / cpus)));
        reading.container_cpu_usage = used_since(&mut self.container_cpu_before, reading.container_cpu_time, now);
        reading
    }

    fn read_stat(&mut self, reading: &mut ProcessReading) {
        let Some(stat) = self.text("self/stat").as_deref().and_then(Stat::parse) else { return };
        reading.cpu_time = Some([(ProcessCpuMode::User, stat.user), (ProcessCpuMode::System, stat.system)]);
        reading.faults = Some([(FaultType::Major, stat.major_faults), (FaultType::Minor, stat.minor_faults)]);
        let uptime = self.text("uptime").and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
        // In some containers the two are told by different clocks.
        reading.uptime = uptime.map(|uptime| uptime - stat.started).filter(|&seconds| seconds >= 0.0);
        // Once, because the time that the machine was started is told anew whenever its clock is set.
        if self.start_time.is_none() {
            let booted = self.text("stat").and_then(|text| field(&text, "btime "));
            self.start_time = booted.map(|booted: f64| booted + stat.started);
        }
        reading.start_time = self.start_time;
    }

    fn read_memory_and_files(&self, reading: &mut ProcessReading) {
        if let Some(status) = self.text("self/status") {
            reading.resident_bytes = kibibytes(&status, "VmRSS:");
            reading.virtual_bytes = kibibytes(&status, "VmSize:");
            reading.threads = field(&status, "Threads:");
        }
        if let Some(io) = self.text("self/io") {
            let read = field(&io, "read_bytes:").zip(field(&io, "write_bytes:"));
            reading.disk_bytes = read.map(|(read, write)| [(DiskDirection::Read, read), (DiskDirection::Write, write)]);
        }
        if let Some(limits) = self.text("self/limits") {
            reading.open_files_limit = limit(&limits, "Max open files");
            reading.virtual_limit = limit(&limits, "Max address space");
        }
        // The folder itself is one of the files while it is read.
        reading.open_files =
            fs::read_dir(self.proc.join("self/fd")).ok().map(|files| files.count().saturating_sub(1) as f64);
    }

    fn read_container(&self, reading: &mut ProcessReading) {
        let by_mode = |[user, system]: [f64; 2]| [(ProcessCpuMode::User, user), (ProcessCpuMode::System, system)];
        reading.container_cpu_time = self.container.cpu_time_by_mode().map(by_mode);
        reading.container_cpu_limit = self.container.cpu().map(|cpu| cpu.cores);
        if let Some(own) = self.container.own_memory() {
            reading.container_usage = Some(own.usage as f64);
            reading.container_working_set = own.working_set.map(|bytes| bytes as f64);
            reading.container_rss = own.rss.map(|bytes| bytes as f64);
        }
        if let Some(limited) = self.container.memory().filter(|memory| memory.limit < UNLIMITED) {
            reading.container_limit = Some(limited.limit as f64);
            reading.container_available = Some(limited.limit.saturating_sub(limited.used) as f64);
        }
    }

    /// What other systems than Linux tell.
    fn read_elsewhere(&mut self, reading: &mut ProcessReading) {
        let Some((system, pid)) = &mut self.elsewhere else { return };
        let wanted = ProcessRefreshKind::nothing().with_memory().with_disk_usage();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[*pid]), false, wanted);
        let Some(process) = system.process(*pid) else { return };
        // No process has no memory.
        reading.resident_bytes = Some(process.memory() as f64).filter(|&bytes| bytes > 0.0);
        reading.virtual_bytes = Some(process.virtual_memory() as f64).filter(|&bytes| bytes > 0.0);
        let disk = process.disk_usage();
        reading.disk_bytes = Some([
            (DiskDirection::Read, disk.total_read_bytes as f64),
            (DiskDirection::Write, disk.total_written_bytes as f64),
        ]);
        reading.open_files = process.open_files().map(|files| files as f64);
        reading.open_files_limit = process.open_files_limit().map(|files| files as f64);
        reading.start_time = Some(process.start_time() as f64).filter(|&started| started > 0.0);
        reading.uptime = Some(process.run_time() as f64);
    }

    fn text(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.proc.join(file)).ok()
    }
}

/// Control groups, v1, say about this where there is no limit.
const UNLIMITED: u64 = 1 << 62;

/// How many CPUs this process may run on.
fn available_cpus() -> f64 {
    thread::available_parallelism().map_or(1.0, |cpus| cpus.get() as f64)
}

/// How many CPUs this process can have the time of. What the standard library says is `available` has the limit in it
/// already, rounded down.
fn usable_cpus(limit: Option<f64>, available: f64) -> f64 {
    limit.filter(|&limit| limit < available + 1.0).unwrap_or(available)
}

/// CPUs that were used since the reading before, and keeps this one for the next.
fn used_since(
    before: &mut Option<CpuTimes>,
    times: Option<[(ProcessCpuMode, f64); 2]>,
    now: Instant,
) -> Option<[(ProcessCpuMode, f64); 2]> {
    let times = times?;
    let (earlier, at) = before.replace((times, now))?;
    let elapsed = now.saturating_duration_since(at).as_secs_f64();
    let mut used = times;
    for ((_, used), (_, earlier)) in used.iter_mut().zip(earlier) {
        *used = (*used - earlier).max(0.0) / elapsed;
    }
    (elapsed > 0.0).then_some(used)
}

/// What is needed of `/proc/self/stat`, in seconds.
#[derive(Debug, PartialEq)]
struct Stat {
    user: f64,
    system: f64,
    minor_faults: f64,
    major_faults: f64,
    /// Since the machine was started.
    started: f64,
}

impl Stat {
    fn parse(stat: &str) -> Option<Self> {
        // The second field is the name of the program in parentheses, which may hold spaces and parentheses.
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split_ascii_whitespace().collect();
        // From the third on, by their numbers in proc(5).
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        Some(Self {
            minor_faults: field(10)?,
            major_faults: field(12)?,
            user: field(14)? / TICKS,
            system: field(15)? / TICKS,
            started: field(22)? / TICKS,
        })
    }
}

/// The number after `name` in a file of lines like `name number`, with or without something behind it.
pub(crate) fn field(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.split_ascii_whitespace().next()?.parse().ok())
}

/// The same in bytes, where the line ends with `kB`.
pub(crate) fn kibibytes(text: &str, name: &str) -> Option<f64> {
    field(text, name).map(|kibibytes| kibibytes * 1024.0)
}

/// The soft limit in a line of `/proc/self/limits`.
fn limit(limits: &str, name: &str) -> Option<f64> {
    let soft = limits.lines().find_map(|line| line.strip_prefix(name)?.split_ascii_whitespace().next())?;
    if soft == "unlimited" { Some(u64::MAX as f64) } else { soft.parse().ok() }
}

/// The kernel counts context switches for each thread and forgets them with it, so they are added up here.
#[derive(Debug, Default)]
struct ContextSwitches {
    of_threads: BTreeMap<String, [f64; 2]>,
    of_ended_threads: [f64; 2],
}

impl ContextSwitches {
    fn read(&mut self, tasks: &Path) -> Option<[(ContextSwitchType, f64); 2]> {
        let mut now = BTreeMap::new();
        for task in fs::read_dir(tasks).ok()?.flatten() {
            let status = match fs::read_to_string(task.path().join("status")) {
                Ok(status) => status,
                Err(error) if has_ended(&error) => continue,
                // No descriptor is left, perhaps: nothing is known of any thread, and they are compared next time.
                Err(_) => return None,
            };
            let voluntary = field(&status, "voluntary_ctxt_switches:");
            if let Some((voluntary, involuntary)) = voluntary.zip(field(&status, "nonvoluntary_ctxt_switches:")) {
                now.insert(task.file_name().to_string_lossy().into_owned(), [voluntary, involuntary]);
            }
        }
        for (id, before) in &self.of_threads {
            // Fewer than before are those of another thread, which has the number of one that ended.
            let is_same = now.get(id).is_some_and(|now| now[0] >= before[0] && now[1] >= before[1]);
            if !is_same {
                self.of_ended_threads[0] += before[0];
                self.of_ended_threads[1] += before[1];
            }
        }
        self.of_threads = now;
        let total = |index: usize| {
            self.of_ended_threads[index] + self.of_threads.values().map(|switches| switches[index]).sum::<f64>()
        };
        (!self.of_threads.is_empty())
            .then(|| [(ContextSwitchType::Voluntary, total(0)), (ContextSwitchType::Involuntary, total(1))])
    }
}

/// Whether the thread whose file was asked for has ended meanwhile.
fn has_ended(error: &io::Error) -> bool {
    // ESRCH: it has since the file was opened.
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(3)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fixture::{machine, write};

    const STAT: &str = "4242 (a) (b c) R 1 4242 4242 0 -1 4194304 1500 0 7 0 250 125 9 9 20 0 3 0 500000 3133440 383 18446744073709551615 1 1 0";
    const STATUS: &str = "Name:\tb\nVmPeak:\t    9 kB\nVmSize:\t    2048 kB\nVmRSS:\t    1024 kB\nThreads:\t3\n";

    #[test]
    fn everything_is_read_from_proc() {
        let root = machine(&[
            ("proc/self/stat", STAT),
            ("proc/self/status", STATUS),
            ("proc/self/io", "rchar: 1\nread_bytes: 4096\nwrite_bytes: 8192\ncancelled_write_bytes: 5\n"),
            (
                "proc/self/limits",
                "Limit                     Soft Limit           Hard Limit           Units     \n\
                 Max open files            1024                 20000                files     \n\
                 Max address space         unlimited            unlimited            bytes     \n",
            ),
            ("proc/self/fd/0", ""),
            ("proc/self/fd/1", ""),
            ("proc/self/fd/2", ""),
            ("proc/stat", "cpu  1 2 3\nbtime 1700000000\n"),
            ("proc/uptime", "5600.50 100.00\n"),
        ]);
        let reading = ProcessReader::new(root.path()).read_at(Instant::now());
        let expected = ProcessReading {
            cpu_time: Some([(ProcessCpuMode::User, 2.5), (ProcessCpuMode::System, 1.25)]),
            resident_bytes: Some(1_048_576.0),
            virtual_bytes: Some(2_097_152.0),
            virtual_limit: Some(18_446_744_073_709_551_615.0),
            disk_bytes: Some([(DiskDirection::Read, 4096.0), (DiskDirection::Write, 8192.0)]),
            threads: Some(3.0),
            // The folder that is being read is no longer open.
            open_files: Some(2.0),
            open_files_limit: Some(1024.0),
            faults: Some([(FaultType::Major, 7.0), (FaultType::Minor, 1500.0)]),
            uptime: Some(600.5),
            start_time: Some(1_700_005_000.0),
            ..ProcessReading::default()
        };
        assert_eq!(reading, expected);
    }

    #[test]
    fn what_cannot_be_read_is_absent() {
        let nothing = machine(&[]);
        assert_eq!(ProcessReader::new(nothing.path()).read_at(Instant::now()), ProcessReading::default());
        let nonsense = machine(&[
            ("proc/self/stat", "4242 (b) R 1 2"),
            ("proc/self/status", "VmRSS: lots kB\nThreads:\n"),
            ("proc/self/io", "read_bytes: 1\n"),
            ("proc/self/limits", "Max open files\n"),
            ("proc/stat", "btime\n"),
            ("proc/uptime", "\n"),
        ]);
        assert_eq!(ProcessReader::new(nonsense.path()).read_at(Instant::now()), ProcessReading::default());
    }

    #[test]
    fn the_start_of_the_process_does_not_move_with_the_clock() {
        let root = machine(&[("proc/self/stat", STAT), ("proc/stat", "btime 1700000000\n")]);
        let mut reader = ProcessReader::new(root.path());
        assert_eq!(reader.read_at(Instant::now()).start_time, Some(1_700_005_000.0));
        write(&root, "proc/stat", "btime 1700000003\n");
        assert_eq!(reader.read_at(Instant::now()).start_time, Some(1_700_005_000.0));
    }

    #[test]
    fn utilization_is_a_share_of_the_cpus_that_the_process_may_use() {
        let root = machine(&[
            ("proc/self/stat", STAT),
            ("proc/self/cgroup", "0::/app\n"),
            ("sys/fs/cgroup/app/cpu.max", "50000 100000\n"),
            ("sys/fs/cgroup/app/cpu.stat", "usage_usec 3000000\nuser_usec 2000000\nsystem_usec 1000000\n"),
        ]);
        let mut reader = ProcessReader::new(root.path());
        let start = Instant::now();
        let first = reader.read_at(start);
        assert_eq!((first.cpu_utilization, first.container_cpu_usage), (None, None));
        assert_eq!(first.container_cpu_time, Some([(ProcessCpuMode::User, 2.0), (ProcessCpuMode::System, 1.0)]));
        assert_eq!(first.container_cpu_limit, Some(0.5));

        write(&root, "proc/self/stat", &STAT.replace(" 250 125 ", " 290 135 "));
        write(&root, "sys/fs/cgroup/app/cpu.stat", "usage_usec 0\nuser_usec 3000000\nsystem_usec 1500000\n");
        let second = reader.read_at(start + Duration::from_secs(2));
        let shares = second.cpu_utilization.unwrap().map(|(_, share)| (share * 1000.0).round());
        assert_eq!(shares, [400.0, 100.0], "0.4 s and 0.1 s of the one that half a CPU has in two");
        assert_eq!(
            second.container_cpu_usage,
            Some([(ProcessCpuMode::User, 0.5), (ProcessCpuMode::System, 0.25)]),
            "CPUs, not shares"
        );
    }

    #[test]
    fn the_memory_of_a_container_is_told_with_and_without_a_limit() {
        let unlimited = [
            ("proc/self/cgroup", "0::/app\n"),
            ("sys/fs/cgroup/app/memory.current", "1000\n"),
            ("sys/fs/cgroup/app/memory.max", "max\n"),
            ("sys/fs/cgroup/app/memory.stat", "anon 300\nanon_thp 7\nfile 700\ninactive_file 600\n"),
        ];
        let root = machine(&unlimited);
        let mut reader = ProcessReader::new(root.path());
        let reading = reader.read_at(Instant::now());
        let own = (reading.container_usage, reading.container_working_set, reading.container_rss);
        assert_eq!(own, (Some(1000.0), Some(400.0), Some(300.0)));
        assert_eq!((reading.container_limit, reading.container_available), (None, None));

        write(&root, "sys/fs/cgroup/app/memory.max", "5000\n");
        let reading = reader.read_at(Instant::now());
        assert_eq!((reading.container_limit, reading.container_available), (Some(5000.0), Some(4600.0)));
    }

    #[test]
    fn a_limit_that_stands_for_none_is_absent() {
        let root = machine(&[
            ("proc/self/cgroup", "4:memory:/app\n"),
            ("sys/fs/cgroup/memory/app/memory.usage_in_bytes", "1000\n"),
            ("sys/fs/cgroup/memory/app/memory.limit_in_bytes", "9223372036854771712\n"),
        ]);
        let reading = ProcessReader::new(root.path()).read_at(Instant::now());
        assert_eq!(reading.container_usage, Some(1000.0));
        assert_eq!((reading.container_limit, reading.container_available), (None, None));
    }

    #[test]
    fn context_switches_are_those_of_all_threads_that_were_ever_seen() {
        let status = |voluntary: u32, involuntary: u32| {
            format!("Name:\tb\nvoluntary_ctxt_switches:\t{voluntary}\nnonvoluntary_ctxt_switches:\t{involuntary}\n")
        };
        let root = machine(&[]);
        let mut switches = ContextSwitches::default();
        let tasks = root.path().join("proc/self/task");
        let mut read = || switches.read(&tasks).map(|switches| switches.map(|(_, count)| count));
        assert_eq!(read(), None);
        write(&root, "proc/self/task/1/status", &status(100, 10));
        write(&root, "proc/self/task/2/status", &status(200, 20));
        assert_eq!(read(), Some([300.0, 30.0]));
        // One ends, another begins.
        fs::remove_dir_all(tasks.join("2")).unwrap();
        write(&root, "proc/self/task/3/status", &status(5, 5));
        assert_eq!(read(), Some([305.0, 35.0]));
        // The number of one that ended is another's.
        write(&root, "proc/self/task/3/status", &status(1, 1));
        assert_eq!(read(), Some([306.0, 36.0]));
        write(&root, "proc/self/task/1/status", &status(101, 10));
        assert_eq!(read(), Some([307.0, 36.0]));
    }

    #[test]
    fn threads_that_cannot_be_read_for_once_are_not_taken_for_ended() {
        let root = machine(&[]);
        let mut switches = ContextSwitches::default();
        let tasks = root.path().join("proc/self/task");
        let mut read = || switches.read(&tasks).map(|switches| switches.map(|(_, count)| count));
        let status = "voluntary_ctxt_switches: 100\nnonvoluntary_ctxt_switches: 10\n";
        write(&root, "proc/self/task/1/status", status);
        assert_eq!(read(), Some([100.0, 10.0]));
        fs::remove_file(tasks.join("1/status")).unwrap();
        fs::create_dir(tasks.join("1/status")).unwrap();
        assert_eq!(read(), None);
        fs::remove_dir(tasks.join("1/status")).unwrap();
        write(&root, "proc/self/task/1/status", status);
        assert_eq!(read(), Some([100.0, 10.0]));
    }

    #[test]
    fn a_quota_of_cpus_counts_with_its_fraction() {
        assert_eq!(usable_cpus(None, 4.0), 4.0);
        assert_eq!(usable_cpus(Some(0.5), 1.0), 0.5);
        assert_eq!(usable_cpus(Some(2.7), 2.0), 2.7);
        // Fewer by affinity than by quota.
        assert_eq!(usable_cpus(Some(8.0), 2.0), 2.0);
    }

    #[test]
    fn an_uptime_that_two_clocks_tell_differently_is_absent() {
        let stat = format!("1 (app) S {}", ["0"; 18].join(" ")) + " 100000 0 0";
        let root = machine(&[("proc/self/stat", &stat), ("proc/uptime", "999.00 1.00\n")]);
        assert_eq!(ProcessReader::new(root.path()).read_at(Instant::now()).uptime, None);
        write(&root, "proc/uptime", "1001.00 1.00\n");
        assert_eq!(ProcessReader::new(root.path()).read_at(Instant::now()).uptime, Some(1.0));
    }

    #[test]
    fn other_systems_tell_some_of_it() {
        let root = machine(&[]);
        let mut reading = ProcessReading::default();
        ProcessReader::new(root.path()).read_elsewhere(&mut reading);
        assert!(reading.resident_bytes > Some(500_000.0), "{reading:?}");
        assert!(reading.virtual_bytes >= reading.resident_bytes, "{reading:?}");
        assert!(reading.start_time > Some(1e9), "{reading:?}");
        assert_eq!(reading.threads, None);
    }
}
