//! Who is measured: the resource that every series belongs to, exposed as `target_info`.

use std::env;
use std::fs;

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::TelemetryResourceDetector;

/// What the SDK says about itself, what was found, and what was given, each of which wins over the one before.
///
/// Specification: "Resource SDK", "Merge"; "SDK-provided resource attributes".
pub(crate) fn resource(found: Vec<KeyValue>, given: Vec<KeyValue>, schema_url: Option<String>) -> Resource {
    let resource = Resource::builder_empty()
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_attribute(KeyValue::new("service.name", unknown_service()))
        .with_attributes(found);
    match schema_url {
        Some(url) => resource.with_schema_url(given, url).build(),
        None => resource.with_attributes(given).build(),
    }
}

/// The name of a service that nobody named. Specification: `service.name` in the resource semantic conventions.
pub(crate) fn unknown_service() -> String {
    executable_name().map_or_else(|| "unknown_service".to_owned(), |name| format!("unknown_service:{name}"))
}

fn executable_name() -> Option<String> {
    env::current_exe().ok()?.file_name().map(|name| name.to_string_lossy().into_owned())
}

/// `container.id`, as the control groups or the mounts of the process tell it.
pub(crate) fn container() -> Vec<KeyValue> {
    let from = |path: &str| fs::read_to_string(path).ok().as_deref().and_then(container_id);
    let id = from("/proc/self/cgroup").or_else(|| from("/proc/self/mountinfo"));
    id.map(|id| KeyValue::new("container.id", id)).into_iter().collect()
}

/// The first name of 64 hexadecimal digits, which is what container runtimes call what they run.
fn container_id(text: &str) -> Option<String> {
    let words = text.split(|character: char| !character.is_ascii_alphanumeric());
    let mut ids = words.filter(|word| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit()));
    ids.next().map(str::to_owned)
}

/// `host.*` and `os.*`.
pub(crate) fn host() -> Vec<KeyValue> {
    // By the names of the semantic conventions, where Rust has others.
    let architecture = match env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "arm" => "arm32",
        "powerpc" => "ppc32",
        "powerpc64" => "ppc64",
        other => other,
    };
    let system = if env::consts::OS == "macos" { "darwin" } else { env::consts::OS };
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| env::var("HOSTNAME").ok());
    let name = name.map(|name| KeyValue::new("host.name", name.trim().to_owned()));
    name.into_iter().chain([KeyValue::new("host.arch", architecture), KeyValue::new("os.type", system)]).collect()
}

/// `process.*`. The command line is left out: it may hold secrets.
pub(crate) fn process() -> Vec<KeyValue> {
    let path = env::current_exe().ok().map(|path| path.to_string_lossy().into_owned());
    let name = executable_name().map(|name| KeyValue::new("process.executable.name", name));
    let path = path.map(|path| KeyValue::new("process.executable.path", path));
    let pid = KeyValue::new("process.pid", i64::from(std::process::id()));
    [pid, KeyValue::new("process.runtime.name", "rust")].into_iter().chain(name).chain(path).collect()
}

/// `service.instance.id`, a random one, and `service.name` if the environment has it.
pub(crate) fn service(name: Option<String>) -> Vec<KeyValue> {
    let name = name.map(|name| KeyValue::new("service.name", name));
    let id = KeyValue::new("service.instance.id", random_uuid(fastrand::u128(..)));
    name.into_iter().chain([id]).collect()
}

/// A UUID of version 4.
fn random_uuid(random: u128) -> String {
    let bits = random & !(0xf << 76) & !(0b11 << 62) | 4 << 76 | 0b10 << 62;
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_uuid_is_one_of_version_4() {
        assert_eq!(random_uuid(0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(random_uuid(u128::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }

    #[test]
    fn the_container_is_found_in_control_groups_and_in_mounts() {
        let id = "0123456789abcdef".repeat(4);
        assert_eq!(container_id(&format!("0::/system.slice/docker-{id}.scope\n")), Some(id.clone()));
        assert_eq!(container_id(&format!("13:pids:/kubepods/pod1/{id}\n")), Some(id.clone()));
        assert_eq!(container_id(&format!("1 2 0:1 /var/lib/containers/{id}/hostname /etc/hostname\n")), Some(id));
        assert_eq!(container_id("0::/\n"), None);
        assert_eq!(container_id(&"g".repeat(64)), None);
    }
}
