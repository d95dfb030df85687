//! Name patterns with `*` and `?`.

/// A name pattern: `*` stands for any characters, `?` for one.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    text: String,
    /// Whether `A` is `a`: in instrument names it is, in attribute keys it is not.
    folds: bool,
}

impl Pattern {
    /// A pattern of instrument names.
    pub(super) fn new(text: String) -> Self {
        Self { text, folds: true }
    }

    /// A pattern of attribute keys.
    pub(crate) fn of_keys(text: String) -> Self {
        Self { text, folds: false }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(super) fn is_wildcard(&self) -> bool {
        self.text.contains(['*', '?'])
    }

    /// A character of the pattern that no instrument name contains.
    pub(super) fn impossible_character(&self) -> Option<char> {
        let possible = |character: char| {
            character.is_ascii_alphanumeric() || matches!(character, '_' | '.' | '-' | '/' | '*' | '?')
        };
        self.text.chars().find(|&character| !possible(character))
    }

    pub(crate) fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.text.as_bytes(), name.as_bytes());
        let is_same = |a: u8, b: u8| a == b || (self.folds && a.eq_ignore_ascii_case(&b));
        let (mut p, mut n) = (0, 0);
        // Where the last star stands, and how much of the name it has swallowed so far.
        let mut star = None;
        while n < name.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p, n));
                    p += 1;
                }
                Some(&byte) if byte == b'?' || is_same(byte, name[n]) => {
                    p += 1;
                    n += 1;
                }
                _ => match star {
                    Some((at, swallowed)) => {
                        star = Some((at, swallowed + 1));
                        p = at + 1;
                        n = swallowed + 1;
                    }
                    None => return false,
                },
            }
        }
        pattern[p..].iter().all(|&byte| byte == b'*')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks_match_as_in_a_shell() {
        for (pattern, name, matches) in [
            ("a.b", "a.b", true),
            ("a.b", "A.B", true),
            ("a.b", "a.bc", false),
            ("*", "", true),
            ("*", "anything", true),
            ("a.*", "a.b.c", true),
            ("a.*", "ab", false),
            ("*_duration", "run_duration", true),
            ("*_duration", "run_duration_x", false),
            ("*a*b*", "xxaybzz", true),
            ("*ab", "aab", true),
            ("?", "a", true),
            ("?", "", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
        ] {
            assert_eq!(Pattern::new(pattern.to_owned()).matches(name), matches, "{pattern} on {name}");
        }
    }
}
