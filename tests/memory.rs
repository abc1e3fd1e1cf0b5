//! What the roles' processes hold in memory, as the kernel tells it.

use std::fs;

use anyhow::{Context, Result, ensure};
use sextant_tests::role::Role;

/// The GNU C library reserves so much for each heap beside a process' first, at a multiple of it.
const HEAP_BYTES: usize = 64 << 20;

#[test]
fn a_node_has_one_heap_and_a_receiver_two() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let receiver = Role::start("receiver", &dir.path().join("receiver"), &[])?;
    let socket = dir.path().join("node.sock");
    let socket = socket.to_str().context("a path of plain letters")?;
    let args = ["--receiver", &receiver.url, "--unix-socket", socket];
    let node = Role::start("node", &dir.path().join("node"), &args)?;
    let (of_node, of_receiver) = (further_heaps(node.pid())?, further_heaps(receiver.pid())?);
    ensure!(of_node == 0 && of_receiver <= 1, "{of_node} and {of_receiver} heaps beside the first");
    ensure!(
        further_heaps(std::process::id())? > 0,
        "the control: this thread of a test has a heap of its own"
    );
    Ok(())
}

/// Heaps beside the first: each is a part that is used and one that is only reserved. Format: proc_pid_maps(5).
fn further_heaps(pid: u32) -> Result<usize> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let mapping = |line: &str| -> Option<(usize, usize, bool)> {
        let (addresses, rest) = line.split_once(' ')?;
        let (from, to) = addresses.split_once('-')?;
        let number = |text| usize::from_str_radix(text, 16).ok();
        Some((number(from)?, number(to)?, rest.starts_with("---p")))
    };
    let mappings: Vec<_> = maps.lines().filter_map(mapping).collect();
    let is_heap = |[used, reserved]: &[(usize, usize, bool); 2]| {
        used.0.is_multiple_of(HEAP_BYTES)
            && used.1 == reserved.0
            && reserved.2
            && reserved.1 - used.0 == HEAP_BYTES
    };
    Ok(mappings.array_windows().filter(|pair| is_heap(pair)).count())
}
