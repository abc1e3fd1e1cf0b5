//! A network: that of the target's namespace, or of its cgroup where it shares the node's.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::{Error, Facts, Plan, Step, at_once};
use crate::actions::namespaces::{self, inode};
use crate::actions::network::{self, Exclude, Filter, Order, Ports};
use crate::actions::order::{self, Measure, Who, Work};
use crate::actions::worker::pids;
use crate::domain::action::{Direction, Fault, Invalid, Network, Protocol, Target, Unit};

const UNDO: &str =
    "end the worker: the kernel drops its programs and interfaces with its file descriptors, however it ends";
const OWN_NETNS: &str = "/proc/self/ns/net";

pub(super) fn plan(fault: &Fault, wanted: &Network, facts: &Facts<'_>) -> Result<Plan, Error> {
    at_once(fault, "a network changes")?;
    let place = namespace(fault, facts)?;
    let peers = parsed("strength.exclude_peers", &wanted.exclude_peers)?;
    let mut exclude = Exclude { peers, ..Exclude::default() };
    if let Some(ports) = &wanted.exclude_ports {
        exclude.ports = parsed("strength.exclude_ports", ports)?;
    }
    if place.is_nodes {
        exclude.ports.extend(facts.own_ports.iter().map(|port| Ports::from(*port..=*port)));
    }
    let order = Order {
        netns: place.path,
        netns_inode: place.inode,
        interfaces: wanted.interfaces.clone(),
        cgroup: place.cgroup,
        filter: Filter {
            peers: parsed("strength.peers", &wanted.peers)?,
            ports: parsed("strength.ports", &wanted.ports)?,
            protocol: protocol(wanted.protocol),
            direction: direction(wanted.direction),
        },
        exclude,
        fault: network::Fault {
            delay_ns: ns(wanted.delay_ms),
            jitter_ns: ns(wanted.jitter_ms),
            loss_percent: wanted.loss_percent,
            duplicate_percent: wanted.duplicate_percent,
            reorder_percent: wanted.reorder_percent,
            corrupt_percent: wanted.corrupt_percent,
            rate_bits_per_s: wanted.rate_bits_per_s,
            partition: wanted.partition,
        },
    };
    order.check()?;
    network::probe(&order.fault).map_err(Error::Failed)?;
    let (unit, amount) = wanted.amount();
    let does = order.words();
    let work = Work::Network { order: Box::new(order), measure: measure(unit) };
    // Beside its target: what it does is the node's to pay, and the target's limits do not slow it down.
    let order = order::Order { groups: Vec::new(), ..facts.order(fault, work) };
    Ok(Plan { steps: vec![Step { does, undo: UNDO, order }], unit, amount })
}

/// Whose network it is.
struct Namespace {
    /// None: this process's own.
    path: Option<PathBuf>,
    inode: Option<u64>,
    /// It is the node's, and a target in it is only known by its cgroup.
    is_nodes: bool,
    cgroup: Option<PathBuf>,
}

fn namespace(fault: &Fault, facts: &Facts<'_>) -> Result<Namespace, Invalid> {
    let proc = &facts.roots.proc;
    let of_node = of_node(proc);
    let pid = match &fault.asked().target {
        Target::Node => return Ok(of_node),
        Target::Pid(pid) => *pid,
        target => {
            let who =
                Who { proc: proc.clone(), pid: None, groups: facts.place.own.clone(), spare: Vec::new() };
            *pids(&who).first().ok_or_else(|| invalid("target", format!("{target} has no process")))?
        }
    };
    let path = proc.join(pid.to_string()).join("ns/net");
    let Some(inode) = inode(&path) else {
        return Err(invalid(
            "target",
            format!("{}: the network of process {pid} cannot be looked at", path.display()),
        ));
    };
    if Some(inode) != of_node.inode {
        return Ok(Namespace { path: Some(path), inode: Some(inode), is_nodes: false, cgroup: None });
    }
    let unified = facts.place.own.iter().find(|group| group.join("cgroup.controllers").exists());
    let Some(cgroup) = unified.cloned() else {
        let why = "shares the node's network and has no cgroup of its own in the unified hierarchy: it cannot be told apart";
        return Err(invalid("target", why.to_owned()));
    };
    Ok(Namespace { cgroup: Some(cgroup), ..of_node })
}

/// The node's network, which is not this process's where that runs in a container.
fn of_node(proc: &Path) -> Namespace {
    let (path, inode) = match namespaces::of_host(proc, "net") {
        Some((path, inode)) => (Some(path), Some(inode)),
        None => (None, inode(Path::new(OWN_NETNS))),
    };
    Namespace { path, inode, is_nodes: true, cgroup: None }
}

fn parsed<T: FromStr<Err: std::fmt::Display>>(
    field: &'static str,
    texts: &[String],
) -> Result<Vec<T>, Invalid> {
    texts.iter().map(|text| text.parse().map_err(|error: T::Err| invalid(field, error.to_string()))).collect()
}

/// Checked: not negative, not beyond minutes.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked by the fault")]
fn ns(ms: f64) -> u64 {
    (ms * 1e6).round() as u64
}

const fn measure(unit: Unit) -> Measure {
    match unit {
        Unit::Ms => Measure::Delay,
        Unit::BitsPerS => Measure::Bits,
        Unit::PercentDuplicated => Measure::Duplicated,
        Unit::PercentCorrupted => Measure::Corrupted,
        _ => Measure::Lost,
    }
}

const fn protocol(protocol: Protocol) -> network::Protocol {
    match protocol {
        Protocol::Any => network::Protocol::Any,
        Protocol::Tcp => network::Protocol::Tcp,
        Protocol::Udp => network::Protocol::Udp,
        Protocol::Icmp => network::Protocol::Icmp,
    }
}

const fn direction(direction: Direction) -> network::Direction {
    match direction {
        Direction::Egress => network::Direction::Egress,
        Direction::Ingress => network::Direction::Ingress,
    }
}

const fn invalid(field: &'static str, why: String) -> Invalid {
    Invalid { field, why }
}
