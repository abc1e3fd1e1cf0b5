//! `[alerts]` of the configuration.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::notify::Place;
use crate::tls;

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
    /// `[alerts.tls]`: for `https://`.
    pub tls: tls::Client,
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
            tls: tls::Client::default(),
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
        for (key, urls) in [("webhooks", &self.webhooks), ("alertmanagers", &self.alertmanagers)] {
            for (n, url) in urls.iter().enumerate() {
                let place = Place::new(url, &[]);
                place.map_err(|words| {
                    format!("{key}: number {} {words}, such as http://10.0.0.5:9093", n + 1)
                })?;
            }
        }
        if self.tls.is_set() && !self.is_over_tls() {
            return Err("tls: no webhook and no Alertmanager is https://".to_owned());
        }
        Ok(())
    }

    /// One of the targets at least is `https://`.
    pub(super) fn is_over_tls(&self) -> bool {
        let mut urls = self.webhooks.iter().chain(&self.alertmanagers);
        urls.any(|url| Place::new(url, &[]).is_ok_and(|place| place.is_over_tls()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_said_and_no_url_repeated() {
        let https = Config { webhooks: vec!["https://h/secret".to_owned()], ..Config::default() };
        assert_eq!((https.check(), https.is_over_tls()), (Ok(()), true));
        let tls = tls::Client { ca: PathBuf::from("/ca.pem"), ..tls::Client::default() };
        assert_eq!(Config { tls: tls.clone(), ..https }.check(), Ok(()));
        assert!(Config { tls, ..Config::default() }.check().unwrap_err().starts_with("tls: "));
        let wrong = ["http://h/".to_owned(), "h/secret".to_owned()].to_vec();
        let words = Config { alertmanagers: wrong, ..Config::default() }.check().unwrap_err();
        assert!(
            words.starts_with("alertmanagers: number 2 is no URL") && !words.contains("secret"),
            "{words}"
        );
    }
}
