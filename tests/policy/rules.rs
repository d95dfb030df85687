//! Alerts: each has what whoever is woken needs, a runbook, and a test in which it is quiet and one in which it fires.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use saphyr_parser::{Event, Parser};
use serde_json::Value;

use crate::root;

/// The components with rules, and what the names of their alerts begin with.
const COMPONENTS: [(&str, &str); 8] = [
    ("test-watcher", "TestWatcher"),
    ("audit-agent", "AuditAgent"),
    ("async-bridge", "AsyncBridge"),
    ("api-clients", "Api"),
    ("system", "System"),
    ("http", "Http"),
    ("tokio", "Tokio"),
    ("barograph", "Barograph"),
];

/// A YAML file as JSON. Scalars stay the texts that they are: nothing here needs their types.
fn yaml(file: &str) -> Value {
    let text = fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let mut events = Parser::new_from_str(&text).map(|event| event.unwrap_or_else(|error| panic!("{file}: {error}")).0);
    node(&mut events).unwrap_or_else(|| panic!("{file}: it is empty"))
}

/// The next node; none where a sequence, a mapping or the file ends.
fn node<'a>(events: &mut impl Iterator<Item = Event<'a>>) -> Option<Value> {
    loop {
        match events.next()? {
            Event::Scalar(text, ..) => return Some(Value::String(text.into_owned())),
            Event::SequenceStart(..) => {
                let mut items = Vec::new();
                while let Some(item) = node(events) {
                    items.push(item);
                }
                return Some(Value::Array(items));
            }
            Event::MappingStart(..) => {
                let mut fields = serde_json::Map::new();
                while let Some(key) = node(events) {
                    fields.insert(key.as_str().unwrap().to_owned(), node(events).unwrap());
                }
                return Some(Value::Object(fields));
            }
            Event::SequenceEnd | Event::MappingEnd => return None,
            Event::Alias(_) => {
                panic!("an alias: write it out, whoever reads rules at night should not have to look up")
            }
            _ => {}
        }
    }
}

fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value[field].as_array().into_iter().flatten()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// The alerts of a component.
fn alerts(component: &str) -> Vec<Value> {
    rules(component).into_iter().filter(|rule| rule.get("alert").is_some()).collect()
}

fn rules(component: &str) -> Vec<Value> {
    let file = yaml(&format!("deploy/prometheus/rules/{component}.yml"));
    list(&file, "groups").flat_map(|group| list(group, "rules")).cloned().collect()
}

/// The names of all alerts and their severities.
fn severities() -> BTreeMap<String, BTreeSet<String>> {
    let mut severities = BTreeMap::<String, BTreeSet<String>>::new();
    for alert in COMPONENTS.iter().flat_map(|(component, _)| alerts(component)) {
        let severity = text(&alert["labels"], "severity").to_owned();
        severities.entry(text(&alert, "alert").to_owned()).or_default().insert(severity);
    }
    severities
}

/// The same text wherever its lines end.
fn as_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The files of this folder that end so, without the end.
fn stems(folder: &str, end: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(root().join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| name.strip_suffix(end).map(str::to_owned)).collect()
}

fn runbooks() -> BTreeSet<String> {
    stems("deploy/runbooks", ".md").into_iter().filter(|name| name != "README").collect()
}

#[test]
fn every_component_has_rules_and_tests_of_them() {
    let components: BTreeSet<String> = COMPONENTS.iter().map(|(component, _)| (*component).to_owned()).collect();
    for folder in ["deploy/prometheus/rules", "deploy/prometheus/tests"] {
        assert_eq!(stems(folder, ".yml"), components, "{folder}: a file for each component, and no other");
    }
}

#[test]
fn every_alert_says_what_whoever_is_woken_needs() {
    for (component, prefix) in COMPONENTS {
        for alert in alerts(component) {
            let name = text(&alert, "alert");
            let rule =
                |holds: bool, rule: &str| assert!(holds, "deploy/prometheus/rules/{component}.yml: {name}: {rule}");
            rule(
                name.starts_with(prefix) && name.bytes().all(|byte| byte.is_ascii_alphanumeric()),
                "its name is in CamelCase and begins with its component's",
            );
            let (labels, annotations) = (&alert["labels"], &alert["annotations"]);
            let severity = text(labels, "severity");
            rule(matches!(severity, "critical" | "warning" | "info"), "its severity is critical, warning or info");
            rule(text(labels, "component") == component, "it has the component of its file");
            let summary = text(annotations, "summary");
            rule(summary.ends_with('.') && !summary.contains('\n'), "its summary is one line and a sentence");
            rule(text(annotations, "description").ends_with('.'), "its description is sentences");
            rule(text(annotations, "runbook") == format!("deploy/runbooks/{name}.md"), "its runbook is named after it");
            let expression = text(&alert, "expr");
            rule(!expression.contains("otel_scope_"), "it does not depend on the version of a library");
        }
    }
}

#[test]
fn recorded_series_are_named_by_level_metric_and_operation() {
    for (component, _) in COMPONENTS {
        for rule in rules(component).iter().filter(|rule| rule.get("record").is_some()) {
            let name = text(rule, "record");
            assert_eq!(name.split(':').count(), 3, "{component}: `{name}` is level:metric:operations");
            assert!(!text(rule, "expr").contains("otel_scope_"), "{component}: {name}");
        }
    }
}

#[test]
fn every_alert_has_a_runbook_and_every_runbook_an_alert() {
    let names: BTreeSet<String> = severities().into_keys().collect();
    assert_eq!(runbooks(), names, "deploy/runbooks: one file for each alert, named after it");
    let sections = ["## What it means", "## Look", "## Causes and fixes", "## Silence", "## It ends"];
    for name in &names {
        let file = format!("deploy/runbooks/{name}.md");
        let runbook = fs::read_to_string(root().join(&file)).unwrap();
        assert!(runbook.starts_with(&format!("# {name}\n")), "{file}: its title is its alert");
        for section in sections {
            assert!(runbook.contains(&format!("\n{section}\n")), "{file}: it has no section `{section}`");
        }
        let asked = as_one_line(&runbook);
        for rule in COMPONENTS.iter().flat_map(|(component, _)| alerts(component)) {
            let is_there = text(&rule, "alert") != name || asked.contains(&as_one_line(text(&rule, "expr")));
            assert!(is_there, "{file}: it has the alert's expression as it is, to paste: {}", text(&rule, "expr"));
        }
        let link = |dashboard: &str| runbook.contains(&format!("`barograph-{dashboard}`"));
        let dashboards = ["system-health", "test-watcher", "audit-agent", "api", "http", "runtime", "sdk"];
        assert!(dashboards.into_iter().any(link), "{file}: it names the uid of a dashboard");
    }
}

#[test]
fn the_index_of_the_runbooks_names_all_with_their_severity() {
    let index = fs::read_to_string(root().join("deploy/runbooks/README.md")).unwrap();
    let rows: BTreeMap<String, BTreeSet<String>> = index
        .lines()
        .filter_map(|line| line.strip_prefix("| ["))
        .map(|row| {
            let (name, rest) = row.split_once(']').unwrap();
            assert!(rest.starts_with(&format!("({name}.md) | ")), "deploy/runbooks/README.md: {row}");
            let severities = rest.split(" | ").nth(1).unwrap();
            (name.to_owned(), severities.split(", ").map(str::to_owned).collect())
        })
        .collect();
    assert_eq!(rows, severities(), "deploy/runbooks/README.md: a row for each alert");
}

#[test]
fn every_alert_is_tested_once_quiet_and_once_firing() {
    for (component, _) in COMPONENTS {
        let file = format!("deploy/prometheus/tests/{component}.yml");
        let (mut quiet, mut firing) = (BTreeSet::new(), BTreeSet::new());
        let mut recorded = BTreeSet::new();
        let tests = yaml(&file);
        for test in list(&tests, "tests") {
            for check in list(test, "alert_rule_test") {
                let name = text(check, "alertname").to_owned();
                if list(check, "exp_alerts").next().is_none() {
                    quiet.insert(name.clone());
                }
                for alert in list(check, "exp_alerts") {
                    firing.insert((name.clone(), text(&alert["exp_labels"], "severity").to_owned()));
                }
            }
            for check in list(test, "promql_expr_test").filter(|check| list(check, "exp_samples").next().is_some()) {
                recorded.insert(text(check, "expr").to_owned());
            }
        }
        for rule in rules(component) {
            let (name, severity) = (text(&rule, "alert"), text(&rule["labels"], "severity"));
            if rule.get("record").is_some() {
                let name = text(&rule, "record");
                assert!(recorded.contains(name), "{file}: the value of `{name}` is not tested");
                continue;
            }
            assert!(quiet.contains(name), "{file}: no test in which {name} is quiet");
            let fires = firing.contains(&(name.to_owned(), severity.to_owned()));
            assert!(fires, "{file}: no test in which {name} fires with severity {severity}");
        }
    }
}

#[test]
fn a_yaml_file_is_read_as_it_stands() {
    let file = yaml("deploy/prometheus/localhost.yml");
    assert_eq!(text(&file["global"], "scrape_interval"), "15s");
    let jobs: Vec<&str> = list(&file, "scrape_configs").map(|job| text(job, "job_name")).collect();
    assert_eq!(jobs, ["platform", "service", "prometheus"]);
}
