//! Network anomalies by the real binary, on a cable between two network namespaces: exactly as strong as asked, nothing
//! else touched, and gone whatever happens to the worker. Needs root.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]
#![expect(clippy::disallowed_methods, reason = "waits in real time, and starts a shell in a cgroup")]

mod contained;
mod kill;
mod node;
mod place;
mod strength;

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use sextant_tests::netns::Lab;

/// Times and rates are measured: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());
const PORT: u16 = 7_001;
const MS: Duration = Duration::from_millis(1);

fn lab(name: &str) -> (MutexGuard<'static, ()>, Lab) {
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    (alone, Lab::new(name).unwrap())
}

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

fn count(seen: &Value, field: &str) -> u64 {
    seen[field].as_u64().unwrap_or_else(|| panic!("{seen} has no {field}"))
}
