//! What is committed for Prometheus, vmalert and Alertmanager, as these programs read it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process;

/// The files of this folder of `deploy/` that end in `.yml`.
fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(folder);
    let entries = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|end| end == "yml")).collect();
    files.sort();
    assert!(!files.is_empty(), "{} has no YAML files", folder.display());
    files
}

/// Runs a program that ends with 0 when it agrees, and returns what it said.
#[track_caller]
fn agree(program: PathBuf, arguments: &[&str], files: &[PathBuf]) -> String {
    let (code, output) = process::run(Command::new(&program).args(arguments).args(files), b"");
    assert_eq!(code, Some(0), "{} {arguments:?} {files:?}:\n{output}", program.display());
    output
}

#[test]
fn promtool_finds_nothing_to_say_about_the_rules() {
    let Some(bin) = process::require(&["promtool"], "tests/stack/install") else { return };
    agree(bin.join("promtool"), &["check", "rules", "--lint=all", "--lint-fatal"], &files("prometheus/rules"));
}

#[test]
fn prometheus_takes_the_configurations_with_their_rules() {
    let Some(bin) = process::require(&["promtool"], "tests/stack/install") else { return };
    for config in files("prometheus") {
        let said = agree(bin.join("promtool"), &["check", "config", "--lint=all", "--lint-fatal"], &[config]);
        assert_eq!(said.matches("rules found").count(), 8, "eight files of rules are loaded: {said}");
    }
}

#[test]
fn every_alert_is_quiet_and_fires_when_it_should() {
    let Some(bin) = process::require(&["promtool"], "tests/stack/install") else { return };
    for tests in files("prometheus/tests") {
        agree(bin.join("promtool"), &["test", "rules"], &[tests]);
    }
}

#[test]
fn vmalert_takes_the_rules() {
    let Some(bin) = process::require(&["vmalert"], "tests/stack/install-otlp") else { return };
    for rules in files("prometheus/rules") {
        let rules = format!("-rule={}", rules.display());
        agree(bin.join("vmalert"), &["-dryRun", &rules], &[]);
    }
}

#[test]
fn alertmanager_takes_its_configuration_and_wakes_somebody_for_what_is_critical_alone() {
    let Some(bin) = process::require(&["amtool"], "tests/stack/install") else { return };
    let config = files("alertmanager").remove(0);
    agree(bin.join("amtool"), &["check-config"], std::slice::from_ref(&config));
    let config = format!("--config.file={}", config.display());
    for (severity, receiver) in [("critical", "page"), ("warning", "notify"), ("info", "notify")] {
        let (receiver, severity) = (format!("--verify.receivers={receiver}"), format!("severity={severity}"));
        agree(bin.join("amtool"), &["config", "routes", "test", &config, &receiver, &severity], &[]);
    }
}
