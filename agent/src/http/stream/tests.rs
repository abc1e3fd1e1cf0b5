//! A client of streams, and what every stream keeps whatever it carries.

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio::sync::mpsc;
use tower::ServiceExt as _;

use super::*;
use crate::http::{Config, testing};

/// One event as it came.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::http) struct Got {
    pub(in crate::http) event: String,
    pub(in crate::http) id: String,
    pub(in crate::http) data: String,
    comment: String,
    retry: String,
}

impl Got {
    pub(in crate::http) fn json(&self) -> Value {
        serde_json::from_str(&self.data).expect("JSON")
    }
}

/// Reads a stream event by event.
pub(in crate::http) struct Client {
    body: Body,
    text: String,
}

impl Client {
    /// Opens one, which is to succeed.
    pub(in crate::http) async fn open(router: &Router, path: &str, last_id: Option<&str>) -> Self {
        let mut request = Request::get(path);
        if let Some(id) = last_id {
            request = request.header("last-event-id", id);
        }
        let request = request.body(Body::empty()).expect("a request");
        let answer = router.clone().oneshot(request).await.expect("infallible");
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        let mut this = Self { body: answer.into_body(), text: String::new() };
        let greeting = this.raw().await.expect("a greeting");
        assert_eq!(greeting, Got { retry: "5000".to_owned(), ..Got::default() });
        this
    }

    /// The next event; `None` at the end.
    pub(in crate::http) async fn next(&mut self) -> Option<Got> {
        loop {
            let got = self.raw().await?;
            if got.comment.is_empty() {
                return Some(got);
            }
        }
    }

    /// The next block, comments too.
    async fn raw(&mut self) -> Option<Got> {
        let end = loop {
            if let Some(end) = self.text.find("\n\n") {
                break end;
            }
            let frame = self.body.frame().await?.expect("no error");
            self.text.push_str(std::str::from_utf8(frame.data_ref().expect("data")).expect("UTF-8"));
        };
        let block: String = self.text.drain(..end + 2).collect();
        let mut got = Got::default();
        for line in block.lines().filter(|line| !line.is_empty()) {
            let (field, value) = line.split_once(':').expect("a field");
            let place = match field {
                "event" => &mut got.event,
                "id" => &mut got.id,
                "data" => &mut got.data,
                "retry" => &mut got.retry,
                "" => &mut got.comment,
                other => panic!("{other}?"),
            };
            value.trim().clone_into(place);
        }
        Some(got)
    }
}

/// Whatever the test puts in.
struct Fake(mpsc::Receiver<Message>);

impl Feed for Fake {
    async fn next(&mut self) -> Option<Message> {
        self.0.recv().await
    }
}

fn common(max_streams: usize) -> Common {
    testing::common(Config { max_streams, ..Config::default() }, &crate::http::keys::Config::default())
}

fn open(common: &Common) -> Result<(mpsc::Sender<Message>, Client), ApiError> {
    let (sender, receiver) = mpsc::channel(4);
    let body = respond(common, Fake(receiver))?.into_body();
    Ok((sender, Client { body, text: String::new() }))
}

fn message(id: i64, skipped: u64) -> Message {
    Message { id, kind: "pods", data: "{}".to_owned(), skipped }
}

#[tokio::test]
async fn a_full_house_is_told_to_come_back_and_a_leaver_makes_room() {
    let common = common(2);
    let first = open(&common).expect("room");
    let _second = open(&common).expect("room");
    let refused = open(&common).err().expect("no room").into_response();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()["retry-after"], "30");
    assert_eq!((common.metrics.streams.get(), common.metrics.streams_refused.get()), (2, 1));
    drop(first);
    assert_eq!(common.metrics.streams.get(), 1, "an end is seen without anybody having to send");
    assert!(open(&common).is_ok(), "the control: there is room again");
}

#[tokio::test]
async fn what_was_skipped_is_told_before_the_next_and_counted() {
    let common = common(1);
    let (samples, mut client) = open(&common).expect("room");
    samples.send(message(7, 0)).await.expect("open");
    samples.send(message(9, 3)).await.expect("open");
    client.raw().await.expect("the greeting");
    let events = [client.next().await, client.next().await, client.next().await].map(Option::unwrap);
    let said: Vec<_> = events.iter().map(|got| (&*got.event, &*got.id, &*got.data)).collect();
    assert_eq!(said, [("pods", "7", "{}"), ("skipped", "", "{\"samples\":3}"), ("pods", "9", "{}")]);
    let label = KindLabel { kind: "pods" };
    assert_eq!(common.metrics.stream_events.get_or_create(&label).get(), 2);
    assert_eq!(common.metrics.stream_skipped.get_or_create(&label).get(), 3);
    drop(samples);
    assert_eq!(client.next().await, None, "a feed that ends, ends the stream");
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_says_that_it_is_there_and_ends_with_the_process() {
    let common = common(1);
    let (_samples, mut client) = open(&common).expect("room");
    client.raw().await.expect("the greeting");
    for _ in 0..3 {
        let since = tokio::time::Instant::now();
        assert_eq!(client.raw().await.expect("a comment").comment, "nothing new");
        assert_eq!(since.elapsed(), KEEP_ALIVE);
    }
    common.draining.cancel();
    assert_eq!(client.next().await, None);
    drop(client);
    assert_eq!(common.metrics.streams.get(), 0);
    let refused = open(&common).err().expect("stopping").into_response();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[test]
fn a_query_names_kinds_that_there_are() {
    let of = |query| kinds(query, &["pods", "scheduler"]).map(|kinds| kinds.into_iter().collect::<Vec<_>>());
    for (query, wanted) in [(None, 2), (Some(""), 2), (Some("pods"), 1), (Some("pods, scheduler,pods"), 2)] {
        assert_eq!(of(query).expect("known").len(), wanted, "{query:?}");
    }
    for query in ["pod", "pods,", ",", "pods;scheduler", "\0"] {
        let words = of(Some(query)).expect_err("unknown").to_string();
        assert!(words.contains("pods, scheduler"), "{words}");
    }
    let last =
        |value: &'static str| last_event_id(&[(LAST_EVENT_ID, value.parse().unwrap())].into_iter().collect());
    assert_eq!((last("17"), last("-1"), last("x"), last("")), (Some(17), Some(-1), None, None));
}
