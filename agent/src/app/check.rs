//! `--check`: what would run, in words, and where it would keep what it keeps. Nothing is started, made or changed; the
//! file of keys is read, since a role does not start with a wrong one.

use std::path::Path;

use anyhow::Result;

use super::host_facts::HostFacts;
use super::reload;
use crate::config::Config;
use crate::delivery::spool;
use crate::queue::{self, EngineKind as QueueEngine};
use crate::series::{self, EngineKind as SeriesEngine};
use crate::{events, store};

/// What `sextant node` would do.
///
/// # Errors
/// Keys that cannot be, or a file of them that cannot be read.
pub fn node(config: &Config) -> Result<String> {
    let name = HostFacts::read(&config.host, &config.node.name).node;
    let dir = &config.node.data_dir;
    let spool = format!("spool in {}\n", dir.join(spool::FILE_NAME).display());
    let forward = match (&*config.forward.receivers, &*config.forward.jetstream.servers) {
        ([], []) => "answer locally only (no --receiver)\n".to_owned(),
        ([], servers) => format!("forward into the queue at {}\n{spool}", servers.join(", or at ")),
        (receivers, _) => format!("forward to {}\n{spool}", receivers.join(", or to ")),
    };
    let (listen, interval_ms) = (config.node.listen.join(", "), config.node.interval_ms);
    let kept = kept(config, dir)?;
    Ok(format!("node {name}\nlisten on {listen}\nread every {interval_ms} ms\n{forward}{kept}"))
}

/// What `sextant receiver` would do.
///
/// # Errors
/// As for [`node`].
pub fn receiver(config: &Config) -> Result<String> {
    let dir = &config.receiver.data_dir;
    let listen = config.receiver.listen.join(", ");
    let store = dir.join(store::FILE_NAME);
    let (queue, series, kept) = (place_of_queue(config), place_of_series(config), kept(config, dir)?);
    Ok(format!(
        "receiver\nlisten on {listen}\nstore in {}\nqueue {queue}\nseries {series}\n{kept}",
        store.display()
    ))
}

/// What both roles have: events and keys.
fn kept(config: &Config, dir: &Path) -> Result<String> {
    let (keys, _) = reload::keys(&config.keys)?;
    let file = keys.file().map_or_else(String::new, |file| format!(", with those of {}", file.display()));
    Ok(format!("events in {}\nkeys: {} known{file}\n", dir.join(events::FILE_NAME).display(), keys.count()))
}

/// Where series are kept, with its preposition.
pub(super) fn place_of_series(config: &Config) -> String {
    match config.series.engine {
        SeriesEngine::Embedded => {
            format!("in {}", config.receiver.data_dir.join(series::embedded::DIRECTORY).display())
        }
        SeriesEngine::Remote => format!("at {}", config.series.remote.write_url),
    }
}

/// Where the queue is kept, with its preposition.
pub(super) fn place_of_queue(config: &Config) -> String {
    match config.queue.engine {
        QueueEngine::Embedded => {
            format!("in {}", config.receiver.data_dir.join(queue::embedded::FILE_NAME).display())
        }
        QueueEngine::JetStream => format!("on {}", config.queue.jetstream.servers.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::keys::fresh;

    fn config() -> Config {
        let mut config = Config::default();
        config.node.name = "n1".to_owned();
        config.node.data_dir = "/data/node".into();
        config.receiver.data_dir = "/data/receiver".into();
        config
    }

    #[test]
    fn every_place_is_named() {
        let mut config = config();
        let local = "node n1\nlisten on 127.0.0.1:8090\nread every 1000 ms\nanswer locally only (no --receiver)\n\
            events in /data/node/events.redb\nkeys: 0 known\n";
        assert_eq!(node(&config).unwrap(), local);
        config.forward.receivers = vec!["http://a:1".to_owned(), "http://b:2".to_owned()];
        let said = node(&config).unwrap();
        assert!(
            said.contains("forward to http://a:1, or to http://b:2\nspool in /data/node/spool.redb\n"),
            "{said}"
        );
        config.forward.receivers.clear();
        config.forward.jetstream.servers = vec!["nats://c:3".to_owned()];
        let said = node(&config).unwrap();
        assert!(said.contains("the queue at nats://c:3\nspool in /data/node/spool.redb\n"), "{said}");

        let embedded = "receiver\nlisten on 127.0.0.1:8080\nstore in /data/receiver/store.redb\n\
            queue in /data/receiver/queue.redb\nseries in /data/receiver/series\n\
            events in /data/receiver/events.redb\nkeys: 0 known\n";
        assert_eq!(receiver(&config).unwrap(), embedded);
        config.series.engine = SeriesEngine::Remote;
        config.series.remote.write_url = "http://d:4/api/v1/write".to_owned();
        config.queue.engine = QueueEngine::JetStream;
        config.queue.jetstream.servers = vec!["nats://e:5".to_owned()];
        let said = receiver(&config).unwrap();
        assert!(said.contains("\nqueue on nats://e:5\nseries at http://d:4/api/v1/write\n"), "{said}");
    }

    #[test]
    fn the_file_of_keys_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys.toml");
        let mut config = config();
        config.keys.file.clone_from(&file);
        let checks = [node, receiver];
        let refusals = |config: &Config| checks.map(|check| check(config).unwrap_err().to_string());
        for error in refusals(&config) {
            assert!(error.starts_with("[keys] ") && error.contains("keys.toml"), "{error}");
        }
        std::fs::write(&file, "the-secret-itself").unwrap();
        for error in refusals(&config) {
            assert!(error.contains("keys.toml") && !error.contains("secret-itself"), "{error}");
        }
        let (_, key) = fresh::key([7; 32], "ci", vec![crate::http::keys::Scope::Read]).unwrap();
        std::fs::write(&file, fresh::lines(&key)).unwrap();
        for said in checks.map(|check| check(&config).unwrap()) {
            assert!(said.ends_with(&format!("keys: 1 known, with those of {}\n", file.display())), "{said}");
        }
        // The same key here and there is an error of the file.
        config.keys.key.push(key);
        for error in refusals(&config) {
            assert!(error.contains("there are two of this name"), "{error}");
        }
    }
}
