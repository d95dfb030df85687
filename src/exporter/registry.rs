//! The bridge to programs that already own a `prometheus::Registry`, in both directions.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use opentelemetry_prometheus::PrometheusExporter;
use opentelemetry_sdk::error::OTelSdkError;
use prometheus::proto::MetricFamily;
use prometheus::{IntGauge, Registry};

use crate::self_metrics::SelfMetrics;

/// A registry whose metrics are part of our scrape.
pub(crate) struct MergedRegistry {
    registry: Registry,
    self_metrics: Arc<SelfMetrics>,
}

impl MergedRegistry {
    pub(crate) fn new(registry: Registry, self_metrics: Arc<SelfMetrics>) -> Self {
        Self { registry, self_metrics }
    }

    /// What the registry has now. A collector that panics costs the registry's families of this scrape, and is counted.
    pub(crate) fn gather(&self) -> Vec<MetricFamily> {
        catch_unwind(AssertUnwindSafe(|| self.registry.gather())).unwrap_or_else(|_| {
            self.self_metrics.callback_panicked("prometheus::Registry");
            Vec::new()
        })
    }
}

/// A reader that shows our metrics in the caller's registry, by the names and rules of opentelemetry-prometheus.
pub(crate) fn registry_reader(registry: &Registry) -> Result<PrometheusExporter, OTelSdkError> {
    opentelemetry_prometheus::exporter().with_registry(registry.clone()).build()
}

/// Whether two handles are the same registry. The crate has no such question, so a probe asks it: what was registered
/// with the one can only be taken from the other if they are one.
pub(crate) fn is_same_registry(a: &Registry, b: &Registry) -> bool {
    let Ok(probe) = IntGauge::new("barograph_same_registry_probe", "Never gathered.") else {
        return false;
    };
    if a.register(Box::new(probe.clone())).is_err() {
        return false;
    }
    let same = b.unregister(Box::new(probe.clone())).is_ok();
    if !same {
        let _ = a.unregister(Box::new(probe));
    }
    same
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_of_a_registry_are_the_same_and_two_registries_are_not() {
        let registry = Registry::new();
        assert!(is_same_registry(&registry, &registry.clone()));
        assert!(!is_same_registry(&registry, &Registry::new()));
        assert!(registry.gather().is_empty(), "the probe was left behind");
    }
}
