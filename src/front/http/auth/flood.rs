//! How many refusals one address may cause before they are no longer told one by one.
//!
//! Each refused caller gets a record in the audit log. Whoever is refused again and again would fill the disk with
//! them, so beyond a generous number they are counted, and a wrong credential is answered with 429. A good one
//! passes at any time: many callers share an address, and none of them shall be kept out by another's mistakes.
//! What there is to do before a credential is known to be wrong is bounded and small. What this module does not do:
//! limit the calls of those who are let in (the broker does, by subject).

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, MonotonicClock},
    middleware::NoOpMiddleware,
    state::keyed::HashMapStateStore,
};

/// Refusals at once that are told one by one.
const BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(99);
/// And as many more each second.
const A_SECOND: NonZeroU32 = NonZeroU32::MIN.saturating_add(1);
/// Addresses that are counted at a time.
const MAX_ADDRESSES: usize = 4096;

type Buckets =
    RateLimiter<IpAddr, HashMapStateStore<IpAddr>, MonotonicClock, NoOpMiddleware<std::time::Instant>>;

/// A bucket for each address.
pub(super) struct Flood {
    buckets: Buckets,
    untold: Mutex<HashMap<IpAddr, u64>>,
}

/// What is to be done about a refusal.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// It is recorded, and that so many before it were not.
    Alone {
        /// How many.
        after: u64,
    },
    /// It is recorded as the first of many that are not.
    First {
        /// Whole seconds until one is told alone again.
        wait: u64,
    },
    /// It is counted.
    Untold {
        /// Whole seconds until one is told alone again.
        wait: u64,
    },
}

impl Flood {
    pub(super) fn new() -> Self {
        let quota = Quota::per_second(A_SECOND).allow_burst(BURST);
        Self { buckets: RateLimiter::hashmap(quota), untold: Mutex::default() }
    }

    /// Counts one more refusal of this address.
    pub(super) fn refused(&self, address: IpAddr) -> Told {
        let address = origin(address);
        let taken = self.buckets.check_key(&address);
        if self.buckets.len() > MAX_ADDRESSES {
            // Buckets that are full again hold no information.
            self.buckets.retain_recent();
            self.buckets.shrink_to_fit();
        }
        let mut untold = self.untold.lock().unwrap_or_else(PoisonError::into_inner);
        match taken {
            Ok(()) => Told::Alone { after: untold.remove(&address).unwrap_or_default() },
            Err(until) => {
                let wait = until.wait_time_from(self.buckets.clock().now()).as_secs().max(1);
                if untold.len() >= MAX_ADDRESSES {
                    // A count is lost; that is better than to be made to keep more and more of them.
                    untold.clear();
                }
                let count = untold.entry(address).or_default();
                *count += 1;
                if *count == 1 { Told::First { wait } } else { Told::Untold { wait } }
            }
        }
    }
}

/// Who an address is: a whole /64 of IPv6 is one subscriber's.
fn origin(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_beyond_the_burst_are_counted_and_other_addresses_are_not_touched() {
        let flood = Flood::new();
        let (here, same, other) = ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2");
        let refused = |address: &str| flood.refused(address.parse().unwrap());
        let mut alone = 0;
        while refused(here) == (Told::Alone { after: 0 }) {
            alone += 1;
            assert!(alone < 100_000, "there is no limit");
        }
        assert!(alone >= BURST.get(), "{alone}");
        // The bucket fills meanwhile, so that sooner or later one is told alone again, with the number of the others.
        let mut untold = 1;
        loop {
            match refused(same) {
                Told::Alone { after } => break assert_eq!(after, untold),
                Told::Untold { wait } => assert_eq!(wait, 1),
                told @ Told::First { .. } => panic!("{told:?} for the second time"),
            }
            untold += 1;
        }
        assert_eq!(refused(other), Told::Alone { after: 0 });
    }

    #[test]
    fn a_network_of_ipv6_is_one_origin() {
        let origin = |text: &str| origin(text.parse().unwrap());
        assert_eq!(origin("2001:db8::1"), origin("2001:db8::ffff:0:0:2"));
        assert_ne!(origin("2001:db8::1"), origin("2001:db8:0:1::1"));
        assert_eq!(origin("::ffff:192.0.2.1"), origin("192.0.2.1"));
    }
}
