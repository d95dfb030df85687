//! Every instrument of a pipeline, and what is wrong with any of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use opentelemetry::InstrumentationScope;

use crate::attribute::{AttributeInfo, cardinality};
use crate::error::{InstrumentName, Problem};
use crate::exposition::{Escaping, FamilyKind, Naming, TARGET_INFO, scraped_kinds};
use crate::spec::Kind;
use crate::view::{KeyFilter, Plan, Views};

/// The identity of an instrument: two that are equal are one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Instrument {
    pub(crate) scope: InstrumentationScope,
    pub(crate) name: String,
    pub(crate) unit: String,
    pub(crate) description: String,
    pub(crate) kind: Kind,
    pub(crate) number: &'static str,
}

impl Instrument {
    pub(crate) fn full_name(&self) -> InstrumentName {
        InstrumentName { name: self.name.clone(), scope: self.scope.name().to_owned() }
    }

    fn order(&self) -> impl Ord + '_ {
        let Self { scope, name, unit, description, kind, number } = self;
        (name, (scope.name(), scope.version(), scope.schema_url()), kind.as_str(), unit, description, number)
    }
}

/// What two instruments that are one may still declare differently.
#[derive(Debug)]
pub(super) struct Declared<'a> {
    /// A typed instrument's attributes; `None` where they are open.
    pub(super) attributes: Option<&'static [AttributeInfo]>,
    /// The buckets asked for; `None` where they are left to the provider.
    pub(super) buckets: Option<&'a [f64]>,
}

/// Knows every instrument by the names it is scraped under, and keeps the problems found.
#[derive(Debug)]
pub(crate) struct Catalogue {
    views: Arc<Views>,
    scraped: Scraped,
    /// Whether every meter is switched on: the instruments of others are not seen here, and views may be about them.
    sees_all: bool,
    state: Mutex<State>,
}

/// An instrument as the catalogue has it.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) instrument: Arc<Instrument>,
    /// A typed instrument's attributes; `None` where they are open.
    pub(crate) attributes: Option<&'static [AttributeInfo]>,
}

impl Known {
    /// How many series a stream of this name is limited to, if a view or the instrument's type says it.
    pub(super) fn limit(&self, plan: &Plan, stream: &str) -> Option<usize> {
        let planned = plan.streams.iter().find(|planned| planned.name == stream);
        planned.and_then(|planned| planned.limit).or_else(|| self.attributes.map(cardinality))
    }
}

/// How a scrape shows what is recorded, as far as two instruments can collide there.
#[derive(Clone, Debug)]
pub(crate) struct Scraped {
    pub(crate) naming: Naming,
    /// Whether there is a `target_info`, whose name nothing else can have.
    pub(crate) target_info: bool,
    /// Whether the meter is a label: without it two meters with one name collide.
    pub(crate) scope_info: bool,
}

#[derive(Debug, Default)]
struct State {
    instruments: HashMap<Arc<Instrument>, FirstDeclared>,
    /// Who records to a stream of this name.
    by_stream: HashMap<String, Vec<Arc<Instrument>>>,
    by_scraped_name: HashMap<String, Vec<Stream>>,
    problems: Vec<Problem>,
}

/// What an instrument was declared with first.
#[derive(Debug)]
struct FirstDeclared {
    attributes: Option<&'static [AttributeInfo]>,
    buckets: Option<Vec<f64>>,
}

/// An instrument under the name that a view gave it.
#[derive(Clone, Debug)]
struct Stream {
    name: String,
    instrument: Arc<Instrument>,
}

impl Stream {
    fn family(&self) -> FamilyKind {
        scraped_kinds(self.instrument.kind).1
    }

    /// The order in which the exporter lets one of several metrics win.
    fn order(&self) -> impl Ord + '_ {
        let Instrument { scope, unit, description, .. } = &*self.instrument;
        (&self.name, (scope.name(), scope.version(), scope.schema_url()), self.family(), unit, description)
    }
}

/// A program that builds instruments in a loop must not fill the memory with complaints.
const MAX_PROBLEMS: usize = 100;

impl Catalogue {
    pub(super) fn new(views: Arc<Views>, scraped: Scraped, sees_all: bool) -> Self {
        Self { views, scraped, sees_all, state: Mutex::default() }
    }

    /// Takes an instrument in and reports what it collides with.
    pub(super) fn add(&self, instrument: &Instrument, declared: Declared<'_>) {
        let found = self.state().add(instrument, declared, &self.views, &self.scraped);
        found.into_iter().for_each(|problem| self.report(problem));
    }

    /// Keeps a problem and logs it, once.
    pub(super) fn report(&self, problem: Problem) {
        {
            let mut state = self.state();
            if state.problems.len() >= MAX_PROBLEMS || state.problems.contains(&problem) {
                return;
            }
            state.problems.push(problem.clone());
        }
        // Whoever takes the event may build an instrument of its own, and finds the state free.
        tracing::warn!("{problem}");
    }

    /// The attributes that each of an instrument's streams keeps, if the SDK cannot be told for one of them.
    pub(super) fn filters(&self, instrument: &Instrument) -> Option<Vec<Option<KeyFilter>>> {
        self.views.filters(&instrument.scope, &instrument.name, instrument.kind, &instrument.unit)
    }

    /// The instrument that a collected metric comes from; `None` for the pipeline's own.
    pub(super) fn source(
        &self,
        scope: &InstrumentationScope,
        stream: &str,
        unit: &str,
        number: &str,
        family: FamilyKind,
    ) -> Option<Known> {
        let state = self.state();
        let candidates =
            state.by_stream.get(stream)?.iter().filter(|instrument| {
                instrument.scope == *scope && instrument.unit == unit && instrument.number == number
            });
        // A view may aggregate to another type than the instrument's own.
        let instrument = candidates.min_by_key(|instrument| scraped_kinds(instrument.kind).1 != family)?;
        let attributes = state.instruments.get(instrument).and_then(|declared| declared.attributes);
        Some(Known { instrument: Arc::clone(instrument), attributes })
    }

    /// What the views make of an instrument.
    pub(crate) fn plan(&self, instrument: &Instrument) -> Plan {
        self.views.plan(&instrument.scope, &instrument.name, instrument.kind, &instrument.unit)
    }

    /// Every instrument that was built so far, by name and meter.
    pub(crate) fn instruments(&self) -> Vec<Known> {
        let known = |(instrument, declared): (&Arc<Instrument>, &FirstDeclared)| Known {
            instrument: Arc::clone(instrument),
            attributes: declared.attributes,
        };
        let mut instruments: Vec<Known> = self.state().instruments.iter().map(known).collect();
        instruments.sort_by(|a, b| a.instrument.order().cmp(&b.instrument.order()));
        instruments
    }

    /// Whether every meter is switched on.
    pub(crate) fn sees_all(&self) -> bool {
        self.sees_all
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
        let unmatched = self.sees_all.then(|| self.views.unmatched());
        unmatched.into_iter().flatten().map(|view| Problem::UnmatchedView { view })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(
        &mut self,
        instrument: &Instrument,
        declared: Declared<'_>,
        views: &Views,
        scraped: &Scraped,
    ) -> Vec<Problem> {
        let redeclared = |difference| vec![Problem::Redeclared { instrument: instrument.full_name(), difference }];
        if let Some(first) = self.instruments.get(instrument) {
            // Open attributes are told apart by what is recorded, so they fit any declaration.
            if let (Some(first), Some(second)) = (first.attributes, declared.attributes)
                && first != second
            {
                return redeclared("attributes");
            }
            return if first.buckets.as_deref() == declared.buckets { Vec::new() } else { redeclared("buckets") };
        }
        let first = FirstDeclared { attributes: declared.attributes, buckets: declared.buckets.map(<[f64]>::to_vec) };
        let shared = Arc::new(instrument.clone());
        self.instruments.insert(Arc::clone(&shared), first);

        let mut found = Vec::new();
        for name in views.stream_names(&instrument.scope, &instrument.name, instrument.kind, &instrument.unit) {
            self.by_stream.entry(name.clone()).or_default().push(Arc::clone(&shared));
            let kind = scraped_kinds(instrument.kind).0;
            let Some(scraped_name) = scraped.naming.metric(&name, &instrument.unit, kind) else {
                continue;
            };
            // As the scraper gets it that reads the least: what collides there is missing there.
            let scraped_name = Escaping::Underscores.metric_name(&scraped_name.name).into_owned();
            let stream = Stream { name, instrument: Arc::clone(&shared) };
            found.extend(self.conflict(&scraped_name, &stream, scraped));
            self.by_scraped_name.entry(scraped_name).or_default().push(stream);
        }
        found
    }

    /// What keeps `stream` from being scraped as `scraped` beside what already is.
    fn conflict(&self, scraped: &str, stream: &Stream, page: &Scraped) -> Option<Problem> {
        let family = stream.family();
        if page.target_info && scraped == TARGET_INFO {
            let instrument = stream.instrument.full_name();
            return Some(Problem::ReservedName { scraped: scraped.to_owned(), instrument });
        }
        for other in self.by_scraped_name.get(scraped).into_iter().flatten() {
            let is_same_meter = other.instrument.scope == stream.instrument.scope;
            if is_same_meter && other.instrument.name.eq_ignore_ascii_case(&stream.instrument.name) {
                return Some(Problem::Redeclared {
                    instrument: stream.instrument.full_name(),
                    difference: "kind, unit, description or number type",
                });
            }
            let (shown, dropped) = if other.order() <= stream.order() { (other, stream) } else { (stream, other) };
            if other.family() != family {
                return Some(conflict(scraped, shown, dropped, "they are of different types"));
            }
            // Other meters are told apart by their scope's labels.
            if is_same_meter || !page.scope_info {
                let reason = if is_same_meter {
                    "they belong to one meter, so that their series are the same"
                } else {
                    "no label tells their meters apart, so that their series are the same"
                };
                return Some(conflict(scraped, shown, dropped, reason));
            }
        }
        // A histogram's own series are called after it: `x_count` cannot be a family beside a histogram `x`.
        const REASON: &str = "it is a series of the histogram";
        let suffixes = if family == FamilyKind::Histogram { HISTOGRAM_SERIES } else { &[] };
        for suffix in suffixes {
            let taken = format!("{scraped}{suffix}");
            if let Some(other) = self.by_scraped_name.get(&taken).and_then(|others| others.first()) {
                return Some(conflict(&taken, stream, other, REASON));
            }
        }
        for suffix in HISTOGRAM_SERIES {
            let others = scraped.strip_suffix(suffix).and_then(|stem| self.by_scraped_name.get(stem));
            let histogram = others.and_then(|others| others.iter().find(|o| o.family() == FamilyKind::Histogram));
            if let Some(histogram) = histogram {
                return Some(conflict(scraped, histogram, stream, REASON));
            }
        }
        None
    }
}

/// What the names of a histogram's series add to its own, the one included that only OpenMetrics has.
const HISTOGRAM_SERIES: &[&str] = &["_bucket", "_sum", "_count", "_created"];

fn conflict(scraped: &str, shown: &Stream, dropped: &Stream, reason: &'static str) -> Problem {
    Problem::Conflict {
        scraped: scraped.to_owned(),
        shown: shown.instrument.full_name(),
        dropped: dropped.instrument.full_name(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposition::TranslationStrategy;
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
        let catalogue = Catalogue::new(
            Arc::new(Views::new(views).unwrap()),
            Scraped { naming: Naming::default(), target_info: true, scope_info: true },
            true,
        );
        for instrument in instruments {
            catalogue.add(instrument, Declared { attributes: None, buckets: None });
        }
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
                "`x_y` of meter `s` and `x.y` of meter `s` are both scraped as `x_y_total`, but they belong to one meter, so that their series are the same: only the latter is shown, rename one or give it a view with another name"
            ]
        );
    }

    #[test]
    fn names_that_differ_in_what_not_every_scraper_reads_are_a_problem_whatever_the_strategy() {
        let naming = Naming { strategy: TranslationStrategy::NoTranslation, namespace: String::new() };
        let scraped = Scraped { naming, target_info: false, scope_info: true };
        let catalogue = Catalogue::new(Arc::new(Views::new(vec![]).unwrap()), scraped, true);
        for name in ["x.y", "x_y", "target.info"] {
            let instrument = instrument("s", name, "", Kind::Counter);
            catalogue.add(&instrument, Declared { attributes: None, buckets: None });
        }
        let found: Vec<String> = catalogue.problems().iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("are both scraped as `x_y`"), "{found:?}");
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
        for suffix in ["count", "created"] {
            let gauge = instrument("t", &format!("a.{suffix}"), "", Kind::Gauge);
            for order in [[&histogram, &gauge], [&gauge, &histogram]] {
                let found = problems(vec![], &order.map(Clone::clone));
                assert!(found[0].contains("it is a series of the histogram"), "{found:?}");
                assert!(found[0].contains(&format!("`a_{suffix}`")), "{found:?}");
            }
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
        assert!(
            caused[0].contains("`x.y` of meter `s` and `q` of meter `s`")
                || caused[0].contains("`q` of meter `s` and `x.y` of meter `s`"),
            "{caused:?}"
        );
    }
}
