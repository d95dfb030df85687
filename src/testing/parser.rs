//! Reads an exposition: the Prometheus text format (0.0.4 and 1.0.0) and OpenMetrics 1.0.
//!
//! It takes everything that Prometheus takes, so that a page of any program can be looked at, and keeps what it cannot read
//! with the number of its line. Whether what it has read is good is the linter's to say.

/// What stands on a page.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    /// Whether it is OpenMetrics, which the line `# EOF` tells.
    pub(super) is_open_metrics: bool,
    /// In the order in which they begin.
    pub(super) families: Vec<Family>,
    pub(super) unreadable: Vec<Unreadable>,
}

/// A line that no scraper would take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unreadable {
    /// From 1 on.
    pub(super) line: usize,
    /// As it stands there.
    pub(super) text: String,
    pub(super) problem: String,
}

/// Metadata and samples of one name.
#[derive(Debug, Default)]
pub(super) struct Family {
    /// As the comments have it; without comments, as the samples have it.
    pub(super) name: String,
    /// The line that it begins in.
    pub(super) line: usize,
    pub(super) kind: Option<String>,
    pub(super) help: Option<String>,
    pub(super) unit: Option<String>,
    pub(super) samples: Vec<Sample>,
}

#[derive(Debug)]
pub(super) struct Sample {
    pub(super) line: usize,
    pub(super) name: String,
    pub(super) labels: Vec<(String, String)>,
    pub(super) value: f64,
}

impl Sample {
    pub(super) fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl Exposition {
    pub(super) fn read(text: &str) -> Self {
        let is_open_metrics = text.lines().next_back() == Some("# EOF");
        let mut page = Self { is_open_metrics, ..Self::default() };
        for (number, line) in (1..).zip(text.lines()) {
            let read = match line.strip_prefix('#') {
                Some(comment) => page.comment(number, comment),
                None if line.trim().is_empty() && is_open_metrics => Err("an empty line".to_owned()),
                None if line.trim().is_empty() => Ok(()),
                None => sample(number, line, is_open_metrics).map(|sample| page.add(sample)),
            };
            if let Err(problem) = read {
                page.unreadable.push(Unreadable { line: number, text: line.to_owned(), problem });
            }
        }
        page
    }

    fn comment(&mut self, line: usize, comment: &str) -> Result<(), String> {
        let mut rest = Rest(comment.trim_start());
        let keyword = rest.word();
        // Any other comment is for people.
        if !matches!(keyword, "HELP" | "TYPE" | "UNIT") || (keyword == "UNIT" && !self.is_open_metrics) {
            return Ok(());
        }
        rest.skip_blanks();
        let name = if rest.0.starts_with('"') { rest.quoted()? } else { rest.word().to_owned() };
        if name.is_empty() {
            return Err(format!("{keyword} without a name"));
        }
        let text = rest.0.strip_prefix([' ', '\t']).unwrap_or(rest.0);
        let is_open_metrics = self.is_open_metrics;
        let family = self.family(&name, line);
        let (place, text) = match keyword {
            "HELP" => (&mut family.help, unescaped(text, is_open_metrics)?),
            "TYPE" => (&mut family.kind, text.trim().to_owned()),
            _ => (&mut family.unit, text.trim().to_owned()),
        };
        match place {
            Some(_) => Err(format!("a second {keyword} of `{name}`")),
            None => {
                *place = Some(text);
                Ok(())
            }
        }
    }

    fn family(&mut self, name: &str, line: usize) -> &mut Family {
        let index = match self.families.iter().position(|family| family.name == name) {
            Some(index) => index,
            None => {
                self.families.push(Family { name: name.to_owned(), line, ..Family::default() });
                self.families.len() - 1
            }
        };
        &mut self.families[index]
    }

    fn add(&mut self, sample: Sample) {
        // Samples follow their metadata, so the last family of the name is the one.
        let is_open_metrics = self.is_open_metrics;
        let owner = self.families.iter_mut().rev().find(|family| family.owns(&sample.name, is_open_metrics));
        match owner {
            Some(family) => family.samples.push(sample),
            None => self.family(&sample.name.clone(), sample.line).samples.push(sample),
        }
    }
}

impl Family {
    /// Whether a sample of this name is one of the family's.
    fn owns(&self, sample: &str, is_open_metrics: bool) -> bool {
        let Some(suffix) = sample.strip_prefix(self.name.as_str()) else { return false };
        suffix.is_empty() || suffixes(self.kind.as_deref().unwrap_or_default(), is_open_metrics).contains(&suffix)
    }
}

/// What the names of a family's samples may add to its own.
pub(super) fn suffixes(kind: &str, is_open_metrics: bool) -> &'static [&'static str] {
    match kind {
        "histogram" if is_open_metrics => &["_bucket", "_sum", "_count", "_created"],
        "summary" if is_open_metrics => &["_sum", "_count", "_created"],
        "counter" if is_open_metrics => &["_total", "_created"],
        "gaugehistogram" => &["_bucket", "_gsum", "_gcount"],
        "info" => &["_info"],
        "histogram" => &["_bucket", "_sum", "_count"],
        "summary" => &["_sum", "_count"],
        _ => &[],
    }
}

fn sample(line: usize, text: &str, is_open_metrics: bool) -> Result<Sample, String> {
    let mut rest = Rest(text.trim_start());
    let mut name = if rest.0.starts_with('{') { String::new() } else { rest.name()? };
    rest.skip_blanks();
    let mut labels = Vec::new();
    if rest.skip('{') {
        rest.labels(&mut name, &mut labels)?;
    }
    if name.is_empty() {
        return Err("a sample without a name".to_owned());
    }
    rest.skip_blanks();
    let value = number(rest.word())?;
    // A timestamp may follow, and in OpenMetrics an exemplar.
    let (timestamp, exemplar) = rest.0.split_once('#').map_or((rest.0, None), |(before, after)| (before, Some(after)));
    let mut words = timestamp.split_ascii_whitespace();
    if let Some(timestamp) = words.next() {
        let is_one = if is_open_metrics { number(timestamp).is_ok() } else { timestamp.parse::<i64>().is_ok() };
        if !is_one {
            return Err(format!("`{timestamp}` is no timestamp"));
        }
    }
    if let Some(word) = words.next() {
        return Err(format!("`{word}` after the timestamp"));
    }
    if let Some(exemplar) = exemplar {
        if !is_open_metrics {
            return Err("an exemplar, which only OpenMetrics has".to_owned());
        }
        let mut rest = Rest(exemplar.trim_start());
        if !rest.skip('{') {
            return Err("an exemplar without labels".to_owned());
        }
        rest.labels(&mut String::new(), &mut Vec::new())?;
        rest.skip_blanks();
        number(rest.word()).map_err(|_| "an exemplar without a value".to_owned())?;
    }
    Ok(Sample { line, name, labels, value })
}

fn number(text: &str) -> Result<f64, String> {
    // Rust reads the same words as Go does, in any case of letters.
    text.parse().map_err(|_| if text.is_empty() { "no value".to_owned() } else { format!("`{text}` is no number") })
}

fn unescaped(text: &str, has_quotes: bool) -> Result<String, String> {
    let mut unescaped = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        unescaped.push(match character {
            '\\' => match characters.next() {
                Some('\\') => '\\',
                Some('n') => '\n',
                Some('"') if has_quotes => '"',
                Some(other) => return Err(format!("the escape `\\{other}`")),
                None => return Err("a backslash at the end".to_owned()),
            },
            other => other,
        });
    }
    Ok(unescaped)
}

/// What is not read yet of a line.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn skip(&mut self, character: char) -> bool {
        let rest = self.0.strip_prefix(character);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn skip_blanks(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t']);
    }

    /// Up to the next blank.
    fn word(&mut self) -> &'a str {
        let (word, rest) = self.0.split_at(self.0.find([' ', '\t']).unwrap_or(self.0.len()));
        self.0 = rest;
        word
    }

    fn name(&mut self) -> Result<String, String> {
        let other = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':');
        let (name, rest) = self.0.split_at(self.0.find(other).unwrap_or(self.0.len()));
        if name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit()) {
            let found: String = self.0.chars().take(20).collect();
            return Err(format!("no name at `{found}`"));
        }
        self.0 = rest;
        Ok(name.to_owned())
    }

    fn quoted(&mut self) -> Result<String, String> {
        if !self.skip('"') {
            let found: String = self.0.chars().take(20).collect();
            return Err(format!("no quote at `{found}`"));
        }
        let mut is_escaped = false;
        let end = self.0.find(|character| {
            let ends = character == '"' && !is_escaped;
            is_escaped = character == '\\' && !is_escaped;
            ends
        });
        let (text, rest) = self.0.split_at(end.ok_or("quotes that do not end")?);
        self.0 = &rest[1..];
        unescaped(text, true)
    }

    /// The labels up to the brace that closes them, and the name where it stands among them in quotes.
    fn labels(&mut self, name: &mut String, labels: &mut Vec<(String, String)>) -> Result<(), String> {
        loop {
            self.skip_blanks();
            if self.skip('}') {
                return Ok(());
            }
            let is_quoted = self.0.starts_with('"');
            let key = if is_quoted { self.quoted()? } else { self.name()? };
            self.skip_blanks();
            if self.skip('=') {
                self.skip_blanks();
                let value = self.quoted()?;
                if labels.iter().any(|(other, _)| *other == key) {
                    return Err(format!("the label `{key}` stands twice"));
                }
                labels.push((key, value));
            } else if is_quoted && name.is_empty() {
                *name = key;
            } else {
                return Err(format!("the label `{key}` has no value"));
            }
            self.skip_blanks();
            if !self.skip(',') && !self.0.starts_with('}') {
                return Err(format!("neither `,` nor `}}` after `{}`", labels.last().map_or(&**name, |(key, _)| key)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unreadable(page: &Exposition) -> Vec<(usize, &str)> {
        page.unreadable.iter().map(|unreadable| (unreadable.line, unreadable.problem.as_str())).collect()
    }

    #[test]
    fn what_prometheus_reads_is_read() {
        let page = Exposition::read(
            "# a remark\n#HELP\n\n# HELP a_total Says \"hi\"\\n\\\\.\n# TYPE a_total counter\n\
             a_total { k = \"v\\\\\\\"\\n,}\" , l=\"\" , } 1e+3 1700000000000\na_total\t2\nb NaN\n\
             # TYPE h histogram\nh_bucket{le=\"+Inf\"} 2\nh_sum -0.5\nh_count 2\n{\"é.x\",\"a.b\"=\"c\"} -Inf\n",
        );
        assert_eq!(unreadable(&page), [(2, "HELP without a name")]);
        let families: Vec<_> = page.families.iter().map(|it| (it.name.as_str(), it.samples.len())).collect();
        assert_eq!(families, [("a_total", 2), ("b", 1), ("h", 3), ("é.x", 1)]);
        let a = &page.families[0];
        assert_eq!((a.help.as_deref(), a.kind.as_deref()), (Some("Says \"hi\"\n\\."), Some("counter")));
        let labels = [("k".to_owned(), "v\\\"\n,}".to_owned()), ("l".to_owned(), String::new())];
        assert_eq!((a.samples[0].labels.as_slice(), a.samples[0].value), (labels.as_slice(), 1000.0));
        assert!(page.families[1].samples[0].value.is_nan());
        assert_eq!(page.families[3].samples[0].labels, [("a.b".to_owned(), "c".to_owned())]);
        assert_eq!(page.families[3].samples[0].value, f64::NEG_INFINITY);
    }

    #[test]
    fn openmetrics_has_units_exemplars_and_samples_that_are_called_after_their_family() {
        let page = Exposition::read(
            "# TYPE a_bytes counter\n# UNIT a_bytes bytes\n# HELP a_bytes Say \\\"hi\\\".\n\
             a_bytes_total 1 # {trace_id=\"ab\"} 0.5 1700000000.5\na_bytes_created 1.5\n# TYPE target info\n\
             target_info{k=\"v\"} 1\n# EOF\n",
        );
        assert_eq!(unreadable(&page), []);
        assert!(page.is_open_metrics);
        let families: Vec<_> = page.families.iter().map(|it| (it.name.as_str(), it.samples.len())).collect();
        assert_eq!(families, [("a_bytes", 2), ("target", 1)]);
        assert_eq!(page.families[0].unit.as_deref(), Some("bytes"));
        assert_eq!(page.families[0].help.as_deref(), Some("Say \"hi\"."));
    }

    #[test]
    fn what_nobody_reads_is_told_with_its_line() {
        for (line, problem) in [
            ("a", "no value"),
            ("a x", "`x` is no number"),
            ("1a 1", "no name at `1a 1`"),
            ("a 1 2 3", "`3` after the timestamp"),
            ("a 1 x", "`x` is no timestamp"),
            ("a{k=\"v\" 1", "neither `,` nor `}` after `k`"),
            ("a{k=\"v} 1", "quotes that do not end"),
            ("a{k=\"v\\t\"} 1", "the escape `\\t`"),
            ("a{k} 1", "the label `k` has no value"),
            ("a{k=\"1\",k=\"2\"} 1", "the label `k` stands twice"),
            ("{k=\"v\"} 1", "a sample without a name"),
            ("a{k=v} 1", "no quote at `v} 1`"),
            ("a 1 1700000000.5", "`1700000000.5` is no timestamp"),
            ("a 1 # {} 1", "an exemplar, which only OpenMetrics has"),
            ("# TYPE a gauge\n# TYPE a gauge", "a second TYPE of `a`"),
            ("# HELP a \\", "a backslash at the end"),
        ] {
            let page = Exposition::read(&format!("b 1\n{line}\nb{{k=\"v\"}} 2\n"));
            assert_eq!(unreadable(&page), [(1 + line.lines().count(), problem)], "{line}");
            assert_eq!(Some(page.unreadable[0].text.as_str()), line.lines().last());
        }
        for (line, problem) in
            [("a 1 # x", "an exemplar without labels"), ("a 1 # {} x", "an exemplar without a value")]
        {
            assert_eq!(unreadable(&Exposition::read(&format!("{line}\n# EOF\n"))), [(1, problem)], "{line}");
        }
        assert_eq!(unreadable(&Exposition::read("a 1\n\n# EOF\n")), [(2, "an empty line")]);
    }
}
