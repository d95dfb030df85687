//! One call to an API, from its start to its end.

use std::sync::Arc;
use std::time::Instant;

use barograph::Outcome;

use crate::instruments::Instruments;
use crate::semconv::{Api, CallStatus, Direction, ErrorType};

/// One call to an API: counted once, when it ends, with the seconds since it was started.
///
/// Made by [`ApiClientMetrics::start_call`](crate::ApiClientMetrics::start_call). Dropped before anybody said how it
/// ended (a `?`, a panic, a future that is no longer polled), it was `cancelled`.
#[derive(Debug)]
#[must_use = "a call that is dropped at once was cancelled"]
pub struct ApiCall {
    instruments: Arc<Instruments>,
    api: Api,
    started: Instant,
    // What the call will have been, should it be dropped now.
    status: CallStatus,
    error: Option<ErrorType>,
}

impl ApiCall {
    pub(crate) fn start(instruments: Arc<Instruments>, api: Api) -> Self {
        Self { instruments, api, started: Instant::now(), status: CallStatus::UNFINISHED, error: None }
    }

    /// The API answered, and well: status `success`.
    pub fn succeed(self) {
        self.end(CallStatus::Success, None);
    }

    /// The call failed: status `error`, and one of `api.errors` by `error_type`. With [`ErrorType::Timeout`] it is a
    /// [`time_out`](Self::time_out).
    pub fn fail(self, error_type: ErrorType) {
        let status = if error_type == ErrorType::Timeout { CallStatus::Timeout } else { CallStatus::Error };
        self.end(status, Some(error_type));
    }

    /// The API took too long: status `timeout`, and one of `api.errors` with type `timeout`.
    pub fn time_out(self) {
        self.fail(ErrorType::Timeout);
    }

    /// The API said to slow down (429): status `rate_limited`, and one of `api.rate_limits`. It is not an error.
    pub fn rate_limited(self) {
        self.end(CallStatus::RateLimited, None);
    }

    /// Counts `n` tokens used with this call's API, now: in `api.tokens_used` by `api` and `direction`.
    pub fn tokens(&self, direction: Direction, n: u64) {
        self.instruments.tokens_used.add(n, (self.api, direction));
    }

    fn end(mut self, status: CallStatus, error: Option<ErrorType>) {
        self.status = status;
        self.error = error;
    }

    /// Whether the API has answered, whatever it said.
    fn is_answered(&self) -> bool {
        match self.status {
            CallStatus::Success | CallStatus::RateLimited => true,
            CallStatus::Error => matches!(self.error, Some(ErrorType::Status | ErrorType::Decode)),
            CallStatus::Timeout | CallStatus::Cancelled => false,
        }
    }
}

impl Drop for ApiCall {
    fn drop(&mut self) {
        let seconds = self.started.elapsed().as_secs_f64();
        self.instruments.request_duration.record(seconds, (self.api, self.status));
        if let Some(instruments) = self.instruments.of(self.api) {
            instruments.calls.add(1, self.status);
            if self.is_answered() {
                instruments.response_time.record(seconds, ());
            }
        }
        if self.status == CallStatus::RateLimited {
            self.instruments.rate_limits.add(1, self.api);
        }
        if let Some(error_type) = self.error {
            self.instruments.errors.add(1, (self.api, error_type));
        }
    }
}
