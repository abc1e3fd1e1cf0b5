//! Batches that come packed: taken where they are what they say, refused with nothing stored where they are not.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder};

use super::*;
use crate::http::testing::{Answer, send};

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(plain).expect("memory");
    packed.finish().expect("memory")
}

async fn ingest(receiver: &Receiver, encoding: &str, body: Vec<u8>) -> Answer {
    let request = Request::post("/api/v1/ingest").header("content-encoding", encoding).body(Body::from(body));
    send(&receiver.router, request.expect("a request")).await
}

async fn nodes(receiver: &Receiver) -> Value {
    get(&receiver.router, "/api/v1/nodes").await.json()["nodes"].clone()
}

#[tokio::test]
async fn a_packed_batch_is_stored_as_a_plain_one_is() {
    let receiver = receiver().await;
    let batch = |seq| batch("worker-7", seq, &[pods()]).into_bytes();
    // One member, several behind one another as the format allows, and one that says that it is none.
    let (start, end) = (batch(2)[..50].to_vec(), batch(2)[50..].to_vec());
    let cases =
        [("gzip", gzip(&batch(1))), ("gzip", [gzip(&start), gzip(&end)].concat()), ("identity", batch(3))];
    for (seq, (encoding, body)) in (1..).zip(cases) {
        let ack = ingest(&receiver, encoding, body).await;
        let expected = format!(r#"{{"acked_seq":{seq},"stored":1,"duplicates":0}}"#);
        assert_eq!((ack.status, ack.text()), (StatusCode::OK, &*expected));
    }
    assert_eq!(nodes(&receiver).await[0]["stored"], 3);
}

#[tokio::test]
async fn what_is_larger_than_a_batch_unpacked_is_refused_and_never_whole_in_memory() {
    let receiver = receiver().await;
    let limit = Config::default().ingest_body_bytes;
    // 64 MiB of spaces in 64 KiB, a batch at their end: valid, if somebody had the memory.
    let mut bomb = GzEncoder::new(Vec::new(), Compression::fast());
    for _ in 0..64 {
        bomb.write_all(&vec![b' '; 1 << 20]).expect("memory");
    }
    bomb.write_all(batch("worker-7", 1, &[pods()]).as_bytes()).expect("memory");
    let bomb = bomb.finish().expect("memory");
    assert!(bomb.len() < limit, "the bomb would be refused for its own size");
    let just_too_large = gzip(&vec![b' '; limit + 1]);
    for body in [bomb, just_too_large] {
        let refused = ingest(&receiver, "gzip", body).await;
        assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE, "{}", refused.text());
        assert_eq!(refused.json()["success"], false);
    }
    assert_eq!(nodes(&receiver).await, json!([]), "nothing was stored");
    // The control: padding up to the limit is no bomb.
    let mut fits = batch("worker-7", 1, &[pods()]).into_bytes();
    fits.resize(limit, b' ');
    assert_eq!(ingest(&receiver, "gzip", gzip(&fits)).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_packing_that_is_broken_or_unknown_is_said_to_be_so() {
    let receiver = receiver().await;
    let plain = batch("worker-7", 1, &[pods()]).into_bytes();
    let whole = gzip(&plain);
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x10;
    let mut deflated = DeflateEncoder::new(Vec::new(), Compression::fast());
    deflated.write_all(&plain).expect("memory");
    let deflated = deflated.finish().expect("memory");
    let cases = [
        ("gzip", plain.clone()),
        ("gzip", Vec::new()),
        ("gzip", whole[..whole.len() - 1].to_vec()),
        ("gzip", whole[..middle].to_vec()),
        ("gzip", [&whole[..], b"and more"].concat()),
        ("gzip", flipped),
        ("deflate", deflated),
        ("gzip, gzip", gzip(&whole)),
        ("br", whole.clone()),
        ("", whole),
    ];
    for (encoding, body) in cases {
        let refused = ingest(&receiver, encoding, body).await;
        assert_eq!(refused.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{encoding}: {}", refused.text());
        assert_eq!(refused.json()["success"], false);
    }
    let odd = Request::post("/api/v1/ingest").header("content-encoding", b"\xff".as_slice());
    let odd = send(&receiver.router, odd.body(Body::from(plain)).expect("a request")).await;
    assert_eq!(odd.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(nodes(&receiver).await, json!([]), "nothing was stored");
}
