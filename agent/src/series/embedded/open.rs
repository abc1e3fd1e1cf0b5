//! Which days are open: a day is opened by who needs it, packed when it is over, closed when nobody needs it, and goes with its
//! file when it is older than is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Embedded;
use super::day::{Command, Day};
use super::shelf::{self, DAY_MS};
use crate::series::Error;

/// Days open at once: today, yesterday, and those that questions are about.
const MAX_OPEN: usize = 8;

/// A day that was not needed for so long is closed.
const IDLE: Duration = Duration::from_secs(60);

/// After its end a day takes what comes late for so long before it is packed.
const LATE_MS: i64 = 3_600_000;

/// How often time is looked at.
const TICK: Duration = Duration::from_secs(20);

/// A day that is open.
pub(super) struct Open {
    day: Arc<Day>,
    used_at: Instant,
    packed: bool,
}

impl Embedded {
    /// Lets days go and closes those that are not needed, until the token is cancelled.
    pub async fn keep_time(&self, stop: CancellationToken) {
        let mut ticks = interval(TICK);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            self.let_go().await;
            self.pack().await;
            self.close_idle(IDLE).await;
        }
    }

    /// A day, opened if it is not; `None` if there is none and none is to be made.
    pub(super) async fn day(&self, number: i64, make: bool) -> Result<Option<Arc<Day>>, Error> {
        let mut open = self.0.open.lock().await;
        if let Some(known) = open.get_mut(&number) {
            known.used_at = Instant::now();
            // What comes late is packed too, in its turn.
            known.packed &= !make;
            return Ok(Some(Arc::clone(&known.day)));
        }
        if !make && !self.0.shelf.has(number) {
            return Ok(None);
        }
        if open.len() >= MAX_OPEN {
            close_some(&mut open, |_| true, 1).await;
        }
        let shared = Arc::clone(&self.0);
        let opened = tokio::task::spawn_blocking(move || {
            let medium = shared.shelf.medium(number);
            Day::open(medium, &shared.config, shared.metrics.clone(), shared.health.clone())
        });
        let day = Arc::new(opened.await.map_err(|_| Error::Closed)??);
        // A question alone gives no reason to pack what is packed.
        let packed = !make && day.was_packed();
        open.insert(number, Open { day: Arc::clone(&day), used_at: Instant::now(), packed });
        Ok(Some(day))
    }

    /// Days older than are kept, and the oldest beyond the limit on bytes.
    pub(super) async fn let_go(&self) {
        let kept_ms = i64::from(self.0.config.retention_days) * DAY_MS;
        let first_ms = self.now_ms() - kept_ms;
        let is_over = |day: i64| (day + 1) * DAY_MS <= first_ms && self.0.shelf.made_at_ms(day) <= first_ms;
        let Ok(mut days) = self.0.shelf.days() else { return };
        let newest = days.pop();
        let mut size_bytes = days.iter().chain(&newest).map(|day| self.0.shelf.size_bytes(*day)).sum::<u64>();
        for day in days {
            if !is_over(day) && size_bytes <= self.0.config.max_size_bytes {
                continue;
            }
            let mut open = self.0.open.lock().await;
            close_some(&mut open, |number| number == day, 1).await;
            if open.contains_key(&day) {
                // Somebody reads it; the next time.
                continue;
            }
            let of_day = self.0.shelf.size_bytes(day);
            match self.0.shelf.remove(day) {
                Ok(()) => {
                    info!(day = shelf::name(day), size_bytes = of_day, "a day of series is over its time");
                    self.0.metrics.expired_days.inc();
                    size_bytes -= of_day;
                }
                Err(cause) => warn!(day = shelf::name(day), %cause, "a day of series cannot be removed"),
            }
        }
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.0.metrics.file_bytes.set(gauge(size_bytes));
    }

    /// Days that are over go into chunks whole.
    pub(super) async fn pack(&self) {
        let now_ms = self.now_ms();
        self.finish(|day| (day + 1).saturating_mul(DAY_MS) + LATE_MS < now_ms).await;
    }

    /// Every open day goes into chunks whole.
    pub async fn pack_all(&self) {
        self.finish(|_| true).await;
    }

    async fn finish(&self, which: impl Fn(i64) -> bool) {
        let due: Vec<_> = {
            let mut open = self.0.open.lock().await;
            let due = open.iter_mut().filter(|(day, open)| which(**day) && !open.packed);
            due.map(|(_, open)| {
                open.packed = true;
                Arc::clone(&open.day)
            })
            .collect()
        };
        for day in due {
            let (reply, answer) = oneshot::channel();
            if day.send(Command::Finish { reply }).is_ok() {
                let _gone = answer.await;
            }
        }
    }

    pub(super) async fn close_idle(&self, idle: Duration) {
        let mut open = self.0.open.lock().await;
        let Some(newest) = open.keys().last().copied() else { return };
        let old: BTreeSet<_> = open
            .iter()
            .filter(|(day, open)| **day != newest && open.used_at.elapsed() >= idle)
            .map(|(day, _)| *day)
            .collect();
        close_some(&mut open, |day| old.contains(&day), MAX_OPEN).await;
    }
}

/// Closes days that nobody has in hand, those first that were not needed for longest.
async fn close_some(open: &mut BTreeMap<i64, Open>, which: impl Fn(i64) -> bool, most: usize) {
    let free = open.iter().filter(|(day, open)| which(**day) && Arc::strong_count(&open.day) == 1);
    let mut free: Vec<_> = free.map(|(day, open)| (open.used_at, *day)).collect();
    free.sort_unstable();
    let gone: Vec<_> = free.into_iter().take(most).filter_map(|(_, day)| open.remove(&day)).collect();
    let _joined = tokio::task::spawn_blocking(move || drop(gone)).await;
}
