//! What is remembered of a thread between two stints: the kernel's totals at its last arrival on a CPU.

use core::ptr::read_volatile;

use agent_ebpf::runqlat::{CPUS, CpuPlace, Distance, Loss};
use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::helpers::generated::bpf_get_smp_processor_id;
use aya_ebpf::macros::map;
use aya_ebpf::maps::LruHashMap;

use super::{SETTINGS, load, lost, setting};

/// An arrival on a CPU, compared with the one before.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Arrival {
    pub(super) wait_ns: u64,
    pub(super) blocked_ns: u64,
    /// A [`Distance`], or [`STAYED`].
    pub(super) distance: u64,
}

/// On the CPU where it was before, or nobody knows where it was.
pub(super) const STAYED: u64 = 4;

#[repr(C)]
#[derive(Clone, Copy)]
struct Thread {
    /// The address of its `task_struct`: with the thread id, nearly an identity.
    task: u64,
    run_delay_ns: u64,
    sum_exec_runtime_ns: u64,
    cpu: u32,
    reserved: u32,
}

/// By thread id. The least recently used make room: threads that have ended are never removed.
#[map]
static THREADS: LruHashMap<u32, Thread> = LruHashMap::with_max_entries(1, 0);

/// Set by the loader, then frozen by the kernel.
#[unsafe(no_mangle)]
static CPU_PLACES: [CpuPlace; CPUS] = [CpuPlace { core: 0, llc: 0, node: 0, reserved: 0 }; CPUS];

/// Compares the thread's totals with those of its last arrival, and remembers them.
///
/// # Safety
/// `task` is a task that the verifier knows as such.
#[inline(always)]
pub(super) unsafe fn arrive(task: *const u8, pid: u32, now_ns: u64) -> Arrival {
    // SAFETY: by the caller's promise, and a map's value may be shared only with another thread of this id.
    unsafe {
        // The kernel adds the time since it was queued to its total a moment after this tracepoint.
        let last_queued = load!(task, last_queued as u64);
        let queued_ns = if last_queued == 0 { 0 } else { now_ns.saturating_sub(last_queued) };
        let run_delay_ns = load!(task, run_delay as u64) + queued_ns;
        let sum_exec_runtime_ns = load!(task, sum_exec_runtime as u64);
        let cpu = bpf_get_smp_processor_id();
        let now = Thread { task: task as u64, run_delay_ns, sum_exec_runtime_ns, cpu, reserved: 0 };
        // New to the kernel: everything it ever waited is this wait.
        let fresh = load!(task, pcount as u64) == 0;
        let wait_ns = if fresh { run_delay_ns } else { queued_ns };
        let mut arrival = Arrival { wait_ns, blocked_ns: 0, distance: STAYED };
        let Some(last) = THREADS.get_ptr_mut(pid) else {
            if THREADS.insert(pid, now, BPF_ANY as u64).is_err() {
                lost(Loss::Threads);
            }
            return arrival;
        };
        let known = !fresh && (*last).task == now.task && (*last).run_delay_ns <= run_delay_ns;
        if known {
            arrival.wait_ns = run_delay_ns - (*last).run_delay_ns;
            let elapsed_ns = now_ns.saturating_sub(load!(task, last_arrival as u64));
            let ran_ns = sum_exec_runtime_ns.saturating_sub((*last).sum_exec_runtime_ns);
            arrival.blocked_ns = elapsed_ns.saturating_sub(ran_ns).saturating_sub(arrival.wait_ns);
            arrival.distance = distance((*last).cpu, cpu);
        }
        *last = now;
        arrival
    }
}

#[inline(always)]
fn distance(from: u32, to: u32) -> u64 {
    if from == to {
        return STAYED;
    }
    let (from, to) = (place(from), place(to));
    let distance = if from.node != to.node {
        Distance::Far
    } else if from.llc != to.llc {
        Distance::Node
    } else if from.core != to.core {
        Distance::Llc
    } else {
        Distance::Core
    };
    distance as u64
}

#[inline(always)]
fn place(cpu: u32) -> CpuPlace {
    let cpu = cpu as usize & (CPUS - 1);
    // SAFETY: inside the array, by the mask.
    unsafe { read_volatile((&raw const CPU_PLACES).cast::<CpuPlace>().add(cpu)) }
}
