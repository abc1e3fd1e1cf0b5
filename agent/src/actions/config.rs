//! `[actions]`: whether anomalies may be provoked at all, and how far. By whom, `[keys]` says.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::domain::action::Limits;

/// `[actions]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Take requests for anomalies.
    pub enabled: bool,
    /// Share of the node's CPUs that all anomalies together may ask for, percent: the rest keeps the node reachable.
    pub max_percent_of_node: u32,
    /// Share of the node's memory that stays available, percent: a memory anomaly stops growing there.
    pub min_percent_of_memory: u32,
    /// Share of a file system that an anomaly may fill it to, percent.
    pub max_percent_of_disk: u32,
    /// Longest anomaly, s.
    pub max_duration_s: u32,
    /// Anomalies at once.
    pub max_concurrent: usize,
    /// Pods of these namespaces are no targets.
    pub protected_namespaces: Vec<String>,
    /// Processes that are no targets, beside the first one, the kernel's and our own.
    pub protected_pids: Vec<u32>,
    /// While this file exists nothing is started, and what runs is undone.
    pub kill_switch: PathBuf,
    /// Workers without guards: only in a debug build.
    #[cfg(debug_assertions)]
    #[serde(skip_serializing)]
    pub unguarded_workers: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: false,
            max_percent_of_node: 95,
            min_percent_of_memory: 10,
            max_percent_of_disk: 95,
            max_duration_s: 3_600,
            max_concurrent: 4,
            protected_namespaces: vec!["kube-system".to_owned()],
            protected_pids: Vec::new(),
            kill_switch: "/run/sextant/anomalies.off".into(),
            #[cfg(debug_assertions)]
            unguarded_workers: false,
        }
    }
}

impl Config {
    /// What each fault is checked against.
    pub(super) fn limits(&self) -> Limits {
        Limits {
            max_percent_of_node: f64::from(self.max_percent_of_node),
            max_duration_s: f64::from(self.max_duration_s),
            min_percent_of_memory: f64::from(self.min_percent_of_memory),
            max_percent_of_disk: f64::from(self.max_percent_of_disk),
        }
    }
}
