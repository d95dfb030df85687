//! What only an unstable tokio tells, where tokio is stable: nothing.

use std::sync::Arc;

use barograph::Registration;
use barograph::opentelemetry::metrics::Meter;

use crate::runtime::Watched;

pub(crate) fn register(_: &Meter, _: &Arc<Watched>) -> [Registration; 0] {
    []
}
