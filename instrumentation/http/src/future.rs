//! The response of a service that is measured.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Response;
use http_body::Body;
use pin_project_lite::pin_project;

use crate::body::ResponseBody;
use crate::exchange::Exchange;
use crate::semconv::ErrorType;

pin_project! {
    /// The response of a service that is measured.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, C> {
        #[pin]
        inner: F,
        // Taken when there is a response or an error; dropped with the future otherwise.
        exchange: Option<Exchange>,
        classify: C,
    }
}

impl<F, C> ResponseFuture<F, C> {
    pub(crate) fn new(inner: F, exchange: Exchange, classify: C) -> Self {
        Self { inner, exchange: Some(exchange), classify }
    }
}

impl<F, C, B, E> Future for ResponseFuture<F, C>
where
    F: Future<Output = Result<Response<B>, E>>,
    C: Fn(&E) -> ErrorType,
    B: Body,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        this.exchange.iter_mut().for_each(Exchange::enter);
        let polled = this.inner.poll(context);
        this.exchange.iter_mut().for_each(Exchange::leave);
        let result = ready!(polled);
        let mut exchange = this.exchange.take();
        Poll::Ready(match result {
            Ok(response) => {
                let (head, body) = response.into_parts();
                if exchange.as_mut().is_some_and(|exchange| exchange.head(&head, &body)) {
                    exchange.take().into_iter().for_each(Exchange::finish);
                }
                Ok(Response::from_parts(head, ResponseBody::new(body, exchange)))
            }
            Err(error) => {
                exchange.into_iter().for_each(|exchange| exchange.fail((this.classify)(&error)));
                Err(error)
            }
        })
    }
}
