//! What comes out of a pull, and who takes it: nothing that was not taken is lost on the way.
//!
//! Both know nothing of an engine: each gives them what is to be done when they are dropped.

use std::collections::VecDeque;
use std::fmt;

use super::message::Message;

/// What is done with records that nobody took.
type GiveBack = Box<dyn FnOnce(VecDeque<Message>) + Send + Sync>;

/// What is done when a consumer has gone.
type Leave = Box<dyn FnOnce(Taker) + Send + Sync>;

/// Whom a delivery went to.
#[derive(Clone, Debug)]
pub(super) struct Taker {
    pub(super) topic: String,
    pub(super) group: String,
    /// 0 is one that does not stay.
    pub(super) consumer: u64,
}

/// Delivered records. Those that are still in it when it is dropped go back to the queue at once, and their delivery
/// does not count.
pub struct Parcel {
    messages: VecDeque<Message>,
    give_back: Option<GiveBack>,
}

impl Parcel {
    pub(super) fn new(
        messages: VecDeque<Message>,
        give_back: impl FnOnce(VecDeque<Message>) + Send + Sync + 'static,
    ) -> Self {
        // Most parcels of a waiting stream are not empty, and an empty one needs no way back.
        let give_back = (!messages.is_empty()).then(|| Box::new(give_back) as GiveBack);
        Self { messages, give_back }
    }

    /// The next one: now the taker's.
    pub fn take(&mut self) -> Option<Message> {
        self.messages.pop_front()
    }

    /// All of them: now the taker's.
    #[must_use]
    pub fn take_all(mut self) -> Vec<Message> {
        std::mem::take(&mut self.messages).into()
    }

    /// Nothing is left in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}

impl fmt::Debug for Parcel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parcel").field("messages", &self.messages).finish_non_exhaustive()
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        if let Some(give_back) = self.give_back.take()
            && !self.messages.is_empty()
        {
            give_back(std::mem::take(&mut self.messages));
        }
    }
}

/// A consumer that stays. When it is dropped, what it holds is its group's: it can still be acknowledged, and what
/// never arrived is known by the id that its successor names.
pub struct Consumer {
    taker: Taker,
    leave: Option<Leave>,
}

impl Consumer {
    pub(super) fn new(taker: Taker, leave: impl FnOnce(Taker) + Send + Sync + 'static) -> Self {
        Self { taker, leave: Some(Box::new(leave)) }
    }

    /// What a [`super::Pull`] names it by.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.taker.consumer
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("taker", &self.taker).finish_non_exhaustive()
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if let Some(leave) = self.leave.take() {
            leave(self.taker.clone());
        }
    }
}
