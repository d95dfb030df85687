//! Label names and label sets.

use std::borrow::Cow;
use std::collections::HashMap;

use super::FamilyKind;
use super::escape::{Escaping, is_label_name};
use super::name::Naming;

/// Label names by number, so that a name is translated once and not for each point of each scrape.
#[derive(Debug, Default)]
pub(crate) struct LabelNames {
    names: Vec<Name>,
    numbers: HashMap<Box<str>, u32>,
}

#[derive(Debug)]
struct Name {
    name: Box<str>,
    text: Box<str>,
}

impl LabelNames {
    /// The number of a label name that is written as it is.
    pub(crate) fn number(&mut self, name: &str) -> u32 {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        // A program has a few dozen label names, so the count fits.
        let number = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.names.push(Name { name: name.into(), text: text(name).into() });
        self.numbers.insert(name.into(), number);
        number
    }

    pub(crate) fn name(&self, number: u32) -> &str {
        self.names.get(number as usize).map_or("_", |name| &name.name)
    }

    /// What stands before the value in a text format, up to the opening quote: `status="`. A name that not every
    /// Prometheus reads is in quotes itself: `"http.method"="`.
    pub(crate) fn text(&self, number: u32) -> &str {
        self.names.get(number as usize).map_or("_=\"", |name| &name.text)
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

fn text(name: &str) -> String {
    if is_label_name(name) {
        return format!("{name}=\"");
    }
    let name = name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{name}\"=\"")
}

/// The label name of an attribute key in a family of `kind`, as it is written.
///
/// A key that the format itself uses (`le` on a histogram, `quantile` on a summary) becomes `exported_le`, the way
/// Prometheus names a label that lost against one of its own. So does `__name__`, which would be the metric's.
pub(crate) fn label_name<'a>(key: &'a str, kind: FamilyKind, naming: &Naming, escaping: Escaping) -> Cow<'a, str> {
    let name = match naming.label(key) {
        Cow::Borrowed(name) => escaping.label_name(name),
        Cow::Owned(name) => Cow::Owned(escaping.label_name(&name).into_owned()),
    };
    match (kind, name.as_ref()) {
        (FamilyKind::Histogram, "le") => Cow::Borrowed("exported_le"),
        (FamilyKind::Summary, "quantile") => Cow::Borrowed("exported_quantile"),
        (_, "__name__") => Cow::Borrowed("exported___name__"),
        _ => name,
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
#[derive(Clone, Copy, Debug)]
pub(crate) struct Labels<'a> {
    pub(crate) names: &'a LabelNames,
    pub(crate) labels: &'a [Label<'a>],
    /// So many of the first labels are those of the sample given before this one in the same pass over the family, name
    /// and value: an encoder that keeps what it made of them need not make it again.
    pub(crate) same: usize,
}

impl<'a> Labels<'a> {
    pub(crate) fn iter(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.labels.iter().map(move |label| (self.names.name(label.name), label.value.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposition::name::TranslationStrategy;

    fn untranslated() -> Naming {
        Naming { strategy: TranslationStrategy::NoTranslation, namespace: String::new() }
    }

    fn by_default(key: &str, kind: FamilyKind) -> Cow<'_, str> {
        label_name(key, kind, &Naming::default(), Escaping::Underscores)
    }

    #[test]
    fn the_strategy_comes_first_and_the_escaping_after_it() {
        let gauge = FamilyKind::Gauge;
        for (escaping, translated, untouched) in [
            (Escaping::AllowUtf8, "key_1_a_b", "1..a_b"),
            (Escaping::Underscores, "key_1_a_b", "___a_b"),
            (Escaping::Dots, "key__1__a__b", "___dot__dot_a__b"),
            (Escaping::Values, "key_1_a_b", "U___31__2e__2e_a__b"),
        ] {
            assert_eq!(label_name("1..a_b", gauge, &Naming::default(), escaping), translated);
            assert_eq!(label_name("1..a_b", gauge, &untranslated(), escaping), untouched);
        }
        assert!(matches!(by_default("status", gauge), Cow::Borrowed(_)));
    }

    #[test]
    fn a_key_that_the_format_uses_itself_steps_aside() {
        assert_eq!(by_default("le", FamilyKind::Histogram), "exported_le");
        assert_eq!(by_default("le", FamilyKind::Counter), "le");
        assert_eq!(by_default("quantile", FamilyKind::Summary), "exported_quantile");
        assert_eq!(by_default("__name__", FamilyKind::Counter), "_name_");
        for key in ["__name__", ".-name--"] {
            let name = label_name(key, FamilyKind::Counter, &untranslated(), Escaping::Underscores);
            assert_eq!(name, "exported___name__", "{key}");
        }
        let name = label_name("__name__", FamilyKind::Counter, &untranslated(), Escaping::AllowUtf8);
        assert_eq!(name, "exported___name__");
    }

    #[test]
    fn a_name_that_not_every_prometheus_reads_is_in_quotes() {
        let mut names = LabelNames::default();
        for (name, text) in [
            ("status", r#"status=""#),
            ("http.method", r#""http.method"=""#),
            ("a:b", r#""a:b"=""#),
            ("1", r#""1"=""#),
            ("a\\\"\nb", r#""a\\\"\nb"=""#),
        ] {
            let number = names.number(name);
            assert_eq!(names.name(number), name);
            assert_eq!(names.text(number), text);
        }
        assert_eq!(names.text(99), r#"_=""#);
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
