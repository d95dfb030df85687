//! Callbacks that are slow or never return: whom they cost what, and for how long.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use barograph::opentelemetry::metrics::AsyncInstrument;
use barograph::testing::TestTelemetry;
use barograph::{ScrapeService, Telemetry};
use http::Request;
use http_body_util::BodyExt;
use tower::ServiceExt;

use crate::support::{DEADLINE, families, find, talking_telemetry, wait_until};

fn telemetry() -> Telemetry {
    talking_telemetry().into_telemetry()
}

/// What a callback waits at. Dropped, it is open.
struct Gate(Arc<State>);

#[derive(Default)]
struct State {
    is_open: Mutex<bool>,
    changed: Condvar,
    entered: AtomicUsize,
    left: AtomicUsize,
}

impl State {
    fn pass(&self) {
        self.entered.fetch_add(1, Ordering::SeqCst);
        drop(self.changed.wait_while(self.is_open.lock().unwrap(), |is_open| !*is_open).unwrap());
        self.left.fetch_add(1, Ordering::SeqCst);
    }
}

impl Gate {
    /// A gate that is closed.
    fn closed() -> Self {
        Self(Arc::default())
    }

    /// One that the callback of this gauge waits at.
    fn of(telemetry: &Telemetry, gauge: &'static str) -> Self {
        let gate = Self::closed();
        let state = Arc::clone(&gate.0);
        let callback = move |observer: &dyn AsyncInstrument<u64>| {
            state.pass();
            observer.observe(1, &[]);
        };
        telemetry.meter("m").u64_observable_gauge(gauge).with_callback(callback).build();
        gate
    }

    fn set(&self, is_open: bool) {
        *self.0.is_open.lock().unwrap() = is_open;
        self.0.changed.notify_all();
    }

    fn entered(&self) -> usize {
        self.0.entered.load(Ordering::SeqCst)
    }

    /// Whether nobody stands before it.
    fn is_quiet(&self) -> bool {
        self.0.left.load(Ordering::SeqCst) == self.entered()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.set(true);
    }
}

/// Polls a future without any runtime.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(result) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return result;
        }
        thread::park_timeout(DEADLINE);
    }
}

/// A scrape of the mounted service, whose scraper waits for 1.5 s: the scrape ends after one.
fn scrape(telemetry: &Telemetry) -> (u16, String) {
    let service: ScrapeService = telemetry.scrape_service();
    let request = Request::get("/metrics").header("X-Prometheus-Scrape-Timeout-Seconds", "1.5").body(()).unwrap();
    block_on(async {
        let answer = service.oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        (status, String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
    })
}

fn late(page: &str, instrument: &str) -> Option<f64> {
    find(page, &format!("barograph_callback_errors_total{{instrument=\"{instrument}\",reason=\"late\"}}"))
}

#[test]
fn a_callback_that_hangs_costs_one_scrape_and_then_its_own_series_until_it_is_back() {
    let telemetry = telemetry();
    telemetry.meter("m").u64_observable_gauge("before").with_callback(|observer| observer.observe(1, &[])).build();
    let gate = Gate::of(&telemetry, "hangs");
    telemetry.meter("m").u64_observable_gauge("after").with_callback(|observer| observer.observe(1, &[])).build();

    let (status, answer) = scrape(&telemetry);
    assert_eq!(status, 503, "{answer}");
    let named = "failed to collect the metrics within 1s: the callback of `hangs` of meter `m` has been running for ";
    assert!(answer.starts_with(named), "{answer}");
    for times in 1..=3 {
        let (status, page) = scrape(&telemetry);
        assert_eq!(status, 200, "{page}");
        assert!(page.contains("\nbefore{") && page.contains("\nafter{"), "everybody else's are there: {page}");
        assert_eq!(families(&page, "hangs"), "");
        assert_eq!(late(&page, "hangs"), Some(f64::from(times) + 1.0), "{page}");
        assert_eq!(late(&page, "after"), Some(0.0), "{page}");
    }
    assert_eq!(gate.entered(), 1, "it is not called again while it runs");

    gate.set(true);
    wait_until("its series are back", || scrape(&telemetry).1.contains("\nhangs{"));
    let page = telemetry.scrape().unwrap();
    assert_eq!(find(&page, "hangs"), Some(1.0));
    let durations = "barograph_callback_duration_seconds_count{instrument=\"hangs\"}";
    assert!(find(&page, durations) >= Some(2.0), "{page}");
}

#[test]
fn a_callback_that_is_late_every_time_costs_no_other_scrape() {
    let telemetry = telemetry();
    telemetry.meter("m").u64_counter("healthy").build().add(1, &[]);
    let gate = Gate::of(&telemetry, "slow");
    assert_eq!(scrape(&telemetry).0, 503);
    for calls in 2..=4 {
        gate.set(true);
        wait_until("the callback has returned", || gate.is_quiet());
        gate.set(false);
        // On probation it is tried again, and nobody waits for it for long.
        wait_until("it is called again", || {
            let (status, page) = scrape(&telemetry);
            assert_eq!(status, 200, "{page}");
            assert!(page.contains("healthy_total"), "{page}");
            assert_eq!(families(&page, "slow"), "");
            gate.entered() == calls
        });
    }
}

#[test]
fn a_merged_registry_whose_collector_hangs_costs_one_scrape_and_then_its_own_series() {
    use prometheus::core::{Collector, Desc};
    use prometheus::proto::MetricFamily;

    struct Hangs(Desc, Arc<State>);

    impl Collector for Hangs {
        fn desc(&self) -> Vec<&Desc> {
            vec![&self.0]
        }

        fn collect(&self) -> Vec<MetricFamily> {
            self.1.pass();
            Vec::new()
        }
    }

    let gate = Gate::closed();
    let registry = prometheus::Registry::new();
    let desc = Desc::new("hangs".into(), "Hangs.".into(), vec![], Default::default()).unwrap();
    registry.register(Box::new(Hangs(desc, Arc::clone(&gate.0)))).unwrap();
    registry.register(Box::new(prometheus::IntCounter::new("own_total", "Own.").unwrap())).unwrap();
    let telemetry = Telemetry::builder("suite").without_endpoint().with_registry(registry).start().unwrap();
    telemetry.meter("m").u64_counter("healthy").build().add(1, &[]);

    let (status, answer) = scrape(&telemetry);
    assert_eq!(status, 503, "{answer}");
    assert!(answer.contains("the merged prometheus registry has been gathering for "), "{answer}");
    let (status, page) = scrape(&telemetry);
    assert_eq!(status, 200, "{page}");
    assert_eq!((find(&page, "healthy_total"), find(&page, "own_total")), (Some(1.0), None), "{page}");
    assert_eq!(late(&page, "prometheus::Registry"), Some(2.0), "{page}");
    gate.set(true);
    wait_until("its series are back", || find(&scrape(&telemetry).1, "own_total").is_some());
}

#[test]
fn two_callbacks_that_hang_cost_a_scrape_each_at_most() {
    let telemetry = telemetry();
    telemetry.meter("m").u64_counter("healthy").build().add(1, &[]);
    let gates = ["first", "second"].map(|gauge| Gate::of(&telemetry, gauge));
    let answers: Vec<_> = (0..2).map(|_| scrape(&telemetry)).collect();
    for (answer, name) in answers.iter().zip(["first", "second"]) {
        assert_eq!(answer.0, 503, "{answer:?}");
        assert!(answer.1.contains(&format!("the callback of `{name}` of meter `m`")), "{answer:?}");
    }
    for _ in 0..2 {
        let (status, page) = scrape(&telemetry);
        assert_eq!(status, 200, "{page}");
        assert_eq!(find(&page, "healthy_total"), Some(1.0));
    }
    gates[1].set(true);
    wait_until("the second is back", || scrape(&telemetry).1.contains("\nsecond{"));
    assert!(!scrape(&telemetry).1.contains("\nfirst{"));
}

#[test]
fn callbacks_are_not_begun_for_scrapers_that_have_left() {
    fn counting(telemetry: &Telemetry, gauge: &'static str) -> Arc<AtomicUsize> {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let count = move |_: &dyn AsyncInstrument<u64>| {
            counted.fetch_add(1, Ordering::SeqCst);
        };
        telemetry.meter("m").u64_observable_gauge(gauge).with_callback(count).build();
        calls
    }

    let telemetry = telemetry();
    let before = counting(&telemetry, "before");
    let gate = Gate::of(&telemetry, "slow");
    let after = counting(&telemetry, "after");
    {
        let mut scrape = pin!(telemetry.scrape_service().oneshot(Request::get("/metrics").body(()).unwrap()));
        assert!(scrape.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        wait_until("the callback runs", || gate.entered() == 1);
    }
    let page = thread::scope(|scope| {
        let scrape = scope.spawn(|| telemetry.scrape().unwrap());
        wait_until("nobody waits any more for what the first one asked for", || before.load(Ordering::SeqCst) == 2);
        gate.set(true);
        scrape.join().unwrap()
    });
    assert_eq!(after.load(Ordering::SeqCst), 1, "for the second one only");
    assert_eq!((gate.entered(), find(&page, "slow")), (2, Some(1.0)), "{page}");
    assert_eq!(late(&page, "slow"), Some(0.0), "it took no longer than somebody waited for it");
}

#[test]
fn a_pipeline_whose_callback_hangs_for_ever_is_shut_down_in_time_and_in_order() {
    let telemetry = telemetry();
    let gate = Gate::of(&telemetry, "hangs");
    assert_eq!(scrape(&telemetry).0, 503);
    telemetry.shutdown(DEADLINE / 2).unwrap();
    assert!(!gate.is_quiet());
}

#[test]
fn whoever_waits_at_the_end_is_told_so() {
    let telemetry = Arc::new(telemetry());
    let gate = Gate::of(&telemetry, "hangs");
    let service = telemetry.scrape_service();
    let scrape = thread::spawn(move || {
        block_on(service.oneshot(Request::get("/metrics").body(()).unwrap())).unwrap().status().as_u16()
    });
    wait_until("the callback runs", || gate.entered() == 1);
    Arc::into_inner(telemetry).unwrap().shutdown(DEADLINE / 2).unwrap();
    assert_eq!(scrape.join().unwrap(), 503);
    assert!(!gate.is_quiet());
}

#[test]
fn instruments_can_be_built_while_a_callback_hangs() {
    let telemetry = telemetry();
    let gate = Gate::of(&telemetry, "hangs");
    assert_eq!(scrape(&telemetry).0, 503);
    telemetry.meter("m").u64_observable_gauge("hangs").with_callback(|observer| observer.observe(2, &[])).build();
    telemetry.meter("m").u64_observable_gauge("new").with_callback(|observer| observer.observe(2, &[])).build();
    let telemetry = TestTelemetry::from(telemetry);
    telemetry.metric("new").value(2);
    gate.set(true);
    telemetry.metric("hangs").eventually(|hangs| hangs.value(2));
}

#[test]
fn an_observable_that_a_view_drops_is_not_called() {
    use barograph::View;

    let telemetry =
        Telemetry::builder("suite").without_endpoint().with_view(View::of("dropped").dropped()).start().unwrap();
    let gate = Gate::of(&telemetry, "dropped");
    assert_eq!(scrape(&telemetry).0, 200);
    assert_eq!(gate.entered(), 0);
}

#[cfg(feature = "otlp")]
#[test]
fn exports_go_on_although_a_callback_hangs() {
    use barograph::config::{MetricReader, OtlpMetricExporter, PeriodicMetricReader, PushMetricExporter};
    use std::time::Duration;

    use crate::receiver::Receiver;

    let receiver = Receiver::start();
    let exporter = PushMetricExporter::OtlpHttp(OtlpMetricExporter::http(&receiver.url()));
    let reader = PeriodicMetricReader {
        interval: Duration::from_secs(3_600),
        timeout: Some(Duration::from_secs(1)),
        ..PeriodicMetricReader::new(exporter)
    };
    let telemetry =
        Telemetry::builder("suite").without_endpoint().with_reader(MetricReader::Periodic(reader)).start().unwrap();
    telemetry.meter("m").u64_counter("healthy").build().add(3, &[]);
    let gate = Gate::of(&telemetry, "hangs");
    for exports in 1..=3 {
        telemetry.force_flush(DEADLINE).unwrap();
        let received = receiver.received();
        assert_eq!(received.len(), exports);
        let last = received.last().unwrap();
        assert_eq!(last.sum("healthy"), Some(3));
        assert!(last.metric("hangs").is_none());
    }
    assert_eq!(scrape(&telemetry).0, 200, "what one reader did not wait for, another one does not either");
    gate.set(true);
    wait_until("its series are pushed again", || {
        telemetry.force_flush(DEADLINE).unwrap();
        receiver.received().last().is_some_and(|last| last.metric("hangs").is_some())
    });
}

#[cfg(feature = "otlp")]
#[test]
fn a_counter_that_was_late_or_panicked_is_not_counted_again_where_differences_are_pushed() {
    use barograph::config::{
        MetricReader, OtlpMetricExporter, PeriodicMetricReader, Preferences, PushMetricExporter, TemporalityPreference,
    };
    use std::sync::atomic::AtomicU64;
    use std::time::Duration;

    use crate::receiver::Receiver;

    let receiver = Receiver::start();
    let preferences = Preferences { temporality: TemporalityPreference::Delta, ..Preferences::default() };
    let exporter = OtlpMetricExporter { preferences, ..OtlpMetricExporter::http(&receiver.url()) };
    let reader = PeriodicMetricReader {
        interval: Duration::from_secs(3_600),
        timeout: Some(Duration::from_secs(2)),
        ..PeriodicMetricReader::new(PushMetricExporter::OtlpHttp(exporter))
    };
    let telemetry =
        Telemetry::builder("suite").without_endpoint().with_reader(MetricReader::Periodic(reader)).start().unwrap();
    let (gate, count) = (Gate::closed(), Arc::new(AtomicU64::new(100)));
    let (state, counted) = (Arc::clone(&gate.0), Arc::clone(&count));
    let callback = move |observer: &dyn AsyncInstrument<u64>| {
        state.pass();
        let count = counted.load(Ordering::SeqCst);
        assert!(count > 0, "expected: a counter that cannot be read");
        observer.observe(count, &[]);
    };
    telemetry.meter("m").u64_observable_counter("counts").with_callback(callback).build();
    let state = Arc::clone(&gate.0);
    let callback = move |observer: &dyn AsyncInstrument<i64>| {
        state.pass();
        observer.observe(1, &[]);
    };
    telemetry.meter("m").i64_observable_up_down_counter("level").with_callback(callback).build();

    let pushed = || {
        telemetry.force_flush(DEADLINE).unwrap();
        let last = receiver.received().pop().unwrap();
        (last.sum("counts"), last.sum("level"))
    };
    let all = || -> i64 { receiver.received().iter().filter_map(|received| received.sum("counts")).sum() };
    gate.set(true);
    assert_eq!(pushed(), (Some(100), Some(1)));
    gate.set(false);
    for _ in 0..3 {
        assert_eq!(pushed(), (Some(0), None), "what is no difference is missing while it is not known");
    }
    count.store(110, Ordering::SeqCst);
    gate.set(true);
    wait_until("both are back", || pushed().1.is_some() && all() == 110);
    crate::support::without_panic_messages(|| {
        count.store(0, Ordering::SeqCst);
        for _ in 0..2 {
            assert_eq!(pushed().0, Some(0), "a callback that panics is as good as late");
        }
        count.store(115, Ordering::SeqCst);
        wait_until("it is back", || pushed().0.is_some() && all() == 115);
    });
}

#[cfg(feature = "otlp")]
#[test]
fn the_last_values_are_delivered_although_a_callback_hangs() {
    use barograph::config::{MetricReader, OtlpMetricExporter, PeriodicMetricReader, PushMetricExporter};
    use std::time::Duration;

    use crate::receiver::Receiver;

    let receiver = Receiver::start();
    let exporter = PushMetricExporter::OtlpHttp(OtlpMetricExporter::http(&receiver.url()));
    let reader = PeriodicMetricReader { interval: Duration::from_millis(10), ..PeriodicMetricReader::new(exporter) };
    let telemetry =
        Telemetry::builder("suite").without_endpoint().with_reader(MetricReader::Periodic(reader)).start().unwrap();
    let gate = Gate::of(&telemetry, "hangs");
    wait_until("the callback runs for an export", || gate.entered() == 1);
    telemetry.meter("m").u64_counter("healthy").build().add(3, &[]);
    telemetry.shutdown(DEADLINE / 3).unwrap();
    assert_eq!(receiver.received().last().unwrap().sum("healthy"), Some(3));
    assert!(!gate.is_quiet());
}
