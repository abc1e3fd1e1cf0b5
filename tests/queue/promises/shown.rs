//! What the queue tells of itself, and what it drops.

use std::time::Duration;

use anyhow::ensure;
use serde_json::json;
use sextant_tests::role::eventually;

use crate::place::Place;

pub(super) fn topics_tell_depth_lag_and_age(place: &Place<'_>) {
    let receiver = place.start("");
    receiver.batch("topic=t&partition=2", &["1", "2", "3", "4"]).ids();
    let alone = receiver.partition("t", 2);
    assert_eq!((&alone["records"], &alone["depth"], &alone["groups"]), (&json!(4), &json!(4), &json!([])));
    let got = receiver.pull("topic=t&partition=2&group=a&max=3");
    receiver.ack("topic=t&group=a", &got[..1]);
    assert_eq!(receiver.drain("t", "b").len(), 4);
    std::thread::sleep(Duration::from_millis(100));
    let shown = receiver.partition("t", 2);
    assert_eq!((&shown["records"], &shown["depth"]), (&json!(4), &json!(3)), "the slowest group's");
    let [a, b] = [&shown["groups"][0], &shown["groups"][1]];
    assert_eq!((&a["group"], &a["lag"], &a["in_flight"]), (&json!("a"), &json!(3), &json!(2)));
    let age_ms = a["oldest_age_ms"].as_u64().unwrap();
    assert!((100..60_000).contains(&age_ms), "{age_ms}");
    assert_eq!((&b["lag"], &b["in_flight"], &b["oldest_age_ms"]), (&json!(0), &json!(0), &json!(null)));
    let topics = receiver.get("/topics?verbose=true").json();
    assert_eq!(topics["t"]["max_partitions"], 4);
}

pub(super) fn the_documented_metrics_are_true(place: &Place<'_>) {
    let receiver = place.start("");
    receiver.batch("topic=t&partition=1&id=b", &["1", "2", "3"]).ids();
    receiver.batch("topic=t&partition=1&id=b", &["1", "2", "3"]).ids();
    let got = receiver.pull("topic=t&partition=1&group=g&max=2");
    receiver.ack("topic=t&group=g", &got[..1]);
    let lines = [
        "message_queue_size{topic=\"t\",partition=\"1\"} 2",
        "messages_produced_total{topic=\"t\"} 3",
        "messages_consumed_total{topic=\"t\",group=\"g\"} 1",
        "message_processing_duration_seconds_count 1",
        "broker_health_status 1",
        "sextant_queue_delivered_records_total 2",
        "sextant_queue_duplicate_batches_total 1",
    ];
    eventually(Duration::from_secs(15), "every figure", || {
        let metrics = receiver.get("/metrics").text;
        for line in lines {
            ensure!(metrics.lines().any(|have| have == line), "{line} is missing:\n{metrics}");
        }
        Ok(())
    })
    .unwrap();
}

pub(super) fn old_records_go_and_acknowledged_ones_make_room(place: &Place<'_>) {
    let receiver = place
        .start("queue_size = 100\nretention_records = 0\nretention_age_ms = 3000\ndedup_window_ms = 2000");
    for round in 0..5 {
        // Ten times what fits, if nothing went.
        for _ in 0..2 {
            let kept = receiver.batch("topic=t&partition=0", &["x"; 100]);
            assert_eq!(kept.status, 200, "round {round}: {}", kept.text);
            assert_eq!(receiver.drain("t", "g").len(), 100);
        }
    }
    receiver.batch("topic=t&partition=0", &["old"]).ids();
    eventually(Duration::from_secs(15), "an old record goes, whoever has still to see it", || {
        let shown = receiver.partition("t", 0);
        ensure!(shown["records"] == 0 && shown["depth"] == 0, "{shown}");
        Ok(())
    })
    .unwrap();
    assert_eq!(receiver.pull("topic=t&partition=0&group=g&max=10"), []);
    receiver.batch("topic=t&partition=0", &["new"]).ids();
    assert_eq!(receiver.drain("t", "g").len(), 1);
}
