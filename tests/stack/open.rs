//! The endpoint as it stands in the open: a real Prometheus with TLS and every kind of credentials, curl, systemd's sockets,
//! and processes that run out of descriptors, are killed, or have their certificate replaced.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use barograph::Telemetry;
use barograph::config::EndpointLimits;
use serde_json::json;

use crate::UP;
use crate::otlp::certificates::Certificates;
use crate::platform::binary;
use crate::process::{Server, poll, run};
use crate::prometheus::{self, Job, Prometheus};
use crate::request::get;

const PASSWORD: &str = "dave123";

/// A web configuration file, and the endpoint that it is for.
fn endpoint(dir: &Path, config: &str) -> Telemetry {
    fs::create_dir_all(dir).unwrap();
    let path = dir.join("web-config.yml");
    fs::write(&path, config).unwrap();
    let telemetry = Telemetry::builder("open").with_address("127.0.0.1:0").with_web_config(path).start().unwrap();
    telemetry.meter("m").u64_counter("orders").build().add(3, &[]);
    telemetry
}

fn server(certificates: &Certificates) -> String {
    let Certificates { server, server_key, .. } = certificates;
    format!("tls_server_config:\n  cert_file: {}\n  key_file: {}\n", server.display(), server_key.display())
}

fn users() -> String {
    let hash = bcrypt::hash_with_result(PASSWORD, 4).unwrap().format_for_version(bcrypt::Version::TwoY);
    format!("basic_auth_users:\n  dave: {hash}\n")
}

#[test]
fn a_prometheus_scrapes_with_credentials_and_is_refused_without() {
    let Some(bin) = prometheus::require() else { return };
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let certificates = Certificates::write(&at("certificates"));
    let token = "0123456789abcdef0123456789abcdef";
    fs::write(at("tokens"), format!("{token}\n")).unwrap();

    let tls = server(&certificates);
    let client_ca = format!(
        "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: {}\n",
        certificates.authority.display()
    );
    let basic = endpoint(&at("basic"), &format!("{tls}{}", users()));
    let mutual = endpoint(&at("mutual"), &format!("{tls}{client_ca}"));
    let bearer = endpoint(&at("bearer"), &format!("bearer_token_file: {}\n", at("tokens").display()));

    let ca = certificates.authority.display().to_string();
    let trusting = json!({ "ca_file": ca });
    let client = json!({
        "ca_file": ca,
        "cert_file": certificates.client.display().to_string(),
        "key_file": certificates.client_key.display().to_string(),
    });
    let https = |name: &str, telemetry: &Telemetry, tls: &serde_json::Value| {
        let job = Job::new(name, telemetry.local_addr().unwrap());
        job.with("scheme", json!("https")).with("tls_config", tls.clone())
    };
    let password = json!({ "username": "dave", "password": PASSWORD });
    let wrong = json!({ "username": "dave", "password": "dave124" });
    let authorization = |token: &str| json!({ "type": "Bearer", "credentials": token });
    let bearer_job = |name: &str| Job::new(name, bearer.local_addr().unwrap());
    let (good, bad): (Vec<Job>, Vec<(Job, &str)>) = (
        vec![
            https("basic", &basic, &trusting).with("basic_auth", password.clone()),
            https("basic-http1", &basic, &trusting)
                .with("basic_auth", password.clone())
                .with("enable_http2", json!(false)),
            https("mutual", &mutual, &client),
            bearer_job("bearer").with("authorization", authorization(token)),
        ],
        vec![
            (https("basic-nobody", &basic, &trusting), "401"),
            (https("basic-wrong", &basic, &trusting).with("basic_auth", wrong), "401"),
            (https("basic-distrust", &basic, &json!({})).with("basic_auth", password), "certificate"),
            (Job::new("basic-plain", basic.local_addr().unwrap()), ""),
            (https("mutual-nobody", &mutual, &trusting), "certificate"),
            (bearer_job("bearer-nobody"), "401"),
            (bearer_job("bearer-wrong").with("authorization", authorization("0123456789abcdef")), "401"),
        ],
    );
    let jobs: Vec<Job> = good.iter().chain(bad.iter().map(|(job, _)| job)).cloned().collect();
    let prometheus = Prometheus::start_with(&bin, &at("prometheus"), &jobs, "500ms", &[]);
    for job in &good {
        prometheus.wait_until_up(job.name(), UP);
        let query = format!("orders_total{{job=\"{}\"}}", job.name());
        prometheus.wait_for(&query, UP, |found| found.len() == 1 && found[0].value == 3.0);
    }
    for (job, why) in &bad {
        poll(UP, Duration::from_millis(200), || {
            let health = prometheus.target_health();
            let target = health.iter().find(|(name, ..)| name == job.name());
            match target {
                Some((_, health, error)) if health == "down" && error.contains(why) => Ok(()),
                other => Err(format!("{other:?}, expected an error with {why:?}")),
            }
        });
        assert!(prometheus.query(&format!("orders_total{{job=\"{}\"}}", job.name())).is_empty());
    }
}

fn curl(arguments: &[&str]) -> (Option<i32>, String) {
    run(Command::new("curl").args(["--silent", "--show-error", "--max-time", "10", "--include"]).args(arguments), b"")
}

#[test]
fn curl_is_answered_as_people_expect() {
    if run(Command::new("curl").arg("--version"), b"").0 != Some(0) {
        crate::process::skip("there is no curl", "apt-get install curl");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let certificates = Certificates::write(&directory.path().join("certificates"));
    let ca = certificates.authority.display().to_string();
    let headers = "http_server_config:\n  headers:\n    X-Content-Type-Options: nosniff\n";
    let config = format!("{}{headers}{}", server(&certificates), users());
    let telemetry = endpoint(&directory.path().join("tls"), &config);
    let url = telemetry.local_urls().next().unwrap().to_owned();
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");

    let (code, answer) = curl(&["--cacert", &ca, "--user", "dave:dave123", &url]);
    assert_eq!(code, Some(0), "{answer}");
    assert!(answer.starts_with("HTTP/2 200") && answer.contains("orders_total{otel_scope_name=\"m\"} 3"), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("x-content-type-options: nosniff"), "{answer}");
    let (_, answer) = curl(&["--cacert", &ca, "--http1.1", "--user", "dave:dave123", "--compressed", &url]);
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("orders_total"), "{answer}");
    let (_, answer) = curl(&["--cacert", &ca, &url]);
    assert!(answer.starts_with("HTTP/2 401"), "{answer}");
    // What has a browser ask its user.
    assert!(answer.to_ascii_lowercase().contains("www-authenticate: basic"), "{answer}");
    let (code, answer) = curl(&["--user", "dave:dave123", &url]);
    assert_eq!(code, Some(60), "the certificate is nobody's: {answer}");
    let (_, answer) = curl(&[&url.replace("https:", "http:")]);
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("ask it by https"), "{answer}");

    let socket = directory.path().join("metrics.sock");
    let telemetry = Telemetry::builder("open").with_address(format!("unix:{}", socket.display())).start().unwrap();
    let (_, answer) = curl(&["--unix-socket", &socket.display().to_string(), "http://any.host/metrics"]);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(telemetry);
}

/// The platform with these arguments; ends when what this returns is dropped.
fn platform(log: PathBuf, command: &mut Command) -> (Server, SocketAddr) {
    let mut server = Server::spawn(command, log);
    let address = server.wait_until_ready(|log| {
        let url = log.lines().find_map(|line| Some(line.split_once("curl http://")?.1));
        let address =
            url.and_then(|url| url.split('/').next()?.parse().ok()).ok_or("it has not said where it listens")?;
        match get(address, "/livez", "") {
            Ok(response) if response.status == 200 => Ok(address),
            other => Err(format!("/livez: {other:?}")),
        }
    });
    (server, address)
}

#[test]
fn a_socket_that_systemd_would_hand_over_is_served() {
    let directory = tempfile::tempdir().unwrap();
    let socket = socket2::Socket::from(TcpListener::bind("127.0.0.1:0").unwrap());
    // What is handed over is open in the program that is started.
    socket.set_cloexec(false).unwrap();
    let expected = socket.local_addr().unwrap().as_socket().unwrap();
    let mut command = Command::new(binary());
    command
        .args(["--listen", "systemd", "--for", "60s"])
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDS_FIRST_FD", socket.as_raw_fd().to_string());
    let (_server, address) = platform(directory.path().join("log"), &mut command);
    assert_eq!(address, expected);
    assert_eq!(get(address, "/metrics", "").unwrap().status, 200);
}

#[test]
fn a_process_that_was_killed_starts_again_on_its_port_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let start = |listen: &str, log: &str| {
        platform(directory.path().join(log), Command::new(binary()).args(["--listen", listen, "--for", "60s"]))
    };
    let (first, address) = start("127.0.0.1:0", "first");
    // Connections that are open when it dies.
    let open: Vec<_> = (0..10).map(|_| TcpStream::connect(address).unwrap()).collect();
    assert_eq!(get(address, "/metrics", "").unwrap().status, 200);
    drop(first);
    let (_second, again) = start(&address.to_string(), "second");
    assert_eq!(again, address);
    assert_eq!(get(address, "/metrics", "").unwrap().status, 200);
    drop(open);
}

#[test]
fn an_endpoint_that_is_out_of_descriptors_answers_again_once_there_are_some() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    // About 30 are the platform's own.
    command.args(["-c", "ulimit -n 64 && exec \"$0\" \"$@\""]).arg(binary());
    command.args(["--listen", "127.0.0.1:0", "--for", "120s"]);
    let (server, address) = platform(directory.path().join("log"), &mut command);
    let connections: Vec<_> = (0..200).filter_map(|_| TcpStream::connect(address).ok()).collect();
    assert!(connections.len() > 100);
    // While they hold what there is, one that asks gets a place nevertheless.
    poll(Duration::from_secs(30), Duration::from_millis(200), || match get(address, "/livez", "") {
        Ok(response) if response.status == 200 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    drop(connections);
    poll(Duration::from_secs(30), Duration::from_millis(200), || {
        let answer = get(address, "/metrics", "").map_err(|error| error.to_string())?;
        let page = answer.text();
        let refused = |reason: &str| {
            page.lines().any(|line| {
                line.starts_with("barograph_scrape_refused_total{") && line.contains(reason) && !line.ends_with(" 0")
            })
        };
        if refused("\"exhausted\"") { Ok(()) } else { Err(page.to_owned()) }
    });
    drop(server);
}

#[test]
fn a_certificate_is_replaced_while_scrapers_are_at_work() {
    let directory = tempfile::tempdir().unwrap();
    let old = Certificates::write(&directory.path().join("old"));
    let new = Certificates::write(&directory.path().join("new"));
    let live = directory.path().join("live");
    fs::create_dir(&live).unwrap();
    let (certificate, key) = (live.join("server.pem"), live.join("server.key"));
    fs::copy(&old.server, &certificate).unwrap();
    fs::copy(&old.server_key, &key).unwrap();
    let tls = format!("tls_server_config:\n  cert_file: {}\n  key_file: {}\n", certificate.display(), key.display());
    let telemetry = endpoint(&directory.path().join("config"), &tls);
    let address = telemetry.local_addr().unwrap();

    let stop = Arc::new(AtomicBool::new(false));
    // Each keeps its connection for as long as the test lasts, and never misses an answer.
    let scrapers: Vec<_> = (0..4)
        .map(|_| {
            let (authority, stop) = (old.authority.clone(), Arc::clone(&stop));
            thread::spawn(move || {
                let mut stream = tls::connect(address, &authority).unwrap();
                let mut scrapes = 0;
                while !stop.load(Ordering::Relaxed) {
                    tls::livez(&mut stream).unwrap();
                    scrapes += 1;
                }
                scrapes
            })
        })
        .collect();
    assert!(tls::connect(address, &new.authority).is_err(), "nobody has the new one yet");
    // The certificate alone does not fit the key: until both are there, the old ones go on.
    fs::copy(&new.server, &certificate).unwrap();
    thread::sleep(Duration::from_millis(1_500));
    assert!(tls::connect(address, &old.authority).is_ok());
    fs::copy(&new.server_key, &key).unwrap();
    let begun = Instant::now();
    while tls::connect(address, &new.authority).is_err() {
        assert!(begun.elapsed() < UP, "the new certificate is not served");
        thread::sleep(Duration::from_millis(50));
    }
    assert!(tls::connect(address, &old.authority).is_err(), "the old one is gone");
    stop.store(true, Ordering::Relaxed);
    for scraper in scrapers {
        assert!(scraper.join().unwrap() > 10);
    }
}

/// As much of TLS as a test needs, without a runtime.
mod tls {
    use super::*;

    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

    pub(super) type Stream = StreamOwned<ClientConnection, TcpStream>;

    /// A connection on which one question has been answered.
    pub(super) fn connect(address: SocketAddr, authority: &Path) -> std::io::Result<Stream> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut stream = StreamOwned::new(connection, stream);
        livez(&mut stream)?;
        Ok(stream)
    }

    pub(super) fn livez(stream: &mut Stream) -> std::io::Result<()> {
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nok\n") {
            let mut bytes = [0; 512];
            match stream.read(&mut bytes)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                read => answer.extend_from_slice(&bytes[..read]),
            }
        }
        Ok(())
    }
}

#[test]
fn a_stream_of_silent_connections_does_not_keep_a_prometheus_out() {
    let Some(bin) = prometheus::require() else { return };
    let directory = tempfile::tempdir().unwrap();
    let limits = EndpointLimits { max_connections: 16, ..EndpointLimits::default() };
    let telemetry = Telemetry::builder("open").with_address("127.0.0.1:0").with_limits(limits).start().unwrap();
    let address = telemetry.local_addr().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let strangers: Vec<_> = (0..2)
        .map(|_| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let mut held = std::collections::VecDeque::new();
                for _ in 0..2_000 {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    held.extend(TcpStream::connect(address).ok());
                    if held.len() > 100 {
                        held.pop_front();
                    }
                    thread::sleep(Duration::from_millis(20));
                }
            })
        })
        .collect();
    let prometheus = Prometheus::start(&bin, directory.path(), &[("open", address)], "1s");
    prometheus.wait_until_up("open", UP);
    prometheus
        .wait_for("count_over_time(up{job=\"open\"}[1m])", UP, |found| found.first().is_some_and(|s| s.value >= 5.0));
    let missed = prometheus.query("count_over_time(up{job=\"open\"}[1m]) - sum_over_time(up{job=\"open\"}[1m])");
    assert_eq!(missed[0].value, 0.0, "scrapes were missed");
    stop.store(true, Ordering::Relaxed);
    strangers.into_iter().for_each(|stranger| stranger.join().unwrap());
}
