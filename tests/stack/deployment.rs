//! What `deploy/` says, read by the tools that it is for, without an engine, a cluster or systemd at work: docker-compose,
//! kustomize and the schemas of Kubernetes and of the Prometheus operator, systemd-analyze, and a real Collector that a
//! platform pushes through.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;

use crate::UP;
use crate::otlp::collector::Collector;
use crate::otlp::victoria::{self, Victoria};
use crate::platform::binary;
use crate::process::{self, Server, installed, poll, run, skip};
use crate::prometheus;
use crate::request::get;

const INSTALLER: &str = "tests/stack/install-validators";

/// The oldest version of Kubernetes that the manifests are for.
const KUBERNETES: &str = "1.33";

/// The folders that are applied.
const KUSTOMIZATIONS: [&str; 3] = ["base", "overlays/pod-monitor", "overlays/collector"];

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(deploy(path)).unwrap_or_else(|error| panic!("deploy/{path}: {error}"))
}

fn elements(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn words(value: &Value) -> Vec<&str> {
    elements(value).map(text).collect()
}

/// The output of a program that has to succeed. What it says on the side is for the message alone.
#[track_caller]
fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// The last part of an image's name, which has to be one version and no other.
#[track_caller]
fn assert_is_pinned(image: &str) {
    let (name, tag) = image.rsplit_once(':').unwrap_or_else(|| panic!("{image} names no version"));
    let numbers = tag.trim_start_matches('v').split('-').next().unwrap_or_default();
    let is_version = numbers.split('.').all(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()));
    let parts = numbers.split('.').count();
    // Debian has two numbers.
    assert!(is_version && (parts == 3 || parts == 2 && name == "debian"), "{image} names no exact version");
}

/// Compose's view of the services of a variant, by name.
fn services(bin: &Path, options: &[&str], environment: &[(&str, &str)]) -> serde_json::Map<String, Value> {
    services_of(bin, "compose/compose.yaml", options, environment)
}

fn services_of(
    bin: &Path,
    file: &str,
    options: &[&str],
    environment: &[(&str, &str)],
) -> serde_json::Map<String, Value> {
    let mut command = Command::new(bin.join("docker-compose"));
    command.arg("--file").arg(deploy(file)).args(options).args(["config", "--format", "json"]);
    for variable in ["COMPOSE_PROFILES", "COMPOSE_FILE", "PLATFORM_FLAGS", "GRAFANA_ADMIN_PASSWORD"] {
        command.env_remove(variable);
    }
    let configuration: Value = serde_json::from_str(&output(command.envs(environment.iter().copied()))).unwrap();
    configuration["services"].as_object().unwrap().clone()
}

const VARIANTS: [(&[&str], &[&str]); 2] = [
    (&[], &["alertmanager", "grafana", "platform", "prometheus"]),
    (&["--profile", "otlp"], &["alertmanager", "grafana", "otel-collector", "platform-otlp", "prometheus-otlp"]),
];

#[test]
fn compose_starts_one_platform_and_one_prometheus_in_each_variant() {
    let Some(bin) = process::require(&["docker-compose"], INSTALLER) else { return };
    for (options, expected) in VARIANTS {
        let services = services(&bin, options, &[]);
        assert_eq!(services.keys().collect::<Vec<_>>(), expected);
        // Whatever it is called, the others find it by one name.
        for name in expected.iter().filter(|name| name.ends_with("-otlp")) {
            let alias = name.trim_end_matches("-otlp");
            assert_eq!(words(&services[*name]["networks"]["metrics"]["aliases"]), [alias]);
        }
    }
    let [scraped, pushed] = VARIANTS.map(|(options, _)| services(&bin, options, &[]));
    let configuration = |prometheus: &Value| {
        let file =
            words(&prometheus["command"]).into_iter().find_map(|flag| flag.strip_prefix("--config.file=")).unwrap();
        read(&format!("prometheus/{}", Path::new(file).file_name().unwrap().display()))
    };
    assert!(configuration(&scraped["prometheus"]).contains("platform:9464"));
    assert!(!configuration(&pushed["prometheus-otlp"]).contains("9464"), "what is pushed would be counted twice");
    assert_eq!(scraped["platform"]["environment"]["OTEL_METRICS_EXPORTER"], "prometheus");
    assert_eq!(scraped["platform"]["image"], pushed["platform-otlp"]["image"]);
}

#[test]
fn every_container_of_compose_is_confined_and_published_on_loopback_alone() {
    let Some(bin) = process::require(&["docker-compose"], INSTALLER) else { return };
    for (options, _) in VARIANTS {
        for (name, service) in services(&bin, options, &[]) {
            let rule = |holds: bool, rule: &str| assert!(holds, "{name}: {rule}: {service:#}");
            assert_is_pinned(text(&service["image"]));
            rule(service["read_only"] == true, "its file system is read only");
            rule(words(&service["cap_drop"]) == ["ALL"] && service["cap_add"].is_null(), "it has no capabilities");
            rule(words(&service["security_opt"]) == ["no-new-privileges:true"], "nor can it get any");
            let may_not = ["privileged", "user", "pid", "network_mode", "devices", "ipc"];
            rule(may_not.iter().all(|key| service[*key].is_null()), "it is no root, and shares nothing with the host");
            rule(!service["mem_limit"].is_null() && !service["pids_limit"].is_null(), "it cannot eat the machine");
            rule(service["restart"] == "unless-stopped", "it comes back");
            // What is built here has one in its image.
            let is_checked = !service["healthcheck"].is_null() || !service["build"].is_null();
            rule(is_checked, "it has a health check, or says that it has none");
            for port in elements(&service["ports"]) {
                rule(port["host_ip"] == "127.0.0.1", "its ports are published on loopback");
                rule(
                    text(&port["published"]).parse().ok() == port["target"].as_u64(),
                    "by the number that it has inside",
                );
            }
            for mount in elements(&service["volumes"]).filter(|mount| mount["type"] == "bind") {
                rule(mount["read_only"] == true, "what it is given to read it cannot change");
                // A file that is missing would become an empty folder.
                rule(Path::new(text(&mount["source"])).exists(), "what it mounts is there");
            }
        }
    }
}

#[test]
fn the_fleet_of_compose_is_pinned_confined_and_published_on_loopback_alone() {
    let Some(bin) = process::require(&["docker-compose"], INSTALLER) else { return };
    let services = services_of(&bin, "scale/compose.yaml", &[], &[]);
    let expected = ["alertmanager", "gateway", "pushing", "scraped", "victoria-metrics", "vmalert"];
    assert_eq!(services.keys().collect::<Vec<_>>(), expected);
    for (name, service) in &services {
        let rule = |holds: bool, rule: &str| assert!(holds, "{name}: {rule}: {service:#}");
        assert_is_pinned(text(&service["image"]));
        rule(words(&service["cap_drop"]) == ["ALL"] && service["cap_add"].is_null(), "it has no capabilities");
        rule(words(&service["security_opt"]) == ["no-new-privileges:true"], "nor can it get any");
        rule(elements(&service["ports"]).all(|port| port["host_ip"] == "127.0.0.1"), "its ports are on loopback");
        let mounts = elements(&service["volumes"]).filter(|mount| mount["type"] == "bind");
        for mount in mounts {
            rule(mount["read_only"] == true && Path::new(text(&mount["source"])).exists(), "what it mounts is there");
        }
    }
    let images = self::services(&bin, &["--profile", "otlp"], &[]);
    assert_eq!(services["gateway"]["image"], images["otel-collector"]["image"]);
    assert_eq!(services["alertmanager"]["image"], images["alertmanager"]["image"]);
}

#[test]
fn the_ports_that_compose_publishes_are_those_of_the_table() {
    let Some(bin) = process::require(&["docker-compose"], INSTALLER) else { return };
    let mut published = BTreeSet::new();
    for (options, _) in VARIANTS {
        for service in services(&bin, options, &[]).values() {
            published.extend(elements(&service["ports"]).map(|port| text(&port["published"]).to_owned()));
        }
    }
    let readme = read("README.md");
    let (_, ports) = readme.split_once("## Ports").unwrap();
    let table = ports.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let is_compose = |row: &&str| !row.contains("not published");
    let port = |row: &str| Some(row.split('|').nth(1)?.trim().to_owned());
    let listed: BTreeSet<String> = table.skip(2).filter(is_compose).filter_map(port).collect();
    assert_eq!(listed, published);
}

#[test]
fn grafana_has_no_account_until_somebody_sets_a_password() {
    let Some(bin) = process::require(&["docker-compose"], INSTALLER) else { return };
    let keys = ["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION", "GF_AUTH_DISABLE_LOGIN_FORM"];
    // Grafana takes an empty variable for one that is not set, and does what its file says.
    for (environment, expected) in [(&[][..], ""), (&[("GRAFANA_ADMIN_PASSWORD", "a password")], "false")] {
        let grafana = services(&bin, &[], environment).remove("grafana").unwrap();
        for key in keys {
            assert_eq!(grafana["environment"][key], expected, "{key}");
        }
    }
    let file = read("compose/grafana.ini");
    for line in ["disable_login_form = true", "disable_initial_admin_creation = true", "org_role = Viewer"] {
        assert!(file.lines().any(|found| found == line), "grafana.ini says {line}");
    }
}

#[test]
fn the_images_are_built_from_what_the_manifests_name_and_from_exact_versions() {
    let dockerfile = read("compose/Dockerfile");
    let root = fs::read_to_string(deploy("../Cargo.toml")).unwrap();
    let images = dockerfile.lines().filter_map(|line| line.strip_prefix("FROM ")?.split(' ').next());
    let images: Vec<&str> = images.filter(|image| *image != "scratch").collect();
    assert_eq!(images.len(), 2, "{images:?}");
    images.iter().for_each(|image| assert_is_pinned(image));
    let version = images[0].trim_start_matches("rust:").rsplit_once(".0-").unwrap().0;
    assert!(root.contains(&format!("rust-version = \"{version}\"")), "the image's Rust is the oldest that will do");
    let features = dockerfile.split_once("--features ").unwrap().1.split_whitespace().next().unwrap();
    for feature in features.split(',') {
        assert!(root.contains(&format!("\n{feature} = [")), "the feature {feature}");
    }
    assert!(dockerfile.lines().any(|line| line == "USER 65532:65532"), "it does not run as root");
    assert!(dockerfile.lines().any(|line| line.starts_with("HEALTHCHECK ")), "it says how it is");

    let context = read("compose/Dockerfile.dockerignore");
    for path in context.lines().filter_map(|line| line.strip_prefix('!')) {
        assert!(deploy("..").join(path).exists(), "{path}, which the build asks for");
    }
}

/// What kustomize makes of each folder, checked against the schemas, which takes seconds: once for all tests.
static MANIFESTS: [OnceLock<Option<Vec<Value>>>; KUSTOMIZATIONS.len()] =
    [const { OnceLock::new() }; KUSTOMIZATIONS.len()];

fn manifests(folder: &str) -> Option<&'static Vec<Value>> {
    let at = KUSTOMIZATIONS.iter().position(|known| *known == folder).unwrap();
    MANIFESTS[at].get_or_init(|| build(folder)).as_ref()
}

fn build(folder: &str) -> Option<Vec<Value>> {
    let bin = process::require(&["kubectl"], INSTALLER)?;
    let python = installed("validators/bin/python");
    if !python.is_file() {
        skip("no Python with the schemas of Kubernetes is installed for the tests", INSTALLER);
        return None;
    }
    let built = output(Command::new(bin.join("kubectl")).arg("kustomize").arg(deploy("kubernetes").join(folder)));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stack/validate_manifests.py");
    let (code, said) = run(Command::new(python).args([script, KUBERNETES]), built.as_bytes());
    assert_eq!(code, Some(0), "deploy/kubernetes/{folder}: {said}");
    Some(serde_json::from_str(&said).unwrap())
}

fn of_kind<'a>(manifests: &'a [Value], kind: &str) -> Vec<&'a Value> {
    manifests.iter().filter(|manifest| manifest["kind"] == kind).collect()
}

fn name(manifest: &Value) -> &str {
    text(&manifest["metadata"]["name"])
}

/// Whether these labels have all that the selector asks for, which is something.
fn selects(selector: &Value, labels: &Value) -> bool {
    let wanted = selector.as_object().filter(|wanted| !wanted.is_empty());
    wanted.is_some_and(|wanted| wanted.iter().all(|(key, value)| labels[key] == *value))
}

fn pod(deployment: &Value) -> &Value {
    &deployment["spec"]["template"]
}

/// The names and numbers of a list of ports.
fn ports(list: &Value) -> BTreeSet<String> {
    let names = |port: &Value| {
        let number = if port["containerPort"].is_null() { &port["port"] } else { &port["containerPort"] };
        [text(&port["name"]).to_owned(), number.to_string()]
    };
    elements(list).flat_map(names).collect()
}

fn container_ports(deployment: &Value) -> BTreeSet<String> {
    elements(&pod(deployment)["spec"]["containers"]).flat_map(|container| ports(&container["ports"])).collect()
}

#[test]
fn every_selector_of_the_manifests_finds_something_and_every_port_has_a_name_there() {
    for folder in KUSTOMIZATIONS {
        let Some(manifests) = manifests(folder) else { return };
        let deployments = of_kind(manifests, "Deployment");
        let services = of_kind(manifests, "Service");
        let behind = |selector: &Value, what: &str| -> &Value {
            let found = deployments.iter().find(|deployment| selects(selector, &pod(deployment)["metadata"]["labels"]));
            found.unwrap_or_else(|| panic!("{folder}: {what} selects no pod"))
        };
        for manifest in manifests {
            let is_namespace = manifest["kind"] == "Namespace";
            assert!(is_namespace || manifest["metadata"]["namespace"] == "barograph", "{folder}: {manifest:#}");
        }
        for deployment in &deployments {
            behind(&deployment["spec"]["selector"]["matchLabels"], name(deployment));
        }
        for service in &services {
            let deployment = behind(&service["spec"]["selector"], name(service));
            for port in elements(&service["spec"]["ports"]) {
                assert!(container_ports(deployment).contains(text(&port["targetPort"])), "{folder}: {port}");
            }
        }
        let mut scraped = Vec::new();
        for monitor in of_kind(manifests, "ServiceMonitor") {
            let found = |service: &&&Value| {
                selects(&monitor["spec"]["selector"]["matchLabels"], &service["metadata"]["labels"])
            };
            let service =
                services.iter().find(found).unwrap_or_else(|| panic!("{folder}: {} finds no service", name(monitor)));
            for endpoint in elements(&monitor["spec"]["endpoints"]) {
                assert!(ports(&service["spec"]["ports"]).contains(text(&endpoint["port"])), "{folder}: {endpoint}");
            }
            scraped.push(name(behind(&service["spec"]["selector"], name(monitor))));
        }
        for monitor in of_kind(manifests, "PodMonitor") {
            let deployment = behind(&monitor["spec"]["selector"]["matchLabels"], name(monitor));
            for endpoint in elements(&monitor["spec"]["podMetricsEndpoints"]) {
                assert!(container_ports(deployment).contains(text(&endpoint["port"])), "{folder}: {endpoint}");
            }
            scraped.push(name(deployment));
        }
        let expected = if folder.ends_with("collector") { "otel-collector" } else { "platform" };
        assert_eq!(scraped, [expected], "{folder}: each series comes by one way");
        for policy in of_kind(manifests, "NetworkPolicy") {
            let deployment = behind(&policy["spec"]["podSelector"]["matchLabels"], name(policy));
            assert_eq!(words(&policy["spec"]["policyTypes"]), ["Ingress", "Egress"]);
            for rule in elements(&policy["spec"]["ingress"]) {
                assert!(elements(&rule["from"]).next().is_some(), "{folder}: {} lets everybody in", name(policy));
                for port in elements(&rule["ports"]) {
                    assert!(container_ports(deployment).contains(text(&port["port"])), "{folder}: {port}");
                }
            }
        }
        assert_eq!(of_kind(manifests, "NetworkPolicy").len(), deployments.len(), "{folder}: each pod has a policy");
        assert_eq!(of_kind(manifests, "PrometheusRule").len(), 1, "{folder}");
    }
}

#[test]
fn every_pod_is_confined_probed_and_given_the_time_to_end() {
    for folder in KUSTOMIZATIONS {
        let Some(manifests) = manifests(folder) else { return };
        let namespace = &of_kind(manifests, "Namespace")[0]["metadata"]["labels"];
        assert_eq!(namespace["pod-security.kubernetes.io/enforce"], "restricted");
        for deployment in of_kind(manifests, "Deployment") {
            let spec = &pod(deployment)["spec"];
            let rule = |holds: bool, rule: &str| assert!(holds, "{folder}: {}: {rule}: {spec:#}", name(deployment));
            rule(spec["securityContext"]["runAsNonRoot"] == true, "it is not root");
            rule(
                spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault",
                "its system calls are filtered",
            );
            rule(spec["automountServiceAccountToken"] == false, "it has no token");
            let account = of_kind(manifests, "ServiceAccount");
            rule(
                account.iter().any(|account| name(account) == text(&spec["serviceAccountName"])),
                "its account exists",
            );
            let [container] = elements(&spec["containers"]).collect::<Vec<_>>()[..] else { panic!("one container") };
            assert_is_pinned(text(&container["image"]));
            let confined = &container["securityContext"];
            rule(confined["allowPrivilegeEscalation"] == false, "it gets no privileges");
            rule(confined["readOnlyRootFilesystem"] == true, "its file system is read only");
            rule(words(&confined["capabilities"]["drop"]) == ["ALL"], "it has no capabilities");
            rule(!container["resources"]["limits"]["memory"].is_null(), "it cannot eat the node");
            for probe in ["livenessProbe", "readinessProbe"] {
                let probe = &container[probe];
                let port = probe.pointer("/httpGet/port").or(probe.pointer("/tcpSocket/port")).map(text);
                rule(
                    port.is_some_and(|port| ports(&container["ports"]).contains(port)),
                    "its probes ask a port it has",
                );
            }
            let arguments = words(&container["args"]);
            if let Some(at) = arguments.iter().position(|argument| *argument == "--linger") {
                let linger: u64 = arguments[at + 1].trim_end_matches('s').parse().unwrap();
                let grace = spec["terminationGracePeriodSeconds"].as_u64().unwrap();
                rule(grace > linger + 5, "it is not killed while it lingers and delivers");
            }
            // Kubernetes puts in what it has read by then, and leaves the rest as it is.
            let mut known = BTreeSet::new();
            for variable in elements(&container["env"]) {
                for reference in text(&variable["value"]).split("$(").skip(1) {
                    let reference = reference.split(')').next().unwrap_or_default();
                    rule(known.contains(reference), "a variable is defined before it is referred to");
                }
                known.insert(text(&variable["name"]));
            }
        }
    }
}

#[test]
fn what_is_pushed_in_the_cluster_goes_to_a_service_that_is_there_with_the_images_of_compose() {
    let Some(manifests) = manifests("overlays/collector") else { return };
    let Some(bin) = process::require(&["docker-compose"], INSTALLER) else { return };
    let deployment = |wanted: &str| {
        let found = of_kind(manifests, "Deployment").into_iter().find(|deployment| name(deployment) == wanted).unwrap();
        found["spec"]["template"]["spec"]["containers"][0].clone()
    };
    let environment = deployment("platform")["env"].clone();
    let variable = |wanted: &str| {
        let found = elements(&environment).find(|variable| variable["name"] == wanted);
        found.map(|variable| text(&variable["value"]).to_owned()).unwrap_or_default()
    };
    assert_eq!(variable("OTEL_METRICS_EXPORTER"), "prometheus,otlp");
    let endpoint = variable("OTEL_EXPORTER_OTLP_ENDPOINT");
    let (host, port) = endpoint.strip_prefix("http://").unwrap().split_once(':').unwrap();
    let service = of_kind(manifests, "Service").into_iter().find(|service| name(service) == host).unwrap();
    assert!(ports(&service["spec"]["ports"]).contains(port), "{endpoint}");
    assert!(variable("OTEL_RESOURCE_ATTRIBUTES").contains("service.instance.id=$(POD_NAME),k8s.pod.name=$(POD_NAME)"));

    let compose = services(&bin, &["--profile", "otlp"], &[]);
    assert_eq!(deployment("otel-collector")["image"], compose["otel-collector"]["image"]);
    assert_eq!(deployment("platform")["image"], compose["platform-otlp"]["image"]);
    // The same file, whole.
    let map = of_kind(manifests, "ConfigMap")[0];
    assert_eq!(text(&map["data"]["collector.yaml"]), read("collector/collector.yaml"));
}

/// What each environment calls the platform with.
fn arguments(bin: &Path) -> Vec<Vec<String>> {
    let owned = |words: Vec<&str>| words.into_iter().map(str::to_owned).collect();
    let mut all: Vec<Vec<String>> = Vec::new();
    for (options, _) in VARIANTS {
        let services = services(bin, options, &[("PLATFORM_FLAGS", "--debug-page --linger 1s")]);
        let platform = services.iter().find(|(name, _)| name.starts_with("platform")).unwrap().1;
        all.push(owned(words(&platform["command"])));
    }
    for manifests in KUSTOMIZATIONS.into_iter().filter_map(manifests) {
        let platform = of_kind(manifests, "Deployment").into_iter().find(|found| name(found) == "platform").unwrap();
        all.push(owned(words(&pod(platform)["spec"]["containers"][0]["args"])));
    }
    let unit = read("systemd/platform.service");
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/platform ")).unwrap();
    all.push(owned(start.split(' ').collect()));
    all
}

#[test]
fn the_platform_knows_every_argument_that_it_is_deployed_with() {
    let Some(bin) = process::require(&["docker-compose"], INSTALLER) else { return };
    let all = arguments(&bin);
    assert!(all[0].ends_with(&["--debug-page".into(), "--linger".into(), "1s".into()]), "{:?}", all[0]);
    for arguments in all {
        // Help is printed once everything before it has been understood.
        let (code, said) = run(Command::new(binary()).args(&arguments).arg("--help"), b"");
        assert_eq!(code, Some(0), "{arguments:?}: {said}");
    }
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units_and_little_exposed() {
    if run(Command::new("sh").args(["-c", "command -v systemd-analyze"]), b"").0 != Some(0) {
        skip("there is no systemd-analyze", "apt-get install systemd");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let service = directory.path().join("platform.service");
    let socket = directory.path().join("platform.socket");
    // It looks for the program.
    let installed = read("systemd/platform.service").replace("/usr/local/bin/platform", binary().to_str().unwrap());
    fs::write(&service, installed).unwrap();
    fs::write(&socket, read("systemd/platform.socket")).unwrap();
    // An unknown key is a line of text and no error.
    let (code, said) = run(Command::new("systemd-analyze").arg("verify").args([&service, &socket]), b"");
    assert_eq!((code, said.as_str()), (Some(0), ""));
    // 1.5, of 10 for a unit that says nothing; newer versions of systemd count a little otherwise.
    let mut security = Command::new("systemd-analyze");
    security.args(["security", "--offline=true", "--threshold=15", "--no-pager"]);
    let (code, said) = run(security.arg(&service), b"");
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn the_collector_and_prometheus_take_their_configurations_for_what_is_pushed() {
    if let Some(bin) = Collector::require() {
        let file = deploy("collector/collector.yaml");
        let mut command = Command::new(bin.join("otelcol"));
        command
            .arg("validate")
            .arg("--config")
            .arg(file)
            .env("PROMETHEUS_OTLP_ENDPOINT", "http://prometheus:9090/api/v1/otlp");
        let (code, said) = run(&mut command, b"");
        assert_eq!(code, Some(0), "{said}");
    }
    if let Some(bin) = prometheus::require() {
        let (code, said) =
            run(Command::new(bin.join("promtool")).args(["check", "config"]).arg(deploy("prometheus/otlp.yml")), b"");
        assert_eq!(code, Some(0), "{said}");
    }
}

#[test]
fn what_the_platform_pushes_through_the_deployed_collector_arrives_by_the_names_that_are_scraped() {
    let (Some(collector_bin), Some(victoria_bin)) = (Collector::require(), victoria::require()) else { return };
    let Some(bin) = process::require(&["docker-compose"], INSTALLER) else { return };
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let victoria = Victoria::start(&victoria_bin, &at("victoria"));

    // As deployed, but on loopback and on ports that are free. Its own metrics are at a port that it does not log.
    let own = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let configuration = read("collector/collector.yaml")
        .replace("0.0.0.0:4317", "127.0.0.1:0")
        .replace("0.0.0.0:4318", "127.0.0.1:0")
        .replace("host: 0.0.0.0, port: 8888", &format!("host: 127.0.0.1, port: {}", own.port()));
    assert!(!configuration.contains("0.0.0.0"), "{configuration}");
    fs::write(at("collector.yaml"), configuration).unwrap();
    let mut command = Command::new(collector_bin.join("otelcol"));
    command.arg("--config").arg(at("collector.yaml"));
    command.env("PROMETHEUS_OTLP_ENDPOINT", victoria.url().trim_end_matches("/v1/metrics"));
    let mut collector = Server::spawn(&mut command, at("collector.log"));
    let grpc = collector.wait_until_ready(|log| {
        let (_, line) = log.split_once("Starting GRPC server").ok_or("it has not said where it listens")?;
        let (_, rest) = line.split_once("\"endpoint\": \"").ok_or("the line names no endpoint")?;
        Ok(rest.split('"').next().unwrap_or_default().to_owned())
    });
    poll(UP, Duration::from_millis(50), || match get(own, "/metrics", "") {
        Ok(response) if response.status == 200 && response.text().contains("otelcol_") => Ok(()),
        other => Err(format!("its own metrics: {other:?}")),
    });

    let services = services(&bin, &["--profile", "otlp"], &[]);
    let environment = services["platform-otlp"]["environment"].as_object().unwrap();
    let mut command = Command::new(binary());
    command.args(["--listen", "127.0.0.1:0", "--for", "12s"]);
    command.envs(environment.iter().map(|(key, value)| (key, text(value))));
    command.envs([
        ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{grpc}")),
        ("OTEL_METRIC_EXPORT_INTERVAL", "500".to_owned()),
    ]);
    let (code, said) = Server::spawn(&mut command, at("platform.log")).wait();
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("warning:"), "the environment says what is not understood: {said}");
    assert!(said.contains(&format!("pushed to http://{grpc}")), "{said}");

    let query = r#"group by (__name__) ({service_name="platform",service_instance_id="platform:9464"})"#;
    let is_there =
        |names: &BTreeSet<String>, name: &str| names.contains(name) || names.contains(&format!("{name}_count"));
    poll(UP, Duration::from_millis(500), || {
        let found = victoria.query(query);
        let names: BTreeSet<String> =
            found.into_iter().filter_map(|mut sample| sample.labels.remove("__name__")).collect();
        let missing: Vec<String> = super::contract().into_iter().filter(|name| !is_there(&names, name)).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?} did not arrive, only {names:?}")) }
    });
    drop(collector);
}
