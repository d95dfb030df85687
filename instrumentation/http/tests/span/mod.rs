//! The span that a request is recorded in: exemplars have their trace from it.

use std::convert::Infallible;
use std::future::ready;
use std::sync::{Arc, Mutex};

use barograph::opentelemetry::metrics::{
    BoundSyncInstrument, Histogram, HistogramBuilder, InstrumentProvider, Meter, MeterProvider, SyncInstrument,
};
use barograph::opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use barograph::opentelemetry::{Context, InstrumentationScope, KeyValue};
use barograph_instrumentation_http::HttpServerMetrics;
use http::{Request, Response};
use tower::{Layer, Service, service_fn};

#[tokio::test]
async fn a_request_is_recorded_in_the_span_that_it_was_handed_over_in() {
    let seen = Seen::default();
    let layer = HttpServerMetrics::new(&seen).layer();
    let mut service = layer.layer(service_fn(|_| ready(Ok::<_, Infallible>(Response::new("body".to_owned())))));
    let asked = {
        let _span = span(17).attach();
        service.call(Request::new(String::new()))
    };
    // Its body ends in no span, or in another one.
    drop(asked.await);
    assert_eq!(*seen.0.lock().unwrap(), [TraceId::from(17); 3]);
    assert!(!Context::current().has_active_span());
    let asked = service.call(Request::new(String::new()));
    let _other = span(18).attach();
    drop(asked.await);
    assert_eq!(seen.0.lock().unwrap()[3..], [TraceId::from(18); 3]);
}

fn span(trace: u128) -> Context {
    let (trace, span) = (TraceId::from(trace), SpanId::from(1));
    let context = SpanContext::new(trace, span, TraceFlags::SAMPLED, true, TraceState::NONE);
    Context::new().with_remote_span_context(context)
}

/// The traces in which histograms were recorded to.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<TraceId>>>);

impl Seen {
    fn look(&self) {
        self.0.lock().unwrap().push(Context::current().span().span_context().trace_id());
    }
}

impl MeterProvider for Seen {
    fn meter_with_scope(&self, _: InstrumentationScope) -> Meter {
        Meter::new(Arc::new(self.clone()))
    }
}

impl InstrumentProvider for Seen {
    fn f64_histogram(&self, _: HistogramBuilder<'_, Histogram<f64>>) -> Histogram<f64> {
        Histogram::new(Arc::new(self.clone()))
    }
}

impl SyncInstrument<f64> for Seen {
    fn measure(&self, _: f64, _: &[KeyValue]) {
        self.look();
    }

    fn bind(&self, _: &[KeyValue]) -> Box<dyn BoundSyncInstrument<f64> + Send + Sync> {
        Box::new(self.clone())
    }
}

impl BoundSyncInstrument<f64> for Seen {
    fn measure(&self, _: f64) {
        self.look();
    }
}
