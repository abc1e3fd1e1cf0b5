//! Series in another store: written by remote write or InfluxDB's line protocol, read by Prometheus' HTTP API.
//!
//! Prometheus (as a receiver of remote write), VictoriaMetrics, Mimir and whatever else speaks these protocols. Invariants:
//! - what was appended is stored, as far as the store's own word goes: where a protocol proves it, the proof is asked for;
//!   where a success proves nothing, it is not believed ([`mod@write`]);
//! - a request that has no answer is sent again byte for byte; the samples of it that are refused then are there already;
//! - the same question has the same answer as in the embedded engine, for what the store keeps ([`read`]);
//! - every answer has a limit, every request a time.
//!
//! What stores do not say, seen on Prometheus 2.42 and 3.5.3 and VictoriaMetrics 1.145:
//! - VictoriaMetrics answers 204 to samples older than its `-retentionPeriod` (a month), to ones two days ahead and to NaN,
//!   and keeps none of them; when it is killed it loses what it took in its last seconds;
//! - it shows a new sample seconds later, and one that came twice twice, unless it has `-dedup.minScrapeInterval=1ms` (our
//!   reader shows it once);
//! - it keeps 15 to 18 decimal digits for a whole block of a series: what is 1e18 times smaller than its neighbours is 0;
//! - Prometheus refuses what is older than a series' newest sample unless it has `out_of_order_time_window`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use hyper::header::HeaderValue;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{Appended, Error, Found, Query, Status, WallClock};
use crate::domain::series::{Range, Selection, SeriesSamples};
use crate::tls;

mod client;
mod label_bytes;
pub mod line;
pub mod read;
pub mod wire;
pub mod write;

/// How samples are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// Remote write 1.0.
    #[default]
    RemoteWrite,
    /// Remote write 2.0 as long as every answer proves it, else 1.0.
    #[serde(rename = "remote-write-2")]
    RemoteWrite2,
    /// InfluxDB's line protocol, `POST /api/v2/write`.
    Influx,
}

/// `[series.remote]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where remote write goes, such as `http://10.0.0.6:9090/api/v1/write`; for `influx` the server alone, such as
    /// `http://10.0.0.6:8086`.
    pub write_url: String,
    /// How it is written to.
    pub write_protocol: Protocol,
    /// The server of the PromQL HTTP API, with its path before `/api/v1`, such as `http://10.0.0.6:9090`.
    pub read_url: String,
    /// Organisation, for `influx`.
    pub org: String,
    /// Bucket, for `influx`.
    pub bucket: String,
    /// The file of the token that is sent along, one line: `Authorization: Bearer`, for `influx` `Authorization: Token`.
    pub token_file: PathBuf,
    /// More headers of every request, such as `X-Scope-OrgID`. No secrets: those belong into `token_file`.
    pub headers: BTreeMap<String, String>,
    /// Time for one request: less than our own clients wait.
    pub timeout_ms: u64,
    /// For how long one batch is sent again before whoever brought it is told.
    pub retry_ms: u64,
    /// `[series.remote.tls]`: for `https://`.
    pub tls: tls::Client,
    /// The token of `INFLUXDB_TOKEN`.
    #[serde(skip)]
    pub token: Option<HeaderValue>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            write_url: String::new(),
            write_protocol: Protocol::default(),
            read_url: String::new(),
            org: String::new(),
            bucket: String::new(),
            token_file: PathBuf::new(),
            headers: BTreeMap::new(),
            timeout_ms: 8_000,
            retry_ms: 60_000,
            tls: tls::Client::default(),
            token: None,
        }
    }
}

impl Config {
    /// Everything that can be told without its files, in one sentence.
    ///
    /// # Errors
    /// What is wrong and what would be right.
    pub fn check(&self) -> Result<(), String> {
        let wrong = |words: &str| Err(words.to_owned());
        for (name, url) in [("write_url", &self.write_url), ("read_url", &self.read_url)] {
            client::url(name, url).map(drop)?;
        }
        let over_tls = |url: &str| url.starts_with("https:");
        if self.tls.is_set() && !over_tls(&self.write_url) && !over_tls(&self.read_url) {
            return wrong("tls: neither write_url nor read_url is https://");
        }
        let influx = self.write_protocol == Protocol::Influx;
        if influx && self.bucket.is_empty() {
            return wrong("bucket: the protocol influx needs one");
        }
        if !influx && (!self.org.is_empty() || !self.bucket.is_empty()) {
            return wrong("org and bucket belong to write_protocol = \"influx\"");
        }
        if !(10..=600_000).contains(&self.timeout_ms) {
            return wrong("timeout_ms: outside 10 to 600000, such as 8000");
        }
        if self.retry_ms > 3_600_000 {
            return wrong("retry_ms: more than an hour, try 60000");
        }
        client::headers(&self.headers).map(drop)
    }

    /// Takes the variables of the reference's collector: with `INFLUXDB_URL` samples go there, by its protocol, and are
    /// read from there unless `read_url` says otherwise. True where that is so.
    ///
    /// # Errors
    /// A token that is no line.
    pub fn take_reference(
        &mut self,
        variable: impl Fn(&'static str) -> Option<String>,
    ) -> Result<bool, String> {
        let Some(url) = variable("INFLUXDB_URL") else { return Ok(false) };
        self.write_protocol = Protocol::Influx;
        if self.read_url.is_empty() {
            self.read_url.clone_from(&url);
        }
        self.write_url = url;
        for (slot, name) in [(&mut self.org, "INFLUXDB_ORG"), (&mut self.bucket, "INFLUXDB_BUCKET")] {
            *slot = variable(name).unwrap_or(std::mem::take(slot));
        }
        if let Some(token) = variable("INFLUXDB_TOKEN") {
            let header = HeaderValue::from_str(token.trim());
            self.token = Some(header.map_err(|_| "INFLUXDB_TOKEN: not one line of a token".to_owned())?);
        }
        if let Some(token) = &mut self.token {
            token.set_sensitive(true);
        }
        Ok(true)
    }

    fn files(&self) -> Vec<PathBuf> {
        let token = Some(&self.token_file).filter(|file| !file.as_os_str().is_empty());
        self.tls.files().into_iter().chain(token.cloned()).collect()
    }
}

/// What is counted.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    requests: Counter,
    retries: Counter,
    stored: Counter,
    refused: Counter,
    there_already: Counter,
    fallbacks: Counter,
    questions: Counter,
    unreadable: Counter,
}

impl Metrics {
    /// Registers them as `series_remote_...`.
    pub fn register(registry: &mut Registry) -> Self {
        let this = Self::default();
        for (name, help, counter) in [
            ("requests", "Requests that wrote, answered or not", &this.requests),
            ("retries", "Of these, such that were sent again", &this.retries),
            ("stored_samples", "Samples that the store says it has", &this.stored),
            ("refused_samples", "Samples that the store refused, or its protocol cannot say", &this.refused),
            (
                "there_already",
                "Requests without an answer that were in the store when they were sent again",
                &this.there_already,
            ),
            (
                "fallbacks",
                "Times that remote write 2.0 was not proven and 1.0 took its place",
                &this.fallbacks,
            ),
            ("questions", "Requests that read", &this.questions),
            (
                "unreadable_series",
                "Series in answers with labels that are none here, left out",
                &this.unreadable,
            ),
        ] {
            registry.register(format!("series_remote_{name}"), help, counter.clone());
        }
        this
    }
}

/// What went wrong last; nothing where the last request went well.
#[derive(Debug, Default)]
struct Troubles {
    write: Option<String>,
    read: Option<String>,
}

/// A store that is asked over the network.
#[derive(Debug)]
pub struct Remote {
    writer: write::Writer,
    reader: read::Reader,
    files: Vec<PathBuf>,
    troubles: Mutex<Troubles>,
    status: watch::Sender<Status>,
}

impl Remote {
    /// The store of this configuration; nothing is asked yet. By the clock it is known where questions end.
    ///
    /// # Errors
    /// [`Error::Config`]: what is wrong with it, or with its files.
    pub fn new(config: &Config, metrics: &Metrics, clock: WallClock) -> Result<Self, Error> {
        config.check().map_err(Error::Config)?;
        Ok(Self {
            writer: write::Writer::new(config, metrics.clone())?,
            reader: read::Reader::new(config, metrics.clone(), clock)?,
            files: config.files(),
            troubles: Mutex::default(),
            status: watch::Sender::default(),
        })
    }

    /// The files that are read again.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        self.files.clone()
    }

    /// Reads its files again.
    ///
    /// # Errors
    /// As for [`Remote::new`]; then everything stays as it was.
    pub fn reload(&self) -> Result<(), Error> {
        self.writer.reload()?;
        self.reader.reload()
    }

    /// How it went lately.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// See [`write::Writer::append`].
    ///
    /// # Errors
    /// As there.
    pub async fn append(&self, batch: Vec<SeriesSamples>) -> Result<Appended, Error> {
        self.note(self.writer.append(batch).await, |troubles| &mut troubles.write)
    }

    /// See [`read::Reader::read`].
    ///
    /// # Errors
    /// As there.
    pub async fn read(&self, query: &Query) -> Result<Vec<SeriesSamples>, Error> {
        self.note(self.reader.read(query).await, |troubles| &mut troubles.read)
    }

    /// See [`read::Reader::find`].
    ///
    /// # Errors
    /// As there.
    pub async fn find(&self, selection: &Selection, range: Range, limit: usize) -> Result<Vec<Found>, Error> {
        self.note(self.reader.find(selection, range, limit).await, |troubles| &mut troubles.read)
    }

    /// See [`read::Reader::label_names`].
    ///
    /// # Errors
    /// As there.
    pub async fn label_names(&self, range: Range) -> Result<BTreeSet<String>, Error> {
        self.note(self.reader.label_names(range).await, |troubles| &mut troubles.read)
    }

    /// See [`read::Reader::label_values`].
    ///
    /// # Errors
    /// As there.
    pub async fn label_values(
        &self,
        name: &str,
        selection: &Selection,
        range: Range,
    ) -> Result<BTreeSet<String>, Error> {
        self.note(self.reader.label_values(name, selection, range).await, |troubles| &mut troubles.read)
    }

    fn note<T>(
        &self,
        result: Result<T, Error>,
        part: impl Fn(&mut Troubles) -> &mut Option<String>,
    ) -> Result<T, Error> {
        let words = match &result {
            Ok(_) => None,
            Err(Error::Remote(words)) => Some(words.clone()),
            // A question that makes no sense says nothing of the store.
            Err(_) => return result,
        };
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        *part(&mut troubles) = words;
        let writing = troubles.write.iter().map(|words| format!("cannot be written: {words}"));
        let reading = troubles.read.iter().map(|words| format!("cannot be read: {words}"));
        let degraded = writing.chain(reading).reduce(|one, other| format!("{one}; {other}"));
        self.status.send_if_modified(|status| {
            let changed = status.degraded != degraded;
            status.degraded = degraded;
            changed
        });
        result
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
