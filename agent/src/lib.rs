//! Sextant: one binary for Linux nodes scheduled by sched_ext, in two roles, `node` and `receiver`.
//!
//! `ARCHITECTURE.md` beside this crate is the map: rooms, allowed arrows, invariants.

pub mod actions;
pub mod alerts;
pub mod api;
pub mod app;
pub mod cli;
pub mod config;
pub mod delivery;
pub mod disk;
pub mod domain;
pub mod events;
pub mod host;
pub mod http;
pub mod kernel;
pub mod mysql;
pub mod prometheus;
pub mod queue;
pub mod receiver;
mod rpc;
pub mod series;
pub mod sources;
pub mod store;
pub mod task;
pub mod telemetry;
pub mod tls;
pub mod workloads;
