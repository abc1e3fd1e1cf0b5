//! What the worker is told, and what it answers.

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use super::super::message::MessageId;
use super::super::metrics::Metrics;
use super::super::parcel::{Parcel, Taker};
use super::super::transaction::Work;
use super::super::{Error, Now, Produce, Produced, Pull, Settle, TopicState};
use super::{GROUP_BYTES, GROUP_RECORDS};

/// Who asked may be gone; then the answer is for nobody.
pub(in super::super) type Reply<R> = oneshot::Sender<Result<R, Error>>;

/// A batch and who waits for it.
#[derive(Debug)]
pub(in super::super) struct Append {
    pub(in super::super) batch: Produce,
    pub(in super::super) reply: Reply<Produced>,
    /// Room in the queue; given back when the batch is done.
    pub(in super::super) permit: OwnedSemaphorePermit,
    pub(in super::super) now: Now,
}

/// A pull and who waits for it.
#[derive(Debug)]
pub(in super::super) struct Ask {
    pub(in super::super) pull: Pull,
    pub(in super::super) reply: Reply<Parcel>,
    pub(in super::super) now: Now,
}

#[derive(Debug)]
pub(in super::super) enum Command {
    Produce(Box<Append>),
    Pull(Ask),
    Settle {
        settle: Settle,
        reply: Reply<Vec<bool>>,
        now: Now,
    },
    /// Delivered records that were not taken.
    Return {
        taker: Taker,
        ids: Vec<MessageId>,
    },
    /// A consumer that has gone.
    Left {
        taker: Taker,
    },
    Forget {
        topic: String,
        group: String,
        reply: Reply<()>,
        now: Now,
    },
    Topics {
        ages: bool,
        reply: Reply<Vec<TopicState>>,
        now: Now,
    },
    /// Answered with when something will be due.
    Tick {
        reply: Reply<Option<Instant>>,
        now: Now,
    },
    Close {
        reply: Reply<()>,
        now: Now,
    },
}

impl Command {
    pub(super) fn now(&self) -> Option<Now> {
        match self {
            Self::Produce(append) => Some(append.now),
            Self::Pull(ask) => Some(ask.now),
            Self::Settle { now, .. }
            | Self::Forget { now, .. }
            | Self::Topics { now, .. }
            | Self::Tick { now, .. }
            | Self::Close { now, .. } => Some(*now),
            Self::Return { .. } | Self::Left { .. } => None,
        }
    }
}

/// What may change the file.
#[derive(Debug)]
pub(super) enum Write {
    Produce(Box<Append>),
    Settle {
        settle: Settle,
        reply: Reply<Vec<bool>>,
    },
    Forget {
        topic: String,
        group: String,
        reply: Reply<()>,
    },
    /// Of a topic, partition or group that is not there yet.
    Pull(Ask),
    Tick,
}

/// One for each write.
pub(super) enum Answer {
    Produced(Result<Produced, Error>),
    Settled(Vec<bool>),
    Forgot(bool),
    Joined(Result<(), Error>),
    Ticked,
}

impl Write {
    pub(super) fn apply(&self, work: &mut Work<'_>) -> Result<Answer, redb::Error> {
        Ok(match self {
            Self::Produce(append) => Answer::Produced(work.produce(&append.batch, append.now)?),
            Self::Settle { settle, .. } => Answer::Settled(work.settle(settle)?),
            Self::Forget { topic, group, .. } => Answer::Forgot(work.forget(topic, group)?),
            Self::Pull(ask) => Answer::Joined(work.join(&ask.pull)),
            Self::Tick => {
                work.tick()?;
                Answer::Ticked
            }
        })
    }

    /// Tells who waits. A pull that has joined is given back: it is still to be served.
    pub(super) fn answer(self, answer: Answer, metrics: &Metrics) -> Option<Ask> {
        match (self, answer) {
            (Self::Produce(append), Answer::Produced(answer)) => {
                if matches!(answer, Err(Error::Full(_))) {
                    metrics.full.inc();
                }
                let Append { reply, permit, .. } = *append;
                drop(permit);
                let _gone = reply.send(answer);
            }
            (Self::Settle { reply, .. }, Answer::Settled(done)) => _ = reply.send(Ok(done)),
            (Self::Forget { topic, group, reply }, Answer::Forgot(known)) => {
                let unknown = || Error::Unknown(format!("there is no group {group} of {topic}"));
                let _gone = reply.send(known.then_some(()).ok_or_else(unknown));
            }
            (Self::Pull(ask), Answer::Joined(Ok(()))) => return Some(ask),
            (Self::Pull(ask), Answer::Joined(Err(refused))) => _ = ask.reply.send(Err(refused)),
            (other, _) => other.refuse("the answer got lost"),
        }
        None
    }

    /// The disk did not take it.
    pub(super) fn refuse(self, words: &str) {
        let error = || Error::Disk(words.to_owned());
        match self {
            Self::Produce(append) => _ = append.reply.send(Err(error())),
            Self::Settle { reply, .. } => _ = reply.send(Err(error())),
            Self::Forget { reply, .. } => _ = reply.send(Err(error())),
            Self::Pull(ask) => _ = ask.reply.send(Err(error())),
            Self::Tick => {}
        }
    }
}

/// Commands that are dealt with together.
#[derive(Debug, Default)]
pub(super) struct Group {
    records: usize,
    bytes: usize,
    pub(super) commands: Vec<Write>,
    pub(super) returned: Vec<(Taker, Vec<MessageId>)>,
    pub(super) left: Vec<Taker>,
    pub(super) topics: Vec<(Reply<Vec<TopicState>>, bool)>,
    pub(super) ticks: Vec<Reply<Option<Instant>>>,
    pub(super) close: Option<Reply<()>>,
}

impl Group {
    pub(super) fn is_full(&self) -> bool {
        self.records >= GROUP_RECORDS || self.bytes >= GROUP_BYTES || self.close.is_some()
    }

    pub(super) fn add(&mut self, command: Command) {
        self.records += 1;
        match command {
            Command::Produce(append) => {
                self.records += append.batch.messages.len() - 1;
                self.bytes += append.permit.num_permits();
                self.commands.push(Write::Produce(append));
            }
            Command::Pull(ask) => self.commands.push(Write::Pull(ask)),
            Command::Settle { settle, reply, .. } => {
                self.records += settle.ids.len();
                self.commands.push(Write::Settle { settle, reply });
            }
            Command::Forget { topic, group, reply, .. } => {
                self.commands.push(Write::Forget { topic, group, reply });
            }
            Command::Return { taker, ids } => self.returned.push((taker, ids)),
            Command::Left { taker } => self.left.push(taker),
            Command::Topics { ages, reply, .. } => self.topics.push((reply, ages)),
            Command::Tick { reply, .. } => {
                self.commands.push(Write::Tick);
                self.ticks.push(reply);
            }
            Command::Close { reply, .. } => self.close = Some(reply),
        }
    }
}
