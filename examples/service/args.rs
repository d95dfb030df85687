//! The command line.

use std::time::Duration;

use clap::Parser;

use crate::duration::duration;

/// Answers requests, its own among them, and shows what can be measured of that.
#[derive(Parser)]
#[command(name = "service")]
pub(crate) struct Args {
    /// End after this time (500ms, 30s, 2m, 1h). Without it, Ctrl-C ends.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub(crate) duration: Option<Duration>,

    /// Where requests are answered; port 0 lets the system choose.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub(crate) http: String,

    /// Where the metrics are served, whatever the environment says. The platform's port is the one before.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9465")]
    pub(crate) listen: String,

    /// Go on serving metrics for this time once everything has ended, so that the last values are scraped.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) linger: Option<Duration>,
}
