//! Every way a call to an API can end, by hand and through the layer, and what a scrape then shows.

use std::convert::Infallible;
use std::future::{pending, ready};
use std::panic::resume_unwind;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use std::{io, thread};

use barograph::testing::TestTelemetry;
use barograph_instrumentation_api_clients::semconv::{Api, CallStatus, Direction, ErrorType, METRICS, SCOPE};
use barograph_instrumentation_api_clients::{ApiCall, ApiClientMetrics};
use http::{Request, Response};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn};

#[test]
fn every_metric_is_on_the_page_with_its_name_kind_and_description() {
    let (telemetry, metrics) = start();
    metrics.start_call(Api::DeepSeek).succeed();
    metrics.start_call(Api::Perplexity).succeed();
    telemetry.assert_specs(SCOPE, METRICS);
    let version = env!("CARGO_PKG_VERSION");
    for series in telemetry.page().lines().filter(|line| line.starts_with("api_")) {
        assert!(series.contains(&format!("otel_scope_name=\"{SCOPE}\"")), "{series}");
        assert!(series.contains(&format!("otel_scope_version=\"{version}\"")), "{series}");
    }
}

#[test]
fn every_counter_is_there_before_the_first_call() {
    let (telemetry, _metrics) = start();
    for status in CallStatus::ALL {
        telemetry.metric("api.deepseek.calls").with(*status).value(0);
        telemetry.metric("api.perplexity.calls").with(*status).value(0);
    }
    for api in Api::ALL {
        telemetry.metric("api.rate_limits").with(*api).value(0);
        for error_type in ErrorType::ALL {
            telemetry.metric("api.errors").with((*api, *error_type)).value(0);
        }
        for direction in Direction::ALL {
            telemetry.metric("api.tokens_used").with((*api, *direction)).value(0);
        }
    }
}

#[test]
fn a_call_that_succeeds_is_a_success() {
    let (telemetry, metrics) = start();
    metrics.start_call(Api::DeepSeek).succeed();
    metrics.start_call(Api::Perplexity).succeed();
    metrics.clone().start_call(Api::Perplexity).succeed();
    telemetry.assert_counted(&[
        "api.deepseek.calls{status=success} 1",
        "api.perplexity.calls{status=success} 2",
        "api.request_duration{api=deepseek, status=success} 1",
        "api.request_duration{api=perplexity, status=success} 2",
    ]);
}

#[test]
fn a_call_that_fails_is_an_error_of_its_type() {
    let (telemetry, metrics) = start();
    for error_type in [ErrorType::Connect, ErrorType::Status, ErrorType::Decode, ErrorType::Other] {
        metrics.start_call(Api::Perplexity).fail(error_type);
    }
    telemetry.assert_counted(&[
        "api.errors{api=perplexity, error_type=connect} 1",
        "api.errors{api=perplexity, error_type=decode} 1",
        "api.errors{api=perplexity, error_type=other} 1",
        "api.errors{api=perplexity, error_type=status} 1",
        "api.perplexity.calls{status=error} 4",
        "api.request_duration{api=perplexity, status=error} 4",
    ]);
}

#[test]
fn a_call_that_takes_too_long_is_a_timeout_whichever_way_it_is_said() {
    let (telemetry, metrics) = start();
    metrics.start_call(Api::DeepSeek).time_out();
    metrics.start_call(Api::DeepSeek).fail(ErrorType::Timeout);
    telemetry.assert_counted(&[
        "api.deepseek.calls{status=timeout} 2",
        "api.errors{api=deepseek, error_type=timeout} 2",
        "api.request_duration{api=deepseek, status=timeout} 2",
    ]);
}

#[test]
fn a_rate_limit_is_counted_as_such_and_not_as_an_error() {
    let (telemetry, metrics) = start();
    metrics.start_call(Api::DeepSeek).rate_limited();
    telemetry.assert_counted(&[
        "api.deepseek.calls{status=rate_limited} 1",
        "api.rate_limits{api=deepseek} 1",
        "api.request_duration{api=deepseek, status=rate_limited} 1",
    ]);
}

#[test]
fn a_call_that_is_dropped_or_unwound_is_cancelled() {
    let (telemetry, metrics) = start();
    drop(metrics.start_call(Api::DeepSeek));
    let unwound = thread::scope(|scope| {
        let unwind = || {
            let _call = metrics.start_call(Api::DeepSeek);
            resume_unwind(Box::new("quietly"))
        };
        scope.spawn(unwind).join()
    });
    let _: Box<_> = unwound.map(|()| "returned").unwrap_err();
    telemetry.assert_counted(&[
        "api.deepseek.calls{status=cancelled} 2",
        "api.request_duration{api=deepseek, status=cancelled} 2",
    ]);
}

#[test]
fn calls_of_another_api_have_durations_errors_and_rate_limits() {
    let (telemetry, metrics) = start();
    let api = Api::from("one that nobody listed");
    metrics.start_call(api).succeed();
    metrics.start_call(api).rate_limited();
    metrics.start_call(api).fail(ErrorType::Decode);
    telemetry.assert_counted(&[
        "api.errors{api=other, error_type=decode} 1",
        "api.rate_limits{api=other} 1",
        "api.request_duration{api=other, status=error} 1",
        "api.request_duration{api=other, status=rate_limited} 1",
        "api.request_duration{api=other, status=success} 1",
    ]);
}

#[test]
fn tokens_are_counted_at_once_within_a_call_and_outside() {
    let (telemetry, metrics) = start();
    let call = metrics.start_call(Api::DeepSeek);
    call.tokens(Direction::Prompt, 12);
    call.tokens(Direction::Completion, 30);
    metrics.record_tokens(Api::DeepSeek, Direction::Completion, 4);
    metrics.record_tokens(Api::Other, Direction::Prompt, 5);
    telemetry.assert_counted(&[
        "api.tokens_used{api=deepseek, direction=completion} 34",
        "api.tokens_used{api=deepseek, direction=prompt} 12",
        "api.tokens_used{api=other, direction=prompt} 5",
    ]);
    drop(call);
}

#[test]
fn any_answer_has_a_response_time_and_a_call_without_one_has_none() {
    let after = |end: fn(ApiCall)| {
        let (telemetry, metrics) = start();
        end(metrics.start_call(Api::Perplexity));
        metrics.start_call(Api::DeepSeek).time_out();
        telemetry.metric("api.deepseek.response_time").absent();
        telemetry.metric("api.perplexity.response_time").try_value()
    };
    assert!(after(ApiCall::succeed).is_some());
    assert!(after(ApiCall::rate_limited).is_some());
    assert!(after(|call| call.fail(ErrorType::Status)).is_some());
    assert!(after(|call| call.fail(ErrorType::Decode)).is_some());

    assert_eq!(after(|call| call.fail(ErrorType::Connect)), None);
    assert_eq!(after(|call| call.fail(ErrorType::Other)), None);
    assert_eq!(after(ApiCall::time_out), None);
    assert_eq!(after(drop), None);
}

#[test]
fn the_duration_is_the_time_from_the_start_of_a_call_to_its_end() {
    let (telemetry, metrics) = start();
    let times = || {
        let duration = telemetry.metric("api.request_duration").with((Api::DeepSeek, CallStatus::Success));
        (duration.try_sum().unwrap(), telemetry.metric("api.deepseek.response_time").try_value().unwrap())
    };
    let started = Instant::now();
    let call = metrics.start_call(Api::DeepSeek);
    thread::sleep(Duration::from_millis(20));
    call.succeed();
    let elapsed = started.elapsed().as_secs_f64();
    let (first, response_time) = times();
    assert!((0.02..=elapsed).contains(&first), "{first} of {elapsed}");
    assert_eq!(response_time, first);

    metrics.start_call(Api::DeepSeek).succeed();
    let (sum, response_time) = times();
    assert!((sum - first - response_time).abs() < 1e-9, "the gauge has the latest of {sum}: {response_time}");
}

#[test]
fn eight_threads_with_two_hundred_calls_each_are_sixteen_hundred_calls() {
    let (telemetry, metrics) = start();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for call in 0..200 {
                    let api = metrics.start_call(if call % 2 == 0 { Api::DeepSeek } else { Api::Perplexity });
                    match call % 4 {
                        0 => api.succeed(),
                        1 => api.fail(ErrorType::Decode),
                        2 => api.rate_limited(),
                        _ => drop(api),
                    }
                }
            });
        }
    });
    telemetry.assert_counted(&[
        "api.deepseek.calls{status=rate_limited} 400",
        "api.deepseek.calls{status=success} 400",
        "api.errors{api=perplexity, error_type=decode} 400",
        "api.perplexity.calls{status=cancelled} 400",
        "api.perplexity.calls{status=error} 400",
        "api.rate_limits{api=deepseek} 400",
        "api.request_duration{api=deepseek, status=rate_limited} 400",
        "api.request_duration{api=deepseek, status=success} 400",
        "api.request_duration{api=perplexity, status=cancelled} 400",
        "api.request_duration{api=perplexity, status=error} 400",
    ]);
}

#[tokio::test]
async fn the_layer_tells_how_a_call_ended_from_the_status_of_the_response() {
    let (telemetry, metrics) = start();
    let echo = service_fn(|request: Request<u16>| {
        ready(Response::builder().status(request.into_body()).body(()).map_err(BoxError::from))
    });
    let mut client = ServiceBuilder::new().layer(metrics.layer(Api::DeepSeek)).service(echo);
    for status in [200, 204, 299, 301, 304, 400, 401, 404, 428, 429, 430, 500, 503, 599] {
        let response = client.ready().await.unwrap().call(Request::new(status)).await.unwrap();
        assert_eq!(response.status(), status);
    }
    telemetry.assert_counted(&[
        "api.deepseek.calls{status=error} 8",
        "api.deepseek.calls{status=rate_limited} 1",
        "api.deepseek.calls{status=success} 5",
        "api.errors{api=deepseek, error_type=status} 8",
        "api.rate_limits{api=deepseek} 1",
        "api.request_duration{api=deepseek, status=error} 8",
        "api.request_duration{api=deepseek, status=rate_limited} 1",
        "api.request_duration{api=deepseek, status=success} 5",
    ]);
}

#[tokio::test]
async fn a_streaming_body_passes_through_and_is_not_waited_for() {
    let (telemetry, metrics) = start();
    let (writer, body) = mpsc::channel();
    let mut body = Some(body);
    let streaming = service_fn(move |request: Request<&str>| {
        assert_eq!((request.headers()["accept"].as_bytes(), *request.body()), (b"text/event-stream".as_slice(), "ask"));
        ready(Response::builder().header("x-model", "chat").body(body.take().unwrap()))
    });
    let client = ServiceBuilder::new().layer(metrics.layer(Api::DeepSeek)).service(streaming);
    let request = Request::builder().header("accept", "text/event-stream").body("ask").unwrap();
    let response = client.oneshot(request).await.unwrap();

    telemetry.assert_counted(&[
        "api.deepseek.calls{status=success} 1",
        "api.request_duration{api=deepseek, status=success} 1",
    ]);
    assert_eq!(response.headers()["x-model"], "chat");
    writer.send("an answer").unwrap();
    drop(writer);
    assert_eq!(response.into_body().iter().collect::<Vec<_>>(), ["an answer"]);
    telemetry.assert_counted(&[
        "api.deepseek.calls{status=success} 1",
        "api.request_duration{api=deepseek, status=success} 1",
    ]);
}

#[tokio::test]
async fn an_io_error_is_classified_and_passes_through_unchanged() {
    let (telemetry, metrics) = start();
    let failing = service_fn(|request: Request<io::ErrorKind>| {
        ready(Err::<Response<()>, _>(io::Error::from(request.into_body())))
    });
    let mut client = ServiceBuilder::new().layer(metrics.layer(Api::Perplexity)).service(failing);
    for kind in [io::ErrorKind::ConnectionRefused, io::ErrorKind::TimedOut, io::ErrorKind::PermissionDenied] {
        let error: io::Error = client.ready().await.unwrap().call(Request::new(kind)).await.unwrap_err();
        assert_eq!(error.kind(), kind);
    }
    telemetry.assert_counted(&[
        "api.errors{api=perplexity, error_type=connect} 1",
        "api.errors{api=perplexity, error_type=other} 1",
        "api.errors{api=perplexity, error_type=timeout} 1",
        "api.perplexity.calls{status=error} 2",
        "api.perplexity.calls{status=timeout} 1",
        "api.request_duration{api=perplexity, status=error} 2",
        "api.request_duration{api=perplexity, status=timeout} 1",
    ]);
}

#[tokio::test]
async fn the_timeout_of_a_tower_layer_beneath_is_a_timeout() {
    let (telemetry, metrics) = start();
    let hanging = service_fn(|_: Request<()>| pending::<Result<Response<()>, Infallible>>());
    let client =
        ServiceBuilder::new().layer(metrics.layer(Api::DeepSeek)).timeout(Duration::from_millis(1)).service(hanging);
    let error: BoxError = client.oneshot(Request::new(())).await.unwrap_err();
    assert!(error.is::<tower::timeout::error::Elapsed>());
    telemetry.assert_counted(&[
        "api.deepseek.calls{status=timeout} 1",
        "api.errors{api=deepseek, error_type=timeout} 1",
        "api.request_duration{api=deepseek, status=timeout} 1",
    ]);
}

#[tokio::test]
async fn a_classifier_of_ones_own_tells_the_type_of_an_error_that_is_not_even_an_error() {
    let (telemetry, metrics) = start();
    let failing = service_fn(|_: Request<()>| ready(Err::<Response<()>, _>("cannot read that")));
    let layer =
        metrics.layer_with(
            Api::DeepSeek,
            |error: &&str| {
                if error.contains("read") { ErrorType::Decode } else { ErrorType::Other }
            },
        );
    assert_eq!(layer.layer(failing).oneshot(Request::new(())).await.unwrap_err(), "cannot read that");
    telemetry.assert_counted(&[
        "api.deepseek.calls{status=error} 1",
        "api.errors{api=deepseek, error_type=decode} 1",
        "api.request_duration{api=deepseek, status=error} 1",
    ]);
}

#[test]
fn a_response_future_that_is_dropped_is_a_cancelled_call() {
    let (telemetry, metrics) = start();
    let hanging = service_fn(|_: Request<()>| pending::<Result<Response<()>, Infallible>>());
    let mut client = metrics.layer(Api::DeepSeek).layer(hanging);

    drop(client.call(Request::new(())));
    telemetry.assert_counted(&[
        "api.deepseek.calls{status=cancelled} 1",
        "api.request_duration{api=deepseek, status=cancelled} 1",
    ]);

    let mut polled = Box::pin(client.call(Request::new(())));
    assert!(polled.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    telemetry.assert_counted(&[
        "api.deepseek.calls{status=cancelled} 1",
        "api.request_duration{api=deepseek, status=cancelled} 1",
    ]);
    drop(polled);
    telemetry.assert_counted(&[
        "api.deepseek.calls{status=cancelled} 2",
        "api.request_duration{api=deepseek, status=cancelled} 2",
    ]);
}

#[tokio::test]
async fn a_response_future_that_is_dropped_after_its_end_is_counted_once() {
    let (telemetry, metrics) = start();
    let answering = service_fn(|_: Request<()>| ready(Ok::<_, Infallible>(Response::new(()))));
    let mut future = Box::pin(metrics.layer(Api::DeepSeek).layer(answering).call(Request::new(())));
    future.as_mut().await.unwrap();
    drop(future);
    telemetry.assert_counted(&[
        "api.deepseek.calls{status=success} 1",
        "api.request_duration{api=deepseek, status=success} 1",
    ]);
}

#[test]
fn a_service_that_is_not_ready_or_never_will_be_has_no_calls() {
    #[derive(Clone)]
    struct Broken(Poll<Result<(), io::ErrorKind>>);
    impl Service<Request<()>> for Broken {
        type Response = Response<()>;
        type Error = io::Error;
        type Future = std::future::Ready<io::Result<Response<()>>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.0.map_err(io::Error::from)
        }
        fn call(&mut self, _: Request<()>) -> Self::Future {
            ready(Ok(Response::new(())))
        }
    }
    let (telemetry, metrics) = start();
    let context = &mut Context::from_waker(Waker::noop());
    let layer = metrics.layer(Api::DeepSeek);
    assert!(layer.layer(Broken(Poll::Pending)).poll_ready(context).is_pending());
    let broken = Broken(Poll::Ready(Err(io::ErrorKind::BrokenPipe)));
    let Poll::Ready(Err(error)) = layer.layer(broken).poll_ready(context) else { panic!("that one is broken") };
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    telemetry.assert_counted(&[]);
}

fn start() -> (TestTelemetry, ApiClientMetrics) {
    let telemetry = TestTelemetry::new();
    let metrics = ApiClientMetrics::new(telemetry.provider());
    (telemetry, metrics)
}
