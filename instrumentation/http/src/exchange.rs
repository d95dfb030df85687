//! One request and its response, from the start of the one to the end of the other.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use barograph::opentelemetry::Context;
use barograph::opentelemetry::trace::TraceContextExt;
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, Version, header, response};

use crate::instruments::{Endpoint, Side};
use crate::outcome::Outcome;
use crate::semconv::{ErrorType, GrpcStatus, ProtocolVersion};

/// One request and its response. It is recorded when it is dropped, as what it is known to be by then.
#[derive(Debug)]
pub(crate) struct Exchange {
    endpoint: Arc<Endpoint>,
    started: Instant,
    /// The context of the span that the request was handed over in, if there was one. Its body may end elsewhere.
    context: Option<Context>,
    /// Bytes of the request's body, which somebody else may still be reading; `None` for a request without one.
    request_size: Option<Arc<AtomicU64>>,
    response_size: u64,
    /// The length of the response's body, if it was announced: the transport asks for no byte more.
    announced: Option<u64>,
    outcome: Outcome,
    /// Whether nothing that answers this request has a body.
    is_head: bool,
    is_connect: bool,
    is_grpc: bool,
}

impl Exchange {
    pub(crate) fn start(endpoint: Arc<Endpoint>, request: &Parts, request_size: Option<Arc<AtomicU64>>) -> Self {
        endpoint.add_active(1);
        Self {
            endpoint,
            started: Instant::now(),
            context: Context::map_current(|context| context.has_active_span().then(|| context.clone())),
            request_size,
            response_size: 0,
            announced: None,
            outcome: Outcome::UNFINISHED,
            is_head: request.method == Method::HEAD,
            is_connect: request.method == Method::CONNECT,
            is_grpc: is_grpc(request),
        }
    }

    /// The head of the response is there. Returns whether the response is over with it.
    pub(crate) fn head(&mut self, head: &response::Parts, body: &impl http_body::Body) -> bool {
        self.outcome.status = Some(head.status);
        if self.endpoint.side() == Side::Client {
            self.outcome.version = ProtocolVersion::of(head.version);
        }
        // A response of gRPC without a body has its status here.
        self.trailers(&head.headers);
        if body.is_end_stream() || !self.may_have_body(head.status) {
            return true;
        }
        self.announced = body.size_hint().exact().or_else(|| {
            let length = head.headers.get(header::CONTENT_LENGTH)?;
            length.to_str().ok()?.parse().ok()
        });
        // The transport asks for nothing of a body that it knows to be empty.
        self.announced == Some(0) && !self.is_grpc
    }

    /// Code that is not ours begins to run: should it unwind, that is what has ended this, although it may be dropped
    /// later, by who caught the panic.
    pub(crate) fn enter(&mut self) {
        self.outcome.failure = Some(ErrorType::Panic);
    }

    /// It has returned.
    pub(crate) fn leave(&mut self) {
        self.outcome.failure = Some(ErrorType::Cancelled);
    }

    /// Whether a response of this status has a body, whatever the service made: what is none is not sent. What follows
    /// 101, or a 2xx for CONNECT, is another protocol.
    fn may_have_body(&self, status: StatusCode) -> bool {
        !(self.is_head
            || status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
            || (self.is_connect && status.is_success()))
    }

    /// Bytes of the response's body have gone through. Returns whether nothing more will: all that were announced have,
    /// and there is no status of gRPC to come.
    pub(crate) fn data(&mut self, bytes: usize) -> bool {
        self.response_size += bytes as u64;
        !self.is_grpc && self.announced.is_some_and(|announced| self.response_size >= announced)
    }

    pub(crate) fn trailers(&mut self, trailers: &HeaderMap) {
        if self.is_grpc {
            self.outcome.grpc = GrpcStatus::of(trailers).or(self.outcome.grpc);
        }
    }

    /// The response has ended as it should.
    pub(crate) fn finish(mut self) {
        self.outcome.failure = None;
        // Clients of gRPC take it for that, too.
        if self.is_grpc && self.outcome.status == Some(StatusCode::OK) {
            self.outcome.grpc = self.outcome.grpc.or(Some(GrpcStatus::Unknown));
        }
    }

    pub(crate) fn fail(mut self, error_type: ErrorType) {
        self.outcome.failure = Some(error_type);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let seconds = self.started.elapsed().as_secs_f64();
        if self.outcome.failure == Some(ErrorType::Cancelled) && thread::panicking() {
            self.outcome.failure = Some(ErrorType::Panic);
        }
        let request_size = self.request_size.as_ref().map_or(0, |size| size.load(Ordering::Relaxed));
        // On a thread that is ending there is nothing to attach to, which the API does not tell otherwise.
        let context = self.context.take();
        let _in_span = context.and_then(|context| catch_unwind(AssertUnwindSafe(|| context.attach())).ok());
        self.endpoint.record(self.outcome, seconds, request_size, self.response_size);
        self.endpoint.add_active(-1);
    }
}

/// Whether a request is a call of gRPC. It has HTTP/2 and POST, which spares all others a look at their headers.
fn is_grpc(request: &Parts) -> bool {
    let is_content_type = || {
        let content_type = request.headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes());
        let rest = content_type.and_then(|value| value.strip_prefix(b"application/grpc"));
        rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
    };
    request.version == Version::HTTP_2 && request.method == Method::POST && is_content_type()
}
