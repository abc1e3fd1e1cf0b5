//! Both roles in the virtual machine, beside a real scheduler under load.

use std::net::TcpListener;

use anyhow::Result;

use super::{Args, NODE_PORT, RECEIVER_PORT};
use crate::vm;

/// Boots, starts everything, and stays until Ctrl-C stops QEMU.
pub(super) fn main(args: &Args) -> Result<u8> {
    let node = port(NODE_PORT)?;
    let receiver = port(RECEIVER_PORT)?;
    eprintln!("booting; the curls below answer once the guest says `ready` (10 to 60 s without KVM)");
    super::greet(&format!("http://127.0.0.1:{node}"), &format!("http://127.0.0.1:{receiver}"));
    eprintln!("Ctrl-C stops the machine.\n");
    let forward = vec![(node, NODE_PORT), (receiver, RECEIVER_PORT)];
    vm::serve(&args.kernel, &script(&args.scheduler), forward)
}

/// What the guest does: scheduler first, then load, then the two roles. Its end ends the machine.
///
/// The scheduler may be ejected: an emulated machine on a busy host can be slower than the 5 s that it grants a task.
/// It is started again, which is also something to look at.
fn script(scheduler: &str) -> String {
    let scheduler = vm::quote(scheduler);
    format!(
        "set -e\n\
         (while :; do\n\
           ./schedulers/{scheduler} >>/tmp/scheduler.log 2>&1\n\
           echo \"the scheduler ended and is started again: $(dmesg | grep sched_ext: | tail -1)\"; sleep 2\n\
         done) &\n\
         for i in $(seq 600); do\n\
           [ \"$(cat /sys/kernel/sched_ext/state)\" = enabled ] && break; sleep 0.1\n\
         done\n\
         echo \"scheduler: $(cat /sys/kernel/sched_ext/root/ops)\"\n\
         stress-ng --quiet --cpu 1 --cpu-load 30 --switch 1 --switch-freq 200 &\n\
         ./sextant receiver --listen 127.0.0.1:{RECEIVER_PORT} --data-dir /tmp/receiver &\n\
         ./sextant node --listen 127.0.0.1:{NODE_PORT} --data-dir /tmp/node \\\n\
           --receiver http://127.0.0.1:{RECEIVER_PORT} &\n\
         for i in $(seq 600); do\n\
           curl -so /dev/null --fail http://127.0.0.1:{NODE_PORT}/readyz && break; sleep 0.1\n\
         done\n\
         echo ready\n\
         wait -n\n\
         echo 'a process ended'; exit 1\n"
    )
}

/// The usual port, or any free one.
fn port(usual: u16) -> Result<u16> {
    let free = TcpListener::bind(("127.0.0.1", super::free_or_any(usual)))?;
    Ok(free.local_addr()?.port())
}
