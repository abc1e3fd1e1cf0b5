//! Harness shared by the integration tests.

pub mod alertmanager;
pub mod bpftool;
pub mod cpu;
pub mod exposition;
pub mod fault_proxy;
pub mod faulty;
pub mod following;
pub mod gpu_load;
pub mod hand_made;
pub mod keep_alive;
pub mod many_nodes;
pub mod mariadb;
pub mod nats;
pub mod netns;
pub mod process;
pub mod prometheus;
pub mod provoke;
pub mod remote_write;
pub mod role;
pub mod scheduler;
pub mod stored;
pub mod tasks;
pub mod tool;
pub mod victoria_metrics;
