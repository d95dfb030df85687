//! What the endpoint stands: many scrapers at once, and a Prometheus among clients that only hold connections. Linux only.
//!
//! The endpoint is a process of its own, this program started again, so that its memory and its descriptors are told from
//! those of its clients. Every client is in this process, everything is on loopback, and what is started ends with it.

mod endpoint;
mod prometheus;
mod scrapers;
mod slow;

use std::fmt::Write;
use std::time::Duration;

use tokio::runtime::Builder;

pub(crate) use endpoint::serve;
use endpoint::{Endpoint, Footprint};
use prometheus::Prometheus;
use scrapers::{Certificate, Scrapers};
use slow::SlowClients;

/// How long each load is held.
const DURATION: Duration = Duration::from_secs(30);

/// The same load twice: what is flat is as large after the second as after the first.
const ROUNDS: usize = 2;

/// As many as 200 Prometheus that never pause.
const SCRAPERS: usize = 200;

/// Far more than the endpoint has places for.
const SLOW: usize = 2_000;

/// Descriptors that either process has besides its connections, with room to spare.
const OTHER_DESCRIPTORS: usize = 100;

pub(crate) fn measure() -> String {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut report = String::new();
        let tables =
            [scraped("plain TCP", None).await, scraped("TLS", Some(Certificate::write())).await, besieged().await];
        for table in tables {
            let _ = writeln!(report, "{table}");
        }
        report
    })
}

/// Scrapers that ask again as soon as they have their page, each on a connection that it keeps.
async fn scraped(transport: &str, certificate: Option<Certificate>) -> String {
    let title = format!("### {SCRAPERS} scrapers over {transport}, twice {} s\n\n", DURATION.as_secs());
    let started = Endpoint::start(certificate.as_ref().map(Certificate::web_config)).await;
    let endpoint = match started {
        Ok(endpoint) => endpoint,
        Err(why) => return format!("{title}Not measured: {why}\n"),
    };
    let scrapers = Scrapers { count: SCRAPERS, address: endpoint.address, certificate };
    // What the first scrape allocates for good is not what a load leaves behind.
    let idle = endpoint.footprint();
    scrapers.one_scrape().await;
    let before = endpoint.settled(&idle).await;
    let mut table = title + "| round | scrapes/s | p50 ms | p99 ms | max ms | not 200 | broken | MB/s |\n|---|";
    table += &("---:|".repeat(7) + "\n");
    let mut footprints = vec![("before".to_owned(), before)];
    for round in 1..=ROUNDS {
        let (scrapes, peak) = endpoint.peak_during(scrapers.run(DURATION)).await;
        let _ = writeln!(table, "| {round} | {} |", scrapes.row(DURATION));
        footprints.push((format!("round {round}, peak"), peak));
        footprints.push((format!("after round {round}"), endpoint.settled(&before).await));
    }
    format!("{table}\n{}", of_process(&footprints))
}

/// A Prometheus that scrapes every second, while others hold as many connections as they can get.
async fn besieged() -> String {
    let room = endpoint::descriptors().saturating_sub(OTHER_DESCRIPTORS);
    let count = SLOW.min(room);
    let mut table = format!("### A Prometheus among {count} slow connections, twice {} s\n\n", DURATION.as_secs());
    if count < SLOW {
        let _ = writeln!(table, "{SLOW} were meant: the limit of open files (`ulimit -n`) leaves no more.\n");
    }
    let Some(program) = prometheus::find() else {
        return table + "Not measured: there is no target/stack/bin/prometheus, which tests/stack/install makes.\n";
    };
    let endpoint = match Endpoint::start(None).await {
        Ok(endpoint) => endpoint,
        Err(why) => return format!("{table}Not measured: {why}\n"),
    };
    let prometheus = Prometheus::start(&program, endpoint.address).await;
    prometheus.wait_until_up().await;
    let before = endpoint.footprint();
    table += "| round | scrapes | missed | slowest scrape ms | connections made | closed by the endpoint | most open |\n|---|";
    table += &("---:|".repeat(6) + "\n");
    let mut footprints = vec![("before".to_owned(), before)];
    for round in 1..=ROUNDS {
        let slow = SlowClients { count, address: endpoint.address };
        let (seen, peak) = endpoint.peak_during(slow.run(DURATION)).await;
        let scrapes = prometheus.scrapes_within(DURATION).await;
        let _ = writeln!(
            table,
            "| {round} | {} | {} | {:.0} | {} | {} | {} |",
            scrapes.count,
            scrapes.missed,
            scrapes.slowest * 1e3,
            seen.made,
            seen.closed,
            seen.most_open
        );
        footprints.push((format!("round {round}, peak"), peak));
        footprints.push((format!("after round {round}"), endpoint.settled(&before).await));
    }
    format!("{table}\n{}", of_process(&footprints))
}

fn of_process(footprints: &[(String, Footprint)]) -> String {
    let mut table = "| endpoint's process | MB resident | descriptors | threads |\n|---|---:|---:|---:|\n".to_owned();
    for (when, Footprint { resident, descriptors, threads }) in footprints {
        let _ = writeln!(table, "| {when} | {:.1} | {descriptors} | {threads} |", crate::table::megabytes(*resident));
    }
    table
}
