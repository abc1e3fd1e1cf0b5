//! Asks the database before anything starts, so that a wrong password, a missing table or a missing program is an error
//! with its name and not a process that ends a moment later.
//!
//! Jobs run side by side and to their end, also when whoever asked has gone: the making of tables takes minutes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::handle::{Command, Handle, Reply};
use super::sysbench;
use super::worker::{Order, generator};
use super::{Config, Error};
use crate::domain::workload::{Asked, Kind, MAX_RATE, MAX_THREADS, MIN_DURATION_S, State, Tables, Workload};
use crate::mysql;

mod tables;

/// Threads that make tables, unless it is told otherwise: one for each table, as many as small servers have cores.
const PREPARE_THREADS: u32 = 4;

/// How often, and after what pause, a full queue is tried: for 10 s.
const TRIES: usize = 100;
const PAUSE: Duration = Duration::from_millis(100);
/// Jobs at once: each may be a connection to a database that does not answer for seconds. Others wait in their queue.
const MAX_JOBS: usize = 16;

pub(super) enum Job {
    Start(Asked, Reply<Arc<Workload>>),
    Prepare(Tables, Option<u32>, Reply<()>),
}

/// See the module.
pub struct Steward {
    desk: Arc<Desk>,
    jobs: mpsc::Receiver<Job>,
}

struct Desk {
    config: Config,
    database: mysql::Config,
    handle: Handle,
}

impl Steward {
    pub(super) fn new(
        config: Config,
        database: mysql::Config,
        handle: Handle,
        jobs: mpsc::Receiver<Job>,
    ) -> Self {
        Self { desk: Arc::new(Desk { config, database, handle }), jobs }
    }

    /// Runs jobs until `stop`; then everything that runs is ended before this returns.
    ///
    /// # Errors
    /// The owner's thread has ended.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Error> {
        let mut running = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(job) = self.jobs.recv(), if running.len() < MAX_JOBS => {
                    let desk = Arc::clone(&self.desk);
                    running.spawn(async move { desk.serve(job).await });
                }
                Some(_) = running.join_next() => {}
            }
        }
        self.desk.handle.shut_down().await
    }
}

impl Desk {
    async fn serve(&self, job: Job) {
        // Whoever asked may have gone.
        match job {
            Job::Start(asked, reply) => {
                let _gone = reply.send(self.start(asked).await);
            }
            Job::Prepare(tables, threads, reply) => {
                let _gone = reply.send(self.prepare(tables, threads).await);
            }
        }
    }

    async fn start(&self, asked: Asked) -> Result<Arc<Workload>, Error> {
        self.check(&asked)?;
        let duration_s = asked.duration_s.unwrap_or(self.config.max_duration_s);
        let order = match asked.kind {
            Kind::Builtin(builtin) => Order::Generate(generator::Order {
                kind: builtin.name().to_owned(),
                threads: asked.threads,
                rate: asked.rate,
                duration_s,
            }),
            Kind::Oltp(_) | Kind::Prepare => {
                let path = sysbench::find(&self.config)?;
                let login = self.login()?;
                let mut database = login.connect(Some(&self.config.database)).await.map_err(refused)?;
                let made = tables::made(&mut database).await;
                database.close().await;
                sysbench::load(&path, &self.config, &login, made?, &asked, duration_s)?
            }
        };
        self.handle.line().ask(|reply| Command::Start(asked, order, reply)).await
    }

    fn check(&self, asked: &Asked) -> Result<(), Error> {
        within("threads", asked.threads, 1, MAX_THREADS)?;
        if let Some(duration_s) = asked.duration_s {
            within("duration", duration_s, MIN_DURATION_S, self.config.max_duration_s)?;
        }
        asked.rate.map_or(Ok(()), |rate| within("rate", rate, 1, MAX_RATE))
    }

    fn login(&self) -> Result<mysql::Login, Error> {
        self.database.login().map_err(|error| Error::Missing(error.to_string()))
    }

    async fn prepare(&self, tables: Tables, threads: Option<u32>) -> Result<(), Error> {
        let threads = threads.unwrap_or_else(|| tables.count.clamp(1, PREPARE_THREADS));
        within("threads", threads, 1, MAX_THREADS)?;
        within("tables", tables.count, 1, tables::MAX_TABLES)?;
        let rows = u64::from(tables.count) * u64::from(tables.rows);
        if tables.rows == 0 || rows > self.config.max_rows {
            return Err(Error::Invalid(format!(
                "table_size: {} in {} tables is outside 1 to {} rows in all ([workloads] max_rows)",
                tables.rows, tables.count, self.config.max_rows
            )));
        }
        let path = sysbench::find(&self.config)?;
        let login = self.login()?;
        let line = self.handle.line();
        let ticket = line.ask(|reply| Command::Prepare { threads, tables: tables.count, reply }).await?;
        match tables::clear_the_way(&login, &self.config.database, tables).await {
            Err(error) => {
                self.prepared(ticket, Err(error.to_string())).await;
                Err(error)
            }
            Ok(Some(there)) => {
                self.prepared(ticket, Ok(there)).await;
                Ok(())
            }
            Ok(None) => {
                let order =
                    sysbench::prepare(&path, &self.config, &login, tables.count, tables.rows, threads);
                self.make(ticket, order).await
            }
        }
    }

    async fn make(&self, ticket: u64, order: Result<Order, Error>) -> Result<(), Error> {
        let line = self.handle.line();
        let (over, ended) = oneshot::channel();
        let begun = match order {
            Ok(order) => line.ask(|reply| Command::MakeTables(ticket, order, over, reply)).await,
            Err(error) => Err(error),
        };
        if let Err(error) = begun {
            self.prepared(ticket, Err(error.to_string())).await;
            return Err(error);
        }
        let workload = ended.await.map_err(|_| Error::Unavailable("their owner has ended"))?;
        let reason = || workload.reason.clone().unwrap_or_default();
        match workload.state {
            State::Ended => Ok(()),
            State::Stopped => Err(Error::Conflict(format!("the database was not prepared: {}", reason()))),
            _ => Err(Error::Failed(format!("the database was not prepared: {}", reason()))),
        }
    }
}

impl Desk {
    /// Must be heard, or the preparation would seem to go on: a full queue is empty a moment later, and an owner that has
    /// ended needs to hear nothing.
    async fn prepared(&self, ticket: u64, result: Result<String, String>) {
        for _ in 0..TRIES {
            match self.handle.line().say(Command::Prepared(ticket, result.clone())) {
                Ok(()) => return,
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

fn within(field: &str, value: u32, min: u32, max: u32) -> Result<(), Error> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(Error::Invalid(format!("{field}: {value} is outside {min} to {max}")))
}

fn refused(error: mysql::Error) -> Error {
    match error {
        mysql::Error::None | mysql::Error::Password { .. } => Error::Missing(error.to_string()),
        mysql::Error::UnknownDatabase(text) => {
            Error::Database(format!("{text}: POST /api/workload/prepare makes it"))
        }
        error => Error::Database(error.to_string()),
    }
}
