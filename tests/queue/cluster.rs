//! Three servers, and the one that leads killed in the middle of the work.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use sextant_tests::nats::{Nats, Servers};

use crate::place::{Engine, Place, Receiver};

const PRODUCERS: usize = 6;

/// What a producer takes for confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Belief {
    /// What was answered with 200; it tries until then, under the same id.
    Answer,
    /// What was sent: an acknowledgement before the servers'.
    Sent,
}

/// Produces while the leader is killed and comes back. What was confirmed, and what is there in the end.
fn kill_the_leader(belief: Belief) -> (BTreeSet<String>, Vec<String>) {
    let mut servers = Nats::start(&Servers { count: 3, ..Servers::default() }).unwrap();
    let (stream, url, role);
    {
        let place = Place::on(Engine::Cluster, &servers);
        let receiver = place.start("queue_size = 1000000");
        receiver.produce("topic=t&partition=0&id=first", "first");
        (stream, url, role) = (place.stream("t"), receiver.role.url.clone(), (receiver, place.dir));
    }
    let stop = AtomicBool::new(false);
    let confirmed = Mutex::new(BTreeSet::from(["first".to_owned()]));
    std::thread::scope(|scope| {
        for producer in 0..PRODUCERS {
            let (stop, confirmed, url) = (&stop, &confirmed, &url);
            scope.spawn(move || produce(url, producer, belief, stop, confirmed));
        }
        std::thread::sleep(Duration::from_secs(2));
        let leader = servers.leader_of(&stream).unwrap();
        servers.kill(leader).unwrap();
        std::thread::sleep(Duration::from_secs(6));
        servers.revive(leader).unwrap();
        std::thread::sleep(Duration::from_secs(1));
        stop.store(true, Ordering::Relaxed);
    });
    let there = role.0.drain("t", "check").into_iter().map(|got| got.payload).collect();
    (confirmed.into_inner().unwrap(), there)
}

fn produce(
    url: &str,
    producer: usize,
    belief: Belief,
    stop: &AtomicBool,
    confirmed: &Mutex<BTreeSet<String>>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let patience = if belief == Belief::Sent { Duration::from_millis(300) } else { Duration::from_secs(15) };
    let client = reqwest::Client::builder().timeout(patience).build().unwrap();
    let send = |payload: &str| {
        let url = format!("{url}/produce?topic=t&partition={}&id={payload}", producer % 4);
        let request = client.post(url).body(json!({ "payload": payload }).to_string());
        runtime.block_on(async { request.send().await.is_ok_and(|answer| answer.status() == 200) })
    };
    for n in 0.. {
        let payload = format!("{producer}.{n}");
        match belief {
            Belief::Sent => {
                confirmed.lock().unwrap().insert(payload.clone());
                send(&payload);
            }
            Belief::Answer => {
                while !send(&payload) {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
                confirmed.lock().unwrap().insert(payload);
            }
        }
        if stop.load(Ordering::Relaxed) {
            return;
        }
    }
}

#[test]
fn a_leader_that_is_killed_takes_nothing_with_it() {
    let (confirmed, there) = kill_the_leader(Belief::Answer);
    let once: BTreeSet<String> = there.iter().cloned().collect();
    assert_eq!(once.len(), there.len(), "a record is there twice");
    let lost: Vec<_> = confirmed.difference(&once).collect();
    assert!(lost.is_empty(), "{} of {} are lost: {lost:?}", lost.len(), confirmed.len());
    assert!(confirmed.len() > 500, "only {} were produced", confirmed.len());
}

/// The control: the same test notices who confirms before the servers do.
#[test]
fn who_confirms_too_early_is_found_out() {
    let (confirmed, there) = kill_the_leader(Belief::Sent);
    let once: BTreeSet<String> = there.into_iter().collect();
    assert!(confirmed.difference(&once).count() > 0, "all {} are there", confirmed.len());
}

/// Two receivers share a queue: what one delivered the other may acknowledge, and when one is killed the other goes on.
#[test]
fn two_receivers_are_one_queue() {
    let servers = Nats::start(&Servers::default()).unwrap();
    let place = Place::on(Engine::Single, &servers);
    let settings = "visibility_timeout_ms = 3000";
    let one = place.start(settings);
    let other_dir = tempfile::tempdir().unwrap();
    let file = other_dir.path().join("receiver.toml");
    std::fs::write(&file, place.config(settings)).unwrap();
    let other = Receiver::start(other_dir.path(), &file);
    one.batch("topic=t&partition=0", &["1", "2", "3"]).ids();
    let first = one.pull("topic=t&partition=0&group=g&max=1");
    let second = other.pull("topic=t&partition=0&group=g&max=1");
    assert_eq!((&*first[0].payload, &*second[0].payload), ("1", "2"), "they share the group");
    other.ack("topic=t&group=g", &first);
    one.ack("topic=t&group=g", &second);
    let third = one.pull("topic=t&partition=0&group=g&max=1");
    one.role.kill().unwrap();
    let (again, _) = other.pull_within("topic=t&partition=0&group=g&max=9", Duration::from_secs(8));
    assert_eq!((again.len(), &again[0].id, again[0].deliveries), (1, &third[0].id, 2));
    other.ack("topic=t&group=g", &again);
    let shown = other.partition("t", 0);
    assert_eq!((&shown["groups"][0]["lag"], &shown["depth"]), (&json!(0), &json!(0)));
}
