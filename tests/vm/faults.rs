//! What goes wrong around our programs: no room in a map, no permission, a kernel without a field, a killed node. Runs on
//! any kernel with BTF: `cargo test -p sextant-tests --features vm faults` as root does without the machine.

#![expect(clippy::disallowed_methods, reason = "asks with curl, and waits in real time")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::maps::loaded_maps;
use aya::programs::loaded_programs;
use serde_json::Value;
use sextant::domain::runqueue::{BEYOND, RunqueueReading};
use sextant::host::HostRoots;
use sextant::sources::runqlat::{Config, RunqlatSource};
use sextant_tests::hand_made::HandMade;
use sextant_tests::role::{Role, eventually};

/// Loading programs takes some 20 s on an emulated machine.
const LOADED: Duration = Duration::from_secs(90);
/// Runs in short stints, so that each is soon counted, and starts nothing: a machine that is emulated has no room for it.
const RESTLESS: &str = "exec python3 -c 'import time\nwhile True: time.sleep(0.1)'";

/// More cgroups than the map has room for: all is counted, under one name, and how much that is.
#[test]
fn faults_a_full_map_counts_what_has_no_row_of_its_own() -> Result<()> {
    let hierarchy = HandMade::hierarchies()?.pop().context("no hierarchy")?;
    let mut pods = HandMade::new(&hierarchy, "full")?;
    for n in 0..12 {
        let (_, mut go) = pods.shell(&format!("g{n}"), RESTLESS)?;
        std::io::Write::write_all(&mut go, b"\n")?;
    }
    let own = |reading: &RunqueueReading| {
        let rows = reading.cgroups.iter().filter(|group| group.path.starts_with(&pods.cgroup("g")));
        rows.filter(|group| group.totals.waits.count() > 0).count()
    };
    let beyond = |reading: &RunqueueReading| {
        let rows = reading.cgroups.iter().filter(|group| &*group.path == BEYOND);
        rows.map(|group| group.totals.waits.count()).sum::<u64>()
    };
    let read = |max_cgroups| -> Result<[RunqueueReading; 2]> {
        let mut source =
            RunqlatSource::start(&HostRoots::default(), &Config { max_cgroups, ..Config::default() })?;
        sleep(Duration::from_secs(2));
        let first = source.collect(1, 1)?;
        sleep(Duration::from_secs(2));
        Ok([first, source.collect(2, 2)?])
    };
    let [first, second] = read(6)?;
    ensure!(second.cgroups.len() <= 6 && own(&second) < 12, "{} rows", second.cgroups.len());
    ensure!(second.losses.cgroups > first.losses.cgroups && first.losses.cgroups > 0, "{:?}", second.losses);
    ensure!(beyond(&second) > beyond(&first), "counted, if under no name of its own");
    // The control: with room there is a row for each, and nothing is beyond.
    let [_, second] = read(0)?;
    ensure!(own(&second) == 12, "{} rows", own(&second));
    ensure!(second.losses.cgroups == 0 && beyond(&second) == 0, "{:?}", second.losses);
    Ok(())
}

/// A person hears of it, and so does a scraper.
#[test]
fn faults_a_full_map_is_in_status_and_metrics() -> Result<()> {
    for (max_cgroups, full) in [(4, true), (0, false)] {
        let dir = tempfile::tempdir()?;
        let config = dir.path().join("node.toml");
        fs::write(&config, format!("[runqlat]\nmax_cgroups = {max_cgroups}\ninterval_ms = 500\n"))?;
        let node = start(dir.path(), &["--config", &config.to_string_lossy()])?;
        let mut pods = HandMade::new(&HandMade::hierarchies()?.pop().context("no hierarchy")?, "said")?;
        for n in 0..8 {
            let (_, mut go) = pods.shell(&format!("g{n}"), RESTLESS)?;
            std::io::Write::write_all(&mut go, b"\n")?;
        }
        eventually(LOADED, "a reading, and what was lost", || {
            let runqlat = source(&node, "runqlat")?;
            ensure!(runqlat.collections >= 4, "{runqlat:?}");
            let metrics = ask(&node, "/metrics")?;
            let counted = "sextant_runqueue_losses_total{what=\"cgroups\"} ";
            let lost = metrics.lines().find_map(|line| line.strip_prefix(counted)?.parse::<u64>().ok());
            let said = runqlat.lacks.contains("stints are counted for no cgroup of their own: raise");
            ensure!((lost > Some(0), said) == (full, full), "{max_cgroups}: {lost:?}, {runqlat:?}");
            ensure!(runqlat.condition == if full { "degraded" } else { "up" }, "{runqlat:?}");
            Ok(())
        })?;
    }
    Ok(())
}

/// Without the right to load programs, be it that nothing is permitted or, as a kernel in lockdown does, that one thing is
/// not: everything else goes on, and what is missing is said, with what would help.
#[test]
fn faults_programs_that_are_not_permitted_are_a_lack_and_no_failure() -> Result<()> {
    for capabilities in ["-all", "-bpf,-perfmon,-sys_admin", "-perfmon,-sys_admin"] {
        let dir = tempfile::tempdir()?;
        let socket = socket(dir.path());
        let node =
            Role::start_without(capabilities, "node", dir.path(), &socket.each_ref().map(|arg| &**arg))?;
        eventually(LOADED, "every source was tried", || ask(&node, "/readyz"))?;
        let runqlat = source(&node, "runqlat")?;
        let (why, help) = ("no run-queue latency: this kernel does not permit it", "CAP_BPF and CAP_PERFMON");
        ensure!(runqlat.condition == "off" && runqlat.lacks.starts_with(why), "{capabilities}: {runqlat:?}");
        ensure!(runqlat.lacks.contains(help) && runqlat.lacks.contains("tried again"), "{runqlat:?}");
        let pods = source(&node, "pods")?;
        ensure!(pods.lacks.contains("by /proc") || pods.lacks.contains("the next walk of /proc"), "{pods:?}");
        ensure!(pods.condition == "degraded" && pods.collections > 0, "{pods:?}");
        ensure!(source(&node, "usage")?.condition != "off", "{:?}", source(&node, "usage")?);
        ensure!(ask(&node, "/metrics")?.contains("sextant_source_up"), "it answers");
        ensure!(!ask(&node, "/metrics")?.contains("sextant_host_runqueue_latency"), "nothing is made up");
        ensure!(programs_and_maps(node.pid())?.is_empty(), "nothing is left half loaded");
    }
    Ok(())
}

/// A kernel that lacks a field that one program needs runs the other one.
#[test]
fn faults_a_kernel_without_a_field_runs_the_programs_that_do_without() -> Result<()> {
    // What of the kernel's types is renamed; which of the two sources lacks it.
    let cases = [
        (None, [true, true]),
        (Some("run_delay"), [false, true]),
        (Some("real_parent"), [true, false]),
        (Some("kernfs_node"), [false, false]),
    ];
    for (field, works) in cases {
        let dir = tempfile::tempdir()?;
        let sys = dir.path().join("sys");
        sysfs_without(&sys, field)?;
        let node = start(dir.path(), &["--sys-root", &sys.to_string_lossy()])?;
        eventually(LOADED, "every source was tried", || ask(&node, "/readyz"))?;
        let (runqlat, pods) = (source(&node, "runqlat")?, source(&node, "pods")?);
        ensure!((runqlat.condition != "off") == works[0], "{field:?}: {runqlat:?}");
        ensure!(pods.lacks.contains("at the next walk of /proc") != works[1], "{field:?}: {pods:?}");
        for (source, works) in [runqlat, pods].iter().zip(works) {
            let named = field.is_some_and(|field| source.lacks.contains(field));
            ensure!(
                works || (named && source.lacks.contains("this kernel has no ")),
                "{field:?}: {source:?}"
            );
        }
    }
    Ok(())
}

/// The same where the kernel shows no types at all.
#[test]
fn faults_a_kernel_that_shows_no_types_runs_no_programs() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let sys = dir.path().join("sys");
    sysfs_without(&sys, None)?;
    fs::remove_file(sys.join("kernel/btf/vmlinux"))?;
    let node = start(dir.path(), &["--sys-root", &sys.to_string_lossy()])?;
    eventually(LOADED, "every source was tried", || ask(&node, "/readyz"))?;
    for name in ["runqlat", "pods"] {
        let source = source(&node, name)?;
        ensure!(source.lacks.contains("this kernel shows no types of its own at"), "{source:?}");
    }
    ensure!(programs_and_maps(node.pid())?.is_empty());
    Ok(())
}

/// Nothing is pinned: of a node that is killed no program and no map is left.
#[test]
fn faults_a_killed_node_leaves_no_program_and_no_map() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let node = start(dir.path(), &[])?;
    let held = eventually(LOADED, "all programs are loaded", || {
        ensure!(source(&node, "runqlat")?.collections > 0 && source(&node, "pods")?.collections > 0);
        programs_and_maps(node.pid())
    })?;
    let count = |kind| held.iter().filter(|(found, _)| *found == kind).count();
    ensure!(count("prog_id") >= 8 && count("map_id") >= 6, "{held:?}");
    let there = |(kind, id): &(&str, u32)| match *kind {
        "prog_id" => loaded_programs().flatten().any(|program| program.id() == *id),
        _ => loaded_maps().flatten().any(|map| map.id() == *id),
    };
    ensure!(held.iter().all(there), "the control: they are there while it lives, {held:?}");
    node.kill()?;
    eventually(Duration::from_secs(20), "they are gone", || {
        let left: Vec<_> = held.iter().filter(|held| there(held)).collect();
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
}

/// What `/status` says of a source.
#[derive(Debug)]
struct Said {
    condition: String,
    lacks: String,
    collections: u64,
}

fn source(node: &Role, name: &str) -> Result<Said> {
    let status: Value = serde_json::from_str(&ask(node, "/status?format=json")?)?;
    let sources = status["sources"].as_array().context("no sources")?;
    let source = sources.iter().find(|source| source["name"] == name).with_context(|| status.to_string())?;
    let lacks = source["lacks"].as_array().into_iter().flatten().filter_map(Value::as_str);
    Ok(Said {
        condition: source["condition"].as_str().context("no condition")?.to_owned(),
        lacks: lacks.collect::<Vec<_>>().join("\n"),
        collections: source["collections"].as_u64().context("no collections")?,
    })
}

fn start(dir: &Path, args: &[&str]) -> Result<Role> {
    let socket = socket(dir);
    let all: Vec<&str> = socket.iter().map(String::as_str).chain(args.iter().copied()).collect();
    Role::start("node", dir, &all)
}

fn socket(dir: &Path) -> [String; 2] {
    ["--unix-socket".to_owned(), dir.join("node.sock").to_string_lossy().into_owned()]
}

fn ask(node: &Role, path: &str) -> Result<String> {
    let url = format!("{}{path}", node.url);
    let output = Command::new("curl").args(["-s", "--fail", "--max-time", "10", &url]).output()?;
    ensure!(output.status.success(), "{path}: {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// Kinds and ids of what a process holds.
fn programs_and_maps(pid: u32) -> Result<Vec<(&'static str, u32)>> {
    let mut held = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))?.flatten() {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        for kind in ["prog_id", "map_id"] {
            let ids = text
                .lines()
                .filter_map(|line| line.strip_prefix(kind)?.strip_prefix(':')?.trim().parse().ok());
            held.extend(ids.map(|id: u32| ((kind, id), ())));
        }
    }
    Ok(held.into_keys().collect())
}

/// This machine's sysfs with a copy of the kernel's types in which a name is another one.
fn sysfs_without(sys: &Path, name: Option<&str>) -> Result<()> {
    fs::create_dir_all(sys.join("kernel/btf"))?;
    let link_all = |folder: &str, but: &str| -> Result<()> {
        for entry in fs::read_dir(Path::new("/sys").join(folder))?.flatten() {
            if entry.file_name() != *but {
                symlink(entry.path(), sys.join(folder).join(entry.file_name()))?;
            }
        }
        Ok(())
    };
    link_all("", "kernel")?;
    link_all("kernel", "btf")?;
    let mut types = fs::read("/sys/kernel/btf/vmlinux")?;
    if let Some(name) = name {
        let whole = [b"\0", name.as_bytes(), b"\0"].concat();
        let at = types.windows(whole.len()).position(|found| found == whole);
        types[at.context("no such name")? + 1] = b'_';
    }
    Ok(fs::write(sys.join("kernel/btf/vmlinux"), types)?)
}
