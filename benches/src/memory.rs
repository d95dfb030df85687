//! What the first scrape adds to a service's memory, at its peak. Linux only: the kernel keeps the peak of a process.
//!
//! Each contestant has a process of its own, so that nobody finds memory that another one has left.

use std::env;
use std::fmt::Write;
use std::fs;
use std::process::Command;

use crate::peers::PEERS;
use crate::table::megabytes;
use crate::workload::Workload;

pub(crate) fn measure(workload: &Workload) -> String {
    let mut table = format!("### {}: memory added by the first scrape\n\n", workload.name);
    table += "| contestant | MB before | MB added, peak | MB page |\n|---|---:|---:|---:|\n";
    for (name, _) in PEERS {
        let child = Command::new(env::current_exe().expect("this program"))
            .args(["scrape", "--memory-of", name])
            .output()
            .expect("this program runs");
        eprint!("{}", String::from_utf8_lossy(&child.stderr));
        assert!(child.status.success(), "{name}: {}", child.status);
        let _ = writeln!(table, "| {name} | {} |", String::from_utf8_lossy(&child.stdout).trim());
    }
    table
}

/// The columns of one contestant.
pub(crate) fn of(name: &str, workload: &Workload) -> String {
    let (_, prepare) = PEERS.into_iter().find(|(peer, _)| *peer == name).expect("the name of a contestant");
    let mut scrape = prepare(workload);
    // The peak of the preparations is forgotten; what they freed and the allocator kept may be used again, as it would
    // be in a service.
    fs::write("/proc/self/clear_refs", "5").expect("Linux");
    let before = peak();
    let mut page = 0;
    scrape(&mut |piece| page += piece.len());
    let after = peak();
    format!("{:.0} | {:.1} | {:.1}", megabytes(before), megabytes(after - before), megabytes(page))
}

/// The most memory that this process has had resident, in bytes.
fn peak() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a kernel that keeps the peak");
    let kilobytes: usize = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kilobytes * 1024
}
