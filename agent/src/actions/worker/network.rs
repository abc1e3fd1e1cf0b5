//! A disturbed network as a worker's task; what it is, see [`crate::actions::network`].

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;

use super::Task;
use super::clock::{Clock, since_boot_ns};
use crate::actions::network::{Order, Running, Seen, begin};
use crate::actions::order::Measure;

const THOUSANDTHS_OF_PERCENT: u64 = 100_000;

pub(super) struct Network {
    running: Running,
    measure: Measure,
    delay_ns: u64,
    seen: Seen,
}

impl Network {
    pub(super) fn begin(order: &Order, measure: Measure) -> Result<Self, String> {
        let running = begin(order)?;
        Ok(Self { running, measure, delay_ns: order.fault.delay_ns, seen: Seen::default() })
    }
}

impl Task for Network {
    fn turn(&mut self, clock: Clock, until_ns: u64) -> Result<(), String> {
        let left_ns = until_ns.saturating_sub(clock.elapsed_ns());
        let stdin = std::io::stdin();
        // Whoever closes it is heard by the caller, too.
        self.running.run_until(since_boot_ns().saturating_add(left_ns), Some(stdin.as_fd()))?;
        Ok(())
    }

    fn amount(&mut self) -> Option<u64> {
        // An interface that is gone ends the next turn, with its reason.
        self.seen = self.running.seen().unwrap_or(self.seen);
        let Seen { matched, released, released_bytes, dropped, duplicated, corrupted, late_p50_ns, .. } =
            self.seen;
        let share =
            |count: u64| (matched > 0).then(|| count.saturating_mul(THOUSANDTHS_OF_PERCENT) / matched);
        match self.measure {
            Measure::Delay => (released > 0).then(|| (self.delay_ns + late_p50_ns) / 1_000),
            Measure::Bits => Some(released_bytes.saturating_mul(8)),
            Measure::Lost => share(dropped),
            Measure::Duplicated => share(duplicated),
            Measure::Corrupted => share(corrupted),
        }
    }

    fn details(&self) -> BTreeMap<String, u64> {
        let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(self.seen) else {
            return BTreeMap::new();
        };
        let number = |value: &serde_json::Value| value.as_u64().or_else(|| value.as_bool().map(u64::from));
        fields.iter().filter_map(|(name, value)| Some((name.clone(), number(value)?))).collect()
    }
}
