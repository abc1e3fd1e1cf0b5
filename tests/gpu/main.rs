//! GPUs: a file of samples sent to a receiver that is a process, and a node that reads exporters, a kubelet and a library.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]
#![expect(clippy::disallowed_methods, reason = "starts and kills processes in real time")]

mod http;
mod node;
mod replay;
