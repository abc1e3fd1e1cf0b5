//! The wire: what goes over HTTP and into the spool, one file per API family.
//!
//! Types here are serde types with `From` the domain's; the domain knows nothing of them. Timestamps are
//! RFC 3339 UTC where the reference documents say so, and `*_ns` integers where precision matters.

pub mod alerts;
pub mod anomalies;
pub mod batch;
pub mod bss;
pub mod database;
pub mod envelope;
pub mod events;
pub mod fleet_pods;
pub mod gpu;
pub mod health;
pub mod influx;
pub mod inspect;
pub mod nodes;
pub mod pods;
pub mod queue;
pub mod record;
pub mod runqueue;
pub mod scheduler;
pub mod series;
pub mod status;
pub mod stream;
pub mod table;
pub mod telemetry;
pub mod time;
pub mod usage;
pub mod workloads;
