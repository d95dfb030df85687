//! What says that it follows the semantic conventions does: its names, kinds, units and attributes are those of
//! `semconv.json`, which `semconv.py` writes from the conventions themselves.

use barograph::{AttributeInfo, Descriptor, Kind};
use barograph_instrumentation_system::semconv as system;
use serde_json::Value;

/// What follows the conventions: a component and its metrics.
const FOLLOWERS: [(&str, &[Descriptor]); 3] = [
    ("http", barograph_instrumentation_http::semconv::METRICS),
    ("system", system::PROCESS_METRICS),
    ("system", system::HOST_METRICS),
];

/// Attributes that a component's metrics have besides those that the conventions list for them. The conventions know them
/// all the same.
const BESIDES: [(&str, &str); 1] = [
    // A call of gRPC is a request of HTTP whose status says nothing.
    ("http", "rpc.response.status_code"),
];

#[test]
fn what_follows_the_semantic_conventions_is_in_their_table() {
    let conventions = conventions();
    for (component, metrics) in FOLLOWERS {
        for metric in metrics {
            let problems = problems(&conventions, component, metric);
            assert!(problems.is_empty(), "instrumentation/{component}: `{}`: {}", metric.name, problems.join("; "));
        }
    }
}

#[test]
fn components_say_which_version_of_the_conventions_they_follow() {
    let conventions = conventions();
    let version = conventions["version"].as_str().unwrap();
    for (component, _) in FOLLOWERS {
        for file in ["README.md", "src/semconv.rs"] {
            let path = crate::root().join("instrumentation").join(component).join(file);
            let text = std::fs::read_to_string(path).unwrap();
            assert!(text.contains(version), "instrumentation/{component}/{file}: says that it follows {version}");
        }
    }
}

#[test]
fn what_departs_from_the_conventions_is_noticed() {
    const MODE: &[AttributeInfo] = &[AttributeInfo { key: "cpu.mode", values: &["user", "lost"] }];
    let conventions = conventions();
    let good = system::PROCESS_CPU_TIME.descriptor();
    let departures = [
        (Descriptor { name: "process.cpu.times", ..good }, "no such metric"),
        (Descriptor { kind: Kind::Gauge, ..good }, "is a counter"),
        (Descriptor { unit: "ms", ..good }, "unit is `s`"),
        (Descriptor { attributes: &[], ..good }, "`cpu.mode` is required"),
        (Descriptor { attributes: MODE, ..good }, "`lost` is no value of `cpu.mode`"),
        (Descriptor { open_attributes: &["process.pid"], ..good }, "`process.pid` is none of its attributes"),
        (Descriptor { open_attributes: &["rpc.response.status_code"], ..good }, "is none of its attributes"),
    ];
    assert_eq!(problems(&conventions, "system", &good), [""; 0]);
    for (metric, expected) in departures {
        let problems = problems(&conventions, "system", &metric);
        assert!(problems.len() == 1 && problems[0].contains(expected), "{expected}: {problems:?}");
    }
}

fn conventions() -> Value {
    serde_json::from_str(include_str!("semconv.json")).unwrap()
}

/// In which ways a metric is not what the conventions say.
fn problems(conventions: &Value, component: &str, metric: &Descriptor) -> Vec<String> {
    let convention = &conventions["metrics"][metric.name];
    let (Some(kind), Some(unit)) = (convention["kind"].as_str(), convention["unit"].as_str()) else {
        return vec!["the conventions have no such metric".to_owned()];
    };
    let mut problems = Vec::new();
    if kind != word(metric.kind) {
        problems.push(format!("it is a {kind}"));
    }
    if unit != metric.unit {
        problems.push(format!("its unit is `{unit}`"));
    }
    let closed = metric.attributes.iter().map(|attribute| attribute.key);
    let keys: Vec<&str> = closed.chain(metric.open_attributes.iter().copied()).collect();
    let listed = convention["attributes"].as_object().unwrap();
    for (key, level) in listed {
        if level == "required" && !keys.contains(&key.as_str()) {
            problems.push(format!("`{key}` is required"));
        }
    }
    for key in keys {
        let is_besides = BESIDES.contains(&(component, key)) && conventions["attributes"][key].is_object();
        if !listed.contains_key(key) && !is_besides {
            problems.push(format!("`{key}` is none of its attributes"));
        }
    }
    for attribute in metric.attributes {
        let Some(members) = conventions["attributes"][attribute.key]["members"].as_array() else { continue };
        for value in attribute.values {
            if !members.iter().any(|member| member == value) {
                problems.push(format!("`{value}` is no value of `{}`", attribute.key));
            }
        }
    }
    problems
}

/// The conventions do not say whether somebody observes.
fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter | Kind::ObservableCounter => "counter",
        Kind::UpDownCounter | Kind::ObservableUpDownCounter => "updowncounter",
        Kind::Gauge | Kind::ObservableGauge => "gauge",
        Kind::Histogram => "histogram",
        _ => "instrument of no kind that they know",
    }
}
