//! Scrapes an endpoint as Prometheus does, and reads the page.

use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::Uri;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Map, Value, json};

/// Prometheus gives up after this time, too.
const TIMEOUT: Duration = Duration::from_secs(10);

/// One line of a page.
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) value: f64,
}

/// Gets the page over HTTP.
pub(crate) async fn get(url: &str) -> Result<String, Box<dyn Error>> {
    let uri: Uri = url.parse()?;
    let get = async {
        let response = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>().get(uri).await?;
        let status = response.status();
        let page = response.into_body().collect().await?.to_bytes();
        if !status.is_success() {
            return Err(format!("{url} answered {status}").into());
        }
        Ok::<_, Box<dyn Error>>(String::from_utf8(page.into())?)
    };
    tokio::time::timeout(TIMEOUT, get).await.map_err(|_| format!("{url} did not answer"))?
}

/// Reads a page.
pub(crate) fn samples(page: &str) -> Result<Vec<Sample>, Box<dyn Error>> {
    page.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| sample(line).ok_or_else(|| format!("not a line of a scrape: {line}").into()))
        .collect()
}

/// Reads `name{label="value",…} value`.
fn sample(line: &str) -> Option<Sample> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"")?;
            let (value, after) = quoted(after)?;
            labels.push((label.to_owned(), value));
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = &rest[1..];
    }
    Some(Sample { name: name.to_owned(), labels, value: rest.trim().parse().ok()? })
}

/// Reads up to the closing quote, and returns what follows it too.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    loop {
        match characters.next()? {
            (end, '"') => return Some((value, &text[end + 1..])),
            (_, '\\') => value.push(match characters.next()?.1 {
                'n' => '\n',
                escaped => escaped,
            }),
            (_, character) => value.push(character),
        }
    }
}

/// Writes all samples as JSON. Whoever reads the file sees all of it or none.
pub(crate) fn write_json(samples: &[Sample], file: &Path) -> io::Result<()> {
    let series: Vec<Value> = samples
        .iter()
        .map(|sample| {
            let labels: Map<_, _> =
                sample.labels.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
            // JSON has neither NaN nor infinities.
            let value = if sample.value.is_finite() { json!(sample.value) } else { json!(sample.value.to_string()) };
            json!({ "name": sample.name, "labels": labels, "value": value })
        })
        .collect();
    let mut unfinished = file.as_os_str().to_owned();
    unfinished.push(format!(".{}.tmp", std::process::id()));
    let unfinished = PathBuf::from(unfinished);
    let written = fs::write(&unfinished, format!("{:#}\n", json!({ "series": series })))
        .and_then(|()| fs::rename(&unfinished, file));
    if written.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    written
}
