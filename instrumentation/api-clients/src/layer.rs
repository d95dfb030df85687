//! Measures the calls of an HTTP client that is a [`Service`].

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{Request, Response, StatusCode};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::ApiClientMetrics;
use crate::call::ApiCall;
use crate::semconv::{Api, ErrorType};

/// Measures every call of the service it wraps. Made by [`ApiClientMetrics::layer`].
///
/// A call starts when the request is handed to the service. It ends with the head of the response, with the service's
/// error, or when the response future is dropped, which is `cancelled`. The body is not waited for, and neither is a
/// service that is not ready.
#[derive(Clone, Debug)]
pub struct ApiClientLayer<C> {
    metrics: ApiClientMetrics,
    api: Api,
    classify: C,
}

impl<C> ApiClientLayer<C> {
    pub(crate) fn new(metrics: ApiClientMetrics, api: Api, classify: C) -> Self {
        Self { metrics, api, classify }
    }
}

impl<S, C: Clone> Layer<S> for ApiClientLayer<C> {
    type Service = ApiClientService<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        ApiClientService { inner, layer: self.clone() }
    }
}

/// A service whose calls are measured: see [`ApiClientLayer`].
#[derive(Clone, Debug)]
pub struct ApiClientService<S, C> {
    inner: S,
    layer: ApiClientLayer<C>,
}

impl<S, C, B, R> Service<Request<B>> for ApiClientService<S, C>
where
    S: Service<Request<B>, Response = Response<R>>,
    C: Fn(&S::Error) -> ErrorType + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ApiClientFuture<S::Future, C>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let call = self.layer.metrics.start_call(self.layer.api);
        ApiClientFuture { inner: self.inner.call(request), call: Some(call), classify: self.layer.classify.clone() }
    }
}

pin_project! {
    /// The response of an [`ApiClientService`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ApiClientFuture<F, C> {
        #[pin]
        inner: F,
        // Taken when the call has ended; dropped with the future otherwise.
        call: Option<ApiCall>,
        classify: C,
    }
}

impl<F, C, R, E> Future for ApiClientFuture<F, C>
where
    F: Future<Output = Result<Response<R>, E>>,
    C: Fn(&E) -> ErrorType,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.inner.poll(context));
        if let Some(call) = this.call.take() {
            match result.as_ref().map(Response::status) {
                Ok(status) if status.is_success() || status.is_redirection() => call.succeed(),
                Ok(StatusCode::TOO_MANY_REQUESTS) => call.rate_limited(),
                Ok(_) => call.fail(ErrorType::Status),
                Err(error) => call.fail((this.classify)(error)),
            }
        }
        Poll::Ready(result)
    }
}
