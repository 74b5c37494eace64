//! Calls a subject may make in a window, over all front ends.

use std::{num::NonZeroU32, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, MonotonicClock},
    middleware::NoOpMiddleware,
    state::keyed::HashMapStateStore,
};

use crate::{config::Config, error::Error, names::Subject};

type Buckets =
    RateLimiter<Subject, HashMapStateStore<Subject>, MonotonicClock, NoOpMiddleware<std::time::Instant>>;

/// A bucket for each subject.
pub(super) struct Limiter(Option<Buckets>);

impl Limiter {
    /// From the settings.
    #[must_use]
    pub(super) fn new(config: &Config) -> Self {
        let quota = NonZeroU32::new(*config.rate_limit_requests)
            .filter(|_| *config.rate_limit_enabled)
            .and_then(|burst| {
                let window = Duration::from_secs(*config.rate_limit_window_seconds);
                Some(Quota::with_period(window / burst.get())?.allow_burst(burst))
            });
        Self(quota.map(RateLimiter::hashmap))
    }

    /// Takes one call from the subject's bucket.
    ///
    /// # Errors
    /// `rate_limited` with the whole seconds to wait.
    pub(super) fn take(&self, subject: &Subject) -> Result<(), Error> {
        let Some(limiter) = &self.0 else { return Ok(()) };
        limiter.check_key(subject).map_err(|until| {
            // Buckets that are full again hold no information.
            limiter.retain_recent();
            let wait = until.wait_time_from(limiter.clock().now());
            Error::RateLimited { retry_after_seconds: wait.as_secs().max(1) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layers;

    #[test]
    fn the_call_after_the_last_allowed_one_waits_and_other_subjects_do_not() {
        let environment = [("RATE_LIMIT_REQUESTS".to_owned(), "3".to_owned())].into();
        let limiter = Limiter::new(&Config::load(&Layers { environment, ..Layers::default() }).unwrap());
        let (alice, bob) = (Subject::parse("alice").unwrap(), Subject::parse("bob").unwrap());
        for _ in 0..3 {
            limiter.take(&alice).unwrap();
        }
        assert_eq!(limiter.take(&alice).unwrap_err().code(), "rate_limited");
        limiter.take(&bob).unwrap();
    }
}
