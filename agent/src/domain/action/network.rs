//! How a network is to be disturbed; texts and combinations are checked where they are understood, with the plan.

use super::{Invalid, Unit, within};

/// Longer, and every protocol has given up.
const MAX_DELAY_MS: f64 = 60_000.0;
const WHOLE_PERCENT: f64 = 100.0;

/// Which protocol is hit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// What it sends.
    #[default]
    Egress,
    /// What it receives.
    Ingress,
}

/// A network that is slow, lossy or cut; 0 is not at all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Network {
    /// What every packet waits, ms.
    pub delay_ms: f64,
    /// By how much that differs at most, up or down, ms.
    pub jitter_ms: f64,
    /// Packets that are lost.
    pub loss_percent: f64,
    /// Packets that arrive twice.
    pub duplicate_percent: f64,
    /// Packets that do not wait the delay, and so overtake.
    pub reorder_percent: f64,
    /// Packets with one bit flipped.
    pub corrupt_percent: f64,
    /// Bits that pass in a second.
    pub rate_bits_per_s: u64,
    /// Nothing passes.
    pub partition: bool,
    /// Names; empty: all with a default route.
    pub interfaces: Vec<String>,
    /// Addresses or networks of the other side; empty: all.
    pub peers: Vec<String>,
    /// Ports of either side; empty: all.
    pub ports: Vec<String>,
    /// Which protocol.
    pub protocol: Protocol,
    /// Which way.
    pub direction: Direction,
    /// Addresses that are spared.
    pub exclude_peers: Vec<String>,
    /// Ports that are spared; none: DNS and DHCP. The node's own are spared in any case.
    pub exclude_ports: Option<Vec<String>>,
}

impl Network {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        within("strength.delay_ms", self.delay_ms, 0.0, MAX_DELAY_MS)?;
        within("strength.jitter_ms", self.jitter_ms, 0.0, MAX_DELAY_MS)?;
        for (field, percent) in [
            ("strength.loss_percent", self.loss_percent),
            ("strength.duplicate_percent", self.duplicate_percent),
            ("strength.reorder_percent", self.reorder_percent),
            ("strength.corrupt_percent", self.corrupt_percent),
        ] {
            within(field, percent, 0.0, WHOLE_PERCENT)?;
        }
        Ok(())
    }

    /// What it is told by, of all that may be asked for together: the first of these.
    pub fn amount(&self) -> (Unit, f64) {
        #[expect(clippy::cast_precision_loss, reason = "a rate below 2^53")]
        let rate = self.rate_bits_per_s as f64;
        if self.partition {
            (Unit::PercentLost, WHOLE_PERCENT)
        } else if self.delay_ms > 0.0 {
            (Unit::Ms, self.delay_ms)
        } else if rate > 0.0 {
            (Unit::BitsPerS, rate)
        } else if self.loss_percent > 0.0 {
            (Unit::PercentLost, self.loss_percent)
        } else if self.duplicate_percent > 0.0 {
            (Unit::PercentDuplicated, self.duplicate_percent)
        } else {
            (Unit::PercentCorrupted, self.corrupt_percent)
        }
    }
}
