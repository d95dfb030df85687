//! Messages as protobuf: the binary encoding of OTLP.

use super::message::Writer;

/// Writes a message into `body`.
pub(super) fn write(body: &mut Vec<u8>, write: impl FnOnce(&mut Protobuf<'_>)) {
    write(&mut Protobuf { out: body, open: Vec::new() });
}

/// Writes fields.
///
/// How long a message is stands before it, and is known when it ends. A byte is kept free for it, which is enough for
/// most; a longer message is moved along.
#[derive(Debug)]
pub(super) struct Protobuf<'o> {
    out: &'o mut Vec<u8>,
    /// Where the messages begin that have not ended yet.
    open: Vec<usize>,
}

// The wire types.
const VARINT: u8 = 0;
const FIXED: u8 = 1;
const BYTES: u8 = 2;

impl Protobuf<'_> {
    /// What stands before a field: one byte, as no field here has a number above 15.
    #[inline]
    fn key(&mut self, field: u8, wire_type: u8) {
        self.out.push(field << 3 | wire_type);
    }

    /// Seven bits a byte, the lowest first, the highest bit set in each byte but the last.
    #[inline]
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }

    #[inline]
    fn fixed(&mut self, field: u8, value: [u8; 8]) {
        let mut bytes = [field << 3 | FIXED; 9];
        bytes[1..].copy_from_slice(&value);
        self.out.extend_from_slice(&bytes);
    }

    /// Numbers one after the other in one field: what the format calls packed.
    #[inline]
    fn packed<T>(&mut self, field: u8, values: impl Iterator<Item = T>, mut write: impl FnMut(&mut Self, T)) {
        self.item(field, |w| values.for_each(|value| write(w, value)));
    }

    /// Writes the length of a message that ends here.
    fn close(&mut self, start: usize) {
        let end = self.out.len();
        let length = end - start;
        let extra = varint_len(length) - 1;
        if extra > 0 {
            self.out.resize(end + extra, 0);
            self.out.copy_within(start..end, start + extra);
        }
        let mut rest = length;
        for byte in &mut self.out[start - 1..start + extra] {
            *byte = rest as u8 | 0x80;
            rest >>= 7;
        }
        self.out[start - 1 + extra] &= 0x7f;
    }
}

impl Writer for Protobuf<'_> {
    #[inline]
    fn string(&mut self, field: u8, _: &str, value: &str) {
        self.key(field, BYTES);
        self.varint(value.len() as u64);
        self.out.extend_from_slice(value.as_bytes());
    }

    #[inline]
    fn bool(&mut self, field: u8, _: &str, value: bool) {
        self.key(field, VARINT);
        self.out.push(value.into());
    }

    #[inline]
    fn enumeration(&mut self, field: u8, _: &str, value: u8) {
        self.key(field, VARINT);
        self.varint(value.into());
    }

    #[inline]
    fn int64(&mut self, field: u8, _: &str, value: i64) {
        self.key(field, VARINT);
        // The format has negative numbers in two's complement: ten bytes each.
        self.varint(value as u64);
    }

    #[inline]
    fn sint32(&mut self, field: u8, _: &str, value: i32) {
        self.key(field, VARINT);
        // Numbers near 0 become small ones, whatever their sign.
        self.varint(((value << 1 ^ value >> 31) as u32).into());
    }

    #[inline]
    fn fixed64(&mut self, field: u8, _: &str, value: u64) {
        self.fixed(field, value.to_le_bytes());
    }

    #[inline]
    fn sfixed64(&mut self, field: u8, _: &str, value: i64) {
        self.fixed(field, value.to_le_bytes());
    }

    #[inline]
    fn double(&mut self, field: u8, _: &str, value: f64) {
        self.fixed(field, value.to_le_bytes());
    }

    fn id(&mut self, field: u8, _: &str, value: &[u8]) {
        self.key(field, BYTES);
        self.varint(value.len() as u64);
        self.out.extend_from_slice(value);
    }

    fn uint64s(&mut self, field: u8, _: &str, values: impl Iterator<Item = u64>) {
        self.packed(field, values, Self::varint);
    }

    fn fixed64s(&mut self, field: u8, _: &str, values: impl Iterator<Item = u64>) {
        self.packed(field, values, |w, value| w.out.extend_from_slice(&value.to_le_bytes()));
    }

    fn doubles(&mut self, field: u8, _: &str, values: impl Iterator<Item = f64>) {
        self.packed(field, values, |w, value| w.out.extend_from_slice(&value.to_le_bytes()));
    }

    #[inline]
    fn message(&mut self, field: u8, _: &str, write: impl FnOnce(&mut Self)) {
        self.item(field, write);
    }

    /// A list is its messages, each a field by itself.
    #[inline]
    fn list(&mut self, _: &str, write: impl FnOnce(&mut Self)) {
        write(self);
    }

    #[inline]
    fn item(&mut self, field: u8, write: impl FnOnce(&mut Self)) {
        self.key(field, BYTES);
        self.out.push(0);
        let start = self.out.len();
        self.open.push(start);
        write(self);
        self.open.pop();
        self.close(start);
    }

    /// Each message, from the innermost out, is longer by what the lengths within it still lack.
    fn closed_len(&self) -> usize {
        self.open.iter().rev().fold(self.out.len(), |len, start| len + varint_len(len - start) - 1)
    }

    fn mark(&self) -> usize {
        self.out.len()
    }

    fn rewind(&mut self, mark: usize) {
        self.out.truncate(mark);
    }
}

#[inline]
fn varint_len(value: usize) -> usize {
    // Even 0 takes a byte.
    (usize::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}
