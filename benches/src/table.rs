//! Contestants, rounds and the table they end in.

use std::fmt::Write;
use std::time::Duration;

/// Something that is timed: its name, the size of its page if it makes one, and what one round of it takes.
pub(crate) struct Contestant<'a> {
    name: &'static str,
    page: Option<usize>,
    round: Box<dyn FnMut() -> Duration + 'a>,
}

impl<'a> Contestant<'a> {
    pub(crate) fn new(name: &'static str, page: Option<usize>, round: impl FnMut() -> Duration + 'a) -> Self {
        Self { name, page, round: Box::new(round) }
    }

    /// Does something after each round that is not counted.
    pub(crate) fn followed_by(mut self, mut work: impl FnMut() + 'a) -> Self {
        self.round = Box::new(move || {
            let time = (self.round)();
            work();
            time
        });
        self
    }
}

/// How a table is measured and written.
pub(crate) struct Table {
    pub(crate) rounds: usize,
    /// Operations in a round: the table says what one of them took.
    pub(crate) per_round: usize,
    /// The unit of time and how many of it are a second.
    pub(crate) unit: (&'static str, f64),
    /// Whom times are compared with, by position, and what that column is called.
    pub(crate) references: &'static [(&'static str, usize)],
}

/// Rounds that are not counted: they fill caches and grow buffers.
const WARM_UP: usize = 2;

impl Table {
    /// Times every contestant in turn, round by round. A ratio is the median of the ratios of each round: more than 1 is
    /// slower than the reference.
    pub(crate) fn measure(&self, mut contestants: Vec<Contestant<'_>>) -> String {
        let mut times = vec![Vec::with_capacity(self.rounds); contestants.len()];
        for round in 0..self.rounds + WARM_UP {
            for (contestant, times) in contestants.iter_mut().zip(&mut times) {
                let time = (contestant.round)().as_secs_f64() / self.per_round as f64;
                if round >= WARM_UP {
                    times.push(time);
                }
            }
        }

        let (unit, per_second) = self.unit;
        let has_pages = contestants.iter().any(|contestant| contestant.page.is_some());
        let mut columns = vec![format!("median {unit}"), format!("min {unit}")];
        columns.extend(self.references.iter().map(|(name, _)| format!("× {name}")));
        columns.extend(has_pages.then(|| "MB page".to_owned()));
        let mut table = format!("| contestant | {} |\n|---|{}\n", columns.join(" | "), "---:|".repeat(columns.len()));
        for (contestant, own) in contestants.iter().zip(&times) {
            let min = own.iter().copied().fold(f64::INFINITY, f64::min);
            let _ =
                write!(table, "| {} | {:.2} | {:.2} |", contestant.name, median(own) * per_second, min * per_second);
            for &(_, reference) in self.references {
                let ratios: Vec<f64> = own.iter().zip(&times[reference]).map(|(own, other)| own / other).collect();
                let _ = write!(table, " {:.2} |", median(&ratios));
            }
            if has_pages {
                table += &contestant.page.map_or(" – |".to_owned(), |bytes| format!(" {:.2} |", megabytes(bytes)));
            }
            table.push('\n');
        }
        table
    }
}

pub(crate) fn megabytes(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
