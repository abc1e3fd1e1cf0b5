//! The maps of the life at hand: found, opened, and read again and again.

use std::path::Path;

use super::epoch::Life;
use super::image::Image;
use super::maps::{MapReader, ReadError};
use super::record::Fields;
use super::struct_ops::{self, Shape, StructOps};
use super::user::Search;
use crate::domain::bss::BssField;
use crate::domain::scheduler::{Epoch, SchedulerReading};

/// The maps of the life at hand.
pub(super) enum Maps {
    /// Not opened: why, after how many collections the next try comes, and how many it will be then.
    Closed { why: String, wait: u32, next_wait: u32 },
    /// Open.
    Open(Box<Opened>),
}

pub(super) struct Opened {
    pub(super) image: Image,
    timeout_ns: Option<u64>,
    fields: Fields,
    pub(super) search: Search,
}

impl Maps {
    pub(super) const NOT_TRIED: Self = Self::Closed { why: String::new(), wait: 0, next_wait: 1 };

    /// The scheduler's timeout, or why it is not known.
    pub(super) fn timeout_ns(&self) -> Result<u64, String> {
        match self {
            Self::Open(opened) => {
                opened.timeout_ns.ok_or_else(|| "this kernel does not show the timeout".to_owned())
            }
            Self::Closed { why, .. } => Err(format!("the timeout is not known: {why}")),
        }
    }
}

/// Opens the maps of schedulers, one after the other.
pub(super) struct Opener {
    reader: Box<dyn MapReader + Send>,
    /// Where a struct_ops value keeps what: fixed for as long as the kernel runs.
    shape: Option<Shape>,
    large_ns: u64,
}

impl Opener {
    /// Large copied sections are read at most every `large_ms`.
    pub(super) fn new(reader: Box<dyn MapReader + Send>, large_ms: u64) -> Self {
        Self { reader, shape: None, large_ns: large_ms.saturating_mul(1_000_000) }
    }

    /// Opens every section of the scheduler.
    ///
    /// # Errors
    /// It has ended meanwhile, or the kernel does not show its maps.
    pub(super) fn open(&mut self, ops: &str) -> Result<Opened, ReadError> {
        let found = self.find(ops)?;
        let image = Image::open(self.reader.as_mut(), &found, self.large_ns)?;
        let fields = Fields::find(&image.layout);
        tracing::debug!(
            ops,
            struct_ops_map_id = found.info.id,
            variables = image.layout.variables.len(),
            sections = image.layout.sections.len(),
            "scheduler's maps opened"
        );
        Ok(Opened { image, timeout_ns: found.timeout_ns, fields, search: Search::Idle })
    }

    /// The struct_ops map of the scheduler.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub(super) fn find(&mut self, ops: &str) -> Result<StructOps, ReadError> {
        if self.shape.is_none() {
            self.shape = Some(struct_ops::kernel_shape(self.reader.as_mut(), "sched_ext_ops")?);
        }
        let Some(shape) = &self.shape else { return Err(ReadError::NoStructOps { ops: ops.to_owned() }) };
        struct_ops::find(self.reader.as_mut(), shape, ops)
    }
}

impl Opened {
    /// Fills what the maps say into `reading`.
    ///
    /// # Errors
    /// A copy that failed.
    pub(super) fn sample(
        &mut self,
        life: &Life,
        proc: &Path,
        reading: &mut SchedulerReading,
    ) -> Result<(), ReadError> {
        let Self { image, fields, search, .. } = self;
        let struct_ops_map_id = image.struct_ops_map_id;
        reading.epoch = Some(Epoch { enable_seq: life.enable_seq, struct_ops_map_id });
        reading.layout = image.layout.clone();
        reading.raw = Vec::with_capacity(image.layout.variables.len());
        image.sampler.sample(reading.mono_ns, &mut reading.raw)?;
        reading.bss = fields.record(&image.layout, &reading.raw);
        let pid = reading.bss.get(BssField::UserschedPid).and_then(|pid| u32::try_from(pid).ok());
        reading.user_pid = pid.filter(|&pid| pid != 0).or_else(|| {
            if matches!(search, Search::Idle) {
                *search = Search::start(proc, struct_ops_map_id);
            }
            search.poll()
        });
        Ok(())
    }
}
