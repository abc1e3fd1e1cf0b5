//! Tests that need root and a sched_ext kernel. `cargo xtask vm test` runs them in a virtual machine, one at a time.

#![expect(clippy::disallowed_methods, reason = "tests start the real programs and wait in real time")]

#[path = "vm/schedulers.rs"]
mod schedulers;

#[path = "vm/scheduler.rs"]
mod scheduler;

#[path = "vm/ebpf.rs"]
mod ebpf;

#[path = "vm/events.rs"]
mod events;

#[path = "vm/containerd.rs"]
mod containerd;

#[path = "vm/pods.rs"]
mod pods;

#[path = "vm/usage.rs"]
mod usage;

#[path = "vm/roles.rs"]
mod roles;

#[path = "vm/runqlat.rs"]
mod runqlat;

#[path = "vm/faults.rs"]
mod faults;

#[path = "vm/watchdog.rs"]
mod watchdog;

#[path = "vm/anomalies.rs"]
mod anomalies;

#[path = "vm/units.rs"]
mod units;
