//! The command line: what a person or a script types. [`crate::config`] turns it into one value.
//!
//! Every flag is optional here; a flag beats its environment variable, which beats the configuration file,
//! which beats the default named in the help.

pub mod replay;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use self::replay::ReplayArgs;
use crate::telemetry::LogFormat;

/// Scheduling telemetry for Linux nodes that run sched_ext schedulers.
#[derive(Debug, Parser)]
#[command(name = "sextant", version, about, max_term_width = 110, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run on a node: read the scheduler and the pods, answer on loopback, forward to receivers
    #[command(after_long_help = NODE_EXAMPLES)]
    Node(NodeArgs),
    /// Run centrally: take what nodes forward, store it, answer for the whole fleet
    #[command(after_long_help = RECEIVER_EXAMPLES)]
    Receiver(ReceiverArgs),
    /// Send samples of GPUs from a file into a receiver's queue
    #[command(after_long_help = replay::EXAMPLES)]
    Replay(ReplayArgs),
    /// Look at one thing once, without a running node
    #[command(subcommand)]
    Inspect(Inspect),
    /// Check or print the configuration
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Make keys for the HTTP API
    #[command(subcommand)]
    Key(KeyVerb),
    /// Print the OpenAPI document of a role
    Openapi {
        /// Whose document
        role: Role,
    },
    /// What an anomaly's worker runs: for the node only
    #[command(name = "anomaly-worker", hide = true)]
    Worker(WorkerArgs),
    /// What a workload's worker runs: for the node only
    #[command(name = "workload-worker", hide = true)]
    WorkloadWorker(WorkloadWorkerArgs),
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// A role of the binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// The node agent.
    Node,
    /// The central service.
    Receiver,
}

/// Flags of both roles.
#[derive(Debug, Default, Args)]
pub struct Shared {
    /// Configuration file (TOML); flags and environment override it
    #[arg(long, env = "SEXTANT_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address to listen on; repeatable; port 0 picks a free one and prints it
    /// [default: 127.0.0.1:8090 for node, 127.0.0.1:8080 for receiver]
    #[arg(long, env = "SEXTANT_LISTEN", value_name = "ADDR:PORT", value_delimiter = ',')]
    pub listen: Vec<String>,
    /// Where spool and store live [default: /var/lib/sextant/node or /var/lib/sextant/receiver]
    #[arg(long, env = "SEXTANT_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// File of more keys, as `sextant key new` prints them; read again when it changes
    #[arg(long, env = "SEXTANT_API_KEYS_FILE", value_name = "FILE")]
    pub keys_file: Option<PathBuf>,
    /// Form of the log: `text` for people or `json` for machines [default: text]
    #[arg(long, env = "SEXTANT_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// What is logged, as a filter such as `info` or `sextant=debug,info` [default: info]
    #[arg(long, env = "SEXTANT_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// More log: -v for our own debug lines, -vv for all, -vvv for traces
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Parse arguments and configuration, read the file of keys, print what would run and where, and exit
    #[arg(long)]
    pub check: bool,
}

/// Flags of `sextant node`.
#[derive(Debug, Default, Args)]
pub struct NodeArgs {
    /// Flags of both roles.
    #[command(flatten)]
    pub shared: Shared,
    /// Receiver to forward to, such as http://10.0.0.5:8080 (without one, the node only answers locally); of several, with
    /// commas or given again, one is the node's home and the others take over when it fails
    #[arg(long, env = "SEXTANT_RECEIVER", value_name = "URL", value_delimiter = ',')]
    pub receiver: Vec<String>,
    /// Unix socket to listen on [default: /run/sextant/node.sock where that is possible]
    #[arg(long, env = "SEXTANT_UNIX_SOCKET", value_name = "PATH")]
    pub unix_socket: Option<PathBuf>,
    /// Name of this node [default: NODE_NAME, else the host name]
    #[arg(long, env = "SEXTANT_NODE_NAME", value_name = "NAME")]
    pub node_name: Option<String>,
    /// Time between two readings, such as 500ms, 1s, 1m [default: 1s]
    #[arg(long, env = "SEXTANT_INTERVAL", value_name = "DURATION")]
    pub interval: Option<String>,
    /// Where the host is mounted.
    #[command(flatten)]
    pub roots: RootArgs,
}

/// Where the host's file systems are mounted; a DaemonSet points them into its hostPaths.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Host")]
pub struct RootArgs {
    /// The host's /proc [default: /proc]
    #[arg(long, env = "SEXTANT_PROC_ROOT", value_name = "DIR")]
    pub proc_root: Option<PathBuf>,
    /// The host's /sys [default: /sys]
    #[arg(long, env = "SEXTANT_SYS_ROOT", value_name = "DIR")]
    pub sys_root: Option<PathBuf>,
    /// The host's cgroup tree [default: /sys/fs/cgroup]
    #[arg(long, env = "SEXTANT_CGROUP_ROOT", value_name = "DIR")]
    pub cgroup_root: Option<PathBuf>,
    /// The host's /run: container runtimes' state and sockets [default: /run]
    #[arg(long, env = "SEXTANT_RUN_ROOT", value_name = "DIR")]
    pub run_root: Option<PathBuf>,
    /// The host's /var: pod logs and kubelet sockets [default: /var]
    #[arg(long, env = "SEXTANT_VAR_ROOT", value_name = "DIR")]
    pub var_root: Option<PathBuf>,
}

/// Flags of `sextant receiver`. Those of the queue have the reference's variables.
#[derive(Debug, Default, Args)]
pub struct ReceiverArgs {
    /// Flags of both roles.
    #[command(flatten)]
    pub shared: Shared,
    /// Records of a queue's partition that wait to be acknowledged, beyond which producing is refused [default: 2000]
    #[arg(long, env = "QUEUE_SIZE", value_name = "RECORDS")]
    pub queue_size: Option<u64>,
    /// Time to acknowledge a delivered record in, such as 30s, 2m [default: 30s]
    #[arg(long, env = "VISIBILITY_TIMEOUT", value_name = "DURATION")]
    pub visibility_timeout: Option<String>,
    /// Partitions of topics that are made from now on [default: 4]
    #[arg(long, env = "PARTITIONS_PER_TOPIC", value_name = "NUMBER")]
    pub partitions_per_topic: Option<u32>,
}

/// What the node tells a worker.
#[derive(Debug, Args)]
pub struct WorkerArgs {
    /// The anomaly, so that a worker can be told from another one
    #[arg(long)]
    pub id: String,
    /// What to do, as JSON
    #[arg(long)]
    pub order: String,
}

/// What the node tells a workload's worker; the rest, with its secrets, comes through standard input.
#[derive(Debug, Args)]
pub struct WorkloadWorkerArgs {
    /// The workload, so that a worker can be told from another one
    #[arg(long, default_value = "")]
    pub id: String,
    /// The node's process
    #[arg(long, default_value_t = 0)]
    pub parent: u32,
    /// End at once: what a storm of processes is made of
    #[arg(long)]
    pub leaf: bool,
    /// Survive the node: only in a debug build
    #[cfg(debug_assertions)]
    #[arg(long)]
    pub unguarded: bool,
}

/// What can be looked at.
#[derive(Debug, Subcommand)]
pub enum Inspect {
    /// Which pod and container a cgroup path or /proc/PID/cgroup line names: one JSON object per path
    #[command(after_long_help = CGROUP_EXAMPLES)]
    Cgroup {
        /// Paths; `-` reads one per line from standard input
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<String>,
    },
    /// The running scheduler's variables
    Bss {
        /// Print JSON instead of a table
        #[arg(long)]
        json: bool,
        /// Where the host is mounted.
        #[command(flatten)]
        roots: RootArgs,
    },
    /// One pod map
    Pods {
        /// Print JSON instead of a table
        #[arg(long)]
        json: bool,
        /// Where the host is mounted.
        #[command(flatten)]
        roots: RootArgs,
    },
    /// What a node's data directory holds: accounts of its spool
    Spool {
        /// The node's --data-dir
        dir: PathBuf,
        /// Print JSON instead of a table
        #[arg(long)]
        json: bool,
    },
}

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Report every error of a configuration file at once
    Check {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Print the effective configuration, without secrets
    Dump {
        /// The file; without one, the defaults
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum KeyVerb {
    /// Make a random key: print it once, and the lines for the configuration, which do not reveal it
    #[command(after_long_help = KEY_EXAMPLES)]
    New {
        /// Whose it is, for the log: letters, digits, `.`, `_`, `-`
        #[arg(long)]
        name: String,
        /// What it is good for; repeatable: read, write, consume, ingest, act, admin
        #[arg(long, required = true, value_delimiter = ',')]
        scope: Vec<String>,
        /// Print JSON instead of words
        #[arg(long)]
        json: bool,
    },
}

const KEY_EXAMPLES: &str = "\
Scopes:
  read      GET of everything, /metrics too
  write     POST /api/v1/metrics, /event, /produce
  consume   /consume, /ack, /nak, /extend
  ingest    POST /api/v1/ingest: for nodes ([forward] key_file)
  act       anomalies and workloads
  admin     all of them

Examples:
  sextant key new --name grafana --scope read
  sextant key new --name chaos-team --scope read,act

Put the printed lines into the configuration file, or into the file that [keys] file names: that one is read again
when it changes. To rotate a key, add the new one, hand it out, then remove the old one. [keys] required says what
needs a key at all.";

const NODE_EXAMPLES: &str = "\
Examples:
  sextant node                                     answer on 127.0.0.1:8090
  curl -s localhost:8090/status                    one screen: scheduler, sources, pods, delivery
  sextant node --receiver http://10.0.0.5:8080     forward everything, spooled on disk until acknowledged
  sextant node --listen 127.0.0.1:0 --check        check the arguments and say what would run

What it can read depends on privilege. Without root it maps pods and tasks that /proc shows; reading the
scheduler's variables needs CAP_SYS_ADMIN (to open another program's BPF maps). /status says what is missing.";

const RECEIVER_EXAMPLES: &str = "\
Examples:
  sextant receiver                                 listen on 127.0.0.1:8080
  sextant receiver --listen 0.0.0.0:8080 --data-dir /srv/sextant
  curl -s localhost:8080/api/v1/nodes              every node: lag, drops, scheduler";

const CGROUP_EXAMPLES: &str = "\
Examples:
  sextant inspect cgroup \"$(cat /proc/self/cgroup)\"
  cat /proc/[0-9]*/cgroup | sort -u | sextant inspect cgroup -";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
