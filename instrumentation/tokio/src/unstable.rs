//! What only an unstable tokio tells: compiled with `--cfg tokio_unstable`.

use std::sync::Arc;

use barograph::opentelemetry::KeyValue;
use barograph::opentelemetry::metrics::Meter;
use barograph::{MeterExt, Registration};
use tokio::runtime::RuntimeMetrics;

use crate::instruments::{count, total};
use crate::runtime::{Runtime, Watched};
use crate::semconv;
use crate::semconv::{POLL_DURATION_LIMIT, ThreadState};

pub(crate) fn register(meter: &Meter, watched: &Arc<Watched>) -> [Registration; 11] {
    [
        count(meter, watched, &semconv::BLOCKING_QUEUE_LENGTH, RuntimeMetrics::blocking_queue_depth),
        count(meter, watched, &semconv::IO_COUNT, |metrics| {
            let gone = metrics.io_driver_fd_deregistered_count();
            usize::try_from(metrics.io_driver_fd_registered_count().saturating_sub(gone)).unwrap_or(usize::MAX)
        }),
        total(meter, watched, &semconv::IO_EVENTS, RuntimeMetrics::io_driver_ready_count),
        // Without the one that waits for the end of the runtime.
        total(meter, watched, &semconv::TASKS_SPAWNED, |metrics| metrics.spawned_tasks_count().saturating_sub(1)),
        total(meter, watched, &semconv::FORCED_YIELDS, RuntimeMetrics::budget_forced_yield_count),
        total(meter, watched, &semconv::WORKER_STEALS, |metrics| of_all(metrics, RuntimeMetrics::worker_steal_count)),
        total(meter, watched, &semconv::WORKER_OVERFLOWS, |metrics| {
            of_all(metrics, RuntimeMetrics::worker_overflow_count)
        }),
        local_queues(meter, watched),
        blocking_threads(meter, watched),
        polls(meter, watched),
        polls_within(meter, watched),
    ]
}

fn of_all(metrics: &RuntimeMetrics, value: fn(&RuntimeMetrics, usize) -> u64) -> u64 {
    (0..metrics.num_workers()).map(|worker| value(metrics, worker)).sum()
}

fn local_queues(meter: &Meter, watched: &Arc<Watched>) -> Registration {
    let watched = Arc::clone(watched);
    meter.observable_up_down_counter(&semconv::LOCAL_QUEUE_LENGTH, move |observer| {
        watched.each(|runtime| {
            for (worker, attributes) in runtime.workers() {
                observer.observe_with(runtime.metrics.worker_local_queue_depth(worker) as f64, (), &attributes);
            }
        });
    })
}

fn blocking_threads(meter: &Meter, watched: &Arc<Watched>) -> Registration {
    let watched = Arc::clone(watched);
    meter.observable_up_down_counter(&semconv::BLOCKING_THREAD_COUNT, move |observer| {
        watched.each(|Runtime { name, metrics, .. }| {
            let idle = metrics.num_idle_blocking_threads();
            // The two are not read at one moment.
            let busy = metrics.num_blocking_threads().saturating_sub(idle);
            observer.observe_with(idle as f64, ThreadState::Idle, std::slice::from_ref(name));
            observer.observe_with(busy as f64, ThreadState::Busy, std::slice::from_ref(name));
        });
    })
}

fn polls(meter: &Meter, watched: &Arc<Watched>) -> Registration {
    let watched = Arc::clone(watched);
    meter.observable_counter(&semconv::WORKER_POLLS, move |observer| {
        watched.each(|runtime| {
            for (worker, attributes) in runtime.workers() {
                observer.observe_with(runtime.metrics.worker_poll_count(worker) as f64, (), &attributes);
            }
        });
    })
}

/// OpenTelemetry has no histogram that is read: the buckets are counters.
fn polls_within(meter: &Meter, watched: &Arc<Watched>) -> Registration {
    let watched = Arc::clone(watched);
    meter.observable_counter(&semconv::WORKER_POLLS_WITHIN, move |observer| {
        watched.each(|Runtime { name, metrics, .. }| {
            if !metrics.poll_time_histogram_enabled() {
                return;
            }
            let buckets = metrics.poll_time_histogram_num_buckets();
            let mut polls = 0;
            for bucket in 0..buckets {
                polls += (0..metrics.num_workers())
                    .map(|worker| metrics.poll_time_histogram_bucket_count(worker, bucket))
                    .sum::<u64>();
                let limit = match metrics.poll_time_histogram_bucket_range(bucket).end.as_secs_f64() {
                    // The last one has none.
                    _ if bucket + 1 == buckets => "+Inf".to_owned(),
                    seconds => seconds.to_string(),
                };
                let attributes = [name.clone(), KeyValue::new(POLL_DURATION_LIMIT, limit)];
                observer.observe_with(polls as f64, (), &attributes);
            }
        });
    })
}
