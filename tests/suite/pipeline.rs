//! Starting, every runtime, both registries, and the end.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use barograph::opentelemetry::KeyValue;
use barograph::{ScrapeError, StartError, Telemetry};
use prometheus::{IntCounter, Registry, TextEncoder};

use crate::support::{Answer, DEADLINE, builder, find, get, telemetry, wait_until};

#[test]
fn a_port_in_use_is_one_line_that_says_what_and_where() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = Telemetry::builder("suite").with_address(address).start().unwrap_err();
    let expected = format!(
        "failed to bind the scrape endpoint to {address}: address in use by another program, expected another port, or port 0 for any that is free"
    );
    assert_eq!(error.to_string(), expected);
    // What a `main` prints that returns the error.
    assert_eq!(format!("{error:?}"), expected);
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn an_address_or_a_path_that_is_none_is_said() {
    let address = |address: &str| Telemetry::builder("suite").with_address(address).start().unwrap_err();
    for wrong in ["", "localhost", "localhost:x", "127.0.0.1:99999"] {
        let error = address(wrong);
        assert!(matches!(error, StartError::Address { .. }), "{error}");
        let message = error.to_string();
        let expected =
            format!("failed to resolve the scrape endpoint's address `{wrong}`, which should be a host and a port: ");
        assert!(message.starts_with(&expected), "{message}");
    }
    for wrong in ["metrics", "/", "/livez", "/a b", "/a?b", ""] {
        let error = builder().with_path(wrong).start().unwrap_err();
        assert!(
            error.to_string().starts_with(&format!("the scrape endpoint's path `{wrong}` cannot be served")),
            "{error}"
        );
    }
}

#[test]
fn the_endpoint_is_bound_when_start_returns_and_free_again_when_it_is_dropped() {
    let telemetry = builder().start().unwrap();
    let address = telemetry.local_addr().unwrap();
    assert!(address.ip().is_loopback());
    assert_eq!(get(address, "/readyz").status, 200);
    drop(telemetry);
    wait_until("the port is free", || TcpListener::bind(address).is_ok());
    assert_eq!(Telemetry::builder("suite").without_endpoint().start().unwrap().local_addr(), None);
}

#[test]
fn the_resource_is_shown_as_target_info() {
    let telemetry = builder()
        .with_resource([KeyValue::new("service.version", "1.2"), KeyValue::new("deployment.environment.name", "test")])
        .start()
        .unwrap();
    let page = telemetry.scrape().unwrap();
    for label in ["service_name=\"suite\"", "service_version=\"1.2\"", "deployment_environment_name=\"test\""] {
        assert!(page.lines().any(|line| line.starts_with("target_info{") && line.contains(label)), "{label}: {page}");
    }
    assert_eq!(page.matches("\ntarget_info{").count(), 1);
}

#[test]
fn it_works_without_a_runtime_inside_a_current_thread_one_and_inside_a_multi_thread_one() {
    fn works() {
        let telemetry = builder().start().unwrap();
        telemetry.meter("m").u64_counter("works").build().add(1, &[]);
        let page = get(telemetry.local_addr().unwrap(), "/metrics").body;
        assert!(page.contains("works_total{otel_scope_name=\"m\"} 1\n"), "{page}");
        assert_eq!(telemetry.scrape().unwrap(), page);
        telemetry.shutdown(Duration::from_secs(5)).unwrap();
        // And dropped rather than shut down.
        drop(builder().start().unwrap());
    }
    works();
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async { works() });
    let multi = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    multi.block_on(async { tokio::spawn(async { works() }).await.unwrap() });
}

#[test]
fn after_shutdown_the_endpoint_is_closed_and_the_service_says_why() {
    let telemetry = builder().start().unwrap();
    let address = telemetry.local_addr().unwrap();
    telemetry.shutdown(Duration::from_secs(5)).unwrap();
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn shutdown_lets_a_scrape_under_way_end() {
    let telemetry = builder().start().unwrap();
    let address = telemetry.local_addr().unwrap();
    let (release, entered) = gate(&telemetry);
    let scrape = std::thread::spawn(move || get(address, "/metrics"));
    entered.recv_timeout(DEADLINE).unwrap();
    let shutdown = std::thread::spawn(move || telemetry.shutdown(DEADLINE));
    wait_until("the socket is closed to new connections", || TcpStream::connect(address).is_err());
    release.send(()).unwrap();
    assert_eq!(scrape.join().unwrap().status, 200);
    shutdown.join().unwrap().unwrap();
}

#[test]
fn shutdown_keeps_its_deadline_although_a_callback_never_returns() {
    let telemetry = builder().start().unwrap();
    let address = telemetry.local_addr().unwrap();
    let (_release, entered) = gate(&telemetry);
    let mut scrape = TcpStream::connect(address).unwrap();
    write!(scrape, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    entered.recv_timeout(DEADLINE).unwrap();
    let started = Instant::now();
    let error = telemetry.shutdown(Duration::from_millis(100)).unwrap_err();
    assert!(started.elapsed() < DEADLINE / 2, "{:?}", started.elapsed());
    assert_eq!(error.to_string(), "a scrape in flight did not end within the 100ms given and was abandoned");
}

#[test]
fn a_deadline_of_for_ever_is_one() {
    let telemetry = builder().start().unwrap();
    telemetry.shutdown(Duration::MAX).unwrap();
}

#[test]
fn handles_and_the_pipeline_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Telemetry>();
    shared::<barograph::GuardedMeterProvider>();
    shared::<barograph::ScrapeService>();
    shared::<barograph::Counter>();
    shared::<barograph::UpDownCounter>();
    shared::<barograph::Gauge>();
    shared::<barograph::Histogram>();
    shared::<barograph::KeyedGauge<()>>();
    shared::<barograph::Registration>();
    shared::<barograph::Timer>();
    shared::<barograph::InFlight>();
    shared::<StartError>();
}

#[test]
fn shutdown_lets_a_slow_reader_have_the_whole_page() {
    let telemetry = builder().start().unwrap();
    let counter = telemetry.meter("m").u64_counter("large").build();
    for n in 0..1_900 {
        counter.add(1, &[KeyValue::new("n", n), KeyValue::new("text", "x".repeat(8_000))]);
    }
    let address = telemetry.local_addr().unwrap();
    let mut scrape = TcpStream::connect(address).unwrap();
    write!(scrape, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    // The answer has begun, and is far larger than what sockets hold.
    let mut answer = vec![0; 1_000];
    scrape.read_exact(&mut answer).unwrap();
    let shutdown = std::thread::spawn(move || telemetry.shutdown(DEADLINE));
    wait_until("the socket is closed to new connections", || TcpStream::connect(address).is_err());
    scrape.set_read_timeout(Some(DEADLINE)).unwrap();
    scrape.read_to_end(&mut answer).unwrap();
    shutdown.join().unwrap().unwrap();
    let body = Answer::parse(answer, true).bytes;
    assert!(body.ends_with(b"\n"), "the page is whole");
    let length = body.len();
    assert!(length > 15_000_000);
}

#[test]
fn a_registry_can_be_exported_to_again_once_the_pipeline_is_gone() {
    let registry = Registry::new();
    let start = || Telemetry::builder("suite").without_endpoint().export_to_registry(registry.clone()).start();
    for _ in 0..2 {
        let telemetry = start().unwrap();
        telemetry.meter("m").u64_counter("again").build().add(1, &[]);
        assert!(registry.gather().iter().any(|family| family.name() == "again_total"));
        let error = start().unwrap_err().to_string();
        assert!(error.starts_with("failed to register the metrics with the prometheus registry: "), "{error}");
        telemetry.shutdown(DEADLINE).unwrap();
        assert!(registry.gather().is_empty());
    }
    drop(start().unwrap());
    assert!(start().is_ok());
}

#[test]
fn shutdown_keeps_its_deadline_although_the_callers_own_gathering_is_stuck() {
    let registry = Registry::new();
    let telemetry =
        Telemetry::builder("suite").without_endpoint().export_to_registry(registry.clone()).start().unwrap();
    let (release, entered) = gate(&telemetry);
    let gathering = std::thread::spawn(move || registry.gather());
    entered.recv_timeout(DEADLINE).unwrap();
    let (ended, end) = mpsc::channel();
    std::thread::spawn(move || ended.send(telemetry.shutdown(Duration::from_millis(100))));
    let error = end.recv_timeout(DEADLINE / 2).expect("it ends while the callback is stuck").unwrap_err();
    assert!(matches!(error, barograph::ShutdownError::Deadline { .. }), "{error}");
    drop(release);
    gathering.join().unwrap();
}

#[test]
fn dropping_does_not_wait_for_a_callback() {
    let telemetry = builder().start().unwrap();
    let address = telemetry.local_addr().unwrap();
    let (_release, entered) = gate(&telemetry);
    let mut scrape = TcpStream::connect(address).unwrap();
    write!(scrape, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    entered.recv_timeout(DEADLINE).unwrap();
    let started = Instant::now();
    drop(telemetry);
    assert!(started.elapsed() < DEADLINE / 2, "{:?}", started.elapsed());
}

#[test]
fn an_idle_connection_does_not_hold_up_a_shutdown() {
    let telemetry = builder().start().unwrap();
    let address = telemetry.local_addr().unwrap();
    let idle = TcpStream::connect(address).unwrap();
    let mut half = TcpStream::connect(address).unwrap();
    write!(half, "GET /metr").unwrap();
    // Both are accepted once a third one is answered.
    assert_eq!(get(address, "/livez").status, 200);
    telemetry.shutdown(DEADLINE).unwrap();
    drop((idle, half));
}

/// An observable whose callback says that it was entered and waits until it is released.
fn gate(telemetry: &Telemetry) -> (mpsc::Sender<()>, mpsc::Receiver<()>) {
    let (release, released) = mpsc::channel::<()>();
    let (enter, entered) = mpsc::channel();
    let channels = std::sync::Mutex::new((enter, released));
    telemetry
        .meter("gate")
        .u64_observable_gauge("gate")
        .with_callback(move |_| {
            let channels = channels.lock().unwrap();
            let _ = channels.0.send(());
            let _ = channels.1.recv();
        })
        .build();
    (release, entered)
}

#[test]
fn a_service_that_outlives_its_pipeline_says_that_it_is_shut_down() {
    let telemetry = telemetry();
    let mut service = telemetry.scrape_service();
    drop(telemetry);
    let request = http::Request::get("/metrics").body(()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let Ok(answer) = runtime.block_on(tower::Service::call(&mut service, request));
    assert_eq!(answer.status(), 503);
    assert_eq!(ScrapeError::ShutDown.to_string(), "the metrics pipeline is shut down");
}

#[test]
fn d10_our_metrics_reach_the_registry_that_the_caller_gave() {
    let registry = Registry::new();
    let telemetry =
        Telemetry::builder("suite").without_endpoint().export_to_registry(registry.clone()).start().unwrap();
    telemetry.meter("m").u64_counter("exported").build().add(4, &[KeyValue::new("k", "v")]);
    let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    assert!(text.contains("exported_total{k=\"v\",otel_scope_name=\"m\"} 4\n"), "{text}");
    assert!(telemetry.scrape().unwrap().contains("exported_total{k=\"v\",otel_scope_name=\"m\"} 4\n"));
}

#[test]
fn one_registry_for_both_directions_is_refused() {
    let registry = Registry::new();
    let start = |merged: &Registry, target: &Registry| {
        Telemetry::builder("suite")
            .without_endpoint()
            .with_registry(merged.clone())
            .export_to_registry(target.clone())
            .start()
    };
    let error = start(&registry, &registry).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("the same prometheus registry is merged into the scrape and receives our metrics")
    );
    // Two registries are two: what one shows does not come back from the other.
    let (merged, target) = (Registry::new(), Registry::new());
    let own = IntCounter::new("own_total", "The application's own.").unwrap();
    merged.register(Box::new(own.clone())).unwrap();
    own.inc();
    let telemetry = start(&merged, &target).unwrap();
    assert_eq!(find(&telemetry.scrape().unwrap(), "own_total"), Some(1.0));
    assert!(!target.gather().iter().any(|family| family.name() == "own_total"));
}
