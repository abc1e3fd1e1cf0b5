//! The receiver's durable queue: topics of partitions, each read by every group on its own.
//!
//! Invariants:
//! - a record is accepted when the transaction that holds it is synced, and acknowledged when the one that says so
//!   is; nothing is lost by `kill -9` or power loss, and a refused batch leaves nothing behind;
//! - every group sees every record that is kept, in the order of its partition; a record comes again when it is not
//!   acknowledged within the visibility timeout, and never goes to two consumers of a group within it;
//! - a record that was delivered [`Config::max_deliveries`] times for nothing goes to the topic `NAME.dead`, in the
//!   same transaction that takes it from its group;
//! - a record that some group has still to acknowledge is dropped for its age alone, and counted.

mod config;
pub mod embedded;
mod error;
mod message;
mod metrics;
mod name;
mod parcel;
mod state;

pub use self::config::Config;
pub use self::embedded::Embedded as Queue;
pub use self::error::Error;
pub use self::message::{Message, MessageId, NewMessage, Origin, Produce, Produced, Pull, Settle, Verdict};
pub use self::metrics::Metrics;
pub use self::name::{DEAD, MAX_NAME_BYTES};
pub use self::parcel::{Consumer, Parcel};
pub use self::state::{GroupState, PartitionState, Status, TopicState};

/// Largest payload, bytes: what other brokers take by default, and far more than a sample needs.
pub const MAX_PAYLOAD_BYTES: usize = 1 << 20;

/// Records of one batch: they are synced together, and one transaction should not keep others waiting for long.
pub const MAX_BATCH: usize = 10_000;

/// Payload bytes of one batch, for the same reason.
pub const MAX_BATCH_BYTES: usize = 4 << 20;

/// Records that one pull gets at most.
pub const MAX_PULL: usize = 1_000;

/// Topics, dead-letter topics included: they are labels of metrics and rows of one table.
pub const MAX_TOPICS: usize = 256;

/// Partitions of one topic.
pub const MAX_PARTITIONS: u32 = 256;

/// Groups of one topic: each costs a row per partition, and holds records back.
pub const MAX_GROUPS: usize = 64;

/// Rows of group and partition together; each is some 200 bytes of memory.
pub const MAX_FLIGHTS: usize = 65_536;

/// Wall time, ns since the epoch; the application stamps it.
pub type WallClock = fn() -> i64;
