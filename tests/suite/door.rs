//! What the endpoint's own server asks of everybody who connects, where it listens, and how it begins and ends.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use barograph::config::{EndpointLimits, RateLimit};
use barograph::opentelemetry::KeyValue;
use barograph::{StartError, Telemetry};

use crate::support::{Answer, DEADLINE, find, get, request_with, talking_builder as builder, wait_until};

fn limited(limits: EndpointLimits) -> (Telemetry, SocketAddr) {
    let telemetry = builder().with_limits(limits).start().unwrap();
    let address = telemetry.local_addr().unwrap();
    (telemetry, address)
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Whether the server has closed the connection, within the deadline.
fn is_closed(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

/// One request on a connection that stays open.
fn ask(stream: &mut TcpStream, path: &str) -> String {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nok\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    String::from_utf8(answer).unwrap()
}

fn refused(telemetry: &Telemetry, reason: &str) -> f64 {
    let page = telemetry.scrape().unwrap();
    find(&page, &format!("barograph_scrape_refused_total{{reason=\"{reason}\"}}")).unwrap()
}

const SOON: Duration = Duration::from_millis(200);

#[test]
fn a_head_that_does_not_come_to_its_end_is_not_waited_for() {
    let (telemetry, address) = limited(EndpointLimits { head_timeout: SOON, ..EndpointLimits::default() });
    let mut silent = connect(address);
    let mut slow = connect(address);
    slow.write_all(b"GET /livez HTTP/1.1\r\n").unwrap();
    let mut second = connect(address);
    ask(&mut second, "/livez");
    second.write_all(b"GET /li").unwrap();
    for stream in [&mut silent, &mut slow, &mut second] {
        assert!(is_closed(stream));
    }
    wait_until("they are counted", || refused(&telemetry, "head_timeout") == 3.0);
}

#[test]
fn one_byte_at_a_time_is_no_way_around_the_timeout() {
    let (_telemetry, address) = limited(EndpointLimits { head_timeout: SOON, ..EndpointLimits::default() });
    let mut slow = connect(address);
    let begun = Instant::now();
    let ended =
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Long: ".iter().chain(std::iter::repeat(&b'x')).any(|byte| {
            thread::sleep(Duration::from_millis(5));
            slow.write_all(&[*byte]).is_err() || begun.elapsed() > DEADLINE
        });
    assert!(ended && begun.elapsed() < DEADLINE, "{:?}", begun.elapsed());
}

#[test]
fn an_idle_connection_is_kept_for_as_long_as_was_said_and_ends_without_a_complaint() {
    let limits =
        EndpointLimits { head_timeout: SOON, idle_timeout: Duration::from_secs(1), ..EndpointLimits::default() };
    let (telemetry, address) = limited(limits);
    let mut stream = connect(address);
    ask(&mut stream, "/livez");
    // Longer than a head may take.
    thread::sleep(2 * SOON);
    ask(&mut stream, "/livez");
    assert!(is_closed(&mut stream));
    assert_eq!(refused(&telemetry, "head_timeout"), 0.0);
}

#[test]
fn an_answer_that_is_not_taken_is_given_up() {
    let limits = EndpointLimits { write_timeout: SOON, ..EndpointLimits::default() };
    let (telemetry, address) = limited(limits);
    let counter = telemetry.meter("m").u64_counter("large").build();
    for n in 0..1_500 {
        let text = KeyValue::new("text", "x".repeat(8_000));
        counter.add(1, &[KeyValue::new("n", n), text]);
    }
    let mut stream = connect(address);
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    wait_until("it is counted", || refused(&telemetry, "write_timeout") == 1.0);
    wait_until("nothing is in flight", || {
        find(&telemetry.scrape().unwrap(), "barograph_scrape_in_flight") == Some(0.0)
    });
}

#[test]
fn the_connection_that_has_asked_for_nothing_gives_way_to_a_new_one() {
    let (telemetry, address) = limited(EndpointLimits { max_connections: 4, ..EndpointLimits::default() });
    let mut scraper = connect(address);
    ask(&mut scraper, "/livez");
    let mut silent: Vec<_> = (0..3).map(|_| connect(address)).collect();
    for round in 0..5 {
        assert_eq!(get(address, "/livez").status, 200, "round {round}");
        silent.push(connect(address));
    }
    // Whoever has asked before and asks again was never in question.
    ask(&mut scraper, "/livez");
    assert!(is_closed(&mut silent[0]));
    assert!(refused(&telemetry, "connections") >= 5.0);
}

#[test]
fn a_head_that_is_too_long_is_refused() {
    let (telemetry, address) = limited(EndpointLimits { max_head_bytes: 10_000, ..EndpointLimits::default() });
    assert_eq!(request_with(address, "GET", "/livez", &[("X-Long", &"x".repeat(5_000))]).status, 200);
    let mut stream = connect(address);
    let _ = write!(stream, "GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Long: {}\r\n\r\n", "x".repeat(20_000));
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431 "), "{}", String::from_utf8_lossy(&answer));
    assert!(telemetry.scrape().is_ok());
}

#[test]
fn a_body_is_not_read_and_a_large_one_is_refused() {
    let (telemetry, address) = limited(EndpointLimits { max_body_bytes: 10, ..EndpointLimits::default() });
    for (length, status) in [("0", 200), ("10", 200), ("11", 413), ("99999999999", 413)] {
        assert_eq!(request_with(address, "GET", "/livez", &[("Content-Length", length)]).status, status, "{length}");
    }
    assert_eq!(refused(&telemetry, "body"), 2.0);
}

#[test]
fn who_asks_too_often_is_told_when_to_come_again() {
    let rate_limit = Some(RateLimit { interval: Duration::from_secs(1_000), burst: 2 });
    let (telemetry, address) = limited(EndpointLimits { rate_limit, ..EndpointLimits::default() });
    assert_eq!(get(address, "/livez").status, 200);
    assert_eq!(get(address, "/metrics").status, 200);
    let answer = get(address, "/metrics");
    assert_eq!(answer.status, 429);
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((990..=1_000).contains(&seconds), "{seconds}");
    assert_eq!(answer.body, format!("too many requests, ask again in {seconds} s\n"));
    assert_eq!(refused(&telemetry, "rate_limit"), 1.0);
}

fn asked_as(address: SocketAddr, host: &str) -> Answer {
    let mut stream = connect(address);
    write!(stream, "GET /livez HTTP/1.1\r\n{host}Connection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    Answer::parse(answer, true)
}

#[test]
fn on_loopback_only_loopback_names_are_answered_for() {
    let limits = EndpointLimits { allowed_hosts: vec!["metrics.example".to_owned()], ..EndpointLimits::default() };
    let (telemetry, address) = limited(limits);
    for host in [
        "localhost",
        "LocalHost:9464",
        "localhost.",
        "app.localhost:1",
        "127.0.0.1",
        "127.8.7.6:80",
        "[::1]:9464",
        "[::ffff:127.0.0.1]",
        "metrics.example:9464",
        "Metrics.Example",
    ] {
        assert_eq!(asked_as(address, &format!("Host: {host}\r\n")).status, 200, "{host}");
    }
    for host in [
        "evil.example",
        "evil.example:9464",
        "localhost.evil.example",
        "notlocalhost",
        "8.8.8.8",
        ".localhost",
        "",
        "[::2]",
    ] {
        let answer = asked_as(address, &format!("Host: {host}\r\n"));
        assert_eq!(answer.status, 403, "{host}: {}", answer.body);
        assert!(answer.body.contains("`allowed_hosts`"), "{}", answer.body);
    }
    assert_eq!(asked_as(address, "Host: localhost\r\nHost: evil.example\r\n").status, 403);
    assert_eq!(refused(&telemetry, "host"), 9.0);

    let any = EndpointLimits { allowed_hosts: vec!["*".to_owned()], ..EndpointLimits::default() };
    assert_eq!(asked_as(limited(any).1, "Host: evil.example\r\n").status, 200);
}

#[test]
fn on_other_addresses_every_name_is_answered_for() {
    let telemetry = Telemetry::builder("suite").with_address("0.0.0.0:0").start().unwrap();
    let port = telemetry.local_addr().unwrap().port();
    assert_eq!(asked_as(([127, 0, 0, 1], port).into(), "Host: metrics.example\r\n").status, 200);
    assert_eq!(telemetry.local_urls().collect::<Vec<_>>(), [format!("http://127.0.0.1:{port}/metrics")]);
}

#[test]
fn one_endpoint_listens_at_several_addresses_of_both_families() {
    let telemetry =
        Telemetry::builder("suite").with_addresses(["127.0.0.1:0", "[::1]:0", "127.0.0.2:0"]).start().unwrap();
    let addresses: Vec<_> = telemetry.local_addrs().collect();
    assert_eq!(addresses.len(), 3);
    assert!(addresses[0].is_ipv4() && addresses[1].is_ipv6(), "{addresses:?}");
    assert_eq!(telemetry.local_addr(), Some(addresses[0]));
    for address in &addresses {
        assert_eq!(get(*address, "/metrics").status, 200, "{address}");
    }
}

#[test]
fn both_families_can_have_one_port() {
    let telemetry = Telemetry::builder("suite").with_address("0.0.0.0:0").start().unwrap();
    let port = telemetry.local_addr().unwrap().port();
    telemetry.shutdown(DEADLINE).unwrap();
    let addresses = [format!("0.0.0.0:{port}"), format!("[::]:{port}")];
    let telemetry = Telemetry::builder("suite").with_addresses(addresses).start().unwrap();
    for host in ["127.0.0.1", "::1"] {
        let address = SocketAddr::new(host.parse().unwrap(), port);
        assert_eq!(get(address, "/livez").status, 200, "{address}");
    }
    assert_eq!(telemetry.local_addrs().count(), 2);
}

#[test]
fn what_cannot_be_bound_is_an_error_before_anything_runs() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = Telemetry::builder("suite").with_addresses(["127.0.0.1:0".to_owned(), address.to_string()]).start();
    let error = error.unwrap_err();
    assert!(matches!(&error, StartError::Bind { source, .. } if source.kind() == ErrorKind::AddrInUse));
    assert!(error.to_string().contains(&format!("{address}: address in use")), "{error}");
    let error = Telemetry::builder("suite").with_address("systemd").start().unwrap_err();
    assert!(error.to_string().contains("LISTEN_FDS"), "{error}");
}

#[test]
fn a_port_can_be_had_again_at_once() {
    let first = builder().start().unwrap();
    let address = first.local_addr().unwrap();
    // A connection that the server closes leaves a trace in the port.
    let mut stream = connect(address);
    ask(&mut stream, "/livez");
    first.shutdown(DEADLINE).unwrap();
    let second = Telemetry::builder("suite").with_address(address).start().unwrap();
    assert_eq!(get(second.local_addr().unwrap(), "/livez").status, 200);
}

#[cfg(unix)]
mod unix {
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::Path;

    use super::*;

    fn get(path: &Path) -> Answer {
        let mut stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        // Nobody rebinds a name to a file: any host will do.
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: whatever\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        Answer::parse(answer, true)
    }

    #[test]
    fn a_socket_in_the_file_system_is_served_and_goes_with_its_endpoint() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.sock");
        let address = format!("unix:{}", path.display());
        let telemetry = Telemetry::builder("suite").with_address(&address).start().unwrap();
        assert_eq!((get(&path).status, telemetry.local_addr()), (200, None));

        let error = Telemetry::builder("suite").with_address(&address).start().unwrap_err().to_string();
        assert!(error.contains(&format!("{address}: address in use")), "{error}");
        assert_eq!(get(&path).status, 200, "the first one is still there");
        telemetry.shutdown(DEADLINE).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_socket_that_was_left_behind_is_replaced_and_a_file_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.sock");
        let address = format!("unix:{}", path.display());
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let telemetry = Telemetry::builder("suite").with_address(&address).start().unwrap();
        assert_eq!(get(&path).status, 200);
        drop(telemetry);

        std::fs::write(&path, "precious").unwrap();
        assert!(Telemetry::builder("suite").with_address(&address).start().is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }
}

#[test]
fn the_program_is_ready_once_every_latch_is_gone() {
    let telemetry = builder().start().unwrap();
    let address = telemetry.local_addr().unwrap();
    assert_eq!(get(address, "/readyz").status, 200);
    let (cache, second) = (telemetry.readiness_latch("cache"), telemetry.readiness_latch("peers"));
    let answer = get(address, "/readyz");
    assert_eq!((answer.status, answer.body.as_str()), (503, "waiting for cache, peers\n"));
    drop(cache);
    assert_eq!(get(address, "/readyz").body, "waiting for peers\n");
    assert_eq!(get(address, "/livez").status, 200);
    assert_eq!(get(address, "/metrics").status, 200);
    thread::spawn(move || drop(second)).join().unwrap();
    assert_eq!(get(address, "/readyz").status, 200);
}

#[test]
fn a_lingering_endpoint_serves_the_last_values_and_says_that_it_ends() {
    let telemetry = builder().with_linger(Duration::from_secs(2)).start().unwrap();
    let address = telemetry.local_addr().unwrap();
    let counter = telemetry.meter("m").u64_counter("last").build();
    let begun = Instant::now();
    let ended = thread::spawn(move || telemetry.shutdown(DEADLINE));
    wait_until("it is ending", || get(address, "/readyz").status == 503);
    assert_eq!(get(address, "/readyz").body, "shutting down\n");
    counter.add(7, &[]);
    assert_eq!(find(&get(address, "/metrics").body, "last_total"), Some(7.0));
    ended.join().unwrap().unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(2));
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn lingering_is_part_of_the_deadline() {
    let telemetry = builder().with_linger(Duration::from_secs(3600)).start().unwrap();
    let begun = Instant::now();
    telemetry.shutdown(Duration::from_secs(2)).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[test]
fn what_the_pipeline_says_about_itself_can_be_switched_off() {
    let telemetry = builder().without_self_metrics().start().unwrap();
    telemetry.meter("m").u64_counter("own").build().add(1, &[]);
    let address = telemetry.local_addr().unwrap();
    assert_eq!(get(address, "/metrics").status, 200);
    let page = get(address, "/metrics").body;
    let names: Vec<_> = page.lines().filter(|line| line.starts_with("# TYPE ")).collect();
    assert_eq!(names, ["# TYPE own_total counter", "# TYPE target_info gauge"], "{page}");
}
