//! Configuration is a value: file, then environment, then flags, checked as a whole.
//!
//! ```toml
//! [log]
//! format = "json"
//!
//! [node]
//! interval_ms = 1000
//!
//! [forward]
//! receiver = "http://10.0.0.5:8080"
//! ```
//!
//! Each section belongs to the module that reads it. [`load`] reports every section's error at once.

mod validate;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use self::validate::validate;
use crate::actions;
use crate::cli::replay::ReplayArgs;
use crate::cli::{NodeArgs, ReceiverArgs, RootArgs, Shared};
use crate::delivery::{forwarder, spool};
use crate::events;
use crate::host::HostRoots;
use crate::http::keys::{Config as Keys, KeyConfig, Required, Scope};
use crate::sources::{database, gpu, pods, runqlat, scheduler, usage};
use crate::{alerts, http, mysql, queue, series, store, telemetry, workloads};

/// Larger files are no configuration.
const FILE_MAX_BYTES: u64 = 1 << 20;
/// Faster readings cost more than they tell; slower ones miss whole schedulers.
const INTERVAL_MS: std::ops::RangeInclusive<u64> = 10..=3_600_000;

/// A walk over all cgroups costs milliseconds, a reading of the scheduler microseconds.
const PODS_INTERVAL_MIN_MS: u64 = 100;

/// More often the receiver's disk would hold little else.
const USAGE_RECORD_INTERVAL_MIN_MS: u64 = 15_000;

/// Everything a role needs to know.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Config {
    /// `[log]`: form and filter of our own log.
    pub log: telemetry::Config,
    /// `[http]`: limits of both roles' API.
    pub http: http::Config,
    /// `[keys]`: who may do what over HTTP.
    pub keys: Keys,
    /// `[events]`: one-shot events of both roles.
    pub events: events::Config,
    /// `[node]`: the node agent.
    pub node: Node,
    /// `[host]`: where the host is mounted.
    pub host: HostRoots,
    /// `[scheduler]`: the scheduler source.
    pub scheduler: scheduler::Config,
    /// `[pods]`: the pods source.
    pub pods: pods::Config,
    /// `[runqlat]`: the run-queue source.
    pub runqlat: runqlat::Config,
    /// `[usage]`: the usage source.
    pub usage: usage::Config,
    /// `[gpu]`: the GPU source.
    pub gpu: gpu::Config,
    /// `[actions]`: anomalies on purpose.
    pub actions: actions::Config,
    /// `[workloads]`: load on purpose.
    pub workloads: workloads::Config,
    /// `[database]`: the way to the database.
    pub database: mysql::Config,
    /// `[database_source]`: what is read of it.
    pub database_source: database::Config,
    /// `[spool]`: records on the node's disk.
    pub spool: spool::Config,
    /// `[forward]`: the way to the receiver.
    pub forward: forwarder::Config,
    /// `[receiver]`: the central service.
    pub receiver: Receiver,
    /// `[store]`: records on the receiver's disk.
    pub store: store::Config,
    /// `[queue]`: the receiver's queue.
    pub queue: queue::Config,
    /// `[series]`: the receiver's time series.
    pub series: series::Config,
    /// `[alerts]`: what the receiver watches for.
    pub alerts: alerts::Config,
}

/// `[node]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Node {
    /// Name of this node; empty means the host name.
    pub name: String,
    /// Addresses to listen on.
    pub listen: Vec<String>,
    /// Unix socket; empty means none.
    pub unix_socket: PathBuf,
    /// The socket was asked for, not just the default: failing to bind it is an error.
    #[serde(skip)]
    pub unix_socket_required: bool,
    /// Where the spool lives.
    pub data_dir: PathBuf,
    /// Time between two readings of the scheduler, ms.
    pub interval_ms: u64,
    /// Time between two scheduler records to the receiver, ms; changes of its state are told at once. The
    /// reference's sender keeps 5 s too.
    pub scheduler_record_interval_ms: u64,
    /// Shortest time between two pod maps to the receiver, ms: a map of thousands of processes is large.
    pub pods_record_interval_ms: u64,
    /// Time between two usage records to the receiver, and between two of the run queues, ms; at least 15000. They are
    /// the largest that are sent without anything having changed: 200 pods are about 0.1 MB each.
    pub usage_record_interval_ms: u64,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            name: String::new(),
            listen: vec!["127.0.0.1:8090".to_owned()],
            unix_socket: "/run/sextant/node.sock".into(),
            unix_socket_required: false,
            data_dir: "/var/lib/sextant/node".into(),
            interval_ms: 1_000,
            scheduler_record_interval_ms: 5_000,
            pods_record_interval_ms: 15_000,
            usage_record_interval_ms: 30_000,
        }
    }
}

impl Node {
    /// Time between two readings.
    pub const fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms)
    }
}

/// `[receiver]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Receiver {
    /// Addresses to listen on.
    pub listen: Vec<String>,
    /// Where the store lives.
    pub data_dir: PathBuf,
    /// Also take batches that nodes put into the queue themselves (`[forward.jetstream]`).
    pub nodes_from_queue: bool,
}

impl Default for Receiver {
    fn default() -> Self {
        Self {
            listen: vec!["127.0.0.1:8080".to_owned()],
            data_dir: "/var/lib/sextant/receiver".into(),
            nodes_from_queue: false,
        }
    }
}

/// Everything wrong with a configuration, one sentence each.
#[derive(Debug, PartialEq, Eq)]
pub struct Errors(pub Vec<String>);

impl std::error::Error for Errors {}

impl std::fmt::Display for Errors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.join("\n"))
    }
}

/// The configuration of `sextant node`.
pub fn for_node(args: &NodeArgs) -> Result<Config, Errors> {
    let (mut config, mut errors) = read(args.shared.config.as_deref());
    apply_shared(&mut config, &args.shared);
    apply_roots(&mut config.host, &args.roots);
    apply_reference(&mut config, &mut errors, variable);
    apply_reference_events(&mut config.events, variable);
    let node = &mut config.node;
    if !args.shared.listen.is_empty() {
        node.listen.clone_from(&args.shared.listen);
    }
    replace(&mut node.data_dir, args.shared.data_dir.as_ref());
    if let Some(path) = &args.unix_socket {
        node.unix_socket.clone_from(path);
        node.unix_socket_required = true;
    }
    replace(&mut node.name, args.node_name.as_ref());
    if !args.receiver.is_empty() {
        config.forward.receivers.clone_from(&args.receiver);
    }
    if let Some(text) = &args.interval {
        match milliseconds(text) {
            Some(interval_ms) => {
                config.node.interval_ms = interval_ms;
                config.pods.interval_ms = interval_ms.max(PODS_INTERVAL_MIN_MS);
            }
            None => errors.push(format!("--interval: `{text}` is no duration; try 500ms, 1s or 1m")),
        }
    }
    validate(&config, &mut errors);
    finish(config, errors)
}

/// The configuration of `sextant receiver`.
pub fn for_receiver(args: &ReceiverArgs) -> Result<Config, Errors> {
    let (mut config, mut errors) = read(args.shared.config.as_deref());
    apply_shared(&mut config, &args.shared);
    apply_reference_keys(&mut config.keys, variable);
    apply_reference_events(&mut config.events, variable);
    if !args.shared.listen.is_empty() {
        config.receiver.listen.clone_from(&args.shared.listen);
    }
    replace(&mut config.receiver.data_dir, args.shared.data_dir.as_ref());
    apply_queue(&mut config.queue, args, &mut errors);
    apply_reference_series(&mut config.series, &mut errors, variable);
    validate(&config, &mut errors);
    finish(config, errors)
}

/// The key in `SEXTANT_API_KEY` for `sextant replay`, whose flags are looked at.
///
/// # Errors
/// An address or a topic that cannot be.
pub fn for_replay(args: &ReplayArgs) -> Result<Option<String>, Errors> {
    let mut errors = Vec::new();
    if !validate::is_http_url(&args.to) {
        errors.push(format!("--to: `{}` is no URL, such as http://10.0.0.5:8080", args.to));
    }
    if let Err(error) = queue::check_topic(&args.topic) {
        errors.push(format!("--topic: {error}"));
    }
    if errors.is_empty() { Ok(variable("SEXTANT_API_KEY")) } else { Err(Errors(errors)) }
}

/// The configuration in a file (or the defaults), without flags.
pub fn load(file: Option<&Path>) -> Result<Config, Errors> {
    let (config, mut errors) = read(file);
    validate(&config, &mut errors);
    finish(config, errors)
}

/// The configuration as a file; what is secret, or could be guessed back from what is printed, is `<set>`.
pub fn dump(config: &Config) -> String {
    let mut config = config.clone();
    for key in &mut config.keys.key {
        "<set>".clone_into(&mut key.sha256);
    }
    // Plain structs with string keys: there is nothing that could fail.
    toml::to_string(&config).unwrap_or_default()
}

/// The roots that `sextant inspect` was given.
pub fn roots(args: &RootArgs) -> HostRoots {
    let mut roots = HostRoots::default();
    apply_roots(&mut roots, args);
    roots
}

fn finish(config: Config, errors: Vec<String>) -> Result<Config, Errors> {
    if errors.is_empty() { Ok(config) } else { Err(Errors(errors)) }
}

fn read(file: Option<&Path>) -> (Config, Vec<String>) {
    let Some(file) = file else { return (Config::default(), Vec::new()) };
    match read_text(file) {
        Ok(text) => {
            let (config, errors) = parse(&text);
            (config, errors.into_iter().map(|error| format!("{}: {error}", file.display())).collect())
        }
        Err(error) => (Config::default(), vec![format!("{}: {error}", file.display())]),
    }
}

fn read_text(file: &Path) -> std::io::Result<String> {
    if std::fs::metadata(file)?.len() > FILE_MAX_BYTES {
        return Err(std::io::Error::other(format!("larger than {FILE_MAX_BYTES} bytes")));
    }
    std::fs::read_to_string(file)
}

fn parse(text: &str) -> (Config, Vec<String>) {
    let mut errors = Vec::new();
    let mut table = match text.parse::<toml::Table>() {
        Ok(table) => table,
        Err(error) => return (Config::default(), vec![error.to_string().trim_end().to_owned()]),
    };
    let config = Config {
        log: section(&mut table, "log", &mut errors),
        http: section(&mut table, "http", &mut errors),
        keys: section(&mut table, "keys", &mut errors),
        events: section(&mut table, "events", &mut errors),
        node: section(&mut table, "node", &mut errors),
        host: section(&mut table, "host", &mut errors),
        scheduler: section(&mut table, "scheduler", &mut errors),
        pods: section(&mut table, "pods", &mut errors),
        runqlat: section(&mut table, "runqlat", &mut errors),
        usage: section(&mut table, "usage", &mut errors),
        gpu: section(&mut table, "gpu", &mut errors),
        actions: section(&mut table, "actions", &mut errors),
        workloads: section(&mut table, "workloads", &mut errors),
        database: section(&mut table, "database", &mut errors),
        database_source: section(&mut table, "database_source", &mut errors),
        spool: section(&mut table, "spool", &mut errors),
        forward: section(&mut table, "forward", &mut errors),
        receiver: section(&mut table, "receiver", &mut errors),
        store: section(&mut table, "store", &mut errors),
        queue: section(&mut table, "queue", &mut errors),
        series: section(&mut table, "series", &mut errors),
        alerts: section(&mut table, "alerts", &mut errors),
    };
    for unknown in table.keys() {
        errors.push(format!(
            "unknown section `[{unknown}]`; `sextant config dump` prints every section there is"
        ));
    }
    (config, errors)
}

fn section<T: DeserializeOwned + Default>(
    table: &mut toml::Table,
    name: &str,
    errors: &mut Vec<String>,
) -> T {
    let Some(value) = table.remove(name) else { return T::default() };
    value.try_into().unwrap_or_else(|error: toml::de::Error| {
        errors.push(format!("[{name}] {}", error.to_string().trim_end()));
        T::default()
    })
}

fn apply_shared(config: &mut Config, shared: &Shared) {
    replace(&mut config.keys.file, shared.keys_file.as_ref());
    let log = &mut config.log;
    replace(&mut log.format, shared.log_format.as_ref());
    replace(&mut log.filter, shared.log.as_ref());
    *log = std::mem::take(log).louder(shared.verbose);
}

fn apply_queue(queue: &mut queue::Config, args: &ReceiverArgs, errors: &mut Vec<String>) {
    replace(&mut queue.queue_size, args.queue_size.as_ref());
    replace(&mut queue.partitions_per_topic, args.partitions_per_topic.as_ref());
    if let Some(text) = &args.visibility_timeout {
        match milliseconds(text) {
            Some(timeout_ms) => queue.visibility_timeout_ms = timeout_ms,
            None => {
                errors.push(format!("--visibility-timeout: `{text}` is no duration; try 500ms, 30s or 2m"));
            }
        }
    }
}

/// `500ms`, `30s`, `1m30s`.
fn milliseconds(text: &str) -> Option<u64> {
    u64::try_from(text.parse::<jiff::SignedDuration>().ok()?.as_millis()).ok()
}

fn apply_roots(roots: &mut HostRoots, args: &RootArgs) {
    replace(&mut roots.proc, args.proc_root.as_ref());
    replace(&mut roots.sys, args.sys_root.as_ref());
    replace(&mut roots.cgroup, args.cgroup_root.as_ref());
    replace(&mut roots.run, args.run_root.as_ref());
    replace(&mut roots.var, args.var_root.as_ref());
}

/// The variables of the reference telemetry stack, whose services ask for a key wherever they are set.
fn apply_reference_keys(keys: &mut Keys, variable: impl Fn(&'static str) -> Option<String>) {
    let api = (variable("API_KEY"), "API_KEY", vec![Scope::Read, Scope::Write]);
    let service =
        (variable("SERVICE_TOKEN"), "SERVICE_TOKEN", vec![Scope::Read, Scope::Write, Scope::Consume]);
    for (secret, name, scopes) in [api, service] {
        let Some(secret) = secret else { continue };
        keys.key.push(KeyConfig::of(&secret, name, scopes));
        keys.required.get_or_insert(Required::Everything);
    }
}

/// The variables of the reference telemetry stack's collector: with `INFLUXDB_URL` its store is used, unless the file says
/// where series are.
fn apply_reference_series(
    series: &mut series::Config,
    errors: &mut Vec<String>,
    variable: impl Fn(&'static str) -> Option<String>,
) {
    if *series != series::Config::default() {
        return;
    }
    match series.remote.take_reference(variable) {
        Ok(true) => series.engine = series::EngineKind::Remote,
        Ok(false) => {}
        Err(error) => errors.push(error),
    }
}

/// The variable of the reference server of one-shot metrics: `true` in any case, and anything else is false.
fn apply_reference_events(events: &mut events::Config, variable: impl Fn(&'static str) -> Option<String>) {
    if let Some(explicit) = variable("USE_EXPLICIT_TIMESTAMPS") {
        let explicit = explicit.trim().eq_ignore_ascii_case("true");
        events.mode = if explicit { events::Mode::EventTime } else { events::Mode::ScrapeTime };
    }
}

/// The reference backend's variables; empty ones are none.
fn apply_reference(
    config: &mut Config,
    errors: &mut Vec<String>,
    variable: impl Fn(&'static str) -> Option<String>,
) {
    let database = &mut config.database;
    replace(&mut database.host, variable("OB_HOST").as_ref());
    replace(&mut database.user, variable("OB_USER").as_ref());
    database.password = variable("OB_PASSWORD").map(mysql::Secret::new);
    replace(&mut config.database_source.prometheus_url, variable("PROMETHEUS_URL").as_ref());
    if let Some(port) = variable("OB_PORT") {
        match port.parse() {
            Ok(port) => database.port = port,
            Err(_) => errors.push(format!("OB_PORT: `{port}` is no port, such as 2881")),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "configuration is read here, and a value everywhere else")]
fn variable(name: &'static str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn replace<T: Clone>(slot: &mut T, value: Option<&T>) {
    if let Some(value) = value {
        slot.clone_from(value);
    }
}

#[cfg(test)]
mod tests;
