//! The pods source as a task, following this very kernel.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use prometheus_client::registry::Registry;
use sextant::domain::pod::{Container, PodMap};
use sextant::domain::source::SourceHealth;
use sextant::host::HostRoots;
use sextant::sources::pods::metrics::Metrics;
use sextant::sources::pods::{Config, PodsSource, RunError, run};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::hand_made::HandMade;

/// The running source; stopped when dropped.
pub struct Following {
    runtime: tokio::runtime::Runtime,
    task: Option<tokio::task::JoinHandle<Result<(), RunError>>>,
    maps: watch::Receiver<Arc<PodMap>>,
    health: watch::Receiver<Vec<SourceHealth>>,
    registry: Registry,
    cancel: CancellationToken,
}

impl Following {
    /// Starts it over one hierarchy and waits until the kernel was asked and there is a map.
    ///
    /// # Errors
    /// No runtime, or no map.
    pub fn start(hierarchy: &Path, config: Config) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let roots = HostRoots { cgroup: hierarchy.to_owned(), ..HostRoots::default() };
        let mut registry = Registry::default();
        let source = PodsSource::new(roots, config).with_metrics(Metrics::register(&mut registry));
        let (out, maps) = watch::channel(Arc::new(PodMap::default()));
        let (health_out, health) = watch::channel(Vec::new());
        let cancel = CancellationToken::new();
        let task = Some(runtime.spawn(run(source, || 1, out, health_out, cancel.clone())));
        let mut this = Self { runtime, task, maps, health, registry, cancel };
        let asked = this.health.wait_for(|health| !health.is_empty());
        let asked =
            async { tokio::time::timeout(Duration::from_secs(60), asked).await.map(|asked| asked.is_ok()) };
        ensure!(this.runtime.block_on(asked)?, "the source has ended");
        this.until(Duration::from_secs(30), |map| {
            ensure!(map.at_ns != 0, "no map yet");
            Ok(())
        })?;
        Ok(this)
    }

    /// The latest map.
    pub fn map(&self) -> Arc<PodMap> {
        Arc::clone(&self.maps.borrow())
    }

    /// Waits for a map that `check` is content with.
    ///
    /// # Errors
    /// What it said last, after `within`.
    pub fn until<T>(&mut self, within: Duration, check: impl Fn(&PodMap) -> Result<T>) -> Result<T> {
        let deadline = tokio::time::Instant::now() + within;
        let maps = &mut self.maps;
        self.runtime.block_on(async {
            loop {
                let checked = check(&maps.borrow_and_update());
                let Err(error) = checked else { return checked };
                match tokio::time::timeout_at(deadline, maps.changed()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => bail!("the source has ended"),
                    Err(_) => return Err(error.context(format!("not within {within:?}"))),
                }
            }
        })
    }

    /// What the source lacks.
    ///
    /// # Errors
    /// It has said nothing yet.
    pub fn lacks(&self) -> Result<Vec<String>> {
        Ok(self.health.borrow().first().context("no health yet")?.lacks.clone())
    }

    /// A counter's or gauge's value, by its line: `pods_events_total{kind="fork"}`.
    ///
    /// # Errors
    /// There is none.
    pub fn metric(&self, line: &str) -> Result<u64> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        let value = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
        Ok(value.with_context(|| format!("{line} in\n{text}"))?.parse()?)
    }

    /// All corrections that walks have made.
    ///
    /// # Errors
    /// There is no such metric.
    pub fn corrections(&self) -> Result<u64> {
        let kinds = ["start", "end", "reuse", "move"];
        let of = |kind| self.metric(&format!("pods_reconcile_corrections_total{{kind=\"{kind}\"}}"));
        kinds.into_iter().map(of).sum()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.cancel.cancel();
        if let Some(task) = self.task.take() {
            let ended = self.runtime.block_on(task);
            assert!(std::thread::panicking() || matches!(ended, Ok(Ok(()))), "{ended:?}");
        }
    }
}

/// Containers that were made here, whatever else runs on this machine.
pub fn own<'a>(map: &'a PodMap, made: &HandMade) -> Vec<&'a Container> {
    let below = made.cgroup("");
    let containers = map.pods.iter().flat_map(|pod| &pod.containers);
    containers.filter(|container| container.cgroup.starts_with(&below)).collect()
}

/// Their processes, ascending.
pub fn pids(map: &PodMap, made: &HandMade) -> Vec<u32> {
    let tasks = own(map, made).into_iter().flat_map(|container| &container.tasks);
    let mut pids: Vec<u32> = tasks.map(|task| task.key.pid).collect();
    pids.sort_unstable();
    pids
}
