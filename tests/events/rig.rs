//! A receiver behind a proxy that spoils answers, two Prometheus on one address, and clients that post.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sextant_tests::fault_proxy::{FaultProxy, Plan};
use sextant_tests::prometheus::{Prometheus, Scraping, Version};
use sextant_tests::role::{Role, eventually};

use crate::client::Client;

/// Several scrapes, each with good luck one time in two, and a busy machine.
const SETTLE: Duration = Duration::from_secs(90);

/// Accepted events of each series, by its one label.
pub(crate) type Ledger = BTreeMap<BTreeMap<String, String>, f64>;

/// How much longer than the short form.
pub(crate) fn longer() -> u32 {
    std::env::var("SEXTANT_EVENTS_LONG").ok().and_then(|times| times.parse().ok()).unwrap_or(1)
}

/// As long as the form is.
pub(crate) fn wait(seconds: u64) {
    std::thread::sleep(Duration::from_secs(seconds * u64::from(longer())));
}

/// The server three times, each Prometheus twice.
pub(crate) fn kill_everybody(server: &mut Server, both: &mut [Prometheus]) {
    for round in 0..3 {
        wait(4);
        server.kill();
        wait(1);
        server.revive();
        if round < 2 {
            wait(2);
            for prometheus in &mut *both {
                prometheus.kill().unwrap();
                prometheus.revive().unwrap();
            }
        }
    }
}

pub(crate) fn labels(name: &str, value: &str) -> BTreeMap<String, String> {
    [(name.to_owned(), value.to_owned())].into()
}

/// What is posted to, and killed.
pub(crate) struct Server {
    dir: PathBuf,
    /// Goes with it.
    _dir: Option<tempfile::TempDir>,
    listen: String,
    role: Option<Role>,
}

impl Server {
    /// With these lines of `[events]`.
    pub(crate) fn start(settings: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let this = Self::start_in(dir.path(), settings);
        Self { _dir: Some(dir), ..this }
    }

    /// The same, its data in this directory.
    pub(crate) fn start_in(dir: &Path, settings: &str) -> Self {
        let config = format!("[log]\nfilter = \"warn\"\n[events]\n{settings}\n");
        std::fs::write(dir.join("receiver.toml"), config).unwrap();
        // One that was free a moment ago: it comes back where it was.
        let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let mut this = Self { dir: dir.to_owned(), _dir: None, listen, role: None };
        this.revive();
        this
    }

    pub(crate) fn address(&self) -> &str {
        &self.listen
    }

    pub(crate) fn pid(&self) -> u32 {
        self.role.as_ref().unwrap().pid()
    }

    pub(crate) fn kill(&mut self) {
        self.role.take().unwrap().kill().unwrap();
    }

    pub(crate) fn revive(&mut self) {
        let config = self.dir.join("receiver.toml");
        let args = ["--config", config.to_str().unwrap()];
        self.role = Some(Role::start_on("receiver", &self.listen, &self.dir, &args).unwrap());
    }
}

/// Two of them, whose addresses are one.
pub(crate) fn two(version: Version, dir: &Path, scraping: &Scraping) -> [Prometheus; 2] {
    ["a", "b"].map(|name| Prometheus::start(version, &dir.join(name), scraping).unwrap())
}

/// What is posted, and how fast.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) clients: u32,
    /// Events of each client.
    pub(crate) events: u32,
    pub(crate) pause: Duration,
}

/// Posts events that are all different and events that are all equal, until each is taken; and some that never are.
pub(crate) fn post(address: &str, load: Load) -> std::thread::JoinHandle<Ledger> {
    let address = address.to_owned();
    std::thread::spawn(move || {
        let ledger = Arc::new(Mutex::new(Ledger::new()));
        let clients: Vec<_> = (0..load.clients)
            .map(|client| {
                let (ledger, mut posting) = (Arc::clone(&ledger), Client::new(&address));
                std::thread::spawn(move || {
                    for n in 0..load.events {
                        let labels = one(&mut posting, client, n);
                        *ledger.lock().unwrap().entry(labels).or_default() += 1.0;
                        std::thread::sleep(load.pause);
                    }
                })
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
        Arc::into_inner(ledger).unwrap().into_inner().unwrap()
    })
}

fn one(posting: &mut Client, client: u32, n: u32) -> BTreeMap<String, String> {
    let key = format!("{client}.{n}");
    if n % 50 == 7 {
        let bad = posting.post("/event?1bad=x&n=bad", "", &format!("bad.{key}"));
        assert_eq!(bad, 400, "what would spoil an exposition is refused");
    }
    // Four of ten share a series, and often a millisecond.
    let (name, value) = match n % 10 {
        0..4 => ("same", (n % 2).to_string()),
        4 => ("odd", format!("q\"\\ {key}\nend\u{1}{}", '\u{e4}')),
        _ => ("n", key.clone()),
    };
    let status = if n.is_multiple_of(3) {
        let body = serde_json::json!({"labels": {name: value}}).to_string();
        posting.post("/event", &body, &key)
    } else {
        let encoded: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
        posting.post(&format!("/event?{name}={encoded}"), "", &key)
    };
    assert_eq!(status, 200);
    labels(name, &value)
}

/// What a Prometheus has too few and too many of.
#[derive(Debug, PartialEq)]
pub(crate) struct Difference {
    pub(crate) accepted: usize,
    pub(crate) lost: usize,
    pub(crate) doubled: usize,
    pub(crate) unknown: usize,
}

pub(crate) fn difference(prometheus: &Prometheus, ledger: &Ledger) -> Result<Difference> {
    let found = prometheus.query("count_over_time(events_to_metrics[55m])")?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "numbers of events")]
    let sum = |numbers: Vec<f64>| numbers.into_iter().filter(|number| *number > 0.0).sum::<f64>() as usize;
    let count = |labels| found.get(labels).copied().unwrap_or_default();
    Ok(Difference {
        accepted: sum(ledger.values().copied().collect()),
        lost: sum(ledger.iter().map(|(labels, wanted)| wanted - count(labels)).collect()),
        doubled: sum(ledger.iter().map(|(labels, wanted)| count(labels) - wanted).collect()),
        unknown: found.keys().filter(|labels| !ledger.contains_key(*labels)).count(),
    })
}

/// Both have everything once, and still have two scrapes later.
pub(crate) fn assert_exactly_once(what: &str, both: &[Prometheus], ledger: &Ledger, proxy: &FaultProxy) {
    let accepted = ledger.values().sum::<f64>();
    for (name, prometheus) in ["a", "b"].iter().zip(both) {
        let since = Instant::now();
        let exact = eventually(SETTLE, "everything is there", || {
            let difference = difference(prometheus, ledger)?;
            ensure!(difference.lost == 0 && difference.unknown == 0, "{difference:?}");
            ensure!(difference.doubled == 0, "{difference:?}");
            Ok(difference)
        });
        let exact = exact.unwrap_or_else(|error| panic!("{what}, {name}: {error:#}"));
        println!(
            "{what}, {name}: {exact:?} after {:?}, {} answers spoiled",
            since.elapsed(),
            proxy.spoiled()
        );
    }
    proxy.heal();
    std::thread::sleep(Duration::from_secs(3));
    for prometheus in both {
        let difference = difference(prometheus, ledger).unwrap();
        let still = Difference { lost: 0, doubled: 0, unknown: 0, ..difference };
        assert_eq!(difference, still, "{what}: of {accepted}");
        eventually(SETTLE, "the target is well", || {
            let up = prometheus.up()?;
            ensure!(up > 0.5, "up is {up}");
            Ok(())
        })
        .unwrap();
    }
}

/// Faults before a server.
pub(crate) fn proxy(address: &str, plan: Plan) -> FaultProxy {
    FaultProxy::start(address, plan).unwrap()
}
