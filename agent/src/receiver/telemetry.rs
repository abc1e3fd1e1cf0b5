//! GPU telemetry records as series, and series as records.
//!
//! A record's columns become the labels that NVIDIA's own exporter has (`UUID`, `gpu`, `device`, `modelName`, `Hostname`,
//! `container`, `pod`, `namespace`); `labels_raw` is taken apart into labels, and put together again on the way out. What
//! names a device, and what is no value, is said by [`crate::domain::gpu`]: `sextant replay` goes by the same.

use crate::api::telemetry::TelemetryRecord;
use crate::api::time;
pub use crate::domain::gpu::record::UUID;
use crate::domain::gpu::record::{Pairs, Subject};
use crate::domain::gpu::{Device, Worker, usable};
use crate::domain::series::{Labels, Sample, SeriesSamples};

mod raw;

/// Why a record is no sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It says that there is no value.
    Blank,
    /// What is wrong with it.
    Wrong(String),
}

/// A record as a sample of its series.
///
/// # Errors
/// [`Unfit`].
pub fn to_series(record: &TelemetryRecord) -> Result<SeriesSamples, Unfit> {
    let wrong = |words: String| Unfit::Wrong(words);
    let at: jiff::Timestamp =
        record.time.parse().map_err(|_| wrong(format!("time: {:?} is not RFC 3339", shown(&record.time))))?;
    let (subject, further) = subject(record)?;
    let labels = subject.labels(&record.metric, &further).map_err(|cause| wrong(cause.to_string()))?;
    let value = usable(record.value).map_err(|_| Unfit::Blank)?;
    Ok(SeriesSamples { labels, samples: vec![Sample { at_ms: at.as_millisecond(), value }] })
}

/// The key of a record in the queue: records of one device keep their order. `None` where nothing names a device.
#[must_use]
pub fn key(record: &TelemetryRecord) -> Option<String> {
    subject(record).ok().map(|(subject, _)| subject.device.queue_key().to_owned())
}

fn subject(record: &TelemetryRecord) -> Result<(Subject, Pairs), Unfit> {
    let further = raw::parse(&record.labels_raw);
    let further = further.map_err(|words| Unfit::Wrong(format!("labels_raw: {words}")))?;
    let device = Device {
        uuid: record.uuid.clone(),
        gpu: record.gpu_id.clone(),
        device: record.device_id.clone(),
        model_name: record.model_name.clone(),
        hostname: record.hostname.clone(),
        ..Device::default()
    };
    let worker = Worker {
        namespace: record.namespace.clone(),
        pod: record.pod.clone(),
        container: record.container.clone(),
    };
    let none = || "uuid, device_id, or gpu_id and hostname: something has to name the device".to_owned();
    let subject = Subject::new(device, worker, &further).ok_or_else(|| Unfit::Wrong(none()))?;
    Ok((subject, further))
}

/// A sample of a GPU's series as a record.
#[must_use]
pub fn to_record(labels: &Labels, sample: Sample) -> TelemetryRecord {
    let label = |name| labels.get(name).unwrap_or_default().to_owned();
    TelemetryRecord {
        device_id: label("device"),
        metric: labels.metric().to_owned(),
        value: sample.value,
        time: time::rfc3339(sample.at_ms.saturating_mul(1_000_000)),
        gpu_id: label("gpu"),
        uuid: label(UUID),
        model_name: label("modelName"),
        hostname: label("Hostname"),
        container: label("container"),
        pod: label("pod"),
        namespace: label("namespace"),
        labels_raw: raw::text(labels),
    }
}

fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documented() -> TelemetryRecord {
        serde_json::from_str(
            r#"{"device_id": "gpu-001", "metric": "temperature", "value": 75.5, "time": "2025-09-25T10:30:00Z",
                "gpu_id": "0", "uuid": "12345678-1234-1234-1234-123456789012", "model_name": "NVIDIA RTX 4090",
                "hostname": "worker-node-1", "container": "gpu-workload", "pod": "gpu-pod-1", "namespace": "default",
                "labels_raw": "app=ml-training"}"#,
        )
        .unwrap()
    }

    #[test]
    fn the_documented_record_goes_in_and_comes_out() {
        let series = to_series(&documented()).unwrap();
        assert_eq!(series.labels.get("app"), Some("ml-training"));
        assert_eq!(series.samples, [Sample { at_ms: 1_758_796_200_000, value: 75.5 }]);
        let record = to_record(&series.labels, series.samples[0]);
        assert_eq!(record, TelemetryRecord { labels_raw: r#"app="ml-training""#.to_owned(), ..documented() });
    }

    #[test]
    fn a_label_is_kept_where_its_column_is_empty() {
        let labels_raw = r#"pod="p",container="c",UUID="GPU-1",app="ml""#.to_owned();
        let mut record = TelemetryRecord { pod: String::new(), labels_raw, ..documented() };
        let of = |record: &TelemetryRecord, label: &str| {
            to_series(record).unwrap().labels.get(label).unwrap_or_default().to_owned()
        };
        assert_eq!((&*of(&record, "pod"), &*of(&record, "container")), ("p", "gpu-workload"));
        assert_eq!((&*of(&record, UUID), &*of(&record, "app")), (&*documented().uuid, "ml"));
        record.uuid.clear();
        assert_eq!((of(&record, UUID), key(&record).unwrap()), ("GPU-1".to_owned(), "GPU-1".to_owned()));
    }

    #[test]
    fn both_spellings_of_a_payload_are_one_record() {
        let queued = r#"{"device_id":"nvidia0","metric":"DCGM_FI_DEV_GPU_UTIL","value":3,"time":"2025-07-18T20:42:34Z",
            "modelName":"H100","Hostname":"h","uuid":"GPU-1"}"#;
        let record: TelemetryRecord = serde_json::from_str(queued).unwrap();
        assert_eq!((record.model_name.as_str(), record.hostname.as_str()), ("H100", "h"));
    }

    #[test]
    fn what_is_no_sample_says_why() {
        let of = |change: fn(&mut TelemetryRecord)| {
            let mut record = documented();
            change(&mut record);
            to_series(&record).unwrap_err()
        };
        assert_eq!(of(|record| record.value = 9_223_372_036_854_775_794.0), Unfit::Blank);
        assert_eq!(of(|record| record.value = 18_446_744_073_709_551_615.0), Unfit::Blank);
        // DCGM's blank floats: 2^47 and the three after it.
        assert_eq!(of(|record| record.value = 140_737_488_355_328.0), Unfit::Blank);
        assert_eq!(of(|record| record.value = 140_737_488_355_331.0), Unfit::Blank);
        let beside = TelemetryRecord { value: 140_737_488_355_332.0, ..documented() };
        assert!(to_series(&beside).is_ok(), "the control");
        let wrong = [
            of(|record| record.time = "yesterday".to_owned()),
            of(|record| record.metric = "a b".to_owned()),
            of(|record| {
                // Its index alone is one of many.
                for column in [&mut record.uuid, &mut record.device_id, &mut record.hostname] {
                    column.clear();
                }
            }),
            of(|record| record.labels_raw = "a=\"b".to_owned()),
            of(|record| record.labels_raw = "pod=a,pod=b".to_owned()),
            of(|record| record.pod = "x".repeat(2_000)),
        ];
        assert!(wrong.iter().all(|unfit| matches!(unfit, Unfit::Wrong(_))), "{wrong:?}");
    }
}
