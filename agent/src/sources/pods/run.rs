//! The source as a task: walk or follow, publish, wait; with one task beside it for each RPC name source.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder as _, ConstantBackoff, ConstantBuilder};
use rustix::time::{ClockId, clock_gettime};
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::PodsSource;
use super::follow::Follower;
use super::names::poller::{self, Pace, Service};
use crate::domain::pod::PodMap;
use crate::domain::source::SourceHealth;
use crate::kernel::bell::Bell;

/// Shortest time between walks: below it a node would watch itself.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// Why the source stopped without being asked to.
#[derive(Debug, Error)]
pub enum RunError {
    /// A walk panicked, which no input should make it do; the source's state is lost.
    #[error("a walk of the pods source panicked")]
    Walk(#[source] JoinError),
}

/// After the bell: what else happens at the same moment (a fork, its move, its exec) comes with it.
const GATHERS: Duration = Duration::from_millis(5);

/// Shortest time between two maps that events ask for.
const SHORTEST_PACE: Duration = Duration::from_millis(15);

/// Shares of time: making maps for events takes at most a twentieth of a core.
const MAP_SHARE: u32 = 20;

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// A walk of `/proc`.
    First,
    /// The kernel is asked to tell what happens.
    Attach,
    /// A walk.
    Collect,
    /// Events rang.
    Events,
    /// A second has gone by: names, losses, and what changed outside pods.
    Second,
}

/// Walks at once, and then follows the kernel's events until cancelled, publishing each map and the states of all
/// sources; walks again every [`super::Config::refresh_ms`]. Where nobody tells, walks every interval.
///
/// The first walk is `/proc`'s: until the kernel has checked the programs that follow it, which takes a busy machine
/// seconds, there are pods already. Walks run on the blocking pool. A walk that takes longer than the interval delays the next one.
///
/// # Errors
/// [`RunError`] when a walk panicked; start again with a new source.
pub async fn run(
    mut source: PodsSource,
    wall: fn() -> i64,
    out: watch::Sender<Arc<PodMap>>,
    health: watch::Sender<Vec<SourceHealth>>,
    cancel: CancellationToken,
) -> Result<(), RunError> {
    let mut pollers = JoinSet::new();
    for ends in source.connect() {
        let (roots, cancel) = (source.roots.clone(), cancel.clone());
        pollers.spawn(poller::poll(ends, Pace::default(), roots, wall, cancel));
    }
    let interval = Duration::from_millis(source.config.interval_ms).max(SHORTEST_INTERVAL);
    let refresh = Duration::from_millis(source.config.refresh_ms).max(interval);
    let mut bell = None;
    let mut pace = Waits::new(interval, refresh);
    let mut turn = Turn::First;
    loop {
        let (back, map, took) = off_thread(move || {
            let before = clock_gettime(ClockId::ThreadCPUTime);
            let map = match turn {
                Turn::First => Some(source.collect(wall())),
                Turn::Attach => {
                    source.attach();
                    None
                }
                Turn::Collect => {
                    source.attach_again();
                    Some(source.collect(wall()))
                }
                Turn::Events => source.follow(wall(), false),
                Turn::Second => source.follow(wall(), true),
            };
            let took = clock_gettime(ClockId::ThreadCPUTime) - before;
            (source, map, Duration::try_from(took).unwrap_or_default())
        })
        .await?;
        source = back;
        // Until the kernel was asked nobody knows what this source lacks.
        if matches!(turn, Turn::Collect | Turn::Second) {
            health.send_replace(source.health());
        }
        pace.did(turn, map.is_some().then_some(took));
        if let Some(map) = map {
            out.send_replace(map);
        }
        if let Some(fd) = source.bell.take() {
            bell = Bell::new(fd).ok();
        }
        bell = bell.filter(|_| source.follower.is_some());
        let again_at = source.follower.as_ref().and_then(Follower::again_at);
        let next = async {
            match turn {
                Turn::First => Turn::Attach,
                Turn::Attach => Turn::Collect,
                _ => pace.next(bell.as_ref(), again_at).await,
            }
        };
        turn = tokio::select! {
            () = cancel.cancelled() => break,
            turn = next => turn,
        };
    }
    while pollers.join_next().await.is_some() {}
    Ok(())
}

async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, RunError> {
    spawn_blocking(work).await.map_err(RunError::Walk)
}

/// When the next turn is due.
struct Waits {
    interval: Duration,
    refresh: Duration,
    /// A fifth to two fifths of `refresh`, by chance.
    jitter: ConstantBackoff,
    collect_at: Instant,
    second_at: Instant,
    /// No map for an event before.
    map_from: Instant,
}

impl Waits {
    fn new(interval: Duration, refresh: Duration) -> Self {
        let now = Instant::now();
        let jitter = ConstantBuilder::new().with_delay(refresh / 5).with_jitter().without_max_times().build();
        Self { interval, refresh, jitter, collect_at: now, second_at: now, map_from: now }
    }

    /// After a turn, which took so much CPU time if it made a map.
    fn did(&mut self, turn: Turn, made: Option<Duration>) {
        let now = Instant::now();
        if turn == Turn::Collect {
            // Within a tenth of it: nodes that started together must not all walk at once for ever.
            let jitter = self.jitter.next().unwrap_or_default();
            self.collect_at = now + self.refresh.mul_f64(0.7) + jitter;
        }
        if turn != Turn::Events {
            self.second_at = now + self.interval;
        }
        if let Some(took) = made {
            self.map_from = now + SHORTEST_PACE.max(took * MAP_SHARE);
        }
    }

    /// Waits for it. Without a bell every interval brings a walk.
    async fn next(&self, bell: Option<&Bell>, again_at: Option<Instant>) -> Turn {
        let Some(bell) = bell else {
            sleep_until(self.second_at).await;
            return Turn::Collect;
        };
        let again = async {
            match again_at {
                Some(at) => sleep_until(at.max(self.map_from)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = sleep_until(self.collect_at) => Turn::Collect,
            () = sleep_until(self.second_at) => Turn::Second,
            () = again => Turn::Events,
            () = bell.rung() => {
                sleep_until(self.map_from.max(Instant::now() + GATHERS)).await;
                Turn::Events
            }
        }
    }
}

impl PodsSource {
    /// The ends for the pollers of the RPC sources that are switched on.
    fn connect(&mut self) -> Vec<super::names::Ends> {
        let config = self.config;
        self.names.connect(|service| match service {
            Service::Cri => config.cri,
            Service::Kubelet => config.kubelet,
        })
    }
}
