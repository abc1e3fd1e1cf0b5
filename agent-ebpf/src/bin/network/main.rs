//! `network.bpf.o`: packets that are dropped, doubled or held on purpose.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod program;

agent_ebpf::object_of_programs!();
