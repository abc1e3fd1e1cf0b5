//! Strengths of the wire into the domain's, and back.

use super::{Base, Class, Cpu, Disk, Memory, Process, Signal, Strength, Wrong, wrong};
use crate::domain::action::{self, Amount};

impl From<Cpu> for action::Cpu {
    fn from(cpu: Cpu) -> Self {
        let priority = cpu.priority.unwrap_or(1);
        Self {
            percent: cpu.percent,
            of: match cpu.of {
                Base::Core => action::Of::Core,
                Base::Target => action::Of::Target,
            },
            workers: cpu.workers,
            class: match cpu.class {
                Class::Normal => action::Class::Normal,
                Class::Batch => action::Class::Batch,
                Class::Idle => action::Class::Idle,
                Class::Ext => action::Class::Ext,
                Class::Fifo => action::Class::Fifo(priority),
                Class::Rr => action::Class::RoundRobin(priority),
            },
            nice: cpu.nice,
            cpus: cpu.cpus,
        }
    }
}

impl From<&action::Cpu> for Cpu {
    fn from(cpu: &action::Cpu) -> Self {
        let (class, priority) = match cpu.class {
            action::Class::Normal => (Class::Normal, None),
            action::Class::Batch => (Class::Batch, None),
            action::Class::Idle => (Class::Idle, None),
            action::Class::Ext => (Class::Ext, None),
            action::Class::Fifo(priority) => (Class::Fifo, Some(priority)),
            action::Class::RoundRobin(priority) => (Class::Rr, Some(priority)),
        };
        Self {
            percent: cpu.percent,
            of: match cpu.of {
                action::Of::Core => Base::Core,
                action::Of::Target => Base::Target,
            },
            workers: cpu.workers,
            class,
            priority,
            nice: cpu.nice,
            cpus: cpu.cpus.clone(),
        }
    }
}

fn amount(bytes: Option<u64>, percent: Option<f64>) -> Result<Amount, Wrong> {
    match (bytes, percent) {
        (Some(bytes), None) => Ok(Amount::Bytes(bytes)),
        (None, Some(percent)) => Ok(Amount::Percent(percent)),
        _ => Err(wrong("one of bytes and percent".to_owned())),
    }
}

const fn parts(amount: Amount) -> (Option<u64>, Option<f64>) {
    match amount {
        Amount::Bytes(bytes) => (Some(bytes), None),
        Amount::Percent(percent) => (None, Some(percent)),
    }
}

impl TryFrom<Memory> for action::Memory {
    type Error = Wrong;

    fn try_from(memory: Memory) -> Result<Self, Wrong> {
        Ok(Self {
            amount: amount(memory.bytes, memory.percent)?,
            workers: memory.workers,
            touch_bytes_per_s: memory.touch_bytes_per_s,
        })
    }
}

impl From<&action::Memory> for Memory {
    fn from(memory: &action::Memory) -> Self {
        let (bytes, percent) = parts(memory.amount);
        Self { bytes, percent, workers: memory.workers, touch_bytes_per_s: memory.touch_bytes_per_s }
    }
}

impl TryFrom<Disk> for action::Disk {
    type Error = Wrong;

    fn try_from(disk: Disk) -> Result<Self, Wrong> {
        Ok(match disk {
            Disk::Load { path, bytes_per_s, operations_per_s, block_bytes, write_percent, workers } => {
                Self::Load(action::DiskLoad {
                    path,
                    bytes_per_s,
                    operations_per_s,
                    block_bytes,
                    write_percent,
                    workers,
                })
            }
            Disk::Fill { path, bytes, percent } => {
                Self::Fill(action::DiskFill { path, amount: amount(bytes, percent)? })
            }
            Disk::Slow {
                path,
                read_bytes_per_s,
                write_bytes_per_s,
                read_operations_per_s,
                write_operations_per_s,
            } => Self::Slow(action::DiskSlow {
                path,
                read_bytes_per_s,
                write_bytes_per_s,
                read_operations_per_s,
                write_operations_per_s,
            }),
        })
    }
}

impl From<&action::Disk> for Disk {
    fn from(disk: &action::Disk) -> Self {
        match disk.clone() {
            action::Disk::Load(load) => Self::Load {
                path: load.path,
                bytes_per_s: load.bytes_per_s,
                operations_per_s: load.operations_per_s,
                block_bytes: load.block_bytes,
                write_percent: load.write_percent,
                workers: load.workers,
            },
            action::Disk::Fill(fill) => {
                let (bytes, percent) = parts(fill.amount);
                Self::Fill { path: fill.path, bytes, percent }
            }
            action::Disk::Slow(slow) => Self::Slow {
                path: slow.path,
                read_bytes_per_s: slow.read_bytes_per_s,
                write_bytes_per_s: slow.write_bytes_per_s,
                read_operations_per_s: slow.read_operations_per_s,
                write_operations_per_s: slow.write_operations_per_s,
            },
        }
    }
}

impl From<Process> for action::Process {
    fn from(process: Process) -> Self {
        match process {
            Process::Pause {} => Self::Pause,
            Process::Kill { signal: Signal::Kill } => Self::Kill(action::Signal::Kill),
            Process::Kill { signal: Signal::Term } => Self::Kill(action::Signal::Term),
        }
    }
}

impl From<action::Process> for Process {
    fn from(process: action::Process) -> Self {
        match process {
            action::Process::Pause => Self::Pause {},
            action::Process::Kill(action::Signal::Kill) => Self::Kill { signal: Signal::Kill },
            action::Process::Kill(action::Signal::Term) => Self::Kill { signal: Signal::Term },
        }
    }
}

impl From<&action::Strength> for Strength {
    fn from(strength: &action::Strength) -> Self {
        match strength {
            action::Strength::Cpu(cpu) => Self::Cpu(cpu.into()),
            action::Strength::Memory(memory) => Self::Memory(memory.into()),
            action::Strength::Disk(disk) => Self::Disk(disk.into()),
            action::Strength::Process(process) => Self::Process((*process).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::of;
    use super::*;
    use crate::domain::action::Kind;

    #[test]
    fn what_is_asked_is_what_is_answered() {
        let slow = json!({"mode": "slow", "path": "/", "write_bytes_per_s": 9, "read_operations_per_s": 1});
        let load = json!({"mode": "load", "path": "/a", "bytes_per_s": 1, "block_bytes": 4096, "write_percent": 5.0, "workers": 2});
        for (kind, strength) in [
            (
                Kind::Cpu,
                json!({"percent": 3.0, "of": "target", "workers": 2, "class": "rr", "priority": 7, "nice": -3, "cpus": [1]}),
            ),
            (Kind::Cpu, json!({"percent": 3.0, "of": "core", "class": "ext"})),
            (Kind::Memory, json!({"bytes": 5, "touch_bytes_per_s": 0})),
            (Kind::Memory, json!({"percent": 5.0, "workers": 2, "touch_bytes_per_s": 4})),
            (Kind::Disk, load),
            (Kind::Disk, json!({"mode": "fill", "path": "/a", "percent": 80.0})),
            (Kind::Disk, slow),
            (Kind::Process, json!({"action": "pause"})),
            (Kind::Process, json!({"action": "kill", "signal": "term"})),
        ] {
            let asked = of(kind, &strength).unwrap();
            assert_eq!(serde_json::to_value(Strength::from(&asked)).unwrap(), strength);
            let back: Strength = serde_json::from_value(strength.clone()).unwrap();
            assert_eq!(serde_json::to_value(back).unwrap(), strength, "an answer is read back");
        }
    }

    #[test]
    fn another_shape_is_refused_and_says_what_is_missing() {
        for (kind, strength, says) in [
            (Kind::Cpu, json!({}), "percent"),
            (Kind::Cpu, json!({"percent": 1.0, "surprise": 1}), "surprise"),
            (Kind::Memory, json!({"bytes": 1, "percent": 1.0}), "one of bytes and percent"),
            (Kind::Memory, json!({"bytes": -1}), "-1"),
            (Kind::Disk, json!({"path": "/"}), "mode"),
            (Kind::Disk, json!({"mode": "fill", "path": "/"}), "one of bytes and percent"),
            (Kind::Disk, json!({"mode": "fill", "path": "/", "bytes": 1, "surprise": 1}), "surprise"),
            (Kind::Process, json!({"action": "tickle"}), "tickle"),
            (Kind::Process, Value::Null, "null"),
        ] {
            let error = of(kind, &strength).unwrap_err().to_string();
            assert!(error.starts_with("strength: ") && error.contains(says), "{strength}: {error}");
        }
    }
}
