//! Units of `metrics` in UCUM, which OpenTelemetry writes them in.

use metrics::Unit;

pub(crate) fn ucum(unit: Unit) -> &'static str {
    match unit {
        Unit::Count => "{count}",
        Unit::Percent => "%",
        Unit::Seconds => "s",
        Unit::Milliseconds => "ms",
        Unit::Microseconds => "us",
        Unit::Nanoseconds => "ns",
        Unit::Tebibytes => "TiBy",
        Unit::Gibibytes => "GiBy",
        Unit::Mebibytes => "MiBy",
        Unit::Kibibytes => "KiBy",
        Unit::Bytes => "By",
        Unit::TerabitsPerSecond => "Tbit/s",
        Unit::GigabitsPerSecond => "Gbit/s",
        Unit::MegabitsPerSecond => "Mbit/s",
        Unit::KilobitsPerSecond => "kbit/s",
        Unit::BitsPerSecond => "bit/s",
        Unit::CountPerSecond => "{count}/s",
    }
}

/// The unit that a name in the manner of Prometheus ends with. Such names are rarely described, and without a unit a
/// histogram gets buckets that fit nothing.
pub(crate) fn of_name(name: &str) -> &'static str {
    match name.rsplit(['_', '.']).next() {
        Some("seconds") => "s",
        Some("milliseconds") => "ms",
        Some("microseconds") => "us",
        Some("nanoseconds") => "ns",
        Some("bytes") => "By",
        _ => "",
    }
}
