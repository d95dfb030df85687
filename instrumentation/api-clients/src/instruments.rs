//! The handles, built once from a meter.

use barograph::opentelemetry::metrics::Meter;
use barograph::{Counter, Gauge, Histogram, MeterExt};

use crate::semconv;
use crate::semconv::{Api, CallStatus, Direction, ErrorType};

#[derive(Debug)]
pub(crate) struct Instruments {
    deepseek: PerApi,
    perplexity: PerApi,
    pub(crate) rate_limits: Counter<Api>,
    pub(crate) errors: Counter<(Api, ErrorType)>,
    pub(crate) tokens_used: Counter<(Api, Direction)>,
    pub(crate) request_duration: Histogram<(Api, CallStatus)>,
}

/// What has a name of its own for each API that is known by name.
#[derive(Debug)]
pub(crate) struct PerApi {
    pub(crate) calls: Counter<CallStatus>,
    pub(crate) response_time: Gauge,
}

impl Instruments {
    pub(crate) fn new(meter: &Meter) -> Self {
        Self {
            deepseek: PerApi {
                calls: meter.counter(&semconv::DEEPSEEK_CALLS),
                response_time: meter.gauge(&semconv::DEEPSEEK_RESPONSE_TIME),
            },
            perplexity: PerApi {
                calls: meter.counter(&semconv::PERPLEXITY_CALLS),
                response_time: meter.gauge(&semconv::PERPLEXITY_RESPONSE_TIME),
            },
            rate_limits: meter.counter(&semconv::RATE_LIMITS),
            errors: meter.counter(&semconv::ERRORS),
            tokens_used: meter.counter(&semconv::TOKENS_USED),
            request_duration: meter.histogram(&semconv::REQUEST_DURATION),
        }
    }

    pub(crate) fn of(&self, api: Api) -> Option<&PerApi> {
        match api {
            Api::DeepSeek => Some(&self.deepseek),
            Api::Perplexity => Some(&self.perplexity),
            Api::Other => None,
        }
    }
}
