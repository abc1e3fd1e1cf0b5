//! The journal: a redb file, and the one thread that owns it.

use tokio::sync::oneshot;

use self::history::{Query, Told};
use super::event::Checked;
use super::window::Seq;
use super::{Accepted, Error};

pub(super) mod history;
pub(super) mod table;
pub(super) mod worker;

/// One scraper's row.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) table: Table,
    pub(super) key: String,
    pub(super) bytes: Vec<u8>,
}

/// Where it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    /// How far it is.
    Scrapers,
    /// The same, and what its last answer held: the format is `verified`'s.
    Verified,
}

/// What the thread is asked.
pub(super) enum Command {
    /// Keep these, all or none.
    Post { events: Vec<Checked>, reply: oneshot::Sender<Result<Vec<Accepted>, Error>> },
    /// Look for what is past the window.
    Tick,
    /// Everything before was forwarded.
    Forwarded(Seq),
    /// What is known of a scraper.
    Keep { row: Row, reply: oneshot::Sender<Result<(), Error>> },
    /// What [`Table::Verified`] has of a scraper.
    Verified { name: String, reply: oneshot::Sender<Result<Option<Vec<u8>>, Error>> },
    /// What was said.
    History { query: Query, reply: oneshot::Sender<Result<Vec<Told>, Error>> },
    /// The end.
    Close { reply: oneshot::Sender<Result<(), Error>> },
}
