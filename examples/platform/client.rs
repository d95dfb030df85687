//! A client of one API: hyper, measured by a tower layer.

use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use barograph_instrumentation_api_clients::ApiClientMetrics;
use barograph_instrumentation_api_clients::semconv::{Api, CallStatus, Direction, ErrorType};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tower::util::BoxCloneSyncService;
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};

use crate::tally::Tally;

/// How long the client waits for an answer.
const TIMEOUT: Duration = Duration::from_millis(600);

/// A client of one API. Clones share its connections.
#[derive(Clone)]
pub(crate) struct ApiClient {
    api: Api,
    model: &'static str,
    url: String,
    transport: Transport,
    metrics: ApiClientMetrics,
    tally: Tally,
}

/// Sends a request and returns the whole answer: decoded if the status is a success.
type Transport = BoxCloneSyncService<Request<Full<Bytes>>, Response<Option<Completion>>, BoxError>;

impl ApiClient {
    pub(crate) fn new(
        metrics: &ApiClientMetrics,
        tally: &Tally,
        api: Api,
        address: SocketAddr,
        model: &'static str,
    ) -> Self {
        let http = Client::builder(TokioExecutor::new()).build_http();
        let exchange = service_fn(move |request| {
            let http = http.clone();
            async move {
                let (head, body) = http.request(request).await?.into_parts();
                let body = body.collect().await?.to_bytes();
                let completion = head.status.is_success().then(|| Completion::decode(&body)).transpose()?;
                Ok::<_, BoxError>(Response::from_parts(head, completion))
            }
        });
        // The layer is outermost: a timeout is an end of the call that it must see, and so is an answer that cannot be
        // decoded.
        let transport = ServiceBuilder::new()
            .layer(metrics.layer_with(api, classify as fn(&BoxError) -> ErrorType))
            .timeout(TIMEOUT)
            .service(exchange);
        Self {
            api,
            model,
            url: format!("http://{address}/chat/completions"),
            transport: BoxCloneSyncService::new(transport),
            metrics: metrics.clone(),
            tally: tally.clone(),
        }
    }

    /// Asks, and returns the headline of the answer.
    pub(crate) async fn ask(self, question: String) -> Result<String, AskError> {
        let body = json!({ "model": self.model, "messages": [{ "role": "user", "content": question }] });
        let request = Request::post(&self.url)
            .header("content-type", "application/json")
            .body(Full::from(body.to_string()))
            .map_err(|error| AskError::Transport { error_type: ErrorType::Other, source: error.into() })?;

        let call = CountedCall { api: self.api, status: CallStatus::Cancelled, error_type: None, tally: &self.tally };
        let result = match self.transport.oneshot(request).await {
            Ok(response) => match (response.status(), response.into_body()) {
                (_, Some(completion)) => Ok(completion),
                (StatusCode::TOO_MANY_REQUESTS, None) => Err(AskError::RateLimited),
                (status, None) => Err(AskError::Status(status)),
            },
            Err(source) => Err(AskError::Transport { error_type: classify(&source), source }),
        };
        call.end(&result);

        let completion = result?;
        for (direction, tokens) in
            [(Direction::Prompt, completion.prompt_tokens), (Direction::Completion, completion.completion_tokens)]
        {
            self.metrics.record_tokens(self.api, direction, tokens);
            let labels = format!(r#"api="{}",direction="{}""#, self.api.as_str(), direction.as_str());
            self.tally.add(format!("api_tokens_used_total{{{labels}}}"), tokens as f64);
        }
        Ok(headline(&completion.text).to_owned())
    }
}

/// The first bytes of a text. Bytes, not characters: a bug left in on purpose, of the kind that a bridge has to
/// survive. It panics when the cut goes through the middle of a character.
fn headline(text: &str) -> &str {
    &text[..text.len().min(64)]
}

/// What an API answered.
struct Completion {
    text: String,
    prompt_tokens: u64,
    completion_tokens: u64,
}

impl Completion {
    fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let body: Value = serde_json::from_slice(body).map_err(|error| DecodeError(error.to_string()))?;
        let decode = || {
            Some(Self {
                text: body.pointer("/choices/0/message/content")?.as_str()?.to_owned(),
                prompt_tokens: body.pointer("/usage/prompt_tokens")?.as_u64()?,
                completion_tokens: body.pointer("/usage/completion_tokens")?.as_u64()?,
            })
        };
        decode().ok_or_else(|| DecodeError("not a chat completion".to_owned()))
    }
}

/// The transport's errors by type. Only we know what our own look like; the rest is known to the component.
fn classify(error: &BoxError) -> ErrorType {
    if error.is::<DecodeError>() { ErrorType::Decode } else { ErrorType::of(error.as_ref()) }
}

#[derive(Debug)]
struct DecodeError(String);

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the answer cannot be decoded: {}", self.0)
    }
}

impl Error for DecodeError {}

/// Why an API was of no help.
#[derive(Debug)]
pub(crate) enum AskError {
    RateLimited,
    Status(StatusCode),
    Transport { error_type: ErrorType, source: BoxError },
}

impl AskError {
    pub(crate) fn is_timeout(&self) -> bool {
        matches!(self, Self::Transport { error_type: ErrorType::Timeout, .. })
    }
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RateLimited => f.write_str("rate limited (429)"),
            Self::Status(status) => write!(f, "answered {status}"),
            Self::Transport { error_type, source } => {
                write!(f, "failed, {}: {}", error_type.as_str(), root_cause(source.as_ref()))
            }
        }
    }
}

fn root_cause<'a>(mut error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    while let Some(cause) = error.source() {
        error = cause;
    }
    error
}

/// Our own count of one call, beside the layer's: a call that is dropped on the way was cancelled.
struct CountedCall<'a> {
    api: Api,
    status: CallStatus,
    error_type: Option<ErrorType>,
    tally: &'a Tally,
}

impl CountedCall<'_> {
    fn end(mut self, result: &Result<Completion, AskError>) {
        (self.status, self.error_type) = match result {
            Ok(_) => (CallStatus::Success, None),
            Err(AskError::RateLimited) => (CallStatus::RateLimited, None),
            Err(AskError::Status(_)) => (CallStatus::Error, Some(ErrorType::Status)),
            Err(AskError::Transport { error_type: ErrorType::Timeout, .. }) => {
                (CallStatus::Timeout, Some(ErrorType::Timeout))
            }
            Err(AskError::Transport { error_type, .. }) => (CallStatus::Error, Some(*error_type)),
        };
    }
}

impl Drop for CountedCall<'_> {
    fn drop(&mut self) {
        let (api, status) = (self.api.as_str(), self.status.as_str());
        self.tally.one(format!(r#"api_request_duration_seconds_count{{api="{api}",status="{status}"}}"#));
        if self.api != Api::Other {
            self.tally.one(format!(r#"api_{api}_calls_total{{status="{status}"}}"#));
        }
        if self.status == CallStatus::RateLimited {
            self.tally.one(format!(r#"api_rate_limits_total{{api="{api}"}}"#));
        }
        if let Some(error_type) = self.error_type {
            let error_type = error_type.as_str();
            self.tally.one(format!(r#"api_errors_total{{api="{api}",error_type="{error_type}"}}"#));
        }
    }
}
