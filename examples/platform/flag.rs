//! A flag that is raised once, by us or by a signal, and that threads can wait for while they have nothing else to do.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Runtime;

/// Raised once, never lowered. Clones are the same flag.
#[derive(Clone, Default)]
pub(crate) struct Flag {
    shared: Arc<(Mutex<bool>, Condvar)>,
}

impl Flag {
    pub(crate) fn raise(&self) {
        let (raised, changed) = &*self.shared;
        *raised.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_all();
    }

    pub(crate) fn is_raised(&self) -> bool {
        *self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps until the flag is raised, for at most `limit`, and returns whether it is.
    pub(crate) fn wait(&self, limit: Duration) -> bool {
        let (raised, changed) = &*self.shared;
        let raised = raised.lock().unwrap_or_else(PoisonError::into_inner);
        let (raised, _) =
            changed.wait_timeout_while(raised, limit, |raised| !*raised).unwrap_or_else(PoisonError::into_inner);
        *raised
    }

    /// A flag that Ctrl-C raises, and where there is one, SIGTERM. From here on neither ends the program by itself.
    pub(crate) fn raised_by_signal(runtime: &Runtime) -> io::Result<Self> {
        let flag = Self::default();
        let raised = flag.clone();
        let _inside = runtime.enter();
        #[cfg(unix)]
        let (mut interrupt, mut terminate) = {
            use tokio::signal::unix::{SignalKind, signal};
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
        };
        #[cfg(windows)]
        let (mut interrupt, mut terminate) = (tokio::signal::windows::ctrl_c()?, tokio::signal::windows::ctrl_close()?);
        runtime.spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            raised.raise();
        });
        Ok(flag)
    }
}
