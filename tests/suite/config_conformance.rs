//! Configuration files against OpenTelemetry's own: its snippets and examples, the tests of its validator, and its JSON
//! schema. They are not part of this repository: `BAROGRAPH_CORPORA=folder cargo test --features config-file --test suite
//! config_conformance -- --ignored` reads them from the folder's `otel-config`. The table of substitutions is a unit test of
//! the YAML reader.

#![cfg(feature = "config-file")]

use std::collections::BTreeSet;
use std::path::PathBuf;

use barograph::config::Configuration;
use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value, json};

fn folder() -> PathBuf {
    let Some(folder) = std::env::var_os("BAROGRAPH_CORPORA") else {
        panic!("BAROGRAPH_CORPORA is the folder of the tables")
    };
    PathBuf::from(folder).join("otel-config")
}

/// The snippets and examples, by their names.
fn documents() -> Vec<(String, PathBuf)> {
    let mut documents = Vec::new();
    for kind in ["snippets", "examples"] {
        for entry in std::fs::read_dir(folder().join(kind)).unwrap() {
            let path = entry.unwrap().path();
            documents.push((path.file_stem().unwrap().to_string_lossy().into_owned(), path));
        }
    }
    documents.sort();
    documents
}

/// The text with every `${NAME:-default}` as where no variable is set.
fn substituted(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let mut rest = line;
        while let Some((before, after)) = rest.split_once("${") {
            let (reference, after) = after.split_once('}').unwrap();
            out.push_str(before);
            out.push_str(reference.split_once(":-").map_or("", |(_, default)| default));
            rest = after;
        }
        out.push_str(rest);
        out.push('\n');
    }
    out
}

/// YAML as JSON, for the schema. Not by what is tested: a second reader, for as much of YAML as the corpus has.
fn as_json(text: &str) -> Value {
    enum Open {
        List(Vec<Value>),
        Object(Map<String, Value>, Option<String>),
    }
    let mut open = Vec::new();
    for event in Parser::new_from_str(text) {
        let value = match event.unwrap().0 {
            Event::SequenceStart(..) => {
                open.push(Open::List(Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                open.push(Open::Object(Map::new(), None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop().unwrap() {
                Open::List(list) => Value::Array(list),
                Open::Object(object, _) => Value::Object(object),
            },
            Event::Scalar(text, ScalarStyle::Plain, ..) => match &*text {
                "" => Value::Null,
                // A number or a boolean is written as in JSON, or else it is text.
                text => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
            },
            Event::Scalar(text, ..) => json!(text),
            _ => continue,
        };
        match open.last_mut() {
            None => return value,
            Some(Open::List(list)) => list.push(value),
            Some(Open::Object(object, key)) => match key.take() {
                Some(key) => drop(object.insert(key, value)),
                None => *key = Some(value.as_str().unwrap().to_owned()),
            },
        }
    }
    panic!("no document: {text}")
}

#[test]
#[ignore = "needs BAROGRAPH_CORPORA"]
fn every_snippet_and_example_is_read() {
    let documents = documents();
    for (name, path) in &documents {
        let configuration = Configuration::from_file(path).unwrap_or_else(|error| panic!("{error}"));
        let document = as_json(&substituted(&std::fs::read_to_string(path).unwrap()));
        let ours = ["file_format", "disabled", "resource", "meter_provider"];
        for (key, value) in document.as_object().unwrap() {
            let is_named =
                configuration.warnings.iter().any(|warning| warning.contains(&format!(": {key}: is ignored: ")));
            assert_eq!(is_named, !ours.contains(&key.as_str()) && !value.is_null(), "{name}: {key}");
        }
        let has_provider = document.get("meter_provider").is_some();
        assert_eq!(configuration.config.meter_provider.is_some(), has_provider, "{name}");
    }
    assert!(documents.len() >= 38, "{}", documents.len());
}

/// The validator's own tests: what it accepts, and why we may not.
#[test]
#[ignore = "needs BAROGRAPH_CORPORA"]
fn the_validators_tests_come_out_the_same_but_for_these() {
    const DEVIATIONS: [(&str, bool, &str); 4] = [
        // (file, whether we accept it, why)
        ("shelltests/env_prefix.yaml", false, "the variable is not set, and an empty version is none"),
        ("shelltests/hex_integer.yaml", false, "its version is 0.1"),
        ("shelltests/test.yaml", false, "its version is 0.1"),
        ("shelltests/test.yaml", false, "its version is 0.1"),
    ];
    let text = std::fs::read_to_string(folder().join("expectations.json")).unwrap();
    let expectations: Value = serde_json::from_str(&text).unwrap();
    let mut differing = Vec::new();
    let mut rows = 0;
    for row in expectations["shelltests"].as_array().unwrap().iter().filter(|row| row["about"] == "document") {
        // The variables that rows set matter to documents that are refused with and without them.
        let file = row["file"].as_str().unwrap();
        let is_accepted = Configuration::from_file(folder().join(file)).is_ok();
        rows += 1;
        if is_accepted != (row["want_exit"] == 0) {
            differing.push((file, is_accepted));
        }
    }
    let known: Vec<_> = DEVIATIONS.iter().map(|(file, is_accepted, _)| (*file, *is_accepted)).collect();
    assert_eq!(differing, known);
    assert_eq!(rows, 8);
}

/// What the snippets leave out.
const MORE: &str = "
file_format: '1.0'
resource: {detection/development: {detectors: [{custom: {a: 1}}]}}
meter_provider:
  readers:
    - periodic:
        max_export_batch_size/development: 10
        producers: [{opencensus: }, {other: {}}]
        exporter: {otlp_grpc: {tls: {insecure: true}, max_request_size: 0}}
    - pull:
        exporter: {prometheus/development: {translation_strategy: no_translation/development}}
        producers: [{opencensus: {}}]
        cardinality_limits: {default: 5}
  views:
    - selector: {instrument_name: a}
      stream: {aggregation: {base2_exponential_bucket_histogram: {max_scale: 3, max_size: 20, record_min_max: false}}}
    - {selector: {}, stream: {aggregation: {explicit_bucket_histogram: {boundaries: []}}}}
    - {selector: {}, stream: {aggregation: {sum: {}}}}
    - {selector: {}, stream: {aggregation: {last_value: }}}
    - {selector: {}, stream: {aggregation: {default: }}}
    - {selector: {}, stream: {aggregation: {drop: }}}
  exemplar_filter: always_off
";

/// What we refuse and the schema allows: a part of our message, and why.
const STRICTER: &[(&str, &str)] = &[
    (": unknown, expected otlp_http", "an exporter that is not known: the metrics would go nowhere"),
    (": unknown, did you mean `otlp_", "an exporter that is not known: the metrics would go nowhere"),
    (": unknown, did you mean `console`", "an exporter that is not known: the metrics would go nowhere"),
    (": unknown, expected prometheus/", "an exporter that is not known: the metrics would go nowhere"),
    ("expected a port from 0 to 65535", "a port has 16 bits"),
    ("expected gzip, none or zstd", "a compression that is not known"),
    ("expected stdout or file:///", "a stream that is not known"),
    ("a relative path, expected an absolute one", "the schema's descriptions want absolute paths"),
    ("from 0 to those of a year", "a time that no clock reaches"),
    ("a number of series from 1 to 1000000", "the SDK reserves memory for all of them"),
    ("expected a number of buckets, at least 2", "more buckets than the SDK can count"),
    ("percent-encoded", "a list that is none: the schema knows texts only"),
    ("expected an integer of 64 bits", "the schema's descriptions want a value of its type"),
    (".value: an integer, expected", "the schema's descriptions want a value of its type"),
    (".value: a number with a fraction, expected", "the schema's descriptions want a value of its type"),
    (".value: a string, expected", "the schema's descriptions want a value of its type"),
    (".value: a boolean, expected", "the schema's descriptions want a value of its type"),
    (".value: a list, expected", "the schema's descriptions want a value of its type"),
    ("].value[", "the schema's descriptions want a value of its type"),
    ("the view of `", "a view that could not work"),
    ("a view selects no instrument", "a view that could not work"),
];

/// What we allow and the schema refuses: the end of the place that was changed, and why. There is none.
const LAXER: &[(&str, &str)] = &[];

/// A place in a document: keys and indices.
type Place = Vec<Value>;

fn at<'v>(document: &'v mut Value, place: &[Value]) -> &'v mut Value {
    place.iter().fold(document, |value, step| match step {
        Value::String(key) => &mut value[key.as_str()],
        index => &mut value[usize::try_from(index.as_u64().unwrap()).unwrap()],
    })
}

fn places(value: &Value, here: &Place, out: &mut Vec<Place>) {
    out.push(here.clone());
    let mut below = |step: Value, value: &Value| {
        let mut place = here.clone();
        place.push(step);
        places(value, &place, out);
    };
    match value {
        Value::Array(items) => items.iter().enumerate().for_each(|(index, item)| below(json!(index), item)),
        Value::Object(entries) => entries.iter().for_each(|(key, value)| below(json!(key), value)),
        _ => {}
    }
}

/// The document with one thing changed, in every way that we think of.
fn mutations(base: &Value) -> Vec<(Place, Value)> {
    let mut all = Vec::new();
    let mut found = Vec::new();
    for root in ["resource", "meter_provider"] {
        if let Some(value) = base.get(root) {
            places(value, &vec![json!(root)], &mut found);
        }
    }
    for place in found {
        let mut changed = |change: &dyn Fn(&mut Value)| {
            let mut document = base.clone();
            change(at(&mut document, &place));
            all.push((place.clone(), document));
        };
        for value in [
            json!(null),
            json!(true),
            json!("text"),
            json!(""),
            json!(0),
            json!(1),
            json!(-1),
            json!(1.5),
            json!(2.0),
            json!(70_000),
            json!(1_000_000_000_000_000_000_i64),
            json!([]),
            json!({}),
            json!([null]),
            json!([1, "a"]),
            json!(["a", "a"]),
            json!({"unknown": null}),
            json!({"unknown": 1}),
            json!([{}]),
        ] {
            changed(&|place| *place = value.clone());
        }
        let keys: Vec<String> =
            at(&mut base.clone(), &place).as_object().into_iter().flat_map(Map::keys).cloned().collect();
        for key in keys {
            changed(&|place| drop(place.as_object_mut().unwrap().remove(&key)));
            changed(&|place| {
                let object = place.as_object_mut().unwrap();
                let value = object.remove(&key).unwrap();
                object.insert(format!("{key}x"), value);
            });
            changed(&|place| drop(place.as_object_mut().unwrap().insert("unknown".to_owned(), json!(null))));
        }
        changed(&|place| {
            if let Value::Array(items) = place {
                items.extend(items.first().cloned());
            }
        });
    }
    all
}

#[test]
#[ignore = "needs BAROGRAPH_CORPORA"]
fn what_the_schema_allows_is_read_and_nothing_else_but_for_these() {
    let text = std::fs::read_to_string(folder().join("opentelemetry_configuration.json")).unwrap();
    let schema = jsonschema::validator_for(&serde_json::from_str(&text).unwrap()).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("otel.yaml");
    let (mut compared, mut accepted) = (0, 0);
    let mut used = BTreeSet::new();
    let mut differing = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let from_file = |path| as_json(&substituted(&std::fs::read_to_string(path).unwrap()));
    let bases = documents().into_iter().map(|(name, path)| (name, from_file(path)));
    for (name, base) in bases.chain([("what no snippet has".to_owned(), as_json(MORE))]) {
        assert!(schema.is_valid(&base), "{name}");
        for (place, document) in mutations(&base) {
            let text = serde_json::to_string(&document).unwrap();
            if !seen.insert(text.clone()) {
                continue;
            }
            // Every JSON is YAML.
            std::fs::write(&file, &text).unwrap();
            let ours = Configuration::from_file(&file);
            compared += 1;
            accepted += usize::from(ours.is_ok());
            let place = Value::Array(place).to_string();
            match (ours, schema.is_valid(&document)) {
                (Ok(_), true) | (Err(_), false) => {}
                (Err(error), true) => {
                    let error = error.to_string();
                    match STRICTER.iter().find(|(part, _)| error.contains(part)) {
                        Some((part, _)) => drop(used.insert(*part)),
                        None => drop(differing.insert(format!("we refuse {name} {place}: {error}"))),
                    }
                }
                (Ok(_), false) => match LAXER.iter().find(|(end, _)| place.ends_with(end)) {
                    Some((end, _)) => drop(used.insert(*end)),
                    None => drop(differing.insert(format!("we accept {name} {place}: {text}"))),
                },
            }
        }
    }
    assert!(differing.is_empty(), "{} of {compared}: {differing:#?}", differing.len());
    let unused: Vec<_> = STRICTER.iter().chain(LAXER).filter(|(part, _)| !used.contains(part)).collect();
    assert!(unused.is_empty(), "no longer a deviation: {unused:?}");
    assert!(compared > 3_000 && accepted > 300, "{compared} documents, {accepted} accepted");
}
