//! Escaping in the text formats, and names made of the characters that every Prometheus reads.

/// Writes a label value: backslash, double quote and line feed are escaped.
pub(super) fn label_value(value: &str, out: &mut Vec<u8>) {
    escaped(value, true, out);
}

/// Writes a help text: backslash and line feed are escaped.
pub(super) fn help(text: &str, out: &mut Vec<u8>) {
    escaped(text, false, out);
}

fn escaped(text: &str, quotes: bool, out: &mut Vec<u8>) {
    let special = |byte: &u8| matches!(byte, b'\\' | b'\n') || (quotes && *byte == b'"');
    let mut rest = text.as_bytes();
    // Nearly every value has nothing to escape and leaves in one piece.
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

    #[test]
    fn what_would_end_a_label_value_or_a_line_is_escaped() {
        let mut out = Vec::new();
        label_value("a\\b\"c\nd", &mut out);
        assert_eq!(out, br#"a\\b\"c\nd"#);
        out.clear();
        help("say \"hi\"\n\\", &mut out);
        assert_eq!(out, br#"say "hi"\n\\"#);
    }

    #[test]
    fn runs_of_other_characters_become_one_underscore() {
        assert_eq!(underscored("a..b__c/ä-d", |_| false), "a_b_c_d");
        assert_eq!(underscored("a:b", |c| c == ':'), "a:b");
    }
}
