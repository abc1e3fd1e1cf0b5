//! One life of the virtual machine: boot, run one command, bring back its output, status and files.
//!
//! There is one kind of guest for everything, a small Debian on a disk. A guest of nothing but an initramfs was
//! measured too and is no faster (7.3 s against 5.5 to 11 s for boot, command and power-off), has none of the
//! second opinions, and would be a second way to keep working.
//!
//! Input is the initramfs (command) and a disk made from the shared directory. Output comes through two virtio
//! serial ports: bytes of the command, and its status. No status means that the guest died: 125. The console has
//! what the kernel said and is shown then.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::cpio::Cpio;
use super::kernel::Kernel;
use super::tools::{Tree, ext4};
use super::{qemu, rootfs, scratch};
use crate::cache::Cache;
use crate::failures::Failures;
use crate::process;

/// The status of a guest that reported none, as `timeout` and container engines use it.
pub(crate) const NO_STATUS: u8 = 125;

/// What the guest does.
pub(crate) struct Job {
    /// A script for bash, begun in /share; its status is the job's.
    pub(crate) script: String,
    /// Variables for the script.
    pub(crate) environment: Vec<(String, String)>,
    /// Host port on 127.0.0.1 and guest port on 127.0.0.1, TCP.
    pub(crate) forward: Vec<(u16, u16)>,
    /// Copied to /share in the guest; what the guest changes there is lost.
    pub(crate) share: Option<PathBuf>,
    /// Where what the guest leaves in /out goes, up to 256 MB.
    pub(crate) out: Option<PathBuf>,
    /// The script is a service of systemd, which is process 1; else nothing else runs in the guest.
    pub(crate) service_manager: bool,
    /// The machine is stopped after this long.
    pub(crate) limit: Option<Duration>,
}

/// How the guest ended.
pub(crate) struct End {
    /// The script's status, or [`NO_STATUS`].
    pub(crate) status: u8,
    /// From QEMU's start to its end.
    pub(crate) took: Duration,
    /// The tests that failed, where the script was one.
    pub(crate) failures: Failures,
}

/// Boots `kernel`, runs the job, copies its output to standard output while it comes; by lines that begin with `label`,
/// if there is one.
pub(crate) fn run(cache: &Cache, kernel: &Kernel, job: &Job, label: Option<&str>) -> Result<End> {
    let tools = Tree::machine(cache)?;
    let root = rootfs::image(cache)?;
    let scratch = scratch::directory()?;
    let dir = scratch.path();
    fs::write(dir.join("initramfs"), initramfs(&tools, kernel, job)?)?;
    File::create(dir.join("out.raw"))?.set_len(256 << 20)?;
    let mut disks = vec![
        qemu::Disk { file: root, kept: false },
        qemu::Disk { file: dir.join("out.raw"), kept: true },
        qemu::Disk { file: kernel.home.join("modules.ext4"), kept: false },
    ];
    if let Some(share) = &job.share {
        let image = dir.join("share.ext4");
        let size = process::output(Command::new("du").args(["-sLm"]).arg(share))?;
        let size = String::from_utf8_lossy(&size)
            .split_whitespace()
            .next()
            .and_then(|word| word.parse::<u64>().ok());
        let size = size.with_context(|| format!("cannot tell the size of {}", share.display()))?;
        // Room for the file system itself and for what the guest writes there.
        ext4(share, &image, size + size / 4 + 256)?;
        disks.push(qemu::Disk { file: image, kept: true });
    }
    let machine = qemu::Machine {
        kernel: &kernel.home.join("vmlinuz"),
        initramfs: &dir.join("initramfs"),
        disks: &disks,
        forward: &job.forward,
        limit: job.limit,
        scratch: dir,
    };
    let begin = Instant::now();
    let mut child = qemu::command(&tools, &machine)?
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start QEMU")?;
    let output = child.stdout.take().context("QEMU's output is not a pipe")?;
    let mut failures = Failures::default();
    match label {
        Some(label) => copy_lines(output, label, &mut failures)?,
        None => copy_live(output, &mut failures)?,
    }
    let ended = child.wait()?;
    let took = begin.elapsed();
    let reported = fs::read_to_string(dir.join("result")).unwrap_or_default();
    let status = reported.trim().parse().unwrap_or_else(|_| {
        let console = fs::read(dir.join("console")).unwrap_or_default();
        let console = String::from_utf8_lossy(&console);
        let why = if ended.code() == Some(124) { "was still running at its time limit" } else { "died" };
        let why = format!("the guest {why} (QEMU: {ended}); its console:");
        eprintln!("vm: {why}\n{}", console.trim_end());
        failures.said(&why, &console);
        NO_STATUS
    });
    if let Some(out) = &job.out {
        fs::create_dir_all(out)?;
        let unpack =
            process::quiet(Command::new("tar").arg("-xf").arg(dir.join("out.raw")).arg("-C").arg(out));
        unpack.context("the guest's files did not come back")?;
    }
    Ok(End { status, took, failures })
}

fn initramfs(tools: &Tree, kernel: &Kernel, job: &Job) -> Result<Vec<u8>> {
    let mut archive = Cpio::default();
    for directory in ["dev", "bin", "early", "job"] {
        archive.directory(directory)?;
    }
    archive.device("dev/console", 5, 1)?;
    archive.program("bin/busybox", &fs::read(tools.find("busybox")?)?)?;
    archive.program("init", include_bytes!("init.sh"))?;
    for entry in fs::read_dir(kernel.home.join("early"))? {
        let entry = entry?;
        archive
            .program(&format!("early/{}", entry.file_name().to_string_lossy()), &fs::read(entry.path())?)?;
    }
    archive.program("job/second.sh", include_bytes!("second.sh"))?;
    archive.program("job/third.sh", include_bytes!("third.sh"))?;
    archive.program("job/environment", environment(job)?.as_bytes())?;
    archive.program("job/command.sh", format!("#!/bin/bash\n{}\n", job.script).as_bytes())?;
    archive.finish()
}

fn environment(job: &Job) -> Result<String> {
    let mut text = String::new();
    for (name, value) in &job.environment {
        writeln!(text, "export {name}={}", quote(value))?;
    }
    let ports: Vec<_> = job.forward.iter().map(|(_, guest)| guest.to_string()).collect();
    writeln!(text, "FORWARDED_PORTS={}", quote(&ports.join(" ")))?;
    writeln!(text, "KEEP_OUT={}", if job.out.is_some() { "1" } else { "" })?;
    writeln!(text, "SERVICE_MANAGER={}", if job.service_manager { "1" } else { "" })?;
    Ok(text)
}

/// One word for the shell, whatever is in it.
pub(crate) fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn copy_lines(output: impl Read, label: &str, failures: &mut Failures) -> Result<()> {
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("cannot read the guest's output")?;
        let line = String::from_utf8_lossy(&line);
        writeln!(std::io::stdout(), "{label} | {line}")?;
        failures.line(&line);
    }
    Ok(())
}

/// Bytes as they come, for a person in front of it.
fn copy_live(mut output: impl Read, failures: &mut Failures) -> Result<()> {
    let mut terminal = std::io::stdout().lock();
    let mut buffer = [0; 8192];
    let mut line = Vec::new();
    loop {
        let count = output.read(&mut buffer).context("cannot read the guest's output")?;
        if count == 0 {
            return Ok(());
        }
        terminal.write_all(&buffer[..count])?;
        terminal.flush()?;
        for &byte in &buffer[..count] {
            match byte {
                b'\n' => failures.line(&String::from_utf8_lossy(&std::mem::take(&mut line))),
                // No line of a test's failure is longer; what follows is not looked at.
                _ if line.len() < 4096 => line.push(byte),
                _ => {}
            }
        }
    }
}
