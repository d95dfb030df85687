//! The tables of a fleet.

use std::fmt::Write;

use super::endpoint::points;
use super::{EndpointUsage, Row, Used, scrapes_due};
use crate::table::megabytes;

pub(super) fn tables(rows: &[Row]) -> String {
    format!("{}\n{}\n{}", collected(rows), servers(rows), endpoints(rows))
}

fn collected(rows: &[Row]) -> String {
    let columns = [
        "series stored",
        "samples/s expected",
        "samples/s ingested",
        "scrapes",
        "failed or missing",
        "p50 ms",
        "p99 ms",
    ];
    let mut table = head("collected by", &columns);
    for row in rows {
        let _ = write!(table, "{} {:.0} | {:.0} | {:.0} |", name(row), row.series, row.expected, row.ingested);
        match (&row.scrapes, row.points) {
            (Some(scrapes), _) => {
                let milliseconds = |place| quantile(&scrapes.durations, place) * 1e3;
                let _ = writeln!(
                    table,
                    " {} | {} | {:.1} | {:.1} |",
                    scrapes.count,
                    (row.endpoints * scrapes_due()).saturating_sub(scrapes.count - scrapes.failed),
                    milliseconds(0.5),
                    milliseconds(0.99)
                );
            }
            (None, Some((sent, lost))) => {
                let _ = writeln!(table, " {sent:.0} points/s | {lost:.0} points/s | – | – |");
            }
            (None, None) => table += " – | – | – | – |\n",
        }
    }
    table
}

fn servers(rows: &[Row]) -> String {
    let columns = [
        "collector CPU",
        "collector MB",
        "store CPU",
        "store MB",
        "bytes a sample, written",
        "stored",
        "index bytes a series",
    ];
    let mut table = head("servers", &columns);
    for row in rows {
        let used = |Used { cpu, resident }: Used| format!("{cpu:.3} | {:.0}", megabytes(resident));
        let store = row.store.map_or("– | –".to_owned(), used);
        let index = row.index_bytes_per_series.map_or("–".to_owned(), |bytes| format!("{bytes:.0}"));
        let written = row.bytes_written.map_or("–".to_owned(), |bytes| format!("{bytes:.2}"));
        let collector = used(row.collector);
        let stored = row.bytes_per_sample;
        let _ = writeln!(table, "{} {collector} | {store} | {written} | {stored:.2} | {index} |", name(row));
    }
    table
}

fn endpoints(rows: &[Row]) -> String {
    let columns = [
        "ms CPU a scrape or push, median",
        "max",
        "ms CPU a second of recording",
        "MB resident, median",
        "max",
        "MB of its own, median",
        "kB page",
        "kB gzip",
    ];
    let mut table = head("an endpoint", &columns);
    for row in rows {
        let of = |value: &dyn Fn(&EndpointUsage) -> f64, place| {
            let mut values: Vec<f64> = row.usage.iter().map(value).collect();
            values.sort_by(f64::total_cmp);
            quantile(&values, place)
        };
        let scrape = |usage: &EndpointUsage| usage.scrape.as_secs_f64() * 1e3;
        let resident = |usage: &EndpointUsage| megabytes(usage.resident);
        let page = row.page.map_or("– | –".to_owned(), |(plain, gzip)| {
            format!("{:.1} | {:.1}", plain as f64 / 1e3, gzip as f64 / 1e3)
        });
        let _ = writeln!(
            table,
            "{} {:.2} | {:.2} | {:.2} | {:.1} | {:.1} | {:.1} | {page} |",
            name(row),
            of(&scrape, 0.5),
            of(&scrape, 1.0),
            of(&|usage| usage.recording.as_secs_f64() * 1e3, 0.5),
            of(&resident, 0.5),
            of(&resident, 1.0),
            of(&|usage| megabytes(usage.own), 0.5),
        );
    }
    table
}

/// What a million series more cost, between the smallest and the largest fleet of the same number of endpoints.
pub(super) fn cardinality(rows: &[Row]) -> String {
    let mut table = head("a million series more", &["collector MB", "store MB", "MB of the endpoints' own"]);
    for rows in rows.chunk_by(|a, b| a.way == b.way) {
        let same: Vec<&Row> = rows.iter().filter(|row| row.endpoints == rows[0].endpoints).collect();
        let (Some(least), Some(most)) = (same.first(), same.last()) else { continue };
        let millions = (most.series - least.series) / 1e6;
        let grown = |of: &dyn Fn(&Row) -> usize| (megabytes(of(most)) - megabytes(of(least))) / millions;
        let store = least.store.map(|_| grown(&|row| row.store.map_or(0, |used| used.resident)));
        let _ = writeln!(
            table,
            "| {} | {:.0} | {} | {:.0} |",
            least.way,
            grown(&|row| row.collector.resident),
            store.map_or("–".to_owned(), |store| format!("{store:.0}")),
            grown(&|row| row.usage.iter().map(|usage| usage.own).sum()),
        );
    }
    table
}

fn name(row: &Row) -> String {
    let points = if row.points.is_some() { format!(" in {} points", points(row.size)) } else { String::new() };
    format!("| {}, {} × {}{points} |", row.way, row.endpoints, row.size)
}

fn head(first: &str, columns: &[&str]) -> String {
    format!("| {first} | {} |\n|---|{}\n", columns.join(" | "), "---:|".repeat(columns.len()))
}

/// Of sorted values.
fn quantile(values: &[f64], place: f64) -> f64 {
    let last = values.len().saturating_sub(1) as f64;
    values.get((last * place).round() as usize).copied().unwrap_or(f64::NAN)
}
