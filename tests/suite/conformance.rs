//! The tables of other implementations' tests, row by row, through the public API. They are not part of this repository:
//! `BAROGRAPH_CORPORA=folder cargo test --test suite conformance -- --ignored` reads them as JSON from a folder.
//!
//! Where Barograph deviates on purpose the row stands in the test with what Barograph does and why. A row that begins to
//! differ is noticed, and so is one that begins not to. `tests/CONFORMANCE.md` has the same list for people.

use barograph::opentelemetry::KeyValue;
use barograph::{Telemetry, TelemetryBuilder, TranslationStrategy, View};
use serde_json::Value;
use tower::ServiceExt;

use crate::case::{block_on, is_own, scrape};
use crate::parser::{self, Family, Format};

const UTF_8: &str = "text/plain;version=1.0.0;escaping=allow-utf-8";

fn table(name: &str) -> Value {
    let Ok(folder) = std::env::var("BAROGRAPH_CORPORA") else {
        panic!("BAROGRAPH_CORPORA is the folder of the tables")
    };
    let path = std::path::Path::new(&folder).join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// One row: what it is called, what the table wants, and what Barograph does.
type Row = (String, String, String);

/// A row, what Barograph does instead, and why.
type Deviation = (&'static str, &'static str, &'static str);

/// Checks that exactly the rows deviate that are known to.
fn assert_rows(count: usize, rows: &[Row], deviations: &[Deviation]) {
    assert_eq!(rows.len(), count, "rows of the table");
    let differing: Vec<(&str, &str)> = rows
        .iter()
        .filter(|(_, wanted, found)| wanted != found)
        .map(|(row, _, found)| (row.as_str(), found.as_str()))
        .collect();
    let known: Vec<(&str, &str)> = deviations.iter().map(|(row, found, _)| (*row, *found)).collect();
    let wanted: Vec<&Row> = rows.iter().filter(|(row, ..)| !known.iter().any(|(other, _)| other == row)).collect();
    assert!(differing == known, "deviations: {differing:#?}\nknown: {known:#?}\n{:#?}", {
        wanted.into_iter().filter(|(_, wanted, found)| wanted != found).collect::<Vec<_>>()
    });
}

fn text<'v>(row: &'v Value, key: &str) -> &'v str {
    row[key].as_str().unwrap_or_default()
}

fn rows<'v>(table: &'v Value, key: &str) -> impl Iterator<Item = (usize, &'v Value)> {
    table[key].as_array().unwrap().iter().enumerate()
}

fn strategy(name: &str) -> TranslationStrategy {
    match name {
        "UnderscoreEscapingWithSuffixes" => TranslationStrategy::UnderscoreEscapingWithSuffixes,
        "UnderscoreEscapingWithoutSuffixes" => TranslationStrategy::UnderscoreEscapingWithoutSuffixes,
        "NoUTF8EscapingWithSuffixes" => TranslationStrategy::NoUtf8EscapingWithSuffixes,
        "NoTranslation" => TranslationStrategy::NoTranslation,
        other => panic!("the strategy {other}"),
    }
}

/// A pipeline with one metric of any name: an instrument cannot have it, but a view can give it. It does not start with a
/// name that has no letter and no digit of ASCII.
fn named(strategy: TranslationStrategy, name: &str) -> TelemetryBuilder {
    Telemetry::builder("conformance")
        .without_endpoint()
        .without_scope_info()
        .without_target_info()
        .with_translation_strategy(strategy)
        .with_view(View::of("it").with_name(name))
}

/// The one family that is not the pipeline's own.
fn family(telemetry: &Telemetry, format: Format, accept: &str) -> Option<Family> {
    let page = scrape(&telemetry.scrape_service(), accept);
    let mut families = parser::parse(format, &page).unwrap();
    families.retain(|family| !is_own(family));
    assert!(families.len() <= 1, "{families:?}");
    families.pop()
}

#[test]
#[ignore = "needs the third-party tables: BAROGRAPH_CORPORA=folder"]
fn names_are_those_of_the_translator_that_prometheus_has() {
    let table = table("names.json");
    let mut units = Vec::new();
    let mut names = Vec::new();
    for (number, row) in rows(&table, "cases") {
        let id = format!("{number} {}", text(row, "name"));
        let wanted = row["want_name"].as_str().unwrap_or("refused").to_owned();
        let kind = text(row, "kind");
        let mut builder = named(strategy(text(row, "strategy")), text(row, "name"));
        if kind == "exponential_histogram" {
            builder = builder.with_view(View::of("it").with_name(text(row, "name")).with_exponential_buckets(160));
        }
        let Ok(telemetry) = builder.with_namespace(text(row, "namespace")).start() else {
            names.push((id, wanted, "refused".to_owned()));
            continue;
        };
        let (meter, unit) = (telemetry.meter("m"), text(row, "unit").to_owned());
        match kind {
            "gauge" => meter.u64_gauge("it").with_unit(unit).build().record(1, &[]),
            "monotonic_sum" => meter.u64_counter("it").with_unit(unit).build().add(1, &[]),
            // There are no summaries and no unknown metrics in OpenTelemetry; their names are made like these.
            "non_monotonic_sum" | "unknown" => meter.i64_up_down_counter("it").with_unit(unit).build().add(1, &[]),
            "histogram" | "exponential_histogram" | "summary" => {
                meter.u64_histogram("it").with_unit(unit).build().record(1, &[])
            }
            other => panic!("the kind {other}"),
        }
        let shown = family(&telemetry, Format::Text100, UTF_8);
        names.push((id.clone(), wanted, shown.map_or("nothing".to_owned(), |family| family.name)));
        if let Some(wanted) = row["want_unit"].as_str() {
            let accept = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8";
            let unit = family(&telemetry, Format::OpenMetrics, accept).unwrap().unit;
            units.push((id, wanted.to_owned(), unit));
        }
    }
    assert_rows(84, &names, NAMES);
    assert_rows(67, &units, UNITS);
}

const NAMES: &[Deviation] = &[
    ("29 ___", "refused", "instruments and views take no name without a letter or a digit of ASCII"),
    ("30 ___", "refused", "instruments and views take no name without a letter or a digit of ASCII"),
    ("41 @#$%", "refused", "instruments and views take no name without a letter or a digit of ASCII"),
    ("56 capacity", "capacity_tebibytes", "the specification's word; the table's is misspelt"),
];
const UNITS: &[Deviation] = &[("56 capacity", "tebibytes", "the specification's word; the table's is misspelt")];

/// The label that has the value `v`, in a pipeline with this strategy.
fn label(strategy: TranslationStrategy, key: &str, accept: &str) -> String {
    let telemetry = named(strategy, "it").start().unwrap();
    telemetry.meter("m").u64_gauge("it").build().record(1, &[KeyValue::new(key.to_owned(), "v")]);
    let family = family(&telemetry, Format::Text100, accept).unwrap();
    family.points[0].labels.iter().find(|(_, value)| value == "v").unwrap().0.clone()
}

#[test]
#[ignore = "needs the third-party tables: BAROGRAPH_CORPORA=folder"]
fn labels_are_those_of_the_translator_that_prometheus_has() {
    let table = table("labels.json");
    let mut found = Vec::new();
    for (number, row) in rows(&table, "cases") {
        for (column, strategy) in [
            ("underscores", TranslationStrategy::UnderscoreEscapingWithSuffixes),
            ("utf8", TranslationStrategy::NoTranslation),
        ] {
            let wanted = &row["want"][column];
            let wanted = wanted["label"].as_str().unwrap_or("refused").to_owned();
            let key = text(row, "label");
            found.push((format!("{number} {column} {key}"), wanted, label(strategy, key, UTF_8)));
        }
    }
    assert_rows(32, &found, LABELS);
}

const LABELS: &[Deviation] = &[
    ("9 underscores ようこそ", "_", "a point is shown with a strange label rather than not at all"),
    (
        "12 underscores __reserved__label__name__",
        "_reserved_label_name_",
        "names with two underscores before and after them are Prometheus' own",
    ),
    ("14 underscores ", "_", "a point is shown with a strange label rather than not at all"),
    ("14 utf8 ", "_", "a point is shown with a strange label rather than not at all"),
    ("15 underscores __", "_", "a point is shown with a strange label rather than not at all"),
    ("15 utf8 __", "__", "names are not translated"),
];

/// What the header `Content-Type` of an answer says.
fn content_type(accept: &str) -> String {
    let telemetry = Telemetry::builder("conformance").without_endpoint().start().unwrap();
    let request = http::Request::get("/metrics").header("accept", accept).body(()).unwrap();
    let response = block_on(telemetry.scrape_service().oneshot(request)).unwrap();
    response.headers()["content-type"].to_str().unwrap().to_owned()
}

#[test]
#[ignore = "needs the third-party tables: BAROGRAPH_CORPORA=folder"]
fn formats_are_negotiated_as_by_prometheus_library() {
    let table = table("negotiation.json");
    let found: Vec<Row> = rows(&table, "cases")
        .map(|(number, row)| {
            let (accept, mut wanted) = (text(row, "accept"), text(row, "want_content_type").to_owned());
            // Who names no escaping gets underscores, as the specification wants it. The library's default can be set.
            if !accept.contains("escaping=") {
                wanted = wanted.replace("escaping=values", "escaping=underscores");
            }
            (format!("{number} {accept}"), wanted, content_type(accept))
        })
        .collect();
    assert_rows(33, &found, NEGOTIATION);
}

const NEGOTIATION: &[Deviation] = &[
    (
        "1 application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text",
        "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
        "the two debug forms of protobuf are not offered",
    ),
    (
        "2 application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=compact-text",
        "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
        "the two debug forms of protobuf are not offered",
    ),
    (
        "5 application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text; escaping=allow-utf-8;",
        "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
        "the two debug forms of protobuf are not offered",
    ),
    (
        "6 application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=compact-text; escaping=allow-utf-8;",
        "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
        "the two debug forms of protobuf are not offered",
    ),
    (
        "16 application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=compact-text; escaping=underscores",
        "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
        "the two debug forms of protobuf are not offered",
    ),
    (
        "20 application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text; escaping=allow-utf-8;",
        "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
        "the two debug forms of protobuf are not offered",
    ),
    (
        "21 application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=compact-text; escaping=allow-utf-8;",
        "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
        "the two debug forms of protobuf are not offered",
    ),
    (
        "23 application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text; escaping=underscores;",
        "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
        "the two debug forms of protobuf are not offered",
    ),
    (
        "24 application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=compact-text; escaping=underscores;",
        "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
        "the two debug forms of protobuf are not offered",
    ),
    (
        "25 application/openmetrics-text;version=2.0.0",
        "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
        "OpenMetrics 2.0.0 is not offered",
    ),
    (
        "27 application/openmetrics-text;version=2.0.0",
        "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
        "text is always offered",
    ),
    (
        "28 application/openmetrics-text;version=1.0.0;q=0.8, application/openmetrics-text;version=2.0.0;q=0.9",
        "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores",
        "OpenMetrics 2.0.0 is not offered",
    ),
    (
        "29 */*",
        "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
        "who takes anything gets what everybody reads",
    ),
];

#[test]
#[ignore = "needs the third-party tables: BAROGRAPH_CORPORA=folder"]
fn prometheus_gets_the_format_that_it_prefers() {
    let table = table("prom-scrape-accept.json");
    let found: Vec<Row> = rows(&table, "cases")
        .map(|(_, row)| {
            let media = text(row, "preferred_media_type");
            let content_type = content_type(text(row, "accept"));
            // Prometheus never says an escaping with protobuf.
            let escaping = if media.contains("protobuf") { "underscores" } else { text(row, "escaping") };
            let found = content_type.replace(" charset=utf-8;", "");
            (text(row, "case").to_owned(), format!("{media}; escaping={escaping}"), found)
        })
        .collect();
    assert_rows(8, &found, &[]);
}

#[test]
#[ignore = "needs the third-party tables: BAROGRAPH_CORPORA=folder"]
fn strategies_and_escapings_make_the_names_of_the_specification() {
    let table = table("spec-strategy-escaping.json");
    let mut found = Vec::new();
    for (number, row) in rows(&table, "cases") {
        let telemetry = named(strategy(text(row, "translation_strategy")), "foo.bar").start().unwrap();
        telemetry.meter("m").u64_counter("it").with_unit("By").build().add(1, &[]);
        for escaping in row["escaping"].as_array().unwrap() {
            let parameter = escaping.as_str().map_or(String::new(), |escaping| format!(";escaping={escaping}"));
            let accept = format!("text/plain;version=1.0.0{parameter}");
            let name = family(&telemetry, Format::Text100, &accept).unwrap().name;
            found.push((format!("{number}{parameter}"), text(row, "want_name").to_owned(), name));
        }
    }
    assert_rows(12, &found, &[]);
}

#[test]
#[ignore = "needs the third-party tables: BAROGRAPH_CORPORA=folder"]
fn names_are_escaped_as_prometheus_library_takes_them_back() {
    let table = table("escaping.json");
    let mut found = Vec::new();
    for (number, row) in rows(&table, "escape") {
        for (column, escaping) in
            [("underscores", "underscores"), ("dots", "dots"), ("values", "values"), ("allow_utf_8", "allow-utf-8")]
        {
            let (input, wanted) = (text(row, "input"), text(&row[column], "escaped").to_owned());
            let accept = format!("text/plain;version=1.0.0;escaping={escaping}");
            let as_metric = named(TranslationStrategy::NoTranslation, input).start().map(|telemetry| {
                telemetry.meter("m").u64_gauge("it").build().record(1, &[]);
                family(&telemetry, Format::Text100, &accept).unwrap().name
            });
            // A name without a letter or a digit of ASCII can still be that of a label.
            let name = as_metric.unwrap_or_else(|_| label(TranslationStrategy::NoTranslation, input, &accept));
            found.push((format!("{number} {escaping} {input}"), wanted, name));
        }
    }
    assert_rows(32, &found, ESCAPED);
}

const ESCAPED: &[Deviation] = &[
    ("0 underscores ", "_", "a name is never empty"),
    ("0 dots ", "__", "a name is never empty"),
    ("0 values ", "_", "a name is never empty"),
    ("0 allow-utf-8 ", "_", "a name is never empty"),
];

#[test]
#[ignore = "needs the third-party tables: BAROGRAPH_CORPORA=folder"]
fn names_are_in_quotes_where_not_every_prometheus_reads_them() {
    let table = table("escaping.json");
    let mut found = Vec::new();
    let wanted = |row: &Value| if row["legacy_valid"] == true { "plain" } else { "quoted" }.to_owned();
    let shown = |is_plain: bool| if is_plain { "plain" } else { "quoted" }.to_owned();
    for (_, row) in rows(&table, "metric_name_validity") {
        // Neither an empty name nor bytes that are no text can be given to a pipeline.
        let Some(name) = row["name"].as_str().filter(|name| !name.is_empty()) else { continue };
        let telemetry = named(TranslationStrategy::NoTranslation, name).start().unwrap();
        telemetry.meter("m").u64_gauge("it").build().record(1, &[]);
        let page = String::from_utf8(scrape(&telemetry.scrape_service(), UTF_8)).unwrap();
        let is_plain = page.contains(&format!("\n{name} 1\n"));
        assert_ne!(is_plain, page.contains(&format!("\n{{\"{name}\"}} 1\n")), "{page}");
        found.push((format!("metric {name}"), wanted(row), shown(is_plain)));
    }
    for (_, row) in rows(&table, "label_name_validity") {
        let Some(name) = row["name"].as_str().filter(|name| !name.is_empty()) else { continue };
        let telemetry = named(TranslationStrategy::NoTranslation, "it").start().unwrap();
        telemetry.meter("m").u64_gauge("it").build().record(1, &[KeyValue::new(name.to_owned(), "v")]);
        let page = String::from_utf8(scrape(&telemetry.scrape_service(), UTF_8)).unwrap();
        let is_plain = page.contains(&format!("\nit{{{name}=\"v\"}} 1\n"));
        assert_ne!(is_plain, page.contains(&format!("\nit{{\"{name}\"=\"v\"}} 1\n")), "{page}");
        found.push((format!("label {name}"), wanted(row), shown(is_plain)));
    }
    assert_rows(18, &found, &[]);
}
