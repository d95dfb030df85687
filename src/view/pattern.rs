//! Name patterns with `*` and `?`.

/// A name pattern: `*` stands for any characters, `?` for one, letters match in either case.
#[derive(Debug)]
pub(super) struct Pattern {
    text: String,
    lower: Vec<u8>,
}

impl Pattern {
    pub(super) fn new(text: String) -> Self {
        let lower = text.to_ascii_lowercase().into_bytes();
        Self { text, lower }
    }

    pub(super) fn as_str(&self) -> &str {
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

    pub(super) fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (&self.lower, name.as_bytes());
        let (mut p, mut n) = (0, 0);
        // Where the last star stands, and how much of the name it has swallowed so far.
        let mut star = None;
        while n < name.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p, n));
                    p += 1;
                }
                Some(&byte) if byte == b'?' || byte == name[n].to_ascii_lowercase() => {
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
