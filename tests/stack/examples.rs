//! The examples that serve: each started as its own page says, asked, and stopped.

use std::env;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::process::Server;
use crate::request::get;

/// Cargo builds the examples before it runs tests, beside them.
fn start(name: &str, directory: &Path) -> (Server, SocketAddr) {
    let test = env::current_exe().unwrap();
    let binary = test.parent().and_then(Path::parent).unwrap().join("examples").join(name);
    assert!(binary.is_file(), "{} is missing: `cargo build --example {name}` makes it", binary.display());
    let mut server = Server::spawn(Command::new(binary).arg("127.0.0.1:0"), directory.join(name));
    let address = server.wait_until_ready(|log| {
        let address = log.lines().find_map(|line| line.strip_prefix("curl http://")?.strip_suffix("/hello"));
        address.and_then(|address| address.parse().ok()).ok_or_else(|| format!("no address in {log}"))
    });
    (server, address)
}

#[test]
fn an_application_of_axum_hyper_or_actix_serves_its_own_routes_and_the_endpoint_from_one_socket() {
    let directory = tempfile::tempdir().unwrap();
    for (name, below) in [("actix", ""), ("axum", "/telemetry"), ("hyper", "")] {
        let (_server, address) = start(name, directory.path());
        let ask = |path: &str, headers: &str| {
            get(address, path, headers).unwrap_or_else(|error| panic!("{name}: {path}: {error}"))
        };
        assert_eq!(ask("/hello", "").text(), "hello\n", "{name}");
        let page = ask(&format!("{below}/metrics"), "Accept: text/plain;version=0.0.4\r\n");
        assert_eq!(page.status, 200, "{name}");
        assert!(page.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"), "{name}");
        assert!(
            page.text().contains("\nhello_requests_total{otel_scope_name=\"hello\"} 1\n"),
            "{name}: {}",
            page.text()
        );
        let packed = ask(&format!("{below}/metrics"), "Accept-Encoding: gzip, identity;q=0\r\n");
        assert_eq!(packed.header("content-encoding"), Some("gzip"), "{name}");
        let mut unpacked = String::new();
        flate2::read::MultiGzDecoder::new(packed.body.as_slice()).read_to_string(&mut unpacked).unwrap();
        // What the pipeline says about itself is more by one scrape.
        assert!(unpacked.contains("\nhello_requests_total{otel_scope_name=\"hello\"} 1\n"), "{name}: {unpacked}");
        assert_eq!(ask(&format!("{below}/livez"), "").text(), "ok\n", "{name}");
        assert_eq!(ask(&format!("{below}/nothing"), "").status, 404, "{name}");
    }
}
