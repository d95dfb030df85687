//! The limits of the container that this process runs in, and what it uses of them: control groups, v2 and v1.
//!
//! A limit may stand on the process's own cgroup or on any above it, and the tightest one counts. Inside a container
//! its cgroup is often mounted as the root of the hierarchy while `/proc/self/cgroup` tells a path that is not there;
//! looking upwards from that path finds the root too.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// Memory of a cgroup with a limit, in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct MemoryUse {
    pub(crate) limit: u64,
    pub(crate) used: u64,
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
        let [limit, usage, inactive] = match self.memory.version {
            Version::V1 => ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"],
            Version::V2 => ["memory.max", "memory.current", "inactive_file"],
        };
        let limits = self.memory.cgroups.iter().filter_map(|cgroup| Some((number::<u64>(cgroup, limit)?, cgroup)));
        let (limit, cgroup) = limits.min_by_key(|&(limit, _)| limit)?;
        let inactive = text(cgroup, "memory.stat").and_then(|stat| field(&stat, inactive));
        let used = number::<u64>(cgroup, usage)?.saturating_sub(inactive.unwrap_or(0));
        Some(MemoryUse { limit, used })
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
            Version::V1 => {
                // The two controllers have the same paths; mostly they are one hierarchy under two names.
                let path = cgroup.strip_prefix(self.mount.join("cpu")).ok()?;
                number(&self.mount.join("cpuacct").join(path), "cpuacct.usage").map(Duration::from_nanos)
            }
            Version::V2 => field(&text(cgroup, "cpu.stat")?, "usage_usec").map(Duration::from_micros),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Version {
    V1,
    V2,
}

/// The cgroups of this process in the hierarchy of one controller: its own first, the root last.
#[derive(Debug, PartialEq)]
struct Hierarchy {
    version: Version,
    cgroups: Vec<PathBuf>,
}

impl Hierarchy {
    fn find(membership: &str, mount: &Path, controller: &str) -> Self {
        let (version, mount, path) = match v1_path(membership, controller) {
            Some(path) => (Version::V1, mount.join(controller), path),
            None => (Version::V2, mount.to_path_buf(), v2_path(membership).unwrap_or("/")),
        };
        // A path that leads out of the namespace of cgroups leads nowhere from here.
        let path = Path::new(path);
        let path = if path.components().any(|part| part == Component::ParentDir) { Path::new("/") } else { path };
        let cgroups = path.ancestors().map(|path| mount.join(path.strip_prefix("/").unwrap_or(path)));
        Self { version, cgroups: cgroups.filter(|cgroup| cgroup.is_dir()).collect() }
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
    use tempfile::TempDir;

    use super::*;

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

    /// A folder with these files, laid out like the root of a machine.
    fn machine(files: &[(&str, &str)]) -> TempDir {
        let root = TempDir::new().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }
}
