//! Do the APIs answer, how fast, and what does it cost? And the bridge that calls go across.

use barograph_instrumentation_api_clients::semconv;
use barograph_instrumentation_async_bridge::semconv as bridge;

use crate::generator::grafana::{BLUE, Dashboard, GREEN, ORANGE, PURPLE, Panel, RED, YELLOW};
use crate::generator::query::{Metric, share, sum};

const SUCCEEDS: &str = "Cancelled calls are left out; 100 % where none was made. Low: which status and which type of \
                        error below say whether it is us, the network or the API.";

pub(crate) fn dashboard() -> Dashboard {
    let deepseek = Metric::new(semconv::DEEPSEEK_CALLS.descriptor());
    let perplexity = Metric::new(semconv::PERPLEXITY_CALLS.descriptor());
    let rate_limits = Metric::new(semconv::RATE_LIMITS.descriptor());
    let errors = Metric::new(semconv::ERRORS.descriptor());
    let tokens = Metric::new(semconv::TOKENS_USED.descriptor());
    let deepseek_time = Metric::new(semconv::DEEPSEEK_RESPONSE_TIME.descriptor());
    let perplexity_time = Metric::new(semconv::PERPLEXITY_RESPONSE_TIME.descriptor());
    let duration = Metric::new(semconv::REQUEST_DURATION.descriptor());
    let of = |api: &str| duration.clone().with("api", api);

    let all_right = vec![
        succeeded_lately("DeepSeek succeeds", &deepseek),
        succeeded_lately("Perplexity succeeds", &perplexity),
        Panel::stat("Calls", &duration, "")
            .unit("short")
            .decimals(0)
            .about("Calls to DeepSeek and Perplexity that ended in the time shown.")
            .now(format!("{} + {}", deepseek.increase_by(&[]), perplexity.increase_by(&[])), ""),
        Panel::stat("Call, p95", &duration, "One call in twenty takes longer.")
            .no_value("none lately")
            .thresholds(GREEN, &[(2.5, YELLOW), (10.0, RED)])
            .query(duration.quantile(0.95, &[]), ""),
        Panel::stat(
            "Rate limits",
            &rate_limits,
            "In the time shown. Many: call less often, or ask for a higher limit.",
        )
        .size(3, 4)
        .none_is_good(PURPLE)
        .now(rate_limits.increase_by(&[]), ""),
        Panel::stat("Errors", &errors, "In the time shown.")
            .size(3, 4)
            .none_is_good(RED)
            .now(errors.increase_by(&[]), ""),
        Panel::stat("Tokens", &tokens, "In the time shown: what is paid for.")
            .size(2, 4)
            .decimals(1)
            .now(tokens.increase_by(&[]), ""),
    ];
    let calls = vec![
        calls_by_status("How do calls to DeepSeek end?", &deepseek),
        calls_by_status("How do calls to Perplexity end?", &perplexity),
        Panel::lines("What share of calls succeeds?", &deepseek, "")
            .about(&format!("Share of calls that succeed, by API. {SUCCEEDS}"))
            .share()
            .thresholds(RED, &[(0.9, ORANGE), (0.99, GREEN)])
            .colour("DeepSeek", BLUE)
            .colour("Perplexity", PURPLE)
            .query(succeed(&deepseek, Metric::rate_by), "DeepSeek")
            .query(succeed(&perplexity, Metric::rate_by), "Perplexity"),
        Panel::lines(
            "What goes wrong?",
            &errors,
            "`connect`: no connection, or it broke. `status`: the API said no. `decode`: it said something odd.",
        )
        .per_second(&errors)
        .stacked()
        .size(12, 8)
        .coloured_by_error()
        .query(errors.rate_by(&["api", "error_type"]), "{{api}} {{error_type}}"),
        Panel::lines("Who tells us to slow down?", &rate_limits, "")
            .per_second(&rate_limits)
            .size(6, 8)
            .query(rate_limits.rate_by(&["api"]), "{{api}}"),
        Panel::lines("How many tokens are used?", &tokens, "`prompt` goes to the API, `completion` comes back.")
            .per_second(&tokens)
            .stacked()
            .size(6, 8)
            .query(tokens.rate_by(&["api", "direction"]), "{{api}} {{direction}}"),
    ];
    let durations = vec![
        Panel::quantiles("How long do calls to DeepSeek take?", &of("deepseek"), ""),
        Panel::heatmap("How were calls to DeepSeek distributed?", &of("deepseek"), ""),
        Panel::quantiles("How long do calls to Perplexity take?", &of("perplexity"), ""),
        Panel::heatmap("How were calls to Perplexity distributed?", &of("perplexity"), ""),
        Panel::lines(
            "How long do calls take, by how they end?",
            &duration,
            "95th percentile. Timeouts at the timeout, errors fast: the API is down.",
        )
        .size(12, 8)
        .coloured_by_end()
        .no_value("nothing recorded lately")
        .query(duration.quantile(0.95, &["status"]), "{{status}}"),
        Panel::lines("How long did the latest answer take?", &deepseek_time, "Of each API, as the clients say it.")
            .size(12, 8)
            .about("Time that the latest answer of each API took. The quantiles beside it say what is usual.")
            .query(deepseek_time.series(), "DeepSeek {{instance}}")
            .query(perplexity_time.series(), "Perplexity {{instance}}"),
    ];
    Dashboard {
        uid: "barograph-api",
        title: "API",
        description: "Do the APIs answer, how fast, and what does it cost? And the bridge that calls go across.",
        known_by: deepseek,
        rows: vec![
            ("", all_right),
            ("Calls", calls),
            ("How long they take", durations),
            ("Safe async bridge", across()),
        ],
    }
}

/// Calls from synchronous code into the asynchronous one.
fn across() -> Vec<Panel> {
    let calls = Metric::new(bridge::CALLS.descriptor());
    let errors = Metric::new(bridge::ERRORS.descriptor());
    let timeouts = Metric::new(bridge::TIMEOUTS.descriptor());
    let pending = Metric::new(bridge::PENDING_TASKS.descriptor());
    let loops = Metric::new(bridge::ACTIVE_LOOPS.descriptor());
    let duration = Metric::new(bridge::EXECUTION_DURATION.descriptor());
    vec![
        Panel::stat("Loops", &loops, "Of the instance that has fewest. 0: its bridge is closed, every call fails.")
            .decimals(0)
            .thresholds(RED, &[(1.0, GREEN)])
            .query(format!("min({})", sum("job, instance", &loops.series())), ""),
        Panel::stat(
            "Futures on the loop",
            &pending,
            "Growing without end: futures that nobody drives or that never end.",
        )
        .decimals(0)
        .thresholds(GREEN, &[(10.0, YELLOW), (100.0, RED)])
        .query(sum("", &pending.series()), ""),
        Panel::stat("Calls across", &calls, "In the time shown.").decimals(0).now(calls.increase_by(&[]), ""),
        Panel::stat("Timeouts", &timeouts, "In the time shown. The loop is busy, or what it calls is slow.")
            .none_is_good(ORANGE)
            .now(timeouts.increase_by(&[]), ""),
        Panel::stat(
            "Bridge errors",
            &errors,
            "In the time \
            shown.",
        )
        .none_is_good(RED)
        .now(errors.increase_by(&[]), ""),
        Panel::stat("Call across, p95", &duration, "One call in twenty takes longer.")
            .no_value("none lately")
            .query(duration.quantile(0.95, &[]), ""),
        Panel::lines("How do calls across the bridge end?", &calls, "")
            .per_second(&calls)
            .stacked()
            .coloured_by_end()
            .query(calls.rate_by(&["outcome"]), "{{outcome}}"),
        Panel::lines(
            "Why do they fail?",
            &errors,
            "`panic`: a future panicked. `closed`: the bridge was closed before. `other`: the future returned \
             an error.",
        )
        .per_second(&errors)
        .stacked()
        .coloured_by_error()
        .query(errors.rate_by(&["error_type"]), "{{error_type}}")
        .query(timeouts.rate_by(&[]), "timeout")
        .colour("timeout", ORANGE),
        Panel::lines("How many futures are on the loop?", &pending, "")
            .colour("futures", BLUE)
            .colour("loops", GREEN)
            .query(sum("", &pending.series()), "futures")
            .query(sum("", &loops.series()), "loops"),
        Panel::quantiles("How long does a call across take?", &duration, ""),
        Panel::heatmap("How were calls across distributed?", &duration, ""),
    ]
}

fn succeeded_lately(title: &'static str, calls: &Metric) -> Panel {
    Panel::stat(title, calls, &format!("Share that succeeded in the time shown. {SUCCEEDS}"))
        .share()
        .thresholds(RED, &[(0.9, ORANGE), (0.99, GREEN)])
        .now(succeed(calls, Metric::increase_by), "")
}

/// The share of calls that succeed: those that their caller gave up say nothing about the API.
fn succeed(calls: &Metric, how: fn(&Metric, &[&str]) -> String) -> String {
    let (success, ended) = (calls.clone().with("status", "success"), calls.clone().without("status", "cancelled"));
    share(&how(&success, &[]), &how(&ended, &[]))
}

fn calls_by_status(title: &'static str, calls: &Metric) -> Panel {
    Panel::lines(title, calls, "")
        .per_second(calls)
        .stacked()
        .coloured_by_end()
        .query(calls.rate_by(&["status"]), "{{status}}")
}
