//! Network anomalies: packets of one network namespace that are lost, doubled, damaged, held or slowed down on purpose.
//!
//! For each interface a program of ours is attached by a link (TCX) that a file descriptor of this process holds. It
//! decides packet by packet who is hit, and drops or doubles by itself (`sieve`). What must wait goes through a TAP, held
//! by a descriptor too, into this process and back to where it was taken from (`relay`, `queue`). Nothing else of the node
//! is touched: no queueing discipline, no rule, no route, nothing pinned. So when this process ends, however it ends,
//! the kernel drops all of it and the network is what it was.
//!
//! One fault at a time on an interface: a second one is refused, whoever began the first. Packets that the kernel or a
//! network card handles as one are one for the loss and duplication of a fault without delay, as on any software switch;
//! where packets are held and anything happens to single ones, they are taken apart first.
//!
//! What is held was sent by nobody any more: the sender's socket is not told to wait, the packet's mark and priority are
//! 0 afterwards, and other programs on the interface see it once, when it goes on.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::system::uname;
use rustix::thread::{CapabilitySet, LinkNameSpaceType, capabilities, move_into_link_name_space};
use thiserror::Error;

use crate::kernel::programs::LoadError;
use crate::kernel::tap::DEVICE;

mod interfaces;
mod order;
mod queue;
mod relay;
mod sieve;
mod text;

pub use order::{Direction, Exclude, Fault, Filter, Order, Protocol};
pub use relay::{Running, Seen, Why};
pub use text::{Ports, Prefix, TextError};

use sieve::Lane;

/// The first kernel whose links of this kind end with their descriptor.
const TCX_SINCE: (u32, u32) = (6, 6);

/// Why a fault did not begin.
#[derive(Debug, Error)]
enum Refusal {
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{}: another network namespace by now", .0.display())]
    OtherNamespace(PathBuf),
    #[error(
        "no interface of this network namespace has a default route, or too many have: name those that are meant"
    )]
    NoInterface,
    #[error("interface {name}: {source}")]
    Interface { name: String, source: io::Error },
    #[error("interface {0} has no Ethernet frames: only those can be held")]
    NotEthernet(String),
    #[error("interface {0} has an anomaly already")]
    Taken(String),
    #[error("a TAP for what is held ({DEVICE}): {0}")]
    Tap(io::Error),
    #[error("{}: no cgroup of the unified hierarchy as its root sees it", .0.display())]
    Cgroup(PathBuf),
    #[error("{}", .0.said())]
    Program(#[from] LoadError),
    #[error("a thread for the target's network namespace: {0}")]
    Thread(io::Error),
}

/// Begins a fault that [`Order::check`] passes; over when the result is dropped or this process ends.
///
/// # Errors
/// Why not, with all that this process or kernel lacks for it; nothing was left behind.
pub fn begin(order: &Order) -> Result<Running, String> {
    order.check().map_err(|invalid| invalid.to_string())?;
    let lanes = lanes(order).map_err(|refusal| match probe(&order.fault) {
        Ok(()) => refusal.to_string(),
        Err(lacks) => format!("{refusal}; {lacks}"),
    })?;
    Ok(Running::new(lanes, &order.fault))
}

/// Whether this process may do this fault on this kernel, without doing any of it.
///
/// # Errors
/// All that is missing.
pub fn probe(fault: &Fault) -> Result<(), String> {
    let mut lacks = Vec::new();
    if !has_tcx() {
        let (major, minor) = TCX_SINCE;
        lacks.push(format!("links of programs to interfaces (TCX), which Linux has since {major}.{minor}"));
    }
    if fault.needs_relay()
        && let Err(errno) = open(DEVICE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
    {
        lacks.push(format!("{DEVICE}: {errno}"));
    }
    let held = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    let wanted = [
        (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
        (CapabilitySet::BPF, "CAP_BPF"),
        (CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN (for the network namespaces of others)"),
    ];
    lacks.extend(wanted.iter().filter(|(one, _)| !held.contains(*one)).map(|(_, name)| (*name).to_owned()));
    if lacks.is_empty() { Ok(()) } else { Err(format!("network anomalies need {}", lacks.join(", "))) }
}

fn has_tcx() -> bool {
    let release = uname();
    let release = release.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse().ok());
    // One that cannot be read is tried.
    numbers.next().zip(numbers.next()).is_none_or(|version| version >= TCX_SINCE)
}

/// Attaches to every interface or to none, from a thread that moves into the target's network namespace and ends there.
fn lanes(order: &Order) -> Result<Vec<Lane>, Refusal> {
    let Some(path) = &order.netns else { return lanes_here(order) };
    let fail = |source| Refusal::File { path: path.clone(), source };
    let file = File::open(path).map_err(fail)?;
    let inode = file.metadata().map_err(fail)?.ino();
    if order.netns_inode.is_some_and(|wanted| wanted != inode) {
        return Err(Refusal::OtherNamespace(path.clone()));
    }
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().name("netns".to_owned());
        let inside = builder.spawn_scoped(scope, || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(|errno| fail(errno.into()))?;
            lanes_here(order)
        });
        let joined = inside.map_err(Refusal::Thread)?.join();
        joined.unwrap_or_else(|_| Err(Refusal::Thread(io::Error::other("it panicked"))))
    })
}

fn lanes_here(order: &Order) -> Result<Vec<Lane>, Refusal> {
    let cgroup = order.cgroup.as_deref().map(cgroup).transpose()?;
    let names = interfaces::chosen(&order.interfaces)?;
    names.iter().map(|name| Lane::attach(name, order, cgroup)).collect()
}

/// A cgroup's id and how deep it lies below the root of the unified hierarchy.
fn cgroup(path: &Path) -> Result<(u64, u64), Refusal> {
    /// Of the hierarchy's root, whoever mounts it; a namespace's root has another one.
    const ROOT_INODE: u64 = 1;
    /// `CGROUP2_SUPER_MAGIC` of the kernel.
    const UNIFIED: u64 = 0x6367_7270;
    let fail = |source| Refusal::File { path: path.to_owned(), source };
    let whole = path.canonicalize().map_err(fail)?;
    let mut found = None;
    for (level, group) in (0..).zip(whole.ancestors()) {
        let kind = rustix::fs::statfs(group).map_err(|errno| fail(errno.into()))?;
        if u64::try_from(kind.f_type) != Ok(UNIFIED) {
            break;
        }
        let inode = group.metadata().map_err(fail)?.ino();
        let id = *found.get_or_insert(inode);
        if inode == ROOT_INODE {
            return Ok((id, level));
        }
    }
    Err(Refusal::Cgroup(path.to_owned()))
}

/// Waits for `watched` until `timeout_ns` is over; whether it has something to say, or was closed.
fn is_ready(watched: Option<BorrowedFd<'_>>, timeout_ns: u64) -> bool {
    let mut fds: Vec<_> = watched.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    // An interrupted wait is a shorter one.
    poll(&mut fds, Some(&relay::timespec(timeout_ns))).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_is_none_is_named() {
        let fault = Fault { loss_percent: 1.0, ..Fault::default() };
        let order = Order { fault, ..Order::default() };
        let nowhere = Order { netns: Some("/proc/0/ns/net".into()), ..order.clone() };
        assert!(begin(&nowhere).unwrap_err().starts_with("/proc/0/ns/net: "));
        let changed =
            Order { netns: Some("/proc/self/ns/net".into()), netns_inode: Some(1), ..order.clone() };
        assert!(begin(&changed).unwrap_err().contains("another network namespace by now"));
        let group = Order { cgroup: Some("/proc".into()), ..order.clone() };
        assert!(begin(&group).unwrap_err().contains("no cgroup of the unified hierarchy"));
        let interface = Order { interfaces: vec!["no-such".to_owned()], ..order };
        assert!(begin(&interface).unwrap_err().starts_with("interface no-such: "));
    }

    #[test]
    fn an_unchecked_order_does_not_begin() {
        assert!(begin(&Order::default()).unwrap_err().contains("asks for nothing"));
    }
}
