//! Somebody who works on the scratch copy, so that there is something to watch: edits, mistakes, commits.

use std::fs;
use std::io;
use std::time::Duration;

use crate::console::Console;
use crate::flag::Flag;
use crate::process;
use crate::process::End;
use crate::project::{GIT_LIMIT, Project, git, original};

/// Time to think between two steps.
const PACE: Duration = Duration::from_millis(900);

/// One thing that a developer does.
pub(crate) enum Step {
    /// Changes a file without harm.
    Edit(&'static str),
    /// Saves a file as it is.
    Save(&'static str),
    /// Replaces the first text by the second: a mistake, which the next edit of the file mends.
    Break(&'static str, &'static str, &'static str),
    /// Makes the file's test die by a signal, until its next edit.
    Crash(&'static str),
    /// Changes every source at once.
    EditAll,
    /// Commits whatever has changed.
    Commit,
    /// Writes that a phase of the work is complete.
    Mark,
    /// Writes a coverage report with so many of 40 lines hit.
    Measure(u32),
    /// Writes a coverage report and is interrupted.
    MeasureBadly,
    /// Replaces the coverage report by a directory, which the next report removes.
    MisplaceReport,
    /// Makes git's settings unreadable.
    BreakGit,
    /// Makes them readable again.
    MendGit,
}

/// What happens, over and over.
pub(crate) const SCRIPT: &[Step] = &[
    Step::Edit("src/add.sh"),
    Step::Break("src/median.sh", " | sort -n", ""),
    Step::Save("src/median.sh"),
    Step::Edit("src/median.sh"),
    Step::Commit,
    Step::Crash("src/greet.sh"),
    Step::Measure(31),
    Step::Edit("src/greet.sh"),
    Step::Mark,
    Step::Break("src/add.sh", "$1 + $2", "$1 - $2"),
    Step::EditAll,
    Step::MeasureBadly,
    Step::Break("src/greet.sh", "Hello", "Helo"),
    Step::Edit("src/greet.sh"),
    Step::Commit,
    Step::Measure(36),
];

/// Where the coverage report is.
const REPORT: &str = "lcov.info";

const SOURCES: &[&str] = &["src/add.sh", "src/greet.sh", "src/median.sh"];

pub(crate) struct Developer<'a> {
    pub(crate) project: &'a Project,
    pub(crate) console: &'a Console,
    pub(crate) stop: &'a Flag,
    pub(crate) script: &'static [Step],
    pub(crate) phases: usize,
}

impl Developer<'_> {
    pub(crate) fn run(mut self) {
        for (number, step) in self.script.iter().cycle().enumerate() {
            if self.stop.wait(PACE) {
                return;
            }
            if let Err(error) = self.take(step, number) {
                self.say(format!("cannot go on: {error}"));
                return;
            }
        }
    }

    fn take(&mut self, step: &Step, number: usize) -> io::Result<()> {
        match *step {
            Step::Edit(file) => {
                self.say(format!("edits {file}"));
                self.edit(file, number)
            }
            Step::Save(file) => {
                self.say(format!("saves {file} as it is"));
                let path = self.project.root.join(file);
                fs::write(&path, fs::read(&path)?)
            }
            Step::Break(file, right, wrong) => {
                self.say(format!("makes a mistake in {file}"));
                let path = self.project.root.join(file);
                fs::write(&path, fs::read_to_string(&path)?.replace(right, wrong))
            }
            Step::Crash(file) => {
                self.say(format!("lets {file} crash"));
                fs::write(self.project.root.join(file), format!("{}kill -s SEGV $$\n", original(file)))
            }
            Step::EditAll => {
                self.say("edits every source".to_owned());
                SOURCES.iter().try_for_each(|file| self.edit(file, number))
            }
            Step::Commit => {
                self.commit();
                Ok(())
            }
            Step::Mark => {
                self.phases += 1;
                let marker = format!("PHASE_{}_COMPLETE.md", self.phases);
                self.say(format!("writes {marker}"));
                fs::write(self.project.root.join(marker), "All that was planned is done.\n")
            }
            Step::Measure(hit) => {
                self.say("measures the coverage".to_owned());
                self.report(&format!("TN:\nSF:src\nLF:40\nLH:{hit}\nend_of_record\n"))
            }
            Step::MeasureBadly => {
                self.say("is interrupted while measuring the coverage".to_owned());
                self.report("TN:\nSF:src\nLF:")
            }
            Step::MisplaceReport => {
                self.say("puts a directory where the coverage report was".to_owned());
                fs::remove_file(self.project.root.join(REPORT))?;
                fs::create_dir(self.project.root.join(REPORT))
            }
            Step::BreakGit => {
                self.say("breaks git's settings".to_owned());
                fs::rename(self.project.root.join(".git/config"), self.project.root.join(".git/config.whole"))?;
                fs::write(self.project.root.join(".git/config"), "[")
            }
            Step::MendGit => {
                self.say("mends git's settings".to_owned());
                fs::rename(self.project.root.join(".git/config.whole"), self.project.root.join(".git/config"))
            }
        }
    }

    /// The file as it should be, with a remark that makes it a new one.
    fn edit(&self, file: &str, number: usize) -> io::Result<()> {
        let text = original(file);
        fs::write(self.project.root.join(file), format!("{text}# Revision {number}.\n"))
    }

    fn report(&self, text: &str) -> io::Result<()> {
        let report = self.project.root.join(REPORT);
        if report.is_dir() {
            fs::remove_dir(&report)?;
        }
        fs::write(report, text)
    }

    fn commit(&self) {
        for words in [&["add", "--all"][..], &["commit", "-q", "-m", "Work in progress"]] {
            let ended = process::run(git(&self.project.root).args(words), GIT_LIMIT, self.stop);
            match ended.end {
                End::Exited(0) => {}
                // The audit says that there is no git.
                End::NotStarted(_) | End::Stopped => return,
                _ => return self.say(format!("cannot commit: {}", ended.last_words())),
            }
        }
        self.say("commits".to_owned());
    }

    fn say(&self, what: String) {
        self.console.event("developer", what);
    }
}
