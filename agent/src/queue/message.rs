//! What goes in and comes out.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::{Config, Error, MAX_BATCH, MAX_BATCH_BYTES, MAX_PAYLOAD_BYTES, MAX_PULL, name};

/// A record's name: unlike in any other queue file, and of any other record in this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId {
    /// The file's own number, drawn when it is made: ids of a lost file name nothing in its successor.
    pub epoch: u32,
    /// The partition's index in its topic.
    pub partition: u32,
    /// Place in the partition; grows by one per record.
    pub offset: u64,
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{}-{}", self.epoch, self.partition, self.offset)
    }
}

impl FromStr for MessageId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.splitn(3, '-');
        let mut part = || parts.next().ok_or(());
        let (epoch, partition, offset) = (part()?, part()?, part()?);
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if epoch.len() != 8 || !epoch.bytes().all(hex) || !digits(partition) || !digits(offset) {
            return Err(());
        }
        Ok(Self {
            epoch: u32::from_str_radix(epoch, 16).map_err(|_| ())?,
            partition: partition.parse().map_err(|_| ())?,
            offset: offset.parse().map_err(|_| ())?,
        })
    }
}

/// A record to keep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewMessage {
    /// Records with the same key go to the same partition, where the batch names none.
    pub key: Option<String>,
    /// Opaque.
    pub payload: Vec<u8>,
}

/// Records to keep together.
#[derive(Clone, Debug, Default)]
pub struct Produce {
    /// The topic; made if there is none.
    pub topic: String,
    /// The partition; without one the key decides, and without a key the batch goes to the partitions in turn.
    pub partition: Option<u32>,
    /// The batch's own name: one that came before is not kept again.
    pub id: Option<String>,
    /// The records.
    pub messages: Vec<NewMessage>,
}

impl Produce {
    pub(super) fn size_bytes(&self) -> usize {
        let of = |message: &NewMessage| message.payload.len() + message.key.as_ref().map_or(0, String::len);
        self.messages.iter().map(of).sum()
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        name::check_new(&self.topic)?;
        self.id.iter().try_for_each(|id| name::check_id("id", id))?;
        let count = self.messages.len();
        if count == 0 {
            return Err(Error::Invalid("a batch has at least one message".to_owned()));
        }
        let within = |what, size, limit| {
            if size > limit { Err(Error::TooLarge { what, size, limit }) } else { Ok(()) }
        };
        within("messages of a batch", count, MAX_BATCH)?;
        for message in &self.messages {
            message.key.iter().try_for_each(|key| name::check_id("key", key))?;
            within("payload, in bytes,", message.payload.len(), MAX_PAYLOAD_BYTES)?;
        }
        within("batch, in bytes,", self.size_bytes(), MAX_BATCH_BYTES)
    }
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Produced {
    /// One for each record, in order.
    pub ids: Vec<MessageId>,
    /// It was kept before, under its id.
    pub duplicate: bool,
}

/// What a consumer wants.
#[derive(Clone, Debug)]
pub struct Pull {
    /// The topic.
    pub topic: String,
    /// The group it belongs to.
    pub group: String,
    /// Only this partition; without one, all of them.
    pub partition: Option<u32>,
    /// Records at most, 1 to [`MAX_PULL`].
    pub max_messages: usize,
    /// Bytes at most; a single larger record is given alone.
    pub max_bytes: usize,
    /// Wait until there is one.
    pub wait: bool,
    /// Make the topic, the partition and the group if they are not there; else that is an error.
    pub make: bool,
    /// The consumer's number, 0 for one that does not stay.
    pub consumer: u64,
    /// Records that this consumer may hold unacknowledged; it waits at that many.
    pub credit: usize,
    /// The last record that reached the consumer before it lost its stream: what was sent to it after that one and
    /// never arrived comes again at once.
    pub after: Option<MessageId>,
}

impl Pull {
    pub(super) fn check(&self) -> Result<(), Error> {
        name::check("topic", &self.topic)?;
        name::check("group", &self.group)?;
        if (1..=MAX_PULL).contains(&self.max_messages) && (1..=MAX_PULL).contains(&self.credit) {
            return Ok(());
        }
        Err(Error::Invalid(format!("max and credit are 1 to {MAX_PULL}")))
    }
}

/// A delivered record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its name.
    pub id: MessageId,
    /// When it was produced, ns since the epoch.
    pub at_ns: i64,
    /// How often it was delivered to this group, this time included; 0 for one that was never under way.
    pub deliveries: u32,
    /// Where a dead letter comes from.
    pub origin: Option<Origin>,
    /// As it came.
    pub payload: Vec<u8>,
}

/// Where a dead letter comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Its name in its own topic.
    pub id: MessageId,
    /// The group that did not acknowledge it.
    pub group: String,
    /// How often it was delivered to it.
    pub deliveries: u32,
}

/// What a consumer says of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Done with.
    Ack,
    /// Not done with: deliver it again, to anybody of the group, after this time.
    Nak(Duration),
    /// Still at it: count the visibility timeout, or this, from now on.
    Extend(Option<Duration>),
}

/// A verdict on records of one topic.
#[derive(Clone, Debug)]
pub struct Settle {
    /// The topic.
    pub topic: String,
    /// The group.
    pub group: String,
    /// The partition, if the caller names one: an id of another one is not its to settle.
    pub partition: Option<u32>,
    /// The verdict.
    pub verdict: Verdict,
    /// The records.
    pub ids: Vec<MessageId>,
}

impl Settle {
    pub(super) fn check(&self) -> Result<(), Error> {
        name::check("topic", &self.topic)?;
        name::check("group", &self.group)?;
        if self.ids.len() > MAX_BATCH {
            return Err(Error::TooLarge { what: "ids", size: self.ids.len(), limit: MAX_BATCH });
        }
        let time = match self.verdict {
            Verdict::Nak(delay) => delay,
            Verdict::Extend(time) => time.unwrap_or_default(),
            Verdict::Ack => Duration::ZERO,
        };
        if time > Config::MAX_EXTENSION {
            return Err(Error::Invalid("a record is set aside for a day at most".to_owned()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written_and_no_other_way() {
        let id = MessageId { epoch: 0x00c0_ffee, partition: 3, offset: u64::MAX };
        assert_eq!(id.to_string(), "00c0ffee-3-18446744073709551615");
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in [
            "",
            "1",
            "00c0ffee-3",
            "00c0ffee-3-",
            "00C0FFEE-3-1",
            "00c0ffee--1-1",
            "00c0ffee-3-+1",
            "0c0ffee-3-1",
            "00c0ffee-3-1-1",
            "00c0ffee-3-18446744073709551616",
        ] {
            assert_eq!(wrong.parse::<MessageId>(), Err(()), "{wrong}");
        }
    }
}
