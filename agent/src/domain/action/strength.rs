//! How strong: one shape for each kind of anomaly, each with its checks.

use super::{Invalid, Kind, Limits, invalid, whole, within};

/// More workers than this are no sharper a fault, only more processes.
const MAX_WORKERS: u32 = 1_024;
/// A worker is one thread of load: at most all of one core.
const WHOLE_PERCENT: f64 = 100.0;
/// As `SCHED_FIFO` and `SCHED_RR` know them.
const PRIORITIES: (u32, u32) = (1, 99);
/// `nice(2)`.
const NICE: (i32, i32) = (-20, 19);
/// The kernel's largest `NR_CPUS`.
const MAX_CPU: u32 = 8_192;
/// Below a page nothing is taken.
const MIN_BYTES: u64 = 4_096;
/// 16 TiB: no node has more of anything that is taken here, and sums of it stay far from an overflow.
const MAX_BYTES: u64 = 16 << 40;
/// Direct I/O goes by the disk's block: 512 to 4,096; larger pieces than 16 MiB are split by the kernel anyway.
const BLOCK_BYTES: (u64, u64) = (4_096, 16 << 20);
/// No disk does more.
const MAX_OPERATIONS: u64 = 100_000_000;
/// The kernel's own limit.
const MAX_PATH_BYTES: usize = 4_096;

/// What is provoked, and how strong.
#[derive(Clone, Debug, PartialEq)]
pub enum Strength {
    /// CPU time.
    Cpu(Cpu),
    /// Memory.
    Memory(Memory),
    /// A disk that is busy, full or slow.
    Disk(Disk),
    /// Processes that stand still or end.
    Process(Process),
}

impl Strength {
    /// The kind.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Cpu(_) => Kind::Cpu,
            Self::Memory(_) => Kind::Memory,
            Self::Disk(_) => Kind::Disk,
            Self::Process(_) => Kind::Process,
        }
    }

    pub(super) fn check(&self, limits: &Limits) -> Result<(), Invalid> {
        match self {
            Self::Cpu(cpu) => cpu.check(),
            Self::Memory(memory) => memory.check(),
            Self::Disk(disk) => disk.check(limits),
            Self::Process(_) => Ok(()),
        }
    }
}

/// Of what a percentage is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Of {
    /// One core, for each worker.
    #[default]
    Core,
    /// All CPUs that the target may use, by its quota and the machine's; its workers share it.
    Target,
}

/// How the kernel is to schedule a worker: `sched(7)`'s policies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Class {
    /// `SCHED_OTHER`: as the node's tasks are, so by the sched_ext scheduler where one is loaded for all.
    #[default]
    Normal,
    /// `SCHED_BATCH`.
    Batch,
    /// `SCHED_IDLE`.
    Idle,
    /// `SCHED_EXT`: by the sched_ext scheduler, also where it schedules only those that ask for it.
    Ext,
    /// `SCHED_FIFO` with this priority.
    Fifo(u32),
    /// `SCHED_RR` with this priority.
    RoundRobin(u32),
}

/// CPU time.
#[derive(Clone, Debug, PartialEq)]
pub struct Cpu {
    /// How much.
    pub percent: f64,
    /// Of what.
    pub of: Of,
    /// Processes; none: one, or as many as the target has CPUs.
    pub workers: Option<u32>,
    /// Scheduling class.
    pub class: Class,
    /// Niceness; none: as the node's.
    pub nice: Option<i32>,
    /// CPUs to stay on; empty: all that the target may use.
    pub cpus: Vec<u32>,
}

impl Cpu {
    fn check(&self) -> Result<(), Invalid> {
        within("strength.percent", self.percent, f64::MIN_POSITIVE, WHOLE_PERCENT)?;
        check_workers(self.workers)?;
        if let Some(nice) = self.nice {
            whole("strength.nice", nice, NICE.0, NICE.1)?;
        }
        if let Class::Fifo(priority) | Class::RoundRobin(priority) = self.class {
            whole("strength.priority", priority, PRIORITIES.0, PRIORITIES.1)?;
        }
        whole("strength.cpus", self.cpus.len(), 0, MAX_CPU as usize)?;
        self.cpus.iter().try_for_each(|cpu| whole("strength.cpus", *cpu, 0, MAX_CPU - 1))
    }

    /// Percent of one core for each worker, on a target that may use `cpus` of the node's `node_cpus` while other faults
    /// take `taken_percent` of one core.
    ///
    /// # Errors
    /// More than the target has, or than the node's operator allows.
    pub fn shares(
        &self,
        limits: &Limits,
        cpus: f64,
        node_cpus: u32,
        taken_percent: f64,
    ) -> Result<Vec<f64>, Invalid> {
        let (percent, workers) = match self.of {
            Of::Core => (self.percent, self.workers.unwrap_or(1)),
            Of::Target => {
                let whole = (1..MAX_WORKERS).find(|n| f64::from(*n) >= cpus).unwrap_or(MAX_WORKERS);
                let workers = self.workers.unwrap_or(whole);
                (self.percent * cpus / f64::from(workers), workers)
            }
        };
        if percent > WHOLE_PERCENT {
            let why =
                format!("{workers} workers cannot take {:.0} % of {cpus} CPUs: ask for more", self.percent);
            return invalid("strength.workers", why);
        }
        let total = percent * f64::from(workers);
        let allowed = f64::from(node_cpus) * limits.max_percent_of_node - taken_percent;
        if total > allowed {
            let why = format!(
                "{total:.0} % of one core in all is more than the {:.0} % left of this node's limit \
                 ([actions] max_percent_of_node)",
                allowed.max(0.0)
            );
            return invalid("strength.percent", why);
        }
        // At most MAX_WORKERS, checked.
        Ok(vec![percent; workers as usize])
    }
}

/// How much of something that has a size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    /// Bytes.
    Bytes(u64),
    /// Percent of what there is.
    Percent(f64),
}

impl Amount {
    fn check(self, max_percent: f64) -> Result<(), Invalid> {
        match self {
            Self::Bytes(bytes) => whole("strength.bytes", bytes, MIN_BYTES, MAX_BYTES),
            Self::Percent(percent) => within("strength.percent", percent, f64::MIN_POSITIVE, max_percent),
        }
    }

    /// In bytes, where `whole_bytes` are all.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a checked share of less than 2^53 bytes; a byte more or less is none"
    )]
    pub fn bytes_of(self, whole_bytes: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => (whole_bytes as f64 * percent / 100.0) as u64,
        }
    }
}

/// Memory: taken, filled with what does not compress, and held.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Memory {
    /// How much in all; a percentage is of the target's limit, or of the node's memory where it has none.
    pub amount: Amount,
    /// Processes that share it; one by default.
    pub workers: Option<u32>,
    /// How fast what is held is written again, bytes/s, so that it stays in memory.
    pub touch_bytes_per_s: u64,
}

impl Memory {
    fn check(&self) -> Result<(), Invalid> {
        self.amount.check(WHOLE_PERCENT)?;
        check_workers(self.workers)?;
        whole("strength.touch_bytes_per_s", self.touch_bytes_per_s, 0, MAX_BYTES)
    }
}

/// A disk that is busy, full or slow.
#[derive(Clone, Debug, PartialEq)]
pub enum Disk {
    /// Reads and writes at a rate.
    Load(DiskLoad),
    /// Takes its space.
    Fill(DiskFill),
    /// Lets the target's own reads and writes wait.
    Slow(DiskSlow),
}

/// Reads and writes at a rate.
#[derive(Clone, Debug, PartialEq)]
pub struct DiskLoad {
    /// A directory of the disk's file system, as the target sees it.
    pub path: String,
    /// Bytes/s, all workers together.
    pub bytes_per_s: Option<u64>,
    /// Operations/s, all workers together.
    pub operations_per_s: Option<u64>,
    /// Size of one operation.
    pub block_bytes: u64,
    /// Share of operations that write.
    pub write_percent: f64,
    /// Processes, each with one operation at a time; one by default.
    pub workers: Option<u32>,
}

/// Takes space.
#[derive(Clone, Debug, PartialEq)]
pub struct DiskFill {
    /// A directory of the file system, as the target sees it.
    pub path: String,
    /// Bytes more, or the percentage of the file system that is to be used in the end.
    pub amount: Amount,
}

/// The most that the target may do with the disk; none: as before.
#[derive(Clone, Debug, PartialEq)]
pub struct DiskSlow {
    /// A path on the disk, as the target sees it.
    pub path: String,
    /// Bytes/s that it may read.
    pub read_bytes_per_s: Option<u64>,
    /// Bytes/s that it may write.
    pub write_bytes_per_s: Option<u64>,
    /// Reads/s.
    pub read_operations_per_s: Option<u64>,
    /// Writes/s.
    pub write_operations_per_s: Option<u64>,
}

impl Disk {
    fn check(&self, limits: &Limits) -> Result<(), Invalid> {
        match self {
            Self::Load(load) => load.check(),
            Self::Fill(fill) => {
                check_path(&fill.path)?;
                fill.amount.check(limits.max_percent_of_disk)
            }
            Self::Slow(slow) => slow.check(),
        }
    }
}

impl DiskLoad {
    fn check(&self) -> Result<(), Invalid> {
        check_path(&self.path)?;
        check_workers(self.workers)?;
        whole("strength.block_bytes", self.block_bytes, BLOCK_BYTES.0, BLOCK_BYTES.1)?;
        if !self.block_bytes.is_multiple_of(BLOCK_BYTES.0) {
            return invalid("strength.block_bytes", format!("{} is no multiple of 4096", self.block_bytes));
        }
        within("strength.write_percent", self.write_percent, 0.0, WHOLE_PERCENT)?;
        match (self.bytes_per_s, self.operations_per_s) {
            (Some(bytes), None) => whole("strength.bytes_per_s", bytes, self.block_bytes, MAX_BYTES),
            (None, Some(operations)) => whole("strength.operations_per_s", operations, 1, MAX_OPERATIONS),
            _ => invalid("strength", "one of bytes_per_s and operations_per_s".to_owned()),
        }
    }
}

impl DiskSlow {
    fn check(&self) -> Result<(), Invalid> {
        check_path(&self.path)?;
        let limits = [
            ("strength.read_bytes_per_s", self.read_bytes_per_s, MAX_BYTES),
            ("strength.write_bytes_per_s", self.write_bytes_per_s, MAX_BYTES),
            ("strength.read_operations_per_s", self.read_operations_per_s, MAX_OPERATIONS),
            ("strength.write_operations_per_s", self.write_operations_per_s, MAX_OPERATIONS),
        ];
        if limits.iter().all(|(_, value, _)| value.is_none()) {
            return invalid(
                "strength",
                "none of read_bytes_per_s, write_bytes_per_s, read_operations_per_s, write_operations_per_s"
                    .to_owned(),
            );
        }
        // The kernel takes 0 as "no limit" in one version of its interface.
        limits.into_iter().try_for_each(|(field, value, max)| whole(field, value.unwrap_or(1), 1, max))
    }
}

/// Processes that stand still or end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// They stand still until it is over.
    Pause,
    /// They are sent a signal, once.
    Kill(Signal),
}

/// What ends a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Signal {
    /// At once.
    #[default]
    Kill,
    /// By its own handler.
    Term,
}

fn check_workers(workers: Option<u32>) -> Result<(), Invalid> {
    whole("strength.workers", workers.unwrap_or(1), 1, MAX_WORKERS)
}

fn check_path(path: &str) -> Result<(), Invalid> {
    let plain = path.starts_with('/') && path.len() < MAX_PATH_BYTES && !path.contains('\0');
    if plain {
        return Ok(());
    }
    invalid("strength.path", format!("{path:?} is no path from the target's root, such as /var/lib"))
}
