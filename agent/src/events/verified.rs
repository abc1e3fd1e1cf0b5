//! Exactly once in scrape time: what a scraper stored is read back from it before anything else is sent.
//!
//! Each answer ends with a number, [`Number`], that Prometheus stores with the events beside it, or not at all. The next
//! scrape asks that Prometheus for it first; [`state`] says what follows. Nothing is ever sent on a guess: a Prometheus
//! that cannot be asked, or never shows a number, gets no events. Each answer is on disk before it goes out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::Mutex;

mod state;

use self::state::{Before, State};
use super::journal::{Command, Row, Table};
use super::text::{Batch, Number};
use super::{Config, Error, Events, Inner, Mode, Promise, Shared, WallClock};
use crate::domain::series::Escaped;
use crate::domain::source::{Condition, SourceHealth};
use crate::prometheus::Prometheus;

/// A Prometheus answers for two series in milliseconds, and its own scrape waits meanwhile.
const PATIENCE: Duration = Duration::from_millis(500);
/// Two series are some 200 bytes.
const MAX_ANSWER_BYTES: usize = 16 << 10;
/// How far behind a number it is looked for, s: clocks that differ, one that was a time zone ahead until it was set among
/// them, and a scraper that stood still.
const BEHIND_S: u64 = 86_400;
/// Answers in a row that do not appear before somebody is told: at 15 % lost one time in 300.
const MISSED: u32 = 3;

/// All that are configured, by name.
#[derive(Default)]
pub(super) struct Lanes {
    lanes: BTreeMap<String, Lane>,
    clock: Option<WallClock>,
    lacks: std::sync::Mutex<BTreeMap<String, String>>,
}

struct Lane {
    name: String,
    prometheus: Prometheus,
    held: Mutex<Held>,
}

/// As the journal has it, once it was read.
#[derive(Default)]
struct Held {
    state: Option<State>,
    missed: u32,
}

impl Lanes {
    /// None but where the promise needs them.
    pub(super) fn of(config: &Config, clock: WallClock) -> Result<Self, Error> {
        if config.mode != Mode::ScrapeTime || config.promise != Promise::ExactlyOnce {
            return Ok(Self::default());
        }
        let lane = |(name, url): (&String, &String)| {
            let prometheus = Prometheus::new(url, PATIENCE, MAX_ANSWER_BYTES);
            let prometheus = prometheus.map_err(|why| Error::Config(format!("prometheus.{name}: {why}")));
            let lane = |prometheus| Lane { name: name.clone(), prometheus, held: Mutex::default() };
            prometheus.map(|prometheus| (name.clone(), lane(prometheus)))
        };
        let lanes = config.prometheus.iter().map(lane).collect::<Result<_, _>>()?;
        Ok(Self { lanes, clock: Some(clock), ..Self::default() })
    }

    /// Its place in the health, behind the journal's.
    pub(super) fn health(&self) -> Option<SourceHealth> {
        let name = "events/read_back";
        let health = SourceHealth { name, condition: Condition::Up, ..SourceHealth::default() };
        (!self.lanes.is_empty()).then_some(health)
    }

    /// What is wrong with one, or nothing.
    fn tell(&self, shared: &Shared, name: &str, lack: Option<&str>) {
        let mut lacks = self.lacks.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match lack {
            Some(lack) => lacks.insert(name.to_owned(), lack.to_owned()),
            None => lacks.remove(name),
        };
        if before.as_deref() == lack {
            return;
        }
        match lack {
            Some(lack) => tracing::warn!("events are not sent: {lack}"),
            None => tracing::info!(scraper = name, "what it stored is read back again"),
        }
        shared.health.send_modify(|health| {
            if let Some(health) = health.get_mut(1) {
                health.lacks = lacks.values().cloned().collect();
                let is_well = health.lacks.is_empty();
                health.condition = if is_well { Condition::Up } else { Condition::Degraded };
            }
        });
    }
}

/// What a scraper of this name gets.
pub(super) async fn scrape(events: &Events, name: &str) -> Batch {
    let Inner { lanes, metrics, shared, .. } = &*events.0;
    let (Some(lane), Some(clock)) = (lanes.lanes.get(name), lanes.clock) else {
        metrics.scrape("refused");
        return Batch::default();
    };
    let mut held = lane.held.lock().await;
    let answer = lane.answer(events, &mut held, clock).await;
    let lack = match &answer {
        Ok(_) if held.missed >= MISSED => Some(lane.never_appears()),
        Ok(_) => None,
        Err(why) => Some(why.clone()),
    };
    lanes.tell(shared, name, lack.as_deref());
    answer.unwrap_or_default()
}

impl Lane {
    async fn answer(&self, events: &Events, held: &mut Held, clock: WallClock) -> Result<Batch, String> {
        let Inner { config, metrics, shared, .. } = &*events.0;
        let state = match held.state.take() {
            Some(state) => state,
            None => self.load(events).await.map_err(|error| format!("{}: {error}", self.name))?,
        };
        let mut next = held.state.insert(state).clone();
        let now_ms = u64::try_from(clock().div_euclid(1_000_000)).unwrap_or(0);
        let found = self.read_back(&next, now_ms).await.map_err(|why| {
            metrics.scrape("unverified");
            self.cannot_be_asked(&why)
        })?;
        let before = next.decide(&found);
        metrics.scrape(before.kind());
        held.missed = if before == Before::Lost { held.missed.saturating_add(1) } else { 0 };
        let answer = {
            let window = shared.read();
            next.next(before, (now_ms, &found), (&window, config.max_samples_per_scrape))
        };
        let answer = answer.ok_or_else(|| format!("{}: its numbers are used up", self.name))?;
        let (key, bytes) = (self.name.clone(), next.to_bytes());
        // An answer that nobody knows of after a kill would be sent again.
        let row = Row { table: Table::Verified, key, bytes };
        let kept = events.ask(|reply| Command::Keep { row, reply }).await;
        kept.map_err(|error| format!("{}: {error}", self.name))?;
        shared.delivered.fetch_max(next.stored(), Ordering::Relaxed);
        metrics.sent(answer.events.len() as u64, 0);
        let (scraper, server) = (self.name.clone(), next.server);
        let number = Number { scraper, server, is_probe: answer.is_probe, number: answer.number };
        held.state = Some(next);
        Ok(Batch { events: answer.events, with_timestamps: false, number: Some(number) })
    }

    /// As an earlier process left it, under whichever promise; else it begins with the window.
    async fn load(&self, events: &Events) -> Result<State, Error> {
        let name = self.name.clone();
        let row = events.ask(|reply| Command::Verified { name, reply }).await?;
        let mut state = if let Some(bytes) = row {
            let state = State::from_bytes(&bytes);
            state.ok_or_else(|| Error::Disk("what was sent last makes no sense".to_owned()))?
        } else {
            let (server, _) = uuid::Uuid::new_v4().as_u64_pair();
            State::new(server, events.0.shared.read().first())
        };
        // Another promise's word for what was sent is taken: beginning anew would double it.
        let scrapers = events.0.scrapers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(progress) = scrapers.progress(&self.name) {
            state.join(progress);
        }
        Ok(state)
    }

    /// The last number of each series of this name that it has.
    async fn read_back(&self, state: &State, now_ms: u64) -> Result<BTreeSet<u64>, String> {
        let age_s = state.looked_for().map_or(0, |number| now_ms.saturating_sub(number).div_ceil(1_000));
        // A relabelling that takes away what tells the two series apart leaves nothing that is found. Numbers only rise: of
        // several targets, as of a pod that was made anew on its old disk, the highest is the last.
        let query = format!(
            "max by (kind) (last_over_time(sextant_events_answer{{scraper=\"{}\",server=\"{:016x}\",kind=~\"answer|probe\"}}[{}s]))",
            Escaped(&self.name),
            state.server,
            BEHIND_S.saturating_add(age_s),
        );
        let series: Vec<Series> = self.prometheus.ask("query", &[("query", &query)]).await?;
        Ok(series.into_iter().filter_map(|series| whole(&series.value.1)).collect())
    }

    fn cannot_be_asked(&self, why: &str) -> String {
        format!(
            "{}: {} cannot be asked what it has stored ({why}): it gets no events until it can; is the address in \
             [events] prometheus its own?",
            self.name,
            self.prometheus.url()
        )
    }

    fn never_appears(&self) -> String {
        format!(
            "{name}: {url} has none of the last answers: is it the Prometheus that scrapes with \
             ?scraper={name}, in one job only, and does no relabelling of its drop sextant_events_answer or its labels?",
            name = self.name,
            url = self.prometheus.url()
        )
    }
}

#[derive(Deserialize)]
struct Series {
    /// Seconds since the epoch, and the value as text.
    value: (f64, String),
}

/// A number of ours; others are not exact.
fn whole(text: &str) -> Option<u64> {
    let value = text.parse::<f64>().ok().filter(|value| value.fract() == 0.0)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be a whole number below 2^53"
    )]
    (0.0..9_007_199_254_740_991.0).contains(&value).then_some(value as u64)
}
