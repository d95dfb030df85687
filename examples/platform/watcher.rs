//! The test watcher: waits until changes settle, finds out what really changed, tests it, and asks the APIs about it.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use barograph_instrumentation_async_bridge::CallError;
use barograph_instrumentation_test_watcher::TestWatcherMetrics;
use barograph_instrumentation_test_watcher::semconv::{Api, ApiStatus, ErrorType, TestStatus};
use notify::Event;

use crate::apis::Apis;
use crate::changes::{Changes, Sha256Hash, sha256};
use crate::client::AskError;
use crate::console::Console;
use crate::flag::Flag;
use crate::process;
use crate::process::End;
use crate::project::Project;
use crate::tally::Tally;

/// Changes have settled when none came for this long.
const QUIET: Duration = Duration::from_millis(200);

/// Something that changes all the time is processed all the same.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// A test that runs longer hangs.
const TEST_LIMIT: Duration = Duration::from_secs(10);

/// How often the watcher looks up from waiting.
const TICK: Duration = Duration::from_millis(100);

const MEMORY_INTERVAL: Duration = Duration::from_secs(1);

pub(crate) struct Watcher<'a> {
    project: &'a Project,
    metrics: TestWatcherMetrics,
    apis: Apis,
    console: &'a Console,
    tally: &'a Tally,
    stop: &'a Flag,
    waiting: BTreeSet<PathBuf>,
    hashes: HashMap<PathBuf, Sha256Hash>,
}

impl<'a> Watcher<'a> {
    pub(crate) fn new(
        project: &'a Project,
        metrics: TestWatcherMetrics,
        apis: Apis,
        console: &'a Console,
        tally: &'a Tally,
        stop: &'a Flag,
    ) -> Self {
        Self { project, metrics, apis, console, tally, stop, waiting: BTreeSet::new(), hashes: HashMap::new() }
    }

    pub(crate) fn run(mut self, changes: Changes) {
        self.metrics.set_running(true);
        let mut memory_measured = None::<Instant>;
        while !self.stop.is_raised() {
            if memory_measured.is_none_or(|at| at.elapsed() >= MEMORY_INTERVAL) {
                self.metrics.update_memory_usage();
                memory_measured = Some(Instant::now());
            }
            match changes.events.recv_timeout(TICK).map(|change| self.note(change)) {
                Ok(true) => {
                    self.settle(&changes);
                    self.process_waiting();
                }
                Ok(false) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.error(ErrorType::Internal, "no more changes are reported");
                    break;
                }
            }
        }
        self.metrics.set_running(false);
        self.tally.set("test_watcher_is_running", 0.0);
    }

    /// Takes note of a change, and returns whether it concerns us.
    fn note(&mut self, change: notify::Result<Event>) -> bool {
        let event = match change {
            Ok(event) => event,
            Err(error) => {
                self.error(ErrorType::Io, error);
                return false;
            }
        };
        if event.need_rescan() {
            self.error(ErrorType::Io, "changes came too fast, some are lost");
        }
        // We read files ourselves, to hash them.
        if event.kind.is_access() {
            return false;
        }
        let mut concerns_us = false;
        for path in &event.paths {
            if *path == self.project.root && !path.exists() {
                self.error(ErrorType::Io, "the watched directory is gone");
            }
            let Some(file) = self.project.file(path) else {
                continue;
            };
            if path.symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
                concerns_us = true;
                self.waiting.insert(file);
            } else {
                // Removed, or nothing that can be tested.
                self.waiting.remove(&file);
                self.hashes.remove(&file);
            }
        }
        self.update_waiting();
        concerns_us
    }

    /// Waits for the end of a burst: an editor that saves one file makes several changes.
    fn settle(&mut self, changes: &Changes) {
        let debounce = self.metrics.time_debounce();
        let begun = Instant::now();
        let mut last_change = begun;
        while begun.elapsed() < LONGEST_WAIT {
            let left = QUIET.saturating_sub(last_change.elapsed());
            match changes.events.recv_timeout(left).map(|change| self.note(change)) {
                Ok(true) => last_change = Instant::now(),
                Ok(false) => {}
                Err(_) => break,
            }
        }
        debounce.stop();
        self.tally.one("test_watcher_debounce_duration_seconds_count");
    }

    fn process_waiting(&mut self) {
        while !self.stop.is_raised()
            && let Some(file) = self.waiting.pop_first()
        {
            self.process(&file);
            self.update_waiting();
        }
    }

    fn process(&mut self, file: &Path) {
        let processing = self.metrics.time_processing();
        let hash = match sha256(&self.project.root.join(file)) {
            Ok(hash) => hash,
            Err(error) => {
                processing.discard();
                // A file that was removed meanwhile is no error.
                if error.kind() != io::ErrorKind::NotFound {
                    self.error(ErrorType::Io, format_args!("{}: {error}", file.display()));
                }
                return;
            }
        };
        if self.hashes.insert(file.to_owned(), hash) == Some(hash) {
            processing.discard();
            self.console.event("watcher", format_args!("{}: saved, but not changed", file.display()));
            return;
        }
        let Some(verdict) = self.test(file) else {
            processing.discard();
            return;
        };
        self.consult(file, &verdict);
        processing.stop();
        self.tally.one("test_watcher_processing_duration_seconds_count");
        self.metrics.record_file_processed();
        self.tally.one("test_watcher_files_processed_total");
    }

    /// Runs the test command as a process of its own; nothing if the program ended meanwhile.
    fn test(&self, file: &Path) -> Option<Verdict> {
        let run = self.metrics.start_run();
        let ended = process::run(&mut self.project.test_command.of(&self.project.root, file), TEST_LIMIT, self.stop);
        let mut last_words = ended.last_words().to_owned();
        let status = match ended.end {
            End::Exited(0) => TestStatus::Pass,
            End::Exited(_) => TestStatus::Fail,
            End::Killed(signal) => {
                last_words = signal;
                TestStatus::Error
            }
            End::TimedOut => {
                last_words = format!("killed after {TEST_LIMIT:?}");
                TestStatus::Error
            }
            End::Flooded => {
                last_words = "killed, it wrote too much".to_owned();
                TestStatus::Error
            }
            End::NotStarted(error) => {
                last_words = format!("cannot run `{}`: {error}", self.project.test_command);
                TestStatus::Error
            }
            End::Stopped => {
                // Dropped and not finished: the run counts as an error, its duration as cancelled.
                drop(run);
                self.count_run("error", "cancelled");
                self.console.event("watcher", format_args!("{}: stopped, because the program ends", file.display()));
                return None;
            }
        };
        let took = run.finish(status);
        self.count_run(status.as_str(), status.as_str());
        let verdict = format!("{}: {} in {} ms", file.display(), status.as_str(), took.as_millis());
        match status {
            TestStatus::Pass => self.console.event("watcher", verdict),
            _ => self.console.event("watcher", format_args!("{verdict}: {last_words}")),
        }
        if status == TestStatus::Error {
            self.metrics.record_error(ErrorType::Test);
            self.tally.one(r#"test_watcher_errors_total{error_type="test"}"#);
        }
        Some(Verdict { status, last_words })
    }

    /// Asks about every change what to think of it, and about a failure what is known about it.
    fn consult(&self, file: &Path, verdict: &Verdict) {
        if self.stop.is_raised() {
            return;
        }
        let question =
            format!("{} changed, its tests: {}. What do you think?", file.display(), verdict.status.as_str());
        let analysis = self.apis.analyse(question.clone());
        self.note_answer(Api::DeepSeek, &analysis);
        if matches!(analysis, Err(CallError::Failed(AskError::Status(_)))) {
            self.note_answer(Api::Other, &self.apis.analyse_by_backup(question));
        }
        if verdict.status != TestStatus::Pass {
            self.note_answer(Api::Perplexity, &self.apis.search(verdict.last_words.clone()));
        }
    }

    /// Records a call as the watcher sees it: by whether it got what it asked for in time.
    fn note_answer(&self, api: Api, answer: &Result<String, CallError<AskError>>) {
        let name = if api == Api::Other { "backup" } else { api.as_str() };
        let status = match answer {
            Ok(_) => ApiStatus::Success,
            Err(CallError::Failed(AskError::RateLimited)) => ApiStatus::RateLimited,
            Err(CallError::Failed(error)) if error.is_timeout() => ApiStatus::Timeout,
            Err(CallError::TimedOut { .. }) => ApiStatus::Timeout,
            Err(_) => ApiStatus::Error,
        };
        self.metrics.record_api_call(api, status);
        let labels = format!(r#"api="{}",status="{}""#, api.as_str(), status.as_str());
        self.tally.one(format!("test_watcher_api_calls_total{{{labels}}}"));
        match answer {
            Ok(headline) => self.console.event(name, headline),
            // The API only asked us to slow down.
            Err(CallError::Failed(error @ AskError::RateLimited)) => self.console.event(name, error),
            Err(CallError::Failed(error)) => self.count_error(ErrorType::Api, name, error),
            Err(error @ CallError::TimedOut { .. }) => self.count_error(ErrorType::Api, name, error),
            Err(error) => self.count_error(ErrorType::Internal, name, error),
        }
    }

    fn update_waiting(&self) {
        let waiting = self.waiting.len();
        self.metrics.update_changed_files_count(waiting as i64);
        self.tally.set("test_watcher_changed_files_current", waiting as f64);
    }

    fn error(&self, error_type: ErrorType, error: impl Display) {
        self.count_error(error_type, "watcher", error);
    }

    fn count_error(&self, error_type: ErrorType, who: &str, error: impl Display) {
        self.metrics.record_error(error_type);
        self.tally.one(format!(r#"test_watcher_errors_total{{error_type="{}"}}"#, error_type.as_str()));
        self.console.event(who, error);
    }

    fn count_run(&self, status: &str, execution_status: &str) {
        self.tally.one(format!(r#"test_watcher_tests_run_total{{status="{status}"}}"#));
        let duration = "test_watcher_test_execution_duration_seconds_count";
        self.tally.one(format!(r#"{duration}{{status="{execution_status}"}}"#));
    }
}

/// How a test ended, and what it said last.
struct Verdict {
    status: TestStatus,
    last_words: String,
}
