//! Network anomalies: what the loader tells the programs of `network`, and what they count.
//!
//! One loaded object serves one interface in one direction. [`SIEVE`] sits on that interface and decides what is hit:
//! it passes, drops, doubles, or hands over to a relay, which is a TAP that a process reads. [`GATE`] sits on the
//! TAP's way out and lets nothing through but what the sieve sent. [`BACK`] sits on the TAP's way in: what the process
//! writes there goes on to the interface, marked, so that the sieve lets it pass.

/// The program on the interface.
pub const SIEVE: &str = "sextant_sieve";
/// The program where packets leave the kernel for the relay's process.
pub const GATE: &str = "sextant_gate";
/// The program where they come back.
pub const BACK: &str = "sextant_back";

/// The name of the global variable that holds [`Settings`]; all zeros until the loader sets it.
pub const SETTINGS: &str = "NETWORK_SETTINGS";
/// The array of one [`Counts`] for each CPU.
pub const COUNTS: &str = "COUNTS";
/// The array of one number: anything but 0 lets every packet pass from now on.
pub const RELEASED: &str = "RELEASED";
/// The trie of addresses, [`ADDRESS_BYTES`] each and IPv4 mapped into IPv6, that are hit.
pub const PEERS: &str = "PEERS";
/// The same of addresses that are spared.
pub const SPARED_PEERS: &str = "SPARED_PEERS";
/// The array of bits, one for each port and 64 in a word: those that are hit, and after them those that are spared.
pub const PORTS: &str = "PORTS";

/// An IPv6 address.
pub const ADDRESS_BYTES: usize = 16;
/// What an IPv4 address begins with as an IPv6 one.
pub const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
/// Words of bits for all ports.
pub const PORT_WORDS: u32 = 65_536 / 64;
/// Entries of each trie; more than anybody writes into a request.
pub const MAX_PEERS: u32 = 256;
/// A chance of this much is certain.
pub const CERTAIN: u64 = 1 << 32;

/// Packets over which a share that came out wrong is made up for. Dice alone are off by a point or more in every
/// twentieth run of 10,000 packets at 50 %; these keep within a tenth of that, and each throw is still a throw.
pub const MEMORY_PACKETS: u32 = 512;

/// Only packets from or to [`PEERS`] are hit.
pub const ONLY_PEERS: u64 = 1;
/// Only packets with one of [`PORTS`] are hit.
pub const ONLY_PORTS: u64 = 2;
/// The interface's way in: the peer is who sent it.
pub const INCOMING: u64 = 4;

/// What the programs do.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Of packets that were relayed; never 0.
    pub mark: u64,
    /// Sum of [`ONLY_PEERS`], [`ONLY_PORTS`], [`INCOMING`].
    pub flags: u64,
    /// Protocol number that is hit, [`Settings::ICMP`] for both versions of it; 0: all.
    pub protocol: u64,
    /// The cgroup, in the unified hierarchy, whose sockets' packets are hit; 0: all.
    pub cgroup_id: u64,
    /// How deep it lies; the root is 0.
    pub cgroup_level: u64,
    /// Chance of being dropped, of [`CERTAIN`].
    pub loss: u64,
    /// Chance of being sent twice, likewise.
    pub duplicate: u64,
    /// Index of the TAP; 0: nothing is relayed.
    pub relay_ifindex: u64,
    /// Index of the interface.
    pub target_ifindex: u64,
}

impl Settings {
    /// ICMP and `ICMPv6`.
    pub const ICMP: u64 = 1;

    /// The value of the global variable, as loaders that want plain words take it.
    #[must_use]
    pub const fn words(&self) -> [u64; 9] {
        [
            self.mark,
            self.flags,
            self.protocol,
            self.cgroup_id,
            self.cgroup_level,
            self.loss,
            self.duplicate,
            self.relay_ifindex,
            self.target_ifindex,
        ]
    }
}

/// What the sieve did; packets are those of the wire, also where the kernel handles many as one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets that were to be hit.
    pub matched: u64,
    /// Their size with all headers, bytes.
    pub matched_bytes: u64,
    /// Of these, dropped here.
    pub dropped: u64,
    /// Of these, sent twice here.
    pub duplicated: u64,
    /// The program's own: packets, of [`CERTAIN`], that should have been dropped and were not, or the other way about.
    pub loss_debt: i64,
    /// The same of packets sent twice.
    pub duplicate_debt: i64,
}

impl Counts {
    /// The counts in the words that a map holds.
    #[must_use]
    pub const fn from_words(words: [u64; 6]) -> Self {
        let [matched, matched_bytes, dropped, duplicated, loss_debt, duplicate_debt] = words;
        let (loss_debt, duplicate_debt) = (loss_debt.cast_signed(), duplicate_debt.cast_signed());
        Self { matched, matched_bytes, dropped, duplicated, loss_debt, duplicate_debt }
    }
}

const _: () = assert!(size_of::<Settings>() == size_of::<[u64; 9]>());
const _: () = assert!(size_of::<Counts>() == size_of::<[u64; 6]>());
