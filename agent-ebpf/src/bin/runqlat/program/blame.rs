//! Who ran on a CPU lately, and who is to blame for a wait that ends there.
//!
//! A waiter gets one CPU in the end. Whoever ran there while it waited had what the waiter wanted, whichever run queue
//! it was waiting on: schedulers of sched_ext keep tasks on queues of their own until a CPU takes one.

use agent_ebpf::runqlat::{Blame, Loss, Pair};
use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::macros::map;
use aya_ebpf::maps::LruPerCpuHashMap;

use super::lost;

/// Stints remembered: a wait longer than all of them together is blamed in part only.
const STINTS: usize = 16;

/// The last stints of this CPU; each began when the one before it ended.
#[repr(C)]
pub(super) struct History {
    /// Where the next one goes, modulo their number.
    position: u64,
    stints: [(u64, u64); STINTS],
}

/// The least recently used make room: pairs that no longer meet.
#[map]
static BLAMES: LruPerCpuHashMap<Pair, Blame> = LruPerCpuHashMap::with_max_entries(1, 0);

impl History {
    #[inline(always)]
    pub(super) fn push(&mut self, runner: u64, ended_ns: u64) {
        self.stints[self.position as usize % STINTS] = (runner, ended_ns);
        self.position += 1;
    }

    /// Divides a wait that ends now among those who ran meanwhile.
    #[inline(always)]
    pub(super) fn blame(&self, waiter: u64, now_ns: u64, wait_ns: u64) {
        let from_ns = now_ns.saturating_sub(wait_ns);
        for back in 1..STINTS as u64 {
            let (runner, ended_ns) = self.stints[self.position.wrapping_sub(back) as usize % STINTS];
            if ended_ns <= from_ns {
                return;
            }
            let (_, began_ns) = self.stints[self.position.wrapping_sub(back + 1) as usize % STINTS];
            // 0 before the first that was remembered.
            if began_ns == 0 {
                return;
            }
            blame(Pair { waiter, runner }, ended_ns.saturating_sub(began_ns.max(from_ns)));
        }
    }
}

#[inline(always)]
fn blame(pair: Pair, wait_ns: u64) {
    let Some(blame) = BLAMES.get_ptr_mut(pair) else {
        // Another CPU may have been faster: then this stint alone goes uncounted, and is counted as lost.
        if BLAMES.insert(pair, Blame { wait_ns, stints: 1 }, BPF_NOEXIST as u64).is_err() {
            lost(Loss::Blames);
        }
        return;
    };
    // SAFETY: this CPU's own.
    unsafe {
        (*blame).wait_ns += wait_ns;
        (*blame).stints += 1;
    }
}
