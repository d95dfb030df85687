//! Reads periodically and pushes, on a thread of its own with a reactor of its own.
//!
//! The SDK's periodic reader does not keep the deadline of a shutdown, and what it pushes with depends on the caller's
//! runtime. Specification: "Periodic exporting MetricReader" in the metrics SDK document.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc as blocking;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{io, mem};

use opentelemetry_sdk::metrics::ManualReader;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::reader::MetricReader;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{Again, Exported, Failure, PushExporter, points, too_late};
use crate::guard::{Callbacks, Exemplars, PATIENCE, Round, Watch};
use crate::runtime;
use crate::self_metrics::{ExportMetrics, Points, Reason};

/// Flushes that are asked for while a collection runs; then they are taken, and those forgotten whose callers have left.
const MAX_WAITING: usize = 1_024;

/// As long as a receiver can have us wait: it might mean centuries.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// As often a log line says that exports fail.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// What a periodic reader is made of.
pub(crate) struct Periodic {
    pub(crate) reader: Arc<ManualReader>,
    pub(crate) watch: Watch,
    pub(crate) callbacks: Arc<Callbacks>,
    /// Whether what was not delivered is part of what is collected next.
    pub(crate) is_cumulative: bool,
    /// Whether observable counters are collected as differences.
    pub(crate) has_differences: bool,
    pub(crate) exporter: PushExporter,
    pub(crate) interval: Duration,
    pub(crate) timeout: Option<Duration>,
    pub(crate) metrics: ExportMetrics,
}

/// Tells the thread that reads and pushes what to do.
#[derive(Debug)]
pub(crate) struct Pusher {
    flushes: mpsc::Sender<Command>,
    /// A place of its own: no number of flushes keeps the end out.
    end: mpsc::Sender<Command>,
    running: Arc<Running>,
    /// The exporter and where it pushes to, as errors name it.
    name: String,
}

/// The callbacks that run for an export: the thread hears nothing meanwhile.
type Running = Mutex<Option<Arc<Round>>>;

struct Command {
    /// Whether this is the last one.
    ends: bool,
    until: Instant,
    done: blocking::Sender<Result<(), String>>,
}

/// Waits for an export that was asked for.
#[derive(Debug)]
pub(crate) struct Wait {
    done: Result<blocking::Receiver<Result<(), String>>, String>,
    name: String,
}

impl Wait {
    /// Why the export failed, if it did.
    pub(crate) fn until(self, until: std::time::Instant) -> Result<(), String> {
        let left = until.saturating_duration_since(std::time::Instant::now());
        let result = match self.done {
            Ok(done) => done.recv_timeout(left).unwrap_or_else(|error| {
                Err(match error {
                    blocking::RecvTimeoutError::Timeout => "the deadline came first".to_owned(),
                    blocking::RecvTimeoutError::Disconnected => "its thread has ended".to_owned(),
                })
            }),
            Err(reason) => Err(reason),
        };
        result.map_err(|reason| format!("{}: {reason}", self.name))
    }
}

impl Pusher {
    /// Starts the thread. It ends when it is told to, or when this is dropped.
    pub(crate) fn start(periodic: Periodic) -> io::Result<Self> {
        let (flushes, asked) = mpsc::channel(MAX_WAITING);
        let (end, ended) = mpsc::channel(1);
        let name = format!("{} to {}", periodic.exporter.name(), periodic.exporter.target());
        let commands = Commands { flushes: asked, end: ended };
        let running = Arc::new(Running::default());
        let worker = Worker::new(periodic, Arc::clone(&running));
        runtime::spawn_async("barograph-export", move || worker.run(commands))?;
        Ok(Self { flushes, end, running, name })
    }

    /// Collects and pushes now, and returns at once. With `ends` it is the last time.
    pub(crate) fn push(&self, ends: bool, until: std::time::Instant) -> Wait {
        let (done, is_done) = blocking::channel();
        let command = Command { ends, until: until.into(), done };
        let sent = if ends { &self.end } else { &self.flushes }.try_send(command).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => format!("{MAX_WAITING} others wait for a flush already"),
            mpsc::error::TrySendError::Closed(_) => "its thread has ended".to_owned(),
        });
        if ends && let Some(round) = &*self.running.lock().unwrap_or_else(PoisonError::into_inner) {
            let now = std::time::Instant::now();
            // The rest is for what this export has, and for the last one.
            round.shorten(now + until.saturating_duration_since(now) / 4);
        }
        Wait { done: sent.map(|()| is_done), name: self.name.clone() }
    }
}

/// What the thread is told.
struct Commands {
    flushes: mpsc::Receiver<Command>,
    end: mpsc::Receiver<Command>,
}

impl Commands {
    /// The next one, the end before all others. `None` if nobody can tell it anything any more.
    async fn recv(&mut self) -> Option<Command> {
        tokio::select! {
            biased;
            Some(command) = self.end.recv() => Some(command),
            command = self.flushes.recv() => command,
        }
    }

    fn try_recv(&mut self) -> Option<Command> {
        self.end.try_recv().or_else(|_| self.flushes.try_recv()).ok()
    }
}

/// The thread's own.
struct Worker {
    periodic: Periodic,
    running: Arc<Running>,
    log: Log,
    data: ResourceMetrics,
    exemplars: Exemplars,
    /// How far the last export got.
    exported: Exported,
    /// When it began.
    begun: Instant,
    /// When the receiver wants to hear from us again.
    not_before: Option<Instant>,
    /// Somebody waits: what is to be tried again is tried now.
    hurry: Arc<Notify>,
}

impl Worker {
    fn new(periodic: Periodic, running: Arc<Running>) -> Self {
        let log = Log::new(periodic.exporter.target());
        let (data, exemplars, exported) = (ResourceMetrics::default(), Exemplars::default(), Exported::default());
        let begun = Instant::now();
        Self { periodic, running, log, data, exemplars, exported, begun, not_before: None, hurry: Arc::default() }
    }

    async fn run(mut self, mut commands: Commands) {
        let mut next = Instant::now() + self.periodic.interval;
        // Who waits for the next export: one is the answer to all of them.
        let mut asked = Vec::new();
        loop {
            if asked.is_empty() {
                tokio::select! {
                    biased;
                    command = commands.recv() => match command {
                        Some(command) => asked.push(command),
                        // The pipeline is gone, and nobody waits for a last export.
                        None => return,
                    },
                    () = sleep_until(next) => {}
                }
            }
            while let Some(command) = commands.try_recv() {
                asked.push(command);
            }
            let now = Instant::now();
            // Who asked for a flush may have left meanwhile.
            asked.retain(|command| command.ends || command.until > now);
            if asked.is_empty() && now < next {
                continue;
            }
            if now >= next {
                // A slow export does not make the next ones come thick and fast.
                next = (next + self.periodic.interval).max(now);
            }
            let Some(result) = self.export_while_asked(now, &mut asked, &mut commands).await else {
                continue;
            };
            next = self.not_before.take().map_or(next, |not_before| next.max(not_before));
            let is_last = asked.iter().any(|command| command.ends);
            for command in asked.drain(..) {
                let _ = command.done.send(result.clone());
            }
            if is_last {
                return;
            }
        }
    }

    /// Exports, and hears meanwhile who wants another export, or the end. `None` says that another must follow.
    ///
    /// Whoever asks has what waits to be tried again tried at once. The end, and a flush where nobody waits for this export
    /// yet, has what is cumulative given up: the next export has it all. What is not cumulative is delivered before the end, for
    /// half of the time that is left.
    async fn export_while_asked(
        &mut self,
        now: Instant,
        asked: &mut Vec<Command>,
        commands: &mut Commands,
    ) -> Option<Result<(), String>> {
        let last = asked.iter().find(|command| command.ends).map(|command| command.until);
        let until = last.unwrap_or_else(|| {
            let flushes = asked.iter().map(|command| command.until).max();
            let timeout = self.periodic.timeout.and_then(|timeout| now.checked_add(timeout));
            flushes.into_iter().chain(timeout).min().unwrap_or_else(|| far_from(now))
        });
        if last.is_some() {
            return Some(self.export(until).await);
        }
        let is_cumulative = self.periodic.is_cumulative;
        let hurry = Arc::clone(&self.hurry);
        let mut later: Vec<Command> = Vec::new();
        let mut given_up_at = None;
        let result = {
            let export = self.export(until);
            tokio::pin!(export);
            loop {
                tokio::select! {
                    result = &mut export => break Some(result),
                    Some(command) = commands.recv() => {
                        hurry.notify_one();
                        let now = Instant::now();
                        if is_cumulative && (command.ends || asked.is_empty()) {
                            given_up_at = Some(now);
                        } else if command.ends {
                            given_up_at = Some(now + command.until.saturating_duration_since(now) / 2);
                        }
                        // Who asked for a flush may have left meanwhile.
                        later.retain(|command| command.until > now);
                        later.push(command);
                    }
                    () = sleep_until(given_up_at.unwrap_or(until)), if given_up_at.is_some() => break None,
                }
            }
        };
        if result.is_none() && !is_cumulative {
            self.count(&Err(too_late()));
        }
        match result {
            // The next export answers those who asked before, too.
            None => asked.extend(later),
            Some(result) if later.is_empty() => return Some(result),
            Some(result) => {
                for command in mem::replace(asked, later) {
                    let _ = command.done.send(result.clone());
                }
            }
        }
        None
    }

    async fn export(&mut self, until: Instant) -> Result<(), String> {
        self.exported = Exported::default();
        self.begun = Instant::now();
        let result = match self.collect(until.into_std()) {
            Ok(()) => {
                let export =
                    self.periodic.exporter.export(&self.data, &self.exemplars, until, &self.hurry, &mut self.exported);
                timeout_at(until, export).await.unwrap_or_else(|_| Err(too_late()))
            }
            Err(failure) => Err(failure),
        };
        self.count(&result);
        result.map_err(|failure| failure.message)
    }

    /// Counts what became of the export, and says so if it is news.
    fn count(&mut self, result: &Result<(), Failure>) {
        let Exported { delivered, rejected, message } = &self.exported;
        let lost = points(&self.data).saturating_sub(delivered + rejected);
        let failure = match result {
            Ok(()) if *rejected > 0 => Some(Reason::Rejected),
            Ok(()) => None,
            Err(failure) => Some(failure.reason),
        };
        let points = Points { delivered: *delivered, rejected: *rejected, lost };
        self.periodic.metrics.ended(points, self.begun.elapsed(), failure);
        match result {
            Ok(()) if *rejected > 0 => {
                self.log.failed(&format!("{rejected} points were rejected: {message}"));
            }
            Ok(()) => {
                if !message.is_empty() {
                    self.log.warned(message);
                }
                self.log.succeeded();
            }
            Err(failure) => {
                self.log.failed(&failure.message);
                if let Again::Later(Some(delay)) = failure.again {
                    self.not_before = Some(Instant::now() + delay.min(LONGEST_PAUSE));
                }
            }
        }
    }

    fn collect(&mut self, until: std::time::Instant) -> Result<(), Failure> {
        let failed = |message| Failure { reason: Reason::Collect, message, again: Again::Later(None) };
        let now = std::time::Instant::now();
        // Half of the time is for delivering what there is: what is collected as a difference is collected once.
        let round = self.periodic.callbacks.round(now + (until.saturating_duration_since(now) / 2).min(PATIENCE));
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&round));
        self.periodic.callbacks.run(&round, None);
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = None;
        // Empty where the SDK panics half way.
        let mut data = mem::take(&mut self.data);
        // Callbacks are guarded; this is for a panic in the SDK itself, which must not end the thread.
        let collected = catch_unwind(AssertUnwindSafe(|| {
            let collect = || self.periodic.reader.collect(&mut data);
            self.periodic.callbacks.show(&round, self.periodic.has_differences, collect)
        }));
        match collected {
            Ok(Ok(())) => {
                self.periodic.metrics.collected(now.elapsed());
                self.periodic.watch.look(&data, None);
                self.exemplars = self.periodic.watch.exemplars(&data);
                self.data = data;
                Ok(())
            }
            Ok(Err(error)) => Err(failed(format!("cannot collect: {error}"))),
            Err(_) => Err(failed("cannot collect: the SDK panicked".to_owned())),
        }
    }
}

/// What is as good as no deadline, and can be added to a point in time.
fn far_from(now: Instant) -> Instant {
    now + Duration::from_secs(365 * 24 * 60 * 60)
}

/// Says that exports fail, and that they succeed again: once in a while, however often that changes.
struct Log {
    target: String,
    failures: u64,
    unlogged: u64,
    last_failure: Option<Instant>,
    last_warning: Option<Instant>,
    /// Whether the last line says that exports fail.
    says_failing: bool,
}

impl Log {
    fn new(target: String) -> Self {
        Self { target, failures: 0, unlogged: 0, last_failure: None, last_warning: None, says_failing: false }
    }

    fn failed(&mut self, reason: &str) {
        self.failures += 1;
        if !is_due(&mut self.last_failure) {
            self.unlogged += 1;
            return;
        }
        self.says_failing = true;
        let (failures, unlogged) = (self.failures, mem::take(&mut self.unlogged));
        tracing::warn!(failures, unlogged, "metrics could not be pushed to {}: {reason}", self.target);
    }

    fn warned(&mut self, message: &str) {
        if is_due(&mut self.last_warning) {
            tracing::warn!("{} took the metrics and warns: {message}", self.target);
        }
    }

    fn succeeded(&mut self) {
        let failures = mem::take(&mut self.failures);
        if mem::take(&mut self.says_failing) {
            tracing::info!(failures, "metrics are pushed to {} again", self.target);
        }
    }
}

fn is_due(last: &mut Option<Instant>) -> bool {
    let now = Instant::now();
    let is_due = last.is_none_or(|last| now.duration_since(last) >= LOG_EVERY);
    if is_due {
        *last = Some(now);
    }
    is_due
}
