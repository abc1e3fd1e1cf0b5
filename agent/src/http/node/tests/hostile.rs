//! Random, oversized and stuck requests: the right 4xx, no panic, no flood of log lines.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode};
use axum::routing::get as on_get;
use hyper::body::Frame;

use super::harness::{Recorder, node, node_with};
use crate::http::testing::hostile::bombard;
use crate::http::testing::{get, post, samples, send, status};
use crate::http::{Config, layers};

/// A good body, to be spoiled.
const RECORDS: &str = r#"{"metrics":[{"usersched_pid":1,"nr_queued":2},{"nr_running":3}]}"#;

#[tokio::test]
async fn ten_thousand_random_bodies_get_200_or_400_and_few_lines() {
    let node = node_with(Config::default(), Recorder::Takes);
    let since = tokio::time::Instant::now();
    // The good ones are logged each, as every request is: held below the filter here.
    let router = node.router.clone();
    let lines = bombard(&router, "POST", "/api/v1/metrics", RECORDS, 10_000, &[200, 400]).await;
    let good = node.common.metrics.requests.get_or_create(&crate::http::metrics::RequestLabels {
        route: "/api/v1/metrics".into(),
        method: "POST",
        status: 200,
    });
    let refused = lines.saturating_sub(good.get());
    let bound = 10 * (since.elapsed().as_secs() + 2);
    assert!(refused <= bound, "{refused} lines of refused requests in {:?}", since.elapsed());
    assert_eq!(node.common.metrics.panics.get(), 0);
    assert!(
        good.get() > 100 && good.get() < 9_900,
        "the bodies are neither all good nor all bad: {}",
        good.get()
    );
    assert!(node.common.metrics.held_back_lines.get() > 1_000);
}

/// Negative control of the bound: without the throttle every refusal is a line.
#[tokio::test]
async fn without_the_throttle_it_would_be_a_flood() {
    let config = Config { error_lines_per_second: u32::MAX, ..Config::default() };
    let node = node_with(config, Recorder::Takes);
    let lines = bombard(&node.router, "POST", "/api/v1/metrics", RECORDS, 10_000, &[200, 400]).await;
    assert_eq!(lines, 10_000);
}

/// The others read no body, so a thousand each show what ten thousand would.
#[tokio::test]
async fn random_bodies_to_every_other_endpoint() {
    let node = node();
    node.scheduler.send_replace(Arc::new(samples::reading(1, 2)));
    node.pods.send_replace(Arc::new(samples::pods()));
    let routes = get(&node.router, "/").await.json()["routes"].clone();
    for route in routes.as_array().expect("a list").iter().filter(|route| route["method"] == "GET") {
        let path = match route["path"].as_str().expect("text") {
            "/api/metrics/tenant" => "/api/metrics/tenant?tenant_name=x",
            path => path,
        };
        // These take posts: they have bombardments of their own.
        let own = ["/api/v1/anomalies", "/api/v1/workloads"];
        if path == "/api/v1/metrics" || own.iter().any(|own| path.starts_with(own)) {
            continue;
        }
        bombard(&node.router, "POST", path, RECORDS, 1_000, &[405]).await;
        // A body where none belongs is not read.
        let request = Request::get(path).body(Body::from(vec![b'{'; 100_000])).expect("a request");
        assert_eq!(status(&node.router, request).await, StatusCode::OK, "{path}");
    }
    bombard(&node.router, "GET", "/status?format=%ff%00&color=%", RECORDS, 1_000, &[400]).await;
    assert_eq!(node.common.metrics.panics.get(), 0);
}

#[tokio::test]
async fn a_long_body_is_413_announced_or_not() {
    let node = node_with(Config::default(), Recorder::Takes);
    let limit = node.common.config.metrics_body_bytes;
    let padded = |length: usize| format!("{{}}{}", " ".repeat(length - 2));
    assert_eq!(post(&node.router, "/api/v1/metrics", padded(limit)).await.status, StatusCode::OK);
    let long = post(&node.router, "/api/v1/metrics", padded(limit + 1)).await;
    assert_eq!(long.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(long.json()["error"], "request body exceeds 1048576 bytes");
    // Chunked: no length is announced.
    let chunks = vec![Bytes::from(vec![b' '; 64 << 10]); 17].into_iter().map(Ok::<_, std::io::Error>);
    let request = Request::post("/api/v1/metrics").body(Body::new(Chunks(chunks)));
    let chunked = send(&node.router, request.expect("a request")).await;
    assert_eq!(chunked.status, StatusCode::PAYLOAD_TOO_LARGE);
    let announced = Request::post("/api/v1/metrics").header("content-length", u64::MAX.to_string());
    let announced = send(&node.router, announced.body(Body::empty()).expect("a request")).await;
    assert_eq!(announced.status, StatusCode::PAYLOAD_TOO_LARGE, "refused before it is read");
    let broken = [Err(std::io::Error::other("connection reset"))].into_iter();
    let request = Request::post("/api/v1/metrics").body(Body::new(Chunks(broken)));
    assert_eq!(send(&node.router, request.expect("a request")).await.status, StatusCode::BAD_REQUEST);
}

/// An iterator as a body of unknown length: every chunk is there at once.
struct Chunks<I>(I);

impl<I: Iterator<Item = std::io::Result<Bytes>> + Unpin> hyper::body::Body for Chunks<I> {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        Poll::Ready(self.0.next().map(|chunk| chunk.map(Frame::data)))
    }
}

#[tokio::test(start_paused = true)]
async fn a_stuck_handler_is_408_and_a_panicking_one_500() {
    let node = node();
    let routes = Router::new()
        .route("/stuck", on_get(std::future::pending::<()>))
        .route("/panics", on_get(|| async { assert!(std::hint::black_box(false), "on purpose") }));
    let router = layers::apply(routes, &node.common);
    let stuck = get(&router, "/stuck").await;
    assert_eq!(stuck.status, StatusCode::REQUEST_TIMEOUT);
    assert_eq!(stuck.json()["error"], "request took longer than 10000 ms");
    let panicked = get(&router, "/panics").await;
    assert_eq!(panicked.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(
        panicked.text(),
        r#"{"success":false,"error":"internal error: the request was not completed"}"#
    );
    assert!(!panicked.header("x-request-id").is_empty());
    assert_eq!(node.common.metrics.panics.get(), 1);
}
