//! CPU time: a worker for each share. What would starve the tasks of a sched_ext scheduler until the kernel ejects it is
//! refused, unless that is what is wanted.

use super::{Error, Facts, KERNELS, Plan, Step};
use crate::actions::order::{CpuWork, Work};
use crate::domain::action::{Class, Cpu, Fault, Unit};
use crate::domain::scheduler::State;
use crate::kernel::policy::Policy;

/// The kernel leaves ordinary tasks 5 % beside those in the real-time classes; those of sched_ext get none of it.
const MAX_REALTIME_PERCENT: f64 = 90.0;

pub(super) fn plan(fault: &Fault, cpu: &Cpu, facts: &Facts<'_>) -> Result<Plan, Error> {
    let place = facts.place;
    let shares = cpu.shares(facts.limits, place.cpus, place.node_cpus, facts.taken_percent)?;
    let strongest = shares.iter().copied().fold(0.0, f64::max);
    if matches!(cpu.class, Class::Fifo(_) | Class::RoundRobin(_))
        && strongest > MAX_REALTIME_PERCENT
        && facts.scheduler.state == State::Enabled
        && !fault.asked().force
    {
        return Err(Error::Conflict(format!(
            "a worker in a real-time class at {strongest:.0} % would keep the tasks of {} waiting until the kernel \
             ejects it: at most {MAX_REALTIME_PERCENT} %, or \"force\": true",
            facts.scheduler.ops.as_ref().map_or("the scheduler", |ops| &ops.base)
        )));
    }
    let step = |percent: &f64| Step {
        does: format!("start a worker that takes {percent:.1} % of one core in {}", place.words()),
        undo: KERNELS,
        order: facts.order(
            fault,
            Work::Cpu(CpuWork {
                percent: *percent,
                ramp_ns: fault.ramp_ns(),
                policy: policy(cpu.class),
                nice: cpu.nice,
                cpus: cpu.cpus.clone(),
            }),
        ),
    };
    let steps = shares.iter().map(step).collect();
    Ok(Plan { steps, unit: Unit::PercentOfCore, amount: shares.iter().sum() })
}

const fn policy(class: Class) -> Option<Policy> {
    Some(match class {
        Class::Normal => return None,
        Class::Batch => Policy::Batch,
        Class::Idle => Policy::Idle,
        Class::Ext => Policy::Ext,
        Class::Fifo(priority) => Policy::Fifo(priority),
        Class::RoundRobin(priority) => Policy::RoundRobin(priority),
    })
}
