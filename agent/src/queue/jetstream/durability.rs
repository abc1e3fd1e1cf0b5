//! Whether an acknowledgement of the servers is worth what the configuration says.
//!
//! A server acknowledges a record before it is on its disk and syncs every two minutes, unless its own configuration says
//! `sync_interval: always`. A client is not told which, so each server's monitor is asked (`/varz`): for its name, its
//! version, whether it syncs always, and how many servers its JetStream has. What cannot be asked is not believed.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;

use super::config::{Config, Durability};

/// Below it there are no atomic batches.
const OLDEST: (u64, u64) = (2, 12);

/// A monitor answers from memory.
const PATIENCE: Duration = Duration::from_secs(3);

/// An answer is some 2 KB.
const ANSWER_BYTES: usize = 1 << 20;

/// What a monitor tells.
#[derive(Debug, Deserialize)]
struct Varz {
    server_name: String,
    version: String,
    #[serde(default)]
    jetstream: JetStream,
}

#[derive(Debug, Default, Deserialize)]
struct JetStream {
    config: Option<StoreConfig>,
    meta: Option<Meta>,
}

#[derive(Debug, Deserialize)]
struct StoreConfig {
    #[serde(default)]
    sync_always: bool,
}

#[derive(Debug, Deserialize)]
struct Meta {
    #[serde(default)]
    cluster_size: usize,
}

/// Why records must not be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// They may be.
    Safe,
    /// A server says that it is not as it has to be.
    Unsafe(String),
    /// A monitor does not answer.
    Unknown(String),
}

/// Asks every monitor.
pub(super) async fn ask(config: &Config) -> Verdict {
    if config.durability == Durability::Replicated {
        return Verdict::Safe;
    }
    let mut answers = Vec::with_capacity(config.monitors.len());
    for monitor in &config.monitors {
        match varz(monitor).await {
            Ok(varz) => answers.push(varz),
            Err(words) => return Verdict::Unknown(format!("the monitor {monitor} does not tell: {words}")),
        }
    }
    judge(&answers)
}

fn judge(answers: &[Varz]) -> Verdict {
    let mut names = BTreeSet::new();
    let mut size = 1;
    for varz in answers {
        let name = &varz.server_name;
        if let Err(words) = check_version(&varz.version) {
            return Verdict::Unsafe(format!("{name}: {words}"));
        }
        let Some(store) = &varz.jetstream.config else {
            return Verdict::Unsafe(format!(
                "{name} has no JetStream: set `jetstream {{ ... }}` in its configuration"
            ));
        };
        if !store.sync_always {
            return Verdict::Unsafe(format!(
                "{name} acknowledges records before they are on its disk: set `jetstream {{ sync_interval: always }}` \
                 in its configuration, or durability = \"replicated\" in [queue.jetstream]"
            ));
        }
        size = size.max(varz.jetstream.meta.as_ref().map_or(1, |meta| meta.cluster_size));
        names.insert(name);
    }
    if names.len() < size {
        return Verdict::Unsafe(format!(
            "{size} servers may hold records, and {} of them can be asked whether they sync always: name the monitor of \
             each in [queue.jetstream] monitors, or set durability = \"replicated\"",
            names.len()
        ));
    }
    Verdict::Safe
}

/// Servers of this version can do what is asked of them.
pub(super) fn check_version(version: &str) -> Result<(), String> {
    let mut numbers = version.split(['.', '-']).map_while(|part| part.parse::<u64>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) if (major, minor) >= OLDEST => Ok(()),
        _ => Err(format!(
            "version {version} is too old: nats-server {}.{} or later is needed",
            OLDEST.0, OLDEST.1
        )),
    }
}

async fn varz(monitor: &str) -> Result<Varz, String> {
    let words = |error: reqwest::Error| error.without_url().to_string();
    let client = reqwest::Client::builder().timeout(PATIENCE).build().map_err(words)?;
    let url = format!("{}/varz", monitor.trim_end_matches('/'));
    let mut answer =
        client.get(url).send().await.and_then(reqwest::Response::error_for_status).map_err(words)?;
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(words)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > ANSWER_BYTES {
            return Err("too long an answer".to_owned());
        }
    }
    serde_json::from_slice(&bytes).map_err(|error| format!("no /varz of a nats-server: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn server(name: &str, version: &str, sync_always: bool, cluster_size: usize) -> Varz {
        let varz = json!({"server_name": name, "version": version, "port": 4222,
            "jetstream": {"config": {"sync_always": sync_always}, "meta": {"cluster_size": cluster_size}}});
        serde_json::from_value(varz).unwrap()
    }

    #[test]
    fn all_servers_have_to_sync_and_to_be_asked() {
        let three =
            |third: Varz| judge(&[server("a", "2.15.1", true, 3), server("b", "2.15.1", true, 3), third]);
        assert_eq!(three(server("c", "2.15.1", true, 3)), Verdict::Safe);
        assert!(
            matches!(three(server("c", "2.15.1", false, 3)), Verdict::Unsafe(words) if words.contains("always"))
        );
        assert!(
            matches!(three(server("b", "2.15.1", true, 3)), Verdict::Unsafe(words) if words.contains("monitor"))
        );
        assert!(
            matches!(three(server("c", "2.11.9", true, 3)), Verdict::Unsafe(words) if words.contains("2.12"))
        );
        assert_eq!(judge(&[server("a", "2.12.0-RC.1", true, 0)]), Verdict::Safe);
        let plain: Varz = serde_json::from_value(json!({"server_name": "a", "version": "2.15.1"})).unwrap();
        assert!(matches!(judge(&[plain]), Verdict::Unsafe(words) if words.contains("no JetStream")));
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        for (version, good) in [
            ("2.12.0", true),
            ("2.9.10", false),
            ("3.0.0", true),
            ("2.15.1-beta", true),
            ("", false),
            ("x", false),
        ] {
            assert_eq!(check_version(version).is_ok(), good, "{version}");
        }
    }
}
