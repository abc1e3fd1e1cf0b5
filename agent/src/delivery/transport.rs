//! How a batch reaches a receiver: a seam, with HTTP behind it and in tests a line that drops, delays and lies.

pub mod http;

use std::future::Future;
use std::time::Duration;

use crate::api::batch::{Ack, Batch, Refused};

/// Sends batches to one receiver.
pub trait Transport: Send + Sync + 'static {
    /// Sends a batch once and returns the receiver's answer as it is; the forwarder judges it.
    fn send(&self, batch: &Batch) -> impl Future<Output = Result<Ack, SendError>> + Send;

    /// The receiver, for messages.
    fn target(&self) -> String;
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
