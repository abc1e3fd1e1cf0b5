//! `/proc/PID/stat`: `pid (comm) state ppid ...`, fields numbered from 1 as in proc(5).
//!
//! The command name may hold blanks, parentheses, newlines and any byte, so the fields start after the *last*
//! parenthesis.

use crate::domain::pod::{Task, TaskKey};

const PPID: usize = 4;
const NUM_THREADS: usize = 20;
const STARTTIME: usize = 22;

/// The process, or `None` for a text that the kernel does not write.
pub(super) fn parse(text: &[u8]) -> Option<Task> {
    let open = text.iter().position(|&byte| byte == b'(')?;
    let close = text.iter().rposition(|&byte| byte == b')')?;
    let pid = number(text.get(..open)?.trim_ascii())?;
    let comm = String::from_utf8_lossy(text.get(open + 1..close)?);
    let mut fields = text.get(close + 1..)?.trim_ascii_start().split(|&byte| byte == b' ');
    // The first field after the name is number 3; `nth` consumes what it passes.
    let ppid = number(fields.nth(PPID - 3)?)?;
    let threads = number(fields.nth(NUM_THREADS - PPID - 1)?)?;
    let starttime_ticks = number(fields.nth(STARTTIME - NUM_THREADS - 1)?)?;
    Some(Task {
        key: TaskKey { pid: u32::try_from(pid).ok()?, starttime_ticks },
        ppid: u32::try_from(ppid).ok()?,
        comm: comm.into(),
        threads: u32::try_from(threads).ok()?,
    })
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
pub(in super::super) fn line(pid: u32, comm: &str, ppid: u32, threads: u32, starttime: u64) -> String {
    format!(
        "{pid} ({comm}) S {ppid} {pid} {pid} 0 -1 4194304 127 0 0 0 0 0 0 0 20 0 {threads} 0 {starttime} 2596864 \
         201 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        for comm in ["tmux: server", "a) R 9 9", "((x))", "", ") S 1", "new\nline"] {
            let task = parse(line(42, comm, 7, 3, 99).as_bytes()).unwrap();
            assert_eq!((&*task.comm, task.ppid, task.threads), (comm, 7, 3));
            assert_eq!(task.key, TaskKey { pid: 42, starttime_ticks: 99 });
        }
        let raw = line(42, "XX", 7, 3, 99).into_bytes();
        let raw: Vec<u8> = raw.into_iter().map(|byte| if byte == b'X' { 0xff } else { byte }).collect();
        assert_eq!(&*parse(&raw).unwrap().comm, "\u{fffd}\u{fffd}");
    }

    /// The control: the reference splits on blanks and takes the fourth word for the parent.
    #[test]
    fn splitting_on_blanks_would_get_the_parent_wrong() {
        let text = line(42, "tmux: server", 7, 1, 9);
        assert_ne!(text.split(' ').nth(PPID - 1), Some("7"));
    }

    #[test]
    fn a_cut_text_is_nothing() {
        let text = line(42, "sh", 7, 1, 99);
        assert!(text.find(" 99 ").is_some());
        for end in 0..text.find(" 99 ").unwrap() {
            assert_eq!(parse(&text.as_bytes()[..end]), None, "{end}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&text);
        }
    }
}
