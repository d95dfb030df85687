//! Strict readers of our own for what the exporter writes: the Prometheus text formats, OpenMetrics 1.0 and protobuf.
//!
//! They read what the exporter can write and refuse everything else. Timestamps, summaries, comments and state sets are
//! legal and never written, so they are errors here; exemplars are, of counters and buckets in OpenMetrics.

use std::collections::HashSet;

use crate::dto;

/// A format that a page is read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Text004,
    Text100,
    OpenMetrics,
    Protobuf,
}

/// A family, whatever the format it was read from.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Family {
    /// What its series are called, `_total` and `_info` included; of a histogram what they have in common.
    pub(crate) name: String,
    /// In the words of the Prometheus formats: `counter`, `gauge`, `histogram`, `untyped`; `info` in OpenMetrics.
    pub(crate) kind: String,
    pub(crate) help: String,
    pub(crate) unit: String,
    pub(crate) points: Vec<Point>,
}

/// Names and values.
pub(crate) type LabelSet = Vec<(String, String)>;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Point {
    pub(crate) labels: LabelSet,
    pub(crate) value: Value,
    pub(crate) created: Option<f64>,
    /// With the bound of the bucket for a histogram that is not native, the infinite one included; infinite for others.
    pub(crate) exemplars: Vec<(f64, Exemplar)>,
}

/// A measurement that stands for others.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Exemplar {
    pub(crate) labels: LabelSet,
    pub(crate) value: f64,
    /// Seconds since 1970.
    pub(crate) time: f64,
}

impl Exemplar {
    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl Point {
    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Number(Number),
    Histogram {
        /// Upper bounds and how many values are at or below them, the infinite one included.
        buckets: Vec<(f64, u64)>,
        /// Sum and count; OpenMetrics leaves them out where it forbids the sum.
        totals: Option<(Number, u64)>,
    },
    Native(dto::Histogram),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Number {
    pub(crate) value: f64,
    /// As it is written; empty in protobuf.
    pub(crate) text: String,
}

/// Reads a page, or says what is wrong with it and in which line.
pub(crate) fn parse(format: Format, page: &[u8]) -> Result<Vec<Family>, String> {
    if format == Format::Protobuf {
        return messages(&dto::decode_all(page));
    }
    let page = std::str::from_utf8(page).map_err(|error| error.to_string())?;
    let mut reader = Reader { format, families: Vec::new(), open: None, taken: HashSet::new() };
    reader.page(page)?;
    Ok(reader.families)
}

struct Reader {
    format: Format,
    families: Vec<Family>,
    open: Option<Open>,
    /// The names of families and of every series that they can have.
    taken: HashSet<String>,
}

/// A family of which more lines may follow.
#[derive(Default)]
struct Open {
    /// As the comments call it.
    name: String,
    kind: Option<String>,
    help: Option<String>,
    unit: Option<String>,
    samples: Vec<Sample>,
}

struct Sample {
    name: String,
    labels: LabelSet,
    number: Number,
    exemplar: Option<Exemplar>,
}

impl Reader {
    fn page(&mut self, page: &str) -> Result<(), String> {
        let mut lines: Vec<&str> = page.split('\n').collect();
        if lines.pop() != Some("") {
            return Err("the last line does not end".to_owned());
        }
        if self.format == Format::OpenMetrics && lines.pop() != Some("# EOF") {
            return Err("the last line is not `# EOF`".to_owned());
        }
        for (number, line) in lines.into_iter().enumerate() {
            let read = match line.strip_prefix("# ") {
                Some(comment) => self.comment(comment),
                None => self.sample(line),
            };
            read.map_err(|error| format!("line {}: {error}: {}", number + 1, shortened(line)))?;
        }
        self.close()
    }

    fn comment(&mut self, comment: &str) -> Result<(), String> {
        let (keyword, rest) = comment.split_once(' ').ok_or("a comment without a keyword")?;
        let mut cursor = Cursor(rest);
        let name = if rest.starts_with('"') { self.quoted_name(&mut cursor)? } else { cursor.name(true)? };
        cursor.expect(' ')?;
        if self.open.as_ref().is_none_or(|open| open.name != name) {
            self.close()?;
            self.open = Some(Open { name, ..Open::default() });
        }
        let format = self.format;
        let Some(open) = &mut self.open else { return Err("no family".to_owned()) };
        if !open.samples.is_empty() {
            return Err("metadata after samples".to_owned());
        }
        let (place, text) = match keyword {
            "HELP" => (&mut open.help, unescaped(cursor.0, format == Format::OpenMetrics)?),
            "TYPE" => (&mut open.kind, kind(cursor.0, format)?),
            "UNIT" if format == Format::OpenMetrics => (&mut open.unit, cursor.0.to_owned()),
            _ => return Err("an unknown keyword".to_owned()),
        };
        if place.replace(text).is_some() {
            return Err(format!("{keyword} stands twice"));
        }
        Ok(())
    }

    fn sample(&mut self, line: &str) -> Result<(), String> {
        let mut cursor = Cursor(line);
        let mut name = if line.starts_with('{') { None } else { Some(cursor.name(true)?) };
        let mut labels: LabelSet = Vec::new();
        if cursor.skip('{') {
            self.labels(&mut cursor, &mut name, &mut labels)?;
        }
        cursor.expect(' ')?;
        let (value, exemplar) = match cursor.0.split_once(" # ") {
            Some((value, exemplar)) => (value, Some(self.exemplar(exemplar)?)),
            None => (cursor.0, None),
        };
        let number = number(value)?;
        let name = name.ok_or("no name")?;
        if exemplar.is_some() && !name.ends_with("_total") && !name.ends_with("_bucket") {
            return Err("an exemplar of neither a counter nor a bucket".to_owned());
        }
        match &mut self.open {
            Some(open) => open.samples.push(Sample { name, labels, number, exemplar }),
            None => return Err("a sample without a family".to_owned()),
        }
        Ok(())
    }

    /// Reads what stands after the opening brace, up to and with the closing one.
    fn labels(&self, cursor: &mut Cursor<'_>, name: &mut Option<String>, labels: &mut LabelSet) -> Result<(), String> {
        loop {
            let is_quoted = cursor.0.starts_with('"');
            let key = if is_quoted { self.quoted_name(cursor)? } else { cursor.name(false)? };
            if cursor.skip('=') {
                if name.is_none() {
                    return Err("a label before the name".to_owned());
                }
                if key == "__name__" || labels.iter().any(|(other, _)| *other == key) {
                    return Err(format!("the label `{key}` stands twice"));
                }
                let value = cursor.quoted()?;
                if value.is_empty() {
                    return Err(format!("the label `{key}` is empty, which is the same as absent"));
                }
                labels.push((key, value));
            } else if !is_quoted || name.replace(key).is_some() {
                return Err("a label without a value, or a second name".to_owned());
            }
            if cursor.skip('}') {
                return Ok(());
            }
            cursor.expect(',')?;
        }
    }

    /// Reads what stands after ` # `: labels, a value and a time.
    fn exemplar(&self, text: &str) -> Result<Exemplar, String> {
        if self.format != Format::OpenMetrics {
            return Err("only OpenMetrics has exemplars".to_owned());
        }
        let mut cursor = Cursor(text);
        cursor.expect('{')?;
        let mut labels = LabelSet::new();
        if !cursor.skip('}') {
            self.labels(&mut cursor, &mut Some(String::new()), &mut labels)?;
        }
        cursor.expect(' ')?;
        let (value, time) = cursor.0.split_once(' ').ok_or("an exemplar without its time")?;
        let (value, time) = (number(value)?.value, number(time)?.value);
        let exemplar = Exemplar { labels, value, time };
        checked(exemplar)
    }

    fn quoted_name(&self, cursor: &mut Cursor<'_>) -> Result<String, String> {
        let name = cursor.quoted()?;
        if self.format == Format::Text004 {
            return Err("text 0.0.4 has no names in quotes".to_owned());
        }
        if name.is_empty() { Err("an empty name".to_owned()) } else { Ok(name) }
    }

    /// Ends the family that is open.
    fn close(&mut self) -> Result<(), String> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let family = open.name.clone();
        self.family(open).map_err(|error| format!("family {}: {error}", shortened(&family)))
    }

    fn family(&mut self, open: Open) -> Result<(), String> {
        let Open { name, kind, help, unit, samples } = open;
        let kind = kind.ok_or("no type")?;
        let (help, unit) = (help.unwrap_or_default(), unit.unwrap_or_default());
        let open_metrics = self.format == Format::OpenMetrics;
        if !unit.is_empty() && !name.ends_with(&format!("_{unit}")) {
            return Err(format!("its name does not end with its unit `{unit}`"));
        }
        if samples.is_empty() {
            return Err("no samples".to_owned());
        }
        let suffixes: &[&str] = match kind.as_str() {
            "counter" if open_metrics => &["_total", "_created"],
            "info" => &["_info"],
            "histogram" if open_metrics => &["_bucket", "_sum", "_count", "_created"],
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        let series: Vec<String> = suffixes.iter().map(|suffix| format!("{name}{suffix}")).collect();
        for taken in series.iter().chain((suffixes != [""]).then_some(&name)) {
            if !self.taken.insert(taken.clone()) {
                return Err(format!("`{taken}` is a family or a series of another one"));
            }
        }
        if let Some(stranger) = samples.iter().find(|sample| !series.contains(&sample.name)) {
            return Err(format!("`{}` is not one of its series", shortened(&stranger.name)));
        }
        let points = match kind.as_str() {
            "histogram" => histograms(&name, &samples, open_metrics)?,
            _ => numbers(&kind, &name, &samples)?,
        };
        without_duplicates(&points)?;
        let name = if matches!(kind.as_str(), "histogram") { name } else { samples[0].name.clone() };
        self.families.push(Family { name, kind, help, unit, points });
        Ok(())
    }
}

/// What the format allows of an exemplar.
fn checked(exemplar: Exemplar) -> Result<Exemplar, String> {
    let characters: usize = exemplar.labels.iter().map(|(k, v)| k.chars().count() + v.chars().count()).sum();
    if characters > 128 {
        return Err(format!("an exemplar with labels of {characters} characters"));
    }
    if exemplar.time < 1e9 || !exemplar.value.is_finite() {
        return Err(format!("an exemplar of {} at {}", exemplar.value, exemplar.time));
    }
    Ok(exemplar)
}

/// The points of a family whose samples are numbers, each with a `_created` sample after it or not.
fn numbers(kind: &str, name: &str, samples: &[Sample]) -> Result<Vec<Point>, String> {
    let mut points: Vec<Point> = Vec::new();
    for Sample { name: series, labels, number, exemplar } in samples {
        if kind == "counter" && series.ends_with("_created") && *series == format!("{name}_created") {
            match points.last_mut() {
                Some(last) if last.labels == *labels && last.created.is_none() => last.created = Some(number.value),
                _ => return Err("`_created` does not follow its sample".to_owned()),
            }
            continue;
        }
        if kind == "counter" && (number.value.is_nan() || number.value < 0.0) {
            return Err(format!("a counter of {}", number.text));
        }
        if kind == "info" && number.value != 1.0 {
            return Err(format!("an info of {}", number.text));
        }
        let exemplars = exemplar.iter().map(|exemplar| (f64::INFINITY, exemplar.clone())).collect();
        points.push(Point { labels: labels.clone(), value: Value::Number(number.clone()), created: None, exemplars });
    }
    Ok(points)
}

/// The points of a histogram: buckets, then sum and count, then `_created`.
fn histograms(name: &str, samples: &[Sample], open_metrics: bool) -> Result<Vec<Point>, String> {
    let mut points: Vec<Point> = Vec::new();
    let mut rest = samples;
    while let Some(first) = rest.first() {
        let mut labels = first.labels.clone();
        labels.retain(|(key, _)| key != "le");
        let mut buckets: Vec<(f64, u64)> = Vec::new();
        let mut exemplars = Vec::new();
        while let Some((sample, after)) = rest.split_first().filter(|(sample, _)| sample.name.ends_with("_bucket")) {
            let (le, others): (LabelSet, LabelSet) = sample.labels.iter().cloned().partition(|(key, _)| key == "le");
            if others != labels || buckets.last().is_some_and(|last| last.0 == f64::INFINITY) {
                break;
            }
            let bound = &le.first().ok_or("a bucket without `le`")?.1;
            let value = number(bound)?.value;
            if open_metrics && !bound.contains(['.', 'e', 'I']) {
                return Err(format!("the bound {bound} is not written as a float"));
            }
            if buckets.last().is_some_and(|last| value.partial_cmp(&last.0) != Some(std::cmp::Ordering::Greater)) {
                return Err(format!("the bound {bound} is not above the one before"));
            }
            let count = integer(&sample.number)?;
            if buckets.last().is_some_and(|last| count < last.1) {
                return Err(format!("the buckets are not cumulative at {bound}"));
            }
            if let Some(exemplar) = &sample.exemplar {
                let above = buckets.last().map_or(f64::NEG_INFINITY, |last| last.0);
                if exemplar.value > value || (exemplar.value <= above) {
                    return Err(format!("an exemplar of {} in the bucket up to {bound}", exemplar.value));
                }
                exemplars.push((value, exemplar.clone()));
            }
            buckets.push((value, count));
            rest = after;
        }
        let Some(&(_, all)) = buckets.last().filter(|last| last.0 == f64::INFINITY) else {
            return Err("no infinite bucket".to_owned());
        };
        let mut take = |suffix: &str| {
            let (sample, after) = rest.split_first()?;
            if sample.name != format!("{name}{suffix}") || sample.labels != labels {
                return None;
            }
            rest = after;
            Some(sample.number.clone())
        };
        let totals = match (take("_sum"), take("_count")) {
            (Some(sum), Some(count)) if integer(&count)? == all => Some((sum, all)),
            (Some(_), Some(count)) => return Err(format!("a count of {} and an infinite bucket of {all}", count.text)),
            (None, None) if open_metrics => None,
            _ => return Err("sum and count come together, in this order".to_owned()),
        };
        let forbids = |sum: &Number| buckets[0].0 < 0.0 || sum.value.is_nan() || sum.value < 0.0;
        if open_metrics && totals.as_ref().is_some_and(|(sum, _)| forbids(sum)) {
            return Err("a sum with negative buckets or below 0".to_owned());
        }
        let created = take("_created").map(|number| number.value);
        points.push(Point { labels, value: Value::Histogram { buckets, totals }, created, exemplars });
    }
    Ok(points)
}

fn without_duplicates(points: &[Point]) -> Result<(), String> {
    let mut seen = HashSet::new();
    for point in points {
        let mut labels = point.labels.clone();
        labels.sort();
        if !seen.insert(labels) {
            return Err(format!("two series have the labels {}", shortened(&format!("{:?}", point.labels))));
        }
    }
    Ok(())
}

/// What is not read yet of a line.
struct Cursor<'a>(&'a str);

impl Cursor<'_> {
    fn skip(&mut self, character: char) -> bool {
        match self.0.strip_prefix(character) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, character: char) -> Result<(), String> {
        if self.skip(character) { Ok(()) } else { Err(format!("no `{character}` before {:?}", shortened(self.0))) }
    }

    /// A name without quotes; those of metrics have colons.
    fn name(&mut self, of_metric: bool) -> Result<String, String> {
        let other = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || (of_metric && c == ':'));
        let (name, rest) = self.0.split_at(self.0.find(other).unwrap_or(self.0.len()));
        if name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit()) {
            return Err(format!("no name before {:?}", shortened(self.0)));
        }
        self.0 = rest;
        Ok(name.to_owned())
    }

    /// What stands in quotes.
    fn quoted(&mut self) -> Result<String, String> {
        self.expect('"')?;
        let mut is_escaped = false;
        let end = self.0.find(|character| {
            let ends = character == '"' && !is_escaped;
            is_escaped = character == '\\' && !is_escaped;
            ends
        });
        let text = &self.0[..end.ok_or("quotes that do not end")?];
        self.0 = &self.0[text.len() + 1..];
        unescaped(text, true)
    }
}

fn unescaped(text: &str, quotes: bool) -> Result<String, String> {
    let mut characters = text.chars();
    let mut unescaped = String::new();
    while let Some(character) = characters.next() {
        unescaped.push(match character {
            '\\' => match characters.next() {
                Some('\\') => '\\',
                Some('n') => '\n',
                Some('"') if quotes => '"',
                other => return Err(format!("the escape \\{other:?}")),
            },
            '"' if quotes => return Err("a quote that is not escaped".to_owned()),
            other => other,
        });
    }
    Ok(unescaped)
}

fn kind(text: &str, format: Format) -> Result<String, String> {
    let kind = match (text, format) {
        ("counter" | "gauge" | "histogram", _) | ("info", Format::OpenMetrics) => text,
        ("unknown", Format::OpenMetrics) | ("untyped", Format::Text004 | Format::Text100) => "untyped",
        _ => return Err("an unknown type".to_owned()),
    };
    Ok(kind.to_owned())
}

fn number(text: &str) -> Result<Number, String> {
    let error = || format!("{:?} is no number", shortened(text));
    let value = match text {
        "NaN" => f64::NAN,
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        // Rust also reads words, which are not these.
        _ if text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.e".contains(&byte)) => {
            text.parse().map_err(|_| error())?
        }
        _ => return Err(error()),
    };
    Ok(Number { value, text: text.to_owned() })
}

fn integer(number: &Number) -> Result<u64, String> {
    number.text.parse().map_err(|_| format!("{} is no count", number.text))
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= 200 { text.to_owned() } else { text.chars().take(200).chain(['…']).collect() }
}

/// The families of protobuf messages.
fn messages(messages: &[dto::MetricFamily]) -> Result<Vec<Family>, String> {
    let mut taken = HashSet::new();
    let mut families = Vec::new();
    for message in messages {
        let name = message.name().to_owned();
        let error = |error: String| format!("family {}: {error}", shortened(&name));
        let kind = match message.r#type() {
            dto::MetricType::Counter => "counter",
            dto::MetricType::Gauge => "gauge",
            dto::MetricType::Histogram => "histogram",
            dto::MetricType::Untyped => "untyped",
            other => return Err(error(format!("of type {other:?}"))),
        };
        let series: &[&str] = if kind == "histogram" { &["", "_bucket", "_sum", "_count"] } else { &[""] };
        if name.is_empty() || !series.iter().all(|suffix| taken.insert(format!("{name}{suffix}"))) {
            return Err(error("its name is empty or taken".to_owned()));
        }
        let points: Result<Vec<Point>, String> = message.metric.iter().map(|metric| point(kind, metric)).collect();
        let points = points.map_err(error)?;
        if points.is_empty() {
            return Err(error("no points".to_owned()));
        }
        without_duplicates(&points).map_err(error)?;
        let (help, unit) = (message.help().to_owned(), message.unit().to_owned());
        families.push(Family { name, kind: kind.to_owned(), help, unit, points });
    }
    Ok(families)
}

fn point(kind: &str, metric: &dto::Metric) -> Result<Point, String> {
    let labels: LabelSet =
        metric.label.iter().map(|label| (label.name().to_owned(), label.value().to_owned())).collect();
    let mut names: Vec<&str> = labels.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    if names.len() != labels.len() || names.contains(&"__name__") || names.contains(&"") {
        return Err(format!("a label stands twice or has no name: {}", shortened(&format!("{labels:?}"))));
    }
    if labels.iter().any(|(_, value)| value.is_empty()) {
        return Err(format!("an empty label: {}", shortened(&format!("{labels:?}"))));
    }
    let plain = |value| Value::Number(Number { value, text: String::new() });
    let seconds = |at: &dto::Timestamp| at.seconds as f64 + f64::from(at.nanos) / 1e9;
    let mut created = None;
    let mut exemplars = Vec::new();
    let value = match (kind, &metric.counter, &metric.gauge, &metric.untyped, &metric.histogram) {
        ("counter", Some(counter), None, None, None) => {
            created = counter.created_timestamp.as_ref().map(seconds);
            if counter.value().is_nan() || counter.value() < 0.0 {
                return Err(format!("a counter of {}", counter.value()));
            }
            exemplars.extend(counter.exemplar.iter().map(|exemplar| (f64::INFINITY, exemplar)));
            plain(counter.value())
        }
        ("gauge", None, Some(gauge), None, None) => plain(gauge.value()),
        ("untyped", None, None, Some(untyped), None) => plain(untyped.value()),
        ("histogram", None, None, None, Some(histogram)) => {
            if labels.iter().any(|(name, _)| name == "le") {
                return Err("a histogram with a label `le`".to_owned());
            }
            created = histogram.created_timestamp.as_ref().map(seconds);
            let of_buckets =
                histogram.bucket.iter().map(|bucket| Some((bucket.upper_bound(), bucket.exemplar.as_ref()?)));
            exemplars.extend(of_buckets.flatten());
            exemplars.extend(histogram.exemplars.iter().map(|exemplar| (f64::INFINITY, exemplar)));
            self::histogram(histogram)?
        }
        _ => return Err("its value is not of its type".to_owned()),
    };
    let exemplars = exemplars.into_iter().map(|(bound, exemplar)| {
        let labels = exemplar.label.iter().map(|label| (label.name().to_owned(), label.value().to_owned())).collect();
        let time = seconds(exemplar.timestamp.as_ref().ok_or("an exemplar without its time")?);
        Ok((bound, checked(Exemplar { labels, value: exemplar.value(), time })?))
    });
    let exemplars = exemplars.collect::<Result<_, String>>()?;
    Ok(Point { labels, value, created, exemplars })
}

fn histogram(histogram: &dto::Histogram) -> Result<Value, String> {
    let count = histogram.sample_count();
    if histogram.schema.is_some() {
        let [negative, positive] = histogram.native_buckets();
        let in_buckets: i64 = negative.iter().chain(&positive).map(|(_, count)| count).sum();
        if in_buckets.cast_unsigned() + histogram.zero_count() != count {
            return Err(format!("{in_buckets} in buckets, {} at zero, {count} in all", histogram.zero_count()));
        }
        if !(-4..=8).contains(&histogram.schema()) || !histogram.bucket.is_empty() {
            return Err(format!("schema {}, {} classic buckets", histogram.schema(), histogram.bucket.len()));
        }
        return Ok(Value::Native(histogram.clone()));
    }
    let mut buckets: Vec<(f64, u64)> =
        histogram.bucket.iter().map(|bucket| (bucket.upper_bound(), bucket.cumulative_count())).collect();
    // It is said where it has an exemplar.
    if buckets.last().is_none_or(|last| last.0 != f64::INFINITY) {
        buckets.push((f64::INFINITY, count));
    }
    if !buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1) {
        return Err(format!("the buckets do not ascend: {buckets:?}"));
    }
    let sum = Number { value: histogram.sample_sum(), text: String::new() };
    Ok(Value::Histogram { buckets, totals: Some((sum, count)) })
}

#[test]
fn a_page_of_every_format_is_read() {
    let text = "# HELP a_total Say \"hi\"\\n\\\\.\n# TYPE a_total counter\na_total{k=\"v\\\\\\\"\\n,}\"} 1e+300\na_total 2\n\
                # TYPE h histogram\nh_bucket{k=\"v\",le=\"1\"} 1\nh_bucket{k=\"v\",le=\"+Inf\"} 2\nh_sum{k=\"v\"} -0.5\n\
                h_count{k=\"v\"} 2\n# TYPE \"é.x\" gauge\n{\"é.x\",\"a.b\"=\"c\"} NaN\n{\"é.x\"} -Inf\n";
    let families = parse(Format::Text100, text.as_bytes()).unwrap();
    let names: Vec<&str> = families.iter().map(|family| family.name.as_str()).collect();
    assert_eq!(names, ["a_total", "h", "é.x"]);
    assert_eq!(families[0].help, "Say \"hi\"\n\\.");
    assert_eq!(families[0].points[0].labels, [("k".to_owned(), "v\\\"\n,}".to_owned())]);
    let totals = Some((Number { value: -0.5, text: "-0.5".to_owned() }, 2));
    assert_eq!(families[1].points[0].value, Value::Histogram { buckets: vec![(1.0, 1), (f64::INFINITY, 2)], totals });
    assert!(parse(Format::Text004, text.as_bytes()).unwrap_err().contains("no names in quotes"));

    let open = "# TYPE a_bytes counter\n# UNIT a_bytes bytes\n# HELP a_bytes Say \\\"hi\\\".\na_bytes_total 1\n\
                a_bytes_created 1.5\n# TYPE target info\ntarget_info{k=\"v\"} 1\n# EOF\n";
    let families = parse(Format::OpenMetrics, open.as_bytes()).unwrap();
    assert_eq!((families[0].name.as_str(), families[0].unit.as_str()), ("a_bytes_total", "bytes"));
    assert_eq!(families[0].points[0].created, Some(1.5));
    assert_eq!((families[1].name.as_str(), families[1].kind.as_str()), ("target_info", "info"));
    assert_eq!(parse(Format::Text004, b""), Ok(Vec::new()));
}

#[test]
fn what_prometheus_would_refuse_or_take_for_something_else_is_an_error() {
    let gauge = "# TYPE a gauge\n";
    let begin = "# TYPE h histogram\n";
    for (bad, error) in [
        ("a 1\n", "a sample without a family"),
        ("# TYPE a gauge\na 1", "does not end"),
        ("# TYPE a gauge\n\na 1\n", "no name"),
        ("# TYPE a gauge\n# TYPE a gauge\na 1\n", "TYPE stands twice"),
        ("# HELP a x\n# HELP a x\n# TYPE a gauge\na 1\n", "HELP stands twice"),
        ("# HELP a x\na 1\n", "no type"),
        ("# TYPE a gauge\na 1\n# HELP a x\n", "metadata after samples"),
        ("# TYPE a gauge\na 1\n# TYPE b gauge\nb 1\n# TYPE a gauge\na{k=\"v\"} 1\n", "of another one"),
        ("# TYPE a summary\na 1\n", "an unknown type"),
        ("# UNIT a_s s\n# TYPE a_s gauge\na_s 1\n", "an unknown keyword"),
        ("# TYPE a gauge\n", "no samples"),
        ("# TYPE a gauge\na 1\na 1\n", "two series"),
        ("# TYPE a gauge\na{x=\"1\",y=\"2\"} 1\na{y=\"2\",x=\"1\"} 1\n", "two series"),
        ("# TYPE a gauge\nb 1\n", "not one of its series"),
        ("# TYPE a gauge\n1a 1\n", "no name"),
        ("# TYPE a gauge\na{k=\"1\",k=\"2\"} 1\n", "stands twice"),
        ("# TYPE a gauge\na{__name__=\"b\"} 1\n", "stands twice"),
        ("# TYPE a gauge\na{k=\"\"} 1\n", "same as absent"),
        ("# TYPE a gauge\na{1k=\"v\"} 1\n", "no name"),
        ("# TYPE a gauge\na{k:l=\"v\"} 1\n", "without a value"),
        ("# TYPE a gauge\na{k=\"v} 1\n", "do not end"),
        ("# TYPE a gauge\na{k=\"v\\t\"} 1\n", "the escape"),
        ("# TYPE a gauge\na{k=\"v\",} 1\n", "no name"),
        ("# TYPE a gauge\na{} 1\n", "no name"),
        ("# TYPE a gauge\na  1\n", "no number"),
        ("# TYPE a gauge\na 1 2\n", "no number"),
        ("# TYPE a gauge\na inf\n", "no number"),
        ("# TYPE a gauge\na 0x1\n", "no number"),
        ("# TYPE a counter\na -1\n", "a counter of -1"),
        ("# TYPE a counter\na NaN\n", "a counter of NaN"),
        (&format!("{begin}h_bucket{{le=\"1\"}} 1\nh_sum 1\nh_count 1\n"), "no infinite bucket"),
        (&format!("{begin}h_bucket{{le=\"+Inf\"}} 1\nh_sum 1\nh_count 2\n"), "a count of 2"),
        (&format!("{begin}h_bucket{{le=\"+Inf\"}} 1\nh_count 1\n"), "come together"),
        (&format!("{begin}h_bucket{{le=\"+Inf\"}} 1\n"), "come together"),
        (&format!("{begin}h_bucket{{le=\"2\"}} 1\nh_bucket{{le=\"1\"}} 1\nh_bucket{{le=\"+Inf\"}} 1\n"), "not above"),
        (&format!("{begin}h_bucket{{le=\"2\"}} 2\nh_bucket{{le=\"+Inf\"}} 1\nh_sum 1\n"), "not cumulative"),
        (&format!("{begin}h_bucket{{k=\"v\"}} 2\n"), "without `le`"),
        (
            &format!("{begin}h_bucket{{le=\"+Inf\"}} 1\nh_sum 1\nh_count 1\n# TYPE h_sum gauge\nh_sum 1\n"),
            "another one",
        ),
        (&format!("{gauge}a 1\n# EOF\n"), "without a keyword"),
    ] {
        let found = parse(Format::Text100, bad.as_bytes()).unwrap_err();
        assert!(found.contains(error), "{bad}: {found}");
    }
    for (bad, error) in [
        ("# TYPE a gauge\na 1\n", "# EOF"),
        ("# TYPE a gauge\na 1\n# EOF", "does not end"),
        ("# EOF\n# TYPE a gauge\na 1\n# EOF\n", "without a keyword"),
        ("# TYPE a counter\na 1\n# EOF\n", "not one of its series"),
        ("# TYPE a untyped\na 1\n# EOF\n", "an unknown type"),
        ("# TYPE a gauge\n# UNIT a seconds\na 1\n# EOF\n", "does not end with its unit"),
        ("# TYPE a_s gauge\n# UNIT a_s s\n# UNIT a_s s\na_s 1\n# EOF\n", "UNIT stands twice"),
        ("# TYPE a gauge\n# HELP a \"\na 1\n# EOF\n", "not escaped"),
        ("# TYPE a counter\na_created 1\na_total 1\n# EOF\n", "does not follow"),
        ("# TYPE a counter\na_total 1\n# TYPE a_created gauge\na_created 1\n# EOF\n", "of another one"),
        ("# TYPE a gauge\na 1\n# TYPE a counter\na_total 1\n# EOF\n", "metadata after samples"),
        ("# TYPE a info\na_info 2\n# EOF\n", "an info of 2"),
        ("# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 1\n# EOF\n", "written as a float"),
        (
            "# TYPE h histogram\nh_bucket{le=\"-1.0\"} 1\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n# EOF\n",
            "negative",
        ),
        ("# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum -1\nh_count 1\n# EOF\n", "below 0"),
    ] {
        let found = parse(Format::OpenMetrics, bad.as_bytes()).unwrap_err();
        assert!(found.contains(error), "{bad}: {found}");
    }
}
