//! One reading of the machine, the container and this process. What cannot be read is absent, never zero.

use std::path::Path;
use std::time::Instant;

use sysinfo::{
    Disk, DiskRefreshKind, Disks, MINIMUM_CPU_UPDATE_INTERVAL, MemoryRefreshKind, Pid, ProcessRefreshKind,
    ProcessesToUpdate, System,
};

use crate::container::{Container, CpuUse};

/// What was read at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Reading {
    pub(crate) cpu_percent: Option<f64>,
    pub(crate) memory_percent: Option<f64>,
    pub(crate) disk_percent: Option<f64>,
    pub(crate) process_cpu_seconds: Option<f64>,
    pub(crate) resident_bytes: Option<f64>,
    pub(crate) open_file_descriptors: Option<f64>,
    pub(crate) threads: Option<f64>,
}

/// Reads, and keeps what the next reading is compared with.
pub(crate) struct Reader {
    system: System,
    root_disk: Option<Disk>,
    process: Option<Pid>,
    container: Container,
    container_cpu: Option<(CpuUse, Instant)>,
    started: Instant,
}

impl Reader {
    /// A reader for the process it is built in; `None` where `sysinfo` does not know the operating system.
    ///
    /// The cgroup of the process is looked up in `proc` and `sys` below `root`.
    pub(crate) fn new(root: &Path) -> Option<Self> {
        let mut system = System::new().ok()?;
        system.refresh_cpu_usage();
        // Without sizes at first: asking every mounted filesystem for its size may hang on one whose server is gone.
        let disks = Disks::new_with_refreshed_list_specifics(DiskRefreshKind::nothing());
        let root_disk = disks.ok().and_then(|disks| {
            // What is mounted last on a path is what is seen there.
            Vec::from(disks).into_iter().rfind(|disk| disk.mount_point() == Path::new("/"))
        });
        Some(Self {
            system,
            root_disk,
            process: sysinfo::get_current_pid().ok(),
            container: Container::find(root),
            container_cpu: None,
            started: Instant::now(),
        })
    }

    pub(crate) fn read(&mut self) -> Reading {
        let mut reading = Reading {
            cpu_percent: self.cpu_percent(),
            memory_percent: self.memory_percent(),
            disk_percent: self.disk_percent(),
            ..Reading::default()
        };
        self.read_process(&mut reading);
        reading
    }

    fn cpu_percent(&mut self) -> Option<f64> {
        self.system.refresh_cpu_usage();
        let cores = self.system.cpus().len() as f64;
        let container = self.container.cpu().filter(|cpu| cpu.cores < cores);
        let Some(now) = container else {
            let usage = f64::from(self.system.global_cpu_usage());
            // Until then it is the average since the machine was started.
            let has_two_readings = cores > 0.0 && self.started.elapsed() >= MINIMUM_CPU_UPDATE_INTERVAL;
            return has_two_readings.then_some(usage.clamp(0.0, 100.0));
        };
        let read_at = Instant::now();
        let before = self.container_cpu.replace((now.clone(), read_at));
        before.and_then(|(before, at)| now.percent_since(&before, read_at - at))
    }

    fn memory_percent(&mut self) -> Option<f64> {
        self.system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        let total = self.system.total_memory();
        match self.container.memory() {
            Some(container) if container.limit < total => percent(container.used, container.limit),
            _ => percent(self.system.used_memory(), total),
        }
    }

    fn disk_percent(&mut self) -> Option<f64> {
        let disk = self.root_disk.as_mut()?;
        disk.refresh_specifics(DiskRefreshKind::nothing().with_storage());
        let total = disk.total_space();
        percent(total.saturating_sub(disk.available_space()), total)
    }

    fn read_process(&mut self, reading: &mut Reading) {
        let Some(pid) = self.process else { return };
        let wanted = ProcessRefreshKind::nothing().with_cpu().with_memory().with_tasks();
        let found = self.system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, wanted);
        let Some(process) = self.system.process(pid).filter(|_| found > 0) else { return };
        // No process has no memory.
        reading.resident_bytes = Some(process.memory() as f64).filter(|&bytes| bytes > 0.0);
        reading.process_cpu_seconds = Some(process.accumulated_cpu_time() as f64 / 1000.0);
        reading.open_file_descriptors = process.open_files().map(|count| count as f64);
        // The tasks are the other threads than the first.
        reading.threads = process.tasks().map(|others| others.len() as f64 + 1.0);
    }
}

/// `part` in percent of `whole`, if there is a whole.
fn percent(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| (part as f64 / whole as f64 * 100.0).clamp(0.0, 100.0))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::sync::Barrier;
    use std::thread;
    use std::time::Duration;

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn the_machine_and_the_process_are_read_from_the_first_reading_on() {
        let mut reader = Reader::new(Path::new("/")).unwrap();
        let first = reader.read();
        for percent in [first.memory_percent, first.disk_percent] {
            assert!(percent.is_some_and(|percent| percent > 0.0 && percent <= 100.0), "{first:?}");
        }
        assert!(first.process_cpu_seconds.is_some(), "{first:?}");
        assert!(first.resident_bytes > Some(500_000.0), "{first:?}");
    }

    #[test]
    fn the_usage_of_the_cpus_is_known_from_the_second_reading_on() {
        let mut reader = Reader::new(Path::new("/")).unwrap();
        // As if it had just been made, however slow this machine is.
        reader.started = Instant::now() + Duration::from_secs(3600);
        assert_eq!(reader.read().cpu_percent, None);
        thread::sleep(MINIMUM_CPU_UPDATE_INTERVAL);
        reader.started = Instant::now() - MINIMUM_CPU_UPDATE_INTERVAL;
        let usage = reader.read().cpu_percent;
        assert!(usage.is_some_and(|percent| (0.0..=100.0).contains(&percent)), "{usage:?}");
    }

    #[test]
    fn files_and_threads_are_counted_as_they_come() {
        let mut reader = Reader::new(Path::new("/")).unwrap();
        let files: Vec<File> = (0..50).map(|_| File::open("/dev/null").unwrap()).collect();
        let barrier = Barrier::new(21);
        let reading = thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| barrier.wait());
            }
            let reading = reader.read();
            barrier.wait();
            reading
        });
        drop(files);
        assert!(reading.open_file_descriptors >= Some(50.0), "{reading:?}");
        assert!(reading.threads >= Some(21.0), "{reading:?}");
    }

    #[test]
    fn the_cpu_time_of_the_process_is_in_seconds() {
        let mut reader = Reader::new(Path::new("/")).unwrap();
        let before = reader.read().process_cpu_seconds.unwrap();
        let started = Instant::now();
        let spent = loop {
            (0..1_000_000).for_each(|_| std::hint::spin_loop());
            let spent = reader.read().process_cpu_seconds.unwrap() - before;
            if spent > 0.02 {
                break spent;
            }
            assert!(started.elapsed() < Duration::from_secs(20), "{spent} s in {:?}", started.elapsed());
        };
        // Other tests of this process may spend time on other cores meanwhile.
        let cores = thread::available_parallelism().unwrap().get() as f64;
        assert!(spent <= (started.elapsed().as_secs_f64() + 0.1) * cores, "{spent} s in {:?}", started.elapsed());
    }

    #[test]
    fn memory_is_a_percentage_of_the_containers_limit_where_that_is_the_tighter_one() {
        let root = container(&[("memory.max", "1000000"), ("memory.current", "250000")]);
        assert_eq!(Reader::new(root.path()).unwrap().read().memory_percent, Some(25.0));

        let root = container(&[("memory.max", "9223372036854771712"), ("memory.current", "0")]);
        assert!(Reader::new(root.path()).unwrap().read().memory_percent > Some(0.0), "the machine's");
    }

    #[test]
    fn cpu_is_a_percentage_of_the_containers_cores_where_those_are_fewer() {
        let root = container(&[("cpu.max", "50000 100000"), ("cpu.stat", "usage_usec 1000000")]);
        let mut reader = Reader::new(root.path()).unwrap();
        assert_eq!(reader.read().cpu_percent, None);
        assert_eq!(reader.read().cpu_percent, Some(0.0));
        write(&root, "cpu.stat", "usage_usec 999000000");
        assert_eq!(reader.read().cpu_percent, Some(100.0));

        let root = container(&[("cpu.max", "1000000000 1000"), ("cpu.stat", "usage_usec 1000000")]);
        let mut reader = Reader::new(root.path()).unwrap();
        reader.read();
        assert!(reader.container_cpu.is_none(), "the machine's");
    }

    #[test]
    fn what_has_no_whole_has_no_percentage() {
        assert_eq!(percent(1, 0), None);
        assert_eq!(percent(1, 4), Some(25.0));
        assert_eq!(percent(5, 4), Some(100.0));
    }

    fn container(files: &[(&str, &str)]) -> TempDir {
        let root = TempDir::new().unwrap();
        fs::create_dir_all(root.path().join("sys/fs/cgroup")).unwrap();
        for (file, content) in files {
            write(&root, file, content);
        }
        root
    }

    fn write(root: &TempDir, file: &str, content: &str) {
        fs::write(root.path().join("sys/fs/cgroup").join(file), content).unwrap();
    }
}
