//! What the harness must find: the reference's algorithm, and ours without what it needs.

use std::time::Duration;

use sextant_tests::fault_proxy::{Fault, Plan};
use sextant_tests::prometheus::{Prometheus, Scraping, Version};

use crate::client::Client;
use crate::naive;
use crate::rig::{Difference, Ledger, Load, Server, difference, labels, post, proxy, two};

/// Events that are all different, at some 50 a second.
fn different(address: &str, events: u32) -> Ledger {
    let mut client = Client::new(address);
    let mut ledger = Ledger::new();
    for n in 0..events {
        assert_eq!(client.post(&format!("/event?n={n}"), "", &n.to_string()), 200);
        ledger.insert(labels("n", &n.to_string()), 1.0);
        std::thread::sleep(Duration::from_millis(20));
    }
    // As long as the other side gets.
    std::thread::sleep(Duration::from_secs(4));
    ledger
}

#[test]
fn the_references_algorithm_loses_what_two_scrapers_share() {
    let server = naive::serve();
    let proxy = proxy(&server, Plan::default());
    let dir = tempfile::tempdir().unwrap();
    let both = two(Version::Two, dir.path(), &Scraping::of(&proxy.address));
    // Known to the server before the first event, as it wants it.
    std::thread::sleep(Duration::from_secs(3));
    let ledger = different(&server, 300);
    let lost: Vec<_> = both.iter().map(|one| difference(one, &ledger).unwrap()).collect();
    println!("two scrapers on one address: {lost:?}");
    assert!(
        lost.iter().map(|one| one.lost).sum::<usize>() > 200,
        "each event is one's or the other's: {lost:?}"
    );
}

#[test]
fn the_references_algorithm_loses_what_is_cut() {
    let server = naive::serve();
    let plan = Plan { percent: 15, faults: vec![Fault::CutBody], is_pool: false };
    let proxy = proxy(&server, plan);
    let dir = tempfile::tempdir().unwrap();
    let one = Prometheus::start(Version::Two, dir.path(), &Scraping::of(&proxy.address)).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    let ledger = different(&server, 750);
    let found = difference(&one, &ledger).unwrap();
    println!("one scraper, 15 % cut: {found:?}, {} answers spoiled", proxy.spoiled());
    assert!(found.lost > 10, "{found:?}");
}

/// Whoever ignores timestamps stores what is sent again as another sample.
#[test]
fn without_timestamps_repeating_is_seen() {
    let server = Server::start("");
    let plan = Plan { percent: 15, faults: vec![Fault::CutBody], is_pool: false };
    let proxy = proxy(server.address(), plan);
    let dir = tempfile::tempdir().unwrap();
    let scraping = Scraping { honor_timestamps: false, ..Scraping::of(&proxy.address) };
    let one = Prometheus::start(Version::Two, dir.path(), &scraping).unwrap();
    let load = Load { clients: 1, events: 200, pause: Duration::from_millis(20) };
    let ledger = post(server.address(), load).join().unwrap();
    std::thread::sleep(Duration::from_secs(3));
    let found = difference(&one, &ledger).unwrap();
    println!("timestamps ignored: {found:?}");
    assert!(found.doubled > 0, "{found:?}");
}

/// Scrape time, no faults: once each in both, as the reference promises and does not keep for two on one address.
#[test]
fn in_scrape_time_named_scrapers_get_each_once_while_nothing_breaks() {
    let server = Server::start("mode = \"scrape-time\"");
    let dir = tempfile::tempdir().unwrap();
    let scraping = Scraping::of(server.address());
    let one = Prometheus::start(Version::Two, dir.path(), &scraping).unwrap();
    let ledger = different(server.address(), 200);
    let found = difference(&one, &ledger).unwrap();
    assert_eq!(found, Difference { accepted: 200, lost: 0, doubled: 0, unknown: 0 });
}
