//! Anomalies asked for from outside: a node that allows them, requests with its key, and the workers that they become.

#![expect(clippy::disallowed_methods, reason = "asks with curl")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

/// The key of a node that allows them.
pub const KEY: &str = "correct horse battery staple";
/// `printf %s "$KEY" | sha256sum`
const KEY_SHA256: &str = "c4bbcb1fbec99d65bf59d85c8cb62ee2db963f0fe106f483d9afa73bd4e39a8a";
/// The configuration's file in the directory.
pub const CONFIG: &str = "node.toml";

/// Writes the configuration of a node that allows them, with `more` lines for `[actions]`; the kill switch is `off` in
/// the same directory.
///
/// # Errors
/// Those of the file.
pub fn allow(dir: &Path, more: &str) -> Result<()> {
    let switch = dir.join("off");
    let config = format!(
        "[[keys.key]]\nname = \"test\"\nsha256 = \"{KEY_SHA256}\"\nscopes = [\"act\"]\n\
         [actions]\nenabled = true\nkill_switch = {switch:?}\n{more}"
    );
    Ok(fs::write(dir.join(CONFIG), config)?)
}

/// Status and JSON of an answer.
///
/// # Errors
/// No answer, or none in JSON.
pub fn ask(
    url: &str,
    method: &str,
    path: &str,
    body: Option<&Value>,
    key: Option<&str>,
) -> Result<(u32, Value)> {
    let mut curl = Command::new("curl");
    curl.args(["-s", "-X", method, "-w", "\n%{http_code}", &format!("{url}{path}")]);
    if let Some(key) = key {
        curl.args(["-H", &format!("X-API-Key: {key}")]);
    }
    if let Some(body) = body {
        curl.args(["-H", "Content-Type: application/json", "-d", &body.to_string()]);
    }
    let output = String::from_utf8(curl.output()?.stdout)?;
    let (json, status) = output.rsplit_once('\n').context("no status")?;
    Ok((status.parse()?, serde_json::from_str(json).with_context(|| json.to_owned())?))
}

/// Processes of an anomaly, wherever they are.
#[must_use]
pub fn workers(id: &str) -> Vec<PathBuf> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    all.filter(|proc| is_of(proc, id)).collect()
}

/// This process is a worker of the anomaly.
#[must_use]
pub fn is_of(proc: &Path, id: &str) -> bool {
    fs::read_to_string(proc.join("cmdline"))
        .is_ok_and(|line| line.contains("anomaly-worker") && line.contains(id))
}
