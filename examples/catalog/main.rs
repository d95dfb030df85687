//! Every metric there is, as data and as a page, and what is made from them: the Grafana dashboards.
//!
//! ```text
//! cargo run --example catalog -- --json        # for programs: names, kinds, units, attributes, buckets
//! cargo run --example catalog -- --markdown    # the same as a page for people
//! cargo run --example catalog -- --write       # writes deploy/CATALOG.md, the dashboards and the PrometheusRule
//! ```
//!
//! Look at `deploy/grafana/dashboards` in your Grafana, and at `generator/dashboards/test_watcher.rs`: a layout is a
//! list of panels that refer to specs. Rename a metric in its spec and the dashboard follows; ask for an attribute that
//! the spec does not have and nothing is written.

mod generator;

use std::error::Error;
use std::fs;
use std::io;
use std::io::Write;
use std::path::Path;

use clap::{Args, Parser};

/// Lists every metric there is, and writes what is made from them.
#[derive(Parser)]
#[command(name = "catalog")]
struct Command {
    #[command(flatten)]
    what: What,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct What {
    /// The catalogue as JSON.
    #[arg(long)]
    json: bool,

    /// The catalogue as Markdown.
    #[arg(long)]
    markdown: bool,

    /// Write the generated files into deploy/, and say which of them have changed.
    #[arg(long)]
    write: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let Command { what } = Command::parse();
    let mut out = io::stdout().lock();
    if what.json {
        writeln!(out, "{:#}", generator::catalogue::json())?;
    } else if what.markdown {
        write!(out, "{}", generator::catalogue::markdown())?;
    } else {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for (path, text) in generator::files(root)? {
            let file = root.join(&path);
            if fs::read_to_string(&file).is_ok_and(|written| written == text) {
                continue;
            }
            fs::create_dir_all(file.parent().unwrap_or(root))?;
            fs::write(file, text)?;
            writeln!(out, "{path}")?;
        }
    }
    Ok(())
}
