//! The journal: a redb file, and the one thread that owns it.

use tokio::sync::oneshot;

use self::history::{Query, Told};
use super::event::Checked;
use super::window::Seq;
use super::{Accepted, Error};

pub(super) mod history;
pub(super) mod table;
pub(super) mod worker;

/// What the thread is asked.
pub(super) enum Command {
    /// Keep these, all or none.
    Post { events: Vec<Checked>, reply: oneshot::Sender<Result<Vec<Accepted>, Error>> },
    /// Look for what is past the window.
    Tick,
    /// Everything before was forwarded.
    Forwarded(Seq),
    /// A scraper's progress.
    Scraped { key: String, progress: Vec<u8>, reply: oneshot::Sender<Result<(), Error>> },
    /// What was said.
    History { query: Query, reply: oneshot::Sender<Result<Vec<Told>, Error>> },
    /// The end.
    Close { reply: oneshot::Sender<Result<(), Error>> },
}
