use std::error::Error;

use axum::Router;
use axum::routing::get;
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    serve(TcpListener::bind("127.0.0.1:9464").await?).await
}

pub(crate) async fn serve(listener: TcpListener) -> Result<(), Box<dyn Error>> {
    let payment = Matcher::Full("shop_payment_duration_seconds".to_owned());
    let builder = PrometheusBuilder::new().set_buckets_for_metric(payment, &[0.1, 0.5, 1.0, 5.0])?;
    let handle = builder.install_recorder()?;
    sell();

    let page = move || async move { handle.render() };
    axum::serve(listener, Router::new().route("/metrics", get(page))).await?;
    Ok(())
}

pub(crate) fn sell() {
    describe_counter!("shop_orders_total", "Orders that ended.");
    describe_gauge!("shop_orders_waiting", "Orders that wait.");
    describe_histogram!("shop_payment_duration_seconds", "Time spent on a payment.");
    for status in ["paid", "failed"] {
        counter!("shop_orders_total", "status" => status).increment(0); // there before the first order ends
    }

    gauge!("shop_orders_waiting").set(3.0);
    counter!("shop_orders_total", "status" => "paid").increment(1);
    histogram!("shop_payment_duration_seconds").record(0.25);
}
