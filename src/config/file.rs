//! From a file of the declarative configuration to the model.
//!
//! Below `resource` and `meter_provider` a file is held to the schema: whoever misspells a setting hears of it when the
//! program starts. What is about other signals is named in a warning and left alone. Specification: "Parse" and "Create" of
//! "Configuration SDK", and the descriptions in the schema of opentelemetry-configuration.

pub(crate) mod fields;
mod provider;
mod resource;
mod view;
pub(crate) mod yaml;

use std::path::Path;

use super::Configuration;
use crate::error::{ConfigError, Origin};
use fields::{Decoder, Field, Fields};

/// What the schema knows at the top and is not about metrics.
const OTHERS: &[&str] = &[
    "attribute_limits",
    "distribution",
    "instrumentation/development",
    "log_level",
    "logger_provider",
    "propagator",
    "tracer_provider",
];

/// The newest schema that is known, as the minor version of 1.
const NEWEST_MINOR: u32 = 1;

/// What the file says; `variable` looks up an environment variable.
pub(super) fn read(path: &Path, variable: &dyn Fn(&str) -> Option<String>) -> Result<Configuration, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError {
        // The file has no line to name. Who named the file is known to the caller.
        origin: Origin::Default,
        path: String::new(),
        problem: format!(
            "cannot read {}: {error}, expected a YAML file of OpenTelemetry's configuration",
            path.display()
        ),
    })?;
    decode(path, &text, variable)
}

fn decode(path: &Path, text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Configuration, ConfigError> {
    let mut decoder = Decoder::new(path);
    let tree = yaml::parse(text, variable).map_err(|error| decoder.error(error.place, "", error.reason))?;
    let root = Field::root(&tree);
    let root = decoder.any_fields(&root)?;
    decoder.file_format(&root)?;
    decoder.others(&root);
    decoder.configuration.config.disabled = decoder.boolean(&root, "disabled")?.unwrap_or(false);
    if let Some(resource) = decoder.get(&root, "resource") {
        decoder.resource(&resource)?;
    }
    if let Some(provider) = decoder.get(&root, "meter_provider") {
        decoder.configuration.config.meter_provider = Some(decoder.meter_provider(&provider)?);
    }
    Ok(decoder.configuration)
}

impl Decoder<'_> {
    /// Minor versions add and never take away, so a newer one is read as far as it is known.
    fn file_format(&mut self, root: &Fields<'_>) -> Result<(), ConfigError> {
        const EXPECTED: &str = "expected \"1.0\" or \"1.1\"";
        let field = self.required(root, "file_format", "the string \"1.0\" or \"1.1\"")?;
        let version = self.text(&field, "the string \"1.0\" or \"1.1\", in quotes")?;
        let shown = yaml::shortened(&version);
        let (number, meta) = version.split_once('-').map_or((&*version, None), |(number, meta)| (number, Some(meta)));
        let digits = |text: &str| {
            let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| text.parse::<u32>().ok()).flatten()
        };
        let parts = number.split_once('.').and_then(|(major, minor)| Some((digits(major)?, digits(minor)?)));
        match parts {
            Some((1, minor)) if minor > NEWEST_MINOR => {
                self.warn(&field, format!("\"{shown}\" is newer than \"1.1\", what it adds is not known here"));
            }
            Some((1, _)) if meta.is_some() => {
                self.warn(&field, format!("\"{shown}\" is a preliminary version, and is read as \"{number}\""));
            }
            Some((1, _)) => {}
            Some(_) => return Err(self.error_at(&field, format!("the version \"{shown}\", {EXPECTED}"))),
            None => return Err(self.error_at(&field, format!("\"{shown}\" is no version, {EXPECTED}"))),
        }
        Ok(())
    }

    fn others(&mut self, root: &Fields<'_>) {
        let ours = ["file_format", "disabled", "resource", "meter_provider"];
        for field in root.all().filter(|field| !ours.contains(&field.key())) {
            if !OTHERS.contains(&field.key()) {
                let hint = match fields::closest(field.key(), ours.iter().chain(OTHERS)) {
                    Some(key) => format!("did you mean `{key}`?"),
                    None => "the schema does not know it".to_owned(),
                };
                self.warn(&field, format!("is ignored: {hint}"));
            } else if !field.is_null() {
                self.warn(&field, "is ignored: Barograph is about metrics only".to_owned());
            }
        }
    }
}
