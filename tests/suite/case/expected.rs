//! What was recorded, and what every page must then say.
//!
//! It is computed from what was recorded, not from what the exporter would do: names are not translated here a second
//! time. Points with a [`MARK`] are found on the pages whatever became of the other names. Points without it are counted,
//! and their values must have been recorded.

use std::collections::{BTreeMap, HashMap, HashSet};

use barograph::opentelemetry::{KeyValue, Value as Attribute};
use barograph::testing::{LintProblem, LintRule, lint};

use super::{Case, Instrument, Kind, MARK, PROTOBUF, Raw, scrape};
use crate::dto;
use crate::parser::{self, Family, Format, Point, Value};

impl Kind {
    /// What the Prometheus formats call it.
    fn family(self) -> &'static str {
        match self {
            Self::U64Counter | Self::F64Counter | Self::U64ObservableCounter | Self::F64ObservableCounter => "counter",
            Self::U64Histogram | Self::F64Histogram => "histogram",
            _ => "gauge",
        }
    }

    /// What is recorded of a raw value; nothing where the SDK ignores it.
    fn recorded(self, raw: Raw) -> Option<Recorded> {
        match self {
            Self::U64Counter | Self::U64Gauge | Self::U64ObservableCounter | Self::U64ObservableGauge => {
                Some(Recorded::Unsigned(raw.unsigned))
            }
            // Sums of many are below the largest.
            Self::U64Histogram => Some(Recorded::Unsigned(raw.unsigned >> 8)),
            Self::I64UpDown | Self::I64Gauge | Self::I64ObservableUpDown | Self::I64ObservableGauge => {
                Some(Recorded::Signed(raw.signed))
            }
            // A counter is given no negative values, by its contract.
            Self::F64Counter => raw.float.is_finite().then_some(Recorded::Float(raw.float.abs())),
            _ => raw.float.is_finite().then_some(Recorded::Float(raw.float)),
        }
    }

    /// The value of a point after one more was recorded.
    fn after(self, before: Option<&Recorded>, recorded: Recorded) -> Recorded {
        use Recorded::{Float, Samples, Signed, Unsigned};
        let adds = matches!(self, Self::U64Counter | Self::F64Counter | Self::I64UpDown | Self::F64UpDown);
        match (before, recorded) {
            (Some(Samples(samples)), new) => Samples(samples.iter().cloned().chain([new]).collect()),
            (None, new) if self.is_histogram() => Samples(vec![new]),
            (Some(Unsigned(sum)), Unsigned(new)) if adds => Unsigned(sum.wrapping_add(new)),
            (Some(Signed(sum)), Signed(new)) if adds => Signed(sum.wrapping_add(new)),
            (Some(Float(sum)), Float(new)) if adds => Float(sum + new),
            // A sum begins at 0, to which -0 adds nothing.
            (None, Float(new)) if adds => Float(0.0 + new),
            (_, new) => new,
        }
    }
}

/// What a point holds in the end.
#[derive(Clone, Debug)]
enum Recorded {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    /// What a histogram was given.
    Samples(Vec<Self>),
}

impl Recorded {
    fn float(&self) -> f64 {
        match self {
            Self::Unsigned(value) => *value as f64,
            Self::Signed(value) => *value as f64,
            Self::Float(value) => *value,
            Self::Samples(_) => f64::NAN,
        }
    }

    /// Whether a number on a page is this one: every digit of an integer in text, every bit of a float.
    fn is(&self, number: &parser::Number) -> bool {
        let digits = match self {
            Self::Unsigned(value) => value.to_string(),
            Self::Signed(value) => value.to_string(),
            _ => String::new(),
        };
        number.value.to_bits() == self.float().to_bits()
            && (digits.is_empty() || number.text.is_empty() || number.text == digits)
    }
}

/// Points of one stream: instruments of one meter that are one to the SDK add to one stream.
struct Stream<'c> {
    first: &'c Instrument,
    points: HashMap<Vec<KeyValue>, Recorded>,
}

/// One point that was recorded.
struct Expected<'c> {
    instrument: &'c Instrument,
    /// The pieces of the values of its labels.
    pieces: Vec<String>,
    recorded: Recorded,
}

impl Case {
    fn refused(&self) -> usize {
        self.instruments.iter().enumerate().filter(|(index, instrument)| instrument.is_refused(*index)).count()
    }

    /// What was recorded, stream by stream.
    fn streams(&self) -> Vec<Stream<'_>> {
        let mut streams: Vec<Stream<'_>> = Vec::new();
        let mut by_identity: HashMap<_, usize> = HashMap::new();
        for (index, instrument) in self.instruments.iter().enumerate() {
            if instrument.is_refused(index) {
                continue;
            }
            let scope = instrument.scope(self);
            let name = if instrument.is_viewed { instrument.name.clone() } else { instrument.built_name(index) };
            let identity = (
                format!("{scope:?}"),
                name.to_ascii_lowercase(),
                (&instrument.unit, &instrument.description, instrument.kind),
            );
            let at = *by_identity.entry(identity).or_insert_with(|| {
                streams.push(Stream { first: instrument, points: HashMap::new() });
                streams.len() - 1
            });
            for point in 0..instrument.points.len() {
                let mut attributes = instrument.attributes(index, point);
                // Of a key that stands twice the first counts.
                attributes.sort_by(|a, b| a.key.cmp(&b.key));
                attributes.dedup_by(|a, b| a.key == b.key);
                for recorded in instrument.points[point].1.iter().filter_map(|raw| instrument.kind.recorded(*raw)) {
                    let points = &mut streams[at].points;
                    let after = instrument.kind.after(points.get(&attributes), recorded);
                    points.insert(attributes.clone(), after);
                }
            }
        }
        streams
    }

    /// The points that carry a mark, by it, and the other ones.
    fn expected(&self) -> (BTreeMap<String, Expected<'_>>, Vec<Expected<'_>>) {
        let mut marked = BTreeMap::new();
        let mut others = Vec::new();
        for stream in self.streams() {
            for (attributes, recorded) in stream.points {
                let scope = stream.first.scope(self);
                let mut values: Vec<String> = attributes.iter().map(|pair| pair.value.to_string()).collect();
                if self.scope_info {
                    values.push(scope.name.clone());
                    values.extend(scope.version.clone());
                    values.extend(scope.schema_url.clone());
                    // A scope's attributes keep every key, also one that stands twice.
                    values.extend(scope.attributes.iter().map(|(_, value)| value.to_string()));
                }
                if self.resource_labels {
                    values.extend(self.resource_values());
                }
                let expected = Expected { instrument: stream.first, pieces: pieces(&values), recorded };
                match attributes.iter().find(|pair| pair.key.as_str() == MARK) {
                    Some(mark) => drop(marked.insert(mark.value.to_string(), expected)),
                    None => others.push(expected),
                }
            }
        }
        (marked, others)
    }

    /// The values of the resource's own attributes; of a key that stands twice the last counts.
    fn resource_values(&self) -> Vec<String> {
        let by_key: BTreeMap<&String, &Attribute> = self.resource.iter().map(|(key, value)| (key, value)).collect();
        let own = by_key.into_iter().filter(|(key, _)| *key != "service.name" && !key.starts_with("telemetry.sdk."));
        own.map(|(_, value)| value.to_string()).collect()
    }

    /// Scrapes the pipeline in every format and panics where a page is not what it must be.
    pub(crate) fn check(&self) {
        let telemetry = self.recorded();
        let service = telemetry.scrape_service();
        let (marked, others) = self.expected();
        let recorded = marked.len() + others.len();

        let mut pages = Vec::new();
        for (format, accept) in self.asks() {
            for _ in 0..2 {
                pages.push((format, scrape(&service, &accept)));
            }
        }
        pages.push((Format::Text004, scrape(&service, "")));
        let families: Vec<Vec<Family>> = pages
            .iter()
            .map(|(format, page)| {
                without_unreadable_lines(*format, page);
                parser::parse(*format, page).unwrap_or_else(|error| panic!("{format:?}: {error}\n{}", shown(page)))
            })
            .collect();

        for (number, pair) in families.windows(2).enumerate() {
            let (format, page) = &pages[number];
            let context = || format!("{format:?}, page {number}\n{}", shown(page));
            // What this page drops shows on the next one.
            let dropped = own(&pair[1], "dropped") - own(&pair[0], "dropped");
            let own_families = pair[0].iter().filter(|family| !is_own(family));
            let points: Vec<(&Family, &Point)> =
                own_families.flat_map(|family| family.points.iter().map(move |point| (family, point))).collect();
            assert_eq!(points.len() as f64 + dropped, recorded as f64, "points shown and dropped, {}", context());
            assert_eq!(own(&pair[0], "refused"), self.refused() as f64, "instruments refused, {}", context());
            let targets = pair[0].iter().filter(|family| is_target(family)).count();
            assert!(targets <= usize::from(self.target_info), "target_info, {}", context());
            assert_order(&pair[0], &context);

            let mut seen = HashSet::new();
            for (family, point) in points {
                match point.label(MARK) {
                    Some(mark) => {
                        assert!(seen.insert(mark), "the point {mark} twice, {}", context());
                        let expected = marked.get(mark).unwrap_or_else(|| panic!("the mark {mark}, {}", context()));
                        let found = pieces(point.labels.iter().map(|(_, value)| value));
                        assert_eq!(found, expected.pieces, "the labels of {mark}, {}", context());
                        let is_right = self.agrees(*format, family, point, expected);
                        assert!(is_right, "{point:?} was {:?}, {}", expected.recorded, context());
                    }
                    None => {
                        let is_recorded = others.iter().any(|expected| self.agrees(*format, family, point, expected));
                        assert!(is_recorded, "{point:?} was not recorded, {}", context());
                    }
                }
            }
        }
        Self::compare(&pages, &families);
    }

    /// What a scraper asks for: every format, in one escaping.
    fn asks(&self) -> [(Format, String); 4] {
        let escaping = self.escaping;
        [
            (Format::Text004, "text/plain;version=0.0.4".to_owned()),
            (Format::Text100, format!("text/plain;version=1.0.0;escaping={escaping}")),
            (Format::OpenMetrics, format!("application/openmetrics-text;version=1.0.0;escaping={escaping}")),
            (Format::Protobuf, format!("{PROTOBUF};escaping={escaping}")),
        ]
    }

    /// Whether a point on a page is one that was recorded.
    fn agrees(&self, format: Format, family: &Family, point: &Point, expected: &Expected<'_>) -> bool {
        let Expected { instrument, recorded, .. } = expected;
        let is_open = format == Format::OpenMetrics;
        let kind = instrument.kind.family();
        // A counter whose name OpenMetrics cannot have is of unknown type there.
        let is_kind = family.kind == kind || (is_open && family.kind == "untyped" && kind == "counter");
        let counts = matches!(family.kind.as_str(), "counter" | "histogram");
        let has_created = match format {
            Format::Text004 | Format::Text100 => false,
            Format::OpenMetrics => self.created && counts,
            Format::Protobuf => counts,
        };
        is_kind
            && point.created.is_some() == has_created
            && match (&point.value, recorded) {
                (Value::Number(_), Recorded::Samples(_)) => false,
                (Value::Number(number), recorded) => recorded.is(number),
                (Value::Histogram { buckets, totals }, Recorded::Samples(samples)) => {
                    let is_exponential = instrument.exponential.is_some();
                    let bounds: Vec<f64> = buckets[..buckets.len() - 1].iter().map(|bucket| bucket.0).collect();
                    let chosen = instrument.boundaries().filter(|_| !is_exponential);
                    let sum = sum(samples);
                    // OpenMetrics has no such sums.
                    let has_totals = !is_open || !(bounds.first().is_some_and(|first| *first < 0.0) || negative(&sum));
                    chosen.is_none_or(|chosen| *chosen == bounds)
                        && buckets.iter().all(|&(bound, count)| {
                            let (least, most) = at_or_below(samples, bound, is_exponential);
                            (least..=most).contains(&count)
                        })
                        && totals.is_some() == has_totals
                        && totals.as_ref().is_none_or(|(total, _)| sum.is(total))
                }
                (Value::Native(native), Recorded::Samples(samples)) => {
                    let sum = parser::Number { value: native.sample_sum(), text: String::new() };
                    instrument.exponential.is_some()
                        && native.sample_count() == samples.len() as u64
                        && self::sum(samples).is(&sum)
                        && holds(native, samples)
                }
                _ => false,
            }
    }

    /// Compares the pages with each other.
    fn compare(pages: &[(Format, Vec<u8>)], families: &[Vec<Family>]) {
        let without_own = |families: &[Family]| -> Vec<Family> {
            families.iter().filter(|family| !is_own(family)).cloned().collect()
        };
        for (number, (format, page)) in pages.iter().enumerate().step_by(2).take(4) {
            let context = || format!("{format:?}\n{}\n{}", shown(page), shown(&pages[number + 1].1));
            let [first, second] = [number, number + 1].map(|number| without_own(&families[number]));
            assert!(is_same(&first, &second), "the second page differs, {}", context());
            if *format != Format::Protobuf {
                let lines = |page: &[u8]| -> Vec<String> {
                    let page = String::from_utf8_lossy(page);
                    page.split('\n').filter(|line| !is_about_ourselves(line)).map(str::to_owned).collect()
                };
                assert_eq!(lines(page), lines(&pages[number + 1].1), "the second page differs");
            }
        }
        // The formats in one escaping: what one shows the others show, bit by bit.
        let [text, open, protobuf] = [2, 4, 6].map(|number| samples(&without_own(&families[number])));
        assert_eq!(text.keys().collect::<Vec<_>>(), protobuf.keys().collect::<Vec<_>>(), "text and protobuf");
        for (series, value) in &open {
            let other = text.get(series);
            assert!(
                other.is_some_and(|other| agree(other, value)),
                "OpenMetrics: {series:?} {value:?}, text: {other:?}"
            );
        }
        for (series, value) in &protobuf {
            let other = &text[series];
            assert!(agree(other, value), "protobuf: {series:?} {value:?}, text: {other:?}");
        }
    }
}

/// Whether a family is the pipeline's own.
pub(crate) fn is_own(family: &Family) -> bool {
    is_about_ourselves(&family.name) || is_target(family)
}

fn is_target(family: &Family) -> bool {
    ["target_info", "target__info"].contains(&family.name.as_str()) && family.help == "Target metadata"
}

/// The sum of a counter of the pipeline's own.
pub(crate) fn own(families: &[Family], word: &str) -> f64 {
    let family = families.iter().find(|family| family.name.contains("barograph") && family.name.contains(word));
    let values = family.unwrap().points.iter().map(|point| match &point.value {
        Value::Number(number) => number.value,
        other => panic!("{other:?}"),
    });
    values.sum()
}

/// Families are sorted by name, and the points of each by their labels, which are sorted by name.
pub(crate) fn assert_order(families: &[Family], context: &dyn Fn() -> String) {
    assert!(families.is_sorted_by(|a, b| a.name < b.name), "families out of order, {}", context());
    for family in families {
        let sorted = family.points.is_sorted_by(|a, b| a.labels < b.labels);
        assert!(sorted, "points of {} out of order, {}", family.name, context());
        let by_name = |point: &Point| point.labels.is_sorted_by(|a, b| a.0 < b.0);
        assert!(family.points.iter().all(by_name), "labels of {} out of order, {}", family.name, context());
    }
}

/// The values of labels, those that were joined taken apart again, and the empty ones left out.
fn pieces<'v>(values: impl IntoIterator<Item = &'v String>) -> Vec<String> {
    let mut pieces: Vec<String> = values.into_iter().flat_map(|value| value.split(';')).map(str::to_owned).collect();
    pieces.retain(|piece| !piece.is_empty());
    pieces.sort();
    pieces
}

/// What a histogram adds up to.
fn sum(samples: &[Recorded]) -> Recorded {
    match samples[0] {
        Recorded::Unsigned(_) => Recorded::Unsigned(
            samples.iter().map(|sample| if let Recorded::Unsigned(value) = sample { *value } else { 0 }).sum(),
        ),
        _ => Recorded::Float(samples.iter().fold(0.0, |sum, sample| sum + sample.float())),
    }
}

fn negative(sum: &Recorded) -> bool {
    sum.float().is_nan() || sum.float() < 0.0
}

/// How many samples are at or below a bound: at least and at most. Exponential buckets are found by logarithms, so a value
/// next to a bound can land on either side of it.
fn at_or_below(samples: &[Recorded], bound: f64, is_exponential: bool) -> (u64, u64) {
    let count = |bound: f64| samples.iter().filter(|sample| sample.float() <= bound).count() as u64;
    if !is_exponential || bound == f64::INFINITY {
        return (count(bound), count(bound));
    }
    let width = bound.abs() * 1e-5 + f64::from_bits(1);
    let width = if bound == 0.0 { 0.0 } else { width };
    (count(bound - width), count(bound + width))
}

/// Whether the buckets of a native histogram hold what was recorded.
fn holds(native: &dto::Histogram, samples: &[Recorded]) -> bool {
    let zeros = samples.iter().filter(|sample| sample.float() == 0.0).count() as u64;
    let [negative, positive] = native.native_buckets();
    let base = |index: i64| (index as f64 * (-f64::from(native.schema())).exp2()).exp2();
    let is_held = |buckets: &[(i64, i64)], sign: f64| {
        let values: Vec<Recorded> =
            samples.iter().map(|s| Recorded::Float(s.float() * sign)).filter(|s| s.float() > 0.0).collect();
        let mut below = 0;
        buckets.iter().all(|&(index, count)| {
            below += count.cast_unsigned();
            let (least, most) = at_or_below(&values, base(index), true);
            (least..=most).contains(&below)
        }) && below == values.len() as u64
    };
    native.zero_count() == zeros && is_held(&negative, -1.0) && is_held(&positive, 1.0)
}

/// The test kit's reader takes other people's pages and refuses less than ours: all that is read here is read there too.
fn without_unreadable_lines(format: Format, page: &[u8]) {
    if format != Format::Protobuf {
        let problems = lint(std::str::from_utf8(page).unwrap());
        let is_fatal = |problem: &&LintProblem| matches!(problem.rule, LintRule::Unreadable | LintRule::Duplicate);
        let fatal: Vec<_> = problems.iter().filter(is_fatal).map(ToString::to_string).collect();
        assert!(fatal.is_empty(), "{format:?}: {fatal:#?}\n{}", shown(page));
    }
}

/// Every series of a page with its value.
fn samples(families: &[Family]) -> BTreeMap<(String, parser::LabelSet), Value> {
    let series = families.iter().flat_map(|family| {
        family.points.iter().map(|point| ((family.name.clone(), point.labels.clone()), point.value.clone()))
    });
    series.collect()
}

/// Whether two formats say the same of a series.
fn agree(a: &Value, b: &Value) -> bool {
    let bits = |a: f64, b: f64| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => bits(a.value, b.value),
        (Value::Histogram { buckets: a, totals: a_totals }, Value::Histogram { buckets: b, totals: b_totals }) => {
            let is_sum = match (a_totals, b_totals) {
                (Some((a, _)), Some((b, _))) => bits(a.value, b.value),
                _ => true,
            };
            is_sum && a == b
        }
        (Value::Histogram { buckets, totals: Some((sum, count)) }, Value::Native(native)) => {
            let [negative, positive] = native.native_buckets();
            let base = |index: i64| (index as f64 * (-f64::from(native.schema())).exp2()).exp2();
            // Every bound in text is one of the native buckets, or the end of them.
            let below = |bound: f64| {
                let below_zero = negative.iter().filter(|(index, _)| -base(index - 1) <= bound).map(|(_, count)| count);
                let above_zero = positive.iter().filter(|(index, _)| base(*index) <= bound).map(|(_, count)| count);
                let zeros = if bound >= 0.0 { native.zero_count() } else { 0 };
                below_zero.chain(above_zero).sum::<i64>().cast_unsigned() + zeros
            };
            bits(sum.value, native.sample_sum())
                && *count == native.sample_count()
                && buckets.iter().all(|&(bound, count)| below(bound) == count)
        }
        _ => false,
    }
}

/// Whether two pages in one format say the same; one value that is no number is the same as another.
fn is_same(a: &[Family], b: &[Family]) -> bool {
    a == b || format!("{a:?}") == format!("{b:?}")
}

/// A page for a message, as far as it fits.
fn shown(page: &[u8]) -> String {
    String::from_utf8_lossy(page).chars().take(6_000).collect()
}

/// Whether a name, or a line with one, is of what the pipeline says about itself, however it is escaped.
fn is_about_ourselves(text: &str) -> bool {
    text.contains("barograph") || (text.contains("otel") && text.contains("sdk"))
}
