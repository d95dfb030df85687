//! Metrics for API clients: calls and how they end, how long they take, rate limits, errors, tokens.
//!
//! By hand, a guard measures each call:
//!
//! ```
//! use std::io;
//!
//! use barograph::opentelemetry::metrics::MeterProvider;
//! use barograph_instrumentation_api_clients::ApiClientMetrics;
//! use barograph_instrumentation_api_clients::semconv::{Api, Direction, ErrorType};
//!
//! # struct Answer { prompt_tokens: u64, completion_tokens: u64 }
//! # fn ask() -> io::Result<Answer> { Ok(Answer { prompt_tokens: 12, completion_tokens: 30 }) }
//! fn work(provider: &dyn MeterProvider) {
//!     let metrics = ApiClientMetrics::new(provider);   // once; clones are cheap
//!
//!     let call = metrics.start_call(Api::DeepSeek);    // dropped untold, it was cancelled
//!     match ask() {
//!         Ok(answer) => {
//!             call.tokens(Direction::Prompt, answer.prompt_tokens);
//!             call.tokens(Direction::Completion, answer.completion_tokens);
//!             call.succeed();
//!         }
//!         Err(error) => call.fail(ErrorType::of(&error)),
//!     }
//! }
//! # work(&barograph::opentelemetry::metrics::NoopMeterProvider::new());
//! ```
//!
//! An HTTP client that is a tower service is measured by a [layer](ApiClientMetrics::layer).
//!
//! Every call has one status, under which it is counted and timed when it ends:
//!
//! | the call | status | counted besides |
//! |---|---|---|
//! | succeeded | `success` | |
//! | took too long | `timeout` | an error of type `timeout` |
//! | failed otherwise | `error` | an error of its type |
//! | was told to slow down (429) | `rate_limited` | a rate limit, and no error |
//! | was dropped before its end | `cancelled` | |
//!
//! The response time of an API is that of its latest answer, whatever it said; a call without an answer leaves it as it
//! was. An [`Api::Other`] has neither a counter of calls nor a response time: its calls are the
//! count of the request duration. The metrics themselves are declared in [`semconv`].

mod call;
mod instruments;
mod layer;
pub mod semconv;

pub use call::ApiCall;
pub use layer::{ApiClientFuture, ApiClientLayer, ApiClientService};

use std::sync::Arc;

use barograph::ClassifiedError;
use barograph::opentelemetry::InstrumentationScope;
use barograph::opentelemetry::metrics::MeterProvider;

use crate::instruments::Instruments;
use crate::semconv::{Api, Direction, ErrorType};

/// Measures calls to APIs. Clones record into the same series.
#[derive(Clone, Debug)]
pub struct ApiClientMetrics {
    instruments: Arc<Instruments>,
}

impl ApiClientMetrics {
    /// Builds the instruments, in the scope [`semconv::SCOPE`].
    ///
    /// Counters are exported as 0 from here on, gauges from their first value on.
    #[must_use]
    pub fn new(provider: &dyn MeterProvider) -> Self {
        let scope = InstrumentationScope::builder(semconv::SCOPE).with_version(env!("CARGO_PKG_VERSION")).build();
        let meter = provider.meter_with_scope(scope);
        Self { instruments: Arc::new(Instruments::new(&meter)) }
    }

    /// Starts a call, measured from now until the guard is told how it ended, or is dropped: in seconds in
    /// `api.request_duration` by `api` and `status`, and once in the `calls` of that API by `status`.
    pub fn start_call(&self, api: Api) -> ApiCall {
        ApiCall::start(Arc::clone(&self.instruments), api)
    }

    /// Counts `n` tokens that were used with `api` outside of a call, for example when a stream has ended: in
    /// `api.tokens_used` by `api` and `direction`.
    pub fn record_tokens(&self, api: Api, direction: Direction, n: u64) {
        self.instruments.tokens_used.add(n, (api, direction));
    }

    /// A tower layer that measures every request of a client to `api`: see [`ApiClientLayer`] for from when to when.
    ///
    /// | the service returns | the call ended as |
    /// |---|---|
    /// | a response with status 2xx or 3xx | `success` |
    /// | a response with status 429 | `rate_limited` |
    /// | any other response | `error` of type `status` |
    /// | an error | what [`ErrorType::of`] finds in it |
    ///
    /// Requests, responses and errors pass through unchanged.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use http::{Request, Response};
    /// use barograph_instrumentation_api_clients::ApiClientMetrics;
    /// use barograph_instrumentation_api_clients::semconv::Api;
    /// use tower::{ServiceBuilder, ServiceExt};
    ///
    /// # async fn program(metrics: ApiClientMetrics) -> Result<(), Infallible> {
    /// # let client = tower::service_fn(|_: Request<String>| async { Ok::<_, Infallible>(Response::new("{}")) });
    /// let client = ServiceBuilder::new().layer(metrics.layer(Api::Perplexity)).service(client);
    /// let response = client.oneshot(Request::new("{}".to_owned())).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn layer<E, Form>(&self, api: Api) -> ApiClientLayer<fn(&E) -> ErrorType>
    where
        E: ClassifiedError<Form>,
    {
        self.layer_with(api, |error: &E| error.failure().into())
    }

    /// Like [`layer`](Self::layer), for a client whose errors say more by methods of their own: `classify` tells their
    /// type.
    ///
    /// ```
    /// # use http::{Request, Response};
    /// # use barograph_instrumentation_api_clients::ApiClientMetrics;
    /// # use barograph_instrumentation_api_clients::semconv::{Api, ErrorType};
    /// # use tower::{Layer, ServiceExt};
    /// # #[derive(Debug)] struct ClientError;
    /// # impl ClientError { fn is_connect(&self) -> bool { true } }
    /// # async fn program(metrics: ApiClientMetrics) -> Result<(), ClientError> {
    /// # let client = tower::service_fn(|_: Request<String>| async { Ok::<_, ClientError>(Response::new("{}")) });
    /// let layer = metrics.layer_with(Api::DeepSeek, |error: &ClientError| {
    ///     if error.is_connect() { ErrorType::Connect } else { ErrorType::Other }
    /// });
    /// let response = layer.layer(client).oneshot(Request::new("{}".to_owned())).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn layer_with<C>(&self, api: Api, classify: C) -> ApiClientLayer<C> {
        ApiClientLayer::new(self.clone(), api, classify)
    }
}

/// Compiles the README's program.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
