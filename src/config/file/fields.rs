//! What every part of the decoder needs: a node with the setting that it is, and its value as a type.
//!
//! Whatever is looked up has its origin noted, so that a setting can say later where it comes from. "Missing" and "null"
//! are two things: what is missing is `None` from [`Decoder::get`], and each type says itself what null is to it.

use std::ops::RangeInclusive;
use std::path::Path;

use super::yaml::{Entry, Node, Place, Value, shortened};
use crate::config::Configuration;
use crate::error::{ConfigError, Origin};

/// Turns nodes into values, and keeps what there is to say about them.
pub(crate) struct Decoder<'a> {
    file: &'a Path,
    pub(crate) configuration: Configuration,
}

/// A node, and the setting that it is.
pub(crate) struct Field<'a> {
    node: &'a Node,
    /// Where a message points to: the value, or the key where there is none.
    place: Place,
    key: &'a str,
    pub(crate) path: String,
}

/// The entries of a mapping.
pub(crate) struct Fields<'a> {
    entries: &'a [Entry],
    place: Place,
    path: String,
}

impl<'a> Field<'a> {
    pub(crate) fn root(node: &'a Node) -> Self {
        Self { node, place: node.place, key: "", path: String::new() }
    }

    fn of(entry: &'a Entry, parent: &str) -> Self {
        let Entry { key, place, value } = entry;
        let place = if value.value == Value::Null { *place } else { value.place };
        Self { node: value, place, key, path: joined(parent, key) }
    }

    pub(crate) fn key(&self) -> &'a str {
        self.key
    }

    pub(crate) fn value(&self) -> &'a Value {
        &self.node.value
    }

    pub(crate) fn is_null(&self) -> bool {
        self.node.value == Value::Null
    }
}

impl<'a> Fields<'a> {
    pub(crate) fn all(&self) -> impl Iterator<Item = Field<'a>> {
        self.entries.iter().map(|entry| Field::of(entry, &self.path))
    }
}

fn joined(parent: &str, key: &str) -> String {
    if parent.is_empty() { shortened(key) } else { format!("{parent}.{}", shortened(key)) }
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(file: &'a Path) -> Self {
        Self { file, configuration: Configuration::default() }
    }

    pub(crate) fn error(&self, place: Place, path: &str, problem: impl Into<String>) -> ConfigError {
        ConfigError { origin: self.origin(place), path: path.to_owned(), problem: problem.into() }
    }

    pub(crate) fn error_at(&self, field: &Field<'_>, problem: impl Into<String>) -> ConfigError {
        self.error(field.place, &field.path, problem)
    }

    /// The value is something else than expected. Its kind is named and not the value: it may come from a variable.
    pub(crate) fn wrong(&self, field: &Field<'_>, expected: &str) -> ConfigError {
        let found = match field.value() {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Integer(_) => "an integer",
            Value::Float(_) => "a number with a fraction",
            Value::String(_) => "a string",
            Value::Sequence(_) => "a list",
            Value::Mapping(_) => "a mapping",
        };
        self.error_at(field, format!("{found}, expected {expected}"))
    }

    /// A warning reads as the error at its place would.
    pub(crate) fn warn(&mut self, field: &Field<'_>, problem: String) {
        let warning = self.error_at(field, problem).to_string();
        self.configuration.warnings.push(warning);
    }

    fn origin(&self, Place { line, column }: Place) -> Origin {
        Origin::File { path: self.file.to_owned(), line, column }
    }

    /// Notes where a setting stands that goes by another path than its place has.
    pub(crate) fn note(&mut self, path: String, field: &Field<'_>) {
        let origin = self.origin(field.place);
        self.configuration.origins.insert(path, origin);
    }

    fn seen(&mut self, field: &Field<'_>) {
        // What is null is as if nobody had said it.
        if !field.is_null() {
            self.note(field.path.clone(), field);
        }
    }

    /// The entries of a mapping, whatever their keys.
    pub(crate) fn any_fields<'n>(&self, field: &Field<'n>) -> Result<Fields<'n>, ConfigError> {
        match field.value() {
            Value::Mapping(entries) => Ok(Fields { entries, place: field.place, path: field.path.clone() }),
            _ => Err(self.wrong(field, "a mapping")),
        }
    }

    /// The entries of a mapping that has none but these keys.
    pub(crate) fn fields<'n>(&self, field: &Field<'n>, known: &[&str]) -> Result<Fields<'n>, ConfigError> {
        let fields = self.any_fields(field)?;
        if let Some(entry) = fields.entries.iter().find(|entry| !known.contains(&entry.key.as_str())) {
            let hint = match closest(&entry.key, known) {
                Some(key) => format!("did you mean `{key}`?"),
                None if known.is_empty() => "expected no settings here".to_owned(),
                None => format!("expected {}", listed(known)),
            };
            return Err(self.error(entry.place, &joined(&fields.path, &entry.key), format!("unknown, {hint}")));
        }
        Ok(fields)
    }

    /// Like [`fields`](Self::fields), where null is a mapping without entries.
    pub(crate) fn fields_or_null<'n>(&self, field: &Field<'n>, known: &[&str]) -> Result<Fields<'n>, ConfigError> {
        if field.is_null() {
            return Ok(Fields { entries: &[], place: field.place, path: field.path.clone() });
        }
        self.fields(field, known)
    }

    /// The one entry of a mapping that chooses among kinds. A kind that is not known is the caller's to judge; like the
    /// known ones it is a mapping or null.
    pub(crate) fn one_of<'n>(&mut self, field: &Field<'n>, known: &[&str]) -> Result<Field<'n>, ConfigError> {
        let fields = self.any_fields(field)?;
        let [entry] = fields.entries else {
            let found = match fields.entries {
                [] => "an empty mapping",
                _ => "several entries",
            };
            return Err(self.error_at(field, format!("{found}, expected one of {}", known.join(", "))));
        };
        let chosen = Field::of(entry, &fields.path);
        if !matches!(chosen.value(), Value::Mapping(_) | Value::Null) {
            return Err(self.wrong(&chosen, "a mapping or null"));
        }
        // Null too: naming it is what chooses it.
        self.note(chosen.path.clone(), &chosen);
        Ok(chosen)
    }

    pub(crate) fn get<'n>(&mut self, fields: &Fields<'n>, key: &str) -> Option<Field<'n>> {
        let field = fields.all().find(|field| field.key == key)?;
        self.seen(&field);
        Some(field)
    }

    pub(crate) fn required<'n>(
        &mut self,
        fields: &Fields<'n>,
        key: &str,
        expected: &str,
    ) -> Result<Field<'n>, ConfigError> {
        self.get(fields, key).ok_or_else(|| {
            self.error(fields.place, &joined(&fields.path, key), format!("missing, expected {expected}"))
        })
    }

    /// The items of a list that has at least one.
    pub(crate) fn items<'n>(&mut self, field: &Field<'n>, of: &str) -> Result<Vec<Field<'n>>, ConfigError> {
        let items = self.items_or_none(field, of)?;
        if items.is_empty() {
            return Err(self.error_at(field, format!("an empty list, expected {of}")));
        }
        Ok(items)
    }

    pub(crate) fn items_or_none<'n>(&mut self, field: &Field<'n>, of: &str) -> Result<Vec<Field<'n>>, ConfigError> {
        let Value::Sequence(nodes) = field.value() else { return Err(self.wrong(field, of)) };
        let items = nodes.iter().enumerate().map(|(index, node)| Field {
            node,
            place: node.place,
            key: field.key,
            path: format!("{}[{index}]", field.path),
        });
        let items: Vec<_> = items.collect();
        items.iter().for_each(|item| self.seen(item));
        Ok(items)
    }

    pub(crate) fn text(&self, field: &Field<'_>, expected: &str) -> Result<String, ConfigError> {
        match field.value() {
            Value::String(text) => Ok(text.clone()),
            _ => Err(self.wrong(field, expected)),
        }
    }

    pub(crate) fn string(&mut self, fields: &Fields<'_>, key: &str) -> Result<Option<String>, ConfigError> {
        match self.get(fields, key).filter(|field| !field.is_null()) {
            Some(field) => self.text(&field, "a string").map(Some),
            None => Ok(None),
        }
    }

    pub(crate) fn required_string(&mut self, fields: &Fields<'_>, key: &str) -> Result<String, ConfigError> {
        let field = self.required(fields, key, "a string")?;
        self.text(&field, "a string")
    }

    pub(crate) fn flag(&self, field: &Field<'_>) -> Result<bool, ConfigError> {
        match field.value() {
            Value::Bool(value) => Ok(*value),
            _ => Err(self.wrong(field, "true or false")),
        }
    }

    pub(crate) fn boolean(&mut self, fields: &Fields<'_>, key: &str) -> Result<Option<bool>, ConfigError> {
        match self.get(fields, key).filter(|field| !field.is_null()) {
            Some(field) => self.flag(&field).map(Some),
            None => Ok(None),
        }
    }

    /// An integer of a range that `T` holds.
    pub(crate) fn integer<T: TryFrom<i128>>(
        &mut self,
        fields: &Fields<'_>,
        key: &str,
        range: RangeInclusive<i128>,
        expected: &str,
    ) -> Result<Option<T>, ConfigError> {
        let Some(field) = self.get(fields, key).filter(|field| !field.is_null()) else { return Ok(None) };
        let number = integer_of(field.value()).ok_or_else(|| self.wrong(&field, expected))?;
        let value = T::try_from(number).ok().filter(|_| range.contains(&number));
        value.map(Some).ok_or_else(|| self.error_at(&field, format!("{number}, expected {expected}")))
    }

    /// One of several words. The schema's lists of them do not have null.
    pub(crate) fn choice<T: Copy>(
        &mut self,
        fields: &Fields<'_>,
        key: &str,
        choices: &[(&str, T)],
    ) -> Result<Option<T>, ConfigError> {
        let Some(field) = self.get(fields, key) else { return Ok(None) };
        self.chosen(&field, choices).map(Some)
    }

    pub(crate) fn chosen<T: Copy>(&self, field: &Field<'_>, choices: &[(&str, T)]) -> Result<T, ConfigError> {
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        let word = self.text(field, &listed(&names))?;
        match choices.iter().find(|(name, _)| *name == word) {
            Some((_, choice)) => Ok(*choice),
            None => Err(self.error_at(field, format!("\"{}\", expected {}", shortened(&word), listed(&names)))),
        }
    }

    pub(crate) fn strings(&mut self, fields: &Fields<'_>, key: &str) -> Result<Option<Vec<String>>, ConfigError> {
        let Some(field) = self.get(fields, key) else { return Ok(None) };
        let items = self.items(&field, "a list of strings")?;
        items.iter().map(|item| self.text(item, "a string")).collect::<Result<_, _>>().map(Some)
    }
}

/// A number without a fraction is an integer to the schema, however it is written.
pub(crate) fn integer_of(value: &Value) -> Option<i128> {
    match value {
        Value::Integer(integer) => Some(*integer),
        #[expect(
            clippy::cast_possible_truncation,
            reason = "whole numbers, and the cast stays at the ends of the type"
        )]
        Value::Float(float) if float.is_finite() && float.fract() == 0.0 => Some(*float as i128),
        _ => None,
    }
}

fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [name] => (*name).to_owned(),
        [names @ .., last] => format!("{} or {last}", names.join(", ")),
    }
}

/// The known key that was probably meant.
pub(crate) fn closest<'k>(key: &str, known: impl IntoIterator<Item = &'k &'k str>) -> Option<&'k str> {
    // A third of the letters may be wrong, and no more than three: `exporter` is not `detectors`.
    let allowed = (key.chars().count() / 3).min(3);
    let plain = |name: &str| name.trim_end_matches("/development").replace('-', "_").to_lowercase();
    let key = plain(key);
    let distances = known.into_iter().map(|name| (distance(&key, &plain(name)), *name));
    distances.filter(|(distance, _)| *distance <= allowed).min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}

/// How many letters are to be added, left out or replaced (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.chars().enumerate() {
        let mut next = vec![index + 1];
        for (place, pair) in row.windows(2).enumerate() {
            if let ([diagonal, above], Some(left)) = (pair, next.last().copied()) {
                let replaced = diagonal + usize::from(other.get(place) != Some(&letter));
                next.push(replaced.min(above + 1).min(left + 1));
            }
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}
