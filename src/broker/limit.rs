//! Calls a subject may make in a window, over all front ends. Every call costs one, whatever becomes of it: a
//! flood of bad calls is a flood.

use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, MonotonicClock},
    middleware::StateInformationMiddleware,
    state::keyed::HashMapStateStore,
};

use crate::{
    caller::{Allowance, Caller},
    config::Config,
    error::Error,
    names::Subject,
};

/// Calls after which buckets that hold no information are dropped.
const SWEEP_EVERY: u32 = 1024;

type Buckets = RateLimiter<Subject, HashMapStateStore<Subject>, MonotonicClock, StateInformationMiddleware>;

/// A bucket for each subject.
pub(super) struct Limiter(Option<Limited>);

struct Limited {
    buckets: Buckets,
    calls: u32,
    /// How long it takes until there is one call more.
    period: Duration,
    taken: AtomicU32,
}

impl Limiter {
    /// From the settings.
    #[must_use]
    pub(super) fn new(config: &Config) -> Self {
        let calls = NonZeroU32::new(*config.rate_limit_requests).filter(|_| *config.rate_limit_enabled);
        let limited = calls.and_then(|calls| {
            let period = Duration::from_secs(*config.rate_limit_window_seconds) / calls.get();
            let quota = Quota::with_period(period)?.allow_burst(calls);
            let buckets = RateLimiter::hashmap(quota).with_middleware();
            Some(Limited { buckets, calls: calls.get(), period, taken: AtomicU32::new(0) })
        });
        Self(limited)
    }

    /// Whether there is a limit.
    pub(super) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Takes one call from the caller's bucket, and leaves word of what is left.
    ///
    /// # Errors
    /// `rate_limited` with the whole seconds to wait.
    pub(super) fn take(&self, caller: &Caller) -> Result<(), Error> {
        let Some(limited) = &self.0 else { return Ok(()) };
        let (allowance, result) = limited.take(&caller.subject);
        caller.meter.note(allowance);
        result
    }
}

impl Limited {
    fn take(&self, subject: &Subject) -> (Allowance, Result<(), Error>) {
        if self.taken.fetch_add(1, Ordering::Relaxed) % SWEEP_EVERY == SWEEP_EVERY - 1 {
            // Buckets that are full again hold no information.
            self.buckets.retain_recent();
        }
        match self.buckets.check_key(subject) {
            Ok(state) => {
                let remaining = state.remaining_burst_capacity().min(self.calls);
                let reset = self.period * (self.calls - remaining);
                (self.allowance(remaining, reset), Ok(()))
            }
            Err(until) => {
                let wait = until.wait_time_from(self.buckets.clock().now());
                let reset = wait + self.period * self.calls.saturating_sub(1);
                let error = Error::RateLimited { retry_after_seconds: whole_seconds(wait) };
                (self.allowance(0, reset), Err(error))
            }
        }
    }

    fn allowance(&self, remaining: u32, reset: Duration) -> Allowance {
        Allowance { limit: self.calls, remaining, reset_seconds: whole_seconds(reset) }
    }
}

/// Rounded up: whoever waits that long has waited long enough.
fn whole_seconds(time: Duration) -> u64 {
    time.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layers;

    fn limited(calls: &str, window: &str) -> Limited {
        let environment = [("RATE_LIMIT_REQUESTS", calls), ("RATE_LIMIT_WINDOW_SECONDS", window)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let config = Config::load(&Layers { environment, ..Layers::default() }).unwrap();
        Limiter::new(&config).0.unwrap()
    }

    #[test]
    fn the_call_after_the_last_allowed_one_waits_and_other_subjects_do_not() {
        let limited = limited("3", "60");
        let (alice, bob) = (Subject::parse("alice").unwrap(), Subject::parse("bob").unwrap());
        for (remaining, reset_seconds) in [(2, 20), (1, 40), (0, 60)] {
            let (allowance, result) = limited.take(&alice);
            result.unwrap();
            assert_eq!(allowance, Allowance { limit: 3, remaining, reset_seconds });
        }
        let (allowance, refused) = limited.take(&alice);
        assert_eq!((allowance.limit, allowance.remaining), (3, 0));
        let Err(Error::RateLimited { retry_after_seconds }) = refused else { panic!("the fourth of three") };
        assert!((19..=20).contains(&retry_after_seconds), "{retry_after_seconds}");
        assert!((retry_after_seconds..=60).contains(&allowance.reset_seconds), "{allowance:?}");
        limited.take(&bob).1.unwrap();
    }

    #[test]
    fn whoever_waits_as_long_as_told_is_let_through() {
        let limited = limited("2", "3");
        let alice = Subject::parse("alice").unwrap();
        let refused = std::iter::repeat_with(|| limited.take(&alice).1).find_map(Result::err).unwrap();
        let Error::RateLimited { retry_after_seconds } = refused else { panic!("{refused}") };
        std::thread::sleep(Duration::from_secs(retry_after_seconds));
        limited.take(&alice).1.unwrap();
    }

    #[test]
    fn buckets_of_subjects_that_went_away_do_not_pile_up() {
        let limited = limited("100", "1");
        for number in 0..5_000 {
            limited.take(&Subject::parse(&format!("s{number}")).unwrap()).1.unwrap();
        }
        std::thread::sleep(Duration::from_millis(50)); // each has one call to get back, 10 ms of it
        let alice = Subject::parse("alice").unwrap();
        for _ in 0..SWEEP_EVERY {
            let _ = limited.take(&alice);
        }
        assert!(limited.buckets.len() < 100, "{} buckets", limited.buckets.len());
    }
}
