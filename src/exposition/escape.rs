//! Names and texts in the characters that a reader takes.
//!
//! Specification: the Prometheus documents on escaping schemes and on exposition formats.

use std::borrow::Cow;

/// How names are written that have other characters than every Prometheus reads. The scraper chooses.
///
/// Where Prometheus' document on escaping schemes and its code disagree, this is what the code writes, because the same
/// code takes the escaping back at the other end: `dots` makes two underscores of a character that is neither valid nor
/// a dot, `values` leaves a name alone that is valid as it is, and its code points are hexadecimal in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Escaping {
    /// As they are, in quotes where the format needs them.
    AllowUtf8,
    /// Each other character becomes an underscore.
    Underscores,
    /// A dot becomes `_dot_`, an underscore two.
    Dots,
    /// Each other character becomes its code point between underscores, after `U__`.
    Values,
}

impl Escaping {
    /// What the parameter `escaping` of a media type says.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::AllowUtf8 => "allow-utf-8",
            Self::Underscores => "underscores",
            Self::Dots => "dots",
            Self::Values => "values",
        }
    }

    /// Reads the parameter `escaping`, in whatever case.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        // The document on content negotiation leaves a hyphen out of `allow-utf-8`, so a client may, too.
        if text.eq_ignore_ascii_case("allow-utf8") {
            return Some(Self::AllowUtf8);
        }
        [Self::AllowUtf8, Self::Underscores, Self::Dots, Self::Values]
            .into_iter()
            .find(|escaping| text.eq_ignore_ascii_case(escaping.as_str()))
    }

    /// The name of a metric as it is written.
    pub(crate) fn metric_name(self, name: &str) -> Cow<'_, str> {
        self.name(name, is_family_name(name), |character| character == ':')
    }

    /// The name of a label as it is written. It is not the same as for a metric: a label has no colon.
    pub(crate) fn label_name(self, name: &str) -> Cow<'_, str> {
        self.name(name, is_label_name(name), |_| false)
    }

    /// `also` accepts what a name may have besides ASCII letters, digits and underscores.
    fn name(self, name: &str, is_valid: bool, also: impl Fn(char) -> bool) -> Cow<'_, str> {
        let as_it_is = match self {
            // Prometheus reads any character in a quoted name but this one, which ends its input.
            Self::AllowUtf8 if name.contains('\0') => return Cow::Owned(name.replace('\0', "_")),
            Self::AllowUtf8 => true,
            Self::Underscores | Self::Values => is_valid,
            Self::Dots => is_valid && !name.contains('_'),
        };
        if as_it_is || name.is_empty() {
            return Cow::Borrowed(name);
        }
        let mut escaped = String::with_capacity(2 * name.len());
        if self == Self::Values {
            escaped.push_str("U__");
        }
        for (at, character) in name.char_indices() {
            let is_valid = character.is_ascii_alphabetic()
                || character == '_'
                || (character.is_ascii_digit() && at > 0)
                || also(character);
            match (self, character) {
                (Self::Dots | Self::Values, '_') => escaped.push_str("__"),
                (Self::Dots, '.') => escaped.push_str("_dot_"),
                _ if is_valid => escaped.push(character),
                (Self::Dots, _) => escaped.push_str("__"),
                (Self::Values, _) => escaped.push_str(&format!("_{:x}_", u32::from(character))),
                _ => escaped.push('_'),
            }
        }
        Cow::Owned(escaped)
    }
}

/// Whether every Prometheus reads this as the name of a family.
pub(crate) fn is_family_name(name: &str) -> bool {
    is_name(name, |byte| byte == b':')
}

/// Whether every Prometheus reads this as the name of a label.
pub(crate) fn is_label_name(name: &str) -> bool {
    is_name(name, |_| false)
}

fn is_name(name: &str, also: impl Fn(u8) -> bool) -> bool {
    name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || also(byte))
}

/// Writes a label value, or a name between quotes: backslash, double quote and line feed are escaped.
#[inline]
pub(super) fn label_value(value: &str, out: &mut Vec<u8>) {
    // Nearly every value has nothing to escape, and there are tens of thousands of them on a page.
    if has_special(value.as_bytes()) {
        escaped(value, true, out);
    } else {
        out.extend_from_slice(value.as_bytes());
    }
}

/// Writes a help text: backslash and line feed are escaped, and double quotes where the format wants them to be, as
/// OpenMetrics does.
pub(super) fn help(text: &str, quotes: bool, out: &mut Vec<u8>) {
    escaped(text, quotes, out);
}

fn escaped(text: &str, quotes: bool, out: &mut Vec<u8>) {
    let special = |byte: &u8| matches!(byte, b'\\' | b'\n') || (quotes && *byte == b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(special) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(match rest[at] {
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            _ => b"\\\"",
        });
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// Whether there is a backslash, a double quote or a line feed.
///
/// Looks at eight bytes at once, and the last eight may have been seen before: at the lengths of label values, 3 to 40
/// bytes, that takes a third of the time of a loop over the bytes.
fn has_special(bytes: &[u8]) -> bool {
    let found = if let Some(&last) = bytes.last_chunk::<8>() {
        let (words, _) = bytes.as_chunks::<8>();
        words.iter().fold(special_bytes(u64::from_ne_bytes(last)), |found, &word| {
            found | special_bytes(u64::from_ne_bytes(word))
        })
    } else if let (Some(&first), Some(&last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        let [first, last] = [first, last].map(|half| u64::from(u32::from_ne_bytes(half)));
        special_bytes(first | last << 32)
    } else {
        bytes.iter().fold(0, |found, &byte| found | special_bytes(byte.into()))
    };
    found != 0
}

/// Not 0 if one of the bytes of a word is special.
fn special_bytes(word: u64) -> u64 {
    const LOWEST_BITS: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGHEST_BITS: u64 = u64::from_ne_bytes([0x80; 8]);
    // A byte that is equal becomes 0. Subtracting 1 sets a highest bit that was not set in a 0 only, or above one.
    let equal = |byte: u8| {
        let difference = word ^ u64::from_ne_bytes([byte; 8]);
        difference.wrapping_sub(LOWEST_BITS) & !difference
    };
    (equal(b'\\') | equal(b'"') | equal(b'\n')) & HIGHEST_BITS
}

/// Replaces every run of characters that are not ASCII letters, digits, or accepted by `also` with one underscore.
/// Underscores themselves count as such a run.
pub(super) fn underscored(text: &str, also: impl Fn(char) -> bool) -> String {
    let mut name = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii_alphanumeric() || also(character) {
            name.push(character);
        } else if !name.ends_with('_') {
            name.push('_');
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use Escaping::{AllowUtf8, Dots, Underscores, Values};

    #[test]
    fn what_would_end_a_label_value_or_a_line_is_escaped() {
        let mut out = Vec::new();
        label_value("a\\b\"c\nd", &mut out);
        assert_eq!(out, br#"a\\b\"c\nd"#);
        out.clear();
        help("say \"hi\"\n\\", false, &mut out);
        assert_eq!(out, br#"say "hi"\n\\"#);
        out.clear();
        help("say \"hi\"\n\\", true, &mut out);
        assert_eq!(out, br#"say \"hi\"\n\\"#);
    }

    #[test]
    fn a_special_byte_is_found_at_every_place_of_every_length() {
        // Neighbours of the special bytes, and bytes of which only the highest bit tells them from special ones.
        let others = [b'[', b']', b'!', b'#', 0x09, 0x0b, 0xdc, 0xa2, 0x8a, 0x00, 0xff, b'a'];
        for length in 0..40 {
            let plain: Vec<u8> = others.iter().copied().cycle().take(length).collect();
            assert!(!has_special(&plain), "{length}");
            for at in 0..length {
                for special in [b'\\', b'"', b'\n'] {
                    let mut bytes = plain.clone();
                    bytes[at] = special;
                    assert!(has_special(&bytes), "{special} at {at} of {length}");
                }
            }
        }
    }

    #[test]
    fn runs_of_other_characters_become_one_underscore() {
        assert_eq!(underscored("a..b__c/ä-d", |_| false), "a_b_c_d");
        assert_eq!(underscored("a:b", |c| c == ':'), "a:b");
    }

    #[test]
    fn each_escaping_writes_what_prometheus_takes_back() {
        for (name, underscores, dots, values) in [
            ("", "", "", ""),
            ("up", "up", "up", "up"),
            ("queue_depth", "queue_depth", "queue__depth", "queue_depth"),
            ("queue.depth", "queue_depth", "queue_dot_depth", "U__queue_2e_depth"),
            ("a.b_c", "a_b_c", "a_dot_b__c", "U__a_2e_b__c"),
            ("job:a/b", "job:a_b", "job:a__b", "U__job:a_2f_b"),
            ("a..-b", "a___b", "a_dot__dot___b", "U__a_2e__2e__2d_b"),
            ("1up", "_up", "__up", "U___31_up"),
            ("Größe", "Gr__e", "Gr____e", "U__Gr_f6__df_e"),
            ("😀", "_", "__", "U___1f600_"),
        ] {
            assert_eq!(AllowUtf8.metric_name(name), name);
            assert_eq!(Underscores.metric_name(name), underscores);
            assert_eq!(Dots.metric_name(name), dots);
            assert_eq!(Values.metric_name(name), values);
        }
    }

    #[test]
    fn a_colon_is_valid_in_the_name_of_a_metric_and_not_in_that_of_a_label() {
        for (escaping, label) in [(AllowUtf8, "a:b"), (Underscores, "a_b"), (Dots, "a__b"), (Values, "U__a_3a_b")] {
            assert_eq!(escaping.metric_name("a:b"), "a:b");
            assert_eq!(escaping.label_name("a:b"), label);
        }
        assert!(is_family_name(":a") && !is_label_name(":a"));
    }

    #[test]
    fn a_name_of_any_characters_has_no_nul() {
        assert_eq!(AllowUtf8.metric_name("a\0b"), "a_b");
        assert_eq!(AllowUtf8.label_name("\0"), "_");
    }

    #[test]
    fn a_name_that_needs_nothing_is_not_copied() {
        for escaping in [AllowUtf8, Underscores, Dots, Values] {
            assert!(matches!(escaping.metric_name("up"), Cow::Borrowed("up")));
            assert!(matches!(escaping.label_name("status"), Cow::Borrowed("status")));
        }
        assert!(matches!(Values.label_name("http_status"), Cow::Borrowed("http_status")));
        assert!(matches!(AllowUtf8.label_name("http.status"), Cow::Borrowed("http.status")));
    }

    #[test]
    fn names_of_ascii_letters_digits_and_underscores_are_read_by_every_prometheus() {
        for name in ["a", "_", "a_1", "Z9"] {
            assert!(is_family_name(name) && is_label_name(name), "{name}");
        }
        for name in ["", "1a", "a.b", "a b", "ä", "a-b"] {
            assert!(!is_family_name(name) && !is_label_name(name), "{name}");
        }
    }

    #[test]
    fn an_escaping_is_read_by_its_name() {
        for escaping in [AllowUtf8, Underscores, Dots, Values] {
            assert_eq!(Escaping::parse(escaping.as_str()), Some(escaping));
            assert_eq!(Escaping::parse(&escaping.as_str().to_uppercase()), Some(escaping));
        }
        assert_eq!(Escaping::parse("allow-utf8"), Some(AllowUtf8));
        assert_eq!(Escaping::parse("slashes"), None);
    }
}
