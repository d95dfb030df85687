//! What the layers around an HTTP service cost: each request by itself, and a service under load. Linux only.

mod load;
mod services;

use std::fmt::Write;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Builder;
use tower::ServiceExt;

pub(crate) use load::{measure as measure_load, serve};
use services::{Layered, SERVICES};

const ROUNDS: usize = 41;

/// Rounds that are not counted.
const WARM_UP: usize = 2;

const PER_ROUND: u32 = 20_000;

/// Requests without sockets: the service is called, and its response read to the end.
pub(crate) fn measure() -> String {
    // axum-prometheus starts a task of its own.
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _inside = runtime.enter();
    let mut services: Vec<Layered> = SERVICES.iter().map(|service| (service.build)()).collect();
    // As `axum::serve` does it: otherwise each request would put the layers around its handler anew.
    services.iter_mut().for_each(|service| service.router = std::mem::take(&mut service.router).with_state(()));
    let mut times = vec![Vec::with_capacity(ROUNDS); services.len()];
    for round in 0..ROUNDS + WARM_UP {
        for (service, times) in services.iter().zip(&mut times) {
            let started = processor_time();
            for _ in 0..PER_ROUND {
                ask(&service.router);
            }
            if round >= WARM_UP {
                times.push(processor_time() - started);
            }
        }
    }
    let asked = u64::from(PER_ROUND) * (ROUNDS + WARM_UP) as u64;
    for (service, what) in services.iter().zip(&SERVICES) {
        assert!((service.counted)().is_none_or(|counted| counted == asked), "{} has lost requests", what.name);
    }

    let nanos = |time: Duration| time.as_secs_f64() * 1e9 / f64::from(PER_ROUND);
    let added: Vec<Vec<f64>> = times
        .iter()
        .map(|times_of| times_of.iter().zip(&times[0]).map(|(own, bare)| nanos(*own) - nanos(*bare)).collect())
        .collect();
    let ours = median(&added[1]);
    let mut table = format!("### A request and its layers, {ROUNDS} rounds of {PER_ROUND}\n\n");
    table += "| service | CPU ns a request | added ns | × what ours adds |\n|---|---:|---:|---:|\n";
    for ((service, times), added) in SERVICES.iter().zip(&times).zip(&added) {
        let own: Vec<f64> = times.iter().map(|time| nanos(*time)).collect();
        let added = median(added);
        let _ = writeln!(table, "| {} | {:.0} | {added:.0} | {:.2} |", service.name, median(&own), added / ours);
    }
    table
}

/// The time that this thread has had of a processor: what else the machine does is not in it.
fn processor_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().expect("a time since the thread began")
}

/// One request whose response is read to its end. Nothing here waits.
fn ask(router: &Router) {
    let request = Request::get("/users/17").body(Body::empty()).expect("a request");
    let asking = pin!(async {
        let response = router.clone().oneshot(request).await.expect("an answer");
        response.into_body().collect().await.expect("a body").to_bytes().len()
    });
    assert!(asking.poll(&mut Context::from_waker(Waker::noop())).is_ready());
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
