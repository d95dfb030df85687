//! The three ways from a fleet to a store, with the files and flags of deploy/scale.

use std::fmt;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::Scrapes;
use super::server::{Server, metric, programs, repository};

/// Merging some minutes of data takes a second.
const MERGED: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// vmagent scrapes and writes to VictoriaMetrics.
    Vmagent,
    /// Prometheus scrapes and stores.
    Prometheus,
    /// Endpoints push OTLP to the Collector, which passes it on to VictoriaMetrics.
    Gateway,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vmagent => "vmagent → VictoriaMetrics",
            Self::Prometheus => "Prometheus",
            Self::Gateway => "OTLP → Collector → VictoriaMetrics",
        })
    }
}

/// The folder of the programs.
pub(super) struct Programs(PathBuf);

impl Programs {
    pub(super) fn find() -> Result<Self, &'static str> {
        let names = ["prometheus", "vmagent", "victoria-metrics", "otelcol"];
        programs(&names)
            .map(Self)
            .ok_or("target/stack/bin lacks servers: tests/stack/install and tests/stack/install-otlp bring them")
    }

    fn command(&self, name: &str) -> Command {
        Command::new(self.0.join(name))
    }
}

/// What runs besides the endpoints.
pub(super) struct Servers {
    way: Way,
    /// What scrapes, or is pushed to. None before there is something to scrape.
    collector: Option<Server>,
    /// Where the gateway shows its own metrics.
    gateway_metrics: u16,
    store: Option<Server>,
    directory: TempDir,
}

impl Servers {
    pub(super) fn start(programs: &Programs, way: Way) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        let store = (way != Way::Prometheus).then(|| {
            let mut command = programs.command("victoria-metrics");
            command.arg(flag("-storageDataPath", &at("victoria")));
            command.arg(flag("-relabelConfig", &scale("relabel.yml")));
            command.args(["-httpListenAddr=127.0.0.1:0", "-retentionPeriod=1d", "-search.latencyOffset=0s"]);
            // As in deploy/scale/compose.yaml.
            command.args(["-opentelemetry.usePrometheusNaming", "-opentelemetry.promoteAllResourceAttributes=false"]);
            command.arg("-opentelemetry.promoteResourceAttributes=service.name,service.instance.id");
            Server::start(&mut command, &at("victoria.log"), listens_victoria)
        });
        let mut servers = Self { way, collector: None, gateway_metrics: free_port(), store, directory };
        if way == Way::Gateway {
            servers.collector = Some(servers.start_gateway(programs));
        }
        servers
    }

    fn start_gateway(&self, programs: &Programs) -> Server {
        let store = self.store.as_ref().expect("a gateway has a store").address;
        let mut command = programs.command("otelcol");
        command.arg("--config").arg(scale("collector-gateway.yaml")).envs([
            ("GATEWAY_GRPC", "127.0.0.1:0"),
            ("GATEWAY_HTTP", "127.0.0.1:0"),
            ("GATEWAY_METRICS_HOST", "127.0.0.1"),
            ("GATEWAY_METRICS_PORT", &self.gateway_metrics.to_string()),
            ("VICTORIAMETRICS_URL", &format!("http://{store}")),
        ]);
        Server::start(&mut command, &self.directory.path().join("otelcol.log"), |log| {
            let line = log.lines().find(|line| line.contains("Starting HTTP server"))?;
            field(line, r#""endpoint": ""#).filter(|_| log.contains("Everything is ready"))
        })
    }

    /// Where to push to, if that is the way.
    pub(super) fn gateway_url(&self) -> Option<String> {
        (self.way == Way::Gateway).then(|| format!("http://{}", self.collector().address))
    }

    /// Has these scraped, if that is the way.
    pub(super) fn scrape<'a>(&mut self, programs: &Programs, addresses: impl Iterator<Item = &'a str>) {
        if self.way == Way::Gateway {
            return;
        }
        let at = |name: &str| self.directory.path().join(name);
        fs::create_dir(at("targets")).expect("a directory");
        let targets = serde_json::json!([{ "targets": addresses.collect::<Vec<_>>() }]);
        // JSON is YAML too.
        fs::write(at("targets/fleet.yml"), targets.to_string()).expect("a file");
        fs::copy(scale("vmagent.yml"), at("vmagent.yml")).expect("deploy/scale/vmagent.yml");
        let log = at("collector.log");
        self.collector = Some(match &self.store {
            Some(store) => {
                let mut command = programs.command("vmagent");
                command.arg(flag("-promscrape.config", &at("vmagent.yml")));
                command.arg(flag("-remoteWrite.tmpDataPath", &at("queue")));
                command.arg(format!("-remoteWrite.url=http://{}/api/v1/write", store.address));
                command.arg("-httpListenAddr=127.0.0.1:0");
                Server::start(&mut command, &log, listens_victoria)
            }
            None => {
                let mut command = programs.command("prometheus");
                command.arg("--config.file").arg(at("vmagent.yml")).arg("--storage.tsdb.path").arg(at("prometheus"));
                command.arg("--web.listen-address=127.0.0.1:0");
                Server::start(&mut command, &log, |log| {
                    field(log.lines().find(|line| line.contains(r#"msg="Listening on""#))?, "address=")
                })
            }
        });
    }

    pub(super) fn collector(&self) -> &Server {
        self.collector.as_ref().expect("it was started")
    }

    pub(super) fn store(&self) -> Option<&Server> {
        self.store.as_ref()
    }

    /// Samples that the store has taken so far.
    pub(super) fn ingested(&self) -> f64 {
        match self.store() {
            Some(store) => store.metric("vm_rows_added_to_storage_total", ""),
            None => self.collector().metric("prometheus_tsdb_head_samples_appended_total", "float"),
        }
    }

    /// Bytes that vmagent has written to the store so far.
    pub(super) fn written(&self) -> Option<f64> {
        (self.way == Way::Vmagent).then(|| self.collector().metric("vmagent_remotewrite_bytes_sent_total", ""))
    }

    /// Points that the gateway has sent on so far, and those that it refused or could not send.
    pub(super) fn points(&self) -> Option<(f64, f64)> {
        if self.way != Way::Gateway {
            return None;
        }
        let own = SocketAddr::from(([127, 0, 0, 1], self.gateway_metrics));
        let sum = |name: &str| metric(own, &format!("otelcol_{name}"), "");
        let lost = [
            "receiver_refused_metric_points",
            "exporter_send_failed_metric_points",
            "exporter_enqueue_failed_metric_points",
        ];
        Some((sum("exporter_sent_metric_points"), lost.map(sum).iter().sum()))
    }

    /// The scrapes of the time that has just ended, where somebody scrapes.
    pub(super) fn scrapes(&self, time: Duration) -> Option<Scrapes> {
        if self.way == Way::Gateway {
            return None;
        }
        let server = self.store().unwrap_or(self.collector());
        let samples = |name: &str| server.samples(&format!("{name}{{job=\"platform\"}}[{}s]", time.as_secs()));
        let up = samples("up");
        let mut durations = samples("scrape_duration_seconds");
        durations.sort_by(f64::total_cmp);
        Some(Scrapes { count: up.len(), failed: up.iter().filter(|up| **up != 1.0).count(), durations })
    }

    /// Series, bytes on disk for a sample, and bytes of the index for a series where it is told apart. Flushes first.
    pub(super) fn stored(&self) -> (f64, f64, Option<f64>) {
        let server = self.store().unwrap_or(self.collector());
        if self.store.is_none() {
            let samples = server.metric("prometheus_tsdb_head_samples_appended_total", "float");
            let bytes = server.metric("prometheus_tsdb_wal_storage_size_bytes", "");
            return (server.metric("prometheus_tsdb_head_series", ""), bytes / samples, None);
        }
        server.get("/internal/force_flush");
        server.get("/internal/force_merge");
        let end = Instant::now() + MERGED;
        while server.metric("vm_active_force_merges", "") > 0.0 && Instant::now() < end {
            thread::sleep(Duration::from_millis(200));
        }
        let status: Value = serde_json::from_str(&server.get("/api/v1/status/tsdb?topN=1")).expect("JSON");
        let series = status["data"]["totalSeries"].as_f64().expect("a number of series");
        let bytes = |part: &str| server.metric("vm_data_size_bytes", part);
        (series, bytes("storage/") / server.metric("vm_rows", "storage/"), Some(bytes("indexdb/") / series))
    }
}

/// A file that is committed.
fn scale(name: &str) -> PathBuf {
    repository().join("deploy/scale").join(name)
}

fn flag(name: &str, path: &Path) -> String {
    format!("{name}={}", path.display())
}

fn listens_victoria(log: &str) -> Option<&str> {
    log.split_once("started server at http://")?.1.split('/').next()
}

/// The text after this until a quote or a space.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split_once(name)?.1.split(['"', ' ']).next()
}

/// The collector does not say which port it was given for its own metrics.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}
