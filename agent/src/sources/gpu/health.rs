//! What the source says of itself, with what would help.

use tokio::time::Duration;

use super::nvml::{self, Absent};
use super::scrape::{self, Scraped};
use super::steward::Asked;
use crate::domain::gpu::{GpuMap, MAX_DEVICES, MAX_METRICS};
use crate::domain::source::{Condition, SourceHealth};

/// Lacks that one collection met.
#[derive(Debug, Default)]
pub(super) struct Lacks {
    /// What is there and does not work.
    wrong: Vec<String>,
    /// What is not there, which is no fault.
    absent: Vec<String>,
}

impl Lacks {
    pub(super) fn nvml(&mut self, asked: &Asked<nvml::Answer>) {
        match asked {
            Asked::Answer(Ok(_)) => {}
            Asked::Answer(Err(Absent::NoDriver(words))) => {
                self.absent.push(format!("no NVIDIA driver: {words}"));
            }
            Asked::Answer(Err(Absent::Failed(words))) => {
                self.wrong.push(format!(
                    "NVIDIA's library fails ({words}): its devices are not read, is it allowed to this user?"
                ));
            }
            Asked::Hangs(since) => self.hangs("NVIDIA's library (NVML)", *since),
            Asked::Gone => self.wrong.push("the thread that reads NVIDIA's GPUs is gone".to_owned()),
        }
    }

    pub(super) fn hangs(&mut self, what: &str, since: Duration) {
        let s = since.as_secs();
        self.wrong.push(format!(
            "{what} has not answered for {s} s: a GPU may have to be reset; the others' readings go on"
        ));
    }

    pub(super) fn no_amd(&mut self) {
        self.absent.push("no GPU of AMD in /sys/class/drm".to_owned());
    }

    pub(super) fn scraped(&mut self, target: &str, scraped: Result<&Scraped, &scrape::Error>) {
        let scraped = match scraped {
            Ok(scraped) => scraped,
            Err(error) => return self.wrong.push(format!("exporter {target}: {error}")),
        };
        if let Some(first) = &scraped.first_bad {
            self.wrong.push(format!("exporter {target}: {} lines are no samples ({first})", scraped.bad));
        }
        if scraped.beyond > 0 {
            self.wrong.push(format!("exporter {target}: {} samples are too many", scraped.beyond));
        }
    }

    pub(super) fn also(&mut self, words: &[String]) {
        self.wrong.extend_from_slice(words);
    }

    fn left_out(&mut self, map: &GpuMap) {
        let left_out = &map.left_out;
        if left_out.devices > 0 {
            self.wrong.push(format!("{} devices beyond {MAX_DEVICES} are left out", left_out.devices));
        }
        if left_out.metrics > 0 {
            self.wrong.push(format!(
                "{} values of metrics beyond {MAX_METRICS} are left out: counters_file chooses",
                left_out.metrics
            ));
        }
    }

    /// The health after a collection.
    pub(super) fn settle(mut self, health: &mut SourceHealth, map: &GpuMap, took: Duration) {
        self.left_out(map);
        let has_devices = !map.devices.is_empty();
        health.last_duration_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        health.last_error = self.wrong.first().cloned();
        if self.wrong.is_empty() || has_devices {
            health.collections += 1;
            health.last_success_at_ns = Some(map.at_ns);
        }
        if !self.wrong.is_empty() {
            health.failures += 1;
        }
        health.condition = match (has_devices, self.wrong.is_empty()) {
            (true, true) => Condition::Up,
            (_, false) => Condition::Degraded,
            (false, true) => Condition::Off,
        };
        health.lacks = self.wrong;
        // A node with some GPUs is not told of those that it does not have.
        if !has_devices {
            health.lacks.append(&mut self.absent);
        }
    }
}
