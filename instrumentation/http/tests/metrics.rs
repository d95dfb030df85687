//! Every way a request can end, for servers and for clients, and what a scrape then shows. No sockets here, but in
//! `wire`.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod span;
mod support;
mod wire;

use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, pending, poll_fn, ready};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::Barrier;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::MatchedPath;
use axum::routing::{get, post};
use barograph::testing::TestTelemetry;
use barograph_instrumentation_http::semconv::{ErrorType, METRICS, SCHEMA_URL, SCOPE, Scheme, UNMATCHED};
use barograph_instrumentation_http::{HttpClientMetrics, HttpServerLayer, HttpServerMetrics, UrlTemplate};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version, header};
use http_body_util::{BodyExt, Empty, Full};
use support::{Frames, ended, recorded, sizes};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn};

#[test]
fn every_metric_is_on_the_page_with_its_name_kind_and_description() {
    let telemetry = TestTelemetry::new();
    let server = HttpServerMetrics::new(telemetry.provider());
    let client = HttpClientMetrics::new(telemetry.provider());
    let answer = || service_fn(|_: Request<_>| ready(Ok::<_, Infallible>(Response::new(String::new()))));
    drop(now(server.layer().layer(answer()).oneshot(Request::new(String::new()))));
    drop(now(client.layer().layer(answer()).oneshot(Request::new(String::new()))));
    let page = telemetry.page();
    for metric in METRICS {
        let name = metric.scraped_name().unwrap();
        assert!(page.contains(&format!("# HELP {name} {}\n", metric.description)), "{name} is not in\n{page}");
        let kind = metric.kind.as_str().replace("up-down counter", "gauge");
        assert!(page.contains(&format!("# TYPE {name} {kind}\n")), "{name} is no {kind} in\n{page}");
    }
    assert_eq!(page.matches("# TYPE http_").count(), METRICS.len(), "{page}");
    let version = env!("CARGO_PKG_VERSION");
    for series in page.lines().filter(|line| line.starts_with("http_")) {
        assert!(series.contains(&format!("otel_scope_name=\"{SCOPE}\"")), "{series}");
        assert!(series.contains(&format!("otel_scope_version=\"{version}\"")), "{series}");
        assert!(series.contains(&format!("otel_scope_schema_url=\"{SCHEMA_URL}\"")), "{series}");
    }
}

#[test]
fn a_request_is_active_until_its_body_has_been_read() {
    let (telemetry, metrics) = server();
    let body = Frames::new([Ok("four"), Ok("and six")]).that_keeps_its_end_to_itself();
    let mut response = respond(&metrics, Method::GET, Response::new(body));
    assert_eq!(recorded(&telemetry), ["server active GET http = 1"]);
    now(response.body_mut().frame()).unwrap().unwrap();
    now(response.body_mut().frame()).unwrap().unwrap();
    assert_eq!(recorded(&telemetry), ["server active GET http = 1"]);
    assert!(now(response.body_mut().frame()).is_none());
    assert_eq!(ended(&telemetry), ["GET http 1.1 200 = 1"]);
    assert!(now(response.body_mut().frame()).is_none());
    drop(response);
    assert_eq!(ended(&telemetry), ["GET http 1.1 200 = 1"]);
    assert_eq!(sizes(&telemetry), (0.0, 11.0));
}

#[test]
fn a_body_that_says_it_has_ended_is_not_waited_for() {
    let (telemetry, metrics) = server();
    let mut response = respond(&metrics, Method::GET, Response::new(Full::new(Bytes::from("all of it"))));
    now(response.body_mut().frame()).unwrap().unwrap();
    assert_eq!(ended(&telemetry), ["GET http 1.1 200 = 1"]);
    drop(respond(&metrics, Method::GET, Response::new(Empty::<Bytes>::new())));
    assert_eq!(ended(&telemetry), ["GET http 1.1 200 = 2"]);
    assert_eq!(sizes(&telemetry), (0.0, 9.0));
}

#[test]
fn a_body_that_has_the_length_it_announced_is_not_waited_for() {
    let (telemetry, metrics) = server();
    let body = Frames::new([Ok("four"), Ok("more")]).that_keeps_its_end_to_itself();
    let answer = Response::builder().header(header::CONTENT_LENGTH, 8).body(body).unwrap();
    let mut response = respond(&metrics, Method::GET, answer);
    now(response.body_mut().frame()).unwrap().unwrap();
    assert_eq!(recorded(&telemetry), ["server active GET http = 1"]);
    now(response.body_mut().frame()).unwrap().unwrap();
    assert_eq!(ended(&telemetry), ["GET http 1.1 200 = 1"]);
}

#[test]
fn a_body_that_is_dropped_before_its_end_was_cancelled() {
    let (telemetry, metrics) = server();
    let mut response = respond(&metrics, Method::GET, Response::new(Frames::new([Ok("four"), Ok("more")])));
    now(response.body_mut().frame()).unwrap().unwrap();
    drop(response);
    drop(respond(&metrics, Method::GET, Response::new(Frames::new([Ok("four")]))));
    assert_eq!(ended(&telemetry), ["GET http 1.1 200 error=cancelled = 2"]);
    assert_eq!(sizes(&telemetry), (0.0, 4.0));
}

#[test]
fn a_body_that_fails_is_an_error() {
    let (telemetry, metrics) = server();
    let mut response = respond(&metrics, Method::GET, Response::new(Frames::new([Ok("four"), Err("no more")])));
    now(response.body_mut().frame()).unwrap().unwrap();
    assert_eq!(now(response.body_mut().frame()).unwrap().unwrap_err().to_string(), "no more");
    drop(response);
    assert_eq!(ended(&telemetry), ["GET http 1.1 200 error=body = 1"]);
}

#[test]
fn a_request_that_is_dropped_before_its_response_was_cancelled() {
    let (telemetry, metrics) = server();
    let service = || metrics.layer().layer(service_fn(|_| pending::<Result<Response<String>, Infallible>>()));
    drop(service().call(Request::new(String::new())));
    let mut waiting = service().call(Request::new(String::new()));
    assert!(pin!(&mut waiting).poll(&mut Context::from_waker(Waker::noop())).is_pending());
    assert_eq!(
        recorded(&telemetry),
        [
            "server active GET http = 1",
            "server duration GET http 1.1 error=cancelled = 1",
            "server request GET http 1.1 error=cancelled = 1",
            "server response GET http 1.1 error=cancelled = 1"
        ]
    );
    drop(waiting);
    assert_eq!(ended(&telemetry), ["GET http 1.1 error=cancelled = 2"]);
}

#[test]
fn a_panic_is_counted_wherever_it_happens() {
    let (telemetry, metrics) = server();
    let layer: &dyn Fn() -> HttpServerLayer<fn(&Infallible) -> ErrorType> = &|| metrics.layer();
    let quietly = || -> () { resume_unwind(Box::new("quietly")) };
    let in_call = service_fn(|_: Request<_>| -> std::future::Ready<Result<Response<String>, Infallible>> {
        quietly();
        unreachable!()
    });
    catch_unwind(AssertUnwindSafe(|| drop(layer().layer(in_call).call(Request::new(String::new()))))).unwrap_err();
    let in_future = service_fn(|_: Request<_>| {
        poll_fn(|_| -> Poll<Result<Response<String>, Infallible>> {
            quietly();
            Poll::Pending
        })
    });
    let unwound =
        catch_unwind(AssertUnwindSafe(|| drop(now(layer().layer(in_future).oneshot(Request::new(String::new()))))));
    unwound.unwrap_err();
    assert_eq!(ended(&telemetry), ["GET http 1.1 error=panic = 2"]);

    let (telemetry, metrics) = server();
    let mut body = Frames::new([Ok("four")]);
    body.panics = true;
    let mut response = respond(&metrics, Method::GET, Response::new(body));
    catch_unwind(AssertUnwindSafe(move || drop(now(response.body_mut().frame())))).unwrap_err();
    assert_eq!(ended(&telemetry), ["GET http 1.1 200 error=panic = 1"]);
}

#[test]
fn a_panic_that_somebody_catches_around_the_layer_is_one_although_it_is_dropped_later() {
    let (telemetry, metrics) = server();
    let in_future = service_fn(|_: Request<_>| {
        poll_fn(|_| -> Poll<Result<Response<String>, Infallible>> { resume_unwind(Box::new("quietly")) })
    });
    let mut future = Box::pin(metrics.layer().layer(in_future).oneshot(Request::new(String::new())));
    catch_unwind(AssertUnwindSafe(|| drop(now(future.as_mut())))).unwrap_err();
    drop(future);
    let mut body = Frames::new([Ok("four")]);
    body.panics = true;
    let mut response = respond(&metrics, Method::GET, Response::new(body));
    catch_unwind(AssertUnwindSafe(|| drop(now(response.body_mut().frame())))).unwrap_err();
    drop(response);
    assert_eq!(ended(&telemetry), ["GET http 1.1 200 error=panic = 1", "GET http 1.1 error=panic = 1"]);
}

#[test]
fn a_body_that_was_announced_as_empty_is_over_before_anybody_asks_for_it() {
    let (telemetry, metrics) = server();
    let mut answer = Response::new(Frames::new([]).that_keeps_its_end_to_itself());
    answer.headers_mut().extend(headers(&[("content-length", "0")]));
    drop(respond(&metrics, Method::GET, answer));
    assert_eq!(ended(&telemetry), ["GET http 1.1 200 = 1"]);
}

#[test]
fn an_error_of_the_service_has_its_type_and_passes_through() {
    let (telemetry, metrics) = server();
    for (kind, text) in [
        (io::ErrorKind::TimedOut, "out of time"),
        (io::ErrorKind::ConnectionRefused, "nobody there"),
        (io::ErrorKind::InvalidData, "what is this"),
    ] {
        let service = service_fn(move |_| ready(Err::<Response<String>, _>(io::Error::new(kind, text))));
        let error = now(metrics.layer().layer(service).oneshot(Request::new(String::new()))).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (kind, text));
    }
    assert_eq!(
        ended(&telemetry),
        ["GET http 1.1 error=_OTHER = 1", "GET http 1.1 error=connect = 1", "GET http 1.1 error=timeout = 1"]
    );
}

#[tokio::test]
async fn a_time_out_within_the_layer_is_a_timeout_and_one_around_it_a_cancellation() {
    let (telemetry, metrics) = server();
    let never = service_fn(|_: Request<_>| pending::<Result<Response<String>, Infallible>>());
    let within = ServiceBuilder::new().layer(metrics.layer()).timeout(Duration::from_millis(1)).service(never);
    let _: BoxError = within.oneshot(Request::new(String::new())).await.unwrap_err();
    assert_eq!(ended(&telemetry), ["GET http 1.1 error=timeout = 1"]);
    let around = ServiceBuilder::new().timeout(Duration::from_millis(1)).layer(metrics.layer()).service(never);
    around.oneshot(Request::new(String::new())).await.unwrap_err();
    assert_eq!(ended(&telemetry), ["GET http 1.1 error=cancelled = 1", "GET http 1.1 error=timeout = 1"]);
}

#[test]
fn a_service_that_is_not_ready_is_waited_for_and_not_measured() {
    struct Slow(u32);
    impl Service<Request<barograph_instrumentation_http::RequestBody<String>>> for Slow {
        type Response = Response<String>;
        type Error = io::Error;
        type Future = std::future::Ready<io::Result<Response<String>>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.0 += 1;
            match self.0 {
                1 => Poll::Pending,
                2 => Poll::Ready(Ok(())),
                _ => Poll::Ready(Err(io::Error::other("gone"))),
            }
        }
        fn call(&mut self, _: Request<barograph_instrumentation_http::RequestBody<String>>) -> Self::Future {
            ready(Ok(Response::default()))
        }
    }
    let (telemetry, metrics) = server();
    let mut service = metrics.layer().layer(Slow(0));
    let context = &mut Context::from_waker(Waker::noop());
    assert!(service.poll_ready(context).is_pending());
    assert_eq!(recorded(&telemetry), [""; 0]);
    assert!(service.poll_ready(context).is_ready());
    drop(now(service.call(Request::new(String::new()))));
    assert!(matches!(service.poll_ready(context), Poll::Ready(Err(error)) if error.to_string() == "gone"));
    assert_eq!(ended(&telemetry), ["GET http 1.1 200 = 1"]);
}

#[test]
fn what_has_no_body_by_its_method_or_status_ends_with_its_head() {
    let (telemetry, metrics) = server();
    let unread = |method, status| {
        let answer = Response::builder().status(status).body(Frames::new([Ok("never sent")])).unwrap();
        drop(respond(&metrics, method, answer));
    };
    unread(Method::HEAD, 200);
    unread(Method::GET, 101);
    unread(Method::GET, 204);
    unread(Method::GET, 304);
    unread(Method::CONNECT, 200);
    unread(Method::CONNECT, 403);
    assert_eq!(
        ended(&telemetry),
        [
            "CONNECT http 1.1 200 = 1",
            "CONNECT http 1.1 403 error=cancelled = 1",
            "GET http 1.1 101 = 1",
            "GET http 1.1 204 = 1",
            "GET http 1.1 304 = 1",
            "HEAD http 1.1 200 = 1",
        ]
    );
    assert_eq!(sizes(&telemetry), (0.0, 0.0));
}

#[test]
fn a_status_is_an_error_of_the_side_whose_fault_it_is() {
    let (telemetry, metrics) = server();
    let client = HttpClientMetrics::new(telemetry.provider());
    for status in [200, 302, 404, 503] {
        let answer = move || Response::builder().status(status).body(String::new()).unwrap();
        drop(respond(&metrics, Method::GET, answer()));
        let service = service_fn(move |_| ready(Ok::<_, Infallible>(answer())));
        drop(now(client.layer().layer(service).oneshot(Request::new(String::new()))));
    }
    assert_eq!(
        ended(&telemetry),
        [
            "GET 1.1 200 = 1",
            "GET 1.1 302 = 1",
            "GET 1.1 404 error=404 = 1",
            "GET 1.1 503 error=503 = 1",
            "GET http 1.1 200 = 1",
            "GET http 1.1 302 = 1",
            "GET http 1.1 404 = 1",
            "GET http 1.1 503 error=503 = 1",
        ]
    );
}

#[test]
fn a_status_that_is_an_error_stays_it_when_the_body_is_dropped() {
    let (telemetry, metrics) = server();
    let answer = Response::builder().status(500).body(Frames::new([Ok("why")])).unwrap();
    drop(respond(&metrics, Method::GET, answer));
    assert_eq!(ended(&telemetry), ["GET http 1.1 500 error=500 = 1"]);
}

#[test]
fn methods_that_are_not_known_are_one_series() {
    let (telemetry, metrics) = server();
    for method in ["GET", "get", "QUERY", "PROPFIND", "X-1", "X-2"] {
        drop(respond(&metrics, method.parse().unwrap(), Response::new(String::new())));
    }
    assert_eq!(ended(&telemetry), ["GET http 1.1 200 = 1", "QUERY http 1.1 200 = 1", "_OTHER http 1.1 200 = 4"]);
}

#[test]
fn a_program_can_say_which_methods_it_knows() {
    let (telemetry, metrics) = server();
    for method in ["GET", "PUT", "PROPFIND"] {
        let layer = metrics.layer().with_known_methods(&["GET", "PROPFIND"]);
        let service = service_fn(|_| ready(Ok::<_, Infallible>(Response::new(String::new()))));
        let request = Request::builder().method(method).body(String::new()).unwrap();
        drop(now(layer.layer(service).oneshot(request)));
    }
    assert_eq!(ended(&telemetry), ["GET http 1.1 200 = 1", "PROPFIND http 1.1 200 = 1", "_OTHER http 1.1 200 = 1"]);
}

#[test]
fn the_scheme_is_that_of_the_target_unless_the_program_says_it() {
    let (telemetry, metrics) = server();
    for (scheme, uri) in [
        (None, "/"),
        (None, "https://example.com/"),
        (None, "made-up://example.com/"),
        (Some(Scheme::Https), "/"),
        (Some(Scheme::Https), "http://example.com/"),
    ] {
        let layer = match scheme {
            Some(scheme) => metrics.layer().with_scheme(scheme),
            None => metrics.layer(),
        };
        let service = service_fn(|_| ready(Ok::<_, Infallible>(Response::new(String::new()))));
        drop(now(layer.layer(service).oneshot(Request::get(uri).body(String::new()).unwrap())));
    }
    assert_eq!(ended(&telemetry), ["GET http 1.1 200 = 2", "GET https 1.1 200 = 3"]);
}

#[test]
fn each_version_of_http_is_told_apart() {
    let (telemetry, metrics) = server();
    for version in [Version::HTTP_09, Version::HTTP_10, Version::HTTP_11, Version::HTTP_2, Version::HTTP_3] {
        let service = service_fn(|_| ready(Ok::<_, Infallible>(Response::new(String::new()))));
        let request = Request::builder().version(version).body(String::new()).unwrap();
        drop(now(metrics.layer().layer(service).oneshot(request)));
    }
    assert_eq!(ended(&telemetry), ["0.9", "1.0", "1.1", "2", "3"].map(|version| format!("GET http {version} 200 = 1")));
}

#[test]
fn ten_thousand_paths_that_lead_nowhere_are_one_series() {
    let (telemetry, metrics) = server();
    let app = app(&metrics);
    for path in 0..10_000 {
        let uri = format!("/{path}/%00/../etc/passwd?{path}");
        assert_eq!(ask(&app, Method::GET, &uri).0, StatusCode::NOT_FOUND);
    }
    assert_eq!(ended(&telemetry), [format!("GET http 1.1 {UNMATCHED} 404 = 10000")]);
}

#[test]
fn a_route_is_its_template() {
    let (telemetry, metrics) = server();
    let app = app(&metrics);
    for (method, uri) in [
        (Method::GET, "/users/1"),
        (Method::GET, "/users/2"),
        (Method::GET, "/admin/users/3"),
        (Method::GET, "/files/a/b/c"),
        (Method::DELETE, "/users/1"),
        (Method::HEAD, "/users/1"),
        (Method::GET, "/service/anything"),
    ] {
        ask(&app, method, uri);
    }
    assert_eq!(
        ended(&telemetry),
        [
            "DELETE http 1.1 /users/{id} 405 = 1",
            "GET http 1.1 /admin/users/{id} 200 = 1",
            "GET http 1.1 /files/{*path} 200 = 1",
            "GET http 1.1 /users/{id} 200 = 2",
            "GET http 1.1 _UNMATCHED 200 = 1",
            "HEAD http 1.1 /users/{id} 200 = 1",
        ]
    );
}

#[test]
fn without_routes_there_is_no_route() {
    let (telemetry, metrics) = server();
    let app = Router::new().route("/users/{id}", get(async || "a user")).layer(metrics.layer());
    ask(&app, Method::GET, "/users/1");
    assert_eq!(ended(&telemetry), ["GET http 1.1 200 = 1"]);
}

#[test]
fn sizes_are_of_what_went_through() {
    let (telemetry, metrics) = server();
    let app = app(&metrics);
    let (status, echoed) = ask_with(&app, Method::POST, "/echo", Body::from("seven b"));
    assert_eq!((status, echoed.as_ref()), (StatusCode::OK, b"seven b".as_slice()));
    assert_eq!(sizes(&telemetry), (7.0, 7.0));
    // Announced is one thing, and read another.
    let request = Request::post("/ignored").header(header::CONTENT_LENGTH, 1_000);
    now(app.clone().oneshot(request.body(Body::from(vec![0; 1_000])).unwrap())).unwrap();
    assert_eq!(sizes(&telemetry), (7.0, 7.0));
    // Nobody says how long it is.
    let chunks = Body::new(Frames::new([Ok("one"), Ok("two"), Ok("three")]));
    assert_eq!(ask_with(&app, Method::POST, "/echo", chunks).1, "onetwothree");
    assert_eq!(sizes(&telemetry), (18.0, 18.0));
}

#[test]
fn a_request_body_that_is_read_while_the_response_goes_out_counts() {
    let (telemetry, metrics) = server();
    let echo = service_fn(|request: Request<_>| ready(Ok::<_, Infallible>(Response::new(request.into_body()))));
    let body = Frames::new([Ok("there "), Ok("and back")]);
    let response = now(metrics.layer().layer(echo).oneshot(Request::post("/").body(body).unwrap())).unwrap();
    assert_eq!(now(response.into_body().collect()).unwrap().to_bytes(), "there and back");
    assert_eq!(sizes(&telemetry), (14.0, 14.0));
}

#[test]
fn a_call_of_grpc_has_its_status() {
    let (telemetry, metrics) = server();
    let call = |content_type, version, head: &[_], trailers: &[_]| {
        let mut answer = Response::new(Frames::new([Ok("message")]));
        answer.headers_mut().extend(headers(head));
        answer.body_mut().trailers = (!trailers.is_empty()).then(|| headers(trailers));
        let request = Request::post("/pkg.Service/Method").version(version).header(header::CONTENT_TYPE, content_type);
        let mut answer = Some(answer);
        let service = service_fn(move |_| ready(Ok::<_, Infallible>(answer.take().unwrap())));
        let response = now(metrics.layer().layer(service).oneshot(request.body(String::new()).unwrap())).unwrap();
        now(response.into_body().collect()).unwrap();
    };
    call("application/grpc", Version::HTTP_2, &[], &[("grpc-status", "0")]);
    call("application/grpc+proto", Version::HTTP_2, &[], &[("grpc-status", "5")]);
    call("application/grpc;x=y", Version::HTTP_2, &[], &[("grpc-status", "14")]);
    call("application/grpc", Version::HTTP_2, &[("grpc-status", "13")], &[]);
    call("application/grpc", Version::HTTP_2, &[], &[("grpc-status", "99")]);
    call("application/grpc", Version::HTTP_2, &[], &[]);
    // These are something else.
    call("application/grpc-web", Version::HTTP_2, &[], &[("grpc-status", "13")]);
    call("application/json", Version::HTTP_2, &[], &[("grpc-status", "13")]);
    call("application/grpc", Version::HTTP_11, &[], &[("grpc-status", "13")]);
    assert_eq!(
        ended(&telemetry),
        [
            "POST http 1.1 200 = 1",
            "POST http 2 200 = 2",
            "POST http 2 200 error=INTERNAL grpc=INTERNAL = 1",
            "POST http 2 200 error=UNAVAILABLE grpc=UNAVAILABLE = 1",
            "POST http 2 200 error=UNKNOWN grpc=UNKNOWN = 2",
            "POST http 2 200 grpc=NOT_FOUND = 1",
            "POST http 2 200 grpc=OK = 1",
        ]
    );
}

#[test]
fn the_status_of_grpc_is_waited_for_after_a_message_of_known_length_and_ends_the_call() {
    let (telemetry, metrics) = server();
    let service = service_fn(|_| {
        let trailers = ready(Some(Ok::<_, Infallible>(headers(&[("grpc-status", "0")]))));
        ready(Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("message")).with_trailers(trailers))))
    });
    let request = Request::post("/pkg.Service/Method").version(Version::HTTP_2);
    let request = request.header(header::CONTENT_TYPE, "application/grpc").body(String::new()).unwrap();
    let mut body = Box::pin(now(metrics.layer().layer(service).oneshot(request)).unwrap().into_body());
    assert!(now(body.frame()).unwrap().unwrap().is_data());
    assert!(now(body.frame()).unwrap().unwrap().is_trailers());
    // A server that has sent the trailers lets go of the body without another look.
    drop(body);
    assert_eq!(ended(&telemetry), ["POST http 2 200 grpc=OK = 1"]);
}

#[test]
fn trailers_end_a_response_whose_body_does_not_say_that_it_has() {
    let (telemetry, metrics) = server();
    let service = service_fn(|_| {
        let mut body = Frames::new([Ok("there")]).that_keeps_its_end_to_itself();
        body.trailers = Some(headers(&[("server-timing", "1")]));
        ready(Ok::<_, Infallible>(Response::new(body)))
    });
    let mut body = now(metrics.layer().layer(service).oneshot(Request::new(String::new()))).unwrap().into_body();
    assert!(now(body.frame()).unwrap().unwrap().is_data());
    assert!(now(body.frame()).unwrap().unwrap().is_trailers());
    drop(body);
    assert_eq!(ended(&telemetry), ["GET http 1.1 200 = 1"]);
}

#[test]
fn for_a_client_of_grpc_every_status_but_ok_is_an_error() {
    let telemetry = TestTelemetry::new();
    let metrics = HttpClientMetrics::new(telemetry.provider());
    for status in ["0", "5"] {
        let service = service_fn(move |_| {
            let response = Response::builder().version(Version::HTTP_2).header("grpc-status", status);
            ready(Ok::<_, Infallible>(response.body(String::new()).unwrap()))
        });
        let request = Request::post("/pkg.Service/Method").version(Version::HTTP_2);
        let request = request.header(header::CONTENT_TYPE, "application/grpc").body(String::new()).unwrap();
        drop(now(metrics.layer().with_server("users", 50_051).layer(service).oneshot(request)));
    }
    assert_eq!(
        ended(&telemetry),
        ["POST users 50051 2 200 error=NOT_FOUND grpc=NOT_FOUND = 1", "POST users 50051 2 200 grpc=OK = 1"]
    );
}

#[test]
fn a_client_says_which_server_it_asks() {
    let telemetry = TestTelemetry::new();
    let metrics = HttpClientMetrics::new(telemetry.provider());
    let ask = |request: http::request::Builder| {
        let service = service_fn(|_| ready(Ok::<_, Infallible>(Response::new(String::new()))));
        drop(now(metrics.layer().layer(service).oneshot(request.body(String::new()).unwrap())));
    };
    ask(Request::get("http://a.example/"));
    ask(Request::get("https://a.example/"));
    ask(Request::get("https://a.example:8443/"));
    ask(Request::get("http://[::1]:8080/"));
    ask(Request::get("http://127.0.0.1/").header(header::HOST, "b.example:81"));
    ask(Request::get("/").header(header::HOST, "[::1]"));
    ask(Request::get("https://c.example/").version(Version::HTTP_2).header(header::HOST, "not.this.one"));
    ask(Request::get("http://a.example/users/17").extension(UrlTemplate("/users/{id}")));
    ask(Request::get("/nobody"));
    assert_eq!(
        ended(&telemetry),
        [
            "GET 1.1 200 = 1",
            "GET ::1 1.1 200 = 1",
            "GET ::1 8080 1.1 200 = 1",
            "GET a.example 443 1.1 200 = 1",
            "GET a.example 80 /users/{id} 1.1 200 = 1",
            "GET a.example 80 1.1 200 = 1",
            "GET a.example 8443 1.1 200 = 1",
            "GET b.example 81 1.1 200 = 1",
            "GET c.example 443 1.1 200 = 1",
        ]
    );
}

#[test]
fn a_client_that_has_no_response_has_no_version() {
    let telemetry = TestTelemetry::new();
    let metrics = HttpClientMetrics::new(telemetry.provider());
    let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
    let boxed: Box<dyn Error + Send + Sync> = Box::new(refused);
    let mut boxed = Some(boxed);
    let service = service_fn(move |_| ready(Err::<Response<String>, _>(boxed.take().unwrap())));
    drop(now(metrics.layer().layer(service).oneshot(Request::get("http://a.example/").body(String::new()).unwrap())));
    assert_eq!(ended(&telemetry), ["GET a.example 80 error=connect = 1"]);
}

#[test]
fn a_classifier_of_the_program_is_asked() {
    let (telemetry, metrics) = server();
    // An error that is none to the standard library.
    let service = service_fn(|_| ready(Err::<Response<String>, _>("too slow")));
    let layer = metrics.layer_with(|error: &&str| match *error {
        "too slow" => ErrorType::Timeout,
        _ => ErrorType::Other,
    });
    assert_eq!(now(layer.layer(service).oneshot(Request::new(String::new()))).unwrap_err(), "too slow");
    assert_eq!(ended(&telemetry), ["GET http 1.1 error=timeout = 1"]);
}

#[test]
fn more_endpoints_and_statuses_than_are_kept_are_recorded_all_the_same() {
    const ENDPOINTS: usize = 1_200;
    let (telemetry, metrics) = server();
    let layer = metrics.layer().with_route(|request| Some(request.uri.path()));
    let answer = |status: u16| {
        let answer = move || Response::builder().status(status).body(String::new()).unwrap();
        service_fn(move |_: Request<_>| ready(Ok::<_, Infallible>(answer())))
    };
    for _ in 0..2 {
        for endpoint in 0..ENDPOINTS {
            let request = Request::get(format!("/{endpoint}")).body(String::new()).unwrap();
            drop(now(layer.layer(answer(200)).oneshot(request)));
        }
        for status in 200..250 {
            let request = Request::get("/0").body(String::new()).unwrap();
            drop(now(layer.layer(answer(status)).oneshot(request)));
        }
    }
    let ended = ended(&telemetry);
    assert_eq!(ended.len(), ENDPOINTS + 49);
    for line in ended {
        let count = if line == "GET http 1.1 /0 200 = 4" { 4 } else { 2 };
        assert!(line.ends_with(&format!(" = {count}")), "{line}");
    }
}

#[test]
fn threads_that_meet_on_a_new_route_lose_nothing() {
    const THREADS: usize = 4;
    const ROUTES: usize = 500;
    let (telemetry, metrics) = server();
    let barrier = Barrier::new(THREADS);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let layer = metrics.layer().with_route(|request| Some(request.uri.path()));
                barrier.wait();
                for route in 0..ROUTES {
                    let service = service_fn(|_| ready(Ok::<_, Infallible>(Response::new(String::new()))));
                    let request = Request::get(format!("/{route}")).body(String::new()).unwrap();
                    drop(now(layer.layer(service).oneshot(request)));
                }
            });
        }
    });
    let ended = ended(&telemetry);
    assert_eq!(ended.len(), ROUTES);
    for line in ended {
        assert!(line.ends_with(&format!(" = {THREADS}")), "{line}");
    }
}

#[test]
fn layers_and_services_can_be_shared_between_threads() {
    fn shared<T: Clone + Send + Sync + 'static>(_: &T) {}
    let (_telemetry, metrics) = server();
    let layer: HttpServerLayer<fn(&Infallible) -> ErrorType> = metrics.layer();
    shared(&metrics);
    shared(&layer);
    shared(&layer.layer(Router::<()>::new()));
}

/// Telemetry and what a server records.
fn server() -> (TestTelemetry, HttpServerMetrics) {
    let telemetry = TestTelemetry::new();
    let metrics = HttpServerMetrics::new(telemetry.provider());
    (telemetry, metrics)
}

/// The output of a future that waits for nothing.
#[track_caller]
fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}

/// What a measured service that answers with `answer` responds to a request without a body.
fn respond<B: http_body::Body>(
    metrics: &HttpServerMetrics,
    method: Method,
    answer: Response<B>,
) -> Response<barograph_instrumentation_http::ResponseBody<B>> {
    let mut answer = Some(answer);
    let service = service_fn(move |_| ready(Ok::<_, Infallible>(answer.take().unwrap())));
    let request = Request::builder().method(method).body(String::new()).unwrap();
    now(metrics.layer().layer(service).oneshot(request)).unwrap()
}

fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
    list.iter().map(|&(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

/// A program of axum with routes of every sort.
fn app(metrics: &HttpServerMetrics) -> Router {
    let users = Router::new().route("/users/{id}", get(async || "a user"));
    Router::new()
        .route("/echo", post(async |body: Body| body))
        .route("/ignored", post(async || "thanks"))
        .route("/files/{*path}", get(async || "a file"))
        .nest("/admin", users.clone())
        .nest_service("/service", service_fn(|_| ready(Ok::<_, Infallible>(Response::new(Body::empty())))))
        .merge(users)
        .layer(metrics.layer().with_route(|request| request.extensions.get::<MatchedPath>().map(MatchedPath::as_str)))
}

fn ask(app: &Router, method: Method, uri: &str) -> (StatusCode, Bytes) {
    ask_with(app, method, uri, Body::empty())
}

fn ask_with(app: &Router, method: Method, uri: &str, body: Body) -> (StatusCode, Bytes) {
    let request = Request::builder().method(method).uri(uri).body(body).unwrap();
    let response = now(app.clone().oneshot(request)).unwrap();
    (response.status(), now(response.into_body().collect()).unwrap().to_bytes())
}
