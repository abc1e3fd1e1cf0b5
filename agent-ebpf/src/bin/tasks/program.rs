//! `tasks`, the walk over all processes: one [`TaskRecord`] per thread group.
//!
//! The kernel calls the program once per thread and once more with no task at the end. Fields are read by plain loads
//! at the loader's offsets: the verifier knows the types of the pointers and the values of the offsets (frozen before
//! it looks), so it accepts the loads only where the kernel has such a field, and a fault reads as zero.

#![expect(unsafe_code, reason = "reads kernel memory at offsets taken from the kernel's own BTF")]

use agent_ebpf::task::{TaskContext, TaskRecord};
use aya_ebpf::helpers::generated::bpf_seq_write;

agent_ebpf::reader_of_tasks!();

/// Runs once per thread; writes for leaders only.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
extern "C" fn tasks(context: *const TaskContext) -> i32 {
    // SAFETY: the kernel passes a valid `bpf_iter__task`.
    let (meta, task) = unsafe { ((*context).meta, (*context).task) };
    if task.is_null() {
        return 0;
    }
    // SAFETY: the kernel holds a reference to the task during the call; the rest is reached through pointers that the
    // verifier tracks, and loads through them cannot fault.
    let (record, seq) = unsafe {
        if load!(task, pid as u32) != load!(task, tgid as u32) {
            return 0;
        }
        (record_of(task), (*meta).seq)
    };
    // SAFETY: `record` lives on this stack for the whole call. If the reader's buffer is full the kernel drops what was
    // written for this task and calls again with an empty one, so the result needs no look.
    unsafe { bpf_seq_write(seq.cast(), (&raw const record).cast(), size_of::<TaskRecord>() as u32) };
    0
}
