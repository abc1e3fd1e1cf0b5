//! QEMU's command line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::tools::Tree;
use crate::process;

/// A raw disk; the guest sees vda, vdb, ... in order.
pub(crate) struct Disk {
    pub(crate) file: PathBuf,
    /// Whether what the guest writes is written to the file; if not it is forgotten.
    pub(crate) kept: bool,
}

/// What to start.
pub(crate) struct Machine<'a> {
    pub(crate) kernel: &'a Path,
    pub(crate) initramfs: &'a Path,
    pub(crate) disks: &'a [Disk],
    pub(crate) forward: &'a [(u16, u16)],
    pub(crate) limit: Option<Duration>,
    /// Gets `console` and `result`, and what the guest writes to disks that are not kept.
    pub(crate) scratch: &'a Path,
}

/// QEMU with the guest's third serial port on its standard output.
pub(crate) fn command(tools: &Tree, machine: &Machine<'_>) -> Result<Command> {
    let file = |name: &str| machine.scratch.join(name).display().to_string();
    let mut command = contained(machine.limit)?;
    command.arg(tools.find("qemu-system-x86_64")?);
    command.env("LD_LIBRARY_PATH", process::join(tools.libraries())).env("TMPDIR", machine.scratch);
    for data in ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"] {
        command.arg("-L").arg(tools.path(data));
    }
    // A fifth level of page tables is of no use to 2 GB and costs an emulated machine a sixth of its speed.
    let cpu = "max,la57=off";
    command.args(["-M", "q35", "-accel", accelerator(), "-cpu", cpu, "-smp", "2", "-m", "2048"]);
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    command.arg("-kernel").arg(machine.kernel).arg("-initrd").arg(machine.initramfs);
    // tsc=reliable: on a busy host the kernel would distrust this clock and turn to one that costs far more to read.
    command.args(["-append", "console=hvc0 quiet loglevel=4 panic=-1 tsc=reliable"]);
    command.args(["-device", "virtio-serial-pci"]);
    command.args(["-chardev", &format!("file,id=console,path={}", file("console"))]);
    command.args(["-device", "virtconsole,chardev=console,nr=1"]);
    command.args(["-chardev", &format!("file,id=result,path={}", file("result"))]);
    command.args(["-device", "virtserialport,chardev=result,nr=2,name=result"]);
    command.args(["-chardev", "file,id=output,path=/dev/stdout"]);
    command.args(["-device", "virtserialport,chardev=output,nr=3,name=output"]);
    for (index, disk) in machine.disks.iter().enumerate() {
        let snapshot = if disk.kept { "off" } else { "on" };
        let file = disk.file.display();
        command.arg("-drive");
        command.arg(format!("file={file},format=raw,if=virtio,snapshot={snapshot},index={index}"));
    }
    if !machine.forward.is_empty() {
        // restrict=on: the guest reaches nothing, only the forwarded ports reach it. No boot ROM for the card.
        let relays = machine.forward.iter().enumerate();
        let rules = relays
            .map(|(index, (host, _))| format!(",hostfwd=tcp:127.0.0.1:{host}-10.0.2.15:{}", 20000 + index));
        command.args(["-netdev", &format!("user,id=net,restrict=on{}", rules.collect::<String>())]);
        command.args(["-device", "virtio-net-pci,netdev=net,romfile="]);
    }
    Ok(command)
}

/// A machine never outlives its limit or us: a guest whose kernel hangs would else run for ever.
fn contained(limit: Option<Duration>) -> Result<Command> {
    let dies_with_parent = process::find("setpriv")?;
    let mut command = Command::new(&dies_with_parent);
    command.args(["--pdeathsig", "TERM", "timeout", "--foreground", "--kill-after=5"]);
    command.arg(limit.map_or_else(|| "0".to_owned(), |limit| limit.as_secs().to_string()));
    command.arg(dies_with_parent).args(["--pdeathsig", "KILL"]);
    Ok(command)
}

/// /dev/kvm alone says nothing: there are modules behind it that emulate the guest's kernel mode in software and
/// stop at the first instruction they do not know. The processor's own word decides.
///
/// Emulated processors take turns on one thread: on threads of their own one may run a breakpoint that another has
/// just patched away, and sched_ext patches the kernel's code at each enable and disable ("Oops: int3").
fn accelerator() -> &'static str {
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let virtualises = processor.split_whitespace().any(|flag| flag == "vmx" || flag == "svm");
    let usable = fs::File::options().read(true).write(true).open("/dev/kvm").is_ok();
    if virtualises && usable { "kvm" } else { "tcg,thread=single" }
}
