//! HTTP: one router per role ([`node::router`], [`receiver::router`]), the layers that every route shares
//! ([`layers`]), and the accept loop ([`serve`]). Handlers only verify and convert.
//!
//! # What every route keeps
//!
//! - A request id: a sane `x-request-id` of the client (1 to 64 of `A-Za-z0-9._-`) or a fresh UUID, in the log
//!   line and in the answer.
//! - Errors in the reference envelope, by [`error`] alone. A wrong method is a bare 405 with `Allow`.
//! - Limits ([`Config`]): body, time, connections, header bytes and header time; each with its reason there.
//! - CORS: any origin may read, as the reference promises, and preflights allow `Content-Type`,
//!   `Authorization` and `X-API-Key`.
//!
//! # Browsers
//!
//! A listener on loopback is reachable for every page that the operator's browser shows. Reading is open to
//! all of them, as CORS says anyway. A request that changes something (any method but GET, HEAD, OPTIONS) is
//! refused with 403 when it came over loopback and its `Host` is a name that is not this machine's loopback
//! (DNS rebinding), or when it carries an `Origin` that is no loopback origin (a foreign page posting numbers).
//! `allowed_hosts` names exceptions. Listeners elsewhere accept both: there the reference's promise holds.
//!
//! # Keys
//!
//! Reading is open; what changes the node needs a key or the unix socket. `[keys] required` asks for one elsewhere too
//! ([`keys`], [`access`]); health checks never need one.
//!
//! # Rates
//!
//! `[http.rate]` bounds requests a second per key and per address ([`rate`]); wrong keys are slowed down in any case.
//!
//! # Logs
//!
//! One line per request at info, health checks and scrapes at debug. Lines of refused requests are limited to
//! [`Config::error_lines_per_second`]; what was held back is counted and said with the next line.

use std::sync::Arc;

use governor::clock::DefaultClock;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::Duration;
use tokio_util::sync::CancellationToken;

use crate::domain::source::SourceHealth;
use crate::events::Events;
use crate::tls;

mod access;
mod answers;
pub mod body;
pub mod bss_body;
pub mod common;
pub mod door;
pub mod error;
mod events;
pub mod exposition;
pub mod guard;
pub mod guarded;
pub mod keys;
pub mod layers;
mod logins;
pub mod metrics;
pub mod node;
pub mod openapi;
pub mod pids;
pub mod rate;
pub mod receiver;
pub mod serve;
pub mod status;
mod stream;
mod swagger;
mod throttle;

pub use error::ApiError;

/// Longer than any queue of quick posts needs, shorter than a client's own patience.
pub const BODY_PATIENCE: Duration = Duration::from_secs(2);

/// Limits and switches of the HTTP side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// A request that is not answered by then is 408: every answer comes from memory or waits for one fsync.
    pub request_timeout_ms: u64,
    /// The same for `POST /api/workload/prepare`, which answers when a database's tables are made: an hour is some hundred
    /// million rows.
    pub prepare_timeout_ms: u64,
    /// Connections served at once, over all listeners; further ones wait in the kernel's backlog. Each costs
    /// up to about 20 KiB.
    pub max_connections: usize,
    /// Time for a request's headers to arrive: what a client that dribbles bytes may hold a connection for.
    pub header_timeout_ms: u64,
    /// Bytes of a request's headers, and of the read buffer.
    pub max_header_bytes: usize,
    /// Body of `POST /api/v1/metrics`: [`bss_body::MAX_BATCH`] records of 1 KiB.
    pub metrics_body_bytes: usize,
    /// Body of `POST /api/v1/ingest`: what a node's largest batch may be.
    pub ingest_body_bytes: usize,
    /// Bodies read and handled at once: together with their limits this bounds the memory of all requests. A
    /// body that gets no turn within [`BODY_PATIENCE`] is 429. Samples that others write have turns of their own.
    pub max_bodies: usize,
    /// Streams (`GET /api/v1/stream`) open at once: a sixteenth of the connections, so that ordinary requests always find
    /// one. Each holds one connection and the sample that it is sending.
    pub max_streams: usize,
    /// A connection whose client has taken no byte of what is sent to it for so long is closed by the kernel: longer than
    /// a bad network's worst minute.
    pub stalled_ms: u32,
    /// Log lines of refused requests: enough to see a broken client, too few to fill a disk.
    pub error_lines_per_second: u32,
    /// Host names beside loopback ones that may be posted to over loopback.
    pub allowed_hosts: Vec<String>,
    /// Handshakes under way at once: each costs a signature, a millisecond of CPU, and some 40 KiB. Who gets no turn within
    /// `handshake_timeout_ms` is turned away.
    pub max_handshakes: usize,
    /// Time for a TLS handshake: longer than one over a bad network takes.
    pub handshake_timeout_ms: u64,
    /// Also expose the reference's bare metric names (`nr_queued` ... with label `machine_id`).
    pub reference_metric_names: bool,
    /// `[http.rate]`: requests a second.
    pub rate: rate::Config,
    /// `[http.tls]`: certificates of the TCP listeners; without them they speak plain HTTP.
    pub tls: tls::Server,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            request_timeout_ms: 10_000,
            prepare_timeout_ms: 3_600_000,
            max_connections: 512,
            header_timeout_ms: 10_000,
            max_header_bytes: 16 << 10,
            metrics_body_bytes: 1 << 20,
            ingest_body_bytes: crate::api::batch::MAX_BODY_BYTES,
            max_bodies: 32,
            max_streams: 32,
            stalled_ms: 60_000,
            error_lines_per_second: 10,
            allowed_hosts: Vec::new(),
            max_handshakes: 64,
            handshake_timeout_ms: 5_000,
            reference_metric_names: false,
            rate: rate::Config::default(),
            tls: tls::Server::default(),
        }
    }
}

/// Which of the two roles a process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `sextant node`.
    Node,
    /// `sextant receiver`.
    Receiver,
}

impl Role {
    /// Word for JSON and labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Receiver => "receiver",
        }
    }
}

/// Who answers.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Which role this process has.
    pub role: Role,
    /// The node's name, or the receiver's host name.
    pub name: String,
    /// The kernel's release.
    pub kernel: String,
    /// `/etc/machine-id`, for the reference's metric label; the node's name where there is none.
    pub machine_id: String,
    /// Wall time at which the process started, ns since the epoch.
    pub started_at_ns: i64,
}

/// What the routes of both roles need.
#[derive(Clone)]
pub struct Common(Arc<CommonInner>);

/// The parts of [`Common`].
pub struct Parts {
    /// Limits and switches.
    pub config: Config,
    /// Who answers.
    pub identity: Identity,
    /// Who may do what.
    pub keys: keys::Keys,
    /// Wall time, ns since the epoch.
    pub clock: fn() -> i64,
    /// What `/metrics` shows, complete: nothing can be registered later.
    pub registry: Registry,
    /// One-shot events.
    pub events: Events,
    /// Requests, connections, panics.
    pub metrics: metrics::Metrics,
    /// The state of every source (of every part, at the receiver), for `/readyz`.
    pub sources: watch::Receiver<Vec<SourceHealth>>,
    /// Cancelled when the process begins to stop: `/readyz` says so.
    pub draining: CancellationToken,
}

/// See [`Common`].
pub struct CommonInner {
    parts: Parts,
    throttle: throttle::Throttle,
    logins: logins::Logins,
    rates: rate::Rates,
    bodies: Semaphore,
    streams: Arc<Semaphore>,
}

impl From<Parts> for Common {
    fn from(parts: Parts) -> Self {
        let throttle = throttle::Throttle::new(parts.config.error_lines_per_second);
        let logins = logins::Logins::new(parts.metrics.clone());
        let rates = rate::Rates::new(&parts.config.rate, &DefaultClock::default());
        let bodies = Semaphore::new(parts.config.max_bodies);
        let streams = Arc::new(Semaphore::new(parts.config.max_streams));
        Self(Arc::new(CommonInner { parts, throttle, logins, rates, bodies, streams }))
    }
}

impl Common {
    /// A turn to read a body; held until the request is handled.
    ///
    /// # Errors
    /// [`ApiError::Busy`]: none within [`BODY_PATIENCE`].
    pub async fn body_slot(&self) -> Result<SemaphorePermit<'_>, ApiError> {
        let turn = tokio::time::timeout(BODY_PATIENCE, self.bodies.acquire()).await;
        // The semaphore is never closed.
        turn.ok().and_then(Result::ok).ok_or(ApiError::Busy { retry_after_s: 1 })
    }
}

impl std::ops::Deref for CommonInner {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl std::ops::Deref for Common {
    type Target = CommonInner;

    fn deref(&self) -> &CommonInner {
        &self.0
    }
}

#[cfg(test)]
mod testing;
