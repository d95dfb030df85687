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
//! that drops an instrument undoes the views before it, and is undone by one after it. An instrument that no view matches
//! is one stream as it was built. Specification: "View" in the metrics SDK document, which would make conflicting streams
//! of one name.

mod limits;
mod pattern;

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use opentelemetry::{InstrumentationScope, Key};
use opentelemetry_sdk::metrics::{Aggregation, Instrument, InstrumentKind, MeterProviderBuilder, Stream};

use crate::error::ViewError;
use crate::instrument::{declared_attributes, exact_cardinality};
use crate::spec::{Kind, ViewSpec};
pub use limits::CardinalityLimits;
pub(crate) use pattern::Pattern;

/// A rule from instruments to streams: which it selects, and what becomes of them.
///
/// Of the views that match an instrument, each that gives it a name makes a stream of that name; those that leave its
/// name alone make one stream together, in which later views are exceptions from earlier ones. One that drops it undoes
/// those before it: `View::of("*").dropped()` and then `View::of("http.*")` keep one component.
#[derive(Clone, Debug)]
#[must_use = "a view does nothing until a pipeline is given it"]
pub struct View {
    name: Pattern,
    scope: Option<Pattern>,
    scope_version: Option<String>,
    scope_schema_url: Option<String>,
    kind: Option<Kind>,
    unit: Option<String>,
    stream: StreamSettings,
}

#[derive(Clone, Debug, Default)]
struct StreamSettings {
    name: Option<String>,
    description: Option<String>,
    aggregation: Option<StreamAggregation>,
    attributes: Option<KeyFilter>,
    cardinality_limit: Option<usize>,
    dropped: bool,
}

/// How a stream aggregates. Where a kind cannot be aggregated so, it is as if nothing had been said.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(not(feature = "config-file"), allow(dead_code, reason = "only files say some of them"))]
pub(crate) enum StreamAggregation {
    /// As the instrument and the reader say.
    Default,
    LastValue,
    Sum,
    Explicit {
        bounds: Vec<f64>,
        record_min_max: bool,
    },
    Exponential {
        max_buckets: u32,
        max_scale: i8,
        record_min_max: bool,
    },
}

impl StreamAggregation {
    /// What the SDK is told for an instrument of this kind.
    fn of(&self, kind: Kind) -> Option<Aggregation> {
        match self {
            Self::Default => None,
            Self::LastValue => matches!(kind, Kind::Gauge | Kind::ObservableGauge).then_some(Aggregation::LastValue),
            Self::Sum => (!matches!(kind, Kind::Gauge | Kind::ObservableGauge)).then_some(Aggregation::Sum),
            _ if kind != Kind::Histogram => None,
            Self::Explicit { bounds, record_min_max } => Some(Aggregation::ExplicitBucketHistogram {
                boundaries: bounds.clone(),
                record_min_max: *record_min_max,
            }),
            &Self::Exponential { max_buckets, max_scale, record_min_max } => {
                Some(Aggregation::Base2ExponentialHistogram { max_size: max_buckets, max_scale, record_min_max })
            }
        }
    }
}

/// Which attributes a stream keeps.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyFilter {
    /// `None` keeps all.
    pub(crate) included: Option<Vec<Pattern>>,
    /// Stands before `included`.
    pub(crate) excluded: Vec<Pattern>,
}

impl KeyFilter {
    pub(crate) fn keeps(&self, key: &str) -> bool {
        let matches = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(key));
        self.included.as_deref().is_none_or(matches) && !matches(&self.excluded)
    }

    /// The keys that are kept, if they can be counted: the SDK takes a list and nothing else. Of what observable sums
    /// observe under the same kept attributes it would show the last, so for those it is never told.
    fn list(&self, kind: Kind) -> Option<Vec<Key>> {
        if matches!(kind, Kind::ObservableCounter | Kind::ObservableUpDownCounter) {
            return None;
        }
        if let Some(declared) = declared_attributes() {
            return Some(declared.iter().filter(|a| self.keeps(a.key)).map(|a| Key::from_static_str(a.key)).collect());
        }
        let included = self.included.as_ref().filter(|patterns| !patterns.iter().any(Pattern::is_wildcard))?;
        let kept = included.iter().map(Pattern::as_str).filter(|key| self.keeps(key));
        Some(kept.map(|key| Key::from(key.to_owned())).collect())
    }
}

/// What a reader does with the streams that no view says more about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct ReaderDefaults {
    pub(crate) has_exponential_histograms: bool,
    pub(crate) limits: CardinalityLimits,
}

impl View {
    /// Selects instruments by name. `*` stands for any characters and `?` for one; case does not matter, as it does
    /// not in instrument names.
    pub fn of(instrument: impl Into<String>) -> Self {
        Self {
            name: Pattern::new(instrument.into()),
            scope: None,
            scope_version: None,
            scope_schema_url: None,
            kind: None,
            unit: None,
            stream: StreamSettings::default(),
        }
    }

    /// Selects only instruments of the meters whose name matches. Defaults to every meter.
    pub fn in_scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(Pattern::new(scope.into()));
        self
    }

    /// Selects only instruments of meters with exactly this version. Defaults to any.
    pub fn in_scope_version(mut self, version: impl Into<String>) -> Self {
        self.scope_version = Some(version.into());
        self
    }

    /// Selects only instruments of meters with exactly this schema URL. Defaults to any.
    pub fn in_scope_schema_url(mut self, schema_url: impl Into<String>) -> Self {
        self.scope_schema_url = Some(schema_url.into());
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
    pub fn with_buckets(self, bounds: impl Into<Vec<f64>>) -> Self {
        self.aggregated(StreamAggregation::Explicit { bounds: bounds.into(), record_min_max: true })
    }

    /// Gives histograms exponential buckets: at most so many for values above 0 and as many below, each as much wider
    /// than the one before as the range of what was recorded needs; 160 is what OpenTelemetry uses. Other kinds are left
    /// as they are.
    ///
    /// A Prometheus that scrapes protobuf stores them as native histograms. In the text formats they become explicit
    /// buckets, at most four for each doubling, so that the series are there whatever the format.
    pub fn with_exponential_buckets(self, max_buckets: u32) -> Self {
        self.aggregated(StreamAggregation::Exponential { max_buckets, max_scale: MAX_SCALE, record_min_max: true })
    }

    /// Aggregates so, where an instrument's kind can be.
    pub(crate) fn aggregated(mut self, aggregation: StreamAggregation) -> Self {
        self.stream.aggregation = Some(aggregation);
        self
    }

    /// Keeps only the attributes with these keys; series that then no longer differ are added up. `*` stands for any
    /// characters and `?` for one; case matters.
    pub fn with_attributes<K: Into<String>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        let keys = keys.into_iter().map(|key| Pattern::of_keys(key.into()));
        self.stream.attributes.get_or_insert_default().included = Some(keys.collect());
        self
    }

    /// Leaves out the attributes with these keys, whatever [`with_attributes`](Self::with_attributes) says. `*` stands
    /// for any characters and `?` for one; case matters.
    ///
    /// ```
    /// use barograph::View;
    ///
    /// let view = View::of("http.*").with_attributes(["http.*", "server.*"]).without_attributes(["server.port"]);
    /// ```
    pub fn without_attributes<K: Into<String>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        let keys = keys.into_iter().map(|key| Pattern::of_keys(key.into()));
        self.stream.attributes.get_or_insert_default().excluded = keys.collect();
        self
    }

    /// Keeps at most this many series; what is recorded beyond them goes to one series with
    /// `otel_metric_overflow="true"`. Defaults to the exact number of combinations for a typed instrument and to the
    /// SDK's 2,000 for any other; at most 1,000,000, because the SDK reserves memory for all of them at once.
    pub fn with_cardinality_limit(mut self, series: usize) -> Self {
        self.stream.cardinality_limit = Some(series);
        self
    }

    /// Records nothing for the selected instruments, unless a later view selects them too.
    pub fn dropped(mut self) -> Self {
        self.stream.dropped = true;
        self
    }

    /// The view in words, as errors name it.
    fn selector(&self) -> String {
        self.name.as_str().to_owned()
    }

    pub(crate) fn check(&self) -> Result<(), ViewError> {
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
        match &stream.aggregation {
            Some(StreamAggregation::Explicit { bounds, .. }) if !is_strictly_ascending(bounds) => {
                return Err(ViewError::ImpossibleBuckets { view: view(), bounds: bounds.clone() });
            }
            Some(StreamAggregation::Exponential { max_buckets, .. }) if !EXPONENTIAL_BUCKETS.contains(max_buckets) => {
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

    fn matches(&self, scope: &InstrumentationScope, name: &str, kind: Kind, unit: &str) -> bool {
        scope.name() != DRAIN_SCOPE
            && self.name.matches(name)
            && self.scope.as_ref().is_none_or(|pattern| pattern.matches(scope.name()))
            && self.scope_version.as_deref().is_none_or(|wanted| scope.version() == Some(wanted))
            && self.scope_schema_url.as_deref().is_none_or(|wanted| scope.schema_url() == Some(wanted))
            && self.kind.is_none_or(|wanted| wanted == kind)
            && self.unit.as_deref().is_none_or(|wanted| wanted == unit)
    }
}

impl From<ViewSpec> for View {
    fn from(spec: ViewSpec) -> Self {
        let mut view = Self::of(spec.instrument).with_name(spec.name);
        if let Some(scope) = spec.scope {
            view = view.in_scope(scope);
        }
        if let Some(keys) = spec.attributes {
            view = view.with_attributes(keys.iter().copied());
        }
        view
    }
}

/// What it selects and what becomes of it, in the words of the declarative configuration.
impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_selector(f)?;
        write!(f, " → {}", self.stream)
    }
}

impl View {
    fn fmt_selector(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name.as_str())?;
        if let Some(kind) = self.kind {
            write!(f, " instrument_type={}", kind.as_str())?;
        }
        if let Some(unit) = &self.unit {
            write!(f, " unit={unit}")?;
        }
        if let Some(scope) = &self.scope {
            write!(f, " meter_name={}", scope.as_str())?;
        }
        if let Some(version) = &self.scope_version {
            write!(f, " meter_version={version}")?;
        }
        if let Some(url) = &self.scope_schema_url {
            write!(f, " meter_schema_url={url}")?;
        }
        Ok(())
    }
}

/// A view that matched an instrument, in words.
#[derive(Clone, Debug)]
pub(crate) struct MatchedView {
    /// Its place among the views of the pipeline.
    pub(crate) index: usize,
    /// What it selects.
    pub(crate) selects: String,
    /// What becomes of what it selects.
    pub(crate) changes: String,
}

/// What the views make of one instrument.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) matched: Vec<MatchedView>,
    /// None if it is dropped.
    pub(crate) streams: Vec<PlannedStream>,
}

/// One stream that an instrument becomes.
#[derive(Clone, Debug)]
pub(crate) struct PlannedStream {
    pub(crate) name: String,
    pub(crate) attributes: Option<KeyFilter>,
    /// `None` where no view limits it.
    pub(crate) limit: Option<usize>,
}

impl fmt::Display for StreamSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.dropped {
            return f.write_str("dropped");
        }
        let mut parts = Vec::new();
        parts.extend(self.name.as_ref().map(|name| format!("name={name}")));
        parts.extend(self.description.as_ref().map(|description| format!("description={description:?}")));
        parts.extend(self.aggregation.as_ref().map(|aggregation| match aggregation {
            StreamAggregation::Default => "default".to_owned(),
            StreamAggregation::LastValue => "last_value".to_owned(),
            StreamAggregation::Sum => "sum".to_owned(),
            StreamAggregation::Explicit { bounds, .. } => format!("explicit_bucket_histogram{bounds:?}"),
            StreamAggregation::Exponential { max_buckets, .. } => {
                format!("base2_exponential_bucket_histogram(max_size={max_buckets})")
            }
        }));
        if let Some(filter) = &self.attributes {
            let names = |patterns: &[Pattern]| patterns.iter().map(Pattern::as_str).collect::<Vec<_>>().join(", ");
            parts.extend(filter.included.as_ref().map(|included| format!("included=[{}]", names(included))));
            if !filter.excluded.is_empty() {
                parts.push(format!("excluded=[{}]", names(&filter.excluded)));
            }
        }
        parts.extend(self.cardinality_limit.map(|limit| format!("aggregation_cardinality_limit={limit}")));
        f.write_str(if parts.is_empty() { "as it is" } else { "" })?;
        f.write_str(&parts.join(" "))
    }
}

impl StreamSettings {
    /// These settings, and where they say nothing those of `general`.
    fn or(&self, general: &Self) -> Self {
        Self {
            name: self.name.clone().or_else(|| general.name.clone()),
            description: self.description.clone().or_else(|| general.description.clone()),
            aggregation: self.aggregation.clone().or_else(|| general.aggregation.clone()),
            attributes: self.attributes.clone().or_else(|| general.attributes.clone()),
            cardinality_limit: self.cardinality_limit.or(general.cardinality_limit),
            dropped: false,
        }
    }

    /// What the SDK is told, for one reader.
    fn stream(&self, kind: Kind, reader: ReaderDefaults) -> Option<Stream> {
        let mut stream = Stream::builder();
        if self.dropped {
            stream = stream.with_aggregation(Aggregation::Drop);
        } else {
            let own = self.aggregation.as_ref().and_then(|aggregation| aggregation.of(kind));
            if let Some(aggregation) = own.or_else(|| reader.aggregation(kind)) {
                stream = stream.with_aggregation(aggregation);
            }
        }
        if let Some(name) = &self.name {
            stream = stream.with_name(name.clone());
        }
        if let Some(description) = &self.description {
            stream = stream.with_description(description.clone());
        }
        // What cannot be listed is left out by the guard.
        if let Some(keys) = self.attributes.as_ref().and_then(|filter| filter.list(kind)) {
            stream = stream.with_allowed_attribute_keys(keys);
        }
        if let Some(limit) = self.cardinality_limit.or_else(exact_cardinality).or_else(|| reader.limit(kind)) {
            stream = stream.with_cardinality_limit(limit);
        }
        // Everything that a stream can be refused for was checked when the pipeline started.
        stream.build().ok()
    }
}

impl ReaderDefaults {
    fn aggregation(&self, kind: Kind) -> Option<Aggregation> {
        // As many buckets as the specification's default.
        let aggregation =
            StreamAggregation::Exponential { max_buckets: 160, max_scale: MAX_SCALE, record_min_max: true };
        self.has_exponential_histograms.then(|| aggregation.of(kind)).flatten()
    }

    /// How many series the SDK keeps of an instrument that no view limits and that is not typed.
    pub(crate) fn series(&self, kind: Kind) -> usize {
        self.limit(kind).unwrap_or(SDK_LIMIT)
    }

    fn limit(&self, kind: Kind) -> Option<usize> {
        self.limits.of(kind).map(|limit| usize::from(limit).min(MAX_LIMIT))
    }

    /// What an instrument becomes that no view matches, if it is not as the SDK has it anyway.
    fn stream(&self, kind: Kind) -> Option<Stream> {
        let is_default =
            exact_cardinality().is_none() && self.limit(kind).is_none() && self.aggregation(kind).is_none();
        if is_default { None } else { StreamSettings::default().stream(kind, *self) }
    }
}

/// The scale that an exponential histogram begins with, the finest that the specification knows.
const MAX_SCALE: i8 = 20;

/// How many buckets an exponential histogram can have: below 2 it cannot hold two values that differ, and above this a
/// single series would be larger than a page should be.
const EXPONENTIAL_BUCKETS: std::ops::RangeInclusive<u32> = 2..=1_000;

/// The SDK reserves memory for as many series as a limit allows, about 65 bytes for each, when it builds the
/// instrument.
pub(crate) const MAX_LIMIT: usize = 1_000_000;

/// How many series the SDK keeps of an instrument where nobody says anything.
const SDK_LIMIT: usize = 2_000;

/// The meter of the guard's own callback. A view that dropped it would stop every typed counter.
pub(crate) const DRAIN_SCOPE: &str = "barograph drain";

/// Whether a histogram can have these upper bounds: finite, ascending, none twice.
pub(crate) fn is_strictly_ascending(bounds: &[f64]) -> bool {
    bounds.iter().all(|bound| bound.is_finite()) && bounds.is_sorted_by(|a, b| a < b)
}

/// The views of one pipeline.
#[derive(Debug)]
pub(crate) struct Views {
    /// An address may be that of views that are gone.
    id: u64,
    views: Vec<View>,
    /// Whether each of them has matched an instrument.
    matched: Vec<AtomicBool>,
}

thread_local! {
    /// Which of an instrument's streams are made: all, or the one at this place.
    static ONLY: Cell<Option<usize>> = const { Cell::new(None) };
    /// For whose views this thread was asked last, and for the how many-th reader of theirs.
    static READER: Cell<(u64, usize)> = const { Cell::new((0, 0)) };
}

/// The next `id`; 0 is nobody's.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Makes only the stream at this place of what is built meanwhile.
pub(crate) fn only_stream<T>(place: usize, build: impl FnOnce() -> T) -> T {
    let outer = ONLY.replace(Some(place));
    let built = build();
    ONLY.set(outer);
    built
}

impl Views {
    pub(crate) fn new(views: Vec<View>) -> Result<Self, ViewError> {
        views.iter().try_for_each(View::check)?;
        let matched = views.iter().map(|_| AtomicBool::new(false)).collect();
        Ok(Self { id: NEXT_ID.fetch_add(1, Ordering::Relaxed), views, matched })
    }

    /// Gives the views to the SDK: one place for each stream that an instrument can become, because the SDK takes one
    /// stream from each. The instrument that no view matches is left as it is, limited to exactly its series if typed.
    ///
    /// The SDK asks for every reader, one after the other and in the order in which it was given them, and does not say
    /// for which. So the first place counts: `readers` are those readers.
    pub(crate) fn install(
        self: &Arc<Self>,
        readers: Vec<ReaderDefaults>,
        mut builder: MeterProviderBuilder,
    ) -> MeterProviderBuilder {
        let readers = Arc::new(readers);
        for place in 0..=self.views.len() {
            let (views, readers) = (Arc::clone(self), Arc::clone(&readers));
            builder = builder.with_view(move |instrument: &Instrument| {
                let reader = readers.get(views.reader(place == 0, readers.len())).copied().unwrap_or_default();
                let kind = kind_of(instrument.kind());
                let matching = views.matching(instrument.scope(), instrument.name(), kind, instrument.unit());
                if matching.is_empty() {
                    return if place == 0 { reader.stream(kind) } else { None };
                }
                if ONLY.get().is_some_and(|only| only != place) {
                    return None;
                }
                streams(&matching, instrument.name()).get(place)?.stream(kind, reader)
            });
        }
        builder
    }

    /// For which reader this thread is asked. An instrument is built on one thread, and for all readers.
    fn reader(&self, is_next: bool, readers: usize) -> usize {
        let (views, mut reader) = READER.get();
        if is_next {
            reader = if views == self.id { (reader + 1) % readers.max(1) } else { 0 };
            READER.set((self.id, reader));
        }
        reader
    }

    /// The names of the streams that an instrument becomes; none if it is dropped.
    pub(crate) fn stream_names(&self, scope: &InstrumentationScope, name: &str, kind: Kind, unit: &str) -> Vec<String> {
        let matching = self.matching(scope, name, kind, unit);
        if matching.is_empty() {
            return vec![name.to_owned()];
        }
        let kept = streams(&matching, name).into_iter().filter(|stream| !stream.dropped);
        kept.map(|stream| stream.name.unwrap_or_else(|| name.to_owned())).collect()
    }

    /// The attributes that each of an instrument's streams keeps, if the SDK cannot be told for one of them.
    pub(crate) fn filters(
        &self,
        scope: &InstrumentationScope,
        name: &str,
        kind: Kind,
        unit: &str,
    ) -> Option<Vec<Option<KeyFilter>>> {
        let streams = streams(&self.matching(scope, name, kind, unit), name);
        let cannot_be_listed = |filter: &KeyFilter| filter.list(kind).is_none();
        let is_needed = streams.iter().any(|stream| stream.attributes.as_ref().is_some_and(cannot_be_listed));
        is_needed.then(|| streams.into_iter().map(|stream| stream.attributes.filter(cannot_be_listed)).collect())
    }

    /// What becomes of an instrument, and by which views.
    pub(crate) fn plan(&self, scope: &InstrumentationScope, name: &str, kind: Kind, unit: &str) -> Plan {
        let matching = self.views.iter().enumerate().filter(|(_, view)| view.matches(scope, name, kind, unit));
        let (matched, views): (Vec<_>, Vec<_>) = matching
            .map(|(index, view)| {
                let selects = fmt::from_fn(|f| view.fmt_selector(f)).to_string();
                (MatchedView { index, selects, changes: view.stream.to_string() }, view)
            })
            .unzip();
        let as_built = || PlannedStream { name: name.to_owned(), attributes: None, limit: None };
        if views.is_empty() {
            return Plan { matched, streams: vec![as_built()] };
        }
        let kept = streams(&views, name).into_iter().filter(|stream| !stream.dropped);
        let planned = kept.map(|stream| PlannedStream {
            name: stream.name.unwrap_or_else(|| name.to_owned()),
            attributes: stream.attributes,
            limit: stream.cardinality_limit,
        });
        Plan { matched, streams: planned.collect() }
    }

    fn matching(&self, scope: &InstrumentationScope, name: &str, kind: Kind, unit: &str) -> Vec<&View> {
        let matching = self.views.iter().zip(&self.matched).filter(|(view, _)| view.matches(scope, name, kind, unit));
        matching
            .map(|(view, matched)| {
                matched.store(true, Ordering::Relaxed);
                view
            })
            .collect()
    }

    /// The selectors of the views that have matched no instrument so far.
    pub(crate) fn unmatched(&self) -> impl Iterator<Item = String> {
        let views = self.views.iter().zip(&self.matched);
        views.filter(|(_, matched)| !matched.load(Ordering::Relaxed)).map(|(view, _)| view.selector())
    }
}

/// The streams that the matching views make of one instrument: one for each other name, and one with its own name, in
/// which a later view's settings stand before an earlier one's. A view that drops it undoes those before it.
fn streams(matching: &[&View], own_name: &str) -> Vec<StreamSettings> {
    // Names that differ in case alone are one name, and to be given its own is no other.
    let name = |stream: &StreamSettings| stream.name.as_deref().unwrap_or(own_name).to_ascii_lowercase();
    let mut streams: Vec<StreamSettings> = Vec::new();
    for stream in matching.iter().map(|view| &view.stream) {
        if stream.dropped {
            streams = vec![StreamSettings { dropped: true, ..StreamSettings::default() }];
            continue;
        }
        streams.retain(|stream| !stream.dropped);
        match streams.iter_mut().find(|other| name(other) == name(stream)) {
            Some(other) => *other = stream.or(other),
            None => streams.push(stream.clone()),
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
    fn a_view_of_constant_data_is_the_view_that_it_says() {
        const SPEC: ViewSpec = ViewSpec::new("worker.jobs", "jobs");
        let same = |spec: ViewSpec, view: View| assert_eq!(format!("{:?}", View::from(spec)), format!("{view:?}"));
        same(SPEC, View::of("worker.jobs").with_name("jobs"));
        same(
            SPEC.in_scope("worker").with_attributes(&["status"]),
            View::of("worker.jobs").with_name("jobs").in_scope("worker").with_attributes(["status"]),
        );
        same(SPEC.with_attributes(&[]), View::of("worker.jobs").with_name("jobs").with_attributes([""; 0]));
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
    fn a_thread_counts_the_readers_of_each_pipeline_anew() {
        let ask = |views: &Views, readers| -> Vec<usize> { (0..4).map(|_| views.reader(true, readers)).collect() };
        for _ in 0..10 {
            // One after the other at the same address, perhaps.
            let one = Views::new(Vec::new()).unwrap();
            assert_eq!(ask(&one, 1), [0, 0, 0, 0]);
            drop(one);
            let two = Views::new(Vec::new()).unwrap();
            assert_eq!(ask(&two, 2), [0, 1, 0, 1]);
        }
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
        let names = |scope: &'static str, name, kind, unit| {
            views.stream_names(&InstrumentationScope::builder(scope).build(), name, kind, unit)
        };
        assert_eq!(names("t", "a", Kind::Counter, ""), ["b"]);
        assert_eq!(names("s1", "a", Kind::Counter, ""), ["b", "c"]);
        assert_eq!(names("s1", "gone.x", Kind::Gauge, ""), Vec::<String>::new());
        assert_eq!(names("s1", "other", Kind::Gauge, ""), ["other"]);
        assert_eq!(names("s1", "sized", Kind::Histogram, "s"), ["sized"]);
        assert_eq!(names("s1", "sized", Kind::Histogram, "By"), ["d"]);
        assert_eq!(views.unmatched().count(), 0);
    }
}
