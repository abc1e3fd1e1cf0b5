//! What can go wrong.

use crate::disk;

/// Why something was not done; nothing of it was then.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting that cannot be.
    #[error("queue: {0}")]
    Config(String),
    /// The file cannot be opened; see [`disk::Error`].
    #[error("queue: {0}")]
    Open(#[from] disk::Error),
    /// The thread that owns the file could not be started.
    #[error("queue: cannot start its thread")]
    Thread(#[source] std::io::Error),
    /// The servers are not there, or not what they have to be.
    #[error("queue: {0}")]
    Servers(String),
    /// A name, a number or a batch that cannot be.
    #[error("{0}")]
    Invalid(String),
    /// More bytes or records than are ever taken.
    #[error("{what} is {size}, at most {limit} are taken")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// One topic, partition or group more than there may be.
    #[error("{0}")]
    TooMany(String),
    /// Groups have that much to acknowledge already.
    #[error("{0}")]
    Full(String),
    /// Requests come faster than the disk takes them.
    #[error("queue: too many requests wait for the disk")]
    Busy,
    /// No such topic, partition or group.
    #[error("{0}")]
    Unknown(String),
    /// The disk or the servers do not take it. Of a batch without an id servers may have kept all, and not said so.
    #[error("the queue cannot keep it: {0}")]
    Disk(String),
    /// The receiver is stopping.
    #[error("queue is closed")]
    Closed,
}
