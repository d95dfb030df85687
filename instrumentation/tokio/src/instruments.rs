//! The instruments: the observables of the runtimes, registered once, and those of the tasks, bound once for each kind.

use std::sync::Arc;

use barograph::opentelemetry::metrics::{
    BoundCounter, BoundHistogram, BoundUpDownCounter, Counter, Histogram, Meter, UpDownCounter,
};
use barograph::opentelemetry::{KeyValue, StringValue};
use barograph::{Attribute, MeterExt, ObservableCounterSpec, ObservableUpDownCounterSpec, Registration};
use tokio::runtime::RuntimeMetrics;

use crate::runtime::{Runtime, Watched};
use crate::semconv;
use crate::semconv::{TaskOutcome, WORKER_ID};
use crate::unstable;

#[derive(Debug)]
pub(crate) struct Instruments {
    pub(crate) watched: Arc<Watched>,
    _runtimes: Vec<Registration>,
    count: UpDownCounter<i64>,
    ended: Counter<u64>,
    poll_duration: Histogram<f64>,
    schedule_duration: Histogram<f64>,
}

/// The series of one kind of task.
#[derive(Debug)]
pub(crate) struct PerKind {
    pub(crate) count: BoundUpDownCounter<i64>,
    ended: Vec<BoundCounter<u64>>,
    pub(crate) poll_duration: BoundHistogram<f64>,
    pub(crate) schedule_duration: BoundHistogram<f64>,
}

impl Instruments {
    pub(crate) fn new(meter: &Meter, watched: &Arc<Watched>) -> Self {
        let mut runtimes = vec![
            count(meter, watched, &semconv::WORKER_COUNT, RuntimeMetrics::num_workers),
            // Without the one that waits for the end of the runtime.
            count(meter, watched, &semconv::TASK_COUNT, |metrics| metrics.num_alive_tasks().saturating_sub(1)),
            count(meter, watched, &semconv::GLOBAL_QUEUE_LENGTH, RuntimeMetrics::global_queue_depth),
            total(meter, watched, &semconv::WORKER_PARKS, |metrics| {
                (0..metrics.num_workers()).map(|worker| metrics.worker_park_count(worker)).sum()
            }),
            busy_time(meter, watched),
        ];
        runtimes.extend(unstable::register(meter, watched));
        Self {
            watched: Arc::clone(watched),
            _runtimes: runtimes,
            count: meter.open_up_down_counter(&semconv::INSTRUMENTED_COUNT),
            ended: meter.open_counter(&semconv::INSTRUMENTED_ENDED),
            poll_duration: meter.open_histogram(&semconv::POLL_DURATION),
            schedule_duration: meter.open_histogram(&semconv::SCHEDULE_DURATION),
        }
    }

    pub(crate) fn tasks_of(&self, kind: StringValue) -> PerKind {
        let kind = KeyValue::new(semconv::TASK_KIND, kind);
        let ended = |&outcome: &TaskOutcome| self.ended.bind(&[kind.clone(), outcome.into()]);
        PerKind {
            ended: TaskOutcome::ALL.iter().map(ended).collect(),
            count: self.count.bind(std::slice::from_ref(&kind)),
            poll_duration: self.poll_duration.bind(std::slice::from_ref(&kind)),
            schedule_duration: self.schedule_duration.bind(std::slice::from_ref(&kind)),
        }
    }
}

impl PerKind {
    pub(crate) fn end(&self, outcome: TaskOutcome) {
        if let Some(ended) = self.ended.get(outcome.index()) {
            ended.add(1);
        }
        self.count.add(-1);
    }
}

/// How many there are of something in each runtime.
pub(crate) fn count(
    meter: &Meter,
    watched: &Arc<Watched>,
    spec: &ObservableUpDownCounterSpec,
    value: fn(&RuntimeMetrics) -> usize,
) -> Registration {
    let watched = Arc::clone(watched);
    meter.observable_up_down_counter(spec, move |observer| {
        watched.each(|Runtime { name, metrics, .. }| {
            observer.observe_with(value(metrics) as f64, (), std::slice::from_ref(name));
        });
    })
}

/// How often something has happened in each runtime.
pub(crate) fn total(
    meter: &Meter,
    watched: &Arc<Watched>,
    spec: &ObservableCounterSpec,
    value: fn(&RuntimeMetrics) -> u64,
) -> Registration {
    let watched = Arc::clone(watched);
    meter.observable_counter(spec, move |observer| {
        watched.each(|Runtime { name, metrics, .. }| {
            observer.observe_with(value(metrics) as f64, (), std::slice::from_ref(name));
        });
    })
}

fn busy_time(meter: &Meter, watched: &Arc<Watched>) -> Registration {
    let watched = Arc::clone(watched);
    meter.observable_counter(&semconv::WORKER_BUSY_TIME, move |observer| {
        watched.each(|runtime| {
            for (worker, attributes) in runtime.workers() {
                observer.observe_with(
                    runtime.metrics.worker_total_busy_duration(worker).as_secs_f64(),
                    (),
                    &attributes,
                );
            }
        });
    })
}

impl Runtime {
    /// The runtime's workers, with the attributes of each.
    pub(crate) fn workers(&self) -> impl Iterator<Item = (usize, [KeyValue; 2])> {
        (0..self.metrics.num_workers()).map(|worker| {
            let id = KeyValue::new(WORKER_ID, i64::try_from(worker).unwrap_or(i64::MAX));
            (worker, [self.name.clone(), id])
        })
    }
}
