//! What the eBPF programs and the process that loads them both know: layouts, names, and the object itself.
//!
//! Layouts are `repr(C)` of integers and byte arrays, without padding, in the byte order of the machine that runs both
//! sides. Their sizes are asserted at compile time, so a change that would make the two sides read different bytes
//! does not build. Names of structs and fields are the kernel's.
#![no_std]

pub mod task;

/// The programs, built by `cargo xtask ebpf`: an ELF object for `bpfel-unknown-none`, one for every kernel with BTF.
#[cfg(not(target_arch = "bpf"))]
pub static OBJECT: &[u8] = &ALIGNED.0;

#[cfg(not(target_arch = "bpf"))]
static ALIGNED: Aligned<{ include_bytes!("../sextant.bpf.o").len() }> =
    Aligned(*include_bytes!("../sextant.bpf.o"));

/// Loaders read the object's tables in place, and those hold 64-bit words.
#[cfg(not(target_arch = "bpf"))]
#[repr(C, align(8))]
struct Aligned<const N: usize>([u8; N]);
