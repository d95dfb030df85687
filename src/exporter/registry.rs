//! The bridge to programs that already own a `prometheus::Registry`, in both directions.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use opentelemetry_prometheus::PrometheusExporter;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGauge, Registry};

use crate::error::{InstrumentName, ScrapeError};
use crate::guard::Watched;
use crate::self_metrics::SelfMetrics;

/// A registry whose metrics are part of our scrape. It is gathered as callbacks are run: a collector that hangs or panics
/// costs the registry's families of this scrape, and is counted.
pub(crate) type MergedRegistry = Watched<Vec<MetricFamily>>;

pub(crate) fn merged_registry(registry: Registry, self_metrics: &SelfMetrics) -> MergedRegistry {
    let name = InstrumentName { name: ScrapeError::MERGED_REGISTRY.to_owned(), scope: String::new() };
    let metrics = Arc::new(self_metrics.callback(&name.name));
    let counted = Arc::clone(&metrics);
    Watched::new(name, metrics, move || {
        catch_unwind(AssertUnwindSafe(|| registry.gather())).unwrap_or_else(|_| {
            counted.panicked();
            Vec::new()
        })
    })
}

/// Our metrics in the caller's registry, by the names and rules of opentelemetry-prometheus, for as long as this lives.
///
/// The bridge below registers a collector that nobody can take out again. So it gets a registry of its own, and the
/// caller's gets a collector that asks that one.
#[derive(Debug)]
#[must_use = "the metrics leave the registry when this is dropped"]
pub(crate) struct ExportedRegistry {
    registry: Registry,
    collector: Delegate,
}

impl ExportedRegistry {
    /// Registers, and returns the reader that the SDK must be given.
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<(Self, PrometheusExporter)> {
        let ours = Registry::new();
        let reader = opentelemetry_prometheus::exporter()
            .with_registry(ours.clone())
            .build()
            .map_err(|error| prometheus::Error::Msg(error.to_string()))?;
        let help = "The metrics of Barograph's pipeline.".to_owned();
        let desc = Desc::new("barograph_exported_metrics".to_owned(), help, Vec::new(), HashMap::new())?;
        let collector = Delegate { desc, registry: ours };
        registry.register(Box::new(collector.clone()))?;
        Ok((Self { registry: registry.clone(), collector }, reader))
    }
}

impl Drop for ExportedRegistry {
    fn drop(&mut self) {
        // It fails only if the caller has taken it out already.
        let _ = self.registry.unregister(Box::new(self.collector.clone()));
    }
}

/// Collects what another registry gathers.
#[derive(Clone, Debug)]
struct Delegate {
    desc: Desc,
    registry: Registry,
}

impl Collector for Delegate {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }
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
