//! From instrument names to scraped names, by the strategy UnderscoreEscapingWithSuffixes (the default).

use crate::spec::{Descriptor, Kind};

use super::FamilyKind;
use super::escape::underscored;
use super::unit::unit_word;

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
        metric_name(self.name, self.unit, scraped_kinds(self.kind).0)
    }
}

/// The scraped name of a metric: characters that Prometheus discourages replaced, the unit and `_total` added where
/// the name does not have them yet. `None` where nothing of the name is left.
///
/// Suffixes never double: `requests_total` stays as it is, and so does `wait_seconds` in seconds.
pub(crate) fn metric_name(name: &str, unit: &str, kind: NameKind) -> Option<String> {
    let name = underscored(name, |character| character == ':');
    let name = name.trim_matches('_');
    if name.is_empty() {
        return None;
    }
    let total = matches!(kind, NameKind::Counter);
    let stem = if total { name.strip_suffix("_total").unwrap_or(name) } else { name };
    let word = match (kind, unit) {
        (NameKind::Gauge, "1") => "ratio".to_owned(),
        _ => unit_word(unit),
    };

    let mut scraped = String::with_capacity(name.len() + word.len() + 8);
    if stem.starts_with(|character: char| character.is_ascii_digit()) {
        scraped.push('_');
    }
    scraped.push_str(stem);
    if !word.is_empty() && !ends_with_word(stem, &word) {
        scraped.push('_');
        scraped.push_str(&word);
    }
    if total && !(stem == "total" && stem.len() == scraped.len()) {
        scraped.push_str("_total");
    }
    Some(scraped)
}

/// Whether every Prometheus reads this as the name of a family.
pub(crate) fn is_family_name(name: &str) -> bool {
    !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':'))
}

fn ends_with_word(name: &str, word: &str) -> bool {
    name.strip_suffix(word).is_some_and(|before| before.is_empty() || before.ends_with('_'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use NameKind::{Counter, Gauge, Other};

    fn scraped(name: &str, unit: &str, kind: NameKind) -> String {
        metric_name(name, unit, kind).unwrap()
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
        assert_eq!(metric_name("@#$", "s", Counter), None);
        assert_eq!(metric_name("", "", Gauge), None);
    }
}
