//! The program `stall` in the kernel, and one walk with it.

use std::io::Read as _;
use std::path::Path;

use agent_ebpf::STALL;
use agent_ebpf::stall::{Longest, OFFSETS, PROGRAM, StallOffsets};
use agent_ebpf::task::OFFSETS as TASK_OFFSETS;
use aya::{Btf, Ebpf, EbpfLoader};

use crate::domain::watchdog::Wait;
use crate::kernel::programs::{LoadError, one_at_a_time, walk, walker};
use crate::kernel::tasks::{self, WalkError};
use crate::kernel::types::Types;
use crate::sources::scheduler::struct_ops::tick_ns;

/// The loaded program.
#[derive(Debug)]
pub(super) struct Probe {
    ebpf: Ebpf,
    tick_ns: u64,
}

/// One walk.
#[derive(Debug)]
pub(super) struct Look {
    /// The kernel's clock, ns.
    pub(super) now_ns: u64,
    pub(super) waiting: u64,
    pub(super) longest: Option<Wait>,
}

impl Probe {
    /// Loads the program. Needs root, or `CAP_BPF` with `CAP_PERFMON`.
    ///
    /// # Errors
    /// The kernel has no such fields, or does not permit or take the program.
    pub(super) fn load(sys: &Path) -> Result<Self, LoadError> {
        one_at_a_time(|| {
            let types = Types::read(sys)?;
            let [runnable_node, runnable_at] =
                types.offsets([("task_struct", "scx.runnable_node"), ("task_struct", "scx.runnable_at")])?;
            let task = tasks::offsets(&types)?.words();
            drop(types);
            let own = StallOffsets { runnable_node, runnable_at }.words();
            let kernel = Btf::from_sys_fs()?;
            let mut loader = EbpfLoader::new();
            let loader = loader.btf(Some(&kernel));
            let loader =
                loader.override_global(OFFSETS, &own, true).override_global(TASK_OFFSETS, &task, true);
            let mut ebpf = loader.load(STALL)?;
            walker(&mut ebpf, PROGRAM)?.load("task", &kernel)?;
            Ok(Self { ebpf, tick_ns: tick_ns() })
        })
    }

    /// Walks over all threads.
    ///
    /// # Errors
    /// The kernel refuses the iterator or a read, or gives a torn record.
    pub(super) fn look(&mut self) -> Result<Look, WalkError> {
        let mut file = walk(&mut self.ebpf, PROGRAM).map_err(WalkError::Start)?;
        let mut bytes = [0; Longest::BYTES];
        // The kernel writes the record whole or not at all.
        let read = file.read(&mut bytes)?;
        if read != Longest::BYTES {
            return Err(WalkError::Torn(read));
        }
        Ok(look(&Longest::from_bytes(&bytes), self.tick_ns))
    }
}

fn look(found: &Longest, tick_ns: u64) -> Look {
    let longest = (found.waiting > 0).then(|| {
        let comm = found.task.comm.split(|&byte| byte == 0).next().unwrap_or_default();
        Wait {
            tid: found.tid,
            pid: found.task.pid,
            comm: String::from_utf8_lossy(comm).into_owned(),
            cgroup_id: found.task.cgroup_id,
            wait_ns: found.wait_jiffies.saturating_mul(tick_ns),
        }
    });
    Look { now_ns: found.jiffies.saturating_mul(tick_ns), waiting: found.waiting, longest }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_become_time_and_nobody_is_nobody() {
        let mut found = Longest { jiffies: 9, wait_jiffies: 3, waiting: 2, tid: 7, ..Longest::NONE };
        (found.task.pid, found.task.comm) = (5, *b"sixteen letters!");
        let seen = look(&found, 4_000_000);
        let longest = seen.longest.expect("somebody");
        assert_eq!((seen.now_ns, seen.waiting, longest.wait_ns), (36_000_000, 2, 12_000_000));
        assert_eq!((longest.tid, longest.pid, longest.comm.as_str()), (7, 5, "sixteen letters!"));
        assert!(look(&Longest::NONE, 4_000_000).longest.is_none());
    }

    #[test]
    fn a_tick_is_what_kernels_are_built_with() {
        // CONFIG_HZ of 100 to 1000; the kernel rounds the nanoseconds.
        assert!((1_000_000..=10_000_000).contains(&tick_ns()), "{}", tick_ns());
    }
}
