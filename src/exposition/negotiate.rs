//! Which format a scraper gets, by its `Accept` header.
//!
//! Specification: "Content Negotiation" of the Prometheus exporter, Prometheus' document on content negotiation, and for
//! how the header is written RFC 9110, section 12.5.1. As in Prometheus' own library the clause of the highest `q` decides,
//! be it a wildcard.

use std::borrow::Cow;

use super::escape::Escaping;

/// What is longer is not a header that a scraper makes: Prometheus' own is under 400 bytes.
const MAX_ACCEPT_LEN: usize = 8 * 1024;

const OPENMETRICS: &str = "application/openmetrics-text";
const PROTOBUF: &str = "application/vnd.google.protobuf";
const PROTO: &str = "io.prometheus.client.MetricFamily";

/// An exposition format and its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Syntax {
    Text004,
    Text100,
    OpenMetrics001,
    OpenMetrics100,
    Protobuf,
}

/// What a page is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Format {
    pub(crate) syntax: Syntax,
    pub(crate) escaping: Escaping,
}

impl Default for Format {
    /// What every Prometheus reads, and what the specification asks for where no `Accept` header says otherwise.
    fn default() -> Self {
        Self { syntax: Syntax::Text004, escaping: Escaping::Underscores }
    }
}

impl Format {
    /// What the header `Content-Type` says.
    pub(crate) fn content_type(self) -> String {
        let escaping = self.escaping.as_str();
        match self.syntax {
            Syntax::Text004 => format!("text/plain; version=0.0.4; charset=utf-8; escaping={escaping}"),
            Syntax::Text100 => format!("text/plain; version=1.0.0; charset=utf-8; escaping={escaping}"),
            Syntax::OpenMetrics001 => format!("{OPENMETRICS}; version=0.0.1; charset=utf-8; escaping={escaping}"),
            Syntax::OpenMetrics100 => format!("{OPENMETRICS}; version=1.0.0; charset=utf-8; escaping={escaping}"),
            Syntax::Protobuf => format!("{PROTOBUF}; proto={PROTO}; encoding=delimited; escaping={escaping}"),
        }
    }
}

/// The format for an `Accept` header; several such headers are one, joined with commas.
///
/// The clause of the highest `q` wins that stands for a format there is, the first of several. A clause counts for
/// nothing if it cannot be read, asks for something there is not, or has a `q` that is no number from 0 to 1. There is
/// always an answer: a scraper that accepts none of the formats gets the default, as the specification wants it.
pub(crate) fn negotiate(accept: Option<&str>) -> Format {
    let Some(accept) = accept.filter(|accept| accept.len() <= MAX_ACCEPT_LEN) else {
        return Format::default();
    };
    let clauses: Vec<Clause> = split_unquoted(accept, ',').filter_map(Clause::parse).collect();

    // What a clause excludes does not come back by one that is no more exact.
    let mut excluded = [None; ALL.len()];
    for clause in clauses.iter().filter(|clause| clause.quality == 0.0) {
        for &syntax in clause.syntaxes {
            let exactness = &mut excluded[syntax as usize];
            *exactness = (*exactness).max(Some(clause.exactness));
        }
    }

    let mut best = None;
    let mut best_quality = 0.0;
    for clause in &clauses {
        let syntax = clause.syntaxes.iter().find(|&&syntax| excluded[syntax as usize] < Some(clause.exactness));
        if let Some(&syntax) = syntax
            && clause.quality > best_quality
        {
            best = Some(Format { syntax, escaping: clause.escaping });
            best_quality = clause.quality;
        }
    }
    best.unwrap_or_default()
}

/// All formats in the order in which a scraper gets them that takes any.
const ALL: &[Syntax] =
    &[Syntax::Text004, Syntax::Text100, Syntax::OpenMetrics100, Syntax::OpenMetrics001, Syntax::Protobuf];

/// How exactly a clause says what it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Exactness {
    Anything,
    Type,
    Subtype,
    Version,
}

/// What one clause of the header asks for.
#[derive(Debug)]
struct Clause {
    /// From 0, which is never, to 1.
    quality: f32,
    exactness: Exactness,
    /// What it stands for, best first.
    syntaxes: &'static [Syntax],
    escaping: Escaping,
}

impl Clause {
    /// `None` where it cannot be read or stands for nothing there is.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = split_unquoted(text, ';');
        let media = parts.next()?.trim();
        let mut quality = 1.0;
        let mut escaping = Escaping::Underscores;
        let (mut version, mut proto, mut encoding) = (None, None, None);
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            let name = name.trim();
            let value = unquoted(value.trim())?;
            if name.eq_ignore_ascii_case("q") {
                quality = value.parse().ok().filter(|quality| (0.0..=1.0).contains(quality))?;
            } else if name.eq_ignore_ascii_case("version") {
                version = Some(value);
            } else if name.eq_ignore_ascii_case("escaping") {
                // Prometheus' document leaves names as they are to versions from 1.0.0 on, its library does not. Who
                // asks for a version before that and for such names can read them.
                escaping = Escaping::parse(&value).unwrap_or(Escaping::Underscores);
            } else if name.eq_ignore_ascii_case("charset") {
                // Values of labels may have any character, so a page is never sure to be in a smaller set.
                if !value.eq_ignore_ascii_case("utf-8") {
                    return None;
                }
            } else if name.eq_ignore_ascii_case("proto") {
                proto = Some(value);
            } else if name.eq_ignore_ascii_case("encoding") {
                encoding = Some(value);
            }
        }

        let version = version.as_deref();
        let says = |value: Option<Cow<'_, str>>, wanted| value.is_some_and(|value| value.eq_ignore_ascii_case(wanted));
        let (exactness, syntaxes): (_, &[Syntax]) = match media.to_ascii_lowercase().as_str() {
            "*/*" => (Exactness::Anything, ALL),
            "text/*" => (Exactness::Type, &[Syntax::Text004, Syntax::Text100]),
            "application/*" => (Exactness::Type, &[Syntax::OpenMetrics100, Syntax::OpenMetrics001, Syntax::Protobuf]),
            "text/plain" => match version {
                None => (Exactness::Subtype, &[Syntax::Text004, Syntax::Text100]),
                Some("0.0.4") => (Exactness::Version, &[Syntax::Text004]),
                Some("1.0.0") => (Exactness::Version, &[Syntax::Text100]),
                Some(_) => return None,
            },
            OPENMETRICS => match version {
                // As Prometheus' own library reads it.
                None => (Exactness::Subtype, &[Syntax::OpenMetrics001, Syntax::OpenMetrics100]),
                Some("0.0.1") => (Exactness::Version, &[Syntax::OpenMetrics001]),
                Some("1.0.0") => (Exactness::Version, &[Syntax::OpenMetrics100]),
                Some(_) => return None,
            },
            PROTOBUF if says(proto, PROTO) && says(encoding, "delimited") => (Exactness::Version, &[Syntax::Protobuf]),
            _ => return None,
        };
        Some(Self { quality, exactness, syntaxes, escaping })
    }
}

/// The pieces between separators that are not in a quoted string.
fn split_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    let mut is_escaped = false;
    text.split(move |character| {
        if is_escaped {
            is_escaped = false;
        } else {
            is_escaped = is_quoted && character == '\\';
            is_quoted ^= character == '"';
        }
        character == separator && !is_quoted
    })
}

/// The value of a parameter, with or without quotes; `None` where the quotes are not around it.
fn unquoted(value: &str) -> Option<Cow<'_, str>> {
    if !value.contains('"') {
        return Some(Cow::Borrowed(value));
    }
    let mut characters = value.strip_prefix('"')?.strip_suffix('"')?.chars();
    let mut unquoted = String::new();
    while let Some(character) = characters.next() {
        unquoted.push(match character {
            '\\' => characters.next()?,
            '"' => return None,
            other => other,
        });
    }
    Some(Cow::Owned(unquoted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Escaping::{AllowUtf8, Dots, Underscores, Values};
    use Syntax::{OpenMetrics001, OpenMetrics100, Protobuf, Text004, Text100};

    #[track_caller]
    fn check(accept: &str, syntax: Syntax, escaping: Escaping) {
        assert_eq!(negotiate(Some(accept)), Format { syntax, escaping }, "{accept}");
    }

    const DELIMITED: &str =
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";

    #[test]
    fn who_says_nothing_gets_the_text_format_that_everybody_reads() {
        assert_eq!(negotiate(None), Format { syntax: Text004, escaping: Underscores });
        for accept in ["", " ", ",", ";", ",;,=;", "*/*", "text/plain", "image/png", "text/html,*/*;q=0.8"] {
            check(accept, Text004, Underscores);
        }
    }

    #[test]
    fn prometheus_gets_what_it_prefers() {
        let text = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                    application/openmetrics-text;version=0.0.1;q=0.5,\
                    text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        check(text, OpenMetrics100, AllowUtf8);
        check(&format!("{DELIMITED};q=0.7,{text}"), Protobuf, Underscores);
        check(text.split_once(',').unwrap().1, OpenMetrics001, Underscores);
        check(&text[text.find("text/plain").unwrap()..], Text100, AllowUtf8);
    }

    #[test]
    fn the_highest_q_wins_and_the_first_of_equal_ones() {
        check("text/plain;q=0.1,application/openmetrics-text;version=1.0.0;q=0.2", OpenMetrics100, Underscores);
        check("text/plain;q=0.5,application/openmetrics-text;version=1.0.0;q=0.500", Text004, Underscores);
        check("image/png,text/plain;version=1.0.0;q=0.001", Text100, Underscores);
        check("text/plain;q=.2,application/*;q=.3", OpenMetrics100, Underscores);
    }

    #[test]
    fn a_q_of_0_excludes_what_it_names() {
        check("text/plain;q=0,*/*", OpenMetrics100, Underscores);
        check("*/*,text/plain;version=0.0.4;q=0.0", Text100, Underscores);
        check("text/*;q=0,application/openmetrics-text;q=0,*/*", Protobuf, Underscores);
        check("application/openmetrics-text;version=1.0.0;q=0,application/*", OpenMetrics001, Underscores);
        check("text/plain;version=0.0.4;q=0,text/plain;version=0.0.4,application/*;q=0.1", OpenMetrics100, Underscores);
    }

    #[test]
    fn a_more_exact_clause_wins_against_an_exclusion() {
        check("*/*;q=0,application/openmetrics-text;version=1.0.0;q=0.1", OpenMetrics100, Underscores);
        check("text/*;q=0,text/plain;version=1.0.0", Text100, Underscores);
        check("text/plain;q=0,text/plain;version=1.0.0", Text100, Underscores);
    }

    #[test]
    fn who_accepts_nothing_there_is_gets_the_default() {
        for accept in ["*/*;q=0", "text/plain;q=0", "application/json", "text/plain;version=2.0.0"] {
            check(accept, Text004, Underscores);
        }
    }

    #[test]
    fn wildcards_stand_for_the_usual_format_of_their_type() {
        check("text/*", Text004, Underscores);
        check("application/*", OpenMetrics100, Underscores);
        check("*/*;escaping=values", Text004, Values);
        check("image/*,application/*;q=0.1", OpenMetrics100, Underscores);
    }

    #[test]
    fn a_version_that_is_not_said_is_the_first_one() {
        check("text/plain", Text004, Underscores);
        check("application/openmetrics-text", OpenMetrics001, Underscores);
    }

    #[test]
    fn a_clause_for_something_there_is_not_counts_for_nothing() {
        for clause in [
            "application/openmetrics-text;version=2.0.0",
            "application/openmetrics-text;version=0.0.4",
            "text/plain;version=0.0.1",
            "text/plain;version=",
            "text/plain;charset=us-ascii",
            "*/*;charset=iso-8859-1",
            "application/vnd.google.protobuf",
            "application/vnd.google.protobuf;encoding=delimited",
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text",
            "application/vnd.google.protobuf;proto=io.prometheus.client.Metric;encoding=delimited",
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=compact-text",
        ] {
            check(&format!("{clause};escaping=dots,text/plain;version=1.0.0;q=0.5"), Text100, Underscores);
            check(&format!("{clause};escaping=dots"), Text004, Underscores);
        }
    }

    #[test]
    fn an_escaping_holds_for_its_clause_whatever_the_version() {
        check("text/plain;version=0.0.4;escaping=allow-utf-8", Text004, AllowUtf8);
        check("text/plain;escaping=allow-utf8", Text004, AllowUtf8);
        check("application/openmetrics-text;version=0.0.1;escaping=dots", OpenMetrics001, Dots);
        check(&format!("{DELIMITED};escaping=values"), Protobuf, Values);
        check("text/plain;escaping=slashes", Text004, Underscores);
        check("text/plain;escaping=", Text004, Underscores);
        check("text/plain;version=1.0.0;q=0.1,text/plain;escaping=dots", Text004, Dots);
    }

    #[test]
    fn case_spaces_quotes_and_parameters_nobody_knows_do_not_matter() {
        check("TEXT/Plain;Version=1.0.0;ESCAPING=Dots;Charset=UTF-8", Text100, Dots);
        check(" text/plain ; version = 1.0.0 ; q = 0.5 ; ", Text100, Underscores);
        check("text/plain;version=\"1.0.0\";escaping=\"allow-utf-8\"", Text100, AllowUtf8);
        check("text/plain;version=\"1.\\0.0\"", Text100, Underscores);
        check(
            "application/openmetrics-text;note=\"a, text/plain; version=0.0.4 \\\" ,b\";version=1.0.0",
            OpenMetrics100,
            Underscores,
        );
        check("text/plain;version=1.0.0;level;=;x=", Text100, Underscores);
        check("image/png;x=\\\"a,b\",text/plain;version=1.0.0", Text100, Underscores);
        check(&DELIMITED.to_uppercase(), Protobuf, Underscores);
    }

    #[test]
    fn a_clause_that_cannot_be_read_counts_for_nothing() {
        for q in ["abc", "", "2", "-1", "1.001", "NaN", "inf", "0,5", "\"0.5"] {
            check(&format!("text/plain;version=1.0.0;q={q}"), Text004, Underscores);
        }
        check("text/plain;version=\"1.0.0", Text004, Underscores);
        check("text/plain;version=1\"0.0\";q=1,application/*;q=0.1", OpenMetrics100, Underscores);
        check("text/plain;version=\"1.0.0\\\"", Text004, Underscores);
        check("text/plain;version=\"1.0\"0\"", Text004, Underscores);
    }

    #[test]
    fn a_header_of_thousands_of_clauses_or_parameters_is_read_and_a_longer_one_is_not() {
        let wanted = "text/plain;version=1.0.0";
        for filler in [",", ";", "a,", "a=\",\";", "*/*;q=0,", "\\,", "q=0.1;"] {
            let clauses = format!("{},{wanted}", filler.repeat((MAX_ACCEPT_LEN - wanted.len() - 1) / filler.len()));
            assert_eq!(negotiate(Some(&clauses)).syntax, Text100, "{filler}");
            assert_eq!(negotiate(Some(&format!("{clauses}{filler}        "))).syntax, Text004, "{filler}");
        }
        let parameters = format!("{wanted}{}", ";a=\"\"".repeat(1000));
        check(&parameters, Text100, Underscores);
        let quotes = "\"".repeat(MAX_ACCEPT_LEN);
        check(&quotes, Text004, Underscores);
    }

    #[test]
    fn the_content_type_says_format_and_escaping() {
        for (syntax, escaping, content_type) in [
            (Text004, Underscores, "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"),
            (Text100, AllowUtf8, "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8"),
            (OpenMetrics001, Dots, "application/openmetrics-text; version=0.0.1; charset=utf-8; escaping=dots"),
            (OpenMetrics100, Values, "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=values"),
            (
                Protobuf,
                Underscores,
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; \
                 escaping=underscores",
            ),
        ] {
            let format = Format { syntax, escaping };
            assert_eq!(format.content_type(), content_type);
            // What is said is what would be given to somebody who asks for it.
            assert_eq!(negotiate(Some(content_type)), format);
        }
    }
}
