//! From the names of instruments and attributes to scraped names.
//!
//! Specification: "Translation Strategy" of the Prometheus exporter, and "OTLP Metric points to Prometheus" in the
//! compatibility document.

use std::borrow::Cow;

use crate::spec::{Descriptor, Kind};

use super::FamilyKind;
use super::escape::{Escaping, is_label_name, underscored};
use super::unit::unit_word;

/// How the names of metrics and labels are made for a scrape.
///
/// It decides what the names are; the scraper then decides how those are written that have characters outside ASCII
/// letters, digits and underscores. A scraper that says nothing gets underscores, whatever the strategy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TranslationStrategy {
    /// Names in the characters that every Prometheus reads, with the unit and a counter's `_total` at the end: a
    /// counter `foo.bar` in `By` is `foo_bar_bytes_total`. The default.
    #[default]
    UnderscoreEscapingWithSuffixes,
    /// Names in the characters that every Prometheus reads, with nothing added: a counter `foo.bar` in `By` is
    /// `foo_bar`.
    UnderscoreEscapingWithoutSuffixes,
    /// Names keep their characters, with the unit and a counter's `_total` at the end: a counter `foo.bar` in `By` is
    /// `foo.bar_bytes_total`.
    NoUtf8EscapingWithSuffixes,
    /// Names stay as they are: a counter `foo.bar` in `By` is `foo.bar`.
    NoTranslation,
}

impl TranslationStrategy {
    /// As the declarative configuration writes it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::UnderscoreEscapingWithSuffixes => "underscore_escaping_with_suffixes",
            Self::UnderscoreEscapingWithoutSuffixes => "underscore_escaping_without_suffixes",
            Self::NoUtf8EscapingWithSuffixes => "no_utf8_escaping_with_suffixes",
            Self::NoTranslation => "no_translation",
        }
    }

    const fn escapes(self) -> bool {
        matches!(self, Self::UnderscoreEscapingWithSuffixes | Self::UnderscoreEscapingWithoutSuffixes)
    }

    const fn adds_suffixes(self) -> bool {
        matches!(self, Self::UnderscoreEscapingWithSuffixes | Self::NoUtf8EscapingWithSuffixes)
    }
}

/// What a name's suffixes depend on besides the unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum NameKind {
    /// A monotonic sum.
    Counter,
    /// A gauge; a non-monotonic sum is [`Other`](Self::Other), because only a gauge of unit `1` is a ratio.
    Gauge,
    /// Everything else.
    Other,
}

/// How the name of a kind of instrument is made, and as what type it is exposed.
pub(crate) fn scraped_kinds(kind: Kind) -> (NameKind, FamilyKind) {
    match kind {
        Kind::Counter | Kind::ObservableCounter => (NameKind::Counter, FamilyKind::Counter),
        Kind::Gauge | Kind::ObservableGauge => (NameKind::Gauge, FamilyKind::Gauge),
        Kind::UpDownCounter | Kind::ObservableUpDownCounter => (NameKind::Other, FamilyKind::Gauge),
        Kind::Histogram => (NameKind::Other, FamilyKind::Histogram),
    }
}

impl Descriptor {
    /// The name that a scrape shows with default settings; `None` where the name has no character that a scraped one
    /// can have. A histogram's series add `_bucket`, `_sum` and `_count`.
    ///
    /// ```
    /// use barograph::CounterSpec;
    ///
    /// const BUSY: CounterSpec = CounterSpec::new("worker.busy", "s", "Time spent working.");
    /// assert_eq!(BUSY.descriptor().scraped_name().as_deref(), Some("worker_busy_seconds_total"));
    /// ```
    #[must_use]
    pub fn scraped_name(&self) -> Option<String> {
        let metric = Naming::default().metric(self.name, self.unit, scraped_kinds(self.kind).0)?;
        Some(metric.name)
    }
}

/// The name of a metric and what may be said about its unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MetricName {
    pub(crate) name: String,
    /// The word that the name (without a counter's `_total`) ends with after an underscore; empty where it does not.
    /// OpenMetrics refuses a unit that the name does not end with.
    pub(crate) unit: String,
}

impl MetricName {
    fn new(name: String, unit: String, kind: NameKind) -> Self {
        let family = match kind {
            NameKind::Counter => name.strip_suffix("_total").unwrap_or(&name),
            NameKind::Gauge | NameKind::Other => &name,
        };
        let ends_with_unit = family.strip_suffix(&*unit).is_some_and(|before| before.ends_with('_'));
        Self { unit: if ends_with_unit { unit } else { String::new() }, name }
    }

    /// The name as a scraper that asked for `escaping` gets it. The unit is left out where the name ends with it no
    /// longer, as it may where underscores are doubled.
    pub(crate) fn escaped(self, escaping: Escaping, kind: NameKind) -> Self {
        match escaping.metric_name(&self.name) {
            Cow::Borrowed(_) => self,
            Cow::Owned(name) => Self::new(name, self.unit, kind),
        }
    }
}

/// One thing that the translation did to a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NameStep {
    Characters,
    Namespace,
    LeadingDigit,
    TotalAside,
    Unit,
    Ratio,
    Total,
    Escaping,
}

impl NameStep {
    /// The step in words, for people who ask why a metric is called what it is called.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Characters => "illegal characters become _",
            Self::Namespace => "namespace",
            Self::LeadingDigit => "a leading digit gets _ before it",
            Self::TotalAside => "_total set aside, it comes last",
            Self::Unit => "unit added",
            Self::Ratio => "ratio added: a gauge of unit 1",
            Self::Total => "_total added",
            Self::Escaping => "escaped for a scraper that does not ask for UTF-8 names",
        }
    }
}

/// How a name came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NameStory {
    /// The name as it is written.
    pub(crate) name: String,
    /// What was done to it in turn, and the name after each step. A step that changed nothing is left out.
    pub(crate) steps: Vec<(NameStep, String)>,
}

/// How a pipeline names what it exposes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Naming {
    pub(crate) strategy: TranslationStrategy,
    /// What stands before the name of every metric, with an underscore between; empty for nothing.
    pub(crate) namespace: String,
}

impl Naming {
    /// The scraped name of a metric, before the scraper's escaping. `None` where nothing of the name is left.
    ///
    /// Suffixes never double: `requests_total` stays as it is, and so does `wait_seconds` in seconds.
    pub(crate) fn metric(&self, name: &str, unit: &str, kind: NameKind) -> Option<MetricName> {
        self.translated(name, unit, kind, &mut |_, _| {})
    }

    /// How a metric comes to the name that a scraper of this escaping gets; `None` where nothing of the name is left.
    pub(crate) fn story(&self, name: &str, unit: &str, kind: NameKind, escaping: Escaping) -> Option<NameStory> {
        let (mut last, mut steps) = (name.to_owned(), Vec::new());
        let mut keep = |step, name: &str| {
            if name != last {
                name.clone_into(&mut last);
                steps.push((step, name.to_owned()));
            }
        };
        let metric = self.translated(name, unit, kind, &mut keep)?;
        let shown = metric.clone().escaped(escaping, kind);
        // Whatever the steps before have forgotten to say must not look as if the escaping had done it.
        if shown.name != metric.name {
            keep(NameStep::Escaping, &shown.name);
        }
        Some(NameStory { name: shown.name, steps })
    }

    /// Tells `done` after each step what the name is by then.
    fn translated(
        &self,
        name: &str,
        unit: &str,
        kind: NameKind,
        done: &mut impl FnMut(NameStep, &str),
    ) -> Option<MetricName> {
        let mut scraped = self.without_suffixes(name, done)?;
        let word = unit_word(unit);
        if self.strategy.adds_suffixes() {
            let total = matches!(kind, NameKind::Counter);
            if total && let Some(stem) = without_word(&scraped, "total") {
                scraped.truncate(stem.len());
                done(NameStep::TotalAside, &scraped);
            }
            let is_ratio = matches!(kind, NameKind::Gauge) && unit == "1";
            let (suffix, step) = if is_ratio { ("ratio", NameStep::Ratio) } else { (&*word, NameStep::Unit) };
            if !ends_with_word(&scraped, suffix) {
                scraped.push('_');
                scraped.push_str(suffix);
                done(step, &scraped);
            }
            if total && scraped != "total" {
                scraped.push_str("_total");
                done(NameStep::Total, &scraped);
            }
        }
        Some(MetricName::new(scraped, word, kind))
    }

    /// The label name of an attribute key, before the scraper's escaping.
    ///
    /// Where the strategy escapes, characters outside `[a-zA-Z0-9_]` become underscores, runs of them one; a leading
    /// digit gets `key_` before it, as Prometheus' own OTLP receiver writes it.
    pub(crate) fn label<'a>(&self, key: &'a str) -> Cow<'a, str> {
        if key.is_empty() {
            Cow::Borrowed("_")
        } else if !self.strategy.escapes() || (is_label_name(key) && !key.contains("__")) {
            Cow::Borrowed(key)
        } else {
            let name = underscored(key, |_| false);
            Cow::Owned(if starts_with_digit(&name) { format!("key_{name}") } else { name })
        }
    }

    /// The namespace and the name, in the characters of the strategy.
    fn without_suffixes(&self, name: &str, done: &mut impl FnMut(NameStep, &str)) -> Option<String> {
        // Whoever ends a namespace with an underscore means the one that stands there anyway.
        let namespace = self.namespace.trim_end_matches('_');
        let name = if self.strategy.escapes() { escaped(name) } else { name.to_owned() };
        if name.is_empty() {
            return None;
        }
        done(NameStep::Characters, &name);
        let name = match (namespace, self.strategy.escapes()) {
            ("", _) => name,
            (_, true) => escaped(&format!("{namespace}_{name}")),
            (_, false) => format!("{namespace}_{name}"),
        };
        done(NameStep::Namespace, &name);
        if !self.strategy.escapes() || !starts_with_digit(&name) {
            return Some(name);
        }
        let name = format!("_{name}");
        done(NameStep::LeadingDigit, &name);
        Some(name)
    }
}

/// Characters that Prometheus discourages become underscores, runs of them one, and none at either end.
fn escaped(name: &str) -> String {
    underscored(name, |character| character == ':').trim_matches('_').to_owned()
}

fn starts_with_digit(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_digit())
}

/// Whether a name is a word or ends with it; every name ends with an empty word.
fn ends_with_word(name: &str, word: &str) -> bool {
    word.is_empty() || name == word || without_word(name, word).is_some()
}

/// What stands before a word that a name ends with, and before the character that sets the word off: an underscore, or
/// where names keep their characters a dot. `None` where the name does not end so, or is nothing else.
fn without_word<'a>(name: &'a str, word: &str) -> Option<&'a str> {
    let before = name.strip_suffix(word)?;
    let stem = before.strip_suffix(|last: char| !last.is_alphanumeric() && last != ':')?;
    if stem.is_empty() { None } else { Some(stem) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use NameKind::{Counter, Gauge, Other};
    use TranslationStrategy::{
        NoTranslation, NoUtf8EscapingWithSuffixes, UnderscoreEscapingWithSuffixes, UnderscoreEscapingWithoutSuffixes,
    };

    const STRATEGIES: [TranslationStrategy; 4] =
        [UnderscoreEscapingWithSuffixes, UnderscoreEscapingWithoutSuffixes, NoUtf8EscapingWithSuffixes, NoTranslation];

    fn naming(strategy: TranslationStrategy, namespace: &str) -> Naming {
        Naming { strategy, namespace: namespace.to_owned() }
    }

    fn scraped(name: &str, unit: &str, kind: NameKind) -> String {
        Naming::default().metric(name, unit, kind).unwrap().name
    }

    #[test]
    fn suffixes_are_added_once() {
        assert_eq!(scraped("http.requests", "{request}", Counter), "http_requests_total");
        assert_eq!(scraped("http_requests_total", "1", Counter), "http_requests_total");
        assert_eq!(scraped("cpu.time", "s", Counter), "cpu_time_seconds_total");
        assert_eq!(scraped("cpu_seconds", "s", Counter), "cpu_seconds_total");
        assert_eq!(scraped("cpu_seconds_total", "s", Counter), "cpu_seconds_total");
        assert_eq!(scraped("cpu_total", "s", Counter), "cpu_seconds_total");
        assert_eq!(scraped("request.duration", "s", Other), "request_duration_seconds");
        assert_eq!(scraped("wait_seconds", "s", Other), "wait_seconds");
        assert_eq!(scraped("seconds", "s", Gauge), "seconds");
        assert_eq!(scraped("milliseconds", "s", Gauge), "milliseconds_seconds");
        assert_eq!(scraped("total", "", Counter), "total");
        assert_eq!(scraped("subtotal", "", Counter), "subtotal_total");
    }

    #[test]
    fn only_a_gauge_of_unit_1_is_a_ratio() {
        assert_eq!(scraped("disk.utilization", "1", Gauge), "disk_utilization_ratio");
        assert_eq!(scraped("disk_ratio", "1", Gauge), "disk_ratio");
        assert_eq!(scraped("requests", "1", Counter), "requests_total");
        assert_eq!(scraped("depth", "1", Other), "depth");
    }

    #[test]
    fn discouraged_characters_become_one_underscore() {
        assert_eq!(scraped("a..b__c", "", Gauge), "a_b_c");
        assert_eq!(scraped("9lives", "", Gauge), "_9lives");
        assert_eq!(scraped("job:rate", "", Gauge), "job:rate");
        assert_eq!(scraped("queue_", "s", Counter), "queue_seconds_total");
    }

    #[test]
    fn the_strategy_decides_about_characters_and_suffixes() {
        for (strategy, counter, gauge) in [
            (UnderscoreEscapingWithSuffixes, "foo_bar_bytes_total", "_1_cpu_load_ratio"),
            (UnderscoreEscapingWithoutSuffixes, "foo_bar", "_1_cpu_load"),
            (NoUtf8EscapingWithSuffixes, "foo.bar_bytes_total", "1.cpu..load_ratio"),
            (NoTranslation, "foo.bar", "1.cpu..load"),
        ] {
            let naming = naming(strategy, "");
            assert_eq!(naming.metric("foo.bar", "By", Counter).unwrap().name, counter);
            assert_eq!(naming.metric("1.cpu..load", "1", Gauge).unwrap().name, gauge);
        }
    }

    #[test]
    fn without_suffixes_what_the_name_has_stays() {
        for strategy in [UnderscoreEscapingWithoutSuffixes, NoTranslation] {
            assert_eq!(naming(strategy, "").metric("jobs_total", "s", Counter).unwrap().name, "jobs_total");
            assert_eq!(naming(strategy, "").metric("disk_ratio", "1", Gauge).unwrap().name, "disk_ratio");
        }
    }

    #[test]
    fn a_suffix_after_a_dot_does_not_double_either() {
        let naming = naming(NoUtf8EscapingWithSuffixes, "");
        assert_eq!(naming.metric("jobs.total", "", Counter).unwrap().name, "jobs_total");
        assert_eq!(naming.metric("cpu.seconds.total", "s", Counter).unwrap().name, "cpu.seconds_total");
        assert_eq!(naming.metric("wait.seconds", "s", Other).unwrap().name, "wait.seconds");
        assert_eq!(naming.metric("éseconds", "s", Other).unwrap().name, "éseconds_seconds");
    }

    #[test]
    fn a_name_of_which_nothing_is_left_is_none() {
        for strategy in STRATEGIES {
            assert_eq!(naming(strategy, "").metric("", "s", Counter), None);
            assert_eq!(naming(strategy, "shop").metric("", "s", Counter), None);
            let kept = naming(strategy, "shop").metric("@#$", "s", Gauge).is_some();
            assert_eq!(kept, !strategy.escapes(), "{strategy:?}");
        }
    }

    #[test]
    fn the_namespace_stands_before_the_name_with_one_underscore() {
        for (namespace, name, escaped, kept) in [
            ("shop", "jobs", "shop_jobs", "shop_jobs"),
            ("shop_", "jobs", "shop_jobs", "shop_jobs"),
            ("__", "jobs", "jobs", "jobs"),
            ("my.shop!", "jobs", "my_shop_jobs", "my.shop!_jobs"),
            ("4shop", "jobs", "_4shop_jobs", "4shop_jobs"),
            ("shop", "4jobs", "shop_4jobs", "shop_4jobs"),
            ("ü", "jobs", "jobs", "ü_jobs"),
        ] {
            for strategy in STRATEGIES {
                let expected = if strategy.escapes() { escaped } else { kept };
                assert_eq!(naming(strategy, namespace).metric(name, "", Other).unwrap().name, expected, "{strategy:?}");
            }
        }
        let naming = naming(UnderscoreEscapingWithSuffixes, "shop");
        assert_eq!(naming.metric("total", "", Counter).unwrap().name, "shop_total");
        assert_eq!(naming.metric("jobs", "s", Counter).unwrap().name, "shop_jobs_seconds_total");
    }

    #[test]
    fn a_unit_is_said_only_where_the_name_ends_with_it() {
        for (strategy, name, unit, kind, said) in [
            (UnderscoreEscapingWithSuffixes, "cpu.time", "s", Counter, "seconds"),
            (UnderscoreEscapingWithSuffixes, "io", "By/s", Gauge, "bytes_per_second"),
            (UnderscoreEscapingWithSuffixes, "seconds", "s", Gauge, ""),
            (UnderscoreEscapingWithSuffixes, "load", "1", Gauge, ""),
            (UnderscoreEscapingWithSuffixes, "jobs", "{job}", Counter, ""),
            (UnderscoreEscapingWithoutSuffixes, "wait", "s", Other, ""),
            (UnderscoreEscapingWithoutSuffixes, "wait.seconds", "s", Other, "seconds"),
            (NoUtf8EscapingWithSuffixes, "wait.seconds", "s", Other, ""),
            (NoUtf8EscapingWithSuffixes, "cpu.time", "s", Counter, "seconds"),
            (NoTranslation, "cpu_seconds_total", "s", Counter, "seconds"),
            (NoTranslation, "cpu_seconds_total", "s", Gauge, ""),
        ] {
            let metric = naming(strategy, "").metric(name, unit, kind).unwrap();
            assert_eq!(metric.unit, said, "{strategy:?} {name}");
        }
    }

    #[test]
    fn a_unit_is_left_out_where_escaping_parts_it_from_the_name() {
        let naming = naming(NoUtf8EscapingWithSuffixes, "");
        let escaped = |unit, kind, escaping| {
            let metric = naming.metric("net.io", unit, kind).unwrap().escaped(escaping, kind);
            (metric.name, metric.unit)
        };
        for (unit, kind, escaping, name, said) in [
            ("By", Gauge, Escaping::AllowUtf8, "net.io_bytes", "bytes"),
            ("By", Gauge, Escaping::Underscores, "net_io_bytes", "bytes"),
            ("By", Gauge, Escaping::Dots, "net_dot_io__bytes", "bytes"),
            ("By", Counter, Escaping::Underscores, "net_io_bytes_total", "bytes"),
            ("By", Counter, Escaping::Dots, "net_dot_io__bytes__total", ""),
            ("By/s", Gauge, Escaping::Values, "U__net_2e_io__bytes__per__second", ""),
        ] {
            assert_eq!(escaped(unit, kind, escaping), (name.to_owned(), said.to_owned()));
        }
    }

    #[test]
    fn the_story_of_a_name_ends_with_the_name_that_is_scraped() {
        let names = ["http.requests", "jobs_total", "cpu.seconds.total", "1.cpu..load", "total", "x", "é", "a b"];
        let units = ["", "1", "s", "By/s", "{request}", "%", "furlong"];
        for strategy in STRATEGIES {
            for namespace in ["", "shop", "4shop_", "my.shop!"] {
                let naming = naming(strategy, namespace);
                for escaping in [Escaping::AllowUtf8, Escaping::Underscores, Escaping::Dots, Escaping::Values] {
                    for (name, unit) in names.iter().flat_map(|name| units.map(|unit| (*name, unit))) {
                        for kind in [Counter, Gauge, Other] {
                            let scraped = naming.metric(name, unit, kind).map(|metric| metric.escaped(escaping, kind));
                            let story = naming.story(name, unit, kind, escaping);
                            assert_eq!(story.as_ref().map(|s| &s.name), scraped.as_ref().map(|metric| &metric.name));
                            let Some(NameStory { name: scraped, steps }) = story else { continue };
                            let last = steps.last().map_or(name, |(_, name)| name);
                            assert_eq!(last, scraped, "{strategy:?} {namespace} {escaping:?} {name} {unit}: {steps:?}");
                            let mut before = name;
                            for (step, after) in &steps {
                                assert_ne!(before, after, "{step:?} did nothing: {steps:?}");
                                before = after;
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_story_of_a_name_says_each_step_that_did_something() {
        let steps = |strategy, namespace, name, unit, kind| -> Vec<(NameStep, String)> {
            naming(strategy, namespace).story(name, unit, kind, Escaping::Underscores).unwrap().steps
        };
        let step = |step, name: &str| (step, name.to_owned());
        assert_eq!(
            steps(UnderscoreEscapingWithSuffixes, "4shop", "cpu.time_total", "s", Counter),
            [
                step(NameStep::Characters, "cpu_time_total"),
                step(NameStep::Namespace, "4shop_cpu_time_total"),
                step(NameStep::LeadingDigit, "_4shop_cpu_time_total"),
                step(NameStep::TotalAside, "_4shop_cpu_time"),
                step(NameStep::Unit, "_4shop_cpu_time_seconds"),
                step(NameStep::Total, "_4shop_cpu_time_seconds_total"),
            ]
        );
        assert_eq!(
            steps(NoUtf8EscapingWithSuffixes, "", "disk.used", "1", Gauge),
            [step(NameStep::Ratio, "disk.used_ratio"), step(NameStep::Escaping, "disk_used_ratio")]
        );
        assert_eq!(steps(UnderscoreEscapingWithSuffixes, "", "up", "{thing}", Gauge), []);
    }

    #[test]
    fn keys_become_names_that_every_prometheus_reads_unless_names_keep_their_characters() {
        for (key, name) in [
            ("status", "status"),
            ("http.request.method", "http_request_method"),
            ("1abc", "key_1abc"),
            ("a:b", "a_b"),
            ("a..b", "a_b"),
            ("a__b", "a_b"),
            ("__name__", "_name_"),
            (".foo", "_foo"),
            ("é", "_"),
            ("", "_"),
        ] {
            for strategy in STRATEGIES {
                let expected = if strategy.escapes() || key.is_empty() { name } else { key };
                assert_eq!(naming(strategy, "ignored").label(key), expected, "{strategy:?}");
            }
        }
        assert!(matches!(Naming::default().label("status"), Cow::Borrowed(_)));
    }
}
