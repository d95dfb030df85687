//! Whole pages against files of them.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::eventually::fail;

/// Lines that are shown before and after a difference.
const CONTEXT: usize = 3;

/// Lines that differ in one place and are still compared with each other; of more, all are shown as changed.
const MAX_COMPARED: usize = 3_000;

/// Compares a text, a page mostly, with the file at `path`, which is relative to the package whose test it is. With
/// `BAROGRAPH_BLESS=1` in the environment it writes the file, for you to read before you commit it.
///
/// ```no_run
/// use barograph::testing::{TestTelemetry, assert_golden};
///
/// let telemetry = TestTelemetry::new();
/// // … something is recorded …
/// assert_golden("tests/golden/jobs.txt", &telemetry.page());
/// ```
#[track_caller]
pub fn assert_golden(path: impl AsRef<Path>, text: &str) {
    let path = path.as_ref();
    if std::env::var_os("BAROGRAPH_BLESS").is_some_and(|value| value == "1") {
        let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
        if let Err(error) = folder.and_then(|()| fs::write(path, text)) {
            fail(format!("cannot write {}: {error}", path.display()));
        }
        return;
    }
    match fs::read_to_string(path) {
        Ok(golden) if golden == text => {}
        Ok(golden) => fail(difference(path, &golden, text)),
        Err(error) => fail(format!(
            "cannot read {}: {error}; BAROGRAPH_BLESS=1 writes it, and this is what it would be:\n{text}",
            path.display()
        )),
    }
}

fn difference(path: &Path, golden: &str, text: &str) -> String {
    let diff = diff(golden, text);
    let diff = if diff.is_empty() { " the last line ends in one of them only\n".to_owned() } else { diff };
    format!(
        "{} differs from what there is (- the file, + what there is; BAROGRAPH_BLESS=1 writes it)\n{diff}",
        path.display()
    )
}

/// The lines that differ, with those around them.
pub(super) fn diff(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let edits = edits(&old, &new);
    let is_near = |index: usize| {
        let around = index.saturating_sub(CONTEXT)..(index + CONTEXT + 1).min(edits.len());
        edits[around].iter().any(|edit| !matches!(edit, Edit::Same(_)))
    };
    let (mut diff, mut line, mut is_shown) = (String::new(), 0, false);
    for (index, edit) in edits.iter().enumerate() {
        let was_shown = std::mem::replace(&mut is_shown, is_near(index));
        let (mark, text) = match edit {
            Edit::Same(text) => (' ', text),
            Edit::Old(text) => ('-', text),
            Edit::New(text) => ('+', text),
        };
        if mark != '+' {
            line += 1;
        }
        if is_shown {
            if !was_shown {
                let _ = writeln!(diff, "@ line {}", line.max(1));
            }
            let _ = writeln!(diff, "{mark}{text}");
        }
    }
    diff
}

#[derive(Clone, Copy)]
enum Edit<'a> {
    Same(&'a str),
    Old(&'a str),
    New(&'a str),
}

/// What to do to the old lines to get the new ones: as little as possible.
fn edits<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<Edit<'a>> {
    let before = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let after = old[before..].iter().rev().zip(new[before..].iter().rev()).take_while(|(a, b)| a == b).count();
    let mut edits: Vec<Edit<'a>> = old[..before].iter().map(|line| Edit::Same(line)).collect();
    let (changed, by) = (&old[before..old.len() - after], &new[before..new.len() - after]);
    if changed.len().max(by.len()) > MAX_COMPARED {
        edits.extend(changed.iter().map(|line| Edit::Old(line)));
        edits.extend(by.iter().map(|line| Edit::New(line)));
    } else {
        compare(changed, by, &mut edits);
    }
    edits.extend(old[old.len() - after..].iter().map(|line| Edit::Same(line)));
    edits
}

/// By the longest sequence of lines that both have.
fn compare<'a>(old: &[&'a str], new: &[&'a str], edits: &mut Vec<Edit<'a>>) {
    let width = new.len() + 1;
    // How many lines are common from here to the ends.
    let mut common = vec![0_u16; (old.len() + 1) * width];
    for (i, a) in old.iter().enumerate().rev() {
        for (j, b) in new.iter().enumerate().rev() {
            let (down, right) = (common[(i + 1) * width + j], common[i * width + j + 1]);
            common[i * width + j] = if a == b { common[(i + 1) * width + j + 1] + 1 } else { down.max(right) };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            edits.push(Edit::Same(old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || (i < old.len() && common[(i + 1) * width + j] >= common[i * width + j + 1]) {
            edits.push(Edit::Old(old[i]));
            i += 1;
        } else {
            edits.push(Edit::New(new[j]));
            j += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_shown_with_the_lines_around_it_and_the_rest_is_not() {
        let old: String = (1..=30).map(|line| format!("line {line}\n")).collect();
        let new = old.replace("line 5\n", "line five\nand more\n").replace("line 20\n", "");
        assert_eq!(
            diff(&old, &new),
            "@ line 2\n line 2\n line 3\n line 4\n-line 5\n+line five\n+and more\n line 6\n line 7\n line 8\n\
             @ line 17\n line 17\n line 18\n line 19\n-line 20\n line 21\n line 22\n line 23\n"
        );
        assert_eq!(diff(&old, &old), "");
        assert_eq!(diff("", "a\n"), "@ line 1\n+a\n");
        assert_eq!(diff("a\n", ""), "@ line 1\n-a\n");
        assert_eq!(diff("a\nb\nc\n", "b\n"), "@ line 1\n-a\n b\n-c\n");
    }

    #[test]
    fn two_long_texts_that_have_nothing_in_common_are_shown_one_after_the_other() {
        let text = |word: &str| (0..MAX_COMPARED + 1).map(|line| format!("{word} {line}\n")).collect::<String>();
        let diff = diff(&text("old"), &text("new"));
        assert_eq!(diff.lines().count(), 2 * (MAX_COMPARED + 1) + 1);
        assert!(diff.starts_with("@ line 1\n-old 0\n-old 1\n"));
    }

    #[test]
    fn a_text_is_compared_with_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page.txt");
        let failure = |text: &str| {
            let panic = std::panic::catch_unwind(|| assert_golden(&path, text)).unwrap_err();
            panic.downcast::<String>().unwrap().replace(folder.path().to_str().unwrap(), "golden")
        };
        let missing = failure("a 1\n");
        assert!(missing.starts_with("cannot read golden/page.txt: "), "{missing}");
        assert!(missing.ends_with("; BAROGRAPH_BLESS=1 writes it, and this is what it would be:\na 1\n"), "{missing}");
        fs::write(&path, "a 1\nb 2\n").unwrap();
        assert_golden(&path, "a 1\nb 2\n");
        assert_eq!(
            failure("a 1\nb 3\n"),
            "golden/page.txt differs from what there is (- the file, + what there is; BAROGRAPH_BLESS=1 writes it)\n\
             @ line 1\n a 1\n-b 2\n+b 3\n"
        );
        assert!(failure("a 1\nb 2").ends_with("\n the last line ends in one of them only\n"));
    }
}
