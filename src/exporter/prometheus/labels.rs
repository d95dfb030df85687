//! From attributes to labels.
//!
//! Points of one metric nearly always carry the same keys in the same order. So how keys become labels (translated,
//! sorted, collisions joined, the scope's labels in their places) is worked out once for each *shape*, and a point only
//! fills its values in.

use std::borrow::Cow;
use std::cmp::Ordering;

use opentelemetry::{Array, InstrumentationScope, Key, KeyValue, Value};
use prometheus::proto::LabelPair;

use crate::exposition::{Escaping, FamilyKind, Label, LabelNames, Naming, label_name};

/// A key and its value, wherever they come from.
#[derive(Clone, Copy)]
pub(super) struct Pair<'a> {
    key: &'a str,
    value: PairValue<'a>,
}

#[derive(Clone, Copy)]
enum PairValue<'a> {
    Any(&'a Value),
    Text(&'a str),
}

impl PairValue<'_> {
    /// Tells values of different types apart that read the same.
    fn rank(&self) -> u8 {
        match self {
            Self::Text(_) | Self::Any(Value::String(_)) => 0,
            Self::Any(Value::Bool(_)) => 1,
            Self::Any(Value::I64(_)) => 2,
            Self::Any(Value::F64(_)) => 3,
            Self::Any(Value::Array(Array::Bool(_))) => 4,
            Self::Any(Value::Array(Array::I64(_))) => 5,
            Self::Any(Value::Array(Array::F64(_))) => 6,
            Self::Any(Value::Array(Array::String(_))) => 7,
            Self::Any(_) => u8::MAX,
        }
    }
}

impl<'a> Pair<'a> {
    fn text(&self) -> Cow<'a, str> {
        match self.value {
            PairValue::Any(value) => text(value),
            PairValue::Text(text) => Cow::Borrowed(text),
        }
    }
}

impl<'a> From<&'a KeyValue> for Pair<'a> {
    fn from(pair: &'a KeyValue) -> Self {
        Self { key: pair.key.as_str(), value: PairValue::Any(&pair.value) }
    }
}

impl<'a> From<(&'a Key, &'a Value)> for Pair<'a> {
    fn from((key, value): (&'a Key, &'a Value)) -> Self {
        Self { key: key.as_str(), value: PairValue::Any(value) }
    }
}

impl<'a> From<&'a LabelPair> for Pair<'a> {
    fn from(pair: &'a LabelPair) -> Self {
        Self { key: pair.name(), value: PairValue::Text(pair.value()) }
    }
}

/// Compares two sets of attributes, in whatever order the SDK keeps them.
pub(super) fn compare_pairs<'a>(mut a: Vec<Pair<'a>>, mut b: Vec<Pair<'a>>) -> Ordering {
    for pairs in [&mut a, &mut b] {
        pairs.sort_by_key(|pair| pair.key);
        // Of a key that stands twice the first counts.
        pairs.dedup_by_key(|pair| pair.key);
    }
    let compare = |a: &Pair<'_>, b: &Pair<'_>| {
        let by_value = || a.text().cmp(&b.text()).then_with(|| a.value.rank().cmp(&b.value.rank()));
        a.key.cmp(b.key).then_with(by_value)
    };
    let unequal = a.iter().zip(&b).map(|(a, b)| compare(a, b)).find(|order| order.is_ne());
    unequal.unwrap_or(a.len().cmp(&b.len()))
}

pub(super) fn text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text.as_str()),
        Value::Bool(true) => Cow::Borrowed("true"),
        Value::Bool(false) => Cow::Borrowed("false"),
        Value::I64(number) => itoa::Buffer::new().format(*number).to_owned().into(),
        other => other.to_string().into(),
    }
}

/// The labels that every point of a meter carries: `otel_scope_name`, `otel_scope_version`, `otel_scope_schema_url`, the
/// scope's attributes, and attributes of the resource that are wanted as labels. Keys as they are before translation.
#[derive(Default)]
pub(super) struct FixedLabels(Vec<(String, String)>);

const SCOPE_LABELS: [&str; 3] = ["otel_scope_name", "otel_scope_version", "otel_scope_schema_url"];

impl FixedLabels {
    pub(super) fn new(scope: Option<&InstrumentationScope>, constant: &[(&Key, &Value)]) -> Self {
        let mut labels: Vec<(String, String)> =
            constant.iter().map(|(key, value)| (key.to_string(), text(value).into_owned())).collect();
        if let Some(scope) = scope {
            let [name, version, schema_url] = SCOPE_LABELS;
            labels.push((name.to_owned(), scope.name().to_owned()));
            labels.extend(scope.version().map(|value| (version.to_owned(), value.to_owned())));
            labels.extend(scope.schema_url().map(|value| (schema_url.to_owned(), value.to_owned())));
            for attribute in scope.attributes() {
                let key = format!("otel_scope_{}", attribute.key);
                // An attribute must not pose as the scope's name, version or schema, in whatever format.
                if !SCOPE_LABELS.contains(&Naming::default().label(&key).as_ref()) {
                    labels.push((key, text(&attribute.value).into_owned()));
                }
            }
        }
        Self(labels)
    }
}

/// How the points of one metric of one meter become labels.
pub(super) struct Shapes<'a> {
    kind: FamilyKind,
    /// How keys are named, those of the points and the fixed ones.
    naming: &'a Naming,
    fixed_naming: &'a Naming,
    escaping: Escaping,
    fixed: &'a [(String, String)],
    shapes: Vec<Shape<'a>>,
    last: usize,
}

/// The labels of points with these keys in this order.
struct Shape<'a> {
    keys: Vec<&'a str>,
    labels: Vec<(u32, Source)>,
}

/// So many shapes are kept of a metric. Whoever has more makes keys at run time, and has a shape worked out again.
const MAX_SHAPES: usize = 16;

/// Where a label's value comes from.
enum Source {
    /// The attribute at this position.
    Attribute(usize),
    /// The fixed label at this position.
    Fixed(usize),
    /// Several keys that became one name: their values joined with `;`, in the order of the keys.
    Joined(Vec<Self>),
}

impl<'a> Shapes<'a> {
    pub(super) fn new(
        kind: FamilyKind,
        naming: &'a Naming,
        fixed_naming: &'a Naming,
        escaping: Escaping,
        fixed: &'a FixedLabels,
    ) -> Self {
        Self { kind, naming, fixed_naming, escaping, fixed: &fixed.0, shapes: Vec::new(), last: 0 }
    }

    /// Appends the labels of a point, sorted by name.
    pub(super) fn labels(&mut self, pairs: &[Pair<'a>], names: &mut LabelNames, labels: &mut Vec<Label<'a>>) {
        // Nearly always the shape of the point before: the SDK keeps attributes as they came, or sorted.
        if !self.shapes.get(self.last).is_some_and(|shape| shape.fits(pairs)) {
            self.last = match self.shapes.iter().position(|shape| shape.fits(pairs)) {
                Some(index) => index,
                None => self.add(pairs, names),
            };
        }
        let fixed = self.fixed;
        for (name, source) in &self.shapes[self.last].labels {
            let value = source.value(pairs, fixed);
            // To Prometheus an empty value is no label at all.
            if !value.is_empty() {
                labels.push(Label { name: *name, value });
            }
        }
    }

    fn add(&mut self, pairs: &[Pair<'a>], names: &mut LabelNames) -> usize {
        let shape = self.shape(pairs.iter().map(|pair| pair.key).collect(), names);
        if self.shapes.len() == MAX_SHAPES {
            self.shapes.clear();
        }
        self.shapes.push(shape);
        self.shapes.len() - 1
    }

    fn shape(&self, keys: Vec<&'a str>, names: &mut LabelNames) -> Shape<'a> {
        // Of a key that stands twice the SDK means the first, whichever of its copies of the attributes we are given.
        let first_of_its_name = |&(index, key): &(usize, &&str)| !keys[..index].contains(key);
        let name = |key, naming| label_name(key, self.kind, naming, self.escaping);
        let attributes = keys
            .iter()
            .enumerate()
            .filter(first_of_its_name)
            .map(|(index, &key)| (name(key, self.naming), key, Source::Attribute(index)));
        let named = |(index, (key, _)): (usize, &'a (String, String))| {
            (name(key, self.fixed_naming), key.as_str(), Source::Fixed(index))
        };
        let fixed = self.fixed.iter().enumerate().map(named);
        let mut sources: Vec<(Cow<'_, str>, &str, Source)> = attributes.chain(fixed).collect();
        sources.sort_by(|(a, a_key, _), (b, b_key, _)| (a, a_key).cmp(&(b, b_key)));

        let mut labels: Vec<(u32, Source)> = Vec::with_capacity(sources.len());
        for (name, _, source) in sources {
            let number = names.number(&name);
            match labels.last_mut() {
                Some((last, Source::Joined(joined))) if *last == number => joined.push(source),
                Some((last, only)) if *last == number => {
                    let first = std::mem::replace(only, Source::Fixed(0));
                    *only = Source::Joined(vec![first, source]);
                }
                _ => labels.push((number, source)),
            }
        }
        Shape { keys, labels }
    }
}

impl Shape<'_> {
    fn fits(&self, pairs: &[Pair<'_>]) -> bool {
        // Most keys are constants of the program: the same text at the same place.
        let is_same = |a: &str, b: &str| (std::ptr::eq(a, b)) || a == b;
        self.keys.len() == pairs.len() && self.keys.iter().zip(pairs).all(|(key, pair)| is_same(key, pair.key))
    }
}

impl Source {
    fn value<'a>(&self, pairs: &[Pair<'a>], fixed: &'a [(String, String)]) -> Cow<'a, str> {
        match self {
            Self::Attribute(index) => pairs.get(*index).map_or(Cow::Borrowed(""), Pair::text),
            Self::Fixed(index) => fixed.get(*index).map_or(Cow::Borrowed(""), |(_, value)| Cow::Borrowed(value)),
            Self::Joined(sources) => {
                sources.iter().map(|source| source.value(pairs, fixed)).collect::<Vec<_>>().join(";").into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(
        attributes: &[KeyValue],
        scope: Option<&InstrumentationScope>,
        constant: &[(&Key, &Value)],
    ) -> Vec<(String, String)> {
        let fixed = FixedLabels::new(scope, constant);
        let (naming, mut names, mut labels) = (Naming::default(), LabelNames::default(), Vec::new());
        let pairs: Vec<Pair<'_>> = attributes.iter().map(Pair::from).collect();
        Shapes::new(FamilyKind::Counter, &naming, &naming, Escaping::Underscores, &fixed).labels(
            &pairs,
            &mut names,
            &mut labels,
        );
        labels.iter().map(|label| (names.name(label.name).to_owned(), label.value.to_string())).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn labels_are_sorted_by_name_and_colliding_values_joined_in_the_order_of_their_keys() {
        let attributes = [
            KeyValue::new("z", true),
            KeyValue::new("a.b", "second"),
            KeyValue::new("a-b", "first"),
            KeyValue::new("a_b", "third"),
            KeyValue::new("n", -7),
        ];
        let scope = InstrumentationScope::builder("meter").build();
        assert_eq!(
            labels(&attributes, Some(&scope), &[]),
            pairs(&[("a_b", "first;second;third"), ("n", "-7"), ("otel_scope_name", "meter"), ("z", "true")])
        );
    }

    #[test]
    fn a_scope_shows_its_name_version_schema_and_attributes_and_none_can_pose_as_them() {
        let scope = InstrumentationScope::builder("meter")
            .with_version("1.2")
            .with_schema_url("https://example.com/schema")
            .with_attributes([
                KeyValue::new("team", "core"),
                KeyValue::new("version", "9"),
                KeyValue::new("schema.url", "x"),
            ])
            .build();
        assert_eq!(
            labels(&[KeyValue::new("otel.scope.name", "user")], Some(&scope), &[]),
            pairs(&[
                ("otel_scope_name", "user;meter"),
                ("otel_scope_schema_url", "https://example.com/schema"),
                ("otel_scope_team", "core"),
                ("otel_scope_version", "1.2"),
            ])
        );
    }

    #[test]
    fn attributes_of_the_resource_join_those_of_the_point() {
        let (key, value) = (Key::from("service.name"), Value::from("checkout"));
        assert_eq!(
            labels(&[KeyValue::new("service_name", "own")], None, &[(&key, &value)]),
            pairs(&[("service_name", "checkout;own")])
        );
    }
}
