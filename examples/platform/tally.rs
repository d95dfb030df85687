//! What the workers count for themselves, so that the end can tell whether the metrics say the same.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts by series, written as a scrape shows them: `test_watcher_tests_run_total{status="pass"}`.
///
/// Every worker keeps one of its own. It knows nothing of OpenTelemetry. Clones count into the same tally.
#[derive(Clone, Default)]
pub(crate) struct Tally {
    counts: Arc<Mutex<BTreeMap<String, f64>>>,
}

impl Tally {
    pub(crate) fn one(&self, series: impl Into<String>) {
        self.add(series, 1.0);
    }

    pub(crate) fn add(&self, series: impl Into<String>, n: f64) {
        *self.lock().entry(series.into()).or_default() += n;
    }

    pub(crate) fn set(&self, series: impl Into<String>, value: f64) {
        self.lock().insert(series.into(), value);
    }

    /// The sum of all series whose text begins like this: those of a metric, or of one with its first label.
    pub(crate) fn sum(&self, prefix: &str) -> f64 {
        self.lock().iter().filter(|(series, _)| series.starts_with(prefix)).fold(0.0, |sum, (_, count)| sum + count)
    }

    pub(crate) fn counts(&self) -> BTreeMap<String, f64> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, f64>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
