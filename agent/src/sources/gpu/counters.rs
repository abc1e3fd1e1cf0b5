//! Which metrics are wanted, in the file that DCGM's exporter has for it (`default-counters.csv`).
//!
//! Format: a line is `FIELD, type, help`; the type is one of Prometheus' (`gauge`, `counter`, ...), or `label`: then the
//! field is no metric but a label of all of them. `#` begins a comment; a help with commas is quoted.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::domain::series::is_name;

/// DCGM has some 700 fields.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Fields that can be labels here; the others are told of.
const LABELS: [&str; 1] = ["DCGM_FI_DRIVER_VERSION"];

/// The wanted metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selector {
    metrics: BTreeSet<String>,
    /// What of the file cannot be followed, a sentence each.
    pub(super) lacks: Vec<String>,
}

/// Why the file says nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("counters_file {}: {source}", file.display())]
    Read { file: PathBuf, source: std::io::Error },
    #[error("counters_file {}: {words}", file.display())]
    Line { file: PathBuf, words: String },
    #[error("counters_file {}: names no metric", file.display())]
    Empty { file: PathBuf },
}

impl Selector {
    /// A file's.
    pub(super) fn read(file: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Read { file: file.to_owned(), source };
        let mut text = String::new();
        let opened = std::fs::File::open(file).map_err(failed)?;
        opened.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
        if u64::try_from(text.len()).unwrap_or(u64::MAX) > MAX_FILE_BYTES {
            return Err(failed(std::io::Error::other(format!("larger than {MAX_FILE_BYTES} bytes"))));
        }
        Self::parse(&text, file)
    }

    fn parse(text: &str, file: &Path) -> Result<Self, Error> {
        let wrong = |words: String| Error::Line { file: file.to_owned(), words };
        let mut builder = csv::ReaderBuilder::new();
        let builder = builder.has_headers(false).flexible(true).comment(Some(b'#')).trim(csv::Trim::All);
        let mut this = Self::default();
        for row in builder.from_reader(text.as_bytes()).records() {
            let row = row.map_err(|error| wrong(error.to_string()))?;
            let name = row.get(0).unwrap_or_default();
            if name.is_empty() && row.len() == 1 {
                continue;
            }
            // `#` after blanks begins a comment too.
            if name.starts_with('#') {
                continue;
            }
            if !is_name(name, true) {
                let shown: String = name.chars().take(64).collect();
                return Err(wrong(format!("{shown:?} is no field, such as DCGM_FI_DEV_GPU_UTIL")));
            }
            match row.get(1) {
                Some("gauge" | "counter" | "histogram" | "summary" | "untyped") => {
                    this.metrics.insert(name.to_owned());
                }
                Some("label") if LABELS.contains(&name) => {}
                Some("label") => this.lacks.push(format!("{name} cannot be a label")),
                _ => return Err(wrong(format!("{name} has no type: gauge, counter or label"))),
            }
        }
        if this.metrics.is_empty() {
            return Err(Error::Empty { file: file.to_owned() });
        }
        Ok(this)
    }

    /// The metric is wanted.
    pub(super) fn wants(&self, metric: &str) -> bool {
        self.metrics.contains(metric)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exporters_file_is_read() {
        let text = "# Format\n# If line starts with a '#' it is considered a comment\n\n\
            DCGM_FI_DEV_SM_CLOCK,  gauge, SM clock frequency (in MHz).\n  # indented\n\
            DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION, counter, \"Energy, since boot (in mJ).\"\n\
            # DCGM_FI_DEV_GPU_UTIL, gauge, off\nDCGM_FI_DRIVER_VERSION, label, Driver Version\n\
            DCGM_FI_DEV_SERIAL, label, Serial\nDCGM_FI_DEV_XID_ERRORS,gauge\n";
        let selector = Selector::parse(text, Path::new("f")).unwrap();
        assert!(selector.wants("DCGM_FI_DEV_SM_CLOCK") && selector.wants("DCGM_FI_DEV_XID_ERRORS"));
        assert!(!selector.wants("DCGM_FI_DEV_GPU_UTIL") && !selector.wants("DCGM_FI_DRIVER_VERSION"));
        assert_eq!(
            (selector.metrics.len(), &*selector.lacks),
            (3, &["DCGM_FI_DEV_SERIAL cannot be a label".to_owned()][..])
        );
    }

    #[test]
    fn a_file_that_is_none_is_told_with_what_is_wrong() {
        for (text, words) in [
            ("", "names no metric"),
            ("# nothing\n", "names no metric"),
            ("DCGM_FI_DEV_SM_CLOCK gauge\n", "\"DCGM_FI_DEV_SM_CLOCK gauge\" is no field"),
            ("# x\nDCGM_FI_DEV_SM_CLOCK\n", "DCGM_FI_DEV_SM_CLOCK has no type"),
            ("DCGM_FI_DEV_SM_CLOCK, guage, x\n", "DCGM_FI_DEV_SM_CLOCK has no type"),
        ] {
            let error = Selector::parse(text, Path::new("f")).unwrap_err().to_string();
            assert!(error.contains(words), "{text:?}: {error}");
        }
        assert!(Selector::read(Path::new("/no/such/file")).is_err());
        let dir = tempfile::tempdir().unwrap();
        let large = dir.path().join("large.csv");
        std::fs::write(&large, "#".repeat(1 << 21)).unwrap();
        assert!(Selector::read(&large).unwrap_err().to_string().contains("larger"));
    }
}
