//! The door through which posted records leave the HTTP side: whoever holds the other end makes them durable.
//!
//! A bounded channel with an answer per message: the handler waits for the answer, so a 200 means that the
//! records are on disk.

use tokio::sync::{mpsc, oneshot};

use crate::api::bss::Record;

/// Posts that may wait at once; each holds at most one body's records. More is answered 429.
pub const CAPACITY: usize = 64;

/// Why records were not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcceptError {
    /// Too many posts wait already: come back.
    #[error("busy")]
    Busy,
    /// They cannot be made durable at the moment, and why.
    #[error("{0}")]
    Degraded(String),
}

/// The HTTP side's end.
#[derive(Clone, Debug)]
pub struct Recorder(mpsc::Sender<Post>);

/// What comes out at the other end.
#[derive(Debug)]
pub struct Post {
    /// The records, in the sender's order.
    pub records: Vec<Record>,
    /// To be answered once they are durable, or cannot be.
    pub reply: oneshot::Sender<Result<(), AcceptError>>,
}

/// Both ends.
pub fn channel() -> (Recorder, mpsc::Receiver<Post>) {
    let (sender, receiver) = mpsc::channel(CAPACITY);
    (Recorder(sender), receiver)
}

impl Recorder {
    /// Returns once the records are durable.
    ///
    /// # Errors
    /// [`AcceptError`]: they are not, and the sender must be told.
    pub async fn accept(&self, records: Vec<Record>) -> Result<(), AcceptError> {
        let (reply, answer) = oneshot::channel();
        self.0.try_send(Post { records, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => AcceptError::Busy,
            mpsc::error::TrySendError::Closed(_) => AcceptError::Degraded("the recorder has stopped".into()),
        })?;
        answer.await.unwrap_or_else(|_| Err(AcceptError::Degraded("the recorder stopped in between".into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_is_accepted_that_nobody_took() {
        let (recorder, mut posts) = channel();
        let accepted = tokio::spawn({
            let recorder = recorder.clone();
            async move { recorder.accept(vec![Record::default()]).await }
        });
        let post = posts.recv().await.expect("sent");
        assert_eq!(post.records.len(), 1);
        drop(post.reply);
        assert!(matches!(accepted.await.expect("no panic"), Err(AcceptError::Degraded(_))), "taker died");

        let full: Vec<_> = (0..=CAPACITY)
            .map(|_| recorder.0.try_send(Post { records: Vec::new(), reply: oneshot::channel().0 }))
            .collect();
        assert!(full[CAPACITY].is_err());
        assert_eq!(recorder.accept(Vec::new()).await, Err(AcceptError::Busy));
        drop(posts);
        assert!(matches!(recorder.accept(Vec::new()).await, Err(AcceptError::Degraded(_))));
    }
}
