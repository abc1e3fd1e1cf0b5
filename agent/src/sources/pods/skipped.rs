//! What could not be read, counted by reason. A thing that vanished meanwhile is no reason.

use rustix::io::Errno;

/// Why an entry was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// EACCES, EPERM.
    Permission,
    /// EMFILE, ENFILE: our own limit of open files.
    OpenFiles,
    /// Anything else the kernel answered.
    Io,
    /// A file that is not what the kernel writes.
    Malformed,
    /// More groups than the limit.
    TooManyGroups,
    /// Deeper than the limit.
    TooDeep,
    /// More tasks than the limit.
    TooManyTasks,
}

/// The word of each reason, in its order.
pub(super) const REASONS: [&str; 7] =
    ["permission", "open_files", "io", "malformed", "too_many_groups", "too_deep", "too_many_tasks"];

/// Counts of one walk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Skipped([u64; REASONS.len()]);

impl Skipped {
    pub(super) const fn count(&mut self, reason: Reason) {
        self.0[reason as usize] += 1;
    }

    pub(super) const fn add(&mut self, reason: Reason, count: u64) {
        self.0[reason as usize] += count;
    }

    /// Counts an error, unless it only says that the entry is gone (or, for threaded groups, that its
    /// processes are listed in the domain above: EOPNOTSUPP).
    pub(super) const fn error(&mut self, errno: Errno) {
        match errno {
            Errno::NOENT | Errno::SRCH | Errno::NODEV | Errno::NOTDIR | Errno::OPNOTSUPP => {}
            Errno::ACCESS | Errno::PERM => self.count(Reason::Permission),
            Errno::MFILE | Errno::NFILE => self.count(Reason::OpenFiles),
            _ => self.count(Reason::Io),
        }
    }

    /// (word, count) of every reason that occurred.
    pub(super) fn words(&self) -> Vec<(&'static str, u64)> {
        REASONS.into_iter().zip(self.0).filter(|&(_, count)| count > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vanished_is_not_skipped_and_the_rest_is_told_apart() {
        let mut skipped = Skipped::default();
        for gone in [Errno::NOENT, Errno::SRCH, Errno::NODEV, Errno::OPNOTSUPP] {
            skipped.error(gone);
        }
        assert!(skipped.words().is_empty());
        for errno in [Errno::ACCESS, Errno::PERM, Errno::MFILE, Errno::IO] {
            skipped.error(errno);
        }
        skipped.count(Reason::TooManyTasks);
        let expected = [("permission", 2), ("open_files", 1), ("io", 1), ("too_many_tasks", 1)];
        assert_eq!(skipped.words(), expected);
    }
}
