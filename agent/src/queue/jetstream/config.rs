//! `[queue.jetstream]` of the configuration.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Replicas that survive the loss of one server with its unsynced writes.
const SAFE_REPLICAS: usize = 3;

/// What an acknowledgement of the servers is to be worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Every server syncs a record before it acknowledges it: `sync_interval: always`. Its monitor is asked, at the
    /// start and once a minute.
    #[default]
    Fsync,
    /// A majority of three or more servers has it in memory; power lost in all of them at once loses what was not
    /// synced in the last `sync_interval`.
    Replicated,
}

/// The way to the servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Servers, any of which leads to the others: `nats://10.0.0.1:4222`, `tls://...`. Without user or password.
    pub servers: Vec<String>,
    /// Their monitors, one for each server: `http://10.0.0.1:8222`. Asked for `durability = "fsync"`.
    pub monitors: Vec<String>,
    /// What an acknowledgement is to be worth.
    pub durability: Durability,
    /// Replicas of each topic, 1 to 5, odd.
    pub replicas: usize,
    /// First word of all names on the servers; 1 to 32 of `A-Za-z0-9-`. Receivers with the same one share a queue.
    pub prefix: String,
    /// The servers' JetStream domain, where one has to be named: over a leaf, which knows them by it. 0 to 32 of
    /// `A-Za-z0-9-`.
    pub domain: String,
    /// A file of credentials (`nsc generate creds`); empty is none.
    pub credentials_file: PathBuf,
    /// A user; empty is none.
    pub user: String,
    /// The file that holds the user's password.
    pub password_file: PathBuf,
    /// Certificates that vouch for the servers, PEM; empty means the system's.
    pub ca_file: PathBuf,
    /// Our certificate and its key, PEM, where servers ask for one.
    pub cert_file: PathBuf,
    /// See `cert_file`.
    pub key_file: PathBuf,
    /// A waiting pull hears of its server so often, ms; after twice as long in silence it is begun anew. 500 to 30000.
    pub heartbeat_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            monitors: Vec::new(),
            durability: Durability::Fsync,
            replicas: SAFE_REPLICAS,
            prefix: "sextant".to_owned(),
            domain: String::new(),
            credentials_file: PathBuf::new(),
            user: String::new(),
            password_file: PathBuf::new(),
            ca_file: PathBuf::new(),
            cert_file: PathBuf::new(),
            key_file: PathBuf::new(),
            // Two thirds of a visibility timeout at worst until a stalled pull goes on.
            heartbeat_ms: 5_000,
        }
    }
}

impl Config {
    /// What cannot be, in one sentence.
    ///
    /// # Errors
    /// What is wrong and what would be right.
    pub fn check(&self) -> Result<(), String> {
        let require = |right: bool, words: &str| if right { Ok(()) } else { Err(words.to_owned()) };
        require(!self.servers.is_empty(), "servers: at least one is needed, such as nats://10.0.0.1:4222")?;
        for server in &self.servers {
            check_url("servers", server, &["nats", "tls"], "nats://10.0.0.1:4222")?;
        }
        for monitor in &self.monitors {
            check_url("monitors", monitor, &["http"], "http://10.0.0.1:8222")?;
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let prefix = (1..=32).contains(&self.prefix.len()) && self.prefix.bytes().all(plain);
        require(prefix, "prefix: 1 to 32 of A-Z a-z 0-9 -")?;
        let domain = self.domain.len() <= 32 && self.domain.bytes().all(plain);
        require(domain, "domain: at most 32 of A-Z a-z 0-9 -")?;
        require(matches!(self.replicas, 1 | 3 | 5), "replicas: 1, 3 or 5")?;
        let range = 500..=30_000;
        require(range.contains(&self.heartbeat_ms), "heartbeat_ms: 500 to 30000")?;
        match self.durability {
            Durability::Fsync => require(
                !self.monitors.is_empty(),
                "durability = \"fsync\" needs monitors, one for each server, to be asked whether it syncs always \
                 (`http: \"10.0.0.1:8222\"` and `jetstream { sync_interval: always }` in its configuration); or set \
                 durability = \"replicated\"",
            )?,
            Durability::Replicated => require(
                self.replicas >= SAFE_REPLICAS,
                "durability = \"replicated\" needs replicas of 3 or more: one alone acknowledges before it syncs",
            )?,
        }
        let given = |path: &PathBuf| !path.as_os_str().is_empty();
        let credentials = given(&self.credentials_file);
        require(!credentials || self.user.is_empty(), "credentials_file or user, not both")?;
        require(self.user.is_empty() != given(&self.password_file), "user and password_file go together")?;
        require(given(&self.cert_file) == given(&self.key_file), "cert_file and key_file go together")
    }
}

fn check_url(name: &str, text: &str, schemes: &[&str], example: &str) -> Result<(), String> {
    let url = reqwest::Url::parse(text).ok().filter(|url| schemes.contains(&url.scheme()) && url.has_host());
    let Some(url) = url else { return Err(format!("{name}: {text:?} is no address, such as {example}")) };
    if !url.username().is_empty() || url.password().is_some() {
        // It would be printed, and logged.
        return Err(format!("{name}: no user or password in an address; use user and password_file"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Config {
        Config {
            servers: vec!["nats://127.0.0.1:4222".to_owned()],
            monitors: vec!["http://127.0.0.1:8222".to_owned()],
            ..Config::default()
        }
    }

    #[test]
    fn what_would_not_be_durable_is_refused_with_what_to_set() {
        assert_eq!(good().check(), Ok(()));
        let replicated = Config { durability: Durability::Replicated, monitors: vec![], ..good() };
        assert_eq!(replicated.check(), Ok(()));
        for (config, word) in [
            (Config { monitors: vec![], ..good() }, "sync_interval: always"),
            (Config { replicas: 1, ..replicated }, "3 or more"),
            (Config { servers: vec![], ..good() }, "servers"),
            (Config { servers: vec!["nats://u:p@h:4222".to_owned()], ..good() }, "password_file"),
            (Config { servers: vec!["a, b".to_owned()], ..good() }, "nats://"),
            (Config { replicas: 2, ..good() }, "replicas"),
            (Config { prefix: "a.b".to_owned(), ..good() }, "prefix"),
            (Config { domain: "a.>".to_owned(), ..good() }, "domain"),
            (Config { user: "u".to_owned(), ..good() }, "go together"),
            (Config { heartbeat_ms: 1, ..good() }, "heartbeat_ms"),
        ] {
            let words = config.check().expect_err(word);
            assert!(words.contains(word) && !words.contains("u:p"), "{words}");
        }
    }
}
