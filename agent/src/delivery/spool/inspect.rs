//! A spool's accounts without a running node. The file is not changed, not even repaired.

use std::io;
use std::path::{Path, PathBuf};

use redb::Builder;

use super::worker::Status;
use super::{FILE_NAME, table};
use crate::api::batch::Accounts;
use crate::disk::copy_on_write::CopyOnWrite;

/// A look needs few pages.
const CACHE_BYTES: usize = 4 << 20;

/// Why a spool cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// There is no readable file.
    #[error("{}", path.display())]
    File {
        /// The spool's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is no database of ours, damaged, or held by a running node.
    #[error("{}", path.display())]
    Database {
        /// The spool's file.
        path: PathBuf,
        /// What redb says.
        #[source]
        source: redb::Error,
    },
}

/// The accounts of the spool in a node's data directory.
///
/// # Errors
/// [`InspectError`].
pub fn inspect(directory: &Path) -> Result<Accounts, InspectError> {
    let path = directory.join(FILE_NAME);
    let file = match CopyOnWrite::open(&path) {
        Ok(file) => file,
        Err(source) => return Err(InspectError::File { path, source }),
    };
    let looked = Builder::new()
        .set_cache_size(CACHE_BYTES)
        .create_with_backend(file)
        .map_err(redb::Error::from)
        .and_then(|database| table::look(&database));
    match looked {
        Ok(outcome) => {
            let mut status = Status::default();
            status.ledger = outcome.ledger;
            status.oldest_at_ns = outcome.oldest_at_ns;
            Ok(status.accounts())
        }
        Err(source) => Err(InspectError::Database { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::spool::SpoolMetrics;
    use crate::delivery::spool::{Config, Spool};

    #[tokio::test]
    async fn a_look_changes_nothing_and_is_refused_while_a_node_runs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        assert!(matches!(inspect(dir.path()), Err(InspectError::File { .. })), "no spool yet");

        let spool = Spool::open(dir.path(), &Config::default(), SpoolMetrics::default(), || 7).unwrap();
        spool.append_many(vec![b"one".to_vec(), b"two".to_vec()]).await.unwrap();
        assert!(matches!(inspect(dir.path()), Err(InspectError::Database { .. })), "held");

        // As after a crash: the file was never closed.
        let crashed = tempfile::tempdir().unwrap();
        std::fs::copy(&path, crashed.path().join(FILE_NAME)).unwrap();
        let before = std::fs::read(crashed.path().join(FILE_NAME)).unwrap();
        let accounts = inspect(crashed.path()).unwrap();
        assert_eq!((accounts.produced, accounts.spooled, accounts.oldest_at_ns), (2, 2, Some(7)));
        assert!(std::fs::read(crashed.path().join(FILE_NAME)).unwrap() == before, "not one byte changed");

        spool.close().await;
        assert_eq!(inspect(dir.path()).unwrap(), accounts, "and after a clean end");
    }

    #[test]
    fn what_is_no_spool_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE_NAME), vec![0xa5; 8192]).unwrap();
        assert!(matches!(inspect(dir.path()), Err(InspectError::Database { .. })));
    }
}
