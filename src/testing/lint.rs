//! Says what is wrong with the names and the metadata of an exposition, and what would be right.
//!
//! The rules are those of Prometheus' `promlint` and, of OpenTelemetry's naming rules (semantic conventions 1.44.0, "Naming"
//! and "Metrics"), those that a page can be held to.

mod units;

use std::collections::HashSet;
use std::fmt;

use super::parser::{Exposition, Family, Sample};
use units::{base_unit, is_base_unit, spelt_out};

/// Something that is wrong with a metric on a page.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LintProblem {
    /// The metric, as its samples are called; of a line that cannot be read, the line.
    pub metric: String,
    /// Where it begins on the page, from 1 on.
    pub line: usize,
    /// The rule that it breaks.
    pub rule: LintRule,
    /// What is wrong.
    pub wrong: String,
    /// What would be right.
    pub right: String,
}

/// `jobs (line 2): a counter does not end with _total: call it jobs_total [total-suffix]`.
impl fmt::Display for LintProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { metric, line, rule, wrong, right } = self;
        write!(f, "{metric} (line {line}): {wrong}: {right} [{rule}]")
    }
}

/// A rule that [`lint`] knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum LintRule {
    /// Prometheus reads every line, or the whole page is lost.
    Unreadable,
    /// promlint: every metric has a help text.
    Help,
    /// promlint: a name does not say the type, which the page does: `_counter`, `_gauge`, `_histogram`, `_summary`.
    TypeInName,
    /// promlint: `:` is for the names of recording rules.
    ReservedCharacter,
    /// promlint: names of metrics and labels are written in `snake_case`.
    CamelCase,
    /// promlint: units are written out: `seconds`, not `ms` or `s`.
    UnitAbbreviation,
    /// promlint: units are base units, without prefixes: `seconds`, not `milliseconds` or `minutes`.
    BaseUnit,
    /// promlint: counters end with `_total`, and nothing else does.
    TotalSuffix,
    /// promlint: `_bucket`, `_sum` and `_count` belong to histograms and summaries.
    ReservedSuffix,
    /// promlint: the label `le` belongs to histograms, and `quantile` to summaries.
    ReservedLabel,
    /// promlint: no two series of a metric have the same labels.
    Duplicate,
    /// OpenMetrics: a name ends with the unit that its metadata say.
    UnitSuffix,
    /// OpenTelemetry: a name has a namespace, what it is a part of: `worker_jobs`, not `jobs`.
    Namespace,
    /// OpenTelemetry: names of metrics and labels are lower case.
    LowerCase,
    /// OpenTelemetry: a name begins with a letter, ends with a letter or a digit, and has one delimiter between two words.
    Delimiter,
    /// OpenTelemetry: a name has no unit, which the instrument says and the exposition adds at the end; one in another place
    /// was written into the name.
    UnitInName,
    /// OpenTelemetry: a name has no `total`, which the exposition adds to a counter; what there is in all is a `limit`.
    TotalInName,
    /// OpenTelemetry: durations are in seconds.
    DurationUnit,
}

impl LintRule {
    /// The rule in words, for lists of exceptions.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Help => "help",
            Self::TypeInName => "type-in-name",
            Self::ReservedCharacter => "reserved-character",
            Self::CamelCase => "camel-case",
            Self::UnitAbbreviation => "unit-abbreviation",
            Self::BaseUnit => "base-unit",
            Self::TotalSuffix => "total-suffix",
            Self::ReservedSuffix => "reserved-suffix",
            Self::ReservedLabel => "reserved-label",
            Self::Duplicate => "duplicate",
            Self::UnitSuffix => "unit-suffix",
            Self::Namespace => "namespace",
            Self::LowerCase => "lower-case",
            Self::Delimiter => "delimiter",
            Self::UnitInName => "unit-in-name",
            Self::TotalInName => "total-in-name",
            Self::DurationUnit => "duration-unit",
        }
    }
}

impl fmt::Display for LintRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Looks at a page of any program: text of Prometheus (0.0.4, 1.0.0) or of OpenMetrics 1.0, which its last line tells. The
/// problems come in the order of the page.
///
/// ```
/// use barograph::testing::{LintRule, lint};
///
/// let problems = lint("# TYPE worker_wait_ms gauge\nworker_wait_ms 250\n");
/// let rules: Vec<LintRule> = problems.iter().map(|problem| problem.rule).collect();
/// assert_eq!(rules, [LintRule::Help, LintRule::UnitAbbreviation]);
/// assert_eq!(
///     problems[1].to_string(),
///     "worker_wait_ms (line 1): `ms` is an abbreviated unit: write seconds [unit-abbreviation]"
/// );
/// ```
#[must_use]
pub fn lint(text: &str) -> Vec<LintProblem> {
    let page = Exposition::read(text);
    let unreadable = page.unreadable.iter().map(|unreadable| LintProblem {
        metric: unreadable.text.chars().take(80).collect(),
        line: unreadable.line,
        rule: LintRule::Unreadable,
        wrong: unreadable.problem.clone(),
        right: "write what Prometheus reads".to_owned(),
    });
    let mut problems: Vec<LintProblem> = unreadable.collect();
    for family in &page.families {
        let mut findings = Findings { family, metric: shown_name(family), problems: &mut problems };
        findings.metadata();
        findings.words();
        findings.suffixes(page.is_open_metrics);
        findings.labels();
        findings.duplicates();
    }
    problems.sort_by_key(|problem| problem.line);
    problems
}

/// What a metric is called on the page: in OpenMetrics a counter's name has no `_total`, and its samples have.
fn shown_name(family: &Family) -> String {
    let suffix = match family.kind.as_deref() {
        Some("counter") => "_total",
        Some("info") => "_info",
        _ => "",
    };
    let long = format!("{}{suffix}", family.name);
    let is_called = |sample: &Sample| sample.name == long;
    if family.samples.iter().any(is_called) { long } else { family.name.clone() }
}

/// What is found out about one family.
struct Findings<'a> {
    family: &'a Family,
    metric: String,
    problems: &'a mut Vec<LintProblem>,
}

impl Findings<'_> {
    fn add(&mut self, rule: LintRule, wrong: impl Into<String>, right: impl Into<String>) {
        let (metric, line) = (self.metric.clone(), self.family.line);
        let problem = LintProblem { metric, line, rule, wrong: wrong.into(), right: right.into() };
        // A label that is wrong is wrong in every series.
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    fn kind(&self) -> &str {
        self.family.kind.as_deref().unwrap_or("untyped")
    }

    fn metadata(&mut self) {
        if self.family.help.as_deref().is_none_or(str::is_empty) {
            self.add(LintRule::Help, "there is no help text", "describe the instrument in a sentence");
        }
        let unit = self.family.unit.as_deref().unwrap_or_default();
        if !unit.is_empty() && !self.family.name.ends_with(&format!("_{unit}")) {
            let right = format!("call it {}_{unit}", self.family.name);
            self.add(LintRule::UnitSuffix, format!("its unit is {unit}, and its name does not end with it"), right);
        }
    }

    /// The words of the name.
    fn words(&mut self) {
        let name = self.metric.clone();
        if name.contains(':') {
            let right = format!("call it {}", name.replace(':', "_"));
            self.add(LintRule::ReservedCharacter, "`:` is for recording rules", right);
        }
        self.letters("its name", &name);
        let is_delimiter = |character: char| matches!(character, '_' | '.');
        let is_word = name.starts_with(|first: char| first.is_alphabetic())
            && name.ends_with(|last: char| last.is_alphanumeric())
            && !name.split(is_delimiter).any(str::is_empty);
        if !is_word {
            let wrong = "its name begins or ends with a delimiter or a digit, or has two delimiters in a row";
            let words: Vec<_> = name.split(is_delimiter).filter(|word| !word.is_empty()).collect();
            self.add(LintRule::Delimiter, wrong, format!("call it {}", words.join("_")));
        }

        let name = name.to_lowercase();
        let words: Vec<&str> = name.split(is_delimiter).filter(|word| !word.is_empty()).collect();
        // The first word is not what promlint looks at: it is the namespace's.
        for word in words.iter().skip(1) {
            if *word == self.kind() && *word != "info" && *word != "unknown" {
                let right = format!("leave out `{word}`");
                self.add(LintRule::TypeInName, format!("its name says its type, `{word}`"), right);
            }
            if let Some(unit) = spelt_out(word) {
                self.add(
                    LintRule::UnitAbbreviation,
                    format!("`{word}` is an abbreviated unit"),
                    format!("write {unit}"),
                );
            }
        }
        for word in &words {
            if let Some(base) = base_unit(word)
                && base != *word
            {
                self.add(LintRule::BaseUnit, format!("`{word}` is no base unit"), format!("record {base}"));
            }
        }
        self.parts(&words);
    }

    /// What the name is made of: the namespace, the thing, and at the end what the exposition adds.
    fn parts(&mut self, words: &[&str]) {
        let mut own = words;
        if let [rest @ .., "total"] = own {
            own = rest;
        }
        let (mut has_unit, whole) = (false, own);
        if let [rest @ .., _, "per", _] = own {
            (has_unit, own) = (true, rest);
        } else if let [rest @ .., "per", _] = own {
            own = rest;
        }
        if let [rest @ .., last] = own
            && !has_unit
            && (base_unit(last).is_some() || matches!(*last, "ratio" | "percent"))
        {
            (has_unit, own) = (true, rest);
        }
        if own.len() < 2 {
            let thing = whole.join("_");
            let right = format!("put before it what it is a part of, as in worker_{thing}");
            self.add(LintRule::Namespace, "its name has no namespace", right);
        }
        for word in own {
            if is_base_unit(word) || matches!(*word, "ratio" | "percent") {
                let right = format!("give the instrument its unit and leave `{word}` out of its name");
                self.add(LintRule::UnitInName, format!("its name has the unit `{word}`"), right);
            }
            if *word == "total" {
                let right = "leave it out; what there is in all is a `limit`";
                self.add(LintRule::TotalInName, "its name has `total` besides what a counter ends with", right);
            }
        }
        if !has_unit && whole.last() == Some(&"duration") {
            self.add(
                LintRule::DurationUnit,
                "a duration without a unit",
                "record seconds, in an instrument of the unit `s`",
            );
        }
    }

    /// What a name ends with tells its type.
    fn suffixes(&mut self, is_open_metrics: bool) {
        let (name, kind) = (self.metric.clone(), self.kind().to_owned());
        let ends_with_total = name.ends_with("_total");
        match kind.as_str() {
            "untyped" | "unknown" => return,
            "counter" if !ends_with_total => {
                self.add(LintRule::TotalSuffix, "a counter does not end with _total", format!("call it {name}_total"));
            }
            "counter" if is_open_metrics && self.family.name.ends_with("_total") => {
                let stem = self.family.name.trim_end_matches("_total").to_owned();
                let right = format!("# TYPE {stem} counter");
                self.add(LintRule::TotalSuffix, "the name of a counter has `_total` in its metadata", right);
            }
            "counter" => {}
            _ if ends_with_total => {
                let right = format!("call it {}, or make it a counter", name.trim_end_matches("_total"));
                self.add(LintRule::TotalSuffix, format!("a {kind} ends with _total"), right);
            }
            _ => {}
        }
        let is_histogram = matches!(kind.as_str(), "histogram" | "gaugehistogram");
        let reserved: &[&str] = match kind.as_str() {
            _ if is_histogram => &[],
            "summary" => &["_bucket"],
            _ => &["_bucket", "_sum", "_count"],
        };
        for suffix in reserved.iter().filter(|suffix| name.ends_with(**suffix)) {
            let right = format!("call it {}", name.trim_end_matches(suffix));
            self.add(
                LintRule::ReservedSuffix,
                format!("a {kind} ends with {suffix}, as a histogram's series do"),
                right,
            );
        }
        for (label, is_its_own) in [("le", is_histogram), ("quantile", kind == "summary")] {
            if !is_its_own && self.family.samples.iter().any(|sample| sample.label(label).is_some()) {
                let wrong = format!("a {kind} has the label `{label}`");
                self.add(LintRule::ReservedLabel, wrong, format!("give `{label}` another name"));
            }
        }
    }

    fn labels(&mut self) {
        let family = self.family;
        let names: HashSet<&str> =
            family.samples.iter().flat_map(|sample| &sample.labels).map(|(name, _)| name.as_str()).collect();
        let mut names: Vec<_> = names.into_iter().collect();
        names.sort_unstable();
        for name in names {
            self.letters(&format!("the label `{name}`"), name);
        }
    }

    fn letters(&mut self, what: &str, name: &str) {
        let is_camel = |pair: (char, char)| pair.0.is_ascii_lowercase() && pair.1.is_ascii_uppercase();
        if name.chars().zip(name.chars().skip(1)).any(is_camel) {
            let right = format!("write {}", snake_case(name));
            self.add(LintRule::CamelCase, format!("{what} is written in camelCase"), right);
        } else if name.chars().any(char::is_uppercase) {
            self.add(LintRule::LowerCase, format!("{what} has capitals"), format!("write {}", name.to_lowercase()));
        }
    }

    fn duplicates(&mut self) {
        let family = self.family;
        let mut seen = HashSet::new();
        for sample in &family.samples {
            let mut labels: Vec<_> = sample.labels.iter().collect();
            labels.sort();
            if !seen.insert((&sample.name, labels)) {
                let wrong = format!("line {} has the labels of a line before", sample.line);
                self.add(LintRule::Duplicate, wrong, "let each series stand once");
            }
        }
    }
}

fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    let mut last_is_lower = false;
    for character in name.chars() {
        if character.is_uppercase() && last_is_lower {
            snake.push('_');
        }
        last_is_lower = character.is_lowercase() || character.is_ascii_digit();
        snake.extend(character.to_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with a page, without where.
    fn found(page: &str) -> Vec<String> {
        let shown = |problem: LintProblem| {
            let LintProblem { metric, rule, wrong, right, .. } = problem;
            format!("{rule} {metric}: {wrong}: {right}")
        };
        lint(page).into_iter().map(shown).collect()
    }

    /// A page of one metric that is described.
    fn one(name: &str, kind: &str, samples: &str) -> String {
        format!("# HELP {name} Text.\n# TYPE {name} {kind}\n{samples}\n")
    }

    fn gauge(name: &str) -> String {
        one(name, "gauge", &format!("{name} 1"))
    }

    #[test]
    fn every_rule_has_a_page_that_keeps_it_and_one_that_breaks_it() {
        let duplicates = "worker_idle{a=\"1\",b=\"2\"} 1\nworker_idle{b=\"2\",a=\"1\"} 1";
        let histogram =
            "worker_wait_seconds_bucket{le=\"+Inf\"} 1\nworker_wait_seconds_sum 1\nworker_wait_seconds_count 1";
        for (rule, good, bad, said) in [
            (
                LintRule::Unreadable,
                gauge("worker_idle"),
                one("worker_idle", "gauge", "worker_idle one"),
                "worker_idle one: `one` is no number: write what Prometheus reads",
            ),
            (
                LintRule::Help,
                gauge("worker_idle"),
                "# TYPE worker_idle gauge\nworker_idle 1\n".to_owned(),
                "worker_idle: there is no help text: describe the instrument in a sentence",
            ),
            (
                LintRule::TypeInName,
                gauge("gauge_idle_workers"),
                gauge("worker_idle_gauge"),
                "worker_idle_gauge: its name says its type, `gauge`: leave out `gauge`",
            ),
            (
                LintRule::ReservedCharacter,
                gauge("worker_idle"),
                gauge("worker:idle_now"),
                "worker:idle_now: `:` is for recording rules: call it worker_idle_now",
            ),
            (
                LintRule::CamelCase,
                gauge("worker_idle_time"),
                gauge("worker_idleNow"),
                "worker_idleNow: its name is written in camelCase: write worker_idle_now",
            ),
            (
                LintRule::CamelCase,
                one("worker_idle", "gauge", "worker_idle{job_name=\"a\"} 1"),
                one("worker_idle", "gauge", "worker_idle{jobName=\"a\"} 1\nworker_idle{jobName=\"b\"} 1"),
                "worker_idle: the label `jobName` is written in camelCase: write job_name",
            ),
            (
                LintRule::UnitAbbreviation,
                gauge("worker_wait_seconds"),
                gauge("worker_wait_ms"),
                "worker_wait_ms: `ms` is an abbreviated unit: write seconds",
            ),
            (
                LintRule::BaseUnit,
                gauge("worker_wait_seconds"),
                gauge("worker_wait_milliseconds"),
                "worker_wait_milliseconds: `milliseconds` is no base unit: record seconds",
            ),
            (
                LintRule::TotalSuffix,
                one("worker_jobs_total", "counter", "worker_jobs_total 1"),
                one("worker_jobs", "counter", "worker_jobs 1"),
                "worker_jobs: a counter does not end with _total: call it worker_jobs_total",
            ),
            (
                LintRule::TotalSuffix,
                one("worker_jobs_total", "untyped", "worker_jobs_total 1"),
                gauge("worker_jobs_total"),
                "worker_jobs_total: a gauge ends with _total: call it worker_jobs, or make it a counter",
            ),
            (
                LintRule::ReservedSuffix,
                one("worker_wait_seconds", "histogram", histogram),
                gauge("worker_threads_count"),
                "worker_threads_count: a gauge ends with _count, as a histogram's series do: call it worker_threads",
            ),
            (
                LintRule::ReservedLabel,
                one("worker_wait_seconds", "summary", "worker_wait_seconds{quantile=\"0.5\"} 1"),
                one("worker_idle", "gauge", "worker_idle{le=\"1\"} 1"),
                "worker_idle: a gauge has the label `le`: give `le` another name",
            ),
            (
                LintRule::Duplicate,
                one("worker_idle", "gauge", "worker_idle{a=\"1\"} 1\nworker_idle{a=\"2\"} 1"),
                one("worker_idle", "gauge", duplicates),
                "worker_idle: line 4 has the labels of a line before: let each series stand once",
            ),
            (
                LintRule::UnitSuffix,
                format!("# UNIT worker_wait_seconds seconds\n{}# EOF\n", gauge("worker_wait_seconds")),
                format!("# UNIT worker_wait seconds\n{}# EOF\n", gauge("worker_wait")),
                "worker_wait: its unit is seconds, and its name does not end with it: call it worker_wait_seconds",
            ),
            (
                LintRule::Namespace,
                gauge("worker_wait_seconds"),
                gauge("wait_seconds"),
                "wait_seconds: its name has no namespace: put before it what it is a part of, as in worker_wait_seconds",
            ),
            (
                LintRule::LowerCase,
                gauge("http_idle"),
                gauge("HTTP_idle"),
                "HTTP_idle: its name has capitals: write http_idle",
            ),
            (
                LintRule::Delimiter,
                gauge("worker_idle_2"),
                gauge("_worker__idle"),
                "_worker__idle: its name begins or ends with a delimiter or a digit, or has two delimiters in a row: call it \
                 worker_idle",
            ),
            (
                LintRule::UnitInName,
                one("worker_read_bytes_total", "counter", "worker_read_bytes_total 1"),
                one("worker_bytes_read_total", "counter", "worker_bytes_read_total 1"),
                "worker_bytes_read_total: its name has the unit `bytes`: give the instrument its unit and leave `bytes` out \
                 of its name",
            ),
            (
                LintRule::UnitInName,
                gauge("worker_io_bytes_per_second"),
                gauge("worker_seconds_waited_seconds"),
                "worker_seconds_waited_seconds: its name has the unit `seconds`: give the instrument its unit and leave \
                 `seconds` out of its name",
            ),
            (
                LintRule::TotalInName,
                gauge("worker_memory_limit_bytes"),
                gauge("worker_memory_total_bytes"),
                "worker_memory_total_bytes: its name has `total` besides what a counter ends with: leave it out; what there \
                 is in all is a `limit`",
            ),
            (
                LintRule::DurationUnit,
                gauge("worker_job_duration_seconds"),
                gauge("worker_job_duration"),
                "worker_job_duration: a duration without a unit: record seconds, in an instrument of the unit `s`",
            ),
        ] {
            assert_eq!(found(&good), [""; 0], "{rule}: {good}");
            assert_eq!(found(&bad), [format!("{rule} {said}")], "{bad}");
        }
    }

    #[test]
    fn openmetrics_is_held_to_the_same_rules_by_the_names_of_its_samples() {
        let good = "# HELP worker_jobs Text.\n# TYPE worker_jobs counter\nworker_jobs_total 1\nworker_jobs_created 1.5\n\
                    # HELP target Text.\n# TYPE target info\ntarget_info{service_name=\"a\"} 1\n\
                    # HELP worker_wait_seconds Text.\n# TYPE worker_wait_seconds histogram\n\
                    worker_wait_seconds_bucket{le=\"+Inf\"} 1 # {trace_id=\"ab\"} 0.5\nworker_wait_seconds_count 1\n\
                    worker_wait_seconds_sum 1\n# EOF\n";
        assert_eq!(found(good), [""; 0]);
        let bad = "# HELP worker_jobs_total Text.\n# TYPE worker_jobs_total counter\nworker_jobs_total 1\n\
                   # HELP worker_tries Text.\n# TYPE worker_tries counter\nworker_tries 1\n# EOF\n";
        assert_eq!(
            found(bad),
            [
                "total-suffix worker_jobs_total: the name of a counter has `_total` in its metadata: # TYPE worker_jobs counter",
                "total-suffix worker_tries: a counter does not end with _total: call it worker_tries_total",
            ]
        );
    }

    #[test]
    fn names_with_dots_are_held_to_the_same_rules() {
        let good = "# HELP \"http.server.request.duration_seconds\" Text.\n\
                    # TYPE \"http.server.request.duration_seconds\" gauge\n\
                    {\"http.server.request.duration_seconds\",\"http.route\"=\"/\"} 1\n";
        assert_eq!(found(good), [""; 0]);
        let bad = good.replace("duration_seconds", "duration_ms").replace("http.route", "http.Route");
        assert_eq!(
            found(&bad),
            [
                "unit-abbreviation http.server.request.duration_ms: `ms` is an abbreviated unit: write seconds",
                "lower-case http.server.request.duration_ms: the label `http.Route` has capitals: write http.route",
            ]
        );
    }

    #[test]
    fn any_text_is_looked_at() {
        let piece = r#"[a-zA-Zé_:.{}"\\=, 0-9#\n+-]|# (HELP|TYPE|UNIT) a|# EOF\n|counter|_total"#;
        let texts = proptest::string::string_regex(&format!("({piece}){{0,80}}")).unwrap();
        // Nothing is written next to the sources.
        let config = proptest::test_runner::Config { failure_persistence: None, ..Default::default() };
        proptest::proptest!(config, |(text in texts)| {
            for problem in lint(&text) {
                assert!(!problem.to_string().is_empty() && (1..=text.lines().count()).contains(&problem.line));
            }
        });
    }

    #[test]
    fn a_problem_says_where_and_what() {
        let problems = lint("# HELP worker_idle Text.\n# TYPE worker_idle gauge\nworker_idle 1\njobs 1\n");
        let said: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "jobs (line 4): there is no help text: describe the instrument in a sentence [help]",
                "jobs (line 4): its name has no namespace: put before it what it is a part of, as in worker_jobs [namespace]",
            ]
        );
        assert_eq!(lint(""), []);
    }
}
