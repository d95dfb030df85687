//! The endpoint over TCP, and the same as a service in somebody else's server.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get as get_route;
use barograph::Telemetry;
use barograph::config::LivePage;
use barograph::opentelemetry::KeyValue;
use http::Request;
use http_body_util::BodyExt;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tower::ServiceExt;

use crate::support::{DEADLINE, builder, get, request, telemetry, wait_until};

#[test]
fn metrics_are_served_as_text_0_0_4() {
    let telemetry = builder().start().unwrap();
    telemetry.meter("m").u64_counter("served").build().add(3, &[]);
    let answer = get(telemetry.local_addr().unwrap(), "/metrics");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8; escaping=underscores"));
    assert_eq!(answer.body, telemetry.scrape().unwrap());
    assert!(answer.body.contains("served_total{otel_scope_name=\"m\"} 3\n"));
}

#[test]
fn head_says_what_get_would_and_sends_no_body() {
    let telemetry = builder().start().unwrap();
    let address = telemetry.local_addr().unwrap();
    for path in ["/metrics", "/livez", "/readyz", "/"] {
        let (head, get) = (request(address, "HEAD", path), get(address, path));
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
        for header in ["content-type", "content-length"] {
            assert_eq!(head.header(header), get.header(header), "{path} {header}");
        }
    }
}

#[test]
fn what_is_not_there_is_404_and_what_cannot_be_done_is_405_with_allow() {
    let telemetry = builder().start().unwrap();
    let address = telemetry.local_addr().unwrap();
    for path in ["/nothing", "/metrics/", "/metrics/x", "//metrics", "/METRICS"] {
        let answer = get(address, path);
        assert_eq!((answer.status, answer.body.as_str()), (404, "not found, the metrics are at /metrics\n"), "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        for path in ["/metrics", "/livez", "/readyz", "/"] {
            let answer = request(address, method, path);
            assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{method} {path}");
        }
    }
    assert_eq!(get(address, "/metrics?name=x").status, 200, "a query is no other path");
}

#[test]
fn the_path_can_be_chosen() {
    let telemetry = builder().with_path("/internal/prometheus").with_live_page(LivePage::Off).start().unwrap();
    let address = telemetry.local_addr().unwrap();
    assert_eq!(get(address, "/internal/prometheus").status, 200);
    assert_eq!(get(address, "/metrics").status, 404);
    assert!(get(address, "/").body.contains("href=\"internal/prometheus\""));
}

#[test]
fn the_landing_page_leads_to_the_rest_and_shows_what_is_wrong() {
    let telemetry = builder().with_live_page(LivePage::Off).start().unwrap();
    let address = telemetry.local_addr().unwrap();
    let answer = get(address, "/");
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    for part in ["<h1>suite</h1>", "href=\"metrics\"", "href=\"livez\"", "href=\"readyz\"", "as it should be"] {
        assert!(answer.body.contains(part), "{part}: {}", answer.body);
    }
    telemetry.meter("m").u64_counter("not a name").build();
    let page = get(address, "/").body;
    assert!(page.contains("<li>`not a name` of meter `m` records nothing"), "{page}");
}

#[test]
fn a_connection_serves_many_scrapes() {
    let telemetry = builder().start().unwrap();
    let address = telemetry.local_addr().unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    for _ in 0..3 {
        write!(stream, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nok\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
    }
}

#[test]
fn health_answers_while_a_callback_is_stuck_and_the_scrape_says_503_in_time() {
    let telemetry = builder().start().unwrap();
    let address = telemetry.local_addr().unwrap();
    let (release, stuck) = mpsc::channel::<()>();
    let stuck = std::sync::Mutex::new(stuck);
    telemetry
        .meter("m")
        .u64_observable_gauge("stuck")
        .with_callback(move |_| {
            // Ends when the test drops its side.
            let _ = stuck.lock().unwrap().recv_timeout(DEADLINE);
        })
        .build();

    let mut scrape = TcpStream::connect(address).unwrap();
    scrape.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(
        scrape,
        "GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Prometheus-Scrape-Timeout-Seconds: 0.4\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    assert_eq!(get(address, "/livez").status, 200);
    assert_eq!(get(address, "/readyz").status, 200);
    let mut answer = String::new();
    scrape.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("failed to collect the metrics within 200ms"), "{answer}");

    drop(release);
    wait_until("scrapes work again", || get(address, "/metrics").status == 200);
}

#[test]
fn garbage_is_refused_and_costs_nobody_else() {
    let telemetry = builder().start().unwrap();
    let address = telemetry.local_addr().unwrap();
    let long = format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(200_000));
    for bytes in ["\r\n\r\n\u{0}\u{1}nonsense\r\n\r\n", "GET\r\n\r\n", "GET /metrics HTTP/9.9\r\n\r\n", long.as_str()] {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        // The server may close while we still write.
        let _ = stream.write_all(bytes.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    assert_eq!(get(address, "/metrics").status, 200);
}

#[test]
fn overlapping_scrapes_are_all_answered() {
    let telemetry = builder().start().unwrap();
    let address = telemetry.local_addr().unwrap();
    telemetry.meter("m").u64_counter("overlap").build().add(1, &[]);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..10 {
                    assert!(get(address, "/metrics").body.contains("overlap_total"));
                }
            });
        }
    });
}

#[test]
fn the_service_can_be_mounted_in_an_axum_router_and_is_503_after_shutdown() {
    let telemetry: Telemetry = telemetry();
    telemetry.meter("m").u64_counter("mounted").build().add(1, &[]);
    let app = Router::new()
        .route("/own", get_route(|| async { "own" }))
        .nest_service("/telemetry", telemetry.scrape_service())
        .route_service("/metrics", telemetry.scrape_service());
    let (address, stop) = serve(app);

    assert_eq!(get(address, "/own").body, "own");
    for path in ["/telemetry/metrics", "/metrics"] {
        let answer = get(address, path);
        assert_eq!(answer.status, 200);
        assert!(answer.body.contains("mounted_total{otel_scope_name=\"m\"} 1\n"), "{}", answer.body);
    }
    assert_eq!(get(address, "/telemetry/livez").status, 200);
    assert_eq!(request(address, "POST", "/metrics").status, 405);

    telemetry.shutdown(Duration::from_secs(5)).unwrap();
    for path in ["/metrics", "/telemetry/readyz"] {
        let answer = get(address, path);
        assert_eq!((answer.status, answer.body.as_str()), (503, "the metrics pipeline is shut down\n"));
    }
    assert_eq!(get(address, "/telemetry/livez").status, 200);
    drop(stop);
}

#[test]
fn the_service_can_be_mounted_in_a_hyper_server() {
    let telemetry = telemetry();
    telemetry.meter("m").u64_counter("mounted").build().add(1, &[]);
    let service = TowerToHyperService::new(telemetry.scrape_service());
    let (started, address) = mpsc::channel();
    let server = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            started.send(listener.local_addr().unwrap()).unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.unwrap();
        });
    });
    let answer = get(address.recv_timeout(DEADLINE).unwrap(), "/metrics");
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("mounted_total{otel_scope_name=\"m\"} 1\n"), "{}", answer.body);
    server.join().unwrap();
}

/// Serves `app` in a current-thread runtime until the returned sender is dropped.
fn serve(app: Router) -> (std::net::SocketAddr, tokio::sync::oneshot::Sender<()>) {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (started, address) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            started.send(listener.local_addr().unwrap()).unwrap();
            let stopped = async {
                let _ = stopped.await;
            };
            axum::serve(listener, app).with_graceful_shutdown(stopped).await.unwrap();
        });
    });
    (address.recv_timeout(DEADLINE).unwrap(), stop)
}

#[test]
fn a_mounted_scrape_does_not_hold_up_the_callers_only_worker() {
    let telemetry = telemetry();
    let (release, gate) = mpsc::channel::<()>();
    let (entered, is_entered) = mpsc::channel::<()>();
    let gate = std::sync::Mutex::new((gate, entered));
    telemetry
        .meter("m")
        .u64_observable_gauge("slow")
        .with_callback(move |observer| {
            let gate = gate.lock().unwrap();
            let _ = gate.1.send(());
            let _ = gate.0.recv_timeout(DEADLINE);
            observer.observe(1, &[]);
        })
        .build();
    let app = Router::new()
        .route("/own", get_route(|| async { "own" }))
        .route_service("/metrics", telemetry.scrape_service());
    let (address, _stop) = serve(app);
    let scrape = std::thread::spawn(move || get(address, "/metrics"));
    is_entered.recv_timeout(DEADLINE).unwrap();
    // The callback is waiting for us, on Barograph's thread; the one worker of the server is free.
    let asked = Instant::now();
    assert_eq!(get(address, "/own").body, "own");
    assert!(asked.elapsed() < DEADLINE / 2);
    release.send(()).unwrap();
    assert_eq!(scrape.join().unwrap().status, 200);
}

#[test]
fn pages_that_nobody_reads_give_way_once_they_are_past_their_deadline() {
    let telemetry = telemetry();
    let counter = telemetry.meter("m").u64_counter("large").build();
    (0..1_500).for_each(|n| counter.add(1, &[KeyValue::new("n", n), KeyValue::new("text", "x".repeat(2_000))]));
    let ask = |timeout: &str| {
        let request = Request::get("/metrics").header("X-Prometheus-Scrape-Timeout-Seconds", timeout).body(()).unwrap();
        telemetry.scrape_service().oneshot(request)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let patient = ask("60").await.unwrap().into_body();
        let mut unread = Vec::new();
        // Those that come when there is no room have the time to wait until the first ones are past their deadline.
        for timeout in [["3"; 7], ["60"; 7]].concat() {
            let answer = ask(timeout).await.unwrap();
            assert_eq!(answer.status(), 200);
            unread.push(answer.into_body());
        }
        for whole in [unread.pop().unwrap(), patient] {
            let page = whole.collect().await.unwrap().to_bytes();
            assert!(page.len() > 3_000_000 && page.ends_with(b"\n"));
        }
        let error = unread.swap_remove(0).collect().await.unwrap_err();
        assert!(error.to_string().contains("ask again"), "{error}");
    });
}

#[test]
fn requests_whose_scrapers_went_away_cost_no_page() {
    let telemetry = telemetry();
    let (release, gate) = mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let collections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&collections);
    telemetry
        .meter("m")
        .u64_observable_gauge("slow")
        .with_callback(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = gate.lock().unwrap().recv_timeout(DEADLINE);
        })
        .build();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let ask = || telemetry.scrape_service().oneshot(Request::get("/metrics").body(()).unwrap());
        for _ in 0..2_000 {
            // The scraper gives up at once, and its place is another one's.
            assert!(tokio::time::timeout(Duration::ZERO, ask()).await.is_err());
        }
        drop(release);
    });
    wait_until("a scrape is answered", || telemetry.scrape().is_ok());
    let collections = collections.load(Ordering::SeqCst);
    assert!(collections <= 4, "{collections} collections for nobody");
}
