//! `stall`, a walk over all threads that keeps the one that waits longest: one [`Longest`] at the end.
//!
//! Who waits is who stands on a `runnable_list`, and since when is `scx.runnable_at`: what the kernel's watchdog itself
//! goes by. Being on a list is seen by the list's node pointing elsewhere than at itself, without a lock: a task that
//! is put on or taken off meanwhile is seen as either. Two walks at once would mix; the loader makes one at a time.

#![expect(unsafe_code, reason = "reads kernel memory at offsets taken from the kernel's own BTF")]

use core::ptr::read_volatile;

use agent_ebpf::stall::{Longest, StallOffsets};
use agent_ebpf::task::TaskContext;
use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_seq_write};
use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;

/// What is kept between the calls of one walk.
#[repr(C)]
struct Walk {
    session_id: u64,
    longest: Longest,
}

/// Set by the loader, then frozen by the kernel.
#[unsafe(no_mangle)]
static STALL_OFFSETS: StallOffsets = StallOffsets { runnable_node: 0, runnable_at: 0 };

#[map]
static WALK: Array<Walk> = Array::with_max_entries(1, 0);

agent_ebpf::reader_of_tasks!();

/// Runs once per thread, and once more at the end.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
extern "C" fn stall(context: *const TaskContext) -> i32 {
    let Some(walk) = WALK.get_ptr_mut(0) else { return 0 };
    // SAFETY: the kernel passes a valid `bpf_iter__task` and holds a reference to its task during the call; the rest is
    // reached through pointers that the verifier tracks, and loads through them cannot fault. Nobody else has the map.
    unsafe {
        let (meta, task) = ((*context).meta, (*context).task);
        if (*walk).session_id != (*meta).session_id {
            (*walk).session_id = (*meta).session_id;
            (*walk).longest = Longest::NONE;
        }
        let longest = &raw mut (*walk).longest;
        if task.is_null() {
            (*longest).jiffies = bpf_jiffies64();
            bpf_seq_write((*meta).seq.cast(), longest.cast(), size_of::<Longest>() as u32);
            return 0;
        }
        let node = task.add(read_volatile(&raw const STALL_OFFSETS.runnable_node) as usize);
        let next = *node.cast::<*const u8>();
        if next.is_null() || next == node {
            return 0;
        }
        (*longest).waiting += 1;
        let runnable_at =
            *task.add(read_volatile(&raw const STALL_OFFSETS.runnable_at) as usize).cast::<u64>();
        // Put on its list after the clock was read: it waits no time.
        let waited = bpf_jiffies64().wrapping_sub(runnable_at);
        let waited = if waited > u64::MAX / 2 { 0 } else { waited };
        if waited >= (*longest).wait_jiffies {
            (*longest).wait_jiffies = waited;
            (*longest).tid = load!(task, pid as u32);
            (*longest).task = record_of(task);
        }
    }
    0
}
