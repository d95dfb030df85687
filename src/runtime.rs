//! Barograph's own threads: what collects, encodes and serves never runs on the caller's.

use std::future::Future;
use std::io;
use std::sync::mpsc;
use std::thread;

/// Runs `work` on a thread of its own.
pub(crate) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

/// Runs `work` on a thread of its own, inside a reactor of its own, whatever runtime the caller has or has not.
///
/// Returns once the reactor runs. What `work` spawned ends with it.
pub(crate) fn spawn_async<F>(name: &str, work: impl FnOnce() -> F + Send + 'static) -> io::Result<()>
where
    F: Future<Output = ()>,
{
    let (started, is_started) = mpsc::channel();
    // The runtime is built and dropped on the thread: inside the caller's runtime it could not be dropped.
    spawn(name, move || match tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build() {
        Ok(runtime) => {
            let _ = started.send(Ok(()));
            runtime.block_on(async { work().await });
        }
        Err(error) => {
            let _ = started.send(Err(error));
        }
    })?;
    is_started.recv().unwrap_or_else(|_| Err(io::Error::other("the thread ended before it ran")))
}
