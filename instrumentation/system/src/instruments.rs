//! The observables, registered once on a meter. They read the latest reading and nothing else.

use barograph::opentelemetry::metrics::Meter;
use barograph::{MeterExt, ObservableGaugeSpec, Registration};

use crate::reading::Reading;
use crate::refresh::Latest;
use crate::semconv;

pub(crate) fn register(meter: &Meter, latest: &Latest) -> [Registration; 7] {
    let gauge = |spec: &ObservableGaugeSpec, value: fn(Reading) -> Option<f64>| {
        let latest = latest.clone();
        meter.observable_gauge(spec, move |observer| {
            if let Some(value) = value(latest.get()) {
                observer.observe(value, ());
            }
        })
    };
    let counted = latest.clone();
    [
        gauge(&semconv::SYSTEM_CPU, |reading| reading.cpu_percent),
        gauge(&semconv::SYSTEM_MEMORY, |reading| reading.memory_percent),
        gauge(&semconv::SYSTEM_DISK, |reading| reading.disk_percent),
        meter.observable_counter(&semconv::PROCESS_CPU, move |observer| {
            if let Some(seconds) = counted.get().process_cpu_seconds {
                observer.observe(seconds, ());
            }
        }),
        gauge(&semconv::PROCESS_RESIDENT_MEMORY, |reading| reading.resident_bytes),
        gauge(&semconv::PROCESS_OPEN_FILE_DESCRIPTORS, |reading| reading.open_file_descriptors),
        gauge(&semconv::PROCESS_THREADS_COUNT, |reading| reading.threads),
    ]
}
