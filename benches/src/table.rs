//! Contestants, rounds and the table they end in.

use std::fmt::Write;
use std::time::Duration;

/// Something that is timed: its name and what one round of it takes.
pub(crate) struct Contestant<'a> {
    pub(crate) name: &'static str,
    pub(crate) round: Box<dyn FnMut() -> Duration + 'a>,
}

impl<'a> Contestant<'a> {
    pub(crate) fn new(name: &'static str, round: impl FnMut() -> Duration + 'a) -> Self {
        Self { name, round: Box::new(round) }
    }
}

/// Times every contestant `rounds` times, in turn, after two rounds that are not counted. The table says what one of
/// `per_round` operations took; ratios are against the first contestant, median of the ratios round by round.
pub(crate) fn table(mut contestants: Vec<Contestant<'_>>, rounds: usize, per_round: u32, unit: (&str, f64)) -> String {
    let mut times = vec![Vec::with_capacity(rounds); contestants.len()];
    for round in 0..rounds + 2 {
        for (contestant, times) in contestants.iter_mut().zip(&mut times) {
            let time = (contestant.round)().as_secs_f64() / f64::from(per_round);
            if round >= 2 {
                times.push(time);
            }
        }
    }
    let first = times[0].clone();
    let (unit, scale) = unit;
    let mut table = format!("| contestant | median {unit} | min {unit} | × first |\n|---|---:|---:|---:|\n");
    for (contestant, times) in contestants.iter().zip(&times) {
        let ratios = times.iter().zip(&first).map(|(time, first)| time / first).collect();
        let min = times.iter().copied().fold(f64::INFINITY, f64::min);
        let _ = writeln!(
            table,
            "| {} | {:.2} | {:.2} | {:.2} |",
            contestant.name,
            median(times.clone()) * scale,
            min * scale,
            median(ratios)
        );
    }
    table
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
