//! What the source says of itself.

use std::error::Error;
use std::fmt::Write;

use tokio::time::Instant;

use crate::domain::scheduler::State;
use crate::domain::source::{Condition, SourceHealth};

/// Why there is nothing to read on most kernels.
pub(super) const NO_SCHED_EXT: &str =
    "this kernel has no sched_ext: it takes Linux 6.12 or newer, built with CONFIG_SCHED_CLASS_EXT=y";

#[derive(Debug)]
pub(super) struct Health(SourceHealth);

impl Default for Health {
    fn default() -> Self {
        Self(SourceHealth { name: "scheduler", ..SourceHealth::default() })
    }
}

impl Health {
    pub(super) fn start(&self) -> Instant {
        Instant::now()
    }

    pub(super) fn report(&self) -> SourceHealth {
        self.0.clone()
    }

    /// sysfs itself could not be read.
    pub(super) fn unreadable(&mut self, started: Instant, error: &dyn Error) {
        self.0.condition = Condition::Off;
        self.0.lacks = vec![error.to_string()];
        self.0.last_error = Some(with_source(error));
        self.0.failures += 1;
        self.took(started);
    }

    /// sysfs was read; `trouble` is what kept the variables away, `lacks` what else is missing.
    pub(super) fn done(
        &mut self,
        started: Instant,
        at_ns: i64,
        state: &State,
        trouble: Option<String>,
        lacks: Vec<String>,
    ) {
        (self.0.condition, self.0.lacks) = match (state, &trouble) {
            (State::Unsupported, _) => (Condition::Off, vec![NO_SCHED_EXT.to_owned()]),
            (_, Some(trouble)) => {
                (Condition::Degraded, vec![format!("{trouble}; variables and exit reasons are not read")])
            }
            (_, None) => (Condition::Up, Vec::new()),
        };
        if !lacks.is_empty() {
            self.0.condition = Condition::Degraded;
            self.0.lacks.extend(lacks);
        }
        if trouble.is_some() {
            self.0.failures += 1;
        } else {
            self.0.collections += 1;
            self.0.last_success_at_ns = Some(at_ns);
        }
        self.0.last_error = trouble;
        self.took(started);
    }

    fn took(&mut self, started: Instant) {
        self.0.last_duration_ns = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
    }
}

/// The error with the reasons below it that its own text leaves out.
pub(super) fn with_source(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let reason = error.to_string();
        if !text.contains(&reason) {
            // Writing to a string cannot fail.
            let _ = write!(text, ": {reason}");
        }
        source = error.source();
    }
    text
}
