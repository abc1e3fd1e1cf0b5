//! The status as one screen of aligned text, for a person with curl.
//!
//! Names of schedulers, pods and processes come from outside: control characters in them are shown as `?`, so
//! that no pod can write escape sequences to an operator's terminal. Columns are cut, never wrapped.

use super::{Delivery, Node, Pods, Scheduler, Source, Status, Waiting, Watchdog};
use crate::api::table::{MAX_CELL, MAX_SENTENCE, absent_fields, clean, line, table};

const BOLD: &str = "\x1b[1m";
const PLAIN: &str = "\x1b[0m";

/// Renders the status; `color` adds ANSI codes to headings.
pub fn render(status: &Status, color: bool) -> String {
    let mut out = String::new();
    header(&mut out, &status.node, color);
    scheduler(&mut out, &status.scheduler, color);
    sources(&mut out, &status.sources, color);
    pods(&mut out, &status.pods, color);
    delivery(&mut out, &status.delivery, color);
    out
}

fn header(out: &mut String, node: &Node, color: bool) {
    let (on, off) = if color { (BOLD, PLAIN) } else { ("", "") };
    line(
        out,
        &format!(
            "{on}sextant {}{off} on {}, kernel {}, up {}, {}",
            node.version,
            clean(&node.name, MAX_CELL),
            clean(&node.kernel, MAX_CELL),
            duration(node.uptime_s.saturating_mul(1_000)),
            node.timestamp
        ),
    );
}

fn scheduler(out: &mut String, scheduler: &Scheduler, color: bool) {
    heading(out, "SCHEDULER", color);
    let mut facts = vec![match &scheduler.ops {
        Some(ops) => format!("{} {}", clean(ops, MAX_CELL), scheduler.state),
        None => scheduler.state.clone(),
    }];
    facts.extend(scheduler.user_pid.map(|pid| format!("pid {pid}")));
    facts.extend(scheduler.enable_seq.map(|seq| format!("enabled {seq} times since boot")));
    facts.extend(
        scheduler.switch_all.map(|all| if all { "all tasks" } else { "only SCHED_EXT tasks" }.into()),
    );
    facts.push(format!("{} variables", scheduler.variables));
    facts.push(format!("read {} ago", duration(scheduler.age_ms)));
    line(out, &format!("  {}", facts.join(", ")));
    if !scheduler.gauges.is_empty() {
        let gauges: Vec<_> = scheduler.gauges.iter().map(|(name, value)| format!("{name} {value}")).collect();
        line(out, &format!("  {}", gauges.join(", ")));
    }
    let rows = scheduler.counters.iter().map(|counter| {
        let rate = counter.per_second.map_or_else(|| "-".into(), |rate| format!("{rate:.1}/s"));
        vec![clean(&counter.name, MAX_CELL), rate, counter.total.to_string()]
    });
    table(out, &["counter", "rate", "total"], &[false, true, true], rows.collect());
    absent_fields(out, &scheduler.absent);
    if let Some(watchdog) = &scheduler.watchdog {
        line(out, &format!("  watchdog: {}", clean(&margin(watchdog), MAX_SENTENCE)));
    }
    if let Some(exit) = &scheduler.last_exit {
        let msg = if exit.msg.is_empty() { String::new() } else { format!(": {}", exit.msg) };
        let text = format!("last exit: {} ended as {} ({}){msg}", exit.ops, exit.kind, exit.reason);
        line(out, &format!("  {}", clean(&text, MAX_SENTENCE)));
    }
}

fn margin(watchdog: &Watchdog) -> String {
    let margin = &watchdog.margin;
    let mut facts = Vec::new();
    let of = match (margin.timeout_ns, watchdog.share) {
        (Some(timeout_ns), Some(share)) => format!(" of {} ({:.0} %)", short(timeout_ns), share * 100.0),
        _ => String::new(),
    };
    match (&margin.longest, margin.timeout_ns) {
        (Some(wait), _) => {
            let whose = watchdog.pod.as_ref().map_or_else(String::new, |pod| format!(" in {pod}"));
            facts.push(format!("{}[{}]{whose} waits {}{of}", wait.comm, wait.tid, short(wait.wait_ns)));
            facts.extend(margin.waiting.map(|waiting| format!("{waiting} waiting")));
        }
        (None, Some(timeout_ns)) if margin.absent.is_none() => {
            facts.push(format!("nobody waits, timeout {}", short(timeout_ns)));
        }
        (None, _) => {}
    }
    let longest_ns = margin.longest_of_epoch_ns.filter(|&wait_ns| wait_ns > 0);
    facts.extend(longest_ns.map(|wait_ns| format!("longest so far {}", short(wait_ns))));
    if watchdog.warnings > 0 {
        facts.push(format!("warnings {}", watchdog.warnings));
    }
    facts.extend(margin.absent.clone());
    facts.join(", ")
}

fn sources(out: &mut String, sources: &[Source], color: bool) {
    heading(out, "SOURCES", color);
    let rows = sources.iter().map(|source| {
        vec![
            clean(&source.name, MAX_CELL),
            source.condition.clone(),
            source.age_ms.map_or_else(|| "never".into(), |age| format!("{} ago", duration(age))),
            format!("{:.1} ms", micros_as_ms(source.last_duration_us)),
            source.collections.to_string(),
            source.failures.to_string(),
        ]
    });
    let columns = ["source", "condition", "last success", "took", "collections", "failures"];
    table(out, &columns, &[false, false, true, true, true, true], rows.collect());
    for source in sources {
        for lack in source
            .lacks
            .iter()
            .map(|lack| ("lacks", lack))
            .chain(source.last_error.iter().map(|e| ("failed", e)))
        {
            line(out, &format!("  {} {}: {}", source.name, lack.0, clean(lack.1, MAX_SENTENCE)));
        }
    }
}

fn pods(out: &mut String, pods: &Pods, color: bool) {
    heading(out, "PODS", color);
    let Some(age_ms) = pods.age_ms else {
        return line(out, "  no walk of the processes yet");
    };
    line(
        out,
        &format!(
            "  {} pods with {} processes, {} processes outside pods, walked {} ago",
            pods.total,
            pods.tasks,
            pods.host_tasks,
            duration(age_ms)
        ),
    );
    let rows = pods.top.iter().map(|pod| {
        vec![
            clean(pod.namespace.as_deref().unwrap_or("?"), MAX_CELL),
            clean(pod.name.as_deref().unwrap_or(&pod.uid), MAX_CELL),
            pod.qos.clone(),
            pod.containers.to_string(),
            pod.tasks.to_string(),
            pod.threads.to_string(),
            pod.cpu_cores.map_or_else(|| "-".into(), |cores| format!("{cores:.2}")),
            pod.throttled_ratio.map_or_else(|| "-".into(), |ratio| format!("{:.0} %", ratio * 100.0)),
            memory(pod.memory_working_set_bytes, pod.memory_limit_bytes),
        ]
    });
    let columns =
        ["namespace", "pod", "qos", "containers", "processes", "threads", "cpus", "throttled", "memory"];
    table(out, &columns, &[false, false, false, true, true, true, true, true, true], rows.collect());
    waiting(out, &pods.waiting);
}

fn waiting(out: &mut String, pods: &[Waiting]) {
    let rows = pods.iter().map(|pod| {
        let recent = &pod.recent;
        let share = |wait_ns: u64| share(wait_ns, recent.wait_ns);
        let first = recent.neighbours.first();
        let because = first.map(|first| format!("{} {}", share(first.wait_ns), clean(&first.name, MAX_CELL)));
        vec![
            clean(pod.namespace.as_deref().unwrap_or("?"), MAX_CELL),
            clean(pod.name.as_deref().unwrap_or(&pod.uid), MAX_CELL),
            recent.p50_ns.map_or_else(|| "-".into(), short),
            recent.p99_ns.map_or_else(|| "-".into(), short),
            short(pod.longest_recent_wait_ns),
            short(recent.wait_ns.saturating_mul(1_000) / recent.interval_ms.max(1)),
            because.unwrap_or_else(|| "-".into()),
        ]
    });
    let columns = ["namespace", "pod", "wait p50", "p99", "max", "per second", "because of"];
    table(out, &columns, &[false, false, true, true, true, true, false], rows.collect());
}

/// `37 %`
fn share(part: u64, whole: u64) -> String {
    let per_cent = u128::from(part) * 100 / u128::from(whole.max(1));
    format!("{per_cent} %")
}

/// A duration in three digits and a unit: `850 ns`, `12.5 us`, `131 ms`, `2.40 s`.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn short(ns: u64) -> String {
    let (value, unit) = match ns {
        0..1_000 => return format!("{ns} ns"),
        1_000..1_000_000 => (ns as f64 / 1e3, "us"),
        1_000_000..1_000_000_000 => (ns as f64 / 1e6, "ms"),
        _ => (ns as f64 / 1e9, "s"),
    };
    match value {
        ..9.995 => format!("{value:.2} {unit}"),
        ..99.95 => format!("{value:.1} {unit}"),
        _ => format!("{value:.0} {unit}"),
    }
}

fn delivery(out: &mut String, delivery: &Delivery, color: bool) {
    heading(out, "DELIVERY", color);
    let Some(accounts) = &delivery.accounts else {
        return line(out, "  off: no receiver is configured");
    };
    let dropped: u64 = accounts.dropped.values().fold(0, |sum, &count| sum.saturating_add(count));
    let lag = delivery.lag_ms.map_or_else(|| "none".into(), duration);
    line(
        out,
        &format!(
            "  {} records produced, {} acknowledged, {} spooled ({} bytes), {dropped} dropped, lag {lag}",
            accounts.produced, accounts.acknowledged, accounts.spooled, accounts.spooled_bytes
        ),
    );
    for (reason, count) in accounts.dropped.iter().filter(|(_, count)| **count > 0) {
        line(out, &format!("  dropped {count}: {}", clean(reason, MAX_CELL)));
    }
    if let Some(why) = &delivery.degraded {
        line(out, &format!("  degraded: {}", clean(why, MAX_SENTENCE)));
    }
    let rows = delivery.receivers.iter().map(|receiver| {
        vec![
            clean(&receiver.url, MAX_CELL),
            clean(&receiver.state, MAX_CELL),
            receiver.last_ack_age_ms.map_or_else(|| "never".into(), |age| format!("{} ago", duration(age))),
            clean(receiver.last_error.as_deref().unwrap_or("-"), MAX_SENTENCE),
        ]
    });
    table(
        out,
        &["receiver", "state", "last ack", "last error"],
        &[false, false, true, false],
        rows.collect(),
    );
}

fn heading(out: &mut String, text: &str, color: bool) {
    let (on, off) = if color { (BOLD, PLAIN) } else { ("", "") };
    line(out, &format!("\n{on}{text}{off}"));
}

/// Two units at most: `850 ms`, `12 s`, `3 min 20 s`, `5 h 2 min`, `9 d 4 h`.
fn duration(ms: u64) -> String {
    let s = ms / 1_000;
    match s {
        0 => format!("{ms} ms"),
        1..60 => format!("{s} s"),
        60..3_600 => format!("{} min {} s", s / 60, s % 60),
        3_600..86_400 => format!("{} h {} min", s / 3_600, s % 3_600 / 60),
        _ => format!("{} d {} h", s / 86_400, s % 86_400 / 3_600),
    }
}

/// Working set, and the limit where there is one: `12.0 / 64.0 MiB`.
#[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
fn memory(working_set_bytes: Option<u64>, limit_bytes: Option<u64>) -> String {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    match (working_set_bytes, limit_bytes) {
        (None, _) => "-".to_owned(),
        (Some(used), None) => format!("{:.1} MiB", mib(used)),
        (Some(used), Some(limit)) => format!("{:.1} / {:.1} MiB", mib(used), mib(limit)),
    }
}

#[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
fn micros_as_ms(us: u64) -> f64 {
    us as f64 / 1_000.0
}

#[cfg(test)]
mod tests;
