//! The bridge: a thread that runs an event loop, and calls that wait for it.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::thread::ThreadId;
use std::time::Duration;
use std::{io, thread};

use barograph::opentelemetry::InstrumentationScope;
use barograph::opentelemetry::metrics::MeterProvider;
use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;

use crate::error::CallError;
use crate::instruments::Instruments;
use crate::semconv;

/// Calls async code from sync code: owns a thread with an event loop on which the futures of all calls run.
///
/// Clones share the loop. It stops at [`close`](Self::close), or when the last clone is dropped; futures that are
/// still on it are then dropped there.
///
/// The loop is a current-thread runtime of tokio, with timers and I/O. One thread is enough for futures that wait, and
/// it makes it certain which thread may not call the bridge. A future that computes for long, or blocks, holds up all
/// others: it belongs in [`tokio::task::spawn_blocking`], which works on the loop.
#[derive(Clone, Debug)]
#[must_use = "the loop stops when the last clone of the bridge is dropped"]
pub struct AsyncBridge {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    instruments: Instruments,
    runtime: Handle,
    thread: ThreadId,
    // The loop runs until this says true, or is gone.
    closed: watch::Sender<bool>,
}

impl AsyncBridge {
    /// Builds the instruments, in the scope [`semconv::SCOPE`], and starts the thread `async-bridge` with its loop,
    /// which is counted in `safe_async_bridge.active_loops` for as long as it runs.
    ///
    /// # Errors
    ///
    /// When the operating system gives no thread, or no file descriptor for the loop's I/O.
    pub fn new(provider: &dyn MeterProvider) -> io::Result<Self> {
        let scope = InstrumentationScope::builder(semconv::SCOPE).with_version(env!("CARGO_PKG_VERSION")).build();
        let instruments = Instruments::new(&provider.meter_with_scope(scope));
        let (closed, mut closing) = watch::channel(false);
        let (started, starting) = mpsc::sync_channel(1);
        let active_loops = instruments.active_loops.clone();
        let thread = thread::Builder::new().name("async-bridge".to_owned()).spawn(move || {
            // Built here and not by the caller, who may be async: a runtime must not be dropped there.
            let runtime = match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => {
                    let _ = started.send(Err(error));
                    return;
                }
            };
            let _active = active_loops.in_flight(());
            let _ = started.send(Ok(runtime.handle().clone()));
            // An error says that the last clone of the bridge is gone, which is the other way to close it.
            let _ = runtime.block_on(closing.wait_for(|closed| *closed));
            // Drops the futures that are left, without waiting for what they gave to `spawn_blocking`.
            runtime.shutdown_background();
        })?;
        let runtime = starting.recv().map_err(io::Error::other)??;
        Ok(Self { inner: Arc::new(Inner { instruments, runtime, thread: thread.thread().id(), closed }) })
    }

    /// Runs `future` on the loop and blocks the calling thread until it has ended, for at most `timeout`.
    ///
    /// The call is measured from here until this function returns, in seconds in
    /// `safe_async_bridge.execution_duration` and once in `safe_async_bridge.calls`, both by `outcome`. The future is
    /// counted in `safe_async_bridge.pending_tasks` from here until it has ended or was dropped on the loop: after a
    /// timeout that is as soon as it yields to the loop, and the caller does not wait for it.
    ///
    /// It may be called from any thread but the loop's own. A thread of another runtime is blocked like any other:
    /// there it should be one for blocking work (`spawn_blocking`, `block_in_place`). On a current-thread runtime the
    /// call works too, but that runtime stands still meanwhile, so a future that waits for something on it times out.
    ///
    /// # Errors
    ///
    /// See [`CallError`]: how the future failed, or why the call ended without it.
    pub fn call<T, E>(
        &self,
        future: impl Future<Output = Result<T, E>> + Send + 'static,
        timeout: Duration,
    ) -> Result<T, CallError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let call = self.inner.instruments.start_call();
        let result = self.inner.run(future, timeout);
        call.end(&result);
        result
    }

    /// Stops the loop: calls in progress end as [`CallError::Cancelled`], later ones as [`CallError::Closed`], on
    /// every clone. Closing twice does nothing.
    ///
    /// It does not wait for the loop's thread, so it may be called from anywhere, a future on the loop included.
    pub fn close(&self) {
        self.inner.closed.send_replace(true);
    }
}

impl Inner {
    fn run<T, E>(
        &self,
        future: impl Future<Output = Result<T, E>> + Send + 'static,
        timeout: Duration,
    ) -> Result<T, CallError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        if thread::current().id() == self.thread {
            return Err(CallError::WouldDeadlock);
        }
        if *self.closed.borrow() {
            return Err(CallError::Closed);
        }
        let pending = self.instruments.pending_tasks.in_flight(());
        let (ended, ending) = mpsc::sync_channel(1);
        let task = self.runtime.spawn(async move {
            let end = pending.instrument(catch_panic(future)).await;
            // Nobody listens any more when the caller's time was up.
            let _ = ended.send(end);
        });
        // The caller keeps the time itself: a timer on the loop would never fire while a future blocks the loop.
        match ending.recv_timeout(timeout) {
            Ok(Ok(result)) => result.map_err(CallError::Failed),
            Ok(Err(panic)) => Err(CallError::Panicked { message: panic_message(panic.as_ref()) }),
            Err(RecvTimeoutError::Timeout) => {
                task.abort();
                Err(CallError::TimedOut { after: timeout })
            }
            // The loop dropped the task before it had ended.
            Err(RecvTimeoutError::Disconnected) => Err(CallError::Cancelled),
        }
    }
}

/// The future's output, or what it panicked with.
#[expect(clippy::redundant_async_block, reason = "the block drops the future inside its last poll, destructor and all")]
async fn catch_panic<F: Future>(future: F) -> Result<F::Output, Box<dyn Any + Send>> {
    let mut future = pin!(async move { future.await });
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let message = panic.downcast_ref::<&str>().copied();
    message.or(panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").to_owned()
}
