//! One scrape: from the SDK's aggregates to the bytes of the page.
//!
//! Five counters and five histograms of 14 buckets, each with 1,000 sets of three attributes: 10,000 attribute sets in
//! 90,000 lines, recorded alike into both pipelines.

use std::time::Instant;

use barograph::Telemetry;
use http::Request;
use http_body_util::BodyExt;
use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Encoder, Registry, TextEncoder};
use tower_service::Service;

use crate::table::{Contestant, table};

const INSTRUMENTS: usize = 5;
const SETS: usize = 1_000;
const ROUNDS: usize = 21;

const BOUNDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

pub(crate) fn measure() -> String {
    let telemetry = Telemetry::builder("bench").without_endpoint().start().expect("no endpoint, nothing to fail");
    record(telemetry.meter_provider());
    let mut service = telemetry.scrape_service();
    // Only to wait for the answer: collecting and encoding have a thread of their own.
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without a reactor");

    let registry = Registry::new();
    let exporter =
        opentelemetry_prometheus::exporter().with_registry(registry.clone()).build().expect("a new registry");
    let oracle = SdkMeterProvider::builder().with_reader(exporter).build();
    record(&oracle);
    let mut text = Vec::new();

    let lines =
        telemetry.scrape().expect("the pipeline runs").lines().filter(|line| line.starts_with("bench_")).count();
    assert_eq!(lines, INSTRUMENTS * SETS + INSTRUMENTS * SETS * (BOUNDS.len() + 3), "series of the page");

    table(
        vec![
            Contestant::new("barograph, a request to the scrape service", || {
                let start = Instant::now();
                let length = runtime.block_on(async {
                    let answer = service
                        .call(
                            Request::get("/metrics")
                                .header("accept", std::env::var("ACC").unwrap_or_default())
                                .header("accept-encoding", std::env::var("ENC").unwrap_or_default())
                                .body(())
                                .expect("a request"),
                        )
                        .await;
                    let Ok(answer) = answer;
                    let mut body = answer.into_body();
                    let mut length = 0;
                    while let Some(frame) = body.frame().await {
                        length += frame.expect("the page is whole").into_data().map_or(0, |data| data.len());
                    }
                    length
                });
                assert!(length > 100_000, "the page is whole");
                start.elapsed()
            }),
            Contestant::new("opentelemetry-prometheus + TextEncoder", || {
                let start = Instant::now();
                text.clear();
                TextEncoder::new().encode(&registry.gather(), &mut text).expect("valid families");
                start.elapsed()
            }),
        ],
        ROUNDS,
        1,
        ("ms", 1e3),
    )
}

fn record(provider: &dyn MeterProvider) {
    let meter = provider.meter("bench");
    for instrument in 0..INSTRUMENTS {
        let counter = meter.u64_counter(format!("bench.counter_{instrument}")).build();
        let histogram =
            meter.f64_histogram(format!("bench.histogram_{instrument}")).with_boundaries(BOUNDS.to_vec()).build();
        for set in 0..SETS {
            let attributes = [
                KeyValue::new("method", ["GET", "PUT", "POST", "DELETE"][set % 4]),
                KeyValue::new("route", format!("/api/v1/resource/{}", set / 4)),
                KeyValue::new("status", if set % 8 < 7 { "200" } else { "500" }),
            ];
            counter.add(set as u64, &attributes);
            histogram.record(set as f64 / 97.0, &attributes);
            histogram.record(set as f64 / 977.0, &attributes);
        }
    }
}
