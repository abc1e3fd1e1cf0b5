//! `GET /status`: everything a person asks first, in one screen of text ([`text::render`]) or as JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::batch::Accounts;
use super::runqueue::Recent;
use super::scheduler::Exit;
use super::scheduler::event::Margin;
use crate::domain::source::SourceHealth;

pub mod text;

/// A node's state at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Who answers.
    pub node: Node,
    /// The sched_ext scheduler.
    pub scheduler: Scheduler,
    /// Every source and what it lacks.
    pub sources: Vec<Source>,
    /// Pods.
    pub pods: Pods,
    /// The way to the receivers.
    pub delivery: Delivery,
}

/// Who answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Node {
    /// The node's name.
    pub name: String,
    /// Version of Sextant.
    pub version: String,
    /// The kernel's release.
    pub kernel: String,
    /// Wall time of the answer, RFC 3339.
    pub timestamp: String,
    /// How long this process runs, s.
    pub uptime_s: u64,
}

/// The scheduler in short; `/api/v1/schedulers` has it whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Scheduler {
    /// `unsupported`, `disabled`, `enabling`, `enabled`, `disabling`.
    pub state: String,
    /// The kernel's name of it.
    pub ops: Option<String>,
    /// Process of its user-space part.
    pub user_pid: Option<u32>,
    /// Schedulers enabled since boot.
    pub enable_seq: Option<u64>,
    /// Every normal task is on it.
    pub switch_all: Option<bool>,
    /// Age of the reading, ms.
    pub age_ms: u64,
    /// Counters of the reference record, then the kernel's events.
    pub counters: Vec<Counter>,
    /// Gauges of the reference record.
    pub gauges: BTreeMap<String, u64>,
    /// Why a field of the reference record has no value.
    pub absent: BTreeMap<String, String>,
    /// Variables of the scheduler that are read.
    pub variables: usize,
    /// How near the kernel's watchdog is to ejecting it; null while none is enabled.
    pub watchdog: Option<Watchdog>,
    /// How the last scheduler ended.
    pub last_exit: Option<Exit>,
}

/// How near the kernel's watchdog is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Watchdog {
    /// The figures.
    #[serde(flatten)]
    pub margin: Margin,
    /// The longest wait as a share of the timeout, 0 to 1; null without a timeout.
    pub share: Option<f64>,
    /// `namespace/name` or the uid of the pod whose task waits longest, if it is one's.
    pub pod: Option<String>,
    /// Warnings since the node agent began.
    pub warnings: u64,
}

/// A counter since the scheduler was loaded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Counter {
    /// The kernel's or the scheduler's name.
    pub name: String,
    /// Since the scheduler was loaded.
    pub total: u64,
    /// Between the last two readings; null until there are two of one epoch.
    pub per_second: Option<f64>,
}

/// One source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Source {
    /// `scheduler`, `pods`, `pod_names/cri` ...
    pub name: String,
    /// `starting`, `up`, `degraded`, `off`.
    pub condition: String,
    /// What is missing and how to get it.
    pub lacks: Vec<String>,
    /// The last error, if the last collection failed.
    pub last_error: Option<String>,
    /// Collections that succeeded.
    pub collections: u64,
    /// Collections that failed.
    pub failures: u64,
    /// Time since the last success, ms.
    pub age_ms: Option<u64>,
    /// How long the last collection took, us.
    pub last_duration_us: u64,
}

/// Pods in numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Pods {
    /// Pods.
    pub total: usize,
    /// Processes in pods.
    pub tasks: usize,
    /// Processes outside pods.
    pub host_tasks: u64,
    /// Age of the walk, ms; null before the first.
    pub age_ms: Option<u64>,
    /// The pods with most processes, at most ten.
    pub top: Vec<Pod>,
    /// The pods that waited most for a CPU lately, at most ten; empty without run-queue latency.
    pub waiting: Vec<Waiting>,
}

/// How a pod waits for a CPU.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Waiting {
    /// `metadata.namespace`.
    pub namespace: Option<String>,
    /// `metadata.name`.
    pub name: Option<String>,
    /// Uid.
    pub uid: String,
    /// The longest wait of the last 9 to 17 s, ns.
    pub longest_recent_wait_ns: u64,
    /// Between the last two readings.
    pub recent: Recent,
}

/// One pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Pod {
    /// `metadata.namespace`.
    pub namespace: Option<String>,
    /// `metadata.name`.
    pub name: Option<String>,
    /// Uid.
    pub uid: String,
    /// Quality of service.
    pub qos: String,
    /// Containers that hold a process.
    pub containers: usize,
    /// Processes.
    pub tasks: usize,
    /// Threads.
    pub threads: u64,
    /// CPUs used between the last two readings.
    pub cpu_cores: Option<f64>,
    /// Share of the quota's periods in which it was throttled, 0 to 1.
    pub throttled_ratio: Option<f64>,
    /// Memory without inactive page cache.
    pub memory_working_set_bytes: Option<u64>,
    /// The pod's own memory limit, if it has one.
    pub memory_limit_bytes: Option<u64>,
}

/// The way to the receivers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Delivery {
    /// What became of every record; null when nothing is spooled or forwarded.
    pub accounts: Option<Accounts>,
    /// Age of the oldest record that waits, ms.
    pub lag_ms: Option<u64>,
    /// Why nothing can be accepted at the moment.
    pub degraded: Option<String>,
    /// The receivers.
    pub receivers: Vec<Receiver>,
}

/// One receiver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Receiver {
    /// Its address, without credentials.
    pub url: String,
    /// `starting`, `connected` or `retrying` for the one that gets this node's records; `standby` or `failing` for the
    /// others.
    pub state: String,
    /// Time since its last acknowledgement, ms.
    pub last_ack_age_ms: Option<u64>,
    /// Why the last attempt failed, if it did.
    pub last_error: Option<String>,
}

impl Source {
    /// As seen at a wall time (ns since the epoch).
    pub fn new(health: &SourceHealth, now_ns: i64) -> Self {
        Self {
            name: health.name.to_owned(),
            condition: health.condition.name().to_owned(),
            lacks: health.lacks.clone(),
            last_error: health.last_error.clone(),
            collections: health.collections,
            failures: health.failures,
            age_ms: health.last_success_at_ns.map(|at_ns| age_ms(at_ns, now_ns)),
            last_duration_us: health.last_duration_ns / 1_000,
        }
    }
}

/// Milliseconds between two wall times; 0 where the clock was set back between them.
pub fn age_ms(at_ns: i64, now_ns: i64) -> u64 {
    u64::try_from(now_ns.saturating_sub(at_ns) / 1_000_000).unwrap_or(0)
}
