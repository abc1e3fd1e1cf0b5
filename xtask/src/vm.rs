//! `cargo xtask vm`: a virtual machine with a real sched_ext kernel and real schedulers.

mod cpio;
mod guest;
mod kernel;
mod qemu;
mod rootfs;
mod schedulers;
mod scratch;
mod stage;
mod tools;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

use crate::cache::Cache;
use crate::failures::Failures;
pub(crate) use guest::{End, Job, quote};
use kernel::Kernel;

/// Tests of this name run as a service of systemd, all others as the only program of the machine.
const UNITS: &str = "units";
/// Where an older kernel may differ, of what needs no sched_ext, except under a scheduler: programs and types, events,
/// sums, files. What a program measures of its own waits is not among them: it sees those after a wake-up alone, and on
/// 6.1 its p99 is two slots below ours, most likely since that scheduler's slices of 12 ms are what a preempted task waits
/// for. The sums agree there.
const PLAIN: [&str; 4] = ["ebpf_", "events_", "runqlat_sums", "usage_"];
const UNDER: &str = "_under_";
const ALL: &str = "all";

#[derive(Parser)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Fetch and build all that the machine needs into the cache, and ask for newer kernels.
    Fetch,
    /// Boot, run a command and end with its status. A single word is given to the shell as it is.
    Run(Run),
    /// Build the tests that need a sched_ext kernel and run them in the machine.
    Test(Test),
}

#[derive(clap::Args)]
struct Run {
    /// `newest`, a series such as 6.18, or `all` (each of those that are tested).
    #[arg(long, default_value = kernel::WANTED[1])]
    kernel: String,
    /// HOST:GUEST, both on 127.0.0.1; may be repeated.
    #[arg(long, value_parser = forward)]
    forward: Vec<(u16, u16)>,
    /// A directory, copied to /share, where the command starts.
    #[arg(long)]
    share: Option<PathBuf>,
    /// Where to put what the command leaves in /out.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Let systemd be process 1 and the command one of its services.
    #[arg(long)]
    systemd: bool,
    /// Add sextant and the schedulers to /share, as for tests.
    #[arg(long, conflicts_with = "share")]
    stage: bool,
    /// Seconds until the machine is stopped; 0 for never.
    #[arg(long, default_value_t = 600)]
    limit: u64,
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

#[derive(clap::Args)]
struct Test {
    /// `newest`, a series such as 6.18, or `all`; 6.1 has no sched_ext and runs what needs none.
    #[arg(long, default_value = ALL)]
    kernel: String,
    /// Only tests whose name contains one of these.
    filter: Vec<String>,
}

/// Runs the verb; the guest's status is ours.
pub(crate) fn main(args: Args) -> Result<u8> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        bail!("the virtual machine is made for Linux on x86-64 only");
    }
    let cache = Cache::open()?;
    match args.verb {
        Verb::Fetch => fetch(&cache),
        Verb::Run(run) => self::run(&cache, run),
        Verb::Test(test) => self::test(&cache, &test).map(Outcome::said),
    }
}

/// Every test that needs a sched_ext kernel, on every kernel that is tested.
pub(crate) fn test_all() -> Result<()> {
    let Outcome { status, failures } =
        test(&Cache::open()?, &Test { kernel: ALL.to_owned(), filter: Vec::new() })?;
    anyhow::ensure!(status == 0, "a test in the virtual machine failed (status {status})\n{failures}");
    Ok(())
}

/// Runs a script beside the staged binary and schedulers for as long as it runs, its ports reachable on loopback.
pub(crate) fn serve(kernel: &str, script: &str, forward: Vec<(u16, u16)>) -> Result<u8> {
    let cache = Cache::open()?;
    let stage = stage::Stage::new(&cache)?;
    let mut job = Job {
        script: script.to_owned(),
        environment: Vec::new(),
        forward,
        share: None,
        out: None,
        service_manager: false,
        limit: None,
    };
    stage.give(&mut job);
    Ok(on_each(&cache, kernel, &job)?.status)
}

pub(crate) fn fetch(cache: &Cache) -> Result<u8> {
    tools::Tree::machine(cache)?;
    for series in kernel::WANTED.into_iter().chain([kernel::OLDEST]) {
        let kernel = Kernel::of_series(cache, series, true)?;
        eprintln!("vm: kernel {series} is {}", kernel.version);
    }
    rootfs::image(cache)?;
    schedulers::all(cache)?;
    Ok(0)
}

fn run(cache: &Cache, args: Run) -> Result<u8> {
    let script = match args.command.as_slice() {
        [one] => one.clone(),
        words => words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" "),
    };
    let stage = args.stage.then(|| stage::Stage::new(cache)).transpose()?;
    let mut job = Job {
        script,
        environment: Vec::new(),
        forward: args.forward,
        share: args.share,
        out: args.out,
        service_manager: args.systemd,
        limit: (args.limit > 0).then(|| Duration::from_secs(args.limit)),
    };
    if let Some(stage) = &stage {
        stage.give(&mut job);
    }
    Ok(on_each(cache, &args.kernel, &job)?.status)
}

fn test(cache: &Cache, args: &Test) -> Result<Outcome> {
    let mut stage = stage::Stage::new(cache)?;
    stage.add_tests()?;
    let mut outcome = Outcome::default();
    for part in parts(args) {
        let mut job = Job {
            // One scheduler at a time is all that a kernel takes.
            script: format!("exec ./vm-tests --test-threads=1 {}", part.filter),
            environment: Vec::new(),
            forward: Vec::new(),
            share: None,
            out: None,
            service_manager: part.service_manager,
            // Twice what both machines take side by side on two idle cores.
            limit: Some(Duration::from_secs(2_700)),
        };
        stage.give(&mut job);
        outcome.add("", on_each(cache, part.kernels, &job)?);
    }
    Ok(outcome)
}

/// How one machine ended, or several.
#[derive(Default)]
struct Outcome {
    /// The first that is not 0.
    status: u8,
    failures: Failures,
}

impl Outcome {
    fn add(&mut self, label: &str, other: Self) {
        self.status = if self.status == 0 { other.status } else { self.status };
        self.failures.add(label, other.failures);
    }

    /// The status, after the failures of all machines were said once more.
    fn said(self) -> u8 {
        if !self.failures.is_empty() {
            eprintln!("\n━━ failed\n{}", self.failures);
        }
        self.status
    }
}

/// Tests that run in one machine, or in one for each kernel.
struct Part<'a> {
    kernels: &'a str,
    filter: String,
    service_manager: bool,
}

fn parts(args: &Test) -> Vec<Part<'_>> {
    let (units, others): (Vec<_>, Vec<_>) = args.filter.iter().partition(|word| word.starts_with(UNITS));
    let words = others.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ");
    let all = args.filter.is_empty();
    let oldest = args.kernel == kernel::OLDEST;
    let part = |kernels, filter, service_manager| Part { kernels, filter, service_manager };
    let mut parts = Vec::new();
    if !others.is_empty() || all && !oldest {
        parts.push(part(args.kernel.as_str(), format!("--skip {UNITS}:: {words}"), false));
    }
    if !units.is_empty() || all && !oldest {
        parts.push(part(args.kernel.as_str(), format!("{UNITS}::"), true));
    }
    if all && (oldest || args.kernel == ALL) {
        parts.push(part(kernel::OLDEST, format!("--skip {UNDER} {}", PLAIN.join(" ")), false));
    }
    parts
}

/// Runs the job on the kernel, or the kernels, that were asked for; the first status that is not 0 is the result.
fn on_each(cache: &Cache, kernels: &str, job: &Job) -> Result<Outcome> {
    let series = if kernels == ALL { kernel::WANTED.to_vec() } else { vec![kernels] };
    let mut wanted = Vec::<Kernel>::new();
    for series in series {
        let kernel = Kernel::of_series(cache, series, false)?;
        if !wanted.iter().any(|known| known.version == kernel.version) {
            wanted.push(kernel);
        }
    }
    anyhow::ensure!(
        wanted.len() < 2 || job.forward.is_empty(),
        "name one kernel: a port is forwarded to one machine"
    );
    // Side by side: an emulated machine keeps one core busy, and most have two.
    let several = wanted.len() > 1;
    let ends = std::thread::scope(|scope| {
        let machines: Vec<_> = wanted
            .iter()
            .map(|kernel| {
                scope.spawn(move || boot(cache, kernel, job, several.then_some(kernel.version.as_str())))
            })
            .collect();
        machines.into_iter().map(|machine| machine.join()).collect::<Vec<_>>()
    });
    let mut outcome = Outcome::default();
    for (kernel, end) in wanted.iter().zip(ends) {
        let end = end.unwrap_or_else(|_| bail!("a machine's thread panicked"))?;
        outcome.add(&format!("{} ", kernel.version), end);
    }
    Ok(outcome)
}

fn boot(cache: &Cache, kernel: &Kernel, job: &Job, label: Option<&str>) -> Result<Outcome> {
    eprintln!("vm: booting {}", kernel.version);
    let End { status, took, failures } = guest::run(cache, kernel, job, label)?;
    eprintln!("vm: {} ended with status {status} after {:.1} s", kernel.version, took.as_secs_f64());
    Ok(Outcome { status, failures })
}

fn forward(text: &str) -> Result<(u16, u16)> {
    let (host, guest) = text.split_once(':').context("give HOSTPORT:GUESTPORT")?;
    Ok((host.parse()?, guest.parse()?))
}
