//! The endpoint in an application's own router: no second port, no second server.
//!
//! ```text
//! cargo run --example axum
//! curl http://127.0.0.1:3000/hello
//! curl http://127.0.0.1:3000/telemetry/metrics
//! ```
//!
//! Look at `hello_requests_total`: it counts the first `curl`. Collecting and encoding run on Barograph's own thread, so
//! a scrape does not hold up the workers that answer `/hello`. Another address than this one is the first argument.

#![expect(clippy::print_stdout, reason = "an example talks to a person")]

use axum::Router;
use axum::routing::get;
use barograph::{CounterSpec, MeterExt, Telemetry};

const REQUESTS: CounterSpec = CounterSpec::new("hello.requests", "{request}", "Greetings asked for.");

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let telemetry = Telemetry::builder("hello").without_endpoint().start()?;
    let requests = telemetry.meter("hello").counter(&REQUESTS);
    telemetry.verify()?;

    let app = Router::new()
        .route(
            "/hello",
            get(move || async move {
                requests.add(1, ());
                "hello\n"
            }),
        )
        // Everything of the endpoint moves below `/telemetry`: `/metrics`, `/livez`, `/readyz` and the page.
        .nest_service("/telemetry", telemetry.scrape_service());

    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("curl http://{}/hello", listener.local_addr()?);
    println!("curl http://{}/telemetry/metrics", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
