//! GPUs in the records that a node forwards: a row of numbers for each device.
//!
//! A row's numbers are in the order of `fields`, which the record itself carries: a reader finds a metric by name. Null is
//! no value. Labels are those of DCGM's exporter; an empty one is not known, and is left out.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::gpu::{DeviceReading, GpuMap};

/// All GPUs of a node at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeGpu {
    /// Wall time of the reading, ns since the epoch.
    pub at_ns: i64,
    /// Metrics, such as `DCGM_FI_DEV_GPU_UTIL`, ascending.
    pub fields: Vec<String>,
    /// Devices, ascending by index.
    pub devices: Vec<GpuRow>,
}

/// One device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct GpuRow {
    /// Index on the node.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub gpu: String,
    /// Its own id.
    #[serde(rename = "UUID", skip_serializing_if = "String::is_empty")]
    pub uuid: String,
    /// `nvidia0`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub device: String,
    /// Such as `NVIDIA H100 80GB HBM3`.
    #[serde(rename = "modelName", skip_serializing_if = "String::is_empty")]
    pub model_name: String,
    /// The host that it says it is on: the node.
    #[serde(rename = "Hostname", skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// Such as `00000000:1B:00.0`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pci_bus_id: String,
    /// The driver's.
    #[serde(rename = "DCGM_FI_DRIVER_VERSION", skip_serializing_if = "String::is_empty")]
    pub driver_version: String,
    /// Of a MIG device, its GPU instance.
    #[serde(rename = "GPU_I_ID", skip_serializing_if = "String::is_empty")]
    pub instance_id: String,
    /// Its profile.
    #[serde(rename = "GPU_I_PROFILE", skip_serializing_if = "String::is_empty")]
    pub instance_profile: String,
    /// Of the one pod that has it; empty where several share it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// That pod.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pod: String,
    /// The container in it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub container: String,
    /// Containers that have it.
    pub workers: usize,
    /// One for each of the record's fields.
    pub values: Vec<Option<f64>>,
}

impl GpuRow {
    /// Its labels, as DCGM's exporter names and orders them; without those that are not known.
    pub fn labels(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("gpu", &self.gpu),
            ("UUID", &self.uuid),
            ("pci_bus_id", &self.pci_bus_id),
            ("device", &self.device),
            ("modelName", &self.model_name),
            ("GPU_I_PROFILE", &self.instance_profile),
            ("GPU_I_ID", &self.instance_id),
            ("Hostname", &self.hostname),
            ("DCGM_FI_DRIVER_VERSION", &self.driver_version),
            ("container", &self.container),
            ("namespace", &self.namespace),
            ("pod", &self.pod),
        ]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name, value.as_str()))
    }
}

impl From<&GpuMap> for NodeGpu {
    fn from(map: &GpuMap) -> Self {
        let mut fields: Vec<_> =
            map.devices.iter().flat_map(|one| &one.values).map(|(name, _)| name.as_ref()).collect();
        fields.sort_unstable();
        fields.dedup();
        let devices = map.devices.iter().map(|reading| row(reading, &fields)).collect();
        Self { at_ns: map.at_ns, devices, fields: fields.into_iter().map(str::to_owned).collect() }
    }
}

fn row(reading: &DeviceReading, fields: &[&str]) -> GpuRow {
    let (device, worker) = (reading.device.clone(), reading.worker().cloned().unwrap_or_default());
    GpuRow {
        gpu: device.gpu,
        uuid: device.uuid,
        device: device.device,
        model_name: device.model_name,
        hostname: device.hostname,
        pci_bus_id: device.pci_bus_id,
        driver_version: device.driver_version,
        instance_id: device.instance_id,
        instance_profile: device.instance_profile,
        namespace: worker.namespace,
        pod: worker.pod,
        container: worker.container,
        workers: reading.workers.len(),
        values: fields.iter().map(|field| reading.value(field)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::batch::MAX_RECORD_BYTES;
    use crate::domain::gpu::fields::{FB_USED, FIELDS, GPU_UTIL};
    use crate::domain::gpu::{Allocations, Device, Metric, Worker};

    fn reading(uuid: &str, values: &[(&'static str, f64)], pods: &[&str]) -> DeviceReading {
        let worker = |pod: &&str| Worker {
            namespace: "ml".to_owned(),
            pod: (*pod).to_owned(),
            container: "c".to_owned(),
        };
        DeviceReading {
            device: Device { uuid: uuid.to_owned(), hostname: "n1".to_owned(), ..Device::default() },
            values: values.iter().map(|(name, value)| (Metric::from(*name), *value)).collect(),
            workers: pods.iter().map(worker).collect(),
        }
    }

    #[test]
    fn a_row_has_a_place_for_every_field_and_says_whose_it_is_if_it_is_ones() {
        let readings =
            [reading("a", &[(GPU_UTIL, 1.5)], &["p"]), reading("b", &[(FB_USED, 2.0)], &["p", "q"])];
        let record = NodeGpu::from(&GpuMap::new(9, readings, &Allocations::default()));
        assert_eq!(record.fields, [FB_USED, GPU_UTIL]);
        let [a, b] = &*record.devices else { panic!("{record:?}") };
        assert_eq!((&*a.values, &*b.values), (&[None, Some(1.5)][..], &[Some(2.0), None][..]));
        assert_eq!((a.workers, &*a.pod, b.workers, &*b.pod), (1, "p", 2, ""));
        let labels: Vec<_> = a.labels().collect();
        assert_eq!(
            labels,
            [("UUID", "a"), ("Hostname", "n1"), ("container", "c"), ("namespace", "ml"), ("pod", "p")]
        );
        let json = serde_json::to_string(&record).unwrap();
        assert!(json.contains("\"UUID\":\"b\",\"Hostname\":\"n1\",\"workers\":2"), "{json}");
        assert_eq!(serde_json::from_str::<NodeGpu>(&json).unwrap(), record);
    }

    #[test]
    fn the_largest_node_fits_a_record() {
        let values: Vec<_> = FIELDS.iter().map(|field| (field.name, 140_737_488_355_327.75)).collect();
        let long = "x".repeat(100);
        let readings =
            (0..crate::domain::gpu::MAX_DEVICES).map(|n| reading(&format!("{long}{n}"), &values, &[&long]));
        let record = NodeGpu::from(&GpuMap::new(9, readings, &Allocations::default()));
        let size = serde_json::to_vec(&record).unwrap().len();
        assert!(size < MAX_RECORD_BYTES, "{size} bytes");
    }
}
