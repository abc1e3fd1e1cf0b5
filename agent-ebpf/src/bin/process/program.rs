//! Starts, new programs, moves and ends of processes, and cgroups that come and go: an event each.
//!
//! Each program hangs on one tracepoint and says what the kernel says there. Order in the ring is the order in which
//! room was taken: for one process it is the order in which things happened, since a process does nothing before it was
//! forked and its id is given out again only after its end.

#![expect(unsafe_code, reason = "reads kernel memory at offsets taken from the kernel's own BTF")]

use agent_ebpf::process::{Event, Kind};
use agent_ebpf::task::{COMM_BYTES, TaskRecord};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{PerCpuArray, RingBuf};

agent_ebpf::reader_of_tasks!();

/// The loader sets the size.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(4096, 0);

#[map]
static LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// `(task_struct *parent, task_struct *child)`, before the child runs.
#[unsafe(no_mangle)]
#[unsafe(link_section = "tp_btf/sched_process_fork")]
extern "C" fn sched_process_fork(context: *const [usize; 2]) -> i32 {
    // SAFETY: the kernel passes the tracepoint's arguments, and they stay for the call.
    unsafe {
        let child = (*context)[1] as *const u8;
        if load!(child, pid as u32) == load!(child, tgid as u32) {
            report(record_of(child), Kind::Fork);
        }
    }
    0
}

/// `(task_struct *task, pid_t old_pid, linux_binprm *)`; the task is the leader by now.
#[unsafe(no_mangle)]
#[unsafe(link_section = "tp_btf/sched_process_exec")]
extern "C" fn sched_process_exec(context: *const [usize; 1]) -> i32 {
    // SAFETY: as above.
    unsafe { report(record_of((*context)[0] as *const u8), Kind::Exec) };
    0
}

/// `(task_struct *task, ...)`, for each thread; the last one ends the process.
#[unsafe(no_mangle)]
#[unsafe(link_section = "tp_btf/sched_process_exit")]
extern "C" fn sched_process_exit(context: *const [usize; 1]) -> i32 {
    // SAFETY: as above; a leader stays at least as long as its threads.
    unsafe {
        let task = (*context)[0] as *const u8;
        let signal = load!(task, signal as *const u8);
        if load!(signal, live as u32) == 0 {
            let leader = load!(task, group_leader as *const u8);
            report(record_of(leader), Kind::Exit);
        }
    }
    0
}

/// `(cgroup *to, const char *path, task_struct *task, bool threadgroup)`, after the move.
#[unsafe(no_mangle)]
#[unsafe(link_section = "tp_btf/cgroup_attach_task")]
extern "C" fn cgroup_attach_task(context: *const [usize; 3]) -> i32 {
    // SAFETY: as above. Of which hierarchy `to` is does not matter: the record says where the process is in ours.
    unsafe {
        let task = (*context)[2] as *const u8;
        if load!(task, pid as u32) == load!(task, tgid as u32) {
            report(record_of(task), Kind::Attach);
        }
    }
    0
}

/// `(cgroup *made, const char *path)`
#[unsafe(no_mangle)]
#[unsafe(link_section = "tp_btf/cgroup_mkdir")]
extern "C" fn cgroup_mkdir(context: *const [usize; 1]) -> i32 {
    // SAFETY: as above.
    unsafe { report(group((*context)[0] as *const u8), Kind::Mkdir) };
    0
}

/// `(cgroup *removed, const char *path)`
#[unsafe(no_mangle)]
#[unsafe(link_section = "tp_btf/cgroup_rmdir")]
extern "C" fn cgroup_rmdir(context: *const [usize; 1]) -> i32 {
    // SAFETY: as above.
    unsafe { report(group((*context)[0] as *const u8), Kind::Rmdir) };
    0
}

/// # Safety
/// `cgroup` is one that the verifier knows as such.
#[inline(always)]
unsafe fn group(cgroup: *const u8) -> TaskRecord {
    TaskRecord {
        pid: 0,
        live: 0,
        ppid: 0,
        nr_threads: 0,
        start_boottime_ns: 0,
        // SAFETY: by the caller's promise.
        cgroup_id: unsafe { cgroup_id_at(cgroup) },
        comm: [0; COMM_BYTES],
    }
}

/// The reader is woken only if it has read everything before: one that waits a little before it reads is woken once for
/// a whole burst.
#[inline(always)]
fn report(task: TaskRecord, kind: Kind) {
    match EVENTS.reserve::<Event>(0) {
        Some(mut room) => {
            room.write(Event { task, kind: kind as u32, reserved: 0 });
            room.submit(0);
        }
        None => {
            if let Some(count) = LOST.get_ptr_mut(0) {
                // SAFETY: this CPU's own. An interrupt in between costs one count.
                unsafe { *count += 1 };
            }
        }
    }
}
