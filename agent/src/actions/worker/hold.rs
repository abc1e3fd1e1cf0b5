//! Changes that the kernel does not take back by itself, held by a worker that does.
//!
//! Two of them hold every change: one only to undo it, begun first, and one that also makes it. Either survives the
//! other and the node: it undoes when its pipe closes or at its deadline, and to undo twice is to undo once.

use std::io::ErrorKind;

use super::clock::Clock;
use super::{Task, write};
use crate::actions::order::Change;

pub(super) struct Hold {
    changes: Vec<Change>,
}

impl Hold {
    pub(super) fn begin(changes: Vec<Change>, apply: bool) -> Result<Self, String> {
        let hold = Self { changes };
        if apply {
            for change in &hold.changes {
                if let Err(error) = write(&change.file, &change.apply) {
                    // The error that matters is the first.
                    let _also = undo(&hold.changes);
                    return Err(error);
                }
            }
        }
        Ok(hold)
    }
}

/// Undoes changes, the last one first; one whose file is gone is undone.
///
/// # Errors
/// What is left.
pub(in crate::actions) fn undo(changes: &[Change]) -> Result<(), String> {
    let mut result = Ok(());
    for change in changes.iter().rev() {
        match std::fs::write(&change.file, &change.undo) {
            Ok(()) => {}
            // ENODEV: the group was removed while its file was open.
            Err(error)
                if error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV) => {}
            Err(error) => result = Err(format!("{}: {error}", change.file.display())),
        }
    }
    result
}

impl Task for Hold {
    fn turn(&mut self, _: Clock, _: u64) -> Result<(), String> {
        Ok(())
    }

    fn amount(&mut self) -> u64 {
        self.changes.len() as u64
    }

    fn end(&mut self) -> Result<(), String> {
        undo(&self.changes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_that_fails_leaves_none_and_a_file_that_is_gone_is_undone() {
        let dir = tempfile::tempdir().unwrap();
        let change = |name: &str| Change {
            file: dir.path().join(name),
            apply: "slow".to_owned(),
            undo: "as before".to_owned(),
        };
        let text = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        let mut hold = Hold::begin(vec![change("a")], true).unwrap();
        assert_eq!(text("a"), "slow");
        hold.end().unwrap();
        assert_eq!(text("a"), "as before");
        std::fs::create_dir(dir.path().join("no-file")).unwrap();
        assert!(Hold::begin(vec![change("a"), change("no-file")], true).is_err());
        assert_eq!(text("a"), "as before");
        let gone = Change { file: dir.path().join("gone/io.max"), ..change("a") };
        undo(&[gone, change("a")]).unwrap();
        assert!(undo(&[change("no-file")]).is_err());
    }
}
