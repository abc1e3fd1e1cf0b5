//! `[actions]`: whether anomalies may be provoked at all, by whom, and how far.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::domain::action::Limits;

/// Hex digits of a SHA-256.
const DIGEST_HEX: usize = 64;

/// `[actions]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Take requests for anomalies.
    pub enabled: bool,
    /// SHA-256 (hex) of each key that may start and stop them; with none, only the unix socket may. Keys are compared by
    /// digest, so they are to be long and random: `openssl rand -hex 32`.
    pub keys_sha256: Vec<String>,
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
            keys_sha256: Vec::new(),
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

    /// The keys' digests.
    ///
    /// # Errors
    /// One that is not 64 hexadecimal digits; it is not repeated, since it may be a key itself.
    pub fn key_digests(&self) -> Result<Vec<[u8; 32]>, String> {
        let digest = |(index, text): (usize, &String)| {
            let nibbles = text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()));
            let nibbles: Option<Vec<u8>> = nibbles.collect();
            let nibbles = nibbles.filter(|nibbles| nibbles.len() == DIGEST_HEX);
            let bytes = nibbles.map(|n| n.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect::<Vec<_>>());
            bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| {
                format!("keys_sha256: entry {} is no SHA-256 of 64 hex digits, such as `printf %s KEY | sha256sum` prints", index + 1)
            })
        };
        self.keys_sha256.iter().enumerate().map(digest).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_64_hex_digits() {
        let keys =
            |text: &str| Config { keys_sha256: vec![text.to_owned()], ..Config::default() }.key_digests();
        assert_eq!(keys(&"0aF".repeat(22)[..64]).unwrap()[0][..2], [0x0a, 0xf0]);
        for wrong in ["", "secret", &"0".repeat(63), &"0".repeat(65), &"g".repeat(64), &"é".repeat(32)] {
            let error = keys(wrong).unwrap_err();
            assert!(error.contains("entry 1") && (wrong.len() < 3 || !error.contains(wrong)), "{error}");
        }
    }
}
