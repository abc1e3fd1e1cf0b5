//! `cargo xtask up`: a receiver and a node on this machine, or both in a virtual machine beside a real sched_ext
//! scheduler under load. Prints the addresses and the curls to try, and stops cleanly on Ctrl-C.

mod role;
mod vm;

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::geteuid;

use role::Role;

/// Start a receiver and a node here and print what to try
#[derive(clap::Args)]
pub(crate) struct Args {
    /// In a virtual machine with a real sched_ext scheduler under load; ports reachable on loopback
    #[arg(long)]
    vm: bool,
    /// Kernel of the virtual machine: `newest`, or a series such as 6.18
    #[arg(long, default_value = "newest", requires = "vm")]
    kernel: String,
    /// Scheduler of the virtual machine
    #[arg(long, default_value = "scx_rustland-1.1.4", requires = "vm")]
    scheduler: String,
    /// Build with optimisation: slower to start, true figures for CPU and memory
    #[arg(long)]
    release: bool,
}

/// Where the roles listen unless the port is taken.
const NODE_PORT: u16 = 8090;
const RECEIVER_PORT: u16 = 8080;

/// Runs until Ctrl-C, or until a role ends by itself, which is a failure.
pub(crate) fn main(args: &Args) -> Result<u8> {
    if args.vm { vm::main(args) } else { here(args.release) }
}

fn here(release: bool) -> Result<u8> {
    let sextant = crate::build_sextant(release)?;
    let data = crate::workspace().join("target/up");
    let (stop, stopped) = sync_channel(1);
    ctrlc::set_handler(move || {
        let _ = stop.try_send(());
    })
    .context("cannot catch Ctrl-C")?;

    let mut receiver = Role::start(&sextant, "receiver", RECEIVER_PORT, &data, &[])?;
    let mut node = Role::start(&sextant, "node", NODE_PORT, &data, &["--receiver", &receiver.url])?;
    greet(&node.url, &receiver.url);
    eprintln!("  logs and data   {}", data.display());
    if !geteuid().is_root() {
        eprintln!(
            "\nNot root: the scheduler's variables stay closed (opening another program's BPF maps needs\n\
             CAP_SYS_ADMIN), and so do the container runtime's socket and state files, so pods may lack names.\n\
             {}/status says it per source.",
            node.url
        );
    }
    eprintln!("\nCtrl-C stops both.");
    let ended = loop {
        match stopped.recv_timeout(Duration::from_millis(500)) {
            Ok(()) | Err(RecvTimeoutError::Disconnected) => break None,
            Err(RecvTimeoutError::Timeout) => {}
        }
        if let Some(end) = node.ended()?.or(receiver.ended()?) {
            break Some(end);
        }
    };
    eprintln!("\nstopping");
    // The node first: its last batch goes to a receiver that still listens.
    node.stop()?;
    receiver.stop()?;
    match ended {
        Some(end) => bail!("{end}"),
        None => Ok(0),
    }
}

/// What a person can try now.
fn greet(node: &str, receiver: &str) {
    eprintln!(
        "\nSextant is up.\n\n  \
           node            {node}\n  \
           receiver        {receiver}\n\n\
         Try:\n  \
           curl -s {node}/status\n  \
           curl -s {node}/api/v1/schedulers\n  \
           curl -s {node}/api/v1/pods/pids\n  \
           curl -s {node}/metrics\n  \
           curl -s {receiver}/api/v1/nodes\n  \
           curl -s {receiver}/api/v1/pods/pids\n"
    );
}

/// The port if nobody listens there, else 0: the kernel picks one.
fn free_or_any(port: u16) -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", port)).map_or(0, |_| port)
}
