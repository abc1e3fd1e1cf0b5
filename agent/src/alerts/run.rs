//! The loop: asks the store, changes states, keeps them, tells.

mod look;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::look::{find, window_ms};
use super::book::{self, Book, Page};
use super::metrics::StateLabel;
use super::notify::{Alertmanager, Client, Place, REPEAT, Webhook};
use super::owed::{Outbox, Reader, digest};
use super::rule::{self, Rule};
use super::state::{Alert, Changes, Findings, State, end, step};
use super::{Config, Error, Metrics, Status, WallClock, Watch};
use crate::series::{self, Series};

/// Who says events of what changed.
const EVENTS: &str = "events";

/// Rules at work.
pub struct Alerts {
    rules: Vec<Rule>,
    series: Series,
    book: Book,
    known: book::Alerts,
    outbox: Outbox,
    /// With the names of their readers.
    webhooks: Vec<(String, Place)>,
    managers: Vec<Place>,
    client: Client,
    interval: Duration,
    metrics: Metrics,
    clock: WallClock,
    status: watch::Sender<Status>,
    since_ms: i64,
    /// The file is older than what is known.
    is_behind: bool,
    /// The file could not be written the last time.
    is_stuck: bool,
}

/// What each rule saw.
struct Looked {
    now_ms: i64,
    found: Vec<Result<Findings, series::Error>>,
}

impl Alerts {
    /// Reads the rules, and the states that `directory` keeps.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn new(
        config: &Config,
        directory: &Path,
        series: Series,
        metrics: Metrics,
        clock: WallClock,
    ) -> Result<Self, Error> {
        config.check().map_err(Error::Target)?;
        let rules = rules(config)?;
        let book = Book::new(directory);
        let path = directory.display().to_string();
        let (known, ledger) = book.load().map_err(|source| Error::Read { path, source })?;
        // By digests: a URL may hold a secret, and one that is there twice is told once.
        let named = |url: &String| Ok((format!("webhook/{}", digest(url)), Place::new(url, &[])?));
        let webhooks: Result<BTreeMap<_, _>, String> = config.webhooks.iter().map(named).collect();
        let webhooks: Vec<_> = webhooks.map_err(Error::Target)?.into_iter().collect();
        let managers = config.alertmanagers.iter().map(|url| Alertmanager::place(url));
        let managers = managers.collect::<Result<_, _>>().map_err(Error::Target)?;
        let readers = webhooks.iter().map(|(name, _)| name.clone()).chain([EVENTS.to_owned()]).collect();
        let this = Self {
            rules,
            series,
            book,
            known,
            outbox: Outbox::new(ledger, &readers, metrics.clone()),
            webhooks,
            managers,
            client: Client::new(config)?,
            interval: Duration::from_millis(config.interval_ms),
            metrics,
            clock,
            status: watch::Sender::new(Status::default()),
            since_ms: clock().div_euclid(1_000_000),
            is_behind: false,
            is_stuck: false,
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

    /// What fires and is resolved, for who says events of it.
    #[must_use]
    pub fn changes(&self) -> Reader {
        self.outbox.reader(EVENTS)
    }

    /// Evaluates and tells until the token is cancelled; `events` says what [`Alerts::changes`] has, and ends with the token.
    pub async fn run(mut self, stop: CancellationToken, events: impl Future<Output = ()> + Send + 'static) {
        let mut telling = self.telling(&stop);
        telling.spawn(events);
        let mut ticks = interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.outbox.moved() => {
                    self.is_behind = true;
                    self.keep().await;
                }
                Some(Err(ended)) = telling.join_next() => {
                    // Who tells nothing any more is no small thing: the role ends with it.
                    if let Ok(panic) = ended.try_into_panic() {
                        std::panic::resume_unwind(panic);
                    }
                }
                _ = ticks.tick() => {
                    let looked = tokio::select! {
                        () = stop.cancelled() => break,
                        looked = self.look() => looked,
                    };
                    self.apply(looked).await;
                }
            }
        }
        while telling.join_next().await.is_some() {}
        self.finish().await;
    }

    /// Keeps what was told at last.
    async fn finish(&mut self) {
        self.is_behind |= self.outbox.has_moved();
        self.keep().await;
    }

    fn telling(&self, stop: &CancellationToken) -> JoinSet<()> {
        let mut telling = JoinSet::new();
        for (name, place) in &self.webhooks {
            let webhook = Webhook {
                place: place.clone(),
                client: self.client.clone(),
                metrics: self.metrics.clone(),
                reader: self.outbox.reader(name),
            };
            telling.spawn(webhook.run(stop.clone()));
        }
        for place in &self.managers {
            let manager = Alertmanager {
                place: place.clone(),
                client: self.client.clone(),
                metrics: self.metrics.clone(),
                clock: self.clock,
                repeat: REPEAT,
                shown: self.watch(),
                changes: self.outbox.released(),
            };
            telling.spawn(manager.run(stop.clone()));
        }
        telling
    }

    /// What every rule sees now; changes nothing.
    async fn look(&self) -> Looked {
        let now_ms = (self.clock)().div_euclid(1_000_000);
        let mut found = Vec::with_capacity(self.rules.len());
        for rule in &self.rules {
            self.metrics.evaluations.inc();
            found.push(find(&self.series, rule, now_ms).await);
        }
        Looked { now_ms, found }
    }

    async fn apply(&mut self, Looked { now_ms, found }: Looked) {
        // A clock that was set back is no long run.
        self.since_ms = self.since_ms.min(now_ms);
        let runs_ms = now_ms.saturating_sub(self.since_ms);
        let (mut changed, mut failing) = (Vec::new(), Vec::new());
        for (rule, found) in self.rules.iter().zip(found) {
            match found {
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
        let rules = &self.rules;
        let of_no_rule =
            self.known.iter_mut().filter(|(name, _)| rules.iter().all(|rule| rule.name != **name));
        changed.extend(of_no_rule.flat_map(|(_, alerts)| end(alerts, now_ms)));
        self.known.retain(|_, alerts| !alerts.is_empty());
        if let Some((name, words)) = failing.first()
            && self.status.borrow().failing.is_empty()
        {
            warn!(rules = failing.len(), name, "rules cannot be evaluated: {words}");
        }
        if !changed.is_empty() {
            self.outbox.push(&changed);
            self.is_behind = true;
        }
        // States, and whom they are owed to, first: who is killed behind this tells the rest after it.
        self.keep().await;
        self.publish(failing, Some(now_ms));
        self.outbox.release();
    }

    /// Writes the file, if it is behind; what fails is tried again at the next evaluation.
    async fn keep(&mut self) {
        if !self.is_behind {
            return;
        }
        let (book, page) = (self.book.clone(), Page::new(&self.known, self.outbox.snapshot()));
        let stored = tokio::task::spawn_blocking(move || book.store(&page)).await;
        match stored.map_err(io::Error::other).and_then(|stored| stored) {
            Ok(()) => {
                self.is_behind = false;
                if std::mem::take(&mut self.is_stuck) {
                    info!("the states of alerts are kept again");
                }
            }
            Err(cause) if !std::mem::replace(&mut self.is_stuck, true) => {
                warn!(%cause, "the states of alerts cannot be kept: after a restart they are told again");
            }
            Err(_) => {}
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

fn rules(config: &Config) -> Result<Vec<Rule>, Error> {
    if config.rules_file.as_os_str().is_empty() {
        let path = "its own rules".to_owned();
        return rule::parse(rule::DEFAULT).map_err(|words| Error::Rules { path, words });
    }
    let path = config.rules_file.display().to_string();
    let text = std::fs::read_to_string(&config.rules_file);
    let text = text.map_err(|source| Error::Read { path: path.clone(), source })?;
    rule::parse(&text).map_err(|words| Error::Rules { path, words })
}

#[cfg(test)]
mod tests;
