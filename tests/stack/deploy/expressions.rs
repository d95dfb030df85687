//! Every expression of `deploy/`: of panels and variables from the dashboards' files, of rules as Prometheus has read them.
//!
//! What an expression filters away is no sign of its being right: `errors > 0` gives nothing on a good day, and nothing
//! either if no such metric exists. So an alert is taken apart into what it compares and joins, each of which gives data.

use std::fs;
use std::path::{Path, PathBuf};

use promql_parser::parser::value::ValueType;
use promql_parser::parser::{Expr, parse};
use serde_json::Value;

/// What has to give data, and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Expression {
    pub(crate) place: String,
    pub(crate) promql: String,
}

/// The path below `deploy/`.
pub(crate) fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

/// Grafana replaces these by what is looked at: here by a few scrapes, and by everybody.
const VARIABLES: [(&str, &str); 8] = [
    ("$__rate_interval", "10s"),
    ("$__interval", "5s"),
    ("$__range", "1m"),
    ("$job", ".*"),
    ("${job}", ".*"),
    ("$instance", ".*"),
    ("${instance}", ".*"),
    ("$datasource", ""),
];

/// Those of all panels, and the queries that fill the variables.
pub(crate) fn of_dashboards() -> Vec<Expression> {
    let mut found = Vec::new();
    for entry in fs::read_dir(deploy("grafana/dashboards")).unwrap() {
        let path = entry.unwrap().path();
        let dashboard: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        for variable in dashboard["templating"]["list"].as_array().unwrap() {
            if let Some(query) = variable["query"]["query"].as_str() {
                let place = format!("{file}, variable `{}`", variable["name"].as_str().unwrap());
                found.push(Expression { place, promql: values_of_label(query) });
            }
        }
        of_panels(&file, &dashboard["panels"], &mut found);
    }
    found
}

fn of_panels(file: &str, panels: &Value, found: &mut Vec<Expression>) {
    for panel in panels.as_array().into_iter().flatten() {
        let place = format!("{file}, panel `{}`", panel["title"].as_str().unwrap_or_default());
        for target in panel["targets"].as_array().into_iter().flatten() {
            let promql = with_values(target["expr"].as_str().unwrap_or_else(|| panic!("{place}: a query without one")));
            found.push(Expression { place: place.clone(), promql });
        }
        // A row that is folded has its panels inside.
        of_panels(file, &panel["panels"], found);
    }
}

/// `label_values(metric{…}, label)`, which is Grafana's own, as PromQL.
fn values_of_label(query: &str) -> String {
    let inside = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
    let (selector, label) = inside.and_then(|inside| inside.rsplit_once(", ")).unwrap_or_else(|| panic!("{query}"));
    let selector = match selector.strip_suffix('}') {
        Some(selector) => format!("{selector}, {label}!=\"\"}}"),
        None => format!("{selector}{{{label}!=\"\"}}"),
    };
    format!("count by ({label}) ({})", with_values(&selector))
}

#[track_caller]
fn with_values(promql: &str) -> String {
    let replaced =
        VARIABLES.iter().fold(promql.to_owned(), |promql, (variable, value)| promql.replace(variable, value));
    assert!(!replaced.contains('$'), "a variable that nobody has given a value: {replaced}");
    replaced
}

/// Those of rules, as the rules API shows them: of recording rules the whole and the series that it makes, of alerts the
/// parts.
pub(crate) fn of_rules(rules: &Value) -> Vec<Expression> {
    let mut found = Vec::new();
    for group in rules["groups"].as_array().unwrap() {
        let file = group["file"].as_str().and_then(|file| file.rsplit('/').next()).unwrap();
        for rule in group["rules"].as_array().unwrap() {
            let (name, promql) = (rule["name"].as_str().unwrap(), rule["query"].as_str().unwrap());
            let place = format!("{file}, {} `{name}`", rule["type"].as_str().unwrap());
            let promqls = if rule["type"] == "recording" {
                vec![promql.to_owned(), format!("{name}{{{}}}", matchers(&rule["labels"]))]
            } else {
                parts(promql)
            };
            found.extend(promqls.into_iter().map(|promql| Expression { place: place.clone(), promql }));
        }
    }
    found
}

fn matchers(labels: &Value) -> String {
    let labels = labels.as_object().into_iter().flatten();
    labels.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
}

/// The parts of an expression that give data whether or not anything is wrong: what it compares, what it joins, and what it
/// finds absent.
#[track_caller]
pub(crate) fn parts(promql: &str) -> Vec<String> {
    let mut found = Vec::new();
    take_apart(&parsed(&without_offsets(promql)), &mut found);
    found
}

/// The same about now: what is to have been there for hours was not when everything began a minute ago.
fn without_offsets(promql: &str) -> String {
    let mut parts = promql.split(" offset ");
    let now = parts.next().unwrap_or_default().to_owned();
    let is_of_duration = |c: char| c.is_ascii_alphanumeric();
    parts.fold(now, |now, part| now + part.trim_start_matches(is_of_duration))
}

fn take_apart(expression: &Expr, found: &mut Vec<String>) {
    if expression.value_type() == ValueType::Scalar {
        return;
    }
    match expression {
        Expr::Paren(paren) => take_apart(&paren.expr, found),
        Expr::Call(call) if matches!(call.func.name, "absent" | "absent_over_time") => {
            call.args.args.iter().for_each(|argument| take_apart(argument, found));
        }
        // What is there at all is there in the last minutes.
        Expr::MatrixSelector(matrix) => found.push(matrix.vs.to_string()),
        Expr::Binary(binary) if filters(expression) => {
            take_apart(&binary.lhs, found);
            take_apart(&binary.rhs, found);
        }
        Expr::Aggregate(aggregate) if filters(&aggregate.expr) => take_apart(&aggregate.expr, found),
        Expr::Call(call) if call.args.args.iter().any(|argument| filters(argument)) => {
            call.args.args.iter().for_each(|argument| take_apart(argument, found));
        }
        whole => found.push(whole.to_string()),
    }
}

/// Whether it leaves something out by its value, or for what another side has.
fn filters(expression: &Expr) -> bool {
    match expression {
        Expr::Binary(binary) => {
            let is_filter = binary.op.is_comparison_operator() && !binary.return_bool();
            is_filter || binary.op.is_set_operator() || filters(&binary.lhs) || filters(&binary.rhs)
        }
        Expr::Paren(paren) => filters(&paren.expr),
        Expr::Unary(unary) => filters(&unary.expr),
        Expr::Aggregate(aggregate) => filters(&aggregate.expr),
        Expr::Subquery(subquery) => filters(&subquery.expr),
        Expr::Call(call) => {
            call.func.name.starts_with("absent") || call.args.args.iter().any(|argument| filters(argument))
        }
        _ => false,
    }
}

/// The sides of `or`s at the top: any of them is what is shown.
#[track_caller]
pub(crate) fn alternatives(promql: &str) -> Vec<String> {
    fn split(expression: &Expr, found: &mut Vec<String>) {
        match expression {
            Expr::Binary(binary) if binary.op.to_string() == "or" => {
                split(&binary.lhs, found);
                split(&binary.rhs, found);
            }
            Expr::Paren(paren) => split(&paren.expr, found),
            side => found.push(side.to_string()),
        }
    }
    let mut found = Vec::new();
    split(&parsed(promql), &mut found);
    found
}

#[track_caller]
fn parsed(promql: &str) -> Expr {
    parse(promql).unwrap_or_else(|error| panic!("{promql}: {error}"))
}

#[test]
fn an_alert_is_taken_apart_into_what_gives_data_when_all_is_well() {
    let cases: [(&str, &[&str]); 9] = [
        ("up{job=\"a\"} == 0", &["up{job=\"a\"}"]),
        ("absent(up)", &["up"]),
        ("absent_over_time(up[5m])", &["up"]),
        ("a > 2 * 0.01 and on (job) (b >= 5 or c < time())", &["a", "b", "c"]),
        ("a unless on (job) b == 1", &["a", "b"]),
        ("sum(rate(a[5m])) / (sum(rate(b[5m])) > 0) > 0.5", &["sum(rate(a[5m]))", "sum(rate(b[5m]))"]),
        ("count(a == 1) > 2", &["a"]),
        ("a > 0 unless max(max_over_time(a[1h] offset 15m))", &["a", "max(max_over_time(a[1h]))"]),
        ("min_over_time(a[5m]) > b", &["min_over_time(a[5m])", "b"]),
    ];
    for (promql, expected) in cases {
        assert_eq!(parts(promql), expected, "{promql}");
    }
}

#[test]
fn a_query_for_values_of_a_label_is_promql_with_that_label() {
    assert_eq!(values_of_label("label_values(a, job)"), "count by (job) (a{job!=\"\"})");
    let instances = "count by (instance) (a{job=~\".*\", instance!=\"\"})";
    assert_eq!(values_of_label("label_values(a{job=~\"$job\"}, instance)"), instances);
}
