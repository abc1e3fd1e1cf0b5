//! A record of one metric of one device, as files and clients bring it: columns, and further labels in one text.
//!
//! One set of rules for whoever reads or takes them, so that what is sent can be stored. A label fills the column of its
//! name where that is empty. A device is known by its UUID, by its name, or by its index on a host.

use super::{Device, Worker};
use crate::domain::series::{LabelError, Labels, NAME};

/// The label that makes a series a GPU's.
pub const UUID: &str = "UUID";

/// Labels of DCGM's exporter that records have columns for.
const COLUMNS: [&str; 8] = [UUID, "gpu", "device", "modelName", "Hostname", "container", "pod", "namespace"];

/// Names and values, in their order.
pub type Pairs = Vec<(String, String)>;

/// Whether a label is one that a record has a column for, the metric's name included.
#[must_use]
pub fn is_column(label: &str) -> bool {
    label == NAME || COLUMNS.contains(&label)
}

/// Of which device a record is, and whose work it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// The device; it has a UUID or a name.
    pub device: Device,
    /// Whose work it was; empty names where nobody says.
    pub worker: Worker,
}

impl Subject {
    /// From a record's columns and its further labels; `None` where they name no device.
    #[must_use]
    pub fn new(mut device: Device, mut worker: Worker, further: &[(String, String)]) -> Option<Self> {
        let columns = [
            &mut device.uuid,
            &mut device.gpu,
            &mut device.device,
            &mut device.model_name,
            &mut device.hostname,
            &mut worker.container,
            &mut worker.pod,
            &mut worker.namespace,
        ];
        for (label, column) in COLUMNS.into_iter().zip(columns) {
            if column.is_empty()
                && let Some((_, value)) = further.iter().find(|(name, _)| name == label)
            {
                column.clone_from(value);
            }
        }
        Some(Self { device: device.known()?, worker })
    }

    /// The labels of the record's series. A device without a UUID goes by its name.
    ///
    /// # Errors
    /// [`LabelError`].
    pub fn labels(&self, metric: &str, further: &[(String, String)]) -> Result<Labels, LabelError> {
        let Self { device, worker } = self;
        let columns = [
            device.key().0,
            &device.gpu,
            &device.device,
            &device.model_name,
            &device.hostname,
            &worker.container,
            &worker.pod,
            &worker.namespace,
        ];
        let further = further.iter().filter(|(name, _)| !is_column(name));
        let further = further.map(|(name, value)| (name.as_str(), value.as_str()));
        Labels::new(metric, COLUMNS.into_iter().zip(columns).chain(further))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::series::MAX_LABELS;

    fn pairs(pairs: &[(&str, &str)]) -> Pairs {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn device(uuid: &str, device: &str, gpu: &str, hostname: &str) -> Device {
        let [uuid, device, gpu, hostname] = [uuid, device, gpu, hostname].map(str::to_owned);
        Device { uuid, device, gpu, hostname, ..Device::default() }
    }

    #[test]
    fn labels_fill_columns_that_are_empty_and_no_others() {
        let further = pairs(&[("UUID", "GPU-9"), ("gpu", "9"), ("pod", "p"), ("app", "ml"), (NAME, "other")]);
        let subject = Subject::new(device("GPU-1", "nvidia1", "", "h"), Worker::default(), &further).unwrap();
        let expected = r#"m{Hostname="h",UUID="GPU-1",app="ml",device="nvidia1",gpu="9",pod="p"}"#;
        assert_eq!(subject.labels("m", &further).unwrap().to_string(), expected);
        let told = Subject::new(Device::default(), Worker::default(), &further).unwrap();
        assert_eq!((&*told.device.uuid, told.device.queue_key()), ("GPU-9", "GPU-9"));
    }

    #[test]
    fn a_device_is_known_by_its_id_its_name_or_its_place() {
        let of = |device| Subject::new(device, Worker::default(), &[]);
        let key = |device| of(device).unwrap().device.queue_key().to_owned();
        assert_eq!(key(device("GPU-1", "nvidia0", "0", "h")), "GPU-1");
        assert_eq!(key(device("", "card0", "7", "")), "card0");
        assert_eq!(key(device("", "", "0", "h")), "nvidia0");
        let placed = of(device("", "", "0", "h")).unwrap().labels("m", &[]).unwrap();
        assert_eq!(placed.to_string(), r#"m{Hostname="h",UUID="nvidia0",device="nvidia0",gpu="0"}"#);
        for none in [device("", "", "", ""), device("", "", "0", ""), device("", "", "", "h")] {
            assert_eq!(of(none.clone()), None, "{none:?}");
        }
        assert_eq!(key(device("\u{413}\u{41f}\u{423}", "", "", "")), "\u{413}\u{41f}\u{423}");
        let long = key(device(&"\u{20ac}".repeat(500), "", "", ""));
        assert_eq!(long.len(), 126, "cut between two letters");
    }

    #[test]
    fn more_labels_than_a_series_has_are_an_error() {
        let many: Pairs = (0..MAX_LABELS).map(|n| (format!("l{n}"), "1".to_owned())).collect();
        let subject = Subject::new(device("GPU-1", "", "", ""), Worker::default(), &many).unwrap();
        assert_eq!(subject.labels("m", &many), Err(LabelError::TooMany(MAX_LABELS + 2)));
        assert!(subject.labels("m", &many[2..]).is_ok());
    }
}
