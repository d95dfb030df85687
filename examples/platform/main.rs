//! The automation platform at work: it watches a project, tests what changes, asks two APIs about it and audits it, and
//! five components record what it does. Nothing here counts for the sake of counting.
//!
//! ```text
//! cargo run --release --example platform                     # a scratch copy of a sample project, until Ctrl-C
//! cargo run --release --example platform -- --for 30s        # ends by itself
//! cargo run --release --example platform -- ~/project --test-command "make test FILE={file}"
//!
//! curl http://127.0.0.1:9464/metrics | grep -E 'tests_run_total|coverage_percent'
//! ```
//!
//! Where the metrics go is the environment's to say, with the variables of OpenTelemetry:
//!
//! ```text
//! OTEL_METRICS_EXPORTER=otlp cargo run --release --example platform             # pushed to localhost:4318
//! OTEL_METRICS_EXPORTER=prometheus,otlp OTEL_EXPORTER_OTLP_PROTOCOL=grpc …      # scraped and pushed
//! ```
//!
//! The endpoint can be tried as it would stand in the open, with the feature `web-config`:
//!
//! ```text
//! cargo run --release --features web-config --example platform -- \
//!     --listen 0.0.0.0:9464 --listen unix:/tmp/platform.sock --web-config web-config.yml --debug-page
//! ```
//!
//! Dashboards and alerts want something to show. With `--chaos` every fault happens again and again, a few seconds apart;
//! `chaos.rs` lists them:
//!
//! ```text
//! cargo run --release --example platform -- --chaos
//! curl http://127.0.0.1:9464/metrics | grep -E '^barograph_(callback_errors|points_dropped|scrape_refused)'
//! ```
//!
//! Look at two lines: where the metrics are, at the start, and whether they say what the workers have counted
//! themselves, at the end. A last line that says otherwise comes with exit code 1.
//!
//! ```text
//!   curl http://127.0.0.1:9464/metrics
//!   113 of 113 counters agree with the scrape
//! ```
//!
//! This file puts the platform together. To learn how a component is used, read `watcher.rs` (test watcher),
//! `audit.rs` (audit agent), `apis.rs` (async bridge) and `client.rs` (API clients).

mod apis;
mod args;
mod audit;
mod changes;
mod chaos;
mod client;
mod console;
mod developer;
mod duration;
mod flag;
mod process;
mod project;
mod report;
mod scrape;
mod stand_ins;
mod tally;
mod watcher;

use std::error::Error;
use std::io;
use std::io::Write;
use std::net::SocketAddr;
use std::panic;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use barograph::Telemetry;
use barograph_instrumentation_api_clients::ApiClientMetrics;
use barograph_instrumentation_async_bridge::AsyncBridge;
use barograph_instrumentation_audit_agent::AuditAgentMetrics;
use barograph_instrumentation_system::SystemMetrics;
use barograph_instrumentation_test_watcher::TestWatcherMetrics;
use clap::Parser;
use tokio::runtime::Runtime;

use crate::apis::{Addresses, Apis};
use crate::args::{Args, UsageError};
use crate::audit::Auditor;
use crate::changes::Changes;
use crate::chaos::Chaos;
use crate::console::Console;
use crate::developer::Developer;
use crate::flag::Flag;
use crate::project::Project;
use crate::report::Report;
use crate::tally::Tally;
use crate::watcher::Watcher;

/// How often a line tells how far the work is.
const PROGRESS: Duration = Duration::from_secs(5);

/// The end of a run with an end: nothing changes any more, and a Prometheus can scrape the last values.
const QUIET: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        // The report has said what differs.
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "platform: {error}");
            if error.is::<UsageError>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

/// Runs the platform from its start to its report, and returns whether the report agrees with the scrape.
fn run(args: &Args) -> Result<bool, Box<dyn Error>> {
    args.check_json_summary()?;
    let console = Console::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let interrupt = Flag::raised_by_signal(&runtime)?;
    let project = Project::open(args)?;
    let stop = Flag::default();
    let chaos = args.chaos.then(|| Chaos::prepare(&runtime, &stop)).transpose()?;

    let mut telemetry = Telemetry::from_env().or_service_name("automation-platform");
    let addresses = args.addresses();
    if !addresses.is_empty() {
        telemetry = telemetry.with_addresses(addresses);
    }
    if let Some(file) = &args.web_config {
        telemetry = telemetry.with_web_config(file);
    }
    if args.debug_page {
        telemetry = telemetry.with_debug_page();
    }
    telemetry = telemetry.with_live_page(args.live_page);
    if let Some(linger) = args.linger {
        telemetry = telemetry.with_linger(linger);
    }
    if let Some(chaos) = &chaos {
        telemetry = chaos.configure(telemetry, args.web_config.is_none())?;
    }
    let telemetry = telemetry.start()?;
    // One provider for all five. Each builds its instruments here, once.
    let provider = telemetry.meter_provider();
    let test_watcher = TestWatcherMetrics::new(provider);
    let audit_agent = AuditAgentMetrics::new(provider);
    let api_clients = ApiClientMetrics::new(provider);
    let bridge = AsyncBridge::new(provider)?;
    let _system = SystemMetrics::new(provider);
    // All that can be wrong with an instrument is known now, rather than when somebody misses its series. Chaos builds
    // wrong ones on purpose.
    if chaos.is_none() {
        telemetry.verify()?;
    }

    let addresses = Addresses {
        deepseek: stand_ins::start(&runtime, stand_ins::DEEPSEEK)?,
        perplexity: stand_ins::start(&runtime, stand_ins::PERPLEXITY)?,
        // Only the system could listen on port 1, and it does not: the backup is switched off.
        backup: SocketAddr::from(([127, 0, 0, 1], 1)),
    };
    introduce(&console, &project, &addresses, &telemetry, args);

    let tallies = [Tally::default(), Tally::default(), Tally::default(), Tally::default()];
    let [watcher_tally, audit_tally, bridge_tally, client_tally] = &tallies;
    // Held until the end, so that its loop is still there for the last scrape.
    bridge_tally.set("safe_async_bridge_active_loops", 1.0);
    bridge_tally.set("safe_async_bridge_pending_tasks", 0.0);
    let apis = Apis::new(bridge.clone(), &api_clients, &addresses, bridge_tally, client_tally);

    let changes =
        Changes::below(&project.root).map_err(|error| format!("cannot watch {}: {error}", project.root.display()))?;
    let saboteur = chaos
        .as_ref()
        .map(|chaos| chaos.saboteur(&telemetry, &bridge, &api_clients, &changes, bridge_tally, client_tally));
    let watcher = Watcher::new(&project, test_watcher, apis, &console, watcher_tally, &stop);
    let auditor = Auditor::new(&project, audit_agent, &console, audit_tally, &stop);
    let auditor = if args.chaos { auditor.patient_with_git() } else { auditor };
    let script = if args.chaos { chaos::SCRIPT } else { developer::SCRIPT };
    let developer = Developer { project: &project, console: &console, stop: &stop, script, phases: 0 };
    let mut work: Vec<Work<'_>> =
        vec![("watcher", Box::new(|| watcher.run(changes))), ("auditor", Box::new(|| auditor.run()))];
    if project.is_scratch() {
        work.push(("developer", Box::new(|| developer.run())));
    }
    if let Some(saboteur) = &saboteur {
        work.push(("chaos", Box::new(|| saboteur.run())));
        work.push(("chaos-waiting", Box::new(|| saboteur.keep_waiting())));
    }
    leave_panics_to(if args.chaos { &["async-bridge", "barograph-callback"] } else { &["async-bridge"] });
    console.section(match args.duration {
        Some(duration) => format!("At work for {duration:?}"),
        None => "At work until Ctrl-C".to_owned(),
    });
    let interrupted = work_until(work, &stop, || supervise(args, &console, &interrupt, &tallies))?;
    if let Some(duration) = args.duration
        && !interrupted
    {
        console.section("Quiet, for the last scrape");
        interrupt.wait(duration.saturating_sub(console.elapsed()));
    }

    console.section("Summary");
    let agrees = if telemetry.scrape().is_ok() {
        summarize(args, &console, || page(args, &runtime, &telemetry), &tallies)?
    } else {
        console.line("nothing is scraped here: what was counted is where it was pushed to");
        true
    };
    telemetry.shutdown(Duration::from_secs(5) + args.linger.unwrap_or_default())?;
    project.close()?;
    Ok(agrees)
}

/// The page as its scrapers get it. One that asks for credentials is not asked: they are not ours to know.
fn page(args: &Args, runtime: &Runtime, telemetry: &Telemetry) -> Result<String, Box<dyn Error>> {
    match telemetry.local_urls().next() {
        Some(url) if args.web_config.is_none() => runtime.block_on(scrape::get(url)),
        _ => Ok(telemetry.scrape()?),
    }
}

fn introduce(console: &Console, project: &Project, addresses: &Addresses, telemetry: &Telemetry, args: &Args) {
    console.section(format_args!("Watching {}", project.root.display()));
    if project.is_scratch() {
        console.line("a scratch copy of the sample project, removed at the end; a developer works on it");
    }
    console.line(format_args!("tests: {}", project.test_command));
    console.section("Metrics");
    for url in telemetry.local_urls() {
        console.line(format_args!("curl {url}"));
        if args.debug_page {
            console.line(format_args!("curl {}", url.replace("/metrics", "/debug/metrics")));
        }
    }
    for socket in args.addresses().iter().filter_map(|address| address.strip_prefix("unix:")) {
        let scheme = if telemetry.local_urls().any(|url| url.starts_with("https:")) { "https" } else { "http" };
        console.line(format_args!("curl --unix-socket {socket} {scheme}://localhost/metrics"));
    }
    let configuration = telemetry.configuration();
    configuration.warnings.iter().for_each(|warning| console.line(format_args!("warning: {warning}")));
    for setting in configuration.settings().iter().filter(|setting| setting.path.ends_with(".endpoint")) {
        console.line(format_args!("pushed to {} ({})", setting.value, setting.origin));
    }
    if args.chaos {
        console.section("Chaos");
        console.line("every fault happens again and again; examples/platform/chaos.rs lists them");
    }
    console.section("APIs");
    console.line(format_args!("deepseek    http://{}", addresses.deepseek));
    console.line(format_args!("perplexity  http://{}", addresses.perplexity));
    console.line(format_args!("backup      http://{} (switched off)", addresses.backup));
}

/// The bridge turns the panic of a future into an error, which the watcher prints, and the pipeline counts those of
/// callbacks. Other threads panic as usual.
fn leave_panics_to(threads: &'static [&'static str]) {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if !thread::current().name().is_some_and(|name| threads.contains(&name)) {
            print(panic);
        }
    }));
}

/// A thread's name and what it does until it is told to stop.
type Work<'a> = (&'static str, Box<dyn FnOnce() + Send + 'a>);

/// Works on threads until `supervise` returns, then until each of them has stopped.
fn work_until<T>(work: Vec<Work<'_>>, stop: &Flag, supervise: impl FnOnce() -> T) -> Result<T, Box<dyn Error>> {
    thread::scope(|scope| {
        let threads: io::Result<Vec<_>> = work
            .into_iter()
            .map(|(name, work)| thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, work))
            .collect();
        let outcome = threads.as_ref().ok().map(|_| supervise());
        // Whatever happened: the scope waits for its threads.
        stop.raise();
        let panicked = threads?.into_iter().filter_map(|thread| thread.join().err()).count();
        match outcome {
            Some(outcome) if panicked == 0 => Ok(outcome),
            _ => Err("a worker panicked".into()),
        }
    })
}

/// Tells how far the work is, until its time is up or somebody interrupts; returns whether somebody did.
fn supervise(args: &Args, console: &Console, interrupt: &Flag, [watcher, audit, _, client]: &[Tally; 4]) -> bool {
    let end = args.duration.map(|duration| duration - QUIET.min(duration / 4));
    let mut progress = PROGRESS;
    loop {
        let next = end.map_or(progress, |end| end.min(progress));
        if interrupt.wait(next.saturating_sub(console.elapsed())) {
            return true;
        }
        if end.is_some_and(|end| console.elapsed() >= end) {
            return false;
        }
        progress += PROGRESS;
        let runs = |status| watcher.sum(&format!(r#"test_watcher_tests_run_total{{status="{status}"}}"#));
        console.event(
            "so far",
            format_args!(
                "{} files, tests: {} pass {} fail {} error, {} API calls, {} audits",
                watcher.sum("test_watcher_files_processed_total"),
                runs("pass"),
                runs("fail"),
                runs("error"),
                client.sum("api_request_duration_seconds_count"),
                audit.sum("audit_agent_runs_total"),
            ),
        );
    }
}

/// Scrapes a last time and compares; returns whether the scrape shows what the workers have counted.
fn summarize(
    args: &Args,
    console: &Console,
    page: impl Fn() -> Result<String, Box<dyn Error>>,
    tallies: &[Tally],
) -> Result<bool, Box<dyn Error>> {
    let begun = Instant::now();
    let (samples, report) = loop {
        let samples = scrape::samples(&page()?)?;
        let report = Report::new(tallies, &samples);
        // A future whose caller's time was up leaves the loop a moment after its caller did.
        if report.agrees() || begun.elapsed() > Duration::from_secs(1) {
            break (samples, report);
        }
        thread::sleep(Duration::from_millis(50));
    };
    if let Some(file) = &args.json_summary {
        scrape::write_json(&samples, file)
            .map_err(|error| format!("cannot write the summary to {}: {error}", file.display()))?;
        console.line(format_args!("{} series in {}", samples.len(), file.display()));
    }
    report.print(console);
    Ok(report.agrees())
}
