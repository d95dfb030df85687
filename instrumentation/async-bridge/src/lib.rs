//! Calls async code from sync code, and measures every call: how many, how long, how they end, what is pending.
//!
//! ```
//! use std::io;
//! use std::time::Duration;
//!
//! use barograph::opentelemetry::metrics::MeterProvider;
//! use barograph_instrumentation_async_bridge::{AsyncBridge, CallError};
//!
//! async fn fetch() -> Result<u32, io::Error> {
//!     Ok(42)
//! }
//!
//! fn main_of_a_sync_program(provider: &dyn MeterProvider) -> io::Result<()> {
//!     let bridge = AsyncBridge::new(provider)?;   // starts the loop; clone it to wherever it is called
//!     match bridge.call(fetch(), Duration::from_secs(5)) {
//!         Ok(answer) => assert_eq!(answer, 42),
//!         Err(CallError::Failed(error)) => return Err(error),
//!         Err(CallError::TimedOut { .. }) => { /* the future was dropped on the loop */ }
//!         Err(other) => return Err(io::Error::other(other)),
//!     }
//!     Ok(())                                      // the last clone is gone: the loop stops
//! }
//! # main_of_a_sync_program(&barograph::opentelemetry::metrics::NoopMeterProvider::new()).unwrap();
//! ```
//!
//! Every call is counted once, when it ends, under one outcome:
//!
//! | the call ends because | it returns | outcome | counted besides |
//! |---|---|---|---|
//! | the future returned `Ok` | `Ok` | `success` | |
//! | the future returned `Err` | [`CallError::Failed`] | `error` | error type `other` |
//! | the future panicked | [`CallError::Panicked`] | `error` | error type `panic` |
//! | the bridge had been closed before | [`CallError::Closed`] | `error` | error type `closed` |
//! | it was made on the loop's own thread | [`CallError::WouldDeadlock`] | `error` | error type `internal` |
//! | the timeout had passed | [`CallError::TimedOut`] | `timeout` | a timeout |
//! | the bridge was closed meanwhile | [`CallError::Cancelled`] | `cancelled` | |
//!
//! The metrics themselves are declared in [`semconv`].

mod bridge;
mod error;
mod instruments;
pub mod semconv;

pub use bridge::AsyncBridge;
pub use error::CallError;

/// Compiles the README's program.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
