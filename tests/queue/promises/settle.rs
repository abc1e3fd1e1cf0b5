//! What consumers say of records, and what happens when they say nothing.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::place::{Place, texts};

/// A timeout that a test can wait for.
const SHORT: &str = "visibility_timeout_ms = 1500";

pub(super) fn what_is_not_acknowledged_comes_again_at_its_time(place: &Place<'_>) {
    let receiver = place.start(SHORT);
    receiver.batch("topic=t&partition=0", &["1", "2"]).ids();
    let got = receiver.pull("topic=t&partition=0&group=g&max=2");
    let since = Instant::now();
    receiver.ack("topic=t&group=g", &got[1..]);
    for delivery in 2..=3 {
        let (again, _) = receiver.pull_within("topic=t&partition=0&group=g&max=2", Duration::from_secs(5));
        let took = since.elapsed();
        assert_eq!((texts(&again), again[0].deliveries, &again[0].id), (vec!["1"], delivery, &got[0].id));
        let expected = Duration::from_millis(1_500) * u32::try_from(delivery - 1).unwrap();
        let in_time = expected - Duration::from_millis(60)..expected + Duration::from_millis(1_000);
        assert!(in_time.contains(&took), "delivery {delivery} after {took:?}");
    }
    // A late ack is as good as one in time.
    std::thread::sleep(Duration::from_millis(1_800));
    receiver.ack("topic=t&group=g", &got[..1]);
    assert_eq!(receiver.pull("topic=t&partition=0&group=g&max=2&wait_ms=2000"), []);
}

pub(super) fn an_ack_is_the_groups_and_once(place: &Place<'_>) {
    let receiver = place.start("");
    let kept = receiver.batch("topic=t&partition=0", &["1", "2", "3", "4"]).ids();
    let ids: Vec<&str> = kept.iter().map(String::as_str).collect();
    let got = receiver.pull("topic=t&partition=0&group=g&max=3");
    receiver.pull("topic=t&partition=0&group=other&max=1");
    let ack = |query: &str, ids: &[&str]| receiver.settle("ack", query, ids, &[]);
    assert_eq!(ack("topic=t&group=nobody", &ids), [false; 4]);
    assert_eq!(ack("topic=none&group=g", &ids), [false; 4]);
    assert_eq!(ack("topic=t&group=other", &ids), [true, false, false, false], "each group for itself");
    assert_eq!(ack("topic=t&partition=1&group=g", &ids), [false; 4], "another partition's");
    let twice =
        receiver.post("/ack?topic=t&group=g", &json!({ "ids": [ids[1], ids[1], ids[3], "x"] })).json();
    assert_eq!(twice, json!({"settled": 1, "failed": [ids[1], ids[3], "x"]}), "once");
    assert_eq!(ack("topic=t&group=g", &[ids[1], ids[0], ids[2]]), [false, true, true]);
    assert_eq!(ack("topic=t&group=g", &ids[..3]), [false; 3]);
    let foreign = format!("{:08x}{}", 0, &got[0].id[8..]);
    assert_eq!(ack("topic=t&group=g", &[&foreign]), [false], "another file's, or another stream's");
    let single = receiver.post("/ack?topic=t&group=g", &json!({ "id": ids[0] }));
    assert_eq!((single.status, &*single.text), (400, "ack failed (unknown id or wrong group)"));
}

pub(super) fn nak_brings_it_back_and_extend_keeps_it_away(place: &Place<'_>) {
    let receiver = place.start("visibility_timeout_ms = 2500");
    let kept = receiver.batch("topic=t&partition=0", &["1", "2", "3", "4"]).ids();
    let (pull, settle) = ("topic=t&partition=0&group=g&max=4", "topic=t&group=g");
    let since = Instant::now();
    assert_eq!(receiver.pull(pull).len(), 4);
    assert_eq!(receiver.settle("nak", settle, &[&kept[0]], &[]), [true]);
    let (again, took) = receiver.pull_within(pull, Duration::from_secs(5));
    assert_eq!((texts(&again), again[0].deliveries), (vec!["1"], 2));
    assert!(took < Duration::from_millis(900), "at once, not after {took:?}");
    receiver.ack(settle, &again);
    assert_eq!(receiver.settle("nak", settle, &[&kept[1]], &[("delay_ms", 1_000)]), [true]);
    assert_eq!(receiver.settle("extend", settle, &[&kept[2]], &[("for_ms", 6_000)]), [true]);
    let (delayed, _) = receiver.pull_within(pull, Duration::from_secs(5));
    let took = since.elapsed();
    assert_eq!(texts(&delayed), ["2"]);
    assert!((Duration::from_millis(940)..Duration::from_millis(2_200)).contains(&took), "{took:?}");
    receiver.ack(settle, &delayed);
    let (timed_out, _) = receiver.pull_within(pull, Duration::from_secs(5));
    let took = since.elapsed();
    assert_eq!(texts(&timed_out), ["4"]);
    assert!((Duration::from_millis(2_440)..Duration::from_millis(3_500)).contains(&took), "{took:?}");
    receiver.ack(settle, &timed_out);
    let (extended, _) = receiver.pull_within(pull, Duration::from_secs(8));
    let took = since.elapsed();
    assert_eq!(texts(&extended), ["3"], "longer than its time");
    assert!((Duration::from_millis(5_900)..Duration::from_millis(7_900)).contains(&took), "{took:?}");
    assert_eq!(receiver.settle("extend", settle, &[&kept[0], "x"], &[]), [false, false]);
    receiver.ack(settle, &extended);
}

pub(super) fn what_nobody_can_take_ends_somewhere_visible(place: &Place<'_>) {
    let receiver = place.start("visibility_timeout_ms = 600\nmax_deliveries = 3");
    let kept = receiver.batch("topic=t&partition=2", &["poison", "good"]).ids();
    let pull = "topic=t&partition=2&group=g&max=10";
    for delivery in 1..=3 {
        let (got, _) = receiver.pull_within(pull, Duration::from_secs(5));
        assert_eq!((&*got[0].payload, got[0].deliveries), ("poison", delivery));
        if delivery == 1 {
            receiver.ack("topic=t&group=g", &got[1..]);
        }
    }
    assert_eq!(receiver.pull(&format!("{pull}&wait_ms=1500")), [], "not a fourth time");
    let (dead, _) = receiver.pull_within("topic=t.dead&group=operator&max=10", Duration::from_secs(5));
    assert_eq!((texts(&dead), dead[0].partition), (vec!["poison"], 2));
    assert_eq!(dead[0].whole["dead"], json!({"id": kept[0], "group": "g", "deliveries": 3}));
    assert_eq!(receiver.partition("t", 2)["groups"][0]["lag"], 0, "its group is done with it");
    // Another group has its own three, and dead letters die no second time.
    assert_eq!(receiver.pull("topic=t&partition=2&group=h&max=10").len(), 2);
    for delivery in 2..=5 {
        let (again, _) = receiver.pull_within("topic=t.dead&group=operator&max=10", Duration::from_secs(5));
        assert_eq!((again.len(), again[0].deliveries), (1, delivery));
    }
    assert_eq!(receiver.post("/produce?topic=t.dead", &json!({"payload": "x"})).status, 400);
}

pub(super) fn a_nak_at_the_limit_buries_at_once(place: &Place<'_>) {
    let receiver = place.start("max_deliveries = 2");
    receiver.produce("topic=t&partition=0", "poison");
    // Dead letters can be waited for before there are any.
    assert_eq!(receiver.pull("topic=t.dead&group=operator&max=1"), []);
    for delivery in 1..=2 {
        let (got, _) = receiver.pull_within("topic=t&partition=0&group=g&max=1", Duration::from_secs(5));
        assert_eq!(got[0].deliveries, delivery);
        assert_eq!(receiver.settle("nak", "topic=t&group=g", &[&got[0].id], &[]), [true]);
    }
    let (dead, took) = receiver.pull_within("topic=t.dead&group=operator&max=1", Duration::from_secs(5));
    assert_eq!(texts(&dead), ["poison"]);
    assert!(took < Duration::from_secs(2), "{took:?}");
}

pub(super) fn a_group_that_is_forgotten_holds_nothing_back(place: &Place<'_>) {
    let receiver = place.start("queue_size = 2");
    receiver.batch("topic=t&partition=0", &["1", "2"]).ids();
    assert_eq!(receiver.drain("t", "good").len(), 2);
    receiver.pull("topic=t&partition=0&group=abandoned&max=1");
    assert_eq!(receiver.batch("topic=t&partition=0", &["3"]).status, 429);
    let mut stream = crate::stream::Stream::open(&receiver.role, "topic=t&group=abandoned", None);
    assert_eq!(stream.payload(), "2");
    assert_eq!(receiver.ask("DELETE", "/consume?topic=t&group=abandoned", "").status, 204);
    assert!(stream.message().is_err(), "its stream ends");
    assert_eq!(receiver.ask("DELETE", "/consume?topic=t&group=abandoned", "").status, 404);
    receiver.batch("topic=t&partition=0", &["3"]).ids();
    assert_eq!(texts(&receiver.drain("t", "good")), ["3"]);
}

pub(super) fn a_receiver_that_is_killed_forgets_nothing(place: &Place<'_>) {
    let settings = "visibility_timeout_ms = 4000";
    let receiver = place.start(settings);
    let kept = receiver.batch("topic=t&partition=0", &["1", "2", "3", "4"]).ids();
    let got = receiver.pull("topic=t&partition=0&group=g&max=3");
    receiver.ack("topic=t&group=g", &got[1..2]);
    // Deliveries are written within a second.
    std::thread::sleep(Duration::from_millis(1_300));
    receiver.role.kill().unwrap();
    let receiver = place.start(settings);
    assert_eq!(
        texts(&receiver.pull("topic=t&partition=0&group=g&max=10")),
        ["4"],
        "the others are in flight"
    );
    assert_eq!(
        receiver.settle("ack", "topic=t&group=g", &[&kept[0]], &[]),
        [true],
        "and can be acknowledged"
    );
    let (again, _) = receiver.pull_within("topic=t&partition=0&group=g&max=10", Duration::from_secs(8));
    assert_eq!((texts(&again), again[0].deliveries), (vec!["3"], 2));
    receiver.ack("topic=t&group=g", &again);
    receiver.settle("ack", "topic=t&group=g", &[&kept[3]], &[]);
    assert_eq!(receiver.pull("topic=t&partition=0&group=g&max=10&wait_ms=4500"), []);
    assert_eq!(receiver.drain("t", "other").len(), 4);
}
