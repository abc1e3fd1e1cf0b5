//! Requests for records, and whether the servers still know of them.
//!
//! A probe asks for what is there now; a wait stays until a record comes, and the server says every heartbeat that it is
//! still there. Servers forget requests: a consumer's leader changes, a connection breaks, a message gets lost. What
//! was not heard of for two heartbeats is not believed any more ([`Inbox::is_silent`]), and all are made anew under
//! another name.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::{Client, Message, Subscriber};
use serde_json::json;
use tokio::time::Instant;

use super::super::super::MAX_PAYLOAD_BYTES;

/// An answer to a probe takes a round trip.
const PROBE: Duration = Duration::from_secs(2);

/// How long a wait stays. The next one costs a round trip.
const WAIT: Duration = Duration::from_secs(30);

/// Bytes that one probe brings: the largest record with its headers fits.
const PROBE_BYTES: usize = MAX_PAYLOAD_BYTES + (64 << 10);

/// What a server says of a request.
#[derive(Debug)]
pub(super) enum Word {
    /// It is still there.
    Alive,
    /// It is over; the consumer is there.
    Over(u64),
    /// It is over, and the consumer may not be there any more.
    Lost(u64),
    /// It is no word of a request.
    Record(Box<Message>),
}

#[derive(Debug)]
struct Request {
    partition: u32,
    left: usize,
    probe: bool,
    heard: Instant,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Inbox {
    name: String,
    pub(super) subscriber: Subscriber,
    requests: BTreeMap<u64, Request>,
    next: u64,
    heartbeat: Duration,
}

impl Inbox {
    pub(super) async fn open(client: &Client, heartbeat: Duration) -> Result<Self, String> {
        let name = client.new_inbox();
        let subscriber = client.subscribe(format!("{name}.*")).await.map_err(|error| error.to_string())?;
        Ok(Self { name, subscriber, requests: BTreeMap::new(), next: 0, heartbeat })
    }

    /// Asks for records of a partition: its consumer's subject, how many.
    pub(super) async fn ask(
        &mut self,
        client: &Client,
        (partition, subject): (u32, String),
        batch: usize,
        probe: bool,
    ) -> Result<u64, String> {
        self.next += 1;
        let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let body = if probe {
            json!({ "batch": batch, "no_wait": true, "max_bytes": PROBE_BYTES })
        } else {
            json!({ "batch": batch, "expires": ns(WAIT.max(self.heartbeat * 3)), "idle_heartbeat": ns(self.heartbeat) })
        };
        let reply = format!("{}.{}", self.name, self.next);
        let asked = client.publish_with_reply(subject, reply, body.to_string().into()).await;
        asked.map_err(|error| error.to_string())?;
        let request = Request { partition, left: batch, probe, heard: Instant::now() };
        self.requests.insert(self.next, request);
        Ok(self.next)
    }

    /// What a message is.
    pub(super) fn read(&mut self, message: Message) -> Word {
        let number = message.subject.strip_prefix(self.name.as_str()).and_then(|rest| rest.strip_prefix('.'));
        let Some(number) = number.and_then(|number| number.parse::<u64>().ok()) else {
            return Word::Record(Box::new(message));
        };
        let status = message.status.map_or(0, |status| status.as_u16());
        if status == 100 {
            if let Some(request) = self.requests.get_mut(&number) {
                request.heard = Instant::now();
            }
            return Word::Alive;
        }
        // Replicated deliveries wait for a majority, and the last word of a request overtakes them: it says how many of
        // what was asked for do not come, and the others are waited for.
        let missing = message.headers.as_ref().and_then(|headers| headers.get("Nats-Pending-Messages"));
        let missing = missing.and_then(|missing| missing.as_str().parse::<usize>().ok());
        if let Some(request) = self.requests.get_mut(&number)
            && let Some(coming) = missing.and_then(|missing| request.left.checked_sub(missing))
            && coming > 0
        {
            (request.left, request.heard, request.probe) = (coming, Instant::now(), true);
            return Word::Alive;
        }
        self.requests.remove(&number);
        let said = message.description.unwrap_or_default().to_ascii_lowercase();
        // 404 no messages, 408 time is out, 409 too much in flight or too large: the consumer is there.
        if status == 503
            || said.contains("deleted")
            || said.contains("leadership")
            || said.contains("shutdown")
        {
            return Word::Lost(number);
        }
        Word::Over(number)
    }

    /// A record of this partition came; the request that is done with it.
    pub(super) fn arrived(&mut self, partition: u32) -> Option<u64> {
        // The records of one request do not say which it is; servers serve the oldest first.
        let mut of = self.requests.iter_mut().filter(|(_, request)| request.partition == partition);
        let (number, request) = of.next()?;
        let number = *number;
        request.left -= 1;
        request.heard = Instant::now();
        (request.left == 0).then(|| {
            self.requests.remove(&number);
            number
        })
    }

    /// Records of a partition that are waited for.
    pub(super) fn waited_for(&self, partition: u32) -> usize {
        let waits = self.requests.values().filter(|request| request.partition == partition && !request.probe);
        waits.map(|request| request.left).sum()
    }

    pub(super) fn is_probing(&self) -> bool {
        self.requests.values().any(|request| request.probe)
    }

    /// Some request was not heard of for so long that it must be lost.
    pub(super) fn is_silent(&self, now: Instant) -> bool {
        self.requests.values().any(|request| {
            let patience = if request.probe { PROBE } else { self.heartbeat * 2 };
            now.saturating_duration_since(request.heard) > patience
        })
    }
}
