//! A disk for tests: everything not synced may be lost, reordered or torn at a crash; it can be full, can lie
//! about syncing, dies at a chosen operation, and answers some with EIO.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use redb::{Builder, Database, DatabaseError, StorageBackend};

use super::medium::Medium;

const SECTOR: usize = 512;

/// splitmix64: a seed repeats a run.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % end as u64).unwrap()
    }
}

#[derive(Clone, Debug)]
enum Op {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

impl Op {
    fn apply(&self, image: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if image.len() < end {
                    image.resize(end, 0);
                }
                image[*offset..end].copy_from_slice(bytes);
            }
            Self::SetLen(len) => image.resize(*len, 0),
        }
    }
}

/// What a disk with a bad sector, a loose cable or a lost path fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    Reads,
    Writes,
    Syncs,
    All,
    /// One operation of so many, whatever it is.
    OneIn(u64),
}

#[derive(Debug, Default)]
struct State {
    durable: Vec<u8>,
    seen: Vec<u8>,
    unsynced: Vec<Op>,
    life: u64,
    dies_after_ops: Option<u64>,
    capacity: Option<usize>,
    lies_about_sync: bool,
    set_aside: u64,
    broken: Option<Broken>,
    ops: u64,
    io_errors: u64,
}

impl State {
    /// EIO where this kind of operation is broken.
    fn works(&mut self, kind: Broken) -> io::Result<()> {
        self.ops += 1;
        let fails = match self.broken {
            None => false,
            Some(Broken::OneIn(many)) => self.ops.is_multiple_of(many),
            Some(broken) => broken == Broken::All || broken == kind,
        };
        if !fails {
            return Ok(());
        }
        self.io_errors += 1;
        Err(rustix::io::Errno::IO.into())
    }
}

/// The disk; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    state: Arc<Mutex<State>>,
}

impl Disk {
    fn with<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on every operation after the next `ops` fails, as if the machine had stopped.
    pub(crate) fn die_after(&self, ops: u64) {
        self.with(|state| state.dies_after_ops = Some(ops));
    }

    /// Bytes it can hold; `None` is no limit.
    pub(crate) fn set_capacity(&self, bytes: Option<usize>) {
        self.with(|state| state.capacity = bytes);
    }

    /// Answers a sync at once and does nothing.
    pub(crate) fn lie_about_sync(&self) {
        self.with(|state| state.lies_about_sync = true);
    }

    /// From now on such operations are answered with EIO and do nothing; what was not synced stays so.
    pub(crate) fn break_io(&self, broken: Option<Broken>) {
        self.with(|state| state.broken = broken);
    }

    /// How many were.
    pub(crate) fn io_errors(&self) -> u64 {
        self.with(|state| state.io_errors)
    }

    /// Bytes it holds now.
    pub(crate) fn len(&self) -> usize {
        self.with(|state| state.seen.len())
    }

    /// How often a database was set aside.
    pub(crate) fn set_asides(&self) -> u64 {
        self.with(|state| state.set_aside)
    }

    /// Flips one bit of what is stored.
    pub(crate) fn flip(&self, offset: usize, bit: u8) {
        self.with(|state| {
            state.seen[offset] ^= 1 << (bit % 8);
            state.durable = state.seen.clone();
        });
    }

    /// Connects a process to the disk until the next crash: nothing of it reaches the disk after that.
    pub(crate) fn connect(&self) -> Connection {
        Connection { disk: self.clone(), life: self.with(|state| state.life) }
    }

    /// Power off and on: of what was not synced, chance decides write by write whether it is there, in which
    /// order, and where it was torn.
    pub(crate) fn crash(&self, mut random: impl FnMut(usize) -> usize) {
        self.with(|state| {
            let mut ops = std::mem::take(&mut state.unsynced);
            for index in (1..ops.len()).rev() {
                ops.swap(index, random(index + 1));
            }
            let mut image = state.durable.clone();
            for op in ops {
                match (random(3), op) {
                    (0, _) => {}
                    (1, Op::Write { offset, bytes }) => {
                        let sectors = random(bytes.len() / SECTOR + 1);
                        Op::Write { offset, bytes: bytes[..sectors * SECTOR].to_vec() }.apply(&mut image);
                    }
                    // a file is never seen shorter than its synced writes reach
                    (_, Op::SetLen(len)) => image.resize(len.max(image.len()), 0),
                    (_, op) => op.apply(&mut image),
                }
            }
            state.seen.clone_from(&image);
            state.durable = image;
            state.life += 1;
            state.dies_after_ops = None;
        });
    }
}

/// One process's way to the disk.
#[derive(Debug)]
pub(crate) struct Connection {
    disk: Disk,
    life: u64,
}

impl Medium for Connection {
    fn name(&self) -> String {
        "test disk".to_owned()
    }

    fn open(&mut self, builder: &Builder) -> Result<Database, DatabaseError> {
        builder.create_with_backend(Backend { disk: self.disk.clone(), life: self.life })
    }

    fn set_aside(&mut self) -> io::Result<String> {
        self.disk.with(|state| {
            if state.life != self.life {
                return Err(io::Error::other("the machine was restarted"));
            }
            state.seen.clear();
            state.durable.clear();
            state.unsynced.clear();
            state.set_aside += 1;
            Ok("forgotten".to_owned())
        })
    }

    fn size_bytes(&self) -> u64 {
        self.disk.len() as u64
    }
}

#[derive(Debug)]
struct Backend {
    disk: Disk,
    life: u64,
}

impl Backend {
    fn alive<R>(&self, work: impl FnOnce(&mut State) -> io::Result<R>) -> io::Result<R> {
        self.disk.with(|state| {
            if state.life != self.life {
                return Err(io::Error::other("the machine was restarted"));
            }
            match &mut state.dies_after_ops {
                Some(0) => return Err(io::Error::other("the machine is off")),
                Some(left) => *left -= 1,
                None => {}
            }
            work(state)
        })
    }

    fn change(&self, op: Op) -> io::Result<()> {
        self.alive(|state| {
            let end = match &op {
                Op::Write { offset, bytes } => offset + bytes.len(),
                Op::SetLen(len) => *len,
            };
            state.works(Broken::Writes)?;
            if end > state.seen.len() && state.capacity.is_some_and(|capacity| end > capacity) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            op.apply(&mut state.seen);
            state.unsynced.push(op);
            Ok(())
        })
    }
}

fn place(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(io::Error::other)
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.alive(|state| Ok(state.seen.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let offset = place(offset)?;
        self.alive(|state| {
            state.works(Broken::Reads)?;
            let bytes = state.seen.get(offset..offset + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            out.copy_from_slice(bytes);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Op::SetLen(place(len)?))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.alive(|state| {
            state.works(Broken::Syncs)?;
            if !state.lies_about_sync {
                for op in std::mem::take(&mut state.unsynced) {
                    op.apply(&mut state.durable);
                }
            }
            Ok(())
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(Op::Write { offset: place(offset)?, bytes: data.to_vec() })
    }
}
