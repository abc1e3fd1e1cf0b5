//! The writer against servers on loopback that answer as stores, proxies and liars do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request as Asked, State};
use axum::http::{HeaderMap, Response};

use super::halving::MAX_HALVES;
use super::*;
use crate::series::remote::testing::{config, series, serve};
use crate::series::remote::wire::Received;

/// What a store answers to its requests, one after another; the last for all that follow.
#[derive(Clone, Default)]
struct Store(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    answers: Vec<Answers>,
    seen: Vec<(HeaderMap, String, Vec<u8>)>,
    kept: BTreeMap<(String, i64), f64>,
}

#[derive(Clone)]
enum Answers {
    /// A status, headers and words.
    With(u16, Vec<(&'static str, String)>, &'static str),
    /// 400 to samples; an empty write is fine.
    Refused,
    /// None at all.
    Nothing,
    /// As Prometheus: what is older than a series' newest sample refuses the whole request.
    Prometheus,
    /// As Prometheus, but nobody hears it.
    PrometheusUnheard,
}

impl Store {
    async fn start(answers: &[Answers]) -> (Self, String) {
        let this = Self::default();
        this.0.lock().unwrap().answers = answers.to_vec();
        let url = serve(Router::new().fallback(answer).with_state(this.clone())).await;
        (this, url)
    }

    fn seen(&self) -> Vec<(HeaderMap, String, Vec<u8>)> {
        self.0.lock().unwrap().seen.clone()
    }

    fn kept(&self) -> usize {
        self.0.lock().unwrap().kept.len()
    }
}

async fn answer(State(store): State<Store>, asked: Asked) -> Response<Body> {
    let (parts, body) = asked.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap().to_vec();
    let (next, batch) = {
        let mut inner = store.0.lock().unwrap();
        let next = if inner.answers.len() > 1 { inner.answers.remove(0) } else { inner.answers[0].clone() };
        inner.seen.push((parts.headers.clone(), parts.uri.to_string(), body.clone()));
        let content = parts.headers.get(CONTENT_TYPE).map_or("", |value| value.to_str().unwrap());
        (next, Version::of(content).and_then(|version| wire::decode(version, &body).ok()).unwrap_or_default())
    };
    let with = |status: u16, words: &'static str| {
        Response::builder().status(status).body(Body::from(words)).unwrap()
    };
    match next {
        Answers::With(status, headers, words) => {
            let mut response = with(status, words);
            for (name, value) in headers {
                response.headers_mut().insert(name, value.parse().unwrap());
            }
            response
        }
        Answers::Refused if batch.series.is_empty() => with(204, ""),
        Answers::Refused => with(400, "words"),
        Answers::Nothing => std::future::pending().await,
        Answers::Prometheus => {
            prometheus(&store, &batch).map_or_else(|words| with(400, words), |()| with(204, ""))
        }
        Answers::PrometheusUnheard => {
            let _ = prometheus(&store, &batch);
            std::future::pending().await
        }
    }
}

fn prometheus(store: &Store, batch: &Received) -> Result<(), &'static str> {
    let mut inner = store.0.lock().unwrap();
    let mut kept = inner.kept.clone();
    for one in &batch.series {
        for sample in &one.samples {
            let name = one.labels.to_string();
            let newest = kept.range((name.clone(), i64::MIN)..=(name.clone(), i64::MAX)).next_back();
            match newest.map(|((_, at_ms), value)| (*at_ms, *value)) {
                Some((at_ms, _)) if at_ms > sample.at_ms => return Err("out of order sample\n"),
                Some((at_ms, value))
                    if at_ms == sample.at_ms && value.to_bits() != sample.value.to_bits() =>
                {
                    return Err("duplicate sample for timestamp\n");
                }
                _ => {}
            }
            kept.insert((name, sample.at_ms), sample.value);
        }
    }
    inner.kept = kept;
    Ok(())
}

fn status(status: u16) -> Answers {
    Answers::With(status, Vec::new(), "words")
}

fn written(status: u16, samples: u64) -> Answers {
    Answers::With(status, vec![("x-prometheus-remote-write-samples-written", samples.to_string())], "words")
}

fn batch() -> Vec<SeriesSamples> {
    vec![series("m", &[("a", "1")], &[(1, 1.0), (2, 2.0)]), series("n", &[], &[(1, 3.0)])]
}

fn writer(url: &str, protocol: Protocol) -> Writer {
    let influx = protocol == Protocol::Influx;
    let bucket = if influx { "b&c" } else { "" }.to_owned();
    let mut config = Config { write_protocol: protocol, bucket, ..config(url) };
    if influx {
        url.clone_into(&mut config.write_url);
        config.token = Some("t0ken".parse().unwrap());
    }
    Writer::new(&config, Metrics::default()).unwrap()
}

fn all(stored: u64) -> Appended {
    Appended { stored, ..Appended::default() }
}

fn some(stored: u64, refused: u64) -> Appended {
    Appended { stored, refused: [(Refused::ByStore, refused)].into() }
}

#[tokio::test]
async fn a_batch_is_stored_when_the_store_says_so() {
    for good in [200, 204] {
        let (store, url) = Store::start(&[status(good)]).await;
        let writer = writer(&url, Protocol::RemoteWrite);
        assert_eq!(writer.append(batch()).await.unwrap(), all(3));
        let (headers, path, body) = store.seen().remove(0);
        assert_eq!((&headers["content-encoding"], &*path), (&"snappy".parse().unwrap(), "/api/v1/write"));
        assert_eq!(headers["x-prometheus-remote-write-version"], "0.1.0");
        assert_eq!(wire::decode(Version::One, &body).unwrap().series, batch());
        assert_eq!(writer.append(Vec::new()).await.unwrap(), all(0), "nothing needs no request");
        assert_eq!(store.seen().len(), 1);
    }
}

#[tokio::test]
async fn what_says_nothing_about_samples_loses_none() {
    let page = Answers::With(200, vec![("content-type", "text/html".to_owned())], "<html>");
    for (answer, hint) in [
        (page, "write_url"),
        (status(202), "write_url"),
        (status(302), "write_url"),
        (status(401), "token_file"),
        (status(403), "token_file"),
        (status(404), "write_url"),
        (status(405), "write_url"),
        (status(409), "write_url"),
    ] {
        let (store, url) = Store::start(&[answer]).await;
        let error = writer(&url, Protocol::RemoteWrite).append(batch()).await.unwrap_err();
        assert!(matches!(&error, Error::Remote(words) if words.contains(hint)), "{error}");
        assert_eq!(store.seen().len(), 1, "trying again does not help");
    }
}

#[tokio::test]
async fn the_same_bytes_are_sent_until_there_is_an_answer() {
    let answers = [status(500), Answers::Nothing, status(503), status(429), status(408), status(204)];
    let (store, url) = Store::start(&answers).await;
    let writer = writer(&url, Protocol::RemoteWrite);
    assert_eq!(writer.append(batch()).await.unwrap(), all(3));
    let seen = store.seen();
    assert_eq!(seen.len(), answers.len());
    assert!(seen.iter().all(|(_, _, body)| *body == seen[0].2));
    assert_eq!((writer.metrics.requests.get(), writer.metrics.retries.get()), (6, 5));
}

#[tokio::test]
async fn a_store_is_left_alone_for_as_long_as_it_asks() {
    let busy = Answers::With(429, vec![("retry-after", "1".to_owned())], "later");
    let (_store, url) = Store::start(&[busy, status(204)]).await;
    let writer = writer(&url, Protocol::RemoteWrite);
    let since = Instant::now();
    assert_eq!(writer.append(batch()).await.unwrap(), all(3));
    assert!(since.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn patience_ends_and_the_batch_may_be_brought_again() {
    let (_store, url) = Store::start(&[status(503)]).await;
    let config = Config { retry_ms: 300, ..config(&url) };
    let writer = Writer::new(&config, Metrics::default()).unwrap();
    let error = writer.append(batch()).await.unwrap_err();
    assert!(matches!(&error, Error::Remote(words) if words == "503 Service Unavailable: words"), "{error}");
    let nobody = Writer::new(
        &Config { retry_ms: 0, ..super::super::testing::config("http://127.0.0.1:9") },
        Metrics::default(),
    );
    assert!(matches!(nobody.unwrap().append(batch()).await, Err(Error::Remote(_))));
}

#[tokio::test]
async fn what_was_stored_unheard_is_stored_and_not_refused() {
    let (store, url) = Store::start(&[Answers::PrometheusUnheard, Answers::Prometheus]).await;
    let unheard = writer(&url, Protocol::RemoteWrite);
    assert_eq!(unheard.append(batch()).await.unwrap(), all(3));
    assert_eq!((store.kept(), unheard.metrics.there_already.get()), (3, 1));

    // Also where the batch is brought again after patience ended.
    let (store, url) = Store::start(&[Answers::PrometheusUnheard, Answers::Prometheus]).await;
    let again = Writer::new(&Config { retry_ms: 0, ..config(&url) }, Metrics::default()).unwrap();
    assert!(again.append(batch()).await.is_err());
    assert_eq!(again.append(batch()).await.unwrap(), all(3));
    assert_eq!(store.kept(), 3);

    // The control: the same words for a first request are a loss. The newest of each series is no repeat to it.
    let stranger = writer(&url, Protocol::RemoteWrite);
    assert_eq!(stranger.append(batch()).await.unwrap(), some(2, 1));
}

#[tokio::test]
async fn a_request_that_never_arrived_costs_its_bad_sample_alone() {
    // First among the series, and among the others: behind it and before it the store takes what it would not have taken twice.
    for bad in ["s000", "s077"] {
        let (store, url) = Store::start(&[Answers::Prometheus]).await;
        let writer = writer(&url, Protocol::RemoteWrite);
        let newest = vec![series(bad, &[], &[(1_000, 1.0)])];
        assert_eq!(writer.append(newest).await.unwrap(), all(1));
        store.0.lock().unwrap().answers = vec![Answers::Nothing, Answers::Prometheus];
        let many: Vec<_> =
            (0..100).map(|n| series(&format!("s{n:03}"), &[], &[(999, 1.0), (1_001, 1.0)])).collect();
        assert_eq!(writer.append(many).await.unwrap(), some(199, 1), "{bad}");
        assert_eq!((store.kept(), writer.metrics.there_already.get()), (200, 0), "{bad}");
    }
}

#[tokio::test]
async fn what_is_there_is_not_asked_for_sample_by_sample() {
    let (store, url) = Store::start(&[Answers::PrometheusUnheard, Answers::Prometheus]).await;
    let writer = writer(&url, Protocol::RemoteWrite);
    let samples = [(1, 1.0), (2, 1.0)];
    let many: Vec<_> = (0..1_000).map(|n| series(&format!("s{n:03}"), &[], &samples)).collect();
    assert_eq!(writer.append(many.clone()).await.unwrap(), all(2_000));
    assert_eq!((store.kept(), writer.metrics.there_already.get()), (2_000, 1));
    assert!(store.seen().len() < MAX_HALVES / 2, "{}", store.seen().len());

    // What the store said it has is there as a whole.
    let more: Vec<_> = (0..1_000).map(|n| series(&format!("t{n:03}"), &[], &samples)).collect();
    assert_eq!(writer.append(more.clone()).await.unwrap(), all(2_000));
    let before = store.seen().len();
    assert_eq!(writer.append(more).await.unwrap(), all(2_000));
    assert_eq!(store.seen().len(), before + 1);
}

#[tokio::test]
async fn many_refused_samples_cost_no_other() {
    let (store, url) = Store::start(&[Answers::Prometheus]).await;
    let writer = writer(&url, Protocol::RemoteWrite);
    let bad = |n: usize| n < 500 || n == 800;
    let of = |n: usize, at_ms: i64| series(&format!("s{n:04}"), &[], &[(at_ms, 1.0)]);
    let newer = (0..1_000).filter(|n| bad(*n)).map(|n| of(n, 1_000)).collect();
    assert_eq!(writer.append(newer).await.unwrap(), all(501));
    let many = (0..1_000).map(|n| of(n, 999)).collect();
    assert_eq!(writer.append(many).await.unwrap(), some(499, 501));
    assert_eq!(store.kept(), 1_000);
}

#[tokio::test]
async fn a_server_that_refuses_an_empty_write_too_is_no_store() {
    // As Go's server of TLS does where a request comes without.
    let tls = Answers::With(400, Vec::new(), "Client sent an HTTP request to an HTTPS server.");
    for protocol in [Protocol::RemoteWrite, Protocol::RemoteWrite2, Protocol::Influx] {
        for answer in [tls.clone(), status(413), status(422)] {
            let (store, url) = Store::start(&[answer]).await;
            let writer = writer(&url, protocol);
            let error = writer.append(batch()).await.unwrap_err();
            assert!(matches!(&error, Error::Remote(words) if words.contains("write_url")), "{error}");
            assert_eq!((writer.metrics.refused.get(), writer.metrics.stored.get()), (0, 0));
            assert!(store.seen().len() < 4, "it is not halved");
            // Set right, the same batch is stored.
            store.0.lock().unwrap().answers = vec![status(204)];
            assert_eq!(writer.append(batch()).await.unwrap(), all(3));
        }
    }
    // It was a store once, and is none any more.
    let (store, url) = Store::start(&[status(204)]).await;
    let writer = writer(&url, Protocol::RemoteWrite);
    assert_eq!(writer.append(batch()).await.unwrap(), all(3));
    store.0.lock().unwrap().answers = vec![tls];
    let later = vec![series("m", &[], &[(9, 1.0)])];
    assert!(matches!(writer.append(later).await, Err(Error::Remote(_))));
    // The control, of lines: a store that takes a comment and no sample.
    let (store, url) = Store::start(&[status(400), status(204), status(400)]).await;
    let lines = super::tests::writer(&url, Protocol::Influx);
    assert_eq!(lines.append(vec![series("m", &[], &[(9, 1.0)])]).await.unwrap(), some(0, 1));
    assert_eq!(store.seen()[1].2, b"# nothing\n");
}

#[tokio::test]
async fn a_request_that_was_not_taken_is_no_repeat() {
    let (store, url) = Store::start(&[Answers::Prometheus]).await;
    let writer = writer(&url, Protocol::RemoteWrite);
    assert_eq!(writer.append(vec![series("m", &[], &[(10, 1.0)])]).await.unwrap(), all(1));
    store.0.lock().unwrap().answers = vec![status(429), Answers::Prometheus];
    let old = vec![series("m", &[], &[(5, 1.0)])];
    assert_eq!(writer.append(old.clone()).await.unwrap(), some(0, 1));
    assert_eq!(writer.append(old).await.unwrap(), some(0, 1), "refused once is refused again");
}

#[tokio::test]
async fn one_sample_out_of_order_costs_no_other() {
    let (store, url) = Store::start(&[Answers::Prometheus]).await;
    let writer = writer(&url, Protocol::RemoteWrite);
    let newest = vec![series("s7", &[], &[(1_000, 1.0)])];
    assert_eq!(writer.append(newest).await.unwrap(), all(1));
    let many: Vec<_> = (0..100).map(|n| series(&format!("s{n}"), &[], &[(999, 1.0), (1_001, 1.0)])).collect();
    assert_eq!(writer.append(many).await.unwrap(), some(199, 1));
    assert_eq!(store.kept(), 200);

    // A store that refuses everything is not asked for ever.
    let (store, url) = Store::start(&[Answers::Refused]).await;
    let many: Vec<_> = (0..2_000).map(|n| series(&format!("s{n}"), &[], &[(1, 1.0)])).collect();
    let refused = super::tests::writer(&url, Protocol::RemoteWrite).append(many).await.unwrap();
    assert_eq!(refused, some(0, 2_000));
    assert!(store.seen().len() < 2 * MAX_HALVES);
}

#[tokio::test]
async fn the_second_version_is_believed_with_its_proof_alone() {
    let (store, url) = Store::start(&[written(204, 3)]).await;
    let proven = writer(&url, Protocol::RemoteWrite2);
    assert_eq!(proven.append(batch()).await.unwrap(), all(3));
    let (headers, _, body) = store.seen().remove(0);
    assert_eq!(headers["content-type"], "application/x-protobuf;proto=io.prometheus.write.v2.Request");
    assert_eq!(wire::decode(Version::Two, &body).unwrap().series, batch());

    for liar in [status(204), written(204, 2), written(200, 0), status(415), status(400)] {
        let (store, url) = Store::start(&[liar, status(204)]).await;
        let writer = writer(&url, Protocol::RemoteWrite2);
        assert_eq!(writer.append(batch()).await.unwrap(), all(3));
        assert_eq!(writer.append(batch()).await.unwrap(), all(3));
        let versions: Vec<_> = store
            .seen()
            .iter()
            .map(|(headers, ..)| headers["x-prometheus-remote-write-version"].clone())
            .collect();
        assert_eq!(versions, ["2.0.0", "0.1.0", "0.1.0"]);
        assert_eq!(writer.metrics.fallbacks.get(), 1);
    }
    let (_store, url) = Store::start(&[written(400, 2)]).await;
    let partly = writer(&url, Protocol::RemoteWrite2);
    assert_eq!(partly.append(batch()).await.unwrap(), some(2, 1));
}

#[tokio::test]
async fn lines_go_to_their_bucket() {
    let (store, url) = Store::start(&[status(204)]).await;
    let lines = writer(&url, Protocol::Influx);
    let mut odd = batch();
    odd.push(series("o", &[("path", "a\\")], &[(1, 1.0)]));
    assert_eq!(lines.append(odd).await.unwrap(), some(3, 1));
    let (headers, path, body) = store.seen().remove(0);
    assert_eq!(path, "/api/v2/write?org=&bucket=b%26c&precision=ms");
    assert_eq!(headers["authorization"], "Token t0ken");
    assert_eq!(String::from_utf8(body).unwrap(), "m,a=1 value=1.0 1\nm,a=1 value=2.0 2\nn value=3.0 1\n");

    let many: Vec<_> = (0..100).map(|n| series("m_v", &[("n", &n.to_string())], &[(1, 1.0)])).collect();
    assert_eq!(lines.append(many).await.unwrap(), all(100));
    assert_eq!(store.seen()[1].0["content-encoding"], "gzip");
    assert_eq!(lines.append(vec![series("m", &[], &[(1, f64::NAN)])]).await.unwrap(), some(0, 1));
    assert_eq!(store.seen().len(), 2, "there was nothing to send");

    // InfluxDB's 200 may be a part.
    let (_store, url) = Store::start(&[status(200)]).await;
    assert!(writer(&url, Protocol::Influx).append(batch()).await.is_err());
}

#[tokio::test]
async fn those_who_wait_are_counted_and_too_many_are_turned_away() {
    let (_store, url) = Store::start(&[Answers::Nothing]).await;
    let writer = Arc::new(writer(&url, Protocol::RemoteWrite));
    let waiting: Vec<_> = (0..MAX_WAITING)
        .map(|_| {
            let writer = Arc::clone(&writer);
            tokio::spawn(async move { writer.append(batch()).await })
        })
        .collect();
    while writer.room.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    assert!(matches!(writer.append(batch()).await, Err(Error::Busy)));
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}
