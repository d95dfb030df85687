//! Are requests answered, well and in time; and do those that we send to others get an answer?

use barograph_instrumentation_http::semconv;
use barograph_instrumentation_http::semconv::{
    ERROR_TYPE, HTTP_RESPONSE_STATUS_CODE, HTTP_ROUTE, RPC_RESPONSE_STATUS_CODE, SERVER_ADDRESS, SERVER_PORT,
    URL_TEMPLATE,
};

use crate::generator::grafana::{BLUE, Dashboard, GREEN, GREY, ORANGE, PURPLE, Panel, RED, YELLOW};
use crate::generator::query::{Metric, share, sum};

const SUCCEEDS: &str = "Requests that their client gave up are left out; 100 % where there was none.";

/// What is no status and no name of gRPC's: how a request ended that got no answer, or a broken one.
const ENDS: [(&str, &str); 6] =
    [("cancelled", GREY), ("panic", RED), ("timeout", ORANGE), ("connect", PURPLE), ("body", YELLOW), ("_OTHER", BLUE)];

pub(crate) fn dashboard() -> Dashboard {
    let active = Metric::new(semconv::SERVER_ACTIVE_REQUESTS.descriptor());
    let duration = Metric::new(semconv::SERVER_REQUEST_DURATION.descriptor());
    Dashboard {
        uid: "barograph-http",
        title: "HTTP",
        description: "Are requests answered, well and in time; and do those that we send to others get an answer?",
        rows: vec![
            ("", all_right(&duration, &active)),
            ("Requests", requests(&duration, &active)),
            ("How long they take", durations(&duration)),
            ("How large they are", sizes()),
            ("gRPC", grpc(&duration)),
            ("Requests that we send", sent()),
        ],
        known_by: active,
    }
}

fn all_right(duration: &Metric, active: &Metric) -> Vec<Panel> {
    let sent = Metric::new(semconv::CLIENT_REQUEST_DURATION.descriptor());
    let cancelled = duration.clone().with(ERROR_TYPE, "cancelled");
    vec![
        Panel::stat("Requests", duration, "")
            .about("Requests that ended, a second.")
            .unit("reqps")
            .query(duration.count_by(&[]), ""),
        Panel::stat("Answered well", duration, "")
            .about(&format!(
                "Share of requests in the time shown that did not end with an error of the server. {SUCCEEDS} Low: which \
                 route and which type of error stand below."
            ))
            .share()
            .thresholds(RED, &[(0.99, ORANGE), (0.999, GREEN)])
            .now(answered_well(duration, Metric::counted_by, &[]), ""),
        Panel::stat("Request, p95", duration, "One request in twenty takes longer.")
            .no_value("none lately")
            .thresholds(GREEN, &[(1.0, YELLOW), (2.5, RED)])
            .query(duration.quantile(0.95, &[]), ""),
        Panel::stat("Active", active, "All methods and instances together. Growing while none ends: the server hangs.")
            .decimals(0)
            .query(sum("", &active.series()), ""),
        Panel::stat("Given up", &cancelled, "")
            .about(
                "Requests in the time shown whose client went away before it had all of the answer. Many: who waits \
                 has less patience than we need time.",
            )
            .none_is_good(ORANGE)
            .unit("short")
            .no_value("none")
            .now(cancelled.counted_by(&[]), ""),
        Panel::stat("Sent, answered well", &sent, "")
            .about(&format!(
                "Share of the requests that we sent to others in the time shown which got an answer that is no error. \
                 {SUCCEEDS}"
            ))
            .share()
            .no_value("none sent")
            .thresholds(RED, &[(0.9, ORANGE), (0.99, GREEN)])
            .now(answered_well(&sent, Metric::counted_by, &[]), ""),
    ]
}

/// The share that ended without an error: what was given up says nothing about who answers.
fn answered_well(duration: &Metric, how: fn(&Metric, &[&str]) -> String, keys: &[&str]) -> String {
    let (well, ended) = (duration.clone().with(ERROR_TYPE, ""), duration.clone().without(ERROR_TYPE, "cancelled"));
    share(&how(&well, keys), &how(&ended, keys))
}

fn requests(duration: &Metric, active: &Metric) -> Vec<Panel> {
    let answered = duration.clone().without(HTTP_RESPONSE_STATUS_CODE, "");
    let unanswered = duration.clone().with(HTTP_RESPONSE_STATUS_CODE, "");
    let wrong = duration.clone().without(ERROR_TYPE, "");
    let cancelled = duration.clone().with(ERROR_TYPE, "cancelled");
    vec![
        per_second("What is asked for?", duration, "Requests that ended, by route.")
            .size(12, 8)
            .query(duration.count_by(&[HTTP_ROUTE]), "{{http_route}}"),
        coloured(per_second(
            "How do requests end?",
            duration,
            "By status; requests that ended without one, by what ended them.",
        ))
        .size(12, 8)
        .query(answered.count_by(&[HTTP_RESPONSE_STATUS_CODE]), "{{http_response_status_code}}")
        .query(unanswered.count_by(&[ERROR_TYPE]), "{{error_type}}"),
        coloured(per_second(
            "What goes wrong?",
            duration,
            "By route and type of error: a status of 5xx, a status of gRPC that is the server's fault, or what broke the \
             exchange. `panic`: the log has its message. `body`: the answer began and could not be finished.",
        ))
        .size(12, 8)
        .no_value("nothing goes wrong")
        .query(wrong.count_by(&[HTTP_ROUTE, ERROR_TYPE]), "{{http_route}} {{error_type}}"),
        Panel::lines("What share is answered well?", duration, "")
            .about(&format!("Share of requests that did not end with an error of the server, by route. {SUCCEEDS}"))
            .size(12, 8)
            .share()
            .thresholds(RED, &[(0.99, ORANGE), (0.999, GREEN)])
            .query(answered_well(duration, Metric::count_by, &[HTTP_ROUTE]), "{{http_route}}"),
        Panel::lines("How many are under way?", active, "A line that only grows is a handler that does not end.")
            .size(12, 8)
            .query(sum("instance, http_request_method", &active.series()), "{{http_request_method}} {{instance}}"),
        per_second(
            "Who is given up?",
            &cancelled,
            "Requests whose client went away before it had all of the answer, by route.",
        )
        .size(12, 8)
        .no_value("nobody went away")
        .query(cancelled.count_by(&[HTTP_ROUTE]), "{{http_route}}"),
    ]
}

/// How many requests a second.
fn per_second(title: &'static str, metric: &Metric, about: &str) -> Panel {
    Panel::lines(title, metric, "").about(about).unit("reqps").stacked()
}

fn coloured(panel: Panel) -> Panel {
    ENDS.into_iter().fold(panel.coloured_by_end(), |panel, (end, colour)| panel.coloured_last(end, colour))
}

const EXEMPLARS: &str = "A dot is one request: it names the trace that it was a part of, where the program has traces.";

fn durations(duration: &Metric) -> Vec<Panel> {
    vec![
        Panel::quantiles("How long do requests take?", duration, EXEMPLARS).exemplars(),
        Panel::heatmap("How were requests distributed?", duration, EXEMPLARS).exemplars(),
        each("How long does each route take?", duration, "95th percentile.", HTTP_ROUTE),
        coloured(each(
            "How long do failures take?",
            &duration.clone().without(ERROR_TYPE, ""),
            "95th percentile, by what went wrong. All at one time: somebody's time-out.",
            ERROR_TYPE,
        ))
        .no_value("nothing goes wrong"),
    ]
}

/// The 95th percentile by an attribute.
fn each(title: &'static str, metric: &Metric, advice: &str, key: &str) -> Panel {
    Panel::lines(title, metric, advice)
        .size(12, 8)
        .no_value("nothing recorded lately")
        .query(metric.quantile(0.95, &[key]), &format!("{{{{{}}}}}", key.replace('.', "_")))
}

fn sizes() -> Vec<Panel> {
    let request = Metric::new(semconv::SERVER_REQUEST_BODY_SIZE.descriptor());
    let response = Metric::new(semconv::SERVER_RESPONSE_BODY_SIZE.descriptor());
    vec![
        bytes("How many bytes go through?", &request, "Bodies of requests that were read, and of responses.")
            .query(request.total_by(&[]), "requests")
            .query(response.total_by(&[]), "responses"),
        each("How large are requests?", &request, "95th percentile, by route.", HTTP_ROUTE).size(8, 8),
        each("How large are responses?", &response, "95th percentile, by route.", HTTP_ROUTE).size(8, 8),
    ]
}

fn bytes(title: &'static str, metric: &Metric, about: &str) -> Panel {
    Panel::lines(title, metric, "").about(about).unit("Bps")
}

fn grpc(duration: &Metric) -> Vec<Panel> {
    let calls = duration.clone().without(RPC_RESPONSE_STATUS_CODE, "");
    vec![
        per_second("How do calls of gRPC end?", &calls, "By status of gRPC: the one of HTTP is 200 for all of them.")
            .size(12, 8)
            .no_value("no calls of gRPC")
            .colour("OK", GREEN)
            .query(calls.count_by(&[RPC_RESPONSE_STATUS_CODE]), "{{rpc_response_status_code}}"),
        each(
            "How long do calls of gRPC take?",
            &calls,
            "95th percentile, by status of gRPC.",
            RPC_RESPONSE_STATUS_CODE,
        )
        .no_value("no calls of gRPC"),
    ]
}

fn sent() -> Vec<Panel> {
    let duration = Metric::new(semconv::CLIENT_REQUEST_DURATION.descriptor());
    let active = Metric::new(semconv::CLIENT_ACTIVE_REQUESTS.descriptor());
    let request = Metric::new(semconv::CLIENT_REQUEST_BODY_SIZE.descriptor());
    let response = Metric::new(semconv::CLIENT_RESPONSE_BODY_SIZE.descriptor());
    let wrong = duration.clone().without(ERROR_TYPE, "");
    vec![
        per_second("Whom do we ask?", &duration, "Requests that ended, by host, port and template of the URL.").query(
            duration.count_by(&[SERVER_ADDRESS, SERVER_PORT, URL_TEMPLATE]),
            "{{server_address}}:{{server_port}} {{url_template}}",
        ),
        coloured(per_second(
            "What goes wrong with them?",
            &duration,
            "By host and type of error: a status of 4xx or 5xx, or what broke the exchange. `connect`: nobody answers \
             there. `cancelled`: we gave it up, a time-out of ours among the reasons.",
        ))
        .no_value("nothing goes wrong")
        .query(wrong.count_by(&[SERVER_ADDRESS, ERROR_TYPE]), "{{server_address}} {{error_type}}"),
        Panel::lines("What share do they answer well?", &duration, "")
            .about(&format!("Share of the requests to each host that got an answer which is no error. {SUCCEEDS}"))
            .share()
            .thresholds(RED, &[(0.9, ORANGE), (0.99, GREEN)])
            .query(answered_well(&duration, Metric::count_by, &[SERVER_ADDRESS]), "{{server_address}}"),
        Panel::quantiles("How long do they take?", &duration, EXEMPLARS).exemplars(),
        Panel::heatmap("How were they distributed?", &duration, EXEMPLARS).exemplars(),
        each("How long does each host take?", &duration, "95th percentile.", SERVER_ADDRESS).size(8, 8),
        Panel::lines("How many answers do we wait for?", &active, "Growing: a host that has stopped answering.")
            .query(sum("server_address, server_port", &active.series()), "{{server_address}}:{{server_port}}"),
        bytes(
            "How many bytes go there and back?",
            &request,
            "Bodies of requests that we sent, and of their responses.",
        )
        .query(request.total_by(&[]), "sent")
        .query(response.total_by(&[]), "received"),
    ]
}
