//! Assertions that are tried again until they hold.

use std::any::Any;
use std::cell::Cell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use crate::runtime;

/// The first pause between two attempts. Each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(1);

/// The longest one: nobody waits for a test that has long been done.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

thread_local! {
    static IS_TRIED_AGAIN: Cell<bool> = const { Cell::new(false) };
}

/// An assertion that did not hold, on its way to whoever tries again: this one does not pass the panic hook, which would
/// write it down at every attempt.
struct Failed(String);

/// Ends a test, or an attempt.
#[track_caller]
pub(super) fn fail(message: String) -> ! {
    if IS_TRIED_AGAIN.get() {
        resume_unwind(Box::new(Failed(message)));
    }
    panic!("{message}");
}

/// An attempt at which the assertion did not hold.
enum Missed {
    /// There is another one after this pause.
    For(Duration),
    /// It was the last one. What it said.
    Finally(String),
}

/// The attempts of one assertion.
pub(super) struct Attempts {
    deadline: Duration,
    until: Instant,
    pause: Duration,
    asked: &'static Location<'static>,
}

impl Attempts {
    #[track_caller]
    pub(super) fn new(deadline: Duration) -> Self {
        Self { deadline, until: Instant::now() + deadline, pause: FIRST_PAUSE, asked: Location::caller() }
    }

    fn attempt<R>(&mut self, check: impl FnOnce() -> R) -> Result<R, Missed> {
        let is_last = Instant::now() >= self.until;
        let outer = IS_TRIED_AGAIN.replace(true);
        let tried = catch_unwind(AssertUnwindSafe(check));
        IS_TRIED_AGAIN.set(outer);
        let message = match tried {
            Ok(held) => return Ok(held),
            Err(panic) => message(panic),
        };
        if is_last {
            return Err(Missed::Finally(message));
        }
        let pause = self.pause.min(self.until.saturating_duration_since(Instant::now()));
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Err(Missed::For(pause))
    }

    /// Tries until it holds, on the thread of the caller.
    #[track_caller]
    pub(super) fn run<R>(mut self, mut check: impl FnMut() -> R) -> R {
        loop {
            match self.attempt(&mut check) {
                Ok(held) => return held,
                Err(Missed::For(pause)) => thread::sleep(pause),
                Err(Missed::Finally(message)) => fail(format!("not within {:?}: {message}", self.deadline)),
            }
        }
    }

    /// Tries until it holds, and lets others run in between.
    pub(super) async fn run_async<R>(mut self, mut check: impl FnMut() -> R) -> R {
        loop {
            match self.attempt(&mut check) {
                Ok(held) => return held,
                Err(Missed::For(pause)) => Pause::new(pause).await,
                Err(Missed::Finally(message)) => {
                    // Inside a future the caller is whoever polls it.
                    fail(format!("not within {:?}, asked for at {}: {message}", self.deadline, self.asked))
                }
            }
        }
    }
}

/// What an assertion said when it failed. A panic that says nothing is not one, and goes on.
fn message(panic: Box<dyn Any + Send>) -> String {
    let panic = match panic.downcast::<Failed>() {
        Ok(failed) => return failed.0,
        Err(panic) => panic,
    };
    let panic = match panic.downcast::<String>() {
        Ok(message) => return *message,
        Err(panic) => panic,
    };
    match panic.downcast::<&str>() {
        Ok(message) => (*message).to_owned(),
        Err(panic) => resume_unwind(panic),
    }
}

/// A pause in any runtime, and in none: tokio's timers would jump over it where a test has paused its clock.
struct Pause {
    length: Duration,
    state: Option<Arc<Mutex<PauseState>>>,
}

#[derive(Default)]
struct PauseState {
    is_over: bool,
    waker: Option<Waker>,
}

impl Pause {
    fn new(length: Duration) -> Self {
        Self { length, state: None }
    }
}

impl Future for Pause {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if let Some(state) = &self.state {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.is_over {
                return Poll::Ready(());
            }
            state.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        let state = PauseState { is_over: false, waker: Some(context.waker().clone()) };
        let state = Arc::new(Mutex::new(state));
        let (shared, length) = (Arc::clone(&state), self.length);
        let spawned = runtime::spawn("barograph-pause", move || {
            thread::sleep(length);
            let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
            state.is_over = true;
            let waker = state.waker.take();
            drop(state);
            waker.into_iter().for_each(Waker::wake);
        });
        self.state = Some(state);
        match spawned {
            Ok(()) => Poll::Pending,
            // Without a thread there is no pause, and the next attempt comes at once.
            Err(_) => Poll::Ready(()),
        }
    }
}
