//! What changes: the operating system's reports, and the contents of files.

use std::fs::File;
use std::io;
use std::io::Read;
use std::path::Path;
use std::sync::mpsc;
use std::sync::mpsc::{Receiver, Sender};

use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use sha2::{Digest, Sha256};

/// What the operating system reports, for as long as this lives.
pub(crate) struct Changes {
    pub(crate) events: Receiver<notify::Result<Event>>,
    /// Where the reports come in, for who has something else to report.
    pub(crate) reports: Sender<notify::Result<Event>>,
    _source: RecommendedWatcher,
}

impl Changes {
    pub(crate) fn below(root: &Path) -> notify::Result<Self> {
        let (sender, events) = mpsc::channel();
        let mut source = notify::recommended_watcher(sender.clone())?;
        source.watch(root, RecursiveMode::Recursive)?;
        Ok(Self { events, reports: sender, _source: source })
    }
}

pub(crate) type Sha256Hash = [u8; 32];

/// The hash of a file, read piece by piece.
pub(crate) fn sha256(path: &Path) -> io::Result<Sha256Hash> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().into()),
            length => hasher.update(&buffer[..length]),
        }
    }
}
