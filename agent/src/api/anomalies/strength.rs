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
pub enum Strength {
    /// Of `cpu`.
    Cpu(Cpu),
    /// Of `disk`.
    Disk(Disk),
    /// Of `process`.
    Process(Process),
    /// Of `memory`.
    Memory(Memory),
}

/// Of what a percentage is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
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

/// Processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "action", rename_all = "lowercase", deny_unknown_fields)]
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
        Kind::Process => Ok(action::Strength::Process(parsed::<Process>(value)?.into())),
    }
}

fn parsed<T: DeserializeOwned>(value: &serde_json::Value) -> Result<T, Wrong> {
    T::deserialize(value).map_err(|error| wrong(error.to_string()))
}

const fn wrong(why: String) -> Wrong {
    Wrong { field: "strength", why }
}
