//! What becomes of processes, as it happens: the programs of `agent-ebpf`'s object `process`.
//!
//! Loaded after reading, a list of all processes would miss those that start in between: load first, then read.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use agent_ebpf::PROCESS;
use agent_ebpf::process::{ATTACH, EVENTS, EXEC, EXIT, Event, FORK, LOST, MKDIR, RMDIR};
use agent_ebpf::task::{OFFSETS, TaskOffsets};
use aya::maps::{Map, MapData, PerCpuArray, RingBuf};
use aya::programs::BtfTracePoint;
use aya::{Btf, Ebpf, EbpfLoader};

use super::programs::LoadError;

/// Without these there are no events worth having.
const NEEDED: [&str; 3] = [FORK, EXEC, EXIT];
/// Without these the groups of processes are known later.
const WELCOME: [&str; 3] = [ATTACH, MKDIR, RMDIR];
/// What an event takes in the ring: itself and the kernel's header.
const ROOM_BYTES: usize = 8 + Event::BYTES;

/// The loaded, attached programs. Dropping it detaches them and frees their maps.
pub struct Processes {
    /// Keeps the programs attached.
    _ebpf: Ebpf,
    ring: RingBuf<MapData>,
    lost: PerCpuArray<MapData, u64>,
    without: Vec<(&'static str, LoadError)>,
    /// Most events that the ring holds.
    capacity: usize,
}

impl fmt::Debug for Processes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Processes").field("without", &self.without).finish_non_exhaustive()
    }
}

impl Processes {
    /// Loads and attaches, with `ring_bytes` of memory for events that are not read yet: a power of two, at least a
    /// page. `kernel` are the kernel's types. Needs root, or `CAP_BPF` with `CAP_PERFMON`.
    ///
    /// # Errors
    /// The kernel does not permit it, or does not take one of the programs for processes.
    pub fn load(offsets: &TaskOffsets, ring_bytes: u32, kernel: &Btf) -> Result<Self, LoadError> {
        let words = offsets.words();
        let mut loader = EbpfLoader::new();
        let mut ebpf = loader
            .btf(Some(kernel))
            .override_global(OFFSETS, &words, true)
            .map_max_entries(EVENTS, ring_bytes)
            .load(PROCESS)?;
        for name in NEEDED {
            attach(&mut ebpf, name, kernel)?;
        }
        let attached = |name| attach(&mut ebpf, name, kernel).err().map(|error| (name, error));
        let without = WELCOME.into_iter().filter_map(attached).collect();
        let ring = take(&mut ebpf, EVENTS)?.try_into()?;
        let lost = take(&mut ebpf, LOST)?.try_into()?;
        Ok(Self { _ebpf: ebpf, ring, lost, without, capacity: ring_bytes as usize / ROOM_BYTES })
    }

    /// The programs that this kernel did not take, and why.
    pub fn without(&self) -> &[(&'static str, LoadError)] {
        &self.without
    }

    /// A descriptor that becomes readable, edge by edge, when there are events after all had been read.
    ///
    /// # Errors
    /// No more descriptors.
    pub fn bell(&self) -> io::Result<OwnedFd> {
        self.ring.as_fd().try_clone_to_owned()
    }

    /// Reads the events that are there, in the order in which they happened. Ends even if they come faster than they
    /// are read.
    pub fn drain(&mut self, events: &mut Vec<Event>) {
        for _ in 0..=self.capacity {
            let Some(item) = self.ring.next() else { return };
            // All are of one size; another one would be another program's.
            if let Some((event, [])) = item.split_first_chunk() {
                events.push(Event::from_bytes(event));
            }
        }
    }

    /// Events that found no room since the programs were loaded.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn lost(&self) -> Result<u64, LoadError> {
        let values = self.lost.get(&0, 0)?;
        Ok(values.iter().fold(0, |sum, value| sum.saturating_add(*value)))
    }
}

fn attach(ebpf: &mut Ebpf, name: &'static str, kernel: &Btf) -> Result<(), LoadError> {
    let program = ebpf.program_mut(name).ok_or(LoadError::Absent(name))?;
    let program: &mut BtfTracePoint = program.try_into()?;
    program.load(name, kernel)?;
    program.attach()?;
    Ok(())
}

fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, LoadError> {
    ebpf.take_map(name).ok_or(LoadError::Absent(name))
}
