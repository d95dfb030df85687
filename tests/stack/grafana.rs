//! The dashboards of deploy/grafana: against the types that Grafana itself is built with, and against what its types do
//! not say. `tests/stack/install-grafana-schema` makes schemas of the types.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use jsonschema::Validator;
use saphyr_parser::Parser;
use serde_json::{Map, Value, json};

use crate::process;

/// The width of a dashboard.
const COLUMNS: i64 = 24;

/// What the queries of a dashboard are asked of: whatever its reader has chosen.
const CHOSEN: &str = "${datasource}";

/// A dashboard to load, by the name of its file.
fn dashboards() -> BTreeMap<String, Value> {
    let found: BTreeMap<String, Value> = files("dashboards", &["json"])
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let parsed = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (path.file_stem().unwrap().to_string_lossy().into_owned(), parsed)
        })
        .collect();
    assert!(found.len() >= 7, "deploy/grafana/dashboards has seven dashboards: {:?}", found.keys());
    found
}

/// The files below this folder of deploy/grafana that end so.
fn files(folder: &str, extensions: &[&str]) -> Vec<PathBuf> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/grafana").join(folder)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extensions.iter().any(|known| extension == *known)) {
                files.push(path);
            }
        }
    }
    files
}

/// Grafana's types.
struct Schemas {
    dashboard: Validator,
    panel: Validator,
    row: Validator,
    /// By the kind of the panel.
    options: BTreeMap<String, Validator>,
    custom: BTreeMap<String, Validator>,
}

impl Schemas {
    fn require() -> Option<Self> {
        let path = process::installed("grafana-schema/schemas.json");
        let Ok(text) = fs::read_to_string(&path) else {
            process::skip(&format!("there is no {}", path.display()), "tests/stack/install-grafana-schema");
            return None;
        };
        let schemas: Value = serde_json::from_str(&text).unwrap();
        let made = |schema: &Value| jsonschema::validator_for(schema).unwrap();
        let by_kind = |part: &str| {
            let kinds = schemas[part].as_object().unwrap().iter();
            kinds.map(|(kind, schema)| (kind.clone(), made(schema))).collect()
        };
        let dashboard = &schemas["dashboard"];
        let part = |name: &str| {
            made(&json!({"$ref": format!("#/definitions/{name}"), "definitions": dashboard["definitions"]}))
        };
        Some(Self {
            dashboard: made(dashboard),
            panel: part("Panel"),
            row: part("RowPanel"),
            options: by_kind("options"),
            custom: by_kind("custom"),
        })
    }

    /// What Grafana's types do not allow, each with its place.
    fn mistakes(&self, dashboard: &Value) -> Vec<String> {
        let mut without_panels = dashboard.clone();
        // One by one below: within the dashboard a mistake would only say that it is neither a panel nor a row.
        without_panels["panels"] = json!([]);
        let mut mistakes = refused("dashboard", &self.dashboard, &without_panels);
        for panel in panels(dashboard) {
            let name = title(panel);
            if panel["type"] == "row" {
                mistakes.extend(refused(&name, &self.row, panel));
                continue;
            }
            mistakes.extend(refused(&name, &self.panel, panel));
            let kind = panel["type"].as_str().unwrap_or_default().replace('-', "");
            let (Some(options), Some(custom)) = (self.options.get(&kind), self.custom.get(&kind)) else {
                mistakes.push(format!("{name}: there is no schema for a panel of type `{kind}`"));
                continue;
            };
            let nothing = json!({});
            let of = |value: &'_ Value| if value.is_null() { nothing.clone() } else { value.clone() };
            let configuration = &panel["fieldConfig"];
            mistakes.extend(refused(&format!("{name}: options"), options, &of(&panel["options"])));
            mistakes.extend(refused(&format!("{name}: custom"), custom, &of(&configuration["defaults"]["custom"])));
            for (setting, value) in overridden(configuration) {
                // Each stands for itself, so none is missing that a whole configuration would need.
                let alone = Value::Object(Map::from_iter([(setting.to_owned(), value.clone())]));
                let found = refused(&format!("{name}: override"), custom, &alone);
                mistakes.extend(found.into_iter().filter(|mistake| !mistake.contains("is a required property")));
            }
        }
        mistakes
    }
}

fn refused(name: &str, schema: &Validator, value: &Value) -> Vec<String> {
    let shown = |error: jsonschema::ValidationError<'_>| {
        let reason: String = error.to_string().chars().take(200).collect();
        format!("{name}{}: {reason}", error.instance_path())
    };
    schema.iter_errors(value).map(shown).collect()
}

/// What the overrides set of that which is the panel's own, by name.
fn overridden(configuration: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let overrides = configuration["overrides"].as_array().into_iter().flatten();
    let properties = overrides.flat_map(|one| one["properties"].as_array().into_iter().flatten());
    properties.filter_map(|property| Some((property["id"].as_str()?.strip_prefix("custom.")?, &property["value"])))
}

/// Every panel and row, also the panels of rows that are closed.
fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    let top = dashboard["panels"].as_array().into_iter().flatten();
    top.flat_map(|panel| std::iter::once(panel).chain(panel["panels"].as_array().into_iter().flatten()))
}

fn title(panel: &Value) -> String {
    match panel["title"].as_str() {
        Some(title) if !title.is_empty() => format!("`{title}`"),
        _ => format!("panel {}", panel["id"]),
    }
}

/// What is wrong with a dashboard though Grafana's types allow it.
fn oversights(file: &str, dashboard: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut rule = |holds: bool, name: &str, rule: &str| {
        if !holds {
            found.push(format!("{name}: {rule}"));
        }
    };
    let has_text = |value: &Value| value.as_str().is_some_and(|text| !text.trim().is_empty());
    rule(
        dashboard["uid"] == format!("barograph-{file}"),
        "dashboard",
        "its uid is barograph- and the name of its file",
    );
    rule(has_text(&dashboard["title"]), "dashboard", "it has a title");
    rule(dashboard["id"].is_null(), "dashboard", "Grafana gives it its id");
    let variables = dashboard["templating"]["list"].as_array().into_iter().flatten();
    let variables: BTreeMap<&str, &Value> = variables.map(|one| (one["name"].as_str().unwrap_or(""), one)).collect();
    for name in ["datasource", "job", "instance"] {
        rule(variables.contains_key(name), "dashboard", &format!("it has the variable `{name}`"));
    }
    for (name, variable) in &variables {
        let asks = variable["type"] == "query";
        let name = format!("variable `{name}`");
        rule(!asks || variable["datasource"]["uid"] == CHOSEN, &name, "it asks the chosen datasource");
        rule(!asks || variable["allValue"] == ".*", &name, "all means all, also series without the label");
    }

    let mut ids = BTreeSet::new();
    let mut places: Vec<(String, [i64; 4])> = Vec::new();
    let closed: BTreeSet<i64> = dashboard["panels"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|row| row["panels"].as_array().into_iter().flatten())
        .filter_map(|panel| panel["id"].as_i64())
        .collect();
    for panel in panels(dashboard) {
        let name = title(panel);
        rule(has_text(&panel["title"]), &name, "it has a title");
        rule(panel["id"].as_i64().is_some_and(|id| ids.insert(id)), &name, "it has an id of its own");
        let place = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_i64().unwrap_or(-1));
        let [x, y, width, height] = place;
        rule(x >= 0 && y >= 0 && width > 0 && height > 0, &name, "it has a place");
        rule(x + width <= COLUMNS, &name, "it lies within the 24 columns");
        // What a closed row holds takes no place until it is opened.
        if !panel["id"].as_i64().is_some_and(|id| closed.contains(&id)) {
            for (other, [left, top, other_width, other_height]) in &places {
                let apart =
                    x >= left + other_width || *left >= x + width || y >= top + other_height || *top >= y + height;
                rule(apart, &name, &format!("it does not lie on {other}"));
            }
            places.push((name.clone(), place));
        }
        if panel["type"] == "row" {
            continue;
        }
        rule(has_text(&panel["description"]), &name, "it has a description");
        let queries: Vec<&Value> = panel["targets"].as_array().into_iter().flatten().collect();
        rule(panel["type"] == "text" || !queries.is_empty(), &name, "it asks something");
        let mut letters = BTreeSet::new();
        for query in queries {
            let letter = query["refId"].as_str().unwrap_or_default();
            rule(!letter.is_empty() && letters.insert(letter), &name, "each of its queries has a refId of its own");
            let source = json!({"type": "prometheus", "uid": CHOSEN});
            rule(query["datasource"] == source, &name, "its queries ask the chosen datasource");
            rule(has_text(&query["expr"]), &name, "its queries have an expression");
        }
    }
    found
}

#[test]
fn every_dashboard_is_one_by_grafanas_own_types() {
    let Some(schemas) = Schemas::require() else { return };
    for (file, dashboard) in dashboards() {
        let mistakes = schemas.mistakes(&dashboard);
        assert!(mistakes.is_empty(), "deploy/grafana/dashboards/{file}.json:\n{}", mistakes.join("\n"));
    }
}

#[test]
fn every_panel_has_its_place_its_words_and_asks_the_chosen_datasource() {
    for (file, dashboard) in dashboards() {
        let oversights = oversights(&file, &dashboard);
        assert!(oversights.is_empty(), "deploy/grafana/dashboards/{file}.json:\n{}", oversights.join("\n"));
    }
}

#[test]
fn what_grafana_is_provisioned_with_is_yaml_of_its_first_version() {
    let found = files("provisioning", &["yml", "yaml"]);
    assert!(found.len() >= 2, "datasources and dashboards are provisioned: {found:?}");
    for path in found {
        let text = fs::read_to_string(&path).unwrap();
        let broken = Parser::new_from_str(&text).find_map(Result::err);
        assert!(broken.is_none(), "{}: {broken:?}", path.display());
        assert!(text.lines().any(|line| line == "apiVersion: 1"), "{}: `apiVersion: 1`", path.display());
    }
}

/// A small one without a mistake.
fn good() -> Value {
    let datasource = json!({"type": "prometheus", "uid": CHOSEN});
    let variable = |name: &str| {
        json!({
            "name": name, "type": "query", "datasource": datasource, "query": format!("label_values(up, {name})"),
            "multi": true, "includeAll": true, "allValue": ".*", "refresh": 2,
        })
    };
    json!({
        "uid": "barograph-good",
        "title": "Good",
        "schemaVersion": 41,
        "templating": {"list": [
            {"name": "datasource", "type": "datasource", "query": "prometheus"},
            variable("job"),
            variable("instance"),
        ]},
        "panels": [
            {"id": 1, "type": "row", "title": "Above", "collapsed": false, "gridPos": {"x": 0, "y": 0, "w": 24, "h": 1}, "panels": []},
            {
                "id": 2, "type": "timeseries", "title": "Left", "description": "What it shows.",
                "gridPos": {"x": 0, "y": 1, "w": 12, "h": 8}, "datasource": datasource,
                "targets": [{"refId": "A", "datasource": datasource, "expr": "up"}],
                "fieldConfig": {
                    "defaults": {"unit": "s", "custom": {"drawStyle": "line", "fillOpacity": 10}},
                    "overrides": [{
                        "matcher": {"id": "byName", "options": "up"},
                        "properties": [{"id": "custom.lineWidth", "value": 2}],
                    }],
                },
                "options": {
                    "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": true},
                    "tooltip": {"mode": "multi", "sort": "desc"},
                },
            },
            {
                "id": 3, "type": "text", "title": "Right", "description": "What it says.",
                "gridPos": {"x": 12, "y": 1, "w": 12, "h": 8},
                "options": {"mode": "markdown", "content": "Words."},
            },
        ],
    })
}

#[test]
fn a_good_dashboard_has_neither_mistakes_nor_oversights() {
    assert_eq!(oversights("good", &good()), [""; 0]);
    let Some(schemas) = Schemas::require() else { return };
    assert_eq!(schemas.mistakes(&good()), [""; 0]);
}

#[test]
fn what_grafanas_types_do_not_allow_is_found_where_it_is() {
    let Some(schemas) = Schemas::require() else { return };
    let cases = [
        ("/schemaVersion", Value::Null, "dashboard/schemaVersion: null is not of type \"number\""),
        ("/refresh", json!(5), "dashboard/refresh: 5 is not of type \"string\""),
        ("/templating/list/1/multy", json!(true), "dashboard/templating/list/1: Additional properties"),
        ("/templating/list/1/type", json!("qery"), "dashboard/templating/list/1/type: \"qery\" is not one of"),
        ("/panels/0/collapsed", json!("no"), "`Above`/collapsed: \"no\" is not of type \"boolean\""),
        ("/panels/1/gridPos/x", json!("0"), "`Left`/gridPos/x: \"0\" is not of type \"number\""),
        ("/panels/1/titel", json!("Left"), "`Left`: Additional properties are not allowed ('titel' was unexpected)"),
        ("/panels/1/type", json!("graf"), "`Left`: there is no schema for a panel of type `graf`"),
        (
            "/panels/1/options/legend/placement",
            json!("under"),
            "`Left`: options/legend/placement: \"under\" is not one of",
        ),
        (
            "/panels/1/options/legend/calcs",
            json!("mean"),
            "`Left`: options/legend/calcs: \"mean\" is not of type \"array\"",
        ),
        ("/panels/1/fieldConfig/defaults/units", json!("s"), "`Left`/fieldConfig/defaults: Additional properties"),
        (
            "/panels/1/fieldConfig/defaults/custom/drawStyle",
            json!("lines"),
            "`Left`: custom/drawStyle: \"lines\" is not",
        ),
        (
            "/panels/1/fieldConfig/overrides/0/properties/0/id",
            json!("custom.width"),
            "`Left`: override: Additional properties",
        ),
        (
            "/panels/1/fieldConfig/overrides/0/properties/0/value",
            json!("2"),
            "`Left`: override/lineWidth: \"2\" is not",
        ),
        ("/panels/2/options/mode", json!("marked"), "`Right`: options/mode: \"marked\" is not one of"),
        (
            "/panels/2/fieldConfig",
            json!({"defaults": {"custom": {"a": 1}}, "overrides": []}),
            "`Right`: custom: False schema",
        ),
    ];
    for (place, value, said) in cases {
        let mistakes = schemas.mistakes(&with(place, value));
        assert!(mistakes.iter().any(|mistake| mistake.starts_with(said)), "{place}: {said:?} is not in {mistakes:#?}");
        assert_eq!(mistakes.len(), 1, "{place}: nothing else is wrong: {mistakes:#?}");
    }
}

#[test]
fn what_grafana_would_take_but_nobody_wants_is_found() {
    let query =
        |letter: &str| json!({"refId": letter, "datasource": {"type": "prometheus", "uid": CHOSEN}, "expr": "up"});
    let cases = [
        ("/uid", json!("good"), "dashboard: its uid"),
        ("/title", json!(" "), "dashboard: it has a title"),
        ("/id", json!(7), "dashboard: Grafana gives it its id"),
        ("/templating/list/2/name", json!("host"), "dashboard: it has the variable `instance`"),
        ("/templating/list/1/datasource/uid", json!("prom"), "variable `job`: it asks the chosen datasource"),
        ("/templating/list/1/allValue", Value::Null, "variable `job`: all means all"),
        ("/panels/1/id", json!(1), "`Left`: it has an id of its own"),
        ("/panels/1/title", json!(""), "panel 2: it has a title"),
        ("/panels/1/description", Value::Null, "`Left`: it has a description"),
        ("/panels/1/gridPos/h", json!(0), "`Left`: it has a place"),
        ("/panels/2/gridPos/w", json!(13), "`Right`: it lies within the 24 columns"),
        ("/panels/2/gridPos/x", json!(11), "`Right`: it does not lie on `Left`"),
        ("/panels/2/gridPos/y", json!(0), "`Right`: it does not lie on `Above`"),
        ("/panels/1/targets", json!([]), "`Left`: it asks something"),
        ("/panels/1/targets", json!([query("A"), query("A")]), "`Left`: each of its queries has a refId of its own"),
        ("/panels/1/targets/0/expr", json!(""), "`Left`: its queries have an expression"),
        ("/panels/1/targets/0/datasource/uid", json!("prom"), "`Left`: its queries ask the chosen datasource"),
    ];
    for (place, value, said) in cases {
        let oversights = oversights("good", &with(place, value));
        assert!(oversights.iter().any(|one| one.starts_with(said)), "{place}: {said:?} is not in {oversights:#?}");
        assert_eq!(oversights.len(), 1, "{place}: nothing else is wrong: {oversights:#?}");
    }
}

/// The good one with this value in this place.
fn with(place: &str, value: Value) -> Value {
    let mut dashboard = good();
    let (parent, name) = place.rsplit_once('/').unwrap();
    dashboard.pointer_mut(parent).unwrap()[name] = value;
    dashboard
}
