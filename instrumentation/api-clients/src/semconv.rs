//! What an API client records: the only place where a name, a unit or a description is written.

use std::error::Error;

use barograph::{CounterSpec, Descriptor, Failure, GaugeSpec, HistogramSpec, attribute, buckets};

/// The name of the instrumentation scope.
pub const SCOPE: &str = "api_clients";

attribute! {
    /// Which API was called.
    pub enum Api: "api" { DeepSeek = "deepseek", Perplexity = "perplexity", Other = "other" }
    unknown => Other
}

attribute! {
    /// How a call ended.
    pub enum CallStatus: "status" {
        Success = "success",
        Error = "error",
        Timeout = "timeout",
        RateLimited = "rate_limited",
        Cancelled = "cancelled",
    }
    unfinished => Cancelled
}

attribute! {
    /// Why a call failed.
    pub enum ErrorType: "error_type" {
        /// There was no connection, or it broke.
        Connect = "connect",
        /// The API took too long.
        Timeout = "timeout",
        /// The API answered with a status that is neither a success, a redirection nor 429.
        Status = "status",
        /// The answer could not be understood.
        Decode = "decode",
        /// Something else.
        Other = "other",
    }
    unknown => Other
}

impl ErrorType {
    /// The type of an error, from the first of it and its causes that says so: see [`Failure`].
    #[must_use]
    pub fn of(error: &(dyn Error + 'static)) -> Self {
        Failure::of(error).into()
    }
}

impl From<Failure> for ErrorType {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Timeout => Self::Timeout,
            Failure::Connect => Self::Connect,
            Failure::Other => Self::Other,
        }
    }
}

attribute! {
    /// Which way tokens went.
    pub enum Direction: "direction" {
        /// To the API.
        Prompt = "prompt",
        /// From the API.
        Completion = "completion",
    }
}

/// Calls to DeepSeek, by how they ended.
pub const DEEPSEEK_CALLS: CounterSpec<CallStatus> =
    CounterSpec::new("api.deepseek.calls", "{call}", "Calls to the DeepSeek API, by how they ended.");

/// Calls to Perplexity, by how they ended.
pub const PERPLEXITY_CALLS: CounterSpec<CallStatus> =
    CounterSpec::new("api.perplexity.calls", "{call}", "Calls to the Perplexity API, by how they ended.");

/// Responses with status 429, by API.
pub const RATE_LIMITS: CounterSpec<Api> =
    CounterSpec::new("api.rate_limits", "{response}", "Responses that said to slow down (429), by API.");

/// Calls that failed, by API and reason: as many as there are calls with status `error` or `timeout`.
pub const ERRORS: CounterSpec<(Api, ErrorType)> =
    CounterSpec::new("api.errors", "{error}", "Calls that failed, by API and type of error.");

/// Tokens, by API and direction.
pub const TOKENS_USED: CounterSpec<(Api, Direction)> =
    CounterSpec::new("api.tokens_used", "{token}", "Tokens used, by API and direction.");

/// Seconds that the latest answered call to DeepSeek took.
pub const DEEPSEEK_RESPONSE_TIME: GaugeSpec =
    GaugeSpec::new("api.deepseek.response_time", "s", "Time the latest answer of the DeepSeek API took.");

/// Seconds that the latest answered call to Perplexity took.
pub const PERPLEXITY_RESPONSE_TIME: GaugeSpec =
    GaugeSpec::new("api.perplexity.response_time", "s", "Time the latest answer of the Perplexity API took.");

/// Seconds from the start of a call to its end, by API and how it ended.
pub const REQUEST_DURATION: HistogramSpec<(Api, CallStatus)> =
    HistogramSpec::new("api.request_duration", "s", "Time a call took, by API and how it ended.")
        .buckets(buckets::SECONDS);

/// Every metric of the API clients.
pub const METRICS: &[Descriptor] = &[
    DEEPSEEK_CALLS.descriptor(),
    PERPLEXITY_CALLS.descriptor(),
    RATE_LIMITS.descriptor(),
    ERRORS.descriptor(),
    TOKENS_USED.descriptor(),
    DEEPSEEK_RESPONSE_TIME.descriptor(),
    PERPLEXITY_RESPONSE_TIME.descriptor(),
    REQUEST_DURATION.descriptor(),
];
