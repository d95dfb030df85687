//! A service as there are many, with everything measured that it has in common with all others: the requests that it
//! answers and those that it sends, its tokio runtimes and tasks, its process and machine, one function of its own, and
//! what a crate that it uses has counted with `metrics`. It is its own customer, so that there is something to see.
//!
//! ```text
//! cargo run --release --example service                  # until Ctrl-C
//! cargo run --release --example service -- --for 30s     # ends by itself
//!
//! curl http://127.0.0.1:8080/orders/17
//! curl http://127.0.0.1:9465/metrics | grep ^http_server_request_duration_seconds_count
//! ```
//!
//! Look at what there is no series for: `/wp-login.php` and `/.env`, which somebody asks for all the time, are one
//! `http_route="_UNMATCHED"`, and the method `BREW` is `_OTHER`. Look at `error_type`: who went away (`cancelled`), a
//! panic, an answer that broke off (`body`), and a status of gRPC are told apart. And look at which request was slow: an
//! exemplar of a bucket names its trace.
//!
//! ```text
//! curl -H 'Accept: application/openmetrics-text' http://127.0.0.1:9465/metrics | grep 'le="1.0".* # '
//! ```
//!
//! This file puts the service together, and is most of what a service of your own needs. `app.rs` is the service, `stock.rs`
//! whom it asks, `span.rs` gives each request its span; `outside.rs` is everybody else.

#![expect(clippy::print_stdout, reason = "an example talks to a person")]

mod app;
mod args;
#[path = "../platform/duration.rs"]
mod duration;
mod outside;
mod span;
mod stock;

use std::error::Error;
use std::future::pending;
use std::panic;
use std::time::Duration;

use axum::extract::MatchedPath;
use axum::middleware::from_fn_with_state;
use barograph::Telemetry;
use barograph_instrumentation_http::{HttpClientMetrics, HttpServerMetrics};
use barograph_instrumentation_metrics::MetricsRecorder;
use barograph_instrumentation_system::{HostMetrics, ProcessMetrics};
use barograph_instrumentation_tokio::TokioMetrics;
use clap::Parser;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

use crate::app::App;
use crate::args::Args;
use crate::stock::Stock;

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    be_silent_about_what_is_on_purpose();

    // One pipeline and one provider for all that measures.
    let mut telemetry = Telemetry::from_env().or_service_name("service").with_address(&args.listen);
    if let Some(linger) = args.linger {
        telemetry = telemetry.with_linger(linger);
    }
    let telemetry = telemetry.start()?;
    let provider = telemetry.meter_provider();

    // What every service has.
    let _process = ProcessMetrics::new(provider);
    let _host = HostMetrics::new(provider);
    let tokio = TokioMetrics::new(provider);
    let (service, outside) = (runtime("service", 2)?, runtime("outside", 1)?);
    let _watched = [tokio.watch("service", service.handle()), tokio.watch("outside", outside.handle())];
    // Crates that are instrumented with `metrics` record into the same pipeline.
    metrics::set_global_recorder(MetricsRecorder::new(provider))?;

    // What is its own.
    let server = HttpServerMetrics::new(provider);
    let client = HttpClientMetrics::new(provider);
    let supplier = outside.block_on(outside::supplier())?;
    let app = App::new(&telemetry.meter("orders"), &tokio, Stock::new(&client, supplier));
    telemetry.verify()?;

    let measured =
        server.layer().with_route(|request| request.extensions.get::<MatchedPath>().map(MatchedPath::as_str));
    // The span is around the measurement, which therefore knows of it.
    let router = app.router().layer(measured).layer(from_fn_with_state(span::tracer(), span::in_span));
    let listener = service.block_on(TcpListener::bind(&args.http))?;
    let address = listener.local_addr()?;
    service.spawn(async move { axum::serve(listener, router).await });

    println!("curl http://{address}/orders/17");
    telemetry.local_urls().for_each(|url| println!("curl {url}"));
    outside.spawn(outside::customers(address));
    outside.block_on(end(args.duration))?;

    // Whoever is outside goes first: what they are in the middle of is cancelled, and counted as that.
    outside.shutdown_timeout(Duration::from_secs(1));
    service.shutdown_timeout(Duration::from_secs(1));
    telemetry.shutdown(Duration::from_secs(5) + args.linger.unwrap_or_default())?;
    Ok(())
}

fn runtime(name: &str, workers: usize) -> std::io::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    // Tells how long polls take; without `tokio_unstable` tokio has no such histogram.
    #[cfg(tokio_unstable)]
    builder.enable_metrics_poll_time_histogram();
    builder.worker_threads(workers).thread_name(name).enable_all().build()
}

/// Waits for this time, or until Ctrl-C or SIGTERM.
async fn end(after: Option<Duration>) -> std::io::Result<()> {
    let time_is_over = async {
        match after {
            Some(duration) => tokio::time::sleep(duration).await,
            None => pending().await,
        }
    };
    #[cfg(unix)]
    let terminated = async {
        let mut signal = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        signal.recv().await;
        Ok(())
    };
    #[cfg(not(unix))]
    let terminated = pending();
    tokio::select! {
        () = time_is_over => Ok(()),
        result = tokio::signal::ctrl_c() => result,
        result = terminated => result,
    }
}

/// Some of what panics here does so for the sake of a metric.
fn be_silent_about_what_is_on_purpose() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if panic.payload_as_str() != Some(app::ON_PURPOSE) {
            print(panic);
        }
    }));
}
