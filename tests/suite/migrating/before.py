from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

registry = CollectorRegistry()  # the default registry has python_* and process_* besides
orders = Counter("shop_orders", "Orders that ended.", ["status"], registry=registry)
waiting = Gauge("shop_orders_waiting", "Orders that wait.", registry=registry)
payment = Histogram(
    "shop_payment_duration_seconds", "Time spent on a payment.", buckets=(0.1, 0.5, 1.0, 5.0), registry=registry
)
for status in ["paid", "failed"]:
    orders.labels(status)  # there as 0 before the first order ends

waiting.set(3)
orders.labels("paid").inc()
payment.observe(0.25)

if __name__ == "__main__":
    server, thread = start_http_server(9464, addr="127.0.0.1", registry=registry)
    thread.join()
