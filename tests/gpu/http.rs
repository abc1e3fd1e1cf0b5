//! Requests to a role, and what a queue holds.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use sextant_tests::role::Role;

pub(crate) fn ask(method: &str, url: &str, body: &str) -> Result<(u16, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
        let answer = client.request(method.parse()?, url).body(body.to_owned()).send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    })
}

/// The next records of `telemetry` for a group, parsed and acknowledged; empty when there is none.
pub(crate) fn take(role: &Role, group: &str) -> Vec<Value> {
    let url = format!("{}/consume?topic=telemetry&group={group}&max=1000", role.url);
    let pulled: Value = serde_json::from_str(&ask("GET", &url, "").unwrap().1).unwrap();
    let messages = pulled["messages"].as_array().unwrap();
    if messages.is_empty() {
        return Vec::new();
    }
    let ids: Vec<_> = messages.iter().map(|message| &message["id"]).collect();
    let url = format!("{}/ack?topic=telemetry&group={group}", role.url);
    assert_eq!(ask("POST", &url, &json!({ "ids": ids }).to_string()).unwrap().0, 200);
    messages
        .iter()
        .map(|message| serde_json::from_str(message["payload"].as_str().unwrap()).unwrap())
        .collect()
}

/// All of them.
pub(crate) fn drain(role: &Role, group: &str) -> Vec<Value> {
    let mut all = Vec::new();
    loop {
        let some = take(role, group);
        if some.is_empty() {
            return all;
        }
        all.extend(some);
    }
}
