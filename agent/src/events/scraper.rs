//! Who was sent what, in scrape time: a cursor for each scraper, kept over connections and restarts.
//!
//! Without timestamps a sample that is sent twice is stored twice, so that a new connection must not begin anew. Scrapers
//! are told apart by `?scraper=`, or by their address, as the reference does.

use std::collections::HashMap;

use super::journal::{Row, Table};
use super::progress::Progress;
use super::session::Scrape;
use super::text::Batch;
use super::window::{Seq, Window};
use super::{Config, Metrics, Promise};

/// All that are known.
#[derive(Debug, Default)]
pub(super) struct Scrapers(HashMap<String, Scraper>);

#[derive(Debug, Default)]
struct Scraper {
    progress: Progress,
    /// What the last answer had, and its connection.
    outstanding: Option<(u64, Vec<Seq>)>,
}

/// An answer, and what has to be on disk before it goes out.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) row: Row,
    pub(super) batch: Batch,
}

impl Scrapers {
    /// As an earlier process left them.
    pub(super) fn of(known: Vec<(String, Progress)>) -> Self {
        let scraper = |progress| Scraper { progress, outstanding: None };
        Self(known.into_iter().map(|(key, progress)| (key, scraper(progress))).collect())
    }

    /// How far one of this name is.
    pub(super) fn progress(&self, name: &str) -> Option<&Progress> {
        self.0.get(name).map(|scraper| &scraper.progress)
    }

    /// None for one too many.
    pub(super) fn scrape(
        &mut self,
        window: &Window,
        config: &Config,
        metrics: &Metrics,
        (connection, scrape): (u64, &Scrape<'_>),
    ) -> Option<Sent> {
        let key = scrape.scraper.to_owned();
        if !self.0.contains_key(&key) && self.0.len() >= config.max_scrapers {
            metrics.scrape("refused");
            return None;
        }
        let scraper = self
            .0
            .entry(key.clone())
            .or_insert_with(|| Scraper { progress: Progress::at(window.first()), outstanding: None });
        let confirmed = match scraper.outstanding.take() {
            Some((before, seqs)) if before == connection && !scrape.is_forwarded => {
                seqs.into_iter().for_each(|seq| scraper.progress.mark(seq));
                true
            }
            _ => false,
        };
        metrics.scrape(if confirmed { "confirmed" } else { "fresh" });
        let next = scraper.progress.next(window, config.max_samples_per_scrape);
        let seqs: Vec<_> = next.iter().map(|(seq, _)| *seq).collect();
        metrics.sent(seqs.len() as u64, 0);
        match config.promise {
            Promise::AtMostOnce => seqs.into_iter().for_each(|seq| scraper.progress.mark(seq)),
            Promise::AtLeastOnce | Promise::ExactlyOnce => scraper.outstanding = Some((connection, seqs)),
        }
        let events = next.into_iter().map(|(_, event)| event).collect();
        let row = Row { table: Table::Scrapers, key, bytes: scraper.progress.to_bytes() };
        Some(Sent { row, batch: Batch { events, ..Batch::default() } })
    }
}
