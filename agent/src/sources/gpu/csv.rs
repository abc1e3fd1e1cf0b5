//! Files of GPU samples in DCGM's columns, as the reference stack's streamer reads them: strict, row by row.
//!
//! Format: a line of column names, then a row a line, RFC 4180 (fields may be quoted, a quote inside is doubled), but no
//! line end inside a field: a broken quote costs its own line and no other. A byte order mark, CRLF and a last line
//! without an end are taken. Columns are found by name, in any order and either spelling (`modelName`, `model_name`):
//!
//! `timestamp,metric_name,gpu_id,device,uuid,modelName,Hostname,container,pod,namespace,value,labels_raw`
//!
//! Invariants: every line is a row, a row that is bad, with its reason and its beginning, or a row that says that there is
//! no value; empty lines are none. Memory is bounded by [`MAX_LINE_BYTES`], whatever the file holds.

use std::io::BufRead;

use jiff::Timestamp;

use self::columns::{Column, Columns};
use self::fields::Fields;
use self::lines::{Line, Lines};
use super::labels;
use crate::domain::gpu::record::Subject;
use crate::domain::gpu::{Blank, Device, Worker, usable};
use crate::domain::series::{MAX_VALUE_BYTES, is_name};

mod columns;
mod fields;
mod lines;

/// Longest row, bytes. Those of the reference's file have 450; all labels that a series may have, at their longest, are
/// 48 KiB.
pub const MAX_LINE_BYTES: usize = 256 << 10;

/// Bytes of `labels_raw`: all labels that a series may have fit, at their longest and unescaped.
const MAX_LABELS_BYTES: usize = 64 << 10;

/// Bytes of a bad row that are told.
pub const MAX_TOLD_BYTES: usize = 4 << 10;

/// One sample.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// ns since the epoch.
    pub at_ns: i64,
    /// Such as `DCGM_FI_DEV_GPU_UTIL`.
    pub metric: String,
    /// A value as [`usable`] lets it pass.
    pub value: f64,
    /// Of which device.
    pub device: Device,
    /// Whose work it was; empty names where the file has none.
    pub worker: Worker,
    /// Further labels, in exposition syntax, as the file has them; they can be read.
    pub labels_raw: String,
}

/// What a line is.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// A sample.
    Row(Box<Row>),
    /// No sample.
    Bad(Bad),
    /// A sample without a value.
    Blank(Blank),
}

/// A bad row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    /// Line of the file, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub reason: Reason,
    /// Its first [`MAX_TOLD_BYTES`]; what is no UTF-8 in it is replaced.
    pub text: String,
}

/// What is wrong with a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// Longer than [`MAX_LINE_BYTES`].
    TooLong,
    /// The file ends within it.
    Truncated,
    /// It is no UTF-8, or has a NUL.
    Text,
    /// A quote where none may be, or none where one must be.
    Quotes,
    /// More or fewer fields than there are columns.
    Columns,
    /// No time in RFC 3339.
    Timestamp,
    /// No name of a metric.
    Metric,
    /// No number.
    Value,
    /// Neither a uuid, nor a device's name, nor a host with an index.
    Device,
    /// A field that is too long for a label.
    Field,
    /// `labels_raw` is no list of labels, or with the columns more than a series may have.
    Labels,
}

impl Reason {
    /// Its word in files and summaries.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Truncated => "truncated",
            Self::Text => "text",
            Self::Quotes => "quotes",
            Self::Columns => "columns",
            Self::Timestamp => "timestamp",
            Self::Metric => "metric",
            Self::Value => "value",
            Self::Device => "device",
            Self::Field => "field",
            Self::Labels => "labels",
        }
    }
}

/// Why a file cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk, or whatever is read.
    #[error("cannot read on after line {line}")]
    Read {
        /// The last line that was read.
        line: u64,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Its first line names no DCGM columns.
    #[error("the first line names no columns of DCGM samples: {0}")]
    Header(String),
}

/// The rows of a file.
pub struct Reader<R> {
    lines: Lines<R>,
    columns: Columns,
    fields: Fields,
}

impl<R: BufRead> Reader<R> {
    /// Reads the column names.
    ///
    /// # Errors
    /// [`Error`].
    pub fn new(input: R) -> Result<Self, Error> {
        let mut lines = Lines::new(input);
        let mut fields = Fields::default();
        let columns = Columns::read(&mut lines, &mut fields)?;
        Ok(Self { lines, columns, fields })
    }

    /// Columns that are named and of no use here.
    #[must_use]
    pub fn unknown_columns(&self) -> &[String] {
        &self.columns.unknown
    }

    /// Bytes read so far.
    #[must_use]
    pub const fn read_bytes(&self) -> u64 {
        self.lines.read_bytes
    }

    /// The next line; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn next_item(&mut self) -> Result<Option<Item>, Error> {
        loop {
            let number = self.lines.number + 1;
            let line = match self.lines.next_line() {
                Ok(Some(line)) => line,
                Ok(None) => return Ok(None),
                Err(source) => return Err(Error::Read { line: number - 1, source }),
            };
            if line.bytes.is_empty() && !line.is_cut {
                continue;
            }
            let item = match row(&line, &self.columns, &mut self.fields) {
                Ok(item) => item,
                Err(reason) => {
                    // What is wrong with an unfinished line is that it is unfinished.
                    let reason =
                        if line.is_last_and_open && !line.is_cut { Reason::Truncated } else { reason };
                    Item::Bad(Bad { line: number, reason, text: told(line.bytes) })
                }
            };
            return Ok(Some(item));
        }
    }
}

fn row(line: &Line<'_>, columns: &Columns, fields: &mut Fields) -> Result<Item, Reason> {
    if line.is_cut {
        return Err(Reason::TooLong);
    }
    fields.split(line.bytes)?;
    if fields.len() != columns.count {
        return Err(Reason::Columns);
    }
    let field = |column: Column| columns.place(column).map_or("", |place| fields.get(place));
    let at = field(Column::Timestamp).parse::<Timestamp>().map_err(|_| Reason::Timestamp)?;
    let at_ns = i64::try_from(at.as_nanosecond()).map_err(|_| Reason::Timestamp)?;
    let metric = field(Column::MetricName);
    if !is_name(metric, true) {
        return Err(Reason::Metric);
    }
    let label = |column: Column| -> Result<String, Reason> {
        let text = field(column);
        if text.len() > MAX_VALUE_BYTES { Err(Reason::Field) } else { Ok(text.to_owned()) }
    };
    let device = Device {
        gpu: label(Column::GpuId)?,
        device: label(Column::Device)?,
        uuid: label(Column::Uuid)?,
        model_name: label(Column::ModelName)?,
        hostname: label(Column::Hostname)?,
        ..Device::default()
    };
    let worker = Worker {
        namespace: label(Column::Namespace)?,
        pod: label(Column::Pod)?,
        container: label(Column::Container)?,
    };
    let labels_raw = field(Column::LabelsRaw);
    if labels_raw.len() > MAX_LABELS_BYTES {
        return Err(Reason::Field);
    }
    let further = labels::parse(labels_raw).map_err(|_| Reason::Labels)?;
    let subject = Subject::new(device, worker, &further).ok_or(Reason::Device)?;
    // As the receiver makes them: what is sent can be stored.
    subject.labels(metric, &further).map_err(|_| Reason::Labels)?;
    let Subject { mut device, worker } = subject;
    for (name, value) in further {
        match &*name {
            "DCGM_FI_DRIVER_VERSION" => device.driver_version = value,
            "pci_bus_id" => device.pci_bus_id = value,
            "GPU_I_ID" => device.instance_id = value,
            "GPU_I_PROFILE" => device.instance_profile = value,
            _ => {}
        }
    }
    let value = match field(Column::Value).trim() {
        "" | "N/A" => return Ok(Item::Blank(Blank::Empty)),
        text => text.parse::<f64>().map_err(|_| Reason::Value)?,
    };
    Ok(match usable(value) {
        Err(blank) => Item::Blank(blank),
        Ok(value) => Item::Row(Box::new(Row {
            at_ns,
            metric: metric.to_owned(),
            value,
            device,
            worker,
            labels_raw: labels_raw.to_owned(),
        })),
    })
}

fn told(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_TOLD_BYTES)]).into_owned()
}

#[cfg(test)]
mod tests;
