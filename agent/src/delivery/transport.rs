//! How a batch reaches a receiver: a seam, with HTTP or JetStream behind it and in tests a line that drops, delays and lies.
//!
//! [`ring`] makes one of several.

pub mod http;
pub mod jetstream;
pub mod ring;

use std::future::Future;
use std::time::Duration;

use crate::api::batch::{Ack, Batch, Refused};

/// Sends batches to one receiver.
pub trait Transport: Send + Sync + 'static {
    /// Sends a batch once and returns the receiver's answer as it is; the forwarder judges it.
    fn send(&self, batch: &Batch) -> impl Future<Output = Result<Ack, SendError>> + Send;

    /// Whether it would take a batch now, as far as it says.
    fn ready(&self) -> impl Future<Output = bool> + Send;

    /// The receiver, for messages.
    fn target(&self) -> String;

    /// Those that would take over.
    fn others(&self) -> Vec<Other> {
        Vec::new()
    }
}

/// A receiver that does not get this node's records at present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// The receiver.
    pub receiver: String,
    /// It failed lately; else it is ready to take over, as far as anybody knows.
    pub left_alone: bool,
}

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The receiver understood and said no; `refused` is `None` where somebody else answered for it.
    #[error("receiver refuses: {words}")]
    Refused {
        /// What exactly.
        refused: Option<Refused>,
        /// The receiver's words.
        words: String,
    },
    /// The receiver has no room now.
    #[error("receiver is busy: {words}")]
    Busy {
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
        /// The receiver's words.
        words: String,
    },
    /// No answer, or one that says nothing about the batch.
    #[error("{words}")]
    Unavailable {
        /// What happened.
        words: String,
    },
}

impl SendError {
    /// When a busy receiver wants to be asked again.
    const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after, .. } => *retry_after,
            Self::Refused { .. } | Self::Unavailable { .. } => None,
        }
    }

    /// Says which receiver it was.
    fn of(mut self, receiver: &str) -> Self {
        let (Self::Refused { words, .. } | Self::Busy { words, .. } | Self::Unavailable { words }) =
            &mut self;
        *words = format!("{receiver}: {words}");
        self
    }
}
