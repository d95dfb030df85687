//! Every instrument of a pipeline, and what is wrong with any of them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use opentelemetry::InstrumentationScope;

use crate::error::{InstrumentName, Problem};
use crate::exposition::{FamilyKind, metric_name, scraped_kinds};
use crate::spec::Kind;
use crate::view::Views;

/// The identity of an instrument: two that are equal are one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Instrument {
    pub(super) scope: InstrumentationScope,
    pub(super) name: String,
    pub(super) unit: String,
    pub(super) description: String,
    pub(super) kind: Kind,
    pub(super) number: &'static str,
}

impl Instrument {
    pub(super) fn full_name(&self) -> InstrumentName {
        InstrumentName { name: self.name.clone(), scope: self.scope.name().to_owned() }
    }
}

/// Knows every instrument by the names it is scraped under, and keeps the problems found.
#[derive(Debug)]
pub(crate) struct Catalogue {
    views: Arc<Views>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    instruments: HashSet<Instrument>,
    by_scraped_name: HashMap<String, Vec<Instrument>>,
    problems: Vec<Problem>,
}

/// A program that builds instruments in a loop must not fill the memory with complaints.
const MAX_PROBLEMS: usize = 100;

impl Catalogue {
    pub(super) fn new(views: Arc<Views>) -> Self {
        Self { views, state: Mutex::default() }
    }

    /// Takes an instrument in and reports what it collides with.
    pub(super) fn add(&self, instrument: &Instrument) {
        let mut found = Vec::new();
        {
            let mut state = self.state();
            if !state.instruments.insert(instrument.clone()) {
                return;
            }
            let (name_kind, family) = scraped_kinds(instrument.kind);
            let names =
                self.views.stream_names(instrument.scope.name(), &instrument.name, instrument.kind, &instrument.unit);
            for name in names {
                let Some(scraped) = metric_name(&name, &instrument.unit, name_kind) else {
                    continue;
                };
                found.extend(state.conflict(&scraped, family, instrument));
                state.by_scraped_name.entry(scraped).or_default().push(instrument.clone());
            }
        }
        found.into_iter().for_each(|problem| self.report(problem));
    }

    /// Keeps a problem and logs it, once.
    pub(super) fn report(&self, problem: Problem) {
        let mut state = self.state();
        if state.problems.len() < MAX_PROBLEMS && !state.problems.contains(&problem) {
            tracing::warn!("{problem}");
            state.problems.push(problem);
        }
    }

    /// Every problem found so far.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        self.state().problems.iter().cloned().chain(self.unmatched_views()).collect()
    }

    /// Logs the views that match nothing so far. They are no lasting problem: an instrument may still come.
    pub(crate) fn log_unmatched_views(&self) {
        self.unmatched_views().for_each(|problem| tracing::warn!("{problem}"));
    }

    fn unmatched_views(&self) -> impl Iterator<Item = Problem> {
        self.views.unmatched().map(|view| Problem::UnmatchedView { view })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What keeps `instrument` from being scraped as `scraped` beside what already is.
    fn conflict(&self, scraped: &str, family: FamilyKind, instrument: &Instrument) -> Option<Problem> {
        let conflict = |name: &str, first: &Instrument, reason| Problem::Conflict {
            scraped: name.to_owned(),
            first: first.full_name(),
            second: instrument.full_name(),
            reason,
        };
        for other in self.by_scraped_name.get(scraped).into_iter().flatten() {
            if scraped_kinds(other.kind).1 != family {
                return Some(conflict(scraped, other, "are of different types"));
            }
            // Other meters are told apart by their scope's labels.
            if other.scope == instrument.scope {
                return Some(conflict(
                    scraped,
                    other,
                    match other.name.eq_ignore_ascii_case(&instrument.name) {
                        true => "differ in kind, unit, description or number type",
                        false => "belong to one meter, so that their series are the same",
                    },
                ));
            }
        }
        // A histogram's own series are called after it: `x_count` cannot be a family beside a histogram `x`.
        for suffix in family.series_suffixes() {
            let taken = format!("{scraped}{suffix}");
            if let Some(other) = self.by_scraped_name.get(&taken).and_then(|others| others.first()) {
                return Some(conflict(&taken, other, "one is a series of a histogram"));
            }
        }
        for suffix in FamilyKind::Histogram.series_suffixes() {
            let histogram = scraped.strip_suffix(suffix).and_then(|stem| self.by_scraped_name.get(stem));
            let is_histogram = |other: &&Instrument| scraped_kinds(other.kind).1 == FamilyKind::Histogram;
            if let Some(other) = histogram.and_then(|others| others.iter().find(is_histogram)) {
                return Some(conflict(scraped, other, "one is a series of a histogram"));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::View;

    fn instrument(scope: &'static str, name: &str, unit: &str, kind: Kind) -> Instrument {
        Instrument {
            scope: InstrumentationScope::builder(scope).build(),
            name: name.to_owned(),
            unit: unit.to_owned(),
            description: String::new(),
            kind,
            number: "u64",
        }
    }

    fn problems(views: Vec<View>, instruments: &[Instrument]) -> Vec<String> {
        let catalogue = Catalogue::new(Arc::new(Views::new(views).unwrap()));
        instruments.iter().for_each(|instrument| catalogue.add(instrument));
        catalogue.problems().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn instruments_that_are_told_apart_are_no_problem() {
        let same = instrument("s", "a", "s", Kind::Histogram);
        assert_eq!(
            problems(
                vec![],
                &[
                    same.clone(),
                    same,
                    instrument("s", "b", "s", Kind::Histogram),
                    instrument("t", "a", "s", Kind::Histogram),
                    instrument("s", "a", "By", Kind::Histogram),
                ]
            ),
            Vec::<String>::new()
        );
    }

    #[test]
    fn two_names_that_are_scraped_as_one_name_both_sides() {
        assert_eq!(
            problems(vec![], &[instrument("s", "x.y", "", Kind::Counter), instrument("s", "x_y", "", Kind::Counter),]),
            [
                "`x_y` of meter `s` and `x.y` of meter `s` are both scraped as `x_y_total` but belong to one meter, so that their series are the same: the first one is kept, rename the other or give it a view with another name"
            ]
        );
    }

    #[test]
    fn one_name_of_two_types_is_a_problem_across_meters_too() {
        let found =
            problems(vec![], &[instrument("s", "a", "", Kind::Gauge), instrument("t", "a", "", Kind::Histogram)]);
        assert!(found[0].contains("are of different types"), "{found:?}");
    }

    #[test]
    fn a_name_that_is_a_series_of_a_histogram_is_a_problem_in_either_order() {
        let histogram = instrument("s", "a", "", Kind::Histogram);
        let count = instrument("t", "a.count", "", Kind::Gauge);
        for order in [[&histogram, &count], [&count, &histogram]] {
            let found = problems(vec![], &order.map(Clone::clone));
            assert!(found[0].contains("one is a series of a histogram"), "{found:?}");
            assert!(found[0].contains("`a_count`"), "{found:?}");
        }
    }

    #[test]
    fn a_view_that_matches_nothing_is_a_problem() {
        assert_eq!(
            problems(vec![View::of("nothing.*").dropped()], &[instrument("s", "a", "", Kind::Gauge)]),
            [
                "the view of `nothing.*` matches no instrument: correct its name, or build the instrument before verifying"
            ]
        );
    }

    #[test]
    fn a_view_can_cause_a_collision_and_can_mend_one() {
        let x = instrument("s", "x.y", "", Kind::Counter);
        let other = instrument("s", "x_y", "", Kind::Counter);
        let mended = problems(vec![View::of("x_y").with_name("z")], &[x.clone(), other]);
        assert!(!mended.iter().any(|problem| problem.contains("both scraped")), "{mended:?}");
        let caused = problems(vec![View::of("q").with_name("x.y")], &[x, instrument("s", "q", "", Kind::Counter)]);
        assert!(caused[0].contains("`q` of meter `s` and `x.y` of meter `s`"), "{caused:?}");
    }
}
