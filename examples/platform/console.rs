//! What a person sees: sections, and one line for each thing that happens.

use std::fmt::Display;
use std::io;
use std::io::Write;
use std::time::{Duration, Instant};

/// Writes to standard output, with the time since the start in front of every event.
pub(crate) struct Console {
    started: Instant,
}

impl Console {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now() }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn section(&self, title: impl Display) {
        write(&format!("\n== {title} =="));
    }

    pub(crate) fn line(&self, text: impl Display) {
        write(&format!("  {text}"));
    }

    pub(crate) fn event(&self, who: &str, what: impl Display) {
        write(&format!("[{:5.1} s] {who:<10} {what}", self.elapsed().as_secs_f64()));
    }
}

fn write(line: &str) {
    // File names and the output of tests are anybody's: what they hold must not steer the terminal.
    let line: String = line.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect();
    // A reader that went away (`| head`) is no reason to stop working.
    let _ = writeln!(io::stdout(), "{line}");
}
