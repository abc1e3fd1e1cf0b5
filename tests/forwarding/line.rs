//! A line between node and receiver that resets, cuts, stalls, doubles, holds, and on which somebody lies.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::time::Duration;

use anyhow::ensure;
use flate2::read::GzDecoder;
use serde_json::{Value, json};
use sextant_tests::faulty::{Fault, Proxy, Request, answer};
use sextant_tests::role::eventually;

use super::pair::{Load, Pair, check, get, posted};

/// Patience and pauses that fit into a test.
const CONFIG: &str = "[forward]\ntimeout_ms = 400\nretry_min_ms = 10\nretry_max_ms = 100\n";

/// Every fault has to have happened so often.
const EACH: u64 = 4;

/// What is asked besides batches is left alone: whether the receiver is ready.
fn is_batch(request: &Request) -> bool {
    request.line.starts_with("POST /api/v1/ingest ")
}

/// First and last number of a batch.
fn numbers(request: &Request) -> (u64, u64) {
    let mut text = String::new();
    let batch: Value = match GzDecoder::new(&*request.body).read_to_string(&mut text) {
        Ok(_) => serde_json::from_str(&text).unwrap(),
        Err(_) => serde_json::from_slice(&request.body).unwrap(),
    };
    let first = batch["first_seq"].as_u64().unwrap();
    (first, first + batch["records"].as_array().unwrap().len() as u64 - 1)
}

fn ack(acked_seq: u64, stored: u64, duplicates: u64) -> Fault {
    let body = json!({ "acked_seq": acked_seq, "stored": stored, "duplicates": duplicates });
    Fault::Answer(answer("200 OK", &body.to_string()))
}

/// Whoever answers instead of the receiver, and what it says.
fn somebody_else(kind: u64, request: &Request) -> Fault {
    let (first, last) = numbers(request);
    let said = |status: &str, body: &str| Fault::Answer(answer(status, body));
    match kind {
        0 => ack(last + 1, last + 2 - first, 0),
        1 => ack(last, 0, 0),
        2 => ack(last, last - first, 0),
        3 => ack(u64::MAX, 1, 0),
        4 => ack(first - 1, 0, 0),
        5 => said("200 OK", "{}"),
        6 => said("200 OK", "<html>welcome</html>"),
        7 => said("204 No Content", ""),
        8 => said("502 Bad Gateway", "<html>bad gateway</html>"),
        9 => said("503 Service Unavailable", ""),
        10 => said("400 Bad Request", "<html>bad request</html>"),
        11 => said("401 Unauthorized", "who are you"),
        _ => said("307 Temporary Redirect", ""),
    }
}

/// One request of two is harmed, each fault as often as every other; which one is the seed's.
fn harm() -> impl FnMut(&Request) -> Fault + Send {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = move |end| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % end
    };
    move |request| {
        if !is_batch(request) {
            return Fault::None;
        }
        match below(22) {
            0 => Fault::Delay(Duration::from_millis(below(100))),
            1 => Fault::Stall,
            2 => Fault::Reset,
            3 => Fault::ResetBeforeAnswer,
            4 => Fault::ResetBehindHeaders,
            5 => Fault::CutRequest,
            6 => Fault::CutAnswer,
            7 => Fault::HalfClose,
            8 => Fault::Twice,
            9 => Fault::Late(Duration::from_millis(below(1_500))),
            10 | 11 => somebody_else(below(13), request),
            _ => Fault::None,
        }
    }
}

#[test]
fn whatever_the_line_does_nothing_is_lost_or_doubled() {
    let pair = Pair::start_through(CONFIG, |receiver| Some(Proxy::start(receiver, harm()).unwrap()));
    let load = Load::start(&pair.node_address, 4);
    let line = pair.line.as_ref().unwrap();
    let done = eventually(Duration::from_secs(300), "every fault happened", || {
        let done: BTreeMap<_, _> = line.done();
        ensure!(done.len() == 12 && done.values().all(|count| *count >= EACH), "{done:?}");
        ensure!(load.count() > 500, "only {} records were acknowledged", load.count());
        Ok(done)
    })
    .unwrap();
    let link = get(&format!("http://{}/status?format=json", pair.node_address)).unwrap();
    // What is still held on the line arrives behind everything else.
    line.choose(|_| Fault::None);
    let acknowledged = load.stop();
    std::thread::sleep(Duration::from_millis(1_600));
    let lies = metric(&pair.node_address, "sextant_forward_contradictions_total");
    let (node, records) = pair.stop();
    check(&acknowledged, &records).unwrap();
    assert_eq!(
        (&node["adds_up"], &node["spooled"], &node["missing"]),
        (&json!(true), &json!(0), &json!(0)),
        "{node}"
    );
    let dropped = node["dropped"].as_object().unwrap();
    assert!(dropped.values().all(|count| *count == 0), "a word of somebody else costs no record: {node}");
    assert_eq!(node["stored"].as_u64(), Some(records.len() as u64), "{node}");
    assert!(node["duplicates"].as_u64() > Some(0), "batches came again: {node}");
    assert!(lies > 0.0, "nobody lied: {done:?} {link}");
}

fn metric(address: &str, name: &str) -> f64 {
    let text = super::pair::runtime().block_on(async {
        reqwest::get(format!("http://{address}/metrics")).await.unwrap().text().await.unwrap()
    });
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().parse().unwrap()
}

/// The control: a lie that nobody can see through does lose records, and the judge says so.
#[test]
fn a_perfect_lie_loses_what_it_swallowed() {
    let swallow = |request: &Request| {
        if !is_batch(request) || !request.number.is_multiple_of(3) {
            return Fault::None;
        }
        let (first, last) = numbers(request);
        ack(last, last + 1 - first, 0)
    };
    let pair = Pair::start_through(CONFIG, |receiver| Some(Proxy::start(receiver, swallow).unwrap()));
    let load = Load::start(&pair.node_address, 2);
    eventually(Duration::from_secs(60), "something was swallowed", || {
        let done = pair.line.as_ref().unwrap().done();
        ensure!(done.get("answer") >= Some(&EACH) && done.get("none") >= Some(&EACH), "{done:?}");
        ensure!(load.count() > 100, "only {} records were acknowledged", load.count());
        Ok(())
    })
    .unwrap();
    let acknowledged = load.stop();
    pair.line.as_ref().unwrap().choose(|_| Fault::None);
    let (node, records) = pair.stop();
    let verdict = check(&acknowledged, &records).unwrap_err().to_string();
    assert!(verdict.starts_with("acknowledged and lost"), "{verdict}");
    assert!(posted(&records).len() < acknowledged.len());
    assert_eq!(node["adds_up"], false, "and the receiver's sums show it: {node}");
}
