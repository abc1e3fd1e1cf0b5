//! Which column is which: by name, as the reference's file and its API spell them.

use std::io::BufRead;

use super::Error;
use super::fields::Fields;
use super::lines::Lines;

/// A column that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Timestamp,
    MetricName,
    GpuId,
    Device,
    Uuid,
    ModelName,
    Hostname,
    Container,
    Pod,
    Namespace,
    Value,
    LabelsRaw,
}

/// Each with its name, and whether a file can do without it.
const COLUMNS: [(Column, &str, bool); 12] = [
    (Column::Timestamp, "timestamp", false),
    (Column::MetricName, "metric_name", false),
    (Column::GpuId, "gpu_id", false),
    (Column::Device, "device", false),
    (Column::Uuid, "uuid", false),
    (Column::ModelName, "modelName", false),
    (Column::Hostname, "Hostname", false),
    (Column::Container, "container", true),
    (Column::Pod, "pod", true),
    (Column::Namespace, "namespace", true),
    (Column::Value, "value", false),
    (Column::LabelsRaw, "labels_raw", true),
];

/// Unknown columns that are named to the user.
const MAX_NAMED: usize = 8;

/// Where each column is.
pub(super) struct Columns {
    places: [Option<usize>; COLUMNS.len()],
    /// Columns of the file.
    pub(super) count: usize,
    /// The first of those that are of no use.
    pub(super) unknown: Vec<String>,
}

impl Columns {
    /// From the first line.
    pub(super) fn read<R: BufRead>(lines: &mut Lines<R>, fields: &mut Fields) -> Result<Self, Error> {
        let line = lines.next_line().map_err(|source| Error::Read { line: 0, source })?;
        let line = line.ok_or_else(|| Error::Header("the file is empty".to_owned()))?;
        if line.is_cut {
            return Err(Error::Header(format!("it is longer than {} bytes", super::MAX_LINE_BYTES)));
        }
        let bytes = line.bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line.bytes);
        fields.split(bytes).map_err(|reason| Error::Header(format!("its {} are wrong", reason.name())))?;
        let mut this = Self { places: [None; COLUMNS.len()], count: fields.len(), unknown: Vec::new() };
        for place in 0..fields.len() {
            let name = fields.get(place);
            let Some(at) = COLUMNS.iter().position(|(_, known, _)| plain(known) == plain(name)) else {
                if this.unknown.len() < MAX_NAMED {
                    this.unknown.push(name.chars().take(64).collect());
                }
                continue;
            };
            if this.places[at].replace(place).is_some() {
                return Err(Error::Header(format!("{name} is there twice")));
            }
        }
        let missing: Vec<_> = COLUMNS
            .iter()
            .zip(&this.places)
            .filter(|((_, _, optional), place)| !optional && place.is_none())
            .map(|((_, name, _), _)| *name)
            .collect();
        if !missing.is_empty() {
            return Err(Error::Header(format!("without {}", missing.join(", "))));
        }
        Ok(this)
    }

    pub(super) const fn place(&self, column: Column) -> Option<usize> {
        self.places[column as usize]
    }
}

/// A name without what its spellings differ in.
fn plain(name: &str) -> String {
    name.trim().chars().filter(|letter| *letter != '_').map(|letter| letter.to_ascii_lowercase()).collect()
}
