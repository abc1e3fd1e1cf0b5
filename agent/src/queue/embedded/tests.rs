//! The queue by its promises, each defect of other brokers among them, over restarts, faults and kills.

mod faults;
mod kill;
mod model;
mod promises;
mod time;

use std::cell::Cell;

use super::super::MAX_PULL;
use super::super::message::{Message, NewMessage, Verdict};
use super::Embedded as Queue;
use super::*;
use crate::disk::faulty::Disk;

/// 2025-06-19T10:30:00Z
const NOW_NS: i64 = 1_750_329_000_000_000_000;

thread_local! {
    static CLOCK: Cell<i64> = const { Cell::new(NOW_NS) };
}

fn clock() -> i64 {
    CLOCK.get()
}

/// Both clocks go on, and the queue looks at them.
async fn pass(queue: &Queue, time: Duration) {
    CLOCK.set(CLOCK.get() + i64::try_from(time.as_nanos()).unwrap());
    tokio::time::advance(time).await;
    queue.tick().await.unwrap();
}

fn open(disk: &Disk, config: &Config) -> Queue {
    Queue::open_on(disk.connect(), config, Metrics::default(), clock).unwrap()
}

fn fresh() -> Queue {
    open(&Disk::default(), &Config::default())
}

fn batch(partition: u32, payloads: &[&str]) -> Produce {
    let message = |payload: &&str| NewMessage { key: None, payload: payload.as_bytes().to_vec() };
    Produce {
        topic: "t".to_owned(),
        partition: Some(partition),
        id: None,
        messages: payloads.iter().map(message).collect(),
    }
}

fn pull(group: &str, max_messages: usize) -> Pull {
    Pull {
        topic: "t".to_owned(),
        group: group.to_owned(),
        partition: Some(0),
        max_messages,
        max_bytes: 1 << 20,
        wait: false,
        make: true,
        consumer: 0,
        credit: MAX_PULL,
        after: None,
    }
}

fn settle(group: &str, verdict: Verdict, ids: Vec<MessageId>) -> Settle {
    Settle { topic: "t".to_owned(), group: group.to_owned(), partition: None, verdict, ids }
}

async fn take(queue: &Queue, group: &str, max_messages: usize) -> Vec<Message> {
    queue.pull(pull(group, max_messages)).await.unwrap().take_all()
}

fn texts(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| str::from_utf8(&message.payload).unwrap()).collect()
}

fn ids(messages: &[Message]) -> Vec<MessageId> {
    messages.iter().map(|message| message.id).collect()
}
