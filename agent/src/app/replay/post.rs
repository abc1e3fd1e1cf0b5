//! Batches into the queue: `POST /produce/batch` until it is taken.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use hyper::header::HeaderValue;
use hyper::{StatusCode, Uri};
use serde::Serialize;
use tokio::time::{Duration, sleep, timeout};
use uuid::Uuid;

use super::account::Account;
use super::progress::Progress;
use crate::api::queue::ProducedBatch;
use crate::cli::replay::ReplayArgs;
use crate::delivery::pace::Pace;
use crate::delivery::transport::http::{Answer, Credentials, Way, endpoint};
use crate::tls;

/// Rows of one batch: a tenth of what the queue takes at once, since they are sent one after the other.
const MAX_ROWS: usize = 1_000;

/// Payload of one batch: half of what the queue takes at once, beyond the last row's own.
const MAX_BYTES: usize = 2 << 20;

const CONNECT: Duration = Duration::from_secs(5);

/// A batch that has no answer by then is sent again.
const PATIENCE: Duration = Duration::from_secs(60);

/// Pauses after a failure, growing.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(15));

/// Rows that go together, as a body.
#[derive(Debug, Default)]
pub(super) struct Batch {
    body: String,
    pub(super) rows: usize,
}

#[derive(Serialize)]
struct Message<'a> {
    payload: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    key: &'a str,
}

impl Batch {
    /// With one row more. Rows of one device stay in order: they have one key, so one partition.
    pub(super) fn push(&mut self, key: &str, payload: &str) {
        self.body.push_str(if self.rows == 0 { "{\"messages\":[" } else { "," });
        // Strings only: there is nothing that could fail.
        self.body += &serde_json::to_string(&Message { payload, key }).unwrap_or_default();
        self.rows += 1;
    }

    pub(super) const fn is_full(&self) -> bool {
        self.rows >= MAX_ROWS || self.body.len() >= MAX_BYTES
    }

    fn body(&self) -> Vec<u8> {
        format!("{}]}}", self.body).into_bytes()
    }
}

/// The way to the queue.
pub(super) struct Poster {
    way: Way,
    url: Uri,
    topic: String,
    run: Uuid,
    batches: u64,
    pauses: Pace,
}

impl Poster {
    pub(super) fn new(args: &ReplayArgs, key: Option<String>) -> Result<Self> {
        let url = endpoint(&args.to, &["produce", "batch"])?;
        let file = |file: &Option<PathBuf>| file.clone().unwrap_or_default();
        let tls = tls::Client { ca: file(&args.ca), cert: file(&args.cert), key: file(&args.cert_key) };
        let key_file = file(&args.key_file);
        let key = key.map(|key| HeaderValue::from_str(key.trim())).transpose();
        let mut key = key.context("SEXTANT_API_KEY is not one line of a key")?;
        if let Some(key) = &mut key {
            key.set_sensitive(true);
        }
        let way = Way::new(&url, CONNECT, &Credentials { tls, key_file })?.or_key(key);
        let (topic, run) = (args.topic.clone(), Uuid::new_v4());
        Ok(Self { way, url, topic, run, batches: 0, pauses: Pace::new(PAUSES.0, PAUSES.1) })
    }

    /// Sends a batch until it is kept. Under one id: if it was kept and the answer was lost, it is not kept twice while the
    /// queue remembers that.
    pub(super) async fn post(
        &mut self,
        batch: &Batch,
        account: &mut Account,
        progress: &Progress,
    ) -> Result<()> {
        self.batches += 1;
        let query =
            format!("topic={}&id=replay-{}-{}", encoded(&self.topic), self.run.simple(), self.batches);
        let url: Uri = format!("{}?{query}", self.url).parse()?;
        let body = batch.body();
        loop {
            let answer = match timeout(PATIENCE, self.way.post(&url, body.clone(), false)).await {
                Ok(answer) => answer,
                Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
            };
            let (words, retry_after) = match answer {
                Ok(answer) => match judge(&answer, batch.rows)? {
                    Verdict::Kept { duplicate } => {
                        self.pauses.reset();
                        progress.goes_on();
                        account.kept(batch.rows, duplicate);
                        return Ok(());
                    }
                    Verdict::Again => (answer.words(), answer.retry_after),
                },
                Err(words) => (words, None),
            };
            account.retries += 1;
            progress.waits(&words, account);
            sleep(self.pauses.next(retry_after)).await;
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Kept { duplicate: bool },
    Again,
}

/// What an answer means.
///
/// # Errors
/// What will not get better by itself.
fn judge(answer: &Answer, rows: usize) -> Result<Verdict> {
    match answer.status {
        // Any other 2xx, and any other body, may come from something that keeps nothing.
        StatusCode::OK => match serde_json::from_slice::<ProducedBatch>(&answer.body) {
            Ok(kept) if kept.ids.len() == rows => Ok(Verdict::Kept { duplicate: kept.duplicate }),
            _ => bail!("this is no receiver: its answer is no list of {rows} ids"),
        },
        status
            if status.is_server_error()
                || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT) =>
        {
            Ok(Verdict::Again)
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            bail!("{}: a key with scope `write` is needed, in SEXTANT_API_KEY or --key-file", answer.words())
        }
        _ => bail!("the receiver refuses the batch: {}", answer.words()),
    }
}

fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        let status = StatusCode::from_u16(status).unwrap();
        Answer { status, retry_after: None, body: body.to_owned().into() }
    }

    #[test]
    fn only_what_lists_every_row_has_kept_them() {
        let ids = |n: usize| format!("{{\"ids\":{:?},\"duplicate\":false}}", vec!["x"; n]);
        assert_eq!(judge(&answer(200, &ids(2)), 2).unwrap(), Verdict::Kept { duplicate: false });
        for (status, body) in [
            (200, ids(1)),
            (200, "ok".to_owned()),
            (200, String::new()),
            (204, String::new()),
            (202, ids(2)),
            (302, String::new()),
        ] {
            assert!(judge(&answer(status, &body), 2).is_err(), "{status} {body}");
        }
        for status in [429, 503, 500, 502, 504, 408] {
            assert_eq!(judge(&answer(status, ""), 2).unwrap(), Verdict::Again, "{status}");
        }
        let wrong_key = judge(&answer(401, "wrong key"), 2).unwrap_err().to_string();
        assert!(wrong_key.contains("wrong key") && wrong_key.contains("--key-file"), "{wrong_key}");
        assert!(judge(&answer(413, ""), 2).is_err());
    }

    #[test]
    fn a_batch_is_the_queues_body_and_ends_in_time() {
        let mut batch = Batch::default();
        batch.push("GPU-1", "{\"a\":\"\\\"\"}");
        batch.push("", "x");
        let body = batch.body();
        let read: crate::api::queue::NewBatch<'_> = serde_json::from_slice(&body).unwrap();
        assert_eq!(read.messages.len(), 2);
        assert_eq!(
            (&*read.messages[0].payload, read.messages[0].key.as_deref()),
            ("{\"a\":\"\\\"\"}", Some("GPU-1"))
        );
        while !batch.is_full() {
            batch.push("k", "p");
        }
        assert_eq!(batch.rows, MAX_ROWS);
        let mut large = Batch::default();
        large.push("k", &"x".repeat(MAX_BYTES));
        assert!(large.is_full());
    }
}
