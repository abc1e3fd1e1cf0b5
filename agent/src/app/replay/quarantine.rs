//! Where bad rows go: a CSV of `line,reason,text`, made with the first of them, written over the one of the run before.

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::sources::gpu::csv::Bad;

/// Rows that are written, of at most 4 KiB each; all are counted. Whoever repairs more of them repairs the file.
const MAX_ROWS: u64 = 10_000;

pub(super) struct Quarantine {
    path: PathBuf,
    file: Option<csv::Writer<BufWriter<File>>>,
    rows: u64,
}

impl Quarantine {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self { path, file: None, rows: 0 }
    }

    pub(super) fn write(&mut self, bad: &Bad) -> Result<()> {
        self.rows += 1;
        if self.rows > MAX_ROWS {
            return Ok(());
        }
        let path = self.path.display();
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let file = File::create(&self.path).with_context(|| {
                    format!("cannot write bad rows to {path}; --quarantine FILE chooses another place")
                })?;
                let mut file = csv::Writer::from_writer(BufWriter::new(file));
                file.write_record(["line", "reason", "text"])?;
                none.insert(file)
            }
        };
        file.write_record([&bad.line.to_string(), bad.reason.name(), &bad.text])
            .with_context(|| format!("cannot write to {path}"))
    }

    /// The file, if there is one.
    ///
    /// # Errors
    /// What was written last did not get there.
    pub(super) fn close(mut self) -> Result<Option<PathBuf>> {
        let Some(file) = &mut self.file else { return Ok(None) };
        file.flush().with_context(|| format!("cannot write to {}", self.path.display()))?;
        Ok(Some(self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::gpu::csv::Reason;

    #[test]
    fn bad_rows_come_back_whole_and_have_a_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bad.csv");
        let mut quarantine = Quarantine::new(path.clone());
        let bad = |line| Bad { line, reason: Reason::Quotes, text: "a,\"b\r".to_owned() };
        for line in 0..MAX_ROWS + 5 {
            quarantine.write(&bad(line)).unwrap();
        }
        assert_eq!(quarantine.close().unwrap().as_ref(), Some(&path));
        let rows: Vec<_> =
            csv::Reader::from_path(&path).unwrap().into_records().map(Result::unwrap).collect();
        assert_eq!(u64::try_from(rows.len()).unwrap(), MAX_ROWS);
        assert_eq!(rows[7].iter().collect::<Vec<_>>(), ["7", "quotes", "a,\"b\r"]);

        let unused = dir.path().join("unused.csv");
        assert_eq!(Quarantine::new(unused.clone()).close().unwrap(), None);
        assert!(!unused.exists(), "without a bad row there is no file");
        let nowhere = Quarantine::new(dir.path().join("no/such/place.csv")).write(&bad(1)).unwrap_err();
        assert!(format!("{nowhere:#}").contains("--quarantine"), "{nowhere:#}");
    }
}
