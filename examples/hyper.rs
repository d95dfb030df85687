//! The endpoint in a hyper server of your own, beside your own routes.
//!
//! ```text
//! cargo run --example hyper
//! curl http://127.0.0.1:3000/hello
//! curl http://127.0.0.1:3000/metrics
//! ```
//!
//! Look at `hello_requests_total`: it counts the first `curl`. What is none of the program's own routes is the endpoint's:
//! `/metrics`, `/livez`, `/readyz`, the page at `/`, and the 404. Timeouts and limits are the server's, and so yours. Another
//! address than this one is the first argument.

#![expect(clippy::print_stdout, reason = "an example talks to a person")]

use std::convert::Infallible;

use barograph::{CounterSpec, MeterExt, Telemetry};
use http::{Request, Response};
use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;

const REQUESTS: CounterSpec = CounterSpec::new("hello.requests", "{request}", "Greetings asked for.");

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let telemetry = Telemetry::builder("hello").without_endpoint().start()?;
    let requests = telemetry.meter("hello").counter(&REQUESTS);
    telemetry.verify()?;
    // The service is one of tower's, and hyper has a trait of its own.
    let endpoint = TowerToHyperService::new(telemetry.scrape_service());

    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("curl http://{}/hello", listener.local_addr()?);
    println!("curl http://{}/metrics", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let (endpoint, requests) = (endpoint.clone(), requests.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let (endpoint, requests) = (endpoint.clone(), requests.clone());
            async move {
                if request.uri().path() == "/hello" {
                    requests.add(1, ());
                    return Ok::<_, Infallible>(Response::new(Either::Left(Full::<Bytes>::from("hello\n"))));
                }
                endpoint.call(request).await.map(|answer| answer.map(Either::Right))
            }
        });
        tokio::spawn(async move {
            // With a timer hyper gives up who does not send a request's head within half a minute.
            let mut connection = http1::Builder::new();
            connection.timer(TokioTimer::new());
            // Who goes away in the middle is not this program's problem.
            let _ = connection.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
