//! `[events]`: how events are kept and sent.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::event;
use crate::prometheus;

/// Longer names of scrapers are not taken.
pub(crate) const MAX_SCRAPER_BYTES: usize = 128;

/// Whose time a sample has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The event's own: exactly one sample in every Prometheus.
    #[default]
    EventTime,
    /// The scrape's, as the reference has it by default: [`Promise`] says how often.
    ScrapeTime,
}

/// What is done in [`Mode::ScrapeTime`] with samples of which nobody can tell whether they were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Promise {
    /// They are sent again.
    #[default]
    AtLeastOnce,
    /// They are not.
    AtMostOnce,
    /// The Prometheus that scrapes is asked: see [`Config::prometheus`].
    ExactlyOnce,
}

/// Settings of the events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Name of the metric of events that bring none: the reference's.
    pub name: String,
    /// Whose time a sample has; `USE_EXPLICIT_TIMESTAMPS` overrides it.
    pub mode: Mode,
    /// In scrape time: what becomes of samples whose answer may have got lost.
    pub promise: Promise,
    /// Of [`Promise::ExactlyOnce`]: by a scraper's name (`?scraper=`) the Prometheus that scrapes under it,
    /// `http://HOST:PORT`. Others get no events.
    pub prometheus: BTreeMap<String, String>,
    /// For how long an event is sent, ms. Prometheus refuses samples older than an hour; 50 minutes leave ten for clocks
    /// that differ.
    pub window_ms: u64,
    /// Events held at once; more are refused with 429.
    pub max_events: usize,
    /// Their bytes in memory; more are refused with 429.
    pub max_size_bytes: usize,
    /// Samples in one answer: must be below `sample_limit` of every Prometheus that has one, with the role's own series
    /// beside them. 20000 are about 2 MB.
    pub max_samples_per_scrape: usize,
    /// How many answers that were read each event is in: reading is not storing. Two outlive one scrape that was read
    /// and thrown away.
    pub redundancy: usize,
    /// At most one sample of a series in an answer: for Prometheus 2.52.0 to 2.53.1 and 2.54.0, and for the
    /// OpenTelemetry collector, which keep only one.
    pub compat_252: bool,
    /// Samples that a client which is no scraper is shown.
    pub peek_samples: usize,
    /// Series that are also counted, for ever, as `NAME_seen_total`; events of further ones are summed in
    /// `sextant_events_uncounted_total`. 0 counts none.
    pub max_counted_series: usize,
    /// Scrapers told apart in scrape time; further ones get no events.
    pub max_scrapers: usize,
    /// Proxies that keep one connection for each client and end both together: only behind them does a forwarded request
    /// prove anything.
    pub trusted_proxies: Vec<IpAddr>,
    /// Events kept for `GET /api/v1/events` when they are past the window; the oldest give way.
    pub max_history: u64,
    /// Memory for the file's pages, bytes.
    pub cache_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "events_to_metrics".to_owned(),
            mode: Mode::EventTime,
            promise: Promise::AtLeastOnce,
            prometheus: BTreeMap::new(),
            window_ms: 50 * 60 * 1_000,
            // 83 a second for as long as the window; 64 MiB hold them with 250 bytes of labels each.
            max_events: 250_000,
            max_size_bytes: 64 << 20,
            max_samples_per_scrape: 20_000,
            redundancy: 2,
            compat_252: false,
            // A screen or ten for a person.
            peek_samples: 1_000,
            // More series than that, sent with every scrape for ever, are no counters but a log.
            max_counted_series: 1_000,
            max_scrapers: 64,
            trusted_proxies: Vec::new(),
            // Some 20 MB on disk.
            max_history: 100_000,
            cache_bytes: 4 << 20,
        }
    }
}

impl Config {
    /// What cannot be, in one sentence.
    ///
    /// # Errors
    /// The first of it.
    pub fn check(&self) -> Result<(), String> {
        event::check_default_name(&self.name).map_err(|error| format!("name: {error}"))?;
        let within = |key: &str, value: u64, min: u64, max: u64| {
            if (min..=max).contains(&value) {
                return Ok(());
            }
            Err(format!("{key}: {value} is outside {min} to {max}"))
        };
        let size = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
        within("window_ms", self.window_ms, 1_000, 24 * 3_600_000)?;
        within("max_events", size(self.max_events), 1, 10_000_000)?;
        within("max_size_bytes", size(self.max_size_bytes), 64 << 10, 8 << 30)?;
        within("max_samples_per_scrape", size(self.max_samples_per_scrape), 1, 1_000_000)?;
        within("redundancy", size(self.redundancy), 1, 16)?;
        within("peek_samples", size(self.peek_samples), 0, 100_000)?;
        within("max_counted_series", size(self.max_counted_series), 0, 100_000)?;
        within("max_scrapers", size(self.max_scrapers), 1, 10_000)?;
        within("max_history", self.max_history, 0, 10_000_000)?;
        within("cache_bytes", size(self.cache_bytes), 0, 64 << 20)?;
        self.check_prometheus()
    }

    fn check_prometheus(&self) -> Result<(), String> {
        const SUCH_AS: &str = "such as prometheus = { a = \"http://10.0.0.6:9090\" }";
        if self.promise == Promise::ExactlyOnce && self.prometheus.is_empty() {
            return Err(format!(
                "prometheus: exactly-once asks each scraper's Prometheus what it stored: say where it is, {SUCH_AS}"
            ));
        }
        for (name, url) in &self.prometheus {
            if !(1..=MAX_SCRAPER_BYTES).contains(&name.len()) || name.contains(char::is_control) {
                return Err(format!(
                    "prometheus: {name:?} is no name of 1 to {MAX_SCRAPER_BYTES} bytes, {SUCH_AS}"
                ));
            }
            prometheus::address(url).map_err(|why| format!("prometheus.{name}: `{url}` {why}, {SUCH_AS}"))?;
        }
        Ok(())
    }

    pub(super) fn window_as_ms(&self) -> i64 {
        i64::try_from(self.window_ms).unwrap_or(i64::MAX)
    }
}
