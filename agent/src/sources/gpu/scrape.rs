//! Devices as an exporter tells of them: DCGM's (port 9400), AMD's (port 5000), or any other in Prometheus' text.
//!
//! A sample is a device's if its labels name one: a uuid, or, of DCGM's metrics, an index or a device. Its metric keeps
//! its name; labels have DCGM's names, which AMD's exporter spells otherwise. Other samples are passed over.

use std::collections::HashMap;

use reqwest::{Client, Url, redirect};
use tokio::time::Duration;

use super::exposition::{self, Sample};
use crate::domain::gpu::{Device, DeviceReading, Metric, Worker};

/// An exporter that does not answer by then is as good as none.
const PATIENCE: Duration = Duration::from_secs(3);

/// Largest answer, bytes: sixteen GPUs in seven parts, with a hundred metrics of 500 bytes each, are 6 MB.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// Families that this node has itself.
const OURS: [&str; 3] = ["sextant_", "process_", "gthulhu_"];

/// Samples taken of one answer: sixteen GPUs in seven parts with a hundred metrics are 11,200, and as many again for each
/// pod that shares them.
const MAX_SAMPLES: usize = 100_000;

/// Exporters of one node.
pub(super) const MAX_EXPORTERS: usize = 16;

/// Why there are no samples.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// Not a URL of an exporter.
    #[error("{0}")]
    Url(String),
    /// It does not answer, or not as it should.
    #[error("{0}")]
    Answer(String),
}

/// An exporter.
#[derive(Clone, Debug)]
pub(super) struct Exporter {
    client: Client,
    url: Url,
}

/// What an exporter said.
#[derive(Debug, Default)]
pub(super) struct Scraped {
    pub(super) readings: Vec<DeviceReading>,
    /// Lines that are no samples, and the first of them.
    pub(super) bad: u64,
    pub(super) first_bad: Option<String>,
    /// Samples of devices beyond [`MAX_SAMPLES`].
    pub(super) beyond: u64,
}

impl Exporter {
    /// The one at `http://HOST:PORT/metrics`; nothing is asked yet.
    ///
    /// # Errors
    /// [`Error::Url`].
    pub(super) fn new(url: &str) -> Result<Self, Error> {
        let wrong = |why: &dyn std::fmt::Display| Error::Url(why.to_string());
        let url = Url::parse(url).map_err(|error| wrong(&error))?;
        if url.scheme() != "http" || !url.has_host() {
            return Err(wrong(&"is no http://HOST:PORT/metrics"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong(&"user and password do not belong into it"));
        }
        let builder = Client::builder().user_agent(concat!("sextant/", env!("CARGO_PKG_VERSION")));
        let client = builder.timeout(PATIENCE).redirect(redirect::Policy::none()).no_proxy().build();
        Ok(Self { client: client.map_err(|error| wrong(&error))?, url })
    }

    /// Its address, for messages.
    pub(super) fn target(&self) -> &str {
        self.url.as_str()
    }

    /// Scrapes it; devices without a host are of the node's name.
    pub(super) async fn scrape(&self, hostname: &str) -> Result<Scraped, Error> {
        let text = self.text().await?;
        let hostname = hostname.to_owned();
        // Megabytes take tens of milliseconds.
        let reading = tokio::task::spawn_blocking(move || read(&text, &hostname));
        reading.await.map_err(|error| Error::Answer(error.to_string()))
    }

    async fn text(&self) -> Result<String, Error> {
        let failed = |error: reqwest::Error| Error::Answer(chain(&error.without_url()));
        let mut response = self.client.get(self.url.clone()).send().await.map_err(failed)?;
        let status = response.status();
        if status != reqwest::StatusCode::OK {
            return Err(Error::Answer(status.to_string()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(Error::Answer(format!("an answer of more than {MAX_ANSWER_BYTES} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        String::from_utf8(body).map_err(|_| Error::Answer("an answer that is no UTF-8".to_owned()))
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    format!("{error}{source}")
}

fn read(text: &str, hostname: &str) -> Scraped {
    let mut scraped = Scraped::default();
    let mut places: HashMap<(Device, Worker), usize> = HashMap::new();
    let mut taken = 0;
    for sample in exposition::samples(text) {
        let sample = match sample {
            Ok(sample) => sample,
            Err((line, error)) => {
                scraped.bad += 1;
                scraped.first_bad.get_or_insert_with(|| format!("line {line}: {error}"));
                continue;
            }
        };
        let Some((key, metric, value)) = of_device(sample, hostname) else { continue };
        if taken >= MAX_SAMPLES {
            scraped.beyond += 1;
            continue;
        }
        taken += 1;
        let place = *places.entry(key.clone()).or_insert_with(|| {
            let (device, worker) = key;
            let workers = if worker.pod.is_empty() { Vec::new() } else { vec![worker] };
            scraped.readings.push(DeviceReading { device, values: Vec::new(), workers });
            scraped.readings.len() - 1
        });
        if let Some(reading) = scraped.readings.get_mut(place) {
            reading.values.push((metric, value));
        }
    }
    scraped
}

type OfDevice = ((Device, Worker), Metric, f64);

fn of_device(sample: Sample<'_>, hostname: &str) -> Option<OfDevice> {
    let (mut device, mut worker) = (Device::default(), Worker::default());
    for (name, value) in sample.labels {
        let slot = match &*name {
            "UUID" | "uuid" | "gpu_uuid" => &mut device.uuid,
            "gpu" | "gpu_id" => &mut device.gpu,
            "device" => &mut device.device,
            "modelName" | "card_model" => &mut device.model_name,
            "Hostname" | "hostname" => &mut device.hostname,
            "pci_bus_id" => &mut device.pci_bus_id,
            "DCGM_FI_DRIVER_VERSION" | "driver_version" => &mut device.driver_version,
            "GPU_I_ID" => &mut device.instance_id,
            "GPU_I_PROFILE" => &mut device.instance_profile,
            "namespace" | "exported_namespace" => &mut worker.namespace,
            "pod" | "exported_pod" => &mut worker.pod,
            "container" | "exported_container" => &mut worker.container,
            _ => continue,
        };
        *slot = value;
    }
    // An exporter that is another node of ours: its own families are not the device's.
    if OURS.iter().any(|ours| sample.name.starts_with(ours)) {
        return None;
    }
    let is_placed = !device.gpu.is_empty() || !device.device.is_empty();
    if device.uuid.is_empty() && !(is_placed && sample.name.starts_with("DCGM_")) {
        return None;
    }
    if device.hostname.is_empty() {
        hostname.clone_into(&mut device.hostname);
    }
    Some(((device.known()?, worker), Metric::from(sample.name.to_owned()), sample.value))
}

#[cfg(test)]
mod tests;
