//! What can be known of a configuration before a pipeline starts.

use crate::config::{Configuration, MetricReader, PeriodicMetricReader};
use crate::error::ConfigError;
use crate::exporter::PushExporter;

impl Configuration {
    /// Finds what [`start`](crate::TelemetryBuilder::start) would find wrong, without a pipeline and without sockets:
    /// views, endpoints, headers, certificates and keys, and what this build lacks. A file that is pushed to is opened for
    /// appending, and is there afterwards.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, and where it was said.
    pub fn check(&self) -> Result<(), ConfigError> {
        // As for a start: what is disabled has no readers.
        let Some(provider) = self.config.meter_provider.as_ref().filter(|_| !self.config.disabled) else {
            return Ok(());
        };
        for (index, view) in provider.views.iter().enumerate() {
            view.check().map_err(|error| {
                let path = format!("meter_provider.views[{index}]");
                ConfigError { origin: self.origin(&path), path, problem: error.to_string() }
            })?;
        }
        for (index, reader) in provider.readers.iter().enumerate() {
            if let MetricReader::Periodic(reader) = reader {
                self.push_exporter(index, reader)?;
            }
        }
        Ok(())
    }

    /// The exporter of the reader at this index.
    pub(super) fn push_exporter(
        &self,
        index: usize,
        reader: &PeriodicMetricReader,
    ) -> Result<PushExporter, ConfigError> {
        PushExporter::new(reader).map_err(|invalid| {
            let path = format!("meter_provider.readers[{index}].periodic.exporter.{}", reader.exporter.key());
            let path = if invalid.field.is_empty() { path } else { format!("{path}.{}", invalid.field) };
            ConfigError { origin: self.origin(&path), path, problem: invalid.problem }
        })
    }
}
