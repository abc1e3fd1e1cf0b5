//! The servers' own interface, as far as the queue needs it: JSON requests on `$JS.API.>`.
//!
//! Written here and not taken from the client's library: that one has no atomic batches, hides the numbers of errors, and
//! its pulls have stalled on lost heartbeats more than once.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::{Client, HeaderMap, Message, Request};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::super::Error;

/// A server that is there answers within milliseconds, a group of servers that elects a leader within seconds; half of
/// what a client's request may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Rows of one page of a list.
const PAGE: usize = 256;

/// Numbers of refusals that mean something to the queue.
pub(super) mod code {
    pub(in super::super) const NO_CONSUMER: u32 = 10_014;
    pub(in super::super) const TOO_MANY_CONSUMERS: u32 = 10_026;
    pub(in super::super) const NO_MESSAGE: u32 = 10_037;
    pub(in super::super) const NO_RESOURCES: u32 = 10_023;
    pub(in super::super) const NO_STORAGE: u32 = 10_047;
    pub(in super::super) const NAME_TAKEN: u32 = 10_058;
    pub(in super::super) const NO_STREAM: u32 = 10_059;
    pub(in super::super) const FULL: u32 = 10_077;
    pub(in super::super) const BATCH_TOO_LARGE: u32 = 10_199;
    pub(in super::super) const BATCH_DUPLICATE: u32 = 10_201;
    pub(in super::super) const BATCH_TOO_MANY: u32 = 10_210;
}

/// Why there is no answer, or not the one that was wanted.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The servers said no.
    #[error("the servers refuse: {words} ({code})")]
    Refused { code: u32, words: String },
    /// Nobody listens: no such stream, or it has no leader. Nothing was done.
    #[error("no server answers for it")]
    Nobody,
    /// No answer: it may have been done, or not.
    #[error("the servers are silent: {0}")]
    Silent(String),
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::Disk(fault.to_string())
    }
}

impl Fault {
    pub(super) fn is(&self, number: u32) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == number)
    }
}

#[derive(Debug, Deserialize)]
struct Refusal {
    #[serde(default)]
    err_code: u32,
    #[serde(default)]
    description: String,
}

/// A topic's stream.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct StreamInfo {
    pub(super) config: StreamConfig,
    pub(super) state: StreamState,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct StreamConfig {
    pub(super) name: String,
    #[serde(default)]
    pub(super) metadata: HashMap<String, String>,
    /// Everything else.
    #[serde(flatten)]
    pub(super) rest: HashMap<String, Value>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct StreamState {
    pub(super) bytes: u64,
    /// Records by subject, where that was asked for.
    #[serde(default)]
    pub(super) subjects: BTreeMap<String, u64>,
}

/// A group's consumer of one partition.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ConsumerInfo {
    pub(super) name: String,
    pub(super) delivered: Sequences,
    pub(super) ack_floor: Sequences,
    pub(super) num_ack_pending: u64,
    pub(super) num_pending: u64,
}

impl ConsumerInfo {
    /// Records that the group has still to acknowledge.
    pub(super) const fn lag(&self) -> u64 {
        self.num_pending.saturating_add(self.num_ack_pending)
    }
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct Sequences {
    pub(super) consumer_seq: u64,
    pub(super) stream_seq: u64,
}

/// What became of a record or a batch.
#[derive(Debug, Deserialize)]
pub(super) struct Published {
    pub(super) seq: u64,
    #[serde(default)]
    pub(super) duplicate: bool,
}

/// A record as it lies on the servers.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) subject: String,
    pub(super) at_ns: i64,
    pub(super) headers: HeaderMap,
    pub(super) payload: Vec<u8>,
}

/// See the module; clones share the connection.
#[derive(Clone, Debug)]
pub(super) struct Api {
    pub(super) client: Client,
    /// `$JS.API`, or that of a domain.
    prefix: String,
}

impl Api {
    /// Over this connection; `domain` is empty where there is none.
    pub(super) fn new(client: Client, domain: &str) -> Self {
        let prefix = if domain.is_empty() { "$JS.API".to_owned() } else { format!("$JS.{domain}.API") };
        Self { client, prefix }
    }

    /// Where to ask for this.
    pub(super) fn subject(&self, verb: &str) -> String {
        format!("{}.{verb}", self.prefix)
    }

    async fn request(&self, subject: String, request: Request) -> Result<Message, Fault> {
        self.request_within(subject, request, PATIENCE).await
    }

    async fn request_within(
        &self,
        subject: String,
        request: Request,
        patience: Duration,
    ) -> Result<Message, Fault> {
        let asked = self.client.send_request(subject, request.timeout(Some(patience))).await;
        asked.map_err(|error| match error.kind() {
            RequestErrorKind::NoResponders => Fault::Nobody,
            _ => Fault::Silent(error.to_string()),
        })
    }

    async fn call<R: DeserializeOwned>(&self, verb: &str, body: &Value) -> Result<R, Fault> {
        let request = Request::new().payload(body.to_string().into());
        answer(&self.request(self.subject(verb), request).await?.payload)
    }

    /// Keeps a record; waits until it is kept.
    pub(super) async fn publish(
        &self,
        subject: String,
        headers: HeaderMap,
        payload: Vec<u8>,
        patience: Duration,
    ) -> Result<Published, Fault> {
        let request = Request::new().headers(headers).payload(payload.into());
        answer(&self.request_within(subject, request, patience).await?.payload)
    }

    /// Says something of a delivery, and waits until it is known.
    pub(super) async fn settle(&self, ack: String, verdict: String) -> Result<(), Fault> {
        self.request(ack, Request::new().payload(verdict.into())).await.map(drop)
    }

    pub(super) async fn create_stream(&self, name: &str, config: &Value) -> Result<StreamInfo, Fault> {
        self.call(&format!("STREAM.CREATE.{name}"), config).await
    }

    pub(super) async fn stream(&self, name: &str) -> Result<StreamInfo, Fault> {
        self.call(&format!("STREAM.INFO.{name}"), &json!({ "subjects_filter": ">" })).await
    }

    pub(super) async fn update_stream(&self, name: &str, config: &Value) -> Result<(), Fault> {
        self.call::<Value>(&format!("STREAM.UPDATE.{name}"), config).await.map(drop)
    }

    /// The streams of these subjects.
    pub(super) async fn streams(&self, subjects: &str) -> Result<Vec<StreamInfo>, Fault> {
        #[derive(Deserialize)]
        struct Page {
            total: usize,
            #[serde(default)]
            streams: Option<Vec<StreamInfo>>,
        }
        let mut all = Vec::new();
        loop {
            let body = json!({ "subject": subjects, "offset": all.len() });
            let page: Page = self.call("STREAM.LIST", &body).await?;
            let streams = page.streams.unwrap_or_default();
            let done = streams.is_empty() || streams.len() < PAGE && all.len() + streams.len() >= page.total;
            all.extend(streams);
            if done || all.len() >= page.total {
                return Ok(all);
            }
        }
    }

    pub(super) async fn create_consumer(
        &self,
        stream: &str,
        name: &str,
        config: &Value,
    ) -> Result<(), Fault> {
        let body = json!({ "stream_name": stream, "config": config, "action": "" });
        self.call::<Value>(&format!("CONSUMER.CREATE.{stream}.{name}"), &body).await.map(drop)
    }

    pub(super) async fn consumer(&self, stream: &str, name: &str) -> Result<ConsumerInfo, Fault> {
        self.call(&format!("CONSUMER.INFO.{stream}.{name}"), &json!({})).await
    }

    pub(super) async fn delete_consumer(&self, stream: &str, name: &str) -> Result<(), Fault> {
        self.call::<Value>(&format!("CONSUMER.DELETE.{stream}.{name}"), &json!({})).await.map(drop)
    }

    pub(super) async fn consumers(&self, stream: &str) -> Result<Vec<ConsumerInfo>, Fault> {
        #[derive(Deserialize)]
        struct Page {
            total: usize,
            #[serde(default)]
            consumers: Option<Vec<ConsumerInfo>>,
        }
        let mut all = Vec::new();
        loop {
            let body = json!({ "offset": all.len() });
            let page: Page = self.call(&format!("CONSUMER.LIST.{stream}"), &body).await?;
            let consumers = page.consumers.unwrap_or_default();
            let none = consumers.is_empty();
            all.extend(consumers);
            if none || all.len() >= page.total {
                return Ok(all);
            }
        }
    }

    /// Drops the records of a subject before this sequence; how many there were.
    pub(super) async fn purge(&self, stream: &str, subject: &str, before: u64) -> Result<u64, Fault> {
        #[derive(Deserialize)]
        struct Purged {
            #[serde(default)]
            purged: u64,
        }
        let body = json!({ "filter": subject, "seq": before });
        Ok(self.call::<Purged>(&format!("STREAM.PURGE.{stream}"), &body).await?.purged)
    }

    pub(super) async fn delete_message(&self, stream: &str, sequence: u64) -> Result<(), Fault> {
        let body = json!({ "seq": sequence, "no_erase": true });
        self.call::<Value>(&format!("STREAM.MSG.DELETE.{stream}"), &body).await.map(drop)
    }

    /// The record with this sequence.
    pub(super) async fn get(&self, stream: &str, sequence: u64) -> Result<Stored, Fault> {
        self.direct(stream, &json!({ "seq": sequence })).await
    }

    /// The first record of a subject from this sequence on.
    pub(super) async fn next(&self, stream: &str, subject: &str, from: u64) -> Result<Stored, Fault> {
        self.direct(stream, &json!({ "next_by_subj": subject, "seq": from })).await
    }

    async fn direct(&self, stream: &str, body: &Value) -> Result<Stored, Fault> {
        let request = Request::new().payload(body.to_string().into());
        let message = self.request(self.subject(&format!("DIRECT.GET.{stream}")), request).await?;
        let none = || Fault::Refused { code: code::NO_MESSAGE, words: "no message found".to_owned() };
        let headers = message.headers.unwrap_or_default();
        let header = |name: &str| headers.get(name).map(|value| value.as_str());
        let subject = header("Nats-Subject").ok_or_else(none)?.to_owned();
        let at = header("Nats-Time-Stamp").and_then(|at| at.parse::<jiff::Timestamp>().ok());
        let at_ns = at.and_then(|at| i64::try_from(at.as_nanosecond()).ok()).unwrap_or(0);
        Ok(Stored { subject, at_ns, payload: message.payload.into(), headers })
    }
}

/// What an answer says.
fn answer<R: DeserializeOwned>(payload: &[u8]) -> Result<R, Fault> {
    let strange = |error: serde_json::Error| Fault::Silent(format!("a strange answer: {error}"));
    let mut value: Value = serde_json::from_slice(payload).map_err(strange)?;
    if let Some(error) = value.get_mut("error") {
        let refusal: Refusal = serde_json::from_value(error.take()).map_err(strange)?;
        return Err(Fault::Refused { code: refusal.err_code, words: refusal.description });
    }
    serde_json::from_value(value).map_err(strange)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_what_was_asked_for_or_a_fault_with_its_number() {
        let good: Published = answer(br#"{"stream":"s","seq":4,"batch":"b","count":3}"#).unwrap();
        assert_eq!((good.seq, good.duplicate), (4, false));
        let full =
            br#"{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"},"seq":0}"#;
        assert!(answer::<Published>(full).unwrap_err().is(code::FULL));
        for strange in [&b""[..], b"{", b"{}", b"[]", br#"{"error":5}"#, b"\xff"] {
            assert!(matches!(answer::<Published>(strange), Err(Fault::Silent(_))));
        }
    }
}
