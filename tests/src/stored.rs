//! What a receiver has stored of a node beside it, in the words of the node's own `/metrics`.

#![expect(clippy::disallowed_methods, reason = "asks with curl")]

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::role::{Role, eventually};

/// The node's name, as [`args`] gives it.
pub const NODE: &str = "n1";

/// Values in the order of their times, by series: its name and its labels in order, `node` left out.
pub type Stored = BTreeMap<String, Vec<f64>>;

/// What a node is started with so that this receiver gets its records.
pub fn args(receiver: &Role) -> [&str; 4] {
    ["--receiver", &receiver.url, "--node-name", NODE]
}

/// The stored series of the node whose names begin so.
///
/// # Errors
/// The receiver does not answer.
pub fn stored(receiver: &Role, prefix: &str) -> Result<Stored> {
    let selector = format!("match={{__name__=~\"{prefix}.*\",node=\"{NODE}\"}}");
    let url = format!("{}/api/v1/samples", receiver.url);
    let text = curl(&["-G", &url, "--data-urlencode", &selector])?;
    let answer: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
    let mut all = Stored::new();
    for series in answer["series"].as_array().context(text)? {
        let labels: BTreeMap<String, String> = serde_json::from_value(series["labels"].clone())?;
        let own = labels.iter().filter(|(name, _)| !["__name__", "node"].contains(&name.as_str()));
        let own = own.map(|(name, value)| format!("{name}={value:?}")).collect();
        let samples = series["samples"].as_array().context("no samples")?;
        let values = samples.iter().filter_map(|sample| sample[1].as_f64()).collect();
        ensure!(all.insert(named(&labels["__name__"], own), values).is_none(), "twice: {series}");
    }
    Ok(all)
}

/// What a node exposes under names that begin so. Values of labels have no comma and nothing to escape.
///
/// # Errors
/// The node does not answer.
pub fn exposed(node: &Role, prefix: &str) -> Result<BTreeMap<String, f64>> {
    let text = curl(&[&format!("{}/metrics", node.url)])?;
    let lines = text.lines().filter(|line| line.starts_with(prefix));
    let parse = |line: &str| {
        let (series, value) = line.rsplit_once(' ').context("no value")?;
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty());
        Ok((named(name, labels.map(str::to_owned).collect()), value.parse()?))
    };
    lines.map(parse).collect()
}

/// Waits until every series that the node exposes under names that begin so is stored too; what is stored then.
///
/// # Errors
/// One is not, in time; or there is none at all.
pub fn all_that_is_exposed(node: &Role, receiver: &Role, prefix: &str, within: Duration) -> Result<Stored> {
    eventually(within, "every exposed series is stored", || {
        let exposed = exposed(node, prefix)?;
        ensure!(!exposed.is_empty(), "{prefix}: nothing is exposed");
        let stored = stored(receiver, prefix)?;
        let missing: Vec<_> = exposed.keys().filter(|series| !stored.contains_key(*series)).collect();
        ensure!(missing.is_empty(), "{missing:?} are not among {:?}", stored.keys());
        Ok(stored)
    })
}

fn named(name: &str, mut labels: Vec<String>) -> String {
    labels.sort();
    format!("{name}{{{}}}", labels.join(","))
}

fn curl(args: &[&str]) -> Result<String> {
    let output = Command::new("curl").args(["-s", "--show-error", "--fail-with-body"]).args(args).output()?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    Ok(text)
}
