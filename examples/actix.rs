//! The endpoint in an actix-web application, beside its own routes.
//!
//! ```text
//! cargo run --example actix
//! curl http://127.0.0.1:3000/hello
//! curl http://127.0.0.1:3000/metrics
//! ```
//!
//! Look at `hello_requests_total`: it counts the first `curl`. actix-web 4 has the request and response types of http 0.2
//! and not tower's services, so `endpoint` below translates: the head in both directions, and the body as the stream that it
//! is. A large page is never whole in memory. Another address than this one is the first argument.

#![expect(clippy::print_stdout, reason = "an example talks to a person")]

use actix_web::body::SizedStream;
use actix_web::http::StatusCode;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, error, web};
use barograph::{CounterSpec, MeterExt, ScrapeService, Telemetry};
use http_body_util::BodyExt;
use hyper::body::Body;
use tower::ServiceExt;

const REQUESTS: CounterSpec = CounterSpec::new("hello.requests", "{request}", "Greetings asked for.");

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let telemetry = Telemetry::builder("hello").without_endpoint().start()?;
    let requests = telemetry.meter("hello").counter(&REQUESTS);
    telemetry.verify()?;

    let service = telemetry.scrape_service();
    let app = move || {
        let requests = requests.clone();
        let hello = move || {
            requests.add(1, ());
            async { "hello\n" }
        };
        // What is none of the program's own routes is the endpoint's: `/metrics`, `/livez`, `/readyz` and the page at `/`.
        App::new()
            .app_data(web::Data::new(service.clone()))
            .route("/hello", web::get().to(hello))
            .default_service(web::to(endpoint))
    };

    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let server = HttpServer::new(app).bind(address)?;
    for address in server.addrs() {
        println!("curl http://{address}/hello");
        println!("curl http://{address}/metrics");
    }
    server.run().await?;
    Ok(())
}

async fn endpoint(asked: HttpRequest, service: web::Data<ScrapeService>) -> actix_web::Result<HttpResponse> {
    let mut request = http::Request::builder().method(asked.method().as_str()).uri(asked.uri().to_string());
    for (name, value) in asked.headers() {
        request = request.header(name.as_str(), value.as_bytes());
    }
    let request = request.body(()).map_err(error::ErrorBadRequest)?;
    let Ok(answer) = service.get_ref().clone().oneshot(request).await;

    let (head, body) = answer.into_parts();
    let status = StatusCode::from_u16(head.status.as_u16()).map_err(error::ErrorInternalServerError)?;
    let mut response = HttpResponse::build(status);
    for (name, value) in &head.headers {
        response.append_header((name.as_str(), value.as_bytes()));
    }
    // A page of more than one chunk is sent while it is made, and nobody knows its length.
    Ok(match body.size_hint().exact() {
        Some(length) => response.body(SizedStream::new(length, body.into_data_stream())),
        None => response.streaming(body.into_data_stream()),
    })
}
