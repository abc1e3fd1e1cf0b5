//! What a database stands on: a file in a data directory.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use redb::{Builder, Database, DatabaseError};

/// Gives the database each time it is opened, and takes a damaged one away.
pub trait Medium: Send + 'static {
    /// The subject of messages.
    fn name(&self) -> String;

    /// Opens the database, made fresh if there is none.
    ///
    /// # Errors
    /// redb's own; the keeper decides what they mean.
    fn open(&mut self, builder: &Builder) -> Result<Database, DatabaseError>;

    /// Takes a damaged database out of the way and says where it is; at most one is kept.
    ///
    /// # Errors
    /// The disk's.
    fn set_aside(&mut self) -> io::Result<String>;

    /// Bytes it occupies, 0 if that cannot be told.
    fn size_bytes(&self) -> u64;
}

/// A file.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
}

impl File {
    /// The file `name` in `directory`; nothing is touched yet.
    #[must_use]
    pub fn new(directory: &Path, name: &str) -> Self {
        Self { path: directory.join(name) }
    }

    fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }
}

impl Medium for File {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn open(&mut self, builder: &Builder) -> Result<Database, DatabaseError> {
        fs::create_dir_all(self.directory())?;
        // Records name processes and pods: for the owner only.
        fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&self.path)?;
        let database = builder.create(&self.path)?;
        // The file is durable only when its name is.
        fs::File::open(self.directory())?.sync_all()?;
        Ok(database)
    }

    fn set_aside(&mut self) -> io::Result<String> {
        let aside = self.path.with_extension("damaged");
        fs::rename(&self.path, &aside)?;
        Ok(format!("set aside as {}", aside.display()))
    }

    fn size_bytes(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |meta| meta.len())
    }
}
