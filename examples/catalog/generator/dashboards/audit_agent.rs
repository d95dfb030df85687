//! Is the project audited, how well is it covered, and what made the agent run?

use barograph_instrumentation_audit_agent::semconv;

use crate::generator::grafana::{BLUE, Dashboard, GREEN, GREY, ORANGE, PURPLE, Panel, RED, YELLOW};
use crate::generator::query::{Metric, sum};

pub(crate) fn dashboard() -> Dashboard {
    let runs = Metric::new(semconv::RUNS.descriptor());
    let markers = Metric::new(semconv::COMPLETION_MARKERS_FOUND.descriptor());
    let commits = Metric::new(semconv::GIT_COMMITS_DETECTED.descriptor());
    let errors = Metric::new(semconv::ERRORS.descriptor());
    let coverage = Metric::new(semconv::COVERAGE.descriptor());
    let last_run = Metric::new(semconv::LAST_RUN_TIMESTAMP.descriptor());
    let active = Metric::new(semconv::ACTIVE_TASKS.descriptor());
    let run = Metric::new(semconv::RUN_DURATION.descriptor());
    let analysis = Metric::new(semconv::ANALYSIS_DURATION.descriptor());

    let all_right = vec![
        Panel::stat(
            "Last audit ended",
            &last_run,
            "How long ago that is, in the instance where it is longest. Older than the schedule: no run comes to its \
             end, look at Audits under way and Errors.",
        )
        .unit("dtdurations")
        .decimals(0)
        .no_value("no audit yet")
        .thresholds(GREEN, &[(3600.0, YELLOW), (86_400.0, RED)])
        .query(format!("time() - min({})", last_run.series()), ""),
        Panel::gauge(
            "Coverage",
            &coverage,
            "Of the project that is covered worst. A drop comes with a change: see the commits below.",
        )
        .max(100.0)
        .decimals(1)
        .no_value("no audit yet")
        .thresholds(RED, &[(60.0, YELLOW), (80.0, GREEN)])
        .query(format!("min({})", coverage.series()), ""),
        Panel::stat("Audits under way", &active, "One that stays for half an hour hangs.")
            .decimals(0)
            .query(sum("", &active.series()), ""),
        Panel::stat("Audits started", &runs, "In the time shown.").decimals(0).now(runs.increase_by(&[]), ""),
        Panel::stat("Audit run, p95", &run, "One run in twenty takes longer.")
            .no_value("none yet")
            .thresholds(GREEN, &[(120.0, YELLOW), (300.0, RED)])
            .query(run.quantile(0.95, &[]), ""),
        Panel::stat("Errors", &errors, "In the time shown. By type below; the log has the messages.")
            .none_is_good(RED)
            .now(errors.increase_by(&[]), ""),
    ];
    let what = vec![
        Panel::lines("What makes it run?", &runs, "")
            .per_second(&runs)
            .stacked()
            .colour("scheduled", BLUE)
            .colour("manual", PURPLE)
            .colour("marker", GREEN)
            .colour("commit", ORANGE)
            .colour("other", GREY)
            .query(runs.rate_by(&["trigger"]), "{{trigger}}"),
        Panel::lines("How well is the project covered?", &coverage, "")
            .max(100.0)
            .thresholds(RED, &[(60.0, YELLOW), (80.0, GREEN)])
            .query(coverage.series(), "coverage {{instance}}"),
        Panel::lines("How old is the last audit?", &last_run, "A saw: it falls when an audit ends.")
            .query(format!("time() - {}", last_run.series()), "age {{instance}}"),
        Panel::lines("What does it find?", &markers, "Completion markers, and commits: each can make it run.")
            .unit("suffix:finds/s")
            .colour("completion markers", GREEN)
            .colour("commits", ORANGE)
            .query(markers.rate_by(&[]), "completion markers")
            .query(commits.rate_by(&[]), "commits"),
        Panel::lines("How many audits are under way?", &active, "").query(sum("", &active.series()), "under way"),
        Panel::lines(
            "What goes wrong in the agent?",
            &errors,
            "`io` the file system, `git` the repository, `parse` what it read.",
        )
        .per_second(&errors)
        .stacked()
        .coloured_by_error()
        .query(errors.rate_by(&["error_type"]), "{{error_type}}"),
    ];
    let durations = vec![
        Panel::quantiles("How long does an audit take?", &run, ""),
        Panel::heatmap("How were audits distributed?", &run, ""),
        Panel::quantiles(
            "How long does the analysis take?",
            &analysis,
            "It is a part of the run; the rest is reading and waiting.",
        ),
        Panel::heatmap("How was the analysis distributed?", &analysis, ""),
        Panel::lines("How long does an audit take, by what triggered it?", &run, "95th percentile.")
            .size(24, 8)
            .no_value("nothing recorded lately")
            .query(run.quantile(0.95, &["trigger"]), "{{trigger}}"),
    ];
    Dashboard {
        uid: "barograph-audit-agent",
        title: "Audit agent",
        description: "Is the project audited, how well is it covered, and what made the agent run?",
        known_by: runs,
        rows: vec![("", all_right), ("What it does", what), ("How long it takes", durations)],
    }
}
