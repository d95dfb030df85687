//! Label names and label sets.

use std::borrow::Cow;
use std::collections::HashMap;

use super::FamilyKind;
use super::escape::underscored;

/// Label names by number, so that a name is translated once and not for each point of each scrape.
#[derive(Default)]
pub(crate) struct LabelNames {
    names: Vec<Box<str>>,
    numbers: HashMap<Box<str>, u32>,
}

impl LabelNames {
    /// The number of a label name that is written as it is.
    pub(crate) fn number(&mut self, name: &str) -> u32 {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        // A program has a few dozen label names, so the count fits.
        let number = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.names.push(name.into());
        self.numbers.insert(name.into(), number);
        number
    }

    pub(crate) fn name(&self, number: u32) -> &str {
        self.names.get(number as usize).map_or("_", |name| name)
    }

    /// How many names are known.
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    /// Forgets all names.
    pub(crate) fn clear(&mut self) {
        self.names.clear();
        self.numbers.clear();
    }
}

/// The label name of an attribute key in a family of `kind`.
///
/// Characters outside `[a-zA-Z0-9_]` become underscores, runs of them one; a leading digit gets `key_` before it, as
/// Prometheus' own OTLP receiver writes it. A key that the format itself uses (`le` on a histogram, `quantile` on a
/// summary) becomes `exported_le`, the way Prometheus names a label that lost against one of its own.
pub(crate) fn label_name(key: &str, kind: FamilyKind) -> Cow<'_, str> {
    let name = if is_plain(key) { Cow::Borrowed(key) } else { Cow::Owned(translated(key)) };
    match (kind, name.as_ref()) {
        (FamilyKind::Histogram, "le") => Cow::Borrowed("exported_le"),
        (FamilyKind::Summary, "quantile") => Cow::Borrowed("exported_quantile"),
        _ => name,
    }
}

fn is_plain(key: &str) -> bool {
    let bytes = key.as_bytes();
    !bytes.is_empty()
        && !bytes[0].is_ascii_digit()
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
        && !key.contains("__")
}

fn translated(key: &str) -> String {
    let name = underscored(key, |_| false);
    match name.as_bytes().first() {
        None => "_".to_owned(),
        Some(first) if first.is_ascii_digit() => format!("key_{name}"),
        Some(_) => name,
    }
}

/// One label of a sample.
#[derive(Clone, Debug)]
pub(crate) struct Label<'a> {
    /// Its name's number in [`LabelNames`].
    pub(crate) name: u32,
    pub(crate) value: Cow<'a, str>,
}

/// The labels of one sample, sorted by name, no name twice.
#[derive(Clone, Copy)]
pub(crate) struct Labels<'a> {
    pub(crate) names: &'a LabelNames,
    pub(crate) labels: &'a [Label<'a>],
}

impl<'a> Labels<'a> {
    pub(crate) fn iter(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.labels.iter().map(move |label| (self.names.name(label.name), label.value.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_names_that_every_prometheus_reads() {
        for (key, name) in [
            ("status", "status"),
            ("http.request.method", "http_request_method"),
            ("1abc", "key_1abc"),
            ("a:b", "a_b"),
            ("a..b", "a_b"),
            ("__name__", "_name_"),
            (".foo", "_foo"),
            ("é", "_"),
            ("", "_"),
        ] {
            assert_eq!(label_name(key, FamilyKind::Counter), name, "{key}");
        }
    }

    #[test]
    fn a_key_that_the_format_uses_itself_steps_aside() {
        assert_eq!(label_name("le", FamilyKind::Histogram), "exported_le");
        assert_eq!(label_name("le", FamilyKind::Counter), "le");
        assert_eq!(label_name("quantile", FamilyKind::Summary), "exported_quantile");
    }

    #[test]
    fn a_name_keeps_its_number() {
        let mut names = LabelNames::default();
        let status = names.number("status");
        assert_ne!(names.number("api"), status);
        assert_eq!(names.number("status"), status);
        assert_eq!(names.name(status), "status");
        assert_eq!(names.len(), 2);
        names.clear();
        assert_eq!(names.len(), 0);
    }
}
