//! What `deploy/` holds, against real servers: every expression of every dashboard and rule gives data, scraped and pushed,
//! and an alert reaches who is to be told.
//!
//! The platform runs with `--chaos` and the service with its customers, so that nothing has a reason to be missing. An
//! expression has passed once it has given data: what comes and goes with a fault need not be there at the same time as
//! everything else. What a machine has nothing to say about (no swap, no container) is not asked for.

mod alertmanager;
mod expressions;
mod service;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::UP;
use crate::otlp::sink::Sink;
use crate::otlp::victoria::{self, Victoria, Vmagent, Vmalert};
use crate::platform::{self, Platform};
use crate::process::{self, Server, poll};
use crate::prometheus::{self, Job, Prometheus};
use crate::query::QUERY_POLL;
use alertmanager::Alertmanager;
use expressions::{Expression, alternatives, deploy, of_dashboards, of_rules};
use service::Service;

/// A round of faults takes a quarter of a minute; the rest is for machines that do something else as well.
const DEADLINE: Duration = Duration::from_secs(150);

/// How long a platform lives that its test ends.
const LONG: Duration = Duration::from_secs(600);

/// So many are there at least, or they were not found.
const FEWEST: usize = 150;

#[test]
fn every_fault_of_chaos_is_counted_and_the_workers_still_agree_with_the_scrape() {
    let directory = tempfile::tempdir().unwrap();
    let platform = Platform::start_chaos(directory.path(), 0, Duration::from_secs(45), &[]);
    poll(Duration::from_secs(42), Duration::from_secs(1), || {
        let page = platform.page();
        // Labels that name the scope stand between others.
        let is_counted = |line: &str, fault: &[&str]| {
            fault.iter().all(|part| line.contains(part)) && line.rsplit(' ').next().is_some_and(|value| value != "0")
        };
        let missing = FAULTS.iter().filter(|fault| !page.lines().any(|line| is_counted(line, fault)));
        let missing: Vec<_> = missing.collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("not counted: {missing:?}")) }
    });
    // Its exit code says whether they agree.
    platform.wait();
}

/// A metric and values of its labels.
const FAULTS: [&[&str]; 48] = [
    &["api_deepseek_calls_total", "\"cancelled\""],
    &["api_deepseek_calls_total", "\"error\""],
    &["api_deepseek_calls_total", "\"rate_limited\""],
    &["api_deepseek_calls_total", "\"timeout\""],
    &["api_perplexity_calls_total", "\"cancelled\""],
    &["api_perplexity_calls_total", "\"error\""],
    &["api_perplexity_calls_total", "\"rate_limited\""],
    &["api_perplexity_calls_total", "\"timeout\""],
    &["api_errors_total", "\"connect\""],
    &["api_errors_total", "\"decode\""],
    &["api_errors_total", "\"other\""],
    &["api_errors_total", "\"status\""],
    &["api_errors_total", "\"timeout\""],
    &["audit_agent_errors_total", "\"git\""],
    &["audit_agent_errors_total", "\"io\""],
    &["audit_agent_errors_total", "\"parse\""],
    &["test_watcher_tests_run_total", "\"error\""],
    &["test_watcher_tests_run_total", "\"fail\""],
    &["test_watcher_errors_total", "\"api\""],
    &["test_watcher_errors_total", "\"internal\""],
    &["test_watcher_errors_total", "\"io\""],
    &["test_watcher_errors_total", "\"test\""],
    &["safe_async_bridge_calls_total", "\"cancelled\""],
    &["safe_async_bridge_timeouts_total"],
    &["safe_async_bridge_errors_total", "\"closed\""],
    &["safe_async_bridge_errors_total", "\"internal\""],
    &["safe_async_bridge_errors_total", "\"panic\""],
    &["safe_async_bridge_pending_tasks"],
    &["barograph_callback_errors_total", "\"late\""],
    &["barograph_callback_errors_total", "\"panic\""],
    &["barograph_export_failures_total", "\"connection\""],
    &["barograph_export_failures_total", "\"refused\""],
    &["barograph_export_failures_total", "\"rejected\""],
    &["barograph_export_failures_total", "\"throttled\""],
    &["barograph_export_failures_total", "\"timeout\""],
    &["barograph_export_failures_total", "\"unavailable\""],
    &["barograph_instruments_refused_total", "\"built_in_callback\""],
    &["barograph_instruments_refused_total", "\"invalid_buckets\""],
    &["barograph_instruments_refused_total", "\"invalid_name\""],
    &["barograph_instruments_refused_total", "\"invalid_unit\""],
    &["barograph_points_dropped_total", "\"conflict\""],
    &["barograph_points_dropped_total", "\"duplicate\""],
    &["barograph_points_dropped_total", "\"invalid_name\""],
    &["barograph_points_dropped_total", "\"invalid_value\""],
    &["barograph_scrape_refused_total", "\"body\""],
    &["barograph_scrape_refused_total", "\"head\""],
    &["barograph_scrape_refused_total", "\"host\""],
    &["barograph_scrape_refused_total", "\"malformed\""],
];

#[test]
fn every_expression_gives_data_while_every_fault_happens_and_no_rule_has_an_error() {
    let Some(bin) = prometheus::require() else { return };
    let directory = tempfile::tempdir().unwrap();
    let platform = Platform::start_chaos(directory.path(), 0, LONG, &[]);
    let service = Service::start(directory.path(), &[]);
    let jobs = [Job::new("platform", platform.address()), Job::new("service", service.address())];
    let prometheus = Prometheus::start_ruling(&bin, directory.path(), &jobs, &deploy("prometheus/rules/*.yml"), None);

    let rules = prometheus.data("/api/v1/rules");
    let elsewhere = service.elsewhere();
    let mut expressions = [of_dashboards(), of_rules(&rules)].concat();
    expressions.retain(|expression| !service::needs(expression, &elsewhere));
    assert!(expressions.len() > FEWEST, "{} expressions are too few: {expressions:#?}", expressions.len());
    wait_for_data(expressions, |promql| prometheus.gives_data(promql));
    wait_until_rules_are_well(&prometheus);
}

#[test]
fn every_panel_with_a_histogram_gives_data_from_native_ones_too() {
    let Some(bin) = prometheus::require() else { return };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("otel.yaml");
    fs::write(&file, EXPONENTIAL).unwrap();
    let environment = [("OTEL_CONFIG_FILE", file.to_str().unwrap())];
    let platform = Platform::start_chaos(directory.path(), 0, LONG, &environment);
    let service = Service::start(directory.path(), &environment);
    let jobs = [("platform", platform.address()), ("service", service.address())]
        .map(|(name, address)| Job::new(name, address).asking_for("PrometheusProto"));
    let prometheus = Prometheus::start_with(&bin, directory.path(), &jobs, "1s", &["native-histograms"]);

    let is_classic = |promql: &str| promql.contains("_bucket");
    let panels = of_dashboards().into_iter().filter(|expression| is_classic(&expression.promql));
    let native = panels.map(|Expression { place, promql }| {
        let native = alternatives(&promql).into_iter().find(|side| !is_classic(side));
        let promql = native.unwrap_or_else(|| panic!("{place} is for classic histograms only: {promql}"));
        Expression { place, promql }
    });
    let native: Vec<_> = native.collect();
    assert!(native.len() > 30, "{} are too few: {native:#?}", native.len());
    wait_for_data(native, |promql| prometheus.gives_data(promql));
}

/// Scraped, with exponential buckets for every histogram.
const EXPONENTIAL: &str = "\
file_format: \"1.1\"
meter_provider:
  readers:
    - pull: {exporter: {prometheus/development: }}
  views:
    - selector: {instrument_type: histogram}
      stream: {aggregation: {base2_exponential_bucket_histogram: {max_size: 160}}}
";

#[test]
fn an_alert_reaches_the_webhook_with_its_runbook_and_is_resolved_when_its_cause_is_gone() {
    let (Some(bin), Some(_)) = (prometheus::require(), alertmanager::require()) else { return };
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let sink = Sink::start();
    let alertmanager = Alertmanager::start(&bin, &at("alertmanager"), sink.address());
    let platform = Platform::start_chaos(directory.path(), 0, LONG, &[]);
    let address = platform.address();
    fs::create_dir_all(at("rules")).unwrap();
    hurry_up(&deploy("prometheus/rules"), &at("rules"));
    let jobs = [Job::new("platform", address)];
    let rules = at("rules/*.yml");
    let prometheus = Prometheus::start_ruling(&bin, &at("prometheus"), &jobs, &rules, Some(alertmanager.address()));
    prometheus.wait_until_up("platform", UP);

    let panics = wait_for_alert(&alertmanager, "BarographCallbackErrors");
    assert_eq!(panics["labels"]["job"], "platform", "{panics}");
    assert_eq!(panics["labels"]["instance"], address.to_string(), "{panics}");
    wait_for_notification(&sink, "/notify", "BarographCallbackErrors", "firing");

    drop(platform);
    let down = wait_for_alert(&alertmanager, "BarographTargetDown");
    assert_eq!(down["labels"]["instance"], address.to_string(), "{down}");
    let notified = wait_for_notification(&sink, "/page", "BarographTargetDown", "firing");
    assert_eq!(notified["labels"], down["labels"], "the webhook gets what the API shows");
    assert_eq!(notified["annotations"], down["annotations"], "the webhook gets what the API shows");
    for alert in [&panics, &down] {
        let (labels, annotations) = (&alert["labels"], &alert["annotations"]);
        let runbook = format!("deploy/runbooks/{}.md", labels["alertname"].as_str().unwrap());
        assert_eq!(annotations["runbook"], runbook.as_str(), "{alert}");
        assert_eq!(labels["component"], "barograph", "{alert}");
        let summary = annotations["summary"].as_str().unwrap();
        assert!(summary.len() > 20 && !summary.contains("{{") && !summary.contains("<no value>"), "{summary}");
    }
    assert_eq!(down["labels"]["severity"], "critical", "{down}");

    let _platform = Platform::start_chaos(directory.path(), address.port(), LONG, &[]);
    wait_for_notification(&sink, "/page", "BarographTargetDown", "resolved");
    poll(DEADLINE, QUERY_POLL, || match alertmanager.alerts("BarographTargetDown").as_slice() {
        [] => Ok(()),
        alerts => Err(format!("Alertmanager still shows {alerts:?}")),
    });
}

/// The rules as they are committed, but that alerts fire after a second and end at once: nobody waits minutes for a test.
fn hurry_up(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.lines().filter(|line| !line.trim_start().starts_with("keep_firing_for: "));
        let hurried = lines.map(|line| match line.split_once("for: ") {
            Some((indent, _)) if indent.trim().is_empty() => format!("{indent}for: 1s\n"),
            _ => format!("{line}\n"),
        });
        fs::write(to.join(path.file_name().unwrap()), hurried.collect::<String>()).unwrap();
    }
}

fn wait_for_alert(alertmanager: &Alertmanager, name: &str) -> Value {
    poll(DEADLINE, QUERY_POLL, || alertmanager.alerts(name).pop().ok_or_else(|| format!("{name} is not firing")))
}

/// The first alert of this name that the webhook was told to be in this state.
fn wait_for_notification(sink: &Sink, path: &str, name: &str, status: &str) -> Value {
    poll(DEADLINE, QUERY_POLL, || {
        let received = sink.received();
        let notifications = received.iter().filter(|request| request.path == path);
        let mut alerts = notifications.flat_map(|request| request.body["alerts"].as_array().into_iter().flatten());
        let found = alerts.find(|alert| alert["labels"]["alertname"] == name && alert["status"] == status);
        found.cloned().ok_or_else(|| format!("{path} was not told that {name} is {status}"))
    })
}

#[test]
fn what_is_pushed_gives_the_same_expressions_data_but_for_what_only_a_scrape_has() {
    let (Some(prometheus_bin), Some(bin)) = (prometheus::require(), victoria::require()) else { return };
    let Some(_) = process::require(&["vmalert"], "tests/stack/install-otlp") else { return };
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let rules = deploy("prometheus/rules/*.yml");
    let prometheus = Prometheus::start_ruling(&prometheus_bin, &at("prometheus"), &[], &rules, None);
    let vmagent = Vmagent::start(&bin, &at("vmagent"), &prometheus.write_url());
    let victoria = Victoria::start(&bin, &at("victoria"));
    let _vmalert = Vmalert::start(&bin, &at("vmalert"), &rules, &victoria);
    let file = at("otel.yaml");
    fs::write(&file, pushed_to(&[vmagent.url(), victoria.url()])).unwrap();
    let mut command = Command::new(platform::binary());
    command.args(["--chaos", "--for", "10m"]).env("OTEL_CONFIG_FILE", &file);
    let _platform = Server::spawn(&mut command, at("platform.log"));
    let elsewhere = Service::start(directory.path(), &[]).elsewhere();
    let _service = Server::spawn(service::command().env("OTEL_CONFIG_FILE", &file), at("service.log"));

    let mut expressions = [of_dashboards(), of_rules(&prometheus.data("/api/v1/rules"))].concat();
    expressions.retain(|expression| !service::needs(expression, &elsewhere));
    let (absent, expected): (Vec<_>, Vec<_>) = expressions.into_iter().partition(needs_a_scrape);
    assert!(expected.len() > FEWEST, "{} are too few: {expected:#?}", expected.len());
    wait_for_data(expected.clone(), |promql| prometheus.gives_data(promql));
    wait_for_data(expected, |promql| victoria.flush().gives_data(promql));
    wait_until_rules_are_well(&prometheus);

    for (what, why) in ONLY_SCRAPED {
        let is_used = absent.iter().any(|expression| expression.promql.contains(what));
        assert!(is_used, "nothing asks for `{what}` any more, of which it says: {why}");
    }
    for Expression { place, promql } in absent {
        let found = [prometheus.gives_data(&promql), victoria.flush().gives_data(&promql)];
        assert_eq!(found, [Ok(false), Ok(false)], "{place}: listed as absent where all is pushed: {promql}");
    }
}

/// What an expression asks for that nobody has pushed, and why.
const ONLY_SCRAPED: [(&str, &str); 6] = [
    ("up{", "Prometheus makes it for what it scrapes"),
    ("scrape_duration_seconds{", "Prometheus makes it for what it scrapes"),
    ("barograph_scrape_", "the endpoint says it, and there is none"),
    ("\"prometheus_http_text_metric_exporter\"", "the endpoint says it, and there is none"),
    ("job!=\"\"", "VictoriaMetrics gives pushed series no such label, so the variable has the value All only"),
    ("instance!=\"\"", "VictoriaMetrics gives pushed series no such label, so the variable has the value All only"),
];

/// Whether there is no side of it that does without.
fn needs_a_scrape(expression: &Expression) -> bool {
    let is_only_scraped = |side: &String| ONLY_SCRAPED.iter().any(|(what, _)| side.contains(what));
    alternatives(&expression.promql).iter().all(is_only_scraped)
}

/// Pushed to all of these every second. No export waits for the callback that hangs for longer than that.
fn pushed_to(receivers: &[String]) -> String {
    let mut file = "file_format: \"1.1\"\nmeter_provider:\n  readers:\n".to_owned();
    for receiver in receivers {
        let exporter = format!("{{otlp_http: {{endpoint: \"{receiver}\"}}}}");
        file += &format!("    - periodic: {{interval: 1000, timeout: 1000, exporter: {exporter}}}\n");
    }
    file
}

/// Asks again until each of them has given data. At the deadline panics with all that have not, and where they stand.
#[track_caller]
fn wait_for_data(mut missing: Vec<Expression>, gives_data: impl Fn(&str) -> Result<bool, String>) {
    let end = Instant::now() + DEADLINE;
    loop {
        let mut said = String::new();
        missing.retain(|Expression { place, promql }| {
            let why = match gives_data(promql) {
                Ok(true) => return false,
                Ok(false) => "no data".to_owned(),
                Err(error) => error,
            };
            said += &format!("{place}: {why}\n    {promql}\n");
            true
        });
        if missing.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "{} expressions gave no data within {DEADLINE:?}:\n{said}", missing.len());
        std::thread::sleep(QUERY_POLL);
    }
}

/// Waits until each rule was evaluated, the last time without an error.
#[track_caller]
fn wait_until_rules_are_well(prometheus: &Prometheus) {
    poll(DEADLINE, QUERY_POLL, || {
        let rules = prometheus.data("/api/v1/rules");
        let groups = rules["groups"].as_array().unwrap().iter();
        let all = groups.flat_map(|group| group["rules"].as_array().unwrap());
        let ill: Vec<_> = all.filter(|rule| rule["health"] != "ok").collect();
        if ill.is_empty() { Ok(()) } else { Err(format!("{ill:#?}")) }
    });
}
