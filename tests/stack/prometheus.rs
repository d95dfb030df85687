//! A real Prometheus for the end-to-end tests: found, started on a port of its own, asked, and stopped.
//!
//! ```ignore
//! let Some(bin) = prometheus::require() else { return };
//! let prometheus = Prometheus::start(&bin, &dir, &[("shop", endpoint.local_addr())], "200ms");
//! prometheus.wait_until_up("shop", Duration::from_secs(20));
//! assert_eq!(prometheus.query("orders_total")[0].value, 1.0);
//! ```
//!
//! `tests/stack/install` puts Prometheus and promtool in place. Whatever goes wrong here panics, as the end of the test
//! that asked; whatever waits has a deadline. Only loopback is used.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test helper reports to the person who runs the tests, and fails by panicking"
)]

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::process::{self, Server, poll, run};
pub(crate) use crate::query::Sample;
use crate::query::{QUERY_POLL, Queries, text};
use crate::request::{Response, get, post};

/// The directory that holds Prometheus and promtool; without one says that the test is skipped.
///
/// # Panics
///
/// Without one, with `CI=true`.
pub(crate) fn require() -> Option<PathBuf> {
    process::require(&["prometheus", "promtool"], "tests/stack/install")
}

/// What Prometheus scrapes under one name, and how it asks for it.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    name: String,
    target: SocketAddr,
    settings: Map<String, Value>,
}

impl Job {
    pub(crate) fn new(name: impl Into<String>, target: SocketAddr) -> Self {
        Self { name: name.into(), target, settings: Map::new() }
    }

    /// Asks for this format only: `PrometheusProto`, `OpenMetricsText1.0.0`, `PrometheusText0.0.4` and their like.
    pub(crate) fn asking_for(self, protocol: &str) -> Self {
        self.with("scrape_protocols", json!([protocol]))
    }

    /// Asks for names escaped so: `allow-utf-8`, `underscores`, `dots` or `values`.
    pub(crate) fn escaping(self, scheme: &str) -> Self {
        self.with("metric_name_escaping_scheme", json!(scheme))
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// With this of a `scrape_config`'s settings.
    pub(crate) fn with(mut self, setting: &str, value: Value) -> Self {
        self.settings.insert(setting.to_owned(), value);
        self
    }
}

impl From<&(&str, SocketAddr)> for Job {
    fn from((name, target): &(&str, SocketAddr)) -> Self {
        Self::new(*name, *target)
    }
}

/// A running Prometheus. It ends when this is dropped, and a test that panics shows the end of its log.
#[must_use = "Prometheus ends when this is dropped"]
pub(crate) struct Prometheus {
    queries: Queries,
    config_path: PathBuf,
    _server: Server,
}

impl Prometheus {
    /// Starts Prometheus as it is by default: see [`start_with`](Self::start_with).
    #[track_caller]
    pub(crate) fn start(bin: &Path, dir: &Path, targets: &[(&str, SocketAddr)], scrape_interval: &str) -> Self {
        let jobs: Vec<Job> = targets.iter().map(Job::from).collect();
        Self::start_with(bin, dir, &jobs, scrape_interval, &[])
    }

    /// Starts Prometheus with these features, which scrapes each target as its job says, and waits until it answers.
    ///
    /// Its configuration, log and data go into `dir`. `scrape_interval` is a number with `ms`, `s` or `m`. The first
    /// scrape comes about 5 s after the start, however short the interval: Prometheus' target discovery is throttled.
    #[track_caller]
    pub(crate) fn start_with(bin: &Path, dir: &Path, jobs: &[Job], scrape_interval: &str, features: &[&str]) -> Self {
        let features: Vec<String> = features.iter().map(|feature| format!("--enable-feature={feature}")).collect();
        Self::launch(bin, dir, &configuration(jobs, scrape_interval), &features)
    }

    /// Starts Prometheus with these rules, a path or a pattern of some, which it evaluates every second and whose alerts it
    /// tells this Alertmanager. It scrapes every second, and takes what is written to [its URL](Self::write_url) too.
    #[track_caller]
    pub(crate) fn start_ruling(
        bin: &Path,
        dir: &Path,
        jobs: &[Job],
        rules: &Path,
        alertmanager: Option<SocketAddr>,
    ) -> Self {
        let mut configuration = configuration(jobs, "1s");
        configuration["global"]["evaluation_interval"] = json!("1s");
        configuration["rule_files"] = json!([rules]);
        let targets: Vec<String> = alertmanager.iter().map(ToString::to_string).collect();
        configuration["alerting"] = json!({ "alertmanagers": [{ "static_configs": [{ "targets": targets }] }] });
        // Alertmanager forgets an alert that it is not told again; by default that is a minute.
        let arguments = ["--rules.alert.resend-delay=1s", "--web.enable-remote-write-receiver"];
        Self::launch(bin, dir, &configuration, &arguments.map(str::to_owned))
    }

    /// Starts Prometheus without anything to scrape: it takes what is written to [its URL](Self::write_url), and can be
    /// told [what to scrape](Self::scrape_from_now) later.
    #[track_caller]
    pub(crate) fn start_receiving(bin: &Path, dir: &Path) -> Self {
        let arguments = ["--web.enable-remote-write-receiver", "--web.enable-lifecycle"];
        Self::launch(bin, dir, &configuration(&[], "1s"), &arguments.map(str::to_owned))
    }

    #[track_caller]
    fn launch(bin: &Path, dir: &Path, configuration: &Value, arguments: &[String]) -> Self {
        fs::create_dir_all(dir).expect("the directory for Prometheus can be made");
        let config_path = dir.join("prometheus.yml");
        write_configuration(&config_path, configuration);
        let mut command = Command::new(bin.join("prometheus"));
        command
            .arg("--config.file")
            .arg(&config_path)
            .arg("--storage.tsdb.path")
            .arg(dir.join("data"))
            // The system chooses a free port and Prometheus logs it. A port chosen here could be taken by then.
            .arg("--web.listen-address=127.0.0.1:0")
            .args(arguments);
        let mut server = Server::spawn(&mut command, dir.join("prometheus.log"));
        let address = server.wait_until_ready(|log| {
            let address = listening_address(log).ok_or("prometheus has not logged where it listens")?;
            match get(address, "/-/ready", "") {
                Ok(Response { status: 200, .. }) => Ok(address),
                Ok(Response { status, .. }) => Err(format!("/-/ready answered {status}")),
                Err(error) => Err(format!("/-/ready: {error}")),
            }
        });
        Self { queries: Queries { address }, config_path, _server: server }
    }

    /// Has a Prometheus that [receives](Self::start_receiving) scrape these as well. The first scrape comes about 5 s later.
    #[track_caller]
    pub(crate) fn scrape_from_now(&self, jobs: &[Job], scrape_interval: &str) {
        write_configuration(&self.config_path, &configuration(jobs, scrape_interval));
        match post(self.queries.address, "/-/reload", "", b"") {
            Ok(Response { status: 200, .. }) => {}
            Ok(response) => panic!("/-/reload answered {}: {}", response.status, response.text()),
            Err(error) => panic!("/-/reload: {error}"),
        }
    }

    /// Where others write samples to, if it [receives](Self::start_receiving) them.
    pub(crate) fn write_url(&self) -> String {
        format!("http://{}/api/v1/write", self.queries.address)
    }

    /// Job, health (`up`, `down`, `unknown`) and last scrape error of every target. Empty until discovery has run.
    #[track_caller]
    pub(crate) fn target_health(&self) -> Vec<(String, String, String)> {
        let data = self.data("/api/v1/targets?state=active");
        let targets = data["activeTargets"].as_array().expect("activeTargets is a list");
        targets
            .iter()
            .map(|target| (text(&target["labels"]["job"]), text(&target["health"]), text(&target["lastError"])))
            .collect()
    }

    /// Waits until the job has targets and the last scrape of each has worked.
    #[track_caller]
    pub(crate) fn wait_until_up(&self, job: &str, deadline: Duration) {
        poll(deadline, QUERY_POLL, || {
            let health = self.target_health();
            let mut of_job = health.iter().filter(|(name, ..)| name == job).peekable();
            let is_up = of_job.peek().is_some() && of_job.all(|(_, health, _)| health == "up");
            if is_up { Ok(()) } else { Err(format!("job {job} is not up; targets: {health:?}")) }
        });
    }
}

impl Deref for Prometheus {
    type Target = Queries;

    fn deref(&self) -> &Queries {
        &self.queries
    }
}

/// Runs `promtool check metrics` over an exposition in Prometheus' text format; the error is its exit code and output.
///
/// promtool reads neither OpenMetrics nor UTF-8 names, and ends with 1 for what it cannot parse, with 3 for a lint. Its
/// time grows with the square of a family's series: 2,000 take seconds, 10,000 more than the deadline.
pub(crate) fn promtool_check_metrics(bin: &Path, exposition: &str) -> Result<(), String> {
    match run(Command::new(bin.join("promtool")).args(["check", "metrics"]), exposition.as_bytes()) {
        (Some(0), _) => Ok(()),
        (Some(code), output) => Err(format!("promtool ended with exit code {code}:\n{output}")),
        (None, output) => Err(format!("promtool was killed, by a signal or because it took too long:\n{output}")),
    }
}

/// What an endpoint answers to a scraper that accepts this.
#[track_caller]
pub(crate) fn page(address: SocketAddr, accept: &str) -> Vec<u8> {
    match get(address, "/metrics", &format!("Accept: {accept}\r\n")) {
        Ok(Response { status: 200, body, .. }) => body,
        Ok(response) => panic!("/metrics answered {}: {}", response.status, response.text()),
        Err(error) => panic!("/metrics: {error}"),
    }
}

/// Finds the address in the line `... msg="Listening on" component=web address=127.0.0.1:36393`.
///
/// The line `Start listening for connections` before it repeats the flag, port 0 and all.
pub(crate) fn listening_address(log: &str) -> Option<SocketAddr> {
    let line = log.lines().find(|line| line.contains(r#"msg="Listening on""#))?;
    line.split_whitespace().find_map(|field| field.strip_prefix("address="))?.parse().ok()
}

/// Writes it as JSON, which is YAML too and whose writer knows how to quote.
fn write_configuration(path: &Path, configuration: &Value) {
    fs::write(path, format!("{configuration:#}\n")).expect("prometheus.yml can be written");
}

/// What stands in prometheus.yml.
#[track_caller]
fn configuration(jobs: &[Job], scrape_interval: &str) -> Value {
    // A job's name may stand only once, with all its targets.
    let mut scrape_configs = BTreeMap::<&str, Map<String, Value>>::new();
    for Job { name, target, settings } in jobs {
        let config = scrape_configs.entry(name).or_insert_with(|| settings.clone());
        config.insert("job_name".to_owned(), json!(name));
        let targets = config.entry("static_configs").or_insert_with(|| json!([{ "targets": [] }]));
        targets[0]["targets"].as_array_mut().expect("it was made above").push(json!(target.to_string()));
    }
    json!({
        "global": { "scrape_interval": scrape_interval, "scrape_timeout": scrape_timeout(scrape_interval) },
        "scrape_configs": scrape_configs.values().collect::<Vec<_>>(),
    })
}

/// Nine tenths of the interval: Prometheus refuses a timeout that is longer than the interval.
#[track_caller]
fn scrape_timeout(scrape_interval: &str) -> String {
    let digits = scrape_interval.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match &scrape_interval[digits.len()..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => panic!("the scrape interval {scrape_interval:?} is not a number with ms, s or m"),
    };
    let Ok(number) = digits.parse::<u64>() else { panic!("the scrape interval {scrape_interval:?} has no number") };
    format!("{}ms", number * unit * 9 / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scrape_timeout_is_shorter_than_the_interval() {
        assert_eq!(
            [scrape_timeout("200ms"), scrape_timeout("1s"), scrape_timeout("1m")],
            ["180ms", "900ms", "54000ms"]
        );
    }

    #[test]
    fn the_address_is_the_one_that_the_system_chose() {
        let log = "msg=\"Start listening for connections\" address=127.0.0.1:0\nmsg=\"Listening on\" address=127.0.0.1:36393\n";
        assert_eq!(listening_address(log), Some(SocketAddr::from(([127, 0, 0, 1], 36393))));
    }
}
