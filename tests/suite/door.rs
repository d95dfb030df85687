//! What the endpoint's own server asks of everybody who connects, where it listens, and how it begins and ends.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use barograph::config::{EndpointLimits, RateLimit};
use barograph::opentelemetry::KeyValue;
use barograph::{StartError, Telemetry};

use crate::support::{
    Answer, DEADLINE, find, get, keep_logs, logged, request_with, talking_builder as builder, wait_until,
};

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
    // A browser opens connections that it then does not need: who has said nothing was refused nothing.
    wait_until("those that began are counted", || refused(&telemetry, "head_timeout") == 2.0);
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

/// Makes its page larger than what sockets hold.
fn fill(telemetry: &Telemetry) {
    let counter = telemetry.meter("m").u64_counter("large").build();
    for n in 0..1_500 {
        let text = KeyValue::new("text", "x".repeat(8_000));
        counter.add(1, &[KeyValue::new("n", n), text]);
    }
}

#[test]
fn an_answer_that_is_not_taken_is_given_up() {
    let limits = EndpointLimits { write_timeout: SOON, ..EndpointLimits::default() };
    let (telemetry, address) = limited(limits);
    fill(&telemetry);
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

#[test]
fn who_comes_again_when_told_does_not_come_too_early() {
    let rate_limit = Some(RateLimit { interval: Duration::from_millis(1_500), burst: 0 });
    let (_telemetry, address) = limited(EndpointLimits { rate_limit, ..EndpointLimits::default() });
    assert_eq!(get(address, "/livez").header("retry-after"), Some("2"));
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
    // What the program was told to listen by: this is how people abbreviate 127.0.0.1.
    let telemetry_of_name = Telemetry::builder("suite").with_address("127.1:0").start().unwrap();
    assert_eq!(asked_as(telemetry_of_name.local_addr().unwrap(), "Host: 127.1\r\n").status, 200);
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

#[test]
fn a_page_without_a_family_is_no_scrape_that_was_cancelled() {
    let (telemetry, address) = limited(EndpointLimits::default());
    for method in ["GET", "HEAD"] {
        let answer = request_with(address, method, "/metrics?name[]=nothing", &[]);
        assert_eq!((answer.status, answer.body.as_str()), (200, ""), "{method}");
    }
    assert_eq!(request_with(address, "HEAD", "/metrics", &[]).status, 200);
    wait_until("nothing is in flight", || {
        find(&telemetry.scrape().unwrap(), "barograph_scrape_in_flight") == Some(0.0)
    });
    let page = telemetry.scrape().unwrap();
    assert!(!page.contains("cancelled"), "{page}");
    assert_eq!(find(&page, "barograph_scrape_requests_total{code=\"200\"}"), Some(3.0));
}

#[test]
fn limits_that_no_clock_reaches_limit_nothing() {
    let limits = EndpointLimits {
        max_connections: usize::MAX,
        max_scrapes: usize::MAX,
        max_head_bytes: usize::MAX,
        max_body_bytes: u64::MAX,
        head_timeout: Duration::MAX,
        idle_timeout: Duration::MAX,
        write_timeout: Duration::MAX,
        answer_timeout: Duration::MAX,
        scrape_timeout: Duration::MAX,
        scrape_timeout_offset: Duration::MAX,
        rate_limit: Some(RateLimit { interval: Duration::MAX, burst: u32::MAX }),
        allowed_hosts: Vec::new(),
    };
    let (telemetry, address) = limited(limits);
    assert_eq!(get(address, "/metrics").status, 200);
    assert_eq!(request_with(address, "GET", "/metrics", &[("X-Prometheus-Scrape-Timeout-Seconds", "5")]).status, 200);
    assert!(telemetry.scrape().is_ok());
    telemetry.shutdown(DEADLINE).unwrap();
}

#[test]
fn one_connection_is_room_enough_and_so_is_none() {
    for max_connections in [0, 1] {
        let (_telemetry, address) = limited(EndpointLimits { max_connections, ..EndpointLimits::default() });
        let _silent = connect(address);
        for path in ["/livez", "/metrics"] {
            assert_eq!(get(address, path).status, 200, "{max_connections} {path}");
        }
    }
}

#[test]
fn heads_that_are_too_long_or_none_at_all_are_counted() {
    let (telemetry, address) = limited(EndpointLimits { max_head_bytes: 10_000, ..EndpointLimits::default() });
    for sent in [format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(20_000)), "\u{1} is no request\r\n\r\n".to_owned()] {
        let mut stream = connect(address);
        let _ = stream.write_all(sent.as_bytes());
        assert!(is_closed(&mut stream));
    }
    wait_until("both are counted", || refused(&telemetry, "head") == 1.0 && refused(&telemetry, "malformed") == 1.0);
}

#[test]
fn a_name_whose_first_address_is_taken_is_not_served_at_its_second() {
    let first = Telemetry::builder("suite").with_address("localhost:0").start().unwrap();
    let port = first.local_addr().unwrap().port();
    let error = Telemetry::builder("suite").with_address(format!("localhost:{port}")).start().unwrap_err().to_string();
    assert!(error.contains(&format!("127.0.0.1:{port}: address in use")), "{error}");
    assert!(error.contains("port 0"), "it says what would help: {error}");
}

#[test]
fn loopback_in_the_clothes_of_ipv6_is_loopback() {
    let telemetry = Telemetry::builder("suite").with_address("[::ffff:127.0.0.1]:0").start().unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], telemetry.local_addr().unwrap().port()));
    assert_eq!(asked_as(address, "Host: localhost\r\n").status, 200);
    assert_eq!(asked_as(address, "Host: evil.example\r\n").status, 403);
}

#[test]
fn allowed_hosts_are_understood_as_people_write_them() {
    let allowed_hosts = ["metrics.example.", "other.example:9464", "[2001:db8::1]", "2001:db8::2"];
    let allowed_hosts = allowed_hosts.map(str::to_owned).to_vec();
    let (_telemetry, address) = limited(EndpointLimits { allowed_hosts, ..EndpointLimits::default() });
    for host in ["metrics.example", "other.example", "other.example:1", "[2001:db8::1]:9464", "[2001:db8::2]"] {
        assert_eq!(asked_as(address, &format!("Host: {host}\r\n")).status, 200, "{host}");
    }
    for host in ["user@localhost", "localhost:80@evil.example", "evil.example:80@localhost", "[2001:db8::3]", "*"] {
        assert_eq!(asked_as(address, &format!("Host: {host}\r\n")).status, 403, "{host}");
    }
}

#[test]
fn who_asks_for_another_host_in_the_first_line_is_refused_too() {
    let (_telemetry, address) = limited(EndpointLimits::default());
    for (url, status) in [
        ("http://localhost/livez", 200),
        ("http://evil.example/livez", 403),
        ("http://localhost@evil.example/livez", 403),
    ] {
        assert_eq!(request_with(address, "GET", url, &[]).status, status, "{url}");
    }
}

#[test]
fn a_shutdown_waits_for_nobody_who_has_not_asked() {
    let (telemetry, address) = limited(EndpointLimits::default());
    let mut idle = connect(address);
    ask(&mut idle, "/livez");
    let mut half = connect(address);
    half.write_all(b"GET /livez HTTP/1.1\r\n").unwrap();
    let mut silent = connect(address);
    telemetry.shutdown(DEADLINE).unwrap();
    for stream in [&mut idle, &mut half, &mut silent] {
        assert!(is_closed(stream));
    }
}

#[test]
fn limits_are_among_the_settings() {
    let limits = EndpointLimits {
        max_connections: 32,
        head_timeout: Duration::from_secs(5),
        rate_limit: Some(RateLimit { interval: Duration::from_millis(100), burst: 20 }),
        allowed_hosts: vec!["metrics.example".to_owned()],
        ..EndpointLimits::default()
    };
    let telemetry = builder().with_limits(limits).with_linger(Duration::from_secs(2)).with_debug_page();
    let telemetry = telemetry.start().unwrap();
    let settings = telemetry.configuration().settings();
    let of_limits: Vec<_> = settings
        .iter()
        .map(ToString::to_string)
        .filter_map(|setting| Some(setting.split_once("prometheus/development.")?.1.to_owned()))
        .filter(|setting| ["limits", "linger", "debug"].iter().any(|name| setting.starts_with(name)))
        .collect();
    assert_eq!(
        of_limits,
        [
            "debug_page: true (code)",
            "limits.max_connections: 32 (code)",
            "limits.head_timeout: 5000 ms (code)",
            "limits.rate_limit: 20 at once, then one every 100 ms (code)",
            "limits.allowed_hosts: metrics.example (code)",
            "linger: 2000 ms (code)",
        ]
    );
    telemetry.shutdown(DEADLINE).unwrap();
}

#[cfg(feature = "web-config")]
mod web_config {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

    use super::*;

    /// `dave:dave123`, in base64.
    const DAVE: &str = "Basic ZGF2ZTpkYXZlMTIz";

    fn written(dir: &Path, config: &str) -> PathBuf {
        let path = dir.join("web-config.yml");
        fs::write(&path, config).unwrap();
        path
    }

    fn users() -> String {
        let hash = bcrypt::hash_with_result("dave123", 4).unwrap().format_for_version(bcrypt::Version::TwoY);
        format!("basic_auth_users:\n  dave: {hash}\n")
    }

    #[test]
    fn nothing_is_said_to_strangers_but_who_may_ask_and_every_answer_has_the_headers_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let headers = "http_server_config:\n  headers:\n    X-Frame-Options: deny\n";
        let config = written(dir.path(), &format!("{}{headers}", users()));
        let telemetry = builder().with_web_config(config).with_debug_page().start().unwrap();
        let address = telemetry.local_addr().unwrap();
        let twice = [("Authorization", DAVE), ("authorization", DAVE)];
        for (path, status) in
            [("/metrics", 200), ("/livez", 200), ("/readyz", 200), ("/", 200), ("/debug/metrics", 200), ("/no", 404)]
        {
            for method in ["GET", "HEAD", "POST"] {
                let status = if method == "POST" && status == 200 { 405 } else { status };
                for (sent, expected) in [(&[][..], 401), (&twice[..], 401), (&twice[..1], status)] {
                    let answer = request_with(address, method, path, sent);
                    assert_eq!(answer.status, expected, "{method} {path} {sent:?}");
                    assert_eq!(answer.header("x-frame-options"), Some("deny"), "{method} {path} {sent:?}");
                    assert_eq!(answer.header("www-authenticate").is_some(), expected == 401, "{method} {path}");
                }
            }
        }
        let answer = asked_as(address, "Host: evil.example\r\n");
        assert_eq!((answer.status, answer.header("x-frame-options")), (403, Some("deny")));
        let answer = request_with(address, "POST", "/metrics", &[("Content-Length", "99999")]);
        assert_eq!((answer.status, answer.header("x-frame-options")), (413, Some("deny")));
        assert_eq!(refused(&telemetry, "credentials"), 36.0);
    }

    #[test]
    fn the_rate_limit_of_the_file_counts_before_credentials_and_has_the_headers_too() {
        let dir = tempfile::tempdir().unwrap();
        let headers = "http_server_config:\n  headers:\n    X-Frame-Options: deny\n";
        let rate = "rate_limit:\n  interval: 1000s\n  burst: 1\n";
        let config = written(dir.path(), &format!("{}{headers}{rate}", users()));
        let telemetry = builder().with_web_config(config).start().unwrap();
        let address = telemetry.local_addr().unwrap();
        assert_eq!(get(address, "/livez").status, 401);
        let answer = request_with(address, "GET", "/livez", &[("Authorization", DAVE)]);
        assert_eq!((answer.status, answer.header("x-frame-options")), (429, Some("deny")));
        assert!(answer.header("retry-after").is_some());
    }

    #[test]
    fn a_start_that_fails_leaves_no_socket_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.sock");
        let address = format!("unix:{}", path.display());
        let missing = dir.path().join("missing.yml");
        let error = Telemetry::builder("suite").with_address(&address).with_web_config(&missing).start().unwrap_err();
        assert!(error.to_string().contains("missing.yml"), "{error}");
        assert!(!path.exists());
        let error = Telemetry::builder("suite").with_addresses([&*address, "systemd"]).start().unwrap_err();
        assert!(error.to_string().contains("LISTEN_FDS"), "{error}");
        assert!(!path.exists());
    }

    /// A server's certificate and its key, in files, and the part of a web configuration that names them.
    fn tls(dir: &Path) -> (PathBuf, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        let (certificate_file, key_file) = (dir.join("server.pem"), dir.join("server.key"));
        fs::write(&certificate_file, certificate.pem()).unwrap();
        fs::write(&key_file, key.serialize_pem()).unwrap();
        assert!(PrivateKeyDer::from_pem_file(&key_file).is_ok());
        (certificate_file, "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n".to_owned())
    }

    fn connect_tls(address: SocketAddr, authority: &Path, alpn: &[u8]) -> StreamOwned<ClientConnection, TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        let name = ServerName::try_from("localhost").unwrap();
        StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), connect(address))
    }

    type Tls = StreamOwned<ClientConnection, TcpStream>;

    /// A connection of HTTP/2 on which `/` has been asked for, of whose body the peer takes so many bytes.
    fn http2(address: SocketAddr, authority: &Path, window: u8) -> Tls {
        let mut stream = connect_tls(address, authority, b"h2");
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        // SETTINGS_INITIAL_WINDOW_SIZE.
        stream.write_all(&[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, window, 0]).unwrap();
        ask_http2(&mut stream, 1);
        stream
    }

    /// Asks for `/` on this stream, and reads the head of the answer.
    fn ask_http2(stream: &mut Tls, number: u8) {
        stream.write_all(&[0, 0, 14, 1, 5, 0, 0, 0, number]).unwrap();
        stream.write_all(&[0x82, 0x84, 0x87, 0x41, 9]).unwrap();
        stream.write_all(b"localhost").unwrap();
        loop {
            let mut frame = [0; 9];
            stream.read_exact(&mut frame).unwrap();
            let mut rest = vec![0; u32::from_be_bytes([0, frame[0], frame[1], frame[2]]) as usize];
            stream.read_exact(&mut rest).unwrap();
            if (frame[3], frame[8]) == (1, number) {
                return;
            }
        }
    }

    #[test]
    fn who_is_refused_does_not_keep_its_place_by_not_reading_why() {
        let dir = tempfile::tempdir().unwrap();
        let (authority, tls) = tls(dir.path());
        let config = written(dir.path(), &format!("{tls}{}", users()));
        let hour = Duration::from_secs(3600);
        let limits = EndpointLimits { max_connections: 2, scrape_timeout: hour, ..EndpointLimits::default() };
        let telemetry = builder().with_web_config(config).with_limits(limits).start().unwrap();
        let address = telemetry.local_addr().unwrap();
        let _strangers = [http2(address, &authority, 0), http2(address, &authority, 0)];
        let mut stream = connect_tls(address, &authority, b"http/1.1");
        // With TLS every host is answered for: nobody has its certificate.
        write!(stream, "GET /livez HTTP/1.1\r\nHost: any.example\r\nAuthorization: {DAVE}\r\n\r\n").unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
    }

    #[test]
    fn a_handshake_that_does_not_come_to_its_end_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let (authority, tls) = tls(dir.path());
        let limits = EndpointLimits { head_timeout: SOON, ..EndpointLimits::default() };
        let telemetry = builder().with_web_config(written(dir.path(), &tls)).with_limits(limits).start().unwrap();
        let mut silent = connect(telemetry.local_addr().unwrap());
        let mut half = connect(telemetry.local_addr().unwrap());
        // The begin of a record that is said to have 512 bytes.
        half.write_all(&[22, 3, 1, 2, 0, 1]).unwrap();
        assert!(is_closed(&mut silent) && is_closed(&mut half));
        wait_until("the one that began is counted", || refused(&telemetry, "head_timeout") == 1.0);

        let telemetry = builder().with_web_config(dir.path().join("web-config.yml")).start().unwrap();
        let mut half = connect(telemetry.local_addr().unwrap());
        half.write_all(&[22, 3, 1, 2, 0, 1]).unwrap();
        // Who comes later is accepted later.
        let mut whole = connect_tls(telemetry.local_addr().unwrap(), &authority, b"http/1.1");
        whole.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        whole.read_exact(&mut [0; 12]).unwrap();
        telemetry.shutdown(DEADLINE / 2).unwrap();
        assert!(is_closed(&mut half));
    }
    #[test]
    fn an_answer_is_given_up_whatever_keeps_it_from_being_taken() {
        let dir = tempfile::tempdir().unwrap();
        let (authority, tls) = tls(dir.path());
        let config = written(dir.path(), &tls);
        let start = |limits| builder().with_web_config(&config).with_limits(limits).start().unwrap();

        let telemetry = start(EndpointLimits { answer_timeout: SOON, ..EndpointLimits::default() });
        let mut deaf = http2(telemetry.local_addr().unwrap(), &authority, 0);
        let _ = deaf.read_to_end(&mut Vec::new());
        wait_until("it is counted", || refused(&telemetry, "answer_timeout") == 1.0);

        let telemetry = start(EndpointLimits { write_timeout: SOON, ..EndpointLimits::default() });
        fill(&telemetry);
        let mut full = connect_tls(telemetry.local_addr().unwrap(), &authority, b"http/1.1");
        full.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        wait_until("it is counted", || refused(&telemetry, "write_timeout") == 1.0);
    }

    #[test]
    fn what_http2_says_between_two_requests_is_no_head_that_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let (authority, tls) = tls(dir.path());
        let limits = EndpointLimits { head_timeout: SOON, ..EndpointLimits::default() };
        let telemetry = builder().with_web_config(written(dir.path(), &tls)).with_limits(limits).start().unwrap();
        let mut stream = http2(telemetry.local_addr().unwrap(), &authority, 255);
        // PING.
        stream.write_all(&[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
        thread::sleep(2 * SOON);
        ask_http2(&mut stream, 3);
        assert_eq!(refused(&telemetry, "head_timeout"), 0.0);
    }

    #[test]
    fn who_speaks_http2_is_told_how_much_may_be_asked_for_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let (authority, tls) = tls(dir.path());
        let telemetry = builder().with_web_config(written(dir.path(), &tls)).start().unwrap();
        let mut stream = connect_tls(telemetry.local_addr().unwrap(), &authority, b"h2");
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
        let mut frame = [0; 9];
        stream.read_exact(&mut frame).unwrap();
        let mut settings = vec![0; usize::from(frame[2])];
        stream.read_exact(&mut settings).unwrap();
        // SETTINGS_MAX_CONCURRENT_STREAMS and SETTINGS_MAX_HEADER_LIST_SIZE.
        for expected in [[0, 3, 0, 0, 0, 32], [0, 6, 0, 0, 0x80, 0]] {
            assert!(settings.chunks(6).any(|setting| setting == expected), "{expected:?} in {settings:?}");
        }
    }

    #[test]
    fn a_handshake_that_fails_is_counted_and_a_file_that_becomes_wrong_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let (authority, tls) = tls(dir.path());
        let config = written(dir.path(), &tls);
        let telemetry = builder().with_web_config(&config).start().unwrap();
        let address = telemetry.local_addr().unwrap();
        let mut plain = connect(address);
        plain.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        assert!(is_closed(&mut plain));
        wait_until("it is counted", || refused(&telemetry, "handshake") == 1.0);

        let valid = |expected| {
            let mut stream = connect_tls(address, &authority, b"http/1.1");
            write!(stream, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            stream.read_exact(&mut [0; 12]).unwrap();
            find(&telemetry.scrape().unwrap(), "barograph_scrape_web_config_valid") == Some(expected)
        };
        assert!(valid(1.0));
        fs::write(&config, "nonsense: 1\n").unwrap();
        wait_until("it is wrong", || valid(0.0));
        fs::write(&config, &tls).unwrap();
        wait_until("it is right again", || valid(1.0));
    }
}

#[test]
fn an_endpoint_that_answers_everybody_says_so_and_what_else_there_is() {
    keep_logs();
    let warnings = |telemetry: &Telemetry| -> Vec<String> {
        logged(&format!("at {} answers whoever reaches it", telemetry.local_addr().unwrap()))
    };
    let open = Telemetry::builder("suite").with_address("0.0.0.0:0").start().unwrap();
    let said = warnings(&open);
    assert!(said.len() == 1 && said[0].starts_with("WARN "), "{said:?}");
    assert!(said[0].contains("`with_web_config`") && said[0].contains("`with_address`"), "{said:?}");
    assert!(warnings(&builder().start().unwrap()).is_empty());

    #[cfg(feature = "web-config")]
    {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("tokens"), "0123456789abcdef\n").unwrap();
        let config = dir.path().join("web-config.yml");
        std::fs::write(&config, "bearer_token_file: tokens\n").unwrap();
        let asks = Telemetry::builder("suite").with_address("0.0.0.0:0").with_web_config(config).start().unwrap();
        assert!(warnings(&asks).is_empty());
    }
}
