//! The eBPF programs: one file per program, linked into one object. See `lib.rs` for what they share with the loader.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod tasks;

/// Read by the kernel: helpers that it keeps for GPL programs are granted to this licence.
#[cfg(target_arch = "bpf")]
#[expect(unsafe_code, reason = "the section is where the kernel looks for the licence")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Never reached: the verifier accepts no program that could get here.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// On any other target there is nothing to run: `cargo build --workspace` stays possible.
#[cfg(not(target_arch = "bpf"))]
fn main() {}
