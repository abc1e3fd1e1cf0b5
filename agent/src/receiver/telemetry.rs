//! GPU telemetry records as series, and series as records.
//!
//! A record's columns become the labels that NVIDIA's own exporter has (`UUID`, `gpu`, `device`, `modelName`, `Hostname`,
//! `container`, `pod`, `namespace`); `labels_raw` is taken apart into labels, and put together again on the way out. A record
//! without a UUID goes by its device id.

use crate::api::telemetry::TelemetryRecord;
use crate::api::time;
use crate::domain::series::{Labels, NAME, Sample, SeriesSamples};

mod raw;

/// The label that makes a series a GPU's.
pub const UUID: &str = "UUID";

/// What NVIDIA's exporter writes for "not supported", and its neighbours; as floats they are all this.
const BLANK_FROM: f64 = 9_223_372_036_854_774_784.0;

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
    if record.value.abs() >= BLANK_FROM {
        return Err(Unfit::Blank);
    }
    let uuid = if record.uuid.is_empty() { &record.device_id } else { &record.uuid };
    if uuid.is_empty() {
        return Err(wrong("uuid or device_id: one of them names the device".to_owned()));
    }
    let columns = [
        (UUID, uuid),
        ("gpu", &record.gpu_id),
        ("device", &record.device_id),
        ("modelName", &record.model_name),
        ("Hostname", &record.hostname),
        ("container", &record.container),
        ("pod", &record.pod),
        ("namespace", &record.namespace),
    ];
    let raw = raw::parse(&record.labels_raw).map_err(|words| wrong(format!("labels_raw: {words}")))?;
    // A column says it better than the raw text of the same name.
    let further =
        raw.iter().filter(|(name, _)| name != NAME && columns.iter().all(|(column, _)| name != column));
    let labels = columns.iter().map(|(name, value)| (*name, value.as_str()));
    let further = further.map(|(name, value)| (name.as_str(), value.as_str()));
    let labels =
        Labels::new(&record.metric, labels.chain(further)).map_err(|cause| wrong(cause.to_string()))?;
    Ok(SeriesSamples { labels, samples: vec![Sample { at_ms: at.as_millisecond(), value: record.value }] })
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
        let wrong = [
            of(|record| record.time = "yesterday".to_owned()),
            of(|record| record.metric = "a b".to_owned()),
            of(|record| (record.uuid, record.device_id) = (String::new(), String::new())),
            of(|record| record.labels_raw = "a=\"b".to_owned()),
            of(|record| record.pod = "x".repeat(2_000)),
        ];
        assert!(wrong.iter().all(|unfit| matches!(unfit, Unfit::Wrong(_))), "{wrong:?}");
    }
}
