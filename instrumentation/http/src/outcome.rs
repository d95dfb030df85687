//! How a request ended, as far as its attributes tell.

use barograph::opentelemetry::{KeyValue, StringValue};
use http::{HeaderMap, StatusCode};

use crate::instruments::Side;
use crate::semconv;
use crate::semconv::{ErrorType, GrpcStatus, ProtocolVersion};

/// How a request ended: each combination has series of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) status: Option<StatusCode>,
    /// What ended it, if its response did not end well.
    pub(crate) failure: Option<ErrorType>,
    pub(crate) grpc: Option<GrpcStatus>,
    /// The version of the response, for clients.
    pub(crate) version: Option<ProtocolVersion>,
}

impl Outcome {
    /// How every request ends of which nothing more is heard.
    pub(crate) const UNFINISHED: Self =
        Self { status: None, failure: Some(ErrorType::Cancelled), grpc: None, version: None };

    /// Appends the attributes.
    pub(crate) fn describe(self, side: Side, attributes: &mut Vec<KeyValue>) {
        let status = self.status.map(|status| i64::from(status.as_u16()));
        attributes.extend(status.map(|status| KeyValue::new(semconv::HTTP_RESPONSE_STATUS_CODE, status)));
        attributes.extend(self.version.map(KeyValue::from));
        attributes.extend(self.grpc.map(KeyValue::from));
        attributes.extend(self.error_type(side).map(|error_type| KeyValue::new(semconv::ERROR_TYPE, error_type)));
    }

    /// What was said first is what it failed of: the status, then what a call of gRPC says, then what became of the rest.
    fn error_type(self, side: Side) -> Option<StringValue> {
        let is_error =
            |status: &StatusCode| status.is_server_error() || (side == Side::Client && status.is_client_error());
        if let Some(status) = self.status.filter(is_error) {
            return Some(status.as_u16().to_string().into());
        }
        let grpc = self.grpc.filter(|grpc| grpc.is_error(side)).map(GrpcStatus::as_str);
        grpc.or(self.failure.map(ErrorType::as_str)).map(StringValue::from)
    }
}

impl ProtocolVersion {
    /// The version as the semantic conventions write it; `None` for one that they and we have not heard of.
    #[must_use]
    pub fn of(version: http::Version) -> Option<Self> {
        Some(match version {
            http::Version::HTTP_09 => Self::V0_9,
            http::Version::HTTP_10 => Self::V1_0,
            http::Version::HTTP_11 => Self::V1_1,
            http::Version::HTTP_2 => Self::V2,
            http::Version::HTTP_3 => Self::V3,
            _ => return None,
        })
    }
}

impl GrpcStatus {
    /// What headers or trailers say; a number that gRPC does not have is `UNKNOWN`.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let code = headers.get("grpc-status")?.to_str().ok().and_then(|code| code.parse::<usize>().ok());
        // The list is in the order of the numbers.
        Some(code.and_then(|code| Self::ALL.get(code).copied()).unwrap_or(Self::Unknown))
    }

    /// Whether the conventions for gRPC take it for an error: a client all but `OK`, a server those that are its own fault.
    fn is_error(self, side: Side) -> bool {
        match side {
            Side::Client => self != Self::Ok,
            Side::Server => matches!(
                self,
                Self::Unknown
                    | Self::DeadlineExceeded
                    | Self::Unimplemented
                    | Self::Internal
                    | Self::Unavailable
                    | Self::DataLoss
            ),
        }
    }
}
