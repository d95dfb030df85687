use std::error::Error;

use barograph::{CounterSpec, GaugeSpec, HistogramSpec, MeterExt, Telemetry, attribute};

attribute! {
    /// How an order ended.
    enum Status: "status" { Paid = "paid", Failed = "failed" }
}
const ORDERS: CounterSpec<Status> = CounterSpec::new("shop.orders", "{order}", "Orders that ended.");
const WAITING: GaugeSpec = GaugeSpec::new("shop.orders.waiting", "{order}", "Orders that wait.");
const PAYMENT: HistogramSpec =
    HistogramSpec::new("shop.payment.duration", "s", "Time spent on a payment.").buckets(&[0.1, 0.5, 1.0, 5.0]);

fn main() -> Result<(), Box<dyn Error>> {
    let _telemetry = start("127.0.0.1:9464")?;
    loop {
        std::thread::park(); // the endpoint answers until the process ends
    }
}

pub(crate) fn start(address: &str) -> Result<Telemetry, Box<dyn Error>> {
    let telemetry = Telemetry::builder("shop")
        .with_address(address)
        .without_scope_info() // these three while you compare the pages: see below
        .without_target_info()
        .without_self_metrics()
        .start()?;
    let meter = telemetry.meter("shop");
    let orders = meter.counter(&ORDERS);
    let waiting = meter.gauge(&WAITING);
    let payment = meter.histogram(&PAYMENT);
    telemetry.verify()?; // every name and unit is one, and no two metrics share a name

    waiting.record(3.0, ());
    orders.add(1, Status::Paid);
    payment.record(0.25, ()); // or `let _timer = payment.start_timer(());`
    Ok(telemetry)
}
