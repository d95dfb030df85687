//! A configuration file as a tree: YAML 1.2, variables put in, every node with its line and column.
//!
//! What the specification says of files: `configuration/data-model.md`, "YAML file format" and "Environment variable
//! substitution". The tree is built in two steps. The first takes the parser's events and keeps every node once, so that
//! an alias is a number and what it would expand to is known before it is; the second expands.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map;
use std::mem;

use saphyr_parser::Event;
use saphyr_parser::Marker;
use saphyr_parser::Parser;
use saphyr_parser::ScalarStyle;
use saphyr_parser::ScanError;
use saphyr_parser::Span;
use saphyr_parser::Tag;

// For files that were made to hurt: the worst found takes a tenth of a second and some 60 MB, in the parser's look-ahead.
const MAX_NODES: usize = 20_000;
const MAX_DEPTH: usize = 64;
const MAX_TEXT: usize = 1 << 20;
// Inside `[...]` and `{...}` the parser reads up to the outermost end before it gives its first event, and keeps some
// hundred bytes for every mark. `MAX_NODES` nodes need less than half of these.
const MAX_MARKS: usize = 100_000;
const MARKS: &[u8] = b"[]{},:?&*!";

const CORE: &str = "tag:yaml.org,2002:";

/// Where something stands in the file. Both count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) place: Place,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    String(String),
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    /// Of the key.
    pub(crate) place: Place,
    pub(crate) value: Node,
}

/// Why a text is no tree. Never quotes what a variable holds, which may be a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub(crate) place: Place,
    /// A clause such as "an unfinished list, expected `]`".
    pub(crate) reason: String,
}

/// The tree of a text; `variable` looks up an environment variable.
pub(crate) fn parse(text: &str, variable: Variables<'_>) -> Result<Node, SyntaxError> {
    read(text, Some(variable))?.map_err(nothing)
}

/// The tree of a text in which `$` is a character like any other; none if there is nothing in it.
#[cfg(feature = "web-config")]
pub(crate) fn parse_as_it_is(text: &str) -> Result<Option<Node>, SyntaxError> {
    Ok(read(text, None)?.ok())
}

/// What looks up environment variables.
type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The tree, or where there is none.
fn read(text: &str, variable: Option<Variables<'_>>) -> Result<Result<Node, Place>, SyntaxError> {
    if text.len() > MAX_TEXT {
        return Err(start().error(format!("a file of {} bytes, expected at most {MAX_TEXT}", text.len())));
    }
    if text.bytes().filter(|byte| MARKS.contains(byte)).count() > MAX_MARKS {
        return Err(start().error(format!("too many brackets, commas and colons, expected at most {MAX_MARKS}")));
    }
    let mut graph = Graph {
        variable,
        items: Vec::new(),
        anchors: HashMap::new(),
        open: Vec::new(),
        root: None,
        end: start(),
        has_document: false,
        nodes: 0,
        text: 0,
    };
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| reworded(&error, text))?;
        graph.take(event, span, text)?;
    }
    Ok(graph.root.map(|root| graph.expanded(root)).ok_or(graph.end))
}

fn start() -> Place {
    Place { line: 1, column: 1 }
}

fn nothing(place: Place) -> SyntaxError {
    place.error("an empty document, expected a mapping")
}

impl Place {
    fn of(marker: Marker) -> Self {
        Self { line: marker.line(), column: marker.col() + 1 }
    }

    fn error(self, reason: impl Into<String>) -> SyntaxError {
        SyntaxError { place: self, reason: reason.into() }
    }
}

/// The document with aliases unexpanded: one node may have several parents.
struct Graph<'a> {
    /// Without it nothing is put in.
    variable: Option<Variables<'a>>,
    items: Vec<Item>,
    /// The item of an anchor, by the parser's number. An anchor is here once its node has ended.
    anchors: HashMap<usize, usize>,
    open: Vec<Open>,
    root: Option<usize>,
    /// Where a document without a root is.
    end: Place,
    has_document: bool,
    /// How many nodes there would be by now, keys included and aliases expanded, and how many bytes of text in them.
    nodes: usize,
    text: usize,
}

struct Item {
    content: Content,
    place: Place,
    /// What a further copy of this node costs.
    nodes: usize,
    text: usize,
    /// How many collections are inside one another here.
    height: usize,
}

enum Content {
    Scalar(Value),
    Sequence(Vec<usize>),
    Mapping(Vec<(String, Place, usize)>),
}

/// A collection whose end has not come yet.
struct Open {
    content: Content,
    place: Place,
    anchor: usize,
    height: usize,
    /// What had been counted before it.
    nodes: usize,
    text: usize,
    /// Of a mapping: the key that waits for its value, and the line of every key so far.
    key: Option<(String, Place)>,
    lines: HashMap<String, usize>,
}

impl Graph<'_> {
    fn take(&mut self, event: Event<'_>, span: Span, source: &str) -> Result<(), SyntaxError> {
        let place = Place::of(span.start);
        match event {
            Event::DocumentStart(_) if mem::replace(&mut self.has_document, true) => {
                Err(place.error("a second document, expected one document a file"))
            }
            Event::Scalar(text, style, anchor, tag) if self.awaits_key() => {
                let key = key(text, style, tag.as_deref(), place)?;
                self.count(1, key.len(), place)?;
                if anchor != 0 {
                    let value = Content::Scalar(Value::String(key.clone()));
                    let text = key.len();
                    self.keep(Item { content: value, place, nodes: 1, text, height: 0 }, anchor);
                }
                self.add_key(key, place)
            }
            Event::Scalar(text, style, anchor, tag) => {
                // `---` without anything is a document all the same, of one empty scalar that nobody wrote.
                if self.open.is_empty() && text.is_empty() && tag.is_none() && style == ScalarStyle::Plain {
                    self.end = within(place, source);
                    return Ok(());
                }
                let text = match self.variable {
                    Some(variable) => substituted(text, variable).map_err(|reason| place.error(reason))?,
                    None => text,
                };
                let length = text.len();
                self.count(1, length, place)?;
                let value = scalar(text, style, tag.as_deref()).map_err(|reason| place.error(reason))?;
                let content = Content::Scalar(value);
                let item = self.keep(Item { content, place, nodes: 1, text: length, height: 0 }, anchor);
                self.add(item, 0);
                Ok(())
            }
            Event::Alias(_) if self.awaits_key() => Err(place.error("an alias as a key, expected a string")),
            Event::Alias(anchor) => {
                let Some(&index) = self.anchors.get(&anchor) else {
                    return Err(place.error("an alias inside the node it stands for, expected one of a node before it"));
                };
                let (nodes, text, height) = match self.items.get(index) {
                    Some(item) => (item.nodes, item.text, item.height),
                    None => (0, 0, 0),
                };
                self.count(nodes, text, place)?;
                self.check_depth(height, place)?;
                self.add(index, height);
                Ok(())
            }
            Event::SequenceStart(anchor, tag) => {
                collection_tag(tag.as_deref(), "seq", place)?;
                self.begin(Content::Sequence(Vec::new()), anchor, place)
            }
            Event::MappingStart(anchor, tag) => {
                collection_tag(tag.as_deref(), "map", place)?;
                self.begin(Content::Mapping(Vec::new()), anchor, place)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                self.end();
                Ok(())
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {
                Ok(())
            }
        }
    }

    fn awaits_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { content: Content::Mapping(_), key: None, .. }))
    }

    fn count(&mut self, nodes: usize, text: usize, place: Place) -> Result<(), SyntaxError> {
        self.nodes = self.nodes.saturating_add(nodes);
        self.text = self.text.saturating_add(text);
        if self.nodes > MAX_NODES {
            return Err(place.error(format!("too many nodes, aliases expanded, expected at most {MAX_NODES}")));
        }
        if self.text > MAX_TEXT {
            return Err(place.error(too_much_text()));
        }
        Ok(())
    }

    fn check_depth(&self, more: usize, place: Place) -> Result<(), SyntaxError> {
        if self.open.len() + more > MAX_DEPTH { Err(too_deep(place)) } else { Ok(()) }
    }

    fn begin(&mut self, content: Content, anchor: usize, place: Place) -> Result<(), SyntaxError> {
        if self.awaits_key() {
            return Err(place.error("a list or mapping as a key, expected a string"));
        }
        let (nodes, text) = (self.nodes, self.text);
        self.count(1, 0, place)?;
        self.check_depth(1, place)?;
        self.open.push(Open { content, place, anchor, height: 1, nodes, text, key: None, lines: HashMap::new() });
        Ok(())
    }

    fn end(&mut self) {
        let Some(Open { content, place, anchor, height, nodes, text, .. }) = self.open.pop() else { return };
        let (nodes, text) = (self.nodes - nodes, self.text - text);
        let item = self.keep(Item { content, place, nodes, text, height }, anchor);
        self.add(item, height);
    }

    fn keep(&mut self, item: Item, anchor: usize) -> usize {
        let index = self.items.len();
        self.items.push(item);
        // The parser numbers anchors from 1.
        if anchor != 0 {
            self.anchors.insert(anchor, index);
        }
        index
    }

    fn add(&mut self, item: usize, height: usize) {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(item);
            return;
        };
        open.height = open.height.max(height + 1);
        match &mut open.content {
            Content::Sequence(items) => items.push(item),
            Content::Mapping(entries) => {
                if let Some((key, place)) = open.key.take() {
                    entries.push((key, place, item));
                }
            }
            Content::Scalar(_) => {}
        }
    }

    fn add_key(&mut self, key: String, place: Place) -> Result<(), SyntaxError> {
        let Some(open) = self.open.last_mut() else { return Ok(()) };
        match open.lines.entry(key.clone()) {
            hash_map::Entry::Occupied(first) => {
                let line = first.get();
                let key = shortened(&key);
                Err(place.error(format!("`{key}` a second time, expected it once; the first is on line {line}")))
            }
            hash_map::Entry::Vacant(free) => {
                free.insert(place.line);
                open.key = Some((key, place));
                Ok(())
            }
        }
    }

    /// The tree below an item. Calls itself `MAX_DEPTH` times at most: what is deeper was refused.
    fn expanded(&self, index: usize) -> Node {
        let Some(item) = self.items.get(index) else { return Node { value: Value::Null, place: start() } };
        let value = match &item.content {
            Content::Scalar(value) => value.clone(),
            Content::Sequence(items) => Value::Sequence(items.iter().map(|&item| self.expanded(item)).collect()),
            Content::Mapping(entries) => Value::Mapping(
                entries
                    .iter()
                    .map(|(key, place, value)| Entry { key: key.clone(), place: *place, value: self.expanded(*value) })
                    .collect(),
            ),
        };
        Node { value, place: item.place }
    }
}

fn too_deep(place: Place) -> SyntaxError {
    place.error(format!("lists and mappings too deep inside one another, expected at most {MAX_DEPTH} levels"))
}

fn too_much_text() -> String {
    format!("too much text, aliases and variables expanded, expected at most {MAX_TEXT} bytes")
}

/// A key, in which nothing is substituted.
fn key(text: Cow<'_, str>, style: ScalarStyle, tag: Option<&Tag>, place: Place) -> Result<String, SyntaxError> {
    if text == "<<" && style == ScalarStyle::Plain && tag.is_none() {
        return Err(place.error("the merge key `<<`, which is no part of YAML 1.2, expected the entries themselves"));
    }
    let quoted = shortened(&text);
    match scalar(text, style, tag) {
        Ok(Value::String(key)) => Ok(key),
        Err(reason) if tag.is_some() => Err(place.error(reason)),
        Ok(Value::Null) if quoted.is_empty() => Err(place.error("an empty key, expected a string")),
        _ => Err(place.error(format!("the key `{quoted}`, which is not a string, expected quotes around it"))),
    }
}

/// The start of something that may be too long for a message.
pub(crate) fn shortened(text: &str) -> String {
    const ENOUGH: usize = 60;
    match text.char_indices().nth(ENOUGH) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

fn collection_tag(tag: Option<&Tag>, kind: &str, place: Place) -> Result<(), SyntaxError> {
    let Some(name) = tag.map(full_name) else { return Ok(()) };
    // A lone `!` says that the tag is what the kind of node says.
    if name == "!" || name.strip_prefix(CORE) == Some(kind) { Ok(()) } else { Err(place.error(unknown_tag(&name))) }
}

fn full_name(tag: &Tag) -> String {
    format!("{}{}", tag.handle, tag.suffix)
}

fn unknown_tag(name: &str) -> String {
    let name = name.strip_prefix(CORE).map_or_else(|| name.to_owned(), |core| format!("!!{core}"));
    format!(
        "the tag `{}` here, expected `!!str`, `!!int`, `!!float`, `!!bool` or `!!null` on a scalar",
        shortened(&name)
    )
}

/// A scalar's value, by its tag or else by its style and look.
fn scalar(text: Cow<'_, str>, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    let Some(name) = tag.map(full_name) else {
        return match style {
            ScalarStyle::Plain => resolved(text),
            _ => Ok(Value::String(text.into_owned())),
        };
    };
    let kind = match name.as_str() {
        "!" => "str",
        name => name.strip_prefix(CORE).ok_or_else(|| unknown_tag(name))?,
    };
    match kind {
        "str" => return Ok(Value::String(text.into_owned())),
        "int" | "float" | "bool" | "null" => {}
        _ => return Err(unknown_tag(&name)),
    }
    match (kind, resolved(text)?) {
        ("int", value @ Value::Integer(_))
        | ("float", value @ Value::Float(_))
        | ("bool", value @ Value::Bool(_))
        | ("null", value @ Value::Null) => Ok(value),
        #[expect(clippy::cast_precision_loss, reason = "asked for by the tag")]
        ("float", Value::Integer(integer)) => Ok(Value::Float(integer as f64)),
        _ => Err(format!("a text that is no `!!{kind}`, expected one as YAML 1.2 writes it")),
    }
}

/// What a plain scalar is in the core schema (YAML 1.2.2, 10.3.2).
fn resolved(text: Cow<'_, str>) -> Result<Value, String> {
    Ok(match &*text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" => Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Value::Float(f64::NEG_INFINITY),
        number => match integer(number)? {
            Some(integer) => Value::Integer(integer),
            None => match float(number) {
                Some(float) => Value::Float(float),
                None => Value::String(text.into_owned()),
            },
        },
    })
}

fn integer(text: &str) -> Result<Option<i128>, String> {
    // Only a decimal has a sign: to the core schema `-0x1` is text.
    let (digits, radix) = match (text.strip_prefix("0o"), text.strip_prefix("0x")) {
        (Some(digits), _) => (digits, 8),
        (_, Some(digits)) => (digits, 16),
        _ => (text, 10),
    };
    let unsigned = if radix == 10 { digits.strip_prefix(['-', '+']).unwrap_or(digits) } else { digits };
    if unsigned.is_empty() || !unsigned.chars().all(|digit| digit.is_digit(radix)) {
        return Ok(None);
    }
    match i128::from_str_radix(digits, radix) {
        Ok(integer) => Ok(Some(integer)),
        Err(_) => Err("an integer of more than 128 bits, expected a smaller one, or quotes if it is text".to_owned()),
    }
}

fn float(text: &str) -> Option<f64> {
    // The standard library reads what the core schema does, and words such as `infinity` besides.
    let is_number = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'));
    if is_number { text.parse().ok() } else { None }
}

/// A scalar's text with `${...}` and `$$` replaced, left to right, or why that cannot be.
fn substituted<'a>(text: Cow<'a, str>, variable: &dyn Fn(&str) -> Option<String>) -> Result<Cow<'a, str>, String> {
    if !text.contains('$') {
        return Ok(text);
    }
    let mut out = String::with_capacity(text.len());
    // No reference reaches over an escape: the specification cuts the text at `$$` and looks at each piece by itself.
    for (index, piece) in text.split("$$").enumerate() {
        if index > 0 {
            out.push('$');
        }
        let mut rest = piece;
        while let Some((before, after)) = rest.split_once("${") {
            out.push_str(before);
            // Where a reference ends, or the character that no reference holds. If there is neither, no reference follows.
            // The grammar's printable characters are ASCII; a default in another script is better taken than left in the
            // value with its `${`.
            let is_end = |character: char| character == '}' || (character.is_control() && character != '\t');
            let (content, after) = after.split_at(after.find(is_end).unwrap_or(after.len()));
            match after.strip_prefix('}') {
                Some(after) if !content.is_empty() => {
                    let Some(value) = value(content, variable) else {
                        return Err(format!(
                            "`${{{}}}` is no variable, expected `${{NAME}}`, `${{env:NAME}}` or `${{NAME:-default}}`, \
                             or `$${{` for a plain `${{`",
                            shortened(content),
                        ));
                    };
                    out.push_str(&value);
                    // A short text can name a long variable again and again.
                    if out.len() > MAX_TEXT {
                        return Err(too_much_text());
                    }
                    rest = after;
                }
                _ => {
                    out.push_str("${");
                    out.push_str(content);
                    rest = after;
                }
            }
        }
        out.push_str(rest);
    }
    Ok(Cow::Owned(out))
}

/// What a reference stands for, or nothing if it is none.
fn value<'a>(content: &'a str, variable: &dyn Fn(&str) -> Option<String>) -> Option<Cow<'a, str>> {
    // Without a prefix first: `env:-x` is the variable `env` with a default.
    let (name, default) = named(content).or_else(|| named(content.strip_prefix("env:")?))?;
    let value = variable(name).filter(|value| !value.is_empty());
    Some(value.map_or(Cow::Borrowed(default), Cow::Owned))
}

/// The name and the default of `NAME` or `NAME:-default`.
fn named(text: &str) -> Option<(&str, &str)> {
    let (name, default) = text.split_once(":-").unwrap_or((text, ""));
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    (is_name && name.starts_with(|first: char| !first.is_ascii_digit())).then_some((name, default))
}

/// The parser's errors in the words of somebody who wrote a file, not of somebody who wrote a parser.
fn reworded(error: &ScanError, text: &str) -> SyntaxError {
    let info = error.info();
    let place = within(Place::of(*error.marker()), text);
    let mut here = text.chars().skip(error.marker().index().saturating_sub(1));
    let (before, at) = (here.next(), here.next());
    let has = |part: &str| info.contains(part);
    let reason = if has("recursion limit") {
        return too_deep(place);
    } else if before == Some('$') && at == Some('{') {
        "`${` without quotes inside `[...]` or `{...}`, expected quotes around the value"
    } else if has("unknown anchor") {
        let name: String = here.take_while(|next| !next.is_whitespace() && !",[]{}".contains(*next)).collect();
        return place.error(format!("the alias `*{0}` of nothing, expected `&{0}` before it", shortened(&name)));
    } else if has("unprintable") {
        "an unprintable character, expected text"
    } else if has("tab") {
        "a tab as indentation, expected spaces"
    } else if has("mapping values are not allowed") {
        "a second `:` on the line, expected a new line, or quotes around the value"
    } else if has("<document start>") || has("did not find expected key") || has("'-' indicator") {
        "a line that does not fit those above it, expected their indentation"
    } else if has("simple key expect") {
        "an entry without its `:` here or just above, expected `key: value`"
    } else if has("',' or ']'") {
        "an unfinished list, expected `,` or `]`"
    } else if has("',' or '}'") {
        "an unfinished mapping, expected `,` or `}`"
    } else if has("quoted scalar, found unexpected end") || has("indentation in quoted scalar") {
        "an unfinished quotation, expected a closing quote, or more indentation"
    } else if has("unexpected character") {
        "a value that starts with a reserved character, expected quotes around it"
    } else if has("escape character") {
        "an unknown escape, expected one of YAML's, or single quotes"
    } else if has("handle wasn't declared") {
        "a tag whose prefix is nowhere declared, expected none or a tag such as `!!str`"
    } else {
        // "while parsing a tag, did not find expected tag URI"
        let clause = info.strip_prefix("while ").and_then(|rest| rest.split_once(", ")).map_or(info, |(_, rest)| rest);
        return match clause.strip_prefix("did not find expected ") {
            Some(expected) => place.error(format!("a mistake in the YAML, expected {expected}")),
            None => place.error(format!("{clause}, expected YAML 1.2")),
        };
    };
    place.error(reason)
}

/// A place that exists: the parser puts what is missing at the end on a line after the last.
fn within(place: Place, text: &str) -> Place {
    let (mut lines, mut last) = (0, "");
    for line in text.lines().flat_map(|line| line.split('\r')) {
        (lines, last) = (lines + 1, line);
    }
    if lines > 0 && place.line > lines { Place { line: lines, column: last.chars().count() + 1 } } else { place }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;
    use std::time::Duration;
    use std::time::Instant;

    use super::*;

    const ENVIRONMENT: &[(&str, &str)] = &[
        ("HOST", "db.example"),
        ("PORT", "5432"),
        ("RATIO", "0.25"),
        ("ON", "true"),
        ("MASK", "0xff"),
        ("TILDE", "~"),
        ("NONE", ""),
        ("LINES", "a\nb: c"),
        ("LIST", "[1, 2]"),
        ("COMMENT", "x # y"),
        ("NESTED", "${HOST}"),
        ("DOLLARS", "a$$b"),
        ("env", "the variable env"),
        ("_a1", "underscored"),
    ];

    fn variable(name: &str) -> Option<String> {
        ENVIRONMENT.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    }

    /// The tree in one line, each kind of value in its own way.
    fn shown(node: &Node) -> String {
        match &node.value {
            Value::Null => "null".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Integer(value) => value.to_string(),
            Value::Float(value) => format!("{value:?}f"),
            Value::String(value) => format!("{value:?}"),
            Value::Sequence(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(", ")),
            Value::Mapping(entries) => {
                let entry = |entry: &Entry| format!("{}: {}", entry.key, shown(&entry.value));
                format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
            }
        }
    }

    /// The tree, or the error as `line:column reason`.
    fn read(text: &str) -> String {
        match parse(text, &variable) {
            Ok(node) => shown(&node),
            Err(SyntaxError { place, reason }) => format!("{}:{} {reason}", place.line, place.column),
        }
    }

    #[test]
    fn plain_scalars_are_what_the_core_schema_says_and_others_are_text() {
        for (text, expected) in [
            ("null", "null"),
            ("Null", "null"),
            ("NULL", "null"),
            ("~", "null"),
            ("nULL", "\"nULL\""),
            ("true", "true"),
            ("True", "true"),
            ("FALSE", "false"),
            ("tRUE", "\"tRUE\""),
            ("yes", "\"yes\""),
            ("off", "\"off\""),
            ("0", "0"),
            ("-0", "0"),
            ("+12", "12"),
            ("-12", "-12"),
            ("007", "7"),
            ("0o17", "15"),
            ("0o18", "\"0o18\""),
            ("0xFf", "255"),
            ("-0x1", "\"-0x1\""),
            ("0x", "\"0x\""),
            ("0o-7", "\"0o-7\""),
            ("1_000", "\"1_000\""),
            ("0b1", "\"0b1\""),
            ("18446744073709551616", "18446744073709551616"),
            ("1.5", "1.5f"),
            ("1.", "1.0f"),
            (".5", "0.5f"),
            ("-1e3", "-1000.0f"),
            ("1.E-2", "0.01f"),
            (".", "\".\""),
            ("1e", "\"1e\""),
            ("e5", "\"e5\""),
            ("1.2.3", "\"1.2.3\""),
            (".inf", "inff"),
            ("-.INF", "-inff"),
            ("+.Inf", "inff"),
            (".NaN", "NaNf"),
            ("inf", "\"inf\""),
            ("nan", "\"nan\""),
            ("2024-01-01", "\"2024-01-01\""),
            ("http://localhost:4318/v1", "\"http://localhost:4318/v1\""),
            ("\"1\"", "\"1\""),
            ("'true'", "\"true\""),
            ("''", "\"\""),
            ("\"\\u00e9\\n\"", "\"é\\n\""),
            ("|\n 1\n", "\"1\\n\""),
            (">-\n a\n b", "\"a b\""),
            ("!!str 1", "\"1\""),
            ("!!str", "\"\""),
            ("! 1", "\"1\""),
            ("!!int '5'", "5"),
            ("!!float 5", "5.0f"),
            ("!!bool \"true\"", "true"),
            ("!!null ''", "null"),
            ("!<tag:yaml.org,2002:int> 5", "5"),
            ("!!seq [1]", "[1]"),
            ("!!map {a: 1}", "{a: 1}"),
            ("! [1]", "[1]"),
        ] {
            assert_eq!(read(&format!("k: {text}")), format!("{{k: {expected}}}"), "{text}");
        }
    }

    #[test]
    fn collections_nest_in_every_notation() {
        for (text, expected) in [
            ("a:\n  b:\n  - 1\n  - c: x\n    d:\ne: {}", "{a: {b: [1, {c: \"x\", d: null}]}, e: {}}"),
            ("{\"a\": [1, \"b\", null], \"c\": {}}", "{a: [1, \"b\", null], c: {}}"),
            ("- [a, b: 1]\n- - c", "[[\"a\", {b: 1}], [\"c\"]]"),
            ("? a\n: 1\n? b", "{a: 1, b: null}"),
            ("a: &x {b: [1]}\nc: *x\nd: [*x, *x]", "{a: {b: [1]}, c: {b: [1]}, d: [{b: [1]}, {b: [1]}]}"),
            ("a: &x 1\nb: &x 2\nc: *x", "{a: 1, b: 2, c: 2}"),
            ("&k a: *k", "{a: \"a\"}"),
            ("'<<': 1\n'1': 2\n!!str 3: 4", "{<<: 1, 1: 2, 3: 4}"),
            ("# before\n---\na: 1 # after\n...\n# end\n", "{a: 1}"),
            ("%YAML 1.2\n---\na: 1", "{a: 1}"),
            ("null", "null"),
            ("text", "\"text\""),
            ("''", "\"\""),
            ("!!str", "\"\""),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn variables_are_put_into_values_and_typed_afterwards() {
        for (text, expected) in [
            ("k: ${HOST}", "{k: \"db.example\"}"),
            ("k: ${env:HOST}", "{k: \"db.example\"}"),
            ("k: ${PORT}", "{k: 5432}"),
            ("k: ${RATIO}", "{k: 0.25f}"),
            ("k: ${ON}", "{k: true}"),
            ("k: ${MASK}", "{k: 255}"),
            ("k: ${TILDE}", "{k: null}"),
            ("k: 1${PORT}", "{k: 15432}"),
            ("k: \"${PORT}\"", "{k: \"5432\"}"),
            ("k: '${ON}'", "{k: \"true\"}"),
            ("k: |\n  at ${HOST}\n  $$\n", "{k: \"at db.example\\n$\\n\"}"),
            ("k: \"${NONE}\"", "{k: \"\"}"),
            ("k: !!str ${PORT}", "{k: \"5432\"}"),
            ("k: !!int '${PORT}'", "{k: 5432}"),
            ("k: ${HOST}:${PORT} ok", "{k: \"db.example:5432 ok\"}"),
            ("- ${PORT}\n- ['${HOST}']", "[5432, [\"db.example\"]]"),
            ("${PORT}", "5432"),
            // Unset, or set to nothing.
            ("k: ${MISSING}", "{k: null}"),
            ("k: ${NONE}", "{k: null}"),
            ("k: ${MISSING:-}", "{k: null}"),
            ("k: ${MISSING:-7}", "{k: 7}"),
            ("k: ${NONE:-7}", "{k: 7}"),
            ("k: ${env:NONE:-7}", "{k: 7}"),
            ("k: ${PORT:-7}", "{k: 5432}"),
            ("k: ${MISSING:-a b\t:-c?}", "{k: \"a b\\t:-c?\"}"),
            ("k: ${MISSING:-é}", "{k: \"é\"}"),
            ("k: ${_a1}", "{k: \"underscored\"}"),
            ("k: ${env:-x}", "{k: \"the variable env\"}"),
            ("k: ${sys:-x}", "{k: \"x\"}"),
            // A variable adds neither structure nor references.
            ("k: ${LINES}", "{k: \"a\\nb: c\"}"),
            ("k: ${LIST}", "{k: \"[1, 2]\"}"),
            ("k: ${COMMENT}", "{k: \"x # y\"}"),
            ("k: ${NESTED}", "{k: \"${HOST}\"}"),
            ("k: ${DOLLARS}", "{k: \"a$$b\"}"),
            ("k: ${MISSING:-${HOST}}", "{k: \"${HOST}\"}"),
            // Keys are as they are.
            ("${HOST}: 1", "{${HOST}: 1}"),
            ("$$a: $$a", "{$$a: \"$a\"}"),
            ("'${1A}': 1", "{${1A}: 1}"),
            // Escapes, and what is no reference.
            ("k: $${HOST}", "{k: \"${HOST}\"}"),
            ("k: $$${HOST}", "{k: \"$db.example\"}"),
            ("k: $$$${HOST}", "{k: \"$${HOST}\"}"),
            ("k: $${A:-${PORT}}", "{k: \"${A:-5432}\"}"),
            ("k: ${A:-$${A}}", "{k: \"${A:-${A}}\"}"),
            ("k: $${1A}", "{k: \"${1A}\"}"),
            ("k: a $ b $", "{k: \"a $ b $\"}"),
            ("k: $HOST", "{k: \"$HOST\"}"),
            ("k: ${HOST", "{k: \"${HOST\"}"),
            ("k: ${}", "{k: \"${}\"}"),
            ("k: |-\n  ${1\n  ${PORT} ${", "{k: \"${1\\n5432 ${\"}"),
            // What several nodes share is put in once and is the same everywhere.
            ("a: &x ${PORT}\nb: *x", "{a: 5432, b: 5432}"),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn a_reference_that_is_none_is_an_error_that_names_it() {
        for reference in [
            "${HOST:?error}",
            "${1A}",
            "${A$B}",
            "${A-b}",
            "${sys:x}",
            "${ENV:HOST}",
            "${env:}",
            "${env:1A}",
            "${env:env:HOST}",
            "${:-x}",
            "${ HOST}",
            "${HOST }",
            "${HOST:}",
            "${é}",
        ] {
            for text in [format!("a: 1\nk: {reference}"), format!("a: 1\nk: 'x ${{HOST}} {reference}'")] {
                let expected = format!(
                    "2:4 `{reference}` is no variable, expected `${{NAME}}`, `${{env:NAME}}` or `${{NAME:-default}}`, \
                     or `$${{` for a plain `${{`"
                );
                assert_eq!(read(&text), expected, "{text}");
            }
        }
        assert!(read(&format!("k: ${{{}}}", "1".repeat(500))).len() < 250);
    }

    #[test]
    fn errors_say_where_and_what_is_expected() {
        for (text, expected) in [
            ("", "1:1 an empty document, expected a mapping"),
            ("# only this\n", "1:1 an empty document, expected a mapping"),
            ("---\n", "1:4 an empty document, expected a mapping"),
            ("a: 1\nb:\n  a: 2\n  c: 3\n  a: 4", "5:3 `a` a second time, expected it once; the first is on line 3"),
            ("{a: 1, 'a': 2}", "1:8 `a` a second time, expected it once; the first is on line 1"),
            ("a: 1\n? [b]\n: 2", "2:3 a list or mapping as a key, expected a string"),
            ("{{a: 1}: 2}", "1:2 a list or mapping as a key, expected a string"),
            ("a: 1\n2: b", "2:1 the key `2`, which is not a string, expected quotes around it"),
            (
                "999999999999999999999999999999999999999999: b",
                "1:1 the key `999999999999999999999999999999999999999999`, which is not a string, expected quotes around it",
            ),
            ("~: b", "1:1 the key `~`, which is not a string, expected quotes around it"),
            ("true: b", "1:1 the key `true`, which is not a string, expected quotes around it"),
            (": b", "1:1 an empty key, expected a string"),
            ("a: &x b\n*x : c", "2:1 an alias as a key, expected a string"),
            ("a: 1\n---\nb: 2", "2:1 a second document, expected one document a file"),
            ("a: 1\n...\nb: 2", "3:1 a second document, expected one document a file"),
            (
                "a: !mine 1",
                "1:4 the tag `!mine` here, expected `!!str`, `!!int`, `!!float`, `!!bool` or `!!null` on a scalar",
            ),
            (
                "!mine a: 1",
                "1:1 the tag `!mine` here, expected `!!str`, `!!int`, `!!float`, `!!bool` or `!!null` on a scalar",
            ),
            (
                "a: !!set {b}",
                "1:4 the tag `!!set` here, expected `!!str`, `!!int`, `!!float`, `!!bool` or `!!null` on a scalar",
            ),
            (
                "a: !!binary YQ==",
                "1:4 the tag `!!binary` here, expected `!!str`, `!!int`, `!!float`, `!!bool` or `!!null` on a scalar",
            ),
            ("a: !x!y 1", "1:4 a tag whose prefix is nowhere declared, expected none or a tag such as `!!str`"),
            ("a: !!int x", "1:4 a text that is no `!!int`, expected one as YAML 1.2 writes it"),
            ("a: !!int ${HOST}", "1:4 a text that is no `!!int`, expected one as YAML 1.2 writes it"),
            ("a: 1\nb: [*y, 2]", "2:5 the alias `*y` of nothing, expected `&y` before it"),
            ("a: &x [1, *x]", "1:11 an alias inside the node it stands for, expected one of a node before it"),
            ("a: &x {b: {c: *x}}", "1:15 an alias inside the node it stands for, expected one of a node before it"),
            (
                "a: &x {b: 1}\nc:\n  <<: *x",
                "3:3 the merge key `<<`, which is no part of YAML 1.2, expected the entries themselves",
            ),
            (
                "a: 999999999999999999999999999999999999999999",
                "1:4 an integer of more than 128 bits, expected a smaller one, or quotes if it is text",
            ),
            ("a: b: c", "1:5 a second `:` on the line, expected a new line, or quotes around the value"),
            ("a: [1,\n  2", "2:4 an unfinished list, expected `,` or `]`"),
            ("a: [1,\r\n  2\r\n", "2:4 an unfinished list, expected `,` or `]`"),
            ("a: [1,\r  2", "2:4 an unfinished list, expected `,` or `]`"),
            ("a: [b {c}]", "1:7 an unfinished list, expected `,` or `]`"),
            ("a: {b: 1", "1:9 an unfinished mapping, expected `,` or `}`"),
            ("a: 'x", "1:4 an unfinished quotation, expected a closing quote, or more indentation"),
            ("a:\n  b: 1\n c: 2", "3:2 a line that does not fit those above it, expected their indentation"),
            ("a:\n\tb: 1", "2:2 a tab as indentation, expected spaces"),
            ("a: 1\nb\nc: 2", "3:1 an entry without its `:` here or just above, expected `key: value`"),
            ("a: @b", "1:4 a value that starts with a reserved character, expected quotes around it"),
            ("a: \"\\q\"", "1:4 an unknown escape, expected one of YAML's, or single quotes"),
            ("a: b\0c", "1:5 an unprintable character, expected text"),
            ("a: [${HOST}]", "1:6 `${` without quotes inside `[...]` or `{...}`, expected quotes around the value"),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn no_error_quotes_a_variable() {
        let secret = |_: &str| Some("hunter2".to_owned());
        for text in ["!!int ${A}", "!!null '${A}'", "a: !x ${A}", "- ${A}\n- ${1}", "- ${A}\n- *a"] {
            let error = parse(text, &secret).unwrap_err();
            assert!(!error.reason.contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn places_count_lines_and_characters_from_one() {
        fn walk(node: &Node, out: &mut String) {
            write!(out, "{}:{} ", node.place.line, node.place.column).unwrap();
            match &node.value {
                Value::Sequence(items) => items.iter().for_each(|item| walk(item, out)),
                Value::Mapping(entries) => {
                    for Entry { key, place, value } in entries {
                        write!(out, "{key}@{}:{} ", place.line, place.column).unwrap();
                        walk(value, out);
                    }
                }
                _ => {}
            }
        }
        for (text, expected) in [
            ("a: 1\nb:\n  - c\n  - é: d\n", "1:1 a@1:1 1:4 b@2:1 3:3 3:5 4:5 é@4:5 4:8 "),
            ("\u{feff}a: 1\r\nb:\r\n  - c\r\n", "1:1 a@1:1 1:4 b@2:1 3:3 3:5 "),
            ("é: {ü: x, z: y}", "1:1 é@1:1 1:4 ü@1:5 1:8 z@1:11 1:14 "),
            // Nothing stands right after its colon.
            ("a:\n\n# x\nb:", "1:1 a@1:1 1:2 b@4:1 4:2 "),
            // A tag or an anchor is the start of what it belongs to; a copy is where the original is.
            ("a: &x !!str 1\nb: *x", "1:1 a@1:1 1:4 b@2:1 1:4 "),
            // A block scalar starts with its text.
            ("a: |\n  x\n", "1:1 a@1:1 2:3 "),
        ] {
            let mut out = String::new();
            walk(&parse(text, &variable).unwrap(), &mut out);
            assert_eq!(out, expected, "{text:?}");
        }
    }

    /// The error of a text that is made to hurt, which has to come soon.
    fn bomb(text: &str) -> String {
        let begin = Instant::now();
        let error = parse(text, &|_| Some("x".repeat(100_000))).map(|_| ()).unwrap_err();
        // Milliseconds in a release build; this is for debug builds on busy machines.
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?} for {error:?}", begin.elapsed());
        format!("{}:{} {}", error.place.line, error.place.column, error.reason)
    }

    #[test]
    fn bombs_are_refused_before_they_go_off() {
        const NODES: &str = "too many nodes, aliases expanded, expected at most 20000";
        const DEPTH: &str = "lists and mappings too deep inside one another, expected at most 64 levels";
        const TEXT: &str = "too much text, aliases and variables expanded, expected at most 1048576 bytes";
        const MARKS: &str = "1:1 too many brackets, commas and colons, expected at most 100000";

        let mut laughs = "a0: &a0 [lol, lol]\n".to_owned();
        for level in 1..60 {
            let before = level - 1;
            writeln!(laughs, "a{level}: &a{level} [*a{before}, *a{before}, *a{before}]").unwrap();
        }
        assert_eq!(bomb(&laughs), format!("9:15 {NODES}"));

        let long = format!("- &a {}\n{}", "x".repeat(100_000), "- *a\n".repeat(1_000));
        assert_eq!(bomb(&long), format!("11:3 {TEXT}"));
        assert_eq!(bomb(&"- ${A}\n".repeat(1_000)), format!("11:3 {TEXT}"));
        assert_eq!(bomb(&format!("'{}'", "${A}".repeat(1_000))), format!("1:1 {TEXT}"));

        // Not even the one text is made.
        let asked = std::cell::Cell::new(0);
        let long = |_: &str| {
            asked.set(asked.get() + 1);
            Some("x".repeat(100_000))
        };
        assert!(parse(&format!("'{}'", "${A}".repeat(1_000)), &long).is_err());
        assert_eq!(asked.get(), 11);

        let mut tower = "a0: &a0 []\n".to_owned();
        for level in 1..100 {
            writeln!(tower, "a{level}: &a{level} [*a{}]", level - 1).unwrap();
        }
        assert_eq!(bomb(&tower), format!("64:12 {DEPTH}"));

        assert!(bomb(&"[".repeat(100_000)).ends_with(DEPTH));
        assert!(bomb(&"{a: ".repeat(50_000)).ends_with(DEPTH));
        assert_eq!(bomb(&"- ".repeat(100_000)), format!("1:129 {DEPTH}"));
        assert_eq!(bomb(&"? ".repeat(100_000)), "1:3 a list or mapping as a key, expected a string");
        assert_eq!(bomb(&"[".repeat(1_000_000)), MARKS);
        assert_eq!(bomb(&format!("[{}", "a,".repeat(500_000))), MARKS);
        assert_eq!(bomb(&"- a\n".repeat(100_000)), format!("20000:3 {NODES}"));
        let flat: String = (0..50_000).map(|key| format!("k{key}: 1\n")).collect();
        assert_eq!(bomb(&flat), format!("10000:8 {NODES}"));

        let size = "1:1 a file of 10000000 bytes, expected at most 1048576";
        assert_eq!(bomb(&"a".repeat(10_000_000)), size);

        // What is not refused is read in linear time.
        let begin = Instant::now();
        let unfinished = "${aaaaaaaaaaaaaaaaaa".repeat(50_000);
        assert_eq!(parse(&unfinished, &variable).map(|node| node.value), Ok(Value::String(unfinished.clone())));
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    }

    #[test]
    fn the_limits_themselves_are_allowed() {
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(parse(&deep(64), &variable).is_ok());
        assert!(parse(&deep(65), &variable).is_err());
        // The list is a node as well.
        assert!(parse(&"- a\n".repeat(19_999), &variable).is_ok());
        assert!(parse(&"- a\n".repeat(20_000), &variable).is_err());
        assert!(parse(&"a".repeat(1 << 20), &variable).is_ok());
        assert!(parse(&"a".repeat((1 << 20) + 1), &variable).is_err());
    }

    #[test]
    fn no_text_makes_it_panic() {
        const PIECES: &[&str] = &[
            "a",
            "1",
            ": ",
            ":",
            "- ",
            "-",
            "? ",
            "[",
            "]",
            "{",
            "}",
            ", ",
            "\n",
            "\n",
            "\n  ",
            " ",
            "\t",
            "&a ",
            "*a",
            "!!str ",
            "!x ",
            "!",
            "'",
            "\"",
            "|",
            ">-\n",
            "#",
            " # ",
            "---\n",
            "...\n",
            "%YAML 1.2\n",
            "%TAG ! x\n",
            "\r",
            "\r\n",
            "\u{feff}",
            "é",
            "\\",
            "$",
            "${",
            "${A}",
            "}",
            "<<",
            "\0",
            "\u{85}",
            "@",
            "`",
            "~",
            "🦀",
        ];
        // A xorshift generator: the same texts in every run.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 33).unwrap() % below
        };
        for _ in 0..20_000 {
            let text: String = (0..next(16)).map(|_| PIECES[next(PIECES.len())]).collect();
            if let Err(SyntaxError { place, reason }) = parse(&text, &variable) {
                assert!(place.line >= 1 && place.column >= 1, "{text:?}");
                assert!(reason.contains("expected"), "{text:?}: {reason}");
            }
        }
    }

    fn corpora() -> std::path::PathBuf {
        std::path::PathBuf::from(std::env::var_os("BAROGRAPH_CORPORA").expect("BAROGRAPH_CORPORA"))
    }

    #[test]
    #[ignore = "needs BAROGRAPH_CORPORA"]
    fn the_specifications_table_of_substitutions_holds() {
        use serde_json::Value as Json;

        let text = std::fs::read_to_string(corpora().join("otel-config/env-substitution.json")).unwrap();
        let corpus: Json = serde_json::from_str(&text).unwrap();
        let mut rows = 0;
        for (list, environment) in [("cases", Some(&corpus["env"])), ("extra_from_text", None)] {
            for case in corpus[list].as_array().unwrap() {
                let environment = environment.unwrap_or(&case["env"]);
                let input = case["input"].as_str().unwrap();
                let found = parse(input, &|name| environment[name].as_str().map(str::to_owned));
                rows += 1;
                if case["want_error"].as_bool().unwrap() {
                    assert!(found.is_err(), "{input}: {found:?}");
                    continue;
                }
                let Ok(Node { value: Value::Mapping(entries), .. }) = found else { panic!("{input}: {found:?}") };
                let [Entry { key, value, .. }] = &*entries else { panic!("{input}: {entries:?}") };
                let (value, tag) = match &value.value {
                    Value::Null => (Json::Null, "null"),
                    Value::Bool(value) => (Json::from(*value), "bool"),
                    Value::Integer(value) => (Json::from(i64::try_from(*value).unwrap()), "int"),
                    Value::Float(value) => (Json::from(*value), "float"),
                    Value::String(value) => (Json::from(value.as_str()), "str"),
                    other => panic!("{input}: {other:?}"),
                };
                assert_eq!(key, case["want_key"].as_str().unwrap(), "{input}");
                assert_eq!(value, case["want_value"], "{input}");
                assert_eq!(format!("{CORE}{tag}"), case["want_tag"].as_str().unwrap(), "{input}");
            }
        }
        assert_eq!(rows, 35);
    }

    #[test]
    #[ignore = "needs BAROGRAPH_CORPORA"]
    fn the_specifications_examples_parse() {
        let mut files = 0;
        for folder in ["otel-config/snippets", "otel-config/examples"] {
            for file in std::fs::read_dir(corpora().join(folder)).unwrap() {
                let path = file.unwrap().path();
                let tree = parse(&std::fs::read_to_string(&path).unwrap(), &|_| None);
                assert!(matches!(tree, Ok(Node { value: Value::Mapping(_), .. })), "{path:?}: {tree:?}");
                files += 1;
            }
        }
        assert!(files >= 38, "{files}");
    }
}
