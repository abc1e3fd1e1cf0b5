//! Each event is one sample in every real Prometheus that scrapes, whatever becomes of answers and processes; and the
//! reference's algorithm in the same harness is found out.
//!
//! `SEXTANT_EVENTS_LONG` multiplies how much is posted and for how long: `cargo xtask bench events --long`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]
#![expect(clippy::disallowed_methods, reason = "kills processes in real time")]
#![expect(clippy::print_stdout, reason = "says how near the limits a run was")]

mod client;
mod controls;
mod disk;
mod matrix;
mod naive;
mod rig;
mod scrape_time;
mod text;
