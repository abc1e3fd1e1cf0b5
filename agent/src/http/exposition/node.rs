//! What the node read: the scheduler, its variables and events, and the state of every source. Pods are counted
//! by their source's own metrics.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;
use tokio::sync::watch;

use super::{Number, Writer, seconds};
use crate::domain::scheduler::{SchedulerReading, State, Value};
use crate::domain::source::{Condition, SourceHealth};

/// Series of one scheduler's variables: several times what the largest known scheduler has; what is beyond is
/// counted, and `/api/v1/schedulers` has it.
const MAX_VARIABLES: usize = 2_000;

/// Reads the latest snapshots at each scrape.
#[derive(Debug)]
pub struct NodeCollector {
    /// The latest reading of the scheduler.
    pub scheduler: watch::Receiver<Arc<SchedulerReading>>,
    /// The state of every source.
    pub sources: watch::Receiver<Vec<SourceHealth>>,
}

impl Collector for NodeCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut writer = Writer(encoder);
        let reading = Arc::clone(&self.scheduler.borrow());
        scheduler(&mut writer, &reading)?;
        variables(&mut writer, &reading)?;
        let sources = self.sources.borrow().clone();
        health(&mut writer, &sources)
    }
}

fn scheduler(writer: &mut Writer<'_>, reading: &SchedulerReading) -> fmt::Result {
    const STATES: [State; 5] =
        [State::Unsupported, State::Disabled, State::Enabling, State::Enabled, State::Disabling];
    let states = STATES.map(|state| ([("state", state.name().to_owned())], truth(state == reading.state)));
    writer.gauges(("scheduler_state", "State of sched_ext: 1 for the one it is in"), None, states)?;
    if let Some(ops) = &reading.ops {
        let labels = [
            ("ops", ops.raw.clone()),
            ("name", ops.base.clone()),
            ("version", ops.version.clone().unwrap_or_default()),
        ];
        writer.info("scheduler", "The sched_ext scheduler that is loaded", &labels)?;
    }
    let unsigned = |value: Option<u64>| value.map(Number::Unsigned);
    let help = "Schedulers enabled since boot: changes with each epoch";
    writer.gauge("scheduler_enable_seq", help, None, unsigned(reading.enable_seq))?;
    let help = "Tasks refused since the last enable";
    writer.gauge("scheduler_nr_rejected", help, None, unsigned(reading.nr_rejected))?;
    let help = "Every normal task is on the scheduler";
    writer.gauge("scheduler_switch_all", help, None, reading.switch_all.map(truth))?;
    let help = "CPU hotplug events since boot";
    writer.gauge("scheduler_hotplug_seq", help, None, unsigned(reading.hotplug_seq))?;
    let help = "Process of the scheduler's user-space part";
    writer.gauge("scheduler_user_pid", help, None, unsigned(reading.user_pid.map(u64::from)))?;
    let help = "Wall time of the last reading";
    let at = u64::try_from(reading.at_ns).ok().filter(|&at_ns| at_ns != 0);
    let at = at.map(|at_ns| Number::Float(seconds(at_ns)));
    writer.gauge("scheduler_read_timestamp", help, Some(&Unit::Seconds), at)?;
    let events = reading.events.iter().map(|(name, value)| ([("event", name.clone())], *value));
    writer.counters(
        ("scheduler_events", "The kernel's event counters, since the scheduler was loaded"),
        events,
    )?;
    watchdog(writer, reading)?;
    let Some(exit) = &reading.last_exit else { return Ok(()) };
    let labels =
        [("ops", exit.ops.clone()), ("kind", exit.kind.name().to_owned()), ("reason", exit.reason.clone())];
    writer.info("scheduler_last_exit", "How the last scheduler ended", &labels)?;
    let help = "Whether the kernel ejected the last scheduler";
    writer.gauge("scheduler_last_exit_error", help, None, Some(truth(exit.kind.is_error())))?;
    let help = "Wall time at which the last scheduler's end was noticed";
    let at = u64::try_from(exit.noticed_at_ns).ok().map(|at_ns| Number::Float(seconds(at_ns)));
    writer.gauge("scheduler_last_exit_timestamp", help, Some(&Unit::Seconds), at)
}

/// Without a scheduler there is nothing but the warnings.
fn watchdog(writer: &mut Writer<'_>, reading: &SchedulerReading) -> fmt::Result {
    let help = "Warnings that a task waits for a good part of the watchdog's timeout";
    writer.counter("scheduler_stall_warnings", help, None, Some(reading.stall_warnings))?;
    let Some(margin) = &reading.margin else { return Ok(()) };
    let (unit, in_seconds) = (Some(&Unit::Seconds), |ns: u64| Number::Float(seconds(ns)));
    let help = "How long a task may wait before the kernel ejects the scheduler";
    writer.gauge("scheduler_watchdog_timeout", help, unit, margin.timeout_ns.map(in_seconds))?;
    let longest = margin.waiting.map(|_| margin.longest.as_ref().map_or(0, |wait| wait.wait_ns));
    let help = "The longest that a task which can run waits now";
    writer.gauge("scheduler_longest_wait", help, unit, longest.map(in_seconds))?;
    let help = "The longest wait that was seen since the scheduler was loaded";
    let longest = margin.longest_of_epoch_ns.map(in_seconds);
    writer.gauge("scheduler_longest_wait_of_epoch", help, unit, longest)?;
    let help = "Tasks that can run and wait for the scheduler";
    writer.gauge("scheduler_waiting_tasks", help, None, margin.waiting.map(Number::Unsigned))
}

fn variables(writer: &mut Writer<'_>, reading: &SchedulerReading) -> fmt::Result {
    for (field, value) in reading.bss.iter() {
        let (name, help) = (format!("scheduler_{}", field.name()), "Field of the reference BSS record");
        if field.is_counter() {
            writer.counter(&name, help, None, value)?;
        } else {
            writer.gauge(&name, help, None, value.map(Number::Unsigned))?;
        }
    }
    let samples = reading.values().take(MAX_VARIABLES).map(|(variable, value)| {
        let labels = [("section", variable.section.to_string()), ("name", variable.name.clone())];
        (labels, number(&value))
    });
    let help = "Every scalar variable of the scheduler's global data";
    writer.gauges(("scheduler_variable", help), None, samples)?;
    let beyond = u64::try_from(reading.raw.len().saturating_sub(MAX_VARIABLES)).unwrap_or(u64::MAX);
    let help = "Variables beyond the limit on series";
    writer.gauge("scheduler_variables_left_out", help, None, Some(Number::Unsigned(beyond)))
}

fn health(writer: &mut Writer<'_>, sources: &[SourceHealth]) -> fmt::Result {
    let up = |source: &SourceHealth| matches!(source.condition, Condition::Up | Condition::Degraded);
    let samples = sources.iter().map(|source| ([("source", source.name)], truth(up(source))));
    writer.gauges(("source_up", "Whether the source gives anything"), None, samples)?;
    let samples = sources.iter().flat_map(|source| {
        [Condition::Starting, Condition::Up, Condition::Degraded, Condition::Off].map(|condition| {
            ([("source", source.name), ("condition", condition.name())], truth(condition == source.condition))
        })
    });
    writer.gauges(("source_condition", "Condition of the source: 1 for the one it is in"), None, samples)?;
    let samples = sources.iter().flat_map(|source| {
        [("success", source.collections), ("failure", source.failures)]
            .map(|(result, count)| ([("source", source.name), ("result", result)], count))
    });
    writer.counters(("source_collections", "Collections of the source"), samples)?;
    let samples = sources.iter().filter_map(|source| {
        let at_ns = u64::try_from(source.last_success_at_ns?).ok()?;
        Some(([("source", source.name)], Number::Float(seconds(at_ns))))
    });
    let help = "Wall time of the source's last successful collection";
    writer.gauges(("source_last_success_timestamp", help), Some(&Unit::Seconds), samples)?;
    let duration = |source: &SourceHealth| Number::Float(seconds(source.last_duration_ns));
    let samples = sources.iter().map(|source| ([("source", source.name)], duration(source)));
    writer.gauges(
        ("source_last_duration", "Duration of the source's last collection"),
        Some(&Unit::Seconds),
        samples,
    )
}

const fn number(value: &Value) -> Number {
    match value {
        Value::Unsigned(value) => Number::Unsigned(*value),
        Value::Signed(value) | Value::Enum(value, _) => Number::Signed(*value),
        Value::Bool(value) => truth(*value),
    }
}

const fn truth(value: bool) -> Number {
    Number::Unsigned(value as u64)
}
