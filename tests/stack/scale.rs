//! deploy/scale: the programs that its files are for read them, and a small fleet arrives by both of its ways.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use barograph::Telemetry;
use barograph::config::Configuration;
use barograph::opentelemetry::KeyValue;
use serde_json::json;

use crate::otlp::victoria::{Victoria, Vmagent};
use crate::process::{self, Server, run};
use crate::prometheus;
use crate::query::Sample;
use crate::{Series, UP};

const FLEET: usize = 5;

/// The service's name, which is the job of what is pushed, and the scraped job of deploy/scale/vmagent.yml.
const JOB: &str = "platform";

/// The series of `record`: two counters, a gauge, and a histogram of two bounds.
const SERIES: usize = 2 + 1 + 5;

fn require() -> Option<PathBuf> {
    process::require(&["victoria-metrics", "vmagent", "vmalert", "otelcol"], "tests/stack/install-otlp")
}

/// A file of deploy/.
fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

fn committed(name: &str) -> String {
    fs::read_to_string(deploy(name)).unwrap()
}

/// The flags of a service in deploy/scale/compose.yaml, with the files of the container where they are here, without the
/// one that says where its data are.
fn flags(service: &str) -> Vec<String> {
    let compose = committed("scale/compose.yaml");
    let (_, rest) = compose.split_once(&format!("\n  {service}:\n")).unwrap();
    let flags = rest
        .split("\n\n")
        .next()
        .unwrap()
        .lines()
        .filter_map(|line| line.strip_prefix("      - "))
        .filter(|flag| flag.starts_with('-'));
    let here = |flag: &str| {
        flag.replace("/etc/victoria/", &format!("{}/", deploy("scale").display()))
            .replace("/etc/vmalert/rules/", &format!("{}/", deploy("prometheus/rules").display()))
    };
    let flags: Vec<String> = flags.filter(|flag| !flag.starts_with("-storageDataPath")).map(here).collect();
    assert!(!flags.is_empty(), "deploy/scale/compose.yaml: {service} has no flags");
    flags
}

/// The flags of the vmagent in deploy/scale/README.md, as they stand there: for who is in the root of the repository.
fn flags_of_vmagent() -> Vec<String> {
    let readme = committed("scale/README.md");
    let (_, rest) = readme.split_once("\nvmagent ").unwrap();
    let command = rest.split("\n```").next().unwrap();
    let flags: Vec<String> =
        command.split_whitespace().filter(|word| word.starts_with('-')).map(str::to_owned).collect();
    assert!(flags.len() > 3, "deploy/scale/README.md: {command}");
    flags
}

#[track_caller]
fn accepts(command: &mut Command) {
    let (code, output) = run(command, b"");
    assert_eq!(code, Some(0), "{command:?}: {output}");
}

#[test]
fn every_file_of_deploy_scale_is_read_by_the_program_that_it_is_for() {
    let (Some(bin), Some(prometheus_bin)) = (require(), prometheus::require()) else { return };
    let directory = tempfile::tempdir().unwrap();
    let at = |flag: &str| format!("{flag}={}", directory.path().join("data").display());
    accepts(
        Command::new(bin.join("otelcol")).arg("validate").arg("--config").arg(deploy("scale/collector-gateway.yaml")),
    );
    // With every flag: a program refuses one that it does not know.
    accepts(
        Command::new(bin.join("victoria-metrics"))
            .args(flags("victoria-metrics"))
            .args(["-dryRun", &at("-storageDataPath")]),
    );
    let mut vmagent = Command::new(bin.join("vmagent"));
    vmagent.current_dir(env!("CARGO_MANIFEST_DIR")).args(flags_of_vmagent());
    let relabel = format!("-remoteWrite.relabelConfig={}", deploy("scale/relabel.yml").display());
    accepts(vmagent.args(["-dryRun", &relabel]));
    accepts(Command::new(bin.join("vmalert")).args(flags("vmalert")).arg("-dryRun"));
    let promtool =
        |config: &Path| accepts(Command::new(prometheus_bin.join("promtool")).args(["check", "config"]).arg(config));
    promtool(&deploy("scale/vmagent.yml"));
    // Our collector has no Prometheus receiver. What that one is told is a prometheus.yml.
    let receiver = directory.path().join("receiver.yml");
    fs::write(&receiver, scraped_by_the_collector()).unwrap();
    promtool(&receiver);
}

/// The `prometheus.yml` within deploy/scale/collector-scrape.yaml.
fn scraped_by_the_collector() -> String {
    let file = committed("scale/collector-scrape.yaml");
    let (_, block) = file.split_once("\n    config:\n").unwrap();
    let lines = block.lines().map_while(|line| line.strip_prefix("      "));
    let text = lines.map(|line| format!("{line}\n")).collect::<String>();
    assert!(text.contains("scrape_configs:"), "{text}");
    text.replace("${env:SCRAPE_NAME:-scraped}", "scraped").replace("$$", "$")
}

fn record(telemetry: &Telemetry, endpoint: usize) {
    let meter = telemetry.meter("fleet");
    let orders = meter.u64_counter("fleet.orders").build();
    orders.add(1 + endpoint as u64, &[KeyValue::new("status", "paid")]);
    orders.add(100, &[KeyValue::new("status", "refused")]);
    meter.f64_gauge("fleet.load").build().record(0.5, &[]);
    let waits = meter.f64_histogram("fleet.wait").with_unit("s").with_boundaries(vec![0.1, 1.0]).build();
    waits.record(0.5, &[]);
}

/// Everything of the fleet that came: each endpoint's series, and no other.
#[track_caller]
fn wait_for_all(victoria: &Victoria) -> Vec<Sample> {
    let samples = victoria.wait_for("{__name__=~\"fleet_.*\"}", UP, |samples| samples.len() == FLEET * SERIES);
    let mut orders: Vec<f64> = samples
        .iter()
        .filter(|sample| sample.labels.get("status").is_some_and(|it| it == "paid"))
        .map(|sample| sample.value)
        .collect();
    orders.sort_by(f64::total_cmp);
    assert_eq!(orders, [1.0, 2.0, 3.0, 4.0, 5.0]);
    samples
}

/// A series without what tells the endpoint.
fn of_any(sample: &Sample) -> Series {
    sample
        .labels
        .iter()
        .filter(|(name, _)| *name != "instance")
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn scraped_fleet(bin: &Path, dir: &Path) -> Vec<Sample> {
    let fleet: Vec<Telemetry> =
        (0..FLEET).map(|_| Telemetry::builder(JOB).with_address("127.0.0.1:0").start().unwrap()).collect();
    fleet.iter().enumerate().for_each(|(endpoint, telemetry)| record(telemetry, endpoint));
    let victoria = Victoria::start_with(bin, &dir.join("victoria"), &flags("victoria-metrics"));
    let addresses: Vec<SocketAddr> = fleet.iter().map(|telemetry| telemetry.local_addr().unwrap()).collect();
    fs::create_dir(dir.join("targets")).unwrap();
    fs::write(dir.join("targets/fleet.yml"), json!([{ "targets": addresses }]).to_string()).unwrap();
    fs::copy(deploy("scale/vmagent.yml"), dir.join("vmagent.yml")).unwrap();
    let config = format!("-promscrape.config={}", dir.join("vmagent.yml").display());
    let url = format!("http://{}/api/v1/write", victoria.address());
    let _vmagent = Vmagent::start_with(bin, &dir.join("vmagent"), &url, &[config]);
    let samples = wait_for_all(&victoria);
    let up = victoria.wait_for("up == 1", UP, |samples| samples.len() == FLEET);
    let mut instances: Vec<&str> = up.iter().map(|sample| sample.labels["instance"].as_str()).collect();
    let mut addresses: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
    instances.sort_unstable();
    addresses.sort_unstable();
    assert_eq!(instances, addresses);
    samples
}

fn pushing_fleet(bin: &Path, dir: &Path) -> Vec<Sample> {
    let victoria = Victoria::start_with(bin, &dir.join("victoria"), &flags("victoria-metrics"));
    let mut gateway = Command::new(bin.join("otelcol"));
    gateway.arg("--config").arg(deploy("scale/collector-gateway.yaml")).envs([
        ("GATEWAY_GRPC", "127.0.0.1:0"),
        ("GATEWAY_HTTP", "127.0.0.1:0"),
        ("GATEWAY_METRICS_HOST", "127.0.0.1"),
        ("GATEWAY_METRICS_PORT", "0"),
        ("VICTORIAMETRICS_URL", &format!("http://{}", victoria.address())),
    ]);
    let mut gateway = Server::spawn(&mut gateway, dir.join("otelcol.log"));
    let address = gateway.wait_until_ready(|log| {
        let line = log
            .lines()
            .find(|line| line.contains("Starting HTTP server"))
            .filter(|_| log.contains("Everything is ready"));
        let address =
            line.and_then(|line| line.split_once(r#""endpoint": ""#)?.1.split('"').next()?.parse::<SocketAddr>().ok());
        address.ok_or_else(|| "otelcol has not said where it listens".to_owned())
    });
    // The environment belongs to all tests, so what its variable would say is written into the file.
    let replica = dir.join("replica.yaml");
    let gateway_url = format!("http://{address}");
    let text =
        committed("scale/replica.yaml").replace("${OTEL_EXPORTER_OTLP_ENDPOINT:-http://gateway:4318}", &gateway_url);
    assert!(text.contains(&gateway_url), "{text}");
    fs::write(&replica, text).unwrap();
    let fleet: Vec<Telemetry> = (0..FLEET)
        .map(|endpoint| {
            let telemetry = Telemetry::from_config(Configuration::from_file(&replica).unwrap()).start().unwrap();
            record(&telemetry, endpoint);
            telemetry.force_flush(UP).unwrap();
            telemetry
        })
        .collect();
    let samples = wait_for_all(&victoria);
    let instances: BTreeSet<&str> = samples.iter().map(|sample| sample.labels["instance"].as_str()).collect();
    assert_eq!(instances.len(), FLEET, "{instances:?}");
    drop(fleet);
    samples
}

#[test]
fn a_fleet_arrives_whole_and_as_the_same_series_whether_vmagent_scrapes_it_or_it_pushes_through_the_gateway() {
    let Some(bin) = require() else { return };
    let directory = tempfile::tempdir().unwrap();
    let by = |way: &str| {
        let dir = directory.path().join(way);
        fs::create_dir(&dir).unwrap();
        dir
    };
    let sorted = |samples: Vec<Sample>| {
        let mut series: Vec<Series> = samples.iter().map(of_any).collect();
        series.sort();
        series
    };
    let scraped = sorted(scraped_fleet(&bin, &by("scraped")));
    let pushed = sorted(pushing_fleet(&bin, &by("pushed")));
    assert_eq!(scraped, pushed);
    assert_eq!(scraped[0]["job"], JOB);
    let keys: Vec<&str> = scraped[0].keys().map(String::as_str).collect();
    assert_eq!(keys, ["__name__", "job", "otel_scope_name"]);
}
