//! A disk that is full for a while: what is not taken is refused, and what was taken is there once.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use sextant_tests::fault_proxy::{Fault, Plan};
use sextant_tests::keep_alive::{Connection, request};
use sextant_tests::prometheus::{Scraping, Version};
use sextant_tests::role::eventually;

use crate::rig::{Load, Server, assert_exactly_once, longer, post, proxy, two};

/// The journals of a receiver at rest and some thousand events.
const SIZE: &str = "size=48m";

/// A file system of its own, as small as that. Needs root.
struct Small(tempfile::TempDir);

impl Small {
    fn mount() -> Result<Self> {
        let this = Self(tempfile::tempdir()?);
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", SIZE, "sextant-test"]).arg(this.0.path());
        ensure!(mount.status()?.success(), "cannot mount a file system: run as root");
        Ok(this)
    }

    /// Takes all that is free.
    fn fill(&self) -> Result<()> {
        let zeros = vec![0; 64 << 10];
        let mut ballast = fs::File::create(self.0.path().join("ballast"))?;
        while std::io::Write::write_all(&mut ballast, &zeros).is_ok() {}
        Ok(())
    }

    fn free(&self) -> Result<()> {
        Ok(fs::remove_file(self.0.path().join("ballast"))?)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: a server that a failed test left may still have files there.
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

fn refused_by_disk(server: &Server) -> Result<f64> {
    let mut connection = Connection::open(server.address())?;
    let text = connection.ask(&request("GET", "/metrics", "", b""))?;
    let line = text.lines().find(|line| line.starts_with("sextant_events_refused_total{reason=\"disk\"}"));
    Ok(line.and_then(|line| line.split(' ').nth(1)).map_or(Ok(0.0), str::parse)?)
}

/// Full twice, once with a kill in the middle of it.
#[test]
fn the_disk_is_full_for_a_while() {
    let small = Small::mount().unwrap();
    let data = small.0.path().join("data");
    fs::create_dir(&data).unwrap();
    let mut server = Server::start_in(&data, "max_samples_per_scrape = 50000");
    let proxy = proxy(server.address(), Plan { percent: 15, faults: vec![Fault::CutBody], is_pool: false });
    let dir = tempfile::tempdir().unwrap();
    let both = two(Version::Two, dir.path(), &Scraping::of(&proxy.address));
    let load = Load { clients: 4, events: 400 * longer(), pause: Duration::from_millis(20) };
    let posting = post(&proxy.address, load);
    for kill in [false, true] {
        std::thread::sleep(Duration::from_secs(2));
        let before = refused_by_disk(&server).unwrap();
        small.fill().unwrap();
        eventually(Duration::from_secs(60), "the disk refuses events", || {
            let refused = refused_by_disk(&server)?;
            ensure!(refused > before, "{refused} were refused, {before} before");
            Ok(())
        })
        .unwrap();
        if kill {
            server.kill();
        }
        std::thread::sleep(Duration::from_secs(1));
        small.free().unwrap();
        if kill {
            server.revive();
        }
    }
    let ledger = posting.join().unwrap();
    assert_exactly_once("a full disk", &both, &ledger, &proxy);
}
