//! Processes as the owner sees them: started, drained, told to end. The seam between it and the node.
//!
//! What a process says is read without waiting, so much at a time, and cut into lines; neither of its pipes can fill up
//! and hold it up, and nothing that it says can fill our memory.

use std::io::{ErrorKind, Read, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::worker::{Order, VERB};

/// Of one pipe in one look, ten times a second: far more than a report.
const MAX_READ_BYTES: usize = 64 << 10;
/// A report is under 200 bytes; a longer line is garbage and dropped.
const MAX_LINE_BYTES: usize = 4 << 10;

/// Starts processes.
pub(super) trait Launcher: Send {
    /// A process for this workload.
    ///
    /// # Errors
    /// Why there is none.
    fn launch(&mut self, id: &str, order: &Order) -> Result<Box<dyn Running>, String>;
}

/// A process; killed with what holds it.
pub(super) trait Running: Send {
    /// Its number.
    fn pid(&self) -> u32;

    /// What it said since the last look, and whether it has ended.
    fn look(&mut self) -> Look;

    /// Asks it to end, or ends it.
    fn end(&mut self, how: End);
}

/// How a process is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// SIGTERM.
    Ask,
    /// SIGKILL.
    Kill,
}

/// What was seen.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) lines: Vec<String>,
    pub(super) ended: Option<Ended>,
}

/// How a process has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// With 0.
    Well,
    /// Otherwise, in words.
    Badly(String),
}

/// The real one: this binary again, with an empty environment and no secret in its arguments.
pub(super) struct Workers {
    /// The kernel kills them with the thread that starts them.
    pub(super) guarded: bool,
}

impl Launcher for Workers {
    fn launch(&mut self, id: &str, order: &Order) -> Result<Box<dyn Running>, String> {
        let fail = |error: &dyn std::fmt::Display| format!("a process cannot be started: {error}");
        let text = serde_json::to_vec(order).map_err(|error| fail(&error))?;
        let child = self.command(id).spawn().map_err(|error| fail(&error))?;
        let mut process = Process::of(child).map_err(|error| fail(&error))?;
        // An order is shorter than a pipe: this waits for nobody.
        let told = process.child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(&text));
        match told {
            Ok(()) => Ok(Box::new(process)),
            Err(error) => Err(fail(&format!("{error} {}", process.look().lines.join("; ")))),
        }
    }
}

impl Workers {
    #[expect(clippy::disallowed_methods, reason = "the one place that starts workers")]
    fn command(&self, id: &str) -> Command {
        let mut command = Command::new("/proc/self/exe");
        let parent = std::process::id().to_string();
        command.arg0("sextant").args([VERB, "--id", id, "--parent", &parent]);
        if !self.guarded {
            command.arg("--unguarded");
        }
        command.env_clear().current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

struct Process {
    child: Child,
    handle: OwnedFd,
    out: Lines<ChildStdout>,
    err: Lines<ChildStderr>,
}

impl Process {
    fn of(mut child: Child) -> Result<Self, String> {
        match pipes(&mut child) {
            Ok((handle, out, err)) => Ok(Self { child, handle, out, err }),
            Err(error) => {
                end_of(&mut child);
                Err(error)
            }
        }
    }
}

fn pipes(child: &mut Child) -> Result<(OwnedFd, Lines<ChildStdout>, Lines<ChildStderr>), String> {
    let handle = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).map_err(|e| e.to_string())?;
    Ok((handle, Lines::of(child.stdout.take())?, Lines::of(child.stderr.take())?))
}

impl Running for Process {
    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn look(&mut self) -> Look {
        // Before the lines: the last ones are written before the end.
        let ended = self.child.try_wait().ok().flatten().map(words);
        let mut lines = self.err.take();
        lines.extend(self.out.take());
        Look { lines, ended }
    }

    fn end(&mut self, how: End) {
        let signal = if how == End::Kill { Signal::KILL } else { Signal::TERM };
        // One that has just ended is no error.
        let _gone = pidfd_send_signal(&self.handle, signal);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        end_of(&mut self.child);
    }
}

/// Kills a process that nobody will look at again. One that was waited for is left alone.
fn end_of(child: &mut Child) {
    if matches!(child.try_wait(), Ok(None)) {
        let _gone = child.kill();
        // A killed process ends at once, unless the kernel holds it: then its parent's end lets it go.
        let _later = child.try_wait();
    }
}

fn words(status: std::process::ExitStatus) -> Ended {
    match (status.code(), status.signal()) {
        (Some(0), _) => Ended::Well,
        (_, Some(9)) => Ended::Badly("it was killed: by a person, or because memory ran out".to_owned()),
        (_, Some(signal)) => Ended::Badly(format!("it was ended by signal {signal}")),
        (code, None) => Ended::Badly(format!("it ended with code {}", code.unwrap_or_default())),
    }
}

/// Lines of a pipe.
struct Lines<P> {
    pipe: P,
    pending: Vec<u8>,
}

impl<P: Read + AsFd> Lines<P> {
    fn of(pipe: Option<P>) -> Result<Self, String> {
        let pipe = pipe.ok_or("it has no pipe")?;
        fcntl_setfl(&pipe, OFlags::NONBLOCK).map_err(|errno| format!("its pipe: {errno}"))?;
        Ok(Self { pipe, pending: Vec::new() })
    }

    fn take(&mut self) -> Vec<String> {
        let (mut buffer, mut total) = ([0; 4_096], 0);
        while total < MAX_READ_BYTES {
            match self.pipe.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    total += count;
                    self.pending.extend_from_slice(&buffer[..count]);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break, // nothing more for now
            }
        }
        cut(&mut self.pending)
    }
}

/// Takes whole lines out of what was read.
fn cut(pending: &mut Vec<u8>) -> Vec<String> {
    let whole = pending.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let taken: Vec<u8> = pending.drain(..whole).collect();
    if pending.len() > MAX_LINE_BYTES {
        pending.clear();
    }
    let lines = taken.split(|byte| *byte == b'\n').filter(|line| (1..=MAX_LINE_BYTES).contains(&line.len()));
    lines.map(|line| String::from_utf8_lossy(line).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_where_they_end_and_garbage_does_not_grow() {
        let mut pending = b"one\ntw".to_vec();
        assert_eq!(cut(&mut pending), ["one"]);
        pending.extend_from_slice(b"o\n\xff\nthree");
        assert_eq!(cut(&mut pending), ["two", "\u{fffd}"]);
        assert_eq!(pending, b"three");
        pending.extend(vec![b'x'; MAX_LINE_BYTES]);
        assert_eq!(cut(&mut pending), Vec::<String>::new());
        assert_eq!(pending, b"", "a line without end is dropped");
    }
}
