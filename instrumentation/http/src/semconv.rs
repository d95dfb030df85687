//! What HTTP servers and clients record: the only place where a name, a unit or a description is written.
//!
//! Names, units, kinds, descriptions, attributes and their requirement levels are those of the
//! [semantic conventions 1.44.0 for HTTP metrics]. Of their opt-in attributes none is recorded, save for `url.template`
//! where a program gives one. `rpc.response.status_code` is the one of the [conventions for gRPC], and stands only with
//! the requests that are calls of gRPC.
//!
//! [semantic conventions 1.44.0 for HTTP metrics]: https://github.com/open-telemetry/semantic-conventions/blob/v1.44.0/docs/http/http-metrics.md
//! [conventions for gRPC]: https://github.com/open-telemetry/semantic-conventions/blob/v1.44.0/docs/rpc/grpc.md

use std::error::Error;

use barograph::{Descriptor, Failure, HistogramSpec, UpDownCounterSpec, attribute, buckets};

/// The name of the instrumentation scope.
pub const SCOPE: &str = "http";

/// The schema of the semantic conventions that are followed.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.44.0";

attribute! {
    /// The method of a request. Methods are told apart by case, so `get` is `_OTHER`.
    pub enum Method: "http.request.method" {
        Connect = "CONNECT",
        Delete = "DELETE",
        Get = "GET",
        Head = "HEAD",
        Options = "OPTIONS",
        Patch = "PATCH",
        Post = "POST",
        Put = "PUT",
        Query = "QUERY",
        Trace = "TRACE",
        /// Any other: what clients make up is no series of its own.
        Other = "_OTHER",
    }
    unknown => Other
}

attribute! {
    /// The scheme that the client of a server used.
    pub enum Scheme: "url.scheme" { Http = "http", Https = "https" }
}

attribute! {
    /// The version of HTTP that was spoken.
    pub enum ProtocolVersion: "network.protocol.version" {
        V0_9 = "0.9",
        V1_0 = "1.0",
        V1_1 = "1.1",
        V2 = "2",
        V3 = "3",
    }
}

attribute! {
    /// What ended a request, where it was not its status: see [`ERROR_TYPE`].
    pub enum ErrorType: "error.type" {
        /// The response, or what was left of its body, was dropped: a client that went away, a call that was given up.
        Cancelled = "cancelled",
        /// It panicked.
        Panic = "panic",
        /// It took too long.
        Timeout = "timeout",
        /// There was no connection, or it broke.
        Connect = "connect",
        /// The response began, and its body failed.
        Body = "body",
        /// Another error of the service.
        Other = "_OTHER",
    }
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
    /// How a call of gRPC ended.
    pub enum GrpcStatus: "rpc.response.status_code" {
        Ok = "OK",
        Cancelled = "CANCELLED",
        Unknown = "UNKNOWN",
        InvalidArgument = "INVALID_ARGUMENT",
        DeadlineExceeded = "DEADLINE_EXCEEDED",
        NotFound = "NOT_FOUND",
        AlreadyExists = "ALREADY_EXISTS",
        PermissionDenied = "PERMISSION_DENIED",
        ResourceExhausted = "RESOURCE_EXHAUSTED",
        FailedPrecondition = "FAILED_PRECONDITION",
        Aborted = "ABORTED",
        OutOfRange = "OUT_OF_RANGE",
        Unimplemented = "UNIMPLEMENTED",
        Internal = "INTERNAL",
        Unavailable = "UNAVAILABLE",
        DataLoss = "DATA_LOSS",
        Unauthenticated = "UNAUTHENTICATED",
    }
}

/// The key of the route's template. Requests that no route matched have [`UNMATCHED`].
pub const HTTP_ROUTE: &str = "http.route";

/// The `http.route` of requests that no route matched, whatever their path.
pub const UNMATCHED: &str = "_UNMATCHED";

/// The key of the status code, an integer. Absent where a request ended without a response.
pub const HTTP_RESPONSE_STATUS_CODE: &str = "http.response.status_code";

/// The key of the type of error. Absent where a request ended well.
///
/// For a server that is a status of 5xx, for a client one of 4xx or 5xx, as a text; else the name of a status of gRPC that
/// counts as an error on that side; else an [`ErrorType`].
pub const ERROR_TYPE: &str = "error.type";

/// The key of the status of gRPC. Absent where a request is no call of gRPC, or ended without a response.
pub const RPC_RESPONSE_STATUS_CODE: &str = "rpc.response.status_code";

/// The key of the version of HTTP, for clients, which learn it from the response.
pub const NETWORK_PROTOCOL_VERSION: &str = "network.protocol.version";

/// The key of the host that a client asks.
pub const SERVER_ADDRESS: &str = "server.address";

/// The key of the port that a client asks, an integer.
pub const SERVER_PORT: &str = "server.port";

/// The key of the template of the URL that a client asks. Absent where the program gives none.
pub const URL_TEMPLATE: &str = "url.template";

const OF_SERVER: &[&str] = &[HTTP_ROUTE, HTTP_RESPONSE_STATUS_CODE, ERROR_TYPE, RPC_RESPONSE_STATUS_CODE];

const OF_CLIENT: &[&str] = &[
    SERVER_ADDRESS,
    SERVER_PORT,
    URL_TEMPLATE,
    HTTP_RESPONSE_STATUS_CODE,
    NETWORK_PROTOCOL_VERSION,
    ERROR_TYPE,
    RPC_RESPONSE_STATUS_CODE,
];

/// Seconds from a request's arrival to the end of its response.
pub const SERVER_REQUEST_DURATION: HistogramSpec<(Method, Scheme, ProtocolVersion)> =
    HistogramSpec::new("http.server.request.duration", "s", "Duration of HTTP server requests.")
        .buckets(buckets::SECONDS)
        .open(OF_SERVER);

/// Requests that have arrived and whose responses have not ended.
pub const SERVER_ACTIVE_REQUESTS: UpDownCounterSpec<(Method, Scheme)> =
    UpDownCounterSpec::new("http.server.active_requests", "{request}", "Number of active HTTP server requests.");

/// Bytes that were read of the bodies of requests.
pub const SERVER_REQUEST_BODY_SIZE: HistogramSpec<(Method, Scheme, ProtocolVersion)> =
    HistogramSpec::new("http.server.request.body.size", "By", "Size of HTTP server request bodies.")
        .buckets(buckets::BYTES)
        .open(OF_SERVER);

/// Bytes of the bodies of responses.
pub const SERVER_RESPONSE_BODY_SIZE: HistogramSpec<(Method, Scheme, ProtocolVersion)> =
    HistogramSpec::new("http.server.response.body.size", "By", "Size of HTTP server response bodies.")
        .buckets(buckets::BYTES)
        .open(OF_SERVER);

/// Seconds from the sending of a request to the end of its response.
pub const CLIENT_REQUEST_DURATION: HistogramSpec<Method> =
    HistogramSpec::new("http.client.request.duration", "s", "Duration of HTTP client requests.")
        .buckets(buckets::SECONDS)
        .open(OF_CLIENT);

/// Requests that were sent and whose responses have not ended.
pub const CLIENT_ACTIVE_REQUESTS: UpDownCounterSpec<Method> =
    UpDownCounterSpec::new("http.client.active_requests", "{request}", "Number of active HTTP requests.").open(&[
        SERVER_ADDRESS,
        SERVER_PORT,
        URL_TEMPLATE,
    ]);

/// Bytes that were sent of the bodies of requests.
pub const CLIENT_REQUEST_BODY_SIZE: HistogramSpec<Method> =
    HistogramSpec::new("http.client.request.body.size", "By", "Size of HTTP client request bodies.")
        .buckets(buckets::BYTES)
        .open(OF_CLIENT);

/// Bytes that were read of the bodies of responses.
pub const CLIENT_RESPONSE_BODY_SIZE: HistogramSpec<Method> =
    HistogramSpec::new("http.client.response.body.size", "By", "Size of HTTP client response bodies.")
        .buckets(buckets::BYTES)
        .open(OF_CLIENT);

/// Every metric of servers and clients.
pub const METRICS: &[Descriptor] = &[
    SERVER_REQUEST_DURATION.descriptor(),
    SERVER_ACTIVE_REQUESTS.descriptor(),
    SERVER_REQUEST_BODY_SIZE.descriptor(),
    SERVER_RESPONSE_BODY_SIZE.descriptor(),
    CLIENT_REQUEST_DURATION.descriptor(),
    CLIENT_ACTIVE_REQUESTS.descriptor(),
    CLIENT_REQUEST_BODY_SIZE.descriptor(),
    CLIENT_RESPONSE_BODY_SIZE.descriptor(),
];
