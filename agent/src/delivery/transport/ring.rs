//! Several receivers: one is a node's home, and while it takes nothing the next one on the ring does.
//!
//! Consistent hashing: every receiver has [`POINTS`] points on a circle of 64-bit numbers, and a node goes clockwise from
//! its own. So nodes spread evenly, all of them know the order without asking anybody, and a receiver that comes or goes
//! moves only its share of nodes; those of one that failed spread over all the others.
//!
//! A receiver that fails is left alone for a pause that grows with each failure (a circuit breaker); then it is asked
//! whether it is ready before it is given a batch. One that says it is busy is left alone for as long as it wants, so its
//! own limit bounds its load. The home is asked first whenever it is not left alone: a node returns by itself.
//!
//! A batch is the same wherever it goes. One whose answer was lost may be stored by two receivers, once by each, and
//! carries the same identity in both.

mod circle;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use self::circle::Circle;
use super::{Other, SendError, Transport};
use crate::api::batch::{Ack, Batch};
use crate::delivery::pace::Pace;

/// Points of one receiver: with 150 the largest of ten shares is some 20 % above the mean.
const POINTS: u32 = 150;

/// Receivers at most: each is one more that is tried before a batch is said to have failed.
pub const MAX_RECEIVERS: usize = 16;

/// Whether it is ready is a question of milliseconds; meanwhile no batch goes anywhere.
pub const READY_WITHIN: Duration = Duration::from_secs(1);

/// Who takes what a node sends, in the order in which they are asked.
#[derive(Debug)]
pub struct Ring<T> {
    members: Vec<Member<T>>,
    /// Who took the last batch, as an index.
    current: AtomicUsize,
    timeout: Duration,
    metrics: RingMetrics,
}

/// Times of a ring.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Until one receiver has answered a batch.
    pub answer_within: Duration,
    /// One that failed is left alone for so long at first.
    pub pause_min: Duration,
    /// And at most for so long.
    pub pause_max: Duration,
}

/// What a ring counts.
#[derive(Clone, Debug, Default)]
pub struct RingMetrics {
    failovers: Counter,
    left_alone: Family<[(&'static str, String); 1], Gauge>,
}

impl RingMetrics {
    /// Counters in `registry`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let help = "Batches that another receiver took than the one before";
        registry.register("forward_failovers", help, metrics.failovers.clone());
        let help = "1 from a failure of a receiver until it takes a batch again";
        registry.register("forward_receiver_left_alone", help, metrics.left_alone.clone());
        metrics
    }
}

#[derive(Debug)]
struct Member<T> {
    transport: T,
    breaker: Mutex<Breaker>,
    left_alone: Gauge,
}

/// Since when, and for how long, one is left alone.
#[derive(Debug)]
struct Breaker {
    until: Option<Instant>,
    pace: Pace,
}

impl<T: Transport> Ring<T> {
    /// The receivers in the order that this node asks them; none, and nothing can ever be sent.
    pub fn new(node: &str, receivers: Vec<T>, times: Times, metrics: RingMetrics) -> Self {
        let mut receivers: Vec<_> = receivers.into_iter().map(Some).collect();
        let names: Vec<_> = receivers.iter().flatten().map(Transport::target).collect();
        let members = Circle::new(&names, POINTS).order(node).into_iter().filter_map(|at| {
            let transport = receivers.get_mut(at)?.take()?;
            let left_alone = metrics.left_alone.get_or_create_owned(&[("receiver", transport.target())]);
            let pace = Pace::new(times.pause_min, times.pause_max);
            Some(Member { transport, breaker: Mutex::new(Breaker { until: None, pace }), left_alone })
        });
        let members = members.collect();
        Self { members, current: AtomicUsize::new(0), timeout: times.answer_within, metrics }
    }

    /// In which order they are asked now: home first; those that are left alone only when there is nobody else, and
    /// then the one whose pause ends first.
    fn turns(&self) -> Vec<&Member<T>> {
        let now = Instant::now();
        let mut willing: Vec<_> = self.members.iter().filter(|member| !member.is_left_alone(now)).collect();
        if willing.is_empty() {
            willing.extend(self.members.iter().min_by_key(|member| member.breaker().until));
        }
        willing
    }

    /// Where there are several, it must be told which one it was.
    fn told(&self, member: &Member<T>, error: SendError) -> SendError {
        if self.members.len() > 1 { error.of(&member.transport.target()) } else { error }
    }

    fn took(&self, member: &Member<T>) {
        let at = self.members.iter().position(|one| std::ptr::eq(one, member)).unwrap_or_default();
        let before = self.current.swap(at, Ordering::Relaxed);
        if before != at {
            self.metrics.failovers.inc();
            let home = at == 0;
            info!(receiver = member.transport.target(), home, "another receiver takes records");
        }
        member.succeeded();
    }
}

impl<T: Transport> Transport for Ring<T> {
    async fn send(&self, batch: &Batch) -> Result<Ack, SendError> {
        let mut failure = unavailable("no receiver is configured".to_owned());
        let turns = self.turns();
        let alone = turns.len() == 1;
        for member in turns {
            // The only one left is given the batch itself: there is nobody to spare it for.
            if !alone && member.failed_before() && !member.is_ready().await {
                member.failed(None);
                failure = self.told(member, unavailable("not ready".to_owned()));
                continue;
            }
            let sent = timeout(self.timeout, member.transport.send(batch)).await;
            let error = match sent {
                Ok(Ok(ack)) => {
                    self.took(member);
                    return Ok(ack);
                }
                // It understood: all of them would say the same.
                Ok(Err(refused @ SendError::Refused { .. })) => return Err(refused),
                Ok(Err(error)) => error,
                Err(_) => unavailable(format!("no answer within {:?}", self.timeout)),
            };
            let (first, retry_after) = (!member.failed_before(), error.retry_after());
            member.failed(retry_after);
            failure = self.told(member, error);
            if first && self.members.len() > 1 {
                warn!("a receiver is left alone for a while: {failure}");
            }
        }
        Err(failure)
    }

    async fn ready(&self) -> bool {
        for member in self.turns() {
            if member.is_ready().await {
                return true;
            }
        }
        false
    }

    /// Who took the last batch, or would be asked first.
    fn target(&self) -> String {
        let current = self.members.get(self.current.load(Ordering::Relaxed));
        current.map_or_else(String::new, |member| member.transport.target())
    }

    fn others(&self) -> Vec<Other> {
        let current = self.current.load(Ordering::Relaxed);
        let others = self.members.iter().enumerate().filter(|(at, _)| *at != current);
        let other = |member: &Member<T>| Other {
            receiver: member.transport.target(),
            left_alone: member.failed_before(),
        };
        others.map(|(_, member)| other(member)).collect()
    }
}

fn unavailable(words: String) -> SendError {
    SendError::Unavailable { words }
}

impl<T: Transport> Member<T> {
    fn breaker(&self) -> std::sync::MutexGuard<'_, Breaker> {
        // Nothing in it can be half done.
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_left_alone(&self, now: Instant) -> bool {
        self.breaker().until.is_some_and(|until| now < until)
    }

    /// Its last batch failed, however long ago.
    fn failed_before(&self) -> bool {
        self.breaker().until.is_some()
    }

    async fn is_ready(&self) -> bool {
        timeout(READY_WITHIN, self.transport.ready()).await.unwrap_or(false)
    }

    fn succeeded(&self) {
        let mut breaker = self.breaker();
        breaker.until = None;
        breaker.pace.reset();
        self.left_alone.set(0);
    }

    fn failed(&self, retry_after: Option<Duration>) {
        let mut breaker = self.breaker();
        let pause = breaker.pace.next(retry_after);
        breaker.until = Some(Instant::now() + pause);
        self.left_alone.set(1);
    }
}
