//! From the fields of an event to values of instruments.

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};

use barograph::opentelemetry::{KeyValue, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::instruments::{Instruments, is_counter, is_metric};

pub(crate) struct MetricLayer {
    instruments: Instruments,
    attributes: Box<[&'static str]>,
    /// Fields that have been said to have a wrong value.
    refused: Mutex<HashSet<&'static str>>,
}

impl MetricLayer {
    pub(crate) fn new(instruments: Instruments, attributes: &[&'static str]) -> Self {
        Self { instruments, attributes: attributes.into(), refused: Mutex::default() }
    }

    fn refuse(&self, field: &'static str, problem: &str, event: &Event<'_>) {
        let is_first = self.refused.lock().unwrap_or_else(PoisonError::into_inner).insert(field);
        if is_first {
            // This event has no metric in it, so it does not come back here. A subscriber that is scoped never sees it.
            let metadata = event.metadata();
            let (file, line) = (metadata.file().unwrap_or("an unknown file"), metadata.line().unwrap_or(0));
            tracing::warn!("`{field}` is {problem} in the event at {file}:{line} and is not recorded");
        }
    }
}

impl<S: Subscriber> Layer<S> for MetricLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut found = Found { listed: &self.attributes, values: Vec::new(), attributes: Vec::new() };
        event.record(&mut found);
        for (field, value) in &found.values {
            match value {
                None => self.refuse(field, "no number", event),
                Some(value) if *value < 0.0 && is_counter(field) => self.refuse(field, "less than 0", event),
                Some(value) if value.is_finite() => self.instruments.record(field, *value, &found.attributes),
                Some(_) => {}
            }
        }
    }
}

/// What an event says about metrics.
struct Found<'a> {
    listed: &'a [&'static str],
    /// Metrics by the names of their fields; `None` for a value that is no number.
    values: Vec<(&'static str, Option<f64>)>,
    attributes: Vec<KeyValue>,
}

impl Found<'_> {
    fn number(&mut self, field: &Field, number: f64, value: impl FnOnce() -> Value) {
        if is_metric(field.name()) {
            self.values.push((field.name(), Some(number)));
        } else {
            self.attribute(field, value);
        }
    }

    fn other(&mut self, field: &Field, value: impl FnOnce() -> Value) {
        if is_metric(field.name()) {
            self.values.push((field.name(), None));
        } else {
            self.attribute(field, value);
        }
    }

    fn attribute(&mut self, field: &Field, value: impl FnOnce() -> Value) {
        if self.listed.contains(&field.name()) {
            self.attributes.push(KeyValue::new(field.name(), value()));
        }
    }
}

impl Visit for Found<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.number(field, value, || value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.number(field, value as f64, || value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        // OpenTelemetry's integers have a sign.
        self.number(field, value as f64, || {
            i64::try_from(value).map_or_else(|_| value.to_string().into(), Value::from)
        });
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.number(field, value as f64, || value.to_string().into());
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.number(field, value as f64, || value.to_string().into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.other(field, || value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.other(field, || value.to_owned().into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.other(field, || format!("{value:?}").into());
    }
}
