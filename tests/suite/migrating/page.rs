//! What a page says, whoever wrote it: in the order of names, labels sorted, numbers as numbers.

use std::collections::BTreeMap;

/// The families of a page by their names, counters without `_total`, as OpenMetrics calls them.
pub(crate) type Families = BTreeMap<String, Family>;

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Family {
    pub(crate) kind: String,
    /// Without the full stop that prometheus-client adds.
    pub(crate) help: String,
    /// Values by the names of series and their labels.
    pub(crate) series: BTreeMap<(String, Vec<(String, String)>), f64>,
}

/// Reads text 0.0.4 or OpenMetrics, each family with its TYPE before its samples. Label values have no quotes and no commas.
pub(crate) fn families(page: &str) -> Families {
    let mut families = Families::new();
    let mut open = String::new();
    for line in page.lines().filter(|line| !line.is_empty()) {
        match line.strip_prefix("# ").map(|comment| comment.splitn(3, ' ').collect::<Vec<_>>()).as_deref() {
            Some([word @ ("HELP" | "TYPE"), name, text]) => {
                let name = name.strip_suffix("_total").unwrap_or(name);
                open = name.to_owned();
                let family = families.entry(open.clone()).or_default();
                match *word {
                    "TYPE" => family.kind = (*text).to_owned(),
                    _ => family.help = text.trim_end_matches('.').to_owned(),
                }
            }
            Some(["UNIT", ..] | ["EOF"]) => {}
            Some(comment) => panic!("what is this: {comment:?}"),
            None => {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
                assert!(name.starts_with(&open), "{line} is not of {open}");
                let labels = labels.strip_suffix('}').unwrap();
                let mut labels: Vec<_> = labels.split(',').filter(|label| !label.is_empty()).map(label).collect();
                labels.sort();
                let family = families.get_mut(&open).unwrap();
                let twin = family.series.insert((name.to_owned(), labels), value.parse().unwrap());
                assert_eq!(twin, None, "{line} stands twice");
            }
        }
    }
    families
}

fn label(text: &str) -> (String, String) {
    let (name, value) = text.split_once('=').unwrap();
    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap();
    // 1 and 1.0 are one bound.
    let bound = value.parse::<f64>().ok().filter(|_| name == "le");
    (name.to_owned(), bound.map_or_else(|| value.to_owned(), |bound| bound.to_string()))
}
