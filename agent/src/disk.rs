//! Embedded databases that outlive their disk: a ground-floor room for the spool and the store.
//!
//! A redb file is kept by one thread through a [`keeper::Keeper`]. Invariants:
//! - a damaged file never stops the process: it is set aside (one such file is kept) and a fresh one is begun;
//! - an I/O error never sticks: the database is closed, and opened again at the next use;
//! - a file that another process holds is an error with a name, never waited for;
//! - redb's cache is bounded by the caller (its own default is 1 GiB).
//!
//! What stands under the database is a [`medium::Medium`]: a file, or in tests a disk that tears, reorders and
//! loses what was not synced, lies about syncing, or is full.

pub mod copy_on_write;
pub mod keeper;
pub mod medium;
pub mod row;

#[cfg(test)]
pub(crate) mod faulty;

use std::io;

/// Why a database could not be opened or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has it open.
    #[error("{name} is in use by another process")]
    Locked {
        /// File or other subject.
        name: String,
    },
    /// The disk said no; the next use tries again.
    #[error("{name}: {words}")]
    Unavailable {
        /// File or other subject.
        name: String,
        /// What exactly happened.
        words: String,
        /// Its place is taken or its rights are missing: waiting will not help a process that starts.
        permanent: bool,
    },
    /// It was damaged and has been set aside; a fresh one stands in its place, and nothing was done to it yet.
    #[error("{name} was damaged ({words}); {aside}")]
    Replaced {
        /// File or other subject.
        name: String,
        /// What was found.
        words: String,
        /// Where the damaged one is.
        aside: String,
    },
}

/// What an error of redb means for the file.
enum Verdict {
    /// Its content cannot be trusted.
    Damaged(String),
    /// Somebody else holds it.
    Locked,
    /// The disk failed; the file may be whole.
    Disk(String, bool),
}

impl Verdict {
    fn of(error: &redb::Error) -> Self {
        use redb::Error as E;
        match error {
            E::DatabaseAlreadyOpen | E::LockProtocolMismatch => Self::Locked,
            E::Io(cause) => match cause.kind() {
                // redb's words for a file that is no database, or that ends too early
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => Self::Damaged(cause.to_string()),
                io::ErrorKind::PermissionDenied
                | io::ErrorKind::NotFound
                | io::ErrorKind::AlreadyExists
                | io::ErrorKind::IsADirectory
                | io::ErrorKind::NotADirectory
                | io::ErrorKind::ReadOnlyFilesystem => Self::Disk(cause.to_string(), true),
                _ => Self::Disk(cause.to_string(), false),
            },
            E::PreviousIo | E::DatabaseClosed | E::TransactionInProgress | E::LockPoisoned(_) => {
                Self::Disk(error.to_string(), false)
            }
            other => Self::Damaged(other.to_string()),
        }
    }
}
