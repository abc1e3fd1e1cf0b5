//! What comes out of a pull, and who takes it: nothing that was not taken is lost on the way.

use std::collections::VecDeque;

use tokio::sync::mpsc;

use super::message::{Message, MessageId};
use super::worker::Command;

/// Whom a delivery went to.
#[derive(Clone, Debug)]
pub(super) struct Taker {
    pub(super) topic: String,
    pub(super) group: String,
    pub(super) consumer: u64,
}

/// Delivered records. Those that are still in it when it is dropped go back to the queue at once, and their delivery
/// does not count.
#[derive(Debug)]
pub struct Parcel {
    messages: VecDeque<Message>,
    taker: Taker,
    commands: mpsc::WeakSender<Command>,
}

impl Parcel {
    pub(super) fn new(
        messages: VecDeque<Message>,
        taker: Taker,
        commands: mpsc::WeakSender<Command>,
    ) -> Self {
        Self { messages, taker, commands }
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

impl Drop for Parcel {
    fn drop(&mut self) {
        if self.messages.is_empty() {
            return;
        }
        let ids: Vec<MessageId> = self.messages.drain(..).map(|message| message.id).collect();
        if let Some(commands) = self.commands.upgrade() {
            // Where there is no room for this they come again when their time is out.
            let _late = commands.try_send(Command::Return { taker: self.taker.clone(), ids });
        }
    }
}

/// A consumer that stays. When it is dropped, what it holds is its group's: it can still be acknowledged, and what
/// never arrived is known by the id that its successor names.
#[derive(Debug)]
pub struct Consumer {
    taker: Taker,
    commands: mpsc::WeakSender<Command>,
}

impl Consumer {
    pub(super) fn new(number: u64, topic: &str, group: &str, commands: mpsc::WeakSender<Command>) -> Self {
        let taker = Taker { topic: topic.to_owned(), group: group.to_owned(), consumer: number };
        Self { taker, commands }
    }

    /// What a [`super::Pull`] names it by.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.taker.consumer
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if let Some(commands) = self.commands.upgrade() {
            // Where there is no room for this its records come again when their time is out.
            let _late = commands.try_send(Command::Left { taker: self.taker.clone() });
        }
    }
}
