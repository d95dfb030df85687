//! What a scrape shows by the semantic conventions, and by the names that Prometheus' own libraries use.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::fs::File;
use std::time::Instant;

use barograph::testing::TestTelemetry;
use barograph::{Descriptor, Telemetry, View};
use barograph_instrumentation_system::semconv::{
    CLASSIC_PROCESS_VIEWS, HOST_METRICS, METRICS, OTHER_PROCESS_METRICS, PROCESS_METRICS, ProcessCpuMode,
};
use barograph_instrumentation_system::{HostMetrics, ProcessMetrics, SystemMetrics};

#[test]
fn the_metrics_of_the_process_are_on_the_page_with_their_names_kinds_and_descriptions() {
    let telemetry = TestTelemetry::new();
    let _process = ProcessMetrics::new(telemetry.provider());
    telemetry.metric("process.cpu.utilization").with(ProcessCpuMode::User).eventually(|metric| metric.present());
    let metrics: Vec<&Descriptor> = PROCESS_METRICS.iter().chain(OTHER_PROCESS_METRICS).collect();
    // Whether the tests run in a container, and in one with limits, is not theirs to say.
    let (container, process): (Vec<&Descriptor>, _) =
        metrics.into_iter().partition(|metric| metric.name.starts_with("container."));
    let page = telemetry.page();
    shows(&page, process);
    shows(&page, container.into_iter().filter(|metric| page.contains(&metric.scraped_name().unwrap())));
    assert!(HOST_METRICS.iter().all(|metric| !page.contains(&metric.scraped_name().unwrap())), "{page}");
}

#[test]
fn the_metrics_of_the_machine_are_on_the_page_with_their_names_kinds_and_descriptions() {
    let telemetry = TestTelemetry::new();
    let _host = HostMetrics::new(telemetry.provider());
    telemetry.metric("system.cpu.utilization").with(("cpu.mode", "idle")).eventually(|metric| metric.present());
    let page = telemetry.page();
    // Not every machine has swap, a disk and a network.
    let may_be_missing =
        |metric: &&Descriptor| ["paging.u", ".disk.", ".network."].iter().any(|part| metric.name.contains(part));
    let (some, all): (Vec<&Descriptor>, _) = HOST_METRICS.iter().partition(may_be_missing);
    shows(&page, all);
    shows(&page, some.into_iter().filter(|metric| page.contains(&metric.scraped_name().unwrap())));
    assert!(!page.contains("process_"), "{page}");
}

#[test]
fn the_process_is_this_one() {
    let telemetry = TestTelemetry::new();
    let before = files_and_memory(&telemetry);
    let files: Vec<File> = (0..200).map(|_| File::open("/dev/null").unwrap()).collect();
    let memory = vec![1_u8; 64 << 20];
    let after = files_and_memory(&telemetry);
    assert!(after[0] - before[0] >= 150.0, "{before:?} {after:?}");
    assert!(after[1] - before[1] >= 50e6, "{before:?} {after:?}");
    drop((files, memory));
}

#[test]
fn cpu_time_is_in_seconds_by_mode() {
    let telemetry = TestTelemetry::new();
    let _process = ProcessMetrics::new(telemetry.provider());
    let user = telemetry.metric("process.cpu.time").with(ProcessCpuMode::User);
    let before = user.try_value().unwrap();
    let working = Instant::now();
    while working.elapsed().as_millis() < 100 {
        std::hint::spin_loop();
    }
    user.eventually(|user| {
        let spent = user.try_value().unwrap() - before;
        assert!(spent > 0.01 && spent < 100.0, "{spent}");
    });
}

#[test]
fn the_shares_of_the_machine_are_at_most_one() {
    let telemetry = TestTelemetry::new();
    let _host = HostMetrics::new(telemetry.provider());
    telemetry.eventually(|telemetry| {
        let page = telemetry.page();
        let sum = |name: &str| -> f64 {
            let samples = page.lines().filter(|line| line.starts_with(&format!("{name}{{")));
            samples.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
        };
        let cpus = sum("system_cpu_utilization_ratio");
        assert!((cpus - 1.0).abs() < 1e-6, "{cpus}");
        for line in page.lines().filter(|line| line.contains("utilization_ratio{")) {
            let share: f64 = line.rsplit_once(' ').unwrap().1.parse().unwrap();
            assert!((0.0..=1.0).contains(&share), "{line}");
        }
    });
}

#[test]
fn with_its_views_the_page_is_that_of_prometheus_own_libraries() {
    // What client_golang has on Linux, but for the network, which is not the process's; and `process_threads`, which the
    // library for Rust has.
    let expected = [
        "# TYPE process_cpu_seconds_total counter",
        "# TYPE process_max_fds gauge",
        "# TYPE process_open_fds gauge",
        "# TYPE process_resident_memory_bytes gauge",
        "# TYPE process_start_time_seconds gauge",
        "# TYPE process_threads gauge",
        "# TYPE process_virtual_memory_bytes gauge",
        "# TYPE process_virtual_memory_max_bytes gauge",
    ];
    let telemetry = TestTelemetry::with(|builder| {
        builder.with_view(View::of("*").in_scope("system").dropped()).with_views(CLASSIC_PROCESS_VIEWS.iter().copied())
    });
    let _process = ProcessMetrics::new(telemetry.provider());
    let page = telemetry.page();
    let mut types: Vec<&str> = page.lines().filter(|line| line.starts_with("# TYPE ")).collect();
    types.sort_unstable();
    assert_eq!(types, expected, "{page}");
    // One series each, whose labels are those of the scope.
    let series: Vec<&str> = page.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(series.len(), expected.len(), "{page}");
    for series in series {
        let labels = series.split_once('{').unwrap().1.split_once('}').unwrap().0;
        assert!(labels.split(',').all(|label| label.starts_with("otel_scope_")), "{series}");
    }
    telemetry.metric("process_cpu_seconds_total").present();
}

#[test]
fn the_classic_cpu_time_is_that_of_both_modes() {
    let telemetry = TestTelemetry::with(|builder| {
        builder.with_view(View::of("process.cpu.time")).with_views(CLASSIC_PROCESS_VIEWS.iter().copied())
    });
    let _process = ProcessMetrics::new(telemetry.provider());
    telemetry.eventually(|telemetry| {
        let value = |name: &str, mode: Option<&str>| {
            let metric = telemetry.metric(name);
            mode.map_or(metric.clone(), |mode| metric.with(("cpu_mode", mode))).try_value().unwrap()
        };
        let modes = ["user", "system"].map(|mode| value("process_cpu_time_seconds_total", Some(mode)));
        let both: f64 = modes.iter().sum();
        assert!((value("process_cpu_seconds_total", None) - both).abs() < 1e-9 && both > 0.0, "{modes:?}");
    });
}

#[test]
fn the_contract_and_the_conventions_have_no_name_in_common() {
    let telemetry = Telemetry::builder("test").without_endpoint().start().unwrap();
    let provider = telemetry.meter_provider();
    let _all = (SystemMetrics::new(provider), ProcessMetrics::new(provider), HostMetrics::new(provider));
    telemetry.verify().unwrap();
    let page = telemetry.scrape().unwrap();
    for metric in [&METRICS[3], &PROCESS_METRICS[0], &HOST_METRICS[2]] {
        assert!(page.contains(&format!("# TYPE {} ", metric.scraped_name().unwrap())), "{} in\n{page}", metric.name);
    }
}

#[test]
fn the_contract_under_the_classic_views_is_found_out() {
    let telemetry = Telemetry::builder("test")
        .with_views(CLASSIC_PROCESS_VIEWS.iter().copied())
        .without_endpoint()
        .start()
        .unwrap();
    let provider = telemetry.meter_provider();
    let _both = (SystemMetrics::new(provider), ProcessMetrics::new(provider));
    let error = telemetry.verify().unwrap_err().to_string();
    assert!(error.contains("process.cpu") || error.contains("process_cpu_seconds_total"), "{error}");
}

#[test]
fn nothing_is_left_of_metrics_that_were_dropped() {
    let telemetry = TestTelemetry::new();
    let both = (ProcessMetrics::new(telemetry.provider()), HostMetrics::new(telemetry.provider()));
    assert!(telemetry.page().contains("process_uptime_seconds"));
    drop(both);
    let page = telemetry.page();
    assert!(!page.contains("process_") && !page.contains("system_"), "{page}");
}

/// The page has each of them, as declared.
fn shows<'a>(page: &str, metrics: impl IntoIterator<Item = &'a Descriptor>) {
    for metric in metrics {
        let name = metric.scraped_name().unwrap();
        assert!(page.contains(&format!("# HELP {name} {}\n", metric.description)), "{name} is not in\n{page}");
        let kind = match metric.kind.as_str().trim_start_matches("observable ") {
            "up-down counter" => "gauge",
            kind => kind,
        };
        assert!(page.contains(&format!("# TYPE {name} {kind}\n")), "{name} is no {kind} in\n{page}");
    }
}

/// By a first reading.
fn files_and_memory(telemetry: &TestTelemetry) -> [f64; 2] {
    let _process = ProcessMetrics::new(telemetry.provider());
    ["process.unix.file_descriptor.count", "process.memory.usage"]
        .map(|name| telemetry.metric(name).try_value().unwrap())
}
