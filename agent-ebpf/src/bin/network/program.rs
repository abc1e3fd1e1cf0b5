//! The sieve on an interface, and the two programs on the relay's TAP.
//!
//! A packet that is hit is gone without a trace for its sender, as on a wire: a drop would be told to the sending
//! socket, so what is to be lost is sent to an interface that does not exist instead.

#![expect(unsafe_code, reason = "reads and marks the packet that the kernel passes, by its helpers")]

mod packet;

use core::ptr::read_volatile;

use agent_ebpf::network::{
    ADDRESS_BYTES, CERTAIN, Counts, INCOMING, MAX_PEERS, MEMORY_PACKETS, ONLY_PEERS, ONLY_PORTS, PORT_WORDS,
    Settings,
};
use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{
    bpf_clone_redirect, bpf_get_prandom_u32, bpf_redirect, bpf_skb_ancestor_cgroup_id,
};
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::{Key, LpmTrie};
use aya_ebpf::maps::{Array, PerCpuArray};

use packet::Packet;

/// `TCX_NEXT` of the kernel: as if this program were not there.
const NEXT: i32 = -1;
/// `TCX_DROP` of the kernel.
const DROP: i32 = 2;
/// `BPF_F_INGRESS` of the kernel.
const INGRESS: u64 = 1;
/// No interface has this index.
const NOWHERE: u32 = 0;

/// Set by the loader, then frozen by the kernel.
#[unsafe(no_mangle)]
static NETWORK_SETTINGS: Settings = Settings {
    mark: 0,
    flags: 0,
    protocol: 0,
    cgroup_id: 0,
    cgroup_level: 0,
    loss: 0,
    duplicate: 0,
    relay_ifindex: 0,
    target_ifindex: 0,
};

#[map]
static COUNTS: PerCpuArray<Counts> = PerCpuArray::with_max_entries(1, 0);

#[map]
static RELEASED: Array<u64> = Array::with_max_entries(1, 0);

#[map]
static PEERS: LpmTrie<[u8; ADDRESS_BYTES], u32> = LpmTrie::with_max_entries(MAX_PEERS, 0);

#[map]
static SPARED_PEERS: LpmTrie<[u8; ADDRESS_BYTES], u32> = LpmTrie::with_max_entries(MAX_PEERS, 0);

#[map]
static PORTS: Array<u64> = Array::with_max_entries(2 * PORT_WORDS, 0);

macro_rules! setting {
    ($field:ident) => {
        frozen(&raw const NETWORK_SETTINGS.$field)
    };
}

/// A word as the loader set it, not as it is written above.
#[inline(always)]
fn frozen(word: *const u64) -> u64 {
    // SAFETY: the macro above, its only caller, passes a word of the variable, which is not written any more.
    unsafe { read_volatile(word) }
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn sextant_sieve(skb: *mut __sk_buff) -> i32 {
    let mark = setting!(mark) as u32;
    // SAFETY: the kernel passes a valid packet, which is this program's until it returns.
    unsafe {
        if (*skb).mark == mark {
            // What the relay brings back had no mark before either, or one that served its purpose.
            (*skb).mark = 0;
            return NEXT;
        }
        if RELEASED.get(0).is_none_or(|released| *released != 0) {
            return NEXT;
        }
        let Some(packet) = Packet::of(skb) else { return NEXT };
        if !is_hit(&packet, skb) {
            return NEXT;
        }
        let Some(counts) = COUNTS.get_ptr_mut(0) else { return NEXT };
        // As the wire counts them.
        let pieces = u64::from((*skb).gso_segs.max(1));
        (*counts).matched += pieces;
        (*counts).matched_bytes += u64::from((*skb).len);
        if hits(setting!(loss), &raw mut (*counts).loss_debt, pieces) {
            (*counts).dropped += pieces;
            return bpf_redirect(NOWHERE, 0) as i32;
        }
        let relay = setting!(relay_ifindex) as u32;
        if relay != 0 {
            (*skb).mark = mark;
            return bpf_redirect(relay, 0) as i32;
        }
        if hits(setting!(duplicate), &raw mut (*counts).duplicate_debt, pieces) {
            let before = (*skb).mark;
            // The copy comes by here again, and goes on by its mark.
            (*skb).mark = mark;
            if bpf_clone_redirect(skb, setting!(target_ifindex) as u32, direction()) == 0 {
                (*counts).duplicated += pieces;
            }
            (*skb).mark = before;
        }
    }
    NEXT
}

/// What the TAP sends by itself (neighbour discovery, multicast reports) is nobody's packet.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn sextant_gate(skb: *mut __sk_buff) -> i32 {
    // SAFETY: as above.
    if unsafe { (*skb).mark } == setting!(mark) as u32 { NEXT } else { DROP }
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn sextant_back(skb: *mut __sk_buff) -> i32 {
    // SAFETY: as above.
    unsafe {
        (*skb).mark = setting!(mark) as u32;
        bpf_redirect(setting!(target_ifindex) as u32, direction()) as i32
    }
}

/// Flags of a redirection in this direction.
#[inline(always)]
fn direction() -> u64 {
    if setting!(flags) & INCOMING == 0 { 0 } else { INGRESS }
}

/// Throws for so many packets that are one here, with a chance of [`CERTAIN`] that makes up for throws before.
///
/// # Safety
/// `debt` is this CPU's own.
#[inline(always)]
unsafe fn hits(chance: u64, debt: *mut i64, pieces: u64) -> bool {
    if chance == 0 || chance >= CERTAIN {
        return chance != 0;
    }
    // SAFETY: by the caller's promise; the helper takes nothing.
    unsafe {
        let owed = chance as i64 + *debt / MEMORY_PACKETS as i64;
        let hit = i64::from(bpf_get_prandom_u32()) < owed;
        let pieces = pieces as i64;
        *debt += pieces * chance as i64 - if hit { pieces * CERTAIN as i64 } else { 0 };
        hit
    }
}

#[inline(always)]
fn is_hit(packet: &Packet, skb: *mut __sk_buff) -> bool {
    let flags = setting!(flags);
    if packet.keeps_neighbours() {
        return false;
    }
    let protocol = setting!(protocol);
    if protocol != 0 && u64::from(packet.protocol()) != protocol {
        return false;
    }
    let cgroup = setting!(cgroup_id);
    if cgroup != 0 {
        // SAFETY: the packet is valid; one without a socket is in no cgroup.
        let found = unsafe { bpf_skb_ancestor_cgroup_id(skb, setting!(cgroup_level) as i32) };
        if found != cgroup {
            return false;
        }
    }
    let peer = if flags & INCOMING == 0 { &packet.destination } else { &packet.source };
    let key = Key::new(8 * ADDRESS_BYTES as u32, *peer);
    if SPARED_PEERS.get(&key).is_some() || flags & ONLY_PEERS != 0 && PEERS.get(&key).is_none() {
        return false;
    }
    let Some((from, to)) = packet.ports else { return flags & ONLY_PORTS == 0 };
    if has(PORT_WORDS, from) || has(PORT_WORDS, to) {
        return false;
    }
    flags & ONLY_PORTS == 0 || has(0, from) || has(0, to)
}

/// Whether a port's bit is set in the words from `first` on.
#[inline(always)]
fn has(first: u32, port: u16) -> bool {
    let word = PORTS.get(first + u32::from(port >> 6));
    word.is_some_and(|word| *word >> (port & 63) & 1 != 0)
}
