//! The reference's own metric names: bare `nr_queued` ... and `user_sched_last_run_at`, all gauges with the
//! label `machine_id`. Behind a switch, because bare names collide with other exporters'.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use tokio::sync::watch;

use super::{Number, Writer};
use crate::domain::bss::BssField;
use crate::domain::scheduler::SchedulerReading;

/// Reads the latest snapshot at each scrape.
#[derive(Debug)]
pub struct ReferenceCollector {
    /// The latest reading of the scheduler.
    pub scheduler: watch::Receiver<Arc<SchedulerReading>>,
    /// Value of the label.
    pub machine_id: String,
}

impl Collector for ReferenceCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut writer = Writer(encoder);
        let record = self.scheduler.borrow().bss;
        record.iter().try_for_each(|(field, value)| {
            let name = match field {
                BssField::UserschedPid => return Ok(()), // the reference has no such metric
                BssField::UserschedLastRunAt => "user_sched_last_run_at",
                other => other.name(),
            };
            let labels = [("machine_id", self.machine_id.clone())];
            let samples = value.map(|value| (labels, Number::Unsigned(value)));
            writer.gauges(
                (name, "Field of the BSS record, under the name that the BSS Metrics API Server uses"),
                None,
                samples,
            )
        })
    }
}
