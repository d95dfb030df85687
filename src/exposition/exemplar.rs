//! Exemplars as formats show them.

use std::borrow::Cow;
use std::time::SystemTime;

use super::Number;

/// So many characters an exemplar's labels may have, names and values together: "Exemplars" in OpenMetrics 1.0. Prometheus
/// refuses longer ones in whatever format.
const MAX_CHARACTERS: usize = 128;

/// One measurement as an example of those in a sample.
#[derive(Debug)]
pub(crate) struct ExemplarSample<'a> {
    labels: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    characters: usize,
    pub(crate) value: Number,
    pub(crate) time: SystemTime,
}

impl<'a> ExemplarSample<'a> {
    pub(crate) fn new(value: Number, time: SystemTime) -> Self {
        Self { labels: Vec::new(), characters: 0, value, time }
    }

    /// Adds a label, unless there is one of its name or it is too long to stand beside the others. An empty one is none.
    pub(crate) fn push(&mut self, name: Cow<'a, str>, value: Cow<'a, str>) {
        let characters = self.characters + name.chars().count() + value.chars().count();
        let is_free = self.labels.iter().all(|(other, _)| *other != name);
        if is_free && !value.is_empty() && characters <= MAX_CHARACTERS {
            self.characters = characters;
            self.labels.push((name, value));
        }
    }

    pub(crate) fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.labels.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
    }
}

/// The exemplars of one sample as an encoder writes them, each with what says where it belongs.
#[derive(Debug, Default)]
pub(super) struct Rendered(Vec<(f64, SystemTime, Vec<u8>)>);

impl Rendered {
    pub(super) fn set(&mut self, exemplars: &[ExemplarSample<'_>], render: impl Fn(&ExemplarSample<'_>, &mut Vec<u8>)) {
        self.0.clear();
        self.0.extend(exemplars.iter().map(|exemplar| {
            let mut bytes = Vec::new();
            render(exemplar, &mut bytes);
            (exemplar.value.as_f64(), exemplar.time, bytes)
        }));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|(.., bytes)| bytes.as_slice())
    }

    /// The latest of those that lie above one bound and not above the next.
    pub(super) fn latest_between(&self, above: f64, bound: f64) -> Option<&[u8]> {
        let is_between = |value: f64| value <= bound && (value > above || above == f64::NEG_INFINITY);
        let found = self.0.iter().filter(|(value, ..)| is_between(*value)).max_by_key(|(_, time, _)| *time);
        found.map(|(.., bytes)| bytes.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exemplar(labels: &[(&str, &str)]) -> Vec<String> {
        let mut exemplar = ExemplarSample::new(Number::Unsigned(1), SystemTime::UNIX_EPOCH);
        for &(name, value) in labels {
            exemplar.push(name.to_owned().into(), value.to_owned().into());
        }
        exemplar.labels().map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn labels_have_128_characters_at_most_and_those_that_do_not_fit_are_left_off() {
        let ids = [("trace_id", "4bf92f3577b34da6a3ce929d0e0e4736"), ("span_id", "00f067aa0ba902b7")];
        // The ids take 63 of them. What counts is characters and not bytes.
        for (length, fits) in [(64, true), (65, false)] {
            let value = "é".repeat(length);
            let labels = exemplar(&[ids[0], ids[1], ("k", &value), ("s", "")]);
            assert_eq!(labels.len(), if fits { 3 } else { 2 }, "{length}");
            assert_eq!(labels[..2], exemplar(&ids)[..]);
        }
        let labels = exemplar(&[ids[0], ids[1], ("long", &"x".repeat(100)), ("short", "1")]);
        assert_eq!(labels[2..], ["short=1"], "what still fits is there");
    }

    #[test]
    fn no_label_stands_twice_and_none_is_empty() {
        assert_eq!(exemplar(&[("trace_id", "1"), ("trace_id", "2"), ("a", "")]), ["trace_id=1"]);
    }

    #[test]
    fn of_a_bucket_the_latest_is_shown() {
        let at = |value, second| {
            ExemplarSample::new(Number::Float(value), SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(second))
        };
        let all = [at(0.5, 1), at(1.0, 3), at(0.7, 2), at(5.0, 9)];
        let mut rendered = Rendered::default();
        rendered.set(&all, |exemplar, bytes| bytes.extend(exemplar.value.as_f64().to_string().bytes()));
        let found = |above, bound| {
            let bytes = rendered.latest_between(above, bound)?;
            std::str::from_utf8(bytes).unwrap().parse::<f64>().ok()
        };
        assert_eq!(found(0.5, 1.0), Some(1.0), "bounds are inclusive");
        assert_eq!(found(f64::NEG_INFINITY, 0.5), Some(0.5));
        assert_eq!(found(1.0, 2.0), None);
        assert_eq!(found(2.0, f64::INFINITY), Some(5.0));
    }
}
