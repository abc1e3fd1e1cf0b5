//! Keeps one database usable: opens it, catches what damage does to it, opens it again.

use std::panic::{self, AssertUnwindSafe};
use std::time::Duration;

use redb::{Builder, Database};
use tokio::time::Instant;
use tracing::{error, warn};

use super::medium::Medium;
use super::{Error, Verdict};

/// Between two tries to open a database whose disk says no: long enough not to spin on a full disk, short
/// enough that nobody waits for a restart.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);

/// Makes what a fresh database needs and checks that an old one makes sense; an error of kind
/// [`redb::Error::Corrupted`] has it replaced.
pub type Prepare = fn(&Database) -> Result<(), redb::Error>;

/// The one owner of a database.
pub struct Keeper {
    medium: Box<dyn Medium>,
    cache_bytes: usize,
    prepare: Prepare,
    database: Option<Database>,
    reopen_at: Option<Instant>,
    replaced: Option<Error>,
}

impl Keeper {
    /// Opens the database; every page's checksum is verified. A damaged one is replaced (ask
    /// [`Keeper::take_replaced`]), and one on a full disk is opened later, at its first successful use.
    ///
    /// # Errors
    /// [`Error::Locked`], or [`Error::Unavailable`] for rights and paths that waiting will not mend.
    pub fn open(medium: impl Medium, cache_bytes: usize, prepare: Prepare) -> Result<Self, Error> {
        Self::open_large(medium, cache_bytes, u64::MAX, prepare)
    }

    /// As [`Keeper::open`], but the pages of a file beyond `verify_up_to_bytes` are not verified: opening takes
    /// the same short time however large it is. Damage in one shows when it is read.
    ///
    /// # Errors
    /// As [`Keeper::open`].
    pub fn open_large(
        medium: impl Medium,
        cache_bytes: usize,
        verify_up_to_bytes: u64,
        prepare: Prepare,
    ) -> Result<Self, Error> {
        let medium = Box::new(medium);
        let mut keeper =
            Self { medium, cache_bytes, prepare, database: None, reopen_at: None, replaced: None };
        match keeper.reopen(keeper.size_bytes() <= verify_up_to_bytes) {
            Err(Error::Unavailable { name, words, permanent: false }) => {
                warn!(name, words, "database cannot be opened, will try again");
                Ok(keeper)
            }
            Err(error @ (Error::Locked { .. } | Error::Unavailable { .. })) => Err(error),
            Err(replaced @ Error::Replaced { .. }) => {
                keeper.replaced = Some(replaced);
                Ok(keeper)
            }
            Ok(()) => Ok(keeper),
        }
    }

    /// What was replaced at opening, once.
    pub fn take_replaced(&mut self) -> Option<Error> {
        self.replaced.take()
    }

    /// Bytes on disk.
    pub fn size_bytes(&self) -> u64 {
        self.medium.size_bytes()
    }

    /// Does `work` on the database. A panic inside counts as damage: redb trusts the pages it reads.
    ///
    /// # Errors
    /// Any [`Error`]; whatever it is, the next call starts from a freshly opened database.
    pub fn with<R>(
        &mut self,
        work: impl FnOnce(&mut Database) -> Result<R, redb::Error>,
    ) -> Result<R, Error> {
        if self.database.is_none() {
            self.reopen(false)?;
        }
        let Some(database) = self.database.as_mut() else {
            return Err(self.unavailable("not open".to_owned(), false));
        };
        let failure = match panic::catch_unwind(AssertUnwindSafe(|| work(database))) {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) => Verdict::of(&error),
            Err(_) => Verdict::Damaged("reading it panicked".to_owned()),
        };
        self.close();
        match failure {
            Verdict::Damaged(words) => Err(self.replace(words)),
            Verdict::Locked => Err(Error::Locked { name: self.medium.name() }),
            Verdict::Disk(words, permanent) => Err(self.unavailable(words, permanent)),
        }
    }

    fn reopen(&mut self, verify: bool) -> Result<(), Error> {
        if self.reopen_at.is_some_and(|at| Instant::now() < at) {
            return Err(self.unavailable("waiting to try again".to_owned(), false));
        }
        let result = match self.try_open(verify) {
            Ok(()) => return Ok(()),
            Err(Verdict::Damaged(words)) => Err(self.replace(words)),
            Err(Verdict::Locked) => Err(Error::Locked { name: self.medium.name() }),
            Err(Verdict::Disk(words, permanent)) => Err(self.unavailable(words, permanent)),
        };
        if self.database.is_none() {
            self.reopen_at = Some(Instant::now() + REOPEN_PAUSE);
        }
        result
    }

    fn try_open(&mut self, verify: bool) -> Result<(), Verdict> {
        let opened = panic::catch_unwind(AssertUnwindSafe(|| -> Result<Database, redb::Error> {
            let mut builder = Builder::new();
            builder.set_cache_size(self.cache_bytes).set_check_integrity_on_open(verify);
            let database = self.medium.open(&builder)?;
            (self.prepare)(&database)?;
            Ok(database)
        }));
        match opened {
            Ok(Ok(database)) => {
                self.database = Some(database);
                self.reopen_at = None;
                Ok(())
            }
            Ok(Err(error)) => Err(Verdict::of(&error)),
            Err(_) => Err(Verdict::Damaged("opening it panicked".to_owned())),
        }
    }

    /// Sets the damaged database aside and opens a fresh one in its place.
    fn replace(&mut self, words: String) -> Error {
        let name = self.medium.name();
        let aside = match self.medium.set_aside() {
            Ok(aside) => aside,
            Err(cause) => {
                return self
                    .unavailable(format!("damaged ({words}) and cannot be set aside: {cause}"), false);
            }
        };
        error!(name, words, aside, "database was damaged, starting a fresh one");
        match self.try_open(false) {
            Ok(()) => Error::Replaced { name, words, aside },
            Err(Verdict::Disk(why, permanent)) => self.unavailable(why, permanent),
            Err(Verdict::Damaged(why)) => {
                self.unavailable(format!("a fresh one is damaged too: {why}"), false)
            }
            Err(Verdict::Locked) => Error::Locked { name },
        }
    }

    /// Closing may write, and fail or panic on the same damage: neither matters any more.
    fn close(&mut self) {
        if let Some(database) = self.database.take() {
            let closed = panic::catch_unwind(AssertUnwindSafe(|| database.close()));
            if let Ok(Err(error)) = closed {
                warn!(name = self.medium.name(), %error, "database did not close cleanly");
            }
        }
    }

    fn unavailable(&self, words: String, permanent: bool) -> Error {
        Error::Unavailable { name: self.medium.name(), words, permanent }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.close();
    }
}
