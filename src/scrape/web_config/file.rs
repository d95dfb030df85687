//! The file itself: what stands at its top, its headers and its rate limit.
//!
//! `$` means nothing here: bcrypt hashes are full of it. A setting that is an empty text is one that is not set.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::users::Access;
use super::{Current, Files, tls};
use crate::config::RateLimit;
use crate::config::fields::{Decoder, Field, Fields};
use crate::config::yaml::{self, Value};
use crate::error::{ConfigError, Origin};
use crate::scrape::rate_limit::RateLimiter;

/// What reads settings, and the files that they name.
pub(super) struct Reader<'a> {
    pub(super) decoder: Decoder<'a>,
    files: &'a mut Files,
    /// Where relative paths begin.
    folder: &'a Path,
}

/// What the file says, and what there is to warn of.
pub(super) fn read(path: &Path, files: &mut Files) -> Result<(Current, Vec<String>), ConfigError> {
    let unreadable = |reason: &str| ConfigError {
        // There is no line to name.
        origin: Origin::Default,
        path: String::new(),
        problem: format!("cannot read {}: {reason}, expected a web configuration file", path.display()),
    };
    let bytes = files.bytes(path).map_err(|kind| unreadable(&kind.to_string()))?;
    let text = String::from_utf8(bytes.to_vec()).map_err(|_| unreadable("it is not UTF-8"))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut reader = Reader { decoder: Decoder::new(path), files, folder };
    let tree = yaml::parse_as_it_is(&text).map_err(|error| reader.decoder.error(error.place, "", error.reason))?;
    let current = match &tree {
        Some(tree) => reader.current(&Field::root(tree))?,
        None => reader
            .current(&Field::root(&yaml::Node { value: Value::Null, place: yaml::Place { line: 1, column: 1 } }))?,
    };
    Ok((current, reader.decoder.configuration.warnings))
}

impl Reader<'_> {
    fn current(&mut self, root: &Field<'_>) -> Result<Current, ConfigError> {
        let known = ["tls_server_config", "http_server_config", "basic_auth_users", "rate_limit", "bearer_token_file"];
        let root = self.decoder.fields_or_null(root, &known)?;
        let (is_http2, headers) = self.http(&root)?;
        let limiter = self.rate_limit(&root)?.map(|limit| Arc::new(RateLimiter::new(limit)));
        let access = Arc::new(Access::read(self, &root)?);
        Ok(Current { tls: tls::Server::read(self, &root, is_http2)?, headers, access, limiter })
    }

    /// The settings of a section; none if it is not there.
    pub(super) fn section<'n>(
        &mut self,
        root: &Fields<'n>,
        key: &str,
        known: &[&str],
    ) -> Result<Option<Fields<'n>>, ConfigError> {
        match self.decoder.get(root, key).filter(|field| !field.is_null()) {
            Some(field) => self.decoder.fields(&field, known).map(Some),
            None => Ok(None),
        }
    }

    /// A text that is set to something.
    pub(super) fn text<'n>(
        &mut self,
        fields: &Fields<'n>,
        key: &str,
    ) -> Result<Option<(Field<'n>, String)>, ConfigError> {
        let Some(field) = self.decoder.get(fields, key).filter(|field| !field.is_null()) else { return Ok(None) };
        let text = self.decoder.text(&field, "a string")?;
        Ok(if text.is_empty() { None } else { Some((field, text)) })
    }

    /// The path and the bytes of a file that a setting names.
    pub(super) fn file(
        &mut self,
        field: &Field<'_>,
        name: &str,
        expected: &str,
    ) -> Result<(PathBuf, Vec<u8>), ConfigError> {
        let path = self.folder.join(name);
        match self.files.bytes(&path) {
            Ok(bytes) => Ok((path, bytes.to_vec())),
            Err(kind) => {
                let reason = match kind {
                    io::ErrorKind::FileTooLarge => "it has more than 1 MiB".to_owned(),
                    kind => kind.to_string(),
                };
                let problem = format!("cannot read {}: {reason}, expected {expected}", path.display());
                Err(self.decoder.error_at(field, problem))
            }
        }
    }

    /// Whether HTTP/2 is offered, and the headers of every answer.
    fn http(&mut self, root: &Fields<'_>) -> Result<(bool, Vec<(HeaderName, HeaderValue)>), ConfigError> {
        /// Those that may be set, with their values where not every one makes sense.
        const HEADERS: [(&str, &[&str]); 5] = [
            ("Strict-Transport-Security", &[]),
            ("X-Content-Type-Options", &["nosniff"]),
            ("X-Frame-Options", &["deny", "sameorigin"]),
            ("X-XSS-Protection", &[]),
            ("Content-Security-Policy", &[]),
        ];
        let Some(fields) = self.section(root, "http_server_config", &["http2", "headers"])? else {
            return Ok((true, Vec::new()));
        };
        let is_http2 = self.decoder.boolean(&fields, "http2")?.unwrap_or(true);
        let mut headers = Vec::new();
        if let Some(fields) = self.section(&fields, "headers", &HEADERS.map(|(name, _)| name))? {
            for (name, allowed) in HEADERS {
                let Some(field) = self.decoder.get(&fields, name) else { continue };
                let text = match field.value() {
                    Value::Null => continue,
                    // As people write them, without quotes.
                    Value::Integer(number) => number.to_string(),
                    Value::Bool(value) => value.to_string(),
                    _ => self.decoder.text(&field, "a string")?,
                };
                if text.is_empty() {
                    continue;
                }
                if !allowed.is_empty() && !allowed.contains(&text.as_str()) {
                    let problem = format!("\"{}\", expected {}", yaml::shortened(&text), allowed.join(" or "));
                    return Err(self.decoder.error_at(&field, problem));
                }
                match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(&text)) {
                    (Ok(name), Ok(value)) => headers.push((name, value)),
                    _ => {
                        let problem = "a line break or another control character, expected one line of text";
                        return Err(self.decoder.error_at(&field, problem));
                    }
                }
            }
        }
        Ok((is_http2, headers))
    }

    fn rate_limit(&mut self, root: &Fields<'_>) -> Result<Option<RateLimit>, ConfigError> {
        const EXPECTED: &str = "expected a duration such as \"1s\" or \"250ms\", or 0 for no limit";
        let Some(fields) = self.section(root, "rate_limit", &["interval", "burst"])? else { return Ok(None) };
        let burst = self.decoder.integer(&fields, "burst", 0..=u32::MAX.into(), "a number of requests")?;
        let Some(field) = self.decoder.get(&fields, "interval").filter(|field| !field.is_null()) else {
            return Ok(None);
        };
        let interval = match field.value() {
            Value::Integer(0) => return Ok(None),
            Value::Integer(_) => {
                return Err(self.decoder.error_at(&field, format!("a number without a unit, {EXPECTED}")));
            }
            Value::String(text) => duration(text)
                .ok_or_else(|| self.decoder.error_at(&field, format!("\"{}\", {EXPECTED}", yaml::shortened(text))))?,
            _ => return Err(self.decoder.wrong(&field, EXPECTED.trim_start_matches("expected "))),
        };
        if interval.is_zero() {
            return Ok(None);
        }
        let Some(burst) = burst else {
            let problem = "an interval without `burst`, expected also how many requests may come at once, such as 10";
            return Err(self.decoder.error_at(&field, problem));
        };
        if burst == 0 {
            self.decoder.warn(&field, "no request is answered, because `burst` is 0".to_owned());
        }
        Ok(Some(RateLimit { interval, burst }))
    }
}

/// A duration as Go or Prometheus writes it: numbers with units, one after the other.
fn duration(text: &str) -> Option<Duration> {
    /// In seconds. What begins like another one comes first.
    const UNITS: [(&str, f64); 11] = [
        ("ns", 1e-9),
        ("us", 1e-6),
        ("µs", 1e-6),
        ("μs", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3_600.0),
        ("d", 86_400.0),
        ("w", 604_800.0),
        ("y", 31_536_000.0),
    ];
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() || text.is_empty() {
        let end = rest.find(|character: char| !character.is_ascii_digit() && character != '.')?;
        let (number, unit) = rest.split_at(end);
        let number: f64 = number.parse().ok()?;
        let (name, seconds) = UNITS.iter().find(|(name, _)| unit.starts_with(name))?;
        sum = sum.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = unit.strip_prefix(name)?;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go_and_of_prometheus() {
        for (text, milliseconds) in [
            ("0", 0),
            ("0s", 0),
            ("1s", 1_000),
            ("250ms", 250),
            ("1.5s", 1_500),
            (".5s", 500),
            ("1h30m", 5_400_000),
            ("2000us", 2),
            ("2000µs", 2),
            ("2000μs", 2),
            ("3000000ns", 3),
            ("1m1s1ms", 61_001),
            ("1d", 86_400_000),
            ("1w", 604_800_000),
            ("1y", 31_536_000_000),
        ] {
            assert_eq!(duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "1", "s", "-1s", "+1s", "1 s", "1s ", "1x", "1.2.3s", ".s", "1e3s", "99999999999999999999y"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
