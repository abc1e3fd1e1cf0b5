use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::routing::post;

use super::*;

fn alert(rule: &str, state: State) -> Alert {
    Alert {
        rule: rule.to_owned(),
        labels: [("node".to_owned(), "a".to_owned())].into(),
        state,
        value: Some(2.5),
        active_at_ms: 1_000,
        fired_at_ms: Some(2_000),
        resolved_at_ms: (state == State::Resolved).then_some(9_000),
        severity: "critical".to_owned(),
        summary: "a is at 2.5".to_owned(),
    }
}

fn client() -> Client {
    Client::new(&super::super::Config::default()).unwrap()
}

/// What came, and how many posts are answered with which status before 200.
#[derive(Clone, Default)]
struct Server {
    came: Arc<Mutex<Vec<Value>>>,
    refuse: Arc<AtomicUsize>,
    with: Arc<AtomicUsize>,
}

async fn take(Shared(server): Shared<Server>, axum::Json(body): axum::Json<Value>) -> StatusCode {
    let left = server.refuse.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
    if left.is_ok() {
        let status = u16::try_from(server.with.load(Ordering::SeqCst)).unwrap();
        return StatusCode::from_u16(status).unwrap();
    }
    server.came.lock().unwrap().push(body);
    StatusCode::OK
}

async fn served() -> (Server, String) {
    let server = Server::default();
    let router = Router::new()
        .route("/hook", post(take))
        .route("/api/v2/alerts", post(take))
        .with_state(server.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (server, url)
}

async fn until(server: &Server, count: usize) -> Vec<Value> {
    for _ in 0..500 {
        let came = server.came.lock().unwrap().clone();
        if came.len() >= count {
            return came;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{} of {count}", server.came.lock().unwrap().len())
}

#[tokio::test]
async fn a_webhook_is_told_each_change_once_although_it_was_down() {
    let (server, url) = served().await;
    server.with.store(503, Ordering::SeqCst);
    server.refuse.store(2, Ordering::SeqCst);
    let (metrics, stop) = (Metrics::default(), CancellationToken::new());
    let target = Target::new(Kind::Webhook, &format!("{url}/hook")).unwrap();
    let running = tokio::spawn(target.clone().run(client(), metrics.clone(), stop.clone()));
    target.tell(&[alert("One", State::Firing)], &[], 10_000, &metrics);
    target.tell(&[], &[alert("One", State::Firing)], 11_000, &metrics);
    target.tell(&[alert("One", State::Resolved)], &[], 12_000, &metrics);
    let came = until(&server, 2).await;
    let expected = json!({"version": 1, "receiver": "sextant", "alerts": [{"status": "firing", "value": 2.5,
        "labels": {"alertname": "One", "node": "a", "severity": "critical"}, "annotations": {"summary": "a is at 2.5"},
        "startsAt": "1970-01-01T00:00:01Z", "endsAt": null}]});
    assert_eq!(came[0], expected);
    assert_eq!(
        (&came[1]["alerts"][0]["status"], &came[1]["alerts"][0]["endsAt"]),
        (&json!("resolved"), &json!("1970-01-01T00:00:09Z"))
    );
    assert_eq!(came.len(), 2);
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn an_alertmanager_hears_again_what_fires_and_when_it_ends() {
    let (server, url) = served().await;
    let (metrics, stop) = (Metrics::default(), CancellationToken::new());
    let target = Target::new(Kind::Alertmanager, &format!("{url}/")).unwrap();
    tokio::spawn(target.clone().run(client(), metrics.clone(), stop.clone()));
    let firing = [alert("One", State::Firing)];
    target.tell(&firing, &firing, 10_000, &metrics);
    until(&server, 1).await;
    target.tell(&[], &firing, 70_000, &metrics);
    until(&server, 2).await;
    target.tell(&[alert("One", State::Resolved)], &[], 80_000, &metrics);
    let came = until(&server, 3).await;
    let ends: Vec<_> = came.iter().map(|post| post[0]["endsAt"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ends, ["1970-01-01T00:05:10Z", "1970-01-01T00:06:10Z", "1970-01-01T00:00:09Z"]);
    assert_eq!(came[0][0]["labels"]["alertname"], "One");
    // Nothing fires: nothing to say.
    target.tell(&[], &[], 90_000, &metrics);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(server.came.lock().unwrap().len(), 3);
    stop.cancel();
}

/// A refusal is final, and does not hold up what comes behind it.
#[tokio::test]
async fn what_is_refused_is_counted_and_passed_over() {
    let (server, url) = served().await;
    server.with.store(400, Ordering::SeqCst);
    server.refuse.store(1, Ordering::SeqCst);
    let (metrics, stop) = (Metrics::default(), CancellationToken::new());
    let target = Target::new(Kind::Webhook, &format!("{url}/hook")).unwrap();
    tokio::spawn(target.clone().run(client(), metrics.clone(), stop.clone()));
    target.tell(&[alert("One", State::Firing)], &[], 1, &metrics);
    target.tell(&[alert("Two", State::Firing)], &[], 2, &metrics);
    let came = until(&server, 1).await;
    assert_eq!(came[0]["alerts"][0]["labels"]["alertname"], "Two");
    let of = |result| metrics.posts.get_or_create(&super::super::metrics::ResultLabel { result }).get();
    assert_eq!((of("refused"), of("delivered")), (1, 1));
    stop.cancel();
}

#[tokio::test]
async fn what_waits_is_bounded_and_the_oldest_goes() {
    let metrics = Metrics::default();
    let target = Target::new(Kind::Webhook, "http://127.0.0.1:9/hook").unwrap();
    for n in 0..MAX_WAITING + 5 {
        target.tell(&[alert(&format!("R{n}"), State::Firing)], &[], 1, &metrics);
    }
    let waiting = target.waiting.lock().unwrap();
    assert_eq!(waiting.len(), MAX_WAITING);
    assert_eq!(waiting[0]["alerts"][0]["labels"]["alertname"], "R5");
}
