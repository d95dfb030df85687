//! Where collected data goes.

mod prometheus;
mod registry;

pub(crate) use self::prometheus::PrometheusExporter;
pub(crate) use self::registry::{MergedRegistry, is_same_registry, registry_reader};
