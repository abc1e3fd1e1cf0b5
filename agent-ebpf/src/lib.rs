//! What the eBPF programs and the process that loads them both know: layouts, names, and the objects themselves.
//!
//! Layouts are `repr(C)` of integers and byte arrays, without padding, in the byte order of the machine that runs both
//! sides. Their sizes are asserted at compile time, so a change that would make the two sides read different bytes
//! does not build. Names of structs and fields are the kernel's.
//!
//! One file of `src/bin` is one object: what one of them needs and a kernel lacks or refuses stops no other.
#![no_std]

pub mod log2;
pub mod network;
pub mod process;
pub mod runqlat;
pub mod stall;
pub mod task;

/// An ELF object for `bpfel-unknown-none`, built by `cargo xtask ebpf`: one for every kernel with BTF.
#[cfg(not(target_arch = "bpf"))]
macro_rules! object {
    ($file:literal) => {{
        static OBJECT: Aligned<{ include_bytes!($file).len() }> = Aligned(*include_bytes!($file));
        &OBJECT.0
    }};
}

/// The walk over all processes: [`task`].
#[cfg(not(target_arch = "bpf"))]
pub static TASKS: &[u8] = object!("../objects/tasks.bpf.o");

/// What becomes of processes: [`process`].
#[cfg(not(target_arch = "bpf"))]
pub static PROCESS: &[u8] = object!("../objects/process.bpf.o");

/// What happens on the run queues: [`runqlat`].
#[cfg(not(target_arch = "bpf"))]
pub static RUNQLAT: &[u8] = object!("../objects/runqlat.bpf.o");

/// Packets that are dropped, doubled or held on purpose: [`network`].
#[cfg(not(target_arch = "bpf"))]
pub static NETWORK: &[u8] = object!("../objects/network.bpf.o");

/// Who waits longest for the sched_ext scheduler: [`stall`].
#[cfg(not(target_arch = "bpf"))]
pub static STALL: &[u8] = object!("../objects/stall.bpf.o");

/// Loaders read an object's tables in place, and those hold 64-bit words.
#[cfg(not(target_arch = "bpf"))]
#[repr(C, align(8))]
struct Aligned<const N: usize>([u8; N]);

/// Never reached: the verifier accepts no program that could get here.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// What every object carries: the licence, which the kernel reads before it grants the helpers that it keeps for GPL
/// programs; and for any target but BPF an empty `main`, so that `cargo build --workspace` stays possible.
#[macro_export]
macro_rules! object_of_programs {
    () => {
        #[cfg(target_arch = "bpf")]
        #[expect(unsafe_code, reason = "the section is where the kernel looks for the licence")]
        #[unsafe(link_section = "license")]
        #[unsafe(no_mangle)]
        static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

        #[cfg(not(target_arch = "bpf"))]
        fn main() {}
    };
}
