//! The transport against real servers on loopback that answer as receivers, proxies and liars do.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Response, header};
use axum::routing::{any, post};
use serde_json::value::RawValue;
use tokio::net::TcpListener;

use super::*;
use crate::api::batch::{Accounts, Refused, VERSION};

fn target(receiver: &str) -> Result<String, Error> {
    Http::new(receiver, Duration::from_secs(1), true, Credentials::default()).map(|http| http.target())
}

fn batch() -> Batch {
    Batch {
        version: VERSION,
        node: "n".to_owned(),
        boot_id: "b".to_owned(),
        spool_id: "s".to_owned(),
        first_seq: 1,
        accounts: Accounts::default(),
        records: vec![RawValue::from_string("{\"a\": 1}".to_owned()).unwrap()],
        confirmed_by: BTreeMap::new(),
    }
}

async fn serve(router: Router) -> Http {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    Http::new(&url, Duration::from_secs(1), true, Credentials::default()).unwrap()
}

/// What the transport makes of an answer.
async fn judge(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Result<Ack, SendError> {
    let (headers, body) = (headers.to_vec(), body.to_owned());
    let answer = move || {
        let mut response = Response::builder().status(status);
        for (name, value) in headers.clone() {
            response = response.header(name, value);
        }
        std::future::ready(response.body(Body::from(body.clone())).unwrap())
    };
    serve(Router::new().route("/api/v1/ingest", post(answer))).await.send(&batch()).await
}

#[tokio::test]
async fn a_batch_goes_out_and_an_acknowledgement_comes_back() {
    let seen = |body: Bytes| async move {
        let batch: Batch = serde_json::from_slice(&body).unwrap();
        assert_eq!((batch.first_seq, batch.records[0].get()), (1, "{\"a\": 1}"));
        serde_json::to_string(&Ack { acked_seq: 1, stored: 1, duplicates: 0 }).unwrap()
    };
    let http = serve(Router::new().route("/api/v1/ingest", post(seen))).await;
    assert_eq!(http.send(&batch()).await.unwrap(), Ack { acked_seq: 1, stored: 1, duplicates: 0 });
}

#[tokio::test]
async fn each_receiver_is_told_what_it_confirmed_itself() {
    let seen = |body: Bytes| async move {
        let batch: Batch = serde_json::from_slice(&body).unwrap();
        let (all, here) = (batch.accounts.acknowledged, batch.accounts.acknowledged_here.unwrap());
        serde_json::to_string(&Ack { acked_seq: all, stored: here, duplicates: 0 }).unwrap()
    };
    let mut batch = batch();
    batch.accounts.acknowledged = 12;
    let receivers = [7, 5, 0].map(|_| serve(Router::new().route("/api/v1/ingest", post(seen))));
    for (receiver, count) in receivers.into_iter().zip([Some(7), Some(5), None]) {
        let receiver = receiver.await;
        if let Some(count) = count {
            batch.confirmed_by.insert(receiver.target(), count);
        }
        let ack = receiver.send(&batch).await.unwrap();
        assert_eq!((ack.acked_seq, ack.stored), (12, count.unwrap_or(0)));
    }
    // Nothing else is in it than in any batch.
    let (mut theirs, ours) = (batch.to_json("nobody").unwrap(), serde_json::to_vec(&batch).unwrap());
    let told = b",\"acknowledged_here\":0";
    let at = theirs.windows(told.len()).position(|window| window == told).unwrap();
    theirs.drain(at..at + told.len());
    assert_eq!(String::from_utf8(theirs).unwrap(), String::from_utf8(ours).unwrap());
}

#[tokio::test]
async fn a_large_batch_goes_packed_and_a_small_one_as_it_is() {
    // Answers with how the batch came and how long it was: 500, so that its words come back.
    let seen = |headers: axum::http::HeaderMap, body: Bytes| async move {
        let encoding = headers.get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap().to_owned());
        let mut plain = body.to_vec();
        if encoding.is_some() {
            plain.clear();
            flate2::read::GzDecoder::new(&*body).read_to_end(&mut plain).unwrap();
        }
        let batch: Batch = serde_json::from_slice(&plain).unwrap();
        let words =
            format!("{} of {} as {encoding:?}: {}", body.len(), plain.len(), batch.records[0].get().len());
        (axum::http::StatusCode::INTERNAL_SERVER_ERROR, words)
    };
    let router = Router::new().route("/api/v1/ingest", post(seen));
    let packing = serve(router.clone()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let plain = Http::new(&url, Duration::from_secs(1), false, Credentials::default()).unwrap();
    let small = batch().to_json("anybody").unwrap().len();
    let sent = |http: Http, length: usize| async move {
        let text = format!("\"{}\"", "a".repeat(length));
        let batch = Batch { records: vec![RawValue::from_string(text).unwrap()], ..batch() };
        let size = batch.to_json("anybody").unwrap().len();
        let words = http.send(&batch).await.unwrap_err().to_string();
        let (came, rest) =
            words.strip_prefix("500 Internal Server Error: ").unwrap().split_once(' ').unwrap();
        assert_eq!(rest.split_once(": ").unwrap().1, (length + 2).to_string());
        (size, came.parse::<usize>().unwrap(), rest.contains("gzip"))
    };
    // The envelope takes `small` less the eight characters of its record; a text has two quotes.
    let exactly = PACK_FROM_BYTES - (small - 8) - 2;
    let (size, came, packed) = sent(packing.clone(), exactly).await;
    assert_eq!((size, packed), (PACK_FROM_BYTES, true));
    assert!(came < size / 2, "{came} of {size}");
    let (size, came, packed) = sent(packing.clone(), 1 << 20).await;
    assert!(packed && came < size / 50, "{came} of {size}");
    assert_eq!(sent(packing, exactly - 1).await, (PACK_FROM_BYTES - 1, PACK_FROM_BYTES - 1, false));
    // The control: where it is turned off nothing is packed.
    let (size, came, packed) = sent(plain, 1 << 20).await;
    assert_eq!((came, packed), (size, false));
}

#[tokio::test]
async fn only_an_acknowledgement_is_one() {
    let cases = [
        (200, ""),
        (200, "{}"),
        (200, "<html>"),
        (204, ""),
        (202, "{}"),
        (404, ""),
        (500, "oops"),
        (502, ""),
    ];
    for (status, body) in cases {
        let judged = judge(status, &[], body).await;
        assert!(matches!(judged, Err(SendError::Unavailable { .. })), "{status} {body}: {judged:?}");
    }
}

#[tokio::test]
async fn refusals_say_what_they_refuse() {
    for refused in [Refused::Envelope, Refused::Record(7)] {
        let refusal = Refusal { success: false, error: "no".to_owned(), refused, version: 9 };
        let judged = judge(400, &[], &serde_json::to_string(&refusal).unwrap()).await;
        match judged {
            Err(SendError::Refused { refused: Some(said), words }) => {
                assert_eq!((said, &*words), (refused, "no"));
            }
            other => panic!("{other:?}"),
        }
    }
    let judged = judge(413, &[], "a proxy's words").await;
    assert!(matches!(judged, Err(SendError::Refused { refused: None, .. })), "{judged:?}");
    // Of a batch that was cut on its way this is said too, and the next time it may be whole.
    for status in [400, 422] {
        let judged = judge(status, &[], "a proxy's words").await;
        assert!(matches!(judged, Err(SendError::Unavailable { .. })), "{judged:?}");
    }
}

#[tokio::test]
async fn busy_is_left_alone_as_long_as_it_asks() {
    let cases =
        [("7", Some(7)), (" 12 ", Some(12)), ("-1", None), ("soon", None), ("99999999999999999999", None)];
    for (value, seconds) in cases {
        for status in [429, 503] {
            match judge(status, &[("retry-after", value)], "later").await {
                Err(SendError::Busy { retry_after, .. }) => {
                    assert_eq!(retry_after, seconds.map(Duration::from_secs), "{value}");
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(matches!(judge(429, &[], "").await, Err(SendError::Busy { retry_after: None, .. })));
}

#[tokio::test]
async fn a_redirect_takes_the_records_nowhere() {
    // Whoever follows gets a perfect answer.
    let ack = || async { "{\"acked_seq\":1,\"stored\":1,\"duplicates\":0}" };
    let elsewhere = serve(Router::new().fallback(any(ack))).await;
    assert!(elsewhere.send(&batch()).await.is_ok());
    let redirect = |State(url): State<String>| async move {
        Response::builder().status(307).header(header::LOCATION, url).body(Body::empty()).unwrap()
    };
    let router = Router::new().route("/api/v1/ingest", post(redirect)).with_state(elsewhere.target());
    let judged = serve(router).await.send(&batch()).await;
    assert!(matches!(judged, Err(SendError::Unavailable { .. })), "{judged:?}");
}

#[tokio::test]
async fn an_endless_answer_is_not_read_to_its_end() {
    let judged = judge(200, &[], &" ".repeat(10 << 20)).await.unwrap_err();
    assert!(judged.to_string().contains("longer than 65536 bytes"), "{judged}");
}

#[tokio::test]
async fn nobody_there_is_said_in_words() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = Http::new(&url, Duration::from_secs(1), true, Credentials::default())
        .unwrap()
        .send(&batch())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
}

#[test]
fn the_path_is_appended_to_whatever_is_given() {
    for receiver in ["http://r:8080", "http://r:8080/", "http://r:8080/?a=b#c"] {
        assert_eq!(target(receiver).unwrap(), "http://r:8080/api/v1/ingest");
    }
    assert_eq!(target("http://r/behind/").unwrap(), "http://r/behind/api/v1/ingest");
}

#[test]
fn wrong_receivers_are_named() {
    for receiver in ["", "r:8080", "ftp://r", "file:///etc", "http://", "http://u:p@r", "unix:/run/x"] {
        let error = target(receiver).unwrap_err().to_string();
        assert!(error.starts_with(&format!("receiver {receiver}:")), "{error}");
    }
}

#[test]
fn foreign_words_are_one_short_line() {
    let text = words(StatusCode::BAD_GATEWAY, "<html>\n\x1b[31m".repeat(100).as_bytes());
    assert!(text.chars().count() <= MAX_WORDS && !text.contains(['\n', '\x1b']), "{text}");
}

#[tokio::test]
async fn the_key_goes_along_and_a_wrong_file_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let key_file = dir.path().join("key");
    let credentials = Credentials { key_file: key_file.clone(), ..Credentials::default() };
    let seen = |headers: axum::http::HeaderMap| async move {
        let key = headers.get("x-api-key").map(|key| key.to_str().unwrap().to_owned());
        (axum::http::StatusCode::FORBIDDEN, key.unwrap_or_default())
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/api/v1/ingest", post(seen));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let new = || Http::new(&url, Duration::from_secs(1), true, credentials.clone());
    assert!(new().unwrap_err().to_string().contains("key"), "a file that is not there");
    std::fs::write(&key_file, "one\n").unwrap();
    let http = new().unwrap();
    assert!(!format!("{http:?}").contains("one"), "{http:?}");
    let sent = |http: Http| async move { http.send(&batch()).await.unwrap_err().to_string() };
    assert_eq!(sent(http.clone()).await, "403 Forbidden: one");
    for wrong in ["", "two\nlines", &"k".repeat(5_000)] {
        std::fs::write(&key_file, wrong).unwrap();
        assert!(http.reload().is_err(), "{wrong:?}");
        assert_eq!(sent(http.clone()).await, "403 Forbidden: one");
    }
    std::fs::write(&key_file, "two").unwrap();
    http.reload().unwrap();
    assert_eq!(sent(http.clone()).await, "403 Forbidden: two");
}
