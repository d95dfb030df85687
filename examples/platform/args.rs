//! The command line, parsed once: what comes out of here needs no further checks.

use std::error::Error;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use barograph::config::LivePage;
use clap::Parser;

use crate::duration::duration;

/// Watches a project, tests what changes, asks APIs about it and audits it, and shows all that as metrics.
#[derive(Parser)]
#[command(name = "platform")]
pub(crate) struct Args {
    /// The project to watch; it is only read. Without it, a scratch copy of a sample project that changes by itself.
    dir: Option<PathBuf>,

    /// End after this time (500ms, 30s, 2m, 1h); the last seconds of it are quiet. Without it, Ctrl-C ends.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub(crate) duration: Option<Duration>,

    /// Where the metrics are served, whatever the environment says: HOST:PORT, unix:/path/of/socket, or systemd. May be
    /// given several times.
    #[arg(long, value_name = "ADDR", conflicts_with_all = ["host", "port"])]
    listen: Vec<String>,

    /// Asks for TLS and credentials, by a web configuration file as Prometheus' exporters have it. Needs the feature
    /// web-config.
    #[arg(long, value_name = "FILE")]
    pub(crate) web_config: Option<PathBuf>,

    /// Serve /debug/metrics: why each metric is named as it is, and why one is missing.
    #[arg(long)]
    pub(crate) debug_page: bool,

    /// Make every fault happen again and again, a few seconds apart: in the APIs, the tests, the audits, the bridge and the
    /// metrics pipeline itself. For trying dashboards and alerts; a directory of yours is not touched.
    #[arg(long)]
    pub(crate) chaos: bool,

    /// Who sees the live page at `/`: browsers on this machine (loopback), anyone who reaches it, or nobody (off).
    #[arg(long, value_name = "WHO", value_parser = live_page, default_value = "loopback")]
    pub(crate) live_page: LivePage,

    /// Go on serving for this time once everything has ended, so that the last values are scraped.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) linger: Option<Duration>,

    /// The host they are served at.
    #[arg(long)]
    host: Option<String>,

    /// The port they are served at; 0 lets the system choose.
    #[arg(long)]
    port: Option<u16>,

    /// Tests one changed file, named by {file}: 0 passes, another exit code fails, a signal is an error. No shell is
    /// involved, words end at blanks. Defaults to `sh check.sh {file}` where the project has a check.sh.
    #[arg(long, value_name = "CMD")]
    test_command: Option<String>,

    /// Write the final value of every series here, as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json_summary: Option<PathBuf>,
}

impl Args {
    /// The addresses of the scrape endpoint; none where the command line does not say.
    pub(crate) fn addresses(&self) -> Vec<String> {
        if self.host.is_none() && self.port.is_none() {
            return self.listen.clone();
        }
        let (host, port) = (self.host.as_deref().unwrap_or("127.0.0.1"), self.port.unwrap_or(9464));
        // An IPv6 address has colons of its own.
        let needs_brackets = host.contains(':') && !host.starts_with('[');
        vec![if needs_brackets { format!("[{host}]:{port}") } else { format!("{host}:{port}") }]
    }

    /// The directory the user named, if there is one.
    pub(crate) fn dir(&self) -> Result<Option<PathBuf>, UsageError> {
        let Some(dir) = &self.dir else {
            return Ok(None);
        };
        let dir = dir.canonicalize().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => UsageError::new("cannot watch", dir, "it does not exist"),
            kind => UsageError::new("cannot watch", dir, kind),
        })?;
        if !dir.is_dir() {
            return Err(UsageError::new("cannot watch", &dir, "it is not a directory"));
        }
        Ok(Some(dir))
    }

    /// The command that tests a file of the project in `root`.
    pub(crate) fn test_command(&self, root: &Path) -> Result<TestCommand, UsageError> {
        let text = match &self.test_command {
            Some(text) => text,
            None if root.join("check.sh").is_file() => "sh check.sh {file}",
            None => return Err(UsageError::new("no check.sh in", root, "say how to test with --test-command")),
        };
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        if words.is_empty() {
            return Err(UsageError("--test-command is empty".to_owned()));
        }
        Ok(TestCommand { words })
    }

    /// Whether the summary will have a place to go, found out before any work is done.
    pub(crate) fn check_json_summary(&self) -> Result<(), UsageError> {
        let Some(file) = &self.json_summary else {
            return Ok(());
        };
        // The parent of a bare file name is the empty path.
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let cannot = |why: &dyn fmt::Display| UsageError::new("cannot write the summary to", file, why);
        if file.is_dir() {
            return Err(cannot(&"it is a directory"));
        }
        if !folder.is_dir() {
            return Err(cannot(&"its directory does not exist"));
        }
        // Gone again at once.
        tempfile::Builder::new().prefix(".platform-").tempfile_in(folder).map_err(|error| cannot(&error.kind()))?;
        Ok(())
    }
}

/// Tests one file.
pub(crate) struct TestCommand {
    words: Vec<String>,
}

impl TestCommand {
    /// The process that tests `file`, a path below `root`.
    pub(crate) fn of(&self, root: &Path, file: &Path) -> Command {
        // With `./` in front no file name is taken for an option.
        let file = Path::new(".").join(file);
        let mut words = self.words.iter().map(|word| with_file(word, &file));
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).current_dir(root);
        command
    }
}

impl fmt::Display for TestCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words.join(" "))
    }
}

fn with_file(word: &str, file: &Path) -> OsString {
    let mut parts = word.split("{file}");
    let mut text = OsString::from(parts.next().unwrap_or_default());
    for part in parts {
        text.push(file);
        text.push(part);
    }
    text
}

/// The command line asks for something that cannot be done.
#[derive(Debug)]
pub(crate) struct UsageError(String);

impl UsageError {
    fn new(what: &str, path: &Path, why: impl fmt::Display) -> Self {
        Self(format!("{what} {}: {why}", path.display()))
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for UsageError {}

fn live_page(text: &str) -> Result<LivePage, String> {
    match text {
        "loopback" => Ok(LivePage::Loopback),
        "anyone" => Ok(LivePage::Anyone),
        "off" => Ok(LivePage::Off),
        _ => Err("it is loopback, anyone or off".to_owned()),
    }
}
