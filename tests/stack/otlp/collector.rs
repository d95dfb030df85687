//! A real OpenTelemetry Collector: OTLP in over gRPC and HTTP, and what it understood out to a sink in the test.
//!
//! Everything is synchronous: a request is answered when the sink has answered, and with the same status. The collector
//! does not pass `Retry-After` on; who tests that talks to a [`Sink`] without a collector.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::certificates::Certificates;
use super::sink::{Received, Sink};
use crate::process::{self, Server};

/// What a server needs for TLS.
#[derive(Clone, Debug)]
pub(crate) struct ServerTls {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// Whoever has no certificate of this authority is sent away.
    pub(crate) client_authority: Option<PathBuf>,
}

/// How a collector is started.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// Of both receivers. Defaults to none.
    pub(crate) tls: Option<ServerTls>,
    /// Where it listens, for gRPC and for HTTP: where one listened that is gone. Defaults to what the system chooses.
    pub(crate) addresses: Option<[SocketAddr; 2]>,
}

/// A running collector and its sink. Both end when this is dropped, and a test that panics shows the end of the log.
#[must_use = "the collector ends when this is dropped"]
#[derive(Debug)]
pub(crate) struct Collector {
    grpc: SocketAddr,
    http: SocketAddr,
    server: Server,
    sink: Sink,
}

impl Collector {
    /// The directory that holds a collector; without one says that the test is skipped.
    ///
    /// # Panics
    ///
    /// Without one, with `CI=true`.
    pub(crate) fn require() -> Option<PathBuf> {
        process::require(&["otelcol"], "tests/stack/install-otlp")
    }

    /// Starts a collector and waits until it listens. Its configuration and its log go into `dir`.
    #[track_caller]
    pub(crate) fn start(bin: &Path, dir: &Path, options: &Options) -> Self {
        let sink = Sink::start();
        fs::create_dir_all(dir).unwrap();
        let path = dir.join("otelcol.yaml");
        // JSON is YAML too, and its writer knows how to quote.
        fs::write(&path, format!("{:#}\n", configuration(&sink, options))).unwrap();
        let mut command = Command::new(bin.join("otelcol"));
        let mut server = Server::spawn(command.arg("--config").arg(path), dir.join("otelcol.log"));
        let (grpc, http) = server.wait_until_ready(|log| {
            let message = |wanted: &str| {
                let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
                lines.find(|line| line["msg"].as_str().is_some_and(|message| message.starts_with(wanted)))
            };
            message("Everything is ready").ok_or("otelcol has not said that it is ready")?;
            let endpoint = |wanted| message(wanted)?["endpoint"].as_str()?.parse().ok();
            let grpc = endpoint("Starting GRPC server").ok_or("otelcol has not said where it listens for gRPC")?;
            let http = endpoint("Starting HTTP server").ok_or("otelcol has not said where it listens for HTTP")?;
            Ok((grpc, http))
        });
        Self { grpc, http, server, sink }
    }

    pub(crate) fn grpc_address(&self) -> SocketAddr {
        self.grpc
    }

    /// Metrics go to `/v1/metrics` there.
    pub(crate) fn http_address(&self) -> SocketAddr {
        self.http
    }

    /// Where what it understood goes; it does as it is [told](Sink::script).
    pub(crate) fn sink(&self) -> &Sink {
        &self.sink
    }

    /// Everything that it understood until now: each request that it accepted, as OTLP/JSON.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.sink.received()
    }

    /// What it has logged, as lines of JSON.
    pub(crate) fn log(&self) -> String {
        self.server.log()
    }
}

fn configuration(sink: &Sink, options: &Options) -> Value {
    // The system chooses a free port and the collector logs it. A port chosen here could be taken by then.
    let [grpc, http] = options.addresses.unwrap_or([SocketAddr::from(([127, 0, 0, 1], 0)); 2]);
    let mut receiver = json!({});
    if let Some(ServerTls { certificate, key, client_authority }) = &options.tls {
        receiver["tls"] = json!({ "cert_file": certificate, "key_file": key });
        if let Some(authority) = client_authority {
            receiver["tls"]["client_ca_file"] = json!(authority);
        }
    }
    let at = |address: SocketAddr| {
        let mut receiver = receiver.clone();
        receiver["endpoint"] = json!(address);
        receiver
    };
    let exporter = json!({
        "metrics_endpoint": sink.url(),
        "encoding": "json",
        "compression": "none",
        // The client hears what the sink answers.
        "sending_queue": { "enabled": false },
        "retry_on_failure": { "enabled": false },
    });
    json!({
        "receivers": { "otlp": { "protocols": { "grpc": at(grpc), "http": at(http) } } },
        "exporters": { "otlp_http": exporter },
        "service": {
            "telemetry": { "metrics": { "level": "none" }, "logs": { "encoding": "json", "disable_stacktrace": true } },
            "pipelines": { "metrics": { "receivers": ["otlp"], "exporters": ["otlp_http"] } },
        },
    })
}

impl Certificates {
    /// For a server that proves who it is.
    pub(crate) fn server_tls(&self) -> ServerTls {
        ServerTls { certificate: self.server.clone(), key: self.server_key.clone(), client_authority: None }
    }

    /// For a server that asks its clients for proof as well.
    pub(crate) fn mutual_tls(&self) -> ServerTls {
        ServerTls { client_authority: Some(self.authority.clone()), ..self.server_tls() }
    }
}
