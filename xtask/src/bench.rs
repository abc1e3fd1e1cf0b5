//! `cargo xtask bench NAME`: one benchmark of `tests/benches`, built with optimization, beside the peers that it is
//! compared with. Figures are printed, never asserted: they depend on the machine.

use std::process::Command;

use anyhow::Result;

use crate::cache::Cache;
use crate::{process, tools};

/// Measure one thing and its peers.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to measure
    #[arg(value_enum)]
    what: What,
    /// Of events: also the long form of the matrix of faults, an hour
    #[arg(long)]
    long: bool,
    /// Passed on to the benchmark
    #[arg(last = true)]
    rest: Vec<String>,
}

/// The file names in `tests/benches`.
#[derive(Clone, Copy, clap::ValueEnum)]
enum What {
    /// One sample of a scheduler's variables: lookups by system call, bpftool
    Bss,
    /// From node to receiver: how soon, a fleet of a hundred nodes, a long backlog, a far receiver
    Delivery,
    /// One-shot events: posts, and scrapes of a full window
    Events,
    /// Network anomalies: how exact, what they cost; netem where the kernel has it
    Network,
    /// The whole node process at rest and under 50 clients
    Node,
    /// The map of pods: prometheus-process-exporter, psutil
    Pods,
    /// The receiver's series asked over HTTP, a hundred nodes writing, tails, a start with a month: VictoriaMetrics
    Query,
    /// The receiver's queue: Redis Streams, NATS JetStream
    Queue,
    /// A look at every switch of tasks: bcc's runqlat, bpftrace
    Runqlat,
    /// The receiver's time series: what is taken, at which cost, and its size on disk: VictoriaMetrics
    Store,
    /// How exact anomalies are: stress-ng
    Stress,
    /// A walk over all processes in the kernel: /proc
    Tasks,
    /// What cgroups use: plain reads of the same files, Python
    Usage,
}

impl What {
    const fn name(self) -> &'static str {
        match self {
            Self::Bss => "bss",
            Self::Delivery => "delivery",
            Self::Events => "events",
            Self::Network => "network",
            Self::Node => "node",
            Self::Pods => "pods",
            Self::Query => "query",
            Self::Queue => "queue",
            Self::Runqlat => "runqlat",
            Self::Store => "store",
            Self::Stress => "stress",
            Self::Tasks => "tasks",
            Self::Usage => "usage",
        }
    }

    /// How the benchmark itself is built. Those that time the library in their own process are built as the release binary
    /// is; the others are clients of that binary, or have the kernel run our programs, and are linked in a tenth of the
    /// time without LTO. A row of theirs that is of the library alone says so.
    const fn profile(self) -> &'static str {
        match self {
            Self::Bss | Self::Pods | Self::Tasks | Self::Usage => "release",
            _ => "bench",
        }
    }

    /// Whether it starts the release binary.
    const fn is_client(self) -> bool {
        !matches!(self, Self::Bss | Self::Pods | Self::Runqlat | Self::Tasks | Self::Usage)
    }

    /// Programs that the benchmark starts, with the Debian packages that they are in.
    const fn peers(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Bss => &[("bpftool", "bpftool")],
            Self::Pods => &[("prometheus-process-exporter", "prometheus-process-exporter")],
            Self::Queue => &[("redis-server", "redis-server")],
            Self::Runqlat => &[("runqlat", "libbpf-tools"), ("bpftrace", "bpftrace")],
            Self::Stress => &[("stress-ng", "stress-ng")],
            Self::Delivery
            | Self::Events
            | Self::Network
            | Self::Node
            | Self::Query
            | Self::Store
            | Self::Tasks
            | Self::Usage => &[],
        }
    }
}

/// Builds and runs the benchmark.
pub(crate) fn main(args: &Args) -> Result<u8> {
    let cache = Cache::open()?;
    let mut path = Vec::new();
    for (peer, package) in args.what.peers() {
        // A benchmark says for itself which peer it could not start.
        match tools::debian(&cache, peer, package) {
            Ok(folder) => path.push(folder),
            Err(error) => eprintln!("bench: without {peer}: {error:#}"),
        }
    }
    if matches!(args.what, What::Queue) {
        match tools::nats_server(&cache) {
            Ok(folder) => path.push(folder),
            Err(error) => eprintln!("bench: without nats-server: {error:#}"),
        }
    }
    if args.what.is_client() {
        crate::build_sextant(true)?;
    }
    let before = std::env::var_os("PATH").unwrap_or_default();
    path.extend(std::env::split_paths(&before));
    path.extend(["/usr/sbin".into(), "/sbin".into()]);
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .current_dir(crate::workspace())
        .args(["bench", "--quiet", "--profile", args.what.profile(), "--package", "sextant-tests"])
        .args(["--bench", args.what.name(), "--"])
        .args(&args.rest)
        .env("PATH", std::env::join_paths(path)?);
    if matches!(args.what, What::Pods) {
        match tools::psutil(&cache) {
            Ok(folder) => _ = cargo.env("PYTHONPATH", folder),
            Err(error) => eprintln!("bench: without psutil: {error:#}"),
        }
    }
    if matches!(args.what, What::Query | What::Store) {
        match tools::victoria_metrics(&cache) {
            Ok(program) => _ = cargo.env("SEXTANT_VICTORIA_METRICS", program),
            Err(error) => eprintln!("bench: without victoria-metrics: {error:#}"),
        }
    }
    process::shown(&mut cargo)?;
    if args.long && matches!(args.what, What::Events) {
        matrix(&cache)?;
    }
    Ok(0)
}

/// The matrix of faults of `tests/events` with the optimized binary, ten times as much of everything: 20,000 events and
/// some minutes for each of its rows, one after another.
fn matrix(cache: &Cache) -> Result<()> {
    tools::all(cache)?;
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .current_dir(crate::workspace())
        .args(["test", "--quiet", "--release", "--package", "sextant-tests", "--test", "events", "--"])
        .args(["--nocapture", "--test-threads=1"])
        .env("SEXTANT_EVENTS_LONG", "10")
        .env("SEXTANT_BIN", crate::build_sextant(true)?);
    process::shown(&mut cargo)
}
