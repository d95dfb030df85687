//! Appends OTLP as lines of JSON to a file, or writes them to standard output.
//!
//! Specification: "OpenTelemetry Protocol File Exporter".

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use opentelemetry_sdk::metrics::data::ResourceMetrics;

use super::otlp::{Encoding, Limits, Requests};
use super::{Again, Exported, Failure, Invalid, Reason};
use crate::config::OtlpFileMetricExporter;
use crate::guard::Exemplars;

/// Writes one line for each export.
#[derive(Debug)]
pub(crate) struct OtlpFileExporter {
    path: Option<PathBuf>,
    limits: Limits,
    line: Vec<u8>,
    /// Whether the last line was not written to its end.
    is_torn: bool,
}

impl OtlpFileExporter {
    /// # Errors
    ///
    /// When the file cannot be opened for appending.
    pub(super) fn new(config: &OtlpFileMetricExporter, max_points: Option<usize>) -> Result<Self, Invalid> {
        if let Some(path) = &config.path {
            let invalid = |problem: &dyn Display| {
                Invalid::new("output_stream", format!("cannot append to {}: {problem}", path.display()))
            };
            // To open one would wait for a reader.
            #[cfg(unix)]
            if std::fs::metadata(path).is_ok_and(|found| std::os::unix::fs::FileTypeExt::is_fifo(&found.file_type())) {
                return Err(invalid(&"it is a pipe, expected a file"));
            }
            append_to(path).map_err(|error| invalid(&error.kind()))?;
        }
        let limits = Limits { max_points, max_bytes: None };
        Ok(Self { path: config.path.clone(), limits, line: Vec::new(), is_torn: false })
    }

    pub(super) fn target(&self) -> String {
        self.path.as_ref().map_or_else(|| "standard output".to_owned(), |path| path.display().to_string())
    }

    pub(super) fn export(
        &mut self,
        data: &ResourceMetrics,
        exemplars: &Exemplars,
        exported: &mut Exported,
    ) -> Result<(), Failure> {
        let failed = |error: io::Error| Failure {
            reason: Reason::Io,
            message: format!("cannot write: {error}"),
            again: Again::Later(None),
        };
        // Opened each time: who rotates the file takes it away.
        let mut out: Box<dyn Write> = match &self.path {
            Some(path) => Box::new(append_to(path).map_err(failed)?),
            None => Box::new(io::stdout().lock()),
        };
        let mut requests = Requests::new(data, exemplars, Encoding::Json, self.limits);
        while let Some(points) = requests.next(&mut self.line) {
            self.line.push(b'\n');
            if self.is_torn {
                self.line.insert(0, b'\n');
            }
            // In one piece, so that lines of several processes in one file stay lines.
            self.is_torn = true;
            out.write_all(&self.line).and_then(|()| out.flush()).map_err(failed)?;
            self.is_torn = false;
            exported.add(points as u64, 0, String::new());
        }
        Ok(())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}
