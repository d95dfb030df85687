//! The audit agent: looks at the project on a schedule, and when there is a new completion marker or commit.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use barograph_instrumentation_audit_agent::AuditAgentMetrics;
use barograph_instrumentation_audit_agent::semconv::{ErrorType, Trigger};

use crate::console::Console;
use crate::flag::Flag;
use crate::process;
use crate::process::End;
use crate::project::{GIT_LIMIT, Project, git, is_ignored};
use crate::tally::Tally;

const SCHEDULE: Duration = Duration::from_secs(5);

/// How often the agent looks for something that triggers an audit.
const TICK: Duration = Duration::from_millis(500);

pub(crate) struct Auditor<'a> {
    project: &'a Project,
    metrics: AuditAgentMetrics,
    console: &'a Console,
    tally: &'a Tally,
    stop: &'a Flag,
    known_markers: BTreeSet<PathBuf>,
    repository: Repository,
    /// What becomes of a repository whose git does not work.
    without_git: Repository,
}

/// What is known of the project's commits.
#[derive(Clone, PartialEq)]
enum Repository {
    /// Nobody has looked yet.
    Unknown,
    /// No git, or no repository: nobody looks again.
    None,
    /// The commit that was the newest when we last looked, if there was one.
    At(Option<String>),
}

impl<'a> Auditor<'a> {
    pub(crate) fn new(
        project: &'a Project,
        metrics: AuditAgentMetrics,
        console: &'a Console,
        tally: &'a Tally,
        stop: &'a Flag,
    ) -> Self {
        let (known_markers, repository) = (BTreeSet::new(), Repository::Unknown);
        Self { project, metrics, console, tally, stop, known_markers, repository, without_git: Repository::None }
    }

    /// Looks again at the next audit where git did not work.
    pub(crate) fn patient_with_git(self) -> Self {
        Self { without_git: Repository::Unknown, ..self }
    }

    pub(crate) fn run(mut self) {
        self.audit(Trigger::Manual);
        let mut last = Instant::now();
        while !self.stop.wait(TICK) {
            // What is wrong with looking for markers, the audits say.
            let trigger = if self.new_markers().is_ok_and(|markers| !markers.is_empty()) {
                Trigger::Marker
            } else if self.has_new_commits() {
                Trigger::Commit
            } else if last.elapsed() >= SCHEDULE {
                Trigger::Scheduled
            } else {
                continue;
            };
            self.audit(trigger);
            if trigger == Trigger::Scheduled {
                last = Instant::now();
            }
        }
        self.tally.set("audit_agent_active_tasks", 0.0);
    }

    fn audit(&mut self, trigger: Trigger) {
        // Counted from here, timed until it goes out of scope.
        let _audit = self.metrics.start_audit(trigger);
        self.tally.one(format!(r#"audit_agent_runs_total{{trigger="{}"}}"#, trigger.as_str()));
        let duration = "audit_agent_run_duration_seconds_count";
        self.tally.one(format!(r#"{duration}{{trigger="{}"}}"#, trigger.as_str()));

        let markers = self.new_markers().unwrap_or_else(|error| {
            self.error(ErrorType::Io, format_args!("cannot look for completion markers: {error}"));
            BTreeSet::new()
        });
        for marker in &markers {
            self.metrics.record_completion_marker_found();
            self.tally.one("audit_agent_completion_markers_found_total");
            self.event(format_args!("{} is there", marker.display()));
        }
        self.known_markers.extend(markers);

        let commits = self.take_new_commits();
        self.metrics.record_git_commits(commits);
        self.tally.add("audit_agent_git_commits_detected_total", commits as f64);

        let coverage = self.metrics.time_analysis().time(|| coverage(&self.project.root.join("lcov.info")));
        self.tally.one("audit_agent_analysis_duration_seconds_count");
        let found = match coverage {
            Ok(percent) => {
                self.metrics.update_coverage(percent);
                self.tally.set("audit_agent_coverage_percent", percent);
                format!("coverage {percent:.1} %")
            }
            Err(CoverageError::Missing) => "no lcov.info".to_owned(),
            Err(CoverageError::Unreadable(error)) => {
                self.error(ErrorType::Io, format_args!("lcov.info: {error}"));
                "no coverage".to_owned()
            }
            Err(CoverageError::Malformed(line)) => {
                self.error(ErrorType::Parse, format_args!("lcov.info is not understood: {line}"));
                "no coverage".to_owned()
            }
        };
        self.event(format_args!("{}: {found}, new commits: {commits}", trigger.as_str()));
    }

    /// The completion markers that no audit has seen yet.
    fn new_markers(&self) -> io::Result<BTreeSet<PathBuf>> {
        let mut found = BTreeSet::new();
        find_markers(&self.project.root, &mut found)?;
        Ok(found
            .iter()
            .filter_map(|path| self.project.file(path))
            .filter(|file| !self.known_markers.contains(file))
            .collect())
    }

    fn has_new_commits(&mut self) -> bool {
        let Repository::At(known) = &self.repository else {
            return false;
        };
        let known = known.clone();
        self.head().is_some_and(|head| head != known)
    }

    /// Counts the commits since the last time. What was there before the first time is not new.
    fn take_new_commits(&mut self) -> u64 {
        if self.repository == Repository::None {
            return 0;
        }
        let Some(head) = self.head() else {
            return 0;
        };
        let commits = match (&self.repository, &head) {
            (Repository::At(known), Some(head)) if known.as_ref() != Some(head) => {
                let range = known.as_ref().map_or(head.clone(), |known| format!("{known}..{head}"));
                self.git(&["rev-list", "--count", &range]).and_then(|count| count.trim().parse().ok()).unwrap_or(0)
            }
            _ => 0,
        };
        self.repository = Repository::At(head);
        commits
    }

    /// The newest commit, or `Some(None)` before the first one. Nothing where git is of no help.
    fn head(&mut self) -> Option<Option<String>> {
        let commit = self.git(&["rev-parse", "--quiet", "--verify", "HEAD"])?;
        Some(Some(commit.trim().to_owned()).filter(|commit| !commit.is_empty()))
    }

    /// What git says. A git that does not work is an error once, and then left alone unless we were told to be patient.
    fn git(&mut self, words: &[&str]) -> Option<String> {
        let ended = process::run(git(&self.project.root).args(words), GIT_LIMIT, self.stop);
        match &ended.end {
            // `rev-parse --quiet` exits with 1 where there is nothing to find.
            End::Exited(0 | 1) => return Some(ended.stdout),
            End::Stopped => return None,
            End::Exited(_) if ended.stderr.contains("not a git repository") => {
                self.event("not a git repository, so commits are not audited");
            }
            End::NotStarted(error) if error.kind() == io::ErrorKind::NotFound => {
                self.error(ErrorType::Git, "git is not installed, so commits are not audited");
            }
            End::NotStarted(error) => self.error(ErrorType::Git, format_args!("git cannot be run: {error}")),
            _ => self.error(ErrorType::Git, format_args!("git does not work here: {}", ended.last_words())),
        }
        self.repository = self.without_git.clone();
        None
    }

    fn event(&self, what: impl Display) {
        self.console.event("audit", what);
    }

    fn error(&self, error_type: ErrorType, error: impl Display) {
        self.metrics.record_error(error_type);
        self.tally.one(format!(r#"audit_agent_errors_total{{error_type="{}"}}"#, error_type.as_str()));
        self.event(error);
    }
}

fn find_markers(folder: &Path, found: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if is_ignored(&name) {
            continue;
        }
        // Links are not followed, so this ends.
        if entry.file_type()?.is_dir() {
            match find_markers(&entry.path(), found) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result?,
            }
        } else if name.as_encoded_bytes().ends_with(b"_COMPLETE.md") {
            found.insert(entry.path());
        }
    }
    Ok(())
}

enum CoverageError {
    Missing,
    Unreadable(io::Error),
    Malformed(String),
}

/// Percent of the lines found (`LF`) that were hit (`LH`), over all files of an lcov report.
fn coverage(report: &Path) -> Result<f64, CoverageError> {
    let text = fs::read_to_string(report).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => CoverageError::Missing,
        _ => CoverageError::Unreadable(error),
    })?;
    let (mut found, mut hit) = (0_u64, 0_u64);
    for line in text.lines() {
        let (sum, number) = match line.split_once(':') {
            Some(("LF", number)) => (&mut found, number),
            Some(("LH", number)) => (&mut hit, number),
            _ => continue,
        };
        let number: u64 = number.trim().parse().map_err(|_| CoverageError::Malformed(format!("`{line}`")))?;
        *sum = sum.saturating_add(number);
    }
    if found == 0 || hit > found {
        return Err(CoverageError::Malformed(format!("{hit} of {found} lines hit")));
    }
    Ok(hit as f64 / found as f64 * 100.0)
}
