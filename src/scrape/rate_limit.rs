//! How often strangers may ask: a token bucket, as the rate limit of Prometheus' web configuration is one.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::RateLimit;

/// A bucket of `burst` tokens that is full at first and gets a token every `interval`.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    limit: RateLimit,
    bucket: Mutex<Option<Bucket>>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// How long it would take to fill it.
    missing: Duration,
    at: Instant,
}

impl RateLimiter {
    pub(crate) fn new(limit: RateLimit) -> Self {
        Self { limit, bucket: Mutex::new(None) }
    }

    #[cfg(feature = "web-config")]
    pub(crate) fn limit(&self) -> RateLimit {
        self.limit
    }

    /// Takes a token.
    ///
    /// # Errors
    ///
    /// When there is none: how long it takes until there is one.
    pub(crate) fn take(&self, now: Instant) -> Result<(), Duration> {
        let RateLimit { interval, burst } = self.limit;
        let size = interval.saturating_mul(burst);
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let Bucket { missing, at } = bucket.unwrap_or(Bucket { missing: Duration::ZERO, at: now });
        // Threads that ask at once may come in another order than they looked at the clock in.
        let missing = missing.saturating_sub(now.saturating_duration_since(at)).saturating_add(interval);
        if missing > size {
            // With no burst there is never one. Then an interval is as good an answer as any.
            return Err(missing - size);
        }
        *bucket = Some(Bucket { missing, at: at.max(now) });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limiter(interval: Duration, burst: u32) -> RateLimiter {
        RateLimiter::new(RateLimit { interval, burst })
    }

    #[test]
    fn a_burst_passes_and_then_one_every_interval() {
        let limiter = limiter(SECOND, 3);
        let start = Instant::now();
        for _ in 0..3 {
            assert_eq!(limiter.take(start), Ok(()));
        }
        assert_eq!(limiter.take(start), Err(SECOND));
        // Asking too early costs nothing.
        assert_eq!(limiter.take(start + SECOND / 4), Err(SECOND * 3 / 4));
        assert_eq!(limiter.take(start + SECOND), Ok(()));
        assert_eq!(limiter.take(start + SECOND), Err(SECOND));
    }

    #[test]
    fn a_pause_fills_the_bucket_and_no_more() {
        let limiter = limiter(SECOND, 2);
        let start = Instant::now();
        assert_eq!(limiter.take(start), Ok(()));
        let later = start + SECOND * 1_000;
        assert_eq!((limiter.take(later), limiter.take(later)), (Ok(()), Ok(())));
        assert_eq!(limiter.take(later), Err(SECOND));
    }

    #[test]
    fn parts_of_tokens_are_kept() {
        let limiter = limiter(SECOND, 1);
        let start = Instant::now();
        assert_eq!(limiter.take(start), Ok(()));
        assert_eq!(limiter.take(start + SECOND * 3 / 2), Ok(()));
        assert_eq!(limiter.take(start + SECOND * 2), Err(SECOND / 2));
    }

    #[test]
    fn a_clock_that_was_read_earlier_gives_no_tokens_twice() {
        let limiter = limiter(SECOND, 1);
        let start = Instant::now();
        assert_eq!(limiter.take(start + SECOND), Ok(()));
        assert_eq!(limiter.take(start), Err(SECOND));
        assert_eq!(limiter.take(start + SECOND), Err(SECOND));
    }

    #[test]
    fn no_interval_is_no_limit_and_no_burst_lets_nobody_in() {
        let (unlimited, closed) = (limiter(Duration::ZERO, 0), limiter(SECOND, 0));
        let start = Instant::now();
        for after in 0..100 {
            assert_eq!(unlimited.take(start), Ok(()));
            assert_eq!(closed.take(start + SECOND * after), Err(SECOND));
        }
    }

    #[test]
    fn limits_that_no_clock_reaches_do_not_overflow() {
        let limiter = limiter(Duration::MAX, u32::MAX);
        let start = Instant::now();
        assert_eq!(limiter.take(start), Ok(()));
        assert_eq!(limiter.take(start + SECOND), Ok(()));
    }
}
