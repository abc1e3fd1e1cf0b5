//! A small heap, and little code in memory, for a process that sits beside everybody else's work.
//!
//! The C library's allocator keeps a heap for each of several threads, and in each what a moment once needed. Reading
//! the kernel's types takes tens of megabytes for a moment, and every second's maps of pods are built by whichever
//! thread is free: kept apart, these were three times the size of what was in use. Elsewhere than with the GNU C
//! library the heap is left alone.
//!
//! Of the program's code, two thirds are for the start: options, configuration, types, the loading of programs.
#![expect(unsafe_code, reason = "the allocator is asked by C functions, and mappings are given by addresses")]

use std::fs;
use std::ptr::with_exposed_provenance_mut;

use rustix::mm::{Advice, madvise};

/// One heap for all threads, and what is large is given back when it is free. To be said before there are any others. Few
/// of the node's threads are busy at once, so none waits for another's allocation to speak of.
pub fn share() {
    set(1, 128 << 10, 256 << 10);
}

/// Two heaps for all threads, and larger pieces: a receiver takes bodies of megabytes on any of a dozen threads, and with a
/// heap for each of them was twice as large.
pub fn share_between_two() {
    set(2, 256 << 10, 1 << 20);
}

/// So many heaps; a block from `own_bytes` on is a mapping of its own, and `spare_bytes` may stay at a heap's end. Unless
/// they are said, each large block that is freed raises both, up to 32 MiB, and all below stays: the kernel's types, read
/// once, did that.
#[cfg_attr(not(target_env = "gnu"), expect(unused_variables, reason = "another allocator is left alone"))]
fn set(heaps: i32, own_bytes: i32, spare_bytes: i32) {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in [
        (libc::M_ARENA_MAX, heaps),
        (libc::M_MMAP_THRESHOLD, own_bytes),
        (libc::M_TRIM_THRESHOLD, spare_bytes),
    ] {
        // SAFETY: the function takes two numbers; no other thread allocates yet, and if one did it would keep its heap.
        let _accepted = unsafe { libc::mallopt(parameter, value) };
    }
}

/// Gives the system what the allocator holds and nobody uses, and unmaps the program's code. Takes milliseconds: not for
/// every day.
pub fn trim() {
    for (from, to) in code() {
        // SAFETY: the program's file, mapped private and never written: a page of it that is used again is mapped again,
        // with the same bytes, from the page cache or the disk.
        let _left_mapped =
            unsafe { madvise(with_exposed_provenance_mut(from), to - from, Advice::LinuxDontNeed) };
    }
    #[cfg(target_env = "gnu")]
    // SAFETY: the function takes a number, locks what it touches, and moves nothing that is in use.
    let _anything_given_back = unsafe { libc::malloc_trim(0) };
}

/// Where the code of this program is mapped, and its constants, which are the file's beginning. What else is read-only in
/// it was written by the dynamic loader. Not libraries': they come and go, and what lies where one was is not theirs.
/// Format: proc_pid_maps(5).
fn code() -> Vec<(usize, usize)> {
    let (Ok(maps), Ok(own)) = (fs::read_to_string("/proc/self/maps"), fs::read_link("/proc/self/exe")) else {
        return Vec::new();
    };
    let place = |line: &str| {
        let mut words = line.splitn(6, ' ');
        let (addresses, flags, offset) = (words.next()?, words.next()?, words.next()?);
        let is_own = words.nth(2)?.trim_start() == own.to_str()?;
        let is_written_by_nobody = flags == "r-xp" || flags == "r--p" && offset == "00000000";
        let (from, to) = addresses.split_once('-')?;
        let number = |text| usize::from_str_radix(text, 16).ok();
        (is_own && is_written_by_nobody).then_some((number(from)?, number(to)?))
    };
    maps.lines().filter_map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Resident bytes of the program's code, as the kernel tells them in `smaps`.
    fn resident_kb() -> u64 {
        let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
        let begins: Vec<_> = code().iter().map(|(from, to)| format!("{from:x}-{to:x} ")).collect();
        let mut ours = false;
        let mut sum = 0;
        for line in smaps.lines() {
            if line.contains('-') && !line.contains("kB") {
                ours = begins.iter().any(|begin| line.trim_start_matches('0').starts_with(begin.as_str()));
            }
            let size = line.strip_prefix("Rss:").filter(|_| ours);
            sum += size.and_then(|size| size.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap_or(0);
        }
        sum
    }

    /// All of it, as far as reading does that.
    fn populate() {
        for (from, to) in code() {
            let (at, length) = (with_exposed_provenance_mut(from), to - from);
            // SAFETY: as in `trim`; it is only read ahead.
            let populated = unsafe { madvise(at, length, Advice::LinuxPopulateRead) };
            assert_eq!(populated, Ok(()));
        }
    }

    #[test]
    fn code_that_nobody_runs_is_not_in_memory_and_what_runs_comes_back() {
        // Other tests of this process run code meanwhile, and some trim.
        let one_of_twenty = |holds: fn(u64) -> bool| {
            (0..20).any(|_| {
                populate();
                holds(resident_kb())
            })
        };
        assert!(one_of_twenty(|all| all > 1_000 && resident_kb() >= all), "the control: it stays");
        let trimmed = |all| {
            trim();
            resident_kb() < all / 2
        };
        assert!(one_of_twenty(trimmed));
    }
}
