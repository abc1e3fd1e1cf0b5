//! A sched_ext scheduler as read from outside: its life, its variables, its events.

use std::sync::Arc;

use super::bss::{BssField, BssRecord};
use super::exit::SchedulerExit;
use super::watchdog::Margin;

/// `/sys/kernel/sched_ext/state`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// The kernel has no sched_ext.
    #[default]
    Unsupported,
    /// The kernel's own scheduler runs.
    Disabled,
    /// A scheduler is being loaded.
    Enabling,
    /// A scheduler runs.
    Enabled,
    /// A scheduler is being unloaded.
    Disabling,
    /// A word this version does not know.
    Other(String),
}

impl State {
    /// The kernel's word; `unsupported` without sched_ext.
    pub fn name(&self) -> &str {
        match self {
            Self::Unsupported => "unsupported",
            Self::Disabled => "disabled",
            Self::Enabling => "enabling",
            Self::Enabled => "enabled",
            Self::Disabling => "disabling",
            Self::Other(word) => word,
        }
    }
}

/// `root/ops`, split: schedulers append their version and build target to their name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpsName {
    /// As the kernel prints it: `rustland_1.1.4_x86_64_unknown_linux_gnu`.
    pub raw: String,
    /// `rustland`.
    pub base: String,
    /// `1.1.4`, with whatever follows it before the target (`1.0.5_g85f140fd`).
    pub version: Option<String>,
}

/// Which life of which scheduler a reading belongs to. A new `enable_seq` or map id is a new epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Epoch {
    /// `enable_seq`: one more for each scheduler enabled since boot.
    pub enable_seq: u64,
    /// Id of the struct_ops map: ids only grow within a boot.
    pub struct_ops_map_id: u32,
}

/// The type of a variable that can be read as one machine word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScalarKind {
    /// Unsigned integer of 1, 2, 4 or 8 bytes.
    Unsigned,
    /// Signed integer of 1, 2, 4 or 8 bytes.
    Signed,
    /// C `bool`.
    Bool,
    /// Enumeration: its values and names.
    Enum(Arc<[(i64, String)]>),
}

/// A scalar variable (or scalar member of a struct variable) of the scheduler's sections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Name from BTF; members are joined with dots (`sys_stat.nr_active`).
    pub name: String,
    /// `.bss`, `.data`, `.rodata`, `.data.uei_dump` ...
    pub section: Arc<str>,
    /// The BTF type as C would write it (`u64`, `_Bool`, `enum scx_kind`).
    pub ty: String,
    /// How to interpret the bytes.
    pub kind: ScalarKind,
    /// Offset within the section, bytes.
    pub offset: u32,
    /// Width, bytes: 1, 2, 4 or 8.
    pub size: u8,
}

/// A variable that is listed but not read (arrays, unions, pointers, strings, floats, bit fields).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// Name from BTF.
    pub name: String,
    /// Its section.
    pub section: Arc<str>,
    /// The BTF type as C would write it.
    pub ty: String,
    /// Size, bytes.
    pub size: u32,
    /// Why it is not read.
    pub why: &'static str,
}

/// A section of the scheduler's global data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// `.bss` ...
    pub name: Arc<str>,
    /// BPF map id.
    pub map_id: u32,
    /// Size, bytes.
    pub size: u32,
    /// Mapped into our memory (true) or copied by lookup (false).
    pub mapped: bool,
    /// Frozen by the loader: the values never change.
    pub frozen: bool,
}

/// What one epoch's sections hold: fixed for the epoch, shared by all its readings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// The sections.
    pub sections: Vec<Section>,
    /// Variables that are read, in section and offset order.
    pub variables: Vec<Variable>,
    /// Variables that are only listed.
    pub unread: Vec<Unread>,
}

/// A variable's value, interpreted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Unsigned.
    Unsigned(u64),
    /// Signed.
    Signed(i64),
    /// Boolean.
    Bool(bool),
    /// Enumeration value and, where the table has it, its name.
    Enum(i64, Option<String>),
}

impl ScalarKind {
    /// Interprets a little-endian word that was zero-extended from `size` bytes.
    pub fn interpret(&self, raw: u64, size: u8) -> Value {
        match self {
            Self::Unsigned => Value::Unsigned(raw),
            Self::Signed => Value::Signed(sign_extend(raw, size)),
            Self::Bool => Value::Bool(raw != 0),
            Self::Enum(names) => {
                let value = sign_extend(raw, size);
                let unsigned = i64::from_ne_bytes(raw.to_ne_bytes());
                let name = names.iter().find(|(v, _)| *v == value || *v == unsigned);
                Value::Enum(name.map_or(value, |(v, _)| *v), name.map(|(_, name)| name.clone()))
            }
        }
    }
}

fn sign_extend(raw: u64, size: u8) -> i64 {
    let unused = 64_u32.saturating_sub(u32::from(size) * 8).min(63);
    i64::from_ne_bytes((raw << unused).to_ne_bytes()) >> unused
}

/// Everything known of the scheduler at one moment.
#[derive(Clone, Debug, Default)]
pub struct SchedulerReading {
    /// Wall time, ns since the epoch.
    pub at_ns: i64,
    /// Monotonic time, ns.
    pub mono_ns: u64,
    /// `state`.
    pub state: State,
    /// `switch_all`: every normal task is on the scheduler.
    pub switch_all: Option<bool>,
    /// `nr_rejected` since the last enable.
    pub nr_rejected: Option<u64>,
    /// `enable_seq`.
    pub enable_seq: Option<u64>,
    /// `hotplug_seq`.
    pub hotplug_seq: Option<u64>,
    /// `root/ops` while one is loaded.
    pub ops: Option<OpsName>,
    /// Set while the loaded scheduler's maps are known.
    pub epoch: Option<Epoch>,
    /// Process of the scheduler's user-space part, when it could be found.
    pub user_pid: Option<u32>,
    /// `root/events`, by name, restarting with each epoch.
    pub events: Vec<(String, u64)>,
    /// The epoch's variables.
    pub layout: Arc<Layout>,
    /// One word per `layout.variables` entry, zero-extended; empty when nothing could be read.
    pub raw: Vec<u64>,
    /// The reference record, filled from whatever section and version holds each field.
    pub bss: BssRecord,
    /// For each field of the record without a value: why.
    pub bss_absent: Vec<(BssField, String)>,
    /// How near its ejection is; `None` while none is loaded.
    pub margin: Option<Margin>,
    /// Warnings said since this process began.
    pub stall_warnings: u64,
    /// How the last scheduler ended.
    pub last_exit: Option<SchedulerExit>,
}

impl SchedulerReading {
    /// Every variable with its interpreted value.
    pub fn values(&self) -> impl Iterator<Item = (&Variable, Value)> {
        self.layout.variables.iter().zip(&self.raw).map(|(v, &raw)| (v, v.kind.interpret(raw, v.size)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_interpreted_by_kind_and_width() {
        assert_eq!(ScalarKind::Signed.interpret(0xff, 1), Value::Signed(-1));
        assert_eq!(ScalarKind::Signed.interpret(0x7f, 1), Value::Signed(127));
        assert_eq!(ScalarKind::Signed.interpret(u64::MAX, 8), Value::Signed(-1));
        assert_eq!(ScalarKind::Unsigned.interpret(0xff, 1), Value::Unsigned(255));
        assert_eq!(ScalarKind::Bool.interpret(1, 1), Value::Bool(true));
        let kind = ScalarKind::Enum(Arc::from([(-1, "NONE".to_owned()), (2, "TWO".to_owned())]));
        assert_eq!(kind.interpret(0xffff_ffff, 4), Value::Enum(-1, Some("NONE".to_owned())));
        assert_eq!(kind.interpret(9, 4), Value::Enum(9, None));
    }
}
