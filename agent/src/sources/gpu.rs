//! GPUs: what they say of themselves, under DCGM's names, and which pods have them.
//!
//! Three inputs, each of which may be absent: NVIDIA's library ([`nvml`]), AMD's files ([`amd`]), exporters that are there
//! already ([`scrape`]); files of samples ([`csv`]) are for `sextant replay`. Invariants:
//! - a node without a GPU is an ordinary node: nothing is an error, and looking costs next to nothing;
//! - what hangs, hangs alone: drivers are read by threads of their own with a time limit, exporters have one, and no
//!   collection waits for the kubelet;
//! - a device that is not read is absent, not as it was.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Duration, Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use self::counters::Selector;
use self::health::Lacks;
use self::scrape::{Exporter, MAX_EXPORTERS};
use self::steward::{Asked, Steward};
use crate::domain::gpu::{Allocations, DeviceReading, GpuMap};
use crate::domain::source::{Condition, SourceHealth};
use crate::host::HostRoots;

mod amd;
mod counters;
pub mod csv;
mod exposition;
mod health;
pub mod labels;
mod nvml;
mod pods;
mod scrape;
mod steward;

/// The source's name.
pub const NAME: &str = "gpu";

/// Below it NVML's own figures do not change.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);

/// A driver that does not answer by then hangs: reading eight GPUs takes some tens of milliseconds.
const PATIENCE: Duration = Duration::from_secs(3);

/// `[gpu]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Look for GPUs at all.
    pub enabled: bool,
    /// Time between two readings, and between two records to the receiver, ms; at least 1000. A twelfth of a minute shows
    /// what a job does, and eight GPUs are 5 kB each time.
    pub interval_ms: u64,
    /// Exporters to scrape, such as `http://127.0.0.1:9400/metrics` (DCGM's) or `http://127.0.0.1:5000/metrics` (AMD's).
    pub scrape: Vec<String>,
    /// Which metrics are wanted, in the format of DCGM's exporter (`default-counters.csv`); empty means all.
    pub counters_file: PathBuf,
    /// The kubelet's socket that tells which pod has which device; empty means `lib/kubelet/pod-resources/kubelet.sock`
    /// under the host's /var.
    pub pod_resources: PathBuf,
    /// NVIDIA's library, where the loader does not find `libnvidia-ml.so.1` by itself; empty means the loader.
    pub nvml_library: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            interval_ms: 5_000,
            scrape: Vec::new(),
            counters_file: PathBuf::new(),
            pod_resources: PathBuf::new(),
            nvml_library: PathBuf::new(),
        }
    }
}

impl Config {
    /// What of it cannot be.
    ///
    /// # Errors
    /// A sentence.
    pub fn check(&self) -> Result<(), String> {
        if self.scrape.len() > MAX_EXPORTERS {
            return Err(format!("scrape: {} are more than {MAX_EXPORTERS}", self.scrape.len()));
        }
        for url in &self.scrape {
            Exporter::new(url).map_err(|error| format!("scrape: `{url}` {error}"))?;
        }
        Ok(())
    }
}

/// Why the source stopped without being asked to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The kernel has no thread to give.
    #[error("cannot start a thread for a driver")]
    Thread(#[source] std::io::Error),
    /// A thread panicked, which no driver should make it do.
    #[error("the thread that reads a driver is gone")]
    Gone,
}

/// Where the source says what it found.
#[derive(Clone, Debug)]
pub struct Outputs {
    /// The devices.
    pub map: watch::Sender<Arc<GpuMap>>,
    /// Its own state, and that of the list of pods.
    pub health: watch::Sender<Vec<SourceHealth>>,
}

/// Reads at once and then every interval until cancelled. Devices that do not say where they are, are on `hostname`.
///
/// # Errors
/// [`RunError`]; start again.
pub async fn run(
    config: Config,
    roots: HostRoots,
    hostname: String,
    wall: fn() -> i64,
    out: Outputs,
    cancel: CancellationToken,
) -> Result<(), RunError> {
    if !config.enabled {
        let lacks = vec!["GPUs are not read: [gpu] enabled is false".to_owned()];
        out.health.send_replace(vec![SourceHealth {
            name: NAME,
            condition: Condition::Off,
            lacks,
            ..SourceHealth::default()
        }]);
        cancel.cancelled().await;
        return Ok(());
    }
    let mut source = Source::new(&config, &roots, hostname)?;
    let (allocations_out, allocations) = watch::channel(Arc::default());
    let (pods_out, pods_health) =
        watch::channel(SourceHealth { name: pods::NAME, ..SourceHealth::default() });
    let socket = if config.pod_resources.as_os_str().is_empty() {
        roots.var.join("lib/kubelet/pod-resources/kubelet.sock")
    } else {
        config.pod_resources.clone()
    };
    let following = pods::follow(socket, pods::PERIOD, wall, allocations_out, pods_out, cancel.clone());
    let reading = async {
        let mut ticks = interval(Duration::from_millis(config.interval_ms).max(SHORTEST_INTERVAL));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                _ = ticks.tick() => {}
            }
            let allocations = Arc::clone(&allocations.borrow());
            let Some(map) = cancel.run_until_cancelled(source.collect(&allocations, wall)).await else {
                return Ok(());
            };
            out.map.send_replace(Arc::new(map?));
            out.health.send_replace(vec![source.health.clone(), pods_health.borrow().clone()]);
        }
    };
    tokio::join!(following, reading).1
}

struct Source {
    nvml: Steward<nvml::Answer>,
    amd: Steward<Vec<DeviceReading>>,
    exporters: Vec<Exporter>,
    /// None: every metric is wanted.
    selector: Option<Selector>,
    /// What is wrong with the configuration.
    told: Vec<String>,
    hostname: String,
    health: SourceHealth,
}

impl Source {
    fn new(config: &Config, roots: &HostRoots, hostname: String) -> Result<Self, RunError> {
        let library = Some(config.nvml_library.clone()).filter(|path| !path.as_os_str().is_empty());
        let (host, sys) = (hostname.clone(), roots.sys.clone());
        let nvml = Steward::start("nvml", move |turns| nvml::serve(turns, library.as_ref(), &host));
        let host = hostname.clone();
        let amd = Steward::start("amdgpu", move |turns| {
            while let Some(turn) = turns.next() {
                let _ = turn.send(amd::read(&sys, &host));
            }
        });
        let file = Some(&config.counters_file).filter(|file| !file.as_os_str().is_empty());
        let (selector, told) = match file.map(|file| Selector::read(file)) {
            None => (None, Vec::new()),
            Some(Ok(selector)) => {
                let told = selector.lacks.clone();
                (Some(selector), told)
            }
            Some(Err(error)) => (None, vec![format!("{error}: every metric is read")]),
        };
        Ok(Self {
            nvml: nvml.map_err(RunError::Thread)?,
            amd: amd.map_err(RunError::Thread)?,
            // Their addresses were checked with the configuration.
            exporters: config.scrape.iter().filter_map(|url| Exporter::new(url).ok()).collect(),
            selector,
            told,
            hostname,
            health: SourceHealth { name: NAME, ..SourceHealth::default() },
        })
    }

    /// Every input once, at the same time.
    async fn collect(&mut self, allocations: &Allocations, wall: fn() -> i64) -> Result<GpuMap, RunError> {
        let started = Instant::now();
        let scrapes = self.exporters.iter().map(|exporter| exporter.scrape(&self.hostname));
        let (nvidia, amd, scraped) = tokio::join!(
            self.nvml.ask(PATIENCE),
            self.amd.ask(PATIENCE),
            futures_util::future::join_all(scrapes)
        );
        if matches!(nvidia, Asked::Gone) || matches!(amd, Asked::Gone) {
            return Err(RunError::Gone);
        }
        let mut lacks = Lacks::default();
        lacks.also(&self.told);
        lacks.nvml(&nvidia);
        let mut readings = Vec::new();
        if let Asked::Answer(Ok(read)) = nvidia {
            readings.extend(read);
        }
        match amd {
            Asked::Answer(read) if read.is_empty() => lacks.no_amd(),
            Asked::Answer(read) => readings.extend(read),
            Asked::Hangs(since) => lacks.hangs("AMD's driver", since),
            Asked::Gone => {}
        }
        for (exporter, scraped) in self.exporters.iter().zip(scraped) {
            lacks.scraped(exporter.target(), scraped.as_ref());
            readings.extend(scraped.into_iter().flat_map(|scraped| scraped.readings));
        }
        if let Some(selector) = &self.selector {
            for reading in &mut readings {
                reading.values.retain(|(name, _)| selector.wants(name));
            }
        }
        let map = GpuMap::new(wall(), readings, allocations);
        lacks.settle(&mut self.health, &map, started.elapsed());
        Ok(map)
    }
}

/// The reader of exporters' answers: name, labels and value of each line, or the number of one that is no sample.
#[cfg(feature = "fixture")]
pub fn exposition_for_fuzzing(
    text: &str,
) -> Vec<Result<(String, crate::domain::gpu::record::Pairs, f64), usize>> {
    let own = |sample: exposition::Sample<'_>| (sample.name.to_owned(), sample.labels, sample.value);
    exposition::samples(text).map(|one| one.map(own).map_err(|(line, _)| line)).collect()
}

#[cfg(test)]
mod tests;
