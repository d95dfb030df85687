//! The points of one family: appended in any order, written in one that never changes.

use crate::exposition::{Label, LabelNames, Labels};

use super::labels::{Pair, Shapes};
use super::sample::Value;

/// The points of one family, with their labels one after the other in one list.
#[derive(Default)]
pub(super) struct Points<'a> {
    labels: Vec<Label<'a>>,
    points: Vec<Point<'a>>,
    /// The points that are written, in order.
    order: Vec<u32>,
}

struct Point<'a> {
    labels: std::ops::Range<usize>,
    value: Value<'a>,
}

impl<'a> Points<'a> {
    pub(super) fn clear(&mut self) {
        self.labels.clear();
        self.points.clear();
        self.order.clear();
    }

    pub(super) fn push<P: Pair<'a>, I: Iterator<Item = P>>(
        &mut self,
        shapes: &mut Shapes<'a, '_>,
        pairs: impl Fn() -> I,
        value: Value<'a>,
    ) {
        let start = self.labels.len();
        shapes.append(&pairs, &mut self.labels);
        self.points.push(Point { labels: start..self.labels.len(), value });
    }

    /// Puts the points in the order of their labels and takes out all but the first of those whose labels are equal.
    /// Returns how many it took out.
    ///
    /// `last` is the order of the scrape before: the SDK hands its points out in one order for as long as none is added,
    /// so it is nearly always right again, and looking is cheaper than sorting.
    pub(super) fn sort(&mut self, names: &LabelNames, last: &mut Vec<u32>) -> usize {
        let labels = |index: u32| &self.labels[self.points[index as usize].labels.clone()];
        let compare = |&a: &u32, &b: &u32| compare(labels(a), labels(b), names);
        if last.len() != self.points.len() {
            last.clear();
            last.extend(0..u32::try_from(self.points.len()).unwrap_or(u32::MAX));
        }
        if !last.is_sorted_by(|a, b| compare(a, b).is_lt()) {
            last.sort_unstable_by(|a, b| compare(a, b).then(a.cmp(b)));
        }
        self.order.clone_from(last);
        self.order.dedup_by(|later, earlier| compare(later, earlier).is_eq());
        last.len() - self.order.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The points in order. Call [`sort`](Self::sort) first.
    pub(super) fn iter<'s>(&'s self, names: &'s LabelNames) -> impl Iterator<Item = (Labels<'s>, &'s Value<'a>)> {
        self.order.iter().map(move |&index| {
            let point = &self.points[index as usize];
            (Labels { names, labels: &self.labels[point.labels.clone()] }, &point.value)
        })
    }
}

fn compare(a: &[Label<'_>], b: &[Label<'_>], names: &LabelNames) -> std::cmp::Ordering {
    for (a, b) in a.iter().zip(b) {
        let name =
            if a.name == b.name { std::cmp::Ordering::Equal } else { names.name(a.name).cmp(names.name(b.name)) };
        let order = name.then_with(|| a.value.as_bytes().cmp(b.value.as_bytes()));
        if order.is_ne() {
            return order;
        }
    }
    a.len().cmp(&b.len())
}
