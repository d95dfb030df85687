//! Appends OTLP as lines of JSON to a file, or writes them to standard output.
//!
//! Specification: "OpenTelemetry Protocol File Exporter".

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

use opentelemetry_sdk::metrics::data::ResourceMetrics;

use super::otlp::{Encoding, Limits, Requests};
use super::{Again, Exported, Failure, Invalid, Reason};
use crate::config::OtlpFileMetricExporter;

/// Writes one line for each export.
#[derive(Debug)]
pub(crate) struct OtlpFileExporter {
    file: Option<(PathBuf, File)>,
    limits: Limits,
    line: Vec<u8>,
}

impl OtlpFileExporter {
    /// # Errors
    ///
    /// When the file cannot be opened for appending.
    pub(super) fn new(config: &OtlpFileMetricExporter, max_points: Option<usize>) -> Result<Self, Invalid> {
        let open = |path: &PathBuf| {
            let file = OpenOptions::new().append(true).create(true).open(path);
            let file = file.map_err(|error| {
                Invalid::new("output_stream", format!("cannot append to {}: {}", path.display(), error.kind()))
            })?;
            Ok((path.clone(), file))
        };
        let file = config.path.as_ref().map(open).transpose()?;
        Ok(Self { file, limits: Limits { max_points, max_bytes: None }, line: Vec::new() })
    }

    pub(super) fn target(&self) -> String {
        match &self.file {
            Some((path, _)) => path.display().to_string(),
            None => "standard output".to_owned(),
        }
    }

    pub(super) fn export(&mut self, data: &ResourceMetrics, exported: &mut Exported) -> Result<(), Failure> {
        let mut requests = Requests::new(data, Encoding::Json, self.limits);
        while let Some(points) = requests.next(&mut self.line) {
            self.line.push(b'\n');
            // In one piece, so that lines of several processes in one file stay lines.
            let written = match &mut self.file {
                Some((_, file)) => file.write_all(&self.line),
                None => {
                    let mut out = io::stdout().lock();
                    out.write_all(&self.line).and_then(|()| out.flush())
                }
            };
            written.map_err(|error| Failure {
                reason: Reason::Io,
                message: format!("cannot write: {error}"),
                again: Again::Later(None),
            })?;
            exported.add(points as u64, 0, String::new());
        }
        Ok(())
    }
}
