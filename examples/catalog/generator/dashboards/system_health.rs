//! Is the platform up, is the machine all right, and which component is in trouble?

use barograph_instrumentation_api_clients::semconv as api;
use barograph_instrumentation_async_bridge::semconv as bridge;
use barograph_instrumentation_audit_agent::semconv as audit_agent;
use barograph_instrumentation_system::semconv;
use barograph_instrumentation_test_watcher::semconv as test_watcher;

use crate::generator::grafana::{BLUE, Dashboard, GREEN, ORANGE, PURPLE, Panel, RED, YELLOW};
use crate::generator::query::{CHOSEN, Metric, share, sum};

const COMPONENTS: [(&str, &str); 5] = [
    ("test watcher", BLUE),
    ("audit agent", PURPLE),
    ("async bridge", ORANGE),
    ("API clients", YELLOW),
    ("Barograph", RED),
];

/// Alerts of deploy/prometheus/rules, whose labels say of which component: a Prometheus of many has other people's too.
const ALERTS: &str = r#"component=~"test-watcher|audit-agent|async-bridge|api-clients|system|http|tokio|barograph", job=~"$job|", instance=~"$instance|""#;

pub(crate) fn dashboard() -> Dashboard {
    let cpu = Metric::new(semconv::SYSTEM_CPU.descriptor());
    let memory = Metric::new(semconv::SYSTEM_MEMORY.descriptor());
    let disk = Metric::new(semconv::SYSTEM_DISK.descriptor());
    let rows = vec![
        ("", all_right(&cpu, &memory, &disk)),
        ("Components", components()),
        ("Machine", machine(&cpu, &memory, &disk)),
        ("Process", process(&cpu)),
    ];
    Dashboard {
        uid: "barograph-system-health",
        title: "System health",
        description: "Is the platform up, is the machine all right, and which component is in trouble?",
        known_by: cpu,
        rows,
    }
}

fn all_right(cpu: &Metric, memory: &Metric, disk: &Metric) -> Vec<Panel> {
    let percent = |title, metric: &Metric, advice, [bad, worse]: [f64; 2]| {
        Panel::gauge(title, metric, advice)
            .max(100.0)
            .decimals(0)
            .thresholds(GREEN, &[(bad, YELLOW), (worse, RED)])
            .query(format!("max({})", metric.series()), "")
    };
    let (deepseek, perplexity) =
        (Metric::new(api::DEEPSEEK_CALLS.descriptor()), Metric::new(api::PERPLEXITY_CALLS.descriptor()));
    let both = |of: &dyn Fn(&Metric) -> Metric| {
        format!("{} + {}", of(&deepseek).increase_by(&[]), of(&perplexity).increase_by(&[]))
    };
    let success = both(&|calls| calls.clone().with("status", "success"));
    let ended = both(&|calls| calls.clone().without("status", "cancelled"));
    let running = Metric::new(test_watcher::IS_RUNNING.descriptor());
    let loops = Metric::new(bridge::ACTIVE_LOOPS.descriptor());
    vec![
        Panel::stat("Is it up?", cpu, "")
            .about(
                "Whether every chosen endpoint that was there in the time shown is scraped, or data is pushed. Down: is \
                 the process running, does it listen where the scraper asks, do address and credentials fit?",
            )
            .yes_or_no("Up", "Down")
            .no_value("Down")
            // Only endpoints of ours: with all jobs chosen, `up` is that of everybody's. What is pushed has none: as long
            // as its series are there, it is.
            .query(
                format!(
                    "min(up{{{CHOSEN}}} and on (job, instance) last_over_time({0}[$__range])) or clamp_max(count({0}), 1)",
                    cpu.series()
                ),
                "",
            ),
        Panel::stat("Alerts firing", cpu, "")
            .about("How many alerts fire now: the table below has them, each has a runbook.")
            .unit("short")
            .thresholds(GREEN, &[(1.0, RED)])
            .now(format!("count(ALERTS{{alertstate=\"firing\", {ALERTS}}}) or vector(0)"), ""),
        percent("CPU", cpu, "Of the machine that has most to do. Red for long: what runs beside it?", [75.0, 90.0]),
        percent(
            "Memory",
            memory,
            "Of the machine that has least left. Red: the kernel may soon end a process.",
            [85.0, 95.0],
        ),
        percent("Disk", disk, "Of the machine that has least left. Red: make room before writes fail.", [85.0, 95.0]),
        Panel::stat("API calls that succeed", &deepseek, "")
            .about(
                "Share of API calls that succeeded in the time shown, cancelled ones left out; 100 % where none was \
                 made. Low: the API dashboard says which API and how.",
            )
            .share()
            .thresholds(RED, &[(0.9, ORANGE), (0.99, GREEN)])
            .now(share(&success, &ended), ""),
        Panel::states("Which component runs?", &running, "")
            .about(
                "The test watcher says itself whether it runs; the bridge does while it has a loop. Stopped: in one \
                 instance at least.",
            )
            .size(24, 4)
            .yes_or_no("Running", "Stopped")
            .query(format!("min({})", running.series()), "test watcher")
            .query(format!("clamp_max(min({}), 1)", sum("job, instance", &loops.series())), "async bridge"),
    ]
}

fn components() -> Vec<Panel> {
    let errors = [
        Metric::new(test_watcher::ERRORS.descriptor()),
        Metric::new(audit_agent::ERRORS.descriptor()),
        Metric::new(bridge::ERRORS.descriptor()),
        Metric::new(api::ERRORS.descriptor()),
        Metric::own("barograph.callback.errors"),
    ];
    let mut lately = Panel::bars("Which component has errors?", &errors[0], "")
        .about("Errors of each component in the time shown: its own dashboard says of which type.")
        .none_is_good(RED);
    let mut over_time = Panel::lines("When did the errors come?", &errors[0], "")
        .about("Errors of each component, a second.")
        .per_second(&errors[0]);
    for ((component, colour), errors) in COMPONENTS.into_iter().zip(&errors) {
        lately = lately.now(errors.increase_by(&[]), component);
        over_time = over_time.query(errors.rate_by(&[]), component).colour(component, colour);
    }
    let work = [
        (Metric::new(test_watcher::CHANGED_FILES_CURRENT.descriptor()), "files waiting"),
        (Metric::new(audit_agent::ACTIVE_TASKS.descriptor()), "audits under way"),
        (Metric::new(bridge::PENDING_TASKS.descriptor()), "futures on the loop"),
        (Metric::own("barograph.scrape.in_flight"), "scrapes in flight"),
    ];
    let mut under_way = Panel::lines("What is under way?", &work[0].0, "")
        .about(
            "Work that has begun and not ended, by component. A line that only grows is a leak or \
            something that hangs.",
        )
        .size(8, 8);
    for (metric, legend) in &work {
        under_way = under_way.query(sum("", &metric.series()), legend);
    }
    vec![
        lately,
        over_time,
        under_way,
        Panel::table(
            "Which alerts fire?",
            "Alerts that fire, or will if it goes on (pending). deploy/runbooks has a page for each, under its name.",
        )
        .size(24, 6)
        .no_value("no alerts")
        .query(format!("max by (alertname, severity, component, alertstate) (ALERTS{{{ALERTS}}})"), "")
        .columns(&[
            ("alertname", "Alert"),
            ("severity", "Severity"),
            ("component", "Component"),
            ("alertstate", "State"),
        ])
        .coloured_column("Severity", &[("critical", RED), ("warning", ORANGE), ("info", BLUE)])
        .coloured_column("State", &[("firing", RED), ("pending", YELLOW)]),
    ]
}

fn machine(cpu: &Metric, memory: &Metric, disk: &Metric) -> Vec<Panel> {
    let percent = |title, metric: &Metric, worse| {
        Panel::lines(title, metric, "")
            .max(100.0)
            .thresholds(BLUE, &[(worse, RED)])
            .query(metric.series(), "in use {{instance}}")
    };
    vec![
        percent("How busy is the machine?", cpu, 90.0),
        percent("How full is its memory?", memory, 95.0),
        percent("How full is its disk?", disk, 95.0),
    ]
}

fn process(cpu: &Metric) -> Vec<Panel> {
    let used = Metric::new(semconv::PROCESS_CPU.descriptor());
    let resident = Metric::new(semconv::PROCESS_RESIDENT_MEMORY.descriptor());
    let descriptors = Metric::new(semconv::PROCESS_OPEN_FILE_DESCRIPTORS.descriptor());
    let threads = Metric::new(semconv::PROCESS_THREADS_COUNT.descriptor());
    // Other programs, Prometheus among them, have metrics of these two names.
    let ours = |expr: &str| format!("{expr} and on (job, instance) {}", cpu.series());
    let each = |title, metric: &Metric, advice| Panel::lines(title, metric, advice).size(6, 8);
    vec![
        each("How much CPU does the process use?", &used, "In cores: 1 is one core all the time.")
            .unit("suffix:cores")
            .query(ours(&used.rate()), "cores {{instance}}"),
        each(
            "How much memory?",
            &resident,
            "Growing without end: a leak, or too many series; see the dashboard of Barograph.",
        )
        .query(ours(&resident.series()), "resident {{instance}}"),
        each("How many open files?", &descriptors, "`ulimit -n` says how many it may have.")
            .query(descriptors.series(), "open {{instance}}"),
        each("How many threads?", &threads, "").query(threads.series(), "threads {{instance}}"),
    ]
}
