//! prometheus_client, the Python implementation of the formats, as a second and stricter reader of our pages.
//!
//! ```ignore
//! let Some(python) = parser::require() else { return };
//! let pages = parser::parse(&python, &[Page::open_metrics(page)]);
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::process::{installed, run, skip};

/// The Python that `tests/stack/install-python` brings; without it says that the test is skipped.
///
/// # Panics
///
/// Without it, with `CI=true`.
pub(crate) fn require() -> Option<PathBuf> {
    let python = installed("python").join("bin/python");
    if python.is_file() {
        return Some(python);
    }
    skip("no Python with prometheus_client is installed for the tests", "tests/stack/install-python");
    None
}

/// A page and the format that it says it is in.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    format: &'static str,
    pub(crate) text: String,
    reserved_labels: bool,
}

impl Page {
    pub(crate) fn open_metrics(page: Vec<u8>) -> Self {
        Self { format: "openmetrics", text: String::from_utf8(page).unwrap(), reserved_labels: false }
    }

    /// Text 0.0.4 or 1.0.0.
    pub(crate) fn text(page: Vec<u8>) -> Self {
        Self { format: "text", ..Self::open_metrics(page) }
    }

    /// Labels of the page may begin with two underscores, as attributes do that nobody translates.
    pub(crate) fn with_reserved_labels(self, reserved_labels: bool) -> Self {
        Self { reserved_labels, ..self }
    }

    /// How many samples the page has: a line each, whatever is in the labels.
    pub(crate) fn samples(&self) -> usize {
        self.lines().count()
    }

    /// The lines that are samples.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &str> {
        self.text.split_terminator('\n').filter(|line| !line.starts_with('#'))
    }
}

/// A sample as the parser read it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Parsed {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

/// Reads all the pages in one process. What it found in each, or what it finds wrong with it.
#[track_caller]
pub(crate) fn parse(python: &Path, pages: &[Page]) -> Vec<Result<Vec<Parsed>, String>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stack/parse_openmetrics.py");
    let mut input = Vec::new();
    for Page { format, text, reserved_labels } in pages {
        let reserved = if *reserved_labels { "reserved" } else { "" };
        input.extend(format!("{format} {} {reserved}\n{text}", text.len()).into_bytes());
    }
    let (code, output) = run(Command::new(python).arg(script), &input);
    assert_eq!(code, Some(0), "the parser ended:\n{output}");

    let (mut parsed, mut samples) = (Vec::new(), Vec::new());
    for line in output.lines() {
        match serde_json::from_str(line).unwrap() {
            Value::Array(fields) => samples.push(sample(&fields)),
            end => parsed.push(match end["error"].as_str() {
                None => Ok(std::mem::take(&mut samples)),
                Some(error) => Err(error.to_owned()),
            }),
        }
    }
    assert_eq!(parsed.len(), pages.len(), "one answer for each page");
    parsed
}

fn sample(fields: &[Value]) -> Parsed {
    let labels = fields[1].as_object().unwrap();
    let bits = u64::from_str_radix(fields[2].as_str().unwrap(), 16).unwrap();
    Parsed {
        name: fields[0].as_str().unwrap().to_owned(),
        labels: labels.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect(),
        value: f64::from_bits(bits),
    }
}
