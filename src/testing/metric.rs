//! One metric and what a test says about it.

use std::fmt::Write as _;
use std::future::Future;

use super::attributes::{Attributes, Expected, IntoAttributes, is_same};
use super::eventually::{Attempts, fail};
use super::snapshot::{Metric, Series, Value, braced, scraped};
use super::{Attempt, TestTelemetry};

/// Series that a failure lists.
const MAX_SERIES: usize = 20;

/// Names that a failure lists.
const MAX_NAMES: usize = 30;

/// A metric that a test says something about: what [`TestTelemetry::metric`] returns.
///
/// Every assertion collects anew, and returns the metric, so that one can follow another:
///
/// ```
/// use barograph::testing::TestTelemetry;
/// use barograph::{HistogramSpec, MeterExt, attribute};
///
/// attribute! { enum Status: "status" { Done = "done", Failed = "failed" } }
/// const DURATION: HistogramSpec<Status> =
///     HistogramSpec::new("job.duration", "s", "Time spent on a job.").buckets(&[0.1, 1.0]);
///
/// let telemetry = TestTelemetry::new();
/// let duration = telemetry.meter("jobs").histogram(&DURATION);
/// duration.record(0.05, Status::Done);
/// duration.record(0.5, Status::Done);
///
/// telemetry.metric("job.duration").with(Status::Done).count(2).sum(0.55).bucket(0.1, 1).bucket(1.0, 2);
/// telemetry.metric("job_duration_seconds_count").with(("status", "done")).value(2);
/// ```
///
/// # Which series
///
/// One that has exactly the attributes that were asked for; where there is none, the only one that has them among others.
/// Where several have, the assertion fails and lists them: it would not be known which one it is about.
#[derive(Clone, Debug)]
pub struct TestMetric<'t> {
    telemetry: &'t TestTelemetry,
    name: String,
    scope: Option<String>,
    attributes: Attributes,
}

impl<'t> TestMetric<'t> {
    pub(super) fn new(telemetry: &'t TestTelemetry, name: &str) -> Self {
        Self { telemetry, name: name.to_owned(), scope: None, attributes: Vec::new() }
    }

    /// Only series that have these attributes, besides those that were asked for before: a value of an
    /// [`attribute!`](crate::attribute!), a tuple of them, `(key, value)`, or a list of the latter.
    ///
    /// Of a metric that goes by its OpenTelemetry name the keys are OpenTelemetry's (`http.route`); of one that goes by its
    /// scraped name they are the labels of the page (`http_route`).
    #[must_use = "it only selects: say what is true of it"]
    pub fn with(&self, attributes: impl IntoAttributes) -> Self {
        let mut metric = self.clone();
        metric.attributes.extend(attributes.into_attributes());
        metric.attributes.sort();
        metric.attributes.dedup();
        metric
    }

    /// Only series of the meter of this name, where two meters have metrics of one name.
    #[must_use = "it only selects: say what is true of it"]
    pub fn in_scope(&self, meter: &str) -> Self {
        Self { scope: Some(meter.to_owned()), ..self.clone() }
    }

    /// The value of a counter, an up-down counter or a gauge. Whole numbers are equal or they are not; others may differ by
    /// the rounding of a sum.
    #[track_caller]
    pub fn value(&self, expected: impl Expected) -> Self {
        let found = self.find();
        let number = self.number(&found, &format!("a value of {}", expected.as_f64()));
        self.check("value", number, expected.as_f64(), &found)
    }

    /// How much the value has changed since the last time this was asked, and held, of the same name and attributes; what is
    /// not there yet is 0. Of a histogram it is its count.
    ///
    /// ```
    /// use barograph::testing::TestTelemetry;
    /// use barograph::{CounterSpec, MeterExt};
    ///
    /// const JOBS: CounterSpec = CounterSpec::new("worker.jobs", "{job}", "Jobs that ended.");
    ///
    /// let telemetry = TestTelemetry::new();
    /// let jobs = telemetry.meter("worker").counter(&JOBS);
    /// jobs.add(2, ());
    /// telemetry.metric("worker.jobs").delta(2);
    /// jobs.add(1, ());
    /// telemetry.metric("worker.jobs").delta(1);
    /// telemetry.metric("worker.jobs").delta(0);
    /// ```
    #[track_caller]
    pub fn delta(&self, expected: impl Expected) -> Self {
        let found = self.find();
        let value = match found.one(self, "a change") {
            Ok(None) => 0.0,
            Ok(Some(Value::Number(number))) => *number,
            Ok(Some(Value::Distribution { count, .. })) => *count as f64,
            Err(message) => fail(message),
        };
        let key = (self.name.clone(), self.scope.clone(), self.attributes.clone());
        let before = self.telemetry.asked_before(&key);
        let metric = self.check("change", value - before, expected.as_f64(), &found);
        self.telemetry.remember(key, value);
        metric
    }

    /// How many values a histogram has recorded.
    #[track_caller]
    pub fn count(&self, expected: u64) -> Self {
        let found = self.find();
        let (count, _, _) = self.distribution(&found, &format!("a count of {expected}"));
        self.check("count", count as f64, expected as f64, &found)
    }

    /// The sum of what a histogram has recorded, up to its rounding.
    #[track_caller]
    pub fn sum(&self, expected: impl Expected) -> Self {
        let found = self.find();
        let (_, sum, _) = self.distribution(&found, &format!("a sum of {}", expected.as_f64()));
        self.check("sum", sum, expected.as_f64(), &found)
    }

    /// How many values of a histogram are at or below a boundary, as `le` says it. The boundary is one of the histogram's, or
    /// [`f64::INFINITY`].
    #[track_caller]
    pub fn bucket(&self, le: f64, expected: u64) -> Self {
        let found = self.find();
        let (_, _, buckets) = self.distribution(&found, &format!("{expected} values up to {le}"));
        let Some((_, count)) = buckets.iter().find(|(bound, _)| *bound == le) else {
            let bounds: Vec<_> = buckets.iter().map(|(bound, _)| bound.to_string()).collect();
            let has = if bounds.is_empty() { "no boundaries".to_owned() } else { bounds.join(", ") };
            fail(format!("{self}: there is no boundary at {le}; it has {has}"));
        };
        self.check(&format!("values up to {le}"), *count as f64, expected as f64, &found)
    }

    /// There is a series with these attributes, whatever its value.
    #[track_caller]
    pub fn present(&self) -> Self {
        let found = self.find();
        if found.series().is_empty() {
            fail(found.nothing(self, "any"));
        }
        self.clone()
    }

    /// There is no series with these attributes, the metric may be known or not.
    #[track_caller]
    pub fn absent(&self) -> Self {
        let found = self.find();
        match found.series().len() {
            0 => self.clone(),
            1 => fail(format!("{self}: there is a series that should not be{}", found.listed())),
            many => fail(format!("{self}: there are {many} series that should not be{}", found.listed())),
        }
    }

    /// There are so many series with these attributes.
    #[track_caller]
    pub fn series(&self, expected: usize) -> Self {
        let found = self.find();
        match found.series().len() {
            0 if expected > 0 => fail(found.nothing(self, &format!("{expected} of them"))),
            many if many != expected => {
                fail(format!("{self}: there are {many} series, not {expected}{}", found.listed()))
            }
            _ => self.clone(),
        }
    }

    /// The value of a counter, an up-down counter or a gauge; `None` without such a series.
    #[track_caller]
    #[must_use]
    pub fn try_value(&self) -> Option<f64> {
        match self.one("a value")? {
            Value::Number(number) => Some(number),
            Value::Distribution { .. } => fail(self.is_a_histogram("a value")),
        }
    }

    /// How many values a histogram has recorded; `None` without such a series.
    #[track_caller]
    #[must_use]
    pub fn try_count(&self) -> Option<u64> {
        match self.one("a count")? {
            Value::Distribution { count, .. } => Some(count),
            Value::Number(_) => fail(self.is_no_histogram("a count")),
        }
    }

    /// The sum of what a histogram has recorded; `None` without such a series.
    #[track_caller]
    #[must_use]
    pub fn try_sum(&self) -> Option<f64> {
        match self.one("a sum")? {
            Value::Distribution { sum, .. } => Some(sum),
            Value::Number(_) => fail(self.is_no_histogram("a sum")),
        }
    }

    /// Tries until what the closure asserts holds, for as long as [`TestTelemetry::with_deadline`] says, and then fails with
    /// what failed last. Blocks the thread in between.
    ///
    /// ```
    /// use barograph::testing::TestTelemetry;
    ///
    /// let telemetry = TestTelemetry::new();
    /// let jobs = telemetry.meter("worker").u64_counter("worker.jobs").build();
    /// std::thread::spawn(move || jobs.add(3, &[]));
    /// telemetry.metric("worker.jobs").eventually(|jobs| jobs.value(3));
    /// ```
    #[track_caller]
    pub fn eventually<R>(&self, mut check: impl FnMut(Self) -> R) -> R {
        Attempts::new(self.telemetry.deadline).run(|| {
            let _attempt = Attempt::begin(self.telemetry);
            check(self.clone())
        })
    }

    /// Like [`eventually`](Self::eventually), for async tests: other tasks run in between, under a paused clock too. The
    /// deadline is one of real time.
    #[track_caller]
    pub fn eventually_async<R>(&self, mut check: impl FnMut(Self) -> R) -> impl Future<Output = R> {
        let attempts = Attempts::new(self.telemetry.deadline);
        let metric = self.clone();
        let attempt = move || {
            let _attempt = Attempt::begin(metric.telemetry);
            check(metric.clone())
        };
        async move { attempts.run_async(attempt).await }
    }

    /// What there is of it now.
    #[track_caller]
    fn find(&self) -> Found {
        let snapshot = self.telemetry.snapshot();
        let names = |metrics: &[Metric]| metrics.iter().map(|metric| metric.name.clone()).collect::<Vec<_>>();
        let of_name = |metrics: Vec<Metric>| metrics.into_iter().filter(|metric| metric.name == self.name).collect();
        let (recorded, scraped) = (snapshot.collected, scraped(&snapshot.page));
        let (recorded_names, scraped_names) = (names(&recorded), names(&scraped));
        let found = Found::new(self, of_name(recorded), recorded_names.clone(), scraped_names.clone());
        // Where both have a name, both mean the same metric mostly, and OpenTelemetry's terms come first.
        if !found.matching.is_empty() {
            return found;
        }
        let on_page = Found::new(self, of_name(scraped), recorded_names, scraped_names);
        if found.metrics.is_empty() || !on_page.matching.is_empty() { on_page } else { found }
    }

    #[track_caller]
    fn one(&self, wanted: &str) -> Option<Value> {
        match self.find().one(self, wanted) {
            Ok(value) => value.cloned(),
            Err(message) => fail(message),
        }
    }

    #[track_caller]
    fn number(&self, found: &Found, wanted: &str) -> f64 {
        match found.the_one(self, wanted) {
            Value::Number(number) => *number,
            Value::Distribution { .. } => fail(self.is_a_histogram(wanted)),
        }
    }

    #[track_caller]
    fn distribution<'f>(&self, found: &'f Found, wanted: &str) -> (u64, f64, &'f [(f64, u64)]) {
        match found.the_one(self, wanted) {
            Value::Distribution { count, sum, buckets } => (*count, *sum, buckets),
            Value::Number(_) => fail(self.is_no_histogram(wanted)),
        }
    }

    fn is_a_histogram(&self, wanted: &str) -> String {
        format!(
            "{self}: it is a histogram, which has no value, and {wanted} was asked for; ask for count, sum or bucket"
        )
    }

    fn is_no_histogram(&self, wanted: &str) -> String {
        format!("{self}: it is no histogram, and {wanted} was asked for; ask for its value")
    }

    #[track_caller]
    fn check(&self, what: &str, value: f64, expected: f64, found: &Found) -> Self {
        if !is_same(value, expected) {
            fail(format!("{self}: {what} is {value}, not {expected}{}", found.listed()));
        }
        self.clone()
    }
}

/// What was asked for: `worker.jobs{status="done"}`.
impl std::fmt::Display for TestMetric<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)?;
        if !self.attributes.is_empty() {
            f.write_str(&braced(&self.attributes))?;
        }
        match &self.scope {
            Some(scope) => write!(f, " of the meter {scope}"),
            None => Ok(()),
        }
    }
}

/// What there is of a metric.
struct Found {
    metrics: Vec<Metric>,
    /// Which series of which metric were asked for.
    matching: Vec<(usize, usize)>,
    /// The names of the other metrics, for somebody who has misspelt one.
    recorded: Vec<String>,
    scraped: Vec<String>,
}

impl Found {
    fn new(asked: &TestMetric<'_>, metrics: Vec<Metric>, recorded: Vec<String>, scraped: Vec<String>) -> Self {
        let is_asked = |series: &Series| {
            let has = |pair| series.attributes.contains(pair) || series.of_scope.contains(pair);
            asked.scope.as_ref().is_none_or(|scope| *scope == series.scope) && asked.attributes.iter().all(has)
        };
        let mut matching = Vec::new();
        for (index, metric) in metrics.iter().enumerate() {
            let series = metric.series.iter().enumerate().filter(|(_, series)| is_asked(series));
            matching.extend(series.map(|(position, _)| (index, position)));
        }
        Self { metrics, matching, recorded, scraped }
    }

    fn series(&self) -> Vec<&Series> {
        self.matching.iter().map(|(metric, series)| &self.metrics[*metric].series[*series]).collect()
    }

    /// The value that was asked for, `None` if there is none. Says so where several might be meant.
    fn one(&self, asked: &TestMetric<'_>, wanted: &str) -> Result<Option<&Value>, String> {
        let series = self.series();
        let is_exact = |series: &&&Series| {
            let own = asked.attributes.iter().filter(|pair| !series.of_scope.contains(pair));
            own.count() == series.attributes.len()
        };
        let exact: Vec<_> = series.iter().filter(is_exact).copied().collect();
        match (exact.as_slice(), series.as_slice()) {
            ([only], _) | ([], [only]) => Ok(Some(&only.value)),
            (_, []) => Ok(None),
            (_, many) => Err(format!(
                "{asked}: {wanted} was asked for of one series and there are {}; say with which attributes, or in which scope{}",
                many.len(),
                self.listed()
            )),
        }
    }

    #[track_caller]
    fn the_one(&self, asked: &TestMetric<'_>, wanted: &str) -> &Value {
        match self.one(asked, wanted) {
            Ok(Some(value)) => value,
            Ok(None) => fail(self.nothing(asked, wanted)),
            Err(message) => fail(message),
        }
    }

    /// Why there is nothing.
    fn nothing(&self, asked: &TestMetric<'_>, wanted: &str) -> String {
        if !self.metrics.is_empty() {
            return format!("{asked}: there is no such series, and {wanted} was asked for{}", self.listed());
        }
        let mut message = format!("there is no metric {}, and {wanted} was asked for", asked.name);
        let nearest = nearest(&asked.name, self.recorded.iter().chain(&self.scraped));
        if !nearest.is_empty() {
            let _ = write!(message, "; the nearest: {}", nearest.join(", "));
        }
        // The parts of a histogram say no more than its own name.
        let is_part = |name: &str| {
            let mut stems = ["_bucket", "_sum", "_count"].into_iter().filter_map(|suffix| name.strip_suffix(suffix));
            stems.any(|stem| self.scraped.iter().any(|other| other == stem))
        };
        for (what, names) in [("recorded", &self.recorded), ("scraped", &self.scraped)] {
            let mut names: Vec<_> = names.iter().map(String::as_str).filter(|name| !is_part(name)).collect();
            names.sort_unstable();
            names.dedup();
            let more = names.len().saturating_sub(MAX_NAMES);
            names.truncate(MAX_NAMES);
            let names = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
            let _ = write!(message, "\n  {what}: {names}");
            if more > 0 {
                let _ = write!(message, " and {more} more");
            }
        }
        message
    }

    /// The series of the metric, one a line.
    fn listed(&self) -> String {
        let mut scopes: Vec<_> = self.metrics.iter().flat_map(|metric| &metric.series).map(|it| &it.scope).collect();
        scopes.sort();
        scopes.dedup();
        let mut lines: Vec<String> = Vec::new();
        for metric in &self.metrics {
            for series in &metric.series {
                let scope = if scopes.len() > 1 { format!(" of the meter {}", series.scope) } else { String::new() };
                lines.push(format!("\n  {}{scope} {}", braced(&series.attributes), series.value));
            }
        }
        let more = lines.len().saturating_sub(MAX_SERIES);
        lines.truncate(MAX_SERIES);
        let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
        let kind = self.metrics.first().map_or("metric", |metric| metric.kind.as_str());
        match lines.is_empty() {
            true => format!("\nthe {kind} has no series"),
            false => format!("\nthe {kind} has{}{more}", lines.concat()),
        }
    }
}

/// The names that somebody who wrote `asked` may have meant, the most likely first.
fn nearest<'n>(asked: &str, names: impl Iterator<Item = &'n String>) -> Vec<&'n str> {
    let mut near: Vec<(usize, &str)> = names
        .map(|name| (distance(asked, name), name.as_str()))
        // A third of the letters wrong is another word.
        .filter(|(distance, name)| *distance <= name.len().max(asked.len()) / 3)
        .collect();
    near.sort_unstable();
    near.dedup();
    near.into_iter().take(3).map(|(_, name)| name).collect()
}

/// How many letters have to be added, left out or changed.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (above, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = above + 1;
        for (column, b) in other.iter().enumerate() {
            let changed = diagonal + usize::from(a != *b);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}
