//! NVIDIA's GPUs by their driver's own library (NVML), which is loaded when it is there: no GPU, no library and no error.
//!
//! Runs on a thread of its own ([`super::steward`]), since a GPU that dies makes the library hang. Every value is optional:
//! what a device, a driver or a permission does not give is no value. A library that is not there, or that has lost its
//! driver, is tried again every [`RETRY`]. Units are DCGM's: MiB, W, mJ, MHz, percent, shares.

use std::collections::HashMap;
use std::path::PathBuf;

use nvml_wrapper::Nvml;
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enum_wrappers::device::{Clock, EccCounter, MemoryError, TemperatureSensor};
use nvml_wrapper::enums::device::SampleValue;
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::enums::gpm::GpmMetricId;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::event::EventSet;
use nvml_wrapper::gpm::{GpmSample, gpm_metrics_get};
use nvml_wrapper::structs::device::FieldId;
use nvml_wrapper::sys_exports::field_id::{
    NVML_FI_DEV_MEMORY_TEMP, NVML_FI_DEV_REMAPPED_COR, NVML_FI_DEV_REMAPPED_FAILURE, NVML_FI_DEV_REMAPPED_UNC,
};
use tokio::sync::oneshot;
use tokio::time::{Duration, Instant};

use super::steward::Turns;
use crate::domain::gpu::fields;
use crate::domain::gpu::{Device, DeviceReading, MAX_DEVICES, Metric};

/// Between two looks for a library that was not there.
const RETRY: Duration = Duration::from_secs(60);

const MIB: f64 = 1_048_576.0;

/// Events taken in one collection: a device that throws more says the same.
const MAX_EVENTS: usize = 64;

/// Every device, or why there is none.
pub(super) type Answer = Result<Vec<DeviceReading>, Absent>;

/// Why NVML says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Absent {
    /// There is no driver: the usual case.
    NoDriver(String),
    /// There is one, and it does not work.
    Failed(String),
}

/// What is read by field ids, with DCGM's names.
const FIELDS: [(u32, &str); 4] = [
    (NVML_FI_DEV_MEMORY_TEMP, fields::MEMORY_TEMP),
    (NVML_FI_DEV_REMAPPED_COR, fields::CORRECTABLE_REMAPPED),
    (NVML_FI_DEV_REMAPPED_UNC, fields::UNCORRECTABLE_REMAPPED),
    (NVML_FI_DEV_REMAPPED_FAILURE, fields::ROW_REMAP_FAILURE),
];

/// What Hopper and later count by themselves, in percent, which DCGM shows as shares.
const GPM: [(GpmMetricId, &str); 5] = [
    (GpmMetricId::GraphicsUtil, fields::GR_ENGINE_ACTIVE),
    (GpmMetricId::SmUtil, fields::SM_ACTIVE),
    (GpmMetricId::SmOccupancy, fields::SM_OCCUPANCY),
    (GpmMetricId::AnyTensorUtil, fields::PIPE_TENSOR_ACTIVE),
    (GpmMetricId::DramBwUtil, fields::DRAM_ACTIVE),
];

/// Answers every turn; the body of the thread. The library is the loader's own, or the one at this path.
pub(super) fn serve(turns: &Turns<Answer>, library: Option<&PathBuf>, hostname: &str) {
    let mut absent: Option<(Instant, Absent)> = None;
    while let Some(turn) = turns.next() {
        if let Some((at, why)) = &absent
            && at.elapsed() < RETRY
        {
            let _ = turn.send(Err(why.clone()));
            continue;
        }
        let opened = match library {
            Some(path) => Nvml::builder().lib_path(path.as_os_str()).init(),
            None => Nvml::init(),
        };
        absent = match opened {
            Ok(nvml) => session(&nvml, turn, turns, hostname).map(|why| (Instant::now(), why)),
            Err(error) => {
                let why = absence(&error);
                let _ = turn.send(Err(why.clone()));
                Some((Instant::now(), why))
            }
        };
    }
}

/// Answers turns until the driver is lost; why that is, or `None` when nobody asks any more.
fn session(
    nvml: &Nvml,
    first: oneshot::Sender<Answer>,
    turns: &Turns<Answer>,
    hostname: &str,
) -> Option<Absent> {
    let mut session = Session {
        nvml,
        hostname: hostname.to_owned(),
        driver_version: nvml.sys_driver_version().unwrap_or_default(),
        kept: HashMap::new(),
    };
    let mut turn = Some(first);
    while let Some(asked) = turn.take().or_else(|| turns.next()) {
        let read = session.read();
        let lost = read.as_ref().err().cloned();
        let _ = asked.send(read);
        if lost.is_some() {
            return lost;
        }
    }
    None
}

struct Session<'nvml> {
    nvml: &'nvml Nvml,
    hostname: String,
    driver_version: String,
    /// By the device's id.
    kept: HashMap<String, Kept<'nvml>>,
}

/// What is remembered of a device from one collection to the next.
struct Kept<'nvml> {
    /// Its events; none where it has no such events.
    events: Option<EventSet<'nvml>>,
    xid: u64,
    gpm: Option<GpmSample<'nvml>>,
}

type Handle<'nvml> = nvml_wrapper::Device<'nvml>;

impl<'nvml> Session<'nvml> {
    fn read(&mut self) -> Answer {
        let count = self.nvml.device_count().map_err(|error| Absent::Failed(error.to_string()))?;
        let mut readings = Vec::new();
        for index in 0..count {
            // One that has fallen off the bus does not hide the others.
            let Ok(handle) = self.nvml.device_by_index(index) else { continue };
            let Some(device) = self.identity(&handle, index) else { continue };
            let values = self.values(&handle, &device.uuid);
            parts(&handle, &device, &mut readings);
            readings.push(DeviceReading { device, values, workers: Vec::new() });
            if readings.len() >= MAX_DEVICES {
                break;
            }
        }
        let here: Vec<_> = readings.iter().map(|reading| reading.device.uuid.clone()).collect();
        self.kept.retain(|uuid, _| here.contains(uuid));
        Ok(readings)
    }

    fn identity(&self, handle: &Handle<'nvml>, index: u32) -> Option<Device> {
        Some(Device {
            gpu: index.to_string(),
            uuid: handle.uuid().ok()?,
            device: format!("nvidia{}", handle.minor_number().unwrap_or(index)),
            model_name: handle.name().unwrap_or_default(),
            hostname: self.hostname.clone(),
            pci_bus_id: handle.pci_info().map(|pci| pci.bus_id).unwrap_or_default(),
            driver_version: self.driver_version.clone(),
            ..Device::default()
        })
    }

    fn values(&mut self, handle: &Handle<'nvml>, uuid: &str) -> Vec<(Metric, f64)> {
        let use_now = handle.utilization_rates().ok();
        let memory = memory(handle);
        let ecc = |error| handle.total_ecc_errors(error, EccCounter::Volatile).ok().map(float);
        let mut figures = vec![
            (fields::SM_CLOCK, handle.clock_info(Clock::SM).ok().map(f64::from)),
            (fields::MEM_CLOCK, handle.clock_info(Clock::Memory).ok().map(f64::from)),
            (fields::GPU_TEMP, handle.temperature(TemperatureSensor::Gpu).ok().map(f64::from)),
            (fields::POWER_USAGE, handle.power_usage().ok().map(|mw| f64::from(mw) / 1e3)),
            (fields::TOTAL_ENERGY, handle.total_energy_consumption().ok().map(float)),
            (fields::GPU_UTIL, use_now.as_ref().map(|use_now| f64::from(use_now.gpu))),
            (fields::MEM_COPY_UTIL, use_now.as_ref().map(|use_now| f64::from(use_now.memory))),
            (
                fields::ENC_UTIL,
                handle.encoder_utilization().ok().map(|use_now| f64::from(use_now.utilization)),
            ),
            (
                fields::DEC_UTIL,
                handle.decoder_utilization().ok().map(|use_now| f64::from(use_now.utilization)),
            ),
            (fields::PCIE_REPLAY, handle.pcie_replay_counter().ok().map(f64::from)),
            (fields::ECC_SBE, ecc(MemoryError::Corrected)),
            (fields::ECC_DBE, ecc(MemoryError::Uncorrected)),
        ];
        figures.extend(memory);
        figures.extend(by_id(handle));
        let kept = self.kept.entry(uuid.to_owned()).or_insert_with(|| Kept::new(self.nvml, handle));
        figures.push((fields::XID_ERRORS, kept.xid().map(float)));
        figures.extend(kept.gpm(self.nvml, handle));
        figures.into_iter().filter_map(|(name, value)| Some((Metric::from(name), value?))).collect()
    }
}

impl<'nvml> Kept<'nvml> {
    /// A set for each device: one that has no such events would take the others' set with it.
    fn new(nvml: &'nvml Nvml, handle: &Handle<'nvml>) -> Self {
        let events = nvml
            .create_event_set()
            .ok()
            .and_then(|set| handle.register_events(EventTypes::CRITICAL_XID_ERROR, set).ok());
        Self { events, xid: 0, gpm: None }
    }

    /// The last error since this device is read; 0 is none, as DCGM has it.
    fn xid(&mut self) -> Option<u64> {
        let events = self.events.as_ref()?;
        for _ in 0..MAX_EVENTS {
            let Ok(event) = events.wait(0) else { break };
            match event.event_data {
                Some(XidError::Value(code)) => self.xid = code,
                Some(XidError::Unknown) => self.xid = 999,
                None => {}
            }
        }
        Some(self.xid)
    }

    /// Shares since the collection before.
    fn gpm(&mut self, nvml: &'nvml Nvml, handle: &Handle<'nvml>) -> Vec<(&'static str, Option<f64>)> {
        if !handle.gpm_support().unwrap_or(false) {
            return Vec::new();
        }
        let Ok(now) = handle.gpm_sample() else { return Vec::new() };
        let Some(before) = self.gpm.replace(now) else { return Vec::new() };
        let Some(now) = &self.gpm else { return Vec::new() };
        let Ok(metrics) = gpm_metrics_get(nvml, &before, now, &GPM.map(|(id, _)| id)) else {
            return Vec::new();
        };
        let named = metrics.into_iter().zip(GPM);
        named.map(|(metric, (_, name))| (name, metric.ok().map(|metric| metric.value / 100.0))).collect()
    }
}

fn memory(handle: &Handle<'_>) -> Vec<(&'static str, Option<f64>)> {
    let Ok(memory) = handle.memory_info() else { return Vec::new() };
    let mib = |bytes: u64| Some(float(bytes) / MIB);
    vec![
        (fields::FB_USED, mib(memory.used)),
        (fields::FB_FREE, mib(memory.free)),
        (fields::FB_TOTAL, mib(memory.total)),
    ]
}

fn by_id(handle: &Handle<'_>) -> Vec<(&'static str, Option<f64>)> {
    let Ok(values) = handle.field_values_for(&FIELDS.map(|(id, _)| FieldId(id))) else { return Vec::new() };
    let number = |value: SampleValue| match value {
        SampleValue::F64(value) => value,
        SampleValue::U32(value) => f64::from(value),
        SampleValue::U64(value) => float(value),
        #[expect(clippy::cast_precision_loss, reason = "a temperature or a count of rows")]
        SampleValue::I64(value) => value as f64,
    };
    let named = values.into_iter().zip(FIELDS);
    named.map(|(value, (_, name))| (name, value.and_then(|value| value.value).ok().map(number))).collect()
}

/// MIG devices: devices of their own, of which the library tells the memory.
fn parts(handle: &Handle<'_>, whole: &Device, readings: &mut Vec<DeviceReading>) {
    if handle.mig_mode().map_or(true, |mode| mode.current == 0) {
        return;
    }
    for index in 0..handle.mig_device_count().unwrap_or(0) {
        let Ok(part) = handle.mig_device_by_index(index) else { continue };
        let Ok(uuid) = part.uuid() else { continue };
        let device = Device { uuid, model_name: part.name().unwrap_or_default(), ..whole.clone() };
        let values = memory(&part).into_iter().filter_map(|(name, value)| Some((Metric::from(name), value?)));
        let values = values.collect();
        readings.push(DeviceReading { device, values, workers: Vec::new() });
    }
}

fn absence(error: &NvmlError) -> Absent {
    match error {
        NvmlError::LibloadingError(why) => Absent::NoDriver(why.to_string()),
        NvmlError::DriverNotLoaded | NvmlError::LibraryNotFound => Absent::NoDriver(error.to_string()),
        other => Absent::Failed(other.to_string()),
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "bytes, millijoules and errors of one device fit 53 bits for decades"
)]
const fn float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::super::steward::{Asked, Steward};
    use super::*;

    #[tokio::test]
    async fn a_node_without_the_library_says_so_and_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let nothing = dir.path().join("libnvidia-ml.so.1");
        std::fs::write(&nothing, "no library").unwrap();
        for library in [nothing, "/no/such/library.so".into()] {
            let mut steward =
                Steward::start("test", move |turns| serve(turns, Some(&library), "n1")).unwrap();
            for _ in 0..2 {
                let asked = steward.ask(Duration::from_secs(60)).await;
                assert!(matches!(asked, Asked::Answer(Err(Absent::NoDriver(_)))), "{asked:?}");
            }
        }
        assert!(matches!(absence(&NvmlError::NoPermission), Absent::Failed(_)));
    }
}
