//! What is made from the catalogue is up to date, and dashboards and rules ask for nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value;

use crate::generator::{self, catalogue};
use crate::root;

#[test]
fn generated_files_are_what_the_generator_writes() {
    for (file, text) in generator::files(root()).unwrap() {
        let committed = fs::read_to_string(root().join(&file)).unwrap_or_default();
        assert!(committed == text, "{file}: is not what the specs and layouts say now: run `{}`", generator::COMMAND);
    }
}

#[test]
fn the_catalogue_has_every_spec_with_what_a_dashboard_needs_of_it() {
    let catalogue = catalogue::json();
    let metrics = catalogue.as_array().unwrap();
    let specs: usize = catalogue::components().iter().map(|component| component.metrics.len()).sum();
    assert_eq!(metrics.len(), specs);
    for metric in metrics {
        let name = &metric["name"];
        for key in ["component", "description", "kind", "name", "scope", "scraped_name"] {
            assert!(metric[key].as_str().is_some_and(|text| !text.is_empty()), "{name}: the catalogue has its {key}");
        }
        assert_eq!(metric["buckets"].is_array(), metric["kind"] == "histogram", "{name}: histograms have buckets");
    }
}

#[test]
fn dashboards_and_rules_ask_only_for_metrics_that_exist() {
    let series = exposed_series();
    let recorded: BTreeSet<String> = rules("rules").iter().flat_map(|(_, text)| yaml_values(text, "record:")).collect();
    for (file, expression) in dashboards().into_iter().chain(expressions_of_rules()) {
        for name in metric_names(&expression) {
            let is_known = series.contains_key(&name)
                || recorded.contains(&name)
                || matches!(&*name, "up" | "ALERTS")
                || name.starts_with("scrape_");
            assert!(is_known, "{file}: nobody exposes or records `{name}`: {expression}");
        }
    }
}

#[test]
fn every_metric_is_on_a_dashboard() {
    let series = exposed_series();
    let shown: BTreeSet<&str> = dashboards()
        .iter()
        .flat_map(|(_, expression)| metric_names(expression))
        .filter_map(|name| series.get(&name).copied())
        .collect();
    for component in catalogue::components() {
        for metric in component.metrics {
            assert!(shown.contains(metric.name), "{}: `{}` is on no dashboard", component.name, metric.name);
        }
    }
}

#[test]
fn every_panel_says_what_it_shows_and_follows_the_variables() {
    for (file, dashboard) in dashboard_files() {
        for panel in panels(&dashboard) {
            let title = &panel["title"];
            let says = |key: &str| panel[key].as_str().is_some_and(|text| !text.is_empty());
            assert!(says("title") && says("description"), "{file}: {title}: a panel has a title and a description");
            for target in panel["targets"].as_array().unwrap() {
                let expression = target["expr"].as_str().unwrap();
                for variable in ["job=~\"$job", "instance=~\"$instance"] {
                    assert!(expression.contains(variable), "{file}: {title}: follows the variables: {expression}");
                }
            }
        }
    }
}

#[test]
fn names_are_found_in_expressions_as_people_write_them() {
    let names = |expression| metric_names(expression).into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(
        names(r#"sum by (le) (rate(a_bucket{b="c{"}[5m] offset 1h)) / on (d) group_left e > bool 0.5"#),
        "a_bucket e"
    );
    assert_eq!(names("sum(a:b:rate5m) without (instance) or vector(1) # c"), "a:b:rate5m");
    assert_eq!(names("1e3 * a unless absent(b[10m:1m]) and time() - c > Inf"), "a b c");
    let rules = "  - expr: a > 1\n    for: 1m\n  - record: b:c\n    expr: |\n      d\n      / e\n    labels: {}\n";
    assert_eq!(yaml_values(rules, "expr:"), ["a > 1", "d\n/ e"]);
}

/// The names of series, and that of the metric they belong to.
fn exposed_series() -> BTreeMap<String, &'static str> {
    let mut series = BTreeMap::new();
    for metric in catalogue::components().iter().flat_map(|component| component.metrics) {
        let name = metric.scraped_name().unwrap();
        if metric.kind == barograph::Kind::Histogram {
            for suffix in ["_bucket", "_count", "_sum"] {
                series.insert(format!("{name}{suffix}"), metric.name);
            }
        }
        series.insert(name, metric.name);
    }
    series
}

fn dashboard_files() -> Vec<(String, Value)> {
    let files = fs::read_dir(root().join("deploy/grafana/dashboards")).unwrap().map(|entry| entry.unwrap());
    let read = |entry: fs::DirEntry| {
        let text = fs::read_to_string(entry.path()).unwrap();
        (entry.file_name().into_string().unwrap(), serde_json::from_str(&text).unwrap())
    };
    files.map(read).collect()
}

fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row")
}

/// Every expression of every panel, with its file.
fn dashboards() -> Vec<(String, String)> {
    let mut expressions = Vec::new();
    for (file, dashboard) in dashboard_files() {
        for target in panels(&dashboard).flat_map(|panel| panel["targets"].as_array().unwrap()) {
            expressions.push((file.clone(), target["expr"].as_str().unwrap().to_owned()));
        }
    }
    assert!(!expressions.is_empty());
    expressions
}

/// The files of a folder of `deploy/prometheus`.
fn rules(folder: &str) -> Vec<(String, String)> {
    let folder = root().join("deploy/prometheus").join(folder);
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    let files = entries.filter(|file| file.extension().is_some_and(|extension| extension == "yml"));
    files.map(|file| (file.display().to_string(), fs::read_to_string(&file).unwrap())).collect()
}

fn expressions_of_rules() -> Vec<(String, String)> {
    let of = |folder, key: &'static str| {
        let files = rules(folder).into_iter();
        files.flat_map(move |(file, text)| yaml_values(&text, key).into_iter().map(move |value| (file.clone(), value)))
    };
    of("rules", "expr:").chain(of("tests", "expr:")).chain(of("tests", "series:")).collect()
}

/// The values of a key, which may stand on the lines below it.
fn yaml_values(text: &str, key: &str) -> Vec<String> {
    let mut values = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(value) = line.trim_start_matches([' ', '-']).strip_prefix(key) else { continue };
        let column = line.find(key).unwrap();
        let is_below = |line: &&str| line.trim().is_empty() || line.len() - line.trim_start().len() > column;
        let mut parts = vec![value.trim().trim_matches(['|', '>', '-'])];
        while let Some(line) = lines.next_if(is_below) {
            parts.push(line.trim());
        }
        values.push(parts.join("\n").trim().trim_matches('\'').to_owned());
    }
    values
}

/// The names of the metrics in an expression: the words that are neither functions, labels nor keywords.
fn metric_names(expression: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        let word = first_word(rest);
        rest = match first {
            '"' | '\'' | '`' => after(&rest[1..], first),
            '{' => after(rest, '}'),
            '[' => after(rest, ']'),
            '#' => after(rest, '\n'),
            _ if word.is_empty() => &rest[first.len_utf8()..],
            _ => {
                let following = rest[word.len()..].trim_start();
                match word.to_ascii_lowercase().as_str() {
                    "by" | "without" | "on" | "ignoring" | "group_left" | "group_right"
                        if following.starts_with('(') =>
                    {
                        after(following, ')')
                    }
                    "and" | "or" | "unless" | "bool" | "offset" | "group_left" | "group_right" | "inf" | "nan" => {
                        following
                    }
                    // A function, or what comes before the labels that it adds up by.
                    _ if following.starts_with('(') || ["by", "without"].contains(&first_word(following)) => following,
                    _ if first.is_ascii_digit() => following,
                    _ => {
                        names.insert(word.to_owned());
                        following
                    }
                }
            }
        };
    }
    names
}

/// The word, or number, that a text begins with.
fn first_word(text: &str) -> &str {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '.');
    &text[..text.find(|c| !is_word(c)).unwrap_or(text.len())]
}

/// What comes after the next `end` that is not in quotes.
fn after(text: &str, end: char) -> &str {
    let mut quote = None;
    let mut is_escaped = false;
    for (position, c) in text.char_indices() {
        match quote {
            _ if is_escaped => is_escaped = false,
            Some(_) if c == '\\' => is_escaped = true,
            Some(q) if c == q => quote = None,
            Some(_) => {}
            None if c == end => return &text[position + c.len_utf8()..],
            None if matches!(c, '"' | '\'' | '`') => quote = Some(c),
            None => {}
        }
    }
    ""
}
