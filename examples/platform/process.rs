//! Runs a command as a real process: with a time limit, with its output, and without leaving anything behind.

use std::fs::File;
use std::io;
use std::io::{Read, Seek, SeekFrom};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::flag::Flag;

/// How a process ended.
pub(crate) enum End {
    Exited(i32),
    /// Killed by a signal; the text says by which.
    Killed(String),
    TimedOut,
    /// Killed because it wrote without end.
    Flooded,
    /// Killed because the program ends.
    Stopped,
    /// It never ran.
    NotStarted(io::Error),
}

/// A process that has ended, and the last it wrote.
pub(crate) struct Ended {
    pub(crate) end: End,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// The last line that the process wrote, to standard error if there is one.
    pub(crate) fn last_words(&self) -> &str {
        let mut lines = self.stdout.lines().chain(self.stderr.lines()).map(str::trim);
        lines.rfind(|line| !line.is_empty()).unwrap_or_default()
    }
}

/// Runs `command` until it ends, `limit` has passed or `stop` is raised.
pub(crate) fn run(command: &mut Command, limit: Duration, stop: &Flag) -> Ended {
    match try_run(command, limit, stop) {
        Ok(ended) => ended,
        Err(error) => Ended { end: End::NotStarted(error), stdout: String::new(), stderr: String::new() },
    }
}

fn try_run(command: &mut Command, limit: Duration, stop: &Flag) -> io::Result<Ended> {
    // Files rather than pipes: nobody has to read along, however much is written.
    let (stdout, stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
    command.stdin(Stdio::null()).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
    own_group(command);
    let mut child = command.spawn()?;
    let is_flooded = || [&stdout, &stderr].iter().any(|file| file.metadata().is_ok_and(|file| file.len() > MAX_OUTPUT));
    let end = wait(&mut child, limit, stop, is_flooded);
    Ok(Ended { end, stdout: tail(stdout)?, stderr: tail(stderr)? })
}

/// More than any test has to say, and little beside a disk.
const MAX_OUTPUT: u64 = 64 * 1024 * 1024;

/// Short beside any test, long enough to cost nothing.
const POLL: Duration = Duration::from_millis(5);

fn wait(child: &mut Child, limit: Duration, stop: &Flag, is_flooded: impl Fn() -> bool) -> End {
    let started = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.code().map_or_else(|| End::Killed(status.to_string()), End::Exited),
            Ok(None) => {}
            Err(error) => {
                kill(child);
                return End::NotStarted(error);
            }
        }
        let end = if started.elapsed() >= limit {
            End::TimedOut
        } else if is_flooded() {
            End::Flooded
        } else if stop.wait(POLL) {
            End::Stopped
        } else {
            continue;
        };
        kill(child);
        return end;
    }
}

/// A group of its own can be killed with all that the process has started, and a Ctrl-C at the terminal does not
/// reach it: how a test ends is for us to say.
fn own_group(command: &mut Command) {
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    #[cfg(not(unix))]
    let _ = command;
}

fn kill(child: &mut Child) {
    if cfg!(unix) {
        // The standard library can signal a process, but not a group.
        let group = format!("-{}", child.id());
        let _ = Command::new("kill").args(["-s", "KILL", "--", &group]).stderr(Stdio::null()).status();
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// The end of a file, which is all that is shown of an output.
fn tail(mut file: File) -> io::Result<String> {
    const BYTES: u64 = 4096;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(BYTES)))?;
    let mut bytes = Vec::new();
    file.take(BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
