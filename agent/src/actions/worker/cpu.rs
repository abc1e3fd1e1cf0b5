//! CPU time, exactly as much as asked, in the class and on the CPUs asked for.

use rustix::process::{getpriority_process, setpriority_process};
use rustix::thread::{CpuSet, sched_setaffinity};

use super::clock::{Clock, used_ns};
use super::pace::Pace;
use super::{PERIOD_NS, Task};
use crate::actions::order::CpuWork;
use crate::kernel::policy;

/// Work between two looks at the clock: microseconds.
const BATCH: u32 = 2_000;

pub(super) struct Cpu {
    pace: Pace,
    begun_ns: u64,
}

impl Cpu {
    pub(super) fn begin(work: &CpuWork) -> Result<Self, String> {
        if !work.cpus.is_empty() {
            let mut set = CpuSet::new();
            for cpu in &work.cpus {
                let cpu = *cpu as usize;
                if cpu >= CpuSet::MAX_CPU {
                    return Err(format!("CPU {cpu} is past the last that a process can be bound to"));
                }
                set.set(cpu);
            }
            sched_setaffinity(None, &set).map_err(|error| format!("CPUs {:?}: {error}", work.cpus))?;
        }
        if let Some(nice) = work.nice {
            setpriority_process(None, nice).map_err(|error| format!("niceness {nice}: {error}"))?;
            // The kernel may take less than asked.
            let got = getpriority_process(None).map_err(|error| format!("niceness: {error}"))?;
            if got != nice {
                return Err(format!("niceness {nice}: the kernel gave {got}"));
            }
        }
        if let Some(policy) = work.policy {
            policy::set(policy).map_err(|error| format!("scheduling class {policy:?}: {error}"))?;
        }
        Ok(Self { pace: Pace::new(work.percent / 100.0, work.ramp_ns, PERIOD_NS), begun_ns: used_ns() })
    }
}

impl Task for Cpu {
    fn turn(&mut self, clock: Clock, until_ns: u64) -> Result<(), String> {
        let used = used_ns().saturating_sub(self.begun_ns);
        let owed = self.pace.owed(clock.elapsed_ns(), until_ns, used);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not negative, at most periods"
        )]
        let end_ns = self.begun_ns + used.saturating_add(owed as u64);
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        while used_ns() < end_ns && clock.elapsed_ns() < until_ns {
            for _ in 0..BATCH {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
            }
            std::hint::black_box(state);
        }
        Ok(())
    }

    fn amount(&mut self) -> Option<u64> {
        Some(used_ns().saturating_sub(self.begun_ns))
    }
}
