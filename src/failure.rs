//! What kind of failure an error is, for components that tell their errors apart by type.
//!
//! Errors of the network pass through many hands, each of which wraps them. What became of the call is said by one of the
//! causes, mostly an [`io::Error`], and is the same question for every component that makes calls.

use std::error::Error;
use std::io;

/// Why a call failed, as far as its error tells.
///
/// ```
/// use std::io;
///
/// use barograph::Failure;
///
/// let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
/// assert_eq!(Failure::of(&io::Error::other(refused)), Failure::Connect);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It took too long: an [`io::ErrorKind::TimedOut`], or a time-out of tower or tokio.
    Timeout,
    /// There was no connection, or it broke: an [`io::Error`] about one that was refused, unreachable or broken.
    Connect,
    /// Everything else.
    Other,
}

impl Failure {
    /// The failure that the first of an error and its causes tells.
    #[must_use]
    pub fn of(error: &(dyn Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            if is_elapsed(error) {
                return Self::Timeout;
            }
            let io_error = error.downcast_ref::<io::Error>();
            match io_error.map(io::Error::kind) {
                Some(io::ErrorKind::TimedOut) => return Self::Timeout,
                Some(
                    io::ErrorKind::AddrNotAvailable
                    | io::ErrorKind::BrokenPipe
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::HostUnreachable
                    | io::ErrorKind::NetworkDown
                    | io::ErrorKind::NetworkUnreachable
                    | io::ErrorKind::NotConnected,
                ) => return Self::Connect,
                _ => {}
            }
            // The source of an I/O error is the source of the error within it, not that error.
            let inner = io_error.and_then(io::Error::get_ref);
            next = inner.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source());
        }
        Self::Other
    }
}

/// Whether this is the time-out error of tower or of tokio, whatever their versions: both are `struct Elapsed(())`, and
/// what they derive from that is all an error tells about its type.
fn is_elapsed(error: &(dyn Error + 'static)) -> bool {
    format!("{error:?}") == "Elapsed(())"
}

/// An error that a layer can classify: any [`Error`], or the boxed one of tower's middleware, which is not an [`Error`]
/// itself.
///
/// `Form` tells the two apart for the compiler and is always inferred.
pub trait ClassifiedError<Form> {
    /// See [`Failure::of`].
    fn failure(&self) -> Failure;
}

/// The form of a type that is an [`Error`].
#[derive(Debug)]
pub enum Plain {}

/// The form of a box around any error.
#[derive(Debug)]
pub enum Boxed {}

impl<E: Error + 'static> ClassifiedError<Plain> for E {
    fn failure(&self) -> Failure {
        Failure::of(self)
    }
}

impl ClassifiedError<Boxed> for Box<dyn Error + Send + Sync> {
    fn failure(&self) -> Failure {
        Failure::of(self.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    /// An error that says nothing itself.
    #[derive(Debug)]
    struct Wrapper<E>(E);

    impl<E> fmt::Display for Wrapper<E> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("something went wrong")
        }
    }

    impl<E: Error + 'static> Error for Wrapper<E> {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn the_kind_of_an_io_error_is_found_at_any_depth() {
        for (kind, expected) in [
            (io::ErrorKind::TimedOut, Failure::Timeout),
            (io::ErrorKind::ConnectionRefused, Failure::Connect),
            (io::ErrorKind::ConnectionReset, Failure::Connect),
            (io::ErrorKind::HostUnreachable, Failure::Connect),
            (io::ErrorKind::InvalidData, Failure::Other),
        ] {
            assert_eq!(Failure::of(&io::Error::from(kind)), expected, "{kind}");
            assert_eq!(Failure::of(&Wrapper(Wrapper(io::Error::new(kind, "text")))), expected, "{kind}");
            assert_eq!(Failure::of(&io::Error::other(io::Error::from(kind))), expected, "{kind}");
            assert_eq!(Failure::of(&io::Error::other(Wrapper(io::Error::from(kind)))), expected, "{kind}");
        }
    }

    #[test]
    fn the_first_cause_that_says_something_counts() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(Failure::of(&io::Error::new(io::ErrorKind::TimedOut, refused)), Failure::Timeout);
    }

    #[tokio::test]
    async fn the_time_outs_of_tower_and_tokio_are_timeouts() {
        let of_tower = tower::timeout::error::Elapsed::new();
        let of_tokio = tokio::time::timeout(std::time::Duration::ZERO, std::future::pending::<()>()).await.unwrap_err();
        assert_eq!(Failure::of(&of_tower), Failure::Timeout);
        assert_eq!(Failure::of(&Wrapper(of_tokio)), Failure::Timeout);
    }

    #[test]
    fn a_boxed_error_is_classified_by_what_is_in_the_box() {
        let boxed: Box<dyn Error + Send + Sync> = Box::new(io::Error::from(io::ErrorKind::TimedOut));
        assert_eq!(boxed.failure(), Failure::Timeout);
    }
}
