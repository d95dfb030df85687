//! The servers of the end-to-end tests as processes: found, started, waited for, and stopped.
//!
//! ```ignore
//! let Some(bin) = process::require(&["promtool"], "tests/stack/install") else { return };
//! let mut server = Server::spawn(&mut Command::new(bin.join("server")), dir.join("server.log"));
//! let address = server.wait_until_ready(|log| listening_address(log).ok_or("no address in the log".into()));
//! ```
//!
//! The installers beside this file put the programs in place. Whatever goes wrong here panics, as the end of the test
//! that asked; whatever waits has a deadline.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test helper reports to the person who runs the tests, and fails by panicking"
)]

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::iter;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

// The servers are ready within 0.1 s on an idle machine. The rest is for a CI machine that is compiling as well.
const READY_DEADLINE: Duration = Duration::from_secs(30);

// promtool goes through three days of rules in half a minute where nothing else runs; all others take seconds.
const PROCESS_DEADLINE: Duration = Duration::from_secs(300);

// What happens within milliseconds, a process starting or ending, is looked at often.
pub(crate) const PROCESS_POLL: Duration = Duration::from_millis(10);

// What ended a server is in its last few lines; a start that went well takes twenty.
const LOG_TAIL_LINES: usize = 12;

const BIN_VARIABLE: &str = "BAROGRAPH_STACK_BIN";

/// The directory that holds these programs, all of them.
///
/// It is the one that `BAROGRAPH_STACK_BIN` names; without that variable, the one that the installers fill, or else the
/// first on `PATH`.
pub(crate) fn locate(programs: &[&str]) -> Option<PathBuf> {
    let holds_all = |dir: &PathBuf| programs.iter().all(|program| dir.join(program).is_file());
    if let Some(named) = variable(BIN_VARIABLE) {
        // Whoever names a directory means that one. Another would test another version in silence.
        return Some(PathBuf::from(named)).filter(holds_all);
    }
    let path = variable("PATH").unwrap_or_default();
    iter::once(installed("bin")).chain(env::split_paths(&path)).find(holds_all)
}

/// Where the installers put what the end-to-end tests need.
pub(crate) fn installed(what: &str) -> PathBuf {
    let target = variable("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    Path::new(env!("CARGO_MANIFEST_DIR")).join(target).join("stack").join(what)
}

/// Like [`locate`], but says on stderr that the test is skipped when there is none, and which installer helps.
///
/// # Panics
///
/// With `CI=true`, where a test that is skipped in silence would pass for one that ran.
pub(crate) fn require(programs: &[&str], installer: &str) -> Option<PathBuf> {
    let bin = locate(programs);
    if bin.is_none() {
        let programs = programs.join(" and ");
        let reason = match variable(BIN_VARIABLE) {
            Some(named) => format!("{BIN_VARIABLE}={} does not hold {programs}", Path::new(&named).display()),
            None => format!("no directory holds {programs}, neither the one for the tests nor one on PATH"),
        };
        skip(&reason, installer);
    }
    bin
}

/// Says on stderr that the test is skipped, why, and what would help.
///
/// # Panics
///
/// With `CI=true`.
pub(crate) fn skip(reason: &str, installer: &str) {
    assert!(env::var("CI").as_deref() != Ok("true"), "{reason}: run `{installer}` first");
    let test = thread::current().name().unwrap_or("a stack test").to_owned();
    say(&format!("skipped {test}: {reason}; `{installer}` helps"));
}

/// Says something on stderr, past the test harness, which hides what a passing test prints with `eprintln!`.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Runs a process to its end, with this on its stdin: its exit code, none if it was killed, and all that it printed.
#[track_caller]
pub(crate) fn run(command: &mut Command, input: &[u8]) -> (Option<i32>, String) {
    let (output, writer) = io::pipe().expect("a pipe can be made");
    command.stdin(Stdio::piped()).stdout(writer.try_clone().expect("a pipe can be shared")).stderr(writer);
    let mut child = command.spawn().expect("the process can be started");
    // The command holds our ends of the pipe, which would keep it open.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut stdin = child.stdin.take().expect("stdin is piped");

    // A pipe that fills up stops the process, so both are served while it runs.
    thread::scope(|scope| {
        // A process may stop reading at the first line it cannot parse. What it thinks of that is in its output.
        scope.spawn(move || stdin.write_all(input).ok());
        let output = scope.spawn(move || io::read_to_string(output).unwrap_or_default());
        let code = wait_or_kill(&mut child, PROCESS_DEADLINE).expect("a child can be waited for");
        (code, output.join().unwrap_or_default())
    })
}

/// A running server and its log. It ends when this is dropped, and a test that panics shows the end of its log.
#[must_use = "the server ends when this is dropped"]
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    name: String,
    log_path: PathBuf,
}

impl Server {
    #[track_caller]
    pub(crate) fn spawn(command: &mut Command, log_path: PathBuf) -> Self {
        let name = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let log = File::create(&log_path).expect("the log of a server can be made");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a log can be shared")).stderr(log);
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) => panic!("{name} cannot be started: {error}"),
        };
        Self { child, name, log_path }
    }

    /// Waits until this finds in the log that the server is ready; what it then returns, mostly an address.
    ///
    /// It gets whole lines only, because the log is read while it is written, and half a port number is another port.
    #[track_caller]
    pub(crate) fn wait_until_ready<T>(&mut self, ready: impl Fn(&str) -> Result<T, String>) -> T {
        poll(READY_DEADLINE, PROCESS_POLL, || {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                panic!("{} ended before it was ready: {status}", self.name);
            }
            ready(whole_lines(&self.log()))
        })
    }

    /// Waits until it ends by itself; how it ended, none if it had to be killed, and its log.
    #[track_caller]
    pub(crate) fn wait(mut self) -> (Option<i32>, String) {
        let code = wait_or_kill(&mut self.child, PROCESS_DEADLINE).expect("a child can be waited for");
        (code, self.log())
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> String {
        fs::read(&self.log_path).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nobody reads its data again, so it is not asked to close it. Failing here means that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(LOG_TAIL_LINES)..];
            eprintln!("the end of {}:\n{}", self.log_path.display(), tail.join("\n"));
        }
    }
}

/// Repeats the attempt until it succeeds. At the deadline panics with what the last one said.
#[track_caller]
pub(crate) fn poll<T>(deadline: Duration, interval: Duration, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + deadline;
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(reason) if Instant::now() >= end => panic!("gave up after {deadline:?}: {reason}"),
            Err(_) => thread::sleep(interval),
        }
    }
}

fn whole_lines(log: &str) -> &str {
    log.rfind('\n').map_or("", |end| &log[..=end])
}

/// The exit code; none if a signal ended the process, ours at the deadline included.
fn wait_or_kill(child: &mut Child, deadline: Duration) -> io::Result<Option<i32>> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.code());
        }
        if Instant::now() >= end {
            child.kill()?;
        }
        thread::sleep(PROCESS_POLL);
    }
}

/// A variable that is set to nothing counts as not set, as it does for the shell's `${NAME:-...}` in the installer.
fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_still_being_written_is_not_read() {
        assert_eq!(whole_lines("address=127.0.0.1:3639"), "");
        assert_eq!(whole_lines("starting\naddress=127.0.0.1:3639"), "starting\n");
    }
}
