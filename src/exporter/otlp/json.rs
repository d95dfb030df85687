//! Messages as JSON, as OTLP has it: names in lowerCamelCase, integers of 64 bits as texts, enumerations as numbers.

use super::message::Writer;

/// Writes a message into `body`.
pub(super) fn write(body: &mut Vec<u8>, write: impl FnOnce(&mut Json<'_>)) {
    let mut json = Json { out: body, open: 0 };
    json.within(b'{', b'}', write);
}

/// Writes the members of objects. Whether a comma must stand before one, the byte before it says.
#[derive(Debug)]
pub(super) struct Json<'o> {
    out: &'o mut Vec<u8>,
    /// How many objects and arrays have not ended yet.
    open: usize,
}

impl Json<'_> {
    fn within(&mut self, begin: u8, end: u8, write: impl FnOnce(&mut Self)) {
        self.out.push(begin);
        self.open += 1;
        write(self);
        self.open -= 1;
        self.out.push(end);
    }

    #[inline]
    fn comma(&mut self) {
        // A text ends with its quote, whatever is in it.
        if !matches!(self.out.last(), Some(b'{' | b'[')) {
            self.out.push(b',');
        }
    }

    /// Our own names need no escapes.
    #[inline]
    fn name(&mut self, name: &str) {
        self.comma();
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn float(&mut self, value: f64) {
        let mut buffer = ryu::Buffer::new();
        let text = match value {
            f64::INFINITY => "\"Infinity\"",
            f64::NEG_INFINITY => "\"-Infinity\"",
            _ if value.is_nan() => "\"NaN\"",
            _ => buffer.format_finite(value),
        };
        self.out.extend_from_slice(text.as_bytes());
    }

    fn quoted_integer(&mut self, value: impl itoa::Integer) {
        self.out.push(b'"');
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        self.out.push(b'"');
    }

    fn values<T>(&mut self, name: &str, values: impl Iterator<Item = T>, mut write: impl FnMut(&mut Self, T)) {
        self.list(name, |w| {
            values.for_each(|value| {
                w.comma();
                write(w, value);
            });
        });
    }
}

impl Writer for Json<'_> {
    fn string(&mut self, _: u8, name: &str, value: &str) {
        self.name(name);
        self.out.push(b'"');
        escape(value, self.out);
        self.out.push(b'"');
    }

    fn bool(&mut self, _: u8, name: &str, value: bool) {
        self.name(name);
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
    }

    fn enumeration(&mut self, _: u8, name: &str, value: u8) {
        self.name(name);
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    fn int64(&mut self, _: u8, name: &str, value: i64) {
        self.name(name);
        self.quoted_integer(value);
    }

    fn sint32(&mut self, _: u8, name: &str, value: i32) {
        self.name(name);
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    fn fixed64(&mut self, _: u8, name: &str, value: u64) {
        self.name(name);
        self.quoted_integer(value);
    }

    fn sfixed64(&mut self, _: u8, name: &str, value: i64) {
        self.name(name);
        self.quoted_integer(value);
    }

    fn double(&mut self, _: u8, name: &str, value: f64) {
        self.name(name);
        self.float(value);
    }

    fn id(&mut self, _: u8, name: &str, value: &[u8]) {
        self.name(name);
        self.out.push(b'"');
        for byte in value {
            self.out.extend([byte >> 4, byte & 0xf].map(|nibble| b"0123456789abcdef"[usize::from(nibble)]));
        }
        self.out.push(b'"');
    }

    fn uint64s(&mut self, _: u8, name: &str, values: impl Iterator<Item = u64>) {
        self.values(name, values, Self::quoted_integer);
    }

    fn fixed64s(&mut self, _: u8, name: &str, values: impl Iterator<Item = u64>) {
        self.values(name, values, Self::quoted_integer);
    }

    fn doubles(&mut self, _: u8, name: &str, values: impl Iterator<Item = f64>) {
        self.values(name, values, Self::float);
    }

    fn message(&mut self, _: u8, name: &str, write: impl FnOnce(&mut Self)) {
        self.name(name);
        self.within(b'{', b'}', write);
    }

    fn list(&mut self, name: &str, write: impl FnOnce(&mut Self)) {
        self.name(name);
        self.within(b'[', b']', write);
    }

    fn item(&mut self, _: u8, write: impl FnOnce(&mut Self)) {
        self.comma();
        self.within(b'{', b'}', write);
    }

    /// What is open ends with a byte each.
    fn closed_len(&self) -> usize {
        self.out.len() + self.open
    }

    fn mark(&self) -> usize {
        self.out.len()
    }

    fn rewind(&mut self, mark: usize) {
        self.out.truncate(mark);
    }
}

/// Writes a text so that it can stand between quotes.
fn escape(text: &str, out: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|&byte| byte < b' ' || byte == b'"' || byte == b'\\') {
        let (plain, special) = rest.split_at(at);
        out.extend_from_slice(plain);
        let byte = special[0];
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 0xf)]);
            }
        }
        rest = &special[1..];
    }
    out.extend_from_slice(rest);
}
