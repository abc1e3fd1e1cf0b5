//! The program in the kernel, and what its maps say.

use std::fmt;
use std::path::Path;

use agent_ebpf::RUNQLAT;
use agent_ebpf::runqlat::{
    BEYOND, BLAMES, CGROUPS, CPU_PLACES, CgroupStats, LOST, Loss, PROGRAM, Pair, SETTINGS, Settings, THREADS,
};
use aya::maps::{MapData, PerCpuArray, PerCpuHashMap, PerCpuValues};
use aya::programs::BtfTracePoint;
use aya::util::nr_cpus;
use aya::{Btf, Ebpf, EbpfLoader};

use super::settings::cpu_places;
use crate::domain::histogram::Histogram;
use crate::domain::runqueue::{Losses, Migrations, RunTotals};
use crate::kernel::programs::LoadError;

const STATS_WORDS: usize = CgroupStats::BYTES / 8;
type StatsWords = [u64; STATS_WORDS];
type BlameWords = [u64; 2];

/// How much the maps hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// Cgroups; memory for each is 384 bytes on every CPU.
    pub(super) cgroups: u32,
    /// Threads, 100 bytes each.
    pub(super) threads: u32,
    /// Pairs of cgroups that got in each other's way, 16 bytes on every CPU.
    pub(super) blames: u32,
}

/// A cgroup's totals over all CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) cgroup_id: u64,
    pub(super) totals: RunTotals,
}

/// The loaded, attached program. Dropping it detaches it and frees its maps.
pub(super) struct Probe {
    /// Keeps the program attached.
    _ebpf: Ebpf,
    cgroups: PerCpuHashMap<MapData, u64, StatsWords>,
    blames: PerCpuHashMap<MapData, [u64; 2], BlameWords>,
    lost: PerCpuArray<MapData, u64>,
    sizes: Sizes,
}

impl fmt::Debug for Probe {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Probe").field("sizes", &self.sizes).finish_non_exhaustive()
    }
}

impl Probe {
    /// Loads and attaches. Needs root, or `CAP_BPF` with `CAP_PERFMON`.
    ///
    /// # Errors
    /// The kernel does not permit it or does not take the program.
    pub(super) fn load(settings: &Settings, sizes: Sizes, sys: &Path) -> Result<Self, LoadError> {
        let kernel = Btf::from_sys_fs()?;
        let (words, places) = (settings.words(), cpu_places(sys));
        let mut loader = EbpfLoader::new();
        let mut ebpf = loader
            .btf(Some(&kernel))
            .override_global(SETTINGS, &words, true)
            .override_global(CPU_PLACES, &*places, true)
            .map_max_entries(CGROUPS, sizes.cgroups)
            .map_max_entries(THREADS, sizes.threads)
            .map_max_entries(BLAMES, sizes.blames)
            .load(RUNQLAT)?;
        let mut cgroups: PerCpuHashMap<_, u64, StatsWords> = take(&mut ebpf, CGROUPS)?.try_into()?;
        let cpus = nr_cpus().map_err(|(_, error)| LoadError::Refused(Box::new(error)))?;
        let none = PerCpuValues::try_from(vec![[0; STATS_WORDS]; cpus]);
        cgroups.insert(BEYOND, none.map_err(|error| LoadError::Refused(Box::new(error)))?, 0)?;
        let blames = take(&mut ebpf, BLAMES)?.try_into()?;
        let lost = take(&mut ebpf, LOST)?.try_into()?;
        let program = ebpf.program_mut(PROGRAM).ok_or(LoadError::Absent(PROGRAM))?;
        let program: &mut BtfTracePoint = program.try_into()?;
        program.load(PROGRAM, &kernel)?;
        program.attach()?;
        Ok(Self { _ebpf: ebpf, cgroups, blames, lost, sizes })
    }

    /// Every cgroup with tasks that were switched since the program was loaded.
    ///
    /// # Errors
    /// The map cannot be read.
    pub(super) fn cgroups(&self) -> Result<Vec<Row>, LoadError> {
        let mut raw = Vec::new();
        for entry in self.cgroups.iter().take(reads_of(self.sizes.cgroups)) {
            raw.push(entry?);
        }
        let now = raw.iter().flat_map(|(_, values)| values.iter()).map(window).max().unwrap_or(0);
        let mut rows: Vec<_> =
            raw.iter().map(|(id, values)| Row { cgroup_id: *id, totals: summed(values, now) }).collect();
        rows.sort_unstable_by_key(|row| row.cgroup_id);
        rows.dedup_by_key(|row| row.cgroup_id);
        Ok(rows)
    }

    /// Takes a cgroup's totals out of the map; `None` when it is not in it.
    ///
    /// # Errors
    /// The map cannot be read or changed.
    pub(super) fn take(&mut self, cgroup_id: u64) -> Result<Option<RunTotals>, LoadError> {
        let values = match self.cgroups.get(&cgroup_id, 0) {
            Err(aya::maps::MapError::KeyNotFound) => return Ok(None),
            values => values?,
        };
        self.cgroups.remove(&cgroup_id)?;
        Ok(Some(summed(&values, 0)))
    }

    /// Who ran while who waited, ns since the program was loaded.
    ///
    /// # Errors
    /// The map cannot be read.
    pub(super) fn blames(&self) -> Result<Vec<(Pair, u64)>, LoadError> {
        let mut blames = Vec::new();
        for entry in self.blames.iter().take(reads_of(self.sizes.blames)) {
            let ([waiter, runner], values) = entry?;
            let wait_ns = values.iter().fold(0_u64, |sum, [wait_ns, _]| sum.saturating_add(*wait_ns));
            blames.push((Pair { waiter, runner }, wait_ns));
        }
        Ok(blames)
    }

    /// What could not be counted since the program was loaded.
    ///
    /// # Errors
    /// The map cannot be read.
    pub(super) fn losses(&self) -> Result<Losses, LoadError> {
        let count = |loss: Loss| -> Result<u64, LoadError> {
            let values = self.lost.get(&(loss as u32), 0)?;
            Ok(values.iter().fold(0, |sum, value| sum.saturating_add(*value)))
        };
        Ok(Losses {
            cgroups: count(Loss::Cgroups)?,
            threads: count(Loss::Threads)?,
            blames: count(Loss::Blames)?,
            stints: count(Loss::Stints)?,
        })
    }
}

/// Entries read at most of a map that holds so many: a key may be seen twice while others come and go, but one that does
/// so for ever must not hold up the reader.
const fn reads_of(entries: u32) -> usize {
    2 * entries as usize
}

fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<aya::maps::Map, LoadError> {
    ebpf.take_map(name).ok_or(LoadError::Absent(name))
}

fn window(words: &StatsWords) -> u64 {
    CgroupStats::from_words(words).longest_wait_window
}

/// All CPUs together, in the window `now`.
fn summed(values: &PerCpuValues<StatsWords>, now: u64) -> RunTotals {
    let mut totals = RunTotals::default();
    for words in values.iter() {
        totals.add(&of_cpu(&CgroupStats::from_words(words), now));
    }
    totals
}

fn of_cpu(stats: &CgroupStats, now: u64) -> RunTotals {
    let [current, before] = stats.longest_wait_ns;
    let longest_recent_wait_ns = match now.saturating_sub(stats.longest_wait_window) {
        0 => current.max(before),
        1 => current,
        _ => 0,
    };
    let [same_core, same_llc, same_node, other_node] = stats.migrations;
    RunTotals {
        waits: Histogram { slots: stats.waits, sum_ns: stats.wait_ns },
        on_cpu_ns: stats.on_cpu_ns,
        blocked_ns: stats.blocked_ns,
        voluntary_switches: stats.voluntary_switches,
        involuntary_switches: stats.involuntary_switches,
        migrations: Migrations { same_core, same_llc, same_node, other_node },
        longest_recent_wait_ns,
    }
}

const _: () = assert!(agent_ebpf::runqlat::SLOTS == crate::domain::histogram::SLOTS);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_wait_is_forgotten_after_two_windows() {
        let stats = CgroupStats { longest_wait_ns: [5, 9], longest_wait_window: 7, ..CgroupStats::NONE };
        let recent = |now| of_cpu(&stats, now).longest_recent_wait_ns;
        assert_eq!((recent(7), recent(8), recent(9)), (9, 5, 0));
    }

    #[test]
    fn words_come_back_as_the_fields_they_were() {
        let mut words = [0; STATS_WORDS];
        for (at, word) in (0_u64..).zip(&mut words) {
            *word = at;
        }
        let totals = of_cpu(&CgroupStats::from_words(&words), 47);
        assert_eq!((totals.waits.slots[35], totals.waits.sum_ns, totals.on_cpu_ns), (35, 36, 37));
        assert_eq!((totals.blocked_ns, totals.voluntary_switches, totals.involuntary_switches), (38, 39, 40));
        assert_eq!((totals.migrations.same_core, totals.migrations.other_node), (41, 44));
        assert_eq!(totals.longest_recent_wait_ns, 46, "the window is the last word");
    }
}
