//! How far nodes' records were read: a number in a file, replaced whole.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

const FILE_NAME: &str = "series.cursor";

/// See the module.
#[derive(Debug)]
pub(super) struct Cursor {
    path: PathBuf,
}

impl Cursor {
    pub(super) fn new(directory: &Path) -> Self {
        Self { path: directory.join(FILE_NAME) }
    }

    /// The last record that was read; 0 where nothing says so: they are read again then, which does no harm.
    pub(super) fn load(&self) -> u64 {
        fs::read_to_string(&self.path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    }

    /// Keeps it; the file is the old one or the new one, whatever happens.
    pub(super) fn store(&self, id: u64) -> io::Result<()> {
        let fresh = self.path.with_extension("cursor.new");
        let mut file = fs::File::create(&fresh)?;
        writeln!(file, "{id}")?;
        file.sync_data()?;
        fs::rename(&fresh, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_is_the_beginning() {
        let directory = tempfile::tempdir().unwrap();
        let cursor = Cursor::new(directory.path());
        assert_eq!(cursor.load(), 0);
        cursor.store(7).unwrap();
        cursor.store(8).unwrap();
        assert_eq!(Cursor::new(directory.path()).load(), 8);
        fs::write(directory.path().join(FILE_NAME), "torn").unwrap();
        assert_eq!(cursor.load(), 0);
    }
}
