//! A fault as data: its steps in order, each with what undoes it, and what they are to achieve together.

mod cpu;
mod disk;
mod memory;
mod network;
mod process;

use super::Error;
use super::order::{Change, Order, Work};
use super::place::Place;
use crate::domain::action::{Fault, Invalid, Limits, StepRecord, Strength, Unit};
use crate::domain::scheduler::SchedulerReading;
use crate::host::HostRoots;

/// One step: a worker.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// In words.
    pub(super) does: String,
    /// What undoes it, in words.
    pub(super) undo: &'static str,
    /// What the worker is told.
    pub(super) order: Order,
}

/// The steps of a fault.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    /// What is achieved, and how much of it.
    pub(super) unit: Unit,
    pub(super) amount: f64,
}

/// What the kernel takes back with the process.
const KERNELS: &str = "end the worker; it ends itself when the node does and at its deadline, and the kernel takes \
                       back what it held";

/// What a plan is made from.
pub(super) struct Facts<'a> {
    pub(super) place: &'a Place,
    pub(super) roots: &'a HostRoots,
    pub(super) limits: &'a Limits,
    /// Percent of one core that other faults take.
    pub(super) taken_percent: f64,
    /// Bytes of memory that other faults were promised and do not hold yet.
    pub(super) promised_bytes: u64,
    pub(super) scheduler: &'a SchedulerReading,
    /// Ports that the node listens on.
    pub(super) own_ports: &'a [u16],
    /// Processes that no fault may end or stop.
    pub(super) spare: Vec<u32>,
    pub(super) now_ns: u64,
}

impl Facts<'_> {
    fn order(&self, fault: &Fault, work: Work) -> Order {
        Order {
            deadline_ns: self.now_ns.saturating_add(fault.duration_ns()),
            groups: self.place.groups.clone(),
            work,
            #[cfg(debug_assertions)]
            unguarded: false,
        }
    }
}

/// The plan of a checked fault.
///
/// # Errors
/// The target cannot take it, or the node's limits forbid it.
pub(super) fn plan(fault: &Fault, facts: &Facts<'_>) -> Result<Plan, Error> {
    match &fault.asked().strength {
        Strength::Cpu(cpu) => cpu::plan(fault, cpu, facts),
        Strength::Memory(memory) => memory::plan(fault, memory, facts),
        Strength::Disk(disk) => disk::plan(fault, disk, facts),
        Strength::Network(network) => network::plan(fault, network, facts),
        Strength::Process(process) => process::plan(fault, *process, facts),
    }
}

/// Refuses a ramp of what has none.
fn at_once(fault: &Fault, what: &str) -> Result<(), Invalid> {
    match fault.ramp_ns() {
        0 => Ok(()),
        _ => Err(Invalid { field: "ramp", why: format!("{what} at once: leave it out") }),
    }
}

impl Step {
    /// What it changes that the kernel does not take back.
    pub(super) fn changes(&self) -> &[Change] {
        if let Work::Hold { changes, .. } = &self.order.work { changes } else { &[] }
    }

    /// In words, before anything is done.
    pub(super) fn record(&self) -> StepRecord {
        StepRecord { does: self.does.clone(), undo: self.undo.to_owned(), done: false, undone: false }
    }
}
