//! GPU telemetry as the reference stack's clients speak it: records in, GPUs and their history out.
//!
//! Its API writes `model_name` and `hostname`, its queue's payloads `modelName` and `Hostname`; both are read.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One value of one metric of one device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TelemetryRecord {
    /// `nvidia0`, or whatever the sender calls it.
    #[serde(default)]
    pub device_id: String,
    /// Such as `DCGM_FI_DEV_GPU_UTIL`.
    pub metric: String,
    /// Its value.
    pub value: f64,
    /// RFC 3339.
    pub time: String,
    /// Index of the device on its host, as text.
    #[serde(default)]
    pub gpu_id: String,
    /// The device's own id.
    #[serde(default)]
    pub uuid: String,
    /// Such as `NVIDIA H100 80GB HBM3`.
    #[serde(default, alias = "modelName")]
    pub model_name: String,
    /// The node.
    #[serde(default, alias = "Hostname")]
    pub hostname: String,
    /// Whose work it was, as far as that is known.
    #[serde(default)]
    pub container: String,
    /// Its pod.
    #[serde(default)]
    pub pod: String,
    /// The pod's namespace.
    #[serde(default)]
    pub namespace: String,
    /// Further labels, `name="value",...` as in expositions, or `name=value,...`.
    #[serde(default)]
    pub labels_raw: String,
}

/// Answer to `POST /telemetry`: the records are on disk, and in a moment queryable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Accepted {
    /// `accepted`.
    pub status: String,
    /// How many records.
    pub count: usize,
}

/// `GET /api/v1/gpus`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Gpus {
    /// How many.
    pub count: usize,
    /// By host, device, uuid.
    pub gpus: Vec<Gpu>,
}

/// A GPU as its newest series describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Gpu {
    /// Its host.
    pub hostname: String,
    /// `nvidia0`, or whatever its sender calls it.
    pub device_id: String,
    /// The device's own id.
    pub uuid: String,
    /// Index on its host.
    pub gpu_id: String,
    /// Such as `NVIDIA H100 80GB HBM3`.
    pub model_name: String,
    /// Whose work it did last, as far as that is known.
    pub container: String,
    /// Its pod.
    pub pod: String,
    /// The pod's namespace.
    pub namespace: String,
    /// When its last sample is, RFC 3339.
    pub last_seen: String,
}

/// `GET /api/v1/gpus/{id}/telemetry`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GpuTelemetry {
    /// As it was asked for.
    pub gpu_id: String,
    /// How many records.
    pub count: usize,
    /// By time, then metric.
    pub data: Vec<TelemetryRecord>,
}

/// `GET /api/v1/hosts`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Hosts {
    /// How many.
    pub count: usize,
    /// By name.
    pub hosts: Vec<HostGpus>,
}

/// A host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostGpus {
    /// Its name.
    pub hostname: String,
    /// Its GPUs.
    pub gpu_count: usize,
}

/// `GET /api/v1/namespaces`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Namespaces {
    /// How many.
    pub count: usize,
    /// By name.
    pub namespaces: Vec<NamespaceGpus>,
}

/// A namespace whose pods used GPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NamespaceGpus {
    /// Its name.
    pub namespace: String,
    /// The GPUs.
    pub gpu_count: usize,
}

/// An error of this family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TelemetryFailure {
    /// The status' words.
    pub error: String,
    /// What exactly is wrong.
    pub message: String,
}

/// The same record as the reference's streamer puts it into a payload of the queue.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Queued<'a> {
    device_id: &'a str,
    metric: &'a str,
    value: f64,
    time: &'a str,
    gpu_id: &'a str,
    uuid: &'a str,
    #[serde(rename = "modelName")]
    model_name: &'a str,
    #[serde(rename = "Hostname")]
    hostname: &'a str,
    container: &'a str,
    pod: &'a str,
    namespace: &'a str,
    labels_raw: &'a str,
}

impl<'a> From<&'a TelemetryRecord> for Queued<'a> {
    fn from(record: &'a TelemetryRecord) -> Self {
        Self {
            device_id: &record.device_id,
            metric: &record.metric,
            value: record.value,
            time: &record.time,
            gpu_id: &record.gpu_id,
            uuid: &record.uuid,
            model_name: &record.model_name,
            hostname: &record.hostname,
            container: &record.container,
            pod: &record.pod,
            namespace: &record.namespace,
            labels_raw: &record.labels_raw,
        }
    }
}
