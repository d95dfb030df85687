use std::error::Error;

use axum::Router;
use axum::routing::get;
use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    serve(TcpListener::bind("127.0.0.1:9464").await?).await
}

pub(crate) async fn serve(listener: TcpListener) -> Result<(), Box<dyn Error>> {
    let registry = Registry::new();
    let orders = IntCounterVec::new(Opts::new("shop_orders_total", "Orders that ended."), &["status"])?;
    let waiting = IntGauge::new("shop_orders_waiting", "Orders that wait.")?;
    let payment = HistogramOpts::new("shop_payment_duration_seconds", "Time spent on a payment.");
    let payment = Histogram::with_opts(payment.buckets(vec![0.1, 0.5, 1.0, 5.0]))?;
    registry.register(Box::new(orders.clone()))?;
    registry.register(Box::new(waiting.clone()))?;
    registry.register(Box::new(payment.clone()))?;
    for status in ["paid", "failed"] {
        orders.with_label_values(&[status]); // there as 0 before the first order ends
    }

    waiting.set(3);
    orders.with_label_values(&["paid"]).inc();
    payment.observe(0.25);

    let page = move || async move {
        TextEncoder::new().encode_to_string(&registry.gather()).map_err(|error| error.to_string())
    };
    axum::serve(listener, Router::new().route("/metrics", get(page))).await?;
    Ok(())
}
