//! Our programs on one interface and on the TAP behind it, held by descriptors of this process.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::path::PathBuf;

use agent_ebpf::NETWORK;
use agent_ebpf::network::{
    BACK, CERTAIN, COUNTS, Counts, GATE, INCOMING, ONLY_PEERS, ONLY_PORTS, PEERS, PORT_WORDS, PORTS,
    RELEASED, SETTINGS, SIEVE, SPARED_PEERS, Settings,
};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, MapData, PerCpuArray};
use aya::programs::tc::TcAttachOptions;
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};
use aya::{Ebpf, EbpfLoader};

use super::Refusal;
use super::order::{Direction, Order, Protocol};
use super::text::{Ports, Prefix};
use crate::kernel::programs::{LoadError, one_at_a_time};
use crate::kernel::tap::{Links, Tap};

/// A statistics file has a line of some hundred bytes for each interface; hosts have thousands.
const MAX_STATISTICS_BYTES: u64 = 1 << 20;

/// An interface under a fault; dropping it ends the fault there.
pub(super) struct Lane {
    /// Keeps the programs attached.
    _ebpf: Ebpf,
    counts: PerCpuArray<MapData, [u64; 6]>,
    released: Array<MapData, u64>,
    pub(super) tap: Option<Tap>,
    name: String,
    index: u32,
    links: Links,
    /// Of this namespace, whoever reads it.
    statistics: File,
}

impl fmt::Debug for Lane {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Lane")
            .field("name", &self.name)
            .field("tap", &self.tap)
            .finish_non_exhaustive()
    }
}

impl Lane {
    /// Attaches to an interface of the calling thread's network namespace; the fault begins with that. `cgroup` is an id
    /// and a depth.
    pub(super) fn attach(name: &str, order: &Order, cgroup: Option<(u64, u64)>) -> Result<Self, Refusal> {
        let fail = |source| Refusal::Interface { name: name.to_owned(), source };
        let links = Links::new().map_err(fail)?;
        let index = links.index(name).map_err(fail)?;
        if !links.is_ethernet(name).map_err(fail)? {
            return Err(Refusal::NotEthernet(name.to_owned()));
        }
        if is_taken(name)? {
            return Err(Refusal::Taken(name.to_owned()));
        }
        let relayed = order.fault.needs_relay();
        let tap = relayed.then(|| Tap::new(!order.fault.is_by_packet())).transpose().map_err(Refusal::Tap)?;
        let path = PathBuf::from("/proc/thread-self/net/dev");
        let statistics = File::open(&path).map_err(|source| Refusal::File { path, source })?;
        let settings = settings(order, cgroup, tap.as_ref().map_or(0, |tap| tap.index), index);
        let mut ebpf = one_at_a_time(|| load(&settings, order))?;
        let counts = take(&mut ebpf, COUNTS)?.try_into().map_err(LoadError::from)?;
        let released = take(&mut ebpf, RELEASED)?.try_into().map_err(LoadError::from)?;
        if let Some(tap) = &tap {
            // First the gate: the kernel itself speaks as soon as an interface is up.
            attach(&mut ebpf, GATE, &tap.name, TcAttachType::Egress)?;
            attach(&mut ebpf, BACK, &tap.name, TcAttachType::Ingress)?;
            tap.up().map_err(Refusal::Tap)?;
        }
        let direction = match order.filter.direction {
            Direction::Egress => TcAttachType::Egress,
            Direction::Ingress => TcAttachType::Ingress,
        };
        attach(&mut ebpf, SIEVE, name, direction)?;
        let name = name.to_owned();
        Ok(Self { _ebpf: ebpf, counts, released, tap, name, index, links, statistics })
    }

    /// What the kernel's part did so far.
    ///
    /// # Errors
    /// The map cannot be read.
    pub(super) fn counts(&self) -> Result<Counts, LoadError> {
        let mut sum = Counts::default();
        for words in self.counts.get(&0, 0)?.iter() {
            let of_cpu = Counts::from_words(*words);
            sum.matched += of_cpu.matched;
            sum.matched_bytes += of_cpu.matched_bytes;
            sum.dropped += of_cpu.dropped;
            sum.duplicated += of_cpu.duplicated;
        }
        Ok(sum)
    }

    /// Frames that found no room on their way into this process; 0 when nobody tells.
    pub(super) fn overflowed(&mut self) -> u64 {
        let Some(tap) = &self.tap else { return 0 };
        let mut text = String::new();
        let read = self
            .statistics
            .rewind()
            .and_then(|()| self.statistics.by_ref().take(MAX_STATISTICS_BYTES).read_to_string(&mut text));
        read.ok().and_then(|_| sent_dropped(&text, &tap.name)).unwrap_or_default()
    }

    /// Lets every packet pass from now on.
    pub(super) fn release(&mut self) {
        // Where this fails the links end it a moment later.
        let _ends_anyway = self.released.set(0, 1, 0);
    }

    /// Whether the interface is still there, by this name or another.
    ///
    /// # Errors
    /// It is not.
    pub(super) fn is_there(&self) -> Result<(), String> {
        let gone = |error: io::Error| format!("interface {} is gone: {error}", self.name);
        self.links.name(self.index).map(|_| ()).map_err(gone)
    }
}

/// Whether an anomaly is on an interface already, in whichever direction.
fn is_taken(name: &str) -> Result<bool, LoadError> {
    for direction in [TcAttachType::Egress, TcAttachType::Ingress] {
        let (_, programs) = SchedClassifier::query_tcx(name, direction)?;
        if programs.iter().any(|program| program.name_as_str() == Some(SIEVE)) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn settings(order: &Order, cgroup: Option<(u64, u64)>, relay: u32, target: u32) -> Settings {
    let fault = &order.fault;
    let flag = |set: bool, flag: u64| if set { flag } else { 0 };
    let (cgroup_id, cgroup_level) = cgroup.unwrap_or_default();
    // What the relay rolls for every packet is not rolled here as well.
    let rolled = |percent: f64| if relay == 0 { of_certain(percent) } else { 0 };
    Settings {
        mark: u64::from(mark()),
        flags: flag(!order.filter.peers.is_empty(), ONLY_PEERS)
            + flag(!order.filter.ports.is_empty(), ONLY_PORTS)
            + flag(order.filter.direction == Direction::Ingress, INCOMING),
        protocol: match order.filter.protocol {
            Protocol::Any => 0,
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Icmp => Settings::ICMP,
        },
        cgroup_id,
        cgroup_level,
        loss: if fault.partition { CERTAIN } else { rolled(fault.loss_percent) },
        duplicate: rolled(fault.duplicate_percent),
        relay_ifindex: relay.into(),
        target_ifindex: target.into(),
    }
}

/// Drawn for every fault, so that nobody else gives it; never 0, which is no mark.
fn mark() -> u32 {
    let [a, b, c, d, ..] = uuid::Uuid::new_v4().into_bytes();
    u32::from_ne_bytes([a, b, c, d]) | 1
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "0 to 100, checked"
)]
fn of_certain(percent: f64) -> u64 {
    (percent / 100.0 * CERTAIN as f64).round() as u64
}

fn load(settings: &Settings, order: &Order) -> Result<Ebpf, LoadError> {
    let words = settings.words();
    // None of these programs looks into the kernel's own types.
    let mut ebpf = EbpfLoader::new().btf(None).override_global(SETTINGS, &words, true).load(NETWORK)?;
    for (map, peers) in [(PEERS, &order.filter.peers), (SPARED_PEERS, &order.exclude.peers)] {
        let map = ebpf.map_mut(map).ok_or(LoadError::Absent(map))?;
        let mut trie = LpmTrie::<_, [u8; 16], u32>::try_from(map)?;
        for (address, bits) in peers.iter().map(Prefix::mapped) {
            trie.insert(&Key::new(bits, address), 1, 0)?;
        }
    }
    let mut map = Array::<_, u64>::try_from(ebpf.map_mut(PORTS).ok_or(LoadError::Absent(PORTS))?)?;
    for (first, ports) in [(0, &order.filter.ports), (PORT_WORDS, &order.exclude.ports)] {
        for (word, bits) in (first..).zip(words_of(ports)) {
            if bits != 0 {
                map.set(word, bits, 0)?;
            }
        }
    }
    for name in [SIEVE, GATE, BACK] {
        program(&mut ebpf, name)?.load()?;
    }
    Ok(ebpf)
}

/// A bit for each port.
fn words_of(ports: &[Ports]) -> Vec<u64> {
    let mut words = vec![0; PORT_WORDS as usize];
    for port in ports.iter().flat_map(Ports::range) {
        words[usize::from(port >> 6)] |= 1 << (port & 63);
    }
    words
}

fn attach(ebpf: &mut Ebpf, name: &'static str, to: &str, way: TcAttachType) -> Result<(), LoadError> {
    // Before others', which then see every packet once, when it goes on.
    let order = TcAttachOptions::TcxOrder(LinkOrder::first());
    program(ebpf, name)?.attach_with_options(to, way, order)?;
    Ok(())
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut SchedClassifier, LoadError> {
    Ok(ebpf.program_mut(name).ok_or(LoadError::Absent(name))?.try_into()?)
}

fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<aya::maps::Map, LoadError> {
    ebpf.take_map(name).ok_or(LoadError::Absent(name))
}

/// The counter of dropped frames, among those sent, of one line of `/proc/net/dev`.
fn sent_dropped(text: &str, name: &str) -> Option<u64> {
    /// Eight columns of what was received come before those of what was sent.
    const COLUMN: usize = 8 + 3;
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let (_, numbers) = lines.find(|(found, _)| found.trim() == name)?;
    numbers.split_whitespace().nth(COLUMN)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chances_are_shares_of_certainty() {
        assert_eq!((of_certain(0.0), of_certain(50.0), of_certain(100.0)), (0, CERTAIN / 2, CERTAIN));
    }

    #[test]
    fn every_port_of_a_range_has_its_bit() {
        let words = words_of(&[Ports::from(63..=64), Ports::from(u16::MAX..=u16::MAX)]);
        assert_eq!((words[0], words[1], words[1023]), (1 << 63, 1, 1 << 63));
        assert!(words_of(&[Ports::from(0..=u16::MAX)]).iter().all(|word| *word == u64::MAX));
    }

    #[test]
    fn drops_are_read_of_the_right_line() {
        let text = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0
sextant0:     1       2    3    4    5     6          7         8        9      10   11   12   13    14      15         16
";
        assert_eq!(sent_dropped(text, "sextant0"), Some(12));
        assert_eq!((sent_dropped(text, "sextant"), sent_dropped("", "lo")), (None, None));
    }
}
