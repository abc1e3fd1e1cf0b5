//! A disk: busy and full by workers that hold nameless files, slow by the kernel's own limits for the target's group.

mod throttle;

use std::path::PathBuf;

use super::{Error, Facts, KERNELS, Plan, Step, at_once};
use crate::actions::order::Who;
use crate::actions::order::{Directory, DiskFillWork, DiskLoadWork, Order, Work};
use crate::actions::worker::{Space, pids, space, takes_files};
use crate::domain::action::{Amount, Disk, DiskFill, DiskLoad, DiskSlow, Fault, Invalid, Target, Unit};

const UNDO: &str = "write the limits that were there before; two guardians do when the node ends, at the deadline, or when \
                    one of them is alone, and the next start of the node does";

pub(super) fn plan(fault: &Fault, disk: &Disk, facts: &Facts<'_>) -> Result<Plan, Error> {
    match disk {
        Disk::Load(wanted) => load(fault, wanted, facts),
        Disk::Fill(wanted) => fill(fault, wanted, facts),
        Disk::Slow(wanted) => slow(fault, wanted, facts),
    }
}

fn load(fault: &Fault, wanted: &DiskLoad, facts: &Facts<'_>) -> Result<Plan, Error> {
    let place = directory(fault, &wanted.path, facts)?;
    takes_files(&place, true).map_err(|why| invalid("strength.path", why))?;
    let workers = wanted.workers.unwrap_or(1);
    #[expect(clippy::cast_precision_loss, reason = "checked rates are below 2^53")]
    let (unit, amount, operations_per_s) = match (wanted.operations_per_s, wanted.bytes_per_s) {
        (Some(operations), _) => (Unit::OperationsPerS, operations as f64, operations as f64),
        (None, bytes) => {
            let bytes = bytes.unwrap_or_default() as f64;
            (Unit::BytesPerS, bytes, bytes / wanted.block_bytes as f64)
        }
    };
    let step = |_| Step {
        does: format!(
            "start a worker that does {:.1} operations/s of {} bytes in {} below {}",
            operations_per_s / f64::from(workers),
            wanted.block_bytes,
            wanted.path,
            place.root.display()
        ),
        undo: KERNELS,
        order: facts.order(
            fault,
            Work::DiskLoad(DiskLoadWork {
                place: place.clone(),
                operations_per_s: operations_per_s / f64::from(workers),
                block_bytes: wanted.block_bytes,
                in_bytes: unit == Unit::BytesPerS,
                write_percent: wanted.write_percent,
                ramp_ns: fault.ramp_ns(),
            }),
        ),
    };
    Ok(Plan { steps: (0..workers).map(step).collect(), unit, amount })
}

fn fill(fault: &Fault, wanted: &DiskFill, facts: &Facts<'_>) -> Result<Plan, Error> {
    let place = directory(fault, &wanted.path, facts)?;
    let Space { used_bytes, free_bytes } = space(&place).map_err(|why| invalid("strength.path", why))?;
    takes_files(&place, false).map_err(|why| invalid("strength.path", why))?;
    let all_bytes = used_bytes.saturating_add(free_bytes);
    let bytes = match wanted.amount {
        Amount::Bytes(bytes) => bytes,
        percent @ Amount::Percent(_) => percent.bytes_of(all_bytes).saturating_sub(used_bytes),
    };
    if bytes == 0 {
        let why = format!("{used_bytes} of {all_bytes} bytes are in use already");
        return Err(invalid("strength.percent", why).into());
    }
    let may_be_used = Amount::Percent(facts.limits.max_percent_of_disk).bytes_of(all_bytes);
    let floor_bytes = all_bytes - may_be_used;
    if bytes > free_bytes.saturating_sub(floor_bytes) {
        let why = format!(
            "{bytes} bytes are more than the {} that may be taken of {} ([actions] max_percent_of_disk)",
            free_bytes.saturating_sub(floor_bytes),
            wanted.path
        );
        return Err(invalid("strength", why).into());
    }
    let step = Step {
        does: format!(
            "start a worker that takes {bytes} bytes of {} of {}",
            wanted.path,
            place.root.display()
        ),
        undo: KERNELS,
        order: facts.order(
            fault,
            Work::DiskFill(DiskFillWork { place, bytes, ramp_ns: fault.ramp_ns(), floor_bytes }),
        ),
    };
    #[expect(clippy::cast_precision_loss, reason = "a file system's size is below 2^53")]
    Ok(Plan { steps: vec![step], unit: Unit::Bytes, amount: bytes as f64 })
}

fn slow(fault: &Fault, wanted: &DiskSlow, facts: &Facts<'_>) -> Result<Plan, Error> {
    at_once(fault, "limits of a disk are set")?;
    let place = directory(fault, &wanted.path, facts)?;
    let device = throttle::device(&place, &facts.roots.sys)?;
    let changes = throttle::changes(&facts.place.own, &device, wanted)?;
    let step = |apply: bool| Step {
        does: if apply {
            let lines: Vec<_> =
                changes.iter().map(|it| format!("{:?} to {}", it.apply, it.file.display())).collect();
            format!("start a guardian that writes {}", lines.join(" and "))
        } else {
            "start a guardian that undoes what the next step does".to_owned()
        },
        undo: UNDO,
        // Not in the node's groups, with which it could be ended, and not in the target's.
        order: Order {
            groups: facts.place.trees.clone(),
            ..facts.order(fault, Work::Hold { apply, changes: changes.clone() })
        },
    };
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    Ok(Plan { steps: vec![step(false), step(true)], unit: Unit::Limits, amount: changes.len() as f64 })
}

const INIT: u32 = 1;
/// Where the root of the first process may not be looked at, the node's own is all that there is.
const OWN_ROOT: &str = "/proc/self/root";

/// The target's own view of its files: the root of one of its processes.
fn directory(fault: &Fault, path: &str, facts: &Facts<'_>) -> Result<Directory, Invalid> {
    let proc = &facts.roots.proc;
    let pid = match &fault.asked().target {
        Target::Node => INIT,
        Target::Pid(pid) => *pid,
        target => {
            let who =
                Who { proc: proc.clone(), pid: None, groups: facts.place.own.clone(), spare: Vec::new() };
            *pids(&who).first().ok_or_else(|| invalid("target", format!("{target} has no process")))?
        }
    };
    let mut root: PathBuf = proc.join(pid.to_string()).join("root");
    if pid == INIT && std::fs::metadata(&root).is_err() {
        root = OWN_ROOT.into();
    }
    Ok(Directory { root, path: path.to_owned() })
}

const fn invalid(field: &'static str, why: String) -> Invalid {
    Invalid { field, why }
}
