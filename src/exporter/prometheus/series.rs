//! Points where they were collected, and the labels and values of each.

use std::cmp::Ordering;
use std::time::SystemTime;

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData};
use prometheus::proto::{self, MetricFamily, MetricType};

use crate::exemplar::Measured as Recorded;
use crate::exposition::{
    Escaping, ExemplarSample, FamilyKind, Grid, Label, LabelNames, NameKind, Naming, Number, TranslationStrategy,
    label_name,
};
use crate::guard::{MetricExemplars, PointExemplar};

use super::labels::{FixedLabels, Pair, Shapes, compare_pairs, text};
use super::value::{Measured, Value, include, registry_value};

/// The points of one metric, where they were collected.
#[derive(Clone, Copy)]
pub(super) enum Series<'a> {
    F64(&'a MetricData<f64>),
    U64(&'a MetricData<u64>),
    I64(&'a MetricData<i64>),
    Registry(FamilyKind, &'a [proto::Metric]),
    /// The resource: one point, with its attributes.
    Target(&'a Resource),
}

impl<'a> Series<'a> {
    pub(super) fn sdk(data: &'a AggregatedMetrics) -> Self {
        match data {
            AggregatedMetrics::F64(data) => Self::F64(data),
            AggregatedMetrics::U64(data) => Self::U64(data),
            AggregatedMetrics::I64(data) => Self::I64(data),
        }
    }

    pub(super) fn registry(family: &'a MetricFamily) -> Self {
        let kind = match family.get_field_type() {
            MetricType::COUNTER => FamilyKind::Counter,
            MetricType::GAUGE => FamilyKind::Gauge,
            MetricType::HISTOGRAM => FamilyKind::Histogram,
            MetricType::SUMMARY => FamilyKind::Summary,
            MetricType::UNTYPED => FamilyKind::Untyped,
        };
        Self::Registry(kind, family.get_metric())
    }

    pub(super) fn kind(self) -> FamilyKind {
        match self {
            Self::F64(data) => kinds(data).1,
            Self::U64(data) => kinds(data).1,
            Self::I64(data) => kinds(data).1,
            Self::Registry(kind, _) => kind,
            Self::Target(_) => FamilyKind::Info,
        }
    }

    /// Makes room in the grid for exponential histograms. Says whether these are any.
    pub(super) fn include_in(self, grid: &mut Grid) -> bool {
        fn include_in<T: Measured>(data: &MetricData<T>, grid: &mut Grid) -> bool {
            let MetricData::ExponentialHistogram(histogram) = data else { return false };
            include(histogram, grid);
            true
        }
        match self {
            Self::F64(data) => include_in(data, grid),
            Self::U64(data) => include_in(data, grid),
            Self::I64(data) => include_in(data, grid),
            Self::Registry(..) | Self::Target(_) => false,
        }
    }

    /// Whether the SDK never hands out as many points as before in another order: it keeps those of counters and
    /// histograms, and forgets those of gauges that are observed no more.
    pub(super) fn only_grows(self) -> bool {
        fn only_grows<T>(data: &MetricData<T>) -> bool {
            !matches!(data, MetricData::Gauge(_))
        }
        match self {
            Self::F64(data) => only_grows(data),
            Self::U64(data) => only_grows(data),
            Self::I64(data) => only_grows(data),
            Self::Registry(..) | Self::Target(_) => false,
        }
    }

    pub(super) fn name_kind(self) -> NameKind {
        match self {
            Self::F64(data) => kinds(data).0,
            Self::U64(data) => kinds(data).0,
            Self::I64(data) => kinds(data).0,
            Self::Registry(..) | Self::Target(_) => NameKind::Other,
        }
    }

    /// Who wins under one name: `target_info` is the exporter's own, and a registry's metrics give way to the SDK's.
    pub(super) fn rank(self) -> u8 {
        match self {
            Self::Target(_) => 0,
            Self::F64(_) | Self::U64(_) | Self::I64(_) => 1,
            Self::Registry(..) => 2,
        }
    }

    pub(super) fn len(self) -> usize {
        fn count<T>(data: &MetricData<T>) -> usize {
            match data {
                MetricData::Gauge(gauge) => gauge.data_points().count(),
                MetricData::Sum(sum) => sum.data_points().count(),
                MetricData::Histogram(histogram) => histogram.data_points().count(),
                MetricData::ExponentialHistogram(histogram) => histogram.data_points().count(),
            }
        }
        match self {
            Self::F64(data) => count(data),
            Self::U64(data) => count(data),
            Self::I64(data) => count(data),
            Self::Registry(_, metrics) => metrics.len(),
            Self::Target(_) => 1,
        }
    }

    /// The upper bounds of a histogram's buckets. The SDK gives each point a copy of its metric's, and reading all of
    /// them would take as long as reading the counts.
    pub(super) fn bounds(self) -> Vec<f64> {
        fn bounds<T>(data: &MetricData<T>) -> Vec<f64> {
            match data {
                MetricData::Histogram(histogram) => {
                    histogram.data_points().next().map_or_else(Vec::new, |point| point.bounds().collect())
                }
                _ => Vec::new(),
            }
        }
        match self {
            Self::F64(data) => bounds(data),
            Self::U64(data) => bounds(data),
            Self::I64(data) => bounds(data),
            Self::Registry(..) | Self::Target(_) => Vec::new(),
        }
    }

    /// The exemplars of one point.
    fn exemplars(self, index: usize, all: &'a MetricExemplars) -> &'a [PointExemplar] {
        fn of<'a, T>(data: &MetricData<T>, index: usize, all: &'a MetricExemplars) -> Option<&'a [PointExemplar]> {
            Some(match data {
                MetricData::Sum(sum) => all.of_point(sum.data_points().nth(index)?.attributes()),
                MetricData::Histogram(histogram) => all.of_point(histogram.data_points().nth(index)?.attributes()),
                MetricData::ExponentialHistogram(histogram) => {
                    all.of_point(histogram.data_points().nth(index)?.attributes())
                }
                MetricData::Gauge(_) => return None,
            })
        }
        let found = match self {
            Self::F64(data) => of(data, index, all),
            Self::U64(data) => of(data, index, all),
            Self::I64(data) => of(data, index, all),
            Self::Registry(..) | Self::Target(_) => None,
        };
        found.unwrap_or_default()
    }

    /// Lists the attributes of one point and returns its value, `None` where no format can show it.
    fn read(
        self,
        index: usize,
        bounds: &'a [f64],
        pairs: &mut Vec<Pair<'a>>,
    ) -> Option<(Value<'a>, Option<SystemTime>)> {
        match self {
            Self::F64(data) => read(data, index, bounds, pairs),
            Self::U64(data) => read(data, index, bounds, pairs),
            Self::I64(data) => read(data, index, bounds, pairs),
            Self::Registry(kind, metrics) => {
                let metric = metrics.get(index)?;
                pairs.extend(metric.get_label().iter().map(Pair::from));
                Some((registry_value(kind, metric)?, None))
            }
            Self::Target(resource) => {
                pairs.extend(resource.iter().map(Pair::from));
                Some((Value::Number(Number::Unsigned(1)), None))
            }
        }
    }
}

/// Reads a little of everything that `read` will read of these points.
///
/// The points in order lie all over the memory. Reading them one by one waits for each in turn; short loops that depend
/// on nothing but their own points let the processor fetch many at once.
fn touch<T: Measured>(data: &MetricData<T>, indexes: impl Iterator<Item = usize> + Clone) -> usize {
    fn attributes<'p>(points: impl Iterator<Item = impl Iterator<Item = &'p KeyValue>> + Clone) -> usize {
        let lists: usize = points.clone().map(|attributes| attributes.size_hint().0).sum();
        let keys: usize =
            points.clone().map(|attributes| attributes.map(|pair| pair.key.as_str().len()).sum::<usize>()).sum();
        let first = |pair: &KeyValue| match &pair.value {
            opentelemetry::Value::String(text) => text.as_str().bytes().next().map_or(0, usize::from),
            _ => 0,
        };
        lists + keys + points.map(|attributes| attributes.map(first).sum::<usize>()).sum::<usize>()
    }
    match data {
        MetricData::Gauge(gauge) => {
            attributes(indexes.filter_map(|index| Some(gauge.data_points().nth(index)?.attributes())))
        }
        MetricData::Sum(sum) => {
            attributes(indexes.filter_map(|index| Some(sum.data_points().nth(index)?.attributes())))
        }
        MetricData::Histogram(histogram) => {
            let points = indexes.filter_map(|index| histogram.data_points().nth(index));
            let counts =
                points.clone().map(|point| point.bucket_counts().step_by(8).sum::<u64>() as usize).sum::<usize>();
            counts.wrapping_add(attributes(points.map(|point| point.attributes())))
        }
        MetricData::ExponentialHistogram(histogram) => {
            attributes(indexes.filter_map(|index| Some(histogram.data_points().nth(index)?.attributes())))
        }
    }
}

fn kinds<T>(data: &MetricData<T>) -> (NameKind, FamilyKind) {
    match data {
        MetricData::Gauge(_) => (NameKind::Gauge, FamilyKind::Gauge),
        MetricData::Sum(sum) if sum.is_monotonic() => (NameKind::Counter, FamilyKind::Counter),
        MetricData::Sum(_) => (NameKind::Other, FamilyKind::Gauge),
        MetricData::Histogram(_) | MetricData::ExponentialHistogram(_) => (NameKind::Other, FamilyKind::Histogram),
    }
}

fn read<'a, T: Measured>(
    data: &'a MetricData<T>,
    index: usize,
    bounds: &'a [f64],
    pairs: &mut Vec<Pair<'a>>,
) -> Option<(Value<'a>, Option<SystemTime>)> {
    // The SDK shows its lists as iterators; they are slices underneath, and `nth` is an index.
    match data {
        MetricData::Gauge(gauge) => {
            let point = gauge.data_points().nth(index)?;
            pairs.extend(point.attributes().map(Pair::from));
            Some((Value::Number(point.value().number()), None))
        }
        MetricData::Sum(sum) => {
            let point = sum.data_points().nth(index)?;
            pairs.extend(point.attributes().map(Pair::from));
            let value = point.value();
            let is_possible = !sum.is_monotonic() || value.is_count();
            is_possible.then(|| (Value::Number(value.number()), sum.is_monotonic().then(|| sum.start_time())))
        }
        MetricData::Histogram(histogram) => {
            let point = histogram.data_points().nth(index)?;
            pairs.extend(point.attributes().map(Pair::from));
            Some((T::histogram(bounds, point), Some(histogram.start_time())))
        }
        MetricData::ExponentialHistogram(histogram) => {
            let point = histogram.data_points().nth(index)?;
            pairs.extend(point.attributes().map(Pair::from));
            Some((T::exponential(point), Some(histogram.start_time())))
        }
    }
}

/// The names in a registry are those that its owner chose.
static FINAL: Naming = Naming { strategy: TranslationStrategy::NoTranslation, namespace: String::new() };

/// The metrics of one family, whose points are numbered one after the other.
pub(super) struct Members<'a> {
    members: Vec<Member<'a>>,
    len: usize,
    naming: &'a Naming,
    escaping: Escaping,
    kind: FamilyKind,
    pairs: Vec<Pair<'a>>,
}

struct Member<'a> {
    series: Series<'a>,
    /// The number of its first point.
    first: usize,
    bounds: &'a [f64],
    shapes: Shapes<'a>,
    /// `None` where none of its points has any.
    exemplars: Option<&'a MetricExemplars>,
}

impl<'a> Members<'a> {
    pub(super) fn new(naming: &'a Naming, escaping: Escaping, kind: FamilyKind) -> Self {
        Self { members: Vec::new(), len: 0, naming, escaping, kind, pairs: Vec::new() }
    }

    /// Adds a metric. `bounds` are those that [`Series::bounds`] said.
    pub(super) fn push(
        &mut self,
        series: Series<'a>,
        bounds: &'a [f64],
        fixed: &'a FixedLabels,
        exemplars: Option<&'a MetricExemplars>,
    ) {
        let naming = if matches!(series, Series::Registry(..)) { &FINAL } else { self.naming };
        let shapes = Shapes::new(self.kind, naming, self.naming, self.escaping, fixed);
        self.members.push(Member { series, first: self.len, bounds, shapes, exemplars });
        self.len += series.len();
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether an order that was right twice is right for as long as there are as many points.
    pub(super) fn only_grow(&self) -> bool {
        self.members.iter().all(|member| member.series.only_grows())
    }

    /// Fetches what [`point`](Self::point) needs of these points, where that takes less time at once than one by one.
    pub(super) fn fetch(&self, points: &[u32]) {
        if let [only] = self.members.as_slice() {
            let indexes = points.iter().map(|&index| index as usize);
            std::hint::black_box(match only.series {
                Series::F64(data) => touch(data, indexes),
                Series::U64(data) => touch(data, indexes),
                Series::I64(data) => touch(data, indexes),
                Series::Registry(..) | Series::Target(_) => 0,
            });
        }
    }

    /// Puts the labels of one point, sorted by name, into `labels`, and returns its value and when it began to count;
    /// `None` where no format can show it.
    pub(super) fn point(
        &mut self,
        index: u32,
        names: &mut LabelNames,
        labels: &mut Vec<Label<'a>>,
    ) -> Option<(Value<'a>, Option<SystemTime>)> {
        labels.clear();
        self.pairs.clear();
        let member = self.member(index)?;
        let (member, index) = (self.members.get_mut(member)?, index as usize);
        let value = member.series.read(index - member.first, member.bounds, &mut self.pairs);
        member.shapes.labels(&self.pairs, names, labels);
        value
    }

    /// The exemplars of a point, named as its labels are.
    pub(super) fn exemplars(&self, index: u32) -> Vec<ExemplarSample<'a>> {
        let member = self.member(index).and_then(|member| self.members.get(member));
        let Some((member, exemplars)) = member.and_then(|member| Some((member, member.exemplars?))) else {
            return Vec::new();
        };
        let found = member.series.exemplars(index as usize - member.first, exemplars);
        found.iter().map(|exemplar| self.exemplar(exemplar)).collect()
    }

    fn exemplar(&self, point: &'a PointExemplar) -> ExemplarSample<'a> {
        let value = match point.exemplar.value {
            Recorded::Unsigned(value) => Number::Unsigned(value),
            Recorded::Signed(value) => Number::Signed(value),
            Recorded::Float(value) => Number::Float(value),
        };
        let mut sample = ExemplarSample::new(value, point.exemplar.time);
        if let Some(ids) = point.exemplar.span {
            sample.push("trace_id".into(), ids.trace.to_string().into());
            sample.push("span_id".into(), ids.span.to_string().into());
        }
        for pair in &point.filtered {
            // An exemplar is no series of its family, and has no bounds to step aside for.
            let name = label_name(pair.key.as_str(), FamilyKind::Untyped, self.naming, self.escaping);
            sample.push(name, text(&pair.value));
        }
        sample
    }

    /// Which of two points with the same labels comes first. The SDK numbers the points of an observable anew in each
    /// collection, so their numbers decide last.
    pub(super) fn precedence(&self, a: u32, b: u32) -> Ordering {
        let pairs = |point: u32| {
            let mut pairs = Vec::new();
            if let Some(member) = self.member(point).and_then(|member| self.members.get(member)) {
                let _ = member.series.read(point as usize - member.first, member.bounds, &mut pairs);
            }
            pairs
        };
        (self.member(a).cmp(&self.member(b))).then_with(|| compare_pairs(pairs(a), pairs(b))).then(a.cmp(&b))
    }

    /// How many metrics there are.
    pub(super) fn count(&self) -> usize {
        self.members.len()
    }

    /// The position of the metric that a point belongs to.
    pub(super) fn member(&self, point: u32) -> Option<usize> {
        match self.members.as_slice() {
            [_] => Some(0),
            members => members.partition_point(|member| member.first <= point as usize).checked_sub(1),
        }
    }
}
