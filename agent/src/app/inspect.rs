//! `sextant inspect`: one look at one thing, without a running node. Tables for people, `--json` for scripts.

use std::io::{BufRead, Read, Write};
use std::path::Path;

use anyhow::{Context, Result};

use crate::api::inspect::Cgroup;
use crate::api::pods::Pods;
use crate::api::scheduler::Scheduler;
use crate::api::table::{MAX_CELL, absent_fields, clean, line, table};
use crate::cli::Inspect;
use crate::config;
use crate::delivery::spool;
use crate::host::HostRoots;
use crate::sources::{pods, scheduler};

/// Longest line taken from standard input, bytes: a path of the kernel's greatest length and more.
const MAX_LINE_BYTES: u64 = 64 << 10;

/// Runs one inspection and prints it.
///
/// # Errors
/// When it cannot be read at all, or standard output is gone.
pub fn run(what: &Inspect) -> Result<()> {
    match what {
        Inspect::Cgroup { paths } => cgroup(paths),
        Inspect::Bss { json, roots } => bss(&config::roots(roots), *json),
        Inspect::Pods { json, roots } => pod_map(&config::roots(roots), *json),
        Inspect::Spool { dir, json } => spool_accounts(dir, *json),
    }
}

fn cgroup(paths: &[String]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    for path in paths {
        if path == "-" {
            let mut input = std::io::stdin().lock();
            while let Some(text) = next_line(&mut input)? {
                describe(&mut out, &text)?;
            }
        } else {
            // A whole /proc/PID/cgroup may be one argument: an object per line.
            for text in path.lines() {
                describe(&mut out, text)?;
            }
        }
    }
    Ok(out.flush()?)
}

fn describe(out: &mut impl Write, text: &str) -> Result<()> {
    let object = Cgroup::new(text, &pods::cgroup::describe(text));
    Ok(writeln!(out, "{}", serde_json::to_string(&object)?)?)
}

/// The next line without its end; a longer one than any path is cut, its rest comes as further lines.
fn next_line(input: &mut impl BufRead) -> Result<Option<String>> {
    let mut bytes = Vec::new();
    if input.take(MAX_LINE_BYTES).read_until(b'\n', &mut bytes)? == 0 {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&bytes);
    Ok(Some(text.trim_end_matches(['\n', '\r']).to_owned()))
}

fn bss(roots: &HostRoots, json: bool) -> Result<()> {
    let reader = Box::new(scheduler::KernelReader::new(roots));
    let reading = scheduler::snapshot(roots, reader, super::wall_ns());
    let wire = Scheduler::from(&reading);
    if json {
        return print_json(&wire);
    }
    let mut text = String::new();
    let name = wire.ops.as_deref().unwrap_or("no scheduler");
    line(&mut text, &format!("{}: {}", clean(name, MAX_CELL), wire.state));
    let rows = wire.variables.iter().map(|variable| {
        let value = variable.label.as_ref().map_or_else(
            || variable.value.to_string(),
            |label| format!("{} ({})", variable.value, clean(label, MAX_CELL)),
        );
        let name = clean(&variable.name, MAX_CELL);
        vec![variable.section.clone(), name, clean(&variable.ty, MAX_CELL), value]
    });
    table(&mut text, &["section", "variable", "type", "value"], &[false, false, false, true], rows.collect());
    absent_fields(&mut text, &wire.bss_absent);
    if !wire.unread.is_empty() {
        line(&mut text, &format!("  {} more are listed but not read; --json names them", wire.unread.len()));
    }
    print(&text)
}

fn pod_map(roots: &HostRoots, json: bool) -> Result<()> {
    let mut source = pods::PodsSource::new(roots.clone(), pods::Config::default());
    let map = source.collect(super::wall_ns());
    let wire = Pods::from(&*map);
    if json {
        return print_json(&wire);
    }
    let mut text = String::new();
    let rows = wire.pods.iter().flat_map(|pod| pod.containers.iter().map(move |container| (pod, container)));
    let rows = rows.map(|(pod, container)| {
        let name = |name: &Option<String>| clean(name.as_deref().unwrap_or("?"), MAX_CELL);
        vec![
            name(&pod.namespace),
            clean(pod.name.as_deref().unwrap_or(&pod.uid), MAX_CELL),
            container.name.as_deref().map_or_else(|| container.kind.clone(), |name| clean(name, MAX_CELL)),
            pod.qos.clone(),
            container.processes.len().to_string(),
            container.threads.to_string(),
        ]
    });
    let columns = ["namespace", "pod", "container", "qos", "processes", "threads"];
    table(&mut text, &columns, &[false, false, false, false, true, true], rows.collect());
    let host = &wire.host;
    line(
        &mut text,
        &format!("{} pods; host: {} processes, {} threads", wire.pods.len(), host.tasks, host.threads),
    );
    for health in source.health() {
        for lack in health.lacks.iter().chain(&health.last_error) {
            line(&mut text, &format!("{}: {lack}", health.name));
        }
    }
    print(&text)
}

fn spool_accounts(dir: &Path, json: bool) -> Result<()> {
    let accounts = spool::inspect(dir).with_context(|| {
        format!("cannot read the spool in {}; a running node's /status has it", dir.display())
    })?;
    if json {
        return print_json(&accounts);
    }
    let mut text = String::new();
    line(&mut text, &format!("produced      {}", accounts.produced));
    line(&mut text, &format!("acknowledged  {}", accounts.acknowledged));
    line(&mut text, &format!("spooled       {} ({} bytes)", accounts.spooled, accounts.spooled_bytes));
    for (reason, count) in accounts.dropped.iter().filter(|(_, count)| **count > 0) {
        line(&mut text, &format!("dropped       {count} ({reason})"));
    }
    print(&text)
}

fn print_json(value: &impl serde::Serialize) -> Result<()> {
    print(&(serde_json::to_string_pretty(value)? + "\n"))
}

fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
