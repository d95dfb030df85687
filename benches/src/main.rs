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
//! cargo bench -p barograph-benches                           # parts of Barograph by themselves
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

use std::process::ExitCode;

use workload::{HEADLINE, LARGEST, WORKLOADS};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["record"] => [1, 2, 8].into_iter().for_each(|threads| println!("{}", record::measure(threads))),
        ["record", "--operations"] => {
            [1, 2].into_iter().for_each(|threads| println!("{}", record::measure_operations(threads)));
        }
        ["record", "--readers"] => println!("{}", record::measure_readers()),
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
                "usage: cargo run --release -p barograph-benches -- record [--readers | --operations | --exemplars] | scrape [--all] | compression | memory | load | fleet [--cardinality] | http [--load]"
            );
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
