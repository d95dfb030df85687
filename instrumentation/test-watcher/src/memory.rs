//! The resident memory of this process.

use std::fs;

/// Bytes of memory that this process has resident, where `/proc` tells.
pub(crate) fn resident_bytes() -> Option<u64> {
    // Unlike `statm`, which counts pages of a size that only a system call knows, `status` counts in kibibytes.
    parse(&fs::read_to_string("/proc/self/status").ok()?)
}

fn parse(status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = value.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_in_bytes() {
        assert_eq!(parse("Name:\tcargo\nVmHWM:\t    9000 kB\nVmRSS:\t    1234 kB\nThreads:\t1\n"), Some(1_263_616));
    }

    #[test]
    fn a_status_without_resident_memory_has_none() {
        // A kernel thread has no such line.
        for status in ["", "Name:\tkthreadd\nThreads:\t1\n", "VmRSS:\tmuch kB\n", "VmRSS:\t18446744073709551615 kB\n"] {
            assert_eq!(parse(status), None, "{status:?}");
        }
    }
}
