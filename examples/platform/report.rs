//! Compares what the workers counted themselves with what a scrape shows.

use std::collections::{BTreeMap, BTreeSet};

use crate::console::Console;
use crate::scrape::Sample;
use crate::tally::Tally;

/// What the workers do is told by metrics whose names begin like this.
const COMPONENTS: &[&str] = &["api_", "audit_agent_", "safe_async_bridge_", "test_watcher_"];

/// Both counts of every series.
pub(crate) struct Report {
    rows: Vec<Row>,
}

struct Row {
    series: String,
    /// What nobody has counted is 0.
    counted: f64,
    /// What is not on the page is missing.
    scraped: Option<f64>,
}

impl Row {
    fn agrees(&self) -> bool {
        self.scraped == Some(self.counted)
    }
}

impl Report {
    /// Compares every series that a worker has counted, and every counter of theirs that the scrape shows.
    pub(crate) fn new(tallies: &[Tally], samples: &[Sample]) -> Self {
        let counted: BTreeMap<String, f64> = tallies.iter().flat_map(Tally::counts).collect();
        let scraped: BTreeMap<String, f64> = samples.iter().map(|sample| (series(sample), sample.value)).collect();
        let counters = samples.iter().filter(|sample| is_count(&sample.name)).map(series);
        let all: BTreeSet<String> = counted.keys().cloned().chain(counters).collect();
        let rows = all.into_iter().map(|series| Row {
            counted: counted.get(&series).copied().unwrap_or(0.0),
            scraped: scraped.get(&series).copied(),
            series,
        });
        Self { rows: rows.collect() }
    }

    pub(crate) fn agrees(&self) -> bool {
        self.rows.iter().all(Row::agrees)
    }

    /// Prints a table of what is not 0, then what does not agree, then the verdict.
    pub(crate) fn print(&self, console: &Console) {
        let (zeros, shown): (Vec<&Row>, Vec<&Row>) =
            self.rows.iter().partition(|row| row.agrees() && row.counted == 0.0);
        let width = shown.iter().map(|row| row.series.len()).max().unwrap_or(0);
        let line = |row: &Row| {
            let scraped = row.scraped.map_or("missing".to_owned(), number);
            format!("{:width$}  {:>8}  {scraped:>8}", row.series, number(row.counted))
        };
        console.line(format_args!("{:width$}  {:>8}  {:>8}", "", "counted", "scraped"));
        shown.iter().for_each(|row| console.line(line(row)));
        console.line(format_args!("and {} that are 0 on both sides", zeros.len()));
        for row in self.rows.iter().filter(|row| !row.agrees()) {
            console.line(format_args!("DIFFERS: {}", line(row)));
        }
        let agree = self.rows.iter().filter(|row| row.agrees()).count();
        console.line(format_args!("{agree} of {} counters agree with the scrape", self.rows.len()));
    }
}

/// The series as a worker writes it: labels in order, without those that name the instrumentation scope.
fn series(sample: &Sample) -> String {
    let mut labels: Vec<String> = sample
        .labels
        .iter()
        .filter(|(name, _)| !name.starts_with("otel_scope_"))
        .map(|(name, value)| format!("{name}=\"{value}\""))
        .collect();
    labels.sort();
    if labels.is_empty() { sample.name.clone() } else { format!("{}{{{}}}", sample.name, labels.join(",")) }
}

fn is_count(name: &str) -> bool {
    COMPONENTS.iter().any(|component| name.starts_with(component))
        && (name.ends_with("_total") || name.ends_with("_count"))
}

fn number(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value}") } else { format!("{value:.2}") }
}
