//! `cargo bench -p sextant-tests --bench pods`: what the pod map costs, beside its peers on the same processes.
//!
//! 2,000 sleeping processes in 200 pod groups of a real hierarchy, so it needs root. CPU time is the calling
//! thread's (or the whole foreign process's): wall time says little on a shared machine. Peers are measured
//! where they are installed: `prometheus-process-exporter` and Python's psutil.
//!
//! First by `/proc` alone, then by the kernel's own walk and its events.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark starts its peers and prints"
)]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::fs::{Mode, OFlags, openat};
use rustix::time::{ClockId, clock_gettime};
use sextant::domain::pod::PodMap;
use sextant::host::HostRoots;
use sextant::sources::pods::{Config, PodsSource, run};
use sextant_tests::cpu::cheapest_ns;
use sextant_tests::following::Following;
use sextant_tests::hand_made::HandMade;

const PODS: usize = 200;
const PROCESSES: usize = 10;
const RUNS: usize = 15;

fn main() -> Result<()> {
    // On a hybrid host v1 and v2: the kernel reads their lists in different ways, and v1's cost more.
    let mut hierarchies = HandMade::hierarchies()?;
    let last = hierarchies.pop().context("no hierarchy")?;
    if let Some(first) = hierarchies.first() {
        measure(first, false)?;
    }
    measure(&last, true)
}

fn measure(hierarchy: &Path, with_peers: bool) -> Result<()> {
    let mut load = HandMade::new(hierarchy, "bench")?;
    for pod in 0..PODS {
        load.sleepers(&container(pod), PROCESSES)?;
    }
    let tasks = fs::read_dir("/proc")?.flatten().filter(|entry| is_pid(&entry.file_name())).count();
    println!(
        "{} processes in {PODS} pods of {tasks} in all, below {}",
        PODS * PROCESSES,
        hierarchy.display()
    );
    let roots = HostRoots { cgroup: hierarchy.to_owned(), ..HostRoots::default() };
    let by_proc = Config { events: false, ..Config::default() };
    let full_ms = full(&roots, by_proc)?;
    stat_alone()?;
    unchanged(&roots, by_proc);
    idle(&roots, by_proc)?;
    let following = Config { cri: false, kubelet: false, ..Config::default() };
    println!("following the kernel");
    let walked_ms = full(&roots, following)?;
    println!("  = {:.1} x less than by /proc", full_ms / walked_ms);
    unchanged(&roots, following);
    idle(&roots, following)?;
    appears(hierarchy, &load)?;
    churn(hierarchy, &load)?;
    if !with_peers {
        return Ok(());
    }
    psutil(full_ms);
    if let Err(error) = process_exporter(full_ms) {
        println!("prometheus-process-exporter: not measured ({error:#})");
    }
    Ok(())
}

/// Everything from nothing, as at start-up; loading the programs is not included.
fn full(roots: &HostRoots, config: Config) -> Result<f64> {
    let mut best_ms = f64::INFINITY;
    for _ in 0..RUNS {
        let mut source = PodsSource::new(roots.clone(), config);
        source.attach();
        let before_ms = cpu_ms(ClockId::ThreadCPUTime);
        let map = source.collect(1);
        best_ms = best_ms.min(cpu_ms(ClockId::ThreadCPUTime) - before_ms);
        check(&map)?;
    }
    println!("full pod map              {best_ms:8.2} ms CPU, minimum of {RUNS}");
    Ok(best_ms)
}

fn check(map: &PodMap) -> Result<()> {
    ensure!(map.pods.len() == PODS && map.pod_tasks() == PODS * PROCESSES, "the map is not what was made");
    Ok(())
}

/// What any reader of `/proc` pays at least for identity: open, one read and close of every process's `stat`.
fn stat_alone() -> Result<()> {
    let names: Vec<_> = fs::read_dir("/proc")?.flatten().map(|entry| entry.file_name()).collect();
    let proc = fs::File::open("/proc")?;
    let mut buffer = [0; 2048];
    let paths: Vec<_> =
        names.iter().filter(|name| is_pid(name)).map(|name| Path::new(name).join("stat")).collect();
    let ns = cheapest_ns(RUNS, 1, || {
        for path in &paths {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            // A process may end meanwhile.
            let Ok(stat) = openat(&proc, path, flags, Mode::empty()) else { continue };
            let _gone = rustix::io::read(stat, &mut buffer);
        }
        Ok(())
    })?;
    println!("  of it stat alone        {:8.2} ms CPU, {} files", ns / 1e6, paths.len());
    Ok(())
}

/// A whole turn of walks over a tree that stays as it is: every process is read again once meanwhile.
fn unchanged(roots: &HostRoots, config: Config) {
    let mut source = PodsSource::new(roots.clone(), config);
    source.attach();
    source.collect(1);
    let mut walks_ms: Vec<f64> = (0..30)
        .map(|second| {
            let before_ms = cpu_ms(ClockId::ThreadCPUTime);
            source.collect(second * 1_000_000_000);
            cpu_ms(ClockId::ThreadCPUTime) - before_ms
        })
        .collect();
    walks_ms.sort_by(f64::total_cmp);
    let mean_ms = walks_ms.iter().sum::<f64>() / 30.0;
    println!("unchanged walk            {:8.2} ms CPU minimum, {mean_ms:.2} mean of 30", walks_ms[0]);
}

/// The source as a task, ten seconds at its default interval.
fn idle(roots: &HostRoots, config: Config) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let source = PodsSource::new(roots.clone(), config);
    let (out, maps) = tokio::sync::watch::channel(Arc::new(PodMap::default()));
    let (health, _states) = tokio::sync::watch::channel(Vec::new());
    let cancel = tokio_util::sync::CancellationToken::new();
    let task = runtime.spawn(run(source, || 1, out, health, cancel.clone()));
    thread::sleep(Duration::from_secs(3));
    let before_ms = cpu_ms(ClockId::ProcessCPUTime);
    thread::sleep(Duration::from_secs(10));
    let percent = (cpu_ms(ClockId::ProcessCPUTime) - before_ms) / 10_000.0 * 100.0;
    let resident = fs::read_to_string("/proc/self/status")?;
    let resident = resident.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default().to_owned();
    check(&maps.borrow())?;
    cancel.cancel();
    runtime.block_on(task)??;
    println!(
        "idle at 1 s               {percent:8.3} % of a core, {resident} (the benchmark's own included)"
    );
    Ok(())
}

/// From the exec of a process that was moved into its container to the map that shows it so.
fn appears(hierarchy: &Path, load: &HandMade) -> Result<()> {
    let mut following = Following::start(hierarchy, by_events_alone())?;
    let procs = load.path(&container(0)).join("cgroup.procs");
    let mut took_ms = Vec::new();
    for _ in 0..200 {
        let script = format!("echo $$ > {}; echo; exec sleep 600", procs.display());
        let child = Command::new("sh").args(["-ec", &script]).stdout(Stdio::piped()).spawn()?;
        let mut child = Exporter(child);
        // One byte, just before the exec.
        child.0.stdout.take().context("no output")?.read_exact(&mut [0])?;
        let (pid, since) = (child.0.id(), Instant::now());
        following.until(Duration::from_secs(10), |map| {
            let mut tasks = map.pods.iter().flat_map(|pod| &pod.containers).flat_map(|it| &it.tasks);
            ensure!(tasks.any(|task| task.key.pid == pid && &*task.comm == "sleep"), "not yet");
            Ok(())
        })?;
        took_ms.push(since.elapsed().as_secs_f64() * 1e3);
        // Some come while the pace is held back by the one before, and some after a while.
        thread::sleep(Duration::from_millis(u64::from(pid % 64)));
    }
    took_ms.sort_by(f64::total_cmp);
    let (p50, p99, most) = (took_ms[100], took_ms[197], took_ms[199]);
    println!("appears after exec        p50 {p50:.1} ms, p99 {p99:.1} ms, longest {most:.1} ms of 200");
    Ok(())
}

/// Short-lived processes in one of the pods, some 200 a second, for ten seconds.
fn churn(hierarchy: &Path, load: &HandMade) -> Result<()> {
    let following = Following::start(hierarchy, by_events_alone())?;
    let procs = load.path(&container(0)).join("cgroup.procs");
    let script = format!("echo $$ > {}; while :; do /bin/true; sleep 0.007; done", procs.display());
    let churn = Exporter(Command::new("sh").args(["-ec", &script]).spawn()?);
    thread::sleep(Duration::from_secs(1));
    let forks = || following.metric("pods_events_total{kind=\"fork\"}");
    let (before_ms, before) = (cpu_ms(ClockId::ProcessCPUTime), forks()?);
    thread::sleep(Duration::from_secs(10));
    let percent = (cpu_ms(ClockId::ProcessCPUTime) - before_ms) / 10_000.0 * 100.0;
    let rate = (forks()? - before) / 10;
    drop(churn);
    let lost = following.metric("pods_events_lost_total")?;
    println!("churn in a pod            {rate} forks/s: {percent:.3} % of a core, {lost} events lost");
    Ok(())
}

fn by_events_alone() -> Config {
    Config { refresh_ms: 600_000, cri: false, kubelet: false, ..Config::default() }
}

fn container(pod: usize) -> String {
    format!("kubepods/burstable/pod{pod:08x}-ba47-11ea-b2a7-0cc47ac5979e/{pod:064x}")
}

/// Names, parents and start times of all processes, by psutil.
fn psutil(ours_ms: f64) {
    let script = "import psutil,time\nbest=1e9\nfor _ in range(5):\n a=time.process_time()\n \
                  for p in psutil.process_iter(['pid','name','ppid','num_threads','create_time']): pass\n \
                  psutil.process_iter.cache_clear()\n best=min(best,time.process_time()-a)\nprint(best*1000)";
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let output = Command::new(python).args(["-c", script]).stderr(Stdio::null()).output();
    let ms =
        output.ok().and_then(|output| String::from_utf8_lossy(&output.stdout).trim().parse::<f64>().ok());
    match ms {
        Some(ms) => println!("psutil, no pods           {ms:8.2} ms CPU = {:.1} x ours", ms / ours_ms),
        None => println!("psutil: not installed (PYTHON names an interpreter that has it)"),
    }
}

/// One scrape with a group for each process, no threads, no smaps.
fn process_exporter(ours_ms: f64) -> Result<()> {
    let config = tempfile::NamedTempFile::new()?;
    fs::write(config.path(), "process_names:\n  - name: \"{{.PID}}\"\n    cmdline: ['.+']\n")?;
    let address = "127.0.0.1:19256";
    let mut child = Exporter(
        Command::new("prometheus-process-exporter")
            .args(["-threads=false", "-gather-smaps=false", "-web.listen-address", address])
            .arg("-config.path")
            .arg(config.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start it")?,
    );
    let mut answer = Err(anyhow::anyhow!("never answered"));
    for _ in 0..60 {
        answer = scrape(address);
        if answer.is_ok() {
            break;
        }
        thread::sleep(Duration::from_secs(1));
    }
    let size_bytes = answer?;
    let before_ms = child.cpu_ms()?;
    for _ in 0..5 {
        scrape(address)?;
    }
    let ms = (child.cpu_ms()? - before_ms) / 5.0;
    println!("process-exporter, scrape  {ms:8.2} ms CPU = {:.1} x ours, {size_bytes} bytes", ms / ours_ms);
    child.0.kill()?;
    Ok(())
}

struct Exporter(Child);

impl Drop for Exporter {
    fn drop(&mut self) {
        let _already_gone = self.0.kill();
        let _already_gone = self.0.wait();
    }
}

impl Exporter {
    /// User and system time so far; ticks are 10 ms.
    fn cpu_ms(&mut self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        let fields: Vec<f64> =
            stat.rsplit(')').next().unwrap_or_default().split(' ').flat_map(str::parse).collect();
        // Behind the name and the state letter: ppid is the first number, utime the eleventh.
        let (utime, stime) = (fields.get(10).context("utime")?, fields.get(11).context("stime")?);
        Ok((utime + stime) * 10.0)
    }
}

fn scrape(address: &str) -> Result<usize> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    ensure!(answer.starts_with(b"HTTP/1.0 200"), "no metrics");
    Ok(answer.len())
}

fn is_pid(name: &std::ffi::OsStr) -> bool {
    name.as_encoded_bytes().iter().all(u8::is_ascii_digit)
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds for people")]
fn cpu_ms(clock: ClockId) -> f64 {
    let now = clock_gettime(clock);
    now.tv_sec as f64 * 1e3 + now.tv_nsec as f64 / 1e6
}
