//! Bodies whose bytes are counted on their way.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::exchange::Exchange;
use crate::semconv::ErrorType;

pin_project! {
    /// The body of a request as the service within gets it, whose bytes are counted as they are read.
    #[derive(Debug)]
    pub struct RequestBody<B> {
        #[pin]
        inner: B,
        size: Option<Arc<AtomicU64>>,
    }
}

impl<B: Body> RequestBody<B> {
    pub(crate) fn new(inner: B) -> Self {
        // Most requests have none, and need no counter.
        let size = (!inner.is_end_stream()).then(Arc::default);
        Self { inner, size }
    }

    pub(crate) fn size(&self) -> Option<Arc<AtomicU64>> {
        self.size.clone()
    }
}

impl<B: Body> Body for RequestBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.project();
        let frame = ready!(this.inner.poll_frame(context));
        if let (Some(size), Some(Ok(frame))) = (this.size, &frame) {
            let bytes = frame.data_ref().map_or(0, Buf::remaining);
            size.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

pin_project! {
    /// The body of a response whose request is measured until it has ended, failed or been dropped.
    #[derive(Debug)]
    pub struct ResponseBody<B> {
        #[pin]
        inner: B,
        // Taken when the response has ended; dropped with the body otherwise.
        exchange: Option<Exchange>,
    }
}

impl<B> ResponseBody<B> {
    pub(crate) fn new(inner: B, exchange: Option<Exchange>) -> Self {
        Self { inner, exchange }
    }
}

impl<B: Body> Body for ResponseBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let mut this = self.project();
        this.exchange.iter_mut().for_each(Exchange::enter);
        let polled = this.inner.as_mut().poll_frame(context);
        this.exchange.iter_mut().for_each(Exchange::leave);
        let frame = ready!(polled);
        if let Some(exchange) = this.exchange {
            let is_over = match &frame {
                Some(Ok(frame)) => {
                    let is_all = frame.data_ref().is_some_and(|data| exchange.data(data.remaining()));
                    if let Some(trailers) = frame.trailers_ref() {
                        exchange.trailers(trailers);
                    }
                    // Who sends trailers, or a body that says that it has ended, asks no further.
                    is_all || frame.is_trailers() || this.inner.is_end_stream()
                }
                Some(Err(_)) => {
                    this.exchange.take().into_iter().for_each(|exchange| exchange.fail(ErrorType::Body));
                    false
                }
                None => true,
            };
            if is_over {
                this.exchange.take().into_iter().for_each(Exchange::finish);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
