//! The programs of the guide's chapter about migrating, each with a port of its own: their pages say the same.
//!
//! The one in Python is run by tests/stack, where there is one. That the chapter shows these files is a rule of
//! tests/policy.

#[path = "migrating/after.rs"]
#[expect(dead_code, reason = "`main` only chooses the port")]
pub(crate) mod after;
#[path = "migrating/before_metrics.rs"]
#[expect(dead_code, reason = "`main` only chooses the port")]
mod before_metrics;
#[path = "migrating/before_prometheus.rs"]
#[expect(dead_code, reason = "`main` only chooses the port")]
mod before_prometheus;
#[path = "migrating/before_prometheus_client.rs"]
#[expect(dead_code, reason = "`main` only chooses the port")]
mod before_prometheus_client;
mod page;

use std::error::Error;

use barograph::View;
use barograph_instrumentation_metrics::MetricsRecorder;
use tokio::net::TcpListener;

use crate::support::{builder, get, request_with};
use page::{Families, families};

/// The page of a program that serves it by itself.
fn before<F>(serve: impl FnOnce(TcpListener) -> F) -> Families
where
    F: Future<Output = Result<(), Box<dyn Error>>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let page = tokio::task::spawn_blocking(move || get(address, "/metrics"));
        tokio::select! {
            ended = serve(listener) => panic!("the program ended: {ended:?}"),
            page = page => families(&page.unwrap().body),
        }
    })
}

/// The page of Barograph's program.
fn after(accept: &str) -> Families {
    let telemetry = after::start("127.0.0.1:0").unwrap();
    let page = request_with(telemetry.local_addr().unwrap(), "GET", "/metrics", &[("Accept", accept)]);
    assert_eq!(page.status, 200, "{}", page.body);
    families(&page.body)
}

#[test]
fn the_page_of_the_program_with_prometheus_says_what_the_page_of_the_one_with_barograph_says() {
    assert_eq!(before(before_prometheus::serve), after("text/plain"));
}

#[test]
fn the_page_of_the_program_with_metrics_says_what_the_page_of_the_one_with_barograph_says() {
    assert_eq!(before(before_metrics::serve), after("text/plain"));
}

#[test]
fn what_is_recorded_through_metrics_says_the_same_with_the_bridge_in_place_of_its_exporter() {
    let buckets = View::of("shop_payment_duration_seconds").with_buckets([0.1, 0.5, 1.0, 5.0]);
    let telemetry = builder().with_view(buckets).without_scope_info().without_target_info().start().unwrap();
    let recorder = MetricsRecorder::new(telemetry.meter_provider());
    metrics::with_local_recorder(&recorder, before_metrics::sell);
    assert_eq!(families(&telemetry.scrape().unwrap()), after("text/plain"));
}

#[test]
fn the_page_of_the_program_with_prometheus_client_says_what_the_page_of_the_one_with_barograph_says() {
    assert_eq!(before(before_prometheus_client::serve), after("application/openmetrics-text;version=1.0.0"));
}

#[test]
fn the_guide_shows_the_page_as_it_is() {
    let telemetry = after::start("127.0.0.1:0").unwrap();
    let page = get(telemetry.local_addr().unwrap(), "/metrics").body;
    let guide = include_str!("../../src/guide/migrating.md");
    assert!(
        guide.contains(&format!("```text\n{page}```\n")),
        "src/guide/migrating.md does not show this page:\n{page}"
    );
}
