//! Who is measured: the resource that every series belongs to, exposed as `target_info`.

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;

/// The service's name, the attributes given in code, then what `OTEL_RESOURCE_ATTRIBUTES` and the SDK add.
///
/// Code wins over the environment. Specification: "Resource SDK", "Merge" and "Specifying resource information via an
/// environment variable".
pub(crate) fn resource(service_name: String, attributes: Vec<KeyValue>) -> Resource {
    Resource::builder().with_attributes(attributes).with_service_name(service_name).build()
}
