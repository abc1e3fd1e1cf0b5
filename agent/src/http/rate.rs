//! Requests a second: per key, and per address for those who bring none.
//!
//! Off by default: a queue is produced into as fast as it takes records, and nodes behind one address are many. What is
//! refused is 429 with the whole seconds to wait. Health checks and the unix socket have no limit. A stream is one request.

use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};

use governor::clock::{Clock, DefaultClock, Reference as _};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use serde::{Deserialize, Serialize};
use tokio::time::Duration;

use super::ApiError;
use super::keys::Caller;
use super::logins::{subscriber, whole_seconds};

/// Clients that are told apart, some 60 bytes each. While more are busy at once, all share one allowance.
const MAX_CLIENTS: usize = 8_192;

/// Between two looks for clients that are quiet again: one costs up to a millisecond.
const SWEEP: Duration = Duration::from_secs(1);

/// `[http.rate]`: 0 means no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Requests a second with one key.
    pub key_per_second: u32,
    /// Requests at once with one key; 0 means as many as in a second.
    pub key_burst: u32,
    /// Requests a second from one address without a key.
    pub peer_per_second: u32,
    /// Requests at once from one address; 0 means as many as in a second.
    pub peer_burst: u32,
}

/// What is left to whom.
pub(super) struct Rates<C: Clock = DefaultClock> {
    keys: Option<Table<Arc<str>, C>>,
    peers: Option<Table<IpAddr, C>>,
}

impl<C: Clock + Clone> Rates<C> {
    pub(super) fn new(config: &Config, clock: &C) -> Self {
        Self {
            keys: Table::new(config.key_per_second, config.key_burst, clock),
            peers: Table::new(config.peer_per_second, config.peer_burst, clock),
        }
    }

    /// Counts a request, or refuses it.
    pub(super) fn admit(&self, caller: &Caller, peer: Option<IpAddr>) -> Result<(), ApiError> {
        match (caller, &self.keys, &self.peers) {
            (Caller::Holder(key), Some(keys), _) => keys.admit(Arc::clone(&key.name)),
            (Caller::Nobody | Caller::Stranger, _, Some(peers)) => peers.admit(subscriber(peer)),
            _ => Ok(()),
        }
    }
}

type Limiter<K, C> =
    RateLimiter<Option<K>, HashMapStateStore<Option<K>>, C, NoOpMiddleware<<C as Clock>::Instant>>;

struct Table<K: Clone + Eq + Hash, C: Clock> {
    limiter: Limiter<K, C>,
    per_second: NonZeroU32,
    clock: C,
    swept: Mutex<C::Instant>,
}

impl<K: Clone + Eq + Hash, C: Clock + Clone> Table<K, C> {
    fn new(per_second: u32, burst: u32, clock: &C) -> Option<Self> {
        let per_second = NonZeroU32::new(per_second)?;
        let quota = Quota::per_second(per_second).allow_burst(NonZeroU32::new(burst).unwrap_or(per_second));
        let limiter = RateLimiter::new(quota, HashMapStateStore::default(), clock.clone());
        Some(Self { limiter, per_second, clock: clock.clone(), swept: Mutex::new(clock.now()) })
    }

    fn admit(&self, client: K) -> Result<(), ApiError> {
        let client = (self.limiter.len() < MAX_CLIENTS || self.sweep()).then_some(client);
        self.limiter.check_key(&client).map_err(|not_until| {
            let wait = not_until.wait_time_from(self.clock.now());
            // Never 0, which would say that trying at once helps.
            let retry_after_s = whole_seconds(wait).max(1);
            ApiError::TooManyRequests { per_second: self.per_second.get(), retry_after_s }
        })
    }

    /// Forgets those who are quiet; true where that made room.
    fn sweep(&self) -> bool {
        let now = self.clock.now();
        // Nothing can panic while the lock is held.
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(*swept) >= Nanos::from(SWEEP) {
            *swept = now;
            self.limiter.retain_recent();
        }
        self.limiter.len() < MAX_CLIENTS
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use governor::clock::FakeRelativeClock;

    use super::*;
    use crate::http::keys::tests::of;
    use crate::http::keys::{Keys, Scope};

    fn refused<C: Clock + Clone>(rates: &Rates<C>, caller: &Caller, peer: &str) -> Option<u64> {
        match rates.admit(caller, Some(peer.parse().unwrap())) {
            Ok(()) => None,
            Err(ApiError::TooManyRequests { retry_after_s, .. }) => Some(retry_after_s),
            Err(other) => panic!("{other}"),
        }
    }

    fn holder(name: &str) -> Caller {
        let keys = Keys::new(&of(&[(name, &[Scope::Read])])).unwrap();
        Caller::Holder(keys.find(name.as_bytes()).unwrap())
    }

    #[test]
    fn each_key_and_each_address_has_its_own_allowance_and_it_comes_back() {
        let clock = FakeRelativeClock::default();
        let config = Config { key_per_second: 4, peer_per_second: 1, peer_burst: 2, ..Config::default() };
        let rates = Rates::new(&config, &clock);
        let (one, other) = (holder("one"), holder("other"));
        for _ in 0..4 {
            assert_eq!(refused(&rates, &one, "192.0.2.1"), None);
        }
        assert_eq!(refused(&rates, &one, "192.0.2.9"), Some(1), "a key is one wherever it comes from");
        assert_eq!(refused(&rates, &other, "192.0.2.1"), None);
        for _ in 0..2 {
            assert_eq!(refused(&rates, &Caller::Nobody, "192.0.2.1"), None);
        }
        assert_eq!(refused(&rates, &Caller::Nobody, "192.0.2.1"), Some(1));
        assert_eq!(refused(&rates, &Caller::Stranger, "192.0.2.1"), Some(1), "a wrong key is none");
        assert_eq!(refused(&rates, &Caller::Nobody, "192.0.2.2"), None);
        assert_eq!(refused(&rates, &Caller::Local, "192.0.2.1"), None);
        clock.advance(Duration::from_millis(999));
        assert_eq!(
            refused(&rates, &Caller::Nobody, "192.0.2.1"),
            Some(1),
            "what it was told is not too early"
        );
        clock.advance(Duration::from_millis(1));
        assert_eq!(refused(&rates, &Caller::Nobody, "192.0.2.1"), None);
    }

    #[test]
    fn the_wait_is_rounded_up() {
        let clock = FakeRelativeClock::default();
        let quota = Quota::with_period(Duration::from_millis(2_500)).unwrap();
        let limiter = RateLimiter::new(quota, HashMapStateStore::default(), clock.clone());
        let slow = Table { limiter, ..Table::<IpAddr, _>::new(1, 1, &clock).unwrap() };
        let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert!(slow.admit(peer).is_ok());
        let wait = |result: Result<(), ApiError>| match result {
            Err(ApiError::TooManyRequests { retry_after_s, .. }) => retry_after_s,
            other => panic!("{other:?}"),
        };
        assert_eq!(wait(slow.admit(peer)), 3);
        clock.advance(Duration::from_millis(2_499));
        assert_eq!(wait(slow.admit(peer)), 1);
        clock.advance(Duration::from_millis(1));
        assert!(slow.admit(peer).is_ok());
    }

    #[test]
    fn without_a_word_there_is_no_limit() {
        let rates = Rates::new(&Config::default(), &FakeRelativeClock::default());
        let one = holder("one");
        for caller in [&one, &Caller::Nobody] {
            assert!((0..100_000).all(|_| refused(&rates, caller, "192.0.2.1").is_none()));
        }
    }

    #[test]
    fn the_table_has_an_end_and_those_beyond_it_share_one_allowance() {
        let clock = FakeRelativeClock::default();
        let rates = Rates::new(&Config { peer_per_second: 5, ..Config::default() }, &clock);
        let peer = |index: u32| Some(IpAddr::V4(Ipv4Addr::from(index)));
        let let_in = (0..50_000).filter(|index| rates.admit(&Caller::Nobody, peer(*index)).is_ok()).count();
        assert_eq!(let_in, MAX_CLIENTS + 5);
        let peers = rates.peers.as_ref().unwrap();
        assert_eq!(peers.limiter.len(), MAX_CLIENTS + 1);
        clock.advance(Duration::from_secs(2));
        assert!(rates.admit(&Caller::Nobody, peer(60_000)).is_ok());
        assert_eq!(peers.limiter.len(), 1, "who is quiet makes room");
    }
}
