//! Are tests run, do they pass, and how long does a change wait for its result?

use barograph_instrumentation_test_watcher::semconv;

use crate::generator::grafana::{BLUE, Dashboard, GREEN, ORANGE, Panel, RED, YELLOW};
use crate::generator::query::{Metric, share, sum};

pub(crate) fn dashboard() -> Dashboard {
    let files = Metric::new(semconv::FILES_PROCESSED.descriptor());
    let runs = Metric::new(semconv::TESTS_RUN.descriptor());
    let passed = runs.clone().with("status", "pass");
    let calls = Metric::new(semconv::API_CALLS.descriptor());
    let succeeded = calls.clone().with("status", "success");
    let errors = Metric::new(semconv::ERRORS.descriptor());
    let waiting = Metric::new(semconv::CHANGED_FILES_CURRENT.descriptor());
    let memory = Metric::new(semconv::MEMORY_USAGE.descriptor());
    let running = Metric::new(semconv::IS_RUNNING.descriptor());
    let processing = Metric::new(semconv::PROCESSING_DURATION.descriptor());
    let debounce = Metric::new(semconv::DEBOUNCE_DURATION.descriptor());
    let execution = Metric::new(semconv::TEST_EXECUTION_DURATION.descriptor());

    let all_right = vec![
        Panel::stat("Is it running?", &running, "0 after an orderly stop. Stopped without one: see System health.")
            .size(3, 4)
            .yes_or_no("Running", "Stopped")
            .query(format!("min({})", running.series()), ""),
        Panel::stat(
            "Runs that passed",
            &runs,
            "Share of runs in the time shown that passed; 100 % where there were none. Low: look at Test runs \
             below, failures are the project's, errors the watcher's.",
        )
        .share()
        .thresholds(RED, &[(0.8, YELLOW), (0.95, GREEN)])
        .now(share(&passed.increase_by(&[]), &runs.increase_by(&[])), ""),
        Panel::stat("Test runs", &runs, "In the time shown.").size(3, 4).decimals(0).now(runs.increase_by(&[]), ""),
        Panel::stat(
            "Files processed",
            &files,
            "In the time shown. 0 while files change: the watcher is stuck, look at Files waiting.",
        )
        .size(3, 4)
        .decimals(0)
        .now(files.increase_by(&[]), ""),
        Panel::stat("Files waiting", &waiting, "More and more: changes come faster than tests end, or a run hangs.")
            .size(3, 4)
            .decimals(0)
            .thresholds(GREEN, &[(20.0, YELLOW), (40.0, RED)])
            .query(sum("", &waiting.series()), ""),
        Panel::stat("Test execution, p95", &execution, "One run in twenty takes longer.")
            .no_value("none yet")
            .thresholds(GREEN, &[(60.0, YELLOW), (300.0, RED)])
            .query(execution.quantile(0.95, &[]), ""),
        Panel::stat(
            "Errors",
            &errors,
            "In the time shown. Failing tests are none. By type below; the log has the messages.",
        )
        .none_is_good(RED)
        .now(errors.increase_by(&[]), ""),
        Panel::states("Has it been running?", &running, "")
            .size(24, 3)
            .yes_or_no("Running", "Stopped")
            .query(running.series(), "test watcher {{instance}}"),
    ];
    let work = vec![
        Panel::lines("How do test runs end?", &runs, "")
            .per_second(&runs)
            .stacked()
            .coloured_by_end()
            .query(runs.rate_by(&["status"]), "{{status}}"),
        Panel::lines("What share of runs passes?", &runs, "100 % where nothing ran.")
            .share()
            .colour("passed", GREEN)
            .query(share(&passed.rate_by(&[]), &runs.rate_by(&[])), "passed"),
        Panel::lines("How many files are processed?", &files, "")
            .per_second(&files)
            .colour("processed", BLUE)
            .query(files.rate_by(&[]), "processed"),
        Panel::lines("How many changed files wait?", &waiting, "It comes back to 0 between bursts of changes.")
            .thresholds(BLUE, &[(40.0, RED)])
            .query(sum("", &waiting.series()), "waiting"),
        Panel::lines(
            "What goes wrong in the watcher?",
            &errors,
            "Errors of the watcher itself: `io` the file system, `test` the test command, `api` a call.",
        )
        .per_second(&errors)
        .stacked()
        .coloured_by_error()
        .query(errors.rate_by(&["error_type"]), "{{error_type}}"),
        Panel::lines(
            "How much memory does it use?",
            &memory,
            "Growing without end: restart it, and keep a heap profile if you can.",
        )
        .query(memory.series(), "memory {{instance}}"),
    ];
    let durations = vec![
        Panel::quantiles("How long do tests run?", &execution, "A step up: look for a test that hangs."),
        Panel::heatmap("How were test executions distributed?", &execution, ""),
        Panel::quantiles(
            "How long does a change take, in all?",
            &processing,
            "From noticing the change to its result.",
        ),
        Panel::heatmap("How was processing distributed?", &processing, ""),
        Panel::quantiles(
            "How long until a burst of changes has settled?",
            &debounce,
            "Longer than a second: something writes without pause, perhaps a build below the watched folder.",
        ),
        Panel::heatmap("How was settling distributed?", &debounce, ""),
        Panel::lines("How long do tests run, by how they end?", &execution, "95th percentile.")
            .size(24, 8)
            .coloured_by_end()
            .no_value("nothing recorded lately")
            .query(execution.quantile(0.95, &["status"]), "{{status}}"),
    ];
    let api_calls = vec![
        Panel::lines("How do its API calls end?", &calls, "The API dashboard has durations and tokens.")
            .per_second(&calls)
            .stacked()
            .coloured_by_end()
            .size(12, 8)
            .query(calls.rate_by(&["api", "status"]), "{{api}} {{status}}"),
        Panel::lines("What share of API calls succeeds?", &calls, "100 % where none was made.")
            .share()
            .thresholds(RED, &[(0.9, ORANGE), (0.99, GREEN)])
            .size(12, 8)
            .query(share(&succeeded.rate_by(&["api"]), &calls.rate_by(&["api"])), "{{api}}"),
    ];
    Dashboard {
        uid: "barograph-test-watcher",
        title: "Test watcher performance",
        description: "Are tests run, do they pass, and how long does a change wait for its result?",
        known_by: running,
        rows: vec![("", all_right), ("What it does", work), ("How long it takes", durations), ("API calls", api_calls)],
    }
}
