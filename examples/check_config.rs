//! Says what a configuration file would become, without starting it.
//!
//! ```text
//! cargo run --features config-file --example check_config -- examples/otel.yaml
//! ```
//!
//! First come the warnings, then every setting with its value and the line that says so. Misspell a setting and look at the
//! one line that names its place. Exits with 0, with 1 for a file that is wrong, and with 2 for a wrong call: fit for CI.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to a person")]

use std::process::ExitCode;

use barograph::ConfigError;
use barograph::config::Configuration;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let (Some(file), None) = (args.next(), args.next()) else {
        eprintln!("usage: check_config FILE");
        return ExitCode::from(2);
    };
    match show(file.as_ref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn show(file: &std::path::Path) -> Result<(), ConfigError> {
    let configuration = Configuration::from_file(file)?;
    configuration.check()?;
    for warning in &configuration.warnings {
        println!("warning: {warning}");
    }
    let settings = configuration.settings();
    let width = settings.iter().map(|setting| setting.path.len()).max().unwrap_or_default();
    for setting in settings {
        println!("{:width$}  {}  ({})", setting.path, setting.value, setting.origin);
    }
    Ok(())
}
