//! A thread for calls that may hang: a driver's library, a driver's files.
//!
//! It is asked and waited for with a time limit. One that does not answer is asked nothing more until it does, so that a
//! driver that hangs costs one thread and no collection: it is told of, and the node goes on.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Builder;

use tokio::sync::oneshot;
use tokio::time::{Duration, Instant, timeout};

/// A driver's library may want more than a reader of files; it is address space, and costs nothing until it is used.
const STACK_BYTES: usize = 1 << 20;

/// What came of asking.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked<T> {
    /// The answer.
    Answer(T),
    /// None yet; asked so long ago.
    Hangs(Duration),
    /// The thread is gone, which only a panic does.
    Gone,
}

/// The thread's owner. It ends when this is dropped, as soon as it answers.
pub(super) struct Steward<T> {
    turns: SyncSender<oneshot::Sender<T>>,
    asked: Option<(Instant, oneshot::Receiver<T>)>,
}

/// What the thread is asked, one after the other.
pub(super) struct Turns<T>(Receiver<oneshot::Sender<T>>);

impl<T> Turns<T> {
    /// The next question; `None` when nobody will ask any more.
    pub(super) fn next(&self) -> Option<oneshot::Sender<T>> {
        self.0.recv().ok()
    }
}

impl<T: Send + 'static> Steward<T> {
    /// Starts the thread, whose body answers every turn.
    ///
    /// # Errors
    /// The kernel has no thread to give.
    pub(super) fn start(name: &str, body: impl FnOnce(&Turns<T>) + Send + 'static) -> std::io::Result<Self> {
        // One question at a time: nothing waits in it.
        let (turns, asked) = sync_channel(1);
        let builder = Builder::new().name(name.to_owned()).stack_size(STACK_BYTES);
        builder.spawn(move || body(&Turns(asked)))?;
        Ok(Self { turns, asked: None })
    }

    /// Asks, or goes on waiting for what was asked before.
    pub(super) async fn ask(&mut self, patience: Duration) -> Asked<T> {
        let (since, mut answer) = match self.asked.take() {
            Some(asked) => asked,
            None => {
                let (reply, answer) = oneshot::channel();
                if self.turns.try_send(reply).is_err() {
                    return Asked::Gone;
                }
                (Instant::now(), answer)
            }
        };
        match timeout(patience, &mut answer).await {
            Ok(Ok(answer)) => Asked::Answer(answer),
            Ok(Err(_)) => Asked::Gone,
            Err(_) => {
                self.asked = Some((since, answer));
                Asked::Hangs(since.elapsed())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel as unbounded;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(50);

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "what holds the thread up in this test")]
    async fn one_that_hangs_is_waited_for_and_asked_once() {
        let (go_on, held) = unbounded::<()>();
        let mut count = 0;
        let mut steward = Steward::start("test", move |turns| {
            while let Some(turn) = turns.next() {
                count += 1;
                if count == 2 {
                    let _ = held.recv();
                }
                let _ = turn.send(count);
            }
        })
        .unwrap();
        assert_eq!(steward.ask(PATIENCE * 100).await, Asked::Answer(1));
        for _ in 0..3 {
            assert!(matches!(steward.ask(PATIENCE).await, Asked::Hangs(_)));
        }
        go_on.send(()).unwrap();
        assert_eq!(steward.ask(PATIENCE * 100).await, Asked::Answer(2), "the answer to what was asked then");
        assert_eq!(steward.ask(PATIENCE * 100).await, Asked::Answer(3));
    }

    #[tokio::test]
    async fn one_that_panicked_is_gone() {
        let mut steward: Steward<u8> = Steward::start("test", |turns| {
            let _turn = turns.next();
        })
        .unwrap();
        assert_eq!(steward.ask(PATIENCE * 100).await, Asked::Gone);
        assert_eq!(steward.ask(PATIENCE * 100).await, Asked::Gone);
    }
}
