//! Why a call did not return a value.

use std::error::Error;
use std::fmt;
use std::time::Duration;

/// Why [`AsyncBridge::call`](crate::AsyncBridge::call) did not return a value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallError<E> {
    /// The future returned an error. Counted as error type `other`.
    Failed(E),
    /// The future had not ended when the timeout had passed, and was told to stop. Counted as outcome `timeout`.
    TimedOut {
        /// The timeout of the call.
        after: Duration,
    },
    /// The future panicked. Counted as error type `panic`.
    Panicked {
        /// What the panic said, if it said something.
        message: String,
    },
    /// The bridge had been closed before the call. Counted as error type `closed`.
    Closed,
    /// The bridge was closed while the call was in progress. Counted as outcome `cancelled`.
    Cancelled,
    /// The call was made on the bridge's own thread, which would have waited for itself. Counted as error type
    /// `internal`.
    WouldDeadlock,
}

impl<E> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(_) => f.write_str("the future returned an error"),
            Self::TimedOut { after } => write!(f, "the future had not ended after {after:?}"),
            Self::Panicked { message } => write!(f, "the future panicked: {message}"),
            Self::Closed => f.write_str("the bridge is closed"),
            Self::Cancelled => f.write_str("the bridge was closed during the call"),
            Self::WouldDeadlock => f.write_str("the bridge was called from its own thread"),
        }
    }
}

impl<E: Error + 'static> Error for CallError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed(error) => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_the_future_is_the_source_and_not_part_of_the_message() {
        let error = CallError::Failed(std::io::Error::other("disk on fire"));
        assert_eq!(error.to_string(), "the future returned an error");
        assert_eq!(error.source().unwrap().to_string(), "disk on fire");
        assert!(CallError::<std::io::Error>::Closed.source().is_none());
    }

    #[test]
    fn messages_are_fragments_that_carry_their_facts() {
        let after = Duration::from_millis(1500);
        assert_eq!(CallError::<()>::TimedOut { after }.to_string(), "the future had not ended after 1.5s");
        let message = "index out of bounds".to_owned();
        assert_eq!(CallError::<()>::Panicked { message }.to_string(), "the future panicked: index out of bounds");
    }
}
