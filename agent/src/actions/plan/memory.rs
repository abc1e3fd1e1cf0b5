//! Memory: its size is known when the target's limit is, and what the node has left must be more than the floor.

use super::{Error, Facts, KERNELS, Plan, Step};
use crate::actions::order::{MemoryWork, Work};
use crate::domain::action::{Amount, Fault, Invalid, Memory, Unit};

pub(super) fn plan(fault: &Fault, memory: &Memory, facts: &Facts<'_>) -> Result<Plan, Error> {
    let place = facts.place;
    let bytes = memory.amount.bytes_of(place.memory_bytes);
    let floor_bytes = Amount::Percent(facts.limits.min_percent_of_memory).bytes_of(place.node_memory_bytes);
    let left = place.available_bytes.saturating_sub(floor_bytes).saturating_sub(facts.promised_bytes);
    if bytes > left {
        let why = format!(
            "{bytes} bytes are more than the {left} that this node can give while {floor_bytes} stay available \
             ([actions] min_percent_of_memory)"
        );
        return Err(Invalid { field: "strength", why }.into());
    }
    let workers = u64::from(memory.workers.unwrap_or(1));
    let share = |index: u64| bytes / workers + u64::from(index < bytes % workers);
    let step = |index| Step {
        does: format!("start a worker that holds {} bytes of memory in {}", share(index), place.words()),
        undo: KERNELS,
        order: facts.order(
            fault,
            Work::Memory(MemoryWork {
                bytes: share(index),
                ramp_ns: fault.ramp_ns(),
                touch_bytes_per_s: memory.touch_bytes_per_s / workers,
                floor_bytes,
            }),
        ),
    };
    #[expect(clippy::cast_precision_loss, reason = "memory in bytes is below 2^53")]
    Ok(Plan { steps: (0..workers).map(step).collect(), unit: Unit::Bytes, amount: bytes as f64 })
}
