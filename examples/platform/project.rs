//! The project that is watched: the user's, or a scratch copy of the sample in `sample/`.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::args::{Args, TestCommand};
use crate::flag::Flag;
use crate::process;

/// The files of the sample.
const SAMPLE: &[(&str, &str)] = &[
    ("README.md", include_str!("sample/README.md")),
    ("check.sh", include_str!("sample/check.sh")),
    ("lcov.info", include_str!("sample/lcov.info")),
    ("src/add.sh", include_str!("sample/src/add.sh")),
    ("src/greet.sh", include_str!("sample/src/greet.sh")),
    ("src/median.sh", include_str!("sample/src/median.sh")),
    ("tests/add_test.sh", include_str!("sample/tests/add_test.sh")),
    ("tests/greet_test.sh", include_str!("sample/tests/greet_test.sh")),
    ("tests/median_test.sh", include_str!("sample/tests/median_test.sh")),
];

/// Long for a small repository, and an end for a git that waits for something.
pub(crate) const GIT_LIMIT: Duration = Duration::from_secs(5);

/// A directory and how its files are tested.
pub(crate) struct Project {
    pub(crate) root: PathBuf,
    pub(crate) test_command: TestCommand,
    // Removed when it is dropped.
    scratch: Option<TempDir>,
}

impl Project {
    /// The user's directory, or a scratch copy of the sample.
    pub(crate) fn open(args: &Args) -> Result<Self, Box<dyn std::error::Error>> {
        if let Some(root) = args.dir()? {
            return Ok(Self { test_command: args.test_command(&root)?, root, scratch: None });
        }
        let scratch = tempfile::Builder::new().prefix("platform-sample-").tempdir()?;
        // Changes are reported by the path without symbolic links.
        let root = scratch.path().canonicalize()?;
        copy_sample(&root)?;
        Ok(Self { test_command: args.test_command(&root)?, root, scratch: Some(scratch) })
    }

    pub(crate) fn is_scratch(&self) -> bool {
        self.scratch.is_some()
    }

    /// The path below the root of a file that matters: nothing hidden, nothing that tools make.
    pub(crate) fn file(&self, path: &Path) -> Option<PathBuf> {
        let file = path.strip_prefix(&self.root).ok()?;
        let matters = file.file_name().is_some() && !file.iter().any(is_ignored);
        matters.then(|| file.to_owned())
    }

    /// Removes the scratch copy. A directory of the user's stays as it is.
    pub(crate) fn close(self) -> io::Result<()> {
        self.scratch.map_or(Ok(()), TempDir::close)
    }
}

/// Whether a file or directory of this name is none of our business.
pub(crate) fn is_ignored(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".") || name == "target" || name == "node_modules"
}

/// The text of a file of the sample.
pub(crate) fn original(file: &str) -> &'static str {
    SAMPLE.iter().find(|(name, _)| *name == file).map_or("", |(_, text)| text)
}

fn copy_sample(root: &Path) -> io::Result<()> {
    for (file, text) in SAMPLE {
        let path = root.join(file);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, text)?;
    }
    // Without git there is a project all the same; the audit says what it cannot do then.
    for words in [&["init", "-q"][..], &["add", "--all"], &["commit", "-q", "-m", "The sample"]] {
        process::run(git(root).args(words), GIT_LIMIT, &Flag::default());
    }
    Ok(())
}

/// A git that works on this directory only, whatever the environment and the user's settings say.
pub(crate) fn git(root: &Path) -> Command {
    let mut git = Command::new("git");
    // Set where this program was started by a hook of another repository.
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        git.env_remove(variable);
    }
    git.env("LC_ALL", "C").current_dir(root);
    for setting in [
        "user.name=Developer",
        "user.email=developer@example.org",
        "commit.gpgsign=false",
        "core.hooksPath=/dev/null",
        "init.defaultBranch=main",
        // It would go on in the background after the command has ended.
        "gc.auto=0",
        "maintenance.auto=false",
    ] {
        git.args(["-c", setting]);
    }
    git
}
