//! A life that ended: its exit record is awaited for a few collections, then said exactly once.
//!
//! sysfs may show the end a moment before the scheduler's exit callback has written the record, and a
//! scheduler whose maps could not be opened has none to show.

use super::epoch::Life;
use super::image::Image;
use crate::domain::exit::{ExitKind, SchedulerExit};

/// An ended life, its maps still open.
pub(super) struct Ended {
    life: Life,
    /// The maps, or why there are none.
    image: Result<Image, String>,
    looks_left: u32,
    noticed_at_ns: i64,
}

/// The end of a life of which only the number is known.
pub(super) fn unseen(enable_seq: u64, noticed_at_ns: i64) -> SchedulerExit {
    let why = "it began and ended between two looks".to_owned();
    Ended::new(Life::unseen(enable_seq), Err(why), 1, noticed_at_ns).give_up()
}

impl Ended {
    /// A life that was found ended at `noticed_at_ns`; its record is looked for `looks` times.
    pub(super) const fn new(
        life: Life,
        image: Result<Image, String>,
        looks: u32,
        noticed_at_ns: i64,
    ) -> Self {
        Self { life, image, looks_left: looks, noticed_at_ns }
    }

    /// One look: the exit, once it is known or given up.
    pub(super) fn look(&mut self) -> Option<SchedulerExit> {
        self.looks_left = self.looks_left.saturating_sub(1);
        let image = match &self.image {
            Ok(image) => image,
            Err(why) => return Some(self.unread(why)),
        };
        match image.exit_info() {
            Ok(Some(info)) => Some(SchedulerExit {
                kind: info.kind,
                exit_code: info.exit_code,
                reason: info.reason,
                msg: info.msg,
                ..self.exit(format!("read from {}", image.exit_place()))
            }),
            Ok(None) if self.looks_left > 0 => None,
            Ok(None) => Some(self.unread(&format!("nothing was written to {}", image.exit_place()))),
            Err(why) => Some(self.unread(&why)),
        }
    }

    /// The exit without a record, for when no more time is left.
    pub(super) fn give_up(&mut self) -> SchedulerExit {
        self.looks_left = 1;
        self.look().unwrap_or_else(|| self.unread("no time was left to wait for it"))
    }

    fn unread(&self, why: &str) -> SchedulerExit {
        self.exit(format!("exit record unreadable: {why}"))
    }

    fn exit(&self, detail: String) -> SchedulerExit {
        SchedulerExit {
            ops: self.life.ops.clone(),
            enable_seq: self.life.enable_seq,
            kind: ExitKind::None,
            exit_code: 0,
            reason: String::new(),
            msg: String::new(),
            detail,
            noticed_at_ns: self.noticed_at_ns,
        }
    }
}
