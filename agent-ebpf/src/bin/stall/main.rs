//! `stall.bpf.o`: the task that waits longest for the sched_ext scheduler.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod program;

agent_ebpf::object_of_programs!();
