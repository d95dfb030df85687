//! Rules that a compiler cannot check. Each failure says the rule and the file.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod rules;
mod semconv;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use barograph::{Descriptor, Kind};

mod dashboards;
#[path = "../../examples/catalog/generator/mod.rs"]
mod generator;

/// The rooms of `src/`, from the roof to the ground: an import may only point down this list.
const ROOMS: [&str; 19] = [
    "lib",
    "guide",
    "testing",
    "pipeline",
    "scrape",
    "exporter",
    "guard",
    "config",
    "view",
    "exposition",
    "self_metrics",
    "instrument",
    "spec",
    "attribute",
    "exemplar",
    "failure",
    "resource",
    "runtime",
    "error",
];

/// What brings the metrics of others and has none of its own.
const BRIDGES: [&str; 2] = ["metrics", "tracing"];

/// The components whose names are the platform's contract; others follow the semantic conventions.
const CONTRACT: [&str; 5] = ["test-watcher", "audit-agent", "async-bridge", "api-clients", "system"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Rust files below `folder`, with their path from the root.
fn rust_files(folder: &str) -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                if !path.ends_with("target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).unwrap().display().to_string();
                files.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

/// The members of the workspace that live in `instrumentation/`.
fn components() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> =
        fs::read_dir(root().join("instrumentation")).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(folders.len() >= 5, "the components are in instrumentation/: {folders:?}");
    folders
}

/// Every spec of the components: those with more tables than one have them in the order of their README.
fn metrics() -> Vec<(&'static str, &'static [Descriptor])> {
    vec![
        ("test-watcher", barograph_instrumentation_test_watcher::semconv::METRICS),
        ("audit-agent", barograph_instrumentation_audit_agent::semconv::METRICS),
        ("async-bridge", barograph_instrumentation_async_bridge::semconv::METRICS),
        ("api-clients", barograph_instrumentation_api_clients::semconv::METRICS),
        ("system", barograph_instrumentation_system::semconv::METRICS),
        ("http", barograph_instrumentation_http::semconv::METRICS),
        ("system", barograph_instrumentation_system::semconv::PROCESS_METRICS),
        ("system", barograph_instrumentation_system::semconv::OTHER_PROCESS_METRICS),
        ("system", barograph_instrumentation_system::semconv::HOST_METRICS),
        ("tokio", barograph_instrumentation_tokio::semconv::METRICS),
        ("tokio", barograph_instrumentation_tokio::semconv::UNSTABLE_METRICS),
    ]
}

#[test]
fn nothing_imports_upward() {
    let depth = |room: &str| ROOMS.iter().position(|known| *known == room);
    for (file, text) in rust_files("src") {
        let room = file.trim_start_matches("src/").split(['/', '.']).next().unwrap();
        let here = depth(room).unwrap_or_else(|| {
            panic!("{file}: `{room}` is no room of the drawing, add it to ARCHITECTURE.md and to ROOMS")
        });
        if room == "lib" {
            continue;
        }
        // A room's own tests may look up: they see it as its users do.
        let code = text.split("#[cfg(test)]").next().unwrap();
        for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
            assert!(!line.contains("crate::{"), "{file}: one module a line, so that imports can be checked: {line}");
            for import in line.split("crate::").skip(1) {
                let target: String = import.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if let Some(there) = depth(&target) {
                    assert!(
                        there >= here,
                        "{file}: imports may only point down, `{room}` must not know `{target}`: {line}"
                    );
                }
            }
        }
    }
}

#[test]
fn components_do_not_know_each_other_and_have_one_shape() {
    for folder in components() {
        let name = folder.file_name().unwrap().to_str().unwrap();
        let has_metrics = !BRIDGES.contains(&name);
        let own: &[_] = if has_metrics { &["src/semconv.rs", "src/instruments.rs"] } else { &[] };
        for part in ["Cargo.toml", "README.md", "src/lib.rs", "tests/metrics.rs"].iter().chain(own) {
            assert!(folder.join(part).is_file(), "instrumentation/{name}: every component has {part}");
        }
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        assert!(
            manifest.contains(&format!("name = \"barograph-instrumentation-{name}\"")),
            "instrumentation/{name}: the package is named after its folder"
        );
        let siblings = manifest.matches("barograph-instrumentation-").count();
        assert_eq!(siblings, 1, "instrumentation/{name}: a component imports no sibling");
        assert!(!manifest.contains("[features]"), "instrumentation/{name}: a component has no features");
        assert!(
            manifest.contains("barograph = { workspace = true }\n"),
            "instrumentation/{name}: a component stands on the instrument layer alone"
        );
    }
}

#[test]
fn members_inherit_lints_edition_licence_and_versions() {
    let manifests = components().into_iter().chain([root().join("benches"), root().to_owned()]);
    for manifest in manifests.map(|folder| folder.join("Cargo.toml")) {
        let text = fs::read_to_string(&manifest).unwrap();
        let file = manifest.strip_prefix(root()).unwrap().display();
        assert!(text.contains("[lints]\nworkspace = true"), "{file}: members inherit the workspace's lints");
        for key in ["version", "edition", "rust-version", "license", "authors"] {
            assert!(text.contains(&format!("{key}.workspace = true")), "{file}: `{key}` is written once, in the root");
        }
        let dependencies = text.split("[workspace.dependencies]").last().unwrap();
        let own = dependencies.split("[package]").last().unwrap();
        for line in own.lines().skip_while(|line| !line.contains("dependencies]")) {
            let is_version = line.contains("version = \"")
                || line.split_once(" = \"").is_some_and(|(_, v)| v.starts_with(|c: char| c.is_ascii_digit()));
            assert!(!is_version, "{file}: versions of dependencies stand once, in [workspace.dependencies]: {line}");
        }
    }
}

#[test]
fn names_are_unique_and_conventional() {
    let mut names = BTreeMap::new();
    let mut scraped_names = BTreeMap::new();
    for component in generator::catalogue::components() {
        let (component, metrics) = (component.name, component.metrics);
        for metric in metrics {
            let Descriptor { name, unit, description, kind, .. } = *metric;
            let rule = |holds: bool, rule: &str| assert!(holds, "{component}: `{name}`: {rule}");
            let scraped = metric.scraped_name().unwrap();

            rule(names.insert(name, component).is_none(), "a name is written once");
            rule(scraped_names.insert(scraped.clone(), component).is_none(), "a scraped name belongs to one metric");
            rule(name.contains('.'), "names are dotted");
            rule(
                name.bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_')),
                "names are lower case",
            );
            rule(!name.ends_with("_total") && !name.ends_with(".total"), "the exposition adds `_total`");
            for word in ["seconds", "bytes", "percent", "ratio"] {
                rule(!name.split(['.', '_']).any(|part| part == word), "the exposition adds the unit");
            }
            rule(
                matches!(unit, "s" | "By" | "%" | "1" | "") || (unit.starts_with('{') && unit.ends_with('}')),
                "units are base units of UCUM",
            );
            rule(
                description.ends_with('.') && description.starts_with(|c: char| c.is_uppercase()),
                "a description is a sentence",
            );
            let is_counter = matches!(kind, Kind::Counter | Kind::ObservableCounter);
            rule(scraped.ends_with("_total") == is_counter, "counters, and only they, end with `_total`");
            rule((kind == Kind::Histogram) == metric.buckets.is_some(), "histograms choose buckets that fit the work");
            for attribute in metric.attributes {
                let of_words = |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
                rule(attribute.key.split('.').all(of_words), "attribute keys are lower case words");
                // Dotted keys are those of the semantic conventions, which have values of their own.
                let is_own = !attribute.key.contains('.');
                rule(
                    !is_own || attribute.values.iter().all(|value| of_words(value)),
                    "attribute values are lower case words",
                );
            }
        }
    }
    names.retain(|_, component| CONTRACT.contains(component));
    assert_eq!(names.len(), 40, "the contract has 40 metrics");
}

#[test]
fn readme_tables_equal_the_specs() {
    let components: BTreeSet<&str> = metrics().into_iter().map(|(component, _)| component).collect();
    for component in components {
        let readme = fs::read_to_string(root().join("instrumentation").join(component).join("README.md")).unwrap();
        let is_metric = |line: &&str| line.starts_with("| ") && !line.starts_with("| OTel name ");
        let table: Vec<&str> = readme.lines().filter(is_metric).collect();
        let tables = metrics().into_iter().filter(|(other, _)| *other == component);
        let rows: Vec<String> = tables.flat_map(|(_, metrics)| metrics.iter().map(row)).collect();
        assert_eq!(
            table,
            rows,
            "instrumentation/{component}/README.md: its table is that of the specs:\n{}",
            rows.join("\n")
        );
    }
}

fn row(metric: &Descriptor) -> String {
    let closed = metric.attributes.iter().map(|attribute| format!("{}: {}", attribute.key, attribute.values.join(" ")));
    let open = metric.open_attributes.iter().map(|key| format!("{key}: *open*"));
    let attributes: Vec<String> = closed.chain(open).collect();
    let Descriptor { name, kind, unit, description, .. } = metric;
    let scraped = metric.scraped_name().unwrap();
    format!("| {name} | {kind} | {unit} | {} | {scraped} | {description} |", attributes.join("; "))
}

#[test]
fn names_of_metrics_are_written_only_in_semconv() {
    let names: BTreeSet<&str> =
        metrics().iter().flat_map(|(_, metrics)| metrics.iter().map(|metric| metric.name)).collect();
    for (file, text) in rust_files("instrumentation") {
        if file.ends_with("/semconv.rs") || file.contains("/tests/") {
            continue;
        }
        for name in &names {
            assert!(
                !text.contains(&format!("\"{name}\"")),
                "{file}: `{name}` is written in semconv.rs and nowhere else"
            );
        }
    }
}

#[test]
fn the_quickstart_is_the_same_wherever_it_is_shown() {
    let example = fs::read_to_string(root().join("examples/quickstart.rs")).unwrap();
    let program = &example[example.find("use barograph").unwrap()..];
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.contains(program), "README.md: its program is examples/quickstart.rs");
    let library = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let commented: String = program.lines().map(|line| format!("//! {line}").trim_end().to_owned() + "\n").collect();
    assert!(library.contains(&commented), "src/lib.rs: its program is examples/quickstart.rs");
}

#[test]
fn the_programs_that_the_guide_shows_are_those_that_are_tested() {
    let guide = fs::read_to_string(root().join("src/guide/migrating.md")).unwrap();
    let folder = root().join("tests/suite/migrating");
    for path in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let fence = match name.strip_suffix(".py") {
            _ if name == "page.rs" || path.is_dir() => continue,
            Some(_) => "python",
            None => "rust,no_run",
        };
        let program = fs::read_to_string(&path).unwrap();
        assert!(
            guide.contains(&format!("```{fence}\n{program}```\n")),
            "src/guide/migrating.md: it shows tests/suite/migrating/{name} as it is"
        );
    }
}

/// What a person reads in the log or in an answer is looked up in the guide, as it is said.
#[test]
fn what_the_guide_quotes_is_what_the_program_says() {
    let source: String = rust_files("src").into_iter().map(|(_, text)| text).collect();
    let guide = fs::read_to_string(root().join("src/guide/operating.md")).unwrap();
    let (_, quotes) = guide.split_once("## Troubleshooting").unwrap();
    let (quotes, _) = quotes.split_once("### When nothing says anything").unwrap();
    let mut found = 0;
    for row in quotes.lines().filter(|line| line.starts_with("| ")) {
        let said = row.split(" | ").next().unwrap();
        // What an error says of a variable or a line of a file is that reader's.
        for quote in said.split('`').skip(1).step_by(2).filter(|quote| !quote.ends_with(": …")) {
            for part in quote.split('…').filter(|part| !part.trim().is_empty()) {
                assert!(source.contains(part.trim()), "src/guide/operating.md: nothing says `{part}` of `{quote}`");
                found += 1;
            }
        }
    }
    assert!(found > 30, "only {found} quotes were looked at");
}

#[test]
fn every_example_says_how_to_run_it_and_is_in_the_index() {
    let index = fs::read_to_string(root().join("examples/README.md")).unwrap();
    for entry in fs::read_dir(root().join("examples")).unwrap().map(|entry| entry.unwrap().path()) {
        let main = if entry.is_dir() { entry.join("main.rs") } else { entry.clone() };
        if main.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let name = entry.file_stem().unwrap().to_str().unwrap();
        assert!(index.contains(&format!("--example {name}")), "examples/README.md: `{name}` is missing");
        let text = fs::read_to_string(&main).unwrap();
        assert!(text.contains(&format!("--example {name}")), "examples/{name}: says how it is run");
        assert!(text.contains("ook at "), "examples/{name}: says what to look at");
    }
}

#[test]
fn a_suppressed_lint_has_a_reason() {
    let sources = ["src", "instrumentation", "benches", "examples", "tests"];
    for (file, text) in sources.iter().flat_map(|folder| rust_files(folder)) {
        for (number, line) in text.lines().enumerate() {
            let suppresses = line.trim_start().starts_with("#[allow(") || line.trim_start().starts_with("#![allow(");
            assert!(!suppresses || line.contains("reason"), "{file}:{}: a suppressed lint has a reason", number + 1);
        }
    }
}

#[test]
fn golden_files_are_used() {
    let suite: String = rust_files("tests/suite").into_iter().map(|(_, text)| text).collect();
    for entry in fs::read_dir(root().join("tests/golden")).unwrap().map(|entry| entry.unwrap().path()) {
        let case = entry.file_stem().unwrap().to_str().unwrap();
        assert!(suite.contains(&format!("assert_golden(\"{case}\"")), "tests/golden/{case}.txt: no test reads it");
    }
}
