//! Databases as they tell of themselves, over MySQL's protocol: MariaDB, MySQL, OceanBase, seekdb.
//!
//! Every interval one look at the server's counters ([`mariadb`], [`oceanbase`]), of which two make a sample. What a server
//! of this kind and version does not have is found out by asking, and is no figure with a reason. Tenants of OceanBase come
//! from its system tenant, or, where one is configured, from Prometheus when they are asked for ([`prometheus`]).

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::domain::database::{History, Look, Sample, TenantSample};
use crate::domain::source::{Condition, SourceHealth};
use crate::mysql::{self, Connection};

mod flavour;
mod mariadb;
mod oceanbase;
pub mod prometheus;

use flavour::Flavour;

/// Below it the figures are mostly this source's own.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);
/// Samples of the database, and of each tenant: half an hour at the default interval, as long as the reference's list.
const MAX_SAMPLES: usize = 360;
/// Tenants told of; a cluster has tens.
const MAX_TENANTS: usize = 100;

/// `[database_source]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Time between two looks, ms; at least 1000. A look is about ten queries that read memory.
    pub interval_ms: u64,
    /// A Prometheus that scrapes obagent, for tenants: `http://HOST:9090`. `PROMETHEUS_URL` beats it.
    pub prometheus_url: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { interval_ms: 5_000, prometheus_url: String::new() }
    }
}

/// The source's name.
pub const NAME: &str = "database";

/// Looks at once and then every interval until cancelled.
pub async fn run(
    config: Config,
    database: mysql::Config,
    wall: fn() -> i64,
    out: watch::Sender<Arc<History>>,
    health: watch::Sender<Vec<SourceHealth>>,
    cancel: CancellationToken,
) {
    let mut source = Source::new(database);
    if !source.database.is_set() {
        let why = mysql::Error::None.to_string();
        source.health.condition = Condition::Off;
        source.health.lacks = vec![why.clone()];
        health.send_replace(vec![source.health]);
        out.send_replace(Arc::new(History { off_because: Some(why), ..History::default() }));
        return cancel.cancelled().await;
    }
    let interval = Duration::from_millis(config.interval_ms).max(SHORTEST_INTERVAL);
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = cancel.cancelled() => break,
            _ = ticks.tick() => {}
        }
        if cancel.run_until_cancelled(source.collect(wall)).await.is_none() {
            break;
        }
        health.send_replace(vec![source.health.clone()]);
        out.send_replace(Arc::new(source.history.clone()));
    }
    if let Some(open) = source.open.take() {
        open.connection.close().await;
    }
}

struct Source {
    database: mysql::Config,
    open: Option<Open>,
    history: History,
    health: SourceHealth,
    started: Instant,
    /// Tenants that are not told of.
    left_out: usize,
}

/// A connection, and what is known of the server behind it.
struct Open {
    connection: Connection,
    flavour: Flavour,
    before: Option<Looks>,
}

/// What one round of questions found.
#[derive(Default)]
struct Looks {
    database: Look,
    tenants: Vec<(String, Look)>,
    /// Why there are none.
    no_tenants: Option<String>,
}

impl Source {
    fn new(database: mysql::Config) -> Self {
        let health = SourceHealth { name: NAME, ..SourceHealth::default() };
        Self {
            database,
            open: None,
            history: History::default(),
            health,
            started: Instant::now(),
            left_out: 0,
        }
    }

    async fn collect(&mut self, wall: fn() -> i64) {
        let begun = Instant::now();
        let result = self.look(wall).await;
        self.health.last_duration_ns = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        match result {
            Ok(()) => {
                self.health.collections += 1;
                self.health.last_success_at_ns = Some(wall());
                self.health.last_error = None;
                self.history.off_because = None;
                self.health.condition = Condition::Up;
                self.health.lacks.clear();
                let mut lacks = self.history.samples.last().map(|sample| lacks(sample)).unwrap_or_default();
                if self.left_out > 0 {
                    lacks.push(format!("{} tenants beyond the limit of {MAX_TENANTS}", self.left_out));
                }
                if !lacks.is_empty() {
                    (self.health.condition, self.health.lacks) = (Condition::Degraded, lacks);
                }
            }
            Err(error) => {
                // The next look begins with a new connection, and its rates anew.
                self.open = None;
                let why = error.to_string();
                self.health.failures += 1;
                self.health.condition = Condition::Off;
                self.health.last_error = Some(why.clone());
                self.health.lacks = vec![why.clone()];
                self.history.off_because = Some(why);
            }
        }
    }

    async fn look(&mut self, wall: fn() -> i64) -> Result<(), mysql::Error> {
        let at_s = self.started.elapsed().as_secs_f64();
        let mut open = match self.open.take() {
            Some(open) => open,
            None => Open::new(&self.database).await?,
        };
        let mut now = match &open.flavour {
            Flavour::MySql { .. } => mariadb::look(&mut open.connection, &open.flavour).await?,
            Flavour::OceanBase { .. } => {
                let since = open.before.as_ref().and_then(|b| b.database.gauge("now_us").ok());
                oceanbase::look(&mut open.connection, since).await?
            }
        };
        for look in std::iter::once(&mut now.database).chain(now.tenants.iter_mut().map(|(_, look)| look)) {
            look.at_s = at_s;
        }
        let before = open.before.as_ref();
        let at_ns = wall();
        let sample = match &open.flavour {
            Flavour::MySql { .. } => mariadb::sample(&now.database, before.map(|b| &b.database), at_ns),
            Flavour::OceanBase { .. } => oceanbase::sample(&now.database, before.map(|b| &b.database), at_ns),
        };
        push(&mut self.history.samples, Arc::new(sample));
        self.tenants(&now, before, at_ns);
        self.history.server = Some(open.flavour.to_string());
        open.before = Some(now);
        self.open = Some(open);
        Ok(())
    }

    fn tenants(&mut self, now: &Looks, before: Option<&Looks>, at_ns: i64) {
        self.history.no_tenants.clone_from(&now.no_tenants);
        self.left_out = now.tenants.len().saturating_sub(MAX_TENANTS);
        let known = &mut self.history.tenants;
        // A tenant that was dropped is told of no more.
        known.retain(|name, _| now.tenants.iter().any(|(tenant, _)| tenant == name));
        for (tenant, look) in now.tenants.iter().take(MAX_TENANTS) {
            let earlier = before.and_then(|b| b.tenants.iter().find(|(name, _)| name == tenant));
            let sample: TenantSample = oceanbase::tenant(tenant, look, earlier.map(|(_, look)| look), at_ns);
            push(known.entry(tenant.clone()).or_default(), Arc::new(sample));
        }
    }
}

impl Open {
    async fn new(database: &mysql::Config) -> Result<Self, mysql::Error> {
        let mut connection = database.login()?.connect(None).await?;
        let flavour = flavour::of(&mut connection).await?;
        tracing::info!(server = %flavour, "connected to the database");
        Ok(Self { connection, flavour, before: None })
    }
}

fn push<T>(samples: &mut Vec<T>, sample: T) {
    if samples.len() >= MAX_SAMPLES {
        samples.remove(0);
    }
    samples.push(sample);
}

/// Figures that will not come by waiting.
fn lacks(sample: &Sample) -> Vec<String> {
    let figures = sample.figures();
    let lacking = figures.iter().filter_map(|(name, figure)| figure.as_ref().err().map(|why| (name, why)));
    lacking.filter(|(_, why)| !transient(why)).map(|(name, why)| format!("{name}: {why}")).collect()
}

/// A reason that lies in what just happened, not in how the server is.
fn transient(why: &str) -> bool {
    why == crate::domain::database::FIRST
        || why.contains("went backwards")
        || [flavour::IDLE, flavour::NO_REPLICA].contains(&why)
}
