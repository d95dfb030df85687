//! What goes wrong and is said to a person is looked up in the guide. That the guide quotes nothing else is a rule of
//! tests/policy; that the programs of its last chapter say the same is tests/suite/migrating.rs.

use std::io::{Error, ErrorKind};
use std::time::Duration;

use barograph::{InstrumentName, Problem, ScrapeError, StartError, ViewError};

/// What the guide's tables of symptoms quote.
fn quotes() -> Vec<&'static str> {
    let chapter = include_str!("../../src/guide/operating.md");
    let (_, tables) = chapter.split_once("## Troubleshooting").unwrap();
    let rows = tables.lines().filter(|line| line.starts_with("| "));
    rows.filter_map(|row| row.split(" | ").next()?.split('`').nth(1)).collect()
}

/// Whether a text begins like the quote, in which `…` stands for anything.
fn is_quoted(quote: &str, text: &str) -> bool {
    let mut rest = Some(text);
    for (index, part) in quote.split('…').enumerate() {
        rest = rest.and_then(|rest| match index {
            0 => rest.strip_prefix(part),
            _ => rest.split_once(part).map(|(_, after)| after),
        });
    }
    rest.is_some()
}

fn instrument() -> InstrumentName {
    InstrumentName { name: "a".to_owned(), scope: "b".to_owned() }
}

fn problems() -> Vec<Problem> {
    let (instrument, name) = (instrument(), "a".to_owned());
    vec![
        Problem::InvalidName { instrument: instrument.clone() },
        Problem::InvalidUnit { instrument: instrument.clone(), unit: name.clone() },
        Problem::InvalidBuckets { instrument: instrument.clone(), bounds: vec![] },
        Problem::BuiltInCallback { instrument: instrument.clone() },
        Problem::Conflict {
            scraped: name.clone(),
            shown: instrument.clone(),
            dropped: instrument.clone(),
            reason: "they are of different types",
        },
        Problem::Redeclared { instrument: instrument.clone(), difference: "buckets" },
        Problem::ReservedName { scraped: name.clone(), instrument: instrument.clone() },
        Problem::UnmatchedView { view: name.clone() },
        Problem::Overflow { instrument, stream: name, limit: 1, keys: vec![] },
    ]
}

fn start_errors() -> Vec<StartError> {
    let name = || "a".to_owned();
    let source = |kind| Error::from(kind);
    vec![
        StartError::Address { address: name(), source: source(ErrorKind::InvalidInput) },
        StartError::Bind { address: name(), source: source(ErrorKind::AddrInUse) },
        StartError::Path { path: name() },
        StartError::SameRegistry,
        StartError::View(ViewError::AmbiguousName { view: name(), name: name() }),
        StartError::View(ViewError::ImpossibleSelector { view: name(), character: '!' }),
    ]
}

fn scrape_errors() -> Vec<ScrapeError> {
    let second = Duration::from_secs(1);
    vec![
        ScrapeError::ShutDown,
        ScrapeError::NotServed,
        ScrapeError::Busy { pages: 1 },
        ScrapeError::TimedOut { after: second, callback: Some(instrument()), running: second },
    ]
}

#[test]
fn what_a_person_is_told_is_in_the_guides_tables() {
    let problems = problems().into_iter().map(|problem| problem.to_string());
    let start_errors = start_errors().into_iter().map(|error| error.to_string());
    let scrape_errors = scrape_errors().into_iter().map(|error| error.to_string());
    let quotes = quotes();
    for text in problems.chain(start_errors).chain(scrape_errors) {
        let known = quotes.iter().any(|quote| is_quoted(quote, &text));
        assert!(known, "src/guide/operating.md has no row for: {text}\namong {quotes:#?}");
    }
}
