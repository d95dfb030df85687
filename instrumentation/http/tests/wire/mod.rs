//! Servers and clients over real connections on loopback: what the transport does with bodies, and what becomes of those
//! who leave.

use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support::{Endless, Frames, ended, recorded, sizes};
use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::response::Response;
use axum::routing::{get, post};
use barograph::testing::TestTelemetry;
use barograph_instrumentation_http::{HttpClientMetrics, HttpServerMetrics, ResponseBody, UrlTemplate};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Version, header};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower::{BoxError, Layer, ServiceBuilder, ServiceExt};

#[tokio::test]
async fn server_and_client_measure_the_same_requests() {
    let (telemetry, address) = serve().await;
    let metrics = HttpClientMetrics::new(telemetry.provider());
    let client = Client::builder(TokioExecutor::new()).build_http();
    let client = ServiceBuilder::new().layer(metrics.layer()).service(client);
    for user in 0..3 {
        let request = http::Request::post(format!("http://{address}/echo")).extension(UrlTemplate("/echo"));
        let body = Full::new(Bytes::from(format!("user {user}")));
        let response = client.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), format!("user {user}"));
    }
    let port = address.port();
    let both = [format!("POST 127.0.0.1 {port} /echo 1.1 200 = 3"), "POST http 1.1 /echo 200 = 3".to_owned()];
    soon(&telemetry, &both.each_ref().map(String::as_str)).await;
    // Both sides of three bodies there and back.
    assert_eq!(sizes(&telemetry), (36.0, 36.0));
}

#[tokio::test]
async fn a_stream_over_http_1_is_measured_to_its_end() {
    let (telemetry, address) = serve().await;
    let said = say(address, "GET /frames HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(said.contains("transfer-encoding: chunked") && said.ends_with("\r\n3\r\ntwo\r\n0\r\n\r\n"), "{said}");
    soon(&telemetry, &["GET http 1.1 /frames 200 = 1"]).await;
    assert_eq!(sizes(&telemetry), (0.0, 6.0));
}

#[tokio::test]
async fn what_the_transport_does_not_send_is_no_size_and_no_error() {
    let (telemetry, address) = serve().await;
    let said = say(address, "HEAD /frames HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(said.ends_with("\r\n\r\n"), "{said}");
    soon(&telemetry, &["HEAD http 1.1 /frames 200 = 1"]).await;
    // The length is announced by the handler, and hyper stops there.
    let said = say(address, "GET /announced HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(said.contains("content-length: 6") && said.ends_with("\r\n\r\nonetwo"), "{said}");
    soon(&telemetry, &["GET http 1.1 /announced 200 = 1", "HEAD http 1.1 /frames 200 = 1"]).await;
    assert_eq!(sizes(&telemetry), (0.0, 6.0));
}

#[tokio::test]
async fn a_client_that_leaves_while_the_handler_works_cancelled_the_request() {
    let (telemetry, address) = serve().await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /never HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    until(|| recorded(&telemetry) == ["server active GET http = 1"], || recorded(&telemetry)).await;
    drop(stream);
    soon(&telemetry, &["GET http 1.1 /never error=cancelled = 1"]).await;
}

#[tokio::test]
async fn a_client_that_leaves_while_the_body_goes_out_cancelled_the_rest() {
    let (telemetry, address) = serve().await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /endless HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    stream.read_exact(&mut [0; 1_000]).await.unwrap();
    drop(stream);
    soon(&telemetry, &["GET http 1.1 /endless 200 error=cancelled = 1"]).await;
    assert!(sizes(&telemetry).1 >= 800.0);
}

#[tokio::test]
async fn a_request_whose_body_breaks_off_has_the_size_that_came() {
    let (telemetry, address) = serve().await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"POST /collect HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nten bytes.").await.unwrap();
    stream.shutdown().await.unwrap();
    stream.read_to_end(&mut Vec::new()).await.unwrap();
    soon(&telemetry, &["POST http 1.1 /collect 400 = 1"]).await;
    assert_eq!(sizes(&telemetry).0, 10.0);
}

#[tokio::test]
async fn a_handler_that_panics_is_counted() {
    let (telemetry, address) = serve().await;
    let said = say(address, "GET /panic HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(said, "");
    soon(&telemetry, &["GET http 1.1 /panic error=panic = 1"]).await;
}

#[tokio::test]
async fn an_upgrade_ends_with_its_101_and_what_follows_is_not_the_request() {
    let (telemetry, address) = serve().await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = "GET /upgrade HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = vec![0; 1_000];
    let length = stream.read(&mut head).await.unwrap();
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head[..length]));
    soon(&telemetry, &["GET http 1.1 /upgrade 101 = 1"]).await;
    stream.write_all(b"still here").await.unwrap();
    let mut echoed = [0; 10];
    stream.read_exact(&mut echoed).await.unwrap();
    assert_eq!(&echoed, b"still here");
    drop(stream);
    assert_eq!(ended(&telemetry), ["GET http 1.1 /upgrade 101 = 1"]);
    assert_eq!(sizes(&telemetry), (0.0, 0.0));
}

#[tokio::test]
async fn a_body_that_waits_to_be_asked_for_is_asked_for_by_the_handler_alone() {
    let (telemetry, address) = serve().await;
    let head = "host: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\nconnection: close\r\n\r\n";
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("POST /collect HTTP/1.1\r\n{head}").as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&interim), "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"body").await.unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert!(rest.starts_with("HTTP/1.1 200 ") && rest.ends_with("body"), "{rest}");
    let refused = say(address, &format!("POST /refuse HTTP/1.1\r\n{head}")).await;
    assert!(refused.starts_with("HTTP/1.1 413 "), "{refused}");
    soon(&telemetry, &["POST http 1.1 /collect 200 = 1", "POST http 1.1 /refuse 413 = 1"]).await;
    assert_eq!(sizes(&telemetry), (4.0, 4.0));
}

#[tokio::test]
async fn http_2_is_measured_with_its_version_its_scheme_and_its_trailers() {
    let (telemetry, address) = serve().await;
    let metrics = HttpClientMetrics::new(telemetry.provider());
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let client = ServiceBuilder::new().layer(metrics.layer()).service(client);
    let request = http::Request::post(format!("http://{address}/pkg.Service/Method"));
    let request = request.version(Version::HTTP_2).header(header::CONTENT_TYPE, "application/grpc");
    let response = client.clone().oneshot(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    let collected = response.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["grpc-status"], "14");
    let port = address.port();
    let both = [
        format!("POST 127.0.0.1 {port} 2 200 error=UNAVAILABLE grpc=UNAVAILABLE = 1"),
        "POST http 2 /pkg.Service/Method 200 error=UNAVAILABLE grpc=UNAVAILABLE = 1".to_owned(),
    ];
    soon(&telemetry, &both.each_ref().map(String::as_str)).await;
    // A stream that the client resets.
    let request = http::Request::get(format!("http://{address}/endless"));
    let mut response = client.oneshot(request.body(Empty::new()).unwrap()).await.unwrap();
    response.body_mut().frame().await.unwrap().unwrap();
    drop(response);
    let cancelled = [
        format!("GET 127.0.0.1 {port} 2 200 error=cancelled = 1"),
        "GET http 2 /endless 200 error=cancelled = 1".to_owned(),
    ];
    let mut all: Vec<&str> = cancelled.iter().chain(&both).map(String::as_str).collect();
    all.sort_unstable();
    soon(&telemetry, &all).await;
}

#[tokio::test]
async fn a_server_of_hyper_alone_is_measured() {
    let telemetry = TestTelemetry::new();
    let layer = HttpServerMetrics::new(telemetry.provider()).layer();
    let handler = tower::service_fn(async |request: http::Request<_>| {
        let body: barograph_instrumentation_http::RequestBody<Incoming> = request.into_body();
        Ok::<_, Infallible>(http::Response::new(body))
    });
    let service = TowerToHyperService::new(layer.layer(handler));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    });
    let request = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\nconnection: close\r\n\r\nthere";
    let said = say(address, request).await;
    assert!(said.ends_with("\r\n\r\nthere"), "{said}");
    soon(&telemetry, &["POST http 1.1 200 = 1"]).await;
    assert_eq!(sizes(&telemetry), (5.0, 5.0));
}

#[tokio::test]
async fn a_client_whom_nobody_answers_counts_it() {
    let telemetry = TestTelemetry::new();
    let metrics = HttpClientMetrics::new(telemetry.provider());
    // A port that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let client = Client::builder(TokioExecutor::new()).build_http();
    let client = ServiceBuilder::new().layer(metrics.layer()).service(client);
    let request = http::Request::get(format!("http://{address}/")).body(Empty::<Bytes>::new()).unwrap();
    let error: hyper_util::client::legacy::Error = client.oneshot(request).await.unwrap_err();
    assert!(error.is_connect());
    assert_eq!(ended(&telemetry), [format!("GET 127.0.0.1 {} error=connect = 1", address.port())]);
}

#[tokio::test]
async fn a_response_that_breaks_off_is_an_error_of_its_body_for_the_client() {
    let telemetry = TestTelemetry::new();
    let metrics = HttpClientMetrics::new(telemetry.provider());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 1_000]).await.unwrap() > 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nten bytes.").await.unwrap();
    });
    let client = Client::builder(TokioExecutor::new()).build_http();
    let client = ServiceBuilder::new().layer(metrics.layer()).service(client);
    let request = http::Request::get(format!("http://{address}/")).body(Empty::<Bytes>::new()).unwrap();
    let response: http::Response<ResponseBody<Incoming>> = client.oneshot(request).await.unwrap();
    response.into_body().collect().await.unwrap_err();
    assert_eq!(ended(&telemetry), [format!("GET 127.0.0.1 {} 1.1 200 error=body = 1", address.port())]);
    assert_eq!(sizes(&telemetry), (0.0, 10.0));
}

#[tokio::test]
async fn a_call_that_its_caller_gives_up_was_cancelled() {
    let (telemetry, address) = serve().await;
    let metrics = HttpClientMetrics::new(telemetry.provider());
    let client = Client::builder(TokioExecutor::new()).build_http();
    let client = ServiceBuilder::new().timeout(Duration::from_millis(20)).layer(metrics.layer()).service(client);
    let request = http::Request::get(format!("http://{address}/never")).body(Empty::<Bytes>::new()).unwrap();
    let _: BoxError = client.oneshot(request).await.unwrap_err();
    let both = [
        format!("GET 127.0.0.1 {} error=cancelled = 1", address.port()),
        "GET http 1.1 /never error=cancelled = 1".to_owned(),
    ];
    soon(&telemetry, &both.each_ref().map(String::as_str)).await;
}

/// A program of axum that is measured, for HTTP/1.1 and HTTP/2. It ends with the test's runtime.
async fn serve() -> (TestTelemetry, SocketAddr) {
    let telemetry = TestTelemetry::new();
    let metrics = HttpServerMetrics::new(telemetry.provider());
    let layer = metrics.layer().with_route(|request| request.extensions.get::<MatchedPath>().map(MatchedPath::as_str));
    let frames = async || Body::new(Frames::new([Ok("one"), Ok("two")]).that_keeps_its_end_to_itself());
    let app = Router::new()
        .route("/echo", post(async |body: Body| body))
        .route("/collect", post(async |body: Bytes| body))
        .route("/refuse", post(async || StatusCode::PAYLOAD_TOO_LARGE))
        .route("/frames", get(frames))
        .route("/announced", get(async move || ([(header::CONTENT_LENGTH, "6")], frames().await)))
        .route("/endless", get(async || Body::new(Endless)))
        .route("/never", get(pending::<()>))
        .route("/panic", get(async || -> () { std::panic::resume_unwind(Box::new("quietly")) }))
        .route("/upgrade", get(upgrade))
        .route("/pkg.Service/Method", post(grpc))
        .layer(layer);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let app = app.clone();
            let service = service_fn(move |request| app.clone().oneshot(request));
            tokio::spawn(async move {
                let builder = auto::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
            });
        }
    });
    (telemetry, address)
}

async fn upgrade(mut request: Request) -> Response {
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut stream = TokioIo::new(upgraded.await.unwrap());
        let mut heard = [0; 10];
        stream.read_exact(&mut heard).await.unwrap();
        stream.write_all(&heard).await.unwrap();
    });
    let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
    let response = response.header(header::CONNECTION, "upgrade").header(header::UPGRADE, "echo");
    response.body(Body::empty()).unwrap()
}

async fn grpc() -> Response {
    let mut body = Frames::new([Ok("message")]);
    body.trailers = Some(HeaderMap::from_iter([("grpc-status".parse().unwrap(), "14".parse().unwrap())]));
    let response = Response::builder().header(header::CONTENT_TYPE, "application/grpc");
    response.body(Body::new(body)).unwrap()
}

/// What the server says to these bytes, until it closes the connection.
async fn say(address: SocketAddr, bytes: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    said
}

/// Waits until these requests, and no others, have ended.
async fn soon(telemetry: &TestTelemetry, expected: &[&str]) {
    let durations = || {
        let recorded = recorded(telemetry).into_iter();
        let mut lines: Vec<String> =
            recorded.filter_map(|line| line.split_once(" duration ").map(|(_, rest)| rest.to_owned())).collect();
        lines.sort();
        lines
    };
    until(|| durations() == expected && !recorded(telemetry).concat().contains(" active "), || recorded(telemetry))
        .await;
    assert_eq!(ended(telemetry), expected);
}

/// Waits for a condition, and says what there is when it takes too long.
async fn until(mut holds: impl FnMut() -> bool, there_is: impl Fn() -> Vec<String>) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "after 10 s there is {:#?}", there_is());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
