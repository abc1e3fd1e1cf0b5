//! The matrix: what may go wrong between a post and a Prometheus, and that nothing of it is seen there.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sextant_tests::fault_proxy::{Fault, Plan};
use sextant_tests::prometheus::{Prometheus, Scraping, Version};

use crate::rig::{Load, Server, assert_exactly_once, kill_everybody, longer, post, proxy, two, wait};

/// Enough for a window of all that is posted in one body.
const SETTINGS: &str = "max_samples_per_scrape = 50000";

fn load(events: u32) -> Load {
    Load { clients: 4, events: events * longer(), pause: Duration::from_millis(20) }
}

/// 15 % of answers cut, of posts and of scrapes; the server killed three times, each Prometheus twice.
fn cuts_and_kills(version: Version) {
    let mut server = Server::start(SETTINGS);
    let plan = Plan { percent: 15, faults: vec![Fault::CutBody], is_pool: false };
    let proxy = proxy(server.address(), plan);
    let dir = tempfile::tempdir().unwrap();
    let mut both = two(version, dir.path(), &Scraping::of(&proxy.address));
    let posting = post(&proxy.address, load(500));
    kill_everybody(&mut server, &mut both);
    let ledger = posting.join().unwrap();
    assert_exactly_once("15 % cut, kills", &both, &ledger, &proxy);
}

#[test]
fn answers_are_cut_and_everybody_is_killed() {
    cuts_and_kills(Version::Two);
}

#[test]
fn the_newest_prometheus_under_the_same() {
    cuts_and_kills(Version::Three);
}

#[test]
fn half_of_the_answers_are_lost() {
    let server = Server::start(SETTINGS);
    let plan = Plan { percent: 50, faults: vec![Fault::CutBody, Fault::ResetBefore], is_pool: false };
    let proxy = proxy(server.address(), plan);
    let dir = tempfile::tempdir().unwrap();
    let both = two(Version::Two, dir.path(), &Scraping::of(&proxy.address));
    let ledger = post(&proxy.address, load(500)).join().unwrap();
    assert_exactly_once("50 % lost", &both, &ledger, &proxy);
}

/// Every kind of fault; a limit on samples that is hit and then raised; a process that stands still; one that comes late.
#[test]
fn resets_stalls_limits_and_standing_still() {
    let server = Server::start(SETTINGS);
    let faults =
        vec![Fault::ResetBefore, Fault::Stall, Fault::ResetAfterHead, Fault::CloseAfter, Fault::CutBody];
    let proxy = proxy(server.address(), Plan { percent: 25, faults, is_pool: false });
    let dir = tempfile::tempdir().unwrap();
    let unlimited = Scraping::of(&proxy.address);
    let limited = Scraping { sample_limit: 50, ..unlimited.clone() };
    let early = Prometheus::start(Version::Two, &dir.path().join("a"), &limited).unwrap();
    let posting = post(&proxy.address, load(500));
    wait(5);
    early.reload(&unlimited).unwrap();
    wait(2);
    let pid = Pid::from_raw(i32::try_from(server.pid()).unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    wait(3);
    kill_process(pid, Signal::CONT).unwrap();
    early.freeze(true).unwrap();
    wait(3);
    early.freeze(false).unwrap();
    let late = Prometheus::start(Version::Three, &dir.path().join("b"), &unlimited).unwrap();
    let ledger = posting.join().unwrap();
    assert_exactly_once("every fault", &[early, late], &ledger, &proxy);
}

/// Two scrapers over one connection of a proxy between them, some of whose answers get lost behind it.
#[test]
fn a_proxy_that_shares_a_connection_proves_nothing() {
    let server = Server::start(SETTINGS);
    let plan = Plan { percent: 15, faults: vec![Fault::CutBody], is_pool: true };
    let proxy = proxy(server.address(), plan);
    let dir = tempfile::tempdir().unwrap();
    let both = two(Version::Two, dir.path(), &Scraping::of(&proxy.address));
    let ledger = post(server.address(), load(300)).join().unwrap();
    assert_exactly_once("a pool", &both, &ledger, &proxy);
}

/// One sample of a series and scrape, where that is switched on.
#[test]
fn one_sample_at_a_time_gets_there_too() {
    let server = Server::start("compat_252 = true");
    let plan = Plan { percent: 15, faults: vec![Fault::CutBody], is_pool: false };
    let proxy = proxy(server.address(), plan);
    let dir = tempfile::tempdir().unwrap();
    let both = two(Version::Two, dir.path(), &Scraping::of(&proxy.address));
    // Few: each of a series takes two scrapes.
    let load = Load { clients: 1, events: 20, pause: Duration::from_millis(20) };
    let ledger = post(&proxy.address, load).join().unwrap();
    assert_exactly_once("one at a time", &both, &ledger, &proxy);
}
