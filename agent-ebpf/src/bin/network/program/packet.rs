//! What of a packet decides whether it is hit: addresses, protocol, ports.
//!
//! Only IPv4 and IPv6 directly in an Ethernet frame: what is in a tunnel is hit as the tunnel's packet, and ARP never.

use agent_ebpf::network::{ADDRESS_BYTES, MAPPED, Settings};
use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::programs::TcContext;

const ETHERNET_BYTES: usize = 14;
const IPV6_BYTES: usize = 40;
/// Ethernet's names of the two.
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// Headers between IPv6's own and what it carries; honest packets have one or two.
const MAX_EXTENSIONS: usize = 6;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
/// IPv6's extension headers.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const OPTIONS: u8 = 60;
/// Not the first fragment: it begins with no header.
const LATER_FRAGMENT: u8 = 255;

/// See the module.
pub(super) struct Packet {
    pub(super) source: [u8; ADDRESS_BYTES],
    pub(super) destination: [u8; ADDRESS_BYTES],
    /// Source and destination; none of protocols without, and of later fragments.
    pub(super) ports: Option<(u16, u16)>,
    transport: u8,
    /// `ICMPv6`'s type.
    kind: u8,
    /// Of the whole, also where this is a later fragment.
    protocol: u8,
}

impl Packet {
    /// `None` of what is never hit.
    #[inline(always)]
    pub(super) fn of(skb: *mut __sk_buff) -> Option<Self> {
        let context = TcContext::new(skb);
        // SAFETY: the caller's packet is valid.
        let ethertype = u16::from_be(unsafe { (*skb).protocol } as u16);
        let (mut packet, at) = match ethertype {
            IPV4 => Self::of_ipv4(&context)?,
            IPV6 => Self::of_ipv6(&context)?,
            _ => return None,
        };
        match packet.transport {
            TCP | UDP => {
                let [from, to]: [[u8; 2]; 2] = context.load(at).ok()?;
                packet.ports = Some((u16::from_be_bytes(from), u16::from_be_bytes(to)));
            }
            ICMPV6 => packet.kind = context.load(at).ok()?,
            _ => {}
        }
        Some(packet)
    }

    /// The packet, and where its transport's header begins.
    #[inline(always)]
    fn of_ipv4(context: &TcContext) -> Option<(Self, usize)> {
        let header: [u8; 20] = context.load(ETHERNET_BYTES).ok()?;
        let (mut source, mut destination) = ([0; ADDRESS_BYTES], [0; ADDRESS_BYTES]);
        source[..12].copy_from_slice(&MAPPED);
        destination[..12].copy_from_slice(&MAPPED);
        source[12..].copy_from_slice(&header[12..16]);
        destination[12..].copy_from_slice(&header[16..20]);
        let first = u16::from_be_bytes([header[6], header[7]]) & 0x1fff == 0;
        let protocol = header[9];
        let transport = if first { protocol } else { LATER_FRAGMENT };
        let at = ETHERNET_BYTES + usize::from(header[0] & 0xf) * 4;
        Some((Self { source, destination, ports: None, transport, kind: 0, protocol }, at))
    }

    #[inline(always)]
    fn of_ipv6(context: &TcContext) -> Option<(Self, usize)> {
        let next: u8 = context.load(ETHERNET_BYTES + 6).ok()?;
        let source = context.load(ETHERNET_BYTES + 8).ok()?;
        let destination = context.load(ETHERNET_BYTES + 24).ok()?;
        let (mut protocol, mut at, mut first) = (next, ETHERNET_BYTES + IPV6_BYTES, true);
        for _ in 0..MAX_EXTENSIONS {
            match protocol {
                HOP_BY_HOP | ROUTING | OPTIONS => {
                    let header: [u8; 2] = context.load(at).ok()?;
                    protocol = header[0];
                    at += (usize::from(header[1]) + 1) * 8;
                }
                FRAGMENT => {
                    let header: [u8; 4] = context.load(at).ok()?;
                    protocol = header[0];
                    first &= u16::from_be_bytes([header[2], header[3]]) & 0xfff8 == 0;
                    at += 8;
                }
                _ => break,
            }
            if !first {
                break;
            }
        }
        let transport = if first { protocol } else { LATER_FRAGMENT };
        Some((Self { source, destination, ports: None, transport, kind: 0, protocol }, at))
    }

    /// As settings name it.
    #[inline(always)]
    pub(super) fn protocol(&self) -> u8 {
        if self.protocol == ICMPV6 { Settings::ICMP as u8 } else { self.protocol }
    }

    /// Neighbour discovery, router advertisements and multicast membership: without them a host is not far, it is gone,
    /// and stays so for a while after the fault.
    #[inline(always)]
    pub(super) fn keeps_neighbours(&self) -> bool {
        self.transport == ICMPV6 && matches!(self.kind, 130..=137 | 143)
    }
}

const _: () = assert!(Settings::ICMP == ICMP as u64);
