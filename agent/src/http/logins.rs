//! Wrong keys: counted, told in the log, and slowed down.
//!
//! After [`LIMIT`] wrong keys from one address, no key from there is looked at until [`WINDOW`] is over: a right one
//! neither, or the difference would tell a guesser. Who shares an address with a guesser waits too, and has the unix
//! socket. An address is an IPv4 address or the first half of an IPv6 one, which is what one subscriber has.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::{Duration, Instant};

use super::ApiError;
use super::metrics::Metrics;
use super::throttle::Throttle;

/// A person who mistypes tries a few times; with so many a minute, a key of eight letters lasts for decades.
const LIMIT: u32 = 10;

/// From the first wrong key of an address on.
const WINDOW: Duration = Duration::from_secs(60);

/// Addresses that are remembered, some 60 bytes each. While there are more, the others are counted as one.
const MAX_PEERS: usize = 4_096;

/// Lines of failed logins a second: a guesser must not fill the disk.
const LINES_PER_SECOND: u32 = 1;

/// Who sent wrong keys lately.
#[derive(Debug)]
pub(super) struct Logins {
    failures: Mutex<HashMap<Option<IpAddr>, Failures>>,
    lines: Throttle,
    metrics: Metrics,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    since: Instant,
    count: u32,
}

impl Logins {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self { failures: Mutex::default(), lines: Throttle::new(LINES_PER_SECOND), metrics }
    }

    /// Refuses to look at a key from where too many wrong ones came.
    pub(super) fn admit(&self, peer: Option<IpAddr>) -> Result<(), ApiError> {
        let now = Instant::now();
        let failures = self.lock();
        let known = failures.get(&Some(subscriber(peer)));
        // Those for whom there was no room.
        let known = known.or_else(|| failures.get(&None).filter(|_| failures.len() >= MAX_PEERS));
        let blocked = known.filter(|failures| failures.count >= LIMIT && !failures.is_over(now));
        let Some(Failures { since, .. }) = blocked else { return Ok(()) };
        self.metrics.logins_refused.inc();
        let left = WINDOW.saturating_sub(now.duration_since(*since));
        Err(ApiError::TooManyLogins { retry_after_s: whole_seconds(left) })
    }

    /// Notes a wrong key.
    pub(super) fn failed(&self, peer: Option<IpAddr>) {
        self.metrics.logins_failed.inc();
        if let Some(held_back) = self.lines.admit() {
            let peer = peer.map_or_else(|| "unknown".to_owned(), |peer| peer.to_string());
            tracing::warn!(peer, held_back, "a key that is not known was refused");
        }
        let now = Instant::now();
        let mut failures = self.lock();
        let mut of = Some(subscriber(peer));
        if failures.len() >= MAX_PEERS && !failures.contains_key(&of) {
            failures.retain(|_, one| !one.is_over(now));
            of = of.filter(|_| failures.len() < MAX_PEERS);
        }
        let one = failures.entry(of).or_insert(Failures { since: now, count: 0 });
        if one.is_over(now) {
            *one = Failures { since: now, count: 0 };
        }
        one.count = one.count.saturating_add(1);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Option<IpAddr>, Failures>> {
        // Nothing can panic while the lock is held; a poisoned one still guards plain numbers.
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Failures {
    fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.since) >= WINDOW
    }
}

/// Rounded up: a client that comes back a moment too early would be refused again.
pub(super) fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// The address, or the network of one subscriber; a connection without one is this machine's.
pub(super) fn subscriber(peer: Option<IpAddr>) -> IpAddr {
    match peer.map(|peer| peer.to_canonical()) {
        None => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Some(IpAddr::V6(v6)) => Ipv6Addr::from(u128::from(v6) >> 64 << 64).into(),
        Some(v4) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logins() -> Logins {
        Logins::new(Metrics::register(&mut prometheus_client::registry::Registry::default()))
    }

    fn refused(logins: &Logins, peer: &str) -> Option<u64> {
        match logins.admit(Some(peer.parse().unwrap())) {
            Ok(()) => None,
            Err(ApiError::TooManyLogins { retry_after_s }) => Some(retry_after_s),
            Err(other) => panic!("{other}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn ten_wrong_keys_close_an_address_for_the_rest_of_the_minute_and_no_other() {
        let logins = logins();
        for attempt in 0..LIMIT {
            assert_eq!(refused(&logins, "192.0.2.1"), None, "{attempt}");
            logins.failed(Some("192.0.2.1".parse().unwrap()));
        }
        assert_eq!(refused(&logins, "192.0.2.1"), Some(60));
        assert_eq!(refused(&logins, "::ffff:192.0.2.1"), Some(60), "the same address in other letters");
        assert_eq!(refused(&logins, "192.0.2.2"), None);
        tokio::time::advance(Duration::from_millis(58_500)).await;
        assert_eq!(refused(&logins, "192.0.2.1"), Some(2), "rounded up");
        tokio::time::advance(Duration::from_millis(1_500)).await;
        assert_eq!(refused(&logins, "192.0.2.1"), None);
        logins.failed(Some("192.0.2.1".parse().unwrap()));
        assert_eq!(refused(&logins, "192.0.2.1"), None, "a new minute begins at nothing");
        assert_eq!((logins.metrics.logins_failed.get(), logins.metrics.logins_refused.get()), (11, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn one_subscriber_of_ipv6_is_one_whichever_address_it_takes() {
        let logins = logins();
        for last in 0..LIMIT {
            logins.failed(Some(format!("2001:db8:1:2::{last:x}").parse().unwrap()));
        }
        assert!(refused(&logins, "2001:db8:1:2:ffff::1").is_some());
        assert!(refused(&logins, "2001:db8:1:3::1").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_has_an_end_and_those_beyond_it_are_one() {
        let logins = logins();
        for index in 0..20_000_u32 {
            logins.failed(Some(Ipv4Addr::from(index << 8).into()));
        }
        assert!(logins.lock().len() <= MAX_PEERS + 1);
        assert!(refused(&logins, "203.0.113.9").is_some(), "no room for more, and they tried too often");
        assert_eq!(refused(&logins, "0.0.1.0"), None, "one that there is room for tried once");
        tokio::time::advance(WINDOW).await;
        logins.failed(Some("203.0.113.9".parse().unwrap()));
        assert!(logins.lock().len() < 10, "what is over makes room");
        assert_eq!(refused(&logins, "203.0.113.9"), None);
    }
}
