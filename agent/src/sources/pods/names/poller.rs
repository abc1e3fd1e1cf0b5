//! Keeps one RPC source's list fresh without ever making the walk wait.
//!
//! A list is asked for at once, when the walk meets a pod or container that the last list lacked, and every
//! [`Pace::refresh`] (labels change); never more often than [`Pace::pause`], and after a failure with doubling
//! pauses.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{Ends, cri, kubelet};
use crate::domain::pod::NameTable;
use crate::domain::source::{Condition, SourceHealth};
use crate::host::HostRoots;
use crate::rpc::RpcError;

/// How often an RPC source is asked.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Pace {
    /// Shortest time between two lists.
    pub(super) pause: Duration,
    /// Longest pause after failures.
    pub(super) longest: Duration,
    /// Time between lists that nothing asked for.
    pub(super) refresh: Duration,
}

impl Default for Pace {
    /// The kubelet allows 100 lists a second, a runtime under load far fewer; labels change rarely.
    fn default() -> Self {
        Self {
            pause: Duration::from_secs(2),
            longest: Duration::from_secs(60),
            refresh: Duration::from_secs(60),
        }
    }
}

/// An RPC name source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Service {
    /// The container runtime.
    Cri,
    /// The kubelet's Pods API.
    Kubelet,
}

impl Service {
    /// The source's name in `/status`.
    pub(super) const fn source(self) -> &'static str {
        match self {
            Self::Cri => "pod_names/cri",
            Self::Kubelet => "pod_names/kubelet",
        }
    }

    const fn hint(self) -> &'static str {
        match self {
            Self::Cri => "pod labels need the container runtime's CRI socket below the run root",
            Self::Kubelet => {
                "the kubelet's Pods API (Kubernetes 1.37, or 1.35 with the PodsAPI feature) is not here"
            }
        }
    }

    async fn list(self, roots: &HostRoots) -> Result<NameTable, RpcError> {
        match self {
            Self::Cri => cri::list(roots).await,
            Self::Kubelet => kubelet::list(roots).await,
        }
    }
}

/// The latest list and how the source fares.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Told {
    /// Grows with each list.
    pub(super) version: u64,
    /// The latest list.
    pub(super) table: Arc<NameTable>,
    /// State for `/status`.
    pub(super) health: SourceHealth,
}

/// Runs until cancelled; `ends.wanted` changes whenever a new list is wanted.
pub(in super::super) async fn poll(
    ends: Ends,
    pace: Pace,
    roots: HostRoots,
    wall: fn() -> i64,
    cancel: CancellationToken,
) {
    let Ends { service, mut wanted, told: out } = ends;
    let mut pause = pace.pause;
    loop {
        let started = Instant::now();
        wanted.mark_unchanged();
        let answer = tokio::select! {
            answer = service.list(&roots) => answer,
            () = cancel.cancelled() => return,
        };
        pause = if answer.is_ok() { pace.pause } else { (pause * 2).min(pace.longest) };
        let duration_ns = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        out.send_modify(|told| told.take(service, answer, duration_ns, wall()));
        tokio::select! {
            () = rest(pause, pace.refresh, &mut wanted) => {}
            () = cancel.cancelled() => return,
        }
    }
}

/// The pause, then until something is wanted or the refresh is due.
async fn rest(pause: Duration, refresh: Duration, wanted: &mut watch::Receiver<u64>) {
    let now = Instant::now();
    sleep_until(now + pause).await;
    let asked = timeout(refresh.saturating_sub(pause), wanted.changed()).await;
    if let Ok(Err(_walker_is_gone)) = asked {
        sleep_until(now + refresh).await;
    }
}

impl Told {
    fn take(&mut self, service: Service, answer: Result<NameTable, RpcError>, duration_ns: u64, at_ns: i64) {
        let health = &mut self.health;
        health.name = service.source();
        health.last_duration_ns = duration_ns;
        let was = health.condition;
        match answer {
            Ok(table) => {
                self.version += 1;
                self.table = Arc::new(table);
                health.condition = Condition::Up;
                health.lacks.clear();
                health.last_error = None;
                health.collections += 1;
                health.last_success_at_ns = Some(at_ns);
                debug!(source = health.name, pods = self.table.pods.len(), "names listed");
            }
            Err(error @ RpcError::Absent { .. }) => {
                health.condition = Condition::Off;
                health.lacks = vec![format!("{}: {error}", service.hint())];
            }
            Err(error) => {
                health.failures += 1;
                health.condition = Condition::Degraded;
                let text = chain(&error);
                // Said once: the condition stays degraded until a list succeeds.
                if was != Condition::Degraded {
                    warn!(source = health.name, error = text, "names cannot be listed");
                }
                health.lacks = vec!["names come from the other sources until it answers again".to_owned()];
                health.last_error = Some(text);
            }
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        source = inner.source();
    }
    text
}
