//! From attributes to labels.
//!
//! Points of one metric nearly always carry the same keys in the same order. So how keys become labels (translated,
//! sorted, collisions joined, the scope's labels in their places) is worked out once for each *shape*, and a point only
//! fills its values in.

use std::borrow::Cow;
use std::collections::HashMap;

use opentelemetry::{InstrumentationScope, Key, KeyValue, Value};
use prometheus::proto::LabelPair;

use crate::exposition::{FamilyKind, Label, LabelNames, label_name};

/// A key and its value, wherever they come from.
pub(super) trait Pair<'a> {
    fn key(&self) -> &'a str;
    fn value(&self) -> Cow<'a, str>;
}

impl<'a> Pair<'a> for &'a KeyValue {
    fn key(&self) -> &'a str {
        self.key.as_str()
    }

    fn value(&self) -> Cow<'a, str> {
        text(&self.value)
    }
}

impl<'a> Pair<'a> for (&'a Key, &'a Value) {
    fn key(&self) -> &'a str {
        self.0.as_str()
    }

    fn value(&self) -> Cow<'a, str> {
        text(self.1)
    }
}

impl<'a> Pair<'a> for &'a LabelPair {
    fn key(&self) -> &'a str {
        self.name()
    }

    fn value(&self) -> Cow<'a, str> {
        Cow::Borrowed(LabelPair::value(self))
    }
}

fn text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text.as_str()),
        Value::Bool(true) => Cow::Borrowed("true"),
        Value::Bool(false) => Cow::Borrowed("false"),
        other => other.to_string().into(),
    }
}

/// The labels that every point of a meter carries: `otel_scope_name`, `otel_scope_version`, `otel_scope_schema_url` and
/// the scope's attributes.
pub(super) struct ScopeLabels(Vec<(String, String)>);

const SCOPE_LABELS: [&str; 3] = ["otel_scope_name", "otel_scope_version", "otel_scope_schema_url"];

impl ScopeLabels {
    pub(super) fn new(scope: &InstrumentationScope) -> Self {
        let [name, version, schema_url] = SCOPE_LABELS;
        let mut labels = vec![(name.to_owned(), scope.name().to_owned())];
        labels.extend(scope.version().map(|value| (version.to_owned(), value.to_owned())));
        labels.extend(scope.schema_url().map(|value| (schema_url.to_owned(), value.to_owned())));
        for attribute in scope.attributes() {
            let key = format!("otel_scope_{}", attribute.key);
            // An attribute must not pose as the scope's name, version or schema.
            if !SCOPE_LABELS.contains(&label_name(&key, FamilyKind::Untyped).as_ref()) {
                labels.push((key, text(&attribute.value).into_owned()));
            }
        }
        Self(labels)
    }
}

/// How the points of one metric of one meter become labels.
pub(super) struct Shapes<'a, 'n> {
    kind: FamilyKind,
    scope: &'a [(String, String)],
    names: &'n mut LabelNames,
    shapes: Vec<Shape<'a>>,
    by_keys: HashMap<Vec<&'a str>, usize>,
    last: usize,
}

/// The labels of points with these keys in this order.
struct Shape<'a> {
    keys: Vec<&'a str>,
    labels: Vec<(u32, Source)>,
}

/// So many shapes are looked at one by one before a map is asked, which needs the keys in a list.
const FEW_SHAPES: usize = 4;

/// Where a label's value comes from.
enum Source {
    /// The attribute at this position.
    Attribute(usize),
    /// The scope's label at this position.
    Scope(usize),
    /// Several keys that became one name: their values joined with `;`, in the order of the keys.
    Joined(Vec<Self>),
}

impl<'a, 'n> Shapes<'a, 'n> {
    pub(super) fn new(kind: FamilyKind, scope: Option<&'a ScopeLabels>, names: &'n mut LabelNames) -> Self {
        let scope = scope.map_or(&[][..], |scope| &scope.0);
        Self { kind, scope, names, shapes: Vec::new(), by_keys: HashMap::new(), last: 0 }
    }

    /// Appends the labels of a point, sorted by name.
    pub(super) fn append<P: Pair<'a>, I: Iterator<Item = P>>(
        &mut self,
        pairs: &impl Fn() -> I,
        labels: &mut Vec<Label<'a>>,
    ) {
        let fits = |shape: &Shape<'_>| {
            let mut keys = shape.keys.iter();
            pairs().all(|pair| keys.next() == Some(&pair.key())) && keys.next().is_none()
        };
        // Nearly always the shape of the point before, or the other of two: the SDK keeps attributes as they came and
        // sorted.
        let last = self.shapes.get(self.last).filter(|shape| fits(shape)).map(|_| self.last);
        self.last = match last.or_else(|| self.shapes.iter().take(FEW_SHAPES).position(fits)) {
            Some(index) => index,
            None => self.find(pairs().map(|pair| pair.key()).collect()),
        };
        let scope = self.scope;
        let all = self.shapes[self.last]
            .labels
            .iter()
            .map(|(name, source)| Label { name: *name, value: source.value(pairs, scope) });
        // To Prometheus an empty value is no label at all.
        labels.extend(all.filter(|label| !label.value.is_empty()));
    }

    /// The shape of these keys, made if it is new.
    fn find(&mut self, keys: Vec<&'a str>) -> usize {
        if let Some(&index) = self.by_keys.get(&keys) {
            return index;
        }
        let shape = self.shape(keys.clone());
        self.shapes.push(shape);
        self.by_keys.insert(keys, self.shapes.len() - 1);
        self.shapes.len() - 1
    }

    fn shape(&mut self, keys: Vec<&'a str>) -> Shape<'a> {
        // Of a key that stands twice the SDK means the first, whichever of its copies of the attributes we are given.
        let first_of_its_name = |&(index, key): &(usize, &&str)| !keys[..index].contains(key);
        let attributes = keys
            .iter()
            .enumerate()
            .filter(first_of_its_name)
            .map(|(index, &key)| (label_name(key, self.kind), key, Source::Attribute(index)));
        let scope = self
            .scope
            .iter()
            .enumerate()
            .map(|(index, (key, _))| (label_name(key, self.kind), key.as_str(), Source::Scope(index)));
        let mut sources: Vec<(Cow<'_, str>, &str, Source)> = attributes.chain(scope).collect();
        sources.sort_by(|(a, a_key, _), (b, b_key, _)| (a, a_key).cmp(&(b, b_key)));

        let mut labels: Vec<(u32, Source)> = Vec::with_capacity(sources.len());
        for (name, _, source) in sources {
            let number = self.names.number(&name);
            match labels.last_mut() {
                Some((last, Source::Joined(joined))) if *last == number => joined.push(source),
                Some((last, only)) if *last == number => {
                    let first = std::mem::replace(only, Source::Scope(0));
                    *only = Source::Joined(vec![first, source]);
                }
                _ => labels.push((number, source)),
            }
        }
        Shape { keys, labels }
    }
}

impl Source {
    fn value<'a, P: Pair<'a>, I: Iterator<Item = P>>(
        &self,
        pairs: &impl Fn() -> I,
        scope: &'a [(String, String)],
    ) -> Cow<'a, str> {
        match self {
            Self::Attribute(index) => pairs().nth(*index).map_or(Cow::Borrowed(""), |pair| pair.value()),
            Self::Scope(index) => scope.get(*index).map_or(Cow::Borrowed(""), |(_, value)| Cow::Borrowed(value)),
            Self::Joined(sources) => {
                sources.iter().map(|source| source.value(pairs, scope)).collect::<Vec<_>>().join(";").into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(attributes: &[KeyValue], scope: &InstrumentationScope, kind: FamilyKind) -> Vec<(String, String)> {
        let scope = ScopeLabels::new(scope);
        let mut names = LabelNames::default();
        let mut labels = Vec::new();
        Shapes::new(kind, Some(&scope), &mut names).append(&|| attributes.iter(), &mut labels);
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
            KeyValue::new("n", 7),
        ];
        let scope = InstrumentationScope::builder("meter").build();
        assert_eq!(
            labels(&attributes, &scope, FamilyKind::Counter),
            pairs(&[("a_b", "first;second;third"), ("n", "7"), ("otel_scope_name", "meter"), ("z", "true")])
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
            labels(&[KeyValue::new("otel.scope.name", "user")], &scope, FamilyKind::Counter),
            pairs(&[
                ("otel_scope_name", "user;meter"),
                ("otel_scope_schema_url", "https://example.com/schema"),
                ("otel_scope_team", "core"),
                ("otel_scope_version", "1.2"),
            ])
        );
    }
}
