//! Where collected data goes.

mod prometheus;
mod registry;

pub(crate) use self::prometheus::{Asked, PrometheusExporter, PrometheusOptions, ResourceLabels};
pub(crate) use self::registry::{ExportedRegistry, MergedRegistry, is_same_registry};
