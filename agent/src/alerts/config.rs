//! `[alerts]` of the configuration.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Settings of the alerts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Rules are evaluated at all.
    pub enabled: bool,
    /// File of rules (TOML, `[[rule]]`); empty takes those that come with Sextant.
    pub rules_file: PathBuf,
    /// Time between two evaluations, ms; 1 s to an hour.
    pub interval_ms: u64,
    /// URLs that each firing and resolving is posted to, as JSON.
    pub webhooks: Vec<String>,
    /// Alertmanagers (`http://HOST:9093`): told by their API, again and again while an alert fires.
    pub alertmanagers: Vec<String>,
    /// Time for one post, ms.
    pub timeout_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        // 15 s: what scrapers take between two samples; shorter evaluations see nothing new.
        Self {
            enabled: true,
            rules_file: PathBuf::new(),
            interval_ms: 15_000,
            webhooks: Vec::new(),
            alertmanagers: Vec::new(),
            timeout_ms: 10_000,
        }
    }
}

/// Targets: each has a queue of its own.
const MAX_TARGETS: usize = 16;

impl Config {
    /// Everything that cannot be, in one sentence.
    ///
    /// # Errors
    /// What is wrong and what would be right.
    pub fn check(&self) -> Result<(), String> {
        if !(1_000..=3_600_000).contains(&self.interval_ms) {
            return Err(format!("interval_ms: {} is outside 1000 to 3600000", self.interval_ms));
        }
        if !(100..=60_000).contains(&self.timeout_ms) {
            return Err(format!("timeout_ms: {} is outside 100 to 60000", self.timeout_ms));
        }
        let targets = self.webhooks.len() + self.alertmanagers.len();
        if targets > MAX_TARGETS {
            return Err(format!("{targets} webhooks and alertmanagers, at most {MAX_TARGETS}"));
        }
        for url in self.webhooks.iter().chain(&self.alertmanagers) {
            let fits = reqwest::Url::parse(url)
                .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
            if !fits {
                return Err(format!("`{url}` is no URL, such as http://10.0.0.5:9093"));
            }
        }
        Ok(())
    }
}
