//! Views: which instruments become which streams — other names, buckets, attributes, limits, or nothing at all.
//!
//! ```
//! use barograph::View;
//!
//! // Keep a name that a dashboard has used for years, without touching the component.
//! let legacy = View::of("test_watcher.tests_run").with_name("legacy_test_runs");
//! // Other buckets for every duration of one component.
//! let coarse = View::of("*_duration").in_scope("test_watcher").with_buckets([1.0, 10.0, 60.0]);
//! // One attribute only, and at most 50 series.
//! let narrow = View::of("http.server.request.duration").with_attributes(["http.route"]).with_cardinality_limit(50);
//! // Not at all.
//! let quiet = View::of("debug.*").dropped();
//! ```
//!
//! Of the views that match an instrument, each that gives it a name makes a stream of that name. Those that leave the
//! name alone make one stream together: a general rule first, then its exceptions, whose settings stand before it. A view
//! that drops an instrument drops it, whatever the others say. An instrument that no view matches is one stream as it was
//! built. Specification: "View" in the metrics SDK document, which would make conflicting streams of one name.

mod pattern;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use opentelemetry::Key;
use opentelemetry_sdk::metrics::{Aggregation, Instrument, InstrumentKind, MeterProviderBuilder, Stream};

use crate::error::ViewError;
use crate::instrument::exact_cardinality;
use crate::spec::Kind;
pub(crate) use pattern::Pattern;

/// A rule from instruments to streams: which it selects, and what becomes of them.
///
/// Of the views that match an instrument, each that gives it a name makes a stream of that name; those that leave its
/// name alone make one stream together, in which later views are exceptions from earlier ones; one that drops it drops
/// it.
#[derive(Debug)]
#[must_use = "a view does nothing until a pipeline is given it"]
pub struct View {
    name: Pattern,
    scope: Option<Pattern>,
    kind: Option<Kind>,
    unit: Option<String>,
    stream: StreamSettings,
    matched: AtomicBool,
}

#[derive(Debug, Default)]
struct StreamSettings {
    name: Option<String>,
    description: Option<String>,
    buckets: Option<Buckets>,
    attributes: Option<Vec<String>>,
    cardinality_limit: Option<usize>,
    dropped: bool,
}

#[derive(Clone, Debug)]
enum Buckets {
    Explicit(Vec<f64>),
    Exponential { max_buckets: u32 },
}

impl View {
    /// Selects instruments by name. `*` stands for any characters and `?` for one; case does not matter, as it does
    /// not in instrument names.
    pub fn of(instrument: impl Into<String>) -> Self {
        Self {
            name: Pattern::new(instrument.into()),
            scope: None,
            kind: None,
            unit: None,
            stream: StreamSettings::default(),
            matched: AtomicBool::new(false),
        }
    }

    /// Selects only instruments of the meters whose name matches. Defaults to every meter.
    pub fn in_scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(Pattern::new(scope.into()));
        self
    }

    /// Selects only instruments of this kind. Defaults to every kind.
    pub fn of_kind(mut self, kind: Kind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Selects only instruments of exactly this unit. Defaults to every unit.
    pub fn of_unit(mut self, unit: impl Into<String>) -> Self {
        self.unit = Some(unit.into());
        self
    }

    /// Gives the stream another name. The scraped name is made from it in the same way: the unit and `_total` are
    /// added where they are not there yet. Goes with a selector that names one instrument.
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.stream.name = Some(name.into());
        self
    }

    /// Gives the stream another description.
    pub fn with_description(mut self, description: impl Into<String>) -> Self {
        self.stream.description = Some(description.into());
        self
    }

    /// Gives histograms these upper bounds, ascending; other kinds are left as they are.
    pub fn with_buckets(mut self, bounds: impl Into<Vec<f64>>) -> Self {
        self.stream.buckets = Some(Buckets::Explicit(bounds.into()));
        self
    }

    /// Gives histograms exponential buckets: at most so many for values above 0 and as many below, each as much wider
    /// than the one before as the range of what was recorded needs; 160 is what OpenTelemetry uses. Other kinds are left
    /// as they are.
    ///
    /// A Prometheus that scrapes protobuf stores them as native histograms. In the text formats they become explicit
    /// buckets, at most four for each doubling, so that the series are there whatever the format.
    pub fn with_exponential_buckets(mut self, max_buckets: u32) -> Self {
        self.stream.buckets = Some(Buckets::Exponential { max_buckets });
        self
    }

    /// Keeps only these attributes; series that then no longer differ are added up.
    pub fn with_attributes<K: Into<String>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        self.stream.attributes = Some(keys.into_iter().map(Into::into).collect());
        self
    }

    /// Keeps at most this many series; what is recorded beyond them goes to one series with
    /// `otel_metric_overflow="true"`. Defaults to the exact number of combinations for a typed instrument and to the
    /// SDK's 2,000 for any other; at most 1,000,000, because the SDK reserves memory for all of them at once.
    pub fn with_cardinality_limit(mut self, series: usize) -> Self {
        self.stream.cardinality_limit = Some(series);
        self
    }

    /// Records nothing for the selected instruments, whatever other views say.
    pub fn dropped(mut self) -> Self {
        self.stream.dropped = true;
        self
    }

    /// The view in words, as errors name it.
    fn selector(&self) -> String {
        self.name.as_str().to_owned()
    }

    fn check(&self) -> Result<(), ViewError> {
        let view = || self.selector();
        let stream = &self.stream;
        if self.name.as_str().trim().is_empty() {
            return Err(ViewError::EmptySelector);
        }
        if let Some(character) = self.name.impossible_character() {
            return Err(ViewError::ImpossibleSelector { view: view(), character });
        }
        if let Some(name) = &stream.name {
            if self.name.is_wildcard() {
                return Err(ViewError::AmbiguousName { view: view(), name: name.clone() });
            }
            if !name.contains(|character: char| character.is_ascii_alphanumeric()) {
                return Err(ViewError::IllegalName { view: view(), name: name.clone() });
            }
        }
        match &stream.buckets {
            Some(Buckets::Explicit(bounds)) if !is_strictly_ascending(bounds) => {
                return Err(ViewError::ImpossibleBuckets { view: view(), bounds: bounds.clone() });
            }
            Some(Buckets::Exponential { max_buckets }) if !EXPONENTIAL_BUCKETS.contains(max_buckets) => {
                return Err(ViewError::ImpossibleSize { view: view(), max_buckets: *max_buckets });
            }
            _ => {}
        }
        match stream.cardinality_limit {
            Some(0) => return Err(ViewError::NoSeries { view: view() }),
            Some(limit) if limit > MAX_LIMIT => return Err(ViewError::TooManySeries { view: view(), limit }),
            _ => {}
        }
        Ok(())
    }

    fn matches(&self, scope: &str, name: &str, kind: Kind, unit: &str) -> bool {
        scope != DRAIN_SCOPE
            && self.name.matches(name)
            && self.scope.as_ref().is_none_or(|pattern| pattern.matches(scope))
            && self.kind.is_none_or(|wanted| wanted == kind)
            && self.unit.as_deref().is_none_or(|wanted| wanted == unit)
    }
}

impl StreamSettings {
    /// These settings, and where they say nothing those of `general`.
    fn or(&self, general: &Self) -> Self {
        Self {
            name: self.name.clone().or_else(|| general.name.clone()),
            description: self.description.clone().or_else(|| general.description.clone()),
            buckets: self.buckets.clone().or_else(|| general.buckets.clone()),
            attributes: self.attributes.clone().or_else(|| general.attributes.clone()),
            cardinality_limit: self.cardinality_limit.or(general.cardinality_limit),
            dropped: self.dropped || general.dropped,
        }
    }

    fn stream(&self, kind: Kind) -> Option<Stream> {
        let mut stream = Stream::builder();
        if self.dropped {
            stream = stream.with_aggregation(Aggregation::Drop);
        } else if let (Some(buckets), Kind::Histogram) = (&self.buckets, kind) {
            stream = stream.with_aggregation(match buckets {
                Buckets::Explicit(bounds) => {
                    Aggregation::ExplicitBucketHistogram { boundaries: bounds.clone(), record_min_max: true }
                }
                &Buckets::Exponential { max_buckets } => Aggregation::Base2ExponentialHistogram {
                    max_size: max_buckets,
                    max_scale: MAX_SCALE,
                    record_min_max: true,
                },
            });
        }
        if let Some(name) = &self.name {
            stream = stream.with_name(name.clone());
        }
        if let Some(description) = &self.description {
            stream = stream.with_description(description.clone());
        }
        if let Some(keys) = &self.attributes {
            stream = stream.with_allowed_attribute_keys(keys.iter().cloned().map(Key::from));
        }
        if let Some(limit) = self.cardinality_limit.or_else(exact_cardinality) {
            stream = stream.with_cardinality_limit(limit);
        }
        // Everything that a stream can be refused for was checked when the pipeline started.
        stream.build().ok()
    }
}

/// The scale that an exponential histogram begins with, the finest that the specification knows.
const MAX_SCALE: i8 = 20;

/// How many buckets an exponential histogram can have: below 2 it cannot hold two values that differ, and above this a
/// single series would be larger than a page should be.
const EXPONENTIAL_BUCKETS: std::ops::RangeInclusive<u32> = 2..=1_000;

/// The SDK reserves memory for as many series as a limit allows, about 65 bytes for each, when it builds the
/// instrument.
const MAX_LIMIT: usize = 1_000_000;

/// The meter of the guard's own callback. A view that dropped it would stop every typed counter.
pub(crate) const DRAIN_SCOPE: &str = "barograph drain";

/// Whether a histogram can have these upper bounds: finite, ascending, none twice.
pub(crate) fn is_strictly_ascending(bounds: &[f64]) -> bool {
    bounds.iter().all(|bound| bound.is_finite()) && bounds.is_sorted_by(|a, b| a < b)
}

/// The views of one pipeline.
#[derive(Debug)]
pub(crate) struct Views(Vec<View>);

impl Views {
    pub(crate) fn new(views: Vec<View>) -> Result<Self, ViewError> {
        views.iter().try_for_each(View::check)?;
        Ok(Self(views))
    }

    /// Gives the views to the SDK: one place for each stream that an instrument can become, because the SDK takes one
    /// stream from each. The instrument that no view matches is left as it is, limited to exactly its series if typed.
    pub(crate) fn install(self: &Arc<Self>, mut builder: MeterProviderBuilder) -> MeterProviderBuilder {
        for place in 0..=self.0.len() {
            let views = Arc::clone(self);
            builder = builder.with_view(move |instrument: &Instrument| {
                let kind = kind_of(instrument.kind());
                let matching = views.matching(instrument.scope().name(), instrument.name(), kind, instrument.unit());
                matching.iter().for_each(|view| view.matched.store(true, Ordering::Relaxed));
                if matching.is_empty() {
                    let limit = exact_cardinality().filter(|_| place == 0)?;
                    return Stream::builder().with_cardinality_limit(limit).build().ok();
                }
                streams(&matching).get(place)?.stream(kind)
            });
        }
        builder
    }

    /// The names of the streams that an instrument becomes; none if a matching view drops it.
    pub(crate) fn stream_names(&self, scope: &str, name: &str, kind: Kind, unit: &str) -> Vec<String> {
        let matching = self.matching(scope, name, kind, unit);
        if matching.is_empty() {
            return vec![name.to_owned()];
        }
        let kept = streams(&matching).into_iter().filter(|stream| !stream.dropped);
        kept.map(|stream| stream.name.unwrap_or_else(|| name.to_owned())).collect()
    }

    fn matching(&self, scope: &str, name: &str, kind: Kind, unit: &str) -> Vec<&View> {
        self.0.iter().filter(|view| view.matches(scope, name, kind, unit)).collect()
    }

    /// The selectors of the views that have matched no instrument so far.
    pub(crate) fn unmatched(&self) -> impl Iterator<Item = String> {
        self.0.iter().filter(|view| !view.matched.load(Ordering::Relaxed)).map(View::selector)
    }
}

/// The streams that the matching views make of one instrument: one for each other name, and one with its own name, in
/// which a later view's settings stand before an earlier one's. A view that drops the instrument leaves only that.
fn streams(matching: &[&View]) -> Vec<StreamSettings> {
    let settings = || matching.iter().map(|view| &view.stream);
    if settings().any(|stream| stream.dropped) {
        return vec![StreamSettings { dropped: true, ..StreamSettings::default() }];
    }
    let unnamed = settings().filter(|stream| stream.name.is_none());
    let merged =
        unnamed.fold(None, |general: Option<StreamSettings>, stream| Some(stream.or(&general.unwrap_or_default())));
    let mut streams: Vec<StreamSettings> = merged.into_iter().collect();
    for stream in settings().filter(|stream| stream.name.is_some()) {
        match streams.iter_mut().find(|other| other.name == stream.name) {
            Some(other) => *other = stream.or(other),
            None => streams.push(stream.or(&StreamSettings::default())),
        }
    }
    streams
}

fn kind_of(kind: InstrumentKind) -> Kind {
    match kind {
        InstrumentKind::Counter => Kind::Counter,
        InstrumentKind::UpDownCounter => Kind::UpDownCounter,
        InstrumentKind::Histogram => Kind::Histogram,
        InstrumentKind::ObservableCounter => Kind::ObservableCounter,
        InstrumentKind::ObservableUpDownCounter => Kind::ObservableUpDownCounter,
        InstrumentKind::Gauge => Kind::Gauge,
        InstrumentKind::ObservableGauge => Kind::ObservableGauge,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(view: View) -> String {
        Views::new(vec![view]).unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_work_is_an_error_that_names_the_view() {
        assert_eq!(
            error(View::of("")),
            "a view selects no instrument: its name pattern is empty, `*` selects every one"
        );
        assert_eq!(
            error(View::of("a b")),
            "the view of `a b` matches nothing: no instrument name contains ' '; letters, digits and _ . - / may"
        );
        assert_eq!(
            error(View::of("a.*").with_name("b")),
            "the view of `a.*` would give every instrument it selects the name `b`: rename one instrument at a time"
        );
        assert_eq!(
            error(View::of("a").with_name("…")),
            "the view of `a` renames it to `…`, of which no scraped name can be made: use letters, digits and _ . - /"
        );
        assert_eq!(
            error(View::of("a").with_buckets([1.0, 1.0])),
            "the view of `a` sets impossible buckets [1.0, 1.0]: bounds are finite and ascend, none stands twice"
        );
        assert_eq!(
            error(View::of("a").with_cardinality_limit(0)),
            "the view of `a` limits it to 0 series: a limit is at least 1, `dropped()` records nothing"
        );
        assert_eq!(
            error(View::of("a").with_cardinality_limit(usize::MAX)),
            format!(
                "the view of `a` limits it to {} series: memory is reserved for all of them, 1,000,000 are the most",
                usize::MAX
            )
        );
    }

    #[test]
    fn streams_are_named_by_the_views_that_match() {
        let views = Views::new(vec![
            View::of("a").with_name("b"),
            View::of("A").in_scope("s*").with_name("c"),
            View::of("gone.*").dropped(),
            View::of("sized").of_kind(Kind::Histogram).of_unit("By").with_name("d"),
        ])
        .unwrap();
        let names = |scope, name, kind, unit| views.stream_names(scope, name, kind, unit);
        assert_eq!(names("t", "a", Kind::Counter, ""), ["b"]);
        assert_eq!(names("s1", "a", Kind::Counter, ""), ["b", "c"]);
        assert_eq!(names("s1", "gone.x", Kind::Gauge, ""), Vec::<String>::new());
        assert_eq!(names("s1", "other", Kind::Gauge, ""), ["other"]);
        assert_eq!(names("s1", "sized", Kind::Histogram, "s"), ["sized"]);
        assert_eq!(names("s1", "sized", Kind::Histogram, "By"), ["d"]);
        assert_eq!(views.unmatched().count(), 4);
    }
}
