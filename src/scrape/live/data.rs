//! What `/live` answers, as JSON: what a scrape would show, and what it would if it had points.
//!
//! | field | |
//! |---|---|
//! | `service` `version` | who is measured; Barograph's version |
//! | `now` `started` | when this was collected and when the pipeline started, in seconds of Unix time |
//! | `metrics` `debug` | where the metrics are, and the page that explains them, or `null` |
//! | `schema` | another one whenever `families` is another |
//! | `families` | by meter and scraped name; left out for who asks with `?known=` and this schema |
//! | `values` | a list for each family, with a value for each of its series |
//! | `left_out` | how many series there is no room for, if there are any |
//! | `problems` | what [`Telemetry::verify`](crate::Telemetry::verify) says |
//! | `collection` | `seconds` that it took |
//!
//! A family has the `name` that the program knows it by and the one that is `scraped`, its `scope` (the meter; empty for a merged
//! registry's), `kind`, `unit`, `description`, the `keys` of its labels in order, for each of its `series` their values
//! (`null` where a series has no such label), the `limit` of series, if one is known, and whether it `overflows`. Labels
//! that say which meter it is are left out where there is only one. A family whose instrument has recorded nothing has no
//! series.
//!
//! A value is a number; of a histogram it is `[count, sum, [counts of the buckets]]`, with one more count than the family has
//! `bounds`, and where these are its own, as they are for exponential ones, `[count, sum, counts, bounds]`. A summary is a
//! histogram with no bounds. What JSON has no number for is `"NaN"`, `"+Inf"` or `"-Inf"`.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::exporter::{Asked, PrometheusExporter};
use crate::exposition::{
    CHUNK, Classic, Encoder, Escaping, ExponentialSample, Family, FamilyEnd, FamilyKind, Grid, HistogramSample, Labels,
    NameKind, Number, Out, SummarySample, scraped_kinds,
};
use crate::guard::{Scraped, SeenStream, Watch};

use super::super::gather::{Collected, Render};
use super::Live;

/// Series in one answer: more than anybody looks at, and few enough for a browser to keep up with once a second.
const MAX_SERIES: usize = 20_000;

/// Bytes of one answer, which is held until it is whole: several times what so many series usually take.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// Labels of one family: every series has a place for each of them.
const MAX_KEYS: usize = 64;

/// What one request of a page asks for.
pub(super) struct Poll {
    pub(super) live: Arc<Live>,
    pub(super) service: String,
    pub(super) metrics: String,
    pub(super) debug: Option<&'static str>,
    /// The schema of the lists that the page has.
    pub(super) known: Option<String>,
}

impl Render for Poll {
    fn render(&self, collected: &Collected, exporter: &PrometheusExporter, out: &mut Out<'_>) {
        let Live { watch, scraped, started, hashes, .. } = &*self.live;
        let snapshot = watch.snapshot();
        let mut all = Everything::new(by_scraped_name(&snapshot.streams, scraped));
        exporter.walk(collected.shown(), &Asked::default(), &mut all, false, false);
        all.add_unrecorded(watch, scraped);
        all.written.sort_by(|a, b| (&a.scope, &a.scraped).cmp(&(&b.scope, &b.scraped)));

        let mut hasher = hashes.build_hasher();
        all.written.iter().for_each(|family| hasher.write(&family.about));
        let schema = format!("{:016x}", hasher.finish());
        let mut json = Vec::new();
        json.push(b'{');
        text_field("service", &self.service, &mut json);
        text_field("version", env!("CARGO_PKG_VERSION"), &mut json);
        raw_field("now", &seconds(snapshot.at.unwrap_or_else(SystemTime::now)), &mut json);
        raw_field("started", &seconds(*started), &mut json);
        text_field("metrics", &self.metrics, &mut json);
        match self.debug {
            Some(path) => text_field("debug", path, &mut json),
            None => raw_field("debug", "null", &mut json),
        }
        text_field("schema", &schema, &mut json);
        raw_field("collection", &format!("{{\"seconds\":{:.6}}}", collected.took.as_secs_f64()), &mut json);
        if all.left_out > 0 {
            raw_field("left_out", itoa::Buffer::new().format(all.left_out), &mut json);
        }
        let problems: Vec<_> = watch.catalogue().problems().iter().map(ToString::to_string).collect();
        field("problems", &mut json);
        list(&problems, &mut json, |problem, json| text(problem, json));
        out.buffer.append(&mut json);
        if self.known.as_ref() != Some(&schema) {
            parts("families", all.written.iter().map(|family| &family.about), out);
        }
        parts("values", all.written.iter().map(|family| &family.values), out);
        out.buffer.extend_from_slice(b"}\n");
        out.hand_on();
    }
}

/// Writes a list of what is written already.
fn parts<'a>(name: &str, items: impl Iterator<Item = &'a Vec<u8>>, out: &mut Out<'_>) {
    field(name, &mut out.buffer);
    out.buffer.push(b'[');
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.buffer.push(b',');
        }
        for part in item.chunks(CHUNK) {
            out.buffer.extend_from_slice(part);
            out.hand_on_if_full();
        }
    }
    out.buffer.push(b']');
}

/// The streams that make up each family, the one that gives it its name and type first.
fn by_scraped_name<'a>(streams: &'a [SeenStream], scraped: &Scraped) -> HashMap<String, Vec<&'a SeenStream>> {
    let mut by_name: HashMap<String, Vec<&SeenStream>> = HashMap::new();
    for stream in streams {
        if let Some(name) = scraped_name(scraped, &stream.name, &stream.unit, stream.kinds.0) {
            by_name.entry(name).or_default().push(stream);
        }
    }
    by_name.values_mut().for_each(|streams| streams.sort_by(|a, b| a.order().cmp(&b.order())));
    by_name
}

/// The name that a scrape shows by default.
fn scraped_name(scraped: &Scraped, name: &str, unit: &str, kind: NameKind) -> Option<String> {
    scraped.naming.metric(name, unit, kind).map(|name| name.escaped(Escaping::Underscores, kind).name)
}

fn kind_word(kinds: (NameKind, FamilyKind)) -> &'static str {
    match kinds {
        (_, FamilyKind::Counter) => "counter",
        (NameKind::Other, FamilyKind::Gauge) => "up_down_counter",
        (_, FamilyKind::Histogram | FamilyKind::Summary) => "histogram",
        (_, FamilyKind::Gauge | FamilyKind::Info | FamilyKind::Untyped) => "gauge",
    }
}

/// A family as it leaves.
struct Written {
    scope: String,
    scraped: String,
    about: Vec<u8>,
    values: Vec<u8>,
}

/// Takes the families of one walk.
struct Everything<'a> {
    streams: HashMap<String, Vec<&'a SeenStream>>,
    written: Vec<Written>,
    current: Option<Growing>,
    /// Whether it is `target_info`, which nobody records.
    is_target: bool,
    grid: Grid,
    classic: Classic,
    series: usize,
    bytes: usize,
    left_out: usize,
}

impl<'a> Everything<'a> {
    fn new(streams: HashMap<String, Vec<&'a SeenStream>>) -> Self {
        Self {
            streams,
            written: Vec::new(),
            current: None,
            is_target: false,
            grid: Grid::default(),
            classic: Classic::default(),
            series: 0,
            bytes: 0,
            left_out: 0,
        }
    }

    fn is_full(&self) -> bool {
        self.series >= MAX_SERIES || self.bytes >= MAX_BYTES
    }

    /// The family that a sample belongs to, which has its labels by now; `None` if there is no room for it.
    fn row(&mut self, labels: Labels<'_>) -> Option<&mut Growing> {
        let is_full = self.is_full();
        let Some(family) = &mut self.current else {
            self.left_out += usize::from(!self.is_target);
            return None;
        };
        if is_full || !family.row(labels) {
            self.left_out += 1;
            return None;
        }
        self.series += 1;
        Some(family)
    }

    /// Adds the instruments that have been built and have no points.
    fn add_unrecorded(&mut self, watch: &Watch, scraped: &Scraped) {
        let mut names: Vec<String> = self.written.iter().map(|family| family.scraped.clone()).collect();
        names.sort_unstable();
        for known in watch.catalogue().instruments() {
            let instrument = &*known.instrument;
            let kinds = scraped_kinds(instrument.kind);
            for stream in watch.catalogue().plan(instrument).streams {
                let Some(name) = scraped_name(scraped, &stream.name, &instrument.unit, kinds.0) else { continue };
                let Err(place) = names.binary_search(&name) else { continue };
                if self.is_full() {
                    return;
                }
                names.insert(place, name.clone());
                let mut family = Growing::new(name, kind_word(kinds));
                family.name = stream.name;
                family.scope = instrument.scope.name().to_owned();
                family.unit.clone_from(&instrument.unit);
                family.description.clone_from(&instrument.description);
                self.end(family);
            }
        }
    }

    fn end(&mut self, family: Growing) {
        let family = family.written();
        self.bytes += family.about.len() + family.values.len();
        self.written.push(family);
    }
}

impl Encoder for Everything<'_> {
    fn family(&mut self, family: &Family<'_>) {
        self.grid = family.grid;
        self.current = None;
        self.is_target = family.kind == FamilyKind::Info;
        if self.is_target || self.is_full() {
            return;
        }
        let streams = self.streams.get(family.name).map(Vec::as_slice).unwrap_or_default();
        let first = streams.first();
        let kinds = first.map_or((NameKind::Gauge, family.kind), |stream| stream.kinds);
        let mut growing = Growing::new(family.name.to_owned(), kind_word(kinds));
        growing.description = family.help.to_owned();
        growing.shows_scope = streams.len() > 1;
        growing.overflows = streams.iter().any(|stream| stream.overflows);
        if let Some(stream) = first {
            growing.name.clone_from(&stream.name);
            growing.scope = stream.scope.name().to_owned();
            growing.unit.clone_from(&stream.unit);
            growing.limit = Some(stream.limit);
        }
        self.current = Some(growing);
    }

    fn number(&mut self, labels: Labels<'_>, value: Number, _: Option<SystemTime>) {
        if let Some(family) = self.row(labels) {
            number(value, family.value());
        }
    }

    fn histogram(&mut self, labels: Labels<'_>, sample: &HistogramSample<'_>, _: Option<SystemTime>) {
        if let Some(family) = self.row(labels) {
            let has_own_bounds = family.bounds.get_or_insert_with(|| sample.bounds.to_vec()) != sample.bounds;
            histogram(sample, has_own_bounds, family.value());
        }
    }

    fn exponential(&mut self, labels: Labels<'_>, sample: &ExponentialSample<'_>, _: Option<SystemTime>) {
        let (grid, mut classic) = (self.grid, std::mem::take(&mut self.classic));
        if let Some(family) = self.row(labels) {
            if family.bounds.is_none() {
                family.kind = "exponential_histogram";
            }
            histogram(&classic.convert(sample, &grid), true, family.value());
        }
        self.classic = classic;
    }

    fn summary(&mut self, labels: Labels<'_>, sample: &SummarySample<'_>) {
        let (count, sum) = (sample.count, Number::Float(sample.sum));
        self.histogram(labels, &HistogramSample { bounds: &[], cumulative: &[], count, sum }, None);
    }

    fn end_family(&mut self) -> FamilyEnd {
        if let Some(family) = self.current.take() {
            self.end(family);
        }
        FamilyEnd::Written
    }

    fn end(&mut self) {}

    fn is_stopped(&self) -> bool {
        false
    }
}

/// A family while its series come.
struct Growing {
    name: String,
    scraped: String,
    scope: String,
    kind: &'static str,
    unit: String,
    description: String,
    limit: Option<usize>,
    overflows: bool,
    /// Whether there are several meters to be told apart.
    shows_scope: bool,
    bounds: Option<Vec<f64>>,
    /// The names of labels by their numbers in the walk.
    keys: Vec<(u32, String)>,
    /// The lists of labels that series have.
    shapes: Vec<Vec<u32>>,
    by_shape: HashMap<Vec<u32>, usize>,
    /// For each series which of these lists it has.
    rows: Vec<usize>,
    /// The values of all labels, one after the other, each quoted, and where each of them ends.
    texts: Vec<u8>,
    ends: Vec<usize>,
    values: Vec<u8>,
}

impl Growing {
    fn new(scraped: String, kind: &'static str) -> Self {
        Self {
            name: scraped.clone(),
            scraped,
            scope: String::new(),
            kind,
            unit: String::new(),
            description: String::new(),
            limit: None,
            overflows: false,
            shows_scope: false,
            bounds: None,
            keys: Vec::new(),
            shapes: Vec::new(),
            by_shape: HashMap::new(),
            rows: Vec::new(),
            texts: Vec::new(),
            ends: Vec::new(),
            values: b"[".to_vec(),
        }
    }

    /// Takes the labels of a series; says whether there is room for them.
    fn row(&mut self, labels: Labels<'_>) -> bool {
        let shows_scope = self.shows_scope;
        let is_shown = |number: u32| shows_scope || !labels.names.name(number).starts_with("otel_scope_");
        let shown = labels.labels.iter().filter(|label| is_shown(label.name));
        // Nearly always it has the labels that the one before has.
        let numbers = || shown.clone().map(|label| label.name);
        let last = self.rows.last().copied();
        let is_last = |shape: &usize| self.shapes.get(*shape).is_some_and(|last| numbers().eq(last.iter().copied()));
        let shape = match last.filter(is_last) {
            Some(shape) => shape,
            None => match self.shape(numbers().collect(), labels) {
                Some(shape) => shape,
                None => return false,
            },
        };
        self.rows.push(shape);
        for label in shown {
            text(&label.value, &mut self.texts);
            self.ends.push(self.texts.len());
        }
        true
    }

    /// The number of a list of labels, which may be new; `None` if there would be too many of them.
    fn shape(&mut self, numbers: Vec<u32>, labels: Labels<'_>) -> Option<usize> {
        if let Some(&shape) = self.by_shape.get(&numbers) {
            return Some(shape);
        }
        let is_new = |number: &&u32| self.keys.iter().all(|(known, _)| known != *number);
        let new: Vec<_> = numbers.iter().filter(is_new).map(|&n| (n, labels.names.name(n).to_owned())).collect();
        if self.keys.len() + new.len() > MAX_KEYS {
            return None;
        }
        self.keys.extend(new);
        let shape = self.shapes.len();
        self.shapes.push(numbers.clone());
        self.by_shape.insert(numbers, shape);
        Some(shape)
    }

    /// Where the next value is written to.
    fn value(&mut self) -> &mut Vec<u8> {
        separate(&mut self.values);
        &mut self.values
    }

    fn written(mut self) -> Written {
        self.values.push(b']');
        self.keys.sort_by(|a, b| a.1.cmp(&b.1));
        let mut about = Vec::with_capacity(self.texts.len() + 3 * self.rows.len() + 512);
        about.push(b'{');
        text_field("name", &self.name, &mut about);
        text_field("scraped", &self.scraped, &mut about);
        text_field("scope", &self.scope, &mut about);
        text_field("kind", self.kind, &mut about);
        text_field("unit", &self.unit, &mut about);
        text_field("description", &self.description, &mut about);
        if self.kind == "histogram" {
            field("bounds", &mut about);
            list(self.bounds.as_deref().unwrap_or_default(), &mut about, float);
        }
        field("keys", &mut about);
        list(&self.keys, &mut about, |(_, key), out| text(key, out));
        field("series", &mut about);
        self.series(&mut about);
        let limit = self.limit.map_or_else(|| "null".to_owned(), |limit| limit.to_string());
        raw_field("limit", &limit, &mut about);
        raw_field("overflows", if self.overflows { "true" } else { "false" }, &mut about);
        about.push(b'}');
        Written { scope: self.scope, scraped: self.scraped, about, values: self.values }
    }

    /// Writes for each series the value of each key.
    fn series(&self, out: &mut Vec<u8>) {
        // For each list of labels where in it each key is.
        let place = |shape: &Vec<u32>, key: u32| shape.iter().position(|number| *number == key);
        let places: Vec<Vec<_>> =
            self.shapes.iter().map(|shape| self.keys.iter().map(|(key, _)| place(shape, *key)).collect()).collect();
        let mut first = 0;
        let span = |label: usize| {
            let begin = label.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
            self.ends.get(label).and_then(|end| self.texts.get(begin..*end)).unwrap_or(b"null")
        };
        list(&self.rows, out, |&shape, out| {
            let places = places.get(shape).map(Vec::as_slice).unwrap_or_default();
            list(places, out, |place, out| {
                out.extend_from_slice(place.map_or(b"null", |place| span(first + place)));
            });
            first += self.shapes.get(shape).map_or(0, Vec::len);
        });
    }
}

fn histogram(sample: &HistogramSample<'_>, with_bounds: bool, out: &mut Vec<u8>) {
    out.push(b'[');
    number(Number::Unsigned(sample.count), out);
    out.push(b',');
    number(sample.sum, out);
    out.extend_from_slice(b",[");
    let mut below = 0;
    for &cumulative in sample.cumulative.iter().chain([&sample.count]) {
        separate(out);
        // A collector of the caller's own may say anything.
        number(Number::Unsigned(cumulative.saturating_sub(below)), out);
        below = cumulative;
    }
    out.push(b']');
    if with_bounds {
        out.push(b',');
        list(sample.bounds, out, float);
    }
    out.push(b']');
}

fn float(value: &f64, out: &mut Vec<u8>) {
    number(Number::Float(*value), out);
}

fn number(value: Number, out: &mut Vec<u8>) {
    match value {
        Number::Unsigned(value) => out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes()),
        Number::Signed(value) => out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes()),
        Number::Float(value) if value.is_finite() => {
            let mut buffer = ryu::Buffer::new();
            let digits = buffer.format_finite(value);
            out.extend_from_slice(digits.strip_suffix(".0").unwrap_or(digits).as_bytes());
        }
        Number::Float(value) if value.is_nan() => out.extend_from_slice(b"\"NaN\""),
        Number::Float(value) => out.extend_from_slice(if value > 0.0 { b"\"+Inf\"" } else { b"\"-Inf\"" }),
    }
}

fn seconds(time: SystemTime) -> String {
    format!("{:.3}", time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64())
}

fn list<T>(items: &[T], out: &mut Vec<u8>, mut item: impl FnMut(&T, &mut Vec<u8>)) {
    out.push(b'[');
    for (index, value) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        item(value, out);
    }
    out.push(b']');
}

fn raw_field(name: &str, value: &str, out: &mut Vec<u8>) {
    field(name, out);
    out.extend_from_slice(value.as_bytes());
}

fn text_field(name: &str, value: &str, out: &mut Vec<u8>) {
    field(name, out);
    text(value, out);
}

/// Begins a field of an object.
fn field(name: &str, out: &mut Vec<u8>) {
    separate(out);
    text(name, out);
    out.push(b':');
}

/// Writes a comma unless this is the first of its list or object.
fn separate(out: &mut Vec<u8>) {
    if !matches!(out.last(), Some(b'[' | b'{')) {
        out.push(b',');
    }
}

fn text(text: &str, out: &mut Vec<u8>) {
    // Memory takes whatever is written to it, and text is always text.
    let _ = serde_json::to_writer(out, text);
}
