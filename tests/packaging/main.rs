//! What an operator installs: systemd units, Kubernetes manifests, the image. Each is judged by the tool that its
//! platform would use, and each command line in it is parsed by the real binary.
//!
//! The tools come from `cargo xtask fetch`; without them these tests fail and say so.

#![expect(clippy::disallowed_methods, reason = "tests start processes and read the environment")]
#![expect(clippy::panic, reason = "a helper's failure is its test's failure")]

mod arguments;
mod image;
mod manifests;
mod notify;
mod tool;
mod units;
