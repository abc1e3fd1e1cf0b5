//! Records on their way in.

use std::collections::BTreeSet;

use serde_json::json;

use crate::place::{Place, texts};

pub(super) fn a_record_is_kept_and_read_as_it_was(place: &Place<'_>) {
    let receiver = place.start("");
    let payload = "{\"gpu\":\"0\",\"é\":\"\\u0000 \\\" \n\"}";
    let id = receiver.produce("topic=telemetry.v1&partition=1", payload);
    let got = receiver.pull("topic=telemetry.v1&partition=1&group=collectors&max=10");
    assert_eq!((got.len(), &*got[0].id, &*got[0].payload), (1, &*id, payload));
    let fields: BTreeSet<_> = got[0].whole.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, BTreeSet::from(["created_at", "id", "partition", "payload", "topic"]));
    assert_eq!((got[0].partition, got[0].whole["topic"].as_str()), (1, Some("telemetry.v1")));
    let topics = receiver.get("/topics").json();
    assert_eq!(topics, json!({ "telemetry.v1": place.partitions(&[1]) }));
}

pub(super) fn a_key_stays_in_its_partition_and_a_named_one_is_taken(place: &Place<'_>) {
    let receiver = place.start("");
    let keyed = |key: &str| json!({ "payload": key, "key": key });
    let messages: Vec<_> = (0..40).map(|n| keyed(&format!("gpu-{}", n % 20))).collect();
    let kept = receiver.post("/produce/batch?topic=t", &json!({ "messages": messages }));
    let partition = |id: &str| id.split('-').nth(1).unwrap().to_owned();
    let partitions: Vec<_> = kept.ids().iter().map(|id| partition(id)).collect();
    assert_eq!(partitions[..20], partitions[20..], "the same key, the same partition");
    assert_eq!(partitions.iter().collect::<BTreeSet<_>>().len(), 4, "and all of them are used");
    // Written down: the same key goes to the same partition in every engine.
    for (key, expected) in [("a", "3"), ("b", "0"), ("gpu-7", "0")] {
        assert_eq!(partition(&receiver.produce(&format!("topic=t&key={key}"), "x")), expected, "{key}");
    }
    assert_eq!(partition(&receiver.produce("topic=t&partition=2&key=a", "x")), "2", "a named one counts");
    let turns: BTreeSet<_> = (0..4).map(|_| partition(&receiver.produce("topic=t", "x"))).collect();
    assert_eq!(turns.len(), 4, "without a key they take turns");
    let got = receiver.drain("t", "g");
    assert_eq!(got.len(), 48);
    assert!(got.iter().all(|got| got.partition.to_string() == partition(&got.id)));
}

pub(super) fn full_refuses_the_whole_batch_and_keeps_nothing_of_it(place: &Place<'_>) {
    let receiver = place.start("queue_size = 5\nretention_records = 0");
    receiver.batch("topic=t&partition=0", &["1", "2", "3"]).ids();
    for _ in 0..3 {
        let full = receiver.batch("topic=t&partition=0", &["4", "5", "6"]);
        assert_eq!(full.status, 429, "{}", full.text);
        let retry_after = full.retry_after.as_deref().and_then(|time| time.parse::<u64>().ok());
        assert!(retry_after.is_some_and(|time| time >= 1), "{full:?}");
    }
    receiver.batch("topic=t&partition=0", &["4", "5"]).ids();
    receiver.batch("topic=t&partition=1", &["elsewhere"]).ids();
    assert_eq!(receiver.post("/produce?topic=t&partition=0", &json!({"payload": "6"})).status, 429);
    let got = receiver.pull("topic=t&partition=0&group=g&max=10");
    assert_eq!(texts(&got), ["1", "2", "3", "4", "5"]);
    assert_eq!(receiver.batch("topic=t&partition=0", &["6"]).status, 429, "delivered is not done");
    receiver.ack("topic=t&group=g", &got[..1]);
    receiver.batch("topic=t&partition=0", &["6"]).ids();
    assert_eq!(receiver.batch("topic=t&partition=0", &["7"]).status, 429);
    // One that never fits makes nothing.
    assert_eq!(receiver.batch("topic=new&partition=0", &["x"; 6]).status, 413);
    assert_eq!(receiver.get("/topics").json().as_object().unwrap().len(), 1);
}

pub(super) fn what_comes_again_under_its_id_is_kept_once(place: &Place<'_>) {
    let receiver = place.start("queue_size = 3");
    let messages =
        json!({"messages": [{"payload": "1", "key": "a"}, {"payload": "2", "key": "b"}, {"payload": "3"}]});
    let named = "/produce/batch?topic=t&id=batch%201%2F%C3%A9";
    let first = receiver.post(named, &messages);
    let again = receiver.post(named, &messages);
    assert_eq!(
        (first.json()["duplicate"].clone(), again.json()["duplicate"].clone()),
        (json!(false), json!(true))
    );
    assert_eq!(first.ids(), again.ids());
    // What it got the first time is what counts.
    let shorter = receiver.post(named, &json!({"messages": [{"payload": "x"}]}));
    assert_eq!((shorter.ids(), shorter.json()["duplicate"].clone()), (first.ids(), json!(true)));
    let one = receiver.produce("topic=u&partition=2&id=one", "x");
    assert_eq!(receiver.produce("topic=u&partition=2&id=one", "x"), one);
    assert_eq!(receiver.produce("topic=u&partition=1&id=one", "x"), one, "wherever it is sent");
    for _ in 0..2 {
        receiver.produce("topic=u&partition=2", "x");
    }
    assert_eq!(receiver.batch("topic=u&partition=2", &["x"]).status, 429);
    assert_eq!(receiver.produce("topic=u&partition=2&id=one", "x"), one, "also when it is full");
    receiver.produce("topic=v&partition=2&id=one", "x");
    assert_eq!(receiver.drain("v", "g").len(), 1, "another topic's is another one");
    receiver.role.kill().unwrap();
    let receiver = place.start("queue_size = 3");
    assert_eq!(receiver.post(named, &messages).ids(), first.ids(), "over a kill");
    assert_eq!(receiver.drain("t", "g").len(), 3);
    assert_eq!(receiver.drain("u", "g").len(), 3);
}

pub(super) fn a_batch_has_its_limit(place: &Place<'_>) {
    let receiver = place.start("queue_size = 100000");
    let limit = place.batch_limit();
    let payloads: Vec<String> = (0..=limit).map(|n| n.to_string()).collect();
    let payloads: Vec<&str> = payloads.iter().map(String::as_str).collect();
    assert_eq!(receiver.batch("topic=t&partition=0", &payloads).status, 413);
    let kept = receiver.batch("topic=t&partition=0", &payloads[..limit]).ids();
    assert_eq!(kept.iter().collect::<BTreeSet<_>>().len(), limit);
    let got = receiver.drain("t", "g");
    assert_eq!(texts(&got), payloads[..limit], "whole, and in its order");
    assert_eq!(got.iter().map(|got| &got.id).collect::<Vec<_>>(), kept.iter().collect::<Vec<_>>());
}

pub(super) fn what_cannot_be_is_refused_and_makes_nothing(place: &Place<'_>) {
    let receiver = place.start("");
    for query in [
        "",
        "topic=a%2Fb",
        "topic=t&partition=-1",
        "topic=t&partition=4",
        "topic=t&partition=99999999999999999999",
        "topic=t.dead",
        "topic=a=b",
        "topic=t*",
        "topic=t&id=",
    ] {
        let refused = receiver.post(&format!("/produce?{query}"), &json!({"payload": "x"}));
        assert_eq!(refused.status, 400, "{query}: {}", refused.text);
    }
    for query in [
        "topic=t&max=1",
        "group=g&max=1",
        "topic=t&group=g&partition=4&max=1",
        "topic=t&group=g&max=0",
        "topic=n.dead&group=g&max=1",
    ] {
        assert_eq!(receiver.get(&format!("/consume?{query}")).status, 400, "{query}");
    }
    let unknown = receiver.post("/ack?topic=t&group=g", &json!({"id": "00000000-0-1"}));
    assert_eq!((unknown.status, &*unknown.text), (400, "ack failed (unknown id or wrong group)"));
    assert_eq!(receiver.ask("DELETE", "/consume?topic=t&group=g", "").status, 404);
    assert_eq!(receiver.get("/topics").text, "{}", "nothing was made");
}

pub(super) fn the_largest_payload_goes_through(place: &Place<'_>) {
    let receiver = place.start("");
    let large = "x".repeat(1 << 20);
    receiver.produce("topic=t&partition=0", &large);
    receiver.produce("topic=t&partition=0", "after");
    let got = receiver.drain("t", "g");
    assert!(got[0].payload == large && got[1].payload == "after");
    let larger = "x".repeat((1 << 20) + 1);
    assert_eq!(receiver.post("/produce?topic=t", &json!({ "payload": larger })).status, 413);
}
