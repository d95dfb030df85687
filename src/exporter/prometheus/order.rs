//! The order of a family's points: by their labels, the same in every scrape.
//!
//! The SDK hands its points out in the order of a hash map. An order that was found right is kept, four bytes for each
//! point, and looked through before it is used again. For a family of many points looking costs as much as writing half
//! of them. Counters and histograms only ever get more points, and keep their order while they get none, so the order of a
//! large family of them that once was right twice in a row is checked while the points are written. Should it ever turn
//! out wrong there, the points that are left are sorted and follow; the next scrape is in order again.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use crate::exposition::{Escaping, ExemplarSample, Label, LabelNames, Labels};

use super::Entry;
use super::series::Members;
use super::value::Value;

/// Points whose order is kept from scrape to scrape, over all families: half a megabyte.
const MAX_KEPT: usize = 128 * 1024;

/// A family of more points is never sorted as a whole but a window of so many at a time, half of which are written.
const WINDOW: usize = 128 * 1024;

/// Of so few points the order is looked through first, always.
const FEW: usize = 256;

/// So many points are fetched at once: their attributes and counts fit into a core's first cache.
const FETCHED: usize = 32;

/// The points of one family in order.
#[derive(Clone, Debug)]
pub(super) struct Order {
    points: Arc<Vec<u32>>,
    /// Whether it was right in a scrape after the one that it was made in.
    is_proven: bool,
}

/// The orders of the scrape before, in each escaping: other names of labels can have another order.
#[derive(Debug, Default)]
pub(super) struct Orders {
    by_family: HashMap<Escaping, HashMap<String, Order>>,
    points: usize,
}

impl Orders {
    pub(super) fn get(&self, escaping: Escaping, family: &str, points: usize) -> Option<Order> {
        self.by_family.get(&escaping)?.get(family).filter(|order| order.points.len() == points).cloned()
    }

    pub(super) fn put(&mut self, escaping: Escaping, family: &str, order: Order) {
        let by_family = self.by_family.entry(escaping).or_default();
        let before = by_family.get(family).map_or(0, |order| order.points.len());
        let points = self.points - before + order.points.len();
        // A single point has no order.
        if points <= MAX_KEPT && order.points.len() > 1 {
            self.points = points;
            match by_family.get_mut(family) {
                Some(known) => *known = order,
                None => drop(by_family.insert(family.to_owned(), order)),
            }
        }
    }

    /// Forgets families that are no more.
    pub(super) fn keep_to(&mut self, escaping: Escaping, entries: &[Entry<'_>]) {
        let is_there = |family: &str| entries.binary_search_by(|entry| entry.name.as_str().cmp(family)).is_ok();
        if let Some(by_family) = self.by_family.get_mut(&escaping).filter(|known| known.len() > entries.len()) {
            by_family.retain(|family, _| is_there(family));
        }
        self.points = self.by_family.values().flat_map(HashMap::values).map(|order| order.points.len()).sum();
    }
}

/// What became of a family's points.
#[derive(Debug, Default)]
pub(super) struct Walked {
    pub(super) written: usize,
    /// Of each metric of the family: points whose labels are those of another one, and points whose value no format can
    /// show.
    pub(super) left_out: Vec<LeftOut>,
    /// The order to begin with next time.
    pub(super) order: Option<Order>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub(super) duplicates: usize,
    pub(super) invalid: usize,
}

/// Gives every point to `write`, in order, until it has enough.
pub(super) fn walk<'a>(
    members: &mut Members<'a>,
    names: &mut LabelNames,
    known: Option<Order>,
    write: impl FnMut(Labels<'_>, &Value<'a>, Option<SystemTime>, &[ExemplarSample<'_>]) -> bool,
) -> Walked {
    let count = u32::try_from(members.len()).unwrap_or(u32::MAX);
    let mut walk = Walk::new(members, names, write);
    if count as usize > WINDOW {
        walk.windows(count, WINDOW);
        return walk.walked;
    }
    let needs_no_look = count as usize > FEW && walk.members.only_grow();
    let right = known.filter(|order| (order.is_proven && needs_no_look) || walk.is_sorted(&order.points));
    let mut order = match right {
        Some(order) => Order { is_proven: true, ..order },
        None => Order { points: walk.sorted(count).into(), is_proven: false },
    };
    if let Next::Disorder { position } = walk.write_all(&order.points) {
        let mut is_done = vec![false; order.points.len()];
        order.points[..position].iter().for_each(|&point| is_done[point as usize] = true);
        order = Order { points: walk.sorted(count).into(), is_proven: false };
        walk.write_rest(&order.points, &is_done);
    }
    walk.walked.order = Some(order);
    walk.walked
}

struct Walk<'w, 'a, W> {
    members: &'w mut Members<'a>,
    names: &'w mut LabelNames,
    write: W,
    /// The labels of the point before, and whether it or one like it was written.
    last: Option<Vec<Label<'a>>>,
    is_last_written: bool,
    /// The labels of the point that is looked at.
    current: Vec<Label<'a>>,
    /// How many of the first labels all points have had since one was written.
    same: usize,
    walked: Walked,
}

/// How writing some points ended.
enum Next {
    GoOn,
    Enough,
    /// The point at this position should have come before the one before it.
    Disorder {
        position: usize,
    },
}

impl<'w, 'a, W: FnMut(Labels<'_>, &Value<'a>, Option<SystemTime>, &[ExemplarSample<'_>]) -> bool> Walk<'w, 'a, W> {
    fn new(members: &'w mut Members<'a>, names: &'w mut LabelNames, write: W) -> Self {
        let left_out = vec![LeftOut::default(); members.count()];
        Self {
            members,
            names,
            write,
            last: None,
            is_last_written: false,
            current: Vec::new(),
            same: usize::MAX,
            walked: Walked { left_out, ..Walked::default() },
        }
    }

    /// Writes points that are in order.
    fn write_all(&mut self, points: &[u32]) -> Next {
        for (position, &point) in points.iter().enumerate() {
            if position % FETCHED == 0 {
                self.members.fetch(&points[position..points.len().min(position + FETCHED)]);
            }
            let value = self.members.point(point, self.names, &mut self.current);
            let (order, same) = match &self.last {
                Some(last) => compare(last, &self.current, self.names),
                None => (Ordering::Less, 0),
            };
            match order {
                Ordering::Less => self.is_last_written = false,
                // Another one of these is there already, or will be if it can be shown.
                Ordering::Equal if self.is_last_written => {
                    self.left_out(point).duplicates += 1;
                    continue;
                }
                Ordering::Equal => {}
                Ordering::Greater => return Next::Disorder { position },
            }
            self.same = self.same.min(same);
            let go_on = match value {
                Some((value, start)) => self.write(point, &value, start),
                None => {
                    self.left_out(point).invalid += 1;
                    true
                }
            };
            std::mem::swap(self.last.get_or_insert_default(), &mut self.current);
            if !go_on {
                return Next::Enough;
            }
        }
        Next::GoOn
    }

    /// Writes the point that is looked at.
    fn write(&mut self, point: u32, value: &Value<'a>, start: Option<SystemTime>) -> bool {
        self.walked.written += 1;
        self.is_last_written = true;
        let same = std::mem::replace(&mut self.same, usize::MAX);
        // An empty list takes no memory, and nearly all are empty.
        let exemplars = self.members.exemplars(point);
        (self.write)(Labels { names: self.names, labels: &self.current, same }, value, start, &exemplars)
    }

    /// What is left out of the metric that a point belongs to.
    fn left_out(&mut self, point: u32) -> &mut LeftOut {
        let member = self.members.member(point).unwrap_or_default();
        &mut self.walked.left_out[member]
    }

    /// Writes those of all points, given in order, whose labels no point has that is done.
    fn write_rest(&mut self, points: &[u32], is_done: &[bool]) {
        let mut rest = points;
        while let Some(&first) = rest.first() {
            let mut by_labels = ByLabels::new(self.members, self.names);
            let alike = 1 + rest[1..].iter().take_while(|&&point| by_labels.are_alike(first, point)).count();
            let mut is_written = rest[..alike].iter().any(|&point| is_done[point as usize]);
            for &point in rest[..alike].iter().filter(|&&point| !is_done[point as usize]) {
                match self.members.point(point, self.names, &mut self.current) {
                    _ if is_written => self.left_out(point).duplicates += 1,
                    None => self.left_out(point).invalid += 1,
                    Some((value, start)) => {
                        is_written = true;
                        self.same = 0;
                        if !self.write(point, &value, start) {
                            return;
                        }
                    }
                }
            }
            rest = &rest[alike..];
        }
    }

    /// Writes any number of points with a list of bounded length: in as many passes over all points as there are windows.
    fn windows(&mut self, count: u32, size: usize) {
        let mut window: Vec<u32> = Vec::with_capacity(size);
        // The last point of the windows so far, and the first one that is for a later window, with their labels.
        let mut after: Option<(u32, Vec<Label<'a>>)> = None;
        loop {
            window.clear();
            let mut bound: Option<(u32, Vec<Label<'a>>)> = None;
            for point in 0..count {
                self.members.point(point, self.names, &mut self.current);
                let order = |other: &Option<(u32, Vec<Label<'a>>)>| {
                    let (other, labels) = other.as_ref()?;
                    let by_labels = compare(labels, &self.current, self.names).0;
                    Some(by_labels.then_with(|| self.members.precedence(*other, point)))
                };
                if order(&after).is_some_and(Ordering::is_ge) || order(&bound).is_some_and(Ordering::is_le) {
                    continue;
                }
                window.push(point);
                if window.len() == size {
                    let mut by_labels = ByLabels::new(self.members, self.names);
                    window.select_nth_unstable_by(size / 2, |&a, &b| by_labels.compare(a, b));
                    bound = Some(self.labelled(window[size / 2]));
                    window.truncate(size / 2);
                }
            }
            let mut by_labels = ByLabels::new(self.members, self.names);
            window.sort_unstable_by(|&a, &b| by_labels.compare(a, b));
            after = window.last().map(|&last| self.labelled(last));
            if !matches!(self.write_all(&window), Next::GoOn) || bound.is_none() {
                return;
            }
        }
    }

    fn labelled(&mut self, point: u32) -> (u32, Vec<Label<'a>>) {
        let mut labels = Vec::new();
        self.members.point(point, self.names, &mut labels);
        (point, labels)
    }

    fn sorted(&mut self, count: u32) -> Vec<u32> {
        let mut points: Vec<u32> = (0..count).collect();
        let mut by_labels = ByLabels::new(self.members, self.names);
        points.sort_unstable_by(|&a, &b| by_labels.compare(a, b));
        points
    }

    fn is_sorted(&mut self, points: &[u32]) -> bool {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        let mut pairs = points.windows(2);
        if let Some(&first) = points.first() {
            self.members.point(first, self.names, &mut a);
        }
        pairs.all(|pair| {
            self.members.point(pair[1], self.names, &mut b);
            let order = compare(&a, &b, self.names).0.then_with(|| self.members.precedence(pair[0], pair[1]));
            std::mem::swap(&mut a, &mut b);
            order.is_lt()
        })
    }
}

/// Compares points by their labels, and those with the same labels by what the labels were made of.
struct ByLabels<'w, 'a> {
    members: &'w mut Members<'a>,
    names: &'w mut LabelNames,
    a: Vec<Label<'a>>,
    b: Vec<Label<'a>>,
}

impl<'w, 'a> ByLabels<'w, 'a> {
    fn new(members: &'w mut Members<'a>, names: &'w mut LabelNames) -> Self {
        Self { members, names, a: Vec::new(), b: Vec::new() }
    }

    fn compare(&mut self, a: u32, b: u32) -> Ordering {
        self.members.point(a, self.names, &mut self.a);
        self.members.point(b, self.names, &mut self.b);
        compare(&self.a, &self.b, self.names).0.then_with(|| self.members.precedence(a, b))
    }

    fn are_alike(&mut self, a: u32, b: u32) -> bool {
        self.members.point(a, self.names, &mut self.a);
        self.members.point(b, self.names, &mut self.b);
        compare(&self.a, &self.b, self.names).0.is_eq()
    }
}

/// The order of two sets of labels, and how many of the first labels they have in common.
fn compare(a: &[Label<'_>], b: &[Label<'_>], names: &LabelNames) -> (Ordering, usize) {
    for (same, (a, b)) in a.iter().zip(b).enumerate() {
        let by_name = if a.name == b.name { Ordering::Equal } else { names.name(a.name).cmp(names.name(b.name)) };
        let order = by_name.then_with(|| a.value.as_bytes().cmp(b.value.as_bytes()));
        if order.is_ne() {
            return (order, same);
        }
    }
    (a.len().cmp(&b.len()), a.len().min(b.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exporter::prometheus::labels::FixedLabels;
    use crate::exporter::prometheus::series::Series;
    use crate::exposition::{FamilyKind, Naming, Number};
    use prometheus::proto::{Gauge, LabelPair, Metric};

    /// A point for each number, whose label is the number and whose value is its place. One that is not a number is
    /// none.
    fn metrics(numbers: &[u32]) -> Vec<Metric> {
        let metric = |(place, number): (usize, &u32)| {
            let mut label = LabelPair::default();
            label.set_name("n".to_owned());
            label.set_value(format!("{number:06}"));
            let mut gauge = Gauge::default();
            gauge.set_value(place as f64);
            let mut metric = Metric::from_label(vec![label]);
            metric.set_gauge(gauge);
            metric
        };
        numbers.iter().enumerate().map(metric).collect()
    }

    /// Writes the points and returns their labels in the order in which they were written.
    fn written(
        metrics: &[Metric],
        walk: impl FnOnce(&mut Members<'_>, &mut dyn FnMut(String, f64, usize) -> bool) -> Walked,
    ) -> (Vec<(String, f64)>, Walked) {
        let (naming, fixed, mut written) = (Naming::default(), FixedLabels::default(), Vec::new());
        let mut members = Members::new(&naming, Escaping::Underscores, FamilyKind::Gauge);
        members.push(Series::Registry(FamilyKind::Gauge, metrics), &[], &fixed, None);
        let walked = walk(&mut members, &mut |label, value, _| {
            written.push((label, value));
            true
        });
        (written, walked)
    }

    fn take<'t>(
        write: &'t mut dyn FnMut(String, f64, usize) -> bool,
    ) -> impl FnMut(Labels<'_>, &Value<'_>, Option<SystemTime>, &[ExemplarSample<'_>]) -> bool + 't {
        |labels, value, _, _| {
            let Value::Number(Number::Float(value)) = value else { panic!("a gauge") };
            let label = labels.iter().next().unwrap().1.to_owned();
            write(label, *value, labels.same)
        }
    }

    fn known(metrics: &[Metric], order: Option<Order>) -> (Vec<(String, f64)>, Walked) {
        written(metrics, |members, write| walk(members, &mut LabelNames::default(), order, take(write)))
    }

    fn duplicates(walked: &Walked) -> usize {
        walked.left_out.iter().map(|left_out| left_out.duplicates).sum()
    }

    fn expected(numbers: &[u32]) -> Vec<String> {
        let mut all: Vec<String> = numbers.iter().map(|number| format!("{number:06}")).collect();
        all.sort();
        all.dedup();
        all
    }

    fn labels(written: &[(String, f64)]) -> Vec<String> {
        written.iter().map(|(label, _)| label.clone()).collect()
    }

    fn scattered(count: u32) -> Vec<u32> {
        (0..count).map(|n| n * 7_919 % 10_007).collect()
    }

    #[test]
    fn points_are_written_in_order_and_of_those_alike_the_first() {
        let numbers = [3, 1, 2, 1, 3, 3];
        let (written, walked) = known(&metrics(&numbers), None);
        assert_eq!(written, [("000001".to_owned(), 1.0), ("000002".to_owned(), 2.0), ("000003".to_owned(), 0.0)]);
        assert_eq!((walked.written, duplicates(&walked)), (3, 3));
    }

    #[test]
    fn an_order_is_used_again_while_it_is_right_and_made_anew_when_it_is_not() {
        for count in [10, 1_000] {
            let numbers = scattered(count);
            let first = known(&metrics(&numbers), None).1.order.unwrap();
            let second = known(&metrics(&numbers), Some(first.clone())).1.order.unwrap();
            assert!(!first.is_proven && second.is_proven && Arc::ptr_eq(&first.points, &second.points));

            // As many points in another order, as an observable instrument has in every scrape.
            let mut other = numbers.clone();
            other.reverse();
            let (written, walked) = known(&metrics(&other), Some(first));
            assert_eq!(labels(&written), expected(&other));
            assert!(!walked.order.unwrap().is_proven);
        }
    }

    #[test]
    fn a_proven_order_that_is_wrong_all_the_same_loses_no_point_and_writes_none_twice() {
        let mut numbers = scattered(1_000);
        let first = known(&metrics(&numbers), None).1.order.unwrap();
        let proven = Order { is_proven: true, ..first };
        numbers.reverse();
        let repeated = numbers[0];
        numbers[500..510].fill(repeated);
        let (written, walked) = known(&metrics(&numbers), Some(proven));
        let mut found = labels(&written);
        found.sort();
        assert_eq!(found, expected(&numbers), "sorted, none twice");
        assert_eq!(walked.written + duplicates(&walked), 1_000);
        let (written, _) = known(&metrics(&numbers), walked.order);
        assert_eq!(labels(&written), expected(&numbers), "and the next time in order");
    }

    #[test]
    fn windows_write_what_one_list_would() {
        for (numbers, size) in [
            (scattered(1_000), 8),
            (scattered(1_000), 999),
            (scattered(1_000), 1_000),
            (scattered(1_000), 1_001),
            (vec![5; 100], 8),
            ([scattered(50), vec![7_919; 100], scattered(50)].concat(), 16),
            (vec![1], 8),
        ] {
            let count = numbers.len();
            let metrics = metrics(&numbers);
            let (written, walked) = written(&metrics, |members, write| {
                let mut names = LabelNames::default();
                let mut walk = Walk::new(members, &mut names, take(write));
                walk.windows(count as u32, size);
                walk.walked
            });
            assert_eq!(written, known(&metrics, None).0, "{count} points in windows of {size}");
            assert_eq!(walked.written + duplicates(&walked), count);
        }
    }
}
