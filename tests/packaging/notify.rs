//! What a role tells systemd, against what its unit makes systemd wait for.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sextant_tests::role::sextant;

use crate::units::{unit, values};

/// A role started as systemd would, with a socket of ours in systemd's place. Killed when dropped.
struct Started {
    child: Child,
    socket: UnixDatagram,
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Started {
    fn new(role: &str, folder: &Path) -> Self {
        let path = folder.join("notify.sock");
        let socket = UnixDatagram::bind(&path).expect("bind the socket");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("set a timeout");
        let mut command = Command::new(sextant());
        command.args([role, "--listen=127.0.0.1:0", "--data-dir"]).arg(folder.join("data"));
        if role == "node" {
            command.args(["--interval=100ms", "--unix-socket"]).arg(folder.join("node.sock"));
        }
        command.env("NOTIFY_SOCKET", path).env_remove("WATCHDOG_PID").env_remove("WATCHDOG_USEC");
        if watched(role) {
            command.env("WATCHDOG_USEC", "1000000");
        }
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { child: quiet.spawn().expect("start sextant"), socket }
    }

    /// How often a message came within `limit`; ends when `enough` did.
    fn hear(&self, message: &str, enough: usize, limit: Duration) -> usize {
        let begin = Instant::now();
        let mut heard = 0;
        let mut buffer = [0; 4096];
        while heard < enough && begin.elapsed() < limit {
            let Ok(length) = self.socket.recv(&mut buffer) else { continue };
            let text = String::from_utf8_lossy(&buffer[..length]);
            heard += text.lines().filter(|line| *line == message).count();
        }
        heard
    }
}

fn watched(role: &str) -> bool {
    values(&unit(role), "WatchdogSec").next().is_some()
}

#[test]
fn a_role_says_what_its_unit_waits_for() {
    for role in ["node", "receiver"] {
        let folder = tempfile::tempdir().expect("temporary directory");
        let started = Started::new(role, folder.path());
        assert!(values(&unit(role), "Type").eq(["notify"]));
        assert_eq!(started.hear("READY=1", 1, Duration::from_secs(60)), 1, "{role} is ready");
        if watched(role) {
            // Three in a row: not only the one that comes with being ready.
            assert_eq!(
                started.hear("WATCHDOG=1", 3, Duration::from_secs(30)),
                3,
                "{role} feeds the watchdog"
            );
        }
        let pid = Pid::from_child(&started.child);
        kill_process(pid, Signal::TERM).expect("stop it");
        assert_eq!(started.hear("STOPPING=1", 1, Duration::from_secs(30)), 1, "{role} says that it stops");
    }
}

#[test]
fn a_stopped_process_feeds_no_watchdog() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let started = Started::new("node", folder.path());
    assert_eq!(started.hear("WATCHDOG=1", 1, Duration::from_secs(60)), 1);
    kill_process(Pid::from_child(&started.child), Signal::STOP).expect("stop its loops");
    // What was sent before still lies in the socket.
    started.hear("WATCHDOG=1", usize::MAX, Duration::from_millis(500));
    assert_eq!(started.hear("WATCHDOG=1", 1, Duration::from_secs(2)), 0);
}
