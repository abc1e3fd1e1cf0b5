//! The loop: asks the store, changes states, keeps them, tells.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::book::{self, Book};
use super::measure::{group, values};
use super::metrics::StateLabel;
use super::notify::{Alertmanager, Client, Place, REPEAT, Webhook};
use super::rule::{self, Rule};
use super::state::{Alert, Changes, Findings, State, step};
use super::{Config, Error, Metrics, Status, WallClock, Watch};
use crate::domain::series::Range;
use crate::series::{self, Query, Series};

/// Series and samples of one rule's question: a thousand containers' buckets for five minutes.
const MAX_SERIES: usize = 50_000;
const MAX_SAMPLES: usize = 2_000_000;

const DAY_MS: i64 = 86_400_000;

/// An alert fired or was resolved.
#[derive(Clone, Debug)]
pub struct Change(pub Alert);

/// Rules at work.
pub struct Alerts {
    rules: Vec<Rule>,
    series: Series,
    book: Book,
    known: book::Alerts,
    webhooks: Vec<Webhook>,
    managers: Vec<Place>,
    client: Client,
    interval: Duration,
    metrics: Metrics,
    clock: WallClock,
    status: watch::Sender<Status>,
    changes: mpsc::Sender<Change>,
    since_ms: i64,
    told: watch::Sender<u64>,
}

impl Alerts {
    /// Reads the rules, and the states that `directory` keeps. What fires and is resolved also goes to `changes`.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn new(
        config: &Config,
        directory: &Path,
        series: Series,
        metrics: Metrics,
        clock: WallClock,
        changes: mpsc::Sender<Change>,
    ) -> Result<Self, Error> {
        config.check().map_err(Error::Target)?;
        let rules = if config.rules_file.as_os_str().is_empty() {
            rule::parse(rule::DEFAULT)
                .map_err(|words| Error::Rules { path: "its own rules".to_owned(), words })?
        } else {
            let path = config.rules_file.display().to_string();
            let text = std::fs::read_to_string(&config.rules_file);
            let text = text.map_err(|source| Error::Read { path: path.clone(), source })?;
            rule::parse(&text).map_err(|words| Error::Rules { path, words })?
        };
        let book = Book::new(directory);
        let path = directory.display().to_string();
        let mut known = book.load().map_err(|source| Error::Read { path, source })?;
        // A rule that is gone has no alerts any more.
        known.retain(|name, _| rules.iter().any(|rule| rule.name == *name));
        let webhooks = config.webhooks.iter().map(|url| Place::new(url, &[]).map(Webhook::new));
        let webhooks = webhooks.collect::<Result<_, _>>().map_err(Error::Target)?;
        let managers = config.alertmanagers.iter().map(|url| Alertmanager::place(url));
        let managers = managers.collect::<Result<_, _>>().map_err(Error::Target)?;
        let client = Client::new(config)?;
        let interval = Duration::from_millis(config.interval_ms);
        let status = watch::Sender::new(Status::default());
        let this = Self {
            rules,
            series,
            book,
            known,
            webhooks,
            managers,
            client,
            interval,
            metrics,
            clock,
            status,
            changes,
            since_ms: clock().div_euclid(1_000_000),
            told: watch::Sender::new(0),
        };
        this.publish(Vec::new(), None);
        Ok(this)
    }

    /// What is known.
    #[must_use]
    pub fn watch(&self) -> Watch {
        self.status.subscribe()
    }

    /// The way to the targets.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Evaluates and tells until the token is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut telling = JoinSet::new();
        for webhook in &self.webhooks {
            telling.spawn(webhook.clone().run(self.client.clone(), self.metrics.clone(), stop.clone()));
        }
        for place in &self.managers {
            let manager = Alertmanager {
                place: place.clone(),
                client: self.client.clone(),
                metrics: self.metrics.clone(),
                clock: self.clock,
                repeat: REPEAT,
                shown: self.watch(),
                changes: self.told.subscribe(),
            };
            telling.spawn(manager.run(stop.clone()));
        }
        let mut ticks = interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = ticks.tick() => {}
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.evaluate() => {}
            }
        }
        while telling.join_next().await.is_some() {}
    }

    /// Every rule once.
    pub(super) async fn evaluate(&mut self) {
        let now_ms = (self.clock)().div_euclid(1_000_000);
        // A clock that was set back is no long run.
        self.since_ms = self.since_ms.min(now_ms);
        let runs_ms = now_ms.saturating_sub(self.since_ms);
        let (mut changed, mut failing) = (Vec::new(), Vec::new());
        for rule in &self.rules {
            self.metrics.evaluations.inc();
            match find(&self.series, rule, now_ms).await {
                Ok(mut findings) => {
                    findings.is_catching_up = runs_ms < window_ms(rule);
                    let alerts = self.known.entry(rule.name.clone()).or_default();
                    let Changes { fired, resolved, left_out } = step(rule, alerts, &findings, now_ms);
                    self.metrics.left_out.inc_by(left_out);
                    changed.extend(fired.into_iter().chain(resolved));
                }
                Err(cause) => {
                    self.metrics.failures.inc();
                    failing.push((rule.name.clone(), cause.to_string()));
                }
            }
        }
        if let Some((name, words)) = failing.first()
            && self.status.borrow().failing.is_empty()
        {
            warn!(rules = failing.len(), name, "rules cannot be evaluated: {words}");
        }
        // States first: who is told twice is told so by a restart between the two, and not told never.
        if !changed.is_empty()
            && let Err(cause) = self.book.store(&self.known)
        {
            warn!(%cause, "the states of alerts cannot be kept: after a restart they are told again");
        }
        self.publish(failing, Some(now_ms));
        if !changed.is_empty() {
            self.webhooks.iter().for_each(|webhook| webhook.tell(&changed, &self.metrics));
            self.told.send_modify(|told| *told += 1);
        }
        for alert in changed {
            if self.changes.send(Change(alert)).await.is_err() {
                return;
            }
        }
    }

    fn all(&self) -> impl Iterator<Item = &Alert> {
        self.known.values().flat_map(BTreeMap::values)
    }

    fn publish(&self, failing: Vec<(String, String)>, evaluated_at_ms: Option<i64>) {
        for state in [State::Pending, State::Firing, State::Resolved] {
            let count = self.all().filter(|alert| alert.state == state).count();
            let gauge = self.metrics.alerts.get_or_create(&StateLabel { state: state.name() }).clone();
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let alerts: Arc<[Alert]> = self.all().cloned().collect();
        self.status.send_replace(Status { alerts, failing, evaluated_at_ms });
    }
}

fn window_ms(rule: &Rule) -> i64 {
    i64::try_from(rule.window_s.saturating_mul(1_000)).unwrap_or(i64::MAX)
}

/// What a rule sees now.
async fn find(series: &Series, rule: &Rule, now_ms: i64) -> Result<Findings, series::Error> {
    let range = Range { from_ms: now_ms.saturating_sub(window_ms(rule)) + 1, to_ms: now_ms };
    if rule.absent {
        let day = Range { from_ms: now_ms.saturating_sub(DAY_MS), to_ms: now_ms };
        let found = series.find(&rule.selection(&rule.metric), day, MAX_SERIES).await?;
        let seen = found.iter().filter(|found| found.last_ms >= day.from_ms);
        let there: BTreeSet<_> = seen
            .clone()
            .filter(|found| found.last_ms >= range.from_ms)
            .map(|found| group(rule, &found.labels))
            .collect();
        let absent: BTreeSet<_> =
            seen.map(|found| group(rule, &found.labels)).filter(|group| !there.contains(group)).collect();
        return Ok(Findings { absent: absent.into_iter().collect(), there, ..Findings::default() });
    }
    let query = |metric| Query {
        selection: rule.selection(metric),
        range,
        buckets: None,
        max_series: MAX_SERIES,
        max_samples: MAX_SAMPLES,
    };
    let found = series.read(&query(&rule.metric)).await?;
    let over = match &rule.over {
        Some(metric) => series.read(&query(metric)).await?,
        None => Vec::new(),
    };
    let (rule, found) = (rule.clone(), found);
    // A million samples take tens of milliseconds.
    let measuring = tokio::task::spawn_blocking(move || values(&rule, &found, &over));
    let values = measuring.await.map_err(|cause| series::Error::Disk(cause.to_string()))?;
    Ok(Findings { values, ..Findings::default() })
}

#[cfg(test)]
mod tests;
