//! `GET /api/v1/schedulers`, and the scheduler part of the records a node forwards.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::bss;
use crate::domain::{exit, scheduler as domain};

pub mod event;

/// The sched_ext scheduler of one node at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Scheduler {
    /// Wall time of the reading, ns since the epoch.
    pub at_ns: i64,
    /// `unsupported`, `disabled`, `enabling`, `enabled`, `disabling`.
    pub state: String,
    /// The kernel's name of it, version and target included.
    pub ops: Option<String>,
    /// Its base name: `rustland`.
    pub name: Option<String>,
    /// Its version, if its name carries one.
    pub version: Option<String>,
    /// Which life of which scheduler this is.
    pub epoch: Option<Epoch>,
    /// Process of its user-space part.
    pub user_pid: Option<u32>,
    /// Every normal task is on it.
    pub switch_all: Option<bool>,
    /// Tasks refused since the last enable.
    pub nr_rejected: Option<u64>,
    /// Schedulers enabled since boot.
    pub enable_seq: Option<u64>,
    /// CPU hotplug events since boot.
    pub hotplug_seq: Option<u64>,
    /// The kernel's event counters, by the kernel's names, since this epoch began.
    pub events: BTreeMap<String, u64>,
    /// The reference record.
    pub bss: bss::Record,
    /// Why a field of the record is null.
    pub bss_absent: BTreeMap<String, String>,
    /// Sections of its global data.
    pub sections: Vec<Section>,
    /// Every variable that is read.
    pub variables: Vec<Variable>,
    /// Variables that are listed but not read.
    pub unread: Vec<Unread>,
    /// How near the kernel's watchdog is to ejecting it; null while none is enabled.
    pub watchdog: Option<event::Margin>,
    /// Warnings of that since the node agent began.
    #[serde(default)]
    pub stall_warnings: u64,
    /// How the last scheduler ended.
    pub last_exit: Option<Exit>,
}

/// See [`domain::Epoch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Epoch {
    /// `enable_seq` of the kernel.
    pub enable_seq: u64,
    /// Id of the struct_ops map.
    pub struct_ops_map_id: u32,
}

/// One section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Section {
    /// `.bss` ...
    pub name: String,
    /// BPF map id.
    pub map_id: u32,
    /// Size, bytes.
    pub size: u32,
    /// Mapped into memory (true) or copied by lookup (false).
    pub mapped: bool,
    /// Its values never change.
    pub frozen: bool,
}

/// One variable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Variable {
    /// Name; members are joined with dots.
    pub name: String,
    /// Its section.
    pub section: String,
    /// Its BTF type as C would write it.
    #[serde(rename = "type")]
    pub ty: String,
    /// Number, boolean, or an enumeration's number.
    #[schema(value_type = Object)]
    pub value: serde_json::Value,
    /// Name of the enumeration's value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// One variable that is not read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Unread {
    /// Name.
    pub name: String,
    /// Its section.
    pub section: String,
    /// Its BTF type as C would write it.
    #[serde(rename = "type")]
    pub ty: String,
    /// Size, bytes.
    pub size: u32,
    /// Why it is not read.
    pub why: String,
}

/// One scheduler's end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Exit {
    /// The kernel's name of the scheduler.
    pub ops: String,
    /// The epoch that ended.
    pub enable_seq: u64,
    /// `unreg`, `error_stall` ... (`none` when the record could not be read).
    pub kind: String,
    /// The kernel's number for it.
    pub kind_code: u64,
    /// The kernel's exit code.
    pub exit_code: i64,
    /// The kernel's words for the kind.
    pub reason: String,
    /// What exactly happened.
    pub msg: String,
    /// Where the record came from, or why there is none.
    pub detail: String,
    /// Wall time at which the end was noticed, ns since the epoch.
    pub noticed_at_ns: i64,
}

impl From<&exit::SchedulerExit> for Exit {
    fn from(exit: &exit::SchedulerExit) -> Self {
        Self {
            ops: exit.ops.clone(),
            enable_seq: exit.enable_seq,
            kind: exit.kind.name().to_owned(),
            kind_code: exit.kind.raw(),
            exit_code: exit.exit_code,
            reason: exit.reason.clone(),
            msg: exit.msg.clone(),
            detail: exit.detail.clone(),
            noticed_at_ns: exit.noticed_at_ns,
        }
    }
}

impl From<&domain::SchedulerReading> for Scheduler {
    fn from(reading: &domain::SchedulerReading) -> Self {
        let layout = &reading.layout;
        Self {
            at_ns: reading.at_ns,
            state: reading.state.name().to_owned(),
            ops: reading.ops.as_ref().map(|ops| ops.raw.clone()),
            name: reading.ops.as_ref().map(|ops| ops.base.clone()),
            version: reading.ops.as_ref().and_then(|ops| ops.version.clone()),
            epoch: reading.epoch.map(|epoch| Epoch {
                enable_seq: epoch.enable_seq,
                struct_ops_map_id: epoch.struct_ops_map_id,
            }),
            user_pid: reading.user_pid,
            switch_all: reading.switch_all,
            nr_rejected: reading.nr_rejected,
            enable_seq: reading.enable_seq,
            hotplug_seq: reading.hotplug_seq,
            events: reading.events.iter().cloned().collect(),
            bss: (&reading.bss).into(),
            bss_absent: reading
                .bss_absent
                .iter()
                .map(|(field, why)| (field.name().to_owned(), why.clone()))
                .collect(),
            sections: layout.sections.iter().map(Section::from).collect(),
            variables: reading.values().map(Variable::from).collect(),
            unread: layout.unread.iter().map(Unread::from).collect(),
            watchdog: reading.margin.as_ref().map(event::Margin::from),
            stall_warnings: reading.stall_warnings,
            last_exit: reading.last_exit.as_ref().map(Exit::from),
        }
    }
}

impl From<&domain::Section> for Section {
    fn from(section: &domain::Section) -> Self {
        Self {
            name: section.name.to_string(),
            map_id: section.map_id,
            size: section.size,
            mapped: section.mapped,
            frozen: section.frozen,
        }
    }
}

impl From<(&domain::Variable, domain::Value)> for Variable {
    fn from((variable, value): (&domain::Variable, domain::Value)) -> Self {
        let (value, label) = match value {
            domain::Value::Unsigned(value) => (value.into(), None),
            domain::Value::Signed(value) => (value.into(), None),
            domain::Value::Bool(value) => (value.into(), None),
            domain::Value::Enum(value, label) => (value.into(), label),
        };
        Self {
            name: variable.name.clone(),
            section: variable.section.to_string(),
            ty: variable.ty.clone(),
            value,
            label,
        }
    }
}

impl From<&domain::Unread> for Unread {
    fn from(unread: &domain::Unread) -> Self {
        Self {
            name: unread.name.clone(),
            section: unread.section.to_string(),
            ty: unread.ty.clone(),
            size: unread.size,
            why: unread.why.to_owned(),
        }
    }
}
