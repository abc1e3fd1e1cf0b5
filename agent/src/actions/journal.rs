//! What was begun and not ended, on disk before it happens: what the next start removes after a kill or a crash.
//!
//! # Format
//! One JSON object per line, synced each: `{"begin":{..}}` ([`Begin`]) before a fault's first step, `{"end":{"id"}}`
//! after its last undo. A torn last line is none. Ids of another boot name nothing that could be left. The file begins
//! anew with every start, once its leftovers are gone.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::order::Change;

/// A line is some 500 bytes, and a fault of one second writes two: a day of them.
const MAX_BYTES: u64 = 64 << 20;

/// The beginning of a fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Begin {
    pub(super) id: String,
    pub(super) boot_id: String,
    /// Wall time, ns since the epoch.
    pub(super) at_ns: i64,
    pub(super) kind: String,
    /// In words.
    pub(super) target: String,
    pub(super) unit: String,
    pub(super) amount: f64,
    pub(super) duration_s: f64,
    pub(super) ramp_s: f64,
    /// What the kernel does not take back.
    #[serde(default)]
    pub(super) changes: Vec<Change>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Begin(Begin),
    End { id: String },
}

/// The open journal.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    size_bytes: u64,
}

impl Journal {
    /// Opens it; what an earlier life left open.
    ///
    /// # Errors
    /// When it cannot be made or read.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Vec<Begin>)> {
        let mut file = File::options().create(true).append(true).read(true).open(path)?;
        let mut text = Vec::new();
        Read::by_ref(&mut file).take(MAX_BYTES).read_to_end(&mut text)?;
        let mut open: Vec<Begin> = Vec::new();
        for line in text.split(|byte| *byte == b'\n') {
            match serde_json::from_slice(line) {
                Ok(Line::Begin(begin)) => open.push(begin),
                Ok(Line::End { id }) => open.retain(|begin| begin.id != id),
                Err(_) => {} // torn, or nothing
            }
        }
        if text.last().is_some_and(|byte| *byte != b'\n') {
            file.write_all(b"\n")?;
        }
        let size_bytes = file.metadata()?.len();
        Ok((Self { path: path.to_owned(), file, size_bytes }, open))
    }

    /// Forgets everything: the leftovers are gone.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.size_bytes = 0;
        self.file.sync_all()?;
        // The file's name is to survive a power cut too.
        let parent = self.path.parent().unwrap_or(Path::new("."));
        File::open(parent)?.sync_all()
    }

    /// Says that a fault begins; on disk when this returns.
    ///
    /// # Errors
    /// The disk's, or the journal is full.
    pub(super) fn begin(&mut self, begin: &Begin) -> io::Result<()> {
        if self.size_bytes > MAX_BYTES / 2 {
            return Err(io::Error::other("the journal is full: restart the node"));
        }
        self.append(&Line::Begin(begin.clone()))
    }

    /// Says that a fault is undone.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn end(&mut self, id: &str) -> io::Result<()> {
        self.append(&Line::End { id: id.to_owned() })
    }

    fn append(&mut self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.size_bytes += text.len() as u64;
        self.file.write_all(&text)?;
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(id: &str) -> Begin {
        Begin {
            id: id.to_owned(),
            boot_id: "boot".to_owned(),
            at_ns: 5,
            kind: "cpu".to_owned(),
            target: "pid 42".to_owned(),
            unit: "percent_of_core".to_owned(),
            amount: 30.0,
            duration_s: 10.0,
            ramp_s: 0.5,
            changes: vec![Change { file: "/x/io.max".into(), apply: "a".to_owned(), undo: "b".to_owned() }],
        }
    }

    #[test]
    fn what_was_not_ended_is_found_again_even_behind_a_torn_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("actions.journal");
        let (mut journal, open) = Journal::open(&path).unwrap();
        assert_eq!(open, []);
        journal.begin(&begin("a")).unwrap();
        journal.begin(&begin("b")).unwrap();
        journal.end("a").unwrap();
        journal.file.write_all(br#"{"begin":{"id":"c","boo"#).unwrap();
        let (mut journal, open) = Journal::open(&path).unwrap();
        assert_eq!(open, [begin("b")]);
        journal.begin(&begin("d")).unwrap();
        let (mut journal, open) = Journal::open(&path).unwrap();
        assert_eq!(open, [begin("b"), begin("d")], "the torn line swallows none");
        journal.clear().unwrap();
        assert_eq!(Journal::open(&path).unwrap().1, []);
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error() {
        assert!(Journal::open(Path::new("/no/such/dir/journal")).is_err());
    }
}
