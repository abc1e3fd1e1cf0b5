//! Where a queue is kept, and a receiver that keeps it there.

use std::cell::Cell;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sextant_tests::nats::{Nats, Servers};
use sextant_tests::role::Role;

/// The engines, each as it is meant to be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Embedded,
    /// One server that syncs always.
    Single,
    /// Three servers, three replicas.
    Cluster,
}

/// An engine of one test's own. What engines do differently is stated here, and asserted.
pub(crate) struct Place<'a> {
    pub(crate) engine: Engine,
    servers: Option<&'a Nats>,
    pub(crate) dir: tempfile::TempDir,
    prefix: String,
    starts: Cell<usize>,
}

impl<'a> Place<'a> {
    pub(crate) fn embedded() -> Place<'static> {
        Place::new(Engine::Embedded, None)
    }

    pub(crate) fn on(engine: Engine, servers: &'a Nats) -> Self {
        Self::new(engine, Some(servers))
    }

    fn new(engine: Engine, servers: Option<&'a Nats>) -> Self {
        // Tests that share servers do not share a queue.
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let prefix = format!("test{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        Self { engine, servers, dir: tempfile::tempdir().unwrap(), prefix, starts: Cell::default() }
    }

    /// A receiver with these lines of `[queue]`, on what an earlier one of this place left.
    pub(crate) fn start(&self, settings: &str) -> Receiver {
        self.starts.set(self.starts.get() + 1);
        let file = self.dir.path().join("receiver.toml");
        std::fs::write(&file, self.config(settings)).unwrap();
        Receiver::start(self.dir.path(), &file)
    }

    pub(crate) fn config(&self, settings: &str) -> String {
        let Some(servers) = self.servers else { return format!("[queue]\n{settings}\n") };
        let replicas = if self.engine == Engine::Cluster { 3 } else { 1 };
        format!(
            "[queue]\nengine = \"jetstream\"\n{settings}\n[queue.jetstream]\nservers = {:?}\nmonitors = {:?}\n\
             replicas = {replicas}\nprefix = \"{}\"\nheartbeat_ms = 500\n",
            servers.urls(),
            servers.monitors(),
            self.prefix
        )
    }

    /// The stream of a topic.
    pub(crate) fn stream(&self, topic: &str) -> String {
        format!("{}_{topic}", self.prefix)
    }

    /// Records that one batch may have.
    pub(crate) fn batch_limit(&self) -> usize {
        if self.engine == Engine::Embedded { 10_000 } else { 1_000 }
    }

    /// The partitions of a topic of four of which only these were named.
    pub(crate) fn partitions(&self, named: &[u32]) -> Vec<u32> {
        if self.engine == Engine::Embedded { named.to_vec() } else { vec![0, 1, 2, 3] }
    }
}

/// A receiver, and a client of it.
pub(crate) struct Receiver {
    pub(crate) role: Role,
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
}

/// Status, body, `Retry-After`.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) text: String,
    pub(crate) retry_after: Option<String>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("{self:?}"))
    }

    /// The names that a batch got.
    pub(crate) fn ids(&self) -> Vec<String> {
        assert_eq!(self.status, 200, "{}", self.text);
        self.json()["ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect()
    }
}

/// A record as it was pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) id: String,
    pub(crate) payload: String,
    pub(crate) partition: u64,
    pub(crate) deliveries: u64,
    pub(crate) whole: Value,
}

impl Receiver {
    pub(crate) fn start(dir: &Path, config: &Path) -> Self {
        let role = Role::start("receiver", dir, &["--config", config.to_str().unwrap()]).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(0)
            .build()
            .unwrap();
        Self { role, runtime, client }
    }

    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        let url = format!("{}{path}", self.role.url);
        self.runtime.block_on(async {
            let request = self.client.request(method.parse().unwrap(), &url).body(body.to_owned());
            let answer = request.send().await.unwrap_or_else(|error| panic!("{method} {path}: {error:?}"));
            let retry_after = answer.headers().get("retry-after");
            let retry_after = retry_after.map(|value| value.to_str().unwrap().to_owned());
            Answer { status: answer.status().as_u16(), retry_after, text: answer.text().await.unwrap() }
        })
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, &body.to_string())
    }

    /// `POST /produce/batch` with these payloads.
    pub(crate) fn batch(&self, query: &str, payloads: &[&str]) -> Answer {
        let messages: Vec<_> = payloads.iter().map(|payload| json!({ "payload": payload })).collect();
        self.post(&format!("/produce/batch?{query}"), &json!({ "messages": messages }))
    }

    /// `POST /produce`; the record's name.
    pub(crate) fn produce(&self, query: &str, payload: &str) -> String {
        let kept = self.post(&format!("/produce?{query}"), &json!({ "payload": payload }));
        assert_eq!(kept.status, 200, "{}", kept.text);
        kept.json()["id"].as_str().unwrap().to_owned()
    }

    /// `GET /consume` with `max`, waiting for nothing.
    pub(crate) fn pull(&self, query: &str) -> Vec<Got> {
        let pulled = self.get(&format!("/consume?{query}"));
        assert_eq!(pulled.status, 200, "{}", pulled.text);
        let word = |value: &Value| value.as_str().unwrap().to_owned();
        let pulled = pulled.json();
        let messages = pulled["messages"].as_array().unwrap().iter();
        messages
            .map(|message| Got {
                id: word(&message["id"]),
                payload: word(&message["payload"]),
                partition: message["partition"].as_u64().unwrap(),
                deliveries: message["deliveries"].as_u64().unwrap_or(1),
                whole: message.clone(),
            })
            .collect()
    }

    /// Pulls until something comes, or for this long.
    pub(crate) fn pull_within(&self, query: &str, time: Duration) -> (Vec<Got>, Duration) {
        let since = Instant::now();
        loop {
            let got = self.pull(&format!("{query}&wait_ms=1000"));
            if !got.is_empty() || since.elapsed() > time {
                return (got, since.elapsed());
            }
        }
    }

    /// One word for each: whether it was the group's to settle.
    pub(crate) fn settle(&self, verb: &str, query: &str, ids: &[&str], more: &[(&str, u64)]) -> Vec<bool> {
        let mut body = json!({ "ids": ids });
        for (key, value) in more {
            body[key] = json!(value);
        }
        let settled = self.post(&format!("/{verb}?{query}"), &body);
        assert_eq!(settled.status, 200, "{}", settled.text);
        let failed = settled.json()["failed"].as_array().unwrap().clone();
        ids.iter().map(|id| !failed.contains(&json!(id))).collect()
    }

    pub(crate) fn ack(&self, query: &str, got: &[Got]) {
        let ids: Vec<&str> = got.iter().map(|got| got.id.as_str()).collect();
        assert!(self.settle("ack", query, &ids, &[]).iter().all(|done| *done), "{got:?}");
    }

    /// What `/topics` says of a partition.
    pub(crate) fn partition(&self, topic: &str, partition: u32) -> Value {
        let topics = self.get("/topics?verbose=true").json();
        let partitions = topics[topic]["partitions"].as_array().unwrap();
        partitions.iter().find(|one| one["partition"] == partition).unwrap().clone()
    }

    /// All records of a topic that a group has to see, acknowledged.
    pub(crate) fn drain(&self, topic: &str, group: &str) -> Vec<Got> {
        let mut all = Vec::new();
        loop {
            let got = self.pull(&format!("topic={topic}&group={group}&max=1000"));
            if got.is_empty() {
                return all;
            }
            self.ack(&format!("topic={topic}&group={group}"), &got);
            all.extend(got);
        }
    }
}

pub(crate) fn texts(got: &[Got]) -> Vec<&str> {
    got.iter().map(|got| got.payload.as_str()).collect()
}

/// A server that syncs always.
pub(crate) fn single() -> Nats {
    Nats::start(&Servers::default()).unwrap()
}
