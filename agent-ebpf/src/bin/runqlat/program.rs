//! `sched_switch`: ends the stint of one task on this CPU and begins the next one's.
//!
//! Runs with interrupts off and this CPU's run queue locked, so nothing of one CPU changes under its eyes. A stint is
//! counted when it ends, with the wait before it: that takes one look into [`CGROUPS`] per switch.

#![expect(
    unsafe_code,
    reason = "reads kernel memory at offsets taken from the kernel's own BTF, and map values"
)]

mod blame;
mod cgroups;
mod threads;

use core::ptr::read_volatile;

use agent_ebpf::runqlat::{IDLE, LOSSES, Loss, Settings};
use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;

use blame::History;
use threads::Arrival;

/// Set by the loader, then frozen by the kernel.
#[unsafe(no_mangle)]
static SETTINGS: Settings = Settings {
    pid: 0,
    cgroups: 0,
    pcount: 0,
    run_delay: 0,
    last_arrival: 0,
    last_queued: 0,
    sum_exec_runtime: 0,
    cfs_rq: 0,
    rq: 0,
    clock: 0,
    css: 0,
    css_cgroup: 0,
    kn: 0,
    id: 0,
    blame_from_ns: 0,
    state: 0,
};

/// A value that the loader set. Volatile: the compiler must not take the zeros above for the truth.
macro_rules! setting {
    ($field:ident) => {
        read_volatile(&raw const SETTINGS.$field)
    };
}

/// The field of the struct at `$base`; `$field` names its place in [`SETTINGS`].
/// A macro, since the verifier follows the pointers only through code that is inlined.
macro_rules! load {
    ($base:expr, $field:ident as $type:ty) => {
        *$base.add(setting!($field) as usize).cast::<$type>()
    };
}
use {load, setting};

/// What the program remembers of this CPU.
#[repr(C)]
struct Cpu {
    /// The stint in progress.
    stint: Stint,
    history: History,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Stint {
    cgroup_id: u64,
    began_ns: u64,
    arrival: Arrival,
    /// 0 for the idle task, and before the first switch.
    pid: u32,
    reserved: u32,
}

#[map]
static CPU: PerCpuArray<Cpu> = PerCpuArray::with_max_entries(1, 0);

#[map]
static LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(LOSSES, 0);

/// `(bool preempt, task_struct *prev, task_struct *next, ...)`
#[unsafe(no_mangle)]
#[unsafe(link_section = "tp_btf/sched_switch")]
extern "C" fn sched_switch(context: *const [usize; 3]) -> i32 {
    let Some(cpu) = CPU.get_ptr_mut(0) else { return 0 };
    // SAFETY: the kernel passes the tracepoint's arguments; both tasks stay for the call, and what is reached from them
    // goes through pointers that the verifier tracks, loads through which cannot fault. `cpu` is this CPU's own.
    unsafe {
        let preempt = (*context)[0] != 0;
        let prev = (*context)[1] as *const u8;
        let next = (*context)[2] as *const u8;
        let cfs_rq = load!(next, cfs_rq as *const u8);
        let rq = load!(cfs_rq, rq as *const u8);
        let now_ns = load!(rq, clock as u64);
        let ended = &raw mut (*cpu).stint;
        let prev_pid = load!(prev, pid as u32);
        if prev_pid != 0 && (*ended).pid == prev_pid {
            let involuntary = preempt || load!(prev, state as u32) == 0;
            cgroups::count(&*ended, now_ns, involuntary);
        } else if (*ended).pid != prev_pid && (*ended).began_ns != 0 {
            lost(Loss::Stints);
        }
        if (*ended).began_ns != 0 {
            let runner = if prev_pid == 0 { IDLE } else { (*ended).cgroup_id };
            (*cpu).history.push(runner, now_ns);
        }
        let pid = load!(next, pid as u32);
        (*ended).pid = pid;
        (*ended).began_ns = now_ns;
        if pid == 0 {
            return 0;
        }
        let cgroup_id = cgroup_id_of(next);
        let arrival = threads::arrive(next, pid, now_ns);
        (*ended).cgroup_id = cgroup_id;
        (*ended).arrival = arrival;
        if arrival.wait_ns >= u64::from(setting!(blame_from_ns)) {
            (*cpu).history.blame(cgroup_id, now_ns, arrival.wait_ns);
        }
    }
    0
}

/// # Safety
/// `task` is a task that the verifier knows as such.
#[inline(always)]
unsafe fn cgroup_id_of(task: *const u8) -> u64 {
    // SAFETY: as above; which of the two ways is taken is a constant when the verifier looks.
    unsafe {
        let cgroups = load!(task, cgroups as *const u8);
        let css = load!(cgroups, css as *const u8);
        let cgroup =
            if setting!(css_cgroup) == Settings::UNIFIED { css } else { load!(css, css_cgroup as *const u8) };
        let kn = load!(cgroup, kn as *const u8);
        load!(kn, id as u64)
    }
}

/// Counts one of them on this CPU.
#[inline(always)]
fn lost(loss: Loss) {
    if let Some(count) = LOST.get_ptr_mut(loss as u32) {
        // SAFETY: this CPU's own.
        unsafe { *count += 1 };
    }
}
