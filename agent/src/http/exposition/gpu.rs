//! GPUs, with the metric names and labels of DCGM's exporter, so that dashboards made for it work.
//!
//! Each metric of a device is one series. A device that several pods share has no pod's labels: its figures are of all of
//! them together. Counters keep their names too, without `_total`, and so are of unknown type.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use tokio::sync::watch;

use super::{Number, Writer};
use crate::api::gpu::NodeGpu;
use crate::domain::gpu::GpuMap;
use crate::domain::gpu::fields::{self, Kind};

/// Reads the latest reading at each scrape; belongs to a registry without a prefix.
#[derive(Debug)]
pub struct GpuCollector {
    /// The devices.
    pub map: watch::Receiver<Arc<GpuMap>>,
}

impl Collector for GpuCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let map = Arc::clone(&self.map.borrow());
        let record = NodeGpu::from(&*map);
        let mut writer = Writer::new(encoder);
        for (at, name) in record.fields.iter().enumerate() {
            let samples = record.devices.iter().filter_map(|device| {
                let value = device.values.get(at).copied().flatten()?;
                Some((device.labels().collect::<Vec<_>>(), Number::Float(value)))
            });
            let field = fields::of(name);
            let help = field.map_or("As the exporter has it", |field| field.help);
            match field.map(|field| field.kind) {
                Some(Kind::Gauge) => writer.gauges((name, help), None, samples)?,
                Some(Kind::Counter) | None => writer.untyped((name, help), samples)?,
            }
        }
        Ok(())
    }
}

/// What is said of the reading itself; belongs under our own prefix.
#[derive(Debug)]
pub struct GpuSourceCollector {
    /// The devices.
    pub map: watch::Receiver<Arc<GpuMap>>,
}

impl Collector for GpuSourceCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let map = Arc::clone(&self.map.borrow());
        if map.at_ns == 0 {
            return Ok(());
        }
        let number = |count: usize| Number::Unsigned(u64::try_from(count).unwrap_or(u64::MAX));
        let mut writer = Writer::new(encoder);
        writer.gauge(
            "gpu_devices",
            "GPUs that the last reading has",
            None,
            Some(number(map.devices.len())),
        )?;
        // Two descriptions of a device without any name would be one series.
        let mut workers = BTreeMap::new();
        for one in &map.devices {
            let device = &one.device;
            *workers
                .entry([
                    ("UUID", &*device.uuid),
                    ("device", &*device.device),
                    ("GPU_I_ID", &*device.instance_id),
                ])
                .or_insert(0) += one.workers.len();
        }
        let workers = workers.into_iter().map(|(labels, count)| (labels, number(count)));
        writer.gauges(("gpu_containers", "Containers that have the GPU"), None, workers)?;
        let left_out = &map.left_out;
        let reasons = [
            ("devices", left_out.devices),
            ("metrics", left_out.metrics),
            ("blank", left_out.blank),
            ("twice", left_out.twice),
        ];
        let reasons = reasons.into_iter().map(|(reason, count)| ([("reason", reason)], number(count)));
        writer.gauges(("gpu_left_out", "What the last reading left out"), None, reasons)
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::domain::gpu::fields::{GPU_UTIL, TOTAL_ENERGY};
    use crate::domain::gpu::{Allocations, Device, DeviceReading, Metric, Worker};
    use crate::http::exposition::{Format, encode};

    fn reading(uuid: &str, pods: &[&str]) -> DeviceReading {
        let worker = |pod: &&str| Worker {
            namespace: "ml".to_owned(),
            pod: (*pod).to_owned(),
            container: "c".to_owned(),
        };
        let device = Device {
            gpu: "0".to_owned(),
            uuid: uuid.to_owned(),
            model_name: "H100 \"x\"".to_owned(),
            hostname: "n1".to_owned(),
            ..Device::default()
        };
        let values = vec![
            (Metric::from(GPU_UTIL), 97.0),
            (Metric::from(TOTAL_ENERGY), 5.0),
            (Metric::from("own"), 0.5),
        ];
        DeviceReading { device, values, workers: pods.iter().map(worker).collect() }
    }

    fn text(readings: Vec<DeviceReading>, format: Format) -> String {
        let map = GpuMap::new(1, readings, &Allocations::default());
        let (_out, map) = watch::channel(Arc::new(map));
        let mut registry = Registry::default();
        registry.register_collector(Box::new(GpuCollector { map: map.clone() }));
        let ours = registry.sub_registry_with_prefix("sextant");
        ours.register_collector(Box::new(GpuSourceCollector { map }));
        encode(&registry, format).unwrap()
    }

    #[test]
    fn names_and_labels_are_dcgms() {
        let text = text(vec![reading("GPU-1", &["p"])], Format::Classic);
        let labels = "{gpu=\"0\",UUID=\"GPU-1\",modelName=\"H100 \\\"x\\\"\",Hostname=\"n1\",container=\"c\",namespace=\"ml\",pod=\"p\"}";
        for line in [
            "# TYPE DCGM_FI_DEV_GPU_UTIL gauge".to_owned(),
            format!("DCGM_FI_DEV_GPU_UTIL{labels} 97.0"),
            "# TYPE DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION untyped".to_owned(),
            format!("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{labels} 5.0"),
            format!("own{labels} 0.5"),
            "sextant_gpu_devices 1".to_owned(),
            "sextant_gpu_containers{UUID=\"GPU-1\",device=\"\",GPU_I_ID=\"\"} 1".to_owned(),
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn a_shared_device_is_one_series_without_a_pod() {
        let text = text(vec![reading("GPU-1", &["p", "q"])], Format::OpenMetrics);
        let lines: Vec<_> = text.lines().filter(|line| line.starts_with("DCGM_FI_DEV_GPU_UTIL{")).collect();
        assert_eq!(lines.len(), 1, "{text}");
        assert!(!lines[0].contains("pod=") && text.contains("} 2\n"), "{text}");
        assert!(text.contains("# TYPE DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION unknown\n"), "{text}");
    }

    #[test]
    fn a_node_without_a_gpu_has_no_family_of_it() {
        let text = text(Vec::new(), Format::OpenMetrics);
        assert!(!text.contains("DCGM") && text.contains("sextant_gpu_devices 0"), "{text}");
    }
}
