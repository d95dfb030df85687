//! Whether a measurement is made inside a span, and of which trace.
//!
//! The API's context is a thread-local, and asking for it panics in two places where recording must not: on a thread that
//! is ending and has dropped it already, and while a context is being attached or detached, where the API logs a warning
//! and whoever takes the log line may count it.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt;

use super::{Filter, SpanIds};

thread_local! {
    static CONTEXT_LIVES: ContextLives = ContextLives::new();
}

/// Dropped before the thread's context, because it is made after it: what has a destructor is dropped in the opposite order.
struct ContextLives(Cell<bool>);

impl ContextLives {
    fn new() -> Self {
        Self(Cell::new(is_there()))
    }

    /// Whether the context was there once. Until then it is asked for again: at first it may only have been busy.
    #[inline]
    fn is_known(&self) -> bool {
        if !self.0.get() {
            self.0.set(is_there());
        }
        self.0.get()
    }
}

#[cold]
fn is_there() -> bool {
    catch_unwind(|| Context::map_current(|_| ())).is_ok()
}

impl Drop for ContextLives {
    fn drop(&mut self) {}
}

/// Whether a measurement made here and now can be an exemplar. All that whoever records outside of any span pays.
#[inline]
pub(super) fn may_be(filter: Filter) -> bool {
    // The answer fits into a register, and nothing is called on the way to it.
    filter == Filter::AlwaysOn || in_context(TraceContextExt::has_active_span).unwrap_or(false)
}

/// Whether it is to be one; then, the span it is made in.
#[cold]
pub(super) fn eligible(filter: Filter) -> Option<Option<SpanIds>> {
    let look = |context: &Context| {
        // What an exporter does on behalf of telemetry is nobody's request.
        if context.is_telemetry_suppressed() {
            return None;
        }
        let span = context.span();
        let span = span.span_context();
        let ids = || SpanIds { trace: span.trace_id(), span: span.span_id() };
        match filter {
            Filter::TraceBased => (span.is_sampled() && span.is_valid()).then(|| Some(ids())),
            Filter::AlwaysOn => Some(span.is_valid().then(ids)),
        }
    };
    in_context(look).unwrap_or(match filter {
        Filter::TraceBased => None,
        Filter::AlwaysOn => Some(None),
    })
}

/// Looks at the thread's context; `None` where nobody can.
#[inline]
fn in_context<T>(look: impl FnOnce(&Context) -> T) -> Option<T> {
    if !CONTEXT_LIVES.try_with(ContextLives::is_known).unwrap_or(false) {
        return None;
    }
    catch_unwind(AssertUnwindSafe(|| Context::map_current(look))).ok()
}
