//! The page that says why a metric is called what it is called, and why one is missing.
//!
//! It collects nothing: what it shows was kept when somebody collected last. Of attributes it knows the keys and never a
//! value, which may be a secret.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::InstrumentationScope;
use tokio::sync::{Semaphore, oneshot};

use crate::error::{InstrumentName, Problem, ScrapeError};
use crate::exposition::{Escaping, FamilyKind, NameKind, NameStory, TARGET_INFO, label_name, scraped_kinds};
use crate::guard::{Instrument, Known, MergedFamily, Scraped, SeenStream, Snapshot, Trouble, Watch};
use crate::runtime;
use crate::view::{Pattern, Plan};

use super::service::Endpoint;

/// Where the page is.
pub(super) const PATH: &str = "/debug/metrics";

/// Metrics on one page. A page of more is for nobody's eyes; a name in the query finds the rest.
const MAX_ENTRIES: usize = 10_000;

/// What the page of an endpoint is made from.
#[derive(Debug)]
pub(crate) struct DebugPage {
    watch: Watch,
    shown: Scraped,
    /// One page is made at a time: it is for people.
    turn: Arc<Semaphore>,
}

impl DebugPage {
    /// The page of the endpoint that shows its metrics like `shown`, and of the reader that it collects from.
    pub(crate) fn new(watch: Watch, shown: Scraped) -> Self {
        Self { watch, shown, turn: Arc::new(Semaphore::new(1)) }
    }

    /// Makes the page on a thread of its own. `names` are those that it is about, none being all.
    pub(super) async fn page(endpoint: Arc<Endpoint>, names: Vec<String>) -> Result<String, ScrapeError> {
        let failed = |reason: String| ScrapeError::Collect { reason };
        let Some(debug) = &endpoint.debug else { return Err(ScrapeError::NotServed) };
        let turn = Arc::clone(&debug.turn).acquire_owned().await.map_err(|error| failed(error.to_string()))?;
        let (done, page) = oneshot::channel();
        let asked = Arc::clone(&endpoint);
        runtime::spawn("barograph-debug", move || {
            let page = asked.debug.as_ref().map(|debug| debug.written(&asked.service_name, &names));
            drop(turn);
            let _ = done.send(page.unwrap_or_default());
        })
        .map_err(|error| failed(format!("a page needs a thread: {error}")))?;
        page.await.map_err(|_| failed("the page could not be made".to_owned()))
    }

    fn written(&self, service: &str, names: &[String]) -> String {
        let mut text = String::new();
        let page = Explained {
            page: self,
            snapshot: self.watch.snapshot(),
            problems: self.watch.catalogue().problems(),
            names,
            now: SystemTime::now(),
        };
        page.json(service).write(0, &mut text);
        text.push('\n');
        text
    }
}

/// Everything that one page is made from.
struct Explained<'a> {
    page: &'a DebugPage,
    snapshot: Snapshot,
    problems: Vec<Problem>,
    names: &'a [String],
    now: SystemTime,
}

/// The metrics that are scraped under one name.
struct Family {
    kind: String,
    series: usize,
    why: Vec<String>,
    metrics: Vec<Json>,
}

impl Explained<'_> {
    fn json(&self, service: &str) -> Json {
        let Scraped { naming, target_info, scope_info } = &self.page.shown;
        let mut entries = 0;
        let mut families = self.families(&mut entries);
        self.registry(&mut families, &mut entries);
        if *target_info && self.is_asked([TARGET_INFO, TARGET_INFO, TARGET_INFO]) {
            let why = "Barograph's own: who is measured, with the attributes of the resource as labels.".to_owned();
            let own = Family { kind: "gauge".to_owned(), series: 1, why: vec![why], metrics: Vec::new() };
            families.entry(TARGET_INFO.to_owned()).or_insert(own);
        }
        let missing = self.missing(&mut entries);
        let families = families.into_iter().map(|(name, family)| {
            Json::object([
                ("name", Json::Text(name)),
                ("type", Json::Text(family.kind)),
                ("series", Json::count(family.series)),
                ("why", Json::sentences(&family.why)),
                ("metrics", Json::List(family.metrics)),
            ])
        });
        let note = match self.snapshot.at {
            None => Json::text("Nothing has been collected yet: ask for the metrics once, then for this page again."),
            Some(_) => Json::Nothing,
        };
        let is_cut = entries > MAX_ENTRIES || self.snapshot.is_cut;
        let cut = "There are more metrics than this page has room for: ask for one with ?name=.";
        let off = "The configuration switches meters off; their instruments are not known here.";
        let sees_all = self.page.watch.catalogue().sees_all();
        Json::object([
            ("service", Json::text(service)),
            ("barograph", Json::text(env!("CARGO_PKG_VERSION"))),
            ("collected_at", self.snapshot.at.map_or(Json::Null, |at| Json::Text(rfc3339(at)))),
            ("seconds_ago", self.snapshot.at.map_or(Json::Nothing, |at| self.seconds_since(at))),
            ("note", note),
            ("cut", if is_cut { Json::text(cut) } else { Json::Nothing }),
            ("meters", if sees_all { Json::Nothing } else { Json::text(off) }),
            (
                "naming",
                Json::object([
                    ("translation_strategy", Json::text(naming.strategy.as_str())),
                    ("namespace", Json::text(&naming.namespace)),
                    ("scope_info", Json::Bool(*scope_info)),
                    ("target_info", Json::Bool(*target_info)),
                ]),
            ),
            ("problems", Json::List(self.problems.iter().map(|problem| Json::Text(problem.to_string())).collect())),
            ("families", Json::List(families.collect())),
            ("missing", Json::List(missing)),
        ])
    }

    /// What is scraped of the SDK's metrics, by scraped name.
    fn families(&self, entries: &mut usize) -> BTreeMap<String, Family> {
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        let mut streams: Vec<&SeenStream> = self.snapshot.streams.iter().collect();
        streams.sort_by(|a, b| a.order().cmp(&b.order()));
        for stream in streams {
            let Some(story) = self.story(&stream.name, &stream.unit, stream.kinds.0) else { continue };
            let instrument = stream.source.as_ref().map_or(&stream.name, |known| &known.instrument.name);
            if !self.is_asked([&story.name, &stream.name, instrument]) || !is_room(entries) {
                continue;
            }
            let kind = family_word(stream.kinds.1);
            let family = families.entry(story.name.clone()).or_insert_with(|| Family {
                kind: kind.to_owned(),
                series: 0,
                why: Vec::new(),
                metrics: Vec::new(),
            });
            if family.metrics.len() == 1 {
                family.why.push("Several metrics have this name.".to_owned());
            }
            if family.kind != kind {
                family
                    .why
                    .push(format!("`{}` is a {kind} and not shown: the first is a {}.", stream.name, family.kind));
            }
            family.series += stream.series + usize::from(stream.overflows);
            family.metrics.push(self.metric(stream, &story, &mut family.why));
        }
        families
    }

    /// One metric of a family, and what is unusual about it.
    fn metric(&self, stream: &SeenStream, story: &NameStory, why: &mut Vec<String>) -> Json {
        let plan = stream.source.as_ref().map(|known| self.page.watch.catalogue().plan(&known.instrument));
        let instrument = stream.source.as_ref().map(|known| &*known.instrument);
        let name = instrument.map_or(&stream.name, |instrument| &instrument.name);
        if *name != stream.name {
            why.push(format!("A view gives `{name}` the name `{}`.", stream.name));
        }
        if stream.overflows {
            why.push(format!(
                "More series of `{name}` were recorded than its limit of {}: what came later is summed under `otel_metric_overflow=\"true\"`.",
                stream.limit
            ));
        }
        if instrument.is_none() {
            why.push("One of Barograph's own metrics about the pipeline.".to_owned());
        }
        let full_name = InstrumentName { name: name.clone(), scope: stream.scope.name().to_owned() };
        why.extend(self.trouble(&full_name));
        let problems: Vec<_> = self.problems.iter().filter(|problem| is_about(problem, &full_name)).collect();
        for problem in problems.iter().filter(|problem| !matches!(problem, Problem::Overflow { .. })) {
            let sentence = format!("There is a problem: {problem}.");
            if !why.contains(&sentence) {
                why.push(sentence);
            }
        }
        let dropped = self.page.watch.dropped_points(&stream.name);
        if !dropped.is_empty() {
            let reasons: Vec<_> = dropped.iter().map(|(reason, points)| format!("{points} {reason}")).collect();
            why.push(format!("Points of `{}` were left out of scrapes so far: {}.", stream.name, reasons.join(", ")));
        }
        let (labels, merged) = self.labels(stream, why);
        let busiest = stream.busiest.iter().map(|(key, values)| (key.clone(), Json::count(*values))).collect();
        let (left_out, kept) = plan
            .as_ref()
            .map_or((Json::Nothing, Json::Nothing), |plan| left_out(plan, &stream.name, stream.source.as_ref()));
        let mut fields = vec![("instrument", Json::text(name)), ("meter", meter(&stream.scope))];
        fields.extend([
            ("kind", Json::text(instrument.map_or(family_word(stream.kinds.1), |i| i.kind.as_str()))),
            ("number", Json::text(stream.number)),
            ("unit", Json::text(&stream.unit)),
            ("description", Json::text(&stream.description)),
            ("views", plan.as_ref().map_or(Json::Nothing, views)),
            ("naming", naming(name, &stream.name, Some(story))),
            ("labels", labels),
            ("merged_labels", merged),
            ("keys_left_out", left_out),
            ("keys_kept", kept),
            ("problems", Json::some(problems.iter().map(|problem| Json::Text(problem.to_string())).collect())),
            ("series", Json::count(stream.series)),
            ("limit", instrument.map_or(Json::Nothing, |_| Json::count(stream.limit))),
            ("overflowed", Json::Bool(stream.overflows)),
            ("values_by_key", Json::fields(busiest)),
            (
                "dropped_points",
                Json::fields(dropped.into_iter().map(|(why, points)| (why.to_owned(), Json::Number(points))).collect()),
            ),
            ("last_update", stream.changed.map_or(Json::Nothing, |at| Json::Text(rfc3339(at)))),
            ("seconds_ago", stream.changed.map_or(Json::Nothing, |at| self.seconds_since(at))),
        ]);
        Json::object(fields)
    }

    /// Each key with its label, and the labels that several keys become.
    fn labels(&self, stream: &SeenStream, why: &mut Vec<String>) -> (Json, Json) {
        let mut by_label: BTreeMap<String, Vec<Json>> = BTreeMap::new();
        let mut labels = Vec::new();
        for key in &stream.keys {
            let label = label_name(key, stream.kinds.1, &self.page.shown.naming, Escaping::Underscores).into_owned();
            if label.starts_with("exported_") && !key.starts_with("exported") {
                why.push(format!("The key `{key}` is the format's own, so its label is `{label}`."));
            }
            by_label.entry(label.clone()).or_default().push(Json::text(key));
            labels.push((key.clone(), Json::Text(label)));
        }
        by_label.retain(|_, keys| keys.len() > 1);
        for label in by_label.keys() {
            why.push(format!("Several keys become the label `{label}`: their values are joined with `;`."));
        }
        (
            Json::fields(labels),
            Json::fields(by_label.into_iter().map(|(label, keys)| (label, Json::List(keys))).collect()),
        )
    }

    /// The families of a merged registry.
    fn registry(&self, families: &mut BTreeMap<String, Family>, entries: &mut usize) {
        for MergedFamily { name, kind, help, series } in &self.snapshot.merged {
            if !self.is_asked([name, name, name]) || !is_room(entries) {
                continue;
            }
            let merged = Json::object([
                ("from", Json::text("a prometheus registry that is merged into the scrape")),
                ("type", Json::text(kind)),
                ("description", Json::text(help)),
                ("series", Json::count(*series)),
            ]);
            let family = families.entry(name.clone()).or_insert_with(|| Family {
                kind: (*kind).to_owned(),
                series: 0,
                why: vec!["It comes from a merged prometheus registry, whose names are final.".to_owned()],
                metrics: Vec::new(),
            });
            if family.kind != *kind {
                family.why.push(format!("The registry's {kind} of this name is not shown: this is a {}.", family.kind));
            } else if !family.metrics.is_empty() {
                family.why.push(
                    "A merged registry has a family of this name too; where labels are the same it gives way."
                        .to_owned(),
                );
            }
            family.series += series;
            family.metrics.push(merged);
        }
    }

    /// The instruments that are not scraped, each with the reason.
    fn missing(&self, entries: &mut usize) -> Vec<Json> {
        let key = |known: &Known, name: &str| (Arc::as_ptr(&known.instrument), name.to_owned());
        let seen: HashSet<_> = self
            .snapshot
            .streams
            .iter()
            .filter_map(|stream| stream.source.as_ref().map(|known| key(known, &stream.name)))
            .collect();
        let mut missing = Vec::new();
        for known in self.page.watch.catalogue().instruments() {
            let instrument = &*known.instrument;
            let plan = self.page.watch.catalogue().plan(instrument);
            if plan.streams.is_empty() && self.is_asked([&instrument.name; 3]) && is_room(entries) {
                let views: Vec<_> = plan.matched.iter().map(|view| format!("`{}`", view.selects)).collect();
                let why = format!("It is dropped by the last of the views that match it: {}.", views.join(", "));
                missing.push(self.absent(instrument, &plan, &instrument.name, why));
            }
            for stream in plan.streams.iter().filter(|stream| !seen.contains(&key(&known, &stream.name))) {
                let name = self.story(&stream.name, &instrument.unit, scraped_kinds(instrument.kind).0);
                let name = name.map_or_else(|| stream.name.clone(), |story| story.name);
                if self.is_asked([&name, &stream.name, &instrument.name]) && is_room(entries) {
                    missing.push(self.absent(instrument, &plan, &stream.name, self.why_absent(instrument)));
                }
            }
        }
        for problem in &self.problems {
            let (Problem::InvalidName { instrument }
            | Problem::InvalidUnit { instrument, .. }
            | Problem::InvalidBuckets { instrument, .. }
            | Problem::BuiltInCallback { instrument }) = problem
            else {
                continue;
            };
            if self.is_asked([&instrument.name; 3]) && is_room(entries) {
                missing.push(Json::object([
                    ("instrument", Json::text(&instrument.name)),
                    ("meter", Json::object([("name", Json::text(&instrument.scope))])),
                    ("why", Json::Text(format!("It was refused: {problem}."))),
                ]));
            }
        }
        missing
    }

    fn why_absent(&self, instrument: &Instrument) -> String {
        let full_name = instrument.full_name();
        let trouble = self.trouble(&full_name);
        let what = match (self.snapshot.at, instrument.kind.is_observable()) {
            (None, _) => "Nothing has been collected yet.",
            (_, false) => "It was built, but nothing has been recorded to it yet.",
            (_, true) if trouble.is_empty() => "Its callback observed nothing at the last collection, or has ended.",
            (_, true) => "Its callback observed nothing at the last collection.",
        };
        let mut why = vec![what.to_owned()];
        why.extend(trouble);
        let about = self.problems.iter().filter(|problem| is_about(problem, &full_name));
        why.extend(about.map(|problem| format!("There is a problem: {problem}.")));
        why.join(" ")
    }

    /// What is wrong with an observable's callback, in sentences.
    fn trouble(&self, instrument: &InstrumentName) -> Vec<String> {
        let Trouble { running, panics, late } = self.page.watch.trouble(instrument);
        let times = |times: u64| match times {
            1 => "once".to_owned(),
            2 => "twice".to_owned(),
            _ => format!("{times} times"),
        };
        let running = running.map(|time| {
            format!("Its callback has been running for {:.1} s, and nobody waits for it any more.", time.as_secs_f64())
        });
        let panicked = (panics > 0)
            .then(|| format!("Its callback panicked {} so far; what the first one said is in the log.", times(panics)));
        let late = (late > 0).then(|| format!("Collections went on without it {} so far.", times(late)));
        running.into_iter().chain(late).chain(panicked).collect()
    }

    fn absent(&self, instrument: &Instrument, plan: &Plan, stream: &str, why: String) -> Json {
        let story = self.story(stream, &instrument.unit, scraped_kinds(instrument.kind).0);
        Json::object([
            ("instrument", Json::text(&instrument.name)),
            ("why", Json::Text(why)),
            ("would_be", story.as_ref().map_or(Json::Nothing, |story| Json::text(&story.name))),
            ("meter", meter(&instrument.scope)),
            ("kind", Json::text(instrument.kind.as_str())),
            ("number", Json::text(instrument.number)),
            ("unit", Json::text(&instrument.unit)),
            ("description", Json::text(&instrument.description)),
            ("views", views(plan)),
            ("naming", naming(&instrument.name, stream, story.as_ref())),
        ])
    }

    fn story(&self, name: &str, unit: &str, kind: NameKind) -> Option<NameStory> {
        self.page.shown.naming.story(name, unit, kind, Escaping::Underscores)
    }

    /// Whether a metric of one of these names is asked for: by the name that is scraped, with or without what a series adds
    /// to it, or by the one that stands in the program.
    fn is_asked(&self, called: [&str; 3]) -> bool {
        let is_called = |asked: &str| {
            called.contains(&asked)
                || called[0].strip_suffix("_total") == Some(asked)
                || ["_bucket", "_sum", "_count", "_created"]
                    .iter()
                    .any(|suffix| asked.strip_suffix(suffix) == Some(called[0]))
        };
        self.names.is_empty() || self.names.iter().any(|asked| is_called(asked))
    }

    fn seconds_since(&self, at: SystemTime) -> Json {
        let since = self.now.duration_since(at).unwrap_or_default();
        // Tenths are enough for people.
        Json::Seconds(since)
    }
}

/// Whether there is room for one more entry, which is counted either way.
fn is_room(entries: &mut usize) -> bool {
    *entries += 1;
    *entries <= MAX_ENTRIES
}

fn is_about(problem: &Problem, name: &InstrumentName) -> bool {
    match problem {
        Problem::InvalidName { instrument }
        | Problem::InvalidUnit { instrument, .. }
        | Problem::InvalidBuckets { instrument, .. }
        | Problem::BuiltInCallback { instrument }
        | Problem::Redeclared { instrument, .. }
        | Problem::ReservedName { instrument, .. }
        | Problem::Overflow { instrument, .. } => instrument == name,
        Problem::Conflict { shown, dropped, .. } => shown == name || dropped == name,
        Problem::UnmatchedView { .. } => false,
    }
}

fn family_word(kind: FamilyKind) -> &'static str {
    match kind {
        FamilyKind::Counter => "counter",
        FamilyKind::Gauge => "gauge",
        FamilyKind::Histogram => "histogram",
        FamilyKind::Info => "info",
        FamilyKind::Summary => "summary",
        FamilyKind::Untyped => "untyped",
    }
}

fn meter(scope: &InstrumentationScope) -> Json {
    let mut keys: Vec<&str> = scope.attributes().map(|pair| pair.key.as_str()).collect();
    keys.sort_unstable();
    Json::object([
        ("name", Json::text(scope.name())),
        ("version", scope.version().map_or(Json::Nothing, Json::text)),
        ("schema_url", scope.schema_url().map_or(Json::Nothing, Json::text)),
        ("attributes", Json::some(keys.into_iter().map(Json::text).collect())),
    ])
}

fn views(plan: &Plan) -> Json {
    let views = plan.matched.iter().map(|view| {
        Json::object([
            ("index", Json::count(view.index)),
            ("selects", Json::text(&view.selects)),
            ("changes", Json::text(&view.changes)),
        ])
    });
    Json::some(views.collect())
}

/// From the instrument's name to the one that is scraped.
fn naming(instrument: &str, stream: &str, story: Option<&NameStory>) -> Json {
    let step = |step: &str, name: &str| Json::object([("step", Json::text(step)), ("name", Json::text(name))]);
    let mut steps = Vec::new();
    if instrument != stream {
        steps.push(step("view renames", stream));
    }
    steps.extend(story.into_iter().flat_map(|story| &story.steps).map(|(done, name)| step(done.as_str(), name)));
    Json::List(steps)
}

/// Which keys a view leaves out of a stream, and which it keeps: by name where they are declared, else by the patterns of
/// the view.
fn left_out(plan: &Plan, stream: &str, known: Option<&Known>) -> (Json, Json) {
    let planned = plan.streams.iter().find(|planned| planned.name == stream);
    let Some(filter) = planned.and_then(|planned| planned.attributes.as_ref()) else {
        return (Json::Nothing, Json::Nothing);
    };
    if let Some(declared) = known.and_then(|known| known.attributes) {
        let (kept, left_out): (Vec<_>, Vec<_>) =
            declared.iter().map(|attribute| attribute.key).partition(|key| filter.keeps(key));
        let texts = |keys: Vec<&str>| Json::some(keys.into_iter().map(Json::text).collect());
        return (texts(left_out), texts(kept));
    }
    let texts = |patterns: &[Pattern]| Json::some(patterns.iter().map(|key| Json::text(key.as_str())).collect());
    (texts(&filter.excluded), texts(filter.included.as_deref().unwrap_or_default()))
}

/// A date as people and programs read it.
fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // A year that begins in March ends with the day that is not always there. A span is 400 years, 146,097 days.
    let days = days + 719_468;
    let (span, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + span * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
}

/// What stands on one line of the page without being wrapped in a terminal.
const LINE: usize = 100;

/// JSON whose fields keep their order: the answer to the question comes first.
enum Json {
    /// A field that is left out.
    Nothing,
    Null,
    Bool(bool),
    Number(u64),
    Seconds(Duration),
    Text(String),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl Json {
    fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    fn count(count: usize) -> Self {
        Self::Number(count as u64)
    }

    fn sentences(sentences: &[String]) -> Self {
        if sentences.is_empty() { Self::Nothing } else { Self::Text(sentences.join(" ")) }
    }

    /// A list that is left out if it is empty.
    fn some(list: Vec<Self>) -> Self {
        if list.is_empty() { Self::Nothing } else { Self::List(list) }
    }

    /// An object that is left out if it is empty.
    fn fields(fields: Vec<(String, Self)>) -> Self {
        if fields.is_empty() { Self::Nothing } else { Self::Object(fields) }
    }

    fn object(fields: impl IntoIterator<Item = (&'static str, Self)>) -> Self {
        let kept = fields.into_iter().filter(|(_, value)| !matches!(value, Self::Nothing));
        Self::Object(kept.map(|(name, value)| (name.to_owned(), value)).collect())
    }

    fn write(&self, depth: usize, out: &mut String) {
        match self {
            Self::Nothing | Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Number(number) => out.push_str(itoa::Buffer::new().format(*number)),
            Self::Seconds(seconds) => {
                let _ = write!(out, "{:.1}", seconds.as_secs_f64());
            }
            Self::Text(text) => quoted(text, out),
            Self::List(_) | Self::Object(_) if self.is_short() => self.write_line(out),
            Self::List(list) => {
                let items = list.iter().map(|item| (None, item));
                Self::nested('[', ']', items, depth, out);
            }
            Self::Object(fields) => {
                let fields = fields.iter().map(|(name, value)| (Some(name.as_str()), value));
                Self::nested('{', '}', fields, depth, out);
            }
        }
    }

    /// Whether it is easier to read on one line: few plain values.
    fn is_short(&self) -> bool {
        let length = |value: &Self| match value {
            Self::Text(text) => Some(text.len() + 4),
            Self::List(_) | Self::Object(_) => None,
            _ => Some(8),
        };
        let lengths: Option<usize> = match self {
            Self::List(list) => list.iter().map(length).sum(),
            Self::Object(fields) => fields.iter().map(|(name, value)| Some(name.len() + 4 + length(value)?)).sum(),
            _ => None,
        };
        lengths.is_some_and(|length| length <= LINE)
    }

    fn write_line(&self, out: &mut String) {
        let (open, close) = if matches!(self, Self::List(_)) { ('[', ']') } else { ('{', '}') };
        out.push(open);
        match self {
            Self::List(list) => list.iter().enumerate().for_each(|(index, item)| {
                out.push_str(if index > 0 { ", " } else { "" });
                item.write(0, out);
            }),
            Self::Object(fields) => fields.iter().enumerate().for_each(|(index, (name, item))| {
                out.push_str(if index > 0 { ", " } else { "" });
                quoted(name, out);
                out.push_str(": ");
                item.write(0, out);
            }),
            _ => {}
        }
        out.push(close);
    }

    fn nested<'a>(
        open: char,
        close: char,
        items: impl Iterator<Item = (Option<&'a str>, &'a Self)>,
        depth: usize,
        out: &mut String,
    ) {
        out.push(open);
        for (index, (name, item)) in items.enumerate() {
            out.push_str(if index > 0 { ",\n" } else { "\n" });
            out.push_str(&"  ".repeat(depth + 1));
            if let Some(name) = name {
                quoted(name, out);
                out.push_str(": ");
            }
            item.write(depth + 1, out);
        }
        out.push('\n');
        out.push_str(&"  ".repeat(depth));
        out.push(close);
    }
}

fn quoted(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, millis, date) in [
            (0, 0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, 999, "2000-02-28T23:59:59.999Z"),
            (951_782_400, 0, "2000-02-29T00:00:00.000Z"),
            (951_868_800, 0, "2000-03-01T00:00:00.000Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00.000Z"),
            (1_735_689_599, 5, "2024-12-31T23:59:59.005Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::new(seconds, millis * 1_000_000)), date);
        }
    }

    #[test]
    fn names_cannot_break_out_of_their_quotes() {
        let mut out = String::new();
        Json::fields(vec![("a\"b".to_owned(), Json::text("\u{1}\\\n"))]).write(0, &mut out);
        assert_eq!(out, r#"{"a\"b": "\u0001\\\n"}"#);
    }
}
