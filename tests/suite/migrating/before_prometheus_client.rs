use std::error::Error;
use std::sync::Arc;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tokio::net::TcpListener;

type Labels = [(&'static str, &'static str); 1];

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    serve(TcpListener::bind("127.0.0.1:9464").await?).await
}

pub(crate) async fn serve(listener: TcpListener) -> Result<(), Box<dyn Error>> {
    let mut registry = Registry::default();
    let orders = Family::<Labels, Counter>::default();
    let waiting = Gauge::<i64>::default();
    let payment = Histogram::new([0.1, 0.5, 1.0, 5.0]);
    registry.register("shop_orders", "Orders that ended", orders.clone());
    registry.register("shop_orders_waiting", "Orders that wait", waiting.clone());
    registry.register_with_unit("shop_payment_duration", "Time spent on a payment", Unit::Seconds, payment.clone());
    for status in ["paid", "failed"] {
        drop(orders.get_or_create(&[("status", status)])); // there as 0 before the first order ends
    }

    waiting.set(3);
    orders.get_or_create(&[("status", "paid")]).inc();
    payment.observe(0.25);

    let registry = Arc::new(registry);
    let page = move || async move {
        let mut page = String::new();
        encode(&mut page, &registry).map(|()| ([(CONTENT_TYPE, OPEN_METRICS)], page)).map_err(|error| error.to_string())
    };
    axum::serve(listener, Router::new().route("/metrics", get(page))).await?;
    Ok(())
}
