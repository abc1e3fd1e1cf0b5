//! `tasks`, the walk over all processes: one [`TaskRecord`] per thread group.
//!
//! The kernel calls the program once per thread and once more with no task at the end. Fields are read by plain loads
//! at the loader's offsets: the verifier knows the types of the pointers and the values of the offsets (frozen before
//! it looks), so it accepts the loads only where the kernel has such a field, and a fault reads as zero.

#![expect(unsafe_code, reason = "reads kernel memory at offsets taken from the kernel's own BTF")]

use core::ffi::c_void;
use core::ptr::read_volatile;

use agent_ebpf::task::{COMM_BYTES, TaskOffsets, TaskRecord};
use aya_ebpf::helpers::generated::bpf_seq_write;

/// `bpf_iter__task` of the kernel.
#[repr(C)]
struct Context {
    meta: *const Meta,
    /// `task_struct`; null at the end of the walk.
    task: *const u8,
}

/// `bpf_iter_meta` of the kernel, its first field.
#[repr(C)]
struct Meta {
    seq: *mut c_void,
}

/// Set by the loader, then frozen by the kernel.
#[unsafe(no_mangle)]
static TASK_OFFSETS: TaskOffsets = TaskOffsets {
    pid: 0,
    tgid: 0,
    real_parent: 0,
    start_boottime: 0,
    comm: 0,
    signal: 0,
    nr_threads: 0,
    cgroups: 0,
    dfl_cgrp: 0,
    kn: 0,
    id: 0,
};

/// The field of the struct at `$base`; `$field` names its place in [`TASK_OFFSETS`].
/// A macro, since the verifier follows the pointers only through code that is inlined.
macro_rules! load {
    ($base:expr, $field:ident as $type:ty) => {
        // Volatile: the compiler must not take the zeros above for the truth.
        *$base.add(read_volatile(&raw const TASK_OFFSETS.$field) as usize).cast::<$type>()
    };
}

/// Runs once per thread; writes for leaders only.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
extern "C" fn tasks(context: *const Context) -> i32 {
    // SAFETY: the kernel passes a valid `bpf_iter__task`.
    let (meta, task) = unsafe { ((*context).meta, (*context).task) };
    if task.is_null() {
        return 0;
    }
    // SAFETY: the kernel holds a reference to the task during the call; the rest is reached through pointers that the
    // verifier tracks, and loads through them cannot fault.
    let (record, seq) = unsafe {
        let (pid, tgid) = (load!(task, pid as u32), load!(task, tgid as u32));
        if pid != tgid {
            return 0;
        }
        let parent = load!(task, real_parent as *const u8);
        let signal = load!(task, signal as *const u8);
        let cgroups = load!(task, cgroups as *const u8);
        let cgroup = load!(cgroups, dfl_cgrp as *const u8);
        let kn = load!(cgroup, kn as *const u8);
        let record = TaskRecord {
            pid,
            tgid,
            ppid: load!(parent, tgid as u32),
            nr_threads: load!(signal, nr_threads as u32),
            start_boottime_ns: load!(task, start_boottime as u64),
            cgroup_id: load!(kn, id as u64),
            comm: load!(task, comm as [u8; COMM_BYTES]),
        };
        (record, (*meta).seq)
    };
    // SAFETY: `record` lives on this stack for the whole call. If the reader's buffer is full the kernel drops what was
    // written for this task and calls again with an empty one, so the result needs no look.
    unsafe { bpf_seq_write(seq.cast(), (&raw const record).cast(), size_of::<TaskRecord>() as u32) };
    0
}
