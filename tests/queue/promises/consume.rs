//! Records on their way out.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::place::{Place, texts};
use crate::stream::Stream;

pub(super) fn every_group_sees_every_record_in_order(place: &Place<'_>) {
    let receiver = place.start("");
    let payloads: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    let payloads: Vec<&str> = payloads.iter().map(String::as_str).collect();
    receiver.batch("topic=t&partition=0", &payloads).ids();
    for group in ["a", "b.c"] {
        let mut seen = Vec::new();
        while seen.len() < 100 {
            let got = receiver.pull(&format!("topic=t&partition=0&group={group}&max=7"));
            assert!(!got.is_empty(), "{group} saw {} only", seen.len());
            receiver.ack(&format!("topic=t&partition=0&group={group}"), &got);
            seen.extend(got);
        }
        assert_eq!(texts(&seen), payloads, "{group}");
        assert_eq!(receiver.pull(&format!("topic=t&group={group}&max=7")), []);
    }
    assert_eq!(receiver.drain("t", "late").len(), 100, "one that comes late sees what is still kept");
}

pub(super) fn consumers_of_a_group_share(place: &Place<'_>) {
    let receiver = place.start("");
    receiver.batch("topic=t&partition=0", &["1", "2", "3"]).ids();
    let pull = || receiver.pull("topic=t&partition=0&group=g&max=2");
    let (one, two, none) = (pull(), pull(), pull());
    assert_eq!((texts(&one), texts(&two), none), (vec!["1", "2"], vec!["3"], vec![]));
    assert!(one.iter().chain(&two).all(|got| got.deliveries == 1));
}

pub(super) fn a_stream_sends_each_record_at_once(place: &Place<'_>) {
    let receiver = place.start("");
    let mut stream = Stream::open(&receiver.role, "topic=t&partition=0&group=g", None);
    let mut slowest = Duration::ZERO;
    for n in 0..30 {
        let sent = Instant::now();
        receiver.produce("topic=t&partition=0", &n.to_string());
        assert_eq!(stream.payload(), n.to_string());
        slowest = slowest.max(sent.elapsed());
    }
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    // From all partitions, also those that had no record when it was opened.
    let mut all = Stream::open(&receiver.role, "topic=all&group=g", None);
    for partition in [3, 0, 2, 1] {
        receiver.produce(&format!("topic=all&partition={partition}"), "x");
        assert_eq!(all.message().unwrap()["partition"], partition);
    }
    assert_eq!(receiver.role.stop().unwrap(), Some(0), "open streams hold nothing up");
}

pub(super) fn a_stream_has_its_credit(place: &Place<'_>) {
    let receiver = place.start("");
    receiver.batch("topic=t&partition=0", &["1", "2", "3", "4", "5"]).ids();
    let mut stream = Stream::open(&receiver.role, "topic=t&partition=0&group=g&credit=2", None);
    let first = stream.message().unwrap();
    assert_eq!((first["payload"].as_str(), &*stream.payload()), (Some("1"), "2"));
    // The third waits: another consumer of the group can have it.
    std::thread::sleep(Duration::from_millis(800));
    assert_eq!(texts(&receiver.pull("topic=t&partition=0&group=g&max=1")), ["3"]);
    let acked = receiver.post("/ack?topic=t&group=g", &json!({ "id": first["id"] }));
    assert_eq!(acked.text, "ok");
    assert_eq!(stream.payload(), "4", "an acknowledgement makes room");
}

pub(super) fn a_stream_that_broke_goes_on_where_it_was(place: &Place<'_>) {
    let receiver = place.start("");
    let payloads: Vec<String> = (0..10).map(|n| n.to_string()).collect();
    let payloads: Vec<&str> = payloads.iter().map(String::as_str).collect();
    receiver.batch("topic=t&partition=0", &payloads).ids();
    let mut stream = Stream::open(&receiver.role, "topic=t&partition=0&group=g&credit=6", None);
    let sent: Vec<_> = (0..4).map(|_| stream.message().unwrap()).collect();
    drop(stream);
    std::thread::sleep(Duration::from_millis(400));
    // Two of the four never arrived, as the client says; what was sent behind them it does not know.
    let last = sent[1]["id"].as_str();
    let mut stream = Stream::open(&receiver.role, "topic=t&partition=0&group=g", last);
    let again: Vec<_> = (2..10).map(|_| stream.message().unwrap()).collect();
    let texts: Vec<_> = again.iter().map(|message| message["payload"].as_str().unwrap()).collect();
    assert_eq!(texts, payloads[2..], "in order, without a gap");
    assert!(again.iter().all(|message| message.get("deliveries").is_none()), "once: {again:?}");
    let acked = receiver.post("/ack?topic=t&group=g", &json!({ "id": sent[0]["id"] }));
    assert_eq!(acked.text, "ok", "what arrived can be acknowledged later");
}

pub(super) fn a_pull_that_waits_gets_the_first_record(place: &Place<'_>) {
    let receiver = place.start("");
    let since = Instant::now();
    assert_eq!(receiver.pull("topic=t&group=g&max=5&wait_ms=300"), []);
    assert!((Duration::from_millis(290)..Duration::from_secs(3)).contains(&since.elapsed()));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let url = format!("{}/consume?topic=t&group=g&max=5&wait_ms=5000", receiver.role.url);
            let output = std::process::Command::new("curl").args(["-s", &url]).output().unwrap();
            (String::from_utf8(output.stdout).unwrap(), Instant::now())
        });
        std::thread::sleep(Duration::from_millis(700));
        receiver.produce("topic=t&partition=2", "first");
        let kept = Instant::now();
        let (answer, at) = waiting.join().unwrap();
        assert!(answer.contains("\"first\""), "{answer}");
        assert!(at.saturating_duration_since(kept) < Duration::from_millis(800));
    });
}

pub(super) fn what_nobody_took_goes_to_the_next(place: &Place<'_>) {
    let receiver = place.start("");
    // Clients that go while they wait: what comes then is nobody's.
    for _ in 0..3 {
        let stream = Stream::open(&receiver.role, "topic=t&group=g", None);
        std::thread::sleep(Duration::from_millis(200));
        drop(stream);
    }
    receiver.batch("topic=t", &["1", "2", "3"]).ids();
    let (mut got, mut took) = receiver.pull_within("topic=t&group=g&max=10", Duration::from_secs(5));
    while got.len() < 3 && took < Duration::from_secs(5) {
        let (more, time) = receiver.pull_within("topic=t&group=g&max=10", Duration::from_secs(5));
        got.extend(more);
        took += time;
    }
    assert_eq!(texts(&got), ["1", "2", "3"]);
    assert!(got.iter().all(|got| got.deliveries == 1), "{got:?}");
    assert!(took < Duration::from_secs(3), "{took:?}, and not a timeout later");
}
