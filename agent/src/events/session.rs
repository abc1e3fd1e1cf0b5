//! Who was sent what, in event time: a cursor for each connection, gone with it.
//!
//! A client that uses its connection again has read the last body to its end. What was in `redundancy` bodies that were
//! read is done with; the next body begins behind it. A connection that proves nothing, because others may share it, is
//! sent the whole window round and round.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::progress::Progress;
use super::text::Batch;
use super::window::{Seq, Window};
use super::{Config, Metrics, Shared};

/// What a request says of who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrape<'a> {
    /// It scrapes, and is not a person who looks.
    pub is_scraper: bool,
    /// What tells scrapers on one connection apart: a connection that has two of them proves nothing.
    pub identity: &'a str,
    /// Somebody is in between, who may hold the connection for several.
    pub is_forwarded: bool,
    /// In scrape time: whose cursor it is.
    pub scraper: &'a str,
}

/// One connection's memory; clones are the same connection.
#[derive(Clone, Debug)]
pub struct Session(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    id: u64,
    state: Mutex<Option<State>>,
}

impl Default for Session {
    /// Of a new connection.
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(Arc::new(Inner { id: NEXT.fetch_add(1, Ordering::Relaxed), state: Mutex::new(None) }))
    }
}

#[derive(Debug)]
struct State {
    identity: String,
    proves_nothing: bool,
    cursor: Cursor,
    /// Events of the last body that nothing has confirmed yet.
    outstanding: usize,
    metrics: Metrics,
}

impl Drop for State {
    fn drop(&mut self) {
        if self.outstanding > 0 {
            self.metrics.scrape("unconfirmed");
        }
    }
}

#[derive(Debug)]
enum Cursor {
    /// Ends of the last bodies, as many as the redundancy, oldest first.
    InOrder(VecDeque<Seq>),
    /// At most one sample of a series in a body.
    OneEach { progress: Progress, read: HashMap<Seq, usize>, sent: Vec<Seq> },
}

impl Session {
    /// Which connection.
    pub(super) fn id(&self) -> u64 {
        self.0.id
    }

    pub(super) fn scrape(
        &self,
        shared: &Shared,
        config: &Config,
        metrics: &Metrics,
        scrape: &Scrape<'_>,
    ) -> Batch {
        // Nothing that runs under it panics half way.
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (batch, delivered) = {
            let window = shared.read();
            let state = match &mut *state {
                Some(state) => {
                    state.proves_nothing |= scrape.is_forwarded || state.identity != scrape.identity;
                    metrics.scrape(if state.proves_nothing { "unprovable" } else { "confirmed" });
                    state
                }
                none => {
                    metrics.scrape("fresh");
                    none.insert(State::new(scrape, config, metrics, &window))
                }
            };
            state.next(config, &window)
        };
        if let Some(delivered) = delivered {
            shared.delivered.fetch_max(delivered, Ordering::Relaxed);
        }
        batch
    }
}

impl State {
    fn new(scrape: &Scrape<'_>, config: &Config, metrics: &Metrics, window: &Window) -> Self {
        let start = window.first();
        let cursor = if config.compat_252 {
            Cursor::OneEach { progress: Progress::at(start), read: HashMap::new(), sent: Vec::new() }
        } else {
            Cursor::InOrder(std::iter::repeat_n(start, config.redundancy).collect())
        };
        Self {
            identity: scrape.identity.to_owned(),
            proves_nothing: scrape.is_forwarded,
            cursor,
            outstanding: 0,
            metrics: metrics.clone(),
        }
    }

    /// The next body; and everything before the second value has been read.
    fn next(&mut self, config: &Config, window: &Window) -> (Batch, Option<Seq>) {
        let (max, proves) = (config.max_samples_per_scrape, !self.proves_nothing);
        let (events, first, delivered) = match &mut self.cursor {
            Cursor::InOrder(ends) => {
                let read = ends.back().copied().unwrap_or(window.first());
                let start = if proves {
                    ends.front().copied().unwrap_or(read).max(window.first())
                } else if read >= window.end() || window.len() <= max {
                    // Round again.
                    window.first()
                } else {
                    read
                };
                let end = start.saturating_add(max as u64).min(window.end()).max(start);
                ends.pop_front();
                ends.push_back(end);
                let events: Vec<_> = window.range(start, end).map(|(_, event)| event.clone()).collect();
                (events, end.saturating_sub(read.max(start)), read)
            }
            Cursor::OneEach { progress, read, sent } => {
                for seq in sent.drain(..) {
                    let times = read.entry(seq).or_default();
                    *times += 1;
                    if *times >= config.redundancy || !proves {
                        read.remove(&seq);
                        progress.mark(seq);
                    }
                }
                if !proves && progress.base() >= window.end() {
                    *progress = Progress::at(window.first());
                }
                let delivered = progress.base();
                read.retain(|seq, _| *seq >= window.first());
                let next = progress.next(window, max);
                let first = next.iter().filter(|(seq, _)| !read.contains_key(seq)).count() as u64;
                *sent = next.iter().map(|(seq, _)| *seq).collect();
                (next.into_iter().map(|(_, event)| event).collect(), first, delivered)
            }
        };
        self.outstanding = events.len();
        let repeated = (events.len() as u64).saturating_sub(first);
        self.metrics.sent(first, repeated);
        (Batch { events, with_timestamps: true, number: None }, proves.then_some(delivered))
    }
}
