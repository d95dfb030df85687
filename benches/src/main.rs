//! What Barograph costs, measured beside others in one run: each round times every contestant once, in turn, so that
//! what else the machine does falls on all of them alike. Quote the ratios; absolute times belong to one machine.
//!
//! ```text
//! cargo run --release -p barograph-benches -- record
//! cargo run --release -p barograph-benches -- scrape
//! ```

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a measurement is printed")]
#![expect(clippy::expect_used, reason = "a measurement that cannot be made ends here")]

mod record;
mod scrape;
mod table;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["record"] => print!("{}", record::measure()),
        ["scrape"] => print!("{}", scrape::measure()),
        _ => {
            eprintln!("usage: cargo run --release -p barograph-benches -- record|scrape");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
