//! A store under test, and the series that all of them get.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::registry::Registry;
use sextant::domain::series::{Labels, Range, Sample, Selection, SeriesSamples};
use sextant::series::remote::{Config, Metrics, Protocol, Remote};
use sextant::series::{self, Query, Series};
use sextant_tests::prometheus::{Prometheus, Version};
use sextant_tests::victoria_metrics::VictoriaMetrics;

/// Until a store shows what it took.
pub(crate) const SETTLE: Duration = Duration::from_secs(60);

/// Values that want out of their quotes, and others that are odd.
pub(crate) const ODD: [&str; 9] =
    ["\"} or up{", "a\"b", "back\\slash", "{}", "{a=\"b\"}[5m]", "a,b=c d", "é☃\u{1f680}", " ", "line\nend"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Prometheus2,
    Prometheus3,
    VictoriaMetrics,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Prometheus2, Self::Prometheus3, Self::VictoriaMetrics];
}

pub(crate) enum Server {
    Prometheus(Prometheus),
    VictoriaMetrics(VictoriaMetrics),
}

pub(crate) struct Place {
    pub(crate) server: Server,
    pub(crate) dir: tempfile::TempDir,
}

impl Place {
    pub(crate) fn start(kind: Kind) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = server(kind, &dir.path().join("store"));
        Self { server, dir }
    }

    pub(crate) fn url(&self) -> String {
        match &self.server {
            Server::Prometheus(server) => server.url(),
            Server::VictoriaMetrics(server) => server.url(),
        }
    }

    pub(crate) fn stop(&mut self) {
        match &mut self.server {
            Server::Prometheus(server) => server.kill().unwrap(),
            Server::VictoriaMetrics(server) => server.stop().unwrap(),
        }
    }

    pub(crate) fn revive(&mut self) {
        match &mut self.server {
            Server::Prometheus(server) => server.revive().unwrap(),
            Server::VictoriaMetrics(server) => server.revive().unwrap(),
        }
    }

    /// Has it show what it took.
    pub(crate) fn flush(&self) {
        if let Server::VictoriaMetrics(server) = &self.server {
            server.flush().unwrap();
        }
    }

    /// Written directly and read directly.
    pub(crate) fn client(&self, protocol: Protocol) -> Client {
        Client::new(&config(protocol, &self.url(), &self.url()))
    }
}

fn server(kind: Kind, dir: &Path) -> Server {
    let prometheus = |version| {
        // It scrapes nothing.
        let started = Prometheus::start_with(version, dir, "{}", &["--web.enable-remote-write-receiver"]);
        Server::Prometheus(started.unwrap())
    };
    match kind {
        Kind::Prometheus2 => prometheus(Version::Two),
        Kind::Prometheus3 => prometheus(Version::Three),
        Kind::VictoriaMetrics => Server::VictoriaMetrics(VictoriaMetrics::start(dir).unwrap()),
    }
}

pub(crate) fn config(protocol: Protocol, write: &str, read: &str) -> Config {
    let influx = protocol == Protocol::Influx;
    Config {
        write_url: if influx { write.to_owned() } else { format!("{write}/api/v1/write") },
        write_protocol: protocol,
        read_url: read.to_owned(),
        bucket: if influx { "b" } else { "" }.to_owned(),
        timeout_ms: 1_000,
        retry_ms: 60_000,
        ..Config::default()
    }
}

/// Our side of it.
pub(crate) struct Client {
    pub(crate) remote: Remote,
    registry: Registry,
}

impl Client {
    pub(crate) fn new(config: &Config) -> Self {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        Self { remote: Remote::new(config, &metrics, now_ns).unwrap(), registry }
    }

    /// A counter of it, without its prefix and suffix.
    pub(crate) fn counted(&self, name: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let start = format!("series_remote_{name}_total ");
        text.lines().find_map(|line| line.strip_prefix(&start)).unwrap().parse().unwrap()
    }

    /// Asks until the answer is as expected: stores take their time to show what they have.
    pub(crate) async fn shows(&self, query: &Query, expected: &[SeriesSamples]) {
        let since = std::time::Instant::now();
        loop {
            let got = self.remote.read(query).await;
            match got {
                Ok(got) if got == expected => return,
                got if since.elapsed() > SETTLE => panic!("{query:?}:\n{got:?}\nexpected\n{expected:?}"),
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

/// The engine that they are compared with, with its files in `dir`.
pub(crate) async fn embedded(dir: &Path) -> Series {
    let metrics = series::Metrics::register(&mut Registry::default());
    Series::open(dir, &series::Config::default(), metrics, now_ns).await.unwrap()
}

pub(crate) fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_nanos()).unwrap()
}

pub(crate) fn now_ms() -> i64 {
    now_ns() / 1_000_000
}

pub(crate) fn series(metric: &str, labels: &[(&str, &str)], samples: &[(i64, f64)]) -> SeriesSamples {
    let samples = samples.iter().map(|(at_ms, value)| Sample { at_ms: *at_ms, value: *value }).collect();
    SeriesSamples { labels: Labels::new(metric, labels.iter().copied()).unwrap(), samples }
}

pub(crate) fn question(selection: Selection, from_ms: i64, to_ms: i64) -> Query {
    let range = Range { from_ms, to_ms };
    Query { selection, range, buckets: None, max_series: 1_000, max_samples: 1_000_000 }
}

/// In the order in which answers are.
pub(crate) fn sorted(mut batch: Vec<SeriesSamples>) -> Vec<SeriesSamples> {
    batch.sort_by(|one, other| one.labels.cmp(&other.labels));
    batch
}
