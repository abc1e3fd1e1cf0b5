//! Scrape time, where nothing may be repeated: once each by reading back, and what the same faults do without.

use std::time::Duration;

use anyhow::ensure;
use sextant_tests::fault_proxy::{Fault, FaultProxy, Plan};
use sextant_tests::prometheus::{Prometheus, Scraping, Version, free_port};
use sextant_tests::role::eventually;

use crate::client::Client;
use crate::rig::{Ledger, Server, assert_exactly_once, difference, kill_everybody, labels, longer, proxy};

/// An answer that comes whole before the connection ends was stored, and looks like those that are lost.
const FAULTS: [Fault; 6] = [
    Fault::CutBody,
    Fault::CloseAfter,
    Fault::CutBody,
    Fault::Stall,
    Fault::ResetBefore,
    Fault::ResetAfterHead,
];

/// A server behind a proxy, and two Prometheus that scrape there as `a` and `b`.
struct Rig {
    server: Server,
    proxy: FaultProxy,
    both: [Prometheus; 2],
    _dir: tempfile::TempDir,
}

impl Rig {
    fn start(version: Version, promise: &str) -> Self {
        let ports = [free_port().unwrap(), free_port().unwrap()];
        let [a, b] = ports.map(|port| format!("\"http://127.0.0.1:{port}\""));
        let server = Server::start(&format!(
            "mode = \"scrape-time\"\npromise = \"{promise}\"\nprometheus = {{ a = {a}, b = {b} }}"
        ));
        let proxy = proxy(server.address(), Plan { percent: 30, faults: FAULTS.to_vec(), is_pool: false });
        let dir = tempfile::tempdir().unwrap();
        let both = [("a", ports[0]), ("b", ports[1])].map(|(name, port)| {
            let scraping = Scraping { scraper: Some(name.to_owned()), ..Scraping::of(&proxy.address) };
            Prometheus::start_at(version, &dir.path().join(name), &scraping, port).unwrap()
        });
        Self { server, proxy, both, _dir: dir }
    }

    /// Posts while the server is killed three times, and each Prometheus twice.
    fn post_and_kill(&mut self) -> Ledger {
        let address = self.server.address().to_owned();
        let posting = std::thread::spawn(move || post(&address, 900 * longer()));
        kill_everybody(&mut self.server, &mut self.both);
        posting.join().unwrap()
    }
}

/// Mostly different ones: of equal events each takes a scrape.
fn post(address: &str, events: u32) -> Ledger {
    let mut client = Client::new(address);
    let mut ledger = Ledger::new();
    for n in 0..events {
        let value = if n % 60 == 7 { "same".to_owned() } else { n.to_string() };
        assert_eq!(client.post(&format!("/event?n={value}"), "", &n.to_string()), 200);
        *ledger.entry(labels("n", &value)).or_default() += 1.0;
        std::thread::sleep(Duration::from_millis(30));
    }
    ledger
}

fn exactly_once(version: Version) {
    let mut rig = Rig::start(version, "exactly-once");
    let ledger = rig.post_and_kill();
    assert_exactly_once("scrape time, 30 % spoiled, kills", &rig.both, &ledger, &rig.proxy);
}

#[test]
fn once_each_though_answers_are_spoiled_and_everybody_is_killed() {
    exactly_once(Version::Two);
}

#[test]
fn once_each_in_the_newest_prometheus() {
    exactly_once(Version::Three);
}

/// The control: who only watches connections sends again what was stored.
#[test]
fn without_reading_back_the_same_faults_double() {
    let mut rig = Rig::start(Version::Two, "at-least-once");
    let ledger = rig.post_and_kill();
    rig.proxy.heal();
    for prometheus in &rig.both {
        let found = eventually(Duration::from_secs(60), "everything is there", || {
            let found = difference(prometheus, &ledger)?;
            ensure!(found.lost == 0, "{found:?}");
            Ok(found)
        })
        .unwrap();
        println!("scrape time, at least once: {found:?}, {} answers spoiled", rig.proxy.spoiled());
        assert!(found.doubled > 0, "{found:?}");
    }
}
