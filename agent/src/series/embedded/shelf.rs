//! The directory of days: a file's name is its day, `2026-11-22.redb`, in UTC.

use std::path::{Path, PathBuf};
use std::{fs, io};

use jiff::civil::Date;

use crate::disk;
use crate::disk::medium::File;
use crate::series::Error;

/// A day, ms.
pub(super) const DAY_MS: i64 = 86_400_000;

const SUFFIX: &str = ".redb";

const EPOCH: Date = jiff::civil::date(1970, 1, 1);

/// See the module.
#[derive(Debug)]
pub(super) struct Shelf {
    directory: PathBuf,
}

impl Shelf {
    /// The directory, made if it is not there.
    pub(super) fn open(directory: &Path) -> Result<Self, Error> {
        fs::create_dir_all(directory).map_err(|cause| disk::Error::Unavailable {
            name: directory.display().to_string(),
            words: cause.to_string(),
            permanent: true,
        })?;
        Ok(Self { directory: directory.to_owned() })
    }

    /// Days since the epoch that there are files of, ascending. A directory that cannot be read is an error, and not one
    /// without days.
    pub(super) fn days(&self) -> Result<Vec<i64>, Error> {
        let listed = || {
            let names = fs::read_dir(&self.directory)?.map(|entry| Ok(entry?.file_name()));
            names.collect::<io::Result<Vec<_>>>()
        };
        let names =
            listed().map_err(|cause| Error::Disk(format!("{}: {cause}", self.directory.display())))?;
        let mut days: Vec<_> = names.iter().filter_map(|name| number(name.to_str()?)).collect();
        days.sort_unstable();
        Ok(days)
    }

    pub(super) fn has(&self, day: i64) -> bool {
        self.path(day).exists()
    }

    pub(super) fn medium(&self, day: i64) -> File {
        File::new(&self.directory, &format!("{}{SUFFIX}", name(day)))
    }

    pub(super) fn size_bytes(&self, day: i64) -> u64 {
        fs::metadata(self.path(day)).map_or(0, |meta| meta.len())
    }

    /// When its file was made, ms since the epoch: when its first sample came. Where the file system does not know that,
    /// when it was changed last.
    pub(super) fn made_at_ms(&self, day: i64) -> i64 {
        let made = fs::metadata(self.path(day)).and_then(|meta| meta.created().or_else(|_| meta.modified()));
        let since = made.ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        since.and_then(|since| i64::try_from(since.as_millis()).ok()).unwrap_or(i64::MAX)
    }

    pub(super) fn remove(&self, day: i64) -> io::Result<()> {
        fs::remove_file(self.path(day))
    }

    fn path(&self, day: i64) -> PathBuf {
        self.directory.join(format!("{}{SUFFIX}", name(day)))
    }
}

/// A day's name.
pub(super) fn name(day: i64) -> String {
    let date = jiff::Span::new().try_days(day).and_then(|span| EPOCH.checked_add(span));
    date.map_or_else(|_| day.to_string(), |date| date.to_string())
}

fn number(file: &str) -> Option<i64> {
    let date: Date = file.strip_suffix(SUFFIX)?.parse().ok()?;
    let days = (date - EPOCH).get_days().into();
    // Not every spelling of a date is a name of ours.
    (format!("{}{SUFFIX}", name(days)) == file).then_some(days)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_one_name() {
        assert_eq!(name(0), "1970-01-01");
        assert_eq!(name(20_779), "2026-11-22");
        assert_eq!(number("2026-11-22.redb"), Some(20_779));
        assert_eq!(number("1969-12-31.redb"), Some(-1));
        for other in ["2026-11-22.damaged", "20261122.redb", "x.redb", ".redb", "2026-13-01.redb"] {
            assert_eq!(number(other), None, "{other}");
        }
    }
}
