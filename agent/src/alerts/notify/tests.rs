use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::routing::post;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::alerts::metrics::ResultLabel;
use crate::alerts::owed::{Ledger, Outbox};
use crate::alerts::state::State;
use crate::alerts::{Config, Metrics, Status, WallClock};

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
    Client::new(&Config::default()).unwrap()
}

/// A webhook at work, and what it is told from.
fn webhook(url: &str, metrics: &Metrics, stop: &CancellationToken) -> (Outbox, tokio::task::JoinHandle<()>) {
    let outbox = Outbox::new(Ledger::default(), &["hook".to_owned()].into(), metrics.clone());
    let place = Place::new(&format!("{url}/hook"), &[]).unwrap();
    let webhook =
        Webhook { place, client: client(), metrics: metrics.clone(), reader: outbox.reader("hook") };
    (outbox, tokio::spawn(webhook.run(stop.clone())))
}

fn tell(outbox: &Outbox, changed: &[Alert]) {
    outbox.push(changed);
    outbox.release();
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
    let (outbox, running) = webhook(&url, &metrics, &stop);
    tell(&outbox, &[alert("One", State::Firing)]);
    tell(&outbox, &[alert("One", State::Resolved)]);
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

/// An Alertmanager at work: what it is shown, the bell of changes, and its clock.
struct Told {
    shown: watch::Sender<Status>,
    changes: watch::Sender<u64>,
    _stop: tokio_util::sync::DropGuard,
}

impl Told {
    fn start(url: &str, clock: WallClock, repeat: Duration, metrics: &Metrics) -> Self {
        let (shown, changes, stop) =
            (watch::Sender::new(Status::default()), watch::Sender::new(0), CancellationToken::new());
        let manager = Alertmanager {
            place: Alertmanager::place(url).unwrap(),
            client: client(),
            metrics: metrics.clone(),
            clock,
            repeat,
            shown: shown.subscribe(),
            changes: changes.subscribe(),
        };
        tokio::spawn(manager.run(stop.clone()));
        Self { shown, changes, _stop: stop.drop_guard() }
    }

    fn show(&self, alerts: &[Alert]) {
        self.shown.send_modify(|status| status.alerts = Arc::from(alerts));
        self.changes.send_modify(|changes| *changes += 1);
    }
}

const SELDOM: Duration = Duration::from_secs(3_600);

/// Each test has its own clock: they run side by side.
macro_rules! clock {
    ($now:ident) => {{
        static $now: AtomicI64 = AtomicI64::new(10_000);
        let clock: WallClock = || $now.load(Ordering::SeqCst) * 1_000_000;
        (&$now, clock)
    }};
}

#[tokio::test]
async fn an_alertmanager_hears_what_fires_and_when_it_ends() {
    let (server, url) = served().await;
    let (now, clock) = clock!(NOW);
    let told = Told::start(&format!("{url}/"), clock, SELDOM, &Metrics::default());
    told.show(&[alert("One", State::Firing), alert("Two", State::Pending)]);
    until(&server, 1).await;
    now.store(80_000, Ordering::SeqCst);
    told.show(&[alert("One", State::Resolved)]);
    let came = until(&server, 2).await;
    let ends: Vec<_> = came.iter().map(|post| post[0]["endsAt"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ends, ["1970-01-01T00:05:10Z", "1970-01-01T00:00:09Z"]);
    assert_eq!((came[0].as_array().unwrap().len(), &came[0][0]["labels"]["alertname"]), (1, &json!("One")));
    // Nothing fires: nothing to say.
    told.show(&[]);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(server.came.lock().unwrap().len(), 2);
}

/// It would resolve what it does not hear of: nobody has to evaluate a rule for it to hear of it.
#[tokio::test]
async fn an_alertmanager_hears_again_what_fires_although_nothing_is_evaluated() {
    let (server, url) = served().await;
    let (now, clock) = clock!(NOW);
    let told = Told::start(&url, clock, Duration::from_millis(20), &Metrics::default());
    told.show(&[alert("One", State::Firing)]);
    until(&server, 2).await;
    now.store(70_000, Ordering::SeqCst);
    let count = server.came.lock().unwrap().len();
    let came = until(&server, count + 2).await;
    assert_eq!(came.last().unwrap()[0]["endsAt"], "1970-01-01T00:06:10Z");
}

/// After an outage it hears what is so: no end that has passed of what fires, nothing twice.
#[tokio::test]
async fn an_alertmanager_that_was_down_hears_of_the_present() {
    let (server, url) = served().await;
    let ((now, clock), metrics) = (clock!(NOW), Metrics::default());
    server.with.store(503, Ordering::SeqCst);
    server.refuse.store(usize::MAX, Ordering::SeqCst);
    let told = Told::start(&url, clock, SELDOM, &metrics);
    let retried = || metrics.posts.get_or_create(&ResultLabel { result: "retried" }).get();
    for (n, name) in ["One", "Two"].into_iter().enumerate() {
        told.show(&[alert(name, State::Firing)]);
        while retried() <= n as u64 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    now.store(700_000, Ordering::SeqCst);
    server.refuse.store(0, Ordering::SeqCst);
    let came = until(&server, 1).await;
    let said = (&came[0][0]["labels"]["alertname"], &came[0][0]["endsAt"]);
    assert_eq!(said, (&json!("Two"), &json!("1970-01-01T00:16:40Z")));
    assert_eq!(server.came.lock().unwrap().len(), 1);
}

#[test]
fn no_alert_is_cut_off_and_an_end_is_told_for_a_while() {
    let many: Vec<_> = (0..2_500).map(|n| alert(&format!("R{n}"), State::Firing)).collect();
    let lengths =
        |posts: Vec<Value>| posts.iter().map(|post| post.as_array().unwrap().len()).collect::<Vec<_>>();
    assert_eq!(lengths(alertmanager::posts(&many, 0)), [1_000, 1_000, 500]);
    let resolved = [alert("One", State::Resolved)];
    assert_eq!(lengths(alertmanager::posts(&resolved, 9_000 + 899_999)), [1]);
    assert!(alertmanager::posts(&resolved, 9_000 + 900_000).is_empty());
}

#[tokio::test]
async fn a_webhook_gets_many_changes_in_several_posts() {
    let (server, url) = served().await;
    let (metrics, stop) = (Metrics::default(), CancellationToken::new());
    let (outbox, _running) = webhook(&url, &metrics, &stop);
    let many: Vec<_> = (0..2_500).map(|n| alert(&format!("R{n}"), State::Firing)).collect();
    tell(&outbox, &many);
    let came = until(&server, 3).await;
    let lengths: Vec<_> = came.iter().map(|post| post["alerts"].as_array().unwrap().len()).collect();
    assert_eq!(lengths, [1_000, 1_000, 500]);
    stop.cancel();
}

/// A refusal is final, and does not hold up what comes behind it.
#[tokio::test]
async fn what_is_refused_is_counted_and_passed_over() {
    let (server, url) = served().await;
    server.with.store(400, Ordering::SeqCst);
    server.refuse.store(1, Ordering::SeqCst);
    let (metrics, stop) = (Metrics::default(), CancellationToken::new());
    let (outbox, _running) = webhook(&url, &metrics, &stop);
    tell(&outbox, &[alert("One", State::Firing)]);
    tell(&outbox, &[alert("Two", State::Firing)]);
    let came = until(&server, 1).await;
    assert_eq!(came[0]["alerts"][0]["labels"]["alertname"], "Two");
    let of = |result| metrics.posts.get_or_create(&ResultLabel { result }).get();
    assert_eq!((of("refused"), of("delivered")), (1, 1));
    stop.cancel();
}

/// A stop in the midst of an outage, and what is under way then: what was not taken is still owed.
#[tokio::test]
async fn what_a_webhook_has_not_taken_is_owed_after_a_stop() {
    let (server, url) = served().await;
    server.with.store(503, Ordering::SeqCst);
    server.refuse.store(usize::MAX, Ordering::SeqCst);
    let (metrics, stop) = (Metrics::default(), CancellationToken::new());
    let (outbox, running) = webhook(&url, &metrics, &stop);
    tell(&outbox, &[alert("One", State::Firing)]);
    while metrics.posts.get_or_create(&ResultLabel { result: "retried" }).get() == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.cancel();
    running.await.unwrap();
    assert_eq!((metrics.untold.get(), outbox.has_moved()), (1, false));
    // Another that comes after it.
    server.refuse.store(0, Ordering::SeqCst);
    let (place, stop) = (Place::new(&format!("{url}/hook"), &[]).unwrap(), CancellationToken::new());
    let outbox = Outbox::new(outbox.snapshot(), &["hook".to_owned()].into(), metrics.clone());
    let next = Webhook { place, client: client(), metrics: metrics.clone(), reader: outbox.reader("hook") };
    let running = tokio::spawn(next.run(stop.clone()));
    until(&server, 1).await;
    outbox.moved().await;
    stop.cancel();
    running.await.unwrap();
    assert_eq!((metrics.untold.get(), server.came.lock().unwrap().len()), (0, 1));
}
