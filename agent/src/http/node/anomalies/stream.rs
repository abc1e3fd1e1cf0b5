//! `GET /api/v1/anomalies/stream`: every anomaly as it stands, and then what changes, as server-sent events.
//!
//! An `event: anomaly` has the shape of `GET /api/v1/anomalies/{id}`; of its points it has those that this stream did not
//! carry yet. Nothing is replayed for a `Last-Event-ID`: a stream begins with the present.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use tokio::sync::watch;

use super::NodeState;
use crate::api::anomalies::View;
use crate::api::envelope::Failure;
use crate::domain::action::{self, Anomaly};
use crate::http::ApiError;
use crate::http::stream::{Feed, Message, respond};

/// Anomalies as they change, as server-sent events.
#[utoipa::path(get, path = "/api/v1/anomalies/stream", tag = "anomalies",
    responses((status = 200, content_type = "text/event-stream", body = View,
            description = "`event: anomaly` for each that there is, and again whenever it changes, with its new points"),
        (status = 403, body = Failure), (status = 503, body = Failure)))]
pub(in crate::http::node) async fn stream(State(node): State<NodeState>) -> Result<Response, ApiError> {
    let mut all = node.anomalies().look()?.subscribe();
    all.mark_changed();
    let feed = Changes { clock: node.0.common.clock, all, waiting: Vec::new(), told: HashMap::new() };
    respond(&node.0.common, feed)
}

/// What one stream has carried, and what it is to carry next.
struct Changes {
    clock: fn() -> i64,
    all: watch::Receiver<Arc<Vec<Anomaly>>>,
    /// The next one last.
    waiting: Vec<Anomaly>,
    told: HashMap<String, Told>,
}

/// An anomaly as it was told.
#[derive(Clone, Copy, PartialEq)]
struct Told {
    state: action::State,
    runs: u32,
    last_at_s: Option<f64>,
}

impl Told {
    fn of(anomaly: &Anomaly) -> Self {
        let last_at_s = anomaly.points.last().map(|point| point.at_s);
        Self { state: anomaly.state, runs: anomaly.runs, last_at_s }
    }
}

impl Changes {
    fn tell(&mut self, mut anomaly: Anomaly) -> Option<String> {
        let now = Told::of(&anomaly);
        let before = self.told.insert(anomaly.id.clone(), now);
        if let Some(Told { runs, last_at_s: Some(last_at_s), .. }) = before
            && runs == anomaly.runs
        {
            anomaly.points.retain(|point| point.at_s > last_at_s);
        }
        serde_json::to_string(&View::from(&anomaly)).ok()
    }
}

impl Feed for Changes {
    async fn next(&mut self) -> Option<Message> {
        loop {
            while let Some(anomaly) = self.waiting.pop() {
                if let Some(data) = self.tell(anomaly) {
                    return Some(Message { id: (self.clock)(), kind: "anomaly", data, skipped: 0 });
                }
            }
            self.all.changed().await.ok()?;
            let all = Arc::clone(&self.all.borrow_and_update());
            // Newest first, so that the oldest is told first.
            let changed = all.iter().filter(|one| self.told.get(&one.id) != Some(&Told::of(one)));
            self.waiting = changed.cloned().collect();
            // Those that nobody tells of any more.
            self.told.retain(|id, _| all.iter().any(|one| one.id == *id));
        }
    }
}
