//! Samples from others: what each protocol's sender is answered, and what is stored then.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::json;

use super::{Receiver, batch, pods, receiver, receiver_of, receiver_storing, receiver_with};
use crate::domain::series::{Labels, MAX_LABELS, Range, Sample, Selection, SeriesSamples};
use crate::http::Config;
use crate::http::keys;
use crate::http::receiver::write::WRITES;
use crate::http::testing::hostile::bombard;
use crate::http::testing::{Answer, NOW_NS, send};
use crate::series::remote;
use crate::series::remote::wire::{self, Version};
use crate::series::{EngineKind, Query};

/// These take bodies of their own kind.
pub(super) const PATHS: [&str; 3] = ["/api/v1/write", "/api/v2/write", "/write"];

const NOW_MS: i64 = NOW_NS / 1_000_000;

fn series(metric: &str, samples: &[(i64, f64)]) -> SeriesSamples {
    let samples = samples.iter().map(|(at_ms, value)| Sample { at_ms: *at_ms, value: *value }).collect();
    SeriesSamples { labels: Labels::new(metric, [("a", "1")]).unwrap(), samples }
}

async fn stored(receiver: &Receiver, metric: &str) -> Vec<SeriesSamples> {
    let range = Range { from_ms: 0, to_ms: i64::MAX };
    let selection = Selection::metric(metric);
    let query = Query { selection, range, buckets: None, max_series: 100, max_samples: 100 };
    receiver.series.read(&query).await.unwrap()
}

async fn post(receiver: &Receiver, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
    let mut request = Request::post(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(&receiver.router, request.body(body.into()).unwrap()).await
}

fn written(answer: &Answer) -> [&str; 3] {
    ["samples", "histograms", "exemplars"]
        .map(|kind| answer.header(&format!("x-prometheus-remote-write-{kind}-written")))
}

#[tokio::test]
async fn both_versions_of_remote_write_are_stored_and_say_so() {
    let receiver = receiver().await;
    for (version, metric) in [(Version::One, "one"), (Version::Two, "two")] {
        let batch = [series(metric, &[(NOW_MS - 1_000, 1.5), (NOW_MS, f64::NAN)])];
        let headers = [("content-type", version.content_type()), ("content-encoding", "snappy")];
        let answer = post(&receiver, "/api/v1/write", &headers, wire::encode(version, &batch)).await;
        assert_eq!((answer.status, answer.text()), (StatusCode::NO_CONTENT, ""));
        assert_eq!(written(&answer), ["2", "0", "0"]);
        assert_eq!(stored(&receiver, metric).await, batch);
        // Once more is no harm.
        let again = post(&receiver, "/api/v1/write", &headers, wire::encode(version, &batch)).await;
        assert_eq!((again.status, written(&again)), (StatusCode::NO_CONTENT, ["2", "0", "0"]));
        assert_eq!(stored(&receiver, metric).await, batch);
    }
    let empty = post(&receiver, "/api/v1/write", &[], wire::encode(Version::One, &[])).await;
    assert_eq!((empty.status, written(&empty)), (StatusCode::NO_CONTENT, ["0", "0", "0"]));
}

#[tokio::test]
async fn what_never_will_be_stored_is_told_and_the_rest_is_stored() {
    let receiver = receiver().await;
    let years_ahead = NOW_MS + 100 * 31_536_000_000;
    let batch = [series("part", &[(NOW_MS, 1.0), (years_ahead, 2.0)])];
    let answer = post(&receiver, "/api/v1/write", &[], wire::encode(Version::One, &batch)).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.text(), "1 of 2 samples are not stored: 1 too_new");
    assert_eq!(written(&answer), ["1", "0", "0"]);
    assert_eq!(stored(&receiver, "part").await, [series("part", &[(NOW_MS, 1.0)])]);

    let lines = format!("part b=1 {NOW_MS}\npart c=1 {years_ahead}");
    let answer = post(&receiver, "/api/v2/write?precision=ms", &[], lines).await;
    let expected =
        json!({"code": "invalid", "message": "partial write: 1 of 2 samples are not stored: 1 too_new"});
    assert_eq!((answer.status, answer.json()), (StatusCode::BAD_REQUEST, expected));
    assert_eq!(stored(&receiver, "part_b").await.len(), 1);
}

#[tokio::test]
async fn other_bodies_and_types_are_told_as_each_sender_reads_it() {
    let receiver = receiver().await;
    let good = || wire::encode(Version::One, &[series("m", &[(NOW_MS, 1.0)])]);
    for (headers, body, status, words) in [
        (
            vec![("content-type", "application/x-protobuf;proto=io.prometheus.write.v3.Request")],
            good(),
            415,
            "neither version",
        ),
        (vec![("content-type", "application/json")], good(), 415, "neither version"),
        (vec![("content-encoding", "zstd")], good(), 415, "snappy is"),
        (vec![], b"plain".to_vec(), 400, "no block of snappy"),
        (vec![], vec![0; wire::MAX_PACKED_BYTES + 1], 413, "exceeds"),
    ] {
        let answer = post(&receiver, "/api/v1/write", &headers, body).await;
        assert_eq!(answer.status.as_u16(), status, "{}", answer.text());
        assert!(
            answer.text().contains(words) && answer.header("content-type").starts_with("text/plain"),
            "{answer:?}"
        );
    }
    assert_eq!(stored(&receiver, "m").await, []);
    let bad = "m v=1\nm v=";
    let two = post(&receiver, "/api/v2/write?bucket=b&org=o", &[], bad).await;
    let one = post(&receiver, "/write?db=d", &[], bad).await;
    let words = "line 2: field \"v\": \"\" is no value";
    assert_eq!((two.status.as_u16(), two.json()), (400, json!({"code": "invalid", "message": words})));
    assert_eq!((one.status.as_u16(), one.json()), (400, json!({"error": words})));
    assert_eq!(stored(&receiver, "m_v").await, [], "a bad line costs its body");
    for (path, words) in [("/write?precision=fortnight", "precision"), ("/write", "line 2: no UTF-8")] {
        let answer = post(&receiver, path, &[], &b"m v=1\nm,t=\xff v=1"[..]).await;
        assert!(answer.status == 400 && answer.text().contains(words), "{answer:?}");
    }
    let tags: String = (0..38).map(|n| format!(",t{n}={:0>1000}", "")).collect();
    let fields: Vec<_> = (0..5_000).map(|n| format!("a{n}=1")).collect();
    let answer = post(&receiver, "/write", &[], format!("m{tags} {}", fields.join(","))).await;
    assert!(answer.status == 413 && answer.text().contains("bytes of labels in a body"), "{answer:?}");
    assert_eq!(stored(&receiver, "m_a0").await, []);
}

#[tokio::test]
async fn lines_are_stored_as_their_metrics() {
    let receiver = receiver().await;
    let answer =
        post(&receiver, "/write?db=d&precision=ms", &[], format!("cpu,host=h usage=0.5,ok=t {NOW_MS}\n"))
            .await;
    assert_eq!((answer.status, answer.text()), (StatusCode::NO_CONTENT, ""));
    let usage = stored(&receiver, "cpu_usage").await;
    assert_eq!(usage[0].labels.to_string(), "cpu_usage{db=\"d\",host=\"h\"}");
    assert_eq!(usage[0].samples, [Sample { at_ms: NOW_MS, value: 0.5 }]);
    let answer =
        post(&receiver, "/api/v2/write?bucket=b&org=o", &[("content-encoding", "gzip")], gzip(b"up value=1"))
            .await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    let up = stored(&receiver, "up_value").await;
    assert_eq!((up[0].labels.to_string(), up[0].samples[0].at_ms), ("up_value".to_owned(), NOW_MS));
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(plain).expect("memory");
    packed.finish().expect("memory")
}

#[tokio::test]
async fn odd_labels_cost_their_series_alone() {
    let receiver = receiver().await;
    // Forty-one labels `l10` to `l50`, and a sample: more than a series may have, so that no type of ours makes it.
    let label = |n: usize| [&b"\x0a\x08\x0a\x03"[..], format!("l{n}").as_bytes(), b"\x12\x01v"].concat();
    let labels: Vec<u8> = (10..11 + MAX_LABELS).flat_map(label).collect();
    let one = [&labels[..], b"\x12\x02\x10\x01"].concat();
    assert_eq!(one.len(), 3 * 128 + 30);
    let mut plain = [&b"\x0a\x9e\x03"[..], &one].concat();
    let good = wire::encode(Version::One, &[series("good", &[(NOW_MS, 1.0)])]);
    plain.extend(snap::raw::Decoder::new().decompress_vec(&good).unwrap());
    let packed = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
    let answer = post(&receiver, "/api/v1/write", &[], packed).await;
    assert_eq!(answer.text(), "1 of 2 samples are not stored: 1 with odd labels (41 labels, at most 40)");
    assert_eq!((answer.status.as_u16(), written(&answer)), (400, ["1", "0", "0"]));
    assert_eq!(stored(&receiver, "good").await.len(), 1);
}

#[tokio::test]
async fn a_store_that_is_gone_is_asked_again_later() {
    // Nobody is there, and nobody is waited for.
    let remote = remote::Config {
        write_url: "http://127.0.0.1:9/api/v1/write".to_owned(),
        read_url: "http://127.0.0.1:9".to_owned(),
        retry_ms: 0,
        ..remote::Config::default()
    };
    let config = crate::series::Config { engine: EngineKind::Remote, remote, ..Default::default() };
    let receiver = receiver_storing(Config::default(), &keys::Config::default(), &config).await;
    let body = wire::encode(Version::One, &[series("m", &[(NOW_MS, 1.0)])]);
    let answer = post(&receiver, "/api/v1/write", &[], body).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "2"), "{}", answer.text());
    let answer = post(&receiver, "/api/v2/write", &[], "m v=1").await;
    assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (503, &json!("unavailable")));
    let asked = super::get(&receiver.router, "/api/v1/samples?match=m").await;
    assert!(asked.status == 503 && asked.text().contains("could not be read: "), "{}", asked.text());
}

/// Prometheus gives up on 408.
#[tokio::test]
async fn a_body_that_does_not_end_is_asked_for_again() {
    let receiver = receiver_with(Config { request_timeout_ms: 200, ..Config::default() }).await;
    for path in PATHS {
        let answer = post(
            &receiver,
            path,
            &[],
            Body::from_stream(futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>()),
        )
        .await;
        assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "2"), "{}", answer.text());
    }
}

/// A store that is away holds up who writes, and nobody else.
#[tokio::test]
async fn writes_under_way_leave_room_for_nodes_and_have_a_limit() {
    let config = Config { max_bodies: 1, request_timeout_ms: 60_000, ..Config::default() };
    let receiver = receiver_with(config).await;
    let mut writes = tokio::task::JoinSet::new();
    for n in 0..WRITES {
        let router = receiver.router.clone();
        let endless = Body::from_stream(futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>());
        let request = Request::post(PATHS[n % PATHS.len()]).body(endless).unwrap();
        writes.spawn(async move { send(&router, request).await.status });
    }
    for _ in 0..1_000 {
        if receiver.door.writes.available_permits() == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let ack = post(&receiver, "/api/v1/ingest", &[], batch("n", 1, &[pods()])).await;
    assert_eq!(ack.status, StatusCode::OK, "{}", ack.text());
    for path in PATHS {
        let more = post(&receiver, path, &[], "").await;
        assert_eq!((more.status.as_u16(), more.header("retry-after")), (503, "2"), "{}", more.text());
    }
}

/// Prometheus throws away what is answered with 429.
#[tokio::test]
async fn a_rate_asks_prometheus_to_come_again() {
    let rate = crate::http::rate::Config { peer_per_second: 1, ..Default::default() };
    let receiver = receiver_with(Config { rate, ..Config::default() }).await;
    let refused = async |path: &str, body: Vec<u8>| {
        for _ in 0..50 {
            let answer = post(&receiver, path, &[], body.clone()).await;
            if answer.status != StatusCode::NO_CONTENT {
                return answer;
            }
        }
        panic!("no limit")
    };
    let answer = refused("/api/v1/write", wire::encode(Version::One, &[])).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "1"), "{}", answer.text());
    assert!(answer.header("content-type").starts_with("text/plain"), "{answer:?}");
    // The control: others are told as ever.
    assert_eq!(refused("/api/v2/write", b"m v=1".to_vec()).await.status, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn a_key_of_scope_write_opens_them() {
    let text = "required = \"everything\"\n[[key]]\nname = \"telegraf\"\n\
        sha256 = \"c4bbcb1fbec99d65bf59d85c8cb62ee2db963f0fe106f483d9afa73bd4e39a8a\"\nscopes = [\"write\"]\n";
    let keys: keys::Config = toml::from_str(text).unwrap();
    let receiver = receiver_of(Config::default(), &keys).await;
    let key = [("authorization", "Token correct horse battery staple")];
    assert_eq!(post(&receiver, "/api/v2/write", &key, "m v=1").await.status, StatusCode::NO_CONTENT);
    let refused = post(&receiver, "/api/v2/write", &[], "m v=1").await;
    assert_eq!((refused.status.as_u16(), &refused.json()["code"]), (401, &json!("unauthorized")));
    assert!(post(&receiver, "/write", &[], "m v=1").await.json()["error"].is_string());
    let refused = post(&receiver, "/api/v1/write", &[], "").await;
    assert!(refused.status == 401 && refused.header("content-type").starts_with("text/plain"));
}

#[tokio::test]
async fn no_body_is_a_panic() {
    let receiver = receiver().await;
    bombard(&receiver.router, "POST", "/api/v1/write", "\n\0", 1_000, &[204, 400, 413]).await;
    for path in ["/api/v2/write", "/write?db=d"] {
        for body in
            ["m,t=1 v=1 1\n", "m v=\"", "\\\\\\,", "m,=,=,= ,,,", "\"\n\"", "m v=1e400", "m v=1,,", "#"]
        {
            let answer = post(&receiver, path, &[], body).await;
            assert!(matches!(answer.status.as_u16(), 204 | 400), "{body:?}: {answer:?}");
        }
    }
}
