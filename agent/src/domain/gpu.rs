//! GPUs and what they say of themselves, under the names that DCGM has for it, wherever it was read.
//!
//! A metric is a name, such as `DCGM_FI_DEV_GPU_UTIL`, and a float in the name's own unit ([`fields`]). What a device does
//! not support is no value: the number that DCGM or NVML says in its place is taken for what it is ([`usable`]). Each
//! metric of a device is there once, however many pods share the device ([`GpuMap::new`]).

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

mod allocation;
pub mod fields;
pub mod record;

pub use self::allocation::{Allocations, DeviceId, Worker};

/// Devices that a node tells of: the largest have 16, each in 7 parts; twice as many as there can be.
pub const MAX_DEVICES: usize = 256;

/// Metrics that a node tells of: DCGM has some 300 fields for a GPU, of which an exporter shows a few dozen.
pub const MAX_METRICS: usize = 512;

/// Bytes of a key by which the queue keeps a device's records in order; it takes twice as many.
const MAX_KEY_BYTES: usize = 128;

/// Which device, as DCGM's exporter labels it; empty is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Device {
    /// Its index on the node, as text.
    pub gpu: String,
    /// `GPU-...`; another vendor's own id.
    pub uuid: String,
    /// `nvidia0`, `card0`.
    pub device: String,
    /// Such as `NVIDIA H100 80GB HBM3`.
    pub model_name: String,
    /// The node.
    pub hostname: String,
    /// Such as `00000000:1B:00.0`.
    pub pci_bus_id: String,
    /// Such as `535.129.03`.
    pub driver_version: String,
    /// Id of a MIG device's GPU instance.
    pub instance_id: String,
    /// Its profile, such as `1g.10gb`.
    pub instance_profile: String,
}

impl Device {
    /// Two that have the same key are the same device, however much else of them is known.
    #[must_use]
    pub fn key(&self) -> (&str, &str) {
        // Without an id, its name has to tell it from the node's others.
        (if self.uuid.is_empty() { &self.device } else { &self.uuid }, &self.instance_id)
    }

    /// By what the queue keeps its records in order: never empty, if the device is [`Device::known`].
    #[must_use]
    pub fn queue_key(&self) -> &str {
        let id = self.key().0;
        id.get(..id.floor_char_boundary(MAX_KEY_BYTES)).unwrap_or_default()
    }

    /// With a name, if it has no UUID: its own, or the one that NVIDIA's driver makes of its index on its host. `None` where
    /// nothing tells it from others.
    #[must_use]
    pub fn known(mut self) -> Option<Self> {
        if self.uuid.is_empty() && self.device.is_empty() {
            if self.gpu.is_empty() || self.hostname.is_empty() {
                return None;
            }
            self.device = format!("nvidia{}", self.gpu);
        }
        Some(self)
    }

    /// Takes what it lacks from another description of the same device.
    fn learn(&mut self, other: Self) {
        let pairs = [
            (&mut self.gpu, other.gpu),
            (&mut self.device, other.device),
            (&mut self.model_name, other.model_name),
            (&mut self.hostname, other.hostname),
            (&mut self.pci_bus_id, other.pci_bus_id),
            (&mut self.driver_version, other.driver_version),
            (&mut self.instance_profile, other.instance_profile),
        ];
        for (mine, others) in pairs {
            if mine.is_empty() {
                *mine = others;
            }
        }
    }
}

/// A metric's name: ours are known, an exporter's can be any.
pub type Metric = Cow<'static, str>;

/// One device, and what was read of it at once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeviceReading {
    /// Which.
    pub device: Device,
    /// Values, each metric once, ascending by name.
    pub values: Vec<(Metric, f64)>,
    /// Who has it, as far as that is known; several where it is shared.
    pub workers: Vec<Worker>,
}

impl DeviceReading {
    /// The one pod that has it. A device that several share belongs to none of them: its figures are of all together, and
    /// a series for each would count them as often as there are pods.
    #[must_use]
    pub fn worker(&self) -> Option<&Worker> {
        let [worker] = &*self.workers else { return None };
        Some(worker)
    }

    /// A metric's value.
    #[must_use]
    pub fn value(&self, metric: &str) -> Option<f64> {
        let at = self.values.binary_search_by(|(name, _)| (**name).cmp(metric)).ok()?;
        self.values.get(at).map(|(_, value)| *value)
    }
}

/// All devices of a node at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GpuMap {
    /// Wall time of the collection, ns since the epoch; 0 before the first.
    pub at_ns: i64,
    /// Ascending by device.
    pub devices: Vec<DeviceReading>,
    /// What there was besides, and is left out.
    pub left_out: LeftOut,
}

/// What a collection leaves out, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Devices beyond [`MAX_DEVICES`].
    pub devices: usize,
    /// Values of metrics beyond [`MAX_METRICS`].
    pub metrics: usize,
    /// Values that said that there is none.
    pub blank: usize,
    /// Values of a metric that was there already: of another input, or once more for another pod.
    pub twice: usize,
}

impl GpuMap {
    /// From what every input read, the preferred one first, and who has which device. Values that are none are left out; a
    /// metric of a device that is there twice keeps its first value; who has the device is who any input names.
    #[must_use]
    pub fn new(
        at_ns: i64,
        readings: impl IntoIterator<Item = DeviceReading>,
        allocations: &Allocations,
    ) -> Self {
        let mut left_out = LeftOut::default();
        let mut devices: Vec<DeviceReading> = Vec::new();
        let mut places: HashMap<(String, String), usize> = HashMap::new();
        let mut names: HashSet<Metric> = HashSet::new();
        for reading in readings {
            let (id, instance) = reading.device.key();
            let key = (id.to_owned(), instance.to_owned());
            let known = places.get(&key).copied();
            if known.is_none() && devices.len() >= MAX_DEVICES {
                left_out.devices += 1;
                continue;
            }
            let place = known.unwrap_or_else(|| {
                places.insert(key, devices.len());
                devices.push(DeviceReading::default());
                devices.len() - 1
            });
            let Some(all) = devices.get_mut(place) else { continue };
            if known.is_none() {
                all.device = reading.device;
            } else {
                all.device.learn(reading.device);
            }
            all.workers.extend(reading.workers);
            for (name, value) in reading.values {
                if usable(value).is_err() {
                    left_out.blank += 1;
                } else if !names.contains(&name) && names.len() >= MAX_METRICS {
                    left_out.metrics += 1;
                } else {
                    names.insert(name.clone());
                    all.values.push((name, value));
                }
            }
        }
        for reading in &mut devices {
            // Stable: of two values the first stays.
            reading.values.sort_by(|(one, _), (other, _)| one.cmp(other));
            let before = reading.values.len();
            reading.values.dedup_by(|(one, _), (other, _)| one == other);
            left_out.twice += before - reading.values.len();
            if reading.workers.is_empty() {
                reading.workers = allocations.workers(&reading.device).to_vec();
            }
            reading.workers.sort_unstable();
            reading.workers.dedup();
        }
        devices.sort_by(|one, other| {
            let of = |reading: &DeviceReading| reading.device.gpu.parse::<u64>().unwrap_or(u64::MAX);
            (of(one), &one.device).cmp(&(of(other), &other.device))
        });
        Self { at_ns, devices, left_out }
    }
}

/// Why a number is no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Blank {
    /// Not a number, or infinite.
    NotFinite,
    /// What DCGM and NVML write for "not supported", "not found", "not permitted".
    Sentinel,
    /// Nothing, or `N/A`.
    Empty,
}

impl Blank {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::NotFinite, Self::Sentinel, Self::Empty];

    /// Its word in labels and summaries.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotFinite => "not_finite",
            Self::Sentinel => "blank",
            Self::Empty => "empty",
        }
    }
}

/// 2^63: DCGM's blank integers are 2^63 - 16 and the three after it, which no float can tell from it, NVML's is 2^64 - 1.
/// No figure of a device is as large.
const BLANK_FROM: f64 = 9_223_372_036_854_775_808.0;

/// DCGM's blank floats: 2^47 and the three after it.
const BLANK_FLOATS: std::ops::RangeInclusive<f64> = 140_737_488_355_328.0..=140_737_488_355_331.0;

/// The value, if it is one.
///
/// # Errors
/// Why it is none.
pub fn usable(value: f64) -> Result<f64, Blank> {
    if !value.is_finite() {
        Err(Blank::NotFinite)
    } else if value.abs() >= BLANK_FROM || (value.fract() == 0.0 && BLANK_FLOATS.contains(&value)) {
        Err(Blank::Sentinel)
    } else {
        Ok(value)
    }
}

#[cfg(test)]
mod tests;
