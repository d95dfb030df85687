//! What Barograph costs, measured beside others in one run: each round times every contestant once, in turn, so that
//! what else the machine does falls on all of them alike. Quote the ratios; absolute times belong to one machine.
//!
//! ```text
//! cargo run --release -p barograph-benches -- scrape         # one page of 90,000 lines
//! cargo run --release -p barograph-benches -- scrape --all   # other sizes, attributes and values too
//! cargo run --release -p barograph-benches -- compression    # levels of gzip and zstd on that page
//! cargo run --release -p barograph-benches -- memory         # what the first scrape adds (Linux)
//! cargo run --release -p barograph-benches -- load           # 200 scrapers, 2,000 slow clients (Linux)
//! cargo run --release -p barograph-benches -- fleet          # 200 endpoints and real servers (Linux)
//! cargo run --release -p barograph-benches -- fleet --cardinality   # other sizes
//! cargo run --release -p barograph-benches -- http           # what a layer adds to a request
//! cargo run --release -p barograph-benches -- http --load    # a service under the load of wrk (Linux)
//! cargo run --release -p barograph-benches -- record
//! cargo run --release -p barograph-benches -- record --readers   # scraped, and pushed by OTLP as well
//! cargo run --release -p barograph-benches -- record --operations   # a function measured from one declaration
//! cargo run --release -p barograph-benches -- record --scrape    # what threads have counted, collected
//! cargo bench -p barograph-benches                           # parts of Barograph by themselves
//! cargo bench -p barograph-benches --bench recording_memory  # what threads that count leave on the heap
//! ```

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a measurement is printed")]
#![expect(clippy::expect_used, reason = "a measurement that cannot be made ends here")]

mod check;
mod compression;
mod fleet;
mod http;
mod load;
mod memory;
mod ours;
mod peers;
mod record;
mod scrape;
mod table;
mod workload;

use std::env;
use std::process::{Command, ExitCode};

use workload::{HEADLINE, LARGEST, WORKLOADS};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["record"] => {
            for (series, threads) in [("1", "1"), ("1", "2"), ("1", "8"), ("18", "1"), ("18", "2"), ("18", "8")] {
                println!("{}", of_its_own(&["record", "--of", threads, series]));
            }
        }
        // What that starts: one table in a process of its own, where nobody finds what another one has left.
        ["record", "--of", threads, series] => {
            let [threads, series] = [threads, series].map(|number| number.parse().expect("a number"));
            println!("{}", record::measure(threads, series));
        }
        ["record", "--operations"] => {
            [1, 2].into_iter().for_each(|threads| println!("{}", record::measure_operations(threads)));
        }
        ["record", "--readers"] => println!("{}", record::measure_readers()),
        ["record", "--scrape"] => println!("{}", record::measure_scrape()),
        // What that starts: one case in a process of its own.
        ["record", "--scrape-of", case] => println!("{}", record::scrape_of(case)),
        ["record", "--exemplars"] => println!("{}", record::measure_exemplars()),
        ["scrape"] => println!("{}", scrape::measure(&HEADLINE)),
        ["scrape", "--all"] => WORKLOADS.iter().for_each(|workload| println!("{}", scrape::measure(workload))),
        ["compression"] => println!("{}", compression::measure(&HEADLINE)),
        ["memory"] => println!("{}", memory::measure(&LARGEST)),
        ["load"] => println!("{}", load::measure()),
        ["fleet"] => println!("{}", fleet::measure()),
        ["fleet", "--cardinality"] => println!("{}", fleet::measure_cardinality()),
        ["http"] => println!("{}", http::measure()),
        ["http", "--load"] => println!("{}", http::measure_load()),
        // What `http --load` starts: one service in a process of its own.
        ["http", "--serve", service] => http::serve(service),
        // What `fleet` starts: one endpoint of many.
        ["fleet", "--serve", size] => fleet::serve(size),
        // What `load` starts: an endpoint in a process of its own.
        ["load", "--serve"] => load::serve(None),
        ["load", "--serve", web_config] => load::serve(Some(web_config)),
        // What `memory` starts: one contestant in a process of its own.
        ["scrape", "--memory-of", name] => println!("{}", memory::of(name, &LARGEST)),
        _ => {
            eprintln!(
                "usage: cargo run --release -p barograph-benches -- record [--readers | --operations | --exemplars | --scrape] | scrape [--all] | compression | memory | load | fleet [--cardinality] | http [--load]"
            );
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// What this program prints in another process.
fn of_its_own(arguments: &[&str]) -> String {
    let child = Command::new(env::current_exe().expect("this program")).args(arguments).output();
    let child = child.expect("this program runs");
    assert!(child.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&child.stderr));
    String::from_utf8(child.stdout).expect("text").trim_end().to_owned() + "\n"
}
