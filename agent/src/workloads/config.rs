//! `[workloads]`: whether loads may be started at all, and how far. By whom, `[keys]` says.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `[workloads]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Take requests for workloads.
    pub enabled: bool,
    /// Workloads at once: each has a process and a series of reports of some 40 kB.
    pub max_concurrent: usize,
    /// Threads of all workloads together. Each is a connection, and a MariaDB takes 151 unless it is told otherwise.
    pub max_threads: u32,
    /// Longest workload, s, and how long one runs that names no duration: one that was forgotten ends within a day.
    pub max_duration_s: u32,
    /// Most rows that one request may make, all tables together: a row is some 200 bytes on the database's disk.
    pub max_rows: u64,
    /// The program: a name that is looked for in the usual places, or a path.
    pub sysbench: PathBuf,
    /// Where its scripts lie, if it does not find them by itself.
    pub sysbench_scripts: PathBuf,
    /// The database that holds its tables; made if it is missing.
    pub database: String,
    /// Tables that `prepare` makes unless it is told otherwise: the reference's.
    pub tables: u32,
    /// Rows of each.
    pub table_size: u32,
    /// Processes that survive the node: only in a debug build.
    #[cfg(debug_assertions)]
    #[serde(skip_serializing)]
    pub unguarded_workers: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: false,
            max_concurrent: 8,
            max_threads: 128,
            max_duration_s: 86_400,
            max_rows: 20_000_000,
            sysbench: "sysbench".into(),
            sysbench_scripts: PathBuf::new(),
            database: "sbtest".to_owned(),
            tables: 10,
            table_size: 100_000,
            #[cfg(debug_assertions)]
            unguarded_workers: false,
        }
    }
}

impl Config {
    #[cfg(debug_assertions)]
    pub(super) const fn guarded(&self) -> bool {
        !self.unguarded_workers
    }

    #[cfg(not(debug_assertions))]
    #[expect(clippy::unused_self, reason = "a release build's workers always are")]
    pub(super) const fn guarded(&self) -> bool {
        true
    }

    /// What is wrong with it.
    ///
    /// # Errors
    /// A name that would need quoting in a query.
    pub fn check(&self) -> Result<(), String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let name = &self.database;
        if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
            return Err(format!("database: {name:?} is no name of letters, digits and _, such as sbtest"));
        }
        Ok(())
    }
}
