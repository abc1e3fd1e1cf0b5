//! The shapes of a strength, one for each kind.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Wrong;
use crate::domain::action::{self, Kind};

mod from;

/// How strong, as answers say it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
#[schema(as = AnomalyStrength)]
pub enum Strength {
    /// Of `cpu`.
    Cpu(Cpu),
    /// Of `disk`.
    Disk(Disk),
    /// Of `process`.
    Process(Process),
    /// Of `memory`.
    Memory(Memory),
    /// Of `network`.
    Network(Network),
}

/// Of what a percentage is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = AnomalyBase)]
pub enum Base {
    /// One core, for each worker.
    #[default]
    Core,
    /// All CPUs that the target may use.
    Target,
}

/// How the kernel schedules a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = AnomalyClass)]
pub enum Class {
    /// As the node's other tasks.
    #[default]
    Normal,
    /// `SCHED_BATCH`.
    Batch,
    /// `SCHED_IDLE`.
    Idle,
    /// `SCHED_EXT`.
    Ext,
    /// `SCHED_FIFO`.
    Fifo,
    /// `SCHED_RR`.
    Rr,
}

/// CPU time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AnomalyCpu)]
pub struct Cpu {
    /// Above 0, up to 100.
    pub percent: f64,
    /// Of what.
    #[serde(default)]
    pub of: Base,
    /// Processes; by default one, or one for each of the target's CPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<u32>,
    /// Scheduling class.
    #[serde(default)]
    pub class: Class,
    /// 1 to 99, of `fifo` and `rr`; 1 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// -20 to 19.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nice: Option<i32>,
    /// CPUs to stay on; all that the target may use by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u32>,
}

/// Memory: one of `bytes` and `percent`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AnomalyMemory)]
pub struct Memory {
    /// In all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Of the target's limit, or of the node's memory where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<f64>,
    /// Processes that share it; one by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<u32>,
    /// How fast what is held is written again; not at all by default.
    #[serde(default)]
    pub touch_bytes_per_s: u64,
}

/// A disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "mode", rename_all = "lowercase", deny_unknown_fields)]
#[schema(as = AnomalyDisk)]
pub enum Disk {
    /// Reads and writes at a rate: one of `bytes_per_s` and `operations_per_s`.
    Load {
        /// A directory, as the target sees it.
        path: String,
        /// All workers together.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bytes_per_s: Option<u64>,
        /// All workers together.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        operations_per_s: Option<u64>,
        /// Size of an operation; 65536 by default, a multiple of 4096.
        #[serde(default = "block_bytes")]
        block_bytes: u64,
        /// Share of operations that write; all by default.
        #[serde(default = "all")]
        write_percent: f64,
        /// Processes, each with one operation at a time; one by default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        workers: Option<u32>,
    },
    /// Takes space: one of `bytes` (more) and `percent` (of the file system, in use in the end).
    Fill {
        /// A directory, as the target sees it.
        path: String,
        /// More than now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bytes: Option<u64>,
        /// In use in the end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        percent: Option<f64>,
    },
    /// The most that the target may do with the disk: at least one of the limits.
    Slow {
        /// A path on the disk, as the target sees it.
        path: String,
        /// bytes/s.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        read_bytes_per_s: Option<u64>,
        /// bytes/s.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        write_bytes_per_s: Option<u64>,
        /// 1/s.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        read_operations_per_s: Option<u64>,
        /// 1/s.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        write_operations_per_s: Option<u64>,
    },
}

const fn block_bytes() -> u64 {
    64 << 10
}

const fn all() -> f64 {
    100.0
}

/// A network: at least one of the first seven, or `partition`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = AnomalyNetwork)]
pub struct Network {
    /// What every packet waits, ms.
    #[serde(skip_serializing_if = "is_none")]
    pub delay_ms: f64,
    /// By how much that differs at most, up or down, ms.
    #[serde(skip_serializing_if = "is_none")]
    pub jitter_ms: f64,
    /// Packets that are lost.
    #[serde(skip_serializing_if = "is_none")]
    pub loss_percent: f64,
    /// Packets that arrive twice.
    #[serde(skip_serializing_if = "is_none")]
    pub duplicate_percent: f64,
    /// Packets that do not wait the delay, and so overtake.
    #[serde(skip_serializing_if = "is_none")]
    pub reorder_percent: f64,
    /// Packets with one bit flipped.
    #[serde(skip_serializing_if = "is_none")]
    pub corrupt_percent: f64,
    /// Bits that pass in a second, on each interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_bits_per_s: Option<u64>,
    /// Nothing passes between the target and these peers or ports.
    pub partition: bool,
    /// Names in the target's network; all with a default route by default.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<String>,
    /// `10.0.0.7`, `10.0.0.0/8`, `fd00::/8`; all by default.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<String>,
    /// `443`, `8000-8100`, of either side; all by default.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
    /// Which protocol.
    pub protocol: Protocol,
    /// Which way, as the target sees it.
    pub direction: Direction,
    /// Addresses that are spared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude_peers: Vec<String>,
    /// Ports that are spared: DNS and DHCP by default. Those of the node itself are in any case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude_ports: Option<Vec<String>>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_none(value: &f64) -> bool {
    *value == 0.0
}

/// A protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = AnomalyProtocol)]
pub enum Protocol {
    /// All that IPv4 and IPv6 carry.
    #[default]
    Any,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP.
    Icmp,
}

/// Which way packets go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = AnomalyDirection)]
pub enum Direction {
    /// What the target sends.
    #[default]
    Egress,
    /// What it receives.
    Ingress,
}

/// Processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "action", rename_all = "lowercase", deny_unknown_fields)]
#[schema(as = AnomalyProcess)]
pub enum Process {
    /// They stand still until it is over.
    Pause {},
    /// They are sent a signal, once.
    Kill {
        /// `kill` by default.
        #[serde(default)]
        signal: Signal,
    },
}

/// What ends a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = AnomalySignal)]
pub enum Signal {
    /// `SIGKILL`.
    #[default]
    Kill,
    /// `SIGTERM`.
    Term,
}

/// The strength of a kind.
///
/// # Errors
/// Another shape, or none or both of two that exclude one another.
pub fn of(kind: Kind, value: &serde_json::Value) -> Result<action::Strength, Wrong> {
    match kind {
        Kind::Cpu => Ok(action::Strength::Cpu(parsed::<Cpu>(value)?.into())),
        Kind::Memory => parsed::<Memory>(value)?.try_into().map(action::Strength::Memory),
        Kind::Disk => parsed::<Disk>(value)?.try_into().map(action::Strength::Disk),
        Kind::Network => Ok(action::Strength::Network(parsed::<Network>(value)?.into())),
        Kind::Process => Ok(action::Strength::Process(parsed::<Process>(value)?.into())),
    }
}

fn parsed<T: DeserializeOwned>(value: &serde_json::Value) -> Result<T, Wrong> {
    T::deserialize(value).map_err(|error| wrong(error.to_string()))
}

const fn wrong(why: String) -> Wrong {
    Wrong { field: "strength", why }
}
