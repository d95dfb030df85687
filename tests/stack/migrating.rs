//! The guide's service in Python, whose page says what the one with Barograph says: see tests/suite/migrating.rs.

#[path = "../suite/migrating/after.rs"]
#[expect(dead_code, reason = "`main` only chooses the port")]
mod after;
#[path = "../suite/migrating/page.rs"]
mod page;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use page::families;

use crate::formats::TEXT;
use crate::process::Server;
use crate::{parser, prometheus};

/// Serves the program's registry as its last lines do, at a port that the system chooses.
const SERVE: &str = "
import before, prometheus_client
server, thread = prometheus_client.start_http_server(0, addr='127.0.0.1', registry=before.registry)
print(server.server_port, flush=True)
thread.join()
";

fn page(address: SocketAddr) -> page::Families {
    families(&String::from_utf8(prometheus::page(address, TEXT)).unwrap())
}

#[test]
fn the_page_of_the_program_in_python_has_the_created_series_more_and_else_says_what_the_one_with_barograph_says() {
    let Some(python) = parser::require() else { return };
    let directory = tempfile::tempdir().unwrap();
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/migrating");
    let mut command = Command::new(python);
    command.args(["-B", "-c", SERVE]).env("PYTHONPATH", program);
    let mut server = Server::spawn(&mut command, directory.path().join("python.log"));
    let port = server.wait_until_ready(|log| log.trim().parse().map_err(|_| format!("no port: {log}")));
    let mut before = page(SocketAddr::from(([127, 0, 0, 1], port)));

    let created: Vec<_> = before.extract_if(.., |name, _| name.ends_with("_created")).map(|(name, _)| name).collect();
    assert_eq!(created, ["shop_orders_created", "shop_payment_duration_seconds_created"]);
    let telemetry = after::start("127.0.0.1:0").unwrap();
    assert_eq!(before, page(telemetry.local_addr().unwrap()));
}
