//! What a network anomaly is told: where, what is hit, what is spared, how hard.
//!
//! Anything may arrive in an [`Order`]; [`Order::check`] passes only what has a meaning, so that nothing behind it meets
//! a NaN or a fault without an effect.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::text::{Ports, Prefix};
use crate::domain::action::Invalid;

/// Longer, and every protocol has given up.
const MAX_DELAY_NS: u64 = 60_000_000_000;
/// Slower, and one packet takes seconds.
const MIN_RATE: u64 = 8_000;
/// Faster than any interface.
const MAX_RATE: u64 = 1_000_000_000_000;
/// Interfaces of one fault; each has a program and a TAP of its own.
const MAX_INTERFACES: usize = 8;
/// `IFNAMSIZ` of the kernel, less its final zero.
const MAX_NAME_BYTES: usize = 15;
/// Ranges of ports in a request; all ports are one.
const MAX_PORT_RANGES: usize = 256;
/// The most that the program's tries hold.
const MAX_PEERS: usize = agent_ebpf::network::MAX_PEERS as usize;

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Order {
    /// The network namespace's file, such as `/proc/PID/ns/net` below the host's proc root; none: this process's.
    pub netns: Option<PathBuf>,
    /// The inode that this file must have, so that no other process's namespace is hit when the pid was given out again.
    pub netns_inode: Option<u64>,
    /// Names in that namespace; empty: all with a default route.
    pub interfaces: Vec<String>,
    /// Directory of a cgroup in the unified hierarchy, as seen from its root: only its sockets' packets are hit. For
    /// targets that share the node's network.
    pub cgroup: Option<PathBuf>,
    /// What is hit.
    pub filter: Filter,
    /// What of that is spared.
    pub exclude: Exclude,
    /// How hard.
    pub fault: Fault,
}

/// What is hit: packets that fit all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// Addresses of the other side; empty: all.
    pub peers: Vec<Prefix>,
    /// Ports of either side, TCP and UDP; empty: all, and packets without ports.
    pub ports: Vec<Ports>,
    /// Which protocol.
    pub protocol: Protocol,
    /// Which way.
    pub direction: Direction,
}

/// Which protocol is hit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// All that IPv4 and IPv6 carry.
    #[default]
    Any,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP and `ICMPv6`, but never neighbour discovery.
    Icmp,
}

/// Which way packets go that are hit, as the target sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// What it sends.
    #[default]
    Egress,
    /// What it receives.
    Ingress,
}

/// What is spared, whatever the filter says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Exclude {
    /// Addresses of the other side.
    pub peers: Vec<Prefix>,
    /// Ports of either side. By default DNS, whose failure looks like any other's, and DHCP, whose lost lease outlives
    /// the fault; the node's own port is its owner's to add.
    pub ports: Vec<Ports>,
}

impl Default for Exclude {
    fn default() -> Self {
        let ports = [53..=53, 67..=68, 546..=547].map(Ports::from);
        Self { peers: Vec::new(), ports: ports.into() }
    }
}

/// How hard; 0 is not at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fault {
    /// What every packet waits.
    pub delay_ns: u64,
    /// By how much that differs at most, up or down, evenly spread; neighbours may overtake each other.
    pub jitter_ns: u64,
    /// Packets that are lost.
    pub loss_percent: f64,
    /// Packets that arrive twice.
    pub duplicate_percent: f64,
    /// Packets that do not wait the delay, and so overtake.
    pub reorder_percent: f64,
    /// Packets with one bit flipped in what IP carries.
    pub corrupt_percent: f64,
    /// Frames' bits, from their Ethernet header on, that pass in a second; on each interface.
    pub rate_bits_per_s: u64,
    /// Nothing passes.
    pub partition: bool,
}

impl Fault {
    /// Whether packets must be held by a process: the kernel's part alone only drops and doubles.
    pub(super) fn needs_relay(&self) -> bool {
        self.delay_ns > 0 || self.corrupt_percent > 0.0 || self.rate_bits_per_s > 0
    }

    /// Whether something happens to single packets, so that none may be handled together with others.
    pub(super) fn is_by_packet(&self) -> bool {
        self.percents().iter().any(|(_, percent)| *percent > 0.0) || self.rate_bits_per_s > 0
    }

    const fn percents(&self) -> [(&'static str, f64); 4] {
        [
            ("strength.loss_percent", self.loss_percent),
            ("strength.duplicate_percent", self.duplicate_percent),
            ("strength.reorder_percent", self.reorder_percent),
            ("strength.corrupt_percent", self.corrupt_percent),
        ]
    }

    fn check(&self) -> Result<(), Invalid> {
        let nothing = Self { partition: self.partition, ..Self::default() };
        if self.partition && *self != nothing {
            return invalid("strength.partition", "nothing passes a partition: ask for nothing else with it");
        }
        if !self.partition && *self == nothing {
            return invalid(
                "strength",
                "asks for nothing: give a delay, a rate, a percentage or a partition",
            );
        }
        for (field, percent) in self.percents() {
            // NaN is in no range.
            if !(0.0..=100.0).contains(&percent) {
                return invalid(field, format!("{percent} is not within 0 to 100"));
            }
        }
        if self.delay_ns > MAX_DELAY_NS {
            return invalid("strength.delay_ms", format!("more than {} s", MAX_DELAY_NS / 1_000_000_000));
        }
        if self.jitter_ns > self.delay_ns {
            return invalid(
                "strength.jitter_ms",
                "more than the delay: no packet arrives before it was sent",
            );
        }
        if self.reorder_percent > 0.0 && self.delay_ns == 0 {
            return invalid("strength.reorder_percent", "packets overtake by not waiting: give a delay too");
        }
        if self.rate_bits_per_s != 0 && !(MIN_RATE..=MAX_RATE).contains(&self.rate_bits_per_s) {
            let why = format!("{} bits/s is not within {MIN_RATE} to {MAX_RATE}", self.rate_bits_per_s);
            return invalid("strength.rate_bits_per_s", why);
        }
        Ok(())
    }

    /// In words.
    fn said(&self) -> String {
        let milliseconds = |ns: u64| std::time::Duration::from_nanos(ns).as_secs_f64() * 1e3;
        let mut said = Vec::new();
        if self.partition {
            said.push("drop every packet".to_owned());
        }
        if self.delay_ns > 0 {
            let jitter = match self.jitter_ns {
                0 => String::new(),
                jitter => format!(" +- {} ms", milliseconds(jitter)),
            };
            said.push(format!("delay packets by {} ms{jitter}", milliseconds(self.delay_ns)));
        }
        for (verb, percent) in [
            ("lose", self.loss_percent),
            ("duplicate", self.duplicate_percent),
            ("reorder", self.reorder_percent),
            ("corrupt", self.corrupt_percent),
        ] {
            if percent > 0.0 {
                said.push(format!("{verb} {percent} %"));
            }
        }
        if self.rate_bits_per_s > 0 {
            said.push(format!("let {} bits pass in a second", self.rate_bits_per_s));
        }
        said.join(", ")
    }
}

impl Order {
    /// Checks what does not depend on the node.
    ///
    /// # Errors
    /// The first field that cannot be.
    pub fn check(&self) -> Result<(), Invalid> {
        self.fault.check()?;
        if self.interfaces.len() > MAX_INTERFACES {
            return invalid("strength.interfaces", format!("more than {MAX_INTERFACES}"));
        }
        let names = self.interfaces.iter().enumerate();
        for (at, name) in names {
            let is_name = !name.is_empty()
                && name.len() <= MAX_NAME_BYTES
                && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b'%');
            if !is_name || self.interfaces[..at].contains(name) {
                return invalid("strength.interfaces", format!("{name:?} is no name, or twice there"));
            }
        }
        let Filter { peers, ports, direction, .. } = &self.filter;
        for (field, peers) in [("strength.peers", peers), ("strength.exclude.peers", &self.exclude.peers)] {
            if peers.len() > MAX_PEERS {
                return invalid(field, format!("more than {MAX_PEERS}"));
            }
        }
        for (field, ports) in [("strength.ports", ports), ("strength.exclude.ports", &self.exclude.ports)] {
            if ports.len() > MAX_PORT_RANGES {
                return invalid(field, format!("more than {MAX_PORT_RANGES} ranges"));
            }
        }
        if !ports.is_empty() && self.filter.protocol == Protocol::Icmp {
            return invalid("strength.ports", "icmp has none");
        }
        if self.fault.partition && peers.is_empty() && ports.is_empty() {
            let why = "from whom: give peers or ports (0.0.0.0/0 and ::/0 are everybody)";
            return invalid("strength.partition", why);
        }
        if self.cgroup.is_some() && *direction == Direction::Ingress {
            let why = "a packet that comes in has no socket yet, so no cgroup: only egress can be told apart";
            return invalid("strength.direction", why);
        }
        Ok(())
    }

    /// What is done, in words.
    pub fn words(&self) -> String {
        let interfaces = match &*self.interfaces {
            [] => "every interface with a default route".to_owned(),
            names => names.join(", "),
        };
        let list = |items: Vec<String>, all: &str| match &*items {
            [] => all.to_owned(),
            items => items.join(", "),
        };
        let direction = match self.filter.direction {
            Direction::Egress => "to",
            Direction::Ingress => "from",
        };
        let peers = list(self.filter.peers.iter().map(ToString::to_string).collect(), "everybody");
        let ports = list(self.filter.ports.iter().map(ToString::to_string).collect(), "all");
        let spared = list(self.exclude.ports.iter().map(ToString::to_string).collect(), "none");
        let place = self.netns.as_ref().map_or_else(String::new, |path| format!(" of {}", path.display()));
        let held = if self.fault.needs_relay() {
            "hold those packets in a worker, behind a TAP for each interface; "
        } else {
            ""
        };
        format!(
            "{held}attach a program to {interfaces}{place}: {} {direction} {peers}, ports {ports}, sparing {spared}",
            self.fault.said(),
        )
    }
}

fn invalid<T>(field: &'static str, why: impl Into<String>) -> Result<T, Invalid> {
    Err(Invalid { field, why: why.into() })
}

#[cfg(test)]
mod tests;
