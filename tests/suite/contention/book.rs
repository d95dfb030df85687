//! What was recorded, as whoever records knows it, and what a collection may therefore show.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use barograph::opentelemetry::metrics::Meter;
use barograph::{Counter, InFlight, MeterExt, UpDownCounter};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as PointValue;

use super::{End, LOAD, Lane, RIDES, RIDING, TICKS};
use crate::parser::{Format, Value, parse};
use crate::receiver::Received;

const LANES: [Lane; 3] = [Lane::Left, Lane::Middle, Lane::Right];
const ENDS: [End; 2] = [End::Kept, End::Lost];

/// What a reader shows, by the name of a metric and the values of its attributes: `rides/kept/left`.
pub(super) type Shown = BTreeMap<String, i64>;

/// An amount that is said to have begun before it is recorded, and to be done afterwards.
#[derive(Debug, Default)]
struct Tally {
    begun: AtomicU64,
    done: AtomicU64,
}

impl Tally {
    fn record<T>(&self, amount: u64, record: impl FnOnce() -> T) -> T {
        self.begun.fetch_add(amount, Ordering::SeqCst);
        let recorded = record();
        self.done.fetch_add(amount, Ordering::SeqCst);
        recorded
    }

    fn begun(&self) -> i64 {
        self.begun.load(Ordering::SeqCst) as i64
    }

    fn done(&self) -> i64 {
        self.done.load(Ordering::SeqCst) as i64
    }
}

/// One series: how far up and how far down.
#[derive(Debug)]
struct Entry {
    series: String,
    ups: Tally,
    downs: Tally,
}

impl Entry {
    fn new(series: String) -> Arc<Self> {
        Arc::new(Self { series, ups: Tally::default(), downs: Tally::default() })
    }
}

/// All series of one pipeline.
#[derive(Debug)]
pub(super) struct Book(Vec<Arc<Entry>>);

impl Book {
    pub(super) fn new() -> Self {
        let rides = LANES.iter().flat_map(|lane| ENDS.map(|end| format!("rides/{}/{}", end.as_str(), lane.as_str())));
        let by_lane = |name: &'static str| LANES.iter().map(move |lane| format!("{name}/{}", lane.as_str()));
        let series = rides.chain(by_lane("load")).chain(by_lane("riding")).chain(["ticks".to_owned()]);
        Self(series.map(Entry::new).collect())
    }

    fn entry(&self, name: &str, attributes: &[&str]) -> &Arc<Entry> {
        let is_it = |series: &str| {
            let mut parts = series.split('/');
            parts.next() == Some(name) && parts.eq(attributes.iter().copied())
        };
        self.0.iter().find(|entry| is_it(&entry.series)).unwrap()
    }

    /// How many values were recorded, for those who wait for some.
    pub(super) fn ticks(&self) -> i64 {
        self.entry("ticks", &[]).ups.done()
    }

    /// What must be shown by whoever begins to collect now.
    pub(super) fn before(&self) -> Bounds {
        Bounds(self.0.iter().map(|entry| (entry.ups.done(), entry.downs.done())).collect())
    }

    /// Holds what was collected since `before` against what had been recorded then and what has been since.
    #[track_caller]
    pub(super) fn check(&self, before: &Bounds, shown: &Shown, who: &str) {
        // What goes down is looked at last: it has gone up before.
        let ups: Vec<_> = self.0.iter().map(|entry| entry.ups.begun()).collect();
        let downs: Vec<_> = self.0.iter().map(|entry| entry.downs.begun()).collect();
        for (((entry, before), up), down) in self.0.iter().zip(&before.0).zip(ups).zip(downs) {
            let (least, most) = (before.0 - down, up - before.1);
            let value = *shown.get(&entry.series).unwrap_or_else(|| panic!("{who}: no {} in {shown:?}", entry.series));
            let series = &entry.series;
            assert!((least..=most).contains(&value), "{who}: {series} is {value}, not from {least} to {most}");
            assert!(value >= 0 || series.starts_with("load"), "{who}: {series} is {value}");
        }
    }
}

/// What was done when a collection began: ups and downs of each series.
#[derive(Debug)]
pub(super) struct Bounds(Vec<(i64, i64)>);

/// One reader over time.
#[derive(Debug)]
pub(super) struct Reader {
    who: &'static str,
    last: Shown,
}

impl Reader {
    pub(super) fn new(who: &'static str) -> Self {
        Self { who, last: Shown::new() }
    }

    /// What it has shown last.
    pub(super) fn last(&self) -> &Shown {
        &self.last
    }

    /// Collects while others record.
    #[track_caller]
    pub(super) fn collect(&mut self, book: &Book, collect: impl FnOnce() -> Shown) {
        let before = book.before();
        self.look(book, &before, collect());
    }

    /// Holds what was collected since `before` against the book, and against what this reader has shown until then.
    #[track_caller]
    pub(super) fn look(&mut self, book: &Book, before: &Bounds, shown: Shown) {
        book.check(before, &shown, self.who);
        for (series, last) in self.last.iter().filter(|(series, _)| is_counter(series)) {
            assert!(shown[series] >= *last, "{}: {series} is {} after {last}", self.who, shown[series]);
        }
        self.last = shown;
    }

    /// Holds what was collected last, when nobody recorded any more, against the totals.
    #[track_caller]
    pub(super) fn check_totals(&self, book: &Book) {
        let total = |entry: &Arc<Entry>| (entry.series.clone(), entry.ups.done() - entry.downs.done());
        assert_eq!(self.last, book.0.iter().map(total).collect(), "{}", self.who);
    }
}

fn is_counter(series: &str) -> bool {
    series.starts_with("rides") || series == "ticks"
}

/// The handles of a pipeline, and the book of it.
#[derive(Clone, Debug)]
pub(super) struct Desk {
    meter: Meter,
    pub(super) book: Arc<Book>,
    rides: Counter<(Lane, End)>,
    ticks: Counter,
    load: UpDownCounter<Lane>,
    riding: UpDownCounter<Lane>,
}

impl Desk {
    pub(super) fn new(meter: Meter, book: Arc<Book>) -> Self {
        let (rides, ticks) = (meter.counter(&RIDES), meter.counter(&TICKS));
        let (load, riding) = (meter.up_down_counter(&LOAD), meter.up_down_counter(&RIDING));
        Self { meter, book, rides, ticks, load, riding }
    }

    /// The same with handles that are built anew.
    pub(super) fn built_anew(&self) -> Self {
        Self::new(self.meter.clone(), Arc::clone(&self.book))
    }

    pub(super) fn add_something(&self, random: &mut fastrand::Rng) {
        let (lane, end) = (LANES[random.usize(..3)], ENDS[random.usize(..2)]);
        // Mostly 1, as counters are used.
        let amount = if random.bool() { 1 } else { random.u64(0..1_000) };
        match random.u8(..4) {
            0 => self.book.entry("ticks", &[]).ups.record(amount, || self.ticks.add(amount, ())),
            1 => {
                let entry = self.book.entry("rides", &[end.as_str(), lane.as_str()]);
                entry.ups.record(amount, || self.rides.add(amount, (lane, end)));
            }
            2 => {
                let entry = self.book.entry("load", &[lane.as_str()]);
                entry.ups.record(amount, || self.load.add(amount as i64, lane));
            }
            _ => {
                let entry = self.book.entry("load", &[lane.as_str()]);
                entry.downs.record(amount, || self.load.add(-(amount as i64), lane));
            }
        }
    }

    pub(super) fn begin_something(&self, random: &mut fastrand::Rng) -> Ride {
        let lane = LANES[random.usize(..3)];
        let entry = Arc::clone(self.book.entry("riding", &[lane.as_str()]));
        let in_flight = entry.ups.record(1, || self.riding.in_flight(lane));
        Ride { in_flight: Some(in_flight), entry }
    }
}

/// One thing in flight, which is written down.
#[derive(Debug)]
pub(super) struct Ride {
    in_flight: Option<InFlight>,
    entry: Arc<Entry>,
}

impl Drop for Ride {
    fn drop(&mut self) {
        let Self { in_flight, entry } = self;
        entry.downs.record(1, || *in_flight = None);
    }
}

/// What a page shows.
pub(super) fn shown_on(page: &str) -> Shown {
    let mut shown = Shown::new();
    for family in parse(Format::Text004, page.as_bytes()).unwrap() {
        for point in family.points {
            let own = point.labels.into_iter().filter(|(label, _)| !label.starts_with("otel_scope_")).collect();
            let Value::Number(number) = point.value else { panic!("{} is no number", family.name) };
            let name = family.name.strip_suffix("_total").unwrap_or(&family.name);
            // `target_info` is not one of ours.
            if name != "target_info" {
                assert!(shown.insert(series(name, own), number.value as i64).is_none(), "twice in {page}");
            }
        }
    }
    shown
}

/// What was pushed: totals, and differences to what was pushed before.
pub(super) fn shown_by(received: &Received) -> (Shown, Shown) {
    /// As OTLP numbers them.
    const DELTA: i32 = 1;
    let (mut totals, mut differences) = (Shown::new(), Shown::new());
    let scopes = received.message.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
    for metric in scopes.flat_map(|scope| &scope.metrics) {
        let Some(Data::Sum(sum)) = &metric.data else { panic!("{metric:?} is no sum") };
        for point in &sum.data_points {
            let attributes = point.attributes.iter().map(|attribute| {
                let value = attribute.value.as_ref().and_then(|value| value.value.as_ref());
                let Some(opentelemetry_proto::tonic::common::v1::any_value::Value::StringValue(text)) = value else {
                    panic!("{attribute:?} is no text")
                };
                (attribute.key.clone(), text.clone())
            });
            let Some(PointValue::AsInt(value)) = point.value else { panic!("{point:?} is no whole number") };
            let shown = if sum.aggregation_temporality == DELTA { &mut differences } else { &mut totals };
            let series = series(&metric.name, attributes.collect());
            assert!(shown.insert(series, value).is_none(), "twice in {metric:?}");
        }
    }
    (totals, differences)
}

/// What totals and differences come to that were pushed after others.
pub(super) fn added_up(mut sums: Shown, (totals, differences): (Shown, Shown)) -> Shown {
    sums.retain(|series, _| is_counter(series));
    sums.extend(totals);
    for (series, difference) in differences {
        assert!(difference >= 0, "{series} goes down by {difference}");
        *sums.entry(series).or_default() += difference;
    }
    sums
}

fn series(name: &str, mut attributes: Vec<(String, String)>) -> String {
    attributes.sort();
    attributes.into_iter().fold(name.to_owned(), |series, (_, value)| format!("{series}/{value}"))
}
