//! A second opinion on what the kernel holds: the same maps as `bpftool` shows them.

#![expect(clippy::disallowed_methods, reason = "runs bpftool")]

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Runs `bpftool -j` with these arguments.
///
/// # Errors
/// If it cannot be started, fails, or prints no JSON.
pub fn json(arguments: &[&str]) -> Result<Value> {
    let done = Command::new("bpftool").arg("-j").args(arguments).output().context("cannot start bpftool")?;
    // With -j it says what is wrong on its standard output.
    let said = String::from_utf8_lossy(if done.stderr.is_empty() { &done.stdout } else { &done.stderr });
    ensure!(done.status.success(), "bpftool {arguments:?} failed ({}): {said}", done.status);
    serde_json::from_slice(&done.stdout).with_context(|| format!("bpftool {arguments:?} printed no JSON"))
}

/// The ids of the loaded maps whose name ends so, such as `.bss`.
///
/// # Errors
/// As [`json`].
pub fn maps_named(end: &str) -> Result<Vec<u64>> {
    let maps = json(&["map", "list"])?;
    let maps = maps.as_array().context("bpftool's list of maps is no list")?;
    let named = maps.iter().filter(|map| map["name"].as_str().is_some_and(|name| name.ends_with(end)));
    Ok(named.filter_map(|map| map["id"].as_u64()).collect())
}

/// The variables of a data section (`.bss`, `.data`, `.rodata`) kept in map `id`.
///
/// # Errors
/// As [`json`], or if the map has no such section by its BTF.
pub fn section(id: u64, name: &str) -> Result<BTreeMap<String, Value>> {
    let dump = json(&["map", "dump", "id", &id.to_string()])?;
    let entry = dump.get(0).unwrap_or(&dump);
    let variables = entry["formatted"]["value"][name].as_array();
    let variables = variables.with_context(|| format!("map {id} has no {name}: {dump}"))?;
    let objects = variables.iter().filter_map(Value::as_object);
    Ok(objects.flatten().map(|(name, value)| (name.clone(), value.clone())).collect())
}
