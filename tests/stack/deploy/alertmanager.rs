//! A real Alertmanager with the committed configuration, as far as a test can wait for it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::expressions::deploy;
use crate::process::{self, Server};
use crate::prometheus::listening_address;
use crate::request::{Response, get};

/// The directory that holds it; without one says that the test is skipped.
///
/// # Panics
///
/// Without one, with `CI=true`.
pub(crate) fn require() -> Option<PathBuf> {
    process::require(&["alertmanager"], "tests/stack/install")
}

/// A running Alertmanager. It ends when this is dropped, and a test that panics shows the end of its log.
#[must_use = "Alertmanager ends when this is dropped"]
#[derive(Debug)]
pub(crate) struct Alertmanager {
    address: SocketAddr,
    _server: Server,
}

impl Alertmanager {
    /// Starts it with `deploy/alertmanager/alertmanager.yml`, changed in this only: it waits for a second where that one
    /// waits for seconds and minutes before it notifies, and notifies `/page` and `/notify` of `receiver`.
    #[track_caller]
    pub(crate) fn start(bin: &Path, dir: &Path, receiver: SocketAddr) -> Self {
        fs::create_dir_all(dir).unwrap();
        let committed = fs::read_to_string(deploy("alertmanager/alertmanager.yml")).unwrap();
        let mut configuration = String::new();
        for line in committed.lines() {
            let (indent, text) = line.split_at(line.len() - line.trim_start().len());
            let changed = match text.split_once(": ") {
                Some((key @ ("group_wait" | "group_interval"), _)) => format!("{key}: 1s"),
                Some((key, path)) if key.ends_with("url_file") => {
                    let name = Path::new(path).file_stem().unwrap().to_str().unwrap();
                    let file = dir.join(name);
                    fs::write(&file, format!("http://{receiver}/{name}")).unwrap();
                    format!("{key}: {}", file.display())
                }
                _ => text.to_owned(),
            };
            configuration += &format!("{indent}{changed}\n");
        }
        let file = dir.join("alertmanager.yml");
        fs::write(&file, configuration).unwrap();
        let mut command = Command::new(bin.join("alertmanager"));
        command.arg("--config.file").arg(file).arg("--storage.path").arg(dir.join("data"));
        // Without an address for its cluster it opens no other port.
        command.args(["--web.listen-address=127.0.0.1:0", "--cluster.listen-address="]);
        let mut server = Server::spawn(&mut command, dir.join("alertmanager.log"));
        let address = server.wait_until_ready(|log| {
            let address = listening_address(log).ok_or("alertmanager has not logged where it listens")?;
            match get(address, "/-/ready", "") {
                Ok(Response { status: 200, .. }) => Ok(address),
                Ok(Response { status, .. }) => Err(format!("/-/ready answered {status}")),
                Err(error) => Err(format!("/-/ready: {error}")),
            }
        });
        Self { address, _server: server }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The alerts of this name that it knows to be firing.
    #[track_caller]
    pub(crate) fn alerts(&self, name: &str) -> Vec<Value> {
        let response = get(self.address, &format!("/api/v2/alerts?filter=alertname%3D{name}"), "").unwrap();
        assert_eq!(response.status, 200, "{}", response.text());
        serde_json::from_slice(&response.body).unwrap()
    }
}
