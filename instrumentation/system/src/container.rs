//! The limits of the container that this process runs in, and what it uses of them: control groups, v2 and v1.
//!
//! A limit may stand on the process's own cgroup or on any above it, and the tightest one counts. Inside a container
//! its cgroup is often mounted as the root of the hierarchy while `/proc/self/cgroup` tells a path that is not there;
//! looking upwards from that path finds the root too.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use crate::process::TICKS;

/// Memory of a cgroup with a limit, in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct MemoryUse {
    pub(crate) limit: u64,
    pub(crate) used: u64,
}

/// Memory of the process's own cgroup, in bytes, limited or not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct OwnMemory {
    /// Page cache included.
    pub(crate) usage: u64,
    /// Without the page cache that is in no active use.
    pub(crate) working_set: Option<u64>,
    /// Without any page cache.
    pub(crate) rss: Option<u64>,
}

/// CPU time of a cgroup with a limit.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CpuUse {
    pub(crate) cores: f64,
    used: Duration,
    cgroup: PathBuf,
}

impl CpuUse {
    /// What was used since `before`, in percent of what might have been; `None` if the two cannot be compared.
    pub(crate) fn percent_since(&self, before: &Self, elapsed: Duration) -> Option<f64> {
        let used = self.used.checked_sub(before.used).filter(|_| self.cgroup == before.cgroup)?;
        let available = elapsed.as_secs_f64() * self.cores;
        (available > 0.0).then(|| (used.as_secs_f64() / available * 100.0).clamp(0.0, 100.0))
    }
}

/// Where the limits of this process are looked up.
#[derive(Debug)]
pub(crate) struct Container {
    mount: PathBuf,
    memory: Hierarchy,
    cpu: Hierarchy,
}

impl Container {
    /// Finds the cgroups of this process in `proc/self/cgroup` and `sys/fs/cgroup` below `root`.
    pub(crate) fn find(root: &Path) -> Self {
        let membership = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
        let mount = root.join("sys/fs/cgroup");
        Self {
            memory: Hierarchy::find(&membership, &mount, "memory"),
            cpu: Hierarchy::find(&membership, &mount, "cpu"),
            mount,
        }
    }

    /// The tightest limit on memory, and the use of it. Of the page cache only what is in active use counts.
    pub(crate) fn memory(&self) -> Option<MemoryUse> {
        let MemoryFiles { limit, usage, inactive, .. } = self.memory.version.memory_files();
        let limits = self.memory.cgroups.iter().filter_map(|cgroup| Some((number::<u64>(cgroup, limit)?, cgroup)));
        let (limit, cgroup) = limits.min_by_key(|&(limit, _)| limit)?;
        let inactive = text(cgroup, "memory.stat").and_then(|stat| field(&stat, inactive));
        let used = number::<u64>(cgroup, usage)?.saturating_sub(inactive.unwrap_or(0));
        Some(MemoryUse { limit, used })
    }

    /// The memory of the process's own cgroup.
    pub(crate) fn own_memory(&self) -> Option<OwnMemory> {
        let cgroup = self.memory.own()?;
        let MemoryFiles { usage, inactive, rss, .. } = self.memory.version.memory_files();
        let usage = number::<u64>(cgroup, usage)?;
        let stat = text(cgroup, "memory.stat").unwrap_or_default();
        let working_set = field(&stat, inactive).map(|inactive| usage.saturating_sub(inactive));
        Some(OwnMemory { usage, working_set, rss: field(&stat, rss) })
    }

    /// CPU time of the process's own cgroup in seconds: in its programs, and in the kernel.
    pub(crate) fn cpu_time_by_mode(&self) -> Option<[f64; 2]> {
        let cgroup = self.cpu.own()?;
        let (stat, names, units) = match self.cpu.version {
            Version::V1 => (text(&self.accounting(cgroup)?, "cpuacct.stat")?, ["user ", "system "], TICKS),
            Version::V2 => (text(cgroup, "cpu.stat")?, ["user_usec ", "system_usec "], 1e6),
        };
        let [user, system] = names.map(|name| field(&stat, name));
        user.zip(system).map(|(user, system)| [user as f64 / units, system as f64 / units])
    }

    /// The tightest limit on CPU time, and the time used so far.
    pub(crate) fn cpu(&self) -> Option<CpuUse> {
        let limits = self.cpu.cgroups.iter().filter_map(|cgroup| Some((self.cores(cgroup)?, cgroup)));
        let (cores, cgroup) = limits.min_by(|(a, _), (b, _)| a.total_cmp(b))?;
        Some(CpuUse { cores, used: self.cpu_time(cgroup)?, cgroup: cgroup.clone() })
    }

    fn cores(&self, cgroup: &Path) -> Option<f64> {
        let (quota, period) = match self.cpu.version {
            Version::V1 => (number(cgroup, "cpu.cfs_quota_us")?, number(cgroup, "cpu.cfs_period_us")?),
            Version::V2 => quota_and_period(&text(cgroup, "cpu.max")?)?,
        };
        // Without a limit, v1 has a quota of -1.
        (quota > 0.0 && period > 0.0).then_some(quota / period)
    }

    fn cpu_time(&self, cgroup: &Path) -> Option<Duration> {
        match self.cpu.version {
            Version::V1 => number(&self.accounting(cgroup)?, "cpuacct.usage").map(Duration::from_nanos),
            Version::V2 => field(&text(cgroup, "cpu.stat")?, "usage_usec").map(Duration::from_micros),
        }
    }

    /// Where v1 accounts for the CPU time of a cgroup of the controller that limits it: the two controllers have the same
    /// paths; mostly they are one hierarchy under two names.
    fn accounting(&self, cgroup: &Path) -> Option<PathBuf> {
        let path = cgroup.strip_prefix(self.mount.join("cpu")).ok()?;
        Some(self.mount.join("cpuacct").join(path))
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Version {
    V1,
    V2,
}

/// What the files and fields about memory are called.
struct MemoryFiles {
    limit: &'static str,
    usage: &'static str,
    /// Fields of `memory.stat`: page cache in no active use, and what is no page cache.
    inactive: &'static str,
    rss: &'static str,
}

impl Version {
    fn memory_files(self) -> MemoryFiles {
        match self {
            Self::V1 => MemoryFiles {
                limit: "memory.limit_in_bytes",
                usage: "memory.usage_in_bytes",
                inactive: "total_inactive_file",
                rss: "total_rss ",
            },
            Self::V2 => {
                MemoryFiles { limit: "memory.max", usage: "memory.current", inactive: "inactive_file", rss: "anon " }
            }
        }
    }
}

/// The cgroups of this process in the hierarchy of one controller: its own first, the root last.
#[derive(Debug, PartialEq)]
struct Hierarchy {
    version: Version,
    cgroups: Vec<PathBuf>,
    /// Whether the process is in no cgroup below the root, as far as it is told.
    is_root: bool,
}

impl Hierarchy {
    fn find(membership: &str, mount: &Path, controller: &str) -> Self {
        let (version, mount, path) = match v1_path(membership, controller) {
            Some(path) => (Version::V1, mount.join(controller), path),
            None => (Version::V2, mount.to_path_buf(), v2_path(membership).unwrap_or("/")),
        };
        // A path that leads out of the namespace of cgroups leads nowhere from here.
        let path = Path::new(path);
        let is_root = path == Path::new("/");
        let path = if path.components().any(|part| part == Component::ParentDir) { Path::new("/") } else { path };
        let cgroups = path.ancestors().map(|path| mount.join(path.strip_prefix("/").unwrap_or(path)));
        Self { version, cgroups: cgroups.filter(|cgroup| cgroup.is_dir()).collect(), is_root }
    }

    /// The process's own cgroup, unless that is the root of the machine, which is no container. Where a container's is
    /// mounted as the root, v2 tells by a file that the root of the machine does not have, v1 by a path that is not there.
    fn own(&self) -> Option<&Path> {
        let own = self.cgroups.first()?;
        let is_container = match self.version {
            Version::V1 => !self.is_root,
            Version::V2 => self.cgroups.len() > 1 || own.join("cgroup.type").exists(),
        };
        is_container.then_some(own.as_path())
    }
}

/// The path in a line like `4:cpu,cpuacct:/docker/1f2e`.
fn v1_path<'a>(membership: &'a str, controller: &str) -> Option<&'a str> {
    membership.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        controllers.split(',').any(|name| name == controller).then_some(path)
    })
}

/// The path in the line `0::/system.slice/app.service`.
fn v2_path(membership: &str) -> Option<&str> {
    membership.lines().find_map(|line| line.strip_prefix("0::"))
}

/// `cpu.max` is `50000 100000`, or `max 100000` without a limit.
fn quota_and_period(cpu_max: &str) -> Option<(f64, f64)> {
    let (quota, period) = cpu_max.trim().split_once(' ')?;
    Some((quota.parse().ok()?, period.parse().ok()?))
}

/// The value in the line `name value` of a file like `memory.stat`.
fn field(stat: &str, name: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

fn number<T: FromStr>(cgroup: &Path, file: &str) -> Option<T> {
    text(cgroup, file)?.trim().parse().ok()
}

fn text(cgroup: &Path, file: &str) -> Option<String> {
    fs::read_to_string(cgroup.join(file)).ok()
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::fixture::machine;

    #[test]
    fn under_v2_the_limits_are_those_of_the_cgroup() {
        let root = machine(&[
            ("proc/self/cgroup", "0::/app.slice/watcher.service\n"),
            ("sys/fs/cgroup/app.slice/watcher.service/memory.max", "1000000\n"),
            ("sys/fs/cgroup/app.slice/watcher.service/memory.current", "700000\n"),
            ("sys/fs/cgroup/app.slice/watcher.service/memory.stat", "anon 1\ninactive_file 200000\nfile 2\n"),
            ("sys/fs/cgroup/app.slice/watcher.service/cpu.max", "150000 100000\n"),
            ("sys/fs/cgroup/app.slice/watcher.service/cpu.stat", "usage_usec 2500000\nuser_usec 1\n"),
        ]);
        let container = Container::find(root.path());
        assert_eq!(container.memory(), Some(MemoryUse { limit: 1_000_000, used: 500_000 }));
        let cpu = container.cpu().unwrap();
        assert_eq!((cpu.cores, cpu.used), (1.5, Duration::from_millis(2500)));
    }

    #[test]
    fn under_v1_the_limits_are_those_of_each_controllers_cgroup() {
        let root = machine(&[
            (
                "proc/self/cgroup",
                "5:cpuset:/\n4:memory:/docker/1f2e\n3:cpu,cpuacct:/docker/1f2e\n1:name=systemd:/x\n0::/y\n",
            ),
            ("sys/fs/cgroup/memory/docker/1f2e/memory.limit_in_bytes", "1000000\n"),
            ("sys/fs/cgroup/memory/docker/1f2e/memory.usage_in_bytes", "700000\n"),
            ("sys/fs/cgroup/memory/docker/1f2e/memory.stat", "inactive_file 5\ntotal_inactive_file 200000\n"),
            ("sys/fs/cgroup/cpu/docker/1f2e/cpu.cfs_quota_us", "50000\n"),
            ("sys/fs/cgroup/cpu/docker/1f2e/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/cpuacct/docker/1f2e/cpuacct.usage", "2500000000\n"),
        ]);
        let container = Container::find(root.path());
        assert_eq!(container.memory(), Some(MemoryUse { limit: 1_000_000, used: 500_000 }));
        let cpu = container.cpu().unwrap();
        assert_eq!((cpu.cores, cpu.used), (0.5, Duration::from_millis(2500)));
    }

    #[test]
    fn the_processs_own_cgroup_is_told_whether_limited_or_not() {
        let v2 = machine(&[
            ("proc/self/cgroup", "0::/pod/app\n"),
            ("sys/fs/cgroup/pod/app/memory.current", "700\n"),
            ("sys/fs/cgroup/pod/app/memory.stat", "anon 300\ninactive_file 200\n"),
            ("sys/fs/cgroup/pod/app/cpu.stat", "usage_usec 1\nuser_usec 2500000\nsystem_usec 500000\n"),
        ]);
        let v1 = machine(&[
            ("proc/self/cgroup", "4:memory:/pod/app\n3:cpu,cpuacct:/pod/app\n"),
            ("sys/fs/cgroup/memory/pod/app/memory.usage_in_bytes", "700\n"),
            (
                "sys/fs/cgroup/memory/pod/app/memory.stat",
                "rss 1\ntotal_rss 300\ntotal_rss_huge 9\ntotal_inactive_file 200\n",
            ),
            ("sys/fs/cgroup/cpu/pod/app/cpu.shares", "1024\n"),
            ("sys/fs/cgroup/cpuacct/pod/app/cpuacct.stat", "user 250\nsystem 50\n"),
        ]);
        for root in [v2, v1] {
            let container = Container::find(root.path());
            let expected = OwnMemory { usage: 700, working_set: Some(500), rss: Some(300) };
            assert_eq!(container.own_memory(), Some(expected), "{container:?}");
            assert_eq!(container.cpu_time_by_mode(), Some([2.5, 0.5]), "{container:?}");
        }
    }

    #[test]
    fn the_root_of_the_machine_is_no_container() {
        let v1 = machine(&[
            ("proc/self/cgroup", "4:memory:/\n3:cpu,cpuacct:/\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "700\n"),
            ("sys/fs/cgroup/cpu/cpu.shares", "1024\n"),
            ("sys/fs/cgroup/cpuacct/cpuacct.stat", "user 250\nsystem 50\n"),
        ]);
        let container = Container::find(v1.path());
        assert_eq!((container.own_memory(), container.cpu_time_by_mode()), (None, None));

        // Under v2 its files are missing: `cpu.stat` alone is there, and is the machine's.
        let v2 = machine(&[
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/cpu.stat", "usage_usec 1\nuser_usec 2500000\nsystem_usec 500000\n"),
        ]);
        let container = Container::find(v2.path());
        assert_eq!((container.own_memory(), container.cpu_time_by_mode()), (None, None));
    }

    #[test]
    fn the_tightest_limit_on_the_way_to_the_root_counts() {
        let root = machine(&[
            ("proc/self/cgroup", "0::/pod/app\n"),
            ("sys/fs/cgroup/pod/app/memory.max", "2000\n"),
            ("sys/fs/cgroup/pod/app/memory.current", "10\n"),
            ("sys/fs/cgroup/pod/memory.max", "1000\n"),
            ("sys/fs/cgroup/pod/memory.current", "20\n"),
            ("sys/fs/cgroup/pod/app/cpu.max", "50000 100000\n"),
            ("sys/fs/cgroup/pod/app/cpu.stat", "usage_usec 1\n"),
            ("sys/fs/cgroup/pod/cpu.max", "400000 100000\n"),
            ("sys/fs/cgroup/pod/cpu.stat", "usage_usec 2\n"),
        ]);
        let container = Container::find(root.path());
        assert_eq!(container.memory(), Some(MemoryUse { limit: 1000, used: 20 }));
        let cpu = container.cpu().unwrap();
        assert_eq!((cpu.cores, cpu.used), (0.5, Duration::from_micros(1)));
    }

    #[test]
    fn a_cgroup_that_is_mounted_as_the_root_is_found_there() {
        // What the host calls it, and what lies outside of the container's namespace.
        for path in ["0::/\n", "0::/kubepods/pod1/1f2e\n", "0::/../other\n", ""] {
            let root = machine(&[
                ("proc/self/cgroup", path),
                ("sys/fs/cgroup/memory.max", "1000\n"),
                ("sys/fs/cgroup/memory.current", "10\n"),
            ]);
            assert_eq!(Container::find(root.path()).memory(), Some(MemoryUse { limit: 1000, used: 10 }), "{path:?}");
        }
    }

    #[test]
    fn a_path_with_two_dots_does_not_leave_the_hierarchy() {
        let root = machine(&[
            ("proc/self/cgroup", "0::/../other\n"),
            ("sys/fs/cgroup/cpu.stat", "usage_usec 1\n"),
            ("sys/fs/other/memory.max", "1000\n"),
            ("sys/fs/other/memory.current", "10\n"),
        ]);
        assert_eq!(Container::find(root.path()).memory(), None);
    }

    #[test]
    fn without_limits_there_is_no_container() {
        let v2 = machine(&[
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/memory.max", "max\n"),
            ("sys/fs/cgroup/memory.current", "10\n"),
            ("sys/fs/cgroup/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/cpu.stat", "usage_usec 1\n"),
        ]);
        let v1 = machine(&[
            ("proc/self/cgroup", "1:cpu:/\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/cpuacct/cpuacct.usage", "1\n"),
        ]);
        let elsewhere = machine(&[]);
        for root in [v2, v1, elsewhere] {
            let container = Container::find(root.path());
            assert_eq!((container.memory(), container.cpu()), (None, None), "{container:?}");
        }
    }

    #[test]
    fn text_that_is_no_limit_is_none() {
        for cpu_max in ["", "max", "50000", "many 100000", "50000 some"] {
            assert_eq!(quota_and_period(cpu_max), None, "{cpu_max:?}");
        }
        assert_eq!(field("usage_usec_total 1\nusage_usec 2\n", "usage_usec"), Some(2));
        assert_eq!(field("usage_usec lots\n", "usage_usec"), None);
    }

    #[test]
    fn cpu_is_a_percentage_of_what_the_container_might_have_used() {
        let at = |millis| CpuUse { cores: 0.5, used: Duration::from_millis(millis), cgroup: "/a".into() };
        let second = Duration::from_secs(1);
        assert_eq!(at(1250).percent_since(&at(1000), second), Some(50.0));
        assert_eq!(at(9000).percent_since(&at(1000), second), Some(100.0));
        // Nothing to compare with: the count went back, no time passed, or it is another cgroup's.
        assert_eq!(at(1000).percent_since(&at(1250), second), None);
        assert_eq!(at(1250).percent_since(&at(1000), Duration::ZERO), None);
        assert_eq!(CpuUse { cgroup: "/b".into(), ..at(1250) }.percent_since(&at(1000), second), None);
    }
}
