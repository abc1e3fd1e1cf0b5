//! Where records go that nobody can take: the topic `NAME.dead`.
//!
//! A record is kept there before it is acknowledged here. Between the two a receiver may die; the letter has a name of
//! its own, so that the next one who buries the record is told that it is there.

use std::time::Duration;

use async_nats::HeaderMap;
use tokio::time::Instant;

use super::super::message::{Message, MessageId, Origin};
use super::super::{Error, name};
use super::api::{PATIENCE, code};
use super::core::{Core, Topic};
use super::flight::Change;

const ORIGIN: &str = "Sextant-Origin";
const GROUP: &str = "Sextant-Group";
const DELIVERIES: &str = "Sextant-Deliveries";
/// When it was produced, ns since the epoch.
const CREATED: &str = "Sextant-Created";

/// A record on its way there, or to a consumer.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub(super) id: MessageId,
    pub(super) at_ns: i64,
    pub(super) payload: Vec<u8>,
    pub(super) deliveries: u32,
}

impl Letter {
    /// As a consumer gets it.
    pub(super) fn into_message(self, headers: &HeaderMap) -> Message {
        let header = |name: &str| headers.get(name).map(|value| value.as_str());
        let origin = || {
            Some(Origin {
                id: header(ORIGIN)?.parse().ok()?,
                group: header(GROUP)?.to_owned(),
                deliveries: header(DELIVERIES)?.parse().ok()?,
            })
        };
        let at_ns = header(CREATED).and_then(|at| at.parse().ok()).unwrap_or(self.at_ns);
        Message { id: self.id, at_ns, deliveries: self.deliveries, origin: origin(), payload: self.payload }
    }
}

impl Core {
    /// A record that is on the servers alone.
    pub(super) async fn bury_stored(
        &self,
        topic: &Topic,
        group: &str,
        ack: &str,
        id: MessageId,
        deliveries: u32,
    ) -> Change {
        match self.api.get(&topic.stream, id.offset).await {
            Ok(stored) => {
                let letter = Letter { id, at_ns: stored.at_ns, payload: stored.payload, deliveries };
                self.bury(topic, group, ack, letter).await
            }
            Err(fault) if fault.is(code::NO_MESSAGE) => Change::Acked,
            Err(_) => Change::Kept(self.later()),
        }
    }

    /// While there is no room for it, that is tried again after another timeout.
    pub(super) async fn bury(&self, topic: &Topic, group: &str, ack: &str, letter: Letter) -> Change {
        let (id, deliveries) = (letter.id, letter.deliveries);
        match self.try_bury(topic, group, ack, letter).await {
            Ok(()) => {
                self.metrics.dead.inc();
                let (topic, dead) = (&topic.name, name::dead(&topic.name));
                tracing::warn!(topic, group, %id, deliveries, dead, "record went to the dead letters");
                Change::Acked
            }
            Err(error) => {
                tracing::warn!(topic = topic.name, group, %id, %error, "record cannot go to the dead letters yet");
                let delay = format!("-NAK {{\"delay\":{}}}", self.config.visibility_timeout().as_nanos());
                // Lost, it comes again when its time is out.
                let _sent = self.api.client.publish(ack.to_owned(), delay.into()).await;
                Change::Kept(self.later())
            }
        }
    }

    async fn try_bury(&self, topic: &Topic, group: &str, ack: &str, letter: Letter) -> Result<(), Error> {
        let dead = self.made(&name::dead(&topic.name), topic.width).await?;
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", format!("{group}/{}", letter.id).as_str());
        headers.insert(ORIGIN, letter.id.to_string().as_str());
        headers.insert(GROUP, group);
        headers.insert(DELIVERIES, letter.deliveries.to_string().as_str());
        headers.insert(CREATED, letter.at_ns.to_string().as_str());
        let subject = self.names.subject(&dead.name, letter.id.partition);
        self.api.publish(subject, headers, letter.payload, PATIENCE).await?;
        self.api.settle(ack.to_owned(), "+ACK".to_owned()).await?;
        Ok(())
    }

    fn later(&self) -> Instant {
        Instant::now() + self.config.visibility_timeout().max(Duration::from_secs(1))
    }
}
