//! What happened to the tasks of each cgroup.

use agent_ebpf::log2::log2;
use agent_ebpf::runqlat::{BEYOND, CgroupStats, Loss, SLOTS, WINDOW_BITS};
use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuHashMap;

use super::threads::STAYED;
use super::{Stint, lost};

/// Memory for every element is there from the start, so that none is asked for with a run queue locked.
#[map]
static CGROUPS: PerCpuHashMap<u64, CgroupStats> = PerCpuHashMap::with_max_entries(1, 0);

static NONE: CgroupStats = CgroupStats::NONE;

/// Counts a stint that ends now, and the wait before it.
///
/// # Safety
/// Called where nothing else of this CPU runs.
#[inline(always)]
pub(super) unsafe fn count(stint: &Stint, now_ns: u64, involuntary: bool) {
    let Some(stats) = stats_of(stint.cgroup_id) else { return };
    let arrival = stint.arrival;
    // SAFETY: the element of this CPU.
    unsafe {
        let slot = log2(arrival.wait_ns).min(SLOTS as u64 - 1) as usize;
        *(&raw mut (*stats).waits).cast::<u64>().add(slot) += 1;
        (*stats).wait_ns += arrival.wait_ns;
        (*stats).on_cpu_ns += now_ns.saturating_sub(stint.began_ns);
        (*stats).blocked_ns += arrival.blocked_ns;
        if involuntary {
            (*stats).involuntary_switches += 1;
        } else {
            (*stats).voluntary_switches += 1;
        }
        if arrival.distance < STAYED {
            *(&raw mut (*stats).migrations).cast::<u64>().add(arrival.distance as usize) += 1;
        }
        remember_longest(stats, arrival.wait_ns, now_ns >> WINDOW_BITS);
    }
}

#[inline(always)]
fn stats_of(cgroup_id: u64) -> Option<*mut CgroupStats> {
    if let Some(stats) = CGROUPS.get_ptr_mut(cgroup_id) {
        return Some(stats);
    }
    if CGROUPS.insert(cgroup_id, &NONE, BPF_NOEXIST as u64).is_err() {
        // Another CPU may have been faster; else there is no room.
        if let Some(stats) = CGROUPS.get_ptr_mut(cgroup_id) {
            return Some(stats);
        }
        lost(Loss::Cgroups);
        return CGROUPS.get_ptr_mut(BEYOND);
    }
    CGROUPS.get_ptr_mut(cgroup_id)
}

/// # Safety
/// `stats` is this CPU's element.
#[inline(always)]
unsafe fn remember_longest(stats: *mut CgroupStats, wait_ns: u64, window: u64) {
    // SAFETY: by the caller's promise.
    unsafe {
        let [current, before] = &mut (*stats).longest_wait_ns;
        if (*stats).longest_wait_window != window {
            *before = if (*stats).longest_wait_window + 1 == window { *current } else { 0 };
            *current = 0;
            (*stats).longest_wait_window = window;
        }
        *current = wait_ns.max(*current);
    }
}
