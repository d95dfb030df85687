//! Does measuring work: is everything scraped and pushed, nothing lost, nothing slow, nothing too much?

use crate::generator::grafana::{BLUE, Dashboard, GREEN, ORANGE, Panel, RED, YELLOW};
use crate::generator::query::{Metric, share, sum};

/// The component type of the scrape endpoint.
const ENDPOINT: &str = "prometheus_http_text_metric_exporter";
const NOT_PUSHED: &str = "nothing is pushed";

pub(crate) fn dashboard() -> Dashboard {
    let dropped = Metric::own("barograph.points.dropped");
    Dashboard {
        uid: "barograph-sdk",
        title: "Barograph",
        description: "Does measuring work: is everything scraped and pushed, nothing lost, nothing slow, \
            nothing too much?",
        rows: vec![
            ("", all_right(&dropped)),
            ("Scrapes", scrapes()),
            ("Exports", exports()),
            ("Collection and callbacks", collection()),
            ("What is missing, and what is too much", missing(&dropped)),
        ],
        known_by: dropped,
    }
}

fn all_right(dropped: &Metric) -> Vec<Panel> {
    let requests = Metric::own("barograph.scrape.requests");
    let failures = Metric::own("barograph.export.failures");
    let callbacks = Metric::own("barograph.callback.errors");
    let refused = Metric::own("barograph.instruments.refused");
    let overflowing = Metric::own("barograph.instrument.overflowing");
    let web_config = Metric::own("barograph.scrape.web_config.valid");
    let answered = share(&requests.clone().with("code", "200").increase_by(&[]), &requests.increase_by(&[]));
    vec![
        Panel::stat("Scrapes answered", &requests, "")
            .about(
                "Share of scrapes in the time shown that were answered with 200. Low: 500 is a pipeline that cannot \
                 collect, 503 one that is not ready or too busy; the program's log says more.",
            )
            .share()
            .thresholds(RED, &[(0.95, ORANGE), (0.999, GREEN)])
            .now(answered, ""),
        Panel::stat("Failed exports", &failures, "In the time shown; 0 where nothing is pushed. By reason below.")
            .none_is_good(RED)
            .now(format!("{} or vector(0)", failures.increase_by(&[])), ""),
        Panel::stat(
            "Points dropped",
            dropped,
            "In the time shown. `/debug/metrics` of the endpoint says of which metric and why.",
        )
        .none_is_good(ORANGE)
        .now(dropped.increase_by(&[]), ""),
        Panel::stat(
            "Callback errors",
            &callbacks,
            "In the time shown: series of that instrument were missing from a scrape.",
        )
        .size(3, 4)
        .none_is_good(RED)
        .now(format!("{} or vector(0)", callbacks.increase_by(&[])), ""),
        Panel::stat(
            "Not built",
            &refused,
            "Since the start: a mistake in the program. `Telemetry::verify` returns them, and the log names them.",
        )
        .size(3, 4)
        .none_is_good(RED)
        .query(sum("", &refused.series()), ""),
        Panel::stat(
            "Overflowing",
            &overflowing,
            "How many instruments. Leave out the attribute that has too many values: the log names it.",
        )
        .size(3, 4)
        .none_is_good(RED)
        .query(format!("sum({}) or vector(0)", overflowing.series()), ""),
        Panel::stat("Web config", &web_config, "Wrong: the log has the line. What was valid before stays in force.")
            .size(3, 4)
            .yes_or_no("Valid", "Wrong")
            .no_value("none")
            .query(format!("min({})", web_config.series()), ""),
    ]
}

fn scrapes() -> Vec<Panel> {
    let requests = Metric::own("barograph.scrape.requests");
    let duration = Metric::own("otel.sdk.exporter.operation.duration").with("otel.component.type", ENDPOINT);
    let sent = Metric::own("barograph.scrape.sent");
    let series = Metric::own("barograph.scrape.series");
    let in_flight = Metric::own("barograph.scrape.in_flight");
    let refused = Metric::own("barograph.scrape.refused");
    vec![
        Panel::lines("How are scrapes answered?", &requests, "")
            .per_second(&requests)
            .stacked()
            .coloured_by_end()
            .query(requests.rate_by(&["code"]), "{{code}}"),
        Panel::lines("How many bytes are sent?", &sent, "").per_second(&sent).query(sent.rate_by(&[]), "sent"),
        Panel::lines(
            "How many series has a page?",
            &series,
            "A step up is a deployment; a slope is an attribute that has no end.",
        )
        .query(series.series(), "series {{instance}}"),
        Panel::quantiles(
            "How long does a scrape take?",
            &duration,
            "From the request to the last byte. Prometheus gives up after 10 s.",
        ),
        Panel::heatmap("How were scrapes distributed?", &duration, ""),
        Panel::lines(
            "How many scrapes are under way?",
            &in_flight,
            "More than there are scrapers: they are slower than their interval.",
        )
        .size(12, 8)
        .query(in_flight.series(), "in flight {{instance}}"),
        Panel::lines(
            "Who is turned away, and why?",
            &refused,
            "`credentials`: a password or certificate is wrong. `connections`, `rate_limit`: a limit of the \
                endpoint.",
        )
        .size(12, 8)
        .per_second(&refused)
        .stacked()
        .query(refused.rate_by(&["reason"]), "{{reason}}"),
    ]
}

fn exports() -> Vec<Panel> {
    let failures = Metric::own("barograph.export.failures");
    let last_success = Metric::own("barograph.export.last_success_timestamp");
    let points = Metric::own("otel.sdk.exporter.metric_data_point.exported");
    let duration = Metric::own("otel.sdk.exporter.operation.duration");
    let lost = points.clone().without("error.type", "");
    let by = ["otel.component.name"];
    vec![
        Panel::lines(
            "Why do exports fail?",
            &failures,
            "`connection`: nobody there. `refused`, `rejected`: the receiver does not want it. `timeout`, \
             `unavailable`, `throttled`: it is too busy.",
        )
        .per_second(&failures)
        .stacked()
        .no_value(NOT_PUSHED)
        .query(failures.rate_by(&["exporter", "reason"]), "{{exporter}} {{reason}}"),
        Panel::lines(
            "How old is the last success?",
            &last_success,
            "Older than a few intervals: data of that time is missing at the receiver.",
        )
        .no_value(NOT_PUSHED)
        .thresholds(BLUE, &[(300.0, RED)])
        .query(format!("time() - {}", last_success.series()), "{{exporter}} {{instance}}"),
        Panel::lines("How long does an export take?", &duration, "95th percentile, waits before another try included.")
            .no_value("nothing exported lately")
            .query(duration.quantile(0.95, &by), "{{otel_component_name}}"),
        Panel::lines("How many points are exported?", &points, "")
            .size(12, 8)
            .per_second(&points)
            .query(points.clone().with("error.type", "").rate_by(&by), "{{otel_component_name}}"),
        Panel::lines("How many points are lost?", &lost, "Those that were rejected, or given up with this error.")
            .size(12, 8)
            .per_second(&points)
            // Who never lost any has no series of those; it has lost 0.
            .query(
                format!("{} or {} * 0", lost.rate_by(&["otel.component.name", "error.type"]), points.rate_by(&by)),
                "{{otel_component_name}} {{error_type}}",
            ),
    ]
}

fn collection() -> Vec<Panel> {
    let duration = Metric::own("otel.sdk.metric_reader.collection.duration");
    let callbacks = Metric::own("barograph.callback.duration");
    let errors = Metric::own("barograph.callback.errors");
    vec![
        Panel::quantiles("How long does a collection take?", &duration, ""),
        Panel::heatmap("How were collections distributed?", &duration, ""),
        Panel::lines(
            "Which callbacks are slow?",
            &callbacks,
            "95th percentile. Let a thread measure and the callback only read what it found.",
        )
        .size(12, 8)
        .no_value("nothing recorded lately")
        .query(callbacks.quantile(0.95, &["instrument"]), "{{instrument}}"),
        Panel::lines(
            "Which callbacks fail?",
            &errors,
            "`late`: a collection did not wait for it any longer. `panic`: the log has the message.",
        )
        .size(12, 8)
        .per_second(&errors)
        .stacked()
        .coloured_by_error()
        .query(errors.rate_by(&["instrument", "reason"]), "{{instrument}} {{reason}}"),
    ]
}

fn missing(dropped: &Metric) -> Vec<Panel> {
    let refused = Metric::own("barograph.instruments.refused");
    let series = Metric::own("barograph.instrument.series");
    let limit = Metric::own("barograph.instrument.series.limit");
    let overflowing = Metric::own("barograph.instrument.overflowing");
    let max = |metric: &Metric| format!("max by (instrument, scope) ({})", metric.series());
    vec![
        Panel::lines(
            "Why are points dropped?",
            dropped,
            "`conflict`: two metrics of one name. `duplicate`: \
            two series with the same labels. `invalid_name`, `invalid_value`: no scraper could read it.",
        )
        .size(12, 8)
        .per_second(dropped)
        .stacked()
        .query(dropped.rate_by(&["reason"]), "{{reason}}"),
        Panel::lines("Why were instruments refused?", &refused, "")
            .size(12, 8)
            .stacked()
            .query(sum("reason", &refused.series()), "{{reason}}"),
        Panel::bars(
            "How much of its limit does an instrument use?",
            &series,
            "Only those with open attributes that are near it.",
        )
        .unit("percentunit")
        .max(1.0)
        .thresholds(YELLOW, &[(1.0, RED)])
        .no_value("none is near its limit")
        .query(format!("{} / {}", max(&series), max(&limit)), "{{scope}} {{instrument}}"),
        Panel::lines("How many series do they have?", &series, "The dashed line is the limit.")
            .about(
                "Series of instruments that are near their limit, and the limit. Beyond it, series are \
                added up in one.",
            )
            .no_value("none is near its limit")
            .query(max(&series), "{{instrument}}")
            .query(max(&limit), "{{instrument}} limit"),
        Panel::states(
            "Which instruments overflow?",
            &overflowing,
            "Leave out the attribute that has too many values, or allow more: the log says how.",
        )
        .no_or_yes("Near its limit", "Overflowing")
        .no_value("none is near its limit")
        .query(max(&overflowing), "{{scope}} {{instrument}}"),
    ]
}
